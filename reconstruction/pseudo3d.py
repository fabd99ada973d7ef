"""Pseudo-3D maps: what an inspector looks at instead of a point cloud.

All maps are derived from the normal map of photometric stereo and stay in camera pixels: encoded normals, slopes,
band-passed mean curvature (the map in which small surface defects show first), gloss, shaded relief, and the
conversion of any map to eight bits for display.

Frames: normals are unit vectors in the *viewer* frame (x right, y **up**, z towards the camera), shape (H, W, 3),
float32, NaN where the surface could not be solved. A view of planar (3, H, W) memory is the fastest input; any other
strides work. The row index grows downwards, so dy = −1 pixel from one row to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.arrays import check_array
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction import _near_kernels as near_kernels
from rakelight.reconstruction import _photometric_kernels as pixel_kernels
from rakelight.reconstruction import _pseudo3d_kernels as kernels
from rakelight.reconstruction._photometric_input import (
    check_corrections,
    check_frames,
    check_near,
    near_blocks,
    near_sources,
)
from rakelight.reconstruction.photometric import Corrections

Float32 = NDArray[np.float32]

DEFAULT_MAX_SLOPE = 5.0  # tan 78.7°: beyond it a normal is nearly edge-on and its slope is mostly noise
_BAND_RATIO = 4.0  # width of the coarse Gaussian over that of the fine one
_MAX_SAMPLES = 1 << 20  # percentiles of larger maps are taken on a regular grid of about so many pixels


# ---------------------------------------------------------------------------------------------------- normals as image
@overload
def encode_normals(normals: Float32, bits: Literal[8] = 8) -> NDArray[np.uint8]: ...
@overload
def encode_normals(normals: Float32, bits: Literal[16]) -> NDArray[np.uint16]: ...
def encode_normals(normals: Float32, bits: int = 8) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Normals as an RGB image: round((n + 1) · (2^bits − 1) / 2), red = x, green = y (up), blue = z.

    The usual tangent-space encoding ("OpenGL", green up). A pixel with NaN becomes (0, 0, 0), which no unit vector
    can encode, so that the background stays recognisable.

    Parameters
    ----------
    normals : (H, W, 3) float32
        Unit normals, viewer frame; NaN = not solved.
    bits : 8 or 16

    Returns
    -------
    (H, W, 3) uint8 or uint16

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``; ``pseudo3d.bits`` for another number of bits.
    """
    nx, ny, nz = _planes(normals)
    if bits not in (8, 16):
        raise InputError(f"bits is {bits}; allowed: 8 or 16", code="pseudo3d.bits")
    encoded = np.empty((*nx.shape, 3), np.uint8 if bits == 8 else np.uint16)
    kernels.encode(nx, ny, nz, np.float32((2**bits - 1) / 2), encoded)
    return encoded


def decode_normals(encoded: NDArray[np.uint8] | NDArray[np.uint16]) -> Float32:
    """Inverse of :func:`encode_normals`: unit normals (H, W, 3) float32 (a view of planar memory).

    The vectors are brought back to unit length; (0, 0, 0) gives NaN. Eight bits keep a normal within about 0.4°,
    sixteen within 0.002°. Raises ``InputError`` (``input.shape``, ``input.dtype``).
    """
    encoded = check_array("encoded normals", encoded, shape=(None, None, 3), dtypes=("uint8", "uint16"))
    planar = np.empty((3, *encoded.shape[:2]), np.float32)
    kernels.decode(encoded, np.float32(2.0 / np.iinfo(encoded.dtype).max), planar)
    return np.moveaxis(planar, 0, -1)


# -------------------------------------------------------------------------------------------------------------- slopes
def slopes(normals: Float32, max_slope: float = DEFAULT_MAX_SLOPE) -> tuple[Float32, Float32]:
    """Slopes p = ∂z/∂x = −n_x / n_z and q = ∂z/∂y = −n_y / n_z (Horn, *Robot Vision*, 1986, §10.6).

    Where the gradient √(p² + q²) exceeds ``max_slope``, or the normal turns away from the camera (n_z ≤ 0), the
    gradient is shortened to ``max_slope``; its azimuth is kept.

    Parameters
    ----------
    normals : (H, W, 3) float32
        Viewer frame (y up); NaN = not solved.
    max_slope : float
        Greatest gradient, dimensionless (tangent of the surface tilt); > 0.

    Returns
    -------
    p, q : (H, W) float32
        Dimensionless; NaN where the normal is. ``q`` is the slope *upwards* in the image, against the row index.

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``; ``pseudo3d.max_slope`` if ``max_slope`` is not above 0.
    """
    nx, ny, nz = _planes(normals)
    if not max_slope > 0:
        raise InputError(f"max_slope is {max_slope}; it must be greater than 0", code="pseudo3d.max_slope")
    p, q = np.empty(nx.shape, np.float32), np.empty(nx.shape, np.float32)
    kernels.slopes(nx, ny, nz, np.float32(max_slope), p, q)
    return p, q


