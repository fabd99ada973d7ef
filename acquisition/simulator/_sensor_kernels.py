"""Compiled inner loops of the sensor: lens blur with the photosite's area and colour filter, patterns, noise, numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Array = NDArray[Any]

_ROWS = 32  # pixel rows a thread works on at once
STEPS_PER_PX = 32  # of the table that holds a pattern along its axis


@njit(parallel=True, cache=True, fastmath=True)
def collect(light: Array, mosaic: Array, taps: Array, samples: int, out: Array) -> None:
    """Light on the points (C, h·s, w·s) float32 → light on the photosites (h, w) float32.

    ``taps`` is the separable kernel of blur and photosite over points, ``mosaic`` (4,) the channel of the photosites of a
    2×2 cell, ``samples`` s. Beyond the border the last point goes on.
    """
    _, rows, columns = light.shape
    height, width = out.shape
    count = len(taps)
    reach = (count - samples) // 2
    for v in prange(height):
        line = np.empty((2, columns + 2 * reach), np.float32)
        left, right = mosaic[2 * (v & 1)], mosaic[2 * (v & 1) + 1]
        for j in range(1 if left == right else 2):
            channel = left if j == 0 else right
            line[j, reach : reach + columns] = 0.0
            for k in range(count):
                y = min(max(v * samples - reach + k, 0), rows - 1)
                w = taps[k]
                source = light[channel, y]
                for x in range(columns):
                    line[j, reach + x] += w * source[x]
            line[j, :reach] = line[j, reach]
            line[j, reach + columns :] = line[j, reach + columns - 1]
        for u in range(width):
            chosen = line[0] if (u & 1) == 0 or left == right else line[1]
            total = np.float32(0.0)
            for k in range(count):
                total += taps[k] * chosen[u * samples + k]
            out[v, u] = total


@njit(parallel=True, cache=True, fastmath=True)
def collect_pattern(
    light: Array, coordinate: Array, table: Array, mosaic: Array, taps: Array, samples: int, out: Array
) -> None:
    """As :func:`collect`, of points that receive ``table`` (a pattern along its axis, 32 steps a px) at ``coordinate``."""
    _, rows, columns = light.shape
    height, width = out.shape
    count = len(taps)
    reach = (count - samples) // 2
    blocks = (height + _ROWS - 1) // _ROWS
    last = len(table) - 2
    for block in prange(blocks):
        first, stop = block * _ROWS, min((block + 1) * _ROWS, height)
        top = first * samples - reach
        lines = (stop - first) * samples + 2 * reach
        shown = np.empty((lines, columns), np.float32)
        for i in range(lines):
            y = min(max(top + i, 0), rows - 1)
            for x in range(columns):
                place = (coordinate[y, x] + np.float32(0.5)) * np.float32(STEPS_PER_PX)
                cell = min(int(place), last)
                part = place - np.float32(cell)
                shown[i, x] = table[cell] + part * (table[cell + 1] - table[cell])
        line = np.empty((2, columns + 2 * reach), np.float32)
        for v in range(first, stop):
            left, right = mosaic[2 * (v & 1)], mosaic[2 * (v & 1) + 1]
            for j in range(1 if left == right else 2):
                channel = left if j == 0 else right
                line[j, reach : reach + columns] = 0.0
                for k in range(count):
                    i = (v - first) * samples + k
                    y = min(max(top + i, 0), rows - 1)
                    w = taps[k]
                    source, pattern = light[channel, y], shown[i]
                    for x in range(columns):
                        line[j, reach + x] += w * source[x] * pattern[x]
                line[j, :reach] = line[j, reach]
                line[j, reach + columns :] = line[j, reach + columns - 1]
            for u in range(width):
                chosen = line[0] if (u & 1) == 0 or left == right else line[1]
                total = np.float32(0.0)
                for k in range(count):
                    total += taps[k] * chosen[u * samples + k]
                out[v, u] = total


@njit(cache=True, inline="always")
def _mix(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, inline="always")
def _uniform(bits: np.uint64) -> np.float32:
    """24 bits → (0, 1]."""
    return (np.float32(bits >> np.uint64(40)) + np.float32(1.0)) * np.float32(1.0 / 16777216.0)


_GOLDEN = 0x9E3779B97F4A7C15


@njit(parallel=True, cache=True, fastmath=True)
def photo_response(seed: int, sigma: float, out: Array) -> None:
    """1 + sigma · standard normal numbers into out (H, W) float32; the same for the same seed (to rounding)."""
    height, width = out.shape
    for v in prange(height):
        state = _mix(np.uint64(seed) * np.uint64(_GOLDEN) + np.uint64(v) + np.uint64(1))
        for u in range(0, width, 2):
            state += np.uint64(_GOLDEN)
            a = _mix(state)
            state += np.uint64(_GOLDEN)
            b = _mix(state)
            radius = math.sqrt(np.float32(-2.0) * math.log(_uniform(a)))
            angle = np.float32(2.0 * math.pi) * _uniform(b)
            out[v, u] = np.float32(1.0) + np.float32(sigma) * radius * math.cos(angle)
            if u + 1 < width:
                out[v, u + 1] = np.float32(1.0) + np.float32(sigma) * radius * math.sin(angle)


@njit(parallel=True, cache=True, fastmath=True)
def read_out(
    electrons: Array,
    response: Array,
    seed: int,
    full_well: float,
    read_noise: float,
    dn_per_e: float,
    black: float,
    full_scale: float,
    out: Array,
) -> None:
    """Expected electrons (H, W) → raw values (H, W): PRNU, shot noise, full well, read noise, gain, black level, rounding.

    Shot noise is Poisson: drawn exactly below 12 e⁻, above from a normal number z with Poisson's skewness,
    m + √m·z + (z² − 1)/6 (Cornish & Fisher's expansion, first terms). ``seed`` and the place decide the numbers: a photosite
    that gets other light changes no other one's noise.
    """
    height, width = out.shape
    for v in prange(height):
        row = _mix(_mix(np.uint64(seed) + np.uint64(0x5851F42D4C957F2D)) + np.uint64(v))
        second = 0.0
        for u in range(width):
            place = row + np.uint64(_GOLDEN) * np.uint64(u + 1)
            if (u & 1) == 0:  # Box and Muller 1958: two normal numbers for two photosites
                a = _mix(place)
                b = _mix(place + np.uint64(_GOLDEN))
                radius = math.sqrt(np.float32(-2.0) * math.log(_uniform(a)))
                angle = np.float32(2.0 * math.pi) * _uniform(b)
                z = radius * math.cos(angle)
                second = radius * math.sin(angle)
            else:
                z = second
            mean = np.float32(electrons[v, u] * response[v, u])
            if mean < np.float32(12.0):
                # Knuth's product of uniforms; read noise takes the normal number.
                floor = math.exp(-mean)
                state = _mix(place ^ np.uint64(0xD1B54A32D192ED03))
                product, count = np.float32(1.0), np.float32(-1.0)
                while product > floor:
                    state += np.uint64(_GOLDEN)
                    product *= _uniform(_mix(state))
                    count += np.float32(1.0)
                # In the dark (floor 1) the loop does not run at all: no photon, not −1.
                signal = max(count, np.float32(0.0)) + np.float32(read_noise) * z
            else:
                # One normal number for the sum of shot and read noise; the skewness is the shot noise's.
                spread = math.sqrt(mean + np.float32(read_noise * read_noise))
                ratio = mean / (spread * spread)
                signal = mean + spread * z + (z * z - np.float32(1.0)) * ratio / np.float32(6.0)
            signal = min(signal, np.float32(full_well))
            value = np.float32(black) + np.float32(dn_per_e) * signal
            out[v, u] = min(max(math.floor(value + np.float32(0.5)), 0.0), np.float32(full_scale))
