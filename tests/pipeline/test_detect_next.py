"""Which part to show next: planted unusual good parts come first, each kind once, and what is very far is doubted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rakelight.detection import next_part
from rakelight.detection.next_part import farthest_first
from rakelight.errors import InputError


@pytest.fixture(scope="module")
def shelf(judged: Any) -> dict[str, Any]:
    """Six usual parts; two of a darker lot, two of a lot that lies higher, one scratched by a wrong label."""
    parts = {f"usual{n}": judged.part(100 + n) for n in range(6)}
    for n in range(2):
        dark, high = judged.part(200 + n), judged.part(210 + n)
        parts[f"dark{n}"] = replace(dark, rgb=(dark.rgb * 0.9).astype(np.uint8))
        parts[f"high{n}"] = replace(high, xyz=high.xyz + np.array([0, 0, 0.15], np.float32))
    parts["mislabelled"] = judged.part(220, fault="rgb", label="OK")
    return {name: replace(part, key=name) for name, part in parts.items()}


def test_each_planted_kind_comes_before_its_double_and_before_the_usual(taught: Any, shelf: dict[str, Any]) -> None:
    found = farthest_first(taught, list(shelf), shelf.__getitem__, count=len(shelf))
    order = [one.key for one in found]
    assert sorted(order) == sorted(shelf)
    assert {key[:-1] if key[-1].isdigit() else key for key in order[:3]} == {"dark", "high", "mislabelled"}
    adds = {one.key: one.adds for one in found}
    first = {kind: next(key for key in order if key.startswith(kind)) for kind in ("dark", "high")}
    for kind, key in first.items():
        other = next(k for k in shelf if k.startswith(kind) and k != key)
        assert adds[other] < 0.3 * adds[key]  # its double is known once the first of them is
    assert all(a.adds >= b.adds - 1e-6 for a, b in pairwise(found))
    assert all(one.adds <= one.distance + 1e-6 for one in found)


def test_what_is_very_far_is_doubted(taught: Any, shelf: dict[str, Any]) -> None:
    found = {one.key: one for one in farthest_first(taught, list(shelf), shelf.__getitem__, count=len(shelf))}
    assert found["mislabelled"].doubtful and found["mislabelled"].p_value == pytest.approx(1 / 25)
    assert sum(found[f"usual{n}"].doubtful for n in range(6)) <= 1


def test_the_choice_is_that_of_the_plain_greedy_rule(taught: Any, shelf: dict[str, Any]) -> None:
    patches = next_part._Patches(taught, shelf.__getitem__)
    left, banks, order = list(shelf), dict(taught.banks), []
    while left:
        away = {key: next_part._distance(taught, patches.of(key).rows, banks) for key in left}
        best = min(left, key=lambda key: (-away[key], key))
        order.append(best)
        left.remove(best)
        for name, rows in patches.of(best).rows.items():
            banks[name] = banks[name].update(rows, np.full(len(rows), 99, np.int32))
    assert [one.key for one in farthest_first(taught, list(shelf), shelf.__getitem__, count=len(shelf))] == order


def test_few_parts_are_held_at_a_time(taught: Any, shelf: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = farthest_first(taught, list(shelf), shelf.__getitem__, count=4)
    monkeypatch.setattr(next_part, "_KEPT", 1)
    assert farthest_first(taught, list(shelf), shelf.__getitem__, count=4) == whole


def test_a_count_below_one_is_refused(taught: Any, shelf: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="count is 0"):
        farthest_first(taught, list(shelf), shelf.__getitem__, count=0)
