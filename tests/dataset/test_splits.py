"""Splits: shares, groups that never part, the same on every machine, what is refused, what later samples change."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.split_files import achieved_shares, digest, read_split, split_table, write_splits
from rakelight.dataset.splits import SUBSETS, Assignment, SplitItem, SplitRule, make_groups, make_splits
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError


def item(number: int, label: str = "OK", category: str = "knob_cap", **facts: str) -> SplitItem:
    return SplitItem(SampleKey(category, label, number), **facts)


def parts(
    count: int, label: str = "OK", *, each: int = 1, batches: int = 0, category: str = "knob_cap"
) -> list[SplitItem]:
    """``count`` specimens of ``each`` samples, in turn of ``batches``."""
    return [
        item(
            1 + s * each + k,
            label,
            category,
            specimen=f"{label}-{s}",
            batch=f"b{s % batches}" if batches else "",
            day=f"202511{1 + s % 7:02d}",
        )
        for s in range(count)
        for k in range(each)
    ]


def subset_of(made: Assignment) -> dict[str, str]:
    return {key: s for subsets in made.categories.values() for s, keys in subsets.items() for key in keys}


def counted(made: Assignment, label: str) -> Counter[str]:
    return Counter(s for key, s in subset_of(made).items() if SampleKey.parse(key).label == label)


def test_shares_hold_and_training_has_good_parts_only() -> None:
    items = parts(100) + parts(20, "scratch") + parts(30, "dent")
    (made,) = make_splits(items, SplitRule(seed=7))
    assert counted(made, "OK") == {"train": 70, "validation": 10, "test": 20}
    assert counted(made, "scratch") == {"test": 20}
    assert counted(made, "dent") == {"test": 30}
    assert len(subset_of(made)) == len(items)
    assert made.left_out == {}


def test_defects_validate_and_train_when_asked() -> None:
    items = parts(100) + parts(20, "scratch")
    (made,) = make_splits(items, SplitRule(validation=0.2, train=0.4, defects_in_validation=True))
    assert counted(made, "scratch") == {"validation": 7, "test": 13}  # in the ratio 0.2 to 0.4
    (made,) = make_splits(items, SplitRule(supervised=True))
    assert counted(made, "scratch") == {"train": 14, "validation": 2, "test": 4}


def test_the_split_is_the_same_on_every_machine() -> None:
    """Written down once: a change of hash, order or cut would silently change published splits."""
    (made,) = make_splits(parts(10), SplitRule(seed=7, validation=0.2, train=0.5))
    numbers = {s: [SampleKey.parse(k).number for k in keys] for s, keys in made.categories["knob_cap"].items()}
    assert numbers == {"train": [1, 2, 5, 7, 8], "validation": [3, 10], "test": [4, 6, 9]}
    row = sorted(range(10), key=lambda n: hashlib.sha256(f"7\nknob_cap\nspecimen:OK-{n}".encode()).digest())
    assert sorted(n + 1 for n in row[:5]) == numbers["train"]  # as the documentation says it
    shuffled = parts(10)[::-1]
    assert make_splits(shuffled, SplitRule(seed=7, validation=0.2, train=0.5)) == (made,)
    assert make_splits(parts(10), SplitRule(seed=8, validation=0.2, train=0.5)) != (made,)


def test_samples_of_a_specimen_stay_together() -> None:
    items = parts(40, each=3) + parts(10, "scratch", each=2)
    (made,) = make_splits(items, SplitRule(seed=1))
    where = subset_of(made)
    sides: dict[str, set[str]] = {}
    for i in items:
        sides.setdefault(i.specimen, set()).add(where[str(i.key)])
    assert all(len(s) == 1 for s in sides.values())
    assert counted(made, "OK")["train"] == 84


def test_a_specimen_in_two_batches_joins_them() -> None:
    items = [item(n, specimen=f"s{n}", batch=f"b{n % 6}") for n in range(1, 37)]
    joined = [*items, item(90, specimen="s1", batch="b2")]  # s1 is of b1
    rule = SplitRule(by="batch", train=0.5, validation=0)
    assert len(make_groups(items, rule)) == 6
    assert len(make_groups(joined, rule)) == 5
    (made,) = make_splits(joined, rule)
    where = subset_of(made)
    assert len({where[str(i.key)] for i in joined if i.batch in ("b1", "b2")}) == 1


def test_recordings_committed_twice_stay_together_also_by_sample() -> None:
    items = [item(n, recording=f"r{n // 2}") for n in range(2, 42)]
    (made,) = make_splits(items, SplitRule(by="sample", train=0.5, validation=0))
    where = subset_of(made)
    assert all(where[str(a.key)] == where[str(b.key)] for a in items for b in items if a.recording == b.recording)


def test_a_specimen_that_was_broken_later_does_not_train() -> None:
    items = parts(20) + parts(5, "scratch")
    items += [item(50 + n, "scratch", specimen=f"OK-{n}") for n in range(3)]
    (made,) = make_splits(items, SplitRule())
    where = subset_of(made)
    assert [where[f"knob_cap/OK/S{n:04d}"] for n in (1, 2, 3)] == ["test"] * 3
    assert counted(made, "OK") == {"train": 14, "validation": 2, "test": 4}  # they count for the shares


def test_mixed_batches_train_without_their_defective_parts() -> None:
    items = parts(60, batches=10) + parts(20, "scratch", batches=10)
    (made,) = make_splits(items, SplitRule(by="batch", train=0.5, validation=0.2))
    assert counted(made, "OK") == {"train": 30, "validation": 12, "test": 18}
    assert counted(made, "scratch") == {"test": 6}
    assert len(made.left_out["knob_cap"]) == 14
    batch = {str(i.key): i.batch for i in items}
    sides = {s: {batch[k] for k in keys} for s, keys in made.categories["knob_cap"].items()}
    assert not (sides["train"] & sides["test"] or sides["train"] & sides["validation"])


def test_unknown_groups_are_told() -> None:
    (made,) = make_splits([item(n) for n in range(1, 21)] + parts(5, "dent"), SplitRule())
    assert made.notes == ("20 of 25 samples do not tell their specimen: each counts as a group of its own",)


def test_categories_are_split_each_for_itself() -> None:
    one = parts(20)
    (alone,) = make_splits(one, SplitRule())
    (both,) = make_splits(one + parts(33, category="clay_pot"), SplitRule())
    assert both.categories["knob_cap"] == alone.categories["knob_cap"]


# --- folds ---


@pytest.mark.parametrize("validation", [0.0, 0.1])
def test_every_sample_is_tested_in_one_fold(validation: float) -> None:
    items = parts(50) + parts(13, "scratch")
    made = make_splits(items, SplitRule(folds=5, validation=validation))
    tested = Counter(k for fold in made for k in fold.categories["knob_cap"]["test"])
    assert tested == Counter(str(i.key) for i in items)
    for fold in made:
        assert counted(fold, "OK")["test"] == 10
        assert counted(fold, "OK")["validation"] == 50 * validation
        assert counted(fold, "scratch")["test"] in (2, 3)
        assert counted(fold, "scratch")["train"] == 0
        assert len(subset_of(fold)) + len(fold.left_out.get("knob_cap", ())) == 63


def test_folds_by_batch_never_part_a_batch() -> None:
    items = parts(60, batches=9) + parts(27, "scratch", batches=9)
    for fold in make_splits(items, SplitRule(by="batch", folds=3)):
        batch = {str(i.key): i.batch for i in items}
        sides = [{batch[k] for k in fold.categories["knob_cap"][s]} for s in SUBSETS]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


# --- what is refused, with numbers ---


def test_fewer_groups_than_folds() -> None:
    with pytest.raises(
        InputError, match=r"scratch of knob_cap has 3 group\(s\) by specimen \(6 sample\(s\)\).*5 folds"
    ):
        make_splits(parts(50) + parts(3, "scratch", each=2), SplitRule(folds=5))


def test_a_class_of_one_group() -> None:
    with pytest.raises(
        InputError, match=r"OK of knob_cap has 9 sample\(s\) in 1 group\(s\).*none is left for validation, test"
    ) as caught:
        make_splits(parts(1, each=9) + parts(4, "dent"), SplitRule())
    assert caught.value.code == "split.too_few_groups"
    with pytest.raises(InputError, match=r"dent of knob_cap has 1 sample\(s\) in 1 group\(s\)"):
        make_splits(parts(20) + parts(1, "dent"), SplitRule(defects_in_validation=True))
    (made,) = make_splits(parts(20) + parts(1, "dent"), SplitRule())  # to test with one is enough
    assert counted(made, "dent") == {"test": 1}


def test_nothing_left_to_test_with() -> None:
    with pytest.raises(InputError, match="nothing is left for training or testing") as caught:
        make_splits(parts(9), SplitRule(train=0.9, validation=0.1))
    assert caught.value.code == "split.shares"
    with pytest.raises(InputError, match="no samples"):
        make_splits([], SplitRule())


# --- later samples ---


def test_a_new_sample_moves_few_others() -> None:
    items = parts(200)
    before = subset_of(make_splits(items, SplitRule(seed=3))[0])
    moved = []
    for extra in range(20):
        after = subset_of(make_splits([*items, item(900 + extra, specimen=f"new {extra}")], SplitRule(seed=3))[0])
        moved.append(sum(after[k] != s for k, s in before.items()))
    assert max(moved) <= 2  # one beside each of the two cuts


def test_extend_keeps_what_was_and_holds_the_shares() -> None:
    items = parts(100) + parts(10, "dent")
    (first,) = make_splits(items, SplitRule())
    more = items + [replace(i, key=replace(i.key, number=i.key.number + 500)) for i in parts(100)]  # same specimens
    more += [item(2000 + n, specimen=f"later {n}") for n in range(100)] + [item(900, "pit", specimen="x")]
    (second,) = make_splits(more, SplitRule(), earlier=[subset_of(first)])
    where = subset_of(second)
    assert all(where[k] == s for k, s in subset_of(first).items())
    assert counted(second, "OK") == {"train": 210, "validation": 30, "test": 60}
    for n in range(1, 101):
        assert where[f"knob_cap/OK/S{n:04d}"] == where[f"knob_cap/OK/S{n + 500:04d}"]


def test_extended_folds_keep_their_tests() -> None:
    items = parts(40) + parts(10, "dent")
    rule = SplitRule(folds=4)
    first = make_splits(items, rule)
    more = items + [item(900 + n, specimen=f"later {n}") for n in range(20)]
    second = make_splits(more, rule, earlier=[subset_of(f) for f in first])
    for old, new in zip(first, second, strict=True):
        where = subset_of(new)
        assert all(where[k] == s for k, s in subset_of(old).items())
        assert counted(new, "OK")["test"] == 15


def test_a_corrected_label_leaves_training_and_moves_nothing() -> None:
    items = parts(20) + parts(4, "dent")
    (first,) = make_splits(items, SplitRule())
    trained = SampleKey.parse(first.categories["knob_cap"]["train"][0])
    relabelled = [
        replace(i, key=SampleKey("knob_cap", "dent", 90), identity=str(trained)) if i.key == trained else i
        for i in items
    ]
    (second,) = make_splits(relabelled, SplitRule(), earlier=[subset_of(first)])
    assert second.left_out == {"knob_cap": ("knob_cap/NG/dent/S0090",)}  # its group trained, so it cannot test
    kept = subset_of(first) | {}
    del kept[str(trained)]
    assert subset_of(second) == kept


def test_new_samples_that_join_two_sides_are_refused() -> None:
    items = parts(20, batches=20)
    (first,) = make_splits(items, SplitRule())
    train, test = (SampleKey.parse(first.categories["knob_cap"][s][0]).number - 1 for s in ("train", "test"))
    wrong = [replace(i, specimen=f"OK-{train}") if i.specimen == f"OK-{test}" else i for i in items]
    with pytest.raises(InputError, match=r"on two sides: .* in test and .* in train") as caught:
        make_splits(wrong, SplitRule(), earlier=[subset_of(first)])
    assert caught.value.code == "split.conflict"


@given(
    samples=st.lists(
        st.tuples(st.sampled_from(["OK", "dent", "pit"]), st.integers(0, 12), st.integers(0, 6)),
        min_size=1,
        max_size=60,
    ),
    by=st.sampled_from(["specimen", "batch", "sample"]),
    folds=st.sampled_from([0, 0, 3]),
    seed=st.integers(0, 5),
    supervised=st.booleans(),
)
def test_whatever_comes_nothing_leaks(
    samples: list[tuple[str, int, int]], by: str, folds: int, seed: int, supervised: bool
) -> None:
    items = [item(n, label, specimen=f"s{s}", batch=f"b{b}") for n, (label, s, b) in enumerate(samples, 1)]
    rule = SplitRule(seed=seed, by=by, folds=folds, supervised=supervised)  # type: ignore[arg-type]
    try:
        made = make_splits(items, rule)
    except InputError as error:
        assert error.code == "split.too_few_groups"
        return
    for fold in made:
        where = subset_of(fold)
        left = set(fold.left_out.get("knob_cap", ()))
        assert {str(i.key) for i in items} == set(where) | left
        assert not set(where) & left
        if by != "sample":
            for attribute in ("specimen", "batch") if by == "batch" else ("specimen",):
                sides: dict[str, set[str]] = {}
                for i in items:
                    if str(i.key) in where:
                        sides.setdefault(getattr(i, attribute), set()).add(where[str(i.key)])
                assert all(len(s) == 1 for s in sides.values())
        if not supervised:
            assert all(SampleKey.parse(k).is_ok for k in fold.categories["knob_cap"]["train"])


# --- files ---


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset.init(tmp_path / "set", "pilot")
    fill(made, 10, 4)
    return made


def fill(dataset: Dataset, good: int, bad: int, first: int = 0) -> None:
    rng = np.random.default_rng(first)
    with dataset.writer() as writer:
        for n in range(first, first + good + bad):
            label = "OK" if n < first + good else "dent"
            picture = rng.integers(0, 255, (8, 12, 3), np.uint8)
            writer.commit(
                SampleContent("knob_cap", label, "20251123021300", {5: picture}, specimen=f"p{n}", batch="lot 1")
            )


def official(dataset: Dataset) -> dict[str, list[str]]:
    document = json.loads((dataset.root / layout.JSON_FOLDER / "knob_cap.json").read_text())
    return {s: [entry["image_path"] for entry in document[s]] for s in SUBSETS}


def test_the_official_split_makes_the_jsons(dataset: Dataset) -> None:
    made = write_splits(dataset, "official", SplitRule(seed=7))
    (split,) = made.splits
    assert {s: len(paths) for s, paths in official(dataset).items()} == {"train": 7, "validation": 1, "test": 6}
    assert split_table(split) == [
        {"category": "knob_cap", "label": "OK", "train": 7, "validation": 1, "test": 2, "left_out": 0},
        {"category": "knob_cap", "label": "dent", "train": 0, "validation": 0, "test": 4, "left_out": 0},
    ]
    assert achieved_shares(split) == {"knob_cap": {"train": 0.7, "validation": 0.1, "test": 0.2}}
    assert read_split(dataset.root, "official") == (split,)
    assert dataset.index_problems() == ()
    stored = json.loads(made.paths[0].read_text())
    assert stored["schema"] == 1
    assert set(stored["categories"]["knob_cap"]) == set(SUBSETS)


def test_a_split_is_extended_and_not_replaced_unasked(dataset: Dataset) -> None:
    first = write_splits(dataset, "official", SplitRule(seed=7)).splits[0]
    fill(dataset, 10, 2, first=100)
    assert sum(map(len, official(dataset).values())) == 14  # the published split has not changed by itself
    with pytest.raises(InputError, match="differs from it") as caught:
        write_splits(dataset, "official", SplitRule(seed=8))
    assert caught.value.code == "split.exists"
    made = write_splits(dataset, "official", None)
    assert (made.kept, made.gone) == (14, 0)
    assert first.subset_of().items() <= made.splits[0].subset_of().items()
    assert {s: len(paths) for s, paths in official(dataset).items()} == {"train": 14, "validation": 2, "test": 10}
    write_splits(dataset, "official", SplitRule(seed=8), overwrite=True)


def test_folds_are_files_of_their_own(dataset: Dataset) -> None:
    before = official(dataset)
    made = write_splits(dataset, "cross", SplitRule(folds=2, validation=0))
    assert [p.name for p in made.paths] == ["cross_fold1of2.json", "cross_fold2of2.json"]
    assert read_split(dataset.root, "cross") == made.splits
    assert official(dataset) == before
    with pytest.raises(InputError, match="another number of folds"):
        write_splits(dataset, "cross", SplitRule())
    other = write_splits(dataset, "cross", SplitRule(folds=2, validation=0, seed=1), overwrite=True)
    other.paths[0].write_text(
        json.dumps(made.splits[0].model_dump(by_alias=True))
    )  # as a power cut between them leaves it
    with pytest.raises(DatasetError, match="do not belong together"):
        read_split(dataset.root, "cross")
    made.paths[0].unlink()
    with pytest.raises(DatasetError, match="not complete"):
        read_split(dataset.root, "cross")
    with pytest.raises(InputError, match="cannot have folds"):
        write_splits(dataset, "official", SplitRule(folds=2))


def test_damaged_and_absent_split_files(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="no split 'official'"):
        write_splits(dataset, "official", None)
    path = write_splits(dataset, "mine", SplitRule()).paths[0]
    text = path.read_text()
    path.write_text(text.replace('"validation": [', '"validation": [\n"knob_cap/OK/S0099",'))
    with pytest.raises(DatasetError, match="changed by hand"):
        read_split(dataset.root, "mine")
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DatasetError):
        read_split(dataset.root, "mine")
    for name in ("../x", "Official", "a_fold1of2", ""):
        with pytest.raises(InputError, match="split name"):
            write_splits(dataset, name, SplitRule())


def test_the_digest_is_of_sorted_lines(dataset: Dataset) -> None:
    split = write_splits(dataset, "mine", SplitRule()).splits[0]
    lines = sorted(f"{subset} {key}\n" for key, subset in split.subset_of().items())
    assert digest(split.categories) == hashlib.sha256("".join(lines).encode()).hexdigest() == split.sha256
