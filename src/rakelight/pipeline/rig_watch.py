"""One part in front of a rig → a recording that stays, its reconstruction, and at once a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import Recipe
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.stepped import Cancelled, Progress
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import DeviceError, QualityError, RakelightError, StorageError
from rakelight.pipeline.capture_facts import content_statistics
from rakelight.pipeline.dataset_add import Derivation
from rakelight.pipeline.detect_watch import CycleClock, Judged, Station
from rakelight.pipeline.live_part import live_part
from rakelight.pipeline.live_surface import LiveSurface
from rakelight.pipeline.reconstruct import Settings, reconstruct

_MOST_FAILURES = 3  # captures in a row, without anybody who changes the part


@dataclass
class RigWatch:
    """Captures and judges part after part; every recording stays in its folder, whatever becomes of the verdict.

    ``alone``: nobody stands by between parts, so captures that fail again and again end the watch.
    """

    station: Station
    rig: Rig
    recipe: Recipe
    calibration: RigCalibration
    derivation: Derivation
    burst: bool = False
    alone: bool = False
    failures: int = 0

    def judge_next(
        self,
        name: str,
        folder: Path,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        step: Callable[[str], None] = lambda _: None,
        cancel: Callable[[], bool] = lambda: False,
    ) -> Judged:
        """Capture the part ``name`` into ``folder`` and judge it; the line names the recording.

        A capture that failed, or a part that cannot be judged, becomes an error line. Raises :class:`StorageError`,
        :class:`Cancelled`, a device's fault in the third capture in a row, and what is wrong with the recipe.
        """
        clock = CycleClock()
        live = LiveSurface(self.calibration)
        try:
            with clock.step("capture"):
                capture(
                    self.rig,
                    self.recipe,
                    folder,
                    part_id=name,
                    burst=self.burst,
                    watch=live.watch,
                    progress=progress,
                    cancel=cancel,
                )
        except (DeviceError, QualityError) as error:
            live.close()
            self.failures += 1
            if self.failures >= _MOST_FAILURES and (self.alone or isinstance(error, DeviceError)):
                raise
            return self.station.failed(name, error, clock, recording=None)
        except BaseException:
            live.close()
            raise
        self.failures = 0
        try:
            return self._judge(folder, live, clock, step, cancel)
        except StorageError:
            raise
        except RakelightError as error:
            return self.station.failed(name, error, clock, recording=str(folder))
        finally:
            live.close()

    def _judge(
        self,
        folder: Path,
        live: LiveSurface,
        clock: CycleClock,
        step: Callable[[str], None],
        cancel: Callable[[], bool],
    ) -> Judged:
        def stoppable(what: str) -> None:
            if cancel():
                raise Cancelled
            step(what)

        with clock.step("reconstruct"):
            recording = Recording.open(folder)
            settings = replace(Settings(), fuse=self.derivation.fuse)
            surface = live.finish()
            result = reconstruct(recording, self.calibration, settings, surface=surface, progress=stoppable)
        with clock.step("load"):
            made = live_part(recording, result, self.station.detector, self.calibration, self.derivation)
        statistics = self.station.submit(partial(content_statistics, made.content))
        told = {"recording": str(folder), "warnings": list(result.report["warnings"])}
        return self.station.judge(made.part, statistics, clock, **told)
