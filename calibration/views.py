"""What one pose of a calibration board showed: corners in the camera's image and, where decoded, on the projectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """Corners of a board in one pose.

    Parameters
    ----------
    name : str
        How messages call the pose, for example its recording's name.
    ids : (N,) int64
        Numbers of the corners as in ``Board.corners_mm``, each once.
    uv : (N, 2) float64
        Camera px, pixel centre at integer.
    colrow : mapping direction → (N, 2) float64
        Projector (column, row) at each corner, NaN where it cannot be decoded; empty without projectors.
    sharpness_px : float, optional
        Width of the board's edges (sigma) in camera px.
    size : (int, int), optional
        Width and height in px of the image the corners are from; checked against the camera's where given.

    Raises
    ------
    InputError
        Shapes that do not fit, corners that are not finite, a number twice.
    """

    name: str
    ids: NDArray[np.int64]
    uv: FloatArray
    colrow: Mapping[int, FloatArray] = field(default_factory=dict)
    sharpness_px: float | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        ids = check_array(f"corner numbers of {self.name}", self.ids, ndim=1).astype(np.int64)
        uv = check_array(f"corners of {self.name}", self.uv, shape=(len(ids), 2), finite=True).astype(np.float64)
        if len(np.unique(ids)) < len(ids) or (len(ids) and ids.min() < 0):
            raise InputError(
                f"{self.name}: corner numbers {ids.tolist()}; each must be 0 or more and occur once",
                code="input.corners",
            )
        colrow = {
            int(direction): check_array(
                f"corners of {self.name} on projector {direction}", points, shape=(len(ids), 2)
            ).astype(np.float64)
            for direction, points in self.colrow.items()
        }
        for key, value in (("ids", ids), ("uv", uv), ("colrow", colrow)):
            object.__setattr__(self, key, value)
