"""AUROC, average precision and F1-max against scikit-learn, counting by hand, and inputs without an answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from rakelight.detection.metrics.areas import auroc, average_precision, f1_floor, f1_max, steps_of
from rakelight.errors import InputError

TIES = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=60)
WIDE = st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=150)
@given(TIES | WIDE)
def test_equal_to_scikit_learn_with_and_without_ties(pairs: list[tuple[float, bool]]) -> None:
    scores = np.array([s for s, _ in pairs], np.float64)
    bad = np.array([b for _, b in pairs])
    figures = [auroc(scores, bad), average_precision(scores, bad), f1_max(scores, bad)]
    if bad.all() or not bad.any():
        missing = "no normal item" if bad.all() else "no defective item"
        assert [(f.value, f.reason) for f in figures] == [(None, missing)] * 3
        return
    f1 = max(2 * (bad & (scores >= t)).sum() / ((scores >= t).sum() + bad.sum()) for t in scores)
    np.testing.assert_allclose(
        [f.value for f in figures],
        [roc_auc_score(bad, scores), average_precision_score(bad, scores), f1],
        rtol=1e-12,
        atol=1e-12,
    )
    best = f1_max(scores, bad)
    assert best.value is not None and best.threshold is not None and best.floor is not None
    assert f1_score(bad, scores >= best.threshold) == pytest.approx(best.value, abs=1e-12)
    assert best.value >= best.floor - 1e-12


def test_a_hundred_thousand_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    bad = rng.random(100_000) < 0.03
    scores = (rng.standard_normal(100_000) + bad).astype(np.float32)
    assert auroc(scores, bad).value == pytest.approx(roc_auc_score(bad, scores), abs=1e-12)
    assert average_precision(scores, bad).value == pytest.approx(average_precision_score(bad, scores), abs=1e-12)


def test_constant_scores_know_nothing() -> None:
    bad = np.arange(10) < 4
    best = f1_max(np.zeros(10), bad)
    assert auroc(np.zeros(10), bad).value == 0.5
    assert best.value == pytest.approx(f1_floor(0.4)) == best.floor
    assert average_precision(np.zeros(10), bad).value == pytest.approx(0.4)


def test_counts_stand_for_repeated_items() -> None:
    rng = np.random.default_rng(0)
    scores, bad = rng.integers(0, 9, 30).astype(float), rng.random(30) < 0.4
    often = rng.integers(0, 4, (5, 30))
    together = steps_of(scores, bad, often.astype(np.float64))
    for n, counts in enumerate(often):
        alone = steps_of(np.repeat(scores, counts), np.repeat(bad, counts))
        assert alone.defects == together.defects[n] and alone.normals == together.normals[n]
        np.testing.assert_array_equal(np.unique(alone.reached), np.unique(together.reached[n][together.reached[n] > 0]))


@pytest.mark.parametrize("bad_score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_refused_with_their_count(bad_score: float) -> None:
    with pytest.raises(InputError, match="1 NaN or infinite values of 3"):
        auroc([0.0, bad_score, 1.0], [True, False, True])


def test_wrong_lengths_and_labels_are_refused() -> None:
    with pytest.raises(InputError, match="3 scores but 2 labels"):
        auroc([0.0, 1.0, 2.0], [True, False])
    with pytest.raises(InputError, match="dtype"):
        auroc([0.0, 1.0], [1, 0])
    assert auroc(np.zeros(0), np.zeros(0, np.bool_)).reason == "no defective item"
