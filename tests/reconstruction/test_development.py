"""8-bit pictures of raw frames, against demosaic and tone taken one after the other in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.errors import InputError
from rakelight.reconstruction.demosaic import demosaic
from rakelight.reconstruction.development import develop
from rakelight.reconstruction.tone import tone_tables

GAINS, DARK = (1.4, 1.0, 1.7), (0.01, 0.02, 0.03)


def expected(rgb: NDArray[Any], gains: Any = GAINS, black: Any = DARK, white: float = 0.98) -> NDArray[np.float64]:
    """Black, balance, clip and sRGB (IEC 61966-2-1), written out once more; 0 to 255, not rounded."""
    linear = (rgb - np.array(black)) / (white - np.array(black)) * gains
    linear = np.minimum(np.maximum(linear, 0), 1)
    return np.asarray(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("pattern", ["RG", "GR", "GB", "BG"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (33, 18), (64, 41)])
def test_one_pass_is_demosaic_balance_and_tone(pattern: str, dtype: str, shape: tuple[int, int]) -> None:
    full = {"uint8": 255.0, "uint16": 4095.0, "float32": 1.0}[dtype]
    values = np.random.default_rng(1).uniform(0, full, shape)
    mosaic = (values if dtype == "float32" else np.rint(values)).astype(dtype)
    made = develop(mosaic, pattern, tone_tables(GAINS, DARK, 0.98), full)
    truth = expected(demosaic((mosaic / full).astype(np.float32), pattern).astype(np.float64))
    # Half a grey value of rounding, and half a step of the table: up to 0.2 of one in the shadows, times the gain.
    assert made.dtype == np.uint8 and np.abs(made - truth).max() < 0.5 + 0.1 * 1.7 + 1e-3


def test_grey_and_colour_images() -> None:
    values = np.random.default_rng(2).uniform(0, 1, (7, 9, 3)).astype(np.float32)
    tables = tone_tables(GAINS, DARK, 0.98)
    assert np.abs(develop(values, None, tables) - expected(values)).max() < 0.7
    grey = develop(values[..., 0], None, tone_tables())
    assert (grey == grey[..., :1]).all() and grey.shape == (7, 9, 3)


def test_eight_bit_values_come_through_a_linear_table() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(develop(values, None, tone_tables(tone="linear"), 255.0)[..., 0], values)


def test_saturated_photosites_are_white_whatever_the_gains() -> None:
    tables = tone_tables((1.0, 2.0, 4.0), DARK, 0.98)
    assert (develop(np.full((6, 6), 4020, np.uint16), "RG", tables, 4095.0) == 255).all()


def test_values_outside_the_range_take_its_ends() -> None:
    values = np.array([[np.nan, -5], [9, np.inf]], np.float32)
    assert develop(values, None, tone_tables())[..., 0].tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize(
    ("image", "pattern", "full", "code"),
    [
        (np.zeros((4, 4), np.uint16), "RB", 1.0, "input.bayer"),
        (np.zeros((4, 4, 3), np.uint16), "RG", 1.0, "input.shape"),
        (np.zeros((1, 4), np.uint16), "RG", 1.0, "input.shape"),
        (np.zeros((4, 4, 2), np.uint16), None, 1.0, "input.shape"),
        (np.zeros((4, 4)), None, 1.0, "input.dtype"),
        (np.zeros((4, 4), np.uint8), None, 0.0, "input.range"),
        (np.zeros((4, 4), np.uint8), None, np.nan, "input.range"),
    ],
)
def test_what_cannot_be_developed(image: NDArray[Any], pattern: str | None, full: float, code: str) -> None:
    with pytest.raises(InputError) as caught:
        develop(image, pattern, tone_tables(), full)
    assert caught.value.code == code
