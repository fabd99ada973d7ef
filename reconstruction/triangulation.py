"""Depth from decoded projector coordinates: where a viewing ray meets the sheet of light of one column (or row).

A pixel's viewing ray is X(z) = (p·z, q·z, z) for a :class:`PinholeCamera` and (p + b_x·z, q + b_y·z, z) for an
:class:`AffineCamera`. The sheet of a column is a plane only for a projector without distortion, so the equation
column(X(z)) = decoded column is solved on the ray by Newton's method with the analytic derivative, for both lenses' distortion
exactly. The same derivative carries the coordinate's uncertainty to the depth: σ_z = σ_column / |d column / d z|.

Source: S. Zhang, P. S. Huang, "Novel method for structured light system calibration", Optical Engineering 45 (2006) 083601
(projector as an inverse camera, ray = sheet), with the lens model of :mod:`rakelight.reconstruction.distortion`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction import _triangulation_kernels as kernels
from rakelight.reconstruction.models import AffineCamera, Camera, PinholeCamera, Plane, Projector, undistort_points

__all__ = ["AXES", "camera_rays", "depth_on_rays", "heights_above", "triangulate", "xyz_from_depth"]

AXES = ("column", "row")
Float32Map = NDArray[np.float32]

_KEPT_TABLES = 2  # of 8 bytes a pixel: the camera in use and one other
_AffineKey = tuple[int, int, tuple[float, ...], tuple[float, ...]]


def camera_rays(camera: Camera) -> Float32Map:
    """Table of the viewing rays: (2, H, W) float32, read-only: p and q of every pixel.

    Pinhole: p = x/z, q = y/z (no unit), to 1e-10 before rounding. Affine: x and y in mm where the ray crosses z = 0.
    The last two tables are kept, so that a second call with an equal camera costs nothing.

    Raises
    ------
    InputError
        ``distortion.not_invertible``: the lens distortion has no inverse at some pixel.
    """
    if isinstance(camera, PinholeCamera):
        return _table(camera)
    matrix, offset = tuple(camera.matrix.ravel().tolist()), tuple(camera.offset.tolist())
    return _table((camera.width, camera.height, matrix, offset))


@lru_cache(maxsize=_KEPT_TABLES)
def _table(key: PinholeCamera | _AffineKey) -> Float32Map:
    table = _pinhole_table(key) if isinstance(key, PinholeCamera) else _affine_table(*key)
    table.flags.writeable = False
    return table


def _pinhole_table(camera: PinholeCamera) -> Float32Map:
    table = np.empty((2, camera.height, camera.width), np.float32)
    focal, centre = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    failed = kernels.pinhole_rays(tuple(focal.tolist()), tuple(centre.tolist()), camera.distortion, table)
    if failed:
        rows, columns = np.nonzero(np.isnan(table[0]))
        # The same method with the same limits: it raises, and says where.
        table[:, rows, columns] = undistort_points(
            (np.stack((columns, rows), axis=-1) - centre) / focal, camera.distortion
        ).T
    return table


def _affine_table(width: int, height: int, matrix: tuple[float, ...], offset: tuple[float, ...]) -> Float32Map:
    inverse = np.linalg.inv(np.reshape(matrix, (2, 3))[:, :2])
    u, v = np.arange(width) - offset[0], np.arange(height) - offset[1]
    table = np.empty((2, height, width), np.float32)
    for plane, (by_u, by_v) in zip(table, inverse, strict=True):
        np.add(by_u * u[None, :], by_v * v[:, None], out=plane, casting="same_kind")
    return table


def _along(camera: Camera) -> NDArray[np.float64]:
    """(b_x, b_y): how a ray of an affine camera moves per mm of depth; zero for a pinhole camera."""
    if isinstance(camera, PinholeCamera):
        return np.zeros(2)
    return np.asarray(-np.linalg.solve(camera.matrix[:, :2], camera.matrix[:, 2]))


def triangulate(
    coordinate: Float32Map,
    sigma_px: Float32Map,
    camera: Camera,
    projector: Projector,
    *,
    axis: str = "column",
    out: tuple[Float32Map, Float32Map] | None = None,
    z_range_mm: tuple[float, float] | None = None,
) -> tuple[Float32Map, Float32Map]:
    """Depth map of one direction.

    Parameters
    ----------
    coordinate : (H, W) float32
        Decoded projector column (or row) in projector px, pixel centre at integer; NaN where invalid.
    sigma_px : (H, W) float32
        Its standard deviation in projector px; NaN where invalid.
    camera, projector
        Calibration; the camera's size is that of the maps.
    axis : {"column", "row"}
        What was decoded.
    out : (z, sigma_z), optional
        Memory to reuse, two (H, W) float32 arrays.
    z_range_mm : (least, largest), optional
        Depths outside become NaN. Default: all, but in front of a pinhole camera.

    Returns
    -------
    z_mm, sigma_z_mm : (H, W) float32
        Depth in mm, camera frame, and its standard deviation; both NaN where there is none: no coordinate, no
        crossing within the range, behind the projector, or ray and sheet (nearly) parallel.

    Raises
    ------
    InputError
        Sizes or dtypes that do not fit, an unknown axis, an empty range, or a lens without inverse.
    """
    shape = (camera.height, camera.width)
    check_array("coordinate map", coordinate, shape=shape, dtypes=("float32",))
    table = camera_rays(camera)
    return depth_on_rays(coordinate, sigma_px, table[0], table[1], camera, projector, axis, out, z_range_mm)


def depth_on_rays(
    coordinate: Float32Map,
    sigma_px: Float32Map,
    p: Float32Map,
    q: Float32Map,
    camera: Camera,
    projector: Projector,
    axis: str = "column",
    out: tuple[Float32Map, Float32Map] | None = None,
    z_range_mm: tuple[float, float] | None = None,
) -> tuple[Float32Map, Float32Map]:
    """As :func:`triangulate`, for any (H, W) choice of pixels whose rays (p, q) of :func:`camera_rays` are given."""
    if axis not in AXES:
        raise InputError(f"axis {axis!r}; allowed: {', '.join(AXES)}", code="triangulation.axis")
    shape = coordinate.shape
    maps = [
        np.ascontiguousarray(check_array(name, array, shape=shape, dtypes=("float32",)))
        for name, array in (("coordinate map", coordinate), ("map of sigma_px", sigma_px), ("p", p), ("q", q))
    ]
    z, sigma_z = out or (np.empty(shape, np.float32), np.empty(shape, np.float32))
    for name, array in (("out z", z), ("out sigma_z", sigma_z)):
        check_array(name, array, shape=shape, dtypes=("float32",))
        if not array.flags.c_contiguous:
            raise InputError(f"{name} has strides {array.strides}; it must be C-contiguous", code="input.shape")
    low, high = _range(camera, z_range_mm)
    reference = _reference_depth(camera, projector, low, high)
    limits = tuple(np.float32(x) for x in (reference, low, high))
    kernels.depths(*maps, _geometry(camera, projector, reference, axis), _lens(projector, axis), limits, z, sigma_z)
    return z, sigma_z


def xyz_from_depth(z_mm: Float32Map, camera: Camera, out: Float32Map | None = None) -> Float32Map:
    """Points (H, W, 3) float32 in mm, camera frame, of a depth map (H, W) float32; NaN stays NaN.

    Raises :class:`InputError` for sizes or dtypes that do not fit.
    """
    shape = (camera.height, camera.width)
    z = np.ascontiguousarray(check_array("depth map", z_mm, shape=shape, dtypes=("float32",)))
    xyz = np.empty((*shape, 3), np.float32) if out is None else out
    check_array("out", xyz, shape=(*shape, 3), dtypes=("float32",))
    p, q = camera_rays(camera)
    along = tuple(np.float32(b) for b in _along(camera))
    kernels.points(z, p, q, along, np.float32(isinstance(camera, PinholeCamera)), xyz)
    return xyz


def heights_above(xyz: Float32Map, plane: Plane) -> Float32Map:
    """Height (H, W) float32 in mm of a map of points (H, W, 3) float32 above a plane; NaN stays NaN."""
    points = np.ascontiguousarray(check_array("points", xyz, shape=(None, None, 3), dtypes=("float32",)))
    out = np.empty(points.shape[:2], np.float32)
    kernels.heights(points, tuple(float(n) for n in plane.normal), float(plane.offset_mm), out)
    return out


# ------------------------------------------------------------------------------------------------------------ constants
def _range(camera: Camera, z_range_mm: tuple[float, float] | None) -> tuple[float, float]:
    start = 0.0 if isinstance(camera, PinholeCamera) else -np.inf
    low, high = (start, np.inf) if z_range_mm is None else (float(z_range_mm[0]), float(z_range_mm[1]))
    if not low < high:
        raise InputError(f"depth range {low:g} to {high:g} mm; the first must be smaller", code="triangulation.range")
    return max(low, start), high


def _reference_depth(camera: Camera, projector: Projector, low: float, high: float) -> float:
    """Depth, exact in float32, near which the surface is expected: where the two optical axes pass closest.

    It only keeps numbers small (see the kernel); any depth gives the same result but for rounding.
    """
    start, ray = np.zeros(3), np.array([0.0, 0.0, 1.0])
    if isinstance(camera, AffineCamera):
        origins, directions = camera.rays(np.array([(camera.width - 1) / 2, (camera.height - 1) / 2]))
        start, ray = origins, directions
    centre, axis = projector.centre_mm, projector.rotation[2]
    across = np.cross(ray, axis)
    if across @ across > 1e-6:
        found = start[2] + ray[2] * float(np.cross(centre - start, axis) @ across / (across @ across))
    else:  # parallel axes never meet; the stand-off has the right order
        found = float(centre[2] + np.linalg.norm(centre - start))
    inside = low < found < high
    ends = [x for x in (low, high) if np.isfinite(x)]
    return float(np.float32(found if inside else float(np.mean(ends)) if ends else 0.0))


def _geometry(camera: Camera, projector: Projector, reference: float, axis: str) -> tuple[Any, ...]:
    """The tuple ``geometry`` of the kernel: g, s, R's first two columns, w, b, with the decoded axis first."""
    pinhole = isinstance(camera, PinholeCamera)
    order = [0, 1, 2] if axis == "column" else [1, 0, 2]
    rotation, translation = projector.rotation[order], projector.translation_mm[order]
    along = rotation @ np.array([*_along(camera), 1.0])
    g = translation + reference * along
    values = [*g, reference if pinhole else 1.0, *rotation[:, :2].ravel(), float(pinhole), *along]
    return tuple(np.float32(x) for x in values)


def _lens(projector: Projector, axis: str) -> tuple[Any, ...]:
    """The tuple ``lens`` of the kernel: distortion for (along, across), then focal length and principal point."""
    k1, k2, p1, p2, k3 = projector.distortion
    column = axis == "column"
    focal, centre = (projector.fx, projector.cx) if column else (projector.fy, projector.cy)
    # The model is symmetric: exchanging x and y exchanges p1 and p2. The principal point goes in two parts, so that
    # its fraction is not rounded to the 3e-5 px that float32 resolves at 500 px.
    whole = round(centre)
    values = [k1, k2, k3, *((p1, p2) if column else (p2, p1)), 1 / focal, focal, whole, centre - whole]
    return tuple(np.float32(x) for x in values)
