"""All durable writes go through this module: a file or folder arrives whole or not at all.

The protocol is *write beside, fsync, rename, fsync the folder*. A reader therefore sees the old
content or the new one, never a mixture, also after a power cut (POSIX ``rename(2)``; on Windows
``os.replace``, retried while a virus scanner holds the file).

A folder that replaces another is exchanged with it in one step where Linux and the file system offer that
(``renameat2(2)`` with ``RENAME_EXCHANGE``). Elsewhere two renames are needed; killed between them, a process leaves the
old folder whole under a hidden name, ``.NAME.old-…``, and the next write to that name puts it back first.
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
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rakelight.errors import RakelightError, StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOWS = os.name == "nt"
_MAX_JSON_BYTES = 64 << 20
_FULL_BELOW_BYTES = 1 << 16  # a disk with less room than this counts as full when a failed write says no reason
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DISK_FAULTS = _DISK_FULL | {errno.EIO, errno.EROFS, errno.EFBIG}  # what a write meets, seldom anything else
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}  # a folder cannot be renamed there
_PARTIAL = ".partial-"  # marks what is still being written or already being removed, for files and folders alike
_OLD = ".old-"  # marks a whole folder that is moved aside while another takes its place


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
def _told(path: Path, *, beside: Path | None = None) -> Iterator[None]:
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
    beside = path.with_name(f".{path.name}{_PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        with _told(path, beside=beside), open(beside, "x+b") as handle:
            yield handle
            with _told(path):
                handle.flush()
                os.fsync(handle.fileno())
        with _told(path):
            _replace(beside, path)
            fsync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_write(path) as handle, _told(Path(path)):
        handle.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically as UTF-8 with ``\\n`` line ends."""
    write_bytes(path, text.encode("utf-8"))


def canonical_json(value: Any) -> str:
    """``value`` as JSON with sorted keys and no spare blanks: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically as indented JSON (NaN and infinity are refused)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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

    with atomic_write(path) as handle, _told(Path(path)):
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


@contextlib.contextmanager
def staged_folder(final: str | Path, *, overwrite: bool = False, marker: str = "") -> Iterator[Path]:
    """Fill a folder that becomes ``final`` only if the block succeeds.

    Yields an empty folder beside ``final``; at the end every file in it is fsynced and the folder renamed. If ``final`` is
    a symbolic link, its target is written and the link stays.

    Parameters
    ----------
    final : path
        The folder to make; it may be there if it is empty.
    overwrite : bool
        Replace ``final`` if it holds anything; it is kept until the new one is whole, and put back if the renaming fails.
        Otherwise ``final`` is never touched, also if it appears while the block runs.
    marker : str
        Name of a file that a folder must hold to be replaced, so that a mistyped path does not cost a folder of another
        kind.

    Raises
    ------
    StorageError
        As :func:`check_replaceable`, before the block and again after it, or writing fails; the half-filled folder is
        then removed. What the block raises about files elsewhere is passed on.
    """
    final = _resolved(final)
    check_replaceable(final, overwrite=overwrite, marker=marker)
    make_folder(final.parent)
    staging = final.with_name(f".{final.name}{_PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        with _told(final):
            staging.mkdir()
        with _told(final, beside=staging):
            yield staging
        with _told(final):
            fsync_tree(staging)
            _swap_in(staging, final, overwrite, marker)
    finally:
        _remove_tree(staging)


def check_replaceable(final: str | Path, *, overwrite: bool, marker: str = "") -> None:
    """Refuse a folder that must not be replaced: the one rule about that, to be asked also before long work.

    A folder may be written that is absent or empty; with ``overwrite`` also one that holds a file named ``marker`` (any
    folder without a marker). If ``final`` is absent and a kill left exactly one earlier version aside
    (``.NAME.old-…``), that is put back first.

    Raises
    ------
    StorageError
        ``storage.exists`` if it holds something that must stay, ``storage.not_a_folder`` if it is a file or the top of
        the disk, ``storage.not_writable`` if it cannot be looked into.
    """
    final = _resolved(final)
    with _told(final):
        _put_back(final)
        try:
            final.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return  # a file in the place of a parent is told by make_folder
        if not final.is_dir() or final.parent == final:
            raise StorageError(
                f"{final} is not a folder that can be replaced", hint="choose another name", code="storage.not_a_folder"
            )
        if not any(final.iterdir()):
            return
        if marker and not (final / marker).is_file():
            raise StorageError(
                f"{final} is not replaced: it is not empty and holds no {marker}, so it is something else",
                hint="choose another name, or remove that folder yourself",
                code="storage.exists",
            )
        if not overwrite:
            raise _exists(final)


def _resolved(final: str | Path) -> Path:
    """``final`` by a name that can be renamed to: no link, and not ``.`` or ``..``."""
    final = Path(final)
    return Path(os.path.realpath(final)) if final.name in ("", "..") or os.path.islink(final) else final


def _exists(final: Path) -> StorageError:
    return StorageError(
        f"{final} exists already", hint="choose another name or pass --overwrite", code="storage.exists"
    )


def _swap_in(staging: Path, final: Path, overwrite: bool, marker: str) -> None:
    """Rename ``staging`` to ``final``; what ``final`` held, if it may be replaced, is then in ``staging``."""
    check_replaceable(final, overwrite=overwrite, marker=marker)  # again, since the block may have taken long
    if overwrite and final.exists() and any(final.iterdir()):
        _exchange(staging, final)
    else:
        try:
            if _WINDOWS and final.exists():  # there a rename never lands on a folder, elsewhere only on an empty one
                final.rmdir()
            _replace(staging, final)
        except OSError as error:
            if error.errno in _TAKEN and os.path.lexists(final):
                raise _exists(final) from error
            raise
    fsync_folder(final.parent)


def _exchange(staging: Path, final: Path) -> None:
    """Exchange two folders, in one step where the system can, else by renames with the old one put back on a fault."""
    if _exchange_at_once(staging, final):
        return
    old = final.with_name(f".{final.name}{_OLD}{uuid.uuid4().hex[:8]}")
    try:
        _replace(final, old)
        _replace(staging, final)
    finally:  # an interrupt may fall between any two of these lines: what is where tells how far it got
        with contextlib.suppress(OSError):
            _replace(old, final if staging.exists() else staging)


def _exchange_at_once(a: Path, b: Path) -> bool:
    """``renameat2(2)`` with ``RENAME_EXCHANGE``; false where it is not offered or fails, and nothing has changed then."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0)


