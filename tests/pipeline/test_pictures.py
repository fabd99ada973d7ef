"""White balance from recordings, and pictures with it, against the response of the cameras that took them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rakelight.calibration.colour import Colour
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.cli import cli
from rakelight.dataset.recording import Recording
from rakelight.pipeline.calibrate import calibrate_from_recordings
from rakelight.pipeline.calibrate_colour import KEY, with_colour
from rakelight.pipeline.calibration_diff import compare
from rakelight.pipeline.pictures import all_zones, picture
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.pipeline.rig_report import colour_criteria
from rakelight.pipeline.sample import make_sample
from rakelight.pipeline.simulate import Settings, simulate

GAINS = (1 / 0.6, 1.0, 1 / 0.8)  # undo the filter of the scenes' camera


def white(scenes: Any, folder: Path, image: Any = None, pixel_format: str = "BayerRG12", **about: Any) -> Recording:
    shown = scenes.white() if image is None else image
    made: Recording = scenes.record(folder, shown, pixel_format, target="white_plane", dark=scenes.BLACK, **about)
    return made


# -------------------------------------------------------------------------------------------------------- calibration
def test_white_plane_gives_the_white_balance(scenes: Any, tmp_path: Path) -> None:
    report = calibrate_from_recordings([white(scenes, tmp_path / "w")], "c", base=scenes.calibration())
    colour = report.calibration.colour
    assert colour is not None and colour.gains == pytest.approx(GAINS, rel=2e-3)
    assert colour.black == pytest.approx((scenes.BLACK,) * 3, abs=2e-4)
    figures = report.calibration.quality[KEY]
    assert figures["field_percent"] < 1 and figures["lights_percent"] < 1

    later = calibrate_from_recordings([white(scenes, tmp_path / "m", None, "Mono12")], "c", base=report.calibration)
    assert later.calibration.colour == colour and KEY not in later.calibration.quality


def test_cameras_without_colour_have_none(scenes: Any, tmp_path: Path) -> None:
    report = calibrate_from_recordings(
        [white(scenes, tmp_path / "w", pixel_format="Mono12")], "c", base=scenes.calibration()
    )
    assert report.calibration.colour is None and KEY not in report.calibration.quality


def test_lights_apart_in_hue_are_told(scenes: Any, tmp_path: Path) -> None:
    image = scenes.white()
    image[2] *= (1.0, 1.0, 0.85)
    report = calibrate_from_recordings([white(scenes, tmp_path / "w", image)], "c", base=scenes.calibration())
    assert report.calibration.quality[KEY]["lights_percent"] == pytest.approx(12, abs=3)
    assert any("from light to light" in w for w in report.calibration.warnings)


def test_a_plate_of_no_use_is_named_and_the_rest_is_calibrated(scenes: Any, tmp_path: Path) -> None:
    red = scenes.white() * (1.0, 0.13, 0.13)
    report = calibrate_from_recordings([white(scenes, tmp_path / "w", red)], "c", base=scenes.calibration())
    assert report.calibration.colour is None and report.calibration.quality[KEY] is None
    assert report.calibration.flat_field is not None
    assert any(w.startswith("the pictures have no white balance: the white plate") for w in report.calibration.warnings)


def test_all_zones_alone_and_no_lights(scenes: Any, tmp_path: Path) -> None:
    """A plate that only the table plane needs: no zone of its own, black from the calibration's dark map."""
    dark = calibrate_from_recordings([white(scenes, tmp_path / "w")], "d", base=scenes.calibration()).calibration.dark
    base = replace(scenes.calibration(), dark=dark)
    made = with_colour(base, [white(scenes, tmp_path / "w2")])
    assert made.colour is not None and made.colour.gains == pytest.approx(GAINS, rel=2e-3)
    assert with_colour(base, []).quality == base.quality


def test_diff_tells_the_change_and_show_the_gains(scenes: Any, tmp_path: Path) -> None:
    a = replace(scenes.calibration(), colour=Colour((1.5, 1, 2.0), (0.01, 0.01, 0.01)))
    b = replace(a, colour=Colour((1.53, 1, 1.9), (0.01, 0.012, 0.01)))
    change = compare(a, b).colour
    assert change is not None and change.red_percent == pytest.approx(2) and change.blue_percent == pytest.approx(-5)
    assert change.black_percent == pytest.approx(0.2)
    assert "colour: only in A" in compare(a, replace(a, colour=None)).missing
    curved = compare(a, replace(a, colour=Colour((1.5, 1, 2.0), (0.01, 0.01, 0.01), "linear")))
    assert any("tone curve" in note for note in curved.notes)
    a.save(tmp_path / "a"), b.save(tmp_path / "b")
    shown = CliRunner().invoke(cli, ["calibrate", "show", str(tmp_path / "a")], env={"COLUMNS": "160"}).output
    assert "red × 1.500, blue × 2.000, black 1.00% of full scale, srgb" in shown
    told = (
        CliRunner()
        .invoke(cli, ["calibrate", "diff", str(tmp_path / "a"), str(tmp_path / "b")], env={"COLUMNS": "160"})
        .output
    )
    assert "red +2.00 %, blue -5.00 %" in told and "+0.200 %" in told


