"""The exact search against SciPy, where it is hard: near neighbours far from the origin, ties, left-out parts, little memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_info, threadpool_limits

from rakelight.detection import neighbours
from rakelight.detection.neighbours import nearest, prepare
from rakelight.errors import ModelError

DEVICES = ["cpu", "cpu:0"]  # the second is torch's, the code that runs on a GPU


def features(count: int, dim: int, seed: int, middle: float = 5.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(middle, 1, (count, dim)).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize(("bank", "queries", "dim"), [(1, 3, 4), (63, 5, 1), (1000, 130, 17), (5000, 90, 200)])
def test_equals_a_table_of_all_distances(bank: int, queries: int, dim: int, k: int, device: str) -> None:
    vectors, rows = features(bank, dim, 0), features(queries, dim, 1)
    distance = cdist(rows.astype(np.float64), vectors.astype(np.float64))
    order = np.argsort(distance, axis=1)[:, :k]
    found = nearest(rows, vectors, k=k, device=device)
    there = min(k, bank)
    assert found.index.shape == found.distance.shape == (queries, k) and found.error is None
    assert np.array_equal(found.index[:, :there], order)
    np.testing.assert_allclose(found.distance[:, :there], np.take_along_axis(distance, order, 1), rtol=2e-6, atol=1e-6)
    assert np.all(found.index[:, there:] == -1) and np.all(np.isinf(found.distance[:, there:]))


@pytest.mark.parametrize("device", DEVICES)
def test_near_neighbours_far_from_the_origin_keep_their_digits(device: str) -> None:
    """Distances of 1e-3 between vectors of length 1e3 and more: the product alone has no digit of them right."""
    rng = np.random.default_rng(3)
    whole = rng.integers(-64, 64, (400, 256)).astype(np.float64) + rng.choice([-100, 100], (400, 1))
    step = np.float64(2.0**-12)  # is kept exactly beside the values, which are below 256
    near = whole.copy()
    near[np.arange(400), rng.integers(256, size=400)] += step * rng.integers(1, 5, 400)
    bank, queries = whole.astype(np.float32), near.astype(np.float32)
    assert np.array_equal(queries.astype(np.float64), near)
    found = nearest(queries, bank, device=device)
    assert np.array_equal(found.index[:, 0], np.arange(400))
    np.testing.assert_allclose(found.distance[:, 0], np.linalg.norm(near - whole, axis=1), rtol=0.05)
    product = np.square(queries).sum(1) + np.square(bank).sum(1) - 2 * np.einsum("nd,nd->n", queries, bank)
    wrong = np.abs(np.sqrt(np.maximum(product, 0)) / np.linalg.norm(near - whole, axis=1) - 1)
    assert np.median(wrong) > 0.5  # so that the test shows something
    assert np.all(nearest(bank, bank, device=device).distance == 0)


def test_equals_a_tree_in_few_dimensions() -> None:
    bank, queries = features(20000, 3, 4), features(3000, 3, 5)
    distance, index = cKDTree(bank).query(queries, k=3)
    found = nearest(queries, bank, k=3)
    assert np.array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 200), st.just(3)), elements=st.integers(-3, 3)),
    arrays(np.float32, st.tuples(st.integers(0, 20), st.just(3)), elements=st.integers(-3, 3)),
    st.integers(1, 5),
    st.sampled_from(["none", "parts"]),
)
def test_ties_go_by_index_whatever_is_left_out(bank: np.ndarray, queries: np.ndarray, k: int, how: str) -> None:
    # The bank is given with its mirror image, so that its mean is exactly 0 and lattice distances stay exact.
    bank = np.concatenate([bank, -bank])
    parts, own = np.arange(len(bank)) % 3, np.arange(len(queries)) % 4 - 1
    distance = cdist(queries, bank)
    if how == "parts":
        distance[own[:, None] == parts[None]] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    wanted = np.take_along_axis(distance, order, 1)
    found = nearest(queries, prepare(bank, parts), k=k, exclude=own if how == "parts" else None)
    there = min(k, len(bank))
    np.testing.assert_allclose(found.distance[:, :there], wanted, rtol=1e-6)
    assert np.array_equal(found.index[:, :there], np.where(np.isfinite(wanted), order, -1))


@pytest.mark.parametrize("device", DEVICES)
def test_a_left_out_part_is_never_a_neighbour(device: str) -> None:
    bank = features(900, 30, 6)
    parts = np.random.default_rng(0).integers(0, 3, 900)
    search = prepare(bank, parts)
    alike = nearest(bank, search, device=device)
    assert np.array_equal(alike.index[:, 0], np.arange(900)) and not alike.distance.any()
    other = nearest(bank, search, exclude=parts, k=2, device=device)
    assert np.all(parts[other.index] != parts[:, None])
    distance = cdist(bank, bank)
    distance[parts[:, None] == parts[None]] = np.inf
    np.testing.assert_allclose(other.distance, np.sort(distance, axis=1)[:, :2], rtol=1e-5)
    alone = nearest(bank[:5], prepare(bank, np.zeros(900, int)), exclude=np.zeros(5, int), device=device)
    assert np.all(alone.index == -1) and np.all(np.isinf(alone.distance))


@pytest.mark.parametrize("device", DEVICES)
def test_little_memory_gives_the_same(device: str) -> None:
    bank, queries = features(3000, 20, 7), features(500, 20, 8)
    whole = nearest(queries, bank, k=3, device=device)
    little = nearest(queries, bank, k=3, max_bytes=20_000, device=device)
    assert np.array_equal(whole.index, little.index)
    np.testing.assert_allclose(whole.distance, little.distance, rtol=1e-6)


def test_the_answer_does_not_depend_on_blocks_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = features(4000, 96, 9), features(300, 96, 10)
    whole = nearest(queries, bank, k=2)
    with threadpool_limits(1):
        alone = nearest(queries, bank, k=2)
    monkeypatch.setattr(neighbours, "_COLUMNS", 700)
    blocks = nearest(queries, bank, k=2)
    assert whole.distance.tobytes() == alone.distance.tobytes() == blocks.distance.tobytes()
    assert whole.index.tobytes() == alone.index.tobytes() == blocks.index.tobytes()


def test_memory_stays_within_the_bound() -> None:
    bank, queries = prepare(features(20000, 16, 11)), features(8000, 16, 12)
    nearest(queries[:10], bank)
    tracemalloc.start()
    nearest(queries, bank, max_bytes=4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 << 20, "all products would be 640 MB"


def test_searches_side_by_side_give_blas_its_threads_back() -> None:
    def counts() -> list[int]:
        return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]

    before = counts()
    bank, queries = prepare(features(2000, 32, 13)), features(200, 32, 14)
    wanted = nearest(queries, bank)
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(np.array_equal(nearest(queries, bank).index, wanted.index)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 6 and counts() == before


def test_half_precision_and_whole_numbers_are_taken() -> None:
    bank = features(300, 12, 15).astype(np.float16)
    assert np.array_equal(nearest(bank, bank).index[:, 0], np.arange(300))
    whole = np.arange(60).reshape(20, 3)
    assert np.array_equal(nearest(whole, whole).index[:, 0], np.arange(20))


def test_no_queries_give_no_neighbours() -> None:
    found = nearest(np.empty((0, 4), np.float32), features(10, 4, 0), k=2)
    assert found.distance.shape == found.index.shape == (0, 2)


def test_bad_input_is_refused() -> None:
    bank = features(50, 4, 0)
    with pytest.raises(ModelError, match="5 dimensions; the bank has 4"):
        nearest(np.zeros((3, 5)), bank)
    with pytest.raises(ModelError, match="empty"):
        nearest(bank, np.empty((0, 4)))
    with pytest.raises(ModelError, match="k is 0"):
        nearest(bank, bank, k=0)
    with pytest.raises(ModelError, match="exclude must be"):
        nearest(bank, bank, exclude=[0, 1])
    with pytest.raises(ModelError, match="parts of the bank"):
        prepare(bank, np.full(50, -1))
    for bad in (np.nan, np.inf, 1e30):
        broken = bank.copy()
        broken[[7, 9], 2] = bad
        with pytest.raises(ModelError, match="queries: vector 7 and 1 more"):
            nearest(broken, bank)
        with pytest.raises(ModelError, match="bank vectors: vector 7"):
            nearest(bank, broken)
    with pytest.raises(ModelError, match="device 'cuda:99'") as caught:
        nearest(bank, bank, device="cuda:99")
    assert caught.value.code == "model.device"


def test_approximate_search_tells_its_error_or_how_to_get_it() -> None:
    bank, queries = features(3000, 8, 16), features(400, 8, 17)
    with pytest.raises(ModelError, match="leave out parts"):
        nearest(queries, bank, exclude=np.zeros(400, int), approximate="hnsw")
    try:
        import faiss  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match="needs the package faiss") as caught:
            nearest(queries, bank, approximate="hnsw")
        assert "rakelight[faiss]" in caught.value.hint
        return
    search = prepare(bank)
    exact, found = nearest(queries, search, k=2), nearest(queries, search, k=2, approximate="hnsw")
    assert found.error is not None and found.error.sample == 64 and found.error.recall > 0.9
    assert found.error.largest >= found.error.mean >= 0
    wrong = found.distance - exact.distance
    assert wrong.min() > -1e-5 and (wrong / exact.distance).mean() < 0.02
    again = nearest(queries, prepare(bank), k=2, approximate="hnsw")
    assert np.array_equal(found.index, again.index)


def test_searching_on_the_cpu_loads_neither_torch_nor_faiss() -> None:
    code = (
        "import sys, numpy as np\n"
        "from rakelight.detection.memory_bank import MemoryBank\n"
        "x = np.random.default_rng(0).normal(size=(50, 4))\n"
        "MemoryBank.build(x, np.arange(50) % 3).distances(x)\n"
        "print([m for m in ('torch', 'faiss') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
