"""Compiled geometry of near lights: where viewing rays meet planes and surfaces, and gains carried from one light model to
the other. Rays come as tables (p, q) with X(z) = (p·s + b_x·z, q·s + b_y·z, z), s = z for a pinhole camera and 1 for an
affine one; ``ray`` = (b_x, b_y, 1 if pinhole else 0), ``plane`` = (n_x, n_y, n_z, offset), all float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _meet(p: Any, q: Any, ray: Any, plane: Any) -> Any:
    """Depth at which a ray meets a plane."""
    across = plane[0] * p + plane[1] * q
    along = plane[0] * ray[0] + plane[1] * ray[1] + plane[2]
    return (plane[3] - (np.float32(1) - ray[2]) * across) / (ray[2] * across + along)


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _point(p: Any, q: Any, z: Any, ray: Any) -> Any:
    s = ray[2] * z + (np.float32(1) - ray[2])
    return p * s + ray[0] * z, q * s + ray[1] * z, z


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _near_row(p: Any, q: Any, ray: Any, plane: Any, light: Any, gain: Any, out: Any) -> None:
    for i in range(out.shape[0]):
        x, y, z = _point(p[i], q[i], _meet(p[i], q[i], ray, plane), ray)
        dx, dy, dz = light[0] - x, light[1] - y, light[2] - z
        share = light[3] / (dx * dx + dy * dy + dz * dz)
        out[i] = np.float32(gain[i]) * (share * np.sqrt(share))


@njit(cache=True, parallel=True, error_model="numpy")
def near_gains(p: Any, q: Any, ray: Any, planes: Any, lights: Any, gains: Any, out: Any) -> None:
    """gain · (d_ref/d)³; ``planes`` and ``lights`` (K, 4): the white plane of each light; its position, then d_ref².

    ``gains`` is a tuple of K maps: each is contiguous then, also in a tile of rows of whole maps, and the loop vectorised.
    """
    for v in prange(out.shape[1]):
        for k in range(len(out)):
            plane = (planes[k, 0], planes[k, 1], planes[k, 2], planes[k, 3])
            light = (lights[k, 0], lights[k, 1], lights[k, 2], lights[k, 3])
            _near_row(p[v], q[v], ray, plane, light, gains[k][v], out[k, v])


@njit(cache=True, parallel=True, error_model="numpy")
def block_sums(xyz: Any, p: Any, q: Any, ray: Any, plane: Any, size: int, sums: Any, counts: Any) -> None:
    """Sum and number of the measured depths less the plane's, of blocks of size × size pixels."""
    height, width = p.shape
    for row in prange(sums.shape[0]):
        sums[row] = 0
        counts[row] = 0
        for v in range(row * size, min((row + 1) * size, height)):
            for u in range(width):
                above = xyz[v, u, 2] - _meet(p[v, u], q[v, u], ray, plane)
                if abs(above) < np.float32(np.inf):  # also not NaN
                    sums[row, u // size] += above
                    counts[row, u // size] += np.float32(1)


@njit(cache=True, parallel=True, error_model="numpy")
def fill(xyz: Any, p: Any, q: Any, ray: Any, plane: Any, coarse: Any, size: int, first: int, out: Any) -> None:
    """Measured points as they are; holes on the plane lifted by the coarse map, interpolated linearly between blocks.

    Row 0 of ``xyz``, ``p``, ``q`` and ``out`` is row ``first`` of the image that the coarse map covers.
    """
    rows, cols = p.shape
    last_row, last_col = coarse.shape[0] - 1, coarse.shape[1] - 1
    for v in prange(rows):
        down = min(max((first + v + 0.5) / size - 0.5, 0.0), float(last_row))
        i = int(down)
        j = min(i + 1, last_row)
        t = np.float32(down - i)
        for u in range(cols):
            x, y, z = xyz[v, u, 0], xyz[v, u, 1], xyz[v, u, 2]
            if not abs(x + y + z) < np.float32(np.inf):
                right = min(max((u + 0.5) / size - 0.5, 0.0), float(last_col))
                k = int(right)
                m = min(k + 1, last_col)
                s = np.float32(right - k)
                upper = coarse[i, k] + s * (coarse[i, m] - coarse[i, k])
                lower = coarse[j, k] + s * (coarse[j, m] - coarse[j, k])
                above = upper + t * (lower - upper)
                x, y, z = _point(p[v, u], q[v, u], _meet(p[v, u], q[v, u], ray, plane) + above, ray)
            out[v, u, 0] = x
            out[v, u, 1] = y
            out[v, u, 2] = z
