"""The demo: real photographs through the whole chain, again and again, and never over anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images
from rakelight.dataset.recording import Recording, verify
from rakelight.dataset.writer import Dataset
from rakelight.errors import StorageError
from rakelight.pipeline.demo import run_demo


def test_demo_from_photographs_to_sample(tmp_path: Path) -> None:
    steps: list[str] = []
    demo = run_demo(tmp_path / "out", progress=steps.append)
    assert all(path.exists() for path in demo.paths.values()), demo.paths
    assert steps[0] == "import photographs" and steps[-1] == "compare with the truth"
    assert demo.figures["lights"] == 12 and demo.figures["solved"] > 0.45
    assert demo.figures["sphere_spread_deg"]["mean"] < 2
    assert any("12 light directions" in sentence for sentence in demo.story)
    recordings = [Recording.open(folder) for folder in sorted(demo.paths["recordings"].iterdir())]
    assert len(recordings) == 4 and not any(problem for r in recordings for problem in verify(r))
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
    run_demo(tmp_path / "out")  # a second run replaces the first
    assert marker.stat().st_ino != first
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


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
