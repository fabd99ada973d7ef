"""Parts of a data set judged one after the other, however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import open_samples
from rakelight.dataset.writer import Dataset
from rakelight.detection.detector import Detector, Verdict
from rakelight.detection.foreground import MaskCache
from rakelight.detection.parts import Part
from rakelight.errors import DatasetError, ModelError
from rakelight.pipeline.detect_names import check_category, check_labels, named_sample
from rakelight.pipeline.detect_teach import knows, load_for
from rakelight.pipeline.heat_scale import HeatScale, Rgb
from rakelight.pipeline.verdict_sheets import Card, card, parts_sheet

MOST_CARDS = 240  # pictures of a sheet; more nobody looks at, and memory would grow with the batch


@dataclass(frozen=True, eq=False)
class Judged:
    """One part and its verdict; or neither, and the ``error`` that kept it from being judged. ``taught``: the model knows it."""

    key: SampleKey
    part: Part | None = None
    verdict: Verdict | None = None
    error: DatasetError | ModelError | None = None
    taught: bool = False


def keys_of(
    dataset: Dataset, category: str, samples: Sequence[str] = (), labels: Sequence[str] = ()
) -> list[SampleKey]:
    """The samples named, each once, or all of a product; of these only those with one of ``labels``, if there are any.

    Raises :class:`DatasetError`: ``dataset.key_invalid``; ``detect.no_category``; ``detect.no_sample`` for a label that is not
    there, or if none is left.
    """
    named = list(dict.fromkeys(SampleKey.parse(name) for name in samples))
    if not named:
        check_category(dataset, category)
        check_labels(dataset, category, labels)
    keys = named or [s.key for s in open_samples(dataset.root, category)]
    chosen = [key for key in keys if not labels or key.label in labels]
    if not chosen:
        raise DatasetError(
            f"none of the {len(keys)} samples named is labelled {', '.join(labels)}",
            hint="leave out --label, or name other samples",
            code="detect.no_sample",
        )
    return chosen


def judged(
    dataset: Dataset,
    detector: Detector,
    keys: Sequence[SampleKey],
    *,
    alpha: float = 0.05,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Judged]:
    """Judge parts one by one; nothing is kept of them here. Of several, one that cannot be judged does not stop the others.

    Raises :class:`DatasetError` or :class:`ModelError` where the only part cannot be judged.
    """
    cache = MaskCache()
    for done, key in enumerate(keys):
        progress(done, len(keys))
        try:
            sample = named_sample(dataset, key)
            part = load_for(detector, sample, cache)
            verdict = detector.score(part, alpha=alpha, device=device)
            yield Judged(key, part, verdict, taught=knows(detector, sample))
        except (DatasetError, ModelError) as error:
            if len(keys) == 1:
                raise
            yield Judged(key, error=error)


@dataclass(eq=False)
class SheetOfParts:
    """The cards of the strangest parts of a batch, for one picture."""

    scale: HeatScale
    seen: int = 0
    cards: list[tuple[float, str, Card]] = field(default_factory=list)

    def add(self, part: Part, verdict: Verdict) -> None:
        """Keep the part's card if it is among the strangest."""
        self.seen += 1
        entry = (verdict.judgement.score, part.key, card(part, verdict, self.scale))
        if len(self.cards) < MOST_CARDS:
            heapq.heappush(self.cards, entry)
        else:
            heapq.heappushpop(self.cards, entry)

    def draw(self, title: str) -> Rgb:
        """(H, W, 3) uint8; raises :class:`InputError` (``contact_sheet.empty``) without parts."""
        said = title if self.seen <= MOST_CARDS else f"{title}: the {MOST_CARDS} strangest of {self.seen} parts"
        return parts_sheet((one for _, _, one in self.cards), self.scale, said)
