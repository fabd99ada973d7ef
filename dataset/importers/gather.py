"""Collecting one sample's files into a ``SampleContent``: copied byte for byte where that is possible."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images, layout
from rakelight.dataset.archives import View
from rakelight.dataset.importers import pixels
from rakelight.dataset.importers.found import FoundSample
from rakelight.dataset.options import XyzXy
from rakelight.dataset.sample import SampleContent, Source
from rakelight.errors import DatasetError

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
_HEAD_BYTES = 4096


class Gather:
    """What is known of a sample so far; ``warnings`` are sentences for people.

    Members of archives are copied into ``scratch`` under names made here; files of a folder are used where they are.
    """

    def __init__(self, format: str, view: View, sample: FoundSample, scratch: Path) -> None:
        self.format, self.view, self.sample, self.scratch = format, view, sample, scratch
        self.warnings: list[str] = []
        self.rgb: dict[int, NDArray[np.uint8]] = {}
        self.ps: NDArray[np.uint8] | None = None
        self.originals: dict[str, NDArray[np.uint8]] = {}
        self.files: dict[str, Path] = {}
        self.raw_files: dict[str, Path] = {}
        self.mask: NDArray[np.uint8] | None = None
        self.xyz_xy: XyzXy | None = None
        self.quality: dict[str, Any] = {}

    def picture(self, role: str, name: str) -> None:
        """``RGBL01`` … ``RGBL05`` or ``PS``: a JPEG is copied; anything else becomes one, with the lossless original beside."""
        if name.lower().endswith((".jpg", ".jpeg")):
            self.files[role] = self._fetch(name, f"{role}.jpg")
            return
        picture = pixels.read_picture(self.view, name)
        if role == "PS":
            self.ps = picture
        else:
            self.rgb[int(role[4:])] = picture
        self.originals[role] = picture

    def xyz_file(self, name: str) -> None:
        """An XYZ map kept as the file it is, or as a plain TIFF of the same values if it is stored in an unusual way."""
        found = pixels.read_xyz(self.view, name)
        if found.plain and name.lower().endswith((".tiff", ".tif")):
            self.files["XYZ"] = self._fetch(name, "XYZ.tiff")
        else:
            self.quality["xyz_was"] = f"{found.layout} {found.dtype}"
            images.write_tiff(self.scratch / "XYZ.tiff", found.xyz)
            self.files["XYZ"] = self.scratch / "XYZ.tiff"
        self.xyz_xy, constants = pixels.meaning_of_xy(found.xyz)
        if constants:
            self.quality["xyz_placeholders"] = constants

    def cloud(self, name: str) -> None:
        """A PCD file, copied; one of a packing that is not read is kept as a raw file."""
        with self.view.open(name) as handle:
            head = handle.read(_HEAD_BYTES)
        if b"binary_compressed" in head:
            self.warnings.append(f"{name} is a compressed PCD; it is kept among the raw files")
            self.other(name)
        else:
            self.files["PCD"] = self._fetch(name, "PCD.pcd")

    def defect_mask(self, name: str, size: tuple[int, int] | None = None) -> None:
        """The mask of a defective sample: copied if it is 8-bit of 0 and 255, else made so; an unusable one is kept raw."""
        mask, values = pixels.read_mask(self.view, name)
        if self.sample.label == layout.OK:
            if mask.any():
                self._keep_mask(name, "the sample is good, yet has a mask with marks")
        elif not mask.any():
            self._keep_mask(name, "its mask is empty")
        elif size is not None and mask.shape != size:
            self._keep_mask(name, f"its mask is {mask.shape}, its picture {size}")
        else:
            if not set(values) <= {0, 255}:
                self.quality["mask_values_were"] = list(values)
            if set(values) <= {0, 255} and name.lower().endswith(".png") and self._is_plain_grey(name):
                self.files["MASK"] = self._fetch(name, "MASK.png")
            else:
                self.mask = mask

    def _keep_mask(self, name: str, why: str) -> None:
        self.warnings.append(f"{why}; {name} is kept among the raw files")
        self.other(name)

    def _is_plain_grey(self, name: str) -> bool:
        with self.view.open(name) as handle:
            head = handle.read(26)
        return len(head) == 26 and head[24] == 8 and head[25] == 0  # bit depth and colour type of the IHDR chunk

    def other(self, name: str) -> None:
        """A file that has no place in the tree, kept in ``raw/`` under its own name as far as that is plain."""
        last = name.rsplit("/", 1)[-1]
        plain = _NOT_PLAIN.sub("_", last)[-80:].lstrip(".-") or "file"
        try:
            layout.check_file_name("raw file", plain)
        except DatasetError:
            plain = f"file_{len(self.raw_files)}"
        taken = {n.lower() for n in self.raw_files}
        while plain.lower() in taken:
            plain = f"{len(taken)}_{plain}"[-100:]
        self.raw_files[plain] = self._fetch(name, f"raw_{len(self.raw_files)}")

    def _fetch(self, name: str, scratch_name: str) -> Path:
        return self.view.fetch(name, self.scratch / scratch_name)

    def content(self, **facts: Any) -> SampleContent:
        """The content; ``facts`` are further arguments of :class:`SampleContent`."""
        sample = self.sample
        for name in sample.others:
            self.other(name)
        return SampleContent(
            category=sample.category,
            label=sample.label,
            timestamp=sample.timestamp,
            **{
                "rgb": self.rgb,
                "ps": self.ps,
                "mask": self.mask,
                "originals": self.originals,
                "files": self.files,
                "raw_files": self.raw_files,
                "xyz_xy": self.xyz_xy,
                "quality": self.quality,
                "specimen": sample.specimen,
                "capture": dict(sample.facts),
                "source": source_of(self.format, self.view, sample),
                **facts,
            },
        )


def gathered(format: str, view: View, sample: FoundSample, scratch: Path) -> tuple[SampleContent, list[str]]:
    """A sample of a format whose roles are our modalities, each file kept as it is, and warnings."""
    gather = Gather(format, view, sample, scratch)
    for role, name in sample.files.items():
        if role == "MASK":
            gather.defect_mask(name)
        elif role == "XYZ":
            gather.xyz_file(name)
        elif role == "PCD":
            gather.cloud(name)
        else:
            gather.picture(role, name)
    return gather.content(), gather.warnings


def source_of(format: str, view: View, sample: FoundSample) -> Source:
    """What the manifest says of where a sample came from; its own file names and sizes stand in ``settings``."""
    files = dict(sample.files) | {f"other {n}": name for n, name in enumerate(sample.others, 1)}
    return Source(
        origin=f"{format}:{sample.origin}",
        settings={
            "source": view.source.name,
            "part": sample.part,
            "number": sample.number,
            "files": files,
            "bytes": {role: view.size(name) for role, name in files.items()},
        },
    )
