"""Figures and their draws of one group of parts, for :mod:`rakelight.detection.metrics.evaluation`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from rakelight.detection.metrics.areas import (
    Figure,
    FloatArray,
    Steps,
    auroc_of,
    auroc_values,
    average_precision_of,
    average_precision_values,
    f1_max_of,
    f1_values,
    make_steps,
    partial_area,
    steps_of,
)
from rakelight.detection.metrics.bootstrap import auroc_figure, draw_counts, in_blocks, interval
from rakelight.detection.metrics.pro import Bool, Compat, aupro_of
from rakelight.detection.metrics.streaming import Bins, merged

_GROUPS = 1024  # bins of an interval's histograms
Draws = dict[str, FloatArray]
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """As in :class:`rakelight.detection.metrics.evaluation.Evaluator`."""

    limits: tuple[float, ...]
    compat: Compat | None
    resamples: int
    level: float
    seed: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PartFacts:
    """What is kept of a part; ``state`` tells whether its pixels count, ``bins`` are its own (only for intervals)."""

    label: str
    defective: bool
    pattern: str
    score: float
    state: str
    bins: Bins | None

    def belongs(self, label: str | None, pattern: str | None) -> bool:
        """Whether it is one of those to judge the defect ``label``, or the ``pattern``, by; None: all."""
        return (label is None or not self.defective or self.label == label) and pattern in (None, self.pattern)

    @property
    def stratum(self) -> str:
        return f"{'defective' if self.defective else 'good'} {self.label}"


def figures_of(rows: Sequence[PartFacts], bins: Sequence[Bins], settings: Settings) -> tuple[dict[str, Figure], Draws]:
    """Figures of a group of parts with intervals, and the draws behind these."""
    scores, defective = np.array([r.score for r in rows]), np.array([r.defective for r in rows], np.bool_)
    steps = steps_of(scores, defective)
    figures = {
        "i_auroc": auroc_of(steps, "part"),
        "i_ap": average_precision_of(steps, "part"),
        "i_f1_max": f1_max_of(steps, "part"),
    } | _pixel_figures(bins, settings)
    draws = _image_draws(rows, scores, defective, figures, settings) | _pixel_draws(rows, figures, settings)
    rarer = int(min(defective.sum(), (~defective).sum()))
    for name, drawn in draws.items():
        value = figures[name].value
        if value is None:
            continue
        if name == "i_auroc":
            figures[name] = auroc_figure(value, drawn, rarer, settings.level)
        else:
            ends = interval(value, drawn, settings.level)
            figures[name] = replace(figures[name], low=ends[0], high=ends[1]) if ends else figures[name]
    return figures, draws


def _pixel_figures(bins: Sequence[Bins], settings: Settings) -> dict[str, Figure]:
    names = ["p_auroc", "p_auroc_inside", "p_ap", "p_f1_max"] + [f"aupro_{limit:g}" for limit in settings.limits]
    if settings.compat:
        names += [f"aupro_{limit:g}_{settings.compat}" for limit in settings.limits]
    if not bins:
        return dict.fromkeys(names, Figure(None, "no part has a map and known pixels"))
    total = merged(bins)
    whole, inside = total.steps(), total.steps(inside=True)
    figures = [auroc_of(whole, "pixel"), auroc_of(inside, "pixel on a part")]
    figures += [average_precision_of(whole, "pixel"), f1_max_of(whole, "pixel")]
    figures += [aupro_of(whole, limit) for limit in settings.limits]
    if settings.compat:
        figures += [aupro_of(whole, limit, settings.compat) for limit in settings.limits]
    return dict(zip(names, figures, strict=True))


def _drawn(counts: FloatArray, made: Callable[[FloatArray], T], values: dict[str, Callable[[T], FloatArray]]) -> Draws:
    """Each figure of each draw; what they are computed from is made once a block."""

    def block(some: FloatArray) -> FloatArray:
        base = made(some)
        return np.stack([f(base) for f in values.values()], axis=1)

    joined = in_blocks(block, counts)
    return {name: joined[:, n] for n, name in enumerate(values)}


def _image_draws(
    rows: Sequence[PartFacts],
    scores: FloatArray,
    defective: Bool,
    figures: dict[str, Figure],
    settings: Settings,
) -> Draws:
    if not settings.resamples or figures["i_auroc"].value is None:
        return {}
    counts = draw_counts([r.stratum for r in rows], settings.resamples, settings.seed)
    return _drawn(
        counts,
        lambda some: steps_of(scores, defective, some),
        {
            "i_auroc": auroc_values,
            "i_ap": average_precision_values,
            "i_f1_max": lambda s: np.asarray(f1_values(s).max(axis=-1)),
        },
    )


def _pixel_draws(rows: Sequence[PartFacts], figures: dict[str, Figure], settings: Settings) -> Draws:
    seen = [(r, r.bins) for r in rows if r.bins is not None]
    if not settings.resamples or not seen or figures["p_auroc"].value is None:
        return {}
    table = _grouped([b for _, b in seen])
    regions = np.array([b.regions for _, b in seen], np.float64)
    drawn = draw_counts([r.stratum for r, _ in seen], settings.resamples, settings.seed)
    counts = np.concatenate([np.ones((1, len(seen))), drawn])  # the parts as they are come first
    names = np.arange(table.shape[2])[::-1]

    def steps(some: FloatArray) -> tuple[Steps, Steps]:
        outside, within, defect, region = (some @ table[k] for k in range(4))
        region /= (some @ regions)[:, None]
        return make_steps(names, outside + within, defect, region), make_steps(names, within, defect)

    def area(limit: float) -> Callable[[tuple[Steps, Steps]], FloatArray]:
        return lambda s: partial_area(s[0], np.asarray(s[0].region), limit)

    values: dict[str, Callable[[tuple[Steps, Steps]], FloatArray]] = {
        "p_auroc": lambda s: auroc_values(s[0]),
        "p_ap": lambda s: average_precision_values(s[0]),
        "p_f1_max": lambda s: np.asarray(f1_values(s[0]).max(axis=-1)),
    }
    if figures["p_auroc_inside"].value is not None:
        values["p_auroc_inside"] = lambda s: auroc_values(s[1])
    found = _drawn(counts, steps, values | {f"aupro_{limit:g}": area(limit) for limit in settings.limits})
    # Groups are coarser than the bins of the figure itself, ties cost average precision most: draws are told from the figure
    # of the same groups, and set about the finer one.
    return {n: np.clip(d[1:] - d[0] + (figures[n].value or 0.0), 0.0, 1.0) for n, d in found.items()}


def _grouped(parts: Sequence[Bins]) -> FloatArray:
    """(4, parts, groups): outside, inside, defective, region weight, bins put together, best scores first.

    Groups are quantiles of the normal scores, equally wide in the root of the FPR: a tenth of them below 0.01, more than half
    below 0.35, where AUPRO looks.
    """
    total = merged(parts)
    normal = (total.counts[0] + total.counts[1])[::-1]
    fpr = np.cumsum(normal) / max(1, int(normal.sum()))
    group = np.minimum((np.sqrt(fpr) * _GROUPS).astype(np.int64), _GROUPS - 1)[::-1]
    table = np.zeros((4, len(parts), _GROUPS))
    for n, b in enumerate(parts):
        at = group[np.searchsorted(total.index, b.index)]
        for k in range(4):
            table[k, n] = np.bincount(at, b.region if k == 3 else b.counts[k], _GROUPS)
    return table
