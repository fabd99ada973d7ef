"""Samples as their folders tell them, and the caches made from the folders.

The caches are ``realiad_d3_jsons/<category>.json`` and ``meta/manifest.jsonl``; the sample folders are the truth.
``manifest.jsonl`` is made from the folders' manifests (see :mod:`rakelight.dataset.manifest_cache`), and a commit only
appends to it; the JSON of a category is made from ``manifest.jsonl`` and the official split. :func:`survey` tells whether
the caches agree with the folders, :func:`mend_index` makes them agree, :func:`rebuild_index` writes them anew.
``meta/ids.json`` keeps the highest number ever given in each class, so that a removed sample's number is not given again
when the caches forget it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rakelight.config import validate
from rakelight.dataset import layout, migrations
from rakelight.dataset.category_jsons import stale_jsons, write_jsons
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.manifest_cache import ManifestCache, group, read_cache, removal, write_cache
from rakelight.dataset.sample import MANIFEST_SCHEMA, FileRecord, SampleInfo, SampleManifest
from rakelight.errors import DatasetError, RakelightError
from rakelight.files import append_bytes, make_folder, read_json, sha256_file, write_json


@dataclass(frozen=True)
class Survey:
    """What is in the folders, and how the caches differ from it (``problems``; empty if they do not)."""

    keys: frozenset[SampleKey]
    last_numbers: dict[str, int]
    problems: tuple[str, ...]
    cache: ManifestCache


@dataclass(frozen=True)
class IndexReport:
    """Result of a rebuild: samples indexed, and those left out because their manifest is unusable."""

    samples: int
    damaged: tuple[SampleKey, ...]


def iter_keys(tree: Path, category: str | None = None) -> Iterator[SampleKey]:
    """Samples that have a folder in ``tree`` (the raw or the extras tree), in order; foreign names are passed over."""
    for name in [category] if category is not None else _subfolders(tree):
        for label, folder in _class_folders(tree / name):
            numbers = (layout.sample_number(n) for n in _subfolders(folder))
            for number in sorted(n for n in numbers if n is not None):
                key = SampleKey(name, label, number)
                if _is_key(key):
                    yield key


def _class_folders(folder: Path) -> list[tuple[str, Path]]:
    defects = [d for d in _subfolders(folder / layout.NG_FOLDER) if d != layout.OK]
    return [(layout.OK, folder / layout.OK), *((d, folder / layout.NG_FOLDER / d) for d in defects)]


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_key(key: SampleKey) -> bool:
    try:
        return SampleKey.parse(str(key)) == key
    except DatasetError:
        return False


def read_manifest(path: Path) -> SampleManifest:
    """A sample's ``manifest.json``, of this schema or an older one; raises :class:`DatasetError`."""
    data = migrations.manifest(read_json(path, error=DatasetError))
    return validate(data, SampleManifest, source=str(path), error=DatasetError, schema=MANIFEST_SCHEMA)


def read_intact_manifest(root: Path, key: SampleKey) -> SampleManifest:
    """The manifest of a sample that is to be changed; raises :class:`DatasetError` if it is damaged or not its own."""
    info = read_sample(root, key)
    if info.damage:
        raise DatasetError(f"{key}: {info.damage}", hint="run `rakelight dataset verify`", code="dataset.damaged")
    return read_manifest(root / key.extras_folder / layout.SAMPLE_MANIFEST)


def read_sample(root: Path, key: SampleKey) -> SampleInfo:
    """The sample as its manifest describes it; an unusable manifest is told in ``damage``, not raised."""
    path = root / key.extras_folder / layout.SAMPLE_MANIFEST
    try:
        manifest = read_manifest(path)
        own = FileRecord(
            path=f"{key.extras_folder}/{layout.SAMPLE_MANIFEST}",
            bytes=path.stat().st_size,
            sha256=sha256_file(path),
            role="manifest",
        )
    except (RakelightError, OSError) as e:
        return SampleInfo(key, damage=f"manifest unusable: {e}")
    if problem := misplaced(manifest, key):
        return SampleInfo(key, damage=problem)
    return SampleInfo(
        key,
        manifest.timestamp,
        (*manifest.files, own),
        specimen=manifest.specimen,
        batch=manifest.batch,
        simulated=manifest.simulated,
        revision=manifest.revision,
    )


def misplaced(manifest: SampleManifest, key: SampleKey) -> str:
    """Why a manifest cannot be that of ``key``: it says another key, or names a file outside; empty if it can."""
    if manifest.key != key:
        return f"its manifest describes {manifest.key}: the folder was moved or renamed by hand"
    homes = (f"{key.raw_folder}/", f"{key.extras_folder}/")
    for path in (f.path for f in manifest.files):
        if not path.startswith(homes) or ".." in path.split("/") or "\\" in path:
            return f"its manifest names {path!r}, which lies outside its folders"
    return ""


def verify_sample(root: Path, info: SampleInfo) -> list[str]:
    """Read every file of a sample again; returns what is missing or changed, an empty list if nothing is."""
    if info.damage:
        return [f"{info.key}: {info.damage}"]
    return [problem for record in info.files if (problem := _file_problem(root, record))]


def _file_problem(root: Path, record: FileRecord) -> str:
    path = root / record.path
    try:
        size = path.stat().st_size
        if size != record.bytes:
            return f"{record.path}: {size} bytes; {record.bytes} were written"
        if sha256_file(path) != record.sha256:
            return f"{record.path}: content changed (SHA-256 differs)"
    except FileNotFoundError:
        return f"{record.path}: missing"
    except OSError as e:
        return f"{record.path}: cannot be read ({e.strerror or e})"
    return ""


