"""FPFH: equal to Open3D's on the same normals, independent of pose, unit and resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rakelight.detection.features import base
from rakelight.detection.features.fpfh import FpfhFeatures, fpfh, spacing_mm, surface_normals
from rakelight.errors import DatasetError, InputError, ModelError


def surface(size: int = 48, seed: int = 0) -> np.ndarray:
    """An uneven surface with a step, a hole and noise; (size, size, 3) float32, mm."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:size, :size].astype(np.float64)
    z = 200 + 0.3 * np.sin(u / 5) + 0.2 * np.cos(v / 7) + 0.8 * (u > 0.6 * size) + rng.normal(0, 0.01, u.shape)
    xyz = np.stack([u * 0.1, v * 0.1, z], axis=-1).astype(np.float32)
    xyz[10:14, 20:23] = np.nan
    return xyz


@pytest.mark.parametrize("radius", [3.03, 6.03])  # not at points of the grid, where rounding decides who is a neighbour
def test_it_equals_open3d(radius: float) -> None:
    o3d = pytest.importorskip("open3d")
    xyz = surface()
    normals = surface_normals(xyz, 0.1)
    mask = np.isfinite(normals[..., 0])
    assert np.array_equal(mask, np.isfinite(xyz[..., 2]))
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz[mask].astype(float)))
    cloud.normals = o3d.utility.Vector3dVector(normals[mask].astype(float))
    search = o3d.geometry.KDTreeSearchParamRadius(radius * 0.1)
    expected = np.asarray(o3d.pipelines.registration.compute_fpfh_feature(cloud, search).data).T
    found = fpfh(xyz, normals, 0.1, radius)
    assert np.abs(found[mask] - expected).max() < 1e-3
    sums = found[mask].reshape(-1, 3, 11).sum(axis=2)
    assert sums == pytest.approx(200, abs=1e-2)
    assert not found[~mask].any()


def test_normals_equal_open3d() -> None:
    o3d = pytest.importorskip("open3d")
    xyz = surface()
    normals = surface_normals(xyz, 0.1, 3.0)
    mask = np.isfinite(normals[..., 0])
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz[mask].astype(float)))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamRadius(0.3))
    agree = np.abs((np.asarray(cloud.normals) * normals[mask]).sum(axis=1))
    assert np.degrees(np.arccos(np.clip(np.percentile(agree, 2), 0, 1))) < 0.1
    assert (normals[mask][:, 2] < 0).all()
    assert np.linalg.norm(normals[mask], axis=1) == pytest.approx(1, abs=1e-5)


def test_a_plane_has_its_own_normal_everywhere() -> None:
    v, u = np.mgrid[:20, :20].astype(np.float32)
    plane = np.stack([u, v, 0.5 * u - 0.25 * v + 50], axis=-1)
    normal = np.array([0.5, -0.25, -1]) / np.linalg.norm([0.5, -0.25, -1])
    assert surface_normals(plane, 1.0) == pytest.approx(np.broadcast_to(normal, plane.shape), abs=1e-4)


def test_neither_pose_nor_unit_matters() -> None:
    """Turned about the optical axis, shifted, and in another unit: the same histograms."""
    xyz = surface()
    plain = fpfh(xyz, surface_normals(xyz, 0.1), 0.1)
    turned = np.rot90(xyz).copy()
    turned[..., 0], turned[..., 1] = turned[..., 1].copy(), -turned[..., 0].copy()
    turned[..., 2] += 3
    found = fpfh(turned, surface_normals(turned, 0.1), 0.1)
    off = np.abs(found - np.rot90(plain)).max(axis=2)
    assert np.median(off) < 1 and (off > 20).mean() < 0.02
    metres = xyz / np.float32(1000)
    off = np.abs(fpfh(metres, surface_normals(metres, 1e-4), 1e-4) - plain).max(axis=2)
    assert np.median(off) < 1 and (off > 20).mean() < 0.02


def test_a_dent_shows_in_its_patches_only() -> None:
    part = base.fingerprint_part(96)
    assert part.xyz is not None
    v, u = np.mgrid[:96, :96]
    dented = part.xyz.copy()
    dented[..., 2] += (0.4 * np.exp(-((u - 60) ** 2 + (v - 44) ** 2) / 18)).astype(np.float32)
    extractor = FpfhFeatures(radius=5)
    features = extractor.extract([part, replace(part, xyz=dented)])
    difference = np.abs(features.values[0] - features.values[1]).max(axis=2)
    row, column = np.unravel_index(difference.argmax(), difference.shape)
    assert abs(row - 5) <= 1 and abs(column - 7) <= 1
    assert difference[:, :3].max() == 0 and difference[5, 7] > 10


def test_patches_without_points_are_not_valid() -> None:
    part = base.fingerprint_part(96)
    assert part.xyz is not None
    xyz = part.xyz.copy()
    xyz[40:64, 40:64] = np.nan
    extractor = base.make_extractor("fpfh")
    features = extractor.extract([replace(part, xyz=xyz)])
    assert not features.valid[0, 5:8, 5:8].any() and features.valid[0, 3, 6] and not features.valid[0, 0, 0]
    assert np.isfinite(features.values).all() and not features.values[0, 6, 6].any()
    assert features.dim == extractor.dim == 33
    lone = np.full_like(xyz, np.nan)
    lone[48, 48] = 1.0
    alone = replace(part, xyz=lone, facts={"xyz_unit": "mm"})
    assert not extractor.extract([alone]).valid.any() and spacing_mm(alone) == 0
    with pytest.raises(DatasetError, match="no XYZ"):
        extractor.extract([replace(part, xyz=None)])


def test_spacing_is_found_without_a_pitch() -> None:
    part = replace(base.fingerprint_part(96), facts={})
    assert spacing_mm(part) == pytest.approx(0.125, rel=1e-3)


def test_the_same_numbers_every_time() -> None:
    extractor = base.make_extractor("fpfh")
    part = base.fingerprint_part(64)
    assert np.array_equal(extractor.extract([part]).values, extractor.extract([part]).values)
    assert base.same_fingerprint(extractor.fingerprint(), extractor.fingerprint())
    assert extractor.weights_sha256 is None


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"radius 0\.5 pitches"):
        FpfhFeatures(radius=0.5)
    with pytest.raises(InputError, match="working size 100 px"):
        FpfhFeatures().grid(100)
    with pytest.raises(ModelError, match="takes no taps"):
        base.make_extractor("fpfh", taps=[1])
