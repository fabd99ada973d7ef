"""A part in the memory banks: a score and a map from each, and what good parts usually get there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.detection import evidence
from rakelight.detection.decision import Decision
from rakelight.detection.evidence import Maps, Rows
from rakelight.detection.fusion import Fusion
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.methods.base import BankSpec, Method
from rakelight.detection.neighbours import Floats
from rakelight.detection.parts import Part
from rakelight.detection.registration import Template
from rakelight.detection.scoring import reweighted_score, score_map, top_share_mean
from rakelight.detection.swapping import SwapIndices
from rakelight.errors import ModelError

_PIXELS_A_PART = 500  # sampled for the calibration of pixels


@dataclass(frozen=True, eq=False)
class Calibration:
    """What good parts score against banks that have not seen them.

    Attributes
    ----------
    numbers : (n,) int32
        Of the parts.
    scores : (n, B) float64
        Of each part in each bank, NaN where it has none.
    peaks : (n, B) float64
        Greatest value of each bank's map.
    pixels : (m, B) float32
        Values of the maps at pixels drawn at random, and ``pixel_part`` (m,) the part each is of.
    """

    numbers: NDArray[np.int32]
    scores: NDArray[np.float64]
    peaks: NDArray[np.float64]
    pixels: Floats
    pixel_part: NDArray[np.int32]

    def joined(self, other: Calibration) -> Calibration:
        """Both together."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in vars(self))
        return Calibration(*(np.concatenate(pair) for pair in pairs))

    def without(self, number: int) -> Calibration:
        """All but one part."""
        keep, pixels = self.numbers != number, self.pixel_part != number
        return Calibration(
            self.numbers[keep], self.scores[keep], self.peaks[keep], self.pixels[pixels], self.pixel_part[pixels]
        )


@dataclass(frozen=True, eq=False)
class Scored:
    """What the banks say of one part: by bank the ``score`` and the map (S, S) float32, NaN where not judged."""

    scores: dict[str, float]
    maps: dict[str, Floats]
    judging: tuple[str, ...]


def row_of(features: Any, row: int) -> Any:
    return type(features)(features.values[row : row + 1], features.valid[row : row + 1])


def measure(
    part: Part,
    maps: Maps,
    method: Method,
    template: Template | None,
    banks: Mapping[str, MemoryBank],
    indices: SwapIndices | None,
    fusion: Fusion | None,
    number: int,
    device: str,
    *,
    every: bool = False,
) -> Scored:
    """One part against banks; ``every`` also against those that could not judge it (for the calibration)."""
    pixels = evidence.judged_pixels(part, template)
    mixed, swapped = evidence.swapped_maps(maps, method, indices)
    scores: dict[str, float] = {}
    views: dict[str, Floats] = {}
    for spec in method.banks:
        if spec.swapped and not swapped.any():
            continue  # the partner is missing: a bank of swapped features cannot judge it
        rows = evidence.bank_rows(spec, mixed if spec.swapped else maps, pixels[None], [0], method.grid, fusion)
        if rows is None:
            continue
        scores[spec.name], views[spec.name] = _in_bank(rows, banks[spec.name], method, pixels, number, device)
    judging = tuple(scores) if every else _judging(method, scores)
    if not judging:
        lacking = [m for m in method.modalities if m not in part.available]
        raise ModelError(
            f"{part.key} has no patch that any bank of {method.name} can judge; it has "
            f"{', '.join(sorted(part.available)) or 'nothing'}"
            + (f" and lacks {', '.join(lacking)}" if lacking else ""),
            hint="capture it again, or choose a method that bears missing modalities (d3m, RADAR)",
            code="model.modality_missing",
        )
    return Scored(scores, views, judging)


def _judging(method: Method, scores: Mapping[str, float]) -> tuple[str, ...]:
    """Banks that have a say: the judging ones that scored, and plain ones of modalities that none of these covers."""
    chosen = [bank for bank in method.judging if bank.name in scores]
    if len(chosen) < len(method.judging):
        covered = {m for bank in chosen for m in bank.of}
        spare: list[BankSpec] = []
        for bank in method.banks:
            if not bank.judges and bank.name in scores and not covered & set(bank.of):
                spare.append(bank)
        chosen += spare
    return tuple(bank.name for bank in method.banks if bank in chosen)


def _in_bank(
    rows: Rows, bank: MemoryBank, method: Method, pixels: NDArray[np.bool_], number: int, device: str
) -> tuple[float, Floats]:
    distance, index = bank.distances(rows.values, device=device)
    upstream = method.compat == "upstream"
    if method.score == "top":
        score = top_share_mean(distance)
    else:
        queries = bank.normalised(rows.values)
        score = reweighted_score(distance, index, queries, bank.search, part=number, compat=upstream)
    grid = np.full(rows.grid * rows.grid, np.nan, np.float32)
    grid[rows.place] = distance
    view = score_map(grid.reshape(rows.grid, rows.grid), method.size, mask=pixels, outside=np.nan, compat=upstream)
    return score, view


def calibration_of(
    scored: Sequence[Scored], parts: Sequence[Part], numbers: Sequence[int], names: tuple[str, ...], seed: int
) -> Calibration:
    shape = (len(scored), len(names))
    scores, peaks = np.full(shape, np.nan), np.full(shape, np.nan)
    pixels, owners = [], []
    for n, (one, part, number) in enumerate(zip(scored, parts, numbers, strict=True)):
        stack = np.full((part.size, part.size, len(names)), np.nan, np.float32)
        for b, name in enumerate(names):
            if name in one.maps:
                scores[n, b] = one.scores[name]
                stack[..., b] = one.maps[name]
                peaks[n, b] = np.nanmax(one.maps[name])
        flat = stack.reshape(-1, len(names))
        usable = np.flatnonzero(np.isfinite(flat).any(axis=1))
        drawn = np.random.default_rng([seed, number]).choice(usable, min(_PIXELS_A_PART, len(usable)), replace=False)
        pixels.append(flat[np.sort(drawn)])
        owners.append(np.full(len(drawn), number, np.int32))
    return Calibration(np.asarray(numbers, np.int32), scores, peaks, np.concatenate(pixels), np.concatenate(owners))


def decide(method: Method, calibration: Calibration) -> tuple[Decision, Decision]:
    names = tuple(bank.name for bank in method.banks)
    lambdas = None if method.lambdas is None else {n: method.lambdas.get(n, 1.0) for n in names}
    options: dict[str, Any] = {"lambdas": lambdas, "seed": method.seed}
    part = Decision.calibrate(calibration.scores, names, method.decision, **options)
    pixel = Decision.calibrate(calibration.pixels, names, method.decision, level="pixel", **options)
    return part, pixel
