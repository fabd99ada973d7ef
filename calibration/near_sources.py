"""Position of a near light from the directions in which several mirror spheres see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from rakelight.arrays import check_array
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import VIEWER

FloatArray = NDArray[np.float64]

MIN_SIGNIFICANCE = 3.0
"""The convergence of the rays must be this many times its standard deviation, or the light counts as distant."""
DIRECTION_SIGMA_DEG = 0.1
"""Least standard deviation taken for a direction: half a pixel on a sphere of 300 px radius."""


@dataclass(frozen=True, eq=False)
class NearSource:
    """Position of a light from the rays of several spheres.

    Attributes
    ----------
    position : (3,) float64
        Camera frame; NaN when the rays do not converge.
    unit : str
        Of lengths, for example ``"mm"`` or ``"sphere radii"``.
    distance, distance_sigma : float
        From the middle of the ray starts, and its standard deviation; infinite when the rays do not converge.
    significance : float
        Inverse distance over its standard deviation; negative when the rays diverge.
    residual : float
        Root mean square distance of the position from the rays, in ``unit``; NaN when the rays do not converge.
    residual_deg : float
        Root mean square angle between each ray and the fitted direction at its start.
    ray_angle_deg : float
        Largest angle between two rays.
    """

    position: FloatArray
    unit: str
    distance: float
    distance_sigma: float
    significance: float
    residual: float
    residual_deg: float
    ray_angle_deg: float

    @property
    def determined(self) -> bool:
        """Whether the rays tell a position."""
        return self.significance >= MIN_SIGNIFICANCE


def angles_deg(a: FloatArray, b: FloatArray) -> FloatArray:
    """Angles in degrees between unit vectors (..., 3), accurate also near 0 and 180."""
    return np.asarray(
        np.degrees(2.0 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))), dtype=np.float64
    )


def fit_near_source(points: ArrayLike, directions: ArrayLike, unit: str = "mm") -> NearSource:
    """Fit a point source to rays; never fails for lack of convergence (see :attr:`NearSource.determined`).

    The unknowns are the direction d from the mean M of the ray starts and the inverse distance ρ (Civera, Davison &
    Montiel 2008): a ray that starts at X points along d + ρ (M - X). That is well behaved up to, and beyond, infinity,
    and its residuals are angles, which is what highlights measure.

    Parameters
    ----------
    points : (S, 3) array, S ≥ 2
        Starts X of the rays (on the spheres), camera frame, in ``unit``.
    directions : (S, 3) array
        Unit directions towards the light, *viewer* frame.

    Raises
    ------
    InputError
        Wrong shapes, fewer than 2 rays, starts that coincide.
    """
    x = check_array("ray points", points, shape=(None, 3), finite=True).astype(np.float64)
    viewer = check_array("ray directions", directions, shape=(len(x), 3), finite=True).astype(np.float64)
    middle = x.mean(axis=0)
    baseline = float(np.linalg.norm(x - middle, axis=1).max(initial=0.0))
    if len(x) < 2 or not baseline > 0.0:
        raise InputError(f"{len(x)} rays from points within {baseline:g} {unit}; at least 2 rays, apart, are needed")
    rays = viewer * VIEWER
    offset = (middle - x) / baseline
    mean = rays.sum(axis=0) / np.linalg.norm(rays.sum(axis=0))
    across = np.linalg.svd(mean[None])[2][1:]

    def towards(p: FloatArray) -> FloatArray:
        d = mean + p[:2] @ across
        out = d / np.linalg.norm(d) + p[2] * offset
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))

    fit = least_squares(lambda p: (towards(p) - rays).ravel(), np.zeros(3), method="lm", xtol=1e-15, ftol=1e-15)
    residual_deg = float(np.sqrt(np.mean(angles_deg(towards(fit.x), rays) ** 2)))
    sigma = np.radians(max(DIRECTION_SIGMA_DEG, residual_deg * np.sqrt(2 * len(x) / (2 * len(x) - 3))))
    inverse, inverse_sigma = float(fit.x[2]), float(sigma * np.sqrt(np.linalg.pinv(fit.jac.T @ fit.jac)[2, 2]))
    ray_angle = float(angles_deg(viewer[:, None], viewer[None, :]).max())
    if inverse <= 0.0:
        nowhere = np.full(3, np.nan)
        return NearSource(nowhere, unit, np.inf, np.inf, inverse / inverse_sigma, np.nan, residual_deg, ray_angle)
    distance = baseline / inverse
    d = mean + fit.x[:2] @ across
    position = middle + distance * d / np.linalg.norm(d)
    to_source = position - x
    off = np.linalg.norm(to_source - np.einsum("si,si->s", to_source, rays)[:, None] * rays, axis=1)
    return NearSource(
        position,
        unit,
        distance,
        distance * inverse_sigma / inverse,
        inverse / inverse_sigma,
        float(np.sqrt(np.mean(off**2))),
        residual_deg,
        ray_angle,
    )


def near_source_position(points: ArrayLike, directions: ArrayLike, unit: str = "mm") -> NearSource:
    """As :func:`fit_near_source`, but refuses rays that do not tell a position.

    Raises
    ------
    CalibrationError
        ``calibration.rays_parallel``: convergence below ``MIN_SIGNIFICANCE`` standard deviations;
        ``calibration.rays_diverge``: the rays meet behind the spheres.
    """
    source = fit_near_source(points, directions, unit)
    if source.significance <= -MIN_SIGNIFICANCE:
        raise CalibrationError(
            f"the rays to the light diverge: they differ by {source.ray_angle_deg:.2f}° and meet behind the spheres",
            hint="check the circles, the offsets of the crops and the camera; if they are right, the light is distant",
            code="calibration.rays_diverge",
        )
    if not source.determined:
        raise CalibrationError(
            f"the rays to the light differ by {source.ray_angle_deg:.2f}° and converge by {source.significance:.1f} "
            f"standard deviations; at least {MIN_SIGNIFICANCE:g} are needed for a position",
            hint="treat the light as distant, or place the spheres further apart",
            code="calibration.rays_parallel",
        )
    return source
