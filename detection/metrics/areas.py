"""Areas under curves and F1-max: how well a score tells defective from good, for parts and for pixels alike.

Everything comes from one table, :class:`Steps`: at each threshold, how many good and defective items lie there. It is made
from the scores themselves (exact) or from histograms (:mod:`rakelight.detection.metrics.streaming`), so that both forms share
one set of formulas. A threshold t calls an item defective where score ≥ t; items of equal score change sides together, which
the areas take as a straight line (a tie counts one half).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """One measured figure: ``value``, or None and the ``reason`` why it is not defined; ``low`` … ``high`` its interval.

    The reason of a mean that has a value says what it is a mean without.
    """

    value: float | None
    reason: str = ""
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the parts that say nothing."""
        if self.value is None:
            return {"value": None, "reason": self.reason}
        interval = {} if self.low is None else {"low": self.low, "high": self.high}
        return {"value": self.value} | interval | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True)
class F1Max(Figure):
    """Largest F1, the ``threshold`` (score ≥ threshold) that gives it, and the ``floor`` any score at all reaches."""

    threshold: float | None = None
    floor: float | None = None

    def to_dict(self) -> dict[str, Any]:
        if self.value is None:
            return super().to_dict()
        return super().to_dict() | {"threshold": self.threshold, "floor": self.floor}


@dataclass(frozen=True, eq=False)
class Steps:
    """What lies at and above each threshold, thresholds in descending order.

    values : (K,) float, the thresholds
    above, reached : (..., K) float, normal items with score > and ≥ threshold
    defect : (..., K) float, defective items at the threshold (from here up to the next higher one)
    region : (..., K) float or None, what these items add to PRO: 1 / (regions × pixels of their region); sums to 1
    normals : (...,) float, all normal items

    Leading axes are resamples. Thresholds without a defective item may be left out: no figure here changes between two
    defective scores but for the worse.
    """

    values: NDArray[Any]
    above: FloatArray
    reached: FloatArray
    defect: FloatArray
    region: FloatArray | None
    normals: FloatArray

    @property
    def defects(self) -> FloatArray:
        """(...,) all defective items."""
        return np.asarray(self.defect.sum(axis=-1))

    def lacks(self, item: str = "item") -> str:
        """Why no figure is defined, or an empty string; only without leading axes."""
        if not float(self.defects):
            return f"no defective {item}"
        return "" if float(self.normals) else f"no normal {item}"


def make_steps(values: NDArray[Any], normal: FloatArray, defect: FloatArray, region: FloatArray | None = None) -> Steps:
    """Steps from counts (..., K) at thresholds ``values`` (K,), descending."""
    reached = np.cumsum(normal, axis=-1)
    total = reached[..., -1] if normal.shape[-1] else np.zeros(normal.shape[:-1])
    return Steps(values, reached - normal, reached, defect, region, np.asarray(total))


def steps_of(scores: ArrayLike, defective: ArrayLike, counts: FloatArray | None = None) -> Steps:
    """Steps of scores (n,), ``defective`` (n,) bool; ``counts`` (..., n) how often each item counts (default: once).

    Raises :class:`InputError` when lengths differ or a score is NaN or infinite.
    """
    s = check_array("scores", scores, ndim=1, finite=True)
    d = check_array("defective", defective, ndim=1, dtypes=("bool",))
    if s.shape != d.shape:
        raise InputError(f"{len(s)} scores but {len(d)} labels; one label a score is needed", code="input.shape")
    if not len(s):
        return make_steps(s, np.zeros(0), np.zeros(0))
    order = np.argsort(-s.astype(np.float64), kind="stable")
    values = s[order]
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    often = (np.ones(len(s)) if counts is None else counts)[..., order]
    good = np.add.reduceat(often * ~d[order], starts, axis=-1)
    return make_steps(values[starts], good, np.add.reduceat(often * d[order], starts, axis=-1))


