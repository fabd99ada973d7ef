"""Which pixels a drawn shape covers: one rule, the same on every computer.

**A pixel belongs to a shape if its centre lies inside.** Inside a polygon is what a ray crosses an odd number of times
(even-odd), as LabelMe, CVAT and COCO show it: a line that crosses itself leaves holes. A centre exactly on the outline
belongs to the shape if the inside lies to the right of it, or below it: so two polygons that share an edge share no pixel and
leave none between them. A circle includes its rim; a line of some width is polygons along its pieces and circles at its points.

Crossings are computed row by row and a running exclusive-or fills between them: time grows with the box and the rows that
edges cross, not with box times points. ``cv2.fillPoly`` also colours every pixel that the outline touches, ``PIL`` rounds
its corners first; neither is what a ruler says.

Regions are painted in their order, each over the earlier ones, so the later one wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rakelight.dataset.shapes import Circle, Line, MaskShape, Polygon, Rectangle
from rakelight.errors import DatasetError

MAX_CORNERS = 1_000_000  # of all rings of one shape
MAX_CROSSINGS = 10_000_000  # of edges with rows: some 1 GB of memory, some seconds
MAX_LINE_PIXELS = 1 << 30  # of the boxes around the pieces and joints of a line: bytes of memory
IGNORE = 255  # class of pixels that neither count as defective nor as good
Size = tuple[int, int]
AnyShape = Polygon | Rectangle | Circle | Line | MaskShape


@dataclass(frozen=True, eq=False)
class Patch:
    """Pixels of a shape: ``inside`` (h, w) bool, whose first pixel is row ``top`` and column ``left`` of the picture."""

    top: int
    left: int
    inside: NDArray[np.bool_]

    @property
    def box(self) -> tuple[slice, slice]:
        """Where it lies in the picture."""
        height, width = self.inside.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def cover(shape: AnyShape, size: Size) -> Patch:
    """The pixels of a picture of ``size`` (H, W) that a shape covers; what lies beyond the picture is cut off."""
    match shape:
        case Polygon():
            return fill_rings(shape.rings(), size)
        case Rectangle():
            return fill_rings([shape.ring()], size)
        case Circle():
            return fill_circle(*shape.centre, shape.radius_px, size)
        case Line():
            return fill_line(np.array(shape.points, np.float64), shape.width_px, size)
        case MaskShape():
            inside = shape.pixels()[: max(0, size[0] - shape.top), : max(0, size[1] - shape.left)]
            return Patch(shape.top, shape.left, inside)


def fill_rings(rings: list[NDArray[np.float64]], size: Size) -> Patch:
    """Pixels inside closed rings of (N, 2) points (u, v), even-odd over all of them.

    Raises :class:`DatasetError` (``shape.too_complex``) beyond :data:`MAX_CORNERS` or :data:`MAX_CROSSINGS`.
    """
    _bounded("corners", sum(map(len, rings)), MAX_CORNERS)
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    box = _box(start.min(axis=0), start.max(axis=0), size)
    if box is None:
        return _nothing()
    top, bottom, left, right = box
    downward = (start[:, 1] <= end[:, 1])[:, None]
    upper, lower = np.where(downward, start, end), np.where(downward, end, start)  # so a shared edge is computed alike
    first, last = (np.clip(np.ceil(p[:, 1]), top, bottom).astype(np.int64) for p in (upper, lower))
    rows_each = last - first
    _bounded("crossings of edges with rows", int(rows_each.sum()), MAX_CROSSINGS)
    edge = np.repeat(np.arange(len(upper)), rows_each)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(rows_each) - rows_each, rows_each)
    (u1, v1), (u2, v2) = upper[edge].T, lower[edge].T
    crossing = u1 + (row - v1) * (u2 - u1) / (v2 - v1)
    column = np.clip(np.ceil(crossing), left, right).astype(np.int64)
    width = right - left + 1  # one more, for crossings beyond the box
    toggles = np.zeros((bottom - top) * width, np.uint8)
    np.add.at(toggles, (row - top) * width + column - left, np.uint8(1))  # only whether it is odd matters
    toggles &= 1
    filled = np.bitwise_xor.accumulate(toggles.reshape(-1, width), axis=1)
    return Patch(top, left, filled[:, :-1].view(np.bool_))


def fill_circle(u: float, v: float, radius_px: float, size: Size) -> Patch:
    """Pixels whose centre is at most ``radius_px`` from (u, v)."""
    box = _box(np.array([u - radius_px, v - radius_px]), np.array([u + radius_px, v + radius_px]) + 1, size)
    if box is None:
        return _nothing()
    top, bottom, left, right = box
    distance = (np.arange(top, bottom)[:, None] - v) ** 2 + (np.arange(left, right)[None] - u) ** 2
    return Patch(top, left, distance <= radius_px**2)


def fill_line(points: NDArray[np.float64], width_px: float, size: Size) -> Patch:
    """Pixels whose centre is no more than half of ``width_px`` from the broken line through (N, 2) points.

    Raises :class:`DatasetError` (``shape.too_complex``) beyond :data:`MAX_LINE_PIXELS`.
    """
    half = width_px / 2
    boxes = np.minimum(np.abs(np.diff(points, axis=0, append=points[-1:])) + width_px + 1, size[::-1])
    _bounded("pixels around its pieces", int(2 * boxes.prod(axis=1).sum()), MAX_LINE_PIXELS)
    patches = [fill_circle(float(u), float(v), half, size) for u, v in points]
    for a, b in pairwise(points):
        along = b - a
        if (length := math.hypot(*along)) > 0:
            aside = np.array([-along[1], along[0]]) * (half / length)
            patches.append(fill_rings([np.array([a + aside, b + aside, b - aside, a - aside])], size))
    return _united([p for p in patches if p.inside.size])


def class_map(shapes: Iterable[tuple[AnyShape, int]], size: Size) -> NDArray[np.uint8]:
    """Paint shapes with their class (1 … 254, or :data:`IGNORE`) in their order: (H, W) uint8, 0 where there is none."""
    classes = np.zeros(size, np.uint8)
    for shape, value in shapes:
        patch = cover(shape, size)
        classes[patch.box][patch.inside] = value
    return classes


def defect_mask(classes: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The defect mask of a class map: 255 where it holds a defect, 0 elsewhere and where ignored; None if it has none."""
    mask = ((classes != 0) & (classes != IGNORE)).view(np.uint8) * np.uint8(255)
    return mask if mask.any() else None


