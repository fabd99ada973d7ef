"""Single pixels without a normal, amid pixels that have one: closed for pictures, never in what is measured.

Behind a Bayer filter a strongly coloured spot leaves every fourth pixel too dark to be solved (the blue ones of an orange mark),
at one exposure and not at a slightly longer one. As black pixels of a pseudo-3D picture they look like damage to a person
and to a detector.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array

_LEAST_AROUND = 6  # of 8 neighbours; the corner of a larger gap has 5


def close_pinholes(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normals in which single missing pixels are the mean of their neighbours.

    Parameters
    ----------
    normals : (H, W, 3) float32
        Unit normals; NaN = not solved.

    Returns
    -------
    (H, W, 3) float32
        The same array where there is nothing to close; else a copy in which every missing pixel with a normal at 6 or
        more of its 8 neighbours has their mean direction. Rims of larger gaps stay as they are.

    Raises
    ------
    InputError
        ``input.shape``, ``input.dtype``.
    """
    found = check_array("normals", normals, shape=(None, None, 3), dtypes=("float32",))
    missing = np.isnan(found[..., 2])
    around = cv2.boxFilter((~missing).view(np.uint8), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    rows, columns = np.nonzero(missing & (around >= _LEAST_AROUND))
    if not len(rows):
        return found
    total = np.zeros((len(rows), 3))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            v, u = rows + down, columns + right
            inside = (v >= 0) & (u >= 0) & (v < missing.shape[0]) & (u < missing.shape[1])
            neighbour = found[v.clip(0, missing.shape[0] - 1), u.clip(0, missing.shape[1] - 1)]
            total += np.where(inside[:, None] & ~np.isnan(neighbour), neighbour, 0)
    closed = found.copy()
    length = np.linalg.norm(total, axis=1, keepdims=True)
    closed[rows, columns] = np.where(length > 0, total / np.maximum(length, 1e-12), np.nan)
    return closed
