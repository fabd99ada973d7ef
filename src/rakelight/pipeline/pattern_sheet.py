"""One picture of a pattern set: a thumbnail of every image, and the profiles along the first columns or rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rakelight.pipeline.contact_sheet import Panel, colour_table, contact_sheet
from rakelight.reconstruction.patterns import Axis, Gray, Pattern, PatternSet, Sinusoid

Rgb = NDArray[np.uint8]

_THUMB_PX = 176
_PLOT_PX = 64  # columns or rows shown at least, and at least four of the finest periods
_COLUMNS, _FRAME_PX = 8, 84  # thumbnails per row; what a sheet of one panel adds to the panel's width
_LABEL, _AXIS, _RIGHT = 150, 44, 16  # px left of, below and right of the plot
_BIT_LANE, _SINE_LANE, _LANE_GAP = 24, 150, 10
_GROUND, _LANE, _LINE = (14, 15, 18), (24, 27, 32), (66, 72, 82)
_TEXT, _FAINT, _BIT = (196, 201, 208), (139, 146, 156), (240, 196, 84)
_SMOOTH = 3  # curves are drawn this much larger and reduced by area


def pattern_sheet(patterns: PatternSet) -> Rgb:
    """All images of a set, small, and below them their profiles along each axis, (height, width, 3) uint8 RGB."""
    columns = _COLUMNS if len(patterns.patterns) <= 8 * _COLUMNS else 2 * _COLUMNS
    panels = [
        Panel(f"{number} {_title(pattern)}", _thumbnail(pattern, patterns), _caption(pattern))
        for number, pattern in enumerate(patterns.patterns, 1)
    ]
    title = f"Pattern set: {len(panels)} images for a projector of {patterns.width}×{patterns.height} px"
    upper = contact_sheet(panels, title, columns=columns, panel_width=_THUMB_PX)
    width = max(upper.shape[1], 1200)
    plots = [
        Panel(f"Profiles, first {_shown(patterns, axis)} {axis}s", profile_plot(patterns, axis, width - _FRAME_PX))
        for axis in patterns.axes
    ]
    footer = [patterns.description(), "numbers count the images in capture order; values are linear light, 0 to 1"]
    lower = contact_sheet(plots, "", footer, columns=1, panel_width=width - _FRAME_PX)
    ground = upper[0, 0]
    sheet = np.empty((upper.shape[0] + lower.shape[0] - 40, width, 3), np.uint8)
    sheet[:] = ground
    sheet[: upper.shape[0], : upper.shape[1]] = upper
    sheet[upper.shape[0] :] = lower[40:]  # without the room for a title
    return sheet


def profile_plot(patterns: PatternSet, axis: Axis, width: int) -> Rgb:
    """Values along ``axis``, (height, ``width``, 3): a lane for each Gray bit, one for each phase shift with its N curves.

    Upright lines stand at the edges of the finest period, x = m·period − 0.5.
    """
    count = _shown(patterns, axis)
    lanes = _lanes(patterns, axis)
    heights = [_SINE_LANE if isinstance(lane[0], Sinusoid) else _BIT_LANE for lane in lanes]
    tops = np.cumsum([_LANE_GAP, *(h + _LANE_GAP for h in heights)])[:-1]
    height = int(tops[-1]) + heights[-1] + _AXIS
    scale = (width - _LABEL - _RIGHT) / count
    large = Image.new("RGB", (width * _SMOOTH, height * _SMOOTH), _GROUND)
    draw = ImageDraw.Draw(large)
    for top, lane_height in zip(tops, heights, strict=True):
        box = np.array([_LABEL, top, width - _RIGHT, top + lane_height]) * _SMOOTH
        draw.rectangle(tuple(int(v) for v in box), fill=_LANE)
    finest = patterns.code.periods_px[0]
    for edge in np.arange(0, count + 1e-9, finest):
        x = round((_LABEL + edge * scale) * _SMOOTH)
        draw.line((x, 0, x, (height - _AXIS) * _SMOOTH), fill=_LINE, width=_SMOOTH)
    for lane, top, lane_height in zip(lanes, tops, heights, strict=True):
        for number, pattern in enumerate(lane):
            values = pattern.profile(patterns.length(axis))[:count]
            _curve(draw, values, pattern, (_LABEL, float(top), scale, lane_height), _colour(pattern, number, len(lane)))
    plot = large.resize((width, height), Image.Resampling.BOX)
    _letter(ImageDraw.Draw(plot), [_lane_label(lane) for lane in lanes], tops, heights, (count, scale, height), axis)
    return np.asarray(plot).copy()


def _curve(
    draw: ImageDraw.ImageDraw,
    values: NDArray[np.float32],
    pattern: Pattern,
    frame: tuple[float, float, float, float],
    colour: tuple[int, int, int],
) -> None:
    """A staircase of pixels for a Gray bit, a curve through the pixels' centres for a sinusoid."""
    left, top, scale, height = frame
    y = top + 3 + (1 - values.astype(np.float64)) * (height - 6)
    at = np.arange(len(values), dtype=np.float64)  # left edges of the pixels
    if isinstance(pattern, Sinusoid):
        points = np.stack([left + (at + 0.5) * scale, y], axis=1)
    else:
        points = np.stack([left + np.stack([at, at + 1], axis=1) * scale, np.stack([y, y], axis=1)], axis=2)
    draw.line([tuple(p) for p in points.reshape(-1, 2) * _SMOOTH], fill=colour, width=2 * _SMOOTH, joint="curve")


