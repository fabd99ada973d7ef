"""The compiled inner loops of photometric stereo.

``solve_distant`` does one fused pass: rows in parallel, each row in chunks that stay in the first-level cache. Inside a chunk
the first sweep is branch-free and vectorised (cast, dark, gain, least squares, residual, flags); only the pixels that it
marks are then visited one by one and re-solved on evidence. Under near lights ``_near_kernels`` sweeps, and ``resolve_near``
visits what it marked. Bits are those of ``photometric.Flag``.

What keeps the loops vectorised: float32 throughout; selects instead of branches; all rows of a chunk in one work buffer
at constant offsets (the compiler sees that they do not overlap, and that no index is negative); no more than eight
other arrays in one loop (each needs an overlap test against the buffer, and the compiler gives up beyond eight).
All that calls one another stands in one file, since numba's cache notices changes of a kernel's own file only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_CHUNK = 512  # pixels; the slots of a chunk are 34 KB for four zones: first-level cache, or nearly

(_TOP, _SECOND, _SQUARE, _BX, _BY, _BZ, _REST, _HIGH_DN, _LOW, _LOW_DN, _ALBEDO, _CONFIDENCE, _MARK, _DARK, _VALUES) = (
    slot * _CHUNK for slot in range(15)
)

# One pixel in all zones, (7, K) float64: corrected intensity, raw DN, DN above dark, 1 = used, light vector.
_J, _RAW, _ABOVE, _USE, _LX, _LY, _LZ = range(7)

_SATURATED, _SHADOWED, _OUTLIER, _RESOLVED, _WEAK, _NOT_SOLVABLE = 1, 2, 4, 8, 16, 32
_NO_NAN_ASSUMED = {"contract", "reassoc", "nsz", "arcp", "afn"}  # fast, yet NaN and infinity keep their meaning


@njit(cache=True, error_model="numpy")
def _least_squares(pixel: Any) -> Any:
    """b minimising Σ use (l·b − J)² by the normal equations, and (LᵀL)⁻¹ (six numbers); ok = not degenerate."""
    xx = xy = xz = yy = yz = zz = cx = cy = cz = 0.0
    for k in range(pixel.shape[1]):  # no branch: which zones are used changes from pixel to pixel
        lx, ly, lz = pixel[_USE, k] * pixel[_LX, k], pixel[_USE, k] * pixel[_LY, k], pixel[_USE, k] * pixel[_LZ, k]
        xx += lx * lx
        xy += lx * ly
        xz += lx * lz
        yy += ly * ly
        yz += ly * lz
        zz += lz * lz
        cx += lx * pixel[_J, k]
        cy += ly * pixel[_J, k]
        cz += lz * pixel[_J, k]
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
def _suspect(pixel: Any, count: int, fit: Any, level: float, apart: float) -> int:
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
    for k in range(pixel.shape[1]):
        if pixel[_USE, k] > 0:
            lx, ly, lz = pixel[_LX, k], pixel[_LY, k], pixel[_LZ, k]
            r = pixel[_J, k] - (lx * bx + ly * by + lz * bz)
            total += r * r
            h = lx * (axx * lx + 2 * (axy * ly + axz * lz)) + ly * (ayy * ly + 2 * ayz * lz) + azz * lz * lz
            size = abs(r) / max(1.0 - h, 1e-6)
            if size > worst_size:
                worst, worst_size = k, size
            if first < 0 or pixel[_J, k] > pixel[_J, first]:
                first = k
            if last < 0 or pixel[_J, k] < pixel[_J, last]:
                last = k
    if total <= level * level:
        return -1
    if count > 4:
        return worst
    second, third = -1, -1  # next to the brightest and next to the darkest
    for k in range(pixel.shape[1]):
        if pixel[_USE, k] > 0 and k != first and (second < 0 or pixel[_J, k] > pixel[_J, second]):
            second = k
        if pixel[_USE, k] > 0 and k != last and (third < 0 or pixel[_J, k] < pixel[_J, third]):
            third = k
    excess = pixel[_J, first] - (pixel[_LX, first] * bx + pixel[_LY, first] * by + pixel[_LZ, first] * bz)
    deficit = pixel[_J, last] - (pixel[_LX, last] * bx + pixel[_LY, last] * by + pixel[_LZ, last] * bz)
    above = pixel[_J, first] / max(pixel[_J, second], 1e-12)
    below = pixel[_J, third] / max(pixel[_J, last], 1e-12)
    if above >= below:
        return first if above > apart and excess > 0 else -1
    return last if below > apart and deficit < 0 else -1


@njit(cache=True, error_model="numpy")
def solve_pixel(pixel: Any, levels: Any) -> Any:
    """Solve one pixel from the zones that deserve trust; returns ((bx, by, bz), flags).

    A zone is left out when it is saturated, dark, or contradicted by the rest. With fewer than three left the solution over
    all unsaturated zones is given, marked weak; with fewer than two lit zones, or too little signal in all, there is none.
    """
    saturation, shadow, signal, ratio, disagreement, apart = levels
    zones = pixel.shape[1]
    top = second = 0.0
    brightest = pixel[_ABOVE, 0]
    for k in range(zones):
        brightest = max(brightest, pixel[_ABOVE, k])
        second = max(second, min(top, pixel[_J, k]))
        top = max(top, pixel[_J, k])
    flags = 0
    lit = count = unsaturated = 0
    norm = 0.0
    for k in range(zones):
        saturated = pixel[_RAW, k] >= saturation
        dark = (pixel[_ABOVE, k] <= shadow) | (pixel[_J, k] <= ratio * second)
        flags |= (_SATURATED if saturated else 0) | (_SHADOWED if dark else 0)
        used = not (saturated | dark)
        pixel[_USE, k] = used
        count += used
        lit += not dark
        unsaturated += not saturated
    if unsaturated == 0 or lit < 2 or brightest <= signal:
        return (0.0, 0.0, 0.0), flags | _NOT_SOLVABLE
    if count < 3:
        # Two lit zones bound the direction, the dark ones say where it does not point: usable for the eye, not for a gauge.
        for k in range(zones):
            pixel[_USE, k] = (pixel[_RAW, k] < saturation) | (unsaturated < 3)
        fit = _least_squares(pixel)
        if not fit[0]:
            return (0.0, 0.0, 0.0), flags | _NOT_SOLVABLE
        return fit[1:4], flags | _WEAK | (_RESOLVED if unsaturated < zones else 0)
    fit = _least_squares(pixel)
    if count == 3:
        flags |= _RESOLVED if zones > 3 else 0
        return fit[1:4], flags | (0 if fit[0] else _NOT_SOLVABLE)
    noise = 0.0  # the shadow level in units of J: what a residual must exceed to mean anything
    for k in range(zones):
        if pixel[_USE, k] > 0:
            norm += pixel[_J, k] * pixel[_J, k]
            noise = max(noise, 2 * shadow * pixel[_J, k] / pixel[_ABOVE, k])
    drops = 0
    while fit[0] and count > 3 and drops <= zones // 4:
        k = _suspect(pixel, count, fit, max(disagreement * norm**0.5, noise), apart)
        if k < 0:
            break
        pixel[_USE, k] = 0.0
        without = _least_squares(pixel)
        if not without[0] or without[3] <= 0:  # degenerate, or the rest sees a facet turned away: no evidence
            pixel[_USE, k] = 1.0
            break
        fit = without
        flags |= _OUTLIER
        count -= 1
        drops += 1
    if not fit[0]:
        return (0.0, 0.0, 0.0), flags | _NOT_SOLVABLE
    return fit[1:4], flags | (_RESOLVED if count < zones else 0)


@njit(cache=True, error_model="numpy")
def _unit(b: Any, flags: int) -> Any:
    """(x, y, z, albedo, flags) of b: unit normal and length, or NaN and 0 when there is no normal."""
    bx, by, bz = b
    length = (bx * bx + by * by + bz * bz) ** 0.5
    if flags & _NOT_SOLVABLE or not length > 0:
        return np.nan, np.nan, np.nan, 0.0, flags | _NOT_SOLVABLE
    s = 1.0 / length
    return bx * s, by * s, bz * s, length, flags | (_WEAK if bz <= 0 else 0)


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _fit(w: Any, n: int, frames: Any, gains: Any, gain_scales: Any, v: int, start: int, p: Any, lights: Any) -> None:
    """b = L⁺J, ‖J‖², the residual's square and the order statistics of one chunk, for any number of zones."""
    stop = start + n
    for slot in (_TOP, _SECOND, _SQUARE, _BX, _BY, _BZ, _REST, _HIGH_DN):
        w[slot : slot + n] = np.float32(0)
    w[_LOW : _LOW + n] = np.float32(3e38)
    w[_LOW_DN : _LOW_DN + n] = np.float32(3e38)
    for k in range(len(frames)):
        values = w[_VALUES + k * _CHUNK : _VALUES + k * _CHUNK + n]
        _load(
            w, n, values, frames[k][v, start:stop], None if gains is None else gains[k, v, start:stop], gain_scales[k]
        )
        px, py, pz = p[0, k], p[1, k], p[2, k]
        for i in range(n):
            value = values[i]
            w[_BX + i] += px * value
            w[_BY + i] += py * value
            w[_BZ + i] += pz * value
            w[_SQUARE + i] += value * value
            w[_LOW + i] = min(w[_LOW + i], value)
            w[_SECOND + i] = max(w[_SECOND + i], min(w[_TOP + i], value))
            w[_TOP + i] = max(w[_TOP + i], value)
    for k in range(len(frames)):
        values = w[_VALUES + k * _CHUNK : _VALUES + k * _CHUNK + n]
        lx, ly, lz = lights[k, 0], lights[k, 1], lights[k, 2]
        for i in range(n):
            r = values[i] - (lx * w[_BX + i] + ly * w[_BY + i] + lz * w[_BZ + i])
            w[_REST + i] += r * r


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _load(w: Any, n: int, values: Any, frame: Any, gain: Any, scale: Any) -> None:
    """One zone of one chunk: J into ``values``; raw and dark-corrected extremes kept for the flags."""
    for i in range(n):
        dn = np.float32(frame[i])
        w[_HIGH_DN + i] = max(w[_HIGH_DN + i], dn)
        w[_LOW_DN + i] = min(w[_LOW_DN + i], dn - w[_DARK + i])
    for i in range(n):
        factor = scale if gain is None else np.float32(gain[i]) * scale
        values[i] = (np.float32(frame[i]) - w[_DARK + i]) * factor


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _fit4(w: Any, n: int, frames: Any, gains: Any, scales: Any, p: Any, null: Any) -> None:
    """``_fit`` for four rows of frames and gains, in registers; Lᵀ·null = 0, hence ‖J − L b‖ = |null·J|."""
    f0, f1, f2, f3 = frames
    s0, s1, s2, s3 = scales[0], scales[1], scales[2], scales[3]
    p00, p01, p02, p03 = p[0, 0], p[0, 1], p[0, 2], p[0, 3]
    p10, p11, p12, p13 = p[1, 0], p[1, 1], p[1, 2], p[1, 3]
    p20, p21, p22, p23 = p[2, 0], p[2, 1], p[2, 2], p[2, 3]
    n0, n1, n2, n3 = null[0], null[1], null[2], null[3]
    for i in range(n):
        a, b, c, d = np.float32(f0[i]), np.float32(f1[i]), np.float32(f2[i]), np.float32(f3[i])
        dark = w[_DARK + i]
        w[_HIGH_DN + i] = max(max(a, b), max(c, d))
        w[_LOW_DN + i] = min(min(a, b), min(c, d)) - dark
        a, b, c, d = (a - dark) * s0, (b - dark) * s1, (c - dark) * s2, (d - dark) * s3
        if gains is not None:
            a, b = a * np.float32(gains[0][i]), b * np.float32(gains[1][i])
            c, d = c * np.float32(gains[2][i]), d * np.float32(gains[3][i])
        w[_BX + i] = p00 * a + p01 * b + p02 * c + p03 * d
        w[_BY + i] = p10 * a + p11 * b + p12 * c + p13 * d
        w[_BZ + i] = p20 * a + p21 * b + p22 * c + p23 * d
        r = n0 * a + n1 * b + n2 * c + n3 * d
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
            | (w[_HIGH_DN + i] - w[_DARK + i] <= signal)
            | (w[_LOW_DN + i] <= shadow)
            | (w[_LOW + i] <= ratio * w[_SECOND + i])
            | (rest > limit * square)
            | (not z > np.float32(0))  # also NaN
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
    return bool(marked > np.float32(0))


