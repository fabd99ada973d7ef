"""What the readers of annotation files hand over: the drawing on one picture, not yet matched to a sample."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rakelight.config import validate
from rakelight.dataset.annotations import Region
from rakelight.errors import DatasetError

IGNORE_LABEL = "ignore"  # drawn under this name, a region is one to be ignored
LINE_WIDTH_PX = 10.0  # what LabelMe itself gives lines, which carry no width in its files
OURS = "rakelight"  # the key under which our facts travel through other programs' files
_FACTS = ("ignore", "visibility", "certainty", "note", "group")


@dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    Attributes
    ----------
    line_width_px : float
        Width of lines that do not state theirs.
    rename : mapping of str to str
        Name in the file → name of the defect.
    mask_defect : str
        What is drawn in masks that do not say it; empty: the label of the sample.
    """

    line_width_px: float = LINE_WIDTH_PX
    rename: Mapping[str, str] = field(default_factory=dict)
    mask_defect: str = ""


@dataclass(frozen=True)
class Drawing:
    """The regions drawn on one picture.

    Attributes
    ----------
    source : str
        File (and picture in it), for messages.
    names : tuple of str
        What may tell the sample, best first: names of the picture or keys of samples.
    size : (H, W), optional
        Size of the picture as the file states it.
    regions : tuple of Region
        A region with an empty ``defect`` that is not to be ignored takes the sample's label.
    pixels_only : bool
        The format holds pixels and no facts about them, so that a sample whose pixels agree is left as it is.
    """

    source: str
    names: tuple[str, ...]
    size: tuple[int, int] | None
    regions: tuple[Region, ...]
    annotator: str = ""
    tool: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    pixels_only: bool = False


def defect_name(label: str, options: ReadOptions) -> str:
    """A label as people type it as the name of a defect: ``"Deep scratch"`` becomes ``deep_scratch``."""
    if label in options.rename:
        return options.rename[label]
    return re.sub(r"[\s_-]+", "_", label.strip().lower())


def make_region(
    label: str, shape: Mapping[str, Any], facts: Mapping[str, Any], options: ReadOptions, what: str
) -> Region:
    """A region of plain data; raises :class:`DatasetError` (``config.invalid``) that names ``what`` if it does not fit."""
    name = defect_name(label, options)
    data = {"defect": name, "shape": dict(shape), **facts}
    if name == IGNORE_LABEL:
        data |= {"defect": "", "ignore": True}
    hint = "mend the shape in the program that drew it"
    return validate(data, Region, source=what, error=DatasetError, hint=hint)


def label_of(region: Region) -> str:
    """The label under which a region goes to another program."""
    return region.defect or IGNORE_LABEL


def our_facts(region: Region) -> dict[str, Any]:
    """What other programs' formats have no place for, as it stands under the key :data:`OURS`; defaults are left out."""
    facts = region.model_dump(mode="json", include={"ignore", "visibility", "certainty"}, exclude_defaults=True)
    if not region.defect:
        facts.pop("ignore", None)  # its label says it
    return facts


def our_table(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands under the key :data:`OURS`; empty if that is no table."""
    found = holder.get(OURS)
    return found if isinstance(found, Mapping) else {}


def taken_facts(table: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of :func:`our_facts` as they came back; what is none of them is left out."""
    return {name: table[name] for name in _FACTS if name in table}


def bad_file(path: Any, what: str, hint: str = "") -> DatasetError:
    """The error of an annotation file that cannot be used."""
    return DatasetError(
        f"{path} cannot be used: {what}",
        hint=hint or "save it again in the program that made it, or leave it out",
        code="annotation.unreadable",
    )