# ----------------------------------------------------------------------------------------------------------- curvature
def mean_curvature(normals: Float32, feature_size_px: float | None = 20.0, *, pitch_mm: float | None = None) -> Float32:
    """Mean curvature, band-passed to one size of feature; **positive on a convex bump** towards the camera.

    For a surface z(x, y) the mean curvature is ½ div(∇z / √(1 + |∇z|²)) up to sign (do Carmo, *Differential Geometry
    of Curves and Surfaces*, §3.3). Since n = (−p, −q, 1) / √(1 + p² + q²), this needs no division and no height:

        H = ½ (∂n_x/∂x + ∂n_y/∂y),

    exact also on steep surfaces; a sphere of radius R bulging towards the camera has H = 1/R, a hollow −1/R, a flat or
    tilted plane 0. Derivatives are central differences over two pixels, one-sided at the border and beside NaN.

    The band pass is a difference of Gaussians with widths σ and 4σ, σ = 0.1935 · ``feature_size_px``, scaled such that
    a wave whose half period is the feature size passes with gain 1; one four times finer keeps 7 %, four times coarser
    20 %, ten times coarser 4 %: shape and lighting errors of the whole part vanish, sensor noise is averaged. Both
    Gaussians are normalised convolutions (Knutsson and Westin, CVPR 1993): pixels without a normal have no weight, so
    the background does not bleed into the part.

    Parameters
    ----------
    normals : (H, W, 3) float32
        Viewer frame; NaN = not solved.
    feature_size_px : float or None
        Width of the bumps, dents or scratches sought, from 2 px to the shorter image side. ``None``: no band pass.
    pitch_mm : float, optional
        Size of one pixel on the part. Given, the result is in 1/mm, otherwise in 1/pixel.

    Returns
    -------
    (H, W) float32
        NaN where the normal (or all its neighbours along one axis) is NaN.

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``, ``pseudo3d.feature_size``, ``pseudo3d.pitch``.
    """
    nx, ny, nz = _planes(normals)
    shorter = min(nx.shape)
    if feature_size_px is not None and not 2 <= feature_size_px <= shorter:
        raise InputError(
            f"feature_size_px is {feature_size_px}; allowed: 2 to {shorter} (the shorter image side)",
            hint="give the width in pixels of the defects you look for, or None for no band pass",
            code="pseudo3d.feature_size",
        )
    if pitch_mm is not None and not (pitch_mm > 0 and np.isfinite(pitch_mm)):
        raise InputError(f"pitch_mm is {pitch_mm}; it must be greater than 0", code="pseudo3d.pitch")
    curvature = np.empty(nx.shape, np.float32)
    kernels.half_divergence(nx, ny, nz, np.float32(0.5 / (pitch_mm or 1.0)), curvature)
    return curvature if feature_size_px is None else _band_pass(curvature, feature_size_px)


def _band_pass(values: Float32, feature_size_px: float) -> Float32:
    """Difference of Gaussians over the finite pixels, in place; gain 1 for waves of half period ``feature_size_px``."""
    peak = 4.0 * np.log(_BAND_RATIO) / (_BAND_RATIO**2 - 1.0)  # (σω)² at the top of exp(−σ²ω²/2) − exp(−16 σ²ω²/2)
    gain = np.exp(-peak / 2.0) - np.exp(-peak * _BAND_RATIO**2 / 2.0)
    sigma = np.sqrt(peak) * feature_size_px / np.pi
    weight = np.empty_like(values)
    gaps = kernels.fill_gaps(values, weight)
    if not gaps:
        cv2.subtract(_blur(values, sigma), _blur(values, sigma * _BAND_RATIO), dst=values)
        values *= np.float32(1.0 / gain)
        return values
    fine, fine_weight = _blur(values, sigma), _blur(weight, sigma)
    coarse, coarse_weight = _blur(values, sigma * _BAND_RATIO), _blur(weight, sigma * _BAND_RATIO)
    kernels.normalised_difference(fine, fine_weight, coarse, coarse_weight, np.float32(1.0 / gain), weight, values)
    return values


