"""Dark maps and flat fields against simulated white planes with known lights, vignetting and pixel gains."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight.calibration.flat_field import (
    Dark,
    FlatField,
    apply_flat_field,
    build_dark,
    build_flat_field,
    plane_light_of,
)
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import AffineCamera, Light, PinholeCamera, Plane

FULL = 4095
SHAPE = (96, 144)
CAMERA = AffineCamera.orthographic(SHAPE[1], SHAPE[0], 0.38)  # the 54.7×36.5 mm field
TABLE = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
CENTRE = np.array([0.0, 0.0, 200.0])


def near_lights() -> list[Light]:
    """Four lights 210 mm away at slant 45°: right, up, left, down."""
    side = 210 / math.sqrt(2)
    offsets = [(side, 0.0), (0.0, -side), (-side, 0.0), (0.0, side)]
    return [Light.near(k + 1, [x, y, 200 - side], CENTRE, 1.0) for k, (x, y) in enumerate(offsets)]


def sensor_gain(shape: tuple[int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Vignetting × pixel response × Bayer filter, DN per unit irradiance."""
    rows, columns = shape
    v, u = np.mgrid[:rows, :columns]
    r2 = ((u - columns / 2) / columns) ** 2 + ((v - rows / 2) / rows) ** 2
    gain = 3000 * (1 - 0.5 * r2) * np.random.default_rng(seed).normal(1, 0.005, shape)
    gain[::2, ::2] *= 0.6  # red
    gain[1::2, 1::2] *= 0.5  # blue
    return gain


def irradiance(light: Light, normals: np.ndarray | None = None) -> np.ndarray:
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    xyz = TABLE.intersect(*CAMERA.rays(np.stack((u, v), axis=-1)))
    normal = np.array([0.0, 0.0, 1.0]) if normals is None else normals
    return (light.vectors(xyz) * normal).sum(axis=-1)


def frames_of(irradiance_map: np.ndarray, count: int = 1, black: float = 60.0) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    mean = irradiance_map * sensor_gain() + black
    return [np.clip(np.rint(mean + rng.normal(0, 4, SHAPE)), 0, FULL).astype(np.uint16) for _ in range(count)]


def flat_whites(level: float = 2000.0) -> list[np.ndarray]:
    return [np.full(SHAPE, level).astype(np.uint16)]


class TestBuildDark:
    def test_mean_and_precision(self) -> None:
        rng = np.random.default_rng(1)
        truth = rng.uniform(20, 80, SHAPE)
        truth[3, 4] = 900  # a hot pixel
        frames = [np.rint(truth + rng.normal(0, 3, SHAPE)).astype(np.uint16) for _ in range(32)]
        dark = build_dark(iter(frames), exposure_us=5000.0)
        assert dark.map.dtype == np.uint16 and dark.shape == SHAPE and dark.exposure_us == 5000.0
        np.testing.assert_allclose(dark.values(), np.mean(frames, axis=0), atol=0.51 * 900 / 65535)

    def test_black_dark(self) -> None:
        assert (build_dark([np.zeros(SHAPE, np.uint8)]).values() == 0).all()

    @pytest.mark.parametrize(
        ("frames", "words"),
        [
            ([], "no dark frame"),
            ([np.zeros((4, 4, 3), np.uint8)], r"dark frame 1 is uint8 of shape \(4, 4, 3\)"),
            ([np.zeros((4, 4), np.float64)], "float64"),
            ([np.full((4, 4), np.nan, np.float32)], "NaN or negative"),
            ([np.full((4, 4), -1, np.float32)], "-1 DN"),
            ([np.full((4, 4), 1000, np.uint16)], "1000.0 DN, 24% of full scale 4095; allowed: at most 20%"),
        ],
    )
    def test_bad_frames(self, frames: list[np.ndarray], words: str) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            build_dark(frames, full_scale=FULL)
        assert caught.value.code == "calibration.dark_invalid" and caught.value.hint

    def test_sizes_differ(self) -> None:
        with pytest.raises(CalibrationError, match="dark frame 2 has size 4×5 px; the other frames have 4×4") as caught:
            build_dark([np.zeros((4, 4), np.uint8), np.zeros((5, 4), np.uint8)])
        assert caught.value.code == "calibration.size_mismatch"


