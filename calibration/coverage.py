"""Where in the image corners of the board were seen: a map of counts, and the parts of the image that are empty."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

COVERAGE_CELLS = (8, 6)  # columns and rows of the map
REGIONS = tuple(f"{row} {column}" for row in ("upper", "middle", "lower") for column in ("left", "centre", "right"))


def coverage(corners: Iterable[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.int64]:
    """How many corners (N, 2) px lie in each cell of an image of ``size`` (width, height): (rows, columns) int64."""
    edges = [np.linspace(-0.5, n - 0.5, cells + 1) for n, cells in zip(size, COVERAGE_CELLS, strict=True)]
    uv = np.concatenate([np.zeros((0, 2)), *corners])
    return np.histogram2d(uv[:, 1], uv[:, 0], bins=(edges[1], edges[0]))[0].astype(np.int64)


def empty_regions(seen: NDArray[np.int64]) -> tuple[str, ...]:
    """Ninths of the image without a corner, by name; ``seen`` as :func:`coverage` gives it."""
    rows, columns = (np.linspace(0, n, 4).round().astype(int) for n in seen.shape)
    ninths = [seen[a:b, c:d].any() for a, b in pairwise(rows) for c, d in pairwise(columns)]
    return tuple(name for name, there in zip(REGIONS, ninths, strict=True) if not there)
