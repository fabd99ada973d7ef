"""Exact outlines of spheres as a camera sees them, to write into recordings and to judge outline finders by.

Frame: OpenCV camera frame in mm (x right, y down, z away from the camera), the eye at its origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SphereOutline:
    """The image of a sphere's rim: an ellipse, in px (pixel centre at integer, u right, v down).

    Attributes
    ----------
    u, v : float
        Centre of the ellipse; the image of the sphere's centre lies a little nearer to the principal point.
    semi_major, semi_minor : float
    angle_deg : float
        From the u axis to the major axis, towards v; 0 for a circle.
    """

    u: float
    v: float
    semi_major: float
    semi_minor: float
    angle_deg: float

    @property
    def radius(self) -> float:
        """Radius of the circle about the centre that comes nearest, the mean of the semi-axes."""
        return (self.semi_major + self.semi_minor) / 2

    def points(self, count: int = 90) -> FloatArray:
        """(count, 2) points of the ellipse, evenly spaced in its parameter."""
        angle = np.arange(count) * (2 * np.pi / count)
        c, s = np.cos(np.radians(self.angle_deg)), np.sin(np.radians(self.angle_deg))
        a, b = self.semi_major * np.cos(angle), self.semi_minor * np.sin(angle)
        return np.stack([self.u + c * a - s * b, self.v + s * a + c * b], axis=-1)


def sphere_outlines(
    centres_mm: ArrayLike, radius_mm: float, *, fx: float, fy: float, cx: float, cy: float
) -> tuple[SphereOutline, ...]:
    """Outlines of spheres in the image of a pinhole camera without distortion.

    A viewing ray d touches the sphere where (c·d)² = (|c|² − r²)·|d|², a cone about the centre c. With
    d = ((u − cx)/fx, (v − cy)/fy, 1) that is a conic in the image (Hartley & Zisserman, Multiple View Geometry, §8.3),
    an ellipse as long as the whole sphere lies before the camera.

    Parameters
    ----------
    centres_mm : (S, 3)
        Camera frame.
    radius_mm : float
    fx, fy, cx, cy : float
        Focal lengths and principal point in px. For a lens with distortion project :func:`sphere_contour` instead.

    Raises
    ------
    InputError
        Wrong shape, radius not above 0, a sphere that is not wholly before the camera.
    """
    centres = _checked(centres_mm, radius_mm)
    return tuple(_ellipse(centre, radius_mm, fx, fy, cx, cy) for centre in centres)


def sphere_contour(centre_mm: ArrayLike, radius_mm: float, count: int = 180) -> FloatArray:
    """(count, 3) points, camera frame, of the circle along which viewing rays touch a sphere.

    Its plane stands at right angles to the centre's direction, r²/|c| before the centre; its radius is r·√(1 − r²/|c|²).
    Any camera model may project them, with distortion or without. Raises :class:`InputError` as
    :func:`sphere_outlines`.
    """
    centre = _checked(np.reshape(np.asarray(centre_mm, dtype=np.float64), (1, -1)), radius_mm)[0]
    distance = float(np.linalg.norm(centre))
    axis = centre / distance
    side = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    side /= np.linalg.norm(side)
    angle = np.arange(count)[:, None] * (2 * np.pi / count)
    sine = radius_mm / distance
    middle = centre - axis * (radius_mm * sine)
    rim = radius_mm * np.sqrt(1 - sine * sine)
    return np.asarray(middle + rim * (np.cos(angle) * side + np.sin(angle) * np.cross(axis, side)))


def _checked(centres_mm: ArrayLike, radius_mm: float) -> FloatArray:
    centres = check_array("sphere centres", centres_mm, shape=(None, 3), finite=True).astype(np.float64)
    if not 0.0 < radius_mm < 1e5:
        raise InputError(f"radius of the spheres is {radius_mm} mm; allowed: above 0, below 1e5 mm")
    for centre in centres:
        if not centre[2] > radius_mm:
            raise InputError(
                f"the sphere at z = {centre[2]:g} mm with radius {radius_mm:g} mm is not wholly before the camera; "
                f"z above {radius_mm:g} mm is needed",
                hint="give the centre in the camera frame: z away from the camera",
            )
    return centres


def _ellipse(centre: FloatArray, radius: float, fx: float, fy: float, cx: float, cy: float) -> SphereOutline:
    """Centre and axes of the conic p·Q·p = 0 on homogeneous pixels p, Q = K⁻ᵀ·(c·cᵀ − (|c|² − r²)·I)·K⁻¹.

    Centred, it reads q·A·q = k with A the upper left 2×2 block: the semi-axes are √(k / eigenvalues of A).
    """
    to_ray = np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1]])
    cone = np.outer(centre, centre) - (centre @ centre - radius * radius) * np.eye(3)
    conic = -to_ray.T @ cone @ to_ray  # negative inside the outline
    block, edge = conic[:2, :2], conic[:2, 2]
    middle = -np.linalg.solve(block, edge)
    values, vectors = np.linalg.eigh(block)
    major, minor = np.sqrt(-(conic[2, 2] + edge @ middle) / values)
    long = vectors[:, 0]
    angle = float(np.degrees(np.arctan2(long[1], long[0])) % 180.0) if major - minor > 1e-9 * major else 0.0
    return SphereOutline(float(middle[0]), float(middle[1]), float(major), float(minor), angle)
