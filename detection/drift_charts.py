"""Two charts that tell when a series of numbers has changed for good: a conformal martingale and a CUSUM.

Both restart by themselves, and both have one setting: how many steady values, on average, pass between two false alarms.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from rakelight.errors import InputError, ModelError

_POWERS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
_MOST_SCORES = 5000
BEGIN_ANEW = "`rakelight detect watch … --reset-drift` begins anew from the taught parts"


@dataclass
class MartingaleChart:
    """Tells that scores have become larger than they were, by a conformal test martingale in Shiryaev–Roberts form.

    Each score gets the smoothed conformal p-value of its rank among all before it. While parts are exchangeable these are
    independent and uniform (Vovk, Nouretdinov & Gammerman 2003), whatever the distribution of scores, so betting ε·p^{ε−1}
    on them gains nothing: R ← (1 + R)·ε·p^{ε−1}, averaged over several ε, has mean n after n scores, and an alarm at R ≥ c
    comes after c steady scores on average *at the soonest* (Volkhonskiy et al. 2017; Vovk, Gammerman & Shafer 2022, ch. 8).

    Parameters
    ----------
    reference : sequence of float
        Scores of good parts, at least 3.
    mean_parts : float
        c: steady scores between false alarms, on average, at least.
    seed : int
        Of the smoothing.
    """

    reference: Sequence[float]
    mean_parts: float = 2000.0
    seed: int = 0
    seen: int = field(default=0, init=False)
    evidence: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        _check(self.reference, self.mean_parts)
        self._ordered = sorted(map(float, self.reference))
        self._sums: NDArray[np.float64] = np.zeros(len(_POWERS))

    @property
    def alarm(self) -> bool:
        """The evidence has reached the limit. Stays until scores are steady again, or :meth:`reset`."""
        return self.evidence >= self.mean_parts

    def update(self, value: float) -> bool:
        """Take in one score; returns :attr:`alarm`."""
        if not math.isfinite(value):
            raise InputError(f"a score to watch is {value}; it must be finite", code="drift.value")
        below, upto = bisect.bisect_left(self._ordered, value), bisect.bisect_right(self._ordered, value)
        n = len(self._ordered)
        share, place = np.random.default_rng((self.seed, self.seen)).random(2)
        p = max((n - upto + (1 - share) * (1 + upto - below)) / (n + 1), 1e-12)
        # Bounded, so that one alarm does not take as many parts to fade as it took evidence to rise.
        self._sums = np.minimum((1 + self._sums) * _POWERS * p ** (_POWERS - 1), 1e3 * self.mean_parts)
        self.evidence = float(self._sums.mean())
        self._remember(value, float(place))
        self.seen += 1
        return self.alarm

    def reset(self) -> None:
        """Forget the evidence, not the scores."""
        self._sums[:] = 0
        self.evidence = 0.0

    def _remember(self, value: float, place: float) -> None:
        """Keep a uniform sample of all scores (reservoir): those kept are still exchangeable with the next."""
        if len(self._ordered) >= _MOST_SCORES:
            drawn = int(place * (len(self.reference) + self.seen + 1))
            if drawn >= _MOST_SCORES:
                return
            del self._ordered[drawn]
        bisect.insort(self._ordered, value)

    def to_dict(self) -> dict[str, Any]:
        """The state as plain data; the next values give the same result after :meth:`from_dict`."""
        return {
            "reference_parts": len(self.reference),
            "mean_parts": self.mean_parts,
            "seed": self.seed,
            "seen": self.seen,
            "scores": list(self._ordered),
            "sums": self._sums.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MartingaleChart:
        """Inverse of :meth:`to_dict`; :class:`ModelError` if it cannot be read."""
        try:
            scores = [float(v) for v in data["scores"]]
            chart = cls(scores[: int(data["reference_parts"])], float(data["mean_parts"]), int(data["seed"]))
            chart.seen, chart._ordered = int(data["seen"]), scores
            chart._sums = np.asarray(data["sums"], np.float64).reshape(_POWERS.shape)
            chart.evidence = float(chart._sums.mean())
        except (KeyError, TypeError, ValueError) as e:
            raise ModelError(
                f"the state of a drift chart cannot be read: {e!r}", hint=BEGIN_ANEW, code="model.drift_state"
            ) from e
        return chart


@dataclass
class CusumChart:
    """Tells that the mean of a statistic has shifted up or down: a self-starting CUSUM.

    Page's CUSUM (1954, Biometrika 41, 100–115) on standardised values, S ← max(0, S + |z| − k) a side, with Hawkins's
    standardisation (1987, The Statistician 36, 299–315): each value by mean and spread of all before it, through Student's
    t to a normal z, so that the rate of false alarms is right from the first value on although mean and spread are learned
    from few. After ``learn`` values the reference stays fixed, so that a slow fade cannot be learned as normal. z is
    limited to ±3, so that one odd part alone never raises the alarm.

    Parameters
    ----------
    reference : sequence of float
        Values of good captures, at least 3.
    mean_parts : float
        Steady values between false alarms, on average.
    floor : float
        The least standard deviation to assume, in the unit of the values; a change well below it means nothing.
    shift : float
        The shift to look for, in standard deviations; k is half of it.
    """

    reference: Sequence[float]
    mean_parts: float = 2000.0
    floor: float = 0.0
    shift: float = 1.0
    learn: int = 100
    up: float = field(default=0.0, init=False)
    down: float = field(default=0.0, init=False)
    last: float = field(default=math.nan, init=False)

    def __post_init__(self) -> None:
        _check(self.reference, self.mean_parts)
        if not self.floor >= 0 or not self.shift > 0:
            raise InputError(
                f"floor {self.floor} must be 0 or more, and shift {self.shift} above 0", code="drift.setting"
            )
        self.count = len(self.reference)
        self.mean = float(np.mean(self.reference))
        self.squares = float(np.square(np.asarray(self.reference, np.float64) - self.mean).sum())
        self.limit = cusum_limit(self.mean_parts, self.shift / 2)

    @property
    def alarm(self) -> bool:
        """One of the sums is above the limit."""
        return max(self.up, self.down) > self.limit

    @property
    def spread(self) -> float:
        """The standard deviation in use."""
        return max(math.sqrt(self.squares / (self.count - 1)), self.floor, 1e-9 * abs(self.mean), 1e-300)

    def update(self, value: float, most_z: float = 3.0) -> bool:
        """Take in one value, as no more than ``most_z`` standard deviations (up to 3); returns :attr:`alarm`."""
        if not math.isfinite(value):
            raise InputError(f"a statistic to watch is {value}; it must be finite", code="drift.value")
        t = (value - self.mean) / (self.spread * math.sqrt(1 + 1 / self.count))
        most = -float(stdtrit(self.count - 1, ndtr(-min(most_z, 3.0))))
        t = min(max(t, -most), most)
        z = math.copysign(-float(ndtri(stdtr(self.count - 1, -abs(t)))), t)
        top = 2 * self.limit  # bounded, so that the alarm ends soon after its cause
        self.up = min(max(0.0, self.up + z - self.shift / 2), top)
        self.down = min(max(0.0, self.down - z - self.shift / 2), top)
        self.last = value
        if self.count < self.learn:
            step = (
                t * self.spread * math.sqrt(1 + 1 / self.count)
            )  # limited too, or a jump would widen the spread at once
            self.count += 1
            self.mean += step / self.count
            self.squares += step * step * (1 - 1 / self.count)
        return self.alarm

    def reset(self) -> None:
        """Forget the sums, not the reference."""
        self.up = self.down = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The state as plain data; the next values give the same result after :meth:`from_dict`."""
        names = ("mean_parts", "floor", "shift", "learn", "count", "mean", "squares", "up", "down")
        last = None if math.isnan(self.last) else self.last
        return {name: getattr(self, name) for name in names} | {"last": last}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CusumChart:
        """Inverse of :meth:`to_dict`; :class:`ModelError` if it cannot be read."""
        try:
            mean = float(data["mean"])
            settings = {name: float(data[name]) for name in ("mean_parts", "floor", "shift")}
            chart = cls([mean] * 3, learn=int(data["learn"]), **settings)
            chart.count, chart.squares = int(data["count"]), float(data["squares"])
            chart.mean, chart.up, chart.down = mean, float(data["up"]), float(data["down"])
            last = data.get("last")  # states written before it was kept lack it
            chart.last = math.nan if last is None else float(last)
        except (KeyError, TypeError, ValueError) as e:
            raise ModelError(
                f"the state of a drift chart cannot be read: {e!r}", hint=BEGIN_ANEW, code="model.drift_state"
            ) from e
        return chart


def cusum_limit(mean_parts: float, k: float) -> float:
    """The limit of a two-sided CUSUM that alarms falsely once in ``mean_parts`` values, by Siegmund's approximation.

    A side: ARL ≈ (e^{2kb} − 2kb − 1) / (2k²), b = limit + 1.166 (Siegmund 1985, Sequential Analysis); two sides: half.
    """

    def missing(limit: float) -> float:
        b = limit + 1.166
        return (math.expm1(2 * k * b) - 2 * k * b) / (2 * k * k) - 2 * mean_parts

    return float(brentq(missing, -1.0, 1 + math.log1p(4 * k * k * mean_parts) / k))


def _check(reference: Sequence[float], mean_parts: float) -> None:
    if len(reference) < 3 or not np.isfinite(np.asarray(reference, np.float64)).all():
        raise ModelError(
            f"a drift chart needs at least 3 finite values of good parts; got {len(reference)}",
            hint="train with at least 3 good parts",
            code="model.too_few_parts",
        )
    if not 10 <= mean_parts < 1e9:
        raise InputError(
            f"mean_parts, the good parts between false drift alarms, is {mean_parts}; allowed: 10 … 1e9",
            code="drift.setting",
        )
