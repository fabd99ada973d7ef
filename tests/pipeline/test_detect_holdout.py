"""Which parts are taught and which tested: with a split, with a number, without either; and what cannot be done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rakelight.dataset.sample import SampleContent
from rakelight.dataset.split_files import write_splits
from rakelight.dataset.splits import SplitRule
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError
from rakelight.pipeline.detect_compare import compare
from rakelight.pipeline.detect_holdout import Chooser
from rakelight.pipeline.thinned_sample import opener


def made(folder: Path, labels: dict[str, list[str]], specimens: dict[int, str] | None = None) -> Dataset:
    """Category → labels of its samples; ``specimens`` by place in the list."""
    dataset = Dataset.init(folder, "pilot")
    picture, mask = np.zeros((12, 16, 3), np.uint8), np.zeros((12, 16), np.uint8)
    mask[2:4, 2:4] = 255
    xyz = np.random.default_rng(0).normal(size=(12, 16, 3)).astype(np.float32)
    with dataset.writer() as writer:
        for category, names in labels.items():
            for n, label in enumerate(names):
                writer.commit(
                    SampleContent(
                        category, label, f"202511230213{n:02d}", {5: picture + np.uint8(n)}, xyz=xyz,
                        mask=None if label == "OK" else mask, specimen=(specimens or {}).get(n, f"{category}{n}"),
                    )
                )  # fmt: skip
    return dataset


def test_without_a_split_good_parts_are_drawn_and_the_same_again(tmp_path: Path) -> None:
    dataset = made(tmp_path / "s", {"cap": ["OK"] * 10 + ["dent"] * 3})
    first, again, other = (Chooser(dataset, seed=seed).choose("cap") for seed in (0, 0, 1))
    assert first == again and set(first.teach) != set(other.teach)
    assert (len(first.teach), len(first.test)) == (6, 7) and not set(first.teach) & set(first.test)
    assert all(key.is_ok for key in first.teach)
    assert first.how == "no split: taught 6 of 10 good parts, drawn with seed 0; tested 4 good and 3 defective"
    assert first.to_dict()["tested"] == {"good": 4, "defective": 3}


def test_a_specimen_is_never_taught_and_tested(tmp_path: Path) -> None:
    pairs = {n: f"piece{n // 2}" for n in range(12)}
    dataset = made(tmp_path / "s", {"cap": ["OK"] * 12}, pairs)
    for seed in range(5):
        chosen = Chooser(dataset, seed=seed).choose("cap")
        taught = {int(str(k)[-4:]) for k in chosen.teach}
        assert all((n % 2 == 1 and n + 1 in taught) or (n % 2 == 0 and n - 1 in taught) for n in taught)


def test_captures_of_taught_specimens_are_not_tested(tmp_path: Path) -> None:
    pairs = {n: f"piece{n // 2}" for n in range(12)} | {12: "piece0"}  # the last: scratched later
    dataset = made(tmp_path / "s", {"cap": ["OK"] * 12 + ["scratch"]}, pairs)
    chosen = Chooser(dataset, parts=5).choose("cap")
    assert [str(key)[-5:] for key in chosen.test] == [f"S{n:04d}" for n in range(7, 13)]
    assert "2 other captures of these specimens left out; tested 6 good and 0 defective" in chosen.how


def test_numbers_and_splits_are_kept_to(tmp_path: Path) -> None:
    dataset = made(tmp_path / "s", {"cap": ["OK"] * 8 + ["dent"] * 2})
    first = Chooser(dataset, parts=5).choose("cap")
    assert [str(k)[-5:] for k in first.teach] == [f"S000{n}" for n in range(1, 6)] and len(first.test) == 5
    assert first.how.startswith("taught the first 5 of 8 good parts (--parts 5)")
    write_splits(dataset, "official", SplitRule(train=0.5, validation=0.25))
    split = Chooser(dataset).choose("cap")
    assert (len(split.teach), len(split.test)) == (4, 4) and "training part of split official" in split.how


def test_too_few_parts_are_said_with_their_number(tmp_path: Path) -> None:
    dataset = made(
        tmp_path / "s",
        {"few": ["OK"] * 2 + ["dent"], "three": ["OK"] * 3 + ["dent"], "bad": ["dent"], "all": ["OK"] * 3},
    )
    with pytest.raises(DatasetError, match="2 good parts of 'few' to teach") as told:
        Chooser(dataset).choose("few")
    assert told.value.code == "detect.too_few_parts"
    assert [len(x) for x in (Chooser(dataset).choose("three").teach, Chooser(dataset).choose("three").test)] == [3, 1]
    with pytest.raises(DatasetError, match="no good part of 'bad'"):
        Chooser(dataset).choose("bad")
    with pytest.raises(DatasetError, match="no part of 'all' to test"):
        Chooser(dataset).choose("all")
    with pytest.raises(DatasetError, match="no category 'cup'; it has: all, bad, few, three"):
        compare(dataset, ["few", "cup"], [])


def test_a_thinned_sample_has_every_second_point_along_both_axes(tmp_path: Path) -> None:
    dataset = made(tmp_path / "s", {"cap": ["OK"]})
    key = next(iter(dataset.samples())).key
    whole, thin = (opener(times)(dataset.root, key).xyz() for times in (1, 4))
    assert whole is not None and thin is not None
    np.testing.assert_array_equal(thin, whole[::2, ::2])
    with pytest.raises(ValueError, match="3 times fewer points: a square number"):
        opener(3)
