"""Plots as SVG text: axes, bars, arrows, maps, a polar view of directions, and lines over time; arrays in, text out.

Written for paper and screen: dark on white, every axis with its unit, letters of one size, Okabe and Ito's colours, which
every kind of colour vision tells apart (https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.pipeline.contact_sheet import colour_table
from rakelight.pipeline.svg_figure import INK, Axes, Figure, nice, significant, ticks

FloatArray = NDArray[np.float64]

BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
_BAND = "#e3f1ea"
_NOTHING = (208, 208, 208)  # where a map has no value
WIDTH = 460
MAP_SIDE = 240
"""Rows and columns that a map is drawn with at most."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 42


# ---------------------------------------------------------------------------------------------------------------- plots
def arrows(
    label: str, size_px: tuple[int, int], at_px: ArrayLike, by_px: ArrayLike, kept: ArrayLike | None = None
) -> str:
    """Errors (N, 2) px at points (N, 2) of an image of ``size_px`` (width, height), drawn much longer than they are.

    Points that are not ``kept`` (N,) are crosses. A line at the top shows the length of a round error.
    """
    at, by = np.reshape(np.asarray(at_px, np.float64), (-1, 2)), np.reshape(np.asarray(by_px, np.float64), (-1, 2))
    good = np.ones(len(at), bool) if kept is None else np.asarray(kept, bool)
    figure, axes = _image_axes(label, size_px)
    axes.draw(figure, "u (px)", "v (px)")
    start = np.column_stack([axes.px(at[:, 0]), axes.py(at[:, 1])])
    length = np.linalg.norm(by[good], axis=1)
    typical = float(np.sqrt(np.mean(length**2))) if length.size and length.any() else 1.0
    # Figure units for 1 px: an error of typical size reaches about as far as the next corner.
    longer = float(np.clip(0.8 * math.sqrt(axes.width * axes.height / max(len(at), 1)), 6, 16)) / typical
    ends = start + by * longer
    lines = "".join(
        f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in zip(start[good], ends[good], strict=True)
    )
    if lines:
        figure.add("path", d=lines, stroke=BLUE, stroke_width=1.0, fill="none")
    for x, y in start[good]:
        figure.add("circle", cx=float(x), cy=float(y), r=1.3, fill=BLUE)
    for x, y in start[~good]:
        figure.add("path", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m-8 0l8 -8", stroke=VERMILION, stroke_width=2, fill="none")
    shown = nice(2 * typical)
    right = axes.left + axes.width
    figure.line(right - shown * longer, 14, right, 14, BLUE, 2)
    figure.words(right - shown * longer - 6, 18, f"{shown:g} px", "end")
    if (~good).any():
        figure.words(axes.left, 18, f"× left out: {int((~good).sum())}", colour=VERMILION)
    return figure.svg()


def bars(
    label: str,
    names: Sequence[str],
    series: Mapping[str, ArrayLike],
    unit: str,
    *,
    limit: float | None = None,
    instead: Mapping[str, str] | None = None,
) -> str:
    """Horizontal bars, one a name and series (at most three), NaN without bar; ``instead`` gives words for a name's bars.

    A dashed line shows ``limit``.
    """
    values = np.array([np.asarray(v, np.float64) for v in series.values()]).reshape(len(series), len(names))
    each = 11 if len(series) > 1 else 13
    pitch = each * len(series) + 8
    room = min(150, 14 + 6.6 * max((len(_short(n)) for n in names), default=1))
    finite = values[np.isfinite(values)]
    top = max([*finite.tolist(), *([limit] if limit else []), 1e-9]) * 1.12
    figure = Figure(WIDTH, _TOP + pitch * len(names) + _BOTTOM + 6, label)
    axes = Axes(room, _TOP, WIDTH - room - _RIGHT - 34, pitch * len(names) + 6, (0.0, top), (0.0, 1.0))
    axes.draw(figure, unit)
    for row, name in enumerate(names):
        y = _TOP + 7 + row * pitch
        figure.words(room - 6, y + (pitch - 8) / 2 + 4, _short(name), "end")
        if instead and name in instead:
            figure.words(room + 6, y + (pitch - 8) / 2 + 4, instead[name], colour=VERMILION)
            continue
        for k in range(len(series)):
            if np.isfinite(values[k, row]):
                end = float(axes.px(values[k, row]))
                colour = (BLUE, VERMILION, GREEN)[k]
                figure.rect(room, y + k * each, end - room, each - 1, colour)
                figure.words(end + 4, y + k * each + each - 2, significant(values[k, row]), size=11)
    if limit is not None:
        x = float(axes.px(limit))
        figure.line(x, _TOP, x, _TOP + axes.height, INK, 1.5, stroke_dasharray="5 4")
        figure.words(x, _TOP - 6, f"limit {limit:g}", "middle")
    _legend(figure, room, [(n, (BLUE, VERMILION, GREEN)[k]) for k, n in enumerate(series)] if len(series) > 1 else [])
    return figure.svg()


def counts(label: str, size_px: tuple[int, int], cells: ArrayLike) -> str:
    """Numbers (R, C) of points in the cells of an image of ``size_px``, darker for more; empty cells are framed."""
    numbers = np.asarray(cells)
    figure, axes = _image_axes(label, size_px)
    high, wide = axes.height / numbers.shape[0], axes.width / numbers.shape[1]
    most = max(int(numbers.max(initial=0)), 1)
    for (row, column), number in np.ndenumerate(numbers):
        x, y, share = axes.left + column * wide, axes.top + row * high, float(number) / most
        level = [round(255 + (c - 255) * 0.85 * share) for c in (0, 114, 178)]
        figure.rect(x, y, wide, high, "#{:02x}{:02x}{:02x}".format(*level), stroke="#ffffff")
        if wide > 22:
            figure.words(x + wide / 2, y + high / 2 + 4, str(int(number)), "middle", size=11)
    for row, column in np.argwhere(numbers == 0):
        x, y = axes.left + column * wide, axes.top + row * high
        figure.rect(x + 2, y + 2, wide - 4, high - 4, "none", stroke=VERMILION, stroke_width=2)
    axes.draw(figure)
    _image_corners(figure, axes, size_px)
    return figure.svg()


def value_map(
    label: str,
    values: ArrayLike,
    unit: str,
    *,
    size_mm: tuple[float, float] | None = None,
    width: float = WIDTH,
    signed: bool = False,
) -> str:
    """A map (H, W) in colour with its bar, from the 0.5th to the 99.5th percentile; NaN is light grey.

    ``signed`` maps get a diverging colour scale about 0; ``size_mm`` (width, height) gives the axes in mm.
    """
    small = thumbnail(values, MAP_SIDE)
    known = small[np.isfinite(small)]
    low, high = np.percentile(known, (0.5, 99.5)).tolist() if known.size else (0.0, 1.0)
    if signed:
        low, high = -max(-low, high), max(-low, high)
    if not high > low:  # a map of one value
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    table = colour_table("diverging" if signed else "viridis")
    level = np.nan_to_num((small - low) / (high - low)).clip(0, 1)
    rgb = table[np.rint(level * 255).astype(np.uint8)]
    rgb[~np.isfinite(small)] = _NOTHING
    bar_room, left = 74, (_LEFT if size_mm else 4)
    wide = width - left - bar_room
    tall = min(wide * small.shape[0] / small.shape[1], 420.0)
    figure = Figure(width, tall + 14 + (_BOTTOM if size_mm else 8), label)
    figure.picture(left, 10, wide, tall, rgb)
    if size_mm:
        half = size_mm[0] / 2, size_mm[1] / 2
        axes = Axes(left, 10, wide, tall, (-half[0], half[0]), (half[1], -half[1]))
        for name, value, text in _map_ticks(axes):
            if name == "x":
                figure.line(float(axes.px(value)), 10 + tall, float(axes.px(value)), 14 + tall)
                figure.words(float(axes.px(value)), tall + 27, text, "middle")
            else:
                figure.line(left - 4, float(axes.py(value)), left, float(axes.py(value)))
                figure.words(left - 7, float(axes.py(value)) + 4, text, "end")
        figure.words(left + wide / 2, tall + 45, "x (mm)", "middle")
        figure.words(13, 10 + tall / 2, "y (mm)", "middle", transform=f"rotate(-90 13 {10 + tall / 2:g})")
    figure.rect(left, 10, wide, tall, "none", stroke=INK)
    x = left + wide + 12
    digits = max(0, 2 - math.floor(math.log10(max(abs(low), abs(high)))))
    figure.picture(x, 10, 14, tall, np.ascontiguousarray(table[::-1, None]))
    figure.rect(x, 10, 14, tall, "none", stroke=INK)
    for share, value in ((0.0, high), (0.5, (low + high) / 2), (1.0, low)):
        figure.words(
            x + 18, 10 + share * tall + (10 if share == 0 else 4 if share == 0.5 else 0), f"{value:.{digits}f}"
        )
    if unit:
        figure.words(x + 18, 10 + 0.25 * tall + 4, unit)
    return figure.svg()


def directions(label: str, names: Sequence[str], unit_vectors: ArrayLike, good_deg: tuple[float, float]) -> str:
    """Unit vectors (N, 3), viewer frame, seen from the camera: the distance from the middle is the angle to the axis.

    The band of ``good_deg`` is shaded.
    """
    vectors = np.reshape(np.asarray(unit_vectors, np.float64), (-1, 3))
    figure = Figure(WIDTH, 400, label)
    middle, radius = (WIDTH / 2, 198.0), 165.0
    inner, outer = (radius * a / 90 for a in good_deg)
    figure.add("circle", cx=middle[0], cy=middle[1], r=radius, fill="#ffffff", stroke=INK)
    figure.add(
        "circle",
        cx=middle[0],
        cy=middle[1],
        r=(inner + outer) / 2,
        fill="none",
        stroke=_BAND,
        stroke_width=outer - inner,
    )
    for ring in (15, 30, 45, 60, 75):
        figure.add("circle", cx=middle[0], cy=middle[1], r=radius * ring / 90, fill="none", stroke="#b0b0b0")
    for angle, text, dx, dy, anchor in (
        (0, "0° right", 6, 4, "start"),
        (90, "90° up", 0, -8, "middle"),
        (180, "180° left", -6, 4, "end"),
        (270, "270° down", 0, 18, "middle"),
    ):
        c, s = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
        figure.line(middle[0], middle[1], middle[0] + radius * c, middle[1] + radius * s, "#b0b0b0")
        figure.words(middle[0] + radius * c + dx, middle[1] + radius * s + dy, text, anchor)
    for ring in (15, 30, 45, 60, 75, 90):
        at = radius * ring / 90 * math.sqrt(0.5)
        figure.words(middle[0] + at + 2, middle[1] + at + 10, f"{ring}°", colour="#595959", size=11)
    for name, vector in zip(names, vectors, strict=True):
        slant = math.atan2(math.hypot(vector[0], vector[1]), vector[2])
        away = radius * math.degrees(slant) / 90 / max(math.hypot(vector[0], vector[1]), 1e-12)
        x, y = middle[0] + vector[0] * away, middle[1] - vector[1] * away
        figure.add("circle", cx=x, cy=y, r=12, fill=BLUE, stroke="#ffffff", stroke_width=1.5)
        figure.words(x, y + 4.5, name, "middle", "#ffffff", 13, font_weight="bold")
    return figure.svg()


def over_time(
    label: str, times: Sequence[datetime], values: ArrayLike, unit: str, *, limits: tuple[float | None, float | None]
) -> str:
    """Values (N,) against time, with lower and upper limits; values outside are red squares."""
    figures = np.asarray(values, np.float64)
    at = np.array([t.timestamp() for t in times])
    low, high = (limit for limit in limits)
    shown = [*figures[np.isfinite(figures)].tolist(), *(limit for limit in limits if limit is not None)] or [0.0, 1.0]
    room = 0.1 * (max(shown) - min(shown)) or 0.1 * (abs(shown[0]) or 1.0)
    span = (float(at.min()), float(at.max())) if len(at) else (0.0, 1.0)
    if span[0] == span[1]:
        span = (span[0] - 43200, span[1] + 43200)
    figure = Figure(WIDTH, 220, label)
    axes = Axes(66, 12, WIDTH - 66 - 40, 160, span, (min(shown) - room, max(shown) + room))
    axes.draw(figure, None, unit)
    for limit in (low, high):
        if limit is not None:
            y = float(axes.py(limit))
            figure.line(axes.left, y, axes.left + axes.width, y, INK, 1.5, stroke_dasharray="5 4")
            figure.words(axes.left + 4, y + (14 if limit == high else -5), f"limit {limit:g}")
    x, y = axes.px(at), axes.py(figures)
    known = np.isfinite(figures)
    if known.sum() > 1:
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[known], y[known], strict=True))
        figure.add("polyline", points=points, fill="none", stroke=BLUE, stroke_width=1.5)
    for a, b, value in zip(x[known], y[known], figures[known], strict=True):
        if (low is not None and value < low) or (high is not None and value > high):
            figure.rect(float(a) - 4, float(b) - 4, 8.0, 8.0, VERMILION)
        else:
            figure.add("circle", cx=float(a), cy=float(b), r=3, fill=BLUE)
    for k in sorted({0, len(times) // 2, len(times) - 1}) if len(times) > 2 else range(len(times)):
        figure.line(float(x[k]), axes.top + axes.height, float(x[k]), axes.top + axes.height + 5)
        figure.words(float(x[k]), axes.top + axes.height + 18, f"{times[k]:%Y-%m-%d}", "middle")
    return figure.svg()


# --------------------------------------------------------------------------------------------------------------- shared
def thumbnail(values: ArrayLike, most: int) -> FloatArray:
    """A map (H, W) of at most ``most`` rows and columns: means of the known values of square blocks, NaN where none is."""
    full = np.asarray(values, np.float64)
    step = max(1, -(-max(full.shape) // most))
    rows, columns = (-(-n // step) for n in full.shape)
    padded = np.full((rows * step, columns * step), np.nan)
    padded[: full.shape[0], : full.shape[1]] = full
    blocks = padded.reshape(rows, step, columns, step)
    number = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.where(np.isfinite(blocks), blocks, 0).sum(axis=(1, 3))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _image_axes(label: str, size_px: tuple[int, int]) -> tuple[Figure, Axes]:
    """A figure with the outline of an image (pixel centre at integer), v down."""
    wide = float(WIDTH - _LEFT - _RIGHT)
    tall = wide * size_px[1] / size_px[0]
    if tall > 320:
        wide, tall = wide * 320 / tall, 320.0
    x, y = (-0.5, size_px[0] - 0.5), (size_px[1] - 0.5, -0.5)
    return Figure(WIDTH, _TOP + tall + _BOTTOM, label), Axes(_LEFT, _TOP, wide, tall, x, y)


def _image_corners(figure: Figure, axes: Axes, size_px: tuple[int, int]) -> None:
    bottom, right = axes.top + axes.height, axes.left + axes.width
    figure.words(axes.left, bottom + 16, "0")
    figure.words(right, bottom + 16, f"{size_px[0]}", "end")
    figure.words(axes.left + axes.width / 2, bottom + 16, "u (px)", "middle")
    figure.words(axes.left - 6, axes.top + 10, "0", "end")
    figure.words(axes.left - 6, bottom, f"{size_px[1]}", "end")
    figure.words(axes.left - 6, axes.top + axes.height / 2, "v (px)", "end")


def _legend(figure: Figure, left: float, entries: Sequence[tuple[str, str]]) -> None:
    x = left
    for name, colour in entries:
        figure.rect(x, 3, 10, 10, colour)
        figure.words(x + 14, 12, name)
        x += 24 + 6.6 * len(name)


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:9]}…{name[-10:]}"


def _map_ticks(axes: Axes) -> list[tuple[str, float, str]]:
    return [("x", v, t) for v, t in ticks(axes.x, 6)] + [("y", v, t) for v, t in ticks(axes.y, 5)]
