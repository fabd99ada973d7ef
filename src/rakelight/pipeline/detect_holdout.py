"""Which parts of a product an evaluation teaches and which it tests, and how that came about in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import open_samples
from rakelight.dataset.split_files import split_items
from rakelight.dataset.splits import SplitItem, SplitRule, make_splits
from rakelight.dataset.writer import Dataset
from rakelight.detection.teaching import LEAST_PARTS
from rakelight.errors import DatasetError, InputError
from rakelight.pipeline.detect_teach import subset_of

TAUGHT_SHARE = 0.6  # of the good parts, where no split says otherwise


@dataclass(frozen=True)
class Chosen:
    """The good parts to teach and the parts to test, none of them in both; ``how`` is a sentence for people."""

    teach: tuple[SampleKey, ...]
    test: tuple[SampleKey, ...]
    how: str

    def to_dict(self) -> dict[str, Any]:
        """Counts and words as plain data."""
        good = sum(key.is_ok for key in self.test)
        tested = {"good": good, "defective": len(self.test) - good}
        return {"taught": len(self.teach), "tested": tested, "how": self.how}


class Chooser:
    """Chooses product by product.

    Parameters
    ----------
    dataset : Dataset
    split : str, optional
        The split's training part teaches, its test part tests; None: ``official`` if there is one.
    parts : int, optional
        Teach the first so many good parts and test all others but captures of the same specimens, whatever a split says.
    seed : int
        Without split and ``parts``: of the draw of :data:`TAUGHT_SHARE` of the good parts, specimen by specimen, so that
        no specimen is taught and tested.

    Raises :class:`DatasetError` as :func:`rakelight.pipeline.detect_teach.subset_of`.
    """

    def __init__(self, dataset: Dataset, *, split: str | None = None, parts: int | None = None, seed: int = 0) -> None:
        self._dataset, self._parts, self._seed = dataset, parts, seed
        self._name = split or "official"
        self._subsets = None if parts is not None else subset_of(dataset, split)
        self._items: list[SplitItem] | None = None

    def choose(self, category: str) -> Chosen:
        """The parts of a product.

        Raises :class:`DatasetError`: ``detect.no_good_parts``, ``detect.too_few_parts`` (to teach), ``detect.no_test_parts``.
        """
        keys = [s.key for s in open_samples(self._dataset.root, category)]
        good = [key for key in keys if key.is_ok]
        if not good:
            raise DatasetError(
                f"{self._dataset.root} has no good part of {category!r}: nothing can be taught",
                hint="add good parts with `rakelight dataset add … --label OK`; `rakelight dataset stats` counts what is there",
                code="detect.no_good_parts",
            )
        if self._parts is not None:
            taught = good[: self._parts]
            twins = self._twins(category, taught)
            keys = [key for key in keys if key not in twins]
            how = f"taught the first {len(taught)} of {len(good)} good parts (--parts {self._parts})"
            if twins:
                how += f", {len(twins)} other capture{'s' * (len(twins) != 1)} of these specimens left out"
        elif self._subsets is not None:
            taught = [key for key in good if self._subsets.get(str(key)) == "train"]
            how = f"taught the training part of split {self._name}"
        else:
            taught = self._drawn(category, good)
            how = f"no split: taught {len(taught)} of {len(good)} good parts, drawn with seed {self._seed}"
        if len(taught) < LEAST_PARTS:
            raise DatasetError(
                f"{len(taught)} good parts of {category!r} to teach (of {len(good)}; {how}); at least {LEAST_PARTS} are "
                "needed, 10 or more to trust",
                hint="capture more good parts, name another --split, or say with --parts how many to teach",
                code="detect.too_few_parts",
            )
        known = set(taught)
        test = [key for key in keys if key not in known]
        if self._subsets is not None:
            test = [key for key in test if self._subsets.get(str(key)) == "test"]
        if not test:
            raise DatasetError(
                f"{self._dataset.root} has no part of {category!r} to test: {how}, and none is left",
                hint="make a split with `rakelight dataset split`, or add more parts",
                code="detect.no_test_parts",
            )
        left = sum(key.is_ok for key in test)
        return Chosen(tuple(taught), tuple(test), f"{how}; tested {left} good and {len(test) - left} defective")

    def _twins(self, category: str, taught: Sequence[SampleKey]) -> set[SampleKey]:
        """What is not taught but shows a specimen that is: tested, it would be no stranger."""
        items = self._items_of(category)
        known = {item.specimen for item in items if item.key in set(taught)} - {""}
        return {item.key for item in items if item.specimen in known} - set(taught)

    def _items_of(self, category: str) -> list[SplitItem]:
        if self._items is None:
            self._items = split_items(self._dataset.root)
        return [item for item in self._items if item.key.category == category]

    def _drawn(self, category: str, good: Sequence[SampleKey]) -> list[SampleKey]:
        if len(good) <= LEAST_PARTS:  # nothing to spare: no good part is tested, and the figures that need some say so
            return list(good)
        items = self._items_of(category)
        share = max(TAUGHT_SHARE, LEAST_PARTS / len(good))
        rule = SplitRule(seed=self._seed, train=share, validation=0.0)
        try:
            (made,) = make_splits(items, rule)
        except InputError as error:
            raise DatasetError(
                f"{len(good)} good parts of {category!r} cannot be shared into some to teach and some to test: {error}",
                hint="capture more good parts, or say with --parts how many to teach",
                code="detect.too_few_parts",
            ) from error
        names = set(made.categories[category]["train"])
        return [key for key in good if str(key) in names]
