"""Simulated recordings: ordinary ones, with a truth that the chain can be judged by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset import images
from rakelight.dataset.recording import Description, Recording, verify
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import DatasetError, InputError, StorageError
from rakelight.pipeline import simulate as run
from rakelight.pipeline import simulate_batch as batch
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
            # the relief's own shadow may reach a little out of the mask; elsewhere even the noise is the same
            assert not apart[~near].any() and a.exposure_us == b.exposure_us
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


def test_brackets_expose_each_projectors_patterns_again(tmp_path: Path) -> None:
    wanted = PatternSet(code=GrayPhaseShift(steps=3, period_px=64))
    settings = run.Settings(456, pattern_set=wanted, samples=1, bracket=(4.0, 0.25))
    document = run.simulate("knob_cap", tmp_path / "r", settings=settings)
    recording = Recording.open(tmp_path / "r")
    shots = [s for s in recording.info.plan if s.role == "pattern" and s.projector == 2]
    count = len(wanted.patterns)
    assert [s.bracket for s in shots] == [1] * count + [2] * count + [3] * count
    assert [shots[k].name for k in (0, count, 3 * count - 1)] == ["p2_01", "p2b2_01", f"p2b3_{count:02d}"]
    assert all(
        [s.pattern for s in shots if s.bracket == k] == [p.to_plain() for p in wanted.patterns] for k in (1, 2, 3)
    )
    usual = run.product_exposures("knob_cap").pattern_us
    frames = {f.shot: f for f in recording.info.frames}
    times = [frames[name].exposure_us for name in ("p2_01", "p2b2_01", "p2b3_01")]
    assert times == [round(usual / 4), usual, usual * 4] and document["bracket"] == [0.25, 4.0]
    short, middle, long = (recording.read(frames[n]).astype(float) - 64 for n in ("p2_01", "p2b2_01", "p2b3_01"))
    lit = (long < 3900) & (short > 100)
    assert middle[lit].mean() / short[lit].mean() == pytest.approx(4, rel=0.02)
    assert long[lit].mean() / middle[lit].mean() == pytest.approx(4, rel=0.02)
    assert list(verify(recording)) == [] and truth.verify_truth(recording) == []


class TestTruthOfACapture:
    """Frames from elsewhere get the truth of the bench that a URL describes."""

    def captured(self, folder: Path, url: str, source: Recording) -> list[str]:
        steps: list[str] = []
        finish = run.truth_of(url, progress=steps.append)
        assert finish is not None
        for name in ("a", "b"):
            plain = source.info.model_dump(include=set(Description.model_fields))
            with write_recording(folder / name, Description.model_validate(plain)) as writer:
                for frame in source.info.frames:
                    writer.add(frame.shot, source.read(frame), exposure_us=frame.exposure_us)
                finish(writer)
        return steps

    def test_is_that_of_simulate(self, tmp_path: Path) -> None:
        run.simulate("knob_cap", tmp_path / "direct", seed=5, defect="dent", settings=SMALL)
        direct = Recording.open(tmp_path / "direct")
        steps = self.captured(tmp_path, "sim://knob_cap?seed=5&defect=dent&width=456&samples=1&fault=drop@3", direct)
        assert steps.count("calibrating the rig") == steps.count("casting rays") == 1 and len(steps) == 4, "made once"
        ids = set()
        for name in ("direct", "a", "b"):
            recording = Recording.open(tmp_path / name)
            loaded = truth.load_truth(recording)
            assert loaded is not None and truth.verify_truth(recording) == [] and loaded.defect.any()
            calibration = RigCalibration.load(recording.folder / truth.FOLDER / "calibration")
            ids.add(calibration.content_sha256)
            assert loaded.facts["calibration"]["content_sha256"] == calibration.content_sha256
        same = [json.loads((tmp_path / n / "truth" / "truth.json").read_text()) for n in ("direct", "a")]
        for document in same:
            del document["frames_sha256"], document["content_sha256"]
        assert same[0] == same[1] and len(ids) == 1

    def test_size_format_and_lamps_are_those_of_the_bench(self, tmp_path: Path) -> None:
        run.simulate("clay_pot", tmp_path / "direct", settings=run.Settings(500, 400, "Mono12", None, 1))
        url = "sim://clay_pot?width=500&height=400&bayer=0&zones=3&samples=1"
        self.captured(tmp_path, url, Recording.open(tmp_path / "direct"))
        facts = json.loads((tmp_path / "a" / "truth" / "truth.json").read_text())
        assert facts["size_px"] == [500, 400] and facts["pixel_format"] == "Mono12" and facts["label"] == "OK"
        assert [light["zone"] for light in facts["lights_camera_frame"]] == [1, 2, 3]
        assert images.read_image(tmp_path / "a" / "truth" / "zones_lit.png").max() == 0b111

    @pytest.mark.parametrize(
        "fault",
        [
            "dead_zone@2",
            "swapped_zones@13",
            "projector.dark@1",
            "drop@2,light.deaf@4",
            "moved@3",
            "stuck@9",
            "projector.skip@3",
        ],
    )
    def test_there_is_none_when_frames_may_show_something_else(self, fault: str) -> None:
        assert run.truth_of(f"sim://knob_cap?width=456&fault={fault}") is None

    def test_refused_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match=r"unknown key 'sead'"):
            run.truth_of("sim://knob_cap?sead=3")
        with pytest.raises(InputError, match=r"'knob_cup' is not known"):
            run.truth_of("sim://knob_cup")
        monkeypatch.setattr(run.memory, "available_bytes", lambda: 1_000_000_000)
        with pytest.raises(InputError, match=r"to work out the truth, 5472×3648 px") as caught:
            run.truth_of("sim://knob_cap?width=5472")
        assert caught.value.code == "simulate.memory" and "--no-truth" in caught.value.hint


class TestRefusals:
    @pytest.mark.parametrize(
        "bracket",
        [(1.0,), (0.5, 0.5), (1.1,), (0.001,), (200.0,), (float("nan"),), tuple(2.0**k for k in range(1, 10))],
    )
    def test_bracket(self, tmp_path: Path, bracket: tuple[float, ...]) -> None:
        with pytest.raises(InputError, match=r"multiples of the patterns' exposure from 0\.01 to 100") as caught:
            run.simulate("flat", tmp_path / "x", settings=run.Settings(456, bracket=bracket))
        assert caught.value.code == "simulate.bracket" and list(tmp_path.iterdir()) == []
        with pytest.raises(InputError, match="an exposure bracket without patterns"):
            run.simulate("flat", tmp_path / "x", settings=run.Settings(456, pattern_set=None, bracket=(4.0,)))

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
        with pytest.raises(
            InputError, match=r"need \d\.\d GB: .* programs \+ 20\.0 M points × 33 B .* 20\.0 M pixels"
        ) as caught:
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
        assert truth.verify_truth(recording) == ["truth/mask.png was changed"]

    def test_the_truth_of_another_recording_is_told(self, tmp_path: Path) -> None:
        for seed in (1, 2):
            run.simulate("flat", tmp_path / str(seed), seed=seed, settings=SMALL)
        shutil.rmtree(tmp_path / "1" / "truth")
        shutil.copytree(tmp_path / "2" / "truth", tmp_path / "1" / "truth")
        recording = Recording.open(tmp_path / "1")
        with pytest.raises(DatasetError, match=r"is that of another recording"):
            truth.load_truth(recording)
        path = tmp_path / "2" / "truth" / "truth.json"
        path.write_text(path.read_text().replace('"seed": 2', '"seed": 3'))
        with pytest.raises(DatasetError, match=r"was changed after it was written"):
            truth.load_truth(Recording.open(tmp_path / "2"))
        assert truth.verify_truth(recording) and truth.verify_truth(Recording.open(tmp_path / "2"))

    def test_interrupted_leaves_nothing(self, tmp_path: Path) -> None:
        def stop(first: object, *_: object) -> None:
            if first == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run.simulate("flat", tmp_path / "x", settings=SMALL, progress=stop)
        assert list(tmp_path.iterdir()) == []


class TestVisibility:
    @pytest.mark.parametrize(
        ("name", "kind", "rgb", "pseudo3d", "xyz"),
        [
            ("knob_cap", "dent", False, True, True),
            ("knob_cap", "stain", True, False, False),
            ("machined_flange", "dent", True, True, True),
            ("connector_housing", "scratch", True, True, True),
        ],
    )
    def test_is_measured_against_the_twin(
        self, tmp_path: Path, name: str, kind: str, rgb: bool, pseudo3d: bool, xyz: bool
    ) -> None:
        settings = run.Settings(912, pattern_set=None, samples=1)
        document = run.simulate(name, tmp_path / "r", seed=5, defect=kind, settings=settings)
        visible = document["visible"]
        assert (visible["rgb"], visible["pseudo3d"], visible["xyz"]) == (rgb, pseudo3d, xyz), visible


class TestBatch:
    kinds = ("dent", "missing_feature", "stain")

    def test_labels_are_balanced_and_in_no_order(self) -> None:
        labels = [batch.label_of("knob_cap", seed, self.kinds) for seed in range(120)]
        good = [label is None for label in labels]
        assert all(a != b for a, b in zip(good[0::2], good[1::2], strict=True)), "one of two in a row"
        assert 15 < sum(good[0::2]) < 45, "at random which"
        assert [labels.count(kind) for kind in self.kinds] == [20, 20, 20]
        turns = [tuple(x for x in labels[k : k + 6] if x) for k in range(0, 120, 6)]
        assert len(set(turns)) > 3, "kinds in random order"
        assert labels[:40] == [batch.label_of("knob_cap", seed, self.kinds) for seed in range(40)]
        assert all(batch.label_of("clay_pot", seed, self.kinds) != "missing_feature" for seed in range(50))
        assert not any(batch.label_of("knob_cap", seed, ()) for seed in range(10))

    def test_a_second_run_goes_on_and_the_list_keeps_what_was_there(self, tmp_path: Path) -> None:
        out = tmp_path / "many"
        first = batch.simulate_batch(["knob_cap"], out, 2, defects=["dent"], settings=SMALL)
        assert sorted(r["label"] for r in first["recordings"]) == ["OK", "dent"]
        (out / "knob_cap-0001" / "truth" / "normals.tiff").touch()
        again = batch.simulate_batch(["clay_pot", "knob_cap", "clay_pot"], out, 3, defects=["dent"], settings=SMALL)
        assert (first["made"], again["made"], again["kept"]) == (2, 4, 2)
        batch.simulate_batch(["clay_pot"], out, 1, defects=["dent"], settings=SMALL)
        listed = json.loads((out / batch.LIST).read_text())["recordings"]
        assert len(listed) == 6 == len({row["recording"] for row in listed})
        for row in listed:
            recording = Recording.open(out / row["recording"])
            calibration = RigCalibration.load(out / row["calibration"])
            assert recording.info.calibration_id == calibration.calibration_id
            exposures = {(f.shot, f.exposure_us) for f in recording.info.frames}
            same = Recording.open(out / f"{row['name']}-0000")
            assert exposures == {(f.shot, f.exposure_us) for f in same.info.frames}, "one exposure a product"

    def test_other_settings_and_damage_are_told(self, tmp_path: Path) -> None:
        out = tmp_path / "many"
        batch.simulate_batch(["flat"], out, 1, settings=SMALL)
        other = run.Settings(456, pixel_format="Mono8", pattern_set=None, samples=1)
        with pytest.raises(DatasetError, match=r"another pixel format"):
            batch.simulate_batch(["flat"], out, 1, settings=other)
        with pytest.raises(DatasetError, match=r"another number of samples"):
            batch.simulate_batch(["flat"], out, 1, settings=run.Settings(456, pattern_set=None, samples=2))
        path = out / "flat-0000" / "truth" / "truth.json"
        document = json.loads(path.read_text())
        path.write_text(json.dumps(document | {"bracket": [4.0]}))
        with pytest.raises(DatasetError, match=r"another exposure bracket"):
            batch.simulate_batch(["flat"], out, 1, settings=SMALL)
        path.write_text("{}")
        with pytest.raises(DatasetError, match=r"no usable truth/truth\.json") as caught:
            batch.simulate_batch(["flat"], out, 1, settings=SMALL)
        assert "delete" in caught.value.hint and caught.value.code == "simulate.batch_damaged"
        next((out / "flat-0000").glob("*_zone3.tiff")).unlink()
        with pytest.raises(DatasetError, match=r"is damaged: 003_zone3\.tiff is missing or cut short"):
            batch.simulate_batch(["flat"], out, 1, settings=SMALL)
        with pytest.raises(StorageError, match=r"is a recording; a batch"):
            batch.simulate_batch(["flat"], out / "flat-0000", 1, settings=SMALL)

    def test_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        out = tmp_path / "many"
        with pytest.raises(InputError, match=r"unknown defect 'rust'; known are scratch"):
            batch.simulate_batch(["knob_cap"], out, 2, defects=["rust"], settings=SMALL)
        with pytest.raises(InputError, match=r"'rivet' is not known"):
            batch.simulate_batch(["rivet"], out, 2, defects=["dent"], settings=SMALL)
        with pytest.raises(InputError, match=r"none of the defects missing_feature fits clay_pot; these do: scratch"):
            batch.simulate_batch(["clay_pot"], out, 2, defects=["missing_feature"], settings=SMALL)
        with pytest.raises(InputError, match=r"seed 2147483648"):
            batch.simulate_batch(["clay_pot"], out, 2, first_seed=2**31 - 1, settings=SMALL)
        assert not out.exists()
