"""Farthest-first selection against the plain loop in float64, and what it promises of radius, order, seeds and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from rakelight.detection import coreset
from rakelight.detection.coreset import random_choice, select
from rakelight.errors import ModelError


def plain_greedy(
    vectors: np.ndarray, count: int, start: int = 0, centres: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Gonzalez' loop, one pass over the table a pick: rows, their distances when picked, the radius that remains."""
    table = vectors.astype(np.float64)
    nearest = np.full(len(table), np.inf)
    if centres is not None:
        nearest = cdist(table, centres.astype(np.float64)).min(axis=1)
    picks, heights = [], []
    for number in range(count):
        row = start if number == 0 and centres is None else int(nearest.argmax())
        picks.append(row)
        heights.append(nearest[row])
        nearest = np.minimum(nearest, np.linalg.norm(table - table[row], axis=1))
    return np.array(picks), np.array(heights), float(nearest.max())


def clusters(count: int, dim: int, seed: int, groups: int = 12) -> np.ndarray:
    """Vectors far from the origin in a few tight groups of few dimensions: where products lose the most digits."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(20, 3, (groups, dim))
    spread = rng.normal(0, 0.2, (groups, 4, dim))
    label = rng.integers(groups, size=count)
    inside = np.einsum("nk,nkd->nd", rng.normal(size=(count, 4)), spread[label])
    return (middles[label] + inside + rng.normal(0, 0.01, (count, dim))).astype(np.float32)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small tables take many batches too."""
    monkeypatch.setattr(coreset, "_BATCH", 50)
    monkeypatch.setattr(coreset, "_ROWS", 16)
    monkeypatch.setattr(coreset, "_BLOCK", 100)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("count", "dim"), [(700, 3), (900, 40), (400, 300)])
def test_picks_are_those_of_the_plain_loop(small_batches: None, count: int, dim: int, seed: int) -> None:
    table = clusters(count, dim, seed)
    picks, heights, radius = plain_greedy(table, count // 4)
    chosen = select(table, count // 4)
    assert chosen.indices.tolist() == picks.tolist()
    assert chosen.radius == pytest.approx(radius, rel=1e-4)
    assert np.isinf(chosen.distances[0])
    np.testing.assert_allclose(chosen.distances[1:], heights[1:], rtol=1e-4)


def test_the_size_of_the_batches_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    table = clusters(3000, 24, 5)
    whole = select(table, 400)
    monkeypatch.setattr(coreset, "_BATCH", 37)
    pieces = select(table, 400)
    assert pieces.indices.tolist() == whole.indices.tolist()
    assert pieces.distances.tobytes() == whole.distances.tobytes() and pieces.radius == whole.radius


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 5)), elements=st.integers(-4, 4)),
    st.integers(0, 70),
)
def test_on_a_lattice_full_of_ties_and_duplicates(table: np.ndarray, count: int) -> None:
    chosen = select(table, count)
    assert len(set(chosen.indices.tolist())) == len(chosen.indices) <= min(count, len(table))
    if count == 0:
        assert len(chosen.indices) == 0 and np.isinf(chosen.radius)
        return
    left = cdist(table, table[chosen.indices]).min(axis=1).max()
    assert chosen.radius == pytest.approx(left, abs=1e-5)
    if len(chosen.indices) < min(count, len(table)):
        assert left == 0  # it stopped early only because nothing new was left
    assert len(np.unique(table[chosen.indices], axis=0)) == len(chosen.indices)
    # Each pick was the farthest at its time: distances never grow, and all stay at or above the radius.
    assert np.all(np.diff(chosen.distances) <= 1e-6) and chosen.distances.min() >= chosen.radius
    for number in range(1, len(chosen.indices)):
        before = cdist(table, table[chosen.indices[:number]]).min(axis=1)
        assert before[chosen.indices[number]] == pytest.approx(before.max(), abs=1e-5)


def test_duplicates_far_from_the_origin_are_picked_once(small_batches: None) -> None:
    distinct = clusters(120, 64, 1) * 1000
    table = np.repeat(distinct, 5, axis=0)[np.random.default_rng(0).permutation(600)]
    chosen = select(table, 600)
    assert len(chosen.indices) == 120 and chosen.radius == 0


