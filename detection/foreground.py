"""Which native pixels show the part: the stored mask, or one computed here for samples that come without.

Without a stored mask the table is fitted to the points (:func:`rakelight.reconstruction.part_mask.fit_table`, seeded RANSAC) and
the part is what stands out of it. Where the background was cut away before, the part is what was measured; where nothing
can be told, it is the whole picture. How it was found is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.detection.native import Native
from rakelight.errors import CalibrationError, DatasetError
from rakelight.reconstruction.part_mask import fit_table, part_mask

_TOLERANCE_PITCHES = 2.0  # flatness of a table and noise of the points
_BORDER_SHARE = 0.02  # of the shorter side: the rim in which the table is looked for
_EMPTY_RIM = 0.1  # a rim with fewer measured pixels than this share: the background was cut away
_LEAST_SHARE, _MOST_SHARE = 0.0005, 0.9  # of the field that a part may fill


@dataclass(frozen=True)
class MaskCache:
    """Part masks computed before, so that a second pass over a data set does not fit its tables again.

    In memory, as PNG (a few kB each), for as long as the caller keeps it.
    """

    masks: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)

    def get(self, key: tuple[str, str]) -> tuple[NDArray[np.bool_], str] | None:
        found = self.masks.get(key)
        if found is None:
            return None
        return cv2.imdecode(np.frombuffer(found[0], np.uint8), cv2.IMREAD_GRAYSCALE) > 0, found[1]

    def put(self, key: tuple[str, str], mask: NDArray[np.bool_], how: str) -> None:
        self.masks[key] = (cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes(), how)


def find_part(native: Native, seed: int = 0) -> tuple[NDArray[np.bool_], str]:
    """The part's pixels, (H, W) bool, and how they were found.

    ``"stored"``, ``"above the table"``, ``"measured points"`` or ``"whole picture"``. Raises :class:`DatasetError`
    (``detect.empty_foreground``) when the stored mask is empty.
    """
    if native.mask is not None:
        if not native.mask.any():
            raise DatasetError(
                f"{native.key}: its part mask is empty: no pixel shows the part",
                hint="derive the sample again with `rakelight dataset rebuild`, or capture it again",
                code="detect.empty_foreground",
            )
        return native.mask, "stored"
    if native.xyz is not None:
        found = _from_points(native.xyz, _pitch(native), seed)
        if found is not None:
            mask = found[0].astype(np.uint8)
            height, width = native.size
            return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0, found[1]
    return np.ones(native.size, np.bool_), "whole picture"


def _pitch(native: Native) -> float:
    """mm per pixel of the XYZ map (1 where x and y count pixels)."""
    assert native.xyz is not None
    return (native.pitch_mm or 1.0) * native.size[1] / native.xyz.shape[1]


def _from_points(xyz: NDArray[np.float32], pitch: float, seed: int) -> tuple[NDArray[np.bool_], str] | None:
    measured = np.isfinite(xyz[..., 2])
    rim = max(2, round(_BORDER_SHARE * min(measured.shape)))
    inner = measured[rim:-rim, rim:-rim]
    rim_share = (measured.sum() - inner.sum()) / (measured.size - inner.size)
    if rim_share < _EMPTY_RIM:
        mask, how = _largest(measured), "measured points"
    else:
        try:
            table = fit_table(xyz, tolerance_mm=_TOLERANCE_PITCHES * pitch, seed=seed)
        except CalibrationError:  # no plane in it: nothing tells part from background
            return None
        mask, how = part_mask(table.height_mm(xyz).astype(np.float32), pitch, least_share=0.3), "above the table"
    return (mask, how) if _LEAST_SHARE <= mask.mean() <= _MOST_SHARE else None


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest piece and those not much smaller, gaps closed."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    keep = (areas > 0) & (areas >= 0.3 * areas.max())
    return np.asarray(keep[labels])
