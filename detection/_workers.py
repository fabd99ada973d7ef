"""Threads that each do their own products of matrices, instead of one product that many threads share.

The search alternates between a product and a loop over it. With BLAS's own threads the ones wait, spinning, for the others
at every step, and on a machine that also has other things to do that costs several times the work itself. So BLAS is held to
one thread while the search runs, and as many workers as it had threads take the blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController


@cache
def _blas() -> Any:
    np.empty((1, 1)) @ np.empty((1, 1))  # numpy's BLAS is loaded by now
    return ThreadpoolController().select(user_api="blas")


class _SingleThreadedBlas:
    """Holds BLAS to one thread while at least one search runs; searches of several threads may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: Any = None
        self._threads = 1

    def __enter__(self) -> int:
        """Returns how many threads BLAS had."""
        with self._lock:
            if self._users == 0:
                self._threads = max((lib["num_threads"] for lib in _blas().info()), default=1)
                self._limit = _blas().limit(limits=1)
            self._users += 1
            return self._threads

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.restore_original_limits()


_single_threaded_blas = _SingleThreadedBlas()


class Workers:
    """As many threads as BLAS had; see :func:`workers`."""

    def __init__(self, pool: ThreadPoolExecutor, count: int) -> None:
        self._pool, self.count = pool, count

    def run(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Do all jobs, which must not touch what another one writes; the first error ends it once all are done."""
        listed = list(jobs)
        if self.count == 1 or len(listed) == 1:
            for job in listed:
                job()
            return
        for done in [self._pool.submit(job) for job in listed]:
            done.result()


@contextmanager
def workers() -> Iterator[Workers]:
    """Workers for the time of a search; bound them as BLAS is bound (OMP_NUM_THREADS, threadpoolctl)."""
    with _single_threaded_blas as count, ThreadPoolExecutor(count, thread_name_prefix="search") as pool:
        yield Workers(pool, count)
