"""Does the board's millimetre agree with another one? Balls of known diameter, on the table, are measured by the camera.

No picture of a board tells its scale: squares declared 10 % too large make everything 10 % larger, unseen. A ball on the table
shows an angle that depends on its diameter and on how far away the table is. The angle is measured, the table has the board's
scale, so that the diameter follows in the board's millimetres; against the declared diameter it tells the ratio of the
two. Which of the two was declared wrongly, it cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.calibration.outlines import Circle
from rakelight.calibration.spheres import sphere_position
from rakelight.errors import CalibrationError
from rakelight.reconstruction.models import Camera, Plane

WARN_RATIO, FAIL_RATIO = 0.005, 0.01
"""Relative difference of the two scales."""
_OUTLINE_PX = 0.1  # by which all outlines may be too large or too small alike: simulated 0.04, and bloom is worse
_SURE = 3.0  # standard errors


@dataclass(frozen=True, eq=False)
class ScaleCheck:
    """Balls measured in the board's millimetres.

    Attributes
    ----------
    diameters_mm : (N,) float64
        In the board's millimetres, one a ball.
    declared_mm : (N,) float64
    ratio : float
        Median of measured over declared: 1 where both agree, 1.1 where the squares were declared 10 % too large.
    standard_error : float
        Of the ratio: scatter of the balls, and 0.1 px that all outlines may have in common.
    warning : str
        Empty where they agree.
    """

    diameters_mm: NDArray[np.float64]
    declared_mm: NDArray[np.float64]
    ratio: float
    standard_error: float
    warning: str

    def to_plain(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        return {
            "ratio": round(self.ratio, 5),
            "standard_error": round(self.standard_error, 5),
            "balls_mm": [round(float(d), 4) for d in self.diameters_mm],
        }


def touching_diameter_mm(circle: Circle, camera: Camera, table: Plane) -> float:
    """Diameter of the one ball that has this outline (full-frame pixels) and lies on the table.

    A perspective camera sees a cone of rays with its middle along c, |c| = 1 / sin α; the ball of radius r about r·c touches
    the plane n·x = d where r (n·c − 1) = d. A telecentric camera sees the diameter as it is.

    Raises :class:`CalibrationError` ``calibration.sphere_outline``: the rays of the outline form no cone, or one that no
    ball on the table can have.
    """
    centre, radius, unit = sphere_position(circle, camera)
    if unit == "mm":
        return 2.0 * radius
    beyond = float(table.normal @ centre) - 1.0
    radius = table.offset_mm / beyond if beyond else 0.0  # both are below 0: the normal points to the camera
    if not radius > 0.0:
        raise CalibrationError(
            f"the outline at ({circle.u:.1f}, {circle.v:.1f}) px, radius {circle.radius:.1f} px, is that of no ball on the table",
            hint="check the circle, and that the table plane lies before the camera",
            code="calibration.sphere_outline",
        )
    return 2.0 * radius


def check_scale(circles: Sequence[Circle], declared_mm: ArrayLike, camera: Camera, table: Plane) -> ScaleCheck:
    """Hold balls on the table, by their outlines and declared diameters (N,), against the scale of camera and table.

    Raises :class:`CalibrationError` as :func:`touching_diameter_mm`.
    """
    declared = np.asarray(declared_mm, np.float64)
    found = np.array([touching_diameter_mm(circle, camera, table) for circle in circles])
    ratios = found / declared
    ratio = float(np.median(ratios))
    spread = float(ratios.std(ddof=1) / np.sqrt(len(ratios))) if len(ratios) > 1 else 0.0
    error = float(np.hypot(spread, _OUTLINE_PX / np.median([circle.radius for circle in circles])))
    off = abs(ratio - 1.0)
    warning = ""
    if off > WARN_RATIO and off > _SURE * error:
        warning = (
            f"scale contradiction: by the board the balls measure {ratio - 1:+.2%} of their declared diameter (± {error:.2%}); "
            f"at most {WARN_RATIO:.1%} is expected: measure a square of the board and the balls again, every height inherits it"
        )
    return ScaleCheck(found, declared, ratio, error, warning)
