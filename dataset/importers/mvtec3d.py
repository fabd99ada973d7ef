"""MVTec 3D-AD and what is laid out like it: our own export, Eyecandies converted by M3DM, trees pre-processed by BTF.

::

    <category>/{train,validation,test}/<good|defect>/{rgb/000.png, xyz/000.tiff, gt/000.png}
    <category>/calibration/camera.json

XYZ is in metres with (0, 0, 0) for nothing measured: it becomes millimetres and NaN. The PNG stays as the lossless
original beside our JPEG. An export of ours gives its samples back their keys and specimens.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.dataset import layout
from rakelight.dataset.archives import View
from rakelight.dataset.exporters.pictures import from_metres
from rakelight.dataset.importers import own_map, pixels
from rakelight.dataset.importers.found import (
    PARTS,
    Found,
    FoundSample,
    category_name,
    make_found,
    our_category,
    our_label,
    read_json,
    some,
)
from rakelight.dataset.importers.gather import Gather
from rakelight.dataset.sample import SampleContent

FORMAT = "mvtec3d"
_SUFFIXES = {"rgb": (".png", ".jpg", ".jpeg"), "xyz": (".tiff", ".tif"), "gt": (".png",)}
_ROLES = {"rgb": "RGBL05", "xyz": "XYZ", "gt": "MASK"}
_FOREGROUND = "foreground"


def _place(view: View, name: str) -> tuple[tuple[str, str, str, str], str] | None:
    """(category, part, label, stem) and kind of a member, by the source's names."""
    *folders, part, label, kind, last = ["", "", "", *name.split("/")]
    folders = [f for f in folders if f]
    if part not in PARTS or kind not in _ROLES or not last.lower().endswith(_SUFFIXES[kind]):
        return None
    return (category_name(view, folders), part, label, last.rsplit(".", 1)[0]), kind


def matches(view: View) -> int:
    """How many pictures lie as in this format."""
    return sum(1 for n in view.names if (place := _place(view, n)) is not None and place[1] == "rgb")


def scan(view: View) -> Found:
    """The samples of a source; only names, and the map of an export of ours, are read."""
    oddities = list(view.oddities)
    known = own_map.read(view, FORMAT, "rgb")
    groups: dict[tuple[str, str, str, str], dict[str, str]] = defaultdict(dict)
    for name in view.names:
        place = _place(view, name)
        if place is not None:
            groups[place[0]][_ROLES[place[1]]] = name
    cameras = _cameras(view)
    samples = []
    unpaired = []
    for (category, part, label, stem), files in groups.items():
        origin = f"{category}/{part}/{label}/{stem}"
        if "RGBL05" not in files:
            unpaired.append(origin)
            continue
        entry = known.get(files["RGBL05"])
        if entry is not None and _FOREGROUND in entry.files:
            mask = f"{own_map.home(view)}{entry.files[_FOREGROUND]}"
            files |= {_FOREGROUND: mask} if mask in view else {}
        sample = FoundSample(
            our_category(category),
            our_label(label),
            origin,
            files,
            part=PARTS[part],
            specimen=f"{FORMAT}:{origin}",
            facts={"camera": cameras[category]} if category in cameras else {},
        )
        samples.append(own_map.restored(sample, entry))
    if unpaired:
        oddities.append(
            f"{len(unpaired)} map(s) or mask(s) left out, since no picture has their name: {some(unpaired)}"
        )
    flat = [s.origin for s in samples if "XYZ" not in s.files]
    if flat:
        oddities.append(f"{len(flat)} sample(s) have no XYZ map: {some(flat)}")
    return make_found(FORMAT, samples, oddities)


def _cameras(view: View) -> dict[str, Any]:
    """Category → its camera.json."""
    tail = "/calibration/camera.json"
    found = [n for n in view.names if f"/{n}".endswith(tail)]
    return {category_name(view, n.split("/")[:-2]): read_json(view, n) for n in found}


def content(view: View, sample: FoundSample, scratch: Path) -> tuple[SampleContent, list[str]]:
    """Read one sample; raises :class:`RakelightError` for files that cannot be used."""
    gather = Gather(FORMAT, view, sample, scratch)
    gather.picture("RGBL05", sample.files["RGBL05"])
    size = gather.rgb[layout.REFERENCE_VIEW].shape[:2] if gather.rgb else None
    facts: dict[str, Any] = {}
    if "XYZ" in sample.files:
        found = pixels.read_xyz(view, sample.files["XYZ"])
        xyz = pixels.wholly_nan(from_metres(found.xyz))
        if np.isfinite(xyz).any():
            facts["xyz"] = xyz
        else:
            gather.warnings.append(f"{sample.files['XYZ']} has no valid point; it is left out")
    if "MASK" in sample.files:
        gather.defect_mask(sample.files["MASK"], size)
    if _FOREGROUND in sample.files:
        part, _values = pixels.read_mask(view, sample.files[_FOREGROUND])
        if part.any():
            facts["part_mask"] = part > 0
    return gather.content(**facts), gather.warnings
