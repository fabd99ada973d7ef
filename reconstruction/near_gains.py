"""Flat-field gains made for distant lights, turned into those of near lights: what a second photometric pass needs.

A flat field for distant lights holds gain = (l₀·n)/W, where W is what the camera saw of a white plane and l₀ the light vector
at the light's reference point. A light that is near shone on the white with E(X) instead, E = ``Light.vectors``, so that
the gain under its model is (E(X)·n)/W = gain · (E(X)·n)/(E(X_ref)·n), where X is where the pixel's ray meets the white plane.

The white plane lies parallel to the table and goes through the reference point, so that the source stands equally high above
X and above X_ref: with E(X) ∝ (P − X)/d³ the heights cancel, and the factor is (d_ref/d)³ exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction import _near_geometry_kernels as kernels
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.models import AffineCamera, Camera, Plane
from rakelight.reconstruction.triangulation import camera_rays

__all__ = ["RayTile", "near_gains", "rays_of"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RayTile:
    """Viewing rays of some rows of the image, as the kernels take them; see :func:`rays_of`.

    ``p`` and ``q`` (h, W) float32, and ``form`` (b_x, b_y, 1 for a pinhole camera or 0): X(z) = (p·s + b_x·z, q·s + b_y·z, z)
    with s = z for a pinhole camera and s = 1 for an affine one. ``first`` is the image row of their row 0.
    """

    p: Float32
    q: Float32
    form: tuple[np.float32, np.float32, np.float32]
    first: int

    @property
    def shape(self) -> tuple[int, int]:
        """(h, W)."""
        return self.p.shape[0], self.p.shape[1]


def rays_of(camera: Camera, rows: slice | None = None) -> RayTile:
    """Viewing rays of rows ``rows`` of the image (all by default): views of the table of ``triangulation.camera_rays``.

    Raises :class:`InputError` (``distortion.not_invertible``), as :func:`triangulation.camera_rays` does.
    """
    first, last, _ = (rows or slice(None)).indices(camera.height)
    p, q = camera_rays(camera)[:, first:last]
    along, pinhole = (0.0, 0.0), 1.0
    if isinstance(camera, AffineCamera):
        x, y, z = camera.direction
        along, pinhole = (x / z, y / z), 0.0
    return RayTile(p, q, (np.float32(along[0]), np.float32(along[1]), np.float32(pinhole)), first)


def plane_numbers(normal: NDArray[np.float64], offset_mm: float) -> tuple[np.float32, ...]:
    """n_x, n_y, n_z and offset in mm of a plane as the kernels take them."""
    return tuple(np.float32(x) for x in (*normal, offset_mm))


def near_gains(
    gains: NDArray[Any],
    lights: Sequence[Light],
    plane: Plane,
    rays: RayTile,
    *,
    out: Float32 | None = None,
) -> Float32:
    """Gains for near lights from gains for distant ones; their scales stay as they are.

    Parameters
    ----------
    gains : (K, h, W) uint16 or float32
        Of the rows of ``rays``; a gain of 0 (pixel not usable) stays 0.
    lights : sequence of K Light
        With positions; in the order of the gains.
    plane : Plane
        The table; the white plane of a light is parallel to it and goes through the light's reference point.
    rays : RayTile
        From :func:`rays_of`, on the pixels of the gains.
    out : (K, h, W) float32, optional
        Memory to reuse, C-contiguous.

    Raises
    ------
    CalibrationError
        ``calibration.light_model``: a light without a position.
    InputError
        ``input.*``: sizes or dtypes that do not fit.
    """
    shape = (len(lights), *rays.shape)
    gains = check_array("flat-field gains", gains, shape=shape, dtypes=("uint16", "float32"))
    out = np.empty(shape, np.float32) if out is None else check_array("out", out, shape=shape, dtypes=("float32",))
    if not out.flags.c_contiguous:
        raise InputError(f"out has strides {out.strides}; it must be C-contiguous", code="input.shape")
    planes, sources = np.empty((len(lights), 4), np.float32), np.empty((len(lights), 4), np.float32)
    for k, light in enumerate(lights):
        if light.position_mm is None or light.reference_mm is None:
            raise CalibrationError(
                f"the light of zone {light.zone} has no position; gains for near lights need the position of every light",
                hint="calibrate the lights with spheres (`rakelight calibrate`), which finds positions",
                code="calibration.light_model",
            )
        planes[k] = plane_numbers(plane.normal, float(plane.normal @ light.reference_mm))
        towards = light.position_mm - light.reference_mm
        sources[k] = (*light.position_mm, towards @ towards)
    maps = tuple(np.ascontiguousarray(g).view() for g in gains)
    for view in maps:  # read-only: the kernel is compiled once instead of once for each mix of flags
        view.flags.writeable = False
    kernels.near_gains(rays.p, rays.q, rays.form, planes, sources, maps, out)
    return out
