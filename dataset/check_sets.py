"""Checks that need many samples at once: duplicates, near-duplicates, consistency, labels, splits, the index."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import layout
from rakelight.dataset.category_jsons import official_split
from rakelight.dataset.defects import DEFECTS_FILE, stored_defects
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.near_duplicates import near_pairs
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample_facts import SAME_WITHIN_CATEGORY
from rakelight.dataset.sample_scan import Fact, SampleScan, Severity
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, RakelightError

_MOST_PAIRS = 200  # near-duplicates told of a category
_MOST_NAMED = 3
_PICTURES = frozenset(f"RGBL{view:02d}" for view in layout.VIEWS) | {"XYZ", "raw"}


@dataclass(frozen=True)
class Finding:
    """One thing found: by which check, how bad, in which sample (or category, or ""), what it is and the next step."""

    check: str
    severity: Severity
    sample: str
    what: str
    hint: str

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Seen:
    """What the checks across samples keep of one: hashes of its pictures, settings as text, the small picture."""

    key: SampleKey
    specimen: str
    recording: str
    hashes: tuple[tuple[str, str], ...]
    settings: dict[str, str]
    small: NDArray[np.float32] | None

    @classmethod
    def of(cls, sample: OpenSample, facts: Sequence[Fact], scan: SampleScan | None) -> Seen:
        manifest = sample.manifest
        return cls(
            sample.key,
            manifest.specimen,
            manifest.source.recording_sha256 or manifest.source.recording_id or "",
            tuple((f.role, f.sha256) for f in manifest.files if f.role in _PICTURES and "recording.json" not in f.path),
            {f.name: _text(f.value) for f in facts if f.name.startswith(SAME_WITHIN_CATEGORY)},
            scan.small_picture() if scan is not None else None,
        )


def duplicates(dataset: Dataset, seen: Sequence[Seen]) -> list[Finding]:
    """One recording committed twice; one file under two keys."""
    subset = _subsets(dataset)
    recordings: dict[str, list[SampleKey]] = defaultdict(list)
    contents: dict[tuple[str, str], list[SampleKey]] = defaultdict(list)
    for one in seen:
        if one.recording:
            recordings[one.recording].append(one.key)
        for role, sha256 in set(one.hashes):
            contents[role, sha256].append(one.key)
    found = []
    told: set[tuple[SampleKey, ...]] = set()
    for keys in recordings.values():
        if len(keys) > 1:
            told.add(tuple(sorted(keys)))
            found.append(_duplicate("duplicates", keys, "are of one recording", subset))
    roles: dict[tuple[SampleKey, ...], list[str]] = defaultdict(list)
    for (role, _sha256), keys in contents.items():
        if len(keys) > 1:
            roles[tuple(sorted(keys))].append(role)
    for same, names in roles.items():
        if same not in told:
            what = f"hold the same {', '.join(sorted(set(names)))}, byte for byte"
            found.append(_duplicate("duplicates", same, what, subset))
    return found


def near_duplicates(dataset: Dataset, seen: Sequence[Seen]) -> list[Finding]:
    """Pictures that show the same part in the same place, within a category."""
    subset = _subsets(dataset)
    by_category: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        if one.small is not None:
            by_category[one.key.category].append(one)
    found = []
    for category, members in by_category.items():
        pairs = 0
        for pair in near_pairs(np.stack([m.small for m in members if m.small is not None])):
            first, second = members[pair.first], members[pair.second]
            if (first.recording and first.recording == second.recording) or set(first.hashes) & set(second.hashes):
                continue  # told as duplicates
            pairs += 1
            if pairs > _MOST_PAIRS:
                continue
            what = f"look the same (1 − correlation {pair.distance:.1e})"
            found.append(_duplicate("near-duplicates", [first.key, second.key], what, subset))
        if pairs > _MOST_PAIRS:
            what = f"{pairs} pairs look the same; {_MOST_PAIRS} are listed"
            found.append(Finding("near-duplicates", "warning", category, what, "look at the recordings of that day"))
    return found


def _duplicate(check: str, keys: Sequence[SampleKey], what: str, subset: dict[SampleKey, str]) -> Finding:
    keys = sorted(keys)
    labels = {key.label for key in keys}
    sides = {subset[key] for key in keys if key in subset}
    severity: Severity = "error" if check == "duplicates" else "warning"
    if len(labels) > 1:
        severity, what = "error", f"{what}, but are labelled {' and '.join(sorted(labels))}"
    if len(sides) > 1:
        severity, what = "error", f"{what}, on two sides of the split ({' and '.join(sorted(sides))})"
    hint = (
        "remove all but one; then extend the split" if check == "duplicates" else "look at both; was it captured twice?"
    )
    return Finding(check, severity, str(keys[0]), f"{_named(keys)} {what}", hint)


def consistency(_dataset: Dataset, seen: Sequence[Seen]) -> list[Finding]:
    """Settings that differ within a category; one setting of many shots (exposures, say) is one finding."""
    found = []
    by_category: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_category[one.key.category].append(one)
    for category, members in sorted(by_category.items()):
        alike: dict[tuple[str, tuple[SampleKey, ...], bool], list[tuple[str, str]]] = defaultdict(list)
        for name in sorted({name for m in members for name in m.settings}):
            counts = Counter(m.settings.get(name, "not known") for m in members)
            if len(counts) == 1:
                continue
            usual = counts.most_common(1)[0][0]
            odd = tuple(m.key for m in members if m.settings.get(name, "not known") != usual)
            listed = ", ".join(f"{value[:60]} ×{n}" for value, n in counts.most_common(4))
            mild = name == "software" or "not known" in counts
            setting = name.partition(" of ")[0]  # of which shot does not matter
            alike[setting, odd, mild].append((name, f"{listed}{', …' if len(counts) > 4 else ''}"))
        for (_setting, odd, mild), [(name, listed), *others] in alike.items():
            more = f" (and {len(others)} more shots differ alike)" if others else ""
            what = f"{name} differs: {listed}{more}; others than most have {_named(odd)}"
            hint = "capture with one recipe and derive all samples again with one calibration (`dataset rebuild`)"
            found.append(Finding("consistency", "note" if mild else "warning", category, what, hint))
    return found


def labels(dataset: Dataset, seen: Sequence[Seen]) -> list[Finding]:
    """Defects without a code in ``meta/defects.json``."""
    used = Counter(one.key.label for one in seen if not one.key.is_ok)
    try:
        missing = sorted(used.keys() - stored_defects(dataset.root).defects.keys())
    except DatasetError as error:
        return [Finding("labels", "error", "", error.message, error.hint)]
    hint = "`rakelight dataset label classes` shows the codes; the next writer keeps them"
    return [
        Finding("labels", "warning", n, f"{n} ({used[n]} samples) has no code in {DEFECTS_FILE}", hint) for n in missing
    ]


def splits(dataset: Dataset, seen: Sequence[Seen]) -> list[Finding]:
    """Specimens on two sides of the official split, samples it does not know, entries without a sample."""
    try:
        split = official_split(dataset.root)
    except RakelightError as error:
        return [Finding("splits", "error", "", error.message, error.hint)]
    if split is None:
        return []
    placed = {key: subset for subsets in split.values() for key, subset in subsets.items()}
    there = {one.key for one in seen}
    found = []
    sides: dict[tuple[str, str], dict[str, SampleKey]] = defaultdict(dict)
    for one in seen:
        if one.specimen and one.key in placed:
            sides[one.key.category, one.specimen].setdefault(placed[one.key], one.key)
    for (_category, specimen), where in sides.items():
        if len(where) > 1:
            text = " and ".join(f"{key} in {s}" for s, key in sorted(where.items()))
            what = f"specimen {specimen!r} stands on two sides of the official split: {text}"
            hint = "make the split again by specimen, under --overwrite"
            found.append(Finding("splits", "error", str(min(where.values())), what, hint))
    trained = sorted(key for key in there if not key.is_ok and placed.get(key) == "train")
    if trained:
        what = f"{len(trained)} defective samples train: {_named(trained)}"
        found.append(Finding("splits", "note", str(trained[0]), what, "right for supervised training only"))
    new = sorted(there - placed.keys())
    if new:
        what = f"{len(new)} samples are in no subset of the official split: {_named(new)}"
        found.append(Finding("splits", "note", str(new[0]), what, "`rakelight dataset split --extend` places new ones"))
    categories = {key.category for key in there}
    gone = sorted(key for key in placed.keys() - there if key.category in categories)
    if gone:
        what = f"{len(gone)} entries of the official split are no samples: {_named(gone)}"
        found.append(Finding("splits", "warning", str(gone[0]), what, "`rakelight dataset split --extend` drops them"))
    return found


def index(dataset: Dataset, _seen: Sequence[Seen]) -> list[Finding]:
    """Differences between the caches and the folders."""
    hint = "the next writer mends it, or `rakelight dataset repair`"
    return [Finding("index", "warning", "", problem, hint) for problem in dataset.index_problems()]


SETS: dict[str, Callable[[Dataset, Sequence[Seen]], list[Finding]]] = {
    "duplicates": duplicates,
    "near-duplicates": near_duplicates,
    "consistency": consistency,
    "labels": labels,
    "splits": splits,
    "index": index,
}


def _subsets(dataset: Dataset) -> dict[SampleKey, str]:
    """Where the official split has each sample; empty without one that can be read (the check of splits tells)."""
    try:
        split = official_split(dataset.root) or {}
    except RakelightError:
        return {}
    return {key: subset for subsets in split.values() for key, subset in subsets.items()}


def _named(keys: Sequence[SampleKey]) -> str:
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(map(str, keys[:_MOST_NAMED])) + more


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
