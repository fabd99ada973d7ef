"""Every product takes defects; what is seen from above is as designed."""

from __future__ import annotations

import numpy as np
import open3d as o3d
import pytest

from rakelight.acquisition.simulator.defects import KINDS, apply_defect
from rakelight.acquisition.simulator.products.catalogue import PRODUCTS
from rakelight.acquisition.simulator.solid import Part
from rakelight.errors import InputError

CELLS = 220


def seen(part: Part, like: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height, normal and diffuse reflectance from above on a grid over the part ``like``; the table is at height 0."""
    low, high = like.extent_mm
    pitch = (high - low)[:2] / CELLS
    xy = (np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS)), axis=-1) + 0.5).reshape(-1, 2) * pitch + low[:2]
    scene = o3d.t.geometry.RaycastingScene()
    for c in part.components:
        scene.add_triangles(c.mesh.vertices.astype(np.float32), c.mesh.triangles.astype(np.uint32))
    rays = np.column_stack([xy, np.full(len(xy), high[2] + 1), np.tile([0, 0, -1], (len(xy), 1))]).astype(np.float32)
    answer = {key: value.numpy() for key, value in scene.cast_rays(o3d.core.Tensor(rays)).items()}
    points, normals, colours = np.zeros((3, len(xy), 3))
    points[:, :2] = xy
    uv = answer["primitive_uvs"].astype(float)
    weights = np.concatenate([1 - uv.sum(axis=1, keepdims=True), uv], axis=1)[..., None]
    for index, c in enumerate(part.components):
        here = answer["geometry_ids"] == index
        corners = c.mesh.triangles[answer["primitive_ids"][here]]
        points[here] = (c.mesh.vertices[corners] * weights[here]).sum(axis=1)
        normals[here] = (c.mesh.normals[corners] * weights[here]).sum(axis=1)
        factors = np.ones((here.sum(), 4)) if c.material.texture is None else c.material.texture(points[here])
        colours[here] = c.material.diffuse * factors[:, :3]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return points, normals, colours


PAIRS = [(name, KINDS[(2 * k + j * 5) % len(KINDS)]) for k, name in enumerate(PRODUCTS) for j in range(2)]


@pytest.mark.parametrize(("product", "kind"), PAIRS)
def test_products_take_defects(product: str, kind: str) -> None:
    build = PRODUCTS[product].build

    def rebuild(missing: frozenset[str]) -> Part:
        return build(np.random.default_rng(3), missing)

    part = rebuild(frozenset())
    if kind == "missing_feature" and not part.features:
        with pytest.raises(InputError, match=product):
            apply_defect(part, kind, np.random.default_rng(1), rebuild=rebuild)
        return
    flawed, defect = apply_defect(part, kind, np.random.default_rng(1), rebuild=rebuild)
    (old, old_normals, old_colours), (new, new_normals, new_colours) = (seen(p, part) for p in (part, flawed))
    changed = np.abs(new - old)[:, 2] > 0.002
    changed |= np.linalg.norm(new_normals - old_normals, axis=1) > np.radians(1.0)
    changed |= (np.abs(new_colours - old_colours) > 0.01 * old_colours).any(axis=1)
    share = changed.sum() / (np.linalg.norm(old_normals, axis=1) > 0.5).sum()
    assert share == pytest.approx(defect.area_share, rel=0.15)
    if kind != "missing_feature":
        assert 0.0028 <= share <= 0.031
    away = np.linalg.norm(old[:, :2] - defect.centre_mm[:2], axis=1)
    assert away[changed].max() < 0.5 * np.hypot(*defect.size_mm) + 0.15
