"""The daily check on a step gauge or a flat: measured, and its figures held against limits and against history.

On a ball bar see :mod:`rakelight.pipeline.ball_check`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from rakelight.calibration import gauges
from rakelight.calibration.gauges import Plate, Step
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.staleness import stale_for
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline.check_judging import Judged, Limits, drift_criteria, entry_of, judge, over_time
from rakelight.pipeline.repeatability import solved_normals
from rakelight.pipeline.report_facts import Criterion
from rakelight.pipeline.surface import Surface, measure_surface

TARGETS = ("step_gauge", "flat", "part")  # a capture calls every target a part
_TABLE_GAP_PX = 10  # of the table round the gauge take no part: shadows and blur


@dataclass(frozen=True, eq=False, kw_only=True)
class Check(Judged):
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
    """

    plates: tuple[Plate, ...]
    steps: tuple[Step, ...]
    nominal_mm: tuple[float, ...]
    normals_deg: tuple[tuple[float, float], ...]

    @property
    def identity(self) -> dict[str, str]:
        """Lines of the report's header."""
        return super().identity | {"plates": str(len(self.plates))}

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
                **self.against_earlier(name),
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
    entry = entry_of(recording, calibration, gauge, figures)
    names = step_names(len(plates))
    lengths = {name: (nominal[k] if nominal else None, limits.step_um[1]) for k, name in enumerate(names)}
    told, drift = over_time(history, entry, lengths)
    criteria = [*_criteria(figures, limits, len(plates), bool(nominal)), *drift_criteria(drift, limits)]
    stale = (s.sentence for s in stale_for(calibration, recording))
    warnings = (*stale, *surface.report["warnings"], *([why] if why else []))
    return Check(
        entry=entry,
        figures=figures,
        criteria=tuple(criteria),
        history=told,
        drift=drift,
        warnings=warnings,
        plates=tuple(plates),
        steps=steps,
        nominal_mm=nominal,
        normals_deg=normals,
    )


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
