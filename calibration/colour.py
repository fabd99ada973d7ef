"""White balance and tone of the 8-bit pictures, fixed by the calibration and never taken from a picture.

What a picture shows of a raw value v (share of full scale) in channel c is tone((v − black_c)/(0.98 − black_c) · gain_c /
smallest gain), clipped to 0 … 1; 0.98 of full scale counts as saturated everywhere in rakelight. The division lets every
channel of a saturated photosite end at 255, so that highlights turn white and never pink.

White is the full scale of the frame: exposure and gain of the camera are not undone. A recipe sets them once for a product,
so the pictures of one product compare, while a steel part and a black one, whose exposures differ a hundredfold, both show
something. Who compares across recipes finds exposure and gain of every frame in the recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.calibration._white_frames import FRAME_DTYPES, MAX_SATURATED_FRACTION, MIN_WHITE
from rakelight.calibration.flat_field import MAX_DARK
from rakelight.errors import CalibrationError
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.tone import Tone, Triple, tone_tables

GAINS = (0.25, 4.0)
"""Least and greatest gain of red and blue against green that can be: beyond, plate or light are coloured."""
USUAL_GAINS = (0.5, 3.0)
"""What Bayer filters under white lights need; beyond it there is a warning."""
MAX_HUE_SPREAD = 0.03
"""Of the ratio of two channels: across the field (95 % of it) and from light to light; beyond it there is a warning."""
MAX_BLACK_SPREAD = 0.001
"""Of full scale, between the channels' black levels: a sensor's is one; beyond it there is a warning."""
_BLOCKS = 32  # of the longer side
_SITES = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}
_LEAST_LIGHT = 0.25  # of the median: darker blocks say nothing of the hue

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Colour:
    """White balance, black level and tone curve of a Bayer camera under the rig's lights.

    Parameters
    ----------
    gains : (float, float, float)
        What linear R, G, B above black are multiplied by so that white is grey; green is 1, the others 0.25 to 4.
    black : (float, float, float)
        Level of R, G, B without light, as share of full scale; 0 to 0.2.
    tone : "srgb" or "linear"
        Curve of the pictures: IEC 61966-2-1, or none.

    Raises
    ------
    CalibrationError
        ``calibration.colour_invalid``.
    """

    gains: Triple
    black: Triple = (0.0, 0.0, 0.0)
    tone: Tone = "srgb"

    def __post_init__(self) -> None:
        object.__setattr__(self, "gains", _triple("gains of R, G, B", self.gains, GAINS))
        object.__setattr__(self, "black", _triple("black level of R, G, B", self.black, (0.0, MAX_DARK)))
        if self.gains[1] != 1:
            raise _invalid("gain of green", self.gains[1], "1, red and blue are relative to it")
        if self.tone not in ("srgb", "linear"):
            raise _invalid("tone", self.tone, "'srgb' or 'linear'")

    def tables(self) -> NDArray[np.uint8]:
        """The pictures' tables, as :func:`rakelight.reconstruction.development.develop` takes them."""
        red, green, blue = (gain / min(self.gains) for gain in self.gains)
        return tone_tables((red, green, blue), self.black, SATURATION, self.tone)


@dataclass(frozen=True)
class WhiteBalance:
    """A colour and how sure it is: relative deviations of red and blue against green.

    ``field_spread`` across the field (95 % of it), ``light_spread`` from light to light (None of a single one).
    """

    colour: Colour
    field_spread: float
    light_spread: float | None
    warnings: tuple[str, ...] = ()

    @property
    def hue_spread(self) -> float:
        """The larger of the two."""
        return max(self.field_spread, self.light_spread or 0.0)


