"""What calibration and reconstruction both read of a recording: grey frames, what lies below them, their exposures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.flat_field import MAX_EXPOSURE_DIFFERENCE, Dark
from rakelight.calibration.frame_format import FrameFormat
from rakelight.dataset.recording import Frame, Recording
from rakelight.errors import CalibrationError
from rakelight.reconstruction.levels import SATURATION


@dataclass(frozen=True)
class Background:
    """What is subtracted from the frames of a recording: DN = ``map`` × ``scale``; ``map`` None is nothing."""

    map: NDArray[Any] | None = None
    scale: float = 1.0

    def values(self) -> NDArray[np.float32] | float:
        """In DN, (H, W) float32, or 0."""
        return 0.0 if self.map is None else np.multiply(self.map, np.float32(self.scale), dtype=np.float32)


def is_colour(recording: Recording) -> bool:
    """Whether the frames are RGB images, to which maps of raw photosites do not belong."""
    return recording.info.pixel_format.startswith("RGB")


def frame_format(recording: Recording) -> FrameFormat:
    """Pixel format and sensor window of the recording's frames."""
    sensor = recording.info.sensor
    return FrameFormat(recording.info.pixel_format, sensor.offset_x, sensor.offset_y, sensor.binning)


def background(
    recording: Recording, dark: Dark | None, dark_format: FrameFormat | None, warnings: list[str]
) -> Background:
    """The recording's own ``ambient`` frames, else its own ``dark`` frames, else the calibration's dark map.

    The one rule for white planes and parts. Colour frames take no dark map. Warns of an exposure more than 10 % off.

    Raises
    ------
    CalibrationError
        ``calibration.size_mismatch``, ``calibration.format_mismatch``: a dark map of other frames.
    """
    role, own = own_background(recording)
    if own:
        _check_exposure(recording, f"its {role} frames were", mean_exposure(own), warnings)
        return Background(grey_mean(recording, own))
    if dark is None or is_colour(recording):
        return Background()
    height, width = recording.info.height, recording.info.width
    if dark.shape != (height, width):
        raise CalibrationError(
            f"{recording.folder}: frames of {width}×{height} px, dark map of {dark.shape[1]}×{dark.shape[0]} px",
            hint="record dark frames with the region of interest and binning of the others",
            code="calibration.size_mismatch",
        )
    if dark_format is not None:
        dark_format.check(frame_format(recording), str(recording.folder))
    _check_exposure(recording, "the dark map was", dark.exposure_us, warnings)
    return Background(dark.map, dark.scale)


def own_background(recording: Recording) -> tuple[str, list[Frame]]:
    """Role and frames of what a recording itself says lies below its zone frames: ``ambient``, else ``dark``, else none."""
    ambient = list(recording.shots("ambient"))
    return ("ambient", ambient) if ambient else ("dark", list(recording.shots("dark")))


def _check_exposure(recording: Recording, what: str, exposure_us: float | None, warnings: list[str]) -> None:
    known = [e for e in zone_exposures(recording, recording.zones) if e is not None]
    off = [e for e in known if exposure_us is not None and abs(exposure_us / e - 1) > MAX_EXPOSURE_DIFFERENCE]
    if off:
        warnings.append(
            f"{recording.info.part_id}: {what} taken at {exposure_us:g} µs, its zone frames at {min(known):g} to "
            f"{max(known):g} µs; take both at the same exposure (within {MAX_EXPOSURE_DIFFERENCE:.0%})"
        )


def mean_exposure(frames: Iterable[Frame]) -> float | None:
    """Mean exposure in µs of the repeats of a shot, as of their mean; None if one is not known."""
    exposures = [f.exposure_us for f in frames]
    known = [e for e in exposures if e is not None]
    return sum(known) / len(known) if known and len(known) == len(exposures) else None


def zone_exposures(recording: Recording, zones: Iterable[int]) -> list[float | None]:
    """Exposure in µs of each zone's frames."""
    return [mean_exposure(recording.shots("zone", zone)) for zone in zones]


def exposure_factors(
    recording: Recording, zones: Iterable[int], reference_us: float | None, warnings: list[str]
) -> NDArray[np.float64]:
    """(K,) factors that bring each zone's frames to one exposure, the reference or else their mean.

    All ones, with a warning, where only some exposures are known.
    """
    exposures = zone_exposures(recording, zones)
    known = [e for e in exposures if e is not None]
    if len(known) < len(exposures):
        if known or reference_us is not None:
            white = "" if reference_us is None else f", and of the white plane ({reference_us:g} µs)"
            warnings.append(
                f"{recording.info.part_id}: the exposure is known of {len(known)} of {len(exposures)} zones{white}; all "
                "are taken as equal"
            )
        return np.ones(len(exposures))
    return np.asarray((reference_us or sum(known) / len(known)) / np.array(known))


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


def channel_sums(recording: Recording, zones: list[int]) -> NDArray[np.float32]:
    """Light of all zones together in each channel of a colour recording, dark subtracted: (H, W, 3) float32 DN.

    Shading is the same in all channels, so their ratios are the albedo's, under whatever light model.
    """
    total = np.zeros(recording.frame_shape, np.float32)
    for zone in zones:
        total += mean_frame(recording, list(recording.shots("zone", zone)))
    _role, own = own_background(recording)
    if own:
        total -= len(zones) * mean_frame(recording, own)
    return np.maximum(total, 0, out=total)


def mean_frame(recording: Recording, frames: list[Frame]) -> NDArray[np.float32]:
    """Mean of the repeats of a shot, float32, read one at a time."""
    total = recording.read(frames[0]).astype(np.float32)
    for frame in frames[1:]:
        total += recording.read(frame)
    return total / np.float32(len(frames))
