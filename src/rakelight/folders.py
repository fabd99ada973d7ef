"""Folders that arrive whole or not at all, as single files do by :mod:`rakelight.files`.

A folder that replaces another is exchanged with it in one step where Linux and the file system offer that
(``renameat2(2)`` with ``RENAME_EXCHANGE``). Elsewhere two renames are needed; killed between them, a process leaves the
old folder whole under a hidden name, ``.NAME.old-…``, and the next write to that name puts it back first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from rakelight.errors import StorageError
from rakelight.files import PARTIAL, WINDOWS, fsync_file, fsync_folder, make_folder, replace, storage_error, told

_OLD = ".old-"  # marks a whole folder that is moved aside while another takes its place
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}  # a folder cannot be renamed there


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
    staging = final.with_name(f".{final.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        with told(final):
            staging.mkdir()
        with told(final, beside=staging):
            yield staging
        with told(final):
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
        ``storage.exists`` if it holds something that must stay, ``storage.not_a_folder`` if it or a parent is a file or
        it is the top of the disk, ``storage.not_writable`` if it cannot be looked into or made.
    """
    final = _resolved(final)
    with told(final):
        _put_back(final)
        try:
            final.lstat()
        except (FileNotFoundError, NotADirectoryError):
            _check_parent(final)
            return
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


def _check_parent(final: Path) -> None:
    """The nearest folder above that exists must be one, and be writable."""
    parent = next(p for p in (final.absolute().parent, *final.absolute().parent.parents) if os.path.lexists(p))
    if not parent.is_dir():
        raise StorageError(
            f"{final} cannot be made: {parent} is a file, not a folder",
            hint="choose another name",
            code="storage.not_writable",
        )
    if not os.access(parent, os.W_OK):
        raise StorageError(
            f"{final} cannot be made: {parent} is not writable",
            hint="choose another place, or change its permissions (a medium may be read-only)",
            code="storage.not_writable",
        )


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
            if WINDOWS and final.exists():  # there a rename never lands on a folder, elsewhere only on an empty one
                final.rmdir()
            replace(staging, final)
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
        replace(final, old)
        replace(staging, final)
    finally:  # an interrupt may fall between any two of these lines: what is where tells how far it got
        with contextlib.suppress(OSError):
            replace(old, final if staging.exists() else staging)


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
        replace(aside[0], final)
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
        replace(source, final)
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


def _remove_tree(folder: Path) -> None:
    """Remove a folder of ours as far as the system allows; what remains carries a mark in its name."""
    if WINDOWS:  # refuses to delete read-only files
        for root, _folders, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(root, name), stat.S_IWRITE)
    shutil.rmtree(folder, ignore_errors=True)
