"""Lights from everything that was seen of them at once: rays from mirror spheres and the shading of white planes.

Spheres tell directions well and distances badly: their rays cross at an acute angle. A white plane tells how the zones'
shading differs over the field, but hardly tells sources that all stand further out from sources that all stand nearer in.
Together they tell both. One least-squares fit weighs every observation by its covariance: positions and powers of the sources,
and the middles of the spheres, since an error of an outline turns all rays of its sphere alike.

Frame: OpenCV camera frame in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from rakelight.calibration.highlights import Highlight
from rakelight.calibration.near_sources import NearSource
from rakelight.calibration.outlines import Circle
from rakelight.calibration.plane_lights import (
    PlaneLights,
    fit_plane_lights,
    inflation,
    plane_jacobian,
    plane_residuals,
)
from rakelight.calibration.plane_samples import PlaneSamples
from rakelight.calibration.spheres import mirrored
from rakelight.reconstruction.models import VIEWER, Camera, Plane

FloatArray = NDArray[np.float64]

MAX_DISAGREEMENT = 4.0
"""Spheres and white plane may give positions this many standard deviations apart."""
_LEAST_APART_MM = 1.0  # below it no warning is given, whatever the figures say of themselves
TABLE_SIGMA_MM = 0.05
"""Standard deviation taken for the height of the table under a sphere."""
_OUTLINE_SIGMA_PX = 0.05


@dataclass(frozen=True, eq=False)
class SphereRays:
    """Viewing rays of the highlights on one sphere, and how surely they are known.

    Attributes
    ----------
    centre : (3,) float64
        mm, camera frame.
    centre_covariance : (3, 3) float64
        mm².
    radius : float
        mm.
    origins, rays : (K, 3) float64
        Viewing rays of the highlights.
    to_px : (K, 2, 3) float64
        By how many px the highlight moves with a turn of the mirrored direction.
    sigma_px : (K,) float64
    """

    centre: FloatArray
    centre_covariance: FloatArray
    radius: float
    origins: FloatArray
    rays: FloatArray
    to_px: FloatArray
    sigma_px: FloatArray


def sphere_rays(
    circle: Circle,
    highlights: Sequence[Highlight],
    camera: Camera,
    centre: FloatArray,
    radius: float,
    table: Plane | None,
) -> SphereRays:
    """Rays of the highlights on a sphere at ``centre`` (mm, camera frame), in full-frame pixels."""
    uv = np.array([[h.u, h.v] for h in highlights])
    origins, rays = camera.rays(uv)
    step = 0.1
    turned = []
    for shift in ((step, 0.0), (0.0, step)):
        ends = [mirrored(*camera.rays(uv + sign * np.array(shift)), centre, radius)[1] for sign in (1.0, -1.0)]
        turned.append((ends[0] - ends[1]) / (2.0 * step))
    origin, axis = camera.rays(np.array([circle.u, circle.v]))
    pitch = radius / circle.radius
    count = max(len(circle.rim), 1)
    sigma_px = float(np.hypot(_OUTLINE_SIGMA_PX, circle.residual_px / np.sqrt(count)))
    depth = TABLE_SIGMA_MM
    if table is None:  # told by the radius alone, or, telecentric, not at all
        depth = float(np.linalg.norm(centre - origin)) * sigma_px / circle.radius
    along = np.outer(axis, axis)
    covariance = (sigma_px * pitch) ** 2 * (np.eye(3) - along) + depth**2 * along
    return SphereRays(
        centre,
        covariance,
        radius,
        np.array(origins),
        np.array(rays),
        np.linalg.pinv(np.stack(turned, axis=-1)),
        np.array([h.sigma_px for h in highlights]),
    )


@dataclass(frozen=True, eq=False)
class JointLights:
    """Result of :func:`fit_joint_lights`.

    Attributes
    ----------
    positions : (K, 3) float64
        mm, camera frame.
    powers : (K,) float64 or None
        As :attr:`PlaneLights.powers`; None without a white plane.
    covariances : (K, 3, 3) float64
        mm².
    sphere_rms : float
        Root mean square of the whitened residuals of the rays; about 1 or below where all is well.
    plane : PlaneLights or None
        From the white planes alone.
    apart_mm, apart_sigmas : (K,) float64
        Between the positions from spheres alone and from planes alone; NaN where one of them is missing.
    warnings : tuple of str
    """

    positions: FloatArray
    powers: FloatArray | None
    covariances: FloatArray
    sphere_rms: float
    plane: PlaneLights | None
    apart_mm: FloatArray
    apart_sigmas: FloatArray
    warnings: tuple[str, ...]

    def sources(self, near: Sequence[NearSource], middle: FloatArray) -> tuple[NearSource, ...]:
        """``near`` with the positions, covariances and significances of this fit; ``middle`` (3,) is their common start."""
        return tuple(s.moved(p, c, middle) for s, p, c in zip(near, self.positions, self.covariances, strict=True))


def start_positions(point: FloatArray, directions: FloatArray, planes: Sequence[PlaneSamples]) -> FloatArray:
    """(K, 3) mm: sources in ``directions`` (K, 3), viewer frame, from ``point``, at the distance that suits the planes best."""
    towards = directions / np.linalg.norm(directions, axis=1, keepdims=True) * VIEWER
    field = max(float(np.ptp(p.points, axis=0).max()) for p in planes)
    guesses = [point + field * factor * towards for factor in (1.0, 1.5, 2.2, 3.3, 5.0, 8.0, 12.0, 20.0)]

    def miss(positions: FloatArray) -> float:
        left = [p.misfit(positions, np.zeros(len(positions))) for p in planes]
        return sum(float(np.sum((m - m.mean(axis=1, keepdims=True)) ** 2)) for m in left)

    return min(guesses, key=miss)


def fit_joint_lights(
    spheres: Sequence[SphereRays],
    planes: Sequence[PlaneSamples],
    start: FloatArray,
    zones: Sequence[int],
) -> JointLights:
    """One weighted fit of all rays and all white planes, and the cross-check of the ones against the others.

    Parameters
    ----------
    spheres : sequence of SphereRays
        One highlight a zone each; at least 2, or at least 1 with a plane.
    planes : sequence of PlaneSamples
        May be empty.
    start : (K, 3)
        Rough positions, mm.
    zones : sequence of int
        K, for messages.

    Raises
    ------
    CalibrationError
        As :func:`fit_plane_lights`.
    """
    count = len(start)
    begin = np.concatenate([start.ravel(), np.zeros(count + 3 * len(spheres))])
    plane, warnings = None, list[str]()
    alone = _solve(spheres, (), begin, count) if len(spheres) > 1 else None
    if planes:
        plane = fit_plane_lights(planes, start)
        warnings += plane.warnings
        begin[: 3 * count] = plane.positions.ravel()
    x, covariance, rms = _solve(spheres, planes, begin, count)
    apart = np.full((2, count), np.nan)
    if plane is not None and alone is not None:
        apart = _apart(alone[0][: 3 * count].reshape(count, 3), alone[1], plane)
        warnings += _disagreements(zones, apart)
    powers = None
    if planes:
        logs = x[3 * count : 4 * count]
        powers = np.exp(logs - logs.mean())
        powers = powers / powers.mean()
    blocks = np.array([covariance[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] for k in range(count)])
    return JointLights(
        x[: 3 * count].reshape(count, 3), powers, blocks, rms, plane, apart[0], apart[1], tuple(warnings)
    )


def _solve(
    spheres: Sequence[SphereRays], planes: Sequence[PlaneSamples], begin: FloatArray, count: int
) -> tuple[FloatArray, FloatArray, float]:
    """Parameters, covariance, and whitened rms of the rays. A misfit of either kind widens its own weights, once."""
    scale = np.concatenate([np.full(3 * count, 10.0), np.full(count, 0.1), np.full(3 * len(spheres), 0.01)])
    shading = plane_residuals(planes) if planes else None
    widen = np.ones(2)

    def residuals(x: FloatArray) -> FloatArray:
        few = _few(spheres, x, count, widen[0], bare=shading is None)
        return few if shading is None else np.concatenate([few, shading(x[: 4 * count]) / widen[1]])

    def jacobian(x: FloatArray) -> FloatArray:
        few = _differences(lambda y: _few(spheres, y, count, widen[0], bare=shading is None), x, 1e-5 * scale)
        if not planes:
            return few
        many = plane_jacobian(planes)(x[: 4 * count]) / widen[1]
        return np.concatenate([few, np.pad(many, ((0, 0), (0, 3 * len(spheres))))])

    for attempt in range(2):
        fit = least_squares(residuals, begin, jacobian, x_scale=scale, max_nfev=60)
        whitened = _ray_residuals(spheres, fit.x, count)
        free = max(len(whitened) - 3 * count * (not planes), 1)
        rms = float(np.sqrt(np.sum(whitened**2) / free)) if len(whitened) else 0.0
        if attempt == 0:
            widen[0] = max(1.0, rms)
            if shading is not None:
                left = shading(fit.x[: 4 * count])
                widen[1] = np.sqrt(inflation(float(left @ left) / (0.75 * len(left)), planes))
            begin = fit.x
    return fit.x, np.linalg.pinv(fit.jac.T @ fit.jac, hermitian=True), rms


def _few(spheres: Sequence[SphereRays], x: FloatArray, count: int, widen: float, *, bare: bool) -> FloatArray:
    """Residuals of the spheres; without a plane (``bare``) the powers, which nothing tells, stay at 1."""
    rays = _ray_residuals(spheres, x, count) / widen
    return np.concatenate([rays, _centre_residuals(spheres, x, count), x[3 * count : 4 * count] if bare else rays[:0]])


def _differences(residuals: Callable[[FloatArray], FloatArray], x: FloatArray, steps: FloatArray) -> FloatArray:
    """Jacobian by central differences."""
    columns = [
        (residuals(x + move) - residuals(x - move)) / (2.0 * step)
        for step, move in zip(steps, np.diag(steps), strict=True)
    ]
    return np.stack(columns, axis=-1)


def _ray_residuals(spheres: Sequence[SphereRays], x: FloatArray, count: int) -> FloatArray:
    """Angles between mirrored rays and the directions to the sources, in standard deviations, (S·K·2,)."""
    positions, out = x[: 3 * count].reshape(count, 3), [np.empty(0)]
    for s, sphere in enumerate(spheres):
        centre = sphere.centre + x[4 * count + 3 * s : 4 * count + 3 * s + 3]
        point, direction = mirrored(sphere.origins, sphere.rays, centre, sphere.radius)
        wanted = positions - point
        wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
        pixels = np.einsum("kpi,ki->kp", sphere.to_px, wanted - direction)
        out.append((pixels / sphere.sigma_px[:, None]).ravel())
    return np.concatenate(out)


def _centre_residuals(spheres: Sequence[SphereRays], x: FloatArray, count: int) -> FloatArray:
    """Shifts of the spheres' middles in standard deviations, (3S,)."""
    shifts = x[4 * count :].reshape(len(spheres), 3)
    parts = [np.linalg.solve(np.linalg.cholesky(s.centre_covariance), d) for s, d in zip(spheres, shifts, strict=True)]
    return np.concatenate([np.empty(0), *parts])


def _apart(positions: FloatArray, covariance: FloatArray, plane: PlaneLights) -> FloatArray:
    """(2, K): mm and standard deviations between the two ways, by the covariance of their difference."""
    out = np.empty((2, len(positions)))
    for k, difference in enumerate(positions - plane.positions):
        block = slice(3 * k, 3 * k + 3)
        total = covariance[block, block] + plane.position_covariance(k)
        out[:, k] = np.linalg.norm(difference), np.sqrt(difference @ np.linalg.solve(total, difference))
    return out


def _disagreements(zones: Sequence[int], apart: FloatArray) -> list[str]:
    return [
        f"zone {zone}: spheres and white plane put the light {mm:.1f} mm apart, {sigmas:.1f} standard deviations; at most "
        f"{MAX_DISAGREEMENT:g} are expected: check the height of the plane, the diameter of the spheres and the table"
        for zone, mm, sigmas in zip(zones, *apart, strict=True)
        if sigmas > MAX_DISAGREEMENT and mm > _LEAST_APART_MM
    ]