class TestBuildFlatField:
    def test_white_plane_reads_l_dot_n(self) -> None:
        lights = near_lights()
        dark = build_dark([np.full(SHAPE, 60, np.uint16)])
        whites = {light.zone: frames_of(irradiance(light), 16) for light in lights}
        maps = {light.zone: plane_light_of(light, TABLE, CAMERA) for light in lights}
        flat = build_flat_field(whites, dark, maps, FULL, reference_exposure_us=8000.0)
        assert flat.light_model == "near" and flat.zones == (1, 2, 3, 4) and flat.gains.dtype == np.uint16
        for light in lights:
            mean = np.mean(whites[light.zone], axis=0).astype(np.float32)
            np.testing.assert_allclose(apply_flat_field(mean, dark, flat.gain(light.zone)), maps[light.zone], rtol=1e-4)

    def test_distant_gain_is_cos_slant_over_white(self) -> None:
        light = Light(2, np.array([0.0, 0.6, 0.8]))
        flat = build_flat_field({2: flat_whites(2000)}, None, {2: plane_light_of(light)}, FULL)
        np.testing.assert_allclose(flat.gain(2), 0.8 / 2000, rtol=1e-5)
        assert flat.light_model == "distant"

    def test_normals_behind_vignetting_and_near_light(self) -> None:
        """A tilted patch solved with the calibrated gains: the error that remains is noise, below 0.3°."""
        lights = near_lights()
        dark = build_dark([np.full(SHAPE, 60, np.uint16)])
        maps = {light.zone: plane_light_of(light, TABLE, CAMERA) for light in lights}
        flat = build_flat_field({x.zone: frames_of(irradiance(x), 8) for x in lights}, dark, maps, FULL)
        truth = np.array([0.2, -0.1, math.sqrt(0.95)])
        frames = np.stack([frames_of(0.7 * irradiance(x, truth), 4) for x in lights]).mean(axis=1).astype(np.float32)
        values = np.stack([apply_flat_field(f, dark, flat.gain(x.zone)) for f, x in zip(frames, lights, strict=True)])
        v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
        xyz = TABLE.intersect(*CAMERA.rays(np.stack((u, v), axis=-1)))
        matrix = np.stack([x.vectors(xyz) for x in lights], axis=-2)
        normals = (np.linalg.pinv(matrix) @ np.moveaxis(values, 0, -1)[..., None])[..., 0]
        albedo = np.linalg.norm(normals, axis=-1)
        error = np.degrees(np.arccos(np.clip(normals @ truth / albedo, -1, 1)))
        assert error.mean() < 0.3
        assert albedo.mean() == pytest.approx(0.7, abs=0.002)  # the white plane is albedo 1

    @given(seed=st.integers(0, 1000), falloff=st.floats(1.0, 6.0))
    @settings(max_examples=25, deadline=None)
    def test_quantisation_within_a_factor_6(self, seed: int, falloff: float) -> None:
        # a smooth 1:falloff slope with pixel noise; every gain is within a factor 6 (and noise) of the largest
        slope = np.geomspace(3500 / falloff, 3500, SHAPE[1])[None] * np.ones((SHAPE[0], 1))
        white = (slope * np.random.default_rng(seed).uniform(0.99, 1.0, SHAPE)).astype(np.float32)
        exact = np.float64(0.7) / white
        gain = build_flat_field({1: [white]}, None, {1: 0.7}, FULL).gain(1)
        error = np.abs(gain / exact - 1)
        assert error.max() <= 1e-4
        assert (error <= 7.7e-6 * exact.max() / exact + 3e-7).all()  # the bound of the docstring, and float32 rounding

    def test_unusable_pixels_get_gain_0(self) -> None:
        frames = [np.full(SHAPE, 2000, np.uint16) for _ in range(3)]
        frames[0][5, 6] = 10  # mean still usable
        frames[1][7, 8] = 4090  # clipped once: the mean over it is no measurement
        for frame in frames:
            frame[9, 10] = 70  # dead: below 1/20 of the median above dark
        flat = build_flat_field({1: frames}, None, {1: 0.7}, FULL)
        assert np.argwhere(flat.gain(1) == 0).tolist() == [[7, 8], [9, 10]]
        corrected = apply_flat_field(frames[0], None, flat.gain(1))
        assert corrected[7, 8] == 0 and corrected[9, 10] == 0

    def test_inputs_are_not_changed_and_frames_may_be_8_bit(self) -> None:
        white = np.full(SHAPE, 180, np.uint8)
        light = np.full(SHAPE, 0.7, np.float32)
        build_flat_field({1: iter([white])}, build_dark([np.full(SHAPE, 3, np.uint8)]), {1: light}, 255)
        assert (white == 180).all() and (light == np.float32(0.7)).all()

    def test_memory_does_not_grow_with_frames(self) -> None:
        def frames(count: int) -> Iterator[np.ndarray]:
            for _ in range(count):
                yield np.full((480, 640), 2000, np.uint16)

        peaks = []
        for count in (2, 40):
            tracemalloc.start()
            build_flat_field({1: frames(count), 2: frames(count)}, None, {1: 0.7, 2: 0.7}, FULL)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.1 * peaks[0]


