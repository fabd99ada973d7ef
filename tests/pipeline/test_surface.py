"""Patterns of simulated recordings become surfaces: against the truth, with every fault that a capture can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Description, Recording, Sensor, Shot
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import CalibrationError, DatasetError, InputError
from rakelight.pipeline import simulate as simulated
from rakelight.pipeline.reconstruct import Settings, reconstruct
from rakelight.pipeline.surface import Surface, SurfaceBuilder, measure_surface
from rakelight.pipeline.surface_parts import Source
from rakelight.pipeline.truth import Truth, compare_surface, load_truth, smooth_areas
from rakelight.reconstruction.models import PinholeCamera
from rakelight.reconstruction.patterns import MultiFrequency, PatternSet, Uniform

Frames = dict[str, NDArray[Any]]
WIDTH, FULL = 456, 4095


@dataclass(frozen=True)
class Case:
    """A simulated recording in memory."""

    recording: Recording
    calibration: RigCalibration
    truth: Truth
    frames: Frames  # of the patterns, by shot

    def measure(
        self,
        frames: Frames | None = None,
        calibration: RigCalibration | None = None,
        plan: tuple[Shot, ...] | None = None,
        **about: Any,
    ) -> Surface:
        """What is measured of changed frames, plan, description or calibration; shots without a frame are not planned."""
        frames = self.frames if frames is None else frames
        info = self.recording.info
        plan = plan or tuple(shot for shot in info.plan if shot.name in frames)
        known = info.model_dump(include=set(Description.model_fields))
        description = Description.model_validate(known | {"plan": plan} | about)
        height, width = next(iter(frames.values())).shape[:2]
        source = Source("changed", description, width, height, plan)
        builder = SurfaceBuilder(source, calibration or self.calibration)
        for name in builder.order:
            builder.add(name, frames[name])
        return builder.finish()

    def error_um(self, surface: Surface) -> NDArray[np.float32]:
        """Of the depths on smooth areas."""
        off = (surface.merged.z_mm - self.truth.xyz[..., 2])[smooth_areas(self.truth)] * 1000
        return off[np.isfinite(off)]


def open_case(folder: Path, **settings: Any) -> Case:
    made = {"width": WIDTH, "samples": 1} | settings
    simulated.simulate("knob_cap", folder, seed=3, settings=simulated.Settings(**made))
    recording = Recording.open(folder)
    frames = {f.shot: recording.read(f) for f in recording.shots("pattern")}
    truth = load_truth(recording)
    assert truth is not None
    return Case(recording, RigCalibration.load(folder / "truth" / "calibration"), truth, frames)


@pytest.fixture(scope="session")
def knob(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return open_case(tmp_path_factory.mktemp("surface") / "knob")


@pytest.fixture(scope="session")
def whole(knob: Case) -> Surface:
    return measure_surface(knob.recording, knob.calibration)


def of(direction: int, name: str) -> bool:
    return name.startswith(f"p{direction}_")


def rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(values**2)))


# --------------------------------------------------------------------------------------------------------------- accuracy
def test_depths_and_their_uncertainty_are_right(knob: Case, whole: Surface) -> None:
    told = compare_surface(whole, knob.truth)["smooth"]
    assert told["pixels"] > 300 and told["coverage"] == 1 and told["outliers"] == 0
    assert told["rms_um"] < 1.15 * told["predicted_um"] and abs(told["bias_um"]) < 1
    assert 0.8 < told["spread_of_error"] < 1.25
    mask = whole.mask
    assert (mask & knob.truth.mask).sum() > 0.96 * (mask | knob.truth.mask).sum()
    assert whole.report["warnings"] == [] and whole.report["agreement"] > 0.95
    assert [d["valid"] > 0.7 for d in whole.report["directions"]] == [True] * 4
    np.testing.assert_array_equal(np.isfinite(whole.xyz[..., 2]), whole.merged.support > 0)
    four = (whole.merged.support == 4) & (whole.merged.rejected == 0)
    assert four.any() and (whole.confidence[four] == 1).all() and (whole.confidence[~whole.merged.valid] == 0).all()


@pytest.mark.parametrize("directions", [(2,), (1, 3), (1, 2, 4)])
def test_fewer_directions(knob: Case, directions: tuple[int, ...]) -> None:
    surface = knob.measure({n: f for n, f in knob.frames.items() if int(n[1]) in directions})
    told = compare_surface(surface, knob.truth)["smooth"]
    assert told["rms_um"] < 1.25 * told["predicted_um"] and abs(told["bias_um"]) < 1.5
    assert set(np.unique(surface.merged.used)) <= set(range(16)) and int(surface.merged.support.max()) == len(
        directions
    )
    alone = ["one direction alone was measured: nothing confirms its depths"]
    assert surface.report["warnings"] == (alone if len(directions) == 1 else [])


def mono8(frame: NDArray[Any]) -> NDArray[Any]:
    return (frame >> 4).astype(np.uint8)


def rgb8(frame: NDArray[Any]) -> NDArray[Any]:
    return np.stack([(frame * share).astype(np.uint16) >> 4 for share in (0.7, 1.0, 0.8)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("kind", "change"), [("Mono8", mono8), ("RGB8", rgb8)])
def test_formats(knob: Case, kind: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    surface = knob.measure({n: change(f) for n, f in knob.frames.items()}, pixel_format=kind)
    told = compare_surface(surface, knob.truth)["smooth"]
    assert told["rms_um"] < 1.15 * told["predicted_um"] < 5 and told["coverage"] > 0.99
    assert surface.report["warnings"] == []


def test_region_of_interest(knob: Case, whole: Surface) -> None:
    rows, columns = slice(50, 250), slice(97, 377)
    cropped = {n: np.ascontiguousarray(f[rows, columns]) for n, f in knob.frames.items()}
    surface = knob.measure(cropped, sensor=Sensor(offset_x=97, offset_y=50))
    off = surface.xyz - whole.xyz[rows, columns]
    off = off[np.isfinite(off)]  # weights differ a little, with the noise of other samples
    assert np.quantile(np.abs(off), 0.99) < 1e-3 and off.size > 0.9 * 3 * 200 * 280
    assert surface.report["warnings"] == []


@pytest.mark.slow
def test_other_sets_and_axes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A calibration set of several periods, rows first: the columns count."""
    patterns = PatternSet(code=MultiFrequency(), axes=("row", "column"))
    case = open_case(tmp_path_factory.mktemp("surface") / "sets", pattern_set=patterns)
    surface = measure_surface(case.recording, case.calibration)
    told = compare_surface(surface, case.truth)["smooth"]
    assert told["rms_um"] < 1.15 * told["predicted_um"] and told["coverage"] > 0.99
    assert surface.report["pattern_set"].count("images; column:") == 1 and not surface.report["warnings"]
    builder = SurfaceBuilder(Source.of(case.recording), case.calibration)
    for direction in (3, 1, 4, 2):  # stacks as the recording's set has them, in any order
        names = [n for n in case.frames if of(direction, n)]
        builder.add_direction(direction, np.stack([case.frames[n] for n in sorted(names)]))
    np.testing.assert_array_equal(builder.finish().merged.support, surface.merged.support)


