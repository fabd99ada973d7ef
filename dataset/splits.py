"""Which samples train, validate and test: by groups that must stay together, reproducible on every machine.

**Groups.** A group is what must not stand on both sides of a split: the samples of one specimen, of one batch or of one day,
within a category. Grouping is transitive: by batch or by day a specimen that was captured in two of them joins the two, and
two samples of one recording are never parted.

**Place.** Each group has a place in [0, 1) that is a hash of seed, category and the group's name alone (SHA-256, so it is
the same on every machine). In each class the groups are put in the order of their places and the row is cut at the shares.
A group that comes or goes moves a cut by its own size and so re-assigns the few groups beside the cuts, not the rest, while
the shares hold exactly. (A place compared with fixed thresholds would move nothing, but miss the shares of small classes.)

**Classes.** A group of several labels counts for the rarest of them. Training takes good parts only. By specimen or by
sample a group with a defective member therefore never trains; by batch and by day good and defective parts are mixed
on purpose, so such a group may train with its good parts, and its defective ones are left out of the split.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pydantic import Field

from rakelight.config import Model
from rakelight.dataset.layout import OK, SampleKey
from rakelight.errors import InputError

By = Literal["specimen", "batch", "day", "sample"]
BY: tuple[By, ...] = get_args(By)
SUBSETS = ("train", "validation", "test")
LEFT_OUT = "left_out"


class SplitRule(Model):
    """How a split is made; it stands in the split's file, so that it can be extended by the same rule.

    Attributes
    ----------
    seed : int
    by : "specimen", "batch", "day" or "sample"
        What stays together; ``sample`` keeps only samples of one recording together.
    train, validation : float
        Shares of the good parts, the rest is for testing. With folds ``train`` has no meaning: it is what remains.
    folds : int
        0, or the number of parts for cross-validation: each group is tested in exactly one.
    supervised : bool
        Defective parts are shared out as good ones are, also to ``train``.
    defects_in_validation : bool
        Defective parts also go to ``validation``, in the ratio of validation to test.
    """

    seed: int = 0
    by: By = "specimen"
    train: float = Field(default=0.7, gt=0, lt=1)
    validation: float = Field(default=0.1, ge=0, lt=1)
    folds: int = Field(default=0, ge=0, le=100)
    supervised: bool = False
    defects_in_validation: bool = False

    @property
    def shares(self) -> tuple[float, float, float]:
        """Wanted shares of train, validation and test."""
        test = 1 / self.folds if self.folds else 1 - self.train - self.validation
        return 1 - self.validation - test, self.validation, test


@dataclass(frozen=True)
class SplitItem:
    """What a split has to know of a sample; an empty string is "not known".

    ``identity`` is the first key the sample ever had, so that a corrected label does not move it. ``day`` is YYYYMMDD.
    """

    key: SampleKey
    identity: str = ""
    specimen: str = ""
    batch: str = ""
    day: str = ""
    recording: str = ""


@dataclass(frozen=True)
class Assignment:
    """One split: category → subset → keys, in order; ``left_out`` are samples in none; ``notes`` are for people."""

    categories: dict[str, dict[str, tuple[str, ...]]]
    left_out: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Group:
    name: str
    place: float
    items: tuple[SplitItem, ...] = field(repr=False)

    def count(self, label: str) -> int:
        return sum(item.key.label == label for item in self.items)

    @property
    def labels(self) -> set[str]:
        return {item.key.label for item in self.items}


Earlier = Mapping[str, str]  # identity or key → subset


def make_splits(
    items: Iterable[SplitItem], rule: SplitRule, *, earlier: Sequence[Earlier] | None = None
) -> tuple[Assignment, ...]:
    """Share out samples by ``rule``: one split, or one a fold.

    Parameters
    ----------
    items : iterable of SplitItem
    rule : SplitRule
    earlier : sequence of mapping, optional
        Of each split that is extended: sample key → subset. What it assigns stays; new groups fill up the shares.

    Raises
    ------
    InputError
        ``split.shares``, ``split.empty``; ``split.too_few_groups`` if a class has fewer groups than subsets it must be in or
        than folds; ``split.conflict`` if new samples join groups that ``earlier`` has on two sides.
    """
    _check_rule(rule)
    by_category: dict[str, list[SplitItem]] = defaultdict(list)
    for item in items:
        by_category[item.key.category].append(item)
    if not by_category:
        raise InputError("there are no samples to split", hint="add samples first", code="split.empty")
    count = rule.folds or 1
    before = list(earlier) if earlier is not None else [{}] * count
    if len(before) != count:
        raise InputError(f"{len(before)} earlier folds are given; the rule has {count}", code="split.folds")
    notes = _notes([i for group in by_category.values() for i in group], rule)
    made: list[dict[str, dict[str, list[str]]]] = [{} for _ in range(count)]
    for category in sorted(by_category):
        groups = make_groups(by_category[category], rule)
        fixed = [_fixed(groups, mapping) for mapping in before]
        parts = _fold(groups, rule, fixed) if rule.folds else [_single(groups, rule, fixed[0])]
        for number, placed in enumerate(parts):
            subsets = _subsets(groups, placed, rule)
            _check_whole(category, groups, subsets, rule, f" of fold {number + 1}" if rule.folds else "")
            made[number][category] = {name: sorted(map(str, keys)) for name, keys in subsets.items()}
    return tuple(
        Assignment(
            {c: {s: tuple(subsets[s]) for s in SUBSETS} for c, subsets in categories.items()},
            {c: tuple(subsets[LEFT_OUT]) for c, subsets in categories.items() if subsets[LEFT_OUT]},
            notes,
        )
        for categories in made
    )


def make_groups(items: Iterable[SplitItem], rule: SplitRule) -> list[_Group]:
    """The groups of one category in the order of their places; see the module's text for what joins them."""
    items = sorted(items, key=lambda item: item.key)
    parent = list(range(len(items)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    seen: dict[tuple[str, str], int] = {}
    for i, item in enumerate(items):
        for atom in _atoms(item, rule.by):
            parent[root(i)] = root(seen.setdefault(atom, i))
    members: dict[int, list[SplitItem]] = defaultdict(list)
    for i, item in enumerate(items):
        members[root(i)].append(item)
    groups = []
    for together in members.values():
        name = min(_name(item, rule.by) for item in together)  # the same whatever joins later, but for an earlier name
        groups.append(_Group(name, _place(rule.seed, together[0].key.category, name), tuple(together)))
    return sorted(groups, key=lambda group: (group.place, group.name))


def _atoms(item: SplitItem, by: By) -> list[tuple[str, str]]:
    """What an item shares with others of its group."""
    found = {"recording": item.recording}
    if by != "sample":
        found["specimen"] = item.specimen
    if by in ("batch", "day"):
        found[by] = item.batch if by == "batch" else item.day
    return [(kind, value) for kind, value in found.items() if value]


def _name(item: SplitItem, by: By) -> str:
    value = {"specimen": item.specimen, "batch": item.batch, "day": item.day, "sample": ""}[by]
    return f"{by}:{value}" if value else f"sample:{item.identity or item.key}"


def _place(seed: int, category: str, name: str) -> float:
    digest = hashlib.sha256(f"{seed}\n{category}\n{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _check_rule(rule: SplitRule) -> None:
    train, validation, test = rule.shares
    if rule.folds == 1 or min(train, test) < 1e-9:
        raise InputError(
            f"nothing is left for training or testing: train {train:.3g}, validation {validation:.3g}, test {test:.3g}"
            + (f" with {rule.folds} folds" if rule.folds else ""),
            hint="train + validation must be less than 1, and folds 2 or more",
            code="split.shares",
        )


def _fixed(groups: Sequence[_Group], earlier: Earlier) -> dict[str, str]:
    """Group name → subset that an earlier split gave to its members; refuses two of them."""
    fixed: dict[str, str] = {}
    for group in groups:
        found: dict[str, SampleKey] = {}
        for item in group.items:
            subset = earlier.get(str(item.key)) or earlier.get(item.identity)
            if subset is not None:
                found.setdefault(subset, item.key)
        if len(found) > 1:
            sides = " and ".join(f"{key} in {subset}" for subset, key in sorted(found.items()))
            raise InputError(
                f"{group.name} now joins samples that the earlier split has on two sides: {sides}",
                hint="correct the specimen or batch of the new samples, or make a new split under another name",
                code="split.conflict",
            )
        fixed.update(dict.fromkeys([group.name], *found) if found else {})
    return fixed


def _strata(groups: Sequence[_Group], rule: SplitRule) -> list[tuple[str, list[_Group]]]:
    """(label, groups that count for it), the rarest defect first and good parts last, since they even out what is before."""
    total = Counter(item.key.label for group in groups for item in group.items)
    strata: dict[str, list[_Group]] = defaultdict(list)
    for group in groups:
        strata[min(group.labels, key=lambda label: (label == OK, total[label], label))].append(group)
    return sorted(strata.items(), key=lambda entry: (entry[0] == OK, total[entry[0]], entry[0]))


def _trains(group: _Group, rule: SplitRule) -> bool:
    return rule.supervised or rule.by in ("batch", "day") or group.labels == {OK}


def _single(groups: Sequence[_Group], rule: SplitRule, fixed: Mapping[str, str]) -> dict[str, str]:
    """Group name → subset."""
    placed = dict(fixed)
    for label, stratum in _strata(groups, rule):
        shares = dict(zip(SUBSETS, rule.shares, strict=True))
        if not _trains(stratum[0], rule):
            shares["train"] = 0.0
            shares["validation"] *= rule.defects_in_validation
        order = ("train", "test", "validation") if label == OK else ("test", "train", "validation")
        _share_out(stratum, groups, label, shares, order, placed)
    return placed


def _fold(groups: Sequence[_Group], rule: SplitRule, fixed: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Of each fold group name → subset or ``LEFT_OUT``."""
    names = [str(k) for k in range(rule.folds)]
    _check_folds(groups, rule)
    tested = {name: k for k, mapping in zip(names, fixed, strict=True) for name, s in mapping.items() if s == "test"}
    for label, stratum in _strata(groups, rule):
        _share_out(stratum, groups, label, dict.fromkeys(names, 1 / rule.folds), tuple(names), tested)
    folds = []
    for k, mapping in zip(names, fixed, strict=True):
        placed = {g.name: "test" for g in groups if tested[g.name] == k}
        placed |= {name: subset for name, subset in mapping.items() if name not in placed and subset != "test"}
        for label, stratum in _strata(groups, rule):
            train, validation, _test = rule.shares
            rest = [g for g in stratum if g.name not in placed]
            if not _trains(stratum[0], rule) and not rule.defects_in_validation:
                placed |= {g.name: LEFT_OUT for g in rest}
                continue
            first = "train" if _trains(stratum[0], rule) else LEFT_OUT
            pool = [g for g in stratum if placed.get(g.name) != "test"]
            order = ("train", "validation") if label == OK else ()
            turned = sorted(pool, key=lambda g, k=k: _place(rule.seed, f"validation {k}", g.name))  # type: ignore[misc]
            _share_out(turned, pool, label, {first: train, "validation": validation}, order, placed)
        folds.append(placed)
    return folds


def _check_folds(groups: Sequence[_Group], rule: SplitRule) -> None:
    category = groups[0].items[0].key.category
    for label in sorted({label for group in groups for label in group.labels}):
        count = sum(label in group.labels for group in groups)
        if count < rule.folds:
            samples = sum(group.count(label) for group in groups)
            raise InputError(
                f"{label} of {category} has {count} group(s) by {rule.by} ({samples} sample(s)), fewer than the "
                f"{rule.folds} folds; each is tested in one fold only",
                hint=f"use at most {count} folds, or capture more"
                if count > 1
                else "capture more, or do without folds",
                code="split.too_few_groups",
            )


def _share_out(
    stratum: Sequence[_Group],
    everything: Sequence[_Group],
    label: str,
    shares: Mapping[str, float],
    order: Sequence[str],
    placed: dict[str, str],
) -> None:
    """Cut the row of groups not yet placed so that samples of ``label`` come to ``shares``; extends ``placed``.

    ``order`` lists the subsets that must not stay empty, the most important first.
    """
    row = [group for group in stratum if group.name not in placed]
    if not row:
        return
    have: Counter[str] = Counter()
    for group in everything:
        if group.name in placed:
            have[placed[group.name]] += group.count(label)
    names = [name for name in shares if shares[name] > 1e-9]
    weights = [group.count(label) for group in row]
    total = sum(have[name] for name in names) + sum(weights)
    scale = sum(shares[name] for name in names)
    quotas = [max(0.0, total * shares[name] / scale - have[name]) for name in names]
    needy = [name for name in order if name in names and not have[name]][: len(row)]
    ends = _cuts(weights, quotas, [name in needy for name in names])
    start = 0
    for name, end in zip(names, ends, strict=True):
        placed.update({group.name: name for group in row[start:end]})
        start = end


def _cuts(weights: Sequence[int], quotas: Sequence[float], needs: Sequence[bool]) -> list[int]:
    """Where to end each run of a row, nearest to the quotas, with at least one of the row for each that needs it."""
    sums = [0.0]
    for weight in weights:
        sums.append(sums[-1] + weight)
    wanted = sum(quotas)
    ends, start, target = [], 0, 0.0
    for number, quota in enumerate(quotas[:-1]):
        target += quota * sums[-1] / wanted if wanted else 0.0
        least = start + needs[number]
        most = len(weights) - sum(needs[number + 1 :])
        start = min(range(least, most + 1), key=lambda i: abs(sums[i] - target))
        ends.append(start)
    return [*ends, len(weights)]


def _subsets(groups: Sequence[_Group], placed: Mapping[str, str], rule: SplitRule) -> dict[str, list[SampleKey]]:
    """Subset → samples, where defective parts that may not be there are left out."""
    refused = {"train"} | (set() if rule.defects_in_validation else {"validation"})
    found: dict[str, list[SampleKey]] = {name: [] for name in (*SUBSETS, LEFT_OUT)}
    for group in groups:
        subset = placed[group.name]
        for item in group.items:
            barred = subset in refused and not item.key.is_ok and not rule.supervised
            found[LEFT_OUT if barred else subset].append(item.key)
    return found


def _check_whole(
    category: str, groups: Sequence[_Group], subsets: Mapping[str, list[SampleKey]], rule: SplitRule, where: str
) -> None:
    """Refuse a split in which a class is absent where it must be."""
    for label in sorted({label for group in groups for label in group.labels}):
        needed = [s for s, share in zip(SUBSETS, rule.shares, strict=True) if share > 1e-9]
        if label != OK and not rule.supervised:
            needed = ["validation"] * (rule.defects_in_validation and "validation" in needed) + ["test"]
        lacking = [s for s in needed if not any(key.label == label for key in subsets[s])]
        if not lacking:
            continue
        holding = [group for group in groups if label in group.labels]
        pure = sum(group.labels == {label} for group in holding)
        samples = sum(group.count(label) for group in holding)
        raise InputError(
            f"{label} of {category} has {samples} sample(s) in {len(holding)} group(s) by {rule.by}, {pure} of them without "
            f"other labels; it is needed in {', '.join(needed)}, and none is left for {', '.join(lacking)}{where}",
            hint="capture more specimens of it, group by less (--by), or ask for fewer subsets (--validation 0)",
            code="split.too_few_groups",
        )


def _notes(items: Sequence[SplitItem], rule: SplitRule) -> tuple[str, ...]:
    value: dict[str, Callable[[SplitItem], str]] = {
        "specimen": lambda i: i.specimen,
        "batch": lambda i: i.batch,
        "day": lambda i: i.day,
    }
    if rule.by == "sample":
        return ("by sample: several samples of one specimen may stand on both sides",)
    unknown = sum(not value[rule.by](item) for item in items)
    text = f"{unknown} of {len(items)} samples do not tell their {rule.by}: each counts as a group of its own"
    return (text,) if unknown else ()
