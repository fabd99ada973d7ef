"""A face turned on a lathe, with holes drilled through its grooves.

The face is meshed groove by groove, so that no facet spans a cusp: a regular polar grid away from the holes, and
around each hole a Delaunay triangulation in (r, θ) that holds the hole's rim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from rakelight.acquisition.simulator.outlines import Arc, Point, sample
from rakelight.acquisition.simulator.shapes import MAX_EDGE_MM, grid_triangles, segments_around
from rakelight.acquisition.simulator.solid import FloatArray, Mesh, merged
from rakelight.errors import InputError

_ROW_MM = 0.04  # between rows of a groove: where the rim takes a row's place, facets stay true
_APART_MM = 0.012  # grid points nearer to a rim than this give way to it


@dataclass(frozen=True, eq=False)
class DrilledFace:
    """The face left standing; of each hole the wall, and the plug: the piece of the face that the drill took."""

    face: Mesh
    walls: tuple[Mesh, ...]
    plugs: tuple[Mesh, ...]


@dataclass(frozen=True, eq=False)
class _Rim:
    """A hole's edge: points (N, 2) in mm, their distance r from the axis and their angle, and the grid columns around."""

    centre: FloatArray
    radius_mm: float
    points: FloatArray
    r: FloatArray
    theta: FloatArray
    columns: NDArray[np.int_]


def drilled_face(grooves: Sequence[Arc], holes: Sequence[tuple[Point, float]], floor_mm: float) -> DrilledFace:
    """Drill upright through-holes into a turned face.

    Parameters
    ----------
    grooves : sequence of Arc
        From `turned_grooves`, the outermost first.
    holes : sequence of (centre, radius), mm
        They must lie within the face, apart from each other, and not over the axis.
    floor_mm : float
        Where the walls end.

    Raises
    ------
    InputError
        If a hole does not fit.
    """
    bands = [(sample(groove, _ROW_MM).points, groove) for groove in grooves]
    cusps = np.array([bands[0][0][0, 0], *(points[-1, 0] for points, _ in bands)])
    step = 2 * math.pi / segments_around(float(cusps[0]))
    rims = [_rim(centre, radius, cusps, step) for centre, radius in holes]
    taken = np.concatenate([r.columns[:-1] for r in rims]) % round(2 * math.pi / step) if rims else np.zeros(0, int)
    if len(np.unique(taken)) < len(taken):
        raise InputError(
            "two holes in the turned face lie in one sector; allowed: holes beside each other",
            hint="move the holes apart",
            code="simulate.shape",
        )
    face: list[Mesh] = []
    plugs: list[list[Mesh]] = [[] for _ in rims]
    for points, groove in bands:
        face.append(_grid(points[:, 0], groove, step, taken))
        for rim, plug in zip(rims, plugs, strict=True):
            outside, inside = _patch(points[:, 0], groove, step, rim)
            face.append(outside)
            plug.append(inside)
    walls = tuple(_wall(rim, grooves, cusps, floor_mm) for rim in rims)
    return DrilledFace(merged(face), walls, tuple(merged(plug) for plug in plugs))


def _rim(centre: Point, radius_mm: float, cusps: FloatArray, step: float) -> _Rim:
    """Sample a hole's edge; points where it crosses a cusp at R lie at cos φ = (R² − D² − ρ²) / 2Dρ from its outward way."""
    distance, towards = math.hypot(*centre), math.atan2(centre[1], centre[0])
    if not (distance - radius_mm > cusps[-1] + 0.1 and distance + radius_mm < cusps[0] - 0.1):
        raise InputError(
            f"hole at {distance:.4g} mm from the axis with radius {radius_mm:.4g} mm leaves the turned face; "
            f"allowed: within {cusps[-1] + 0.1:.4g} to {cusps[0] - 0.1:.4g} mm",
            hint="move the hole or make it smaller",
            code="simulate.shape",
        )
    cosine = (cusps**2 - distance**2 - radius_mm**2) / (2 * distance * radius_mm)
    met = np.abs(cosine) < 1
    crossing = np.concatenate([np.arccos(cosine[met]), -np.arccos(cosine[met])])
    count = 2 * segments_around(radius_mm)
    even = (np.arange(count) + 0.5) * (2 * math.pi / count) - math.pi
    nearest = np.abs(even[:, None] - crossing).min(axis=1, initial=math.inf)
    even = even[nearest > 0.6 * math.pi / count]
    phi = np.concatenate([crossing, even])
    order = np.argsort(phi)
    points = centre + radius_mm * np.stack([np.cos(phi + towards), np.sin(phi + towards)], axis=1)
    r = np.hypot(points[:, 0], points[:, 1])
    r[: len(crossing)] = np.tile(cusps[met], 2)
    theta = towards + np.arctan2(radius_mm * np.sin(phi), distance + radius_mm * np.cos(phi))
    half = math.asin(radius_mm / distance) + 2.5 * step
    columns = np.arange(math.floor((towards - half) / step), math.ceil((towards + half) / step) + 1)
    return _Rim(np.array(centre), radius_mm, points[order], r[order], theta[order], columns)


