"""The other trees: what lands where, read with code of the tests' own; what each verifier catches."""

from __future__ import annotations

import csv
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
from rakelight.dataset.exporters import realiad
from rakelight.dataset.exporters.job import MAP_FILE, ExportOptions
from rakelight.dataset.exporters.targets import TARGETS, exporter, verify_export
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, StorageError

PLAIN = ExportOptions(url="https://example.org/pilot")
TREES = [name for name in TARGETS if name not in ("zips", "croissant")]


@pytest.fixture(scope="module")
def exports(small_set: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One export of each format, below one folder."""
    folder = tmp_path_factory.mktemp("exports")
    for name in TARGETS:
        exporter(name).export(small_set, folder / name, options=PLAIN)
    return folder


def sample(made: Dataset, text: str) -> OpenSample:
    return OpenSample(made.root, SampleKey.parse(text))


@pytest.mark.parametrize("name", TARGETS)
def test_each_reads_back_whole_and_equal(exports: Path, small_set: Dataset, name: str) -> None:
    assert verify_export(exports / name) == ()
    assert verify_export(exports / name, small_set) == ()


@pytest.mark.parametrize("name", TREES)
def test_each_smaller(small_set: Dataset, tmp_path: Path, name: str) -> None:
    report = exporter(name).export(small_set, tmp_path / "out", options=replace(PLAIN, size=32))
    assert verify_export(tmp_path / "out", small_set) == ()
    shapes = {images.read_image(p).shape[:2] for p in (tmp_path / "out").rglob("*.png")}
    assert shapes == {(24, 32)}
    assert report.bytes < report.estimated_bytes * 1.2


@pytest.mark.parametrize("name", TARGETS)
def test_each_refuses_an_existing_folder(exports: Path, small_set: Dataset, name: str) -> None:
    with pytest.raises(StorageError):
        exporter(name).export(small_set, exports / name, options=PLAIN)


@pytest.mark.parametrize("name", ["d3m", "realiad", "zips", "croissant"])
@pytest.mark.parametrize("option", [{"view": "PS"}, {"no_background": "xyz"}])
def test_options_without_meaning_are_refused(small_set: Dataset, tmp_path: Path, name: str, option: Any) -> None:
    with pytest.raises(InputError) as caught:
        exporter(name).export(small_set, tmp_path / "out", options=replace(PLAIN, **option))
    assert caught.value.code == "export.option"


@pytest.mark.parametrize("name", TREES)
def test_a_missing_file_is_found(exports: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(exports / name, tmp_path / "copy"))
    entry = next(e for e in json.loads((copy / MAP_FILE).read_text())["samples"] if e["label"] == "pit")
    for role, file in entry["files"].items():
        kept = (copy / file).read_bytes()
        (copy / file).unlink()
        assert any(Path(file).stem in p or "masks" in p or "pictures" in p for p in verify_export(copy)), role
        (copy / file).write_bytes(kept)
    assert verify_export(copy) == ()


@pytest.mark.parametrize("name", TREES)
def test_swapped_masks_are_found_against_the_data_set(
    exports: Path, small_set: Dataset, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(exports / name, tmp_path / "copy"))
    entries = [e for e in json.loads((copy / MAP_FILE).read_text())["samples"] if e["label"] == "scratch"]
    role = next(r for r in ("gt", "mask", "mask5") if r in entries[0]["files"])
    a, b = (copy / e["files"][role] for e in entries)
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    assert verify_export(copy) == ()
    assert len(verify_export(copy, small_set)) == 2


def test_a_folder_that_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        verify_export(tmp_path)
    assert caught.value.code == "export.not_an_export"


def test_another_verifier_refuses(exports: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        exporter("d3m").verify(exports / "mvtec3d")
    assert caught.value.code == "export.other_format"


# --- D3M ---


def test_d3m_globs_pair_by_order(exports: Path, small_set: Dataset) -> None:
    """The published loader's globs, with its case."""
    root = exports / "d3m/knob_cap"
    rgb = sorted(root.glob("train/GOOD/rgb/*/*L05*RGB*.jpg"))
    xyz = sorted(root.glob("train/GOOD/xyz/*.tiff"))
    ps = sorted(root.glob("train/good/ps/*.jpg"))
    assert len(rgb) == len(xyz) == len(ps) == 2
    for number, files in zip((1, 4), zip(rgb, xyz, ps, strict=True), strict=True):
        source = sample(small_set, f"knob_cap/OK/S{number:04d}")
        wanted = [source.read(role) for role in ("RGBL05", "XYZ", "PS")]
        assert [f.read_bytes() for f in files] == wanted
    masks = sorted(root.glob("test/scratch/gt/rgb/*.png"))
    assert [m.stem.split("_")[0] for m in masks] == ["S0001", "S0002"]
    assert np.isnan(tifffile.imread(xyz[0])).any()  # its loader fills NaN itself
    assert sorted(p.name for p in (root / "validation").iterdir()) == ["GOOD", "pit", "scratch"]


def test_d3m_warns_of_names_inside_names(make_set: Any, tmp_path: Path) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3 + [("knob_cap", "hole", {}), ("knob_cap", "pinhole", {})])
    report = exporter("d3m").export(made, tmp_path / "out", options=PLAIN)
    assert any("'pinhole' for 'hole' too" in w for w in report.warnings)