def _letter(
    draw: ImageDraw.ImageDraw,
    labels: Sequence[str],
    tops: NDArray[np.int64],
    heights: Sequence[int],
    frame: tuple[int, float, int],
    axis: Axis,
) -> None:
    """Names of the lanes, and the coordinate below them."""
    count, scale, height = frame
    for label, top, lane_height in zip(labels, tops, heights, strict=True):
        draw.text((_LABEL - 12, int(top) + lane_height / 2), label, fill=_TEXT, font=_font(15), anchor="rm")
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096) if count / s <= 24)
    for x in range(0, count, step):
        place = _LABEL + (x + 0.5) * scale
        draw.line((place, height - _AXIS + 4, place, height - _AXIS + 9), fill=_FAINT)
        draw.text((place, height - _AXIS + 12), str(x), fill=_TEXT, font=_font(14), anchor="ma")
    draw.text((_LABEL - 12, height - _AXIS + 12), f"{axis} (px)", fill=_FAINT, font=_font(14), anchor="ra")


def _lanes(patterns: PatternSet, axis: Axis) -> list[list[Pattern]]:
    """Images that share a lane: each Gray bit alone (inverted ones left out), each phase shift whole."""
    bits = [[patterns.patterns[i]] for i in patterns.gray_bits(axis)]
    shifts = [patterns.phase_shift(axis, n) for n in range(len(patterns.code.periods_px))]
    return bits + [[patterns.patterns[i] for i in shift] for shift in shifts]


def _shown(patterns: PatternSet, axis: Axis) -> int:
    return min(patterns.length(axis), max(_PLOT_PX, round(4 * patterns.code.periods_px[0])))


def _thumbnail(pattern: Pattern, patterns: PatternSet) -> NDArray[np.uint8]:
    """The image reduced by area along its axis: no full-size image is made."""
    scale = min(_THUMB_PX / patterns.width, 1.25 * _THUMB_PX / patterns.height)
    width, height = (max(1, round(side * scale)) for side in (patterns.width, patterns.height))
    line = pattern.profile(patterns.length(pattern.axis))[None]
    length = height if pattern.axis == "row" else width
    method = cv2.INTER_AREA if length < line.shape[1] else cv2.INTER_NEAREST
    grey = np.rint(255 * cv2.resize(line, (length, 1), interpolation=method)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey.T if pattern.axis == "row" else grey, (height, width)))


def _title(pattern: Pattern) -> str:
    if isinstance(pattern, Gray):
        return f"Gray bit {pattern.bit}"
    return f"shift {pattern.step} of {pattern.steps}" if isinstance(pattern, Sinusoid) else "uniform"


def _caption(pattern: Pattern) -> str:
    if isinstance(pattern, Gray):
        return f"{pattern.axis}, {pattern.word_px} px words" + (", inverted" if pattern.inverted else "")
    return f"{pattern.axis}, period {pattern.period_px:g} px" if isinstance(pattern, Sinusoid) else ""


def _lane_label(lane: Sequence[Pattern]) -> str:
    first = lane[0]
    return f"{len(lane)} shifts, {first.period_px:g} px" if isinstance(first, Sinusoid) else _title(first)


def _colour(pattern: Pattern, number: int, count: int) -> tuple[int, int, int]:
    if not isinstance(pattern, Sinusoid):
        return _BIT
    red, green, blue = colour_table("viridis")[70 + round(180 * number / max(1, count - 1))].tolist()
    return red, green, blue


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
