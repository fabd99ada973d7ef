"""Many recordings at work at the same time: a Dask cluster of this computer, or one that is there already.

Dask sends functions and results between processes with cloudpickle: connect to schedulers of your own network only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from rakelight.errors import ConfigError, RakelightError

HERE = "none"  # --scheduler: no cluster, one after the other in this process
LOCAL = "local"
_FEW = 3  # so many tasks are done before a cluster has started
_BYTES_PER_WORKER = 3 << 30  # a 20-MP part takes 1.8 GB while it is solved
_DIED = "many.worker_died"
_AHEAD = 2  # tasks that wait at each worker, so that none idles
_CONNECT_S = 10

Task = dict[str, Any]
Outcome = dict[str, Any]
Work = Callable[[Task], Outcome]


@dataclass(frozen=True)
class Crew:
    """Who does the work: ``scheduler`` none, local, or the address of one (``tcp://host:8786``).

    ``workers`` processes of ``threads`` threads each are started for a local one; by default one a core, as far as memory
    goes, with one thread.
    """

    scheduler: str = LOCAL
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.scheduler not in (HERE, LOCAL) and "://" not in self.scheduler:
            raise ConfigError(
                f"scheduler is {self.scheduler!r}; allowed: local, none, or an address such as tcp://10.0.0.5:8786",
                code="many.scheduler",
            )
        if (self.workers is not None and self.workers < 1) or self.threads < 1:
            raise ConfigError(
                f"workers is {self.workers}, threads {self.threads}; needed: 1 or more", code="many.workers"
            )


def run(work: Work, tasks: Sequence[Task], crew: Crew | None = None) -> Iterator[tuple[int, Outcome]]:
    """Do all tasks; yields (position in ``tasks``, outcome) as they end, in any order.

    ``work`` takes and gives plain data. What it raises becomes an outcome with ``error``: one bad recording never stops the
    rest. Leaving the loop early cancels what has not begun.

    Raises
    ------
    ConfigError
        ``many.unreachable``: no scheduler answers at the address; ``many.no_workers``: it has nobody to do the work.
    """
    crew = crew or Crew()
    if crew.scheduler == HERE or (crew.scheduler == LOCAL and len(tasks) <= _FEW and crew.workers is None):
        for place, task in enumerate(tasks):
            yield place, guarded(work, task)
        return
    with _client(crew, len(tasks)) as client:
        yield from _spread(client, work, tasks)


def guarded(work: Work, task: Task) -> Outcome:
    """The outcome of ``work(task)``, or what went wrong: ``{"error": {code, message, hint}}``."""
    try:
        return work(task)
    except RakelightError as e:
        return {"error": {"code": e.code, "message": e.message, "hint": e.hint}}
    except Exception as e:  # a defect of ours, told with its place; the other recordings go on
        place = traceback.extract_tb(e.__traceback__)[-1]
        message = f"{type(e).__name__}: {e} (in {os.path.basename(place.filename)}, line {place.lineno})"
        return {"error": {"code": "internal", "message": message, "hint": "please report this"}}


def _spread(client: Any, work: Work, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
    from distributed import as_completed

    waiting = iter(enumerate(tasks))
    places: dict[str, int] = {}

    def submit(number: int) -> list[Any]:
        futures = []
        for _, (place, task) in zip(range(number), waiting, strict=False):
            future = client.submit(guarded, work, task, pure=False)
            places[future.key] = place
            futures.append(future)
        return futures

    workers = max(1, len(client.scheduler_info()["workers"]))
    going = as_completed(submit(_AHEAD * workers), loop=client.loop)
    again: list[int] = []
    try:
        for future in going:
            place = places.pop(future.key)
            outcome = _result(future)
            for further in submit(1):
                going.add(further)
            if outcome.get("error", {}).get("code") == _DIED:
                again.append(place)  # perhaps it only waited at a worker that another task has ended
                continue
            yield place, outcome
        for place in again:  # one at a time: who ends a worker now is to blame
            yield place, _result(client.submit(guarded, work, tasks[place], pure=False))
    finally:
        client.cancel(list(going.futures), force=True)


def _result(future: Any) -> Outcome:
    try:
        error = future.exception()
        if error is None:
            return future.result()
    except Exception as e:  # lost on its way, or the scheduler is gone: told of this task, the others go on
        error = e
    message = f"the worker process ended ({type(error).__name__}: {error})"
    hint = "was there enough memory? Fewer --workers need less; the same command goes on where this one ended"
    return {"error": {"code": _DIED, "message": message, "hint": hint}}


@contextlib.contextmanager
def _client(crew: Crew, tasks: int) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if crew.scheduler != LOCAL:
        try:
            client = Client(crew.scheduler, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as e:
            raise ConfigError(
                f"no Dask scheduler answers at {crew.scheduler} within {_CONNECT_S} s: {e}",
                hint="start one with `dask scheduler`, with workers that see the same folders, or use --scheduler local",
                code="many.unreachable",
            ) from e
        with client:
            _check_workers(client, crew.scheduler)
            yield client
        return
    threads = str(crew.threads)
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    quiet = {"DASK_LOGGING__DISTRIBUTED": "critical"}  # what goes wrong is in the outcomes; closing down is noisy
    settings = {
        # Dask sets the first in this process too, for good, so that libraries of the workers find them when they are loaded;
        # numba, which must not find another number than it began with, is told in the worker alone.
        "distributed.nanny.pre-spawn-environ": limits | quiet,
        "distributed.nanny.environ": {"NUMBA_NUM_THREADS": threads},
        "distributed.scheduler.allowed-failures": 1,
        "distributed.worker.daemon": True,
    }
    at_work = contextlib.ExitStack()
    at_work.enter_context(_environment_kept((*limits, *quiet)))
    try:
        with _interrupts_wait():
            at_work.enter_context(dask.config.set(settings))
            cluster = LocalCluster(
                n_workers=min(crew.workers or _affordable_workers(), max(1, tasks)),
                threads_per_worker=1,
                processes=True,
                memory_limit=0,  # dask would stop workers that only seem large: frames are mapped files
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # any free port: two runs at a time are fine
                silence_logs=logging.CRITICAL,
            )
            at_work.enter_context(cluster)
            client = at_work.enter_context(Client(cluster, set_as_default=False))
            client.run(_settle_worker, crew.threads)
        yield client
    finally:
        with _interrupts_wait():
            at_work.close()


@contextlib.contextmanager
def _environment_kept(names: Sequence[str]) -> Iterator[None]:
    """Variables of this process are afterwards what they were."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait while a cluster starts or stops: Dask answers them then with pages of traces.

    What is started meanwhile never sees the terminal's Ctrl-C: that is the main process's affair.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    can_mask = hasattr(signal, "pthread_sigmask")  # not on Windows
    if can_mask:
        resource_tracker.ensure_running()  # whichever thread starts it would see Ctrl-C again, and all it starts too
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if can_mask else set()
    try:
        yield
    finally:
        if can_mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for waiting in came:
        signal.raise_signal(waiting)


def _check_workers(client: Any, scheduler: str) -> None:
    """Refuse a cluster without workers: the tasks would wait for ever."""
    try:
        client.wait_for_workers(1, timeout=_CONNECT_S)
    except TimeoutError as e:
        raise ConfigError(
            f"the Dask scheduler at {scheduler} has no workers, also after {_CONNECT_S} s",
            hint=f"start some with `dask worker {scheduler}` on computers that see the same folders",
            code="many.no_workers",
        ) from e


def _settle_worker(threads: int) -> None:
    """In each worker: Ctrl-C is the main process's affair, and OpenCV has the threads that everything else has."""
    import cv2

    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(threads)


def _affordable_workers() -> int:
    import psutil

    memory = int(psutil.virtual_memory().available) // _BYTES_PER_WORKER
    return max(1, min(os.cpu_count() or 1, memory))
