"""The balls of a ball bar in measured points: found by themselves, measured, and told how much of each was seen.

Spheres through four points each are drawn at random inside the connected pieces of the part (M. A. Fischler, R. C. Bolles,
"Random sample consensus", Comm. ACM 24, 1981); what holds most points, and enough of a curve, is a ball. Its figures are those
of :func:`rakelight.calibration.gauges.measure_sphere`, from the points within ``CAP_DEG`` of the direction to the camera: on
the steeper rim few projectors reach a pixel, its depth changes much inside it, and it sees past the edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from rakelight.arrays import check_array
from rakelight.calibration.gauges import Sphere, measure_sphere
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
CAP_DEG = 50.0  # simulated at 120 µm pixels: size error 1 µm; 9 µm with 60°, 22 µm with 70°
LEAST_POINTS = 300
LEAST_FILLED = 0.8
"""Share of the pixels of the cap that must have a depth on the ball."""
_GATE = 0.1  # of the radius: farther off the ball a point is none of it; dents and dust are
_TRIALS, _SAMPLE = 400, 3000
_WINDOWS = (0.1, 0.25, 0.5, 1.0)  # of the size of a piece: how far apart the four points of a trial may lie
_LEAST_PIECE, _LEAST_FOUND = 60, 40  # pixels
_LEAST_SPREAD = 0.35  # scatter of the points over the radius; a cap of 30° has it, a plane never
_RADII_MM = (0.2, 100.0)
_UNLIKE = 0.02  # certified diameters that differ by more tell which ball is which


@dataclass(frozen=True, eq=False)
class Ball:
    """One ball.

    Attributes
    ----------
    sphere : Sphere
        Least squares, with PF and, if the diameter is known, PS; camera frame.
    region : (H, W) bool
        The pixels whose points were used: those of the cap.
    points : int
    rms_um : float
        Root mean square of the distances of all points to the sphere.
    seen : float
        Share of the surface of the whole sphere that the points cover; a whole cap of 50° is 0.18.
    filled : float
        Share of the pixels of the cap that have a depth on the ball.
    """

    sphere: Sphere
    region: BoolArray
    points: int
    rms_um: float
    seen: float
    filled: float


def find_balls(
    xyz: ArrayLike,
    mask: ArrayLike,
    diameters_mm: Sequence[float] = (),
    *,
    count: int = 2,
    tolerance_mm: float = 0.02,
) -> list[Ball]:
    """The balls in the part, from left to right in the image; if certified diameters differ by more than 2 %, in their order.

    Parameters
    ----------
    xyz : (H, W, 3) array
        mm, camera frame; NaN where nothing is known.
    mask : (H, W) bool
        Where to look: the part.
    diameters_mm : sequence of float
        As certified, one a ball; they do not help to find the balls.
    tolerance_mm : float
        Noise of a point, several standard deviations.

    Raises
    ------
    InputError
        ``input.shape``; ``gauge.setting``; ``gauge.no_ball``: fewer than ``count`` were found; ``gauge.ball_cut``: one reaches
        beyond the image; ``gauge.ball_points``: too few points; ``gauge.ball_shiny``: much of it has no depth.
    """
    points, inside = _checked(xyz, mask, diameters_mm, count, tolerance_mm)
    rng = np.random.default_rng(0)
    found: list[Ball] = []
    left = inside.copy()
    while len(found) < count and (guess := _best_sphere(points, left, rng, tolerance_mm)) is not None:
        centre, radius, on = guess
        found.append(_measured(points, left, centre, radius, on))
        left &= ~(np.linalg.norm(points - centre, axis=-1) <= 1.1 * radius)
    if len(found) < count:
        raise InputError(
            f"{len(found)} of {count} balls found on the part",
            hint="are both balls matte, wholly in the image and lit by the projectors, and is it a ball bar that lies there?",
            code="gauge.no_ball",
        )
    found = _in_order(found, diameters_mm)
    for number, ball in enumerate(found, 1):
        _judge(number, ball)
    return found


# ------------------------------------------------------------------------------------------------------------- finding
def _best_sphere(
    points: FloatArray, left: BoolArray, rng: np.random.Generator, tolerance_mm: float
) -> tuple[FloatArray, float, BoolArray] | None:
    """Centre, radius and pixels of the sphere that holds most points of one piece of ``left``; None without any."""
    pieces, many = ndimage.label(left)
    sizes = np.bincount(pieces.ravel(), minlength=many + 1)
    guesses = []
    for piece in np.flatnonzero(sizes[1:] >= _LEAST_PIECE) + 1:
        whole = points[pieces == piece]
        used = whole if len(whole) <= _SAMPLE else rng.choice(whole, _SAMPLE, replace=False)
        centre, radius, held = _draw(used, rng, tolerance_mm)
        guesses.append((held * len(whole) / len(used), centre, radius))
    for _, centre, radius in sorted(guesses, key=lambda guess: -guess[0]):  # a small sphere lies near part of any plane
        if (found := _refined(points, left, centre, radius, 3 * tolerance_mm)) is not None:
            return found
    return None


def _refined(
    points: FloatArray, left: BoolArray, centre: FloatArray, radius: float, tolerance_mm: float
) -> tuple[FloatArray, float, BoolArray] | None:
    """The guess, fitted to all points near it; None if no ball remains."""
    on = np.zeros_like(left)
    for _ in range(4):
        with np.errstate(invalid="ignore"):
            on = left & (np.abs(np.linalg.norm(points - centre, axis=-1) - radius) <= tolerance_mm)
        if on.sum() < _LEAST_FOUND:
            return None
        sphere = measure_sphere(points[on])
        centre, radius = sphere.centre_mm, sphere.diameter_mm / 2
    return (centre, radius, on) if _is_ball(points[on], centre, radius) else None


def _draw(points: FloatArray, rng: np.random.Generator, tolerance_mm: float) -> tuple[FloatArray, float, int]:
    """The sphere through four of ``points`` (N, 3) that lies near most of them; 0 points if there is none."""
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    best: tuple[FloatArray, float, int] = np.zeros(3), 1.0, 0
    for trial in range(_TRIALS):
        seed = points[rng.integers(len(points))]
        near = points[np.abs(points - seed).max(axis=1) <= size * _WINDOWS[trial % len(_WINDOWS)] / 2]
        if len(near) < 20:
            continue
        four = near[rng.choice(len(near), 4, replace=False)]
        edges = four[1:] - four[0]
        if abs(np.linalg.det(edges)) < 1e-9 * size**3:
            continue
        centre = four[0] + np.linalg.solve(2 * edges, np.sum(edges**2, axis=1))
        radius = float(np.linalg.norm(centre - four[0]))
        on = np.abs(np.linalg.norm(points - centre, axis=1) - radius) <= tolerance_mm
        held = int(on.sum())
        if held > best[2] and _is_ball(points[on], centre, radius):
            best = centre, radius, held
    return best


def _is_ball(points: FloatArray, centre: FloatArray, radius: float) -> bool:
    """Whether points (N, 3) on a sphere show enough of it, and it bulges towards the camera."""
    return (
        _RADII_MM[0] < radius < _RADII_MM[1]
        and float(centre[2]) > float(points[:, 2].mean())
        and math.sqrt(points.var(axis=0).sum()) >= _LEAST_SPREAD * radius
    )


# ----------------------------------------------------------------------------------------------------------- measuring
def _measured(points: FloatArray, left: BoolArray, centre: FloatArray, radius: float, on: BoolArray) -> Ball:
    """Figures of the cap; points near the ball but off it count, as they are its form error."""
    middle, axis, pixel_mm2, reach_px = _seen_from(points, on, centre)
    outline = reach_px * radius
    room = np.minimum(middle, np.array(on.shape) - 1 - middle)
    if (room < outline).any():
        raise InputError(
            f"a ball of {2 * radius:.3g} mm reaches {float((outline - room).max()):.0f} px beyond the image",
            hint="move the bar so that both balls are wholly in the image",
            code="gauge.ball_cut",
        )
    rim = math.sin(math.radians(CAP_DEG))
    way = points - centre
    along, length = way @ axis, np.linalg.norm(way, axis=-1)
    with np.errstate(invalid="ignore"):
        across = np.sqrt(np.maximum(length**2 - along**2, 0))
        region = left & (along > 0) & (across <= radius * rim) & (np.abs(length - radius) <= _GATE * radius)
    sphere = measure_sphere(points[region])
    off = np.linalg.norm(points[region] - sphere.centre_mm, axis=1) - sphere.diameter_mm / 2
    area = np.sum(length[region] / along[region]) * pixel_mm2  # of the surface: slanted pixels hold more of it
    return Ball(
        sphere,
        region,
        int(region.sum()),
        float(np.sqrt(np.mean(off**2))) * 1000,
        float(area) / (math.pi * sphere.diameter_mm**2),
        int(region.sum()) * pixel_mm2 / (math.pi * (radius * rim) ** 2),
    )


def _seen_from(
    points: FloatArray, on: BoolArray, centre: FloatArray
) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """How the camera sees a ball, from its points: (row, column) of the middle, unit direction to the camera, mm² of a pixel
    across it, and rows and columns a mm.

    Over a ball every camera is affine, pixel = A·(point − centre) + middle; what A does not see is the viewing direction.
    """
    pixels = np.argwhere(on).astype(np.float64)
    design = np.column_stack([points[on] - centre, np.ones(len(pixels))])
    solved = np.linalg.lstsq(design, pixels, rcond=None)[0]
    rows, columns, middle = solved[:3, 0], solved[:3, 1], solved[3]
    view = np.cross(rows, columns)
    per_mm2 = float(np.linalg.norm(view))
    axis = view / per_mm2 * (-1.0 if view[2] > 0 else 1.0)
    return middle, axis, 1 / per_mm2, np.array([np.linalg.norm(rows), np.linalg.norm(columns)])


def _in_order(found: list[Ball], diameters_mm: Sequence[float]) -> list[Ball]:
    balls = sorted(found, key=lambda ball: float(ball.sphere.centre_mm[0]))
    if not diameters_mm:
        return balls
    if max(diameters_mm) > (1 + _UNLIKE) * min(diameters_mm):
        ranks = np.argsort(np.argsort(diameters_mm))
        by_size = sorted(balls, key=lambda ball: ball.sphere.diameter_mm)
        balls = [by_size[rank] for rank in ranks]
    return [
        replace(b, sphere=replace(b.sphere, size_error_um=(b.sphere.diameter_mm - d) * 1000))
        for b, d in zip(balls, diameters_mm, strict=True)
    ]


# ------------------------------------------------------------------------------------------------------------- refusing
def _judge(number: int, ball: Ball) -> None:
    name = f"ball {number}, {ball.sphere.diameter_mm:.3g} mm"
    if ball.points < LEAST_POINTS:
        raise InputError(
            f"{name}: {ball.points} points; needed: {LEAST_POINTS} or more",
            hint="take larger balls or a finer image: the ball must be some 25 px wide",
            code="gauge.ball_points",
        )
    if ball.filled < LEAST_FILLED:
        raise InputError(
            f"{name}: {ball.filled:.0%} of its cap has a depth; needed: {LEAST_FILLED:.0%} or more",
            hint="a shiny ball mirrors the projectors: take matte ceramic or ground steel, clean it, see that no part of it is "
            "saturated, dark or hidden, and that it is a ball bar that lies there",
            code="gauge.ball_shiny",
        )


def _checked(
    xyz: ArrayLike, mask: ArrayLike, diameters_mm: Sequence[float], count: int, tolerance_mm: float
) -> tuple[FloatArray, BoolArray]:
    points, inside = check_array("points", xyz).astype(np.float64), np.asarray(mask, bool)
    if points.ndim != 3 or points.shape[2] != 3 or inside.shape != points.shape[:2]:
        raise InputError(
            f"points have shape {points.shape}, the mask {inside.shape}; needed: (H, W, 3) and (H, W)",
            code="input.shape",
        )
    if not (1 <= count <= 16 and 0 < tolerance_mm < math.inf and len(diameters_mm) in (0, count)):
        raise InputError(
            f"{count} balls, {len(diameters_mm)} diameters, tolerance {tolerance_mm} mm; allowed: 1 to 16 balls, a diameter for "
            "each or none, above 0 mm",
            code="gauge.setting",
        )
    return points, inside & np.isfinite(points).all(axis=-1)
