"""The daily check on a ball bar: probing errors of form and size, and the sphere-spacing error (VDI/VDE 2634 part 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rakelight.calibration import gauges
from rakelight.calibration.balls import Ball, find_balls
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.staleness import stale_for
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline.check_judging import Judged, Limits, drift_criteria, entry_of, judge, over_time
from rakelight.pipeline.report_facts import Criterion
from rakelight.pipeline.surface import measure_surface

TARGETS = ("ball_bar", "part")  # a capture without recipe target calls everything a part
NAMES = ("ball 1", "ball 2")


@dataclass(frozen=True, eq=False, kw_only=True)
class BallCheck(Judged):
    """What was measured of a ball bar.

    Attributes
    ----------
    balls : tuple of Ball
        From left to right in the image; if certified diameters differ by more than 2 %, in their order.
    spacing_mm : float
        Between their centres.
    diameters_nominal_mm : tuple of float
        As certified; empty if not told.
    spacing_nominal_mm : float or None
    """

    balls: tuple[Ball, ...]
    spacing_mm: float
    diameters_nominal_mm: tuple[float, ...]
    spacing_nominal_mm: float | None

    @property
    def identity(self) -> dict[str, str]:
        """Lines of the report's header."""
        return super().identity | {"balls": str(len(self.balls))}

    def to_plain(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        nominal = self.diameters_nominal_mm or (None,) * len(self.balls)
        balls = [
            {
                "name": name,
                "diameter_mm": ball.sphere.diameter_mm,
                "nominal_mm": wanted,
                "form_error_um": ball.sphere.form_error_um,
                "size_error_um": ball.sphere.size_error_um,
                "rms_um": ball.rms_um,
                "points": ball.points,
                "seen": ball.seen,
                "filled": ball.filled,
                "centre_mm": ball.sphere.centre_mm.tolist(),
                **self.against_earlier(name),
            }
            for name, ball, wanted in zip(NAMES, self.balls, nominal, strict=True)
        ]
        spacing = {
            "spacing_mm": self.spacing_mm,
            "nominal_mm": self.spacing_nominal_mm,
            "error_um": self.figures.get("spacing error um"),
            **self.against_earlier("spacing"),
        }
        criteria = [vars(criterion) for criterion in self.criteria]
        return self.entry | {
            "balls": balls, "spacing": spacing, "criteria": criteria, "warnings": list(self.warnings)
        }  # fmt: skip


def check_balls(
    recording: Recording,
    calibration: RigCalibration,
    *,
    ball_mm: Sequence[float] = (),
    spacing_mm: float | None = None,
    gauge: str | None = None,
    limits: Limits | None = None,
    history: Sequence[dict[str, Any]] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> BallCheck:
    """Measure a ball bar and judge it.

    Parameters
    ----------
    recording : Recording
        Of target ``ball_bar`` or ``part``, with patterns.
    ball_mm : sequence of float
        Certified diameters, of both balls or one for both. Without them nothing is said of their size.
    spacing_mm : float, optional
        Certified distance of the centres. Without it nothing is said of its error.
    gauge, limits, history
        As :func:`rakelight.pipeline.daily_check.check_gauge`.

    Raises
    ------
    InputError
        ``check.target``, ``check.balls``; as :func:`rakelight.calibration.balls.find_balls`.
    DatasetError, CalibrationError
        As :func:`measure_surface`.
    """
    limits = limits or Limits()
    if recording.info.target not in TARGETS:
        raise InputError(
            f"{recording.folder} shows {recording.info.target!r}; diameters and spacing are those of a ball_bar",
            hint="name the recording of a ball bar, or leave out --ball-mm and --spacing-mm",
            code="check.target",
        )
    nominal = _nominal(ball_mm, spacing_mm)
    surface = measure_surface(recording, calibration, progress=progress)
    progress("balls")
    tolerance = max(gauges.TOLERANCE_MM, 5 * float(np.nanmedian(surface.merged.sigma_z_mm)))
    balls = find_balls(surface.xyz, surface.mask, nominal, count=len(NAMES), tolerance_mm=tolerance)
    apart = float(np.linalg.norm(balls[0].sphere.centre_mm - balls[1].sphere.centre_mm))
    figures = _figures(balls, apart, spacing_mm)
    entry = entry_of(recording, calibration, gauge, figures)
    lengths = {name: (nominal[k] if nominal else None, limits.size_um[1]) for k, name in enumerate(NAMES)}
    told, drift = over_time(history, entry, lengths | {"spacing": (spacing_mm, limits.spacing_um[1])})
    return BallCheck(
        entry=entry,
        figures=figures,
        criteria=(*_criteria(figures, limits), *drift_criteria(drift, limits)),
        history=told,
        drift=drift,
        warnings=(*(s.sentence for s in stale_for(calibration, recording)), *surface.report["warnings"]),
        balls=tuple(balls),
        spacing_mm=apart,
        diameters_nominal_mm=nominal,
        spacing_nominal_mm=spacing_mm,
    )


def _nominal(ball_mm: Sequence[float], spacing_mm: float | None) -> tuple[float, ...]:
    """Certified diameter of each ball."""
    told = tuple(float(v) for v in ball_mm)
    if len(told) > len(NAMES) or not all(0 < v < math.inf for v in (*told, 1.0 if spacing_mm is None else spacing_mm)):
        apart = "" if spacing_mm is None else f", spacing {spacing_mm:g} mm"
        raise InputError(
            f"diameters {', '.join(f'{v:g}' for v in told) or 'not told'} mm{apart}; allowed: one or two, above 0 mm",
            hint="name the diameters of both balls, or one for both: --ball-mm 10.0021,10.0004",
            code="check.balls",
        )
    return told * 2 if len(told) == 1 else told


def _figures(balls: Sequence[Ball], apart_mm: float, nominal_mm: float | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, ball in zip(NAMES, balls, strict=True):
        found |= {f"{name} mm": ball.sphere.diameter_mm, f"{name} form um": ball.sphere.form_error_um}
        if ball.sphere.size_error_um is not None:
            found[f"{name} size error um"] = ball.sphere.size_error_um
        found |= {f"{name} points": float(ball.points), f"{name} seen share": ball.seen}
    found["spacing mm"] = apart_mm
    if nominal_mm is not None:
        found["spacing error um"] = gauges.spacing_error_um(balls[0].sphere, balls[1].sphere, nominal_mm)
    return {name: round(value, 7) for name, value in found.items()}


def _criteria(figures: dict[str, float], limits: Limits) -> list[Criterion]:
    found = []
    for name in NAMES:
        found.append(
            judge(
                f"{name}, form PF",
                figures[f"{name} form um"],
                "µm",
                limits.form_um,
                "range of the radial distances, three points in a thousand left out; large on a shiny or dirty ball",
            )
        )
        if (size := figures.get(f"{name} size error um")) is not None:
            found.append(
                judge(
                    f"{name}, size PS",
                    abs(size),
                    "µm",
                    limits.size_um,
                    "measured less certified diameter, without sign",
                )
            )
    if (spacing := figures.get("spacing error um")) is not None:
        found.append(
            judge(
                "sphere spacing SD",
                abs(spacing),
                "µm",
                limits.spacing_um,
                "measured less certified distance of the centres, without sign",
            )
        )
    return found  # fmt: skip
