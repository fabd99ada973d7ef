"""Part scores against the formula written out, score maps against scipy, torch and M3DM's 8-bit blur."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rakelight.detection.neighbours import nearest, prepare
from rakelight.detection.scoring import reweighted_score, score_map, top_share_mean
from rakelight.errors import InputError, ModelError


def setup(seed=0, bank_size=60, dim=12):
    rng = np.random.default_rng(seed)
    bank = rng.normal(size=(bank_size, dim)).astype(np.float32) + 3
    queries = rng.normal(size=(25, dim)).astype(np.float32) + 3
    return bank, queries


def written_out(bank, queries, neighbours, compat):
    d = np.linalg.norm(queries[:, None].astype(float) - bank[None].astype(float), axis=2)
    worst = d.min(axis=1).argmax()
    match = d[worst].argmin()
    around = np.argsort(np.linalg.norm(bank[match] - bank, axis=1))[:neighbours]
    gaps = d[worst, around[1:] if compat else around]
    root = np.sqrt(bank.shape[1])
    s = d[worst, match]
    return s * (1 - np.exp(s / root) / np.exp(gaps / root).sum())


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("neighbours", [3, 9])
def test_reweighting_is_the_formula(compat, neighbours):
    for seed in range(5):
        bank, queries = setup(seed)
        found = nearest(queries, bank)
        score = reweighted_score(
            found.distance[:, 0], found.index[:, 0], queries, prepare(bank), neighbours=neighbours, compat=compat
        )
        assert score == pytest.approx(written_out(bank, queries, neighbours, compat), rel=1e-5)


def test_reweighting_leaves_the_own_part_out():
    bank, queries = setup(1)
    part = (np.arange(60) % 3).astype(np.int32)
    own = np.full(len(queries), 2, np.int32)
    ready = prepare(bank, part)
    found = nearest(queries, ready, exclude=own)
    score = reweighted_score(found.distance[:, 0], found.index[:, 0], queries, ready, part=2)
    assert score == pytest.approx(written_out(bank[part != 2], queries, 3, False), rel=1e-5)


def test_a_lonely_match_weighs_more():
    bank = np.array([[0, 0], [0, 0.1], [0.1, 0], [9, 9]], np.float32)
    ready = prepare(bank)

    def score(query):
        found = nearest(query, ready)
        return reweighted_score(found.distance[:, 0], found.index[:, 0], query, ready)

    common, rare = score(np.array([[-1, 0]], np.float32)), score(np.array([[10, 9]], np.float32))
    assert rare > common
    assert score(np.array([[600, 9]], np.float32)) == pytest.approx(
        np.hypot(591, 0), rel=0.01
    )  # far away: no overflow, full weight
    alone = prepare(bank[:1])
    assert reweighted_score(np.array([2.0]), np.array([0]), np.array([[2, 0]], np.float32), alone) == 2.0


def test_equal_bank_vectors_do_not_hide_the_match():
    ready = prepare(np.ones((6, 4), np.float32))
    score = reweighted_score(np.array([2.0]), np.array([5]), np.full((1, 4), 2, np.float32), ready)
    assert score == pytest.approx(2 * (1 - 1 / 3))


def test_top_share():
    values = np.arange(100.0)
    assert top_share_mean(values, 0.05) == 97.0
    assert top_share_mean(values, 0.001) == 99.0
    values[99] = np.nan
    assert top_share_mean(values, 0.02, valid=values != 98) == pytest.approx(96.5)
    with pytest.raises(InputError, match="share"):
        top_share_mean(values, 0)
    with pytest.raises(ModelError, match="not one patch"):
        top_share_mean(values, 0.5, valid=np.zeros(100, bool))


def test_map_is_bilinear_then_gaussian():
    import torch

    grid = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    big = torch.nn.functional.interpolate(torch.from_numpy(grid)[None, None], size=224, mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(score_map(grid, 224, sigma_px=0), big, atol=1e-5)
    np.testing.assert_allclose(score_map(grid, 224), gaussian_filter(big, 4), atol=2e-4)
    # σ follows the size: the same map, twice as large
    twice = score_map(grid, 448)[::2, ::2]
    assert np.abs(twice - score_map(grid, 224)).mean() < 0.01


def test_compat_map_has_256_levels_before_the_blur():
    grid = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    plain, compat = score_map(grid, 224), score_map(grid, 224, compat=True)
    assert len(np.unique(compat)) <= 256 < len(np.unique(plain))
    assert np.abs(plain - compat)[16:-16, 16:-16].max() < 0.03


def test_map_inside_the_part_is_not_thinned_by_what_is_outside():
    mask = np.zeros((112, 112), bool)
    mask[:, :56] = True
    valid = np.zeros((14, 14), bool)
    valid[:, :7] = True
    distances = np.where(valid, 2.0, 50.0).astype(np.float32)
    distances[0, 10] = np.nan
    out = score_map(distances, 112, valid=valid, mask=mask, outside=-1)
    np.testing.assert_allclose(out[mask], 2.0, rtol=1e-5)
    assert (out[~mask] == -1).all()
    full = score_map(distances, 112, mask=mask)
    assert full[:, 50].mean() > 2.0  # without `valid` the bad patches bleed in


def test_map_bad_input():
    with pytest.raises(ModelError, match="not one patch"):
        score_map(np.full((4, 4), np.nan), 32)
    with pytest.raises(InputError, match="square"):
        score_map(np.ones((4, 5)), 32)
    with pytest.raises(InputError, match="mask"):
        score_map(np.ones((4, 4)), 32, mask=np.ones((4, 4), bool))
    bank, queries = setup()
    with pytest.raises(ModelError, match="25 patches"):
        reweighted_score(np.ones(3), np.zeros(3, int), queries, prepare(bank))