def partial_area(steps: Steps, weight: FloatArray, limit: float = 1.0) -> FloatArray:
    """(1/L) ∫₀ᴸ y d FPR of the curve y(t) = Σ weight at scores ≥ t, linear between its points; (...,) float64.

    Every item of score s adds its weight times ∫₀ᴸ r(f) df, where r is 0 up to FPR(> s), 1 from FPR(≥ s) on and linear
    between: summed up item by item, nothing depends on how finely the curve is sampled. ``weight`` (..., K) sums to 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = steps.above / steps.normals[..., None], steps.reached / steps.normals[..., None]
        end = np.minimum(high, limit)
        part = np.where(high > low, (end - low) ** 2 / (2 * (high - low)), 0.0)  # on the slope, up to the limit
    part = np.where(low < limit, part + (limit - end), 0.0)
    return np.asarray((weight * part).sum(axis=-1) / limit)


def auroc_values(steps: Steps) -> FloatArray:
    """(...,) AUROC of steps that hold both kinds."""
    return partial_area(steps, steps.defect / steps.defects[..., None])


def average_precision_values(steps: Steps) -> FloatArray:
    """(...,) average precision of steps that hold both kinds."""
    true = np.cumsum(steps.defect, axis=-1)
    precision = true / np.maximum(true + steps.reached, 1e-300)
    return np.asarray((steps.defect * precision).sum(axis=-1) / steps.defects)


def f1_values(steps: Steps) -> FloatArray:
    """(..., K) F1 = 2TP / (2TP + FP + FN) at each threshold."""
    true = np.cumsum(steps.defect, axis=-1)
    return np.asarray(2 * true / (true + steps.reached + steps.defects[..., None]))


def f1_floor(prevalence: float) -> float:
    """2π / (1 + π): the F1 of calling everything defective, hence the least F1-max there is at prevalence π.

    Lipton, Elkan, Naryanaswamy: Optimal thresholding of classifiers to maximize F1 measure (ECML 2014), §4.
    """
    return 2 * prevalence / (1 + prevalence)


def auroc_of(steps: Steps, item: str = "item") -> Figure:
    """AUROC of steps, or None and why."""
    lacks = steps.lacks(item)
    return Figure(None, lacks) if lacks else Figure(float(auroc_values(steps)))


def average_precision_of(steps: Steps, item: str = "item") -> Figure:
    """Average precision of steps, or None and why."""
    lacks = steps.lacks(item)
    return Figure(None, lacks) if lacks else Figure(float(average_precision_values(steps)))


def f1_max_of(steps: Steps, item: str = "item") -> F1Max:
    """F1-max of steps with its threshold and floor, or None and why."""
    lacks = steps.lacks(item)
    if lacks:
        return F1Max(None, lacks)
    f1 = f1_values(steps)
    best = int(np.argmax(f1))
    floor = f1_floor(float(steps.defects / (steps.defects + steps.normals)))
    return F1Max(float(f1[best]), threshold=float(steps.values[best]), floor=floor)


def auroc(scores: ArrayLike, defective: ArrayLike) -> Figure:
    """P(score of a random defective item > that of a random normal one), ties ½ (Hanley & McNeil 1982: the Mann–Whitney U).

    ``scores`` (n,) float, higher is more anomalous; ``defective`` (n,) bool. None with a reason where one kind is missing.
    Raises :class:`InputError` when lengths differ or a score is NaN or infinite.
    """
    return auroc_of(steps_of(scores, defective))


def average_precision(scores: ArrayLike, defective: ArrayLike) -> Figure:
    """Σ (Rₙ − Rₙ₋₁) Pₙ over descending thresholds, R recall and P precision, no interpolation. Arguments as :func:`auroc`."""
    return average_precision_of(steps_of(scores, defective))


def f1_max(scores: ArrayLike, defective: ArrayLike) -> F1Max:
    """Largest 2TP / (2TP + FP + FN) over all thresholds. Arguments as :func:`auroc`.

    It is chosen with the test's labels and never falls below :func:`f1_floor`: a figure to compare, no threshold to use.
    """
    return f1_max_of(steps_of(scores, defective))
