"""Shapes against closed forms: where vertices lie, how far facets stray, which way normals look."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from rakelight.acquisition.simulator.noise import Mottle, random_waves, value_noise
from rakelight.acquisition.simulator.outlines import (
    Arc,
    Line,
    Samples,
    outline,
    rounded,
    rounded_rectangle,
    sample,
    shifted,
)
from rakelight.acquisition.simulator.shapes import (
    Flutes,
    cap,
    domed,
    extrude,
    revolve,
    ring,
    round_hole,
    sweep,
    turned_grooves,
    wall,
    warped,
)
from rakelight.acquisition.simulator.solid import FloatArray, Mesh
from rakelight.acquisition.simulator.turned_face import drilled_face
from rakelight.errors import InputError

SQUARE = rounded_rectangle(8, 6, 1)


def inner_points(mesh: Mesh) -> FloatArray:
    """Middles of all facets and of their edges: where a facet strays most."""
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    return np.concatenate([(a + b + c) / 3, (a + b) / 2, (b + c) / 2, (c + a) / 2])


def angles_deg(mesh: Mesh) -> FloatArray:
    """(T, 3) between each facet and the normals at its corners."""
    cosine = np.sum(mesh.normals[mesh.triangles] * mesh.facet_normals[:, None], axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def check(mesh: Mesh, distance: Callable[[FloatArray], FloatArray]) -> None:
    """``distance``: points (N, 3) → signed distance (N,) from the true surface, mm, positive outside.

    The normals are compared with the field's gradient by central differences, taken just off the edges of its pieces.
    """
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-12)
    assert np.abs(distance(mesh.vertices)).max() < 1e-9
    assert np.abs(distance(inner_points(mesh))).max() < 5e-4
    assert angles_deg(mesh).max() < 1.5
    assert mesh.facet_areas.min() > 0
    # Walking out along the normal raises the distance as fast as one walks.
    np.testing.assert_allclose(distance(mesh.vertices + 1e-5 * mesh.normals), 1e-5, rtol=1e-3)


def round_box(points: FloatArray, height: float, fillet: float) -> FloatArray:
    """Signed distance from `SQUARE` extruded, its corners of 1 mm, its top edge filleted."""
    q = np.abs(points[:, :2]) - (4 - 1, 3 - 1)
    level = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0) - 1
    p = np.stack([level + fillet, points[:, 2] - height + fillet], axis=1)
    return np.linalg.norm(np.maximum(p, 0), axis=1) + np.minimum(p.max(axis=1), 0) - fillet


class TestRevolve:
    @pytest.mark.parametrize("radius", [0.2, 1.0, 5.0, 9.0])
    def test_cylinder(self, radius: float) -> None:
        mesh = revolve([Line((radius, 0), (radius, 4))], centre=(1, 2))
        check(mesh, lambda p: np.hypot(p[:, 0] - 1, p[:, 1] - 2) - radius)
        assert np.ptp(mesh.vertices, axis=0) == pytest.approx([2 * radius, 2 * radius, 4])

    @pytest.mark.parametrize("radius", [0.2, 2.0, 12.0])
    def test_hemisphere(self, radius: float) -> None:
        mesh = revolve([Arc((0, 3), radius, 0, 90)])
        check(mesh, lambda p: np.linalg.norm(p - (0, 0, 3), axis=1) - radius)
        assert mesh.facet_areas.sum() == pytest.approx(2 * math.pi * radius**2, rel=5e-4)

    def test_torus_fillets(self) -> None:
        outer = revolve([Arc((4, 2), 0.5, 0, 90)])
        check(outer, lambda p: np.hypot(np.hypot(p[:, 0], p[:, 1]) - 4, p[:, 2] - 2) - 0.5)
        hollow = revolve([Arc((4, 2), 0.5, -90, -180)])
        check(hollow, lambda p: 0.5 - np.hypot(np.hypot(p[:, 0], p[:, 1]) - 4, p[:, 2] - 2))

    def test_domed_top_is_smooth(self) -> None:
        fillet, dome = domed(4, 6, 24, 0.5)
        first, then = sample(fillet, 2), sample(dome, 2)
        np.testing.assert_allclose(first.points[-1], then.points[0], atol=1e-12)
        np.testing.assert_allclose(first.normals[-1], then.normals[0], atol=1e-12)
        assert first.points[0] == pytest.approx([4, fillet.centre[1]]) and then.points[-1] == pytest.approx([0, 6])

    def test_flutes(self) -> None:
        """Against the implicit form F = r − R(z) − w(z)·a·cos nθ, whose gradient is the normal."""
        flutes = Flutes(20, 0.3)
        profile = [Line((5, 0), (5, 2), weight=(1, 1)), Line((5, 2), (4.8, 2.4), weight=(1, 0))]
        mesh = revolve(profile, flutes=flutes)

        def implicit(p: FloatArray) -> FloatArray:
            weight = np.clip((2.4 - p[:, 2]) / 0.4, 0, 1)
            return (
                np.hypot(p[:, 0], p[:, 1])
                - 4.8
                - 0.2 * weight
                - 0.15 * weight * np.cos(20 * np.arctan2(p[:, 1], p[:, 0]))
            )

        assert np.abs(implicit(mesh.vertices)).max() < 1e-9
        assert np.abs(implicit(inner_points(mesh))).max() < 5e-4
        assert angles_deg(mesh).max() < 1.5
        inside = (mesh.vertices[:, 2] > 2.01) & (mesh.vertices[:, 2] < 2.39)
        at, h = mesh.vertices[inside], 1e-5
        gradient = np.stack([implicit(at + h * e) - implicit(at - h * e) for e in np.eye(3)], axis=1)
        gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
        np.testing.assert_allclose(mesh.normals[inside], gradient, atol=1e-6)

    def test_grooves(self) -> None:
        arcs = turned_grooves(8.0, 5.0, 3.0, 0.29, 0.005)
        mesh = revolve(arcs)
        assert len(arcs) == 10
        # Kinematic roughness of turning: cusps are f²/(8ρ) high, in the limit of shallow grooves.
        assert arcs[0].radius_mm == pytest.approx(0.3**2 / 8 / 0.005, rel=1e-2)
        assert mesh.vertices[:, 2].max() == pytest.approx(3.0, abs=1e-12)
        assert mesh.vertices[:, 2].min() == pytest.approx(2.995, abs=1e-5)
        r = np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1])
        off = np.abs((r - 5) % 0.3 - 0.15)
        height = 2.995 + arcs[0].radius_mm - np.sqrt(arcs[0].radius_mm ** 2 - off**2)
        np.testing.assert_allclose(mesh.vertices[:, 2], height, atol=1e-9)
        assert angles_deg(mesh).max() < 1.5 and mesh.normals[:, 2].min() > 0.99


class TestSweepAndCap:
    def test_filleted_box(self) -> None:
        mesh = extrude(SQUARE, 0, 3, fillet_mm=0.4)
        above = mesh.vertices[:, 2] >= 0
        assert above.all()
        check(mesh, lambda p: round_box(p, 3, 0.4))

    def test_chamfer_and_area(self) -> None:
        mesh = extrude(SQUARE, 0, 3, chamfer_mm=0.4)
        top = mesh.normals[:, 2] > 0.999
        assert np.ptp(mesh.vertices[top], axis=0) == pytest.approx([7.2, 5.2, 0])
        slope = (mesh.normals[:, 2] > 0.1) & ~top
        np.testing.assert_allclose(mesh.normals[slope, 2], math.sqrt(0.5))
        assert angles_deg(mesh).max() < 1.5

    def test_holes_leave_their_area_open(self) -> None:
        slot = rounded_rectangle(2, 1, 0.3, centre=(0, 1), hole=True)
        loops = [SQUARE.points, slot.points, ring(0.5, (-2, -1)), ring(0.5, (2, -1))]
        mesh = cap(loops, 2.5)
        area = 48 - (4 - math.pi) - (2 - (4 - math.pi) * 0.09) - 2 * math.pi * 0.25
        assert mesh.facet_areas.sum() == pytest.approx(area, abs=2e-3)
        assert (mesh.vertices[:, 2] == 2.5).all() and (mesh.facet_normals[:, 2] > 0.999).all()
        a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
        assert max(np.linalg.norm(x - y, axis=1).max() for x, y in ((a, b), (b, c), (c, a))) < 2

    def test_hole_walls_look_inwards(self) -> None:
        hole = round_hole((1, 1), 0.8, 3, 1, chamfer_mm=0.2)
        upright = np.abs(hole.normals[:, 2]) < 0.1
        inward = np.sum(hole.normals[upright, :2] * ((1, 1) - hole.vertices[upright, :2]), axis=1)
        np.testing.assert_allclose(inward, 0.8)
        assert np.min(np.sum(hole.facet_normals * hole.normals[hole.triangles[:, 0]], axis=1)) > 0.99
        pocket = rounded_rectangle(4, 2, 0.5, hole=True)
        sides = sweep(pocket, wall(1, 3, chamfer_mm=0.2))
        np.testing.assert_array_equal(sides.vertices[-len(pocket.points) :, :2], shifted(pocket, -0.2))
        assert np.abs(sides.vertices[:, 0]).max() == pytest.approx(2.2)
        assert np.sum(sides.normals[:, :2] * sides.vertices[:, :2], axis=1).max() < 0
        assert np.min(np.sum(sides.facet_normals * sides.normals[sides.triangles[:, 0]], axis=1)) > 0.99

    def test_hole_meets_its_loop(self) -> None:
        hole = round_hole((1, 1), 0.8, 3, 1, chamfer_mm=0.2)
        loop = ring(1.0, (1, 1))
        np.testing.assert_array_equal(hole.vertices[: len(loop), :2], loop)


class TestDrilledFace:
    GROOVES = turned_grooves(8.7, 5.4, 3.0, 0.33, 0.007)

    def height(self, xy: FloatArray) -> FloatArray:
        r = np.hypot(xy[:, 0], xy[:, 1])
        off = (r - 5.4) % 0.33 - 0.165
        nose = 0.33**2 / 8 / 0.007 + 0.0035
        return 3.0 - 0.007 + nose - np.sqrt(nose**2 - off**2)

    @pytest.mark.parametrize("radius", [0.6, 0.947, 1.2])
    def test_holes_cut_the_grooves(self, radius: float) -> None:
        whole = drilled_face(self.GROOVES, [], 0.0).face
        drilled = drilled_face(self.GROOVES, [((7.0, 0.0), radius), ((-3.0, 6.3), radius)], 0.0)
        area = whole.facet_areas.sum()
        nose = self.GROOVES[0].radius_mm
        longer = 1 + (0.165 / nose) ** 2 / 6  # mean of √(1 + slope²) over a scallop, to second order
        assert area == pytest.approx(longer * math.pi * (8.7**2 - 5.4**2), rel=1e-4)
        plugs = [p.facet_areas.sum() for p in drilled.plugs]
        assert plugs == pytest.approx([math.pi * radius**2] * 2, rel=2e-3)
        assert drilled.face.facet_areas.sum() + sum(plugs) == pytest.approx(area, rel=1e-5)
        for mesh in (drilled.face, *drilled.plugs):
            used = np.unique(mesh.triangles)
            np.testing.assert_allclose(mesh.vertices[used, 2], self.height(mesh.vertices[used]), atol=1e-9)
            points = inner_points(mesh)
            assert np.abs(points[:, 2] - self.height(points)).max() < 5e-4
            assert angles_deg(mesh).max() < 1.5 and mesh.facet_normals[:, 2].min() > 0.99

    def test_walls_meet_the_face(self) -> None:
        centre = np.array([7.0, 0.0])
        drilled = drilled_face(self.GROOVES, [((7.0, 0.0), 1.0)], 0.0)
        wall_mesh = drilled.walls[0]
        np.testing.assert_allclose(np.linalg.norm(wall_mesh.vertices[:, :2] - centre, axis=1), 1)
        np.testing.assert_allclose(wall_mesh.normals[:, :2], centre - wall_mesh.vertices[:, :2], atol=1e-12)
        rim = wall_mesh.vertices[wall_mesh.vertices[:, 2] > 2.9]
        np.testing.assert_allclose(rim[:, 2], self.height(rim), atol=1e-9)
        face = drilled.face.vertices[np.unique(drilled.face.triangles)]
        on_rim = face[np.abs(np.linalg.norm(face[:, :2] - centre, axis=1) - 1) < 1e-9]
        assert {tuple(p) for p in rim[:, :2]} == {tuple(p) for p in on_rim[:, :2]}

    @pytest.mark.parametrize(
        ("holes", "words"),
        [
            ([((8.2, 0.0), 0.9)], "leaves the turned face; allowed: within 5.5 to 8.6 mm"),
            ([((7.0, 0.0), 0.9), ((6.9, 0.8), 0.9)], "two holes .* in one sector"),
        ],
    )
    def test_holes_that_do_not_fit(self, holes: list[tuple[tuple[float, float], float]], words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            drilled_face(self.GROOVES, holes, 0.0)
        assert caught.value.code == "simulate.shape" and caught.value.hint


class TestOutlines:
    def test_rounded_polyline(self) -> None:
        pieces = rounded([(5, 0), (5, 3), (2, 3), (2, 6)], [0, 0.5, 0.4, 0])
        lines, arcs = [p for p in pieces if isinstance(p, Line)], [p for p in pieces if isinstance(p, Arc)]
        assert [p.centre for p in arcs] == [pytest.approx((4.5, 2.5)), pytest.approx((2.4, 3.4))]
        assert (arcs[0].end_deg - arcs[0].start_deg, arcs[1].end_deg - arcs[1].start_deg) == pytest.approx((90, -90))
        assert sum(math.dist(p.start, p.end) for p in lines) == pytest.approx(2.5 + 2.1 + 2.6)

    def test_normals_look_right_of_the_way(self) -> None:
        curve = rounded_rectangle(8, 6, 1)
        ahead = np.roll(curve.points, -1, axis=0) - np.roll(curve.points, 1, axis=0)
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        assert np.sum(curve.normals * np.stack([ahead[:, 1], -ahead[:, 0]], axis=1), axis=1).min() > 0.99
        assert np.sum(curve.normals * curve.points, axis=1).min() > 0

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: rounded_rectangle(3, 2, 1.2), "takes 2.4 mm; allowed: up to the 2 mm"),
            (lambda: outline(rounded([(0, 0), (2, 0), (1, 2)], [0, 0.2, 0.2], closed=True)), r"sharp at \(0, 0\)"),
            (lambda: outline([Line((0, 0), (1, 0)), Line((1, 0), (2, 0))]), r"broken or sharp at \(2, 0\)"),
            (lambda: extrude(SQUARE, 0, 3, fillet_mm=1.0), "offset .* is -1 mm"),
            (lambda: sample(Line((1, 1), (1, 1)), 1), "no length"),
            (lambda: cap([SQUARE.points, ring(1.0), ring(1.0, (1.0, 0.3))], 1), "cannot be triangulated near"),
        ],
    )
    def test_what_cannot_be_made(self, make: Callable[[], Samples | Mesh], words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            make()
        assert caught.value.code == "simulate.shape" and caught.value.hint


class TestFields:
    def test_warp_normals_follow_the_moved_surface(self) -> None:
        """The tangents of the warped surface, by differences along the unwarped one, are square to its normals."""
        sphere = revolve([Arc((0, 4), 3, 0, 89)], max_edge_mm=0.2)
        waves = random_waves(np.random.default_rng(3), 0.2, 6.0, 7.0)
        moved = warped(sphere, waves)
        assert angles_deg(moved).max() < 1.5
        side = np.cross(sphere.normals, [0.3, 0.5, 0.8])
        h = 1e-5
        ahead, behind = (sphere.vertices + s * h * side for s in (1, -1))
        tangent = (ahead + waves(ahead)[0] - behind - waves(behind)[0]) / (2 * h)
        np.testing.assert_allclose(np.sum(tangent * moved.normals, axis=1), 0, atol=1e-8)
        np.testing.assert_allclose(np.linalg.norm(moved.normals, axis=1), 1, atol=1e-12)

    def test_waves_leave_the_table(self) -> None:
        waves = random_waves(np.random.default_rng(3), 0.1, 10.0, 8.0)
        foot = np.concatenate([np.random.default_rng(1).uniform(-10, 10, (50, 2)), np.zeros((50, 1))], axis=1)
        moves = waves(foot)[0]
        assert np.abs(moves[:, 2]).max() == 0 and 0.05 < moves[:, :2].std() < 0.2

    def test_noise(self) -> None:
        noise = value_noise(np.random.default_rng(5), 2.0)
        points = np.random.default_rng(6).uniform(-20, 20, (400_000, 3))
        values = noise(points)
        assert values.std() == pytest.approx(1, rel=0.1) and abs(values.mean()) < 0.1
        np.testing.assert_array_equal(values[-1000:], noise(points[-1000:]))
        near = noise(points[:1000] + np.array([1e-4, 0, 0]))
        assert np.abs(near - values[:1000]).max() < 2e-3  # continuous
        assert np.corrcoef(noise(points[:1000] + 40.0), values[:1000])[0, 1] < 0.3

    def test_mottle(self) -> None:
        mottle = Mottle(value_noise(np.random.default_rng(5), 1.0), (0.05, 0.05, 0.5), 0.0)
        factors = mottle(np.random.default_rng(6).uniform(-20, 20, (5000, 3)))
        assert factors.shape == (5000, 4) and (factors[:, 3] == 1).all()
        assert factors[:, 0].std() == pytest.approx(0.05, rel=0.15) and factors[:, 2].min() == 0.3
