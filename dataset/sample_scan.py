"""One pass over the files of one sample: facts for the leak test, problems for the checks, a small picture for the duplicates.

Pictures and maps of a sample are read once, one after the other; what is kept of it is a few kB.
"""

from __future__ import annotations

import base64
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.config import Model
from rakelight.dataset import file_headers, layout
from rakelight.dataset.near_duplicates import small_picture
from rakelight.dataset.opened import OpenSample
from rakelight.errors import RakelightError

Severity = Literal["error", "warning", "note"]
About = Literal["record", "content", "books"]
CONSTANT_VALUES = 3  # as many distinct values at most make a channel a placeholder
_BY_DESIGN = {"MASK", "annotation", "manifest"}  # only defective parts have them
_BY_DESIGN_NAMES = {layout.ANNOTATION_FILE, layout.CLASSES_FILE, layout.SAMPLE_MANIFEST}
_OUTSIDE_SHARE = 0.2  # of a mask, beyond the part: a burr sticks out, a whole defect does not
_INVALID_SHARE = 0.5
_UNCERTAIN_PX = 2  # the part's edge is known to about that


class Fact(NamedTuple):
    """One fact of one sample that is not its picture.

    ``about`` is ``record`` for what must not depend on the part at all, ``content`` for what a defect may rightly change a
    little (the size of a compressed picture), ``books`` for what stands in our own manifests only.
    """

    name: str
    value: float | str
    about: About = "record"


class Problem(Model):
    """Something wrong with a sample: which check found it, what it is and the next step."""

    check: str
    severity: Severity
    what: str
    hint: str


class SampleScan(Model):
    """What :func:`scan_sample` keeps of a sample; ``small`` is the picture of :func:`near_duplicates.small_picture`."""

    facts: tuple[Fact, ...] = ()
    problems: tuple[Problem, ...] = ()
    small: str = ""

    def small_picture(self) -> NDArray[np.float32] | None:
        """(SIDE·SIDE,) float32, or None."""
        if not self.small:
            return None
        return np.frombuffer(base64.b64decode(self.small), "<f2").astype(np.float32)


def scan_sample(sample: OpenSample) -> SampleScan:
    """Read every modality of a sample; a file that cannot be read becomes a problem, not an error."""
    return _Scan(sample).run()


