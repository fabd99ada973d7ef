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
from rakelight.pipeline.light_stack import SATURATION, frame_camera, grey_mean, read_grey
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
    dark = _dark(by_target) or (base.dark if base else None)
    if spheres:
        progress("spheres")
        solved = _from_spheres(spheres, parts[0] if parts else None, camera, plane, dark)
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
    progress("flat field")
    flat = _flat_field(by_target, lights, dark, camera, plane)
    if flat is None and base and base.flat_field:
        if spheres:
            warnings.append("the base's flat field was left out, since it goes with the base's lights")
        else:
            flat = base.flat_field
    if len({r.info.simulated for r in recordings} | ({base.simulated} if base else set())) > 1:
        warnings.append("simulated and real recordings (or base) were mixed; the calibration counts as simulated")
    result = RigCalibration(
        calibration_id=calibration_id,
        created_utc=utc_now(),
        simulated=any(r.info.simulated for r in recordings) or (base is not None and base.simulated),
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
    spheres: list[Recording], part: Recording | None, camera: Camera | None, plane: Plane | None, dark: Dark | None
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
        [frames for recording in spheres for frames in _sphere_frames(recording, zones, camera)],
        camera=camera,
        table=plane,
        saturation=None if scale is None else 0.98 * scale,
        zones=zones,
        object_frames=None if part is None else _matte_frames(part, zones, dark),
    )


def _matte_frames(
    part: Recording, zones: tuple[int, ...], dark: Dark | None
) -> Callable[[], Iterator[NDArray[np.float32]]]:
    """The zone frames of a part less its own dark frame, or else the calibration's; saturated pixels stay at full scale."""
    own = list(part.shots("ambient")) or list(part.shots("dark"))
    height, width = part.info.height, part.info.width
    level: NDArray[Any] | float = 0.0
    if own:
        level = grey_mean(part, own)
    elif dark is not None and dark.shape == (height, width):
        level = dark.values()

    def frames() -> Iterator[NDArray[np.float32]]:
        for zone in zones:
            raw = read_grey(part, zone)
            frame = np.maximum(raw - np.asarray(level, np.float32), 0)
            if part.full_scale is not None:
                frame[raw >= SATURATION * part.full_scale] = part.full_scale
            yield frame

    return frames


def _offset(recording: Recording, camera: Camera | None) -> tuple[float, float]:
    """Where the frames begin in the camera's image (without a camera: on the sensor), in pixels of the frames."""
    info, sensor = recording.info, recording.info.sensor
    if camera is None:
        return sensor.offset_x / sensor.binning, sensor.offset_y / sensor.binning
    if (camera.width, camera.height) == (info.width, info.height):
        return 0.0, 0.0
    if sensor.binning > 1:
        raise CalibrationError(
            f"{recording.folder} was taken with binning {sensor.binning}, the camera is calibrated for "
            f"{camera.width}×{camera.height} px without; the sphere's frames are {info.width}×{info.height} px",
            hint="record the sphere without binning, or calibrate the camera with it",
            code="calibration.size_mismatch",
        )
    frame_camera(camera, recording)
    return float(sensor.offset_x), float(sensor.offset_y)


def _sphere_frames(recording: Recording, zones: tuple[int, ...], camera: Camera | None) -> Iterator[SphereFrames]:
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
            offset=_offset(recording, camera),
            diameter_mm=info.sphere_diameter_mm,
        )


def _figures(solved: LightCalibration) -> dict[str, Any]:
    near = solved.near
    known = [s for s in near if s.determined]
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
        "near_fit": None  # one sphere tells nothing of distance
        if not near
        else {
            "residual_deg": round(float(np.mean([s.residual_deg for s in near])), 3),
            "positions_determined": len(known),
            "median_distance": round(float(np.median([s.distance for s in known])), 2) if known else None,
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
        if "dark" in by_target:
            raise CalibrationError(
                f"{sources[0].folder} is of target dark, but no frame of it has the role dark or ambient",
                hint='describe its frames with role = "dark"',
                code="calibration.dark_invalid",
            )
        return None
    _check_raw(sources)
    return build_dark(
        (r.read(f) for r, f in shots), exposure_us=shots[0][1].exposure_us, full_scale=shots[0][0].full_scale
    )


def _check_raw(recordings: list[Recording]) -> None:
    """Maps belong to the photosites of one sensor: refuse colour images, and formats that differ."""
    formats = {r.info.pixel_format: r for r in recordings}
    colour = next((f for f in formats if f.startswith("RGB")), None)
    if colour or len(formats) > 1:
        found = (
            f"{formats[colour].folder} is {colour}" if colour else f"the recordings are {', '.join(sorted(formats))}"
        )
        raise CalibrationError(
            f"{found}; flat field and dark are maps of the raw photosites, of one Mono or Bayer format",
            hint="record white plane and dark in the raw format of the parts, or leave them out",
            code="calibration.flat_field_invalid",
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
    _check_raw(whites)
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
