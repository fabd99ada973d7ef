"""Cameras, projectors, lights and planes against closed forms and OpenCV."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import (
    AffineCamera,
    Light,
    PinholeCamera,
    Plane,
    Projector,
    distort_points,
    light_geometry,
    light_matrix,
    undistort_points,
)

BARREL = (-0.28, 0.09, 0.0012, -0.0008, -0.012)
PINCUSHION = (0.35, 0.12, -0.002, 0.003, 0.05)
CAMERA = PinholeCamera(640, 480, 620.0, 630.0, 311.5, 244.25, BARREL)


def rotation(axis: tuple[float, float, float], angle_deg: float) -> np.ndarray:
    unit = np.asarray(axis, float) / np.linalg.norm(axis)
    return cv2.Rodrigues(unit * math.radians(angle_deg))[0]


def ring(slant_deg: float, count: int = 4) -> list[Light]:
    s, c = math.sin(math.radians(slant_deg)), math.cos(math.radians(slant_deg))
    turns = [2 * math.pi * k / count for k in range(count)]
    return [Light(k + 1, np.array([s * math.cos(a), s * math.sin(a), c])) for k, a in enumerate(turns)]


def grid(width: int, height: int, step: int = 7) -> np.ndarray:
    v, u = np.mgrid[0:height:step, 0:width:step]
    return np.stack((u, v), axis=-1).astype(float)


class TestDistortion:
    @pytest.mark.parametrize("coefficients", [BARREL, PINCUSHION])
    def test_agrees_with_opencv(self, coefficients: tuple[float, ...]) -> None:
        xy = np.random.default_rng(1).uniform(-0.7, 0.7, (500, 2))
        xyz = np.concatenate((xy, np.ones((500, 1))), axis=1)
        expected, _ = cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), np.eye(3), np.array(coefficients))
        np.testing.assert_allclose(distort_points(xy, coefficients), expected[:, 0], atol=1e-14)

    def test_inverse_agrees_with_opencv(self) -> None:
        uv = grid(640, 480).reshape(-1, 2)
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-14)
        matrix, coefficients = CAMERA.matrix, np.array(BARREL)
        expected = cv2.undistortPoints(uv[:, None], matrix, coefficients, None, None, None, stop)[:, 0]
        _, directions = CAMERA.rays(uv)
        np.testing.assert_allclose(directions[:, :2] / directions[:, 2:], expected, atol=1e-9)

    @given(
        k1=st.floats(-0.25, 0.4),
        k2=st.floats(0, 0.1),
        p1=st.floats(-0.005, 0.005),
        p2=st.floats(-0.005, 0.005),
        x=st.floats(-0.6, 0.6),
        y=st.floats(-0.6, 0.6),
    )
    @settings(max_examples=200, deadline=None)
    def test_inverse_undoes_it(self, k1: float, k2: float, p1: float, p2: float, x: float, y: float) -> None:
        coefficients = (k1, k2, p1, p2, 0.0)
        back = undistort_points(distort_points((x, y), coefficients), coefficients)
        np.testing.assert_allclose(back, (x, y), atol=1e-12)

    def test_many_points_and_nan(self) -> None:
        xy = np.random.default_rng(2).uniform(-0.5, 0.5, (3, 50_000, 2))  # more than one chunk
        xy[1, 7] = np.nan
        back = undistort_points(distort_points(xy, BARREL), BARREL)
        assert np.isnan(back[1, 7]).all()
        np.testing.assert_allclose(back, xy, atol=1e-12)

    def test_fold_is_refused(self) -> None:
        # x(1 - x²) has its maximum 0.385 at 0.577: nothing maps to 0.5
        with pytest.raises(InputError, match=r"1 points, first at normalised \(0.5, 0\)") as caught:
            undistort_points([[0.1, 0.0], [0.5, 0.0]], (-1.0, 0, 0, 0, 0))
        assert caught.value.code == "distortion.not_invertible" and "k3" in caught.value.hint

    def test_bad_input(self) -> None:
        with pytest.raises(InputError, match="shape"):
            distort_points(np.zeros((4, 3)), BARREL)
        with pytest.raises(InputError, match=r"shape \(4,\)"):
            undistort_points(np.zeros((4, 2)), BARREL[:4])
        with pytest.raises(InputError, match="1 NaN"):
            distort_points(np.zeros((4, 2)), (math.nan, 0, 0, 0, 0))


class TestPinholeCamera:
    def test_projects_as_opencv(self) -> None:
        xyz = np.random.default_rng(3).uniform((-40, -30, 150), (40, 30, 250), (6, 50, 3))
        expected, _ = cv2.projectPoints(
            xyz.reshape(-1, 3), np.zeros(3), np.zeros(3), CAMERA.matrix, np.array(CAMERA.distortion)
        )
        np.testing.assert_allclose(CAMERA.project(xyz).reshape(-1, 2), expected[:, 0], atol=1e-10)

    @pytest.mark.parametrize("coefficients", [(0.0,) * 5, BARREL, PINCUSHION])
    def test_ray_round_trip(self, coefficients: tuple[float, ...]) -> None:
        camera = PinholeCamera(640, 480, 620.0, 630.0, 311.5, 244.25, coefficients)
        uv = grid(640, 480)
        origins, directions = camera.rays(uv)
        np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-14)
        np.testing.assert_allclose(camera.project(origins + 217.0 * directions), uv, atol=1e-9)

    def test_behind_is_nan(self) -> None:
        uv = CAMERA.project([[0.0, 0.0, -5.0], [1.0, 2.0, 0.0], [math.nan, 0.0, 5.0], [0.0, 0.0, 5.0]])
        assert np.isnan(uv[:2]).all() and np.isnan(uv[2]).any()
        np.testing.assert_allclose(uv[3], (311.5, 244.25))

    @given(b=st.integers(1, 8), ox=st.integers(0, 100), oy=st.integers(0, 100))
    def test_window_closed_form(self, b: int, ox: int, oy: int) -> None:
        part = CAMERA.window(ox, oy, 60, 40, b)
        xyz = np.array([[3.0, -4.0, 200.0], [-20.0, 11.0, 180.0]])
        full = CAMERA.project(xyz)
        np.testing.assert_allclose(b * part.project(xyz) + (b - 1) / 2 + (ox, oy), full, atol=1e-9)
        assert (part.width, part.height) == (60, 40)

    def test_binned_image_keeps_its_centre(self) -> None:
        camera = PinholeCamera(5472, 3648, 20000, 20000, 2735.5, 1823.5)
        small = camera.window(0, 0, 684, 456, 8)
        assert (small.cx, small.cy, small.fx) == (341.5, 227.5, 2500)

    @pytest.mark.parametrize(
        ("window", "words"),
        [
            ((0, 0, 641, 480), "641×480 px; the camera has 640×480"),
            ((600, 0, 21, 10, 2), "642×20"),
            ((-1, 0, 10, 10), "offset x is -1"),
            ((0, 0, 10.0, 10), "width is 10.0"),
            ((0, 0, 10, 10, 0), "binning is 0"),
        ],
    )
    def test_window_outside(self, window: tuple[int, ...], words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            CAMERA.window(*window)
        assert caught.value.code == "input.window"

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ((0, 480, 1, 1, 0, 0), r"camera width \(px\) is 0; allowed: an integer from 1 to 65536"),
            ((640, 480.5, 1, 1, 0, 0), "480.5"),
            ((640, 480, -3.0, 1, 0, 0), "fx .* is -3"),
            ((640, 480, 1, math.nan, 0, 0), "fy .* is nan"),
            ((640, 480, 1, 1, math.inf, 0), "cx .* is inf"),
            ((640, 480, 1, 1, 0, "x"), "cy .* is 'x'"),
            ((640, 480, 1, 1, 0, 0, (0, 0, 0, 0)), r"shape \(4,\); allowed: shape \(5,\)"),
            ((640, 480, 1, 1, 0, 0, (0, 0, math.nan, 0, 0)), "allowed: finite"),
        ],
    )
    def test_bad_values(self, values: tuple[object, ...], words: str) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            PinholeCamera(*values)
        assert caught.value.code == "calibration.camera_invalid" and "calibrate the camera" in caught.value.hint

    def test_bad_points(self) -> None:
        with pytest.raises(InputError, match=r"pixels: shape \(3,\)"):
            CAMERA.rays([1, 2, 3])


class TestAffineCamera:
    def test_orthographic(self) -> None:
        camera = AffineCamera.orthographic(101, 51, 0.05)
        np.testing.assert_allclose(camera.project([0.0, 0.0, 200.0]), (50, 25), atol=1e-12)
        np.testing.assert_allclose(camera.project([1.0, 0.5, 10.0]), (70, 35), atol=1e-12)
        origins, directions = camera.rays([[70.0, 35.0]])
        np.testing.assert_allclose(origins, [[1.0, 0.5, 0.0]], atol=1e-12)
        np.testing.assert_allclose(directions, [[0, 0, 1]])

    def test_oblique_round_trip_and_window(self) -> None:
        camera = AffineCamera(200, 150, np.array([[20.0, 0.3, -1.5], [-0.2, 19.5, 2.0]]), np.array([90.0, 71.0]))
        uv = grid(200, 150)
        origins, directions = camera.rays(uv)
        assert directions[0, 0, 2] > 0
        np.testing.assert_allclose(origins @ camera.direction, 0, atol=1e-12)
        for distance in (-30.0, 0.0, 217.0):
            np.testing.assert_allclose(camera.project(origins + distance * directions), uv, atol=1e-9)
        part = camera.window(10, 20, 40, 30, 3)
        np.testing.assert_allclose(3 * part.project(origins) + 1 + (10, 20), uv, atol=1e-9)

    def test_degenerate(self) -> None:
        for matrix in (np.zeros((2, 3)), [[1, 2, 3], [2, 4, 6]], [[1, 0, 0], [0, 0, 1]]):
            with pytest.raises(CalibrationError, match="rank 2") as caught:
                AffineCamera(10, 10, np.asarray(matrix, float), np.zeros(2))
            assert caught.value.code == "calibration.camera_invalid"
        with pytest.raises(CalibrationError, match="pixel pitch"):
            AffineCamera.orthographic(10, 10, 0.0)


class TestProjector:
    def projector(self, **changes: object) -> Projector:
        turn = rotation((1, 2, 0.3), 30)
        values = {"direction": 2, "width": 912, "height": 1140, "fx": 1500.0, "fy": 1510.0, "cx": 455.5, "cy": 900.0}
        values |= {"distortion": PINCUSHION, "rotation": turn, "translation_mm": np.array([80.0, -12.0, 30.0])}
        return Projector(**(values | changes))

    def test_projects_as_opencv_and_back(self) -> None:
        projector = self.projector()
        xyz = np.random.default_rng(4).uniform((-20, -15, 180), (20, 15, 220), (100, 3))
        expected, _ = cv2.projectPoints(
            xyz,
            cv2.Rodrigues(projector.rotation)[0],
            projector.translation_mm,
            projector.optics.matrix,
            np.array(PINCUSHION),
        )
        colrow = projector.project(xyz)
        np.testing.assert_allclose(colrow, expected[:, 0], atol=1e-9)
        origins, directions = projector.rays(colrow)
        along = np.einsum("ni,ni->n", xyz - origins, directions)
        np.testing.assert_allclose(origins + along[:, None] * directions, xyz, atol=1e-9)
        np.testing.assert_allclose(projector.rotation @ projector.centre_mm + projector.translation_mm, 0, atol=1e-12)

    def test_bad_values(self) -> None:
        turn = rotation((0, 0, 1), 20)
        for changes, words in (
            ({"direction": 5}, "direction is 5; allowed: an integer from 1 to 4"),
            ({"rotation": turn * 1.01}, "orthonormal"),
            ({"rotation": np.diag([1.0, 1.0, -1.0])}, "determinant -1"),
            ({"rotation": np.eye(4)}, r"shape \(4, 4\)"),
            ({"translation_mm": [0, math.nan, 0]}, "finite"),
        ):
            with pytest.raises(CalibrationError, match=words) as caught:
                self.projector(**changes)
            assert caught.value.code == "calibration.projector_invalid"


class TestPlane:
    def test_from_points(self) -> None:
        normal = np.array([0.1, -0.2, -1.0]) / math.sqrt(1.05)
        side = np.linalg.svd(normal[None])[2][1:]
        flat = np.random.default_rng(5).uniform(-30, 30, (20, 25, 2))
        points = -200 * normal + flat @ side
        points[0, 0] = np.nan
        plane = Plane.from_points(points)
        np.testing.assert_allclose(plane.normal, normal, atol=1e-12)
        assert plane.offset_mm == pytest.approx(-200)
        np.testing.assert_allclose(plane.height_mm(points + 3 * plane.normal)[1:], 3, atol=1e-9)

    def test_height_is_positive_towards_the_camera(self) -> None:
        table = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
        np.testing.assert_allclose(table.height_mm([[0, 0, 195.0], [9, 9, 201.0]]), [5, -1])

    @given(a=st.floats(-0.4, 0.4), b=st.floats(-0.4, 0.4), z=st.floats(50, 500))
    def test_intersections_lie_on_plane_and_ray(self, a: float, b: float, z: float) -> None:
        plane = Plane.from_points([[0, 0, z], [1, 0, z + a], [0, 1, z + b]])
        uv = grid(640, 480, 90)
        xyz = plane.intersect(*CAMERA.rays(uv))
        np.testing.assert_allclose(plane.height_mm(xyz), 0, atol=1e-9)
        np.testing.assert_allclose(CAMERA.project(xyz), uv, atol=1e-7)

    def test_ray_away_is_nan(self) -> None:
        table = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
        met = table.intersect(np.zeros(3), [[0, 0, 1.0], [1.0, 0, 0], [0, 0, -1.0]])
        np.testing.assert_allclose(met[0], (0, 0, 200))
        assert np.isnan(met[1:]).all()

    @pytest.mark.parametrize(
        ("points", "words"),
        [
            ([[0, 0, 1.0], [0, 1, 1.0], [math.nan, 0, 1]], "is 2; allowed: at least 3"),
            ([[0, 0, 1.0], [1, 0, 1.0], [2, 0, 1.0]], "not on one line"),
            ([[1, 1, 1.0]] * 4, "not on one line"),
        ],
    )
    def test_degenerate_points(self, points: list[list[float]], words: str) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            Plane.from_points(points)
        assert caught.value.code == "calibration.plane_invalid"

    def test_bad_values(self) -> None:
        for normal, offset, words in (
            ((0, 0, 1), 200.0, "towards the camera"),
            ((0, 0, -1.01), -200.0, "length of plane normal is 1.01"),
            ((0, 0, -1), math.nan, "offset .* is nan"),
        ):
            with pytest.raises(CalibrationError, match=words):
                Plane(np.array(normal, float), offset)


class TestLight:
    def test_angles_follow_the_zone_order(self) -> None:
        lights = ring(45)
        np.testing.assert_allclose([x.slant_deg for x in lights], 45)
        np.testing.assert_allclose([x.azimuth_deg for x in lights], [0, 90, 180, 270], atol=1e-9)
        assert Light(1, np.array([0.6, -0.01, 0.8]) / math.hypot(1, 0.01)).azimuth_deg == pytest.approx(
            -0.955, abs=1e-3
        )

    def test_distant_light(self) -> None:
        light = Light(3, np.array([0.6, 0.0, 0.8005]), 2.5)
        assert np.linalg.norm(light.direction) == pytest.approx(1, abs=1e-15)
        np.testing.assert_allclose(light.vectors(np.zeros((4, 5, 3))), np.broadcast_to(light.vectors(), (4, 5, 3)))
        assert np.linalg.norm(light.vectors()) == pytest.approx(2.5)
        assert not light.direction.flags.writeable

    def test_near_light_inverse_square_law(self) -> None:
        # 100 mm to the right of, 50 mm above (y up = −y camera) and 120 mm before the point (0, 0, 200)
        light = Light.near(1, [100.0, -50.0, 80.0], [0.0, 0.0, 200.0], 3.0)
        towards = np.array([100.0, 50.0, 120.0])
        np.testing.assert_allclose(light.direction, towards / np.linalg.norm(towards))
        np.testing.assert_allclose(light.vectors([0.0, 0.0, 200.0]), 3 * light.direction)
        np.testing.assert_allclose(light.vectors(), 3 * light.direction)
        point = light.position_mm + 2 * (light.reference_mm - light.position_mm)  # twice as far on the same ray
        np.testing.assert_allclose(light.vectors(point[None]), [3 / 4 * light.direction])
        assert np.isnan(light.vectors([math.nan, 0, 1])).any()

    @given(scale=st.floats(0.999, 1.001), angle=st.floats(0, 6.28), slant=st.floats(0, 1.5))
    def test_making_again_changes_no_bit(self, scale: float, angle: float, slant: float) -> None:
        direction = np.array([math.sin(slant) * math.cos(angle), math.sin(slant) * math.sin(angle), math.cos(slant)])
        light = Light(1, direction * (1 + (scale - 1) * 0.99))
        assert (Light(1, light.direction).direction == light.direction).all()

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"zone": 0}, "light zone is 0"),
            ({"zone": True}, "light zone is True"),
            ({"direction": [0.0, 0.6, 0.7]}, "length of light of zone 1: direction is 0.92"),
            ({"direction": [0.0, 0.6, -0.8]}, r"\(0, 0.6, -0.8\); allowed: z > 0"),
            ({"direction": [0.0, math.nan, 1.0]}, "finite"),
            ({"direction": None}, "direction"),
            ({"strength": 0.0}, "strength is 0; allowed: 1e-09 to"),
            ({"strength": math.nan}, "strength is nan"),
            ({"position_mm": [0, 0, 0]}, "reference point is absent"),
            ({"reference_mm": [0, 0, 0]}, "position is absent"),
            ({"position_mm": [0, 0, 0], "reference_mm": [0, 0, 200]}, "angle between direction and position is 36.87°"),
            ({"position_mm": [0, 0, 0], "reference_mm": [0, 0, 0]}, "distance from the reference point"),
        ],
    )
    def test_bad_values(self, values: dict[str, object], words: str) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            Light(**({"zone": 1, "direction": [0.0, 0.6, 0.8]} | values))
        assert caught.value.code == "calibration.light_invalid" and caught.value.hint

    def test_near_light_behind_or_at_the_part(self) -> None:
        with pytest.raises(CalibrationError, match="in front of the part"):
            Light.near(2, [0, 0, 300], [0, 0, 200])
        with pytest.raises(CalibrationError, match="distance from the reference point"):
            Light.near(2, [0, 0, 200], [0, 0, 200])


class TestLightGeometry:
    @pytest.mark.parametrize("slant", [25.0, 35.0, 45.0, 55.0])
    def test_ring_closed_form(self, slant: float) -> None:
        # singular values of four even lights: √2 sin, √2 sin, 2 cos
        values = math.sqrt(2) * math.sin(math.radians(slant)), 2 * math.cos(math.radians(slant))
        geometry = light_geometry(ring(slant))
        assert geometry.condition_number == pytest.approx(max(values) / min(values))
        assert bool(geometry.warnings) == (geometry.condition_number > 3)
        np.testing.assert_allclose(geometry.slants_deg, slant)
        np.testing.assert_allclose(geometry.azimuths_deg, [0, 90, 180, 270], atol=1e-9)

    def test_matrix(self) -> None:
        lights = [Light(1, np.array([0, 0.6, 0.8]), 2.0), Light(2, np.array([0.8, 0.0, 0.6]))]
        np.testing.assert_allclose(light_matrix(lights), [[0, 1.2, 1.6], [0.8, 0, 0.6]])
        assert light_matrix([]).shape == (0, 3)

    def test_warnings_say_figure_and_limit(self) -> None:
        low = light_geometry(ring(15)).warnings
        assert len(low) == 2 and "5.28, above 3" in low[0]
        assert "zone 1 (15.0°), 2 (15.0°), 3 (15.0°), 4 (15.0°) is below 20°" in low[1]
        assert "4 (75.0°) is above 70°" in light_geometry(ring(75)).warnings[-1]
        assert light_geometry(ring(45)).warnings == ()

    def test_unsolvable(self) -> None:
        flat = [Light(k + 1, np.array([math.sin(a), 0, math.cos(a)])) for k, a in enumerate((-0.7, 0.1, 0.7, 0.9))]
        for lights, words, code in (
            (ring(45)[:2], "2 lights; .* at least 3", "photometric.too_few_lights"),
            ([], "0 lights", "photometric.too_few_lights"),
            (flat, "lie in one plane: .*needed at least 0.001", "calibration.lights_coplanar"),
            ([*ring(45)[:3], ring(45)[0]], r"\[1, 2, 3, 1\] name a zone twice", "calibration.light_geometry"),
        ):
            with pytest.raises(CalibrationError, match=words) as caught:
                light_geometry(lights)
            assert caught.value.code == code and "35-55°" in caught.value.hint
