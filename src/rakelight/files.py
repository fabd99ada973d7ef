"""All durable writes go through this module and :mod:`rakelight.folders`: a file or folder arrives whole or not at all.

The protocol is *write beside, fsync, rename, fsync the folder*. A reader therefore sees the old
content or the new one, never a mixture, also after a power cut (POSIX ``rename(2)``; on Windows
``os.replace``, retried while a virus scanner holds the file).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rakelight.errors import RakelightError, StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOWS = os.name == "nt"
_MAX_JSON_BYTES = 64 << 20
_FULL_BELOW_BYTES = 1 << 16  # a disk with less room than this counts as full when a failed write says no reason
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DISK_FAULTS = _DISK_FULL | {errno.EIO, errno.EROFS, errno.EFBIG}  # what a write meets, seldom anything else
PARTIAL = ".partial-"  # marks what is still being written or already being removed, for files and folders alike


def storage_error(error: OSError, path: Path) -> StorageError:
    """Turn an ``OSError`` met while writing ``path`` into an error with the cure in its hint."""
    if _means_full(error, path):
        free = _free_bytes(path)
        room = "no room left" if free is None else f"{free / 1e6:.1f} MB free"
        return StorageError(
            f"disk full while writing {path} ({room})",
            hint="free some space or choose another folder, then run the command again; nothing half-written remains",
            code="storage.disk_full",
        )
    return StorageError(
        f"cannot write {path}: {error.strerror or error}",
        hint="check that the folder exists, is a folder and is writable by you, or choose another one",
        code="storage.not_writable",
    )


def _means_full(error: OSError, path: Path) -> bool:
    """Whether the disk of ``path`` is full: the system says so, or gives no reason and hardly any room is left."""
    if error.errno is not None:
        return error.errno in _DISK_FULL
    free = _free_bytes(path)
    return free is not None and free < _FULL_BELOW_BYTES


def _free_bytes(path: Path) -> int | None:
    """Room on the disk of ``path``, of its nearest folder that can be asked."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


@contextlib.contextmanager
def told(path: Path, *, beside: Path | None = None) -> Iterator[None]:
    """Turn an ``OSError`` into the :class:`StorageError` of ``path``.

    With ``beside``, the block is the caller's: an error about another file of theirs (an input that is missing, say) is
    passed on as it is. It is about ours if it names ``beside`` or something in it, or names nothing and is of a disk.
    """
    try:
        yield
    except RakelightError:
        raise
    except OSError as error:
        if beside is not None and not _is_about(error, beside):
            raise
        raise storage_error(error, path) from error


def _is_about(error: OSError, beside: Path) -> bool:
    if isinstance(error.filename, str | bytes | os.PathLike):
        return Path(os.path.abspath(os.fsdecode(error.filename))).is_relative_to(os.path.abspath(beside))
    return error.errno in _DISK_FAULTS or _means_full(error, beside)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file that becomes ``path`` only if the block succeeds.

    Yields a seekable handle open for reading and writing. Raises :class:`StorageError` when the folder cannot be
    written or the disk is full; ``path`` then has its old content, or (if only the last fsync of the folder failed) the
    whole new one. What the block raises about other files is passed on.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        with told(path, beside=beside), open(beside, "x+b") as handle:
            yield handle
            with told(path):
                handle.flush()
                os.fsync(handle.fileno())
        with told(path):
            replace(beside, path)
            fsync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_write(path) as handle, told(Path(path)):
        handle.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically as UTF-8 with ``\\n`` line ends."""
    write_bytes(path, text.encode("utf-8"))


def canonical_json(value: Any) -> str:
    """``value`` as JSON with sorted keys and no spare blanks: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def json_bytes(value: Any) -> bytes:
    """``value`` as the indented JSON that :func:`write_json` writes (NaN and infinity are refused)."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically as :func:`json_bytes`."""
    write_bytes(path, json_bytes(value))


def append_bytes(path: str | Path, data: bytes) -> None:
    """Append ``data`` to ``path`` (made if absent) so that it survives a power cut.

    Raises :class:`StorageError`; what was appended in part is then taken away again, as far as the disk allows. A power
    cut meanwhile may leave a part, so readers must tell a torn last record.
    """
    path = Path(path)
    try:
        new = not path.exists()
        with open(path, "ab", buffering=0) as handle:
            before = handle.seek(0, os.SEEK_END)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[handle.write(rest) :]
                os.fsync(handle.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    handle.truncate(before)
                raise
        if new:
            fsync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error


def read_json(path: str | Path, *, error: Callable[..., RakelightError], max_bytes: int = _MAX_JSON_BYTES) -> Any:
    """Read JSON strictly: bounded size, no duplicate keys, no NaN or infinity, only text that UTF-8 can hold.

    ``error`` is the class to raise (``DatasetError``, ``CalibrationError`` …), so that the caller's
    user learns which kind of thing is broken.
    """
    path = Path(path)

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ValueError(f"key {key!r} stands twice")
            seen[key] = value
        return seen

    def no_constants(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON number")

    def finite(digits: str) -> float:
        if math.isinf(value := float(digits)):
            raise ValueError(f"{digits} is too large for a number")
        return value

    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(f"{size} bytes; at most {max_bytes} are read")
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constants, parse_float=finite)
        if "\\u" in text:  # \\ud800 alone is JSON, but no text: it could be neither printed nor written again
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except FileNotFoundError as e:
        raise error(f"{path} does not exist", hint="check the path", code="file.missing") from e
    except (OSError, ValueError, RecursionError) as e:
        raise error(
            f"{path} cannot be read as JSON: {e}",
            hint="restore the file from a backup; rakelight never writes it in part",
            code="file.corrupt",
        ) from e


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays to ``path`` atomically as an uncompressed ``.npz`` (no pickle)."""
    import numpy as np

    with atomic_write(path) as handle, told(Path(path)):
        np.savez(handle, allow_pickle=False, **arrays)


def sha256_bytes(data: bytes | memoryview) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's content, streamed."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def make_folder(path: str | Path) -> Path:
    """Create ``path`` and its parents if absent, so that their names survive a power cut.

    Raises :class:`StorageError` when it cannot be created.
    """
    path = Path(path)
    try:
        missing = [p for p in (path, *path.parents) if not p.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for created in reversed(missing):
            fsync_folder(created.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def fsync_file(path: str | Path) -> None:
    """Make a file's content durable, also that of a read-only file (a copy of one, say)."""
    if not WINDOWS:
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
        return
    mode = os.stat(path).st_mode  # there only a handle open for writing can be flushed
    os.chmod(path, mode | stat.S_IWRITE)
    try:
        with open(path, "r+b") as handle:
            os.fsync(handle.fileno())
    finally:
        os.chmod(path, mode)


def fsync_folder(folder: str | Path) -> None:
    """Make the names in ``folder`` durable (a no-op on Windows, which offers no such call)."""
    if WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, final: Path) -> None:
    """``os.replace``, tried again for a while on Windows, where a virus scanner may hold a file."""
    for wait_s in (0.05, 0.1, 0.2, 0.4, 0.8):
        try:
            os.replace(source, final)
            return
        except PermissionError:
            if not WINDOWS:  # elsewhere a refusal is final; on Windows a scanner lets go in a moment
                raise
            time.sleep(wait_s)
    os.replace(source, final)
