"""Raw frames as pictures for people: one fixed curve, so that pictures of different parts compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset.recording import Recording
from rakelight.pipeline.zone_frames import mean_frame
from rakelight.reconstruction.demosaic import demosaic


def picture(recording: Recording, image: NDArray[Any]) -> NDArray[np.uint8]:
    """A raw or mean frame as an 8-bit RGB picture, (H, W, 3): demosaiced, sRGB curve, fixed scale (full scale is white).

    The scale never depends on the image, so pictures of good and bad parts compare. Frames that are not linear keep
    their own curve. Float frames count 1.0 as full scale.
    """
    values = image.astype(np.float32) * np.float32(1 / (recording.full_scale or 1.0))
    if recording.bayer is not None:
        values = np.asarray(demosaic(values, recording.bayer), np.float32)
    np.clip(values, 0, 1, out=values)
    if recording.info.linear:
        values = to_srgb(values)
    eight = np.rint(values * 255).astype(np.uint8)
    return eight if eight.ndim == 3 else np.repeat(eight[..., None], 3, axis=2)


def to_srgb(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB opto-electronic transfer (IEC 61966-2-1) of values 0 to 1, by a table of 4096 steps."""
    steps = np.linspace(0, 1, 4097, dtype=np.float32)
    table = np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1 / 2.4) - 0.055).astype(np.float32)
    return table[np.rint(linear * 4096).astype(np.uint16)]


def all_zones(recording: Recording, zones: Sequence[int]) -> NDArray[np.float32]:
    """The frame under all zones, (H, W) or (H, W, 3) float32 DN; the mean of the zones' frames where none was taken."""
    frames = list(recording.shots("all_zones"))
    return mean_frame(recording, frames or [f for zone in zones for f in recording.shots("zone", zone)])
