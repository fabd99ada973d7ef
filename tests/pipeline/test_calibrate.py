"""Recordings of targets into a calibration, against the simulated truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight.calibration.frame_format import FrameFormat
from rakelight.calibration.joint_lights import JointLights
from rakelight.calibration.plane_lights import PlaneLights
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.errors import CalibrationError
from rakelight.pipeline.calibrate import _position_figures
from rakelight.pipeline.calibrate import calibrate_from_recordings as calibrate


def errors_deg(scenes: Any, calibration: RigCalibration, truth: Any = None) -> np.ndarray:
    found = np.array([light.direction for light in calibration.lights])
    return scenes.angle_deg(found, scenes.directions(len(found)) if truth is None else truth)


def strengths(calibration: RigCalibration) -> np.ndarray:
    found = np.array([light.strength for light in calibration.lights])
    return found / found.mean()


# --------------------------------------------------------------------------------------------- directions and strengths
def test_one_sphere_gives_directions(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    report = calibrate([sphere], "lab")
    assert errors_deg(scenes, report.calibration).max() < 0.3
    assert [light.zone for light in report.calibration.lights] == [1, 2, 3, 4]
    assert report.calibration.simulated and report.calibration.calibration_id == "lab"
    assert report.calibration.provenance["recordings"][0]["target"] == "chrome_sphere"
    assert report.figures["condition_number"] == pytest.approx(np.sqrt(2), abs=0.02)


def test_twelve_lights_and_bayer_frames(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(12), "BayerRG12", target="chrome_sphere")
    assert errors_deg(scenes, calibrate([sphere], "c").calibration).max() < 0.5  # the mosaic makes highlights ragged


def test_part_gives_strengths_although_the_camera_has_a_black_level(scenes: Any, tmp_path: Path) -> None:
    black = 0.06
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    part = scenes.record(tmp_path / "p", scenes.part(), black=black, dark=black)
    truth = np.array(scenes.STRENGTHS) / np.mean(scenes.STRENGTHS)
    assert strengths(calibrate([sphere, part], "c").calibration) == pytest.approx(truth, rel=0.01)

    plain = scenes.record(tmp_path / "plain", scenes.part(), black=black)
    dark = scenes.record(tmp_path / "d", scenes.part()[:0], target="dark", black=black, dark=black, zones=())
    assert strengths(calibrate([sphere, plain, dark], "c").calibration) == pytest.approx(truth, rel=0.01)


def test_part_that_saturates_in_places_still_gives_strengths(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    part = scenes.record(tmp_path / "p", 2.6 * scenes.part(), dark=scenes.BLACK)
    image = part.read(next(part.shots("zone", 3)))
    assert (image == 4095).mean() > 0.02, "the scene must saturate"
    truth = np.array(scenes.STRENGTHS) / np.mean(scenes.STRENGTHS)
    assert strengths(calibrate([sphere, part], "c").calibration) == pytest.approx(truth, rel=0.01)


def test_several_parts_the_first_counts(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    parts = [scenes.record(tmp_path / name, scenes.part()) for name in ("a", "b")]
    assert any("'a', the first of 2 parts" in w for w in calibrate([sphere, *parts], "c").calibration.warnings)


def test_two_spheres_in_one_picture(scenes: Any, tmp_path: Path) -> None:
    circles = ((80.0, 100.0, 60.0), (270.0, 90.0, 66.0))
    images = scenes.sphere(circles=circles, width=360, height=190)
    report = calibrate([scenes.record(tmp_path / "s", images, target="chrome_sphere", sphere_count=2)], "c")
    assert errors_deg(scenes, report.calibration).max() < 0.3
    found = sorted((s["u"], s["v"], s["radius_px"]) for s in report.figures["spheres"])
    assert np.array(found) == pytest.approx(np.array(circles), abs=0.3)
    assert report.figures["sphere_spread_deg"]["max"] < 0.8


def test_circles_given_by_hand_are_taken(scenes: Any, tmp_path: Path) -> None:
    circle = {"u": 120.0, "v": 90.0, "radius": 70.0}
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere", circles=(circle,))
    report = calibrate([sphere], "c")
    assert report.figures["spheres"][0]["u"] == 120.0
    assert errors_deg(scenes, report.calibration).max() < 0.3


@pytest.mark.parametrize(("of_sphere", "of_part"), [("Mono8", "Mono12"), ("Mono12", "Mono8")])
def test_sphere_and_part_of_different_formats(scenes: Any, tmp_path: Path, of_sphere: str, of_part: str) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), of_sphere, target="chrome_sphere")
    part = scenes.record(tmp_path / "p", 2.6 * scenes.part(), of_part, dark=scenes.BLACK)  # saturated in places
    truth = np.array(scenes.STRENGTHS) / np.mean(scenes.STRENGTHS)
    found = calibrate([sphere, part], "c").calibration
    assert strengths(found) == pytest.approx(truth, rel=0.01) and errors_deg(scenes, found).max() < 0.3


def test_spheres_of_different_formats(scenes: Any, tmp_path: Path) -> None:
    spheres = [scenes.record(tmp_path / f, scenes.sphere(), f, target="chrome_sphere") for f in ("Mono8", "Mono12")]
    report = calibrate(spheres, "c")
    assert errors_deg(scenes, report.calibration).max() < 0.3
    assert report.figures["sphere_spread_deg"]["max"] < 0.1


def test_exposures_of_the_part_are_not_taken_for_strengths(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    times = np.array([1.0, 2.0, 1.5, 1.0])
    exposures = {f"zone{z}": 1000.0 * t for z, t in enumerate(times, 1)}
    images = 0.5 * times[:, None, None, None] * scenes.part()
    part = scenes.record(tmp_path / "p", images, dark=scenes.BLACK, exposures=exposures)
    truth = np.array(scenes.STRENGTHS) / np.mean(scenes.STRENGTHS)
    assert strengths(calibrate([sphere, part], "c").calibration) == pytest.approx(truth, rel=0.01)


def test_part_renews_the_strengths_of_the_base(scenes: Any, tmp_path: Path) -> None:
    white = scenes.record(tmp_path / "w", scenes.white(), target="white_plane", dark=scenes.BLACK)
    base = calibrate([white], "base", base=scenes.calibration(strengths=(1.0,))).calibration
    assert set(strengths(base)) == {1.0} and base.flat_field is not None
    part = scenes.record(tmp_path / "p", scenes.part(), dark=scenes.BLACK)
    report = calibrate([part], "c", base=base)
    found = report.calibration
    assert strengths(found) == pytest.approx(np.array(scenes.STRENGTHS) / np.mean(scenes.STRENGTHS), rel=0.01)
    assert errors_deg(scenes, found).max() < 1e-6 and report.figures["strengths"]["determinacy"] > 2
    assert found.flat_field is not None
    factors = [c.flat_field.scales / [x.strength for x in c.lights] for c in (base, found)]
    assert factors[0] == pytest.approx(factors[1], rel=1e-6)  # what reconstruction multiplies by stays the same
    fewer = scenes.record(tmp_path / "f", scenes.part()[:3])
    refused([fewer], "calibration.zones_differ", "[1, 2, 3]", "base calibration", base=base)


def test_provenance_names_every_frame_and_the_settings(scenes: Any, tmp_path: Path) -> None:
    circle = {"u": 120.0, "v": 90.0, "radius": 70.0}
    about = {"target": "chrome_sphere", "circles": (circle,), "sphere_diameter_mm": 12.7, "exposures": {"zone2": 900.0}}
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), **about)
    provenance = calibrate([sphere], "c").calibration.provenance
    entry = provenance["recordings"][0]
    assert entry["frames"] == {f.file: f.sha256 for f in sphere.info.frames} and len(entry["frames"]) == 4
    assert entry["circles"] == [circle] and entry["sphere_diameter_mm"] == 12.7 and entry["exposures_us"] == [900.0]
    assert entry["pixel_format"] == "Mono12" and entry["sensor"] == {"offset_x": 0, "offset_y": 0, "binning": 1}
    assert provenance["settings"]["saturation"] == 0.98


# -------------------------------------------------------------------------------------------------------- flat field, dark
def check_gains(scenes: Any, calibration: RigCalibration, exposure: float = 1.0) -> None:
    """A white plane reads l·n, whatever was below its frames."""
    assert calibration.flat_field is not None
    for zone, light in enumerate(calibration.lights, 1):
        lit = calibration.flat_field.gain(zone) * (exposure * scenes.white()[zone - 1, ..., 1] * 4095) / light.strength
        assert np.median(lit) == pytest.approx(np.cos(np.radians(45)), rel=0.003)


def dark_recording(scenes: Any, folder: Path, level: float, **about: Any) -> Any:
    return scenes.record(folder, scenes.white()[:0], target="dark", dark=level, zones=(), **about)


@pytest.mark.parametrize("dark_of_its_own", [None, 0.08])
def test_white_plane_is_freed_of_its_own_ambient_light(
    scenes: Any, tmp_path: Path, dark_of_its_own: float | None
) -> None:
    truth = scenes.calibration(strengths=(1.0,))
    room = {"black": 0.1, "ambient": 0.1, "dark": dark_of_its_own}
    white = scenes.record(tmp_path / "w", scenes.white(strengths=(1.0,)), target="white_plane", **room)
    flat = scenes.white(strengths=(1.0,))
    dark = dark_recording(scenes, tmp_path / "d", scenes.BLACK)
    found = calibrate([white, dark], "c", base=truth).calibration
    assert found.dark is not None and float(found.dark.values().mean()) == pytest.approx(40, abs=0.5)
    gain = found.flat_field and found.flat_field.gain(1)
    assert np.median(gain * flat[0, ..., 1] * 4095) == pytest.approx(np.cos(np.radians(45)), rel=0.003)


def test_stored_dark_is_dark_and_not_ambient(scenes: Any, tmp_path: Path) -> None:
    base = scenes.calibration()
    white = scenes.record(tmp_path / "w", scenes.white(), target="white_plane", dark=scenes.BLACK, ambient=0.1)
    dark = calibrate([white], "c", base=base).calibration.dark
    assert dark is not None and float(dark.values().mean()) == pytest.approx(40, abs=0.5)
    both = scenes.record(
        tmp_path / "d", scenes.white()[:0], target="dark", zones=(), dark=80 / 4095, ambient=0.1, black=80 / 4095
    )
    dark = calibrate([white, both], "c", base=base).calibration.dark
    assert dark is not None and float(dark.values().mean()) == pytest.approx(80, abs=0.5)
    only_ambient = scenes.record(tmp_path / "a", scenes.white(), target="white_plane", ambient=0.1)
    kept = calibrate([only_ambient], "c", base=calibrate([both], "b", base=base).calibration).calibration.dark
    assert kept is not None and float(kept.values().mean()) == pytest.approx(80, abs=0.5)


def test_two_white_recordings_each_with_its_own_room_light(scenes: Any, tmp_path: Path) -> None:
    images = scenes.white()
    a = scenes.record(tmp_path / "a", images[:2], target="white_plane", black=0.03, ambient=0.03)
    b = scenes.record(tmp_path / "b", images[2:], target="white_plane", zones=(3, 4), black=0.1, ambient=0.1)
    check_gains(scenes, calibrate([a, b], "c", base=scenes.calibration()).calibration)


def test_white_zones_of_different_exposure_are_brought_to_one(scenes: Any, tmp_path: Path) -> None:
    times = np.array([1.0, 0.5, 0.5, 1.0])
    exposures = {f"zone{z}": 4000.0 * t for z, t in enumerate(times, 1)}
    images = times[:, None, None, None] * scenes.white()
    white = scenes.record(tmp_path / "w", images, target="white_plane", dark=scenes.BLACK, exposures=exposures)
    found = calibrate([white], "c", base=scenes.calibration()).calibration
    assert found.flat_field is not None and found.flat_field.reference_exposure_us == 3000.0
    check_gains(scenes, found, 0.75)


def test_whites_of_different_exposure_are_refused(scenes: Any, tmp_path: Path) -> None:
    same = {"target": "white_plane"}
    whites = [
        scenes.record(tmp_path / str(t), scenes.white(), exposures={f"zone{z}": t for z in (1, 2, 3, 4)}, **same)
        for t in (1000.0, 2000.0)
    ]
    refused(whites, "calibration.exposure_mismatch", "1000 to 2000 µs", base=scenes.calibration())
    unknown = scenes.record(tmp_path / "u", scenes.white(), **same)
    mixed = calibrate([whites[0], unknown], "c", base=scenes.calibration()).calibration
    assert any(w.startswith("u: its exposure is not known") for w in mixed.warnings)
    assert mixed.flat_field is not None and mixed.flat_field.reference_exposure_us is None
    dark = dark_recording(scenes, tmp_path / "d", scenes.BLACK, exposures={"dark": 5000.0})
    late = calibrate([whites[0], dark], "c", base=scenes.calibration()).calibration
    assert any("dark map was taken at 5000 µs" in w and "1000" in w for w in late.warnings)
    darks = [dark, dark_recording(scenes, tmp_path / "e", scenes.BLACK, exposures={"dark": 9000.0})]
    refused(darks, "calibration.exposure_mismatch", "dark frames", base=scenes.calibration())


def test_maps_know_the_format_of_their_frames(scenes: Any, tmp_path: Path) -> None:
    window = {"offset_x": 16, "offset_y": 8}
    white = scenes.record(tmp_path / "w", scenes.white(), target="white_plane", dark=scenes.BLACK, sensor=window)
    base = calibrate([white], "base", base=scenes.calibration()).calibration
    assert base.map_format == FrameFormat("Mono12", 16, 8, 1)
    assert base.summary()["map_format"]["offset_x"] == 16
    for name, about in (("f", {"pixel_format": "Mono10"}), ("o", {"sensor": {"offset_x": 17}})):
        other = scenes.record(tmp_path / name, scenes.white(), target="white_plane", dark=scenes.BLACK, **about)
        found = FrameFormat(other.info.pixel_format, other.info.sensor.offset_x)
        refused(
            [white, other], "calibration.format_mismatch", str(found), "Mono12 at (16, 8)", base=scenes.calibration()
        )
    dark = dark_recording(scenes, tmp_path / "d", scenes.BLACK)
    refused([dark], "calibration.format_mismatch", "Mono12 at (0, 0)", "Mono12 at (16, 8)", base=base)
    part = scenes.record(tmp_path / "p", scenes.part())
    refused([part], "calibration.format_mismatch", "Mono12 at (0, 0)", "Mono12 at (16, 8)", base=base)


def test_colour_part_does_without_the_dark_map_and_says_so(scenes: Any, tmp_path: Path) -> None:
    part = scenes.record(tmp_path / "p", scenes.part(), "RGB8", black=0.0)
    dark = dark_recording(scenes, tmp_path / "d", scenes.BLACK)
    found = calibrate([part, dark], "c", base=scenes.calibration(strengths=(1.0,))).calibration
    assert strengths(found) == pytest.approx(np.array(scenes.STRENGTHS) / np.mean(scenes.STRENGTHS), rel=0.01)
    assert any("dark map was not used" in w for w in found.warnings)


def test_white_plane_and_dark_give_flat_field(scenes: Any, tmp_path: Path) -> None:
    field = scenes.fall_off()
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    white = scenes.record(tmp_path / "w", scenes.white(field=field), target="white_plane")
    dark = scenes.record(tmp_path / "d", scenes.white()[:0], target="dark", dark=scenes.BLACK, zones=())
    calibration = calibrate([white, dark, sphere], "c").calibration
    assert calibration.flat_field is not None and calibration.dark is not None
    assert calibration.dark.values() == pytest.approx(40, abs=12)
    for zone in (1, 2, 3, 4):
        lit = calibration.flat_field.gain(zone) * (scenes.white(field=field)[zone - 1, ..., 1] * 4095)
        assert lit == pytest.approx(np.cos(np.radians(45)), rel=0.02)  # the white plane reads l·n


def test_dark_shots_beside_the_white_plane_are_used(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    white = scenes.record(tmp_path / "w", scenes.white(), target="white_plane", ambient=scenes.BLACK)
    dark = calibrate([sphere, white], "c").calibration.dark
    assert dark is not None and float(dark.values().mean()) == pytest.approx(40, abs=0.5)


def test_near_rig_from_base_makes_a_near_flat_field(scenes: Any, tmp_path: Path) -> None:
    camera, plane, lights = scenes.near_rig()
    base = scenes.calibration(camera=camera, table_plane=plane, lights=lights)
    white = scenes.record(tmp_path / "w", scenes.near_part(None), target="white_plane", dark=scenes.BLACK)
    calibration = calibrate([white], "c", base=base).calibration
    assert calibration.flat_field is not None and calibration.flat_field.light_model == "near"
    assert calibration.camera is not None and calibration.provenance["base"] == base.content_sha256


def test_base_lights_and_maps_are_taken_over(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    white = scenes.record(tmp_path / "w", scenes.white(), target="white_plane", dark=scenes.BLACK)
    base = calibrate([sphere, white], "base").calibration
    dark = scenes.record(tmp_path / "d", scenes.white()[:0], target="dark", dark=scenes.BLACK, zones=())
    later = calibrate([dark], "later", base=base).calibration
    assert later.lights == base.lights and later.flat_field is base.flat_field
    anew = calibrate([sphere], "anew", base=base).calibration
    assert anew.flat_field is None and any("base's flat field was left out" in w for w in anew.warnings)


def test_real_and_simulated_are_told_apart(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere", simulated=False)
    assert not calibrate([sphere], "c").calibration.simulated
    part = scenes.record(tmp_path / "p", scenes.part(), simulated=True)
    mixed = calibrate([sphere, part], "c").calibration
    assert mixed.simulated and any("simulated and real" in w for w in mixed.warnings)


# ------------------------------------------------------------------------------------------------------------------ faults
def refused(recordings: list[Any], code: str, *words: str, **options: Any) -> None:
    with pytest.raises(CalibrationError) as caught:
        calibrate(recordings, "c", **options)
    assert caught.value.code == code
    assert all(word in caught.value.message for word in words), caught.value.message
    assert caught.value.hint


def test_zones_that_differ(scenes: Any, tmp_path: Path) -> None:
    a = scenes.record(tmp_path / "a", scenes.sphere(), target="chrome_sphere")
    b = scenes.record(tmp_path / "b", scenes.sphere()[:3], target="chrome_sphere")
    refused([a, b], "calibration.zones_differ", "[1, 2, 3]", "[1, 2, 3, 4]")
    white = scenes.record(tmp_path / "w", scenes.white()[:2], target="white_plane", zones=(7, 8))
    refused([a, white], "calibration.zones_differ", "[7, 8]", "at least 3")


def test_unusable_targets(scenes: Any, tmp_path: Path) -> None:
    chess = scenes.record(tmp_path / "c", scenes.white(), target="chessboard")
    refused([chess], "calibration.unused_target", "chessboard", "chrome_sphere")
    part = scenes.record(tmp_path / "p", scenes.part())
    refused([part], "calibration.no_lights", "chrome sphere")
    lit = scenes.record(tmp_path / "d", scenes.white()[:1], target="dark")
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    refused([sphere, lit], "calibration.dark_invalid", "role dark")


def test_formats_that_cannot_make_maps(scenes: Any, tmp_path: Path) -> None:
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    floats = scenes.record(tmp_path / "f", scenes.white(), "Mono32f", target="white_plane")
    refused([sphere, floats], "calibration.flat_field_invalid", "Mono32f", "full scale")
    colour = scenes.record(tmp_path / "rgb", scenes.white(), "RGB8", target="white_plane")
    refused([sphere, colour], "calibration.flat_field_invalid", "RGB8")
    mono = scenes.record(tmp_path / "m", scenes.white(), target="white_plane")
    bayer = scenes.record(tmp_path / "b", scenes.white(), "BayerRG12", target="white_plane")
    refused([sphere, mono, bayer], "calibration.format_mismatch", "BayerRG12", "Mono12")


def test_sphere_that_is_not_there_or_lit_at_its_rim(scenes: Any, tmp_path: Path) -> None:
    empty = scenes.record(tmp_path / "e", scenes.white(), target="chrome_sphere")
    with pytest.raises(CalibrationError, match="sphere 1"):
        calibrate([empty], "c")
    grazing = np.array([[np.sin(a), 0, np.cos(a)] for a in np.radians([30, 45, 150])])
    circle = {"u": 120.0, "v": 90.0, "radius": 70.0}
    rim = scenes.record(
        tmp_path / "r", scenes.sphere(lights=grazing), target="chrome_sphere", circles=(circle,), pixel_format="Mono12"
    )
    with pytest.raises(CalibrationError, match=r"sphere 1.*3.*radius"):
        calibrate([rim], "c")


def test_sphere_outside_the_calibrated_camera(scenes: Any, tmp_path: Path) -> None:
    camera, plane, lights = scenes.near_rig(width=120, height=90)
    base = scenes.calibration(camera=camera, table_plane=plane, lights=lights)
    sphere = scenes.record(tmp_path / "s", scenes.sphere(), target="chrome_sphere")
    refused([sphere], "calibration.size_mismatch", "240×180", "120×90", base=base)
    binned = scenes.record(tmp_path / "b", scenes.sphere(), target="chrome_sphere", sensor={"binning": 2})
    refused([binned], "calibration.size_mismatch", "binning 2", base=base)


def test_one_ball_and_a_white_plane_have_nothing_to_be_checked_by() -> None:
    """What a single ball cannot tell is None in the quality, which no calibration may hold as NaN."""
    nan, eye = np.full(2, np.nan), np.tile(np.eye(3), (2, 1, 1))
    plane = PlaneLights((1, 2), np.ones((2, 3)), np.ones(2), np.eye(8), 0.001, 1.0, 0.001, 1.0, ())
    told = _position_figures(JointLights(np.ones((2, 3)), np.ones(2), eye, 0.2, plane, nan, nan, ()))
    assert told["white_plane"]["from_spheres_mm"] == [None, None] == told["white_plane"]["from_spheres_sigmas"]
    made = RigCalibration("x", "2025-03-01T08:15:30+00:00", simulated=True, quality={"positions": told})
    assert made.quality["positions"]["sigma_mm"] == [1.732, 1.732]
    both = _position_figures(JointLights(np.ones((2, 3)), np.ones(2), eye, 0.2, plane, np.array([0.5, 1.0]), nan, ()))
    assert both["white_plane"]["from_spheres_mm"] == [0.5, 1.0]
