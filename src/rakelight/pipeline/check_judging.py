"""What all daily checks share, whatever gauge lies there: limits, verdicts, and figures held against those of earlier days."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline.check_history import SCHEMA, Drift, drift_of, same_check
from rakelight.pipeline.report_facts import Criterion, History, ReportFacts


@dataclass(frozen=True)
class Limits:
    """(WARN beyond, FAIL beyond) of each figure.

    ``step_um`` of the error of a step, ``flatness_um`` of the range about a plate's plane, ``parallel_deg`` between two plates,
    ``normals_deg`` of the mean angle between photometric normals and their plate; ``form_um`` and ``size_um`` of the probing
    errors PF and PS of a ball, ``spacing_um`` of the sphere-spacing error SD; ``drift_um`` of a step, a diameter or the spacing
    against the median of the earlier checks.
    """

    step_um: tuple[float, float] = (3.0, 10.0)
    flatness_um: tuple[float, float] = (20.0, 40.0)
    parallel_deg: tuple[float, float] = (0.05, 0.1)
    normals_deg: tuple[float, float] = (2.0, 4.0)
    form_um: tuple[float, float] = (15.0, 30.0)
    size_um: tuple[float, float] = (3.0, 10.0)
    spacing_um: tuple[float, float] = (3.0, 10.0)
    drift_um: tuple[float, float] = (3.0, 10.0)

    def __post_init__(self) -> None:
        for name, (warn, fail) in vars(self).items():
            if not (0 < warn <= fail < math.inf):
                raise InputError(
                    f"{name} warns beyond {warn:g} and fails beyond {fail:g}; needed: 0 < warn ≤ fail",
                    code="check.limits",
                )


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """A check of any gauge.

    Attributes
    ----------
    entry : dict
        Its line of the history.
    figures : dict of str to float
        All that goes into the history; the unit is the last word of a name.
    criteria : tuple of Criterion
    history : tuple of History
        Of each length that is followed from day to day, this check last.
    drift : dict of name to Drift
    """

    entry: dict[str, Any]
    figures: dict[str, float]
    criteria: tuple[Criterion, ...]
    history: tuple[History, ...] = ()
    drift: dict[str, Drift] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, str]:
        """Lines of the report's header."""
        return {"gauge": self.entry["gauge"]}

    def against_earlier(self, name: str) -> dict[str, float | None]:
        """Drift and trend of a length, None where there are none."""
        drift = self.drift.get(name)
        return {
            "drift_um": None if drift is None else drift.offset_um,
            "trend_um_per_day": None if drift is None else drift.trend_um_per_day,
        }


def judge(name: str, value: float | None, unit: str, limit: tuple[float, float], sentence: str) -> Criterion:
    """A figure against (WARN, FAIL)."""
    return Criterion.judge(name, value, unit, limit[1], sentence, warn=limit[0])


def entry_of(
    recording: Recording, calibration: RigCalibration, gauge: str | None, figures: dict[str, float]
) -> dict[str, Any]:
    """The line of a check in the history."""
    info = recording.info
    return {
        "schema": SCHEMA,
        "time_utc": info.captured_utc or info.created_utc,
        "gauge": gauge or info.target,
        "part_id": info.part_id,
        "recording_sha256": info.content_sha256,
        "calibration_id": calibration.calibration_id,
        "calibration_sha256": calibration.content_sha256,
        "software": f"rakelight {rakelight.__version__}",
        "simulated": info.simulated,
        "figures": figures,
    }


def over_time(
    history: Sequence[dict[str, Any]], entry: dict[str, Any], lengths: Mapping[str, tuple[float | None, float]]
) -> tuple[tuple[History, ...], dict[str, Drift]]:
    """Of each length its error, or without certified value its change against the first check, and its drift.

    ``lengths`` gives, by the name that the figure ``"NAME mm"`` has, the certified mm (None: not told) and the limit in µm that
    is drawn. Lines of other gauges, and an earlier line of the same check, are passed over.
    """
    lines = [line for line in history if line["gauge"] == entry["gauge"] and not same_check(line, entry)]
    told, drift = [], {}
    for name, (nominal, limit_um) in lengths.items():
        used = [line for line in lines if f"{name} mm" in line["figures"]]
        used = [*sorted(used, key=lambda line: datetime.fromisoformat(line["time_utc"])), entry]
        times = tuple(datetime.fromisoformat(line["time_utc"]) for line in used)
        measured: NDArray[np.float64] = np.array([line["figures"][f"{name} mm"] for line in used])
        values = (measured - (measured[0] if nominal is None else nominal)) * 1000
        if (found := drift_of(times, values.tolist())) is not None:
            drift[name] = found
        what = f"{name}, against the first check" if nominal is None else f"{name}, error"
        order = np.argsort([t.timestamp() for t in times], kind="stable")
        told.append(History(what, "µm", tuple(times[i] for i in order), values[order], -limit_um, limit_um))
    return tuple(told), drift


def drift_criteria(drift: Mapping[str, Drift], limits: Limits) -> list[Criterion]:
    """One a length."""
    return [
        judge(f"{name}, drift", abs(d.offset_um), "µm", limits.drift_um,
              f"against the median of {d.earlier} earlier check{'s' if d.earlier > 1 else ''}, without sign"
              + ("" if d.trend_um_per_day is None else f"; trend {d.trend_um_per_day:+.3f} µm a day"))
        for name, d in drift.items()
    ]  # fmt: skip


def facts_of(check: Judged) -> ReportFacts:
    """What the report of the check tells."""
    entry = check.entry
    return ReportFacts(
        calibration_id=entry["calibration_id"],
        created_utc=entry["time_utc"],
        content_sha256=entry["calibration_sha256"],
        software=entry["software"],
        simulated=entry["simulated"],
        identity=check.identity,
        criteria=check.criteria,
        history=check.history,
        warnings=check.warnings,
        sources=(f"{entry['part_id']}, {entry['recording_sha256'][:12]}",),
    )
