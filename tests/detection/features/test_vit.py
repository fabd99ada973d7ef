"""The vision transformers: equal to one written by hand and to timm, official names, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rakelight.detection.features import base, transformer, vit
from rakelight.detection.features.transformer import checked_precision
from rakelight.errors import DatasetError, InputError, ModelError

PLAIN = vit.VitShape(patch=4, dim=32, depth=3, heads=2, grid=4)
SCALED = vit.VitShape(patch=4, dim=32, depth=3, heads=2, grid=4, layer_scale=True)


def tiny(
    by_hand: Any, shape: vit.VitShape = PLAIN, seed: int = 7
) -> tuple[vit.VisionTransformer, dict[str, torch.Tensor]]:
    state = by_hand.random_state(vit.VisionTransformer(shape), seed)
    return vit.network_from(shape, state, Path("tiny.pth")), state


def extractor(by_hand: Any, **changes: Any) -> vit.VitFeatures:
    shape = vit.VitShape(patch=8, dim=32, depth=3, heads=2, grid=28)
    network, _ = tiny(by_hand, shape)
    settings: dict[str, Any] = {"modality": "rgb", "taps": (1, 2), "id": "tiny", "weights_sha256": "00"}
    return vit.VitFeatures(network, **(settings | changes))


@pytest.mark.parametrize("shape", [PLAIN, SCALED])
@pytest.mark.parametrize("size", [(16, 16), (8, 28)])  # as trained; smaller one way and larger the other
@pytest.mark.parametrize("taps", [(2,), (0, 1)])
def test_tokens_are_those_of_the_network_written_by_hand(by_hand: Any, shape: Any, size: Any, taps: Any) -> None:
    network, state = tiny(by_hand, shape)
    pictures = by_hand.random_pictures(2, 28, 3)[:, :, : size[0], : size[1]]
    with torch.inference_mode():
        found = network(pictures, taps)
    assert found.shape == (2, size[0] // 4, size[1] // 4, 32 * len(taps))
    for picture, tokens in zip(pictures.double().numpy(), found.numpy(), strict=True):
        expected = by_hand.vit_by_hand(state, picture, 4, 2, taps)
        assert np.abs(tokens.reshape(expected.shape) - expected).max() < 2e-5


@pytest.mark.parametrize(
    ("shape", "golden"),
    [
        (PLAIN, [0.072311, 2.823743, 1.456012, -0.151466, -1.264006, -0.243684]),
        (SCALED, [-0.115148, -0.74507, -1.013544, 1.30752, -2.396227, -0.159475]),
    ],
)
def test_tokens_are_those_of_timm(by_hand: Any, shape: vit.VitShape, golden: list[float]) -> None:
    """Six numbers that timm 1.0.31's VisionTransformer gave for the same weights and picture (get_intermediate_layers)."""
    network, _ = tiny(by_hand, shape)
    with torch.inference_mode():
        found = network(by_hand.random_pictures(2, 16, 3), (0, 2))
    assert np.allclose(found.flatten(1, 2)[1, 5, [0, 7, 31, 32, 40, 63]], golden, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [("vit-b8-dino", 150, 85_807_872), ("vit-s8-dino", 150, 21_670_272), ("vit-s14-dinov2", 174, 22_056_192)],
)
def test_the_real_networks_have_the_official_tensors(name: str, tensors: int, parameters: int) -> None:
    with torch.device("meta"):
        state = vit.VisionTransformer(vit.SHAPES[name]).state_dict()
    assert len(state) == tensors
    assert sum(t.numel() for t in state.values()) == parameters  # as timm counts them
    assert {
        "cls_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.11.attn.qkv.bias",
        "norm.weight",
    } <= state.keys()
    assert ("blocks.0.ls1.gamma" in state) == (name == "vit-s14-dinov2")


def test_the_fast_product_equals_torchs_own(by_hand: Any) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = (torch.from_numpy(rng.normal(0, 1, s).astype(np.float32)) for s in ((3, 50, 64), (96, 64), (96,)))
    with torch.inference_mode():
        for b in (bias, None):
            plain = torch.nn.functional.linear(x.double(), weight.double(), None if b is None else b.double())
            assert (transformer.linear(x, weight, b) - plain).abs().max() < 2e-5


def test_without_the_fast_product_torchs_own_is_used(by_hand: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = tiny(by_hand)
    pictures = by_hand.random_pictures(1, 16, 3)
    with torch.inference_mode():
        fast = network(pictures, (2,))
        monkeypatch.setattr(transformer, "_onednn_linear", lambda: None)
        assert torch.allclose(network(pictures, (2,)), fast, atol=1e-5)


def test_a_picture_has_the_same_features_in_any_company(by_hand: Any) -> None:
    one = base.fingerprint_part(64)
    found = extractor(by_hand)
    alone, together = found.extract([one]), found.extract([one, base.fingerprint_part(64), one])
    assert np.array_equal(together.values[2], alone.values[0])
    assert found.extract([one]).values.tobytes() == alone.values.tobytes()


def test_extractor_normalises_and_reads_the_modality_it_is_for(by_hand: Any) -> None:
    part = base.fingerprint_part(64)
    found = extractor(by_hand)
    picture = (part.rgb.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    _, state = tiny(by_hand, found.network.shape)
    expected = by_hand.vit_by_hand(state, picture.transpose(2, 0, 1), 8, 2, (1, 2))
    features = found.extract([part])
    assert features.values.shape == (1, 8, 8, found.dim) and found.dim == 64
    assert np.abs(features.values.reshape(expected.shape) - expected).max() < 5e-5
    assert not features.valid[0, 0, 0] and features.valid[0, 4, 4]
    of_ps = extractor(by_hand, modality="ps")
    assert not np.allclose(of_ps.extract([part]).values, features.values)
    assert found.settings == {"taps": [1, 2], "precision": "float32"}


def test_fingerprint_tells_networks_apart(by_hand: Any) -> None:
    found = extractor(by_hand)
    other = vit.VitFeatures(tiny(by_hand, found.network.shape, seed=8)[0], "rgb", (1, 2), "tiny", "00")
    assert found.fingerprint() == found.fingerprint()
    assert not base.same_fingerprint(found.fingerprint(), other.fingerprint())
    assert not base.same_fingerprint(found.fingerprint(), extractor(by_hand, taps=(0, 1)).fingerprint())


def test_refusals(by_hand: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = tiny(by_hand)
    with pytest.raises(InputError, match="multiples of 4") as caught:
        network(torch.zeros(1, 3, 18, 16), (0,))
    assert caught.value.code == "features.size"
    with pytest.raises(InputError, match="multiple of its patch size 14") as caught:
        vit.patches_a_side(226, vit.SHAPES["vit-s14-dinov2"], "vit-s14-dinov2")
    assert "224" in caught.value.hint
    for taps in ((), (3,), (-1,), (0, 0)):
        with pytest.raises(ModelError, match="from 0 to 2") as refused:
            network(torch.zeros(1, 3, 16, 16), taps)
        assert refused.value.code == "features.taps"
    lacking = base.fingerprint_part(64)
    object.__setattr__(lacking, "ps", None)
    with pytest.raises(DatasetError, match="ps"):
        extractor(by_hand, modality="ps").extract([lacking])
    monkeypatch.setattr(transformer, "cpu_has_bfloat16", lambda: False)
    for precision, device in (("bfloat16", "cpu"), ("float16", "cpu"), ("int3", "cuda")):
        with pytest.raises(ModelError) as refused:
            checked_precision(precision, device)
        assert refused.value.code == "features.precision"
    assert checked_precision("float16", "cuda") == torch.float16
