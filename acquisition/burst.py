"""The burst executor: a projector runs its sequence by itself and triggers the camera for each pattern over a wire.

Faster than stepping, and blind: nothing but order says which frame shows which pattern. So a burst counts only as a whole:
as many frames as patterns, ids and triggers without a gap, and the bridge's own count of shown patterns must balance;
otherwise all of it is taken again. Lights are stepped as ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from rakelight.acquisition.devices import CameraFrame, CameraSettings, PatternProjector
from rakelight.acquisition.integrity import FrameChecker
from rakelight.acquisition.recipe import Plan, PlannedShot
from rakelight.acquisition.stepped import (
    CURABLE,
    Attempt,
    Cancelled,
    CaptureLog,
    Devices,
    Progress,
    capture_stepped,
    deadline_s,
    make_dark,
)
from rakelight.errors import ConfigError, DeviceError

_MARGIN_US = 500.0  # of a frame's time over what camera and pattern need: jitter of trigger and shutter
_BLACK_US = 200.0  # between the trigger's edge and light, where the bridge does not say
_LEAD_S = 1.0  # from the start of a run to its first frame, at most


def capture_burst(
    devices: Devices,
    plan: Plan,
    camera_settings: CameraSettings,
    sink: Callable[[PlannedShot, CameraFrame], None],
    *,
    retries: int = 2,
    progress: Callable[[Progress], None] = lambda _: None,
    cancel: Callable[[], bool] = lambda: False,
) -> CaptureLog:
    """As :func:`~rakelight.acquisition.stepped.capture_stepped`, patterns by bursts, one for each direction.

    A burst's frames are held until it is complete: memory for one sequence.

    Raises
    ------
    ConfigError
        ``capture.no_trigger``: the camera has no line trigger, or there is no projector.
    DeviceError, Cancelled
        As stepped; Cancelled between bursts.
    """
    lights = tuple(shot for shot in plan.shots if shot.direction is None)
    bursts = [
        list(group) for _, group in groupby((s for s in plan.shots if s.direction is not None), lambda s: s.direction)
    ]
    if bursts and (devices.projector is None or "line" not in devices.camera.info.triggers):
        raise ConfigError(
            f"a burst needs a projector and a camera with a line trigger; this one has {', '.join(devices.camera.info.triggers)}",
            hint="capture stepped, or wire the projector's trigger output to the camera",
            code="capture.no_trigger",
        )
    log = CaptureLog()
    if lights:
        first = Plan(lights, (), None, plan.absent)
        log = capture_stepped(devices, first, camera_settings, sink, retries=retries, progress=progress, cancel=cancel)
    done, total = len(lights), len(plan.shots)
    try:
        for shots in bursts:
            assert devices.projector is not None
            if cancel():
                progress(Progress("cancelled", done, total, shots[0].shot.name))
                raise Cancelled
            progress(Progress("capturing", done, total, shots[0].shot.name))
            frames = _tried(devices, plan, shots, camera_settings, retries, log, progress, done, total)
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


def _tried(
    devices: Devices,
    plan: Plan,
    shots: Sequence[PlannedShot],
    settings: CameraSettings,
    retries: int,
    log: CaptureLog,
    progress: Callable[[Progress], None],
    done: int,
    total: int,
) -> list[CameraFrame]:
    """One burst, with its further attempts; each loads the sequence anew."""
    for attempt in range(1, retries + 2):
        try:
            return _burst(devices, plan, shots, settings)
        except DeviceError as error:
            log.attempts.append(Attempt(shots[0].shot.name, attempt, error.code, error.message))
            if error.code not in CURABLE or attempt > retries:
                raise
            progress(Progress("retrying", done, total, shots[0].shot.name, trouble=error.message))
            if error.code == "camera.lost" and devices.reopen_camera is not None:
                devices.reopen_camera()
    raise AssertionError("unreachable")


def _burst(devices: Devices, plan: Plan, shots: Sequence[PlannedShot], settings: CameraSettings) -> list[CameraFrame]:
    camera, projector = devices.camera, devices.projector
    assert projector is not None and shots[0].direction is not None
    exposure_us = shots[0].exposure_us
    black_us = float(getattr(projector, "black_us", _BLACK_US))
    wanted = replace(settings, exposure_us=black_us + exposure_us + _MARGIN_US, trigger="line")
    try:
        actual = camera.configure(wanted)
        period_us = frame_period_us(actual)
        projector.load(plan.sequence)
        camera.arm(len(shots))
        projector.arm(shots[0].direction, exposure_us, period_us)
        before = projector.status().displayed
        triggered = time.monotonic_ns()
        projector.start()
        checker = FrameChecker()
        frames: list[CameraFrame] = []
        patience = _LEAD_S + deadline_s(actual.exposure_us, (actual.width or 0) * (actual.height or 0))
        for _ in shots:
            try:
                frame = camera.next_frame(patience)
            except DeviceError as error:
                if error.code == "camera.timeout":
                    raise _missing(projector, before, len(frames), len(shots)) from error
                raise
            checker.check(frame, triggered)
            frames.append(frame)
        _balance(projector, before, len(shots))
        return frames
    finally:
        _quiet(projector.dark)
        _quiet(camera.disarm)


def _quiet(act: Callable[[], object]) -> None:
    """End a burst; what is wrong with a device was told by the burst itself, or is told by the next call."""
    try:
        act()
    except DeviceError as error:
        logging.getLogger(__name__).info("after a burst: %s", error.message)


def frame_period_us(actual: CameraSettings) -> float:
    """Shortest time between triggers that the camera can follow: exposure and readout, as it says itself."""
    limit = 1e6 / actual.max_frame_rate_hz if actual.max_frame_rate_hz else 2 * actual.exposure_us
    return float(round(max(limit, actual.exposure_us) + _MARGIN_US))


def _missing(projector: PatternProjector, before: int, came: int, wanted: int) -> DeviceError:
    """Whose fault it is that a frame did not come; the bridge's error register is told as it is (``projector.fault``)."""
    shown = projector.status().displayed - before
    if shown < wanted:
        what, code = f"the projector showed {shown} of {wanted} patterns", "projector.fault"
    else:
        what, code = f"{came} of {wanted} frames came, though all patterns were shown", "frame.lost"
    return DeviceError(what, hint="check the trigger wire and its polarity; the burst is taken again", code=code)


def _balance(projector: PatternProjector, before: int, wanted: int) -> None:
    shown = projector.status().displayed - before
    if shown != wanted:
        raise DeviceError(
            f"the projector showed {shown} patterns, the camera took {wanted} frames: which is which is not known",
            hint="check the trigger wire; the burst is taken again",
            code="frame.over_trigger" if shown > wanted else "frame.lost",
        )
