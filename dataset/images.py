"""Reading and writing of single images, with every failure turned into one clear error.

Image libraries answer damaged files in a dozen ways: another array, ``None``, six kinds of exception. Here a file is read
whole, its header is checked against limits before pixels are decoded, and what comes back is an array or a
:class:`DatasetError`. Pixels come as they are stored: orientation tags (EXIF, TIFF) are not applied, since all frames
of a camera must lie alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from rakelight import files
from rakelight.arrays import check_array
from rakelight.errors import DatasetError, InputError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
JPEG_QUALITY = 95
_SIGNATURES: dict[str, bytes | tuple[bytes, ...]] = {
    ".png": b"\x89PNG\r\n\x1a\n",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
    ".bmp": b"BM",
    ".tif": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_MAX_SIDE = 65536
_MAX_BYTES = 1 << 30
_MAX_RATIO = 1100  # Deflate packs at most 1032 to 1, PackBits 64 to 1
_DTYPES = ("uint8", "uint16", "float32")
_TIFF_COMPRESSIONS = {1, 8, 32773, 32946}  # none, Deflate (two numbers), PackBits: what needs no further codec
_TIFF_PHOTOMETRICS = {1, 2, 32803, 34892}  # black is zero, RGB, colour filter array, linear raw

logging.getLogger(tifffile.__name__).addHandler(logging.NullHandler())  # what it warns of is checked or raised here


def write_tiff(path: str | Path, image: NDArray[Any]) -> tuple[int, str]:
    """Write (H, W) or RGB (H, W, 3) uint8, uint16 or float32 as one plain, uncompressed TIFF page, atomically.

    Returns the file's size in bytes and its SHA-256. Raises :class:`InputError` for other arrays and
    :class:`StorageError` when the file cannot be written.
    """
    _check_writable(path, image, _DTYPES)
    with files.atomic_write(path) as handle:
        return _put_tiff(handle, image)


def encode_tiff(image: NDArray[Any]) -> bytes:
    """The bytes that :func:`write_tiff` writes of an image, always the same of the same pixels."""
    _check_writable("tiff", image, _DTYPES)
    handle = io.BytesIO()
    _put_tiff(handle, image)
    return handle.getvalue()


def _put_tiff(handle: IO[bytes], image: NDArray[Any]) -> tuple[int, str]:
    image = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    colour: dict[str, Any] = {"photometric": "rgb", "planarconfig": "contig"} if image.ndim == 3 else {}
    options = {"photometric": "minisblack", "metadata": None, "software": "rakelight", **colour}
    # The pixels are written here, since ndarray.tofile, which tifffile calls, hides that a disk is full.
    place = tifffile.imwrite(handle, shape=image.shape, dtype=image.dtype, returnoffset=True, **options)
    assert place is not None
    handle.seek(0)
    digest = hashlib.sha256(handle.read(place[0]))
    pixels = image.reshape(-1).view(np.uint8).data
    handle.write(pixels)
    digest.update(pixels)
    size = handle.tell()
    handle.truncate()
    return size, digest.hexdigest()


def write_png(path: str | Path, image: NDArray[Any]) -> None:
    """Write (H, W) or RGB (H, W, 3) uint8 or uint16 as PNG, atomically."""
    files.write_bytes(path, encode_png(image))


def encode_png(image: NDArray[Any]) -> memoryview:
    """(H, W) or RGB (H, W, 3) uint8 or uint16 as lossless PNG."""
    # Run-length matches at level 1: twice as fast as the default on maps and no larger, since noise hardly compresses.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return _encode(".png", image, ("uint8", "uint16"), options)


def encode_jpeg(image: NDArray[np.uint8]) -> memoryview:
    """(H, W) or RGB (H, W, 3) uint8 as JPEG: quality 95, no chroma subsampling (4:4:4), no EXIF."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encode(".jpg", image, ("uint8",), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *sampling])


def _encode(suffix: str, image: NDArray[Any], dtypes: tuple[str, ...], options: list[int]) -> memoryview:
    _check_writable(suffix[1:], image, dtypes)
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    try:
        done, data = cv2.imencode(suffix, np.ascontiguousarray(bgr), options)
    except cv2.error as e:
        raise InputError(f"cannot encode {image.shape} {image.dtype} as {suffix}: {e}", code="image.encode") from e
    if not done:
        raise InputError(f"cannot encode {image.shape} {image.dtype} as {suffix}", code="image.encode")
    return np.ascontiguousarray(data).reshape(-1).data


