"""Defects against ray casts of the flawed part and its flawless twin."""

from __future__ import annotations

import json
import time
from functools import cache

import numpy as np
import open3d as o3d
import pytest

from rakelight.acquisition.simulator.defects import KINDS, Defect, apply_defect
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part, merged
from rakelight.errors import InputError

GREY = Material((0.35, 0.36, 0.38), (0.04, 0.04, 0.04), 0.5)
RADIUS_MM = 10.0
SMOOTH = ("scratch", "dent", "pit", "crack", "deformation")
RELIEF_UM = {
    "scratch": (-60, -20),
    "dent": (-100, -40),
    "pit": (-100, -50),
    "crack": (-100, -40),
    "deformation": (-100, 100),
    "contamination": (20, 100),
}


def sheet(half_mm: float, cells: int, z_mm: float, radius_mm: float = np.inf) -> Mesh:
    """A square plate facing up, or a square patch of a dome whose top is at z_mm."""
    axis = np.linspace(-half_mm, half_mm, cells + 1)
    xy = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    flat = np.isinf(radius_mm)
    down = np.zeros(len(xy)) if flat else np.sqrt(radius_mm**2 - (xy**2).sum(axis=1)) - radius_mm
    points = np.concatenate([xy, down[:, None]], axis=1)
    normals = np.tile([0.0, 0.0, 1.0], (len(xy), 1)) if flat else (points + np.array([0, 0, radius_mm])) / radius_mm
    n = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (k.ravel() for k in (n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]))
    facets = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return Mesh(points + np.array([0, 0, z_mm]), normals, facets.astype(np.int32))


def plate(material: Material = GREY) -> Part:
    return Part("plate", (Component("body", sheet(10.0, 10, 3.0), material),))


def dome() -> Part:
    return Part("dome", (Component("body", sheet(6.5, 130, RADIUS_MM, RADIUS_MM), GREY),))


PARTS = {"plate": plate, "dome": dome}


@cache
def made(shape: str, kind: str) -> tuple[Part, Part, Defect]:
    """The flawless part, the flawed one and the defect."""
    part = PARTS[shape]()
    return part, *apply_defect(part, kind, np.random.default_rng(4), rebuild=no_rebuild)


BOSSES = {"boss_1": (-5.0, 0.8), "boss_2": (5.0, 1.5), "speck": (0.0, 0.2)}


def bossed(missing: frozenset[str] = frozenset()) -> Part:
    """A plate with three square bosses of 0.6, 2 and 0.04 % of its area, 1 mm high."""
    bosses = [
        Component(name, merged([sheet(half, 2, 4.0)]).moved(np.eye(3), [x, 0.0, 0.0]), GREY)
        for name, (x, half) in BOSSES.items()
        if name not in missing
    ]
    return Part("bossed", (*plate().components, *bosses), tuple(n for n in BOSSES if n not in missing))


def no_rebuild(missing: frozenset[str]) -> Part:
    raise AssertionError(f"rebuilt without {missing}")


class Cast:
    """Parallel rays on a part: hit or not, depth along the rays, normals and reflectance."""

    def __init__(self, part: Part, origins: np.ndarray, direction: np.ndarray) -> None:
        scene = o3d.t.geometry.RaycastingScene()
        for c in part.components:
            scene.add_triangles(c.mesh.vertices.astype(np.float32), c.mesh.triangles.astype(np.uint32))
        rays = np.concatenate([origins, np.broadcast_to(direction, origins.shape)], axis=1).astype(np.float32)
        answer = {key: value.numpy() for key, value in scene.cast_rays(o3d.core.Tensor(rays)).items()}
        self.depth = answer["t_hit"].astype(float)
        self.hit = np.isfinite(self.depth)
        self.normals, self.points = np.zeros((2, len(rays), 3))
        self.reflectance = np.zeros((len(rays), 4))
        uv = answer["primitive_uvs"].astype(float)
        weights = np.concatenate([1 - uv.sum(axis=1, keepdims=True), uv], axis=1)[..., None]
        for index, c in enumerate(part.components):
            here = self.hit & (answer["geometry_ids"] == index)
            corners = c.mesh.triangles[answer["primitive_ids"][here]]
            normal = (c.mesh.normals[corners] * weights[here]).sum(axis=1)
            self.normals[here] = normal / np.linalg.norm(normal, axis=1, keepdims=True)
            self.points[here] = (c.mesh.vertices[corners] * weights[here]).sum(axis=1)
            factors = 1.0 if c.material.texture is None else c.material.texture(self.points[here])
            self.reflectance[here] = np.array([*c.material.diffuse, np.mean(c.material.specular)]) * factors


