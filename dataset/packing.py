"""Making the raw frames of stored samples smaller, losslessly: plain TIFF becomes Deflate TIFF of the same name.

A frame keeps its name and reads as before with every tool (``packed_tiff`` tells what was measured: a 12-bit Bayer frame of
39.9 MB becomes some 24 MB). A packed frame is decoded again from the disk and compared with the original, pixel by pixel,
before it takes its place; that happens in one journalled change a sample, so an interruption leaves it packed or not.

What is no frame (``recording.json``), is packed already, is float or would not become smaller is left alone. The hash that
``recording.json`` holds is that of the file as captured: the manifest keeps it under ``encodings``, and :func:`unpacked`
writes those very bytes again.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from rakelight.dataset import _map_kernels as kernels
from rakelight.dataset import images, layout
from rakelight.dataset.journal import Change, Step
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import read_intact
from rakelight.dataset.packed_tiff import write_packed_tiff
from rakelight.dataset.sample import FileRecord, SampleManifest
from rakelight.errors import DatasetError
from rakelight.files import json_bytes, make_folder, sha256_bytes, write_bytes

if TYPE_CHECKING:
    from rakelight.dataset.writer import DatasetWriter

PACKED = "packed_frames"  # in the manifest's encodings
_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Packing:
    """What packing a sample did: how many frames became smaller, and their bytes before and after."""

    key: SampleKey
    frames: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def saved(self) -> int:
        return self.bytes_before - self.bytes_after


def candidates(manifest: SampleManifest) -> tuple[FileRecord, ...]:
    """The raw files that may be frames not packed yet, as far as names and the manifest tell."""
    done = manifest.encodings.get(PACKED, {})
    named = (f for f in manifest.files if f.role == "raw" and f.path.lower().endswith(_SUFFIXES))
    return tuple(f for f in named if f.path.rsplit("/", 1)[-1] not in done)


def prepare(root: Path, staging: Path, manifest: SampleManifest) -> tuple[Change | None, Packing]:
    """Pack a sample's frames into ``staging`` and verify them; nothing of the sample has changed by then.

    Returns the change that puts them in place (None if there is nothing to gain) and what it does.

    Raises
    ------
    DatasetError
        A frame is not what was written, or cannot be read; ``dataset.packing_unequal`` if a packed frame does not decode to
        the same pixels.
    StorageError
        The disk is full or cannot be written.
    """
    key = manifest.key
    packed: dict[str, tuple[FileRecord, FileRecord]] = {}  # name → record before, after
    noted: dict[str, Any] = dict(manifest.encodings.get(PACKED, {}))
    for record in candidates(manifest):
        name = record.path.rsplit("/", 1)[-1]
        after = _pack(root, staging / name, record)
        noted[name] = {"sha256": record.sha256, "bytes": record.bytes}
        if after is not None:
            packed[name] = (record, after)
        else:
            noted[name] = None  # looked at, and left as it is
    if not noted.keys() - manifest.encodings.get(PACKED, {}).keys():
        return None, Packing(key)
    new = {before.path: after for before, after in packed.values()}
    files = tuple(new.get(f.path, f) for f in manifest.files)
    update = {"files": files, "encodings": {**manifest.encodings, PACKED: noted}}
    data = json_bytes(manifest.model_copy(update=update).model_dump(by_alias=True))
    write_bytes(make_folder(staging) / layout.SAMPLE_MANIFEST, data)
    inside = staging.relative_to(root).as_posix()
    steps: list[Step] = [(f"{inside}/{name}", before.path) for name, (before, _) in packed.items()]
    steps.append((f"{inside}/{layout.SAMPLE_MANIFEST}", f"{key.extras_folder}/{layout.SAMPLE_MANIFEST}"))
    change = Change(what=f"packing {key}", was=str(key), now=str(key), staging=inside, steps=tuple(steps))
    before_after = [(before.bytes, after.bytes) for before, after in packed.values()]
    return change, Packing(key, len(packed), sum(b for b, _ in before_after), sum(a for _, a in before_after))


def _pack(root: Path, target: Path, record: FileRecord) -> FileRecord | None:
    """The record of the packed frame in ``target``; None, and no file, if the frame is to stay as it is."""
    data = read_intact(root, record)
    if not _is_plain(data):
        return None
    frame = images.read_image(root / record.path, data=data)
    if frame.dtype == np.float32:
        return None
    size, sha256 = write_packed_tiff(target, frame, differences=frame.ndim == 3)
    if size >= record.bytes:
        target.unlink()
        return None
    again = images.read_image(target)
    if again.shape != frame.shape or again.dtype != frame.dtype or _differs(again, frame):
        raise DatasetError(
            f"{record.path}: the packed frame does not read as the original; the original was kept",
            hint="check the memory and the disk of this computer",
            code="dataset.packing_unequal",
        )
    return FileRecord(path=record.path, bytes=size, sha256=sha256, role="raw")


def _differs(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return bool(kernels.first_unequal(np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)) >= 0)


def _is_plain(data: bytes) -> bool:
    """Whether this is a TIFF of one uncompressed page without anything beside its pixels that packing would lose."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages.first
            return len(tiff.pages) == 1 and page.compression == 1 and page.photometric in (1, 2)
    except Exception:  # whatever a damaged header makes the library raise: what is no TIFF stays as it is
        return False


def unpacked(root: Path, manifest: SampleManifest, name: str) -> bytes:
    """The bytes of a packed frame's file as it was captured.

    Raises :class:`DatasetError` (``dataset.packing_foreign``) if the file was not written by rakelight's own TIFF writer: the
    pixels are all there, but the file around them was another one.
    """
    note = manifest.encodings.get(PACKED, {}).get(name)
    path = f"{manifest.key.extras_folder}/{layout.RAW_FILES_FOLDER}/{name}"
    record = next((f for f in manifest.files if f.path == path), None)
    if record is None:
        raise DatasetError(f"{manifest.key} has no raw file {name!r}", code="dataset.no_file")
    data = read_intact(root, record)
    if not isinstance(note, dict):
        return data
    plain = images.encode_tiff(images.read_image(root / path, data=data))
    if sha256_bytes(plain) != note.get("sha256"):
        raise DatasetError(
            f"{root / path} was not written by rakelight before it was packed, so its first bytes cannot be made again",
            hint="its pixels are unchanged: read the packed file",
            code="dataset.packing_foreign",
        )
    return plain


def pack_samples(writer: DatasetWriter, keys: Iterable[SampleKey]) -> Iterator[Packing | DatasetError]:
    """Pack sample after sample; a damaged one yields its error and stops nobody. May be stopped after any of them."""
    for key in keys:
        try:
            yield writer.pack(key)
        except DatasetError as e:
            yield e