def measure_colour(
    whites: Iterable[tuple[str, NDArray[Any], NDArray[Any] | float]],
    pattern: str | None,
    full_scale: float,
    black: NDArray[Any] | float = 0.0,
) -> WhiteBalance | None:
    """White balance from frames of a matte white or grey plate that fills the field.

    The frame is averaged in blocks, photosites of one colour apart; gains are medians over the blocks of the middle half
    of the field, of the light of all frames together. Print, dust and dead photosites thus change nothing.

    Parameters
    ----------
    whites : iterable of (name, frame, level)
        Raw (H, W) uint8, uint16 or float32 frames in DN, linear, one a light or one under all, streamed; and what lies
        below each, (H, W) or one number, in DN: black level and room.
    pattern : {"RG", "GR", "GB", "BG"} or None
        Colours of the first two photosites; None for a camera without colour.
    full_scale : float
        Largest DN of the camera, for example 4095.
    black : (H, W) array or float
        Frame without any light, in DN.

    Returns
    -------
    WhiteBalance, or None for a camera without colour.

    Raises
    ------
    CalibrationError
        ``calibration.colour_saturated`` (over 0.5 % of the middle at 98 % of full scale), ``calibration.colour_dark`` (the
        weakest channel below 5 % of full scale), ``calibration.colour_not_white`` (a gain beyond 0.25 to 4: a coloured
        plate or light; a plate of a slighter tint cannot be told from a tint of the lights), ``calibration.colour_invalid``
        (no frame, an unknown pattern, black level above 20 %).
    InputError
        Dtypes and shapes that do not fit.
    """
    if pattern is None:
        return None
    if pattern not in _SITES:
        raise _invalid("Bayer pattern", pattern, ", ".join(_SITES))
    gains: list[FloatArray] = []
    total: FloatArray | None = None
    for name, frame, level in whites:
        light, usable = _above(name, frame, level, pattern, full_scale)
        gains.append(_gains(light, usable, name))
        light[~usable] = np.nan
        total = light if total is None else total + light
    if total is None:
        raise _invalid("number of white frames", 0, "1 or more")
    usable = np.asarray(np.isfinite(total).all(axis=2))
    red, blue = (float(g) for g in _gains(total, usable, "the white plate"))
    _check_gains(red, blue)
    field = _field_spread(total, usable, (red, blue))
    between = float(np.abs(np.array(gains) / (red, blue) - 1).max()) if len(gains) > 1 else None
    warnings = [
        f"white balance: red and blue against green vary by {spread:.1%} {where}; expected: at most {MAX_HUE_SPREAD:.0%}"
        for spread, where in ((field, "across the white plate"), (between or 0.0, "from light to light"))
        if spread > MAX_HUE_SPREAD
    ]
    colour = Colour((round(red, 5), 1.0, round(blue, 5)), _black(black, np.shape(frame), pattern, full_scale))
    warnings += [
        f"white balance: the white plate needs a gain of {gain:.2f} in {name}; usual under white lights: {USUAL_GAINS[0]:g} to "
        f"{USUAL_GAINS[1]:g}. Is the plate white?"
        for name, gain in (("red", red), ("blue", blue))
        if not USUAL_GAINS[0] <= gain <= USUAL_GAINS[1]
    ]
    if (apart := max(colour.black) - min(colour.black)) > MAX_BLACK_SPREAD:
        warnings.append(
            f"the black level of the pictures differs by {apart:.2%} of full scale from channel to channel: the frames without "
            "light hold light of the room, and shadows come out too dark; record dark frames with the lens covered"
        )
    return WhiteBalance(colour, field, between, tuple(warnings))


