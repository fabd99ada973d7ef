"""Fusion of positions and normals on a wavy surface with a step, a hole and known noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.errors import InputError
from rakelight.reconstruction.fusion import Settings, correct_normals, fuse
from rakelight.reconstruction.models import AffineCamera, PinholeCamera
from rakelight.reconstruction.triangulation import xyz_from_depth

SHAPE = HEIGHT, WIDTH = 120, 160
PINHOLE = PinholeCamera(WIDTH, HEIGHT, 2000.0, 2000.0, 81.0, 58.5, (-0.05, 0.02, 0, 0, 0))
TELECENTRIC = AffineCamera(WIDTH, HEIGHT, np.array([[10.0, 0, 0.4], [0, 10.0, -0.3]]), np.array([70.0, -10.0]))
CAMERAS = pytest.mark.parametrize("camera", [PINHOLE, TELECENTRIC], ids=["pinhole", "affine"])
SIGMA_MM = 0.002
Float32 = NDArray[np.float32]


def surface(camera: Any) -> tuple[Float32, Float32]:
    """Depth and normals (viewer frame) of z = 200 − 0.3 (sin 2x + cos 2.5y), met by iteration on the rays."""
    uv = np.stack(np.meshgrid(np.arange(WIDTH * 1.0), np.arange(HEIGHT * 1.0)), axis=-1)
    origins, ways = camera.rays(uv)
    z = np.full(SHAPE, 200.0)
    for _ in range(60):
        points = origins + ways * ((z - origins[..., 2]) / ways[..., 2])[..., None]
        z = 200 - 0.3 * (np.sin(2 * points[..., 0]) + np.cos(2.5 * points[..., 1]))
    x, y = points[..., 0], points[..., 1]
    n = np.stack([-0.6 * np.cos(2 * x), -0.75 * np.sin(2.5 * y), np.ones_like(x)], axis=-1)
    return z.astype(np.float32), (n / np.linalg.norm(n, axis=-1, keepdims=True)).astype(np.float32)


def measured(z: Float32, seed: int = 1) -> Float32:
    return z + np.random.default_rng(seed).normal(0, SIGMA_MM, SHAPE).astype(np.float32)


def turned(normals: Float32, noise_deg: float, tilt_deg: float = 0.0) -> Float32:
    """Normals with noise, bent from the middle outwards by up to ``tilt_deg``, as a wrong light model bends them."""
    rng = np.random.default_rng(2)
    n = normals + np.float32(np.radians(noise_deg)) * rng.standard_normal(normals.shape).astype(np.float32)
    n[..., 0] += np.tan(np.radians(tilt_deg)) * np.linspace(-1, 1, WIDTH, dtype=np.float32) * n[..., 2]
    return np.ascontiguousarray(n / np.linalg.norm(n, axis=-1, keepdims=True), np.float32)


def rms(a: Float32, b: Float32) -> float:
    return float(np.sqrt(np.nanmean((a.astype(np.float64) - b) ** 2)))


def angle_deg(a: Float32, b: Float32) -> NDArray[np.float64]:
    return np.asarray(np.degrees(2 * np.arcsin(np.linalg.norm(a.astype(np.float64) - b, axis=-1) / 2)))


SIGMA = np.full(SHAPE, SIGMA_MM, np.float32)


@CAMERAS
def test_noise_of_depth_falls_and_the_truth_stays(camera: Any) -> None:
    z, normals = surface(camera)
    fused = fuse(measured(z), SIGMA, turned(normals, 0.6), camera)
    assert fused.converged and fused.steps < 100
    assert rms(measured(z), z) > 0.0019
    assert rms(fused.z_mm, z) < 0.0009
    exact = fuse(z, SIGMA, normals, camera, Settings(smoothing_px=0))
    assert np.abs(exact.z_mm - z).max() < 0.001 and rms(exact.z_mm, z) < 0.0003  # what finite differences leave


@CAMERAS
def test_low_frequencies_come_from_the_surface(camera: Any) -> None:
    z, normals = surface(camera)
    wrong = turned(normals, 0.3, tilt_deg=4.0)
    corrected = correct_normals(wrong, xyz_from_depth(measured(z), camera))
    assert np.median(angle_deg(wrong, normals)) > 1.5
    assert np.median(angle_deg(corrected, normals)) < 0.6
    assert np.abs(np.linalg.norm(corrected, axis=-1) - 1).max() < 1e-5
    bent = rms(fuse(measured(z), SIGMA, wrong, camera, Settings(0.03, smoothing_px=0)).z_mm, z)
    assert rms(fuse(measured(z), SIGMA, wrong, camera, Settings(0.03)).z_mm, z) < 0.6 * bent


def test_fine_relief_of_the_normals_is_kept() -> None:
    z, normals = surface(PINHOLE)
    fine = normals.copy()
    fine[..., 0] += 0.1 * np.sin(np.arange(WIDTH) * 2 * np.pi / 6).astype(np.float32)
    fine /= np.linalg.norm(fine, axis=-1, keepdims=True)
    corrected = correct_normals(fine, xyz_from_depth(z, PINHOLE))
    assert np.median(angle_deg(corrected, fine)[20:-20, 20:-20]) < 0.2 < 3 < np.median(angle_deg(fine, normals))


def test_holes_stay_holes_and_unknown_normals_leave_the_depth() -> None:
    z, normals = surface(PINHOLE)
    noisy = measured(z)
    noisy[40:50, 60:90] = np.nan
    sigma, n = SIGMA.copy(), turned(normals, 0.5)
    n[80:110, 20:60] = np.nan
    fused = fuse(noisy, sigma, n, PINHOLE)
    np.testing.assert_array_equal(np.isnan(fused.z_mm), np.isnan(noisy))
    np.testing.assert_array_equal(fused.z_mm[80:110, 20:60], noisy[80:110, 20:60])
    assert rms(fused.z_mm[:70], z[:70]) < 0.001
    nothing = np.full(SHAPE, np.nan, np.float32)
    assert np.isnan(fuse(nothing, nothing, n, PINHOLE).z_mm).all()


def test_a_step_is_not_smoothed() -> None:
    z, normals = surface(PINHOLE)
    stepped = z.copy()
    stepped[:, 80:] -= 0.05  # 25 sigma; the normals on both sides know nothing of it
    fused = fuse(measured(stepped), SIGMA, turned(normals, 0.3), PINHOLE)
    assert rms(fused.z_mm[:, 74:86], stepped[:, 74:86]) < 0.0015
    jump = np.median(fused.z_mm[:, 79] - z[:, 79]) - np.median(fused.z_mm[:, 80] - z[:, 80])
    assert jump == pytest.approx(0.05, abs=0.001)


def test_no_pixel_moves_further_than_the_bound() -> None:
    z, normals = surface(PINHOLE)
    noisy, wrong = measured(z), turned(normals, 0.5, tilt_deg=4.0)
    loose = Settings(position_weight=1e-3, smoothing_px=0)
    for settings, bound in (
        (Settings(1e-3, smoothing_px=0, most_sigmas=1.5), 1.5 * SIGMA_MM),
        (Settings(1e-3, smoothing_px=0, most_mm=0.001), 0.001),
    ):
        fused = fuse(noisy, SIGMA, wrong, PINHOLE, settings)
        moves = np.abs(fused.z_mm.astype(np.float64) - noisy)
        assert moves.max() < bound + 2e-5 and fused.held > 100
    assert np.abs(fuse(noisy, SIGMA, wrong, PINHOLE, loose).z_mm - noisy).max() > 0.004


@pytest.mark.parametrize(
    "settings",
    [
        {"position_weight": 0.0},
        {"normal_noise_deg": 30},
        {"smoothing_px": 0.5},
        {"most_mm": 0},
        {"most_sigmas": np.nan},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**settings)
    assert caught.value.code == "fusion.settings" and next(iter(settings)) in caught.value.message


def test_maps_that_do_not_fit_are_refused() -> None:
    z, normals = surface(PINHOLE)
    for bad in ((z[:-1], SIGMA, normals), (z, SIGMA.astype(np.float64), normals), (z, SIGMA, normals[:, :-1])):
        with pytest.raises(InputError):
            fuse(*bad, PINHOLE)