class TestFaultyWhites:
    def refused(self, words: str, code: str, whites: dict, dark: Dark | None = None, light: dict | None = None) -> None:
        with pytest.raises(CalibrationError, match=words) as caught:
            build_flat_field(whites, dark, {1: 0.7} if light is None else light, FULL)
        assert caught.value.code == code and caught.value.hint

    def test_saturated(self) -> None:
        white = flat_whites()[0]
        white[:1] = 4095  # 1.04 %
        words = r"zone 1 1: 1.04% of the pixels are saturated \(at least 98% of full scale 4095\); allowed: 0.5%"
        self.refused(words, "calibration.white_saturated", {1: [white]})

    def test_dark_counts_above_the_black_level(self) -> None:
        dark = build_dark([np.full(SHAPE, 400, np.uint16)])
        build_flat_field({1: flat_whites(700)}, dark, {1: 0.7}, FULL)
        words = "median of 150.0 DN above dark, 3.7% of full scale 4095; needed: at least 5%"
        self.refused(words, "calibration.white_dark", {1: flat_whites(550)}, dark)

    def test_uneven(self) -> None:
        steep = np.geomspace(100, 3500, SHAPE[1])[None] * np.ones((SHAPE[0], 1))
        self.refused(r"\(99.5 % to 0.5 % of the pixels\) 3", "calibration.white_uneven", {1: [steep.astype(np.uint16)]})
        part = flat_whites(3000)[0]
        part[30:60, 40:90] = 1500  # a part was left on the table
        self.refused("steps between neighbouring fields of .*at most 20%", "calibration.white_uneven", {1: [part]})

    def test_bayer_and_steep_falloff_are_no_part(self) -> None:
        falloff = np.geomspace(0.12, 1, SHAPE[1])[None] * sensor_gain()
        build_flat_field({1: [falloff.astype(np.uint16)]}, None, {1: 0.7}, FULL)

    def test_sizes(self) -> None:
        code = "calibration.size_mismatch"
        other = [np.full((96, 140), 2000, np.uint16)]
        self.refused("white frame of zone 1 2 has size 140×96", code, {1: flat_whites() + other})
        self.refused("zone 2 1 has size 140×96", code, {1: flat_whites(), 2: other}, light={1: 0.7, 2: 0.7})
        self.refused("dark map has size 140×96 px", code, {1: flat_whites()}, build_dark(other))
        self.refused("l·n_table of zone 1 has size", code, {1: flat_whites()}, light={1: np.ones((3, 3))})

    def test_other_input(self) -> None:
        code = "calibration.flat_field_invalid"
        self.refused("no white frame of zone 1", code, {1: []})
        self.refused(r"zones of l·n_table: \[1\]", code, {})
        self.refused(r"zones of l·n_table: \[2\]", code, {1: flat_whites()}, light={2: 0.7})
        self.refused("smallest l·n_table of zone 1: 0", code, {1: flat_whites()}, light={1: 0.0})
        self.refused("smallest l·n_table of zone 1: nan", code, {1: flat_whites()}, light={1: math.nan})
        mixed = {1: 0.7, 2: np.full(SHAPE, 0.7)}
        self.refused("one kind for all zones", code, {1: flat_whites(), 2: flat_whites()}, light=mixed)
        self.refused("5000 DN; allowed: at most full scale", code, {1: flat_whites(5000)})
        with pytest.raises(CalibrationError, match="full scale"):
            build_flat_field({1: flat_whites()}, None, {1: 0.7}, 0)

    def test_exposures(self) -> None:
        dark = build_dark([np.zeros(SHAPE, np.uint16)], exposure_us=10_000)
        build_flat_field({1: flat_whites()}, dark, {1: 0.7}, FULL, reference_exposure_us=10_500)
        with pytest.raises(CalibrationError, match="dark was taken at 10000 µs, the white frames at 5000") as caught:
            build_flat_field({1: flat_whites()}, dark, {1: 0.7}, FULL, reference_exposure_us=5_000)
        assert caught.value.code == "calibration.exposure_mismatch"


