"""Which samples an export takes, and into which part of the split each goes.

The split is read from ``meta/splits/<name>.json``. Without one, parts follow the label: OK is ``train``, defective ones
are ``test``, and the export says what that is not good for. What a format cannot hold is left out by name and reason,
never silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.split_files import OFFICIAL, read_split, split_names
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
_PART: dict[str, Part] = {part: part for part in PARTS}
BY_LABEL = "by label"
NO_COORDINATES = ("placeholder", "pixel_index")  # what x and y of an XYZ map may hold instead
GOOD = "good"
_NAMED = 3  # samples named in one warning


@dataclass(frozen=True)
class Item:
    """One sample to export: its part, and its running number within (category, part, label) as text, zero-padded."""

    sample: OpenSample
    part: Part
    name: str = ""

    @property
    def key(self) -> SampleKey:
        return self.sample.key

    @property
    def label(self) -> str:
        """``good`` or the defect's name, as the MVTec trees call the classes."""
        return GOOD if self.key.is_ok else self.key.label


@dataclass(frozen=True)
class Needs:
    """What a format asks of its samples.

    Attributes
    ----------
    xyz, mask : bool
        An XYZ map; a mask for each defective sample.
    views : tuple of str
        Pictures that must be there (``"RGBL05"``, ``"PS"``).
    parts : tuple of str
        Parts that the format knows.
    coordinates : bool
        It hands out XYZ maps whose x and y should be coordinates.
    good_validation : bool
        Its validation part holds good samples only.
    train_good : bool
        Its train part holds good samples only.
    """

    xyz: bool = False
    mask: bool = False
    views: tuple[str, ...] = ("RGBL05",)
    parts: tuple[Part, ...] = PARTS
    coordinates: bool = False
    good_validation: bool = False
    train_good: bool = True


