"""Pseudo-3D maps against closed forms, a rendered set with true normals, and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction import pseudo3d
from rakelight.reconstruction.photometric import Corrections

BUNNY = Path(__file__).resolve().parents[2] / "../shared/data/photometric/bunny-rendered/bunny.npz"
FOUR_LIGHTS = np.array([[1, 0, 1], [0, 1, 1], [-1, 0, 1], [0, -1, 1]]) / np.sqrt(2)
Float32 = NDArray[np.float32]


def grid(rows: int, cols: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x right and y up, origin in the middle."""
    x = np.arange(cols) - (cols - 1) / 2
    y = (rows - 1) / 2 - np.arange(rows)
    return np.broadcast_to(x, (rows, cols)), np.broadcast_to(y[:, None], (rows, cols))


def as_normals(nx: NDArray[np.float64], ny: NDArray[np.float64], nz: NDArray[np.float64]) -> Float32:
    """(H, W, 3) view of planar memory, as the solver hands it out."""
    return np.moveaxis(np.stack([nx, ny, nz]).astype(np.float32), 0, -1)


def sphere(rows: int, cols: int, radius: float, keep: float = 0.9) -> Float32:
    """Normals of a sphere bulging towards the camera; NaN beyond ``keep`` of its radius."""
    x, y = grid(rows, cols)
    across = x**2 + y**2
    nz = np.sqrt(np.where(across <= (keep * radius) ** 2, radius**2 - across, np.nan)) / radius
    return as_normals(np.where(np.isnan(nz), np.nan, x / radius), np.where(np.isnan(nz), np.nan, y / radius), nz)


def graph_normals(p: NDArray[np.float64], q: NDArray[np.float64]) -> Float32:
    norm = np.sqrt(1 + p**2 + q**2)
    return as_normals(-p / norm, -q / norm, 1 / norm)


def random_normals(rows: int, cols: int, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(3, rows, cols))
    v[2] = np.abs(v[2])
    v /= np.linalg.norm(v, axis=0)
    return as_normals(*v)


# ---------------------------------------------------------------------------------------------------- normals as image
def test_flat_part_is_the_known_blue() -> None:
    flat = as_normals(np.zeros((2, 3)), np.zeros((2, 3)), np.ones((2, 3)))
    assert pseudo3d.encode_normals(flat)[0, 0].tolist() == [128, 128, 255]
    assert pseudo3d.encode_normals(flat, 16)[0, 0].tolist() == [32768, 32768, 65535]


def test_red_is_x_and_green_is_up() -> None:
    axes = as_normals(np.array([[1.0, 0, -1]]), np.array([[0.0, 1, 0]]), np.zeros((1, 3)))
    assert pseudo3d.encode_normals(axes)[0].tolist() == [[255, 128, 128], [128, 255, 128], [0, 128, 128]]


@pytest.mark.parametrize(("bits", "within_deg"), [(8, 0.4), (16, 0.002)])
def test_encoding_round_trip(bits: int, within_deg: float) -> None:
    normals = random_normals(40, 50)
    normals[3, 4] = np.nan
    encoded = pseudo3d.encode_normals(normals, bits)  # type: ignore[arg-type]
    assert encoded[3, 4].tolist() == [0, 0, 0]
    decoded = pseudo3d.decode_normals(encoded).astype(np.float64)
    assert np.isnan(decoded[3, 4]).all() and np.isnan(decoded).sum() == 3
    crossed = np.linalg.norm(np.cross(decoded, normals.astype(np.float64)), axis=2)
    assert np.rad2deg(np.arcsin(np.nanmax(crossed))) < within_deg
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=2)[~np.isnan(decoded[..., 0])], 1, atol=1e-6)


def test_encoding_equals_the_formula_for_any_memory_order() -> None:
    wide = random_normals(30, 40)
    for normals in (wide, np.ascontiguousarray(wide), wide[::-1, ::2], np.asfortranarray(wide)):
        expected = np.floor((normals.astype(np.float64) + 1) * 127.5 + 0.5)
        got = pseudo3d.encode_normals(normals)
        assert np.abs(got - expected).max() <= 1 and (got != expected).mean() < 1e-3  # float32 at the rounding edge


