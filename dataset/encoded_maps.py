"""How normals and albedo of a sample stand in its files: 16 bits, only where the part is, losslessly packed.

Float maps of a 20-MP frame are 240 MB each and their last bits are noise. So normals are stored as::

    normals.tiff   (H, W, 3) uint16 = round(32767.5·(n + 1)), viewer frame; 0 0 0 = not known
    albedo.tiff    (H, W) or (H, W, 3) uint16 = round(albedo / scale), at least 1; 0 = not known

A step of a normal's component is 3.1e-5, its error at most 1.9e-5 (0.001°), a hundredth of what sensor noise does. The
scale of an albedo is 1/32768, so that it reaches to 2 (the albedo of a white plate is near 1); doubled as often as a larger
value needs it. It stands in the manifest under ``encodings``. Beyond ``MARGIN_PX`` around the part nothing is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.dataset import _map_kernels as kernels
from rakelight.errors import DatasetError, InputError

MARGIN_PX = 32  # beyond any filter that a detector or a viewer lays over the part's edge
NORMALS_ENCODING = {"formula": "uint16 round(32767.5*(n+1))", "frame": "viewer", "invalid": "0 0 0"}
_FINEST = 32768.0  # steps of an albedo of 1
_MOST = 65535.0


def stored_area(part_mask: NDArray[np.bool_] | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where maps are stored: the part with ``MARGIN_PX`` around it (a square), everywhere without a part mask."""
    if part_mask is None:
        return np.ones(shape, np.bool_)
    side = 2 * MARGIN_PX + 1
    grown = cv2.dilate(np.ascontiguousarray(part_mask).view(np.uint8), np.ones((side, side), np.uint8))
    return grown.view(np.bool_)


def encode_normals(normals: NDArray[np.float32], keep: NDArray[np.bool_] | None = None) -> NDArray[np.uint16]:
    """(H, W, 3) float32 unit vectors, NaN where not known → uint16 as stored; 0 0 0 where NaN or not in ``keep``."""
    normals = check_array("normals", normals, shape=(None, None, 3), dtypes=("float32",))
    out = np.empty(normals.shape, np.uint16)
    kernels.encode_unit(normals, _kept(keep, normals.shape[:2]), out)
    return out


def decode_normals(stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Inverse of :func:`encode_normals`: (H, W, 3) float32 of unit length, viewer frame, NaN where not known."""
    stored = check_array("stored normals", stored, shape=(None, None, 3), dtypes=("uint16",))
    normals = stored.astype(np.float32)
    normals /= 32767.5
    normals -= 1
    normals[~stored.any(axis=2)] = np.nan
    normals /= np.sqrt(np.einsum("hwc,hwc->hw", normals, normals))[..., None]
    return normals


def encode_albedo(
    albedo: NDArray[np.float32], keep: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.uint16], float]:
    """(H, W) or (H, W, 3) float32, not negative, NaN where not known → (uint16 as stored, scale of one step).

    Raises :class:`InputError` (``input.not_finite``) for infinity.
    """
    albedo = check_array("albedo", albedo, dtypes=("float32",))
    planes = albedo[..., None] if albedo.ndim == 2 else albedo
    keep = _kept(keep, albedo.shape[:2])
    most = float(kernels.largest(planes, keep))
    if math.isinf(most):
        raise InputError("albedo holds infinite values", code="input.not_finite")
    steps = _FINEST if most * _FINEST <= _MOST else _FINEST / 2 ** math.ceil(math.log2(most * _FINEST / _MOST))
    out = np.empty(planes.shape, np.uint16)
    kernels.encode_linear(planes, keep, np.float32(steps), out)
    return out.reshape(albedo.shape), 1 / steps


def decode_albedo(stored: NDArray[np.uint16], scale: float) -> NDArray[np.float32]:
    """Inverse of :func:`encode_albedo`: float32 of the same shape, NaN where not known."""
    stored = check_array("stored albedo", stored, dtypes=("uint16",))
    return np.where(stored == 0, np.float32(np.nan), stored * np.float32(scale))


def albedo_encoding(scale: float) -> dict[str, Any]:
    """What the manifest says of an albedo."""
    return {"formula": "uint16 round(albedo/scale)", "scale": scale, "invalid": "0"}


def albedo_scale(encodings: Mapping[str, Any], sample: str) -> float:
    """The scale that a manifest's ``encodings`` state; raises :class:`DatasetError` if they do not."""
    stated = encodings.get("albedo.tiff")
    scale = stated.get("scale") if isinstance(stated, Mapping) else None
    if not isinstance(scale, int | float) or not (math.isfinite(scale) and scale > 0):
        raise DatasetError(
            f"the manifest of {sample} does not state the scale of albedo.tiff, a number above 0",
            hint="restore the manifest from a backup, or derive the sample again",
            code="dataset.encoding_unknown",
        )
    return float(scale)


def _kept(keep: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if keep is None:
        return np.broadcast_to(np.True_, shape)
    return check_array("keep", keep, shape=shape, dtypes=("bool",))
