"""Which pixels show the part: what stands out of the table.

The table is a plane, from the calibration or fitted by :func:`fit_table`; heights above it come from the merged depths with
:meth:`Plane.height_mm`. The mask is the silhouette of the part: pixels above the table, small gaps closed, its largest
piece (and pieces that are not much smaller: a part that a shadowed groove cuts in two), holes filled but for windows through
which the table is seen, dirt dropped.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.arrays import check_array
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import Plane

__all__ = ["DEFAULT_LIMIT_PITCHES", "fit_table", "part_mask"]

# Depth is measured against pixels: with projectors at 30° a shift of one pixel on the table is 1.7 pitches of height. Noise is
# a fraction of that, and edges of print, dust and the calibration's rest stay below one such shift; 5 pitches are three of them.
DEFAULT_LIMIT_PITCHES = 5.0

_COARSE_PX, _COARSE_LEAST = 1000, 100  # shorter side of the coarse grid, and what it must hold to be believed
_WINDOW_PX = 50  # smaller holes are gross errors, or too small to tell

_POINTS, _TRIAL_POINTS = 200_000, 10_000  # for the final fit, and for each trial
_TRIALS = 300
_LEAST_SHARE = 0.05  # of the points: a smaller plane is no table
_BEHIND = 5.0  # what a point behind a plane counts against it, in points on it


def part_mask(
    height_mm: NDArray[np.float32],
    pitch_mm: float,
    *,
    limit_pitches: float = DEFAULT_LIMIT_PITCHES,
    closing_px: int = 2,
    least_share: float = 0.1,
    least_window: float = 0.25,
) -> NDArray[np.bool_]:
    """(H, W) mask of the part; all False where nothing stands out.

    Parameters
    ----------
    height_mm : (H, W) float
        Height above the table, NaN where not measured. A NaN region counts as part if the part encloses it.
    pitch_mm : float
        Size of a camera pixel on the table.
    limit_pitches : float
        Height in units of the pitch from which a pixel counts as standing out.
    closing_px : int
        Radius in px of the gaps that are closed (0 = none).
    least_share : float
        Pieces of at least this share of the largest stay (above 0; 1 = the largest alone).
    least_window : float
        A hole of 50 px or more is a window, not part, if at least this share of it was measured at the table's level (2 = none
        is). The rest of it lies in the shadow of the walls. A hole in which no light reaches the table cannot be told from a
        blind one, and counts as part.

    Raises
    ------
    InputError
        A shape, pitch or option that does not fit.
    """
    height = check_array("height map", height_mm, ndim=2, dtypes=("float32", "float64"))
    for name, value, low, top in (
        ("pixel pitch (mm)", pitch_mm, 1e-9, 1e6),
        ("limit_pitches", limit_pitches, 0, 1e6),
        ("closing_px", closing_px, 0, 100),
        ("least_share", least_share, 1e-9, 1),
        ("least_window", least_window, 0, 2),
    ):
        if not low <= value <= top:
            raise InputError(f"part mask: {name} is {value}; allowed: {low:g} to {top:g}", code="part_mask.setting")
    limit = height.dtype.type(limit_pitches * pitch_mm)
    out = np.zeros(height.shape, np.bool_)
    box = _box(height, limit, least_share, closing_px)
    height = height[box]
    above = (height > limit).astype(np.uint8)  # NaN is not above
    if closing_px:
        size = 2 * int(closing_px) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        above = cv2.morphologyEx(above, cv2.MORPH_CLOSE, disc)
    table = height <= limit  # NaN is not
    out[box] = _fill_holes(_large_pieces(above, least_share), table, least_window)
    return out


def _box(
    height: NDArray[np.floating[Any]], limit: np.floating[Any], least_share: float, closing_px: int
) -> tuple[slice, slice]:
    """Rows and columns round the large pieces, found on every n-th pixel: most of a large picture is table.

    Everything where that tells nothing: small pictures, nothing found.
    """
    step = min(height.shape) // _COARSE_PX
    if step > 1:
        coarse = (height[::step, ::step] > limit).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(coarse, connectivity=8, ltype=cv2.CV_32S)
        areas = stats[1:, cv2.CC_STAT_AREA]
        if areas.size and areas.max() >= _COARSE_LEAST:
            large = stats[1:][areas >= least_share / 2 * areas.max()]  # half, as a coarse grid may break pieces
            first = large[:, [cv2.CC_STAT_TOP, cv2.CC_STAT_LEFT]]
            last = first + large[:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]]
            margin = 4 * step + 2 * closing_px + 2
            low = np.maximum(first.min(axis=0) * step - margin, 0)
            high = np.minimum(last.max(axis=0) * step + margin, height.shape)
            return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
    return slice(0, height.shape[0]), slice(0, height.shape[1])


def _large_pieces(mask: NDArray[np.uint8], least_share: float) -> NDArray[np.uint8]:
    """The largest 8-connected piece and those of at least ``least_share`` of its area."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background
    keep = (areas > 0) & (areas >= least_share * areas.max())
    return np.asarray(keep.astype(np.uint8)[labels])


