"""One file of a sample that is being staged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images
from rakelight.dataset.sample import FileRecord
from rakelight.errors import DatasetError
from rakelight.files import atomic_write, sha256_bytes, write_bytes

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class StagedFile:
    """Where one file goes, what its record will say, and the ways to write it: hashed, fsynced, whole or not at all."""

    folder: Path
    path: str
    role: str

    @property
    def file(self) -> Path:
        return self.folder / self.path

    def written(self, size: int, sha256: str) -> FileRecord:
        return FileRecord(path=self.path, bytes=size, sha256=sha256, role=self.role)

    def bytes(self, data: bytes | memoryview) -> FileRecord:
        write_bytes(self.file, data)
        return self.written(len(data), sha256_bytes(data))

    def jpeg(self, picture: NDArray[np.uint8]) -> FileRecord:
        return self.bytes(images.encode_jpeg(picture))

    def png(self, image: NDArray[Any]) -> FileRecord:
        return self.bytes(images.encode_png(image))

    def tiff(self, array: NDArray[Any]) -> FileRecord:
        return self.written(*images.write_tiff(self.file, array))

    def copy(self, source: Path, expected_sha256: str = "") -> FileRecord:
        digest, size = hashlib.sha256(), 0
        with atomic_write(self.file) as handle:
            for chunk in _chunks(source):
                handle.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            if expected_sha256 and digest.hexdigest() != expected_sha256.lower():
                raise DatasetError(
                    f"raw file {source} has SHA-256 {digest.hexdigest()}; expected {expected_sha256}",
                    hint="the recording was changed or damaged; capture the part again",
                    code="dataset.raw_mismatch",
                )
        return self.written(size, digest.hexdigest())


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with open(source, "rb") as handle:
            while chunk := handle.read(_CHUNK_BYTES):
                yield chunk
    except OSError as e:
        raise DatasetError(
            f"raw file {source} cannot be read: {e.strerror or e}",
            hint="check the recording it belongs to",
            code="dataset.raw_unreadable",
        ) from e
