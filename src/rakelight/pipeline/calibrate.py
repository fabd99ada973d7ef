"""Recordings of targets → a RigCalibration: lights from chrome spheres, strengths from a matte part, flat field and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight.calibration.flat_field import FlatField
from rakelight.calibration.joint_lights import JointLights
from rakelight.calibration.lights import (
    SHADOW_FRACTION,
    LightCalibration,
    SphereFrames,
    StrengthFit,
    calibrate_lights,
    object_strengths,
)
from rakelight.calibration.outlines import Circle
from rakelight.calibration.plane_samples import PlaneSamples, sample_plane
from rakelight.calibration.rig_calibration import RigCalibration, utc_now
from rakelight.calibration.rig_facts import KEY, facts_of, with_base
from rakelight.calibration.scale_check import ScaleCheck, check_scale
from rakelight.calibration.spheres import find_known_spheres
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError
from rakelight.pipeline.calibrate_colour import colour_of
from rakelight.pipeline.calibrate_maps import DarkMap, dark_map, flat_field, one_format
from rakelight.pipeline.light_stack import frame_camera
from rakelight.pipeline.zone_frames import background, exposure_factors, is_colour, read_grey
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.lights import Light, light_geometry
from rakelight.reconstruction.models import Camera, Plane

USED_TARGETS = ("chrome_sphere", "white_plane", "dark", "part")


@dataclass(frozen=True)
class LightReport:
    """A light calibration and how it came about, for tables and ``--json``."""

    calibration: RigCalibration
    figures: dict[str, Any]


@dataclass(frozen=True)
class Matte:
    """Frames of a matte part, ready for the fit of strengths, and the DN from which they are saturated."""

    frames: Callable[[], Iterator[NDArray[np.float32]]]
    saturation: float | None


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
    when there is no sphere; a part then renews their strengths.

    Raises
    ------
    CalibrationError
        No recording of a usable target, no lights, recordings that disagree in their zones or their devices, or what the
        solvers find wrong.
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
    rig = facts_of(recordings)
    rig = with_base(rig, base) if base else rig
    warnings: list[str] = []
    figures: dict[str, Any] = {}
    camera = base.camera if base else None
    plane = base.table_plane if base else None
    spheres, parts = by_target.get("chrome_sphere", []), by_target.get("part", [])
    whites = by_target.get("white_plane", [])
    based = DarkMap(base.dark, base.map_format) if base and base.dark else DarkMap()
    dark = dark_map(by_target.get("dark", []), whites, based)
    if len(parts) > 1:
        warnings.append(f"strengths were taken from {parts[0].info.part_id!r}, the first of {len(parts)} parts")
    if spheres:
        progress("spheres")
        solved, scale = _from_spheres(spheres, parts[0] if parts else None, whites, camera, plane, dark, warnings)
        lights = solved.lights
        warnings += [*solved.warnings, *([scale.warning] if scale is not None and scale.warning else [])]
        figures |= _figures(solved) | {"scale": None if scale is None else scale.to_plain()}
    elif base and base.lights:
        lights = base.lights
        if parts:
            progress("strengths")
            zones = tuple(light.zone for light in lights)
            _check_zones(parts[0], zones, "the base calibration")
            lights, fit = _with_strengths(lights, _matte_frames(parts[0], zones, dark, warnings))
            figures["strengths"] = _strength_figures(fit)
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
    flat = flat_field(whites, lights, dark, camera, plane, warnings) if whites else None
    flat_format = one_format(whites) if whites else None
    if flat is None and base and base.flat_field:
        if spheres:
            warnings.append("the base's flat field was left out, since it goes with the base's lights")
        else:
            flat, flat_format = _for_strengths(base.flat_field, base.lights, lights), base.map_format
    colour, told = colour_of(recordings, dark, warnings)
    figures |= told
    if flat_format and dark.format:
        flat_format.check(dark.format, "dark map", "those of the flat field")
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
        dark=dark.dark,
        map_format=flat_format or dark.format,
        colour=colour or (base.colour if base else None),
        projectors=base.projectors if base else (),
        provenance={
            "software": f"rakelight {rakelight.__version__}",
            "recordings": [_provenance(r) for r in recordings],
            "settings": {"saturation": SATURATION, "shadow_fraction": SHADOW_FRACTION},
            "base": base.content_sha256 if base else None,
            KEY: rig.to_plain(),
        },
        quality=figures,
        warnings=tuple(warnings),
    )
    return LightReport(result, figures)


def _from_spheres(
    spheres: list[Recording],
    part: Recording | None,
    whites: list[Recording],
    camera: Camera | None,
    plane: Plane | None,
    dark: DarkMap,
    warnings: list[str],
) -> tuple[LightCalibration, ScaleCheck | None]:
    """The lights, and what balls on the table say of the camera's millimetre where all of that is known."""
    zones = spheres[0].zones
    for recording in [*spheres, *([part] if part else [])]:
        _check_zones(recording, zones, str(spheres[0].folder))
    if not zones:
        raise CalibrationError(
            f"{spheres[0].folder} has no frame of a single zone",
            hint="record one frame per zone",
            code="calibration.no_lights",
        )
    matte = _matte_frames(part, zones, dark, warnings) if part else None
    balls = [frames for recording in spheres for frames in _sphere_frames(recording, zones, camera, plane)]
    solved = calibrate_lights(
        balls,
        camera=camera,
        table=plane,
        white=_white_samples(spheres, whites, zones, camera, plane, dark),
        zones=zones,
        object_frames=None if matte is None else matte.frames,
        object_saturation=None if matte is None else matte.saturation,
    )
    sizes = [(c, b.diameter_mm) for c, b in zip(solved.circles, balls, strict=True) if b.diameter_mm and len(c.rim)]
    if camera is None or plane is None or not sizes:
        return solved, None
    return solved, check_scale([circle for circle, _ in sizes], [mm for _, mm in sizes], camera, plane)


