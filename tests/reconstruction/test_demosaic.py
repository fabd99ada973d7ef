"""Bilinear demosaic: exact on what bilinear interpolation reproduces, alike for integers and floats."""

from __future__ import annotations

import numpy as np
import pytest

from rakelight.errors import InputError
from rakelight.reconstruction.demosaic import demosaic

PATTERNS = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}


def mosaic_of(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """Sample (H, W, 3) through the filter, by the definition of the SFNC names."""
    out = np.empty(rgb.shape[:2], rgb.dtype)
    for site, colour in enumerate(PATTERNS[pattern]):
        row, column = divmod(site, 2)
        out[row::2, column::2] = rgb[row::2, column::2, "RGB".index(colour)]
    return out


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_plain_colours_come_back_exactly(pattern: str, dtype: str) -> None:
    rgb = np.broadcast_to(np.array([200, 100, 50], dtype), (12, 14, 3))
    out = demosaic(mosaic_of(rgb, pattern), pattern)
    assert out.dtype == dtype
    assert np.array_equal(out[1:-1, 1:-1], rgb[1:-1, 1:-1])
    if dtype == "float32":
        assert np.array_equal(out, rgb)  # also at the border


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ramps_are_exact_inside(pattern: str) -> None:
    v, u = np.mgrid[:20, :24]
    rgb = np.stack([2.0 * u + v, 100 - u - v, 3.0 * v], axis=-1).astype(np.float32)
    out = demosaic(mosaic_of(rgb, pattern), pattern)
    assert out[1:-1, 1:-1] == pytest.approx(rgb[1:-1, 1:-1], abs=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_floats_and_integers_agree(pattern: str) -> None:
    mosaic = np.random.default_rng(1).integers(0, 4096, (16, 18)).astype(np.uint16)
    integers, floats = demosaic(mosaic, pattern), demosaic(mosaic.astype(np.float32), pattern)
    assert np.abs(integers.astype(float) - floats)[1:-1, 1:-1].max() <= 0.5


def test_one_glaring_pixel_does_not_coarsen_the_rest() -> None:
    mosaic = np.full((20, 20), 0.5, np.float32)
    mosaic[2, 2] = 1e6
    assert np.array_equal(demosaic(mosaic, "RG")[8:, 8:], np.full((12, 12, 3), 0.5, np.float32))


def test_nan_counts_as_dark_and_input_is_kept() -> None:
    mosaic = np.ones((8, 8), np.float32)
    mosaic[4, 4] = np.nan
    out = demosaic(mosaic, "RG")
    assert np.isfinite(out).all() and np.isnan(mosaic[4, 4])


@pytest.mark.parametrize(
    ("mosaic", "pattern", "code"),
    [
        (np.zeros((4, 4), np.uint8), "RGGB", "input.bayer"),
        (np.zeros((4, 4), np.int32), "RG", "input.dtype"),
        (np.zeros((4, 4, 3), np.uint8), "RG", "input.shape"),
        (np.zeros((1, 4), np.uint8), "RG", "input.shape"),
    ],
)
def test_what_does_not_fit_is_refused(mosaic: np.ndarray, pattern: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        demosaic(mosaic, pattern)
    assert caught.value.code == code
