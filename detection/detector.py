"""A detector: taught from good parts, then it scores parts and says why.

Teaching: features of all parts → swapping → fusion → one memory bank each → scores of every part against banks that have
not seen it (leave one part out) → the rule that brings banks together, and the conformal p-value of a part.

Scoring a part of which a modality is missing uses the banks that can still judge: those of :attr:`Method.judging` whose
modalities are there (and whose swap partner is), and the plain bank of each modality that none of them covers. Each
combination has its own calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.detection import evidence
from rakelight.detection.decision import Decision, Judgement
from rakelight.detection.decision_rules import centre_and_spread
from rakelight.detection.evidence import Maps
from rakelight.detection.features.base import Extractor
from rakelight.detection.fusion import Fusion
from rakelight.detection.measuring import Calibration, Scored, calibration_of, decide, measure, row_of
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.methods.base import Method
from rakelight.detection.native import Modality
from rakelight.detection.neighbours import Floats
from rakelight.detection.parts import Part
from rakelight.detection.registration import Template
from rakelight.detection.swapping import SwapIndices
from rakelight.errors import DatasetError, ModelError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TaughtPart:
    """A good part that the detector knows: its number in the banks, its key, the hash of its files, and the statistics of its
    capture (:mod:`rakelight.detection.capture_statistics`), with which those of later captures are compared, and the
    ``specimen`` that was captured ("": not known)."""

    number: int
    key: str
    sha256: str = ""
    capture: Mapping[str, float] = field(default_factory=dict)
    specimen: str = ""


@dataclass(frozen=True, eq=False)
class Verdict:
    """A detector's judgement of one part.

    Attributes
    ----------
    map : (S, S) float32
        In robust standard deviations of good parts' pixels, NaN where not judged; the same scale for every part.
    excess : mapping of modality to float
        How far each modality's own map stands out at its greatest value, in robust standard deviations of good parts'
        greatest values: what sees the anomaly. ``seen_by`` is the first of them.
    peak : (row, column)
        Where that modality's map is greatest, working frame.
    """

    key: str
    judgement: Judgement
    map: Floats
    peak: tuple[int, int]
    excess: dict[Modality, float]
    seen_by: Modality
    scored: Scored


@dataclass(frozen=True, eq=False)
class Detector:
    """A taught detector; :mod:`rakelight.detection.teaching` makes it, :mod:`rakelight.detection.model_file` keeps it.

    ``ignore`` (S, S) bool: pixels of the product that are never judged (:mod:`rakelight.detection.ignore`).
    """

    method: Method
    category: str
    template: Template | None
    banks: Mapping[str, MemoryBank]
    swap: SwapIndices | None
    fusion: Fusion | None
    decision: Decision
    pixels: Decision
    calibration: Calibration
    parts: tuple[TaughtPart, ...]
    facts: Mapping[str, Any]
    extractors: Mapping[Modality, Extractor]
    ignore: NDArray[np.bool_] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The banks, in the order of the calibration's columns."""
        return tuple(bank.name for bank in self.method.banks)

    @property
    def calibration_parts(self) -> int:
        """Good parts with which complete parts are compared: those that all judging banks could score. Promises count these."""
        pattern = self.decision.patterns.get(tuple(i for i, bank in enumerate(self.method.banks) if bank.judges))
        return 0 if pattern is None else pattern.rows

    def score(self, part: Part, *, alpha: float = 0.05, device: str = "cpu") -> Verdict:
        """Judge a part.

        Raises :class:`ModelError` where no bank can judge it or its combination of modalities has no calibration, and
        :class:`DatasetError` for a part of another working size.
        """
        self._check(part)
        scored = self.measured(part, device=device)
        judgement = self.decision.judge({name: scored.scores[name] for name in scored.judging}, alpha)
        excess, places = self._excess(scored)
        seen_by = max(excess, key=lambda m: excess[m])
        fused = self._fused_map(scored)
        place = places.get(seen_by, int(np.nanargmax(fused)))
        return Verdict(part.key, judgement, fused, divmod(place, part.size), excess, seen_by, scored)

    def measured(self, part: Part, *, device: str = "cpu") -> Scored:
        """The part in each bank, without a verdict."""
        maps = evidence.extract([part], self.method, self.extractors)
        return self._against(part, maps, 0, self.banks, device=device)

    def _against(
        self, part: Part, maps: Maps, row: int, banks: Mapping[str, MemoryBank], number: int = -1, device: str = "cpu"
    ) -> Scored:
        """One part (``row`` of the maps) against banks; ``number``: the part that the banks do without."""
        return measure(
            part,
            {m: row_of(f, row) for m, f in maps.items()},
            self.method,
            self.template,
            banks,
            self.swap,
            self.fusion,
            number,
            device,
        )

    def _fused_map(self, scored: Scored) -> Floats:
        table = np.full((*next(iter(scored.maps.values())).shape, len(self.names)), np.nan, np.float32)
        for name in scored.judging:
            table[..., self.names.index(name)] = scored.maps[name]
        return self.pixels.fuse(table)

    def _excess(self, scored: Scored) -> tuple[dict[Modality, float], dict[Modality, int]]:
        """How far each modality's own map stands out at its greatest value, and where that is (row-major)."""
        found: dict[Modality, float] = {}
        places: dict[Modality, int] = {}
        for bank in self.method.banks:
            if len(bank.of) > 1 or bank.swapped or bank.name not in scored.maps:
                continue
            view = scored.maps[bank.name]
            middle, spread = centre_and_spread(self.calibration.peaks[:, self.names.index(bank.name)])
            place = int(np.nanargmax(view))
            found[bank.of[0]], places[bank.of[0]] = (float(view.flat[place]) - middle) / spread, place
        if not found:  # no bank of one modality: the fused banks' modalities share what they say
            return {m: 0.0 for bank in self.method.judging for m in bank.of}, {}
        return found, places

    def _check(self, part: Part) -> None:
        if part.size != self.method.size:
            raise DatasetError(
                f"{part.key} has working size {part.size}; the model was taught at {self.method.size}",
                hint=f"load it with size={self.method.size} and the model's template",
                code="detect.size",
            )

    def update(
        self, parts: Sequence[Part], taught: Sequence[TaughtPart], *, progress: Progress = lambda *_: None
    ) -> Detector:
        """The detector that also knows these good parts; earlier ones are not needed again.

        Each new part is first scored as a stranger, by banks without other captures of its specimen; that is its row in the
        calibration. Raises :class:`ModelError`
        (``model.part_known``) for a part that the model knows, by its key or by its files.
        """
        detector = self
        for done, (part, known) in enumerate(zip(parts, taught, strict=True)):
            progress("updating", done, len(parts))
            self._check(part)
            detector._check_new(known)
            maps = evidence.extract([part], detector.method, detector.extractors)
            number = max((p.number for p in detector.parts), default=-1) + 1
            scored = detector._against(part, maps, 0, detector._strange_banks(known.specimen))
            added = calibration_of([scored], [part], [number], detector.names, detector.method.seed)
            banks = dict(detector.banks)
            pixels = evidence.judged_pixels(part, detector.template)[None]
            grid = detector.method.grid
            plain, mixed = maps, evidence.swapped_maps(maps, detector.method, detector.swap)[0]
            for spec in detector.method.banks:
                chosen = mixed if spec.swapped else plain
                rows = evidence.bank_rows(spec, chosen, pixels, [number], grid, detector.fusion)
                if rows is not None and spec.name in banks:
                    banks[spec.name] = banks[spec.name].update(rows.values, rows.part)
            known = replace(known, number=number)
            detector = detector._with(banks, detector.calibration.joined(added), (*detector.parts, known))
        return detector

    def _strange_banks(self, specimen: str) -> dict[str, MemoryBank]:
        """The banks without what they know of a specimen; a bank that knows nothing else stays as it is."""
        same = [p.number for p in self.parts if specimen and p.specimen == specimen]
        banks = dict(self.banks)
        for name, bank in self.banks.items():
            for number in same:
                if number in banks[name].parts and len(banks[name].parts) > 1:
                    banks[name] = banks[name].forget(number)
            if set(bank.parts) <= set(same):
                banks[name] = bank
        return banks

    def _check_new(self, part: TaughtPart) -> None:
        same = next((p for p in self.parts if p.sha256 and p.sha256 == part.sha256 and p.key != part.key), None)
        if same is not None:  # it would be no stranger to the banks, and its calibration score near 0
            raise ModelError(
                f"{part.key} has the files of {same.key}, which is one of the model's parts already",
                hint="leave it out; it was relabelled, or copied from another data set",
                code="model.part_known",
            )
        if part.key in {p.key for p in self.parts}:
            raise ModelError(
                f"{part.key} is one of the model's parts already",
                hint=f"leave it out; if its files have changed, or it is another part of the same name, --forget {part.key} first",
                code="model.part_known",
            )

    def forget(self, key: str) -> Detector:
        """The detector without what it learnt from one part; :class:`ModelError` if it does not know it."""
        part = next((p for p in self.parts if p.key == key), None)
        if part is None:
            raise ModelError(
                f"the model does not know {key}; it knows {len(self.parts)} parts", code="model.unknown_part"
            )
        banks = {n: b.forget(part.number) if part.number in b.parts else b for n, b in self.banks.items()}
        left = tuple(p for p in self.parts if p.key != key)
        return self._with(banks, self.calibration.without(part.number), left)

    def _with(
        self, banks: Mapping[str, MemoryBank], calibration: Calibration, parts: tuple[TaughtPart, ...]
    ) -> Detector:
        decision, pixels = decide(self.method, calibration)
        return replace(self, banks=banks, calibration=calibration, parts=parts, decision=decision, pixels=pixels)
