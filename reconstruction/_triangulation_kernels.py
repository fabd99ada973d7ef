"""The compiled loops of triangulation: viewing rays of a distorted lens, depth of decoded coordinates, points of depths.

Rows in parallel, each row in chunks that stay in the first-level cache. Newton's method runs pass by pass over a chunk until
every pixel of it has converged, so that the inner loops have no branches and a field near the middle of a lens pays for
few steps. Depths are single precision; what makes that exact enough is written at ``depths``. All of it stands in one file,
since numba's cache notices changes of this file only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_CHUNK = 512  # pixels; eight work buffers of it stay in the first-level cache
_RAY_STEPS = 50
_RAY_TOLERANCE = 1e-10  # normalised coordinates
_RAY_LEAST_DETERMINANT = 1e-6  # as in distortion.py: beyond, the polynomial folds over
_DEPTH_STEPS = 12
_DEPTH_CLOSE_PX = np.float32(0.01)  # Newton doubles the digits: one step from here ends at the rounding of float32


@njit(cache=True, error_model="numpy", fastmath={"reassoc"})
def _count(marks: Any) -> Any:
    total = marks.dtype.type(0)
    for i in range(len(marks)):
        total += marks[i]
    return total


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _ray_step(x: Any, y: Any, target_x: Any, target_y: Any, lens: Any, marks: Any) -> None:
    """One Newton step of a chunk towards x'(x, y) = target; ``marks`` is 0 where it was there before."""
    k1, k2, p1, p2, k3 = lens
    for i in range(len(x)):
        a, b = x[i], y[i]
        r2 = a * a + b * b
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = 2.0 * (k1 + r2 * (2.0 * k2 + r2 * 3.0 * k3))
        error_x = a * radial + 2.0 * p1 * a * b + p2 * (r2 + 2.0 * a * a) - target_x[i]
        error_y = b * radial + p1 * (r2 + 2.0 * b * b) + 2.0 * p2 * a * b - target_y
        aa = radial + a * a * slope + 2.0 * p1 * b + 6.0 * p2 * a
        ab = a * b * slope + 2.0 * p1 * a + 2.0 * p2 * b
        bb = radial + b * b * slope + 6.0 * p1 * b + 2.0 * p2 * a
        determinant = aa * bb - ab * ab
        x[i] = a - (bb * error_x - ab * error_y) / determinant
        y[i] = b - (aa * error_y - ab * error_x) / determinant
        small = (abs(error_x) <= _RAY_TOLERANCE) & (abs(error_y) <= _RAY_TOLERANCE)
        marks[i] = 0.0 if small & (determinant > _RAY_LEAST_DETERMINANT) else 1.0


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def pinhole_rays(focal: Any, centre: Any, lens: Any, table: Any) -> Any:
    """Undistorted normalised coordinates of every pixel, into ``table`` (2, H, W); NaN where the lens has no inverse.

    ``focal``, ``centre`` (2) and ``lens`` (5) are tuples of float64. Returns how many pixels have no inverse.
    """
    rows, cols = table.shape[1:]
    failed = 0
    for v in prange(rows):
        x, y, target_x, marks = np.empty(_CHUNK), np.empty(_CHUNK), np.empty(_CHUNK), np.empty(_CHUNK)
        target_y = (v - centre[1]) / focal[1]
        for start in range(0, cols, _CHUNK):
            n = min(_CHUNK, cols - start)
            for i in range(n):
                target_x[i] = ((start + i) - centre[0]) / focal[0]
                x[i], y[i] = target_x[i], target_y
            for _ in range(_RAY_STEPS):
                # The step taken beyond the tolerance leads to rounding error, as in distortion.undistort_points.
                _ray_step(x[:n], y[:n], target_x[:n], target_y, lens, marks[:n])
                if _count(marks[:n]) == 0:
                    break
            for i in range(n):
                bad = marks[i] != 0.0
                failed += 1 if bad else 0
                table[0, v, start + i] = np.float32(np.nan if bad else x[i])
                table[1, v, start + i] = np.float32(np.nan if bad else y[i])
    return failed


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _first(coordinate: Any, p: Any, q: Any, geometry: Any, lens: Any, target: Any, rise: Any) -> None:
    """Target in normalised coordinates and the depth as if the projector had no distortion."""
    ga, _gb, gz, s, ma0, ma1, _mb0, _mb1, mz0, mz1, w, ba, _bb, bz = geometry
    per_px, whole, part = lens[5], lens[7], lens[8]
    for i in range(len(coordinate)):
        t = ((coordinate[i] - whole) - part) * per_px
        ma, mz = ma0 * p[i] + ma1 * q[i], mz0 * p[i] + mz1 * q[i]
        target[i] = t
        rise[i] = (t * (gz + s * mz) - (ga + s * ma)) / ((ba + w * ma) - t * (bz + w * mz))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _depth_step(
    p: Any, q: Any, geometry: Any, lens: Any, target: Any, rise: Any, change: Any, error: Any, marks: Any
) -> None:
    """One Newton step of ``rise`` on a(rise) = target; ``change`` is da/d(rise), ``error`` the residual in px before."""
    ga, gb, gz, s, ma0, ma1, mb0, mb1, mz0, mz1, w, ba, bb, bz = geometry
    k1, k2, k3, t1, t2, _per_px, focal, _whole, _part = lens
    one, two, three, six, far = np.float32(1), np.float32(2), np.float32(3), np.float32(6), np.float32(np.inf)
    for i in range(len(p)):
        ma, mb, mz = ma0 * p[i] + ma1 * q[i], mb0 * p[i] + mb1 * q[i], mz0 * p[i] + mz1 * q[i]
        da, db, dz = ba + w * ma, bb + w * mb, bz + w * mz
        depth = (gz + s * mz) + rise[i] * dz
        near = one / depth
        a = ((ga + s * ma) + rise[i] * da) * near
        b = ((gb + s * mb) + rise[i] * db) * near
        r2 = a * a + b * b
        bend = r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = two * (k1 + r2 * (two * k2 + r2 * three * k3))
        residual = (a - target[i]) + (a * bend + two * t1 * a * b + t2 * (r2 + two * a * a))
        by_a = one + bend + a * a * slope + two * t1 * b + six * t2 * a
        by_b = a * b * slope + two * t1 * a + two * t2 * b
        rate = (by_a * (da - a * dz) + by_b * (db - b * dz)) * near
        rise[i] -= residual / rate
        change[i] = rate
        off = abs(residual) * focal
        # Behind the projector, or where its polynomial has folded over, there is no light of this coordinate.
        error[i] = off if (depth > 0) & (by_a > 0) else far
        marks[i] = one if off > _DEPTH_CLOSE_PX else np.float32(0)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _finish(rise: Any, change: Any, error: Any, sigma_px: Any, per_px: Any, limits: Any, z: Any, sigma_z: Any) -> None:
    reference, low, high = limits
    nan, far = np.float32(np.nan), np.float32(np.inf)
    for i in range(len(rise)):
        depth = reference + rise[i]
        sigma = abs(sigma_px[i] * per_px / change[i])
        good = (error[i] <= _DEPTH_CLOSE_PX) & (depth > low) & (depth < high) & (sigma < far)
        z[i] = depth if good else nan
        sigma_z[i] = sigma if good else nan


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def depths(
    coordinate: Any, sigma_px: Any, p: Any, q: Any, geometry: Any, lens: Any, limits: Any, z: Any, sigma_z: Any
) -> None:
    """Depth on every viewing ray at which the projector's coordinate is met; all maps (H, W) float32.

    Let m = R·(p, q, 0). In the projector's frame the point at depth z₀ + h is (g + s·m) + h·(b + w·m): g is the point on the ray
    (0, 0) at the reference depth z₀, computed in float64; s = z₀, w = 1 for a pinhole camera and s = 1, w = 0 for an affine one.
    The unknown is h, not z: nothing large is subtracted from anything large, since both the numbers of g + s·m across the
    projector's axis and h are as small as the field, so that float32 keeps 0.02 µm at 200 mm. a, b are the normalised
    coordinates along the decoded axis and across it; ``geometry``, ``lens`` and ``limits`` are tuples of float32.
    """
    rows, cols = z.shape
    for v in prange(rows):
        target, rise, change = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.float32)
        error, marks = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.float32)
        for start in range(0, cols, _CHUNK):
            stop = min(start + _CHUNK, cols)
            n = stop - start
            here_p, here_q = p[v, start:stop], q[v, start:stop]
            _first(coordinate[v, start:stop], here_p, here_q, geometry, lens, target[:n], rise[:n])
            for _ in range(_DEPTH_STEPS):
                _depth_step(here_p, here_q, geometry, lens, target[:n], rise[:n], change[:n], error[:n], marks[:n])
                if _count(marks[:n]) == 0:
                    break
            _finish(
                rise[:n], change[:n], error[:n], sigma_px[v, start:stop], lens[5], limits, z[v, start:stop],
                sigma_z[v, start:stop],
            )  # fmt: skip


@njit(parallel=True, nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def points(z: Any, p: Any, q: Any, along: Any, per_mm: Any, xyz: Any) -> None:
    """(H, W, 3) points: x = p·(z·per_mm + 1 − per_mm) + along_x·z; ``per_mm`` is 1 for a pinhole camera, else 0."""
    keep = np.float32(1) - per_mm
    for v in prange(z.shape[0]):
        for u in range(z.shape[1]):
            depth = z[v, u]
            factor = depth * per_mm + keep
            xyz[v, u, 0] = p[v, u] * factor + along[0] * depth
            xyz[v, u, 1] = q[v, u] * factor + along[1] * depth
            xyz[v, u, 2] = depth


@njit(parallel=True, nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def heights(xyz: Any, normal: Any, offset: Any, out: Any) -> None:
    """Height of (H, W, 3) points above a plane, reckoned in float64: its terms are hundreds of mm, their sum may be µm."""
    x, y, z = normal
    for v in prange(out.shape[0]):
        for u in range(out.shape[1]):
            out[v, u] = x * xyz[v, u, 0] + y * xyz[v, u, 1] + z * xyz[v, u, 2] - offset
