"""``calibrate show`` and ``verify`` say whether a calibration still holds; the temperature comes through the camera's wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import Recipe
from rakelight.acquisition.rig import Rig
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.rig_facts import RigFacts, facts_of
from rakelight.cli import cli
from rakelight.dataset.recording import Recording

CAMERA = "Vendor GX-20 24305512, version 1.4"
RIG = 'schema = 1\nrig_id = "{rig}"\n[camera]\nserial_number = "{number}"\n[calibration]\nmax_age_days = {days}\n'


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments)])


def calibration(folder: Path, days: float, scenes: Any) -> Path:
    """Of bench-1, ``days`` old."""
    when = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    known = RigFacts(rig_id="bench-1", devices={"camera": CAMERA}, captured_utc=(when, when))
    made: RigCalibration = scenes.calibration(simulated=False, provenance={"rig": known.to_plain()}, created_utc=when)
    return made.save(folder)


def stale(*arguments: Any) -> list[str]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return [reason["kind"] for reason in json.loads(done.stdout)["stale"]]


def test_show_and_verify_tell_the_age(tmp_path: Path, scenes: Any) -> None:
    old, fresh = calibration(tmp_path / "old", 120, scenes), calibration(tmp_path / "fresh", 2, scenes)
    assert stale("show", old) == stale("verify", old) == ["aged"]
    assert stale("show", fresh) == stale("verify", fresh) == []
    assert stale("show", calibration(tmp_path / "clock", -40, scenes)) == ["aged"]
    shown = run("show", old)
    assert shown.exit_code == 0 and "120 days old at today" in shown.stderr
    assert "bench-1" in shown.stdout and CAMERA in shown.stdout
    verified = run("verify", old)
    assert verified.exit_code == 0 and "whole and unchanged" in verified.stdout and "120 days" in verified.stderr


def test_a_damaged_calibration_is_damaged_and_not_old(tmp_path: Path, scenes: Any) -> None:
    old = calibration(tmp_path / "old", 120, scenes)
    path = old / "rig_calibration.json"
    path.write_text(path.read_text().replace("bench-1", "bench-2"))
    done = run("verify", old, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 9 and told["problems"] and told["stale"] == []


@pytest.mark.parametrize(
    ("rig", "number", "days", "expected"),
    [
        ("bench-1", "24305512", 365, []),
        ("bench-1", "24305512", 90, ["aged"]),
        ("bench-1", "24305599", 365, ["changed"]),
        ("bench-2", "24305599", 30, ["changed", "changed", "aged"]),
    ],
)
def test_against_a_rig(tmp_path: Path, scenes: Any, rig: str, number: str, days: int, expected: list[str]) -> None:
    (tmp_path / "rig.toml").write_text(RIG.format(rig=rig, number=number, days=days))
    old = calibration(tmp_path / "old", 120, scenes)
    assert stale("show", old, "--rig", tmp_path / "rig.toml") == expected


def test_against_a_recording_and_a_history(tmp_path: Path, scenes: Any) -> None:
    old = calibration(tmp_path / "old", 120, scenes)
    then = (datetime.now(UTC) - timedelta(days=119)).isoformat()
    scenes.record(tmp_path / "then", scenes.part(), simulated=False, captured_utc=then, rig_id="bench-1")
    scenes.record(tmp_path / "other", scenes.part(), simulated=False, rig_id="bench-9")
    assert stale("show", old, "--recording", tmp_path / "then") == []
    assert stale("show", old, "--recording", tmp_path / "other") == ["changed"]
    entry = {"schema": 1, "gauge": "steps", "time_utc": then, "verdict": "FAIL", "figures": {}}
    entry |= {"calibration_sha256": RigCalibration.load(old).content_sha256}
    (tmp_path / "checks.jsonl").write_text(json.dumps(entry) + "\n")
    assert stale("show", old, "--history", tmp_path / "checks.jsonl") == ["aged", "drifted"]


def test_what_cannot_be_asked(tmp_path: Path, scenes: Any) -> None:
    old = calibration(tmp_path / "old", 1, scenes)
    (tmp_path / "rig.toml").write_text(RIG.format(rig="bench-1", number="1", days=0))
    assert run("show", old, "--rig", "a", "--recording", "b").exit_code == 2
    assert run("show", old, "--rig", "sim://knob_cap").exit_code == 2
    wrong = run("show", old, "--rig", tmp_path / "rig.toml").exception
    assert "calibration.max_age_days = 0" in str(wrong)


@pytest.mark.slow
def test_warmth_comes_through_the_wire(tmp_path: Path, scenes: Any) -> None:
    pytest.importorskip("genicam")
    recipe = Recipe(product="knob_cap", exposure_us=6000, all_zones_exposure_us=2000)
    for name, more in (("cool", ""), ("hot", "&temperature=55")):
        with Rig.open(f"sim://knob_cap?width=456&samples=1&projector=0{more}") as rig:
            capture(rig, recipe, tmp_path / name, part_id=name)
    cool, hot = (Recording.open(tmp_path / name) for name in ("cool", "hot"))
    assert hot.info.temperature_c == {"camera": (55.0, 55.0)}
    first, last = cool.info.temperature_c["camera"]
    assert 30 <= first <= last < 38
    made: RigCalibration = scenes.calibration(provenance={"rig": facts_of([cool]).to_plain()})
    made.save(tmp_path / "cal")
    assert stale("show", tmp_path / "cal", "--recording", tmp_path / "cool") == []
    assert stale("show", tmp_path / "cal", "--recording", tmp_path / "hot") == ["warmed"]
