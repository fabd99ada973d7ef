"""Mesh builders with exact normals: turned bodies, swept walls, flat caps with holes, and smooth warps.

A body is put together from these: an extruded plate is a `sweep` of its edge profile along its outline and a `cap`; a
round hole is a turned profile that falls. Loops that meet share their samples, so that no ray passes between. Bottoms
stay open: nothing sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree

from rakelight.acquisition.simulator.outlines import (
    TURN_RAD,
    Arc,
    Line,
    Piece,
    Point,
    Samples,
    arc_step_rad,
    sample,
    shifted,
)
from rakelight.acquisition.simulator.solid import FloatArray, Mesh, merged
from rakelight.errors import InputError

MAX_EDGE_MM = 2.0
"""Longest facet edge on flat faces."""

Displacement = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""Points (N, 3) → displacements (N, 3) in mm and their derivatives (N, 3, 3), [n, i, j] = ∂dᵢ/∂xⱼ."""


@dataclass(frozen=True)
class Flutes:
    """Upright flutes round a turned body: the radius changes by depth/2 · cos(count · θ), where the profile's weight is 1."""

    count: int
    depth_mm: float

    def at(self, angles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Change of radius in mm and its derivative by the angle."""
        a = self.depth_mm / 2
        return a * np.cos(self.count * angles), -a * self.count * np.sin(self.count * angles)

    def segments(self, radius_mm: float) -> int:
        """Facets around: the normal turns by curvature · arc, the flute's curvature being a·n²/r² + 1/r at the most."""
        least = radius_mm - self.depth_mm / 2
        curvature = self.depth_mm / 2 * (self.count / least) ** 2 + 1 / least
        step_mm = arc_step_rad(1 / curvature) / curvature
        return self.count * math.ceil(2 * math.pi * radius_mm / step_mm / self.count)


def segments_around(radius_mm: float) -> int:
    """Facets around a circle, a multiple of four so that it touches both axes."""
    return 4 * math.ceil(math.pi / 2 / arc_step_rad(radius_mm))


def _angles(segments: int) -> FloatArray:
    return np.arange(segments, dtype=np.float64) * (2 * math.pi / segments)


def ring(radius_mm: float, centre: Point = (0.0, 0.0)) -> FloatArray:
    """(N, 2) the circle as `revolve` samples it: the loop where a turned body of this greatest radius meets a `cap`."""
    angles = _angles(segments_around(radius_mm))
    return centre + radius_mm * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def grid_triangles(rows: int, columns: int) -> NDArray[np.int32]:
    """Two triangles a cell of a grid whose last column joins the first; vertices row by row, the normal being
    along × up the rows."""
    i, j = np.mgrid[: rows - 1, :columns].astype(np.int32)
    here, beside = i * columns + j, i * columns + (j + 1) % columns
    cells = np.stack([here, beside, here + columns, beside, beside + columns, here + columns], axis=-1)
    return cells.reshape(-1, 3).astype(np.int32)


def _fading_edge(piece: Piece, flutes: Flutes | None) -> float:
    """Longest edge along a line over which flutes fade: its normal turns by atan(a·n·Δw/r) in all."""
    if flutes is None or isinstance(piece, Arc) or piece.weight[0] == piece.weight[1]:
        return math.inf
    change = abs(piece.weight[1] - piece.weight[0])
    turn = math.atan(flutes.depth_mm / 2 * flutes.count * change / min(piece.start[0], piece.end[0]))
    return math.dist(piece.start, piece.end) * min(
        1.0, TURN_RAD / turn / 1.5
    )  # the normal turns the other way round too


def revolve(
    profile: Sequence[Piece],
    *,
    flutes: Flutes | None = None,
    centre: Point = (0.0, 0.0),
    max_edge_mm: float = MAX_EDGE_MM,
) -> Mesh:
    """A body turned about an upright axis.

    Parameters
    ----------
    profile : sequence of Line and Arc
        In (r, z), mm; the outside lies to the right of the way of travel.
    flutes : Flutes, optional
        Modulate the radius: ρ(s, θ) = r(s) + w(s)·m(θ), with the weight w of the profile's lines. The normal is
        ∂P/∂θ × ∂P/∂s, in the basis (radial, tangential, z): (z', −w·m'·z'/ρ, −r' − w'·m).
    centre : (x, y)
        Where the axis stands.
    max_edge_mm : float
        Longest edge along the profile.
    """
    edges = [min(max_edge_mm, _fading_edge(piece, flutes)) for piece in profile]
    pieces = [sample(piece, edge) for piece, edge in zip(profile, edges, strict=True)]
    r_max = max(float(piece.points[:, 0].max()) for piece in pieces)
    around = flutes.segments(r_max) if flutes else segments_around(r_max)
    angles = _angles(around)
    m, m_slope = flutes.at(angles) if flutes else (np.zeros(around), np.zeros(around))
    cos, sin = np.cos(angles), np.sin(angles)
    meshes = []
    for piece in pieces:
        r, z = piece.points[:, :1], piece.points[:, 1:]
        n_r, n_z = piece.normals[:, :1], piece.normals[:, 1:]
        weight = piece.weights[:, None]
        rho = r + weight * m
        tangential = -weight * m_slope * n_r / np.where(rho > 0, rho, 1)
        radial, upward = np.broadcast_to(n_r, rho.shape), n_z - piece.weight_slope * m
        normals = np.stack(
            [radial * cos - tangential * sin, radial * sin + tangential * cos, upward + 0 * rho], axis=-1
        )
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        vertices = np.stack([rho * cos + centre[0], rho * sin + centre[1], z + 0 * rho], axis=-1)
        triangles = grid_triangles(len(r), around)
        # A row on the axis is one point: of each pair of triangles there, one has no area.
        on_axis = (rho < 1e-9).ravel()[triangles].sum(axis=1) >= 2
        meshes.append(Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), triangles[~on_axis]))
    return merged(meshes)


