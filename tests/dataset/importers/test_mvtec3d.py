"""MVTec 3D-AD trees, built by hand, and our own exports brought home."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rakelight.dataset.archives import open_view
from rakelight.dataset.exporters.job import ExportOptions
from rakelight.dataset.exporters.targets import exporter
from rakelight.dataset.importers import mvtec3d, pixels
from rakelight.dataset.importers.sources import detect
from rakelight.dataset.opened import open_samples
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.split_files import Parts, SplitFile, digest, read_split
from rakelight.dataset.splits import SplitRule
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError
from rakelight.files import make_folder, write_json

from .conftest import H, W, defect, keys, picture, run, sample, save, save_text, save_tiff, zipped


def metres(seed: int = 0) -> np.ndarray:
    """As MVTec has it: metres, (0, 0, 0) where nothing was measured."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-0.05, 0.05, W), np.linspace(-0.03, 0.03, H))
    xyz = np.stack((x, y, rng.normal(0.5, 0.01, (H, W))), -1).astype(np.float32)
    xyz[rng.random((H, W)) < 0.2] = 0
    return xyz


def tree(root: Path) -> Path:
    """Two train, one validation, one good and one defective test sample."""
    rows = [
        ("train/good", "000"),
        ("train/good", "001"),
        ("validation/good", "000"),
        ("test/good", "000"),
        ("test/hole", "000"),
    ]
    for number, (home, name) in enumerate(rows):
        folder = root / "cable_gland" / home
        save(folder / "rgb" / f"{name}.png", picture(number))
        save_tiff(folder / "xyz" / f"{name}.tiff", metres(number))
        if home.startswith("test"):
            save(folder / "gt" / f"{name}.png", defect(255 if "hole" in home else 0))
    save_text(root / "cable_gland/calibration/camera.json", json.dumps({"fx": 1000.0}))
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_tree(packed: bool, tmp_path: Path, dataset: Dataset) -> None:
    source = tree(tmp_path / "mvtec")
    source = zipped(source, tmp_path / "mvtec.zip") if packed else source
    done = run(dataset, source)
    assert [one.error for one in done if one.error] == []
    assert keys(done) == [f"cable_gland/OK/S000{n}" for n in (1, 2, 3, 4)] + ["cable_gland/NG/hole/S0001"]
    by_origin = {s.manifest.source.origin: s for s in open_samples(dataset.root)}
    first = by_origin["mvtec3d:cable_gland/train/good/000"]
    assert np.array_equal(first.rgb(), picture(0))  # type: ignore[arg-type]
    assert first.record("RGBL05.png") is not None
    stored, truth = first.xyz(), metres(0)
    assert stored is not None
    nothing = (truth == 0).all(-1)
    assert np.isnan(stored[nothing]).all()
    assert np.allclose(stored[~nothing], truth[~nothing].astype(float) * 1000, rtol=0, atol=5e-5)
    assert first.manifest.xyz_xy == "true"
    assert first.record("PCD") is not None
    hole = by_origin["mvtec3d:cable_gland/test/hole/000"]
    assert np.array_equal(hole.mask(), defect())  # type: ignore[arg-type]
    assert by_origin["mvtec3d:cable_gland/test/good/000"].mask() is None
    capture = json.loads((dataset.root / first.key.extras_folder / "capture.json").read_text())
    assert capture["camera"] == {"fx": 1000.0}
    (split,) = read_split(dataset.root, "official")
    parts = split.categories["cable_gland"]
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [2, 1, 2]
    again = run(dataset, source)
    assert keys(again) == []


def test_lists_that_do_not_pair_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "mvtec")
    (root / "cable_gland/train/good/rgb/000.png").unlink()
    (root / "cable_gland/train/good/xyz/001.tiff").unlink()
    with open_view(root) as view:
        found = mvtec3d.scan(view)
    assert len(found.samples) == 4
    assert any("no picture has their name" in t and "train/good/000" in t for t in found.oddities)
    assert any("no XYZ map" in t and "train/good/001" in t for t in found.oddities)


