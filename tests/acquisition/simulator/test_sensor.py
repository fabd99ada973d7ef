"""The sensor's noise against its definition, measured as EMVA 1288 prescribes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numba
import numpy as np
import pytest
from scipy import stats

from rakelight.acquisition.simulator.rig import Lens, Rig, Sensor, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part

SIDE = (456, 304)


def plane() -> Part:
    corners = np.array([[-60.0, -45, 0.001], [60, -45, 0.001], [60, 45, 0.001], [-60, 45, 0.001]])
    mesh = Mesh(corners, np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    return Part("plane", (Component("plane", mesh, Material((0.9, 0.9, 0.9))),))


def rig(**sensor: object) -> Rig:
    """A plane under this sees nearly even light: 2 µm a pixel, so less than 1 mm of it."""
    lens = Lens(*SIDE, 1e5, 1e5, (SIDE[0] - 1) / 2, (SIDE[1] - 1) / 2)
    chosen = Sensor(**({"pixel_format": "Mono12", "response": (1.0, 1.0, 1.0)} | sensor))
    return replace(reference_rig(456), camera=lens, ambient=0.0, sensor=chosen)


def scene_of(**sensor: object) -> Scene:
    return Scene(plane(), rig(**sensor), samples=1)


def read(scene: Scene, electrons: float, seed: int) -> np.ndarray:
    """Raw values above black, (H, W) float64, of an even field."""
    field = np.full(scene.shape, electrons, np.float32)
    return scene.read_out(field, seed).astype(np.float64) - scene.rig.sensor.black_dn


def counting(full_well: float = 200.0) -> Scene:
    """A sensor without read noise and PRNU whose raw values tell whole electrons apart."""
    return scene_of(full_well_e=full_well, read_noise_e=0.0, prnu=0.0, black_level=0.0)


class TestPhotonTransfer:
    @pytest.mark.parametrize(
        ("full_well", "read_noise", "pixel_format"),
        [(10_000.0, 3.0, "Mono12"), (10_000.0, 3.0, "BayerRG12"), (4_000.0, 6.0, "Mono12"), (1_500.0, 6.0, "Mono8")],
    )
    def test_full_well_and_read_noise(self, full_well: float, read_noise: float, pixel_format: str) -> None:
        """Variance of pair differences against the mean, 12 levels of light and none: slope is the gain in DN/e⁻."""
        scene = scene_of(full_well_e=full_well, read_noise_e=read_noise, pixel_format=pixel_format)
        longest = 0.8 * full_well / float(scene.electrons([(Lit({1: 1.0}), 1.0)]).max())
        means, variances = [], []
        for number, exposure in enumerate(np.linspace(0, longest, 13)):
            a, b = (scene.frame(Lit({1: 1.0}), float(exposure), 2 * number + k).astype(float) for k in (0, 1))
            means.append((a.mean() + b.mean()) / 2)
            variances.append(((a - b) ** 2).mean() / 2 - ((a - b).mean()) ** 2 / 2 - 1 / 12)  # less quantisation
        slope, intercept = np.polyfit(np.array(means) - means[0], variances, 1, w=1 / np.array(variances))
        black = 2**scene.rig.sensor.bits / 64
        assert means[0] == pytest.approx(black, abs=0.02)
        assert (2**scene.rig.sensor.bits - 1 - black) / slope == pytest.approx(full_well, rel=0.02)
        assert np.sqrt(intercept) / slope == pytest.approx(read_noise, rel=0.02)

    def test_prnu(self) -> None:
        """Spatial variance of the mean of 16 frames, less what is left of the temporal noise (EMVA 1288)."""
        scene = scene_of(prnu=0.005)
        frames = np.array([read(scene, 5000.0, seed) for seed in range(16)])
        spatial = frames.mean(axis=0).var(ddof=1) - frames.var(axis=0, ddof=1).mean() / 16
        assert np.sqrt(spatial) / frames.mean() == pytest.approx(0.005, rel=0.05)

    def test_prnu_belongs_to_the_sensor(self) -> None:
        """The same in another scene and under other noise; another in another sensor."""

        def pattern(first_seed: int, **sensor: object) -> np.ndarray:
            scene = scene_of(prnu=0.05, **sensor)
            return np.mean([read(scene, 5000.0, first_seed + k) for k in range(4)], axis=0).ravel()

        one = pattern(0)
        assert np.corrcoef(one, pattern(100))[0, 1] > 0.95
        assert abs(np.corrcoef(one, pattern(0, prnu_seed=2))[0, 1]) < 0.02


class TestShotNoise:
    @pytest.mark.parametrize("mean", [0.0, 1e-9, 0.5, 2.0, 5.0, 11.9, 12.1, 50.0, 5000.0])
    def test_mean_and_variance(self, mean: float) -> None:
        """Unbiased, with variance mean + read noise², over 1.1 million values."""
        scene = scene_of(prnu=0.0)
        gain = scene.rig.sensor.dn_per_e
        values = np.array([read(scene, mean, seed) for seed in range(8)]) / gain
        variance = mean + 9 + 1 / 12 / gain**2
        assert values.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / values.size))
        # 4 standard errors, and 2·(1/6)² e⁻² of the expansion's own second term
        assert values.var() == pytest.approx(variance, abs=0.06 + 4 * variance * np.sqrt(2 / values.size))

    @pytest.mark.parametrize("mean", [0.1, 0.5, 2.0, 5.0, 11.9])
    def test_few_photons_are_poisson(self, mean: float) -> None:
        """χ² over the counts, at the 0.1 % level."""
        scene = counting()
        counts = np.rint(read(scene, mean, 7) / scene.rig.sensor.dn_per_e).astype(int).ravel()
        expected = stats.poisson.pmf(np.arange(60), mean) * counts.size
        kept = expected > 10
        seen = np.bincount(counts, minlength=60)[:60]
        seen, expected = np.append(seen[kept], seen[~kept].sum()), np.append(expected[kept], expected[~kept].sum())
        chi2 = ((seen - expected) ** 2 / np.maximum(expected, 1)).sum()
        assert chi2 < stats.chi2.ppf(0.999, kept.sum())

    @pytest.mark.parametrize("mean", [3.0, 8.0, 13.0, 30.0, 100.0])
    def test_skewness(self, mean: float) -> None:
        """1/√m, as Poisson's; a normal number would have none."""
        scene = counting(400.0)
        values = np.concatenate([read(scene, mean, seed).ravel() for seed in range(16)])
        assert stats.skew(values) == pytest.approx(1 / np.sqrt(mean), abs=0.015)

    def test_no_seam_where_the_method_changes(self) -> None:
        """At 12 e⁻ the drawn and the expanded distribution agree within 1.5 % everywhere (Kolmogorov)."""
        scene = scene_of(prnu=0.0)
        below, above = (np.sort(read(scene, m, 3).ravel()) for m in (11.999, 12.001))
        assert stats.ks_2samp(below, above).statistic < 0.015


