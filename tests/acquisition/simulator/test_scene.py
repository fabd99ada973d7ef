"""Rendered light and geometry against cv2.projectPoints and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rakelight.acquisition.simulator import truth
from rakelight.acquisition.simulator.rig import Lens, PatternSource, PointLight, Rig, Sensor, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part, Pose, merged
from rakelight.reconstruction.models import PinholeCamera
from rakelight.reconstruction.patterns import Sinusoid, Uniform

MONO = Sensor("Mono12", response=(1.0, 1.0, 1.0), prnu=0.0)
WHITE = Material((1.0, 1.0, 1.0))
EYE = np.array([0.0, 0.0, 200.0])


# -------------------------------------------------------------------------------------------------------- small scenes
def quad(corners: list[tuple[float, float, float]]) -> Mesh:
    """A flat quadrilateral, counter-clockwise seen from outside."""
    points = np.array(corners, float)
    normal = np.cross(points[1] - points[0], points[3] - points[0])
    normals = np.tile(normal / np.linalg.norm(normal), (4, 1))
    return Mesh(points, normals, np.array([[0, 1, 2], [0, 2, 3]], np.int32))


def level(z: float, half_x: float = 60.0, half_y: float = 45.0) -> Mesh:
    return quad([(-half_x, -half_y, z), (half_x, -half_y, z), (half_x, half_y, z), (-half_x, half_y, z)])


def block(half_x: float, half_y: float, height: float) -> Mesh:
    """Top and four sides."""
    a, b, h = half_x, half_y, height
    sides = [
        quad([(x0, y0, 0.0), (x1, y1, 0.0), (x1, y1, h), (x0, y0, h)])
        for (x0, y0), (x1, y1) in zip(
            [(-a, -b), (a, -b), (a, b), (-a, b)], [(a, -b), (a, b), (-a, b), (-a, -b)], strict=True
        )
    ]
    return merged([level(h, a, b), *sides])


def cap(radius: float, top: float, rings: int = 80, around: int = 240, half_deg: float = 40.0) -> Mesh:
    """The upper part of a sphere whose highest point is (0, 0, top); polar grid, exact normals."""
    polar = np.radians(np.linspace(0.01, half_deg, rings))[:, None]
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)[None]
    normals = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar) + 0 * turn], -1)
    i, j = (a.ravel() for a in np.mgrid[: rings - 1, :around])
    k = (j + 1) % around
    a, b, c, d = i * around + j, (i + 1) * around + j, (i + 1) * around + k, i * around + k
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    flat = normals.reshape(-1, 3)
    return Mesh(flat * radius + (0, 0, top - radius), flat, triangles)


def part(mesh: Mesh, material: Material = WHITE) -> Part:
    return Part("test", (Component("body", mesh, material),))


def narrow(width: int = 41, height: int = 31, pitch_mm: float = 0.02, **changes: object) -> Rig:
    """A small field around the middle of the table, grey camera, no room light."""
    focal = 200.0 / pitch_mm
    lens = Lens(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    return replace(reference_rig(456), **({"camera": lens, "sensor": MONO, "ambient": 0.0} | changes))


def wide(**changes: object) -> Rig:
    """The reference rig at its smallest, grey camera, no room light."""
    return replace(reference_rig(456), **({"sensor": MONO, "ambient": 0.0} | changes))


def centre(rate: np.ndarray) -> float:
    """The value in the middle, as light (albedo · irradiance …): electrons per µs over the rig's 1.5."""
    return float(rate[rate.shape[0] // 2, rate.shape[1] // 2]) / 1.5


def viewer_from_pixels(rig: Rig, z: float) -> np.ndarray:
    """(H, W, 2) x, y at height ``z`` that pixels see, by OpenCV."""
    lens = rig.camera
    v, u = np.mgrid[: lens.height, : lens.width].astype(float)
    matrix = np.array([[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]])
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    pixels = np.stack([u, v], -1).reshape(-1, 1, 2)
    xy = cv2.undistortPoints(pixels, matrix, np.array(lens.distortion), None, None, None, stop).reshape(*u.shape, 2)
    return xy * (1, -1) * (rig.table_mm - z)


def project(model: PinholeCamera, xyz: np.ndarray) -> np.ndarray:
    """(N, 2) pixels of camera-frame points, by OpenCV."""
    points = np.asarray(xyz, float).reshape(-1, 1, 3)
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), model.matrix, np.array(model.distortion))[0][:, 0]