def test_preprocessed_trees_are_read_the_same(tmp_path: Path, dataset: Dataset) -> None:
    """What BTF and M3DM leave: padded to a square, background 0 in picture and points; converted Eyecandies: ``bad``."""
    xyz, shown = np.zeros((100, 100, 3), np.float32), np.zeros((100, 100, 3), np.uint8)
    xyz[40:60, 30:62], shown[40:60, 30:62] = metres(1), picture(1)
    folder = tmp_path / "t" / "CandyCane" / "test" / "bad"
    save(folder / "rgb" / "00.png", shown)
    save_tiff(folder / "xyz" / "00.tiff", xyz)
    save(folder / "gt" / "00.png", defect(1, (100, 100)))
    (one, *_rest) = run(dataset, tmp_path / "t")
    opened = sample(dataset, str(one.key))
    assert str(one.key) == "candy_cane/NG/bad/S0001"
    assert np.isnan(opened.xyz()[:40]).all()  # type: ignore[index]
    assert np.isfinite(opened.xyz()[41, 31:61]).any()  # type: ignore[index]
    assert np.array_equal(opened.mask(), defect(255, (100, 100)))  # type: ignore[arg-type]


def test_pictures_with_an_alpha_channel_that_hides_nothing(tmp_path: Path, dataset: Dataset) -> None:
    folder = tmp_path / "t" / "bagel" / "train" / "good"
    opaque = np.dstack((picture(1), np.full((H, W), 255, np.uint8)))
    hidden = np.dstack((picture(1), np.full((H, W), 100, np.uint8)))
    for name, image in {"000": opaque, "001": hidden, "002": picture(3)[..., 0]}.items():
        save(folder / "rgb" / f"{name}.png", image)
        save_tiff(folder / "xyz" / f"{name}.tiff", metres())
    done = run(dataset, tmp_path / "t")
    assert keys(done) == ["bagel/OK/S0001", "bagel/OK/S0002"]
    assert np.array_equal(sample(dataset, "bagel/OK/S0001").rgb(), picture(1))  # type: ignore[arg-type]
    (failed,) = [one for one in done if one.error]
    assert "transparent" in failed.error["message"]  # type: ignore[index]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 38), (60, 200), (254, 255)])
def test_of_two_values_in_a_mask_the_higher_one_is_the_defect(tmp_path: Path, low: int, high: int) -> None:
    mask = np.full((6, 8), low, np.uint8)
    mask[2:4, 3:6] = high
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with open_view(tmp_path) as view:
        found, values = pixels.read_mask(view, "mask.png")
    assert np.array_equal(found > 0, mask == high) and values == (low, high)


def test_maps_without_a_point_are_left_out_and_told(tmp_path: Path, dataset: Dataset) -> None:
    folder = tmp_path / "t" / "bagel" / "train" / "good"
    save(folder / "rgb" / "000.png", picture(1))
    save_tiff(folder / "xyz" / "000.tiff", np.zeros((H, W, 3), np.float32))
    (one, *_rest) = run(dataset, tmp_path / "t")
    assert "no valid point" in one.warnings[0]
    assert sample(dataset, str(one.key)).xyz() is None


