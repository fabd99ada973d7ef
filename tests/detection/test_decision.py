"""Fusing the scores of banks: against written-out rules and sklearn, signs, missing banks, storage, false alarms."""

import json

import numpy as np
import pytest
from sklearn.linear_model import SGDOneClassSVM

from rakelight.detection.decision import Decision
from rakelight.errors import InputError, ModelError

BANKS = ("rgb", "ps", "xyz")
METHODS = ("zsum", "max", "ocsvm", "mahalanobis")


def good(n, seed=0):
    """Correlated distances of very different size."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 1))
    return np.array([10.0, 1.0, 0.05]) * (1 + 0.1 * (0.6 * common + 0.8 * rng.normal(size=(n, 3))))


@pytest.mark.parametrize("method", METHODS)
def test_larger_distances_are_stranger(method):
    decision = Decision.calibrate(good(60), BANKS, method)
    fresh = good(400, 1)
    for bank in range(3):
        strange = fresh.copy()
        strange[:, bank] *= 1.8
        auroc = (decision.fuse(strange)[:, None] > decision.fuse(fresh)[None]).mean()
        assert auroc > 0.97, BANKS[bank]
    assert decision.fuse(3 * good(60).mean(axis=0)) > decision.fuse(good(60)).max()


def test_rules_are_what_they_say():
    table = good(51)
    middle = np.median(table, axis=0)
    z = (table - middle) / (1.4826 * np.median(np.abs(table - middle), axis=0))
    for method, raw in (("zsum", z.sum(axis=1)), ("max", z.max(axis=1))):
        centre = np.median(raw)
        want = (raw - centre) / (1.4826 * np.median(np.abs(raw - centre)))
        np.testing.assert_allclose(Decision.calibrate(table, BANKS, method).fuse(table), want, rtol=1e-5, atol=1e-5)


def test_one_class_svm_is_sklearns_with_the_sign_turned_to_anomaly():
    table = good(80)
    lambdas = {"rgb": 0.1, "ps": 1.0, "xyz": 1.0}  # M3DM sets such factors by hand
    svm = SGDOneClassSVM(random_state=42, nu=0.5, max_iter=1000).fit(table * list(lambdas.values()))
    theirs = svm.score_samples(table * list(lambdas.values()))
    ours = Decision.calibrate(table, BANKS, "ocsvm", lambdas=lambdas).fuse(table)
    assert np.corrcoef(theirs, ours)[0, 1] > 1 - 1e-9
    strange = 3 * table.mean(axis=0)
    assert svm.predict([strange * list(lambdas.values())])[0] == 1  # the trap: sklearn calls it an inlier
    assert Decision.calibrate(table, BANKS, "ocsvm", lambdas=lambdas).fuse(strange) > ours.max()


def test_one_class_svm_refuses_what_would_turn_its_sign():
    with pytest.raises(ModelError, match="0 or more") as e:
        Decision.calibrate(-good(30), BANKS, "ocsvm")
    assert e.value.code == "model.svm_sign"


def test_mahalanobis_is_one_sided():
    decision = Decision.calibrate(good(200), BANKS, "mahalanobis")
    middle = np.median(good(200), axis=0)
    low, high = middle.copy(), middle.copy()
    low[1] *= 0.3
    high[1] *= 1.7
    assert decision.fuse(low) <= decision.fuse(middle) + 1e-6 < decision.fuse(high)


@pytest.mark.parametrize("method", METHODS)
def test_missing_banks_have_their_own_calibration(method):
    table = good(60)
    table[:10, 2] = np.nan  # ten parts without 3D
    decision = Decision.calibrate(table, BANKS, method)
    fresh = good(2000, 3)
    for missing in ((), (0,), (2,), (0, 1)):
        seen = fresh.copy()
        seen[:, missing] = np.nan
        p = decision.p_values(seen)
        assert 0.03 < (p <= 0.1).mean() < 0.2, missing
    fused = decision.fuse(np.array([[10.0, 1.0, np.nan], [np.nan] * 3]))
    assert np.isfinite(fused[0]) and np.isnan(fused[1])
    verdict = decision.judge({"rgb": 10.0, "ps": 3.0})
    assert verdict.banks == ("rgb", "ps") and verdict.rejected and verdict.calibration_parts == 60
    assert decision.judge({"rgb": 10.0, "xyz": 0.05}).calibration_parts == 50


@pytest.mark.parametrize("method", METHODS)
def test_verdict_names_the_bank_that_saw_it(method):
    decision = Decision.calibrate(good(40), BANKS, method)
    verdict = decision.judge({"rgb": 10.2, "ps": 2.0, "xyz": 0.0505}, alpha=0.05)
    shares = {bank: c.share for bank, c in verdict.contributions.items()}
    assert max(shares, key=shares.get) == "ps" and sum(shares.values()) == pytest.approx(1)
    assert verdict.rejected and verdict.p_value == pytest.approx(1 / 41)
    assert verdict.contributions["ps"].p_value == pytest.approx(1 / 41)
    assert verdict.contributions["rgb"].p_value > 0.1
    calm = decision.judge({"rgb": 5.0, "ps": 0.5, "xyz": 0.01})
    assert not calm.rejected and all(c.share == 0 for c in calm.contributions.values())


def test_few_parts_are_provisional_and_cannot_promise():
    decision = Decision.calibrate(good(10), BANKS)
    strange = {"rgb": 100.0, "ps": 10.0, "xyz": 5.0}
    assert decision.judge(strange, alpha=0.1).rejected and decision.judge(strange, alpha=0.1).provisional
    assert not decision.judge(strange, alpha=0.05).rejected  # ten parts cannot promise 5 %


@pytest.mark.parametrize("method", METHODS)
def test_false_alarms_with_nineteen_parts(method):
    rates = []
    for seed in range(25):
        decision = Decision.calibrate(good(19, seed), BANKS, method)
        rates.append((decision.p_values(good(200, 1000 + seed)) <= 0.1).mean())
    assert 0.06 <= np.mean(rates) <= 0.14


@pytest.mark.parametrize("method", METHODS)
def test_stored_decision_scores_the_same(method):
    decision = Decision.calibrate(good(30), BANKS, method)
    again = Decision.from_dict(json.loads(json.dumps(decision.to_dict())))
    fresh = good(50, 2)
    fresh[::5, 1] = np.nan
    np.testing.assert_array_equal(decision.fuse(fresh), again.fuse(fresh))
    np.testing.assert_array_equal(decision.p_values(fresh), again.p_values(fresh))
    assert again.judge({"rgb": 12.0}) == decision.judge({"rgb": 12.0})


@pytest.mark.parametrize("method", METHODS)
def test_pixels(method):
    rng = np.random.default_rng(0)
    table = rng.gamma(3, size=(50_000, 3)) * [10, 1, 0.1]
    decision = Decision.calibrate(table, BANKS, method, level="pixel")
    maps = rng.gamma(3, size=(64, 64, 3)) * [10, 1, 0.1]
    maps[:20, :, 2] = np.nan  # no points there
    maps[30:34, 30:34, 1] *= 8
    fused = decision.fuse(maps)
    assert fused.shape == (64, 64) and fused.dtype == np.float32 and np.isfinite(fused).all()
    assert np.median(fused[30:34, 30:34]) > np.quantile(fused, 0.97)
    # parts of the map with and without points are on one scale
    assert abs(np.quantile(fused[:20], 0.9) - np.quantile(fused[40:], 0.9)) < 0.6
    p = decision.p_values(maps)
    assert 0.08 < (p[40:] <= 0.1).mean() < 0.12
    assert len(json.dumps(decision.to_dict())) < 1_500_000
    np.testing.assert_array_equal(fused, Decision.calibrate(table, BANKS, method, level="pixel").fuse(maps))


def test_equal_scores_do_not_divide_by_nothing():
    decision = Decision.calibrate(np.ones((5, 2)), ("rgb", "ps"))
    assert not decision.judge({"rgb": 1.0, "ps": 1.0}, alpha=0.2).rejected
    assert decision.judge({"rgb": 1.1, "ps": 1.0}, alpha=0.2).rejected


def test_bad_input_is_named():
    with pytest.raises(InputError, match="median"):
        Decision.calibrate(good(5), BANKS, "median")
    with pytest.raises(ModelError, match="2 good parts"):
        Decision.calibrate(good(2), BANKS)
    with pytest.raises(InputError, match="2, 3"):
        Decision.calibrate(good(5)[:2], ("rgb", "rgb", "ps"))
    with pytest.raises(InputError, match="lambdas"):
        Decision.calibrate(good(5), BANKS, "ocsvm", lambdas={"rgb": 1.0})
    table = good(6)
    table[:3, 0] = table[3:, 1] = np.nan
    apart = Decision.calibrate(table, BANKS)
    with pytest.raises(ModelError, match="rgb, ps"):
        apart.fuse(good(1))
    with pytest.raises(ModelError, match="no bank depth"):
        apart.judge({"depth": 1.0})
    with pytest.raises(ModelError, match="no score of any bank"):
        apart.judge({"rgb": np.nan})
    with pytest.raises(ModelError, match="infinite"):
        Decision.calibrate(np.full((4, 1), np.inf), ("rgb",))
    with pytest.raises(ModelError, match="cannot be read"):
        Decision.from_dict({"banks": ["rgb"]})
