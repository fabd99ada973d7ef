"""Pictures that show the same part in the same place: captured twice, committed twice, or saved again.

Parts of one product look alike, so "alike" is no sign of a duplicate; "alike down to the noise" is. Each picture becomes a
small one: grey, of the part only, averaged over a grid of 32 × 32 cells and normalised to mean 0 and length 1, so that
brightness and contrast do not count. Two captures of an unmoved part then differ only by averaged sensor noise, while another
specimen differs in pose, dust and finish. A pair is near if 1 − correlation is below ``FAR``, and also far below
what is usual between neighbours in that category.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 32
FAR = 2e-4  # 1 − correlation of pairs that are never near; saved again as JPEG of quality 80: 1.2e-4 at most (simulator, 456 px)
USUAL_SHARE = 0.1  # of the median distance to the nearest neighbour in the category
_FEW = 8  # samples below which nothing is usual
_BLOCK = 512


@dataclass(frozen=True)
class NearPair:
    """Two rows of the table of small pictures and their distance, 1 − correlation."""

    first: int
    second: int
    distance: float


def small_picture(picture: NDArray[np.generic], part: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """(H, W[, 3]) picture → (SIDE·SIDE,) float32 of mean 0 and length 1 (all zeros for a picture of one colour).

    Outside ``part`` (H, W) the picture is set to its mean over the part.
    """
    grey = np.asarray(picture, np.float32)
    if grey.ndim == 3:
        grey = grey.mean(axis=2)
    if part is not None and part.any():
        grey = np.where(part, grey, np.float32(grey[part].mean()))
    cells = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1)
    cells = cells - cells.mean()
    length = float(np.linalg.norm(cells))
    return np.asarray(cells / length if length > 1e-6 else np.zeros_like(cells), np.float32)


def near_pairs(small: NDArray[np.float32]) -> Iterator[NearPair]:
    """Pairs of rows of ``small`` (n, SIDE·SIDE) that show the same, in order; n × 512 distances are held at a time.

    Rows of zeros are passed over.
    """
    count = len(small)
    told = np.linalg.norm(small, axis=1) > 0.5
    nearest = np.full(count, np.inf, np.float32)
    found: list[
        tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
    ] = []  # a block each: first, second, distance
    for start in range(0, count, _BLOCK):
        distance = 1 - small[start : start + _BLOCK] @ small.T
        rows = np.arange(len(distance))
        distance[rows, start + rows] = np.inf
        distance[:, ~told] = np.inf
        distance[~told[start : start + _BLOCK]] = np.inf
        nearest[start : start + _BLOCK] = distance.min(axis=1)
        first, second = np.nonzero(distance < FAR)
        once = start + first < second
        first, second = first[once], second[once]
        found.append(((start + first).astype(np.int32), second.astype(np.int32), distance[first, second]))
    usual = nearest[told & np.isfinite(nearest)]
    limit = FAR
    if len(usual) >= _FEW:
        # Where most are duplicates the median is a duplicate's: then the far quartile tells what is usual.
        limit = min(FAR, USUAL_SHARE * float(max(np.median(usual), np.quantile(usual, 0.9))))
    for firsts, seconds, distances in found:
        for n in np.flatnonzero(distances <= max(limit, 1e-6)):
            yield NearPair(int(firsts[n]), int(seconds[n]), max(0.0, float(distances[n])))
