"""Recordings of a white plane and of darkness → flat field and dark map, with the format of the frames they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.flat_field import (
    MAX_EXPOSURE_DIFFERENCE,
    Dark,
    FlatField,
    build_dark,
    build_flat_field,
    plane_light_of,
)
from rakelight.calibration.frame_format import FrameFormat
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError
from rakelight.pipeline.zone_frames import background, exposure_factors, frame_format, is_colour, zone_exposures
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.models import Camera, Plane

_SAME_EXPOSURE = 0.01  # relative; what a camera reads back jitters


@dataclass(frozen=True)
class DarkMap:
    """A dark map and the frames that it belongs to; both None where there is none."""

    dark: Dark | None = None
    format: FrameFormat | None = None


def dark_map(darks: list[Recording], whites: list[Recording], otherwise: DarkMap) -> DarkMap:
    """The mean of the ``dark`` shots of dark recordings, else of white planes, else ``otherwise``, else of ambient shots.

    Ambient light is no dark: it serves only where nothing else is known of the black level.

    Raises
    ------
    CalibrationError
        ``calibration.dark_invalid``, ``calibration.exposure_mismatch``, or formats that cannot make one map.
    """
    for recording in darks:
        if not any(True for role in ("dark", "ambient") for _ in recording.shots(role)):
            raise CalibrationError(
                f"{recording.folder} is of target dark, but no frame of it has the role dark or ambient",
                hint='describe its frames with role = "dark"',
                code="calibration.dark_invalid",
            )
    for role in ("dark", "ambient"):
        for group in (darks, whites):
            shots = [(r, f) for r in group for f in r.shots(role)]
            if not shots or (role == "ambient" and group is whites and otherwise.dark is not None):
                continue
            sources = [r for r in group if any(r is used for used, _ in shots)]
            format_ = one_format(sources)
            exposure = _one_exposure("dark frames", [f.exposure_us for _, f in shots], MAX_EXPOSURE_DIFFERENCE)
            frames = (r.read(f) for r, f in shots)
            return DarkMap(build_dark(frames, exposure_us=exposure, full_scale=sources[0].full_scale), format_)
    return otherwise


def one_format(recordings: list[Recording]) -> FrameFormat:
    """The format of recordings that make one map; refuses colour images, and formats that differ."""
    first = frame_format(recordings[0])
    for recording in recordings:
        if is_colour(recording):
            raise CalibrationError(
                f"{recording.folder} is {recording.info.pixel_format}; flat field and dark are maps of the raw "
                "photosites, of one Mono or Bayer format",
                hint="record white plane and dark in the raw format of the parts, or leave them out",
                code="calibration.flat_field_invalid",
            )
        first.check(frame_format(recording), str(recording.folder), f"those of {recordings[0].folder}")
        size, other = recording.frame_shape, recordings[0].frame_shape
        if size != other:
            raise CalibrationError(
                f"{recording.folder} has frames of {size[1]}×{size[0]} px, {recordings[0].folder} of {other[1]}×{other[0]} px",
                hint="record dark and white frames with the same region of interest and binning",
                code="calibration.size_mismatch",
            )
    return first


def _one_exposure(what: str, exposures: list[float | None], allowed: float) -> float | None:
    """Mean of exposures that agree, None where one is not known."""
    known = [e for e in exposures if e is not None]
    if known and max(known) > (1 + allowed) * min(known):
        raise CalibrationError(
            f"the {what} were taken at {min(known):g} to {max(known):g} µs; allowed: within {allowed:.0%}",
            hint="calibrate with recordings of one exposure",
            code="calibration.exposure_mismatch",
        )
    return sum(known) / len(known) if known and len(known) == len(exposures) else None


def flat_field(
    whites: list[Recording],
    lights: tuple[Light, ...],
    dark: DarkMap,
    camera: Camera | None,
    plane: Plane | None,
    warnings: list[str],
) -> FlatField:
    """Gains from every white-plane recording; light by light along its direction, or its position where that is known.

    From each recording its own ambient or dark frames are subtracted, else the dark map. Zones of different exposure
    are brought to one, the reference exposure.
    """
    one_format(whites)
    scale = whites[0].full_scale
    if scale is None:
        raise CalibrationError(
            f"{whites[0].folder}: frames of {whites[0].info.pixel_format} have no full scale, so saturation cannot be seen",
            hint="record the white plane with an integer pixel format",
            code="calibration.flat_field_invalid",
        )
    near = camera is not None and plane is not None and all(light.position_mm is not None for light in lights)
    present = {zone for r in whites for zone in r.zones}
    used = [light for light in lights if light.zone in present]
    if len(used) < 3:
        raise CalibrationError(
            f"the white plane was recorded under zones {sorted(present)}; lights are known for {[x.zone for x in lights]}; "
            "at least 3 must agree",
            hint="record the white plane under every zone",
            code="calibration.zones_differ",
        )
    reference, factors = _exposures(whites, [light.zone for light in used], warnings)
    below = [background(r, dark.dark, dark.format, warnings) for r in whites]

    def frames(zone: int) -> Iterator[NDArray[Any]]:
        return (r.read(f) for r in whites for f in r.shots("zone", zone))

    def level(zone: int) -> NDArray[np.float32]:
        counts = [sum(1 for _ in r.shots("zone", zone)) for r in whites]
        total = np.zeros((whites[0].info.height, whites[0].info.width), np.float32)
        for count, ground in zip(counts, below, strict=True):
            if count and ground.map is not None:
                total += ground.values() * np.float32(count / sum(counts))
        return total

    built = build_flat_field(
        {light.zone: frames(light.zone) for light in used},
        level,
        {light.zone: plane_light_of(light, plane, camera if near else None) for light in used},
        scale,
        reference_exposure_us=reference,
    )
    # a white taken longer than the reference reads brighter, so its gain is too low by that ratio
    return replace(built, scales=(built.scales / factors).astype(np.float32))


def _exposures(
    whites: list[Recording], zones: list[int], warnings: list[str]
) -> tuple[float | None, NDArray[np.float64]]:
    """Reference exposure, None if not known, and (K,) factors that bring each zone's white to it."""
    for zone in zones:
        shots = [f.exposure_us for r in whites for f in r.shots("zone", zone)]
        _one_exposure(f"white frames of zone {zone}", shots, _SAME_EXPOSURE)
    if len(whites) > 1:
        _one_exposure("white planes", [f.exposure_us for r in whites for f in r.shots("zone")], _SAME_EXPOSURE)
        unknown = [r for r in whites if None in zone_exposures(r, r.zones)]
        if unknown and len(unknown) < len(whites):
            warnings.append(
                f"{unknown[0].info.part_id}: its exposure is not known; it is taken as that of the other whites"
            )
        exposures = [e for r in whites for e in zone_exposures(r, r.zones) if e is not None]
        return (None if unknown else sum(exposures) / len(exposures)), np.ones(len(zones))
    factors = exposure_factors(whites[0], zones, None, warnings)
    known = [e for e in zone_exposures(whites[0], zones) if e is not None]
    return (sum(known) / len(known) if len(known) == len(zones) else None), factors
