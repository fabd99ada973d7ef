"""Sheets of verdicts: all modalities of one part side by side, and many parts in a grid, the strangest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rakelight.dataset.images import write_png
from rakelight.detection.detector import Detector, Verdict
from rakelight.detection.methods.base import Method
from rakelight.detection.native import MODALITIES, Modality
from rakelight.detection.parts import Part
from rakelight.files import make_folder
from rakelight.pipeline.contact_sheet import Panel, contact_sheet
from rakelight.pipeline.heat_scale import LIMIT_SHARE, STANDS_OUT, UNIT, HeatScale, Rgb, heat_scale, own_map
from rakelight.pipeline.verdict_pictures import heat_picture, legend, with_legend
from rakelight.pipeline.verdict_text import NAMES, explanation

REJECTED, ACCEPTED = (213, 94, 0), (0, 158, 115)  # Okabe and Ito's vermilion and green
_STRIPE = 12  # px of the colour that says it from afar
_CARD = 3  # px of a card's frame
_CARD_SIDE = 224


def modalities_of(part: Part, method: Method) -> list[Modality]:
    """Those that the method uses and the part has, in the order rgb, ps, xyz."""
    return [m for m in MODALITIES if m in method.modalities and m in part.available]


def verdict_sheet(part: Part, verdict: Verdict, detector: Detector, *, width: int = 360) -> Rgb:
    """One part on one sheet, a column a modality: as captured, under the verdict's heat, and what this modality says alone.

    (H, W, 3) uint8, each picture ``width`` pixels wide. The last row is there where the
    detector has a bank of each modality by itself.
    """
    shown, scale = modalities_of(part, detector.method), heat_scale(detector)
    panels = [
        Panel(NAMES[m], _fitted(heat_picture(part, verdict, m, scale, heat=False), width), "as captured") for m in shown
    ]
    panels += [
        Panel(
            f"Verdict over {NAMES[m]}",
            with_legend(_fitted(heat_picture(part, verdict, m, scale), width), scale),
            "all modalities together",
        )
        for m in shown
    ]
    own = {bank.of[0]: bank.name for bank in detector.method.banks if len(bank.of) == 1 and not bank.swapped}
    if all(own.get(m) in verdict.scored.maps for m in shown):
        panels += [_alone(part, verdict, detector, scale, m, own[m], width) for m in shown]
    judged = verdict.judgement
    notes = [
        f"Colours: {UNIT}, fixed by the calibration with {judged.calibration_parts} good parts; the same for every part. "
        f"White: around the peak, beyond {100 * LIMIT_SHARE:g} % of good parts' pixels."
        + (" Blue: marked as defective." if part.defect is not None and part.defect.any() else "")
        + " Hatched: not judged.",
        f"Score {judged.score:.1f}, {_threshold(verdict)}.",
    ]
    head = f"{'REJECTED' if judged.rejected else 'OK'} (p = {judged.p_value:.2g}): {part.key}"
    title = f"{head}\n{explanation(part, verdict, detector.method)}"
    sheet = contact_sheet(panels, title, notes, columns=len(shown), panel_width=width)
    stripe = np.full((_STRIPE, sheet.shape[1], 3), REJECTED if judged.rejected else ACCEPTED, np.uint8)
    return np.concatenate([stripe, sheet])


def _alone(
    part: Part, verdict: Verdict, detector: Detector, scale: HeatScale, modality: Modality, bank: str, width: int
) -> Panel:
    own = heat_scale(detector, [bank])
    drawn = heat_picture(part, verdict, modality, scale, alone=(own_map(detector, verdict, bank), own))
    excess = verdict.excess.get(modality, -np.inf)
    said = "nothing unusual" if np.isfinite(excess) else "nothing measured"
    if excess >= STANDS_OUT:
        said = f"at its greatest {excess:.1f} × the spread of good parts"
    return Panel(f"{NAMES[modality]} alone", with_legend(_fitted(drawn, width), own), said)


def _fitted(picture: Rgb, width: int) -> Rgb:
    """Square pictures at the sheet's own size, so that letters below them are not scaled."""
    how = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, width), interpolation=how), np.uint8)


def _threshold(verdict: Verdict) -> str:
    judged = verdict.judgement
    if not np.isfinite(judged.threshold):
        return f"no threshold: {judged.calibration_parts} good parts are too few for this false-alarm level"
    kind = "provisional threshold" if judged.provisional else "threshold"
    return f"{kind} {judged.threshold:.1f} ({judged.calibration_parts} good parts)"


