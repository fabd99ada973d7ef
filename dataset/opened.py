"""A committed sample, opened for reading: every modality as an array, each file checked against its hash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images, index, journal, layout
from rakelight.dataset.encoded_maps import albedo_scale, decode_albedo, decode_normals
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import FileRecord, SampleManifest
from rakelight.errors import DatasetError
from rakelight.files import sha256_bytes

_CHANGE_S = 0.1  # a writer's renames of one sample take less


@dataclass(frozen=True)
class OpenSample:
    """One sample of the data set in ``root``; files are read when asked for.

    Attributes
    ----------
    root : Path
        The data set.
    key : SampleKey
    """

    root: Path
    key: SampleKey

    @cached_property
    def manifest(self) -> SampleManifest:
        """Raises :class:`DatasetError` if it is damaged or missing, of another sample, or names files outside.

        ``dataset.no_sample``: nothing of the sample is there. Since a writer may just be replacing it, it is read twice
        before that is said.
        """
        try:
            return self._manifest_now()
        except DatasetError:
            _wait_for_writer(self.root)
            return self._manifest_now()

    def _manifest_now(self) -> SampleManifest:
        """The manifest as it is on disk."""
        if not any((self.root / f).is_dir() for f in (self.key.extras_folder, self.key.raw_folder)):
            raise DatasetError(
                f"{self.root} has no sample {self.key}",
                hint="`rakelight dataset show` lists them",
                code="dataset.no_sample",
            )
        path = self.root / self.key.extras_folder / layout.SAMPLE_MANIFEST
        try:
            found = index.read_manifest(path)
        except DatasetError as error:
            if error.code != "file.missing":
                raise
            raise DatasetError(
                f"{self.key}: its manifest is gone: {path} does not exist",
                hint="restore it from a backup, or set the sample aside with `rakelight dataset repair --quarantine`",
                code=error.code,
            ) from error
        if problem := index.misplaced(found, self.key):
            raise DatasetError(f"{self.key}: {problem}", hint="run `rakelight dataset verify`", code="dataset.damaged")
        return found

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of ``layout.MODALITIES`` that the sample has, in their order."""
        present = {f.role for f in self.manifest.files}
        return tuple(m for m in layout.MODALITIES if m in present)

    def record(self, role: str) -> FileRecord | None:
        """The file of a modality (``"XYZ"``), or of a name in the extras (``"normals.tiff"``); None if there is none."""
        name = f"{self.key.extras_folder}/{role}"
        return next((f for f in self.manifest.files if f.role == role or f.path == name), None)

    def path(self, role: str) -> Path | None:
        """Where :meth:`record` is on disk."""
        record = self.record(role)
        return None if record is None else self.root / record.path

    def read(self, role: str) -> bytes | None:
        """The content of :meth:`record`; raises :class:`DatasetError` (``dataset.damaged``) if it is not what was written.

        Since a writer may have changed the sample after its manifest was read, both are read again, once, before that is
        said.
        """
        record = self.record(role)
        if record is None:
            return None
        try:
            return read_intact(self.root, record)
        except DatasetError as fault:
            _wait_for_writer(self.root)
            try:
                self.__dict__["manifest"] = self._manifest_now()  # where cached_property keeps it
            except DatasetError:
                raise fault from None  # which came first
        record = self.record(role)
        return None if record is None else read_intact(self.root, record)

    def image(self, role: str) -> NDArray[np.generic] | None:
        """An image of the sample as :func:`images.read_image` gives it, None if it has none."""
        data = self.read(role)
        record = self.record(role)
        return None if data is None or record is None else images.read_image(self.root / record.path, data=data)

    def rgb(self, view: int = layout.REFERENCE_VIEW) -> NDArray[np.uint8] | None:
        """(H, W, 3) uint8. A lossless original among the extras (of imported samples) goes before the JPEG."""
        name = f"RGBL{view:02d}"
        found = self.image(f"{name}.png")
        return np.asarray(self.image(name) if found is None else found, np.uint8) if self.record(name) else None

    def ps(self) -> NDArray[np.uint8] | None:
        """The pseudo-3D picture, (h, w, 3) uint8."""
        found = self.image("PS.png")
        found = self.image("PS") if found is None else found
        return None if found is None else np.asarray(found, np.uint8)

    def xyz(self) -> NDArray[np.float32] | None:
        """(H, W, 3) float32, mm, camera frame, NaN invalid; what x and y hold stands in ``manifest.xyz_xy``."""
        found = self.image("XYZ")
        return None if found is None else np.asarray(found, np.float32)

    def normals(self) -> NDArray[np.float32] | None:
        """(H, W, 3) float32 unit vectors, viewer frame, NaN where not known or beyond the part and its margin."""
        found = self.image("normals.tiff")
        if found is None or found.dtype == np.float32:  # as earlier samples have it
            return None if found is None else np.asarray(found, np.float32)
        return decode_normals(np.asarray(found, np.uint16))

    def albedo(self) -> NDArray[np.float32] | None:
        """(H, W) or (H, W, 3) float32, NaN where not known or beyond the part and its margin."""
        found = self.image("albedo.tiff")
        if found is None or found.dtype == np.float32:
            return None if found is None else np.asarray(found, np.float32)
        return decode_albedo(np.asarray(found, np.uint16), albedo_scale(self.manifest.encodings, str(self.key)))

    def mask(self) -> NDArray[np.uint8] | None:
        """The defect mask, (H, W) uint8 of 0 and 255."""
        found = self.image("MASK")
        return None if found is None else np.asarray(found, np.uint8)

    def part_mask(self) -> NDArray[np.bool_] | None:
        """Where the part is, (H, W) bool."""
        found = self.image(layout.PART_MASK_FILE)
        return None if found is None else np.asarray(found) > 0


def _wait_for_writer(root: Path) -> None:
    """Give a writer that is between the renames of a change the time to end it."""
    if (root / journal.JOURNAL_FILE).exists():
        time.sleep(_CHANGE_S)


def read_intact(root: Path, record: FileRecord) -> bytes:
    """The content of a stored file; raises :class:`DatasetError` (``dataset.damaged``) if it is not what was written."""
    data = images.read_file(root / record.path)
    if len(data) != record.bytes or sha256_bytes(data) != record.sha256:
        raise DatasetError(
            f"{root / record.path} is not what was written: {len(data)} of {record.bytes} bytes, other SHA-256",
            hint="restore it from a backup, or derive the sample again with `rakelight dataset rebuild --force --sample …`",
            code="dataset.damaged",
        )
    return data


def open_samples(root: Path, category: str | None = None) -> Iterator[OpenSample]:
    """Every committed sample, in order of category, label and number."""
    for key in index.iter_keys(root / layout.RAW_FOLDER, category):
        yield OpenSample(root, key)
