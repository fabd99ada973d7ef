"""The compiled loops of the exact search: lower bounds from a product of matrices, true distances where those do not decide.

‖q − b‖² = ‖q‖² + ‖b‖² − 2 q·b comes from one matrix product at full speed, but its rounding error is of the order of
ε·D·‖q‖·‖b‖ however near q and b are. So the product only rules vectors out: with the greatest error it can have, a vector
whose bound lies above the best distance so far is not nearer. For the few others the distance is taken from the difference
itself. The result then depends neither on the BLAS library, nor on its threads, nor on the sizes of the blocks.
One thread each, free of the interpreter's lock: the workers of :mod:`rakelight.detection._workers` run them side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

CHUNK = 64  # bounds whose least one is kept: what is above the best so far is passed over as a whole
_FAST = {"reassoc", "contract", "nsz", "nnan"}  # lets sums and minima run in vector registers; no NaN ever gets here


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def squared_distance(a: Any, b: Any) -> Any:
    """‖a − b‖² of two (D,) float32 vectors, from their difference: no digits are lost for near ones."""
    total = np.float32(0)
    for i in range(a.size):
        d = a[i] - b[i]
        total += d * d
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def squared_norms(vectors: Any, out: Any) -> None:
    """‖v‖² of the rows of (N, D) float32, summed in float64, as float32."""
    for r in range(vectors.shape[0]):
        total = 0.0
        for i in range(vectors.shape[1]):
            value = np.float64(vectors[r, i])
            total += value * value
        out[r] = total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _chunk_minima(products: Any, bank_norms: Any, bank_parts: Any, part: Any, out: Any) -> Any:
    """Least ‖b‖² − 2 q·b of each run of CHUNK bank vectors, those of ``part`` left out; returns the least run."""
    most = np.float32(np.finfo(np.float32).max)
    least, where = most, 0
    for c in range(out.size):
        start, stop = c * CHUNK, min((c + 1) * CHUNK, bank_norms.size)
        low = most
        for j in range(start, stop):
            value = bank_norms[j] - np.float32(2) * products[j]
            value = most if bank_parts[j] == part else value
            low = min(low, value)
        out[c] = low
        if low < least:
            least, where = low, c
    return where


@njit(cache=True, nogil=True, error_model="numpy")
def _limit(best: Any, norm: Any, dim: Any) -> Any:
    """The largest ‖b‖² − 2 q·b, as rounded in float32, that a vector nearer than √best can have.

    A sum of D products in any order errs by at most D·(ε/2)·‖q‖·‖b‖ (Higham 2002, eq. 3.5), and a vector nearer than √best
    has ‖b‖ ≤ ‖q‖ + √best; the norms, the subtraction and the distances compared with add the remaining terms.
    """
    if not np.isfinite(best):
        return np.float32(np.finfo(np.float32).max)
    top, own = np.float64(best), np.float64(norm)
    reach = np.sqrt(own) + np.sqrt(top)
    slack = 1.2e-7 * ((dim + 8.0) * (np.sqrt(own) * reach + top) + 4.0 * (reach * reach + own))
    return np.float32(min(top - own + slack, 3.4e38))


@njit(cache=True, nogil=True, error_model="numpy")
def _insert(value: Any, index: Any, best: Any, found: Any) -> None:
    """Put a neighbour into its place among the best k, which are sorted by distance, then index."""
    k = best.size
    if value > best[k - 1] or (value == best[k - 1] and index > found[k - 1] >= 0):
        return
    at = k - 1
    while at > 0 and (value < best[at - 1] or (value == best[at - 1] and (index < found[at - 1] or found[at - 1] < 0))):
        best[at], found[at] = best[at - 1], found[at - 1]
        at -= 1
    best[at], found[at] = value, index


@njit(cache=True, nogil=True, error_model="numpy")
def scan_block(
    products: Any,
    queries: Any,
    query_norms: Any,
    query_parts: Any,
    bank: Any,
    bank_norms: Any,
    bank_parts: Any,
    first: int,
    best: Any,
    found: Any,
) -> None:
    """Bring the k nearest of each query up to date with one block of the bank.

    ``products`` (q, m) float32 is queries (q, D) times the block's vectors (m, D); norms are squared; ``parts`` int32: a
    vector of the query's own part is left out (-1 leaves out none). ``best`` (q, k) float32 squared distances, infinite
    where nothing was found yet, and ``found`` (q, k) int64 indices, -1 likewise, are updated; ``first`` is the index of
    the block's first vector.
    """
    count, dim = bank.shape
    chunks = (count + CHUNK - 1) // CHUNK
    k = best.shape[1]
    for r in range(products.shape[0]):
        lows = np.empty(chunks, np.float32)
        nearest = _chunk_minima(products[r], bank_norms, bank_parts, query_parts[r], lows)
        limit = _limit(best[r, k - 1], query_norms[r], dim)
        for turn in range(chunks):
            # The most promising run first, so that its distance rules out most of the others.
            c = nearest if turn == 0 else (turn - 1 if turn <= nearest else turn)
            if lows[c] > limit:
                continue
            for j in range(c * CHUNK, min((c + 1) * CHUNK, count)):
                if bank_norms[j] - np.float32(2) * products[r, j] > limit or bank_parts[j] == query_parts[r]:
                    continue
                value = squared_distance(queries[r], bank[j])
                if value <= best[r, k - 1]:
                    _insert(value, first + j, best[r], found[r])
                    limit = _limit(best[r, k - 1], query_norms[r], dim)


@njit(cache=True, nogil=True, error_model="numpy")
def pick_greedily(rows: Any, distances: Any, met: Any, outside: Any, at_least: Any, picks: Any, heights: Any) -> Any:
    """Farthest-first picks among some rows while the winner is at least as far as every point outside can be.

    ``rows`` (a, D) float32; ``distances`` (a,) squared distances to the nearest centre, updated, and ``met`` (a,) how many
    of the picks each is up to date with; ``outside`` the largest that any other point can have; picking ends below it, at or
    below ``at_least``, or when ``picks`` is full. Returns how many were picked; ``picks`` holds their rows, ``heights`` the
    squared distance each had.
    """
    alive = np.arange(rows.shape[0])
    left = rows.shape[0]
    picked = 0
    while picked < picks.size and left > 0:
        top = 0
        for i in range(1, left):
            here, there = distances[alive[i]], distances[alive[top]]
            if here > there or (here == there and alive[i] < alive[top]):
                top = i
        winner = alive[top]
        height = distances[winner]
        if height < outside or height <= at_least:
            break
        picks[picked], heights[picked] = winner, height
        picked += 1
        i = 0
        while i < left:
            row = alive[i]
            distances[row] = min(distances[row], squared_distance(rows[row], rows[winner]))
            met[row] = picked
            if distances[row] < outside or row == winner:
                left -= 1  # it cannot win any more: its distance stays an upper bound for later
                alive[i] = alive[left]
            else:
                i += 1
    return picked
