"""The drift monitor of a station, kept from run to run in a small file beside the model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rakelight import files
from rakelight.detection import conformal
from rakelight.detection.detector import Detector
from rakelight.detection.drift import DriftMonitor, DriftVerdict
from rakelight.detection.drift_charts import BEGIN_ANEW
from rakelight.errors import ModelError

SCHEMA = 1
_OTHER_LIGHT, _FAR = 0.15, 10.0  # share of the light, and standard deviations of good captures, that no part makes
_LEAST = 3  # parts that must have a statistic


def drift_file(model: Path) -> Path:
    """``<MODEL>.drift.json``, beside the model's folder, which itself is never changed."""
    whole = model.absolute()
    return whole.with_name(f"{whole.name}.drift.json")


def make_monitor(detector: Detector, alpha: float) -> DriftMonitor:
    """A monitor that knows the detector's good parts: their leave-one-out scores, and the statistics of their captures."""
    columns = tuple(sorted(detector.names.index(bank.name) for bank in detector.method.judging))
    patterns = (
        detector.decision.patterns
    )  # scores of all are in one unit: where no part is complete, the usual one serves
    pattern = patterns.get(columns) or max(patterns.values(), key=lambda p: p.rows)
    scores = pattern.calibration.tolist()
    limit = conformal.threshold(np.asarray(scores), alpha)
    if sum(score <= limit for score in scores) < _LEAST:  # a generous alpha leaves hardly any good part accepted
        limit = math.inf
    found: dict[str, list[float]] = defaultdict(list)
    for part in detector.parts:
        for name, value in part.capture.items():
            if math.isfinite(value):
                found[name].append(value)
    return DriftMonitor(
        scores,
        {name: values for name, values in found.items() if len(values) >= _LEAST},
        accept_below=limit,
        seed=detector.method.seed,
    )


@dataclass
class DriftWatch:
    """A monitor and the file that keeps it. ``begun`` says why it starts from the taught parts alone, if it does."""

    monitor: DriftMonitor
    path: Path
    model_sha256: str
    parts: int = 0
    begun: str = ""

    @classmethod
    def open(
        cls, detector: Detector, model_sha256: str, path: Path, *, alpha: float, reset: bool = False
    ) -> DriftWatch:
        """Go on where the last run ended, if it watched the same model.

        ``reset``: after the cause of an alarm was mended: what was seen of it is forgotten. Raises :class:`ModelError`
        (``model.drift_state``) for a file that cannot be read, and where the model has too few parts to watch.
        """
        fresh = make_monitor(detector, alpha)
        if reset or not path.exists():
            return cls(fresh, path, model_sha256, begun="from the taught parts")
        told = _read(path)
        if told["model_sha256"] != model_sha256:
            return cls(fresh, path, model_sha256, begun="anew, since the model has changed")
        return cls(DriftMonitor.from_dict(told["monitor"]), path, model_sha256, int(told["parts"]))

    @property
    def sees(self) -> tuple[str, ...]:
        """The statistics of captures that it watches; none of a model that was taught without them."""
        return tuple(self.monitor.charts)

    def update(self, score: float | None, statistics: Mapping[str, float], *, rejected: bool) -> DriftVerdict:
        """Take in a part; statistics that the taught parts do not have are passed over."""
        known = {name: value for name, value in statistics.items() if name in self.monitor.charts}
        self.parts += 1
        return self.monitor.update(score, known, rejected=rejected)

    def unlike(self, statistics: Mapping[str, float]) -> list[str]:
        """Of one capture whose light is quite another than that of the parts taught: in words, once for all zones.

        No drift, but another exposure or another rig: then no verdict is worth much, from the first part on.
        """
        taught, charts = self.monitor.taught, self.monitor.charts
        shares = {
            name: value / taught[name] - 1
            for name, value in statistics.items()
            if name.startswith("light") and taught.get(name) and abs(value - taught[name]) > _FAR * charts[name].spread
        }
        far = [share for share in shares.values() if abs(share) > _OTHER_LIGHT]
        if not far:
            return []
        most = max(far, key=abs)
        return [
            f"its light differs by {100 * most:+.0f} % from the parts taught: another recipe or rig, or a lamp is out? "
            "A model judges captures like those that taught it"
        ]

    def save(self) -> None:
        """Write the file, whole or not at all. Raises :class:`StorageError`."""
        state = {
            "schema": SCHEMA,
            "kind": "rakelight-drift",
            "model_sha256": self.model_sha256,
            "parts": self.parts,
            "monitor": self.monitor.to_dict(),
        }
        files.write_json(self.path, state)


def _read(path: Path) -> dict[str, Any]:
    told = files.read_json(path, error=ModelError)
    wanted = {"model_sha256": str, "parts": int, "monitor": dict}
    whole = isinstance(told, dict) and told.get("kind") == "rakelight-drift" and told.get("schema") == SCHEMA
    if not whole or not all(isinstance(told.get(name), kind) for name, kind in wanted.items()):
        raise ModelError(
            f"{path} does not hold the state of a drift monitor of schema {SCHEMA}",
            hint=BEGIN_ANEW,
            code="model.drift_state",
        )
    return dict(told)


def drift_dict(told: DriftVerdict) -> dict[str, Any]:
    """As plain data for JSON."""
    return {"state": told.state, "causes": list(told.causes), "sentences": list(told.sentences)}
