"""Compiled parts of the fusion of positions and normals: slopes, rotation, the sparse system, conjugate gradients.

The system has one unknown a pixel (its move along the viewing ray) and couples it with its four neighbours; it is kept as
three maps: the diagonal, and the weight towards the right and the lower neighbour. Sums over all pixels are taken row by row
in float64, so that the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_LEAST_FACING = 0.1  # cosine between normal and viewing ray below which an edge says nothing of depth
_JUMP_SIGMAS = 4.0  # positions that contradict the normals by more stand on two sides of a step


@njit(cache=True, parallel=True, error_model="numpy")
def slope_difference(xyz: Any, normals: Any, steepest: float, apart: float, own: Any, more: Any, weight: Any) -> None:
    """Slopes (−n_x/n_z, −n_y/n_z, viewer frame) of the normals, and by how much those of the surface exceed them.

    ``own`` and ``more`` (2, H, W); weight 1 where both are known, at most ``steepest``, and at most ``apart`` from one another.
    """
    height, width = weight.shape
    for v in prange(height):
        for u in range(width):
            own[0, v, u] = own[1, v, u] = more[0, v, u] = more[1, v, u] = weight[v, u] = np.float32(0)
            nz = normals[v, u, 2]
            if v == 0 or u == 0 or v == height - 1 or u == width - 1 or not nz > 0:
                continue
            # Float64: differences of depths of some hundred millimetres.
            ax = np.float64(xyz[v, u + 1, 0]) - xyz[v, u - 1, 0]
            ay = np.float64(xyz[v, u + 1, 1]) - xyz[v, u - 1, 1]
            az = np.float64(xyz[v, u + 1, 2]) - xyz[v, u - 1, 2]
            bx = np.float64(xyz[v + 1, u, 0]) - xyz[v - 1, u, 0]
            by = np.float64(xyz[v + 1, u, 1]) - xyz[v - 1, u, 1]
            bz = np.float64(xyz[v + 1, u, 2]) - xyz[v - 1, u, 2]
            across = ax * by - ay * bx
            p, q = -normals[v, u, 0] / nz, -normals[v, u, 1] / nz
            # z points away and y down in the camera frame: height = −z, so that ∂height/∂x = −∂z/∂x, ∂height/∂y_up = ∂z/∂y
            mp = -(az * by - bz * ay) / across
            mq = (ax * bz - bx * az) / across
            if p * p + q * q <= steepest * steepest and (mp - p) ** 2 + (mq - q) ** 2 <= apart * apart:
                own[0, v, u], own[1, v, u] = p, q
                more[0, v, u], more[1, v, u] = mp - p, mq - q
                weight[v, u] = np.float32(1)


@njit(cache=True, parallel=True, error_model="numpy")
def rotate(normals: Any, own: Any, more: Any, weight: Any, least: float, out: Any) -> None:
    """Every normal turned as the smoothed field must turn to become the surface's (Rodrigues), where weight > ``least``."""
    height, width = weight.shape
    for v in prange(height):
        for u in range(width):
            x, y, z = normals[v, u, 0], normals[v, u, 1], normals[v, u, 2]
            if weight[v, u] > least:
                s = 1.0 / weight[v, u]
                p, q = own[0, v, u] * s, own[1, v, u] * s
                mp, mq = p + more[0, v, u] * s, q + more[1, v, u] * s
                la, lb = 1 / (1 + p * p + q * q) ** 0.5, 1 / (1 + mp * mp + mq * mq) ** 0.5
                ax, ay, az = -p * la, -q * la, la
                bx, by, bz = -mp * lb, -mq * lb, lb
                kx, ky, kz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
                cosine = ax * bx + ay * by + az * bz
                along = (kx * x + ky * y + kz * z) / (1 + cosine)
                x, y, z = (
                    x * cosine + ky * z - kz * y + kx * along,
                    y * cosine + kz * x - kx * z + ky * along,
                    z * cosine + kx * y - ky * x + kz * along,
                )
            out[v, u, 0], out[v, u, 1], out[v, u, 2] = x, y, z


