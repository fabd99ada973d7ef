"""From an opened recording and a calibration to the arrays that photometric stereo takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.flat_field import FlatField
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording, Sensor
from rakelight.errors import CalibrationError, DatasetError, InputError
from rakelight.pipeline.zone_frames import (
    Background,
    background,
    exposure_factors,
    frame_format,
    is_colour,
    read_grey,
    zone_exposures,
)
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.lights import Light, light_geometry
from rakelight.reconstruction.models import Camera, Plane
from rakelight.reconstruction.photometric import DEFAULT_THRESHOLDS, Corrections

MAX_DARK_SHARE = 0.999  # a stack with more pixels too dark to solve shows nothing (a small part fills a few per cent)
MAX_SATURATED_SHARE = 0.98  # likewise, saturated in every zone
MAX_ZONE_SHARE = 0.999  # of the pixels that other zones light: a zone that is dark or saturated in more shows nothing
MAX_DEAD_RATIO = 0.25  # to the brightest other zone; a lamp above it is weak, not dead


@dataclass(frozen=True)
class LightStack:
    """The light frames of one recording with everything needed to solve them.

    Attributes
    ----------
    frames : tuple of K (H, W) arrays
        Raw frames, one a zone; Bayer mosaics as they are; colour frames as the mean of their channels (float32).
    lights : tuple of K Light
    corrections : Corrections
    full_scale : float or None
    near : (camera, plane) or None
        Present when every light has a position and the calibration knows camera and table: light vectors per pixel.
    warnings : tuple of str
    """

    frames: tuple[NDArray[Any], ...]
    lights: tuple[Light, ...]
    corrections: Corrections
    full_scale: float | None
    near: tuple[Camera, Plane] | None
    warnings: tuple[str, ...]

    @property
    def directions(self) -> NDArray[np.float64]:
        """(K, 3) unit light directions, viewer frame."""
        return np.array([light.direction for light in self.lights])


def load_light_stack(recording: Recording, calibration: RigCalibration) -> LightStack:
    """Read the zone frames of ``recording`` and match them with ``calibration``.

    Raises
    ------
    DatasetError
        A damaged frame, a stack that is all dark or all saturated, or one zone of it that is.
    CalibrationError
        Fewer than three zones that have both frames and a light; lights in one plane; maps of another size or format
        than the frames.
    """
    info = recording.info
    warnings: list[str] = []
    by_zone = {light.zone: light for light in calibration.lights}
    zones = [z for z in recording.zones if z in by_zone]
    unknown = [z for z in recording.zones if z not in by_zone]
    if len(zones) < 3:
        raise CalibrationError(
            f"{recording.folder}: {len(zones)} usable light(s): frames for zones {list(recording.zones)}, lights for zones "
            f"{sorted(by_zone)}; at least 3 must agree",
            hint="calibrate the lights that were used, or record the zones that are calibrated",
            code="photometric.too_few_lights",
        )
    if unknown:
        warnings.append(f"zones {unknown} have frames but no calibrated light; they were left out")
    if not info.linear:
        warnings.append("the frames are not linear (gamma-encoded): normals and albedo are bent; capture linear frames")
    if info.target != "part":
        warnings.append(f"the recording shows a {info.target}, not a part")
    if info.simulated != calibration.simulated:
        kinds = ("real", "simulated")
        warnings.append(
            f"a {kinds[info.simulated]} recording is solved with a {kinds[calibration.simulated]} calibration"
        )
    lights = tuple(by_zone[z] for z in zones)
    light_geometry(lights)  # refuses lights in one plane, before any frame is read
    near = _near(recording, calibration, lights)
    corrections = _corrections(recording, calibration, lights, warnings)
    frames = tuple(read_grey(recording, zone) for zone in zones)
    _check_exposure(recording, zones, frames, corrections)
    return LightStack(frames, lights, corrections, recording.full_scale, near, tuple(warnings))


def _check_exposure(
    recording: Recording, zones: list[int], frames: tuple[NDArray[Any], ...], corrections: Corrections
) -> None:
    """Refuse a stack that shows nothing in every zone (too dark to solve above the dark frame, or saturated), or in one."""
    scale = recording.full_scale
    step = max(1, frames[0].shape[0] // 500) | 1  # odd, so that every photosite of a Bayer cell is met
    raw = np.array([f[::step, ::step] for f in frames], np.float32)
    saturated = raw >= (SATURATION * scale if scale else np.inf)
    if corrections.dark is not None:
        raw -= np.multiply(corrections.dark[::step, ::step], np.float32(corrections.dark_scale), dtype=np.float32)
    brightest = raw.max(axis=0)
    floor = DEFAULT_THRESHOLDS.signal * scale if scale else 0.0
    if (share := float((brightest <= floor).mean())) > MAX_DARK_SHARE:
        raise DatasetError(
            f"{recording.folder}: {share:.1%} of the pixels are dark in every zone (the brightest is "
            f"{float(brightest.max()):.3g} DN above dark, needed are {floor:.3g} DN)",
            hint="check that the lights work, and raise the exposure",
            code="recording.all_dark",
        )
    if (share := float(saturated.all(axis=0).mean())) > MAX_SATURATED_SHARE:
        raise DatasetError(
            f"{recording.folder}: {share:.1%} of the pixels are saturated in every zone",
            hint="lower the exposure until the brightest part stays below 90 % of full scale",
            code="recording.all_saturated",
        )
    _check_zones(recording, zones, raw, saturated, floor or DEFAULT_THRESHOLDS.signal * float(brightest.max()))


def _check_zones(
    recording: Recording, zones: list[int], above: NDArray[np.float32], saturated: NDArray[np.bool_], floor: float
) -> None:
    """Refuse a zone in which nearly all that the other zones light is dark (a dead lamp), or saturated.

    ``above`` is (K, H, W) DN above dark. A part's own shadow leaves something lit, if only its rim or the ground.
    """
    for k, zone in enumerate(zones):
        others = np.delete(above, k, axis=0).max(axis=0)
        lit = others > floor
        if not lit.any():
            continue
        # by far darker too: without a dark frame the black level is part of the value; a weak lamp is no dead one
        dark = (above[k] <= floor) & (above[k] <= MAX_DEAD_RATIO * others)
        for share, what, hint, code in (
            (
                float(dark[lit].mean()),
                "dark",
                f"check the lamp of zone {zone}, its cable and its channel, and record again",
                "recording.zone_dark",
            ),
            (
                float(saturated[k][lit].mean()),
                "saturated",
                f"lower the exposure or the strength of zone {zone} until it stays below 90 % of full scale",
                "recording.zone_saturated",
            ),
        ):
            if share >= MAX_ZONE_SHARE:
                raise DatasetError(
                    f"{recording.folder}: in zone {zone}, {share:.2%} of the pixels that other zones light are {what}; "
                    f"allowed: below {MAX_ZONE_SHARE:.1%}",
                    hint=hint,
                    code=code,
                )


def _corrections(
    recording: Recording, calibration: RigCalibration, lights: tuple[Light, ...], warnings: list[str]
) -> Corrections:
    """Dark: the recording's own ambient or dark frames, else the calibration's. Gains: the flat field over the strengths.

    Zones of other exposures than the white plane's, or than each other's, are brought to one by the gains.
    """
    strengths = np.array([light.strength for light in lights])
    field = None if is_colour(recording) else calibration.flat_field
    dark = background(recording, calibration.dark, calibration.map_format, warnings)
    _name_unused(calibration, field, dark, warnings)
    reference = field.reference_exposure_us if field is not None else None
    zones = [light.zone for light in lights]
    factors = exposure_factors(recording, zones, reference, warnings) / strengths
    if field is None:
        return Corrections(dark.map, dark.scale, None, factors.astype(np.float32))
    calibration.check_frame(recording.info.width, recording.info.height)
    if calibration.map_format is not None:
        calibration.map_format.check(frame_format(recording), str(recording.folder))
    if reference is None and None not in zone_exposures(recording, zones):
        warnings.append("the exposure of the white plane is not known; it is taken as that of the part")
    rows = [field.index(zone) for zone in zones]
    gains = field.gains if rows == list(range(len(field.zones))) else field.gains[rows]
    return Corrections(dark.map, dark.scale, gains, (field.scales[rows] * factors).astype(np.float32))


def _name_unused(calibration: RigCalibration, field: FlatField | None, dark: Background, warnings: list[str]) -> None:
    """Say what of the calibration's maps a recording of colour images leaves out, and that there is no flat field."""
    if calibration.flat_field is None:
        warnings.append(
            "no flat field: light fall-off across the field tilts the normals by degrees; record a white plane"
        )
    unused = ["flat field"] if calibration.flat_field is not None and field is None else []
    unused += ["dark map"] if calibration.dark is not None and dark.map is None else []
    if unused:
        verb, they = ("were", "they belong") if len(unused) > 1 else ("was", "it belongs")
        warnings.append(
            f"the {' and the '.join(unused)} {verb} not used: {they} to raw frames, these are colour images"
        )


