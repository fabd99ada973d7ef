"""Conformal p-values and thresholds: exact by counting, and as many false alarms as promised."""

import json
import math

import numpy as np
import pytest
from scipy.stats import combine_pvalues, kstest

from rakelight.detection import conformal
from rakelight.errors import InputError, ModelError


def test_p_values_by_counting():
    calibration = [3.0, 1.0, 2.0, 2.0]
    p = conformal.p_values([0.0, 2.0, 2.5, 9.0, np.nan], calibration)
    np.testing.assert_allclose(p[:4], [1.0, 4 / 5, 2 / 5, 1 / 5])
    assert np.isnan(p[4])


def test_random_ties_are_uniform_even_when_scores_repeat():
    rng = np.random.default_rng(1)
    p = [
        conformal.p_values(s[0], s[1:], ties="random", seed=i).item()
        for i, s in enumerate(rng.integers(0, 3, (3000, 15)))
    ]
    assert kstest(p, "uniform").pvalue > 1e-3
    assert (
        kstest([conformal.p_values(s[0], s[1:]).item() for s in rng.integers(0, 3, (500, 15))], "uniform").pvalue < 1e-6
    )


@pytest.mark.parametrize("alpha", [0.025, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [3, 9, 19, 39, 40, 100])
def test_threshold_and_p_value_reject_the_same(n, alpha):
    rng = np.random.default_rng(n)
    calibration = rng.integers(0, 50, n).astype(float)
    scores = np.arange(-1.0, 51.0, 0.5)
    limit = conformal.threshold(calibration, alpha)
    np.testing.assert_array_equal(scores > limit, conformal.p_values(scores, calibration) <= alpha + 1e-12)
    assert math.isinf(limit) == (n < conformal.needed_parts(alpha))


@pytest.mark.parametrize("n", [19, 25, 40, 100])
def test_false_alarms_are_as_promised(n):
    """The bar: at α = 0.1, 6–14 % of fresh good parts rejected with 19 or more exchangeable parts in the calibration."""
    rng = np.random.default_rng(n)
    runs = 400
    rates = np.array(
        [(rng.gamma(2, size=200) > conformal.threshold(rng.gamma(2, size=n), 0.1)).mean() for _ in range(runs)]
    )
    assert 0.06 <= rates.mean() <= 0.14
    assert rates.mean() <= 0.1 + 3 * rates.std() / math.sqrt(runs)
    low, high = conformal.rate_range(n, 0.1)  # of the true rate; 200 parts spread it a little more
    noise = 2 * math.sqrt(0.1 * 0.9 / 200)
    assert ((rates >= low - noise) & (rates <= high + noise)).mean() > 0.9
    exact = np.quantile(
        [1 - np.sort(rng.random(n))[n - math.floor(0.1 * (n + 1) + 1e-9)] for _ in range(20000)], [0.05, 0.95]
    )
    np.testing.assert_allclose([low, high], exact, atol=0.01)


def test_what_few_parts_can_promise():
    assert [conformal.needed_parts(a) for a in (0.5, 0.1, 0.05, 0.025, 0.01)] == [1, 9, 19, 39, 99]
    ten = conformal.promise(10, 0.025)
    assert not ten.possible and ten.provisional and ten.likely == (0.0, 0.0)
    assert "29 more good parts for a 2.5 % false-alarm guarantee." in ten.sentences
    assert any("9.1 % is the lowest" in s for s in ten.sentences)
    many = conformal.promise(39, 0.05)
    assert many.possible and not many.provisional
    assert many.expected == pytest.approx(0.05)
    assert many.guaranteed == pytest.approx(0.1)  # leave-one-out doubles it
    assert not any("distances" in s for s in many.sentences)  # that figure is for --json
    assert conformal.promise(39, 0.05, leave_one_out=False).guaranteed == pytest.approx(0.05)
    assert "The next level, 1 % false alarms, takes 60 more good parts." in conformal.promise(39, 0.025).sentences
    json.dumps(many.to_dict())
    assert conformal.promise(18, 0.1).provisional and not conformal.promise(19, 0.1).provisional
    assert (
        "with 1 more good part it is firm, and 5 % false alarms can be promised."
        in conformal.promise(18, 0.1).sentences[-1]
    )
    assert conformal.promise(22, 0.05).sentences[1:] == (
        "The next level, 2.5 % false alarms, takes 17 more good parts.",
    )
    assert sum("14 more" in s for s in conformal.promise(5, 0.05).sentences) == 1
    assert sum("14 more" in s for s in conformal.promise(5, 0.2).sentences) == 1


def test_combinations():
    p = [0.02, 0.4, 0.7]
    assert conformal.fisher([*p, np.nan]) == pytest.approx(combine_pvalues(p, "fisher").pvalue)
    assert conformal.harmonic_mean(p) == pytest.approx(3 / (1 / 0.02 + 1 / 0.4 + 1 / 0.7))
    assert conformal.fisher([0.3]) == pytest.approx(0.3) and conformal.harmonic_mean([0.3]) == pytest.approx(0.3)


def test_bad_input_is_named():
    with pytest.raises(ModelError, match="no calibration scores"):
        conformal.p_values(1.0, [])
    with pytest.raises(ModelError, match="1 of 2"):
        conformal.threshold([1.0, np.nan], 0.1)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(InputError, match="alpha"):
            conformal.threshold([1.0], alpha)
    with pytest.raises(InputError, match="p-values"):
        conformal.fisher([0.0, 0.5])
