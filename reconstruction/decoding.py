"""Fringe decoding: the frames of one projector become the projector coordinate that each camera pixel sees.

Conventions of patterns, phase and order stand in :mod:`rakelight.reconstruction.patterns`. Every photosite is decoded by
itself, so that Bayer mosaics go in as they are.

*Phase*: least squares over the N steps; offset A and modulation B in DN follow from the same sums. *Order of a
Gray code*: bits against A, or against their inverse, and with the complementary bit each word is used only where it cannot change.
*Order of several periods*: every order of the finest period is tried; the one whose place fits all other phases best wins.

*Uncertainty*: sigma_px = period/2π · √(2/N) · σ_I(A)/B, with σ_I the noise of a value at the offset A (Surrel, "Additive
noise effect in digital phase detection", Applied Optics 36(1), 271-276, 1997; with shot noise the mean variance over the
steps counts, which is that at A).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction import _decoding_kernels as kernels
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.noise import NoiseModel, estimate_noise
from rakelight.reconstruction.patterns import Axis, GrayPhaseShift, MultiFrequency, PatternSet

__all__ = [
    "DEFAULT_SETTINGS",
    "Decoded",
    "Flag",
    "GrayDecoded",
    "NoiseModel",
    "Settings",
    "allocate",
    "decode",
    "decode_gray",
    "estimate_noise",
    "fold_bracket",
]

_BLOCK_PX = 1 << 19  # pixels decoded at a time where several periods need work memory
_MAPS = ("coordinate", "sigma_px", "modulation", "offset", "flags")


class Flag(IntFlag):
    """Bits of the per-pixel ``flags`` map (uint8); any of them makes the pixel invalid."""

    SATURATED = 1  #: a raw value of the phase shift at or above the saturation level
    DARK = 2  #: modulation too small, by itself or against the noise; the bits below are then left out
    ORDER = 4  #: which period it is, is not certain
    OUTSIDE = 8  #: the coordinate lies beyond the projector
    RESIDUAL = 16  #: the values do not follow the sinusoid: motion, interreflection, flicker


@dataclass(frozen=True)
class Settings:
    """What counts as good enough.

    Attributes
    ----------
    saturation : float
        Fraction of full scale at and above which a raw value counts as saturated.
    least_modulation : float
        Modulation B as a fraction of full scale.
    least_snr : float
        B divided by the noise of one value.
    gray_margin : float
        Distance of a Gray bit from its threshold as a fraction of B (1 is ideal). All bits but one must hold it everywhere, since
        only one bit changes at an edge; that one too away from the edges of the words.
    order_sigmas : float
        Several periods: the misfit of the second best order must exceed that of the best by this many standard deviations of
        the noisiest phase, and be twice as large. A Gray code without complementary bit: distance of the phase from the ends
        of a period, likewise.
    residual_sigmas, residual_share : float
        The root mean square of the fit's residual may be √((residual_sigmas · noise)² + (residual_share · B)²): noise,
        and what harmonics of the projector do on good surfaces.
    """

    saturation: float = SATURATION
    least_modulation: float = 0.01
    least_snr: float = 5.0
    gray_margin: float = 0.3
    order_sigmas: float = 4.0
    residual_sigmas: float = 4.0
    residual_share: float = 0.15

    def __post_init__(self) -> None:
        ranges = {
            "saturation": (0, 1), "least_modulation": (0, 0.5), "least_snr": (0, 1000), "gray_margin": (0, 1),
            "order_sigmas": (0, 100), "residual_sigmas": (0, np.inf), "residual_share": (0, np.inf),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"decoding {name} = {value}; allowed: {low:g} to {high:g}", code="fringes.setting")


DEFAULT_SETTINGS = Settings()


@dataclass(frozen=True, eq=False)
class Decoded:
    """What each camera pixel sees of the projector, (H, W) maps.

    Attributes
    ----------
    coordinate : float32
        Column or row of the projector in px (centre of a pixel at integer); NaN where invalid.
    sigma_px : float32
        Its standard deviation from the noise, projector px; NaN where invalid.
    modulation, offset : float32
        B and A of the (finest) phase shift in DN, everywhere.
    flags : uint8
        Bits of :class:`Flag`; 0 is valid.
    """

    coordinate: NDArray[np.float32]
    sigma_px: NDArray[np.float32]
    modulation: NDArray[np.float32]
    offset: NDArray[np.float32]
    flags: NDArray[np.uint8]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(H, W) mask of the pixels that have a coordinate."""
        return self.flags == 0

    def maps(self, rows: slice = slice(None)) -> tuple[NDArray[np.generic], ...]:
        """The maps in the order of the fields, as the kernels take them; views of some rows."""
        return tuple(getattr(self, name)[rows] for name in _MAPS)


