"""Raw image bytes of a camera in any of the pixel formats that rakelight takes → one array, bits in the low end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from rakelight.acquisition.pixel_formats import packed_bytes, parts, unknown, unpacked_name
from rakelight.errors import DeviceError

__all__ = ["packed_bytes", "unpack", "unpacked_name"]


def unpack(data: NDArray[np.uint8], pixel_format: str, width: int, height: int) -> NDArray[Any]:
    """Bytes (N,) uint8 → (H, W) or (H, W, 3), uint8 for 8 bits, otherwise uint16; own memory, alpha dropped.

    Raises
    ------
    DeviceError
        ``camera.pixel_format``: not known; ``camera.incomplete``: fewer bytes than the format needs.
    """
    kind, bits, packing = parts(pixel_format)
    needed = packed_bytes(pixel_format, width, height)
    if len(data) < needed:
        raise DeviceError(
            f"the camera sent {len(data)} bytes; {width}×{height} {pixel_format} needs {needed}",
            hint="check cable and network; the frame is not used",
            code="camera.incomplete",
        )
    channels = {"RGB": 3, "RGBa": 4}.get(kind, 1)
    count = width * height * channels
    shape = (height, width) if channels == 1 else (height, width, channels)
    if packing is None:
        values = data[:needed].view(np.uint8 if bits == 8 else "<u2").reshape(shape)
        return np.ascontiguousarray(values[..., :3]).copy() if channels > 1 else values.copy()
    out = np.empty(count, np.uint16)
    kernel = {("p", 12): _unpack_12p, ("p", 10): _unpack_10p, ("Packed", 12): _unpack_12g, ("Packed", 10): _unpack_10g}
    if (packing, bits) not in kernel:
        raise unknown(pixel_format)
    group, size = (4, 5) if (packing, bits) == ("p", 10) else (2, 3)
    whole = count // group
    kernel[packing, bits](data[: whole * size], out[: whole * group])
    if rest := count - whole * group:  # the last pixels, which fill no whole group
        tail = np.zeros(size, np.uint8)
        tail[: needed - whole * size] = data[whole * size : needed]
        last = np.empty(group, np.uint16)
        kernel[packing, bits](tail, last)
        out[whole * group :] = last[:rest]
    return out.reshape(shape)


_CHUNK = 16384  # groups a thread takes at once


@njit(parallel=True, cache=True)
def _unpack_12p(data: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    groups = len(out) // 2
    for chunk in prange((groups + _CHUNK - 1) // _CHUNK):
        for g in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, groups)):
            a, b, c = np.uint16(data[3 * g]), np.uint16(data[3 * g + 1]), np.uint16(data[3 * g + 2])
            out[2 * g] = a | ((b & np.uint16(15)) << np.uint16(8))
            out[2 * g + 1] = (b >> np.uint16(4)) | (c << np.uint16(4))


@njit(parallel=True, cache=True)
def _unpack_10p(data: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    groups = len(out) // 4
    for chunk in prange((groups + _CHUNK - 1) // _CHUNK):
        for g in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, groups)):
            a, b, c = np.uint16(data[5 * g]), np.uint16(data[5 * g + 1]), np.uint16(data[5 * g + 2])
            d, e = np.uint16(data[5 * g + 3]), np.uint16(data[5 * g + 4])
            out[4 * g] = a | ((b & np.uint16(3)) << np.uint16(8))
            out[4 * g + 1] = (b >> np.uint16(2)) | ((c & np.uint16(15)) << np.uint16(6))
            out[4 * g + 2] = (c >> np.uint16(4)) | ((d & np.uint16(63)) << np.uint16(4))
            out[4 * g + 3] = (d >> np.uint16(6)) | (e << np.uint16(2))


@njit(parallel=True, cache=True)
def _unpack_12g(data: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    groups = len(out) // 2
    for chunk in prange((groups + _CHUNK - 1) // _CHUNK):
        for g in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, groups)):
            a, b, c = np.uint16(data[3 * g]), np.uint16(data[3 * g + 1]), np.uint16(data[3 * g + 2])
            out[2 * g] = (a << np.uint16(4)) | (b & np.uint16(15))
            out[2 * g + 1] = (c << np.uint16(4)) | (b >> np.uint16(4))


@njit(parallel=True, cache=True)
def _unpack_10g(data: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    groups = len(out) // 2
    for chunk in prange((groups + _CHUNK - 1) // _CHUNK):
        for g in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, groups)):
            a, b, c = np.uint16(data[3 * g]), np.uint16(data[3 * g + 1]), np.uint16(data[3 * g + 2])
            out[2 * g] = (a << np.uint16(2)) | (b & np.uint16(3))
            out[2 * g + 1] = (c << np.uint16(2)) | ((b >> np.uint16(4)) & np.uint16(3))
