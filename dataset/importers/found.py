"""What a scan finds in a source: samples by the names they get here, and everything odd, before a picture is opened."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rakelight.dataset import layout
from rakelight.dataset.archives import View
from rakelight.errors import DatasetError

_GOOD = {"ok", "good", "normal"}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_WORD = re.compile(r"[^a-z0-9]+")
_MOST_JSON_BYTES = 64 << 20
PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""Names of folders → parts of a split."""


@dataclass(frozen=True)
class FoundSample:
    """One sample of a source.

    Attributes
    ----------
    category, label : str
        As it is called here.
    origin : str
        Its place in the source, by the source's own names, the same in a folder and in a zip.
    files : mapping of str to str
        Role (a key of ``layout.MODALITIES``, or what the format calls it) → member of the view.
    others : tuple of str
        Further members that belong to it; they are kept as raw files.
    number : int, optional
        Its number in the source, where that counts per class as ours do.
    part : str
        ``train``, ``validation``, ``test``, or "" if the source does not say.
    specimen : str
        The physical part, if the source tells.
    timestamp : str
    facts : mapping
        JSON-able, kept in ``capture.json``.
    """

    category: str
    label: str
    origin: str
    files: Mapping[str, str]
    others: tuple[str, ...] = ()
    number: int | None = None
    part: str = ""
    specimen: str = ""
    timestamp: str = "0" * 14
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The samples of a source in the order of import, and sentences about what is odd."""

    format: str
    samples: tuple[FoundSample, ...]
    oddities: tuple[str, ...]

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Category → label → part ("" if not known) → samples."""
        result: dict[str, dict[str, dict[str, int]]] = {}
        for s in self.samples:
            parts = result.setdefault(s.category, {}).setdefault(s.label, {})
            parts[s.part] = parts.get(s.part, 0) + 1
        return result

    def of(self, categories: Iterable[str]) -> tuple[FoundSample, ...]:
        """The samples of these categories, all if none is named; raises :class:`DatasetError` for an unknown one."""
        wanted = {our_category(c) for c in categories}
        there = {s.category for s in self.samples}
        if wanted - there:
            raise DatasetError(
                f"the source has no category {sorted(wanted - there)[0]!r}; it has: {', '.join(sorted(there)) or 'none'}",
                hint="names here are lower case, words joined by _",
                code="import.category_unknown",
            )
        return tuple(s for s in self.samples if not wanted or s.category in wanted)


def our_category(name: str) -> str:
    """``connector_housing-female`` → ``connector_housing_female``; ``CandyCane`` → ``candy_cane``."""
    return _NO_WORD.sub("_", _CAMEL.sub("_", name).lower()).strip("_")


def our_label(name: str) -> str:
    """``OK`` for what is good, else the defect's name as categories are mapped."""
    return layout.OK if name.lower() in _GOOD else our_category(name)


def make_found(format: str, samples: Iterable[FoundSample], oddities: Iterable[str]) -> Found:
    """Put samples in order; leave out, and tell, what cannot be named here and what stands there twice."""
    notes = list(oddities)
    unnamed: Counter[str] = Counter()
    kept: dict[str, FoundSample] = {}
    twice = []
    for sample in sorted(samples, key=_order):
        try:
            layout.check_category(sample.category)
            layout.check_label(sample.label)
        except DatasetError as e:
            unnamed[f"{e.message} ({e.hint})"] += 1
            continue
        if sample.origin in kept:
            twice.append(sample.origin)
        else:
            kept[sample.origin] = sample
    notes += [f"{n} sample(s) left out: {why}; rename the folder" for why, n in unnamed.items()]
    if twice:
        notes.append(f"{len(twice)} sample(s) are there twice, the first is taken: {some(twice)}")
    return Found(format, tuple(kept.values()), tuple(notes))


def _order(sample: FoundSample) -> tuple[Any, ...]:
    number = layout.MAX_NUMBER + 1 if sample.number is None else sample.number
    return (
        sample.category,
        sample.label != layout.OK,
        sample.label,
        number,
        sample.origin,
        sorted(sample.files.values()),
    )


def category_name(view: View, folders: list[str]) -> str:
    """The last of ``folders`` without ``.zip``; the source's own name if there is none."""
    name = folders[-1] if folders else view.name
    return name[:-4] if name.lower().endswith(".zip") else name


def read_json(view: View, name: str) -> Any:
    """A JSON member; raises :class:`DatasetError`."""
    try:
        return json.loads(view.read(name, most=_MOST_JSON_BYTES))
    except (ValueError, RecursionError) as e:
        raise DatasetError(
            f"{view.where(name)} cannot be read as JSON: {e}",
            hint="get it again from its publisher",
            code="file.corrupt",
        ) from e


def some(names: Iterable[str], most: int = 3) -> str:
    """The first of the names, for a message."""
    listed = list(names)
    return ", ".join(listed[:most]) + (" …" if len(listed) > most else "")