def _check_writable(name: str | Path, image: NDArray[Any], dtypes: tuple[str, ...]) -> None:
    check_array(f"image for {name}", image, dtypes=dtypes)
    if image.size == 0 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(
            f"image for {name} has shape {image.shape}; allowed: (H, W) or (H, W, 3), not empty", code="input.shape"
        )


def read_image(path: str | Path, *, data: bytes | None = None) -> NDArray[Any]:
    """Read an image file: (H, W), or (H, W, 3) in RGB order; uint8, uint16 or (TIFF only) float32.

    Parameters
    ----------
    path : path
        The file; its suffix chooses the decoder and must fit the content.
    data : bytes, optional
        The file's content if it has been read already (to check its hash).

    Raises
    ------
    DatasetError
        ``image.missing`` or ``image.unreadable``: empty, truncated, damaged, too large, more than one page, an alpha
        channel, or an unknown format, compression or dtype.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise _bad(
            path, f"unknown image format {path.suffix!r}; known: {', '.join(SUFFIXES)}", "convert it to PNG or TIFF"
        )
    if data is None:
        data = read_file(path)
    if not data:
        raise _bad(path, "the file is empty")
    if not data.startswith(_SIGNATURES[suffix]):
        raise _bad(path, f"its content is not that of a {suffix} file")
    try:
        image = _read_tiff(data, path) if suffix in (".tif", ".tiff") else _read_other(data, path)
    except DatasetError:
        raise
    except (Exception, MemoryError) as e:  # decoders raise anything on damaged input; all of it means the same here
        raise _bad(path, f"{type(e).__name__}: {e}") from e
    if image.dtype.name not in _DTYPES:
        raise _bad(path, f"dtype {image.dtype}; allowed: {', '.join(_DTYPES)}", "save it with 8 or 16 bits a channel")
    if image.ndim == 3 and image.shape[2] in (2, 4):
        raise _bad(path, "it has an alpha channel", "export it without transparency")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise _bad(path, f"shape {image.shape}; allowed: (H, W) grey or Bayer, (H, W, 3) RGB")
    return image


def read_file(path: Path, *, max_bytes: int = 2 * _MAX_BYTES) -> bytes:
    """A file's bytes; a :class:`DatasetError` if it is absent, unreadable or longer than ``max_bytes``."""
    try:
        with open(path, "rb") as handle:
            size = handle.seek(0, io.SEEK_END)
            if size > max_bytes:
                raise _bad(path, f"{size} bytes; at most {max_bytes} are read")
            handle.seek(0)
            return handle.read(size)
    except FileNotFoundError as e:
        raise DatasetError(
            f"{path} is missing", hint="restore it, or correct the name in the description", code="image.missing"
        ) from e
    except OSError as e:
        raise _bad(path, str(e.strerror or e)) from e


def _read_tiff(data: bytes, path: Path) -> NDArray[Any]:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        if len(tiff.pages) != 1:
            raise _bad(path, f"{len(tiff.pages)} pages; one is allowed", "save each page as a file of its own")
        page = tiff.pages.first
        _check_tiff_kind(page, path)
        height, width, channels = _check_tiff_size(page, len(data), path)
        image = np.asarray(page.asarray())
        if channels > 1 and page.planarconfig == 2:
            image = np.ascontiguousarray(np.moveaxis(image.reshape(channels, height, width), 0, -1))
        image = image.reshape((height, width, channels) if channels > 1 else (height, width))
        return image.astype(image.dtype.newbyteorder("="), copy=False)


def _check_tiff_kind(page: Any, path: Path) -> None:
    """Refuse what would be decoded to other values than those meant, or not at all."""
    if page.compression not in _TIFF_COMPRESSIONS:
        name = getattr(page.compression, "name", page.compression)
        raise _bad(path, f"it is compressed with {name}", "save it uncompressed or with Deflate (ZIP), or as PNG")
    if page.photometric not in _TIFF_PHOTOMETRICS:
        name = getattr(page.photometric, "name", page.photometric)
        raise _bad(path, f"its colours are stored as {name}", "save it as plain grey (black is zero) or RGB")
    if page.dtype is None or page.dtype.name not in _DTYPES:
        found = page.dtype or f"of {page.bitspersample} bits"
        raise _bad(path, f"dtype {found}; allowed: {', '.join(_DTYPES)}", "save it with 8 or 16 bits a channel")


