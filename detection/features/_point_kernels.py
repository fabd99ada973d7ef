"""The compiled loop of exact farthest point sampling, which passes over boxes of points that the newest centre cannot reach.

Points lie in boxes, runs of neighbours with their bounding box. A new centre changes the distances of a box only if it is
nearer to the box than the box's farthest point is to its own nearest centre; most boxes are passed over (Han et al. 2023,
"QuickFPS", bucket form). No slack is needed: rounding is monotone, and both distances are summed in the same order, so the
distance to the box, as rounded, is never above that to a point in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_NO_NAN = {"nnan", "nsz"}  # minima in vector registers; the sums keep their order, so that they round as documented


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _to_box(x: Any, y: Any, z: Any, box: Any) -> Any:
    """Squared distance from a point to a box (low x, y, z, high x, y, z); 0 inside."""
    dx = max(max(box[0] - x, x - box[3]), np.float32(0))
    dy = max(max(box[1] - y, y - box[4]), np.float32(0))
    dz = max(max(box[2] - z, z - box[5]), np.float32(0))
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_NO_NAN)
def _bring_up_to_date(x: Any, y: Any, z: Any, px: Any, py: Any, pz: Any, distances: Any) -> Any:
    """Lower the distances of one box's points to those from a new centre (x, y, z); returns the largest left."""
    for i in range(px.size):
        dx, dy, dz = px[i] - x, py[i] - y, pz[i] - z
        distances[i] = min(distances[i], dx * dx + dy * dy + dz * dz)
    most = np.float32(-1)
    for i in range(px.size):
        most = max(most, distances[i])
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def farthest_first(planes: Any, original: Any, bounds: Any, boxes: Any, first: int, picks: Any) -> None:
    """Fill ``picks`` with the farthest-first order of points that are sorted into boxes.

    ``planes`` (3, N) float32 coordinates, ``original`` (N,) int64 index of each before it was sorted, ``bounds`` (B + 1,)
    where each box starts, ``boxes`` (B, 6) float32 their extents, ``first`` the sorted place of the first pick. ``picks``
    (K,) int64 receives original indices; among equally far points the lowest index is picked.
    """
    px, py, pz = planes[0], planes[1], planes[2]
    distances = np.full(px.size, np.float32(np.inf), np.float32)
    tops = np.full(bounds.size - 1, np.float32(np.inf), np.float32)
    at = first
    picks[0] = original[at]
    for k in range(1, picks.size):
        x, y, z = px[at], py[at], pz[at]
        top = np.float32(-1)
        for b in range(tops.size):
            if _to_box(x, y, z, boxes[b]) < tops[b]:
                s, e = bounds[b], bounds[b + 1]
                tops[b] = _bring_up_to_date(x, y, z, px[s:e], py[s:e], pz[s:e], distances[s:e])
            top = max(top, tops[b])
        lowest = np.int64(np.iinfo(np.int64).max)
        for b in range(tops.size):
            if tops[b] == top:
                for i in range(bounds[b], bounds[b + 1]):
                    if distances[i] == top and original[i] < lowest:
                        lowest, at = original[i], i
        picks[k] = lowest
