"""The daily check on a simulated ball bar: right figures, wrong calibrations seen, history, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.cli import cli
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline import simulate as simulated
from rakelight.pipeline.ball_check import BallCheck, check_balls
from rakelight.pipeline.calibration_report import report_html
from rakelight.pipeline.check_history import read_history
from rakelight.pipeline.check_judging import facts_of
from rakelight.pipeline.daily_check import check_gauge

CERTIFIED: dict[str, Any] = {"ball_mm": (10.0,), "spacing_mm": 25.0}


@pytest.fixture(scope="module")
def bar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("balls") / "bar"
    simulated.simulate("ball_bar", folder, settings=simulated.Settings(width=456))
    return folder


@pytest.fixture(scope="module")
def calibration(bar: Path) -> RigCalibration:
    return RigCalibration.load(bar / "truth" / "calibration")


@pytest.fixture(scope="module")
def checked(bar: Path, calibration: RigCalibration) -> BallCheck:
    return check_balls(Recording.open(bar), calibration, **CERTIFIED)


def of_scale(calibration: RigCalibration, scale: float) -> RigCalibration:
    """As from a board whose squares were taken too large: all lengths are."""
    assert calibration.table_plane is not None
    far = tuple(replace(p, translation_mm=p.translation_mm * scale) for p in calibration.projectors)
    table = replace(calibration.table_plane, offset_mm=calibration.table_plane.offset_mm * scale)
    return replace(calibration, projectors=far, table_plane=table)


def verdicts(check: BallCheck) -> dict[str, str]:
    return {c.name: c.verdict for c in check.criteria}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def test_a_good_rig_passes(checked: BallCheck) -> None:
    assert facts_of(checked).verdict == "PASS" and len(checked.criteria) == 5 and not checked.warnings
    assert abs(checked.figures["spacing error um"]) < 1.5
    for name in ("ball 1", "ball 2"):
        assert abs(checked.figures[f"{name} size error um"]) < 2.5 and checked.figures[f"{name} form um"] < 12
        assert checked.figures[f"{name} points"] > 3000 and 0.16 < checked.figures[f"{name} seen share"] < 0.2
    plain = json.loads(json.dumps(checked.to_plain(), allow_nan=False))
    assert plain["spacing"]["error_um"] == pytest.approx(checked.figures["spacing error um"])
    assert [ball["nominal_mm"] for ball in plain["balls"]] == [10.0, 10.0]


def test_a_scale_error_of_a_thousandth_is_seen(bar: Path, calibration: RigCalibration, checked: BallCheck) -> None:
    found = check_balls(Recording.open(bar), of_scale(calibration, 1.001), **CERTIFIED)
    assert found.figures["spacing error um"] - checked.figures["spacing error um"] == pytest.approx(25, abs=0.5)
    assert found.figures["ball 1 size error um"] - checked.figures["ball 1 size error um"] == pytest.approx(10, abs=0.5)
    assert verdicts(found)["sphere spacing SD"] == "FAIL" and verdicts(found)["ball 1, form PF"] == "PASS"


def test_a_moved_projector_is_told(bar: Path, calibration: RigCalibration) -> None:
    first, *others = calibration.projectors
    moved = replace(first, translation_mm=first.translation_mm + np.array([0.02, 0, 0]))
    found = check_balls(Recording.open(bar), replace(calibration, projectors=(moved, *others)), **CERTIFIED)
    assert any("something moved since the calibration" in warning for warning in found.warnings)


def test_without_certificate_nothing_is_said_of_errors(bar: Path, calibration: RigCalibration) -> None:
    found = check_balls(Recording.open(bar), calibration)
    assert set(verdicts(found)) == {"ball 1, form PF", "ball 2, form PF"}
    assert not [name for name in found.figures if "error" in name]
    plain = found.to_plain()
    assert plain["spacing"]["error_um"] is None and plain["balls"][0]["size_error_um"] is None


def test_drift(bar: Path, calibration: RigCalibration, checked: BallCheck) -> None:
    today = datetime.fromisoformat(checked.entry["time_utc"])
    lines = [
        checked.entry
        | {
            "time_utc": (today - timedelta(days=ago)).isoformat(),
            "recording_sha256": f"{ago:064d}",
            "figures": checked.figures | {"spacing mm": checked.figures["spacing mm"] - 0.001 * ago},
        }
        for ago in range(9, 0, -1)
    ]
    found = check_balls(Recording.open(bar), calibration, history=lines, **CERTIFIED)
    assert found.drift["spacing"].offset_um == pytest.approx(5, abs=1e-3)
    assert found.drift["spacing"].trend_um_per_day == pytest.approx(1, abs=1e-3)
    assert verdicts(found)["spacing, drift"] == "WARN" and verdicts(found)["ball 1, drift"] == "PASS"
    assert report_html(facts_of(found), check=True).count("<svg") == 3


def test_what_is_refused(bar: Path, calibration: RigCalibration) -> None:
    opened = Recording.open(bar)
    other = Recording(opened.folder, opened.info.model_copy(update={"target": "step_gauge"}))
    wrong: list[tuple[Recording, dict[str, Any], str]] = [
        (other, {}, "check.target"),
        (opened, {"ball_mm": (10.0, 10.0, 10.0)}, "check.balls"),
        (opened, {"ball_mm": (float("nan"),)}, "check.balls"),
        (opened, {"spacing_mm": -25.0}, "check.balls"),
    ]
    for recording, options, code in wrong:
        with pytest.raises(InputError) as told:
            check_balls(recording, calibration, **options)
        assert told.value.code == code and told.value.hint
    with pytest.raises(InputError, match="shows 'ball_bar'"):
        check_gauge(opened, calibration)


def test_command(bar: Path, tmp_path: Path) -> None:
    about = ("calibrate", "check", bar, "-c", bar / "truth" / "calibration", "--history", tmp_path / "checks.jsonl")
    done = run(*about, "--ball-mm", "10", "--spacing-mm", "25", "--report", tmp_path / "check.html")
    assert done.exit_code == 0, done.output
    assert "sphere spacing" in done.output and (tmp_path / "check.html").read_text().startswith("<!DOCTYPE html>")
    done = run(*about, "--ball-mm", "10,10", "--spacing-mm", "25.02", "--gauge", "false", "--json")
    assert done.exit_code == 6 and json.loads(done.stdout)["spacing"]["error_um"] == pytest.approx(-20, abs=1.5)
    assert [line["gauge"] for line in read_history(tmp_path / "checks.jsonl")] == ["ball_bar", "false"]
    assert run(*about, "--steps", "1,1").exit_code == 2
    assert run(*about, "--ball-mm", "ten").exit_code == 2


@pytest.mark.slow
def test_at_912(tmp_path: Path) -> None:
    simulated.simulate("ball_bar", tmp_path / "bar", seed=1, settings=simulated.Settings(width=912))
    known = RigCalibration.load(tmp_path / "bar" / "truth" / "calibration")
    found = check_balls(Recording.open(tmp_path / "bar"), known, **CERTIFIED)
    assert abs(found.figures["spacing error um"]) < 0.5 and facts_of(found).verdict == "PASS"
    assert all(abs(found.figures[f"ball {k} size error um"]) < 1.0 for k in (1, 2))
    assert all(found.figures[f"ball {k} form um"] < 9 for k in (1, 2))
    false = check_balls(Recording.open(tmp_path / "bar"), of_scale(known, 1.001), **CERTIFIED)
    assert false.figures["spacing error um"] == pytest.approx(25, abs=0.6)
    assert verdicts(false)["sphere spacing SD"] == "FAIL"


@pytest.mark.slow
def test_a_shiny_bar_fails_by_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rakelight.acquisition.simulator import targets

    metal = targets.get_target("ball_bar", diffuse=0.1, specular=0.5, roughness=0.1)
    monkeypatch.setitem(targets.TARGETS, "ball_bar", metal)
    simulated.simulate("ball_bar", tmp_path / "bar", settings=simulated.Settings(width=456))
    known = RigCalibration.load(tmp_path / "bar" / "truth" / "calibration")
    found = check_balls(Recording.open(tmp_path / "bar"), known, **CERTIFIED)
    assert verdicts(found)["ball 1, form PF"] == verdicts(found)["ball 2, form PF"] == "FAIL"
