"""The surface of a part while it is still being captured: each direction is decoded while the next one is exposed."""

from __future__ import annotations

import queue
import threading
from typing import Any

from numpy.typing import NDArray

from rakelight.acquisition.capture import Sink
from rakelight.acquisition.devices import CameraFrame
from rakelight.acquisition.recipe import PlannedShot
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Description
from rakelight.pipeline.surface import Settings, Surface, SurfaceBuilder
from rakelight.pipeline.surface_parts import Source, lacking

_QUEUED = (
    8  # frames between camera and decoding: at 20 MP and 12 frames a second, the time one direction takes to solve
)


class LiveSurface:
    """Give :meth:`watch` to ``acquisition.capture.capture``, then ask for :meth:`finish`; used for one part.

    Decoding runs in a thread of its own. When it falls behind, the capture waits for it; when it fails, the capture goes
    on without it and :meth:`finish` raises what was wrong: a part is never lost for its reconstruction.
    """

    def __init__(self, calibration: RigCalibration, settings: Settings | None = None) -> None:
        self._calibration, self._settings = calibration, settings
        self._frames: queue.Queue[tuple[str, NDArray[Any]] | None] = queue.Queue(_QUEUED)
        self._thread: threading.Thread | None = None
        self._builder: SurfaceBuilder | None = None
        self._failed: BaseException | None = None
        self._closing = False

    def watch(self, description: Description, width: int, height: int) -> Sink:
        """What takes the frames of a capture. Patterns that the calibration does not cover are passed over.

        Raises
        ------
        DatasetError, CalibrationError
            As :class:`SurfaceBuilder`, before the first exposure.
        """
        self.close()
        self._failed, self._builder = None, None
        source = Source("capture of " + description.part_id, description, width, height, description.plan)
        if not any(shot.role == "pattern" for shot in description.plan) or lacking(source, self._calibration):
            return lambda shot, frame: None
        self._builder = SurfaceBuilder(source, self._calibration, self._settings)
        self._thread = threading.Thread(target=self._run, args=(self._builder,), name="surface", daemon=True)
        self._thread.start()
        return self._take

    def finish(self) -> Surface | None:
        """The surface, once every frame is there; None without patterns. Raises what went wrong."""
        builder, self._builder = self._builder, None  # with its memory it goes when the surface is made
        if builder is None:
            return None
        self._end()
        if self._failed is not None:
            raise self._failed
        return builder.finish()

    def close(self) -> None:
        """End the thread after a capture that failed, without decoding what waits; may be called twice, and after finish."""
        self._closing = True
        self._end()
        self._closing = False
        self._builder = None

    def _end(self) -> None:
        if self._thread is not None:
            self._frames.put(None)
            self._thread.join()
            self._thread = None

    def _take(self, shot: PlannedShot, frame: CameraFrame) -> None:
        if shot.shot.role == "pattern" and self._failed is None:
            self._frames.put((shot.shot.name, frame.image))

    def _run(self, builder: SurfaceBuilder) -> None:
        while (item := self._frames.get()) is not None:
            if self._failed is not None or self._closing:
                continue  # drain, so that the capture does not block
            try:
                builder.add(*item)
            except BaseException as error:  # raised again by finish; the capture must not wait for a dead thread
                self._failed = error