def _matte_frames(part: Recording, zones: tuple[int, ...], dark: DarkMap, warnings: list[str]) -> Matte:
    """The zone frames of a part less what lies below them, at one exposure; saturated pixels stay at full scale."""
    below = background(part, dark.dark, dark.format, warnings)
    if dark.dark is not None and below.map is None:
        warnings.append(
            f"{part.info.part_id}: the dark map was not used: it belongs to raw frames, these are colour images"
        )
    level = below.values()
    factors = exposure_factors(part, zones, None, warnings)
    factors = factors / factors.max()  # at most 1: nothing rises to the saturation level

    def frames() -> Iterator[NDArray[np.float32]]:
        for zone, factor in zip(zones, factors, strict=True):
            raw = read_grey(part, zone)
            frame = np.maximum(raw - np.asarray(level, np.float32), 0) * np.float32(factor)
            if part.full_scale is not None:
                frame[raw >= SATURATION * part.full_scale] = part.full_scale
            yield frame

    return Matte(frames, _saturation(part))


def _white_samples(
    spheres: list[Recording],
    whites: list[Recording],
    zones: tuple[int, ...],
    camera: Camera | None,
    plane: Plane | None,
    dark: DarkMap,
) -> list[PlaneSamples]:
    """White planes on the table, as far as they can tell positions: raw full frames under all zones of the spheres.

    What :func:`flat_field` warns of in them, it warns of; here it is not said twice.
    """
    if camera is None or plane is None or any(r.info.sphere_diameter_mm is None for r in spheres):
        return []
    out = []
    for recording in whites:
        size = (recording.info.width, recording.info.height)
        usable = not is_colour(recording) and recording.zones == zones and size == (camera.width, camera.height)
        if not usable or recording.full_scale is None:
            continue
        factors = exposure_factors(recording, zones, None, [])
        samples = sample_plane(
            {zone: read_grey(recording, zone) for zone in zones},
            camera,
            plane,
            full_scale=recording.full_scale,
            below=background(recording, dark.dark, dark.format, []).values(),
            exposure_us={zone: 1.0 / factor for zone, factor in zip(zones, factors, strict=True)},
        )
        out.append(replace(samples, name=recording.folder.name))
    return out


def _saturation(recording: Recording) -> float | None:
    """DN from which a pixel counts as saturated."""
    return None if recording.full_scale is None else SATURATION * recording.full_scale


