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
        One value per photosite. NaN in float32 counts as 0.
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
    return _bilinear(np.nan_to_num(mosaic), pattern)


_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4  # green: every second photosite
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4  # red and blue: every fourth


def _bilinear(mosaic: NDArray[np.float32], pattern: str) -> NDArray[np.float32]:
    """The same interpolation without loss of range: each colour's photosites, zeros between them, and a small kernel.

    Mirroring at the border (without repeating the edge) keeps the pattern, so the weights sum to 1 there, too.
    """
    colours = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}[pattern]
    out = np.empty((*mosaic.shape, 3), np.float32)
    alone = np.empty_like(mosaic)
    for channel, colour in enumerate("RGB"):
        alone.fill(0)
        for site in (k for k in range(4) if colours[k] == colour):
            row, column = divmod(site, 2)
            alone[row::2, column::2] = mosaic[row::2, column::2]
        kernel = _CROSS if colour == "G" else _SQUARE
        out[..., channel] = cv2.filter2D(alone, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return out
