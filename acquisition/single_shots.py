"""Pictures one at a time, for live views and to find exposures; between them everything is dark."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType

from rakelight.acquisition.devices import CameraFrame
from rakelight.acquisition.feasible import within
from rakelight.acquisition.recipe import PlannedShot
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.stepped import CaptureLog, Runner, take_shot
from rakelight.dataset.recording import Shot
from rakelight.errors import DeviceError
from rakelight.reconstruction.patterns import Uniform

_BUFFERS = 8  # frames that the camera makes ready for
_RETRIES = 2


class SingleShots:
    """Takes single pictures with an open rig, each as a capture takes its own: acknowledged, settled, triggered, checked.

    A camera that is unplugged meanwhile is opened again, twice a picture. Use it as a context: at its end everything is
    dark and the camera disarmed, ready for a capture.

    Raises
    ------
    DeviceError
        What a shot meets in its last attempt.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._runner: Runner | None = None
        self._loaded = False

    @property
    def exposure_range_us(self) -> tuple[float, float]:
        """Shortest and longest exposure of the camera; from 1 µs to 1 s if it does not say."""
        least, most = self._rig.camera.info.exposure_us
        return (least, most) if most > 0 else (1.0, 1e6)

    def zones(self, zones: Collection[int], exposure_us: float) -> CameraFrame:
        """One picture under exactly these zones; () for the light of the room."""
        return self._take(PlannedShot(_shot("zones"), tuple(zones), exposure_us))

    def white(self, direction: int, exposure_us: float) -> CameraFrame:
        """One picture under a projector that shows white."""
        return self._take(PlannedShot(_shot("white"), (), exposure_us, direction, 0))

    def _take(self, shot: PlannedShot) -> CameraFrame:
        self._rig.check_guarded()
        projector = self._rig.projector
        if shot.direction is not None and projector is not None and not self._loaded:
            projector.load([Uniform(1.0).to_plain()])
            self._loaded = True
        if self._runner is None:
            settings = within(self._rig.camera_settings(shot.exposure_us), self._rig.camera.info)
            self._runner = Runner(self._rig.devices, settings, _BUFFERS)
        log = CaptureLog()
        try:
            return take_shot(self._runner, shot, 0, 1, _RETRIES, log, lambda _: None)
        except BaseException:
            self._runner = None  # nothing is known of its state
            raise
        finally:
            if self._runner is not None:
                self._runner.darken()

    def close(self) -> None:
        """Everything dark, the camera disarmed."""
        self._runner, self._loaded = None, False
        self._rig.make_dark()

    def __enter__(self) -> SingleShots:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except DeviceError:
            if error is None:  # otherwise the first thing that went wrong is the one to tell
                raise


def _shot(name: str) -> Shot:
    return Shot(name=name, role="ambient")  # a role without a number; nothing is recorded
