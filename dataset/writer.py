"""A data set on disk: created, opened, and written by one writer at a time, one whole sample after the other.

The protocol of a commit: every file is written and fsynced below ``.staging/<uuid>/``; the extras folder is renamed
into place; then the raw folder, and *that rename is the commit*. Whatever an interruption leaves behind is moved to
``.quarantine/`` with a reason when the next writer starts; nothing is ever deleted there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.config import validate
from rakelight.dataset import defects, index, journal, layout, packing, revisions
from rakelight.dataset.index import IndexReport, iter_keys
from rakelight.dataset.info import DatasetInfo
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.lock import writer_lock
from rakelight.dataset.options import DatasetOptions
from rakelight.dataset.quarantine import quarantine_leftovers
from rakelight.dataset.sample import (
    CommittedSample,
    FileRecord,
    SampleContent,
    SampleInfo,
    utc_now,
)
from rakelight.dataset.staging import Staged, finish, new_staging, stage
from rakelight.errors import DatasetError, RakelightError, StorageError
from rakelight.files import make_folder, read_json, write_json
from rakelight.folders import rename_folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A data set in the released Real-IAD D³ layout. Reading needs no lock; writing goes through :meth:`writer`."""

    root: Path
    info: DatasetInfo

    @classmethod
    def init(
        cls,
        root: str | Path,
        name: str,
        description: str = "",
        license: str = "",
        options: DatasetOptions | None = None,
    ) -> Dataset:
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
        data["options"] = (options or DatasetOptions()).model_dump()  # type: ignore[assignment]
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
        with writer_lock(self.root):
            writer = DatasetWriter(self.root, self.info.options)
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

    def listed(self, category: str | None = None) -> tuple[SampleInfo, ...]:
        """All of :meth:`samples`, fast: from the index as far as it agrees with the folders, without their ``files``."""
        return index.listed(self.root, category)

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
    """Commits samples and changes committed ones; got from :meth:`Dataset.writer`, for one thread.

    Attributes
    ----------
    settled : str
        What was done with a change (relabelling, say) that an interrupted writer had begun; empty if there was none.
    quarantined : tuple of Quarantined
        Leftovers of an interrupted writer that were moved away at the start, or could not be (``folder`` is empty then).
    mended : tuple of str
        What was wrong with the caches at the start, before they were rebuilt.
    """

    def __init__(self, root: Path, options: DatasetOptions | None = None) -> None:
        self.root = root
        self.options = options or DatasetOptions()
        self._touched: set[str] = set()
        self._index_stale = False
        self.settled = journal.settle(root, self._note_change)  # first: it needs what is in .staging
        self.quarantined = quarantine_leftovers(root)
        found = index.survey(root)
        self.mended = found.problems
        if found.problems:
            index.mend_index(root, found)
            self._index_stale = False
        self._last_numbers = dict(found.last_numbers)
        self._closed = False

    def commit(self, content: SampleContent, *, number: int | None = None) -> CommittedSample:
        """Store one sample; on return it is durable. After an error, what was committed before is as it was.

        ``number`` as for :meth:`publish`.

        Raises
        ------
        DatasetError, InputError
            The content cannot become a sample (see :func:`stage`), or its class has 9,999 samples.
        StorageError
            The disk is full or cannot be written; nothing of the sample is visible (or, if only making the last
            rename durable failed, all of it).
        """
        self._check_open()
        self._next_key(content.category, content.label)  # a class without numbers left is told before the long work
        staged = stage(content, new_staging(self.root), self.options)
        return self.publish(staged, number=number)

    def publish(self, staged: Staged, *, number: int | None = None) -> CommittedSample:
        """Give a staged sample its number and make it part of the data set; it is durable on return.

        The number is the next of its class; or ``number``, the one it has elsewhere, if the class has given neither that
        nor a higher one yet. Whatever happens, the staged folder is used up: after an error the sample must be staged again.

        Raises
        ------
        DatasetError
            The staged files are not there as they were written; the class has 9,999 samples.
        StorageError
            As :meth:`commit`.
        """
        staging = self.root / layout.STAGING_FOLDER / staged.name
        try:
            self._check_open()
            key = self._next_key(layout.check_category(staged.draft.category), layout.check_label(staged.draft.label))
            if number is not None and key.number < number <= layout.MAX_NUMBER:
                key = replace(key, number=number)
            files = finish(staged, staging, key)
            self._publish(key, staging, files)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # the caller still holds the content; a full disk gets its room
        return CommittedSample(key, self.root / key.raw_folder, self.root / key.extras_folder, files)

    def relabel(self, key: SampleKey, label: str, *, by: str = "", reason: str = "") -> SampleKey:
        """Give a sample another label, OK or a defect; returns its new key. Its history says so for ever.

        All its files get new names; none is copied. The mask and the annotations of a sample that becomes OK are kept
        among its extras as ``former_<n>_…``, where no loader sees them.

        Raises
        ------
        DatasetError
            No such sample, a damaged one, the label it has already, or no number left in the new class.
        StorageError
            Before anything was changed; or the change is begun and written down, and the next writer finishes it.
        """
        with self._changing(key) as staging:
            if label == key.label:
                raise DatasetError(f"{key} is labelled {label} already", code="dataset.label_same")
            now = self._next_key(key.category, layout.check_label(label))
            manifest = index.read_intact_manifest(self.root, key)
            self._perform(revisions.relabel(self.root, staging, manifest, now, by=by, reason=reason))
        return now

    def replace(self, key: SampleKey, content: SampleContent) -> CommittedSample:
        """Put newly derived content in the place of a sample; its key stays, its revision counts up.

        What people made stays: annotations, label history and, if the content brings none, the mask. The old files go
        only after the new ones are durable and in place. Raises like :meth:`relabel` and :meth:`commit`.
        """
        if (content.category, content.label) != (key.category, key.label):
            raise DatasetError(
                f"content of {content.category}, {content.label} cannot replace {key}",
                hint="relabel the sample first",
                code="dataset.label_differs",
            )
        self._check_open()
        return self.replace_staged(key, stage(content, new_staging(self.root), self.options))

    def replace_staged(self, key: SampleKey, staged: Staged) -> CommittedSample:
        """:meth:`replace` by content that is staged already; whatever happens, the staged folder is used up."""
        with self._changing(key, self.root / layout.STAGING_FOLDER / staged.name) as staging:
            manifest = index.read_intact_manifest(self.root, key)
            finish(staged, staging, key)
            new = index.read_manifest(staging / "extras" / layout.SAMPLE_MANIFEST)
            self._perform(revisions.replace(self.root, staging, manifest, new))
        files = index.read_sample(self.root, key).files
        return CommittedSample(key, self.root / key.raw_folder, self.root / key.extras_folder, files)

    def annotate(
        self,
        key: SampleKey,
        annotation: dict[str, Any] | None,
        mask: NDArray[np.uint8] | None = None,
        classes: NDArray[np.uint8] | None = None,
    ) -> None:
        """Set a sample's annotation, defect mask and map of defect classes, all together or not at all.

        None takes away what there was. ``mask`` is (H, W) uint8 of 0 and 255 and ``classes`` (H, W) uint8 (0 none, 255
        ignore), both on the pixels of RGBL05. Raises like :meth:`relabel`.
        """
        with self._changing(key) as staging:
            manifest = index.read_intact_manifest(self.root, key)
            self._perform(revisions.annotate(self.root, staging, manifest, annotation, mask, classes))

    def pack(self, key: SampleKey) -> packing.Packing:
        """Make the raw frames of a sample smaller without loss; see :mod:`rakelight.dataset.packing`.

        Raises like :meth:`relabel`; a frame that is not what was written is a :class:`DatasetError`, and the sample stays.
        """
        with self._changing(key) as staging:
            change, done = packing.prepare(self.root, staging, index.read_intact_manifest(self.root, key))
            if change is not None:
                self._perform(change)
        return done

    def remove(self, key: SampleKey, reason: str) -> None:
        """Take a sample, perhaps a damaged one, out of the data set into the quarantine; its number is not given again.

        Raises like :meth:`relabel`.
        """
        with self._changing(key) as staging:
            self._perform(revisions.remove(self.root, staging, key, reason))

    @contextlib.contextmanager
    def _changing(self, key: SampleKey, staging: Path | None = None) -> Iterator[Path]:
        """A staging folder (``staging`` or a new one) for a change of ``key``; cleared away unless the journal needs it."""
        staging = staging or new_staging(self.root)
        try:
            self._check_open()
            journal.settle(self.root, self._note_change)
            if not (self.root / key.raw_folder).is_dir():
                raise DatasetError(
                    f"{self.root} has no sample {key}",
                    hint="`rakelight dataset show` lists them",
                    code="dataset.no_sample",
                )
            yield make_folder(staging)
        finally:
            if not (self.root / journal.JOURNAL_FILE).exists():
                shutil.rmtree(staging, ignore_errors=True)

    def _perform(self, change: journal.Change) -> None:
        self._touched.add(SampleKey.parse(change.was).category)
        if change.now is not None:
            now = SampleKey.parse(change.now)
            self._last_numbers[now.class_folder] = max(now.number, self._last_numbers.get(now.class_folder, 0))
        journal.perform(self.root, change, self._note_change)

    def _note_change(self, change: journal.Change) -> None:
        """The end of a change: tell ``manifest.jsonl``."""
        was = SampleKey.parse(change.was)
        self._touched.add(was.category)
        try:
            if change.now != change.was:
                index.append_removal(self.root, was)
            if change.now is not None:
                index.append_manifest(self.root, SampleKey.parse(change.now))
        except DatasetError as e:  # a damaged sample stays out of the cache; readers and verify tell it
            _log.warning("%s, but it is not listed: %s", change.what, e.message)
            self._index_stale = True

    def _check_open(self) -> None:
        if self._closed:
            raise DatasetError(
                "this writer is closed", hint="commit inside `with dataset.writer()`", code="dataset.writer_closed"
            )

    def close(self) -> None:
        """Write the caches of what was committed. Called at the end of ``with dataset.writer()``."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(RakelightError):  # what cannot be finished now stays written down for the next writer
            journal.settle(self.root, self._note_change)
        if self._index_stale:
            index.mend_index(self.root, index.survey(self.root))
        elif self._touched:
            index.write_caches(self.root, self._touched, self._last_numbers)
        if self._touched:
            self._keep_defects()

    def _keep_defects(self) -> None:
        """Give new defects their codes and numbers now, so that they are the same in every export to come."""
        found = (SampleKey.parse(f"{folder}/S0000").label for folder in self._last_numbers)
        try:
            defects.keep_defects(self.root, defects.stored_defects(self.root).with_names(found))
        except DatasetError as e:  # the samples are safe; whoever needs the table is told
            _log.warning("the table of defects stays as it is: %s", e.message)

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
            index.append_manifest(self.root, key)
            self._index_stale = False
        except (
            DatasetError,
            StorageError,
        ) as e:  # the sample is safe, so the commit must not fail: the cache is rebuilt later
            _log.warning("sample %s is committed, but manifest.jsonl could not be extended: %s", key, e.message)
