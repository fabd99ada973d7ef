"""What the surface sheet shows: the maps of one surface, checked, and the window of them in which the part lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction.direction_checks import PairBias

FloatMap = NDArray[np.float32]

_MAP_NAMES = (
    "height_mm",
    "sigma_z_mm",
    "spread_mm",
    "support",
    "used",
    "mask",
    "rejected",
    "confidence",
    "true_height_mm",
)


@dataclass(frozen=True, eq=False)
class SurfaceMaps:
    """A surface as the sheet shows it; all maps (H, W).

    Attributes
    ----------
    height_mm : float32
        Above the table; NaN = not measured.
    sigma_z_mm, spread_mm : float32
        Predicted standard deviation; standard deviation between the directions that agree.
    support : uint8
        How many directions agree.
    used, rejected : uint8
        Which (bit d − 1 for direction d): believed, and measured but not believed.
    mask : bool
        The part.
    pitch_mm : float
        Size of a pixel on the table; > 0.
    confidence : float32, optional
        0 to 1.
    true_height_mm : float32, optional
    pairs : sequence of PairBias
    directions : sequence of int
    """

    height_mm: FloatMap
    sigma_z_mm: FloatMap
    spread_mm: FloatMap
    support: NDArray[np.uint8]
    used: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    pitch_mm: float
    rejected: NDArray[np.uint8] | None = None
    confidence: FloatMap | None = None
    true_height_mm: FloatMap | None = None
    pairs: Sequence[PairBias] = ()
    directions: Sequence[int] = (1, 2, 3, 4)

    def __post_init__(self) -> None:
        shape = check_array("height_mm", self.height_mm, ndim=2, dtypes=("float32",)).shape
        if not (0 < self.pitch_mm < np.inf):
            raise InputError(f"pitch_mm is {self.pitch_mm}; it must be greater than 0", code="surface_sheet.pitch")
        if not self.directions or not all(1 <= d <= 8 for d in self.directions):
            raise InputError(
                f"directions are {tuple(self.directions)}; allowed: 1 to 8", code="surface_sheet.directions"
            )
        if min(shape) < 2:
            raise InputError(f"height_mm has shape {shape}; at least 2×2 is needed", code="input.shape")
        types = {"support": "uint8", "used": "uint8", "rejected": "uint8", "mask": "bool"}
        for name in ("sigma_z_mm", "spread_mm", "confidence", "true_height_mm", *types):
            if (values := getattr(self, name)) is not None:
                check_array(name, values, shape=shape, dtypes=(types.get(name, "float32"),))


def cut_out(maps: SurfaceMaps, rows: slice, columns: slice, step: int) -> SurfaceMaps:
    """Every ``step``-th row and column of a window of all maps."""
    found = {name: getattr(maps, name) for name in _MAP_NAMES}
    cut = np.s_[rows.start : rows.stop : step, columns.start : columns.stop : step]
    kept: dict[str, Any] = {n: np.ascontiguousarray(values[cut]) for n, values in found.items() if values is not None}
    return replace(maps, pitch_mm=maps.pitch_mm * step, **kept)


def window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that the maps show: the part and some of the table, in the picture's proportions; all without a part."""
    box = _outline(mask)
    if box is None:
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    share = max((stop - start) / size for (start, stop), size in zip(box, mask.shape, strict=True))
    share = min(1.0, 1.3 * share)
    cut = []
    for (start, stop), size in zip(box, mask.shape, strict=True):
        length = min(size, max(8, round(share * size)))
        first = min(max(0, (start + stop - length) // 2), size - length)
        cut.append(slice(first, first + length))
    return cut[0], cut[1]


def middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """(row, column) through the middle of the part's outline; the picture's, if there is no part."""
    box = _outline(mask) or ((0, mask.shape[0]), (0, mask.shape[1]))
    return (box[0][0] + box[0][1] - 1) // 2, (box[1][0] + box[1][1] - 1) // 2


def _outline(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First and last + 1 row and column of the part."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return ((int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)) if rows.size else None