class TestLimits:
    def test_full_well(self) -> None:
        scene = scene_of()
        assert (read(scene, 12_000.0, 1) == 4095 - 64).all()
        assert (read(scene, 1e9, 1) == 4095 - 64).all()
        at_the_top = read(scene, 10_000.0, 1)
        assert 0.4 < (at_the_top == 4095 - 64).mean() < 0.6 and at_the_top.max() == 4095 - 64

    def test_black(self) -> None:
        """Without a black level, what noise takes below zero is lost."""
        scene = scene_of(black_level=0.0)
        dark = scene.read_out(np.zeros(scene.shape, np.float32), 1)
        half_dn = 0.5 / scene.rig.sensor.dn_per_e
        assert dark.min() == 0 and (dark == 0).mean() == pytest.approx(stats.norm.cdf(half_dn / 3), abs=0.01)

    def test_expected_value(self) -> None:
        """``expected_dn`` is the mean of many frames, pixel by pixel, PRNU included."""
        scene = scene_of(prnu=0.05)
        timeline = [(Lit({2: 1.0}), 1500.0)]
        expected = scene.expected_dn(timeline)
        mean = np.mean([scene.expose(timeline, seed) for seed in range(40)], axis=0)
        sigma = np.sqrt(((expected - 64) * scene.rig.sensor.dn_per_e + 1.5) / 40)
        z = (mean - expected) / sigma
        assert abs(z.mean()) < 0.02 and z.std() == pytest.approx(1, abs=0.02)


class TestSeeds:
    @pytest.fixture
    def one_thread(self) -> Iterator[None]:
        before = numba.get_num_threads()
        numba.set_num_threads(1)
        yield
        numba.set_num_threads(before)

    def test_same_seed_same_frame(self) -> None:
        scene, twin = scene_of(), scene_of()
        lit = Lit({1: 1.0})
        frame = scene.frame(lit, 700.0, 11)
        np.testing.assert_array_equal(frame, scene.frame(lit, 700.0, 11))
        np.testing.assert_array_equal(frame, twin.frame(lit, 700.0, 11))

    def test_threads_do_not_matter(self, one_thread: None) -> None:
        single = scene_of().frame(Lit({1: 1.0}), 20.0, 11)
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        np.testing.assert_array_equal(single, scene_of().frame(Lit({1: 1.0}), 20.0, 11))

    @pytest.mark.parametrize("mean", [4.0, 400.0])
    def test_seeds_rows_and_columns_are_independent(self, mean: float) -> None:
        scene = scene_of(prnu=0.0)
        one, other, far = (read(scene, mean, seed) - mean for seed in (5, 6, 2**63 + 5))
        assert (one != other).mean() > 0.5
        limit = 5 / np.sqrt(one.size)
        pairs = {
            "next seed": (one, other),
            "far seed": (one, far),
            "next column": (one[:, 1:], one[:, :-1]),
            "next but one column": (one[:, 2:], one[:, :-2]),
            "next row": (one[1:], one[:-1]),
            "next row of next seed": (one[1:], other[:-1]),
        }
        for name, (a, b) in pairs.items():
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < limit, name
            assert abs(np.corrcoef(a.ravel() ** 2, b.ravel() ** 2)[0, 1]) < limit, name

    def test_no_rows_or_columns_stand_out(self) -> None:
        values = read(scene_of(prnu=0.0), 1000.0, 9)
        for axis in (0, 1):
            spread = values.mean(axis=axis).std() * np.sqrt(values.shape[axis]) / values.std()
            assert spread == pytest.approx(1, abs=0.15)