class Twins:
    """The flawed part and its flawless twin on one grid of rays."""

    def __init__(self, flawless: Part, flawed: Part, origins: np.ndarray, direction: np.ndarray) -> None:
        self.origins = origins
        self.before, self.after = (Cast(part, origins, direction) for part in (flawless, flawed))
        both = self.before.hit & self.after.hit
        self.rise_mm = np.where(both, np.where(both, self.before.depth, 0) - np.where(both, self.after.depth, 0), 0)
        self.turn_deg = np.degrees(np.linalg.norm(self.after.normals - self.before.normals, axis=1)) * both
        old, new = self.before.reflectance, self.after.reflectance
        self.tint = (np.abs(new - old) / np.maximum(old, 1e-9)).max(axis=1) * both
        self.mask = (np.abs(self.rise_mm) > 0.002) | (self.turn_deg > 1.0) | (self.tint > 0.01)
        self.mask |= self.before.hit != self.after.hit


def from_above(flawless: Part, flawed: Part, cells: int = 300) -> Twins:
    low, high = flawless.extent_mm
    axis = [np.linspace(low[k], high[k], cells + 1)[:-1] + (high[k] - low[k]) / cells / 2 for k in (0, 1)]
    xy = np.stack(np.meshgrid(*axis), axis=-1).reshape(-1, 2)
    return Twins(flawless, flawed, np.column_stack([xy, np.full(len(xy), high[2] + 1)]), np.array([0.0, 0.0, -1.0]))


def along_normal(flawless: Part, flawed: Part, defect: Defect, cells: int = 200) -> Twins:
    """Rays along the normal at the defect's middle over a square that holds it."""
    axes = axes_at(flawless, defect)
    grid = square(1.1 * float(np.hypot(*defect.size_mm)), cells)
    return Twins(flawless, flawed, defect.centre_mm + grid @ axes[:2] + 2 * axes[2], -axes[2])


def axes_at(part: Part, defect: Defect) -> np.ndarray:
    """Two tangents and the normal at the defect's middle, from the closed form of the part."""
    centre = np.array(defect.centre_mm)
    n = np.array([0.0, 0.0, 1.0]) if part.product == "plate" else centre / np.linalg.norm(centre)
    s = np.cross([0.0, 1.0, 0.0], n)
    s /= np.linalg.norm(s)
    return np.stack([s, np.cross(n, s), n])


