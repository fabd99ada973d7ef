"""The burst executor: a projector runs its sequence by itself and triggers the camera for each pattern over a wire.

Faster than stepping, and blind: nothing but order says which frame shows which pattern. So a burst counts only as a whole:
as many frames as patterns, ids and triggers without a gap, and the bridge's own count of shown patterns must balance;
otherwise all of it is taken again. Lights are stepped as ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rakelight.acquisition.devices import Camera, CameraFrame, CameraSettings, PatternProjector
from rakelight.acquisition.integrity import FrameChecker
from rakelight.acquisition.recipe import Plan, PlannedShot
from rakelight.acquisition.stepped import (
    CURABLE,
    Attempt,
    Cancelled,
    CaptureLog,
    Devices,
    Progress,
    acknowledged_zones,
    capture_stepped,
    deadline_s,
    make_dark,
    transfer_s,
)
from rakelight.errors import ConfigError, DeviceError

MARGIN_US = 500.0  # of a frame's time over what camera and pattern need: jitter of trigger and shutter
_BLACK_US = 200.0  # between the trigger's edge and light, where the bridge does not say
_LEAD_S = 1.0  # from the start of a run to its first frame, at most
_JITTER_S = 0.02  # of a frame's way to this program


def capture_burst(
    devices: Devices,
    plan: Plan,
    camera_settings: CameraSettings,
    sink: Callable[[PlannedShot, CameraFrame], None],
    *,
    retries: int = 2,
    expected_s: float | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    cancel: Callable[[], bool] = lambda: False,
) -> CaptureLog:
    """As :func:`~rakelight.acquisition.stepped.capture_stepped`, patterns by bursts, one for each direction and exposure.

    A burst's frames are held until it is complete: memory for one sequence.

    Raises
    ------
    ConfigError
        ``capture.no_trigger``: the camera has no line trigger, or there is no projector.
    DeviceError, Cancelled
        As stepped; Cancelled between bursts.
    """
    if (missing := no_trigger(devices, plan)) is not None:
        raise missing
    log = CaptureLog()
    done, total, started = 0, len(plan.shots), time.monotonic()
    try:
        for key, group in groupby(plan.shots, burst_of):
            shots = tuple(group)
            told = _Told(progress, done, total, started, expected_s)
            if key is None:
                part = Plan(shots, (), None, plan.absent)
                stepped = capture_stepped(
                    devices, part, camera_settings, sink, retries=retries, progress=told, cancel=cancel
                )
                log.attempts += stepped.attempts
                log.seconds = {k: round(log.seconds.get(k, 0.0) + v, 4) for k, v in stepped.seconds.items()}
            else:
                name = shots[0].shot.name
                if cancel():
                    told(Progress("cancelled", 0, total, name))
                    raise Cancelled
                told(Progress("capturing", 0, total, name))
                frames = _tried(devices, plan, shots, camera_settings, retries, log, told)
                for shot, frame in zip(shots, frames, strict=True):
                    sink(shot, frame)
            done += len(shots)
    except DeviceError as error:
        progress(Progress("failed", done, total, trouble=error.message))
        raise
    finally:
        make_dark(devices)
    progress(Progress("finished", total, total))
    return log


def burst_of(shot: PlannedShot) -> tuple[int, float] | None:
    """What the shots of one burst have in common: direction and exposure; None for a shot that is stepped."""
    return (shot.direction, shot.exposure_us) if shot.direction is not None else None


def no_trigger(devices: Devices, plan: Plan) -> ConfigError | None:
    """The error for a plan with patterns on a rig that cannot run bursts; None if it can."""
    has = devices.camera.info.triggers
    if all(shot.direction is None for shot in plan.shots) or (devices.projector is not None and "line" in has):
        return None
    return ConfigError(
        f"a burst needs a projector and a camera with a line trigger; this one has {', '.join(has)}",
        hint="capture stepped, or wire the projector's trigger output to the camera",
        code="capture.no_trigger",
    )


@dataclass(frozen=True)
class _Told:
    """Progress of one group of shots as progress of the whole plan."""

    progress: Callable[[Progress], None]
    before: int
    total: int
    started: float
    expected_s: float | None

    def __call__(self, told: Progress) -> None:
        if told.state == "finished" or told.state == "failed":
            return  # told of the whole
        done = self.before + told.done
        spent = time.monotonic() - self.started
        left = spent / done * (self.total - done) if done else self.expected_s
        left = None if told.state == "preparing" else left
        self.progress(replace(told, done=done, total=self.total, seconds_left=left))


def _tried(
    devices: Devices,
    plan: Plan,
    shots: Sequence[PlannedShot],
    settings: CameraSettings,
    retries: int,
    log: CaptureLog,
    progress: Callable[[Progress], None],
) -> list[CameraFrame]:
    """One burst, with its further attempts; each loads the sequence anew."""
    name = shots[0].shot.name
    for attempt in range(1, retries + 2):
        try:
            return _burst(devices, plan, shots, settings)
        except DeviceError as error:
            log.attempts.append(Attempt(name, attempt, error.code, error.message))
            if error.code not in CURABLE or attempt > retries:
                raise
            progress(Progress("retrying", 0, len(shots), name, trouble=error.message))
            if error.code == "camera.lost" and devices.reopen_camera is not None:
                devices.reopen_camera()
    raise AssertionError("unreachable")


def _burst(devices: Devices, plan: Plan, shots: Sequence[PlannedShot], settings: CameraSettings) -> list[CameraFrame]:
    camera, projector = devices.camera, devices.projector
    assert projector is not None and shots[0].direction is not None
    direction, exposure_us = shots[0].direction, shots[0].exposure_us
    try:
        actual = camera.configure(burst_settings(settings, projector, exposure_us))
        period_us = frame_period_us(actual, plan.frame_rate_hz)
        projector.load(plan.sequence)
        camera.arm(len(shots))
        projector.arm(direction, exposure_us, period_us)
        before = projector.status().displayed
        triggered = time.perf_counter_ns()
        projector.start()
        checker = FrameChecker()
        frames: list[CameraFrame] = []
        patience = _LEAD_S + period_us / 1e6 + deadline_s(actual.exposure_us, transfer_s(devices, settings, actual))
        for _ in shots:
            try:
                frame = camera.next_frame(patience)
            except DeviceError as error:
                if error.code == "camera.timeout":
                    raise _missing(projector, before, len(frames), len(shots)) from error
                raise
            checker.check(frame, triggered)
            frames.append(frame)
        _none_more(camera, period_us)
        shown = _balance(projector, before, len(shots))
        known = {"armed": (direction, round(exposure_us), round(period_us)), "displayed": (shown,)}
        known |= acknowledged_zones(devices, ())  # dark: how stepped shots end, before this burst too
        return [replace(frame, acknowledged=known) for frame in frames]
    finally:
        _quiet(projector.dark)
        _quiet(camera.disarm)


def _quiet(act: Callable[[], object]) -> None:
    """End a burst; what is wrong with a device was told by the burst itself, or is told by the next call."""
    try:
        act()
    except DeviceError as error:
        logging.getLogger(__name__).info("after a burst: %s", error.message)


def black_us(projector: PatternProjector) -> float:
    """Time between a trigger's edge and light, µs."""
    return float(getattr(projector, "black_us", _BLACK_US))


