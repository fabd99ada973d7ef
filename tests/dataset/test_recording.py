"""Recordings: written whole, read with their hash checked, hostile descriptions refused in one clear error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight import files
from rakelight.dataset import images, recording_writer
from rakelight.dataset.recording import (
    FILE_NAME,
    PIXEL_FORMATS,
    Description,
    Recording,
    Shot,
    check_values,
    content_sha256,
    dtype_of,
    full_scale_of,
    verify,
)
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import DatasetError, InputError, RakelightError, StorageError

RNG = np.random.default_rng(4)
PLAN = (
    Shot(name="zone1", role="zone", zone=1),
    Shot(name="zone2", role="zone", zone=2),
    Shot(name="dark", role="dark"),
)


def description(pixel_format: str = "BayerRG12", **changes: Any) -> Description:
    return Description(part_id="knob", pixel_format=pixel_format, linear=True, plan=PLAN, **changes)


def frame(pixel_format: str = "BayerRG12") -> np.ndarray:
    shape = (6, 8, 3) if pixel_format.startswith("RGB") else (6, 8)
    full_scale = full_scale_of(pixel_format)
    if full_scale is None:
        return RNG.normal(size=shape).astype(np.float32)
    return RNG.integers(0, int(full_scale) + 1, shape).astype(dtype_of(pixel_format))


def write(folder: Path, pixel_format: str = "BayerRG12", **changes: Any) -> dict[str, np.ndarray]:
    taken = {shot.name: frame(pixel_format) for shot in PLAN}
    with write_recording(folder, description(pixel_format, **changes)) as writer:
        for name, image in taken.items():
            writer.add(name, image, exposure_us=2000.0, original=f"{name}.png")
    return taken


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "rec")
    return tmp_path / "rec"


# --- what goes in comes out ---


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_round_trip_of_every_pixel_format(tmp_path: Path, pixel_format: str) -> None:
    taken = write(tmp_path / "rec", pixel_format, simulated=True, pattern_set={"name": "x", "list": [1, 2]})
    recording = Recording.open(tmp_path / "rec" / FILE_NAME)  # the file names the folder as well
    assert [f.shot for f in recording.info.frames] == ["zone1", "zone2", "dark"]
    for f in recording.info.frames:
        image = recording.read(f)
        np.testing.assert_array_equal(image, taken[f.shot])
        assert (image.dtype, image.shape) == (recording.frame_dtype, recording.frame_shape)
    assert list(verify(recording)) == []
    assert recording.full_scale == full_scale_of(pixel_format)
    assert recording.bayer == (pixel_format[5:7] if pixel_format.startswith("Bayer") else None)
    assert recording.zones == (1, 2)
    assert recording.info.pattern_set == {"name": "x", "list": [1, 2]} and recording.info.simulated


def test_full_scales_and_dtypes() -> None:
    assert [full_scale_of(f"Mono{b}") for b in (8, 10, 12, 14, 16)] == [255, 1023, 4095, 16383, 65535]
    assert [dtype_of(f"BayerGB{b}") for b in (8, 10, 16, "32f")] == ["uint8", "uint16", "uint16", "float32"]


def test_shots_are_found_by_role_and_zone_in_the_order_taken(tmp_path: Path) -> None:
    with write_recording(tmp_path / "rec", description()) as writer:
        for name in ("zone2", "dark", "zone1", "zone2"):
            writer.add(name, frame())
    recording = Recording.open(tmp_path / "rec")
    assert [f.file for f in recording.shots("zone")] == ["001_zone2.tiff", "003_zone1.tiff", "004_zone2.tiff"]
    assert [f.file for f in recording.shots("zone", 2)] == ["001_zone2.tiff", "004_zone2.tiff"]
    assert [f.file for f in recording.shots("ambient")] == []


# --- what the writer refuses ---


@pytest.mark.parametrize(
    ("pixel_format", "value", "sentence", "hint"),
    [
        ("Mono12", 5000, "frame zone1 holds the value 5000; Mono12 allows 0 to 4095", '"Mono14"'),
        ("BayerRG12", 65520, "holds the value 65520; BayerRG12 allows 0 to 4095", '"BayerRG16"'),
        ("RGB10", 1024, "holds the value 1024; RGB10 allows 0 to 1023", '"RGB12"'),
        ("Mono14", 16384, "allows 0 to 16383", '"Mono16"'),
        ("Mono32f", np.nan, "holds NaN or infinite values", "overexposed"),
        ("Mono32f", -np.inf, "holds NaN or infinite values", "overexposed"),
    ],
)
def test_values_that_the_pixel_format_cannot_hold(
    tmp_path: Path, pixel_format: str, value: float, sentence: str, hint: str
) -> None:
    image = frame(pixel_format)
    image[2, 3] = value
    with pytest.raises(DatasetError) as caught, write_recording(tmp_path / "rec", description(pixel_format)) as writer:
        writer.add("zone1", image)
    assert caught.value.code == "recording.value_range"
    assert sentence in caught.value.message and hint in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_full_scale_itself_is_allowed() -> None:
    for pixel_format in PIXEL_FORMATS:
        full_scale = full_scale_of(pixel_format)
        check_values(
            "f", np.full((2, 2), 1 if full_scale is None else full_scale, dtype_of(pixel_format)), pixel_format
        )


@pytest.mark.parametrize(
    ("name", "image", "measured", "kind", "code"),
    [
        ("zone9", np.zeros((6, 8), np.uint16), {}, DatasetError, "recording.shot_unplanned"),
        ("zone1", np.zeros((6, 9), np.uint16), {}, DatasetError, "recording.size_mismatch"),
        ("zone1", np.zeros((6, 8), np.uint8), {}, InputError, "input.dtype"),
        ("zone1", np.zeros((6, 8, 3), np.uint16), {}, InputError, "input.shape"),
        ("zone1", np.zeros((0, 8), np.uint16), {}, InputError, "input.shape"),
        ("zone1", np.zeros((6, 8), np.uint16), {"exposure_us": -1.0}, DatasetError, "config.invalid"),
        ("zone1", np.zeros((6, 8), np.uint16), {"exposure": 1.0}, DatasetError, "config.invalid"),
    ],
)
def test_frames_that_do_not_belong_leave_nothing(
    tmp_path: Path, name: str, image: np.ndarray, measured: dict[str, Any], kind: type[RakelightError], code: str
) -> None:
    with pytest.raises(kind) as caught, write_recording(tmp_path / "rec", description()) as writer:
        writer.add("zone2", frame())
        writer.add(name, image, **measured)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_no_recording_without_all_planned_frames(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught, write_recording(tmp_path / "rec", description()):
        pass
    assert caught.value.code == "recording.empty"
    missing = r"2 planned shot\(s\) have no frame: zone2, dark"
    with (
        pytest.raises(DatasetError, match=missing) as caught,
        write_recording(tmp_path / "rec", description()) as writer,
    ):
        writer.add("zone1", frame())
    assert caught.value.code == "recording.incomplete"
    assert list(tmp_path.iterdir()) == []


def test_overwrite_takes_recordings_only(tmp_path: Path, folder: Path) -> None:
    before = Recording.open(folder).info.recording_id
    with pytest.raises(StorageError, match="exists already"):
        write(folder)
    assert Recording.open(folder).info.recording_id == before
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"x")
    for target in (photos, tmp_path):
        with (
            pytest.raises(StorageError, match=r"holds no recording\.json"),
            write_recording(target, description(), overwrite=True),
        ):
            pytest.fail("must not be entered")
    assert (photos / "holiday.jpg").exists()


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = images.write_tiff, []

    def full(path: Path, image: np.ndarray) -> tuple[int, str]:
        calls.append(path)
        if len(calls) == 3:
            raise files.storage_error(OSError(28, "No space left on device"), path)
        return real(path, image)

    monkeypatch.setattr(recording_writer.images, "write_tiff", full)
    with pytest.raises(StorageError) as caught:
        write(tmp_path / "rec")
    assert caught.value.code == "storage.disk_full" and caught.value.exit_code == 8
    assert list(tmp_path.iterdir()) == []


# --- damage ---


def problems(folder: Path) -> list[str]:
    return [text for _frame, text in verify(Recording.open(folder))]


def test_verify_reads_every_frame(folder: Path) -> None:
    assert problems(folder) == []
    names = sorted(p.name for p in folder.glob("*.tiff"))
    (folder / names[0]).unlink()
    whole = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(whole[:-1])
    flipped = bytearray((folder / names[2]).read_bytes())
    flipped[-1] ^= 1
    (folder / names[2]).write_bytes(flipped)
    (folder / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    found = problems(folder)
    assert len(found) == 4
    assert "001_zone1.tiff is missing" in found[0]
    assert "truncated or replaced" in found[1] and "the checksum differs" in found[2]
    assert found[3] == "notes.txt is not part of the recording"
    with pytest.raises(DatasetError) as caught:
        recording = Recording.open(folder)
        recording.read(recording.info.frames[2])
    assert caught.value.code == "recording.frame_changed" and "recording verify" in caught.value.hint


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads((folder / FILE_NAME).read_text())
    change(data)
    data["content_sha256"] = content_sha256(data)  # a record that says something wrong of itself
    (folder / FILE_NAME).write_text(json.dumps(data))


def test_verify_tells_an_edited_record(folder: Path) -> None:
    record = folder / FILE_NAME
    record.write_text(record.read_text().replace('"zone": 1', '"zone": 3'))
    problems = [text for _frame, text in verify(Recording.open(folder))]
    assert len(problems) == 1 and "recording.json was changed" in problems[0]


def test_verify_compares_plan_and_frames(folder: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["frames"][0]["shot"] = "zone7"
        data["frames"][2] = data["frames"][1]
        data["plan"].append({"name": "ambient", "role": "ambient"})

    rewrite(folder, change)
    assert problems(folder) == [
        "shot 'zone1' of the plan has no frame",
        "shot 'dark' of the plan has no frame",
        "shot 'ambient' of the plan has no frame",
        "frame 001_zone1.tiff belongs to shot 'zone7', which is not in the plan",
        "file 002_zone2.tiff is used by 2 frames",
        "003_dark.tiff is not part of the recording",
    ]


@pytest.mark.parametrize(
    "change", [{"width": 9}, {"height": 5}, {"pixel_format": "Mono8"}, {"pixel_format": "RGB12"}], ids=str
)
def test_frames_of_another_kind_than_recorded(folder: Path, change: dict[str, Any]) -> None:
    rewrite(folder, lambda data: data.update(change))
    found = problems(folder)
    assert len(found) == 3
    assert all("(6, 8) uint16; the recording says" in text for text in found)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(width="wide"), "width = 'wide': Input should be a valid integer"),
        (lambda d: d.update(width=-1), "width = -1"),
        (lambda d: d.update(height=10**9), "height = 1000000000: Input should be less than or equal to 65536"),
        (lambda d: d.update(frames={"a": 1}), "frames = {'a': 1}"),
        (lambda d: d.update(frames=None), "frames = None"),
        (lambda d: d.update(pixel_format="Mono9"), "pixel_format 'Mono9' is not known; known: Mono8"),
        (lambda d: d.update(target="moon"), "target = 'moon': Input should be 'part'"),
        (lambda d: d.update(kind="sample"), "kind = 'sample'"),
        (lambda d: d.pop("recording_id"), "key recording_id is missing"),
        (lambda d: d.update(partid=1), "unknown key partid (did you mean 'part_id'?)"),
        (lambda d: d["frames"][1].update(file="../../etc/passwd"), "frames[2].file = '../../etc/passwd'"),
        (lambda d: d["frames"][1].update(file="..\\x.tiff"), "frames[2].file = "),
        (lambda d: d["frames"][1].update(file="/dev/zero"), "frames[2].file = '/dev/zero'"),
        (lambda d: d["frames"][1].update(file=".."), "frames[2].file = '..'"),
        (lambda d: d["frames"][1].update(file="C:x.tiff"), "frames[2].file = 'C:x.tiff'"),
        (lambda d: d["frames"][1].update(file="a.tiff\n"), "frames[2].file = 'a.tiff\\n'"),
        (lambda d: d["frames"][1].update(file="a" * 10**6), "frames[2].file = 'aaa"),
        (lambda d: d["frames"][1].update(sha256="0"), "frames[2].sha256 = '0'"),
        (lambda d: d["frames"][1].update(bytes=0), "frames[2].bytes = 0"),
        (lambda d: d["plan"][0].update(zone=None), "plan[1]: a shot of role 'zone' needs a zone number"),
        (lambda d: d["plan"][1].update(name="zone1"), "the plan has 2 shots named 'zone1'"),
        (lambda d: d.update(plan=[]), "plan = []"),
        (lambda d: d.update(circles=[{"u": 1, "v": 2, "radius": 0}]), "circles[1].radius = 0"),
    ],
)
def test_hostile_descriptions_are_one_clear_error(
    folder: Path, change: Callable[[dict[str, Any]], Any], sentence: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(DatasetError) as caught:
        Recording.open(folder)
    assert sentence in caught.value.message
    assert str(folder / FILE_NAME) in caught.value.message
    assert len(caught.value.message) < 800
    assert caught.value.code == "config.invalid" and caught.value.exit_code == 7


def test_other_versions_and_texts_that_are_no_json(folder: Path) -> None:
    path = folder / FILE_NAME
    good = path.read_text()
    rewrite(folder, lambda data: data.update(schema=2, invented_later=1))
    with pytest.raises(DatasetError, match="schema = 2 is not known here") as caught:
        Recording.open(folder)
    assert caught.value.code == "config.schema_unknown" and "invented_later" not in caught.value.message
    texts = [
        good.replace('"linear"', '"linear": true, "linear"'),
        good.replace("2000.0", "NaN"),
        good.replace("2000.0", "1e999"),
        '{"a": "' + "x" * (10 << 20) + '"}',
        '{"a":' * 10_000,
        "[]",
        "null",
        "",
    ]
    for text in texts:
        path.write_text(text)
        with pytest.raises(DatasetError) as caught:
            Recording.open(folder)
        assert caught.value.code in ("file.corrupt", "config.invalid")
        assert len(caught.value.message) < 500
    path.unlink()
    for place, what in (
        (folder, "holds no recording.json"),
        (folder / "x", "does not exist"),
        (Path(__file__), "not a folder"),
    ):
        with pytest.raises(DatasetError, match=what) as caught:
            Recording.open(place)
        assert caught.value.code == "recording.not_found"


def test_a_description_that_is_long_but_true_is_read(tmp_path: Path) -> None:
    plan = tuple(Shot(name=f"p{i}", role="pattern", pattern={"i": i}) for i in range(300))
    what = Description(part_id="knob", pixel_format="Mono8", linear=True, plan=plan)
    with write_recording(tmp_path / "rec", what) as writer:
        for shot in plan:
            writer.add(shot.name, np.zeros((1, 1), np.uint8), counters={"frames": 1})
    assert problems(tmp_path / "rec") == []


def test_mutated_recordings_never_give_other_pixels(folder: Path) -> None:
    """200 mutations of recording.json and of the frames: what can be read is what was recorded."""
    rng = random.Random(6)
    recording = Recording.open(folder)
    truth = {f.file: recording.read(f) for f in recording.info.frames}
    contents = {p: p.read_bytes() for p in sorted(folder.iterdir())}
    refused = 0
    for number in range(400):
        path = folder / FILE_NAME if number % 2 else rng.choice(list(contents))
        data = bytearray(contents[path])
        for _ in range(rng.choice((1, 1, 3))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            mutated = Recording.open(folder)
            for f in mutated.info.frames:
                np.testing.assert_array_equal(mutated.read(f), truth[f.file])
        except RakelightError as e:
            assert isinstance(e, DatasetError) and e.hint
            refused += 1
        else:
            list(verify(mutated))
        path.write_bytes(contents[path])
    assert refused > 200
