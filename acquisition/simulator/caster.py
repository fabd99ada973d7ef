"""Ray casting with Open3D's Embree scene: which facet a ray meets first, and whether anything is in a light's way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator import _scene_kernels as kernels
from rakelight.acquisition.simulator.solid import Mesh

NOTHING = 255  # number of the body where a ray met nothing
_OFFSET_MM = 5e-4  # of a shadow ray's start above its surface, so that rounding does not make it its own shadow

Rays = NDArray[np.float32]


class Caster:
    """Meshes, numbered from 0, ready for rays.

    Rays are (h, w, 6) float32: origin and direction in mm, whose length is the ray's unit.
    """

    def __init__(self, meshes: Sequence[Mesh]) -> None:
        import open3d  # slow to import

        self._tensor: Any = open3d.core.Tensor
        self._scene: Any = open3d.t.geometry.RaycastingScene()
        for mesh in meshes:
            self._scene.add_triangles(
                self._tensor(mesh.vertices.astype(np.float32)), self._tensor(mesh.triangles.astype(np.uint32))
            )
        vertices = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
        self._first_facet = np.cumsum([0, *(len(m.triangles) for m in meshes[:-1])]).astype(np.int64)
        self._triangles = np.concatenate([m.triangles + k for m, k in zip(meshes, vertices, strict=True)]).astype(
            np.int64
        )
        self._vertices = np.concatenate([m.vertices for m in meshes])
        self._normals = np.concatenate([m.normals for m in meshes])

    def surface(
        self, rays: Rays, body: NDArray[np.uint8], xyz: NDArray[np.float32], normals: NDArray[np.float32]
    ) -> None:
        """Where rays meet the meshes, into ``body`` (h, w), ``xyz`` and ``normals`` (h, w, 3); 255 and NaN for nothing.

        Embree names the facet; the point is computed anew in float64, to better than 10 nm, and the normal from the
        corners' normals.
        """
        hits = self._scene.cast_rays(self._tensor(rays))
        body[:] = np.minimum(hits["geometry_ids"].numpy(), NOTHING)
        kernels.surface(
            rays,
            body,
            hits["primitive_ids"].numpy(),
            hits["primitive_uvs"].numpy(),
            self._first_facet,
            self._triangles,
            self._vertices,
            self._normals,
            xyz,
            normals,
        )

    def blocked(
        self, xyz: NDArray[np.float32], normals: NDArray[np.float32], source: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """(h, w): something lies between surface points (h, w, 3) and ``source`` (3,), or they face away from it."""
        rays = np.empty((*xyz.shape[:2], 6), np.float32)
        kernels.rays_towards(xyz, normals, source, _OFFSET_MM, rays)
        shadow: NDArray[np.bool_] = self._scene.test_occlusions(self._tensor(rays), 0.0, 1.0).numpy()
        return shadow
