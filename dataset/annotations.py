"""``annotations.json`` of a sample: what was drawn on its picture, by whom, who approved it, and every state before.

One document a sample is the master; the 0/255 mask and the map of classes are made from it by
:mod:`rakelight.dataset.rasterise`, and points of a cloud get their labels from that map. Coordinates are pixels of RGBL05.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rakelight.config import Model, PlainData, UtcTime, validate
from rakelight.dataset import layout, rasterise
from rakelight.dataset.defects import DefectTable
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import utc_now
from rakelight.dataset.shapes import MaskShape, Polygon, Shape, mask_shape
from rakelight.errors import DatasetError
from rakelight.files import canonical_json, read_json

ReviewState = Literal["draft", "proposed", "approved", "rejected"]
REVIEW_STATES: tuple[ReviewState, ...] = get_args(ReviewState)
IN_FORCE = ("proposed", "approved")  # states in which the drawn regions are the sample's mask
MAX_REGIONS = 10_000
BORDER_PX = 1.0  # how far beyond the picture a point may lie: programs let one draw on its border
_Seen = Literal["visible", "invisible", "unknown"]
_Name = Annotated[str, Field(max_length=200)]
_Note = Annotated[str, Field(max_length=2000)]


class Visibility(Model):
    """In which modality a region can be seen."""

    rgb: _Seen = "unknown"
    ps: _Seen = "unknown"
    xyz: _Seen = "unknown"


class Region(Model):
    """One region that somebody drew.

    ``ignore`` marks pixels of which nobody can say whether they are defective; ``defect`` may then be empty. ``certainty`` is
    0 … 1. Regions with the same ``group`` are parts of one defect. ``extra`` is what other programs keep with a shape.
    """

    defect: str = ""
    shape: Shape
    ignore: bool = False
    visibility: Visibility = Visibility()
    certainty: float | None = Field(default=None, ge=0, le=1)
    note: _Note = ""
    group: int | None = None
    extra: PlainData = Field(default_factory=dict)


class Review(Model):
    """What a reviewer decided. Only regions that are proposed or approved become the sample's mask."""

    state: ReviewState = "proposed"
    by: _Name = ""
    utc: UtcTime = Field(default_factory=utc_now)
    note: _Note = ""


class State(Model):
    """One state of an annotation; ``earlier_reviews`` are those of the same regions, oldest first."""

    regions: Annotated[tuple[Region, ...], Field(max_length=MAX_REGIONS)]
    annotator: _Name = ""
    tool: _Name = ""
    utc: UtcTime = Field(default_factory=utc_now)
    review: Review = Field(default_factory=Review)
    earlier_reviews: tuple[Review, ...] = ()
    extra: PlainData = Field(default_factory=dict)


