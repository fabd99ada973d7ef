"""Curves as SVG: several detectors' ROC and PRO in one frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rakelight.pipeline.svg_figure import Axes, Figure
from rakelight.pipeline.svg_plots import BLUE, GREEN, VERMILION, WIDTH

COLOURS = (BLUE, VERMILION, GREEN, "#cc79a7", "#e69f00", "#56b4e9", "#1a1a1a")  # Okabe and Ito's
_LEFT, _TOP, _HIGH, _BOTTOM, _LINE = 52, 12, 250, 42, 16
_DASHES = ("", "6 3", "2 3")  # for as many curves more as there are colours


def curves(label: str, series: Mapping[str, NDArray[np.float64]], names: tuple[str, str], *, end: float = 1.0) -> str:
    """Polylines (n, 2) from 0 to ``end`` along x and 0 to 1 along y, each with its name below; ``names`` of the axes."""
    per_row = 2
    lines = -(-len(series) // per_row)
    figure = Figure(WIDTH, _TOP + _HIGH + _BOTTOM + _LINE * lines + 6, label)
    axes = Axes(_LEFT, _TOP, WIDTH - _LEFT - 14, _HIGH, (0.0, end), (0.0, 1.0))
    axes.draw(figure, *names)
    for number, (name, corners) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
        more = {"stroke_dasharray": dashes} if dashes else {}
        points = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in zip(axes.px(corners[:, 0]), axes.py(corners[:, 1]), strict=True)
        )
        figure.add("polyline", points=points, fill="none", stroke=colour, stroke_width=1.8, **more)
        x = _LEFT + (number % per_row) * (WIDTH - _LEFT) / per_row
        y = _TOP + _HIGH + _BOTTOM + 10 + _LINE * (number // per_row)
        figure.line(x, y - 4, x + 20, y - 4, colour, 2.5, **more)
        figure.words(x + 26, y, name, size=11)
    return figure.svg()
