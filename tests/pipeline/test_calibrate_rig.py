"""A rig calibrated from nothing but simulated recordings of targets, held against the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rakelight.calibration.boards import Board
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.cli import cli
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError
from rakelight.pipeline.calibrate_rig import calibrate_rig
from rakelight.pipeline.simulate import Settings, simulate
from rakelight.reconstruction.models import Plane
from rakelight.reconstruction.patterns import PatternSet
from rakelight.reconstruction.triangulation import depth_on_rays

pytestmark = pytest.mark.slow
WIDTH, POSES = 608, 6


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("targets")
    both = Settings(width=WIDTH, pattern_set=PatternSet(axes=("column", "row")))
    simulate("charuco", home / "pose0", seed=0, settings=both)
    truth = RigCalibration.load(home / "pose0" / "truth" / "calibration")
    for seed in range(1, POSES):
        simulate("charuco", home / f"pose{seed}", seed=seed, settings=both, calibration=truth)
    for seed in range(2):
        simulate(
            "chrome_spheres", home / f"spheres{seed}", seed=seed,
            settings=Settings(width=WIDTH, pattern_set=None), calibration=truth,
        )  # fmt: skip
    simulate("white_plane", home / "white", settings=Settings(width=WIDTH), calibration=truth)
    simulate("step_gauge", home / "gauge", settings=Settings(width=WIDTH, pattern_set=None), calibration=truth)
    return home


def test_the_rig_is_found_from_targets_alone(targets: Path, tmp_path: Path) -> None:
    folders = sorted(str(p) for p in targets.iterdir() if p.name != "gauge")
    out = tmp_path / "lab"
    done = CliRunner().invoke(cli, ["calibrate", "rig", *folders, "--plate-mm", "0.01", "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["verdict"] in ("PASS", "WARN") and "FAIL" not in {c["verdict"] for c in told["criteria"]}
    assert "<html" in (out / "report.html").read_text(encoding="utf-8") and RigCalibration.verify(out) == []
    found, truth = RigCalibration.load(out), RigCalibration.load(targets / "pose0" / "truth" / "calibration")
    assert found.provenance["rig"]["rig_id"] == "reference-simulated-rig"
    assert found.provenance["rig"]["window"]["width"] == WIDTH and found.provenance["rig"]["temperature_c"] == {}
    for mine, true in zip(found.lights, truth.lights, strict=True):
        assert np.degrees(np.arccos(min(1.0, float(mine.direction @ true.direction)))) < 0.5
    assert found.camera is not None and truth.camera is not None
    assert found.table_plane is not None and truth.table_plane is not None
    # Heights of planes over the table, seen by the true rig and measured with the calibration.
    u, v = np.meshgrid(np.linspace(30, WIDTH - 30, 12), np.linspace(30, WIDTH * 2 // 3 - 30, 9))
    uv = np.stack([u, v], axis=-1).reshape(-1, 2)
    for height in (0.0, 8.0):
        plane = Plane(truth.table_plane.normal, truth.table_plane.offset_mm + height)
        points = plane.intersect(*truth.camera.rays(uv))
        for mine_p, true_p in zip(found.projectors, truth.projectors, strict=True):
            column = true_p.project(points)[:, 0]
            rays = found.camera.rays(uv)[1]
            rays = rays / rays[:, 2:]
            one = np.float32(column[None])
            p, q = (np.float32(rays[None, :, k]) for k in (0, 1))
            z = depth_on_rays(one, np.ones_like(one), p, q, found.camera, mine_p)[0][0].astype(np.float64)
            good = np.isfinite(z) & (column > 0) & (column < true_p.width - 1)
            measured = found.table_plane.height_mm(rays[good] * z[good, None])
            assert abs(float(measured.mean()) - height) < 0.003


def test_a_calibration_that_fails_says_so_wherever_it_is_met(targets: Path, tmp_path: Path) -> None:
    folders = [str(targets / f"pose{k}") for k in range(4)]
    done = CliRunner().invoke(cli, ["calibrate", "rig", *folders, str(targets / "gauge"), "-o", str(tmp_path / "few")])
    assert done.exit_code == 6 and "FAIL" in done.stdout, done.output
    found = RigCalibration.load(tmp_path / "few")
    assert found.quality["verdict"] == "FAIL" and found.warnings[0].startswith("FAIL: poses of the board: 4;")
    assert [w for w in found.warnings if w.startswith("gauge: ") and "takes no part" in w]
    assert {r["target"] for r in found.provenance["recordings"]} == {"charuco"}
    shown = CliRunner().invoke(cli, ["calibrate", "show", str(tmp_path / "few"), "--json"])
    assert [s["kind"] for s in json.loads(shown.stdout)["stale"]] == ["failed"]


def test_what_cannot_be_calibrated_is_named(targets: Path) -> None:
    board = Board("charuco", (10, 7), 4.0, 3.0, "DICT_4X4_50")
    with pytest.raises(CalibrationError, match="no recording shows a board"):
        calibrate_rig([Recording.open(targets / "white")], "x", board)
    poses = [Recording.open(targets / f"pose{k}") for k in range(2)]
    with pytest.raises(CalibrationError) as few:
        calibrate_rig(poses, "x", board)
    assert few.value.code == "calibration.too_few_poses"
    with pytest.raises(CalibrationError) as other:
        calibrate_rig(poses, "x", Board("charuco", (9, 6), 4.0, 3.0, "DICT_4X4_50"))
    assert other.value.code.startswith("calibration.board")
