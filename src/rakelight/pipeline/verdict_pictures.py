"""Where a part is unusual: the heat map of a verdict over its pictures, in the working frame and on the native pixels.

Colours follow the detector's calibration (:mod:`rakelight.pipeline.heat_scale`), never the part at hand. White outlines what
stands out around the peak (a ring: the part is rejected, though no spot stands out), blue what people marked as defective; on
the part, what was not judged is hatched; what is off the part is dimmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rakelight.arrays import check_array
from rakelight.detection._geometry import rescale, square
from rakelight.detection.detector import Verdict
from rakelight.detection.native import Modality
from rakelight.detection.neighbours import Floats
from rakelight.detection.parts import Part, need, warp_to_native
from rakelight.errors import InputError
from rakelight.pipeline.heat_scale import LIMIT_SHARE, LOW_SHARE, UNIT, Bool, HeatScale, Rgb, peak_region

Matrix = NDArray[np.float64]
Lines = list[NDArray[np.float64]]

WHITE, TRUTH = (255, 255, 255), (54, 194, 255)
_CASING = (0, 0, 0)
_DIM = 0.55  # brightness of what is off the part
_HATCH, _HATCH_GREY = 7, 150  # px between hatching lines, their grey
_FINE = 4  # times finer than the working frame, for smooth outlines
_FRACTION = 4  # bits of a pixel that cv2 draws with
LEGEND_HEIGHT = 76
_GROUND, _TEXT, _FAINT = (30, 33, 38), (226, 229, 233), (160, 166, 176)
_EXAGGERATED = 6.0
_SLANT = 1.2  # shading of the relief: light from the upper left, this much above the horizon


# ------------------------------------------------------------------------------------------------------------- pictures
def plain_picture(part: Part, modality: Modality) -> Rgb:
    """The part as a modality shows it, (S, S, 3) uint8; points as a shaded relief.

    Raises :class:`DatasetError` (``detect.no_modality``) if it has none.
    """
    shown = need(part, modality)
    return height_relief(shown, part.facts.get("pitch_mm")) if modality == "xyz" else np.asarray(shown, np.uint8)


def height_relief(xyz: NDArray[np.float32], pitch_mm: float | None = None) -> Rgb:
    """Points (H, W, 3) mm, z away from the viewer, as a relief lit from the upper left; (H, W, 3) uint8, NaN dark.

    ``pitch_mm`` of a pixel; None: the median step of x between neighbours. Height itself shows as brightness, the
    slope as shading.
    """
    points = check_array("xyz", xyz, ndim=3)
    known = np.isfinite(points[..., 2])
    if not known.any():
        return np.full(points.shape, 24, np.uint8)
    if pitch_mm is None:
        steps = np.abs(np.diff(points[..., 0], axis=1))
        pitch_mm = float(np.median(steps[np.isfinite(steps)])) if np.isfinite(steps).any() else 1.0
    height = -points[..., 2].astype(np.float32)
    low, high = np.percentile(height[known], (1, 99))
    filled = np.where(known, height, np.float32(low))
    smooth = cv2.GaussianBlur(filled, (0, 0), 0.8)
    # A dent is a slope of a few per cent, a wall one of a hundred: the first is exaggerated, the second limited.
    down, right = (_EXAGGERATED * g / (1 + _EXAGGERATED * np.abs(g)) for g in np.gradient(smooth, max(pitch_mm, 1e-6)))
    # Lambert's law for a light from the upper left; a flat spot comes out at sin of its height above the horizon.
    lit = (right + down + _SLANT) / np.sqrt((right**2 + down**2 + 1) * (2 + _SLANT**2))
    level = np.clip((filled - low) / max(high - low, 1e-6), 0, 1)
    grey = np.clip(lit / (_SLANT / np.sqrt(2 + _SLANT**2)) * 0.5, 0, 1) * (0.55 + 0.45 * level)
    grey = np.where(known, 20 + 235 * grey, 24)
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def heat_picture(
    part: Part,
    verdict: Verdict,
    modality: Modality,
    scale: HeatScale,
    *,
    alone: tuple[Floats, HeatScale] | None = None,
    heat: bool = True,
    zoom: int = 2,
) -> Rgb:
    """The verdict's map over what a modality shows, in the working frame: (zoom·S, zoom·S, 3) uint8.

    Parameters
    ----------
    scale : HeatScale
        Of the verdict's map: of its colours, and of the outline around the peak.
    alone : ((S, S) float, HeatScale), optional
        Another map for the colours, with its own scale: :func:`rakelight.pipeline.heat_scale.own_map`.
    heat : bool
        False: outlines only.
    zoom : int
        Whole number of pixels for a working pixel, 1 to 8.

    Raises
    ------
    DatasetError
        ``detect.no_modality``.
    InputError
        A zoom or a map that does not fit.
    """
    if not 1 <= zoom <= 8:
        raise InputError(f"zoom is {zoom}; allowed: 1 to 8", code="verdict.zoom")
    values, colours = alone or (verdict.map, scale)
    shown = check_array("map", values, shape=verdict.map.shape)
    side = (zoom * part.size, zoom * part.size)
    base = cv2.resize(plain_picture(part, modality), side, interpolation=cv2.INTER_CUBIC)
    judged = np.isfinite(shown)
    view = _View(
        np.asarray(base, np.uint8),
        cv2.resize(np.where(judged, shown, colours.low).astype(np.float32), side, interpolation=cv2.INTER_LINEAR),
        cv2.resize(judged.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0,
        cv2.resize(part.mask.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0,
        rescale(zoom),
        1 if zoom < 2 else 2,
    )
    return _draw(view, part, verdict, scale, colours if heat else None)


def native_heat_picture(picture: NDArray[np.uint8], part: Part, verdict: Verdict, scale: HeatScale) -> Rgb:
    """The verdict's map over a picture of the native pixels, (H, W) or (H, W, 3) uint8; (H, W, 3).

    The picture is the caller's, since a :class:`Part` holds the working frame only: the sample's RGB or pseudo-3D picture,
    or :func:`height_relief` of its points. Raises :class:`InputError` if it has another size than the part's.
    """
    checked = check_array(f"picture of {part.key}", picture, dtypes=("uint8",))
    if checked.shape[:2] != part.native_size or checked.shape[2:] not in ((), (3,)):
        raise InputError(
            f"the picture of {part.key} has shape {checked.shape}; needed: {part.native_size[0]}×{part.native_size[1]}, "
            "grey or RGB",
            code="input.shape",
        )
    base = np.asarray(cv2.cvtColor(checked, cv2.COLOR_GRAY2RGB) if checked.ndim == 2 else checked, np.uint8)
    judged = np.isfinite(verdict.map)
    heat = warp_to_native(np.where(judged, verdict.map, np.float32(scale.low)), part, outside=scale.low)
    view = _View(
        base,
        heat,
        warp_to_native(judged.astype(np.float32), part) > 0.5,
        warp_to_native(part.mask.astype(np.float32), part) > 0.5,
        np.asarray(np.linalg.inv(square(part.to_native)), np.float64),
        max(1, round(max(part.native_size) / 900)),
    )
    return _draw(view, part, verdict, scale, scale)


# -------------------------------------------------------------------------------------------------------------- drawing
@dataclass(frozen=True, eq=False)
class _View:
    """A picture to draw on: ``base`` (H, W, 3), ``heat`` (H, W), what was ``judged`` and is ``part`` (H, W) bool, the way
    (3, 3) from working pixels to its own, and the width of lines in px."""

    base: Rgb
    heat: NDArray[np.float32]
    judged: Bool
    part: Bool
    from_working: Matrix
    line: int


def _draw(view: _View, part: Part, verdict: Verdict, scale: HeatScale, colours: HeatScale | None) -> Rgb:
    picture = np.where((view.judged | view.part)[..., None], view.base, (view.base * _DIM).astype(np.uint8))
    if colours is not None:
        picture = colours.blend(picture, np.where(view.judged, view.heat, np.nan))
    picture = np.ascontiguousarray(_hatched(picture, view.part & ~view.judged, view.line))
    if part.defect is not None and part.defect.any():
        _outline(picture, truth_lines(part), view.from_working, TRUTH, view.line)
    region = region_lines(verdict, scale)
    _outline(picture, region, view.from_working, WHITE, view.line)
    if verdict.judgement.rejected and not region:
        _outline(picture, [_ring(verdict.peak)], view.from_working, WHITE, view.line)
    return picture


def region_lines(verdict: Verdict, scale: HeatScale) -> Lines:
    """Closed outlines (n, 2) of the peak's region, in working pixels (column, row); none if the peak is within the limit."""
    region = peak_region(verdict, scale)
    if not region.any():
        return []
    # Drop to just below the limit outside: the finer map crosses the limit where the coarse one does.
    near = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    level = np.where(near & np.isfinite(verdict.map), verdict.map, 0).astype(np.float32)
    fine = cv2.resize(level, None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_LINEAR) > scale.limit
    found = cv2.findContours(fine.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return [(c.reshape(-1, 2) - (_FINE - 1) / 2) / _FINE for c in found]


def truth_lines(part: Part) -> Lines:
    """Closed outlines (n, 2) of the marked defect, in working pixels (column, row)."""
    if part.defect is None:
        return []
    marked = (part.defect > 0).astype(np.uint8)
    found = cv2.findContours(marked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return [c.reshape(-1, 2) @ part.to_native[:, :2].T + part.to_native[:, 2] for c in found]


def _ring(peak: tuple[int, int], radius: float = 7.0) -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.column_stack([peak[1] + radius * np.cos(turn), peak[0] + radius * np.sin(turn)])


def _outline(picture: Rgb, lines: Sequence[NDArray[np.float64]], matrix: Matrix, colour: Any, width: int) -> None:
    moved = [
        np.rint((line @ matrix[:2, :2].T + matrix[:2, 2]) * (1 << _FRACTION)).astype(np.int32).reshape(-1, 1, 2)
        for line in lines
    ]
    for ink, thickness in ((_CASING, width + min(width, 2)), (colour, width)):
        cv2.polylines(picture, moved, True, ink, thickness, cv2.LINE_AA, _FRACTION)


def _hatched(picture: Rgb, where: Bool, line: int) -> Rgb:
    """Grey, with slanting lines, where nothing was judged."""
    if not where.any():
        return picture
    diagonal = np.add.outer(np.arange(where.shape[0]), np.arange(where.shape[1]))
    stripe = diagonal % (_HATCH * line) < line
    dark = (picture.mean(axis=2) * 0.5 + 30).astype(np.uint8)
    grey = np.where(stripe, np.uint8(_HATCH_GREY), dark)[..., None]
    return np.where(where[..., None], grey, picture)


# --------------------------------------------------------------------------------------------------------------- legend
def legend(scale: HeatScale, width: int) -> Rgb:
    """The scale as a strip (76, ``width``, 3): the colours with their three values and the unit."""
    strip = Image.new("RGB", (width, LEGEND_HEIGHT), _GROUND)
    left, right = 8, width - 9
    values = np.linspace(scale.low, scale.full, right - left + 1)
    ground = np.full((12, len(values), 3), 120, np.uint8)
    strip.paste(Image.fromarray(scale.blend(ground, np.broadcast_to(values, (12, len(values))))), (left, 6))
    draw, font, small = ImageDraw.Draw(strip), _font(14), _font(12)
    at = left + (scale.limit - scale.low) / (scale.full - scale.low) * (right - left)
    for x, value, anchor in ((left, scale.low, "la"), (at, scale.limit, "ma"), (right, scale.full, "ra")):
        draw.line((x, 5, x, 20), fill=_TEXT)
        more = "+" if value == scale.full else ""
        draw.text((x, 22), f"{value:.1f}{more}", fill=_TEXT, font=font, anchor=anchor)
    draw.text((left, 41), UNIT, fill=_FAINT, font=small)
    words = f"{100 * LOW_SHARE:g} % of their pixels lie below {scale.low:.1f}, {100 * LIMIT_SHARE:g} % below {scale.limit:.1f}"
    draw.text((left, 56), words, fill=_FAINT, font=small)
    return np.asarray(strip).copy()


def with_legend(picture: Rgb, scale: HeatScale) -> Rgb:
    """A picture with the scale's strip below it."""
    return np.concatenate([picture, legend(scale, picture.shape[1])])


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
