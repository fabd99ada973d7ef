"""The memory of good parts: feature vectors that stand for all patches seen, searched for the nearest to a new patch.

A patch is as anomalous as it is far from everything in the memory (PatchCore: Roth et al. 2022, CVPR, section 3). Every vector
knows the part it came from, so that a part can be forgotten, a new good one be remembered, and a part be judged as if it had
never been seen, all without a new start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rakelight.detection.coreset import Progress, random_choice, select
from rakelight.detection.neighbours import (
    Floats,
    Neighbours,
    SearchBank,
    check_vectors,
    nearest,
    part_ids,
    prepare,
    squared_norms,
)
from rakelight.errors import ModelError

CoresetKind = Literal["exact", "none", "random"]
_KINDS: tuple[CoresetKind, ...] = get_args(CoresetKind)
_ROUNDING = 1 + 1e-5  # so that a feature at the radius itself is not taken for a farther one
_BLOCK = 8192  # feature vectors normalised at a time where their sums are taken


@dataclass(frozen=True, eq=False)
class MemoryBank:
    """Normalised feature vectors of good parts. Make one with :meth:`build` or :meth:`from_arrays`; it never changes.

    Attributes
    ----------
    vectors : (M, D) float32
        (feature − mean) / std.
    part : (M,) int32
        The part each vector came from, as the caller numbers its parts.
    mean, std : float
        One number each for the whole bank, of all features it was built from, so that the distances of banks of different
        features are of the same order.
    radius : float
        Every feature the bank was built from or updated with lies within this distance of a vector (normalised units; 0 for
        a bank of all). Forgetting a part can leave others without a vector that near; an update with them cures it.
    share : float
        Of the features that the coreset kept at most.
    coreset : "exact", "none" or "random"
        How they were chosen: farthest-first, all, or drawn.
    seed : int
        Of the drawing.
    """

    vectors: Floats
    part: NDArray[np.int32]
    mean: float
    std: float
    radius: float
    share: float
    coreset: CoresetKind
    seed: int = 0

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """D, the length of a vector."""
        return int(self.vectors.shape[1])

    @property
    def parts(self) -> tuple[int, ...]:
        """The parts that vectors came from, ascending."""
        return tuple(np.unique(self.part).tolist())

    @classmethod
    def build(
        cls,
        features: Any,
        part: Any,
        *,
        share: float = 0.1,
        minimum: int = 1000,
        coreset: CoresetKind = "exact",
        scale: tuple[float, float] | None = None,
        seed: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> MemoryBank:
        """A bank from the features (P, D) of all valid patches of good parts; ``part`` (P,) whole numbers ≥ 0.

        It keeps ``share`` · P vectors, but ``minimum`` where there are so many. The farthest-first choice begins at row 0.
        ``scale`` is the mean and the standard deviation to normalise by, in place of the features' own.
        Besides the features it holds one normalised copy of them. Raises :class:`ModelError` for no features, NaN or
        infinity, features that are all the same number, and settings outside their range.
        """
        if coreset not in _KINDS:
            raise ModelError(f"coreset is {coreset!r}; allowed: {', '.join(_KINDS)}", code="model.coreset")
        if not 0 < share <= 1 or minimum < 1:
            raise ModelError(
                f"share {share} must be above 0 and at most 1, minimum {minimum} at least 1", code="model.coreset"
            )
        table = check_vectors("features", features)
        ids = part_ids("parts of the features", part, len(table))
        if not len(table):
            raise ModelError("no features to build a memory bank from", code="model.empty_bank")
        squared_norms("features", table)
        mean, std = _mean_and_std(table) if scale is None else scale
        if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
            raise ModelError(
                f"scale {mean}, {std}: a finite mean and a deviation above 0 are needed", code="model.scale"
            )
        table = _normalised(table, mean, std)
        count = max(int(np.ceil(share * len(table))), min(minimum, len(table)))
        rows, radius = _choose(table, count, coreset, seed, progress)
        return cls(table[rows], ids[rows], mean, std, radius, share, coreset, seed)

    def normalised(self, features: Any) -> Floats:
        """Features (N, D) in the bank's units, as its vectors are; :class:`ModelError` for another D or NaN."""
        table = check_vectors("features", features, self.dim)
        squared_norms("features", table)
        return _normalised(table, self.mean, self.std)

    @cached_property
    def search(self) -> SearchBank:
        """The vectors made ready to be searched, for :func:`rakelight.detection.neighbours.nearest`."""
        return prepare(self.vectors, self.part)

    def distances(self, queries: Any, *, device: str = "cpu") -> tuple[Floats, NDArray[np.int64]]:
        """Distance (Q,) of each feature (Q, D) to the nearest vector, in normalised units, and that vector's index (Q,)."""
        found = self.nearest(queries, device=device)
        return found.distance[:, 0], found.index[:, 0]

    def nearest(self, queries: Any, *, k: int = 1, device: str = "cpu", **options: Any) -> Neighbours:
        """The ``k`` nearest vectors of features (Q, D); ``options`` as for :func:`rakelight.detection.neighbours.nearest`."""
        return nearest(self.normalised(queries), self.search, k=k, device=device, **options)

    def leave_part_out(self, queries: Any, part: Any, *, device: str = "cpu") -> tuple[Floats, NDArray[np.int64]]:
        """As :meth:`distances`, to the nearest vector of *another* part than the query's own, ``part`` (Q,).

        Vectors that stood for patches of several parts are missing with their part, so these distances come out somewhat
        larger than those of a part never seen; :meth:`left_out` avoids that. Raises :class:`ModelError` where the bank holds
        no vector of another part.
        """
        ids = part_ids("parts of the queries", part, len(queries))
        if len(self.parts) == 1 and np.any(ids == self.part[0]):
            raise ModelError(
                f"the memory bank holds part {self.part[0]} only, so nothing is left when that part is left out",
                hint="at least two good parts are needed to calibrate; show more",
                code="model.one_part",
            )
        found = self.nearest(queries, exclude=ids, device=device)
        return found.distance[:, 0], found.index[:, 0]

    def left_out(self, features: Any, part: Any, *, anew: bool = False) -> Iterator[tuple[int, MemoryBank]]:
        """For each part of ``part`` (P,), the bank as if that part had never been seen; all other features stay covered.

        ``features`` (P, D) are those the bank was built from.

        ``anew``: built from the features of the others alone. What a part left out scores there is what a new part scores
        in the whole bank. Otherwise, many times faster, the part's vectors are taken out and, where features of other
        parts lose the vector that stood for them, replaced from among those: for an exact coreset what :meth:`forget` and
        :meth:`update` with all other features give, but only the features that lost theirs are searched again. The greatest
        distances come out 1 to 2 % too large then (29 parts): the strange features of others were not chosen first because
        those of the part were, and are only replaced as far as the radius asks.
        """
        table = check_vectors("features", features, self.dim)
        ids = part_ids("parts of the features", part, len(table))
        if anew:
            yield from self._built_without_each(table, ids)
            return
        _, index = self.distances(table)
        for number in np.unique(ids).tolist():
            without = self.forget(number) if number in self.parts else self
            orphans = (self.part[index] == number) & (ids != number)
            if self.coreset == "exact" and orphans.any():
                without = without.update(table[orphans], ids[orphans])
            yield number, without

    def _built_without_each(self, table: Floats, ids: NDArray[np.int32]) -> Iterator[tuple[int, MemoryBank]]:
        # a bank of more than its share keeps a least number of vectors
        minimum = len(self) if len(self) > math.ceil(self.share * len(table)) else 1
        scale = (self.mean, self.std)
        for number in np.unique(ids).tolist():
            others = ids != number
            yield (
                number,
                MemoryBank.build(
                    table[others],
                    ids[others],
                    share=self.share,
                    minimum=minimum,
                    coreset=self.coreset,
                    scale=scale,
                    seed=self.seed,
                ),
            )

    def update(self, features: Any, part: Any, *, progress: Progress = lambda done, total: None) -> MemoryBank:
        """The bank that also remembers features (P, D) of new good parts; the normalisation stays.

        An exact coreset goes on farthest-first from the old vectors until no new feature is farther than ``radius`` from
        one: parts that look like those known add nothing. A drawn one adds ``share`` · P, a bank of all adds all.
        """
        table = self.normalised(features)
        ids = part_ids("parts of the features", part, len(table))
        if self.coreset == "exact":
            rows = select(
                table, len(table), centres=self.vectors, beyond=self.radius * _ROUNDING, progress=progress
            ).indices
        elif self.coreset == "random":
            # Another seed for every state of the bank, or equal numbers of patches would give the same rows each time.
            rows = random_choice(len(table), int(np.ceil(self.share * len(table))), self.seed + len(self.vectors))
        else:
            rows = np.arange(len(table))
        added = replace(
            self, vectors=np.concatenate([self.vectors, table[rows]]), part=np.concatenate([self.part, ids[rows]])
        )
        if self.coreset == "random" and len(table):
            return replace(added, radius=max(self.radius, float(nearest(table, added.search).distance.max())))
        return added

    def forget(self, part: int) -> MemoryBank:
        """The bank without the vectors of one part; :class:`ModelError` for an unknown part or the only one."""
        keep = self.part != part
        if keep.all():
            known = ", ".join(map(str, self.parts[:20])) + (" …" if len(self.parts) > 20 else "")
            raise ModelError(
                f"the memory bank holds no vectors of part {part}; it knows {known}", code="model.unknown_part"
            )
        if not keep.any():
            raise ModelError(
                f"part {part} is the only one of the memory bank; without it nothing would be left",
                hint="update the bank with another good part first",
                code="model.one_part",
            )
        return replace(self, vectors=self.vectors[keep], part=self.part[keep])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The bank as plain arrays, as safetensors stores them; :meth:`from_arrays` gives the same bank back."""
        return {
            "vectors": self.vectors,
            "part": self.part,
            "scales": np.array([self.mean, self.std, self.radius, self.share], np.float64),
            "choice": np.array([_KINDS.index(self.coreset), self.seed], np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> MemoryBank:
        """A bank from :meth:`to_arrays`; :class:`ModelError` if an array is missing or does not fit."""
        missing = [name for name in ("vectors", "part", "scales", "choice") if name not in arrays]
        if missing:
            raise ModelError(f"the memory bank's arrays lack {', '.join(missing)}", code="model.bank_arrays")
        vectors = check_vectors("vectors of the memory bank", arrays["vectors"])
        squared_norms("vectors of the memory bank", vectors)
        part = part_ids("parts of the memory bank", arrays["part"], len(vectors))
        scales = np.asarray(arrays["scales"], np.float64)
        choice = np.asarray(arrays["choice"], np.int64)
        if not len(vectors) or scales.shape != (4,) or choice.shape != (2,) or not 0 <= choice[0] < len(_KINDS):
            raise ModelError(
                f"the memory bank's arrays do not fit: {len(vectors)} vectors, scales of shape {scales.shape}, choice {choice}",
                code="model.bank_arrays",
            )
        mean, std, radius, share = scales.tolist()
        if not (np.isfinite(scales).all() and std > 0 and radius >= 0 and 0 < share <= 1):
            raise ModelError(
                f"the memory bank's mean, std, radius, share are not usable: {scales}", code="model.bank_arrays"
            )
        return cls(vectors, part, mean, std, radius, share, _KINDS[int(choice[0])], int(choice[1]))


def _mean_and_std(table: Floats) -> tuple[float, float]:
    """Mean and standard deviation of all numbers of a table, in float64, without a copy of it."""
    mean = float(table.mean(dtype=np.float64))
    squares = 0.0
    for start in range(0, len(table), _BLOCK):
        squares += float(np.square(table[start : start + _BLOCK] - np.float64(mean)).sum())
    std = float(np.sqrt(squares / table.size))
    if std <= 1e-6 * abs(mean) or std == 0:
        raise ModelError(
            f"all features are nearly the same number (mean {mean:.6g}, standard deviation {std:.3g})",
            hint="check the pictures and the layers the features are taken from",
            code="model.constant_features",
        )
    return mean, std


def _normalised(table: Floats, mean: float, std: float) -> Floats:
    out = table - np.float32(mean)
    out /= np.float32(std)
    return out


def _choose(
    table: Floats, count: int, coreset: CoresetKind, seed: int, progress: Progress
) -> tuple[NDArray[np.int64], float]:
    """Rows that stand for the table, and how far any row is from them at most."""
    if coreset == "none":
        return np.arange(len(table)), 0.0
    if coreset == "exact":
        chosen = select(table, count, progress=progress)
        return chosen.indices, chosen.radius
    rows = random_choice(len(table), count, seed)
    return rows, float(nearest(table, table[rows]).distance.max())
