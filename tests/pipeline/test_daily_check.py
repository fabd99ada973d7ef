"""The daily check and repeatability on simulated gauges: right figures, verdicts, history, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.cli import cli
from rakelight.dataset.recording import Recording
from rakelight.errors import DatasetError, InputError
from rakelight.pipeline import simulate as simulated
from rakelight.pipeline.calibration_report import report_html
from rakelight.pipeline.check_history import drift_of, read_history, write_history
from rakelight.pipeline.check_judging import Limits, facts_of
from rakelight.pipeline.daily_check import Check, check_gauge
from rakelight.pipeline.repeatability import Run, repeatability

STEPS = (1.0, 1.0, 2.0, 3.0)  # of the simulated gauge


@pytest.fixture(scope="module")
def gauge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "gauge"
    simulated.simulate("step_gauge", folder, settings=simulated.Settings(width=456))
    return folder


@pytest.fixture(scope="module")
def calibration(gauge: Path) -> RigCalibration:
    return RigCalibration.load(gauge / "truth" / "calibration")


@pytest.fixture(scope="module")
def checked(gauge: Path, calibration: RigCalibration) -> Check:
    return check_gauge(Recording.open(gauge), calibration, steps_mm=STEPS)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


# ---------------------------------------------------------------------------------------------------------------- check
def test_a_good_rig_passes(checked: Check) -> None:
    assert len(checked.plates) == 5 and checked.names == ("step 1", "step 2", "step 3", "step 4", "first to last")
    np.testing.assert_allclose([s.height_mm for s in checked.steps], [*STEPS, 7.0], atol=1.5e-3)
    np.testing.assert_allclose([s.height_mm for s in checked.steps][:4], STEPS, atol=8e-4)
    assert facts_of(checked).verdict != "FAIL"
    assert max(bias for _, bias in checked.normals_deg) < 0.5 and checked.drift == {}
    assert json.loads(json.dumps(checked.to_plain(), allow_nan=False))["steps"][0]["nominal_mm"] == 1.0


def test_a_rig_of_wrong_scale_fails(gauge: Path, calibration: RigCalibration) -> None:
    """A board whose squares were taken 0.5 % too large: all lengths are, and 7 mm is 35 µm too much."""
    assert calibration.table_plane is not None
    far = tuple(replace(p, translation_mm=p.translation_mm * 1.005) for p in calibration.projectors)
    table = replace(calibration.table_plane, offset_mm=calibration.table_plane.offset_mm * 1.005)
    found = check_gauge(Recording.open(gauge), replace(calibration, projectors=far, table_plane=table), steps_mm=STEPS)
    assert found.figures["first to last error um"] == pytest.approx(35, abs=1.5)
    assert {c.name: c.verdict for c in found.criteria}["first to last, error"] == "FAIL"
    assert facts_of(found).verdict == "FAIL"


def test_the_table_as_lowest_plate(gauge: Path, calibration: RigCalibration) -> None:
    found = check_gauge(Recording.open(gauge), calibration, steps_mm=(1, *STEPS), with_table=True)
    np.testing.assert_allclose([s.height_mm for s in found.steps], [1, *STEPS, 8], atol=3e-3)


def test_a_flat(tmp_path: Path) -> None:
    simulated.simulate("flat", tmp_path / "flat", settings=simulated.Settings(width=456, samples=1))
    known = RigCalibration.load(tmp_path / "flat" / "truth" / "calibration")
    found = check_gauge(Recording.open(tmp_path / "flat"), known)
    assert len(found.plates) == 1 and found.steps == () and found.history == ()
    assert facts_of(found).verdict == "PASS" and 1 < found.figures["plate 1 flatness um"] < 20


def test_what_is_refused(gauge: Path, calibration: RigCalibration) -> None:
    opened = Recording.open(gauge)
    other = Recording(opened.folder, opened.info.model_copy(update={"target": "charuco"}))
    cases: list[tuple[Recording, dict[str, Any], str]] = [
        (other, {}, "check.target"),
        (opened, {"steps_mm": (1, 1, 2)}, "check.steps"),
        (opened, {"steps_mm": (1, 1, 2, float("nan"))}, "check.steps"),
    ]
    for recording, settings, code in cases:
        with pytest.raises(InputError) as told:
            check_gauge(recording, calibration, **settings)
        assert told.value.code == code and told.value.hint
    for wrong in ((10.0, 3.0), (0.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(InputError):
            Limits(step_um=wrong)


# -------------------------------------------------------------------------------------------------------------- history
def earlier(checked: Check, days: int, um_per_day: float) -> list[dict[str, Any]]:
    """Checks of the days before, each step changing evenly towards today's."""
    today = datetime.fromisoformat(checked.entry["time_utc"])
    lines = []
    for ago in range(days, 0, -1):
        figures = {
            name: value - ago * um_per_day / 1000 if name.endswith(" mm") else value
            for name, value in checked.figures.items()
        }
        when = (today - timedelta(days=ago)).isoformat()
        lines.append(checked.entry | {"time_utc": when, "recording_sha256": f"{ago:064d}", "figures": figures})
    return lines


