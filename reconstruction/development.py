"""Raw values → 8-bit pictures: demosaic, black level, white balance and tone curve in one pass over the photosites.

What follows the demosaic is one table a channel (:mod:`rakelight.reconstruction.tone`). Demosaicing is bilinear and thus
linear: balancing after it is the same as before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction import _development_kernels as kernels

_RED = {"RG": (0, 0), "GR": (0, 1), "GB": (1, 0), "BG": (1, 1)}  # row and column of the red photosite of a cell


def develop(
    image: NDArray[Any], pattern: str | None, tables: NDArray[np.uint8], full_scale: float = 1.0
) -> NDArray[np.uint8]:
    """A raw or mean frame as an 8-bit picture, (H, W, 3) R, G, B.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8, uint16 or float32
        Values in DN; NaN counts as 0, what lies above ``full_scale`` as ``full_scale``.
    pattern : {"RG", "GR", "GB", "BG"} or None
        Of a Bayer mosaic: colours of the first two photosites of the first row. None for grey and colour images.
    tables : (3, N) uint8
        From :func:`rakelight.reconstruction.tone.tone_tables`.
    full_scale : float
        The DN of the tables' last step, > 0.

    Raises
    ------
    InputError
        ``input.bayer``, ``input.shape``, ``input.dtype``, ``input.range``.
    """
    if not (np.isfinite(full_scale) and full_scale > 0):
        raise InputError(f"full scale is {full_scale}; allowed: a finite number above 0", code="input.range")
    image = check_array("image", image, dtypes=("uint8", "uint16", "float32"))
    check_array("tone tables", tables, shape=(3, None), dtypes=("uint8",))
    steps = np.float32((tables.shape[1] - 1) / full_scale)
    out = np.empty((*image.shape[:2], 3), np.uint8)
    if pattern is None:
        if image.ndim != 2 and image.shape[2:] != (3,):
            raise InputError(f"image has shape {image.shape}; needed: (H, W) or (H, W, 3)", code="input.shape")
        kernels.pixels(image.reshape(*image.shape[:2], -1), steps, tables, out)
        return out
    if pattern not in _RED:
        raise InputError(f"Bayer pattern {pattern!r}; allowed: {', '.join(_RED)}", code="input.bayer")
    if image.ndim != 2 or min(image.shape) < 2:
        raise InputError(f"a Bayer mosaic of shape {image.shape}; needed: (H, W), at least 2×2", code="input.shape")
    kernels.mosaic(image, *_RED[pattern], steps, tables, out)
    return out
