"""Black level, white balance and tone curve of 8-bit pictures, as one table a channel over the raw range."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Tone = Literal["srgb", "linear"]
Triple = tuple[float, float, float]

STEPS = 1 << 14  # a step in the shadows of the sRGB curve is 0.2 of an 8-bit value, times the gain


def srgb(linear: NDArray[Any]) -> NDArray[Any]:
    """sRGB opto-electronic transfer (IEC 61966-2-1) of values 0 to 1."""
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055), linear.dtype)


def tone_tables(
    gains: Triple = (1.0, 1.0, 1.0), black: Triple = (0.0, 0.0, 0.0), white: float = 1.0, tone: Tone = "srgb"
) -> NDArray[np.uint8]:
    """(3, STEPS + 1) uint8: what the raw values k/STEPS of full scale become in R, G, B.

    ``black`` and ``white`` are shares of full scale: (raw − black)/(white − black) · gain, clipped to 0 … 1, through the
    curve. With no gain below 1 a photosite at ``white`` or above is 255 in every channel.
    """
    raw = np.arange(STEPS + 1) / STEPS
    linear = np.stack([np.clip((raw - b) / (white - b) * g, 0, 1) for g, b in zip(gains, black, strict=True)])
    return np.rint(255 * (srgb(linear) if tone == "srgb" else linear)).astype(np.uint8)
