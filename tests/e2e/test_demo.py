"""The demo: real photographs through the whole chain, again and again, and never over anything else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images
from rakelight.dataset.recording import Recording, verify
from rakelight.dataset.writer import Dataset
from rakelight.errors import StorageError
from rakelight.pipeline.demo import run_demo

SMALL = 608  # px wide; narrower frames show no smooth areas


@pytest.mark.slow
def test_demo_from_photographs_to_sample(tmp_path: Path) -> None:
    pytest.importorskip("genicam")
    steps: list[str] = []
    demo = run_demo(tmp_path / "out", width=SMALL, progress=steps.append)
    assert all(path.exists() for path in demo.paths.values()), demo.paths
    assert steps[0] == "import photographs" and steps[-1] == "compare with the truth"
    assert "capture 20 of 75" in steps and demo.without_rig == ""
    assert any("75 frames, under four lights and from four pattern projectors" in sentence for sentence in demo.story)
    assert demo.figures["lights"] == 12 and demo.figures["solved"] > 0.45
    assert demo.figures["sphere_spread_deg"]["mean"] < 2
    assert any("12 light directions" in sentence for sentence in demo.story)
    recordings = [Recording.open(folder) for folder in sorted(demo.paths["recordings"].iterdir())]
    assert len(recordings) == 4 and not any(problem for r in recordings for problem in verify(r))
    captured = Recording.open(demo.paths["recordings"] / "knob_cap").info
    assert captured.rig_id == "reference-simulated-rig" and all(f.timestamp_ns for f in captured.frames)
    assert {s.projector for s in captured.plan if s.role == "pattern"} == {1, 2, 3, 4}
    assert RigCalibration.verify(demo.paths["calibration"]) == []
    dataset = Dataset.open(tmp_path / "out" / "dataset")
    samples = list(dataset.samples())
    kept = list((dataset.root / "calibration").iterdir())
    assert len(kept) == len(samples) == 2 and not any(RigCalibration.verify(k) for k in kept)
    captures = [json.loads((dataset.root / s.key.extras_folder / "capture.json").read_text()) for s in samples]
    used = {c["reconstruction"]["calibration"]["content_sha256"][:12] for c in captures}
    assert used == {k.name[:12] for k in kept}
    assert [c["simulated"] for c in captures] == [False, True] and "truth" not in captures[1]["reconstruction"]
    assert [dataset.verify_sample(s) for s in samples] == [[], []]
    assert str(samples[1].key) == "knob_cap/NG/scratch/S0001"
    assert demo.figures["simulated"]["truth"]["smooth"]["mean_deg"] < 2
    assert {f"RGBL{n:02d}" for n in range(1, 6)} <= set(samples[0].modalities)
    report = json.loads((tmp_path / "out" / "pseudo3d" / "reconstruction.json").read_text())
    assert any("flat field" in warning for warning in report["warnings"])
    assert set(report["warnings"]) <= set(demo.warnings) and len(set(demo.warnings)) == len(demo.warnings)
    assert images.read_image(demo.paths["contact sheet"]).shape[2] == 3
    assert np.isfinite(images.read_image(tmp_path / "out" / "pseudo3d" / "normals.tiff")).any()

    marker = tmp_path / "out" / "demo.json"
    assert json.loads(marker.read_text())["lights"] == 12
    mine = tmp_path / "out" / "dataset" / "mine.txt"
    mine.write_text("work that somebody went on with")
    with pytest.raises(StorageError, match=r"no demo wrote, for example dataset/mine\.txt"):
        run_demo(tmp_path / "out")
    assert mine.is_file()
    mine.unlink()
    first = marker.stat().st_ino
    run_demo(tmp_path / "out", width=SMALL)  # a second run replaces the first
    assert marker.stat().st_ino != first
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_demo_without_a_compiler_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    demo = run_demo(tmp_path / "out", width=SMALL)
    assert "no program 'no-such-compiler'" in demo.without_rig and "set CC" in demo.without_rig
    assert any("rendered without a rig" in sentence for sentence in demo.story)
    recording = Recording.open(demo.paths["recordings"] / "knob_cap")
    assert list(verify(recording)) == [] and any(s.role == "pattern" for s in recording.info.plan)
    assert [str(s.key) for s in Dataset.open(tmp_path / "out" / "dataset").samples()][1] == "knob_cap/NG/scratch/S0001"


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C to a group of processes")
@pytest.mark.slow
def test_interrupted_demo_leaves_neither_folder_nor_process(tmp_path: Path) -> None:
    pytest.importorskip("genicam")
    child = subprocess.Popen(
        [sys.executable, "-m", "rakelight", "demo", "-o", "out"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        start_new_session=True, env={**os.environ, "RAKELIGHT_TEST_MARK": str(tmp_path)},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".out*/recordings/.knob_cap*/*_p1_01.tiff")) and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    _, told = child.communicate(timeout=30)
    assert child.returncode == 130 and "nothing half-written remains" in told
    assert list(tmp_path.iterdir()) == []
    if Path("/proc").is_dir():
        deadline = time.monotonic() + 5
        while (left := _marked(str(tmp_path))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left


def _marked(mark: str) -> list[str]:
    """Command lines of the processes that were started, directly or not, with ``mark`` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just gone, or is another user's
            if f"RAKELIGHT_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
    return found


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_demo_never_replaces_anything_else(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
        (target / "chapter1.tex").write_text("x")
    else:
        target.write_text("x")
    with pytest.raises(StorageError, match=r"something else|not a folder") as caught:
        run_demo(target)
    assert caught.value.hint
    assert (target / "chapter1.tex" if kind == "folder" else target).read_text() == "x"