class Annotation(State):
    """``annotations.json``: the present state; ``history`` holds the earlier ones, oldest first, and only grows."""

    schema_: int = Field(default=1, alias="schema")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    history: tuple[State, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        return self.height, self.width

    @property
    def in_force(self) -> bool:
        """Whether the regions are to be the sample's mask."""
        return self.review.state in IN_FORCE

    def state(self) -> State:
        """The present state alone."""
        return State.model_construct(**{name: getattr(self, name) for name in State.model_fields})

    def to_dict(self) -> dict[str, Any]:
        """As :meth:`DatasetWriter.annotate` takes it."""
        return self.model_dump(mode="json", by_alias=True)

    def defects(self) -> set[str]:
        """The names of what was drawn, ignored regions apart."""
        return {region.defect for region in self.regions if not region.ignore}


def annotation_of(state: State, size: tuple[int, int], before: Annotation | None = None) -> Annotation:
    """A new annotation, with everything that ``before`` holds as its history."""
    history = () if before is None else (*before.history, before.state())
    facts = {name: getattr(state, name) for name in State.model_fields}
    return Annotation.model_construct(height=size[0], width=size[1], history=history, **facts)


def reviewed(annotation: Annotation, review: Review) -> Annotation:
    """The annotation with a new decision; the one before stays in ``earlier_reviews``."""
    earlier = (*annotation.earlier_reviews, annotation.review)
    return annotation.model_copy(update={"review": review, "earlier_reviews": earlier})


def read_annotation(sample: OpenSample) -> Annotation | None:
    """The annotation of a sample, None if it has none; raises :class:`DatasetError` if it is damaged."""
    path = sample.path("annotation")
    if path is None:
        return None
    sample.read("annotation")  # compares its hash
    data = read_json(path, error=DatasetError)
    hint = "restore it from a backup, or draw the regions again"
    return validate(data, Annotation, source=str(path), error=DatasetError, hint=hint)


def annotation_of_mask(sample: OpenSample, utc: str) -> Annotation | None:
    """A sample's mask that came without an annotation, as one: a region of the sample's label; None without a mask."""
    mask = sample.mask()
    shape = None if mask is None else mask_shape(mask > 0)
    if mask is None or shape is None:
        return None
    state = State(regions=(Region(defect=sample.key.label, shape=shape),), tool="stored mask", utc=utc)
    return annotation_of(state, mask.shape)


def facts_of(regions: Iterable[Region]) -> set[str]:
    """What is said of regions besides their pixels."""
    return {canonical_json(region.model_dump(exclude={"shape"})) for region in regions}


def class_map(annotation: State, size: tuple[int, int], table: DefectTable) -> NDArray[np.uint8]:
    """(H, W) uint8: the number of the defect of each pixel, 0 none, 255 ignore; a later region covers earlier ones."""
    index_of = table.index_of()
    painted = ((r.shape, rasterise.IGNORE if r.ignore else index_of[r.defect]) for r in annotation.regions)
    return rasterise.class_map(painted, size)


def check_regions(regions: Iterable[Region], size: tuple[int, int]) -> None:
    """Refuse regions that cannot be drawn on a picture of ``size`` (H, W).

    Raises
    ------
    DatasetError
        ``annotation.defect``: a name that cannot be a defect. ``annotation.outside``: a point more than a pixel beyond
        the picture. ``annotation.empty``: a region that covers no pixel.
    """
    for number, region in enumerate(regions, 1):
        what = f"region {number} ({region.defect or 'ignore'}, {region.shape.kind})"
        if region.defect or not region.ignore:
            _check_defect(region.defect, what)
        if problem := _outside(region.shape, size):
            raise DatasetError(
                f"{what} lies outside the picture: {problem}; it is {size[1]} × {size[0]} px",
                hint="draw on the full-size RGBL05 of this sample",
                code="annotation.outside",
            )
        if not rasterise.cover(region.shape, size).inside.any():
            raise DatasetError(
                f"{what} covers no pixel: none has its centre inside",
                hint="delete it, or draw it larger",
                code="annotation.empty",
            )


def _check_defect(name: str, what: str) -> None:
    if name == layout.OK:
        raise DatasetError(
            f"{what}: OK is no defect", hint="delete the region, or name the defect", code="annotation.defect"
        )
    try:
        layout.check_label(name)
    except DatasetError as e:
        raise DatasetError(f"{what}: {e.message}", hint=e.hint, code="annotation.defect") from e


def _outside(shape: rasterise.AnyShape, size: tuple[int, int]) -> str:
    height, width = size
    if isinstance(shape, MaskShape):
        right, bottom = shape.left + shape.width, shape.top + shape.height
        return f"its box ends at column {right - 1}, row {bottom - 1}" if right > width or bottom > height else ""
    if isinstance(shape, Polygon):
        points = np.concatenate(shape.rings())
    else:
        points = np.array([shape.centre] if shape.kind == "circle" else shape.points, np.float64)
    beyond = (points < -0.5 - BORDER_PX) | (points > np.array([width, height]) - 0.5 + BORDER_PX)
    if not beyond.any():
        return ""
    u, v = points[beyond.any(axis=1)][0]
    return f"point ({u:g}, {v:g})"
