"""The catalogue: sizes, sound surfaces, and what varies from specimen to specimen."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import open3d as o3d
import pytest

from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.solid import Component, FloatArray, Part
from rakelight.errors import InputError

NAMES = list(PRODUCTS)

# Where the table shows through a part's outline, by generous closed forms: circles (x, y, radius), boxes (x, y, half
# width, half depth).
_BOLTS = [(7.05 * math.cos(a), 7.05 * math.sin(a), 1.02) for a in np.radians([45, 135, 225, 315])]
THROUGH_CIRCLES = {
    "anodised_bezel": [(-8.4, 0, 0.95), (8.4, 0, 0.95)],
    "ceramic_insulator": [(0, 0, 1.45)],
    "machined_flange": [(0, 0, 2.15), *_BOLTS],
}
THROUGH_BOXES = {"anodised_bezel": [(0, 0, 4.85, 5.15)]}
# What the outline is: round parts by their least radius, others by their boxes (x, y, half width, half depth).
ROUND = {"knob_cap": 4.85, "ceramic_insulator": 6.9, "machined_flange": 8.9, "clay_pot": 9.3}
BOXES = {
    "anodised_bezel": [(0, 0, 10.1, 7.1), (0, 0, 8.3, 7.8)],
    "connector_housing": [(0, -0.7, 7.3, 5.1), (-4.6, 4, 2.6, 1.8), (4.6, 4, 2.6, 1.8)],
    "ferrite_bead": [(0, 0, 5.9, 4.9), (0, 0, 11.2, 0.45)],
}


@cache
def specimen(name: str, seed: int = 1, missing: frozenset[str] = frozenset()) -> Part:
    return PRODUCTS[name].build(np.random.default_rng(seed), missing)


def within(x: FloatArray, y: FloatArray, circles: list, boxes: list) -> np.ndarray:  # type: ignore[type-arg]
    found = np.zeros(x.shape, bool)
    for cx, cy, r in circles:
        found |= np.hypot(x - cx, y - cy) < r
    for cx, cy, a, b in boxes:
        found |= (np.abs(x - cx) < a) & (np.abs(y - cy) < b)
    return found


@cache
def scene_of(part: Part) -> o3d.t.geometry.RaycastingScene:
    scene = o3d.t.geometry.RaycastingScene()
    for c in part.components:
        scene.add_triangles(
            o3d.core.Tensor(c.mesh.vertices.astype(np.float32)), o3d.core.Tensor(c.mesh.triangles.astype(np.uint32))
        )
    return scene


def cast(part: Part, rays: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distances (N,), inf where the table is hit, and the cosine of ray and facet, negative where it looks outwards."""
    hit = scene_of(part).cast_rays(o3d.core.Tensor(rays.astype(np.float32)))
    distance, normals = hit["t_hit"].numpy(), hit["primitive_normals"].numpy()
    height = rays[:, 2] + distance * rays[:, 5]
    distance[height < 1e-3] = np.inf
    return distance, np.sum(normals * rays[:, 3:], axis=1)


def components_equal(a: Component, b: Component) -> bool:
    points = a.mesh.vertices[::50]
    textures = [c.material.texture(points) if c.material.texture else np.ones(4) for c in (a, b)]
    return (
        a.name == b.name
        and all(np.array_equal(getattr(a.mesh, k), getattr(b.mesh, k)) for k in ("vertices", "normals", "triangles"))
        and (a.material.diffuse, a.material.specular, a.material.roughness)
        == (b.material.diffuse, b.material.specular, b.material.roughness)
        and np.array_equal(*textures)
    )