def test_repeats_are_averaged(knob: Case, tmp_path: Path) -> None:
    shots = tuple(s for s in knob.recording.info.plan if of(1, s.name) or of(3, s.name))
    known = knob.recording.info.model_dump(include=set(Description.model_fields))
    rng = np.random.default_rng(0)
    with write_recording(tmp_path / "r", Description.model_validate(known | {"plan": shots})) as writer:
        for shot in shots:
            for sign in (1, -1):
                noise = sign * rng.integers(0, 40, knob.frames[shot.name].shape)
                writer.add(shot.name, np.clip(knob.frames[shot.name] + noise, 0, FULL).astype(np.uint16))
    twice = measure_surface(Recording.open(tmp_path / "r"), knob.calibration)
    once = knob.measure({s.name: knob.frames[s.name] for s in shots})
    assert rms(knob.error_um(twice)) < 1.1 * rms(knob.error_um(once))  # noise and its opposite


# ---------------------------------------------------------------------------------------------------------- calibration
def test_without_a_table_plane_it_is_fitted(knob: Case, whole: Surface) -> None:
    surface = knob.measure(calibration=replace(knob.calibration, table_plane=None))
    assert surface.report["table_plane"] == "fitted to the measured points" and not surface.report["warnings"]
    assert np.nanmax(np.abs((surface.height_mm - whole.height_mm)[knob.truth.mask & whole.mask])) < 0.02
    assert (surface.mask == whole.mask).mean() > 0.999


