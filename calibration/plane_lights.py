"""Near lights from frames of a white plane: positions and strengths from how their shading differs over the field.

The camera sees W_k(u, v) = V(u, v) · s_k · (P_k − X)·n / |P_k − X|³ of a matte plane with normal n, lit by an isotropic point
source at P_k; X is where the viewing ray of the pixel meets the plane. V holds what all zones share: the plane's albedo and
print, vignetting, the gain and filter of the photosite. It cancels in the ratios of the zones, pixel by pixel, so that only the
sources are left: three coordinates and a strength each (one common factor of the strengths is free).

Frame: OpenCV camera frame in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, linear_sum_assignment

from rakelight.arrays import check_array
from rakelight.calibration.plane_samples import PlaneSamples
from rakelight.errors import CalibrationError

FloatArray = NDArray[np.float64]

MAX_MISFIT = 0.01
"""Rms by which the ratios may miss the model; a plane that is bent, stepped or partly shadowed misses it by more."""
WARN_MISFIT = 0.003
MAX_PRINT = 0.01
"""Rms by which the plane's white may vary within the field before a warning is given."""
_PATCHES = 30  # independent pieces that a misfit is taken to consist of: it is smooth, not noise
_OUTLIER = 6.0  # robust standard deviations
_MAX_OUTLIERS = 0.1  # of the blocks


@dataclass(frozen=True, eq=False)
class PlaneLights:
    """Result of :func:`fit_plane_lights`.

    Attributes
    ----------
    zones : tuple of int
    positions : (K, 3) float64
        mm, camera frame.
    powers : (K,) float64
        Irradiance that each light gives at 1 mm, relative (mean 1); at a point X it is power / |P − X|².
    covariance : (4K, 4K) float64
        Of the positions (zone by zone, mm²) and the logarithms of the powers. The noise of the frames, and, where the model
        misses the ratios by more than noise, that misfit taken as smooth over the field.
    misfit : float
        Rms relative deviation of the blocks from the model.
    chi2 : float
        Mean square of the deviations in standard deviations of the noise; about 1 where the model holds.
    print_rms : float
        Rms by which what all zones share differs from a smooth function: print or dirt on the plane.
    used : float
        Share of the blocks that were used.
    warnings : tuple of str
    """

    zones: tuple[int, ...]
    positions: FloatArray
    powers: FloatArray
    covariance: FloatArray
    misfit: float
    chi2: float
    print_rms: float
    used: float
    warnings: tuple[str, ...]

    def position_covariance(self, index: int) -> FloatArray:
        """(3, 3) mm² of light ``index``."""
        return np.asarray(self.covariance[3 * index : 3 * index + 3, 3 * index : 3 * index + 3])


def fit_plane_lights(samples: Sequence[PlaneSamples], start: FloatArray) -> PlaneLights:
    """Positions and powers of near lights by nonlinear least squares on the ratios of the zones.

    What the zones share is a free factor of every block, taken out by its weighted mean (variable projection). Blocks that
    miss the model by 6 robust standard deviations (dirt, a hair) are left out once.

    Parameters
    ----------
    samples : sequence of PlaneSamples
        White planes at one or more heights, all under the same zones. Several heights tell the distances better.
    start : (K, 3)
        Rough positions in mm, for example from the directions of a chrome sphere; within 30° of the truth.

    Raises
    ------
    CalibrationError
        ``calibration.zones_swapped``: the shading of the zones belongs to the starts of others;
        ``calibration.plane_not_flat``: misfit above 1 %; ``calibration.zones_differ``.
    """
    begin = check_array("start of the lights", start, shape=(None, 3), finite=True).astype(np.float64)
    if not samples or any(s.zones != samples[0].zones for s in samples) or len(begin) != len(samples[0].zones):
        raise CalibrationError(
            f"white planes of zones {[list(s.zones) for s in samples]} for {len(begin)} lights; they must agree",
            hint="record every white plane under the same zones as the spheres",
            code="calibration.zones_differ",
        )
    check_order(samples, begin)
    zones, whole = samples[0].zones, sum(len(s.points) for s in samples)
    for attempt in range(2):
        fit = least_squares(
            plane_residuals(samples),
            np.concatenate([begin.ravel(), np.zeros(len(begin))]),
            plane_jacobian(samples),
            x_scale=_scales(len(zones)),
            max_nfev=60,
        )
        positions, logs = unpack(fit.x, len(zones))
        if attempt == 0:
            samples = [_without_outliers(s, positions, logs) for s in samples]
            begin = positions
    chi2, misfit, printed = figures(samples, positions, logs)
    used = sum(len(s.points) for s in samples) / whole
    _check_flat(misfit, used)
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac, hermitian=True) * inflation(chi2, samples)
    powers = np.exp(logs - logs.mean())
    return PlaneLights(
        zones,
        positions,
        powers / powers.mean(),
        covariance,
        misfit,
        chi2,
        printed,
        used,
        _warnings(misfit, printed, ", ".join(s.name for s in samples if s.name)),
    )


