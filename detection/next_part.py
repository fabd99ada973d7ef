"""Which good part to show a detector next: farthest first, a part at a time.

A part is as far as the mean of its farthest 1 % of patches from what a bank remembers, in robust standard deviations of good
parts' pixels, and the mean of that over the banks that judge. The choice is greedy as in a k-centre coreset (Gonzalez 1985):
after one is chosen, the others are measured against the banks as they would be with it taught. Distances only shrink, so that
a part is measured again only when it comes to the top (lazy evaluation; same choice).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rakelight.detection import evidence
from rakelight.detection.decision import Judgement
from rakelight.detection.detector import Detector
from rakelight.detection.measuring import measure
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.neighbours import Floats
from rakelight.detection.parts import Part
from rakelight.detection.scoring import top_share_mean
from rakelight.errors import InputError

FAR = 1.0  # robust SD beyond the strangest good part known: so far is one good part in n + 1 at most, or a mislabelled one
_KEPT = 48  # parts whose patches are kept in memory; others are read again when needed


@dataclass(frozen=True)
class Candidate:
    """A part that could be shown next.

    ``adds``: its distance from the banks when it was chosen, those chosen before it taught; ``distance``: from the banks as they
    are. ``doubtful``: look at it first, it may be defective.
    """

    key: str
    adds: float
    distance: float
    score: float
    p_value: float
    doubtful: bool


@dataclass(frozen=True, eq=False)
class _Measured:
    rows: Mapping[str, Floats]  # each judging bank's patches
    distance: float
    judgement: Judgement


def farthest_first(
    detector: Detector,
    keys: Sequence[str],
    load: Callable[[str], Part],
    *,
    count: int = 5,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Candidate]:
    """The ``count`` parts that add most, in the order in which to show them.

    Parameters
    ----------
    keys : sequence of str
        Parts to choose from.
    load : callable
        Key → part in the detector's frame; called again for a part whose patches were dropped.
    count : int
        At least 1.

    Raises
    ------
    InputError
        A count below 1.
    ModelError
        As :meth:`Detector.score`.
    """
    if count < 1:
        raise InputError(f"count is {count}; at least 1 part must be asked for", code="next.count")
    patches = _Patches(detector, load)
    first: dict[str, _Measured] = {}
    for done, key in enumerate(keys):
        progress(done, len(keys))
        measured = patches.of(key)
        first[key] = _Measured({}, measured.distance, measured.judgement)
    # (−distance, key, number of chosen parts that the distance knows of)
    heap = [(-measured.distance, key, 0) for key, measured in first.items()]
    heapq.heapify(heap)
    chosen: list[Candidate] = []
    banks, number = dict(detector.banks), max(part.number for part in detector.parts) + 1
    highest = _highest(detector, first)
    while heap and len(chosen) < count:
        away, key, known = heapq.heappop(heap)
        if known < len(chosen):
            fresh = _distance(detector, patches.of(key).rows, banks)
            heapq.heappush(heap, (-fresh, key, len(chosen)))
            continue
        judged = first[key].judgement
        doubtful = judged.score > highest[judged.banks] + FAR
        chosen.append(Candidate(key, -away, first[key].distance, judged.score, judged.p_value, doubtful))
        for name, rows in patches.of(key).rows.items():
            banks[name] = banks[name].update(rows, np.full(len(rows), number, np.int32))
        number += 1
    return chosen


def _highest(detector: Detector, measured: Mapping[str, _Measured]) -> dict[tuple[str, ...], float]:
    """The score of the strangest good part known, by the banks that judge."""
    found = {}
    for banks in {one.judgement.banks for one in measured.values()}:
        columns = tuple(detector.names.index(name) for name in banks)
        found[banks] = float(detector.decision.patterns[columns].calibration[-1])
    return found


class _Patches:
    """Patches of parts in the judging banks, those used last kept in memory."""

    def __init__(self, detector: Detector, load: Callable[[str], Part]) -> None:
        self.detector, self.load = detector, load
        self.kept: OrderedDict[str, _Measured] = OrderedDict()

    def of(self, key: str) -> _Measured:
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        self.kept[key] = found = self._measure(self.load(key))
        if len(self.kept) > _KEPT:
            self.kept.popitem(last=False)
        return found

    def _measure(self, part: Part) -> _Measured:
        detector = self.detector
        method, fusion = detector.method, detector.fusion
        maps = evidence.extract([part], method, detector.extractors)
        scored = measure(part, maps, method, detector.template, detector.banks, detector.swap, fusion, -1, "cpu")
        judgement = detector.decision.judge({name: scored.scores[name] for name in scored.judging})
        mixed, _ = evidence.swapped_maps(maps, method, detector.swap)
        pixels = evidence.judged_pixels(part, detector.template)[None]
        rows = {}
        for spec in method.banks:
            if spec.name in scored.judging:
                found = evidence.bank_rows(spec, mixed if spec.swapped else maps, pixels, [0], method.grid, fusion)
                assert found is not None  # it judged
                rows[spec.name] = found.values
        return _Measured(rows, _distance(detector, rows, detector.banks), judgement)


def _distance(detector: Detector, rows: Mapping[str, Floats], banks: Mapping[str, MemoryBank]) -> float:
    """Mean over the banks of the distance of the farthest 1 % of patches, in the units of the detector's calibration."""
    found = []
    for name, table in rows.items():
        away, _ = banks[name].distances(table)
        usual = detector.calibration.pixels[:, detector.names.index(name)]
        middle = float(np.nanmedian(usual))
        spread = 1.4826 * float(np.nanmedian(np.abs(usual - middle))) or 1e-6
        found.append((top_share_mean(away) - middle) / spread)
    return float(np.mean(found))
