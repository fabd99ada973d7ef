"""Geometric models of the rig: cameras, projectors and the table plane, as rays and projections; lights come along.

Frames: lengths are millimetres in the OpenCV camera frame (x right, y down, z away from the camera); pixels have their
centre at integer (u right, v down).

Every model checks itself when it is made and raises :class:`CalibrationError`; points that do not fit raise
:class:`InputError`. All arithmetic is float64; a NaN point gives a NaN result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from rakelight.errors import InputError
from rakelight.reconstruction._model_checks import (
    VIEWER,
    FloatArray,
    array_of,
    frozen,
    integer,
    invalid,
    is_integer,
    number,
    points_of,
    settle,
    settle_lens,
    settle_size,
    unit,
    vector_text,
)
from rakelight.reconstruction.distortion import distort_points, undistort_points
from rakelight.reconstruction.lights import Light, LightGeometry, light_geometry, light_matrix

__all__ = [
    "NO_DISTORTION",
    "VIEWER",
    "AffineCamera",
    "Camera",
    "Distortion",
    "Light",
    "LightGeometry",
    "PinholeCamera",
    "Plane",
    "Projector",
    "distort_points",
    "light_geometry",
    "light_matrix",
    "undistort_points",
]

Distortion = tuple[float, float, float, float, float]

NO_DISTORTION: Distortion = (0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PinholeCamera:
    """A perspective camera with lens distortion.

    Parameters
    ----------
    width, height : int
        Image size in px.
    fx, fy, cx, cy : float
        Focal lengths and principal point in px (pixel centre at integer).
    distortion : tuple of 5 floats
        k1, k2, p1, p2, k3 on normalised coordinates (see :mod:`rakelight.reconstruction.distortion`).
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Distortion = NO_DISTORTION

    def __post_init__(self) -> None:
        settle_lens(self, "camera")

    @property
    def matrix(self) -> FloatArray:
        """The (3, 3) intrinsic matrix in px."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def rays(self, uv: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Viewing rays of pixels (..., 2): origins (..., 3) in mm (all zero, read-only) and unit directions (..., 3).

        Raises :class:`InputError` where the distortion cannot be inverted.
        """
        uv = points_of("pixels", uv, 2)
        xy = undistort_points((uv - (self.cx, self.cy)) / (self.fx, self.fy), self.distortion)
        directions = np.concatenate((xy, np.ones((*xy.shape[:-1], 1))), axis=-1)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        return np.broadcast_to(np.zeros(3), directions.shape), directions

    def project(self, xyz: ArrayLike) -> FloatArray:
        """Pixels (..., 2) of points (..., 3) in mm; NaN for points at or behind the camera (z ≤ 0)."""
        xyz = points_of("xyz", xyz, 3)
        z = np.where(xyz[..., 2:] > 0, xyz[..., 2:], np.nan)
        return distort_points(xyz[..., :2] / z, self.distortion) * (self.fx, self.fy) + (self.cx, self.cy)

    def window(self, offset_x: int, offset_y: int, width: int, height: int, binning: int = 1) -> PinholeCamera:
        """The camera of a region of interest and/or a binned image.

        ``offset_x, offset_y`` are in px of this camera, ``width, height`` in px of the new one, whose pixel i covers
        the pixels offset + b·i … offset + b·i + b − 1: u_full = b·u + (b − 1)/2 + offset.
        Raises :class:`InputError` when the window is not inside the image.
        """
        shift_x, shift_y = _window_shift(self, offset_x, offset_y, width, height, binning)
        return PinholeCamera(
            width,
            height,
            self.fx / binning,
            self.fy / binning,
            (self.cx - shift_x) / binning,
            (self.cy - shift_y) / binning,
            self.distortion,
        )


