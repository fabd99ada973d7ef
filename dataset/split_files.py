"""Splits of a data set as files: ``meta/splits/<name>.json``, one a split; the one named ``official`` makes the JSONs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from rakelight import files
from rakelight.config import Model, validate
from rakelight.dataset import layout
from rakelight.dataset.category_jsons import write_jsons
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.manifest_cache import read_cache
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.sample import Software
from rakelight.dataset.splits import LEFT_OUT, SUBSETS, Assignment, By, SplitItem, SplitRule, make_splits
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError

SPLITS_FOLDER = "meta/splits"
OFFICIAL = "official"
SCHEMA = 1
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_MAX_NAME = 60


class Parts(Model):
    """Keys of the samples of one category."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class SplitFile(Model):
    """``meta/splits/<name>.json``.

    ``sha256`` is that of the lines ``<subset> <key>\\n`` of all samples, sorted, as UTF-8: two people have the same split
    exactly if it agrees. ``left_out`` are samples that may not stand in any subset beside their group. ``fold`` counts from 1.
    """

    schema_: int = Field(default=SCHEMA, alias="schema")
    name: str
    seed: int
    by: By
    categories: dict[str, Parts]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    left_out: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rule: SplitRule
    fold: int | None = None
    software: Software = Software()

    def subset_of(self) -> dict[str, str]:
        """Sample key → subset."""
        return {
            key: subset for parts in self.categories.values() for subset in SUBSETS for key in getattr(parts, subset)
        }


@dataclass(frozen=True)
class WrittenSplits:
    """What :func:`write_splits` wrote: the splits (one a fold), their files, how many samples were in them before and have
    kept their place, how many of the earlier ones are gone, and notes for people."""

    splits: tuple[SplitFile, ...]
    paths: tuple[Path, ...]
    kept: int
    gone: int
    notes: tuple[str, ...]


def split_items(root: Path) -> list[SplitItem]:
    """What splits have to know of every sample, from the manifests; raises :class:`DatasetError` for a damaged one."""
    return [_item(sample) for sample in open_samples(root)]


def _item(sample: OpenSample) -> SplitItem:
    manifest = sample.manifest
    moment = manifest.timestamp
    if not moment.strip("0") and sample.path(layout.CAPTURE_FILE) is not None:  # zero_timestamps keeps the time here
        path = sample.root / sample.key.extras_folder / layout.CAPTURE_FILE
        moment = str(files.read_json(path, error=DatasetError).get("timestamp", ""))
    return SplitItem(
        sample.key,
        identity=manifest.labels[0].was if manifest.labels else str(sample.key),
        specimen=manifest.specimen,
        batch=manifest.batch,
        day=moment[:8] if moment.strip("0") else "",
        recording=manifest.source.recording_sha256 or manifest.source.recording_id or "",
    )


def write_splits(dataset: Dataset, name: str, rule: SplitRule | None, *, overwrite: bool = False) -> WrittenSplits:
    """Make a split, or with ``rule`` None extend the one there is, and write its file (with folds one a fold) atomically.

    Files of folds are named ``<name>_fold1of5``. If ``name`` is ``official``, the JSONs of the categories follow. A split
    of that name that differs is only replaced with ``overwrite``.

    Raises
    ------
    InputError
        As :func:`splits.make_splits`; ``split.name``; ``split.official_folds`` for an official split of folds;
        ``split.exists``.
    DatasetError
        ``split.missing`` if there is none to extend; a damaged manifest or split file; another writer is at work.
    """
    _check_name(name)
    with dataset.writer():
        before = read_split(dataset.root, name) if rule is None else ()
        rule = before[0].rule if rule is None else rule
        if rule.folds and name == OFFICIAL:
            raise InputError(
                "the official split cannot have folds: the JSON of a category holds one split",
                hint="give the folds another name, for example --name cross",
                code="split.official_folds",
            )
        items = split_items(dataset.root)
        earlier = [split.subset_of() for split in before] if before else None
        made = make_splits(items, rule, earlier=earlier)
        splits = tuple(_document(name, number, rule, assignment) for number, assignment in enumerate(made, 1))
        paths = tuple(dataset.root / SPLITS_FOLDER / f"{split.name}.json" for split in splits)
        if earlier is None:
            _check_replaceable(dataset.root, name, splits, overwrite)
        files.make_folder(dataset.root / SPLITS_FOLDER)
        for split, path in zip(splits, paths, strict=True):
            files.write_json(path, split.model_dump(by_alias=True))
        if name == OFFICIAL:
            write_jsons(dataset.root, read_cache(dataset.root), splits[0].categories)
    known = {key for mapping in earlier or () for key in mapping}
    there = {str(i.key) for i in items} | {i.identity for i in items}
    notes = made[0].notes + _left_out_note(splits)
    return WrittenSplits(splits, paths, len(known & there), len(known - there), notes)


