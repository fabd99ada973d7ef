"""Drawings become annotations and masks of samples; people review them.

What a sample's tree holds follows from its annotation: while its regions are proposed or approved they are the sample's mask
and map of classes; as a draft, or rejected, they are kept and shown, but no loader sees them. An OK sample never has a mask:
regions drawn on it are kept as a proposal until it is relabelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import layout, rasterise
from rakelight.dataset.annotations import (
    Annotation,
    Review,
    ReviewState,
    State,
    annotation_of,
    annotation_of_mask,
    check_regions,
    class_map,
    facts_of,
    read_annotation,
    reviewed,
)
from rakelight.dataset.defects import keep_defects, read_defects
from rakelight.dataset.drawings import Drawing
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.sample import utc_now
from rakelight.dataset.sample_names import SampleNames
from rakelight.dataset.writer import Dataset, DatasetWriter
from rakelight.errors import DatasetError, RakelightError, StorageError

Status = Literal["imported", "reviewed", "unchanged", "nothing drawn", "no sample", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What became of one drawing or one review.

    Attributes
    ----------
    source : str
        The file, or the key under which the sample was named.
    status : Status
    sample : str
        Key of the sample afterwards; empty if there is none.
    was : str
        Its key before, if it was relabelled.
    defect_px : dict of str to int
        Pixels of each defect.
    note : str
        Why it was refused, or what to look at.
    hint : str
    """

    source: str
    status: Status
    sample: str = ""
    was: str = ""
    defect_px: dict[str, int] | None = None
    note: str = ""
    hint: str = ""


@dataclass(frozen=True, eq=False)
class _Planned:
    """What is to be stored of one sample."""

    annotation: Annotation
    classes: NDArray[np.uint8]
    areas: dict[str, int]
    label: str  # that the regions speak for


def import_drawings(
    dataset: Dataset,
    drawings: Iterable[Drawing | DatasetError],
    *,
    by: str = "",
    relabel: bool = False,
    dry_run: bool = False,
) -> Iterator[Outcome]:
    """Store drawings as annotations of the samples that their names tell; each sample whole or not at all.

    A drawing that changes no pixel and no fact of what is stored changes nothing. What cannot be used is told in its
    outcome, and the others go on.

    Parameters
    ----------
    by : str
        The annotator; empty: as the file says.
    relabel : bool
        Give a sample the label of what is drawn on it, if its own is none of that.
    dry_run : bool
        Tell what would happen; nothing is written.

    Raises
    ------
    DatasetError
        Another writer is at work; the table of defects is damaged.
    StorageError
        The disk is full or cannot be written; what was stored stays.
    """
    if dry_run:
        yield from _Import(dataset, None, by, relabel).run(drawings)
        return
    with dataset.writer() as writer:
        yield from _Import(dataset, writer, by, relabel).run(drawings)


