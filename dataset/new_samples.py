"""Samples that another process commits, noticed soon and cheaply, without opening the data set anew each time.

A commit is a rename into the sample's class folder, after which ``manifest.jsonl`` is longer. So a look asks the file system
for the times of the class folders and the size of that file, a few calls; only where one of them differs are the names in
the folders listed, and only of new samples the manifests read. Where a file system shows changes late or in steps (FAT,
network shares), one listing every few seconds finds what these signs did not tell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from rakelight.dataset import index, layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.errors import DatasetError

_LISTED_AT_LEAST_S = 5.0


class NewSamples:
    """Tells samples of a category that were not there at the look before.

    Parameters
    ----------
    root : Path
        The data set.
    category : str
    known : bool
        Whether samples that are there already count as seen; else the first look gives them all.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, root: Path, category: str, *, known: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root, self._category, self._clock = root, category, clock
        self._seen: set[SampleKey] = set()
        self._signs: tuple[object, ...] = ()
        self._listed = -_LISTED_AT_LEAST_S
        self.listings = 0  # how often names were listed
        self._first = True
        if known:
            self.look()

    def look(self) -> list[SampleKey]:
        """New samples, in the order of their commits (to the second; then by key); at the first look by key.

        A sample that was relabelled has a new key, but is not new. One whose manifest cannot be read is told all the same:
        whoever opens it learns why. Raises :class:`DatasetError` (``dataset.gone``) if the data set is no longer there.
        """
        now = self._clock()
        signs = self._look_at_signs()  # before the listing: what comes in between changes them again
        if signs == self._signs and now - self._listed < _LISTED_AT_LEAST_S:
            return []
        self._signs, self._listed = signs, now
        self.listings += 1
        found = [k for k in index.iter_keys(self._root / layout.RAW_FOLDER, self._category) if k not in self._seen]
        self._seen.update(found)
        if self._first:  # perhaps thousands: no manifest is read
            self._first = False
            return found
        told = [(self._committed(key), key) for key in found]
        return [key for _, key in sorted((utc, key) for utc, key in told if utc is not None)]

    def _committed(self, key: SampleKey) -> str | None:
        """When it was committed; None of a sample that was seen under an earlier label."""
        try:
            manifest = OpenSample(self._root, key).manifest
        except DatasetError:
            return ""
        earlier = {change.was for change in manifest.labels}
        known = earlier and any(str(seen) in earlier for seen in self._seen)
        return None if known else manifest.committed_utc

    def _look_at_signs(self) -> tuple[object, ...]:
        folder = self._root / layout.RAW_FOLDER / self._category
        defects = folder / layout.NG_FOLDER
        signs: list[object] = [_changed(folder), _changed(folder / layout.OK), _changed(defects)]
        try:
            with os.scandir(defects) as entries:
                signs += sorted((entry.name, _changed(Path(entry.path))) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            pass  # no defective part yet
        except OSError as error:
            signs.append(error.errno)
        manifest = self._root / layout.MANIFEST_FILE
        try:
            descriptor = os.open(manifest, os.O_RDONLY)  # opened, since network file systems then ask the server
        except OSError:
            if not (self._root / layout.DATASET_FILE).exists():
                raise DatasetError(
                    f"{self._root} is no longer there, or no longer a data set",
                    hint="check the disk or the network share, then start again",
                    code="dataset.gone",
                ) from None
            return (*signs, None)
        try:
            told = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return (*signs, told.st_size, told.st_mtime_ns, told.st_ino)


def _changed(folder: Path) -> int | None:
    """When names in a folder last changed, in the file system's own nanoseconds; None without it."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