@dataclass(frozen=True)
class Plan:
    """The samples to export, in order of category, part, label and number.

    ``skipped`` holds those left out as (key, reason), ``split_sha256`` the hash of the split's file ("" without one).
    """

    items: tuple[Item, ...]
    split: str
    split_sha256: str
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({i.key.category for i in self.items}))

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Category → part → label (``good`` or the defect) → number of samples."""
        result: dict[str, dict[str, dict[str, int]]] = {}
        for item in self.items:
            labels = result.setdefault(item.key.category, {}).setdefault(item.part, {})
            labels[item.label] = labels.get(item.label, 0) + 1
        return result

    def having(self, keep: Callable[[Item], str]) -> Plan:
        """The plan without the samples for which ``keep`` gives a reason to leave them out."""
        reasons = [(item, keep(item)) for item in self.items]
        out = tuple((str(i.key), reason) for i, reason in reasons if reason)
        return replace(self, items=_numbered(i for i, reason in reasons if not reason), skipped=self.skipped + out)


def make_plan(dataset: Dataset, *, categories: Iterable[str] = (), split: str | None = None, needs: Needs) -> Plan:
    """Choose the samples of an export.

    Parameters
    ----------
    dataset : Dataset
    categories : iterable of str
        Only these; all if empty.
    split : str, optional
        Name of a split of the data set. Default: ``official`` if there is one, else parts follow the label.
    needs : Needs

    Raises
    ------
    DatasetError
        ``export.category_unknown``, ``export.split_unknown``; ``split.invalid``; ``export.empty`` if nothing is left; a
        sample's manifest cannot be read.
    """
    chosen = _categories(dataset, tuple(categories))
    name, sha256, part_of, warnings = _split(dataset.root, split)
    named = {key.split("/")[0] for key in part_of}
    if sha256:
        unnamed = [c for c in chosen if c not in named]
        warnings += [f"{c}: not in the split {name!r}: OK goes to train, defective to test" for c in unnamed]
    items: list[Item] = []
    skipped: list[tuple[str, str]] = []
    found = set()
    for category in chosen:
        for sample in open_samples(dataset.root, category):
            text = str(sample.key)
            found.add(text)
            part: Part | None = part_of.get(text) if category in named else "train" if sample.key.is_ok else "test"
            reason = f"not in the split {name!r}" if part is None else _unfit(sample, part, needs)
            if part is None or reason:
                skipped.append((text, reason))
            else:
                items.append(Item(sample, part))
    lost = sorted(k for k in part_of if k not in found and k.split("/")[0] in chosen)
    if lost:
        warnings.append(
            f"the split {name!r} names {len(lost)} sample(s) that the data set does not have: {_some(lost)}"
        )
    plan = Plan(_numbered(items), name, sha256, tuple(skipped), tuple(warnings))
    check_not_empty(plan)
    return replace(plan, warnings=(*plan.warnings, *_usefulness(plan, needs, by_label=not sha256)))


def check_not_empty(plan: Plan) -> None:
    """Raise :class:`DatasetError` (``export.empty``) if no sample is left, naming the commonest reasons."""
    if plan.items:
        return
    reasons = Counter(reason for _, reason in plan.skipped).most_common(_NAMED)
    told = "; ".join(f"{count} × {reason}" for reason, count in reasons) or "the data set has none"
    raise DatasetError(
        f"no sample can be exported: {told}",
        hint="choose another format, split or category; `rakelight dataset show` lists what each sample has",
        code="export.empty",
    )


def _categories(dataset: Dataset, wanted: tuple[str, ...]) -> tuple[str, ...]:
    there = dataset.categories()
    unknown = sorted(set(wanted) - set(there))
    if unknown:
        raise DatasetError(
            f"the data set has no category {unknown[0]!r}; it has: {', '.join(there) or 'none'}",
            hint="`rakelight dataset show` lists the samples",
            code="export.category_unknown",
        )
    return tuple(c for c in there if not wanted or c in wanted)


def _split(root: Path, name: str | None) -> tuple[str, str, dict[str, Part], list[str]]:
    """Name, hash of the split, part of each sample, warnings."""
    there = split_names(root)
    if (name or OFFICIAL) in there:
        wanted = name or OFFICIAL
        found = next(s for s in read_split(root, wanted.split("_fold")[0]) if s.name == wanted)
        parts = {str(SampleKey.parse(key)): _PART[subset] for key, subset in found.subset_of().items()}
        return wanted, found.sha256, parts, []
    if name is not None:
        raise DatasetError(
            f"the data set has no split {name!r}; it has: {', '.join(there) or 'none'}",
            hint="make one with `rakelight dataset split`",
            code="export.split_unknown",
        )
    told = "no split was made: OK samples go to train, defective ones to test; make one with `rakelight dataset split`"
    return BY_LABEL, "", {}, [told]


def _unfit(sample: OpenSample, part: Part, needs: Needs) -> str:
    """Why the format cannot hold the sample in this part, "" if it can."""
    ok = sample.key.is_ok
    has = set(sample.modalities)
    missing = next((v for v in needs.views if v not in has), None)
    if missing is not None:
        return f"it has no {missing} picture"
    if needs.xyz and "XYZ" not in has:
        return "it has no XYZ map, which this format's loaders demand"
    if part not in needs.parts:
        return f"the format has no {part} part"
    if part == "train" and not ok and needs.train_good:
        return "it is defective, and the format's train part holds good samples only"
    if part == "validation" and not ok and needs.good_validation:
        return "it is defective, and the format's validation part holds good samples only"
    if needs.mask and not ok and part != "train" and "MASK" not in has:
        return "it is defective and has no mask, which this format's loaders demand"
    return ""


def _numbered(items: Iterable[Item]) -> tuple[Item, ...]:
    """In order, each with its running number within (category, part, label); three digits, more where needed."""

    def group(item: Item) -> tuple[str, int, str]:
        return item.key.category, PARTS.index(item.part), item.label

    ordered = sorted(items, key=lambda i: (*group(i), i.key.number))
    totals = Counter(group(i) for i in ordered)
    counters: Counter[Any] = Counter()
    result = []
    for item in ordered:
        width = max(3, len(str(totals[group(item)] - 1)))  # one width a folder: loaders pair by sorted order
        result.append(replace(item, name=f"{counters[group(item)]:0{width}d}"))
        counters[group(item)] += 1
    return tuple(result)


def _usefulness(plan: Plan, needs: Needs, *, by_label: bool) -> Iterator[str]:
    cure = "make a split with good test samples by `rakelight dataset split`" if by_label else "the split has none"
    for category, parts in plan.counts().items():
        test = parts.get("test", {})
        if "train" not in parts:
            yield f"{category}: no sample to train on"
        if not test:
            yield f"{category}: no sample to test on"
        elif GOOD not in test:
            yield f"{category}: no good sample in test, so AUROC cannot be computed; {cure}"
        elif len(test) == 1:
            yield f"{category}: no defective sample in test, so AUROC cannot be computed"
    placeholders = [str(i.key) for i in plan.items if i.sample.manifest.xyz_xy in NO_COORDINATES]
    if needs.coordinates and placeholders:
        yield (
            f"x and y of {len(placeholders)} XYZ map(s) are no coordinates but placeholders or pixel numbers: "
            f"{_some(placeholders)}"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")


def raw_name(item: Item) -> str:
    """``S0001``: the sample's own number, for the trees that keep it."""
    return f"S{item.key.number:04d}"
