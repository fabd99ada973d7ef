"""The tree that the published D3M code reads (reference: datasets.md §1.3), whose modalities pair by sorted order.

::

    <class>/<train|validation|test>/<GOOD|defect>/rgb/<sample>/*L05*RGB*.jpg     further lights L01 … beside it
                                                 /xyz/*.tiff   /ps/*.jpg|png (train: below good)   /gt/rgb/*.png

Order alone hides a missing file, so names are compared too: where each picture's own number is found in the names of
the others, that pairs them; where counts differ and numbers do not help, the class is left out and told.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from rakelight.dataset import layout
from rakelight.dataset.archives import View
from rakelight.dataset.importers import own_map
from rakelight.dataset.importers.found import (
    PARTS,
    Found,
    FoundSample,
    category_name,
    make_found,
    our_category,
    our_label,
)
from rakelight.dataset.importers.gather import gathered
from rakelight.dataset.sample import SampleContent

FORMAT = "d3m"
_LIGHT = re.compile(r"L0*([0-9]{1,2})", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]+")
_WHAT = {"rgb": "RGBL05", "xyz": "XYZ", "ps": "PS", "gt": "MASK"}
_SUFFIXES = {
    "xyz": (".tiff", ".tif"),
    "ps": (".jpg", ".jpeg", ".png"),
    "gt": (".png",),
    "rgb": (".jpg", ".jpeg", ".png"),
}

_Class = tuple[str, str, str]  # category, part, label, by the source's names; the label of good ones is "good"


def _place(view: View, name: str) -> tuple[_Class, str, list[str]] | None:
    """Class, kind and the path below it of a member; None if it is none of this format."""
    pieces = name.split("/")
    for at in range(len(pieces) - 3, -1, -1):
        if pieces[at] in PARTS and pieces[at + 2] in _WHAT:
            label, kind, below = pieces[at + 1], pieces[at + 2], pieces[at + 3 :]
            depth = {"rgb": 2, "gt": 2}.get(kind, 1)
            if len(below) != depth or not below[-1].lower().endswith(_SUFFIXES[kind]):
                return None
            label = "good" if label.lower() == "good" else label
            return (category_name(view, pieces[:at]), pieces[at], label), kind, below
    return None


def matches(view: View) -> int:
    """How many pictures lie as in this format."""
    return sum(1 for n in view.names if (place := _place(view, n)) is not None and place[1] == "rgb")


def scan(view: View) -> Found:
    """The samples of a source; only names are read."""
    oddities = list(view.oddities)
    known = own_map.read(view, FORMAT, "rgb")
    classes, lights = _classes(view)
    samples: list[FoundSample] = []
    for (category, part, label), kinds in classes.items():
        home = f"{category}/{part}/{label}"
        for rgb, others in _paired(home, kinds, oddities):
            folder, stem = rgb.rsplit("/", 1)[0], rgb.split("/")[-2]
            number = _number(stem) or 0
            sample = FoundSample(
                our_category(category),
                our_label(label),
                f"{home}/{stem}",
                {"RGBL05": rgb, **lights.get(folder, {}), **others},
                number=number if 0 < number <= layout.MAX_NUMBER else None,
                part=PARTS[part],
                specimen=f"{FORMAT}:{home}/{stem}",
            )
            samples.append(own_map.restored(sample, known.get(rgb)))
    return make_found(FORMAT, samples, oddities)


def _classes(view: View) -> tuple[dict[_Class, dict[str, list[str]]], dict[str, dict[str, str]]]:
    """Class → kind → members, and folder of a sample's pictures → role → picture for the lights beside L05."""
    classes: dict[_Class, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    lights: dict[str, dict[str, str]] = defaultdict(dict)
    for name in view.names:
        place = _place(view, name)
        if place is None:
            continue
        where, kind, below = place
        if kind != "rgb":
            classes[where][kind].append(name)
            continue
        light = _LIGHT.search(re.sub(r"^S[0-9]+", "", below[-1]))
        view_number = int(light[1]) if light else 0
        if view_number == layout.REFERENCE_VIEW and "rgb" in below[-1].lower():
            classes[where]["rgb"].append(name)
        elif view_number in layout.VIEWS:
            lights[name.rsplit("/", 1)[0]][f"RGBL{view_number:02d}"] = name
    return classes, lights


def _paired(place: str, kinds: Mapping[str, list[str]], oddities: list[str]) -> list[tuple[str, dict[str, str]]]:
    """(picture, role → member) of one class."""
    pictures = sorted(kinds.get("rgb", []))
    pairs: list[tuple[str, dict[str, str]]] = [(rgb, {}) for rgb in pictures]
    numbers = [_number(rgb.split("/")[-2]) for rgb in pictures]
    for kind, role in _WHAT.items():
        members = sorted(kinds.get(kind, []))
        if kind == "rgb" or not members:
            continue
        by_number = {_number(m.rsplit("/", 1)[-1]): m for m in members}
        sure = None not in numbers and len(set(numbers)) == len(pictures) and len(by_number) == len(members)
        if sure and set(by_number) <= set(numbers):
            if len(members) < len(pictures):
                oddities.append(
                    f"{place}: {len(pictures)} pictures, {len(members)} of {kind}; paired by number, D3M would mix them up"
                )
            for its, (_rgb, files) in zip(numbers, pairs, strict=True):
                if its in by_number:
                    files[role] = by_number[its]
        elif len(members) == len(pictures):
            oddities.append(f"{place}: the names in {kind} do not tell which picture they belong to; paired by order")
            for member, (_rgb, files) in zip(members, pairs, strict=True):
                files[role] = member
        else:
            oddities.append(
                f"{place}: left out: {len(pictures)} pictures, {len(members)} of {kind}, and the names pair neither"
            )
            return []
    return pairs


def _number(text: str) -> int | None:
    """The sample's number in a name: the one after S, else the first of all."""
    found = re.search(r"(?:^|[^A-Za-z])S([0-9]+)", text) or re.search(r"^S?([0-9]+)", text)
    if found is not None:
        return int(found[1])
    first = next((d for d in _DIGITS.findall(_LIGHT.sub("", text))), None)
    return None if first is None else int(first)


def content(view: View, sample: FoundSample, scratch: Path) -> tuple[SampleContent, list[str]]:
    """Read one sample; raises :class:`RakelightError` for files that cannot be used."""
    return gathered(FORMAT, view, sample, scratch)
