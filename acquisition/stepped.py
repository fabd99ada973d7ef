"""The stepped executor: set the light, wait for it, expose one frame, check it, hand it on; one shot after the other.

Self-synchronising: each frame is asked for by a software trigger after the devices acknowledged their state, so that a
frame can only belong to its shot. A shot that fails in a way that another attempt may cure is taken again, at most
``retries`` times; nothing of a failed attempt is handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from rakelight.acquisition.devices import Camera, CameraFrame, CameraSettings, LightController, PatternProjector
from rakelight.acquisition.integrity import FrameChecker
from rakelight.acquisition.pixel_formats import packed_bytes
from rakelight.acquisition.recipe import Plan, PlannedShot
from rakelight.errors import DeviceError

State = Literal["preparing", "capturing", "retrying", "finished", "cancelled", "failed"]

# Errors that another attempt may cure. A camera that is gone is opened again first.
CURABLE = {
    "camera.timeout",
    "camera.incomplete",
    "camera.lost",
    "frame.lost",
    "frame.duplicate",
    "frame.stale",
    "frame.order",
    "frame.over_trigger",
    "light.lost",  # the port opens itself again with the next command
    "light.no_answer",
    "light.wrong_answer",
    "projector.lost",
    "projector.no_answer",
    "projector.wrong_answer",
    "projector.fault",
}


@dataclass(frozen=True)
class Progress:
    """Where a capture is: ``done`` of ``total`` shots, the shot at hand, estimated seconds left, what went wrong so far.

    ``waited_s`` is how long the camera had to wait for the disk (or whoever takes the frames) until now.
    """

    state: State
    done: int
    total: int
    shot: str = ""
    seconds_left: float | None = None
    trouble: str = ""
    waited_s: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """A shot that failed and was taken again, or not."""

    shot: str
    attempt: int
    code: str
    message: str


@dataclass
class CaptureLog:
    """What happened: failed attempts, seconds of each kind of work."""

    attempts: list[Attempt] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Cancelled(Exception):
    """The capture was ended at a frame's boundary, because ``cancel`` said so."""


@dataclass(frozen=True)
class Devices:
    """What the executor drives; lights and projector may be absent.

    ``link_bytes_per_s`` is what the link between camera and computer carries, None if nobody said.
    """

    camera: Camera
    lights: LightController | None
    projector: PatternProjector | None
    light_settle_s: float = 0.0
    pattern_settle_s: float = 0.0
    reopen_camera: Callable[[], object] | None = None
    link_bytes_per_s: float | None = None


