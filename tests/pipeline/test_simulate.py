"""Simulated recordings: ordinary ones, with a truth that the chain can be judged by."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images
from rakelight.dataset.recording import Recording, verify
from rakelight.errors import DatasetError, InputError, StorageError
from rakelight.pipeline import simulate as run
from rakelight.pipeline import truth
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.reconstruction.patterns import GrayPhaseShift, PatternSet

SMALL = run.Settings(456, pattern_set=None, samples=1)


@pytest.fixture(scope="module")
def scratched(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("simulated") / "knob"
    run.simulate("knob_cap", folder, seed=5, defect="scratch", settings=run.Settings(608, pattern_set=None))
    return Recording.open(folder)


def test_it_is_an_ordinary_recording_marked_as_simulated(scratched: Recording) -> None:
    assert list(verify(scratched)) == []
    info = scratched.info
    assert info.simulated and info.linear and info.pixel_format == "BayerRG12" and info.target == "part"
    assert (info.width, info.height) == (608, 406) and scratched.zones == (1, 2, 3, 4)
    assert {s.role for s in info.plan} == {"zone", "all_zones", "ambient"}
    assert "scratch" not in (scratched.folder / "recording.json").read_text(), (
        "the label must not leak into the recording"
    )
    bright = np.percentile(scratched.read(next(scratched.shots("zone", 1))), 99.9)
    assert 0.4 * 4095 < bright < 0.9 * 4095, "exposed for the matte part"


def test_truth_fits_its_own_calibration(scratched: Recording) -> None:
    folder = scratched.folder / truth.FOLDER
    facts = json.loads((folder / truth.FILE_NAME).read_text())
    calibration = RigCalibration.load(folder / "calibration")
    assert calibration.simulated and facts["calibration"]["content_sha256"] == calibration.content_sha256
    xyz = images.read_image(folder / "xyz.tiff")
    mask = images.read_image(folder / "mask.png") > 0
    v, u = np.mgrid[: xyz.shape[0], : xyz.shape[1]]
    assert calibration.camera is not None and calibration.table_plane is not None
    here = calibration.camera.project(xyz.astype(float))
    assert np.abs(here - np.stack([u, v], -1)).max() < 2e-3, "the point of a pixel lies on the pixel's ray"
    height = calibration.table_plane.height_mm(xyz.astype(float))
    assert np.abs(height[~mask]).max() < 1e-4 and height[mask].max() == pytest.approx(6.0, abs=0.2)
    assert facts["label"] == "scratch" and facts["defect"]["kind"] == "scratch"
    assert 0.003 <= facts["defect_share"] <= 0.03
    defect = images.read_image(folder / "defect_mask.png") > 0
    assert defect.sum() == facts["defect_pixels"] and mask[defect].all()


def test_true_normals_are_those_of_the_true_surface(scratched: Recording) -> None:
    loaded = truth.load_truth(scratched)
    assert loaded is not None
    xyz = images.read_image(scratched.folder / truth.FOLDER / "xyz.tiff").astype(float)
    across, down = np.gradient(xyz, axis=1), np.gradient(xyz, axis=0)
    facet = np.cross(down, across)  # towards the camera: z < 0 in the camera frame
    facet /= np.linalg.norm(facet, axis=-1, keepdims=True)
    viewer = facet * [1, -1, -1]
    angle = np.degrees(np.arccos(np.clip((viewer * loaded.normals).sum(-1), -1, 1)))
    smooth = truth.smooth_areas(loaded)
    assert smooth.sum() > 1000 and np.median(angle[smooth]) < 0.3


def test_the_solved_normals_come_near_the_truth(scratched: Recording) -> None:
    calibration = RigCalibration.load(scratched.folder / truth.FOLDER / "calibration")
    result = reconstruct(scratched, calibration)
    figures = result.report["truth"]
    assert figures["smooth"]["mean_deg"] < 1.2 and figures["smooth"]["solved"] > 0.99
    assert not result.report["warnings"]
    assert result.error_deg is not None and np.isnan(result.error_deg[~result.truth.mask]).all()  # type: ignore[union-attr]


def test_the_twin_without_the_defect_is_the_same_elsewhere(scratched: Recording, tmp_path: Path) -> None:
    settings = run.Settings(608, pattern_set=None)
    run.simulate("knob_cap", tmp_path / "good", seed=5, settings=settings)
    good = Recording.open(tmp_path / "good")
    defect = images.read_image(scratched.folder / truth.FOLDER / "defect_mask.png") > 0
    near = cv2.dilate(defect.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    for role in ("zone", "ambient"):
        for a, b in zip(scratched.shots(role), good.shots(role), strict=True):  # type: ignore[arg-type]
            one, other = scratched.read(a).astype(int), good.read(b).astype(int)
            apart = np.abs(one - other)
            # noise is drawn by the same numbers; a photosite that sees the relief shifts its neighbours' by rounding only
            assert (apart[~near] > 2).mean() < 1e-3 and a.exposure_us == b.exposure_us
            assert role == "ambient" or apart[defect].max() > 50
    assert json.loads((good.folder / truth.FOLDER / truth.FILE_NAME).read_text())["defect_share"] == 0


def test_same_seed_same_frames_other_seed_other_part(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run.simulate("clay_pot", tmp_path / name, seed=seed, settings=SMALL)
    a, b, c = (Recording.open(tmp_path / n) for n in "abc")
    assert [f.sha256 for f in a.info.frames] == [f.sha256 for f in b.info.frames]
    assert all(x.sha256 != y.sha256 for x, y in zip(a.info.frames, c.info.frames, strict=True))


def test_patterns_travel_with_the_recording(tmp_path: Path) -> None:
    wanted = PatternSet(code=GrayPhaseShift(steps=4, period_px=32))
    run.simulate("flat", tmp_path / "flat", settings=run.Settings(456, pattern_set=wanted, samples=1))
    recording = Recording.open(tmp_path / "flat")
    assert recording.info.target == "flat" and recording.info.pattern_set is not None
    assert PatternSet.from_plain(recording.info.pattern_set) == wanted
    shots = [s for s in recording.info.plan if s.role == "pattern"]
    assert len(shots) == 4 * len(wanted.patterns) and {s.projector for s in shots} == {1, 2, 3, 4}
    assert [s.pattern for s in shots if s.projector == 2] == [p.to_plain() for p in wanted.patterns]


class TestRefusals:
    def test_unknown_part_lists_them(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"'knob_cup' is not known; products: knob_cap, .*targets: charuco"
        ) as caught:
            run.simulate("knob_cup", tmp_path / "x", settings=SMALL)
        assert caught.value.code == "simulate.unknown_part" and "knob_cap" in caught.value.hint

    def test_pose_outside_the_view(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"outside the picture, which shows ±27\.4 × ±18\.2 mm") as caught:
            run.simulate("knob_cap", tmp_path / "x", pose=run.Pose(40, 0, 0), settings=SMALL)
        assert caught.value.code == "simulate.pose"

    @pytest.mark.parametrize("size", [(100, None), (457, 304), (6000, None), (456, 3700)])
    def test_size(self, tmp_path: Path, size: tuple[int, int | None]) -> None:
        with pytest.raises(InputError, match=r"allowed: even numbers from 456×304 to 5472×3648"):
            run.simulate("knob_cap", tmp_path / "x", settings=run.Settings(*size))

    def test_memory_says_the_arithmetic_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run.memory, "available_bytes", lambda: 1_000_000_000)
        with pytest.raises(InputError, match=r"20\.0 M points × 33 B .* = ?|need \d\.\d GB") as caught:
            run.simulate("knob_cap", tmp_path / "x", settings=run.Settings(5472))
        assert caught.value.code == "simulate.memory" and "1.0 GB are free" in caught.value.message

    def test_defects_are_not_for_targets(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"charuco is a calibration target") as caught:
            run.simulate("charuco", tmp_path / "x", defect="scratch", settings=SMALL)
        assert caught.value.code == "simulate.defect_does_not_fit"

    def test_nothing_can_be_missing_from_a_pot(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as caught:
            run.simulate("clay_pot", tmp_path / "x", defect="missing_feature", settings=SMALL)
        assert caught.value.code == "simulate.defect_does_not_fit"

    def test_an_existing_recording_is_not_replaced_unasked(self, tmp_path: Path) -> None:
        run.simulate("flat", tmp_path / "x", settings=SMALL)
        with pytest.raises(StorageError):
            run.simulate("flat", tmp_path / "x", settings=SMALL)
        run.simulate("flat", tmp_path / "x", seed=3, settings=SMALL, overwrite=True)
        assert Recording.open(tmp_path / "x").info.part_id == "flat-0003"

    def test_changed_truth_is_told(self, tmp_path: Path) -> None:
        run.simulate("flat", tmp_path / "x", settings=SMALL)
        recording = Recording.open(tmp_path / "x")
        images.write_png(recording.folder / truth.FOLDER / "mask.png", np.zeros((304, 456), np.uint8))
        with pytest.raises(DatasetError, match=r"mask\.png is not what the simulator wrote"):
            truth.load_truth(recording)

    def test_interrupted_leaves_nothing(self, tmp_path: Path) -> None:
        def stop(first: object, *_: object) -> None:
            if first == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run.simulate("flat", tmp_path / "x", settings=SMALL, progress=stop)
        assert list(tmp_path.iterdir()) == []


class TestBatch:
    def test_every_other_is_good_and_a_second_run_goes_on(self, tmp_path: Path) -> None:
        out = tmp_path / "many"
        first = run.simulate_batch(
            ["knob_cap", "clay_pot"], out, 2, defects=["dent", "missing_feature"], settings=SMALL
        )
        assert [(r["name"], r["label"]) for r in first["recordings"]] == [
            ("knob_cap", "OK"),
            ("knob_cap", "dent"),
            ("clay_pot", "OK"),
            ("clay_pot", "dent"),
        ]
        again = run.simulate_batch(
            ["knob_cap", "clay_pot"], out, 4, defects=["dent", "missing_feature"], settings=SMALL
        )
        assert (first["made"], again["made"], again["kept"]) == (4, 4, 4)
        labels = [r["label"] for r in again["recordings"]]
        assert labels == ["OK", "dent", "OK", "missing_feature", "OK", "dent", "OK", "dent"]
        listed = json.loads((out / run.BATCH).read_text())["recordings"]
        assert len(listed) == 8
        for row in listed:
            recording = Recording.open(out / row["recording"])
            calibration = RigCalibration.load(out / row["calibration"])
            assert recording.info.calibration_id == calibration.calibration_id
            exposures = {(f.shot, f.exposure_us) for f in recording.info.frames}
            same = Recording.open(out / f"{row['name']}-0000")
            assert exposures == {(f.shot, f.exposure_us) for f in same.info.frames}, "one exposure a product"

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        run.simulate_batch(["flat"], tmp_path / "many", 1, settings=SMALL)
        other = run.Settings(456, pixel_format="Mono8", pattern_set=None, samples=1)
        with pytest.raises(DatasetError, match=r"another pixel format"):
            run.simulate_batch(["flat"], tmp_path / "many", 1, settings=other)

    def test_unknown_defect_and_part(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"defect 'rust' is not known; known: scratch"):
            run.simulate_batch(["knob_cap"], tmp_path / "many", 2, defects=["rust"], settings=SMALL)
        with pytest.raises(InputError, match=r"'rivet' is not known"):
            run.simulate_batch(["rivet"], tmp_path / "many", 2, settings=SMALL)
        with pytest.raises(InputError, match=r"none of the defects missing_feature fits clay_pot"):
            run.simulate_batch(["clay_pot"], tmp_path / "many", 2, defects=["missing_feature"], settings=SMALL)
