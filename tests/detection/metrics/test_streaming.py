"""Histograms give the figures of all pixels: whatever the scale, the offset, the outliers and the order of the parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rakelight.detection.metrics._histogram_kernels import bin_of
from rakelight.detection.metrics.areas import auroc_of, average_precision_of, f1_max_of
from rakelight.detection.metrics.pro import LIMITS, aupro_of, pixel_steps
from rakelight.detection.metrics.streaming import (
    COARSE,
    FINE,
    PixelHistogram,
    centre_of,
    merged,
    streamed_steps,
)
from rakelight.errors import InputError

from .conftest import natural

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1e-6, 0.0), (1e5, -3e6), (1.0, 1000.0), (-1.0, 0.0)])
def test_within_five_ten_thousandths_of_exact(factor: float, offset: float) -> None:
    maps, masks = natural(30, 128, seed=6)
    maps = [(m * np.float32(factor) + np.float32(offset)).astype(np.float32) for m in maps]
    maps[7][0, 0] = 3e30  # one pixel gone mad widens no bin
    exact, quick = pixel_steps(maps, masks, [None] * 30), streamed_steps(zip(maps, masks, strict=True))
    for limit in LIMITS:
        assert aupro_of(quick, limit).value == pytest.approx(aupro_of(exact, limit).value, abs=1e-4)
        mvtec = [aupro_of(s, limit, "mvtec100").value for s in (quick, exact)]
        assert mvtec[0] == pytest.approx(mvtec[1], abs=5e-3)
    for figure in (auroc_of, average_precision_of, f1_max_of):
        assert figure(quick).value == pytest.approx(figure(exact).value, abs=2e-4)


@settings(max_examples=200)
@given(arrays(np.float32, st.integers(2, 30), elements=FLOATS), FLOATS)
def test_bins_keep_the_order_and_their_edges_lie_below(scores: np.ndarray, centre: float) -> None:
    shift, middle = 32 - FINE, np.float32(centre)
    with np.errstate(over="ignore"):
        differences = np.sort(scores[np.isfinite(scores - middle)] - middle)
    ordered = np.array([bin_of(d, np.float32(0), shift) for d in differences])
    assert (np.diff(ordered) >= 0).all()
    assert ((ordered >= 0) & (ordered < 1 << FINE)).all()
    if len(differences):
        histogram = PixelHistogram(0.0)
        histogram.add(differences[None])
        bins = histogram.bins()
        np.testing.assert_array_equal(bins.index, np.unique(ordered))
        edges = bins.lower_edges()[np.searchsorted(bins.index, ordered)]
        assert (edges <= differences).all()
        assert (differences - edges <= np.maximum(np.abs(differences), np.abs(edges)) * 2.0**-9 + 1e-38).all()


def test_scores_in_bins_of_their_own_give_exact_figures() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(-8, 9, (20, 20)).astype(np.float32) / 4 for _ in range(6)]
    masks = [rng.random((20, 20)) < 0.1 for _ in range(6)]
    exact, quick = pixel_steps(maps, masks, [None] * 6), streamed_steps(zip(maps, masks, strict=True))
    for limit in (*LIMITS, 1.0):
        assert aupro_of(quick, limit).value == pytest.approx(aupro_of(exact, limit).value, abs=1e-12)
    best, expected = f1_max_of(quick), f1_max_of(exact)
    assert best.value == pytest.approx(expected.value, abs=1e-12)
    assert best.threshold is not None and expected.threshold is not None
    # the lower edge of the bin: it lets the same pixels through
    assert expected.threshold - 0.01 < best.threshold <= expected.threshold


def test_plus_and_minus_zero_are_one_score() -> None:
    for centre in (0.0, -0.0):
        assert bin_of(np.float32(0.0), np.float32(centre), 12) == bin_of(np.float32(-0.0), np.float32(centre), 12)


def test_order_and_merging_change_nothing() -> None:
    maps, masks = natural(8, 64, seed=7)
    centre = centre_of(maps[0])
    one, back = PixelHistogram(centre), PixelHistogram(centre)
    each = []
    for m, k in zip(maps, masks, strict=True):
        one.add(m, k)
        each.append(PixelHistogram(centre))
        each[-1].add(m, k)
    for m, k in zip(maps[::-1], masks[::-1], strict=True):
        back.add(m, k)
    together = merged([h.bins() for h in each])
    for other in (back.bins(), together):
        np.testing.assert_array_equal(one.bins().index, other.index)
        np.testing.assert_array_equal(one.bins().counts, other.counts)
        np.testing.assert_allclose(one.bins().region, other.region, atol=1e-12)
        assert one.bins().regions == other.regions
    with pytest.raises(InputError, match="of one centre and size"):
        merged([one.bins(), PixelHistogram(centre, COARSE).bins()])


def test_part_and_ignore_masks_choose_what_counts() -> None:
    maps, masks = natural(6, 64, seed=8)
    rng = np.random.default_rng(0)
    ignore, part = rng.random((64, 64)) < 0.2, rng.random((64, 64)) < 0.5
    histogram = PixelHistogram(centre_of(maps[0]))
    for m, k in zip(maps, masks, strict=True):
        histogram.add(m, k, ignore=ignore, part=part)
    bins = histogram.bins()
    whole = pixel_steps(maps, masks, [ignore] * 6)
    assert aupro_of(bins.steps(), 0.3).value == pytest.approx(aupro_of(whole, 0.3).value, abs=1e-4)
    # inside the part: its normal pixels, and defective ones wherever they are
    inside = pixel_steps(maps, masks, [ignore | (~part & ~k) for k in masks])
    assert bins.steps(inside=True).normals == inside.normals
    assert bins.steps(inside=True).defects == inside.defects == whole.defects
    assert auroc_of(bins.steps(inside=True)).value == pytest.approx(auroc_of(inside).value, abs=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_a_refused_part_leaves_nothing_behind(masked: bool) -> None:
    maps, masks = natural(4, 32, seed=9)
    part = np.ones((32, 32), np.bool_) if masked else None
    histogram = PixelHistogram(1.0)
    histogram.add(maps[1], masks[1], part=part)
    before = histogram.bins()
    broken = maps[3].copy()
    broken[np.nonzero(masks[3])[0][0], np.nonzero(masks[3])[1][0]] = np.nan
    broken[0, :3] = np.inf
    with pytest.raises(InputError, match="map of knob holds 4 NaN or infinite values in 1024") as caught:
        histogram.add(broken, masks[3], part=part, name="map of knob")
    assert caught.value.code == "input.not_finite" and "ignore mask" in caught.value.hint
    after = histogram.bins()
    np.testing.assert_array_equal(before.counts, after.counts)
    assert before.regions == after.regions
    histogram.add(broken, masks[3], ignore=~np.isfinite(broken), part=part)  # where it does not count, NaN is no matter
    assert histogram.bins().counts.sum() == before.counts.sum() + 1024 - 4


def test_memory_does_not_grow_with_the_parts() -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    scores = rng.standard_normal((512, 512)).astype(np.float32)
    mask = scores > 3
    histogram = PixelHistogram(0.0)
    histogram.add(scores, mask)
    tracemalloc.start()
    for n in range(20):
        histogram.add(scores + np.float32(n), mask)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now < 100_000 and peak < 8 * scores.nbytes


def test_sizes_and_settings_are_checked() -> None:
    histogram = PixelHistogram(0.0)
    with pytest.raises(InputError, match=r"mask of map has shape \(3, 3\); needed: 4×4"):
        histogram.add(np.zeros((4, 4)), np.zeros((3, 3), np.bool_))
    with pytest.raises(InputError, match="25 bits is outside its range, 8 to 24"):
        PixelHistogram(0.0, 25)
    with pytest.raises(InputError, match="centre of a histogram is nan"):
        PixelHistogram(float("nan"))
    assert aupro_of(streamed_steps([])).reason == "no defective pixel"
    assert centre_of(np.full((2, 2), np.nan)) == 0.0
