"""The compiled loop of :mod:`rakelight.detection.metrics.streaming`: pixels of one part into bins. One thread, no lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def bin_of(score: Any, centre: Any, shift: int) -> Any:
    """Bin of one score: the leading 32 − shift bits of score − centre (float32), ordered as numbers are; -1 for NaN, infinity.

    Turned by the sign, the bits of floats order as integers. Adding zero makes −0 a +0.
    """
    bits = np.float32(score - centre + np.float32(0)).view(np.int32)
    if bits & 0x7F800000 == 0x7F800000:
        return np.int64(-1)
    return np.int64((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> shift) + (np.int64(1) << (31 - shift))


@njit(cache=True, nogil=True)
def count_all(scores: Any, centre: Any, shift: int, step: int, counts: Any) -> Any:
    """Add ``step`` for each of scores (n,) float32 to counts (bins,) int64; returns how many were NaN or infinite."""
    bad = 0
    quarter = scores.size // 4
    for i in range(quarter):
        for k in range(4):  # neighbours often share a bin, and adding to one place waits for the addition before
            b = bin_of(scores[i + k * quarter], centre, shift)
            if b < 0:
                bad += 1
            else:
                counts[np.uint64(b)] += step
    for i in range(4 * quarter, scores.size):
        b = bin_of(scores[i], centre, shift)
        if b < 0:
            bad += 1
        else:
            counts[np.uint64(b)] += step
    return bad


@njit(cache=True, nogil=True)
def count_kinds(scores: Any, kinds: Any, centre: Any, shift: int, step: int, counts: Any) -> Any:
    """Add ``step`` for each score (n,) float32 to counts (kinds, bins) int64 by kinds (n,) uint8, 0: none; result as above."""
    bad = 0
    for i in range(scores.size):
        if kinds[i] == 0:
            continue
        b = bin_of(scores[i], centre, shift)
        if b < 0:
            bad += 1
        else:
            counts[kinds[i] - 1, b] += step
    return bad


@njit(cache=True, nogil=True)
def add_defects(
    scores: Any, pixels: Any, weights: Any, counted: int, centre: Any, shift: int, step: int, counts: Any, region: Any
) -> Any:
    """Add ``step`` for each of scores[pixels] to counts[2], step × weights (n,) to region (bins,) float64; returns as above.

    ``counted`` is 1 where they were counted as normal pixels of the part before, in counts[1], and is taken off there.
    """
    bad = 0
    for i in range(pixels.size):
        b = bin_of(scores[pixels[i]], centre, shift)
        if b < 0:
            bad += 1
            continue
        counts[1, b] -= step * counted
        counts[2, b] += step
        region[b] += step * weights[i]
    return bad