def square(side_mm: float, cells: int) -> np.ndarray:
    axis = (np.arange(cells) - (cells - 1) / 2) * side_mm / cells
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("shape", PARTS)
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "missing_feature"])
class TestEveryKind:
    def test_area_place_and_surroundings(self, shape: str, kind: str) -> None:
        part, flawed, defect = made(shape, kind)
        twins = from_above(part, flawed)
        share = twins.mask.sum() / twins.before.hit.sum()
        assert 0.003 <= share <= 0.03
        assert share == pytest.approx(defect.area_share, rel=0.08)
        away = np.linalg.norm(twins.before.points - defect.centre_mm, axis=1)
        outside = twins.before.hit & (away > 0.5 * np.hypot(*defect.size_mm) + 0.1)
        assert outside.sum() > 5_000
        assert np.abs(twins.rise_mm[outside]).max() < 5e-6  # the rays are single precision
        assert twins.turn_deg[outside].max() < 0.05
        assert twins.tint[outside].max() < 1e-6
        assert twins.before.hit.tolist() == twins.after.hit.tolist()

    def test_relief_is_as_designed(self, shape: str, kind: str) -> None:
        part, flawed, defect = made(shape, kind)
        twins = along_normal(part, flawed, defect)
        if kind == "stain":
            assert defect.relief_um is None
            assert np.abs(twins.rise_mm).max() == 0
            return
        assert defect.relief_um is not None
        low, high = RELIEF_UM[kind]
        assert low <= defect.relief_um <= high
        assert abs(defect.relief_um) >= 20
        rise_um = twins.rise_mm * 1000
        peak = rise_um.min() if defect.relief_um < 0 else rise_um.max()
        assert peak == pytest.approx(defect.relief_um, rel=0.05)

    def test_normals_are_those_of_the_surface(self, shape: str, kind: str) -> None:
        part, flawed, defect = made(shape, kind)
        axes, cells, block = axes_at(part, defect), 320, 16
        twins = along_normal(part, flawed, defect)
        peak = twins.before.points[np.argmax(np.abs(twins.rise_mm) + twins.tint * 1e-3)]
        # Blocks of 20 µm on narrow relief; a mean over one is the same for facets and true surface.
        side = 0.4 if kind in ("scratch", "crack", "contamination") else min(defect.size_mm)
        window = Twins(part, flawed, peak + square(side, cells) @ axes[:2] + 2 * axes[2], -axes[2])
        by_t, by_s = np.gradient(-window.after.depth.reshape(cells, cells), side / cells)
        turned = window.after.normals @ axes.T
        slopes = [by_s, by_t, *(-(turned[:, k] / turned[:, 2]).reshape(cells, cells) for k in (0, 1))]
        shape_of_blocks = (cells // block, block, cells // block, block)
        s, t, s_told, t_told = (a.reshape(shape_of_blocks).mean(axis=(1, 3)) for a in slopes)
        patch = window.mask.reshape(shape_of_blocks).all(axis=(1, 3))
        # Not at the rim of an added body, where blocks straddle two surfaces.
        patch &= (np.abs(s) < 2) & (np.abs(t) < 2)
        assert patch.sum() > 20
        angle = np.degrees(np.arctan(np.hypot(s - s_told, t - t_told)))
        assert np.median(angle[patch]) < 0.5


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "missing_feature"])
def test_same_seed_same_defect(kind: str) -> None:
    part = plate()
    (one, first), (two, second), (_, other) = (
        apply_defect(part, kind, np.random.default_rng(seed), rebuild=no_rebuild) for seed in (7, 7, 8)
    )
    assert first == second
    assert first != other
    points = np.random.default_rng(0).uniform(-5, 5, (500, 3)) + first.centre_mm
    for a, b in zip(one.components, two.components, strict=True):
        np.testing.assert_array_equal(a.mesh.vertices, b.mesh.vertices)
        np.testing.assert_array_equal(a.mesh.normals, b.mesh.normals)
        np.testing.assert_array_equal(a.mesh.triangles, b.mesh.triangles)
        if a.material.texture is not None and b.material.texture is not None:
            np.testing.assert_array_equal(a.material.texture(points), b.material.texture(points))


@pytest.mark.parametrize("seed", range(2))
def test_stain_changes_the_diffuse_reflectance_by_its_contrast_only(seed: int) -> None:
    part = plate()
    flawed, defect = apply_defect(part, "stain", np.random.default_rng(seed), rebuild=no_rebuild)
    twins = along_normal(part, flawed, defect)
    ratio = (twins.after.reflectance / np.maximum(twins.before.reflectance, 1e-12))[twins.before.hit]
    assert defect.contrast is not None
    assert 0.05 <= abs(defect.contrast) <= 0.15
    extreme = ratio[np.argmax(np.abs(ratio[:, 0] - 1))]
    np.testing.assert_allclose(extreme[:3], 1 + defect.contrast, rtol=1e-12)
    np.testing.assert_allclose(ratio[:, 3], 1, rtol=1e-12)
    # The plateau is wide, and the edge is soft.
    assert (np.abs(ratio[:, 0] - extreme[0]) < 1e-9).sum() > 400
    assert ((np.abs(ratio[:, 0] - 1) > 0.01) & (np.abs(ratio[:, 0] - 1) < 0.04)).sum() > 80


