"""Samples one after the other, a few of them read ahead in threads: decoding and the disk let other threads run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
R = TypeVar("R")
_THREADS = 2  # a 20-MP sample takes up to a gigabyte while its maps are read


def read_ahead(look: Callable[[S], R], samples: Iterable[S], *, ahead: int = 2) -> Iterator[tuple[S, Future[R]]]:
    """(sample, what comes of it) in their order; at most ``ahead`` are under way, so memory does not grow with their number.

    Closed early, it ends what is under way and begins nothing more.
    """
    rest = iter(samples)
    with ThreadPoolExecutor(_THREADS, "ahead") as pool:
        waiting = deque((s, pool.submit(look, s)) for s in islice(rest, ahead))
        try:
            while waiting:
                yield waiting.popleft()
                waiting.extend((s, pool.submit(look, s)) for s in islice(rest, 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
