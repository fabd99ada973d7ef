"""Sizes, metres and the background: against arithmetic done here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rakelight.dataset.exporters import background, pictures
from rakelight.errors import DatasetError, InputError


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 6000))
def test_fitted_size_keeps_the_shape_and_never_enlarges(height: int, width: int, longer: int) -> None:
    h, w = pictures.fitted_size(height, width, longer)
    assert (h, w) == (height, width) if longer >= max(height, width) else max(h, w) == longer
    assert abs(h / w - height / width) * w <= height / width + 1
    assert pictures.fitted_size(height, width, None) == (height, width)


def test_nearest_takes_the_pixel_under_the_new_centre() -> None:
    image = np.arange(6 * 9).reshape(6, 9)
    assert np.array_equal(pictures.resize_nearest(image, (2, 3)), image[1::3, 1::3])
    assert np.array_equal(pictures.resize_nearest(image, (6, 9)), image)


@given(st.integers(2, 40), st.integers(2, 40))
def test_nearest_makes_no_new_value_and_keeps_holes_whole(h: int, w: int) -> None:
    rng = np.random.default_rng(h * 41 + w)
    xyz = rng.normal(size=(40, 40, 3)).astype(np.float32)
    xyz[rng.random((40, 40)) < 0.5] = np.nan
    small = pictures.resize_nearest(xyz, (h, w))
    assert np.isin(small[np.isfinite(small)], xyz).all()
    assert set(np.isnan(small).sum(-1).ravel()) <= {0, 3}


def test_area_mean_of_a_picture() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = [[[0], [100]], [[100], [200]]]
    assert pictures.resize_picture(picture, (2, 2))[0, 0].tolist() == [100] * 3


def test_metres_mark_holes_by_zero_and_keep_exact_zeros_valid() -> None:
    xyz = np.array([[[0, 1, 200], [np.nan, 1, 200], [np.nan] * 3, [1e-44, -2, 0]]], np.float32)
    metres, shifted = pictures.to_metres(xyz)
    assert shifted == 3  # x of the first; x (which vanishes when divided) and z of the last
    assert metres.dtype == np.float32
    assert (metres[0, [1, 2]] == 0).all()
    assert (metres[0, [0, 3]] != 0).all()
    assert metres[0, 0].tolist() == pytest.approx([1e-9, 1e-3, 0.2])


@given(st.integers(0, 2**32 - 1), st.floats(1, 1000))
def test_there_and_back_within_the_tolerance(seed: int, reach_mm: float) -> None:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-reach_mm, reach_mm, (8, 8, 3)).astype(np.float32)
    xyz[0, :, 0] = 0
    xyz[rng.random((8, 8)) < 0.3] = np.nan
    metres, _ = pictures.to_metres(xyz)
    back = pictures.from_metres(metres)
    assert np.array_equal(np.isnan(back), np.isnan(xyz))
    assert np.nanmax(np.abs(back.astype(float) - xyz), initial=0) <= 1000 * pictures.XYZ_TOLERANCE_M * max(
        1, reach_mm / 400
    )
    assert pictures.xyz_difference_m(metres, xyz) <= pictures.XYZ_TOLERANCE_M


def test_the_difference_of_other_points_is_told() -> None:
    xyz = np.full((2, 2, 3), 100, np.float32)
    metres, _ = pictures.to_metres(xyz)
    assert pictures.xyz_difference_m(metres + np.float32(1e-5), xyz) == pytest.approx(1e-5, rel=1e-2)
    metres[0, 0] = 0
    assert pictures.xyz_difference_m(metres, xyz) == float("inf")


def test_the_table_is_found_and_the_part_stays(toy: Any) -> None:
    xyz = toy.xyz_map(np.random.default_rng(2))
    assert background.pitch_mm(xyz) == pytest.approx(toy.PITCH_MM, rel=1e-3)
    plane = background.fit_table(xyz, 10 * toy.PITCH_MM)
    assert plane.normal[2] < -0.999 and plane.inlier_ratio > 0.99
    assert plane.normal[0] / -plane.normal[2] == pytest.approx(0.02, abs=0.005)
    found = background.above_table(xyz, plane, 10 * toy.PITCH_MM)
    valid = np.isfinite(xyz).all(-1)
    assert np.array_equal(found, toy.part_mask() & valid)
    height = plane.height_mm(xyz)
    assert np.nanmedian(height[toy.PART]) == pytest.approx(1.5, abs=0.02)


def test_the_same_seed_finds_the_same_plane(toy: Any) -> None:
    xyz = toy.xyz_map(np.random.default_rng(2))
    assert background.fit_table(xyz, 0.5, seed=4) == background.fit_table(xyz, 0.5, seed=4)


def test_a_map_in_millimetres_ten_times_larger_gives_the_same_foreground(toy: Any) -> None:
    """Distances are in units of the pitch: nothing depends on how large the part is."""
    xyz = toy.xyz_map(np.random.default_rng(2))
    masks = []
    for scale in (1, 10):
        scaled = xyz * np.float32(scale)
        distance = 10 * background.pitch_mm(scaled)
        masks.append(background.above_table(scaled, background.fit_table(scaled, distance), distance))
    assert np.array_equal(*masks)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [("holes", "are valid"), ("rough", "lie in one plane")],
)
def test_no_table_is_an_error_not_a_guess(spoil: str, words: str, toy: Any) -> None:
    rng = np.random.default_rng(2)
    xyz = toy.xyz_map(rng)
    if spoil == "holes":
        xyz[:] = np.nan
    else:
        xyz[..., 2] += rng.uniform(0, 100, xyz.shape[:2])
    with pytest.raises(DatasetError, match=words) as caught:
        background.fit_table(xyz, 0.5)
    assert caught.value.code == "export.no_table"


def test_a_pitch_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DatasetError) as caught:
        background.pitch_mm(np.ones((4, 4, 3), np.float32))
    assert caught.value.code == "export.no_pitch"


def test_size_zero_is_refused() -> None:
    with pytest.raises(InputError):
        pictures.fitted_size(4, 4, 0)
