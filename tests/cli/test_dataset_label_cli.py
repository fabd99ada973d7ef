"""``rakelight dataset label``: one round with LabelMe, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rakelight.cli.dataset_label import label
from rakelight.dataset import images
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset

TIME = "20251123021300"
KEY = "knob_cap/NG/scratch/S0001"
STEM = f"knob_cap_0001_scratch_RGBL05_{TIME}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = Dataset.init(tmp_path / "set", "pilot")
    picture = np.full((24, 32, 3), 90, np.uint8)
    with made.writer() as writer:
        writer.commit(SampleContent("knob_cap", "scratch", TIME, {5: picture}, pitch_mm=0.01))
        writer.commit(SampleContent("knob_cap", "OK", TIME, {5: picture}))
    return made.root


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(label, [str(a) for a in arguments], obj={})


def draw(folder: Path) -> None:
    file = folder / f"{STEM}.json"
    data = json.loads(file.read_text())
    data["shapes"] = [{"label": "scratch", "points": [[4, 5], [14, 9]], "shape_type": "rectangle", "flags": {}}]
    file.write_text(json.dumps(data))


def test_a_round_with_labelme(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawing"
    done = run("export", root, "-o", out, "--format", "labelme")
    assert (done.exit_code, done.output.splitlines()[0]) == (0, f"2 sample(s) in {out}")
    draw(out)
    done = run("import", root, out, "--by", "anna", "--dry-run")
    assert f"{KEY}: would be imported; scratch 40 px" in done.output
    done = run("import", root, out, "--by", "anna")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-2:] == [f"{KEY}: imported; scratch 40 px", "1 imported, 1 nothing drawn"]
    assert "1 nothing drawn, 1 unchanged" in run("import", root, out, "--by", "anna").output
    done = run("review", root, KEY, "--state", "approved", "--by", "ben", "--note", "clear")
    assert done.exit_code == 0, done.output
    done = run("show", root, KEY, "--overlay", tmp_path / "look.png")
    assert "approved, 1 region(s) by anna" in done.output and "0.004" in done.output and "by ben clear" in done.output
    assert images.read_image(tmp_path / "look.png").shape == (24, 32, 3)
    shown = json.loads(run("show", root, KEY, "--json").output)
    assert shown["annotation"]["review"]["by"] == "ben"
    compared = json.loads(run("compare", root, out, "--json").output)
    assert compared["mean_iou"] == 1.0
    assert "mean IoU 1.000 of 2 sample(s)" in run("compare", root, out).output


def test_classes_are_described(root: Path) -> None:
    done = run("classes", root, "--describe", "scratch", "a line deeper than 5 µm")
    assert done.exit_code == 0 and "SC" in done.output and "deeper than 5 µm" in done.output
    assert json.loads(run("classes", root, "--json").output)["defects"]["scratch"]["index"] == 1


def test_what_is_wrong_ends_with_7_and_names_the_file(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"shapes": [{"label": "pit"}]}')
    (tmp_path / "lost.png").write_bytes(bytes(images.encode_png(np.full((24, 32), 255, np.uint8))))
    done = run("import", root, tmp_path / "bad.json", tmp_path / "lost.png")
    assert done.exit_code == 7
    assert "bad.json, shape 1" in done.output and "no sample has a picture named lost.png" in done.output
    assert "1 no sample, 1 refused" in done.output
    told = json.loads(run("import", root, tmp_path / "bad.json", "--json").output)
    assert told["outcomes"][0]["status"] == "refused" and told["outcomes"][0]["hint"]
    assert run("compare", root, tmp_path / "bad.json").exit_code == 7
    assert run("import", root, tmp_path / "bad.json", "--rename", "pit").exit_code == 2
