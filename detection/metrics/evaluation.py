"""The figures of a test: per category, per defect, per availability of modalities, and their mean over categories.

Parts are given one after the other and not kept: pixels go into histograms, see :mod:`rakelight.detection.metrics.streaming`.
Names of figures: ``i_…`` over parts, one score a part; ``p_…`` over all pixels of all parts pooled; ``p_auroc_inside`` without
normal pixels off the part; ``aupro_0.3`` … the area under PRO up to that FPR (on the whole picture).

- A defect is judged against all good parts of its category; an availability pattern against the good parts of that pattern.
- Defective pixels count wherever they lie: a missing feature is off the part's own mask.
- Maps must have the size of the masks as drawn: a mask made smaller loses the smallest defects.
- A defective part without a mask, or with an empty one, has a score but no known pixels: these are left out, and counted.
- The mean is that of the categories, each with the same weight, however many parts it has.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.detection.metrics import _figures
from rakelight.detection.metrics._figures import PartFacts
from rakelight.detection.metrics.areas import Figure, Steps, steps_of
from rakelight.detection.metrics.bootstrap import check_level, with_interval
from rakelight.detection.metrics.pro import LIMITS, Bool, Compat
from rakelight.detection.metrics.streaming import COARSE, Bins, PixelHistogram, centre_of, merged
from rakelight.errors import DatasetError, InputError

_ORDER = ("rgb", "ps", "xyz")


@dataclass(frozen=True, eq=False)
class PartScore:
    """What a detector said of one part, and the truth.

    key : str, unique within the category
    label : str, ``good`` or whatever good parts are called, or the kind of defect
    defective : bool
    score : float, higher is more anomalous
    map : (H, W) float or None, anomaly map at the size of the mask
    mask : (H, W) bool or uint8 (not 0: defective), None for good parts or when there is none
    ignore : (H, W) bool or None, pixels that do not count
    part : (H, W) bool or None, pixels on the part; None: all
    available : modalities that were there; None: not known
    """

    key: str
    label: str
    defective: bool
    score: float
    map: NDArray[np.floating] | None = None
    mask: NDArray[np.bool_] | NDArray[np.uint8] | None = None
    ignore: Bool | None = None
    part: Bool | None = None
    available: frozenset[str] | None = None
    category: str = ""

    @property
    def pattern(self) -> str:
        """The modalities as one word, for example ``rgb+ps``."""
        if self.available is None:
            return "unknown"
        known = [m for m in _ORDER if m in self.available]
        return "+".join(known + sorted(self.available - set(_ORDER))) or "none"


@dataclass(frozen=True)
class Metrics:
    """Figures by name, and the counts of parts they rest on."""

    counts: dict[str, int]
    figures: dict[str, Figure]

    def __getitem__(self, name: str) -> Figure:
        return self.figures[name]

    def to_dict(self) -> dict[str, Any]:
        return {"parts": self.counts} | {name: f.to_dict() for name, f in self.figures.items()}


@dataclass(frozen=True)
class CategoryMetrics:
    """Figures of one category: of all its parts, by kind of defect, by availability pattern (where there are several)."""

    all: Metrics
    defects: dict[str, Metrics]
    patterns: dict[str, Metrics]

    def to_dict(self) -> dict[str, Any]:
        kinds = {name: m.to_dict() for name, m in self.defects.items()}
        patterns = {name: m.to_dict() for name, m in self.patterns.items()}
        return {"all": self.all.to_dict(), "defects": kinds, "patterns": patterns}


@dataclass(frozen=True)
class Evaluation:
    """Figures of a test; ``mean`` is over categories that have the figure, its reason names those that do not."""

    categories: dict[str, CategoryMetrics]
    mean: Metrics

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.to_dict(), "categories": {n: c.to_dict() for n, c in self.categories.items()}}


@dataclass
class _Category:
    centre: float | None = None
    rows: dict[str, PartFacts] = field(default_factory=dict)
    histograms: dict[tuple[str, bool, str], PixelHistogram] = field(default_factory=dict)


class Evaluator:
    """Takes parts one by one and gives the figures at the end.

    Parameters
    ----------
    limits : FPR limits of AUPRO, above 0 to 1
    compat : ``"mvtec100"`` adds AUPRO as the 100-threshold code computes it, ``aupro_0.3_mvtec100``
    resamples : draws for intervals over parts, 0 for none; some 10 kB are kept a part
    level : of the intervals
    seed : of the draws

    Raises :class:`InputError` for values out of range.
    """

    def __init__(
        self,
        *,
        limits: Sequence[float] = LIMITS,
        compat: Compat | None = None,
        resamples: int = 0,
        level: float = 0.95,
        seed: int = 0,
    ) -> None:
        if any(not 0 < limit <= 1 for limit in limits):
            raise InputError(f"AUPRO limits {list(limits)} are outside their range, above 0 to 1", code="input.range")
        if resamples and resamples < 40:
            raise InputError(
                f"{resamples} resamples are too few for an interval; 0, or 40 and more", code="input.range"
            )
        if compat not in (None, "mvtec100"):
            raise InputError(f"AUPRO compat {compat!r} is not known; allowed: 'mvtec100'", code="input.choice")
        check_level(level)
        self.settings = _figures.Settings(tuple(limits), compat, resamples, level, (seed,))
        self._categories: dict[str, _Category] = {}

    def add(self, part: PartScore) -> None:
        """Count one part.

        Raises :class:`InputError` for a score or a counted pixel that is NaN or infinite, and for sizes that differ;
        :class:`DatasetError` for a part given twice and for a good part with defective pixels.
        """
        name = f"{part.category}/{part.key}" if part.category else part.key
        category = self._categories.get(part.category, _Category())
        if part.key in category.rows:
            raise DatasetError(f"part {name} is given twice; each part of a test counts once", code="dataset.duplicate")
        if not np.isfinite(part.score):
            raise InputError(f"score of part {name} is {part.score}; it must be finite", code="input.not_finite")
        mask = _checked_mask(part, name)
        state = _pixel_state(part, mask)
        bins = self._count_pixels(category, part, mask, name) if state == "counted" else None
        facts = PartFacts(part.label, bool(part.defective), part.pattern, float(part.score), state, bins)
        category.rows[part.key] = facts
        self._categories[part.category] = category  # only now: a refused part leaves nothing behind

    def _count_pixels(self, category: _Category, part: PartScore, mask: Bool | None, name: str) -> Bins | None:
        assert part.map is not None
        centre = category.centre
        if centre is None:
            centre = centre_of(part.map, None if part.ignore is None else ~part.ignore)
        group = (part.label, bool(part.defective), part.pattern)
        histogram = category.histograms.get(group) or PixelHistogram(centre)
        what = f"map of part {name}"
        histogram.add(part.map, mask, ignore=part.ignore, part=part.part, name=what)
        category.centre, category.histograms[group] = centre, histogram
        if not self.settings.resamples:
            return None
        own = PixelHistogram(centre, COARSE)
        own.add(part.map, mask, ignore=part.ignore, part=part.part, name=what)
        return own.bins()

    def drop(self, category: str) -> None:
        """Forget the parts of a category, as if none had been given: for a test that could not be finished."""
        self._categories.pop(category, None)

    def curves(self, category: str) -> tuple[Steps, Steps]:
        """What the curves of a category are drawn from: all parts, and all pixels.

        Raises :class:`InputError` (``input.empty``) for a category without parts.
        """
        if category not in self._categories:
            raise InputError(f"no parts of {category!r} were given to evaluate", code="input.empty")
        found = self._categories[category]
        rows = list(found.rows.values())
        parts = steps_of(np.array([r.score for r in rows]), np.array([r.defective for r in rows], np.bool_))
        bins = [h.bins() for h in found.histograms.values()]
        return parts, merged(bins).steps() if bins else steps_of(np.zeros(0), np.zeros(0, np.bool_))

    def result(self) -> Evaluation:
        """The figures of the parts so far. Raises :class:`InputError` if there are none."""
        if not self._categories:
            raise InputError("no parts were given to evaluate", code="input.empty")
        found = {name: self._category(name, c) for name, c in sorted(self._categories.items())}
        metrics = {name: c for name, (c, _) in found.items()}
        return Evaluation(metrics, self._mean(metrics, {name: draws for name, (_, draws) in found.items()}))

    def _category(self, name: str, category: _Category) -> tuple[CategoryMetrics, dict[str, NDArray[np.float64]]]:
        groups = {group: h.bins() for group, h in category.histograms.items()}
        rows = list(category.rows.values())
        # Categories are drawn apart from each other, and the same whichever others there are.
        settings = replace(self.settings, seed=(*self.settings.seed, zlib.crc32(name.encode())))

        def measured(label: str | None = None, pattern: str | None = None) -> tuple[Metrics, dict[str, NDArray[Any]]]:
            some = [r for r in rows if r.belongs(label, pattern)]
            bins = [b for (lab, bad, pat), b in groups.items() if _belongs(lab, bad, pat, label, pattern)]
            figures, draws = _figures.figures_of(some, bins, settings)
            return Metrics(_counts(some), figures), draws

        whole, draws = measured()
        kinds = sorted({r.label for r in rows if r.defective})
        patterns = sorted({r.pattern for r in rows})
        by_kind = {label: measured(label=label)[0] for label in kinds}
        by_pattern = {p: measured(pattern=p)[0] for p in patterns} if len(patterns) > 1 else {}
        return CategoryMetrics(whole, by_kind, by_pattern), draws

    def _mean(
        self, categories: dict[str, CategoryMetrics], draws: dict[str, dict[str, NDArray[np.float64]]]
    ) -> Metrics:
        figures = {}
        for name in next(iter(categories.values())).all.figures:
            each = {c: m.all[name] for c, m in categories.items()}
            having = {c: f.value for c, f in each.items() if f.value is not None}
            lacking = "; ".join(f"{c or 'all parts'}: {f.reason}" for c, f in each.items() if f.value is None)
            if not having:
                figures[name] = Figure(None, lacking)
                continue
            drawn = [draws[c][name] for c in having if name in draws[c]]
            joint = np.mean(drawn, axis=0) if len(drawn) == len(having) else np.zeros(0)
            spread = with_interval(float(np.mean(list(having.values()))), joint, self.settings.level)
            if len(categories) == 1:  # the category's own interval knows of labels wholly apart
                spread = next(iter(each.values()))
            figures[name] = Figure(spread.value, f"without {lacking}" if lacking else "", spread.low, spread.high)
        counts = [m.all.counts for m in categories.values()]
        return Metrics({key: sum(c[key] for c in counts) for key in counts[0]}, figures)


def evaluate(parts: Iterable[PartScore], **settings: Any) -> Evaluation:
    """The figures of a stream of parts; settings and errors as :class:`Evaluator`."""
    evaluator = Evaluator(**settings)
    for part in parts:
        evaluator.add(part)
    return evaluator.result()


def _checked_mask(part: PartScore, name: str) -> Bool | None:
    """The mask as bool, after the sizes were compared."""
    shape = None if part.map is None else np.shape(part.map)
    for what, array in (("mask", part.mask), ("ignore mask", part.ignore), ("part mask", part.part)):
        if array is not None and shape is not None and np.shape(array) != shape:
            raise InputError(
                f"{what} of part {name} is {'×'.join(map(str, np.shape(array)))}, its map "
                f"{'×'.join(map(str, shape))}; both must have one size",
                hint="warp the map back to the size of the mask as it was drawn; do not shrink the mask",
                code="input.shape",
            )
        if array is not None and what != "mask":
            check_array(f"{what} of part {name}", array, ndim=2, dtypes=("bool",))
    if part.mask is None:
        return None
    mask = np.asarray(check_array(f"mask of part {name}", part.mask, ndim=2, dtypes=("bool", "uint8")) != 0)
    if not part.defective and mask.any():
        raise DatasetError(
            f"part {name} is good, but its mask has {int(mask.sum())} defective pixels",
            hint="correct its label or its mask",
            code="dataset.label_mask",
        )
    return mask


def _pixel_state(part: PartScore, mask: Bool | None) -> str:
    if part.map is None:
        return "without_map"
    if not part.defective:
        return "counted"
    if mask is None:
        return "without_mask"
    counted = mask if part.ignore is None else mask & ~part.ignore
    return "counted" if counted.any() else "empty_mask"


def _belongs(label: str, defective: bool, pattern: str, wanted: str | None, wanted_pattern: str | None) -> bool:
    kind = wanted is None or not defective or label == wanted
    return kind and (wanted_pattern is None or pattern == wanted_pattern)


def _counts(rows: Sequence[PartFacts]) -> dict[str, int]:
    states = {s: sum(r.state == s for r in rows) for s in ("without_map", "without_mask", "empty_mask")}
    defective = sum(r.defective for r in rows)
    return {"good": len(rows) - defective, "defective": defective} | states
