"""What the simulator says about a scene, against hand-made scenes whose answers are known."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rakelight.acquisition.simulator import truth
from rakelight.acquisition.simulator.rig import Lens, Rig, Sensor, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part, Pose
from rakelight.calibration.flat_field import apply_flat_field
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.reconstruction.models import PinholeCamera, light_matrix

GREY = Material((0.5, 0.5, 0.5))


def quad(x0: float, y0: float, x1: float, y1: float, z: float, slope_deg: float = 0.0) -> Mesh:
    """A rectangle seen from above, risen by the slope along x about its middle."""
    rise = math.tan(math.radians(slope_deg)) * (x1 - x0) / 2
    points = np.array([[x0, y0, z - rise], [x1, y0, z + rise], [x1, y1, z + rise], [x0, y1, z - rise]])
    normal = np.array([-math.sin(math.radians(slope_deg)), 0, math.cos(math.radians(slope_deg))])
    return Mesh(points, np.tile(normal, (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32))


def narrow(width: int = 60, height: int = 40) -> Rig:
    """20 µm a pixel on the table, its middle between the four pixels in the middle."""
    lens = Lens(width, height, 10_000.0, 10_000.0, (width - 1) / 2, (height - 1) / 2)
    return replace(reference_rig(456), camera=lens)


def matrix(camera: PinholeCamera) -> np.ndarray:
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])


def coarse() -> Rig:
    """The whole field of the reference rig on 114 × 76 px."""
    rig = reference_rig(456)
    c = rig.camera
    lens = Lens(114, 76, c.fx / 4, c.fy / 4, (c.cx + 0.5) / 4 - 0.5, (c.cy + 0.5) / 4 - 0.5, c.distortion)
    return replace(rig, camera=lens)


# 4 mm above the table pixels u see x = (u − 29.5) · 0.0196; the borders of the patch lie between pixels, 10 … 24 and 8 … 19.
PITCH = 0.02 * 196 / 200
LEFT, RIGHT = (10 - 0.5 - 29.5) * PITCH, (24 + 0.5 - 29.5) * PITCH
TOP, BOTTOM = -(8 - 0.5 - 19.5) * PITCH, -(19 + 0.5 - 19.5) * PITCH
PATCH = np.zeros((40, 60), bool)
PATCH[8:20, 10:25] = True


def frame_with(middle: Mesh | None, material: Material = GREY) -> Part:
    """A plane 4 mm above the table with a rectangle cut out of it, in which ``middle`` lies."""
    around = [
        quad(-5, -5, LEFT, 5, 4.0),
        quad(RIGHT, -5, 5, 5, 4.0),
        quad(LEFT, TOP, RIGHT, 5, 4.0),
        quad(LEFT, -5, RIGHT, BOTTOM, 4.0),
    ]
    pieces = [Component(f"around_{k}", mesh, material) for k, mesh in enumerate(around)]
    if middle is not None:
        pieces.append(Component("middle", middle, material))
    return Part("frame", tuple(pieces))


def patch_at(z: float, slope_deg: float = 0.0) -> Part:
    return frame_with(quad(LEFT, BOTTOM, RIGHT, TOP, z, slope_deg))


def painted(diffuse: float, specular: float = 1.0) -> Part:
    """A flat plane whose reflectance changes by these factors on the patch."""

    def paint(points: np.ndarray) -> np.ndarray:
        inside = (points[:, 0] > LEFT) & (points[:, 0] < RIGHT) & (points[:, 1] < TOP) & (points[:, 1] > BOTTOM)
        return np.where(inside[:, None], [diffuse, diffuse, diffuse, specular], 1.0)

    material = Material((0.5, 0.4, 0.3), (0.04, 0.04, 0.04), 0.4, paint)
    return Part("plane", (Component("plane", quad(-5, -5, 5, 5, 4.0), material),))


def mask_of(part: Part, flawless: Part) -> np.ndarray:
    return truth.defect_mask(Scene(part, narrow(), samples=1), Scene(flawless, narrow(), samples=1))


class TestDefectMask:
    def test_sunk_patch(self) -> None:
        np.testing.assert_array_equal(mask_of(patch_at(3.995), patch_at(4.0)), PATCH)

    def test_raised_patch(self) -> None:
        np.testing.assert_array_equal(mask_of(patch_at(4.003), patch_at(4.0)), PATCH)

    def test_tilted_patch(self) -> None:
        """1.2° is a defect even where the depth has not changed; 0.2° moves no point by 2 µm and is none."""
        np.testing.assert_array_equal(mask_of(patch_at(4.0, 1.2), patch_at(4.0)), PATCH)
        assert not mask_of(patch_at(4.0, 0.2), patch_at(4.0)).any()

    def test_darker_patch(self) -> None:
        np.testing.assert_array_equal(mask_of(painted(0.95), painted(1.0)), PATCH)

    def test_less_glossy_patch(self) -> None:
        """F0 0.04 → 0.03 beside a diffuse 0.5: 2 % of the larger."""
        np.testing.assert_array_equal(mask_of(painted(1.0, 0.75), painted(1.0)), PATCH)

    @pytest.mark.parametrize(
        ("part", "flawless"),
        [(patch_at(3.9985), patch_at(4.0)), (painted(0.992), painted(1.0)), (patch_at(4.0), patch_at(4.0))],
    )
    def test_what_is_too_small_is_none(self, part: Part, flawless: Part) -> None:
        assert not mask_of(part, flawless).any()

    def test_missing_piece(self) -> None:
        """Where the table is seen instead of the part."""
        part, flawless = (Scene(p, narrow(), samples=1) for p in (frame_with(None), patch_at(4.0)))
        np.testing.assert_array_equal(truth.defect_mask(part, flawless), PATCH)
        np.testing.assert_array_equal(truth.part_mask(part.surface), ~PATCH)
        assert truth.part_mask(flawless.surface).all()

    def test_added_piece(self) -> None:
        np.testing.assert_array_equal(mask_of(patch_at(4.0), frame_with(None)), PATCH)

    def test_many_rows(self) -> None:
        """More rows than are worked on at once."""
        rig = replace(narrow(20, 700), camera=Lens(20, 700, 10_000.0, 10_000.0, 9.5, 349.5))
        pair = (Scene(Part("p", (Component("p", quad(-9, -9, 9, 9, z), GREY),)), rig, samples=1) for z in (4.005, 4.0))
        assert truth.defect_mask(*pair).all()


class TestMaps:
    def test_frames_and_units(self) -> None:
        """Camera frame: x right, y down, z away; normals in the viewer frame, y up, towards the camera."""
        rig = narrow()
        surface = Scene(
            Part("p", (Component("p", quad(-5, -5, 5, 5, 0.0), GREY),)), rig, Pose(z_mm=4, tilt_x_deg=-10)
        ).surface
        xyz = truth.xyz_camera(surface, rig)
        assert xyz.dtype == np.float32 and xyz.shape == (40, 60, 3)
        assert (np.diff(xyz[..., 0], axis=1) > 0).all() and (np.diff(xyz[..., 1], axis=0) > 0).all()
        tangent = math.tan(math.radians(10))  # turned by −10° about x: what lies up in the picture goes down
        np.testing.assert_allclose(xyz[..., 2], 196 - tangent * xyz[..., 1], atol=1e-4)
        normal = (0, math.sin(math.radians(10)), math.cos(math.radians(10)))
        np.testing.assert_allclose(surface.normals, np.broadcast_to(normal, (40, 60, 3)), atol=1e-6)

    def test_files(self, tmp_path: Path) -> None:
        scene, flawless = (Scene(p, narrow(), samples=1) for p in (patch_at(3.99), patch_at(4.0)))
        folder = tmp_path / "truth"
        folder.mkdir()
        facts = {"product": "frame", "seed": 3} | truth.write_maps(folder, scene, flawless)
        document = truth.write_document(folder, scene.rig, {}, facts)
        assert document == json.loads((folder / "truth.json").read_text())
        assert document["seed"] == 3 and document["part_pixels"] == 2400 and document["defect_pixels"] == PATCH.sum()
        assert document["defect_share"] == pytest.approx(PATCH.sum() / 2400, abs=1e-6)
        masks = {name: cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_UNCHANGED) for name in ("mask", "zones_lit")}
        assert (masks["mask"] == 255).all()
        # 10 µm below the plane, under 45°, the rim's shadow falls on one pixel beside it at most.
        assert (masks["zones_lit"][~PATCH] == 15).all() and (masks["zones_lit"][10:18, 12:23] == 15).all()
        defect = cv2.imread(str(folder / "defect_mask.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(defect, PATCH * 255)
        xyz = cv2.imread(str(folder / "xyz.tiff"), cv2.IMREAD_UNCHANGED)[..., ::-1]  # OpenCV reads B, G, R
        np.testing.assert_allclose(xyz[..., 2], np.where(PATCH, 196.01, 196), atol=1e-4)
        normals = cv2.imread(str(folder / "normals.tiff"), cv2.IMREAD_UNCHANGED)[..., ::-1]
        np.testing.assert_allclose(normals, np.broadcast_to((0, 0, 1), normals.shape), atol=1e-7)
        assert set(document["sha256"]) == {path.name for path in folder.iterdir()} - {"truth.json"}
        for name, digest in document["sha256"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest

    def test_good_part_has_no_defect(self, tmp_path: Path) -> None:
        document = truth.write_maps(tmp_path, Scene(patch_at(4.0), narrow(), samples=1), None)
        assert document["defect_pixels"] == 0 and document["part_pixels"] == 2400
        assert not cv2.imread(str(tmp_path / "defect_mask.png"), cv2.IMREAD_UNCHANGED).any()


class TestModels:
    def test_lights_are_where_they_should_be(self) -> None:
        """Small tiles put where lights are: the camera sees them where their positions project to."""
        rig = reference_rig(456)
        places = [(18.0, 9.0, 3.0), (-15.0, 11.0, 12.0), (-8.0, -9.0, 30.0), (10.0, -6.0, 60.0)]
        lights = tuple(replace(x, position_mm=p) for x, p in zip(rig.lights, places, strict=True))
        models = [truth.light_model(light, rig, 0.0) for light in lights]
        tiles = tuple(
            Component(f"tile_{k}", quad(x - 0.6, y - 0.6, x + 0.6, y + 0.6, z), GREY)
            for k, (x, y, z) in enumerate(places)
        )
        surface = Scene(Part("tiles", tiles), rig, samples=1).surface
        camera = truth.camera_model(rig.camera)
        for number, model in enumerate(models, 1):
            assert model.position_mm is not None
            at = cv2.projectPoints(
                model.position_mm[None], np.zeros(3), np.zeros(3), matrix(camera), np.array(camera.distortion)
            )[0].ravel()
            v, u = np.nonzero(surface.body == number)
            assert (u.mean(), v.mean()) == pytest.approx(tuple(at), abs=0.5)

    def test_light_vectors(self) -> None:
        """Direction and strength at a height: towards the light, strength · (210/d)²."""
        rig = reference_rig(456)
        for light, azimuth in zip(rig.lights, (0, 90, 180, 270), strict=True):
            for height in (0.0, 10.0):
                model = truth.light_model(light, rig, height)
                towards = np.array(light.position_mm) - (0, 0, height)
                distance = np.linalg.norm(towards)
                np.testing.assert_allclose(model.direction, towards / distance, atol=1e-12)
                assert model.strength == pytest.approx(light.strength * (210 / distance) ** 2)
                # and so everywhere, by the model's own fall-off: 5 mm aside in the camera frame
                x = np.array([5.0, -3.0, 200.0 - height])
                to_light = np.array(light.position_mm) - (5.0, 3.0, height)
                expected = light.strength * 210**2 * to_light / np.linalg.norm(to_light) ** 3
                np.testing.assert_allclose(model.vectors(x[None])[0], expected, rtol=1e-9)
            assert truth.light_model(light, rig, 0.0).azimuth_deg == pytest.approx(azimuth, abs=1e-9)

    def test_projector_centre_and_axis(self) -> None:
        rig = reference_rig(456)
        for source in rig.projectors:
            model = truth.projector_model(source, rig)
            np.testing.assert_allclose(model.centre_mm, source.centre_mm * (1, -1, -1) + (0, 0, 200), atol=1e-9)
            # 30° from the vertical; its axis meets the table below the camera, at the principal point
            assert model.project(np.array([[0.0, 0.0, 200.0]]))[0] == pytest.approx((model.cx, model.cy), abs=1e-9)
            assert model.rotation[2, 2] == pytest.approx(math.cos(math.radians(30)))


class TestRigCalibration:
    @pytest.mark.parametrize("height", [0.0, 8.0])
    @pytest.mark.parametrize("pixel_format", ["BayerRG12", "Mono8"])
    def test_flat_field_makes_a_plane_level(self, height: float, pixel_format: str) -> None:
        """A matte grey plane at the white plane's height, no noise, least squares over four zones: (0, 0, 1)."""
        rig = replace(coarse(), ambient=0.0, sensor=Sensor(pixel_format, prnu=0.02))
        calibration = truth.rig_calibration(rig, white_height_mm=height)
        assert calibration.flat_field is not None
        plane = Part("plane", (Component("plane", quad(-60, -45, 60, 45, max(height, 0.02)), GREY),))
        scene = Scene(plane, rig)
        corrected = [
            apply_flat_field(
                scene.expected_dn([(Lit({light.zone: 1.0}), 900.0)]),
                calibration.dark,
                calibration.flat_field.gain(light.zone),
            )
            for light in calibration.lights
        ]
        normals = np.linalg.lstsq(light_matrix(calibration.lights), np.reshape(corrected, (4, -1)), rcond=None)[0]
        angle = np.degrees(np.arctan2(np.hypot(normals[0], normals[1]), normals[2]))
        assert angle.max() < 0.3
        albedo = np.linalg.norm(normals, axis=0)
        assert albedo.std() / albedo.mean() < 0.003  # PRNU of 2 % and the filter's colours are gone

    def test_round_trip(self, tmp_path: Path) -> None:
        rig = reference_rig(456)
        calibration = truth.rig_calibration(rig, white_height_mm=6.0)
        loaded = RigCalibration.load(calibration.save(tmp_path / "calibration"))
        assert loaded.content_sha256 == calibration.content_sha256
        assert loaded.simulated and loaded.calibration_id == "simulated-456x304-BayerRG12-6mm"
        assert [x.zone for x in loaded.lights] == [x.direction for x in loaded.projectors] == [1, 2, 3, 4]
        for here, light in zip(loaded.lights, rig.lights, strict=True):
            np.testing.assert_allclose(here.position_mm, np.array(light.position_mm) * (1, -1, -1) + (0, 0, 200))
        camera = loaded.camera
        assert isinstance(camera, PinholeCamera) and camera.distortion[0] == rig.camera.distortion[0]
        plane = loaded.table_plane
        assert plane is not None
        assert plane.height_mm(np.array([[3.0, -2.0, 200.0], [0.0, 0.0, 194.0]])) == pytest.approx([0, 6])
        assert loaded.map_format is not None and loaded.map_format.pixel_format == "BayerRG12"

    def test_only_the_time_differs(self) -> None:
        one, two = (truth.rig_calibration(coarse()) for _ in range(2))
        assert one.flat_field is not None and two.flat_field is not None
        np.testing.assert_array_equal(one.flat_field.gain(1), two.flat_field.gain(1))
        assert replace(two, created_utc=one.created_utc).content_sha256 == one.content_sha256
