"""Colour from a Bayer mosaic, for pictures and albedo; normals and fringes never need it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

# OpenCV names a pattern by the second row's second and third photosite, SFNC by the first row's first two.
_OPENCV = {
    "RG": cv2.COLOR_BayerBG2RGB,
    "GR": cv2.COLOR_BayerGB2RGB,
    "GB": cv2.COLOR_BayerGR2RGB,
    "BG": cv2.COLOR_BayerRG2RGB,
}


def demosaic(mosaic: NDArray[Any], pattern: str) -> NDArray[Any]:
    """Bilinear demosaic of a linear Bayer mosaic.

    Parameters
    ----------
    mosaic : (H, W) uint8, uint16 or float32
        One value per photosite. float32 is carried through 16 bits (a step of 1/65535 of its maximum).
    pattern : {"RG", "GR", "GB", "BG"}
        Colours of the first two photosites of the first row (SFNC BayerRG, …).

    Returns
    -------
    (H, W, 3) in R, G, B order, of the mosaic's dtype.

    Raises
    ------
    InputError
        An unknown pattern, or a shape or dtype that does not fit.
    """
    if pattern not in _OPENCV:
        raise InputError(f"Bayer pattern {pattern!r}; allowed: {', '.join(_OPENCV)}", code="input.bayer")
    check_array("mosaic", mosaic, ndim=2, dtypes=("uint8", "uint16", "float32"))
    if min(mosaic.shape) < 2:
        raise InputError(f"a Bayer mosaic of {mosaic.shape} pixels; at least 2×2 are needed", code="input.shape")
    if mosaic.dtype != np.float32:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(mosaic), _OPENCV[pattern]))
    top = max(float(np.nanmax(mosaic)), 1e-12)
    coded = np.rint(np.clip(np.nan_to_num(mosaic), 0, None) * np.float32(65535 / top)).astype(np.uint16)
    return np.asarray(cv2.cvtColor(coded, _OPENCV[pattern])) * np.float32(top / 65535)
