"""Channel-spatial swapping: exact shares, the formulas patch by patch, and indices that survive storage."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight.detection.swapping import SwapIndices, swap
from rakelight.errors import InputError, ModelError


def maps(indices, count=2, seed=0):
    shape = (count, indices.grid, indices.grid, indices.dim)
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape).astype(np.float32) for _ in range(2))


@given(
    dim=st.integers(1, 64),
    grid=st.integers(1, 17),
    k=st.integers(1, 4),
    alpha=st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_shares_are_exact_and_hard_swap_undoes_itself(dim, grid, k, alpha, seed):
    k = min(k, grid)
    indices = SwapIndices.draw(dim, grid, k, alpha, seed)
    blocks = (-(-grid // k)) ** 2
    assert len(indices.channels) == (1 + int(round(alpha * (dim - 1), 9)) if alpha else 0)
    assert abs(len(indices.channels) - alpha * dim) < 1
    assert len(indices.blocks) == len(set(indices.blocks.tolist())) == round(alpha * blocks)
    rgb, ps = maps(indices, seed=seed)
    once = swap(rgb, ps, indices, mode="hard")
    twice = swap(once.rgb, once.ps, indices, mode="hard")
    np.testing.assert_array_equal(twice.rgb, rgb)
    np.testing.assert_array_equal(twice.ps, ps)
    # Nothing is lost or invented: at each place the two values are those that were there.
    np.testing.assert_array_equal(np.minimum(once.rgb, once.ps), np.minimum(rgb, ps))
    np.testing.assert_array_equal(np.maximum(once.rgb, once.ps), np.maximum(rgb, ps))


@pytest.mark.parametrize("mode", ["blend", "hard"])
def test_no_share_changes_nothing(mode):
    indices = SwapIndices.draw(20, 8, 2, 0.0)
    rgb, ps = maps(indices)
    out = swap(rgb, ps, indices, mode=mode)
    np.testing.assert_array_equal(out.rgb, rgb)
    np.testing.assert_array_equal(out.ps, ps)


def test_formulas_place_by_place():
    indices = SwapIndices.draw(20, 6, 2, 0.1, seed=3)
    assert indices.channels.tolist() == [0, 10]  # i % 10 == 0, as in the authors' code
    rgb, ps = maps(indices)
    chosen = np.zeros((6, 6, 20), bool)
    chosen[..., [0, 10]] = True
    for block in indices.blocks:
        row, column = divmod(int(block), 3)
        chosen[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
    a = np.float32(0.1)
    expected = {
        "hard": np.where(chosen, ps, rgb),
        "blend": (1 - a) * rgb + a * np.where(chosen, rgb, ps),  # X_PS^{c↔s}: the partner's map, chosen share exchanged
    }
    for mode, want in expected.items():
        np.testing.assert_allclose(swap(rgb, ps, indices, mode=mode).rgb, want, atol=1e-6)
    out = swap(rgb, ps, indices).rgb
    np.testing.assert_array_equal(out[:, chosen], rgb[:, chosen])
    # "incorporate 10% of each other's properties": of the difference between the maps, but for the chosen share
    taken = ((out - rgb) / (ps - rgb))[:, ~chosen]
    np.testing.assert_allclose(taken, 0.1, rtol=1e-2)


def test_stored_indices_swap_the_same():
    indices = SwapIndices.draw(24, 9, 2, 0.1, seed=5)
    again = SwapIndices.from_dict(json.loads(json.dumps(indices.to_dict())))
    rgb, ps = maps(indices)
    for mode in ("blend", "hard"):
        np.testing.assert_array_equal(swap(rgb, ps, indices, mode=mode).ps, swap(rgb, ps, again, mode=mode).ps)
    assert not np.array_equal(
        SwapIndices.draw(24, 9, 1, 0.1, seed=6).blocks, SwapIndices.draw(24, 9, 1, 0.1, seed=5).blocks
    )


def test_missing_partner_leaves_the_map_and_says_so():
    indices = SwapIndices.draw(16, 4)
    rgb, ps = maps(indices, 3)
    alone = swap(rgb, None, indices)
    assert alone.ps is None and not alone.swapped.any()
    np.testing.assert_array_equal(alone.rgb, rgb)
    assert swap(None, ps, indices).rgb is None
    valid = np.ones((3, 4, 4), bool)
    valid[1] = False
    valid[2, 0, 0] = False
    ps[~valid] = np.nan
    out = swap(rgb, ps, indices, mode="hard", valid=valid)
    assert out.swapped.tolist() == [True, False, True]
    assert np.isfinite(out.rgb).all()
    np.testing.assert_array_equal(out.rgb[1], rgb[1])
    np.testing.assert_array_equal(out.rgb[2, 0, 0], rgb[2, 0, 0])


def test_bad_input_is_named():
    indices = SwapIndices.draw(16, 4)
    rgb, ps = maps(indices)
    with pytest.raises(ModelError, match=r"pseudo-3D features have shape .*8") as e:
        swap(rgb, ps[..., :8], indices)
    assert e.value.code == "model.swap" and "same extractor" in e.value.hint
    with pytest.raises(ModelError, match="neither"):
        swap(None, None, indices)
    with pytest.raises(InputError, match="soft"):
        swap(rgb, ps, indices, mode="soft")
    with pytest.raises(InputError, match=r"1\.5"):
        SwapIndices.draw(16, 4, 2, 1.5)
    with pytest.raises(InputError, match="block side k 5"):
        SwapIndices.draw(16, 4, 5)
    with pytest.raises(ModelError, match="channels 99"):
        SwapIndices.from_dict(indices.to_dict() | {"channels": [99]})
    with pytest.raises(ModelError, match="dim"):
        SwapIndices.from_dict({})
