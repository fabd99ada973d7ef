"""The compiled sweep of photometric stereo under near lights: light vectors of their own at every pixel.

``sweep_four`` and ``sweep_any`` solve every pixel from all its zones in float32, rows in parallel, each row in chunks that
stay in the first-level cache, without a branch inside: load (cast, dark, gain), light vectors and fall-off, 3×3 normal
equations, residual, flags. A pixel that may deserve a second look gets ``MARK`` as its flags; the caller hands the marked
ones to ``_photometric_kernels.resolve_near``, which judges in float64. Marks are set with a margin for what float32
rounds, so that no pixel escapes that float64 would have flagged.

Nothing here calls into another file, and no other file's kernels call in: numba's cache notices changes of a kernel's own
file only. What keeps the loops vectorised is told in ``_photometric_kernels``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

MARK = 255  # in ``flags``: to be solved again; no sum of the bits of ``photometric.Flag``

_CHUNK = 256  # pixels; the slots of a chunk are 21 KB for four zones
(_X, _Y, _Z, _DARK, _HIGH_DN, _LOW_DN, _BX, _BY, _BZ, _REST, _SQUARE, _TOP, _SECOND, _LOW, _FORM, _ALBEDO, _CONFIDENCE) = (
    slot * _CHUNK for slot in range(17)
)  # fmt: skip
_VALUES = 17 * _CHUNK  # J of every zone; with any number of zones, then nine sums, then three components of every light
_SUMS = 9

_ROUNDING = np.float32(1e-6)  # of a sum of a few float32 numbers, generously
_LEAST_FORM = np.float32(1e-4)  # det(LᵀL)/trace³, below which float32 would lose digits; 0.03 for four lights at 45°
_NO_NAN_ASSUMED = {"contract", "reassoc", "nsz", "arcp", "afn"}  # fast, yet NaN and infinity keep their meaning


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _start(w: Any, n: int, points: Any, dark: Any, dark_scale: Any) -> None:
    """Surface points and dark of one chunk."""
    for i in range(n):
        w[_X + i] = points[i, 0]
        w[_Y + i] = points[i, 1]
        w[_Z + i] = points[i, 2]
    if dark is not None:
        for i in range(n):
            w[_DARK + i] = np.float32(dark[i]) * dark_scale
    w[_HIGH_DN : _HIGH_DN + n] = np.float32(-3e38)
    w[_LOW_DN : _LOW_DN + n] = np.float32(3e38)


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _load(w: Any, n: int, k: int, frame: Any, gain: Any, scale: Any) -> None:
    """J of one zone before its fall-off, and the extremes of the raw values for the flags."""
    at = _VALUES + k * _CHUNK
    for i in range(n):
        dn = np.float32(frame[i])
        above = dn - w[_DARK + i]
        w[_HIGH_DN + i] = max(w[_HIGH_DN + i], dn)
        w[_LOW_DN + i] = min(w[_LOW_DN + i], above)
        factor = scale if gain is None else np.float32(gain[i]) * scale
        w[at + i] = above * factor


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _light(source: Any, x: Any, y: Any, z: Any, value: Any) -> Any:
    """Unit vector from a point towards a source, viewer frame, and J freed from its fall-off (d/d_ref)²."""
    dx = source[0] - x
    dy = y - source[1]  # camera frame → viewer frame: y and z change sign
    dz = z - source[2]
    square = dx * dx + dy * dy + dz * dz
    s = np.float32(1) / np.sqrt(square)
    return dx * s, dy * s, dz * s, value * (source[3] * square + source[4])


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _solve(xx: Any, xy: Any, xz: Any, yy: Any, yz: Any, zz: Any, cx: Any, cy: Any, cz: Any) -> Any:
    """b of the normal equations (LᵀL) b = LᵀJ, and det/trace³, small where the lights lie in one plane."""
    axx, axy, axz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    ayy, ayz, azz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    det = xx * axx + xy * axy + xz * axz
    trace = xx + yy + zz
    s = np.float32(1) / det
    bx = (axx * cx + axy * cy + axz * cz) * s
    by = (axy * cx + ayy * cy + ayz * cz) * s
    bz = (axz * cx + ayz * cy + azz * cz) * s
    return bx, by, bz, det / (trace * trace * trace)


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _fit_four(w: Any, n: int, s0: Any, s1: Any, s2: Any, s3: Any) -> None:
    """b, residual, ‖J‖² and order statistics of one chunk under four lights, all in registers."""
    for i in range(n):
        x, y, z = w[_X + i], w[_Y + i], w[_Z + i]
        ax, ay, az, a = _light(s0, x, y, z, w[_VALUES + i])
        bx, by, bz, b = _light(s1, x, y, z, w[_VALUES + _CHUNK + i])
        cx, cy, cz, c = _light(s2, x, y, z, w[_VALUES + 2 * _CHUNK + i])
        dx, dy, dz, d = _light(s3, x, y, z, w[_VALUES + 3 * _CHUNK + i])
        nx, ny, nz, form = _solve(
            ax * ax + bx * bx + cx * cx + dx * dx,
            ax * ay + bx * by + cx * cy + dx * dy,
            ax * az + bx * bz + cx * cz + dx * dz,
            ay * ay + by * by + cy * cy + dy * dy,
            ay * az + by * bz + cy * cz + dy * dz,
            az * az + bz * bz + cz * cz + dz * dz,
            ax * a + bx * b + cx * c + dx * d,
            ay * a + by * b + cy * c + dy * d,
            az * a + bz * b + cz * c + dz * d,
        )
        ra, rb = a - (ax * nx + ay * ny + az * nz), b - (bx * nx + by * ny + bz * nz)
        rc, rd = c - (cx * nx + cy * ny + cz * nz), d - (dx * nx + dy * ny + dz * nz)
        top_ab, low_ab, top_cd, low_cd = max(a, b), min(a, b), max(c, d), min(c, d)
        w[_BX + i] = nx
        w[_BY + i] = ny
        w[_BZ + i] = nz
        w[_FORM + i] = form
        w[_REST + i] = ra * ra + rb * rb + rc * rc + rd * rd
        w[_SQUARE + i] = a * a + b * b + c * c + d * d
        w[_LOW + i] = min(low_ab, low_cd)
        w[_SECOND + i] = max(min(top_ab, top_cd), max(low_ab, low_cd))


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _sum_light(w: Any, n: int, k: int, zones: int, source: Any) -> None:
    """One light of one chunk into the normal equations and the order statistics."""
    at = _VALUES + k * _CHUNK
    sums = _VALUES + zones * _CHUNK
    light = sums + (_SUMS + 3 * k) * _CHUNK
    for i in range(n):
        lx, ly, lz, value = _light(source, w[_X + i], w[_Y + i], w[_Z + i], w[at + i])
        w[at + i] = value
        w[light + i] = lx
        w[light + _CHUNK + i] = ly
        w[light + 2 * _CHUNK + i] = lz
        w[_SQUARE + i] += value * value
        w[_LOW + i] = min(w[_LOW + i], value)
        w[_SECOND + i] = max(w[_SECOND + i], min(w[_TOP + i], value))
        w[_TOP + i] = max(w[_TOP + i], value)
    for i in range(n):
        lx, ly, lz, value = w[light + i], w[light + _CHUNK + i], w[light + 2 * _CHUNK + i], w[at + i]
        w[sums + i] += lx * lx
        w[sums + _CHUNK + i] += lx * ly
        w[sums + 2 * _CHUNK + i] += lx * lz
        w[sums + 3 * _CHUNK + i] += ly * ly
        w[sums + 4 * _CHUNK + i] += ly * lz
        w[sums + 5 * _CHUNK + i] += lz * lz
        w[sums + 6 * _CHUNK + i] += lx * value
        w[sums + 7 * _CHUNK + i] += ly * value
        w[sums + 8 * _CHUNK + i] += lz * value


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _fit_any(w: Any, n: int, zones: int, sources: Any) -> None:
    """As ``_fit_four``, for any number of zones."""
    sums = _VALUES + zones * _CHUNK
    w[_LOW : _LOW + n] = np.float32(3e38)
    for slot in (_TOP, _SECOND, _SQUARE, _REST):
        w[slot : slot + n] = np.float32(0)
    w[sums : sums + _SUMS * _CHUNK] = np.float32(0)
    for k in range(zones):
        _sum_light(w, n, k, zones, sources[k])
    for i in range(n):
        w[_BX + i], w[_BY + i], w[_BZ + i], w[_FORM + i] = _solve(
            w[sums + i],
            w[sums + _CHUNK + i],
            w[sums + 2 * _CHUNK + i],
            w[sums + 3 * _CHUNK + i],
            w[sums + 4 * _CHUNK + i],
            w[sums + 5 * _CHUNK + i],
            w[sums + 6 * _CHUNK + i],
            w[sums + 7 * _CHUNK + i],
            w[sums + 8 * _CHUNK + i],
        )
    for k in range(zones):
        at, light = _VALUES + k * _CHUNK, sums + (_SUMS + 3 * k) * _CHUNK
        for i in range(n):
            seen = (
                w[light + i] * w[_BX + i] + w[light + _CHUNK + i] * w[_BY + i] + w[light + 2 * _CHUNK + i] * w[_BZ + i]
            )
            w[_REST + i] += (w[at + i] - seen) * (w[at + i] - seen)


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _finish(w: Any, n: int, levels: Any, flags: Any) -> None:
    """Unit normal, albedo, confidence, and flags of one chunk: ``MARK`` where a second look is due, else 0."""
    saturation, shadow, signal, ratio, disagreement, _apart = levels
    # With margins for rounding, so that every pixel that float64 would judge otherwise is marked.
    limit = max(disagreement * np.float32(0.999) - np.float32(2) * _ROUNDING, np.float32(0))
    limit *= limit
    ratio *= np.float32(1) + np.float32(10) * _ROUNDING
    for i in range(n):
        x, y, z = w[_BX + i], w[_BY + i], w[_BZ + i]
        rest, square, high = w[_REST + i], w[_SQUARE + i], w[_HIGH_DN + i]
        length2 = x * x + y * y + z * z
        s = np.float32(1) / np.sqrt(max(length2, np.float32(1e-30)))
        slack = _ROUNDING * abs(high)
        mark = (
            (high >= saturation)
            | (high - w[_DARK + i] <= signal + slack)
            | (w[_LOW_DN + i] <= shadow + slack)
            | (w[_LOW + i] <= ratio * max(w[_SECOND + i], np.float32(0)))
            | (not rest < limit * square)
            | (not w[_FORM + i] > _LEAST_FORM)
            | (not z * s > np.float32(1e-4))  # also NaN
        )
        w[_BX + i] = x * s
        w[_BY + i] = y * s
        w[_BZ + i] = z * s
        w[_ALBEDO + i] = length2 * s
        w[_CONFIDENCE + i] = np.float32(1) - np.sqrt(rest / max(square, np.float32(1e-30)))
        flags[i] = np.uint8(MARK) if mark else np.uint8(0)


@njit(cache=True, error_model="numpy")
def _copy(target: Any, w: Any, slot: int) -> None:
    for i in range(target.shape[0]):  # vectorised; a slice assignment is not
        target[i] = w[slot + i]


@njit(cache=True, error_model="numpy")
def _store(w: Any, out: Any, v: int, start: int, stop: int) -> None:
    nx, ny, nz, albedo, _flags, confidence = out
    _copy(nx[v, start:stop], w, _BX)
    _copy(ny[v, start:stop], w, _BY)
    _copy(nz[v, start:stop], w, _BZ)
    _copy(albedo[v, start:stop], w, _ALBEDO)
    _copy(confidence[v, start:stop], w, _CONFIDENCE)


@njit(cache=True, error_model="numpy")
def _load_four(
    w: Any, n: int, frames: Any, xyz: Any, dark: Any, dark_scale: Any, gains: Any, scales: Any, v: int, start: int
) -> None:
    stop = start + n
    _start(w, n, xyz[v, start:stop], None if dark is None else dark[v, start:stop], dark_scale)
    for k in range(4):
        gain = None if gains is None else gains[k][v, start:stop]
        _load(w, n, k, frames[k][v, start:stop], gain, scales[k])


@njit(cache=True, error_model="numpy")
def _source(sources: Any, k: int) -> Any:
    return sources[k, 0], sources[k, 1], sources[k, 2], sources[k, 3], sources[k, 4]


@njit(cache=True, parallel=True, error_model="numpy")
def sweep_four(
    frames: Any, sources: Any, xyz: Any, dark: Any, dark_scale: Any, gains: Any, gain_scales: Any, levels: Any, out: Any
) -> None:
    """All pixels under four near lights; ``frames`` and ``gains`` (or None) are tuples of four maps.

    ``sources`` (4, 5) float32: position in mm, camera frame, then a and b of the factor a·d² + b that undoes the fall-off.
    ``xyz`` (H, W, 3) float32; ``out``: maps of the normals' x, y and z, albedo, flags, confidence.
    """
    height, width = out[3].shape  # frames, dark and gains may be taller: work memory filled in part
    for v in prange(height):
        w = np.zeros(_VALUES + 4 * _CHUNK, np.float32)
        s0, s1, s2, s3 = _source(sources, 0), _source(sources, 1), _source(sources, 2), _source(sources, 3)
        for start in range(0, width, _CHUNK):
            n = min(_CHUNK, width - start)
            _load_four(w, n, frames, xyz, dark, dark_scale, gains, gain_scales, v, start)
            _fit_four(w, n, s0, s1, s2, s3)
            _finish(w, n, levels, out[4][v, start : start + n])
            _store(w, out, v, start, start + n)


@njit(cache=True, parallel=True, error_model="numpy")
def sweep_any(
    frames: Any, sources: Any, xyz: Any, dark: Any, dark_scale: Any, gains: Any, gain_scales: Any, levels: Any, out: Any
) -> None:
    """As ``sweep_four`` for any number of zones; ``frames`` and ``gains`` (K, H, W)."""
    zones = len(frames)
    height, width = out[3].shape
    for v in prange(height):
        w = np.zeros(_VALUES + (zones * 4 + _SUMS) * _CHUNK, np.float32)
        for start in range(0, width, _CHUNK):
            n = min(_CHUNK, width - start)
            _start(w, n, xyz[v, start : start + n], dark[v, start : start + n], dark_scale)
            for k in range(zones):
                _load(w, n, k, frames[k, v, start : start + n], gains[k, v, start : start + n], gain_scales[k])
            _fit_any(w, n, zones, sources)
            _finish(w, n, levels, out[4][v, start : start + n])
            if zones == 3:
                w[_CONFIDENCE : _CONFIDENCE + n] = np.float32(np.nan)
            _store(w, out, v, start, start + n)


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _excess(w: Any, n: int, s0: Any, s1: Any, s2: Any, s3: Any, gloss: Any) -> None:
    """Leave-one-out residual of the brightest of four zones.

    With the null vector m of Lᵀ (its entries are the 3×3 minors of L) the residual is r = m (m·J)/‖m‖² and 1 − h_k = m_k²/‖m‖²,
    so that r_k/(1 − h_k) = (m·J)/m_k. ‖m‖² = det(LᵀL) (Cauchy-Binet) says where the lights lie in one plane.
    """
    for i in range(n):
        x, y, z = w[_X + i], w[_Y + i], w[_Z + i]
        ax, ay, az, a = _light(s0, x, y, z, w[_VALUES + i])
        bx, by, bz, b = _light(s1, x, y, z, w[_VALUES + _CHUNK + i])
        cx, cy, cz, c = _light(s2, x, y, z, w[_VALUES + 2 * _CHUNK + i])
        dx, dy, dz, d = _light(s3, x, y, z, w[_VALUES + 3 * _CHUNK + i])
        abx, aby, abz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        cdx, cdy, cdz = cy * dz - cz * dy, cz * dx - cx * dz, cx * dy - cy * dx
        ma, mb = cdx * bx + cdy * by + cdz * bz, -(cdx * ax + cdy * ay + cdz * az)
        mc, md = abx * dx + aby * dy + abz * dz, -(abx * cx + aby * cy + abz * cz)
        whole = ma * ma + mb * mb + mc * mc + md * md
        top, own = a, ma
        own = mb if b > top else own
        top = max(top, b)
        own = mc if c > top else own
        top = max(top, c)
        own = md if d > top else own
        top = max(top, d)
        excess = (ma * a + mb * b + mc * c + md * d) * own / max(own * own, _ROUNDING * whole)
        clipped = max(min(excess, top), np.float32(0))
        gloss[i] = clipped if whole > np.float32(64e-9) else np.float32(np.nan)


@njit(cache=True, parallel=True, error_model="numpy")
def gloss_four(
    frames: Any, sources: Any, xyz: Any, dark: Any, dark_scale: Any, gains: Any, gain_scales: Any, gloss: Any
) -> None:
    """Leave-one-out residual of the brightest of four zones, clipped to [0, J_k]; NaN where it cannot be told."""
    height, width = gloss.shape
    for v in prange(height):
        w = np.zeros(_VALUES + 4 * _CHUNK, np.float32)
        s0, s1, s2, s3 = _source(sources, 0), _source(sources, 1), _source(sources, 2), _source(sources, 3)
        for start in range(0, width, _CHUNK):
            n = min(_CHUNK, width - start)
            _load_four(w, n, frames, xyz, dark, dark_scale, gains, gain_scales, v, start)
            _excess(w, n, s0, s1, s2, s3, gloss[v, start : start + n])
