"""Plane curves of lines and arcs: the profiles that are turned and the outlines that are extruded into parts.

A curve is a chain of pieces. Walking along it, the outside of the body lies to the *right*: an outer outline runs
counter-clockwise and a hole clockwise; a profile in (r, z) climbs the outer wall and ends on the axis, or falls down a
bore. Samples carry the exact normal of the curve; a corner between pieces stays a crease.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rakelight.acquisition.simulator.solid import FloatArray
from rakelight.errors import InputError

Point = tuple[float, float]

SAG_MM = 2e-4
"""A chord strays this far at most from its arc, so that a facet, curved both ways, strays less than 0.5 µm."""

TURN_RAD = math.radians(1.8)
"""The normal turns at most this much from one sample to the next."""


@dataclass(frozen=True)
class Line:
    """From ``start`` to ``end`` in mm. ``weight``: how much of a modulation acts at either end (see `revolve`)."""

    start: Point
    end: Point
    weight: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Arc:
    """Part of a circle, from one angle to the other; it turns left (bulges outward) if ``end_deg`` is the greater."""

    centre: Point
    radius_mm: float
    start_deg: float
    end_deg: float


Piece = Line | Arc


@dataclass(frozen=True, eq=False)
class Samples:
    """A sampled piece or curve.

    Attributes
    ----------
    points : (N, 2) float64
        mm.
    normals : (N, 2) float64
        Unit, to the right of the way of travel.
    weights : (N,) float64
        Of the modulation.
    weight_slope : float
        Change of the weight per mm of travel.
    """

    points: FloatArray
    normals: FloatArray
    weights: FloatArray
    weight_slope: float = 0.0


def arc_step_rad(radius_mm: float) -> float:
    """Widest angle between samples of a circle: its sagitta r·δ²/8 is `SAG_MM`, and δ at most `TURN_RAD`."""
    return min(math.sqrt(8 * SAG_MM / radius_mm), TURN_RAD)


def sample(piece: Piece, max_edge_mm: float) -> Samples:
    """Points along a piece, both ends included, no further apart than ``max_edge_mm`` and as `arc_step_rad` asks."""
    if isinstance(piece, Line):
        start, end = np.array(piece.start), np.array(piece.end)
        length = float(np.linalg.norm(end - start))
        if length == 0:
            raise InputError(
                f"line from {piece.start} to {piece.end} has no length", hint="leave it out", code="simulate.shape"
            )
        t = np.linspace(0, 1, 1 + math.ceil(length / max_edge_mm - 1e-9))
        along = (end - start) / length
        normals = np.broadcast_to([along[1], -along[0]], (len(t), 2))
        weights = piece.weight[0] + t * (piece.weight[1] - piece.weight[0])
        points = start + t[:, None] * (end - start)
        points[-1] = end
        return Samples(points, normals, weights, (piece.weight[1] - piece.weight[0]) / length)
    span = math.radians(piece.end_deg - piece.start_deg)
    step = min(arc_step_rad(piece.radius_mm), max_edge_mm / piece.radius_mm)
    angles = math.radians(piece.start_deg) + np.linspace(0, span, 1 + math.ceil(abs(span) / step - 1e-9))
    radial = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Samples(piece.centre + piece.radius_mm * radial, math.copysign(1, span) * radial, np.zeros(len(angles)))


def rounded(points: Sequence[Point], radii_mm: float | Sequence[float], *, closed: bool = False) -> tuple[Piece, ...]:
    """A polygon or polyline whose corners are rounded by tangent arcs.

    Parameters
    ----------
    points : sequence of (x, y) or (r, z)
        Corners in mm.
    radii_mm : float or one for each point
        0 leaves a sharp corner; at the ends of an open polyline they do not matter.
    closed : bool
        Whether the last point joins the first.

    Raises
    ------
    InputError
        Where two roundings need more room than the side between them has.
    """
    corners = np.array(points, float)
    count = len(corners)
    radii = np.broadcast_to(radii_mm, count).astype(float)
    ahead = np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(ahead, axis=1)
    along = ahead / np.where(lengths > 0, lengths, 1)[:, None]
    before = np.roll(along, 1, axis=0)
    turns = np.arctan2(before[:, 0] * along[:, 1] - before[:, 1] * along[:, 0], np.sum(before * along, axis=1))
    if not closed:
        turns[[0, -1]] = 0
    trims = radii * np.tan(np.abs(turns) / 2)
    pieces: list[Piece] = []
    for k in range(count if closed else count - 1):
        after = (k + 1) % count
        left = lengths[k] - trims[k] - trims[after]
        if left < -1e-9:
            raise InputError(
                f"rounding the corners {points[k]} and {points[after]} takes {trims[k] + trims[after]:.4g} mm; "
                f"allowed: up to the {lengths[k]:.4g} mm between them",
                hint="use smaller radii",
                code="simulate.shape",
            )
        start, end = corners[k] + along[k] * trims[k], corners[after] - along[k] * trims[after]
        if left > 1e-9:
            pieces.append(Line((float(start[0]), float(start[1])), (float(end[0]), float(end[1]))))
        if trims[after] > 0:
            side = math.copysign(radii[after], turns[after])
            centre = end + side * np.array([-along[k][1], along[k][0]])
            angle = math.degrees(math.atan2(*(end - centre)[::-1]))
            pieces.append(
                Arc((float(centre[0]), float(centre[1])), radii[after], angle, angle + math.degrees(turns[after]))
            )
    return tuple(pieces)


def outline(pieces: Iterable[Piece], max_edge_mm: float = 0.2) -> Samples:
    """A closed curve as one run of samples, the first not repeated at the end.

    Raises
    ------
    InputError
        If the pieces do not join, or a corner is not rounded: an extruded body has no normal there.
    """
    runs = [sample(piece, max_edge_mm) for piece in pieces]
    for this, following in zip(runs, runs[1:] + runs[:1], strict=True):
        gap = float(np.linalg.norm(following.points[0] - this.points[-1]))
        if gap > 1e-6 or float(this.normals[-1] @ following.normals[0]) < 1 - 1e-9:
            raise InputError(
                f"the outline is broken or sharp at ({this.points[-1][0]:.4g}, {this.points[-1][1]:.4g}) mm; "
                "allowed: pieces that join with a common tangent",
                hint="round the corner",
                code="simulate.shape",
            )
    return Samples(
        np.concatenate([run.points[:-1] for run in runs]),
        np.concatenate([run.normals[:-1] for run in runs]),
        np.concatenate([run.weights[:-1] for run in runs]),
    )


def rounded_rectangle(
    width_mm: float, depth_mm: float, radius_mm: float, *, centre: Point = (0.0, 0.0), hole: bool = False
) -> Samples:
    """Outline of a rectangle, width along x, with rounded corners; clockwise for a hole."""
    a, b = width_mm / 2, depth_mm / 2
    corners = [(centre[0] + x, centre[1] + y) for x, y in ((-a, -b), (a, -b), (a, b), (-a, b))]
    return outline(rounded(corners[::-1] if hole else corners, radius_mm, closed=True))


def shifted(curve: Samples, offset_mm: float) -> FloatArray:
    """(N, 2) the parallel curve, outwards if positive; the loop at which `sweep` meets a `cap`."""
    return curve.points + offset_mm * curve.normals
