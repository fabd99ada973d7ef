"""The contrastive fusion: M3DM's size and loss, training that helps where there is something to learn, and says when not."""

import numpy as np
import pytest
import torch

from rakelight.detection.fusion import Fusion, concat, info_nce, network
from rakelight.detection.fusion_training import FusionSettings, separation, train
from rakelight.errors import InputError, ModelError

QUICK = FusionSettings(most_steps=60, batch=128)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parts(number=6, patches=150, dims=(40, 30), common=True, seed=0):
    """Patches that two modalities see: places all parts share, and what varies, in common or each on its own."""
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(patches, 10))
    mixes = [rng.normal(size=(10, d)) for d in dims]
    first, second = [], []
    for _ in range(number):
        vary = [0.6 * rng.normal(size=place.shape) for _ in range(2)]
        seen = (
            [place + vary[0], place + vary[0]]
            if common
            else [rng.normal(size=place.shape), rng.normal(size=place.shape)]
        )
        for out, latent, mix in zip((first, second), seen, mixes, strict=True):
            out.append(np.tanh(latent @ mix / 3) + 0.3 * rng.normal(size=(patches, mix.shape[1])))
    ids = np.repeat(np.arange(number), patches)
    return np.concatenate(first).astype(np.float32), np.concatenate(second).astype(np.float32), ids


def test_network_has_m3dms_size():
    assert sum(p.numel() for p in network((1152, 768)).parameters()) == 15_840_896  # 15.84 M, counted in M3DM


def test_loss_is_info_nce():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 5))
    a_unit, b_unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    for t in (1.0, 0.1):
        e = np.exp(a_unit @ b_unit.T / t)
        one = -np.log(np.diag(e) / e.sum(axis=1)).mean()
        other = -np.log(np.diag(e) / e.sum(axis=0)).mean()
        tensors = torch.from_numpy(a), torch.from_numpy(b)
        assert float(info_nce(*tensors, t)) == pytest.approx(2 * t * one)
        assert float(info_nce(*tensors, t, symmetric=True)) == pytest.approx(t * (one + other))


def test_trains_and_finds_partners():
    a, b, ids = parts()
    steps = []
    fusion, report = train(a, b, ids, QUICK, keep=True, progress=lambda done, total: steps.append((done, total)))
    assert fusion.kind == "contrastive" and fusion.dim == 70
    assert report.loss < 0.8 * report.loss_before
    assert report.partner_found > 10 * report.by_chance
    assert report.held_out_parts == 1 and 0 < report.best_step <= report.steps
    assert steps[-1][0] == report.steps and steps[-1][1] == QUICK.steps((40, 30))
    assert f"{report.separation:.1%}" in report.sentence
    assert report.helps == (report.separation > report.separation_concat + 0.01)
    assert fusion.fuse(a, b).shape == (len(a), 70) and fusion.fuse(a, b).dtype == np.float32


def test_unrelated_modalities_stop_early_and_turn_it_off():
    a, b, ids = parts(common=False)
    fusion, report = train(a, b, ids, QUICK)
    assert not report.helps and fusion.kind == "concat"
    assert "does not help" in report.sentence
    assert report.partner_found < 0.1
    assert report.steps < QUICK.most_steps  # held-out loss does not fall for long


def test_same_seed_same_weights_and_torch_state_untouched():
    a, b, ids = parts(patches=60)
    settings = FusionSettings(most_steps=8, batch=64, seed=4)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, _ = train(a, b, ids, settings, keep=True)
    assert torch.equal(torch.rand(3), expected)
    two, _ = train(a, b, ids, settings, keep=True)
    other, _ = train(a, b, ids, FusionSettings(most_steps=8, batch=64, seed=5), keep=True)
    np.testing.assert_array_equal(one.fuse(a, b), two.fuse(a, b))
    assert not np.array_equal(one.fuse(a, b), other.fuse(a, b))


@pytest.mark.parametrize("kind", ["contrastive", "concat"])
def test_stored_fusion_fuses_the_same(kind, tmp_path):
    from safetensors.numpy import load_file, save_file

    a, b, ids = parts(patches=40)
    fusion = (
        concat(a, b) if kind == "concat" else train(a, b, ids, FusionSettings(most_steps=3, batch=32), keep=True)[0]
    )
    save_file(fusion.to_arrays(), tmp_path / "fusion.safetensors")
    arrays = load_file(tmp_path / "fusion.safetensors")
    again = Fusion.from_arrays(kind, arrays)
    np.testing.assert_array_equal(fusion.fuse(a, b), again.fuse(a, b))
    assert again.dims == (40, 30)
    name = sorted(arrays)[0]
    with pytest.raises(ModelError, match=f"{name}|complete"):
        Fusion.from_arrays(kind, {k: v for k, v in arrays.items() if k != name})
    with pytest.raises(ModelError, match="extra"):
        Fusion.from_arrays(kind, arrays | {"extra": np.zeros(2, np.float32)})
    with pytest.raises(ModelError, match=name):
        Fusion.from_arrays(kind, arrays | {name: np.full_like(arrays[name], np.nan)})


def test_concat_weighs_both_the_same():
    a, b, _ = parts()
    fused = concat(1000 * a + 5, b).fuse(1000 * a + 5, b)
    np.testing.assert_allclose(fused.mean(axis=0), 0, atol=1e-4)
    assert np.square(fused[:, :40]).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)
    assert np.square(fused[:, 40:]).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)


def test_separation_is_chance_where_nothing_is_disturbed_enough():
    """With features that are only noise, a patch moved by less than the noise cannot be told."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600, 50)).astype(np.float32)
    ids = np.repeat(np.arange(6), 100).astype(np.int32)
    figure = separation(concat(a, b), a, b, ids, ids == 0)
    assert 0.5 < figure < 0.95
    quiet = np.tile(a[:100], (6, 1)) + 0.01 * b[:, :50]
    assert separation(concat(quiet, quiet), quiet, quiet, ids, ids == 0) > 0.99


def test_work_is_bounded_by_operations_not_by_time():
    settings = FusionSettings()
    assert settings.steps((112, 33)) == settings.most_steps
    assert 5 <= settings.steps((512, 512)) < settings.steps((320, 112)) <= settings.most_steps


def test_bad_input_is_named():
    a, b, ids = parts(number=3, patches=10)
    with pytest.raises(ModelError, match="there are 2"):
        train(a[:20], b[:20], ids[:20])
    with pytest.raises(ModelError, match="30 patches of the first and 29"):
        train(a, b[:29], ids)
    bad = a.copy()
    bad[3, 0] = np.nan
    with pytest.raises(ModelError, match="NaN"):
        train(bad, b, ids)
    with pytest.raises(ModelError, match="30 dimensions"):
        concat(a, b).fuse(b, b)
    with pytest.raises(InputError, match="temperature"):
        FusionSettings(temperature=0)
    with pytest.raises(ModelError, match="sum"):
        Fusion.from_arrays("sum", {})
