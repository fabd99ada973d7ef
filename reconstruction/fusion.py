"""Depth from positions and normals together: positions know the shape, normals the fine relief.

D. Nehab, S. Rusinkiewicz, J. Davis, R. Ramamoorthi, "Efficiently combining positions and normals for precise 3D geometry",
ACM Transactions on Graphics (SIGGRAPH) 24 (2005) 536. Two steps:

(a) The low frequencies of the photometric normals, where light models err, are replaced by the measured surface's: every normal
    is turned as the smoothed normals must turn to become the smoothed surface normals (:func:`correct_normals`).
(b) Linear least squares for the move h of each pixel along its viewing ray, X(z) = r z + c (:func:`fuse`)::

        λ Σ (h_i/σ_i)²  +  Σ (n_ij·(X_j − X_i) / (σ_n |T_ij|))²  →  min

    over the neighbours i, j in rows and columns, n_ij the mean of their normals, |T_ij| their distance along the surface. With
    λ = 1 both terms have the weight of their noise. Neighbours whose positions contradict the normals by more than 4 σ
    stand on two sides of a step and are not tied.

The system is symmetric, positive definite, and solved by conjugate gradients with the diagonal as preconditioner. Its
condition number grows as (σ_z/(σ_n pitch))²: with the settings below and 2 µm of noise it takes 9 steps at 0.12 mm a pixel,
16 at 0.04 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction import _fusion_kernels as kernels
from rakelight.reconstruction.models import Camera
from rakelight.reconstruction.near_gains import rays_of
from rakelight.reconstruction.triangulation import xyz_from_depth

__all__ = ["Fused", "Settings", "correct_normals", "fuse"]

Float32 = NDArray[np.float32]

_STEEPEST = 3.0  # slopes above it (72°) say nothing of low frequencies
_APART = 1.0  # nor do slopes of surface and normals that differ by more: edges, highlights
_MANY_MEDIANS, _LEAST_STEP = 6.0, 0.02  # of that difference, beyond which it is a step's and not noise
_LEAST_WEIGHT = 0.05  # share of known pixels within the smoothing below which a normal is left as it is
_TOLERANCE, _MAX_STEPS = 1e-3, 600  # of the preconditioned residual


@dataclass(frozen=True)
class Settings:
    """How positions and normals are weighed.

    Attributes
    ----------
    position_weight : float
        λ: 1 trusts the stated noise of both, more keeps closer to the measured depth; 1e-3 to 1e3.
    normal_noise_deg : float
        σ_n, noise of a normal after its low frequencies were corrected; 0.05 to 20.
    smoothing_px : float
        Sigma of the Gaussian that parts low from high frequencies; 1 to 100. 0 leaves the normals as they are.
    most_sigmas, most_mm : float
        No pixel moves further than the smaller of ``most_sigmas``·σ_z and ``most_mm``; above 0.
    """

    position_weight: float = 1.0
    normal_noise_deg: float = 1.0
    smoothing_px: float = 12.0
    most_sigmas: float = 4.0
    most_mm: float = 0.05

    def __post_init__(self) -> None:
        for name, low, high in (
            ("position_weight", 1e-3, 1e3),
            ("normal_noise_deg", 0.05, 20.0),
            ("most_sigmas", 1e-3, 1e3),
            ("most_mm", 1e-6, 1e3),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"fusion: {name} = {value:g}; allowed: {low:g} to {high:g}", code="fusion.settings")
        if not (self.smoothing_px == 0 or 1 <= self.smoothing_px <= 100):
            raise InputError(
                f"fusion: smoothing_px = {self.smoothing_px:g}; allowed: 1 to 100, or 0 for no correction",
                code="fusion.settings",
            )


@dataclass(frozen=True, eq=False)
class Fused:
    """What :func:`fuse` gives.

    Attributes
    ----------
    z_mm : (H, W) float32
        Depth, NaN exactly where it was before.
    steps : int
        Of the solver.
    converged : bool
        Whether its residual fell to a thousandth.
    held : int
        Pixels whose move was held at the bound.
    """

    z_mm: Float32
    steps: int
    converged: bool
    held: int


def correct_normals(normals: Float32, xyz: Float32, smoothing_px: float = 12.0) -> Float32:
    """Photometric normals with the low frequencies of the measured surface (step a).

    Parameters
    ----------
    normals : (H, W, 3) float32
        Unit, viewer frame; NaN = not known.
    xyz : (H, W, 3) float32
        mm, camera frame; NaN = not measured.
    smoothing_px : float
        Sigma of the Gaussian, px, ≥ 1. Both fields are smoothed over the same pixels, as slopes, which noise of
        the depth does not bias.

    Returns
    -------
    (H, W, 3) float32
        NaN where ``normals`` is. A normal with hardly any measured surface around it is left as it is.

    Raises
    ------
    InputError
        ``input.*``: arrays that do not fit; ``fusion.settings``: a smoothing below 1 px.
    """
    normals = check_array("normals", normals, shape=(None, None, 3), dtypes=("float32",))
    xyz = check_array("xyz", xyz, shape=normals.shape, dtypes=("float32",))
    if not 1 <= smoothing_px <= 100:
        raise InputError(f"fusion: smoothing_px = {smoothing_px:g}; allowed: 1 to 100", code="fusion.settings")
    shape = normals.shape[:2]
    own, more, weight = (
        np.empty((2, *shape), np.float32),
        np.empty((2, *shape), np.float32),
        np.empty(shape, np.float32),
    )
    kernels.slope_difference(xyz, normals, _STEEPEST, _APART, own, more, weight)
    _leave_out_steps(own, more, weight)
    for field in (*own, *more, weight):
        cv2.GaussianBlur(field, (0, 0), smoothing_px, dst=field, borderType=cv2.BORDER_CONSTANT)
    out = np.empty(normals.shape, np.float32)
    kernels.rotate(normals, own, more, weight, _LEAST_WEIGHT, out)
    return out


def _leave_out_steps(own: Float32, more: Float32, weight: Float32) -> None:
    """Give no weight to pixels whose two slopes differ by far more than is usual: the surface has a step there."""
    apart = np.hypot(*more)
    thin = (slice(None, None, max(1, len(weight) // 1000)),) * 2
    known = apart[thin][weight[thin] > 0]
    if not known.size:
        return
    keep = apart <= max(_MANY_MEDIANS * float(np.median(known)), _LEAST_STEP)
    for field in (*own, *more, weight):
        field *= keep


def fuse(
    z_mm: Float32, sigma_z_mm: Float32, normals: Float32, camera: Camera, settings: Settings | None = None
) -> Fused:
    """Depth that agrees with measured depth and photometric normals (steps a and b).

    Parameters
    ----------
    z_mm, sigma_z_mm : (H, W) float32
        Measured depth and its noise, mm, camera frame; NaN = not measured, which stays so.
    normals : (H, W, 3) float32
        Unit, viewer frame; NaN = not known or not to be trusted (a pixel then keeps its position term alone).
    camera : Camera
        Of the maps.
    settings : Settings, optional

    Raises
    ------
    InputError
        ``input.*``: arrays that do not fit each other or the camera.
    """
    settings = settings or Settings()
    shape = (camera.height, camera.width)
    z = np.ascontiguousarray(check_array("z_mm", z_mm, shape=shape, dtypes=("float32",)))
    sigma = np.ascontiguousarray(check_array("sigma_z_mm", sigma_z_mm, shape=shape, dtypes=("float32",)))
    normals = check_array("normals", normals, shape=(*shape, 3), dtypes=("float32",))
    if settings.smoothing_px:
        normals = correct_normals(normals, xyz_from_depth(z, camera), settings.smoothing_px)
    rays = rays_of(camera)
    system = [np.empty(shape, np.float32) for _ in range(4)]
    spread = float(np.radians(settings.normal_noise_deg))
    kernels.assemble(
        z, sigma, np.ascontiguousarray(normals), rays.p, rays.q, rays.form, spread, settings.position_weight, *system
    )
    moves, steps, converged = _conjugate_gradients(*system)
    out, held = np.empty(shape, np.float32), np.empty(shape[0], np.int64)
    kernels.move(z, sigma, moves, settings.most_sigmas, settings.most_mm, out, held)
    return Fused(out, steps, converged, int(held.sum()))


def _conjugate_gradients(diagonal: Float32, right: Float32, down: Float32, rhs: Float32) -> tuple[Float32, int, bool]:
    """x of A x = rhs (Hestenes and Stiefel 1952, preconditioned by the diagonal), steps, whether it converged.

    ``rhs`` is used up. Vectors are float32, sums float64.
    """
    x, step, image = np.zeros_like(rhs), np.zeros_like(rhs), np.empty_like(rhs)
    sums = np.empty(len(rhs))
    kernels.advance(np.float32(0), diagonal, step, step, x, rhs, sums)  # rest = rhs: only its norm is taken
    first = rest = float(sums.sum())
    beta = 0.0
    for number in range(_MAX_STEPS):
        if rest <= _TOLERANCE**2 * first:
            return x, number, True
        kernels.turn(np.float32(beta), diagonal, rhs, step)
        kernels.apply(diagonal, right, down, step, image, sums)
        kernels.advance(np.float32(rest / float(sums.sum())), diagonal, step, image, x, rhs, sums)
        rest, before = float(sums.sum()), rest
        beta = rest / before
    return x, _MAX_STEPS, False
