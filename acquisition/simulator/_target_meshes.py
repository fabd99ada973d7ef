"""Meshes of calibration targets: blocks, stairs, spheres. Lengths in mm, part frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator.solid import Mesh

FloatArray = NDArray[np.float64]

MAX_STRAY_MM = 0.00045
"""Facets of a sphere stray from it by at most this much; half a micrometre is promised."""


def block(width_mm: float, depth_mm: float, height_mm: float) -> Mesh:
    """A block on the table, centred: ``width_mm`` in x, ``depth_mm`` in y, ``height_mm`` in z."""
    return stairs(np.array([-width_mm / 2, width_mm / 2]), [height_mm], depth_mm)


def stairs(x_mm: FloatArray, heights_mm: Sequence[float], depth_mm: float) -> Mesh:
    """Closed stair on the table: step k reaches from ``x_mm[k]`` to ``x_mm[k + 1]`` at ``heights_mm[k]``."""
    h = np.concatenate([[0.0], heights_mm, [0.0]])
    y = depth_mm / 2
    faces = [[[x_mm[0], y, 0], [x_mm[-1], y, 0], [x_mm[-1], -y, 0], [x_mm[0], -y, 0]]]
    for left, right, top in zip(x_mm[:-1], x_mm[1:], heights_mm, strict=True):
        faces.append([[left, -y, top], [right, -y, top], [right, y, top], [left, y, top]])
        faces.append([[left, -y, 0], [right, -y, 0], [right, -y, top], [left, -y, top]])
        faces.append([[right, y, 0], [left, y, 0], [left, y, top], [right, y, top]])
    for x, before, behind in zip(x_mm, h[:-1], h[1:], strict=True):
        if before != behind:  # a riser; its outer side is that of the lower step
            faces.append([[x, y, before], [x, -y, before], [x, -y, behind], [x, y, behind]])
    corners = np.array(faces, dtype=np.float64)  # (F, 4, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    first = 4 * np.arange(len(corners))[:, None, None]
    triangles = (first + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3).astype(np.int32)
    return Mesh(corners.reshape(-1, 3), np.repeat(normals, 4, axis=0), triangles)


def sphere(centre_mm: FloatArray, radius_mm: float) -> Mesh:
    """A sphere on parallels and meridians, fine enough for ``MAX_STRAY_MM``.

    A facet strays most in the middle of its circumcircle: with steps of δ that is r·(1 − cos(δ/√2)) ≈ r·δ²/4. The normal
    interpolated over a facet is exactly the radial one, since vertices and normals differ by a factor only.
    """
    rings = int(np.ceil(np.pi / np.sqrt(4 * MAX_STRAY_MM / radius_mm)))
    turns = 2 * rings
    polar, azimuth = np.arange(1, rings) * np.pi / rings, np.arange(turns) * 2 * np.pi / turns
    around = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)
    belt = np.empty((rings - 1, turns, 3))
    belt[..., :2] = np.sin(polar)[:, None, None] * around
    belt[..., 2] = np.cos(polar)[:, None]
    normals = np.concatenate([[[0.0, 0.0, 1.0]], belt.reshape(-1, 3), [[0.0, 0.0, -1.0]]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(centre_mm + radius_mm * normals, normals, _sphere_triangles(rings, turns))


def _sphere_triangles(rings: int, turns: int) -> NDArray[np.int32]:
    """Triangles between the north pole (vertex 0), ``rings`` − 1 parallels of ``turns`` vertices, and the south pole."""
    k = np.arange(turns)
    after = (k + 1) % turns
    upper = (1 + turns * np.arange(rings - 2))[:, None]
    lower = upper + turns
    a, b, c, d = upper + k, lower + k, lower + after, upper + after
    last = 1 + turns * (rings - 2)
    south = np.full(turns, last + turns)
    north = np.stack([np.zeros_like(k), 1 + k, 1 + after], axis=-1)
    belts = [np.stack([a, b, c], axis=-1).reshape(-1, 3), np.stack([a, c, d], axis=-1).reshape(-1, 3)]
    caps = [north, np.stack([last + after, last + k, south], axis=-1)]
    return np.concatenate([*belts, *caps]).astype(np.int32)
