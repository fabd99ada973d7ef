"""The quarantine: what an interrupted writer left, and what is taken out of a data set, each with its reason.

Nothing is ever deleted there by itself; a person looks at it, moves it back or throws it away.
"""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rakelight.dataset import layout
from rakelight.dataset.index import iter_keys
from rakelight.dataset.sample import Software, utc_now
from rakelight.errors import StorageError
from rakelight.files import make_folder, write_json
from rakelight.folders import rename_folder


@dataclass(frozen=True)
class Quarantined:
    """One leftover moved away: the folder it is in now and where it came from, both relative to the data set.

    ``folder`` is empty if it could not be moved and lies where it was; ``reason`` then says why.
    """

    folder: str
    origin: str
    reason: str

    def sentence(self) -> str:
        """What was done, for people."""
        return f"moved {self.origin} to {self.folder}: {self.reason}" if self.folder else self.reason


def quarantine_leftovers(root: Path) -> tuple[Quarantined, ...]:
    """Move away what an interrupted writer left; needs the lock.

    What a worker that outlived its writer still holds open below ``.staging`` cannot be moved on Windows. No later writer
    uses its name, so it stays for the next start, and is told. Raises :class:`StorageError` for anything else.
    """
    leftovers: list[tuple[str, str]] = []
    staging = root / layout.STAGING_FOLDER
    names = sorted(p.name for p in staging.iterdir()) if staging.is_dir() else []
    moved = [_quarantine_staged(root, f"{layout.STAGING_FOLDER}/{name}") for name in names]
    for key in iter_keys(root / layout.EXTRAS_FOLDER):
        if not (root / key.raw_folder).is_dir():
            reason = f"extras of {key} without the sample: its commit was interrupted, or its raw folder was removed"
            leftovers.append((key.extras_folder, reason))
    for folder in (layout.META_FOLDER, layout.JSON_FOLDER):
        reason = f"writing a file of {folder}/ was interrupted; the file itself is as it was"
        leftovers += [(f"{folder}/{p.name}", reason) for p in sorted((root / folder).glob(".*.partial-*"))]
    return (*moved, *(quarantine(root, origin, reason) for origin, reason in leftovers))


def _quarantine_staged(root: Path, origin: str) -> Quarantined:
    try:
        return quarantine(root, origin, "a commit was interrupted before its sample was whole")
    except StorageError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        why = error.__cause__.strerror or error.__cause__
        return Quarantined(
            "", origin, f"{origin} cannot be moved yet ({why}): a program may hold it open; the next start tries again"
        )


def new_name() -> str:
    """Name of a new folder in the quarantine."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def reason_note(origin: str, reason: str) -> dict[str, Any]:
    """What ``reason.json`` in a folder of the quarantine holds."""
    return {
        "schema": 1,
        "origin": origin,
        "reason": reason,
        "quarantined_utc": utc_now(),
        "software": Software().model_dump(),
    }


def quarantine(root: Path, origin: str, reason: str) -> Quarantined:
    """Move ``origin`` below a new quarantine folder, where it keeps its path; the reason is written first."""
    folder = f"{layout.QUARANTINE_FOLDER}/{new_name()}"
    target = root / folder / origin
    make_folder(target.parent)
    write_json(root / folder / "reason.json", reason_note(origin, reason))
    try:
        rename_folder(root / origin, target)
    except StorageError:
        if not target.exists():  # a rename is all or nothing; an empty quarantine would only puzzle
            shutil.rmtree(root / folder, ignore_errors=True)
        raise
    return Quarantined(folder, origin, reason)