@pytest.mark.parametrize("component", [0, 1, 2])
def test_a_single_nan_component_is_background(component: int) -> None:
    normals = random_normals(3, 3)
    normals[1, 1, component] = np.nan
    assert np.isnan(pseudo3d.mean_curvature(normals, None)[1, 1])
    assert pseudo3d.encode_normals(normals)[1, 1].tolist() == [0, 0, 0]
    assert np.isnan([s[1, 1] for s in pseudo3d.slopes(normals)]).all()
    assert np.isnan(pseudo3d.shaded_relief(normals)[1, 1])


# -------------------------------------------------------------------------------------------------------------- slopes
def test_slopes_of_a_known_surface() -> None:
    x, y = grid(20, 30)
    p, q = 0.02 * x + 0.01 * y, 0.01 * x - 0.03 * y + 0.2
    got_p, got_q = pseudo3d.slopes(graph_normals(p, q))
    np.testing.assert_allclose(got_p, p, atol=1e-6)
    np.testing.assert_allclose(got_q, q, atol=1e-6)


def test_steep_and_turned_away_normals_keep_their_azimuth_at_the_limit() -> None:
    steep = np.array([[0.6, 0.8, 0.01], [0.6, 0.8, 0.0], [0.48, 0.64, -0.6], [np.nan, np.nan, np.nan]])
    p, q = pseudo3d.slopes(steep[None].astype(np.float32), max_slope=2.0)
    np.testing.assert_allclose(p[0, :3], -1.2, rtol=1e-5)
    np.testing.assert_allclose(q[0, :3], -1.6, rtol=1e-5)
    assert np.isnan(p[0, 3]) and np.isnan(q[0, 3])


# ----------------------------------------------------------------------------------------------------------- curvature
def test_sphere_has_mean_curvature_one_over_radius_and_a_bump_is_positive() -> None:
    bump = pseudo3d.mean_curvature(sphere(121, 141, 80.0), None)
    assert np.isnan(bump).any()
    np.testing.assert_allclose(bump[~np.isnan(bump)], 1 / 80, rtol=1e-4)  # also at the rim, 64 degrees steep
    hollow = sphere(121, 141, 80.0) * np.array([-1, -1, 1], np.float32)
    np.testing.assert_allclose(pseudo3d.mean_curvature(hollow, None)[60, 70], -1 / 80, rtol=1e-4)
    in_mm = pseudo3d.mean_curvature(sphere(121, 141, 80.0), None, pitch_mm=0.05)  # radius 4 mm
    np.testing.assert_allclose(in_mm[60, 70], 1 / 4, rtol=1e-4)


def test_curvature_of_planes_and_saddles_is_zero() -> None:
    x, y = grid(40, 50)
    plane = graph_normals(np.full((40, 50), 0.7), np.full((40, 50), -0.3))
    assert np.abs(pseudo3d.mean_curvature(plane, None)).max() < 1e-6
    saddle = pseudo3d.mean_curvature(graph_normals(1e-3 * y, 1e-3 * x), None)  # z = 0.001 xy
    assert np.abs(saddle).max() < 1e-6


def wave_gain(half_period: float, feature_size_px: float, rows: int = 60, cols: int = 600) -> float:
    x, _ = grid(rows, cols)
    nx = 0.01 * np.sin(np.pi * x / half_period)
    normals = as_normals(nx, np.zeros_like(nx), np.sqrt(1 - nx**2))
    middle = np.s_[:, cols // 4 : -cols // 4]
    filtered = pseudo3d.mean_curvature(normals, feature_size_px)[middle]
    return float(filtered.std() / pseudo3d.mean_curvature(normals, None)[middle].std())


@pytest.mark.parametrize("feature_size_px", [8.0, 20.0, 40.0])
def test_band_pass_keeps_its_feature_size_and_removes_others(feature_size_px: float) -> None:
    assert wave_gain(feature_size_px, feature_size_px) == pytest.approx(1.0, abs=0.03)
    assert wave_gain(feature_size_px / 4, feature_size_px) < 0.09
    if feature_size_px <= 20:
        assert wave_gain(feature_size_px * 4, feature_size_px) < 0.22


def test_band_pass_removes_the_shape_of_the_part() -> None:
    smooth = sphere(200, 200, 400.0)
    raw = pseudo3d.mean_curvature(smooth, None)
    filtered = pseudo3d.mean_curvature(smooth, 12.0)
    assert np.abs(filtered).max() < 0.02 * raw.mean()


def test_background_does_not_bleed_into_the_part() -> None:
    normals = sphere(200, 220, 110.0, keep=0.8)
    filtered = pseudo3d.mean_curvature(normals, 30.0)
    assert np.array_equal(np.isnan(filtered), np.isnan(normals[..., 0]))
    assert np.nanmax(np.abs(filtered)) < 0.01 / 110  # 1 % of the constant curvature, right up to the edge


def test_gaps_change_nothing_far_away() -> None:
    x, y = grid(120, 160)
    normals = graph_normals(0.05 * np.sin(x / 6), 0.04 * np.cos(y / 5))
    holed = normals.copy()
    holed[:5, :5] = np.nan
    whole, gap = pseudo3d.mean_curvature(normals, 10.0), pseudo3d.mean_curvature(holed, 10.0)
    np.testing.assert_allclose(gap[60:, 80:], whole[60:, 80:], atol=1e-6)


def test_wide_blur_on_a_reduced_image_equals_the_direct_one() -> None:
    import cv2

    image = np.random.default_rng(2).normal(size=(150, 211)).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), 3.0)
    direct = cv2.GaussianBlur(image, (71, 71), 9.7, borderType=cv2.BORDER_REFLECT)
    error = pseudo3d._blur(image, 9.7) - direct
    assert error.std() < 0.015 * direct.std() and np.abs(error).max() < 0.06 * direct.std()


