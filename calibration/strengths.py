"""Relative strengths of lights from images of a matte part, whose shape and albedo need not be known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import CalibrationError, InputError

FloatArray = NDArray[np.float64]

MIN_DETERMINACY = 2.0
"""Least ratio of the shading's variation to the misfit, both relative, at which strengths are given."""
_MIN_VARIATION = 1e-3
_MIN_PIXELS = 100


@dataclass(frozen=True, eq=False)
class StrengthFit:
    """Strengths of lights and how well the Lambertian model holds.

    Attributes
    ----------
    strengths : (K,) float64
        Relative irradiance of each light, mean 1.
    residual : float
        rms(I - S L b) / mean(I) over all samples of the pixels whose brightest sample exceeds ``shadow``: b (albedo
        times normal) is fitted to each pixel by plain least squares, saturated and shadowed samples included.
    residual_equal : float
        The same with all strengths 1.
    residual_norm : float
        ||I - S L b|| / ||I|| over the same samples.
    residual_used : float
        ||I - S L b|| / ||I|| over the samples that the fit used: neither saturated nor shadowed.
    determinacy : float
        How well the strengths are told: variation of the shading over the part divided by the misfit. Simulated with
        four lights of slant 45° and white noise, strengths are right to 0.5 % at 2 and to 0.1 % at 7.
    pixels : int
        Pixels used.
    iterations : int
    """

    strengths: FloatArray
    residual: float
    residual_equal: float
    residual_norm: float
    residual_used: float
    determinacy: float
    pixels: int
    iterations: int


