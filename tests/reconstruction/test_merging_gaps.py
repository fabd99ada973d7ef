"""Beside gaps, mostly shadows of a projector, a direction weighs less in the mean; agreement stays as it is, σ_z honest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from rakelight.reconstruction.merging import Settings, merge

Maps = tuple[NDArray[Any], NDArray[Any]]
FOUR = (1, 2, 3, 4)
SHAPE = (304, 456)


def plane_maps(values: list[float], sigma: list[float], size: int = 40) -> Maps:
    """Constant maps (D, size, size), one a direction."""
    ones = np.ones((1, size, size), np.float32)
    return np.array(values, np.float32)[:, None, None] * ones, np.array(sigma, np.float32)[:, None, None] * ones


def noisy(seed: int = 1) -> Maps:
    """A plane at 200 mm, measured with noise that differs from direction to direction."""
    sigma = np.array([0.004, 0.006, 0.003, 0.005], np.float32)[:, None, None] * np.ones((4, *SHAPE), np.float32)
    noise = np.random.default_rng(seed).standard_normal(sigma.shape).astype(np.float32)
    return 200 + sigma * noise, sigma


class TestGaps:
    def beside_a_shadow(self, size: int = 40, gap: int = 20, bias: float = 0.015) -> Maps:
        """Direction 1 sees nothing from column ``gap`` on, and lies a little, too little to be refuted, in front of it."""
        z, sigma = plane_maps([200.0] * 4, [0.01, 0.02, 0.01, 0.01], size)
        z[0, :, gap - 2 : gap] += bias
        z[0, :, gap:] = sigma[0, :, gap:] = np.nan
        return z, sigma

    def test_weight_is_lowered_beside_a_gap(self) -> None:
        z, sigma = self.beside_a_shadow()
        merged = merge(z, sigma, FOUR, pitch_mm=0.01)
        weights = 1 / sigma[:, 0, 0].astype(float) ** 2
        np.testing.assert_allclose(merged.sigma_z_mm[:, :18], weights.sum() ** -0.5, rtol=1e-6)
        assert (merged.used[:, :20] == 0b1111).all() and (merged.support[:, 20:] == 3).all()  # agreement is as it was
        lowered = weights * (1 / 16, 1, 1, 1)
        expected = 200 + 0.015 * lowered[0] / lowered.sum()
        np.testing.assert_allclose(merged.z_mm[:, 18:20], expected, atol=1.6e-5)
        sigma_z = np.sqrt(np.sum(lowered**2 / weights)) / lowered.sum()
        np.testing.assert_allclose(merged.sigma_z_mm[:, 18:20], sigma_z, rtol=1e-6)
        np.testing.assert_allclose(merged.z_mm[:, :18], 200, atol=1e-6)

    def test_noise_is_as_predicted_beside_gaps(self) -> None:
        depths, sigmas = noisy()
        rng = np.random.default_rng(8)
        near = np.zeros(SHAPE, int)
        for d in range(4):  # 60 shadows of 6×6 px a direction
            for row, column in zip(rng.integers(5, SHAPE[0] - 11, 60), rng.integers(5, SHAPE[1] - 11, 60), strict=True):
                depths[d, row : row + 6, column : column + 6] = np.nan
                sigmas[d, row : row + 6, column : column + 6] = np.nan
                near[row - 2 : row + 8, column - 2 : column + 8] += 1
        merged = merge(depths, sigmas, FOUR, pitch_mm=0.12)
        some = (near > 0) & (merged.support == 4)
        full = merge(*noisy(), FOUR, pitch_mm=0.12)
        assert some.sum() > 10000 and (merged.sigma_z_mm > 1.02 * full.sigma_z_mm)[some].mean() > 0.95
        error = ((merged.z_mm - 200) / merged.sigma_z_mm)[some]
        assert 0.95 < error.std() < 1.05 and abs(error.mean()) < 0.03
        clear = near == 0
        np.testing.assert_array_equal(merged.z_mm[clear], full.z_mm[clear])

    @pytest.mark.parametrize("others", [2, 1])
    def test_only_where_two_others_are_clear(self, others: int) -> None:
        z, sigma = self.beside_a_shadow()
        z[1 + others :], sigma[1 + others :] = np.nan, np.nan
        merged = merge(z, sigma, FOUR, pitch_mm=0.01)
        weights = 1 / sigma[: 1 + others, 0, 0].astype(float) ** 2
        if others == 2:
            weights[0] /= 16
        expected = 200 + 0.015 * weights[0] / weights.sum()
        np.testing.assert_allclose(merged.z_mm[:, 18:20], expected, atol=1.6e-5)

    def test_single_pixels_are_no_gap(self) -> None:
        z, sigma = plane_maps([200.0] * 4, [0.005] * 4)
        z[0, ::3, ::3] = sigma[0, ::3, ::3] = np.nan
        z[1, 7, :] = sigma[1, 7, :] = np.nan
        merged = merge(z, sigma, FOUR, pitch_mm=0.01)
        np.testing.assert_allclose(merged.sigma_z_mm, 0.005 / np.sqrt(merged.support.astype(float)), rtol=1e-6)

    @pytest.mark.parametrize("size", [(70, 300), (33, 5), (3, 3)])
    def test_as_told_by_dilation(self, size: tuple[int, int]) -> None:
        """Blobs anywhere, over all seams of the loops and at all edges of the image."""
        rng = np.random.default_rng(3)
        z = np.full((4, *size), 200, np.float32)
        sigma = np.full(z.shape, 0.01, np.float32)
        gone = np.stack([ndimage.binary_dilation(rng.random(size) < 0.01, iterations=k) for k in (0, 1, 2, 1)])
        z[gone] = sigma[gone] = np.nan
        solid = np.stack([ndimage.binary_opening(g, np.ones((2, 2))) for g in gone])
        near = np.stack([ndimage.binary_dilation(s, np.ones((5, 5))) for s in solid])
        weights = np.where(near & ((~gone & ~near).sum(axis=0) >= 2), 1 / 16, 1.0) * ~gone
        lax = Settings(single_neighbours=0, least_neighbours=0)
        merged = merge(z, sigma, FOUR, pitch_mm=0.01, settings=lax)
        with np.errstate(invalid="ignore"):
            expected = 0.01 * np.sqrt((weights**2).sum(axis=0)) / weights.sum(axis=0)
        np.testing.assert_allclose(merged.sigma_z_mm, expected, rtol=1e-5)