def test_dent_is_negative_and_stands_out_of_noise() -> None:
    x, y = grid(200, 200)
    bell = np.exp(-(x**2 + y**2) / (2 * 4.0**2))
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.003, (2, 200, 200))  # 0.2 degrees
    curvature = pseudo3d.mean_curvature(
        graph_normals(0.3 * x / 16 * bell + noise[0], 0.3 * y / 16 * bell + noise[1]), 12.0
    )
    row, col = np.unravel_index(int(np.argmin(curvature)), curvature.shape)
    assert np.hypot(row - 99.5, col - 99.5) < 2
    assert -curvature.min() > 8 * curvature[:60].std()


# --------------------------------------------------------------------------------------------------------------- gloss
def matte_frames(normals: Float32, albedo: float = 0.6) -> list[Float32]:
    return [np.asarray(albedo * (normals @ light.astype(np.float32)), np.float32) for light in FOUR_LIGHTS]


def test_matte_surface_has_no_gloss_and_a_highlight_is_measured_in_full() -> None:
    x, y = grid(60, 80)
    frames = matte_frames(graph_normals(0.004 * x, 0.005 * y))
    assert pseudo3d.gloss(frames, FOUR_LIGHTS).max() < 1e-6
    frames[2][10:20, 30:40] += 0.25
    got = pseudo3d.gloss(frames, FOUR_LIGHTS)
    np.testing.assert_allclose(got[10:20, 30:40], 0.25, atol=1e-5)
    got[10:20, 30:40] = 0
    assert got.max() < 1e-6


def test_gloss_is_the_residual_against_a_fit_to_the_other_zones() -> None:
    rng = np.random.default_rng(4)
    lights = rng.normal(size=(6, 3)) + np.array([0, 0, 2])
    frames = rng.random((6, 5, 7)).astype(np.float32)
    got = pseudo3d.gloss(frames, lights)
    for r in range(5):
        for c in range(7):
            values = frames[:, r, c].astype(np.float64)
            k = int(values.argmax())
            rest = np.delete(np.arange(6), k)
            predicted = lights[k] @ np.linalg.lstsq(lights[rest], values[rest], rcond=None)[0]
            assert got[r, c] == pytest.approx(min(max(values[k] - predicted, 0), values[k]), abs=2e-5)


@pytest.mark.parametrize("gain_dtype", [np.uint16, np.float32])
def test_gloss_corrects_dark_level_and_gain(gain_dtype: type) -> None:
    x, y = grid(30, 40)
    frames = matte_frames(graph_normals(0.004 * x, 0.005 * y))
    frames[1][5, 6] += 0.2
    rng = np.random.default_rng(5)
    gains = rng.integers(20000, 60000, (4, 30, 40)).astype(gain_dtype)
    scales = np.array([1e-9, 2e-9, 1e-9, 3e-9])
    dark = rng.integers(100, 900, (30, 40)).astype(np.uint16)
    raw = [(f / (g * s) + dark * 0.5).astype(np.float32) for f, g, s in zip(frames, gains, scales, strict=True)]
    got = pseudo3d.gloss(raw, FOUR_LIGHTS, corrections=Corrections(dark, 0.5, gains, scales))
    assert got[5, 6] == pytest.approx(0.2, abs=2e-3)
    got[5, 6] = 0
    assert got.max() < 2e-3