def burst_settings(settings: CameraSettings, projector: PatternProjector, exposure_us: float) -> CameraSettings:
    """What the camera is asked for in a burst of patterns that are shown for ``exposure_us``: open from edge to dark."""
    open_us = black_us(projector) + exposure_us + MARGIN_US
    return replace(settings, exposure_us=open_us, trigger="line")


def frame_period_us(actual: CameraSettings, frame_rate_hz: float | None) -> float:
    """Time between triggers, whole µs: of the wanted rate, or else the shortest that the camera can follow.

    That is exposure and readout, as it says itself.
    """
    if frame_rate_hz is not None:
        return float(round(1e6 / frame_rate_hz))
    limit = 1e6 / actual.max_frame_rate_hz if actual.max_frame_rate_hz else 2 * actual.exposure_us
    return float(round(max(limit, actual.exposure_us) + MARGIN_US))


def _missing(projector: PatternProjector, before: int, came: int, wanted: int) -> DeviceError:
    """Whose fault it is that a frame did not come; the bridge's error register is told as it is (``projector.fault``)."""
    shown = projector.status().displayed - before
    if shown < wanted:
        what, code = f"the projector showed {shown} of {wanted} patterns", "projector.fault"
    else:
        what, code = f"{came} of {wanted} frames came, though all patterns were shown", "frame.lost"
    return DeviceError(what, hint="check the trigger wire and its polarity; the burst is taken again", code=code)


def _none_more(camera: Camera, period_us: float) -> None:
    """Wait for the frame that must not come: an edge that no pattern made (noise on the wire) puts all after it out of step,
    and the last pattern's frame then comes one too late, within a period."""
    try:
        camera.next_frame(period_us / 1e6 + _JITTER_S)
    except DeviceError as error:
        if error.code == "camera.timeout":
            return
        raise
    raise DeviceError(
        "the camera took more frames than the projector has patterns: which is which is not known",
        hint="shield the trigger wire, set the camera's line debouncer; the burst is taken again",
        code="frame.over_trigger",
    )


def _balance(projector: PatternProjector, before: int, wanted: int) -> int:
    """How many patterns were shown, which must be as many as frames came."""
    shown = projector.status().displayed - before
    if shown != wanted:
        raise DeviceError(
            f"the projector showed {shown} patterns, the camera took {wanted} frames: which is which is not known",
            hint="check the trigger wire; the burst is taken again",
            code="frame.over_trigger" if shown > wanted else "frame.lost",
        )
    return shown
