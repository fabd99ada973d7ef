"""The lock that lets one process at a time write a data set."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rakelight.dataset import layout
from rakelight.dataset.sample import utc_now
from rakelight.errors import DatasetError
from rakelight.files import read_json, storage_error, write_json

_PATIENCE_S = 0.2
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}


@contextlib.contextmanager
def writer_lock(root: Path) -> Iterator[None]:
    """Hold the lock that the system itself frees when a process dies; who holds it stands beside it."""
    path, owner = root / layout.LOCK_FILE, root / layout.OWNER_FILE
    # Not at once: a reader that asks whether a writer is at work holds it for a moment. A soft lock would outlive a kill.
    lock = FileLock(path, timeout=_PATIENCE_S, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as e:
        raise DatasetError(
            f"{root} is being written by {_owner_text(owner)}",
            hint="close the other writer and try again; the lock is freed when its process ends",
            code="dataset.locked",
        ) from e
    except OSError as e:
        if e.errno in _NO_LOCKS:
            raise DatasetError(
                f"{root} cannot be written: its file system has no locks that keep a second writer out ({e.strerror})",
                hint="move the data set to a local disk, or have the network drive mounted with file locks",
                code="dataset.no_locks",
            ) from e
        raise storage_error(e, path) from e
    try:
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since_utc": utc_now()})
        yield
    finally:
        with contextlib.suppress(OSError):  # a stale note does no harm: the lock decides
            owner.unlink(missing_ok=True)
        lock.release()


def _owner_text(owner: Path) -> str:
    try:
        note: Any = read_json(owner, error=DatasetError)
        return f"process {note['pid']} on {note['host']} since {note['since_utc']}"
    except (DatasetError, KeyError, TypeError):
        return "another process, which has not yet left its name"


def is_locked(root: Path) -> bool:
    """Whether a writer is at work; the answer may be old the moment it is given."""
    path = root / layout.LOCK_FILE
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except (Timeout, OSError):  # held, or on a medium where nobody can write
        return (root / layout.OWNER_FILE).exists()
    lock.release()
    return False