@pytest.mark.parametrize("name", NAMES)
class TestEveryProduct:
    def test_size(self, name: str) -> None:
        product = PRODUCTS[name]
        for seed in (1, 2, 3):
            low, high = specimen(name, seed).extent_mm
            nominal = (product.length_mm, product.width_mm, product.height_mm)
            np.testing.assert_allclose(high - low, nominal, rtol=0.05)
            assert low[2] == pytest.approx(0, abs=0.02)
            np.testing.assert_allclose((high + low)[:2] / 2, 0, atol=0.3)
        assert 7 <= max(product.length_mm, product.width_mm) <= 27 and product.height_mm <= 15

    def test_surface(self, name: str) -> None:
        part = specimen(name)
        assert sum(len(c.mesh.triangles) for c in part.components) < 400_000
        assert len({c.name for c in part.components}) == len(part.components)
        for mesh in (c.mesh for c in part.components):
            np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-9)
            assert mesh.facet_areas.min() > 0
            corners = mesh.vertices[mesh.triangles]
            assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max() <= 2.01
            cosine = np.sum(mesh.normals[mesh.triangles] * mesh.facet_normals[:, None], axis=-1)
            assert np.degrees(np.arccos(cosine.min())) < 1.5
            middle = mesh.normals[mesh.triangles].sum(axis=1)
            cosine = np.sum(middle * mesh.facet_normals, axis=1) / np.linalg.norm(middle, axis=1)
            assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 0.5

    def test_facets_keep_to_the_smooth_surface(self, name: str) -> None:
        """A chord between points whose normals differ by n₂ − n₁ strays by |(p₂ − p₁)·(n₂ − n₁)| / 8."""
        for mesh in (c.mesh for c in specimen(name).components):
            for k in range(3):
                a, b = mesh.triangles[:, k], mesh.triangles[:, k - 1]
                bend = np.sum((mesh.vertices[a] - mesh.vertices[b]) * (mesh.normals[a] - mesh.normals[b]), axis=1) / 8
                assert np.abs(bend).max() < 5e-4

    def test_no_gap_from_above(self, name: str) -> None:
        part = specimen(name)
        low, high = part.extent_mm
        x, y = (v.ravel() for v in np.meshgrid(np.arange(low[0], high[0], 0.02), np.arange(low[1], high[1], 0.0213)))
        rays = np.zeros((len(x), 6))
        rays[:, 0], rays[:, 1], rays[:, 2], rays[:, 5] = x, y, 30, -1
        distance, cosine = cast(part, rays)
        inside = np.hypot(x, y) < ROUND[name] if name in ROUND else within(x, y, [], BOXES[name])
        holes = within(x, y, THROUGH_CIRCLES.get(name, []), THROUGH_BOXES.get(name, []))
        assert np.isfinite(distance[inside & ~holes]).all()
        assert (cosine[np.isfinite(distance)] < 0).all()
        seen_through = inside & holes & np.isinf(distance)
        assert seen_through.any() == holes.any()

    @pytest.mark.parametrize("azimuth", [20.0, 140.0, 260.0])
    def test_slanted_rays_meet_outsides_only(self, name: str, azimuth: float) -> None:
        """A ray that slips through a gap ends on the back of a facet."""
        part = specimen(name)
        a = math.radians(azimuth)
        way = np.array([math.cos(a), math.sin(a), -1]) / math.sqrt(2)
        targets = np.random.default_rng(8).uniform(*part.extent_mm, (100_000, 3))
        rays = np.concatenate([targets - 40 * way, np.broadcast_to(way, targets.shape)], axis=1)
        distance, cosine = cast(part, rays)
        assert np.isfinite(distance).mean() > 0.3
        assert (cosine[np.isfinite(distance)] < 0).all()

    def test_same_seed_same_specimen(self, name: str) -> None:
        again = PRODUCTS[name].build(np.random.default_rng(1), frozenset())
        assert all(components_equal(a, b) for a, b in zip(specimen(name).components, again.components, strict=True))
        other = specimen(name, 2)
        first = specimen(name)
        assert not np.array_equal(first.components[0].mesh.vertices, other.components[0].mesh.vertices)
        assert first.components[0].material.diffuse != other.components[0].material.diffuse

    def test_missing_features(self, name: str) -> None:
        product = PRODUCTS[name]
        whole = {c.name: c for c in specimen(name).components}
        assert specimen(name).features == product.features and set(product.features) <= set(whole)
        for feature in product.features:
            part = specimen(name, 1, frozenset({feature}))
            left = {c.name: c for c in part.components}
            assert set(left) - {f"{feature}_plug"} == set(whole) - {feature}
            assert ("hole" in feature) == (f"{feature}_plug" in left)
            assert all(components_equal(left[k], whole[k]) for k in set(left) & set(whole))
            assert feature not in part.features

    def test_catalogue_entry(self, name: str) -> None:
        product, part = PRODUCTS[name], specimen(name)
        assert product.name == name == part.product
        with pytest.raises(InputError, match=rf"missing feature of {name} is wing; allowed: ") as caught:
            product.build(np.random.default_rng(1), frozenset({"wing"}))
        assert caught.value.code == "simulate.unknown_feature"


@pytest.mark.parametrize("feature", ["screw_hole_1", "screw_hole_2"])
def test_undrilled_hole_is_level_face(feature: str) -> None:
    part = specimen("anodised_bezel", 1, frozenset({feature}))
    x = -8.4 if feature.endswith("1") else 8.4
    at = np.random.default_rng(2).uniform(-1.7, 1.7, (20_000, 2)) + np.array([x, 0])
    rays = np.concatenate([at, np.full((len(at), 1), 30.0), np.broadcast_to([0, 0, -1.0], (len(at), 3))], axis=1)
    distance, _ = cast(part, rays)
    np.testing.assert_allclose(30 - distance[np.abs(at[:, 0]) < 10], part.extent_mm[1][2], atol=1e-5)