def test_a_stain_on_metal_dims_its_reflection() -> None:
    part = plate(Material((0.1, 0.1, 0.1), (0.6, 0.58, 0.55), 0.3))
    flawed, defect = apply_defect(part, "stain", np.random.default_rng(1), rebuild=no_rebuild)
    twins = along_normal(part, flawed, defect)
    ratio = twins.after.reflectance[:, 3] / np.maximum(twins.before.reflectance[:, 3], 1e-12)
    assert defect.contrast is not None
    assert ratio[twins.before.hit].min() == pytest.approx(1 + defect.contrast)


@pytest.mark.parametrize("diffuse", [0.02, 0.95])
@pytest.mark.parametrize("kind", ["scratch", "stain", "pit", "crack"])
def test_reflectance_stays_physical(kind: str, diffuse: float) -> None:
    for specular in (0.04, 0.9):
        part = plate(Material((diffuse,) * 3, (specular,) * 3, 0.4))
        flawed, defect = apply_defect(part, kind, np.random.default_rng(2), rebuild=no_rebuild)
        twins = along_normal(part, flawed, defect, 120)
        assert twins.after.reflectance.min() >= 0
        assert twins.after.reflectance.max() <= 1
        assert twins.tint.max() > 0.04


def test_scratches_have_ridges() -> None:
    part = plate()
    flawed, defect = apply_defect(part, "scratch", np.random.default_rng(3), rebuild=no_rebuild)
    twins = along_normal(part, flawed, defect)
    assert defect.relief_um is not None
    assert 0.1 < twins.rise_mm.max() * 1000 / -defect.relief_um < 0.26


def test_contamination_is_matter_of_another_colour_without_gaps() -> None:
    for seed in range(4):
        part = dome()
        flawed, _ = apply_defect(part, "contamination", np.random.default_rng(seed), rebuild=no_rebuild)
        assert [c.name for c in flawed.components] == ["body", "contamination"]
        assert flawed.components[0] is part.components[0]
        body = flawed.components[1]
        distance = np.linalg.norm(body.mesh.vertices, axis=1) - RADIUS_MM
        ends = np.sort(np.concatenate([body.mesh.triangles[:, [k, (k + 1) % 3]] for k in range(3)]), axis=1)
        edges, uses = np.unique(ends, axis=0, return_counts=True)
        assert distance[edges[uses == 1]].max() < 0  # its rim lies in the part
        difference = np.abs(np.sqrt(body.material.diffuse) - np.sqrt(GREY.diffuse)).max()
        assert difference > 0.15 or body.material.specular[0] > 0.5
        again, _ = apply_defect(flawed, "contamination", np.random.default_rng(seed + 100), rebuild=no_rebuild)
        assert again.components[-1].name == "contamination_2"


def test_relief_slopes_are_plausible() -> None:
    for kind, steepest in (("scratch", 45), ("dent", 40), ("pit", 50), ("crack", 55), ("deformation", 40)):
        for seed in range(2):
            flawed, _ = apply_defect(plate(), kind, np.random.default_rng(seed), rebuild=no_rebuild)
            assert np.degrees(np.arccos(flawed.components[0].mesh.normals[:, 2].min())) < steepest


class TestDescription:
    def test_plain_data_survives_json(self) -> None:
        _, defect = apply_defect(plate(), "stain", np.random.default_rng(9), rebuild=no_rebuild)
        plain = defect.to_plain()
        assert json.loads(json.dumps(plain)) == plain
        assert set(plain) == set(Defect.__dataclass_fields__)


