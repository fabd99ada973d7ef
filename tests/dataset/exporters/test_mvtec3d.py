"""MVTec 3D-AD: what lands where, to the pixel; what the verifier catches; that it is whole or not there."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from rakelight.dataset import images
from rakelight.dataset.exporters import job, mvtec3d
from rakelight.dataset.exporters.job import EXPORT_FILE, MAP_FILE, ExportOptions
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, StorageError

PLAIN = ExportOptions()


@pytest.fixture(scope="module")
def exported(small_set: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "mvtec"
    mvtec3d.export(small_set, folder, options=PLAIN)
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """An export that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def placed(folder: Path) -> dict[str, dict[str, Any]]:
    return {e["sample"]: e for e in json.loads((folder / MAP_FILE).read_text())["samples"]}


def test_the_tree_is_that_of_the_data_set(exported: Path, toy: SimpleNamespace) -> None:
    tree = [name for name in toy.tree(exported) if name.startswith("knob_cap/")]
    wanted = []
    for home, count in {
        "train/good": 2,
        "validation/good": 2,
        "test/good": 2,
        "test/pit": 1,
        "test/scratch": 2,
    }.items():
        kinds = {"rgb": "png", "xyz": "tiff", **({"gt": "png"} if home.startswith("test") else {})}
        wanted += [f"knob_cap/{home}/{k}/{n:03d}.{end}" for k, end in kinds.items() for n in range(count)]
    assert tree == sorted(wanted)
    assert sorted(p.name for p in exported.iterdir()) == ["knob_cap", "lego_propeller", EXPORT_FILE, MAP_FILE]


def test_round_trip_pixels_and_masks_identical_points_within_50_nm(small_set: Dataset, exported: Path) -> None:
    """Read with other code than wrote it; the bar of the round trip."""
    for key, entry in placed(exported).items():
        sample = OpenSample(small_set.root, SampleKey.parse(key))
        home = exported / entry["category"] / entry["part"] / entry["label"]
        assert np.array_equal(images.read_image(home / "rgb" / f"{entry['name']}.png"), sample.rgb())
        metres = tifffile.imread(home / "xyz" / f"{entry['name']}.tiff")
        source = sample.xyz()
        assert source is not None and metres.dtype == np.float32 and metres.shape == source.shape
        valid = np.isfinite(source).all(-1)
        assert np.array_equal(valid, (metres != 0).all(-1))  # as BTF and M3DM tell valid points
        assert (metres[~valid] == 0).all()
        assert np.abs(metres[valid] - source[valid].astype(float) / 1000).max() <= 5e-8
        if entry["part"] == "test":
            mask = images.read_image(home / "gt" / f"{entry['name']}.png")
            wanted = sample.mask()
            assert np.array_equal(mask, np.zeros_like(mask) if wanted is None else wanted)


def test_shifted_coordinates_are_counted(exported: Path, small_set: Dataset) -> None:
    entry = placed(exported)["knob_cap/OK/S0001"]
    xyz = OpenSample(small_set.root, SampleKey.parse("knob_cap/OK/S0001")).xyz()
    assert entry["facts"]["shifted_off_zero"] == int((xyz == 0).sum()) > 10
    assert json.loads((exported / EXPORT_FILE).read_text())["facts"]["xyz_shift_m"] == 1e-9


def test_provenance_and_report(exported: Path, small_set: Dataset) -> None:
    made = job.read_provenance(exported)
    assert (made.format, made.split, made.dataset.name, made.simulated_samples) == ("mvtec3d", "official", "pilot", 0)
    assert made.counts["lego_propeller"]["test"] == {"good": 1, "crack": 1}
    assert str(small_set.root) not in (exported / EXPORT_FILE).read_text()


