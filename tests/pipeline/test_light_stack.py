"""What is read of a recording and matched with a calibration, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.calibration.flat_field import Dark, FlatField
from rakelight.calibration.frame_format import FrameFormat
from rakelight.dataset.recording import Description, Recording, Shot
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import CalibrationError, DatasetError, RakelightError
from rakelight.pipeline.light_stack import load_light_stack
from rakelight.pipeline.zone_frames import read_grey
from rakelight.reconstruction.models import Light

GAIN = 1e-4


def dark_of(level: int, width: int = 240, height: int = 180) -> Dark:
    return Dark(np.full((height, width), level, np.uint16), 1.0)


def field_of(zones: tuple[int, ...], model: str = "distant", width: int = 240, height: int = 180) -> FlatField:
    gains = np.stack([np.full((height, width), 1000 * zone, np.uint16) for zone in zones])
    return FlatField(zones, gains, np.full(len(zones), GAIN, np.float32), model)  # type: ignore[arg-type]


def refused(kind: type[RakelightError], code: str, recording: Recording, calibration: Any, *words: str) -> None:
    with pytest.raises(kind) as caught:
        load_light_stack(recording, calibration)
    assert caught.value.code == code
    assert all(word in caught.value.message for word in words), caught.value.message
    assert caught.value.hint


# ------------------------------------------------------------------------------------------------------ frames and dark
def test_raw_frames_stay_as_they_are(scenes: Any, tmp_path: Path) -> None:
    for pixel_format in ("Mono12", "BayerRG12", "Mono8"):
        recording = scenes.record(tmp_path / pixel_format, scenes.part(), pixel_format)
        stack = load_light_stack(recording, scenes.calibration())
        assert stack.frames[1].dtype == recording.frame_dtype
        assert np.array_equal(stack.frames[1], recording.read(next(recording.shots("zone", 2))))
        assert stack.full_scale == recording.full_scale and stack.near is None


def test_own_dark_goes_before_the_calibrations_and_ambient_before_dark(scenes: Any, tmp_path: Path) -> None:
    rig = scenes.calibration(dark=dark_of(77))
    plain = scenes.record(tmp_path / "plain", scenes.part())
    corrections = load_light_stack(plain, rig).corrections
    assert corrections.dark is rig.dark.map and corrections.dark_scale == 1.0
    own = scenes.record(tmp_path / "own", scenes.part(), dark=100 / 4095)
    dark = load_light_stack(own, rig).corrections.dark
    assert dark is not None and float(dark.mean()) == pytest.approx(100, abs=0.2)
    both = scenes.record(tmp_path / "both", scenes.part(), dark=100 / 4095, ambient=200 / 4095)
    dark = load_light_stack(both, rig).corrections.dark
    assert dark is not None and float(dark.mean()) == pytest.approx(200, abs=0.2)


def test_repeats_are_averaged_and_saturation_is_kept(scenes: Any, tmp_path: Path) -> None:
    plan = tuple(Shot(name=f"zone{zone}", role="zone", zone=zone) for zone in (1, 2, 3, 4))
    what = Description(part_id="three", pixel_format="Mono12", linear=True, plan=plan)
    with write_recording(tmp_path / "three", what) as writer:
        for zone in (1, 2, 3, 4):
            for value in (100, 200, 4095 if zone == 1 else 301):
                writer.add(f"zone{zone}", np.full((6, 8), value, np.uint16))
    repeats = Recording.open(tmp_path / "three")
    assert (read_grey(repeats, 2) == 200).all() and read_grey(repeats, 2).dtype == np.uint16
    assert (read_grey(repeats, 1) == 4095).all()


def test_colour_frames_become_the_mean_of_their_channels(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "rgb", 1.3 * scenes.part(), "RGB8", dark=scenes.BLACK)
    stack = load_light_stack(recording, scenes.calibration(flat_field=field_of((1, 2, 3, 4)), dark=dark_of(9)))
    image = recording.read(next(recording.shots("zone", 3))).astype(np.float32)
    clipped = (image >= 0.98 * 255).any(axis=2)
    assert stack.frames[2].dtype == np.float32
    assert stack.frames[2][~clipped] == pytest.approx(image.mean(axis=2)[~clipped])
    assert (stack.frames[2][clipped] == 255).all()
    assert stack.corrections.gains is None and stack.corrections.dark is not None
    assert any("flat field was not used" in w for w in stack.warnings)


# ------------------------------------------------------------------------------------------------- zones, flat field, near
def test_zones_are_matched_by_number(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part()[[3, 1, 0]], zones=(9, 5, 2))
    rig = scenes.calibration(zones=(2, 5, 7, 9), flat_field=field_of((2, 5, 7, 9)))
    stack = load_light_stack(recording, rig)
    assert [light.zone for light in stack.lights] == [2, 5, 9]
    assert np.array_equal(stack.frames[2], recording.read(next(recording.shots("zone", 9))))
    assert stack.corrections.gains is not None and stack.corrections.gains[:, 0, 0].tolist() == [2000, 5000, 9000]
    expected = [GAIN / light.strength for light in stack.lights]
    assert stack.corrections.gain_scales == pytest.approx(expected)


def test_zone_without_light_is_left_out_with_a_warning(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(5))
    stack = load_light_stack(recording, scenes.calibration(4))
    assert len(stack.frames) == 4 and any("zones [5]" in w for w in stack.warnings)
    refused(
        CalibrationError, "photometric.too_few_lights", recording, scenes.calibration(zones=(1, 2, 8, 9)), "2 usable"
    )


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"linear": False}, "not linear"),
        ({"target": "chrome_sphere"}, "chrome_sphere, not a part"),
        ({"simulated": False}, "real recording is solved with a simulated"),
    ],
)
def test_doubtful_recordings_are_solved_with_a_warning(
    scenes: Any, tmp_path: Path, about: dict[str, Any], words: str
) -> None:
    stack = load_light_stack(scenes.record(tmp_path / "r", scenes.part(), **about), scenes.calibration())
    assert sum(words in w for w in stack.warnings) == 1, stack.warnings


def test_near_lights_need_everything_and_a_flat_field_of_their_kind(scenes: Any, tmp_path: Path) -> None:
    camera, plane, lights = scenes.near_rig()
    near = {"camera": camera, "table_plane": plane, "lights": lights}
    recording = scenes.record(tmp_path / "r", scenes.near_part(scenes.normals()))
    zones = (1, 2, 3, 4)
    assert load_light_stack(recording, scenes.calibration(**near)).near == (camera, plane)
    assert load_light_stack(recording, scenes.calibration(**near, flat_field=field_of(zones, "near"))).near is not None
    assert load_light_stack(recording, scenes.calibration(**near, flat_field=field_of(zones))).near is None
    assert load_light_stack(recording, scenes.calibration(lights=lights)).near is None
    alone = scenes.calibration(lights=lights, flat_field=field_of(zones, "near"))
    refused(CalibrationError, "calibration.light_model", recording, alone, "near lights")


def test_cropped_and_binned_frames_get_the_camera_of_their_window(scenes: Any, tmp_path: Path) -> None:
    camera, plane, lights = scenes.near_rig()
    rig = scenes.calibration(camera=camera, table_plane=plane, lights=lights)
    images = scenes.near_part(scenes.normals())[:, 20:80, 100:220]
    cropped = scenes.record(tmp_path / "c", images, sensor={"offset_x": 100, "offset_y": 20})
    window = load_light_stack(cropped, rig).near
    assert window is not None
    assert (window[0].width, window[0].height) == (120, 60)
    assert window[0].project([[1.0, 2.0, 200.0]]) == pytest.approx(camera.project([[1.0, 2.0, 200.0]]) - [100, 20])
    binned = scenes.record(tmp_path / "b", images[:, ::2, ::2], sensor={"offset_x": 100, "offset_y": 20, "binning": 2})
    half = load_light_stack(binned, rig).near
    assert half is not None and half[0].fx == pytest.approx(camera.fx / 2)
    outside = scenes.record(tmp_path / "o", images, sensor={"offset_x": 200, "offset_y": 20})
    refused(CalibrationError, "calibration.size_mismatch", outside, rig, "120×60", "(200, 20)", "240×180")


def exposures_of(*times: float) -> dict[str, float]:
    return {f"zone{zone}": time for zone, time in enumerate(times, 1)}


def test_exposures_are_folded_into_the_gains(scenes: Any, tmp_path: Path) -> None:
    images, zones = scenes.part(), (1, 2, 3, 4)
    strengths = [light.strength for light in scenes.calibration().lights]
    part = scenes.record(tmp_path / "p", images, exposures=exposures_of(1000, 2000, 1000, 500))
    stack = load_light_stack(part, scenes.calibration())  # no reference: relative to their mean
    assert stack.corrections.gain_scales == pytest.approx(1125 / np.array([1000, 2000, 1000, 500]) / strengths)
    white = replace(field_of(zones), reference_exposure_us=4000.0)
    stack = load_light_stack(part, scenes.calibration(flat_field=white))
    assert stack.corrections.gain_scales == pytest.approx(GAIN * np.array([4, 2, 4, 8]) / strengths)
    assert not stack.warnings


@pytest.mark.parametrize(
    ("times", "reference", "words"),
    [
        ((1000.0,), None, "known of 1 of 4 zones"),
        ((), 4000.0, "known of 0 of 4 zones, and of the white plane (4000 µs)"),
        ((1000.0,) * 4, None, "exposure of the white plane is not known"),
    ],
)
def test_exposures_of_which_some_are_not_known(
    scenes: Any, tmp_path: Path, times: tuple[float, ...], reference: float | None, words: str
) -> None:
    part = scenes.record(tmp_path / "p", scenes.part(), exposures=exposures_of(*times))
    rig = scenes.calibration(flat_field=replace(field_of((1, 2, 3, 4)), reference_exposure_us=reference))
    stack = load_light_stack(part, rig)
    assert [words in w for w in stack.warnings] == [True]
    assert stack.corrections.gain_scales == pytest.approx([GAIN / light.strength for light in rig.lights])


def test_dark_of_another_exposure_gives_a_warning(scenes: Any, tmp_path: Path) -> None:
    part = scenes.record(tmp_path / "p", scenes.part(), exposures=exposures_of(*[1000.0] * 4))
    rig = scenes.calibration(dark=replace(dark_of(40), exposure_us=1200.0))
    assert sum("dark map was taken at 1200 µs" in w for w in load_light_stack(part, rig).warnings) == 1
    near = scenes.calibration(dark=replace(dark_of(40), exposure_us=1050.0))
    assert not any("taken at" in w for w in load_light_stack(part, near).warnings)


def test_colour_images_need_nothing_of_the_flat_field_and_name_what_is_not_used(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "rgb", scenes.part(), "RGB8", black=0.0)
    maps = {"flat_field": field_of((1, 2, 3, 4), "near"), "dark": dark_of(9), "map_format": FrameFormat("BayerRG12")}
    stack = load_light_stack(recording, scenes.calibration(**maps))
    assert stack.corrections.gains is None and stack.corrections.dark is None
    assert stack.warnings == (
        "the flat field and the dark map were not used: they belong to raw frames, these are colour images",
    )


@pytest.mark.parametrize("height", [1000, 1499])
def test_exposure_is_judged_on_every_photosite_colour(scenes: Any, tmp_path: Path, height: int) -> None:
    images = scenes.part(width=40, height=height)
    images[..., 0] = 0  # nothing red
    part = scenes.record(tmp_path / "p", images, "BayerRG12", dark=scenes.BLACK)
    assert len(load_light_stack(part, scenes.calibration()).frames) == 4


# ---------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize("maps", [{"dark": dark_of(4)}, {"flat_field": field_of((1, 2, 3, 4))}])
@pytest.mark.parametrize("other", [FrameFormat("Mono8"), FrameFormat("Mono12", 0, 2), FrameFormat("Mono12", 0, 0, 2)])
def test_maps_of_other_frames(scenes: Any, tmp_path: Path, maps: dict[str, Any], other: FrameFormat) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part())
    rig = scenes.calibration(**maps, map_format=other)
    refused(CalibrationError, "calibration.format_mismatch", recording, rig, str(other), "Mono12 at (0, 0), binning 1")


@pytest.mark.parametrize("near", [False, True])
def test_lights_in_one_plane_are_refused_before_a_frame_is_read(scenes: Any, tmp_path: Path, near: bool) -> None:
    camera, plane, lights = scenes.near_rig()
    centre = np.array([0.0, 0.0, 200.0])
    row = [np.array([x, 0.0, 130.0]) for x in (-80.0, -20.0, 30.0, 90.0)]
    lights = tuple(Light.near(zone, position, centre) for zone, position in enumerate(row, 1))
    rig = scenes.calibration(lights=lights, **({"camera": camera, "table_plane": plane} if near else {}))
    recording = scenes.record(tmp_path / "r", scenes.part())
    (recording.folder / recording.info.frames[0].file).unlink()
    refused(CalibrationError, "calibration.lights_coplanar", recording, rig, "one plane", "[1, 2, 3, 4]")


@pytest.mark.parametrize("dark", [None, 40 / 4095])
@pytest.mark.parametrize("pixel_format", ["Mono12", "Mono32f"])
def test_dead_lamp(scenes: Any, tmp_path: Path, dark: float | None, pixel_format: str) -> None:
    images = scenes.part()
    images[2] = 0
    recording = scenes.record(tmp_path / "r", images, pixel_format, dark=dark)
    words = ("zone 3", "100.00%", "below 99.9%")
    refused(DatasetError, "recording.zone_dark", recording, scenes.calibration(), *words)


def test_one_zone_saturated(scenes: Any, tmp_path: Path) -> None:
    images = scenes.part()
    images[1] *= 50
    recording = scenes.record(tmp_path / "r", images)
    words = ("zone 2", "100.00%", "saturated", "below 99.9%")
    refused(DatasetError, "recording.zone_saturated", recording, scenes.calibration(), *words)


def test_shadow_and_weak_lamp_are_no_dead_lamp(scenes: Any, tmp_path: Path) -> None:
    steep = scenes.part()
    steep[0, :, 2:] = 0  # all but its rim faces away from zone 1
    assert load_light_stack(scenes.record(tmp_path / "s", steep, dark=scenes.BLACK), scenes.calibration()).frames
    weak = 0.2 * scenes.part()
    weak[3] *= 0.3
    assert load_light_stack(scenes.record(tmp_path / "w", weak, dark=scenes.BLACK), scenes.calibration()).frames


@pytest.mark.parametrize("maps", [{"dark": dark_of(4, 120)}, {"flat_field": field_of((1, 2, 3, 4), width=120)}])
def test_maps_of_another_size(scenes: Any, tmp_path: Path, maps: dict[str, Any]) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part())
    rig = scenes.calibration(**maps)
    refused(CalibrationError, "calibration.size_mismatch", recording, rig, "240×180", "120×180")


def test_flat_field_without_a_zone(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part())
    rig = scenes.calibration(flat_field=field_of((1, 2, 4)))
    refused(CalibrationError, "calibration.zone_missing", recording, rig, "no zone 3")


@pytest.mark.parametrize("black", [0.0, 0.05])
def test_all_dark(scenes: Any, tmp_path: Path, black: float) -> None:
    recording = scenes.record(tmp_path / "r", 0.01 * scenes.part(), black=black, dark=black)
    refused(DatasetError, "recording.all_dark", recording, scenes.calibration(), str(tmp_path), "100.0%")


def test_small_part_on_a_black_ground_is_not_dark(scenes: Any, tmp_path: Path) -> None:
    images = np.zeros((4, 180, 240, 3))
    images[:, 80:95, 100:115] = scenes.part()[:, 80:95, 100:115]  # half a per cent of the field
    assert len(load_light_stack(scenes.record(tmp_path / "r", images), scenes.calibration()).frames) == 4


def test_all_saturated(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", 50 * scenes.part())
    refused(DatasetError, "recording.all_saturated", recording, scenes.calibration(), "100.0%")


def test_damaged_frame(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part())
    path = recording.folder / recording.info.frames[2].file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError) as caught:
        load_light_stack(recording, scenes.calibration())
    assert caught.value.code == "recording.frame_changed" and path.name in caught.value.message