@njit(cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _load_dark(w: Any, n: int, dark: Any, scale: Any) -> None:
    for i in range(n):
        w[_DARK + i] = np.float32(dark[i]) * scale


@njit(cache=True, error_model="numpy")
def _copy(target: Any, source: Any) -> None:
    for i in range(target.shape[0]):  # vectorised; a slice assignment is not
        target[i] = source[i]


@njit(cache=True, error_model="numpy")
def _read(frames: Any, dark: Any, dark_scale: Any, gains: Any, gain_scales: Any, v: int, u: int, pixel: Any) -> None:
    """One pixel in all zones: J, raw DN and DN above dark."""
    offset = 0.0 if dark is None else dark[v, u] * dark_scale
    for k in range(len(frames)):
        raw = np.float64(frames[k][v, u])
        value = (raw - offset) * gain_scales[k]
        if gains is not None:
            value *= gains[k][v, u]
        pixel[_J, k], pixel[_RAW, k], pixel[_ABOVE, k] = value, raw, raw - offset


@njit(cache=True, parallel=True, error_model="numpy")
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
    out: Any,
) -> None:
    """Fused pass over all pixels; see the module's docstring. Arrays as ``photometric.solve`` describes them.

    ``null`` (Lᵀ·null = 0) is given for four zones in a tuple, and None for any other number in one array. ``out``: maps of
    the normals' x, y and z, albedo, flags, confidence.
    """
    nx, ny, nz, albedo, flags, confidence = out
    zones = len(frames)
    height, width = albedo.shape  # frames, dark and gains may be taller: work memory filled in part
    for v in prange(height):
        w = np.zeros(_VALUES + zones * _CHUNK, np.float32)
        pixel = np.empty((7, zones), np.float64)
        pixel[_LX:] = lights.T
        for start in range(0, width, _CHUNK):
            n = min(_CHUNK, width - start)
            stop = start + n
            if dark is not None:
                _load_dark(w, n, dark[v, start:stop], dark_scale)
            if null is None:
                _fit(w, n, frames, gains, gain_scales, v, start, inverse, lights)
            else:
                f0, f1, f2, f3 = frames
                rows = (f0[v, start:stop], f1[v, start:stop], f2[v, start:stop], f3[v, start:stop])
                if gains is None:
                    _fit4(w, n, rows, None, gain_scales, inverse, null)
                else:
                    g0, g1, g2, g3 = gains[0, v], gains[1, v], gains[2, v], gains[3, v]
                    gain_rows = (g0[start:stop], g1[start:stop], g2[start:stop], g3[start:stop])
                    _fit4(w, n, rows, gain_rows, gain_scales, inverse, null)
            flags[v, start:stop] = np.uint8(0)
            if _finish(w, n, levels):
                for i in range(n):
                    if w[_MARK + i] > 0:
                        _read(frames, dark, dark_scale, gains, gain_scales, v, start + i, pixel)
                        b, bits = solve_pixel(pixel, levels)
                        w[_BX + i], w[_BY + i], w[_BZ + i], w[_ALBEDO + i], bits = _unit(b, bits)
                        flags[v, start + i] = bits
                        if bits & _NOT_SOLVABLE:
                            w[_CONFIDENCE + i] = np.float32(0)
            if zones == 3:
                w[_CONFIDENCE : _CONFIDENCE + n] = np.float32(np.nan)
            _copy(nx[v, start:stop], w[_BX : _BX + n])
            _copy(ny[v, start:stop], w[_BY : _BY + n])
            _copy(nz[v, start:stop], w[_BZ : _BZ + n])
            _copy(albedo[v, start:stop], w[_ALBEDO : _ALBEDO + n])
            _copy(confidence[v, start:stop], w[_CONFIDENCE : _CONFIDENCE + n])