class _Scan:
    """The pass itself: what it has found so far."""

    def __init__(self, sample: OpenSample) -> None:
        self.sample = sample
        self.facts: list[Fact] = []
        self.problems: list[Problem] = []
        self.part: NDArray[np.bool_] | None = None
        self.size: tuple[int, int] | None = None

    def run(self) -> SampleScan:
        self._headers()
        part = self._read(layout.PART_MASK_FILE)
        self.part = None if part is None else np.asarray(part) > 0
        small = ""
        for view in sorted(layout.VIEWS, reverse=True):  # RGBL05 first: it gives the size
            picture = self._picture(f"RGBL{view:02d}")
            if view == layout.REFERENCE_VIEW and picture is not None:
                self.size = picture.shape[:2]
                part = self.part if self.part is not None and self.part.shape == self.size else None
                small = base64.b64encode(small_picture(picture, part).astype("<f2").tobytes()).decode()
        self._picture("PS")
        xyz = self._read("XYZ")
        valid = self._xyz(np.asarray(xyz)) if xyz is not None else None
        self._mask(valid)
        return SampleScan(facts=tuple(self.facts), problems=tuple(self.problems), small=small)

    def _fact(self, name: str, value: float | str, about: About = "record") -> None:
        self.facts.append(Fact(name=name, value=value, about=about))

    def _problem(self, check: str, severity: Severity, what: str, hint: str) -> None:
        self.problems.append(Problem(check=check, severity=severity, what=what, hint=hint))

    def _headers(self) -> None:
        raw_bytes = raw_files = 0
        for record in self.sample.manifest.files:
            name = record.path.rsplit("/", 1)[-1]
            if record.role in _BY_DESIGN or name in _BY_DESIGN_NAMES or name.startswith("former_"):
                continue
            if record.role == "raw":
                raw_bytes, raw_files = raw_bytes + record.bytes, raw_files + 1
                continue
            shown = record.role if record.role in layout.MODALITIES else name
            path = self.sample.root / record.path
            header = file_headers.header_facts(path)
            compressed = file_headers.is_compressed(path, header)
            self._fact(f"{shown}: present", "yes")
            self._fact(f"{shown}: file size", float(record.bytes), "content" if compressed else "record")
            for what, value in header.items():
                self._fact(f"{shown}: {what}", value)
        self._fact("raw frames: number", float(raw_files))
        self._fact("raw frames: bytes", float(raw_bytes), "content")

    def _read(self, role: str) -> NDArray[Any] | None:
        try:
            return self.sample.image(role)
        except RakelightError as error:
            hint = "restore the file from a backup, or derive the sample again with `rakelight dataset rebuild --force --sample …`"
            self._problem("files", "error", f"{role} cannot be read: {error.message}", hint)
            return None

    def _picture(self, role: str) -> NDArray[Any] | None:
        picture = self._read(role)
        if picture is None:
            return None
        rows = picture.reshape(-1, picture.shape[-1]) if picture.ndim == 3 else picture.reshape(-1, 1)
        kind = "grey" if rows.shape[1] == 1 or (rows == rows[:, :1]).all() else "colour"
        constant = bool((rows == rows[:1]).all())
        self._fact(f"{role}: channels", f"{rows.shape[1]} {kind}{', constant' if constant else ''}")
        if constant:
            self._problem("files", "error", f"{role} has one colour all over", "capture the part again")
        if role.startswith("RGBL") and self.size is not None and picture.shape[:2] != self.size:
            what = f"{role} is {_size(picture.shape)}, RGBL05 is {_size(self.size)}"
            self._problem("files", "error", what, "derive the sample again; all views share one size")
        return picture

    def _xyz(self, xyz: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Facts and problems of the map; returns where it is valid, (H, W)."""
        if xyz.ndim != 3:
            self._problem("xyz", "error", f"XYZ has shape {xyz.shape}; needed: (H, W, 3)", "derive the sample again")
            return None
        finite = np.isfinite(xyz[..., 2])
        self._fact("XYZ: NaN share", float(1 - finite.mean()), "content")
        self._fact("XYZ: share of zeros", float((xyz == 0).all(axis=2).mean()))
        if self.part is not None and self.part.shape == finite.shape:
            near = cv2.dilate(self.part.view(np.uint8), np.ones((2 * _UNCERTAIN_PX + 1,) * 2, np.uint8)) > 0
            if self.part.any():
                self._fact("XYZ: NaN share of the part", float(1 - finite[self.part].mean()), "content")
            if not near.all():
                self._fact("XYZ: NaN share around the part", float(1 - finite[~near].mean()))
        if not finite.any():
            self._problem("xyz", "error", "XYZ has no valid pixel", "look at its recording; capture the part again")
            return None
        placeholder = self.sample.manifest.xyz_xy == "placeholder"
        for channel, axis in enumerate("xyz"):
            values = _few_values(xyz[..., channel])
            self._fact(f"XYZ: {axis} is a placeholder", "no" if values is None else "yes")
            if values is None:
                continue
            self._fact(f"XYZ: {axis} placeholder value", float(np.median(values)))
            if axis == "z" or not placeholder:
                what = f"{axis} of XYZ has {len(values)} distinct value(s), for example {values[0]:.6g}"
                hint = "it holds no coordinates: derive the sample again; loaders may read a label from the constant"
                self._problem("xyz", "error" if axis == "z" else "warning", what, hint)
        return finite

    def _mask(self, valid: NDArray[np.bool_] | None) -> None:
        key = self.sample.key
        if self.sample.record("MASK") is None:
            if not key.is_ok:
                hint = "draw it: `rakelight dataset label` exports pictures for it and imports the masks"
                self._problem("masks", "warning", "a defective part without a mask", hint)
            return
        if key.is_ok:
            self._problem("masks", "error", "a good part with a mask", "relabel the sample, or remove the mask")
        mask = self._read("MASK")
        if mask is None:
            return
        again = "draw it again on RGBL05 at full size, in 0 and 255"
        if mask.ndim != 2 or (self.size is not None and mask.shape != self.size):
            what = f"the mask is {_size(mask.shape)}, RGBL05 is {_size(self.size or (0, 0))}"
            self._problem("masks", "error", what, again)
            return
        marked = mask > 0
        if not ((mask == 0) | (mask == 255)).all():
            self._problem("masks", "error", "the mask holds values other than 0 and 255", again)
        if not marked.any():
            self._problem("masks", "error", "the mask is empty", "mark the defect, or relabel the sample")
            return
        self._mask_place(marked, valid)

    def _mask_place(self, marked: NDArray[np.bool_], valid: NDArray[np.bool_] | None) -> None:
        if self.part is not None and self.part.shape == marked.shape:
            near = cv2.dilate(self.part.view(np.uint8), np.ones((2 * _UNCERTAIN_PX + 1,) * 2, np.uint8)) > 0
            outside = float((marked & ~near).sum() / marked.sum())
            if outside > _OUTSIDE_SHARE:
                severity: Severity = "error" if outside > 0.999 else "warning"
                what = f"{outside:.0%} of the mask lie outside the part"
                self._problem("masks", severity, what, "look at mask and part mask: one of them is wrong or shifted")
        if valid is not None and valid.shape == marked.shape:
            blind = float((marked & ~valid).sum() / marked.sum())
            if blind > _INVALID_SHARE:
                what = f"{blind:.0%} of the mask have no valid XYZ"
                self._problem("masks", "note", what, "the defect cannot be judged by its surface there")


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)


def _few_values(channel: NDArray[Any]) -> NDArray[Any] | None:
    """The distinct finite values if they are at most ``CONSTANT_VALUES``, else None; settled early on a true map."""
    rows = channel[:: max(1, channel.shape[0] // 64)]
    for part in (rows, channel):
        values = np.unique(part[np.isfinite(part)])
        if len(values) > CONSTANT_VALUES:
            return None
    return values if len(values) else None
