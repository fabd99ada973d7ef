"""Samples handed out to drawing programs: pictures with what is drawn on them so far, as LabelMe, COCO (CVAT) or masks;
and labelled points.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from rakelight.dataset import images
from rakelight.dataset.annotations import Annotation, State, annotation_of, class_map
from rakelight.dataset.coco import coco_document
from rakelight.dataset.defect_points import cloud_points, write_labelled_points
from rakelight.dataset.defects import read_defects
from rakelight.dataset.drawings import IGNORE_LABEL, label_of
from rakelight.dataset.labelling import picture_size, stored_annotation
from rakelight.dataset.labelme import labelme_document
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.opened import OpenSample
from rakelight.dataset.rasterise import defect_mask
from rakelight.dataset.writer import Dataset
from rakelight.errors import DatasetError
from rakelight.files import json_bytes, make_folder, write_bytes

ExportFormat = Literal["labelme", "coco", "png", "points"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
COCO_FILE = "annotations/instances_default.json"  # as CVAT names it
_COCO_PICTURES = "images"


@dataclass
class Exported:
    """What :func:`export_labels` did: samples handed out, files kept since they differ, samples left out and why."""

    samples: int = 0
    kept: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def export_labels(
    dataset: Dataset,
    keys: Iterable[SampleKey],
    folder: Path,
    form: ExportFormat,
    *,
    reference: bool = False,
    masks: str = "polygon",
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write files for a drawing program below ``folder``; a file there that differs is somebody's work and stays.

    Parameters
    ----------
    reference : bool
        Name the data set's pictures instead of copying them (LabelMe).
    masks : "polygon" or "mask"
        As for :func:`labelme.labelme_document`.
    overwrite : bool
        Replace files that differ.

    Raises
    ------
    DatasetError
        The table of defects is damaged. A damaged sample is left out and told.
    StorageError
        The disk is full or cannot be written.
    """
    job = _Job(dataset, make_folder(folder), form, reference, masks, overwrite)
    for key in keys:
        progress(str(key))
        try:
            job.sample(OpenSample(dataset.root, key))
        except DatasetError as e:
            job.done.left_out[str(key)] = e.message
    job.finish()
    return job.done


class _Job:
    def __init__(
        self, dataset: Dataset, folder: Path, form: ExportFormat, reference: bool, masks: str, overwrite: bool
    ) -> None:
        self.folder, self.form, self.reference, self.masks, self.overwrite = folder, form, reference, masks, overwrite
        self.table = read_defects(dataset.root)
        self.coco: list[tuple[str, str, Annotation]] = []
        self.done = Exported()

    def sample(self, sample: OpenSample) -> None:
        picture = sample.path("RGBL05")
        if picture is None:
            raise DatasetError("it has no RGBL05", code="dataset.views")
        if self.form == "points":
            self._points(sample, picture)
            return
        found = stored_annotation(sample)
        annotation = annotation_of(State(regions=()), picture_size(sample)) if found is None else found
        if self.form == "png":
            self._mask(annotation, picture)
        elif self.form == "coco":
            self._copy(sample, f"{_COCO_PICTURES}/{picture.name}")
            self.coco.append((picture.name, str(sample.key), annotation))
        else:
            name = os.path.relpath(picture, self.folder) if self.reference else picture.name
            if not self.reference:
                self._copy(sample, picture.name)
            document = labelme_document(annotation, Path(name).as_posix(), sample.key, masks=self.masks)
            self._put(f"{picture.stem}.json", json_bytes(document))
        self.done.samples += 1

    def _mask(self, annotation: Annotation, picture: Path) -> None:
        table = self.table.with_names(r.defect for r in annotation.regions if r.defect)
        mask = defect_mask(class_map(annotation, annotation.size, table))
        if mask is None:
            raise DatasetError("nothing is drawn on it", code="annotation.missing")
        self._put(f"{picture.stem}.png", images.encode_png(mask))

    def _points(self, sample: OpenSample, picture: Path) -> None:
        labelled = cloud_points(sample)
        make_folder(self.folder)
        target = self.folder / f"{picture.stem.replace('RGBL05', 'PCD')}.txt"
        write_labelled_points(target, labelled.xyz, labelled.classes)
        self.done.samples += 1

    def finish(self) -> None:
        if self.form == "coco":
            names = set(self.table.defects) | {label_of(r) for _, _, a in self.coco for r in a.regions}
            self._put(COCO_FILE, json_bytes(coco_document(self.coco, [*sorted(names - {IGNORE_LABEL}), IGNORE_LABEL])))

    def _put(self, name: str, data: bytes | memoryview) -> None:
        path = self.folder / name
        make_folder(path.parent)
        if path.exists():
            if path.read_bytes() == bytes(data):
                return
            if not self.overwrite:
                self.done.kept.append(name)
                return
        write_bytes(path, data)

    def _copy(self, sample: OpenSample, name: str) -> None:
        """The picture, compared with its hash; an older copy of it is replaced: nobody draws into pictures."""
        target = self.folder / name
        data = sample.read("RGBL05")
        assert data is not None  # there is a record of it
        if not target.is_file() or target.read_bytes() != data:
            make_folder(target.parent)
            write_bytes(target, data)
