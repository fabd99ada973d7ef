"""Exact nearest neighbours of feature vectors in bounded memory: one blocked matrix product, then true distances.

Brute force is the right form for a memory bank of some ten thousand vectors of some hundred dimensions: it is one matrix
product, which runs at the full rate of the machine, and it is exact. The product is formed block by block and reduced at
once, so that queries × bank is never held; what it leaves undecided is settled by distances taken from the differences
(:mod:`rakelight.detection._search_kernels`). On a CPU the product is numpy's BLAS, which is not slower than torch's; with
``device="cuda"`` torch does it on the GPU (:mod:`rakelight.detection._search_torch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.detection import _search_kernels as kernels
from rakelight.detection._workers import workers
from rakelight.errors import ModelError

if TYPE_CHECKING:
    from rakelight.detection._search_faiss import FaissBank
    from rakelight.detection._search_torch import TorchBank

Floats = NDArray[np.float32]
MAX_BYTES = 32 << 20  # of products held at a time
_COLUMNS = 8192  # bank vectors a block: fewer make the product itself slower
_NO_PART = np.int32(-1)


@dataclass(frozen=True, eq=False)
class SearchBank:
    """Vectors made ready to be searched: a centred copy of them and their norms. Make it with :func:`prepare`.

    Attributes
    ----------
    vectors : (M, D) float32
        The bank minus ``centre``: distances stay the same and the products lose fewer digits.
    centre : (D,) float32
    norms : (M,) float32
        Squared lengths of ``vectors``.
    part : (M,) int32
        The part each vector is of; zeros if the bank knows none.
    """

    vectors: Floats
    centre: Floats
    norms: Floats
    part: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """D, the length of a vector."""
        return int(self.vectors.shape[1])

    @cached_property
    def as_graph(self) -> FaissBank:
        """The bank as a graph for approximate search, built once; :class:`ModelError` where faiss is not installed."""
        from rakelight.detection._search_faiss import FaissBank

        return FaissBank(self)

    @cached_property
    def _on_device(self) -> dict[str, TorchBank]:
        return {}

    def on_device(self, device: str) -> TorchBank:
        """The bank as torch tensors on ``device``, copied there once."""
        from rakelight.detection._search_torch import TorchBank

        if device not in self._on_device:
            self._on_device[device] = TorchBank(self, device)
        return self._on_device[device]


@dataclass(frozen=True)
class SearchError:
    """What an approximate search got wrong on ``sample`` of its queries, answered exactly as well.

    ``mean`` and ``largest`` are of (distance − exact distance) / exact distance; ``recall`` is the share of neighbours that
    are the exact ones.
    """

    sample: int
    mean: float
    largest: float
    recall: float


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest of each query: ``distance`` (Q, k) float32, ascending, and ``index`` (Q, k) int64 into the bank.

    Where fewer than k vectors may be neighbours, the distance is infinite and the index -1. ``error`` is None for an exact
    search.
    """

    distance: Floats
    index: NDArray[np.int64]
    error: SearchError | None = None


def check_vectors(name: str, vectors: Any, dim: int | None = None) -> Floats:
    """``vectors`` as contiguous (N, D) float32; :class:`ModelError` if it is something else, has another D, or is not finite."""
    array = np.asarray(vectors)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ModelError(
            f"{name} must be a table of feature vectors, numbers × dimensions; got {array.dtype.name} of shape {array.shape}",
            code="model.vectors",
        )
    if dim is not None and array.shape[1] != dim:
        raise ModelError(
            f"{name} have {array.shape[1]} dimensions; the bank has {dim}",
            hint="use the feature extractor and layers that the bank was built with",
            code="model.dimension",
        )
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is told below
        floats = np.ascontiguousarray(array, np.float32)
    if floats.shape[1] == 0:
        raise ModelError(f"{name} have no dimensions: shape {floats.shape}", code="model.vectors")
    return floats


def squared_norms(name: str, vectors: Floats) -> Floats:
    """‖v‖² of each row as float32; :class:`ModelError` naming the first row that holds NaN or is too large to be squared."""
    norms = np.empty(len(vectors), np.float32)
    kernels.squared_norms(vectors, norms)
    good = norms < 1e37  # so that the square of a sum of two lengths is finite too; not true for NaN either
    if not good.all():
        row = int(np.argmin(good))
        raise ModelError(
            f"{name}: vector {row} and {len(good) - int(good.sum()) - 1} more hold NaN, infinity or values beyond 1e18",
            hint="leave out patches without valid pixels before the bank is built or asked",
            code="model.not_finite",
        )
    return norms


def part_ids(name: str, parts: Any, count: int) -> NDArray[np.int32]:
    """``parts`` as (count,) int32 of numbers ≥ 0; :class:`ModelError` if they are not."""
    ids = np.asarray(parts)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise ModelError(
            f"{name} must be one whole number for each of the {count} vectors; got {ids.dtype.name} of shape {ids.shape}",
            code="model.parts",
        )
    if count and (ids.min() < 0 or ids.max() > np.iinfo(np.int32).max):
        raise ModelError(f"{name} must be 0 … 2147483647; found {ids.min()} … {ids.max()}", code="model.parts")
    return ids.astype(np.int32)


