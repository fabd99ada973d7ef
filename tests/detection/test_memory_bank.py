"""What a memory bank promises: cover, its own scale, forgetting, remembering, and judging a part as if it had never been seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import cdist

from rakelight.detection.memory_bank import MemoryBank
from rakelight.errors import ModelError

PARTS, PATCHES, DIM = 6, 150, 24


def good_parts(seed: int = 0, parts: int = PARTS, first: int = 0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Patches of parts of one product: each patch has its own look, which varies a little from part to part."""
    looks = np.random.default_rng(99).normal(7, 3, (PATCHES, DIM))
    rng = np.random.default_rng(seed)
    values = looks + rng.normal(0, 0.5, (parts, PATCHES, DIM)) + rng.normal(shift, 0.2, (parts, 1, DIM))
    return values.reshape(-1, DIM).astype(np.float32), np.repeat(np.arange(first, first + parts), PATCHES)


def farthest(bank: MemoryBank, features: np.ndarray) -> float:
    """Greatest distance of any feature from its nearest vector, computed apart, in the bank's units."""
    return float(cdist((features - bank.mean) / bank.std, bank.vectors).min(axis=1).max())


def build(coreset: str = "exact", **options: object) -> MemoryBank:
    features, part = good_parts()
    return MemoryBank.build(features, part, **{"share": 0.1, "minimum": 1, "coreset": coreset} | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("coreset", ["exact", "random"])
def test_a_bank_keeps_its_share_and_covers_within_its_radius(coreset: str) -> None:
    features, part = good_parts()
    bank = build(coreset)
    assert len(bank) == 90 and bank.dim == DIM and bank.coreset == coreset
    assert bank.radius == pytest.approx(farthest(bank, features), rel=1e-4)
    assert bank.mean == pytest.approx(features.mean(), rel=1e-6) and bank.std == pytest.approx(features.std(), rel=1e-6)
    normal = (features - bank.mean) / bank.std
    rows = cdist(bank.vectors, normal).argmin(axis=1)
    np.testing.assert_allclose(bank.vectors, normal[rows], atol=1e-5)
    assert np.array_equal(bank.part, part[rows])


def test_the_exact_choice_covers_better_than_the_drawn_one() -> None:
    assert build("exact").radius < 0.9 * build("random").radius


def test_a_bank_of_all_keeps_all() -> None:
    features, part = good_parts()
    bank = build("none")
    assert np.array_equal(bank.part, part) and bank.radius == 0
    np.testing.assert_allclose(bank.vectors * bank.std + bank.mean, features, atol=1e-4)
    assert not bank.distances(features)[0].any()


def test_a_small_bank_keeps_the_minimum() -> None:
    assert len(build(minimum=300)) == 300
    assert len(build(minimum=10**6)) == PARTS * PATCHES


def test_distances_are_in_the_banks_own_units() -> None:
    features, part = good_parts()
    queries = good_parts(seed=5)[0]
    bank = build()
    distance, index = bank.distances(queries)
    table = cdist((queries - bank.mean) / bank.std, bank.vectors)
    assert np.array_equal(index, table.argmin(axis=1))
    np.testing.assert_allclose(distance, table.min(axis=1), rtol=1e-5)
    scaled = MemoryBank.build(features * 1000 + 5, part, share=0.1, minimum=1)
    np.testing.assert_allclose(scaled.distances(queries * 1000 + 5)[0], distance, rtol=1e-3)
    three = bank.nearest(queries, k=3)
    assert np.array_equal(three.index, np.argsort(table, axis=1)[:, :3])


def test_same_seed_same_bank() -> None:
    for coreset in ("exact", "random"):
        assert build(coreset).vectors.tobytes() == build(coreset).vectors.tobytes()
    assert build("random", seed=1).vectors.tobytes() != build("random", seed=2).vectors.tobytes()


@pytest.mark.parametrize("coreset", ["exact", "none", "random"])
def test_a_left_out_part_is_not_its_own_neighbour(coreset: str) -> None:
    features, part = good_parts()
    bank = build(coreset)
    distance, index = bank.leave_part_out(features, part)
    assert np.all(bank.part[index] != part)
    table = cdist((features - bank.mean) / bank.std, bank.vectors)
    table[part[:, None] == bank.part[None]] = np.inf
    np.testing.assert_allclose(distance, table.min(axis=1), rtol=1e-5)
    assert distance.min() > 0 and distance.mean() > bank.distances(features)[0].mean()


@pytest.mark.parametrize("coreset", ["exact", "none", "random"])
def test_remembering_a_part_and_forgetting_it_gives_the_old_bank(coreset: str) -> None:
    bank = build(coreset)
    new, ids = good_parts(seed=8, parts=1, first=40, shift=2.0)
    more = bank.update(new, ids)
    assert len(more) > len(bank) and set(more.parts) == {*bank.parts, 40}
    assert (more.mean, more.std) == (bank.mean, bank.std)
    assert farthest(more, new) <= more.radius * (1 + 1e-4) + 1e-5
    back = more.forget(40)
    assert back.vectors.tobytes() == bank.vectors.tobytes() and np.array_equal(back.part, bank.part)


def test_forgetting_a_part_of_a_bank_of_all_equals_building_without_it() -> None:
    features, part = good_parts()
    forgot = build("none").forget(2)
    without = MemoryBank.build(features[part != 2], part[part != 2], coreset="none")
    assert np.array_equal(forgot.part, without.part)
    a, b = forgot.vectors * forgot.std + forgot.mean, without.vectors * without.std + without.mean
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_forgetting_and_updating_with_the_others_covers_them_again() -> None:
    features, part = good_parts()
    bank = build()
    forgot = bank.forget(0)
    others = part != 0
    assert 0 not in forgot.parts and farthest(forgot, features[others]) > bank.radius
    cured = forgot.update(features[others], part[others])
    assert farthest(cured, features[others]) <= bank.radius * (1 + 1e-4)
    assert len(cured) <= 1.3 * len(bank) and 0 not in cured.parts


def test_parts_that_look_like_those_known_add_nothing() -> None:
    features, part = good_parts()
    bank = build()
    again = bank.update(features, part)
    assert again.vectors.tobytes() == bank.vectors.tobytes()


@pytest.mark.parametrize("coreset", ["exact", "none", "random"])
def test_left_out_gives_for_each_part_a_bank_that_never_saw_it(coreset: str) -> None:
    features, part = good_parts()
    bank = build(coreset)
    seen = []
    for number, without in bank.left_out(features, part):
        seen.append(number)
        assert number not in without.parts
        others = part != number
        if coreset == "exact":
            slow = bank.forget(number).update(features[others], part[others])
            assert {v.tobytes() for v in without.vectors} == {v.tobytes() for v in slow.vectors}
            assert farthest(without, features[others]) <= bank.radius * (1 + 1e-4)
            plain, _ = bank.leave_part_out(features[~others], part[~others])
            assert without.distances(features[~others])[0].mean() <= plain.mean()
        else:
            assert without.vectors.tobytes() == bank.forget(number).vectors.tobytes()
    assert seen == list(range(PARTS))


def test_left_out_parts_score_like_parts_never_seen() -> None:
    """What calibration rests on: distances of left-out parts are those of fresh parts, not those of parts in the bank."""
    features, part = good_parts(parts=12)
    bank = MemoryBank.build(features, part, share=0.1, minimum=1)
    left_out = np.mean([w.distances(features[part == n])[0].mean() for n, w in bank.left_out(features, part)])
    fresh = bank.distances(good_parts(seed=77, parts=12)[0])[0].mean()
    own = bank.distances(features)[0].mean()
    assert abs(left_out - fresh) < 0.05 * fresh
    assert own < 0.9 * fresh


@pytest.mark.parametrize("coreset", ["exact", "none", "random"])
def test_saved_and_loaded_it_is_the_same(coreset: str, tmp_path: Path) -> None:
    bank = build(coreset, seed=7)
    save_file(bank.to_arrays(), tmp_path / "bank.safetensors")
    loaded = MemoryBank.from_arrays(load_file(tmp_path / "bank.safetensors"))
    assert loaded.vectors.tobytes() == bank.vectors.tobytes() and loaded.part.tobytes() == bank.part.tobytes()
    scalars = [(b.mean, b.std, b.radius, b.share, b.coreset, b.seed) for b in (bank, loaded)]
    assert scalars[0] == scalars[1]
    queries, ids = good_parts(seed=5, parts=2, first=90)
    assert loaded.distances(queries)[0].tobytes() == bank.distances(queries)[0].tobytes()
    assert loaded.update(queries, ids).vectors.tobytes() == bank.update(queries, ids).vectors.tobytes()


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = build().to_arrays()
    bad: dict[str, np.ndarray] = {
        "vectors": arrays["vectors"][:, 0],
        "part": arrays["part"][:-1],
        "scales": arrays["scales"] * [1, 0, 1, 1],
        "choice": arrays["choice"] + 9,
    }
    for name, array in bad.items():
        with pytest.raises(ModelError):
            MemoryBank.from_arrays(arrays | {name: array})
        with pytest.raises(ModelError, match=f"lack {name}"):
            MemoryBank.from_arrays({k: v for k, v in arrays.items() if k != name})
    poisoned = arrays["vectors"].copy()
    poisoned[3, 3] = np.nan
    with pytest.raises(ModelError, match="vector 3"):
        MemoryBank.from_arrays(arrays | {"vectors": poisoned})


def test_bad_input_is_refused() -> None:
    features, part = good_parts()
    bank = build()
    wrong = np.zeros((10, DIM + 1), np.float32)
    for call in (bank.distances, bank.nearest, lambda x: bank.update(x, np.zeros(10, int))):
        with pytest.raises(ModelError, match=f"{DIM + 1} dimensions; the bank has {DIM}") as caught:
            call(wrong)
        assert caught.value.code == "model.dimension"
    holed = features.copy()
    holed[5, 5] = np.nan
    with pytest.raises(ModelError, match="vector 5"):
        MemoryBank.build(holed, part)
    with pytest.raises(ModelError, match="vector 5"):
        bank.distances(holed)
    with pytest.raises(ModelError, match="no features"):
        MemoryBank.build(np.empty((0, DIM)), np.empty(0, int))
    with pytest.raises(ModelError, match="nearly the same number"):
        MemoryBank.build(np.full((50, DIM), 3.0), np.zeros(50, int))
    with pytest.raises(ModelError, match="one whole number for each"):
        MemoryBank.build(features, part[:-1])
    for options in ({"share": 0.0}, {"share": 1.5}, {"minimum": 0}, {"coreset": "greedy"}):
        with pytest.raises(ModelError):
            MemoryBank.build(features, part, **options)


def test_the_last_part_and_unknown_parts_cannot_be_left_out() -> None:
    features, part = good_parts(parts=1)
    alone = MemoryBank.build(features, part, share=0.1, minimum=1)
    with pytest.raises(ModelError, match="part 0 is the only one"):
        alone.forget(0)
    with pytest.raises(ModelError, match="holds part 0 only"):
        alone.leave_part_out(features, part)
    with pytest.raises(ModelError, match=r"no vectors of part 17; it knows 0, 1, 2, 3, 4, 5"):
        build().forget(17)
