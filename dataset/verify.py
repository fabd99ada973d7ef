"""Is a data set whole? Quick (names, sizes, manifests, index) or in full (every byte against its SHA-256)."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rakelight.dataset import category_jsons, index, journal, layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.lock import is_locked
from rakelight.dataset.manifest_cache import CachedFile, ManifestCache
from rakelight.dataset.sample import FileRecord
from rakelight.errors import DatasetError
from rakelight.files import sha256_file

Record = FileRecord | CachedFile
Progress = Callable[[int, int], None]
"""Called with the bytes looked at (in the quick check: the samples) and how many there are."""

_RESTORE = "restore it from a backup, or derive the sample again with `rakelight dataset rebuild --force --sample …`"
_REPAIR = "run `rakelight dataset repair`"
_ASIDE = "move it out of the data set"
_MANIFEST = "restore it from a backup; or take the sample out: `rakelight dataset repair --quarantine`"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (relative to the data set), what, what to do, and the sample it belongs to."""

    where: str
    what: str
    next_step: str
    sample: str = ""


@dataclass(frozen=True)
class VerifyReport:
    """Result of :func:`verify`; ``notes`` are worth knowing and nothing wrong."""

    quick: bool
    samples: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def verify(
    root: Path, *, quick: bool = False, category: str | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Look for everything that is missing, changed, too much or out of date in the data set at ``root``. Writes nothing.

    ``quick`` reads each sample's manifest (it must be the one that the index knows by its SHA-256, or be sound by itself)
    and compares file names and sizes; otherwise every file is read.
    """
    root = Path(root)
    problems, notes = _whole(root)
    found = _survey(root, problems)
    keys = sorted(k for k in found.keys if category in (None, k.category)) if found else []
    cache = found.cache if found else ManifestCache()
    expected: dict[SampleKey, tuple[Record, ...]] = {}
    for number, key in enumerate(keys, 1):
        records, more = _sample(root, key, cache)
        problems += more
        expected[key] = records
        if quick and progress and number % 50 == 0:
            progress(number, len(keys))
    problems += _foreign(root, found.keys if found else frozenset(), category)
    if not quick:
        problems += _contents(root, expected, {p.where for p in problems}, progress)
    return VerifyReport(
        quick,
        len(keys),
        sum(len(r) for r in expected.values()),
        sum(f.bytes for r in expected.values() for f in r),
        tuple(problems),
        tuple(notes),
    )


def damaged_samples(root: Path, *, full: bool) -> dict[SampleKey, list[Problem]]:
    """The samples with a missing, changed or unreadable file (not those that only hold a file too much)."""
    damaged: dict[SampleKey, list[Problem]] = defaultdict(list)
    for problem in verify(root, quick=not full).problems:
        if problem.sample and problem.next_step != _ASIDE:
            damaged[SampleKey.parse(problem.sample)].append(problem)
    return dict(damaged)


def _whole(root: Path) -> tuple[list[Problem], list[str]]:
    """What concerns the data set as a whole: an open journal, leftovers, the writer at work."""
    problems: list[Problem] = []
    notes: list[str] = []
    if is_locked(root):
        return [], ["a writer is at work: what it has begun is left out, and the index follows when it closes"]
    try:
        change = journal.pending(root)
        if change is not None:
            problems.append(Problem(journal.JOURNAL_FILE, f"interrupted change: {change.what}", _REPAIR))
    except DatasetError as e:
        problems.append(Problem(journal.JOURNAL_FILE, e.message, e.hint))
    left = len(_names(root / layout.STAGING_FOLDER))
    if left:
        notes.append(
            f"{left} leftovers of interrupted work in {layout.STAGING_FOLDER}/; the next writer moves them away"
        )
    quarantined = len(_names(root / layout.QUARANTINE_FOLDER))
    if quarantined:
        notes.append(
            f"{quarantined} entries in {layout.QUARANTINE_FOLDER}/; look at their reason.json, then delete them"
        )
    return problems, notes


def _survey(root: Path, problems: list[Problem]) -> index.Survey | None:
    try:
        found = index.survey(root)
    except DatasetError as e:
        problems.append(Problem(layout.META_FOLDER, e.message, e.hint))
        return None
    if not is_locked(root):
        problems += [Problem(_cache_of(text), text, _REPAIR) for text in found.problems]
    try:
        split = category_jsons.official_split(root) or {}
    except DatasetError as e:
        problems.append(Problem(category_jsons.OFFICIAL_SPLIT, e.message, e.hint))
        return found
    listed = {key for chosen in split.values() for key in chosen}
    gone = len(listed - found.keys)
    missing = sum(k.category in split and k not in listed for k in found.keys)
    for count, what in (
        (gone, "samples that are no longer there"),
        (missing, "none of the parts for samples that are"),
    ):
        if count:
            problems.append(
                Problem(
                    category_jsons.OFFICIAL_SPLIT,
                    f"the official split names {what}: {count} (relabelled, removed or added since)",
                    "make the split again with `rakelight dataset split`",
                )
            )
    return found


def _cache_of(text: str) -> str:
    return layout.JSON_FOLDER if layout.JSON_FOLDER in text else layout.MANIFEST_FILE


def _sample(root: Path, key: SampleKey, cache: ManifestCache) -> tuple[tuple[Record, ...], list[Problem]]:
    """The files that a sample should have, and what names and sizes tell."""
    manifest = f"{key.extras_folder}/{layout.SAMPLE_MANIFEST}"
    records: tuple[Record, ...] = ()
    known = cache.records(key) if key in cache.infos else ()
    if known and _is_file_content(f"{root}/{manifest}", known[-1]):
        records = known
    else:
        info = index.read_sample(root, key)
        if info.damage:
            return (), [Problem(manifest, info.damage, _MANIFEST, str(key))]
        records = info.files
    problems = []
    if known and records is not known:
        problems.append(
            Problem(manifest, "is not the one that manifest.jsonl knows: changed by hand, or half migrated", _REPAIR)
        )
    found: dict[str, int] = {}
    for home in (key.raw_folder, key.extras_folder):
        _add_sizes(f"{root}/{home}", f"{home}/", found)
    for f in records:
        size = found.pop(f.path, None)
        if size is None:
            problems.append(Problem(f.path, "missing", _RESTORE, str(key)))
        elif size != f.bytes:
            problems.append(Problem(f.path, f"{size} bytes; {f.bytes} were written", _RESTORE, str(key)))
    problems += [
        Problem(p, "belongs to no sample: its manifest does not name it", _ASIDE, str(key)) for p in sorted(found)
    ]
    return records, problems


def _is_file_content(path: str, record: Record) -> bool:
    try:
        with open(path, "rb", buffering=0) as handle:
            data = handle.read()
    except OSError:
        return False  # told when it is read as a manifest
    return len(data) == record.bytes and hashlib.sha256(data).hexdigest() == record.sha256


def _add_sizes(folder: str, prefix: str, sizes: dict[str, int]) -> None:
    """Add the size of every file below ``folder`` under its name after ``prefix``; −1 for what is no plain file."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _add_sizes(entry.path, f"{prefix}{entry.name}/", sizes)
                else:
                    plain = entry.is_file(follow_symlinks=False)
                    sizes[prefix + entry.name] = entry.stat(follow_symlinks=False).st_size if plain else -1
    except FileNotFoundError:
        pass  # its files are then missing


def _contents(
    root: Path, expected: dict[SampleKey, tuple[Record, ...]], told: set[str], progress: Progress | None
) -> Iterator[Problem]:
    """Read every file of the right size and compare its SHA-256; two at a time, since hashing lets the lock go."""
    work = [(key, f) for key, records in expected.items() for f in records if f.path not in told]
    total, done = sum(f.bytes for _, f in work), 0
    with ThreadPoolExecutor(2, "verify") as pool:
        for (key, record), what in zip(work, pool.map(lambda item: _content_problem(root, item[1]), work), strict=True):
            done += record.bytes
            if progress:
                progress(done, total)
            if what:
                yield Problem(record.path, what, _RESTORE, str(key))


def _content_problem(root: Path, record: Record) -> str:
    try:
        return "" if sha256_file(root / record.path) == record.sha256 else "content changed (SHA-256 differs)"
    except OSError as e:
        return f"cannot be read ({e.strerror or e})"


def _foreign(root: Path, keys: frozenset[SampleKey], category: str | None) -> Iterator[Problem]:
    """Files and folders of the released tree in which strict loaders would stumble."""
    folders: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        parts = key.raw_folder.split("/")
        for depth in range(1, len(parts)):
            folders["/".join(parts[:depth])].add(parts[depth])
    for folder, known in sorted(folders.items()):
        if category is None or f"{folder}/".startswith(f"{layout.RAW_FOLDER}/{category}/"):
            for name in sorted(set(_names(root / folder)) - known):
                yield Problem(f"{folder}/{name}", "belongs to no sample; loaders may stumble over it", _ASIDE)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
