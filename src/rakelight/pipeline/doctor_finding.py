"""A line of ``rakelight doctor``, and the checks that make such lines, each kept from stopping or delaying the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rakelight.errors import RakelightError

State = Literal["ok", "warn", "fail"]

_FIRST = "mend the other lines first, then look again"
_SLICE_S = 0.2  # longest wait at a time, so that Ctrl-C is heard on Windows too


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    ``ok`` needs nothing; ``warn`` does not stop rakelight, or stops only those who need that thing; ``fail`` does.
    ``cure`` says what to do, and is empty when nothing is to be done.
    """

    name: str
    state: State
    what: str
    cure: str = ""


@dataclass(frozen=True)
class Check:
    """Something to look at: ``run`` yields findings; ``limit_s`` is the longest time it may take to the next of them."""

    name: str
    run: Callable[[], Iterator[Finding]]
    limit_s: float = 30.0


def findings_of(check: Check) -> Iterator[Finding]:
    """Run a check in a thread of its own and yield what it finds, as it comes.

    A check that raises ends with a ``fail`` line that names the error; one that says nothing for ``limit_s`` seconds ends
    with a ``fail`` line too, and its thread is left behind.
    """
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
    threading.Thread(target=_work, args=(check, found), name=f"doctor: {check.name}", daemon=True).start()
    while True:
        finding = _next(found, check.limit_s)
        if isinstance(finding, Finding):
            yield finding
        elif finding == "ended":
            return
        else:
            yield Finding(
                check.name,
                "fail",
                f"no answer within {check.limit_s:g} s; this check was given up",
                "something that this computer asks hangs (a driver, a disk, a network folder): restart the computer, and "
                "unplug what is not needed",
            )
            return


def _next(found: queue.SimpleQueue[Finding | None], limit_s: float) -> Finding | Literal["ended", "silent"]:
    end = time.monotonic() + limit_s
    while (left := end - time.monotonic()) > 0:
        try:
            finding = found.get(timeout=min(left, _SLICE_S))
        except queue.Empty:
            continue
        return finding if finding is not None else "ended"
    return "silent"


def _work(check: Check, found: queue.SimpleQueue[Finding | None]) -> None:
    try:
        for finding in check.run():
            found.put(finding)
    except RakelightError as error:
        found.put(Finding(check.name, "fail", error.message, error.hint or _FIRST))
    except ImportError as error:
        found.put(Finding(check.name, "fail", f"could not be looked at: {error}", _FIRST))
    except BaseException as error:  # told as a line of its own; the other checks go on
        found.put(
            Finding(
                check.name,
                "fail",
                f"this check itself broke off: {type(error).__name__}: {error}",
                "this is a defect of rakelight; please report it with this line",
            )
        )
    finally:
        found.put(None)
