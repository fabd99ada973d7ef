"""What is to be added, from folders, a table and the truth of simulated recordings."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rakelight import files
from rakelight.dataset import layout
from rakelight.dataset.images import read_file
from rakelight.errors import DatasetError, InputError, RakelightError
from rakelight.pipeline import truth as truths
from rakelight.pipeline.dataset_add import Addition, Result, find_recordings

_COLUMNS = ("recording", "category", "label", "mask", "batch", "calibration")
_WHERE = " line"  # of a row: file and line, for people; no column has this name
_MAX_BYTES = 64 << 20


def additions_of(
    recordings: Sequence[Path],
    table: Path | None = None,
    *,
    category: str | None = None,
    label: str | None = None,
    calibration: Path | None = None,
    mask: Path | None = None,
    batch: str | None = None,
    truth: bool = False,
    any_calibration: bool = False,
) -> list[Addition | Result]:
    """Everything to add. The table's cells go before the arguments, and these before what the truth says.

    ``recordings`` may be folders of recordings. Paths in the table are relative to it. A recording whose truth, or the
    calibration that belongs to it, is missing or damaged comes as a failed :class:`Result`, and stops no other one.

    Raises
    ------
    DatasetError
        No recording in a place; a table that cannot be read; ``dataset.name_invalid`` of a category or label. File and line
        are named.
    InputError
        ``add.incomplete``: a category, label or calibration that nothing says; ``add.mask``: one mask for several recordings.
    """
    found = [{"recording": str(folder)} for folder in find_recordings(recordings)]
    rows = found + ([] if table is None else list(_rows(table)))
    if mask is not None and len(rows) > 1:
        raise InputError(
            f"--mask {mask} belongs to one recording; {len(rows)} are to be added",
            hint="add them one at a time, or give masks in a --table",
            code="add.mask",
        )
    wanted: list[Addition | Result] = []
    for row in rows:
        try:
            facts = _truth(Path(row["recording"]), bool(row.get("calibration") or calibration)) if truth else {}
        except DatasetError as e:
            where = f"{row[_WHERE]}: " if _WHERE in row else ""
            error = {"code": e.code, "message": where + e.message, "hint": e.hint}
            wanted.append(Result(Path(row["recording"]), error=error))
            continue
        try:
            addition = _addition(row, facts, category, label, calibration, mask, batch, truth)
        except RakelightError as e:
            if _WHERE not in row:
                raise
            raise type(e)(f"{row[_WHERE]}: {e.message}", hint=e.hint, code=e.code) from e
        wanted.append(replace(addition, any_calibration=any_calibration))
    return wanted


def _addition(
    row: dict[str, str],
    facts: dict[str, Any],
    category: str | None,
    label: str | None,
    calibration: Path | None,
    mask: Path | None,
    batch: str | None,
    truth: bool,
) -> Addition:
    recording = Path(row["recording"])
    category = row.get("category") or category or facts.get("name")
    label = row.get("label") or label or (facts.get("label") or layout.OK if facts else None)
    place = row.get("calibration") or calibration or facts.get("calibration_folder")
    for name, value in (("category", category), ("label", label), ("calibration", place)):
        if not value:
            raise InputError(
                f"nothing says the {name} of {recording}",
                hint=f"pass --{name}, give it in a --table, or --truth for a simulated recording",
                code="add.incomplete",
            )
    assert category and label and place
    label = "OK" if label == "good" and facts else str(label)
    layout.check_category(str(category))
    layout.check_label(label)
    own = row.get("mask")
    drawn = Path(own) if own else mask
    return Addition(
        recording,
        str(category),
        label,
        Path(place),
        drawn,
        row.get("batch") or batch,
        truth=truth and drawn is None,
    )


def _truth(recording: Path, given: bool) -> dict[str, Any]:
    """Name, label and calibration of a simulated recording; that of a batch lies beside it, needed unless one is ``given``."""
    path = recording / truths.FOLDER / truths.FILE_NAME
    if not path.is_file():
        raise DatasetError(
            f"{recording} has no truth: {path} is missing",
            hint="only simulated recordings have one; pass --category, --label and --calibration instead",
            code="truth.missing",
        )
    facts = files.read_json(path, error=DatasetError)
    stated = facts.get("calibration", {}) if isinstance(facts, dict) else None
    if not isinstance(stated, dict):
        raise DatasetError(f"{path} is not the truth of a recording", hint="simulate it again", code="truth.damaged")
    own = recording / truths.FOLDER / "calibration"
    beside = recording.parent / "calibration" / str(stated.get("id", ""))
    place = own if own.is_dir() else beside
    if not place.is_dir() and not given:
        raise DatasetError(
            f"the true calibration of {recording} is not there: {place} does not exist",
            hint="a batch keeps it beside its recordings: copy that folder too, or pass --calibration",
            code="truth.no_calibration",
        )
    return {"name": facts.get("name"), "label": facts.get("label"), "calibration_folder": str(place)}


def _rows(table: Path) -> Iterator[dict[str, str]]:
    if not table.is_file():
        raise DatasetError(f"the table {table} does not exist", hint="check the path", code="add.table")
    try:
        text = read_file(table, max_bytes=_MAX_BYTES).decode("utf-8-sig")
        head_line = text.partition("\n")[0]
        between = next((c for c in ",;\t" if c in head_line), ",")  # spreadsheets of some countries write ; or tabs
        reader = csv.DictReader(text.splitlines(), delimiter=between, strict=True, skipinitialspace=True)
        head = [name.strip().lower() for name in reader.fieldnames or ()]
        unknown = [name for name in head if name not in _COLUMNS]
        if unknown or "recording" not in head:
            raise DatasetError(
                f"{table}: its head line is {', '.join(head) or 'empty'}; needed: recording, and any of "
                + ", ".join(_COLUMNS[1:]),
                hint="name the columns in the first line, with commas in between",
                code="add.table",
            )
        reader.fieldnames = head
        for row in reader:
            cells = {k: v.strip() for k, v in row.items() if isinstance(k, str) and isinstance(v, str) and v.strip()}
            if not cells:
                continue
            if "recording" not in cells or None in row:
                raise DatasetError(
                    f"{table}, line {reader.line_num}: its cells do not fit the head line", code="add.table"
                )
            for name in ("recording", "mask", "calibration"):
                if name in cells:
                    cells[name] = str(table.parent / cells[name])
            yield cells | {_WHERE: f"{table}, line {reader.line_num}"}
    except (UnicodeDecodeError, csv.Error) as e:
        raise DatasetError(f"{table} is not a CSV table: {e}", hint="save it as CSV, UTF-8", code="add.table") from e
