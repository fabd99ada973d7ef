"""The card of a data set: ``README.md`` with a head for the Hugging Face Hub, from what the data set says of itself.

It says what a reader of a paper asks (Gebru et al., "Datasheets for Datasets", CACM 2021), as far as files tell it; the
rest is listed as not known. The parts are made by :mod:`rakelight.pipeline.card_sections` and put in place by
:mod:`rakelight.pipeline.card_parts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rakelight import files
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError, InputError
from rakelight.pipeline.card_parts import Merged, merge, new_text
from rakelight.pipeline.card_sections import CITATION_FILE, sections
from rakelight.pipeline.dataset_stats import dataset_stats

CARD_FILE = "README.md"
_MAX_BYTES = 4 << 20

Progress = Callable[..., None]


@dataclass(frozen=True)
class WrittenCard:
    """What was written: the card, ``CITATION.cff`` if that was, parts without a place, what is not known, and notes."""

    path: Path
    citation: Path | None
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


def write_card(
    dataset: Dataset,
    path: str | Path | None = None,
    *,
    authors: Sequence[str] = (),
    progress: Progress = lambda *_: None,
) -> WrittenCard:
    """Write the card of a data set, or renew the parts of one that is there.

    Parameters
    ----------
    path : path, optional
        By default ``README.md`` in the data set.
    authors : sequence of str
        With any, ``CITATION.cff`` is written beside the card.

    Raises
    ------
    DatasetError
        ``card.no_markers`` or ``card.markers`` if the file cannot be renewed, ``card.unreadable`` if it is no text.
    InputError
        ``card.citation_exists`` if authors are given and there is a ``CITATION.cff``; ``card.author`` for an empty name.
    StorageError
        A file cannot be written.
    """
    path = dataset.root / CARD_FILE if path is None else Path(path)
    before = _read(path)
    citation = _check_citation(path.absolute().parent / CITATION_FILE, authors) if authors else None
    stats = dataset_stats(dataset, progress=progress)
    made = sections(dataset, stats, cited=citation is not None)
    merged = Merged(new_text(made.parts)) if before is None else merge(before, made.parts, str(path))
    own = (f"the head has its own {', '.join(merged.own_keys)}; ours stays out",) if merged.own_keys else ()
    if citation is not None:
        files.write_text(citation, _citation(dataset, authors))
    if merged.text != before:
        files.write_text(path, merged.text)
    return WrittenCard(path, citation, merged.left_out, made.unknown, (*stats.notes, *own))


def _read(path: Path) -> str | None:
    """The card that is there; None if there is none."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read as text: {error}", hint="move it away, or name another file", code="card.unreadable"
        ) from error


def _check_citation(path: Path, authors: Sequence[str]) -> Path:
    if path.exists():
        raise InputError(f"{path} is there already", hint="edit it, or leave --author out", code="card.citation_exists")
    bad = next((a for a in authors if not a.strip() or not a.isprintable()), None)
    if bad is not None:
        raise InputError(f"author {bad!r} is no name", hint="give it as it shall be printed", code="card.author")
    return path


def _citation(dataset: Dataset, authors: Sequence[str]) -> str:
    """Citation File Format 1.2.0 (citation-file-format.github.io); JSON strings are YAML strings."""
    info = dataset.info
    lines = [
        "cff-version: 1.2.0",
        'message: "If you use this data set, please cite it as below."',
        "type: dataset",
        f"title: {json.dumps(info.name, ensure_ascii=False)}",
        "authors:",
        *(f"  - name: {json.dumps(a.strip(), ensure_ascii=False)}" for a in authors),
    ]
    if info.description.strip():
        lines.append(f"abstract: {json.dumps(info.description, ensure_ascii=False)}")
    return "\n".join([*lines, ""])
