"""The rig drifts, or the part is bad? Watches good-part scores and capture statistics from part to part.

A dirty lamp raises the scores of all parts a little and would make good parts bad. The statistics of the capture
(:mod:`rakelight.detection.capture_statistics`) see it directly, and they hardly see a defect. So:

- a statistic has shifted for good: **the rig drifts**; the sentence names it, what it was and what it is;
- no statistic has, but scores of parts judged good creep up: **the parts change** (or the rig does in a way that no
  statistic sees): look, and if they are fine, teach them;
- neither: a rejected part is just a bad part.

One part alone, however odd, never makes a drift alarm. Points and tilt also depend on the part: of a rejected part they
count little, so that a row of parts with a piece missing is not taken for a drifting rig.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rakelight.detection.drift_charts import BEGIN_ANEW, CusumChart, MartingaleChart
from rakelight.errors import InputError, ModelError

State = Literal["steady", "rig drifts", "parts change"]
# The least spread to assume, relative to the mean and absolute: what a rig does anyway from capture to capture.
_FLOORS = {
    "light": (0.002, 0.0),
    "noise": (0.01, 0.0),
    "points": (0.001, 0.0),
    "nan_share": (0.0, 5e-4),
    "normal": (0.0, 5e-4),
}
_OF_THE_PART = ("points", "nan_share", "normal_x", "normal_y")
_REJECTED_Z = 1.0


@dataclass(frozen=True)
class DriftVerdict:
    """What the monitor says after a part: ``state``, the ``causes`` (names of statistics, or "score"), and sentences."""

    state: State
    causes: tuple[str, ...]
    sentences: tuple[str, ...]


class DriftMonitor:
    """Watches a station from part to part; keep its state with :meth:`to_dict`.

    Parameters
    ----------
    scores : sequence of float
        Leave-one-part-out scores of good parts, at least 3.
    statistics : mapping of str to sequence of float
        Capture statistics of good parts, by name; at least 3 values each.
    mean_parts : float
        Good parts that pass, on average, between two false alarms of the whole monitor: its charts share it.
    accept_below : float
        The rejection threshold. Scores of calibration parts above it are left out as those of rejected parts are, so
        that what is compared stays comparable.
    seed : int
        Of the martingale's smoothing.
    """

    def __init__(
        self,
        scores: Sequence[float],
        statistics: Mapping[str, Sequence[float]],
        *,
        mean_parts: float = 2000.0,
        accept_below: float = math.inf,
        seed: int = 0,
    ) -> None:
        each = mean_parts * (2 + len(statistics))
        good = [float(s) for s in scores if s <= accept_below]
        self.martingale = MartingaleChart(good, each, seed)
        self.score_cusum = CusumChart(good, each)
        self.charts = {
            name: CusumChart([float(v) for v in values], each, _floor(name, values))
            for name, values in statistics.items()
        }
        self.taught = {name: chart.mean for name, chart in self.charts.items()}

    def update(self, score: float | None, statistics: Mapping[str, float], *, rejected: bool = False) -> DriftVerdict:
        """Take in one part and judge.

        Parameters
        ----------
        score : float or None
            Its score; not counted where ``rejected``, since only good parts tell how good parts are.
        statistics : mapping
            Its capture statistics. Those missing or NaN are passed over; :class:`InputError` for unknown ones.
        """
        unknown = sorted(set(statistics) - set(self.charts))
        if unknown:
            raise InputError(
                f"the drift monitor does not know {', '.join(unknown)}; it watches {', '.join(self.charts) or 'no statistics'}",
                hint="start a new monitor after changing what is captured",
                code="drift.unknown",
            )
        for name, value in statistics.items():
            if math.isfinite(value):
                self.charts[name].update(value, _REJECTED_Z if rejected and name in _OF_THE_PART else 3.0)
        if score is not None and not rejected:
            self.martingale.update(score)
            self.score_cusum.update(score)
        return self.verdict()

    def verdict(self) -> DriftVerdict:
        """What the charts say now."""
        # Scores that fall are no reason to stop: only the upper side counts.
        higher = self.martingale.alarm or self.score_cusum.up > self.score_cusum.limit
        # With scores up as well, half the evidence is enough to look at the rig first.
        wanted = 0.5 if higher else 1.0
        causes = tuple(name for name, c in self.charts.items() if max(c.up, c.down) > wanted * c.limit)
        if causes:
            sentences = [_describe(name, self.taught[name], self.charts[name].last) for name in causes]
            sentences.append("The rig drifts: clean and check it before trusting the verdicts on parts.")
            return DriftVerdict("rig drifts", causes, tuple(sentences))
        if higher:
            text = (
                "Scores of good parts have crept up, though light, noise and points are as they were: the parts change. "
                "If they are fine, teach some of them."
            )
            return DriftVerdict("parts change", ("score",), (text,))
        return DriftVerdict("steady", (), ())

    def reset(self) -> None:
        """After the cause is mended: forget the evidence, keep the reference."""
        self.martingale.reset()
        for chart in (self.score_cusum, *self.charts.values()):
            chart.reset()

    def to_dict(self) -> dict[str, Any]:
        """The whole state as plain data for JSON."""
        return {
            "martingale": self.martingale.to_dict(),
            "score_cusum": self.score_cusum.to_dict(),
            "charts": {name: chart.to_dict() for name, chart in self.charts.items()},
            "taught": self.taught,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DriftMonitor:
        """Inverse of :meth:`to_dict`; :class:`ModelError` if it cannot be read."""
        monitor = cls.__new__(cls)
        try:
            monitor.martingale = MartingaleChart.from_dict(data["martingale"])
            monitor.score_cusum = CusumChart.from_dict(data["score_cusum"])
            monitor.charts = {str(name): CusumChart.from_dict(chart) for name, chart in data["charts"].items()}
            monitor.taught = {name: float(data["taught"][name]) for name in monitor.charts}
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise ModelError(
                f"the state of the drift monitor cannot be read: {e!r}", hint=BEGIN_ANEW, code="model.drift_state"
            ) from e
        return monitor


def _floor(name: str, values: Sequence[float]) -> float:
    relative, absolute = _FLOORS.get(
        name.split("_zone")[0], _FLOORS["normal"] if name.startswith("normal") else (0.0, 0.0)
    )
    return max(relative * abs(sum(values) / max(len(values), 1)), absolute)


def _describe(name: str, taught: float, now: float) -> str:
    spoken = name.replace("_zone", " of zone ").replace("_", " ")
    if math.isnan(now):
        return f"{spoken} has shifted against the taught {taught:.4g}."
    if name.startswith(("light", "noise", "points")) and taught:
        return f"{spoken}: {now:.4g}, {100 * (now / taught - 1):+.1f} % against the taught {taught:.4g}."
    return f"{spoken}: {now:.4g} against the taught {taught:.4g}."