@njit(cache=True, error_model="numpy")
def _edge(z: Any, sigma: Any, normals: Any, p: Any, q: Any, ray: Any, spread: float, i: Any, j: Any) -> Any:
    """The equation n·(X_j − X_i) = 0 between two neighbours as (w a_i², w a_i a_j, w a_i e); zeros where there is none.

    X = r z + c along each ray, a = n·r, and e what the measured depths leave of it. Its weight is 1/(``spread``·|T|)², |T| being
    the distance of the points along the surface: an error of the normal by ``spread`` radians shifts n·T by so much.
    """
    zi, zj = np.float64(z[i]), np.float64(z[j])
    nx = normals[i][0] + normals[j][0]
    ny = -(normals[i][1] + normals[j][1])  # viewer frame → camera frame
    nz = -(normals[i][2] + normals[j][2])
    s = 1.0 / (nx * nx + ny * ny + nz * nz) ** 0.5
    nx, ny, nz = nx * s, ny * s, nz * s
    pi, qi, pj, qj = np.float64(p[i]), np.float64(q[i]), np.float64(p[j]), np.float64(q[j])
    parallel = 1.0 - ray[2]
    fixed = nx * ray[0] + ny * ray[1] + nz
    ai, aj = ray[2] * (nx * pi + ny * qi) + fixed, ray[2] * (nx * pj + ny * qj) + fixed
    e = aj * zj - ai * zi + parallel * (nx * (pj - pi) + ny * (qj - qi))
    reach = ray[2] * zi + parallel
    dx, dy = (pj - pi) * reach, (qj - qi) * reach
    rise = (nx * dx + ny * dy) / aj
    noise = spread * spread * (dx * dx + dy * dy + rise * rise)
    doubt = noise + aj * aj * (np.float64(sigma[i]) ** 2 + np.float64(sigma[j]) ** 2)
    usable = (ai < -_LEAST_FACING) & (aj < -_LEAST_FACING) & (e * e < _JUMP_SIGMAS**2 * doubt)  # NaN is not
    if not usable:
        return 0.0, 0.0, 0.0
    w = 1.0 / noise
    return w * ai * ai, w * ai * aj, w * ai * e


@njit(cache=True, parallel=True, error_model="numpy")
def assemble(
    z: Any, sigma: Any, normals: Any, p: Any, q: Any, ray: Any, spread: float, weight: float, diagonal: Any, right: Any,
    down: Any, rhs: Any,
) -> None:  # fmt: skip
    """Fill the system; a pixel without depth gets the equation move = 0."""
    height, width = z.shape
    for v in prange(height):
        for u in range(width):
            right[v, u] = down[v, u] = rhs[v, u] = np.float32(0)
            if not (np.isfinite(z[v, u]) and sigma[v, u] > 0):
                diagonal[v, u] = np.float32(1)
                continue
            total, known = weight / np.float64(sigma[v, u]) ** 2, 0.0
            for dv, du in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                i, j = v + dv, u + du
                if i < 0 or j < 0 or i >= height or j >= width:
                    continue
                own, cross, pull = _edge(z, sigma, normals, p, q, ray, spread, (v, u), (i, j))
                total += own
                known += pull
                if du == 1:
                    right[v, u] = cross
                if dv == 1:
                    down[v, u] = cross
            diagonal[v, u] = total
            rhs[v, u] = known


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract", "reassoc"})
def apply(diagonal: Any, right: Any, down: Any, x: Any, out: Any, sums: Any) -> None:
    """out = A x, and x·A x of every row."""
    height, width = x.shape
    for v in prange(height):
        total = 0.0
        for u in range(width):
            value = diagonal[v, u] * x[v, u]
            if u > 0:
                value -= right[v, u - 1] * x[v, u - 1]
            if u < width - 1:
                value -= right[v, u] * x[v, u + 1]
            if v > 0:
                value -= down[v - 1, u] * x[v - 1, u]
            if v < height - 1:
                value -= down[v, u] * x[v + 1, u]
            out[v, u] = value
            total += np.float64(value) * x[v, u]
        sums[v] = total


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract", "reassoc"})
def advance(alpha: Any, diagonal: Any, step: Any, image: Any, x: Any, rest: Any, sums: Any) -> None:
    """x += α step, rest −= α A·step, and rest·rest/diagonal of every row."""
    for v in prange(x.shape[0]):
        total = 0.0
        for u in range(x.shape[1]):
            x[v, u] += alpha * step[v, u]
            r = rest[v, u] - alpha * image[v, u]
            rest[v, u] = r
            total += np.float64(r) * r / diagonal[v, u]
        sums[v] = total


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract", "reassoc"})
def turn(beta: Any, diagonal: Any, rest: Any, step: Any) -> None:
    """step = rest/diagonal + β step."""
    for v in prange(step.shape[0]):
        for u in range(step.shape[1]):
            step[v, u] = rest[v, u] / diagonal[v, u] + beta * step[v, u]


@njit(cache=True, parallel=True, error_model="numpy")
def move(z: Any, sigma: Any, x: Any, sigmas: float, most: float, out: Any, held: Any) -> None:
    """out = z + x, each move held to the smaller of ``sigmas``·σ and ``most``; ``held``: how many of each row were."""
    for v in prange(z.shape[0]):
        count = 0
        for u in range(z.shape[1]):
            limit = min(sigmas * np.float64(sigma[v, u]), most)
            h = np.float64(x[v, u])
            count += 1 if abs(h) > limit else 0
            held_h = max(min(h, limit), -limit)
            out[v, u] = z[v, u] + held_h if limit > 0 else z[v, u]
        held[v] = count
