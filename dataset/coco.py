"""COCO instance files, also as CVAT exports and imports them ("COCO 1.0"): one JSON for many pictures.

Coordinates count from the corner of the first pixel, so they are larger by one half than ours. A segmentation is a list of
polygons (parts of one defect: they become regions of one group), runs as a list or packed text (see
:mod:`rakelight.dataset.coco_rle`), or absent, and then the box is the region. ``iscrowd`` only tells a mask from polygons in
CVAT's files, so it does not mean "ignore" here; draw such regions under the label ``ignore`` or give them the attribute
``ignore``. Further attributes understood: ``certainty`` (0 … 1). CVAT forgets keys it does not know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from rakelight.dataset import rasterise
from rakelight.dataset.annotations import Annotation, Region
from rakelight.dataset.coco_rle import decode_rle, encode_rle
from rakelight.dataset.drawings import (
    OURS,
    Drawing,
    ReadOptions,
    bad_file,
    label_of,
    make_region,
    our_facts,
    our_table,
    taken_facts,
)
from rakelight.dataset.shapes import CORNER_PX, Polygon, Rectangle, mask_shape, shifted
from rakelight.errors import DatasetError
from rakelight.files import read_json

_STANDARD = {"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", OURS}
_LISTS = ("images", "annotations", "categories")
_MAX_BYTES = 512 << 20


def read_coco(path: Path, options: ReadOptions) -> Iterator[Drawing | DatasetError]:
    """The drawings of a COCO file, a picture at a time; for a picture that cannot be used its error, not raised.

    Raises :class:`DatasetError` if the file itself cannot be read.
    """
    data = read_json(path, error=DatasetError, max_bytes=_MAX_BYTES)
    lists: list[Any] = [data.get(k) for k in _LISTS] if isinstance(data, dict) else [None]
    if not all(isinstance(x, list) and all(isinstance(e, dict) for e in x) for x in lists):
        raise bad_file(path, "it has no lists of images, annotations and categories, so it is no COCO file")
    pictures, drawn, categories = lists
    names = {c.get("id"): c.get("name") for c in categories if isinstance(c.get("id"), int | str)}
    of_picture: dict[Any, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, one in enumerate(drawn, 1):
        of_picture[_hashable(one.get("image_id"))].append((number, one))
    for picture in pictures:
        try:
            yield _drawing(path, picture, of_picture.pop(_hashable(picture.get("id")), []), names, options)
        except DatasetError as e:
            yield e
    if of_picture:
        number, one = next(iter(of_picture.values()))[0]
        yield bad_file(
            f"{path}, annotation {number}", f"it names image {one.get('image_id')!r:.40}, which is not listed"
        )


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | str) else None


def _drawing(
    path: Path,
    picture: Mapping[str, Any],
    drawn: list[tuple[int, dict[str, Any]]],
    names: Mapping[Any, Any],
    options: ReadOptions,
) -> Drawing:
    name, height, width = picture.get("file_name"), picture.get("height"), picture.get("width")
    what = f"{path}, {str(name)[:200]}"
    if not isinstance(name, str) or not all(type(x) is int and 0 < x <= 65_536 for x in (height, width)):
        raise bad_file(what, "an image needs a file_name, a height and a width")
    size = (int(height), int(width))  # type: ignore[arg-type]
    regions: list[Region] = []
    groups = 0
    for number, one in drawn:
        parts = list(_regions(one, size, names, options, f"{path}, annotation {number}"))
        if len(parts) > 1 and parts[0].group is None:
            groups += 1
            parts = [p.model_copy(update={"group": groups}) for p in parts]
        regions += parts
    ours = our_table(picture)
    found = [PureWindowsPath(name).as_posix(), ours.get("sample")]
    return Drawing(
        source=what,
        names=tuple(n for n in found if isinstance(n, str) and n),
        size=size,
        regions=tuple(regions),
        annotator=str(ours.get("annotator", ""))[:200],
        tool="coco",
    )


def _regions(
    one: Mapping[str, Any], size: tuple[int, int], names: Mapping[Any, Any], options: ReadOptions, what: str
) -> Iterator[Region]:
    label = names.get(_hashable(one.get("category_id")))
    if not isinstance(label, str):
        raise bad_file(what, f"its category_id {one.get('category_id')!r:.40} is not listed")
    facts = taken_facts(our_table(one)) or _attributes(one.get("attributes"))
    extra = {k: v for k, v in one.items() if k not in _STANDARD and v is not None}
    if isinstance(extra.get("attributes"), dict):  # CVAT gives every region "occluded": false
        extra["attributes"] = {k: v for k, v in extra["attributes"].items() if v}
        extra = {k: v for k, v in extra.items() if k != "attributes" or v}
    for shape in _shapes(one, size, what):
        yield make_region(label, shape, facts | {"extra": extra}, options, what)


def _attributes(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    facts: dict[str, Any] = {}
    if value.get("ignore") in (True, "true"):
        facts["ignore"] = True
    if isinstance(value.get("certainty"), int | float | str) and value["certainty"] != "":
        facts["certainty"] = value["certainty"]  # checked with the region
    return facts


def _shapes(one: Mapping[str, Any], size: tuple[int, int], what: str) -> Iterator[dict[str, Any]]:
    drawn = one.get("segmentation")
    if isinstance(drawn, Mapping):
        stated = drawn.get("size")
        pixels = decode_rle(drawn.get("counts"), stated, what)
        if pixels.shape != size:
            raise bad_file(
                what, f"its runs are for {pixels.shape[1]} × {pixels.shape[0]} px, its picture has other size"
            )
        found = mask_shape(pixels)
        if found is None:
            raise DatasetError(f"{what}: its mask is empty", hint="delete it", code="annotation.empty")
        yield found.model_dump()
    elif isinstance(drawn, list) and drawn:
        for ring in drawn:
            numbers = _numbers(ring, what)
            if len(numbers) % 2 or len(numbers) < 6:
                raise bad_file(what, f"a polygon has {len(numbers)} numbers; needed: x, y of 3 points or more")
            yield {"kind": "polygon", "points": shifted(numbers.reshape(-1, 2), -CORNER_PX)}
    else:
        box = _numbers(one.get("bbox"), what)
        if len(box) != 4:
            raise bad_file(what, "it has no segmentation and no bbox of 4 numbers")
        corners = np.array([box[:2], box[:2] + box[2:]])
        yield {"kind": "rectangle", "points": shifted(corners, -CORNER_PX)}


def _numbers(value: Any, what: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        numbers = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise bad_file(what, f"its coordinates are not numbers: {e}") from e
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise bad_file(what, "its coordinates are no plain list of numbers")
    return numbers


def coco_document(samples: Iterable[tuple[str, str, Annotation]], labels: Iterable[str]) -> dict[str, Any]:
    """A COCO file as plain data.

    Parameters
    ----------
    samples : iterable of (str, str, Annotation)
        Name of the picture, key of the sample, what is drawn on it.
    labels : iterable of str
        Categories in their order, numbered from 1.
    """
    numbers = {name: n for n, name in enumerate(labels, 1)}
    pictures: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    for name, key, annotation in samples:
        ours = {"sample": key, "annotator": annotation.annotator}
        size = {"width": annotation.width, "height": annotation.height}
        pictures.append({"id": len(pictures) + 1, "file_name": name, **size, OURS: ours})
        for parts in _grouped(annotation.regions):
            first = parts[0]
            ids = {"id": len(drawn) + 1, "image_id": len(pictures), "category_id": numbers[label_of(first)]}
            facts = our_facts(first) | first.model_dump(include={"note", "group"}, exclude_defaults=True)
            own = {OURS: facts} if facts else {}
            drawn.append(first.extra | ids | _segmentation(parts, annotation.size) | own)  # foreign keys replace none
    categories = [{"id": n, "name": name, "supercategory": ""} for name, n in numbers.items()]
    return {"licenses": [], "info": {}, "categories": categories, "images": pictures, "annotations": drawn}


def _grouped(regions: Iterable[Region]) -> list[list[Region]]:
    """Polygons that differ in nothing but their points and have a group stand together, everything else alone."""
    groups: list[list[Region]] = []
    open_groups: dict[str, list[Region]] = {}
    for region in regions:
        if region.group is None or not _is_plain(region):
            groups.append([region])
            continue
        same = str(region.model_dump(exclude={"shape"}))
        if same not in open_groups:
            groups.append(open_groups.setdefault(same, []))
        open_groups[same].append(region)
    return groups


def _is_plain(region: Region) -> bool:
    return isinstance(region.shape, Polygon) and not region.shape.holes


def _segmentation(parts: list[Region], size: tuple[int, int]) -> dict[str, Any]:
    """Polygons where the shape is one, runs of the whole picture otherwise; both cover the same pixels as ours."""
    pixels = np.zeros(size, np.bool_)
    for region in parts:
        patch = rasterise.cover(region.shape, size)
        pixels[patch.box] |= patch.inside
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    area = {"bbox": [float(x) for x in box], "area": float(np.count_nonzero(pixels))}
    shape = parts[0].shape
    if isinstance(shape, Rectangle):
        rings = [shape.ring()]
    elif _is_plain(parts[0]):
        rings = [p.shape.rings()[0] for p in parts if isinstance(p.shape, Polygon)]
    else:
        return {"segmentation": {"size": list(size), "counts": encode_rle(pixels)}, **area, "iscrowd": 1}
    polygons = [[x for point in shifted(ring, CORNER_PX) for x in point] for ring in rings]
    return {"segmentation": polygons, **area, "iscrowd": 0}