class _Import:
    def __init__(self, dataset: Dataset, writer: DatasetWriter | None, by: str, relabel: bool) -> None:
        self.root = dataset.root
        self.writer, self.by, self.relabel = writer, by, relabel
        self.table = read_defects(self.root)
        self.names = SampleNames(self.root)
        self.done: dict[SampleKey, str] = {}

    def run(self, drawings: Iterable[Drawing | DatasetError]) -> Iterator[Outcome]:
        for drawing in drawings:
            if isinstance(drawing, DatasetError):
                yield Outcome("", "refused", note=drawing.message, hint=drawing.hint)
                continue
            key = self.names.find(drawing.names)
            if key is None:
                named = drawing.names[0] if drawing.names else "nothing"
                yield Outcome(drawing.source, "no sample", note=f"no sample has a picture named {named}")
                continue
            try:
                yield self._take(drawing, key)
            except StorageError:
                raise
            except RakelightError as e:
                yield Outcome(drawing.source, "refused", str(key), note=f"{key}: {e.message}", hint=e.hint)

    def _take(self, drawing: Drawing, key: SampleKey) -> Outcome:
        if key in self.done:
            raise DatasetError(
                f"{drawing.source} is the second drawing of this sample, after {self.done[key]}",
                hint="import one of them; `rakelight dataset label compare` compares two",
                code="annotation.twice",
            )
        self.done[key] = drawing.source
        sample = OpenSample(self.root, key)
        size = picture_size(sample)
        check_size(drawing, size)
        if not drawing.regions:
            return Outcome(drawing.source, "nothing drawn", str(key), note="the sample stays as it is")
        planned = self._plan(drawing, sample, size)
        moves = self.relabel and bool(planned.areas) and planned.label != key.label
        outcome = Outcome(
            drawing.source, "imported", str(key), defect_px=planned.areas, note=_remark(key, moves, planned)
        )
        if not moves and stands(sample, planned.annotation, planned.classes):
            return replace(outcome, status="unchanged")
        if self.writer is None:
            return outcome
        keep_defects(self.root, self.table)
        now = self._relabelled(self.writer, key, planned, drawing.source) if moves else key
        _store(self.writer, now, planned.annotation, planned.classes)
        return replace(outcome, sample=str(now), was="" if now == key else str(key))

    def _plan(self, drawing: Drawing, sample: OpenSample, size: tuple[int, int]) -> _Planned:
        """The annotation as it is to be: the stored one if the drawing says nothing else."""
        key = sample.key
        own = {"defect": "" if key.is_ok else key.label}
        regions = tuple(r if r.defect or r.ignore else r.model_copy(update=own) for r in drawing.regions)
        if any(not r.defect and not r.ignore for r in regions):
            raise DatasetError(
                f"{drawing.source} does not say what is drawn, and the sample is OK",
                hint="name it with --defect, or relabel the sample first",
                code="annotation.defect",
            )
        check_regions(regions, size)
        self.table = self.table.with_names(r.defect for r in regions if r.defect)
        annotator = self.by or drawing.annotator
        new = State(regions=regions, annotator=annotator, tool=drawing.tool, utc=utc_now(), extra=drawing.extra)
        classes = class_map(new, size, self.table)
        before = read_annotation(sample)
        if before is not None and self._same(before, new, classes, drawing):
            annotation, classes = before, class_map(before, size, self.table)
        else:
            bare = annotation_of_mask(sample, sample.manifest.committed_utc) if before is None else None
            if bare is not None and not self._covers(bare, classes):
                before = bare  # so that a mask that came without an annotation is not lost
            annotation = annotation_of(new, size, before)
        areas = rasterise.areas_px(classes, self.table.index_of())
        return _Planned(annotation, classes, areas, _label_of(key, areas))

    def _same(self, before: Annotation, new: State, classes: NDArray[np.uint8], drawing: Drawing) -> bool:
        """Whether a drawing says what is stored, as far as its format can: bare masks tell no defects apart."""
        if not drawing.pixels_only:
            return facts_of(before.regions) == facts_of(new.regions) and self._covers(before, classes)
        if any(r.defect or r.ignore for r in drawing.regions):
            return self._covers(before, classes)
        stored, drawn = (rasterise.defect_mask(c) for c in (class_map(before, before.size, self.table), classes))
        return stored is not None and drawn is not None and np.array_equal(stored, drawn)

    def _covers(self, before: Annotation, classes: NDArray[np.uint8]) -> bool:
        return np.array_equal(class_map(before, before.size, self.table), classes)

    def _relabelled(self, writer: DatasetWriter, key: SampleKey, planned: _Planned, source: str) -> SampleKey:
        now = writer.relabel(key, planned.label, by=self.by, reason=f"annotation of {source}"[:500])
        self.names.relabelled(key, now)
        self.done[now] = source
        return now


def _label_of(key: SampleKey, areas: dict[str, int]) -> str:
    """The label that what is drawn speaks for: the sample's own if that is drawn, else the largest defect's."""
    return key.label if key.label in areas or not areas else max(sorted(areas), key=lambda d: areas[d])


def _remark(key: SampleKey, moves: bool, planned: _Planned) -> str:
    """What people should look at: labels and drawings that do not agree."""
    drawn = ", ".join(sorted(planned.areas))
    if moves:
        return f"relabelled as {planned.label}"
    if key.is_ok and planned.areas:
        return (
            f"the sample is OK, so this is kept as a proposal without a mask; --relabel makes it {planned.label}, "
            "now or when it is approved"
        )
    if planned.areas and key.label not in planned.areas:
        return f"the sample is labelled {key.label}, but shows {drawn}; --relabel makes it {planned.label}"
    others = sorted(set(planned.areas) - {key.label})
    return f"beside {key.label} it shows {', '.join(others)}" if others else ""


# ------------------------------------------------------------------------------------------------------------------ review
def review_samples(
    dataset: Dataset,
    keys: Iterable[SampleKey],
    state: ReviewState,
    *,
    by: str = "",
    note: str = "",
    relabel: bool = False,
) -> Iterator[Outcome]:
    """Set the state of the annotations of samples. Approving defects on an OK sample needs ``relabel``.

    What cannot be done is told in its outcome, and the others go on. Raises as :func:`import_drawings`.
    """
    with dataset.writer() as writer:
        for key in keys:
            try:
                yield _review(dataset, writer, key, state, by, note, relabel)
            except StorageError:
                raise
            except RakelightError as e:
                yield Outcome(str(key), "refused", str(key), note=f"{key}: {e.message}", hint=e.hint)