def capture_stepped(
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
    """Take every shot of ``plan`` and hand (shot, frame) to ``sink``, in order.

    ``expected_s`` is told as the time left until the first frame is there, and what is measured from then on.
    Whatever ends it, lights and projectors are dark and the camera is disarmed afterwards.

    Raises
    ------
    DeviceError
        The last failure of a shot whose attempts are used up, or one that no attempt cures.
    Cancelled
        ``cancel`` returned true; at a frame's boundary.
    """
    log = CaptureLog()
    total = len(plan.shots)
    progress(Progress("preparing", 0, total))
    try:
        if plan.sequence and devices.projector is not None:
            devices.projector.load(plan.sequence)
        runner = Runner(devices, camera_settings, total)
        started = time.monotonic()
        for number, shot in enumerate(plan.shots):
            if cancel():
                progress(Progress("cancelled", number, total, shot.shot.name))
                raise Cancelled
            left = (time.monotonic() - started) / number * (total - number) if number else expected_s
            progress(Progress("capturing", number, total, shot.shot.name, left))
            frame = take_shot(runner, shot, number, total, retries, log, progress)
            sink(shot, frame)
        log.seconds = {k: round(v, 4) for k, v in runner.seconds.items()}
    except DeviceError as error:
        progress(Progress("failed", len(plan.shots), total, trouble=error.message))
        raise
    finally:
        make_dark(devices)
    progress(Progress("finished", total, total))
    return log


def make_dark(devices: Devices) -> None:
    """Lights and projector off, camera disarmed; each is tried, the first failure is raised at the end."""
    failed: list[DeviceError] = []
    acts = [
        devices.lights.off if devices.lights is not None else None,
        devices.projector.dark if devices.projector is not None else None,
        devices.camera.disarm,
    ]
    for act in filter(None, acts):
        try:
            act()
        except DeviceError as error:
            failed.append(error)
    if failed and failed[0].code not in ("camera.lost",):  # a camera that is gone is dark in its way, and told already
        raise failed[0]


def take_shot(
    runner: Runner,
    shot: PlannedShot,
    number: int,
    total: int,
    retries: int,
    log: CaptureLog,
    progress: Callable[[Progress], None],
) -> CameraFrame:
    """One shot, with its further attempts."""
    for attempt in range(1, retries + 2):
        try:
            return runner.take(shot)
        except DeviceError as error:
            log.attempts.append(Attempt(shot.shot.name, attempt, error.code, error.message))
            if error.code not in CURABLE or attempt > retries:
                raise
            progress(Progress("retrying", number, total, shot.shot.name, trouble=error.message))
            try:
                runner.recover(error)
            except DeviceError as again:  # the next attempt finds the device as it is, and says so if it is still gone
                log.attempts.append(Attempt(shot.shot.name, attempt, again.code, again.message))
                if again.code not in CURABLE:
                    raise
    raise AssertionError("unreachable")


class Runner:
    """Devices with what is known of their state, so that only changes are sent."""

    def __init__(self, devices: Devices, settings: CameraSettings, total: int) -> None:
        self._devices, self._settings, self._total = devices, settings, total
        self._checker = FrameChecker()
        self._lit: tuple[int, ...] | None = None
        self._shown: tuple[int, int] | Literal["unknown"] | None = "unknown"
        self._exposure_us = 0.0
        self._exposure_actual_us = 0.0
        self._armed = False
        self._transfer_s = 0.0
        self.seconds = {"light": 0.0, "settle": 0.0, "frame": 0.0}

    def take(self, shot: PlannedShot) -> CameraFrame:
        """Light, settle, trigger, fetch, check."""
        start = time.monotonic()
        settle = max(self._set_lights(shot.zones), self._set_pattern(shot))
        self._set_camera(shot.exposure_us)
        self.seconds["light"] += time.monotonic() - start
        time.sleep(settle)
        self.seconds["settle"] += settle
        start = time.monotonic()
        triggered = time.perf_counter_ns()
        self._devices.camera.trigger()
        frame = self._devices.camera.next_frame(deadline_s(shot.exposure_us, self._transfer_s))
        self._checker.check(frame, triggered)
        if shot.direction is not None and shot.exposure_us >= _UNSEEN_US:
            self._check_shown()
        self.seconds["frame"] += time.monotonic() - start
        exposure_us = self._exposure_actual_us if frame.exposure_us is None else frame.exposure_us
        return replace(frame, exposure_us=exposure_us, acknowledged=self._acknowledged())

    def darken(self) -> None:
        """No light and no pattern until the next shot; the camera stays armed."""
        self._set_lights(())
        if self._shown is not None and self._devices.projector is not None:
            self._shown = "unknown"
            self._devices.projector.dark()
            self._shown = None

    def _acknowledged(self) -> dict[str, tuple[int, ...]]:
        """What the devices that answer have acknowledged and were told nothing else since."""
        known = acknowledged_zones(self._devices, self._lit)
        if self._devices.projector is not None and self._shown != "unknown":
            known["projector"] = self._shown or ()
        return known

    def _set_lights(self, zones: tuple[int, ...]) -> float:
        if self._devices.lights is None or zones == self._lit:
            return 0.0
        self._lit = None  # not known while the command is on its way
        self._devices.lights.light(zones)
        self._lit = zones
        return self._devices.light_settle_s

    def _set_pattern(self, shot: PlannedShot) -> float:
        projector = self._devices.projector
        wanted = (shot.direction, shot.index) if shot.direction is not None and shot.index is not None else None
        if projector is None or wanted == self._shown:
            return 0.0
        self._shown = "unknown"
        if wanted is None:
            projector.dark()
        else:
            projector.show(*wanted)
        self._shown = wanted
        return self._devices.pattern_settle_s

    def _check_shown(self) -> None:
        """Ask whether the pattern still shines: during a long exposure a projector may go dark by itself."""
        assert self._devices.projector is not None
        status = self._devices.projector.status()
        if status.mode != "showing" or (status.direction, status.index) != self._shown:
            raise DeviceError(
                f"after the exposure the projector is {status.mode} (direction {status.direction}, pattern {status.index}) "
                f"instead of showing {self._shown}",
                hint="check the projector and its line; the shot is taken again",
                code="projector.fault",
            )

    def _set_camera(self, exposure_us: float) -> None:
        camera = self._devices.camera
        if not self._armed:
            actual = camera.configure(replace(self._settings, exposure_us=exposure_us, trigger="software"))
            camera.arm(self._total)
            self._armed, self._exposure_us, self._exposure_actual_us = True, exposure_us, actual.exposure_us
            self._transfer_s = transfer_s(self._devices, self._settings, actual)
            self._checker = FrameChecker()
        elif exposure_us != self._exposure_us:
            self._exposure_actual_us = camera.set_exposure(exposure_us)
            self._exposure_us = exposure_us

    def recover(self, error: DeviceError) -> None:
        """Back to a known state after a failed attempt: nothing pending, everything said again."""
        self._lit, self._shown, self._armed = None, "unknown", False
        lost = error.code == "camera.lost"
        if not lost:
            try:
                self._devices.camera.disarm()
            except DeviceError as gone:
                if gone.code != "camera.lost":
                    raise
                lost = True
        if lost:
            if self._devices.reopen_camera is None:
                raise error
            self._devices.reopen_camera()


def acknowledged_zones(devices: Devices, lit: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    """``zones`` of a frame's ``acknowledged``: what is lit; nothing without lights, or where they never answer."""
    return {"zones": lit} if devices.lights is not None and devices.lights.acknowledges and lit is not None else {}


_UNSEEN_US = 200_000.0  # exposures as long as that are looked after; shorter ones end before a watchdog bites
_PIXELS_PER_S = 1e7  # transfer at worst: 16-bit frames over a fifth of Gigabit Ethernet
_SLOW = 2.0  # by how much a link may fall behind what it is said to carry


def transfer_s(devices: Devices, settings: CameraSettings, actual: CameraSettings) -> float:
    """How long a frame may be on the link to the computer.

    ``settings`` as they were asked for, whose pixel format tells the packing on the wire; ``actual`` with the size.
    """
    width, height = actual.width or 0, actual.height or 0
    link = link_bytes_per_s(devices, actual)
    described = _SLOW * packed_bytes(settings.pixel_format, width, height) / link if link is not None else 0.0
    return max(described, width * height / _PIXELS_PER_S)


def link_bytes_per_s(devices: Devices, actual: CameraSettings) -> float | None:
    """What the link carries: the less of what rig.toml and what the camera says; None if neither does."""
    return min((x for x in (devices.link_bytes_per_s, actual.link_bytes_per_s) if x is not None), default=None)


def deadline_s(exposure_us: float, on_link_s: float) -> float:
    """How long a frame may take: its exposure, twice for cameras that finish another one first, its transfer, and 1 s."""
    return 2 * exposure_us / 1e6 + on_link_s + 1.0
