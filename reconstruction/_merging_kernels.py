"""The compiled loops of merging: consensus of up to four depths a pixel, then a look at each pixel's neighbours.

The first pass is free of branches: rows in chunks, all rows of a chunk in one work buffer at constant offsets (so that the
compiler sees that they do not overlap). Where directions see nothing is kept beside it for the few rows around the one at
work, one byte a pixel with a bit for each direction. The second pass visits only the few pixels that their neighbours do not
confirm. Bits of the masks: direction d is bit d − 1; the top bit of ``used`` marks a pixel to be removed.
All of it stands in one file, since numba's cache notices changes of this file only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_CHUNK = 256  # pixels; the eighteen slots of a chunk are 18 KB
_BAND = 32  # rows that one thread works on, with eight more of sigma above and below them

(_Z0, _Z1, _Z2, _Z3, _V0, _V1, _V2, _V3, _N0, _N1, _N2, _N3, _MEAN, _SIGMA, _SPREAD, _SUPPORT, _USED, _REJECTED) = (
    slot * _CHUNK for slot in range(18)
)
_REACH = 2  # pixels from a gap of a direction in which its weight is lowered
_NEAR_WEIGHT = np.float32(1 / 16)
_ENOUGH = np.float32(2)  # believed directions that have no gap near
_RING = 8  # rows of gaps that are remembered; 2·_REACH + 2 are needed
_REMOVE = np.uint8(128)


@njit(cache=True, error_model="numpy", inline="always")
def _agree(za: Any, va: Any, ha: Any, zb: Any, vb: Any, hb: Any, floor: Any, k_square: Any) -> Any:
    """1 if both are there and |za − zb| ≤ k·√(va + vb) + floor, else 0."""
    excess = max(abs(za - zb) - floor, np.float32(0))
    return np.float32(excess * excess <= k_square * (va + vb)) * ha * hb


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _consensus(w: Any, n: int, floor: Any, k_square: Any, bits: Any) -> None:
    """The consensus of a chunk (see ``merging``), from the slots of z and variance (0 = invalid) into the rest.

    With no more than four directions the largest set in which all agree pairwise is found without a search: all
    four; a triple, if there is one (of two or more, the one of greatest weight); a pair, if it is the only one.
    Truth is written as 0 and 1 in float32, "and" as a product, "not" as 1 − x: numba's selects would be branches here.
    Slots N tell that the direction has a gap near: its weight in the mean is then lowered, and σ is that of such a mean.
    """
    zero, one, far = np.float32(0), np.float32(1), np.float32(1e30)
    b0, b1, b2, b3 = bits
    for i in range(n):
        z0, z1, z2, z3 = w[_Z0 + i], w[_Z1 + i], w[_Z2 + i], w[_Z3 + i]
        v0, v1, v2, v3 = w[_V0 + i], w[_V1 + i], w[_V2 + i], w[_V3 + i]
        h0, h1, h2, h3 = np.float32(v0 > zero), np.float32(v1 > zero), np.float32(v2 > zero), np.float32(v3 > zero)
        w0, w1, w2, w3 = h0 / (v0 + (one - h0)), h1 / (v1 + (one - h1)), h2 / (v2 + (one - h2)), h3 / (v3 + (one - h3))
        a01 = _agree(z0, v0, h0, z1, v1, h1, floor, k_square)
        a02 = _agree(z0, v0, h0, z2, v2, h2, floor, k_square)
        a03 = _agree(z0, v0, h0, z3, v3, h3, floor, k_square)
        a12 = _agree(z1, v1, h1, z2, v2, h2, floor, k_square)
        a13 = _agree(z1, v1, h1, z3, v3, h3, floor, k_square)
        a23 = _agree(z2, v2, h2, z3, v3, h3, floor, k_square)
        # t_k: the three without k agree. The triple of greatest weight is the one that leaves out the least weight.
        t0, t1, t2, t3 = a12 * a13 * a23, a02 * a03 * a23, a01 * a03 * a13, a01 * a02 * a12
        triple = np.float32(t0 + t1 + t2 + t3 > zero)
        some = one - t0 * t3 * a03  # not all four
        o0, o1 = w0 * t0 + far * (one - t0), w1 * t1 + far * (one - t1)
        o2, o3 = w2 * t2 + far * (one - t2), w3 * t3 + far * (one - t3)
        least = min(min(o0, o1), min(o2, o3))
        d0 = np.float32(o0 <= least)  # left out: the first of equals
        d1 = np.float32(o1 <= least) * (one - d0)
        d2 = np.float32(o2 <= least) * (one - d0) * (one - d1)
        d3 = (one - d0) * (one - d1) * (one - d2)
        pairs, valid = a01 + a02 + a03 + a12 + a13 + a23, h0 + h1 + h2 + h3
        pair = (one - triple) * np.float32(pairs == one)
        alone = np.float32(pairs + valid == one)
        u0 = h0 * (triple * (one - d0 * some) + pair * (a01 + a02 + a03) + alone)
        u1 = h1 * (triple * (one - d1 * some) + pair * (a01 + a12 + a13) + alone)
        u2 = h2 * (triple * (one - d2 * some) + pair * (a02 + a12 + a23) + alone)
        u3 = h3 * (triple * (one - d3 * some) + pair * (a03 + a13 + a23) + alone)
        n0, n1, n2, n3 = w[_N0 + i], w[_N1 + i], w[_N2 + i], w[_N3 + i]
        clear = u0 * (one - n0) + u1 * (one - n1) + u2 * (one - n2) + u3 * (one - n3)
        lower = np.float32(clear >= _ENOUGH) * (one - _NEAR_WEIGHT)
        f0, f1, f2, f3 = one - lower * n0, one - lower * n1, one - lower * n2, one - lower * n3
        s0, s1, s2, s3 = u0 * w0 * f0, u1 * w1 * f1, u2 * w2 * f2, u3 * w3 * f3
        # Means of small differences from one of the depths used keep float32 exact.
        near = u0 * z0 + (one - u0) * (u1 * z1 + (one - u1) * (u2 * z2 + (one - u2) * z3))
        z0, z1, z2, z3 = z0 - near, z1 - near, z2 - near, z3 - near
        per = one / (s0 + s1 + s2 + s3)  # infinite where nothing is used: 0 · per makes the results NaN
        mean = (s0 * z0 + s1 * z1 + s2 * z2 + s3 * z3) * per
        e0, e1, e2, e3 = z0 - mean, z1 - mean, z2 - mean, z3 - mean
        square = (s0 * e0 * e0 + s1 * e1 * e1 + s2 * e2 * e2 + s3 * e3 * e3) * per
        w[_MEAN + i] = near + mean
        w[_SIGMA + i] = np.sqrt(s0 * f0 + s1 * f1 + s2 * f2 + s3 * f3) * per  # √(Σ s²σ²) / Σs, with s = f/σ²
        w[_SPREAD + i] = np.sqrt(square)
        w[_SUPPORT + i] = u0 + u1 + u2 + u3
        used = b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3
        w[_USED + i] = used
        w[_REJECTED + i] = b0 * h0 + b1 * h1 + b2 * h2 + b3 * h3 - used


@njit(cache=True, error_model="numpy")
def _load(z: Any, sigma: Any, to_z: Any, to_variance: Any) -> None:
    zero, tiny, far = np.float32(0), np.float32(1e-9), np.float32(1e9)  # squares and weights stay finite
    for i in range(len(z)):
        good = (sigma[i] > tiny) & (sigma[i] < far) & (abs(z[i]) < far)
        to_z[i] = z[i] if good else zero
        to_variance[i] = sigma[i] * sigma[i] if good else zero


@njit(cache=True, error_model="numpy")
def _store_map(values: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = values[i]


@njit(cache=True, error_model="numpy")
def _store_bits(values: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = np.uint8(np.int32(values[i]))


@njit(cache=True, error_model="numpy")
def _absent(sigma: Any, bit: Any, out: Any) -> None:
    """Set ``bit`` where there is no sigma."""
    tiny = np.float32(1e-9)
    for i in range(len(sigma)):
        out[i] |= np.uint8(not sigma[i] > tiny) * bit


@njit(cache=True, error_model="numpy")
def _whole(above: Any, below: Any, out: Any) -> None:
    """Gaps of 2×2 pixels, told at their upper left one: single pixels that failed are no shadow."""
    for i in range(len(out) - 1):
        out[i] = above[i] & below[i] & above[i + 1] & below[i + 1]


@njit(cache=True, error_model="numpy")
def _any_of(rows: Any, out: Any) -> None:
    a, b, c, d, e, f = rows
    for i in range(len(out)):
        out[i] = a[i] | b[i] | c[i] | d[i] | e[i] | f[i]


@njit(cache=True, error_model="numpy")
def _load_near(near: Any, shift: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = np.float32((np.int32(near[i]) >> shift) & 1)


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def consensus(z: Any, sigma: Any, bits: Any, floor: Any, k_square: Any, maps: Any, masks: Any) -> None:
    """Merge (D, H, W) depths, D ≤ 4: ``maps`` = z, sigma, spread (float32), ``masks`` = support, used, rejected (uint8)."""
    rows, cols = maps[0].shape
    for band in prange((rows + _BAND - 1) // _BAND):
        first, last = band * _BAND, min(band * _BAND + _BAND, rows)
        w = np.zeros(18 * _CHUNK, np.float32)  # directions that do not exist stay at variance 0: invalid
        absent = np.zeros((2, cols), np.uint8)  # of the even and the odd row
        gaps = np.zeros((_RING, cols + 2 * _REACH + 2), np.uint8)  # pixel c is at c + _REACH + 1
        down, near = np.zeros(cols + 2 * _REACH + 2, np.uint8), np.zeros(cols, np.uint8)
        for ahead in range(first - _REACH - 1, last + _REACH + 1):  # the row whose sigma is looked at next
            _look(sigma, ahead, absent[ahead % 2])
            if ahead - 1 >= first - _REACH - 1:
                _whole(absent[(ahead - 1) % 2], absent[ahead % 2], gaps[(ahead - 1) % _RING, _REACH + 1 : -_REACH - 1])
            r = ahead - _REACH - 1
            if r < first:
                continue
            _any_of((gaps[(r - 3) % _RING], gaps[(r - 2) % _RING], gaps[(r - 1) % _RING],
                     gaps[r % _RING], gaps[(r + 1) % _RING], gaps[(r + 2) % _RING]), down)  # fmt: skip
            _any_of((down[0:cols], down[1 : cols + 1], down[2 : cols + 2],
                     down[3 : cols + 3], down[4 : cols + 4], down[5 : cols + 5]), near)  # fmt: skip
            _merge_row(w, z, sigma, near, r, (bits, floor, k_square), maps, masks)


@njit(cache=True, error_model="numpy")
def _look(sigma: Any, row: int, absent: Any) -> None:
    """Which directions see nothing, in their bits; beyond the image nothing is missing."""
    absent[:] = 0
    if 0 <= row < sigma.shape[1]:
        for d in range(sigma.shape[0]):
            _absent(sigma[d, row], np.uint8(1 << d), absent)


@njit(cache=True, error_model="numpy")
def _merge_row(w: Any, z: Any, sigma: Any, near: Any, r: int, how: Any, maps: Any, masks: Any) -> None:
    bits, floor, k_square = how
    cols = maps[0].shape[1]
    for start in range(0, cols, _CHUNK):
        stop = min(start + _CHUNK, cols)
        n = stop - start
        for d in range(z.shape[0]):
            at_z, at_v, at_n = _Z0 + d * _CHUNK, _V0 + d * _CHUNK, _N0 + d * _CHUNK
            _load(z[d, r, start:stop], sigma[d, r, start:stop], w[at_z : at_z + n], w[at_v : at_v + n])
            _load_near(near[start:stop], d, w[at_n : at_n + n])
        _consensus(w, n, floor, k_square, bits)
        _store_map(w[_MEAN : _MEAN + n], maps[0][r, start:stop])
        _store_map(w[_SIGMA : _SIGMA + n], maps[1][r, start:stop])
        _store_map(w[_SPREAD : _SPREAD + n], maps[2][r, start:stop])
        _store_bits(w[_SUPPORT : _SUPPORT + n], masks[0][r, start:stop])
        _store_bits(w[_USED : _USED + n], masks[1][r, start:stop])
        _store_bits(w[_REJECTED : _REJECTED + n], masks[2][r, start:stop])


@njit(cache=True, error_model="numpy")
def _count_around(z: Any, r: int, c: int, reach: int, step: Any, noise: Any) -> int:
    """Neighbours within ``reach`` pixels whose depth the pixel's own reaches at the allowed slope."""
    count = 0
    for i in range(max(r - reach, 0), min(r + reach + 1, z.shape[0])):
        for j in range(max(c - reach, 0), min(c + reach + 1, z.shape[1])):
            distance = np.sqrt(np.float32((i - r) ** 2 + (j - c) ** 2))
            count += 1 if abs(z[i, j] - z[r, c]) <= distance * step + noise else 0
    return count - 1  # the pixel itself