def test_drift_is_found_and_plotted(gauge: Path, calibration: RigCalibration, checked: Check) -> None:
    found = check_gauge(
        Recording.open(gauge),
        calibration,
        steps_mm=STEPS,
        history=earlier(checked, 9, 1.0),
        limits=Limits(drift_um=(2, 4)),
    )
    drift = found.drift["step 1"]
    assert drift.offset_um == pytest.approx(5, abs=1e-3) and drift.earlier == 9
    assert drift.trend_um_per_day == pytest.approx(1, abs=1e-3)
    assert {c.name: c.verdict for c in found.criteria}["step 1, drift"] == "FAIL"
    assert [len(h.values) for h in found.history] == [10] * 5
    page = report_html(facts_of(found), check=True)
    assert page.count("<svg") == 5 and "Check of calibration" in page and "not calibrated" not in page


def test_only_the_same_gauge_is_compared(gauge: Path, calibration: RigCalibration, checked: Check) -> None:
    lines = earlier(checked, 3, 1.0)
    found = check_gauge(Recording.open(gauge), calibration, history=[*lines, checked.entry], gauge="another")
    assert found.drift == {} and len(found.history[0].values) == 1


def test_drift_of_few() -> None:
    now = datetime(2025, 3, 1, tzinfo=UTC)
    assert drift_of([now], [1.0]) is None
    two = drift_of([now, now + timedelta(days=1)], [1.0, 3.0])
    assert two is not None and two.offset_um == 2 and two.trend_um_per_day is None
    wild = drift_of([now + timedelta(days=k) for k in range(9)], [0, 1, 2, 90, 4, 5, 6, 7, 8])
    assert wild is not None and wild.trend_um_per_day == pytest.approx(1)


def test_history_keeps_one_line_a_check(tmp_path: Path, checked: Check) -> None:
    path = tmp_path / "new" / "checks.jsonl"
    assert read_history(path) == []
    lines = earlier(checked, 2, 0.5)
    write_history(path, lines, checked.entry)
    write_history(path, read_history(path), checked.entry)
    assert read_history(path) == [*lines, checked.entry]


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": 2, "gauge": "x"}', '{"schema": 1, "gauge": "x"}', "\x00"])
def test_damaged_history_is_named_and_left_alone(tmp_path: Path, checked: Check, damage: str) -> None:
    path = tmp_path / "checks.jsonl"
    write_history(path, [], checked.entry)
    path.write_text(path.read_text() + damage + "\n")
    before = path.read_bytes()
    with pytest.raises(DatasetError, match="line 2") as told:
        read_history(path)
    assert told.value.code == "check.history" and path.read_bytes() == before