def plane_residuals(samples: Sequence[PlaneSamples]) -> Callable[[FloatArray], FloatArray]:
    """Residuals, in standard deviations, of packed positions and log powers (4K,); the last one fixes the mean power."""

    def residuals(x: FloatArray) -> FloatArray:
        positions, logs = unpack(x, len(x) // 4)
        parts = [(s.misfit(positions, logs) / s.sigma).ravel() for s in samples]
        return np.concatenate([*parts, [logs.sum() * 1e4]])

    return residuals


def plane_jacobian(samples: Sequence[PlaneSamples]) -> Callable[[FloatArray], FloatArray]:
    """Derivatives of :func:`plane_residuals`."""

    def jacobian(x: FloatArray) -> FloatArray:
        count = len(x) // 4
        positions, _ = unpack(x, count)
        gauge = np.zeros((1, 4 * count))
        gauge[0, 3 * count :] = 1e4
        return np.concatenate([*(s.jacobian(positions) for s in samples), gauge])

    return jacobian


def unpack(x: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Positions (K, 3) and log powers (K,) of a parameter vector."""
    return x[: 3 * count].reshape(count, 3), x[3 * count : 4 * count]


def _scales(count: int) -> FloatArray:
    return np.concatenate([np.full(3 * count, 10.0), np.full(count, 0.1)])


def inflation(chi2: float, samples: Sequence[PlaneSamples]) -> float:
    """By how much a covariance from noise alone grows when the model misses the ratios by more than noise."""
    return 1.0 + max(chi2 - 1.0, 0.0) * (max(len(s.points) for s in samples) / _PATCHES if chi2 > 1.5 else 1.0)


def figures(samples: Sequence[PlaneSamples], positions: FloatArray, logs: FloatArray) -> tuple[float, float, float]:
    """Mean square misfit in noise variances, rms misfit, rms print."""
    misfits = [s.misfit(positions, logs) for s in samples]
    values = sum(m.size - m.shape[1] for m in misfits)  # one degree of freedom a block goes to what the zones share
    chi2 = sum(float(np.sum((m / s.sigma) ** 2)) for m, s in zip(misfits, samples, strict=True)) / values
    misfit = float(np.sqrt(sum(float(np.sum(m**2)) for m in misfits) / values))
    return chi2, misfit, max(_print(s) for s in samples)


def _print(samples: PlaneSamples) -> float:
    """Rms of what all zones share about a polynomial of fourth degree: vignetting and falloff are smooth, print is not."""
    x, y = ((samples.points - samples.points.mean(0)) / np.ptp(samples.points, axis=0).max())[:, :2].T
    terms = np.stack([x**i * y**j for i in range(5) for j in range(5 - i)], axis=-1)
    common = samples.logs.mean(axis=0)
    left = common - terms @ np.linalg.lstsq(terms, common, rcond=None)[0]
    return float(left.std())


def _without_outliers(samples: PlaneSamples, positions: FloatArray, logs: FloatArray) -> PlaneSamples:
    off = np.abs(samples.misfit(positions, logs)).max(axis=0)
    limit = float(np.median(off)) * (1.0 + _OUTLIER)
    keep = off <= limit
    return samples.where(keep) if keep.mean() >= 1.0 - _MAX_OUTLIERS else samples


def check_order(samples: Sequence[PlaneSamples], positions: FloatArray) -> None:
    """Refuse zones whose shading fits the positions of others better: lamps swapped between two recordings."""
    seen, expected = [], []
    for s in samples:
        flat = s.misfit(positions, np.zeros(len(positions)))
        model = s.logs - s.logs.mean(axis=0) - (flat - flat.mean(axis=0))
        measured = s.logs - s.logs.mean(axis=0)
        seen.append(measured - measured.mean(axis=1, keepdims=True))
        expected.append(model - model.mean(axis=1, keepdims=True))
    a, b = np.concatenate(seen, axis=1), np.concatenate(expected, axis=1)
    cost = np.array([[float(np.mean((x - y) ** 2)) for y in b] for x in a])
    rows, columns = linear_sum_assignment(cost)
    if cost[rows, columns].sum() < 0.25 * np.trace(cost) and not np.array_equal(rows, columns):
        zones = samples[0].zones
        swaps = ", ".join(f"{zones[r]} as {zones[c]}" for r, c in zip(rows, columns, strict=True) if r != c)
        raise CalibrationError(
            f"the white plane is lit as if the zones were others than on the spheres: {swaps}",
            hint="check the wiring and the order of the zones; record spheres and white plane again in one session",
            code="calibration.zones_swapped",
        )


def _check_flat(misfit: float, used: float) -> None:
    if misfit > MAX_MISFIT:
        raise CalibrationError(
            f"the white plane's shading misses that of point lights on a plane by {misfit:.1%} rms over {used:.0%} of the "
            f"field; at most {MAX_MISFIT:.0%} is allowed",
            hint="use a flat matte plate that fills the field, without an edge in view and nothing that casts a shadow on it",
            code="calibration.plane_not_flat",
        )


def _warnings(misfit: float, printed: float, names: str) -> tuple[str, ...]:
    out, whose = [], f"{names}: " if names else ""
    if misfit > WARN_MISFIT:
        out.append(
            f"{whose}the white plane's shading misses that of point lights by {misfit:.2%} rms; at most {WARN_MISFIT:.1%} is "
            "expected: the lamps are no points, or the plane is not flat; positions are less sure"
        )
    if printed > MAX_PRINT:
        out.append(
            f"{whose}the white of the plane varies by {printed:.1%} rms from place to place; at most {MAX_PRINT:.0%} is expected: "
            "clean it, or use one without print; a flat field made of it carries its pattern"
        )
    return tuple(out)
