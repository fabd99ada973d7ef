"""What the header of a stored file says beside its pixels: facts that must not tell a good part from a bad one.

Only headers are read, as far as they go; what cannot be parsed is told as "unreadable", since finding damage is the
affair of the reader of the pixels.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import tifffile

_HEAD_BYTES = 1 << 18
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_COUNTS = ("POINTS", "WIDTH", "HEIGHT", "VIEWPOINT", "element vertex", "element face")

Header = dict[str, str]


def header_facts(path: Path) -> Header:
    """Facts of a JPEG, PNG, TIFF, PCD or PLY file by name, for example ``quantisation tables``; {} for other kinds."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        return {}
    try:
        return reader(path)
    except (
        OSError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        MemoryError,
        struct.error,
        tifffile.TiffFileError,
        ArithmeticError,
    ):
        return {"header": "unreadable"}


def is_compressed(path: Path, header: Header) -> bool:
    """Whether the file's size depends on what is shown: all but plain TIFF."""
    return not (path.suffix.lower() in (".tif", ".tiff") and header.get("compression") == "1")


def _head(path: Path) -> bytes:
    with open(path, "rb") as handle:
        return handle.read(_HEAD_BYTES)


def _jpeg(path: Path) -> Header:
    data = _head(path)
    tables, texts, metadata, frame = hashlib.sha256(), hashlib.sha256(), [], ""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDB:
            tables.update(body)
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", body[1:5])
            frame = f"{width}×{height}, kind {marker - 0xC0}, sampling {body[5:].hex()}"
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            name = body[:4].decode("latin-1") if marker != 0xFE else "comment"
            texts.update(body)
            metadata.append(f"{name if name.isprintable() else '?'} {length}")
        at += 2 + length
    return {
        "quantisation tables": tables.hexdigest()[:12],
        "metadata (EXIF and others)": ", ".join(metadata) or "none",
        "metadata content": texts.hexdigest()[:12],
        "size and sampling": frame,
    }


def _png(path: Path) -> Header:
    chunks: list[str] = []
    frame = b""  # without its chunk unpacking fails, which is "unreadable"
    with open(path, "rb") as handle:
        handle.seek(8)
        kind = b""
        while kind != b"IEND" and len(chunks) < 10_000:
            head = handle.read(8)
            if len(head) < 8:
                break
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IHDR":
                frame = handle.read(length)
                handle.seek(4, 1)
            else:
                handle.seek(length + 4, 1)
            if kind != b"IDAT":
                chunks.append(kind.decode("latin-1"))
    width, height, depth, colour, _c, _f, interlace = struct.unpack(">IIBBBBB", frame)
    return {
        "size and type": f"{width}×{height}, {depth} bit, colour {colour}, interlace {interlace}",
        "metadata chunks": " ".join(chunks),
    }


def _tiff(path: Path) -> Header:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        texts = [f"{t.code}={str(t.value)[:60]}" for t in page.tags.values() if isinstance(t.value, str)]
        texts = [t for t in texts if not t.startswith("306=")]  # a date is unique and told by the times
        return {
            "dtype": str(page.dtype),
            "shape": "×".join(map(str, page.shape)),
            "compression": str(int(page.compression)),
            "byte order and planes": f"{tiff.byteorder} {int(page.planarconfig)} {int(page.photometric)}",
            "tags": " ".join(str(t.code) for t in page.tags.values()),
            "texts": "; ".join(texts) or "none",
            "pages": str(len(tiff.pages)),
        }


def _cloud(path: Path) -> Header:
    """Header lines without the number of points."""
    lines = []
    for raw in _head(path).split(b"\n"):
        line = raw.decode("ascii", "replace").strip()
        if not line.startswith(_COUNTS):
            lines.append(line[:200])
        if line.startswith(("DATA", "end_header")) or len(lines) > 100:
            break
    return {"header": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12], "data": lines[-1]}


_READERS: dict[str, Callable[[Path], Header]] = {
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".png": _png,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".pcd": _cloud,
    ".ply": _cloud,
}
