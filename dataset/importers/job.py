"""What every import shares: one sample after the other, resumable, a bad one told and passed over, the split at the end.

A sample is there already if one of the same origin (format and place in the source) with files of the same sizes is; it
may have been relabelled since. So after Ctrl-C, a power cut or a repaired download the same import is simply run again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rakelight.dataset.archives import View
from rakelight.dataset.category_jsons import write_jsons
from rakelight.dataset.importers.found import Found, FoundSample
from rakelight.dataset.importers.gather import source_of
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.manifest_cache import read_cache
from rakelight.dataset.opened import open_samples
from rakelight.dataset.sample import SampleContent, Source
from rakelight.dataset.split_files import OFFICIAL, SPLITS_FOLDER, Parts, SplitFile, digest, read_split, split_names
from rakelight.dataset.splits import SUBSETS, SplitRule
from rakelight.dataset.staging import new_staging, stage
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import RakelightError, StorageError
from rakelight.files import make_folder, write_json

Progress = Callable[..., None]
"""``progress("what")`` or ``progress(done, total)``."""
Content = Callable[[View, FoundSample, Path], tuple[SampleContent, list[str]]]
"""Reads one sample: its content, and warnings. The folder is for copies out of archives and goes afterwards."""


def no_progress(*_: object) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Imported:
    """What became of one sample: the key it got; or ``skipped`` (why), or ``error`` (a ``RakelightError.to_dict``)."""

    origin: str
    key: SampleKey | None = None
    bytes: int = 0
    skipped: str = ""
    error: dict[str, str] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What an import would do: samples to read, those there already, and the bytes to read."""

    new: tuple[FoundSample, ...]
    there: tuple[FoundSample, ...]
    bytes: int


def make_plan(dataset: Dataset, view: View, found: Found, categories: Iterable[str] = ()) -> Plan:
    """Compare a source with a data set; writes nothing. Raises :class:`DatasetError` for an unknown category."""
    chosen = found.of(categories)
    known = {
        _identity(sample.manifest.source)
        for category in {s.category for s in chosen}
        for sample in open_samples(dataset.root, category)
    }
    new: list[FoundSample] = []
    there: list[FoundSample] = []
    for sample in chosen:
        (there if _identity(source_of(found.format, view, sample)) in known else new).append(sample)
    names = [name for sample in new for name in (*sample.files.values(), *sample.others)]
    return Plan(tuple(new), tuple(there), sum(map(view.size, names)))


def _identity(source: Source) -> tuple[object, ...]:
    sizes = source.settings.get("bytes")
    return source.origin, tuple(sorted(sizes.items())) if isinstance(sizes, dict) else ()


def import_samples(
    dataset: Dataset,
    view: View,
    found: Found,
    content: Content,
    *,
    categories: Iterable[str] = (),
    progress: Progress = no_progress,
) -> Iterator[Imported]:
    """Read every sample that is not there yet; each is durable when its :class:`Imported` comes.

    After the last one the parts that the source tells (train, validation, test) become the split ``official``. Ends, and
    writes what it must, also when it is closed early.

    Raises
    ------
    DatasetError
        An unknown category; the data set is locked or damaged. Bad samples do not raise.
    StorageError
        The disk is full: what was imported stays, and the same import goes on later.
    """
    with dataset.writer() as writer:
        plan = make_plan(dataset, view, found, categories)  # under the lock: another import may just have ended
        for sample in plan.there:
            yield Imported(sample.origin, skipped="there already")
        for done, sample in enumerate(plan.new):
            progress(done, len(plan.new))
            yield _import_one(writer, view, sample, content)
    touched = {s.category for s in (*plan.new, *plan.there) if s.part}
    for note in write_official_split(dataset, found.format, touched):
        yield Imported("official split", skipped=note)


def _import_one(writer: DatasetWriter, view: View, sample: FoundSample, content: Content) -> Imported:
    scratch = new_staging(writer.root)
    try:
        made, warnings = content(view, sample, make_folder(scratch))
        committed = writer.publish(stage(made, new_staging(writer.root), writer.options), number=sample.number)
    except StorageError:
        raise
    except RakelightError as e:
        return Imported(sample.origin, error=e.to_dict())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Imported(sample.origin, committed.key, committed.bytes, warnings=tuple(warnings))


def write_official_split(dataset: Dataset, format: str, categories: Iterable[str]) -> tuple[str, ...]:
    """Write the parts that imported samples had in their source as the split ``official``; returns notes.

    Other categories of an official split stay; one whose samples stand there in other parts is left as it is, and told.
    """
    made = {c: _parts_of(dataset.root, format, c) for c in sorted(set(categories))}
    made = {c: (parts, out) for c, (parts, out) in made.items() if any(getattr(parts, s) for s in SUBSETS)}
    if not made:
        return ()
    before = read_split(dataset.root, OFFICIAL)[0] if OFFICIAL in split_names(dataset.root) else None
    merged = dict(before.categories) if before else {}
    left_out = dict(before.left_out) if before else {}
    notes = []
    for category, (parts, out) in made.items():
        old = merged.get(category, Parts())
        if any(set(getattr(old, s)) - set(getattr(parts, s)) for s in SUBSETS):
            notes.append(
                f"the official split of {category} stays: it places samples otherwise than the source does; move "
                f"{SPLITS_FOLDER}/{OFFICIAL}.json away and import again to take the source's"
            )
            continue
        merged[category] = parts
        left_out.pop(category, None)
        if out:
            left_out[category] = out
    split = SplitFile(
        name=OFFICIAL,
        seed=before.seed if before else 0,
        by=before.by if before else "sample",
        categories=merged,
        sha256=digest(merged),
        left_out=left_out,
        rule=before.rule if before else SplitRule(by="sample"),
    )
    if before is None or before != split:
        with dataset.writer():
            make_folder(dataset.root / SPLITS_FOLDER)
            write_json(dataset.root / SPLITS_FOLDER / f"{OFFICIAL}.json", split.model_dump(by_alias=True))
            write_jsons(dataset.root, read_cache(dataset.root), merged)
    return tuple(notes)


def _parts_of(root: Path, format: str, category: str) -> tuple[Parts, tuple[str, ...]]:
    keys: dict[str, list[str]] = {s: [] for s in SUBSETS}
    out: list[str] = []
    for sample in open_samples(root, category):
        source = sample.manifest.source
        if (source.origin or "").startswith(f"{format}:"):
            keys.get(str(source.settings.get("part")), out).append(str(sample.key))
    return Parts(**{s: tuple(k) for s, k in keys.items()}), tuple(out)
