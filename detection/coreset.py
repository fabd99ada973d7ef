"""A few vectors that stand for many: farthest-first (k-centre) selection, exact and lazy.

Farthest-first (Gonzalez 1985, Theor. Comput. Sci. 38, 293–306) picks again and again the vector farthest from all picked so
far; the greatest distance that remains is at most twice the least possible with as many centres. Done plainly it reads the
whole table once a pick. Distances to the nearest centre only ever shrink, so an old one is an upper bound (the idea of
Minoux 1978 for greedy maximisation): only the vectors with the largest bounds are brought up to date, many at a time with
one matrix product against the centres they missed, and winners are picked among them while none outside can be farther.
The picks are those of the plain loop but for ties and the plain loop's rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.detection import _search_kernels as kernels
from rakelight.detection._workers import Workers, workers
from rakelight.detection.neighbours import Floats, SearchBank, check_vectors, squared_norms, update_nearest
from rakelight.errors import ModelError

_BATCH = 2048  # vectors brought up to date at a time
_ROWS = 256  # of them in one product: those that missed about as many centres
_BLOCK = 1024  # vectors of the table read at a time
_PRODUCT_BYTES = 32 << 20
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Coreset:
    """What was picked, in the order of picking.

    Attributes
    ----------
    indices : (K,) int64
        Rows of the table.
    distances : (K,) float32
        The distance each pick had to the nearest centre before it; infinite for a first one without centres given.
    radius : float
        The greatest distance of any vector of the table to its nearest centre, given or picked; infinite without centres,
        0 for an empty table.
    """

    indices: NDArray[np.int64]
    distances: Floats
    radius: float


def select(
    vectors: Any,
    count: int,
    *,
    start: int | None = 0,
    seed: int = 0,
    centres: Any = None,
    beyond: float = 0.0,
    progress: Progress = lambda done, total: None,
) -> Coreset:
    """Pick up to ``count`` of ``vectors`` (N, D), each the one farthest from all centres before it.

    Besides the table it holds the centres, a few tens of megabytes of products and 12 bytes a vector.

    Parameters
    ----------
    start : int or None
        Row of the first pick; None draws it with ``seed``. Not used where ``centres`` are given.
    centres : (M, D) array, optional
        Centres that are there already (a bank to extend); they count, but are not among the picks.
    beyond : float
        Pick only vectors farther than this from every centre. 0 leaves out vectors equal to a centre, so that fewer than
        ``count`` may be picked.
    progress : callable
        Called with picks made and ``count`` from time to time.

    Raises
    ------
    ModelError
        No vectors, NaN or infinity, ``centres`` of another dimension, ``start`` outside the table, ``count`` or ``beyond``
        negative.
    """
    table = check_vectors("feature vectors", vectors)
    if count < 0 or not beyond >= 0:
        raise ModelError(f"count {count} and beyond {beyond} must both be at least 0", code="model.coreset")
    squared_norms("feature vectors", table)
    given = None if centres is None else check_vectors("centres", centres, table.shape[1])
    if given is not None:
        squared_norms("centres", given)
    with workers() as team:
        search = _LazyGreedy(table, min(count, len(table)), given, team)
        if not search.known and search.wanted:
            search.begin(_first(start, seed, len(table)))
        search.run(float(beyond), progress)
        return search.result()


def random_choice(number: int, count: int, seed: int) -> NDArray[np.int64]:
    """``count`` rows of a table of ``number``, drawn without repetition, in ascending order."""
    drawn = np.random.default_rng(seed).choice(number, min(count, number), replace=False)
    return np.sort(drawn).astype(np.int64)


def _first(start: int | None, seed: int, number: int) -> int:
    if start is None:
        return int(np.random.default_rng(seed).integers(number))
    if not 0 <= start < number:
        raise ModelError(f"start is {start}; the table has rows 0 … {number - 1}", code="model.coreset")
    return start


class _LazyGreedy:
    """The state of one selection: an upper bound a vector, and how many centres it has met."""

    def __init__(self, table: Floats, wanted: int, given: Floats | None, team: Workers) -> None:
        self.table, self.wanted, self.team = table, wanted, team
        self.known = 0 if given is None else len(given)
        dim = table.shape[1]
        self.middle = (
            table.mean(axis=0, dtype=np.float64).astype(np.float32) if len(table) else np.zeros(dim, np.float32)
        )
        self.centres = np.empty((self.known + wanted, dim), np.float32)
        self.norms = np.empty(len(self.centres), np.float32)
        self.bounds = np.full(len(table), np.inf, np.float32)  # squared
        self.met = np.zeros(len(table), np.int64)
        self.indices: list[int] = []
        self.heights: list[float] = []  # squared
        if given is not None and self.known:
            self.centres[: self.known] = given - self.middle
            kernels.squared_norms(self.centres[: self.known], self.norms[: self.known])
            self._meet_all()

    @property
    def made(self) -> int:
        """Centres there are by now."""
        return self.known + len(self.indices)

    def begin(self, row: int) -> None:
        """Take a row as the first centre."""
        self._add(self.table[row : row + 1] - self.middle, np.array([row]), np.array([np.inf]))
        self._meet_all()

    def run(self, beyond: float, progress: Progress) -> None:
        """Pick until there are enough, or nothing is farther than ``beyond``; ends with the radius certain."""
        if not self.made or not len(self.table):
            return
        at_least = np.float32(min(beyond * beyond, 3e38))
        while True:
            rows, outside = self._largest()
            centred = self._refresh(rows)
            bounds = self.bounds[rows]
            room = self.wanted - len(self.indices)
            if (room == 0 or bounds.max() <= at_least) and bounds.max() >= outside:
                return
            alive = np.flatnonzero(bounds >= outside) if room else np.empty(0, np.int64)
            if len(alive):
                self._pick(rows[alive], centred[alive], bounds[alive], outside, at_least, room)
                progress(len(self.indices), self.wanted)

    def result(self) -> Coreset:
        """The picks and the radius that remains."""
        radius = float(np.sqrt(self.bounds.max())) if len(self.bounds) else 0.0
        distances = np.sqrt(np.array(self.heights, np.float32))
        return Coreset(np.array(self.indices, np.int64), distances, radius)

    def _largest(self) -> tuple[NDArray[np.int64], np.float32]:
        """Rows with the largest bounds, ascending, and the largest bound of all others (-1 if there are none)."""
        if len(self.bounds) <= _BATCH:
            return np.arange(len(self.bounds)), np.float32(-1)
        order = np.argpartition(self.bounds, len(self.bounds) - _BATCH - 1)
        return np.sort(order[-_BATCH:]), self.bounds[order[-_BATCH - 1]]

    def _refresh(self, rows: NDArray[np.int64]) -> Floats:
        """Bring the bounds of ``rows`` up to date; returns the rows' vectors, centred."""
        centred = self.table[rows] - self.middle
        stale = np.flatnonzero(self.met[rows] < self.made)
        stale = stale[np.argsort(self.met[rows[stale]], kind="stable")]
        groups = [stale[start : start + _ROWS] for start in range(0, len(stale), _ROWS)]
        self.team.run(partial(self._meet, rows[g], centred[g], int(self.met[rows[g[0]]])) for g in groups)
        return centred

    def _meet(self, rows: NDArray[np.int64], centred: Floats, missed: int) -> None:
        """Lower the bounds of ``rows`` to their distances from the centres number ``missed`` and later."""
        best = self.bounds[rows, None]
        found = np.full((len(rows), 1), -1, np.int64)
        none = np.zeros(self.made, np.int32)
        bank = SearchBank(self.centres[: self.made], self.middle, self.norms[: self.made], none)
        width = max(64, _PRODUCT_BYTES // self.team.count // (4 * len(rows)))
        update_nearest(centred, none[:1].repeat(len(rows)) - 1, bank, slice(missed, self.made), best, found, width)
        self.bounds[rows] = best[:, 0]
        self.met[rows] = self.made

    def _meet_all(self) -> None:
        def meet(start: int) -> None:
            rows = np.arange(start, min(start + _BLOCK, len(self.table)))
            self._meet(rows, self.table[rows[0] : rows[-1] + 1] - self.middle, 0)

        self.team.run(partial(meet, start) for start in range(0, len(self.table), _BLOCK))

    def _pick(
        self,
        rows: NDArray[np.int64],
        centred: Floats,
        bounds: Floats,
        outside: np.float32,
        at_least: np.float32,
        room: int,
    ) -> None:
        """Pick among ``rows``, whose bounds are distances, while nothing outside can be farther."""
        picks = np.empty(min(room, len(rows)), np.int64)
        heights = np.empty(len(picks), np.float32)
        met = np.zeros(len(rows), np.int64)
        made = self.made
        number = kernels.pick_greedily(centred, bounds, met, outside, at_least, picks, heights)
        self._add(centred[picks[:number]], rows[picks[:number]], heights[:number])
        self.bounds[rows] = bounds
        self.met[rows] = made + met

    def _add(self, centred: Floats, rows: NDArray[np.int64], heights: NDArray[np.floating[Any]]) -> None:
        new = slice(self.made, self.made + len(rows))
        self.centres[new] = centred
        kernels.squared_norms(centred, self.norms[new])
        self.indices += rows.tolist()
        self.heights += heights.tolist()
