"""``rakelight capture``, ``rig`` and ``devices`` as their user meets them, on a simulated rig."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.pipeline.truth import load_truth, verify_truth

pytest.importorskip("genicam")
SIM = "sim://knob_cap?width=456&samples=1"


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rakelight", *arguments]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, encoding="utf-8", timeout=120)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    recipe = 'product = "knob_cap"\nexposure_us = 6000\nall_zones_exposure_us = 2000\nretries = 0\n'
    (tmp_path / "knob.toml").write_text(f"schema = 1\n{recipe}")
    return tmp_path


def test_two_parts(home: Path) -> None:
    done = run(home, "capture", "--rig", SIM, "--recipe", "knob.toml", "-o", "parts", "-n", "2", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["captures"]
    for k, capture in enumerate(made, 1):
        recording = Recording.open(home / "parts" / f"knob_cap-000{k}")
        assert verify_truth(recording) == [] and load_truth(recording) is not None
        assert Path(capture["calibration"]) == Path("parts") / recording.folder.name / "truth" / "calibration"
        assert RigCalibration.verify(home / capture["calibration"]) == []
    assert [Path(c["recording"]).name for c in made] == ["knob_cap-0001", "knob_cap-0002"]
    assert all(check["passed"] for c in made for check in c["checks"]) and made[0]["absent"] == ["patterns"]
    assert Recording.open(home / "parts" / "knob_cap-0002").info.part_id == "knob_cap-0002"
    done = run(home, "capture", "--rig", SIM, "--recipe", "knob.toml", "-o", "parts", "-n", "1")
    assert done.returncode == 0 and "parts/knob_cap-0003: 7 frames, all checks passed" in done.stdout, done.stderr


@pytest.mark.slow
def test_what_is_captured_can_be_reconstructed_by_what_lies_beside_it(home: Path) -> None:
    rig = "sim://knob_cap?seed=5&defect=scratch&width=608"
    done = run(home, "capture", "--rig", rig, "--recipe", "knob.toml", "-o", "r")
    assert done.returncode == 0, done.stderr
    assert "7 frames of 608×406 BayerRG12, 3 MB" in done.stderr
    command = done.stdout.splitlines()[-1].removeprefix("next: rakelight ").replace("OUTPUT", "out").split()
    done = run(home, *command, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads((home / "out" / "reconstruction.json").read_text())
    assert report["truth"]["smooth"]["mean_deg"] < 1.3 and report["truth"]["label"] == "scratch"
    assert not report["warnings"]


def test_truth_can_be_left_out_and_is_where_faults_would_belie_it(home: Path) -> None:
    done = run(home, "capture", "--rig", SIM, "--recipe", "knob.toml", "--no-truth", "-o", "r")
    assert done.returncode == 0 and "-c CALIBRATION -o OUTPUT" in done.stdout, done.stderr
    assert not (home / "r" / "truth").exists()
    rig = f"{SIM}&projector=0&fault=light.deaf@900"
    done = run(home, "capture", "--rig", rig, "--recipe", "knob.toml", "-o", "s")
    assert done.returncode == 0 and "no truth beside the frames" in done.stderr, done.stderr
    assert Recording.open(home / "s").info.simulated and not (home / "s" / "truth").exists()


@pytest.mark.slow
def test_faults_end_with_their_code(home: Path) -> None:
    done = run(home, "capture", "--rig", f"{SIM}&fault=dead_zone@2", "--recipe", "knob.toml", "-o", "r")
    assert done.returncode == 6 and "[check.dead_zone] zone 2 gives 0%" in done.stderr and not (home / "r").exists()
    done = run(home, "capture", "--rig", f"{SIM}&fault=drop@2", "--recipe", "knob.toml", "-o", "r")
    assert done.returncode == 4 and "[camera.timeout]" in done.stderr and not (home / "r").exists()
    done = run(home, "capture", "--rig", f"{SIM}&fault=drip@2", "--recipe", "knob.toml", "-o", "r")
    assert done.returncode == 2 and "did you mean drop@1" in done.stderr
    done = run(home, "capture", "--rig", "absent.toml", "--recipe", "knob.toml", "-o", "r")
    assert done.returncode == 3 and "absent.toml does not exist" in done.stderr


def test_check_and_devices(home: Path) -> None:
    done = run(home, "rig", "check", SIM)
    assert done.returncode == 0 and "zones 1, 2, 3, 4" in done.stdout and "all is dark again" in done.stdout
    done = run(home, "devices", "--producer", "absent.cti", "--json")
    assert done.returncode == 0 and "absent.cti does not exist" in json.loads(done.stdout)["trouble"][0]


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C")
def test_served_devices_are_a_rig_for_others(home: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "rakelight", "rig", "simulate", SIM], cwd=home, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    try:
        assert server.stdout is not None and server.stderr is not None
        assert "serving" in server.stderr.readline()
        os.set_blocking(server.stdout.fileno(), False)
        (home / "rig.toml").write_text(server.stdout.read())
        done = run(home, "capture", "--rig", "rig.toml", "--recipe", "knob.toml", "-o", "r")
        assert done.returncode == 0, done.stderr
        assert Recording.open(home / "r").info.simulated
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0
    finally:
        server.kill()
        server.communicate()


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_capture_leaves_nothing(home: Path, number: signal.Signals) -> None:
    (home / "slow.toml").write_text('schema = 1\nproduct = "knob_cap"\nexposure_us = 1000000\n')
    child = subprocess.Popen(
        [sys.executable, "-m", "rakelight", "capture", "--rig", SIM, "--recipe", "slow.toml", "-o", "r"],
        cwd=home, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(home.glob(".r.partial-*/*zone1*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(number)
    _, told = child.communicate(timeout=20)
    assert child.returncode == 130 and "interrupted" in told
    assert sorted(p.name for p in home.iterdir()) == ["knob.toml", "slow.toml"]
