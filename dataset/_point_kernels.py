"""The compiled loops that pack point clouds into the bytes of a file, without temporaries of cloud size.

One thread: packing is the smaller part beside hashing, which runs meanwhile, and writing.
Floats come as their bits (uint32 views, any strides): NaN and infinity are told by the exponent, a sign is turned by its
bit, and what is written is little-endian on every machine. ``keep`` is (H, W) uint8, 0 = leave the pixel out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_EXPONENT = np.uint32(0x7F800000)  # all set: NaN or infinity
_NAN = np.uint32(0x7FC00000)


@njit(cache=True, inline="always")
def _finite(a: Any, b: Any, c: Any) -> Any:
    return ((a & _EXPONENT) != _EXPONENT) & ((b & _EXPONENT) != _EXPONENT) & ((c & _EXPONENT) != _EXPONENT)


@njit(cache=True, inline="always")
def _put(out: Any, at: Any, word: Any) -> None:
    """Four bytes, lowest first; the compiler makes one store of them."""
    out[at] = np.uint8(word)
    out[at + 1] = np.uint8(word >> np.uint32(8))
    out[at + 2] = np.uint8(word >> np.uint32(16))
    out[at + 3] = np.uint8(word >> np.uint32(24))


@njit(cache=True, nogil=True)
def count_kept(xyz: Any, keep: Any, counts: Any) -> None:
    """Valid points of each row into ``counts`` (H,) int64."""
    for r in range(xyz.shape[0]):
        count = np.int64(0)
        for c in range(xyz.shape[1]):
            count += _finite(xyz[r, c, 0], xyz[r, c, 1], xyz[r, c, 2]) & (keep[r, c] != 0)
        counts[r] = count


@njit(cache=True, nogil=True)
def pack_ply(
    xyz: Any, keep: Any, normals: Any, has_normals: Any, flip: Any, rgb: Any, has_rgb: Any, starts: Any, out: Any
) -> None:
    """x y z, nx ny nz if any, red green blue if any, of the kept points of some rows.

    ``starts`` (H,) int64: the byte of ``out`` where a row begins. ``flip``: exclusive-or on the bits of n_y and n_z (the
    sign bit turns viewer axes into camera axes). A normal that is not finite becomes 0, 0, 0.
    """
    zero = np.uint32(0)
    for r in range(xyz.shape[0]):
        at = starts[r]
        for c in range(xyz.shape[1]):
            x, y, z = xyz[r, c, 0], xyz[r, c, 1], xyz[r, c, 2]
            # Not branch-free: validity comes in long runs, and a skipped point saves its writes.
            if _finite(x, y, z) & (keep[r, c] != 0):
                _put(out, at, x)
                _put(out, at + 4, y)
                _put(out, at + 8, z)
                at += 12
                if has_normals:
                    a, b, d = normals[r, c, 0], normals[r, c, 1], normals[r, c, 2]
                    known = _finite(a, b, d)
                    _put(out, at, a if known else zero)
                    _put(out, at + 4, b ^ flip if known else zero)
                    _put(out, at + 8, d ^ flip if known else zero)
                    at += 12
                if has_rgb:
                    out[at], out[at + 1], out[at + 2] = rgb[r, c, 0], rgb[r, c, 1], rgb[r, c, 2]
                    at += 3


@njit(cache=True, nogil=True)
def pack_pcd(xyz: Any, keep: Any, rgb: Any, whole_grid: Any, starts: Any, out: Any) -> None:
    """x y z and 0x00RRGGBB of the kept points of some rows; with ``whole_grid`` of all, those left out as NaN."""
    for r in range(xyz.shape[0]):
        at = starts[r]
        for c in range(xyz.shape[1]):
            x, y, z = xyz[r, c, 0], xyz[r, c, 1], xyz[r, c, 2]
            kept = _finite(x, y, z) & (keep[r, c] != 0)
            if kept or whole_grid:
                red, green, blue = np.uint32(rgb[r, c, 0]), np.uint32(rgb[r, c, 1]), np.uint32(rgb[r, c, 2])
                _put(out, at, x if kept else _NAN)
                _put(out, at + 4, y if kept else _NAN)
                _put(out, at + 8, z if kept else _NAN)
                _put(out, at + 12, (red << np.uint32(16)) | (green << np.uint32(8)) | blue)
                at += 16
