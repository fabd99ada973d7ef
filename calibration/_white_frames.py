"""Mean of streamed frames, and the checks that white frames show an evenly lit white plane."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import CalibrationError
from rakelight.reconstruction.levels import SATURATION

FRAME_DTYPES = ("uint8", "uint16", "float32")
MAX_SATURATED_FRACTION = 0.005
MIN_WHITE = 0.05  # of full scale above dark, median
MAX_RATIO = 20.0  # brightest to darkest of a white plane, 99.5 to 0.5 % of the pixels; also median to usable pixel
MAX_LOCAL_STEP = 0.2  # log ratio of neighbouring 1/32 fields, 99th percentile; a smooth falloff by 20 gives 0.1
_BLOCK_ROWS = 64


@dataclass
class MeanFrame:
    """The mean of a set of frames; its buffers are reused from set to set."""

    mean: NDArray[np.float32]  # in DN, (H, W)
    saturated: NDArray[np.bool_]  # in any frame: a mean over clipped samples is no measurement


def mean_frame(
    name: str, frames: Iterable[NDArray[Any]], full_scale: float | None, code: str, work: MeanFrame | None = None
) -> MeanFrame:
    """Mean of streamed frames in DN; white frames (given ``full_scale``) are checked for saturation.

    ``work`` is an earlier result whose buffers may be overwritten.
    """
    count = 0
    for frame in frames:
        array = np.asarray(frame)
        if array.ndim != 2 or array.dtype.name not in FRAME_DTYPES or not array.size:
            raise CalibrationError(
                f"{name} {count + 1} is {array.dtype.name} of shape {array.shape}; "
                f"allowed: (H, W) of {', '.join(FRAME_DTYPES)}",
                hint="give raw single-channel frames of the sensor",
                code=code,
            )
        if work is None:
            work = MeanFrame(np.empty(array.shape, np.float32), np.empty(array.shape, np.bool_))
        if array.shape != work.mean.shape:
            raise size_mismatch(f"{name} {count + 1}", array.shape, work.mean.shape)
        if count == 0:
            work.mean.fill(0)
            work.saturated.fill(False)
        if full_scale is not None:
            _mark_saturated(f"{name} {count + 1}", array, full_scale, work.saturated)
        np.add(work.mean, array, out=work.mean, casting="same_kind")
        count += 1
    if work is None or count == 0:
        raise CalibrationError(f"no {name} was given; at least 1 is needed", hint="record one", code=code)
    work.mean *= np.float32(1 / count)
    return work


def _mark_saturated(name: str, frame: NDArray[Any], full_scale: float, saturated: NDArray[np.bool_]) -> None:
    top = float(frame.max())
    if not top <= full_scale:  # NaN fails too
        raise invalid(f"largest value of {name}", f"{top:g} DN", f"at most full scale, {full_scale:g}")
    count = 0
    for rows in row_blocks(len(frame)):
        clipped = frame[rows] >= SATURATION * full_scale
        count += int(np.count_nonzero(clipped))
        saturated[rows] |= clipped
    if count > MAX_SATURATED_FRACTION * frame.size:
        raise CalibrationError(
            f"{name}: {count / frame.size:.2%} of the pixels are saturated (at least {SATURATION:.0%} of full scale "
            f"{full_scale:g}); allowed: {MAX_SATURATED_FRACTION:.1%}",
            hint="lower the exposure or the light until the white plane peaks at 70-80 % of full scale",
            code="calibration.white_saturated",
        )


def check_white(zone: int, white: NDArray[np.float32], full_scale: float) -> None:
    """Refuse frames that do not show a smoothly lit white plane; ``white`` is DN above dark."""
    sample = _sample(white)
    low, median, high = (float(v) for v in np.percentile(sample, [0.5, 50, 99.5]))
    if not median >= MIN_WHITE * full_scale:
        raise CalibrationError(
            f"white frames of zone {zone} have a median of {median:.1f} DN above dark, {median / full_scale:.1%} of "
            f"full scale {full_scale:g}; needed: at least {MIN_WHITE:.0%}",
            hint=f"check that the light of zone {zone} is on and lengthen the exposure",
            code="calibration.white_dark",
        )
    ratio = high / low if low > 0 else math.inf
    step = _local_step(white)
    if ratio > MAX_RATIO:
        figure = f"brightest to darkest (99.5 % to 0.5 % of the pixels) {ratio:.1f}, allowed: at most {MAX_RATIO:g}"
    elif step > MAX_LOCAL_STEP:
        figure = f"steps between neighbouring fields of {step:.0%}, allowed: at most {MAX_LOCAL_STEP:.0%}"
    else:
        return
    raise CalibrationError(
        f"white frames of zone {zone} do not show an even white plane: {figure}",
        hint="lay a matte white plane that fills the field at part height, with no part on it and nothing in the light",
        code="calibration.white_uneven",
    )


def _local_step(white: NDArray[np.float32]) -> float:
    """99th percentile of the log ratio of neighbouring blocks, 1/32 of the field each.

    Blocks have even sides, so that each averages whole cells of a Bayer mosaic.
    """
    rows, columns = white.shape
    side = max(2, 2 * round(max(rows, columns) / 64))
    down, across = rows // side, columns // side
    if down < 2 or across < 2:
        return 0.0
    blocks = white[: down * side, : across * side].reshape(down, side, across, side).mean(axis=(1, 3))
    blocks = np.maximum(blocks, 1e-6)
    logs = np.log(blocks)
    steps = np.concatenate((np.abs(np.diff(logs, axis=0)).ravel(), np.abs(np.diff(logs, axis=1)).ravel()))
    return float(np.percentile(steps, 99))


def row_blocks(rows: int) -> Iterable[slice]:
    """Slices of 64 rows: temporaries stay small whatever the image size."""
    return (slice(start, min(start + _BLOCK_ROWS, rows)) for start in range(0, rows, _BLOCK_ROWS))


def _sample(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """About a million pixels; the stride is odd, so that every photosite of a Bayer cell is met."""
    return image[:: _odd(image.shape[0] // 1024), :: _odd(image.shape[1] // 1024)]


def _odd(stride: int) -> int:
    return max(1, stride | 1)


def median_of(image: NDArray[np.float32]) -> float:
    """Median of a regular sample of about a million pixels."""
    return float(np.median(_sample(image)))


def size_mismatch(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> CalibrationError:
    return CalibrationError(
        f"{name} has size {'×'.join(map(str, reversed(found)))} px; the other frames have "
        f"{'×'.join(map(str, reversed(wanted)))}",
        hint="record dark, white and part frames with the same region of interest and binning",
        code="calibration.size_mismatch",
    )


def invalid(name: str, value: object, allowed: str) -> CalibrationError:
    return CalibrationError(
        f"{name}: {value}; allowed: {allowed}",
        hint="build the flat field again from its recording",
        code="calibration.flat_field_invalid",
    )