def sweep(curve: Samples, profile: Sequence[Piece], *, max_edge_mm: float = MAX_EDGE_MM) -> Mesh:
    """The wall that a profile draws along a closed outline: P = C(u) + d(s)·n(u) + z(s)·e_z.

    Parameters
    ----------
    curve : Samples
        From `outline`; counter-clockwise round a body, clockwise round a hole.
    profile : sequence of Line and Arc
        In (d, z): offset from the outline towards the outside (into the body where negative) and height, mm.
        The outlines at equal d are parallel curves, so that the normal is n_d·n(u) + n_z·e_z exactly.
    """
    sides = np.roll(curve.points, -1, axis=0) - curve.points
    meshes = []
    for piece in (sample(p, max_edge_mm) for p in profile):
        _check_offset(curve, sides, float(piece.points[:, 0].min()))
        _check_offset(curve, sides, float(piece.points[:, 0].max()))
        d, z = piece.points[:, 0], piece.points[:, 1]
        flat = curve.points + d[:, None, None] * curve.normals
        vertices = np.concatenate([flat, np.broadcast_to(z[:, None, None], (*flat.shape[:2], 1))], axis=-1)
        n_d, n_z = piece.normals[:, 0, None, None], piece.normals[:, 1, None, None]
        level = n_d * curve.normals
        normals = np.concatenate([level, np.broadcast_to(n_z, (*level.shape[:2], 1))], axis=-1)
        triangles = grid_triangles(len(d), len(curve.points))
        meshes.append(Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), triangles))
    return merged(meshes)


def _check_offset(curve: Samples, sides: FloatArray, offset_mm: float) -> None:
    """A parallel curve past the centre of an arc turns back on itself."""
    flat = shifted(curve, offset_mm)
    onward = np.sum((np.roll(flat, -1, axis=0) - flat) * sides, axis=1) / np.sum(sides**2, axis=1)
    if onward.min() <= 1e-6:
        x, y = curve.points[int(np.argmin(onward))]
        raise InputError(
            f"offset of the outline at ({x:.4g}, {y:.4g}) mm is {offset_mm:.4g} mm; "
            "allowed: less than the radius of its rounding",
            hint="round the corner more, or make the fillet or chamfer smaller",
            code="simulate.shape",
        )


