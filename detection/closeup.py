"""A place of a part, larger: its native pixels in the part's pose, as a :class:`Part` of their own."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.detection._geometry import angle_of, resample, rescale, square
from rakelight.detection.native import Native
from rakelight.detection.parts import Part, turn_normals
from rakelight.errors import InputError

Matrix = NDArray[np.float64]


def view_matrix(middle: tuple[float, float], side: float, size: int) -> Matrix:
    """(3, 3) from working pixels (column, row) into a square of ``size`` pixels that shows ``side`` of them about ``middle``
    (row, column)."""
    shift = np.eye(3)
    shift[:2, 2] = (side - 1) / 2 - middle[1], (side - 1) / 2 - middle[0]
    return np.asarray(rescale(size / side) @ shift, np.float64)


def close_up(part: Part, native: Native, middle: tuple[float, float], side: float, size: int) -> Part:
    """The square of ``side`` working pixels about ``middle`` (row, column) as a part of ``size`` × ``size`` pixels.

    Parameters
    ----------
    part : Part
        Gives pose, part mask and what is ignored.
    native : Native
        The same sample as captured; gives pictures and points with all their pixels.

    Returns
    -------
    Part
        To be looked at: x and y of its points are not turned.

    Raises
    ------
    InputError
        A side or a size that is not positive, or a sample of another size than the part's.
    """
    if side <= 0 or size < 1 or native.size != part.native_size:
        raise InputError(
            f"a close-up of {side:g} working pixels on {size} pixels, of {native.key} with {native.size} native pixels; needed: "
            f"both above 0, and the part's {part.native_size} native pixels",
            code="detect.closeup",
        )
    view = view_matrix(middle, side, size)
    matrix = (view @ square(part.to_native))[:2]
    mask = _moved(part.mask, view, size)
    xyz = None
    if native.xyz is not None:
        xyz = resample(native.xyz, matrix, native.size, size, nearest=True)
        xyz[~mask] = np.nan
    rgb, ps = (
        None if picture is None else resample(picture, matrix, native.size, size, nearest=False)
        for picture in (native.rgb, native.ps)
    )
    if ps is not None and native.ps_encoding == "normals":
        ps = turn_normals(ps, angle_of(matrix))
    pitch = part.facts.get("pitch_mm")
    facts = part.facts | {"pitch_mm": None if pitch is None else pitch * side / size}
    return replace(
        part, size=size, rgb=rgb, ps=ps, xyz=xyz, mask=mask, ignore=_moved(part.ignore, view, size), to_native=matrix,
        facts=facts,
    )  # fmt: skip


def _moved(mask: NDArray[np.bool_], view: Matrix, size: int) -> NDArray[np.bool_]:
    moved = cv2.warpAffine(mask.astype(np.float32), view[:2], (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(moved > 0.5, np.bool_)