def test_no_table_in_view_is_said_and_loses_nothing(knob: Case) -> None:
    v, u = (int(x.mean()) for x in np.nonzero(knob.truth.mask))
    offset = {"offset_x": u - 32, "offset_y": v - 20}
    cropped = {n: np.ascontiguousarray(f[v - 20 : v + 20, u - 32 : u + 32]) for n, f in knob.frames.items()}
    surface = knob.measure(cropped, replace(knob.calibration, table_plane=None), sensor=offset)
    assert np.isfinite(surface.xyz[..., 2]).mean() > 0.8 and np.isfinite(surface.height_mm).mean() > 0.8
    fitted = surface.report["table_plane"].startswith("fitted")  # to the flat top of the part
    assert fitted or "stand-in" in "".join(surface.report["warnings"])


def test_projector_that_is_not_calibrated_is_left_out(knob: Case) -> None:
    some = replace(knob.calibration, projectors=knob.calibration.projectors[:3])
    surface = measure_surface(knob.recording, some)
    assert surface.report["warnings"] == [
        f"direction 4 was left out: calibration {some.calibration_id} has no projector 4"
    ]
    assert int(surface.merged.used.max()) == 0b111 and rms(knob.error_um(surface)) < 2.5
    none = replace(knob.calibration, projectors=())
    with pytest.raises(CalibrationError, match="no projector 1, 2, 3, 4") as caught:
        measure_surface(knob.recording, none)
    assert caught.value.code == "surface.not_calibrated"
    lights = reconstruct(knob.recording, none)
    assert lights.surface is None and "the patterns were left out" in "".join(lights.report["warnings"])
    assert lights.report["coverage"]["solved"] > 0.9
    lights = reconstruct(knob.recording, knob.calibration, Settings(surface=None))
    assert lights.surface is None and not lights.report["warnings"]


def moved(calibration: RigCalibration, direction: int, shift_mm: float, turn_deg: float) -> RigCalibration:
    turn = Rotation.from_euler("y", turn_deg, degrees=True).as_matrix()
    projectors = tuple(
        replace(p, rotation=turn @ p.rotation, translation_mm=p.translation_mm + np.array([shift_mm, 0, 0]))
        if p.direction == direction
        else p
        for p in calibration.projectors
    )
    return replace(calibration, projectors=projectors)


@pytest.mark.parametrize(("shift_mm", "turn_deg"), [(0.02, 0), (0.5, 0), (0, 0.05)])
def test_projector_that_moved_is_named(knob: Case, shift_mm: float, turn_deg: float) -> None:
    surface = measure_surface(knob.recording, moved(knob.calibration, 3, shift_mm, turn_deg))
    (warning,) = surface.report["warnings"]
    assert "projector 3 stands apart: something moved since the calibration" in warning
    assert any(pair["significant"] for pair in surface.report["pairs"])


def test_calibration_of_another_camera_or_size(knob: Case) -> None:
    camera = knob.calibration.camera
    assert isinstance(camera, PinholeCamera)
    small = PinholeCamera(400, 300, camera.fx, camera.fy, camera.cx, camera.cy)
    with pytest.raises(CalibrationError, match="456×304 px") as caught:
        measure_surface(knob.recording, replace(knob.calibration, camera=small))
    assert caught.value.code == "calibration.size_mismatch"
    twice = PinholeCamera(912, 608, 2 * camera.fx, 2 * camera.fy, 2 * camera.cx + 0.5, 2 * camera.cy + 0.5)
    with pytest.raises(DatasetError, match="contradict each other") as caught2:  # not told apart from a window of it
        measure_surface(knob.recording, replace(knob.calibration, camera=twice, flat_field=None, dark=None))
    assert caught2.value.code == "surface.misfit"
    lens = replace(camera, fx=1.15 * camera.fx, fy=1.15 * camera.fy)
    with pytest.raises(DatasetError, match="contradict each other"):
        measure_surface(knob.recording, replace(knob.calibration, camera=lens))
    aside = replace(camera, cx=camera.cx + 2)
    (warning,) = measure_surface(knob.recording, replace(knob.calibration, camera=aside)).report["warnings"]
    assert "something moved since the calibration" in warning