def _review(
    dataset: Dataset, writer: DatasetWriter, key: SampleKey, state: ReviewState, by: str, note: str, relabel: bool
) -> Outcome:
    sample = OpenSample(dataset.root, key)
    annotation = stored_annotation(sample)
    if annotation is None:
        raise DatasetError(
            "it has no annotation to review",
            hint="draw one and import it with `rakelight dataset label import`",
            code="annotation.missing",
        )
    table = read_defects(dataset.root).with_names(r.defect for r in annotation.regions if r.defect)
    classes = class_map(annotation, annotation.size, table)
    areas = rasterise.areas_px(classes, table.index_of())
    label = _label_of(key, areas)
    now = key
    if key.is_ok and areas and state == "approved" and not relabel:
        raise DatasetError(
            f"the sample is OK, but {', '.join(sorted(areas))} is drawn on it; OK samples have no mask",
            hint=f"--relabel makes it {label}; or set the state rejected",
            code="annotation.on_ok",
        )
    latest = annotation.review
    moves = relabel and state == "approved" and label != key.label
    if (latest.state, latest.by, latest.note) != (state, by, note):
        annotation = reviewed(annotation, Review(state=state, by=by, note=note))
    if not moves and stands(sample, annotation, classes):
        return Outcome(str(key), "unchanged", str(key), defect_px=areas)
    keep_defects(dataset.root, table)
    if moves:
        now = writer.relabel(key, label, by=by, reason=f"annotation approved: {note}"[:500].rstrip(": "))
    _store(writer, now, annotation, classes)
    return Outcome(str(key), "reviewed", str(now), "" if now == key else str(key), areas)


# ------------------------------------------------------------------------------------------------------------------ shared
def stored_annotation(sample: OpenSample) -> Annotation | None:
    """The annotation of a sample, or its bare mask as one; None if it has neither. Raises :class:`DatasetError`."""
    found = read_annotation(sample)
    return annotation_of_mask(sample, sample.manifest.committed_utc) if found is None else found


def products(
    key: SampleKey, annotation: Annotation, classes: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Mask and map of classes that a sample is to have beside its annotation; None for what it is not to have."""
    if not annotation.in_force:
        return None, None
    mask = rasterise.defect_mask(classes)
    if key.is_ok:  # ignored pixels alone may stand there: they say nothing of a defect
        return None, None if mask is not None else classes
    return mask, classes


def stands(sample: OpenSample, annotation: Annotation, classes: NDArray[np.uint8]) -> bool:
    """Whether the sample holds this annotation, and the mask and classes that follow from it."""
    if read_annotation(sample) != annotation:
        return False
    wanted = products(sample.key, annotation, classes)
    stored = (sample.mask(), sample.image(layout.CLASSES_FILE))
    return all(
        (w is None and s is None) or (w is not None and s is not None and np.array_equal(w, s))
        for w, s in zip(wanted, stored, strict=True)
    )


def picture_size(sample: OpenSample) -> tuple[int, int]:
    """(H, W) of RGBL05; raises :class:`DatasetError` if it has none."""
    manifest = sample.manifest
    if manifest.height is not None and manifest.width is not None:
        return manifest.height, manifest.width
    picture = sample.image("RGBL05")
    if picture is None:
        raise DatasetError("it has no RGBL05 to draw on", hint="run `rakelight dataset verify`", code="dataset.views")
    return picture.shape[0], picture.shape[1]


def check_size(drawing: Drawing, size: tuple[int, int]) -> None:
    """Refuse a drawing that was made on a picture of another size; raises :class:`DatasetError` (``annotation.size``)."""
    if drawing.size is not None and drawing.size != size:
        (height, width), (h, w) = drawing.size, size
        raise DatasetError(
            f"{drawing.source} was drawn on a picture of {width} × {height} px; RGBL05 has {w} × {h}",
            hint="draw on the full-size picture: `rakelight dataset label export` hands it out",
            code="annotation.size",
        )


def _store(writer: DatasetWriter, key: SampleKey, annotation: Annotation, classes: NDArray[np.uint8]) -> None:
    mask, stored = products(key, annotation, classes)
    writer.annotate(key, annotation.to_dict(), mask, stored)
