"""Where the corners of a board lie on a projector: local homographies from the decoded maps.

Around a corner the board is flat and both lenses are nearly straight, so that camera pixels and projector coordinates are related
by a homography of their own for each corner. It is fitted to the decoded pixels of a small window and read at the corner.

The black squares may be undecodable, or noisier; so each pixel may be weighted by its uncertainty. Where the reflectance changes,
the camera's blur mixes the fringes of both sides, in favour of the white one: the coordinate is shifted along the edges,
one way on one side of a corner and the other way on the other. A window that is centred on the corner is symmetric, so this
turns the homography a little and leaves its value at the corner.

Source: D. Moreno, G. Taubin, "Simple, Accurate, and Robust Projector-Camera Calibration", 3DIMPVT 2012, 464-471.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

__all__ = ["corner_window", "projector_corners"]

FloatArray = NDArray[np.float64]

LEAST_HALF_PX, USUAL_HALF_PX = 4, 10
LEAST_SHARE = 0.2
"""Of the window's pixels that must be decoded; two of four squares are half of them."""
_LEAST_POINTS = 24
_SPREAD = 0.3  # the decoded pixels must reach this part of the window to all sides of the corner
_TRIALS = 48
_FLOOR_PX = 0.02  # least scale of an outlier
_OUTLIER = 3.0  # robust standard deviations
_ROUNDS = 4
_HOLD = 1e-3  # of the trace: perspective is held towards none where the pixels cannot tell it


def corner_window(uv: ArrayLike) -> int:
    """Half window in px that suits corners ``uv`` (N, 2): a fifth of the distance between neighbours, at least 10 px if there is
    room (10 to 16 px for boards of 50 to 80 px a square, more for larger pictures)."""
    points = check_array("corners", uv, shape=(None, 2), finite=True).astype(np.float64)
    if len(points) < 2:
        return USUAL_HALF_PX
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    spacing = float(np.median(apart.min(axis=1)))
    return max(LEAST_HALF_PX, round(max(0.2 * spacing, min(USUAL_HALF_PX, 0.45 * spacing))))


