"""Images made elsewhere become recordings, or the error says which line or file to mend."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import tifffile

from rakelight import files
from rakelight.dataset import images
from rakelight.dataset.recording import (
    PIXEL_FORMATS,
    Circle,
    Frame,
    Origin,
    Recording,
    RecordingFile,
    Role,
    Sensor,
    Shot,
    Target,
    verify,
)
from rakelight.dataset.recording_import import Crop, ImportedFrame, ImportFile, Stack, import_recording
from rakelight.errors import ConfigError, DatasetError, RakelightError, StorageError

RNG = np.random.default_rng(5)
STACK = """\
schema = 1
part_id = "cat"
pixel_format = "Mono8"
linear = true
[stack]
files = "Image_{zone:02d}.png"
zones = [1, 2, 3]
"""
HEAD = STACK.split("[stack]")[0]


class Place:
    """A folder of images, a description and the place for the recording."""

    def __init__(self, home: Path) -> None:
        self.images, self.description, self.output = home / "images", home / "part.toml", home / "out" / "rec"
        self.images.mkdir()
        for zone in (1, 2, 3):
            self.put(f"Image_{zone:02d}.png", RNG.integers(0, 256, (12, 16)).astype(np.uint8))

    def put(self, name: str, image: np.ndarray) -> np.ndarray:
        path = self.images / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg"):
            path.write_bytes(images.encode_jpeg(image) if path.suffix.lower() == ".jpg" else images.encode_png(image))
        else:
            images.write_tiff(path, image)
        return image

    def run(self, text: str = STACK, **options: Any) -> Recording:
        self.description.write_text(text)
        return import_recording(self.images, self.description, self.output, **options)

    def fails(self, text: str, kind: type[RakelightError] = DatasetError, **options: Any) -> RakelightError:
        with pytest.raises(kind) as caught:
            self.run(text, **options)
        assert caught.value.hint
        self.left_nothing()
        return caught.value

    def left_nothing(self) -> None:
        home = self.output.parent
        assert not home.exists() or list(home.iterdir()) == []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- what comes in ---


def test_a_stack(place: Place) -> None:
    steps: list[tuple[int, int]] = []
    recording = place.run(progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert recording.zones == (1, 2, 3) and recording.info.warnings == ()
    for frame in recording.info.frames:
        np.testing.assert_array_equal(recording.read(frame), images.read_image(place.images / str(frame.original)))
    assert list(verify(recording)) == []


def test_all_keys(place: Place) -> None:
    place.put("lit/all.tif", RNG.integers(0, 4096, (12, 16)).astype(np.uint16))
    for name in ("dark.tif", "room.tif", "f1.tif", "f2.tif", "a/f.tif", "z1.tif", "z1 again.tif"):
        place.put(name, RNG.integers(0, 4096, (12, 16)).astype(np.uint16))
    text = """
    schema = 1
    part_id = "knob-1"
    target = "chrome_sphere"
    pixel_format = "BayerGB12"
    linear = true
    simulated = true
    sphere_diameter_mm = 20
    sphere_count = 2
    circles = [{ u = 3.5, v = 4, radius = 2 }]
    notes = "bench"
    pattern_set = { kind = "gray", count = 2 }
    sensor = { offset_x = 100, offset_y = 50, binning = 2 }
    crop = { x = 2, y = 4, width = 8, height = 6 }
    origin = { source = "bench", licence = "CC0-1.0", citation = "none" }
    frames = [
      { file = "z1.tif", zone = 1, exposure_us = 1500, gain_db = 3 },
      { file = "z1 again.tif", zone = 1 },
      { file = "lit/all.tif", role = "all_zones" },
      { file = "room.tif", role = "ambient" },
      { file = "dark.tif", role = "dark" },
      { file = "f1.tif", role = "pattern", pattern = { bit = 0 }, projector = 1 },
      { file = "f2.tif", role = "pattern", pattern = { bit = 0 }, projector = 1 },
      { file = "a/f.tif", role = "pattern", pattern = { bit = 1 }, projector = 1 },
    ]
    """
    recording = place.run(text)
    info = recording.info
    assert (info.sensor.offset_x, info.sensor.offset_y, info.sensor.binning) == (104, 58, 2)
    assert (info.width, info.height, info.target, info.sphere_count) == (8, 6, "chrome_sphere", 2)
    assert info.circles[0].u == 3.5 and info.pattern_set == {"kind": "gray", "count": 2}
    assert [f.shot for f in info.frames] == [
        *("zone1", "zone1", "all_zones", "ambient", "dark"),
        *("pattern_f1", "pattern_f1", "pattern_f"),
    ]
    assert [s.name for s in info.plan] == ["zone1", "all_zones", "ambient", "dark", "pattern_f1", "pattern_f"]
    assert (info.frames[0].exposure_us, info.frames[0].gain_db) == (1500, 3)
    np.testing.assert_array_equal(recording.read(info.frames[0]), tifffile.imread(place.images / "z1.tif")[4:10, 2:10])


def test_patterns_of_one_file_name_in_two_folders_stay_apart(place: Place) -> None:
    for folder in ("x", "y"):
        place.put(f"{folder}/Größe 1.png", np.zeros((4, 4), np.uint8))
    frames = "".join(
        f'[[frames]]\nfile = "{folder}/Größe 1.png"\nrole = "pattern"\npattern = {{ direction = "{folder}" }}\n'
        for folder in ("x", "y")
    )
    recording = place.run(HEAD + frames)
    assert [(s.name, s.pattern) for s in recording.info.plan] == [
        ("pattern_Gr__e_1", {"direction": "x"}),
        ("pattern_Gr__e_1_2", {"direction": "y"}),
    ]


def test_colour_files_become_grey_where_grey_is_asked_for(place: Place) -> None:
    colour = place.put("c.tif", RNG.integers(0, 65536, (12, 16, 3)).astype(np.uint16))
    frames = '[[frames]]\nfile = "c.tif"\nzone = 1\n'
    recording = place.run(HEAD.replace("Mono8", "Mono16") + frames)
    grey = recording.read(recording.info.frames[0])
    np.testing.assert_allclose(grey, colour @ np.array([0.299, 0.587, 0.114]), atol=0.51)
    recording = place.run(HEAD.replace("Mono8", "RGB16") + frames, overwrite=True)
    np.testing.assert_array_equal(recording.read(recording.info.frames[0]), colour)


def test_jpegs_declared_linear_are_warned_of(place: Place) -> None:
    place.put("a.JPG", np.full((12, 16), 9, np.uint8))
    text = STACK + '[[frames]]\nfile = "a.JPG"\nrole = "all_zones"\n'
    warnings = place.run(text).info.warnings
    assert len(warnings) == 1 and "1 of 4 frames are JPEG but declared linear" in warnings[0]
    assert place.run(text.replace("true", "false"), overwrite=True).info.warnings == ()


def test_the_real_set_that_comes_with_the_program(tmp_path: Path, repository: Path) -> None:
    home = repository / "examples/psbox"
    for name, count in (("object", 12), ("sphere1", 12)):
        recording = import_recording(home, home / f"{name}.toml", tmp_path / name)
        assert len(recording.info.frames) == count
        assert list(verify(recording)) == []


def test_the_documentation_names_every_key(repository: Path) -> None:
    text = (repository / "docs/recordings.md").read_text(encoding="utf-8")
    written, told = ImportFile.model_fields, RecordingFile.model_fields
    keys = {f.alias or name for fields in (written, told) for name, f in fields.items()}
    for model in (Stack, Crop, Sensor, Circle, Origin, ImportedFrame, Frame, Shot):
        keys |= set(model.model_fields)
    keys |= {*get_args(Target), *get_args(Role)}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", text)] == []
    assert f"one of {len(PIXEL_FORMATS)}" in text


# --- slips of the pen in the description ---


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (STACK.replace("zones", "zone"), "unknown key stack.zone (did you mean 'zones'?)"),
        (STACK.replace("[stack]", "[stak]"), "unknown key stak (did you mean 'stack'?)"),
        (STACK.replace("part_id", "partid"), "unknown key partid (did you mean 'part_id'?)"),
        (
            STACK + '[[frames]]\nfile = "a"\nexposure = 3',
            "unknown key frames[1].exposure (did you mean 'exposure_us'?)",
        ),
        (STACK + '[[frame]]\nfile = "a"', "unknown key frame (did you mean 'frames'?)"),
        (STACK + "[sensor]\noffsetx = 3", "unknown key sensor.offsetx (did you mean 'offset_x'?)"),
        (STACK + "[crop]\nx = 1\ny = 1\nw = 1\nheight = 1", "unknown key crop.w (known: x, y, width, height)"),
        (STACK.replace("linear = true\n", ""), "key linear is missing"),
        (STACK.replace("linear = true", "linear = 3"), "linear = 3: Input should be a valid boolean"),
        (STACK.replace('"Mono8"', '"mono8"'), "pixel_format 'mono8' is not known; known: Mono8"),
        (STACK.replace("[1, 2, 3]", "[0, 2]"), "stack.zones[1] = 0: Input should be greater than or equal to 1"),
        (STACK.replace("[1, 2, 3]", "[1, 1]"), "stack: zone 1 stands 2 times in zones"),
        (STACK.replace("[1, 2, 3]", "[]"), "stack.zones = []"),
        (STACK.replace("{zone:02d}", "1"), "names one file for all zones; put {zone} into it"),
        (STACK.replace("{zone:02d}", "{zone.__class__}"), "and nothing else in braces"),
        (STACK.replace("{zone:02d}", "{zone:999999999d}"), "and nothing else in braces"),
        (STACK.replace("{zone:02d}", "{light}"), "and nothing else in braces"),
        (HEAD, "neither [stack] nor [[frames]] says which file is what"),
        (STACK + '[[frames]]\nfile = "a.png"', "frames[1] (a.png) of role 'zone': 'zone' frames need a zone number"),
        (STACK + '[[frames]]\nfile = "a.png"\nrole = "dark"\nzone = 1', "of role 'dark'"),
        (STACK + '[[frames]]\nfile = "a.png"\nrole = "pattern"', "of role 'pattern'"),
        (STACK + '[[frames]]\nfile = "a.png"\nzone = 1\nprojector = 1', "of role 'zone'"),
        (STACK + '[[frames]]\nfile = "a.png"\nrole = "lit"', "frames[1].role = 'lit': Input should be 'zone'"),
        (STACK + '[[frames]]\nfile = "Image_01.png"\nrole = "dark"', "Image_01.png is named 2 times"),
        (STACK + '[[frames]]\nfile = "../a.png"\nrole = "dark"', "'../a.png' leads out of the images folder"),
        (STACK + '[[frames]]\nfile = "/a.png"\nrole = "dark"', "'/a.png' leads out of the images folder"),
        (STACK + '[[frames]]\nfile = "a\\u0000.png"\nrole = "dark"', "leads out of the images folder"),
        (STACK + '[[frames]]\nfile = ""\nrole = "dark"', "frames[1].file = ''"),
        (STACK.replace("schema = 1", "schema = 2"), "schema = 2 is not known here"),
        (STACK.replace("[stack]", "[stack"), "is not valid TOML"),
    ],
)
def test_slips_of_the_pen_are_named(place: Place, text: str, sentence: str) -> None:
    error = place.fails(text, ConfigError)
    assert sentence in error.message and str(place.description) in error.message
    assert error.exit_code == 3
    if error.code == "config.invalid" and "key" in error.hint:
        assert "docs/recordings.md" in error.hint


@pytest.mark.parametrize(("braces", "name"), [("{zone}", "I1.png"), ("{zone:03d}", "I001.png")])
def test_zone_numbers_in_names(place: Place, braces: str, name: str) -> None:
    place.put(name, np.zeros((2, 2), np.uint8))
    assert place.run(STACK.replace("Image_{zone:02d}", f"I{braces}").replace("[1, 2, 3]", "[1]")).zones == (1,)


# --- files that are not what is said ---


def test_missing_files_are_told_at_once_with_near_names(place: Place) -> None:
    (place.images / "Image_01.png").rename(place.images / "Image_01.PNG")
    (place.images / "Image_03.png").rename(place.images / "Image_3.png")
    if (place.images / "Image_01.png").exists():
        pytest.skip("names that differ in case are one file here")
    error = place.fails(STACK)
    assert f"2 of 3 files are missing in {place.images}: Image_01.png, Image_03.png" in error.message
    assert error.hint == "Image_01.png: did you mean Image_01.PNG?; Image_03.png: did you mean Image_3.png?"
    assert error.code == "image.missing" and error.exit_code == 7


def test_missing_folders(place: Place) -> None:
    place.put("Objects/a.png", np.zeros((2, 2), np.uint8))
    text = HEAD + '[[frames]]\nfile = "Objects\\\\a.png"\nzone = 1'
    assert place.fails(text).hint == "write / between folder and file"
    text = HEAD + '[[frames]]\nfile = "Objects/b.png"\nzone = 1'
    assert "Objects/a.png" in place.fails(text).hint
    text = HEAD + '[[frames]]\nfile = "nowhere/b.png"\nzone = 1'
    assert "correct the names" in place.fails(text).hint
    place.images = place.images / "nowhere"
    assert "is not a folder" in place.fails(STACK).message


@pytest.mark.parametrize(
    ("pixel_format", "image", "code", "sentence"),
    [
        (
            "Mono12",
            np.full((12, 16), 5000, np.uint16),
            "recording.value_range",
            "frame x.tif holds the value 5000; Mono12 allows",
        ),
        (
            "Mono12",
            np.zeros((12, 16), np.uint8),
            "recording.wrong_dtype",
            "x.tif is uint8; pixel_format 'Mono12' means uint16",
        ),
        (
            "Mono8",
            np.zeros((12, 16), np.uint16),
            "recording.wrong_dtype",
            "x.tif is uint16; pixel_format 'Mono8' means uint8",
        ),
        ("RGB8", np.zeros((12, 16), np.uint8), "recording.wrong_channels", "x.tif is a grey image"),
        ("BayerRG8", np.zeros((12, 16, 3), np.uint8), "recording.wrong_channels", "x.tif is a colour image"),
        (
            "Mono8",
            np.zeros((11, 16), np.uint8),
            "recording.size_mismatch",
            "frame x.tif is 16×11 px, the first frame is 16×12",
        ),
        ("Mono8", np.zeros((12, 16), np.float64), "image.unreadable", "dtype float64"),
    ],
)
def test_files_that_do_not_fit(place: Place, pixel_format: str, image: np.ndarray, code: str, sentence: str) -> None:
    place.put("first.tif", np.zeros((12, 16), images.np.uint16 if pixel_format == "Mono12" else np.uint8))
    tifffile.imwrite(place.images / "x.tif", image)
    text = HEAD.replace("Mono8", pixel_format)
    if code == "recording.size_mismatch":
        text += '[[frames]]\nfile = "first.tif"\nzone = 2\n'
    error = place.fails(text + '[[frames]]\nfile = "x.tif"\nzone = 1\n')
    assert (error.code, error.exit_code) == (code, 7)
    assert sentence in error.message


def test_crop_outside_and_damaged_file(place: Place) -> None:
    error = place.fails(STACK + "[crop]\nx = 10\ny = 0\nwidth = 7\nheight = 3")
    assert error.code == "recording.crop_outside"
    assert "Image_01.png is 16×12 px; the crop reaches to 17×3" in error.message
    path = place.images / "Image_03.png"
    path.write_bytes(path.read_bytes()[:-30])
    error = place.fails(STACK)
    assert error.code == "image.unreadable" and "Image_03.png" in error.message


def test_one_picture_for_two_zones_is_refused(place: Place) -> None:
    (place.images / "Image_03.png").write_bytes((place.images / "Image_01.png").read_bytes())
    error = place.fails(STACK)
    assert error.code == "recording.same_picture"
    assert "Image_03.png (zone3) and Image_01.png (zone1)" in error.message


def test_linear_is_true_or_false_and_nothing_like_it(place: Place) -> None:
    error = place.fails(STACK.replace("linear = true", 'linear = "true"'), ConfigError)
    assert "linear" in error.message


def test_the_time_of_the_capture_is_kept_in_utc(place: Place) -> None:
    text = STACK.replace("linear = true", "linear = true\ncaptured_utc = 2025-03-01T09:15:30+01:00")
    assert place.run(text).info.captured_utc == "2025-03-01T08:15:30+00:00"
    place.output = place.output.with_name("other")
    with pytest.raises(ConfigError, match=r"captured_utc.*zone"):
        place.run(text.replace("+01:00", ""))


@pytest.mark.parametrize(("x", "y", "pattern"), [(2, 4, "RG"), (1, 2, "GR"), (2, 3, "GB"), (3, 1, "BG")])
def test_an_odd_crop_shifts_the_bayer_pattern(place: Place, x: int, y: int, pattern: str) -> None:
    crop = f"[crop]\nx = {x}\ny = {y}\nwidth = 6\nheight = 6"
    description = STACK.replace("Mono8", "BayerRG8") + crop
    assert "BayerRG8" in description
    assert place.run(description).info.pixel_format == f"Bayer{pattern}8"


# --- the place of the recording ---


def test_a_second_run_is_refused_and_overwrite_replaces(place: Place) -> None:
    first = place.run().info.recording_id
    with pytest.raises(StorageError, match="exists already") as caught:
        place.run()
    assert caught.value.code == "storage.exists" and "--overwrite" in caught.value.hint
    (place.images / "Image_02.png").unlink()
    with pytest.raises(DatasetError):
        place.run(overwrite=True)
    assert Recording.open(place.output).info.recording_id == first  # kept, since the new one failed
    assert list(verify(Recording.open(place.output))) == []
    place.put("Image_02.png", np.zeros((12, 16), np.uint8))
    assert place.run(overwrite=True).info.recording_id != first
    assert [p.name for p in place.output.parent.iterdir()] == ["rec"]


def test_the_images_are_never_taken_for_an_old_recording(place: Place) -> None:
    place.output = place.images
    place.description.write_text(STACK)
    for output in (place.images, place.images.parent):
        with pytest.raises(StorageError, match=r"holds no recording\.json"):
            import_recording(place.images, place.description, output, overwrite=True)
    assert len(list(place.images.iterdir())) == 3


@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupt_leaves_the_old_state(place: Place, done: int, existing: bool) -> None:
    before = place.run().info.recording_id if existing else ""

    def stop(step: int, _total: int) -> None:
        if step == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.run(overwrite=existing, progress=stop)
    if existing:
        assert Recording.open(place.output).info.recording_id == before
        assert [p.name for p in place.output.parent.iterdir()] == ["rec"]
    else:
        place.left_nothing()


def test_a_place_that_cannot_be_written(place: Place) -> None:
    place.output.parent.write_text("a file in the place of the folder")
    with pytest.raises(StorageError) as caught:
        place.run()
    assert caught.value.code == "storage.not_writable" and caught.value.exit_code == 8
    place.output = place.output.parent
    for overwrite in (False, True):
        with pytest.raises(StorageError):
            place.run(overwrite=overwrite)
    assert place.output.read_text() == "a file in the place of the folder"


@pytest.mark.parametrize("k", range(1, 12))
def test_a_disk_that_fails_at_the_kth_fsync(place: Place, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == k:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(StorageError, match="disk full") as caught:
        place.run()
    assert caught.value.exit_code == 8 and "MB free" in caught.value.message
    place.left_nothing()


def test_a_full_disk(tmp_path: Path, place: Place) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        for zone in (1, 2, 3):
            place.put(f"Image_{zone:02d}.png", RNG.integers(0, 256, (700, 700)).astype(np.uint8))
        place.output = small / "rec"
        with pytest.raises(StorageError, match="disk full") as caught:
            place.run()
        assert caught.value.code == "storage.disk_full"
        assert list(small.iterdir()) == []
        assert shutil.disk_usage(small).used < 100_000
        assert place.run(STACK.replace("[1, 2, 3]", "[1]")).zones == (1,)  # what fits is written afterwards
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --- anything at all ---


def test_mutated_descriptions_give_a_recording_or_one_of_our_errors(place: Place) -> None:
    rng = random.Random(8)
    text = (
        "notes = '"
        + "measured on the bench, " * 9
        + "'\n"
        + STACK
        + '[crop]\nx = 1\ny = 2\nwidth = 5\nheight = 6\n[[frames]]\nfile = "Image_0.png"\nrole = "dark"\n'
    )
    place.put("Image_0.png", np.zeros((12, 16), np.uint8))
    outcomes = [0, 0]
    for _ in range(200):
        data = bytearray(text.encode())
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    data[at] = rng.choice(b"0123456789")
                case _:
                    data.insert(at, rng.choice(b'[]{}="\n.-_9'))
        place.description.write_bytes(data)
        try:
            recording = import_recording(place.images, place.description, place.output, overwrite=True)
            assert list(verify(recording)) == []
            outcomes[0] += 1
        except RakelightError as e:
            assert e.hint and len(e.message) < 1500
            outcomes[1] += 1
    assert min(outcomes) > 10


def test_decoders_agree_on_what_is_imported(place: Place) -> None:
    """The imported pixels are those that another decoder sees."""
    recording = place.run()
    for frame in recording.info.frames:
        seen = cv2.imread(str(place.images / str(frame.original)), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(recording.read(frame), seen)
        np.testing.assert_array_equal(tifffile.imread(recording.folder / frame.file), seen)
