"""Figures of gauges from points whose truth is known: steps, flatness, spheres, and what is no gauge."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rakelight.calibration.gauges import (
    find_plates,
    measure_plate,
    measure_sphere,
    normal_errors_deg,
    spacing_error_um,
    step_height,
)
from rakelight.errors import InputError

PITCH_MM = 0.12
FloatArray = NDArray[np.float64]


def stairs(
    heights: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0),
    *,
    tilt_deg: tuple[float, float] = (0.0, 0.0),
    sigma_um: float = 2.0,
    seed: int = 1,
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(H, W, 3) mm of a stair that is tilted as a whole, and its mask; the table lies at 200 mm."""
    v, u = np.mgrid[:120, : 60 + 40 * len(heights)]
    inside = (u >= 30) & (u < 30 + 40 * len(heights)) & (v >= 25) & (v < 95)
    height = np.where(inside, np.array(heights)[np.clip((u - 30) // 40, 0, len(heights) - 1)], 0.0)
    height = height + np.random.default_rng(seed).normal(0, sigma_um / 1000, height.shape)
    local = np.stack([(u - u.mean()) * PITCH_MM, (v - v.mean()) * PITCH_MM, -height], axis=-1)
    turned = local @ Rotation.from_euler("xy", tilt_deg, degrees=True).as_matrix().T
    return turned + np.array([0, 0, 200.0]), inside


@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0), (3.0, -2.0), (-12.0, 15.0)])
def test_steps_of_a_tilted_stair(tilt_deg: tuple[float, float]) -> None:
    xyz, mask = stairs(tilt_deg=tilt_deg)
    plates = find_plates(xyz, mask)
    assert len(plates) == 4
    heights = [step_height(upper, lower) for lower, upper in pairwise(plates)]
    np.testing.assert_allclose([s.height_mm for s in heights], (1, 1, 2), atol=3e-4)
    for step, true in zip(heights, (1, 1, 2), strict=True):
        assert abs(step.height_mm - true) * 1000 < 5 * step.standard_error_um < 1
    whole = step_height(plates[-1], plates[0])
    assert whole.height_mm == pytest.approx(4, abs=5e-4) and whole.angle_deg < 0.01
    assert step_height(plates[0], plates[-1]).height_mm == pytest.approx(-whole.height_mm)


