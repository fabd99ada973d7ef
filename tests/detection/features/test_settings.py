"""Settings of extractors: what is refused, what half precision costs, and M3DM's pooling against torch's own layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rakelight.detection.features import base, m3dm_pooling, point_mae, vit
from rakelight.detection.features.points import interpolation_weights
from rakelight.errors import ModelError

NAMES = {
    "efficientnet-lite0": "none",
    "fpfh": "none",
    "vit-b8-dino": "precision",
    "point-mae": "xyz_scale, interpolation, groups, group_size, pooling",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_there_is_not_is_refused_and_the_others_named(name: str) -> None:
    for wrong in ("colour", "weights", "device"):  # the last two are no settings
        with pytest.raises(ModelError, match=f"{name} has no setting {wrong}; it has {NAMES[name]}") as caught:
            base.make_extractor(name, settings={wrong: 1})
        assert caught.value.code == "features.setting"


@pytest.mark.parametrize(
    ("name", "settings", "code", "allowed"),
    [
        ("vit-s8-dino", {"precision": "int3"}, "features.precision", "float32, bfloat16, float16"),
        ("point-mae", {"xyz_scale": "inches"}, "features.xyz_scale", "unit-sphere, metres, mm"),
        ("point-mae", {"interpolation": True}, "features.interpolation", "three-nearest, nearest, off"),
        ("point-mae", {"pooling": "max"}, "features.pooling", "points, zero-padded"),
        ("point-mae", {"groups": 0}, "features.groups", "1 to 16384"),
        ("point-mae", {"group_size": 12.5}, "features.groups", "1 to 4096"),
        ("point-mae", {"groups": True}, "features.groups", "1 to 16384"),
    ],
)
def test_values_out_of_range_are_refused_before_weights_are_looked_for(
    name: str, settings: dict[str, Any], code: str, allowed: str
) -> None:
    with pytest.raises(ModelError, match=allowed) as caught:
        base.make_extractor(name, settings=settings)
    assert caught.value.code == code


def test_extractors_tell_their_settings(by_hand: Any) -> None:
    net = base.make_extractor("efficientnet-lite0", taps=[4])
    assert base.settings_of(net) == {"taps": [4]}
    assert base.settings_of(base.make_extractor("fpfh")) == {}


# ---------------------------------------------------------------------------------------------------------- half precision
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_float32_but_not_the_same(by_hand: Any, dtype: torch.dtype) -> None:
    """Of a network of 6 blocks with random weights, the features' cosine is above 0.999 at every patch; a model taught in one
    precision is not run in another."""
    shape = vit.VitShape(patch=8, dim=96, depth=6, heads=3, grid=28)
    state = by_hand.random_state(vit.VisionTransformer(shape), 7)
    exact = vit.VitFeatures(vit.network_from(shape, state, Path("a")), "rgb", (2, 5), "tiny", "00")
    name = str(dtype).removeprefix("torch.")
    half = replace(exact, network=vit.network_from(shape, state, Path("a")).to(dtype), precision=name)
    part = base.fingerprint_part(64)
    a, b = (e.extract([part]).values.reshape(64, -1) for e in (exact, half))
    assert b.dtype == np.float32
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    error = np.abs(a - b).max() / np.abs(a).max()
    least, most = {"bfloat16": (0.999, 0.03), "float16": (0.99999, 0.004)}[name]
    assert cosine.min() > least and 0 < error < most
    whole, part_of = exact.fingerprint(), half.fingerprint()
    assert base.same_fingerprint(whole, part_of, name)
    again = [x * (1 + 3e-4) for x in whole]  # another processor, a GPU
    assert base.same_fingerprint(whole, again)
    other = replace(exact, network=vit.network_from(shape, by_hand.random_state(exact.network, 8), Path("b")))
    assert not base.same_fingerprint(whole, other.fingerprint(), name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_fingerprints_of_the_cpu() -> None:
    for name in ("efficientnet-lite0", "fpfh"):
        cpu, gpu = (base.make_extractor(name, device=d) for d in ("cpu", "cuda"))
        assert base.same_fingerprint(cpu.fingerprint(), gpu.fingerprint())


# ------------------------------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize(("size", "grid"), [(112, 14), (336, 42), (224, 28)])
def test_grids_follow_the_working_size(by_hand: Any, size: int, grid: int) -> None:
    for name in ("efficientnet-lite0", "fpfh"):
        assert base.make_extractor(name).grid(size) == grid
    assert vit.patches_a_side(size, vit.SHAPES["vit-b8-dino"], "vit-b8-dino") == grid
    shape = vit.VitShape(patch=8, dim=32, depth=2, heads=2, grid=28)
    network = vit.network_from(shape, by_hand.random_state(vit.VisionTransformer(shape), 1), Path("tiny"))
    found = vit.VitFeatures(network, "rgb", (1,), "tiny", "00").extract([base.fingerprint_part(size)])
    assert found.values.shape == (1, grid, grid, 32) and np.isfinite(found.values).all()


# ---------------------------------------------------------------------------------------------------------- M3DM's pooling
@pytest.mark.parametrize("size", [64, 104, 224])
def test_zero_padded_pooling_is_torchs(size: int) -> None:
    rng = np.random.default_rng(size)
    dense = np.zeros((size, size, 5), np.float32)
    v, u = np.nonzero(rng.random((size, size)) < 0.4)
    features = rng.normal(size=(len(v), 5)).astype(np.float32)
    dense[v, u] = features
    sides = size // 4
    layers = torch.nn.Sequential(torch.nn.AvgPool2d(3, stride=1), torch.nn.AdaptiveAvgPool2d((sides, sides)))
    expected = layers(torch.from_numpy(dense).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    points = np.stack([u, v, np.zeros(len(v))], 1).astype(np.float32)
    each = interpolation_weights(points, points, "off")  # every point is a centre
    found = m3dm_pooling.zero_padded_weights(each, v * size + u, size) @ features
    np.testing.assert_allclose(found.reshape(sides, sides, 5), expected, atol=2e-6)


def test_point_mae_takes_m3dms_pooling_and_a_finer_grid(by_hand: Any) -> None:
    shape = point_mae.PointMaeShape(dim=48, depth=3, heads=3)
    network = point_mae.network_from(shape, by_hand.random_state(point_mae.PointMaeEncoder(shape), 4), Path("tiny"))
    plain = point_mae.PointMaeFeatures(network, (0, 2), "00", groups=60, group_size=16)
    padded = replace(plain, pooling="zero-padded")
    part = base.fingerprint_part(64)
    found = padded.extract([part])
    assert plain.grid(64) == 8 and padded.grid(64) == found.grid == 16
    assert padded.settings["pooling"] == "zero-padded"
    # the same points' features, averaged by torch
    v, u = np.nonzero(part.mask & np.isfinite(part.xyz).all(2))
    points = part.xyz[v, u]
    groups = point_mae.group(points, "unit-sphere", groups=60, size=16)
    with torch.inference_mode():
        tokens = network(torch.from_numpy(groups.neighbours), torch.from_numpy(groups.centres), (0, 2)).numpy()
    dense = np.zeros((64, 64, 96), np.float32)
    dense[v, u] = interpolation_weights(points, points[groups.picks]) @ tokens
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(dense).permute(2, 0, 1)[None], 3, 1)
    expected = torch.nn.functional.adaptive_avg_pool2d(pooled, 16)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found.values[0], expected, atol=1e-4)
    inside, rim = found.values[0, 8, 8], found.values[0][found.valid[0]]
    assert np.linalg.norm(rim, axis=1).min() < 0.8 * np.linalg.norm(inside)  # thinned by the zeros around the part