def _near(recording: Recording, calibration: RigCalibration, lights: tuple[Light, ...]) -> tuple[Camera, Plane] | None:
    """Camera of the frames and table plane, if light vectors can and may vary from pixel to pixel."""
    camera, plane = calibration.camera, calibration.table_plane
    field = None if is_colour(recording) else calibration.flat_field
    known = camera is not None and plane is not None and all(light.position_mm is not None for light in lights)
    if field is not None and (field.light_model == "near") != known:
        if known:
            return (
                None  # its gains hold for constant light vectors; mixing the models would be wrong by the same degrees
            )
        raise CalibrationError(
            f"calibration {calibration.calibration_id}: its flat field was made for near lights, but the camera, the table "
            "plane or the position of a light is absent",
            hint="calibrate the lights again, with a --base calibration that holds camera and table plane",
            code="calibration.light_model",
        )
    if not known or camera is None or plane is None:
        return None
    return frame_camera(camera, recording), plane


def frame_camera(camera: Camera, recording: Recording) -> Camera:
    """The camera of a recording's frames; as :func:`window_camera`."""
    info = recording.info
    return window_camera(camera, str(recording.folder), info.sensor, info.width, info.height)


def window_camera(camera: Camera, name: str, sensor: Sensor, width: int, height: int) -> Camera:
    """The camera of frames (``name``): itself if it has their size, else its window of interest and binning.

    Raises :class:`CalibrationError` (``calibration.size_mismatch``) when the window reaches out of the camera's image.
    """
    if (camera.width, camera.height) == (width, height):
        return camera
    try:
        return camera.window(sensor.offset_x, sensor.offset_y, width, height, sensor.binning)
    except InputError as error:
        raise CalibrationError(
            f"{name}: frames of {width}×{height} px at ({sensor.offset_x}, {sensor.offset_y}), binning "
            f"{sensor.binning}, do not lie in the calibrated camera's {camera.width}×{camera.height} px",
            hint="correct [sensor] in the recording's description, or calibrate with this camera setting",
            code="calibration.size_mismatch",
        ) from error
