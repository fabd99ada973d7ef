"""From an opened recording and a calibration to the arrays that photometric stereo takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError, DatasetError
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.models import Camera, Plane
from rakelight.reconstruction.photometric import Corrections

MAX_DARK_SHARE = 0.98  # a stack with more dark (or saturated) pixels than this shows nothing


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
    frames = tuple(read_grey(recording, zone) for zone in zones)
    _check_exposure(recording, frames)
    lights = tuple(by_zone[z] for z in zones)
    corrections = _corrections(recording, calibration, lights, warnings)
    return LightStack(
        frames, lights, corrections, recording.full_scale, _near(recording, calibration, lights), tuple(warnings)
    )


def read_grey(recording: Recording, zone: int) -> NDArray[Any]:
    """The frame of a zone as (H, W): repeats averaged, the channels of colour frames averaged (float32).

    A colour pixel with any saturated channel is set to full scale, so that it stays recognisable as saturated.
    """
    images = [recording.read(f) for f in recording.shots("zone", zone)]
    if len(images) == 1 and images[0].ndim == 2:
        return images[0]
    mean = np.mean(images, axis=0, dtype=np.float32)
    if mean.ndim == 3:
        top = np.max(images, axis=(0, 3))
        mean = mean.mean(axis=2)
        if recording.full_scale is not None:
            mean[top >= 0.98 * recording.full_scale] = recording.full_scale
        return np.asarray(mean, np.float32)
    return np.asarray(np.rint(mean) if images[0].dtype != np.float32 else mean).astype(images[0].dtype)


def _check_exposure(recording: Recording, frames: tuple[NDArray[Any], ...]) -> None:
    scale = recording.full_scale
    step = max(1, frames[0].shape[0] // 500)
    brightest = np.max([f[::step, ::step] for f in frames], axis=0)
    darkest = np.min([f[::step, ::step] for f in frames], axis=0)
    floor = 0.004 * scale if scale else 0.0
    if (brightest <= floor).mean() > MAX_DARK_SHARE:
        raise DatasetError(
            f"{recording.folder}: {(brightest <= floor).mean():.1%} of the pixels are dark in every zone (at most {floor:.3g} DN)",
            hint="check that the lights work and raise the exposure",
            code="recording.all_dark",
        )
    if scale and (darkest >= 0.98 * scale).mean() > MAX_DARK_SHARE:
        raise DatasetError(
            f"{recording.folder}: {(darkest >= 0.98 * scale).mean():.1%} of the pixels are saturated in every zone",
            hint="lower the exposure until the brightest part stays below 90 % of full scale",
            code="recording.all_saturated",
        )


def _corrections(
    recording: Recording, calibration: RigCalibration, lights: tuple[Light, ...], warnings: list[str]
) -> Corrections:
    """Dark: the recording's own ambient or dark frame, else the calibration's. Gains: the flat field over the strengths."""
    height, width = recording.info.height, recording.info.width
    strengths = np.array([light.strength for light in lights])
    dark: NDArray[Any] | None = None
    dark_scale = 1.0
    grey = not recording.info.pixel_format.startswith("RGB")
    own = next(iter([*recording.shots("ambient"), *recording.shots("dark")]), None)
    if own is not None and grey:
        dark = recording.read(own)
    elif calibration.dark is not None and grey:
        calibration.check_frame(width, height)
        dark, dark_scale = calibration.dark.map, calibration.dark.scale
    field = calibration.flat_field
    if field is None or not grey:
        if field is None:
            warnings.append(
                "no flat field: light fall-off across the field tilts the normals by degrees; record a white plane"
            )
        else:
            warnings.append("the flat field was not used: it belongs to raw frames, these are colour images")
        return Corrections(dark, dark_scale, None, (1 / strengths).astype(np.float32))
    calibration.check_frame(width, height)
    rows = [field.index(light.zone) for light in lights]
    gains = field.gains if rows == list(range(len(field.zones))) else field.gains[rows]
    return Corrections(dark, dark_scale, gains, (field.scales[rows] / strengths).astype(np.float32))


def _near(recording: Recording, calibration: RigCalibration, lights: tuple[Light, ...]) -> tuple[Camera, Plane] | None:
    camera, plane = calibration.camera, calibration.table_plane
    if camera is None or plane is None or any(light.position_mm is None for light in lights):
        return None
    field = calibration.flat_field
    if field is not None and field.light_model == "distant":
        return None  # its gains hold for constant light vectors; mixing the models would be wrong by the same degrees
    info, sensor = recording.info, recording.info.sensor
    if (camera.width, camera.height) != (info.width, info.height):
        camera = camera.window(sensor.offset_x, sensor.offset_y, info.width, info.height, sensor.binning)
    return camera, plane
