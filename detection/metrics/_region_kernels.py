"""The compiled loops of :func:`rakelight.detection.metrics.pro.regions_of`. One thread, no lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def region_pixels(labels: Any, count: int, top: int, left: int, width: int) -> Any:
    """Pixels of labelled regions in row-major order.

    ``labels`` (h, w) int32, 0: none, below ``count``; the box stands at (top, left) of a picture ``width`` wide. Returns flat
    indices (n,) int64, weights (n,) float64: 1 / (pixels of the region), and how many regions have pixels.
    """
    sizes = np.zeros(count, np.int64)
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            sizes[labels[row, column]] += 1
    pixels = np.empty(sizes[1:].sum(), np.int64)
    weights = np.empty(pixels.size)
    n = 0
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            label = labels[row, column]
            if label:
                pixels[n] = (row + top) * width + column + left
                weights[n] = 1.0 / sizes[label]
                n += 1
    return pixels, weights, np.count_nonzero(sizes[1:])
