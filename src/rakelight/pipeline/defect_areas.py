"""How large the defects of a data set are: pixels of masks, and points if asked for; measured once, then remembered.

``meta/area_cache.jsonl`` holds a line for each pair of masks (and XYZ map), by the SHA-256 that the manifest states of
them. So a second look decodes nothing, and a relabelled sample is known. The cache may be deleted at any time.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from rakelight import files
from rakelight.config import Model
from rakelight.dataset.layout import PART_MASK_FILE
from rakelight.dataset.opened import OpenSample
from rakelight.errors import StorageError

CACHE_FILE = "meta/area_cache.jsonl"
_KEPT = 200  # lines held back before they are written
_MAX_BYTES = 1 << 28


class DefectArea(Model):
    """A defect mask in numbers.

    ``defect_px`` are the pixels of the mask, ``part_px`` those of the part (None without a part mask, or one of another
    size). ``defect_points`` and ``part_points`` are those among them that have a valid XYZ; None if not measured.
    """

    defect_px: int = Field(ge=0)
    part_px: int | None = Field(default=None, ge=0)
    defect_points: int | None = Field(default=None, ge=0)
    part_points: int | None = Field(default=None, ge=0)

    @property
    def share(self) -> float | None:
        """Defect over part, by area."""
        return self.defect_px / self.part_px if self.part_px else None

    @property
    def points_share(self) -> float | None:
        """Defect over part, by points."""
        return None if self.defect_points is None or not self.part_points else self.defect_points / self.part_points


def measure_area(sample: OpenSample, *, points: bool = False) -> DefectArea | None:
    """Count a sample's defect mask; None if it has none. With ``points`` its XYZ map is read too (240 MB for 20 MP).

    Raises :class:`DatasetError` if a file is damaged.
    """
    mask = sample.mask()
    if mask is None:
        return None
    defect = mask > 0
    part = sample.part_mask()
    known = part is not None and part.shape == defect.shape
    found = DefectArea(
        defect_px=int(np.count_nonzero(defect)),
        part_px=int(np.count_nonzero(part)) if known and part is not None else None,
    )
    xyz = sample.xyz() if points else None
    if xyz is None or xyz.shape[:2] != defect.shape:
        return found
    valid: NDArray[np.bool_] = np.isfinite(xyz[..., 2])
    here = valid & part if known and part is not None else valid
    counts = {
        "defect_points": int(np.count_nonzero(defect & here)),
        "part_points": int(np.count_nonzero(here)),
    }
    return found.model_copy(update=counts)


class AreaCache:
    """Areas by content. ``problem`` says why the cache could not be written; the figures are right all the same."""

    def __init__(self, root: Path) -> None:
        self.problem = ""
        self._path = root / CACHE_FILE
        self._known = _read(self._path)
        self._new: list[bytes] = []

    def get(self, sample: OpenSample, *, points: bool) -> DefectArea | None:
        """What an earlier run counted in the same files."""
        return self._known.get(_content(sample, points))

    def put(self, sample: OpenSample, area: DefectArea, *, points: bool) -> None:
        key = _content(sample, points)
        self._known[key] = area
        line = {"key": key, "area": area.model_dump(exclude_none=True)}
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


def _content(sample: OpenSample, points: bool) -> str:
    records = [sample.record(role) for role in ("MASK", PART_MASK_FILE, *(("XYZ",) if points else ()))]
    return " ".join("-" if r is None else r.sha256 for r in records)


def _read(path: Path) -> dict[str, DefectArea]:
    known: dict[str, DefectArea] = {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        lines = path.read_bytes().splitlines()
    except OSError:  # absent or unreadable: everything is counted again
        return {}
    for line in lines:
        try:
            stored = json.loads(line)
            known[str(stored["key"])] = DefectArea.model_validate(stored["area"])
        except (ValueError, TypeError, KeyError, ValidationError, RecursionError):
            continue  # what a crash left torn is counted again
    return known
