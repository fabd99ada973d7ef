"""Lens distortion after Brown and Conrady, in the five-coefficient form of OpenCV, and its inverse.

With r² = x² + y² in normalised image coordinates (x = X/Z, y = Y/Z)::

    x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²)
    y' = y (1 + k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 y²) + 2 p2 x y

Sources: D. C. Brown, "Decentering distortion of lenses", Photogrammetric Engineering 32 (1966) 444-462;
OpenCV documentation, "Camera Calibration and 3D Reconstruction" (coefficient order k1, k2, p1, p2, k3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-12  # residual of the inverse, in normalised coordinates (about 1e-8 px at f = 10,000 px)
_MAX_ITERATIONS = 50
_MIN_DETERMINANT = 1e-6  # of the Jacobian, 1 on the axis; 0 is where the polynomial folds over
_CHUNK = 1 << 16  # points a pass: the temporaries of Newton's step stay in the cache whatever the image size


def distort_points(xy: ArrayLike, distortion: Sequence[float]) -> FloatArray:
    """Apply lens distortion.

    Parameters
    ----------
    xy : (..., 2) array
        Undistorted normalised coordinates (unitless). NaN gives NaN.
    distortion : sequence of 5 floats
        k1, k2, p1, p2, k3 (unitless).

    Returns
    -------
    (..., 2) float64
        Distorted normalised coordinates.

    Raises
    ------
    InputError
        If the shapes do not fit or a coefficient is not finite.
    """
    points, coefficients = _points(xy), _coefficients(distortion)
    x, y = points[..., 0], points[..., 1]
    return np.stack(_distort(x, y, coefficients), axis=-1)


def undistort_points(xy: ArrayLike, distortion: Sequence[float]) -> FloatArray:
    """Remove lens distortion by Newton's method with the analytic 2×2 Jacobian, to a residual of 1e-12.

    Parameters
    ----------
    xy : (..., 2) array
        Distorted normalised coordinates (unitless). NaN gives NaN.
    distortion : sequence of 5 floats
        k1, k2, p1, p2, k3 (unitless).

    Returns
    -------
    (..., 2) float64
        Undistorted normalised coordinates; the solution on a branch where the mapping keeps orientation.

    Raises
    ------
    InputError
        If the shapes do not fit, or if some point has no such solution (code ``distortion.not_invertible``):
        the polynomial folds over inside the field, so that the coefficients cannot describe this lens there.
    """
    points, coefficients = _points(xy), _coefficients(distortion)
    if not any(coefficients):
        return points.copy()
    flat = points.reshape(-1, 2)
    result = np.empty_like(flat)
    for start in range(0, len(flat), _CHUNK):
        part = slice(start, start + _CHUNK)
        result[part] = _newton(flat[part], coefficients)
    return result.reshape(points.shape)


def _newton(distorted: FloatArray, coefficients: tuple[float, ...]) -> FloatArray:
    target_x, target_y = distorted.T
    x, y = distorted.T.copy()
    known = np.isfinite(target_x) & np.isfinite(target_y)
    good = ~known
    residual = np.zeros_like(x)
    with np.errstate(all="ignore"):  # a point that diverges overflows; it is counted below
        for _ in range(_MAX_ITERATIONS):
            found_x, found_y = _distort(x, y, coefficients)
            error_x, error_y = found_x - target_x, found_y - target_y
            a, b, d = _jacobian(x, y, coefficients)
            determinant = a * d - b * b
            residual = np.maximum(np.abs(error_x), np.abs(error_y))
            good = ~known | ((residual <= TOLERANCE) & (determinant > _MIN_DETERMINANT))
            # One more step once all residuals are small takes them to rounding error, at no risk.
            x -= (d * error_x - b * error_y) / determinant
            y -= (a * error_y - b * error_x) / determinant
            if good.all():
                break
    if not good.all():
        worst = int(np.flatnonzero(~good)[0])
        raise InputError(
            f"lens distortion {coefficients} cannot be inverted at {int((~good).sum())} points, first at normalised "
            f"({target_x[worst]:.4g}, {target_y[worst]:.4g}): residual {residual[worst]:.3g} after "
            f"{_MAX_ITERATIONS} Newton steps, allowed {TOLERANCE:g}",
            hint="the distortion polynomial folds over inside the field: calibrate again with more poses near the "
            "edges of the image, or with k3 (and k2) fixed at 0",
            code="distortion.not_invertible",
        )
    return np.stack((x, y), axis=-1)


def _distort(x: FloatArray, y: FloatArray, coefficients: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    k1, k2, p1, p2, k3 = coefficients
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def _jacobian(
    x: FloatArray, y: FloatArray, coefficients: tuple[float, ...]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """d(x', y')/d(x, y) as (∂x'/∂x, ∂x'/∂y = ∂y'/∂x, ∂y'/∂y): the mapping is a gradient, hence symmetric."""
    k1, k2, p1, p2, k3 = coefficients
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))  # twice d(radial)/d(r²)
    return (
        radial + x * x * slope + 2 * p1 * y + 6 * p2 * x,
        x * y * slope + 2 * p1 * x + 2 * p2 * y,
        radial + y * y * slope + 6 * p1 * y + 2 * p2 * x,
    )


def _points(xy: ArrayLike) -> FloatArray:
    points: NDArray[Any] = np.asarray(xy, dtype=np.float64)
    if points.ndim == 0 or points.shape[-1] != 2:
        raise InputError(f"points have shape {points.shape}; needed: (..., 2)", code="input.shape")
    return points


def _coefficients(distortion: Sequence[float]) -> tuple[float, ...]:
    values = check_array("distortion (k1, k2, p1, p2, k3)", distortion, shape=(5,))
    check_array("distortion (k1, k2, p1, p2, k3)", values, finite=True)
    return tuple(float(v) for v in values)