# ----------------------------------------------------------------------------------------------------- patterns gone wrong
def doubled(frames: Frames, direction: int) -> None:
    frames[f"p{direction}_12"] = frames[f"p{direction}_11"]


def missing(frames: Frames, direction: int) -> None:
    frames[f"p{direction}_12"] = np.full_like(frames[f"p{direction}_12"], 60)


def exchanged(frames: Frames, direction: int) -> None:
    a, b = f"p{direction}_11", f"p{direction}_14"
    frames[a], frames[b] = frames[b], frames[a]


def late(frames: Frames, direction: int) -> None:
    names = sorted(n for n in frames if of(direction, n))
    shown = [frames[n] for n in names]
    frames |= dict(zip(names, [shown[-1], *shown[:-1]], strict=True))


@pytest.mark.parametrize("fault", [doubled, missing, exchanged, late])
def test_direction_with_wrong_patterns_is_left_out(knob: Case, fault: Callable[[Frames, int], None]) -> None:
    frames = dict(knob.frames)
    fault(frames, 2)
    surface = knob.measure(frames)
    (warning,) = surface.report["warnings"]
    assert warning.startswith("direction 2 was left out: ")
    assert rms(knob.error_um(surface)) < 2.5 and int(surface.merged.used.max()) == 0b1101
    for direction in (1, 3, 4):
        fault(frames, direction)
    with pytest.raises(DatasetError, match=r"no direction can be measured: direction 1: .*and 3 more") as caught:
        knob.measure(frames)
    assert caught.value.code == "surface.pattern_order" and "--no-surface" in caught.value.hint


def test_images_that_were_never_taken_or_booked_twice(knob: Case) -> None:
    frames = {n: f for n, f in knob.frames.items() if n not in ("p3_04", "p3_14")}
    surface = knob.measure(frames)
    (warning,) = surface.report["warnings"]
    assert "direction 3 was left out: 2 image(s) of the pattern set are missing: 004_column_gray" in warning
    plan = tuple(
        s.model_copy(update={"pattern": knob.recording.info.plan[-2].pattern}) if s.name == "p4_01" else s
        for s in knob.recording.info.plan
    )
    surface = knob.measure(plan=plan)
    assert "p4_01 and p4_" in surface.report["warnings"][0] and len(surface.report["warnings"]) == 1
    with pytest.raises(DatasetError, match="direction 1: 1 image") as caught:
        knob.measure({n: f for n, f in knob.frames.items() if not n.endswith("_03")})
    assert caught.value.code == "surface.pattern_missing"


def test_white_and_black_are_passed_over(knob: Case, whole: Surface) -> None:
    frames, plan = dict(knob.frames), list(knob.recording.info.plan)
    for number, level in ((90, 1.0), (91, 0.0)):
        plan.append(Shot(name=f"p1_{number}", role="pattern", projector=1, pattern=Uniform(level).to_plain()))
        frames[f"p1_{number}"] = np.full((304, WIDTH), int(level * FULL), np.uint16)
    surface = knob.measure(frames, plan=tuple(s for s in plan if s.role == "pattern"))
    np.testing.assert_array_equal(surface.merged.z_mm, whole.merged.z_mm)


def swapped(frames: Frames, directions: dict[int, int]) -> Frames:
    return {n: frames[f"p{directions.get(int(n[1]), int(n[1]))}{n[2:]}"] for n in frames}


def test_swapped_directions(knob: Case) -> None:
    two = knob.measure(swapped(knob.frames, {1: 2, 2: 1}))
    (warning,) = two.report["warnings"]
    assert "look swapped (what is booked as 1 is 2, 2 is 1)" in warning and rms(knob.error_um(two)) < 3
    with pytest.raises(DatasetError, match="1 is 2, 2 is 3, 3 is 4, 4 is 1") as caught:
        knob.measure(swapped(knob.frames, {1: 2, 2: 3, 3: 4, 4: 1}))
    assert caught.value.code == "surface.swapped"


