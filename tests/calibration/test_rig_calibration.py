"""The calibration folder: what goes in comes out to the bit, and any change on disk is found."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight import files
from rakelight.calibration.flat_field import build_dark, build_flat_field
from rakelight.calibration.frame_format import FrameFormat
from rakelight.calibration.rig_calibration import RigCalibration, utc_now
from rakelight.errors import CalibrationError, StorageError
from rakelight.reconstruction.models import AffineCamera, Light, PinholeCamera, Plane, Projector

SHAPE = (24, 36)


def make(**changes: object) -> RigCalibration:
    rng = np.random.default_rng(0)
    s = 1 / math.sqrt(2)
    lights = [Light(k, np.array(d), 1 + k / 10) for k, d in enumerate([(s, 0, s), (0, s, s), (-s, 0, s)], start=1)]
    lights.append(Light.near(4, [1.0, 150.0, 50.0], [0.0, 0.0, 200.0], 1 / 3))
    dark = build_dark([rng.integers(0, 90, SHAPE).astype(np.uint16)], exposure_us=5000.0)
    whites = {k: [rng.integers(1800, 2200, SHAPE).astype(np.uint16)] for k in (1, 2, 3, 4)}
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    distortion = (-0.1, 0.01, 0.001, -1e-4, 0.0)
    values = {
        "calibration_id": "bench-2025.03_a",
        "created_utc": "2025-03-01T08:15:30+00:00",
        "simulated": True,
        "camera": PinholeCamera(36, 24, 1000.1, 1001.7, 17.3, 11.9, distortion),
        "table_plane": Plane(np.array([0.1, -0.2, -1.0]) / math.sqrt(1.05), -200.3),
        "lights": tuple(reversed(lights)),
        "flat_field": build_flat_field(whites, dark, dict.fromkeys((1, 2, 3, 4), s), 4095),
        "dark": dark,
        "projectors": (
            Projector(2, 912, 1140, 1500.0, 1510.0, 455.5, 900.0, distortion, turn, np.array([80.0, 1, 2])),
        ),
        "provenance": {"recordings": [{"id": "r1", "sha256": "ab"}], "software": "0.1.0", "settings": {"grün": True}},
        "quality": {"camera_rms_px": np.float32(0.25), "per_pose": np.array([0.1, 0.2]), "none": None},
        "warnings": ("one", "two"),
    }
    return RigCalibration(**(values | changes))


MINIMAL = {"camera": None, "table_plane": None, "lights": (), "flat_field": None, "dark": None, "projectors": ()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make().save(tmp_path / "calibration" / "bench")


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make().save(tmp_path_factory.mktemp("rig") / "c")


class TestRoundTrip:
    def test_everything_comes_back_to_the_bit(self, folder: Path) -> None:
        saved, loaded = make(), RigCalibration.load(folder)
        assert loaded.content_sha256 == saved.content_sha256
        assert [light.zone for light in loaded.lights] == [1, 2, 3, 4]
        assert (loaded.lights[3].direction == saved.lights[3].direction).all()
        assert loaded.camera == saved.camera
        assert (loaded.projectors[0].rotation == saved.projectors[0].rotation).all()
        assert (loaded.flat_field.gains == saved.flat_field.gains).all()
        assert (loaded.flat_field.scales == saved.flat_field.scales).all()
        assert (loaded.dark.map == saved.dark.map).all() and loaded.dark.scale == saved.dark.scale
        assert loaded.provenance == saved.provenance and loaded.warnings == ("one", "two")
        assert loaded.quality == {"camera_rms_px": 0.25, "per_pose": [0.1, 0.2], "none": None}
        assert RigCalibration.verify(folder) == []
        assert sorted(p.name for p in folder.iterdir()) == ["arrays.npz", "rig_calibration.json"]

    def test_hash_is_that_of_the_canonical_json(self, folder: Path) -> None:
        data = json.loads((folder / "rig_calibration.json").read_text(encoding="utf-8"))
        recorded = data.pop("content_sha256")
        assert data.pop("arrays_sha256") == files.sha256_file(folder / "arrays.npz")
        assert files.sha256_bytes(files.canonical_json(data).encode()) == recorded == make().content_sha256
        gains = make().flat_field.gains
        expected = {"dtype": "uint16", "shape": [4, *SHAPE], "sha256": files.sha256_bytes(gains.tobytes())}
        assert data["flat_field"]["gains"] == expected

    @pytest.mark.parametrize("camera", [None, AffineCamera.orthographic(36, 24, 0.01)])
    def test_without_arrays(self, tmp_path: Path, camera: AffineCamera | None) -> None:
        rig = make(**(MINIMAL | {"camera": camera}))
        rig.save(tmp_path / "rig")
        assert [p.name for p in (tmp_path / "rig").iterdir()] == ["rig_calibration.json"]
        loaded = RigCalibration.load(tmp_path / "rig")
        assert loaded.content_sha256 == rig.content_sha256
        if camera is not None:
            assert (loaded.camera.matrix == camera.matrix).all()

    def test_format_of_the_maps_comes_back_and_may_be_absent(self, tmp_path: Path) -> None:
        rig = make(map_format=FrameFormat("BayerRG12", 16, 8, 2))
        loaded = RigCalibration.load(rig.save(tmp_path / "with"))
        assert loaded.map_format == rig.map_format and loaded.content_sha256 == rig.content_sha256
        assert loaded.summary()["map_format"] == {
            "pixel_format": "BayerRG12",
            "offset_x": 16,
            "offset_y": 8,
            "binning": 2,
        }
        make().save(tmp_path / "without")
        assert "map_format" not in json.loads((tmp_path / "without/rig_calibration.json").read_text(encoding="utf-8"))

    def test_hash_follows_every_part(self) -> None:
        rig = make()
        gains = rig.flat_field.gains.copy()
        gains[0, 0, 0] += 1
        changed = [
            replace(rig, simulated=False),
            replace(rig, warnings=()),
            replace(rig, lights=(*rig.lights[:3], replace(rig.lights[3], strength=0.5))),
            replace(rig, flat_field=replace(rig.flat_field, gains=gains)),
            replace(rig, dark=None),
            replace(rig, map_format=FrameFormat("Mono12")),
            replace(rig, map_format=FrameFormat("Mono12", binning=2)),
            replace(rig, projectors=()),
            replace(rig, quality={}),
        ]
        assert len({rig.content_sha256, *(c.content_sha256 for c in changed)}) == len(changed) + 1
        assert make().content_sha256 == rig.content_sha256

    def test_an_existing_folder_is_kept(self, folder: Path) -> None:
        other = make(calibration_id="other")
        with pytest.raises(StorageError, match="exists already"):
            other.save(folder)
        assert RigCalibration.load(folder).calibration_id == "bench-2025.03_a"
        other.save(folder, overwrite=True)
        assert RigCalibration.load(folder).calibration_id == "other"
        assert [p.name for p in folder.parent.iterdir()] == ["bench"]

    @given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
    @settings(max_examples=25, deadline=None)
    def test_any_plain_data(self, tmp_path_factory: pytest.TempPathFactory, data: dict[str, object]) -> None:
        where = tmp_path_factory.mktemp("rig") / "c"
        make(**(MINIMAL | {"provenance": data})).save(where)
        assert RigCalibration.load(where).provenance == data


class TestTampering:
    @given(data=st.data())
    @settings(max_examples=100, deadline=None)
    def test_one_changed_byte_is_found(self, shared_folder: Path, data: st.DataObject) -> None:
        path = shared_folder / data.draw(st.sampled_from(["rig_calibration.json", "arrays.npz"]))
        original = path.read_bytes()
        at, mask = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(1, 255))
        try:
            path.write_bytes(original[:at] + bytes([original[at] ^ mask]) + original[at + 1 :])
            assert RigCalibration.verify(shared_folder)
            with pytest.raises(CalibrationError):
                RigCalibration.load(shared_folder)
        finally:
            path.write_bytes(original)
        assert not RigCalibration.verify(shared_folder)

    def rewrite(self, folder: Path, change: dict[str, object]) -> None:
        """Edit the JSON by hand and make its hash fit, as someone would who wants it to be believed."""
        path = folder / "rig_calibration.json"
        data = json.loads(path.read_text(encoding="utf-8")) | change
        content = {k: v for k, v in data.items() if k not in ("content_sha256", "arrays_sha256")}
        data["content_sha256"] = files.sha256_bytes(files.canonical_json(content).encode())
        files.write_json(path, data)

    def fails(self, folder: Path, words: str, code: str) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            RigCalibration.load(folder)
        assert caught.value.code == code and caught.value.hint
        assert any(caught.value.message == problem for problem in RigCalibration.verify(folder))

    def test_value_edited(self, folder: Path) -> None:
        path = folder / "rig_calibration.json"
        path.write_text(path.read_text(encoding="utf-8").replace("1000.1", "1000.2"), encoding="utf-8")
        self.fails(folder, "was changed: content SHA-256", "calibration.hash_mismatch")

    def test_reformatted(self, folder: Path) -> None:
        path = folder / "rig_calibration.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
        self.fails(folder, "edited since", "calibration.hash_mismatch")

    def test_files_missing(self, folder: Path) -> None:
        (folder / "arrays.npz").unlink()
        self.fails(folder, "arrays.npz is missing; it must hold dark_map, flat_field_gains", "calibration.file_missing")
        (folder / "rig_calibration.json").unlink()
        with pytest.raises(CalibrationError, match=r"holds no rig_calibration\.json") as caught:
            RigCalibration.load(folder)
        assert caught.value.code == "calibration.not_found" and RigCalibration.verify(folder)

    def test_newer_schema(self, folder: Path) -> None:
        self.rewrite(folder, {"schema": 2})
        self.fails(folder, "schema = 2 is not known", "config.schema_unknown")

    @pytest.mark.parametrize(
        ("change", "words", "code"),
        [
            ({"ligths": []}, "unknown key ligths .did you mean 'lights'", "config.invalid"),
            ({"lights": "none"}, "lights = 'none'", "config.invalid"),
            ({"calibration_id": "../../etc"}, "calibration_id is '../../etc'", "calibration.rig_invalid"),
            ({"created_utc": "yesterday"}, "created_utc is 'yesterday'", "calibration.rig_invalid"),
            ({"table_plane": {"normal": [0, 0, 1], "offset_mm": 1}}, "towards", "calibration.plane_invalid"),
            ({"dark": None}, "allowed: ..flat_field_gains.npy", "calibration.hash_mismatch"),
            ({"dark": None, "flat_field": None}, "names no arrays", "calibration.hash_mismatch"),
        ],
    )
    def test_believable_but_wrong(self, folder: Path, change: dict[str, object], words: str, code: str) -> None:
        self.rewrite(folder, change)
        self.fails(folder, words, code)

    @pytest.mark.parametrize("text", ["NaN", "1e999", '"\\ud800"', "[" * 5000 + "]" * 5000, "9" * 5000])
    def test_values_that_json_should_not_hold(self, folder: Path, text: str) -> None:
        path = folder / "rig_calibration.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"none": null', f'"none": {text}'), encoding="utf-8")
        assert RigCalibration.verify(folder)
        with pytest.raises(CalibrationError, match=r"rig_calibration\.json"):
            RigCalibration.load(folder)

    def hostile(self, folder: Path, **arrays: np.ndarray) -> None:
        with open(folder / "arrays.npz", "wb") as handle:
            np.savez(handle, **arrays)
        self.believe(folder)

    def believe(self, folder: Path) -> None:
        self.rewrite(folder, {"arrays_sha256": files.sha256_file(folder / "arrays.npz")})

    def test_pickle_in_the_array_file(self, folder: Path, tmp_path: Path) -> None:
        trap = tmp_path / "trapped"

        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (trap,))

        rig = make()
        self.hostile(folder, dark_map=np.array([Trap()], dtype=object), flat_field_gains=rig.flat_field.gains)
        self.fails(folder, r"array dark_map is object of shape \(1,\)", "calibration.hash_mismatch")
        (folder / "arrays.npz").write_bytes(b"\x80\x04N.")  # a bare pickle
        self.believe(folder)
        self.fails(folder, "cannot be read: BadZipFile", "calibration.hash_mismatch")
        assert not trap.exists()

    def test_wrong_arrays(self, folder: Path) -> None:
        rig = make()
        dark, gains = rig.dark.map, rig.flat_field.gains
        other = gains.copy()
        other[0, 0, 0] += 1
        code = "calibration.hash_mismatch"
        self.hostile(folder, dark_map=dark.astype(np.float32), flat_field_gains=gains)
        self.fails(folder, "array dark_map is float32 of shape .24, 36.; recorded: uint16", code)
        self.hostile(folder, dark_map=dark, flat_field_gains=other)
        self.fails(folder, "array flat_field_gains was changed: SHA-256", code)
        self.hostile(folder, dark_map=dark, flat_field_gains=gains, more=dark)
        self.fails(folder, r"holds \['dark_map.npy', 'flat_field_gains.npy', 'more.npy'\]", code)
        self.hostile(folder, dark_map=dark)
        self.fails(folder, r"holds \['dark_map.npy'\]", code)
        self.hostile(folder, dark_map=np.asfortranarray(dark), flat_field_gains=gains)
        self.fails(folder, "C order", code)

    def test_compressed_and_cut_arrays(self, folder: Path) -> None:
        rig = make()
        np.savez_compressed(folder / "arrays.npz", dark_map=rig.dark.map, flat_field_gains=rig.flat_field.gains)
        self.believe(folder)
        self.fails(folder, "array dark_map is compressed; allowed: stored", "calibration.hash_mismatch")
        with zipfile.ZipFile(folder / "arrays.npz") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(folder / "arrays.npz", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content[:-1])
        self.believe(folder)
        assert len([p for p in RigCalibration.verify(folder) if "its shape" in p]) == 2

    def test_verify_names_every_problem(self, folder: Path) -> None:
        (folder / "arrays.npz").write_bytes(b"cut")
        path = folder / "rig_calibration.json"
        path.write_text(path.read_text(encoding="utf-8").replace("1000.1", "1000.2"), encoding="utf-8")
        problems = RigCalibration.verify(folder)
        assert len(problems) == 3
        assert "arrays.npz was changed" in problems[0] and "cannot be read" in problems[1]
        assert "content SHA-256" in problems[2]


class TestChecks:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"calibration_id": ""}, "calibration_id is ''"),
            ({"calibration_id": "a/b"}, "'a/b'"),
            ({"created_utc": "2025-03-01T08:15:30"}, "offset zero"),
            ({"created_utc": "2025-03-01T08:15:30+02:00"}, "offset zero"),
            ({"created_utc": None}, "created_utc is None"),
            ({"simulated": 1}, "simulated is 1"),
            ({"camera": "pinhole"}, "camera is 'str'; allowed: PinholeCamera or AffineCamera"),
            ({"table_plane": 3}, "table_plane is 'int'"),
            ({"lights": (1, 2)}, "Light objects"),
            ({"lights": ()}, "without a light"),
            ({"lights": (Light(1, np.array([0, 0, 1.0])),) * 2}, r"zones \[1, 1\]'; allowed: each zone once"),
            ({"quality": {"rms": {"a": [1.0, math.nan]}}}, r"quality.rms.a\[2\] is nan"),
            ({"quality": {"rms": np.inf}}, "quality.rms is inf"),
            ({"provenance": {"keys": {1, 2}}}, "provenance.keys is 'set'"),
            ({"provenance": {"path": "\ud800"}}, "provenance.path is .*UTF-8"),
            ({"provenance": {1: 2}}, "provenance is 'dict'"),
            ({"provenance": None}, "provenance is 'NoneType'"),
            ({"warnings": (1,)}, "warnings"),
        ],
    )
    def test_bad_values(self, changes: dict[str, object], words: str) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            make(**changes)
        assert caught.value.code == "calibration.rig_invalid" and caught.value.hint

    def test_parts_of_different_size(self) -> None:
        words = "camera 36×25 px, flat field 36×24 px, dark 36×24 px"
        with pytest.raises(CalibrationError, match=words) as caught:
            make(camera=AffineCamera.orthographic(36, 25, 0.01))
        assert caught.value.code == "calibration.size_mismatch"

    def test_check_frame(self) -> None:
        rig = make()
        rig.check_frame(36, 24)
        make(**MINIMAL).check_frame(7, 8)
        with pytest.raises(CalibrationError, match=r"frames of 18×12 px do not fit .*: camera 36×24") as caught:
            rig.check_frame(18, 12)
        assert caught.value.code == "calibration.size_mismatch" and "binning" in caught.value.hint

    def test_summary(self) -> None:
        summary = make().summary(now=datetime(2025, 3, 11, 8, 15, 30, tzinfo=UTC))
        json.dumps(summary, allow_nan=False)
        assert summary["age_days"] == 10 and summary["condition_number"] == pytest.approx(2.6, abs=0.5)
        assert summary["camera"] == {"type": "pinhole", "width": 36, "height": 24}
        assert [light["zone"] for light in summary["lights"]] == [1, 2, 3, 4]
        assert summary["lights"][0]["slant_deg"] == 45 and summary["lights"][3]["position_mm"] == [1.0, 150.0, 50.0]
        assert summary["flat_field"]["zones"] == [1, 2, 3, 4] and summary["dark"] == {"exposure_us": 5000.0}
        assert [p["direction"] for p in summary["projectors"]] == [2]
        assert summary["content_sha256"] == make().content_sha256

    def test_summary_says_where_projectors_stand(self) -> None:
        """One 173 mm above the table and 100 mm aside of its middle: 200 mm away at 30°."""
        centre = np.array([100.0, 0.0, 200 - 100 * math.sqrt(3)])
        projector = Projector(1, 912, 1140, 1500, 1500, 455, 570, (0,) * 5, np.eye(3), -centre)
        camera = PinholeCamera(36, 24, 1000, 1000, 17.5, 11.5)
        places = {"camera": camera, "table_plane": Plane(np.array([0, 0, -1.0]), -200), "projectors": (projector,)}
        expected = {"direction": 1, "distance_mm": 200.0, "angle_deg": 30.0}
        assert make(**places).summary()["projectors"] == [expected]
        unknown = {"direction": 1, "distance_mm": None, "angle_deg": None}
        assert make(**places | {"table_plane": None}).summary()["projectors"] == [unknown]

    def test_summary_shows_what_is_wrong_with_the_lights(self) -> None:
        rig = make(lights=make().lights[:2], flat_field=None)
        assert rig.summary()["condition_number"] is None
        assert "2 lights; photometric stereo needs at least 3" in rig.summary()["warnings"]
        assert make(**MINIMAL).summary()["warnings"] == ["one", "two"]

    def test_utc_now_is_accepted(self) -> None:
        assert make(created_utc=utc_now()).summary()["age_days"] == pytest.approx(0, abs=0.01)