def _fill_holes(mask: NDArray[np.uint8], table: NDArray[np.bool_], least_window: float) -> NDArray[np.bool_]:
    """Background that no path of 4-connected pixels links to the image's edge becomes part, unless it shows the table."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4, ltype=cv2.CV_32S)
    rows, columns = mask.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    inside = (left > 0) & (top > 0) & (right < columns) & (bottom < rows)
    areas = stats[:, cv2.CC_STAT_AREA]
    for hole in np.flatnonzero(inside & (areas >= _WINDOW_PX)):
        box = np.s_[top[hole] : bottom[hole], left[hole] : right[hole]]
        inside[hole] = table[box][labels[box] == hole].mean() < least_window
    inside[0] = True  # the part itself
    return np.asarray(inside[labels])


def fit_table(xyz: ArrayLike, *, tolerance_mm: float = 0.1, seed: int = 0) -> Plane:
    """The table, found in a measured surface, for rigs whose calibration has none.

    RANSAC (Fischler, Bolles 1981) on a sample of the points, then least squares on what lies within ``tolerance_mm``. A plane
    gains by the points on it and loses, five times as much, by points behind it: nothing lies below a table, so that the
    large flat top of a part does not pass for one while some table is seen around it.

    Parameters
    ----------
    xyz : (..., 3) array
        Points in mm, camera frame; NaN points are left out.
    tolerance_mm : float
        Distance from the plane within which a point lies on it: flatness of the table and noise together.
    seed : int
        Of the sampling.

    Raises
    ------
    InputError
        Not (..., 3), or a tolerance that is not above 0.
    CalibrationError
        ``calibration.no_table``: too few points, or no plane with 5 % of them that faces the camera.
    """
    cloud = check_array("points", xyz)
    if cloud.ndim < 1 or cloud.shape[-1] != 3:
        raise InputError(f"points have shape {cloud.shape}; needed: (..., 3)", code="input.shape")
    if not 0 < tolerance_mm < math.inf:
        raise InputError(f"tolerance {tolerance_mm} mm; must be a finite number above 0", code="part_mask.setting")
    rng = np.random.default_rng(seed)
    points = _sample(cloud, rng)
    best, share = _ransac(points[:_TRIAL_POINTS], tolerance_mm, rng) if len(points) >= 3 else (None, 0.0)
    if best is None or share < _LEAST_SHARE:
        raise CalibrationError(
            f"no table found: the best plane holds {100 * share:.1f} % of {len(points)} points within "
            f"{tolerance_mm:g} mm; at least {100 * _LEAST_SHARE:g} % are needed",
            hint="let the table be seen around the part, or measure it empty and put its plane into the calibration",
            code="calibration.no_table",
        )
    for _ in range(3):  # what lies on the plane changes a little with the plane
        best = Plane.from_points(points[np.abs(best.height_mm(points)) <= tolerance_mm])
    return best


def _sample(cloud: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.float64]:
    """The finite ones of up to ``_POINTS`` points, in random order."""
    flat = cloud.reshape(-1, 3)
    large = len(flat) > _POINTS  # then with replacement: a point taken twice does no harm, a permutation takes memory
    points = flat[rng.integers(len(flat), size=_POINTS) if large else rng.permutation(len(flat))].astype(np.float64)
    return points[np.isfinite(points).all(axis=1)]


def _ransac(points: NDArray[np.float64], tolerance_mm: float, rng: np.random.Generator) -> tuple[Plane | None, float]:
    """The plane of the best score and its share of the points."""
    best, best_score, share = None, -math.inf, 0.0
    for _ in range(_TRIALS):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length < 1e-9 or abs(normal[2]) < 0.2 * length:  # no area, or seen at a glancing angle: no table
            continue
        normal *= -math.copysign(1.0, normal[2]) / length
        height = points @ normal - normal @ a
        on = int((np.abs(height) <= tolerance_mm).sum())
        score = on - _BEHIND * int((height < -tolerance_mm).sum())
        if score > best_score:
            best, best_score, share = Plane(normal, float(normal @ a)), score, on / len(points)
    return best, share
