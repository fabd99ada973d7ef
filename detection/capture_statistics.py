"""What a capture looks like as a whole, whatever the part is like: light, noise, points, tilt.

These numbers hardly change from good part to good part, nor from a good part to a bad one, but they do when a lamp ages or
gets dirty, a lens is touched or the table sags. :mod:`rakelight.detection.drift` watches them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError

_STRIPE = 256  # rows of a picture turned to float at a time
_NOISE_PIXELS = 100_000  # at least, that its noise is taken from
_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_KEPT = 0.75
_KEPT_MEAN = 0.5149033  # of |z| of a standard normal z, its largest quarter left out: 2 (φ(0) − φ(1.15035)) / 0.75


def capture_statistics(
    zones: Sequence[NDArray[np.generic]] | Mapping[int, NDArray[np.generic]] = (),
    *,
    xyz: NDArray[np.floating] | None = None,
    normals: NDArray[np.floating] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """The statistics of one capture; what is not given is left out.

    Parameters
    ----------
    zones : sequence, or mapping by number, of (H, W) or (H, W, 3) arrays, integer or float
        The pictures under each lighting zone, linear; a sequence in the order of the zones, from 1 on. ``light_zone1`` …
        are their means over the whole frame, ``noise_zone1`` … the standard deviation of their noise by Immerkær's mask
        (1996, Comput. Vis. Image Underst. 64, 300–302; a trimmed mean instead of the mean, so that edges count little),
        both in the pictures' own unit.
    xyz : (H, W, 3) float array, mm, NaN where invalid
        ``points``: number of valid pixels on the part; ``nan_share``: share of the part's pixels without a point.
    normals : (H, W, 3) float array, viewer frame
        ``normal_x``, ``normal_y``: mean over the part, which tells a tilt.
    mask : (H, W) bool, optional
        The part, for ``xyz`` and ``normals``; by default the whole frame.

    Raises
    ------
    InputError
        Wrong shapes, pictures below 3×3 pixels, an empty mask.
    """
    out: dict[str, float] = {}
    for number, picture in zones.items() if isinstance(zones, Mapping) else enumerate(zones, 1):
        array = check_array(f"picture of zone {number}", picture)
        if array.ndim not in (2, 3) or min(array.shape[:2]) < 3:
            raise InputError(
                f"the picture of zone {number} has shape {array.shape}; needed: H×W or H×W×3 from 3×3 pixels on",
                code="input.shape",
            )
        out[f"light_zone{number}"] = float(array.mean(dtype=np.float64))
        out[f"noise_zone{number}"] = _noise(array if array.ndim == 2 else array[..., array.shape[2] // 2])
    if xyz is not None:
        points = check_array("xyz", xyz, shape=(None, None, 3))
        part = _part(mask, points.shape[:2])
        valid = int(np.isfinite(points).all(axis=2)[part].sum())
        out["points"] = float(valid)
        out["nan_share"] = 1 - valid / int(part.sum())
    if normals is not None:
        directions = check_array("normals", normals, shape=(None, None, 3))
        of_part = directions[_part(mask, directions.shape[:2])]
        of_part = of_part[np.isfinite(of_part).all(axis=1)]
        if len(of_part):
            out["normal_x"], out["normal_y"] = (float(v) for v in of_part[:, :2].mean(axis=0, dtype=np.float64))
    return out


def _part(mask: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(shape, bool)
    part = check_array("mask", mask, shape=shape, dtypes=("bool",))
    if not part.any():
        raise InputError("the part mask is empty: no statistics of the part can be taken", code="drift.empty_mask")
    return part


def _noise(picture: NDArray[np.generic]) -> float:
    """The mean of |Laplacian difference|, its largest quarter left out, over what it is where the noise has a deviation of 1.

    The mask 1 −2 1 / −2 4 −2 / 1 −2 1 has norm 6. A mean, unlike a median, changes steadily also where 8-bit values leave a
    few levels of difference.
    """
    rows, columns = picture.shape[0] - 2, picture.shape[1] - 2
    step = max(1, math.isqrt(rows * columns // _NOISE_PIXELS))
    found = []
    for top in range(0, rows, _STRIPE):
        stripe = picture[top : top + _STRIPE + 2].astype(np.float32)
        found.append(np.abs(cv2.filter2D(stripe, -1, _MASK)[1:-1:step, 1:-1:step]).ravel())
    values = np.concatenate(found)
    kept = max(1, round(_KEPT * len(values)))
    return float(np.partition(values, kept - 1)[:kept].mean(dtype=np.float64) / (6 * _KEPT_MEAN))
