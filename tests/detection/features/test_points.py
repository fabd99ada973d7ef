"""Farthest points, nearest points and interpolation against plain loops over the whole cloud."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rakelight.detection.features.points import (
    cell_weights,
    farthest_points,
    interpolation_weights,
    nearest_points,
)
from rakelight.errors import InputError


def farthest_by_hand(points: NDArray[np.float32], count: int, start: int) -> list[int]:
    distances = np.full(len(points), np.inf, np.float32)
    picks = [start]
    while len(picks) < count:
        d = points - points[picks[-1]]
        distances = np.minimum(distances, d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2)
        picks.append(int(distances.argmax()))  # the first of equals
    return picks


def cloud(kind: str, count: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    if kind == "ball":
        return rng.normal(0, 5, (count, 3)).astype(np.float32)
    if kind == "plate":  # a regular grid: most distances are equal
        side = int(np.ceil(np.sqrt(count)))
        u, v = np.meshgrid(np.arange(side), np.arange(side))
        return np.stack([u, v, np.full_like(u, 200)], -1).reshape(-1, 3)[:count].astype(np.float32)
    if kind == "few places":
        return rng.integers(0, 3, (count, 3)).astype(np.float32)
    return np.repeat(rng.normal(0, 1, (1, 3)), count, 0).astype(np.float32)  # one place


@pytest.mark.parametrize("kind", ["ball", "plate", "few places", "one place"])
@pytest.mark.parametrize(("total", "count", "start"), [(1, 1, 0), (63, 63, 5), (65, 20, 64), (5000, 300, 17)])
def test_farthest_points_are_those_of_the_plain_loop(kind: str, total: int, count: int, start: int) -> None:
    points = cloud(kind, total)
    assert farthest_points(points, count, start=start).tolist() == farthest_by_hand(points, count, start)


@given(st.integers(0, 10_000), st.integers(1, 400), st.floats(1e-3, 1e4))
def test_farthest_points_at_any_scale(seed: int, total: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.normal(0, scale, (total, 3)) + rng.normal(0, 10 * scale, 3)).astype(np.float32)
    count = int(rng.integers(1, total + 1))
    assert farthest_points(points, count).tolist() == farthest_by_hand(points, count, 0)


def test_nearest_points_are_the_nearest() -> None:
    points, queries = cloud("ball", 2000), cloud("ball", 50, seed=1)
    found = nearest_points(points, queries, 128)
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - points[None], axis=2)
    assert np.array_equal(found, np.argsort(distances, axis=1)[:, :128])


@pytest.mark.parametrize("centres", [1, 2, 40])
def test_three_nearest_weights_follow_the_formula(centres: int) -> None:
    points, at = cloud("ball", 300), cloud("ball", centres, seed=2)
    values = np.random.default_rng(3).normal(0, 1, (centres, 7)).astype(np.float32)
    squared = ((points[:, None].astype(np.float64) - at[None]) ** 2).sum(2)
    expected = np.zeros((300, 7))
    for i, row in enumerate(squared):
        near = np.argsort(row)[:3]
        w = 1 / (row[near] + 1e-8)
        expected[i] = (w[:, None] * values[near]).sum(0) / w.sum()
    assert np.allclose(interpolation_weights(points, at) @ values, expected, atol=1e-5)


def test_a_point_on_a_centre_takes_its_feature() -> None:
    points = cloud("ball", 100)
    weights = interpolation_weights(points, points[:10]).toarray()
    assert np.allclose(weights[:10], np.eye(10), atol=1e-6)


def test_nearest_and_no_interpolation() -> None:
    points = cloud("ball", 200)
    picks = farthest_points(points, 20)
    nearest = interpolation_weights(points, points[picks], "nearest").toarray()
    squared = ((points[:, None] - points[picks][None]) ** 2).sum(2)
    assert np.array_equal(nearest.argmax(1), squared.argmin(1))
    assert np.array_equal(nearest.sum(1), np.ones(200))
    alone = interpolation_weights(points, points[picks], "off").toarray()
    assert np.array_equal(alone[picks], np.eye(20))
    assert alone.sum() == 20  # no other point has anything


def test_equal_centres_count_once_without_interpolation() -> None:
    points = cloud("ball", 30)
    weights = interpolation_weights(points, points[[4, 4, 7]], "off").toarray()
    assert weights.sum(1).max() == 1 and weights[4].sum() == 1 and weights[7].sum() == 1


@pytest.mark.parametrize("mode", ["three-nearest", "nearest", "off"])
def test_cells_take_the_mean_of_their_points(mode: str) -> None:
    points = cloud("ball", 400)
    picks = farthest_points(points, 50)
    cells = np.random.default_rng(5).integers(0, 30, 400)
    cells[cells == 7] = 8  # a cell without points
    values = np.random.default_rng(6).normal(0, 1, (50, 4)).astype(np.float32)
    weights = interpolation_weights(points, points[picks], mode)  # type: ignore[arg-type]
    each = weights @ values
    has = weights.toarray().any(1)
    cell = cell_weights(weights, cells, 30)
    for c in range(30):
        members = has & (cells == c)
        if members.any():
            assert np.allclose((cell @ values)[c], each[members].mean(0), atol=1e-5)
        else:
            assert cell[[c]].nnz == 0
    assert cell[[7]].nnz == 0


def test_bad_clouds_are_refused() -> None:
    good = cloud("ball", 10)
    broken = good.copy()
    broken[3, 1] = np.nan
    for call, code in (
        (lambda: farthest_points(good[:0], 1), "points.shape"),
        (lambda: farthest_points(good[:, :2], 1), "points.shape"),
        (lambda: farthest_points(broken, 2), "points.not_finite"),
        (lambda: farthest_points(good, 11), "points.count"),
        (lambda: farthest_points(good, 0), "points.count"),
        (lambda: farthest_points(good, 2, start=10), "points.start"),
        (lambda: nearest_points(good, good, 11), "points.count"),
        (lambda: interpolation_weights(good, good, "linear"), "points.interpolation"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.code == code
