"""Released Real-IAD D³: folders or zips, every variant that readers of the release have met (reference: datasets.md §1.2).

::

    [realiad_d3_raw/]<category>[.zip]/OK/S0153/<category>_0153_OK_RGBL05_00000000000000.jpg
    [realiad_d3_raw/]<category>[.zip]/[NG/]<defect>/S0001/…            + RGBL05 .png mask; PS .jpg or .png
    [realiad_d3_jsons[.zip]/]…/<category>.json                         train, validation, test

Numbers stay (S0153 becomes our S0153) as long as they grow. JPEGs, PCDs and plain TIFFs are copied byte for byte; what
X and Y of each map hold is found out file by file, since it differs between files of the release.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from rakelight.dataset import layout
from rakelight.dataset.archives import View
from rakelight.dataset.importers.found import (
    Found,
    FoundSample,
    category_name,
    make_found,
    our_category,
    our_label,
    read_json,
    some,
)
from rakelight.dataset.importers.gather import gathered
from rakelight.dataset.sample import SampleContent
from rakelight.errors import DatasetError

FORMAT = "realiad_d3"
JSON_PARTS = ("train", "validation", "test")
_TOKEN = re.compile(r"_(RGBL?0*([0-9]{1,2})|PS|XYZ|PCD)(?=[_.])", re.IGNORECASE)
_FOLDER = re.compile(r"S0*([0-9]{1,6})", re.IGNORECASE)
_NUMBER = re.compile(r"_([0-9]{4})_")
_TIME = re.compile(r"_([0-9]{14})\.")
_SIDE_TREES = {"extras", "meta", "calibration"}
_KINDS = {"XYZ": (".tiff", ".tif"), "PCD": (".pcd",), "PS": (".jpg", ".jpeg", ".png")}
_PICTURES = (".jpg", ".jpeg", ".png")


def token_of(name: str) -> str:
    """``RGBL05``, ``PS``, ``XYZ`` or ``PCD`` of a member's name, "" if it has none."""
    found = list(_TOKEN.finditer(name.rsplit("/", 1)[-1]))
    if not found:
        return ""
    return f"RGBL{int(found[-1][2]):02d}" if found[-1][2] else found[-1][1].upper()


def place_of(view: View, name: str) -> tuple[str, str, int, str] | None:
    """(category, label, number, folder) of a member, by the source's own names; None if it belongs to no sample."""
    *folders, last = name.split("/")
    if any(f.lower() in _SIDE_TREES for f in folders):
        return None
    sample = _FOLDER.fullmatch(folders[-1]) if folders else None
    number = sample or _NUMBER.search(last)
    above = folders[:-1] if sample else folders
    if number is None or not above:
        return None
    label = above[-1]
    above = above[:-2] if len(above) > 1 and above[-2].upper() == layout.NG_FOLDER else above[:-1]
    return category_name(view, above), label, int(number[1]), "/".join(folders)


def matches(view: View) -> int:
    """How many members look like ones of this format."""
    return sum(1 for n in view.names if token_of(n) and place_of(view, n) is not None)


def scan(view: View) -> Found:
    """The samples of a source; only names and the JSONs are read."""
    oddities = list(view.oddities)
    groups: dict[tuple[str, str, int, str], list[str]] = defaultdict(list)
    for name in view.names:
        place = place_of(view, name)
        if place is not None:
            groups[place].append(name)
    parts = _parts(view, oddities)
    samples = []
    empty = []
    for (category, label, number, folder), names in groups.items():
        files, others = _roles(names)
        if "RGBL05" not in files:
            if files:
                empty.append(folder)
            continue
        ours = our_category(category), our_label(label)
        time = _TIME.search(files["RGBL05"])
        origin = f"{category}/{layout.OK if ours[1] == layout.OK else f'NG/{label}'}/S{number:04d}"
        samples.append(
            FoundSample(
                *ours,
                origin,
                files,
                tuple(others),
                number=number if 0 < number <= layout.MAX_NUMBER else None,
                part=parts.pop((*ours, number), ""),
                specimen=f"{FORMAT}:{origin}",
                timestamp=_timestamp(time[1] if time else ""),
            )
        )
    if empty:
        oddities.append(f"{len(empty)} sample(s) left out, since they have no RGBL05 picture: {some(empty)}")
    if parts:
        lost = [f"{c}/{label}/S{n:04d}" for c, label, n in parts]
        oddities.append(f"the JSONs list {len(lost)} sample(s) that are not there: {some(lost)}")
    unlisted = sum(1 for s in samples if not s.part)
    if unlisted:
        oddities.append(f"{unlisted} of {len(samples)} sample(s) stand in no JSON, so in no part of the official split")
    return make_found(FORMAT, samples, oddities)


def _roles(names: list[str]) -> tuple[dict[str, str], list[str]]:
    """Role → member, and the rest. An RGBL05 PNG beside the JPEG is the mask."""
    files: dict[str, str] = {}
    others = []
    jpegs = {token_of(n) for n in names if n.lower().endswith((".jpg", ".jpeg"))}
    for name in names:
        kind, suffix = token_of(name), "." + name.rsplit(".", 1)[-1].lower()
        role = ""
        if kind == "RGBL05" and suffix == ".png" and kind in jpegs:
            role = "MASK"
        elif kind in layout.MODALITIES:
            role = kind if suffix in _KINDS.get(kind, _PICTURES) else ""
        if role and role not in files:
            files[role] = name
        else:
            others.append(name)
    return files, others


def _timestamp(digits: str) -> str:
    try:
        return layout.check_timestamp(digits)
    except DatasetError:
        return "0" * 14


def json_documents(view: View) -> dict[str, dict[str, Any]]:
    """Member → content of the split JSONs; raises :class:`DatasetError` for a damaged one."""
    found = {}
    for name in view.names:
        folders = name.lower().split("/")[:-1]
        if not name.lower().endswith(".json") or set(folders) & _SIDE_TREES or _FOLDER.fullmatch((folders or [""])[-1]):
            continue
        document = read_json(view, name)
        if isinstance(document, dict) and any(isinstance(document.get(part), list) for part in JSON_PARTS):
            found[name] = document
    return found


def _parts(view: View, oddities: list[str]) -> dict[tuple[str, str, int], str]:
    """(category, label, number), by our names → part of the split."""
    parts: dict[tuple[str, str, int], str] = {}
    problems: Counter[str] = Counter()
    for name, document in json_documents(view).items():
        stem = name.rsplit("/", 1)[-1][: -len(".json")]
        for part in JSON_PARTS:
            entries = document.get(part)
            for entry in entries if isinstance(entries, list) else []:
                path = entry.get("image_path") if isinstance(entry, dict) else None
                place = place_of(view, f"{stem}/{path}") if isinstance(path, str) else None
                if place is None:
                    problems[f"{name}: {{}} entries name no sample"] += 1
                    continue
                key = our_category(place[0]), our_label(place[1]), place[2]
                stated = str(entry.get("anomaly_class", place[1]))
                if our_label(stated) != key[1]:
                    problems[f"{name}: {{}} entries say another class than their path; the path counts"] += 1
                if parts.setdefault(key, part) != part:
                    problems[f"{name}: {{}} samples stand in two parts; the first counts"] += 1
    oddities += [text.format(count) for text, count in problems.items()]
    return parts


def content(view: View, sample: FoundSample, scratch: Path) -> tuple[SampleContent, list[str]]:
    """Read one sample; raises :class:`RakelightError` for files that cannot be used."""
    return gathered(FORMAT, view, sample, scratch)
