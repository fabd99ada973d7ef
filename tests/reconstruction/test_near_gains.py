"""Gains carried from distant to near lights, and the points light vectors are aimed at, against plain float64 geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.light_points import coarse_depth, light_points
from rakelight.reconstruction.lights import Light
from rakelight.reconstruction.models import VIEWER, AffineCamera, PinholeCamera, Plane
from rakelight.reconstruction.near_gains import near_gains, rays_of

PINHOLE = PinholeCamera(160, 100, 580.0, 580.0, 80.3, 48.6, (-0.06, 0.03, 2e-4, -1.5e-4, 0.0))
TELECENTRIC = AffineCamera(160, 100, np.array([[3.0, 0.02, 0.3], [-0.01, 3.1, -0.2]]), np.array([70.0, 60.0]))
NORMAL = np.array([0.06, -0.04, -1.0]) / np.linalg.norm([0.06, -0.04, -1.0])
TABLE = Plane(NORMAL, float(NORMAL @ [0, 0, 200]))
CAMERAS = pytest.mark.parametrize("camera", [PINHOLE, TELECENTRIC], ids=["pinhole", "affine"])


def lights() -> tuple[Light, ...]:
    """With reference points at different heights above the table."""
    places = [(150, 3, 50), (-4, -148, 52), (-150, 0, 48), (2, 149, 50)]
    return tuple(Light.near(k + 1, place, (0.5, -1.0, 199.0 - 2 * k), 1.0 + 0.1 * k) for k, place in enumerate(places))


def pixels(camera: Any) -> Any:
    return np.stack(np.meshgrid(np.arange(camera.width * 1.0), np.arange(camera.height * 1.0)), axis=-1)


@CAMERAS
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_near_gains_are_those_of_the_light_vectors_on_the_white_plane(camera: Any, dtype: Any) -> None:
    gains = np.random.default_rng(1).integers(1000, 60000, (4, 100, 160)).astype(dtype)
    gains[1, 5, 7] = 0
    rows = slice(30, 71)
    got = near_gains(gains[:, rows], lights(), TABLE, rays_of(camera, rows))
    for k, light in enumerate(lights()):
        assert light.reference_mm is not None
        white = Plane(TABLE.normal, float(TABLE.normal @ light.reference_mm))
        points = white.intersect(*camera.rays(pixels(camera)))
        n = TABLE.normal * VIEWER
        factor = (light.vectors(points) @ n) / (light.vectors() @ n)
        assert factor.max() / factor.min() > 1.2
        np.testing.assert_allclose(got[k], (gains[k] * factor)[rows], rtol=3e-6)
    out = np.empty((4, 41, 160), np.float32)
    assert near_gains(gains[:, rows], lights(), TABLE, rays_of(camera, rows), out=out) is out
    np.testing.assert_array_equal(out, got)


def test_near_gains_refuse_what_does_not_fit() -> None:
    rays, gains = rays_of(PINHOLE), np.ones((4, 100, 160), np.float32)
    far = (*lights()[:3], Light(4, np.array([0, -0.7071068, 0.7071068])))
    with pytest.raises(CalibrationError) as caught:
        near_gains(gains, far, TABLE, rays)
    assert caught.value.code == "calibration.light_model" and "zone 4" in caught.value.message
    for bad in (gains[:3], gains[:, :50], gains.astype(np.float64)):
        with pytest.raises(InputError):
            near_gains(bad, lights(), TABLE, rays)
    with pytest.raises(InputError, match="contiguous"):
        near_gains(gains, lights(), TABLE, rays, out=np.empty((4, 160, 100), np.float32).transpose(0, 2, 1))


@CAMERAS
def test_light_points_keep_what_is_measured_and_fill_holes_from_nearby(camera: Any) -> None:
    raised = Plane(TABLE.normal, TABLE.offset_mm + 12.0)  # a plateau over the left half, the right half not measured
    true = raised.intersect(*camera.rays(pixels(camera))).astype(np.float32)
    xyz = true.copy()
    xyz[:, 80:] = np.nan
    hole = (slice(40, 52), slice(30, 45))
    xyz[hole] = np.nan
    coarse = coarse_depth(xyz, TABLE, rays_of(camera))
    assert coarse.shape == (7, 10)
    tiles = [slice(0, 37), slice(37, 100)]
    points = np.concatenate([light_points(xyz[r], coarse, TABLE, rays_of(camera, r)) for r in tiles])
    measured = np.isfinite(xyz[..., 2])
    np.testing.assert_array_equal(points[measured], xyz[measured])
    assert np.abs(points[hole] - true[hole]).max() < 0.3  # 12 mm above the table
    away = np.linalg.norm(points - true, axis=-1)
    assert away[:, 85].max() < 2.0 < 5.0 < away[:, -1].min()
    on_rays = camera.project(points)
    assert np.abs(on_rays - pixels(camera))[~measured].max() < 0.01


def test_nothing_measured_is_the_table() -> None:
    xyz = np.full((100, 160, 3), np.nan, np.float32)
    rays = rays_of(PINHOLE)
    points = light_points(xyz, coarse_depth(xyz, TABLE, rays), TABLE, rays)
    np.testing.assert_allclose(points, TABLE.intersect(*PINHOLE.rays(pixels(PINHOLE))), atol=1e-4)
    with pytest.raises(InputError):
        coarse_depth(xyz[:50], TABLE, rays)
