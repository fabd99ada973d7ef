"""Near lights from white planes: analytic frames with vignetting, print, Bayer filter and noise; faults of the plane."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.calibration.plane_lights import fit_plane_lights
from rakelight.calibration.plane_samples import PlaneSamples, sample_plane
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import PinholeCamera, Plane

FloatArray = NDArray[np.float64]
CAMERA = PinholeCamera(480, 320, 1755.0, 1755.0, 240.7, 158.8, (-0.06, 0.03, 2e-4, -1.5e-4, 0.0))
TABLE = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
SOURCES = np.array([[148.5, 0, 51.5], [6.0, -140, 45.0], [-150.0, 4, 60.0], [0, 150, 51.5]])
POWERS = np.array([1.0, 0.92, 1.06, 0.97])
ELECTRONS = 8000.0  # of a full well


def plane_at(height_mm: float) -> Plane:
    return Plane(TABLE.normal, TABLE.offset_mm + height_mm)


def radiances(plane: Plane = TABLE, sources: FloatArray = SOURCES) -> FloatArray:
    """(K, H, W) share of a full well: point lights, cos⁴ of the lens, photosites of three colours, uneven pixels."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float64)
    _, rays = CAMERA.rays(np.stack([u, v], axis=-1))
    xyz = plane.intersect(np.zeros(3), rays)
    common = 0.6 * rays[..., 2] ** 4 * (1 + 0.005 * np.random.default_rng(9).normal(size=u.shape))
    common *= np.where((u + v) % 2 == 1, 1.0, np.where(u % 2 == 0, 0.72, 0.63))
    towards = sources[:, None, None] - xyz
    squared = (towards**2).sum(-1)
    return np.asarray(common * POWERS[:, None, None] * (towards @ plane.normal) * 210.0**2 / squared**1.5)


def frames_of(light: FloatArray, *, noise: bool = True, seed: int = 0) -> dict[int, NDArray[np.uint16]]:
    """12-bit frames with a black level of 64 DN and shot noise."""
    rng = np.random.default_rng(seed)
    shown = rng.poisson(light * ELECTRONS) / ELECTRONS if noise else light
    return {k: np.clip(np.rint(64 + 4031 * image), 0, 4095).astype(np.uint16) for k, image in enumerate(shown, 1)}


def samples_of(frames: dict[int, NDArray[Any]], plane: Plane = TABLE, **options: Any) -> PlaneSamples:
    return sample_plane(frames, CAMERA, plane, full_scale=4095.0, below=64.0, **options)


def rough(seed: int = 1) -> FloatArray:
    return SOURCES + np.random.default_rng(seed).normal(size=SOURCES.shape) * 12.0


# ------------------------------------------------------------------------------------------------------------- the method
def test_positions_and_powers_from_one_plane() -> None:
    """The weak direction of one plane is all sources further out or further in: 5 mm; what it says of its errors holds."""
    found = fit_plane_lights([samples_of(frames_of(radiances()))], rough())
    off = (found.positions - SOURCES).ravel()
    covariance = found.covariance[:12, :12]
    assert off @ np.linalg.solve(covariance, off) < 33.0  # χ² of 12, 99.9 %
    assert np.abs(off).max() < 4 * np.sqrt(np.diag(covariance)).max() < 40.0
    assert np.abs(found.positions[:, 2] - SOURCES[:, 2]).max() < 3.0
    assert 0.8 < found.chi2 < 1.3 and found.misfit < 0.003 and not found.warnings and found.used > 0.95


def test_two_heights_pin_what_one_leaves_open() -> None:
    samples = [samples_of(frames_of(radiances(plane_at(h)), seed=int(h)), plane_at(h)) for h in (0.0, 10.0)]
    one, two = fit_plane_lights(samples[:1], rough()), fit_plane_lights(samples, rough())
    sigmas = [np.sqrt(np.diag(fit.covariance)[:12].max()) for fit in (one, two)]
    assert sigmas[1] < 0.2 * sigmas[0]
    assert np.linalg.norm(two.positions - SOURCES, axis=1).max() < 2.5
    assert np.allclose(two.powers, POWERS / POWERS.mean(), rtol=0.02)


def test_print_and_dirt_on_the_plane_cancel() -> None:
    light = radiances()
    printed = light.copy()
    printed[:, 100:130, 50:400] *= 0.9
    printed[:, ::7, :] *= 0.97
    plain = fit_plane_lights([samples_of(frames_of(light, noise=False))], rough())
    found = fit_plane_lights([samples_of(frames_of(printed, noise=False))], rough())
    assert np.linalg.norm(plain.positions - SOURCES, axis=1).max() < 0.4
    assert np.linalg.norm(found.positions - SOURCES, axis=1).max() < 0.6
    assert any("varies by" in w and "print" in w for w in found.warnings) and not plain.warnings