class TestMissingFeature:
    def test_the_part_lacks_it(self) -> None:
        names = set()
        for seed in range(4):
            part = bossed()
            flawed, defect = apply_defect(part, "missing_feature", np.random.default_rng(seed), rebuild=bossed)
            assert defect.feature in BOSSES
            names.add(defect.feature)
            x, half = BOSSES[str(defect.feature)]
            assert defect.feature not in [c.name for c in flawed.components]
            assert defect.relief_um == pytest.approx(-1000, abs=0.1)
            assert defect.size_mm == pytest.approx((2 * half, 2 * half), abs=0.1)
            assert defect.centre_mm == pytest.approx((x, 0, 4.0), abs=0.07)
            assert defect.area_share == pytest.approx((2 * half) ** 2 / 400, rel=0.08)
            twins = from_above(part, flawed)
            assert twins.mask.mean() == pytest.approx(defect.area_share, rel=0.08)
        assert names == {"boss_1", "boss_2"}  # the speck covers too little

    def test_a_hole_can_be_missing_too(self) -> None:
        def drilled(missing: frozenset[str]) -> Part:
            base = sheet(10.0, 10, 3.0)
            middle = np.abs(base.vertices[base.triangles].mean(axis=1)[:, :2]).max(axis=1)
            open_ = Mesh(base.vertices, base.normals, base.triangles[middle > 1.5])
            return Part("drilled", (Component("body", base if missing else open_, GREY),), ("hole",))

        whole = drilled(frozenset())
        _, defect = apply_defect(whole, "missing_feature", np.random.default_rng(0), rebuild=drilled)
        assert defect.feature == "hole"
        assert defect.relief_um == pytest.approx(3000, abs=0.1)

    def test_without_features(self) -> None:
        with pytest.raises(InputError, match=r"missing_feature.*plate.*no feature") as caught:
            apply_defect(plate(), "missing_feature", np.random.default_rng(0), rebuild=no_rebuild)
        assert caught.value.code == "simulate.defect_does_not_fit"
        assert all(kind in caught.value.hint for kind in KINDS if kind != "missing_feature")


class TestBadInput:
    def test_unknown_kind(self) -> None:
        with pytest.raises(InputError, match="bruise") as caught:
            apply_defect(plate(), "bruise", np.random.default_rng(0), rebuild=no_rebuild)
        assert all(kind in str(caught.value) for kind in KINDS)

    def test_no_smooth_spot(self) -> None:
        # A rake: bars of 0.5 mm at different heights, of which the widest defect-free spot is 0.5 mm wide.
        bars = [
            sheet(0.25, 1, 3.0 + 0.5 * (k % 2)).moved(np.diag([1, 40.0, 1]), [0.5 * k - 9.75, 0, 0]) for k in range(40)
        ]
        rake = Part("rake", (Component("bars", merged(bars), GREY),))
        with pytest.raises(
            InputError, match=r"'dent'.*'rake'.*needs.*\d\.\d × \d\.\d mm.*largest found is \d\.\d mm"
        ) as caught:
            apply_defect(rake, "dent", np.random.default_rng(0), rebuild=no_rebuild)
        assert caught.value.code == "simulate.defect_does_not_fit"
        assert "dent" not in caught.value.hint

    def test_steep_parts_have_no_spot(self) -> None:
        turn = np.array([[1.0, 0, 0], [0, 0.5, -np.sqrt(0.75)], [0, np.sqrt(0.75), 0.5]])
        wall = Part("wall", (Component("body", sheet(10.0, 10, 0.0).moved(turn, [0, 0, 10.0]), GREY),))
        with pytest.raises(InputError, match="wall"):
            apply_defect(wall, "stain", np.random.default_rng(0), rebuild=no_rebuild)


def test_speed() -> None:
    part = dome()
    for kind in ("dent", "scratch", "crack"):
        took = []
        for _ in range(3):
            start = time.process_time()
            apply_defect(part, kind, np.random.default_rng(1), rebuild=no_rebuild)
            took.append(time.process_time() - start)
        assert min(took) < 0.5
