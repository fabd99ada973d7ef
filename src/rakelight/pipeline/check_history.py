"""The history of daily checks: a file of JSON lines, one check a line.

A recording that is checked again with the same calibration takes the place of its earlier line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from rakelight import files
from rakelight.errors import DatasetError

SCHEMA = 1


@dataclass(frozen=True)
class Drift:
    """Last value less the median of the earlier ones, and the trend a day (None below three values or one day), µm."""

    offset_um: float
    trend_um_per_day: float | None
    earlier: int


def drift_of(times: Sequence[datetime], values_um: Sequence[float]) -> Drift | None:
    """The last of values against those before; None if it is alone. The trend is the median of all slopes (Theil, Sen)."""
    if len(values_um) < 2:
        return None
    at = np.array([t.timestamp() for t in times]) / 86400
    values = np.asarray(values_um, np.float64)
    trend = None
    if len(values) > 2 and np.ptp(at) >= 1:
        first, second = np.triu_indices(len(values), 1)
        apart = at[second] - at[first]
        trend = float(np.median((values[second] - values[first])[apart != 0] / apart[apart != 0]))
    return Drift(float(values[-1] - np.median(values[:-1])), trend, len(values) - 1)


def same_check(line: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether two entries are of one recording, gauge and calibration: the later takes the place of the earlier."""
    return all(line.get(key) == entry[key] for key in ("gauge", "recording_sha256", "calibration_sha256"))


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The checks in a history file, none if there is no file.

    Raises :class:`DatasetError` ``check.history`` naming the line that is none.
    """
    path = Path(path)
    if not path.exists():
        return []
    found = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _no_history(path, 0, str(error)) from error
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
            if entry["schema"] != SCHEMA or not isinstance(entry["gauge"], str):
                raise ValueError(f"schema {entry['schema']!r}; known: {SCHEMA}")
            if datetime.fromisoformat(entry["time_utc"]).tzinfo is None:
                raise ValueError(f"time {entry['time_utc']} without zone")
            if not all(math.isfinite(value) for value in entry["figures"].values()):
                raise ValueError("a figure that is not a number")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _no_history(path, number, repr(error)) from error
        found.append(entry)
    return found


def write_history(path: str | Path, history: Sequence[dict[str, Any]], entry: dict[str, Any]) -> None:
    """Write ``history`` and ``entry`` after it, atomically; raises :class:`StorageError`."""
    lines = [*(line for line in history if not same_check(line, entry)), entry]
    files.make_folder(Path(path).absolute().parent)
    files.write_text(path, "".join(files.canonical_json(line) + "\n" for line in lines))


def _no_history(path: Path, line: int, why: str) -> DatasetError:
    return DatasetError(
        f"{path}, line {line}: not a check ({why})",
        hint="restore the file from a backup or take the line out; rakelight never writes it in part",
        code="check.history",
    )
