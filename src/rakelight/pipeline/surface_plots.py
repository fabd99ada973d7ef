"""Drawn panels of the surface sheet: a section through the part with axes, and the table of how directions agree.

Everything is drawn at the size it is shown, so that letters stay sharp. The built-in font has no µ: micrometres are "um".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rakelight.pipeline.contact_sheet import Panel
from rakelight.reconstruction.direction_checks import PairBias

Rgb = NDArray[np.uint8]
Colour = tuple[int, int, int]

_GROUND, _LANE, _LINE = (14, 15, 18), (24, 27, 32), (52, 57, 65)
_TEXT, _FAINT = (196, 201, 208), (139, 146, 156)
# Okabe and Ito's colours, told apart by every kind of colour vision (https://jfly.uni-koeln.de/color/).
MEASURED, TRUE, WARNING = (86, 180, 233), (150, 100, 10), (230, 120, 40)
_LEFT, _RIGHT, _BELOW, _ABOVE, _BETWEEN = 66, 14, 46, 26, 14  # px around and between the lanes
_ERROR_LANE = 0.3  # of the height for the deviation from truth
_SMOOTH = 3  # curves are drawn this much larger and reduced by area


@dataclass(frozen=True)
class Section:
    """Heights along one row or column of a map.

    Attributes
    ----------
    at_mm, height_mm : (N,)
        Ascending positions; NaN heights leave a gap.
    axis : str
        What the positions are, for example ``"x (mm)"``.
    true_mm : (N,), optional
        Heights as they are known to be.
    """

    at_mm: NDArray[np.floating[Any]]
    height_mm: NDArray[np.float32]
    axis: str
    true_mm: NDArray[np.float32] | None = None


def section_plot(section: Section, size: tuple[int, int], *, error_limit_um: float = 10.0) -> Rgb:
    """The section as a curve over axes in mm, (height, width, 3); below it, if truth is known, the deviation in µm.

    Where several samples fall on one column of the plot, their range is a band and their mean the line.
    """
    width, height = size
    room = height - _ABOVE - _BELOW
    with_error = section.true_mm is not None
    upper = round(room * (1 - _ERROR_LANE)) - _BETWEEN if with_error else room
    span = float(section.at_mm[0]), float(section.at_mm[-1])
    low, high = _range(section.height_mm, section.true_mm)
    lanes = [_Lane((_LEFT, _ABOVE, width - _RIGHT, _ABOVE + upper), span, (low, high), "height (mm)")]
    if with_error:
        limits = -error_limit_um, error_limit_um
        lanes.append(
            _Lane((_LEFT, _ABOVE + upper + _BETWEEN, width - _RIGHT, height - _BELOW), span, limits, "error (um)")
        )
    large = Image.new("RGB", (width * _SMOOTH, height * _SMOOTH), _GROUND)
    draw = ImageDraw.Draw(large)
    for lane in lanes:
        lane.frame(draw, _ticks(*span, 8), _ticks(*lane.limits, 5))
    if section.true_mm is not None:
        lanes[0].curve(draw, section.at_mm, section.true_mm, TRUE, 6)
        lanes[1].curve(draw, section.at_mm, 1000 * (section.height_mm - section.true_mm), MEASURED, 1)
    lanes[0].curve(draw, section.at_mm, section.height_mm, MEASURED, 2)
    plot = large.resize((width, height), Image.Resampling.BOX)
    draw = ImageDraw.Draw(plot)
    for lane in lanes:
        lane.letter(draw, _ticks(*lane.limits, 5))
    for at in (ticks := _ticks(*span, 8)):
        draw.text((lanes[0].x(at), height - _BELOW + 6), _label(at, ticks), fill=_TEXT, font=font(14), anchor="ma")
    draw.text(((_LEFT + width - _RIGHT) / 2, height - 4), section.axis, fill=_FAINT, font=font(14), anchor="mb")
    entries = [("measured", MEASURED), *([("true", TRUE)] if with_error else [])]
    legend(draw, (width - _RIGHT, 4), entries)
    return np.asarray(plot).copy()


@dataclass(frozen=True)
class _Lane:
    """One pair of axes: the box in px, what its sides mean, and what the vertical one is called."""

    box: tuple[int, int, int, int]
    span: tuple[float, float]
    limits: tuple[float, float]
    name: str

    def x(self, at: Any) -> Any:
        return self.box[0] + (at - self.span[0]) / (self.span[1] - self.span[0]) * (self.box[2] - self.box[0])

    def y(self, value: Any) -> Any:
        return self.box[3] - (value - self.limits[0]) / (self.limits[1] - self.limits[0]) * (self.box[3] - self.box[1])

    def frame(self, draw: ImageDraw.ImageDraw, across: Sequence[float], up: Sequence[float]) -> None:
        left, top, right, bottom = (side * _SMOOTH for side in self.box)
        draw.rectangle((left, top, right, bottom), fill=_LANE)
        for at in across:
            x = round(self.x(at) * _SMOOTH)
            draw.line((x, top, x, bottom), fill=_LINE, width=_SMOOTH)
        for value in up:
            y = round(self.y(value) * _SMOOTH)
            draw.line((left, y, right, y), fill=_FAINT if value == 0 else _LINE, width=_SMOOTH)

    def curve(
        self,
        draw: ImageDraw.ImageDraw,
        at: NDArray[np.floating[Any]],
        values: NDArray[np.float32],
        colour: Colour,
        width: float,
    ) -> None:
        at, low, mean, high = _binned(at, values, self.box[2] - self.box[0])
        known = np.isfinite(mean)
        x = self.x(at) * _SMOOTH
        low, mean, high = (self.y(np.clip(v, *self.limits)) * _SMOOTH for v in (low, mean, high))
        dim = (colour[0] // 2, colour[1] // 2, colour[2] // 2)
        for i in np.flatnonzero(known & (low - high > 1)):
            draw.line((x[i], low[i], x[i], high[i]), fill=dim, width=_SMOOTH)
        # Runs of known values; a gap in the surface stays one in the curve.
        edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
        for first, end in edges.reshape(-1, 2):
            points = [(float(a), float(b)) for a, b in zip(x[first:end], mean[first:end], strict=True)]
            if len(points) == 1:
                points = [points[0], (points[0][0] + 1, points[0][1])]
            draw.line(points, fill=colour, width=round(width * _SMOOTH), joint="curve")

    def letter(self, draw: ImageDraw.ImageDraw, up: Sequence[float]) -> None:
        left, top, _, _ = self.box
        for value in up:
            draw.text((left - 6, self.y(value)), _label(value, up), fill=_TEXT, font=font(14), anchor="rm")
        if top == _ABOVE:
            draw.text((8, 4), self.name, fill=_FAINT, font=font(14), anchor="la")
        else:
            draw.text((left + 6, top + 3), self.name, fill=_FAINT, font=font(13), anchor="la")


def pair_table(pairs: Sequence[PairBias], width: int) -> Rgb:
    """Pairs of directions as rows: pixels, median difference and its expected error in µm, and both on a common scale."""
    head, step = 40, 44
    image = Image.new("RGB", (width, head + step * len(pairs) + 54), _GROUND)
    draw = ImageDraw.Draw(image)
    columns = [(0.03, "la", "pair"), (0.26, "ra", "pixels"), (0.43, "ra", "median, um"), (0.59, "ra", "expected")]
    for at, anchor, name in columns:
        draw.text((at * width, 12), name, fill=_FAINT, font=font(15), anchor=anchor)
    known = [p for p in pairs if math.isfinite(p.median_mm)]
    reach = max([2 * p.expected_mm + abs(p.median_mm) for p in known], default=0.001) * 1000
    limit = _nice(max(reach, 0.5))
    left, right = 0.63 * width, 0.97 * width
    bottom = head + step * len(pairs) + 4

    def place(um: float) -> float:
        return (left + right) / 2 + um / limit * (right - left) / 2

    draw.rectangle((left, head - 4, right, bottom), fill=_LANE)
    for um in (-limit, 0.0, limit):
        draw.line((place(um), head - 4, place(um), bottom), fill=_FAINT if um == 0 else _LINE)
        draw.text((place(um), bottom + 6), f"{um:+g}" if um else "0", fill=_TEXT, font=font(14), anchor="ma")
    draw.text(
        ((left + right) / 2, bottom + 24), "median, bar: ±2 expected (um)", fill=_FAINT, font=font(14), anchor="ma"
    )
    for number, pair in enumerate(pairs):
        y = head + step * (number + 0.5)
        colour = WARNING if pair.significant else MEASURED
        cells = [f"{pair.a} - {pair.b}", f"{pair.pixels:,}", "too few", ""]
        if pair in known:
            cells[2:] = f"{round(1000 * pair.median_mm, 2) + 0.0:+.2f}", f"±{1000 * pair.expected_mm:.2f}"
        for (at, anchor, _), cell in zip(columns, cells, strict=True):
            draw.text((at * width, y), cell, fill=_TEXT, font=font(16), anchor=anchor[0] + "m")
        if pair in known:
            middle, half = place(1000 * pair.median_mm), 2000 * pair.expected_mm / limit * (right - left) / 2
            draw.line((middle - half, y, middle + half, y), fill=colour, width=3)
            draw.ellipse((middle - 6, y - 6, middle + 6, y + 6), fill=colour)
        if pair.significant:
            draw.text((0.03 * width, y + 10), "does not fit", fill=WARNING, font=font(13), anchor="la")
    return np.asarray(image).copy()


# ------------------------------------------------------------------------------------------------------------- pictures
def fitted(image: Rgb, width: int) -> Rgb:
    """An RGB image at the size it is shown: by area when it shrinks, in plain pixels when it grows."""
    rows, columns = image.shape[:2]
    scale = min(width / columns, 1.25 * width / rows)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST), np.uint8
    )


def with_scale(panel: Panel, field_mm: float, width: int) -> Panel:
    """The panel's picture at its final size, with a bar of a round length in mm at the bottom left."""
    picture = Image.fromarray(fitted(panel.image, width))
    draw = ImageDraw.Draw(picture)
    px_per_mm = picture.width / field_mm
    length = nice_below(0.25 * field_mm)
    x, y = 14, picture.height - 16
    right = x + round(length * px_per_mm)
    draw.rectangle((x - 6, y - 26, max(right, x + font(15).getlength(f"{length:g} mm")) + 6, y + 9), fill=(0, 0, 0))
    draw.rectangle((x, y, right, y + 3), fill=(255, 255, 255))
    draw.text((x, y - 4), f"{length:g} mm", fill=(255, 255, 255), font=font(15), anchor="lb")
    return replace(panel, image=np.asarray(picture).copy())


