"""Relief on a mesh: refine it where the relief is, move its vertices out of the surface, and give them new normals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator.solid import FloatArray, Mesh

Field = Callable[[FloatArray], FloatArray]

MOST_ROUNDS = 40
NEAR_NORMAL = 0.75
"""A vertex belongs to the sheet when its normal is within 41° of the sheet's: 25° of bend and slack."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A smooth patch of a surface around a spot.

    Attributes
    ----------
    centre : (3,) float64
        The spot, mm, on the surface.
    axes : (3, 3) float64
        Rows: unit tangents s and t, and the outward normal at the spot.
    slab_mm : (low, high)
        Between which heights over the tangent plane the patch lies.
    """

    centre: FloatArray
    axes: FloatArray
    slab_mm: tuple[float, float]

    def local(self, points: FloatArray) -> FloatArray:
        """(N, 3) points → (N, 3): s, t and the height over the tangent plane, mm."""
        return np.asarray((points - self.centre) @ self.axes.T)

    def holds(self, local: FloatArray, slack_mm: float | FloatArray = 0.0) -> NDArray[np.bool_]:
        """Which of the local points (N, 3) lie within the slab."""
        low, high = self.slab_mm
        return np.asarray((local[:, 2] >= low - slack_mm) & (local[:, 2] <= high + slack_mm))


def displaced(mesh: Mesh, sheet: Sheet, height: Field, slope: Field, gap: Field, edge_mm: float) -> Mesh:
    """A mesh with relief on one sheet of it: X' = X + h(s, t) N, with the triangles there split as finely as needed.

    N is the normal at the spot, for all vertices. So the sheet stays a graph u(s, t) over its tangent plane, also where
    it is bent or has creases: u' = u + h, hence n' ∝ n − (n · N) (∂h/∂s S + ∂h/∂t T), exactly.

    Parameters
    ----------
    mesh : Mesh
    sheet : Sheet
        Where s and t are measured and which vertices may move.
    height : (N, 2) mm → (N,) mm
        Signed, outward; 0 wherever ``gap`` is positive.
    slope : (N, 2) mm → (N, 2)
        Its gradient.
    gap : (N, 2) mm → (N,) mm
        A lower bound of the distance to where the height is not 0.
    edge_mm : float
        Longest edge of the triangles that carry the relief.
    """
    mesh = refined(mesh, sheet, gap, edge_mm)
    local = sheet.local(mesh.vertices)
    moving = sheet.holds(local) & (mesh.normals @ sheet.axes[2] > NEAR_NORMAL)
    moving[moving] = gap(local[moving, :2]) < 0
    places, normals = local[moving, :2], mesh.normals[moving]
    turned = normals - (normals @ sheet.axes[2])[:, None] * (slope(places) @ sheet.axes[:2])
    vertices, new_normals = mesh.vertices.copy(), mesh.normals.copy()
    vertices[moving] += height(places)[:, None] * sheet.axes[2]
    new_normals[moving] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return Mesh(vertices, new_normals, mesh.triangles)


def refined(mesh: Mesh, sheet: Sheet, gap: Field, edge_mm: float) -> Mesh:
    """The same surface with the edges of all triangles near a defect halved until they are at most ``edge_mm`` long.

    Every edge is split for both of its triangles, so that the mesh stays closed where it was; triangles with one, two
    or three split edges become two, three or four (red-green refinement, Bank, Sherman and Weiser 1983). New vertices
    lie on the facets, with the mean normal of the edge's ends.
    """
    near = _near(mesh.vertices, mesh.triangles, mesh.facet_normals @ sheet.axes[2] > NEAR_NORMAL, sheet, gap)
    if not near.any():
        return mesh
    touched = np.zeros(len(mesh.vertices), bool)
    touched[mesh.triangles[near]] = True
    work = touched[mesh.triangles].any(axis=1)
    done = [mesh.triangles[~work]]
    vertices, normals = [mesh.vertices], [mesh.normals]
    triangles, count = mesh.triangles[work], len(mesh.vertices)
    points, directions = mesh.vertices, mesh.normals
    # Neighbours stay in the work until the end, since an edge of theirs may be split in any round.
    for _ in range(MOST_ROUNDS):
        ends = np.sort(np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=-1), axis=-1).astype(np.int64)
        length = np.linalg.norm(points[ends[..., 0]] - points[ends[..., 1]], axis=-1)
        small = (length <= edge_mm).all(axis=1)
        done.append(triangles[small])
        triangles, ends, length = triangles[~small], ends[~small], length[~small]
        near = _near(points, triangles, np.ones(len(triangles), bool), sheet, gap)
        # Only a triangle's longest edges, so that slender triangles get rounder and no more are made than needed.
        split = near[:, None] & (length > np.maximum(edge_mm, 0.8 * length.max(axis=1, keepdims=True)))
        if not split.any():
            break
        keys = ends[..., 0] * count + ends[..., 1]
        marked = np.unique(keys[split])
        place = np.minimum(np.searchsorted(marked, keys), len(marked) - 1)
        middle = np.where(marked[place] == keys, count + place, -1)
        a, b = marked // count, marked % count
        vertices.append((points[a] + points[b]) / 2)
        mean = directions[a] + directions[b]
        normals.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
        points, directions = np.concatenate(vertices), np.concatenate(normals)
        count = len(points)
        triangles = _divided(triangles, middle, points)
    done.append(triangles)
    return Mesh(points, directions, np.concatenate(done).astype(np.int32))


def _near(
    points: FloatArray, triangles: NDArray[np.int32], facing: NDArray[np.bool_], sheet: Sheet, gap: Field
) -> NDArray[np.bool_]:
    """(T,) which of the facing triangles may meet the defect: closer to their middle than their farthest corner."""
    near = facing.copy()
    corners = points[triangles[near]]
    middle = corners.mean(axis=1)
    reach = np.linalg.norm(corners - middle[:, None], axis=-1).max(axis=1)
    local = sheet.local(middle)
    inside = sheet.holds(local, reach)
    inside[inside] = gap(local[inside, :2]) < reach[inside]
    near[near] = inside
    return near


def _divided(triangles: NDArray[np.int32], middle: NDArray[np.int64], points: FloatArray) -> NDArray[np.int32]:
    """Triangles (T, 3) cut at the new vertices in the middle of their edges (T, 3), −1 where an edge stays whole.

    Edge k runs from corner k to corner k + 1.
    """
    cuts = (middle >= 0).sum(axis=1)
    pieces = [triangles[cuts == 0]]
    one = cuts == 1
    (a, b, c), (m, _, _) = _turned(triangles[one], middle[one], np.argmax(middle[one] >= 0, axis=1))
    pieces += [np.stack([a, m, c], 1), np.stack([m, b, c], 1)]
    # The whole edge comes last: edges a-b and b-c are cut, and the quadrilateral a, m, n, c takes its shorter diagonal.
    two = cuts == 2
    (a, b, c), (m, n, _) = _turned(triangles[two], middle[two], (np.argmin(middle[two], axis=1) + 1) % 3)
    shorter = np.linalg.norm(points[m] - points[c], axis=1) < np.linalg.norm(points[a] - points[n], axis=1)
    pieces += [np.stack([m, b, n], 1)]
    pieces += [np.stack([a, m, np.where(shorter, c, n)], 1), np.stack([np.where(shorter, m, a), n, c], 1)]
    three = cuts == 3
    (a, b, c), (m, n, o) = _turned(triangles[three], middle[three], np.zeros(int(three.sum()), int))
    pieces += [np.stack(p, 1) for p in ([a, m, o], [m, b, n], [o, n, c], [m, n, o])]
    return np.concatenate(pieces).astype(np.int32)


def _turned(
    triangles: NDArray[np.int32], middle: NDArray[np.int64], first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners and edge middles, (3, T) each, counted from another corner."""
    order = (first[:, None] + np.arange(3)) % 3
    corners = np.take_along_axis(triangles.astype(np.int64), order, axis=1)
    return corners.T, np.take_along_axis(middle, order, axis=1).T
