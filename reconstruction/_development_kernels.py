"""The compiled loops of development: raw values in, 8-bit pictures out, each frame read once and each picture written once.

Bilinear demosaic (every photosite has its own colour; the others are means of the two or four nearest of theirs), then one
table a channel. At the border rows and columns are mirrored without repeating the edge, which keeps the pattern.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange


@njit(cache=True, inline="always")
def _look(tables: Any, channel: int, value: Any, last: Any) -> Any:
    """The table's entry at the nearest step; NaN and what is below or above the table take its ends."""
    value = value if value > np.float32(0) else np.float32(0)
    value = value if value < last else last
    return tables[channel, np.uint32(value + np.float32(0.5))]


@njit(parallel=True, nogil=True, cache=True)
def mosaic(raw: Any, red_row: int, red_column: int, scale: Any, tables: Any, out: Any) -> None:
    """(H, W) mosaic → (H, W, 3) uint8; the red photosites of a cell are at ``red_row``, ``red_column``; ``scale`` gives steps."""
    height, width = raw.shape
    last = np.float32(tables.shape[1] - 1)
    one, half, quarter = np.float32(scale), np.float32(scale / 2), np.float32(scale / 4)
    for v in prange(height):
        here = raw[v]
        above = raw[v - 1] if v > 0 else raw[1]
        below = raw[v + 1] if v < height - 1 else raw[height - 2]
        line = out[v]
        red = (v & 1) == red_row  # a row of red and green sites, else of green and blue
        own, other = (0, 2) if red else (2, 0)
        first = red_column if red else 1 - red_column  # of the sites that are not green
        for u in range(first, width, 2):
            a, b = (u - 1 if u > 0 else 1), (u + 1 if u < width - 1 else width - 2)
            across = np.float32(here[a]) + np.float32(here[b])
            along = np.float32(above[u]) + np.float32(below[u])
            corners = np.float32(above[a]) + np.float32(above[b]) + np.float32(below[a]) + np.float32(below[b])
            line[u, own] = _look(tables, own, np.float32(here[u]) * one, last)
            line[u, 1] = _look(tables, 1, (across + along) * quarter, last)
            line[u, other] = _look(tables, other, corners * quarter, last)
        for u in range(1 - first, width, 2):
            a, b = (u - 1 if u > 0 else 1), (u + 1 if u < width - 1 else width - 2)
            across = np.float32(here[a]) + np.float32(here[b])
            along = np.float32(above[u]) + np.float32(below[u])
            line[u, own] = _look(tables, own, across * half, last)
            line[u, 1] = _look(tables, 1, np.float32(here[u]) * one, last)
            line[u, other] = _look(tables, other, along * half, last)


@njit(parallel=True, nogil=True, cache=True)
def pixels(image: Any, scale: Any, tables: Any, out: Any) -> None:
    """(H, W, 1 or 3) → (H, W, 3) uint8."""
    height, width, channels = image.shape
    last, step = np.float32(tables.shape[1] - 1), np.float32(scale)
    for v in prange(height):
        for u in range(width):
            for c in range(3):
                out[v, u, c] = _look(tables, c, np.float32(image[v, u, c if channels == 3 else 0]) * step, last)
