"""How well two people agree: the drawings of a second one against what is stored, by intersection over union (IoU)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset.annotations import State, check_regions, class_map
from rakelight.dataset.defects import read_defects
from rakelight.dataset.drawings import Drawing
from rakelight.dataset.labelling import check_size, picture_size, stored_annotation
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.rasterise import IGNORE
from rakelight.dataset.sample_names import SampleNames
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError


@dataclass(frozen=True)
class Agreement:
    """One sample, drawn twice.

    Attributes
    ----------
    source, sample : str
    iou : float, optional
        Of all defects together, without the pixels that either one ignores; 1 if both see none; None if not compared.
    by_defect : dict of str to float
        The same of each defect that either one drew.
    stored_px, other_px : int
        Pixels with a defect.
    problem : str
        Why it was not compared.
    """

    source: str
    sample: str = ""
    iou: float | None = None
    by_defect: dict[str, float] = field(default_factory=dict)
    stored_px: int = 0
    other_px: int = 0
    problem: str = ""


def compare_drawings(dataset: Dataset, drawings: Iterable[Drawing | DatasetError]) -> Iterator[Agreement]:
    """Compare drawings with the stored annotations (or bare masks) of the same samples; nothing is written.

    A drawing without regions counts: its annotator saw no defect.
    """
    names = SampleNames(dataset.root)
    for drawing in drawings:
        if isinstance(drawing, DatasetError):
            yield Agreement("", problem=drawing.message)
            continue
        key = names.find(drawing.names)
        if key is None:
            named = drawing.names[0] if drawing.names else "nothing"
            yield Agreement(drawing.source, problem=f"no sample has a picture named {named}")
            continue
        try:
            yield _compare(dataset, drawing, OpenSample(dataset.root, key))
        except DatasetError as e:
            yield Agreement(drawing.source, str(key), problem=e.message)


def _compare(dataset: Dataset, drawing: Drawing, sample: OpenSample) -> Agreement:
    size = picture_size(sample)
    check_size(drawing, size)
    own = {"defect": sample.key.label}
    regions = tuple(r if r.defect or r.ignore else r.model_copy(update=own) for r in drawing.regions)
    check_regions(regions, size)
    before = stored_annotation(sample)
    stored_regions = () if before is None else before.regions
    table = read_defects(dataset.root).with_names(r.defect for r in (*regions, *stored_regions) if r.defect)
    first = class_map(State(regions=stored_regions), size, table)
    second = class_map(State(regions=regions), size, table)
    counted = (first != IGNORE) & (second != IGNORE)
    a, b = first * counted, second * counted
    present = set(np.unique(a)) | set(np.unique(b))
    return Agreement(
        drawing.source,
        str(sample.key),
        iou(a != 0, b != 0),
        {name: iou(a == n, b == n) for name, n in table.index_of().items() if n in present},
        int(np.count_nonzero(a)),
        int(np.count_nonzero(b)),
    )


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 if both are empty."""
    union = int(np.count_nonzero(a | b))
    return np.count_nonzero(a & b) / union if union else 1.0
