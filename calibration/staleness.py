"""Whether a calibration still holds: the rig may have been changed, aged or warmed since, or drifted in its daily checks;
or whether it failed from the first.

Nothing is measured here: times, temperatures and the names of devices are compared. What is not known contradicts nothing, so
calibrations and recordings that say little are never called stale for it. A lens that was turned, and screws that
settled, are seen by ``rakelight calibrate check`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.rig_facts import RigFacts, facts_of, known_rig, same_body
from rakelight.dataset.recording import CalibrationLimits, Recording
from rakelight.errors import InputError

Kind = Literal["changed", "aged", "warmed", "drifted", "failed"]
VERDICT = "verdict"
"""Of ``RigCalibration.quality``: PASS, WARN or FAIL, the worst of its report's criteria; absent where none was made."""
_CLOCKS_DIFFER = timedelta(hours=1)  # by so much the clocks of two computers may, without being wrong
_CHECK = "check it on a gauge (`rakelight calibrate check`) or calibrate again"
_RENEW = "calibrate again"


@dataclass(frozen=True)
class Limits:
    """Beyond what a calibration counts as stale; ``[calibration]`` in rig.toml sets them.

    Attributes
    ----------
    max_age_days : float
        Between calibration and capture. 90: in a quarter lamps lose strength and screws settle, and nobody remembers any
        more what was touched. It is a reminder; a rig that is checked daily may be given more.
    max_warming_k : float
        Between the temperatures of a device at capture and at calibration, K. 10: aluminium grows by 23 ppm/K, so a distance
        of 200 mm grows by 46 µm over 10 K, and the scale changes by 2.3e-4, which is 2.3 µm of a 10 mm step: as much as the
        whole height uncertainty that a calibration may have (3 µm). A camera warms up by about as much in its first
        quarter of an hour.

    Raises
    ------
    InputError
        ``calibration.limits``: not a finite number above 0.
    """

    max_age_days: float = 90.0
    max_warming_k: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise InputError(f"{name} is {value}; allowed: finite, above 0", code="calibration.limits")

    @classmethod
    def of(cls, told: CalibrationLimits) -> Limits:
        """The limits that a rig sets, the usual ones where it sets none."""
        return cls(**told.model_dump(exclude_none=True))


@dataclass(frozen=True)
class Stale:
    """One reason why a calibration may not hold any more; ``sentence`` tells value, limit and what to do."""

    kind: Kind
    sentence: str


def staleness(
    calibration: RigCalibration,
    rig: RigFacts | None = None,
    now: datetime | None = None,
    limits: Limits | None = None,
) -> tuple[Stale, ...]:
    """Why ``calibration`` may not hold for ``rig``; empty if nothing speaks against it.

    Parameters
    ----------
    calibration : RigCalibration
        Its age counts from the oldest recording that it was made from, else from when it was made. A simulated rig does not
        age.
    rig : RigFacts, optional
        What is about to be measured with it, or was: of a recording, or as rig.toml says.
    now : datetime, optional
        Aware; the moment in question where ``rig`` has no time of capture. Without either age is not judged.
    limits : Limits, optional
    """
    limits = limits or Limits()
    known = known_rig(calibration)
    found = [] if rig is None or known is None else [*_changed(calibration, known, rig)]
    found += _aged(calibration, known, rig, now, limits)
    found += [] if rig is None or known is None else _warmed(calibration, known, rig, limits)
    if calibration.quality.get(VERDICT) == "FAIL":
        told = f"calibration {calibration.calibration_id} never held: its own report says FAIL; see its warnings, and {_RENEW}"
        found.append(Stale("failed", told))
    return tuple(found)


def stale_for(calibration: RigCalibration, recording: Recording) -> tuple[Stale, ...]:
    """Why ``calibration`` may not hold for ``recording``, by the limits of its rig; its age is that at the capture."""
    limits = Limits.of(recording.info.calibration_limits)
    return staleness(calibration, facts_of([recording]), limits=limits)


def drifted(calibration: RigCalibration, history: Iterable[Mapping[str, Any]]) -> tuple[Stale, ...]:
    """Gauges whose latest check (an entry of the check history) with this very calibration was FAIL."""
    latest: dict[str, Mapping[str, Any]] = {}
    mine = calibration.content_sha256
    own = (entry for entry in history if entry.get("calibration_sha256") == mine)
    for entry in sorted(own, key=lambda entry: datetime.fromisoformat(entry["time_utc"])):
        latest[entry["gauge"]] = entry
    return tuple(
        Stale(
            "drifted",
            f"the check of {gauge} on {entry['time_utc'][:10]} with calibration {calibration.calibration_id} was FAIL; "
            f"clean the gauge and check again, then {_RENEW}",
        )
        for gauge, entry in sorted(latest.items())
        if entry.get("verdict") == "FAIL"
    )


