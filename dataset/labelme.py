"""LabelMe JSON files (versions 4 to 7): one a picture, with the picture beside it.

LabelMe counts coordinates from the corner of the first pixel, so they are larger by one half than ours. Unknown keys of the
file and of its shapes survive a save in LabelMe; so our facts travel under the key ``rakelight``, and the keys of other
programs are kept and given back. ``flags`` may only hold true or false and are kept as they are.

=====================  ====================================================================================
LabelMe                here
=====================  ====================================================================================
polygon                polygon; holes, which LabelMe does not have, go along a line there and back
oriented_rectangle     polygon
rectangle, circle      the same
line, linestrip        line; width under ``rakelight``, else as told (LabelMe's own is 10 px)
mask                   mask: a PNG in base64, in a box of two points, the last of them inside
point, points          refused: they have no area
=====================  ====================================================================================
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import images
from rakelight.dataset.annotations import Annotation, Region
from rakelight.dataset.contours import outlines
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
from rakelight.dataset.layout import SampleKey
from rakelight.dataset.shapes import (
    CORNER_PX,
    Circle,
    Line,
    MaskShape,
    Polygon,
    Rectangle,
    keyhole,
    mask_shape,
    shifted,
    split_keyhole,
)
from rakelight.errors import DatasetError
from rakelight.files import read_json

MOST_POINTS = 20_000  # a mask whose outlines have more goes to LabelMe as a mask, not as polygons
_VERSION = "5.5.0"  # the format written
_KEYS = {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", OURS}
_SHAPE_KEYS = {"label", "points", "group_id", "description", "shape_type", "flags", "mask", OURS}
_MAX_BYTES = 512 << 20  # the picture may be in it, in base64


def read_labelme(path: Path, options: ReadOptions) -> Drawing:
    """The drawing of a LabelMe file; raises :class:`DatasetError` naming the shape that cannot be used."""
    data = read_json(path, error=DatasetError, max_bytes=_MAX_BYTES)
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise bad_file(path, "it has no list of shapes, so it is no LabelMe file")
    ours = our_table(data)
    size = _size(path, data)
    regions = [_region(s, options, size, f"{path}, shape {n}") for n, s in enumerate(data["shapes"], 1)]
    names = [data.get("imagePath"), path.name, ours.get("sample")]
    extra = {k: v for k, v in data.items() if k not in _KEYS}
    if isinstance(data.get("flags"), dict) and data["flags"]:
        extra["flags"] = data["flags"]
    return Drawing(
        source=str(path),
        names=tuple(PureWindowsPath(n).as_posix() for n in names if isinstance(n, str) and n),
        size=size,
        regions=tuple(regions),
        annotator=str(ours.get("annotator", ""))[:200],
        tool=f"labelme {str(data.get('version') or '')[:40]}".strip(),
        extra=extra,
    )


def _size(path: Path, data: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = data.get("imageHeight"), data.get("imageWidth")
    if height is None or width is None:
        return None
    if not all(type(x) is int and 0 < x <= 65_536 for x in (height, width)):
        raise bad_file(path, f"imageHeight is {height!r:.40}, imageWidth {width!r:.40}; needed: whole numbers above 0")
    return height, width


def _region(shape: Any, options: ReadOptions, size: tuple[int, int] | None, what: str) -> Region:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise bad_file(what, "it has no label")
    ours = our_table(shape)
    facts = taken_facts(ours) | {"note": shape.get("description") or "", "group": shape.get("group_id")}
    extra = {k: v for k, v in shape.items() if k not in _SHAPE_KEYS}
    if shape.get("flags"):
        extra["flags"] = shape["flags"]
    width_px = ours.get("width_px", options.line_width_px)
    return make_region(shape["label"], _shape(shape, width_px, what), facts | {"extra": extra}, options, what)


def _shape(shape: Mapping[str, Any], width_px: Any, what: str) -> dict[str, Any]:
    kind = str(shape.get("shape_type") or "polygon")
    if kind == "mask":
        return _mask(shape, what)
    points = _points(shape.get("points"), what) - CORNER_PX
    wanted = {"rectangle": 2, "circle": 2, "line": 2, "oriented_rectangle": 4}.get(kind)
    if wanted is not None and len(points) != wanted:
        raise bad_file(what, f"a {kind} has {wanted} points, this one {len(points)}")
    match kind:
        case "polygon" | "oriented_rectangle":
            first, *holes = split_keyhole(points)
            return {"kind": "polygon", "points": shifted(first, 0), "holes": [shifted(h, 0) for h in holes]}
        case "rectangle":
            return {"kind": "rectangle", "points": shifted(points, 0)}
        case "circle":
            centre = (float(points[0, 0]), float(points[0, 1]))
            return {"kind": "circle", "centre": centre, "radius_px": math.hypot(*(points[1] - points[0]))}
        case "line" | "linestrip":
            return {"kind": "line", "points": shifted(points, 0), "width_px": width_px}
        case "point" | "points":
            raise bad_file(what, f"a {kind} has no area", "draw a polygon or a circle instead")
    raise bad_file(what, f"its shape_type {kind[:40]!r} is not known", "draw it as a polygon")


def _points(value: Any, what: str) -> NDArray[np.float64]:
    try:
        points = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise bad_file(what, f"its points are not numbers: {e}") from e
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise bad_file(what, f"its points have shape {points.shape}; needed: pairs of numbers")
    return points


def _mask(shape: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The PNG tells the extent; the box must begin at a pixel and agree with it to one pixel."""
    points = _points(shape.get("points"), what)
    text = shape.get("mask")
    if points.shape != (2, 2) or not isinstance(text, str):
        raise bad_file(what, "a mask has two points and a PNG in base64")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise bad_file(what, f"its mask is no base64: {e}") from e
    pixels = images.read_image(Path(f"{what}, mask.png"), data=data)
    if pixels.ndim != 2:
        raise bad_file(what, f"its mask has shape {pixels.shape}; needed: one channel")
    left, top = (round(x) for x in points.min(axis=0))
    spans = np.abs(points[1] - points[0]) + 1
    if np.abs(spans - pixels.shape[::-1]).max() > 1 or left < 0 or top < 0:
        height, width = pixels.shape
        raise bad_file(
            what, f"its mask has {width} × {height} px, its box {spans[0]:g} × {spans[1]:g} from {left}, {top}"
        )
    found = mask_shape(pixels > 0, left, top)
    if found is None:
        raise DatasetError(f"{what}: its mask is empty", hint="delete the shape", code="annotation.empty")
    return found.model_dump()


