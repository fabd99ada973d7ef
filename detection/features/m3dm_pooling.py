"""M3DM's way from points to patches, for comparison: zeros where there is no point are averaged in.

Its code (Wang et al., CVPR 2023, as published) scatters the points' features over the S × S picture, zero elsewhere, takes means
over 3 × 3 pixels without padding and then ``AdaptiveAvgPool2d`` to 56 patches a side at S = 224. Patches at the outline and at
holes are thereby thinned towards zero. All of it is linear, so it is one sparse matrix, and the dense picture of 1152
channels, 230 MB a part, is never made.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, kron

PIXELS = 4  # a side of a patch: 56 patches at 224
_BOX = 3


def zero_padded_weights(weights: csr_array, pixels: NDArray[np.int64], size: int) -> csr_array:
    """Weights of centres for patches instead of points.

    Parameters
    ----------
    weights : (N, C) of :func:`rakelight.detection.features.points.interpolation_weights`
    pixels : (N,) of each point, row-major in the (size, size) picture
    size : S, a multiple of 4

    Returns
    -------
    ((S/4)², C) float32
        Times the centres' features it gives the patches', row-major. Patches without a point near have an empty row.
    """
    return csr_array(_patches_of_pixels(size)[:, pixels] @ weights)


@lru_cache(maxsize=4)
def _patches_of_pixels(size: int) -> csc_array:
    """((S/4)², S²) float32: the same weights along rows and columns."""
    side = csr_array(_along_a_side(size))
    return csc_array(kron(side, side, format="csc"))


def _along_a_side(size: int) -> NDArray[np.float32]:
    """(S/4, S): means of 3 neighbours at S − 2 places, then means over ⌊i·n/g⌋ … ⌈(i+1)·n/g⌉ of those."""
    patches, places = size // PIXELS, size - (_BOX - 1)
    box = np.zeros((places, size))
    for step in range(_BOX):
        box[np.arange(places), np.arange(places) + step] = 1 / _BOX
    pool = np.zeros((patches, places))
    for patch in range(patches):
        low, high = patch * places // patches, -(-(patch + 1) * places // patches)
        pool[patch, low:high] = 1 / (high - low)
    return (pool @ box).astype(np.float32)
