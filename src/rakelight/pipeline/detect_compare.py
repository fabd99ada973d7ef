"""Methods side by side on the products of a data set, as the paper's tables have them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rakelight.dataset.writer import Dataset
from rakelight.detection.methods import Method
from rakelight.detection.metrics.evaluation import Evaluation, Evaluator
from rakelight.pipeline.detect_evaluate import part_score, test_keys, tested
from rakelight.pipeline.detect_teach import good_keys, teach_category

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Figures of every method; ``seen_by``: method → category → label → modalities named, one a rejected or defective part."""

    evaluations: dict[str, Evaluation]
    seen_by: dict[str, dict[str, dict[str, list[str]]]]
    seconds: dict[str, dict[str, float]]
    notes: tuple[str, ...]

    def rows(self, figure: str) -> list[tuple[str, ...]]:
        """A row a product and one of the means; a cell is the figure with its interval."""
        products = sorted({name for e in self.evaluations.values() for name in e.categories})
        table = []
        for product in [*products, "mean"]:
            cells = []
            for evaluation in self.evaluations.values():
                metrics = evaluation.mean if product == "mean" else evaluation.categories[product].all
                found = metrics[figure]
                if found.value is None:
                    cells.append("–")
                elif found.low is None or found.high is None:
                    cells.append(f"{found.value:.3f}")
                else:
                    cells.append(f"{found.value:.3f} ({found.low:.2f}–{found.high:.2f})")
            table.append((product, *cells))
        return table

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "methods": {name: e.to_dict() for name, e in self.evaluations.items()},
            "seen_by": self.seen_by,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def compare(
    dataset: Dataset,
    categories: Sequence[str],
    methods: Sequence[Method],
    *,
    split: str | None = None,
    parts: int | None = None,
    device: str = "cpu",
    resamples: int = 1000,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Teach every method every product and test it.

    ``parts``: teach the first so many good parts and test all others, whatever the split says. Raises as
    :func:`good_keys`, :func:`test_keys` and :func:`teach_category`.
    """
    evaluations: dict[str, Evaluation] = {}
    seen: dict[str, dict[str, dict[str, list[str]]]] = {}
    seconds: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    for method in methods:
        evaluator = Evaluator(resamples=resamples, seed=method.seed)
        seen[method.name] = {}
        spent = seconds.setdefault(method.name, {"teach": 0.0, "score_each": 0.0})
        count = 0
        for category in categories:
            label = f"{method.name}, {category}: "

            def step(name: str, done: int, total: int, label: str = label) -> None:
                progress(label + name, done, total)

            keys = good_keys(dataset, category, split, limit=parts)
            started = time.perf_counter()
            detector, warnings = teach_category(dataset, category, keys, method, device=device, progress=step)
            spent["teach"] += time.perf_counter() - started
            notes += [w for w in warnings if w not in notes]
            wanted = test_keys(dataset, category, [detector], split if parts is None else None)
            rows = seen[method.name].setdefault(category, {})
            started = time.perf_counter()
            for one in tested(dataset, detector, wanted, device=device, progress=step):
                evaluator.add(part_score(one, category))
                rows.setdefault(one.label, []).append(one.verdict.seen_by)
                count += 1
            spent["score_each"] += time.perf_counter() - started
        spent["score_each"] /= max(1, count)
        evaluations[method.name] = evaluator.result()
    return Comparison(evaluations, seen, seconds, tuple(notes))
