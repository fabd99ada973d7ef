"""Configurations side by side on the products of a data set: each is taught and tested, and what it says is counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rakelight.dataset.writer import Dataset
from rakelight.detection.conformal import needed_parts
from rakelight.detection.detector import Detector
from rakelight.detection.methods import Method
from rakelight.detection.metrics.areas import FloatArray, Steps
from rakelight.detection.metrics.evaluation import Evaluation, Evaluator
from rakelight.detection.metrics.pro import pro_curve
from rakelight.errors import DatasetError, RakelightError
from rakelight.pipeline.detect_configurations import Configuration
from rakelight.pipeline.detect_evaluate import Tested, part_score, tested
from rakelight.pipeline.detect_holdout import Chooser, Chosen
from rakelight.pipeline.detect_names import check_category
from rakelight.pipeline.detect_teach import teach_category
from rakelight.pipeline.levels import too_few
from rakelight.pipeline.thinned_sample import opener

Progress = Callable[[str, int, int], None]
Watch = Callable[[Configuration, str, Detector, Tested], None]
PRO_LIMIT = 0.3
_CORNERS = 200  # of a curve that is kept


@dataclass
class Counts:
    """Of one configuration and product: verdicts by label, modalities named (of rejected and of defective parts), and how
    many could not be rejected whatever their score (``undecided``: too few good parts in the calibration)."""

    tested: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    seen_by: dict[str, Counter[str]] = field(default_factory=dict)
    undecided: Counter[str] = field(default_factory=Counter)

    def add(self, one: Tested) -> None:
        self.tested[one.label] += 1
        self.rejected[one.label] += one.verdict.judgement.rejected
        self.undecided[one.label] += not np.isfinite(one.verdict.judgement.threshold)
        if one.defective or one.verdict.judgement.rejected:
            self.seen_by.setdefault(one.label, Counter())[one.verdict.seen_by] += 1

    def to_dict(self) -> dict[str, Any]:
        return {
            label: {
                "tested": n,
                "rejected": self.rejected[label],
                "undecided": self.undecided[label],
                "seen_by": dict(self.seen_by.get(label, {})),
            }
            for label, n in sorted(self.tested.items())
        }


@dataclass(frozen=True, eq=False)
class Curves:
    """Corners (n, 2) of ROC over parts (false alarms, found) and of PRO over pixels up to FPR 0.3; None where undefined."""

    roc: FloatArray | None
    pro: FloatArray | None

    def to_dict(self) -> dict[str, Any]:
        return {
            name: None if c is None else np.round(c, 5).tolist() for name, c in (("roc", self.roc), ("pro", self.pro))
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came out, by name of the configuration and product.

    ``failures`` says why a product is absent in a configuration; ``seen_by``: configuration → product → label → modality named,
    one a part of the test.
    """

    configurations: tuple[Configuration, ...]
    evaluations: dict[str, Evaluation]
    failures: dict[str, dict[str, str]]
    counts: dict[str, dict[str, Counts]]
    curves: dict[str, dict[str, Curves]]
    seconds: dict[str, dict[str, float]]
    chosen: dict[str, Chosen]
    notes: tuple[str, ...]
    alpha: float

    @property
    def products(self) -> tuple[str, ...]:
        return tuple(self.chosen)

    @property
    def seen_by(self) -> dict[str, dict[str, dict[str, list[str]]]]:
        return {
            name: {
                c: {label: list(found.elements()) for label, found in n.seen_by.items()} for c, n in products.items()
            }
            for name, products in self.counts.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; figures stand under ``methods``."""
        verdicts = {name: {c: n.to_dict() for c, n in each.items()} for name, each in self.counts.items()}
        return {
            "methods": {name: e.to_dict() for name, e in self.evaluations.items()},
            "configurations": {c.name: c.method.to_dict() | {"fewer_points": c.thin} for c in self.configurations},
            "parts": {c: chosen.to_dict() for c, chosen in self.chosen.items()},
            "alpha": self.alpha,
            "verdicts": verdicts,
            "curves": {name: {c: v.to_dict() for c, v in each.items()} for name, each in self.curves.items()},
            "failures": self.failures,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def compare(
    dataset: Dataset,
    categories: Sequence[str],
    methods: Sequence[Method | Configuration],
    *,
    split: str | None = None,
    parts: int | None = None,
    seed: int = 0,
    alpha: float = 0.05,
    device: str = "cpu",
    resamples: int = 1000,
    progress: Progress = lambda *_: None,
    watch: Watch = lambda *_: None,
) -> Comparison:
    """Teach every configuration every product and test it.

    Parameters
    ----------
    split, parts, seed : see :class:`rakelight.pipeline.detect_holdout.Chooser`
    alpha : float
        False-alarm level of the verdicts that are counted.
    resamples : int
        Draws for intervals over parts.
    watch : callable
        Gets every part as it is judged; parts are not kept.

    Raises
    ------
    DatasetError
        ``detect.no_category``; what choosing parts raises, before anything is taught.
    RakelightError
        What teaching or testing raises, if it fails everywhere. Where only some fail they are told in ``failures``.
    """
    run = _Run(dataset, alpha, device, progress, watch)
    products = _known(dataset, categories)
    chooser = Chooser(dataset, split=split, parts=parts, seed=seed)
    chosen = {category: chooser.choose(category) for category in products}
    every = [m if isinstance(m, Configuration) else Configuration(m.name, m) for m in methods]
    evaluations: dict[str, Evaluation] = {}
    for configuration in every:
        evaluator = Evaluator(resamples=resamples, seed=configuration.method.seed)
        for category in products:
            run.one(configuration, category, chosen[category], evaluator)
        if run.counts[configuration.name]:
            progress(f"{configuration.name}: figures and intervals", 0, 1)
            evaluations[configuration.name] = evaluator.result()
    if not evaluations and run.first is not None:
        raise run.first
    seconds = {
        name: {"teach": t["teach"], "score_each": t["score"] / max(1.0, t["scored"])} for name, t in run.seconds.items()
    }
    return Comparison(
        tuple(every), evaluations, run.failures, run.counts, run.curves, seconds, chosen, tuple(run.notes), alpha
    )


class _Run:
    """What is gathered on the way."""

    def __init__(self, dataset: Dataset, alpha: float, device: str, progress: Progress, watch: Watch) -> None:
        self.dataset, self.alpha, self.device, self.progress, self.watch = dataset, alpha, device, progress, watch
        self.counts: dict[str, dict[str, Counts]] = {}
        self.curves: dict[str, dict[str, Curves]] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        self.failures: dict[str, dict[str, str]] = {}
        self.notes: list[str] = []
        self.first: RakelightError | None = None

    def one(self, configuration: Configuration, category: str, chosen: Chosen, evaluator: Evaluator) -> None:
        """Teach and test one product; what fails is noted, and nothing of it stays in the figures."""
        counts = self.counts.setdefault(configuration.name, {})
        try:
            found = self._judged(configuration, category, chosen, evaluator)
        except RakelightError as error:
            evaluator.drop(category)
            self.first = self.first or error
            self.failures.setdefault(configuration.name, {})[category] = str(error)
            return
        counts[category] = found
        self.curves.setdefault(configuration.name, {})[category] = curves_of(*evaluator.curves(category))

    def _judged(self, configuration: Configuration, category: str, chosen: Chosen, evaluator: Evaluator) -> Counts:
        def step(name: str, done: int, total: int) -> None:
            self.progress(f"{configuration.name}, {category}: {name}", done, total)

        opened = opener(configuration.thin)
        times = self.seconds.setdefault(configuration.name, {"teach": 0.0, "score": 0.0, "scored": 0.0})
        started = time.perf_counter()
        detector, warnings = teach_category(
            self.dataset, category, chosen.teach, configuration.method, device=self.device, opened=opened, progress=step
        )
        times["teach"] += time.perf_counter() - started
        self.notes += [w for w in warnings if w not in self.notes]
        counts = Counts()
        started = time.perf_counter()
        for one in tested(
            self.dataset, detector, chosen.test, alpha=self.alpha, device=self.device, opened=opened, progress=step
        ):
            times["score"] += time.perf_counter() - started
            times["scored"] += 1
            evaluator.add(part_score(one, category))
            counts.add(one)
            self.watch(configuration, category, detector, one)
            started = time.perf_counter()
        if detector.calibration_parts < needed_parts(self.alpha):
            told = f"{category}: {too_few(detector.calibration_parts, self.alpha)}; AUROC and its like do not depend on the level"
            self.notes += [told] * (told not in self.notes)  # of many configurations it is said once
        return counts


def _known(dataset: Dataset, categories: Sequence[str]) -> list[str]:
    wanted = list(dict.fromkeys(categories)) or list(dataset.categories())
    if not wanted:
        raise DatasetError(
            f"{dataset.root} has no samples yet: there is nothing to evaluate",
            hint="add parts with `rakelight dataset add`",
            code="detect.no_category",
        )
    for category in wanted:
        check_category(dataset, category)
    return wanted


def curves_of(parts: Steps, pixels: Steps) -> Curves:
    """The curves of a product with at most some 200 corners each; the ends stay."""
    roc = None
    if not parts.lacks():
        found = np.cumsum(parts.defect) / parts.defects
        corners = np.column_stack([parts.reached / parts.normals, found])
        roc = _fewer(np.concatenate([[[0.0, 0.0]], corners]))
    pro = None
    if pixels.region is not None and not pixels.lacks():
        pro = _fewer(np.column_stack(pro_curve(pixels, PRO_LIMIT)))
    return Curves(roc, pro)


def _fewer(corners: FloatArray) -> FloatArray:
    """Those corners at which the way along the curve has come so far again."""
    if len(corners) <= _CORNERS:
        return np.asarray(corners)
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(corners, axis=0)).sum(axis=1))])
    at = np.searchsorted(way, np.linspace(0, way[-1], _CORNERS))
    return np.asarray(corners[np.unique(np.append(np.minimum(at, len(corners) - 1), [0, len(corners) - 1]))])