def test_the_report_judges_the_white_balance(scenes: Any) -> None:
    colour = Colour((1.5, 1, 2.0))
    even, uneven = {"field_percent": 0.4, "lights_percent": None}, {"field_percent": 1.0, "lights_percent": 3.5}
    for quality, shown, value, verdict in (
        ({KEY: even}, colour, 0.4, "PASS"),
        ({KEY: uneven}, colour, 3.5, "WARN"),
        ({KEY: None}, None, None, "WARN"),
        ({}, colour, None, "WARN"),
    ):
        (criterion,) = colour_criteria(scenes.calibration(quality=quality, colour=shown))
        assert (criterion.value, criterion.verdict, criterion.limit) == (value, verdict, 3.0)
    assert colour_criteria(scenes.calibration()) == []


# ----------------------------------------------------------------------------------------------------------- pictures
def test_a_grey_part_is_grey_and_its_content_changes_nothing(scenes: Any, tmp_path: Path) -> None:
    colour = Colour(GAINS, (scenes.BLACK,) * 3)
    grey = np.full((4, 60, 80, 3), 0.3)
    other = grey.copy()
    other[:, :, 40:] *= (2.5, 1.5, 0.2)  # another part, bright and orange
    seen = []
    for name, image in (("a", grey), ("b", other)):
        recording = scenes.record(tmp_path / name, image, "BayerRG12")
        seen.append(picture(recording, recording.read(recording.info.frames[0]), colour))
    assert np.array_equal(seen[0][:, :38], seen[1][:, :38])
    means = seen[0].reshape(-1, 3).mean(axis=0)
    assert np.ptp(means) < 1
    linear = 0.3 * 1 / (0.98 - scenes.BLACK) * GAINS[1]
    assert means[1] == pytest.approx(255 * (1.055 * linear ** (1 / 2.4) - 0.055), abs=1)
    assert seen[1][:, 45:, 0].mean() > 2 * seen[1][:, 45:, 2].mean()


def test_highlights_are_white(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "a", np.full((1, 60, 80, 3), 4.0), "BayerRG12")
    assert (picture(recording, recording.read(recording.info.frames[0]), Colour(GAINS)) == 255).all()


def test_colour_is_for_linear_bayer_frames(scenes: Any, tmp_path: Path) -> None:
    for name, kind, linear in (("m", "Mono12", True), ("r", "RGB8", True), ("b", "BayerRG12", False)):
        recording = scenes.record(tmp_path / name, scenes.part()[:1], kind, linear=linear)
        image = recording.read(recording.info.frames[0])
        assert np.array_equal(picture(recording, image, Colour(GAINS)), picture(recording, image))


def test_samples_take_the_calibrations_colour(scenes: Any, tmp_path: Path) -> None:
    recording = scenes.record(tmp_path / "p", scenes.part(), "BayerRG12", dark=scenes.BLACK)
    rig = replace(scenes.calibration(), colour=Colour(GAINS, (scenes.BLACK,) * 3))
    result = reconstruct(recording, rig)
    made = make_sample(recording, result, calibration=rig, category="c", label="OK")
    raw = recording.read(next(recording.shots("zone", 1)))
    assert np.array_equal(made.rgb[1], picture(recording, raw, rig.colour))
    assert made.capture["white_balance"] == list(GAINS)
    assert make_sample(recording, result, category="c", label="OK").capture["white_balance"] is None


# ---------------------------------------------------------------------------------------------------------- simulator
@pytest.mark.slow
def test_simulated_plate_calibrates_the_colours_of_a_simulated_part(tmp_path: Path) -> None:
    settings = Settings(width=456, pattern_set=None)
    simulate("white_plane", tmp_path / "w", settings=settings)
    truth = RigCalibration.load(tmp_path / "w" / "truth" / "calibration")
    assert truth.colour is not None and truth.colour.gains == pytest.approx((1 / 0.72, 1, 1 / 0.63))
    plate = Recording.open(tmp_path / "w")
    found = with_colour(replace(truth, colour=None), [plate]).colour
    assert found is not None and found.gains == pytest.approx(truth.colour.gains, rel=2e-3)
    assert found.black == pytest.approx(truth.colour.black, abs=2e-5)
    for image in (all_zones(plate, plate.zones), plate.read(next(plate.shots("zone", 2)))):
        shown = picture(plate, image, found).reshape(-1, 3).mean(axis=0)
        assert np.ptp(shown) < 1 and shown[1] > 180
    simulate("knob_cap", tmp_path / "k", seed=3, settings=settings, calibration=truth)
    part = Recording.open(tmp_path / "k")
    shown = picture(part, all_zones(part, part.zones), found).astype(float)
    table = shown[:60].reshape(-1, 3).mean(axis=0)  # matte grey
    assert np.ptp(table) < 1
    done = CliRunner().invoke(cli, ["calibrate", "show", str(tmp_path / "w/truth/calibration"), "--json"])
    assert json.loads(done.stdout)["colour"]["tone"] == "srgb"