def projector_corners(
    column: NDArray[np.generic],
    row: NDArray[np.generic],
    uv: ArrayLike,
    *,
    half_window_px: int | None = None,
    sigma_px: tuple[NDArray[np.generic], NDArray[np.generic]] | None = None,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Projector coordinates of board corners.

    Parameters
    ----------
    column, row : (H, W) float32
        Decoded projector coordinates in px; NaN where invalid.
    uv : (N, 2)
        Corners in camera px, pixel centre at integer.
    half_window_px : int, optional
        The window reaches this far from the corner; default: :func:`corner_window`.
    sigma_px : (column, row) maps, optional
        Standard deviations in projector px: pixels count by 1/σ².
    seed : int
        Of the random trials that find the plausible pixels.

    Returns
    -------
    colrow : (N, 2) float64
        NaN where the window has too few decoded pixels, or none on one side of the corner.
    residual_px : (N,) float64
        Root mean square distance of the pixels used from the homography, projector px; NaN likewise.

    Raises
    ------
    InputError
        Shapes or dtypes that do not fit; ``input.window``: a window below 4 px.
    """
    maps = [check_array("column map", column, ndim=2), check_array("row map", row, shape=np.shape(column))]
    sigmas = [check_array("map of sigma_px", s, shape=np.shape(column)) for s in sigma_px] if sigma_px else None
    corners = check_array("corners", uv, shape=(None, 2), finite=True).astype(np.float64)
    half = corner_window(corners) if half_window_px is None else half_window_px
    if not half >= LEAST_HALF_PX:
        raise InputError(f"half window of {half} px; allowed: {LEAST_HALF_PX} or more", code="input.window")
    places = np.random.default_rng(seed).random((_TRIALS, 3))
    colrow, residual = np.full((len(corners), 2), np.nan), np.full(len(corners), np.nan)
    for number, corner in enumerate(corners):
        points, values, weights = _window(maps, sigmas, corner, half)
        if _enough(points, half):
            colrow[number], residual[number] = _at_corner(points, values, weights, places)
    return colrow, residual


def _window(
    maps: list[NDArray[np.generic]], sigmas: list[NDArray[np.generic]] | None, corner: FloatArray, half: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Decoded pixels around a corner: places from it in half windows (n, 2), coordinates (n, 2), weights (n,) of mean 1."""
    height, width = maps[0].shape
    left, top = (max(0, int(np.ceil(c - half))) for c in corner)
    right, bottom = (min(n, int(np.floor(c + half)) + 1) for c, n in zip(corner, (width, height), strict=True))
    part = (slice(top, max(top, bottom)), slice(left, max(left, right)))
    values = np.stack([m[part] for m in maps], axis=-1).astype(np.float64)
    v, u = np.mgrid[part]
    good = np.isfinite(values).all(axis=-1)
    weights = np.ones(good.shape)
    if sigmas is not None:
        variance = np.mean([s[part].astype(np.float64) ** 2 for s in sigmas], axis=0)
        good &= np.isfinite(variance)
        known = variance[good]
        # Pixels are never as sure as the surest claim to be; and none may outweigh all others.
        weights = 1 / np.maximum(variance, 0.25 * np.median(known) if len(known) else 1.0)
    places = np.stack([u[good] - corner[0], v[good] - corner[1]], axis=-1) / half
    own = weights[good]
    return places, values[good], own / own.mean() if len(own) else own


def _enough(points: FloatArray, half: int) -> bool:
    """Enough pixels, and some on each side of the corner, so that it is inside them."""
    if len(points) < max(_LEAST_POINTS, LEAST_SHARE * (2 * half) ** 2):
        return False
    return bool((points.min(axis=0) < -_SPREAD).all() and (points.max(axis=0) > _SPREAD).all())


def _at_corner(
    points: FloatArray, values: FloatArray, weights: FloatArray, places: FloatArray
) -> tuple[FloatArray, float]:
    """The robust homography's value at the corner, and its residual."""
    middle = np.median(values, axis=0)
    local = values - middle
    usual = _consensus(points, local, places)
    homography = np.zeros(8)
    for _ in range(_ROUNDS):
        homography = _homography(points[usual], local[usual], weights[usual], homography)
        error = np.linalg.norm(_apply(homography, points) - local, axis=1)
        scale = max(float(np.median(error[usual])) / 1.177, _FLOOR_PX)
        # Noise is judged where it is: a dark square's pixel may be further off than a bright one's.
        near = error * np.sqrt(np.minimum(weights, 1.0)) <= _OUTLIER * scale
        if near.sum() < _LEAST_POINTS // 2 or np.array_equal(near, usual):
            break
        usual = near
    residual = float(np.sqrt(np.mean(error[usual] ** 2)))
    return middle + homography[[2, 5]], residual


def _consensus(points: FloatArray, values: FloatArray, places: FloatArray) -> NDArray[np.bool_]:
    """Pixels that agree with the best of some affine maps through three of them (RANSAC with the median as its measure)."""
    chosen = (places * len(points)).astype(np.int64)
    corners = np.concatenate([points[chosen], np.ones((*chosen.shape, 1))], axis=-1)
    fine = np.abs(np.linalg.det(corners)) > 0.1  # three pixels nearly on a line tell nothing
    every = np.column_stack([points, np.ones(len(points))])
    maps = [np.linalg.lstsq(every, values, rcond=None)[0][None]]
    if fine.any():
        maps.append(np.linalg.solve(corners[fine], values[chosen[fine]]))
    errors = np.linalg.norm(every @ np.concatenate(maps) - values, axis=2)
    medians = np.median(errors, axis=1)
    best = int(np.argmin(medians))
    return np.asarray(errors[best] <= _OUTLIER * max(float(medians[best]) / 1.177, _FLOOR_PX))


def _homography(points: FloatArray, values: FloatArray, weights: FloatArray, start: FloatArray) -> FloatArray:
    """h1 … h8 with (column, row) = (h1 x + h2 y + h3, h4 x + h5 y + h6)/(h7 x + h8 y + 1), least squares in projector px."""
    x, y = points.T
    root = np.sqrt(weights)
    h = start
    for _ in range(2 if start.any() else 3):
        below = 1 + h[6] * x + h[7] * y
        scale = root / below
        rows = np.zeros((2, len(x), 8))
        for k in (0, 1):
            rows[k, :, 3 * k : 3 * k + 3] = np.stack([x, y, np.ones_like(x)], axis=1) * scale[:, None]
            rows[k, :, 6:] = -(values[:, k] * scale)[:, None] * points
        target = (values * scale[:, None]).T
        flat = rows.reshape(-1, 8)
        normal = flat.T @ flat
        normal[[6, 7], [6, 7]] += _HOLD * normal.trace()
        h = np.linalg.solve(normal, flat.T @ target.ravel())
    return h


def _apply(h: FloatArray, points: FloatArray) -> FloatArray:
    x, y = points.T
    below = 1 + h[6] * x + h[7] * y
    return np.stack([(h[0] * x + h[1] * y + h[2]) / below, (h[3] * x + h[4] * y + h[5]) / below], axis=1)
