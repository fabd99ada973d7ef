"""A sample's picture with what is drawn on it: a colour for each defect, its outline full, its inside thin."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset.rasterise import IGNORE

# Colours that people with any colour vision tell apart: Okabe and Ito, "Color Universal Design", 2008.
_COLOURS = ((213, 94, 0), (0, 114, 178), (240, 228, 66), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
_IGNORED = (128, 128, 128)
_SHARE = 0.25  # of the colour inside


def overlay(picture: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with the classes (H, W) uint8 of :func:`annotations.class_map` laid over; ignored pixels grey."""
    check_array("picture", picture, shape=(*classes.shape, 3), dtypes=("uint8",))
    shown = picture.copy()
    wide = max(1, round(max(classes.shape) / 800))
    for value in np.unique(classes[classes != 0]).tolist():
        colour = np.array(_IGNORED if value == IGNORE else _COLOURS[(value - 1) % len(_COLOURS)], np.float32)
        inside = (classes == value).view(np.uint8)
        side = 2 * wide + 1
        rim = cv2.dilate(inside, np.ones((side, side), np.uint8)) > inside
        covered = inside > 0
        shown[covered] = np.rint(shown[covered] * (1 - _SHARE) + colour * _SHARE).astype(np.uint8)
        shown[rim] = colour.astype(np.uint8)
    return shown
