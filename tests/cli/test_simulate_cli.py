"""``rakelight simulate`` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rakelight.cli.simulate import simulate
from rakelight.dataset import images
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError, StorageError
from rakelight.pipeline import gallery
from rakelight.pipeline.simulate import KINDS, PRODUCTS, TARGETS

FAST = ["--size", "456x304", "--patterns", "none", "--samples", "1"]


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(simulate, [str(a) for a in arguments], catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def usage_error(*arguments: str | Path) -> str:
    result = CliRunner().invoke(simulate, [str(a) for a in arguments])
    assert result.exit_code == 2
    return result.output


def test_list_names_everything() -> None:
    told = run("--list")
    assert all(name in told for name in (*PRODUCTS, *TARGETS, *KINDS))
    data = json.loads(run("--list", "--json"))
    assert set(data["products"]) == set(PRODUCTS) and set(data["targets"]) == set(TARGETS)


def test_one_recording_says_what_to_do_next(tmp_path: Path) -> None:
    told = run("knob_cap", "--seed", "4", "-d", "dent", *FAST, "-o", tmp_path / "r")
    assert "knob_cap, specimen 4, dent on" in told and "456×304 BayerRG12" in told
    assert f"next: rakelight reconstruct {tmp_path / 'r'} -c {tmp_path / 'r' / 'truth' / 'calibration'}" in told
    assert Recording.open(tmp_path / "r").info.simulated


def test_json_is_the_truth(tmp_path: Path) -> None:
    data = json.loads(run("charuco", *FAST, "-o", tmp_path / "r", "--json", "--pixel-format", "Mono8"))
    assert data["name"] == "charuco" and data["target_facts"]["dictionary"] == "DICT_4X4_50"
    recording = Recording.open(tmp_path / "r")
    assert recording.info.target == "charuco" and recording.info.pixel_format == "Mono8"


def test_pose_and_size(tmp_path: Path) -> None:
    run("flat", "--pose", "3", "-2", "15", "--size", "600", "--patterns", "none", "-o", tmp_path / "r")
    facts = json.loads((tmp_path / "r" / "truth" / "truth.json").read_text())
    assert (facts["pose"]["x_mm"], facts["pose"]["y_mm"], facts["pose"]["angle_deg"]) == (3, -2, 15)
    assert facts["size_px"] == [600, 400]


def test_bracket(tmp_path: Path) -> None:
    small = ["--size", "456x304", "--samples", "1", "--bracket", "0.25, 4"]
    run("flat", *small, "-o", tmp_path / "r")
    plan = Recording.open(tmp_path / "r").info.plan
    assert {s.name[:5] for s in plan if s.bracket == 3} == {f"p{d}b3_" for d in (1, 2, 3, 4)}
    assert "write for example 0.25,4" in usage_error("flat", "--bracket", "short,long", "-o", tmp_path / "s")
    with pytest.raises(InputError, match="bracket without patterns"):
        run("flat", *small, "--patterns", "none", "-o", tmp_path / "s")


def test_batch(tmp_path: Path) -> None:
    told = run("knob_cap", "--count", "2", "-d", "stain", *FAST, "-o", tmp_path / "many")
    assert "2 recorded in" in told and "stain" in told and str(tmp_path / "many" / "batch.json") in told
    assert "0 recorded in" in run("knob_cap", "--count", "2", "-d", "stain", *FAST, "-o", tmp_path / "many")


def test_wrong_usage(tmp_path: Path) -> None:
    assert "simulate --list" in usage_error("knob_cap")
    assert "simulate --list" in usage_error("-o", tmp_path / "r")
    assert "'large' is not a size" in usage_error("knob_cap", "--size", "large", "-o", tmp_path / "r")
    assert "not for --count" in usage_error("knob_cap", "--count", "2", "--overwrite", "-o", tmp_path / "r")
    with pytest.raises(InputError, match="parts knob_cap, clay_pot with defects none for one recording"):
        run("knob_cap", "clay_pot", "-o", tmp_path / "r")
    with pytest.raises(InputError, match="gamma 9"):
        run("knob_cap", "--gamma", "9", "-o", tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "PRODUCTS", {"knob_cap": PRODUCTS["knob_cap"]})
    told = run("--gallery", tmp_path / "g.png")
    assert f"look at {tmp_path / 'g.png'}" in told
    assert images.read_image(tmp_path / "g.png").std() > 20
    with pytest.raises(StorageError, match="exists"):
        run("--gallery", tmp_path / "g.png")
