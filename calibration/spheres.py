"""Mirror (chrome) spheres: the highlight of a light on them, and the mirror law.

A mirror sphere shows every light as one highlight. Where the viewing ray meets the sphere, the normal is known from
the outline (:mod:`rakelight.calibration.outlines`), and the direction of the light follows from the mirror law
``l = 2 (n·v) n - v`` with v the direction towards the camera. Arrays in, frozen dataclasses out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.calibration.outlines import MIN_SUPPORT, Circle, find_sphere, find_spheres
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.models import VIEWER, Camera, Plane

__all__ = [
    "MAX_RIM_FRACTION",
    "MIN_SUPPORT",
    "Circle",
    "Highlight",
    "Reflection",
    "find_highlight",
    "find_sphere",
    "find_spheres",
    "reflect_highlight",
    "sphere_light_direction",
    "sphere_position",
]

FloatArray = NDArray[np.float64]

MAX_RIM_FRACTION = 0.95
"""Highlights further out than this fraction of the radius are refused: there the normal hangs on every pixel."""
_OVEREXPOSED_FRACTION = 0.25  # of the disc
_RIVAL_FRACTION = 0.5  # of the area of the largest blob


@dataclass(frozen=True)
class Highlight:
    """Image of a light on a mirror sphere.

    Attributes
    ----------
    u, v : float
        Centre in pixels.
    area_px : int
        Pixels of the blob.
    saturated : bool
        Whether the blob is saturated; else it is the brightest blob, weighted by intensity.
    warning : str
        What makes the highlight doubtful; empty when nothing does.
    """

    u: float
    v: float
    area_px: int
    saturated: bool
    warning: str = ""

    def shifted(self, du: float, dv: float) -> Highlight:
        """The same highlight in an image whose origin lies at (-du, -dv)."""
        return replace(self, u=self.u + du, v=self.v + dv)


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


def find_highlight(image: NDArray[Any], circle: Circle, saturation: float | None = None) -> Highlight:
    """Centre of the largest saturated blob (or, with none saturated, of the brightest) within a sphere's outline.

    The blob is first opened by a disc of half its inner radius: that cuts off the thin streaks that scratches and the
    iris draw through a highlight, which would pull the centroid.

    Parameters
    ----------
    image : (H, W) uint8, uint16 or float
        One light on. 12 bits in a uint16 need ``saturation``.
    circle : Circle
        Outline of the sphere in the same image.
    saturation : float, optional
        DN from which a pixel counts as saturated. Default: 98 % of the range of the integer dtype.

    Raises
    ------
    CalibrationError
        ``calibration.highlight_missing`` (nothing stands out), ``calibration.overexposed`` (a quarter of the disc or
        more is saturated), ``calibration.highlight_on_rim`` (beyond ``MAX_RIM_FRACTION`` of the radius).
    InputError
        Not a 2-D image, circle outside it, no ``saturation`` for a float image.
    """
    grey = check_array("sphere image", image, ndim=2, finite=True)
    if saturation is None:
        if not np.issubdtype(grey.dtype, np.integer):
            raise InputError(f"saturation is not given for an image of dtype {grey.dtype.name}; give it in DN")
        saturation = SATURATION * np.iinfo(grey.dtype).max  # JPEG leaves a saturated blob at 250 to 255
    crop, inside, (left, top) = _disc(grey, circle)
    blobs = inside & (crop >= saturation)
    share = float(blobs.sum() / inside.sum())
    if share > _OVEREXPOSED_FRACTION:
        raise CalibrationError(
            f"{share:.0%} of the sphere is saturated (at or above {saturation:g} DN); at most "
            f"{_OVEREXPOSED_FRACTION:.0%} is allowed",
            hint="shorten the exposure until only the highlight is saturated",
            code="calibration.overexposed",
        )
    saturated = int(blobs.sum()) >= 4
    if not saturated:
        blobs = inside & (crop >= _peak_threshold(crop, inside, saturation))
    core, area, rival = _largest_blob(blobs)
    v, u = np.nonzero(core)
    weight = np.ones(len(u)) if saturated else crop[core].astype(np.float64) - float(crop[blobs].min()) + 1.0
    u_mean, v_mean = float(np.average(u, weights=weight)) + left, float(np.average(v, weights=weight)) + top
    fraction = float(np.hypot(u_mean - circle.u, v_mean - circle.v)) / circle.radius
    if fraction > MAX_RIM_FRACTION:
        raise CalibrationError(
            f"the highlight lies at {fraction:.3f} of the sphere's radius; at most {MAX_RIM_FRACTION} is allowed",
            hint="raise the light, or check that the blob is the light and not a reflection of the background",
            code="calibration.highlight_on_rim",
        )
    warning = ""
    if rival > _RIVAL_FRACTION * area:
        warning = f"a second highlight of {rival} px stands beside the one of {area} px; cover shiny things and lamps"
    return Highlight(u_mean, v_mean, area, saturated, warning)


def _disc(grey: NDArray[Any], circle: Circle) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[int, int]]:
    """The part of the image about the circle, the mask of its disc, and the offset of the part."""
    height, width = grey.shape
    left, top = max(0, int(circle.u - circle.radius)), max(0, int(circle.v - circle.radius))
    right, bottom = int(min(width, circle.u + circle.radius + 2)), int(min(height, circle.v + circle.radius + 2))
    if right - left < 3 or bottom - top < 3:
        raise InputError(
            f"circle at ({circle.u:.1f}, {circle.v:.1f}) px with radius {circle.radius:.1f} px does not lie in the "
            f"image of {width}×{height} px"
        )
    v, u = np.mgrid[top:bottom, left:right]
    inside = np.hypot(u - circle.u, v - circle.v) <= circle.radius
    return grey[top:bottom, left:right], inside, (left, top)


def _peak_threshold(crop: NDArray[Any], inside: NDArray[np.bool_], saturation: float) -> float:
    """Half way up the brightest spot; raises when no spot stands out of the disc."""
    smooth = cv2.GaussianBlur(crop.astype(np.float32), (0, 0), 1.0)
    values = smooth[inside]
    base, peak = float(np.median(values)), float(values.max())
    noise = 1.4826 * float(np.median(np.abs(values - base)))
    least = max(0.05 * saturation, 8.0 * noise)
    if peak - base < least:
        raise CalibrationError(
            f"no highlight on the sphere: its brightest spot is {peak - base:.1f} DN above its median of {base:.1f}; "
            f"at least {least:.1f} DN are needed",
            hint="check that the light is on and that the sphere sees it; lengthen the exposure",
            code="calibration.highlight_missing",
        )
    return base + 0.5 * (peak - base)


def _largest_blob(blobs: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int, int]:
    """Core of the largest blob, freed of streaks, its area, and the area of the second blob (0 when there is none)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(blobs.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")
    blob = np.pad((labels == 1 + order[0]).astype(np.uint8), 1)
    half = int(0.5 * cv2.distanceTransform(blob, cv2.DIST_L2, 5).max())
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * half + 1, 2 * half + 1))
    core = cv2.morphologyEx(blob, cv2.MORPH_OPEN, disc) if half else blob
    rival = int(areas[order[1]]) if len(areas) > 1 else 0
    return core[1:-1, 1:-1].astype(bool), int(areas[order[0]]), rival


