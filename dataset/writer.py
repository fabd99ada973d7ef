"""A data set on disk: created, opened, and written by one writer at a time, one whole sample after the other.

The protocol of a commit: every file is written and fsynced below ``.staging/<uuid>/``; the extras folder is renamed
into place; then the raw folder, and *that rename is the commit*. Whatever an interruption leaves behind is moved to
``.quarantine/`` with a reason when the next writer starts; nothing is ever deleted there.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import Field

from rakelight.config import Model, validate
from rakelight.dataset import index, layout
from rakelight.dataset.index import IndexReport, iter_keys
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import (
    CommittedSample,
    FileRecord,
    SampleContent,
    SampleInfo,
    Software,
    check_content,
    utc_now,
    write_sample_files,
)
from rakelight.errors import DatasetError, StorageError
from rakelight.files import make_folder, read_json, storage_error, write_json
from rakelight.folders import rename_folder

_log = logging.getLogger(__name__)
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}


class PsEncoding(Model):
    """How the 8-bit pseudo-3D picture encodes the unit normal n (viewer frame)."""

    formula: str = "uint8 round(127.5*(n+1))"
    red: str = "x, right"
    green: str = "y, up"
    blue: str = "z, towards the camera"


class XyzFrame(Model):
    """The frame of XYZ maps and point clouds."""

    unit: str = "mm"
    frame: str = "camera frame (OpenCV): x right, y down, z away from the camera"
    pixels: str = "aligned to the RGBL05 picture, pixel centres at integers"
    invalid: str = "NaN"


class DatasetInfo(Model):
    """``meta/dataset.json``."""

    schema_: int = Field(default=1, alias="schema")
    kind: Literal["rakelight-dataset"] = "rakelight-dataset"
    name: str = Field(min_length=1)
    description: str = ""
    license: str = ""
    created_utc: str
    software: Software = Software()
    ps_encoding: PsEncoding = PsEncoding()
    xyz_frame: XyzFrame = XyzFrame()


@dataclass(frozen=True)
class Quarantined:
    """One leftover moved away: the folder it is in now and where it came from, both relative to the data set."""

    folder: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """A data set in the released Real-IAD D³ layout. Reading needs no lock; writing goes through :meth:`writer`."""

    root: Path
    info: DatasetInfo

    @classmethod
    def init(cls, root: str | Path, name: str, description: str = "", license: str = "") -> Dataset:
        """Create an empty data set in a new or empty folder.

        Raises
        ------
        DatasetError
            ``dataset.exists`` if one is there, ``dataset.folder_not_empty`` if anything else is.
        StorageError
            The folder cannot be written.
        """
        root = Path(root).absolute()
        if (root / layout.DATASET_FILE).exists():
            raise DatasetError(
                f"{root} is a data set already", hint="open it, or choose another folder", code="dataset.exists"
            )
        data = {"name": name, "description": description, "license": license, "created_utc": utc_now()}
        info = validate(data, DatasetInfo, source="new data set", error=DatasetError)
        if any(make_folder(root).iterdir()):
            raise DatasetError(
                f"{root} is not empty and not a data set",
                hint="choose a new or empty folder",
                code="dataset.folder_not_empty",
            )
        for folder in layout.FOLDERS:
            make_folder(root / folder)
        write_json(root / layout.DATASET_FILE, info.model_dump(by_alias=True))  # last: it makes the folder a data set
        return cls(root, info)

    @classmethod
    def open(cls, root: str | Path) -> Dataset:
        """Open a data set for reading. Raises :class:`DatasetError` if there is none or a newer version wrote it."""
        root = Path(root).absolute()
        path = root / layout.DATASET_FILE
        if not path.is_file():
            raise DatasetError(
                f"{root} is not a data set: {layout.DATASET_FILE} is missing",
                hint="check the path, or create one with `rakelight dataset init`",
                code="dataset.not_a_dataset",
            )
        data = read_json(path, error=DatasetError)
        return cls(root, validate(data, DatasetInfo, source=str(path), error=DatasetError))

    @contextlib.contextmanager
    def writer(self) -> Iterator[DatasetWriter]:
        """Become the one writer: take the lock, put leftovers into quarantine, mend the caches.

        Raises
        ------
        DatasetError
            ``dataset.locked`` if another writer is at work (the message names its process and host),
            ``dataset.no_locks`` if the file system has no locks.
        StorageError
            The data set cannot be written.
        """
        with _writer_lock(self.root):
            writer = DatasetWriter(self.root)
            try:
                yield writer
            finally:
                writer.close()

    def categories(self) -> tuple[str, ...]:
        """The categories that have samples, in order."""
        return tuple(sorted({key.category for key in iter_keys(self.root / layout.RAW_FOLDER)}))

    def samples(self, category: str | None = None) -> Iterator[SampleInfo]:
        """Committed samples, read from the folders, in order of category, label and number."""
        for key in iter_keys(self.root / layout.RAW_FOLDER, category):
            yield index.read_sample(self.root, key)

    def verify_sample(self, info: SampleInfo) -> list[str]:
        """What is missing or changed in a sample's files, an empty list if nothing is; reads every byte."""
        return index.verify_sample(self.root, info)

    def index_problems(self) -> tuple[str, ...]:
        """How ``manifest.jsonl`` and the JSONs differ from the folders; the next writer mends it."""
        return index.survey(self.root).problems

    def rebuild_index(self) -> IndexReport:
        """Write ``manifest.jsonl`` and the JSONs anew from the folders, under the writer's lock."""
        with self.writer():
            return index.rebuild_index(self.root)


