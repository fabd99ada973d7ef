"""Changes of committed samples: relabelled, replaced, annotated, removed; and interrupted anywhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rakelight.dataset import journal, layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import DatasetError, StorageError
from rakelight.files import sha256_file

H, W = 24, 32
TIME = "20251123021300"
OK1 = SampleKey("knob_cap", "OK", 1)
SCRATCH1 = SampleKey("knob_cap", "scratch", 1)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), np.uint8)


def content(label: str = "OK", seed: int = 0, **changes: Any) -> SampleContent:
    base = SampleContent("knob_cap", label, TIME, {1: picture(seed), 5: picture(seed + 1)}, ps=picture(seed + 2))
    return replace(base, **changes)


def mask(row: int = 3) -> np.ndarray:
    m = np.zeros((H, W), np.uint8)
    m[row : row + 3, 4:9] = 255
    return m


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.init(tmp_path / "set", "pilot")


def hashes(dataset: Dataset, key: SampleKey) -> dict[str, str]:
    """Token and extension of each picture → SHA-256."""
    folder = dataset.root / key.raw_folder
    return {p.name.rsplit("_", 2)[1] + p.suffix: sha256_file(p) for p in folder.iterdir()}


def assert_whole(dataset: Dataset, *keys: SampleKey) -> None:
    infos = list(dataset.samples())
    assert sorted(i.key for i in infos) == sorted(keys)
    assert [p for i in infos for p in dataset.verify_sample(i)] == []
    for info in infos:
        stored = {p for t in (info.key.raw_folder, info.key.extras_folder) for p in (dataset.root / t).rglob("*")}
        assert {p.relative_to(dataset.root).as_posix() for p in stored if p.is_file()} == {f.path for f in info.files}
    assert dataset.index_problems() == ()
    assert list((dataset.root / layout.STAGING_FOLDER).iterdir()) == []
    assert not (dataset.root / journal.JOURNAL_FILE).exists()
    assert [i.key for i in dataset.listed()] == [i.key for i in infos]
    assert [(i.modalities, i.bytes, i.revision) for i in dataset.listed()] == [
        (i.modalities, i.bytes, i.revision) for i in infos
    ]


def released(dataset: Dataset) -> Any:
    return json.loads((dataset.root / layout.JSON_FOLDER / "knob_cap.json").read_text())


# --- relabel ---


def test_ok_becomes_a_defect_and_remembers(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content())
        before, inodes = hashes(dataset, OK1), {p.stat().st_ino for p in (dataset.root / OK1.raw_folder).iterdir()}
        assert writer.relabel(OK1, "scratch", by="Ada", reason="seen under light 2") == SCRATCH1
    assert hashes(dataset, SCRATCH1) == before
    stored = list((dataset.root / SCRATCH1.raw_folder).iterdir())
    assert {p.stat().st_ino for p in stored} == inodes  # renamed, not copied
    assert all(layout.parse_sample_file(p.name)[0] == SCRATCH1 for p in stored)  # type: ignore[index]
    (change,) = OpenSample(dataset.root, SCRATCH1).manifest.labels
    assert (change.was, change.label, change.by, change.reason) == (str(OK1), "OK", "Ada", "seen under light 2")
    assert_whole(dataset, SCRATCH1)
    assert released(dataset)["train"] == []
    assert released(dataset)["test"][0]["anomaly_class"] == "scratch"
    assert not (dataset.root / OK1.raw_folder).parent.exists()  # no empty class for loaders to find


def test_defect_that_becomes_ok_hides_its_mask_and_keeps_it(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content("scratch"))
        writer.annotate(SCRATCH1, {"shapes": [1]}, mask(), mask() // 255)
        writer.relabel(SCRATCH1, "OK")
        sample = OpenSample(dataset.root, OK1)
        assert sample.mask() is None
        assert not list((dataset.root / OK1.raw_folder).glob("*.png"))
        np.testing.assert_array_equal(sample.image("former_1_mask.png"), mask())
        assert json.loads(sample.read("former_1_annotations.json") or b"") == {"shapes": [1]}
        again = writer.relabel(OK1, "dent")
        writer.annotate(again, None, mask(9))
        writer.relabel(again, "OK")
    now = SampleKey("knob_cap", "OK", 2)
    assert_whole(dataset, now)
    sample = OpenSample(dataset.root, now)
    np.testing.assert_array_equal(sample.image("former_1_mask.png"), mask())
    np.testing.assert_array_equal(sample.image("former_3_mask.png"), mask(9))
    assert [c.label for c in sample.manifest.labels] == ["scratch", "OK", "dent"]


def test_one_defect_becomes_another_and_keeps_its_mask(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content("scratch", mask=mask()))
        now = writer.relabel(SCRATCH1, "dent")
        writer.commit(content("scratch", seed=5))
    np.testing.assert_array_equal(OpenSample(dataset.root, now).mask(), mask())
    assert_whole(dataset, now, SampleKey("knob_cap", "scratch", 2))  # number 1 is not given again


@pytest.mark.parametrize(
    ("key", "label", "code"),
    [
        (OK1, "OK", "dataset.label_same"),
        (SampleKey("knob_cap", "OK", 9), "dent", "dataset.no_sample"),
        (OK1, "Dent", "dataset.name_invalid"),
        (OK1, "full", "dataset.ids_exhausted"),
    ],
)
def test_relabelling_that_cannot_be(dataset: Dataset, key: SampleKey, label: str, code: str) -> None:
    (dataset.root / layout.IDS_FILE).write_text('{"schema": 1, "last": {"knob_cap/NG/full": 9999}}')
    with dataset.writer() as writer:
        writer.commit(content())
        with pytest.raises(DatasetError) as caught:
            writer.relabel(key, label)
        assert caught.value.code == code
    assert_whole(dataset, OK1)


# --- replace, annotate, remove ---


def test_replaced_content_keeps_what_people_made(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content(specimen="part 7"))
        writer.relabel(OK1, "scratch")
        writer.annotate(SCRATCH1, {"by": "Ada"}, mask())
        old = hashes(dataset, SCRATCH1)
        done = writer.replace(SCRATCH1, content("scratch", seed=50, timestamp="20260101000000"))
        assert done.key == SCRATCH1
    new, sample = hashes(dataset, SCRATCH1), OpenSample(dataset.root, SCRATCH1)
    assert new.keys() == old.keys()
    assert [name for name in new if new[name] == old[name]] == ["RGBL05.png"]
    assert (sample.manifest.revision, sample.manifest.specimen, len(sample.manifest.labels)) == (2, "part 7", 1)
    assert all("20260101000000" in p.name for p in (dataset.root / SCRATCH1.raw_folder).iterdir())
    assert_whole(dataset, SCRATCH1)
    assert dataset.listed()[0].revision == 2


def test_replacement_of_another_size_does_not_strand_the_mask(dataset: Dataset) -> None:
    small = {5: picture(1)[:-2]}
    with dataset.writer() as writer:
        writer.commit(content("scratch", mask=mask()))
        before = hashes(dataset, SCRATCH1)
        with pytest.raises(DatasetError, match="22×32") as caught:
            writer.replace(SCRATCH1, content("scratch", rgb=small))
        assert caught.value.code == "dataset.mask_size"
        with pytest.raises(DatasetError, match="cannot replace"):
            writer.replace(SCRATCH1, content("OK"))
    assert hashes(dataset, SCRATCH1) == before
    assert_whole(dataset, SCRATCH1)


def test_annotation_comes_and_goes_whole(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content("scratch"))
        writer.annotate(SCRATCH1, {"n": 1}, mask(), mask() // 255)
        writer.annotate(SCRATCH1, {"n": 2}, mask(9))
        sample = OpenSample(dataset.root, SCRATCH1)
        assert json.loads(sample.read("annotation") or b"") == {"n": 2}
        np.testing.assert_array_equal(sample.mask(), mask(9))
        assert sample.record("classes") is None
        for bad in (mask()[:-1], np.zeros((H, W), np.uint8), mask() // 2):
            with pytest.raises(DatasetError):
                writer.annotate(SCRATCH1, {"n": 3}, bad)
        assert_whole_but_jsons(dataset)
        writer.annotate(SCRATCH1, None)
    assert [f.role for f in OpenSample(dataset.root, SCRATCH1).manifest.files if f.role in ("MASK", "annotation")] == []
    assert_whole(dataset, SCRATCH1)


def assert_whole_but_jsons(dataset: Dataset) -> None:
    assert [p for i in dataset.samples() for p in dataset.verify_sample(i)] == []


def test_ok_sample_gets_no_mask(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content())
        with pytest.raises(DatasetError) as caught:
            writer.annotate(OK1, {}, mask())
    assert caught.value.code == "dataset.mask_on_ok"
    assert_whole(dataset, OK1)


def test_removed_sample_lies_in_quarantine_with_its_reason(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        for seed in range(2):
            writer.commit(content(seed=seed))
        (dataset.root / "extras/knob_cap/OK/S0002/manifest.json").write_text("{")  # a damaged one can go too
        writer.remove(SampleKey("knob_cap", "OK", 2), "blurred")
        assert writer.commit(content(seed=9)).key.number == 3
    (folder,) = (dataset.root / layout.QUARANTINE_FOLDER).iterdir()
    assert json.loads((folder / "reason.json").read_text())["reason"] == "blurred"
    assert len(list((folder / "realiad_d3_raw/knob_cap/OK/S0002").iterdir())) == 3
    assert_whole(dataset, OK1, SampleKey("knob_cap", "OK", 3))


# --- interrupted ---

Action = Callable[[DatasetWriter], Any]
ACTIONS: dict[str, Action] = {
    "relabel": lambda w: w.relabel(SCRATCH1, "OK", by="x"),
    "replace": lambda w: w.replace(SCRATCH1, content("scratch", seed=70)),
    "annotate": lambda w: w.annotate(SCRATCH1, {"n": 2}, mask(9)),
    "remove": lambda w: w.remove(SCRATCH1, "x"),
}


class Stop(BaseException):
    """Stands for the process being killed: no handler of ours catches it."""


def state(dataset: Dataset) -> dict[str, Any]:
    """Every sample with the hashes of its files, without times and label history."""
    return {
        str(i.key): {f.path: f.sha256 for f in i.files if f.role not in ("manifest", "capture")}
        for i in dataset.samples()
    }


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("fault", ["stop", "full"])
def test_stopped_at_every_rename_it_is_finished_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: str
) -> None:
    start = Dataset.init(tmp_path / "start", "x")
    with start.writer() as writer:
        writer.commit(content("scratch", mask=mask()))
        writer.annotate(SCRATCH1, {"n": 1}, mask())
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power cut here

    def fresh(folder: Path) -> Dataset:
        return Dataset.open(shutil.copytree(start.root, folder))

    reference = fresh(tmp_path / "reference")
    states = [state(reference)]
    with reference.writer() as writer:
        ACTIONS[name](writer)
    states.append(state(reference))
    real, k, reached, seen = os.replace, 0, True, set()
    while reached:
        k += 1
        dataset = fresh(tmp_path / f"{k}")
        calls = 0

        def failing(*args: Any, k: int = k) -> None:
            nonlocal calls
            calls += 1
            if calls >= k:
                raise Stop if fault == "stop" else OSError(28, "No space left on device")
            real(*args)

        monkeypatch.setattr(os, "replace", failing)
        try:
            writer = DatasetWriter(dataset.root)
            ACTIONS[name](writer)
        except (Stop, StorageError):
            pass
        reached = calls >= k
        monkeypatch.setattr(os, "replace", real)
        with dataset.writer() as recovered:
            told = recovered.settled
        assert state(dataset) in states
        seen.add(states.index(state(dataset)))
        assert ("finished" in told) <= (state(dataset) == states[1])
        assert dataset.index_problems() == ()
        assert not (dataset.root / journal.JOURNAL_FILE).exists()
        shutil.rmtree(dataset.root)
    assert seen == {0, 1}
    assert k > 4


def test_fault_in_the_middle_is_healed_by_the_same_writer(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    real = journal.replace
    with dataset.writer() as writer:
        writer.commit(content())
        writer.commit(content(seed=4))

        def once(source: Path, target: Path) -> None:
            if target.name == "S0001" and layout.RAW_FOLDER in target.parts:
                monkeypatch.setattr(journal, "replace", real)
                raise OSError(5, "Input/output error")
            real(source, target)

        monkeypatch.setattr(journal, "replace", once)
        with pytest.raises(StorageError, match="relabelling") as caught:
            writer.relabel(OK1, "dent")
        assert "written down" in caught.value.hint
        writer.relabel(SampleKey("knob_cap", "OK", 2), "dent")
    assert_whole(dataset, SampleKey("knob_cap", "dent", 1), SampleKey("knob_cap", "dent", 2))


def interrupted(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """A replacement of the one sample, stopped after some of its renames."""
    with dataset.writer() as writer:
        writer.commit(content())
    real, calls = journal.replace, 0

    def stop(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Stop
        real(source, target)

    monkeypatch.setattr(journal, "replace", stop)
    with pytest.raises(Stop):
        DatasetWriter(dataset.root).replace(OK1, content(seed=9))
    monkeypatch.undo()


@pytest.mark.parametrize("after", [0, 1, 2])
def test_change_whose_new_files_are_gone_is_taken_back(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    interrupted(dataset, monkeypatch, after)
    shutil.rmtree(next((dataset.root / layout.STAGING_FOLDER).iterdir()) / "raw")
    with dataset.writer() as writer:
        assert "taken back" in writer.settled
    assert OpenSample(dataset.root, OK1).manifest.revision == 1
    assert_whole(dataset, OK1)


def test_change_that_can_go_neither_way_is_told(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(dataset, monkeypatch, 2)
    shutil.rmtree(next((dataset.root / layout.STAGING_FOLDER).iterdir()))
    with pytest.raises(DatasetError) as caught, dataset.writer():
        pass
    assert caught.value.code == "dataset.journal_stuck"
    assert "repair" in caught.value.hint


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "realiad_d3_raw/../../x", "meta/x", "extras", "a\\b"]
)
def test_journal_that_points_elsewhere_is_refused(dataset: Dataset, path: str) -> None:
    change = {
        "schema": 1,
        "what": "x",
        "utc": "x",
        "was": str(OK1),
        "now": None,
        "staging": ".staging/ab",
        "steps": [["extras/a", path]],
    }
    (dataset.root / journal.JOURNAL_FILE).write_text(json.dumps(change))
    with pytest.raises(DatasetError) as caught, dataset.writer():
        pass
    assert caught.value.code == "dataset.journal_damaged"


def test_class_map_and_mask_arrive_as_lossless_png(dataset: Dataset) -> None:
    classes = np.where(mask() > 0, 7, 0).astype(np.uint8)
    classes[0, 0] = 255
    with dataset.writer() as writer:
        writer.commit(content("scratch"))
        writer.annotate(SCRATCH1, {"n": 1}, mask(), classes)
    stored = cv2.imread(str(dataset.root / SCRATCH1.extras_folder / "defect_classes.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, classes)
    assert_whole(dataset, SCRATCH1)