def read_split(root: Path, name: str) -> tuple[SplitFile, ...]:
    """The split of that name, or all its folds; raises :class:`DatasetError` (``split.missing``, ``split.invalid``)."""
    _check_name(name)
    folder = root / SPLITS_FOLDER
    if (folder / f"{name}.json").is_file():
        return (_read(folder / f"{name}.json"),)
    fold = re.compile(re.escape(name) + r"_fold([0-9]+)of([0-9]+)\.json")
    found = [(int(m[1]), int(m[2]), path) for path in folder.glob("*.json") if (m := fold.fullmatch(path.name))]
    counts = {count for _number, count, _path in found}
    if not found:
        there = ", ".join(split_names(root)) or "none"
        raise DatasetError(
            f"there is no split {name!r} in {folder}; there is: {there}",
            hint="make it with `rakelight dataset split`",
            code="split.missing",
        )
    if len(counts) > 1 or sorted(n for n, _count, _path in found) != list(range(1, max(counts) + 1)):
        raise DatasetError(
            f"the folds of split {name!r} are not complete: {', '.join(sorted(p.name for *_, p in found))}",
            hint="move them away and make the split again",
            code="split.invalid",
        )
    folds = tuple(_read(path) for _number, _count, path in sorted(found))
    tested = [key for fold in folds for key, subset in fold.subset_of().items() if subset == "test"]
    if any(fold.rule != folds[0].rule for fold in folds) or len(set(tested)) < len(tested):
        raise DatasetError(
            f"the folds of split {name!r} do not belong together: other rules, or a sample that two of them test",
            hint="their writing was interrupted: make the split again with --overwrite",
            code="split.invalid",
        )
    return folds


def split_names(root: Path) -> tuple[str, ...]:
    """Names of the split files there are."""
    return tuple(sorted(path.stem for path in (root / SPLITS_FOLDER).glob("*.json") if not path.name.startswith(".")))


def split_table(split: SplitFile) -> list[dict[str, str | int]]:
    """Samples of each subset: one row a category and label, with ``train``, ``validation``, ``test`` and ``left_out``."""
    counts: Counter[tuple[str, str, str]] = Counter()
    placed = [(key, subset) for key, subset in split.subset_of().items()]
    placed += [(key, LEFT_OUT) for keys in split.left_out.values() for key in keys]
    for text, subset in placed:
        key = SampleKey.parse(text)
        counts[key.category, key.label, subset] += 1
    rows = sorted({(category, label) for category, label, _s in counts}, key=lambda r: (r[0], r[1] != layout.OK, r[1]))
    return [{"category": c, "label": n} | {s: counts[c, n, s] for s in (*SUBSETS, LEFT_OUT)} for c, n in rows]


def achieved_shares(split: SplitFile) -> dict[str, dict[str, float]]:
    """Category → subset → share of the good parts."""
    shares: dict[str, dict[str, float]] = {}
    for row in split_table(split):
        if row["label"] == layout.OK:
            total = sum(int(row[s]) for s in (*SUBSETS, LEFT_OUT))
            shares[str(row["category"])] = {s: round(int(row[s]) / total, 4) for s in SUBSETS}
    return shares


def digest(categories: dict[str, Parts]) -> str:
    """``sha256`` of a split; see :class:`SplitFile`."""
    lines = [f"{s} {key}\n" for parts in categories.values() for s in SUBSETS for key in getattr(parts, s)]
    return files.sha256_bytes("".join(sorted(lines)).encode())


def _check_replaceable(root: Path, name: str, splits: Sequence[SplitFile], overwrite: bool) -> None:
    """A split that someone may have trained with is not changed unasked, nor mixed with folds of another number."""
    of_name = re.compile(re.escape(name) + r"(_fold[0-9]+of[0-9]+)?")
    there = {other for other in split_names(root) if of_name.fullmatch(other)}
    new = {split.name: split.sha256 for split in splits}
    if strange := sorted(there - set(new)):
        raise InputError(
            f"there is a split {strange[0]!r} already, made with another number of folds",
            hint="choose another --name, or move its files out of meta/splits",
            code="split.exists",
        )
    if not overwrite and (
        differing := [n for n in sorted(there) if _read(root / SPLITS_FOLDER / f"{n}.json").sha256 != new[n]]
    ):
        raise InputError(
            f"there is a split {differing[0]!r} already, and this one differs from it",
            hint="--extend keeps it and places new samples; --overwrite makes it anew; or choose another --name",
            code="split.exists",
        )


def _document(name: str, number: int, rule: SplitRule, made: Assignment) -> SplitFile:
    categories = {category: Parts(**subsets) for category, subsets in made.categories.items()}
    return SplitFile(
        name=f"{name}_fold{number}of{rule.folds}" if rule.folds else name,
        seed=rule.seed,
        by=rule.by,
        categories=categories,
        sha256=digest(categories),
        left_out=made.left_out,
        rule=rule,
        fold=number if rule.folds else None,
    )


def _read(path: Path) -> SplitFile:
    data = files.read_json(path, error=DatasetError)
    split = validate(data, SplitFile, source=str(path), error=DatasetError, schema=SCHEMA)
    if digest(split.categories) != split.sha256:
        raise DatasetError(
            f"{path} was changed by hand: its SHA-256 does not fit its samples",
            hint="restore it, or make the split again under another name",
            code="split.invalid",
        )
    return split


def _left_out_note(splits: Iterable[SplitFile]) -> tuple[str, ...]:
    notes = []
    for split in splits:
        count = sum(len(keys) for keys in split.left_out.values())
        if count and split.fold is None:
            notes.append(
                f"{count} defective samples are left out: their group trains, and training takes good parts only"
            )
    return tuple(notes)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME or "_fold" in name:
        raise InputError(
            f"split name {name!r}; allowed: up to {_MAX_NAME} of a-z 0-9 in words joined by _, without _fold",
            hint="for example official or by_day",
            code="split.name",
        )
