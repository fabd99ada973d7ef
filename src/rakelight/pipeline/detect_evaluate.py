"""Detectors on the test parts of a data set: scores, maps and figures, category by category and method by method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.detection.detector import Detector, Verdict
from rakelight.detection.foreground import MaskCache
from rakelight.detection.metrics.evaluation import PartScore
from rakelight.detection.parts import Part, warp_to_native
from rakelight.pipeline.detect_teach import load_for
from rakelight.pipeline.thinned_sample import Opener

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Tested:
    """One part of the test, judged."""

    part: Part
    verdict: Verdict
    defective: bool
    label: str


def tested(
    dataset: Dataset,
    detector: Detector,
    keys: Sequence[SampleKey],
    *,
    alpha: float = 0.05,
    device: str = "cpu",
    opened: Opener = OpenSample,
    progress: Progress = lambda *_: None,
) -> Iterator[Tested]:
    """Judge the parts one after the other; ``opened`` opens them."""
    cache = MaskCache()
    for done, key in enumerate(keys):
        progress("testing", done, len(keys))
        part = load_for(detector, opened(dataset.root, key), cache)
        yield Tested(part, detector.score(part, alpha=alpha, device=device), not key.is_ok, key.label)


def part_score(one: Tested, category: str) -> PartScore:
    """What the metrics take: map and masks on the native pixels; pixels that were not judged score lowest."""
    part, verdict = one.part, one.verdict
    judged = np.isfinite(verdict.map)
    lowest = float(np.nanmin(verdict.map)) - 1.0
    view = warp_to_native(np.where(judged, verdict.map, np.float32(lowest)), part, outside=lowest)
    inside = warp_to_native(part.mask.astype(np.float32), part) > 0.5
    ignore = warp_to_native(part.ignore.astype(np.float32), part) > 0.5 if part.ignore.any() else None
    return PartScore(
        part.key,
        one.label,
        one.defective,
        verdict.judgement.score,
        view,
        part.defect if one.defective else None,
        ignore,
        inside,
        frozenset(part.available),
        category,
    )
