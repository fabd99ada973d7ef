"""What a simulated part is made of: triangle meshes with exact normals, and what their surface does with light.

Part frame: millimetres, right-handed, x right and y up as the camera sees an unturned part, z up from the table towards
the camera; the origin lies on the table, in the middle of the part. A part's components may interpenetrate: what is seen
is the outermost surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import InputError

FloatArray = NDArray[np.float64]

Texture = Callable[[FloatArray], FloatArray]
"""Points (N, 3) in mm, part frame → factors (N, 4) on the material's reflectance: diffuse R, G, B and specular."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh that stands for a smooth surface.

    Parameters
    ----------
    vertices : (V, 3) float64
        mm. They lie on the surface itself; facets may stray from it by less than half a micrometre.
    normals : (V, 3) float64
        Unit, outward, of the smooth surface; vertices on a crease stand once for each side of it.
    triangles : (T, 3) int32
        Counter-clockwise seen from outside.
    """

    vertices: FloatArray
    normals: FloatArray
    triangles: NDArray[np.int32]

    @cached_property
    def facet_areas(self) -> FloatArray:
        """(T,) mm²."""
        return np.asarray(np.linalg.norm(self._facet_cross, axis=1) / 2)

    @cached_property
    def facet_normals(self) -> FloatArray:
        """(T, 3) unit normals of the flat facets."""
        return np.asarray(self._facet_cross / np.linalg.norm(self._facet_cross, axis=1, keepdims=True))

    @property
    def _facet_cross(self) -> FloatArray:
        a, b, c = (self.vertices[self.triangles[:, k]] for k in range(3))
        return np.cross(b - a, c - a)

    def moved(self, rotation: FloatArray, shift_mm: Sequence[float] | FloatArray) -> Mesh:
        """The mesh after X' = rotation · X + shift_mm."""
        return Mesh(self.vertices @ rotation.T + shift_mm, self.normals @ rotation.T, self.triangles)


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one."""
    first = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.triangles + k for m, k in zip(meshes, first, strict=True)]).astype(np.int32),
    )


@dataclass(frozen=True)
class Material:
    """Reflectance: a Lambertian body under a GGX microfacet surface (Walter et al., EGSR 2007).

    Parameters
    ----------
    diffuse : (R, G, B)
        Albedo of the body, linear, 0 to 1.
    specular : (R, G, B)
        Fresnel reflectance at normal incidence F0, 0 to 1: 0.04 for plastics and glazes, 0.5-0.95 for metals.
    roughness : float
        GGX α, 0.02 (mirror) to 1 (matte).
    texture : Texture, optional
        Varies the reflectance over the surface.
    """

    diffuse: tuple[float, float, float]
    specular: tuple[float, float, float] = (0.0, 0.0, 0.0)
    roughness: float = 0.5
    texture: Texture | None = None

    def textured(self, texture: Texture) -> Material:
        """This material with one more texture on top; factors multiply."""
        below = self.texture
        if below is None:
            return replace(self, texture=texture)
        return replace(self, texture=lambda points: below(points) * texture(points))


@dataclass(frozen=True, eq=False)
class Component:
    """One body of a part: a mesh of one material. ``name`` is unique in its part, for example ``pin_3``."""

    name: str
    mesh: Mesh
    material: Material


@dataclass(frozen=True, eq=False)
class Part:
    """One specimen of a product (or a target), lying on the table at the origin of its frame.

    Attributes
    ----------
    product : str
        Name in the catalogue.
    components : tuple of Component
    features : tuple of str
        Names of components that may be missing (a pin, a pointer), for the defect ``missing_feature``.
    """

    product: str
    components: tuple[Component, ...]
    features: tuple[str, ...] = ()

    @cached_property
    def extent_mm(self) -> tuple[FloatArray, FloatArray]:
        """Least and greatest x, y, z, (3,) each."""
        low = np.min([c.mesh.vertices.min(axis=0) for c in self.components], axis=0)
        high = np.max([c.mesh.vertices.max(axis=0) for c in self.components], axis=0)
        return low, high


@dataclass(frozen=True)
class Pose:
    """Where a part lies: turned by the angles about its own x, then y, then z axis, then shifted (viewer axes, mm).

    A part flat on the table has no tilt and ``z_mm`` 0.
    """

    x_mm: float = 0.0
    y_mm: float = 0.0
    angle_deg: float = 0.0
    z_mm: float = 0.0
    tilt_x_deg: float = 0.0
    tilt_y_deg: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not np.isfinite(value):
                raise InputError(f"pose: {name} is {value}; a finite number is needed", code="simulate.pose")

    @cached_property
    def rotation(self) -> FloatArray:
        """(3, 3), part frame to viewer axes."""
        a, b, c = np.radians([self.tilt_x_deg, self.tilt_y_deg, self.angle_deg])
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        return np.asarray(about_z @ about_y @ about_x)

    @property
    def shift_mm(self) -> FloatArray:
        """(3,) where the part's origin lies."""
        return np.array([self.x_mm, self.y_mm, self.z_mm])
