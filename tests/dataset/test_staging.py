"""Staging: every file of a full sample against what was given, read back with other people's readers; what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

from rakelight.cli.dataset import dataset as group
from rakelight.dataset import encoded_maps, images, layout, options
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.options import DatasetOptions
from rakelight.dataset.packed_tiff import write_packed_tiff
from rakelight.dataset.recording import Frame, Recording, Shot
from rakelight.dataset.sample import CloudSettings, SampleContent, Source
from rakelight.dataset.staging import Staged, new_staging, stage, thinning_stride
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError, RakelightError, StorageError
from rakelight.files import sha256_file, write_bytes

H, W = 120, 160
TIME = "20251123021300"
RNG = np.random.default_rng(3)


def unit_normals() -> np.ndarray:
    n = np.dstack([RNG.normal(0, 0.2, (H, W)), RNG.normal(0, 0.2, (H, W)), np.ones((H, W))])
    n = (n / np.linalg.norm(n, axis=2, keepdims=True)).astype(np.float32)
    n[:, :5] = np.nan
    return n


def points() -> np.ndarray:
    v, u = np.mgrid[:H, :W]
    xyz = np.dstack([u * 0.01 - 1, v * 0.01 - 2, 200 + RNG.normal(0, 0.001, (H, W))]).astype(np.float32)
    xyz[5:9, 20:30] = np.nan
    return xyz


def part() -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[40:60, 50:90] = True
    return mask


def full(**changes: Any) -> SampleContent:
    mask = np.zeros((H, W), np.uint8)
    mask[45:50, 60:70] = 255
    content = SampleContent(
        "knob_cap",
        "scratch",
        TIME,
        {view: np.full((H, W, 3), (40 * view, 100, 50), np.uint8) for view in layout.VIEWS},
        ps=np.full((H, W, 3), (128, 128, 255), np.uint8),
        mask=mask,
        xyz=points(),
        normals=unit_normals(),
        albedo=RNG.uniform(0.1, 1.2, (H, W, 3)).astype(np.float32),
        part_mask=part(),
        specimen="P-17",
        batch="monday",
        simulated=True,
        pitch_mm=0.01,
        source=Source(recording_id="r1"),
        quality={"noise_um": 1.5},
        capture={"exposure_us": 1200.0},
    )
    return replace(content, **changes)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.init(tmp_path / "set", "pilot")


def commit(dataset: Dataset, content: SampleContent) -> OpenSample:
    with dataset.writer() as writer:
        done = writer.commit(content)
    assert [p for s in dataset.samples() for p in dataset.verify_sample(s)] == []
    assert dataset.index_problems() == ()
    return OpenSample(dataset.root, done.key)


def near(mask: np.ndarray) -> np.ndarray:
    """The part with the documented margin, by another way than the code's."""
    rows, columns = np.nonzero(mask)
    grown = np.zeros_like(mask)
    m = encoded_maps.MARGIN_PX
    grown[max(0, rows.min() - m) : rows.max() + m + 1, max(0, columns.min() - m) : columns.max() + m + 1] = True
    return grown


# --- what is written ---


