"""Compiled inner loops of the scene: viewing rays, surface points, light falling on them.

All in viewer axes with the origin on the table (see ``rig``), surface points float32 (|x| < 60 mm: better than 4 nm),
arithmetic float64. A *point* is a sample of the image plane: one pixel holds samples × samples of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True)
def distort(x: float, y: float, lens: Array) -> tuple[float, float]:
    """Brown's model on normalised coordinates (D. C. Brown, Photogrammetric Engineering 37(8), 1971)."""
    k1, k2, p1, p2, k3 = lens[4], lens[5], lens[6], lens[7], lens[8]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    dx = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
    dy = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
    return dx, dy


@njit(cache=True)
def undistort(xd: float, yd: float, lens: Array) -> tuple[float, float]:
    """Inverse of :func:`distort` by Newton's method with a numerical Jacobian; to 1e-12 in a few steps for real lenses."""
    x, y = xd, yd
    step = 1e-6
    for _ in range(12):
        fx, fy = distort(x, y, lens)
        ex, ey = fx - xd, fy - yd
        if abs(ex) + abs(ey) < 1e-13:
            break
        ax, ay = distort(x + step, y, lens)
        bx, by = distort(x, y + step, lens)
        a, b, c, d = (ax - fx) / step, (bx - fx) / step, (ay - fy) / step, (by - fy) / step
        det = a * d - b * c
        x -= (d * ex - b * ey) / det
        y -= (a * ey - c * ex) / det
    return x, y


@njit(parallel=True, cache=True)
def camera_rays(lens: Array, table_mm: float, samples: int, first: int, out: Array) -> None:
    """Rays of the point rows ``first`` … into out (h, w, 6) float32: origin at the lens, direction to the table's height."""
    height, width = out.shape[:2]
    for r in prange(height):
        v = (first + r + 0.5) / samples - 0.5
        for c in range(width):
            u = (c + 0.5) / samples - 0.5
            x, y = undistort((u - lens[2]) / lens[0], (v - lens[3]) / lens[1], lens)
            out[r, c, 0] = 0.0
            out[r, c, 1] = 0.0
            out[r, c, 2] = table_mm
            out[r, c, 3] = x * table_mm
            out[r, c, 4] = -y * table_mm
            out[r, c, 5] = -table_mm


@njit(parallel=True, cache=True)
def surface(
    rays: Array,
    body: Array,
    facet: Array,
    bary: Array,
    first_facet: Array,
    triangles: Array,
    vertices: Array,
    normals: Array,
    xyz: Array,
    normal: Array,
) -> None:
    """Where rays meet the facets that Embree found: ray and plane of the facet in float64, normal from its corners.

    ``body`` (h, w) is the number of the component, ``facet`` (h, w) of the triangle in it, ``bary`` (h, w, 2) the place in
    it; out: ``xyz`` and unit ``normal`` (h, w, 3) float32. A ray that met nothing (body 255) gives NaN.
    """
    height, width = body.shape
    for r in prange(height):
        for c in range(width):
            if body[r, c] == 255:
                for k in range(3):
                    xyz[r, c, k] = np.nan
                    normal[r, c, k] = np.nan
                continue
            t = first_facet[body[r, c]] + facet[r, c]
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ax, ay, az = vertices[i0, 0], vertices[i0, 1], vertices[i0, 2]
            e1x, e1y, e1z = vertices[i1, 0] - ax, vertices[i1, 1] - ay, vertices[i1, 2] - az
            e2x, e2y, e2z = vertices[i2, 0] - ax, vertices[i2, 1] - ay, vertices[i2, 2] - az
            gx, gy, gz = e1y * e2z - e1z * e2y, e1z * e2x - e1x * e2z, e1x * e2y - e1y * e2x
            ox, oy, oz = np.float64(rays[r, c, 0]), np.float64(rays[r, c, 1]), np.float64(rays[r, c, 2])
            dx, dy, dz = np.float64(rays[r, c, 3]), np.float64(rays[r, c, 4]), np.float64(rays[r, c, 5])
            s = ((ax - ox) * gx + (ay - oy) * gy + (az - oz) * gz) / (dx * gx + dy * gy + dz * gz)
            xyz[r, c, 0] = ox + s * dx
            xyz[r, c, 1] = oy + s * dy
            xyz[r, c, 2] = oz + s * dz
            b1, b2 = np.float64(bary[r, c, 0]), np.float64(bary[r, c, 1])
            b0 = 1.0 - b1 - b2
            nx = b0 * normals[i0, 0] + b1 * normals[i1, 0] + b2 * normals[i2, 0]
            ny = b0 * normals[i0, 1] + b1 * normals[i1, 1] + b2 * normals[i2, 1]
            nz = b0 * normals[i0, 2] + b1 * normals[i1, 2] + b2 * normals[i2, 2]
            length = math.sqrt(nx * nx + ny * ny + nz * nz)
            normal[r, c, 0] = nx / length
            normal[r, c, 1] = ny / length
            normal[r, c, 2] = nz / length


@njit(parallel=True, cache=True)
def rays_towards(xyz: Array, normal: Array, source: Array, offset_mm: float, out: Array) -> None:
    """Rays from just above the surface to ``source`` (its end is at parameter 1) into out (h, w, 6) float32."""
    height, width = xyz.shape[:2]
    for r in prange(height):
        for c in range(width):
            for k in range(3):
                start = xyz[r, c, k] + offset_mm * normal[r, c, k]
                out[r, c, k] = start
                out[r, c, 3 + k] = source[k] - start


