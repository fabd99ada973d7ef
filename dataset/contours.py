"""From pixels back to polygons: outlines along the edges of pixels, which :mod:`rakelight.dataset.rasterise` fills to exactly
the same pixels.

The outline of a set of pixels turns only at corners. Along each horizontal line between two rows the corners, taken in
order, are the ends of its straight pieces, two by two; along each vertical line as well. So each corner has one neighbour
along the row and one along the column, and the rings are found by walking from one to the other in turn.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]


def outlines(inside: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[list[Ring]]:
    """The outlines of a mask, one list of rings for each connected area (pixels touching by a corner are connected).

    Parameters
    ----------
    inside : (h, w) bool
    left, top : int
        Column and row in the picture of its first pixel.

    Returns
    -------
    list of list of (N, 2) float64
        Points (u, v) at the corners of pixels, that is at integers and a half; the first ring of an area is an outer one,
        and all of them filled together, even-odd, are the area.
    """
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return []
    crop = np.ascontiguousarray(inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    areas = cv2.connectedComponents(crop.view(np.uint8), connectivity=8)[1]
    row, column = _corners(crop)
    found: dict[int, tuple[list[Ring], list[Ring]]] = {}
    for loop in _loops(row, column):
        r, c = int(row[loop[0]]), int(column[loop[0]])  # its first corner is the highest, and the left one of these
        is_outer = r < crop.shape[0] and c < crop.shape[1] and bool(crop[r, c])
        area = int(areas[r if is_outer else r - 1, c])
        points = np.stack([column[loop] + (left + columns[0] - 0.5), row[loop] + (top + rows[0] - 0.5)], axis=1)
        found.setdefault(area, ([], []))[0 if is_outer else 1].append(points)
    return [outer + holes for _, (outer, holes) in sorted(found.items())]


def _corners(crop: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the corners, in reading order; where two pixels touch by a corner it stands twice."""
    p = np.pad(crop.view(np.uint8), 1)
    a, b, c, d = p[:-1, :-1], p[:-1, 1:], p[1:, :-1], p[1:, 1:]
    times = (a ^ b ^ c ^ d) + np.uint8(2) * ((a == d) & (b == c) & (a != b))
    row, column = np.nonzero(times)
    n = times[row, column]
    return np.repeat(row, n), np.repeat(column, n)


def _loops(row: NDArray[np.int64], column: NDArray[np.int64]) -> list[list[int]]:
    """Corners joined to rings: along a row n and n ^ 1 belong together, along a column those that follow in it."""
    along = np.lexsort((row, column))  # stable: of two corners at one place the first comes first
    neighbour = np.empty(len(along), np.int64)
    neighbour[along[0::2]], neighbour[along[1::2]] = along[1::2], along[0::2]
    below = neighbour.tolist()
    seen = bytearray(len(below))
    loops = []
    for first in range(len(below)):
        if seen[first]:
            continue
        loop, at = [], first
        while not seen[at]:
            other = at ^ 1
            seen[at] = seen[other] = 1
            loop += [at, other]
            at = below[other]
        loops.append(loop)
    return loops