def test_gloss_of_raw_sixteen_bit_frames_with_strengths() -> None:
    frames = [np.full((4, 6), 1000 * (k + 1), np.uint16) for k in range(4)]
    frames[3][1, 2] += 2000
    got = pseudo3d.gloss(frames, FOUR_LIGHTS, corrections=Corrections(gain_scales=1 / np.arange(1, 5)))
    assert got[1, 2] == pytest.approx(500, abs=0.1) and got.sum() == pytest.approx(500, abs=1)


def test_gloss_of_lights_far_away_is_that_of_distant_ones_and_near_fall_off_is_no_gloss() -> None:
    x, y = grid(40, 50)
    n = graph_normals(0.004 * x, 0.005 * y)
    points = np.stack([x * 0.1, -y * 0.1, np.full(x.shape, 200.0)], axis=-1).astype(np.float32)
    for distance in (1e6, 150.0):
        positions = FOUR_LIGHTS * [1, -1, -1] * distance + [0, 0, 200]
        towards = (positions[:, None, None] - points) * [1, -1, -1]
        length = np.linalg.norm(towards, axis=-1)
        frames = [
            ((t / d[..., None] * n).sum(-1) * (distance / d) ** 2).astype(np.float32)
            for t, d in zip(towards, length, strict=True)
        ]
        got = pseudo3d.gloss_near(frames, positions, points, reference_mm=np.array([0, 0, 200.0]))
        assert got.max() < 1e-5
        frames[2][10:20, 30:40] += 0.25 * (distance / length[2][10:20, 30:40]) ** 2
        got = pseudo3d.gloss_near(frames, positions, points, reference_mm=np.array([0, 0, 200.0]))
        np.testing.assert_allclose(got[10:20, 30:40], 0.25, atol=1e-3)
    with pytest.raises(InputError) as caught:
        pseudo3d.gloss_near(frames[:3], positions[:3], points)
    assert caught.value.code == "gloss.no_redundancy"


@pytest.mark.skipif(not BUNNY.exists(), reason="the rendered bunny set (shared data) is not on this machine")
def test_gloss_separates_the_specular_rendering_from_the_matte_one() -> None:
    data = np.load(BUNNY)
    lights = data["light_directions"][:4]
    lit = (
        (data["normal_gt"] @ lights.T > 0.02).all(axis=2)
        & (data["noshadow"][:4] > 0).all(axis=0)
        & data["mask"].astype(bool)
    )
    matte, shiny = (pseudo3d.gloss(data[name][:4], lights)[lit] for name in ("noshadow", "specular"))
    bright = float(data["noshadow"][:4].max())
    assert np.percentile(matte, 99) < 0.015 * bright
    assert np.percentile(shiny, 99) > 0.1 * bright


def test_gloss_refuses_three_zones() -> None:
    with pytest.raises(InputError, match="3 zones leave no redundancy") as caught:
        pseudo3d.gloss(np.zeros((3, 4, 4), np.float32), FOUR_LIGHTS[:3])
    assert caught.value.code == "gloss.no_redundancy" and "four zones" in caught.value.hint


def test_gloss_refuses_lights_that_cannot_predict_one_another() -> None:
    alone = np.array([[1, 0, 1], [0, 0, 1], [-1, 0, 1], [0, 1, 1]])  # only zone 4 sees y
    for lights, message in ((FOUR_LIGHTS * [1, 0, 1], "the 4 light directions lie"), (alone, "all lights but 4 lie")):
        with pytest.raises(CalibrationError, match=message) as caught:
            pseudo3d.gloss(np.zeros((4, 4, 4), np.float32), lights)
        assert caught.value.code == "calibration.lights_coplanar" and "light calibration" in caught.value.hint


def test_gloss_names_the_array_that_does_not_fit() -> None:
    frames = [np.zeros((4, 4), np.uint8)] * 4
    for bad, message in (
        (Corrections(dark=np.zeros((3, 4), np.float32)), "dark frame has shape"),
        (Corrections(gains=np.zeros((3, 4, 4), np.uint16)), "flat-field gains has shape"),
        (Corrections(gain_scales=np.ones(2)), "gain scales has shape"),
    ):
        with pytest.raises(InputError, match=message):
            pseudo3d.gloss(frames, FOUR_LIGHTS, corrections=bad)
    with pytest.raises(InputError, match="item 4 has shape"):
        pseudo3d.gloss([*frames[:3], np.zeros((5, 4), np.uint8)], FOUR_LIGHTS)
    with pytest.raises(InputError, match="all must agree"):
        pseudo3d.gloss([*frames[:3], np.zeros((4, 4), np.uint16)], FOUR_LIGHTS)


