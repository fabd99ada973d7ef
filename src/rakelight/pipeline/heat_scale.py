"""What the colours of a heat map mean: a scale that the detector's calibration fixes, the same for every part.

Values are robust standard deviations of good parts' pixels (:meth:`rakelight.detection.decision.Decision.fuse`), each from
banks that had not seen the part. The scale is made of three of them: below ``low`` (95 % of good parts' pixels) nothing is
drawn, ``limit`` (99.9 %) is where a spot counts as standing out, and at ``full``, three times that, the colours end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.detection.detector import Detector, Verdict
from rakelight.detection.native import Modality
from rakelight.detection.neighbours import Floats
from rakelight.errors import InputError, ModelError
from rakelight.pipeline.contact_sheet import colour_table

Rgb = NDArray[np.uint8]
Bool = NDArray[np.bool_]

UNIT = "robust SD of good parts"
STANDS_OUT = 3.0  # robust SD of good parts' greatest values, from which a modality is said to see a spot
LOW_SHARE, LIMIT_SHARE = 0.95, 0.999  # of good parts' pixels that lie below
_FULL = 3.0  # times the limit
_LEAST = 0.5  # robust SD; a calibration of nearly equal pixels must not colour noise
_COLOURS = colour_table("inferno")[77:]  # without its blacks: what is drawn must be seen on a dark part, too
_OPAQUE = (0.0, 0.62, 0.86)  # at low, limit and full


@dataclass(frozen=True)
class HeatScale:
    """``low`` < ``limit`` < ``full``, in robust standard deviations of good parts' pixels."""

    low: float
    limit: float
    full: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.full]).all() and self.low < self.limit < self.full):
            raise InputError(
                f"colour scale {self.low:g}, {self.limit:g}, {self.full:g}; the three must ascend",
                code="heat_scale.range",
            )

    def colours(self, values: NDArray[Any]) -> tuple[Rgb, NDArray[np.float32]]:
        """Colour (…, 3) uint8 and opacity (…) float32, 0 to 1, of values (…); NaN is clear."""
        known = np.where(np.isfinite(values), values, self.low).astype(np.float32)
        share = np.clip((known - self.low) / (self.full - self.low), 0, 1)
        opacity = np.interp(known, (self.low, self.limit, self.full), _OPAQUE).astype(np.float32)
        return _COLOURS[np.rint(share * (len(_COLOURS) - 1)).astype(np.intp)], opacity

    def blend(self, picture: Rgb, values: NDArray[Any]) -> Rgb:
        """A picture (H, W, 3) under the colours of values (H, W).

        Below them it loses its own colours, so that a red part and a violet normal map do not look like heat.
        """
        colour, opacity = self.colours(values)
        base = picture.astype(np.float32)
        grey = base @ np.array([0.299, 0.587, 0.114], np.float32)
        plain = np.clip(opacity / _OPAQUE[1], 0, 1)[..., None]
        base = base * (1 - plain) + grey[..., None] * plain
        mixed = base * (1 - opacity[..., None]) + colour.astype(np.float32) * opacity[..., None]
        return np.rint(mixed).astype(np.uint8)


def heat_scale(detector: Detector, banks: Sequence[str] | None = None) -> HeatScale:
    """The scale of a detector's maps.

    ``banks``: of a map that only these make (one modality by itself); by default the banks that judge complete parts, for
    parts that lack a modality too: their maps are in the same units. Raises :class:`ModelError`: ``model.bank`` for a bank
    that there is not, ``model.no_calibration`` where the calibration has no pixel of them.
    """
    chosen = list(banks or (bank.name for bank in detector.method.judging))
    unknown = sorted(set(chosen) - set(detector.names))
    if unknown:
        raise ModelError(
            f"the model has no bank {', '.join(unknown)}; it has {', '.join(detector.names)}", code="model.bank"
        )
    table = detector.calibration.pixels.astype(np.float64)
    table[:, [i for i, name in enumerate(detector.names) if name not in chosen]] = np.nan
    complete = np.isfinite(table[:, [detector.names.index(name) for name in chosen]])
    rows = table[complete.all(axis=1) if complete.all(axis=1).any() else complete.any(axis=1)]
    if not len(rows):
        raise ModelError(
            f"the model's calibration holds no pixel of {', '.join(chosen)}: its colours have no scale",
            hint="train the model again",
            code="model.no_calibration",
        )
    low, limit = np.quantile(detector.pixels.fuse(rows), (LOW_SHARE, LIMIT_SHARE)).tolist()
    low = max(low, _LEAST)
    limit = max(limit, 1.5 * low)
    return HeatScale(low, limit, _FULL * limit)


def own_map(detector: Detector, verdict: Verdict, bank: str) -> Floats:
    """What one bank alone says, (S, S) float32 in robust standard deviations, NaN where it judged nothing."""
    values = verdict.scored.maps[bank]
    table = np.full((*values.shape, len(detector.names)), np.nan, np.float32)
    table[..., detector.names.index(bank)] = values
    return detector.pixels.fuse(table)


def seeing(verdict: Verdict) -> list[Modality]:
    """The modalities that see something at the peak, the one that sees most first."""
    found = [m for m, excess in verdict.excess.items() if excess >= STANDS_OUT]
    return sorted(found, key=lambda m: -verdict.excess[m])


def peak_region(verdict: Verdict, scale: HeatScale) -> Bool:
    """(S, S): what is beyond the scale's limit and connected with the peak.

    Empty where the peak is not beyond it, and on accepted parts on which no modality sees anything: one pixel in a thousand
    is beyond the limit on good parts too.
    """
    if not (verdict.judgement.rejected or seeing(verdict)):
        return np.zeros(verdict.map.shape, bool)
    return region_at(verdict.map, verdict.peak, scale.limit)


def region_at(values: NDArray[Any], place: tuple[int, int], limit: float) -> Bool:
    """What of a map (S, S) is beyond the limit and connected with a place; nothing where the place is not beyond it."""
    beyond = np.nan_to_num(values, nan=-np.inf) > limit
    if not beyond[place]:
        return np.zeros(beyond.shape, bool)
    labels = cv2.connectedComponents(beyond.astype(np.uint8), connectivity=8)[1]
    return np.asarray(labels == labels[place], bool)
