"""Triangulation against the models' own projection and OpenCV's, with both cameras and strong distortion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.errors import InputError
from rakelight.reconstruction import triangulation
from rakelight.reconstruction.models import AffineCamera, Camera, PinholeCamera, Projector
from rakelight.reconstruction.triangulation import camera_rays, triangulate, xyz_from_depth

BARREL = (-0.28, 0.09, 0.0012, -0.0008, -0.012)
WEAK = (-0.06, 0.03, 2e-4, -1.5e-4, 0.0)
WIDTH, HEIGHT = 600, 44  # more than one chunk of the kernel, and not a whole number of them

# 600 px of 0.09 mm on the table at 200 mm; the tilted matrix of the second looks 3° aside.
PINHOLE = PinholeCamera(WIDTH, HEIGHT, 2200.0, 2210.0, 311.5, 20.25, BARREL)
AFFINE = AffineCamera(WIDTH, HEIGHT, np.array([[11.0, 0.2, 0.6], [-0.1, 11.2, -0.3]]), np.array([280.0, 30.0]))
CAMERAS = pytest.mark.parametrize("camera", [PINHOLE, AFFINE], ids=["pinhole", "affine"])


def projector(turn_deg: float = 0.0, distortion: Any = BARREL, focal: float = 1400.0) -> Projector:
    """30° from the vertical of the point at 200 mm, ``turn_deg`` about the optical axis."""
    turn = np.radians(turn_deg)
    side = np.array([np.cos(turn), np.sin(turn), 0.0])
    down = np.array([0.0, 0.0, 1.0])
    s, c = 0.5, np.sqrt(0.75)
    axis, columns = -s * side + c * down, c * side + s * down
    rotation = np.array([columns, np.cross(axis, columns), axis])
    centre = 200 * down + 210 * (s * side - c * down)
    return Projector(1, 912, 1140, focal, focal * 1.001, 461.7, 558.1, distortion, rotation, -rotation @ centre)


def surface(camera: Camera, seed: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    """Random depths and their points on the viewing rays, in float64."""
    z = np.random.default_rng(seed).uniform(190, 205, (HEIGHT, WIDTH)).astype(np.float32).astype(np.float64)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    origins, directions = camera.rays(np.stack((u, v), axis=-1).astype(float))
    return z, origins + directions * ((z - origins[..., 2]) / directions[..., 2])[..., None]


class TestRays:
    def test_pinhole_agrees_with_the_model(self) -> None:
        _, points = surface(PINHOLE)
        expected = np.moveaxis(points[..., :2] / points[..., 2:], -1, 0)
        np.testing.assert_allclose(camera_rays(PINHOLE), expected, atol=3e-8)  # float32 of 0.15

    def test_affine_agrees_with_the_model(self) -> None:
        z, points = surface(AFFINE)
        p, q = camera_rays(AFFINE)
        assert np.ptp(p - points[..., 0] + z * triangulation._along(AFFINE)[0]) < 1e-5
        np.testing.assert_allclose(xyz_from_depth(z.astype(np.float32), AFFINE), points, atol=5e-6)
        assert q.dtype == np.float32

    def test_kept_for_equal_cameras_and_read_only(self) -> None:
        table = camera_rays(PINHOLE)
        assert camera_rays(replace(PINHOLE)) is table
        assert camera_rays(AffineCamera(WIDTH, HEIGHT, AFFINE.matrix.copy(), AFFINE.offset.copy())) is camera_rays(
            AFFINE
        )
        assert camera_rays(replace(PINHOLE, cx=300.0)) is not table
        with pytest.raises(ValueError, match="read-only"):
            table[0, 0, 0] = 0

    def test_lens_without_inverse_is_refused_as_the_model_does(self) -> None:
        folded = replace(PINHOLE, fx=300.0, distortion=(-0.9, 0.0, 0.0, 0.0, 0.0))
        with pytest.raises(InputError, match="cannot be inverted at") as caught:
            camera_rays(folded)
        assert caught.value.code == "distortion.not_invertible"


class TestDepth:
    @CAMERAS
    @pytest.mark.parametrize("distortion", [(0.0,) * 5, WEAK, BARREL], ids=["none", "weak", "strong"])
    @pytest.mark.parametrize(("turn_deg", "axis"), [(0, "column"), (140, "column"), (90, "row"), (215, "row")])
    def test_undoes_projection(self, camera: Camera, distortion: Any, turn_deg: float, axis: str) -> None:
        z, points = surface(camera)
        source = projector(turn_deg, distortion)
        if axis == "row":  # turned about its own axis, so that its rows cross the base line
            quarter = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
            source = replace(source, rotation=quarter @ source.rotation, translation_mm=quarter @ source.translation_mm)
        place = triangulation.AXES.index(axis)
        truth = source.project(points)[..., place]
        coordinate = truth.astype(np.float32)
        found, sigma = triangulate(coordinate, np.full_like(coordinate, 0.02), camera, source, axis=axis)
        error = found - z
        assert abs(error.mean()) < 2e-6  # mm
        assert np.abs(error).max() < 1e-4  # mm: bar of bias; includes the rounding of the coordinate itself
        along = points + (found - z)[..., None] * _ray(points, camera)
        back = source.project(along)[..., place] - truth
        assert np.sqrt(np.mean(back**2)) < 1e-4  # px
        assert np.isfinite(sigma).all()

    def test_agrees_with_opencv(self) -> None:
        z, points = surface(PINHOLE)
        source = projector(30)
        turn = cv2.Rodrigues(source.rotation)[0]
        seen, _ = cv2.projectPoints(
            points.reshape(-1, 3), turn, source.translation_mm, source.optics.matrix, np.array(BARREL)
        )
        coordinate = np.ascontiguousarray(seen.reshape(HEIGHT, WIDTH, 2)[..., 0].astype(np.float32))
        found, _ = triangulate(coordinate, np.ones_like(coordinate), PINHOLE, source)
        np.testing.assert_allclose(found, z, atol=1e-4)

    @CAMERAS
    def test_sigma_is_the_slope_of_depth(self, camera: Camera) -> None:
        _, points = surface(camera)
        source = projector(20)
        coordinate = source.project(points)[..., 0].astype(np.float32)
        width = np.random.default_rng(3).uniform(0.01, 0.1, coordinate.shape).astype(np.float32)
        _, sigma = triangulate(coordinate, width, camera, source)
        h = np.float32(0.5)
        up, _ = triangulate(coordinate + h, width, camera, source)
        down, _ = triangulate(coordinate - h, width, camera, source)
        np.testing.assert_allclose(sigma, np.abs(up - down) / (2 * h) * width, rtol=1e-3)

    def test_shift_of_the_camera_frame_does_not_matter(self) -> None:
        """An affine camera's frame may lie anywhere along its rays; float32 must bear it."""
        far = AffineCamera(WIDTH, HEIGHT, AFFINE.matrix, AFFINE.offset - AFFINE.matrix @ np.array([0, 0, 1000.0]))
        z, points = surface(AFFINE)
        source = projector()
        moved = replace(source, translation_mm=source.translation_mm - source.rotation @ np.array([0, 0, 1000.0]))
        coordinate = source.project(points)[..., 0].astype(np.float32)
        found, _ = triangulate(coordinate, np.ones_like(coordinate), far, moved)
        np.testing.assert_allclose(found, z + 1000, atol=2e-4)  # float32 resolves 6e-5 at 1200


