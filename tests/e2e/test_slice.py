"""From plain pictures to a committed sample by the commands of the README, on a simulated part with known truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from rakelight.dataset.writer import Dataset

TOML = """
schema = 1
part_id = "{name}"
target = "{target}"
pixel_format = "Mono12"
linear = true
simulated = true
[stack]
files = "{name}_{{zone}}.png"
zones = [1, 2, 3, 4]
[[frames]]
file = "{name}_dark.png"
role = "dark"
"""


def run(folder: Path, *arguments: str) -> Any:
    """One command in a process of its own; its JSON."""
    command = [sys.executable, "-m", "rakelight", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def export(scenes: Any, folder: Path, name: str, target: str, images: np.ndarray) -> None:
    """Pictures and description as a user would have them."""
    for zone, image in enumerate([*images, 0 * images[0]], 1):
        suffix = zone if zone <= len(images) else "dark"
        cv2.imwrite(str(folder / f"{name}_{suffix}.png"), scenes.digitise(image, "Mono12", seed=zone))
    (folder / f"{name}.toml").write_text(TOML.format(name=name, target=target))


def test_from_pictures_to_sample(scenes: Any, tmp_path: Path) -> None:
    field = scenes.fall_off()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    export(scenes, pictures, "knob", "part", scenes.part(field=field))
    export(scenes, pictures, "sphere", "chrome_sphere", scenes.sphere())
    export(scenes, pictures, "white", "white_plane", scenes.white(field=field))
    for name in ("knob", "sphere", "white"):
        made = run(tmp_path, "recording", "import", "pictures", "-d", f"pictures/{name}.toml", "-o", f"rec/{name}")
        assert made["frames"] == 5
    rig = run(tmp_path, "calibrate", "lights", "rec/sphere", "rec/white", "-o", "calibration/lab")
    assert rig["calibration_id"] == "lab" and rig["flat_field"]["zones"] == [1, 2, 3, 4] and rig["dark"]
    report = run(tmp_path, "reconstruct", "rec/knob", "-c", "calibration/lab", "-o", "knob")
    assert report["coverage"]["solved"] == 1.0 and report["warnings"] == []
    errors = scenes.angle_deg(tifffile.imread(tmp_path / "knob" / "normals.tiff"), scenes.normals())
    assert np.median(errors) < 0.4 and np.percentile(errors, 99) < 1.0

    run(tmp_path, "dataset", "init", "parts")
    options = ("-c", "calibration/lab", "--category", "knob_cap", "--label", "OK")
    added = run(tmp_path, "dataset", "add", "parts", "rec/knob", *options)
    assert len(added["added"]) == 1
    shown = run(tmp_path, "dataset", "show", "parts")
    assert shown["problems"] == {} and shown["samples"][0]["sample"] == added["added"][0]["sample"]
    dataset = Dataset.open(tmp_path / "parts")
    assert [dataset.verify_sample(s) for s in dataset.samples()] == [[]]
    hidden = [p for p in tmp_path.rglob("*") if ".partial-" in p.name or ".old-" in p.name]
    assert hidden == []
