"""Eyecandies (Bonfiglioli et al., ACCV 2022): rendered sweets under six lights, with depth and documented normals.

::

    <Class>/{train,val,test_public,test_private}/data/000_{image_0 … image_5, depth, normals, mask, …_mask}.png
                                                     000_{info_depth, metadata}.yaml   000_pose.txt

As its authors document them: image_0 is under all spots, 1 to 4 under the bottom, right, top and left one, 5 under global
light. Depth is 16-bit between ``min`` and ``max`` of info_depth, metres along the axis, of a pinhole camera with focal
length 711.11 px and the principal point at (W/2, H/2). Normals are uint8 round(127.5·(n + 1)) in the camera's frame
with y and z flipped, which is our viewer frame and our encoding: normals.png is our PS picture as it is.

The private test set has no labels and is left out. Samples count as simulated.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import layout
from rakelight.dataset.archives import View
from rakelight.dataset.importers import pixels
from rakelight.dataset.importers.found import Found, FoundSample, category_name, make_found, our_category, some
from rakelight.dataset.importers.gather import Gather
from rakelight.dataset.sample import SampleContent
from rakelight.errors import DatasetError

FORMAT = "eyecandies"
FOCAL_PX = 711.11
VIEW_OF_IMAGE = {0: "RGBL05", 1: "RGBL04", 2: "RGBL01", 3: "RGBL02", 4: "RGBL03"}
"""Their spots bottom, right, top, left → our zones right, up, left, down (1 to 4)."""

KINDS = ("bumps", "dents", "colors", "normals")
_PARTS = {"train": "train", "val": "validation", "test_public": "test", "test_private": ""}
_FILE = re.compile(
    r"([0-9]+)_(image_[0-5]|depth|normals|mask|(?:bumps|dents|colors|normals)_mask|info_depth|metadata|pose)"
)
_NUMBER = re.compile(r"^\s*['\"]?(\w+)['\"]?\s*:\s*([-+0-9.eE]+|true|false)\s*$", re.MULTILINE | re.IGNORECASE)
_MOST_TEXT = 1 << 16


def _place(view: View, name: str) -> tuple[tuple[str, str, str], str] | None:
    """(class, part, number) and kind of a member."""
    *folders, part, data, last = ["", "", *name.split("/")]
    found = _FILE.fullmatch(last.rsplit(".", 1)[0])
    if part not in _PARTS or data != "data" or found is None:
        return None
    return (category_name(view, [f for f in folders if f]), part, found[1]), found[2]


def matches(view: View) -> int:
    """How many pictures lie as in this format."""
    return sum(1 for n in view.names if (place := _place(view, n)) is not None and place[1].startswith("image_"))


def scan(view: View) -> Found:
    """The samples of a source; only names, and the few lines of each test sample's metadata, are read."""
    oddities = list(view.oddities)
    groups: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for name in view.names:
        place = _place(view, name)
        if place is not None:
            groups[place[0]][place[1]] = name
    samples = []
    left: Counter[str] = Counter()
    unlabelled = []
    for (category, part, number), files in groups.items():
        origin = f"{category}/{part}/{number}"
        if part == "test_private":
            left[category] += 1
            continue
        try:
            label = _label(view, files, part)
        except DatasetError as e:
            unlabelled.append(f"{origin}: {e.message}")
            continue
        samples.append(
            FoundSample(
                our_category(category),
                label,
                origin,
                files,
                part=_PARTS[part],
                specimen=f"{FORMAT}:{origin}",
                facts={"views": {role: f"image_{n}" for n, role in VIEW_OF_IMAGE.items()}, "focal_px": FOCAL_PX},
            )
        )
    if left:
        oddities.append(f"{sum(left.values())} sample(s) of test_private left out: they have no labels")
    if unlabelled:
        oddities.append(f"{len(unlabelled)} sample(s) left out, since their label cannot be told: {some(unlabelled)}")
    return make_found(FORMAT, samples, oddities)


