"""Raw frames as pictures for people: one fixed curve, so that pictures of different parts compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.colour import Colour
from rakelight.dataset.recording import Recording
from rakelight.pipeline.zone_frames import mean_frame
from rakelight.reconstruction.development import develop
from rakelight.reconstruction.tone import tone_tables


def picture(recording: Recording, image: NDArray[Any], colour: Colour | None = None) -> NDArray[np.uint8]:
    """A raw or mean frame as an 8-bit RGB picture, (H, W, 3), with the white balance and tone of the calibration.

    Parameters
    ----------
    recording
        Says what the values of ``image`` mean: pixel format, Bayer pattern, full scale (1.0 of float frames), linear.
    image : (H, W) or (H, W, 3) uint8, uint16 or float32
        DN.
    colour : Colour, optional
        Of the calibration, for Bayer frames. Without it, and for grey and RGB frames: no black level, no balance, full
        scale is white, sRGB curve. Frames that are not linear keep their own curve and colour.

    Nothing depends on the image, so pictures of good and bad parts compare. Flat field and dark map are not applied: the
    pictures show what the camera saw, shading included.
    """
    if colour is not None and recording.bayer is not None and recording.info.linear:
        tables = colour.tables()
    else:
        tables = tone_tables(tone="srgb" if recording.info.linear else "linear")
    return develop(image, recording.bayer, tables, recording.full_scale or 1.0)


def all_zones(recording: Recording, zones: Sequence[int]) -> NDArray[np.float32]:
    """The frame under all zones, (H, W) or (H, W, 3) float32 DN; the mean of the zones' frames where none was taken."""
    frames = list(recording.shots("all_zones"))
    return mean_frame(recording, frames or [f for zone in zones for f in recording.shots("zone", zone)])
