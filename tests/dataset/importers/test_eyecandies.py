"""Eyecandies: lights, normals and depth as its authors document them, from files built by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rakelight.dataset.archives import open_view
from rakelight.dataset.importers import eyecandies
from rakelight.dataset.importers.sources import detect
from rakelight.dataset.split_files import read_split
from rakelight.dataset.writer import Dataset

from .conftest import H, W, defect, keys, picture, run, sample, save, save_text, zipped

MIN, MAX = 1.25, 1.75


def normals(seed: int = 0) -> np.ndarray:
    n = np.random.default_rng(seed).normal(0, 0.3, (H, W, 3))
    n[..., 2] = 1
    return n / np.linalg.norm(n, axis=-1, keepdims=True)


def write(home: Path, number: str, kinds: tuple[str, ...] = (), *, test: bool = True, private: bool = False) -> None:
    data = home / "data"
    for n in range(6):
        save(data / f"{number}_image_{n}.png", picture(10 * int(number) + n))
    depth = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    Image.fromarray(depth).save(data / f"{number}_depth.png")
    save_text(data / f"{number}_info_depth.yaml", f"normalization:\n  max: {MAX}\n  min: {MIN}\n")
    save(data / f"{number}_normals.png", np.round((normals() + 1) * 127.5).astype(np.uint8))
    save_text(data / f"{number}_pose.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    if private:
        return
    lines = [f"{k}: {int(k in kinds)}" for k in eyecandies.KINDS]
    save_text(data / f"{number}_metadata.yaml", f"anomalous: {int(bool(kinds))}\n" + "\n".join(lines) + "\n")
    for kind in eyecandies.KINDS:
        save(data / f"{number}_{kind}_mask.png", defect(255 if kind in kinds else 0))
    save(data / f"{number}_mask.png", defect(255 if kinds else 0))


def tree(root: Path) -> Path:
    candy = root / "CandyCane"
    write(candy / "train", "000")
    write(candy / "val", "000")
    write(candy / "test_public", "00")
    write(candy / "test_public", "01", ("bumps",))
    write(candy / "test_public", "02", ("colors", "dents"))
    write(candy / "test_private", "000", private=True)
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_tree(packed: bool, tmp_path: Path, dataset: Dataset) -> None:
    source = tree(tmp_path / "eye")
    source = zipped(source / "CandyCane", tmp_path / "CandyCane.zip") if packed else source
    with open_view(source) as view:
        assert detect(view) == "eyecandies"
        assert any("1 sample(s) of test_private" in text for text in eyecandies.scan(view).oddities)
    done = run(dataset, source)
    assert [one.error for one in done if one.error] == []
    assert keys(done) == [
        "candy_cane/OK/S0001",
        "candy_cane/OK/S0002",
        "candy_cane/OK/S0003",
        "candy_cane/NG/bumps/S0001",
        "candy_cane/NG/combined/S0001",
    ]
    (split,) = read_split(dataset.root, "official")
    parts = split.categories["candy_cane"]
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [1, 1, 3]
    bumps = sample(dataset, "candy_cane/NG/bumps/S0001")
    assert bumps.manifest.simulated
    assert np.array_equal(bumps.mask(), defect())  # type: ignore[arg-type]
    assert np.array_equal(bumps.image("bumps_mask.png"), defect())  # type: ignore[arg-type]
    assert bumps.record("dents_mask.png") is None


def test_lights_go_to_the_zones_of_their_side(tmp_path: Path, dataset: Dataset) -> None:
    """Ours count right, up, left, down; theirs bottom, right, top, left."""
    run(dataset, tree(tmp_path / "eye"))
    opened = sample(dataset, "candy_cane/NG/bumps/S0001")
    for view, image in {1: 2, 2: 3, 3: 4, 4: 1, 5: 0}.items():
        assert np.array_equal(opened.rgb(view), picture(10 + image)), view  # type: ignore[arg-type]
    assert np.array_equal(opened.image("global_light.png"), picture(15))  # type: ignore[arg-type]


def test_normals_are_our_ps_and_decode_to_unit_vectors(tmp_path: Path, dataset: Dataset) -> None:
    run(dataset, tree(tmp_path / "eye"))
    opened = sample(dataset, "candy_cane/OK/S0001")
    assert np.array_equal(opened.ps(), np.round((normals() + 1) * 127.5).astype(np.uint8))  # type: ignore[arg-type]
    found = opened.normals()
    assert found is not None
    angle = np.degrees(np.arccos(np.clip((found * normals()).sum(-1), -1, 1)))
    assert angle.max() < 0.5
    assert (found[..., 2] > 0).all()  # towards the camera


def test_depth_becomes_points_of_the_pinhole(tmp_path: Path, dataset: Dataset) -> None:
    run(dataset, tree(tmp_path / "eye"))
    opened = sample(dataset, "candy_cane/OK/S0001")
    xyz = opened.xyz()
    assert xyz is not None
    step = (MAX - MIN) / (H * W - 1) * 1000
    for v, u in ((0, 0), (3, 7), (H - 1, W - 1)):
        depth = 1000 * MIN + (v * W + u) * step
        expected = ((u - W / 2) * depth / 711.11, (v - H / 2) * depth / 711.11, depth)
        assert np.allclose(xyz[v, u], expected, atol=0.02)
    assert opened.manifest.pitch_mm == pytest.approx(1000 * (MIN + MAX) / 2 / 711.11, rel=0.01)


def test_samples_whose_label_or_depth_is_not_told(tmp_path: Path, dataset: Dataset) -> None:
    root = tree(tmp_path / "eye")
    data = root / "CandyCane/test_public/data"
    for name in ("metadata.yaml", *(f"{k}_mask.png" for k in eyecandies.KINDS), "mask.png"):
        (data / f"00_{name}").unlink()
    (data / "01_metadata.yaml").unlink()  # its masks tell
    (data / "02_info_depth.yaml").write_text("normalization:\n  min: .nan\n")
    with open_view(root) as view:
        found = eyecandies.scan(view)
    assert any("label cannot be told" in text for text in found.oddities)
    done = run(dataset, root)
    assert "candy_cane/NG/bumps/S0001" in keys(done)
    (failed,) = [one for one in done if one.error]
    assert failed.error is not None
    assert failed.error["code"] == "import.no_depth_bounds"


def test_damaged_pictures_cost_one_sample(tmp_path: Path, dataset: Dataset) -> None:
    root = tree(tmp_path / "eye")
    path = root / "CandyCane/train/data/000_image_3.png"
    path.write_bytes(path.read_bytes()[:200])
    done = run(dataset, root)
    assert len(keys(done)) == 4
    assert [one.origin for one in done if one.error] == ["CandyCane/train/000"]
