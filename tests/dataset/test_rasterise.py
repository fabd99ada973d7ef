"""Which pixels a shape covers, against exact arithmetic; and outlines that lead back to the same pixels."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from skimage.draw import polygon2mask

from rakelight.dataset import rasterise
from rakelight.dataset.contours import outlines
from rakelight.dataset.rasterise import IGNORE, class_map, cover, defect_mask, fill_circle, fill_line, fill_rings
from rakelight.dataset.shapes import Circle, Line, MaskShape, Polygon, Rectangle, keyhole, mask_shape, split_keyhole
from rakelight.errors import DatasetError

SIZE = (24, 32)


def picture(patch: rasterise.Patch, size: tuple[int, int] = SIZE) -> np.ndarray:
    whole = np.zeros(size, np.bool_)
    whole[patch.box] = patch.inside
    return whole


def exact(rings: list[np.ndarray], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Even-odd in rational numbers: crossings of each pixel's ray to the left, ends half open."""
    inside = np.zeros(size, np.bool_)
    edges = [
        (tuple(map(Fraction, a)), tuple(map(Fraction, b)))
        for ring in rings
        for a, b in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True)
    ]
    for row in range(size[0]):
        crossed = [
            a[0] + (row - a[1]) * (b[0] - a[0]) / (b[1] - a[1]) for a, b in edges if (a[1] <= row) != (b[1] <= row)
        ]
        for column in range(size[1]):
            inside[row, column] = sum(u <= column for u in crossed) % 2 == 1
    return inside


@pytest.mark.parametrize("seed", range(25))
def test_polygons_agree_with_exact_arithmetic_also_on_pixel_centres(seed: int) -> None:
    rng = np.random.default_rng(seed)
    step = (1, 2, 4)[seed % 3]  # whole, half and quarter pixels: many points and edges meet pixel centres
    rings = [rng.integers(-4 * step, 36 * step, (n, 2)) / step for n in rng.integers(3, 12, rng.integers(1, 4))]
    np.testing.assert_array_equal(picture(fill_rings(rings, SIZE)), exact(rings))


@pytest.mark.parametrize("seed", range(10))
def test_polygons_agree_with_scikit_image_off_the_pixel_centres(seed: int) -> None:
    ring = np.random.default_rng(seed).uniform(0, 24, (9, 2))
    expected = polygon2mask(SIZE, ring[:, ::-1])
    np.testing.assert_array_equal(picture(fill_rings([ring], SIZE)), expected)


def test_a_square_between_pixel_corners_has_its_area() -> None:
    square = Polygon(points=((2.5, 3.5), (7.5, 3.5), (7.5, 9.5), (2.5, 9.5)))
    covered = picture(cover(square, SIZE))
    assert covered.sum() == 5 * 6
    assert covered[4:10, 3:8].all()


def test_centres_on_the_outline_count_left_and_above() -> None:
    covered = picture(cover(Rectangle(points=((2, 3), (5, 6))), SIZE))
    assert np.argwhere(covered).min(axis=0).tolist() == [3, 2]
    assert np.argwhere(covered).max(axis=0).tolist() == [5, 4]


def test_neighbours_share_no_pixel_and_leave_none() -> None:
    rng = np.random.default_rng(4)
    centre = rng.uniform(8, 16, 2)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    rim = np.round(centre + 7 * np.stack([np.cos(angles), np.sin(angles)], axis=1), 1)
    count = np.zeros(SIZE, int)
    for a, b in zip(rim, np.roll(rim, -1, axis=0), strict=True):
        count += picture(fill_rings([np.array([centre, a, b])], SIZE))
    np.testing.assert_array_equal(count, picture(fill_rings([rim], SIZE)).astype(int))


def test_holes_and_crossings_are_even_odd() -> None:
    outer, hole = [(1, 1), (20, 1), (20, 20), (1, 20)], [(5, 5), (10, 5), (10, 10), (5, 10)]
    covered = picture(cover(Polygon(points=tuple(outer), holes=(tuple(hole),)), SIZE))
    assert covered[3, 3] and not covered[7, 7]
    assert covered.sum() == 19 * 19 - 25
    twice = np.array(outer + outer, float)  # the same way round twice: outside
    assert not fill_rings([twice], SIZE).inside.any()


def test_circle_and_line_are_all_centres_within_reach() -> None:
    v, u = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    circle = picture(fill_circle(10.3, 9.7, 6.2, SIZE))
    np.testing.assert_array_equal(circle, np.hypot(u - 10.3, v - 9.7) <= 6.2)
    points = np.random.default_rng(2).uniform(0, 24, (4, 2))
    reach = np.full(SIZE, np.inf)
    for a, b in pairwise(points):
        t = np.clip(((u - a[0]) * (b - a)[0] + (v - a[1]) * (b - a)[1]) / ((b - a) ** 2).sum(), 0, 1)
        reach = np.minimum(reach, np.hypot(u - a[0] - t * (b - a)[0], v - a[1] - t * (b - a)[1]))
    np.testing.assert_array_equal(picture(fill_line(points, 3.3, SIZE)), reach <= 3.3 / 2)
    dot = np.array([(4.0, 4.0), (4.0, 4.0)])
    assert picture(fill_line(dot, 2.0, SIZE)).sum() == 5