def _with_strengths(lights: tuple[Light, ...], matte: Matte) -> tuple[tuple[Light, ...], StrengthFit]:
    """Known lights with the strengths that a part shows."""
    fit = object_strengths(matte.frames, np.array([light.direction for light in lights]), saturation=matte.saturation)
    return tuple(replace(x, strength=float(s)) for x, s in zip(lights, fit.strengths, strict=True)), fit


def _check_zones(recording: Recording, zones: tuple[int, ...], other: str) -> None:
    if recording.zones != zones:
        raise CalibrationError(
            f"{recording.folder} has zones {list(recording.zones)}, {other} has {list(zones)}; they must agree",
            hint="record every target under the same zones",
            code="calibration.zones_differ",
        )


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


def _sphere_frames(
    recording: Recording, zones: tuple[int, ...], camera: Camera | None, plane: Plane | None
) -> Iterator[SphereFrames]:
    """One entry per sphere that the recording shows; circles given by hand are taken, else found in the mean frame."""
    info, frames = recording.info, _frames(recording, zones)
    circles: list[Circle | None] = [Circle(c.u, c.v, c.radius) for c in info.circles]
    if not circles and info.sphere_count > 1:
        total = np.zeros((info.height, info.width), np.float32)
        for frame in frames():
            total += frame
        circles = list(find_known_spheres(total, info.sphere_count, camera, plane, info.sphere_diameter_mm))
    for circle in circles or [None]:
        yield SphereFrames(
            frames,
            circle=circle,
            offset=_offset(recording, camera),
            diameter_mm=info.sphere_diameter_mm,
            saturation=_saturation(recording),
            name=recording.folder.name,
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
        "positions": None if solved.joint is None else _position_figures(solved.joint),
        "strengths": None if fit is None else _strength_figures(fit),
    }


def _position_figures(joint: JointLights) -> dict[str, Any]:
    """How surely the positions are known, and by what the white planes check the spheres."""
    plane = joint.plane
    return {
        "sigma_mm": [round(float(np.sqrt(np.trace(c))), 3) for c in joint.covariances],
        "spheres_rms": round(joint.sphere_rms, 2),
        "white_plane": None
        if plane is None
        else {
            "misfit": round(plane.misfit, 5),
            "chi2": round(plane.chi2, 2),
            "print_rms": round(plane.print_rms, 5),
            "from_spheres_mm": [_rounded(x, 2) for x in joint.apart_mm],  # None of a single sphere
            "from_spheres_sigmas": [_rounded(x, 1) for x in joint.apart_sigmas],
        },
    }


def _rounded(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _strength_figures(fit: StrengthFit) -> dict[str, Any]:
    return {
        "relative_residual": round(fit.residual, 4),
        "with_equal_strengths": round(fit.residual_equal, 4),
        "determinacy": round(fit.determinacy, 2),
    }


def _for_strengths(flat: FlatField, before: tuple[Light, ...], after: tuple[Light, ...]) -> FlatField:
    """A flat field for lights of other strengths: its gains are s · l·n / white, so they follow s."""
    if after is before:
        return flat
    ratio = {old.zone: new.strength / old.strength for old, new in zip(before, after, strict=True)}
    return replace(flat, scales=(flat.scales * np.array([ratio[z] for z in flat.zones])).astype(np.float32))


def _provenance(recording: Recording) -> dict[str, Any]:
    """What a calibration says of a recording that it was made from: which frames, and what was known of them."""
    info = recording.info
    entry: dict[str, Any] = {
        "id": info.recording_id,
        "part_id": info.part_id,
        "target": info.target,
        "created_utc": info.created_utc,
        "pixel_format": info.pixel_format,
        "sensor": info.sensor.model_dump(),
        "frames": {f.file: f.sha256 for f in info.frames},
        "exposures_us": sorted({f.exposure_us for f in info.frames if f.exposure_us is not None}),
    }
    if info.target == "chrome_sphere":
        entry |= {
            "sphere_diameter_mm": info.sphere_diameter_mm,
            "sphere_count": info.sphere_count,
            "circles": [circle.model_dump() for circle in info.circles],
        }
    return entry
