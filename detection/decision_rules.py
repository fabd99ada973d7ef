"""The rules by which scores of several banks become one: fitted on good parts, stored as a few numbers.

See :mod:`rakelight.detection.decision` for what they mean and when which is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import ModelError

Array = NDArray[np.float64]
Method = Literal["zsum", "max", "ocsvm", "mahalanobis"]
_MOST_ROWS = 20_000  # the SVM and the correlation are fitted on; more rows change nothing
_NU, _MAX_ITER = 0.5, 1000  # as M3DM sets them


@dataclass(frozen=True, eq=False)
class Rule:
    """A fitted rule for b banks.

    Attributes
    ----------
    location, scale : (b,) float64
        Median and robust standard deviation of each bank's scores of good parts.
    coef : (b,) float64
        Weights of the one-class SVM on the scores as they are; empty for the other methods.
    offset : float
        The SVM's offset ρ: w·s − ρ is its decision function. Kept for the record; ranks do not need it.
    precision : (b, b) float64
        R⁻¹ of the Mahalanobis rule; empty for the others.
    """

    method: Method
    location: Array
    scale: Array
    coef: Array
    offset: float
    precision: Array

    def apply(self, scores: Array) -> Array:
        """Scores (n, b) to fused ones (n,); larger is stranger."""
        if self.method == "ocsvm":
            return scores @ self.coef
        z = (scores - self.location) / self.scale
        if self.method == "zsum":
            return z.sum(axis=1)
        if self.method == "max":
            return z.max(axis=1)
        above = np.maximum(z, 0)
        return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", above, self.precision, above), 0))

    def excess(self, scores: Array) -> Array:
        """How much each of the scores (b,) adds above its bank's median, not below 0, in the rule's own weighting."""
        above = np.maximum(scores - self.location, 0)
        if self.method == "ocsvm":
            return above * self.coef
        z = above / self.scale
        return np.where(z == z.max(), z, 0) if self.method == "max" else z

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        arrays = {name: getattr(self, name).tolist() for name in ("location", "scale", "coef", "precision")}
        return {"method": self.method, "offset": self.offset} | arrays

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rule:
        """Inverse of :meth:`to_dict`; KeyError, TypeError or ValueError if it cannot be read."""
        arrays = {name: np.asarray(data[name], np.float64) for name in ("location", "scale", "coef", "precision")}
        return cls(method=data["method"], offset=float(data["offset"]), **arrays)


def fit_rule(scores: Array, method: Method, factors: Array | None, seed: int) -> Rule:
    """Fit a rule on scores (n, b) of good parts, without NaN; ``factors`` (b,) are M3DM's lambdas, by default 1 / median."""
    location, scale = np.median(scores, axis=0), robust_scale(scores)
    coef, offset, precision = np.empty(0), 0.0, np.empty((0, 0))
    if len(scores) > _MOST_ROWS:
        scores = scores[np.random.default_rng(seed).choice(len(scores), _MOST_ROWS, replace=False)]
    if method == "ocsvm":
        coef, offset = _one_class_svm(scores, _relative(location) if factors is None else factors)
    elif method == "mahalanobis":
        precision = _precision((scores - location) / scale)
    return Rule(method, location, scale, coef, offset, precision)


def robust_scale(scores: Array) -> Array:
    """1.4826·MAD of each column of (n, b).

    Not below a quarter of the standard deviation (half of the values may be equal), nor below a millionth of the median or
    1e-12 (all may be), so that it can be divided by.
    """
    middle = np.median(scores, axis=0)
    mad = 1.4826 * np.median(np.abs(scores - middle), axis=0)
    return np.maximum.reduce([mad, 0.25 * scores.std(axis=0), 1e-6 * np.abs(middle), np.full(len(middle), 1e-12)])


def centre_and_spread(values: NDArray[np.floating]) -> tuple[float, float]:
    """Median and :func:`robust_scale` of numbers (n,), NaN left out."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(np.median(known)), float(robust_scale(known[:, None])[0])


def _relative(location: Array) -> Array:
    return 1 / np.where(location > 0, location, 1)


def _one_class_svm(scores: Array, factors: Array) -> tuple[Array, float]:
    from sklearn.linear_model import SGDOneClassSVM

    if scores.min() < 0:
        raise ModelError(
            f"the one-class SVM weighs distances, which are 0 or more; a calibration score is {scores.min():.4g}",
            hint='use fusion "zsum" for scores that can be negative',
            code="model.svm_sign",
        )
    if scores.shape[1] == 1:
        return factors, 0.0  # any positive weight ranks the same
    # Its weights are a fixed function of the data but for the order in which rows are visited: the state is M3DM's.
    svm = SGDOneClassSVM(random_state=42, nu=_NU, max_iter=_MAX_ITER).fit(scores * factors)
    weights = np.asarray(svm.coef_, np.float64).reshape(-1) * factors
    fused = scores @ weights
    common = (scores * factors).sum(axis=1)
    if weights.min() < 0 or weights.max() <= 0 or np.cov(fused, common)[0, 1] < 0:
        raise ModelError(
            f"the one-class SVM found the weights {np.round(weights, 6).tolist()}, which do not all point towards larger distances",
            hint='use fusion "zsum"',
            code="model.svm_sign",
        )
    return weights, float(np.ravel(svm.offset_)[0])


def _precision(z: Array) -> Array:
    from sklearn.covariance import ledoit_wolf

    if z.shape[1] == 1:
        return np.ones((1, 1))
    covariance = ledoit_wolf(np.clip(z, -4, 4))[0] + 1e-6 * np.eye(z.shape[1])
    width = np.sqrt(np.diag(covariance))
    return np.asarray(np.linalg.inv(covariance / np.outer(width, width)), np.float64)
