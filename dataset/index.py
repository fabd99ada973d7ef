"""Samples as their folders tell them, and the caches made from the folders.

The caches are ``realiad_d3_jsons/<category>.json`` and ``meta/manifest.jsonl``; the sample folders are the truth.
``manifest.jsonl`` is made from the folders' manifests, one line per file, and a commit only appends to it; the JSON of
a category is made from ``manifest.jsonl``. :func:`survey` tells whether the caches agree with the folders,
:func:`rebuild_index` writes them anew. ``meta/ids.json`` keeps the highest number ever given in each class, so that a
removed sample's number is not given again when the caches forget it.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rakelight.config import validate
from rakelight.dataset import layout, migrations
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import MANIFEST_SCHEMA, FileRecord, SampleInfo, SampleManifest
from rakelight.errors import DatasetError, RakelightError
from rakelight.files import append_bytes, atomic_write, make_folder, read_json, sha256_file, write_json, write_text

Entry = dict[str, str | None]


@dataclass(frozen=True)
class Survey:
    """What is in the folders, and how the caches differ from it (``problems``; empty if they do not)."""

    keys: frozenset[SampleKey]
    last_numbers: dict[str, int]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class IndexReport:
    """Result of a rebuild: samples indexed, and those left out because their manifest is unusable."""

    samples: int
    damaged: tuple[SampleKey, ...]


@dataclass
class _Manifest:
    """``manifest.jsonl`` as read: entries of whole samples, every key ever seen, what is wrong with the file."""

    entries: dict[SampleKey, Entry] = field(default_factory=dict)
    seen: set[SampleKey] = field(default_factory=set)
    problem: str = ""


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
    if manifest.key != key:
        return SampleInfo(key, damage=f"its manifest describes {manifest.key}: the folder was moved or renamed by hand")
    homes = (f"{key.raw_folder}/", f"{key.extras_folder}/")
    stray = next((f.path for f in manifest.files if not f.path.startswith(homes) or ".." in f.path.split("/")), None)
    if stray is not None:
        return SampleInfo(key, damage=f"its manifest names {stray!r}, which lies outside its folders")
    return SampleInfo(key, manifest.timestamp, (*manifest.files, own))


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
    manifest = _read_manifest(root)
    problems = [manifest.problem] if manifest.problem else []
    for count, what in (
        (len(keys - manifest.entries.keys()), "committed but not in manifest.jsonl"),
        (len(manifest.entries.keys() - keys), "in manifest.jsonl but without a folder"),
    ):
        if count:
            problems.append(f"{count} samples are {what}")
    last_numbers = _last_numbers(root, keys, manifest.seen)
    for category, text in _documents(manifest.entries, {c.split("/")[0] for c in last_numbers}).items():
        if _needs_writing(root, category, text, any(k.category == category for k in keys)):
            problems.append(f"{layout.JSON_FOLDER}/{category}.json is out of date")
    return Survey(keys, last_numbers, tuple(problems))


def rebuild_index(root: Path, found: Survey | None = None) -> IndexReport:
    """Write ``manifest.jsonl`` and every category's JSON anew from the folders. Needs the writer's lock.

    Splits follow the label until a split is stated: OK samples are ``train``, defective ones ``test``.
    """
    found = found or survey(root)
    write_last_numbers(root, found.last_numbers)  # first: the manifest about to be replaced may know removed samples
    damaged: list[SampleKey] = []
    make_folder(root / layout.META_FOLDER)
    with atomic_write(root / layout.MANIFEST_FILE) as handle:
        for key in sorted(found.keys):
            info = read_sample(root, key)
            if info.damage:
                damaged.append(key)
            else:
                handle.write(_lines(key, info.files))
    write_category_jsons(root, {c.split("/")[0] for c in found.last_numbers})
    return IndexReport(len(found.keys) - len(damaged), tuple(damaged))


def append_manifest(root: Path, key: SampleKey, files: Iterable[FileRecord]) -> None:
    """Add one committed sample to ``manifest.jsonl`` durably; raises :class:`StorageError`."""
    append_bytes(root / layout.MANIFEST_FILE, _lines(key, files))


def write_category_jsons(root: Path, categories: Iterable[str]) -> None:
    """Write the released JSON of these categories from ``manifest.jsonl``, where it differs."""
    wanted = set(categories)
    entries = {k: e for k, e in _read_manifest(root).entries.items() if k.category in wanted}
    occupied = {k.category for k in entries}
    for category, text in _documents(entries, wanted).items():
        if _needs_writing(root, category, text, category in occupied):
            write_text(make_folder(root / layout.JSON_FOLDER) / f"{category}.json", text)


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


def _lines(key: SampleKey, files: Iterable[FileRecord]) -> bytes:
    """The sample's lines of ``manifest.jsonl``; the one of its manifest stands last and so closes the group."""
    dumped = ({"sample": str(key), **f.model_dump()} for f in files)
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in dumped).encode("utf-8")