@dataclass(frozen=True, eq=False)
class Card:
    """One part of a sheet of many: a picture (h, w, 3) and what is said of it. ``defective``: None where nobody knows;
    ``decided``: whether it could have been rejected, with so many good parts in the calibration."""

    key: str
    label: str
    score: float
    p_value: float
    rejected: bool
    defective: bool | None
    seen_by: Modality
    picture: Rgb
    decided: bool = True

    @property
    def outcome(self) -> str:
        """``"missed"`` or ``"false alarm"`` where the verdict is wrong, else ``""``."""
        if self.defective is None or not self.decided or self.defective == self.rejected:
            return ""
        return "missed" if self.defective else "false alarm"


def card(part: Part, verdict: Verdict, scale: HeatScale, *, modality: Modality | None = None) -> Card:
    """A small picture of a part under its heat, over the modality that sees it unless another is named."""
    shown = modality or (verdict.seen_by if verdict.seen_by in part.available else sorted(part.available)[0])
    picture = _fitted(heat_picture(part, verdict, shown, scale), _CARD_SIDE)
    judged = verdict.judgement
    defective = part.label != "OK" if part.label else None
    return Card(
        part.key, part.label, judged.score, judged.p_value, judged.rejected, defective, verdict.seen_by,
        picture, math.isfinite(judged.threshold),
    )  # fmt: skip


def parts_sheet(cards: Iterable[Card], scale: HeatScale, title: str, *, columns: int = 6) -> Rgb:
    """Many parts, the highest score first; the frame is vermilion for rejected parts and green for the others.

    Raises :class:`InputError` (``contact_sheet.empty``) without any.
    """
    ordered = sorted(cards, key=lambda c: (-c.score, c.key))
    panels = [_framed(c) for c in ordered]
    wrong = [c.outcome for c in ordered]
    notes = [
        f"Colours: {UNIT}, fixed by the calibration, the same for every part ({scale.low:.1f} to {scale.full:.1f}). "
        "Each part is shown as the modality that sees most. Frame: vermilion rejected, green accepted."
    ]
    if any(c.defective is not None for c in ordered):
        notes.append(f"{wrong.count('missed')} missed, {wrong.count('false alarm')} false alarms.")
    if stuck := sum(not c.decided for c in ordered):
        notes.append(
            f"{stuck} could not be rejected whatever their score: too few good parts for this false-alarm level."
        )
    sheet = contact_sheet(panels, title, notes, columns=columns, panel_width=_CARD_SIDE + 2 * _CARD)
    strip = legend(scale, min(560, sheet.shape[1]))
    foot = np.full((strip.shape[0], sheet.shape[1], 3), sheet[-1, 0], np.uint8)
    left = (sheet.shape[1] - strip.shape[1]) // 2
    foot[:, left : left + strip.shape[1]] = strip
    return np.concatenate([sheet, foot])


def _framed(one: Card) -> Panel:
    frame = REJECTED if one.rejected else ACCEPTED
    picture = cv2.copyMakeBorder(one.picture, *(_CARD,) * 4, cv2.BORDER_CONSTANT, value=frame)
    number = one.key.rsplit("/", 1)[-1]
    said = f"score {one.score:.1f}, p = {one.p_value:.2g}, {NAMES[one.seen_by]}"
    name = f"{number}, {one.outcome}" if one.outcome else number
    return Panel(one.label or number, np.asarray(picture, np.uint8), f"{name}\n{said}")


def write_verdict_pictures(folder: Path, stem: str, part: Part, verdict: Verdict, detector: Detector) -> list[Path]:
    """``<stem>_rgb.png``, ``_ps.png``, ``_xyz.png`` (those there are), each with its legend, and ``<stem>_sheet.png``.

    Returns their paths, the sheet last. Raises :class:`StorageError` when they cannot be written.
    """
    make_folder(folder)
    scale = heat_scale(detector)
    made: Sequence[tuple[str, Rgb]] = [
        (m, with_legend(heat_picture(part, verdict, m, scale), scale)) for m in modalities_of(part, detector.method)
    ]
    made = [*made, ("sheet", verdict_sheet(part, verdict, detector))]
    paths = [folder / f"{stem}_{name}.png" for name, _ in made]
    for path, (_, picture) in zip(paths, made, strict=True):
        write_png(path, picture)
    return paths
