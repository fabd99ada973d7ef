"""Corners on the projector: against the homography that made the maps, with noise, holes, black squares and gross errors."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from rakelight.calibration.projector_corners import corner_window, projector_corners
from rakelight.errors import InputError

FloatArray = NDArray[np.float64]
SHAPE = (300, 420)
SQUARE_PX = 60.0
# Camera px → projector px: seen from the side, turned, with perspective.
MAP = np.array([[0.9, 0.12, 250.0], [-0.15, 1.05, 330.0], [1.2e-4, -0.8e-4, 1.0]])


def apply(uv: FloatArray) -> FloatArray:
    out = np.concatenate([uv, np.ones((*uv.shape[:-1], 1))], axis=-1) @ MAP.T
    return np.asarray(out[..., :2] / out[..., 2:])


def corners() -> FloatArray:
    v, u = np.mgrid[50:260:SQUARE_PX, 45:400:SQUARE_PX]
    return np.stack([u.ravel() + 0.37, v.ravel() - 0.21], axis=-1)


def pixels() -> FloatArray:
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    return np.stack([u, v], axis=-1)


def squares() -> NDArray[np.bool_]:
    """White squares; their corners are ``corners()``."""
    at = (pixels() - corners()[0]) / SQUARE_PX
    return np.asarray(np.floor(at).sum(axis=-1) % 2 == 0)


def noisy(sigma: float = 0.1, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    values = apply(pixels()) + sigma * np.random.default_rng(seed).standard_normal((*SHAPE, 2))
    return values[..., 0].astype(np.float32), values[..., 1].astype(np.float32)


def test_exact_maps_give_exact_corners() -> None:
    found, residual = projector_corners(*noisy(0.0), corners())
    assert np.abs(found - apply(corners())).max() < 2e-3
    assert residual.max() < 1e-3


def test_the_window_averages_noise() -> None:
    assert corner_window(corners()) == 12
    found, residual = projector_corners(*noisy(0.1), corners())
    errors = found - apply(corners())
    assert errors.std() < 0.01 and np.abs(errors.mean(axis=0)).max() < 0.005
    assert residual == pytest.approx(0.1 * np.sqrt(2), rel=0.15)


@pytest.mark.parametrize(("spacing", "half"), [(20.0, 9), (50.0, 10), (80.0, 16), (400.0, 80)])
def test_the_window_follows_the_squares(spacing: float, half: int) -> None:
    v, u = np.mgrid[:4, :5] * spacing
    assert corner_window(np.stack([u.ravel(), v.ravel()], axis=-1)) == half
    assert corner_window(np.zeros((1, 2))) == 10


def test_black_squares_may_be_undecodable_or_wrong() -> None:
    column, row = noisy()
    column[~squares()] = np.nan
    found, _ = projector_corners(column, row, corners())
    assert np.abs(found - apply(corners())).max() < 0.05
    # A third of the window a period off, and some anywhere.
    column, row = noisy()
    rng = np.random.default_rng(5)
    column[rng.random(SHAPE) < 0.3] += 16
    row[rng.random(SHAPE) < 0.1] = 3.0
    found, residual = projector_corners(column, row, corners())
    assert np.abs(found - apply(corners())).max() < 0.06
    assert residual.max() < 0.25


def test_uncertain_pixels_count_less() -> None:
    sigma = np.where(squares(), 0.05, 0.2)
    exact = apply(pixels())
    errors = {}
    for name, maps in (("weighted", (sigma.astype(np.float32),) * 2), ("plain", None)):
        rms = []
        for seed in range(4):
            noise = np.random.default_rng(seed).standard_normal((*SHAPE, 2)) * sigma[..., None]
            values = (exact + noise).astype(np.float32)
            found, _ = projector_corners(values[..., 0], values[..., 1], corners(), sigma_px=maps)
            rms.append(np.mean((found - apply(corners())) ** 2))
        errors[name] = np.sqrt(np.mean(rms))
    assert errors["weighted"] < 0.006 and errors["weighted"] < 0.8 * errors["plain"], errors


def test_blur_over_the_edges_of_the_squares_leaves_no_bias() -> None:
    """Fringes are mixed in proportion to the light that comes from either side: the camera's blur before the decoding."""
    coordinates = apply(pixels())
    light = np.where(squares(), 0.85, 0.04)
    maps = []
    for k in (0, 1):
        wave = light * np.exp(2j * np.pi * coordinates[..., k] / 16)
        phase = np.angle(gaussian_filter(wave.real, 0.8) + 1j * gaussian_filter(wave.imag, 0.8))
        turns = np.round(coordinates[..., k] / 16 - phase / (2 * np.pi))
        maps.append(((phase / (2 * np.pi) + turns) * 16).astype(np.float32))
    edge = np.abs(np.stack(maps, axis=-1) - coordinates)[20:-20, 20:-20].max()
    assert edge > 0.2  # the pixels themselves are shifted
    found, _ = projector_corners(*maps, corners())
    errors = found - apply(corners())
    assert np.abs(errors.mean(axis=0)).max() < 0.004 and np.abs(errors).max() < 0.02


def test_corners_without_enough_pixels_are_not_told() -> None:
    column, row = noisy()
    at = corners()
    column[:, : int(at[0, 0])] = np.nan  # nothing left of the first column of corners
    row[int(at[-1, 1]) - 20 :, int(at[-1, 0]) - 20 :] = np.nan  # nothing about the last
    found, residual = projector_corners(column, row, np.vstack([at, [[1.0, 1.0], [-50.0, 20.0], [1000.0, 1000.0]]]))
    lost = ~np.isfinite(found).all(axis=1)
    first = at[:, 0] == at[0, 0]
    assert lost[: len(at)][first].all() and lost[len(at) - 1] and lost[len(at) :].all()
    assert lost.sum() == first.sum() + 1 + 3
    assert np.array_equal(np.isnan(residual), lost)
    assert projector_corners(column, row, np.zeros((0, 2)))[0].shape == (0, 2)


def test_the_seed_decides() -> None:
    column, row = noisy()
    column[np.random.default_rng(2).random(SHAPE) < 0.3] += 16
    first, again = (projector_corners(column, row, corners(), seed=3)[0] for _ in range(2))
    assert np.array_equal(first, again)


def test_bad_input_is_refused() -> None:
    column, row = noisy()
    with pytest.raises(InputError, match="row map"):
        projector_corners(column, row[:-1], corners())
    with pytest.raises(InputError, match="half window of 2"):
        projector_corners(column, row, corners(), half_window_px=2)
    with pytest.raises(InputError, match="corners"):
        projector_corners(column, row, np.full((3, 2), np.nan))


def test_a_board_on_four_projectors_takes_no_long() -> None:
    column, row = noisy()
    start = time.process_time()
    for _ in range(4):
        projector_corners(column, row, corners())
    # 24 corners of 4 directions; 12 poses of 54 corners are 27 times as many.
    assert time.process_time() - start < 1.5
