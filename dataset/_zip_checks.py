"""What a zip states of itself, judged before a byte of its content is unpacked."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from rakelight.errors import DatasetError

READ_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,  # a password is asked for
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    struct.error,
)
"""What :mod:`zipfile` answers damaged archives with."""

_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"
_LOCATOR_64 = b"PK\x06\x07"
_ENTRY_BYTES = 46  # of the central directory, without the name
_MOST_ENTRY_BYTES = 1400  # with a name of 1,000 characters and the usual extra fields
_DEFLATE_RATIO = 1100  # its limit is 1032
_RATIO = 100
_RATIO_FROM = 256 << 20
_PICTURES_FROM = 16 << 20
_TOTAL_FROM = 4 << 30
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip that was judged by :func:`check_zip`."""
    try:
        archive = zipfile.ZipFile(path)
    except READ_ERRORS as e:
        raise damaged(path, e) from e
    with archive:
        yield archive


def check_zip(path: Path, *, most_members: int, most_bytes: int, most_total: int) -> list[zipfile.ZipInfo]:
    """The members of a zip, none of them read; raises :class:`DatasetError` for what :mod:`archives` lists."""
    _check_end(path, most_members)
    with open_zip(path) as archive:
        infos = archive.infolist()
    if len(infos) > most_members:
        raise hostile(path, f"it has {len(infos)} members; at most {most_members} are looked at")
    for info in infos:
        _check_member(path, info, most_bytes)
    size = path.stat().st_size
    total = sum(info.file_size for info in infos)
    if total > most_total or (total > _TOTAL_FROM and total > _RATIO * size):
        raise hostile(path, f"its {size} bytes promise {total}; allowed: {most_total} and {_RATIO} : 1")
    _check_apart(path, infos)
    return infos


def _check_end(path: Path, most_members: int) -> None:
    """The end record, before :mod:`zipfile` reads a central directory of whatever length that states."""
    try:
        with open(path, "rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - (1 << 16) - 22 - 20))
            tail = handle.read()
            at = tail.rfind(_END)
            if at < 0 or len(tail) - at < 22:
                raise damaged(path, "it has no end record: it is no zip, or the download was cut off")
            entries, directory = struct.unpack("<H", tail[at + 10 : at + 12])[0], tail[at + 12 : at + 16]
            length = struct.unpack("<I", directory)[0]
            if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR_64:
                handle.seek(struct.unpack("<Q", tail[at - 12 : at - 4])[0])
                record = handle.read(56)
                if len(record) == 56 and record[:4] == _END_64:
                    entries, length = struct.unpack("<QQ", record[32:48])
    except (OSError, struct.error, OverflowError, ValueError) as e:
        raise damaged(path, e) from e
    if entries > most_members or length > most_members * _MOST_ENTRY_BYTES or length > size:
        raise hostile(
            path, f"its end record promises {entries} members in {length} bytes; allowed: {most_members} members"
        )


def _check_member(path: Path, info: zipfile.ZipInfo, most_bytes: int) -> None:
    name = f"member {info.orig_filename[:80]!r}"
    if info.flag_bits & 0x1 or info.flag_bits & 0x40 or info.flag_bits & 0x2000:
        raise unsupported(path, f"{name} is encrypted", "unpack it with its password, then name the folder")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise hostile(path, f"{name} is a {'link' if stat.S_ISLNK(mode) else 'device, pipe or socket'}")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise unsupported(
            path, f"{name} is packed by method {info.compress_type}", "pack it again with Deflate, or unpack it"
        )
    size, packed = info.file_size, info.compress_size
    if size > most_bytes:
        raise hostile(path, f"{name} promises {size} bytes; at most {most_bytes} are read")
    stored = info.compress_type == zipfile.ZIP_STORED
    if (stored and size != packed) or size > _DEFLATE_RATIO * packed + 1024 or packed > path.stat().st_size:
        raise hostile(path, f"{name} promises {size} bytes out of {packed}, which cannot be")
    limit = _PICTURES_FROM if info.filename.lower().endswith(_PICTURES) else _RATIO_FROM
    if size > limit and size > _RATIO * packed:
        raise hostile(path, f"{name} promises {size} bytes out of {packed}; allowed: {_RATIO} : 1")


def _check_apart(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Members may not share bytes: that is how a small zip promises a large one (Fifield, 2019)."""
    ordered = sorted(infos, key=lambda i: i.header_offset)
    for first, second in itertools.pairwise(ordered):
        if first.header_offset + 30 + first.compress_size > second.header_offset:
            raise hostile(path, f"its members {first.filename[:80]!r} and {second.filename[:80]!r} share bytes")


def damaged(place: Path, why: object) -> DatasetError:
    text = f"{type(why).__name__}: {why}" if isinstance(why, BaseException) else str(why)
    return DatasetError(
        f"{place} cannot be read: {text[:200]}",
        hint="compare its size or checksum with the publisher's and download it again",
        code="archive.damaged",
    )


def hostile(path: Path, what: str) -> DatasetError:
    return DatasetError(
        f"{path} is not read: {what}",
        hint="nothing was unpacked; get it again from its publisher, or unpack it with a tool you trust and look",
        code="archive.hostile",
    )


def unsupported(path: Path, what: str, hint: str) -> DatasetError:
    return DatasetError(f"{path} cannot be used: {what}", hint=hint, code="archive.unsupported")
