"""Do the directions fit together? Depth offsets between them, which projector has moved, which are exchanged.

Each direction measures the same surface on the same camera pixels, so the differences of their depths, free of the surface,
show calibration alone. A projector that was knocked shifts (offset) or turns (tilt) its whole depth map against all others;
patterns thrown by another projector than the one they are booked under fit no surface at all until exchanged.

All figures come from a strided sample of the pixels and from medians, so that they cost little and single errors do not
matter (P. J. Rousseeuw, A. M. Leroy, "Robust regression and outlier detection", Wiley 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction.models import Camera, Projector
from rakelight.reconstruction.triangulation import camera_rays, depth_on_rays

__all__ = [
    "PairBias",
    "blame",
    "check_directions",
    "check_stack",
    "direction_offsets",
    "direction_permutation",
    "pair_biases",
]

_BIAS_SAMPLE, _PERMUTATION_SAMPLE = 20_000, 10_000  # pixels looked at
_LEAST_PIXELS = 100  # a pair with fewer in common says nothing
_TO_SIGMA = 1.4826  # median absolute deviation → standard deviation of a normal distribution
_MEDIAN_ERROR = math.sqrt(math.pi / 2)  # standard error of a median, in those of a mean

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PairBias:
    """How the depths of directions ``a`` and ``b`` differ where both are valid.

    Attributes
    ----------
    pixels : int
        How many of the sampled pixels both have.
    median_mm : float
        Median of z_a − z_b; NaN for too few pixels (fewer than 100), as all below.
    expected_mm : float
        Its standard error, from the predicted σ or the scatter found, whichever is larger.
    tilt_mm_per_image : (float, float)
        How much the difference changes over the full width and over the full height (plane fit without outliers).
    significant : bool
        The median, or what the tilt adds at the image's edge, exceeds both k standard errors and the floor.
    """

    a: int
    b: int
    pixels: int
    median_mm: float
    expected_mm: float
    tilt_mm_per_image: tuple[float, float]
    significant: bool

    def to_plain(self) -> dict[str, Any]:
        """For reports: JSON has no NaN, so what is not known is None; µm to the nanometre."""
        known = not math.isnan(self.median_mm)
        return {
            "a": self.a,
            "b": self.b,
            "pixels": self.pixels,
            "median_um": round(1000 * self.median_mm, 3) if known else None,
            "expected_um": round(1000 * self.expected_mm, 3) if known else None,
            "tilt_um_per_image": [round(1000 * t, 3) for t in self.tilt_mm_per_image] if known else None,
            "significant": self.significant,
        }


def check_directions(directions: Sequence[int]) -> None:
    """Raise :class:`InputError` unless ``directions`` are one to four different numbers from 1 to 4."""
    numbers = [int(d) for d in directions]
    if not 1 <= len(numbers) <= 4 or len(set(numbers)) != len(numbers) or not set(numbers) <= {1, 2, 3, 4}:
        raise InputError(
            f"directions {list(directions)}; needed: one to four different numbers from 1 to 4",
            code="merging.directions",
        )


def check_stack(
    z: NDArray[np.float32], sigma: NDArray[np.float32], directions: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depths and sigmas as (D, H, W) float32 that fit ``directions``; raises :class:`InputError`."""
    check_directions(directions)
    depths = check_array("depth maps", z, shape=(len(directions), None, None), dtypes=("float32",))
    return depths, check_array("sigma maps", sigma, shape=depths.shape, dtypes=("float32",))