def areas_px(classes: NDArray[np.uint8], index_of: Mapping[str, int]) -> dict[str, int]:
    """Defect → its pixels in a class map, for those that have any."""
    counts = np.bincount(classes.ravel(), minlength=256)
    return {name: int(counts[index]) for name, index in index_of.items() if counts[index]}


def _bounded(what: str, count: int, most: int) -> None:
    if count > most:
        raise DatasetError(
            f"a drawn shape has {count} {what}; at most {most} can be filled",
            hint="draw it simpler, or give those pixels as a mask",
            code="shape.too_complex",
        )


def _box(low: NDArray[np.float64], high: NDArray[np.float64], size: Size) -> tuple[int, int, int, int] | None:
    """Rows top … bottom − 1 and columns left … right − 1 with centres in low ≤ (u, v) < high; None if there are none."""
    height, width = size
    left, top = (max(0, math.ceil(x)) for x in low)
    right, bottom = min(width, math.ceil(high[0])), min(height, math.ceil(high[1]))
    return (top, bottom, left, right) if top < bottom and left < right else None


def _nothing() -> Patch:
    return Patch(0, 0, np.zeros((0, 0), np.bool_))


def _united(patches: list[Patch]) -> Patch:
    if not patches:
        return _nothing()
    top, left = min(p.top for p in patches), min(p.left for p in patches)
    bottom = max(p.top + p.inside.shape[0] for p in patches)
    right = max(p.left + p.inside.shape[1] for p in patches)
    inside = np.zeros((bottom - top, right - left), np.bool_)
    for p in patches:
        inside[Patch(p.top - top, p.left - left, p.inside).box] |= p.inside
    return Patch(top, left, inside)
