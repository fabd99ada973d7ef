"""Changes of several renames that end whole: written down durably first, then done, and finished after any interruption.

A change is a list of renames inside the data set. ``meta/journal.json`` holds it, fsynced, before the first rename; each
rename is made durable before the next one; the journal goes last. Doing the list again after any part of it was done ends
in the same place: a step whose source is gone was done, and so was one whose target is a folder already (the source has
been filled again since). So the next writer brings an interrupted change to its end; where the files it needs are gone, it
takes the change back instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import Field, field_validator

from rakelight.config import Model, validate
from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import utc_now
from rakelight.errors import DatasetError, StorageError
from rakelight.files import fsync_folder, make_folder, read_json, replace, told, write_json

JOURNAL_FILE = "meta/journal.json"
_TREES = (layout.RAW_FOLDER, layout.EXTRAS_FOLDER, layout.STAGING_FOLDER, layout.QUARANTINE_FOLDER)

Step = tuple[str, str]


class Change(Model):
    """What ``meta/journal.json`` holds: renames ``(source, target)`` relative to the data set, in their order.

    ``was`` and ``now`` are the sample's key before and after; ``now`` is None if it is taken out. A step may rename a file
    onto another one, which it replaces, but never a folder onto one that is there.
    """

    schema_: int = Field(default=1, alias="schema")
    what: str
    utc: str = Field(default_factory=utc_now)
    was: str
    now: str | None
    staging: str
    steps: tuple[Step, ...] = Field(min_length=1)

    @field_validator("was", "now")
    @classmethod
    def _is_key(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                SampleKey.parse(value)
            except DatasetError as e:
                raise ValueError(e.message) from e
        return value

    @field_validator("steps")
    @classmethod
    def _stays_inside(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        for path in (path for step in steps for path in step):
            parts = path.split("/")
            if parts[0] not in _TREES or len(parts) < 2 or not all(p.strip(".") for p in parts) or "\\" in path:
                raise ValueError(f"{path!r} is no place inside the data set's trees")
        return steps

    @field_validator("staging")
    @classmethod
    def _is_staging(cls, value: str) -> str:
        if not re.fullmatch(re.escape(layout.STAGING_FOLDER) + "/[A-Za-z0-9_-]{1,64}", value):
            raise ValueError(f"{value!r} is no folder of {layout.STAGING_FOLDER}/")
        return value


def pending(root: Path) -> Change | None:
    """The change that was begun and not finished; raises :class:`DatasetError` if the journal is damaged."""
    path = root / JOURNAL_FILE
    if not path.exists():
        return None
    hint = "`rakelight dataset repair --quarantine` sets it aside; its sample may then need a person's look"
    try:
        return validate(read_json(path, error=DatasetError), Change, source=str(path), error=DatasetError, hint=hint)
    except DatasetError as e:
        raise DatasetError(e.message, hint=hint, code="dataset.journal_damaged") from e


def perform(root: Path, change: Change, then: Callable[[Change], None]) -> None:
    """Carry out ``change``; ``then`` (which may be called again after an interruption) ends it before the journal goes.

    Raises
    ------
    StorageError
        Before the first rename, and nothing has changed; or later, and the change is finished by the next writer.
    DatasetError
        ``dataset.journal_pending`` if another change has to be finished first.
    """
    if (root / JOURNAL_FILE).exists():
        raise DatasetError(
            f"{root} has a change that is not finished yet",
            hint="open the writer again: it finishes that change first",
            code="dataset.journal_pending",
        )
    _refuse_taken(root, change)
    write_json(root / JOURNAL_FILE, change.model_dump(mode="json", by_alias=True))
    try:
        _finish(root, change, then)
    except StorageError as e:
        hint = f"{e.hint}; the change is written down and is finished when the data set is next written"
        raise StorageError(f"{change.what}: {e.message}", hint=hint, code=e.code) from e


def settle(root: Path, then: Callable[[Change], None]) -> str:
    """Finish or take back what was interrupted; returns what was done as a sentence, empty if nothing was pending.

    Raises
    ------
    DatasetError
        ``dataset.journal_stuck`` if files of both the old and the new state are gone, ``dataset.journal_damaged``.
    StorageError
        The disk refuses; nothing is lost, and the next call tries again.
    """
    change = pending(root)
    if change is None:
        return ""
    if _can_finish(root, change):
        _finish(root, change, then)
        shutil.rmtree(root / change.staging, ignore_errors=True)  # what it replaced; the new state is durable
        return f"interrupted change finished: {change.what}"
    _take_back(root, change)
    _close(root)
    return f"interrupted change taken back, since what it needed is gone: {change.what}"


def stuck(root: Path) -> str:
    """Why the pending change can be neither finished nor taken back; empty if it can, or if there is none.

    Raises :class:`DatasetError` if the journal is damaged.
    """
    change = pending(root)
    if change is None or _can_finish(root, change) or not (missing := _missing_old(root, change)):
        return ""
    return f"{change.what} can be neither finished nor taken back: {missing} is gone"


def _finish(root: Path, change: Change, then: Callable[[Change], None]) -> None:
    _rename_all(root, change.steps)
    _tidy(root, SampleKey.parse(change.was))
    then(change)
    _close(root)


def _close(root: Path) -> None:
    with told(root / JOURNAL_FILE):
        (root / JOURNAL_FILE).unlink(missing_ok=True)
        fsync_folder((root / JOURNAL_FILE).parent)


def _rename_all(root: Path, steps: Iterable[Step]) -> None:
    """Do what is not done yet. Renames of files within the same two folders are made durable together."""
    unsynced: set[Path] = set()
    for source, target in ((root / s, root / t) for s, t in steps):
        if not os.path.lexists(source) or target.is_dir():
            continue
        parents = {source.parent, target.parent}
        if source.is_dir() or not unsynced <= parents:
            _sync(unsynced)
        make_folder(target.parent)
        with told(target):
            replace(source, target)
        unsynced |= parents
        if target.is_dir():
            _sync(unsynced)
    _sync(unsynced)


def _sync(folders: set[Path]) -> None:
    for folder in sorted(folders):
        with told(folder):
            fsync_folder(folder)
    folders.clear()


def _refuse_taken(root: Path, change: Change) -> None:
    """Before anything is done: every source is there, and no folder lands on one that is there."""
    for number, (source, target) in enumerate(change.steps):
        done = change.steps[:number]
        if (real := _real(root, done, source)) is None:
            raise DatasetError(
                f"{change.what}: {source} is missing", hint="run `rakelight dataset verify`", code="dataset.damaged"
            )
        if real.is_dir() and _real(root, done, target) is not None:
            raise StorageError(
                f"{change.what}: {root / target} exists already", hint="nothing was changed", code="storage.exists"
            )


def _can_finish(root: Path, change: Change) -> bool:
    """Whether the steps not done yet lead to the end: everything that they should have put somewhere is there."""
    done: list[Step] = []
    for source, target in change.steps:
        real = _real(root, done, source)
        taken = _real(root, done, target)
        if real is not None and not (taken is not None and taken.is_dir()):
            done.append((source, target))
    ends = [_followed(target, change.steps[n + 1 :]) for n, (_, target) in enumerate(change.steps)]
    return all(_real(root, done, end) is not None for end in ends)


def _followed(path: str, steps: Iterable[Step]) -> str:
    """Where ``steps`` carry what lies at ``path``, perhaps with a folder above it."""
    for source, target in steps:
        if path == source or path.startswith(f"{source}/"):
            path = target + path[len(source) :]
    return path


def _real(root: Path, done: Iterable[Step], path: str) -> Path | None:
    """Where ``path`` would be now if the renames ``done`` are thought of as done; None if nothing would be there."""
    for source, target in reversed(list(done)):
        if path == target or path.startswith(f"{target}/"):
            path = source + path[len(target) :]
        elif path == source or path.startswith(f"{source}/"):
            return None
    return root / path if os.path.lexists(root / path) else None


def _take_back(root: Path, change: Change) -> None:
    if missing := _missing_old(root, change):
        raise DatasetError(
            f"{root / JOURNAL_FILE}: {change.what} can be neither finished nor taken back: {missing} is gone",
            hint="restore the data set from a backup, or let `rakelight dataset repair --quarantine` set it aside",
            code="dataset.journal_stuck",
        )
    _rename_all(root, _backwards(root, change))


def _backwards(root: Path, change: Change) -> list[Step]:
    """The renames that bring the old files home; new ones stay in their staging folder."""
    done: list[Step] = []
    for number, (source, target) in reversed(list(enumerate(change.steps))):
        origin = _followed(source, [(t, s) for s, t in reversed(change.steps[:number])])
        if origin.startswith(f"{change.staging}/"):
            continue
        if _real(root, done, target) is not None and _real(root, done, source) is None:
            done.append((target, source))
    return done


def _missing_old(root: Path, change: Change) -> str:
    was, back = SampleKey.parse(change.was), _backwards(root, change)
    folders = (was.raw_folder, was.extras_folder)
    return next((folder for folder in folders if _real(root, back, folder) is None), "")


def _tidy(root: Path, was: SampleKey) -> None:
    """Remove the class folders that the sample leaves empty: loaders would take them for classes."""
    for tree in (layout.RAW_FOLDER, layout.EXTRAS_FOLDER):
        folder = (root / tree / str(was)).parent
        while folder != root / tree:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone already: both are well
                break
            folder = folder.parent
