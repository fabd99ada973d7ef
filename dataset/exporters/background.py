"""Removal of what is not the part, in units of the sampling pitch, into the exported copy only.

The field's scripts (BTF, M3DM) fit a plane to the picture's border by RANSAC and delete what is near it, with distances
in absolute metres for parts of 10 cm and in place. Here the distance is a multiple of the pitch, the plane comes from a
seeded RANSAC (Fischler and Bolles 1981) with a least-squares refit, and what was done to each sample is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import DatasetError

BORDER_PX = 10
_TRIALS = 300
_SCORED = 4000  # border points that vote
_MIN_POINTS = 50
_MIN_INLIERS = 0.5
_PART = "the part reaches the border, or the table was not measured"


@dataclass(frozen=True)
class TablePlane:
    """``normal`` · p = ``offset_mm``: unit normal towards the camera (negative z), camera frame."""

    normal: tuple[float, float, float]
    offset_mm: float
    inlier_ratio: float

    def height_mm(self, xyz: NDArray[np.float32]) -> NDArray[np.float32]:
        """Height of points (…, 3) above the table, positive towards the camera; NaN stays NaN."""
        return xyz @ np.asarray(self.normal, np.float32) - np.float32(self.offset_mm)

    def facts(self) -> dict[str, Any]:
        return {"normal": list(self.normal), "offset_mm": self.offset_mm, "inlier_ratio": self.inlier_ratio}


def pitch_mm(xyz: NDArray[np.float32]) -> float:
    """Median distance of horizontal neighbours in x and y; raises :class:`DatasetError` if none are valid."""
    step = np.diff(xyz[..., :2], axis=1)
    lengths = np.hypot(step[..., 0], step[..., 1])
    lengths = lengths[np.isfinite(lengths)]
    if lengths.size == 0 or not (pitch := float(np.median(lengths))) > 0:
        raise DatasetError(
            "the pitch cannot be told from the XYZ map: its x and y do not change from pixel to pixel",
            hint="export without --no-background, or rebuild the samples with true x and y",
            code="export.no_pitch",
        )
    return pitch


def fit_table(xyz: NDArray[np.float32], distance_mm: float, *, seed: int = 0) -> TablePlane:
    """The plane through most points of the map's border.

    Parameters
    ----------
    xyz : (H, W, 3) float32
        mm, camera frame, NaN invalid.
    distance_mm : float
        Points closer than this to a plane belong to it.
    seed : int

    Raises
    ------
    DatasetError
        ``export.no_table``: fewer than 50 valid border points, or less than half of them lie in one plane.
    """
    xyz = check_array("xyz", xyz, shape=(None, None, 3), dtypes=("float32",))
    band = min(BORDER_PX, max(1, min(xyz.shape[:2]) // 4))
    border = np.ones(xyz.shape[:2], bool)
    border[band:-band, band:-band] = False
    points = xyz[border].astype(np.float64)
    points = points[np.isfinite(points).all(-1)]
    if len(points) < _MIN_POINTS:
        raise _no_table(f"only {len(points)} points of the border are valid; {_MIN_POINTS} are needed")
    rng = np.random.default_rng(seed)
    if len(points) > _SCORED:
        points = points[rng.choice(len(points), _SCORED, replace=False)]
    best = _best_support(points, distance_mm, rng)
    if best.mean() < _MIN_INLIERS:
        raise _no_table(f"{best.mean():.0%} of the border's points lie in one plane; {_MIN_INLIERS:.0%} are needed")
    for _ in range(2):  # least squares over the support, which grows by it
        centre = points[best].mean(0)
        normal = np.linalg.svd(points[best] - centre, full_matrices=False)[2][-1]
        best = np.abs((points - centre) @ normal) < distance_mm
    normal = -normal if normal[2] > 0 else normal
    x, y, z = (float(n) for n in normal)
    return TablePlane((x, y, z), float(normal @ centre), float(best.mean()))


def _best_support(points: NDArray[np.float64], distance_mm: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    best = np.zeros(len(points), bool)
    for _ in range(_TRIALS):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length == 0:
            continue
        support = np.abs((points - a) @ (normal / length)) < distance_mm
        if support.sum() > best.sum():
            best = support
    return best


def above_table(xyz: NDArray[np.float32], plane: TablePlane, distance_mm: float) -> NDArray[np.bool_]:
    """(H, W) bool: valid and at least ``distance_mm`` above the table; what lies below it goes as well."""
    with np.errstate(invalid="ignore"):
        return plane.height_mm(xyz) >= distance_mm


def _no_table(problem: str) -> DatasetError:
    return DatasetError(
        f"no table plane found: {problem}; {_PART}",
        hint="use samples with a part mask, raise --background-distance, or export without --no-background",
        code="export.no_table",
    )
