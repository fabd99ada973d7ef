"""Where on a part a defect fits: ray casts find spots whose surroundings are one smooth, visible sheet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import open3d as o3d
from numpy.random import Generator
from numpy.typing import NDArray

from rakelight.acquisition.simulator._defect_forms import Form
from rakelight.acquisition.simulator.relief import Sheet
from rakelight.acquisition.simulator.solid import FloatArray, Part

LEAST_UPRIGHT = 0.7
MOST_BEND = np.cos(np.radians(25.0))
MARGIN_MM = 0.1
"""How much smooth sheet must lie around a defect."""

STEP_MM = 0.012
"""Two neighbouring points whose heights differ from what their normals tell by more than this lie on two sheets.

Tool marks of a few micrometres count as one sheet."""

LEAST_WALL_MM = 0.3
RELIEF_ROOM_MM = 0.15
VIEW_CELLS = 240


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays meet a part, N rays: component index (−1: nothing), points and smooth unit normals (mm; NaN)."""

    component: NDArray[np.int64]
    points: FloatArray
    normals: FloatArray


class Caster:
    """Ray casts on a part (Open3D's Embree scene); points come in double precision from the meshes."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._scene = o3d.t.geometry.RaycastingScene()
        for component in part.components:
            mesh = component.mesh
            self._scene.add_triangles(
                o3d.core.Tensor(mesh.vertices.astype(np.float32)), o3d.core.Tensor(mesh.triangles.astype(np.uint32))
            )

    def hits(self, origins: FloatArray, direction: FloatArray) -> Hits:
        """First hits of parallel rays from (N, 3) origins."""
        answer = self._scene.cast_rays(_rays(origins, direction))
        found = np.isfinite(answer["t_hit"].numpy())
        component = np.where(found, answer["geometry_ids"].numpy().astype(np.int64), -1)
        facet, uv = answer["primitive_ids"].numpy(), answer["primitive_uvs"].numpy().astype(np.float64)
        weights = np.concatenate([1 - uv.sum(axis=1, keepdims=True), uv], axis=1)[:, :, None]
        points, normals = np.full((2, len(origins), 3), np.nan)
        for index in np.unique(component[found]):
            here = component == index
            mesh = self.part.components[index].mesh
            corners = mesh.triangles[facet[here]]
            points[here] = (mesh.vertices[corners] * weights[here]).sum(axis=1)
            normals[here] = (mesh.normals[corners] * weights[here]).sum(axis=1)
        return Hits(component, points, normals / np.linalg.norm(normals, axis=1, keepdims=True))

    def depths(self, origins: FloatArray, direction: FloatArray) -> FloatArray:
        """(N,) distances of the first hits in units of the direction; infinite without a hit."""
        return np.asarray(self._scene.cast_rays(_rays(origins, direction))["t_hit"].numpy().astype(np.float64))

    def blocked(self, origins: FloatArray, direction: FloatArray, reach_mm: float = np.inf) -> NDArray[np.bool_]:
        """Which rays from (N, 3) origins meet anything within the reach."""
        return np.asarray(self._scene.test_occlusions(_rays(origins, direction), 0.0, float(reach_mm)).numpy())


def _rays(origins: FloatArray, direction: FloatArray) -> o3d.core.Tensor:
    rays = np.empty((len(origins), 6), np.float32)
    rays[:, :3], rays[:, 3:] = origins, direction
    return o3d.core.Tensor(rays)


@dataclass(frozen=True, eq=False)
class TopView:
    """A part from above: what vertical rays on a square grid hit (only rays that hit), and the cell's area."""

    hits: Hits
    cell_mm2: float

    @property
    def area_mm2(self) -> float:
        """The part's area seen from above."""
        return len(self.hits.component) * self.cell_mm2


def top_view(caster: Caster, shift: FloatArray | tuple[float, float] = (0.5, 0.5), cells: int = VIEW_CELLS) -> TopView:
    """Vertical rays over the part's box, ``cells`` along its longer side; ``shift`` (0–1) is the rays' place in a cell."""
    low, high = caster.part.extent_mm
    pitch = float((high - low)[:2].max()) / cells
    grid = [np.arange(np.ceil((high[k] - low[k]) / pitch) + 1) * pitch + low[k] - shift[k] * pitch for k in (0, 1)]
    xy = np.stack(np.meshgrid(*grid), axis=-1).reshape(-1, 2)
    origins = np.concatenate([xy, np.full((len(xy), 1), high[2] + 1.0)], axis=1)
    hits = caster.hits(origins, np.array([0.0, 0.0, -1.0]))
    kept = hits.component >= 0
    return TopView(Hits(hits.component[kept], hits.points[kept], hits.normals[kept]), pitch**2)


@dataclass(frozen=True, eq=False)
class Spot:
    """A place where a form fits: on which component, the sheet, and the form's area from above over its own area."""

    component: int
    sheet: Sheet
    foreshortening: float


@dataclass(frozen=True, eq=False)
class Probe:
    """The places at which a form's surroundings are tested: (N, 2) mm, and pairs of neighbours along s and t."""

    places: FloatArray
    along_s: NDArray[np.int64]
    along_t: NDArray[np.int64]
    inside: NDArray[np.bool_]

    @property
    def reach_mm(self) -> float:
        """The farthest place."""
        return float(np.hypot(*self.places.T).max())