def _ray(points: NDArray[Any], camera: Camera) -> NDArray[Any]:
    """dX/dz of each point's viewing ray."""
    if isinstance(camera, PinholeCamera):
        return np.asarray(points / points[..., 2:])
    return np.broadcast_to(np.array([*triangulation._along(camera), 1.0]), points.shape)


class TestInvalid:
    def maps(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        z, points = surface(PINHOLE)
        coordinate = projector().project(points)[..., 0].astype(np.float32)
        return z, coordinate, np.full_like(coordinate, 0.02)

    def test_nan_stays_nan_and_harms_no_neighbour(self) -> None:
        z, coordinate, sigma = self.maps()
        coordinate[3, 5], sigma[7, 580], coordinate[9, 9] = np.nan, np.nan, np.inf
        found, sigma_z = triangulate(coordinate, sigma, PINHOLE, projector())
        bad = np.zeros(z.shape, bool)
        bad[3, 5] = bad[7, 580] = bad[9, 9] = True
        np.testing.assert_array_equal(np.isnan(found), bad)
        np.testing.assert_array_equal(np.isnan(sigma_z), bad)

    def test_depth_range(self) -> None:
        z, coordinate, sigma = self.maps()
        found, _ = triangulate(coordinate, sigma, PINHOLE, projector(), z_range_mm=(195, 200))
        clear = np.abs(z - 195) + np.abs(z - 200) > 5.001
        inside = (z > 195) & (z < 200)
        np.testing.assert_array_equal(np.isfinite(found)[clear | inside], inside[clear | inside])

    def test_nothing_behind_the_projector_or_the_camera(self) -> None:
        """Columns far to the side meet the viewing rays only above the projector, or behind the camera."""
        source = projector(distortion=(0.0,) * 5)
        for column in (-3000.0, 4500.0, 1e7):
            coordinate = np.full((HEIGHT, WIDTH), column, np.float32)
            found, _ = triangulate(coordinate, np.ones_like(coordinate), PINHOLE, source)
            z = found[np.isfinite(found)].astype(float)
            v, u = np.nonzero(np.isfinite(found))
            _, d = PINHOLE.rays(np.stack((u, v), axis=-1).astype(float))
            assert (z > 0).all()
            back = source.project(d * (z / d[:, 2])[:, None])[:, 0]  # NaN behind the projector
            np.testing.assert_allclose(back, column, rtol=1e-4)
        turned = replace(  # it looks away from all that the camera sees in this range
            source,
            rotation=np.diag([1.0, -1, -1]) @ source.rotation,
            translation_mm=np.diag([1.0, -1, -1]) @ source.translation_mm,
        )
        coordinate = np.full((HEIGHT, WIDTH), 450, np.float32)
        found, _ = triangulate(coordinate, np.ones_like(coordinate), PINHOLE, turned, z_range_mm=(150, 250))
        assert np.isnan(found).all()

    def test_memory_is_reused(self) -> None:
        z, coordinate, sigma = self.maps()
        out = (np.empty_like(coordinate), np.empty_like(coordinate))
        found = triangulate(coordinate, sigma, PINHOLE, projector(), out=out)
        assert found[0] is out[0]
        np.testing.assert_allclose(out[0], z, atol=1e-4)
        xyz = np.empty((HEIGHT, WIDTH, 3), np.float32)
        assert xyz_from_depth(out[0], PINHOLE, xyz) is xyz
        np.testing.assert_allclose(PINHOLE.project(xyz)[5, 7], (7, 5), atol=1e-4)

    def test_bad_input_is_named(self) -> None:
        _, coordinate, sigma = self.maps()
        with pytest.raises(InputError, match="coordinate map has shape"):
            triangulate(coordinate[1:], sigma[1:], PINHOLE, projector())
        with pytest.raises(InputError, match="float64"):
            triangulate(coordinate.astype(float), sigma, PINHOLE, projector())
        with pytest.raises(InputError, match="axis 'diagonal'"):
            triangulate(coordinate, sigma, PINHOLE, projector(), axis="diagonal")
        with pytest.raises(InputError, match="depth range 250 to 150"):
            triangulate(coordinate, sigma, PINHOLE, projector(), z_range_mm=(250, 150))
        with pytest.raises(InputError, match="C-contiguous"):
            triangulate(coordinate, sigma, PINHOLE, projector(), out=(coordinate.T.copy().T, sigma))