def estimate_strengths(
    samples: NDArray[Any],
    directions: NDArray[Any],
    *,
    shadow: float,
    saturation: float = np.inf,
    max_pixels: int = 50_000,
    tolerance: float = 1e-6,
    max_iterations: int = 50,
) -> StrengthFit:
    """Strengths s of K lights of known direction, with b_n = albedo·normal of each pixel, from I_kn = s_k l_k·b_n.

    Given s, the b_n follow by least squares. Eliminating them (variable projection, Golub & Pereyra 1973) leaves a
    problem of K unknowns whose minimum is that of alternating least squares, which needs hundreds of rounds where
    Gauss-Newton needs five. Start: with N the null space of Lᵀ, every pixel has Nᵀ diag(I_n) (1/s) = 0, linear in 1/s;
    the solution is the eigenvector of (N Nᵀ) ∘ (I Iᵀ) to the least eigenvalue.

    Parameters
    ----------
    samples : (K, N) real
        Dark-corrected linear pixel values in DN, one row a light, K ≥ 4. At most ``max_pixels`` pixels, evenly spread,
        are used.
    directions : (K, 3) real
        Unit directions, viewer frame.
    shadow : float
        Samples at or below this many DN are left out; pixels with fewer than 4 samples left are left out.
    saturation : float
        Samples at or above this many DN are left out.
    tolerance : float
        Stop when no strength changes by more than this fraction.

    Raises
    ------
    CalibrationError
        ``calibration.strengths_undetermined``: fewer than 4 lights, fewer than 100 usable pixels, lights in a plane, or
        a part too flat for its noise (all normals equal: any strengths fit). ``calibration.strengths_not_converged``.
    InputError
        Shapes or values that do not fit.
    """
    lights = check_array("light directions", directions, shape=(None, 3), finite=True).astype(np.float64)
    data = check_array("samples", samples, shape=(len(lights), None), finite=True)
    if max_iterations < 1 or max_pixels < 1:
        raise InputError(f"max_iterations {max_iterations} and max_pixels {max_pixels}; at least 1 is needed")
    if not 0.0 <= shadow < saturation:
        raise InputError(f"shadow {shadow} and saturation {saturation} DN; needed: 0 ≤ shadow < saturation")
    null = _null_space(lights)
    lit = np.flatnonzero(data.max(axis=0, initial=0) > shadow)
    lit = lit[:: max(1, -(-len(lit) // max_pixels))]
    values = np.ascontiguousarray(data[:, lit].T, dtype=np.float64)
    valid = (values > shadow) & (values < saturation)
    enough = valid.sum(axis=1) >= 4
    if enough.sum() < _MIN_PIXELS:
        raise _undetermined(f"only {int(enough.sum())} pixels have 4 samples between {shadow:g} and {saturation:g} DN")
    used, mask = values[enough], valid[enough]
    strengths, converged = _closed_form(used, mask, null), False
    iterations = 0
    while not converged and iterations < max_iterations:
        iterations += 1
        step, normal_matrix, misfit = _newton_step(used, mask, lights, strengths)
        # at most by half, so that no strength turns negative
        step *= min(1.0, 0.5 / max(float(np.abs(step).max()), 1e-12))
        strengths = strengths * (1.0 + step)
        strengths /= strengths.mean()
        converged = float(np.abs(step).max()) < tolerance
    determinacy = _determinacy(normal_matrix, misfit, used, mask)
    if not converged:
        raise CalibrationError(
            f"light strengths still change by {float(np.abs(step).max()):.2g} after {max_iterations} iterations; "
            f"at most {tolerance:g} is allowed",
            hint="use a matte, curved part and check the light directions",
            code="calibration.strengths_not_converged",
        )
    rms, mean = _rms_residual(values, lights, strengths), float(values.mean())
    return StrengthFit(
        strengths,
        residual=rms / mean,
        residual_equal=_rms_residual(values, lights, np.ones(len(lights))) / mean,
        residual_norm=rms / float(np.sqrt(np.mean(values**2))),
        residual_used=float(np.sqrt(misfit / np.sum(used[mask] ** 2))),
        determinacy=determinacy,
        pixels=len(used),
        iterations=iterations,
    )


def _undetermined(figure: str) -> CalibrationError:
    return CalibrationError(
        f"light strengths cannot be told: {figure}",
        hint="use a matte part that is curved in both directions, such as a ball, or take the strengths from the flat "
        "field",
        code="calibration.strengths_undetermined",
    )


def _null_space(lights: FloatArray) -> FloatArray:
    """(K, K - 3) basis of the light patterns that no Lambertian surface can show."""
    if len(lights) < 4:
        raise _undetermined(f"{len(lights)} lights; at least 4 are needed")
    u, singular, _ = np.linalg.svd(lights)
    if singular[2] < 1e-3 * singular[0]:
        raise _undetermined(f"the lights lie in a plane (singular values {np.round(singular, 4).tolist()})")
    null: FloatArray = u[:, 3:]
    weakest = float(np.linalg.norm(null, axis=1).min())
    if weakest < 1e-3:
        raise _undetermined(f"one light alone spans its direction (weight {weakest:.2g} of the others in it)")
    return null


def _closed_form(values: FloatArray, mask: NDArray[np.bool_], null: FloatArray) -> FloatArray:
    """Start from the pixels without a masked sample; equal strengths where they do not do."""
    ones = np.ones(values.shape[1])
    full = values[mask.all(axis=1)]
    if len(full) < _MIN_PIXELS:
        return ones
    inverse = np.linalg.eigh((null @ null.T) * (full.T @ full))[1][:, 0]
    inverse = inverse * np.sign(inverse.sum())
    if inverse.min() < 0.02 * inverse.max():
        return ones
    start = 1.0 / inverse
    return np.asarray(start / start.mean())


def _newton_step(
    values: FloatArray, mask: NDArray[np.bool_], lights: FloatArray, strengths: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Relative step of the strengths (K,), its normal matrix (K, K), and the sum of squared residuals."""
    scaled = strengths[:, None] * lights
    weight = mask.astype(np.float64)
    outer = np.einsum("ki,kj->kij", scaled, scaled).reshape(len(scaled), 9)
    gram = (weight @ outer).reshape(-1, 3, 3)
    gram += 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(3)  # three lit lights in a plane
    inverse = np.linalg.inv(gram)
    b = np.einsum("nij,nj->ni", inverse, (values * weight) @ scaled)
    model = weight * (b @ scaled.T)
    residual = weight * values - model
    # sum over pixels of diag(m) (1 - A (AᵀA)⁻¹ Aᵀ) diag(m), m the modelled values, A the lit rows of S L
    half = np.einsum("nk,ki->nki", model, scaled)
    matrix = np.diag(np.sum(model**2, axis=0)) - np.einsum("nki,nij,nlj->kl", half, inverse, half, optimize=True)
    gradient = np.sum(model * residual, axis=0)
    step = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True) @ gradient  # the common factor is free
    return step - step.mean(), matrix, float(np.sum(residual**2))


def _determinacy(matrix: FloatArray, misfit: float, values: FloatArray, mask: NDArray[np.bool_]) -> float:
    """Relative variation of the shading (second least eigenvalue of the normal matrix) over the relative misfit."""
    energy = float(np.sum(values[mask] ** 2))
    variation = float(np.sqrt(max(np.linalg.eigvalsh(matrix)[1], 0.0) * len(matrix) / energy))
    free = float(mask.sum() - 3 * len(values))
    noise = float(np.sqrt(misfit / free * mask.sum() / energy))
    determinacy = variation / max(noise, 1e-6)
    if variation < _MIN_VARIATION or determinacy < MIN_DETERMINACY:
        raise _undetermined(
            f"the shading varies over the part by {variation:.2%}, the misfit is {noise:.2%}; needed: a variation of at "
            f"least {_MIN_VARIATION:.1%} and {MIN_DETERMINACY:g} times the misfit"
        )
    return determinacy


def _rms_residual(values: FloatArray, lights: FloatArray, strengths: FloatArray) -> float:
    scaled = strengths[:, None] * lights
    model = values @ np.linalg.pinv(scaled).T @ scaled.T
    return float(np.sqrt(np.mean((values - model) ** 2)))
