"""Photometric stereo: a stack of frames under known lights becomes normals and albedo.

Model (Woodham 1980): a matte facet of albedo ρ and unit normal n seen under zone k of unit direction l_k and strength s_k
reads I_k = s_k ρ (n·l_k). With b = ρ n the least-squares solution is b = (LᵀL)⁻¹Lᵀ J, where J_k is the corrected
intensity: dark subtracted, then multiplied by the zone's flat-field gain, if there is one, and divided by its strength; the gain
G_k = (l_k·n_table)/white_k, which also removes the lateral fall-off of a light at a finite distance.

The order of corrections is fixed: dark → saturation and shadow flags on *raw* values → flat field → solve.

All zones are used wherever they agree with one Lambertian facet. A zone is left out only on evidence:
it is saturated; it is dark (attached or cast shadow); or the zones contradict each other by more than the noise and one of
them stands clearly apart from the rest (a highlight above, a shadow below). See ``_photometric_kernels.solve_pixel``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction import _near_kernels as near_kernels
from rakelight.reconstruction import _photometric_kernels as kernels
from rakelight.reconstruction._photometric_input import (
    FRAME_DTYPES,
    blocks,
    check_corrections,
    check_directions,
    check_frames,
    check_near,
    near_blocks,
    near_sources,
)
from rakelight.reconstruction.levels import SATURATION

__all__ = [
    "DEFAULT_THRESHOLDS",
    "FRAME_DTYPES",
    "Corrections",
    "Flag",
    "PhotometricResult",
    "Thresholds",
    "allocate",
    "solve",
    "solve_near",
]


class Flag(IntFlag):
    """Bits of the per-pixel ``flags`` map (uint8)."""

    SATURATED = 1  #: a raw value at or above the saturation level
    SHADOWED = 2  #: a zone dark: attached or cast shadow
    OUTLIER = 4  #: a zone left out because the others contradict it (highlight, cast shadow)
    RESOLVED = 8  #: solved from a subset of the zones
    WEAK = 16  #: fewer than three trustworthy zones, or a normal facing away: direction is a guess
    NOT_SOLVABLE = 32  #: no normal (NaN): too dark to tell, or saturated, in every zone


@dataclass(frozen=True)
class Thresholds:
    """What counts as evidence against a zone.

    Attributes
    ----------
    saturation : float
        Fraction of full scale at and above which a raw value counts as saturated.
    shadow : float
        Fraction of full scale; a raw value at most this far above dark counts as shadowed.
    shadow_ratio : float
        A corrected value below this fraction of the second brightest zone counts as shadowed (the second
        brightest, since a highlight raises the brightest at will).
    disagreement : float
        Relative residual ‖J − L b‖/‖J‖ above which a zone standing apart is looked for.
    signal : float
        Fraction of full scale; a pixel whose brightest zone stays at most this far above dark is too dark to tell.
    standing_apart : float
        Ratio by which the brightest (or darkest) zone must differ from its neighbour in size to be called an outlier.
    """

    saturation: float = SATURATION
    shadow: float = 0.004
    shadow_ratio: float = 0.01
    disagreement: float = 0.05
    signal: float = 0.03
    standing_apart: float = 1.5

    def __post_init__(self) -> None:
        for name in ("saturation", "shadow", "shadow_ratio", "disagreement", "signal"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"threshold {name} = {value}; allowed: 0 to 1", code="photometric.threshold")
        if not self.standing_apart >= 1:
            raise InputError(
                f"threshold standing_apart = {self.standing_apart}; allowed: 1 or more", code="photometric.threshold"
            )


DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Corrections:
    """What is undone in every frame before the solve; the default undoes nothing.

    Attributes
    ----------
    dark : (H, W) uint8, uint16 or float32, or None
        Dark frame; DN = ``dark`` × ``dark_scale``.
    dark_scale : float
        DN per unit of ``dark``.
    gains : (K, H, W) uint16 or float32, or None
        Flat-field gain of every zone; factor = ``gains[k]`` × ``gain_scales[k]``.
    gain_scales : (K,) float, or None
        Factor per unit of ``gains``; without ``gains`` a plain factor per zone (1 / strength).
    """

    dark: NDArray[np.generic] | None = None
    dark_scale: float = 1.0
    gains: NDArray[np.generic] | None = None
    gain_scales: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class PhotometricResult:
    """Normals and what goes with them, on the pixels of the frames.

    Attributes
    ----------
    planar : (3, H, W) float32
        Unit normals, viewer frame (x right, y up, z towards the camera), NaN where not solvable.
    albedo : (H, W) float32
        Length of b: reflectance relative to the white plane with a flat field, else in DN per unit strength. 0 where not solvable.
    flags : (H, W) uint8
        Bits of :class:`Flag`.
    confidence : (H, W) float32
        1 − ‖J − L b‖/‖J‖ over *all* zones: how well they agree with one Lambertian facet (for four zones the residual is
        the null-vector redundancy |w·J|/‖J‖ with Lᵀw = 0). 0 where not solvable; NaN for three zones, which have no redundancy.
    """

    planar: NDArray[np.float32]
    albedo: NDArray[np.float32]
    flags: NDArray[np.uint8]
    confidence: NDArray[np.float32]

    @property
    def normals(self) -> NDArray[np.float32]:
        """Unit normals as an (H, W, 3) view of ``planar``."""
        return self.planar.transpose(1, 2, 0)

    @property
    def solved(self) -> NDArray[np.bool_]:
        """(H, W) mask of the pixels that have a normal."""
        return (self.flags & int(Flag.NOT_SOLVABLE)) == 0

    def rows(self, first: int, last: int) -> PhotometricResult:
        """Rows ``first`` to ``last`` as views, so that tiles can be solved in place."""
        s = slice(first, last)
        return PhotometricResult(self.planar[:, s], self.albedo[s], self.flags[s], self.confidence[s])

    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """The (H, W) maps as the kernels take them: x, y, z of the normals, albedo, flags, confidence."""
        return (*self.planar, self.albedo, self.flags, self.confidence)


def allocate(height: int, width: int) -> PhotometricResult:
    """An unfilled result of the given size, to be passed as ``out`` and reused from part to part."""
    return PhotometricResult(
        np.empty((3, height, width), np.float32),
        np.empty((height, width), np.float32),
        np.empty((height, width), np.uint8),
        np.empty((height, width), np.float32),
    )


def solve(
    frames: Sequence[NDArray[np.generic]],
    directions: NDArray[np.floating],
    *,
    corrections: Corrections | None = None,
    full_scale: float | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    out: PhotometricResult | None = None,
) -> PhotometricResult:
    """Normals and albedo under distant lights (Woodham 1980), one pass over the pixels.

    Parameters
    ----------
    frames : sequence of K (H, W) arrays, uint8, uint16 or float32
        One linear frame a zone, K ≥ 3. Bayer mosaics are solved as they are, per photosite: the normal
        does not depend on the filter's gain.
    directions : (K, 3) float
        Unit vectors from the part towards the lights, viewer frame.
    corrections : Corrections, optional
        Dark frame, flat field, strengths.
    full_scale : float, optional
        Largest raw value, for example 4095 for 12 bits. Default: the dtype's maximum; for float32 none, so that nothing
        counts as saturated, only values ≤ 0 as shadowed, and any signal above dark is enough.
    thresholds : Thresholds
        What counts as evidence against a zone.
    out : PhotometricResult, optional
        Memory to reuse, from :func:`allocate`.

    Raises
    ------
    InputError
        Frames that differ in size or dtype, or that are not (H, W).
    CalibrationError
        Fewer than three lights, directions that are not unit, or coplanar.
    """
    stack, height, width = check_frames(frames)
    lights = check_directions(directions, len(stack))
    c = check_corrections(corrections or Corrections(), len(stack), height, width)
    result = _check_out(out, height, width)
    inverse = np.linalg.pinv(lights.astype(np.float64)).astype(np.float32)
    null = np.linalg.svd(lights.T.astype(np.float64))[2][-1].astype(np.float32)  # Lᵀ·null = 0
    levels = levels_of(full_scale, stack[0].dtype, thresholds)
    for rows, block, part in blocks(stack, c):
        kernels.solve_distant(
            block,
            inverse,
            null if isinstance(block, tuple) else None,
            lights,
            part.dark,
            np.float32(part.dark_scale),
            part.gains,
            part.gain_scales,
            levels,
            result.rows(rows.start, rows.stop).arrays(),
        )
    return result


def solve_near(
    frames: Sequence[NDArray[np.generic]],
    positions_mm: NDArray[np.floating],
    xyz: NDArray[np.float32],
    *,
    reference_mm: NDArray[np.floating] | None = None,
    corrections: Corrections | None = None,
    full_scale: float | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    out: PhotometricResult | None = None,
) -> PhotometricResult:
    """As :func:`solve`, with light directions and fall-off of their own for every pixel.

    Parameters
    ----------
    positions_mm : (K, 3) float
        Light sources, camera frame (x right, y down, z away).
    xyz : (H, W, 3) float32
        Where each pixel's surface lies, camera frame, mm: the table plane, or a measured surface. NaN = not solvable.
    reference_mm : (3,) or (K, 3) float, optional
        The point, or one a light (K, 3), at which the strengths hold: the inverse-square fall-off from there is undone. With a flat
        field too, since its gains keep the fall-off of the light model, so that flat-fielded and plain frames obey one model.

    Raises
    ------
    InputError, CalibrationError
        As :func:`solve`; also a light source within 1 mm of the surface's reference point.
    """
    stack, height, width = check_frames(frames)
    positions, points, reference = check_near(positions_mm, xyz, reference_mm, (len(stack), height, width))
    c = check_corrections(corrections or Corrections(), len(stack), height, width)
    result = _check_out(out, height, width)
    levels = levels_of(full_scale, stack[0].dtype, thresholds)
    sweep = near_kernels.sweep_four if len(stack) == 4 else near_kernels.sweep_any
    sources = near_sources(positions, reference)
    for rows, block, part, gains in near_blocks(stack, c):
        here = np.ascontiguousarray(points[rows])
        correct = (part.dark, np.float32(part.dark_scale), gains, part.gain_scales)
        maps = result.rows(rows.start, rows.stop).arrays()
        sweep(block, sources, here, *correct, levels, maps)
        kernels.resolve_near(block, positions, reference, here, *correct, levels, np.uint8(near_kernels.MARK), maps)
    return result


def levels_of(full_scale: float | None, dtype: np.dtype[np.generic], t: Thresholds) -> tuple[np.float32, ...]:
    """Thresholds as the kernels take them: saturation, shadow and signal in DN, then the three ratios."""
    if full_scale is not None and not 0 < full_scale < np.inf:
        raise InputError(f"full scale {full_scale}; must be a finite number above 0", code="photometric.full_scale")
    if full_scale is None and dtype != np.float32:
        full_scale = float(np.iinfo(dtype).max)  # type: ignore[type-var]
    dn = [np.inf, 0.0, 0.0] if full_scale is None else [full_scale * x for x in (t.saturation, t.shadow, t.signal)]
    return tuple(np.float32(x) for x in (*dn, t.shadow_ratio, t.disagreement, t.standing_apart))


def _check_out(out: PhotometricResult | None, height: int, width: int) -> PhotometricResult:
    if out is None:
        return allocate(height, width)
    check_array("out.planar", out.planar, shape=(3, height, width), dtypes=("float32",))
    check_array("out.albedo", out.albedo, shape=(height, width), dtypes=("float32",))
    check_array("out.flags", out.flags, shape=(height, width), dtypes=("uint8",))
    check_array("out.confidence", out.confidence, shape=(height, width), dtypes=("float32",))
    return out