def _read_manifest(root: Path) -> _Manifest:
    """Read ``manifest.jsonl`` line by line; what a crash left torn is noted, not raised."""
    result = _Manifest()
    open_groups: dict[SampleKey, dict[str, str]] = {}
    keys: dict[str, SampleKey] = {}
    try:
        with open(root / layout.MANIFEST_FILE, "rb") as handle:
            for number, raw in enumerate(handle, 1):
                try:
                    line = json.loads(raw)
                    key = keys.get(line["sample"]) or keys.setdefault(line["sample"], SampleKey.parse(line["sample"]))
                    role, path = str(line["role"]), str(line["path"])
                    if not raw.endswith(b"\n") or key in result.entries:
                        raise ValueError("cut off or repeated")
                except (ValueError, TypeError, KeyError, AttributeError, DatasetError):
                    result.problem = result.problem or f"manifest.jsonl is damaged in line {number}"
                    continue
                group = open_groups.setdefault(key, {})
                group[role] = path
                if role == "manifest":
                    result.entries[key] = _entry(key, open_groups.pop(key))
    except FileNotFoundError:
        pass  # a new data set; if there are samples, they are missing from it and that is told
    result.seen = set(keys.values())
    if open_groups and not result.problem:
        result.problem = f"manifest.jsonl breaks off within sample {next(iter(open_groups))}"
    return result


def _entry(key: SampleKey, paths: dict[str, str]) -> Entry:
    prefix = f"{layout.RAW_FOLDER}/{key.category}/"

    def below_category(modality: str) -> str | None:
        path = paths.get(modality)
        return path.removeprefix(prefix) if path is not None else None

    return {
        "category": key.category,
        "anomaly_class": key.label,
        "image_path": below_category("RGBL05"),
        "mask_path": below_category("MASK"),
        "ps_path": below_category("PS"),
        "xyz_path": below_category("XYZ"),
    }


def _documents(entries: dict[SampleKey, Entry], categories: Iterable[str]) -> dict[str, str]:
    """Category → text of its JSON; ``categories`` are those to mention even when nothing is left in them."""
    documents: dict[str, dict[str, Any]] = {}
    for category in sorted({*categories, *(k.category for k in entries)}):
        meta = {"prefix": f"{category}/", "normal_class": layout.OK}
        documents[category] = {"meta": meta, "train": [], "validation": [], "test": []}
    for key in sorted(entries):
        documents[key.category]["train" if key.is_ok else "test"].append(entries[key])
    return {c: json.dumps(d, indent=2, ensure_ascii=False) + "\n" for c, d in documents.items()}


def _needs_writing(root: Path, category: str, text: str, occupied: bool) -> bool:
    """Whether the JSON differs; that of a category without samples is only kept up, never created."""
    try:
        return (root / layout.JSON_FOLDER / f"{category}.json").read_bytes() != text.encode("utf-8")
    except FileNotFoundError:
        return occupied
