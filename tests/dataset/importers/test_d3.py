"""Released Real-IAD D³: every variant of the tree that its readers tell of, built by hand."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from rakelight.dataset.archives import open_view
from rakelight.dataset.importers import d3
from rakelight.dataset.importers.job import make_plan
from rakelight.dataset.importers.sources import detect
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.split_files import read_split
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError

from .conftest import H, W, bytes_of, defect, keys, picture, run, sample, save, save_text, save_tiff, zipped

ZERO = "0" * 14


def d3_xyz(constant: float, seed: int = 0) -> np.ndarray:
    """Real Z with holes, one constant in X and Y: as released."""
    rng = np.random.default_rng(seed)
    xyz = np.full((H, W, 3), constant, np.float32)
    xyz[..., 2] = rng.normal(5, 1, (H, W))
    xyz[rng.random((H, W)) < 0.1, 2] = np.nan
    return xyz


def pcd_text(points: int = 6) -> str:
    rows = "\n".join(f"{n * 0.01:.3f} {n % 3} {5 + n / 10} 4.2108e+06" for n in range(points))
    return _pcd_head(points) + f"DATA ascii\n{rows}\n"


def pcd_binary(points: int = 6) -> bytes:
    rows = b"".join(struct.pack("<ffff", n * 0.01, n % 3, 5, 1.0) for n in range(points))
    return _pcd_head(points).encode() + b"DATA binary\n" + rows


def _pcd_head(points: int) -> str:
    return (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\n"
        f"COUNT 1 1 1 1\nWIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\n"
    )


def write_sample(
    root: Path, category: str, label: str, number: int, *, ng: bool = True, mask: int = 255, **changes: Any
) -> Path:
    """One sample of the released tree below ``root`` (the folder that holds the categories)."""
    home = root / category / ("OK" if label == "OK" else f"NG/{label}" if ng else label) / f"S{number:04d}"
    stem = f"{category}_{number:04d}_{label}"
    for view in range(1, 6):
        save(home / f"{stem}_RGBL{view:02d}_{ZERO}.jpg", picture(100 * number + view), quality=90, subsampling=0)
    ps = changes.get("ps", "jpg")
    save(home / f"{stem}_PS_{ZERO}.{ps}", picture(number))
    save_tiff(home / f"{stem}_XYZ_{ZERO}.tiff", changes.get("xyz", d3_xyz(0.166)))
    if label != "OK" and mask:
        save(home / f"{stem}_RGBL05_{ZERO}.png", defect(mask))
    pcd = changes.get("pcd", pcd_text())
    (home / f"{stem}_PCD_{ZERO}.pcd").write_bytes(pcd if isinstance(pcd, bytes) else pcd.encode())
    return home


def entry(category: str, label: str, number: int) -> dict[str, Any]:
    folder = f"{'OK' if label == 'OK' else f'NG/{label}'}/S{number:04d}/{category}_{number:04d}_{label}"
    return {
        "category": category,
        "anomaly_class": label,
        "image_path": f"{folder}_RGBL05_{ZERO}.jpg",
        "mask_path": None if label == "OK" else f"{folder}_RGBL05_{ZERO}.png",
        "ps_path": f"{folder}_PS_{ZERO}.jpg",
        "xyz_path": f"{folder}_XYZ_{ZERO}.tiff",
    }


def write_json(path: Path, category: str, parts: dict[str, list[tuple[str, int]]]) -> None:
    document: dict[str, Any] = {"meta": {"prefix": f"{category}/", "normal_class": "OK"}}
    for part in ("train", "validation", "test"):
        document[part] = [entry(category, label, number) for label, number in parts.get(part, [])]
    save_text(path, json.dumps(document))


def download(tmp_path: Path) -> Path:
    """The download folder: two zips of categories and one of JSONs."""
    build = tmp_path / "build"
    write_sample(build / "a", "audio_jack_socket", "OK", 153)
    write_sample(build / "a", "audio_jack_socket", "OK", 7)
    write_sample(build / "a", "audio_jack_socket", "scratch", 1, mask=1, xyz=d3_xyz(0.17))
    write_sample(build / "k", "knob_cap", "OK", 2, pcd=pcd_binary())
    write_sample(build / "k", "knob_cap", "pit", 9, ps="png")
    write_json(
        build / "j" / "realiad_d3_jsons" / "audio_jack_socket.json",
        "audio_jack_socket",
        {"train": [("OK", 7)], "test": [("OK", 153), ("scratch", 1)]},
    )
    write_json(
        build / "j" / "realiad_d3_jsons" / "knob_cap.json", "knob_cap", {"train": [("OK", 2)], "test": [("pit", 9)]}
    )
    home = tmp_path / "Real-IAD_D3"
    zipped(build / "a", home / "realiad_d3_raw" / "audio_jack_socket.zip")
    zipped(build / "k", home / "realiad_d3_raw" / "knob_cap.zip")
    zipped(build / "j", home / "realiad_d3_jsons.zip")
    return home


def test_download_folder_of_zips(tmp_path: Path, dataset: Dataset) -> None:
    done = run(dataset, download(tmp_path))
    assert keys(done) == [
        "audio_jack_socket/OK/S0007",
        "audio_jack_socket/OK/S0153",
        "audio_jack_socket/NG/scratch/S0001",
        "knob_cap/OK/S0002",
        "knob_cap/NG/pit/S0009",
    ]
    assert [one.error for one in done if one.error] == []
    opened = sample(dataset, "audio_jack_socket/OK/S0153")
    built = tmp_path / "build/a/audio_jack_socket/OK/S0153"
    for role, name in {"RGBL01": "RGBL01", "RGBL05": "RGBL05", "PS": "PS", "XYZ": "XYZ", "PCD": "PCD"}.items():
        (original,) = built.glob(f"*_{name}_*")
        assert bytes_of(opened, role) == original.read_bytes(), role
    manifest = opened.manifest
    assert manifest.timestamp == ZERO
    assert manifest.xyz_xy == "placeholder"
    assert manifest.quality["xyz_placeholders"]["x_constants"] == pytest.approx([0.166])
    assert manifest.source.origin == "realiad_d3:audio_jack_socket/OK/S0153"
    assert manifest.specimen == manifest.source.origin
    assert manifest.source.settings["files"]["RGBL05"].endswith(f"audio_jack_socket_0153_OK_RGBL05_{ZERO}.jpg")


def test_masks_of_one_become_255_and_are_told(tmp_path: Path, dataset: Dataset) -> None:
    run(dataset, download(tmp_path))
    ones = sample(dataset, "audio_jack_socket/NG/scratch/S0001")
    assert np.array_equal(ones.mask(), defect())
    assert ones.manifest.quality["mask_values_were"] == [0, 1]
    plain = sample(dataset, "knob_cap/NG/pit/S0009")
    assert np.array_equal(plain.mask(), defect())
    assert "mask_values_were" not in plain.manifest.quality
    (original,) = (tmp_path / "build/k/knob_cap/NG/pit/S0009").glob("*RGBL05*.png")
    assert bytes_of(plain, "MASK") == original.read_bytes()


def test_png_ps_is_kept_lossless(tmp_path: Path, dataset: Dataset) -> None:
    run(dataset, download(tmp_path))
    assert np.array_equal(sample(dataset, "knob_cap/NG/pit/S0009").ps(), picture(9))  # type: ignore[arg-type]


def test_jsons_become_the_official_split_and_the_jsons(tmp_path: Path, dataset: Dataset) -> None:
    run(dataset, download(tmp_path))
    (split,) = read_split(dataset.root, "official")
    assert split.categories["audio_jack_socket"].train == ("audio_jack_socket/OK/S0007",)
    assert split.categories["audio_jack_socket"].test == (
        "audio_jack_socket/OK/S0153",
        "audio_jack_socket/NG/scratch/S0001",
    )
    written = json.loads((dataset.root / "realiad_d3_jsons/audio_jack_socket.json").read_text())
    assert [e["anomaly_class"] for e in written["test"]] == ["OK", "scratch"]
    assert len(written["train"]) == 1


def test_again_imports_nothing_and_goes_on_after_an_interruption(tmp_path: Path, dataset: Dataset) -> None:
    source = download(tmp_path)
    with open_view(source) as view:
        found = d3.scan(view)
        from rakelight.dataset.importers.job import import_samples

        walk = import_samples(dataset, view, found, d3.content)
        assert next(walk).key is not None
        walk.close()  # Ctrl-C
        plan = make_plan(dataset, view, found)
        assert (len(plan.new), len(plan.there)) == (4, 1)
    done = run(dataset, source)
    assert len(keys(done)) == 4
    assert [one.skipped for one in done if one.skipped] == ["there already"]
    again = run(dataset, source)
    assert keys(again) == []
    assert len(again) == 5


def test_a_relabelled_sample_is_not_imported_again(tmp_path: Path, dataset: Dataset) -> None:
    source = download(tmp_path)
    run(dataset, source, categories=["knob_cap"])
    from rakelight.dataset.layout import SampleKey

    with dataset.writer() as writer:
        writer.relabel(SampleKey.parse("knob_cap/NG/pit/S0009"), "dent")
    assert keys(run(dataset, source, categories=["knob_cap"])) == []


def test_categories_are_chosen_and_unknown_ones_told(tmp_path: Path, dataset: Dataset) -> None:
    source = download(tmp_path)
    assert [k.split("/")[0] for k in keys(run(dataset, source, categories=["knob-cap"]))] == ["knob_cap"] * 2
    with pytest.raises(DatasetError, match="audio_jack_socket"):
        run(dataset, source, categories=["fuse"])


@pytest.mark.parametrize("kind", ["folder", "one zip", "zip without its folder", "unzipped raw", "folder without NG"])
def test_layouts(kind: str, tmp_path: Path, dataset: Dataset) -> None:
    build = tmp_path / "build"
    ng = kind != "folder without NG"
    write_sample(build, "fuse_holder", "OK", 12, ng=ng)
    write_sample(build, "fuse_holder", "missing_part", 3, ng=ng)
    source = build
    if kind == "one zip":
        source = zipped(build, tmp_path / "fuse_holder.zip")
    elif kind == "zip without its folder":
        source = zipped(build / "fuse_holder", tmp_path / "fuse_holder.zip")
    elif kind == "unzipped raw":
        source = tmp_path / "set"
        (source / "realiad_d3_raw").mkdir(parents=True)
        (build / "fuse_holder").rename(source / "realiad_d3_raw" / "fuse_holder")
    assert keys(run(dataset, source)) == ["fuse_holder/OK/S0012", "fuse_holder/NG/missing_part/S0003"]


def test_the_category_folder_itself(tmp_path: Path, dataset: Dataset) -> None:
    write_sample(tmp_path / "b", "fuse_holder", "OK", 1)
    assert keys(run(dataset, tmp_path / "b" / "fuse_holder")) == ["fuse_holder/OK/S0001"]


def test_names_with_hyphens_and_capitals(tmp_path: Path, dataset: Dataset) -> None:
    write_sample(tmp_path / "b", "connector_housing-female", "OK", 1)
    write_sample(tmp_path / "b", "connector_housing-female", "Bent Pin", 2)
    assert keys(run(dataset, tmp_path / "b")) == [
        "connector_housing_female/OK/S0001",
        "connector_housing_female/NG/bent_pin/S0002",
    ]


def test_names_that_cannot_be_used_are_told(tmp_path: Path, dataset: Dataset) -> None:
    write_sample(tmp_path / "b", "fuse", "OK", 1)
    write_sample(tmp_path / "b", "fuse", "not_ok", 1)
    with open_view(tmp_path / "b") as view:
        found = d3.scan(view)
    assert len(found.samples) == 1
    assert any("not_ok" in text and "rename" in text for text in found.oddities)


XYZ = d3_xyz(0.166, 3)
TRUE_XYZ = np.stack((*np.meshgrid(np.arange(W) * 0.01, np.arange(H) * 0.01), XYZ[..., 2]), -1).astype(np.float32)
PIXEL_XYZ = np.stack((*np.meshgrid(np.arange(W), np.arange(H)), XYZ[..., 2]), -1).astype(np.float32)


@pytest.mark.parametrize(
    ("stored", "options", "meaning"),
    [
        (XYZ, {}, "placeholder"),
        (np.moveaxis(XYZ, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, "placeholder"),
        (np.moveaxis(XYZ, -1, 0), {"photometric": "minisblack"}, "placeholder"),
        (XYZ, {"photometric": "minisblack"}, "placeholder"),
        (XYZ.astype(np.float64), {}, "placeholder"),
        (XYZ, {"compression": "deflate"}, "placeholder"),
        (TRUE_XYZ, {}, "true"),
        (PIXEL_XYZ, {}, "pixel_index"),
    ],
)
def test_every_kind_of_xyz(
    stored: np.ndarray, options: dict[str, Any], meaning: str, tmp_path: Path, dataset: Dataset
) -> None:
    home = write_sample(tmp_path / "b", "fuse", "OK", 1)
    (path,) = home.glob("*_XYZ_*")
    save_tiff(path, np.ascontiguousarray(stored), **options)
    (one,) = run(dataset, tmp_path / "b")
    opened = sample(dataset, str(one.key))
    expected = TRUE_XYZ if meaning == "true" else PIXEL_XYZ if meaning == "pixel_index" else XYZ
    assert np.array_equal(opened.xyz(), expected, equal_nan=True)  # type: ignore[arg-type]
    assert opened.manifest.xyz_xy == meaning
    untouched = stored.dtype == np.float32 and stored.shape == (H, W, 3) and options.get("photometric") is None
    assert (bytes_of(opened, "XYZ") == path.read_bytes()) == untouched
    assert ("xyz_was" in opened.manifest.quality) != untouched


def test_lzw_xyz_is_read_too(tmp_path: Path, dataset: Dataset) -> None:
    import cv2

    home = write_sample(tmp_path / "b", "fuse", "OK", 1)
    (path,) = home.glob("*_XYZ_*")
    cv2.imwrite(str(path), TRUE_XYZ[..., ::-1].copy(), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].compression == 5
    (one,) = run(dataset, tmp_path / "b")
    assert np.array_equal(sample(dataset, str(one.key)).xyz(), TRUE_XYZ, equal_nan=True)  # type: ignore[arg-type]


def test_maps_of_another_size_than_the_pictures_are_kept(tmp_path: Path, dataset: Dataset) -> None:
    home = write_sample(tmp_path / "b", "fuse", "OK", 1)
    (path,) = home.glob("*_XYZ_*")
    save_tiff(path, XYZ[::2, ::2])
    (one,) = run(dataset, tmp_path / "b")
    assert sample(dataset, str(one.key)).xyz().shape == (H // 2, W // 2, 3)  # type: ignore[union-attr]


def test_one_bad_sample_never_stops_the_rest_and_is_mended_later(tmp_path: Path, dataset: Dataset) -> None:
    for number in (1, 2, 3, 4, 5):
        write_sample(tmp_path / "b", "fuse", "OK", number)
    home = tmp_path / "b/fuse/OK"
    (broken,) = (home / "S0002").glob("*RGBL03*")
    whole = broken.read_bytes()
    broken.write_bytes(whole[:300])
    (xyz,) = (home / "S0003").glob("*XYZ*")
    xyz.write_bytes(b"II*\0 not really")
    (pcd,) = (home / "S0004").glob("*PCD*")
    pcd.write_text(pcd_text().replace("POINTS 6", "POINTS 600"))
    done = run(dataset, tmp_path / "b")
    assert keys(done) == ["fuse/OK/S0001", "fuse/OK/S0005"]
    failed = {one.origin: one.error for one in done if one.error}
    assert sorted(failed) == [f"fuse/OK/S000{n}" for n in (2, 3, 4)]
    assert all(e is not None and e["code"] and e["hint"] for e in failed.values())
    broken.write_bytes(whole)
    again = run(dataset, tmp_path / "b")
    assert keys(again) == ["fuse/OK/S0006"]  # 2 lies below the last number given; where it came from is told
    assert sample(dataset, "fuse/OK/S0006").manifest.source.settings["number"] == 2


def test_masks_that_cannot_be_used_are_kept_and_told(tmp_path: Path, dataset: Dataset) -> None:
    home = write_sample(tmp_path / "b", "fuse", "dent", 1)
    (path,) = home.glob("*RGBL05*.png")
    save(path, defect(0))
    (one,) = run(dataset, tmp_path / "b")
    opened = sample(dataset, str(one.key))
    assert opened.mask() is None
    assert "empty" in one.warnings[0]
    assert any(f.role == "raw" and f.path.endswith(".png") for f in opened.manifest.files)


def test_further_files_are_kept(tmp_path: Path, dataset: Dataset) -> None:
    home = write_sample(tmp_path / "b", "fuse", "dent", 1, pcd=_pcd_head(3) + "DATA binary_compressed\n....")
    save_text(home / f"fuse_0001_dent_PCD_{ZERO}.txt", "0 0 1 1\n")
    save(home / f"fuse_0001_dent_RGBL06_{ZERO}.jpg", picture(5))
    (one,) = run(dataset, tmp_path / "b")
    raw = {f.path.rsplit("/", 1)[-1] for f in sample(dataset, str(one.key)).manifest.files if f.role == "raw"}
    assert raw == {
        f"fuse_0001_dent_PCD_{ZERO}.txt",
        f"fuse_0001_dent_RGBL06_{ZERO}.jpg",
        f"fuse_0001_dent_PCD_{ZERO}.pcd",
    }
    assert "compressed" in one.warnings[0]


def test_oddities_of_jsons_are_told(tmp_path: Path, dataset: Dataset) -> None:
    write_sample(tmp_path / "b", "fuse", "OK", 1)
    write_sample(tmp_path / "b", "fuse", "OK", 2)
    write_json(tmp_path / "b" / "realiad_d3_jsons" / "fuse.json", "fuse", {"train": [("OK", 1), ("OK", 99)]})
    with open_view(tmp_path / "b") as view:
        found = d3.scan(view)
    assert any("list 1 sample(s) that are not there" in text for text in found.oddities)
    assert any("1 of 2 sample(s) stand in no JSON" in text for text in found.oddities)
    run(dataset, tmp_path / "b")
    (split,) = read_split(dataset.root, "official")
    assert split.categories["fuse"].train == ("fuse/OK/S0001",)
    assert split.left_out["fuse"] == ("fuse/OK/S0002",)


def test_a_split_made_here_is_not_overwritten(tmp_path: Path, dataset: Dataset) -> None:
    from rakelight.dataset.split_files import write_splits
    from rakelight.dataset.splits import SplitRule

    write_sample(tmp_path / "b", "fuse", "OK", 1)
    write_sample(tmp_path / "b", "fuse", "OK", 2)
    run(dataset, tmp_path / "b")
    write_splits(dataset, "official", SplitRule(train=0.5, validation=0.0))
    before = (dataset.root / "meta/splits/official.json").read_bytes()
    json_file = tmp_path / "b" / "realiad_d3_jsons" / "fuse.json"
    write_sample(tmp_path / "b", "fuse", "OK", 3)
    write_json(json_file, "fuse", {"train": [("OK", 3)]})
    done = run(dataset, tmp_path / "b")
    assert any("stays" in one.skipped for one in done)
    assert (dataset.root / "meta/splits/official.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", '{"train": [', "[" * 100_000, '{"train": [1, null, {"image_path": 3}]}'])
def test_damaged_jsons_give_one_clear_error_or_are_told(text: str, tmp_path: Path) -> None:
    write_sample(tmp_path / "b", "fuse", "OK", 1)
    save_text(tmp_path / "b" / "realiad_d3_jsons" / "fuse.json", text)
    with open_view(tmp_path / "b") as view:
        if text.endswith("}"):
            assert any("name no sample" in t for t in d3.scan(view).oddities)
        else:
            with pytest.raises(DatasetError, match=r"fuse\.json"):
                d3.scan(view)


def test_a_json_cannot_lead_out_of_the_source(tmp_path: Path, dataset: Dataset) -> None:
    write_sample(tmp_path / "b", "fuse", "OK", 1)
    document = {"train": [{"image_path": "../../OK/S0001/x.jpg"}, {"image_path": "/etc/OK/S0001/passwd"}]}
    save_text(tmp_path / "b" / "realiad_d3_jsons" / "fuse.json", json.dumps(document))
    assert keys(run(dataset, tmp_path / "b")) == ["fuse/OK/S0001"]


def test_the_same_sample_in_zip_and_folder_is_taken_once(tmp_path: Path, dataset: Dataset) -> None:
    raw = tmp_path / "set" / "realiad_d3_raw"
    write_sample(raw, "fuse", "OK", 1)
    zipped(raw, tmp_path / "set" / "realiad_d3_raw" / "fuse.zip")
    with open_view(tmp_path / "set") as view:
        assert any("twice" in text for text in d3.scan(view).oddities)
    assert keys(run(dataset, tmp_path / "set")) == ["fuse/OK/S0001"]


def test_our_own_tree_is_a_source_too(tmp_path: Path, dataset: Dataset) -> None:
    other = Dataset.init(tmp_path / "other", "other")
    with other.writer() as writer:
        writer.commit(SampleContent("fuse", "OK", "20250101120000", {5: picture(1)}), number=5)
    done = run(dataset, tmp_path / "other")
    assert keys(done) == ["fuse/OK/S0005"]
    assert sample(dataset, "fuse/OK/S0005").manifest.timestamp == "20250101120000"


def test_detection(tmp_path: Path) -> None:
    write_sample(tmp_path / "b", "fuse", "OK", 1)
    with open_view(tmp_path / "b") as view:
        assert detect(view) == "d3"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="looks like none"), open_view(tmp_path / "empty") as view:
        detect(view)


def test_damage_inside_a_zip_costs_one_sample(tmp_path: Path, dataset: Dataset) -> None:
    for number in (1, 2, 3):
        write_sample(tmp_path / "b", "fuse", "OK", number)
    path = zipped(tmp_path / "b", tmp_path / "fuse.zip", junk=False)
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if "S0002" in i.filename and "RGBL05" in i.filename)
    data = bytearray(path.read_bytes())
    data[info.header_offset + 200] ^= 0xFF
    path.write_bytes(data)
    done = run(dataset, path)
    assert keys(done) == ["fuse/OK/S0001", "fuse/OK/S0003"]
    assert [one.error["code"] for one in done if one.error] == ["archive.damaged"]


def test_numbers_of_a_class_that_is_there_already_go_on(tmp_path: Path, dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(SampleContent("fuse", "OK", "20250101120000", {5: picture(1)}), number=100)
        assert str(writer.commit(SampleContent("fuse", "OK", "20250101120000", {5: picture(2)})).key) == "fuse/OK/S0101"
    write_sample(tmp_path / "b", "fuse", "OK", 7)
    write_sample(tmp_path / "b", "fuse", "OK", 300)
    assert keys(run(dataset, tmp_path / "b")) == ["fuse/OK/S0102", "fuse/OK/S0300"]