def test_standard_error_knows_noise_that_neighbours_share() -> None:
    rng = np.random.default_rng(3)
    errors = []
    for blob in (1, 9):
        z = np.kron(rng.normal(0, 0.002, (180 // blob, 180 // blob)), np.ones((blob, blob)))
        v, u = np.mgrid[:180, :180] * PITCH_MM
        errors.append(measure_plate(np.stack([u, v, 200 + z], -1), np.ones((180, 180), bool)).standard_error_um)
    assert errors[0] == pytest.approx(2 / 180, rel=0.2) and errors[1] == pytest.approx(9 * errors[0], rel=0.3)


def test_rim_and_flying_pixels_take_no_part_but_dents_do() -> None:
    xyz, mask = stairs((2.0,), sigma_um=0.5)
    clean = find_plates(xyz, mask)[0]
    edge = xyz.copy()
    edge[24:27, 40:60, 2] -= 0.015  # what sees past the edge
    assert find_plates(edge, mask)[0].flatness_um == pytest.approx(clean.flatness_um, rel=0.05)
    spiky = xyz.copy()
    spiky[50:90:20, 40:60:10, 2] -= 0.5  # four pixels, fewer than three in a thousand
    assert find_plates(spiky, mask)[0].flatness_um == pytest.approx(clean.flatness_um, rel=0.05)
    dented = xyz.copy()
    dented[50:56, 40:46, 2] += 0.06
    assert find_plates(dented, mask)[0].flatness_um == pytest.approx(60, rel=0.1)


def test_flatness_of_a_bowed_plate_is_its_bow() -> None:
    xyz, mask = stairs((2.0,), sigma_um=0.1)
    x, y = xyz[..., 0], xyz[..., 1]
    away = (x - x[mask].mean()) ** 2 + (y - y[mask].mean()) ** 2
    bow = 0.15 * away / away[mask].max()  # more than the tolerance that parts plates
    xyz[..., 2] += bow
    (plate,) = find_plates(xyz, mask)
    kept = plate.region
    assert kept.sum() > 0.6 * mask.sum()
    design = np.column_stack([x[kept], y[kept], np.ones(kept.sum())])
    rest = bow[kept] - design @ np.linalg.lstsq(design, bow[kept], rcond=None)[0]
    rest = rest[np.abs(rest) <= np.quantile(np.abs(rest), 0.997)]
    assert plate.flatness_um == pytest.approx(1000 * np.ptp(rest), rel=0.05) and plate.flatness_um > 60


def test_missing_points_are_left_out() -> None:
    xyz, mask = stairs()
    xyz[30:60, 35:40] = np.nan
    plates = find_plates(xyz, mask)
    assert len(plates) == 4 and all(np.isfinite(xyz[p.region]).all() for p in plates)
    assert step_height(plates[1], plates[0]).height_mm == pytest.approx(1, abs=3e-4)


def test_what_is_masked_out_stays_out() -> None:
    xyz, mask = stairs()
    table = find_plates(xyz, ~mask)[0]  # a ring: its hole is the gauge
    assert not (table.region & mask).any() and table.flatness_um < 30


def test_no_gauge() -> None:
    xyz, mask = stairs()
    rough = xyz + np.random.default_rng(0).normal(0, 0.3, xyz.shape)
    narrow = np.zeros_like(mask)
    narrow[40:60, 40:52] = True
    for points, where in ((rough, mask), (np.full_like(xyz, np.nan), mask), (xyz, np.zeros_like(mask)), (xyz, narrow)):
        with pytest.raises(InputError) as told:
            find_plates(points, where)
        assert told.value.code == "gauge.no_plate" and told.value.hint
    wrong: list[tuple[Any, Any, dict[str, Any], str]] = [
        (xyz[0], mask, {}, "input.shape"),
        (xyz, mask[:-1], {}, "input.shape"),
        (xyz, mask, {"tolerance_mm": float("nan")}, "gauge.setting"),
        (xyz, mask, {"edge_px": -1}, "gauge.setting"),
    ]
    for points, where, settings, code in wrong:
        with pytest.raises(InputError) as told:
            find_plates(points, where, **settings)
        assert told.value.code == code


def test_normals_noise_and_error_are_parted() -> None:
    rng = np.random.default_rng(2)
    noisy = np.column_stack([rng.normal(0, np.radians(1.0), (20000, 2)), np.ones(20000)])
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    found = normal_errors_deg(noisy, [0, 0, 1])
    assert found is not None
    assert found[0] == pytest.approx(np.sqrt(np.pi / 2), rel=0.02) and found[1] < 0.03
    tilted = noisy @ Rotation.from_euler("x", 3, degrees=True).as_matrix().T
    tilted[::7] = np.nan
    found = normal_errors_deg(tilted, [0, 0, 1])
    assert found is not None and found[1] == pytest.approx(3, abs=0.05)
    assert normal_errors_deg(np.full((5, 3), np.nan), [0, 0, 1]) is None


def cap(centre: tuple[float, float, float], diameter: float, sigma_um: float, seed: int = 0) -> FloatArray:
    """Points on the half of a sphere that faces the camera, as far as 60° from it."""
    rng = np.random.default_rng(seed)
    slant, turn = np.arccos(rng.uniform(0.5, 1, 5000)), rng.uniform(0, 2 * np.pi, 5000)
    ways = np.column_stack([np.sin(slant) * np.cos(turn), np.sin(slant) * np.sin(turn), -np.cos(slant)])
    return ways * (diameter / 2 + rng.normal(0, sigma_um / 1000, 5000))[:, None] + centre


def test_spheres() -> None:
    first = measure_sphere(cap((-8, 3, 190), 10.0, 2), 10.003)
    second = measure_sphere(cap((12, 3, 188), 10.0, 2, seed=1))
    np.testing.assert_allclose(first.centre_mm, (-8, 3, 190), atol=1e-3)
    assert first.size_error_um == pytest.approx(-3, abs=1) and second.size_error_um is None
    assert first.form_error_um == pytest.approx(2 * 2 * 2.97, rel=0.1)  # 99.7 % of normal noise lie within ± 2.97 σ
    true = float(np.hypot(20, 2))
    assert spacing_error_um(first, second, true) == pytest.approx(0, abs=0.5)
    assert spacing_error_um(first, second, true - 0.02) == pytest.approx(20, abs=0.5)


def test_flying_points_do_not_make_the_form_error_of_a_sphere() -> None:
    points = cap((0, 0, 190), 10.0, 1)
    clean = measure_sphere(points)
    points[:10, 2] -= 1.0
    assert measure_sphere(points).form_error_um < 1.5 * clean.form_error_um  # fewer of the noise are left out
    points[:100, 2] -= 1.0
    assert measure_sphere(points).form_error_um > 500


def test_no_sphere() -> None:
    flat = np.column_stack([np.random.default_rng(0).uniform(-5, 5, (50, 2)), np.full(50, 190.0)])
    for points in (flat, flat[:4], np.full((30, 3), np.nan)):
        with pytest.raises(InputError) as told:
            measure_sphere(points)
        assert told.value.code == "gauge.no_sphere"
