"""Counts as SVG: stacked bars of classes and days, and histograms on a linear or a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rakelight.pipeline.svg_figure import INK, Axes, Figure, nice
from rakelight.pipeline.svg_plots import BLUE, GREEN, VERMILION, WIDTH

COLOURS = (BLUE, VERMILION, GREEN)
_LEFT, _RIGHT, _TOP, _BOTTOM, _HIGH = 58, 14, 26, 46, 150
_MOST_LETTERS = 26


def stacked_bars(label: str, names: Sequence[str], series: Mapping[str, Sequence[int]], unit: str) -> str:
    """Horizontal bars of counts, a row a name, the series (at most three) one after the other, their sum at the end."""
    room = min(190.0, 14 + 6.8 * max((min(len(n), _MOST_LETTERS) for n in names), default=1))
    totals = [sum(values) for values in zip(*series.values(), strict=True)]
    top = max([*totals, 1]) * 1.32  # room for the numbers
    pitch = 21
    figure = Figure(WIDTH, _TOP + pitch * len(names) + _BOTTOM, label)
    axes = Axes(room, _TOP, WIDTH - room - _RIGHT, pitch * len(names) + 4, (0.0, top), (0.0, 1.0))
    axes.draw(figure)
    _count_ticks(figure, axes, along_x=True)
    figure.words(axes.left + axes.width / 2, _TOP + axes.height + 36, unit, "middle")
    for row, name in enumerate(names):
        y = _TOP + 5 + row * pitch
        figure.words(room - 6, y + 11, _short(name), "end")
        start = 0
        for colour, values in zip(COLOURS, series.values(), strict=False):
            x = float(axes.px(start))
            if values[row]:
                figure.rect(x, y, float(axes.px(start + values[row])) - x, 14, colour)
            start += values[row]
        shown = " + ".join(str(v[row]) for v in series.values() if v[row]) or "0"
        figure.words(float(axes.px(start)) + 4, y + 11, shown, size=11)
    _legend(figure, room, list(series))
    return figure.svg()


def stacked_columns(label: str, names: Sequence[str], series: Mapping[str, Sequence[int]], x_name: str) -> str:
    """Upright bars of counts, a column a name; only as many names are written as there is room for."""
    totals = [sum(values) for values in zip(*series.values(), strict=True)]
    figure, axes = _axes(label, (-0.5, max(len(names), 1) - 0.5), max([*totals, 1]), x_name)
    wide = min(0.8 * axes.width / max(len(names), 1), 40.0)
    for column in range(len(names)):
        _column(figure, axes, float(axes.px(column)) - wide / 2, wide, [int(v[column]) for v in series.values()])
    step = max(1, math.ceil(len(names) / 5))
    for column in range(0, len(names), step):
        figure.words(float(axes.px(column)), axes.top + axes.height + 16, _short(names[column]), "middle", size=11)
    _legend(figure, axes.left, list(series))
    return figure.svg()


def histogram(
    label: str,
    edges: ArrayLike,
    series: Mapping[str, ArrayLike],
    x_name: str,
    *,
    logarithmic: bool = False,
    limit: float | None = None,
) -> str:
    """How many values lie between neighbouring ``edges`` (N + 1,), which ascend; those beyond count at the ends.

    ``series`` are values of any number each (NaN is left out); bars of up to three stand on one another. A dashed line shows
    ``limit``.
    """
    at = np.asarray(edges, np.float64)
    places = np.log10(at) if logarithmic else at
    counts = []
    for values in series.values():
        known = np.asarray(values, np.float64)
        known = np.clip(known[np.isfinite(known)], at[0], at[-1])
        counts.append(np.histogram(known, at)[0])
    stacked = np.array(counts).reshape(len(counts), len(at) - 1)
    span = (float(places[0]), float(places[-1]))
    figure, axes = _axes(label, span, int(max(stacked.sum(axis=0).max(initial=0), 1)), x_name)
    for column in range(len(at) - 1):
        left, right = float(axes.px(places[column])), float(axes.px(places[column + 1]))
        _column(figure, axes, left + 0.5, right - left - 1, stacked[:, column].tolist())
    for value, text in _x_ticks(at, logarithmic):
        x = float(axes.px(math.log10(value) if logarithmic else value))
        figure.line(x, axes.top + axes.height, x, axes.top + axes.height + 4)
        figure.words(x, axes.top + axes.height + 16, text, "middle", size=11)
    if limit is not None and at[0] <= limit <= at[-1]:
        x = float(axes.px(math.log10(limit) if logarithmic else limit))
        figure.line(x, axes.top, x, axes.top + axes.height, INK, 1.5, stroke_dasharray="5 4")
    if len(series) > 1:
        _legend(figure, axes.left, list(series))
    return figure.svg()


# --------------------------------------------------------------------------------------------------------------- shared
def _axes(label: str, span: tuple[float, float], most: int, x_name: str) -> tuple[Figure, Axes]:
    figure = Figure(WIDTH, _TOP + _HIGH + _BOTTOM, label)
    axes = Axes(_LEFT, _TOP, WIDTH - _LEFT - _RIGHT, _HIGH, span, (0.0, most * 1.06))
    axes.draw(figure)
    _count_ticks(figure, axes, along_x=False)
    figure.words(axes.left + axes.width / 2, axes.top + axes.height + 36, x_name, "middle")
    figure.words(13, axes.top + axes.height / 2, "samples", "middle", transform=f"rotate(-90 13 {_TOP + _HIGH / 2:g})")
    return figure, axes


def _column(figure: Figure, axes: Axes, left: float, wide: float, counts: Sequence[int]) -> None:
    start = 0
    for colour, count in zip(COLOURS, counts, strict=False):
        if count:
            top, bottom = float(axes.py(start + count)), float(axes.py(start))
            figure.rect(left, top, wide, bottom - top, colour)
        start += count


def _count_ticks(figure: Figure, axes: Axes, *, along_x: bool) -> None:
    """Whole numbers only: there are no half samples."""
    most = (axes.x if along_x else axes.y)[1]
    step = max(1, round(nice(most / 5)))
    for value in range(0, int(most) + 1, step):
        if along_x:
            figure.words(float(axes.px(value)), axes.top + axes.height + 16, str(value), "middle", size=11)
        else:
            figure.words(axes.left - 6, float(axes.py(value)) + 4, str(value), "end", size=11)


def _x_ticks(edges: np.ndarray, logarithmic: bool) -> list[tuple[float, str]]:
    if logarithmic:
        first, last = math.ceil(math.log10(edges[0]) - 1e-9), math.floor(math.log10(edges[-1]) + 1e-9)
        return [(10.0**k, f"{10.0**k:g}") for k in range(first, last + 1)]
    return [(float(v), f"{v:.4g}") for v in np.linspace(edges[0], edges[-1], 6)]


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"


def _legend(figure: Figure, left: float, names: Sequence[str]) -> None:
    x = left
    for colour, name in zip(COLOURS, names, strict=False):
        figure.rect(x, 6, 10, 10, colour)
        figure.words(x + 14, 15, name)
        x += 28 + 6.6 * len(name)