def sphere_position(
    circle: Circle, camera: Camera, diameter_mm: float | None = None, table: Plane | None = None
) -> tuple[FloatArray, float, str]:
    """Centre of a sphere in the camera frame, from its outline.

    Perspective: the viewing rays d_i of the outline are the tangents of a cone about the centre, a·d_i = cos α, hence
    linear in w = a / cos α; the centre is a·R / sin α. This is exact, whatever the lens distortion, when the circle
    carries its measured ``rim``; a circle given by hand only approximates the outline, which is an ellipse with axes in
    the ratio cos θ : 1 at θ off the axis (1.5 % at 10°).

    Telecentric: the centre at right angles to the rays is exact; its depth is taken from the ``table`` on which the
    sphere lies or, without one, is that of the camera's origin.

    Returns
    -------
    (3,) float64, float, str
        Centre, radius and their unit: ``"mm"``, or ``"radius"`` for a perspective camera without ``diameter_mm``.

    Raises
    ------
    CalibrationError
        ``calibration.sphere_outline``: the rays of the outline form no cone.
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
    return origins[0] + w / length * (radius / np.sin(half_angle)), radius, unit


def _telecentric_position(
    camera: Camera, circle: Circle, diameter_mm: float | None, table: Plane | None
) -> tuple[FloatArray, float, str]:
    """Centre in mm of a sphere seen along parallel rays; its radius is measured where ``diameter_mm`` is unknown."""
    u, v, r = circle.u, circle.v, circle.radius
    origins, rays = camera.rays(np.array([[u, v], [u + r, v], [u, v + r], [u - r, v], [u, v - r]]))
    centre, ray = origins[0], rays[0]
    across = origins[1:] - centre
    across = across - (across @ ray)[:, None] * ray
    radius = diameter_mm / 2.0 if diameter_mm is not None else float(np.linalg.norm(across, axis=1).mean())
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
    point = origin + (along - np.sqrt(radius * radius - gap * gap)) * ray
    normal = (point - centre) / radius
    direction = ray - 2.0 * float(normal @ ray) * normal
    return Reflection(point, direction / np.linalg.norm(direction) * VIEWER, centre, radius, unit)


def sphere_light_direction(
    circle: Circle, highlight: Highlight, camera: Camera | None = None, *, diameter_mm: float | None = None
) -> FloatArray:
    """Unit direction (3,) of the light, viewer frame; see :func:`reflect_highlight`."""
    return reflect_highlight(circle, highlight, camera, diameter_mm=diameter_mm).direction
