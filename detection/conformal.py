"""Conformal p-values: how rare a score is among good parts, with a guarantee that needs no distribution.

If a new good part and the n calibration parts are exchangeable, p = (1 + number of calibration scores ≥ score) / (n + 1) is
at most α with a probability of at most α (Vovk, Gammerman & Shafer 2005; as anomaly detector: Laxhammar & Falkman 2014,
Bates et al. 2023, Ann. Statist. 51, 149–178). So n parts give no p-value below 1/(n + 1), however strange a part is.

The guarantee is an average over calibration sets. With *one* set in hand the rate of false alarms is itself drawn, from
a beta distribution (:func:`rate_range`). And scores of leave-one-part-out runs are
not quite those of a part that the full bank never saw. Formally they promise 2α: the jackknife+ (Barber et al. 2021, Ann.
Statist. 49, 486–507) compares the new part, scored by each bank in turn, with the part that this bank lacks; the full bank
contains each of these, so its distances are no larger and it rejects no more. That holds for plain distances; coresets,
re-weighting and fused scores keep to it only nearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, chi2

from rakelight.errors import InputError, ModelError

PROVISIONAL_BELOW = 19  # calibration parts: from 19 on, a false-alarm level of 5 % can be promised
ALPHAS = (0.1, 0.05, 0.025, 0.01)


def p_values(
    scores: ArrayLike,
    calibration: ArrayLike,
    *,
    ties: Literal["conservative", "random"] = "conservative",
    seed: int = 0,
) -> NDArray[np.float64]:
    """The p-value of each score: small where few good parts score as high.

    Parameters
    ----------
    scores : array of any shape
        NaN gives NaN.
    calibration : (n,) array
        Scores of good parts that the scorer did not learn from.
    ties : str
        "conservative" counts equal scores as higher: p stays valid. "random" breaks ties (and the step at the score
        itself) by ``seed``: p is uniform then, as a martingale needs it (:mod:`rakelight.detection.drift`).

    Raises
    ------
    ModelError
        No calibration scores, or NaN among them.
    """
    ordered = sorted_scores(calibration)
    values = np.asarray(scores, np.float64)
    at_least = len(ordered) - np.searchsorted(ordered, values, side="left")
    if ties == "conservative":
        p = (1 + at_least) / (len(ordered) + 1)
    else:
        above = len(ordered) - np.searchsorted(ordered, values, side="right")
        share = np.random.default_rng(seed).random(values.shape)
        p = (above + share * (1 + at_least - above)) / (len(ordered) + 1)
    return np.where(np.isnan(values), np.nan, p)


def threshold(calibration: ArrayLike, alpha: float) -> float:
    """The score above which p ≤ α; infinite where n parts are too few for α (n < 1/α − 1).

    It is the k-th smallest calibration score, k = ⌈(n + 1)(1 − α)⌉. Reject what is *greater*.
    """
    check_alpha(alpha)
    ordered = sorted_scores(calibration)
    allowed = _rejectable(len(ordered), alpha)
    return float(ordered[len(ordered) - allowed]) if allowed else math.inf


def rate_range(parts: int, alpha: float, cover: float = 0.9) -> tuple[float, float]:
    """The range that holds the rate of false alarms of one calibration set with probability ``cover``.

    Given the calibration scores, the rate is beta distributed with parameters (a, n + 1 − a), a = ⌊α(n + 1)⌋; (0, 0)
    where no alarm can be given at all.
    """
    check_alpha(alpha)
    allowed = _rejectable(parts, alpha)
    if not allowed:
        return 0.0, 0.0
    law = beta(allowed, parts + 1 - allowed)
    return float(law.ppf((1 - cover) / 2)), float(law.ppf((1 + cover) / 2))


def needed_parts(alpha: float) -> int:
    """The least number of calibration parts with which a false-alarm level of α can be promised: ⌈1/α⌉ − 1."""
    check_alpha(alpha)
    return math.ceil(round(1 / alpha, 9)) - 1


@dataclass(frozen=True)
class Promise:
    """What a calibration can promise at one false-alarm level.

    ``possible``: any alarm can be given at all at this level. ``expected`` is the rate of false alarms that counting gives,
    ``guaranteed`` what theory guarantees of plain distances (fused and re-weighted scores of coresets keep to it nearly),
    ``likely`` the range of :func:`rate_range` for this very calibration. ``provisional``: fewer than 19 parts.
    ``sentences`` say all this to a person.
    """

    parts: int
    alpha: float
    possible: bool
    expected: float
    guaranteed: float
    likely: tuple[float, float]
    provisional: bool
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return vars(self) | {"likely": list(self.likely), "sentences": list(self.sentences)}


def promise(parts: int, alpha: float, *, leave_one_out: bool = True) -> Promise:
    """What ``parts`` calibration parts can promise at false-alarm level ``alpha``.

    ``leave_one_out``: the calibration scores come from leaving one part out at a time, which formally doubles the level.
    """
    check_alpha(alpha)
    if parts < 0:
        raise InputError(f"the number of calibration parts is {parts}; it must be 0 or more", code="conformal.parts")
    possible, provisional = parts >= needed_parts(alpha), parts < PROVISIONAL_BELOW
    likely = rate_range(parts, alpha)
    level = _rejectable(parts, alpha) / (parts + 1)
    guaranteed = min(1.0, 2 * level) if leave_one_out else level
    sentences = []
    if possible:
        sentences.append(
            f"{_count(parts)} in the calibration: about {_percent(level)} of good parts will be rejected "
            f"(nine times out of ten between {_percent(likely[0])} and {_percent(likely[1])})."
        )
    else:
        sentences.append(
            f"{_count(parts)} in the calibration: no part can be rejected at {_percent(alpha)} false alarms, "
            f"since {_percent(1 / (parts + 1))} is the lowest level {parts} can promise."
        )
    following = next((at for at in (alpha, *ALPHAS) if parts < needed_parts(at) and at <= alpha), None)
    if provisional and possible:
        also = following is not None and needed_parts(following) == PROVISIONAL_BELOW
        sentences.append(
            f"The threshold is provisional: with {_count(PROVISIONAL_BELOW - parts, 'more ')} it is firm"
            + (f", and {_percent(1 / (PROVISIONAL_BELOW + 1))} false alarms can be promised." if also else ".")
        )
        following = None if also else following
    if following is not None:
        sentences.append(_more(parts, following, following == alpha))
    return Promise(parts, alpha, possible, level, guaranteed, likely, provisional, tuple(sentences))


def fisher(p: ArrayLike) -> float:
    """Fisher's combination of p-values: the chance of −2·Σ ln p, if they were independent; NaN are left out.

    Only to explain: scores of several modalities of one part are not independent, so this is no guarantee.
    """
    values = _present(p)
    return float(chi2.sf(-2 * np.log(values).sum(), 2 * len(values)))


def harmonic_mean(p: ArrayLike) -> float:
    """The harmonic mean of p-values (Wilson 2019, PNAS 116, 1195–1200), which dependence harms little; NaN are left out.

    Only to explain: as it stands it may be somewhat too small.
    """
    values = _present(p)
    return float(len(values) / (1 / values).sum())


def sorted_scores(calibration: ArrayLike) -> NDArray[np.float64]:
    """Calibration scores ascending; :class:`ModelError` if there are none or some are NaN."""
    ordered = np.sort(np.asarray(calibration, np.float64).reshape(-1))
    if not len(ordered):
        raise ModelError(
            "there are no calibration scores: no threshold and no p-value can be given",
            hint="train with at least 3 good parts",
            code="model.no_calibration",
        )
    if np.isnan(ordered[-1]):
        raise ModelError(
            f"{int(np.isnan(ordered).sum())} of {len(ordered)} calibration scores are NaN", code="model.calibration"
        )
    return ordered


def check_alpha(alpha: float) -> None:
    """:class:`InputError` unless 0 < α < 1."""
    if not 0 < alpha < 1:
        raise InputError(
            f"the false-alarm level alpha is {alpha}; allowed: above 0 and below 1, such as 0.05",
            code="conformal.alpha",
        )


def _rejectable(parts: int, alpha: float) -> int:
    """⌊α(n + 1)⌋, safe against α being a rounded decimal: the ranks, counted from the top, at which p ≤ α."""
    return math.floor(round(alpha * (parts + 1), 9))


def _present(p: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(p, np.float64).reshape(-1)
    values = values[~np.isnan(values)]
    if not len(values) or values.min() <= 0 or values.max() > 1:
        raise InputError(
            f"p-values to combine must be above 0 and at most 1, and at least one; got {p!r}", code="conformal.p"
        )
    return values


def _more(parts: int, alpha: float, asked: bool) -> str:
    """What the level asked for, or else the next one, takes."""
    more = _count(needed_parts(alpha) - parts, "more ")
    if asked:
        return f"{more} for a {_percent(alpha)} false-alarm guarantee."
    return f"The next level, {_percent(alpha)} false alarms, takes {more}."


def _count(parts: int, more: str = "") -> str:
    return f"{parts} {more}good part" + ("" if parts == 1 else "s")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"