# -------------------------------------------------------------------------------------------------------------- changed
def _changed(calibration: RigCalibration, known: RigFacts, rig: RigFacts) -> list[Stale]:
    name = f"calibration {calibration.calibration_id}"
    found = []
    if None not in (known.rig_id, rig.rig_id) and known.rig_id != rig.rig_id:
        found.append(f"{name} is of rig {known.rig_id!r}, this is rig {rig.rig_id!r}; name the calibration of this rig")
    for kind in sorted(known.devices.keys() & rig.devices.keys()):
        if not same_body(kind, known.devices[kind], rig.devices[kind]):
            now_wrong = {"camera": "heights and scale are wrong", "lights": "strengths and normals may be wrong"}
            found.append(
                f"the {kind} was changed: {name} was made with {known.devices[kind]!r}, this is {rig.devices[kind]!r}; "
                f"{now_wrong.get(kind, 'heights may be wrong')} until you {_RENEW}"
            )
    if calibration.camera is not None and known.window is not None and rig.window is not None:
        mine, theirs = known.window, rig.window
        whole = (mine.sensor.offset_x, mine.sensor.offset_y, mine.sensor.binning) == (0, 0, 1)
        same_size = (mine.width, mine.height) == (theirs.width, theirs.height)
        # A window of a camera that was calibrated whole is cut out of its model.
        if mine.sensor != theirs.sensor and (same_size or not whole):
            found.append(
                f"the camera's region was changed: {name} was made with frames of {mine}, these are {theirs}; set the "
                f"region back or {_RENEW}"
            )
    return [Stale("changed", sentence) for sentence in found]


# ----------------------------------------------------------------------------------------------------------------- aged
def _aged(
    calibration: RigCalibration, known: RigFacts | None, rig: RigFacts | None, now: datetime | None, limits: Limits
) -> list[Stale]:
    if calibration.simulated:
        return []
    measured = None if known is None else known.captured_utc
    made = measured or (calibration.created_utc,) * 2  # which comes after the recordings, perhaps by years
    first, last = (datetime.fromisoformat(t).astimezone(UTC) for t in made)
    captured = None if rig is None or rig.captured_utc is None else datetime.fromisoformat(rig.captured_utc[1])
    moment, what = (now, "today") if captured is None else (captured, "the capture")
    if moment is None:
        return []
    name = f"calibration {calibration.calibration_id}"
    if captured is None and last - moment > _CLOCKS_DIFFER:
        return [
            Stale(
                "aged",
                f"{name} lies {_days(last - moment)} days in the future ({last:%Y-%m-%d}): a clock is or was wrong, and its "
                f"age is not known; set the clock, and {_RENEW} if it was wrong then",
            )
        ]
    if moment - first > timedelta(days=limits.max_age_days):
        return [
            Stale(
                "aged",
                f"{name} was {_days(moment - first)} days old at {what} (measured {first:%Y-%m-%d}; allowed: "
                f"{limits.max_age_days:g} days); {_CHECK}",
            )
        ]
    if measured is not None and last - moment > timedelta(days=limits.max_age_days):
        return [
            Stale(
                "aged",
                f"{name} was measured {_days(last - moment)} days after {what} ({last:%Y-%m-%d}; allowed: "
                f"{limits.max_age_days:g} days); a clock was wrong, or take a calibration of that time",
            )
        ]
    return []


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"{days:.1f}" if days < 10 else f"{days:.0f}"


# --------------------------------------------------------------------------------------------------------------- warmed
def _warmed(calibration: RigCalibration, known: RigFacts, rig: RigFacts, limits: Limits) -> list[Stale]:
    found = []
    for kind in sorted(known.temperature_c.keys() & rig.temperature_c.keys()):
        (low, high), (coldest, warmest) = known.temperature_c[kind], rig.temperature_c[kind]
        apart, at, way, do = max(
            (warmest - high, warmest, "warmer", f"{_RENEW} on the warm rig"),
            (low - coldest, coldest, "colder", f"let the rig warm up as it was then, or {_RENEW}"),
        )
        if apart > limits.max_warming_k:
            found.append(
                Stale(
                    "warmed",
                    f"the {kind} was at {at:.1f} °C, {apart:.1f} K {way} than for calibration {calibration.calibration_id} "
                    f"({low:.1f} to {high:.1f} °C; allowed: {limits.max_warming_k:g} K); {do}",
                )
            )
    return found