def wall(bottom_mm: float, top_mm: float, *, fillet_mm: float = 0.0, chamfer_mm: float = 0.0) -> tuple[Piece, ...]:
    """Edge profile for `sweep`: upright, then a fillet or a 45° chamfer up to ``top_mm``, where it meets the `cap`.

    It serves holes too, from the floor upwards: along a clockwise outline the same profile looks into the hole.
    """
    edge = fillet_mm or chamfer_mm
    upright = Line((0.0, bottom_mm), (0.0, top_mm - edge))
    if fillet_mm:
        return upright, Arc((-edge, top_mm - edge), edge, 0.0, 90.0)
    if chamfer_mm:
        return upright, Line((0.0, top_mm - edge), (-edge, top_mm))
    return (upright,)


def round_hole(
    centre: Point,
    radius_mm: float,
    top_mm: float,
    floor_mm: float,
    *,
    chamfer_mm: float = 0.0,
    through: bool = False,
) -> Mesh:
    """Wall (and floor, unless it goes through) of a drilled hole; it meets the cap at `ring` of radius + chamfer."""
    pieces: list[Piece] = [Line((radius_mm, top_mm - chamfer_mm), (radius_mm, floor_mm))]
    if chamfer_mm:
        pieces.insert(0, Line((radius_mm + chamfer_mm, top_mm), (radius_mm, top_mm - chamfer_mm)))
    if not through:
        pieces.append(Line((radius_mm, floor_mm), (0.0, floor_mm)))
    return revolve(pieces, centre=centre)


def cap(loops: Sequence[FloatArray], z_mm: float, *, spacing_mm: float = 1.2) -> Mesh:
    """A level face that looks up, bounded by an outer loop and the loops of its holes.

    Delaunay triangulation of the loops' own points and a coarse lattice between them; triangles outside are dropped
    (even-odd rule).

    Parameters
    ----------
    loops : sequence of (N, 2) float64
        mm, either way round.
    z_mm : float
    spacing_mm : float
        Of the lattice.

    Raises
    ------
    InputError
        If a loop's edge is no edge of the triangulation, because loops cross or come closer than their samples.
    """
    border = np.concatenate(loops)
    sizes = [len(loop) for loop in loops]
    first = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    index = np.arange(len(border))
    following = first + (index - first + 1) % np.repeat(sizes, sizes)
    points = np.concatenate([border, _lattice(border, border[following], spacing_mm)])
    triangles = Delaunay(points).simplices
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    # Only triangles between border points can lie outside.
    doubtful = np.all(triangles < len(border), axis=1)
    keep = np.abs(area) > 1e-12
    keep[doubtful] &= _inside((a + b + c)[doubtful] / 3, border, border[following])
    triangles, area = triangles[keep], area[keep]
    triangles[area < 0] = triangles[area < 0][:, ::-1]
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    found = np.isin(_edge_keys(index, following), _edge_keys(edges[:, 0], edges[:, 1]))
    if not found.all():
        x, y = border[int(np.argmin(found))]
        raise InputError(
            f"the face at z = {z_mm:.4g} mm cannot be triangulated near ({x:.4g}, {y:.4g}) mm; "
            "allowed: loops that keep apart by more than the distance of their points",
            hint="move the holes apart",
            code="simulate.shape",
        )
    vertices = np.concatenate([points, np.full((len(points), 1), z_mm)], axis=1)
    normals = np.broadcast_to([0.0, 0.0, 1.0], vertices.shape).copy()
    return Mesh(vertices, normals, triangles.astype(np.int32))


def _edge_keys(a: NDArray[np.int_], b: NDArray[np.int_]) -> NDArray[np.int64]:
    return np.minimum(a, b).astype(np.int64) << 32 | np.maximum(a, b).astype(np.int64)