def allocate(height: int, width: int) -> Decoded:
    """An unfilled result of the given size, to be passed as ``out`` and reused from direction to direction."""
    maps = (np.empty((height, width), np.uint8 if name == "flags" else np.float32) for name in _MAPS)
    return Decoded(*maps)


def decode(
    frames: NDArray[np.generic],
    pattern_set: PatternSet,
    axis: Axis = "column",
    *,
    full_scale: float,
    noise: NoiseModel | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    out: Decoded | None = None,
) -> Decoded:
    """Decode the images of one axis of a pattern set.

    Parameters
    ----------
    frames : (K, H, W) uint8 or uint16, C-contiguous
        The images of ``pattern_set.patterns`` in their order, those of all axes; further images behind them are ignored.
    axis : "column" or "row"
        Which coordinate.
    full_scale : float
        Largest raw value, for example 4095 for 12 bits.
    noise : NoiseModel, optional
        Noise of the values; default: estimated from the frames (better once a recording than once a direction).
    settings : Settings
        What counts as good enough.
    out : Decoded, optional
        Memory to reuse, from :func:`allocate`.

    Raises
    ------
    InputError
        ``input.…``: too few images, another dtype or layout; ``fringes.full_scale``; ``patterns.value``: an axis that the
        set does not show.
    """
    stack = _check_frames(frames, len(pattern_set.patterns), full_scale)
    result = _check_out(out, *stack.shape[1:])
    first = min(place for i in range(len(pattern_set.code.periods_px)) for place in pattern_set.phase_shift(axis, i))
    model = noise or estimate_noise(stack, pattern_set, axis, full_scale=full_scale)
    length = float(pattern_set.length(axis))
    levels = _levels(full_scale, model, settings)
    if isinstance(pattern_set.code, MultiFrequency):
        _decode_periods(stack, first, pattern_set.code, length, levels, settings, result)
    else:
        bits = len(pattern_set.gray_bits(axis))
        inverses = len(pattern_set.gray_bits(axis, inverted=True))
        _decode_gray_phase(stack, first - bits - inverses, bits, pattern_set.code, length, levels, settings, result)
    return result


def _decode_gray_phase(
    stack: Any,
    first: int,
    bits: int,
    code: GrayPhaseShift,
    length: float,
    levels: Any,
    settings: Settings,
    out: Decoded,
) -> None:
    kernel = kernels.gray_kernel(code.steps, bits, code.inverse, code.complementary)
    told = _floats(code.period_px, length, settings.gray_margin, settings.order_sigmas)
    kernel(stack, first, _waves(code.steps), levels, told, *out.maps())


