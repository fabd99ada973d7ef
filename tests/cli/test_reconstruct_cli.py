"""``rakelight reconstruct`` and ``capture --result`` with patterns, as their user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.cli import cli
from rakelight.dataset import images
from rakelight.dataset.recording import Description, Recording, Shot
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import RakelightError
from rakelight.pipeline import simulate as simulated
from rakelight.reconstruction.patterns import Uniform

SURFACE = {"xyz.tiff", "height_mm.tiff", "part_mask.png", "surface_sheet.png", "reconstruction.json"}
CLOUDS = {"cloud.ply", "cloud_4x.ply", "cloud_40x.ply", "cloud.pcd"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "knob"
    simulated.simulate("knob_cap", folder, seed=3, settings=simulated.Settings(width=456, samples=1))
    return folder


@pytest.fixture(scope="module")
def alone(whole: Path) -> Path:
    """The patterns of two directions, and white ones, without a light stack."""
    info, opened = Recording.open(whole).info, Recording.open(whole)
    shots = [s for s in info.plan if s.projector in (1, 2)]
    white = [Shot(name=f"p{d}_99", role="pattern", projector=d, pattern=Uniform(1.0).to_plain()) for d in (1, 2)]
    known = info.model_dump(include=set(Description.model_fields))
    folder = whole.parent / "alone"
    with write_recording(folder, Description.model_validate(known | {"plan": (*shots, *white)})) as writer:
        for frame in opened.shots("pattern"):
            if frame.shot in {s.name for s in shots}:
                writer.add(frame.shot, opened.read(frame))
        for shot in white:
            writer.add(shot.name, opened.read(next(opened.shots("all_zones"))))
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


@pytest.mark.slow
def test_both_modalities_in_one_go(whole: Path, tmp_path: Path) -> None:
    done = run("reconstruct", whole, "-c", whole / "truth" / "calibration", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "measured surface" in done.output and "near, over the measured surface" in done.output
    assert "against the truth, smooth: median" in done.output and done.output.rstrip().endswith("surface_sheet.png")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= SURFACE | CLOUDS | {"normals.tiff"}


def test_patterns_can_be_left_out(whole: Path, tmp_path: Path) -> None:
    calibration = whole / "truth" / "calibration"
    done = run("reconstruct", whole, "-c", calibration, "-o", tmp_path / "out", "--no-surface", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["surface"] is None and not (tmp_path / "out" / "xyz.tiff").exists()


def test_patterns_without_lights_give_the_surface_alone(whole: Path, alone: Path, tmp_path: Path) -> None:
    calibration = whole / "truth" / "calibration"
    done = run("reconstruct", alone, "-c", calibration, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["warnings"] == ["the recording has no light zones: the surface is measured, normals and albedo are not"]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= SURFACE | CLOUDS
    assert not (tmp_path / "out" / "normals.tiff").exists() and told["zones"] == []
    assert told["surface"]["part_coverage"] > 0.7 and len(told["surface"]["pairs"]) == 1
    true = images.read_image(whole / "truth" / "xyz.tiff")[..., 2]
    off = images.read_image(tmp_path / "out" / "xyz.tiff")[..., 2] - true
    assert np.nanmedian(np.abs(off)) < 0.005
    done = run("reconstruct", alone, "-c", calibration, "-o", tmp_path / "out", "--overwrite", "--no-clouds")
    assert done.exit_code == 0 and "look at " in done.output and "contact_sheet" not in done.output, done.output
    assert not (tmp_path / "out" / "cloud.ply").exists()


def test_calibration_without_lights_or_projectors(whole: Path, alone: Path, tmp_path: Path) -> None:
    known = RigCalibration.load(whole / "truth" / "calibration")
    replace(known, lights=(), flat_field=None, calibration_id="dark").save(tmp_path / "dark")
    done = run("reconstruct", whole, "-c", tmp_path / "dark", "-o", tmp_path / "a", "--no-clouds", "--json")
    assert done.exit_code == 0 and "0 light zone(s) are both" in json.loads(done.stdout)["warnings"][0], done.output
    replace(known, projectors=(), calibration_id="lights").save(tmp_path / "lights")
    done = run("reconstruct", whole, "-c", tmp_path / "lights", "-o", tmp_path / "b", "--json")
    assert done.exit_code == 0 and "no projector 1, 2, 3, 4" in "".join(json.loads(done.stdout)["warnings"])
    done = run("reconstruct", alone, "-c", tmp_path / "lights", "-o", tmp_path / "c")
    assert isinstance(done.exception, RakelightError) and done.exception.code == "surface.not_calibrated"
    assert not (tmp_path / "c").exists()


PATTERNS = """schema = 1
product = "knob_cap"
exposure_us = 6000
all_zones_exposure_us = 2000
[patterns]
exposure_us = 4000
steps = 4
directions = [1, 3]
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C")
def test_interrupted_between_capture_and_reconstruction(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("genicam")
    (tmp_path / "knob.toml").write_text(PATTERNS)
    command = [sys.executable, "-m", "rakelight", "capture", "--rig", "sim://knob_cap?width=456&samples=1"]
    command += ["-p", "knob.toml", "-o", "r", "-c", str(whole / "truth" / "calibration"), "--result", "out"]
    child = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("recording: "):
            child.send_signal(signal.SIGINT)
            break
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130 and "interrupted" in told, told
    assert f"the recording r is whole; to reconstruct it: rakelight reconstruct r -c {whole}" in told
    assert not (tmp_path / "out").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["knob.toml", "r"]
    done = run("reconstruct", tmp_path / "r", "-c", whole / "truth" / "calibration", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output


def test_normals_refine_the_surface_when_asked(whole: Path, tmp_path: Path) -> None:
    found = {}
    for fuse in ((), ("--fuse",)):
        out = tmp_path / ("fused" if fuse else "plain")
        done = run(
            "reconstruct", whole, "-c", whole / "truth" / "calibration", "-o", out, "--no-clouds", "--json", *fuse
        )
        assert done.exit_code == 0, done.output
        found[bool(fuse)] = json.loads(done.stdout)
    plain, fused = (found[f]["truth"]["surface"]["smooth"]["rms_um"] for f in (False, True))
    assert fused < 0.75 * plain
    assert found[True]["surface"]["fusion"]["converged"] and "fusion" not in found[False]["surface"]
