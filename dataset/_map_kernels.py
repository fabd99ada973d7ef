"""The compiled loops over maps of a sample: checking them, turning them into 16 bits, taking differences for Deflate.

One thread each, free of the interpreter's lock, so that several files are made at a time. ``keep`` is (H, W) bool.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def scan_vectors(vectors: Any, lowest: float, highest: float) -> Any:
    """Count pixels of (H, W, 3): [all finite, partly NaN, with infinity, squared length outside lowest … highest]."""
    counts = np.zeros(4, np.int64)
    for r in range(vectors.shape[0]):
        for c in range(vectors.shape[1]):
            x, y, z = vectors[r, c, 0], vectors[r, c, 1], vectors[r, c, 2]
            length = x * x + y * y + z * z
            if lowest <= length <= highest:
                counts[0] += 1
            elif np.isinf(x) or np.isinf(y) or np.isinf(z):
                counts[2] += 1
            elif np.isnan(length):
                if not (np.isnan(x) and np.isnan(y) and np.isnan(z)):
                    counts[1] += 1
            else:
                counts[0] += 1
                counts[3] += 1
    return counts


@njit(cache=True, nogil=True)
def encode_unit(vectors: Any, keep: Any, out: Any) -> None:
    """Unit vectors (h, w, 3) float32 as round(32767.5·(n + 1)) uint16; 0 0 0 where NaN or not kept."""
    half, full = np.float32(32767.5), np.float32(65535.0)
    for r in range(vectors.shape[0]):
        for c in range(vectors.shape[1]):
            if not keep[r, c] or np.isnan(vectors[r, c, 0]):
                out[r, c, 0] = out[r, c, 1] = out[r, c, 2] = 0
                continue
            for k in range(3):
                value = (vectors[r, c, k] + np.float32(1)) * half + np.float32(0.5)
                out[r, c, k] = np.uint16(min(max(value, np.float32(0)), full))


@njit(cache=True, nogil=True)
def encode_linear(values: Any, keep: Any, steps: float, out: Any) -> None:
    """Values (h, w, n) float32 as round(steps·value) uint16, at least 1; 0 where NaN or not kept."""
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            for k in range(values.shape[2]):
                value = values[r, c, k] * steps
                if not keep[r, c] or np.isnan(value):
                    out[r, c, k] = 0
                else:
                    out[r, c, k] = np.uint16(min(max(value + np.float32(0.5), np.float32(1)), np.float32(65535)))


@njit(cache=True, nogil=True)
def largest(values: Any, keep: Any) -> Any:
    """Largest value of (h, w, n) where kept and not NaN, 0 if there is none; infinity if any value is infinite."""
    most = 0.0
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            for k in range(values.shape[2]):
                value = values[r, c, k]
                if np.isinf(value):
                    return np.inf
                if keep[r, c] and value > most:
                    most = np.float64(value)
    return most


@njit(cache=True, nogil=True)
def differences(rows: Any, out: Any) -> None:
    """Each pixel of (h, w, n) minus its left neighbour, channel by channel, modulo 2^bits (TIFF predictor 2)."""
    for r in range(rows.shape[0]):
        for k in range(rows.shape[2]):
            out[r, 0, k] = rows[r, 0, k]
        for c in range(1, rows.shape[1]):
            for k in range(rows.shape[2]):
                out[r, c, k] = rows[r, c, k] - rows[r, c - 1, k]


@njit(cache=True, nogil=True)
def first_unequal(a: Any, b: Any) -> Any:
    """Index of the first difference of two flat arrays, -1 if there is none."""
    for i in range(a.size):
        if a[i] != b[i]:
            return i
    return -1
