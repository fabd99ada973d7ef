"""Blur of lenses and the area of pixels, on the camera's side and on the projector's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from rakelight.acquisition.simulator._sensor_kernels import STEPS_PER_PX


def blur_taps(sigma_px: float, samples: int) -> NDArray[np.float32]:
    """Separable kernel over points: a Gaussian lens blur seen through the photosite's square area, sum 1.

    Their convolution at distance x is [erf((x + ½)/(σ√2)) − erf((x − ½)/(σ√2))] / 2.
    """
    reach = int(np.ceil((3.2 * sigma_px + 0.5) * samples))
    places = (np.arange(samples + 2 * reach) - reach - (samples - 1) / 2) / samples
    root = np.sqrt(2) * max(sigma_px, 1e-6)
    weights = erf((places + 0.5) / root) - erf((places - 0.5) / root)
    return np.asarray(weights / weights.sum(), np.float32)


def pattern_table(profile: NDArray[np.float32], gamma: float, blur_px: float) -> NDArray[np.float32]:
    """Light along a pattern's axis at 32 steps a px, from −½ px on: square pixels under the projector's Gaussian blur.

    The values are rounded to 8 bits first, as the projector holds them; dark beyond both ends.
    """
    level = (np.rint(np.clip(profile, 0, 1) * 255) / 255) ** gamma
    reach = int(np.ceil(4 * blur_px)) + 1
    near = np.lib.stride_tricks.sliding_window_view(np.pad(level, (reach, reach + 1)), 2 * reach + 1)
    # ∫ pixel · Gaussian: difference of the normal distribution at the pixel's borders. It depends on the place within a
    # pixel only, so that 32 kernels serve all.
    away = np.arange(-reach, reach + 1)[:, None] - (np.arange(STEPS_PER_PX) / STEPS_PER_PX - 0.5)
    root = np.sqrt(2) * max(blur_px, 1e-6)
    kernels = 0.5 * (erf((away + 0.5) / root) - erf((away - 0.5) / root))
    table = (near @ kernels).ravel()[: len(level) * STEPS_PER_PX + 1]
    return np.asarray(np.append(table, table[-1]), np.float32)