def _check_tiff_size(page: Any, file_bytes: int, path: Path) -> tuple[int, int, int]:
    """Height, width and channels, after the promises of the header were compared with what the file can hold."""
    height, width, channels = page.imagelength, page.imagewidth, page.samplesperpixel
    if not all(isinstance(number, int) for number in (height, width, channels)):
        raise _bad(path, "damaged: its size is not a number")  # a damaged tag count makes it a tuple of thousands
    size = _check_size(path, height, width, channels * page.dtype.itemsize)
    segment = math.prod(page.chunks) * page.dtype.itemsize
    if page.imagedepth != 1 or segment > max(4 * size, 1 << 20):
        raise _bad(path, f"damaged: tiles or strips of {segment} bytes in an image of {size}")
    stored = sum(page.databytecounts)
    if page.compression == 1 and stored < size:
        raise _bad(path, f"truncated: it holds {stored} bytes of pixels, its header promises {size}")
    if stored > file_bytes or size > _MAX_RATIO * file_bytes:
        raise _bad(path, f"damaged: {size} bytes of pixels do not come out of {min(stored, file_bytes)}")
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    if len(page.dataoffsets) > _MAX_SIDE or any(at + n > file_bytes for at, n in places):
        raise _bad(path, "truncated: its pixels lie beyond the end of the file")
    return height, width, channels


def _read_other(data: bytes, path: Path) -> NDArray[Any]:
    if path.suffix.lower() == ".png":
        _check_png(data, path)
    elif path.suffix.lower() == ".bmp":
        _check_bmp(data, path)
    else:
        _check_jpeg(data, path)
    with _quiet():
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise _bad(path, "damaged or truncated")
    _check_size(path, image.shape[0], image.shape[1], image.itemsize)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 and image.shape[2] == 3 else image


def _check_size(path: Path, height: int, width: int, pixel_bytes: int) -> int:
    """The image's size in bytes, refused before anything is allocated if it is absurd."""
    size = height * width * pixel_bytes
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE and 0 < size <= _MAX_BYTES):
        raise _bad(
            path, f"{width}×{height} px, {size} bytes; allowed: 1 to {_MAX_SIDE} px a side, at most {_MAX_BYTES} bytes"
        )
    return size


def _check_png(data: bytes, path: Path) -> None:
    """Walk the chunks and their CRCs: decoders fill what is missing with zeros and say nothing."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        crc = data[at + 8 + length : at + 12 + length]
        if len(crc) < 4 or zlib.crc32(body) != int.from_bytes(crc, "big"):
            raise _bad(path, f"damaged or truncated: the chunk at byte {at} fails its checksum")
        if at == 8:
            if len(body) != 17:
                raise _bad(path, "damaged: its header has the wrong length")
            width, height = int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big")
            channels = {0: 1, 2: 3, 3: 3, 4: 2}.get(body[13], 4)
            size = _check_size(path, height, width, channels * (2 if body[12] == 16 else 1))
            if size > 24 * _MAX_RATIO * len(data):  # up to 24 times more where a bit means an RGB colour
                raise _bad(path, f"damaged: {size} bytes of pixels do not come out of {len(data)}")
        if body[:4] == b"IEND":
            return
        at += 12 + length
    raise _bad(path, "truncated: it has no end chunk")


def _check_jpeg(data: bytes, path: Path) -> None:
    """Size from the frame header, and the end marker: decoders fill what is missing with grey and say nothing."""
    if b"\xff\xd9" not in data[-64:]:
        raise _bad(path, "truncated: it has no end marker")
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame: ITU-T T.81, table B.1
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            _check_size(path, height, width, data[at + 9])
            return
        at += 2 + length
    raise _bad(path, "damaged: it has no frame header")


def _check_bmp(data: bytes, path: Path) -> None:
    if len(data) < 30 or int.from_bytes(data[14:18], "little") < 40:
        raise _bad(path, "damaged, truncated or of a kind older than Windows 3", "convert it to PNG")
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    bits = int.from_bytes(data[28:30], "little")
    _check_size(path, abs(height), width, 1 if bits == 8 else max(3, bits // 8))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV tells errors on standard error as well; here they become exceptions."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _bad(path: Path, what: str, hint: str = "copy the file again from its source, or leave it out") -> DatasetError:
    return DatasetError(f"{path} cannot be read: {what[:240]}", hint=hint, code="image.unreadable")