def test_full_sample_reads_back_with_other_readers(dataset: Dataset) -> None:
    content = full()
    sample = commit(dataset, content)
    assert sample.modalities == tuple(layout.MODALITIES)
    path = {role: sample.path(role) for role in ("XYZ", "PCD", "MASK", "RGBL05", "normals.tiff", "part_mask.png")}
    np.testing.assert_array_equal(tifffile.imread(path["XYZ"]), content.xyz)
    read = cv2.imread(str(path["XYZ"]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read[..., ::-1], content.xyz)  # OpenCV has B, G, R
    with tifffile.TiffFile(path["XYZ"]) as tiff:
        page = tiff.pages.first
        assert (page.compression, page.planarconfig, page.shape) == (1, 1, (H, W, 3))
    np.testing.assert_array_equal(np.asarray(Image.open(path["MASK"])), content.mask)
    np.testing.assert_array_equal(np.asarray(Image.open(path["part_mask.png"])), part() * np.uint8(255))
    assert np.abs(np.asarray(Image.open(path["RGBL05"])).astype(int) - content.rgb[5]).max() <= 2
    np.testing.assert_array_equal(sample.xyz(), content.xyz)
    np.testing.assert_array_equal(sample.part_mask(), part())
    stored = tifffile.imread(path["normals.tiff"])
    np.testing.assert_array_equal(cv2.imread(str(path["normals.tiff"]), cv2.IMREAD_UNCHANGED)[..., ::-1], stored)
    kept = near(part())
    known = kept & np.isfinite(content.normals[..., 0])
    assert (stored[~known] == 0).all()
    assert np.abs(stored[known] / 32767.5 - 1 - content.normals[known]).max() < 2e-5


def test_normals_and_albedo_decode(dataset: Dataset) -> None:
    content = full()
    sample = commit(dataset, content)
    kept = near(part())
    known = kept & np.isfinite(content.normals[..., 0])
    normals, albedo = sample.normals(), sample.albedo()
    assert np.isnan(normals[~known]).all()
    cosine = (normals[known].astype(float) * content.normals[known]).sum(axis=1)
    cross = np.linalg.norm(np.cross(normals[known].astype(float), content.normals[known]), axis=1)
    assert np.degrees(np.arctan2(cross, cosine)).max() < 0.003
    assert np.isnan(albedo[~kept]).all()
    assert np.abs(albedo[kept] - content.albedo[kept]).max() <= 0.51 / 32768


def test_clouds_agree_with_open3d(dataset: Dataset) -> None:
    o3d = pytest.importorskip("open3d")
    content = full(clouds=CloudSettings(most_points=500))
    sample = commit(dataset, content)
    told = sample.manifest.encodings["clouds"]
    valid = np.isfinite(content.xyz[..., 2]) & near(part())
    n = told["stride_px"]
    assert n == thinning_stride(valid, 500) > 1
    grid = np.zeros_like(valid)
    grid[n // 2 :: n, n // 2 :: n] = True
    expected = content.xyz[valid & grid]
    assert told["points"] == len(expected)
    for role in ("PCD", "cloud.ply"):
        cloud = o3d.io.read_point_cloud(str(sample.path(role)))
        np.testing.assert_array_equal(np.asarray(cloud.points).astype(np.float32), expected)
        np.testing.assert_allclose(np.asarray(cloud.colors) * 255, content.rgb[5][valid & grid], atol=0.01)
    normals = content.normals[valid & grid]
    turned = np.where(np.isnan(normals), 0, normals * (1, -1, -1)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(cloud.normals).astype(np.float32), turned)
    assert sample.path("PCD").read_bytes().startswith(b"# .PCD v0.7")


def test_clouds_of_the_whole_field_without_part_mask_and_none_on_request(dataset: Dataset) -> None:
    sample = commit(dataset, full(part_mask=None))
    assert sample.manifest.encodings["clouds"]["points"] == np.isfinite(points()[..., 2]).sum()
    without = commit(dataset, full(clouds=CloudSettings(most_points=0)))
    assert without.record("PCD") is None
    assert without.record("cloud.ply") is None


def test_scattered_points_between_the_grid_still_make_a_cloud(dataset: Dataset) -> None:
    xyz = np.full((H, W, 3), np.nan, np.float32)
    xyz[40, 50] = xyz[40, 52] = xyz[42, 50] = xyz[42, 52] = xyz[44, 52] = (1, 2, 200)
    sample = commit(dataset, full(xyz=xyz, clouds=CloudSettings(most_points=1)))
    assert sample.manifest.encodings["clouds"]["points"] >= 1


def test_manifest_tells_what_was_given(dataset: Dataset) -> None:
    manifest = commit(dataset, full()).manifest
    assert (manifest.specimen, manifest.batch, manifest.simulated) == ("P-17", "monday", True)
    assert (manifest.width, manifest.height, manifest.pitch_mm, manifest.xyz_xy) == (W, H, 0.01, "true")
    assert manifest.source.recording_id == "r1"
    assert manifest.quality == {"noise_um": 1.5}
    assert manifest.encodings["normals.tiff"] == encoded_maps.NORMALS_ENCODING
    roles = {f.path.rsplit("/", 1)[-1]: f.role for f in manifest.files}
    assert roles["cloud.ply"] == "cloud"


def test_albedo_beyond_two_keeps_its_range() -> None:
    albedo = np.array([[0.0, 5.3, np.nan, 1e-9]], np.float32)
    stored, scale = encoded_maps.encode_albedo(albedo)
    assert scale == 4 / 32768
    assert stored.tolist() == [[1, round(5.3 / scale), 0, 1]]
    np.testing.assert_allclose(encoded_maps.decode_albedo(stored, scale)[0, 1], 5.3, atol=scale)


@pytest.mark.parametrize("shape", [(31, 47), (31, 47, 3), (1, 1), (700, 900, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("differences", [False, True])
def test_packed_tiff_is_lossless_for_all_readers(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, differences: bool
) -> None:
    image = RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    path = tmp_path / "a.tiff"
    size, sha256 = write_packed_tiff(path, image, differences=differences)
    assert (size, sha256) == (path.stat().st_size, sha256_file(path))
    np.testing.assert_array_equal(tifffile.imread(path).reshape(shape), image)
    np.testing.assert_array_equal(images.read_image(path), image)
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read[..., ::-1] if read.ndim == 3 else read, image)
    if not (image.ndim == 3 and dtype is np.uint16):  # Pillow has no 16-bit colour
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)


# --- options of the data set ---


def test_init_command_sets_the_options(tmp_path: Path) -> None:
    chosen = ["--zero-timestamps", "--xyz-xy", "pixel_index", "--keep-raw", "stack"]
    done = CliRunner().invoke(group, ["init", str(tmp_path / "set"), *chosen])
    assert done.exit_code == 0, done.output
    expected = DatasetOptions(zero_timestamps=True, xyz_xy="pixel_index", keep_raw="stack")
    assert Dataset.open(tmp_path / "set").info.options == expected
    assert CliRunner().invoke(group, ["init", str(tmp_path / "b"), "--xyz-xy", "metres"]).exit_code == 2


def test_zero_timestamps(tmp_path: Path) -> None:
    dataset = Dataset.init(tmp_path / "set", "a", options=DatasetOptions(zero_timestamps=True))
    assert Dataset.open(dataset.root).info.options.zero_timestamps
    sample = commit(dataset, full())
    assert all(p.stem.endswith("_" + "0" * 14) for p in (dataset.root / sample.key.raw_folder).iterdir())
    assert sample.manifest.timestamp == "0" * 14
    assert json.loads(sample.read("capture.json"))["timestamp"] == TIME


@pytest.mark.parametrize("xy", ["placeholder", "pixel_index"])
def test_xyz_xy(tmp_path: Path, xy: Any) -> None:
    dataset = Dataset.init(tmp_path / "set", "a", options=DatasetOptions(xyz_xy=xy))
    content = full()
    given = content.xyz.copy()
    sample = commit(dataset, content)
    stored = tifffile.imread(sample.path("XYZ"))
    valid = np.isfinite(given[..., 2])
    assert np.isnan(stored[~valid]).all()
    np.testing.assert_array_equal(stored[..., 2], given[..., 2])
    v, u = np.nonzero(valid)
    expected = (0.01, 0.01) if xy == "placeholder" else (u, v)
    np.testing.assert_allclose(stored[valid][:, 0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(stored[valid][:, 1], expected[1], rtol=1e-6)
    np.testing.assert_array_equal(content.xyz, given)  # what was handed in is not touched
    assert sample.manifest.xyz_xy == xy


def test_placeholder_needs_the_pitch(tmp_path: Path) -> None:
    dataset = Dataset.init(tmp_path / "set", "a", options=DatasetOptions(xyz_xy="placeholder"))
    with dataset.writer() as writer, pytest.raises(DatasetError, match="pitch_mm") as caught:
        writer.commit(full(pitch_mm=None))
    assert caught.value.code == "dataset.pitch_missing"


def recording(tmp_path: Path) -> Recording:
    class Info:
        plan = (Shot(name="z1", role="zone", zone=1), Shot(name="p1", role="pattern", projector=1, pattern={}))
        frames = tuple(Frame(shot=s, file=f"{s}.tiff", bytes=1, sha256="0" * 64) for s in ("z1", "p1"))

    return Recording(tmp_path, Info())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keep", "names"),
    [("none", set()), ("stack", {"z1.tiff"}), ("all", {"z1.tiff", "p1.tiff"})],
)
def test_keep_raw(tmp_path: Path, keep: Any, names: set[str]) -> None:
    files, hashes = options.raw_files(recording(tmp_path), keep)
    assert set(files) == {"recording.json", *names}
    assert set(hashes) == names


def test_unknown_keep_raw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none, stack, all"):
        options.raw_files(recording(tmp_path), "some")  # type: ignore[arg-type]


# --- files copied as they are, and lossless originals ---


def test_files_are_copied_byte_for_byte(dataset: Dataset, tmp_path: Path) -> None:
    picture = RNG.integers(0, 255, (H, W, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "foreign.jpeg", quality=70)
    tifffile.imwrite(
        tmp_path / "foreign.tif", np.ascontiguousarray(points()[:60, :80]), compression="zlib", photometric="rgb"
    )
    source = commit(dataset, full())
    pcd = source.path("PCD")
    files = {"RGBL05": tmp_path / "foreign.jpeg", "XYZ": tmp_path / "foreign.tif", "PCD": pcd}
    sample = commit(dataset, SampleContent("knob_cap", "OK", TIME, {}, files=files))
    for role, path in files.items():
        assert sample.path(role).read_bytes() == path.read_bytes()
    assert sample.manifest.xyz_xy is None
    assert (sample.manifest.width, sample.manifest.height) == (W, H)
    np.testing.assert_array_equal(sample.rgb(), np.asarray(Image.open(tmp_path / "foreign.jpeg")))


def test_originals_come_back_without_loss(dataset: Dataset) -> None:
    picture = RNG.integers(0, 255, (H, W, 3), np.uint8)
    sample = commit(dataset, full(rgb={5: picture}, originals={"RGBL05": picture}))
    np.testing.assert_array_equal(sample.rgb(), picture)
    np.testing.assert_array_equal(np.asarray(Image.open(sample.path("RGBL05.png"))), picture)
    assert (images.read_image(sample.path("RGBL05")) != picture).any()


# --- what is refused ---


def changed(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"xyz": points()[:-1]}, "input.shape", "xyz"),
        ({"xyz": points().astype(np.float64)}, "input.dtype", "float64"),
        ({"xyz": changed(points(), (0, 0, 2), np.inf)}, "input.not_finite", "1 pixels with infinity"),
        ({"xyz": changed(points(), (0, 0, 2), np.nan)}, "input.partly_nan", "NaN in part"),
        ({"xyz": np.full((H, W, 3), np.nan, np.float32)}, "dataset.map_empty", "no valid pixel"),
        ({"normals": unit_normals() * np.float32(1.1)}, "input.not_unit", "not of length 1"),
        ({"normals": changed(unit_normals(), (9, 9, 1), -np.inf)}, "input.not_finite", "normals"),
        ({"albedo": changed(np.ones((H, W), np.float32), (1, 1), np.inf)}, "input.not_finite", "albedo"),
        ({"albedo": np.ones((H, W, 2), np.float32)}, "input.shape", "albedo"),
        ({"part_mask": np.zeros((H, W), bool)}, "dataset.part_mask_empty", "no pixel"),
        ({"part_mask": np.ones((H, W), np.uint8)}, "input.dtype", "part_mask"),
        ({"pitch_mm": -0.01}, "input.range", "pitch_mm is -0.01"),
        ({"pitch_mm": float("nan")}, "input.range", "pitch_mm"),
        ({"specimen": "a\nb"}, "input.text", "specimen"),
        ({"quality": {"a": float("nan")}}, "input.not_json", "quality"),
        ({"extras": {"Normals": np.zeros((H, W), np.uint16)}}, "dataset.name_invalid", "two files"),
        ({"extras": {"defect_classes": np.zeros((H, W), np.uint8)}}, "dataset.name_invalid", "two files"),
        ({"originals": {"RGBL09": np.zeros((H, W, 3), np.uint8)}}, "input.unknown_name", "RGBL09"),
        ({"originals": {"RGBL05": np.zeros((H, W + 1, 3), np.uint8)}}, "input.shape", "original RGBL05"),
        ({"files": {"RGBL05": Path("a.jpg")}}, "input.twice", "RGBL05"),
        ({"files": {"STL": Path("a.stl")}}, "input.unknown_name", "STL"),
    ],
)
def test_bad_content_is_refused_before_anything_is_written(
    dataset: Dataset, changes: dict[str, Any], code: str, text: str
) -> None:
    with dataset.writer() as writer, pytest.raises(RakelightError, match=text) as caught:
        writer.commit(full(**changes))
    assert caught.value.code == code
    assert list(dataset.samples()) == []
    assert list((dataset.root / layout.STAGING_FOLDER).iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "kind", "small", "grey"])
def test_bad_files_are_refused(dataset: Dataset, tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.bmp" if kind == "kind" else "a.jpg")
    good = bytes(images.encode_jpeg(np.zeros((H, W, 3), np.uint8)))
    small = bytes(images.encode_jpeg(np.zeros((H, W + 8, 3), np.uint8)))
    grey = bytes(images.encode_jpeg(np.zeros((H, W), np.uint8)))
    content = {"text": b"hello", "cut": good[: len(good) // 2], "kind": good, "small": small, "grey": grey}
    if kind != "missing":
        path.write_bytes(content[kind])
    rgb = {5: np.zeros((H, W, 3), np.uint8)}
    with dataset.writer() as writer, pytest.raises(RakelightError, match="a\\."):
        writer.commit(SampleContent("knob_cap", "OK", TIME, rgb, files={"RGBL01": path}))
    assert list(dataset.samples()) == []


# --- staged in one process, published in another ---


def test_staged_travels_as_json_and_is_published(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        first = stage(full(), new_staging(dataset.root))
        second = stage(full(), new_staging(dataset.root))
        travelled = Staged.model_validate_json(second.model_dump_json(by_alias=True))
        assert travelled == second
        assert {f.path.split("/")[0] for f in travelled.draft.files} == {"raw", "extras"}
        assert [writer.publish(s).key.number for s in (travelled, first)] == [1, 2]  # numbers are given when published
    assert [p for s in dataset.samples() for p in dataset.verify_sample(s)] == []
    assert list((dataset.root / layout.STAGING_FOLDER).iterdir()) == []


@pytest.mark.parametrize("fault", ["gone", "cut", "outside", "absolute", "name"])
def test_staged_files_are_checked_when_published(dataset: Dataset, tmp_path: Path, fault: str) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 9)
    with dataset.writer() as writer:
        staged = stage(full(), new_staging(dataset.root))
        folder = dataset.root / layout.STAGING_FOLDER / staged.name
        data = json.loads(staged.model_dump_json(by_alias=True))
        if fault == "gone":
            (folder / "raw/RGBL03.jpg").unlink()
        elif fault == "cut":
            write_bytes(folder / "extras/normals.tiff", b"short")
        else:
            bad = {"outside": "extras/../../../secret", "absolute": str(tmp_path / "secret"), "name": "raw/evil.jpg"}
            data["draft"]["files"][0] |= {"path": bad[fault], "bytes": 9}
        with pytest.raises(DatasetError) as caught:
            writer.publish(Staged.model_validate(data))
        assert caught.value.code == "dataset.staged_changed"
        assert not folder.exists()
        assert writer.commit(full()).key.number == 1
    assert (tmp_path / "secret").exists()


def test_staged_name_cannot_lead_elsewhere(dataset: Dataset) -> None:
    with dataset.writer():
        staged = stage(full(), new_staging(dataset.root))
    with pytest.raises(ValueError, match="name"):
        Staged.model_validate({**json.loads(staged.model_dump_json(by_alias=True)), "name": "../meta"})


def test_failed_staging_leaves_nothing(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> Any:
        raise StorageError("disk full while writing", code="storage.disk_full")

    monkeypatch.setattr(images, "write_tiff", full_disk)
    place = new_staging(dataset.root)
    with pytest.raises(StorageError, match="disk full"):
        stage(full(), place)
    assert not place.exists()


def test_one_thread_and_many_write_the_same(dataset: Dataset, tmp_path: Path) -> None:
    content = full()
    one = stage(content, tmp_path / "one", threads=1)
    many = stage(content, tmp_path / "many", threads=8)
    assert one.draft == many.draft