# --- Real-IAD ---


def test_realiad_json_has_four_keys_and_five_views_in_a_row(exports: Path, small_set: Dataset) -> None:
    data = json.loads((exports / "realiad/realiad_jsons/knob_cap.json").read_text())
    assert data["meta"] == {"prefix": "knob_cap/", "normal_class": "OK"}
    assert (len(data["train"]), len(data["test"])) == (10, 25)
    assert all(set(e) == {"category", "anomaly_class", "image_path", "mask_path"} for e in data["train"] + data["test"])
    for start in range(0, 25, 5):
        views = [e["image_path"].split("_")[-2] for e in data["test"][start : start + 5]]
        assert views == ["C1", "C2", "C3", "C4", "C5"]
    codes = json.loads((exports / "realiad/defect_codes.json").read_text())
    for entry in data["test"]:
        assert (entry["anomaly_class"] == "OK") == (entry["mask_path"] is None)
        if entry["mask_path"]:
            root = exports / "realiad/realiad_raw/knob_cap"
            number = int(entry["image_path"].split("/")[2][1:])
            source = sample(small_set, f"knob_cap/NG/{codes[entry['anomaly_class']]}/S{number:04d}")
            assert np.array_equal(images.read_image(root / entry["mask_path"]), source.mask())
            view = int(entry["image_path"].split("_")[-2][1])
            assert (root / entry["image_path"]).read_bytes() == source.read(f"RGBL0{view}")
    single = json.loads((exports / "realiad/realiad_jsons_sv/knob_cap.json").read_text())
    assert len(single["test"]) == 5


def test_defect_codes_come_from_the_table_of_the_data_set(make_set: Any, tmp_path: Path) -> None:
    made = make_set([("knob_cap", "OK", {})] * 2 + [("knob_cap", "scratch", {}), ("knob_cap", "pit_seam", {})])
    table = {"schema": 1, "defects": {"scratch": {"code": "HS", "index": 1, "description": ""}}}
    (made.root / "meta/defects.json").write_text(json.dumps(table))
    realiad.export(made, tmp_path / "out", options=ExportOptions())
    codes = json.loads((tmp_path / "out/defect_codes.json").read_text())
    assert codes == {"HS": "scratch", "PI": "pit_seam"}
    (made.root / "meta/defects.json").write_text(json.dumps({"defects": {"scratch": {"code": "PS", "index": 1}}}))
    with pytest.raises(DatasetError, match="PS"):
        realiad.export(made, tmp_path / "other", options=ExportOptions())


def test_realiad_leaves_out_samples_with_fewer_views(make_set: Any, tmp_path: Path) -> None:
    one = {"rgb": {5: np.zeros((48, 64, 3), np.uint8)}}
    made = make_set([("knob_cap", "OK", {}), ("knob_cap", "OK", one)], split=False)
    report = exporter("realiad").export(made, tmp_path / "out", options=PLAIN)
    assert dict(report.skipped) == {"knob_cap/OK/S0002": "it has no RGBL01 picture"}


def test_realiad_verifier_catches_a_fifth_key(exports: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exports / "realiad", tmp_path / "copy"))
    path = copy / "realiad_jsons/knob_cap.json"
    data = json.loads(path.read_text())
    data["test"][3]["ps_path"] = None
    path.write_text(json.dumps(data))
    assert any("loaders allow just" in p for p in verify_export(copy))


# --- MVTec AD, anomalib, Hugging Face ---


def test_mvtec_ad_tree(exports: Path, small_set: Dataset, toy: SimpleNamespace) -> None:
    root = exports / "mvtec-ad/lego_propeller"
    wanted = ["ground_truth/crack/000_mask.png", "test/crack/000.png", "test/good/000.png"]
    assert toy.tree(root) == [*wanted, "train/good/000.png", "validation/good/000.png"]
    source = sample(small_set, "lego_propeller/NG/crack/S0001")
    assert np.array_equal(images.read_image(root / "test/crack/000.png"), source.rgb())
    assert np.array_equal(images.read_image(root / "ground_truth/crack/000_mask.png"), source.mask())


