"""Capture statistics: the same of a stored sample and of one just captured, and a tenth less light reads a tenth less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent, Source
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError
from rakelight.pipeline.capture_facts import content_statistics, reduction, sample_statistics
from rakelight.reconstruction.tone import srgb


def captured(size: tuple[int, int], *, seed: int = 0, dim: float = 1.0) -> SampleContent:
    """A disc on a grey table under four zones, the second dimmed; tone-mapped as the pipeline does."""
    rng = np.random.default_rng(seed)
    height, width = size
    v, u = np.indices(size, dtype=np.float32)
    disc = np.hypot(u - width / 2, v - height / 2) < height / 3
    rgb = {}
    for view, light in ((1, 0.30), (2, 0.25 * dim), (3, 0.35), (4, 0.28), (5, 0.5)):
        linear = light * (0.6 + 0.4 * disc + 0.1 * u / width) + rng.normal(0, 0.01, size)
        rgb[view] = np.repeat(np.rint(255 * srgb(np.clip(linear, 0, 1)))[..., None], 3, axis=2).astype(np.uint8)
    xyz = np.stack([u * 0.1, v * 0.1, np.full(size, 300.0, np.float32)], axis=-1).astype(np.float32)
    xyz[: height // 2, : width // 2] = np.nan
    ps = np.clip(np.array([140, 120, 250]) + rng.normal(0, 2, (*size, 3)), 0, 255).astype(np.uint8)
    source = Source(settings={"ps": "normals"})
    return SampleContent("disc", "OK", "0" * 14, rgb, ps=ps, xyz=xyz, part_mask=disc, pitch_mm=0.1, source=source)


def committed(folder: Path, content: SampleContent) -> OpenSample:
    dataset = Dataset.init(folder, "set")
    with dataset.writer() as writer:
        return OpenSample(dataset.root, writer.commit(content).key)


@pytest.mark.parametrize("size", [(120, 160), (700, 1100), (1400, 2100)], ids=["whole", "half", "a quarter"])
def test_a_stored_sample_and_its_arrays_give_the_same(tmp_path: Path, size: tuple[int, int]) -> None:
    content = captured(size)
    assert reduction(size[1]) == {160: 1, 1100: 2, 2100: 4}[size[1]]
    fresh, stored = content_statistics(content), sample_statistics(committed(tmp_path / "set", content))
    zones = {f"{name}_zone{view}" for name in ("light", "noise") for view in (1, 2, 3, 4)}
    assert fresh == stored and fresh.keys() == zones | {"points", "nan_share", "normal_x", "normal_y"}
    disc = content.part_mask
    assert disc is not None and content.xyz is not None
    assert fresh["points"] == pytest.approx((np.isfinite(content.xyz[..., 2]) & disc).sum(), rel=0.02)
    assert fresh["nan_share"] == pytest.approx(0.25, abs=0.01)
    assert fresh["normal_x"] == pytest.approx(140 / 127.5 - 1, abs=0.01)
    assert fresh["normal_y"] == pytest.approx(120 / 127.5 - 1, abs=0.01)


def test_light_is_linear_and_noise_is_what_it_is() -> None:
    whole, dimmed = content_statistics(captured((240, 320))), content_statistics(captured((240, 320), dim=0.9))
    assert dimmed["light_zone2"] / whole["light_zone2"] == pytest.approx(0.9, abs=0.005)
    assert dimmed["light_zone1"] == whole["light_zone1"]
    assert 0.7 * 0.01 * 255 < whole["noise_zone3"] < 0.01 * 255  # JPEG smooths some of it away


def test_what_a_sample_does_not_have_is_left_out(tmp_path: Path) -> None:
    full = captured((120, 160))
    bare = replace(full, rgb={k: full.rgb[k] for k in (2, 5)}, ps=None, xyz=None, part_mask=None)
    found = sample_statistics(committed(tmp_path / "bare", bare))
    assert found.keys() == {"light_zone2", "noise_zone2"}
    relief = replace(full, source=Source(settings={"ps": "relief"}))
    assert "normal_x" not in sample_statistics(committed(tmp_path / "relief", relief))


@pytest.mark.parametrize("role", ["RGBL02", "XYZ"])
def test_a_damaged_file_is_told(tmp_path: Path, role: str) -> None:
    sample = committed(tmp_path / "set", captured((1400, 2100)))
    path = sample.path(role)
    assert path is not None
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError):
        sample_statistics(OpenSample(sample.root, sample.key))


def test_an_empty_picture_is_told_by_name(tmp_path: Path) -> None:
    sample = committed(tmp_path / "set", captured((120, 160)))
    path = sample.path("RGBL02")
    assert path is not None
    path.write_bytes(b"")  # as a full disk leaves it
    with pytest.raises(DatasetError, match=r"disc/OK/S0001: its picture under zone 2 \(0 bytes\)") as told:
        sample_statistics(OpenSample(sample.root, sample.key))
    assert told.value.code == "image.unreadable"
