"""The compiled loops of the pseudo-3D maps: one pass each, rows in parallel, no temporaries of image size.

Planes are (H, W) float32 of any strides; NaN (no normal) is handed on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True, error_model="numpy")
def encode(nx: Any, ny: Any, nz: Any, half: Any, encoded: Any) -> None:
    one, round_up, top = np.float32(1), np.float32(0.5), np.float32(2) * half
    zero = np.float32(0)
    for r in prange(nx.shape[0]):
        for c in range(nx.shape[1]):
            x, y, z = nx[r, c], ny[r, c], nz[r, c]
            solved = (x == x) and (y == y) and (z == z)
            x = min(max((x + one) * half, zero), top) + round_up if solved else zero
            y = min(max((y + one) * half, zero), top) + round_up if solved else zero
            z = min(max((z + one) * half, zero), top) + round_up if solved else zero
            encoded[r, c, 0], encoded[r, c, 1], encoded[r, c, 2] = np.uint32(x), np.uint32(y), np.uint32(z)


@njit(parallel=True, cache=True, error_model="numpy")
def decode(encoded: Any, step: Any, planar: Any) -> None:
    one, nan = np.float32(1), np.float32(np.nan)
    for r in prange(encoded.shape[0]):
        for c in range(encoded.shape[1]):
            a, b, d = encoded[r, c, 0], encoded[r, c, 1], encoded[r, c, 2]
            x, y, z = np.float32(a) * step - one, np.float32(b) * step - one, np.float32(d) * step - one
            norm = nan if (a == 0 and b == 0 and d == 0) else np.sqrt(x * x + y * y + z * z)
            planar[0, r, c], planar[1, r, c], planar[2, r, c] = x / norm, y / norm, z / norm


@njit(parallel=True, cache=True, error_model="numpy")
def slopes(nx: Any, ny: Any, nz: Any, limit: Any, p: Any, q: Any) -> None:
    zero = np.float32(0)
    for r in prange(nx.shape[0]):
        for c in range(nx.shape[1]):
            x, y, z = nx[r, c], ny[r, c], nz[r, c]
            across = np.sqrt(x * x + y * y)
            factor = -limit / across if across > z * limit else np.float32(-1) / z
            gap = (x + y + z) * zero  # NaN if any component is, else 0
            p[r, c], q[r, c] = x * factor + gap, y * factor + gap


@njit(cache=True, error_model="numpy", inline="always")
def _derivative(before: Any, here: Any, after: Any) -> Any:
    """Central difference per pixel; one-sided beside NaN, NaN if alone."""
    has_before, has_after = before == before, after == after
    rise = (after if has_after else here) - (before if has_before else here)
    return rise / np.float32(np.int32(has_before) + np.int32(has_after))


@njit(parallel=True, cache=True, error_model="numpy")
def half_divergence(nx: Any, ny: Any, nz: Any, factor: Any, out: Any) -> None:
    rows, cols = nx.shape
    nan, zero = np.float32(np.nan), np.float32(0)
    for r in prange(rows):
        above, below = max(r - 1, 0), min(r + 1, rows - 1)
        first, last = r == 0, r == rows - 1
        for c in range(cols):
            left = nx[r, c - 1] if c > 0 else nan
            right = nx[r, c + 1] if c < cols - 1 else nan
            up = nan if first else ny[above, c]
            down = nan if last else ny[below, c]
            dx = _derivative(left, nx[r, c], right)
            dy = _derivative(down, ny[r, c], up)  # y grows upwards
            out[r, c] = (dx + dy) * factor + (nx[r, c] + ny[r, c] + nz[r, c]) * zero  # · 0 hands NaN on


@njit(parallel=True, cache=True, error_model="numpy")
def fill_gaps(values: Any, weight: Any) -> int:
    """Set NaN to 0 with weight 0, the rest gets weight 1; returns how many were NaN."""
    gaps = 0
    for r in prange(values.shape[0]):
        for c in range(values.shape[1]):
            valid = values[r, c] == values[r, c]
            values[r, c] = values[r, c] if valid else np.float32(0)
            weight[r, c] = np.float32(1) if valid else np.float32(0)
            gaps += 0 if valid else 1
    return gaps


@njit(parallel=True, cache=True, error_model="numpy")
def normalised_difference(
    fine: Any, fine_weight: Any, coarse: Any, coarse_weight: Any, factor: Any, weight: Any, out: Any
) -> None:
    nan = np.float32(np.nan)
    for r in prange(out.shape[0]):
        for c in range(out.shape[1]):
            band = (fine[r, c] / fine_weight[r, c] - coarse[r, c] / coarse_weight[r, c]) * factor
            out[r, c] = band if weight[r, c] > 0 else nan


@njit(parallel=True, cache=True, error_model="numpy")
def gloss(frames: Any, dark: Any, dark_scale: Any, gains: Any, gain_scales: Any, predictor: Any, out: Any) -> None:
    """PRESS residual of the brightest zone; ``dark`` and ``gains`` may be None (compiled apart)."""
    zones = len(frames)
    rows, cols = out.shape
    zero = np.float32(0)
    for r in prange(rows):
        row = np.empty((zones, cols), np.float32)  # corrected intensities of this row: stays in the cache
        for k in range(zones):
            frame, factor = frames[k], gain_scales[k]
            for c in range(cols):
                value = np.float32(frame[r, c])
                if dark is not None:
                    value -= np.float32(dark[r, c]) * dark_scale
                if gains is not None:
                    value *= np.float32(gains[k, r, c])
                row[k, c] = value * factor
        for c in range(cols):
            brightest, which = row[0, c], 0
            for k in range(1, zones):
                brighter = row[k, c] > brightest
                brightest, which = (row[k, c], k) if brighter else (brightest, which)
            excess = zero
            for k in range(zones):
                excess += predictor[which, k] * row[k, c]
            out[r, c] = max(min(excess, brightest), zero) if excess == excess else excess


@njit(parallel=True, cache=True, error_model="numpy")
def shade(nx: Any, ny: Any, nz: Any, light: Any, out: Any) -> None:
    lx, ly, lz = light[0], light[1], light[2]
    for r in prange(nx.shape[0]):
        for c in range(nx.shape[1]):
            shade = nx[r, c] * lx + ny[r, c] * ly + nz[r, c] * lz
            out[r, c] = np.float32(0) if shade < 0 else shade  # NaN is not below 0: it stays


@njit(parallel=True, cache=True, error_model="numpy")
def quantise(values: Any, middle: Any, scale: Any, image: Any, valid: Any) -> None:
    zero, half, top, round_up = np.float32(0), np.float32(127.5), np.float32(255), np.float32(0.5)
    for r in prange(values.shape[0]):
        for c in range(values.shape[1]):
            value = np.float32(values[r, c])
            finite = np.isfinite(value)
            level = min(max((value - middle) * scale + half, zero), top) + round_up
            image[r, c] = np.uint8(level if finite else zero)
            valid[r, c] = finite
