"""The shapes in which regions of a picture are drawn, as plain data.

Coordinates are pixels (u right, v down) of the picture RGBL05 with pixel centres at integers (docs/conventions.md). Drawing
programs count from the corner of the first pixel instead, so that theirs are larger by one half: :func:`shifted` converts.
Coordinates are kept to a millionth of a pixel, so that a conversion there and back changes nothing. Which pixels a shape
covers is said in :mod:`rakelight.dataset.rasterise`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from rakelight.config import Model

CORNER_PX = 0.5  # what programs that count from the corner of the first pixel (LabelMe, CVAT, COCO) have more
MAX_POINTS = 200_000  # of one ring
MAX_LINE_POINTS = 10_000
_MAX_COORDINATE = 1e5
_MAX_SIDE = 65_536
_MAX_PIXELS = 1 << 28
_RUNS = re.compile(r"[0-9]{1,10}( [0-9]{1,10})*")

Coordinate = Annotated[
    float, Field(ge=-_MAX_COORDINATE, le=_MAX_COORDINATE), AfterValidator(lambda x: round(x, 6) + 0.0)
]
Point = tuple[Coordinate, Coordinate]
Length = Annotated[float, Field(gt=0, le=_MAX_COORDINATE), AfterValidator(lambda x: round(x, 6))]
Ring = Annotated[tuple[Point, ...], Field(min_length=3, max_length=MAX_POINTS)]


class Polygon(Model):
    """A closed line of ``points`` (the last is joined to the first) and further rings; what is inside is even-odd.

    ``holes`` are rings like the first one: what an even number of rings surrounds is outside.
    """

    kind: Literal["polygon"] = "polygon"
    points: Ring
    holes: tuple[Ring, ...] = ()

    def rings(self) -> list[NDArray[np.float64]]:
        """Every ring as (N, 2) float64."""
        return [np.array(ring, np.float64) for ring in (self.points, *self.holes)]


class Rectangle(Model):
    """Upright, given by two opposite corners."""

    kind: Literal["rectangle"] = "rectangle"
    points: tuple[Point, Point]

    def ring(self) -> NDArray[np.float64]:
        """Its four corners, (4, 2) float64."""
        (u1, v1), (u2, v2) = self.points
        return np.array([(u1, v1), (u2, v1), (u2, v2), (u1, v2)], np.float64)


class Circle(Model):
    kind: Literal["circle"] = "circle"
    centre: Point
    radius_px: Length


class Line(Model):
    """A broken line of some width with round joints and ends, for scratches and hairs."""

    kind: Literal["line"] = "line"
    points: Annotated[tuple[Point, ...], Field(min_length=2, max_length=MAX_LINE_POINTS)]
    width_px: Length


class MaskShape(Model):
    """Pixels one by one, inside a box: rows ``top`` … ``top + height − 1``, columns ``left`` … ``left + width − 1``.

    ``runs`` holds the lengths of runs along the rows of the box, one row after the other (row-major), as decimal numbers
    joined by blanks: pixels outside, inside, outside … in turn; it begins with those outside, which may be 0. Their sum
    is width · height.
    """

    kind: Literal["mask"] = "mask"
    left: int = Field(ge=0, le=_MAX_SIDE)
    top: int = Field(ge=0, le=_MAX_SIDE)
    width: int = Field(ge=1, le=_MAX_SIDE)
    height: int = Field(ge=1, le=_MAX_SIDE)
    runs: str

    @model_validator(mode="after")
    def _runs_fill_the_box(self) -> MaskShape:
        if not _RUNS.fullmatch(self.runs):
            raise ValueError(f"runs is {self.runs[:40]!r}; needed: whole numbers joined by blanks")
        if self.width * self.height > _MAX_PIXELS:
            raise ValueError(f"the box {self.width} × {self.height} holds more than {_MAX_PIXELS} pixels")
        total = sum(map(int, self.runs.split()))
        if total != self.width * self.height:
            raise ValueError(f"runs holds {total} pixels, the box {self.width} × {self.height}")
        return self

    def pixels(self) -> NDArray[np.bool_]:
        """(height, width) bool."""
        runs = np.array(self.runs.split(), np.int64)
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(self.height, self.width)


Shape = Annotated[Polygon | Rectangle | Circle | Line | MaskShape, Field(discriminator="kind")]


def mask_shape(pixels: NDArray[np.bool_], left: int = 0, top: int = 0) -> MaskShape | None:
    """The pixels that are set in (h, w) bool, whose first one lies at column ``left`` and row ``top``; None if none is."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    flat = inside.ravel()
    changes = np.flatnonzero(np.diff(flat.view(np.uint8), prepend=np.uint8(0)))
    runs = np.diff(changes, prepend=0, append=flat.size)
    return MaskShape(
        left=left + int(columns[0]),
        top=top + int(rows[0]),
        width=inside.shape[1],
        height=inside.shape[0],
        runs=" ".join(map(str, runs.tolist())),
    )


def shifted(points: NDArray[np.float64], by_px: float) -> list[Point]:
    """(N, 2) points, each coordinate moved by ``by_px``, as the models take them."""
    return [(float(u), float(v)) for u, v in np.asarray(points, np.float64) + by_px]


def keyhole(rings: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Several rings as one, for programs without holes: from the first point there and back again to each further ring.

    The way there and the way back are one line, which even-odd filling cancels: the pixels are the same to the last.
    """
    first, *others = rings
    parts = [first]
    for ring in others:
        parts += [first[:1], ring, ring[:1]]
    if others:
        parts.append(first[:1])
    return np.concatenate(parts)


def split_keyhole(ring: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Inverse of :func:`keyhole`; a ring that is not made that way comes back alone."""
    back = [n for n in range(1, len(ring)) if (ring[n] == ring[0]).all()]
    if not back or back[-1] != len(ring) - 1:
        return [ring]
    rings = [ring[: back[0]]]
    for start, end in pairwise(back):
        part = ring[start + 1 : end]
        if len(part) < 4 or not (part[0] == part[-1]).all():
            return [ring]
        rings.append(part[:-1])
    return rings if len(rings[0]) >= 3 else [ring]