@njit(cache=True, error_model="numpy")
def _towards(positions: Any, reference: Any, xyz: Any, v: int, u: int, pixel: Any) -> None:
    """Unit vectors from one surface point to the lights, viewer frame, and J freed from the fall-off (d_ref/d)²."""
    for k in range(positions.shape[0]):
        dx = positions[k, 0] - xyz[v, u, 0]
        dy = positions[k, 1] - xyz[v, u, 1]
        dz = positions[k, 2] - xyz[v, u, 2]
        square = dx * dx + dy * dy + dz * dz
        s = 1.0 / square**0.5
        pixel[_LX, k] = dx * s  # camera frame → viewer frame: y and z change sign
        pixel[_LY, k] = -dy * s
        pixel[_LZ, k] = -dz * s
        if reference[k] > 0:
            pixel[_J, k] *= square / reference[k]


@njit(cache=True, parallel=True, error_model="numpy")
def resolve_near(
    frames: Any,
    positions: Any,
    reference: Any,
    xyz: Any,
    dark: Any,
    dark_scale: Any,
    gains: Any,
    gain_scales: Any,
    levels: Any,
    mark: Any,
    out: Any,
) -> None:
    """Solve the pixels whose flags are ``mark`` on evidence, each with its own light vectors, in float64.

    ``positions`` (K, 3) mm, camera frame; fall-off (d_ref/d)² from squared distances ``reference`` (K,) where they are > 0.
    """
    nx, ny, nz, albedo, flags, confidence = out
    zones = len(frames)
    height, width = albedo.shape  # frames, dark and gains may be taller: work memory filled in part
    for v in prange(height):
        pixel = np.empty((7, zones), np.float64)
        for u in range(width):
            if flags[v, u] != mark:
                continue
            b, bits = (0.0, 0.0, 0.0), _NOT_SOLVABLE
            if np.isfinite(xyz[v, u, 0] + xyz[v, u, 1] + xyz[v, u, 2]):
                _read(frames, dark, dark_scale, gains, gain_scales, v, u, pixel)
                _towards(positions, reference, xyz, v, u, pixel)
                b, bits = solve_pixel(pixel, levels)
            nx[v, u], ny[v, u], nz[v, u], albedo[v, u], bits = _unit(b, bits)
            flags[v, u] = bits
            if zones == 3:
                confidence[v, u] = np.nan
            else:
                confidence[v, u] = 0.0 if bits & _NOT_SOLVABLE else _agreement(pixel)


