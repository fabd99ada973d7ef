"""Height from slopes: the least-squares surface, by one pair of cosine transforms.

The result is **relative, not metric**: photometric slopes carry small systematic errors (near lights, gloss, shadows)
that add up over the image, steps and undercuts are invisible to it, and the constant is free. It shows local relief
well; for absolute heights use the triangulated point cloud.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numba import njit, prange
from numpy.typing import NDArray

from rakelight.arrays import check_array, check_same_shape
from rakelight.errors import InputError
from rakelight.reconstruction.pseudo3d import DEFAULT_MAX_SLOPE, slopes

Float32 = NDArray[np.float32]


def integrate_normals(
    normals: Float32, *, pitch_mm: float | None = None, max_slope: float = DEFAULT_MAX_SLOPE, workers: int = 2
) -> Float32:
    """Relative height (H, W) from unit normals (H, W, 3) in the viewer frame: ``integrate_dct(*slopes(normals))``.

    ``max_slope`` limits the gradient (see :func:`rakelight.reconstruction.pseudo3d.slopes`); the rest is as in
    :func:`integrate_dct`.
    """
    p, q = slopes(normals, max_slope)
    return integrate_dct(p, q, pitch_mm=pitch_mm, workers=workers)


def integrate_dct(p: Float32, q: Float32, *, pitch_mm: float | None = None, workers: int = 2) -> Float32:
    """Height from slopes p = ∂z/∂x, q = ∂z/∂y (y **up**): Poisson's equation with natural boundary, solved by DCT.

    Minimises, over all heights z at the pixels (row r, column c),

        Σ (z[r, c+1] − z[r, c] − ½(p[r, c] + p[r, c+1]))² + Σ (z[r, c] − z[r+1, c] − ½(q[r, c] + q[r+1, c]))².

    The normal equations are the five-point Laplacian with Neumann boundary on one side and the divergence of the mean
    slopes, which sit half-way between pixels, on the other. The type-II cosine transform diagonalises them with
    eigenvalues −4 sin²(πi/2H) − 4 sin²(πj/2W) (Simchony, Chellappa and Shao, *IEEE TPAMI* 12(5), 1990), so two
    transforms give the exact minimiser, with no assumption of periodic borders (Frankot and Chellappa 1988 makes
    one). The mean of half-way slopes makes quadratic surfaces exact.

    Parameters
    ----------
    p, q : (H, W) float32
        Dimensionless slopes towards the right and **upwards**. NaN pixels count as flat (slope 0).
    pitch_mm : float, optional
        Size of one pixel on the part: the height is then in mm, otherwise in pixels.
    workers : int
        Threads of the transform.

    Returns
    -------
    (H, W) float32
        Height towards the camera, mean 0 over the solved pixels, NaN where a slope is NaN.
        Besides it, about nothing of image size is allocated: the transforms work in place.

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``; ``integration.pitch``; ``integration.empty`` if no pixel has a slope.
    """
    p = check_array("p", p, ndim=2, dtypes=("float32",))
    q = check_array("q", q, ndim=2, dtypes=("float32",))
    rows, cols = check_same_shape("slopes p and q", (p, q))
    if pitch_mm is not None and not (pitch_mm > 0 and np.isfinite(pitch_mm)):
        raise InputError(f"pitch_mm is {pitch_mm}; it must be greater than 0", code="integration.pitch")
    height = np.empty((rows, cols), np.float32)
    _divergence(p, q, height)
    for axis in (1, 0):
        height = scipy.fft.dct(height, type=2, axis=axis, overwrite_x=True, workers=workers)
    _divide_by_laplacian(height, _eigenvalues(rows), _eigenvalues(cols))
    for axis in (0, 1):
        height = scipy.fft.idct(height, type=2, axis=axis, overwrite_x=True, workers=workers)
    sums, counts = np.zeros(rows), np.zeros(rows, np.int64)
    _valid_sums(height, p, q, sums, counts)
    if not counts.sum():
        raise InputError(
            f"none of the {p.size} pixels has a finite slope",
            hint="check the normals: are all pixels shadowed, saturated or masked?",
            code="integration.empty",
        )
    _finish(height, p, q, np.float32(sums.sum() / counts.sum()), np.float32(pitch_mm or 1.0))
    return height


def _eigenvalues(n: int) -> NDArray[np.float32]:
    """Of the second difference with natural ends: 4 sin²(πi/2n), i = 0 … n−1 (sine form: exact for small i)."""
    return (4.0 * np.sin(np.pi * np.arange(n) / (2 * n)) ** 2).astype(np.float32)


@njit(cache=True, error_model="numpy", inline="always")
def _or_flat(slope: Any) -> Any:
    return slope if np.isfinite(slope) else np.float32(0)


@njit(parallel=True, cache=True, error_model="numpy")
def _divergence(p: Any, q: Any, out: Any) -> None:
    """Divergence of the half-way mean slopes; nothing flows through the image border."""
    rows, cols = p.shape
    half, zero = np.float32(0.5), np.float32(0)
    for r in prange(rows):
        above, below = max(r - 1, 0), min(r + 1, rows - 1)
        from_above = half if r > 0 else zero
        from_below = half if r < rows - 1 else zero
        inflow = zero
        for c in range(cols - 1):
            outflow = half * (_or_flat(p[r, c]) + _or_flat(p[r, c + 1]))
            out[r, c] = outflow - inflow
            inflow = outflow
        out[r, cols - 1] = -inflow
        for c in range(cols):  # y points up: the neighbour above lies at +y
            here = _or_flat(q[r, c])
            out[r, c] += from_above * (here + _or_flat(q[above, c])) - from_below * (here + _or_flat(q[below, c]))


@njit(parallel=True, cache=True, error_model="numpy")
def _divide_by_laplacian(spectrum: Any, of_row: Any, of_col: Any) -> None:
    rows, cols = spectrum.shape
    for r in prange(rows):
        for c in range(cols):
            spectrum[r, c] /= -(of_row[r] + of_col[c])
    spectrum[0, 0] = 0  # the constant is free (0/0 above)


@njit(parallel=True, cache=True, error_model="numpy")
def _valid_sums(height: Any, p: Any, q: Any, sums: Any, counts: Any) -> None:
    for r in prange(height.shape[0]):
        total, count = 0.0, 0
        for c in range(height.shape[1]):
            valid = np.isfinite(p[r, c]) and np.isfinite(q[r, c])
            total += height[r, c] if valid else 0.0
            count += 1 if valid else 0
        sums[r], counts[r] = total, count


@njit(parallel=True, cache=True, error_model="numpy")
def _finish(height: Any, p: Any, q: Any, mean: Any, pitch: Any) -> None:
    nan = np.float32(np.nan)
    for r in prange(height.shape[0]):
        for c in range(height.shape[1]):
            valid = np.isfinite(p[r, c]) and np.isfinite(q[r, c])
            height[r, c] = (height[r, c] - mean) * pitch if valid else nan