def projector_pixels(rig: Rig, source: PatternSource, xyz_camera: np.ndarray) -> np.ndarray:
    """(N, 2) column, row of camera-frame points by OpenCV, from the projector's model in the truth."""
    model = truth.projector_model(source, rig)
    points = np.asarray(xyz_camera, float).reshape(-1, 1, 3)
    turn = cv2.Rodrigues(model.rotation)[0]
    return cv2.projectPoints(points, turn, model.translation_mm, model.optics.matrix, np.array(model.distortion))[0][
        :, 0
    ]


# ------------------------------------------------------------------------------------------------------------ geometry
class TestCamera:
    @pytest.mark.parametrize(
        "distortion",
        [(0.0,) * 5, (-0.28, 0.09, 0.0012, -0.0008, -0.012), (0.35, 0.12, -0.002, 0.003, 0.05)],
    )
    def test_surface_points_project_to_their_pixels(self, distortion: tuple[float, ...]) -> None:
        rig = replace(reference_rig(456), camera=Lens(456, 304, 800.0, 810.0, 231.25, 147.5, distortion))
        scene = Scene(part(cap(20, 9)), rig, Pose(3, -2, 25, z_mm=0.5))
        surface = scene.surface
        assert {0, 1} <= set(np.unique(surface.body))
        seen = project(truth.camera_model(rig.camera), truth.xyz_camera(surface, rig))
        v, u = np.mgrid[:304, :456]
        np.testing.assert_allclose(seen, np.stack([u, v], -1).reshape(-1, 2), atol=1e-3)

    def test_reference_rig_by_its_calibration(self) -> None:
        rig = reference_rig(456)
        camera = truth.rig_calibration(rig).camera
        assert isinstance(camera, PinholeCamera)
        xyz = truth.xyz_camera(Scene(part(cap(20, 12)), rig, Pose(-4, 1, 10)).surface, rig)
        v, u = np.mgrid[:304, :456]
        np.testing.assert_allclose(project(camera, xyz), np.stack([u, v], -1).reshape(-1, 2), atol=1e-3)

    def test_points_within_a_pixel(self) -> None:
        rig = narrow(10, 8)
        xyz = truth.xyz_camera(Scene(part(level(4.0)), rig).cast(3), rig)
        seen = project(truth.camera_model(rig.camera), xyz).reshape(24, 30, 2)
        np.testing.assert_allclose(seen[0, :6, 0], [-1 / 3, 0, 1 / 3, 2 / 3, 1, 4 / 3], atol=1e-3)
        np.testing.assert_allclose(seen[:6, 0, 1], [-1 / 3, 0, 1 / 3, 2 / 3, 1, 4 / 3], atol=1e-3)

    def test_surface_is_the_sphere(self) -> None:
        scene = Scene(part(cap(20, 12)), wide(), Pose(4, -3, 30), samples=1)
        shown = scene.surface.body == 1
        from_centre = scene.surface.xyz[shown].astype(float) - (4, -3, -8)
        distance = np.linalg.norm(from_centre, axis=1)
        np.testing.assert_allclose(distance, 20, atol=1.5e-3)  # of the facets' chords
        angle = np.linalg.norm(scene.surface.normals[shown] - from_centre / distance[:, None], axis=1)
        assert angle.max() < 1e-5
        assert scene.surface.xyz[~shown][:, 2] == pytest.approx(0, abs=1e-6)

    def test_image_is_not_mirrored(self) -> None:
        scene = Scene(part(level(1.0, 2.0, 1.0)), wide(), Pose(15, 8), samples=1)
        v, u = np.nonzero(scene.surface.body == 1)
        lens = scene.rig.camera
        assert u.mean() > lens.cx + 100 and v.mean() < lens.cy - 50  # x right, y up in the picture


