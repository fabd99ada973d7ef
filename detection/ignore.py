"""Pixels of a product that are never judged: a serial number, a label whose place varies.

An ignore mask belongs to a product, not to a part: it lies in the square working frame into which every part of the product is
turned (:mod:`rakelight.detection.registration`), so that one drawing serves all parts.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset import images
from rakelight.detection.parts import Part
from rakelight.detection.registration import Template
from rakelight.errors import DatasetError

_MOST_IGNORED = 0.95  # of the part


def read_ignore(path: str | Path) -> NDArray[np.bool_]:
    """An ignore mask from a picture drawn in the working frame, (n, n) bool: everything above 0 is ignored.

    Raises :class:`DatasetError`: unreadable (``image.…``), or not square (``detect.ignore_size``).
    """
    drawn = images.read_image(path)
    mask = drawn.any(axis=2) if drawn.ndim == 3 else drawn > 0
    if mask.shape[0] != mask.shape[1]:
        raise DatasetError(
            f"ignore mask {path} is {mask.shape[1]}×{mask.shape[0]} pixels; it must be square, as the working picture is",
            hint="draw it on the product's working picture, or on a sample's RGBL05 picture and name the sample",
            code="detect.ignore_size",
        )
    return np.asarray(mask, np.bool_)


def check_ignore(mask: NDArray[np.bool_], template: Template, size: int) -> NDArray[np.bool_]:
    """An ignore mask of the working frame, (n, n) bool, at the working size, (``size``, ``size``).

    Raises :class:`DatasetError`: ``detect.ignore_empty`` where it ignores nothing of the part, ``detect.ignore_all`` where
    nothing of it is left to be judged.
    """
    scaled = cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
    part = cv2.resize(template.mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
    share = float(scaled[part].mean()) if part.any() else 1.0
    if 0 < share <= _MOST_IGNORED:
        return np.asarray(scaled, np.bool_)
    how = "draw what is to be ignored in white on black"
    if share == 0:
        raise DatasetError(
            f"the ignore mask ignores nothing of the part: {int(scaled.sum())} of its pixels are marked, all beside the part",
            hint=f"{how}, on the picture that `rakelight detect train … --show-frame FILE.png` writes",
            code="detect.ignore_empty",
        )
    raise DatasetError(
        f"the ignore mask covers {100 * share:.0f} % of the part (at most {100 * _MOST_IGNORED:.0f} %): too little would be judged",
        hint=f"{how}; everything that is not black counts",
        code="detect.ignore_all",
    )


def ignore_from_sample(drawn: NDArray[np.generic], part: Part) -> NDArray[np.bool_]:
    """An ignore mask drawn on one sample's native picture, brought into the working frame.

    Parameters
    ----------
    drawn : (H, W) array
        Everything above 0 is ignored.
    part : Part
        That sample, loaded with the product's template.

    Returns
    -------
    (S, S) bool

    Raises
    ------
    DatasetError
        ``detect.ignore_size``: not of the picture's size.
    """
    mask = check_array("ignore mask", drawn, ndim=2)
    if mask.shape != part.native_size:
        height, width = part.native_size
        raise DatasetError(
            f"the ignore mask has {mask.shape[1]}×{mask.shape[0]} pixels, the picture of {part.key} {width}×{height}",
            hint="draw it on this sample's RGBL05 picture",
            code="detect.ignore_size",
        )
    size = (part.size, part.size)
    return cv2.warpAffine((mask > 0).astype(np.uint8), part.to_native, size, flags=cv2.INTER_NEAREST) > 0