def _blur(image: Float32, sigma: float) -> Float32:
    """Gaussian blur with mirrored borders, wide ones on a reduced image.

    Averaging s × s pixels and interpolating back linearly is itself a blur of variance about s²/4; with s ≤ σ/3 the
    Gaussian on the reduced image supplies the rest, and the cost no longer grows with σ.
    """
    step = int(sigma / 3)
    if step < 2:
        return np.asarray(cv2.GaussianBlur(image, _kernel_size(sigma), sigma, borderType=cv2.BORDER_REFLECT))
    rows, cols = image.shape
    small = cv2.resize(image, (-(-cols // step), -(-rows // step)), interpolation=cv2.INTER_AREA)
    rest = float(np.sqrt(sigma**2 - step**2 / 4.0) / step)
    small = cv2.GaussianBlur(small, _kernel_size(rest), rest, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(small, (cols, rows), interpolation=cv2.INTER_LINEAR))


def _kernel_size(sigma: float) -> tuple[int, int]:
    side = 2 * int(np.ceil(3.5 * sigma)) + 1
    return side, side


# --------------------------------------------------------------------------------------------------------------- gloss
def gloss(
    frames: Sequence[NDArray[Any]],
    directions: ArrayLike,
    *,
    corrections: Corrections | None = None,
) -> Float32:
    """Gloss: by how much the brightest zone exceeds what the other zones predict for a matte (Lambertian) surface.

    With the corrected intensities J (as in :func:`rakelight.reconstruction.photometric.solve`) and the directions
    L (K, 3), the hat matrix is A = L (LᵀL)⁻¹ Lᵀ, the residual r = (I − A) J, and the residual of zone k against a fit
    to all *other* zones is e_k = r_k / (1 − A_kk): the PRESS residual (Allen, *Technometrics* 16, 1974). The map is e_k
    of the brightest zone k, at least 0 and at most J_k (a matte surface is never darker than black).

    Read it with two limits in mind. A saturated zone gives a lower bound. And four zones have one redundancy only: a
    cast shadow on one zone looks like gloss on its neighbours, so judge gloss together with the shadow flags.

    Parameters
    ----------
    frames : K arrays (H, W), uint8, uint16 or float32
        One linear frame a zone, K ≥ 4, all of one dtype.
    directions : (K, 3) float
        Unit vectors from the part towards the lights, viewer frame.
    corrections : Corrections, optional
        Dark frame, flat field, strengths: the same as given to the solver.

    Returns
    -------
    (H, W) float32
        Unit of the corrected intensities, ≥ 0.

    Raises
    ------
    InputError
        ``gloss.no_redundancy`` for fewer than four zones; ``input.*`` for shapes and dtypes that do not fit.
    CalibrationError
        ``calibration.lights_coplanar``: all lights, or all but one, lie in one plane.
    """
    stack, rows, cols = check_frames(frames)
    predictor = _leave_one_out(directions, len(stack))
    c = check_corrections(corrections or Corrections(), len(stack), rows, cols)
    out = np.empty((rows, cols), np.float32)
    kernels.gloss(stack, c.dark, np.float32(c.dark_scale), c.gains, c.gain_scales, predictor, out)
    return out


def gloss_near(
    frames: Sequence[NDArray[Any]],
    positions_mm: NDArray[np.floating],
    xyz: Float32,
    *,
    reference_mm: NDArray[np.floating] | None = None,
    corrections: Corrections | None = None,
) -> Float32:
    """:func:`gloss` with light directions and fall-off of their own for every pixel; arguments as in ``photometric.solve_near``.

    Returns (H, W) float32, NaN where ``xyz`` is NaN or the lights of a pixel lie in one plane.
    Raises ``InputError`` and ``CalibrationError`` as :func:`gloss` and ``photometric.solve_near`` do.
    """
    stack, rows, cols = check_frames(frames)
    zones = len(stack)
    if zones < 4:
        raise _no_redundancy(zones)
    positions, points, reference = check_near(positions_mm, xyz, reference_mm, (zones, rows, cols))
    c = check_corrections(corrections or Corrections(), zones, rows, cols)
    out = np.empty((rows, cols), np.float32)
    sources = near_sources(positions, reference)
    for part, block, b, gains in near_blocks(stack, c):
        here = np.ascontiguousarray(points[part])
        correct = (b.dark, np.float32(b.dark_scale), gains, b.gain_scales)
        if zones == 4:
            near_kernels.gloss_four(block, sources, here, *correct, out[part])
        else:
            pixel_kernels.gloss_near(block, positions, reference, here, *correct, out[part])
    return out


def _no_redundancy(zones: int) -> InputError:
    return InputError(
        f"{zones} zones leave no redundancy; gloss needs at least 4",
        hint="capture four zones, or leave the gloss map out for this recipe",
        code="gloss.no_redundancy",
    )


def _leave_one_out(directions: ArrayLike, zones: int) -> Float32:
    """(K, K) float32 matrix that turns intensities into PRESS residuals: (I − A) / (1 − A_kk), row by row."""
    lights = check_array("light directions", directions, shape=(zones, 3), finite=True).astype(np.float64)
    if zones < 4:
        raise _no_redundancy(zones)
    singular = np.linalg.svd(lights, compute_uv=False)
    residual = np.eye(zones) - lights @ np.linalg.pinv(lights)
    spare = np.diag(residual)
    if singular[-1] < 1e-3 * singular[0] or spare.min() < 1e-3:
        which = f"the {zones} light directions" if spare.min() >= 1e-3 else f"all lights but {int(spare.argmin()) + 1}"
        raise CalibrationError(
            f"{which} lie in one plane, so that the zones do not predict one another (least 1 - leverage"
            f" {spare.min():.1e}, smallest/largest singular value {singular[-1] / singular[0]:.1e}; at least 1e-3 is needed)",
            hint="check the light calibration: four zones stand at about one slant and at different azimuths",
            code="calibration.lights_coplanar",
        )
    return (residual / spare[:, None]).astype(np.float32)


# ----------------------------------------------------------------------------------------------------- relief, display
def shaded_relief(normals: Float32, azimuth_deg: float = 135.0, slant_deg: float = 45.0) -> Float32:
    """The part under one imagined distant light, matte and of uniform colour: max(0, n · l) (Lambert, 1760).

    ``azimuth_deg`` counts counter-clockwise from the right (135 = from the upper left), ``slant_deg`` from the viewing
    axis (0 = from the camera, 90 = grazing). Returns (H, W) float32 in [0, 1]; NaN where the normal is NaN.
    Raises ``InputError`` (``input.shape``, ``input.dtype``; ``pseudo3d.slant`` outside 0..90).
    """
    nx, ny, nz = _planes(normals)
    if not 0 <= slant_deg <= 90:
        raise InputError(f"slant_deg is {slant_deg}; allowed: 0 to 90", code="pseudo3d.slant")
    azimuth, slant = np.deg2rad(azimuth_deg), np.deg2rad(slant_deg)
    light = np.array([np.sin(slant) * np.cos(azimuth), np.sin(slant) * np.sin(azimuth), np.cos(slant)], np.float32)
    out = np.empty(nx.shape, np.float32)
    kernels.shade(nx, ny, nz, light, out)
    return out


@dataclass(frozen=True)
class Display:
    """A map as eight-bit image: ``image`` (H, W) uint8, ``valid`` (H, W) bool, and the values shown as 0 and 255."""

    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    low: float
    high: float


def to_display(
    values: NDArray[Any],
    *,
    percentiles: tuple[float, float] = (1.0, 99.0),
    limits: tuple[float, float] | None = None,
    symmetric: bool = False,
) -> Display:
    """Scale a map linearly to 0..255.

    Parameters
    ----------
    values : (H, W) any real dtype
        NaN and infinite pixels become 0 and are False in ``valid``.
    percentiles : (low, high)
        Percentiles of the valid pixels shown as black and white; of a large map, those of an even grid of about a
        million pixels.
    limits : (low, high), optional
        Fixed values instead: use them to compare images with one another.
    symmetric : bool
        Signed maps: widen the limits to ±max(|low|, |high|), so that 0 is mid-grey (128).

    Returns
    -------
    Display
        A constant map is shown mid-grey.

    Raises
    ------
    InputError
        ``input.shape``; ``pseudo3d.limits`` for limits or percentiles that do not ascend.
    """
    values = check_array("map", values, ndim=2)
    low, high = limits if limits is not None else _percentile_limits(values, percentiles)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high) or (limits is not None and low == high):
        raise InputError(
            f"display limits are {low} and {high}; two ascending numbers are needed", code="pseudo3d.limits"
        )
    if symmetric:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    if low == high:
        low, high = low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2
    image, valid = np.empty(values.shape, np.uint8), np.empty(values.shape, np.bool_)
    kernels.quantise(values, np.float32((low + high) / 2), np.float32(255.0 / (high - low)), image, valid)
    return Display(image, valid, float(low), float(high))


def _percentile_limits(values: NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise InputError(f"percentiles are {percentiles}; allowed: 0 <= low < high <= 100", code="pseudo3d.limits")
    step = 1 | int(np.sqrt(values.size / _MAX_SAMPLES))  # odd: an even one would meet one colour of a Bayer mosaic only
    sample = values[::step, ::step]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(sample, percentiles)
    return float(low), float(high)


def _planes(normals: Float32) -> tuple[Float32, Float32, Float32]:
    """The three components as (H, W) views: contiguous ones if the memory is planar."""
    normals = check_array("normals", normals, shape=(None, None, 3), dtypes=("float32",))
    return normals[..., 0], normals[..., 1], normals[..., 2]
