"""AUPRO against two other computations, on maps full of ties and on natural ones; and inputs without an answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rakelight.detection.metrics.areas import auroc_of, f1_max_of
from rakelight.detection.metrics.pro import LIMITS, aupro, aupro_of, pixel_steps, pro_curve, regions_of
from rakelight.errors import InputError

from .conftest import by_counting, by_global_sort, natural, with_hundred_thresholds

SHAPE = (6, 7)
PART = st.tuples(
    arrays(np.int64, SHAPE, elements=st.integers(0, 5)).map(lambda a: (a / 4).astype(np.float32)),
    arrays(np.bool_, SHAPE),
)


@settings(max_examples=150)
@given(st.lists(PART, min_size=1, max_size=4), st.sampled_from([0.01, 0.05, 0.3, 0.5, 1.0]))
def test_equal_to_counting_and_to_a_global_sort_whatever_the_ties(
    parts: list[tuple[np.ndarray, np.ndarray]], limit: float
) -> None:
    maps, masks = [m for m, _ in parts], [k for _, k in parts]
    found = aupro(maps, masks, limit)
    if not any(k.any() for k in masks):
        assert found.value is None and found.reason == "no defective pixel"
    elif all(k.all() for k in masks):
        assert found.value is None and found.reason == "no normal pixel"
    else:
        assert found.value == pytest.approx(by_counting(maps, masks, limit), abs=1e-12)
        assert found.value == pytest.approx(by_global_sort(maps, masks, (limit,))[0], abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 256])
def test_natural_maps_equal_a_global_sort_to_a_billionth(dtype: type, levels: int | None) -> None:
    maps, masks = natural(30, 160, seed=4)
    maps = [m.astype(dtype) for m in maps]
    if levels:  # as after an 8-bit picture
        maps = [np.round(m * dtype(levels / 8)) / dtype(levels / 8) for m in maps]
    steps = pixel_steps(maps, masks, [None] * 30)
    for limit, expected in zip(LIMITS, by_global_sort(maps, masks, LIMITS), strict=True):
        assert aupro_of(steps, limit).value == pytest.approx(expected, abs=1e-9)


def test_pixel_auroc_is_that_of_all_pixels_pooled() -> None:
    from sklearn.metrics import roc_auc_score

    maps, masks = natural(10, 80, seed=1)
    steps = pixel_steps(maps, masks, [None] * 10)
    expected = roc_auc_score(np.concatenate(masks, axis=None), np.concatenate(maps, axis=None))
    assert auroc_of(steps).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_hundred_thresholds_of_the_m3dm_family(limit: float) -> None:
    maps, masks = natural(12, 96, seed=2)
    found = aupro(maps, masks, limit, compat="mvtec100").value
    assert found == pytest.approx(with_hundred_thresholds(maps, masks, limit), abs=1e-9)


def test_the_hundred_thresholds_understate_where_pro_rises_at_once() -> None:
    """A map that is nearly right: at FPR 0.01 the coarse code has no point between 0 and 0.01 but the ends of a chord."""
    rng = np.random.default_rng(0)
    mask = np.zeros((100, 100), np.bool_)
    mask[40:50, 40:50] = True
    scores = rng.standard_normal((100, 100)).astype(np.float32)
    scores[mask] = 3.0 + 0.01 * rng.random(100)  # above all but some thousandths of the normal pixels
    exact, coarse = aupro([scores], [mask], 0.01), aupro([scores], [mask], 0.01, compat="mvtec100")
    assert exact.value is not None and coarse.value is not None
    assert exact.value > 0.7 and coarse.value < exact.value - 0.2


def test_the_tied_code_ignores_ties_and_the_exact_one_does_not() -> None:
    """On constant maps a score knows nothing: L/2. The hundred thresholds give PRO 0 up to the last of them."""
    mask = np.zeros((50, 50), np.bool_)
    mask[:5] = True
    flat = np.ones((50, 50), np.float32)
    assert aupro([flat], [mask], 0.3).value == pytest.approx(0.15)
    assert aupro([flat], [mask], 0.3, compat="mvtec100").value == 0.0


def test_corners_join_regions_and_every_region_weighs_the_same() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[1, 1] = mask[2, 2] = True  # one region, by its corner
    mask[5:8, 5:8] = True
    pixels, weights, count = regions_of(mask)
    assert count == 2 and weights.sum() == pytest.approx(2)
    np.testing.assert_array_equal(np.sort(pixels), np.flatnonzero(mask))
    scores = np.where(mask, 1.0, 0.0)
    scores[5:8, 5:8] = -1.0  # the large region is missed, the small one found
    assert aupro([scores], [mask], 0.3).value == pytest.approx(0.5)


def test_ignored_pixels_count_nowhere_and_do_not_split_a_region() -> None:
    maps, masks = natural(6, 64, seed=3)
    ignore = [np.zeros((64, 64), np.bool_) for _ in maps]
    bar = np.zeros((64, 64), np.bool_)
    bar[20:24, 10:50] = True
    maps[1], masks[1] = maps[1].copy(), bar
    ignore[1][:, 30] = True  # cuts the bar
    assert regions_of(bar, ignore[1])[2] == 1 and len(regions_of(bar, ignore[1])[0]) == 4 * 39
    before = aupro(maps, masks, 0.3, ignore=ignore).value
    maps[1][:, 30] = np.nan  # whatever stands there
    assert aupro(maps, masks, 0.3, ignore=ignore).value == before
    ignore[1] |= bar
    gone = aupro(maps, masks, 0.3, ignore=ignore).value
    masks[1] = np.zeros_like(bar)
    assert aupro(maps, masks, 0.3, ignore=ignore).value == gone  # a region wholly ignored is none


def test_the_curve_has_the_area() -> None:
    maps, masks = natural(6, 64, seed=5)
    steps = pixel_steps(maps, masks, [None] * 6)
    for limit in (0.05, 0.3, 1.0):
        fpr, pro = pro_curve(steps, limit)
        assert fpr[0] == pro[0] == 0 and fpr[-1] == limit
        assert (np.diff(fpr) >= 0).all() and (np.diff(pro) >= -1e-12).all()
        assert np.trapezoid(pro, fpr) / limit == pytest.approx(aupro_of(steps, limit).value, abs=1e-12)
    with pytest.raises(InputError, match="no PRO curve: no defective pixel"):
        pro_curve(pixel_steps(maps, [None] * 6, [None] * 6))


def test_nothing_normal_nothing_defective_nothing_at_all() -> None:
    m, full = np.ones((4, 4)), np.ones((4, 4), np.bool_)
    assert aupro([m], [full]).to_dict() == {"value": None, "reason": "no normal pixel"}
    assert aupro([m], [None]).to_dict() == {"value": None, "reason": "no defective pixel"}
    assert aupro([], []).reason == "no defective pixel"
    assert f1_max_of(pixel_steps([m], [full], [None])).value is None


def test_bad_maps_are_refused_by_number_and_count() -> None:
    m, mask = np.zeros((4, 5)), np.zeros((4, 5), np.bool_)
    hole = m.copy()
    hole[1, 1:3] = np.nan, np.inf
    with pytest.raises(InputError, match="map 2 holds 2 NaN or infinite values in 20"):
        aupro([m, hole], [mask, mask])
    with pytest.raises(InputError, match=r"mask 1 has shape \(4, 4\); needed: 4×5"):
        aupro([m], [mask[:, :4]])
    with pytest.raises(InputError, match=r"limit 0 is outside"):
        aupro([m], [mask], 0)
    with pytest.raises(InputError, match="compat 'upstream'"):
        aupro([m], [mask], compat="upstream")  # type: ignore[arg-type]
