"""The sheet of one explanation: the whole part, its strangest place close up in each modality, and the good part nearest to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rakelight.detection.closeup import close_up, view_matrix
from rakelight.detection.detector import Verdict
from rakelight.detection.native import Modality
from rakelight.detection.neighbours import Floats
from rakelight.detection.parts import Part
from rakelight.pipeline.contact_sheet import Panel, contact_sheet
from rakelight.pipeline.detect_explain import Explanation, Match, shown_banks
from rakelight.pipeline.explain_text import (
    axis,
    match_words,
    p_words,
    pose_words,
    rank,
    share_words,
    sight_words,
    threshold_words,
)
from rakelight.pipeline.explain_text import warnings as warnings_of
from rakelight.pipeline.heat_scale import LIMIT_SHARE, UNIT, HeatScale, Rgb, heat_scale, own_map, peak_region
from rakelight.pipeline.verdict_pictures import heat_picture, plain_picture, with_legend
from rakelight.pipeline.verdict_sheets import ACCEPTED, REJECTED
from rakelight.pipeline.verdict_text import NAMES, explanation

_STRIPE, _STRIP = 12, 96  # px: colour on top, height of the score strip
_LEAST_PATCHES = 9.0  # a close-up shows so many patches a side at least
_INSET_PATCHES = 4.0  # as does the picture of the matching patch, where that is elsewhere on the part
_SPREAD, _MOST_GAIN = 30.0, 4.0  # of 256 levels: what the middle of a close-up should span; times contrast
_ROOM = 1.6  # times the strange region's extent
_GROUND, _TEXT, _FAINT = (21, 23, 27), (226, 229, 233), (160, 166, 176)
_PATCH = (255, 221, 51)


def explanation_sheet(found: Explanation, *, width: int = 360) -> Rgb:
    """(H, W, 3) uint8, a column a modality, each picture ``width`` pixels wide.

    Rows: the verdict (of all modalities together) over the whole part; its strangest place, larger; the same under what this
    modality alone says; the good part whose patch is most like it, at the same place, and that patch (yellow corners) in an
    inset if it lies elsewhere.
    """
    part, verdict, detector = found.part, found.verdict, found.detector
    scale, judged = heat_scale(detector), verdict.judgement
    shown = [m for m in detector.method.modalities if m in part.available]
    sights = {sight.modality: sight for sight in found.sights}
    panels = [
        Panel(
            f"Verdict over {NAMES[m]}",
            with_legend(_square(heat_picture(part, verdict, m, scale), width), scale),
            f"{NAMES[m]} alone: {sight_words(found, sights[m])}"
            if m in sights
            else f"{NAMES[m]}: judged with others only",
        )
        for m in shown
    ]
    panels += _close_row(found, shown, scale, width)
    head = f"{'REJECTED' if judged.rejected else 'ACCEPTED'}: {part.key}"
    title = f"{head}\n{explanation(part, verdict, detector.method)}"
    notes = [
        f"p = {judged.p_value:.2g}: {p_words(found)}.",
        f"Weight in the score: {share_words(found)}.",
        f"Pose: {pose_words(found)}.",
        *(f"WARNING: {text}." for text in warnings_of(found)),
        *(["First row: the heat of the verdict, of all modalities together, over each picture."] * (len(shown) > 1)),
        f"Colours: {UNIT}, fixed by the calibration, the same for every part. White: around the peak, beyond "
        f"{100 * LIMIT_SHARE:g} % of good parts' pixels."
        + (" Blue: marked as defective." if part.defect is not None and part.defect.any() else "")
        + " Hatched: not judged. Yellow: the patches compared.",
    ]
    sheet = contact_sheet(panels, title, notes, columns=len(shown), panel_width=width)
    stripe = np.full((_STRIPE, sheet.shape[1], 3), REJECTED if judged.rejected else ACCEPTED, np.uint8)
    return np.concatenate([stripe, score_strip(found, sheet.shape[1]), sheet])


def close_side(found: Explanation, scale: HeatScale) -> float:
    """Working pixels that a close-up shows: room for the strange region, and for some patches about it."""
    method = found.detector.method
    region = peak_region(found.verdict, scale)
    extent = 0
    if region.any():
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        extent = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1
    return float(min(max(_LEAST_PATCHES * method.size / method.grid, _ROOM * extent), method.size))


def close_verdict(verdict: Verdict, middle: tuple[float, float], side: float, size: int) -> Verdict:
    """The verdict whose map is that of a close-up; its peak is the old one's place, or the nearest pixel of the close-up."""
    u, v, _ = (view_matrix(middle, side, size) @ [verdict.peak[1], verdict.peak[0], 1.0]).tolist()
    row, column = (min(max(round(x), 0), size - 1) for x in (v, u))
    return replace(verdict, map=close_map(verdict.map, middle, side, size), peak=(row, column))


