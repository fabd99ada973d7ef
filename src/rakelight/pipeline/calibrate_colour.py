"""Recordings of a white plane → the white balance of the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.colour import Colour, measure_colour
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError
from rakelight.pipeline.calibrate_maps import DarkMap
from rakelight.pipeline.zone_frames import background, grey_mean

KEY = "white_balance"
"""Of ``RigCalibration.quality``: the figures below, None where a colour camera has no white balance, absent for others."""

White = tuple[str, NDArray[Any], NDArray[np.float32] | float]


def colour_of(
    recordings: Sequence[Recording], dark: DarkMap, warnings: list[str]
) -> tuple[Colour | None, dict[str, Any]]:
    """Colour from the white planes among ``recordings`` and the dark map, and what to write of it into the quality.

    Only linear Bayer recordings count: others have no colour, or the camera's own. What makes a plate useless is told in
    ``warnings``, since everything but the pictures does without a white balance.
    """
    raw = [r for r in recordings if r.bayer is not None and r.info.linear]
    if not raw:
        return None, {}
    whites = [r for r in raw if r.info.target == "white_plane" and any(True for _ in _shots(r))]
    if not whites:
        return None, {KEY: None}
    scale = whites[0].full_scale or 1.0
    black = 0.0 if dark.dark is None else dark.dark.values()
    try:
        found = measure_colour(_whites(whites, dark), whites[0].bayer, scale, black)
    except CalibrationError as error:
        warnings.append(f"the pictures have no white balance: {error.message}")
        return None, {KEY: None}
    assert found is not None  # a Bayer pattern is named
    warnings += found.warnings
    percent = {"field_percent": found.field_spread, "lights_percent": found.light_spread}
    told = {name: None if value is None else round(100 * value, 3) for name, value in percent.items()}
    return found.colour, {KEY: told}


def with_colour(base: RigCalibration, recordings: Sequence[Recording]) -> RigCalibration:
    """``base`` with the colour that the white planes among ``recordings`` show over its dark map."""
    warnings: list[str] = []
    dark = DarkMap(base.dark, base.map_format) if base.dark else DarkMap()
    colour, told = colour_of(recordings, dark, warnings)
    return replace(
        base, colour=colour or base.colour, quality=base.quality | told, warnings=(*base.warnings, *warnings)
    )


def _shots(recording: Recording) -> Iterator[tuple[str, list[Any]]]:
    """The white frames of each zone, by a name; those under all zones where no zone was recorded."""
    for zone in recording.zones:
        yield f"white frame of zone {zone}", list(recording.shots("zone", zone))
    together = list(recording.shots("all_zones"))
    if not recording.zones and together:
        yield "white frame under all zones", together


def _whites(recordings: Sequence[Recording], dark: DarkMap) -> Iterator[White]:
    for recording in recordings:
        below = background(recording, dark.dark, dark.format, []).values()
        for name, frames in _shots(recording):
            yield f"{recording.info.part_id}: {name}", grey_mean(recording, frames), below
