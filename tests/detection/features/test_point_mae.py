"""The Point-MAE encoder: equal to one written by hand, the rewritten mini-PointNet to the plain one; file layouts; scales."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rakelight.detection.features import base, point_mae
from rakelight.detection.features.mini_pointnet import MiniPointNet, fold
from rakelight.detection.features.points import interpolation_weights
from rakelight.errors import InputError, ModelError

TINY = point_mae.PointMaeShape(dim=48, depth=3, heads=3)


def tiny(by_hand: Any, seed: int = 4) -> tuple[point_mae.PointMaeEncoder, dict[str, torch.Tensor]]:
    state = by_hand.random_state(point_mae.PointMaeEncoder(TINY), seed)
    return point_mae.network_from(TINY, state, Path("tiny.pth")), state


def extractor(by_hand: Any, **changes: Any) -> point_mae.PointMaeFeatures:
    few: dict[str, Any] = {"groups": 60, "group_size": 16}
    return point_mae.PointMaeFeatures(tiny(by_hand)[0], (0, 2), "00", **(few | changes))


def groups(count: int, size: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.1, (count, size, 3)).astype(np.float32), rng.normal(0, 0.5, (count, 3)).astype(np.float32)


@pytest.mark.parametrize("taps", [(2,), (0, 1)])
def test_tokens_are_those_of_the_network_written_by_hand(by_hand: Any, taps: tuple[int, ...]) -> None:
    network, state = tiny(by_hand)
    neighbours, centres = groups(9, 21)
    with torch.inference_mode():
        found = network(torch.from_numpy(neighbours), torch.from_numpy(centres), taps)
    expected = by_hand.point_mae_by_hand(state, neighbours.astype(float), centres.astype(float), 3, taps)
    assert np.abs(found.numpy() - expected).max() < 2e-5


@pytest.mark.parametrize("count", [1, 40])  # also more groups than are taken at once
def test_the_rewritten_pointnet_equals_the_plain_one(by_hand: Any, count: int) -> None:
    plain = MiniPointNet(384)
    plain.load_state_dict(by_hand.random_state(plain, 2))
    plain.eval()
    points = torch.from_numpy(groups(count, 128)[0])
    with torch.inference_mode():
        f = plain.first_conv(points.transpose(1, 2))
        both = torch.cat([f.max(2, keepdim=True)[0].expand(-1, -1, 128), f], 1)
        expected = plain.second_conv(both).max(2)[0]
        found = fold(plain)(points)
    assert found.shape == (count, 384)
    assert (found - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


def test_the_official_layout_is_read_and_its_decoder_left_aside(by_hand: Any) -> None:
    network, state = tiny(by_hand)
    official = {f"module.MAE_encoder.{k}": v for k, v in state.items()}
    official |= {"module.mask_token": torch.zeros(1), "module.MAE_decoder.norm.bias": torch.zeros(1)}
    official |= {"module.decoder_pos_embed.0.bias": torch.zeros(1), "module.increase_dim.0.bias": torch.zeros(1)}
    content = {"base_model": official, "epoch": 300, "optimizer": {}}
    again = point_mae.network_from(TINY, content, Path("pretrain.pth"))
    for key, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_the_real_encoder_has_the_official_tensors() -> None:
    with torch.device("meta"):
        state = point_mae.PointMaeEncoder(point_mae.PointMaeShape()).state_dict()
    assert state["encoder.second_conv.3.weight"].shape == (384, 512, 1)
    assert state["blocks.blocks.11.attn.qkv.weight"].shape == (1152, 384)
    assert "blocks.blocks.0.attn.qkv.bias" not in state
    # 14 of the mini-PointNet's convolutions and norms with their counters, 4 of the positions, 11 a block, 2 of the last norm
    assert len(state) == 18 + 4 + 12 * 11 + 2


def test_gaps_in_the_weights_are_named(by_hand: Any) -> None:
    _, state = tiny(by_hand)
    missing = {k: v for k, v in state.items() if k != "pos_embed.2.bias"}
    with pytest.raises(ModelError, match=r"1 missing \(pos_embed\.2\.bias\)") as caught:
        point_mae.network_from(TINY, {"base_model": missing}, Path("x.pth"))
    assert caught.value.code == "weights.mismatch"
    with pytest.raises(ModelError, match="base_model is a list"):
        point_mae.network_from(TINY, {"base_model": [1]}, Path("x.pth"))


def test_scales() -> None:
    points = np.random.default_rng(0).normal(3, 2, (500, 3)).astype(np.float32)
    sphere = point_mae.scaled(points, "unit-sphere")
    assert np.allclose(sphere.mean(0), 0, atol=1e-6)
    assert np.linalg.norm(sphere, axis=1).max() == pytest.approx(1)
    assert np.allclose(point_mae.scaled(points * 7 + 5, "unit-sphere"), sphere, atol=1e-5)
    assert np.allclose(point_mae.scaled(points, "metres") * 1000, points)
    assert np.array_equal(point_mae.scaled(points, "mm"), points)
    with pytest.raises(ModelError, match="metres"):
        point_mae.scaled(points, "inches")  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 5, 200, 3000])
def test_groups_of_small_and_large_clouds(count: int) -> None:
    points = np.random.default_rng(count).normal(0, 5, (count, 3)).astype(np.float32)
    found = point_mae.group(points, "mm")
    assert len(found.picks) == min(count, 1024) == len(set(found.picks.tolist()))
    assert found.neighbours.shape == (min(count, 1024), min(count, 128), 3)
    assert np.array_equal(found.centres, points[found.picks])
    assert np.allclose(found.neighbours[:, 0], 0)  # the nearest is the centre itself
    assert np.array_equal(point_mae.group(points, "metres").picks, found.picks)


@pytest.mark.parametrize("interpolation", ["three-nearest", "nearest", "off"])
def test_patches_take_the_mean_of_their_points(by_hand: Any, interpolation: str) -> None:
    found = extractor(by_hand, interpolation=interpolation)
    part = base.fingerprint_part(64)
    features = found.extract([part])
    assert features.values.shape == (1, 8, 8, found.dim) and found.dim == 96
    v, u = np.nonzero(part.mask & np.isfinite(part.xyz).all(2))
    points = part.xyz[v, u]
    groups_of = point_mae.group(points, "unit-sphere", groups=60, size=16)
    with torch.inference_mode():
        tokens = found.network(torch.from_numpy(groups_of.neighbours), torch.from_numpy(groups_of.centres), (0, 2))
    shares = interpolation_weights(points, points[groups_of.picks], interpolation)  # type: ignore[arg-type]
    each = shares @ tokens.numpy()
    inside = (v // 8 == 3) & (u // 8 == 4) & (np.diff(shares.indptr) > 0)
    assert inside.any()
    assert np.allclose(features.values[0, 3, 4], each[inside].mean(0), atol=1e-4)
    assert features.valid[0, 3, 4] and not features.valid[0, 0, 0]
    assert not features.values[0, 0, 0].any()


def test_features_are_repeatable_and_know_their_settings(by_hand: Any) -> None:
    found = extractor(by_hand)
    assert found.fingerprint() == found.fingerprint()
    other = extractor(by_hand, xyz_scale="metres")
    assert not base.same_fingerprint(found.fingerprint(), other.fingerprint())
    assert other.settings["xyz_scale"] == "metres" and other.settings["groups"] == 60


def test_a_part_without_points_is_nowhere_valid(by_hand: Any) -> None:
    part = base.fingerprint_part(64)
    bare = replace(part, xyz=np.full_like(part.xyz, np.nan))
    features = extractor(by_hand).extract([part, bare])
    assert features.valid[0].any() and not features.valid[1].any()
    assert np.isfinite(features.values).all()
    with pytest.raises(InputError, match="multiple of 8"):
        extractor(by_hand).grid(100)
