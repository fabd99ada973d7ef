"""Recordings of targets → a RigCalibration: lights from chrome spheres, strengths from a matte part, flat field and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight.calibration.flat_field import Dark, FlatField, build_dark, build_flat_field, plane_light_of
from rakelight.calibration.lights import LightCalibration, SphereFrames, calibrate_lights
from rakelight.calibration.outlines import Circle, find_spheres
from rakelight.calibration.rig_calibration import RigCalibration, utc_now
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError
from rakelight.pipeline.light_stack import read_grey
from rakelight.reconstruction.lights import Light, light_geometry
from rakelight.reconstruction.models import Camera, Plane

USED_TARGETS = ("chrome_sphere", "white_plane", "dark", "part")


@dataclass(frozen=True)
class LightReport:
    """A light calibration and how it came about, for tables and ``--json``."""

    calibration: RigCalibration
    figures: dict[str, Any]


def _frames(recording: Recording, zones: tuple[int, ...]) -> Callable[[], Iterator[NDArray[Any]]]:
    """A function that goes through the zone frames of a recording, reading each when it is reached."""
    return lambda: (read_grey(recording, zone) for zone in zones)


def calibrate_from_recordings(
    recordings: list[Recording],
    calibration_id: str,
    *,
    base: RigCalibration | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> LightReport:
    """Calibrate lights, strengths, flat field and dark from whatever the recordings show.

    Chrome spheres give directions (and positions when camera and diameter are known), a part gives strengths, a white
    plane the flat field, dark frames the dark map. ``base`` supplies the camera and the table plane, and the lights
    when there is no sphere.

    Raises
    ------
    CalibrationError
        No recording of a usable target, no lights, recordings that disagree in their zones, or what the solvers find wrong.
    DatasetError
        A damaged frame.
    """
    by_target: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_target.setdefault(recording.info.target, []).append(recording)
    unusable = sorted(set(by_target) - set(USED_TARGETS))
    if unusable:
        raise CalibrationError(
            f"recordings of {', '.join(unusable)} say nothing about lights; used are {', '.join(USED_TARGETS)}",
            hint="leave them out, or correct `target` in their description",
            code="calibration.unused_target",
        )
    warnings: list[str] = []
    figures: dict[str, Any] = {}
    camera = base.camera if base else None
    plane = base.table_plane if base else None
    spheres, parts = by_target.get("chrome_sphere", []), by_target.get("part", [])
    if spheres:
        progress("spheres")
        solved = _from_spheres(spheres, parts[0] if parts else None, camera, plane)
        lights = solved.lights
        warnings += solved.warnings
        figures |= _figures(solved)
        if len(parts) > 1:
            warnings.append(f"strengths were taken from {parts[0].info.part_id!r}, the first of {len(parts)} parts")
    elif base and base.lights:
        lights = base.lights
    else:
        raise CalibrationError(
            "no recording shows a chrome sphere, and no base calibration gives lights",
            hint='record a chrome sphere under every zone (target = "chrome_sphere"), or pass --base CALIBRATION',
            code="calibration.no_lights",
        )
    geometry = light_geometry(lights)
    warnings += [w for w in geometry.warnings if w not in warnings]
    figures["condition_number"] = round(float(geometry.condition_number), 4)
    progress("flat field and dark")
    dark = _dark(by_target) or (base.dark if base else None)
    flat = _flat_field(by_target, lights, dark, camera, plane) or (base.flat_field if base and not spheres else None)
    result = RigCalibration(
        calibration_id=calibration_id,
        created_utc=utc_now(),
        simulated=any(r.info.simulated for r in recordings),
        camera=camera,
        table_plane=plane,
        lights=tuple(lights),
        flat_field=flat,
        dark=dark,
        projectors=base.projectors if base else (),
        provenance={
            "software": f"rakelight {rakelight.__version__}",
            "recordings": [
                {
                    "id": r.info.recording_id,
                    "part_id": r.info.part_id,
                    "target": r.info.target,
                    "created_utc": r.info.created_utc,
                }
                for r in recordings
            ],
            "base": base.content_sha256 if base else None,
        },
        quality=figures,
        warnings=tuple(warnings),
    )
    return LightReport(result, figures)


def _from_spheres(
    spheres: list[Recording], part: Recording | None, camera: Camera | None, plane: Plane | None
) -> LightCalibration:
    zones = spheres[0].zones
    for recording in [*spheres, *([part] if part else [])]:
        if recording.zones != zones:
            raise CalibrationError(
                f"{recording.folder} has zones {list(recording.zones)}, {spheres[0].folder} has {list(zones)}; they must agree",
                hint="record every target under the same zones",
                code="calibration.zones_differ",
            )
    if not zones:
        raise CalibrationError(
            f"{spheres[0].folder} has no frame of a single zone",
            hint="record one frame per zone",
            code="calibration.no_lights",
        )
    levels = {r.full_scale for r in spheres}
    scale = levels.pop() if len(levels) == 1 else None
    return calibrate_lights(
        [frames for recording in spheres for frames in _sphere_frames(recording, zones)],
        camera=camera,
        table=plane,
        saturation=None if scale is None else 0.98 * scale,
        zones=zones,
        object_frames=None if part is None else _frames(part, zones),
    )


def _sphere_frames(recording: Recording, zones: tuple[int, ...]) -> Iterator[SphereFrames]:
    """One entry per sphere that the recording shows; circles given by hand are taken, else found in the mean frame."""
    info, frames = recording.info, _frames(recording, zones)
    circles: list[Circle | None] = [Circle(c.u, c.v, c.radius) for c in info.circles]
    if not circles and info.sphere_count > 1:
        total = np.zeros((info.height, info.width), np.float32)
        for frame in frames():
            total += frame
        circles = list(find_spheres(total, info.sphere_count))
    for circle in circles or [None]:
        yield SphereFrames(
            frames,
            circle=circle,
            offset=(info.sensor.offset_x, info.sensor.offset_y),
            diameter_mm=info.sphere_diameter_mm,
        )


def _figures(solved: LightCalibration) -> dict[str, Any]:
    near = [s for s in solved.near if s is not None and np.isfinite(s.distance)]
    fit = solved.strength
    return {
        "spheres": [
            {"u": round(c.u, 2), "v": round(c.v, 2), "radius_px": round(c.radius, 2), "rim_seen": round(c.support, 3)}
            for c in solved.circles
        ],
        "sphere_spread_deg": {
            "mean": round(float(solved.spreads_deg.mean()), 3),
            "max": round(float(solved.spreads_deg.max()), 3),
        },
        "near_fit": None
        if not near
        else {
            "lights": len(near),
            "residual_deg": round(float(np.sqrt(np.mean([s.residual_deg**2 for s in near]))), 3),
            "median_distance": round(float(np.median([s.distance for s in near])), 2),
            "unit": near[0].unit,
        },
        "strengths": None
        if fit is None
        else {
            "relative_residual": round(fit.residual, 4),
            "with_equal_strengths": round(fit.residual_equal, 4),
            "determinacy": round(fit.determinacy, 2),
        },
    }


def _dark(by_target: dict[str, list[Recording]]) -> Dark | None:
    """The mean of all dark frames: recordings of target ``dark``, else the dark or ambient shots beside the white plane."""
    sources = by_target.get("dark") or by_target.get("white_plane", [])
    shots = [(r, f) for r in sources for role in ("dark", "ambient") for f in r.shots(role)]
    if not shots:
        return None
    return build_dark(
        (r.read(f) for r, f in shots), exposure_us=shots[0][1].exposure_us, full_scale=shots[0][0].full_scale
    )


def _flat_field(
    by_target: dict[str, list[Recording]],
    lights: tuple[Light, ...],
    dark: Dark | None,
    camera: Camera | None,
    plane: Plane | None,
) -> FlatField | None:
    """Gains from every white-plane recording; light by light along its direction, or its position where that is known."""
    whites = by_target.get("white_plane", [])
    if not whites:
        return None
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

    def frames(zone: int) -> Iterator[NDArray[Any]]:
        return (r.read(f) for r in whites for f in r.shots("zone", zone))

    return build_flat_field(
        {light.zone: frames(light.zone) for light in used},
        dark,
        {light.zone: plane_light_of(light, plane, camera if near else None) for light in used},
        scale,
        reference_exposure_us=next((f.exposure_us for r in whites for f in r.shots("zone")), None),
    )