@njit(cache=True, error_model="numpy")
def _agreement(pixel: Any) -> float:
    """1 − ‖J − L b‖/‖J‖ of the least-squares fit over all zones."""
    pixel[_USE] = 1.0
    _ok, bx, by, bz = _least_squares(pixel)[:4]
    rest = norm = 0.0
    for k in range(pixel.shape[1]):
        r = pixel[_J, k] - (pixel[_LX, k] * bx + pixel[_LY, k] * by + pixel[_LZ, k] * bz)
        rest += r * r
        norm += pixel[_J, k] * pixel[_J, k]
    return 1.0 - (rest / max(norm, 1e-30)) ** 0.5


@njit(cache=True, parallel=True, error_model="numpy")
def gloss_near(
    frames: Any,
    positions: Any,
    reference: Any,
    xyz: Any,
    dark: Any,
    dark_scale: Any,
    gains: Any,
    gain_scales: Any,
    out: Any,
) -> None:
    """Leave-one-out residual r_k/(1 − h_k) of the brightest zone, clipped to [0, J_k]; NaN where it cannot be told."""
    zones = len(frames)
    height, width = out.shape
    for v in prange(height):
        pixel = np.empty((7, zones), np.float64)
        for u in range(width):
            _read(frames, dark, dark_scale, gains, gain_scales, v, u, pixel)
            _towards(positions, reference, xyz, v, u, pixel)
            pixel[_USE] = 1.0
            ok, bx, by, bz, axx, axy, axz, ayy, ayz, azz = _least_squares(pixel)
            k = np.argmax(pixel[_J])
            lx, ly, lz = pixel[_LX, k], pixel[_LY, k], pixel[_LZ, k]
            h = lx * (axx * lx + 2 * (axy * ly + axz * lz)) + ly * (ayy * ly + 2 * ayz * lz) + azz * lz * lz
            excess = (pixel[_J, k] - (lx * bx + ly * by + lz * bz)) / max(1.0 - h, 1e-6)
            out[v, u] = max(min(excess, pixel[_J, k]), 0.0) if ok else np.nan
