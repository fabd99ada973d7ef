"""An SVG being drawn, and axes in it: what the plots of :mod:`rakelight.pipeline.svg_plots` are made of.

A figure needs nothing outside itself, and no style sheet, so that it can also be saved as a file of its own.
"""

from __future__ import annotations

import base64
import html
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.dataset.images import encode_png

FloatArray = NDArray[np.float64]

INK = "#1a1a1a"
_GRID = "#d9d9d9"
_LETTER = 12


@dataclass
class Figure:
    """An SVG being drawn; lengths in its own units, y down."""

    width: float
    height: float
    label: str
    parts: list[str] = field(default_factory=list)

    def add(self, name: str, text: str | None = None, **values: Any) -> None:
        """An element: attributes with ``_`` for ``-``; ``text`` is escaped."""
        pairs = "".join(f' {key.replace("_", "-")}="{_written(value)}"' for key, value in values.items())
        self.parts.append(f"<{name}{pairs}/>" if text is None else f"<{name}{pairs}>{html.escape(text)}</{name}>")

    def line(
        self, x1: float, y1: float, x2: float, y2: float, colour: str = INK, width: float = 1, **more: Any
    ) -> None:
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, stroke_width=width, **more)

    def rect(self, x: float, y: float, width: float, height: float, fill: str, **more: Any) -> None:
        self.add("rect", x=x, y=y, width=width, height=height, fill=fill, **more)

    def words(
        self,
        x: float,
        y: float,
        text: str,
        anchor: str = "start",
        colour: str = INK,
        size: float = _LETTER,
        **more: Any,
    ) -> None:
        """Text whose base line is at ``y``."""
        self.add("text", text, x=x, y=y, text_anchor=anchor, fill=colour, font_size=size, **more)

    def picture(self, x: float, y: float, width: float, height: float, rgb: NDArray[np.uint8]) -> None:
        """Pixels (H, W, 3), stretched over a rectangle."""
        data = base64.b64encode(encode_png(rgb)).decode()
        href = f"data:image/png;base64,{data}"
        style = "image-rendering:pixelated"
        self.parts.append(
            f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
            f'style="{style}" xlink:href="{href}"/>'
        )

    def svg(self) -> str:
        """The figure as text."""
        head = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
            f'aria-label="{html.escape(self.label)}" viewBox="0 0 {self.width:g} {self.height:g}" '
            'font-family="Helvetica, Arial, sans-serif">'
        )
        return "\n".join([head, f"<title>{html.escape(self.label)}</title>", *self.parts, "</svg>"])


def _written(value: Any) -> str:
    return f"{round(float(value), 2) + 0.0:g}" if isinstance(value, float) else html.escape(str(value))


@dataclass(frozen=True)
class Axes:
    """A rectangle of a figure with a range of values each way."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]  # at the bottom, at the top

    def px(self, x: ArrayLike) -> Any:
        """Where values lie from left to right."""
        return self.left + (np.asarray(x, np.float64) - self.x[0]) * (self.width / (self.x[1] - self.x[0]))

    def py(self, y: ArrayLike) -> Any:
        """Where values lie from top to bottom."""
        return self.top + (self.y[1] - np.asarray(y, np.float64)) * (self.height / (self.y[1] - self.y[0]))

    def draw(self, figure: Figure, x_name: str | None = None, y_name: str | None = None) -> None:
        """Frame, grid, ticks and names; an axis without name has none of them."""
        bottom, right = self.top + self.height, self.left + self.width
        if x_name is not None:
            for value, text in ticks(self.x, 6):
                x = float(self.px(value))
                figure.line(x, self.top, x, bottom, _GRID)
                figure.words(x, bottom + 16, text, "middle")
            figure.words(self.left + self.width / 2, bottom + 34, x_name, "middle")
        if y_name is not None:
            for value, text in ticks(self.y, 5):
                y = float(self.py(value))
                figure.line(self.left, y, right, y, _GRID)
                figure.words(self.left - 6, y + 4, text, "end")
            middle = self.top + self.height / 2
            figure.words(13, middle, y_name, "middle", transform=f"rotate(-90 13 {middle:g})")
        figure.rect(self.left, self.top, self.width, self.height, "none", stroke=INK)


def ticks(span: tuple[float, float], most: int) -> list[tuple[float, str]]:
    """Round values within a range, about ``most``, with as many decimals as they need."""
    low, high = min(span), max(span)
    step = nice((high - low) / most)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step + 0.0:.{decimals}f}") for k in range(first, last + 1)]


def nice(value: float) -> float:
    """The next number of 1, 2, 5 times a power of ten that is not smaller."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9))


def significant(value: float) -> str:
    """Three significant digits, none dropped for being zero; whole numbers from 1000 on."""
    if not math.isfinite(value):
        return "not a number"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:#.3g}".removesuffix(".")
