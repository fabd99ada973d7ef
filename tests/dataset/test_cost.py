"""What a sample costs: estimates against samples that are really written, and the command that says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rakelight.cli.dataset import dataset as group
from rakelight.dataset import cost, layout
from rakelight.dataset.options import DatasetOptions
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import InputError

H, W = 60, 80


def content(label: str = "OK", raw: Path | None = None) -> SampleContent:
    rng = np.random.default_rng(5)
    mask = np.zeros((H, W), np.uint8)
    mask[5:9, 5:9] = 255
    normals = np.zeros((H, W, 3), np.float32)
    normals[..., 2] = 1
    return SampleContent(
        "knob_cap",
        label,
        "20250101120000",
        {view: rng.integers(0, 255, (H, W, 3), np.uint8) for view in layout.VIEWS},
        mask=None if label == "OK" else mask,
        xyz=rng.normal(size=(H, W, 3)).astype(np.float32),
        normals=normals,
        extras={"valid": mask},
        raw_files={} if raw is None else {"frame.tiff": raw},
    )


def test_full_size_default_is_within_the_bar() -> None:
    made = cost.cost_of(5472, 3648)
    assert 300e6 < made.bytes <= 400e6
    sizes = {f.name: f.bytes for f in made.files}
    assert sizes["XYZ"] == 5472 * 3648 * 12
    assert sizes["PCD"] <= 16_000_000
    assert made.per_day(300) == 300 * made.bytes
    assert made.days_left(made.bytes * 600, 300) == pytest.approx(2)
    assert made.days_left(1, 0) == float("inf")
    assert not any(f.measured for f in made.files)


def test_raw_frames_are_counted_by_policy() -> None:
    none, stack, every = (cost.cost_of(1000, 500, keep_raw=k).bytes for k in ("none", "stack", "all"))  # type: ignore[arg-type]
    assert stack - none == cost.LIGHT_FRAMES * 1_000_000
    assert every - stack == cost.PATTERN_FRAMES * 1_000_000
    assert none < cost.cost_of(1000, 500, keep_raw="stack", packed=True).bytes < stack


def test_modalities_left_out_cost_nothing() -> None:
    bare = cost.cost_of(1000, 500, ("rgb",))
    assert {f.name for f in bare.files} == {*(f"RGBL0{v}" for v in layout.VIEWS), "facts"}


def test_measured_sizes_replace_estimates(tmp_path: Path) -> None:
    raw = tmp_path / "frame.tiff"
    raw.write_bytes(b"x" * H * W)
    dataset = Dataset.init(tmp_path / "set", "a")
    with dataset.writer() as writer:
        done = [writer.commit(content(raw=raw)), writer.commit(content("scratch", raw=raw))]
    measured, size = cost.measure(dataset.root)
    assert size == (W, H)
    assert measured.samples == 2
    assert measured.raw == 1.0
    made = {f.name: f for f in cost.cost_of(W, H, measured=measured).files}
    stored = [{f.role if f.role in layout.MODALITIES else Path(f.path).name: f.bytes for f in s.files} for s in done]
    for name in ("RGBL05", "XYZ", "normals.tiff", "cloud.ply", "valid.png"):
        assert made[name].measured
        assert made[name].bytes == pytest.approx((stored[0][name] + stored[1][name]) / 2, abs=1)
    assert made["MASK"].bytes == pytest.approx(stored[1]["MASK"] / 2, abs=1)  # every second sample has one
    assert not made["PS"].measured  # none has one: the estimate stands
    double = {f.name: f for f in cost.cost_of(2 * W, 2 * H, measured=measured).files}
    assert double["XYZ"].bytes == pytest.approx(4 * made["XYZ"].bytes, abs=4)
    assert "XYZ" not in {f.name for f in cost.cost_of(W, H, ("rgb",), measured=measured).files}


def test_damaged_and_missing_samples_are_passed_over(tmp_path: Path) -> None:
    dataset = Dataset.init(tmp_path / "set", "a")
    assert cost.measure(dataset.root) == (cost.Measured(), None)
    with dataset.writer() as writer:
        done = writer.commit(content())
        writer.commit(content())
    (done.extras_folder / layout.SAMPLE_MANIFEST).write_text("{")
    measured, _ = cost.measure(dataset.root)
    assert measured.samples == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"width": 0}, "width is 0"),
        ({"height": 70_000}, "height is 70000"),
        ({"modalities": ("rgb", "stl")}, "'stl'"),
        ({"keep_raw": "some"}, "keep_raw is 'some'"),
        ({"light_frames": -1}, "light_frames is -1"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        cost.cost_of(**{"width": 10, "height": 10, **arguments})


def test_command(tmp_path: Path) -> None:
    run = CliRunner().invoke
    told = run(group, ["cost", "--size", "5472x3648", "--parts-per-day", "300", "--json"])
    assert told.exit_code == 0, told.output
    data = json.loads(told.output)
    assert data["bytes"] == sum(f["bytes"] for f in data["files"]) == cost.cost_of(5472, 3648).bytes
    assert data["bytes_per_day"] == 300 * data["bytes"]
    assert data["days_left"] == pytest.approx(data["free_bytes"] / data["bytes_per_day"], abs=0.01)
    dataset = Dataset.init(tmp_path / "set", "a", options=DatasetOptions(keep_raw="stack"))
    empty = run(group, ["cost", str(dataset.root)])
    assert empty.exit_code == 2
    assert "--size" in empty.output
    with dataset.writer() as writer:
        writer.commit(content())
    text = run(group, ["cost", str(dataset.root)])
    assert text.exit_code == 0, text.output
    assert f"{W}×{H} px, measured in 1 sample(s)" in text.output
    assert "raw, 7 frames" in text.output
    assert "days" in text.output
    assert run(group, ["cost"]).exit_code == 2
    assert "5472x3648" in run(group, ["cost", "--size", "large"]).output