def _above(
    name: str, frame: NDArray[Any], level: NDArray[Any] | float, pattern: str, full_scale: float
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Means of R, G, B above ``level`` in blocks, (rows, columns, 3), and which of these hold no clipped light."""
    check_array(name, frame, ndim=2, dtypes=FRAME_DTYPES)
    if min(frame.shape) < 16:
        raise _invalid(f"size of {name}", f"{frame.shape[1]}×{frame.shape[0]} px", "16×16 px or more")
    if np.ndim(level):
        check_array(f"level below {name}", level, shape=frame.shape)
    clipped = (frame >= SATURATION * full_scale).view(np.uint8)
    share = _site_means(clipped).mean(axis=(2, 3))
    worst = float(_middle(share).mean())
    if worst > MAX_SATURATED_FRACTION:
        raise CalibrationError(
            f"{name}: {worst:.2%} of the middle of the white plate are saturated (at least {SATURATION:.0%} of full scale "
            f"{full_scale:g}); allowed: {MAX_SATURATED_FRACTION:.1%}",
            hint="lower the exposure or the light until the white plate peaks at 70-80 % of full scale",
            code="calibration.colour_saturated",
        )
    light = _channels(np.subtract(frame, level, dtype=np.float32), pattern)
    weakest = float(np.median(_middle(light), axis=(0, 1)).min())
    if not weakest >= MIN_WHITE * full_scale:
        raise CalibrationError(
            f"{name}: the weakest channel of the white plate is {weakest:.1f} DN above black, {weakest / full_scale:.1%} of full "
            f"scale {full_scale:g}; needed: at least {MIN_WHITE:.0%}",
            hint="check that the light is on and lengthen the exposure; a coloured plate will not do",
            code="calibration.colour_dark",
        )
    lit = light.min(axis=2) >= _LEAST_LIGHT * weakest
    return light, np.logical_and(lit, share <= MAX_SATURATED_FRACTION)


def _gains(light: FloatArray, usable: NDArray[np.bool_], name: str) -> FloatArray:
    """(2,) gains of red and blue: medians over the usable blocks of the middle."""
    middle = _middle(light)[_middle(usable)]
    if not len(middle):
        raise CalibrationError(
            f"{name}: no field of the middle of the white plate is evenly lit and unclipped",
            hint="lay a matte white plate that fills the field, and nothing on it",
            code="calibration.colour_dark",
        )
    return np.asarray(np.median(middle[:, 1:2] / middle[:, ::2], axis=0))


def _check_gains(red: float, blue: float) -> None:
    for name, gain in (("red", red), ("blue", blue)):
        if not GAINS[0] <= gain <= GAINS[1]:
            raise CalibrationError(
                f"the white plate needs a gain of {gain:.2f} in {name} to be white; allowed: {GAINS[0]:g} to {GAINS[1]:g}",
                hint="use a white or grey plate under the rig's white lights; does the pixel format name the right Bayer pattern?",
                code="calibration.colour_not_white",
            )


def _field_spread(light: FloatArray, usable: NDArray[np.bool_], gains: tuple[float, float]) -> float:
    """By how much red and blue, balanced, deviate from green: 95th percentile over the blocks."""
    blocks = light[usable]
    off = np.abs(blocks[:, ::2] * gains / blocks[:, 1:2] - 1).max(axis=1)
    return float(np.percentile(off, 95))


def _black(level: NDArray[Any] | float, shape: tuple[int, ...], pattern: str, full_scale: float) -> Triple:
    """Median over the field of each channel, as share of full scale."""
    if not np.ndim(level):
        share = np.full(3, float(level)) / full_scale
    else:
        dark = check_array("frame without light", level, shape=shape).astype(np.float32)
        share = np.median(_channels(dark, pattern), axis=(0, 1)) / full_scale
    red, green, blue = (round(float(v), 6) for v in share)
    return red, green, blue


def _channels(mosaic: NDArray[np.float32], pattern: str) -> FloatArray:
    """(rows, columns, 3): means of the R, G, B photosites in each block."""
    sites = _site_means(mosaic).reshape(*_grid(mosaic)[:2], 4)
    colours = _SITES[pattern]
    chosen = [[k for k in range(4) if colours[k] == name] for name in "RGB"]
    return np.stack([sites[..., c].mean(axis=2) for c in chosen], axis=2)


def _site_means(mosaic: NDArray[Any]) -> FloatArray:
    """(rows, columns, 2, 2): mean of each photosite of the cells of a block; what is left at the border is left out."""
    down, across, side = _grid(mosaic)
    cells = mosaic[: down * side, : across * side].reshape(down, side // 2, 2, across, side // 2, 2)
    return np.asarray(cells.mean(axis=(1, 4), dtype=np.float64).transpose(0, 2, 1, 3))


def _grid(mosaic: NDArray[Any]) -> tuple[int, int, int]:
    """Blocks down and across, and their side in px: even, so that each holds whole cells."""
    rows, columns = mosaic.shape
    side = max(2, 2 * round(max(rows, columns) / (2 * _BLOCKS)))
    return rows // side, columns // side, side


def _middle(blocks: NDArray[Any]) -> NDArray[Any]:
    """The middle half of the field, each way."""
    rows, columns = blocks.shape[:2]
    return blocks[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]


def _triple(name: str, values: Any, allowed: tuple[float, float]) -> Triple:
    low, high = allowed
    numbers = tuple(values) if isinstance(values, list | tuple) else ()
    real = all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers)
    if len(numbers) != 3 or not real or not all(math.isfinite(v) and low <= v <= high for v in numbers):
        raise _invalid(name, values, f"three numbers from {low:g} to {high:g}")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _invalid(name: str, value: object, allowed: str) -> CalibrationError:
    return CalibrationError(
        f"colour: {name} is {value!r}; allowed: {allowed}",
        hint="measure the white balance again from its white plate",
        code="calibration.colour_invalid",
    )
