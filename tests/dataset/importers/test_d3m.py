"""The tree of the published D3M code, built by hand: good pairing, and pairing that only looks good."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rakelight.dataset.archives import open_view
from rakelight.dataset.importers import d3m
from rakelight.dataset.importers.sources import detect
from rakelight.dataset.split_files import read_split
from rakelight.dataset.writer import Dataset

from .conftest import H, W, bytes_of, defect, keys, picture, run, sample, save, save_tiff


def xyz(seed: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(W) * 0.01, np.arange(H) * 0.01)
    return np.stack((x, y, np.random.default_rng(seed).normal(5, 1, (H, W))), -1).astype(np.float32)


def tree(root: Path) -> Path:
    """Names as the code's globs want them: ``*L05*RGB*.jpg``; ps of train lies below ``good``."""
    rows = [
        ("train", "GOOD", 1),
        ("train", "GOOD", 2),
        ("validation", "GOOD", 3),
        ("test", "GOOD", 4),
        ("test", "Scratch", 5),
    ]
    for part, label, number in rows:
        home = root / "purple-clay-pot" / part / label
        name = f"S{number:04d}"
        for light in (1, 5):
            save(home / "rgb" / name / f"{name}_L{light:02d}_RGB.jpg", picture(10 * number + light), quality=95)
        save_tiff(home / "xyz" / f"{name}_XYZ.tiff", xyz(number))
        ps_home = root / "purple-clay-pot" / "train" / "good" if part == "train" else home
        save(ps_home / "ps" / f"{name}_PS.{'png' if part == 'test' else 'jpg'}", picture(number))
        if label != "GOOD":
            save(home / "gt" / "rgb" / f"{name}_L05_RGB.png", defect())
    return root


def test_tree(tmp_path: Path, dataset: Dataset) -> None:
    root = tree(tmp_path / "d3m")
    with open_view(root) as view:
        assert detect(view) == "d3m"
    done = run(dataset, root)
    assert [one.error for one in done if one.error] == []
    assert keys(done) == [f"purple_clay_pot/OK/S000{n}" for n in (1, 2, 3, 4)] + ["purple_clay_pot/NG/scratch/S0005"]
    by_origin = {one.origin: str(one.key) for one in done}
    second = sample(dataset, by_origin["purple-clay-pot/train/good/S0002"])
    home = root / "purple-clay-pot/train"
    assert bytes_of(second, "RGBL05") == (home / "GOOD/rgb/S0002/S0002_L05_RGB.jpg").read_bytes()
    assert bytes_of(second, "RGBL01") == (home / "GOOD/rgb/S0002/S0002_L01_RGB.jpg").read_bytes()
    assert bytes_of(second, "PS") == (home / "good/ps/S0002_PS.jpg").read_bytes()
    assert bytes_of(second, "XYZ") == (home / "GOOD/xyz/S0002_XYZ.tiff").read_bytes()
    assert second.manifest.xyz_xy == "true"
    scratch = sample(dataset, "purple_clay_pot/NG/scratch/S0005")
    assert np.array_equal(scratch.mask(), defect())  # type: ignore[arg-type]
    assert np.array_equal(scratch.ps(), picture(5))  # type: ignore[arg-type]
    (split,) = read_split(dataset.root, "official")
    parts = split.categories["purple_clay_pot"]
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [2, 1, 2]


def test_a_missing_file_is_not_hidden_by_the_order(tmp_path: Path, dataset: Dataset) -> None:
    root = tree(tmp_path / "d3m")
    (root / "purple-clay-pot/train/GOOD/xyz/S0001_XYZ.tiff").unlink()
    with open_view(root) as view:
        found = d3m.scan(view)
    assert any("paired by number" in text for text in found.oddities)
    done = run(dataset, root)
    by_origin = {one.origin: str(one.key) for one in done}
    assert sample(dataset, by_origin["purple-clay-pot/train/good/S0001"]).xyz() is None
    second = sample(dataset, by_origin["purple-clay-pot/train/good/S0002"]).xyz()
    assert np.array_equal(second, xyz(2))  # type: ignore[arg-type]


def test_names_without_numbers_pair_by_order_and_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "d3m")
    home = root / "purple-clay-pot/train/GOOD/xyz"
    for old, new in {"S0001_XYZ.tiff": "alpha.tiff", "S0002_XYZ.tiff": "beta.tiff"}.items():
        (home / old).rename(home / new)
    with open_view(root) as view:
        found = d3m.scan(view)
    files = {s.origin: s.files for s in found.samples}
    assert files["purple-clay-pot/train/good/S0002"]["XYZ"].endswith("beta.tiff")
    assert any("paired by order" in text for text in found.oddities)
    (home / "beta.tiff").unlink()
    with open_view(root) as view:
        found = d3m.scan(view)
    assert all("train/good" not in s.origin for s in found.samples)
    assert any("left out" in text for text in found.oddities)
