"""Blur of lenses, area of photosites and the colour filter against numerical integration and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from rakelight.acquisition.simulator.optics import blur_taps, pattern_table
from rakelight.acquisition.simulator.rig import Lens, Rig, Sensor, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part
from rakelight.reconstruction.patterns import Gray, Sinusoid, Uniform

STEPS = 32  # entries of the table a projector px


def plane(material: Material) -> Part:
    corners = np.array([[-60.0, -45, 0.001], [60, -45, 0.001], [60, 45, 0.001], [-60, 45, 0.001]])
    mesh = Mesh(corners, np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    return Part("plane", (Component("plane", mesh, material),))


def narrow(pixel_format: str, width: int = 40, height: int = 24, **changes: object) -> Rig:
    """20 µm a pixel around the middle of the table, which lies between the pixels in the middle."""
    lens = Lens(width, height, 10_000.0, 10_000.0, (width - 1) / 2, (height - 1) / 2)
    sensor = Sensor(pixel_format, response=(0.7, 1.0, 0.6), prnu=0.0)
    return replace(reference_rig(456), **({"camera": lens, "sensor": sensor, "ambient": 0.0} | changes))


class TestTaps:
    @pytest.mark.parametrize("samples", [1, 2, 3, 4])
    @pytest.mark.parametrize("sigma", [0.0, 0.3, 0.6, 1.5])
    def test_sum_and_symmetry(self, sigma: float, samples: int) -> None:
        taps = blur_taps(sigma, samples)
        assert taps.dtype == np.float32 and taps.sum() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(taps, taps[::-1], atol=1e-7)
        assert (len(taps) - samples) % 2 == 0  # as many points before the pixel as after it

    @pytest.mark.parametrize("samples", [1, 3])
    @pytest.mark.parametrize("sigma", [0.4, 0.6, 1.2])
    def test_gaussian_through_a_square_photosite(self, sigma: float, samples: int) -> None:
        """The convolution of Gaussian and box, integrated numerically at each point."""
        taps = blur_taps(sigma, samples)
        places = (np.arange(len(taps)) - (len(taps) - 1) / 2) / samples
        expected = np.array([quad(lambda t, x=x: norm.pdf(x - t, scale=sigma), -0.5, 0.5)[0] for x in places])
        np.testing.assert_allclose(taps, expected / expected.sum(), atol=2e-7)
        assert expected.sum() / samples == pytest.approx(1, abs=2e-3)  # nothing of note is cut off

    def test_no_blur_is_the_photosite(self) -> None:
        for samples in (1, 2, 3, 4):
            taps = blur_taps(0.0, samples)
            np.testing.assert_allclose(taps[taps > 0], 1 / samples, rtol=1e-6)
            assert (taps > 0).sum() == samples


class TestPatternTable:
    @pytest.mark.parametrize("gamma", [1.0, 2.2])
    @pytest.mark.parametrize("blur", [0.0, 0.4, 1.3])
    def test_against_integration(self, gamma: float, blur: float) -> None:
        """At random places: the Gaussian's integral over square pixels of light (8-bit level)^gamma."""
        rng = np.random.default_rng(3)
        profile = rng.uniform(0, 1, 60).astype(np.float32)
        table = pattern_table(profile, gamma, blur)
        level = (np.floor(profile.astype(float) * 255 + 0.5) / 255) ** gamma
        entries = rng.integers(0, 60 * STEPS, 60)
        for entry in entries[entries % STEPS != 0] if blur == 0 else entries:  # with no blur it jumps at borders
            x = entry / STEPS - 0.5
            if blur == 0:
                expected = level[round(x)]
            else:
                near = [i for i in range(60) if abs(i - x) < 6 * blur + 1]
                expected = sum(
                    level[i] * quad(norm.pdf, i - 0.5, i + 0.5, args=(x, blur), epsabs=1e-11)[0] for i in near
                )
            assert table[entry] == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("gamma", [1.0, 1.8])
    def test_blur_keeps_the_mean(self, gamma: float) -> None:
        profile = np.pad(np.random.default_rng(1).uniform(0, 1, 50), 10)
        sharp, soft = (pattern_table(profile, gamma, blur)[:-1].mean() for blur in (1e-3, 1.5))
        assert soft == pytest.approx(sharp, rel=1e-3)

    def test_eight_bits(self) -> None:
        """A projector holds 256 levels: what rounds alike looks alike."""
        for value, level in ((0.5 / 255 - 1e-4, 0), (0.5 / 255 + 1e-4, 1), (100.4 / 255, 100), (1.0, 255)):
            assert pattern_table(np.full(20, value), 1.0, 0.0)[10 * STEPS] == pytest.approx(level / 255, abs=1e-7)

    def test_dark_beyond_both_ends(self) -> None:
        table = pattern_table(np.ones(20), 1.0, 0.5)
        assert len(table) >= 20 * STEPS + 1
        np.testing.assert_allclose(table[[0, 20 * STEPS]], 0.5, atol=1e-6)  # half of the blur reaches out
        np.testing.assert_allclose(table[STEPS // 2], norm.cdf(0.5 / 0.5), atol=1e-6)  # centre of pixel 0
        assert table[10 * STEPS] == pytest.approx(1, abs=1e-6)

    def test_modulation_of_a_sinusoid(self) -> None:
        """Blur damps it by exp(−2π²σ²/p²), square pixels by sinc(1/p); its phase stays."""
        period, sigma = 16.0, 0.8
        profile = Sinusoid("column", period, 8, 3).profile(160)
        table = pattern_table(profile, 1.0, sigma).astype(float)
        x = np.arange(32 * STEPS, 128 * STEPS) / STEPS - 0.5
        wave = np.exp(-2j * np.pi * x / period)
        fitted = 2 * (table[32 * STEPS : 128 * STEPS] * wave).mean()
        damping = math.exp(-2 * (math.pi * sigma / period) ** 2) * np.sinc(1 / period)
        assert abs(fitted) == pytest.approx(0.5 * damping, rel=2e-3)
        assert np.angle(fitted) == pytest.approx(2 * np.pi * 3 / 8, abs=2e-3)


class TestLensBlur:
    @pytest.mark.parametrize("samples", [2, 3, 4])
    @pytest.mark.parametrize("sigma", [0.4, 0.6, 1.0])
    @pytest.mark.parametrize("axis", [0, 1])
    def test_edge(self, axis: int, sigma: float, samples: int) -> None:
        """Black and white meet between two pixels: the mean of the normal distribution over each photosite."""

        def halves(points: np.ndarray) -> np.ndarray:
            white = points[:, 0] > 0 if axis == 0 else points[:, 1] < 0
            return np.stack([white] * 4, -1).astype(float)

        rig = narrow("Mono12", blur_px=sigma)
        light = replace(rig.lights[0], position_mm=(0.0, 0.0, 210.0))
        scene = Scene(plane(Material((0.8,) * 3, texture=halves)), replace(rig, lights=(light,)), samples=samples)
        rate = scene.zone_rate(1) / rig.electrons_per_us
        line = rate[rate.shape[0] // 2] if axis == 0 else rate[:, rate.shape[1] // 2]
        middle = len(line) / 2 - 0.5
        expected = [quad(norm.cdf, x - 0.5, x + 0.5, args=(0, sigma))[0] for x in np.arange(len(line)) - middle]
        full = 0.8 * (0.7 + 1.0 + 0.6) / 3
        # The sum over points is a midpoint rule: its error is h²/24 of the kernel's slope, at most 0.4/σ; h = 1/samples.
        np.testing.assert_allclose(line / full, expected, atol=0.4 / sigma / samples**2 / 24 + 5e-4)

    def test_flat_light_stays_up_to_the_border(self) -> None:
        rig = narrow("BayerRG12")
        light = replace(rig.lights[0], position_mm=(0.0, 0.0, 210.0))
        rate = Scene(plane(Material((1.0,) * 3)), replace(rig, lights=(light,))).zone_rate(1) / rig.electrons_per_us
        np.testing.assert_allclose(rate[1::2, ::2], 1, rtol=1e-4)


class TestColourFilter:
    COLOUR = (0.8, 0.4, 0.2)

    def rate(self, pixel_format: str, lit: Lit | None = None) -> np.ndarray:
        rig = narrow(pixel_format)
        light = replace(rig.lights[0], position_mm=(0.0, 0.0, 210.0))
        scene = Scene(plane(Material(self.COLOUR)), replace(rig, lights=(light,)))
        return scene.electrons([(lit or Lit({1: 1.0}), 1.0)]) / rig.electrons_per_us

    def test_bayer(self) -> None:
        """RG/GB from the corner, as GenICam's BayerRG."""
        rate = self.rate("BayerRG12")
        np.testing.assert_allclose(rate[0::2, 0::2], 0.7 * 0.8, rtol=1e-4)
        np.testing.assert_allclose(rate[0::2, 1::2], 1.0 * 0.4, rtol=1e-4)
        np.testing.assert_allclose(rate[1::2, 0::2], 1.0 * 0.4, rtol=1e-4)
        np.testing.assert_allclose(rate[1::2, 1::2], 0.6 * 0.2, rtol=1e-4)

    def test_bayer_under_a_projector(self) -> None:
        rate = self.rate("BayerRG12", Lit({}, 3, Uniform(1.0)))
        green = rate[0, 1]
        assert rate[1, 0] == pytest.approx(green, rel=1e-3)
        assert rate[0, 0] / green == pytest.approx(0.56 / 0.4, rel=1e-3)
        assert rate[1, 1] / green == pytest.approx(0.12 / 0.4, rel=1e-3)

    def test_mono(self) -> None:
        np.testing.assert_allclose(self.rate("Mono12"), (0.7 * 0.8 + 0.4 + 0.6 * 0.2) / 3, rtol=1e-4)

    @pytest.mark.parametrize("pixel_format", ["BayerRG8", "BayerRG10", "BayerRG12", "Mono8", "Mono10", "Mono12"])
    def test_raw_values(self, pixel_format: str) -> None:
        """The same light is the same share of full scale in every format; black is 1/64 of it."""
        rig = narrow(pixel_format, 200, 120)
        scene = Scene(plane(Material(self.COLOUR)), rig)
        bits = int(pixel_format[-2:].replace("G", "").replace("o", ""))
        dark, bright = (scene.read_out(np.full(scene.shape, e, np.float32), 3) for e in (0.0, 5000.0))
        assert dark.dtype == (np.uint8 if bits == 8 else np.uint16)
        black = 2**bits / 64
        assert dark.mean() == pytest.approx(black, abs=0.05)
        assert bright.mean() == pytest.approx(black + (2**bits - 1 - black) / 2, rel=1e-3)

    def test_gray_bit_is_sharp_where_it_should_be(self) -> None:
        """A Gray image of one bit is dark on one half of the projector and light on the other, 16 columns to a side."""
        rig = narrow("Mono12", 304, 40)
        scene = Scene(plane(Material((1.0,) * 3)), rig)
        whole = scene.pattern_rate(1, Uniform(1.0))
        column = scene.projection(1)[0][:: scene.samples, :: scene.samples]
        share = scene.pattern_rate(1, Gray("column", 0, 1, 456)) / whole
        far = np.abs(column - 455.5) > 3
        assert far.mean() > 0.5 and set(np.sign(column[far] - 455.5)) == {-1.0, 1.0}
        np.testing.assert_allclose(share[far], column[far] > 455.5, atol=1e-3)