def _on_groove(xy: FloatArray, r: FloatArray, groove: Arc) -> tuple[FloatArray, FloatArray]:
    """Points (N, 3) of a scallop over (x, y), and its normals: towards the middle of the arc."""
    off = r - groove.centre[0]
    deep = np.sqrt(groove.radius_mm**2 - off**2)
    radial = xy / np.hypot(xy[:, 0], xy[:, 1])[:, None]
    vertices = np.concatenate([xy, (groove.centre[1] - deep)[:, None]], axis=1)
    normals = np.concatenate([-off[:, None] * radial, deep[:, None]], axis=1) / groove.radius_mm
    return vertices, normals


def _polar(r: FloatArray, columns: FloatArray, step: float) -> tuple[FloatArray, FloatArray]:
    """Grid points (rows · columns, 2) and their r. Columns count modulo a turn, so that neighbours agree to the bit."""
    theta = columns % round(2 * math.pi / step) * step
    xy = r[:, None, None] * np.stack([np.cos(theta), np.sin(theta)], axis=1)
    return xy.reshape(-1, 2), np.repeat(r, len(columns))


def _grid(r: FloatArray, groove: Arc, step: float, taken: NDArray[np.int_]) -> Mesh:
    around = round(2 * math.pi / step)
    vertices, normals = _on_groove(*_polar(r, np.arange(around, dtype=np.float64), step), groove)
    cells = grid_triangles(len(r), around).reshape(len(r) - 1, around, 6)
    return _used(vertices, normals, np.delete(cells, taken, axis=1).reshape(-1, 3))


def _patch(r: FloatArray, groove: Arc, step: float, rim: _Rim) -> tuple[Mesh, Mesh]:
    """One groove in the sector of a hole: what lies outside the rim and what lies inside."""
    columns = np.arange(2 * rim.columns[0], 2 * rim.columns[-1] + 1) / 2  # twice as dense, against thin facets
    xy, grid_r = _polar(r, columns, step)
    theta = np.tile(columns * step, len(r))
    free = np.abs(np.hypot(*(xy - rim.centre).T) - rim.radius_mm) > _APART_MM
    high, low = r[0] + 1e-9, r[-1] - 1e-9
    mine = (rim.r <= high) & (rim.r >= low)
    xy = np.concatenate([rim.points[mine], xy[free]])
    all_r = np.concatenate([np.clip(rim.r[mine], r[-1], r[0]), grid_r[free]])
    flat = np.stack([all_r, np.concatenate([rim.theta[mine], theta[free]]) * r.mean()], axis=1)
    triangles = Delaunay(flat).simplices
    a, b, c = (flat[triangles[:, k]] for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles[area < 0] = triangles[area < 0][:, ::-1]
    triangles = triangles[np.abs(area) > 1e-12]
    _check_rim(triangles, np.flatnonzero(mine), len(rim.r), rim)
    inside = np.hypot(*(xy[triangles].mean(axis=1) - rim.centre).T) < rim.radius_mm
    vertices, normals = _on_groove(xy, all_r, groove)
    return _used(vertices, normals, triangles[~inside]), _used(vertices, normals, triangles[inside])


def _used(vertices: FloatArray, normals: FloatArray, triangles: NDArray[np.integer[Any]]) -> Mesh:
    """A mesh of only those vertices that its triangles need."""
    used, index = np.unique(triangles, return_inverse=True)
    return Mesh(vertices[used], normals[used], index.reshape(-1, 3).astype(np.int32))


def _check_rim(triangles: NDArray[np.int_], rim_index: NDArray[np.int_], count: int, rim: _Rim) -> None:
    """No facet may join a point inside the rim with one outside: every edge of the rim must be there."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    found = set(map(tuple, edges[edges[:, 1] < len(rim_index)].tolist()))
    place = {int(k): n for n, k in enumerate(rim_index)}
    for k, n in place.items():
        other = place.get((k + 1) % count)
        if other is not None and (min(n, other), max(n, other)) not in found and abs(k - (k + 1) % count) == 1:
            raise InputError(
                f"the turned face cannot be triangulated round the hole at ({rim.centre[0]:.4g}, {rim.centre[1]:.4g}) mm",
                hint="change the hole's radius by a few hundredths of a millimetre",
                code="simulate.shape",
            )


def _wall(rim: _Rim, grooves: Sequence[Arc], cusps: FloatArray, floor_mm: float) -> Mesh:
    """The bore, from the grooves down to the floor; its normals look to its axis."""
    band = np.clip(np.searchsorted(-cusps, -rim.r) - 1, 0, len(grooves) - 1)
    centres, noses = np.array([g.centre for g in grooves])[band], np.array([g.radius_mm for g in grooves])[band]
    top = centres[:, 1] - np.sqrt(noses**2 - (rim.r - centres[:, 0]) ** 2)
    count = len(rim.r)
    rows = 1 + math.ceil((float(top.max()) - floor_mm) / (0.9 * MAX_EDGE_MM))
    z = top + np.linspace(0, 1, rows)[:, None] * (floor_mm - top)
    vertices = np.column_stack([np.tile(rim.points, (rows, 1)), z.ravel()])
    level = (rim.centre - rim.points) / rim.radius_mm
    normals = np.tile(np.column_stack([level, np.zeros(count)]), (rows, 1))
    return Mesh(vertices, normals, grid_triangles(rows, count))
