"""All durable writes go through this module: a file or folder arrives whole or not at all.

The protocol is *write beside, fsync, rename, fsync the folder*. A reader therefore sees the old
content or the new one, never a mixture, also after a power cut (POSIX ``rename(2)``; on Windows
``os.replace``, retried while a virus scanner holds the file).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rakelight.errors import RakelightError, StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_JSON_BYTES = 64 << 20
_PARTIAL = ".partial-"  # marks what is still being written, for files and folders alike


def storage_error(error: OSError, path: Path) -> StorageError:
    """Turn an ``OSError`` met while writing ``path`` into an error with the cure in its hint."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC):
        where = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(where).free
        return StorageError(
            f"disk full while writing {path} ({free / 1e6:.1f} MB free)",
            hint="free some space or choose another folder, then run the command again; nothing half-written remains",
            code="storage.disk_full",
        )
    return StorageError(
        f"cannot write {path}: {error.strerror or error}",
        hint="check that the folder exists, is a folder and is writable by you, or choose another one",
        code="storage.not_writable",
    )


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file that becomes ``path`` only if the block succeeds.

    Yields a seekable handle open for reading and writing. Raises :class:`StorageError` when the folder cannot be
    written or the disk is full; in every failure ``path`` keeps its old content.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}{_PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        try:
            with open(beside, "x+b") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            _replace(beside, path)
            fsync_folder(path.parent)
        except RakelightError:
            raise
        except OSError as error:
            raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_write(path) as handle:
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


def read_json(path: str | Path, *, error: Callable[..., RakelightError]) -> Any:
    """Read JSON strictly: bounded size, no duplicate keys, no NaN.

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

    try:
        size = path.stat().st_size
        if size > _MAX_JSON_BYTES:
            raise ValueError(f"{size} bytes; at most {_MAX_JSON_BYTES} are read")
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constants)
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

    with atomic_write(path) as handle:
        np.savez(handle, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def sha256_bytes(data: bytes | memoryview) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's content, streamed."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def make_folder(path: str | Path) -> Path:
    """Create ``path`` and its parents if absent; raises :class:`StorageError` when it cannot be."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


@contextlib.contextmanager
def staged_folder(final: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a folder that becomes ``final`` only if the block succeeds.

    Yields an empty folder beside ``final``; at the end every file in it is fsynced and the folder renamed.
    With ``overwrite`` an existing ``final`` is replaced (it is kept until the new one is whole). Raises :class:`StorageError`
    if ``final`` exists and ``overwrite`` is false, or if writing fails; the half-filled folder is then removed.
    """
    final = Path(final)
    if final.exists() and not overwrite:
        raise StorageError(
            f"{final} exists already", hint="choose another name or pass --overwrite", code="storage.exists"
        )
    make_folder(final.parent)
    staging = final.with_name(f".{final.name}{_PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        try:
            staging.mkdir()
            yield staging
            fsync_tree(staging)
            if final.exists():
                old = final.with_name(f".{final.name}.old-{uuid.uuid4().hex[:8]}")
                _replace(final, old)
                _replace(staging, final)
                shutil.rmtree(old, ignore_errors=True)
            else:
                _replace(staging, final)
            fsync_folder(final.parent)
        except RakelightError:
            raise
        except OSError as error:
            raise storage_error(error, final) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
            with open(os.path.join(root, name), "r+b") as handle:
                os.fsync(handle.fileno())
        fsync_folder(root)


def fsync_folder(folder: str | Path) -> None:
    """Make the names in ``folder`` durable (a no-op on Windows, which offers no such call)."""
    if os.name == "nt":
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
            if os.name != "nt":  # elsewhere a refusal is final; on Windows a scanner lets go in a moment
                raise
            time.sleep(wait_s)
    os.replace(source, final)
