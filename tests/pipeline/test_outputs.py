"""What a reconstruction leaves on disk, and what it never leaves."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from rakelight import files
from rakelight.dataset import images
from rakelight.errors import StorageError
from rakelight.pipeline import outputs
from rakelight.pipeline.reconstruct import Reconstruction, reconstruct
from rakelight.reconstruction.photometric import Flag
from rakelight.reconstruction.pseudo3d import decode_normals

MAPS = ("albedo", "confidence", "curvature", "gloss", "height", "relief", "slope_p", "slope_q")


@pytest.fixture(scope="module")
def solved(scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    recording = scenes.record(
        tmp_path_factory.mktemp("solved") / "knob-1", scenes.part(), "BayerRG12", dark=scenes.BLACK
    )
    return reconstruct(recording, scenes.calibration())


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_file_is_there_and_holds_its_map(solved: Reconstruction, tmp_path: Path) -> None:
    paths = outputs.save(solved, tmp_path / "out")
    expected = {f"{name}.{kind}" for name in (*MAPS, "flags") for kind in ("tiff", "png")}
    expected |= {"normals.tiff", "normals_8bit.png", "normals_16bit.png", "albedo_rgb.tiff"}
    expected |= {"contact_sheet.png", "reconstruction.json"}
    assert set(paths) == expected == {p.name for p in (tmp_path / "out").iterdir()}
    for name in MAPS:
        values = tifffile.imread(paths[f"{name}.tiff"])
        source = solved.maps.get(name, getattr(solved.result, name, None))
        assert values.dtype == np.float32 and np.array_equal(values, source, equal_nan=True)
        picture = cv2.imread(str(paths[f"{name}.png"]), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (180, 240) and picture.dtype == np.uint8
    assert np.array_equal(tifffile.imread(paths["normals.tiff"]), solved.result.normals)
    assert tifffile.imread(paths["albedo_rgb.tiff"]).shape == (180, 240, 3)
    assert np.array_equal(tifffile.imread(paths["flags.tiff"]), solved.result.flags)
    sixteen = images.read_image(paths["normals_16bit.png"])
    assert sixteen.dtype == np.uint16
    assert decode_normals(sixteen) == pytest.approx(solved.result.normals, abs=1e-4)
    report = json.loads(paths["reconstruction.json"].read_text())
    assert report == json.loads(json.dumps(solved.report))


def test_three_zones_leave_no_nan_in_the_report(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part()[:3], dark=scenes.BLACK)
    paths = outputs.save(reconstruct(recording, scenes.calibration()), tmp_path / "out")
    assert "gloss.tiff" not in paths and "NaN" not in paths["reconstruction.json"].read_text()
    confidence = images.read_image(paths["confidence.png"])
    assert (confidence == 0).all()
    sheet = images.read_image(paths["contact_sheet.png"])
    assert sheet.shape[2] == 3 and sheet.shape[1] > 1000


def test_float_frames_without_full_scale_make_a_sheet(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(), "Mono32f", dark=scenes.BLACK)
    assert outputs.sheet(reconstruct(recording, scenes.calibration())).dtype == np.uint8


def test_sheet_says_when_it_shows_not_all_lights(solved: Reconstruction, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    real = outputs.contact_sheet

    def note(panels: Any, title: str, *rest: Any, **options: Any) -> Any:
        titles.append(title)
        return real(panels, title, *rest, **options)

    monkeypatch.setattr(outputs, "contact_sheet", note)
    outputs.sheet(solved)
    stack = replace(solved.stack, frames=(*solved.stack.frames,) * 3, lights=(*solved.stack.lights,) * 3)
    outputs.sheet(replace(solved, stack=stack))
    assert "shown" not in titles[0] and "from 12 lights (4 of 12 lights shown)" in titles[1]


def test_flags_have_their_colours() -> None:
    flags = np.array([[0, Flag.SHADOWED, Flag.SATURATED | Flag.SHADOWED, Flag.NOT_SOLVABLE | Flag.WEAK]], np.uint8)
    picture = outputs.flag_picture(flags)
    assert picture.tolist() == [[[200, 200, 200], [70, 110, 200], [230, 60, 50], [25, 25, 25]]]


# ------------------------------------------------------------------------------------------------------- what is replaced
def test_earlier_reconstruction_is_replaced_only_on_demand(solved: Reconstruction, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outputs.save(solved, out)
    (out / "note.txt").write_text("mine")
    before = content(out)
    with pytest.raises(StorageError, match="exists already") as caught:
        outputs.save(solved, out)
    assert "--overwrite" in caught.value.hint and content(out) == before
    outputs.save(solved, out, overwrite=True)
    assert set(content(out)) == set(before) - {"note.txt"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_of_something_else_is_never_replaced(solved: Reconstruction, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"holds no reconstruction\.json, so it is something else"):
        outputs.save(solved, tmp_path / "photos", overwrite=overwrite)
    assert content(tmp_path) == {"photos/holiday.jpg": b"x"}


def test_output_that_is_a_file_or_below_one(solved: Reconstruction, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="is not a folder"):
        outputs.save(solved, tmp_path / "file", overwrite=True)
    with pytest.raises(StorageError):
        outputs.save(solved, tmp_path / "file" / "out")
    assert content(tmp_path) == {"file": b"x"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_that_appears_meanwhile_is_kept(
    solved: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    real = outputs.flag_picture

    def meanwhile(flags: Any) -> Any:
        (tmp_path / "out").mkdir()
        name = "photo.jpg" if overwrite else outputs.REPORT  # another reconstruction is replaced only on demand
        (tmp_path / "out" / name).write_bytes(b"theirs")
        return real(flags)

    monkeypatch.setattr(
        outputs, "flag_picture", lambda flags: real(flags) if (tmp_path / "out").exists() else meanwhile(flags)
    )
    with pytest.raises(StorageError) as caught:
        outputs.save(solved, tmp_path / "out", overwrite=overwrite)
    assert caught.value.code == "storage.exists"
    assert list(content(tmp_path).values()) == [b"theirs"]


def test_empty_folder_is_used(solved: Reconstruction, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert outputs.save(solved, tmp_path / "out")[outputs.SHEET].is_file()


# -------------------------------------------------------------------------------------------------------- what goes wrong
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_interrupted_writing_leaves_nothing(
    solved: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def fail(*_: Any) -> None:
        raise kind

    monkeypatch.setattr(outputs, "flag_picture" if kind is RuntimeError else "map_picture", fail)  # while others write
    with pytest.raises(kind):
        outputs.save(solved, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", ["height.tiff", "normals_16bit.png", "reconstruction.json"])
def test_full_disk_keeps_the_earlier_reconstruction(
    solved: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    outputs.save(solved, tmp_path / "out")
    before = content(tmp_path)
    fsync = files.os.fsync

    def full(descriptor: int) -> None:
        if at in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell the files apart")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        outputs.save(solved, tmp_path / "out", overwrite=True)
    assert caught.value.code == "storage.disk_full" and at in caught.value.message
    assert content(tmp_path) == before
