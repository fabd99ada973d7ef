"""Figures of measured gauges: plates of a step gauge or a flat, and spheres, in the terms of VDI/VDE 2634 part 2.

The guideline tells a system by the probing errors of form (PF) and size (PS) on a sphere, by the sphere-spacing error (SD),
and by the flatness measurement error. Form error and flatness are here the *range* of the signed distances of the points to the
least-squares element; the worst three points in a thousand are left out, and the element is fitted again without them. A
whole acceptance test takes many positions in the measuring volume; these are the figures of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction.models import Plane

FloatArray = NDArray[np.float64]
LEFT_OUT = 0.003
"""Share of the points that may be left out, the worst ones."""
EDGE_PX = 3
"""Pixels at the rim of a plate that take no part: they see past the edge."""
TOLERANCE_MM = 0.02
_BLOCK_PX = 9  # squares of the image in which plates are looked for: a plate must be some 20 px wide
_PARALLEL_DEG = 5.0  # of a square to the common normal: a bowed plate must not lose its ends
_AGREE_DEG = 0.5  # squares that vote for the same direction
_VOTERS = 600
_LEAST_SQUARES, _LEAST_PIXELS = 3, 100  # of a plate


@dataclass(frozen=True, eq=False)
class Plate:
    """One plane face of a gauge.

    Attributes
    ----------
    plane : Plane
        Least squares; camera frame.
    centre_mm : (3,)
        Mean of the points.
    region : (H, W) bool
        The pixels, rim taken off.
    points : int
    flatness_um : float
        Range of the signed distances to the plane, the worst three in a thousand left out.
    rms_um : float
        Root mean square of all distances to the plane.
    standard_error_um : float
        Of the position of its centre along the normal: noise that neighbouring pixels share is told by squares of pixels.
    """

    plane: Plane
    centre_mm: FloatArray
    region: NDArray[np.bool_]
    points: int
    flatness_um: float
    rms_um: float
    standard_error_um: float


@dataclass(frozen=True)
class Step:
    """Height of one plate over another, mm, its standard error from the noise in µm, and the angle between the two."""

    height_mm: float
    standard_error_um: float
    angle_deg: float


@dataclass(frozen=True, eq=False)
class Sphere:
    """A sphere fitted to points: ``centre_mm`` (3,), ``diameter_mm``, form error PF and size error PS (None: not known)."""

    centre_mm: FloatArray
    diameter_mm: float
    form_error_um: float
    size_error_um: float | None


# --------------------------------------------------------------------------------------------------------------- plates
def find_plates(
    xyz: ArrayLike, mask: ArrayLike, *, edge_px: int = EDGE_PX, tolerance_mm: float = TOLERANCE_MM
) -> list[Plate]:
    """The faces of a gauge that are parallel to each other, those farthest from the camera first.

    Squares of pixels that are plane vote for the common normal; along it, heights more than twice ``tolerance_mm`` apart
    part the plates. Two faces of one height count as one plate. Pixels inside a plate's outline count even where they lie
    off its plane: dents and spikes belong to the flatness.

    Parameters
    ----------
    xyz : (H, W, 3) array
        mm, camera frame; NaN where nothing is known.
    mask : (H, W) bool
        Where to look: the gauge.
    edge_px : int
        Pixels that are taken off all round.
    tolerance_mm : float
        Noise and unevenness that a plate may have; smaller steps are not told apart.

    Raises
    ------
    InputError
        ``input.shape``; ``gauge.setting``; ``gauge.no_plate``: nothing plane, or too small.
    """
    points, inside = _checked(xyz, mask, edge_px, tolerance_mm)
    normal, distances = _common_normal(points, inside, tolerance_mm)
    along = -(points @ normal)  # normals point to the camera: this grows away from it
    plates = []
    for low, high in _intervals(-distances, 2 * tolerance_mm):
        with np.errstate(invalid="ignore"):
            members = inside & (along >= low - tolerance_mm) & (along <= high + tolerance_mm)
        region = _without_rim(members, edge_px) & np.asarray(mask, bool)  # a filled hole may be what was masked out
        if region.sum() >= _LEAST_PIXELS:
            plates.append(measure_plate(points, region))
    if not plates:
        raise _no_plate(f"no face of {_LEAST_PIXELS} pixels or more is left without its rim of {edge_px} px")
    return sorted(plates, key=lambda plate: float(plate.centre_mm @ normal))


def measure_plate(xyz: ArrayLike, region: ArrayLike) -> Plate:
    """Plane, flatness and noise of the points (H, W, 3) mm of a ``region`` (H, W).

    Raises :class:`CalibrationError` ``calibration.plane_invalid`` for points that make no plane.
    """
    points, where = np.asarray(xyz, np.float64), np.asarray(region, bool)
    where = where & np.isfinite(points).all(axis=-1)
    used = points[where]
    plane = Plane.from_points(used)
    off = np.full(where.shape, np.nan)
    off[where] = used @ plane.normal - plane.offset_mm
    around = off[where]
    kept = used[_best(np.abs(around))]
    trimmed = Plane.from_points(kept)
    spread = kept @ trimmed.normal - trimmed.offset_mm
    return Plate(
        plane,
        used.mean(axis=0),
        where,
        len(used),
        float(np.ptp(spread)) * 1000,
        float(np.sqrt(np.mean(around**2))) * 1000,
        _standard_error(off) * 1000,
    )


def step_height(upper: Plate, lower: Plate) -> Step:
    """How far ``upper`` lies above ``lower``.

    The mean signed distance of the points of one to the plane of the other. Measured planes are never quite parallel, so that
    it differs a little one way and the other; taken along the mean of both normals it is the same both ways.
    """
    way = upper.plane.normal + lower.plane.normal
    way = way / np.linalg.norm(way)
    height = float((upper.centre_mm - lower.centre_mm) @ way)
    error = math.hypot(upper.standard_error_um, lower.standard_error_um)
    return Step(height, error, _angle_deg(upper.plane.normal, lower.plane.normal))


def normal_errors_deg(normals: ArrayLike, plane_normal: ArrayLike) -> tuple[float, float] | None:
    """How normals (N, 3), unit, of one plate differ from its plane's normal (3,), in the same frame.

    Returns the mean angle, and the angle of the mean normal: noise and error in the first, error alone in the second. None
    where no normal is finite.
    """
    known = np.asarray(normals, np.float64).reshape(-1, 3)
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        return None
    plane = np.asarray(plane_normal, np.float64)
    across = np.linalg.norm(np.cross(known, plane), axis=1)
    angles = np.degrees(np.arctan2(across, known @ plane))
    return float(angles.mean()), _angle_deg(known.mean(axis=0), plane)


# -------------------------------------------------------------------------------------------------------------- spheres
def measure_sphere(points: ArrayLike, diameter_mm: float | None = None) -> Sphere:
    """Sphere through points (N, 3) mm by least squares of the radial distances, NaN left out.

    Form error PF: range of the radial distances to the fitted sphere; size error PS: its diameter less the calibrated
    ``diameter_mm``; both with the worst three in a thousand left out.

    Raises :class:`InputError` ``gauge.no_sphere`` for fewer than 10 points, or points of a plane.
    """
    xyz = check_array("points of a sphere", points).astype(np.float64).reshape(-1, 3)
    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    centre, radius = _fit_sphere(xyz)
    kept = xyz[_best(np.abs(np.linalg.norm(xyz - centre, axis=1) - radius))]
    centre, radius = _fit_sphere(kept)
    form = float(np.ptp(np.linalg.norm(kept - centre, axis=1))) * 1000
    return Sphere(centre, 2 * radius, form, None if diameter_mm is None else (2 * radius - diameter_mm) * 1000)


def spacing_error_um(first: Sphere, second: Sphere, distance_mm: float) -> float:
    """Sphere-spacing error SD: measured less calibrated ``distance_mm`` between two centres."""
    return (float(np.linalg.norm(first.centre_mm - second.centre_mm)) - distance_mm) * 1000


def _fit_sphere(xyz: FloatArray) -> tuple[FloatArray, float]:
    """Algebraic start, then Gauss–Newton on the radial distances."""
    if len(xyz) < 10:
        raise InputError(f"{len(xyz)} points of a sphere; needed: 10 or more", code="gauge.no_sphere")
    middle = xyz.mean(axis=0)
    around = xyz - middle
    if np.linalg.matrix_rank(around, tol=1e-6 * float(np.linalg.norm(around))) < 3:
        raise InputError("the points lie in a plane, and make no sphere", code="gauge.no_sphere")
    design = np.column_stack([2 * around, np.ones(len(around))])
    *centre, rest = np.linalg.lstsq(design, np.sum(around**2, axis=1), rcond=None)[0]
    state = np.array([*centre, math.sqrt(max(rest + float(np.dot(centre, centre)), 1e-12))])
    for _ in range(20):
        away = around - state[:3]
        length = np.linalg.norm(away, axis=1)
        jacobian = np.column_stack([-away / length[:, None], -np.ones(len(away))])
        move = np.linalg.lstsq(jacobian, -(length - state[3]), rcond=None)[0]
        state += move
        if np.abs(move).max() < 1e-9:
            break
    return middle + state[:3], float(state[3])


# --------------------------------------------------------------------------------------------------------------- shared
def _best(distance: FloatArray) -> NDArray[np.bool_]:
    """All but the worst three in a thousand."""
    kept = np.ones(len(distance), bool)
    if count := int(LEFT_OUT * len(distance)):
        kept[np.argpartition(distance, -count)[-count:]] = False
    return kept


def _angle_deg(a: FloatArray, b: FloatArray) -> float:
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


def _checked(
    xyz: ArrayLike, mask: ArrayLike, edge_px: int, tolerance_mm: float
) -> tuple[FloatArray, NDArray[np.bool_]]:
    points, inside = check_array("points", xyz).astype(np.float64), np.asarray(mask, bool)
    if points.ndim != 3 or points.shape[2] != 3 or inside.shape != points.shape[:2]:
        raise InputError(
            f"points have shape {points.shape}, the mask {inside.shape}; needed: (H, W, 3) and (H, W)",
            code="input.shape",
        )
    if not (0 <= edge_px <= 100 and 0 < tolerance_mm < math.inf):
        raise InputError(
            f"rim {edge_px} px, tolerance {tolerance_mm} mm; allowed: 0 to 100 px, and above 0 mm", code="gauge.setting"
        )
    return points, inside & np.isfinite(points).all(axis=-1)


def _squares(points: FloatArray, inside: NDArray[np.bool_]) -> FloatArray:
    """(N, B², 3): the squares of pixels that are whole."""
    rows, columns = (n // _BLOCK_PX for n in inside.shape)
    cut = np.s_[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
    split = (rows, _BLOCK_PX, columns, _BLOCK_PX)
    whole = inside[cut].reshape(split).all(axis=(1, 3))
    return points[cut].reshape(*split, 3).transpose(0, 2, 1, 3, 4)[whole].reshape(-1, _BLOCK_PX**2, 3)


def _common_normal(points: FloatArray, inside: NDArray[np.bool_], tolerance_mm: float) -> tuple[FloatArray, FloatArray]:
    """The direction most plane squares face, and how far those lie along it."""
    squares = _squares(points, inside)
    centres = squares.mean(axis=1)
    around = squares - centres[:, None]
    scatter, ways = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around) / _BLOCK_PX**2)
    flat = scatter[:, 0] <= tolerance_mm**2
    centres, normals = centres[flat], ways[flat, :, 0]
    if len(centres) < _LEAST_SQUARES:
        raise _no_plate(f"{len(centres)} squares of {_BLOCK_PX} px are plane within {tolerance_mm:g} mm")
    normals = normals * np.where(normals[:, 2] > 0, -1.0, 1.0)[:, None]
    voters = normals[:: -(-len(normals) // _VOTERS)]
    votes = (voters @ normals.T >= math.cos(math.radians(_AGREE_DEG))).sum(axis=1)
    near = normals @ voters[np.argmax(votes)] >= math.cos(math.radians(_PARALLEL_DEG))
    normal = np.median(normals[near], axis=0)
    normal /= np.linalg.norm(normal)
    return normal, centres[near] @ normal


def _intervals(values: FloatArray, gap: float) -> list[tuple[float, float]]:
    """Groups of values that lie apart, those of fewer than three squares left out."""
    ordered = np.sort(values)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > gap) + 1)
    return [(float(g[0]), float(g[-1])) for g in groups if len(g) >= _LEAST_SQUARES]


def _without_rim(members: NDArray[np.bool_], edge_px: int) -> NDArray[np.bool_]:
    """Specks away, holes filled, rim off."""
    solid = ndimage.binary_fill_holes(ndimage.binary_opening(members, np.ones((3, 3), bool)))
    if edge_px == 0:
        return np.asarray(solid)
    return np.asarray(ndimage.binary_erosion(solid, np.ones((2 * edge_px + 1,) * 2, bool)))


def _standard_error(off: FloatArray) -> float:
    """Standard error of the mean of distances (H, W), NaN outside: that of independent pixels, or of squares if larger."""
    known = off[np.isfinite(off)]
    single = float(known.std() / math.sqrt(len(known)))
    squares = _squares(off[..., None].repeat(3, axis=2), np.isfinite(off))[..., 0]
    if len(squares) < _LEAST_SQUARES:
        return single
    return max(single, float(squares.mean(axis=1).std(ddof=1)) * _BLOCK_PX / math.sqrt(len(known)))


def _no_plate(why: str) -> InputError:
    return InputError(
        f"no plate found: {why}",
        hint="is it a step gauge or a flat, wholly in the image, its faces 20 px wide or more and towards the camera?",
        code="gauge.no_plate",
    )