def test_the_verifier_finds_it_whole_and_equal(exported: Path, small_set: Dataset) -> None:
    assert mvtec3d.verify(exported) == ()
    assert mvtec3d.verify(exported, small_set) == ()


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def edit_map(change: Callable[[np.ndarray], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "knob_cap/train/good/xyz/000.tiff"
        xyz = tifffile.imread(path)
        change(xyz)
        images.write_tiff(path, xyz)

    return spoil


def set_at(index: Any, value: float) -> Callable[[np.ndarray], None]:
    def change(xyz: np.ndarray) -> None:
        xyz[index] = value

    return change


def swap(a: str, b: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        first, second = folder / a, folder / b
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)

    return spoil


def grey_mask(folder: Path) -> None:
    path = folder / "knob_cap/test/pit/gt/000.png"
    images.write_png(path, images.read_image(path) // 255)


def extra_picture(folder: Path) -> None:
    shutil.copy(folder / "knob_cap/train/good/rgb/000.png", folder / "knob_cap/train/good/rgb/0005.png")
    shutil.copy(folder / "knob_cap/train/good/xyz/000.tiff", folder / "knob_cap/train/good/xyz/0005.tiff")


ALONE = {  # found without the data set
    "picture_gone": (drop("knob_cap/train/good/rgb/000.png"), "1 pictures, 2 maps"),
    "mask_gone": (drop("knob_cap/test/pit/gt/000.png"), "1 pictures, 0 masks"),
    "nan": (edit_map(set_at((3, 3), np.nan)), "NaN"),
    "half_zero": (edit_map(set_at((slice(None), slice(None), 0), 0)), "exactly 0"),
    "millimetres": (edit_map(lambda xyz: np.multiply(xyz, 1000, out=xyz)), "not metres"),
    "mask_0_1": (grey_mask, "other than 0 and 255"),
    "unknown_picture": (extra_picture, "the map does not know"),
    "stray_folder": (lambda f: (f / "knob_cap/train/pit").mkdir(), "loaders know only good"),
}
COMPARED = {
    "swapped_pictures": (swap("knob_cap/train/good/rgb/000.png", "knob_cap/train/good/rgb/001.png"), "picture differs"),
    "swapped_masks": (swap("knob_cap/test/scratch/gt/000.png", "knob_cap/test/scratch/gt/001.png"), "mask differs"),
    "moved_point": (edit_map(set_at((..., 2), 0.5)), "points differ"),
}


@pytest.mark.parametrize("fault", ALONE)
def test_the_verifier_catches(copy: Path, fault: str) -> None:
    spoil, words = ALONE[fault]
    spoil(copy)
    problems = mvtec3d.verify(copy)
    assert any(words in p for p in problems), problems


@pytest.mark.parametrize("fault", COMPARED)
def test_the_verifier_catches_against_the_data_set(copy: Path, small_set: Dataset, fault: str) -> None:
    spoil, words = COMPARED[fault]
    spoil(copy)
    problems = mvtec3d.verify(copy, small_set)
    assert any(words in p for p in problems), problems


@pytest.mark.parametrize("file", ["/etc/passwd", "../set/meta/dataset.json", "C:/x", "a\\..\\b"])
def test_a_map_that_leads_out_is_refused(copy: Path, file: str) -> None:
    data = json.loads((copy / MAP_FILE).read_text())
    data["samples"][0]["files"]["rgb"] = file
    (copy / MAP_FILE).write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="outside the export"):
        mvtec3d.verify(copy)


def test_smaller(small_set: Dataset, tmp_path: Path, toy: SimpleNamespace) -> None:
    report = mvtec3d.export(small_set, tmp_path / "out", options=replace(PLAIN, size=32))
    assert mvtec3d.verify(tmp_path / "out", small_set) == ()
    picture = images.read_image(tmp_path / "out/knob_cap/train/good/rgb/000.png")
    source = OpenSample(small_set.root, SampleKey("knob_cap", "OK", 1)).rgb()
    assert source is not None
    assert picture.shape == (24, 32, 3)
    mean = source.reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(picture - mean).max() <= 0.51
    xyz = tifffile.imread(tmp_path / "out/knob_cap/train/good/xyz/000.tiff")
    assert set((xyz == 0).sum(-1).ravel()) == {0, 3}
    assert report.bytes < report.estimated_bytes


@pytest.mark.parametrize("masks", [True, False])
def test_background_goes_and_the_part_stays(make_set: Any, tmp_path: Path, toy: SimpleNamespace, masks: bool) -> None:
    changes = {} if masks else {"part_mask": None}
    made = make_set([("knob_cap", "OK", changes)] * 3 + [("knob_cap", "pit", changes)])
    folder = tmp_path / "out"
    mvtec3d.export(made, folder, options=replace(PLAIN, no_background="all"))
    assert mvtec3d.verify(folder, made) == ()
    for key, entry in placed(folder).items():
        source = OpenSample(made.root, SampleKey.parse(key)).xyz()
        assert source is not None
        there = (tifffile.imread(folder / entry["files"]["xyz"]) != 0).all(-1)
        assert np.array_equal(there, toy.part_mask() & np.isfinite(source).all(-1))
        shown = images.read_image(folder / entry["files"]["foreground"]) > 0
        assert (images.read_image(folder / entry["files"]["rgb"])[~shown] == 0).all()
        facts = entry["facts"]["background"]
        assert facts["method"] == ("part mask" if masks else "plane")
        if not masks:
            assert facts["distance_mm"] == pytest.approx(10 * toy.PITCH_MM)
            assert facts["inlier_ratio"] > 0.99


def test_rgb_stays_unless_all_is_asked_for(small_set: Dataset, tmp_path: Path, exported: Path) -> None:
    mvtec3d.export(small_set, tmp_path / "out", options=replace(PLAIN, no_background="xyz"))
    name = "knob_cap/train/good/rgb/000.png"
    assert (tmp_path / "out" / name).read_bytes() == (exported / name).read_bytes()
    assert (tmp_path / "out/foreground/knob_cap/train/good/000.png").is_file()


def test_a_part_that_fills_the_field_is_refused_and_leaves_nothing(make_set: Any, tmp_path: Path) -> None:
    rough = np.random.default_rng(0).uniform(100, 300, (48, 64, 3)).astype(np.float32)
    made = make_set([("knob_cap", "OK", {"part_mask": None, "xyz": rough})] * 3)
    with pytest.raises(DatasetError, match=r"knob_cap/OK/S000\d: no table plane"):
        mvtec3d.export(made, tmp_path / "out", options=replace(PLAIN, no_background="xyz"))
    assert list(tmp_path.iterdir()) == []


def test_ps_as_rgb(small_set: Dataset, tmp_path: Path) -> None:
    mvtec3d.export(small_set, tmp_path / "out", options=replace(PLAIN, view="PS"))
    picture = images.read_image(tmp_path / "out/knob_cap/train/good/rgb/000.png")
    assert np.array_equal(picture, OpenSample(small_set.root, SampleKey("knob_cap", "OK", 1)).ps())
    assert mvtec3d.verify(tmp_path / "out", small_set) == ()


def test_the_camera_travels_scaled_to_the_pictures(make_set: Any, tmp_path: Path) -> None:
    from rakelight.dataset.sample import Source

    made = make_set([("knob_cap", "OK", {"source": Source(calibration="calibration/rig-7")})] * 3)
    camera = {"type": "pinhole", "width": 64, "height": 48, "fx": 256.0, "fy": 256.0, "cx": 31.5, "cy": 23.5}
    (made.root / "calibration/rig-7").mkdir()
    document = {"camera": camera | {"distortion": [0.1, 0, 0, 0, 0]}}
    (made.root / "calibration/rig-7/rig_calibration.json").write_text(json.dumps(document))
    mvtec3d.export(made, tmp_path / "out", options=replace(PLAIN, size=32))
    found = json.loads((tmp_path / "out/knob_cap/calibration/camera.json").read_text())
    assert (found["width"], found["height"], found["fx"], found["cx"]) == (32, 24, 128.0, 15.5)
    assert found["calibrations"] == {"rig-7": 3}


def test_samples_that_cannot_go_are_told(make_set: Any, tmp_path: Path) -> None:
    made = make_set(
        [("knob_cap", "OK", {})] * 3 + [("knob_cap", "pit", {"masked": False}), ("knob_cap", "OK", {"xyz": None})]
    )
    report = mvtec3d.export(made, tmp_path / "out", options=PLAIN)
    reasons = dict(report.skipped)
    assert "no mask" in reasons["knob_cap/NG/pit/S0001"] and "no XYZ map" in reasons["knob_cap/OK/S0004"]
    assert any("no defective sample in test" in w for w in report.warnings)
    assert report.samples == 3 and mvtec3d.verify(tmp_path / "out", made) == ()


def test_the_folders_above_may_spoil_m3dms_scripts(small_set: Dataset, tmp_path: Path) -> None:
    report = mvtec3d.export(small_set, tmp_path / "xyz_data", options=PLAIN)
    assert any("contains 'xyz'" in w for w in report.warnings)


# --- whole or not at all ---


def test_an_existing_folder_stays_unless_overwritten(small_set: Dataset, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        mvtec3d.export(small_set, copy, options=PLAIN)
    assert caught.value.code == "storage.exists"
    assert mvtec3d.verify(copy, small_set) == ()
    mvtec3d.export(small_set, copy, options=replace(PLAIN, size=32, overwrite=True))
    assert mvtec3d.verify(copy, small_set) == ()
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "a.txt").write_text("x")
    with pytest.raises(StorageError):
        mvtec3d.export(small_set, thesis, options=replace(PLAIN, overwrite=True))
    assert [p.name for p in thesis.iterdir()] == ["a.txt"]


def test_never_into_the_data_set(small_set: Dataset) -> None:
    with pytest.raises(InputError) as caught:
        mvtec3d.export(small_set, small_set.root / "out", options=PLAIN)
    assert caught.value.code == "export.inside_dataset"


def test_the_data_set_is_untouched(small_set: Dataset, tmp_path: Path, untouched: Any) -> None:
    before = untouched(small_set)
    mvtec3d.export(small_set, tmp_path / "out", options=replace(PLAIN, no_background="all", size=32))
    mvtec3d.verify(tmp_path / "out", small_set)
    assert untouched(small_set) == before


def test_too_little_room_is_told_before_anything_is_written(
    small_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(StorageError, match=r"needs about .* MB") as caught:
        mvtec3d.export(small_set, tmp_path / "out", options=PLAIN)
    assert caught.value.code == "storage.disk_full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails_at", [0, 7, 30])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_fault_on_the_way_leaves_nothing(
    small_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, fault: BaseException
) -> None:
    from rakelight import files

    count = iter(range(10_000))
    real = files.os.fsync

    def fsync(descriptor: int) -> None:
        if next(count) == fails_at:
            raise fault
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(StorageError if isinstance(fault, OSError) else KeyboardInterrupt):
        mvtec3d.export(small_set, tmp_path / "out", options=PLAIN)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    mvtec3d.export(small_set, tmp_path / "out", options=PLAIN)
    assert mvtec3d.verify(tmp_path / "out", small_set) == ()


def test_a_damaged_sample_stops_the_export(make_set: Any, tmp_path: Path) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3)
    path = next(open_samples(made.root)).path("XYZ")
    assert path is not None
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        mvtec3d.export(made, tmp_path / "out", options=PLAIN)
    assert caught.value.code == "dataset.damaged"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [{"view": "L06"}, {"size": 0}, {"no_background": "some"}, {"background_pitches": 0}]
)
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        ExportOptions(**options)
    assert caught.value.code == "export.option"
