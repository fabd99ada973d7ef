"""Which samples an export takes: splits, what a format cannot hold, and what is told of it."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from rakelight.dataset.exporters.plan import BY_LABEL, Needs, make_plan
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError


def parts(plan: Any) -> dict[str, str]:
    return {str(i.key): i.part for i in plan.items}


def test_the_official_split_decides_when_there_is_one(small_set: Dataset) -> None:
    plan = make_plan(small_set, needs=Needs())
    assert plan.split == "official" and len(plan.split_sha256) == 64
    assert plan.warnings == () and plan.skipped == ()
    assert plan.counts()["knob_cap"] == {
        "train": {"good": 2},
        "validation": {"good": 2},
        "test": {"good": 2, "pit": 1, "scratch": 2},
    }
    assert parts(plan)["knob_cap/OK/S0003"] == "test"


def test_numbers_run_within_part_and_label_in_the_samples_order(small_set: Dataset) -> None:
    plan = make_plan(small_set, categories=["knob_cap"], needs=Needs())
    named = [(str(i.key), i.part, i.label, i.name) for i in plan.items]
    assert named[:2] == [("knob_cap/OK/S0001", "train", "good", "000"), ("knob_cap/OK/S0004", "train", "good", "001")]
    assert ("knob_cap/NG/scratch/S0002", "test", "scratch", "001") in named
    assert all(i.key.category == "knob_cap" for i in plan.items)


def test_without_a_split_the_label_decides_and_that_is_told(make_set: Any) -> None:
    made = make_set([("knob_cap", "OK", {}), ("knob_cap", "pit", {})], split=False)
    plan = make_plan(made, needs=Needs())
    assert plan.split == BY_LABEL and plan.split_sha256 == ""
    assert parts(plan) == {"knob_cap/OK/S0001": "train", "knob_cap/NG/pit/S0001": "test"}
    told = " ".join(plan.warnings)
    assert "rakelight dataset split" in told
    assert "no good sample in test, so AUROC cannot be computed" in told


def test_a_category_that_the_split_does_not_name_follows_the_label(make_set: Any, toy: Any) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3)
    with made.writer() as writer:
        writer.commit(toy.make_sample(np.random.default_rng(1), "lego_propeller", "OK"))
        writer.commit(toy.make_sample(np.random.default_rng(1), "knob_cap", "OK"))
    plan = make_plan(made, needs=Needs())
    assert parts(plan)["lego_propeller/OK/S0001"] == "train"
    assert any("lego_propeller: not in the split" in w for w in plan.warnings)
    assert plan.skipped == (("knob_cap/OK/S0004", "not in the split 'official'"),)


def test_samples_of_the_split_that_are_gone_are_told(make_set: Any) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3)
    key = SampleKey("knob_cap", "OK", 2)
    for folder in (key.raw_folder, key.extras_folder):
        shutil.rmtree(made.root / folder)
    plan = make_plan(made, needs=Needs())
    assert any("1 sample(s) that the data set does not have: knob_cap/OK/S0002" in w for w in plan.warnings)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [({"categories": ["bottle"]}, "export.category_unknown"), ({"split": "by_day"}, "export.split_unknown")],
)
def test_unknown_names_are_refused_with_those_there_are(small_set: Dataset, arguments: Any, code: str) -> None:
    with pytest.raises(DatasetError) as caught:
        make_plan(small_set, needs=Needs(), **arguments)
    assert caught.value.code == code
    assert ("knob_cap" in caught.value.message) or ("official" in caught.value.message)


def test_another_split_can_be_named(make_set: Any, toy: Any) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3, split=False)
    toy.write_split(made, "other")
    assert make_plan(made, needs=Needs()).split == BY_LABEL
    assert make_plan(made, split="other", needs=Needs()).split == "other"


def test_what_a_format_cannot_hold_is_left_out_by_reason(make_set: Any) -> None:
    made = make_set(
        [
            ("knob_cap", "OK", {}),
            ("knob_cap", "OK", {"xyz": None}),
            ("knob_cap", "OK", {"ps": None}),
            ("knob_cap", "pit", {"masked": False}),
        ],
        split=False,
    )
    plan = make_plan(made, needs=Needs(xyz=True, mask=True, views=("RGBL05", "PS")))
    assert [str(i.key) for i in plan.items] == ["knob_cap/OK/S0001"]
    reasons = dict(plan.skipped)
    assert "no XYZ map" in reasons["knob_cap/OK/S0002"]
    assert "no PS picture" in reasons["knob_cap/OK/S0003"]
    assert "has no mask" in reasons["knob_cap/NG/pit/S0001"]
    assert any("no sample to test on" in w for w in plan.warnings)
    assert len(make_plan(made, needs=Needs()).items) == 4


def test_nothing_left_is_an_error_that_says_why(make_set: Any) -> None:
    made = make_set([("knob_cap", "OK", {"xyz": None})] * 2, split=False)
    with pytest.raises(DatasetError, match="2 × it has no XYZ map") as caught:
        make_plan(made, needs=Needs(xyz=True))
    assert caught.value.code == "export.empty"
