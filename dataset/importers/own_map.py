"""The map that our own exports carry: which sample of the data set each file was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rakelight.config import validate
from rakelight.dataset.archives import View
from rakelight.dataset.exporters.job import EXPORT_FILE, MAP_FILE, Placed
from rakelight.dataset.importers.found import FoundSample, read_json
from rakelight.dataset.layout import SampleKey
from rakelight.errors import DatasetError


def home(view: View) -> str | None:
    """The folder of the view that is an export of ours ("" for its top, else ending in ``/``); None if there is none."""
    found = [n for n in view.names if n.rsplit("/", 1)[-1] == EXPORT_FILE]
    return found[0][: -len(EXPORT_FILE)] if len(found) == 1 else None


def format_of(view: View) -> str:
    """The format that an export of ours states, "" of anything else."""
    folder = home(view)
    document = {} if folder is None else read_json(view, f"{folder}{EXPORT_FILE}")
    return str(document.get("format", "")) if isinstance(document, dict) else ""


def read(view: View, format: str, role: str) -> Mapping[str, Placed]:
    """Member of that role → its entry in the map; empty if the source is no export of this format.

    Raises :class:`DatasetError` if the map is damaged or names no samples.
    """
    folder = home(view)
    if folder is None or format_of(view) != format or f"{folder}{MAP_FILE}" not in view:
        return {}
    document = read_json(view, f"{folder}{MAP_FILE}")
    listed = document.get("samples") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise DatasetError(
            f"{view.where(folder + MAP_FILE)} lists no samples", hint="make the export again", code="export.map_invalid"
        )
    entries = [validate(e, Placed, source=str(view.where(MAP_FILE)), error=DatasetError) for e in listed]
    return {f"{folder}{e.files[role]}": e for e in entries if role in e.files}


def restored(sample: FoundSample, entry: Placed | None) -> FoundSample:
    """The sample under the key, and with the specimen, that it had before it was exported."""
    if entry is None:
        return sample
    key = SampleKey.parse(entry.sample)
    return replace(
        sample,
        category=key.category,
        label=key.label,
        number=key.number,
        specimen=entry.specimen or sample.specimen,
        facts={**sample.facts, "exported_sample": entry.sample},
    )