class TestPlaneLight:
    def test_tilted_table(self) -> None:
        # a table turned by 10° about x faces a light of slant 10° in that direction
        turn = math.radians(10)
        plane = Plane(np.array([0.0, -math.sin(turn), -math.cos(turn)]), -200.0)
        light = Light(1, np.array([0.0, math.sin(turn), math.cos(turn)]), 2.0)
        assert plane_light_of(light, plane) == pytest.approx(2.0)
        np.testing.assert_allclose(plane_light_of(light, plane, CAMERA), 2.0, rtol=1e-6)

    def test_near_light_closed_form(self) -> None:
        camera = PinholeCamera(61, 41, 100.0, 100.0, 30.0, 20.0)
        light = Light.near(1, [150.0, 0.0, 50.0], CENTRE)
        # plane point of pixel (u, v): 200/100 (u − 30), 200/100 (v − 20); l·n = (z/d) (d_ref/d)²
        v, u = np.mgrid[:41, :61]
        d2 = (150 - 2 * (u - 30)) ** 2 + (2 * (v - 20)) ** 2 + 150**2
        np.testing.assert_allclose(plane_light_of(light, TABLE, camera), 150 * 2 * 150**2 / d2**1.5, rtol=1e-6)

    def test_faults(self) -> None:
        steep = Plane(np.array([0.0, math.sin(1.2), -math.cos(1.2)]), -200.0)
        light = Light(1, np.array([0.0, 0.6, 0.8]))
        with pytest.raises(CalibrationError, match="light in front of the table"):
            plane_light_of(light, steep)
        with pytest.raises(CalibrationError, match="at every pixel"):
            plane_light_of(light, steep, CAMERA)
        with pytest.raises(CalibrationError, match="table plane: absent"):
            plane_light_of(light, None, CAMERA)


class TestContainers:
    def test_missing_zone(self) -> None:
        flat = build_flat_field({1: flat_whites()}, None, {1: 0.7}, FULL)
        with pytest.raises(CalibrationError, match="has no zone 3; it has 1") as caught:
            flat.gain(3)
        assert caught.value.code == "calibration.zone_missing"

    @pytest.mark.parametrize(
        "values",
        [
            {"zones": ()},
            {"zones": (2, 1)},
            {"zones": (1, 1)},
            {"zones": (0, 1)},
            {"gains": np.ones((2, 4, 5), np.float32)},
            {"gains": np.ones((3, 4, 5), np.uint16)},
            {"scales": np.ones(2)},
            {"scales": np.array([1, np.nan], np.float32)},
            {"light_model": "far"},
            {"reference_exposure_us": -1.0},
        ],
    )
    def test_bad_flat_field(self, values: dict[str, object]) -> None:
        good = {"zones": (1, 2), "gains": np.ones((2, 4, 5), np.uint16), "scales": np.ones(2, np.float32)}
        assert FlatField(**good).shape == (4, 5)
        with pytest.raises(CalibrationError) as caught:
            FlatField(**(good | values))
        assert caught.value.code == "calibration.flat_field_invalid"

    def test_bad_dark(self) -> None:
        for values in ((np.ones((4, 5)), 1.0), (np.ones(4, np.uint16), 1.0), (np.ones((4, 5), np.uint16), 0.0)):
            with pytest.raises(CalibrationError, match="dark"):
                Dark(*values)

    def test_apply_checks_its_input(self) -> None:
        gain = np.ones(SHAPE, np.float32)
        with pytest.raises(InputError, match="frame has dtype int64"):
            apply_flat_field(np.zeros(SHAPE, np.int64), None, gain)
        with pytest.raises(InputError, match="gain map has shape"):
            apply_flat_field(np.zeros((4, 4), np.uint8), None, gain)
        with pytest.raises(InputError, match="dark map has shape"):
            apply_flat_field(np.zeros(SHAPE, np.uint8), build_dark([np.zeros((4, 4), np.uint8)]), gain)
