"""Packing raw frames: smaller, pixel for pixel the same, and never half done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

from rakelight.cli.dataset import dataset as group
from rakelight.dataset import images, index, journal, layout, packing
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, RakelightError
from rakelight.files import sha256_file

H, W = 96, 128


def frame(seed: int) -> np.ndarray:
    """A 12-bit Bayer frame with shot noise."""
    rng = np.random.default_rng(seed)
    level = np.tile(np.array([[800, 1200], [1200, 600]]), (H // 2, W // 2))
    return np.clip(rng.normal(level, 20), 0, 4095).astype(np.uint16)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    raw: dict[str, Path] = {"recording.json": tmp_path / "recording.json"}
    raw["recording.json"].write_text("{}")
    for number in (1, 2):
        raw[f"zone{number}.tiff"] = tmp_path / f"zone{number}.tiff"
        images.write_tiff(raw[f"zone{number}.tiff"], frame(number))
    raw["noise.tiff"] = tmp_path / "noise.tiff"  # nothing can be gained
    images.write_tiff(raw["noise.tiff"], np.random.default_rng(9).integers(0, 65535, (H, W), np.uint16))
    raw["mean.tiff"] = tmp_path / "mean.tiff"
    images.write_tiff(raw["mean.tiff"], np.zeros((H, W), np.float32))
    raw["broken.tiff"] = tmp_path / "broken.tiff"
    raw["broken.tiff"].write_bytes(b"II*\0 no image")
    made = Dataset.init(tmp_path / "set", "a")
    rgb = {5: np.zeros((H, W, 3), np.uint8)}
    with made.writer() as writer:
        for _ in range(2):
            writer.commit(SampleContent("knob_cap", "OK", "20250101120000", rgb, raw_files=raw))
    return made


def keys(dataset: Dataset) -> tuple[Any, ...]:
    return tuple(index.iter_keys(dataset.root / layout.RAW_FOLDER))


def raw(dataset: Dataset, number: int, name: str) -> Path:
    return dataset.root / layout.EXTRAS_FOLDER / f"knob_cap/OK/S{number:04d}/raw/{name}"


def compression(path: Path) -> int:
    with tifffile.TiffFile(path) as tiff:
        return int(tiff.pages.first.compression)


def assert_whole(dataset: Dataset) -> None:
    assert [p for s in dataset.samples() for p in dataset.verify_sample(s)] == []
    assert dataset.index_problems() == ()
    assert list((dataset.root / layout.STAGING_FOLDER).iterdir()) == []


def test_frames_get_smaller_and_stay_the_same(dataset: Dataset, tmp_path: Path) -> None:
    untouched = {
        n: sha256_file(raw(dataset, 1, n)) for n in ("noise.tiff", "mean.tiff", "broken.tiff", "recording.json")
    }
    plain_bytes = raw(dataset, 1, "zone1.tiff").stat().st_size
    with dataset.writer() as writer:
        done = writer.pack(keys(dataset)[0])
    assert done.frames == 2
    assert done.bytes_before == 2 * plain_bytes
    assert done.bytes_after < 0.75 * done.bytes_before  # less than 12 bits a pixel
    for number in (1, 2):
        path = raw(dataset, 1, f"zone{number}.tiff")
        assert compression(path) == 8
        for read in (
            tifffile.imread(path),
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
            np.asarray(Image.open(path)),
            images.read_image(path),
        ):
            np.testing.assert_array_equal(read, frame(number))
    assert {n: sha256_file(raw(dataset, 1, n)) for n in untouched} == untouched
    assert_whole(dataset)
    sample = OpenSample(dataset.root, keys(dataset)[0])
    captured = (tmp_path / "zone1.tiff").read_bytes()
    assert packing.unpacked(dataset.root, sample.manifest, "zone1.tiff") == captured
    assert packing.unpacked(dataset.root, sample.manifest, "noise.tiff") == (tmp_path / "noise.tiff").read_bytes()
    with dataset.writer() as writer:
        assert writer.pack(keys(dataset)[0]) == packing.Packing(keys(dataset)[0])  # nothing left to do, no second look


def test_foreign_file_keeps_its_pixels_but_says_that_its_bytes_are_gone(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tiff", frame(1), description="another program")
    dataset = Dataset.init(tmp_path / "set", "a")
    content = SampleContent("knob_cap", "OK", "20250101120000", {5: np.zeros((H, W, 3), np.uint8)})
    with dataset.writer() as writer:
        key = writer.commit(SampleContent(**{**vars(content), "raw_files": {"f.tiff": tmp_path / "f.tiff"}})).key
        assert writer.pack(key).frames == 1
    np.testing.assert_array_equal(tifffile.imread(raw(dataset, 1, "f.tiff")), frame(1))
    with pytest.raises(DatasetError) as caught:
        packing.unpacked(dataset.root, OpenSample(dataset.root, key).manifest, "f.tiff")
    assert caught.value.code == "dataset.packing_foreign"


def test_wrongly_packed_frame_never_replaces_the_original(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    good = packing.write_packed_tiff

    def flips_a_bit(path: Path, image: np.ndarray, **options: Any) -> tuple[int, str]:
        wrong = image.copy()
        wrong[-1, -1] ^= 1
        return good(path, wrong, **options)

    monkeypatch.setattr(packing, "write_packed_tiff", flips_a_bit)
    before = sha256_file(raw(dataset, 1, "zone1.tiff"))
    with dataset.writer() as writer, pytest.raises(DatasetError) as caught:
        writer.pack(keys(dataset)[0])
    assert caught.value.code == "dataset.packing_unequal"
    assert sha256_file(raw(dataset, 1, "zone1.tiff")) == before
    assert_whole(dataset)


def test_interrupted_packing_is_finished_by_the_next_writer(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    real = journal.replace
    renames = 0

    def stops_after_the_first(source: Path, final: Path) -> None:
        nonlocal renames
        renames += 1
        if renames >= 2:
            raise KeyboardInterrupt
        real(source, final)

    monkeypatch.setattr(journal, "replace", stops_after_the_first)
    with pytest.raises(KeyboardInterrupt), dataset.writer() as writer:
        writer.pack(keys(dataset)[0])
    monkeypatch.undo()
    assert (dataset.root / journal.JOURNAL_FILE).exists()
    with dataset.writer() as writer:
        assert "packing knob_cap/OK/S0001" in writer.settled
    assert_whole(dataset)
    assert compression(raw(dataset, 1, "zone2.tiff")) == 8
    np.testing.assert_array_equal(tifffile.imread(raw(dataset, 1, "zone2.tiff")), frame(2))


def test_damaged_frame_is_told_and_the_rest_is_packed(dataset: Dataset) -> None:
    path = raw(dataset, 1, "zone1.tiff")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    told = CliRunner().invoke(group, ["pack", str(dataset.root), "--json"])
    assert told.exit_code == 7, told.output
    result = json.loads(told.output)
    assert (result["samples"], result["frames"]) == (1, 2)
    assert "zone1.tiff is not what was written" in result["damaged"][0]
    assert path.read_bytes() == bytes(data)
    again = CliRunner().invoke(group, ["pack", str(dataset.root)])
    assert again.exit_code == 7
    assert "nothing to pack" in again.output


def test_unknown_raw_file_is_refused(dataset: Dataset) -> None:
    with pytest.raises(RakelightError, match="no raw file 'x"):
        packing.unpacked(dataset.root, OpenSample(dataset.root, keys(dataset)[0]).manifest, "x.tiff")