def _lattice(starts: FloatArray, ends: FloatArray, spacing_mm: float) -> FloatArray:
    """Points of a triangular lattice inside the loops, off the border, so that they split none of its edges."""
    low, high = starts.min(axis=0), starts.max(axis=0)
    x, y = np.meshgrid(
        np.arange(low[0], high[0], spacing_mm), np.arange(low[1], high[1], spacing_mm * math.sqrt(3) / 2)
    )
    x[1::2] += spacing_mm / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    points = points[cKDTree(starts).query(points)[0] > 0.45 * spacing_mm]
    return points[_inside(points, starts, ends)]


def _inside(points: FloatArray, starts: FloatArray, ends: FloatArray) -> NDArray[np.bool_]:
    """Even-odd rule: how many edges does the ray to +x cross?"""
    x, y = points[:, :1], points[:, 1:]
    straddles = (starts[:, 1] > y) != (ends[:, 1] > y)
    rise = ends[:, 1] - starts[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = starts[:, 0] + (y - starts[:, 1]) * (ends[:, 0] - starts[:, 0]) / rise
        return np.asarray(np.sum(straddles & (x < crossing), axis=1) % 2 == 1)


def extrude(
    curve: Samples,
    bottom_mm: float,
    top_mm: float,
    *,
    fillet_mm: float = 0.0,
    chamfer_mm: float = 0.0,
    holes: Sequence[FloatArray] = (),
) -> Mesh:
    """An upright body over an outline, its top edge filleted or chamfered, its top level with open loops for holes."""
    edge = sweep(curve, wall(bottom_mm, top_mm, fillet_mm=fillet_mm, chamfer_mm=chamfer_mm))
    return merged([edge, cap([shifted(curve, -(fillet_mm or chamfer_mm)), *holes], top_mm)])


def domed(radius_mm: float, height_mm: float, dome_radius_mm: float, fillet_mm: float) -> tuple[Arc, Arc]:
    """Profile of a top: a fillet tangent to the wall r = ``radius_mm`` and a spherical dome tangent to the fillet.

    The fillet's centre lies at dome radius − fillet from the dome's centre, on the dome's normal of elevation β with
    cos β = (radius − fillet) / (dome radius − fillet).
    """
    beta = math.acos((radius_mm - fillet_mm) / (dome_radius_mm - fillet_mm))
    z = height_mm - dome_radius_mm
    centre = (radius_mm - fillet_mm, z + (dome_radius_mm - fillet_mm) * math.sin(beta))
    return Arc(centre, fillet_mm, 0.0, math.degrees(beta)), Arc((0.0, z), dome_radius_mm, math.degrees(beta), 90.0)


def turned_grooves(outer_mm: float, inner_mm: float, z_mm: float, pitch_mm: float, depth_mm: float) -> tuple[Arc, ...]:
    """Profile of a face turned with a round-nosed tool: concentric scallops between cusps at ``z_mm``, from the outside in.

    A tool of nose radius ρ at a feed f leaves cusps f²/(8ρ) high; ρ follows from ``depth_mm``, exactly that of the arc
    through both cusps. The pitch is adjusted so that a whole number of grooves fits.
    """
    count = max(1, round((outer_mm - inner_mm) / pitch_mm))
    pitch = (outer_mm - inner_mm) / count
    nose = pitch**2 / (8 * depth_mm) + depth_mm / 2
    half = math.degrees(math.asin(pitch / 2 / nose))
    middles = outer_mm - (np.arange(count) + 0.5) * pitch
    return tuple(Arc((float(r), z_mm - depth_mm + nose), nose, half - 90, -half - 90) for r in middles)


def warped(mesh: Mesh, displacement: Displacement) -> Mesh:
    """The mesh after X' = X + d(X). Normals follow the inverse transpose of the Jacobian I + ∂d/∂X."""
    moves, slopes = displacement(mesh.vertices)
    jacobians = np.eye(3) + slopes
    # The rows of J⁻ᵀ·det J are the cross products of the columns' partners: n' ∝ cofactor matrix · n.
    columns = [jacobians[:, :, k] for k in range(3)]
    normals = sum(np.cross(columns[(k + 1) % 3], columns[(k + 2) % 3]) * mesh.normals[:, k : k + 1] for k in range(3))
    normals = np.asarray(normals) / np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(mesh.vertices + moves, normals, mesh.triangles)
