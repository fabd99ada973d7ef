"""The compiled inner loops of photometric stereo.

``solve_distant`` does one fused pass: rows in parallel, each row in chunks that stay in the first-level cache. Inside a chunk
the first sweep is branch-free and vectorised (cast, dark, gain, least squares, residual, flags); only the pixels that it
marks are then visited one by one and re-solved on evidence. ``solve_near`` has other light vectors at every pixel and
visits all of them. Bits are those of ``photometric.Flag``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_CHUNK = 512  # pixels; the (14 + K) float32 slots of a chunk are 36 KB for K = 4: first-level cache, or nearly

# One work buffer holds all rows of a chunk at constant offsets: the compiler then sees that they do not overlap
# and vectorises, where separate arrays would need more overlap tests than it is willing to emit.
_TOP, _SECOND, _SQUARE, _BX, _BY, _BZ, _REST, _HIGH_DN, _LOW, _LOW_DN, _ALBEDO, _CONFIDENCE, _MARK, _DARK, _VALUES = (
    slot * _CHUNK for slot in range(15)
)
_V1, _V2, _V3 = _VALUES + _CHUNK, _VALUES + 2 * _CHUNK, _VALUES + 3 * _CHUNK

_SATURATED, _SHADOWED, _OUTLIER, _RESOLVED, _WEAK, _NOT_SOLVABLE = 1, 2, 4, 8, 16, 32
_NO_NAN_ASSUMED = {"contract", "reassoc", "nsz", "arcp", "afn"}  # fast, yet NaN and infinity keep their meaning


@njit(cache=True, error_model="numpy")
def _least_squares(values: Any, lights: Any, use: Any) -> Any:
    """b minimising Σ_use (l·b − J)² by the normal equations, and A⁻¹ = (LᵀL)⁻¹ (six numbers); ok = not degenerate."""
    xx = xy = xz = yy = yz = zz = cx = cy = cz = 0.0
    for k in range(values.shape[0]):
        if use[k]:
            x, y, z, j = lights[k, 0], lights[k, 1], lights[k, 2], values[k]
            xx += x * x
            xy += x * y
            xz += x * z
            yy += y * y
            yz += y * z
            zz += z * z
            cx += x * j
            cy += y * j
            cz += z * j
    axx = yy * zz - yz * yz
    axy = xz * yz - xy * zz
    axz = xy * yz - xz * yy
    det = xx * axx + xy * axy + xz * axz
    trace = xx + yy + zz
    if det <= 1e-9 * trace * trace * trace:
        return False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    s = 1.0 / det
    axx, axy, axz = axx * s, axy * s, axz * s
    ayy = (xx * zz - xz * xz) * s
    ayz = (xy * xz - xx * yz) * s
    azz = (xx * yy - xy * xy) * s
    bx = axx * cx + axy * cy + axz * cz
    by = axy * cx + ayy * cy + ayz * cz
    bz = axz * cx + ayz * cy + azz * cz
    return True, bx, by, bz, axx, axy, axz, ayy, ayz, azz


@njit(cache=True, error_model="numpy")
def _suspect(values: Any, lights: Any, use: Any, count: int, fit: Any, level: float, apart: float) -> int:
    """The used zone that the others contradict, or -1.

    The residual r = J − L b of the fit must exceed ``level``. With five or more zones the largest leave-one-out residual
    r_k/(1 − h_k), h_k = l_kᵀ(LᵀL)⁻¹l_k, names the culprit (Allen's PRESS, 1974). With four there is one
    redundancy, which cannot name it: then the zone that stands apart in brightness is taken, the brightest if it is far
    above the next and the others predict less, the darkest if it is far below the next and the others predict more.
    """
    _ok, bx, by, bz, axx, axy, axz, ayy, ayz, azz = fit
    total = 0.0
    worst, worst_size = -1, 0.0
    first = last = -1
    for k in range(values.shape[0]):
        if use[k]:
            x, y, z = lights[k, 0], lights[k, 1], lights[k, 2]
            r = values[k] - (x * bx + y * by + z * bz)
            total += r * r
            h = x * (axx * x + 2 * (axy * y + axz * z)) + y * (ayy * y + 2 * ayz * z) + azz * z * z
            size = abs(r) / max(1.0 - h, 1e-6)
            if size > worst_size:
                worst, worst_size = k, size
            if first < 0 or values[k] > values[first]:
                first = k
            if last < 0 or values[k] < values[last]:
                last = k
    if total <= level * level:
        return -1
    if count > 4:
        return worst
    second, third = -1, -1  # next to the brightest and next to the darkest
    for k in range(values.shape[0]):
        if use[k] and k != first and (second < 0 or values[k] > values[second]):
            second = k
        if use[k] and k != last and (third < 0 or values[k] < values[third]):
            third = k
    excess = values[first] - (lights[first, 0] * bx + lights[first, 1] * by + lights[first, 2] * bz)
    deficit = values[last] - (lights[last, 0] * bx + lights[last, 1] * by + lights[last, 2] * bz)
    above = values[first] / max(values[second], 1e-12)
    below = values[third] / max(values[last], 1e-12)
    if above >= below:
        return first if above > apart and excess > 0 else -1
    return last if below > apart and deficit < 0 else -1


@njit(cache=True, error_model="numpy")
def solve_pixel(values: Any, raw: Any, above_dark: Any, lights: Any, use: Any, levels: Any) -> Any:
    """Solve one pixel from the zones that deserve trust; returns (bx, by, bz, flags).

    ``values`` J, ``raw`` and ``above_dark`` DN, all (K,); ``lights`` (K, 3); ``use`` (K,) scratch. A zone is left out
    when it is saturated, dark, or contradicted by the rest. With fewer than three left the solution over
    all unsaturated zones is given, marked weak; with fewer than two lit zones, or too little signal in all, there is none.
    """
    saturation, shadow, signal, ratio, disagreement, apart = levels
    zones = values.shape[0]
    top = second = 0.0
    brightest = above_dark[0]
    for k in range(zones):
        brightest = max(brightest, above_dark[k])
        second = max(second, min(top, values[k]))
        top = max(top, values[k])
    flags = 0
    lit = count = unsaturated = 0
    norm = 0.0
    for k in range(zones):
        saturated = raw[k] >= saturation
        dark = above_dark[k] <= shadow or values[k] <= ratio * second
        flags |= (_SATURATED if saturated else 0) | (_SHADOWED if dark else 0)
        use[k] = not (saturated or dark)
        count += use[k]
        lit += not dark
        unsaturated += not saturated
    if unsaturated == 0 or lit < 2 or brightest <= signal:
        return 0.0, 0.0, 0.0, flags | _NOT_SOLVABLE
    if count < 3:
        # Two lit zones bound the direction, the dark ones say where it does not point: usable for the eye, not for a gauge.
        for k in range(zones):
            use[k] = raw[k] < saturation or unsaturated < 3
        fit = _least_squares(values, lights, use)
        if not fit[0]:
            return 0.0, 0.0, 0.0, flags | _NOT_SOLVABLE
        return fit[1], fit[2], fit[3], flags | _WEAK | (_RESOLVED if unsaturated < zones else 0)
    fit = _least_squares(values, lights, use)
    noise = 0.0  # the shadow level in units of J: what a residual must exceed to mean anything
    for k in range(zones):
        if use[k]:
            norm += values[k] * values[k]
            noise = max(noise, 2 * shadow * values[k] / above_dark[k])
    drops = 0
    while fit[0] and count > 3 and drops <= zones // 4:
        k = _suspect(values, lights, use, count, fit, max(disagreement * norm**0.5, noise), apart)
        if k < 0:
            break
        use[k] = False
        without = _least_squares(values, lights, use)
        if not without[0] or without[3] <= 0:  # degenerate, or the rest sees a facet turned away: no evidence
            use[k] = True
            break
        fit = without
        flags |= _OUTLIER
        count -= 1
        drops += 1
    if not fit[0]:
        return 0.0, 0.0, 0.0, flags | _NOT_SOLVABLE
    return fit[1], fit[2], fit[3], flags | (_RESOLVED if count < zones else 0)


@njit(cache=True, error_model="numpy")
def _store(
    v: int, u: int, bx: float, by: float, bz: float, flags: int, planar: Any, albedo: Any, out_flags: Any
) -> bool:
    """Write b as unit normal and albedo; False when there is no normal."""
    length = (bx * bx + by * by + bz * bz) ** 0.5
    if flags & _NOT_SOLVABLE or not length > 0:
        for axis in range(3):
            planar[axis, v, u] = np.nan
        albedo[v, u] = 0
        out_flags[v, u] = flags | _NOT_SOLVABLE
        return False
    planar[0, v, u] = bx / length
    planar[1, v, u] = by / length
    planar[2, v, u] = bz / length
    albedo[v, u] = length
    out_flags[v, u] = flags | (_WEAK if bz <= 0 else 0)
    return True


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _load(w: Any, n: int, frame: Any, slot: int) -> None:
    """One zone of one chunk minus dark into ``w[slot:]``; raw and dark-corrected extremes kept for the flags."""
    for i in range(n):  # apart from the next loop, whose slot is not a constant: both then vectorise
        dn = np.float32(frame[i])
        w[_HIGH_DN + i] = max(w[_HIGH_DN + i], dn)
        w[_LOW_DN + i] = min(w[_LOW_DN + i], dn - w[_DARK + i])
    for i in range(n):
        w[slot + i] = np.float32(frame[i]) - w[_DARK + i]


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _load4(w: Any, n: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """``_load`` for four zones at once."""
    for i in range(n):
        fa, fb, fc, fd = np.float32(a[i]), np.float32(b[i]), np.float32(c[i]), np.float32(d[i])
        dark = w[_DARK + i]
        w[_HIGH_DN + i] = max(max(fa, fb), max(fc, fd))
        w[_LOW_DN + i] = min(min(fa, fb), min(fc, fd)) - dark
        w[_VALUES + i] = fa - dark
        w[_V1 + i] = fb - dark
        w[_V2 + i] = fc - dark
        w[_V3 + i] = fd - dark


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _scale(w: Any, n: int, gain: Any, scale: Any, slot: int) -> None:
    """Flat field or strength of one zone."""
    if gain is None:
        for i in range(n):
            w[slot + i] *= scale
    else:
        for i in range(n):
            w[slot + i] *= np.float32(gain[i]) * scale


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _fit(w: Any, n: int, inverse: Any, lights: Any, zones: int) -> None:
    """b = L⁺J, ‖J‖², the residual's square and the order statistics of one chunk, for any number of zones."""
    for slot in (_TOP, _SECOND, _SQUARE, _BX, _BY, _BZ, _REST):
        w[slot : slot + n] = np.float32(0)
    w[_LOW : _LOW + n] = np.float32(3e38)
    for k in range(zones):
        slot = _VALUES + k * _CHUNK
        px, py, pz = inverse[0, k], inverse[1, k], inverse[2, k]
        for i in range(n):
            value = w[slot + i]
            w[_BX + i] += px * value
            w[_BY + i] += py * value
            w[_BZ + i] += pz * value
            w[_SQUARE + i] += value * value
            w[_LOW + i] = min(w[_LOW + i], value)
            w[_SECOND + i] = max(w[_SECOND + i], min(w[_TOP + i], value))
            w[_TOP + i] = max(w[_TOP + i], value)
    for k in range(zones):
        slot = _VALUES + k * _CHUNK
        lx, ly, lz = lights[k, 0], lights[k, 1], lights[k, 2]
        for i in range(n):
            r = w[slot + i] - (lx * w[_BX + i] + ly * w[_BY + i] + lz * w[_BZ + i])
            w[_REST + i] += r * r


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _fit4(w: Any, n: int, p: Any, null: Any) -> None:
    """``_fit`` for four zones, in registers; the residual is the null vector's (Lᵀw = 0): ‖J − L b‖ = |w·J|."""
    for i in range(n):
        a, b, c, d = w[_VALUES + i], w[_V1 + i], w[_V2 + i], w[_V3 + i]
        w[_BX + i] = p[0, 0] * a + p[0, 1] * b + p[0, 2] * c + p[0, 3] * d
        w[_BY + i] = p[1, 0] * a + p[1, 1] * b + p[1, 2] * c + p[1, 3] * d
        w[_BZ + i] = p[2, 0] * a + p[2, 1] * b + p[2, 2] * c + p[2, 3] * d
        r = null[0] * a + null[1] * b + null[2] * c + null[3] * d
        w[_REST + i] = r * r
        w[_SQUARE + i] = a * a + b * b + c * c + d * d
        top_ab, low_ab = max(a, b), min(a, b)
        top_cd, low_cd = max(c, d), min(c, d)
        w[_LOW + i] = min(low_ab, low_cd)
        w[_SECOND + i] = max(min(top_ab, top_cd), max(low_ab, low_cd))


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _finish(w: Any, n: int, levels: Any) -> bool:
    """Unit normal, albedo, confidence and mark of one chunk; True if any pixel is marked for a second look."""
    saturation, shadow, signal, ratio, disagreement, _apart = levels
    limit = disagreement * disagreement
    marked = np.float32(0)
    for i in range(n):
        x, y, z = w[_BX + i], w[_BY + i], w[_BZ + i]
        rest, square = w[_REST + i], w[_SQUARE + i]
        mark = np.float32(
            (w[_HIGH_DN + i] >= saturation)
            | (w[_LOW_DN + i] <= shadow)
            | (w[_HIGH_DN + i] - w[_DARK + i] <= signal)
            | (w[_LOW + i] <= ratio * w[_SECOND + i])
            | (rest > limit * square)
            | (z <= np.float32(0))
        )
        length2 = x * x + y * y + z * z
        s = np.float32(1) / np.sqrt(max(length2, np.float32(1e-30)))
        w[_BX + i] = x * s
        w[_BY + i] = y * s
        w[_BZ + i] = z * s
        w[_ALBEDO + i] = length2 * s
        w[_CONFIDENCE + i] = np.float32(1) - np.sqrt(rest / max(square, np.float32(1e-30)))
        w[_MARK + i] = mark
        marked += mark
    return marked > np.float32(0)


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _load_dark(w: Any, n: int, dark: Any, scale: Any) -> None:
    for i in range(n):
        w[_DARK + i] = np.float32(dark[i]) * scale


@njit(cache=True, error_model="numpy")
def _copy(target: Any, w: Any, slot: int, n: int) -> None:
    for i in range(n):
        target[i] = w[slot + i]


@njit(cache=True, parallel=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def solve_distant(
    frames: Any,
    inverse: Any,
    null: Any,
    lights: Any,
    dark: Any,
    dark_scale: Any,
    gains: Any,
    gain_scales: Any,
    levels: Any,
    planar: Any,
    albedo: Any,
    flags: Any,
    confidence: Any,
) -> None:
    """Fused pass over all pixels; see the module's docstring. Arrays as ``photometric.solve`` describes them."""
    zones = len(frames)
    height, width = frames[0].shape
    lights64 = lights.astype(np.float64)
    for v in prange(height):
        w = np.empty(_VALUES + zones * _CHUNK, np.float32)
        values = np.empty(zones, np.float64)
        raw = np.empty(zones, np.float64)
        above_dark = np.empty(zones, np.float64)
        use = np.empty(zones, np.bool_)
        for start in range(0, width, _CHUNK):
            n = min(_CHUNK, width - start)
            stop = start + n
            if dark is None:
                w[_DARK : _DARK + n] = np.float32(0)
            else:
                _load_dark(w, n, dark[v, start:stop], dark_scale)
            if zones == 4:
                a, b, c, d = frames[0], frames[1], frames[2], frames[3]
                _load4(w, n, a[v, start:stop], b[v, start:stop], c[v, start:stop], d[v, start:stop])
            else:
                w[_HIGH_DN : _HIGH_DN + n] = np.float32(0)
                w[_LOW_DN : _LOW_DN + n] = np.float32(3e38)
                for k in range(zones):
                    _load(w, n, frames[k][v, start:stop], _VALUES + k * _CHUNK)
            for k in range(zones):
                gain_row = None if gains is None else gains[k, v, start:stop]
                _scale(w, n, gain_row, gain_scales[k], _VALUES + k * _CHUNK)
            if zones == 4:
                _fit4(w, n, inverse, null)
            else:
                _fit(w, n, inverse, lights, zones)
            marked = _finish(w, n, levels)
            _copy(planar[0, v, start:stop], w, _BX, n)
            _copy(planar[1, v, start:stop], w, _BY, n)
            _copy(planar[2, v, start:stop], w, _BZ, n)
            _copy(albedo[v, start:stop], w, _ALBEDO, n)
            _copy(confidence[v, start:stop], w, _CONFIDENCE, n)
            flags[v, start:stop] = np.uint8(0)
            if marked:
                for i in range(n):
                    if w[_MARK + i] > 0:
                        u = start + i
                        for k in range(zones):
                            raw[k] = frames[k][v, u]
                            above_dark[k] = raw[k]
                            if dark is not None:
                                above_dark[k] -= dark[v, u] * dark_scale
                            values[k] = w[_VALUES + k * _CHUNK + i]
                        x, y, z, bits = solve_pixel(values, raw, above_dark, lights64, use, levels)
                        if not _store(v, u, x, y, z, bits, planar, albedo, flags):
                            confidence[v, u] = np.float32(0)
            if zones == 3:
                confidence[v, start:stop] = np.float32(np.nan)


@njit(cache=True, parallel=True, error_model="numpy")
def solve_near(
    frames: Any,
    positions: Any,
    reference: Any,
    xyz: Any,
    dark: Any,
    dark_scale: Any,
    gains: Any,
    gain_scales: Any,
    levels: Any,
    planar: Any,
    albedo: Any,
    flags: Any,
    confidence: Any,
) -> None:
    """Per-pixel light vectors towards ``positions`` (K, 3) mm, camera frame; fall-off (d_ref/d)² when ``reference`` > 0."""
    zones = len(frames)
    height, width = frames[0].shape
    for v in prange(height):
        values = np.empty(zones, np.float64)
        raw = np.empty(zones, np.float64)
        above_dark = np.empty(zones, np.float64)
        lights = np.empty((zones, 3), np.float64)
        use = np.empty(zones, np.bool_)
        for u in range(width):
            for k in range(zones):
                dx = positions[k, 0] - xyz[v, u, 0]
                dy = positions[k, 1] - xyz[v, u, 1]
                dz = positions[k, 2] - xyz[v, u, 2]
                square = dx * dx + dy * dy + dz * dz
                s = 1.0 / square**0.5
                lights[k, 0] = dx * s  # camera frame → viewer frame: y and z change sign
                lights[k, 1] = -dy * s
                lights[k, 2] = -dz * s
                raw[k] = frames[k][v, u]
                above_dark[k] = raw[k]
                if dark is not None:
                    above_dark[k] -= dark[v, u] * dark_scale
                values[k] = above_dark[k] * gain_scales[k]
                if gains is not None:
                    values[k] *= gains[k, v, u]
                if reference[k] > 0:
                    values[k] *= square / reference[k]
            if not np.isfinite(lights[0, 2]):
                _store(v, u, 0.0, 0.0, 0.0, _NOT_SOLVABLE, planar, albedo, flags)
                confidence[v, u] = 0
                continue
            x, y, z, bits = solve_pixel(values, raw, above_dark, lights, use, levels)
            if not _store(v, u, x, y, z, bits, planar, albedo, flags):
                confidence[v, u] = 0
                continue
            use[:] = True
            fit = _least_squares(values, lights, use)
            rest = norm = 0.0
            for k in range(zones):
                r = values[k] - (lights[k, 0] * fit[1] + lights[k, 1] * fit[2] + lights[k, 2] * fit[3])
                rest += r * r
                norm += values[k] * values[k]
            confidence[v, u] = 1.0 - (rest / max(norm, 1e-30)) ** 0.5 if zones > 3 else np.nan
