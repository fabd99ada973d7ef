"""Position of a near light from the directions in which several mirror spheres see it."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    covariance : (3, 3) float64
        Of the position, in ``unit``²; infinite when the rays do not converge.
    """

    position: FloatArray
    unit: str
    distance: float
    distance_sigma: float
    significance: float
    residual: float
    residual_deg: float
    ray_angle_deg: float
    covariance: FloatArray

    def moved(self, position: FloatArray, covariance: FloatArray, middle: FloatArray) -> NearSource:
        """The same light at a position (3,) known with ``covariance`` (3, 3) by other means, seen from ``middle`` (3,)."""
        away = position - middle
        distance = float(np.linalg.norm(away))
        sigma = float(np.sqrt(away @ covariance @ away)) / distance
        return replace(
            self,
            position=position,
            distance=distance,
            distance_sigma=sigma,
            significance=distance / sigma,
            covariance=covariance,
        )

    @property
    def determined(self) -> bool:
        """Whether the rays tell a position."""
        return self.significance >= MIN_SIGNIFICANCE


def angles_deg(a: FloatArray, b: FloatArray) -> FloatArray:
    """Angles in degrees between unit vectors (..., 3), accurate also near 0 and 180."""
    return np.asarray(
        np.degrees(2.0 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))), dtype=np.float64
    )


def fit_near_source(
    points: ArrayLike, directions: ArrayLike, unit: str = "mm", *, sigma_deg: ArrayLike | None = None
) -> NearSource:
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
    sigma_deg : (S,) array, optional
        Standard deviations of the directions. Default: ``DIRECTION_SIGMA_DEG``, or what the residuals tell if that is more.

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

    given = np.full(len(x), DIRECTION_SIGMA_DEG) if sigma_deg is None else sigma_deg
    assumed = check_array("sigmas of the directions", given, shape=(len(x),), finite=True).astype(np.float64)
    typical = float(assumed.mean())
    weight = typical / assumed
    fit = least_squares(
        lambda p: (weight[:, None] * (towards(p) - rays)).ravel(), np.zeros(3), method="lm", xtol=1e-15, ftol=1e-15
    )
    off_deg = angles_deg(towards(fit.x), rays)
    residual_deg = float(np.sqrt(np.mean(off_deg**2)))
    free = 2 * len(x) / (2 * len(x) - 3)
    sigma = np.radians(max(typical, float(np.sqrt(free * np.mean((weight * off_deg) ** 2)))))
    spread = sigma**2 * np.linalg.pinv(fit.jac.T @ fit.jac)
    inverse, inverse_sigma = float(fit.x[2]), float(np.sqrt(spread[2, 2]))
    ray_angle = float(angles_deg(viewer[:, None], viewer[None, :]).max())
    if inverse <= 0.0:
        nowhere = np.full(3, np.nan)
        endless = np.full((3, 3), np.inf)
        return NearSource(
            nowhere, unit, np.inf, np.inf, inverse / inverse_sigma, np.nan, residual_deg, ray_angle, endless
        )
    distance = baseline / inverse
    d = mean + fit.x[:2] @ across
    length = float(np.linalg.norm(d))
    position = middle + distance * d / length
    by_parameter = np.column_stack(
        [distance / length * (np.eye(3) - np.outer(d, d) / length**2) @ across.T, -distance / inverse * d / length]
    )
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
        by_parameter @ spread @ by_parameter.T,
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
