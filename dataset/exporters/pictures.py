"""Pixels as the loaders want them: sizes, invalid points, metres. Arrays in, arrays out."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

ZERO_SHIFT_M = 1e-9
"""What an exact 0 of a valid point becomes: loaders of MVTec 3D-AD take a point with any coordinate 0 for missing."""

XYZ_TOLERANCE_M = 5e-8
"""What storing a map of up to a metre's distance as float32 metres, and the shift, may cost."""


def fitted_size(height: int, width: int, longer_side: int | None) -> tuple[int, int]:
    """(height, width) with the longer side at ``longer_side`` px and the shape kept; never larger than given."""
    longest = max(height, width)
    if longer_side is None or longer_side >= longest:
        return height, width
    if longer_side < 1:
        raise InputError(f"size is {longer_side} px; at least 1 is needed", code="input.range")
    scale = longer_side / longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_picture(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) uint8 to ``size`` (height, width): mean over the area when smaller, else bilinear."""
    if picture.shape[:2] == size:
        return picture
    smaller = size[0] <= picture.shape[0] and size[1] <= picture.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=method), np.uint8)


def resize_nearest(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(H, W, …) of any dtype to ``size``: the pixel whose square holds the new pixel's centre. Holes stay holes.

    Pixel centres are at integers; no value arises that was not there.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.intp)
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


def to_metres(xyz_mm: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """(H, W, 3) mm with NaN where invalid → metres with (0, 0, 0) where invalid, and how many coordinates were shifted.

    A point with any coordinate that is not finite is invalid. A coordinate of a valid point that is (or becomes) exactly
    0 is shifted to ``ZERO_SHIFT_M``.
    """
    xyz = check_array("xyz", xyz_mm, shape=(None, None, 3), dtypes=("float32",))
    metres: NDArray[np.float32] = np.divide(
        xyz, np.float32(1000), dtype=np.float32
    )  # 1000 is exact, so this is the nearest float32 to the true quotient
    valid = np.isfinite(xyz).all(-1)
    metres[~valid] = 0
    zero = (metres == 0) & valid[..., None]
    shifted = int(zero.sum())
    if shifted:
        metres[zero] = ZERO_SHIFT_M
    return metres, shifted


def from_metres(xyz_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse of :func:`to_metres` up to ``XYZ_TOLERANCE_M``: mm, NaN where all three coordinates are 0."""
    xyz = check_array("xyz", xyz_m, shape=(None, None, 3), dtypes=("float32",))
    mm = xyz * np.float32(1000)
    mm[(xyz == 0).all(-1)] = np.nan
    return mm


def xyz_difference_m(exported_m: NDArray[np.float32], source_mm: NDArray[np.float32]) -> float:
    """Largest difference of a coordinate in metres; infinite if the valid points are not the same."""
    valid = np.isfinite(source_mm).all(-1)
    if exported_m.shape != source_mm.shape or not np.array_equal(valid, (exported_m != 0).all(-1)):
        return float("inf")
    if not valid.any():
        return 0.0
    exact = source_mm[valid].astype(np.float64) / 1000
    return float(np.abs(exported_m[valid] - exact).max())