@dataclass(frozen=True, eq=False)
class AffineCamera:
    """A telecentric (parallel-projection) camera: uv = matrix · xyz + offset.

    Parameters
    ----------
    width, height : int
        Image size in px.
    matrix : (2, 3) float64
        px per mm.
    offset : (2,) float64
        Pixel of the origin of the camera frame, in px.
    """

    width: int
    height: int
    matrix: FloatArray
    offset: FloatArray

    def __post_init__(self) -> None:
        settle_size(self, "camera")
        settle(self, "matrix", array_of("affine camera matrix (px per mm)", self.matrix, (2, 3), "camera"))
        settle(self, "offset", array_of("affine camera offset (px)", self.offset, (2,), "camera"))
        singular = np.linalg.svd(self.matrix, compute_uv=False)
        if singular[1] <= 1e-9 * singular[0] or abs(self.direction[2]) < 1e-6:
            raise invalid(
                "affine camera matrix",
                f"singular values {singular[0]:.4g}, {singular[1]:.4g}",
                "a matrix of rank 2 whose viewing direction is not parallel to the image plane",
                "camera",
            )

    @classmethod
    def orthographic(cls, width: int, height: int, pitch_mm: float) -> AffineCamera:
        """A telecentric camera with square pixels of ``pitch_mm`` on the part, looking along z at the image centre."""
        pitch = number("pixel pitch on the part (mm)", pitch_mm, 1e-9, 1e6, "camera")
        matrix = np.array([[1 / pitch, 0.0, 0.0], [0.0, 1 / pitch, 0.0]])
        return cls(width, height, matrix, np.array([(width - 1) / 2, (height - 1) / 2]))

    @cached_property
    def direction(self) -> FloatArray:
        """The one viewing direction, (3,) unit, camera frame, pointing away from the camera (z > 0)."""
        normal = np.cross(self.matrix[0], self.matrix[1])
        length = float(np.linalg.norm(normal))
        return frozen(normal * (math.copysign(1.0, normal[2]) / length) if length > 0 else np.zeros(3))

    def rays(self, uv: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Viewing rays of pixels (..., 2): origins (..., 3) in mm and unit directions (..., 3) (read-only, all equal).

        The origins lie on the plane through the origin of the camera frame at right angles to the rays.
        """
        uv = points_of("pixels", uv, 2)
        origins = (uv - self.offset) @ np.linalg.pinv(self.matrix).T
        return origins, np.broadcast_to(self.direction, origins.shape)

    def project(self, xyz: ArrayLike) -> FloatArray:
        """Pixels (..., 2) of points (..., 3) in mm; parallel rays have no "behind", so only NaN gives NaN."""
        return np.asarray(points_of("xyz", xyz, 3) @ self.matrix.T + self.offset)

    def window(self, offset_x: int, offset_y: int, width: int, height: int, binning: int = 1) -> AffineCamera:
        """The camera of a region of interest and/or a binned image; as :meth:`PinholeCamera.window`."""
        shift = _window_shift(self, offset_x, offset_y, width, height, binning)
        return AffineCamera(width, height, self.matrix / binning, (self.offset - shift) / binning)


Camera = PinholeCamera | AffineCamera


@dataclass(frozen=True, eq=False)
class Projector:
    """A pattern projector: an inverse camera with a pose.

    Parameters
    ----------
    direction : int
        1 to 4, in the order of the lights (right, up, left, down).
    width, height : int
        Pattern size in projector px (columns, rows).
    fx, fy, cx, cy, distortion
        As for :class:`PinholeCamera`, in projector px.
    rotation : (3, 3) float64
        Camera frame to projector frame: X_projector = rotation · X_camera + translation_mm.
    translation_mm : (3,) float64
    """

    direction: int
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Distortion
    rotation: FloatArray
    translation_mm: FloatArray

    def __post_init__(self) -> None:
        settle(self, "direction", integer("projector direction", self.direction, 1, 4, "projector"))
        settle_lens(self, "projector")
        settle(self, "rotation", array_of("projector rotation", self.rotation, (3, 3), "projector"))
        settle(self, "translation_mm", array_of("projector translation (mm)", self.translation_mm, (3,), "projector"))
        error = float(np.abs(self.rotation @ self.rotation.T - np.eye(3)).max())
        determinant = float(np.linalg.det(self.rotation))
        if error > 1e-6 or determinant < 0:
            raise invalid(
                "projector rotation",
                f"R·Rᵀ − 1 of up to {error:.3g}, determinant {determinant:.6g}",
                "orthonormal to 1e-6, determinant +1",
                "projector",
            )

    @cached_property
    def optics(self) -> PinholeCamera:
        """The projector's lens as a camera in the projector frame."""
        return PinholeCamera(self.width, self.height, self.fx, self.fy, self.cx, self.cy, self.distortion)

    @property
    def centre_mm(self) -> FloatArray:
        """Centre of projection, (3,) in mm, camera frame."""
        return np.asarray(-self.rotation.T @ self.translation_mm)

    def project(self, xyz: ArrayLike) -> FloatArray:
        """Projector coordinates (column, row) (..., 2) that light camera-frame points (..., 3) in mm; NaN behind it."""
        return self.optics.project(points_of("xyz", xyz, 3) @ self.rotation.T + self.translation_mm)

    def rays(self, colrow: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Light rays of projector coordinates (..., 2): origins (..., 3) in mm, unit directions, camera frame."""
        _, directions = self.optics.rays(colrow)
        directions = directions @ self.rotation
        return np.broadcast_to(self.centre_mm, directions.shape), directions


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane n · X = offset_mm in the camera frame.

    Parameters
    ----------
    normal : (3,) float64
        Unit, pointing towards the camera (z < 0); made exactly unit if within 1e-3.
    offset_mm : float
        Negative when the origin of the camera frame lies in front of the plane; −200 for a table at z = 200 mm.
    """

    normal: FloatArray
    offset_mm: float

    def __post_init__(self) -> None:
        settle(self, "normal", unit("plane normal", self.normal, "plane"))
        settle(self, "offset_mm", number("plane offset (mm)", self.offset_mm, -1e7, 1e7, "plane"))
        if self.normal[2] >= 0:
            raise invalid("plane normal", vector_text(self.normal), "z < 0 (towards the camera)", "plane")

    @classmethod
    def from_points(cls, points: ArrayLike) -> Plane:
        """The least-squares plane (orthogonal distances) through points (..., 3) in mm; NaN points are left out.

        Raises :class:`CalibrationError` (code ``calibration.plane_invalid``) for fewer than 3 points or points on a
        line.
        """
        xyz = points_of("points", points, 3).reshape(-1, 3)
        xyz = xyz[np.isfinite(xyz).all(axis=1)]
        if len(xyz) < 3:
            raise invalid("number of finite points of the plane", len(xyz), "at least 3", "plane")
        centroid = xyz.mean(axis=0)
        offsets = xyz - centroid
        variances, axes = np.linalg.eigh(offsets.T @ offsets)
        if variances[1] <= 1e-10 * variances[2]:
            ratio = math.sqrt(max(variances[1], 0.0) / variances[2]) if variances[2] > 0 else 0.0
            raise invalid("width/length of the plane's points", f"{ratio:.3g}", "above 1e-5, not on one line", "plane")
        normal = axes[:, 0] if axes[2, 0] < 0 else -axes[:, 0]
        return cls(normal, float(normal @ centroid))

    def intersect(self, origins: ArrayLike, directions: ArrayLike) -> FloatArray:
        """Where rays (origins and directions (..., 3) in mm, broadcast) meet the plane, (..., 3) in mm.

        NaN where a ray does not run against the front of the plane. Parallel-projection rays have no start, so a
        meeting point before the origin counts.
        """
        o, d = points_of("origins", origins, 3), points_of("directions", directions, 3)
        approach = d @ self.normal
        approach = np.where(approach < -1e-12, approach, np.nan)
        return np.asarray(o + ((self.offset_mm - o @ self.normal) / approach)[..., None] * d)

    def height_mm(self, xyz: ArrayLike) -> FloatArray:
        """Height (...) in mm of points (..., 3) above the plane, positive towards the camera."""
        return np.asarray(points_of("xyz", xyz, 3) @ self.normal - self.offset_mm)


class _Sized(Protocol):
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


def _window_shift(
    camera: _Sized, offset_x: int, offset_y: int, width: int, height: int, binning: int
) -> tuple[float, float]:
    for name, value, least in (
        ("offset x", offset_x, 0),
        ("offset y", offset_y, 0),
        ("width", width, 1),
        ("height", height, 1),
        ("binning", binning, 1),
    ):
        if not is_integer(value) or value < least:
            raise InputError(f"window {name} is {value!r}; needed: an integer of at least {least}", code="input.window")
    if offset_x + width * binning > camera.width or offset_y + height * binning > camera.height:
        raise InputError(
            f"window of {width}×{height} px, binning {binning}, at ({offset_x}, {offset_y}) needs "
            f"{offset_x + width * binning}×{offset_y + height * binning} px; the camera has "
            f"{camera.width}×{camera.height}",
            hint="use the region of interest and binning that the recording states, on the calibration of the full "
            "sensor",
            code="input.window",
        )
    return offset_x + (binning - 1) / 2, offset_y + (binning - 1) / 2
