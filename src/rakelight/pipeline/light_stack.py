"""From an opened recording and a calibration to the arrays that photometric stereo takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Frame, Recording
from rakelight.errors import CalibrationError, DatasetError, InputError
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.models import Camera, Plane
from rakelight.reconstruction.photometric import DEFAULT_THRESHOLDS, Corrections

MAX_DARK_SHARE = 0.999  # a stack with more pixels too dark to solve shows nothing (a small part fills a few per cent)
MAX_SATURATED_SHARE = 0.98  # likewise, saturated in every zone
SATURATION = DEFAULT_THRESHOLDS.saturation  # of full scale


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
        A damaged frame, or a stack that is all dark or all saturated.
    CalibrationError
        Fewer than three zones that have both frames and a light; maps of another size than the frames.
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
    near = _near(recording, calibration, lights)
    corrections = _corrections(recording, calibration, lights, warnings)
    frames = tuple(read_grey(recording, zone) for zone in zones)
    _check_exposure(recording, frames, corrections)
    return LightStack(frames, lights, corrections, recording.full_scale, near, tuple(warnings))


def read_grey(recording: Recording, zone: int) -> NDArray[Any]:
    """The frame of a zone as (H, W); as :func:`grey_mean`."""
    return grey_mean(recording, recording.shots("zone", zone))


def grey_mean(recording: Recording, frames: Iterable[Frame]) -> NDArray[Any]:
    """Mean of the repeats of one shot as (H, W); colour frames as the mean of their channels (float32).

    A pixel that is saturated in any repeat or channel is set to full scale, so that it stays recognisable as saturated.
    """
    listed = list(frames)
    first = recording.read(listed[0])
    if len(listed) == 1 and first.ndim == 2:
        return first
    total = np.zeros(first.shape[:2], np.float32)
    clipped = np.zeros(first.shape[:2], np.bool_)
    level = np.inf if recording.full_scale is None else SATURATION * recording.full_scale
    for number, frame in enumerate(listed):
        image = recording.read(frame) if number else first
        for channel in [image] if image.ndim == 2 else np.moveaxis(image, 2, 0):
            total += channel
            clipped |= channel >= level
    total /= len(listed) * (first.shape[2] if first.ndim == 3 else 1)
    if recording.full_scale is not None:
        total[clipped] = recording.full_scale
    return total if first.ndim == 3 or first.dtype == np.float32 else np.rint(total).astype(first.dtype)


def _check_exposure(recording: Recording, frames: tuple[NDArray[Any], ...], corrections: Corrections) -> None:
    """Refuse a stack that shows nothing: too dark to solve above the dark frame, or saturated, in every zone."""
    scale = recording.full_scale
    step = max(1, frames[0].shape[0] // 500)
    brightest = np.max([f[::step, ::step] for f in frames], axis=0).astype(np.float32)
    darkest = np.min([f[::step, ::step] for f in frames], axis=0)
    if corrections.dark is not None:
        brightest -= np.multiply(corrections.dark[::step, ::step], np.float32(corrections.dark_scale), dtype=np.float32)
    floor = DEFAULT_THRESHOLDS.signal * scale if scale else 0.0
    if (share := float((brightest <= floor).mean())) > MAX_DARK_SHARE:
        raise DatasetError(
            f"{recording.folder}: {share:.1%} of the pixels are dark in every zone (the brightest is "
            f"{float(brightest.max()):.3g} DN above dark, needed are {floor:.3g} DN)",
            hint="check that the lights work, and raise the exposure",
            code="recording.all_dark",
        )
    if scale and (share := float((darkest >= SATURATION * scale).mean())) > MAX_SATURATED_SHARE:
        raise DatasetError(
            f"{recording.folder}: {share:.1%} of the pixels are saturated in every zone",
            hint="lower the exposure until the brightest part stays below 90 % of full scale",
            code="recording.all_saturated",
        )


def _corrections(
    recording: Recording, calibration: RigCalibration, lights: tuple[Light, ...], warnings: list[str]
) -> Corrections:
    """Dark: the recording's own ambient or dark frames, else the calibration's. Gains: the flat field over the strengths."""
    height, width = recording.info.height, recording.info.width
    strengths = np.array([light.strength for light in lights])
    colour = recording.info.pixel_format.startswith("RGB")
    dark: NDArray[Any] | None = None
    dark_scale = 1.0
    own = list(recording.shots("ambient")) or list(recording.shots("dark"))
    if own:
        dark = grey_mean(recording, own)
    elif calibration.dark is not None and not colour:
        calibration.check_frame(width, height)
        dark, dark_scale = calibration.dark.map, calibration.dark.scale
    field = calibration.flat_field
    if field is not None and not colour:
        calibration.check_frame(width, height)
        rows = [field.index(light.zone) for light in lights]
        gains = field.gains if rows == list(range(len(field.zones))) else field.gains[rows]
        return Corrections(dark, dark_scale, gains, (field.scales[rows] / strengths).astype(np.float32))
    if field is None:
        warnings.append(
            "no flat field: light fall-off across the field tilts the normals by degrees; record a white plane"
        )
    else:
        warnings.append("the flat field was not used: it belongs to raw frames, these are colour images")
    return Corrections(dark, dark_scale, None, (1 / strengths).astype(np.float32))


def _near(recording: Recording, calibration: RigCalibration, lights: tuple[Light, ...]) -> tuple[Camera, Plane] | None:
    """Camera of the frames and table plane, if light vectors can and may vary from pixel to pixel."""
    camera, plane, field = calibration.camera, calibration.table_plane, calibration.flat_field
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
    """The camera of the recording's frames: itself if it has their size, else its window of interest and binning.

    Raises :class:`CalibrationError` (``calibration.size_mismatch``) when the window reaches out of the camera's image.
    """
    info, sensor = recording.info, recording.info.sensor
    if (camera.width, camera.height) == (info.width, info.height):
        return camera
    try:
        return camera.window(sensor.offset_x, sensor.offset_y, info.width, info.height, sensor.binning)
    except InputError as error:
        raise CalibrationError(
            f"{recording.folder}: frames of {info.width}×{info.height} px at ({sensor.offset_x}, {sensor.offset_y}), binning "
            f"{sensor.binning}, do not lie in the calibrated camera's {camera.width}×{camera.height} px",
            hint="correct [sensor] in the recording's description, or calibrate with this camera setting",
            code="calibration.size_mismatch",
        ) from error
