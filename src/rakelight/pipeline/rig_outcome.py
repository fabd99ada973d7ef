"""What a rig calibration from recordings comes to: the calibration itself, and the solutions behind it."""

from __future__ import annotations

from dataclasses import dataclass

from rakelight.calibration.boards import Board
from rakelight.calibration.bundle import RigSolution
from rakelight.calibration.camera_solve import CameraSolution
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.views import View
from rakelight.pipeline.calibrate import LightReport


@dataclass(frozen=True, eq=False)
class RigReport:
    """A rig calibration and how it came about; ``rig`` is None without projectors, ``lights`` without spheres.

    ``plane_rms_mm`` is how flat the plate of the table plane measures, None without one.
    """

    calibration: RigCalibration
    board: Board
    views: tuple[View, ...]
    camera: CameraSolution
    rig: RigSolution | None
    lights: LightReport | None
    plane_rms_mm: float | None
    rejected: tuple[str, ...]