class TestProjector:
    @pytest.mark.parametrize("direction", [1, 2, 3, 4])
    def test_agrees_with_opencv(self, direction: int) -> None:
        rig = wide()
        scene = Scene(part(cap(20, 9)), rig, Pose(2, 1, 15), samples=1)
        column, row, light = scene.projection(direction)
        lit = np.flatnonzero(light[0].ravel() > 0)
        chosen = np.random.default_rng(direction).choice(lit, 1000, replace=False)
        xyz = truth.xyz_camera(scene.surface, rig).reshape(-1, 3)[chosen]
        expected = projector_pixels(rig, rig.projectors[direction - 1], xyz)
        np.testing.assert_allclose(column.ravel()[chosen], expected[:, 0], atol=1e-3)
        np.testing.assert_allclose(row.ravel()[chosen], expected[:, 1], atol=1e-3)

    @pytest.mark.parametrize("direction", [1, 2, 3, 4])
    def test_dark_outside_the_pattern(self, direction: int) -> None:
        scene = Scene(part(level(3.0)), wide(), samples=1)
        light = scene.projection(direction)[2][0]
        xyz = truth.xyz_camera(scene.surface, scene.rig)
        at = projector_pixels(scene.rig, scene.rig.projectors[direction - 1], xyz).reshape(*light.shape, 2)
        # Half a pixel beyond the outermost centres; points nearer than 1e-3 px to the border may fall on either side.
        outside = np.maximum(-0.5 - at, at - (911.5, 1139.5)).max(axis=-1)
        assert (light[outside < -1e-3] > 0).all() and (light[outside > 1e-3] == 0).all()
        assert 0.1 < (light == 0).mean() < 0.5  # the field is 55 × 36 mm, the pattern 42 × 45 mm or across

    @pytest.mark.parametrize(("direction", "axis", "gamma"), [(1, "column", 1.0), (2, "column", 2.2), (4, "row", 1.0)])
    def test_decoded_phase(self, direction: int, axis: str, gamma: float) -> None:
        """Eight rendered steps, decoded here: what the camera sees is the column that lights the point."""
        rig = replace(reference_rig(456, gamma=gamma), ambient=0.01)
        scene = Scene(part(level(5.0, 16, 12)), rig, Pose(1, 0.5, 5, tilt_x_deg=2))
        step = 2 * np.pi / 8
        frames = [scene.electrons([(Lit({}, direction, Sinusoid(axis, 16.0, 8, k)), 500.0)]) for k in range(8)]  # type: ignore[arg-type]
        sine = sum(f * math.sin(k * step) for k, f in enumerate(frames))
        cosine = sum(f * math.cos(k * step) for k, f in enumerate(frames))
        place = 16 * np.arctan2(-sine, cosine) / (2 * np.pi)
        xyz = truth.xyz_camera(scene.surface, rig)
        at = projector_pixels(rig, rig.projectors[direction - 1], xyz)[:, 0 if axis == "column" else 1]
        error = (place.ravel() - at + 8) % 16 - 8
        inner = cv2.erode((scene.surface.body == 1).astype(np.uint8), np.ones((9, 9))).ravel() > 0
        assert inner.sum() > 30_000
        assert np.median(np.abs(error[inner])) < 0.02
        assert np.percentile(np.abs(error[inner]), 99) < 0.05


