"""Bringing a weights file to this computer when the user says so: downloaded, or taken from a file brought by other means.

What arrives is looked at before it gets its name: length, SHA-256 where one is published, and whether it fits the network. A
file that fails any of these never stands where the loader looks.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from rakelight import files
from rakelight.detection.features.weights import Weights, WeightsFile, checksum_error, weights_folder
from rakelight.errors import ModelError, StorageError

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Accept = Callable[[Path, Path], Any]
Progress = Callable[[int, int], None]


def fetch(
    weights: Weights, *, accept: Accept, source: Path | None = None, progress: Progress | None = None
) -> tuple[Path, str]:
    """Put a file of these weights into the weights folder; returns its path and SHA-256.

    Parameters
    ----------
    accept : callable
        Raises :class:`ModelError` when the file at the path it is given first does not fit the network; the second path is
        what to call it.
    source : path, optional
        Take this file instead of downloading the first one of ``weights``.
    progress : callable, optional
        Called with the bytes done and in all (0 when that is not known).

    Raises
    ------
    ModelError
        ``weights.fetch_failed`` (no network, refused, not found), ``weights.truncated``, ``weights.checksum``, or what
        ``accept`` raises.
    StorageError
        The folder cannot be written, or its disk is full.
    """
    tell = progress or (lambda *_: None)
    folder = files.make_folder(weights_folder())
    if source is not None:
        file = _file_for(weights, source)
        return _keep(folder / file.name, source, file, lambda out, digest: _copy(source, out, digest, tell), accept)
    file = weights.files[0]
    final = folder / file.name
    return _keep(final, final, file, lambda out, digest: _download(file.url, folder, out, digest, tell), accept)


def _file_for(weights: Weights, source: Path) -> WeightsFile:
    """Which of the registered files ``source`` is: by its name, else by its kind."""
    named = [file for file in weights.files if file.name == source.name]
    alike = [file for file in weights.files if Path(file.name).suffix == source.suffix]
    if named or alike:
        return (named or alike)[0]
    kinds = " or ".join(sorted({Path(file.name).suffix for file in weights.files}))
    raise ModelError(f"{source} is no file of {weights.id}: {kinds} is needed", code="weights.mismatch")


def _keep(
    final: Path, shown: Path, file: WeightsFile, fill: Callable[[IO[bytes], Any], None], accept: Accept
) -> tuple[Path, str]:
    """Fill a file beside ``final``, check it, and only then give it its name; messages call it ``shown``."""
    digest = hashlib.sha256()
    with files.atomic_write(final) as out:
        fill(out, digest)
        actual = digest.hexdigest()
        if file.sha256 not in (None, actual):
            raise checksum_error(shown, file, actual)
        with files.told(final):
            out.flush()
        accept(Path(out.name), shown)
    return final, actual


def _copy(source: Path, out: IO[bytes], digest: Any, tell: Progress) -> None:
    try:
        total, handle = source.stat().st_size, open(source, "rb")  # noqa: SIM115 — closed below
    except OSError as error:
        raise ModelError(
            f"{source} cannot be read: {error.strerror or error}", hint="check the path", code="weights.unreadable"
        ) from error
    with handle:
        _pour(handle.read, out, digest, total, tell)


def _download(url: str, folder: Path, out: IO[bytes], digest: Any, tell: Progress) -> None:
    """Stream ``url`` into ``out``; proxies are those of the environment (HTTPS_PROXY and so on)."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ModelError(f"{url} is not fetched: only https is", code="weights.fetch_failed")
    request = urllib.request.Request(url, headers={"User-Agent": "rakelight"})  # noqa: S310 — checked above
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            total = int(answer.headers.get("Content-Length") or 0)
            if total > shutil.disk_usage(folder).free:
                raise files.storage_error(OSError(errno.ENOSPC, "No space left on device"), folder)
            done = _pour(answer.read, out, digest, total, tell)
    except (ModelError, StorageError):
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
        raise ModelError(
            f"{url} cannot be fetched: {_reason(error)}",
            hint="check the network and the proxy (HTTPS_PROXY); without a network, get the file elsewhere and give it with "
            "--from FILE",
            code="weights.fetch_failed",
        ) from error
    if total and done != total:
        raise ModelError(
            f"{url} ended after {done} of {total} bytes",
            hint="the connection was cut; run the command again",
            code="weights.truncated",
        )


def _pour(read: Callable[[int], bytes], out: IO[bytes], digest: Any, total: int, tell: Progress) -> int:
    done = 0
    while chunk := read(_CHUNK):
        try:
            out.write(chunk)
        except OSError as error:
            raise files.storage_error(error, Path(out.name)) from error
        digest.update(chunk)
        done += len(chunk)
        tell(done, total)
    return done


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
