"""The compiled loops of FPFH on an organised map: normals, simple histograms, their weighted sums.

Neighbours are looked for in a window of pixels round each point and kept within a radius, so no search tree is needed. A
pixel's result depends on nothing that another writes: the same numbers with any number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

_BINS = 11


@njit(cache=True, nogil=True, error_model="numpy")
def _least_direction(xx: float, xy: float, xz: float, yy: float, yz: float, zz: float) -> Any:
    """Unit eigenvector of the smallest eigenvalue of a symmetric 3 × 3 matrix (trigonometric); 0 0 0 if none stands out."""
    mean = (xx + yy + zz) / 3
    a, b, c = xx - mean, yy - mean, zz - mean
    spread = math.sqrt(max((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6, 0.0))
    if spread <= 1e-12 * max(mean, 1e-30):
        return 0.0, 0.0, 0.0
    a, b, c, d, e, f = a / spread, b / spread, c / spread, xy / spread, xz / spread, yz / spread
    half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
    least = mean + 2 * spread * math.cos(math.acos(min(max(half, -1.0), 1.0)) / 3 + 2 * math.pi / 3)
    a, b, c = xx - least, yy - least, zz - least
    # the rows (a, xy, xz), (xy, b, yz), (xz, yz, c) lie in one plane; its normal is their longest cross product
    ux, uy, uz = xy * yz - xz * b, xz * xy - a * yz, a * b - xy * xy
    vx, vy, vz = xy * c - xz * yz, xz * xz - a * c, a * yz - xy * xz
    wx, wy, wz = b * c - yz * yz, yz * xz - xy * c, xy * yz - b * xz
    nu, nv, nw = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz, wx * wx + wy * wy + wz * wz
    if nv > nu:
        ux, uy, uz, nu = vx, vy, vz, nv
    if nw > nu:
        ux, uy, uz, nu = wx, wy, wz, nw
    if nu <= 0:
        return 0.0, 0.0, 0.0
    length = math.sqrt(nu)
    return ux / length, uy / length, uz / length


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def normals(xyz: Any, window: int, radius: float, least: int, out: Any) -> None:
    """Normals (H, W, 3) of the points within ``radius``, towards the camera (z < 0); NaN below ``least`` points."""
    height, width = xyz.shape[:2]
    for r in prange(height):
        for c in range(width):
            out[r, c, :] = np.nan
            x0, y0, z0 = xyz[r, c, 0], xyz[r, c, 1], xyz[r, c, 2]
            if np.isnan(z0):
                continue
            n = 0
            sx = sy = sz = xx = xy = xz = yy = yz = zz = 0.0
            for i in range(max(r - window, 0), min(r + window + 1, height)):
                for j in range(max(c - window, 0), min(c + window + 1, width)):
                    dx, dy, dz = float(xyz[i, j, 0] - x0), float(xyz[i, j, 1] - y0), float(xyz[i, j, 2] - z0)
                    if dx * dx + dy * dy + dz * dz <= radius * radius:  # false for NaN
                        n += 1
                        sx, sy, sz = sx + dx, sy + dy, sz + dz
                        xx, xy, xz = xx + dx * dx, xy + dx * dy, xz + dx * dz
                        yy, yz, zz = yy + dy * dy, yz + dy * dz, zz + dz * dz
            if n < least:
                continue
            sx, sy, sz = sx / n, sy / n, sz / n
            nx, ny, nz = _least_direction(
                xx / n - sx * sx,
                xy / n - sx * sy,
                xz / n - sx * sz,
                yy / n - sy * sy,
                yz / n - sy * sz,
                zz / n - sz * sz,
            )
            if nx == 0 and ny == 0 and nz == 0:
                continue
            sign = -1.0 if nz > 0 else 1.0
            out[r, c, 0], out[r, c, 1], out[r, c, 2] = sign * nx, sign * ny, sign * nz


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _bin(value: float) -> int:
    return min(max(math.floor(_BINS * value), 0), _BINS - 1)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def simple_histograms(xyz: Any, normal: Any, window: int, radius: float, out: Any) -> None:
    """SPFH (H, W, 33): the angles between a point's frame and its neighbours' normals, each third adding up to 100."""
    height, width = xyz.shape[:2]
    for r in prange(height):
        for c in range(width):
            out[r, c, :] = 0
            if np.isnan(normal[r, c, 0]) or np.isnan(xyz[r, c, 2]):
                continue
            x0, y0, z0 = float(xyz[r, c, 0]), float(xyz[r, c, 1]), float(xyz[r, c, 2])
            ax, ay, az = float(normal[r, c, 0]), float(normal[r, c, 1]), float(normal[r, c, 2])
            n = 0
            for i in range(max(r - window, 0), min(r + window + 1, height)):
                for j in range(max(c - window, 0), min(c + window + 1, width)):
                    dx, dy, dz = xyz[i, j, 0] - x0, xyz[i, j, 1] - y0, xyz[i, j, 2] - z0
                    square = dx * dx + dy * dy + dz * dz
                    bx, by, bz = float(normal[i, j, 0]), float(normal[i, j, 1]), float(normal[i, j, 2])
                    if not square <= radius * radius or np.isnan(bx) or (i == r and j == c):
                        continue
                    n += 1
                    theta, alpha, phi = 0.0, 0.0, 0.0
                    if square > 0:
                        distance = math.sqrt(square)
                        first = (ax * dx + ay * dy + az * dz) / distance
                        second = (bx * dx + by * dy + bz * dz) / distance
                        if abs(first) < abs(second):  # the frame stands where the line leaves at the smaller angle
                            sx, sy, sz, tx, ty, tz, sign, phi = bx, by, bz, ax, ay, az, -1.0, -second
                        else:
                            sx, sy, sz, tx, ty, tz, sign, phi = ax, ay, az, bx, by, bz, 1.0, first
                        vx = sign * (dy * sz - dz * sy)
                        vy = sign * (dz * sx - dx * sz)
                        vz = sign * (dx * sy - dy * sx)
                        length = math.sqrt(vx * vx + vy * vy + vz * vz)
                        if length > 0:
                            vx, vy, vz = vx / length, vy / length, vz / length
                            wx, wy, wz = sy * vz - sz * vy, sz * vx - sx * vz, sx * vy - sy * vx
                            alpha = vx * tx + vy * ty + vz * tz
                            theta = math.atan2(wx * tx + wy * ty + wz * tz, sx * tx + sy * ty + sz * tz)
                        else:
                            phi = 0.0
                    out[r, c, _bin((theta + math.pi) / (2 * math.pi))] += 1
                    out[r, c, _BINS + _bin((alpha + 1) / 2)] += 1
                    out[r, c, 2 * _BINS + _bin((phi + 1) / 2)] += 1
            if n > 0:
                out[r, c, :] *= np.float32(100.0 / n)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def weighted_histograms(xyz: Any, normal: Any, simple: Any, window: int, radius: float, out: Any) -> None:
    """FPFH (H, W, 33): a point's SPFH and its neighbours', weighted by 1/distance², each third of which adds up to 100."""
    height, width = xyz.shape[:2]
    for r in prange(height):
        total = np.empty(3 * _BINS, np.float64)
        for c in range(width):
            out[r, c, :] = 0
            if np.isnan(normal[r, c, 0]) or np.isnan(xyz[r, c, 2]):
                continue
            total[:] = 0
            for i in range(max(r - window, 0), min(r + window + 1, height)):
                for j in range(max(c - window, 0), min(c + window + 1, width)):
                    dx, dy, dz = xyz[i, j, 0] - xyz[r, c, 0], xyz[i, j, 1] - xyz[r, c, 1], xyz[i, j, 2] - xyz[r, c, 2]
                    square = float(dx * dx + dy * dy + dz * dz)
                    if square <= radius * radius and square > 0 and not np.isnan(normal[i, j, 0]):
                        for k in range(3 * _BINS):
                            total[k] += simple[i, j, k] / square
            for third in range(3):
                mass = 0.0
                for k in range(third * _BINS, (third + 1) * _BINS):
                    mass += total[k]
                gain = 100.0 / mass if mass > 0 else 0.0
                for k in range(third * _BINS, (third + 1) * _BINS):
                    out[r, c, k] = total[k] * gain + simple[r, c, k]