def test_anomalib_table(exports: Path) -> None:
    rows = list(csv.DictReader((exports / "anomalib/knob_cap/samples.csv").open()))
    assert len(rows) == 9
    assert {(r["split"], r["label_index"], r["label"], bool(r["mask_path"])) for r in rows} == {
        ("train", "0", "normal", False),
        ("val", "0", "normal_test", False),
        ("test", "0", "normal_test", False),
        ("test", "1", "abnormal", True),
    }
    code = (exports / "anomalib/README.txt").read_text()
    assert code.count("Folder3D(name=") == 2
    compile("\n".join(line for line in code.splitlines()), "README.txt", "exec")


def test_anomalib_without_depth_where_a_sample_has_no_points(make_set: Any, tmp_path: Path) -> None:
    made = make_set(
        [("knob_cap", "OK", {})] * 3 + [("knob_cap", "pit", {"xyz": None})] + [("lego_propeller", "OK", {})] * 3
    )
    report = exporter("anomalib").export(made, tmp_path / "out", options=PLAIN)
    assert any("knob_cap: some samples have no XYZ map" in w for w in report.warnings)
    assert not (tmp_path / "out/knob_cap/depth").exists() and (tmp_path / "out/lego_propeller/depth").is_dir()
    assert verify_export(tmp_path / "out", made) == ()


def test_a_category_without_masks_keeps_its_good_parts(make_set: Any, tmp_path: Path) -> None:
    made = make_set([("knob_cap", "OK", {})] * 3 + [("knob_cap", "pit", {"masked": False})] * 2)
    for name in ("mvtec-ad", "anomalib", "huggingface"):
        report = exporter(name).export(made, tmp_path / name, options=PLAIN)
        assert len(report.skipped) == 2 and report.samples == 3
        assert any("no defective sample in test" in w for w in report.warnings)
        assert verify_export(tmp_path / name, made) == ()


def test_hugging_face_rows_and_card(exports: Path, small_set: Dataset) -> None:
    root = exports / "huggingface"
    rows = [json.loads(line) for line in (root / "test/metadata.jsonl").read_text().splitlines()]
    assert len(rows) == 7
    for row in rows:
        source = sample(small_set, row["sample"])
        assert np.array_equal(images.read_image(root / "test" / row["file_name"]), source.rgb())
        assert np.array_equal(images.read_image(root / "test" / row["ps_file_name"]), source.ps())
        mask = images.read_image(root / "test" / row["mask_file_name"])
        assert mask.any() == row["defective"] == (row["label"] != "good")
        assert tifffile.imread(root / row["xyz_path"]).dtype == np.float32
    card = (root / "README.md").read_text()
    assert card.startswith('---\npretty_name: "pilot"\nlicense: cc-by-4.0\n')
    assert "| knob_cap | test | scratch | 2 |" in card


def test_hugging_face_unknown_licence_and_simulated_parts_are_told(make_set: Any, tmp_path: Path) -> None:
    made = make_set([("knob_cap", "OK", {"simulated": True})] * 3, license="Our Own 2.0")
    report = exporter("huggingface").export(made, tmp_path / "out", options=PLAIN)
    card = (tmp_path / "out/README.md").read_text()
    assert 'license: other\nlicense_name: "our-own-2.0"' in card
    assert "3 of them are simulated" in card
    assert any("Our Own 2.0" in w for w in report.warnings)


def test_hugging_face_limit(small_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rakelight.dataset.exporters import huggingface

    monkeypatch.setattr(huggingface, "MAX_FILES", 40)
    with pytest.raises(DatasetError, match="52 files") as caught:
        exporter("huggingface").export(small_set, tmp_path / "out", options=PLAIN)
    assert caught.value.code == "export.too_many_files"
    assert list(tmp_path.iterdir()) == []


def spoil_metadata(root: Path) -> None:
    path = root / "test/metadata.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("huggingface", spoil_metadata, "named in metadata.jsonl"),
        ("huggingface", lambda r: (r / "README.md").write_text("# no head\n"), "YAML head"),
        ("anomalib", lambda r: (r / "knob_cap/samples.csv").write_text("image_path\n"), "0 rows"),
        ("anomalib", lambda r: (r / "knob_cap/mask/pit/000.png").rename(r / "knob_cap/mask/pit/009.png"), "pairs it"),
        ("d3m", lambda r: shutil.rmtree(r / "knob_cap/validation/pit"), "would not test them"),
        ("mvtec-ad", lambda r: shutil.copy(r / "knob_cap/test/pit/000.png", r / "knob_cap/test/pit/001.png"), "masks"),
    ],
)
def test_faults_of_a_tree_are_found(
    exports: Path, tmp_path: Path, name: str, spoil: Callable[[Path], Any], words: str
) -> None:
    copy = Path(shutil.copytree(exports / name, tmp_path / "copy"))
    spoil(copy)
    problems = verify_export(copy)
    assert any(words in p for p in problems), problems
