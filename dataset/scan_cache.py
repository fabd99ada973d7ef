"""``meta/scan_cache.jsonl``: what was read of each sample, so that a second check reads only what is new.

A line holds the SHA-256 of what the sample's files hold (its manifest says it) and the scan. So a relabelled sample is not
read again, and a changed file is. The cache may be deleted at any time.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from rakelight import files
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample_scan import SampleScan
from rakelight.errors import StorageError

CACHE_FILE = "meta/scan_cache.jsonl"
_VERSION = 1  # of what a scan finds; another one reads everything again
_KEPT = 200  # scans held back before they are written
_MAX_BYTES = 1 << 30


class ScanCache:
    """Scans by content. ``problem`` says why the cache could not be written; the scans are right all the same."""

    def __init__(self, root: Path, *, fresh: bool = False) -> None:
        self.problem = ""
        self._path = root / CACHE_FILE
        self._known: dict[str, bytes] = {} if fresh else _read(self._path)
        self._new: list[bytes] = []
        if fresh:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:  # a medium that cannot be written: what is read now is right all the same
                self.problem = str(error.strerror or error)

    def get(self, sample: OpenSample) -> SampleScan | None:
        """What an earlier run found in files of the same content."""
        line = self._known.get(content_key(sample))
        if line is None:
            return None
        try:
            return SampleScan.model_validate(json.loads(line)["scan"])
        except (ValueError, KeyError, TypeError, ValidationError):
            return None

    def put(self, sample: OpenSample, scan: SampleScan) -> None:
        """Keep a scan; one with unreadable files is not kept, since the file may be restored."""
        if any(problem.check == "files" for problem in scan.problems):
            return
        line = {"key": content_key(sample), "scan": scan.model_dump()}
        self._new.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        if len(self._new) >= _KEPT:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        lines, self._new = self._new, []
        if not lines or self.problem:
            return
        try:
            files.append_bytes(self._path, b"".join(lines))
        except StorageError as error:
            self.problem = error.message


def content_key(sample: OpenSample) -> str:
    """SHA-256 of role, name and SHA-256 of the sample's files, apart from what its label decides in their names."""
    manifest = sample.manifest
    parts = [f"{_VERSION} {'OK' if sample.key.is_ok else 'NG'} {manifest.xyz_xy}"]
    parts += sorted(f"{f.role} {_name(f.role, f.path)} {f.sha256}" for f in manifest.files)
    return files.sha256_bytes("\n".join(parts).encode())


def _name(role: str, path: str) -> str:
    return path.rsplit("/", 1)[-1] if role in ("extra", "cloud") else ""


def _read(path: Path) -> dict[str, bytes]:
    """Lines by their key, not yet parsed; what a crash left torn is passed over."""
    known: dict[str, bytes] = {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        with open(path, "rb") as handle:
            for line in handle:
                key = line[8:72]  # {"key":"<64 digits>"
                if line.startswith(b'{"key":"') and line.endswith(b"}\n"):
                    known[key.decode("ascii", "replace")] = line
    except OSError:  # absent or unreadable: everything is read again
        return {}
    return known
