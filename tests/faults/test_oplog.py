"""The power fails at any instant: every file operation of a change is recorded, and after each of them a disk is made up.

What a disk holds after a power cut is what was fsynced, and of the rest anything: a file's unsynced bytes may be missing or
there in part, a new name may be lost or kept, and of several names a later one may be kept while an earlier one is lost.
After each prefix of the recorded operations, each of these disks is recovered as the next writer does it; what is then
there has to be the old state or the new one, whole, and the new one if the change had returned.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.dataset import journal
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset, DatasetWriter

TIME = "20251123021300"
OK1 = SampleKey("knob_cap", "OK", 1)
SCRATCH1 = SampleKey("knob_cap", "scratch", 1)


@dataclass(eq=False)
class File:
    """A file's bytes: what is on the disk for certain, and what was written since."""

    durable: bytes = b""
    written: bytes = b""


@dataclass(eq=False)
class Folder:
    """A folder's names: on the disk for certain, and as the program sees them."""

    entries: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] | None = None


Entry = File | Folder


@dataclass(eq=False)
class Naming:
    """One change of names, not durable until one of the two folders is fsynced. Moves ``entry`` (or None: removes it)."""

    source: tuple[Folder, str] | None
    target: tuple[Folder, str] | None
    entry: Entry

    def apply(self) -> None:
        if self.source and self.source[0].entries.get(self.source[1]) is self.entry:
            del self.source[0].entries[self.source[1]]
        if self.target:
            self.target[0].entries[self.target[1]] = self.entry


