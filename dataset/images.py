"""Reading and writing of single images, with every failure turned into one clear error.

Image libraries answer damaged files in a dozen ways: another array, ``None``, six kinds of exception. Here a file is read
whole, its header is checked against limits before pixels are decoded, and what comes back is an array or a
:class:`DatasetError`.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from rakelight import files
from rakelight.errors import DatasetError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
_MAX_SIDE = 65536
_MAX_BYTES = 1 << 30
_DTYPES = ("uint8", "uint16", "float32")


def write_tiff(path: str | Path, image: NDArray[Any]) -> None:
    """Write (H, W) or (H, W, 3) uint8, uint16 or float32 as one plain, uncompressed TIFF page, atomically."""
    photometric = "rgb" if image.ndim == 3 else "minisblack"
    with files.atomic_write(path) as handle:
        tifffile.imwrite(
            handle, np.ascontiguousarray(image), photometric=photometric, metadata=None, software="rakelight"
        )


def write_png(path: str | Path, image: NDArray[Any]) -> None:
    """Write (H, W) or RGB (H, W, 3) uint8 or uint16 as PNG, atomically."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    ok, data = cv2.imencode(".png", np.ascontiguousarray(bgr), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not ok:
        raise DatasetError(
            f"{path}: cannot encode an image of shape {image.shape}, {image.dtype} as PNG", code="image.encode"
        )
    files.write_bytes(path, data.data)


def read_image(path: str | Path, *, data: bytes | None = None) -> NDArray[Any]:
    """Read an image file: (H, W), or (H, W, 3) in RGB order; uint8, uint16 or (TIFF only) float32.

    Parameters
    ----------
    path : path
        The file; its suffix chooses the decoder.
    data : bytes, optional
        The file's content if it has been read already (to check its hash).

    Raises
    ------
    DatasetError
        Missing, empty, truncated, damaged, too large, more than one page, an alpha channel, or an unknown format or dtype.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise _bad(path, f"unknown image format {path.suffix!r}; known: {', '.join(SUFFIXES)}")
    if data is None:
        data = read_file(path)
    if not data:
        raise _bad(path, "the file is empty")
    try:
        image = _read_tiff(data) if path.suffix.lower() in (".tif", ".tiff") else _read_other(data, path)
    except DatasetError:
        raise
    except (Exception, MemoryError) as e:  # decoders raise anything on damaged input; all of it means the same here
        raise _bad(path, f"{type(e).__name__}: {e}") from e
    if image.dtype.name not in _DTYPES:
        raise _bad(path, f"dtype {image.dtype}; allowed: {', '.join(_DTYPES)}")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise _bad(path, f"shape {image.shape}; allowed: (H, W) grey or Bayer, (H, W, 3) RGB without alpha")
    return image


def read_file(path: Path) -> bytes:
    """A file's bytes; a :class:`DatasetError` if it is absent or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise DatasetError(
            f"{path} is missing", hint="restore it, or correct the name in the description", code="image.missing"
        ) from e
    except OSError as e:
        raise _bad(path, str(e.strerror or e)) from e


def _read_tiff(data: bytes) -> NDArray[Any]:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        if len(tiff.pages) != 1:
            raise ValueError(f"{len(tiff.pages)} pages; one is allowed")
        page = tiff.pages.first
        size = int(np.prod(page.shape, dtype=np.int64)) * page.dtype.itemsize if page.dtype is not None else 0
        if max(page.shape) > _MAX_SIDE or not 0 < size <= _MAX_BYTES:
            raise ValueError(f"shape {page.shape}, {size} bytes; at most {_MAX_SIDE} a side and {_MAX_BYTES} bytes")
        if page.compression == 1 and sum(page.databytecounts) < size:
            raise ValueError(f"holds {sum(page.databytecounts)} bytes of pixels, its header promises {size}")
        if any(o + n > len(data) for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
            raise ValueError("truncated: its pixels lie beyond the end of the file")
        return np.asarray(page.asarray())


def _read_other(data: bytes, path: Path) -> NDArray[Any]:
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        _check_png(data)
    elif data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]:
        raise ValueError("truncated: no end-of-image marker")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("not a readable image")
    if max(image.shape) > _MAX_SIDE:
        raise ValueError(f"shape {image.shape}; at most {_MAX_SIDE} a side")
    return np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 and image.shape[2] == 3 else image


def _check_png(data: bytes) -> None:
    """Walk the chunks and their CRCs: decoders fill what is missing with zeros and say nothing."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        crc = data[at + 8 + length : at + 12 + length]
        if len(crc) < 4 or zlib.crc32(body) != int.from_bytes(crc, "big"):
            raise ValueError(f"damaged chunk at byte {at}")
        if body[:4] == b"IEND":
            return
        at += 12 + length
    raise ValueError("truncated: no end chunk")


def _bad(path: Path, what: str) -> DatasetError:
    return DatasetError(
        f"{path} cannot be read: {what}",
        hint="copy the file again from its source, or leave it out of the description",
        code="image.unreadable",
    )
