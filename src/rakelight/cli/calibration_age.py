"""What ``calibrate show`` and ``verify`` tell of a calibration's age: of which rig it is, and whether it still holds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rakelight.calibration.rig_calibration import RigCalibration
    from rakelight.calibration.staleness import Stale


def why_stale(
    calibration: RigCalibration, rig: Path | None = None, recording: Path | None = None, history: Path | None = None
) -> tuple[Stale, ...]:
    """Why a calibration does not hold today, for the rig of a rig.toml (which is not opened), or for a recording."""
    from rakelight.acquisition.rig import SIMULATED, read_rig
    from rakelight.calibration.rig_facts import RigFacts
    from rakelight.calibration.staleness import Limits, drifted, stale_for, staleness
    from rakelight.dataset.recording import Recording
    from rakelight.pipeline.check_history import read_history

    if rig is not None and recording is not None:
        raise click.UsageError("--rig and --recording ask two questions; ask one at a time")
    if rig is not None and str(rig).startswith(SIMULATED.rstrip("/")):
        raise click.UsageError("--rig takes a rig.toml; a simulated rig neither ages nor changes")
    now = datetime.now(UTC)
    if recording is not None:
        found = stale_for(calibration, Recording.open(recording))
    elif rig is not None:
        settings = read_rig(rig)
        number = settings.camera.serial_number
        facts = RigFacts(rig_id=settings.rig_id, devices={"camera": number} if number else {})
        found = staleness(calibration, facts, now, Limits.of(settings.calibration))
    else:
        found = staleness(calibration, now=now)
    return found + (drifted(calibration, read_history(history)) if history is not None else ())


def rig_rows(calibration: RigCalibration) -> list[tuple[str, str]]:
    """The rig that a calibration was made of, as rows of a table; none if it does not say."""
    from rakelight.calibration.rig_facts import known_rig

    known = known_rig(calibration)
    if known is None:
        return []
    rows = [("rig", known.rig_id)] if known.rig_id else []
    rows += sorted(known.devices.items())
    rows += [("frames", f"{known.window}")] if known.window else []
    if known.captured_utc:
        first, last = (t[:16].replace("T", " ") for t in known.captured_utc)
        rows.append(("recorded (UTC)", first if first == last else f"{first} to {last}"))
    rows += [(f"temperature of the {k}", f"{a:.1f} to {b:.1f} °C") for k, (a, b) in known.temperature_c.items()]
    return rows
