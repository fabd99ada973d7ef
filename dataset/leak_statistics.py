"""How well a fact tells two labels apart, and how likely that is by chance: AUROC, permutation tests, Holm's correction.

A fact is tested within its categories (strata) only: that one product has other files than another is no leak. Numbers:
the stratified Mann–Whitney test with correction for ties (van Elteren 1960 with equal weight per pair). Words: the G
statistic of the table value × label summed over the strata, its distribution under exchanged labels drawn from the
multivariate hypergeometric (exact where a word has two values and there is one stratum). Several tests: Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWS = (200, 2_000, 20_000, 400_000)  # more are drawn while hardly any reaches what was seen
_BLOCK = 2_000_000  # counts held at a time
_ENOUGH = 20  # draws that reach it: the p-value is then known to a quarter, and far from mattering


@dataclass(frozen=True)
class Stratum:
    """Values of one fact in one category: ``values`` (n,) float or small non-negative int codes, ``bad`` (n,) bool."""

    values: NDArray[np.float64] | NDArray[np.int64]
    bad: NDArray[np.bool_]


def auroc(values: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Probability that a bad value is above a good one, ties counted half: U / (n₁·n₀). Both labels must occur."""
    return _u(values, bad)[0] / (int(bad.sum()) * int((~bad).sum()))


def number_test(strata: Sequence[Stratum]) -> tuple[float, float]:
    """(AUROC over pairs within strata, two-sided p) of a number; strata with one label only say nothing."""
    above = pairs = variance = 0.0
    for stratum in _informative(strata):
        values = np.asarray(stratum.values, np.float64)
        u, var = _u(values, stratum.bad)
        above += u
        pairs += stratum.bad.sum() * (~stratum.bad).sum()
        variance += var
    if not pairs:
        return 0.5, 1.0
    if variance == 0:
        return above / pairs, 1.0
    z = max(0.0, abs(above - pairs / 2) - 0.5) / math.sqrt(variance)
    return above / pairs, math.erfc(z / math.sqrt(2))


def word_test(strata: Sequence[Stratum], seed: int = 0) -> tuple[float, float]:
    """(leave-one-out AUROC over pairs within strata, p) of a word given as codes.

    The score of a sample is the share of bad ones among the others of the same value, drawn towards one half by one sample
    of each label: a value that occurs once says nothing.
    """
    tables = []
    above = pairs = 0.0
    for stratum in _informative(strata):
        codes = np.unique(stratum.values, return_inverse=True)[1]
        total = np.bincount(codes)
        bad = np.bincount(codes, weights=stratum.bad).astype(np.int64)
        tables.append((total, bad))
        score = (bad[codes] - stratum.bad + 1) / (total[codes] - 1 + 2)
        weight = float(stratum.bad.sum() * (~stratum.bad).sum())
        above += weight * auroc(score, stratum.bad)
        pairs += weight
    if not pairs:
        return 0.5, 1.0
    return above / pairs, _table_p(tables, seed)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm's step-down rule: the chance of one false alarm among all tests is at most that."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [1.0] * len(p)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def least_p(bad: int, good: int) -> float:
    """The smallest two-sided p that so many samples can give at all: that of two labels wholly apart."""
    return min(1.0, 2 / math.comb(bad + good, bad))


def _informative(strata: Sequence[Stratum]) -> list[Stratum]:
    return [s for s in strata if s.bad.any() and not s.bad.all()]


def _u(values: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[float, float]:
    """Mann–Whitney U of the bad values and its variance under exchanged labels, with ties."""
    _unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, n1 = len(values), int(bad.sum())
    n0 = n - n1
    u = float(ranks[bad].sum()) - n1 * (n1 + 1) / 2
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / (n * (n - 1)) if n > 1 else 0.0
    return u, n1 * n0 / 12 * (n + 1 - ties)


def _table_p(tables: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], seed: int) -> float:
    if len(tables) == 1 and len(tables[0][0]) == 2:
        total, bad = tables[0]
        return _fisher(int(total[0]), int(total[1]), int(bad[0]), int(bad.sum()))
    seen = sum(float(_g(bad[None, :], total)[0]) for total, bad in tables)
    rng = np.random.default_rng(seed)
    p = 1.0
    for draws in _DRAWS:
        reached = np.zeros(draws)
        for total, bad in tables:
            block = max(1, _BLOCK // len(total))
            for start in range(0, draws, block):
                some = min(block, draws - start)
                drawn = rng.multivariate_hypergeometric(total, int(bad.sum()), size=some, method="marginals")
                reached[start : start + some] += _g(drawn, total)
        hits = int((reached >= seen * (1 - 1e-9) - 1e-9).sum())
        p = (hits + 1) / (draws + 1)
        if hits >= _ENOUGH:
            break
    return p


def _g(bad: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    """Half the G statistic, (draws,), of tables (draws, values), up to what all draws share."""

    def entropy(x: NDArray[np.int64]) -> NDArray[np.float64]:
        return (x * np.log(np.maximum(x, 1))).sum(axis=1)

    return entropy(bad) + entropy(total - bad)


def _fisher(first: int, second: int, bad_first: int, bad: int) -> float:
    """Two-sided exact p of a 2×2 table: the tables at most as likely as the one seen (Fisher 1922)."""
    whole = math.comb(first + second, bad)
    ways = [math.comb(first, k) * math.comb(second, bad - k) for k in range(max(0, bad - second), min(first, bad) + 1)]
    seen = math.comb(first, bad_first) * math.comb(second, bad - bad_first)
    return sum(w for w in ways if w <= seen) / whole