# ---------------------------------------------------------------------------------------------------------- our own exports
def our_set(root: Path) -> Dataset:
    """Samples with gaps in their numbers, specimens, zeros in x, and an official split."""
    opened = Dataset.init(root, "ours")
    rows = [("OK", 3), ("OK", 4), ("OK", 9), ("scratch", 2), ("pit", 1)]
    with opened.writer() as writer:
        for seed, (label, number) in enumerate(rows):
            xyz = np.where(metres(seed) == 0, np.nan, metres(seed) * np.float32(1000)).astype(np.float32)
            xyz[:, 5, 0] = np.where(np.isnan(xyz[:, 5, 2]), np.nan, 0)
            xyz[np.isnan(xyz).any(-1)] = np.nan
            writer.commit(
                SampleContent(
                    "knob_cap",
                    label,
                    "20250101120000",
                    {view: picture(10 * seed + view) for view in range(1, 6)},
                    ps=picture(seed + 90),
                    mask=None if label == "OK" else defect(),
                    xyz=xyz,
                    specimen=f"part-{seed}",
                ),
                number=number,
            )
    parts = {
        "knob_cap": Parts(
            train=("knob_cap/OK/S0003",),
            validation=("knob_cap/OK/S0004",),
            test=("knob_cap/OK/S0009", "knob_cap/NG/scratch/S0002", "knob_cap/NG/pit/S0001"),
        )
    }
    split = SplitFile(
        name="official", seed=0, by="sample", categories=parts, sha256=digest(parts), rule=SplitRule(by="sample")
    )
    write_json(make_folder(root / "meta/splits") / "official.json", split.model_dump(by_alias=True))
    return opened


@pytest.mark.parametrize("format", ["mvtec3d", "d3m"])
@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(format: str, packed: bool, tmp_path: Path, dataset: Dataset) -> None:
    ours = our_set(tmp_path / "source")
    exporter(format).export(ours, tmp_path / "out", options=ExportOptions())
    source = zipped(tmp_path / "out", tmp_path / "out.zip") if packed else tmp_path / "out"
    with open_view(source) as view:
        assert detect(view) == format
    done = run(dataset, source)
    assert [one.error for one in done if one.error] == []
    before, after = list(open_samples(ours.root)), list(open_samples(dataset.root))
    assert [s.key for s in after] == [s.key for s in before]
    for old, new in zip(before, after, strict=True):
        assert new.manifest.specimen == old.manifest.specimen
        assert np.array_equal(new.rgb(), old.rgb())  # type: ignore[arg-type]
        assert (new.mask() is None) == (old.mask() is None)
        assert old.mask() is None or np.array_equal(new.mask(), old.mask())  # type: ignore[arg-type]
        a, b = old.xyz(), new.xyz()
        assert a is not None
        assert b is not None
        assert np.array_equal(np.isnan(a), np.isnan(b))
        assert np.nanmax(np.abs(a.astype(float) - b)) / 1000 <= 5e-8
    (split,) = read_split(dataset.root, "official")
    (original,) = read_split(ours.root, "official")
    assert split.sha256 == original.sha256


def test_part_masks_come_back_with_the_background_removed(tmp_path: Path, dataset: Dataset) -> None:
    part = np.zeros((H, W), bool)
    part[3:15, 4:20] = True
    ours = Dataset.init(tmp_path / "source", "ours")
    xyz = np.where(metres() == 0, np.nan, metres() * np.float32(1000)).astype(np.float32)
    with ours.writer() as writer:
        writer.commit(SampleContent("knob_cap", "OK", "20250101120000", {5: picture(1)}, xyz=xyz, part_mask=part))
    exporter("mvtec3d").export(ours, tmp_path / "out", options=ExportOptions(no_background="xyz"))
    (one, *_rest) = run(dataset, tmp_path / "out")
    opened = sample(dataset, str(one.key))
    assert np.array_equal(opened.part_mask(), part)  # type: ignore[arg-type]
    assert np.isnan(opened.xyz()[~part]).all()  # type: ignore[index]


@pytest.mark.parametrize("text", ["{", "[]", '{"samples": 3}', '{"samples": [{"sample": "../x"}]}'])
def test_a_damaged_map_gives_one_clear_error(text: str, tmp_path: Path) -> None:
    ours = our_set(tmp_path / "source")
    exporter("mvtec3d").export(ours, tmp_path / "out", options=ExportOptions())
    save_text(tmp_path / "out" / "rakelight_map.json", text)
    with pytest.raises(DatasetError, match="rakelight_map"), open_view(tmp_path / "out") as view:
        mvtec3d.scan(view)


@pytest.mark.slow
def test_benchmark_meets_its_bars(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "round_trip.py"
    done = subprocess.run([sys.executable, script, "--samples", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["mvtec3d"]["xyz_m"] <= 5e-8
