"""The formats by name, and telling which one a source has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from rakelight.dataset.archives import View
from rakelight.dataset.importers import own_map
from rakelight.dataset.importers.found import Found, FoundSample
from rakelight.dataset.importers.job import Imported, Progress, import_samples, no_progress
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError

FORMATS = ("d3", "d3m", "mvtec3d", "eyecandies")
AUTO = "auto"


class Importer(Protocol):
    """What a format's module offers."""

    FORMAT: str

    def matches(self, view: View) -> int: ...

    def scan(self, view: View) -> Found: ...

    def content(self, view: View, sample: FoundSample, scratch: Path) -> tuple[SampleContent, list[str]]: ...


def importer(format: str) -> Importer:
    """The module of a format; raises :class:`InputError` for an unknown one."""
    if format not in FORMATS:
        raise InputError(f"format {format!r} is not known; known: {', '.join(FORMATS)}", code="import.format_unknown")
    return cast(Importer, import_module(f"rakelight.dataset.importers.{format}"))


def detect(view: View) -> str:
    """The format that most members of a source look like; an export of ours tells it.

    Raises :class:`DatasetError` (``import.format_unclear``) if there is none.
    """
    stated = own_map.format_of(view)
    if stated in FORMATS:
        return stated
    scores = {format: importer(format).matches(view) for format in FORMATS}
    best = max(scores, key=lambda f: scores[f])
    if scores[best]:
        return best
    shown = ", ".join(view.names[:3]) or "nothing"
    raise DatasetError(
        f"{view.source} looks like none of {', '.join(FORMATS)}; it holds {len(view.names)} file(s): {shown}",
        hint="name the folder above the categories; `rakelight dataset import --help` lists the formats",
        code="import.format_unclear",
    )


def import_into(
    dataset: Dataset,
    view: View,
    *,
    format: str = AUTO,
    categories: Iterable[str] = (),
    found: Found | None = None,
    progress: Progress = no_progress,
) -> Iterator[Imported]:
    """Import a source; as :func:`rakelight.dataset.importers.job.import_samples`, with the format found out by itself."""
    module = importer(detect(view) if format == AUTO else format)
    found = module.scan(view) if found is None else found
    yield from import_samples(dataset, view, found, module.content, categories=categories, progress=progress)