def survey(root: Path) -> Survey:
    """Compare the caches with the folders. Reads folder names, ``manifest.jsonl`` and the JSONs; no picture."""
    keys = frozenset(iter_keys(root / layout.RAW_FOLDER))
    cache = read_cache(root)
    problems = [cache.problem] if cache.problem else []
    for count, what in (
        (len(keys - cache.infos.keys()), "committed but not in manifest.jsonl"),
        (len(cache.infos.keys() - keys), "in manifest.jsonl but without a folder"),
    ):
        if count:
            problems.append(f"{count} samples are {what}")
    if cache.superseded:
        problems.append("manifest.jsonl still holds lines of samples that were changed since")
    last_numbers = _last_numbers(root, keys, cache.seen)
    problems += stale_jsons(root, cache, {c.split("/")[0] for c in last_numbers}, {k.category for k in keys})
    return Survey(keys, last_numbers, tuple(problems), cache)


def listed(root: Path, category: str | None = None) -> tuple[SampleInfo, ...]:
    """Every committed sample, in order, from ``manifest.jsonl`` as far as it agrees with the folders.

    What it does not know is read from the sample's own manifest; what has no folder is left out.
    """
    infos = read_cache(root).infos
    keys = iter_keys(root / layout.RAW_FOLDER, category)
    return tuple(infos[key] if key in infos else read_sample(root, key) for key in keys)


def rebuild_index(root: Path, found: Survey | None = None) -> IndexReport:
    """Write ``manifest.jsonl`` and every category's JSON anew from the folders. Needs the writer's lock."""
    found = found or survey(root)
    return _write_index(root, found, trusted=False)


def mend_index(root: Path, found: Survey) -> IndexReport:
    """Like :func:`rebuild_index`, but of the samples that ``manifest.jsonl`` tells whole no manifest is read again."""
    return _write_index(root, found, trusted=True)


def _write_index(root: Path, found: Survey, *, trusted: bool) -> IndexReport:
    write_last_numbers(root, found.last_numbers)  # first: the manifest about to be replaced may know removed samples
    damaged: list[SampleKey] = []

    def groups() -> Iterator[bytes]:
        for key in sorted(found.keys):
            if trusted and key in found.cache.infos:
                yield found.cache.text(key)
                continue
            info = read_sample(root, key)
            if info.damage:
                damaged.append(key)
            else:
                yield group(info)

    write_cache(root, groups())
    write_jsons(root, read_cache(root), {c.split("/")[0] for c in found.last_numbers})
    return IndexReport(len(found.keys) - len(damaged), tuple(damaged))


def append_manifest(root: Path, key: SampleKey) -> None:
    """Add a committed sample, or its new files, to ``manifest.jsonl`` durably.

    Raises :class:`StorageError`, and :class:`DatasetError` if its manifest is damaged.
    """
    info = read_sample(root, key)
    if info.damage:
        raise DatasetError(f"{key}: {info.damage}", hint="run `rakelight dataset verify`", code="dataset.damaged")
    append_bytes(root / layout.MANIFEST_FILE, group(info))


def append_removal(root: Path, key: SampleKey) -> None:
    """Tell ``manifest.jsonl`` durably that a sample is gone. Raises :class:`StorageError`."""
    append_bytes(root / layout.MANIFEST_FILE, removal(key))


def write_caches(root: Path, categories: Iterable[str], last_numbers: dict[str, int]) -> None:
    """At a writer's end: ids, ``manifest.jsonl`` without what was superseded, and the JSONs of these categories."""
    write_last_numbers(root, last_numbers)
    cache = read_cache(root)
    if cache.superseded:
        write_cache(root, (cache.text(key) for key in sorted(cache.infos)))
    write_jsons(root, cache, categories)


def write_last_numbers(root: Path, last_numbers: dict[str, int]) -> None:
    """Write ``meta/ids.json``: class folder → highest number ever given."""
    make_folder(root / layout.META_FOLDER)
    write_json(root / layout.IDS_FILE, {"schema": 1, "last": dict(sorted(last_numbers.items()))})


def _last_numbers(root: Path, keys: Iterable[SampleKey], remembered: Iterable[SampleKey]) -> dict[str, int]:
    """Highest number ever seen in each class: in the trees, the caches, the quarantine and ``ids.json``."""
    last: dict[str, int] = defaultdict(int)
    if (root / layout.IDS_FILE).exists():
        stored = read_json(root / layout.IDS_FILE, error=DatasetError)
        try:
            last.update({SampleKey.parse(f"{c}/S0000").class_folder: int(n) for c, n in stored["last"].items()})
        except (TypeError, KeyError, ValueError, AttributeError, DatasetError) as e:
            raise DatasetError(
                f"{root / layout.IDS_FILE} does not hold the last number of each class: {e}",
                hint="restore it from a backup, or move it away: numbers then follow from folders and manifest.jsonl",
                code="dataset.ids_invalid",
            ) from e
    quarantine = root / layout.QUARANTINE_FOLDER
    trees = [root / layout.EXTRAS_FOLDER]
    trees += [quarantine / q / t for q in _subfolders(quarantine) for t in (layout.EXTRAS_FOLDER, layout.RAW_FOLDER)]
    for source in (keys, remembered, *(iter_keys(tree) for tree in trees)):
        for key in source:
            last[key.class_folder] = max(last[key.class_folder], key.number)
    return dict(last)
