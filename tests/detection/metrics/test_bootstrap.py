"""Intervals over parts: how often they hold the truth, that they repeat, and what they say where nothing varies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rakelight.detection.metrics.bootstrap import (
    auroc_with_interval,
    draw_counts,
    interval,
    least_separated,
)
from rakelight.errors import InputError


def test_intervals_hold_the_true_auroc_about_as_often_as_they_say() -> None:
    """400 tests of 40 good and 40 defective parts, scores normal and 1.2 apart: the true AUROC is Φ(1.2/√2)."""
    truth = 0.5 * (1 + math.erf(1.2 / 2))
    rng = np.random.default_rng(11)
    bad = np.arange(80) < 40
    hits, widths = 0, []
    for n in range(400):
        found = auroc_with_interval(rng.standard_normal(80) + 1.2 * bad, bad, resamples=300, seed=n)
        assert found.low is not None and found.high is not None and found.value is not None
        assert found.low <= found.value <= found.high
        hits += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert 0.91 <= hits / 400 <= 0.98
    assert 0.12 < np.mean(widths) < 0.25


def test_strata_keep_their_numbers() -> None:
    labels = np.array(["good"] * 5 + ["dent"] * 3 + ["stain"])
    counts = draw_counts(labels, 200, seed=1)
    assert (counts[:, :5].sum(axis=1) == 5).all() and (counts[:, 5:8].sum(axis=1) == 3).all()
    assert (counts[:, 8] == 1).all()
    np.testing.assert_allclose(counts[:, :5].mean(axis=0), 1, atol=0.25)
    np.testing.assert_array_equal(counts, draw_counts(labels, 200, seed=1))
    assert (counts != draw_counts(labels, 200, seed=2)).any()


def test_same_seed_same_interval_and_more_parts_a_narrower_one() -> None:
    rng = np.random.default_rng(0)
    bad = np.arange(400) < 200
    scores = rng.standard_normal(400) + bad
    first = auroc_with_interval(scores, bad, seed=5)
    assert first == auroc_with_interval(scores, bad, seed=5)
    few = auroc_with_interval(scores[180:220], bad[180:220], seed=5)
    assert first.low is not None and first.high is not None and few.low is not None and few.high is not None
    assert first.high - first.low < 0.6 * (few.high - few.low)


def test_labels_wholly_apart_are_not_certain() -> None:
    bad = np.arange(30) < 10
    apart = auroc_with_interval(bad.astype(float), bad)
    assert apart.value == 1 and apart.high == 1 and apart.low == least_separated(10)
    assert least_separated(10) == pytest.approx(0.6915, abs=1e-4)
    wrong = auroc_with_interval(~bad + 0.0, bad)
    assert (wrong.value, wrong.low) == (0, 0) and wrong.high == pytest.approx(1 - least_separated(10))


def test_the_bound_for_labels_apart_holds() -> None:
    """At the AUROC of the bound, no score gives ten right pairs more often than 2.5 %."""
    rng = np.random.default_rng(0)
    bad, hits = np.arange(20) < 10, 0
    for _ in range(2000):  # good parts are uniform; a defective one lies above them all, or with 1 − AUROC below
        scores = np.where(bad, np.where(rng.random(20) < least_separated(10), 2.0, -1.0), rng.random(20))
        hits += scores[bad].min() > scores[~bad].max()
    assert hits / 2000 < 0.04


def test_an_interval_holds_the_figure_itself() -> None:
    draws = np.linspace(0.6, 0.8, 201)
    assert interval(0.7, draws) == pytest.approx((0.605, 0.795))
    assert interval(0.5, draws) == pytest.approx((0.5, 0.795))
    assert interval(0.9, draws) == pytest.approx((0.605, 0.9))


def test_what_has_no_interval_gets_none() -> None:
    assert interval(0.5, np.full(100, 0.5)) is None
    assert interval(0.5, np.arange(39.0)) is None
    assert interval(0.5, np.append(np.arange(100.0), np.nan)) is None
    assert auroc_with_interval([1.0, 2.0], [True, True]).reason == "no normal part"
    with pytest.raises(InputError, match=r"level 95 is outside"):
        auroc_with_interval([1.0, 2.0], [True, False], level=95)
