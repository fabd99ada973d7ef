"""Normals, albedo and the derived maps of whole recordings, against the simulated truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.errors import CalibrationError, DatasetError, InputError
from rakelight.pipeline.calibrate import calibrate_from_recordings
from rakelight.pipeline.reconstruct import Settings, reconstruct


def errors_deg(scenes: Any, result: Any, truth: np.ndarray | None = None) -> np.ndarray:
    truth = scenes.normals() if truth is None else truth
    return scenes.angle_deg(result.result.normals, truth)[result.result.solved]


# --------------------------------------------------------------------------------------------------------------- accuracy
@pytest.mark.parametrize(
    ("pixel_format", "median", "worst"),
    [("Mono12", 0.15, 0.8), ("Mono8", 0.5, 2.5), ("BayerRG12", 0.2, 1.2), ("RGB8", 0.4, 2.0), ("Mono32f", 0.15, 0.8)],
)
def test_normals_of_every_format(scenes: Any, tmp_path: Path, pixel_format: str, median: float, worst: float) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(), pixel_format, dark=scenes.BLACK)
    result = reconstruct(recording, scenes.calibration())
    errors = errors_deg(scenes, result)
    assert errors.size == 180 * 240
    assert np.median(errors) < median and errors.max() < worst
    assert result.result.normals.dtype == np.float32
    assert result.report["coverage"]["solved"] == 1.0


def test_albedo_and_colour_have_the_prints_ratios(scenes: Any, tmp_path: Path) -> None:
    for pixel_format in ("BayerRG12", "RGB16"):
        recording = scenes.record(tmp_path / pixel_format, scenes.part(), pixel_format, dark=scenes.BLACK)
        colour = reconstruct(recording, scenes.calibration()).colour
        assert colour is not None and colour.shape == (180, 240, 3)
        seen = scenes.albedo() * [0.6, 1.0, 0.8]
        ratio = colour[4:-4, 4:-4] / seen[4:-4, 4:-4]
        assert ratio / np.median(ratio) == pytest.approx(1, rel=0.05)
    mono = scenes.record(tmp_path / "mono", scenes.part(), dark=scenes.BLACK)
    result = reconstruct(mono, scenes.calibration())
    assert result.colour is None
    ratio = result.result.albedo / scenes.albedo()[..., 1]
    assert ratio / np.median(ratio) == pytest.approx(1, rel=0.03)


def test_flat_field_undoes_the_fall_off(scenes: Any, tmp_path: Path) -> None:
    field = scenes.fall_off()
    white = scenes.record(tmp_path / "w", scenes.white(field=field), target="white_plane", dark=scenes.BLACK)
    part = scenes.record(tmp_path / "p", scenes.part(field=field))
    with_field = calibrate_from_recordings([white], "c", base=scenes.calibration()).calibration
    plain = reconstruct(part, scenes.calibration(dark=with_field.dark))
    corrected = reconstruct(part, with_field)
    assert np.median(errors_deg(scenes, plain)) > 3
    assert np.median(errors_deg(scenes, corrected)) < 0.2
    assert corrected.report["flat_field"] and not plain.report["flat_field"]
    assert any("no flat field" in w for w in plain.report["warnings"]) and not corrected.report["warnings"]
    # 0.9 in the scene and 0.9 of the white plane: the albedo is relative to it
    assert corrected.result.albedo == pytest.approx(scenes.albedo()[..., 1], rel=0.03)


@pytest.mark.parametrize("with_field", [True, False])
def test_near_lights_beat_distant_ones(scenes: Any, tmp_path: Path, with_field: bool) -> None:
    camera, plane, lights = scenes.near_rig()
    near = scenes.calibration(camera=camera, table_plane=plane, lights=lights)
    distant = scenes.calibration()
    if with_field:
        white = scenes.record(tmp_path / "w", scenes.near_part(None), target="white_plane", dark=scenes.BLACK)
        near = calibrate_from_recordings([white], "n", base=near).calibration
        distant = calibrate_from_recordings([white], "d", base=distant).calibration
    truth = scenes.normals()
    recording = scenes.record(tmp_path / "r", scenes.near_part(truth), dark=scenes.BLACK)
    by_near, by_distant = reconstruct(recording, near), reconstruct(recording, distant)
    assert (by_near.report["light_model"], by_distant.report["light_model"]) == ("near", "distant")
    near_error, distant_error = np.median(errors_deg(scenes, by_near)), np.median(errors_deg(scenes, by_distant))
    assert near_error < 0.3
    assert distant_error > 5 * near_error
    # a matte part shows no gloss, whatever the lights' distance; the distant model mistakes the fall-off for it
    gloss = by_near.maps["gloss"] / by_near.result.albedo
    assert np.percentile(gloss, 99) < 0.02
    if not with_field:
        assert np.percentile(by_distant.maps["gloss"] / by_distant.result.albedo, 99) > 0.05


def test_near_lights_on_a_cropped_recording(scenes: Any, tmp_path: Path) -> None:
    camera, plane, lights = scenes.near_rig()
    rig = scenes.calibration(camera=camera, table_plane=plane, lights=lights)
    truth = scenes.normals()
    window = (slice(10, 100), slice(110, 230))
    sensor = {"offset_x": 110, "offset_y": 10}
    recording = scenes.record(tmp_path / "r", scenes.near_part(truth)[:, *window], dark=scenes.BLACK, sensor=sensor)
    assert np.median(errors_deg(scenes, reconstruct(recording, rig), truth[window])) < 0.3


def test_own_dark_is_used(scenes: Any, tmp_path: Path) -> None:
    black = 0.08
    with_dark = scenes.record(tmp_path / "a", scenes.part(), black=black, ambient=black)
    without = scenes.record(tmp_path / "b", scenes.part(), black=black)
    good, bad = (reconstruct(r, scenes.calibration()) for r in (with_dark, without))
    assert good.report["dark"] and not bad.report["dark"]
    assert np.median(errors_deg(scenes, good)) < 0.2 < 1 < np.median(errors_deg(scenes, bad))


# ------------------------------------------------------------------------------------------------------------ derived maps
def test_maps_and_report(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(), dark=scenes.BLACK)
    steps: list[str] = []
    settings = Settings(feature_size_px=12, relief_azimuth_deg=90, relief_slant_deg=30)
    result = reconstruct(recording, scenes.calibration(), settings, progress=steps.append)
    assert set(result.maps) == {"slope_p", "slope_q", "curvature", "gloss", "height", "relief"}
    for values in result.maps.values():
        assert values.dtype == np.float32 and values.shape == (180, 240) and np.isfinite(values).all()
    v, u = np.mgrid[:180, :240]
    assert result.maps["slope_p"] == pytest.approx(0.3 * np.sin(u / 15), abs=0.02)
    assert result.maps["slope_q"] == pytest.approx(0.3 * np.sin(v / 18), abs=0.02)
    height = -0.3 * 15 * np.cos(u / 15) + 0.3 * 18 * np.cos(v / 18)  # v grows downwards, q upwards
    assert result.maps["height"] - (height - height.mean()) == pytest.approx(0, abs=0.15)
    assert list(result.report["seconds"]) == steps
    report = result.report
    assert report["settings"]["feature_size_px"] == 12
    assert report["zones"] == [1, 2, 3, 4] and report["size"] == [240, 180]
    assert len(report["recording"]["frames"]) == 4  # the zones' frames, not the dark one
    assert 0.99 < report["median_confidence"] <= 1
    json.dumps(report, allow_nan=False)


def test_three_zones_have_no_gloss_and_no_confidence(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part()[:3], dark=scenes.BLACK)
    result = reconstruct(recording, scenes.calibration())
    assert np.median(errors_deg(scenes, result)) < 0.2
    assert "gloss" not in result.maps and result.report["median_confidence"] is None
    assert np.isnan(result.result.confidence[result.result.solved]).all()
    assert any("no redundancy" in w for w in result.report["warnings"])
    json.dumps(result.report, allow_nan=False)


def test_coverage_counts_each_kind_of_evidence(scenes: Any, tmp_path: Path) -> None:
    images = scenes.part()
    images[:, :18] = 0  # a tenth: black in every zone
    images[0, 18:36] = 3.0  # another tenth: zone 1 saturated
    recording = scenes.record(tmp_path / "r", images, dark=scenes.BLACK)
    result = reconstruct(recording, scenes.calibration())
    coverage = result.report["coverage"]
    assert coverage["solved"] == pytest.approx(0.9)
    assert coverage["saturated_of_solved"] == pytest.approx(1 / 9, abs=1e-4)
    assert coverage["solved"] == pytest.approx(result.result.solved.mean(), abs=1e-5)
    assert np.isnan(result.result.normals[:18]).all() and np.isnan(result.maps["height"][:18]).all()


def test_twelve_lights(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(12), dark=scenes.BLACK)
    assert np.median(errors_deg(scenes, reconstruct(recording, scenes.calibration(12)))) < 0.15


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"feature_size_px": 500}, "pseudo3d.feature_size"), ({"relief_azimuth_deg": np.nan}, "pseudo3d.settings")],
)
def test_settings_out_of_range(scenes: Any, tmp_path: Path, settings: dict[str, float], code: str) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(), dark=scenes.BLACK)
    with pytest.raises(InputError) as caught:
        reconstruct(recording, scenes.calibration(), Settings(**settings))
    assert caught.value.code == code


# ------------------------------------------------------------------------------------------------------------------ faults
def test_recordings_own_warnings_reach_the_report(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "r", scenes.part(), linear=False, target="flat", simulated=False)
    warnings = reconstruct(recording, scenes.calibration()).report["warnings"]
    for words in ("not linear", "shows a flat", "real recording is solved with a simulated", "no flat field"):
        assert sum(words in w for w in warnings) == 1, (words, warnings)


def test_dark_and_overexposed_recordings(scenes: Any, tmp_path: Path) -> None:
    for factor, code in ((0.0, "recording.all_dark"), (60.0, "recording.all_saturated")):
        recording = scenes.record(tmp_path / code, factor * scenes.part())
        with pytest.raises(DatasetError) as caught:
            reconstruct(recording, scenes.calibration())
        assert caught.value.code == code and caught.value.hint


def test_lights_in_one_plane(scenes: Any, tmp_path: Path) -> None:
    side = np.radians([-40, -10, 15, 45])
    flat = np.stack([np.sin(side), np.zeros(4), np.cos(side)], axis=-1)
    lights = tuple(type(x)(x.zone, d) for x, d in zip(scenes.calibration().lights, flat, strict=True))
    recording = scenes.record(tmp_path / "r", scenes.part())
    with pytest.raises(CalibrationError, match="one plane"):
        reconstruct(recording, scenes.calibration(lights=lights))


@pytest.mark.parametrize("vector", [(0.5, 0.0, 0.5), (np.nan, 0.0, 1.0), (0.0, 0.0, 0.0)])
def test_light_vectors_that_are_no_directions(scenes: Any, vector: tuple[float, ...]) -> None:
    light = type(scenes.calibration().lights[0])
    with pytest.raises(CalibrationError, match="zone 2"):
        light(2, np.array(vector))