def pair_biases(
    z: NDArray[np.float32],
    sigma: NDArray[np.float32],
    directions: Sequence[int],
    *,
    floor_mm: float = 0.003,
    k: float = 4.0,
) -> tuple[PairBias, ...]:
    """Median offset and tilt between every two directions.

    Parameters
    ----------
    z, sigma : (D, H, W) float32
        Depths in mm and their standard deviations, before merging; NaN where invalid.
    directions : sequence of D ints
    floor_mm : float
        Differences smaller than this do no harm and are never significant.
    k : float
        Standard errors that a difference must exceed.

    Raises
    ------
    InputError
        Shapes, dtypes or directions that do not fit.
    """
    depths, sigmas = check_stack(z, sigma, directions)
    step = _stride(depths.shape[1:], _BIAS_SAMPLE)
    height, width = depths.shape[1:]
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    # Image coordinates from −0.5 to 0.5, so that a slope is the change from edge to edge.
    v, u = np.meshgrid((rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5, indexing="ij")
    sample = depths[:, ::step, ::step].astype(np.float64)
    variance = sigmas[:, ::step, ::step].astype(np.float64) ** 2
    return tuple(
        _pair(
            (int(directions[i]), int(directions[j])),
            sample[i] - sample[j],
            variance[i] + variance[j],
            (u, v),
            floor_mm,
            k,
        )
        for i, j in combinations(range(len(directions)), 2)
    )


def _pair(
    names: tuple[int, int],
    difference: FloatArray,
    variance: FloatArray,
    uv: tuple[FloatArray, FloatArray],
    floor_mm: float,
    k: float,
) -> PairBias:
    common = np.isfinite(difference) & np.isfinite(variance)
    d, pixels = difference[common], int(common.sum())
    if pixels < _LEAST_PIXELS:
        return PairBias(*names, pixels, math.nan, math.nan, (math.nan, math.nan), significant=False)
    median = float(np.median(d))
    design = np.stack((np.ones(pixels), uv[0][common], uv[1][common]), axis=1)
    plane, kept = _robust_plane(design, d, floor_mm)
    scatter = float(np.sqrt(np.mean((d - design @ plane)[kept] ** 2)))
    scatter = max(scatter, float(np.sqrt(np.median(variance[common]))))
    expected = _MEDIAN_ERROR * scatter / math.sqrt(pixels)
    errors = scatter * np.sqrt(np.diag(np.linalg.pinv(design[kept].T @ design[kept])))
    at_edge, edge_errors = np.abs(plane[1:]) / 2, errors[1:] / 2
    tilted = bool(((at_edge > k * edge_errors) & (at_edge > floor_mm)).any())
    shifted = abs(median) > max(k * expected, floor_mm)
    return PairBias(*names, pixels, median, expected, (float(plane[1]), float(plane[2])), shifted or tilted)


def _robust_plane(design: FloatArray, values: FloatArray, floor_mm: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Least squares, repeated without what lies further than 4 robust standard deviations (and the floor) off it."""
    plane = np.array([np.median(values), 0.0, 0.0])
    kept = np.ones(len(values), np.bool_)
    for _ in range(4):
        off = np.abs(values - design @ plane)
        kept = off <= 4 * _TO_SIGMA * np.median(off) + floor_mm
        some = design[kept]
        plane = np.linalg.pinv(some.T @ some) @ (some.T @ values[kept])
    return plane, kept


def blame(pairs: Sequence[PairBias], *, floor_mm: float = 0.003) -> int | None:
    """The direction that explains the biases of :func:`pair_biases`, if one alone does; else None.

    Every pair says o_a − o_b, with offsets o (middle, and what the tilt adds at both edges) of each direction. For each
    direction in turn all others are taken to be right; the one that leaves by far the smallest rest is to blame. Two
    directions alone cannot be told apart.
    """
    known = [p for p in pairs if not math.isnan(p.median_mm)]
    names = sorted({d for p in known for d in (p.a, p.b)})
    if len(names) < 3 or not any(p.significant for p in known):
        return None
    seen = np.array([[p.median_mm, p.tilt_mm_per_image[0] / 2, p.tilt_mm_per_image[1] / 2] for p in known])
    found = []
    for name in names:
        sign = _signs(known, [name])
        offset = (sign * seen).sum(axis=0) / np.abs(sign).sum()
        found.append((float(np.sqrt(np.mean((seen - sign * offset) ** 2))), name))
    (rest, name), (second, _) = sorted(found)[:2]
    before = float(np.sqrt(np.mean(seen**2)))
    # A tenth of the floor: rests that do no harm are not compared with each other.
    return name if rest + floor_mm / 10 <= 0.5 * min(before, second) else None


def direction_offsets(pairs: Sequence[PairBias]) -> dict[int, float]:
    """Least-squares depth offset in mm of every direction; their median is 0, since differences leave one free."""
    known = [p for p in pairs if not math.isnan(p.median_mm)]
    names = sorted({d for p in known for d in (p.a, p.b)})
    if not known:
        return {}
    offsets = np.linalg.lstsq(_signs(known, names), np.array([p.median_mm for p in known]), rcond=None)[0]
    return dict(zip(names, (offsets - np.median(offsets)).tolist(), strict=True))


def _signs(pairs: Sequence[PairBias], names: Sequence[int]) -> FloatArray:
    """(pairs, names): +1 where the name is the pair's first, −1 where it is its second."""
    return np.array([[float(p.a == name) - float(p.b == name) for name in names] for p in pairs])


def direction_permutation(
    samples: Sequence[NDArray[np.float32]],
    projectors: Sequence[Projector],
    camera: Camera,
    *,
    step_px: int = 1,
    axis: str = "column",
    z_range_mm: tuple[float, float] | None = None,
    tolerance_mm: float = 0.3,
) -> tuple[int, ...] | None:
    """Tell whether coordinates were thrown by another projector than the one they are booked under.

    A sample of the pixels is triangulated with every projector; of all orders the one counts in which the depths of most
    pixel pairs agree. Directions are called exchanged only if that is at least 30 % of them and twice as many as given.

    Parameters
    ----------
    samples : D arrays (ceil(H / step_px), ceil(W / step_px)) float32
        Decoded coordinates in projector px, NaN where invalid, in the order of ``projectors``: every ``step_px``-th pixel
        of the maps from the first on, as ``map[::step_px, ::step_px]`` gives them.
    projectors, camera
        Calibration; D projectors of different directions.
    step_px : int
        Stride of the samples.
    axis, z_range_mm
        As :func:`rakelight.reconstruction.triangulation.triangulate`.
    tolerance_mm : float
        Depths that differ by less agree. Larger than any drift of the calibration, smaller than what chance gives.

    Returns
    -------
    For each direction, as given, the direction of the projector that fits its coordinates; None if all are as they
    should be, or nothing can be told.

    Raises
    ------
    InputError
        Shapes, dtypes or directions that do not fit.
    """
    check_directions([p.direction for p in projectors])
    rays = camera_rays(camera)[:, ::step_px, ::step_px]
    thin = _stride(rays.shape[1:], _PERMUTATION_SAMPLE)
    maps = check_array("samples", samples, shape=(len(projectors), *rays.shape[1:]), dtypes=("float32",))
    maps, (p, q) = maps[:, ::thin, ::thin], rays[:, ::thin, ::thin]
    ones = np.ones(p.shape, np.float32)
    z = np.array(
        [[depth_on_rays(c, ones, p, q, camera, x, axis, z_range_mm=z_range_mm)[0] for x in projectors] for c in maps]
    )
    known = np.isfinite(maps)
    own = tuple(range(len(maps)))
    pairs = list(combinations(own, 2))
    total = sum(int((known[i] & known[j]).sum()) for i, j in pairs)
    if total < _LEAST_PIXELS:
        return None

    def agreement(order: tuple[int, ...]) -> float:
        agreed = (np.abs(z[i, order[i]] - z[j, order[j]]) <= tolerance_mm for i, j in pairs)
        return sum(int(a.sum()) for a in agreed) / total

    best = max(permutations(own), key=agreement)  # the first of equals: as given
    clear = best != own and agreement(best) >= max(0.3, 2 * agreement(own))
    return tuple(projectors[i].direction for i in best) if clear else None


def _stride(shape: Sequence[int], sample: int) -> int:
    """Step that leaves about ``sample`` pixels of a map."""
    return max(1, round(math.sqrt(shape[0] * shape[1] / sample)))