def labelme_document(
    annotation: Annotation, image_path: str, key: SampleKey, *, masks: str = "polygon"
) -> dict[str, Any]:
    """The LabelMe file of an annotation, as plain data.

    Parameters
    ----------
    image_path : str
        The picture, relative to the file.
    masks : "polygon" or "mask"
        How regions drawn pixel by pixel go out: as outlines along the edges of pixels, which can be edited, or as masks.
    """
    extra = dict(annotation.extra)
    ours: dict[str, Any] = {"sample": str(key), "annotator": annotation.annotator}
    return {
        "version": _VERSION,
        "flags": extra.pop("flags", {}),
        "shapes": [s for region in annotation.regions for s in _shapes(region, masks)],
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": annotation.height,
        "imageWidth": annotation.width,
        OURS: ours,
        **extra,
    }


def _shapes(region: Region, masks: str) -> list[dict[str, Any]]:
    """The shape of a region; several polygons of one drawn as a mask."""
    facts = our_facts(region)
    if isinstance(region.shape, Line):
        facts["width_px"] = region.shape.width_px
    extra = dict(region.extra)
    flags = extra.pop("flags", {})
    common = {
        **extra,  # first: keys of other programs replace none of LabelMe's
        "label": label_of(region),
        "group_id": region.group,
        "description": region.note,
        "flags": flags if isinstance(flags, dict) else {},
        **({OURS: facts} if facts else {}),
    }
    return [common | form for form in _forms(region, masks)]


def _forms(region: Region, masks: str) -> list[dict[str, Any]]:
    def form(
        kind: str, points: NDArray[np.float64], png: str | None = None, by_px: float = CORNER_PX
    ) -> dict[str, Any]:
        return {"shape_type": kind, "points": [list(p) for p in shifted(points, by_px)], "mask": png}

    match region.shape:
        case Polygon() as shape:
            return [form("polygon", keyhole(shape.rings()))]
        case Rectangle() as shape:
            return [form("rectangle", np.array(shape.points))]
        case Circle(centre=(u, v), radius_px=radius):
            return [form("circle", np.array([(u, v), (u + radius, v)]))]
        case Line() as shape:
            return [form("linestrip", np.array(shape.points))]
        case MaskShape() as shape:
            pixels = shape.pixels()
            if masks == "polygon":
                areas = outlines(pixels, shape.left, shape.top)
                if sum(len(ring) for rings in areas for ring in rings) <= MOST_POINTS:
                    return [form("polygon", keyhole(rings)) for rings in areas]
            box = np.array([(shape.left, shape.top), (shape.left + shape.width - 1, shape.top + shape.height - 1)])
            png = base64.b64encode(images.encode_png(pixels.view(np.uint8) * np.uint8(255))).decode("ascii")
            return [form("mask", box.astype(np.float64), png, 0.0)]