# -------------------------------------------------------------------------------------------------------------- energy
class TestEnergy:
    @pytest.mark.parametrize("tilt", [0.0, 45.0])
    def test_half_the_distance_gives_four_times_the_light(self, tilt: float) -> None:
        """A light on the normal of the plane through the origin, at 200 and at 100 mm."""
        towards = np.array([math.sin(math.radians(tilt)), 0, math.cos(math.radians(tilt))])
        values = []
        for distance in (200.0, 100.0):
            rig = narrow(lights=(PointLight(1, tuple(towards * distance + (0, 0, 5.0))),))
            plane = part(level(0.0, 4, 4))
            values.append(centre(Scene(plane, rig, Pose(z_mm=5.0, tilt_y_deg=tilt)).zone_rate(1)))
        assert values[1] / values[0] == pytest.approx(4, rel=0.001)
        assert values[0] == pytest.approx((210 / 200) ** 2, rel=0.001)

    def test_projector_at_half_the_distance(self) -> None:
        rig = narrow(33, 23)
        values = []
        for share in (1.0, 0.5):
            source = replace(rig.projectors[1], centre_mm=rig.projectors[1].centre_mm * share)
            scene = Scene(part(level(1e-4)), replace(rig, projectors=(source,)))
            values.append(centre(scene.pattern_rate(2, Uniform(1.0))))
        assert values[1] / values[0] == pytest.approx(4, rel=0.001)
        assert values[0] == pytest.approx(2.0 * math.cos(math.radians(30)), rel=0.001)  # strength 2 at 210 mm

    @pytest.mark.parametrize("tilt", [0.0, 20.0, 40.0, 60.0])
    def test_cosine_law(self, tilt: float) -> None:
        rig = narrow(lights=(PointLight(1, (0.0, 0.0, 215.0)),))
        scene = Scene(part(level(0.0, 2, 2)), rig, Pose(z_mm=5.0, tilt_x_deg=tilt))
        assert centre(scene.zone_rate(1)) == pytest.approx(math.cos(math.radians(tilt)), rel=0.001)

    def test_faces_away(self) -> None:
        rig = narrow(lights=(PointLight(1, (-148.0, 0.0, 40.0)),))
        scene = Scene(part(level(0.0, 2, 2)), rig, Pose(z_mm=5.0, tilt_y_deg=30))
        assert centre(scene.zone_rate(1)) == 0

    def test_strength_scales(self) -> None:
        one, three = (
            Scene(part(cap(20, 9)), narrow(lights=(PointLight(1, (80, 20, 150), s),))).zone_rate(1) for s in (1.0, 3.0)
        )
        np.testing.assert_allclose(three, 3 * one, rtol=1e-6)

    @pytest.mark.parametrize("zone", [1, 2, 3, 4])
    def test_fall_off_across_a_plane(self, zone: int) -> None:
        """d_ref²/d² · cos θ · cos⁴ of the field angle, at 500 random pixels."""
        rig = wide()
        rate = Scene(part(level(4.0), Material((0.5, 0.5, 0.5))), rig).zone_rate(zone)
        xy = viewer_from_pixels(rig, 4.0)
        points = np.concatenate([xy, np.full((*xy.shape[:2], 1), 4.0)], -1)
        light = rig.lights[zone - 1]
        to_light, to_eye = np.array(light.position_mm) - points, EYE - points
        distance = np.linalg.norm(to_light, axis=-1)
        field = to_eye[..., 2] / np.linalg.norm(to_eye, axis=-1)
        expected = 0.5 * light.strength * (210 / distance) ** 2 * to_light[..., 2] / distance * field**4
        rng = np.random.default_rng(zone)
        v, u = rng.integers(6, 298, 500), rng.integers(6, 450, 500)
        np.testing.assert_allclose(rate[v, u] / rig.electrons_per_us, expected[v, u], rtol=5e-4)

    def test_room(self) -> None:
        """An even hemisphere: albedo · irradiance · cos⁴, and half of it on an upright wall."""
        rig = narrow(ambient=0.02)
        flat, tilted = (Scene(part(level(0.0, 2, 2)), rig, Pose(z_mm=5.0, tilt_x_deg=t)).room_rate for t in (0, 60))
        assert centre(flat) == pytest.approx(0.02, rel=1e-3)
        assert centre(tilted) == pytest.approx(0.02 * 0.75, rel=1e-3)