@njit(cache=True, inline="always")
def _microfacets(nl: float, nv: float, nh: float, vh: float, alpha2: float, f0: float) -> float:
    """π · D · G · F / (4 · n·l · n·v) of GGX (Walter et al. 2007, eqs. 20, 33-34; Fresnel after Schlick 1994)."""
    d = nh * nh * (alpha2 - 1.0) + 1.0
    smith = (nl + math.sqrt(alpha2 + (1.0 - alpha2) * nl * nl)) * (nv + math.sqrt(alpha2 + (1.0 - alpha2) * nv * nv))
    m = 1.0 - vh
    m2 = m * m
    fresnel = f0 + (1.0 - f0) * m2 * m2 * m if f0 > 0.0 else 0.0
    return alpha2 / (d * d) * fresnel / smith


@njit(parallel=True, cache=True)
def irradiate(
    xyz: Array,
    normal: Array,
    body: Array,
    diffuse: Array,
    gloss: Array,
    f0: Array,
    alpha: Array,
    blocked: Array,
    source: Array,
    power: float,
    eye: Array,
    channels: Array,
    out: Array,
) -> None:
    """What the camera receives from each point under one point source, into out (C, h, w) float32.

    ``diffuse`` (h, w, 3) uint16 in 1/65535, ``gloss`` (h, w) uint16 factor on F0 in 1/4096, ``f0`` (B, 3) and ``alpha``
    (B,) per body, ``blocked`` (h, w) bool, ``power`` = strength · d_ref², ``eye`` (3,) the lens, ``channels`` (C, 3). The
    value is π · f_r · E · cos θ_i · cos⁴ of the lens: 1 for a white matte surface that faces a source of strength 1 at
    d_ref in the middle of the image. E falls with the square of the distance.
    """
    height, width = body.shape
    count = channels.shape[0]
    for r in prange(height):
        rgb = np.zeros(3)
        for c in range(width):
            for k in range(count):
                out[k, r, c] = 0.0
            b = body[r, c]
            if blocked[r, c] or b == 255:
                continue
            nx, ny, nz = np.float64(normal[r, c, 0]), np.float64(normal[r, c, 1]), np.float64(normal[r, c, 2])
            x, y, z = np.float64(xyz[r, c, 0]), np.float64(xyz[r, c, 1]), np.float64(xyz[r, c, 2])
            lx, ly, lz = source[0] - x, source[1] - y, source[2] - z
            squared = lx * lx + ly * ly + lz * lz
            scale = 1.0 / math.sqrt(squared)
            lx, ly, lz = lx * scale, ly * scale, lz * scale
            nl = nx * lx + ny * ly + nz * lz
            vx, vy, vz = eye[0] - x, eye[1] - y, eye[2] - z
            scale = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * scale, vy * scale, vz * scale
            nv = nx * vx + ny * vy + nz * vz
            if nl <= 0.0 or nv <= 0.0:
                continue
            light = power / squared * nl * (vz * vz) * (vz * vz)  # vz: cosine of the field angle, camera straight down
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            scale = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz)
            nh = (nx * hx + ny * hy + nz * hz) * scale
            vh = (vx * hx + vy * hy + vz * hz) * scale
            factor = gloss[r, c] / 4096.0
            for k in range(3):
                rgb[k] = diffuse[r, c, k] / 65535.0
                if f0[b, k] > 0.0 and factor > 0.0:
                    rgb[k] += _microfacets(nl, nv, nh, vh, alpha[b] * alpha[b], min(f0[b, k] * factor, 1.0))
            for k in range(count):
                out[k, r, c] = light * (channels[k, 0] * rgb[0] + channels[k, 1] * rgb[1] + channels[k, 2] * rgb[2])


@njit(parallel=True, cache=True)
def ambient(
    normal: Array,
    body: Array,
    diffuse: Array,
    gloss: Array,
    f0: Array,
    xyz: Array,
    eye: Array,
    channels: Array,
    out: Array,
) -> None:
    """Light of an even hemisphere of irradiance 1, without its shadows: π · f_r integrates to diffuse + F0; as above."""
    height, width = body.shape
    for r in prange(height):
        for c in range(width):
            b = body[r, c]
            vx, vy, vz = eye[0] - xyz[r, c, 0], eye[1] - xyz[r, c, 1], eye[2] - xyz[r, c, 2]
            cosine = vz / math.sqrt(vx * vx + vy * vy + vz * vz)
            open_sky = 0.5 * (1.0 + normal[r, c, 2])  # what a tilted surface sees of the hemisphere above the table
            light = open_sky * cosine**4
            for k in range(channels.shape[0]):
                total = 0.0
                for j in range(3):
                    shine = f0[b, j] * (gloss[r, c] / 4096.0) if b != 255 else 0.0
                    total += channels[k, j] * (diffuse[r, c, j] / 65535.0 + shine)
                out[k, r, c] = light * total if b != 255 else 0.0


@njit(parallel=True, cache=True)
def project(
    xyz: Array, centre: Array, rotation: Array, lens: Array, size: Array, column: Array, row: Array, blocked: Array
) -> None:
    """Projector coordinates of points into ``column`` and ``row`` (h, w) float32; outside the pattern ``blocked`` is set."""
    height, width = column.shape
    for r in prange(height):
        for c in range(width):
            x, y, z = xyz[r, c, 0] - centre[0], xyz[r, c, 1] - centre[1], xyz[r, c, 2] - centre[2]
            px = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z
            py = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z
            pz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
            column[r, c] = 0.0
            row[r, c] = 0.0
            if not pz > 0.0:
                blocked[r, c] = True
                continue
            dx, dy = distort(px / pz, py / pz, lens)
            u, v = lens[0] * dx + lens[2], lens[1] * dy + lens[3]
            if -0.5 <= u < size[0] - 0.5 and -0.5 <= v < size[1] - 0.5:
                column[r, c] = u
                row[r, c] = v
            else:
                blocked[r, c] = True