@njit(cache=True, error_model="numpy")
def _suspect_row(above: Any, here: Any, below: Any, sigma: Any, step: Any, k: Any, enough: Any, marks: Any) -> None:
    """Set ``marks`` to 1 where fewer than ``enough`` of the 8 neighbours confirm a depth; not the first and last pixel."""
    one, zero, far = np.float32(1), np.float32(0), np.float32(np.inf)
    diagonal = step * np.float32(np.sqrt(2))
    for c in range(1, len(here) - 1):
        z, noise = here[c], k * sigma[c]
        straight, slanted = step + noise, diagonal + noise
        count = np.float32(abs(above[c] - z) <= straight) + np.float32(abs(below[c] - z) <= straight)
        count += np.float32(abs(here[c - 1] - z) <= straight) + np.float32(abs(here[c + 1] - z) <= straight)
        count += np.float32(abs(above[c - 1] - z) <= slanted) + np.float32(abs(above[c + 1] - z) <= slanted)
        count += np.float32(abs(below[c - 1] - z) <= slanted) + np.float32(abs(below[c + 1] - z) <= slanted)
        marks[c] = one if (count < enough) & (abs(z) < far) else zero


@njit(cache=True, error_model="numpy", fastmath={"reassoc"})
def _total(marks: Any) -> Any:
    total = np.float32(0)
    for i in range(len(marks)):
        total += marks[i]
    return total


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def remove_isolated(maps: Any, masks: Any, step: Any, k: Any, alone_least: int, least: int) -> None:
    """Take out the depths that their neighbours do not confirm, all judged before the first is taken out.

    ``maps`` and ``masks`` as for ``consensus``; ``step`` is the depth in mm that the allowed slope gives from pixel to pixel,
    ``k`` the noise allowed in standard deviations. A pixel of one direction needs ``alone_least`` of its 8 neighbours, every
    pixel ``least`` of the 24.
    """
    z, sigma, spread = maps
    support, used, rejected = masks
    rows, cols = z.shape
    enough = np.float32(max(least, alone_least))  # so many of the nearest eight: the other sixteen need no look
    found = np.zeros((rows, (cols + _CHUNK - 1) // _CHUNK), np.uint8)
    for r in prange(rows):
        marks = np.ones(cols, np.float32)  # 1: to be looked at closely, as the edges of the image always are
        if 0 < r < rows - 1:
            _suspect_row(z[r - 1], z[r], z[r + 1], sigma[r], step, k, enough, marks)
        for start in range(0, cols, _CHUNK):
            stop = min(start + _CHUNK, cols)
            if _total(marks[start:stop]) == 0:
                continue
            for c in range(start, stop):
                if marks[c] == 0 or support[r, c] == 0:
                    continue
                noise = k * sigma[r, c]
                near = _count_around(z, r, c, 1, step, noise)
                lonely = support[r, c] == 1 and near < alone_least
                if lonely or (near < least and _count_around(z, r, c, 2, step, noise) < least):
                    used[r, c] |= _REMOVE
                    found[r, start // _CHUNK] = 1
    for r in prange(rows):
        for start in range(0, cols, _CHUNK):
            if found[r, start // _CHUNK] == 0:
                continue
            for c in range(start, min(start + _CHUNK, cols)):
                if used[r, c] >= _REMOVE:
                    z[r, c] = sigma[r, c] = spread[r, c] = np.float32(np.nan)
                    rejected[r, c] |= used[r, c] & np.uint8(127)
                    used[r, c] = 0
                    support[r, c] = 0