def _decode_periods(
    stack: Any, first: int, code: MultiFrequency, length: float, levels: Any, settings: Settings, out: Decoded
) -> None:
    """Block by block of rows: every phase shift into work memory, then the orders."""
    periods, steps = code.periods_px, cast(tuple[int, ...], code.steps)
    height, width = out.flags.shape
    rows = min(height, max(1, _BLOCK_PX // width))
    turns, phase2 = (np.empty((len(periods), rows, width), np.float32) for _ in range(2))
    work = np.empty((3, rows, width), np.float32)
    search = kernels.order_kernel(len(periods) - 1)
    ratios = np.array([periods[0] / p for p in periods[1:]], np.float32)
    told = _floats(periods[0], length, settings.order_sigmas)
    out.flags.fill(0)
    for top in range(0, height, rows):
        block = slice(top, min(top + rows, height))
        n = block.stop - top
        x, sigma, modulation, offset, flags = out.maps(block)
        place = first
        for i, count in enumerate(steps):
            # Modulation and offset are those of the finest period; the work memory takes the others'.
            own = (modulation, offset) if i == 0 else (work[0, :n], work[1, :n])
            kernels.phase_kernel(count)(
                stack[:, block], place, _waves(count), levels, turns[i, :n], phase2[i, :n], *own, flags
            )
            place += count
        orders = int(np.ceil(length / periods[0])) + 2
        search(turns[:, :n], phase2[:, :n], ratios, told, orders, *work[:, :n], x, sigma, flags)


def fold_bracket(best: Decoded, other: Decoded) -> None:
    """Take over from ``other``, pixel by pixel and in place, what ``best`` lacks or knows less precisely.

    Both are decodings of the same view under different exposures; a pixel keeps the whole result of one of them, so that no
    phase sum mixes exposures. The valid one with the smaller ``sigma_px`` stays; where neither is valid the flags of
    both are joined. Modulation and offset are in DN of the exposure that was chosen.

    Raises
    ------
    InputError
        ``input.shape`` if their sizes differ.
    """
    for name in _MAPS:
        check_array(f"other.{name}", getattr(other, name), shape=best.flags.shape)
    kernels.fold(best.maps(), other.maps())


# ----------------------------------------------------------------------------------------------------------- plain Gray
class GrayDecoded(NamedTuple):
    """Words of a plain Gray code, (H, W) maps.

    ``word`` int32: the number of the stripe, everywhere (its first pixel is word · stripe width); ``margin`` and ``contrast``
    float32: smallest and largest difference between pattern and inverse in DN (with a threshold: twice the distance from
    it); ``valid`` bool.
    """

    word: NDArray[np.int32]
    margin: NDArray[np.float32]
    contrast: NDArray[np.float32]
    valid: NDArray[np.bool_]


def decode_gray(
    frames: NDArray[np.generic],
    *,
    threshold: NDArray[np.generic] | None = None,
    least_margin_dn: float,
    least_contrast_dn: float,
) -> GrayDecoded:
    """Decode a plain Gray code, most significant bit first, without a phase shift.

    Parameters
    ----------
    frames : (K, H, W) uint8 or uint16
        Without ``threshold`` pairs of pattern and inverse, K = 2 · bits; else one image a bit.
    threshold : (H, W), optional
        Level in DN above which a bit is 1, for example the mean of a white and a black image.
    least_margin_dn, least_contrast_dn : float
        A pixel is valid where smallest and largest difference exceed these.

    Raises
    ------
    InputError
        ``input.…``: shapes and dtypes; ``fringes.pairs``: an odd number of images without a threshold;
        ``fringes.setting``: negative limits.
    """
    stack = check_array("frames", frames, ndim=3, dtypes=("uint8", "uint16"))
    for name, value in (("least_margin_dn", least_margin_dn), ("least_contrast_dn", least_contrast_dn)):
        if not 0 <= value < np.inf:
            raise InputError(f"{name} = {value}; allowed: a finite number from 0", code="fringes.setting")
    if threshold is not None:
        threshold = check_array("threshold", threshold, shape=stack.shape[1:])
        threshold = np.ascontiguousarray(threshold, np.float32)
    count = len(stack)
    allowed = "1 to 30 images, one a bit" if threshold is not None else "2 to 60 images, pattern and inverse in turn"
    if not 0 < count <= (60 if threshold is None else 30) or (threshold is None and count % 2):
        raise InputError(
            f"{count} images of a Gray code; allowed: {allowed}",
            hint="pass a threshold if there are no inverted images",
            code="fringes.pairs",
        )
    shape = stack.shape[1:]
    result = GrayDecoded(
        np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.bool_)
    )
    kernels.gray_words(
        _read_only(np.ascontiguousarray(stack)), threshold, _floats(least_margin_dn, least_contrast_dn), *result
    )
    return result


# --------------------------------------------------------------------------------------------------------------- checks
def _levels(full_scale: float, noise: NoiseModel, s: Settings) -> tuple[np.float32, ...]:
    """What one fit is judged by, as the kernels take it."""
    return _floats(
        noise.read_dn**2, noise.dn_per_e, noise.black_dn, s.saturation * full_scale, s.least_modulation * full_scale,
        s.least_snr**2, s.residual_sigmas**2, s.residual_share**2,
    )  # fmt: skip


def _floats(*values: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(min(value, 3e38)) for value in values)


def _waves(steps: int) -> NDArray[np.float32]:
    """cos δ_k and sin δ_k of the steps, (2, N)."""
    angles = 2 * np.pi * np.arange(steps) / steps
    return np.array([np.cos(angles), np.sin(angles)], np.float32)


def _check_frames(frames: NDArray[np.generic], count: int, full_scale: float) -> NDArray[np.generic]:
    stack = check_array("frames", frames, ndim=3, dtypes=("uint8", "uint16"))
    if len(stack) < count:
        raise InputError(
            f"{len(stack)} frames for a pattern set of {count} images; allowed: {count} or more",
            hint="pass the images of all axes, in the order of PatternSet.patterns",
            code="input.shape",
        )
    if not stack.size:
        raise InputError(f"frames have shape {stack.shape}; at least one pixel is needed", code="input.shape")
    if not stack.flags.c_contiguous:
        raise InputError(
            f"frames have strides {stack.strides}; a C-contiguous array is needed",
            hint="use np.ascontiguousarray",
            code="input.layout",
        )
    most = float(np.iinfo(cast(Any, stack.dtype)).max)
    if not 0 < full_scale <= most:
        raise InputError(
            f"full scale {full_scale}; allowed for {stack.dtype}: above 0, at most {most:g}", code="fringes.full_scale"
        )
    return _read_only(stack)


def _read_only(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A view that cannot be written: kernels are compiled once instead of once for each mix of flags."""
    view = array.view()
    view.flags.writeable = False
    return view


def _check_out(out: Decoded | None, height: int, width: int) -> Decoded:
    if out is None:
        return allocate(height, width)
    for name in _MAPS:
        dtype = "uint8" if name == "flags" else "float32"
        array = check_array(f"out.{name}", getattr(out, name), shape=(height, width), dtypes=(dtype,))
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise InputError(f"out.{name} is not a writable C-contiguous array", code="input.layout")
    return out