def test_all_are_picked_when_more_are_asked_for_than_there_are() -> None:
    table = clusters(40, 6, 2)
    chosen = select(table, 1000)
    assert sorted(chosen.indices.tolist()) == list(range(40)) and chosen.radius == 0


def test_given_centres_count_and_only_what_is_beyond_is_added(small_batches: None) -> None:
    table, centres = clusters(800, 16, 3), clusters(60, 16, 4)
    picks, heights, _ = plain_greedy(table, 200, centres=centres)
    beyond = float(heights[30:32].mean())
    chosen = select(table, 800, centres=centres, beyond=beyond)
    assert chosen.indices.tolist() == picks[:31].tolist()
    assert chosen.radius <= beyond and chosen.radius == pytest.approx(heights[31], rel=1e-4)
    everything = np.concatenate([centres, table[chosen.indices]])
    assert cdist(table, everything).min(axis=1).max() <= beyond * (1 + 1e-5)
    none = select(table, 800, centres=centres, beyond=1e9)
    assert len(none.indices) == 0 and none.radius == pytest.approx(cdist(table, centres).min(axis=1).max(), rel=1e-5)


def test_going_on_from_a_coreset_gives_the_longer_coreset(small_batches: None) -> None:
    table = clusters(600, 20, 6)
    whole = select(table, 90)
    rest = select(table, 50, centres=table[whole.indices[:40]])
    assert rest.indices.tolist() == whole.indices[40:].tolist() and rest.radius == pytest.approx(whole.radius, rel=1e-5)


def test_the_first_pick_is_row_0_or_the_one_asked_for_or_drawn_with_the_seed() -> None:
    table = clusters(500, 8, 7)
    assert select(table, 5).indices[0] == 0
    assert select(table, 5, start=77).indices.tolist() == plain_greedy(table, 5, start=77)[0].tolist()
    drawn = [select(table, 5, start=None, seed=s).indices for s in range(6)]
    assert len({int(d[0]) for d in drawn}) > 1
    assert select(table, 5, start=None, seed=3).indices.tolist() == drawn[3].tolist()


def test_progress_is_told_up_to_the_end(small_batches: None) -> None:
    told: list[tuple[int, int]] = []
    select(clusters(300, 8, 8), 100, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (100, 100) and sorted(told) == told


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e30])
def test_values_that_cannot_be_compared_are_refused_by_row(bad: float) -> None:
    table = clusters(30, 5, 9)
    table[17, 3] = bad
    with pytest.raises(ModelError, match="vector 17 and 0 more"):
        select(table, 5)
    with pytest.raises(ModelError, match="centres: vector 17"):
        select(clusters(30, 5, 9), 5, centres=table)


def test_other_bad_input_is_refused() -> None:
    table = clusters(30, 5, 9)
    with pytest.raises(ModelError, match="dimensions"):
        select(table, 5, centres=np.zeros((3, 4), np.float32))
    with pytest.raises(ModelError, match=r"rows 0 … 29"):
        select(table, 5, start=30)
    with pytest.raises(ModelError, match="at least 0"):
        select(table, -1)
    with pytest.raises(ModelError, match="at least 0"):
        select(table, 1, beyond=float("nan"))
    with pytest.raises(ModelError, match="table of feature vectors"):
        select(table[0], 1)


def test_an_empty_table_gives_an_empty_coreset() -> None:
    empty = select(np.empty((0, 5), np.float32), 5, centres=np.ones((2, 5), np.float32))
    assert len(empty.indices) == 0 and empty.radius == 0
    assert len(select(np.empty((0, 5), np.float32), 5).indices) == 0


def test_random_choice_is_seeded_sorted_and_without_repetition() -> None:
    rows = random_choice(100, 30, 1)
    assert rows.tolist() == sorted(set(rows.tolist())) and len(rows) == 30
    assert random_choice(100, 30, 1).tolist() == rows.tolist() != random_choice(100, 30, 2).tolist()
    assert random_choice(10, 30, 1).tolist() == list(range(10))