class DatasetWriter:
    """Commits samples; got from :meth:`Dataset.writer`, for one thread.

    Attributes
    ----------
    quarantined : tuple of Quarantined
        Leftovers of an interrupted writer that were moved away at the start.
    mended : tuple of str
        What was wrong with the caches at the start, before they were rebuilt.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.quarantined = _quarantine_leftovers(root)
        found = index.survey(root)
        self.mended = found.problems
        if found.problems:
            index.rebuild_index(root, found)
        self._last_numbers = dict(found.last_numbers)
        self._touched: set[str] = set()
        self._index_stale = False
        self._closed = False

    def commit(self, content: SampleContent) -> CommittedSample:
        """Store one sample; on return it is durable. After an error, what was committed before is as it was.

        Raises
        ------
        DatasetError, InputError
            The content cannot become a sample (see :func:`check_content`), or its class has 9,999 samples.
        StorageError
            The disk is full or cannot be written; nothing of the sample is visible (or, if only making the last
            rename durable failed, all of it).
        """
        if self._closed:
            raise DatasetError(
                "this writer is closed", hint="commit inside `with dataset.writer()`", code="dataset.writer_closed"
            )
        check_content(content)
        key = self._next_key(content.category, content.label)
        staging = self.root / layout.STAGING_FOLDER / uuid.uuid4().hex
        try:
            files = write_sample_files(content, key, staging)
            self._publish(key, staging, files)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # the caller still holds the content; a full disk gets its room
        return CommittedSample(key, self.root / key.raw_folder, self.root / key.extras_folder, files)

    def close(self) -> None:
        """Write the caches of what was committed. Called at the end of ``with dataset.writer()``."""
        if self._closed:
            return
        self._closed = True
        if self._index_stale:
            index.rebuild_index(self.root)
        elif self._touched:
            index.write_category_jsons(self.root, self._touched)
            index.write_last_numbers(self.root, self._last_numbers)

    def _next_key(self, category: str, label: str) -> SampleKey:
        class_folder = SampleKey(category, label, 0).class_folder
        number = self._last_numbers.get(class_folder, 0) + 1
        if number > layout.MAX_NUMBER:
            raise DatasetError(
                f"{class_folder} has used all numbers up to {layout.MAX_NUMBER}; loaders read four digits",
                hint="go on under another category name or in another data set",
                code="dataset.ids_exhausted",
            )
        return SampleKey(category, label, number)

    def _publish(self, key: SampleKey, staging: Path, files: tuple[FileRecord, ...]) -> None:
        """Rename extras, then raw (the commit), then add the sample to the cache."""
        raw, extras = self.root / key.raw_folder, self.root / key.extras_folder
        for folder in (raw, extras):
            make_folder(folder.parent)
        was_stale = self._index_stale
        self._index_stale = True  # until the cache has the sample; else close() rebuilds it
        self._last_numbers[key.class_folder] = key.number  # from here on the number is spent, whatever happens
        self._touched.add(key.category)
        try:
            rename_folder(staging / "extras", extras)
            rename_folder(staging / "raw", raw)
        except BaseException:
            if (staging / "raw").exists() and not (staging / "extras").exists():  # stopped between the two
                with contextlib.suppress(OSError):  # what cannot be taken back goes to quarantine at the next start
                    os.replace(extras, staging / "extras")
            raise
        if was_stale:
            return
        try:
            index.append_manifest(self.root, key, files)
            self._index_stale = False
        except StorageError as e:  # the sample is safe, so the commit must not fail: the cache is rebuilt later
            _log.warning("sample %s is committed, but manifest.jsonl could not be extended: %s", key, e.message)


@contextlib.contextmanager
def _writer_lock(root: Path) -> Iterator[None]:
    """Hold the lock that the system itself frees when a process dies; who holds it stands beside it."""
    path, owner = root / layout.LOCK_FILE, root / layout.OWNER_FILE
    lock = FileLock(path, timeout=0, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    try:
        lock.acquire()
    except Timeout as e:
        raise DatasetError(
            f"{root} is being written by {_owner_text(owner)}",
            hint="close the other writer and try again; the lock is freed when its process ends",
            code="dataset.locked",
        ) from e
    except OSError as e:
        if e.errno in _NO_LOCKS:
            raise DatasetError(
                f"{root} cannot be written: its file system has no locks that keep a second writer out ({e.strerror})",
                hint="move the data set to a local disk, or have the network drive mounted with file locks",
                code="dataset.no_locks",
            ) from e
        raise storage_error(e, path) from e
    try:
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since_utc": utc_now()})
        yield
    finally:
        with contextlib.suppress(OSError):  # a stale note does no harm: the lock decides
            owner.unlink(missing_ok=True)
        lock.release()


def _owner_text(owner: Path) -> str:
    try:
        note: Any = read_json(owner, error=DatasetError)
        return f"process {note['pid']} on {note['host']} since {note['since_utc']}"
    except (DatasetError, KeyError, TypeError):
        return "another process, which has not yet left its name"


def _quarantine_leftovers(root: Path) -> tuple[Quarantined, ...]:
    """Move away what an interrupted writer left; needs the lock."""
    leftovers: list[tuple[str, str]] = []
    staging = root / layout.STAGING_FOLDER
    if staging.is_dir():
        reason = "a commit was interrupted before its sample was whole"
        leftovers += [(f"{layout.STAGING_FOLDER}/{p.name}", reason) for p in sorted(staging.iterdir())]
    for key in iter_keys(root / layout.EXTRAS_FOLDER):
        if not (root / key.raw_folder).is_dir():
            reason = f"extras of {key} without the sample: its commit was interrupted, or its raw folder was removed"
            leftovers.append((key.extras_folder, reason))
    for folder in (layout.META_FOLDER, layout.JSON_FOLDER):
        reason = f"writing a file of {folder}/ was interrupted; the file itself is as it was"
        leftovers += [(f"{folder}/{p.name}", reason) for p in sorted((root / folder).glob(".*.partial-*"))]
    return tuple(_quarantine(root, origin, reason) for origin, reason in leftovers)


def _quarantine(root: Path, origin: str, reason: str) -> Quarantined:
    """Move ``origin`` below a new quarantine folder, where it keeps its path; the reason is written first."""
    now = datetime.now(UTC)
    folder = f"{layout.QUARANTINE_FOLDER}/{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    target = root / folder / origin
    make_folder(target.parent)
    note = {
        "schema": 1,
        "origin": origin,
        "reason": reason,
        "quarantined_utc": utc_now(),
        "software": Software().model_dump(),
    }
    write_json(root / folder / "reason.json", note)
    rename_folder(root / origin, target)
    return Quarantined(folder, origin, reason)