# ----------------------------------------------------------------------------------------------------- relief, display
def test_relief_is_lit_from_where_it_says() -> None:
    normals = sphere(101, 101, 50.0)
    relief = pseudo3d.shaded_relief(normals, azimuth_deg=90, slant_deg=45)
    row, col = np.unravel_index(int(np.nanargmax(relief)), relief.shape)
    assert abs(row - (50 - 50 * np.sin(np.pi / 4))) <= 2 and abs(col - 50) <= 2  # up is a smaller row
    assert relief[90, 50] == 0 and np.isnan(relief[0, 0])
    np.testing.assert_allclose(pseudo3d.shaded_relief(normals, 0, 0), normals[..., 2], atol=1e-7)


def test_display_scales_between_percentiles_and_marks_nan() -> None:
    values = np.linspace(-2, 6, 10_001).reshape(73, 137).astype(np.float32)
    values[0, 0] = np.nan
    shown = pseudo3d.to_display(values, percentiles=(10, 90))
    assert (shown.low, shown.high) == pytest.approx((-1.2, 5.2), abs=0.01)
    assert not shown.valid[0, 0] and shown.image[0, 0] == 0 and shown.valid.sum() == values.size - 1
    assert shown.image.min() == 0 and shown.image.max() == 255
    assert pseudo3d.to_display(values, limits=(-2, 6)).image[36, 68] == 128


def test_symmetric_display_puts_zero_at_mid_grey() -> None:
    values = np.array([[-1.0, 0.0, 3.0, np.inf]], np.float32)
    shown = pseudo3d.to_display(values, limits=(-1, 3), symmetric=True)
    assert (shown.low, shown.high) == (-3, 3)
    assert shown.image[0].tolist() == [85, 128, 255, 0] and shown.valid[0].tolist() == [True, True, True, False]


def test_display_of_constant_empty_and_integer_maps() -> None:
    assert (pseudo3d.to_display(np.full((3, 3), 7.0)).image == 128).all()
    empty = pseudo3d.to_display(np.full((3, 3), np.nan, np.float32))
    assert not empty.valid.any() and not empty.image.any()
    ramp = np.arange(0, 65536, 257, dtype=np.uint16)[None]
    assert np.array_equal(pseudo3d.to_display(ramp, limits=(0, 65535)).image[0], np.arange(256))


# -------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize(
    ("action", "code", "message"),
    [
        (lambda n: pseudo3d.encode_normals(n, 12), "pseudo3d.bits", "bits is 12"),
        (lambda n: pseudo3d.encode_normals(n.astype(np.float64)), "input.dtype", "normals has dtype float64"),
        (lambda n: pseudo3d.slopes(n[..., :2]), "input.shape", "normals has shape"),
        (lambda n: pseudo3d.slopes(n, 0), "pseudo3d.max_slope", "max_slope is 0"),
        (lambda n: pseudo3d.slopes(n, float("nan")), "pseudo3d.max_slope", "max_slope is nan"),
        (
            lambda n: pseudo3d.mean_curvature(n, 1.0),
            "pseudo3d.feature_size",
            "feature_size_px is 1.0; allowed: 2 to 20",
        ),
        (lambda n: pseudo3d.mean_curvature(n, 21.0), "pseudo3d.feature_size", "feature_size_px is 21.0"),
        (lambda n: pseudo3d.mean_curvature(n, 5.0, pitch_mm=0.0), "pseudo3d.pitch", "pitch_mm is 0.0"),
        (lambda n: pseudo3d.shaded_relief(n, 0, 91), "pseudo3d.slant", "slant_deg is 91"),
        (lambda n: pseudo3d.decode_normals(n), "input.dtype", "encoded normals has dtype float32"),
        (lambda n: pseudo3d.to_display(n), "input.shape", "map has 3 axes"),
        (lambda n: pseudo3d.to_display(n[..., 0], limits=(1, 1)), "pseudo3d.limits", "display limits are 1 and 1"),
        (lambda n: pseudo3d.to_display(n[..., 0], percentiles=(90, 10)), "pseudo3d.limits", "percentiles are"),
    ],
)
def test_bad_input_is_named(action, code: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message) as caught:
        action(random_normals(20, 30))
    assert caught.value.code == code
