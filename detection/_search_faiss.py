"""Approximate nearest neighbours with faiss, for banks too large for the exact search; always with the error it makes, measured.

A graph of small worlds (HNSW; Malkov and Yashunin 2020, IEEE TPAMI 42, 824–836) visits a few hundred vectors of a bank instead
of all. That works where features fill few dimensions, as those of real pictures do, and fails where they do not; hence the
measurement. faiss is the optional extra ``faiss`` and is imported only here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import ModelError

if TYPE_CHECKING:
    from rakelight.detection.neighbours import Neighbours, SearchBank

_LINKS = 16  # of a vector in the graph
_EFFORT = 64  # candidates kept while walking the graph
_SAMPLE = 64  # queries answered exactly as well, to measure the error


class FaissBank:
    """A :class:`SearchBank` as a graph. One thread builds it, so that the same bank gives the same graph."""

    def __init__(self, bank: SearchBank) -> None:
        try:
            import faiss
        except ImportError as e:
            raise ModelError(
                f"approximate search needs the package faiss, which cannot be imported: {e}",
                hint="pip install 'rakelight[faiss]', or search exactly (approximate=None)",
                code="model.faiss_missing",
            ) from e
        self.bank = bank
        self.graph: Any = faiss.IndexHNSWFlat(bank.dim, _LINKS)
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            self.graph.add(bank.vectors)
        finally:
            faiss.omp_set_num_threads(threads)

    def nearest(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """As :func:`rakelight.detection.neighbours.nearest`, with ``error`` measured on evenly spaced queries."""
        from rakelight.detection.neighbours import Neighbours, SearchError, nearest

        centred = queries - self.bank.centre
        self.graph.hnsw.efSearch = max(_EFFORT, 2 * k)
        squared, index = self.graph.search(centred, k)
        squared[index < 0] = np.inf
        distance = np.sqrt(np.maximum(squared, 0), dtype=np.float32)
        index = index.astype(np.int64)
        if not len(queries):
            return Neighbours(distance, index)
        sample = np.unique(np.linspace(0, len(queries) - 1, min(_SAMPLE, len(queries))).astype(np.int64))
        exact = nearest(queries[sample], self.bank, k=k)
        told = np.isfinite(exact.distance)
        excess = np.zeros(exact.distance.shape, np.float64)
        scale = np.maximum(exact.distance[told], np.finfo(np.float32).tiny)
        excess[told] = np.maximum(distance[sample][told] - exact.distance[told], 0) / scale
        recall = float((index[sample] == exact.index)[told].mean())
        return Neighbours(distance, index, SearchError(len(sample), float(excess.mean()), float(excess.max()), recall))