def probe_of(form: Form, most: int = 500) -> Probe:
    """Places on a square grid over the form and a margin around it, about ``most`` of them."""
    box = (form.half_mm[0] + MARGIN_MM, form.half_mm[1] + MARGIN_MM)
    pitch = 0.1
    while True:
        count = [2 * int(np.ceil(h / pitch)) + 1 for h in box]
        s, t = ((np.arange(n) - n // 2) * pitch for n in count)
        grid = np.stack(np.meshgrid(s, t), axis=-1)
        gap = form.gap(grid.reshape(-1, 2)).reshape(grid.shape[:2])
        kept = gap < MARGIN_MM
        if np.count_nonzero(kept) <= most:
            break
        pitch *= max(1.1, np.sqrt(np.count_nonzero(kept) / most))
    index = np.where(kept, np.cumsum(kept.ravel()).reshape(kept.shape) - 1, -1)
    pairs = []
    for first, second in ((index[:, :-1], index[:, 1:]), (index[:-1], index[1:])):
        both = (first >= 0) & (second >= 0)
        pairs.append(np.stack([first[both], second[both]], axis=1))
    return Probe(grid[kept], pairs[0], pairs[1], gap[kept] < 0)


def find_spot(
    caster: Caster, view: TopView, form: Form, rng: Generator, candidates: int, share: tuple[float, float]
) -> tuple[Spot | None, float]:
    """A spot for a form, or None, and how wide (mm, across) the best of the rejected surroundings was.

    Candidates are drawn evenly over the surface that is seen from above and not steeper than 45°, and the form is
    turned at random about the normal there. ``share`` bounds the area from above, as shares of the part's.
    """
    probe = probe_of(form)
    upright = np.flatnonzero(view.hits.normals[:, 2] > LEAST_UPRIGHT)
    if not len(upright):
        return None, 0.0
    weights = 1 / view.hits.normals[upright, 2]
    picks = rng.choice(upright, candidates, p=weights / weights.sum())
    turns = rng.uniform(0, 2 * np.pi, candidates)
    area, widest = form.covered_mm2(), 0.0
    for pick, turn in zip(picks, turns, strict=True):
        normal = view.hits.normals[pick]
        axes = _axes(normal, turn)
        spot, clear = _examined(caster, probe, view.hits.points[pick], axes, int(view.hits.component[pick]), form)
        if spot is not None and share[0] <= area * spot.foreshortening / view.area_mm2 <= share[1]:
            return spot, widest
        widest = max(widest, 2 * clear)
    return None, widest


def _axes(normal: FloatArray, turn: float) -> FloatArray:
    """Two tangents, turned about the normal, and the normal, as rows of a right-handed frame."""
    s = np.cross([0.0, 1.0, 0.0], normal)
    s /= np.linalg.norm(s)
    t = np.cross(normal, s)
    c, d = np.cos(turn), np.sin(turn)
    return np.stack([c * s + d * t, c * t - d * s, normal])


def _examined(
    caster: Caster, probe: Probe, centre: FloatArray, axes: FloatArray, component: int, form: Form
) -> tuple[Spot | None, float]:
    """The spot if all of the surroundings are one smooth visible sheet, and the radius (mm) that is clear."""
    down = -axes[2]
    # Bent by at most 25°, a sheet stays this close to its tangent plane.
    rise = probe.reach_mm * np.tan(np.radians(25.0)) + 0.1
    planar = probe.places @ axes[:2] + centre
    hits = caster.hits(planar + rise * axes[2], down)
    height = (hits.points - centre) @ axes[2]
    good = (hits.component == component) & (hits.normals @ axes[2] > MOST_BEND) & (height > -rise)
    good[good] = ~caster.blocked(hits.points[good] + 1e-3 * axes[2], np.array([0.0, 0.0, 1.0]))
    if form.relief_mm < 0:
        good[good] = ~caster.blocked(hits.points[good] + 1e-3 * down, down, LEAST_WALL_MM)
    for pairs, axis in ((probe.along_s, axes[0]), (probe.along_t, axes[1])):
        slope = -(hits.normals @ axis) / (hits.normals @ axes[2])
        run = np.linalg.norm(probe.places[pairs[:, 1]] - probe.places[pairs[:, 0]], axis=1)
        told = run * slope[pairs].mean(axis=1)
        torn = ~(np.abs(height[pairs[:, 1]] - height[pairs[:, 0]] - told) < STEP_MM)
        good[pairs[torn].ravel()] = False
    if not good.all():
        return None, float(np.hypot(*probe.places[~good].T).min())
    slab = (float(height.min()) - RELIEF_ROOM_MM, float(height.max()) + RELIEF_ROOM_MM)
    inside = probe.inside if probe.inside.any() else good
    shortening = hits.normals[inside, 2] / (hits.normals[inside] @ axes[2])
    return Spot(component, Sheet(centre, axes, slab), float(shortening.mean())), probe.reach_mm