def test_what_lies_beyond_the_picture_is_cut_off() -> None:
    assert picture(cover(Circle(centre=(0, 0), radius_px=3), SIZE)).sum() == 11
    assert cover(Circle(centre=(-9, 0), radius_px=3), SIZE).inside.size == 0
    assert picture(fill_rings([np.array([(-50, -50), (99, -50), (99, 99), (-50, 99)], float)], SIZE)).all()
    assert picture(cover(Line(points=((-5, 2), (40, 2)), width_px=2), SIZE)).sum() == 2 * 32  # rows 1 and 2: 2 px wide


def test_later_regions_win_and_ignored_pixels_are_no_defect() -> None:
    square, band = Rectangle(points=((0, 0), (6, 6))), Rectangle(points=((3, 0), (9, 6)))
    first = class_map([(square, 1), (band, 2)], SIZE)
    assert np.bincount(first.ravel())[1:].tolist() == [18, 36]
    second = class_map([(band, 2), (square, 1), (Rectangle(points=((0, 0), (3, 6))), IGNORE)], SIZE)
    assert rasterise.areas_px(second, {"a": 1, "b": 2, "c": 3}) == {"a": 18, "b": 18}
    mask = defect_mask(second)
    assert mask is not None and set(np.unique(mask)) == {0, 255} and (mask > 0).sum() == 36
    assert not mask[0, 0]
    assert defect_mask(class_map([(square, IGNORE)], SIZE)) is None


# --- outlines ---
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_outlines_fill_to_the_same_pixels(pixels: np.ndarray) -> None:
    """Also where pixels touch by a corner; each area alone, as rings and as one ring."""
    left, top = 5, 7
    expected = np.zeros(SIZE, np.bool_)
    expected[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    for joined in (False, True):
        count = np.zeros(SIZE, int)
        for rings in outlines(pixels, left, top):
            count += picture(fill_rings([keyhole(rings)] if joined else rings, SIZE))
        np.testing.assert_array_equal(count, expected)


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_runs_hold_the_same_pixels(pixels: np.ndarray) -> None:
    shape = mask_shape(pixels, 5, 7)
    expected = np.zeros(SIZE, np.bool_)
    expected[7 : 7 + pixels.shape[0], 5 : 5 + pixels.shape[1]] = pixels
    if shape is None:
        assert not pixels.any()
    else:
        np.testing.assert_array_equal(picture(cover(shape, SIZE)), expected)
        assert MaskShape.model_validate_json(shape.model_dump_json()) == shape


def test_outlines_have_corners_only_and_know_their_holes() -> None:
    pixels = np.ones((9, 9), np.bool_)
    pixels[3:5, 3:6] = False
    ((outer, hole),) = outlines(pixels)
    assert sorted(map(tuple, outer.tolist())) == [(-0.5, -0.5), (-0.5, 8.5), (8.5, -0.5), (8.5, 8.5)]
    assert sorted(map(tuple, hole.tolist())) == [(2.5, 2.5), (2.5, 4.5), (5.5, 2.5), (5.5, 4.5)]


def test_rings_joined_to_one_come_apart_again() -> None:
    pixels = np.random.default_rng(0).random((20, 20)) < 0.7
    for rings in outlines(pixels):
        apart = split_keyhole(keyhole(rings))
        assert [r.tolist() for r in apart] == [r.tolist() for r in rings]
    plain = np.array([(0, 0), (4, 0), (4, 4)], float)
    assert split_keyhole(plain)[0] is plain
    closed = np.vstack([plain, plain[:1]])  # as many programs close their polygons
    assert split_keyhole(closed)[0].tolist() == plain.tolist()


@pytest.mark.parametrize(
    "runs, message",
    [("3 4", "7 pixels"), ("3 -4 13", "whole numbers"), ("", "whole numbers"), ("99999999999", "whole numbers")],
)
def test_runs_that_do_not_fill_the_box_are_refused(runs: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MaskShape(left=0, top=0, width=4, height=3, runs=runs)


def test_absurd_boxes_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ValidationError, match="more than"):
        MaskShape(left=0, top=0, width=65536, height=65536, runs=str(65536**2))


def test_twenty_megapixels_take_a_moment() -> None:
    size = (3648, 5472)
    t = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    reach = 1500 * (1 + 0.1 * np.sin(40 * t))
    ring = np.stack([2700 + reach * np.cos(t), 1800 + reach * np.sin(t)], axis=1)
    start = time.perf_counter()
    inside = fill_rings([ring], size).inside
    taken_s = time.perf_counter() - start
    nodes = np.roll(ring, -1, axis=0)
    area = abs((ring[:, 0] * nodes[:, 1] - ring[:, 1] * nodes[:, 0]).sum()) / 2
    assert math.isclose(inside.sum(), area, rel_tol=1e-5)
    assert taken_s < 2  # measured: 0.03 s


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (Polygon(points=tuple((n % 2, 4000 * (n % 2)) for n in range(2601))), "crossings of edges with rows"),
        (
            Polygon(points=((0, 0), (1, 0), (1, 1)), holes=(tuple((n % 7, n % 5) for n in range(200_000)),) * 5),
            "1000003 corners",
        ),
        (Line(points=tuple((n % 2, n % 3) for n in range(10_000)), width_px=9000), "pixels around its pieces"),
    ],
)
def test_shapes_that_would_take_all_memory_are_refused(shape: Polygon | Line, told: str) -> None:
    with pytest.raises(DatasetError, match=told) as caught:
        cover(shape, (4000, 5000))
    assert caught.value.code == "shape.too_complex"
