"""What ``compat="upstream"`` does to banks and grids, against the layers and lines of M3DM's code written once more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rakelight.detection import evidence
from rakelight.detection.evidence import Rows
from rakelight.detection.features.base import Features
from rakelight.detection.memory_bank import MemoryBank
from rakelight.detection.methods import EMBEDDED, PAPER, make_method
from rakelight.detection.methods.base import Method, default_grid
from rakelight.detection.upstream import bank_options
from rakelight.errors import InputError, ModelError


def rows_of(values: np.ndarray) -> Rows:
    count = len(values)
    return Rows(values, np.arange(count, dtype=np.int32) % 4, np.arange(count), 28)


def test_points_and_fused_patches_are_twice_as_fine_with_point_mae() -> None:
    method = make_method("m3dm", PAPER, compat="upstream")
    assert {bank.name: bank.finer for bank in method.banks} == {"rgb": 1, "xyz": 2, "fused": 2}
    assert method.settings == {"xyz": {"pooling": "zero-padded"}}
    assert (method.grid_of("rgb"), method.grid_of("xyz")) == (28, 56)
    assert Method.from_dict(method.to_dict()) == method
    embedded = make_method("m3dm", EMBEDDED, compat="upstream")
    assert embedded.settings == {} and embedded.grid_of("xyz") == 28
    by_hand = make_method(
        "d3m", PAPER, compat="upstream", settings={"xyz": {"pooling": "points", "xyz_scale": "metres"}}
    )
    assert by_hand.settings == {"xyz": {"pooling": "points", "xyz_scale": "metres"}}
    assert make_method("d3m", PAPER).settings == {}


def test_pictures_are_brought_to_the_fused_grid_as_adaptive_pooling_does() -> None:
    method = make_method("m3dm", PAPER, compat="upstream", size=64)
    rng = np.random.default_rng(0)
    rgb, xyz = (rng.normal(size=(2, g, g, 6)).astype(np.float32) for g in (8, 16))
    maps = {m: Features(v, np.ones(v.shape[:3], bool)) for m, v in (("rgb", rgb), ("xyz", xyz))}
    spec = next(bank for bank in method.banks if bank.name == "fused")
    pixels = np.ones((2, 64, 64), bool)
    found = evidence.pair_rows(spec, maps, pixels, [0, 1], method.grid)
    assert found is not None
    (first, second), rows = found
    wanted = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(rgb).permute(0, 3, 1, 2), 16)
    np.testing.assert_allclose(first.reshape(2, 16, 16, 6), wanted.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(second.reshape(2, 16, 16, 6), xyz)
    assert rows.grid == 16 and rows.place.max() == 255
    pixels[1, :32] = False  # judged as its own, finer patches
    found = evidence.pair_rows(spec, maps, pixels, [0, 1], method.grid)
    assert found is not None and len(found[1].part) == 256 + 128


def test_banks_are_scaled_and_cut_as_run_coreset_does() -> None:
    """The lines of TripleFeatures.run_coreset: one mean and std for all, sizes from what the first cut leaves."""
    rng = np.random.default_rng(1)
    libraries = {
        "rgb": rng.normal(3, 2, (400, 5)),
        "xyz": rng.normal(-1, 7, (1600, 4)),
        "fused": rng.normal(0, 1, (1500, 9)),
    }
    rows = {name: rows_of(values.astype(np.float32)) for name, values in libraries.items()}
    method = make_method("m3dm", compat="upstream")
    mean, std = libraries["xyz"].mean(), libraries["rgb"].std()
    f = 0.1
    n_xyz = int(f * len(libraries["xyz"]))
    n_others = int(f * n_xyz)
    options = bank_options(method, rows)
    for name, count in (("xyz", n_xyz), ("rgb", n_others), ("fused", n_others)):
        bank = MemoryBank.build(rows[name].values, rows[name].part, **options[name])
        assert len(bank) == count
        assert (bank.mean, bank.std) == pytest.approx((mean, std), rel=1e-5)
        assert bank.vectors[0] == pytest.approx((libraries[name][0] - mean) / std, abs=1e-4)
    assert bank_options(make_method("m3dm"), rows) == {}
    assert bank_options(make_method("patchcore-rgb", compat="upstream"), rows) == {}
    with pytest.raises(ModelError, match="deviation above 0"):
        MemoryBank.build(rows["rgb"].values, rows["rgb"].part, scale=(0.0, 0.0))


@pytest.mark.parametrize(("size", "grid"), [(224, 28), (112, 14), (336, 42), (252, 28), (98, 7), (32, 4)])
def test_the_grid_follows_the_size(size: int, grid: int) -> None:
    """Patches of 8 px; of 9 at 252 = 18 · 14, of 14 at 98 = 7 · 14, sizes that a patch of 14 px wants."""
    assert default_grid(size) == grid
    assert make_method("d3m", size=size).grid == grid
    assert make_method("d3m", size=224, grid=14).grid == 14


def test_options_that_do_not_fit_are_refused() -> None:
    for size in (0, -8, 22.5, True, 31):
        with pytest.raises(InputError) as caught:
            make_method("d3m", size=size)
        assert caught.value.code == "method.option"
    with pytest.raises(InputError, match="settings of xyz; it uses rgb"):
        make_method("patchcore-rgb", settings={"xyz": {"interpolation": "off"}})
    with pytest.raises(InputError, match="2 times as fine"):
        make_method("m3dm", PAPER, compat="upstream", size=36, grid=12)
    off = make_method("d3m", PAPER, settings={"xyz": {"interpolation": "off"}})
    assert Method.from_dict(off.to_dict()) == off and off.settings["xyz"] == {"interpolation": "off"}