def _label(view: View, files: dict[str, str], part: str) -> str:
    """``OK``, the one kind of defect, or ``combined``; by metadata, or by the masks where there is none."""
    if part in ("train", "val"):
        return layout.OK  # good by definition
    if "metadata" in files:
        facts = _facts(view, files["metadata"])
        kinds = [k for k in KINDS if facts.get(k)]
        anomalous = bool(facts.get("anomalous", kinds))
    else:
        kinds = [k for k in KINDS if f"{k}_mask" in files and pixels.read_mask(view, files[f"{k}_mask"])[0].any()]
        if not kinds and "mask" not in files:
            raise DatasetError("neither metadata nor masks", code="import.no_label")
        anomalous = bool(kinds) or bool(pixels.read_mask(view, files["mask"])[0].any())
    if not anomalous:
        return layout.OK
    return kinds[0] if len(kinds) == 1 else "combined"


def _facts(view: View, name: str) -> dict[str, float]:
    """The numbers of a YAML file of plain ``key: number`` lines, of any depth."""
    text = view.read(name, most=_MOST_TEXT).decode("utf-8", "replace")
    return {key: 1.0 if v.lower() == "true" else 0.0 if v.lower() == "false" else _float(view, name, v)
            for key, v in _NUMBER.findall(text)}  # fmt: skip


def _float(view: View, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(
            f"{view.where(name)}: {text[:40]!r} is no number",
            hint="get the file again from its publisher",
            code="import.damaged",
        )
    return value


def content(view: View, sample: FoundSample, scratch: Path) -> tuple[SampleContent, list[str]]:
    """Read one sample; raises :class:`RakelightError` for files that cannot be used."""
    gather = Gather(FORMAT, view, sample, scratch)
    files = sample.files
    for number, role in VIEW_OF_IMAGE.items():
        if f"image_{number}" in files:
            gather.picture(role, files[f"image_{number}"])
    facts: dict[str, Any] = {"simulated": True}
    extras: dict[str, NDArray[Any]] = {}
    if "image_5" in files:
        extras["global_light"] = pixels.read_picture(view, files["image_5"])
    if "normals" in files:
        gather.picture("PS", files["normals"])
        if gather.ps is not None:
            facts["normals"] = decode_normals(gather.ps)
    if "depth" in files:
        xyz = _xyz(view, files)
        facts["xyz"] = xyz
        z = xyz[..., 2]
        facts["pitch_mm"] = float(np.nanmedian(z)) / FOCAL_PX
    if "mask" in files:
        gather.defect_mask(files["mask"])
    for kind in KINDS:
        if f"{kind}_mask" in files and sample.label != layout.OK:
            mask, _values = pixels.read_mask(view, files[f"{kind}_mask"])
            if mask.any():
                extras[f"{kind}_mask"] = mask
    for role in ("pose", "info_depth", "metadata"):
        if role in files:
            gather.other(files[role])
    return gather.content(extras=extras, **facts), gather.warnings


def decode_normals(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) float32 unit vectors, viewer frame, of ``normals.png``; NaN where it holds no direction (127 or 128)."""
    vectors = picture.astype(np.float32) / np.float32(127.5) - 1
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 0.5, vectors / lengths, np.float32(np.nan)).astype(np.float32)


def depth_to_xyz(depth_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """(H, W) depth along the axis in mm → (H, W, 3) float32, camera frame; NaN where the depth is not above 0."""
    height, width = depth_mm.shape
    z = np.where(depth_mm > 0, depth_mm, np.nan)
    x = (np.arange(width) - width / 2) * z / FOCAL_PX
    y = (np.arange(height)[:, None] - height / 2) * z / FOCAL_PX
    return np.stack((x, y, z), -1).astype(np.float32)


def _xyz(view: View, files: Any) -> NDArray[np.float32]:
    bounds = _facts(view, files["info_depth"]) if "info_depth" in files else {}
    if not ("min" in bounds and "max" in bounds and bounds["max"] > bounds["min"]):
        raise DatasetError(
            f"{view.where(files['depth'])}: its bounds min and max are not told by an info_depth.yaml beside it",
            hint="get the file again from its publisher",
            code="import.no_depth_bounds",
        )
    stored = pixels.read_grey16(view, files["depth"])
    metres = bounds["min"] + stored.astype(np.float64) / 65535 * (bounds["max"] - bounds["min"])
    return depth_to_xyz(1000 * metres)
