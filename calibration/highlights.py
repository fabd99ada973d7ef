"""Highlights: the image of a light on a mirror sphere, found and measured to a few hundredths of a pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.calibration.outlines import Circle
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.levels import SATURATION

FloatArray = NDArray[np.float64]

MAX_RIM_FRACTION = 0.95
"""Highlights further out than this fraction of the radius are refused: there the normal hangs on every pixel."""
_OVEREXPOSED_FRACTION = 0.25  # of the disc
_RIVAL_FRACTION = 0.5  # of the area of the largest blob
_WIDE = 0.3  # of the radius: a saturated blob of larger radius hides where its middle is
_MOSAIC_FREE = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0]) / 16.0  # R, G, B weigh alike about every photosite
_FLANK = 1.4  # by which the flank of a highlight may be wider than its core
_CENTRE_SIGMA_PX = 0.02


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
    sigma_px : float
        Standard deviation of the centre in each axis: noise, and what is not known of the lamp's shape.
    """

    u: float
    v: float
    area_px: int
    saturated: bool
    warning: str = ""
    sigma_px: float = 0.1

    def shifted(self, du: float, dv: float) -> Highlight:
        """The same highlight in an image whose origin lies at (-du, -dv)."""
        return replace(self, u=self.u + du, v=self.v + dv)


def find_highlight(image: NDArray[Any], circle: Circle, saturation: float | None = None) -> Highlight:
    """Centre of the largest saturated blob (or, with none saturated, of the brightest) within a sphere's outline.

    The blob is first opened by a disc of half its inner radius: that cuts off the thin streaks that scratches and the
    iris draw through a highlight, which would pull the centroid. Its centre is the mean normal of the sphere over the
    blob, weighted by the light above the blob's edge level after a smoothing that makes all photosites of a Bayer mosaic
    count alike (without it the ragged rim of a saturated blob costs 0.1 px). An image centroid would lie too near to the
    sphere's middle: the sphere is foreshortened there less than further out.

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
        blobs = inside & (_without_mosaic(crop) >= _peak_threshold(crop, inside, saturation))
    core, area, rival = _largest_blob(blobs)
    (u_mean, v_mean), sigma = _centre(crop, inside, core, saturation, circle, (left, top))
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
    width = float(np.sqrt(area / np.pi)) / circle.radius
    if saturated and width > _WIDE and not warning:
        warning = (
            f"the saturated highlight of {area} px is {width:.2f} radii wide; at most {_WIDE:g} is expected: shorten the "
            "exposure, its middle is uncertain"
        )
    return Highlight(u_mean, v_mean, area, saturated, warning, sigma)


def _centre(
    crop: NDArray[Any],
    inside: NDArray[np.bool_],
    core: NDArray[np.bool_],
    saturation: float,
    circle: Circle,
    corner: tuple[int, int],
) -> tuple[tuple[float, float], float]:
    """Pixel of the mean normal over the blob about ``core``, and its standard deviation in px.

    The light of a lamp is even over the solid angle of its mirror image, that of a rough sphere's lobe grows by 1/(n·v)
    (Walter et al. 2007, eq. 20). Which of both holds is not known: half the difference counts as uncertainty.
    """
    smooth = _without_mosaic(np.minimum(crop, saturation))
    base, peak = float(np.median(smooth[inside])), float(smooth[core].max())
    level = base + 0.3 * (peak - base)
    bright = inside & (smooth > level)
    _, labels = cv2.connectedComponents(bright.astype(np.uint8), connectivity=8)
    spot = _opened(labels == np.bincount(labels[core]).argmax())
    if np.sqrt(spot.sum()) > _FLANK * np.sqrt(core.sum()) + 3.0:  # a halo of lens or room, and none of the lamp's
        spot = cv2.dilate(core.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    v, u = np.nonzero(cv2.dilate(spot.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & bright)
    weight = smooth[v, u] - level
    x, y = (u + corner[0] - circle.u) / circle.radius, (v + corner[1] - circle.v) / circle.radius
    z = np.sqrt(np.maximum(1.0 - x * x - y * y, 1e-2))

    def pixel(w: FloatArray) -> FloatArray:
        mean = np.array([x @ w, y @ w, z @ w])
        return np.asarray(mean[:2] / np.linalg.norm(mean) * circle.radius)

    lobe, lamp = pixel(weight), pixel(weight / z)
    ragged = 0.3 / max(len(u), 1) ** 0.5  # of the pixel grid on a rim of that length
    sigma = float(np.sqrt(_CENTRE_SIGMA_PX**2 + (0.3 * ragged) ** 2 + float(np.sum((lamp - lobe) ** 2)) / 4.0))
    return (circle.u + float(lobe[0]), circle.v + float(lobe[1])), sigma


def _without_mosaic(image: NDArray[Any]) -> FloatArray:
    """Smoothed so that the photosites of all colours weigh alike."""
    return cv2.filter2D(image.astype(np.float64), -1, _MOSAIC_FREE, borderType=cv2.BORDER_REFLECT_101)


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
    core = _opened(labels == 1 + order[0])
    rival = int(areas[order[1]]) if len(areas) > 1 else 0
    return core, int(areas[order[0]]), rival


def _opened(blob: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A blob freed of streaks: opened by a disc of half its inner radius."""
    padded = np.pad(blob.astype(np.uint8), 1)
    half = int(0.5 * cv2.distanceTransform(padded, cv2.DIST_L2, 5).max())
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * half + 1, 2 * half + 1))
    return np.asarray(cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc) if half else padded)[1:-1, 1:-1].astype(bool)
