"""Balls found in points of known spheres, and each way in which a ball is not fit to be measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.calibration.balls import Ball, find_balls
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]
FOCAL_PX, TABLE_MM, SHAPE = 2000.0, 200.0, (240, 400)  # 0.1 mm a pixel
TWO = (((-12.5, 1.0, 195.0), 10.0), ((12.5, 1.0, 195.0), 10.0))


def seen(balls: Any, sigma_mm: float = 0.003, steepest_deg: float = 65.0, seed: int = 0) -> tuple[FloatArray, Any]:
    """Points (H, W, 3) that a camera at the origin measures of balls on a table and a bar between them, and the part's mask.

    Noise is along the ray; what is steeper than ``steepest_deg`` is not measured.
    """
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    ray = np.dstack([(u - SHAPE[1] / 2) / FOCAL_PX, (v - SHAPE[0] / 2) / FOCAL_PX, np.ones(SHAPE)])
    z, mask = np.full(SHAPE, TABLE_MM), np.zeros(SHAPE, bool)
    at = ray[..., :2] * 195
    bar = (np.abs(at[..., 0]) < 12) & (np.abs(at[..., 1] - 1) < 1.5)
    z[bar], mask[bar] = 195.0, True
    for centre, diameter in balls:
        b, square = ray @ np.array(centre), (ray**2).sum(axis=2)
        root = b**2 - square * (np.dot(centre, centre) - diameter**2 / 4)
        hit = root > 0
        near = (b - np.sqrt(np.maximum(root, 0))) / square
        normal = (ray * near[..., None] - centre) / (diameter / 2)
        facing = -(normal * ray).sum(axis=2) / np.sqrt(square)
        z[hit] = np.where(facing[hit] > np.cos(np.radians(steepest_deg)), near[hit], np.nan)
        mask[hit] = True
    z = z + np.random.default_rng(seed).normal(0, sigma_mm, SHAPE)
    return ray * z[..., None], mask


def apart(balls: list[Ball]) -> float:
    return float(np.linalg.norm(balls[0].sphere.centre_mm - balls[1].sphere.centre_mm))


def refused(points: FloatArray, mask: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as told:
        find_balls(points, mask, **options)
    return told.value


def test_two_balls_of_one_piece() -> None:
    """The bar joins them, so that the pieces of the part do not tell them apart."""
    balls = find_balls(*seen(TWO), (10.0, 10.002))
    for ball, (centre, _), nominal in zip(balls, TWO, (10.0, 10.002), strict=True):
        np.testing.assert_allclose(ball.sphere.centre_mm, centre, atol=1e-3)
        assert ball.sphere.size_error_um == pytest.approx((10 - nominal) * 1000, abs=1.0)
        assert 10 < ball.sphere.form_error_um < 6.2 * 3.0  # 6 σ, where the surface faces the camera
        cap = (1 - np.cos(np.radians(50))) / 2
        assert ball.seen == pytest.approx(cap, rel=0.04) and ball.filled == pytest.approx(1, abs=0.03)
        assert ball.points == ball.region.sum() > 3000
    assert apart(balls) == pytest.approx(25, abs=1e-3)


def test_unlike_balls_come_as_certified() -> None:
    unlike = (((-12.5, 1.0, 196.0), 8.0), ((12.5, -3.0, 194.0), 12.0))
    for nominal in ((8.0, 12.0), (12.0, 8.0)):
        balls = find_balls(*seen(unlike), nominal)
        assert [round(b.sphere.diameter_mm) for b in balls] == list(nominal)
        assert all(abs(b.sphere.size_error_um or 0) < 1.5 for b in balls)
    balls = find_balls(*seen(unlike))
    assert [round(b.sphere.diameter_mm) for b in balls] == [8, 12] and balls[0].sphere.size_error_um is None


def test_a_dent_is_form_error_and_a_few_flying_points_are_none() -> None:
    points, mask = seen(TWO)
    clean = find_balls(points, mask)
    wild = points.copy()
    wild[100:240:31, 60:90:9] *= 0.97  # 6 mm off: no part of the ball
    assert find_balls(wild, mask)[0].sphere.form_error_um == pytest.approx(clean[0].sphere.form_error_um, abs=2)
    row, column = 130, 75
    points[row : row + 6, column : column + 6] *= 195.1 / 195.0  # 0.1 mm deep
    dented = find_balls(points, mask)[0].sphere
    assert dented.form_error_um > 80 and abs(dented.diameter_mm - 10) < 0.02


def test_a_missing_ball() -> None:
    error = refused(*seen(TWO[:1]))
    assert error.code == "gauge.no_ball" and "1 of 2 balls" in error.message and error.hint
    assert len(find_balls(*seen(TWO[:1]), count=1)) == 1
    points, mask = seen(TWO)
    assert "0 of 2" in refused(points, np.zeros_like(mask)).message


def test_stairs_are_no_balls() -> None:
    points, _ = seen(())
    mask = np.zeros(SHAPE, bool)
    for k in range(4):
        place = np.s_[60:180, 80 + 60 * k : 140 + 60 * k]
        points[place] *= (TABLE_MM - 1 - k) / TABLE_MM
        mask[place] = True
    assert refused(points, mask).code in ("gauge.no_ball", "gauge.ball_shiny")


@pytest.mark.parametrize("shift", [(-4.5, 0.0), (4.0, 0.0), (0.0, 9.0), (0.0, -10.0)])
def test_a_ball_half_out_of_view(shift: tuple[float, float]) -> None:
    moved = [((x + shift[0], y + shift[1], z), d) for (x, y, z), d in TWO]
    error = refused(*seen(moved))
    assert error.code == "gauge.ball_cut" and "beyond the image" in error.message


def test_a_small_ball_has_too_few_points() -> None:
    error = refused(*seen((((-16.0, 1.0, 199.0), 2.0), TWO[1]), sigma_mm=0.001))
    assert error.code == "gauge.ball_points" and "ball 1" in error.message and "needed: 300" in error.message


def test_a_shiny_ball_has_holes() -> None:
    points, mask = seen(TWO)
    at = points[..., :2] / points[..., 2:] * 195
    for x, y in ((-1.8, 0), (1.8, 0), (0, 1.8), (0, -1.8)):  # where four projectors are mirrored
        points[np.hypot(at[..., 0] - 12.5 - x, at[..., 1] - 1 - y) < 1.0] = np.nan
    error = refused(points, mask)
    assert error.code == "gauge.ball_shiny" and "ball 2" in error.message and "shiny" in (error.hint or "")


def test_bad_input() -> None:
    points, mask = seen(TWO)
    assert refused(points, mask[1:]).code == "input.shape"
    assert refused(points, mask, diameters_mm=(10.0,)).code == "gauge.setting"
    assert refused(points, mask, tolerance_mm=0.0).code == "gauge.setting"