def prepare(bank: Any, part: Any = None) -> SearchBank:
    """Centre a bank (M, D) and take its norms, once for many searches; holds a copy of the bank.

    ``part`` (M,) are whole numbers ≥ 0, one a vector, needed to leave parts out. Raises :class:`ModelError` for an empty
    bank, NaN, infinity, and a ``part`` that does not fit.
    """
    vectors = check_vectors("bank vectors", bank)
    if not len(vectors):
        raise ModelError("the memory bank is empty: nothing can be compared with it", code="model.empty_bank")
    squared_norms("bank vectors", vectors)
    centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = vectors - centre
    ids = np.zeros(len(vectors), np.int32) if part is None else part_ids("parts of the bank", part, len(vectors))
    return SearchBank(centred, centre, squared_norms("bank vectors", centred), ids)


def nearest(
    queries: Any,
    bank: SearchBank | NDArray[Any],
    *,
    k: int = 1,
    exclude: Any = None,
    device: str = "cpu",
    max_bytes: int = MAX_BYTES,
    approximate: Literal["hnsw"] | None = None,
) -> Neighbours:
    """The ``k`` nearest bank vectors of each query by Euclidean distance, exactly; equal distances go by index.

    Parameters
    ----------
    queries : (Q, D) float array
    bank : SearchBank or (M, D) float array
        A plain array is prepared first.
    exclude : (Q,) int array, optional
        The part of each query: bank vectors of the same part are no neighbours. -1 leaves out none.
    device : str
        "cpu", or a torch device such as "cuda".
    max_bytes : int
        Of products held at a time, by all workers together; each forms a block of at least 64 × 64.
    approximate : "hnsw", optional
        Search a graph with faiss instead, on the CPU; the answer carries the error measured on some of the queries.

    Raises
    ------
    ModelError
        Another dimension, NaN or infinity, no bank vectors, ``k`` not positive, ``exclude`` that does not fit; an
        approximate search that is to leave out parts or to use a GPU, or without faiss.
    """
    prepared = bank if isinstance(bank, SearchBank) else prepare(bank)
    if k < 1:
        raise ModelError(f"k is {k}; at least 1 neighbour must be asked for", code="model.k")
    rows = check_vectors("queries", queries, prepared.dim)
    own = _own_parts(exclude, len(rows))
    squared_norms("queries", rows)
    if approximate is not None:
        return _approximate(rows, prepared, k, exclude, device, approximate)
    if device != "cpu":
        return prepared.on_device(device).nearest(rows, own, k, max_bytes)
    best = np.full((len(rows), k), np.inf, np.float32)
    found = np.full((len(rows), k), -1, np.int64)
    with workers() as team:
        height, width = block_shape(-(-len(rows) // team.count), len(prepared), max_bytes // team.count)

        def search(start: int) -> None:
            block = slice(start, min(start + height, len(rows)))
            centred = rows[block] - prepared.centre
            update_nearest(centred, own[block], prepared, slice(0, len(prepared)), best[block], found[block], width)

        team.run(partial(search, start) for start in range(0, len(rows), height))
    return Neighbours(np.sqrt(best), found)


def update_nearest(
    queries: Floats,
    own: NDArray[np.int32],
    bank: SearchBank,
    among: slice,
    best: Floats,
    found: NDArray[np.int64],
    width: int = _COLUMNS,
) -> None:
    """Bring ``best`` (q, k) squared distances and ``found`` (q, k) up to date with the bank's vectors ``among``.

    ``queries`` (q, D) float32 are centred as the bank is; ``own`` (q,) int32 parts that do not count, -1 for none.
    """
    norms = np.empty(len(queries), np.float32)
    kernels.squared_norms(queries, norms)
    products = np.empty((len(queries), min(width, among.stop - among.start)), np.float32)
    for start in range(among.start, among.stop, width):
        block = slice(start, min(start + width, among.stop))
        vectors = bank.vectors[block]
        out = products.reshape(-1)[: len(queries) * len(vectors)].reshape(len(queries), len(vectors))
        np.matmul(queries, vectors.T, out=out)
        kernels.scan_block(out, queries, norms, own, vectors, bank.norms[block], bank.part[block], start, best, found)


def block_shape(queries: int, bank: int, max_bytes: int) -> tuple[int, int]:
    """Rows and columns of the products held at a time: few blocks, and not more than ``max_bytes`` of float32."""
    width = max(64, min(bank, _COLUMNS, max_bytes // (4 * 64)))
    return max(64, min(queries, max_bytes // (4 * width))), width


def _approximate(rows: Floats, bank: SearchBank, k: int, exclude: Any, device: str, kind: str) -> Neighbours:
    if kind != "hnsw":
        raise ModelError(f"approximate is {kind!r}; allowed: 'hnsw' or None", code="model.approximate")
    if exclude is not None or device != "cpu":
        raise ModelError(
            f"an approximate search can neither leave out parts nor use device {device!r}",
            hint="search exactly: approximate=None",
            code="model.approximate",
        )
    return bank.as_graph.nearest(rows, k)


def _own_parts(exclude: Any, count: int) -> NDArray[np.int32]:
    if exclude is None:
        return np.full(count, _NO_PART, np.int32)
    ids = np.asarray(exclude)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise ModelError(
            f"exclude must be one whole number for each of the {count} queries; got {ids.dtype.name} of shape {ids.shape}",
            code="model.parts",
        )
    return ids.astype(np.int32)
