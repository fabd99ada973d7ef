"""Mirror (chrome) spheres: where they lie, and the mirror law that turns the highlight of a light into its ray.

A mirror sphere shows every light as one highlight. Where the viewing ray meets the sphere, the normal is known from
the outline (:mod:`rakelight.calibration.outlines`), and the direction of the light follows from the mirror law
``l = 2 (n·v) n - v`` with v the direction towards the camera. Arrays in, frozen dataclasses out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.highlights import MAX_RIM_FRACTION, Highlight, find_highlight
from rakelight.calibration.outlines import MIN_SUPPORT, Circle, find_sphere, find_spheres
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import VIEWER, Camera, Plane

__all__ = [
    "MAX_RIM_FRACTION",
    "MAX_SIZE_ERROR",
    "MIN_SUPPORT",
    "Circle",
    "Highlight",
    "Reflection",
    "find_highlight",
    "find_known_spheres",
    "find_sphere",
    "find_spheres",
    "mirrored",
    "reflect_highlight",
    "share_outside",
    "sphere_light_direction",
    "sphere_position",
]

FloatArray = NDArray[np.float64]

MAX_SIZE_ERROR = 0.02
"""By which the radius of an outline may differ from what diameter, table and camera demand."""


@dataclass(frozen=True, eq=False)
class Reflection:
    """The ray of a light that reaches the camera by way of a mirror sphere.

    Attributes
    ----------
    point : (3,) float64
        Where the viewing ray meets the sphere, camera frame (x right, y down, z away), in ``unit``.
    direction : (3,) float64
        Unit vector from there towards the light, viewer frame (x right, y up, z towards the camera).
    centre : (3,) float64
        Centre of the sphere, camera frame, in ``unit``.
    radius : float
        Radius of the sphere in ``unit``.
    unit : str
        ``"mm"``; ``"px"`` without a camera (origin at pixel (0, 0), z = 0 at the sphere's centre); ``"radius"`` for a
        perspective camera and a sphere of unknown diameter.
    """

    point: FloatArray
    direction: FloatArray
    centre: FloatArray
    radius: float
    unit: str


def find_known_spheres(
    image: NDArray[Any], count: int, camera: Camera | None, table: Plane | None, diameter_mm: float | None
) -> tuple[Circle, ...]:
    """As :func:`find_spheres`; camera, table and diameter, where all are known, say how large to look for.

    What is found only elsewhere is given back too, so that :func:`sphere_position` can say what contradicts what.
    """
    if camera is None or table is None or diameter_mm is None:
        return find_spheres(image, count)
    corners = np.array([[0.0, 0.0], [camera.width, 0.0], [0.0, camera.height], [camera.width, camera.height]])
    on_table = table.intersect(*camera.rays(np.vstack([corners, corners.mean(axis=0)])))
    middles = on_table + 0.5 * diameter_mm * table.normal
    side = 0.5 * diameter_mm * np.eye(3)[np.argmin(np.abs(table.normal))]
    radii = np.linalg.norm(camera.project(middles + side) - camera.project(middles), axis=1)
    try:
        return find_spheres(image, count, radius_px=(0.9 * float(radii.min()), 1.1 * float(radii.max())))
    except CalibrationError:
        return find_spheres(image, count)


def share_outside(circle: Circle, shape: tuple[int, ...]) -> float:
    """Share of a circle that lies outside an image (H, W)."""
    angle = np.linspace(0.0, 2.0 * np.pi, 360, endpoint=False)
    u, v = circle.u + circle.radius * np.cos(angle), circle.v + circle.radius * np.sin(angle)
    return float(np.mean((u < 0) | (v < 0) | (u > shape[1] - 1) | (v > shape[0] - 1)))


def sphere_position(
    circle: Circle, camera: Camera, diameter_mm: float | None = None, table: Plane | None = None
) -> tuple[FloatArray, float, str]:
    """Centre of a sphere in the camera frame, from its outline.

    Perspective: the viewing rays d_i of the outline are the tangents of a cone about the centre, a·d_i = cos α, hence
    linear in w = a / cos α; the centre is a·R / sin α. This is exact, whatever the lens distortion, when the circle
    carries its measured ``rim``; a circle given by hand only approximates the outline, which is an ellipse with axes in
    the ratio cos θ : 1 at θ off the axis (1.5 % at 10°).

    With ``diameter_mm`` and ``table`` the depth is the table's, on which the sphere lies: far surer than the radius in
    the image, which must agree with it (``calibration.sphere_size``).

    Telecentric: the centre at right angles to the rays is exact; its depth is taken from the ``table`` on which the
    sphere lies or, without one, is that of the camera's origin.

    Returns
    -------
    (3,) float64, float, str
        Centre, radius and their unit: ``"mm"``, or ``"radius"`` for a perspective camera without ``diameter_mm``.

    Raises
    ------
    CalibrationError
        ``calibration.sphere_outline``: the rays of the outline form no cone; ``calibration.sphere_size``: outline,
        diameter and table contradict each other by more than ``MAX_SIZE_ERROR``.
    """
    points = circle.outline()
    origins, rays = camera.rays(points)
    if float(np.abs(rays - rays[0]).max()) < 1e-9:
        return _telecentric_position(camera, circle, diameter_mm, table)
    off_circle = np.hypot(points[:, 0] - circle.u, points[:, 1] - circle.v) - circle.radius
    band = max(1.5, 0.004 * circle.radius)
    weight = 1.0 / (1.0 + (off_circle / band) ** 2)
    for _ in range(15):
        w = np.linalg.lstsq(rays * weight[:, None], weight, rcond=None)[0]
        length = float(np.linalg.norm(w))
        if not length > 1.0 + 1e-12:
            raise CalibrationError(
                f"the outline at ({circle.u:.1f}, {circle.v:.1f}) px, radius {circle.radius:.1f} px, is no cone of "
                f"viewing rays (1 / cos of its half angle is {length:.6f}; above 1 is needed)",
                hint="check the circle and the camera calibration; the circle must be given in full-frame pixels",
                code="calibration.sphere_outline",
            )
        half_angle = float(np.arccos(1.0 / length))
        error_px = (rays @ w - 1.0) / np.tan(half_angle) * circle.radius / half_angle
        weight = 1.0 / (1.0 + (error_px / band) ** 2)  # Cauchy, narrowing: reflections near the rim drop out
        band = max(0.7, 0.6 * band)
    radius, unit = (diameter_mm / 2.0, "mm") if diameter_mm is not None else (1.0, "radius")
    centre = origins[0] + w / length * (radius / np.sin(half_angle))
    if diameter_mm is not None and table is not None:
        on_table = _lying(table, np.asarray(w / length), radius)
        # the one sphere that touches both the cone of rays and the table
        implied = table.offset_mm / (float(table.normal @ centre) / radius - 1.0)
        _check_size(circle, float(np.linalg.norm(on_table) / np.linalg.norm(centre)), diameter_mm, 2.0 * implied)
        centre = on_table
    return centre, radius, unit


def _lying(table: Plane, axis: FloatArray, radius: float) -> FloatArray:
    """Centre of a sphere on the table, along a viewing ray through the camera's centre."""
    return np.asarray(axis * ((table.offset_mm + radius) / float(table.normal @ axis)))


def _check_size(circle: Circle, ratio: float, diameter_mm: float, implied_mm: float) -> None:
    """``ratio``: radius that the image shows to the one that diameter and table demand; ``implied_mm``: diameter it shows."""
    if abs(ratio - 1.0) > max(MAX_SIZE_ERROR, 2.0 / circle.radius):
        raise CalibrationError(
            f"the outline at ({circle.u:.1f}, {circle.v:.1f}) px has a radius of {circle.radius:.1f} px; a ball of "
            f"{diameter_mm:g} mm on the table shows {circle.radius / ratio:.1f} px ({ratio - 1.0:+.1%}; allowed: "
            f"±{MAX_SIZE_ERROR:.0%})",
            hint=f"check the declared diameter (the image says {implied_mm:.2f} mm), the outline (a mirrored table makes a "
            "ring at 0.7 of the radius) and the table",
            code="calibration.sphere_size",
        )


def _telecentric_position(
    camera: Camera, circle: Circle, diameter_mm: float | None, table: Plane | None
) -> tuple[FloatArray, float, str]:
    """Centre in mm of a sphere seen along parallel rays; its radius is measured where ``diameter_mm`` is unknown."""
    u, v, r = circle.u, circle.v, circle.radius
    origins, rays = camera.rays(np.array([[u, v], [u + r, v], [u, v + r], [u - r, v], [u, v - r]]))
    centre, ray = origins[0], rays[0]
    across = origins[1:] - centre
    across = across - (across @ ray)[:, None] * ray
    seen = float(np.linalg.norm(across, axis=1).mean())
    radius = diameter_mm / 2.0 if diameter_mm is not None else seen
    if diameter_mm is not None:
        _check_size(circle, seen / radius, diameter_mm, 2.0 * seen)
    if table is not None:
        centre = centre + ray * (float(radius - table.height_mm(centre)) / float(table.normal @ ray))
    return centre, radius, "mm"


def reflect_highlight(
    circle: Circle,
    highlight: Highlight,
    camera: Camera | None = None,
    *,
    diameter_mm: float | None = None,
    table: Plane | None = None,
) -> Reflection:
    """The light ray that makes a highlight, by the mirror law l = 2 (n·v) n - v.

    Parameters
    ----------
    circle, highlight
        In full-frame pixels when a camera is given.
    camera : optional
        Without it: orthographic, v = (0, 0, 1), which errs by the angle between the viewing rays and the axis.
    diameter_mm : float, optional
        Diameter of the sphere.
    table : Plane, optional
        Where the sphere lies; gives a telecentric camera's spheres their depth.

    Raises
    ------
    CalibrationError
        ``calibration.highlight_on_rim`` when the viewing ray misses the sphere, ``calibration.sphere_outline``.
    """
    if diameter_mm is not None and not 0.0 < diameter_mm < 1e5:
        raise InputError(f"diameter of the sphere is {diameter_mm} mm; allowed: above 0, below 1e5 mm")
    if camera is None:
        origin, ray = np.array([highlight.u, highlight.v, 0.0]), np.array([0.0, 0.0, 1.0])
        centre, radius, unit = np.array([circle.u, circle.v, 0.0]), circle.radius, "px"
    else:
        centre, radius, unit = sphere_position(circle, camera, diameter_mm, table)
        origin, ray = camera.rays(np.array([highlight.u, highlight.v]))
    along = float((centre - origin) @ ray)
    gap = float(np.linalg.norm(origin + along * ray - centre))
    if not gap < radius:
        raise CalibrationError(
            f"the viewing ray of the highlight at ({highlight.u:.1f}, {highlight.v:.1f}) px passes the sphere's centre "
            f"at {gap / radius:.3f} radii; below 1 is needed",
            hint="check that circle and highlight are in the same (full-frame) pixels",
            code="calibration.highlight_on_rim",
        )
    point, direction = mirrored(np.asarray(origin), np.asarray(ray), centre, radius)
    return Reflection(point, direction * VIEWER, centre, radius, unit)


def mirrored(origin: FloatArray, ray: FloatArray, centre: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
    """Where viewing rays (..., 3) meet a sphere, and the unit directions in which it mirrors them, camera frame.

    Rays that pass it are taken as touching.
    """
    along = np.sum((centre - origin) * ray, axis=-1, keepdims=True)
    off = origin + along * ray - centre
    point = origin + (along - np.sqrt(np.maximum(radius**2 - np.sum(off * off, axis=-1, keepdims=True), 0.0))) * ray
    normal = (point - centre) / radius
    direction = ray - 2.0 * np.sum(normal * ray, axis=-1, keepdims=True) * normal
    return point, direction / np.linalg.norm(direction, axis=-1, keepdims=True)


def sphere_light_direction(
    circle: Circle, highlight: Highlight, camera: Camera | None = None, *, diameter_mm: float | None = None
) -> FloatArray:
    """Unit direction (3,) of the light, viewer frame; see :func:`reflect_highlight`."""
    return reflect_highlight(circle, highlight, camera, diameter_mm=diameter_mm).direction