def test_a_hair_under_one_zone_is_left_out() -> None:
    light = radiances()
    light[1, 60:64, 100:300] *= 0.5  # a shadow that only zone 2 casts
    found = fit_plane_lights([samples_of(frames_of(light, noise=False))], rough())
    assert found.used < 0.99 and found.misfit < 0.003
    assert np.linalg.norm(found.positions - SOURCES, axis=1).max() < 2.0


def test_exposures_are_taken_out() -> None:
    light = radiances()
    times = np.array([1.0, 1.3, 0.8, 1.1])
    frames = frames_of(light * times[:, None, None], noise=False)
    exposures = {k: 1000.0 * t for k, t in enumerate(times, 1)}
    found = fit_plane_lights([samples_of(frames, exposure_us=exposures)], rough())
    assert np.linalg.norm(found.positions - SOURCES, axis=1).max() < 0.5
    assert np.allclose(found.powers, POWERS / POWERS.mean(), rtol=0.003)
    with pytest.raises(CalibrationError, match=r"known of zones \[1, 2\]") as caught:
        samples_of(frames, exposure_us={1: 1.0, 2: 1.0})
    assert caught.value.code == "calibration.exposure_mismatch"


# ------------------------------------------------------------------------------------------------------------------ faults
def test_swapped_lamps_are_named() -> None:
    frames = frames_of(radiances())
    frames[1], frames[3] = frames[3], frames[1]
    with pytest.raises(CalibrationError, match="1 as 3, 3 as 1") as caught:
        fit_plane_lights([samples_of(frames)], SOURCES)
    assert caught.value.code == "calibration.zones_swapped" and "wiring" in caught.value.hint


@pytest.mark.parametrize("fault", ["bent", "step", "shadow"])
def test_plane_that_is_not_flat(fault: str) -> None:
    light = radiances()
    if fault == "bent":  # by 4° to either side
        tilt = np.radians(np.linspace(-4, 4, CAMERA.width))
        light *= 1 + np.array([1.0, 0.0, -1.0, 0.0])[:, None, None] * np.abs(tilt)[None, None] * 2
    elif fault == "step":
        light[:, :, 240:] = radiances(Plane(np.array([0.12, 0.0, -0.9928]), -198.0))[:, :, 240:]
    else:
        light[2, :, :160] *= 0.85
    with pytest.raises(CalibrationError, match="misses that of point lights") as caught:
        fit_plane_lights([samples_of(frames_of(light))], rough())
    assert caught.value.code == "calibration.plane_not_flat" and "flat matte plate" in caught.value.hint


def test_lamps_that_are_no_points_widen_the_errors() -> None:
    light = radiances()
    x = np.linspace(-1, 1, CAMERA.width)
    light[0] *= 1 + 0.02 * (x**3 - 0.6 * x)
    ideal = fit_plane_lights([samples_of(frames_of(radiances()))], rough())
    found = fit_plane_lights([samples_of(frames_of(light))], rough())
    assert found.chi2 > 1.5 and found.covariance[0, 0] > 3 * ideal.covariance[0, 0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda f: f | {2: np.full_like(f[2], 70)}, "calibration.white_dark"),
        (lambda f: f | {2: np.full_like(f[2], 4095)}, "calibration.white_saturated"),
        (lambda f: f | {3: f[3][:-2]}, "calibration.size_mismatch"),
        (lambda f: f | {1: np.where(np.arange(480) < 240, f[1], 80).astype(np.uint16)}, "calibration.white_uneven"),
    ],
)
def test_frames_that_show_no_white_plane(change: Any, code: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        samples_of(change(frames_of(radiances(), noise=False)))
    assert caught.value.code == code and caught.value.hint


def test_input_faults() -> None:
    frames = frames_of(radiances(), noise=False)
    with pytest.raises(InputError, match="at least 2"):
        samples_of({1: frames[1]})
    samples = samples_of(frames)
    for planes, start in (
        ([samples], SOURCES[:3]),
        ([], SOURCES),
        ([samples, replace(samples, zones=(1, 2, 3, 5))], SOURCES),
    ):
        with pytest.raises(CalibrationError, match="must agree") as caught:
            fit_plane_lights(planes, start)
        assert caught.value.code == "calibration.zones_differ"