def _put_back(final: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    if os.path.lexists(final) or not final.parent.is_dir():
        return
    aside = [p for p in final.parent.iterdir() if p.name.startswith(f".{final.name}{_OLD}") and p.is_dir()]
    if len(aside) == 1:
        _replace(aside[0], final)
        fsync_folder(final.parent)


def rename_folder(source: str | Path, final: str | Path) -> None:
    """Rename a complete folder into place and make the rename durable (both parents fsynced).

    Raises :class:`StorageError` if ``final`` exists or the rename fails.
    """
    source, final = Path(source), Path(final)
    if final.exists():
        raise StorageError(f"{final} exists already", hint="nothing was changed", code="storage.exists")
    make_folder(final.parent)
    try:
        _replace(source, final)
        fsync_folder(final.parent)
        fsync_folder(source.parent)
    except OSError as error:
        raise storage_error(error, final) from error


def fsync_tree(folder: str | Path) -> None:
    """fsync every file and folder below ``folder``, and ``folder`` itself."""
    for root, _folders, names in os.walk(folder, topdown=False):
        for name in names:
            fsync_file(os.path.join(root, name))
        fsync_folder(root)


def fsync_file(path: str | Path) -> None:
    """Make a file's content durable, also that of a read-only file (a copy of one, say)."""
    if not _WINDOWS:
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
    if _WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(source: Path, final: Path) -> None:
    for wait_s in (0.05, 0.1, 0.2, 0.4, 0.8):
        try:
            os.replace(source, final)
            return
        except PermissionError:
            if not _WINDOWS:  # elsewhere a refusal is final; on Windows a scanner lets go in a moment
                raise
            time.sleep(wait_s)
    os.replace(source, final)


def _remove_tree(folder: Path) -> None:
    """Remove a folder of ours as far as the system allows; what remains carries a mark in its name."""
    if _WINDOWS:  # refuses to delete read-only files
        for root, _folders, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(root, name), stat.S_IWRITE)
    shutil.rmtree(folder, ignore_errors=True)
