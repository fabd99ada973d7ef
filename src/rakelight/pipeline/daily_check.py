"""The daily check of a calibrated rig: a gauge is measured, and its figures are held against limits and against history."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import rakelight
from rakelight.calibration import gauges
from rakelight.calibration.gauges import Plate, Step
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.staleness import stale_for
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline.check_history import SCHEMA, Drift, drift_of, same_check
from rakelight.pipeline.repeatability import solved_normals
from rakelight.pipeline.report_facts import Criterion, History, ReportFacts
from rakelight.pipeline.surface import Surface, measure_surface

TARGETS = ("step_gauge", "flat", "part")  # a capture calls every target a part
_TABLE_GAP_PX = 10  # of the table round the gauge take no part: shadows and blur


@dataclass(frozen=True)
class Limits:
    """(WARN beyond, FAIL beyond) of each figure.

    ``step_um`` of the error of a step, ``flatness_um`` of the range about a plate's plane, ``parallel_deg`` between two plates,
    ``normals_deg`` of the mean angle between photometric normals and their plate, ``drift_um`` of a step against the median of
    the earlier checks.
    """

    step_um: tuple[float, float] = (3.0, 10.0)
    flatness_um: tuple[float, float] = (20.0, 40.0)
    parallel_deg: tuple[float, float] = (0.05, 0.1)
    normals_deg: tuple[float, float] = (2.0, 4.0)
    drift_um: tuple[float, float] = (3.0, 10.0)

    def __post_init__(self) -> None:
        for name, (warn, fail) in vars(self).items():
            if not (0 < warn <= fail < math.inf):
                raise InputError(
                    f"{name} warns beyond {warn:g} and fails beyond {fail:g}; needed: 0 < warn ≤ fail",
                    code="check.limits",
                )


@dataclass(frozen=True, eq=False)
class Check:
    """What was measured of a gauge.

    Attributes
    ----------
    plates : tuple of Plate
        Lowest first.
    steps : tuple of Step
        Each plate over the one below it; with three plates or more the last is the whole height, first to last.
    nominal_mm : tuple of float
        Of the steps; empty if not told.
    normals_deg : tuple of (mean angle, angle of the mean)
        Of each plate; empty without light stack.
    figures : dict of str to float
        All that goes into the history; the unit is the last word of a name.
    criteria : tuple of Criterion
    history : tuple of History
        Of each step, this check last.
    drift : dict of step name to Drift
    """

    entry: dict[str, Any]
    plates: tuple[Plate, ...]
    steps: tuple[Step, ...]
    nominal_mm: tuple[float, ...]
    normals_deg: tuple[tuple[float, float], ...]
    figures: dict[str, float]
    criteria: tuple[Criterion, ...]
    history: tuple[History, ...] = ()
    drift: dict[str, Drift] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the steps, as figures and history name them."""
        return step_names(len(self.plates))

    def to_plain(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        normals = self.normals_deg or ((None, None),) * len(self.plates)
        nominal = self.nominal_mm or (None,) * len(self.steps)
        plates = [
            {
                "points": p.points,
                "flatness_um": p.flatness_um,
                "rms_um": p.rms_um,
                "normals_deg": n,
                "mean_normal_deg": m,
            }
            for p, (n, m) in zip(self.plates, normals, strict=True)
        ]
        steps = [
            {
                "name": name,
                **asdict(step),
                "nominal_mm": wanted,
                "error_um": None if wanted is None else (step.height_mm - wanted) * 1000,
                "drift_um": self.drift[name].offset_um if name in self.drift else None,
                "trend_um_per_day": self.drift[name].trend_um_per_day if name in self.drift else None,
            }
            for name, step, wanted in zip(self.names, self.steps, nominal, strict=True)
        ]
        criteria = [vars(criterion) for criterion in self.criteria]
        return self.entry | {"plates": plates, "steps": steps, "criteria": criteria, "warnings": list(self.warnings)}


def step_names(plates: int) -> tuple[str, ...]:
    """Names of the steps of a gauge of so many plates."""
    steps = [f"step {k}" for k in range(1, plates)]
    return tuple([*steps, "first to last"] if plates > 2 else steps)


# ------------------------------------------------------------------------------------------------------------ measuring
def check_gauge(
    recording: Recording,
    calibration: RigCalibration,
    *,
    steps_mm: Sequence[float] = (),
    with_table: bool = False,
    gauge: str | None = None,
    limits: Limits | None = None,
    history: Sequence[dict[str, Any]] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> Check:
    """Measure a gauge and judge it.

    Parameters
    ----------
    recording : Recording
        Of target ``step_gauge``, ``flat`` or ``part`` (as captures call all that they take), with patterns; zones of light
        give the normals.
    steps_mm : sequence of float
        As certified: each plate over the one below it, lowest first. Without them nothing is said of their errors.
    with_table : bool
        The table counts as the lowest plate.
    gauge : str, optional
        Name in the history, where only checks of the same gauge are compared; by default the target.
    history : sequence of dict
        As :func:`read_history` gives it.

    Raises
    ------
    InputError
        ``check.target``, ``check.steps``, ``gauge.no_plate``.
    DatasetError, CalibrationError
        As :func:`measure_surface`.
    """
    limits = limits or Limits()
    info = recording.info
    if info.target not in TARGETS:
        raise InputError(
            f"{recording.folder} shows {info.target!r}; a check needs a step_gauge or a flat",
            hint="name the recording of a gauge",
            code="check.target",
        )
    surface = measure_surface(recording, calibration, progress=progress)
    progress("gauge")
    plates = _plates(surface, with_table)
    pairs = [(upper, lower) for lower, upper in pairwise(plates)]
    if len(plates) > 2:
        pairs.append((plates[-1], plates[0]))
    steps = tuple(gauges.step_height(upper, lower) for upper, lower in pairs)
    nominal = _nominal(steps_mm, len(plates))
    normals: tuple[tuple[float, float], ...] = ()
    why = ""
    if recording.zones:
        progress("normals")
        normals, why = _normals(recording, calibration, surface, plates)
    figures = _figures(plates, steps, nominal, normals)
    entry = {
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
    lines = [line for line in history if line["gauge"] == entry["gauge"] and not same_check(line, entry)]
    told, drift = _over_time([*lines, entry], step_names(len(plates)), nominal, limits)
    criteria = [*_criteria(figures, limits, len(plates), bool(nominal)), *_drift_criteria(drift, limits)]
    stale = (s.sentence for s in stale_for(calibration, recording))
    warnings = (*stale, *surface.report["warnings"], *([why] if why else []))
    return Check(entry, tuple(plates), steps, nominal, normals, figures, tuple(criteria), told, drift, warnings)


def _plates(surface: Surface, with_table: bool) -> list[Plate]:
    tolerance = max(gauges.TOLERANCE_MM, 5 * float(np.nanmedian(surface.merged.sigma_z_mm)))
    if not with_table:
        return gauges.find_plates(surface.xyz, surface.mask, tolerance_mm=tolerance)
    around = ~ndimage.binary_dilation(surface.mask, iterations=_TABLE_GAP_PX)
    table = gauges.find_plates(surface.xyz, around, tolerance_mm=tolerance)[0]
    return [table, *gauges.find_plates(surface.xyz, surface.mask, tolerance_mm=tolerance)]


def _nominal(steps_mm: Sequence[float], plates: int) -> tuple[float, ...]:
    """Of every step in the order of ``Check.steps``."""
    wanted = tuple(float(v) for v in steps_mm)
    if not wanted:
        return ()
    if len(wanted) != plates - 1 or not all(0 < v < math.inf for v in wanted):
        raise InputError(
            f"steps {', '.join(f'{v:g}' for v in wanted)} mm; {plates} plates were found, which make {plates - 1} steps above 0 mm",
            hint="name each plate's height over the one below it, lowest first; with the table as lowest plate, one more",
            code="check.steps",
        )
    return (*wanted, sum(wanted)) if plates > 2 else wanted


def _normals(
    recording: Recording, calibration: RigCalibration, surface: Surface, plates: Sequence[Plate]
) -> tuple[tuple[tuple[float, float], ...], str]:
    """Figures of the photometric normals, plate by plate, and why they are none."""
    if not calibration.lights:
        return (), "the calibration has no lights: nothing is said of the normals"
    normals = solved_normals(recording, calibration, surface)
    found = [gauges.normal_errors_deg(normals[p.region], p.plane.normal * np.array([1.0, -1.0, -1.0])) for p in plates]
    known = tuple(f for f in found if f is not None)
    if len(known) < len(plates):
        return (), "a plate has no solved normals: nothing is said of the normals"
    return known, ""


def _figures(
    plates: Sequence[Plate],
    steps: Sequence[Step],
    nominal: Sequence[float],
    normals: Sequence[tuple[float, float]],
) -> dict[str, float]:
    names = step_names(len(plates))
    found = {f"{name} mm": step.height_mm for name, step in zip(names, steps, strict=True)}
    found |= {f"{n} error um": (s.height_mm - v) * 1000 for n, s, v in zip(names, steps, nominal, strict=False)}
    found |= {f"plate {k} flatness um": plate.flatness_um for k, plate in enumerate(plates, 1)}
    if steps:
        found["parallelism deg"] = max(step.angle_deg for step in steps)
    if normals:
        found["normals deg"] = max(mean for mean, _ in normals)
        found["mean normal deg"] = max(bias for _, bias in normals)
    return {name: round(value, 7) for name, value in found.items()}


def _criteria(figures: dict[str, float], limits: Limits, plates: int, told: bool) -> list[Criterion]:
    def judge(name: str, value: float | None, unit: str, limit: tuple[float, float], sentence: str) -> Criterion:
        return Criterion.judge(name, value, unit, limit[1], sentence, warn=limit[0])

    found = [
        judge(f"{name}, error", abs(figures[f"{name} error um"]), "µm", limits.step_um,
              "measured less certified height of the step, without sign")
        for name in (step_names(plates) if told else ())
    ]  # fmt: skip
    flatness = max(figures[f"plate {k} flatness um"] for k in range(1, plates + 1))
    found.append(
        judge("flatness", flatness, "µm", limits.flatness_um,
              "range about the plane of the worst plate, three points in a thousand left out (VDI/VDE 2634 part 2)")
    )  # fmt: skip
    if "parallelism deg" in figures:
        found.append(judge("parallelism", figures["parallelism deg"], "°", limits.parallel_deg,
                           "largest angle between two plates"))  # fmt: skip
    found.append(judge("normals", figures.get("normals deg"), "°", limits.normals_deg,
                       "mean angle between solved normals and their plate, of the worst plate"))  # fmt: skip
    return found


# -------------------------------------------------------------------------------------------------------------- history
def _over_time(
    lines: Sequence[dict[str, Any]], names: Sequence[str], nominal: Sequence[float], limits: Limits
) -> tuple[tuple[History, ...], dict[str, Drift]]:
    """Of each step: its error, or without nominal its change against the first check; the last line is this check."""
    told, drift = [], {}
    for k, name in enumerate(names):
        used = [line for line in lines if f"{name} mm" in line["figures"]]
        now = used[-1]
        used = [*sorted(used[:-1], key=lambda line: datetime.fromisoformat(line["time_utc"])), now]
        times = tuple(datetime.fromisoformat(line["time_utc"]) for line in used)
        heights: NDArray[np.float64] = np.array([line["figures"][f"{name} mm"] for line in used])
        reference = nominal[k] if nominal else heights[0]
        values = (heights - reference) * 1000
        if (found := drift_of(times, values.tolist())) is not None:
            drift[name] = found
        what = f"{name}, error" if nominal else f"{name}, against the first check"
        order = np.argsort([t.timestamp() for t in times], kind="stable")
        told.append(
            History(what, "µm", tuple(times[i] for i in order), values[order], -limits.step_um[1], limits.step_um[1])
        )
    return tuple(told), drift


def _drift_criteria(drift: dict[str, Drift], limits: Limits) -> list[Criterion]:
    warn, fail = limits.drift_um
    return [
        Criterion.judge(f"{name}, drift", abs(d.offset_um), "µm", fail,
                        f"against the median of {d.earlier} earlier check{'s' if d.earlier > 1 else ''}, without sign"
                        + ("" if d.trend_um_per_day is None else f"; trend {d.trend_um_per_day:+.3f} µm a day"), warn=warn)
        for name, d in drift.items()
    ]  # fmt: skip


def facts_of(check: Check) -> ReportFacts:
    """What the report of the check tells."""
    entry = check.entry
    return ReportFacts(
        calibration_id=entry["calibration_id"],
        created_utc=entry["time_utc"],
        content_sha256=entry["calibration_sha256"],
        software=entry["software"],
        simulated=entry["simulated"],
        identity={"gauge": entry["gauge"], "plates": str(len(check.plates))},
        criteria=check.criteria,
        history=check.history,
        warnings=check.warnings,
        sources=(f"{entry['part_id']}, {entry['recording_sha256'][:12]}",),
    )
