"""The compiled inner loops of fringe decoding: one kernel for each number of steps and bits, made once and kept on disk.

What makes them fast: every value becomes a 32-bit float at once, no branches but selects, and counts that the compiler knows
(free variables of the factories below), so that a pixel's images are an unrolled sum in registers and eight pixels go
through at a time. The helpers are inlined by numba itself (``inline="always"``); left to the linker they come too late for
the vectoriser. The factories close over plain numbers only: numba's cache knows a closure by their values. All of it
stands in one file, since numba's cache notices changes of this file only.

Bits are those of ``decoding.Flag``. Angles are in turns (2π rad = 1), [0, 1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit, prange

_NO_NAN_ASSUMED = {"contract", "reassoc", "nsz", "arcp", "afn"}  # fast, yet NaN keeps its meaning
_ALIKE = 8  # orders tried in a row before best and second best go back to memory

_SATURATED, _DARK, _ORDER, _OUTSIDE, _RESIDUAL = (np.int32(1 << bit) for bit in range(5))
_TURN = np.float32(1 / (2 * np.pi))
_HALF, _ONE, _TWO, _ZERO, _HUGE = (np.float32(x) for x in (0.5, 1, 2, 0, 3e38))
_QUARTER, _THREE_QUARTERS, _TINY, _NAN = (np.float32(x) for x in (0.25, 0.75, 1e-20, np.nan))


@njit(inline="always", error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _turns(y: Any, x: Any) -> Any:
    """atan2(y, x)/2π in [0, 1), to 2e-6 rad.

    The odd polynomial of degree 11 is the minimax approximation of the arctangent on [0, 1]; signs and sizes of x and y
    choose the octant.
    """
    ax, ay = abs(x), abs(y)
    r = min(ax, ay) / max(max(ax, ay), _TINY)
    q = r * r
    p = np.float32(-0.01172120)
    p = p * q + np.float32(0.05265332)
    p = p * q + np.float32(-0.11643287)
    p = p * q + np.float32(0.19354346)
    p = p * q + np.float32(-0.33262347)
    p = p * q + np.float32(0.99997726)
    turn = p * r * _TURN
    turn = _QUARTER - turn if ay > ax else turn
    turn = _HALF - turn if x < _ZERO else turn
    turn = _ONE - turn if y < _ZERO else turn
    return turn - _ONE if turn >= _ONE else turn


@njit(inline="always", error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _fit(frames: Any, first: int, steps: int, waves: Any, v: int, u: int) -> Any:
    """Least squares of one pixel's phase shift: offset, B cos φ, B sin φ, sum of squared residuals, largest value.

    An even number of steps goes in pairs I_k, I_{k+N/2}: differences carry the wave, sums only the offset, from which the
    first sum is taken away so that no large squares cancel.
    """
    c = s = total = squares = waved = _ZERO
    if steps % 2 == 0:
        half = steps // 2
        first_sum = np.float32(frames[first, v, u]) + np.float32(frames[first + half, v, u])
        top = _ZERO
        for k in range(half):
            a, b = np.float32(frames[first + k, v, u]), np.float32(frames[first + half + k, v, u])
            d = a - b
            t = a + b - first_sum
            c += waves[0, k] * d
            s += waves[1, k] * d
            total += t
            squares += t * t
            waved += d * d
            top = max(top, max(a, b))
        offset = (np.float32(half) * first_sum + total) / np.float32(steps)
        c, s = c * (_TWO / np.float32(steps)), s * (_TWO / np.float32(steps))
        rest = squares - total * total / np.float32(half) + waved - np.float32(steps) * (c * c + s * s)
        rest = _HALF * rest
    else:
        one = np.float32(frames[first, v, u])
        top = _ZERO
        for k in range(steps):
            a = np.float32(frames[first + k, v, u])
            t = a - one
            c += waves[0, k] * t
            s += waves[1, k] * t
            total += t
            squares += t * t
            top = max(top, a)
        offset = one + total / np.float32(steps)
        c, s = c * (_TWO / np.float32(steps)), s * (_TWO / np.float32(steps))
        rest = squares - total * total / np.float32(steps) - _HALF * np.float32(steps) * (c * c + s * s)
    return offset, c, s, rest, top


@njit(inline="always", error_model="numpy", fastmath=_NO_NAN_ASSUMED)
def _quality(fit: Any, steps: int, levels: Any) -> Any:
    """(squared modulation, noise variance at the offset, flags SATURATED, DARK, RESIDUAL) of one fit."""
    read2, gain, black, saturation, least, least_snr2, noise2, share2 = levels
    offset, c, s, rest, top = fit
    square = c * c + s * s
    variance = read2 + gain * max(offset - black, _ZERO)
    dark = (square < least * least) | (square < least_snr2 * variance)
    free = np.float32(steps - 3)
    off = (rest > free * (noise2 * variance + share2 * square)) & (steps > 3)
    flags = (_SATURATED if top >= saturation else np.int32(0)) | (_DARK if dark else np.int32(0))
    return square, variance, flags | (_RESIDUAL if off & (not dark) else np.int32(0))


@lru_cache(maxsize=64)
def gray_kernel(steps: int, bits: int, inverse: bool, complementary: bool) -> Any:
    """The kernel that decodes Gray bits (each with its inverse, if ``inverse``) followed by a phase shift.

    It takes ``frames`` (K, H, W), ``first`` image of the axis, ``waves`` (2, N) cos and sin of the steps, ``levels`` as in
    :func:`_quality`, ``code`` (period, length of the axis, least Gray margin as a share of the modulation, guard at the
    ends of a word in standard deviations), and writes coordinate, sigma, modulation, offset, flags.
    """
    images = bits * (2 if inverse else 1)

    @njit(parallel=True, cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
    def decode(
        frames: Any, first: int, waves: Any, levels: Any, code: Any, x: Any, sigma: Any, mod: Any, mean: Any, flags: Any
    ) -> None:
        period, length, least_margin, guard = code
        for v in prange(frames.shape[1]):
            for u in range(frames.shape[2]):
                fit = _fit(frames, first + images, steps, waves, v, u)
                square, variance, found = _quality(fit, steps, levels)
                turn = _turns(-fit[2], fit[1]) + _HALF / period  # from the edge of the period, as words begin there
                turn = turn - _ONE if turn >= _ONE else turn
                smallest = second = _HUGE
                word = np.int32(0)
                for k in range(bits):
                    if inverse:
                        d = np.float32(frames[first + 2 * k, v, u]) - np.float32(frames[first + 2 * k + 1, v, u])
                        d = _HALF * d
                    else:
                        d = np.float32(frames[first + k, v, u]) - fit[0]
                    bit = np.int32(d > _ZERO)
                    word = (word << np.int32(1)) | ((word & np.int32(1)) ^ bit)
                    d = abs(d)
                    second = min(second, max(smallest, d))
                    smallest = min(smallest, d)
                modulation = np.sqrt(square)
                phase2 = _TWO / np.float32(steps) * variance / max(square, _TINY)  # variance of the phase, rad²
                least = least_margin * modulation
                if complementary:
                    later = np.float32((word + np.int32(1)) >> np.int32(1))
                    order = np.float32(word >> np.int32(1))
                    order = order if turn < _THREE_QUARTERS else later - _ONE
                    order = later if turn < _QUARTER else order
                    place = turn + turn  # within the word
                    place = place - _ONE if place >= _ONE else place
                    inside = abs(place - _HALF) < _QUARTER
                    unsure = (second < least) | (inside & (smallest < least))
                else:
                    order = np.float32(word)
                    near = _HALF - abs(turn - _HALF)
                    unsure = (smallest < least) | (near * near < guard * guard * _TURN * _TURN * phase2)
                unsure = unsure & (bits > 0)
                place = period * (order + turn) - _HALF
                found |= _ORDER if unsure & ((found & _DARK) == 0) else np.int32(0)
                outside = ((place < -_HALF) | (place > length - _HALF)) & ((found & _DARK) == 0)
                found |= _OUTSIDE if outside else np.int32(0)
                x[v, u] = _NAN if found != 0 else place
                sigma[v, u] = _NAN if found != 0 else period * _TURN * np.sqrt(phase2)
                mod[v, u] = modulation
                mean[v, u] = fit[0]
                flags[v, u] = np.uint8(found)

    return decode


@lru_cache(maxsize=64)
def phase_kernel(steps: int) -> Any:
    """The kernel of one phase shift: turn, phase variance (rad²), modulation, offset, flags (added to those there)."""

    @njit(parallel=True, cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
    def phase(
        frames: Any, first: int, waves: Any, levels: Any, turn: Any, phase2: Any, mod: Any, mean: Any, flags: Any
    ) -> None:
        for v in prange(frames.shape[1]):
            for u in range(frames.shape[2]):
                fit = _fit(frames, first, steps, waves, v, u)
                square, variance, found = _quality(fit, steps, levels)
                turn[v, u] = _turns(-fit[2], fit[1])
                phase2[v, u] = _TWO / np.float32(steps) * variance / max(square, _TINY)
                mod[v, u] = np.sqrt(square)
                mean[v, u] = fit[0]
                flags[v, u] |= np.uint8(found)

    return phase


@lru_cache(maxsize=8)
def order_kernel(coarser: int) -> Any:
    """The kernel that tries every order of the finest period against ``coarser`` further ones.

    It takes ``turns`` and ``phase2`` (1 + coarser, H, W), ``ratios`` (coarser,) finest period over each of the others, ``code``
    (finest period, length, guard in standard deviations), the orders −1 … ``orders``−2, work memory ``best``, ``second``,
    ``order`` (H, W), and writes coordinate and sigma; ORDER and OUTSIDE are added to ``flags``.
    """

    @njit(parallel=True, cache=True, error_model="numpy", fastmath=_NO_NAN_ASSUMED)
    def orders_of(
        turns: Any, phase2: Any, ratios: Any, code: Any, orders: int, best: Any, second: Any, order: Any,
        x: Any, sigma: Any, flags: Any,
    ) -> None:  # fmt: skip
        period, length, guard = code
        low, high = -_ONE / period, (length + _HALF) / period  # half a px beyond both ends, in periods
        for v in prange(turns.shape[1]):
            for u in range(turns.shape[2]):
                best[v, u] = second[v, u] = _HUGE
                order[v, u] = _ZERO
            for group in range((orders + _ALIKE - 1) // _ALIKE):
                start = np.float32(group * _ALIKE - 1)
                for u in range(turns.shape[2]):
                    b, s, o = best[v, u], second[v, u], order[v, u]
                    for j in range(_ALIKE):
                        tried = start + np.float32(j)
                        place = tried + turns[0, v, u]
                        misfit = _ZERO
                        for f in range(coarser):
                            e = place * ratios[f] - turns[f + 1, v, u]
                            e -= np.floor(e + _HALF)
                            misfit += e * e
                        misfit = misfit if (place >= low) & (place <= high) else _HUGE
                        s = min(s, max(b, misfit))
                        o = tried if misfit < b else o
                        b = min(b, misfit)
                    best[v, u], second[v, u], order[v, u] = b, s, o
            for u in range(turns.shape[2]):
                noise = phase2[0, v, u]
                for f in range(coarser):
                    noise = max(noise, phase2[f + 1, v, u])
                b, s = np.sqrt(best[v, u]), np.sqrt(second[v, u])
                dark = (np.int32(flags[v, u]) & _DARK) != 0
                unsure = ((s - b < guard * _TURN * np.sqrt(noise)) | (s < _TWO * b)) & (not dark)
                place = period * (order[v, u] + turns[0, v, u])
                outside = ((place < -_HALF) | (place > length - _HALF)) & (not dark)
                found = np.int32(flags[v, u])
                found |= (_ORDER if unsure else np.int32(0)) | (_OUTSIDE if outside else np.int32(0))
                x[v, u] = _NAN if found != 0 else place
                sigma[v, u] = _NAN if found != 0 else period * _TURN * np.sqrt(phase2[0, v, u])
                flags[v, u] = np.uint8(found)

    return orders_of


@njit(parallel=True, cache=True, error_model="numpy")
def gray_words(frames: Any, threshold: Any, least: Any, word: Any, margin: Any, contrast: Any, valid: Any) -> None:
    """Gray bits to words; ``threshold`` (H, W), or None for images in pairs, pattern and inverse."""
    least_margin, least_contrast = least
    bits = frames.shape[0] // 2 if threshold is None else frames.shape[0]
    for v in prange(frames.shape[1]):
        for u in range(frames.shape[2]):
            word[v, u] = 0
            margin[v, u] = _HUGE
            contrast[v, u] = _ZERO
        for k in range(bits):  # images outside, so that the inner loop runs along memory
            for u in range(frames.shape[2]):
                if threshold is None:
                    d = np.float32(frames[2 * k, v, u]) - np.float32(frames[2 * k + 1, v, u])
                else:
                    d = _TWO * (np.float32(frames[k, v, u]) - threshold[v, u])
                w = word[v, u]
                word[v, u] = (w << np.int32(1)) | ((w & np.int32(1)) ^ np.int32(d > _ZERO))
                margin[v, u] = min(margin[v, u], abs(d))
                contrast[v, u] = max(contrast[v, u], abs(d))
        for u in range(frames.shape[2]):
            valid[v, u] = (margin[v, u] > least_margin) & (contrast[v, u] > least_contrast)


@njit(parallel=True, cache=True, error_model="numpy")
def fold(best: Any, other: Any) -> None:
    """Per pixel the valid one of two decodings with the smaller sigma, into ``best``; both are (x, sigma, B, A, flags)."""
    x, sigma, mod, mean, flags = best
    x2, sigma2, mod2, mean2, flags2 = other
    for v in prange(x.shape[0]):
        for u in range(x.shape[1]):
            # A comparison with NaN is false: an invalid one never wins, and never keeps its place against a valid one.
            take = (flags2[v, u] == 0) & ((flags[v, u] != 0) | (sigma2[v, u] < sigma[v, u]))
            both = flags[v, u] | flags2[v, u] if (flags[v, u] != 0) & (flags2[v, u] != 0) else np.uint8(0)
            x[v, u] = x2[v, u] if take else x[v, u]
            sigma[v, u] = sigma2[v, u] if take else sigma[v, u]
            mod[v, u] = mod2[v, u] if take else mod[v, u]
            mean[v, u] = mean2[v, u] if take else mean[v, u]
            flags[v, u] = both