def framed(panel: Panel, box: tuple[float, float, float, float]) -> Panel:
    """The panel with a frame (left, top, right, bottom in px of its picture)."""
    picture = Image.fromarray(panel.image)
    draw = ImageDraw.Draw(picture)
    draw.rectangle(box, outline=(0, 0, 0), width=4)
    draw.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), outline=(255, 255, 255), width=2)
    return replace(panel, image=np.asarray(picture).copy())


def mark_lines(picture: Rgb, y: float, x: float) -> Rgb:
    """Dashed lines A (across) and B (down), each with its letter at both ends."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for at in range(0, max(image.size), 12):
        draw.line((at, y, at + 6, y), fill=(86, 220, 255))
        draw.line((x, at, x, at + 6), fill=(86, 220, 255))
    for letter, ends in (("A", ((12, y), (image.width - 12, y))), ("B", ((x, 12), (x, image.height - 12)))):
        for end in ends:
            draw.ellipse((end[0] - 11, end[1] - 11, end[0] + 11, end[1] + 11), fill=(0, 0, 0))
            draw.text(end, letter, fill=(86, 220, 255), font=font(16), anchor="mm")
    return np.asarray(image).copy()


def labelled(picture: Rgb, text: str, colour: tuple[int, int, int]) -> Rgb:
    """The picture under a strip with its name."""
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + 24), (14, 15, 18))
    image.paste(Image.fromarray(picture), (0, 24))
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 5, 18, 18), fill=colour)
    draw.text((26, 3), text, fill=(196, 201, 208), font=font(15))
    return np.asarray(image).copy()


def with_key(picture: Rgb, entries: Sequence[tuple[str, Any]]) -> Rgb:
    """The picture above a line of coloured patches with their meaning."""
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + 30), (14, 15, 18))
    image.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(image)
    each = image.width / len(entries)
    for number, (text, colour) in enumerate(entries):
        x, y = 6 + number * each, picture.shape[0] + 8
        draw.rectangle((x, y, x + 14, y + 14), fill=colour)
        draw.text((x + 20, y - 2), text, fill=(196, 201, 208), font=font(15))
    return np.asarray(image).copy()


# -------------------------------------------------------------------------------------------------------------- shared
@cache
def font(size: int) -> Any:
    return ImageFont.load_default(size)


def legend(draw: ImageDraw.ImageDraw, corner: tuple[float, float], entries: Sequence[tuple[str, Colour]]) -> None:
    """Names with a patch of their colour, in one line that ends at ``corner`` (right, top)."""
    x, y = corner
    for name, colour in reversed(entries):
        x -= font(14).getlength(name)
        draw.text((x, y), name, fill=_TEXT, font=font(14), anchor="la")
        draw.rectangle((x - 20, y + 3, x - 6, y + 13), fill=colour)
        x -= 36


def _binned(
    at: NDArray[np.floating[Any]], values: NDArray[np.float32], most: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """At most ``most`` positions, each with least, mean and greatest known value (NaN if none)."""
    group = -(-len(at) // most)
    whole = len(at) // group * group
    v, x = values[:whole].reshape(-1, group), at[:whole].reshape(-1, group).mean(axis=1)
    known = np.isfinite(v)
    count = known.sum(axis=1)
    nothing = count == 0
    mean = np.where(known, v, 0).sum(axis=1) / np.maximum(count, 1)
    low, high = np.where(known, v, np.inf).min(axis=1), np.where(known, v, -np.inf).max(axis=1)
    low, mean, high = (np.where(nothing, np.nan, a) for a in (low, mean, high))
    return x, low, mean, high


def _range(*curves: NDArray[np.float32] | None) -> tuple[float, float]:
    """From the least to the greatest known value, with some room; 0 to 1 if there is none."""
    values = np.concatenate([c[np.isfinite(c)] for c in curves if c is not None])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    room = 0.06 * max(high - low, 0.01)
    return low - room, high + room


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between the limits, at most about ``most``."""
    step = _nice((high - low) / most)
    return [round(k * step, 9) + 0.0 for k in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _nice(value: float) -> float:
    """The next number of 1, 2, 5 times a power of ten that is not smaller."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9))


def _label(value: float, ticks: Sequence[float]) -> str:
    step = min((abs(b - a) for a, b in pairwise(ticks)), default=abs(value) or 1.0)
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def nice_below(value: float) -> float:
    """The largest number of 1, 2, 5 times a power of ten that is not greater."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (5, 2, 1) if m * power <= value * (1 + 1e-9))