# ------------------------------------------------------------------------------------------------------------- shadows
@pytest.fixture(scope="module")
def casting() -> Scene:
    return Scene(part(block(3, 3, 6)), wide(), samples=2)


class TestShadow:
    SIDES = ((1, 0, -1), (2, 1, -1), (3, 0, 1), (4, 1, 1))  # source, axis, side on which the shadow falls

    @staticmethod
    def profile(values: np.ndarray, rig: Rig, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates on the table and values along the row or column through the origin."""
        xy = viewer_from_pixels(rig, 0.0)
        v, u = round(rig.camera.cy), round(rig.camera.cx)
        return (xy[v, :, 0], values[v]) if axis == 0 else (xy[:, u, 1], values[:, u])

    @staticmethod
    def end_of_shadow(source: np.ndarray, axis: int, side: int, height: float = 6.0, half: float = 3.0) -> float:
        """|coordinate| at which the line from the source over the far upper edge meets the table."""
        edge, far = side * half, source[axis]
        return abs(far + (edge - far) * source[2] / (source[2] - height))

    @pytest.mark.parametrize(("zone", "axis", "side"), SIDES)
    def test_block_under_a_zone(self, casting: Scene, zone: int, axis: int, side: int) -> None:
        scene, rig = casting, casting.rig
        end = self.end_of_shadow(np.array(rig.lights[zone - 1].position_mm), axis, side)
        assert end == pytest.approx(3 + 6 * (148.49 + 3) / (148.49 - 6), abs=0.01)
        for values, near in ((scene.zones_lit() >> (zone - 1) & 1, 0.02), (scene.zone_rate(zone), 0.5)):
            place, line = self.profile(values.astype(float), rig, axis)
            table = self.profile(scene.surface.body, rig, axis)[1] == 0
            behind = table & (place * side > 3.4)
            lit = line > line[behind].max() / 2
            assert np.abs(place[behind & ~lit]).max() < end + near * rig.pitch_mm
            assert np.abs(place[behind & lit]).min() > end - near * rig.pitch_mm
            assert lit[table & (place * side < -3.4)].all()

    @pytest.mark.parametrize(("direction", "axis", "side"), SIDES)
    def test_block_under_a_projector(self, direction: int, axis: int, side: int) -> None:
        rig = wide()
        scene = Scene(part(block(3, 3, 6)), rig, samples=1)
        light = scene.projection(direction)[2][0]
        place, line = self.profile(light, rig, axis)
        table = self.profile(scene.surface.body, rig, axis)[1] == 0
        near = table & (place * side > 3.3) & (place * side < 10)
        end = self.end_of_shadow(rig.projectors[direction - 1].centre_mm, axis, side)
        assert np.abs(place[near & (line == 0)]).max() < end + 0.02 * rig.pitch_mm
        assert np.abs(place[near & (line > 0)]).min() > end - 0.02 * rig.pitch_mm

    def test_level_plane_has_no_shadow(self) -> None:
        scene = Scene(part(level(4.0)), wide(), samples=1)
        assert (scene.zones_lit() == 15).all()

    def test_zones_lit_says_where_light_falls(self) -> None:
        scene = Scene(part(cap(8, 12, half_deg=80)), narrow(120, 80, 0.4, blur_px=0.0), samples=1)
        lit = scene.zones_lit()
        assert (lit < 15).any() and (lit == 15).any()
        for zone in (1, 2, 3, 4):
            np.testing.assert_array_equal((lit >> (zone - 1) & 1).astype(bool), scene.zone_rate(zone) > 0)


# --------------------------------------------------------------------------------------------------------------- gloss
def walter(n: np.ndarray, light: np.ndarray, view: np.ndarray, alpha: float, f0: np.ndarray) -> np.ndarray:
    """π · f_r of the microfacets: Walter et al. 2007, eqs. 20 (f), 33 (D), 34 (G1), angles as they stand there."""
    half = (light + view) / np.linalg.norm(light + view)
    theta_m = math.acos(min(1.0, float(n @ half)))
    d = alpha**2 / (math.pi * math.cos(theta_m) ** 4 * (alpha**2 + math.tan(theta_m) ** 2) ** 2)

    def g1(direction: np.ndarray) -> float:
        return 2 / (1 + math.sqrt(1 + alpha**2 * math.tan(math.acos(float(n @ direction))) ** 2))

    fresnel = f0 + (1 - f0) * (1 - float(view @ half)) ** 5
    return math.pi * fresnel * d * g1(light) * g1(view) / (4 * float(n @ light) * float(n @ view))


class TestGloss:
    @pytest.mark.parametrize(("alpha", "tilt"), [(0.1, 20.0), (0.3, 12.0), (0.3, 35.0), (0.8, 5.0)])
    def test_value(self, alpha: float, tilt: float) -> None:
        """Every photosite against an evaluation of the published formulas at the point it sees."""
        f0 = np.array([0.9, 0.5, 0.04])
        rig = narrow(8, 6, blur_px=0.0, sensor=Sensor("BayerRG12", response=(0.7, 1.0, 0.6)))
        material = Material((0.1, 0.2, 0.3), tuple(f0), alpha)
        scene = Scene(part(level(0.0, 2, 2), material), rig, Pose(z_mm=5, tilt_y_deg=tilt), samples=1)
        rate = scene.zone_rate(1) / rig.electrons_per_us
        light = rig.lights[0]
        for v, u, channel in ((2, 4, 0), (2, 5, 1), (3, 4, 1), (3, 5, 2)):
            x = scene.surface.xyz[v, u].astype(float)
            n = np.array([math.sin(math.radians(tilt)), 0, math.cos(math.radians(tilt))])
            to_light, to_eye = np.array(light.position_mm) - x, EYE - x
            distance, eye = np.linalg.norm(to_light), to_eye / np.linalg.norm(to_eye)
            irradiance = light.strength * (210 / distance) ** 2 * float(n @ to_light) / distance
            shine = np.array(material.diffuse) + walter(n, to_light / distance, eye, alpha, f0)
            expected = (irradiance * eye[2] ** 4 * shine * (0.7, 1.0, 0.6))[channel]
            assert rate[v, u] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("zone", [1, 2, 3, 4])
    def test_highlight_on_a_sphere(self, zone: int) -> None:
        """The brightest place of a shiny sphere is where its normal halves the angle between light and eye."""
        rig = wide()
        scene = Scene(part(cap(15, 10), Material((0, 0, 0), (0.9, 0.9, 0.9), 0.03)), rig, Pose(2, -1), samples=2)
        middle, light = np.array([2, -1, -5.0]), np.array(rig.lights[zone - 1].position_mm)
        n = np.array([0, 0, 1.0])
        for _ in range(50):  # n halves the angle at the point n leads to; a contraction, as both are far away
            x = middle + 15 * n
            half = (light - x) / np.linalg.norm(light - x) + (EYE - x) / np.linalg.norm(EYE - x)
            n = half / np.linalg.norm(half)
        xyz = (middle + 15 * n) * (1, -1, -1) + (0, 0, 200)
        expected = project(truth.camera_model(rig.camera), xyz[None])[0]
        rate = np.where(scene.surface.body == 1, scene.zone_rate(zone), 0)
        v, u = np.nonzero(rate > 0.2 * rate.max())
        weight = rate[v, u]
        assert np.average(u, weights=weight) == pytest.approx(expected[0], abs=0.5)
        assert np.average(v, weights=weight) == pytest.approx(expected[1], abs=0.5)

    def test_gloss_of_the_texture(self) -> None:
        """A factor of ½ on the specular reflectance halves F0."""
        rig = narrow(8, 6, blur_px=0.0)
        plain = Material((0, 0, 0), (0.2, 0.2, 0.2), 0.3)
        half = Material((0, 0, 0), (0.4, 0.4, 0.4), 0.3, lambda points: np.tile([1, 1, 1, 0.5], (len(points), 1)))
        one, two = (Scene(part(level(0.01), m), rig).zone_rate(1) for m in (plain, half))
        np.testing.assert_allclose(two, one, rtol=1e-4)

    def test_view(self) -> None:
        """Patch and light moved aside together: matte changes by cos⁴ only, gloss otherwise."""

        def moved(material: Material, shift: float) -> float:
            rig = wide(blur_px=0.0, lights=(PointLight(1, (60.0 + shift, 0.0, 150.0)),))
            scene = Scene(part(level(4.0, 5, 5), material), rig, Pose(shift), samples=1)
            xy = viewer_from_pixels(rig, 4.0)
            v, u = np.unravel_index(np.linalg.norm(xy - (shift, 0), axis=-1).argmin(), xy.shape[:2])
            x = np.array([*xy[v, u], 4.0])
            to_light = np.array(rig.lights[0].position_mm) - x
            irradiance = (210**2 * to_light[2]) / np.linalg.norm(to_light) ** 3
            field = (EYE - x)[2] / np.linalg.norm(EYE - x)
            return float(scene.zone_rate(1)[v, u] / 1.5 / irradiance / field**4)

        for shift in (-20.0, 0.0, 20.0):
            assert moved(Material((0.5, 0.5, 0.5)), shift) == pytest.approx(0.5, rel=1e-3)
        shiny = [moved(Material((0.1, 0.1, 0.1), (0.5, 0.5, 0.5), 0.2), s) for s in (-20.0, 0.0, 20.0)]
        assert shiny[0] > 1.2 * shiny[1] > 1.44 * shiny[2] or shiny[2] > 1.2 * shiny[1] > 1.44 * shiny[0]


# ------------------------------------------------------------------------------------------------------------ timeline
@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(part(cap(20, 9)), narrow(60, 40, 0.3, ambient=0.01), Pose(1, 2))


class TestTimeline:
    def test_electrons_add_up(self, scene: Scene) -> None:
        pattern = Sinusoid("column", 16.0, 8, 3)
        first, second = Lit({1: 1.0, 3: 0.4}), Lit({}, 2, pattern, room=False)
        both = scene.electrons([(first, 300.0), (second, 700.0)])
        by_hand = 300 * scene.zone_rate(1) + 120 * scene.zone_rate(3) + 300 * scene.room_rate
        np.testing.assert_allclose(both, by_hand + 700 * scene.pattern_rate(2, pattern), rtol=1e-5)

    def test_light_that_fails_leaves_the_room(self, scene: Scene) -> None:
        np.testing.assert_allclose(scene.electrons([(Lit(), 1000.0)]), 1000 * scene.room_rate, rtol=1e-6)
        half = scene.electrons([(Lit({1: 1.0}), 500.0), (Lit(), 500.0)])
        np.testing.assert_allclose(half, 500 * scene.zone_rate(1) + 1000 * scene.room_rate, rtol=1e-5)

    def test_dark(self, scene: Scene) -> None:
        assert (scene.electrons([(Lit(room=False), 1000.0)]) == 0).all()
        assert (scene.electrons([]) == 0).all()
        frame = scene.frame(Lit(room=False), 1000.0, 5)
        assert frame.mean() == pytest.approx(64, abs=0.02)

    def test_pose_turns_light_and_picture(self) -> None:
        """A part turned by 180° under the opposite zone looks the same, turned by 180°."""
        rig = narrow(40, 30, pitch_mm=0.4, lights=(PointLight(1, (148, 0, 148)), PointLight(3, (-148, 0, 148))))
        shape = merged([block(2, 1, 3), level(1.0, 1.0, 3.0)])
        here = Scene(part(shape), rig, Pose(1, 0.5, 20)).zone_rate(1)
        there = Scene(part(shape), rig, Pose(-1, -0.5, 200)).zone_rate(3)
        np.testing.assert_allclose(here, there[::-1, ::-1], atol=0.02 * here.max())
        assert np.abs(here - there).max() > 0.5 * here.max()
