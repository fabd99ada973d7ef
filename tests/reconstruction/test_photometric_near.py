"""The sweep under near lights against plain float64 least squares and against the pixel-by-pixel judgement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.reconstruction import _near_kernels as near_kernels
from rakelight.reconstruction import _photometric_kernels as pixel_kernels
from rakelight.reconstruction import pseudo3d
from rakelight.reconstruction._photometric_input import near_sources
from rakelight.reconstruction.photometric import (
    DEFAULT_THRESHOLDS,
    Corrections,
    Flag,
    PhotometricResult,
    Thresholds,
    allocate,
    levels_of,
    solve_near,
)

REFERENCE = np.array([1.0, -2.0, 195.0])


def sources_mm(zones: int, slant_deg: float = 45) -> NDArray[np.float64]:
    a, s = 2 * np.pi * np.arange(zones) / zones + 0.2, np.radians(slant_deg)
    towards = np.stack([np.sin(s) * np.cos(a), np.sin(s) * np.sin(a), np.full(zones, -np.cos(s))], axis=1)
    return REFERENCE + 210 * towards


def stack_of(zones: int, dtype: Any, rows: int = 40, cols: int = 600) -> dict[str, Any]:
    """Noisy frames of a bumpy, high part with dark and gains, and all kinds of evidence sprinkled over them."""
    rng = np.random.default_rng(zones)
    top = float(np.iinfo(dtype).max) if dtype != np.float32 else 1.0
    x, y = np.meshgrid(np.linspace(-25, 25, cols), np.linspace(-15, 15, rows))
    xyz = np.stack([x, y, 190 + 5 * np.sin(x / 7) * np.cos(y / 5)], axis=-1).astype(np.float32)
    n = np.stack([0.5 * np.sin(x), 0.4 * np.cos(y * 2), np.ones_like(x)], axis=-1)
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    towards = (sources_mm(zones)[:, None, None] - xyz) * [1, -1, -1]
    distance = np.linalg.norm(towards, axis=-1)
    shade = np.clip((towards * n).sum(-1), 0, None) * 210.0**2 / distance**3
    gains = rng.uniform(0.8, 1.2, shade.shape).astype(np.float32)
    signal = 0.55 * shade / gains * (1 + 0.003 * rng.standard_normal(shade.shape)) + 0.02
    kind = rng.random(shade.shape)
    signal[kind < 0.01] = 1.0
    signal[kind > 0.99] = 0.02
    signal[(kind > 0.5) & (kind < 0.51)] *= 1.3
    signal[:, 5:9, 30:60] = 0.02
    signal[:, 12:15, 100:130] = 1.0
    xyz[20:24, 200:240] = np.nan
    xyz[30, 300:310, 2] = np.inf
    frames = [f.astype(dtype) if dtype == np.float32 else np.rint(f * top).astype(dtype) for f in signal.clip(0, 1)]
    dark = np.full((rows, cols), 0.02 * top, np.float32)
    return {
        "frames": frames,
        "xyz": xyz,
        "top": None if dtype == np.float32 else top,
        "corrections": Corrections(dark if dtype == np.float32 else np.rint(dark).astype(dtype), 1.0, gains, None),
    }


def judged(stack: dict[str, Any], thresholds: Thresholds = DEFAULT_THRESHOLDS) -> PhotometricResult:
    """Every pixel by ``resolve_near``, in float64."""
    c, zones = stack["corrections"], len(stack["frames"])
    out = allocate(*stack["xyz"].shape[:2])
    out.flags.fill(near_kernels.MARK)
    pixel_kernels.resolve_near(
        np.array(stack["frames"]).astype(np.float32),
        sources_mm(zones),
        ((sources_mm(zones) - REFERENCE) ** 2).sum(1),
        stack["xyz"],
        c.dark.astype(np.float32),
        np.float32(1),
        c.gains,
        np.ones(zones, np.float32),
        levels_of(stack["top"], stack["frames"][0].dtype, thresholds),
        np.uint8(near_kernels.MARK),
        out.arrays(),
    )
    return out


def swept(stack: dict[str, Any], **more: Any) -> PhotometricResult:
    return solve_near(
        stack["frames"],
        sources_mm(len(stack["frames"])),
        stack["xyz"],
        reference_mm=REFERENCE,
        corrections=stack["corrections"],
        full_scale=stack["top"],
        **more,
    )


@pytest.mark.parametrize("zones", [3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_sweep_equals_the_judgement_pixel_by_pixel(zones: int, dtype: Any) -> None:
    stack = stack_of(zones, dtype)
    for thresholds in (
        Thresholds(disagreement=0, shadow_ratio=0.5),
        Thresholds(disagreement=0.004),
        DEFAULT_THRESHOLDS,
    ):
        fast, slow = swept(stack, thresholds=thresholds), judged(stack, thresholds)
        np.testing.assert_array_equal(fast.flags, slow.flags)
        np.testing.assert_allclose(fast.planar, slow.planar, atol=1e-5)
        np.testing.assert_allclose(fast.albedo, slow.albedo, rtol=1e-5)
        np.testing.assert_allclose(fast.confidence, slow.confidence, atol=1e-5)
    seen = np.bitwise_or.reduce(fast.flags, axis=None)
    assert seen & int(Flag.SHADOWED) and seen & int(Flag.NOT_SOLVABLE)
    assert (fast.flags == 0).mean() > 0.6
    assert np.isnan(fast.planar[:, 21, 210]).all() and fast.flags[30, 305] == Flag.NOT_SOLVABLE


@pytest.mark.parametrize("zones", [3, 4, 6])
def test_unmarked_pixels_equal_plain_least_squares(zones: int) -> None:
    stack = stack_of(zones, np.uint16)
    result, c = swept(stack), stack["corrections"]
    j = (np.array(stack["frames"], np.float64) - c.dark) * c.gains
    towards = (sources_mm(zones)[:, None, None] - stack["xyz"].astype(np.float64)) * [1, -1, -1]
    square = (towards**2).sum(-1)
    with np.errstate(invalid="ignore"):
        j *= square / ((sources_mm(zones) - REFERENCE) ** 2).sum(1)[:, None, None]
        lights = np.moveaxis(towards / np.sqrt(square)[..., None], 0, 2)
    plain = result.flags == 0
    assert plain.mean() > 0.6
    matrices, values = lights[plain], np.moveaxis(j, 0, 2)[plain]
    b = np.einsum("nak,nk->na", np.linalg.pinv(matrices), values)
    length = np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(result.normals[plain], b / length[:, None], atol=1e-5)
    np.testing.assert_allclose(result.albedo[plain], length, rtol=1e-5)
    if zones > 3:
        rest = np.linalg.norm(values - np.einsum("nka,na->nk", matrices, b), axis=1)
        np.testing.assert_allclose(result.confidence[plain], 1 - rest / np.linalg.norm(values, axis=1), atol=1e-5)


def test_flat_light_is_left_to_float64() -> None:
    """Lights 3° from the axis: their matrix is too near singular for float32, not for float64."""
    n = np.array([0.05, -0.03, 1.0]) / np.linalg.norm([0.05, -0.03, 1.0])
    xyz = np.tile(REFERENCE.astype(np.float32), (2, 5, 1))
    sources = sources_mm(4, 3.0)
    towards = (sources - REFERENCE) * [1, -1, -1] / 210
    frames = [np.full((2, 5), v, np.float32) for v in towards @ n]
    result = solve_near(frames, sources, xyz, reference_mm=REFERENCE)
    assert not result.flags.any()
    np.testing.assert_allclose(result.normals, np.broadcast_to(n, (2, 5, 3)), atol=1e-4)


@pytest.mark.parametrize("gain_dtype", [np.uint16, np.float32])
def test_tiles_of_whole_maps_give_the_same(gain_dtype: Any) -> None:
    stack = stack_of(4, np.uint16)
    gains = np.rint(stack["corrections"].gains * 30000).astype(gain_dtype)
    dark = stack["corrections"].dark
    scales = np.full(4, 1 / 30000, np.float32)
    stack["corrections"] = Corrections(dark, 1.0, gains, scales)
    whole, out = swept(stack), allocate(*dark.shape)
    for first in range(0, len(dark), 7):
        rows = slice(first, min(first + 7, len(dark)))
        tile = stack | {
            "frames": [f[rows] for f in stack["frames"]],
            "xyz": stack["xyz"][rows],
            "corrections": Corrections(dark[rows], 1.0, gains[:, rows], scales),
        }
        swept(tile, out=out.rows(rows.start, rows.stop))
    for name in ("planar", "albedo", "flags", "confidence"):
        np.testing.assert_array_equal(getattr(out, name), getattr(whole, name))


def test_gloss_of_four_zones_equals_the_general_form() -> None:
    stack = stack_of(4, np.uint16)
    c, sources = stack["corrections"], sources_mm(4)
    fast = pseudo3d.gloss_near(stack["frames"], sources, stack["xyz"], reference_mm=REFERENCE, corrections=c)
    slow = np.empty_like(fast)
    frames = np.array(stack["frames"], np.float32)
    squares = ((sources - REFERENCE) ** 2).sum(1)
    pixel_kernels.gloss_near(
        frames, sources, squares, stack["xyz"], c.dark.astype(np.float32), np.float32(1), c.gains,
        np.ones(4, np.float32), slow,
    )  # fmt: skip
    known = np.isfinite(stack["xyz"]).all(-1)
    # where two zones are equally bright, either may count as the brightest
    top = np.sort((frames - c.dark) * c.gains, axis=0)
    clear = known & (top[3] - top[2] > 1e-3 * top[3])
    assert clear.mean() > 0.9
    np.testing.assert_allclose(fast[clear], slow[clear], atol=0.5)  # DN of 65535
    assert np.isnan(fast[21, 210])
    assert near_sources(sources, np.array([0, 1.0, 4.0, 0]))[:, 3:].tolist() == [[0, 1], [1, 0], [0.25, 0], [0, 1]]