class Recorder:
    """Stands between the program and the real disk, and keeps the operations in their order."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.lock = root, threading.RLock()
        self.log: list[tuple[str, Any]] = []
        for name in ("mkdir", "rmdir", "unlink", "replace", "rename", "fsync", "link"):
            patch.setattr(os, name, self._wrap(name, getattr(os, name)))
        patch.setattr(builtins, "open", self._open(builtins.open))
        patch.setattr(io, "open", builtins.open)  # what pathlib calls

    def _name(self, path: Any, dir_fd: int | None = None) -> str | None:
        text = os.fsdecode(path)
        if dir_fd is not None:
            text = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text)
        text = os.path.abspath(text)
        inside = text.startswith(f"{self.root}/") and not text.endswith("/meta/.lock")
        return os.path.relpath(text, self.root) if inside else None

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **options: Any) -> Any:
            with self.lock:
                if name == "fsync":
                    path = os.readlink(f"/proc/self/fd/{first}")
                    if path == str(self.root) or self._name(path):
                        relative = os.path.relpath(path, self.root)
                        content = None if os.path.isdir(path) else Path(path).read_bytes()
                        self.log.append(("fsync", (relative, content)))
                    return None  # the tests need no real one
                done = real(first, *rest, **options)
                one = self._name(first, options.get("dir_fd"))
                if one is not None:
                    two = self._name(rest[0]) if name in ("replace", "rename", "link") else None
                    self.log.append((name, (one, two)))
                return done

        return call

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            with self.lock:
                path = self._name(file) if not isinstance(file, int) else None
                new = path is not None and set(mode) & set("wxa") and not os.path.exists(file)
                assert not (path and "w" in mode and not new), f"{path} is overwritten in place"
                handle = real(file, mode, *rest, **options)
                if new:
                    self.log.append(("create", (path, None)))
                return handle

        return call


def load(folder: Path) -> Folder:
    made = Folder()
    for path in folder.iterdir():
        if path.is_dir():
            made.entries[path.name] = load(path)
        else:
            data = path.read_bytes()
            made.entries[path.name] = File(data, data)
    return made


class Model:
    """The disk as it is for certain, and what is under way: played forward one operation after the other."""

    def __init__(self, start: Path) -> None:
        self.durable = load(start)  # only names that are durable stand in its folders
        self.pending: list[Naming] = []

    def _now(self, folder: Folder) -> dict[str, Entry]:
        if folder.now is None:
            folder.now = dict(folder.entries)
        return folder.now

    def _find(self, path: str) -> tuple[Folder, str]:
        *parents, name = [p for p in path.split("/") if p != "."] or [""]
        folder = self.durable
        for part in parents:
            found = self._now(folder)[part]
            assert isinstance(found, Folder)
            folder = found
        return folder, name

    def _entry(self, path: str) -> Entry:
        folder, name = self._find(path)
        return self._now(folder)[name] if name else folder

    def find(self, path: str) -> Entry | None:
        try:
            return self._entry(path)
        except (KeyError, AssertionError):  # not made yet, or moved away
            return None

    def play(self, operation: str, arguments: tuple[str, Any]) -> None:
        one, two = arguments
        if operation == "fsync":
            entry = self._entry(one)
            if isinstance(entry, File):
                entry.durable = entry.written = two
            else:
                self._sync(entry)
            return
        at = self._find(one)
        if operation in ("create", "mkdir"):
            entry = File() if operation == "create" else Folder()
            self._now(at[0])[at[1]] = entry
            self.pending.append(Naming(None, at, entry))
        elif operation in ("unlink", "rmdir"):
            self.pending.append(Naming(at, None, self._now(at[0]).pop(at[1])))
        elif operation == "link":
            to = self._find(two)
            self._now(to[0])[to[1]] = self._now(at[0])[at[1]]
            self.pending.append(Naming(None, to, self._now(at[0])[at[1]]))
        else:
            to, entry = self._find(two), self._now(at[0]).pop(at[1])
            self._now(to[0])[to[1]] = entry
            self.pending.append(Naming(at, to, entry))

    def _sync(self, folder: Folder) -> None:
        """The names of this folder are durable: its changes happen on the disk, in order; others stay open."""
        for naming in [n for n in self.pending if (n.target or n.source or (None,))[0] is folder]:
            naming.apply()
            self.pending.remove(naming)

    def disks(self, upcoming: dict[int, bytes]) -> Iterator[dict[str, bytes | None]]:
        """Every disk that a power cut may leave: path → content, None for a folder.

        ``upcoming`` tells for a file what its next fsync will find, that is what may be written by now.
        """
        n = len(self.pending)
        kept = {frozenset(range(n)), frozenset()}
        kept |= {frozenset(range(n)) - {lost} for lost in range(n)} | {frozenset({only}) for only in range(n)}
        kept |= {frozenset(range(first)) for first in range(n)}
        for names in kept:
            undo = self._keep(names)
            for share in (0.0, 0.5, 1.0):  # of what was written since the last fsync

                def content(file: File, share: float = share) -> bytes:
                    more = upcoming.get(id(file), file.written)
                    if not more.startswith(file.durable):
                        return file.durable
                    return more[: len(file.durable) + int(share * (len(more) - len(file.durable)))]

                yield dict(_flat(self.durable, "", content))
            undo()

    def _keep(self, names: frozenset[int]) -> Callable[[], None]:
        touched = {id(f): f for n in self.pending for f in (n.source and n.source[0], n.target and n.target[0]) if f}
        before = {i: dict(f.entries) for i, f in touched.items()}
        for number in sorted(names):
            self.pending[number].apply()

        def undo() -> None:
            for i, folder in touched.items():
                folder.entries = before[i]

        return undo


def _flat(folder: Folder, prefix: str, content: Callable[[File], bytes]) -> Iterator[tuple[str, bytes | None]]:
    for name, entry in folder.entries.items():
        path = f"{prefix}{name}"
        if isinstance(entry, File):
            yield path, content(entry)
        else:
            yield path, None
            yield from _flat(entry, f"{path}/", content)


def write_disk(disk: dict[str, bytes | None], folder: Path) -> None:
    folder.mkdir(parents=True)
    for path, content in sorted(disk.items()):
        if content is None:
            (folder / path).mkdir(exist_ok=True)
        else:
            (folder / path).write_bytes(content)


def content(label: str, seed: int, mask: bool = False) -> SampleContent:
    picture = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    drawn = np.zeros((8, 12), np.uint8)
    drawn[2:4, 3:6] = 255
    return SampleContent("knob_cap", label, TIME, {5: picture}, mask=drawn if mask else None, capture={"seed": seed})


def drawn_mask(row: int) -> np.ndarray:
    mask = np.zeros((8, 12), np.uint8)
    mask[row, 2:9] = 255
    return mask


CHANGES: dict[str, Callable[[DatasetWriter], Any]] = {
    "commit": lambda w: w.commit(content("OK", 9)),
    "relabel": lambda w: w.relabel(SCRATCH1, "OK", by="Ada"),
    "relabel_defect": lambda w: w.relabel(SCRATCH1, "dent"),
    "replace": lambda w: w.replace(SCRATCH1, content("scratch", 7)),
    "annotate": lambda w: w.annotate(SCRATCH1, {"n": 2}, drawn_mask(5), drawn_mask(5) // 255),
    "remove": lambda w: w.remove(SCRATCH1, "x"),
}


def state(root: Path) -> dict[str, dict[str, str]]:
    """Each sample by its key: its files with their hashes (manifests hold times, so they stand for themselves)."""
    return {
        str(i.key): {f.path: f.sha256 for f in i.files if f.role != "manifest"} for i in Dataset.open(root).samples()
    }


def recovered(root: Path) -> dict[str, dict[str, str]]:
    dataset = Dataset.open(root)
    with dataset.writer():
        pass
    infos = list(dataset.samples())
    assert [p for i in infos for p in dataset.verify_sample(i)] == []
    assert dataset.index_problems() == ()
    assert not (root / journal.JOURNAL_FILE).exists()
    return state(root)


def record(start: Path, change: Callable[[DatasetWriter], Any]) -> list[tuple[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(start, patch)
        with Dataset.open(start).writer() as writer:
            change(writer)
            recorder.log.append(("returned", ("", None)))
    return recorder.log


def played(log: list[tuple[str, Any]], start: Path) -> Iterator[tuple[int, Model, dict[int, bytes]]]:
    """The model after each operation, and for each file that is to be fsynced under its present name what that will find."""
    model = Model(start)
    for number, (operation, arguments) in enumerate(log):
        if operation != "returned":
            model.play(operation, arguments)
        upcoming: dict[int, bytes] = {}
        for later, (path, data) in log[number + 1 :]:
            if later == "fsync" and data is not None and (entry := model.find(path)) is not None:
                upcoming.setdefault(id(entry), data)
        yield number, model, upcoming


SLOW = ("relabel_defect", "annotate", "remove")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CHANGES])
def test_power_cut_after_every_operation_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start = tmp_path / "start"
    dataset = Dataset.init(start, "x")
    with dataset.writer() as writer:
        writer.commit(content("OK", 1))
        writer.commit(content("scratch", 2, mask=True))
        writer.annotate(SCRATCH1, {"n": 1}, drawn_mask(2))
    old = state(start)
    before = tmp_path / "before"
    write_disk(dict(_flat(load(start), "", lambda f: f.durable)), before)
    log = record(start, CHANGES[name])
    new = state(start)
    assert old != new
    assert sum(operation == "fsync" for operation, _ in log) > 10
    monkeypatch.setattr(os, "fsync", lambda _: None)
    tried: set[str] = set()
    outcomes: set[bool] = set()
    returned = False
    for number, model, upcoming in played(log, before):
        returned |= log[number][0] == "returned"
        for disk in model.disks(upcoming):
            digest = hashlib.sha256(repr((returned, sorted(disk.items()))).encode()).hexdigest()
            if digest in tried:
                continue
            tried.add(digest)
            folder = tmp_path / f"disk-{len(tried)}"
            write_disk(disk, folder)
            found = recovered(folder)
            where = f"after {number}: {log[number][0]} {log[number][1][0]} ({folder})"
            assert found == new or (found == old and not returned), where
            outcomes.add(found == new)
    assert outcomes == {True, False}
    assert len(tried) > 10