# -------------------------------------------------------------------------------------------------------------- command
def test_command(gauge: Path, tmp_path: Path) -> None:
    about = (gauge, "-c", gauge / "truth" / "calibration", "--history", tmp_path / "checks.jsonl")
    done = run("calibrate", "check", *about, "--steps", "1,1,2,3", "--report", tmp_path / "check.html")
    assert done.exit_code == 0, done.output
    assert "first to last" in done.output and (tmp_path / "check.html").read_text().startswith("<!DOCTYPE html>")
    done = run("calibrate", "check", *about, "--steps", "1,1,2,3.02", "--gauge", "false", "--json")
    assert done.exit_code == 6 and json.loads(done.stdout)["verdict"] == "FAIL"
    lines = read_history(tmp_path / "checks.jsonl")
    assert lines[0]["verdict"] != "FAIL" and lines[1]["verdict"] == "FAIL" and lines[1]["gauge"] == "false"
    assert run("calibrate", "check", *about, "--step-um", "3").exit_code == 2


# -------------------------------------------------------------------------------------------------------- repeatability
def made_runs(count: int, sigma_um: float, seed: int = 0, drift_um: float = 0.0) -> list[Run]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((80, 100), bool)
    mask[10:70, 10:90] = True
    sigma = np.full(mask.shape, 0.002, np.float32)
    runs = []
    for k in range(count):
        normals = np.dstack([rng.normal(0, 0.01, (*mask.shape, 2)), np.ones(mask.shape)])
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        height = 3.0 + rng.normal(0, sigma_um / 1000, mask.shape) + k * drift_um / 1000
        runs.append(Run(height.astype(np.float32), sigma, np.roll(mask, k % 2, 1), normals.astype(np.float32)))
    return runs


@pytest.mark.parametrize("count", [3, 25])
def test_repeatability_of_known_noise(count: int) -> None:
    found = repeatability(made_runs(count, 2.0))
    assert found.height_um == pytest.approx(2, rel=0.04) and found.ratio == pytest.approx(1, rel=0.04)
    assert found.mean_height_um < 0.1 and found.centre_px[1] == 0 and 0.45 < found.centre_px[0] < 0.65
    assert found.normals_deg == pytest.approx(np.degrees(0.01 * np.sqrt(2)), rel=0.15) and found.pixels == 60 * 79


def test_drift_between_runs_is_told_apart_from_noise() -> None:
    found = repeatability(made_runs(11, 1.0, drift_um=0.4))
    assert found.drift_um == pytest.approx(4, abs=0.1) and found.mean_height_um == pytest.approx(1.33, abs=0.05)


def test_repeatability_refuses() -> None:
    runs = made_runs(2, 1.0)
    empty = replace(runs[1], mask=np.zeros((80, 100), bool))
    small = Run(runs[0].height_mm[:40], runs[0].sigma_mm[:40], runs[0].mask[:40])
    for wrong, code in (([runs[0]], "repeat.runs"), ([], "repeat.runs"), ([runs[0], small], "repeat.size"),
                        ([runs[0], empty], "repeat.no_part")):  # fmt: skip
        with pytest.raises(InputError) as told:
            repeatability(wrong)
        assert told.value.code == code


@pytest.mark.slow
def test_repeat_command_on_recordings(tmp_path: Path) -> None:
    """The same gauge at the same place, noise anew: it repeats as the noise predicts."""
    settings = simulated.Settings(width=456, samples=1)
    for seed in range(4):
        pose = simulated.Pose(0.3, 0.2, 3.0)
        simulated.simulate("step_gauge", tmp_path / f"run{seed}", seed=seed, pose=pose, settings=settings)
    known = tmp_path / "run0" / "truth" / "calibration"
    done = run("calibrate", "repeat", *sorted(tmp_path.glob("run*")), "-c", known, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["runs"] == 4 and 0.8 < told["ratio"] < 1.25 and told["mean_height_um"] < 1
    assert 0 < told["normals_deg"] < 5 and max(told["centre_px"]) < 0.1
    assert run("calibrate", "repeat", "-c", known).exit_code == 2
