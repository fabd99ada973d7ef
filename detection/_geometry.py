"""Moving pictures, points and masks between native pixels and the square working frame."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def square(matrix: Matrix) -> Matrix:
    """(3, 3) of a (2, 3) affine."""
    return np.vstack([matrix, [0.0, 0.0, 1.0]])


def scale_of(matrix: Matrix) -> float:
    """Pixels that one pixel becomes."""
    return math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))


def angle_of(matrix: Matrix) -> float:
    """Turn in radians, from the u axis (right) to the v axis (down)."""
    return math.atan2(float(matrix[1, 0]), float(matrix[0, 0]))


def rescale(x: float, y: float | None = None) -> Matrix:
    """(3, 3): the same picture with x (and y) times as many pixels; centres at integers, so corners lie at −0.5."""
    y = x if y is None else y
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def crop_matrix(mask: NDArray[np.bool_], side: float, size: int) -> Matrix:
    """(2, 3) from pixels into a square of ``size`` pixels that shows ``side`` pixels about the middle of the mask's box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    middle = np.array([columns[0] + columns[-1], rows[0] + rows[-1]]) / 2
    shift = np.eye(3)
    shift[:2, 2] = (side - 1) / 2 - middle
    return np.asarray((rescale(size / side) @ shift)[:2])


def resample(
    image: NDArray[Any], matrix: Matrix, native_size: tuple[int, int], size: int, *, nearest: bool
) -> NDArray[Any]:
    """An image of the native field in the working frame, (size, size, …).

    Parameters
    ----------
    image : (h, w) or (h, w, 3) array
        bool, uint8 or float32; shows the whole field, with whatever number of pixels.
    matrix : (2, 3)
        Native pixel → working pixel.
    native_size : (H, W)
    size : int
    nearest : bool
        Nearest pixel, outside False, 0 or NaN (points, masks). Else area means where the picture shrinks, bilinear between
        them, and outside the pixel at the border, so that no edge comes about.
    """
    values = image.astype(np.uint8) if image.dtype == np.bool_ else image
    height, width = values.shape[:2]
    own = square(matrix) @ rescale(native_size[1] / width, native_size[0] / height)
    shrink = 1 if nearest else max(1, math.floor(1 / max(scale_of(own), 1e-6)))
    box, origin = _needed(own, size, (height, width), shrink)
    values = np.ascontiguousarray(values[box])
    shift = np.eye(3)
    shift[:2, 2] = origin
    own = own @ shift
    if shrink > 1:
        rows, columns = values.shape[0] // shrink, values.shape[1] // shrink
        values = cv2.resize(values[: rows * shrink, : columns * shrink], (columns, rows), interpolation=cv2.INTER_AREA)
        own = own @ rescale(shrink)
    outside = float("nan") if values.dtype.kind == "f" else 0.0
    moved = cv2.warpAffine(
        values,
        own[:2],
        (size, size),
        flags=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT if nearest else cv2.BORDER_REPLICATE,
        borderValue=(outside,) * 4,
    )
    return moved > 0 if image.dtype == np.bool_ else moved


def _needed(
    own: Matrix, size: int, shape: tuple[int, int], shrink: int
) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
    """The rows and columns that the working frame shows, and the (u, v) at which they begin."""
    corners = np.array([[-1, size, size, -1], [-1, -1, size, size], [1, 1, 1, 1]], np.float64)
    seen = (np.linalg.inv(own) @ corners)[:2]
    low = np.floor(seen.min(axis=1)).astype(int) - 2 * shrink
    high = np.ceil(seen.max(axis=1)).astype(int) + 2 * shrink + 1
    first = np.clip(low, 0, np.array(shape[::-1]) - shrink)
    last = np.clip(high, first + shrink, np.array(shape[::-1]))
    return (slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))), first.astype(np.float64)
