"""Verify, repair, migrate: every kind of damage is told with its next step, and mended where it can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rakelight.cli.dataset import dataset as command
from rakelight.dataset import journal, layout
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.repair import migrate, repair
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.split_files import write_splits
from rakelight.dataset.splits import SplitRule
from rakelight.dataset.verify import Problem, verify
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import DatasetError
from rakelight.files import write_bytes

TIME = "20251123021300"
RAW1 = f"realiad_d3_raw/knob_cap/OK/S0001/knob_cap_0001_OK_RGBL05_{TIME}.jpg"
EXTRAS1 = "extras/knob_cap/OK/S0001"
GOLDEN = Path(__file__).resolve().parents[1] / "data/dataset_schema_1"


def content(label: str = "OK", seed: int = 0) -> SampleContent:
    picture = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    return SampleContent("knob_cap", label, TIME, {5: picture}, capture={"seed": seed})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Dataset.init(tmp_path_factory.mktemp("sound") / "set", "x")
    with made.writer() as writer:
        for seed in range(2):
            writer.commit(content(seed=seed))
        writer.commit(content("scratch", 5))
    return made.root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "set"))


def run(*arguments: Any) -> tuple[int, Any]:
    done = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("quick", [True, False])
def test_sound_data_set_has_no_problems(root: Path, quick: bool) -> None:
    report = verify(root, quick=quick)
    assert (report.samples, report.problems, report.notes) == (3, (), ())
    assert report.files == 9
    stored = [p for t in ("realiad_d3_raw", "extras") for p in (root / t).rglob("*") if p.is_file()]
    assert report.bytes == sum(p.stat().st_size for p in stored)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str, str, bool]] = {
    # what is done, which file is named, what is said, whether the quick check sees it
    "missing": (lambda r: (r / RAW1).unlink(), RAW1, "missing", True),
    "short": (lambda r: (r / RAW1).write_bytes(b"x"), RAW1, "1 bytes", True),
    "changed": (lambda r: flip(r / RAW1), RAW1, "SHA-256", False),
    "capture": (lambda r: flip(r / EXTRAS1 / "capture.json"), f"{EXTRAS1}/capture.json", "SHA-256", False),
    "manifest": (lambda r: (r / EXTRAS1 / "manifest.json").write_text("{"), f"{EXTRAS1}/manifest.json", "JSON", True),
    "manifest_newer": (
        lambda r: (r / EXTRAS1 / "manifest.json").write_text('{"schema": 99}'),
        f"{EXTRAS1}/manifest.json",
        "schema = 99",
        True,
    ),
    "manifest_edited": (
        lambda r: (r / EXTRAS1 / "manifest.json").write_text(
            (r / EXTRAS1 / "manifest.json").read_text().replace('"specimen": ""', '"specimen": "7"')
        ),
        f"{EXTRAS1}/manifest.json",
        "by hand",
        True,
    ),
    "no_extras": (lambda r: shutil.rmtree(r / EXTRAS1), f"{EXTRAS1}/manifest.json", "does not exist", True),
    "stray_in_sample": (
        lambda r: (r / Path(RAW1).parent / "._x.jpg").write_text(""),
        f"{Path(RAW1).parent.as_posix()}/._x.jpg",
        "no sample",
        True,
    ),
    "stray_in_class": (
        lambda r: (r / "realiad_d3_raw/knob_cap/OK/Thumbs.db").write_text(""),
        "realiad_d3_raw/knob_cap/OK/Thumbs.db",
        "stumble",
        True,
    ),
    "stray_category": (
        lambda r: (r / "realiad_d3_raw/New Folder").mkdir(),
        "realiad_d3_raw/New Folder",
        "stumble",
        True,
    ),
    "index": (lambda r: flip(r / layout.MANIFEST_FILE), layout.MANIFEST_FILE, "damaged", True),
    "json": (lambda r: (r / "realiad_d3_jsons/knob_cap.json").unlink(), "realiad_d3_jsons", "out of date", True),
    "ids": (lambda r: (r / layout.IDS_FILE).write_text("{}"), "meta", "last number", True),
    "split": (
        lambda r: write_split(r, {"knob_cap": {"train": ["../x"]}}),
        "meta/splits/official.json",
        "names no",
        True,
    ),
    "split_old": (
        lambda r: write_split(r, {"knob_cap": {"train": ["knob_cap/OK/S0009"]}}),
        "meta/splits/official.json",
        "no longer there: 1",
        True,
    ),
    "journal": (lambda r: (r / journal.JOURNAL_FILE).write_text("{"), journal.JOURNAL_FILE, "JSON", True),
}


def write_split(root: Path, categories: Any) -> None:
    path = root / "meta/splits/official.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"schema": 1, "name": "official", "categories": categories}))


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("quick", [True, False])
def test_each_damage_is_told_with_file_and_next_step(root: Path, kind: str, quick: bool) -> None:
    damage, where, what, seen_quickly = DAMAGE[kind]
    damage(root)
    problems = verify(root, quick=quick).problems
    if quick and not seen_quickly:
        assert problems == ()
        return
    assert any(p.where == where and what in p.what and p.next_step for p in problems), problems
    code, told = run("verify", root, *(["--quick"] if quick else []))
    assert (code, len(told["problems"])) == (7, len(problems))


@pytest.mark.parametrize("kind", DAMAGE)
def test_repair_mends_or_names_what_is_left(root: Path, kind: str) -> None:
    DAMAGE[kind][0](root)
    report = repair(Dataset.open(root), set_aside=True, full=True)
    assert report.left == ()
    left = verify(root).problems
    if kind.startswith(("stray", "split")):  # not ours to move: a person's files, and a published split
        assert left
    else:
        assert left == ()
    assert verify(root).samples == (2 if kind in SAMPLE_DAMAGE else 3)


SAMPLE_DAMAGE = ("missing", "short", "changed", "capture", "manifest", "manifest_newer", "no_extras")


def test_repair_moves_no_sample_unless_told_to(root: Path) -> None:
    flip(root / RAW1)
    (root / EXTRAS1.replace("0001", "0002") / "manifest.json").unlink()
    code, told = run("repair", root)
    assert code == 7
    assert [p["sample"] for p in told["left"]] == ["knob_cap/OK/S0002"]
    assert {p.sample for p in repair(Dataset.open(root), full=True).left} == {"knob_cap/OK/S0001", "knob_cap/OK/S0002"}
    assert not list((root / layout.QUARANTINE_FOLDER).iterdir())
    code, told = run("repair", root, "--quarantine", "--full")
    assert code == 0
    assert len(list((root / layout.QUARANTINE_FOLDER).iterdir())) == 2
    assert run("verify", root)[0] == 0


def test_repair_finishes_an_interrupted_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    key = next(Dataset.open(root).samples()).key
    monkeypatch.setattr(journal, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        DatasetWriter(root).relabel(key, "dent")
    monkeypatch.undo()
    assert "relabelling" in verify(root, quick=True).problems[0].what
    assert any("finished" in done for done in repair(Dataset.open(root)).done)
    assert verify(root).problems == ()
    assert (root / "realiad_d3_raw/knob_cap/NG/dent/S0001").is_dir()


def test_progress_ends_at_everything(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = verify(root, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (report.bytes, report.bytes)


def test_category_limits_the_look(root: Path) -> None:
    flip(root / RAW1)
    assert verify(root, category="fuse_holder").samples == 0
    assert verify(root, category="fuse_holder").problems == ()
    assert len(verify(root, category="knob_cap").problems) == 1


def test_writer_at_work_is_a_note_and_no_problem(root: Path) -> None:
    with Dataset.open(root).writer() as writer:
        writer.commit(content(seed=8))
        report = verify(root)
    assert report.problems == ()
    assert "writer is at work" in report.notes[0]


def test_texts_for_people(root: Path) -> None:
    flip(root / RAW1)
    done = CliRunner().invoke(command, ["verify", str(root)])
    assert f"{RAW1}: content changed" in done.output
    assert "rakelight dataset rebuild" in done.output
    assert "1 problem(s) (every byte)" in done.output
    assert done.exit_code == 7


def test_relabel_and_remove_from_the_command_line(root: Path) -> None:
    code, told = run("relabel", root, "knob_cap/OK/S0001", "dent", "--by", "Ada", "--reason", "look")
    assert (code, told["sample"], told["warnings"]) == (0, "knob_cap/NG/dent/S0001", [])
    code, told = run("remove", root, "knob_cap/OK/S0002", "knob_cap/NG/dent/S0001", "--reason", "blurred")
    assert (code, told["removed"]) == (0, ["knob_cap/OK/S0002", "knob_cap/NG/dent/S0001"])
    assert [str(i.key) for i in Dataset.open(root).samples()] == ["knob_cap/NG/scratch/S0001"]
    assert run("verify", root)[0] == 0
    assert isinstance(CliRunner().invoke(command, ["relabel", str(root), "../x", "dent"]).exception, DatasetError)


def test_relabel_tells_that_the_official_split_is_out_of_date(root: Path) -> None:
    write_splits(Dataset.open(root), "official", SplitRule(train=0.5, validation=0.0))
    (warning,) = run("relabel", root, "knob_cap/OK/S0001", "dent")[1]["warnings"]
    assert "the official split is out of date now: it does not know knob_cap/NG/dent/S0001" in warning
    assert f"rakelight dataset split {root} --extend" in warning


# --- schemas ---


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "old"))


def test_data_set_of_schema_1_is_read_as_it_is(old: Path) -> None:
    dataset = Dataset.open(old)
    assert [i.damage for i in dataset.samples()] == ["", ""]
    assert [p for i in dataset.samples() for p in dataset.verify_sample(i)] == []
    assert len(dataset.listed()) == 2
    with dataset.writer() as writer:
        assert any("manifest.jsonl" in text for text in writer.mended)
    assert verify(old).problems == ()


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_migration_keeps_the_old_manifest_and_can_be_taken_up_again(
    old: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    before = (old / EXTRAS1 / "manifest.json").read_bytes()
    dataset, calls = Dataset.open(old), 0

    def stop(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt
        write_bytes(path, data)

    monkeypatch.setattr("rakelight.dataset.repair.write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        migrate(dataset)
    monkeypatch.undo()
    code, told = run("migrate", old)
    assert (code, told["migrated"], told["present"]) == (0, 2 - (after - 1) // 2, (after - 1) // 2)
    assert (old / EXTRAS1 / "manifest.v1.json").read_bytes() == before
    assert json.loads((old / EXTRAS1 / "manifest.json").read_text())["schema"] == 2
    assert run("verify", old)[0] == 0
    assert run("migrate", old)[1]["migrated"] == 0
    key = next(dataset.samples()).key
    assert OpenSample(old, key).read("manifest.v1.json") == before
    with dataset.writer() as writer:
        writer.relabel(key, "dent")
    assert verify(old).problems == ()


def test_damaged_sample_does_not_stop_the_migration(old: Path) -> None:
    (old / EXTRAS1 / "manifest.json").write_text('{"schema": 1}')
    report = migrate(Dataset.open(old))
    assert report.migrated == 1
    assert isinstance(report.problems[0], Problem)
    assert report.problems[0].sample == "knob_cap/OK/S0001"


@pytest.mark.parametrize("name", ["verify", "repair", "migrate"])
def test_newer_data_set_is_refused_clearly(root: Path, name: str) -> None:
    path = root / layout.DATASET_FILE
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    error = CliRunner().invoke(command, [name, str(root)]).exception
    assert isinstance(error, DatasetError)
    assert "schema = 2" in error.message and "update rakelight" in error.hint
