"""Refinement and displacement of meshes against closed forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from rakelight.acquisition.simulator.relief import Sheet, displaced, refined
from rakelight.acquisition.simulator.solid import Mesh

RADIUS_MM = 10.0


def patch(radius_mm: float, cells: int = 10, half_mm: float = 5.0) -> Mesh:
    """A square patch of a sphere (or, of radius inf, of a plane) whose top is the origin."""
    axis = np.linspace(-half_mm, half_mm, cells + 1)
    xy = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    flat = np.isinf(radius_mm)
    rise = np.zeros(len(xy)) if flat else np.sqrt(radius_mm**2 - (xy**2).sum(axis=1)) - radius_mm
    points = np.concatenate([xy, rise[:, None]], axis=1)
    normals = np.tile([0.0, 0.0, 1.0], (len(xy), 1)) if flat else (points + np.array([0, 0, radius_mm])) / radius_mm
    n = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (k.ravel() for k in (n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]))
    facets = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return Mesh(points, normals, facets.astype(np.int32))


def at_top() -> Sheet:
    return Sheet(np.zeros(3), np.eye(3), (-1.0, 0.2))


def disc(radius_mm: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda places: np.hypot(places[:, 0] - 0.3, places[:, 1]) - radius_mm


def edges_of(mesh: Mesh) -> Counter[tuple[int, int]]:
    ends = np.sort(np.concatenate([mesh.triangles[:, [k, (k + 1) % 3]] for k in range(3)]), axis=1)
    return Counter(map(tuple, ends.tolist()))


class TestRefined:
    @pytest.mark.parametrize(("radius_mm", "cells"), [(np.inf, 1), (np.inf, 10), (RADIUS_MM, 10)])
    def test_edges_are_short_inside_and_the_surface_is_the_same(self, radius_mm: float, cells: int) -> None:
        mesh = patch(radius_mm, cells)
        fine = refined(mesh, at_top(), disc(1.0), 0.1)
        corners = fine.vertices[fine.triangles]
        inside = disc(1.0)(corners.mean(axis=1)[:, :2]) < 0
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(axis=1)
        assert inside.sum() > 500
        assert longest[inside].max() <= 0.1
        assert fine.facet_areas.sum() == pytest.approx(mesh.facet_areas.sum(), rel=1e-12)
        assert (fine.facet_normals[:, 2] > 0).all()
        assert np.allclose(np.linalg.norm(fine.normals, axis=1), 1)
        np.testing.assert_array_equal(fine.vertices[: len(mesh.vertices)], mesh.vertices)

    def test_the_mesh_stays_closed(self) -> None:
        fine = refined(patch(RADIUS_MM), at_top(), disc(1.0), 0.07)
        once = [edge for edge, count in edges_of(fine).items() if count == 1]
        assert max(edges_of(fine).values()) == 2
        # Edges with one triangle lie on the outline of the patch only.
        on_outline = np.abs(fine.vertices[np.array(once)][..., :2]).max(axis=-1)
        assert np.allclose(on_outline, 5.0)

    def test_only_the_neighbourhood_is_refined(self) -> None:
        mesh = patch(np.inf, 20)
        fine = refined(mesh, at_top(), disc(0.5), 0.05)
        new = fine.vertices[len(mesh.vertices) :]
        assert np.hypot(new[:, 0] - 0.3, new[:, 1]).max() < 0.5 + 1.5
        assert len(fine.triangles) - len(mesh.triangles) < 3000

    def test_nothing_near_leaves_the_mesh_alone(self) -> None:
        mesh = patch(np.inf)
        assert refined(mesh, at_top(), lambda places: np.full(len(places), 50.0), 0.1) is mesh

    def test_a_sheet_below_or_facing_away_is_left_alone(self) -> None:
        mesh = patch(np.inf)
        below = Mesh(mesh.vertices - [0, 0, 3.0], mesh.normals, mesh.triangles)
        under = Mesh(mesh.vertices - [0, 0, 0.5], -mesh.normals, mesh.triangles[:, ::-1])
        for other in (below, under):
            assert refined(other, at_top(), disc(1.0), 0.1) is other


def bump(places: np.ndarray) -> np.ndarray:
    r2 = ((places[:, 0] - 0.3) ** 2 + places[:, 1] ** 2) / 1.0
    return -0.1 * (1 - np.minimum(r2, 1)) ** 2


def bump_slope(places: np.ndarray) -> np.ndarray:
    apart = places - [0.3, 0.0]
    r2 = np.minimum((apart**2).sum(axis=1), 1)
    return (0.4 * (1 - r2))[:, None] * apart


class TestDisplaced:
    @pytest.mark.parametrize("radius_mm", [np.inf, RADIUS_MM])
    def test_surface_and_normals_are_the_sum_of_both_graphs(self, radius_mm: float) -> None:
        mesh = patch(radius_mm, 200)
        made = displaced(mesh, at_top(), bump, bump_slope, disc(1.0), 0.05)
        xy = made.vertices[:, :2]
        flat = np.isinf(radius_mm)
        z = np.zeros(len(xy)) if flat else np.sqrt(radius_mm**2 - (xy**2).sum(axis=1)) - radius_mm
        np.testing.assert_allclose(made.vertices[:, 2], z + bump(xy), atol=1e-4)
        base = np.zeros_like(xy) if flat else -xy / (z + radius_mm)[:, None]
        expected = np.concatenate([-(base + bump_slope(xy)), np.ones((len(xy), 1))], axis=1)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        angle = np.degrees(np.linalg.norm(made.normals - expected, axis=1))
        assert angle.max() < 0.05

    def test_outside_is_untouched(self) -> None:
        mesh = patch(RADIUS_MM, 50)
        made = displaced(mesh, at_top(), bump, bump_slope, disc(1.0), 0.05)
        outside = disc(1.0)(mesh.vertices[:, :2]) >= 0
        np.testing.assert_array_equal(made.vertices[: len(mesh.vertices)][outside], mesh.vertices[outside])
        np.testing.assert_array_equal(made.normals[: len(mesh.vertices)][outside], mesh.normals[outside])

    def test_a_seam_does_not_open(self) -> None:
        # The two halves share no vertices, and their normals differ along the seam.
        mesh = patch(np.inf, 10)
        left = mesh.vertices[mesh.triangles].mean(axis=1)[:, 0] < 0
        tilted = np.array([0.1, 0.0, 1.0]) / np.hypot(0.1, 1.0)
        count = len(mesh.vertices)
        both = Mesh(
            np.concatenate([mesh.vertices] * 2),
            np.concatenate([mesh.normals, np.tile(tilted, (count, 1))]),
            np.where(left[:, None], mesh.triangles, mesh.triangles + count).astype(np.int32),
        )
        made = displaced(both, at_top(), bump, bump_slope, disc(1.0), 0.05)
        seam = made.vertices[np.unique(made.triangles)]
        seam = seam[(seam[:, 0] == 0) & (disc(1.0)(seam[:, :2]) < 0)]
        places, uses = np.unique(seam, axis=0, return_counts=True)
        assert len(places) > 20
        assert (uses == 2).all()