def close_map(values: Floats, middle: tuple[float, float], side: float, size: int) -> Floats:
    """A map (S, S) of the working frame in a close-up, (``size``, ``size``); NaN stays and comes from beyond the frame."""
    view, known = view_matrix(middle, side, size)[:2], np.isfinite(values)
    low = np.float32(values[known].min()) if known.any() else np.float32(0)
    filled = np.where(known, values, low).astype(np.float32)
    moved = cv2.warpAffine(filled, view, (size, size), flags=cv2.INTER_LINEAR, borderValue=(float(low),) * 4)
    judged = cv2.warpAffine(known.astype(np.uint8), view, (size, size), flags=cv2.INTER_NEAREST) > 0
    return np.where(judged, moved, np.float32(np.nan)).astype(np.float32)


def score_strip(found: Explanation, width: int) -> Rgb:
    """The score on one axis with those of good parts and the threshold, (96, ``width``, 3)."""
    low, high, limit = axis(found)
    judged = found.verdict.judgement
    strip = Image.new("RGB", (width, _STRIP), _GROUND)
    draw, left, right, middle = ImageDraw.Draw(strip), 60, width - 60, 46

    def x(value: float) -> float:
        return float(np.clip(left + (value - low) / (high - low) * (right - left), left, right))

    draw.line((left, middle, right, middle), fill=_FAINT)
    for value in found.calibration[:: max(1, len(found.calibration) // 300)]:
        at = x(float(value))
        draw.ellipse((at - 4, middle - 4, at + 4, middle + 4), outline=ACCEPTED, width=2)
    font, small = ImageFont.load_default(15), ImageFont.load_default(13)
    if math.isfinite(limit):
        draw.line((x(limit), middle - 16, x(limit), middle + 16), fill=_TEXT, width=2)
    at, colour = x(judged.score), REJECTED if judged.rejected else ACCEPTED
    beyond = ", beyond the axis" * (judged.score > high)
    draw.polygon([(at, middle - 3), (at - 8, middle - 18), (at + 8, middle - 18)], fill=colour)
    anchor = "mb" if left + 60 < at < right - 60 else "rb" if at > left + 60 else "lb"
    draw.text((at, middle - 20), f"{judged.score:.1f}{beyond}", fill=_TEXT, font=font, anchor=anchor)
    for value, where in ((low, "la"), (high, "ra")):
        draw.text((x(value), middle + 10), f"{value:.1f}", fill=_FAINT, font=small, anchor=where)
    said = f"Score {judged.score:.1f}: {rank(found)} (circles); {threshold_words(found)} (line)"
    draw.text((left, _STRIP - 4), said, fill=_TEXT, font=font, anchor="lb")
    return np.asarray(strip).copy()


# ------------------------------------------------------------------------------------------------------------------ panels
def _close_row(found: Explanation, shown: list[Modality], scale: HeatScale, width: int) -> list[Panel]:
    """Three rows of close-ups: the part, the part under heat, the good part nearest to it; none where nothing was compared."""
    matches, side = {match.modality: match for match in found.matches}, close_side(found, scale)
    if not matches:
        return []
    middle = found.matches[0].patch
    near = close_up(found.part, found.native, middle, side, width)
    strange = close_verdict(found.verdict, middle, side, width)
    first, second, third = [], [], []
    for modality in shown:
        picture = plain_picture(near, modality)
        contrast = _Contrast.of(picture) if modality != "xyz" else _Contrast()
        first.append(
            Panel("Strangest place", _marked(contrast(picture), found, side), _close_words(found, side, contrast))
        )
        second.append(_heated(found, near, strange, modality, scale, middle, side))
        third.append(_nearest(found, matches.get(modality), modality, side, width, contrast))
    return [*first, *second, *third]


@dataclass(frozen=True)
class _Contrast:
    """Differences from one colour made larger, the same in both pictures that are compared."""

    gain: float = 1.0
    colour: tuple[float, ...] = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, picture: Rgb) -> _Contrast:
        """As much as the middle of a picture bears."""
        third = picture.shape[0] // 3
        middle = picture[third : 2 * third, third : 2 * third].reshape(-1, 3).astype(np.float64)
        gain = float(np.clip(_SPREAD / max(float(middle.std(axis=0).max()), 1e-6), 1.0, _MOST_GAIN))
        return cls(round(gain, 1), tuple(np.median(middle, axis=0).tolist()))

    def __call__(self, picture: Rgb) -> Rgb:
        colour = np.asarray(self.colour)
        return np.clip(np.rint((picture - colour) * self.gain + colour), 0, 255).astype(np.uint8)


def _heated(
    found: Explanation, near: Part, strange: Verdict, modality: Modality, scale: HeatScale,
    middle: tuple[float, float], side: float,
) -> Panel:  # fmt: skip
    """The close-up under the modality's own map, or under the verdict's where it has no bank of its own."""
    bank = shown_banks(found.detector, found.part).get(modality)
    if bank is None or len(bank.of) > 1 or bank.swapped or bank.name not in found.verdict.scored.maps:
        return Panel(
            "Under heat",
            with_legend(heat_picture(near, strange, modality, scale, zoom=1), scale),
            "the verdict, of all modalities together",
        )
    own = heat_scale(found.detector, [bank.name])
    values = close_map(own_map(found.detector, found.verdict, bank.name), middle, side, near.size)
    drawn = heat_picture(near, strange, modality, scale, alone=(values, own), zoom=1)
    return Panel(f"{NAMES[modality]} alone", with_legend(drawn, own), "what this modality sees there by itself")


def _nearest(
    found: Explanation, match: Match | None, modality: Modality, side: float, width: int, contrast: _Contrast
) -> Panel:
    if match is None:
        return Panel("Nearest good part", _nothing(width), f"{NAMES[modality]} measured nothing at this place")
    if match.place is None or match.part is None or match.native is None:
        return Panel("Nearest good part", _nothing(width), match_words(found, match))
    same = contrast(plain_picture(close_up(match.part, match.native, match.patch, side, width), modality))
    title, patch = (
        f"Nearest good part: {match.key.rsplit('/', 1)[-1]}",
        found.detector.method.size / found.detector.method.grid,
    )
    if np.hypot(match.place[0] - match.patch[0], match.place[1] - match.patch[1]) < patch:
        return Panel(title, _marked(same, found, side), match_words(found, match))
    inset = close_up(match.part, match.native, match.place, _INSET_PATCHES * patch, width // 3)
    there = _marked(contrast(plain_picture(inset, modality)), found, _INSET_PATCHES * patch)
    same[-width // 3 :, -width // 3 :] = _PATCH
    same[-there.shape[0] + 2 : -2, -there.shape[1] + 2 : -2] = there[2:-2, 2:-2]
    return Panel(title, same, f"{match_words(found, match)} (inset); the picture: the same place")


def _close_words(found: Explanation, side: float, contrast: _Contrast) -> str:
    pitch = found.part.facts.get("pitch_mm")
    said = f"{side:.0f} working pixels wide" if pitch is None else f"{side * float(pitch):.1f} mm wide"
    return said + (f", contrast × {contrast.gain:g}" if contrast.gain > 1 else "")


def _marked(picture: Rgb, found: Explanation, side: float) -> Rgb:
    """The middle patch as a square of corners, so that what is compared stays free."""
    size, method = picture.shape[0], found.detector.method
    half = method.size / method.grid / side * size / 2
    low, high = round((size - 1) / 2 - half), round((size - 1) / 2 + half)
    drawn, leg = picture.copy(), max(3, round(half / 2))
    for row, down in ((low, 1), (high, -1)):
        for column, right in ((low, 1), (high, -1)):
            for colour, thickness in (((0, 0, 0), 3), (_PATCH, 1)):
                cv2.line(drawn, (column, row), (column + right * leg, row), colour, thickness)
                cv2.line(drawn, (column, row), (column, row + down * leg), colour, thickness)
    return drawn


def _nothing(width: int) -> Rgb:
    return np.full((width, width, 3), 24, np.uint8)


def _square(picture: Rgb, width: int) -> Rgb:
    how = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, width), interpolation=how), np.uint8)