# --------------------------------------------------------------------------------------------------------------- exposure
def test_frames_that_show_nothing(knob: Case) -> None:
    for level, what in ((FULL, "100% saturated, 0% without fringes"), (60, "0% saturated, 100% without fringes")):
        blank = {n: np.full_like(f, level) for n, f in knob.frames.items()}
        with pytest.raises(DatasetError, match=what) as caught:
            knob.measure(blank)
        assert caught.value.code == "surface.all_invalid" and "direction 4" in caught.value.message
        surface = knob.measure(knob.frames | {n: f for n, f in blank.items() if of(1, n)})
        (warning,) = surface.report["warnings"]
        assert warning.startswith("direction 1: 100% of the pixels ")
        assert rms(knob.error_um(surface)) < 2.5 and not (surface.merged.used & 1).any()


@pytest.mark.parametrize("place", [1, 2])
def test_bracket_with_a_useless_exposure_is_as_good_as_without(knob: Case, whole: Surface, place: int) -> None:
    frames, plan = {}, []
    for shot in knob.recording.info.plan:
        if shot.role != "pattern":
            continue
        useless = shot.model_copy(update={"bracket": place, "name": f"{shot.name}x"})
        plan += [shot.model_copy(update={"bracket": 3 - place}), useless]
        frames |= {shot.name: knob.frames[shot.name]}
        frames[useless.name] = np.full_like(knob.frames[shot.name], FULL if place == 2 else 50)
    surface = knob.measure(frames, plan=tuple(plan))
    assert surface.report["warnings"] == []
    np.testing.assert_array_equal(surface.merged.z_mm, whole.merged.z_mm)


def test_bracket_joins_what_each_exposure_sees(knob: Case, whole: Surface) -> None:
    """A long exposure that saturates the part, a short one that leaves the rest in noise."""
    frames, plan = {}, []
    for shot in knob.recording.info.plan:
        if shot.role == "pattern":
            plan += [shot, shot.model_copy(update={"bracket": 2, "name": f"{shot.name}b"})]
            light = knob.frames[shot.name].astype(np.float32) - 40
            frames |= {shot.name: np.rint(40 + light / 4).astype(np.uint16)}
            frames[f"{shot.name}b"] = np.minimum(np.rint(40 + 2 * light), FULL).astype(np.uint16)
    surface = knob.measure(frames, plan=tuple(plan))
    assert surface.report["warnings"] == []
    assert surface.report["part_coverage"] > whole.report["part_coverage"] - 0.02
    assert rms(knob.error_um(surface)) < 3


# ------------------------------------------------------------------------------------------------------------------- use
def test_frames_out_of_order_and_too_few(knob: Case) -> None:
    builder = SurfaceBuilder(Source.of(knob.recording), knob.calibration)
    builder.add("p1_01", knob.frames["p1_01"])
    builder.add("zone1", knob.frames["p1_01"])  # not of the patterns
    with pytest.raises(InputError, match="direction 2, exposure 1, came before another was complete"):
        builder.add("p2_01", knob.frames["p2_01"])
    with pytest.raises(InputError, match="frames of direction 1, 2, 3, 4 are still to come"):
        builder.finish()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(simulated.PRODUCTS))
def test_masks_of_all_products(name: str, tmp_path: Path) -> None:
    """Against the truth, but for bores whose ground no projector reaches: they cannot be told from blind holes."""
    simulated.simulate(name, tmp_path / "r", seed=3, settings=simulated.Settings(width=912, samples=1))
    recording = Recording.open(tmp_path / "r")
    surface = measure_surface(recording, RigCalibration.load(tmp_path / "r" / "truth" / "calibration"))
    truth = load_truth(recording)
    assert truth is not None and surface.report["warnings"] == []
    unknown = ~truth.mask & surface.mask & ~np.isfinite(surface.height_mm)
    union = (surface.mask | truth.mask) & ~unknown
    assert (surface.mask & truth.mask).sum() > 0.97 * union.sum()
    assert (surface.mask & truth.mask).sum() > 0.94 * (surface.mask | truth.mask).sum()
