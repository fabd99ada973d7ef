"""Where every pixel's light vectors are aimed: the measured surface, its holes filled from what lies around them.

A hole must not be filled in a measurement; but the direction to a lamp 200 mm away changes by 0.2° for each millimetre, so
that a guess from the neighbourhood is far better there than the table. The guess is a normalised convolution (Knutsson and
Westin, CVPR 1993) of means over blocks of 16 px of the depth relative to the table plane; far from all that was
measured it fades to the plane itself.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.reconstruction import _near_geometry_kernels as kernels
from rakelight.reconstruction.models import Plane
from rakelight.reconstruction.near_gains import RayTile, plane_numbers

__all__ = ["coarse_depth", "light_points"]

Float32 = NDArray[np.float32]

BLOCK_PX = 16
_SIGMA_BLOCKS = 2.0
_PLANE_WEIGHT = 0.01  # in full blocks: what the plane counts beside the measured surface


def coarse_depth(xyz: Float32, plane: Plane, rays: RayTile) -> Float32:
    """The measured surface in blocks of 16 px: mean depth less that of ``plane``, smoothed and without holes, mm.

    Parameters
    ----------
    xyz : (H, W, 3) float32
        mm, camera frame, NaN = not measured.
    plane : Plane
        The table.
    rays : RayTile
        Of the whole image.

    Returns
    -------
    (⌈H/16⌉, ⌈W/16⌉) float32

    Raises
    ------
    InputError
        ``input.*``: an ``xyz`` that is not (H, W, 3) float32 on the pixels of the rays.
    """
    height, width = rays.shape
    xyz = check_array("xyz", xyz, shape=(height, width, 3), dtypes=("float32",))
    shape = (-(-height // BLOCK_PX), -(-width // BLOCK_PX))
    sums, counts = np.empty(shape, np.float32), np.empty(shape, np.float32)
    numbers = plane_numbers(plane.normal, plane.offset_mm)
    kernels.block_sums(xyz, rays.p, rays.q, rays.form, numbers, BLOCK_PX, sums, counts)
    sums, counts = (
        np.asarray(cv2.GaussianBlur(m, (0, 0), _SIGMA_BLOCKS, borderType=cv2.BORDER_CONSTANT)) for m in (sums, counts)
    )
    return np.asarray(sums / (counts + np.float32(_PLANE_WEIGHT * BLOCK_PX**2)))


def light_points(xyz: Float32, coarse: Float32, plane: Plane, rays: RayTile, *, out: Float32 | None = None) -> Float32:
    """Points of some rows, (h, W, 3) float32 mm without NaN: the measured ones untouched, holes from the coarse map.

    Parameters
    ----------
    xyz : (h, W, 3) float32
        The rows of ``rays``.
    coarse : (⌈H/16⌉, ⌈W/16⌉) float32
        From :func:`coarse_depth`, of the whole image.
    plane, rays
        As there; ``rays`` of these rows.
    out : (h, W, 3) float32, optional
        Memory to reuse.

    Raises
    ------
    InputError
        ``input.*``: sizes or dtypes that do not fit.
    """
    shape = (*rays.shape, 3)
    xyz = check_array("xyz", xyz, shape=shape, dtypes=("float32",))
    out = np.empty(shape, np.float32) if out is None else check_array("out", out, shape=shape, dtypes=("float32",))
    numbers = plane_numbers(plane.normal, plane.offset_mm)
    kernels.fill(xyz, rays.p, rays.q, rays.form, numbers, coarse, BLOCK_PX, rays.first, out)
    return out
