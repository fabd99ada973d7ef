"""The data set writer: what arrives on disk, what is refused, what survives."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from rakelight import folders
from rakelight.dataset import layout
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, RakelightError, StorageError
from rakelight.files import sha256_file

H, W = 24, 32
TIME = "20251123021300"


def picture(red: int = 200, green: int = 100, blue: int = 50) -> np.ndarray:
    return np.full((H, W, 3), (red, green, blue), np.uint8)


def content(label: str = "OK", category: str = "knob_cap", **changes: Any) -> SampleContent:
    return replace(SampleContent(category, label, TIME, {5: picture()}), **changes)


def mask() -> np.ndarray:
    m = np.zeros((H, W), np.uint8)
    m[3:6, 4:9] = 255
    return m


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.init(tmp_path / "set", "pilot", license="CC-BY-4.0")


def manifest_lines(dataset: Dataset) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (dataset.root / layout.MANIFEST_FILE).read_text().splitlines()]


def category_json(dataset: Dataset, category: str = "knob_cap") -> Any:
    return json.loads((dataset.root / layout.JSON_FOLDER / f"{category}.json").read_text())


def assert_whole(dataset: Dataset, count: int) -> None:
    """``count`` samples, each verified, nothing half-written visible, caches equal to the folders."""
    samples = list(dataset.samples())
    assert len(samples) == count
    assert [p for s in samples for p in dataset.verify_sample(s)] == []
    assert list((dataset.root / layout.STAGING_FOLDER).iterdir()) == []
    assert not list(dataset.root.rglob("*.partial-*"))
    assert dataset.index_problems() == ()
    assert len(manifest_lines(dataset)) == sum(len(s.files) for s in samples)


# --- init and open ---


def test_init_states_schema_and_encodings(dataset: Dataset) -> None:
    info = json.loads((dataset.root / layout.DATASET_FILE).read_text())
    assert info["schema"] == 1
    assert info["name"] == "pilot"
    assert info["ps_encoding"]["formula"] == "uint8 round(127.5*(n+1))"
    assert info["ps_encoding"]["green"] == "y, up"
    assert info["xyz_frame"]["unit"] == "mm"
    assert all((dataset.root / folder).is_dir() for folder in layout.FOLDERS)
    assert Dataset.open(dataset.root) == dataset
    assert list(dataset.samples()) == []
    assert dataset.index_problems() == ()


def test_second_init_is_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="data set already") as caught:
        Dataset.init(dataset.root, "again")
    assert caught.value.code == "dataset.exists"


def test_init_leaves_a_foreign_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(DatasetError, match="not empty") as caught:
        Dataset.init(tmp_path, "a")
    assert caught.value.code == "dataset.folder_not_empty"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_init_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="name"):
        Dataset.init(tmp_path / "set", "")
    assert not (tmp_path / "set").exists()


def test_open_of_no_dataset_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        Dataset.open(tmp_path)
    assert caught.value.code == "dataset.not_a_dataset"
    assert "rakelight dataset init" in caught.value.hint


def test_newer_schema_is_refused(dataset: Dataset) -> None:
    path = dataset.root / layout.DATASET_FILE
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(DatasetError, match="schema = 2") as caught:
        Dataset.open(dataset.root)
    assert "update" in caught.value.hint


# --- what a commit writes ---


def test_commit_of_an_ok_sample(dataset: Dataset, tmp_path: Path) -> None:
    frame = tmp_path / "frame_01.tiff"
    frame.write_bytes(b"frame" * 1000)
    normals = np.random.default_rng(1).normal(size=(H, W, 3)).astype(np.float32)
    normals[0, 0] = np.nan
    albedo = np.arange(H * W, dtype=np.uint16).reshape(H, W)
    colours = np.random.default_rng(2).integers(0, 255, (H, W, 3), np.uint8)
    full = content(
        rgb={i: picture(red=40 * i) for i in layout.VIEWS},
        ps=picture(128, 128, 255),
        extras={"normals": normals, "albedo": albedo, "colours": colours},
        raw_files={"frame_01.tiff": frame},
        raw_sha256={"frame_01.tiff": sha256_file(frame)},
        capture={"exposure_us": 1200.0},
    )
    with dataset.writer() as writer:
        done = writer.commit(full)
    assert done.key == SampleKey("knob_cap", "OK", 1)
    assert done.folder == dataset.root / "realiad_d3_raw/knob_cap/OK/S0001"
    views = [f"knob_cap_0001_OK_RGBL0{i}_{TIME}.jpg" for i in layout.VIEWS]
    assert sorted(os.listdir(done.folder)) == [f"knob_cap_0001_OK_PS_{TIME}.jpg", *views]
    assert sorted(os.listdir(done.extras_folder)) == sorted(
        ["albedo.tiff", "capture.json", "colours.png", "manifest.json", "normals.tiff", "raw"]
    )
    np.testing.assert_array_equal(tifffile.imread(done.extras_folder / "normals.tiff"), normals)
    np.testing.assert_array_equal(tifffile.imread(done.extras_folder / "albedo.tiff"), albedo)
    np.testing.assert_array_equal(cv2.imread(str(done.extras_folder / "colours.png"))[..., ::-1], colours)
    assert (done.extras_folder / "raw/frame_01.tiff").read_bytes() == frame.read_bytes()
    assert json.loads((done.extras_folder / "capture.json").read_text()) == {"exposure_us": 1200.0}
    with tifffile.TiffFile(done.extras_folder / "normals.tiff") as tiff:
        assert tiff.pages[0].compression == tifffile.COMPRESSION.NONE
    (info,) = dataset.samples()
    assert info.modalities == ("RGBL01", "RGBL02", "RGBL03", "RGBL04", "RGBL05", "PS")
    assert info.files == done.files
    assert info.bytes == done.bytes == sum(p.stat().st_size for t in (done.folder, done.extras_folder) for p in tree(t))
    assert_whole(dataset, 1)


def tree(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_jpeg_keeps_channel_order_and_full_chroma(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content())
    data = (done.folder / f"knob_cap_0001_OK_RGBL05_{TIME}.jpg").read_bytes()
    blue, green, red = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[5, 5]
    assert (abs(int(red) - 200), abs(int(green) - 100), abs(int(blue) - 50)) < (4, 4, 4)
    frame_header = data.index(b"\xff\xc0")  # baseline start of frame: 3 components of (id, sampling, table)
    assert [data[frame_header + 11 + 3 * i] for i in range(3)] == [0x11, 0x11, 0x11]
    assert b"Exif" not in data


def test_json_has_the_released_keys_and_relative_paths(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        writer.commit(content())
        writer.commit(content("scratch", mask=mask(), ps=picture()))
        writer.commit(content("scratch"))
    assert category_json(dataset) == {
        "meta": {"prefix": "knob_cap/", "normal_class": "OK"},
        "train": [
            {
                "category": "knob_cap",
                "anomaly_class": "OK",
                "image_path": f"OK/S0001/knob_cap_0001_OK_RGBL05_{TIME}.jpg",
                "mask_path": None,
                "ps_path": None,
                "xyz_path": None,
            }
        ],
        "validation": [],
        "test": [
            {
                "category": "knob_cap",
                "anomaly_class": "scratch",
                "image_path": f"NG/scratch/S0001/knob_cap_0001_scratch_RGBL05_{TIME}.jpg",
                "mask_path": f"NG/scratch/S0001/knob_cap_0001_scratch_RGBL05_{TIME}.png",
                "ps_path": f"NG/scratch/S0001/knob_cap_0001_scratch_PS_{TIME}.jpg",
                "xyz_path": None,
            },
            {
                "category": "knob_cap",
                "anomaly_class": "scratch",
                "image_path": f"NG/scratch/S0002/knob_cap_0002_scratch_RGBL05_{TIME}.jpg",
                "mask_path": None,
                "ps_path": None,
                "xyz_path": None,
            },
        ],
    }
    stored = dataset.root / layout.RAW_FOLDER / "knob_cap" / category_json(dataset)["test"][0]["mask_path"]
    np.testing.assert_array_equal(cv2.imread(str(stored), cv2.IMREAD_UNCHANGED), mask())


def test_manifest_has_one_line_a_file_and_no_machine_path(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content())
        assert len(manifest_lines(dataset)) == 3  # already durable before the writer closes
    first = manifest_lines(dataset)[0]
    assert first == {"sample": "knob_cap/OK/S0001", **done.files[0].model_dump()}
    assert {line["role"] for line in manifest_lines(dataset)} == {"RGBL05", "capture", "manifest"}
    for path in (p for p in tree(dataset.root) if p.suffix in {".json", ".jsonl"}):
        assert str(dataset.root.parent) not in path.read_text()


def test_commit_does_not_rewrite_the_caches(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with dataset.writer() as writer:
        writer.commit(content())
        manifest = dataset.root / layout.MANIFEST_FILE
        before = manifest.stat()
        writer.commit(content())
        assert manifest.stat().st_ino == before.st_ino  # appended to, not replaced
        assert not (dataset.root / layout.JSON_FOLDER / "knob_cap.json").exists()  # written at close
    assert len(category_json(dataset)["train"]) == 2


def test_samples_of_one_category_in_order(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        for label, category in (("scratch", "knob_cap"), ("OK", "knob_cap"), ("OK", "fuse_holder"), ("OK", "knob_cap")):
            writer.commit(content(label, category))
    keys = ["fuse_holder/OK/S0001", "knob_cap/OK/S0001", "knob_cap/OK/S0002", "knob_cap/NG/scratch/S0001"]
    assert [str(s.key) for s in dataset.samples()] == keys
    assert [str(s.key) for s in dataset.samples("knob_cap")] == keys[1:]
    assert dataset.categories() == ("fuse_holder", "knob_cap")


# --- refused content ---


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"label": "OK", "mask": mask()}, "dataset.mask_on_ok"),
        ({"mask": np.zeros((H, W), np.uint8)}, "dataset.mask_empty"),
        ({"mask": mask()[:-1]}, "dataset.mask_size"),
        ({"mask": mask().astype(bool)}, "dataset.mask_size"),
        ({"mask": mask() // 255}, "dataset.mask_values"),
        ({"rgb": {1: picture()}}, "dataset.views"),
        ({"rgb": {5: picture(), 6: picture()}}, "dataset.views"),
        ({"rgb": {5: picture(), 1: picture()[:-1]}}, "input.shape"),
        ({"rgb": {5: picture().astype(np.float32)}}, "input.dtype"),
        ({"rgb": {5: picture()[..., 0]}}, "input.shape"),
        ({"rgb": {5: picture()[:0]}}, "input.shape"),
        ({"ps": picture()[..., 0]}, "input.shape"),
        ({"extras": {"a": np.zeros((H, W))}}, "input.dtype"),
        ({"extras": {"a": np.zeros((H, W, 4), np.uint8)}}, "input.shape"),
        ({"extras": {"a/b": np.zeros((H, W), np.uint8)}}, "dataset.name_invalid"),
        ({"extras": {"a": np.zeros((H, W), np.uint8), "A": np.zeros((H, W), np.uint8)}}, "dataset.name_invalid"),
        ({"raw_files": {"../x": Path("x")}}, "dataset.name_invalid"),
        ({"raw_files": {"x": Path("absent")}}, "dataset.raw_unreadable"),
        ({"raw_sha256": {"x": "0" * 64}}, "input.unknown_name"),
        ({"capture": {"t": float("nan")}}, "input.not_json"),
        ({"capture": {"t": np.float32(1)}}, "input.not_json"),
        ({"timestamp": "today"}, "dataset.timestamp_invalid"),
        ({"category": "Knob"}, "dataset.name_invalid"),
    ],
)
def test_refused_content_leaves_nothing(dataset: Dataset, changes: dict[str, Any], code: str) -> None:
    with dataset.writer() as writer:
        with pytest.raises(RakelightError) as caught:
            writer.commit(content(**{"label": "scratch", **changes}))
        assert caught.value.code == code
        writer.commit(content("scratch", mask=mask()))
    assert_whole(dataset, 1)


def test_raw_file_changed_since_the_recording(dataset: Dataset, tmp_path: Path) -> None:
    frame = tmp_path / "frame.tiff"
    frame.write_bytes(b"x")
    with dataset.writer() as writer, pytest.raises(DatasetError, match="SHA-256") as caught:
        writer.commit(content(raw_files={"frame.tiff": frame}, raw_sha256={"frame.tiff": "0" * 64}))
    assert caught.value.code == "dataset.raw_mismatch"


def test_closed_writer_commits_nothing(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        pass
    with pytest.raises(DatasetError) as caught:
        writer.commit(content())
    assert caught.value.code == "dataset.writer_closed"


# --- numbers ---


def test_numbers_count_per_class_and_are_never_given_again(dataset: Dataset) -> None:
    def next_number(label: str = "OK") -> int:
        with dataset.writer() as writer:
            return writer.commit(content(label)).key.number

    assert [next_number(), next_number(), next_number("scratch"), next_number("dent")] == [1, 2, 1, 1]
    shutil.rmtree(dataset.root / "realiad_d3_raw/knob_cap/OK/S0002")
    shutil.rmtree(dataset.root / "extras/knob_cap/OK/S0002")
    assert next_number() == 3  # manifest.jsonl knew number 2
    assert_whole(dataset, 4)
    shutil.rmtree(dataset.root / "realiad_d3_raw/knob_cap/OK/S0003")
    shutil.rmtree(dataset.root / "extras/knob_cap/OK/S0003")
    with dataset.writer() as writer:
        assert any("without a folder" in problem for problem in writer.mended)
    assert next_number() == 4  # ids.json remembers it after manifest.jsonl was rebuilt


def test_number_in_quarantine_is_not_given_again(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        for _ in range(2):
            writer.commit(content())
    shutil.rmtree(dataset.root / "realiad_d3_raw/knob_cap/OK/S0002")
    (dataset.root / layout.IDS_FILE).unlink()
    (dataset.root / layout.MANIFEST_FILE).unlink()
    with dataset.writer() as writer:
        (moved,) = writer.quarantined
        assert moved.origin == "extras/knob_cap/OK/S0002"
        assert writer.commit(content()).key.number == 3
    reason = json.loads((dataset.root / moved.folder / "reason.json").read_text())
    assert "S0002" in reason["reason"]
    assert (dataset.root / moved.folder / moved.origin / "manifest.json").is_file()
    assert_whole(dataset, 2)


def test_a_leftover_that_is_held_open_does_not_keep_the_next_writer_from_starting(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("free", "held"):
        (dataset.root / layout.STAGING_FOLDER / name).mkdir(parents=True)
        (dataset.root / layout.STAGING_FOLDER / name / "x.tiff").write_bytes(b"x")
    real = folders.replace

    def refuse(source: Path, final: Path) -> None:  # as Windows does while a worker has a file below it open
        if source.name == "held":
            raise PermissionError(13, "Access is denied")
        real(source, final)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "replace", refuse)
        with dataset.writer() as writer:
            free, held = writer.quarantined
            assert writer.commit(content()).key.number == 1
    assert free.folder and "moved .staging/free to .quarantine/" in free.sentence()
    assert (held.folder, held.origin) == ("", ".staging/held")
    assert "cannot be moved yet (Access is denied)" in held.sentence()
    assert len(list((dataset.root / layout.QUARANTINE_FOLDER).iterdir())) == 1
    assert (dataset.root / layout.STAGING_FOLDER / "held" / "x.tiff").read_bytes() == b"x"
    with dataset.writer() as writer:
        (moved,) = writer.quarantined
    assert (dataset.root / moved.folder / ".staging/held/x.tiff").is_file()
    assert_whole(dataset, 1)


def test_more_than_four_digits_are_refused(dataset: Dataset) -> None:
    (dataset.root / layout.IDS_FILE).write_text('{"schema": 1, "last": {"knob_cap/OK": 9998}}')
    with dataset.writer() as writer:
        assert writer.commit(content()).key.number == 9999
        with pytest.raises(DatasetError, match="9999") as caught:
            writer.commit(content())
        assert caught.value.code == "dataset.ids_exhausted"
        assert writer.commit(content("dent")).key.number == 1


@pytest.mark.parametrize("tree_name", [layout.RAW_FOLDER, layout.EXTRAS_FOLDER])
def test_folder_made_by_hand_in_the_next_place_is_left_alone(dataset: Dataset, tree_name: str) -> None:
    theirs = dataset.root / tree_name / "knob_cap/OK/S0001/theirs.txt"
    with dataset.writer() as writer:
        theirs.parent.mkdir(parents=True)
        theirs.write_text("x")
        with pytest.raises(StorageError, match="exists already"):
            writer.commit(content())
        assert theirs.read_text() == "x"
        assert writer.commit(content()).key.number == 2
    theirs.unlink()
    theirs.parent.rmdir()
    with dataset.writer():
        pass
    assert_whole(dataset, 1)


def test_unreadable_ids_file_is_told(dataset: Dataset) -> None:
    (dataset.root / layout.IDS_FILE).write_text('{"last": {"../x": 1}}')
    with pytest.raises(DatasetError, match=r"ids\.json") as caught, dataset.writer():
        pass
    assert caught.value.code == "dataset.ids_invalid"


# --- damage ---


def test_verify_finds_missing_short_and_changed_files(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content(rgb={1: picture(), 5: picture()}, ps=picture()))
    one, five, ps = (dataset.root / f.path for f in done.files[:3])
    one.unlink()
    five.write_bytes(five.read_bytes()[:-1])
    data = bytearray(ps.read_bytes())
    data[40] ^= 1
    ps.write_bytes(data)
    (info,) = dataset.samples()
    missing, short, changed = dataset.verify_sample(info)
    assert "RGBL01" in missing and "missing" in missing
    assert "RGBL05" in short and "bytes" in short
    assert "_PS_" in changed and "SHA-256" in changed


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 2}', '{"schema": 1}'])
def test_sample_with_an_unusable_manifest_is_told_and_kept_out_of_the_caches(dataset: Dataset, damage: str) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content())
        writer.commit(content())
    (done.extras_folder / "manifest.json").write_text(damage)
    first, second = dataset.samples()
    assert "manifest unusable" in dataset.verify_sample(first)[0]
    assert dataset.verify_sample(second) == []
    report = dataset.rebuild_index()
    assert (report.samples, report.damaged) == (1, (first.key,))
    assert len(category_json(dataset)["train"]) == 1


def test_manifest_pointing_outside_its_folders_is_refused(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content())
    path = done.extras_folder / "manifest.json"
    path.write_text(path.read_text().replace(done.files[0].path, "realiad_d3_raw/knob_cap/OK/S0001/../../../secret"))
    (info,) = dataset.samples()
    assert "outside" in dataset.verify_sample(info)[0]


def test_sample_folder_moved_by_hand_is_told(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content())
    for folder in (done.folder, done.extras_folder):
        folder.rename(folder.with_name("S0007"))
    (info,) = dataset.samples()
    assert "knob_cap/OK/S0001" in dataset.verify_sample(info)[0]


@pytest.mark.parametrize("damage", ["delete", "cut", "cut_line", "garbage", "repeat", "json", "json_gone"])
def test_damaged_caches_are_rebuilt_by_the_next_writer(dataset: Dataset, damage: str) -> None:
    with dataset.writer() as writer:
        for label in ("OK", "OK", "scratch"):
            writer.commit(content(label))
    manifest, released = dataset.root / layout.MANIFEST_FILE, dataset.root / layout.JSON_FOLDER / "knob_cap.json"
    sound = manifest.read_bytes(), released.read_bytes()
    lines = sound[0].splitlines(keepends=True)
    if damage == "delete":
        manifest.unlink()
    elif damage.startswith("json"):
        released.unlink() if damage == "json_gone" else released.write_bytes(b"{}")
    else:
        torn = {"cut": sound[0][:-1], "cut_line": b"".join(lines[:-1]), "garbage": lines[0] + bytes(300) + sound[0]}
        manifest.write_bytes(torn.get(damage, sound[0] + lines[0]))
    assert dataset.index_problems()
    with dataset.writer() as writer:
        assert writer.mended
    assert dataset.index_problems() == ()
    assert sorted(manifest.read_bytes().splitlines()) == sorted(sound[0].splitlines())
    assert released.read_bytes() == sound[1]


def test_category_whose_samples_were_removed_is_empty_in_its_json(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content())
    shutil.rmtree(done.folder)
    with dataset.writer():
        pass
    assert category_json(dataset)["train"] == []
    assert dataset.index_problems() == ()


def test_foreign_folders_are_passed_over(dataset: Dataset) -> None:
    with dataset.writer() as writer:
        done = writer.commit(content())
    for name in ("._S0001", "S1", "S00001", "Thumbs"):
        (done.folder.parent / name).mkdir()
    (dataset.root / layout.RAW_FOLDER / "Not A Category/OK/S0001").mkdir(parents=True)
    assert_whole(dataset, 1)


# --- one writer ---

HOLD = """
import sys
from rakelight.dataset.writer import Dataset
with Dataset.open(sys.argv[1]).writer():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(dataset: Dataset) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(dataset.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_writer_is_refused_by_name_until_the_first_is_gone(
    dataset: Dataset, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(DatasetError, match=f"process {holder.pid} on ") as caught, dataset.writer():
        pass
    assert caught.value.code == "dataset.locked"
    assert list(dataset.samples()) == []  # reading needs no lock
    holder.kill()  # kill -9: the system frees the lock
    holder.wait()
    with dataset.writer() as writer:
        writer.commit(content())
    assert_whole(dataset, 1)
    assert not (dataset.root / layout.OWNER_FILE).exists()


def test_second_writer_in_the_same_process_is_refused(dataset: Dataset) -> None:
    with dataset.writer(), pytest.raises(DatasetError, match=f"process {os.getpid()}") as caught, dataset.writer():
        pass
    assert caught.value.code == "dataset.locked"
    with dataset.writer():
        pass


# --- a disk that fails ---


class FailAt:
    """Makes the k-th call of ``fsync`` or ``replace`` fail, and, as a full disk does, the calls after it too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, k: int, lasting: bool) -> None:
        self.calls, self.k, self.number, self.lasting = 0, k, number, lasting
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))

    def wrap(self, real: Any) -> Any:
        def call(*args: Any) -> Any:
            self.calls += 1
            if self.calls == self.k or (self.lasting and self.calls > self.k):
                raise OSError(self.number, os.strerror(self.number))
            return real(*args)

        return call


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_fault_at_every_step_of_a_commit(dataset: Dataset, number: int, lasting: bool) -> None:
    with dataset.writer() as writer:
        writer.commit(content())
    k, committed, failed, finished = 0, 1, 0, False
    while not finished:
        k += 1
        sample = None
        with dataset.writer() as writer, pytest.MonkeyPatch.context() as patch:
            fault = FailAt(patch, number, k, lasting)
            try:
                sample = writer.commit(content("scratch", mask=mask()))
            except StorageError as e:
                failed += 1
                assert ("disk full" in e.message) == (number == errno.ENOSPC)
            finished = fault.calls < k
        now = sum(1 for _ in dataset.samples())
        assert now - committed in ((1,) if sample is not None else (0, 1))  # old or new; reported means there
        committed = now
        with dataset.writer():
            pass
        assert_whole(dataset, committed)
    assert k > 15 and failed > 12


def test_fault_while_extending_the_cache_does_not_lose_the_commit(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("disk full while writing manifest.jsonl")

    with dataset.writer() as writer:
        monkeypatch.setattr("rakelight.dataset.index.append_manifest", full)
        writer.commit(content())
        assert "manifest.jsonl could not be extended" in caplog.text
        monkeypatch.undo()
        writer.commit(content())
    assert_whole(dataset, 2)


def test_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        noise = np.random.default_rng(0).integers(0, 65535, (256, 512), np.uint16)
        dataset = Dataset.init(small / "set", "full")
        committed = 0
        with dataset.writer() as writer:
            with pytest.raises(StorageError, match="disk full") as caught:
                while committed < 20:
                    writer.commit(content(extras={"noise": noise}))
                    committed += 1
            assert caught.value.code == "storage.disk_full"
            assert committed >= 3
            writer.commit(content())  # a small sample still finds room: the failed one was taken away
        assert_whole(dataset, committed + 1)
    finally:
        subprocess.run(["umount", str(small)], check=True)
