"""Mending a data set, and lifting it to the present schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rakelight.dataset import index, journal, layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.lock import writer_lock
from rakelight.dataset.quarantine import quarantine
from rakelight.dataset.sample import MANIFEST_SCHEMA, FileRecord
from rakelight.dataset.verify import Problem, damaged_samples
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError
from rakelight.files import json_bytes, read_json, sha256_bytes, write_bytes


@dataclass(frozen=True)
class RepairReport:
    """What :func:`repair` did, and what is left for a person, both as sentences."""

    done: tuple[str, ...]
    left: tuple[Problem, ...]


@dataclass(frozen=True)
class MigrationReport:
    """Samples lifted to the present schema by this run, those that were there already, and those that could not be."""

    migrated: int
    present: int
    problems: tuple[Problem, ...]


def repair(dataset: Dataset, *, set_aside: bool = False, full: bool = False) -> RepairReport:
    """Finish or take back interrupted changes, move leftovers away, make the caches anew.

    Parameters
    ----------
    set_aside : bool
        Move damaged samples, and a journal that cannot be carried out, into the quarantine. Otherwise they are told.
    full : bool
        Read every file to find damaged samples; otherwise names, sizes and manifests decide.

    Raises
    ------
    DatasetError
        Another writer is at work; a journal that can go neither way and may not be set aside.
    StorageError
        The data set cannot be written.
    """
    root = dataset.root
    done: list[str] = []
    with writer_lock(root):
        done += _set_unusable_aside(root, set_aside)
    with dataset.writer() as writer:
        done += [writer.settled] if writer.settled else []
        done += [q.sentence() for q in writer.quarantined]
        done += [f"mended: {text}" for text in writer.mended]
        report = index.rebuild_index(root)
        done.append(f"made the index anew: {report.samples} samples")
        damaged = damaged_samples(root, full=full)
        if set_aside:
            for key, problems in damaged.items():
                writer.remove(key, f"damaged: {problems[0].where} {problems[0].what}")
                done.append(f"moved {key} to {layout.QUARANTINE_FOLDER}/: {problems[0].where} {problems[0].what}")
            damaged = {}
    return RepairReport(tuple(done), tuple(p for problems in damaged.values() for p in problems))


def _set_unusable_aside(root: Path, set_aside: bool) -> list[str]:
    """Files that would keep a writer from starting: a damaged ids.json always, a hopeless journal only if told to."""
    done: list[str] = []
    try:
        index.survey(root)
    except DatasetError as e:
        if e.code not in ("dataset.ids_invalid", "file.corrupt") or not (root / layout.IDS_FILE).exists():
            raise
        moved = quarantine(root, layout.IDS_FILE, e.message)
        done.append(f"moved {layout.IDS_FILE} to {moved.folder}: numbers follow from folders and manifest.jsonl")
    if set_aside:
        hopeless = ""
        try:
            hopeless = journal.stuck(root)
        except DatasetError as e:
            hopeless = e.message
        if hopeless:
            moved = quarantine(root, journal.JOURNAL_FILE, hopeless)
            done.append(f"moved {journal.JOURNAL_FILE} to {moved.folder}: {hopeless}")
    return done


def migrate(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> MigrationReport:
    """Lift the manifests of older schemas to the present one; each stays beside the new one as ``manifest.v1.json``.

    Each sample is lifted whole or not at all; an interrupted run is taken up where it stopped. Raises like
    :meth:`Dataset.writer`.
    """
    migrated = present = 0
    problems: list[Problem] = []
    with dataset.writer():
        keys = list(index.iter_keys(dataset.root / layout.RAW_FOLDER))
        for number, key in enumerate(keys, 1):
            try:
                lifted = _lift(dataset.root, key)
                migrated, present = migrated + lifted, present + (not lifted)
            except DatasetError as e:
                path = f"{key.extras_folder}/{layout.SAMPLE_MANIFEST}"
                problems.append(Problem(path, e.message, e.hint or "run `rakelight dataset verify`", str(key)))
            if progress:
                progress(number, len(keys))
        index.rebuild_index(dataset.root)
    return MigrationReport(migrated, present, tuple(problems))


def _lift(root: Path, key: SampleKey) -> bool:
    """Lift one sample's manifest; false if it has the present schema."""
    path = root / key.extras_folder / layout.SAMPLE_MANIFEST
    stored = read_json(path, error=DatasetError)
    schema = stored.get("schema") if isinstance(stored, dict) else None
    manifest = index.read_intact_manifest(root, key)  # raises for what is damaged or newer
    if schema == MANIFEST_SCHEMA:
        return False
    old_name = f"manifest.v{schema}.json"
    old = path.read_bytes()
    write_bytes(path.with_name(old_name), old)
    record = FileRecord(path=f"{key.extras_folder}/{old_name}", bytes=len(old), sha256=sha256_bytes(old), role="former")
    files = (*(f for f in manifest.files if f.path != record.path), record)
    write_bytes(path, json_bytes(manifest.model_copy(update={"files": files}).model_dump(by_alias=True)))
    return True
