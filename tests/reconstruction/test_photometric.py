"""Photometric stereo against closed forms, numpy's least squares, a rendered set with true normals, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rakelight.reconstruction.photometric import (
    Corrections,
    Flag,
    PhotometricResult,
    Thresholds,
    allocate,
    solve,
    solve_near,
)

BUNNY = Path(__file__).resolve().parents[2] / "../shared/data/photometric/bunny-rendered/bunny.npz"
Float = NDArray[np.float64]


def ring(count: int, slant_deg: float = 45, turn_deg: float = 0) -> Float:
    """Lights evenly spread in azimuth, (K, 3)."""
    a = 2 * np.pi * np.arange(count) / count + np.radians(turn_deg)
    s = np.radians(slant_deg)
    return np.stack([np.sin(s) * np.cos(a), np.sin(s) * np.sin(a), np.full(count, np.cos(s))], axis=1)


FOUR = ring(4)


def normals_and_albedo(rows: int, cols: int, tilt_deg: float = 30, seed: int = 1) -> tuple[Float, Float]:
    """Random unit normals (3, H, W) up to ``tilt_deg`` from the axis, and albedos from 0.5 to 1."""
    rng = np.random.default_rng(seed)
    tilt, turn = np.radians(rng.uniform(0, tilt_deg, (rows, cols))), rng.uniform(0, 2 * np.pi, (rows, cols))
    n = np.stack([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    return n, rng.uniform(0.5, 1, (rows, cols))


def render(n: Float, albedo: Float | float, lights: Float, scale: float = 50000.0) -> Float:
    """DN of a matte surface with attached shadows, (K, H, W)."""
    return np.asarray(scale * albedo * np.maximum(np.einsum("ka,ahw->khw", lights, n), 0))


def as_frames(signal: Float, dtype: Any = np.uint16) -> list[NDArray[Any]]:
    rounded = signal if dtype == np.float32 else np.rint(signal)
    return [np.ascontiguousarray(f) for f in rounded.astype(dtype)]


def angles_deg(planar: NDArray[Any], truth: NDArray[Any]) -> Float:
    a, b = planar.astype(np.float64), truth.astype(np.float64)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b, axis=0), axis=0), (a * b).sum(0)))


def lstsq(frames: Any, lights: Float) -> tuple[Float, Float]:
    """Unit normals and albedo by numpy."""
    j = np.asarray(frames, np.float64)
    b = np.linalg.lstsq(lights, j.reshape(len(j), -1), rcond=None)[0].reshape(3, *j.shape[1:])
    length = np.linalg.norm(b, axis=0)
    return b / length, length


def assert_same(a: PhotometricResult, b: PhotometricResult, tolerance: float = 0.0) -> None:
    np.testing.assert_array_equal(a.flags, b.flags)
    for name in ("planar", "albedo", "confidence"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------------------------ exactness
@pytest.mark.parametrize("zones", [3, 4, 5, 12])
@pytest.mark.parametrize(
    ("dtype", "scale", "limit_deg"), [(np.uint8, 240, 0.6), (np.uint16, 5e4, 3e-3), (np.float32, 1, 1e-3)]
)
def test_exact_on_random_normals(zones: int, dtype: Any, scale: float, limit_deg: float) -> None:
    n, albedo = normals_and_albedo(9, 31)
    lights = ring(zones, 40)
    result = solve(as_frames(render(n, albedo, lights, scale), dtype), lights)
    assert not result.flags.any()
    assert angles_deg(result.planar, n).max() < limit_deg
    np.testing.assert_allclose(result.albedo, albedo * scale, rtol=np.radians(limit_deg))
    if zones == 3:
        assert np.isnan(result.confidence).all()
    else:
        assert result.confidence.min() > 1 - np.radians(limit_deg)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("repeated", [(), (0,), (0, 2, 2, 1)])
def test_equals_numpy_least_squares(dtype: Any, repeated: tuple[int, ...]) -> None:
    """Noise that no zone stands out of: no zone is left out, and the result is that of all zones."""
    n, albedo = normals_and_albedo(40, 60)
    lights = np.concatenate([FOUR, FOUR[list(repeated)]])
    rng = np.random.default_rng(5)
    noisy = render(n, albedo, lights, 240) * (1 + 0.005 * rng.standard_normal((len(lights), 40, 60)))
    frames = as_frames(noisy, dtype)
    result = solve(frames, lights, full_scale=255)
    expected, length = lstsq(frames, lights)
    assert not result.flags.any()
    assert angles_deg(result.planar, expected).max() < 1e-3
    np.testing.assert_allclose(result.albedo, length, rtol=1e-5)


def test_confidence_is_the_null_vector_redundancy() -> None:
    n, albedo = normals_and_albedo(20, 30)
    rng = np.random.default_rng(5)
    frames = as_frames(render(n, albedo, FOUR) * (1 + 0.01 * rng.standard_normal((4, 20, 30))))
    j = np.asarray(frames, np.float64)
    w = np.linalg.svd(FOUR.T)[2][-1]
    expected = 1 - np.abs(np.einsum("k,khw->hw", w, j)) / np.linalg.norm(j, axis=0)
    for result in (solve(frames, FOUR), solve([f.astype(np.float32) for f in frames], FOUR)):
        np.testing.assert_allclose(result.confidence, expected, atol=2e-6)


def test_bayer_photosites_are_independent() -> None:
    n, albedo = normals_and_albedo(16, 24)
    colour = np.empty((16, 24))
    colour[0::2, 0::2], colour[0::2, 1::2], colour[1::2, 0::2], colour[1::2, 1::2] = 0.5, 1.0, 0.9, 0.35
    result = solve(as_frames(render(n, albedo * colour, FOUR)), FOUR)
    assert angles_deg(result.planar, n).max() < 6e-3
    np.testing.assert_allclose(result.albedo, albedo * colour * 50000, rtol=2e-4)


# ------------------------------------------------------------------------------------------------------ sizes and memory
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 511), (2, 512), (2, 513), (5, 1300)])
@pytest.mark.parametrize("zones", [4, 5])
def test_any_size(shape: tuple[int, int], zones: int) -> None:
    n, albedo = normals_and_albedo(*shape)
    lights = ring(zones)
    frames = as_frames(render(n, albedo, lights))
    frames[1][0, -1] = 65535  # so that the last pixel is visited a second time
    result = solve(frames, lights)
    assert angles_deg(result.planar, n).max() < 1e-2
    assert result.flags[0, -1] == Flag.SATURATED | Flag.RESOLVED
    assert np.count_nonzero(result.flags) == 1


def test_more_rows_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    n, albedo = normals_and_albedo(23, 40)
    frames = as_frames(render(n, albedo, ring(5)))
    gains = np.random.default_rng(4).uniform(0.5, 1, (5, 23, 40)).astype(np.float32)
    corrections = Corrections(np.full((23, 40), 9, np.uint16), 0.5, gains)
    whole = solve(frames, ring(5), corrections=corrections)
    monkeypatch.setattr("rakelight.reconstruction._photometric_input._BLOCK_BYTES", 8 * 5 * 40 * 7)
    assert_same(solve(frames, ring(5), corrections=corrections), whole)


def test_crops_and_transposed_views() -> None:
    n, albedo = normals_and_albedo(30, 50)
    frames = as_frames(render(n, albedo, FOUR))
    dark = np.full((30, 50), 3, np.uint16)
    gains = np.random.default_rng(2).integers(20000, 60000, (4, 30, 50)).astype(np.uint16)
    window = (slice(3, 29, 2), slice(5, 41, 3))

    def cut(a: NDArray[Any]) -> NDArray[Any]:
        return a[(..., *window)]

    views = solve([cut(f) for f in frames], FOUR, corrections=Corrections(cut(dark), 1.0, cut(gains)))
    copies = solve(
        [cut(f).copy() for f in frames], FOUR, corrections=Corrections(cut(dark).copy(), 1.0, cut(gains).copy())
    )
    assert_same(views, copies, 2e-6)
    turned = solve([f.T for f in frames], FOUR)
    np.testing.assert_allclose(turned.planar.transpose(0, 2, 1), solve(frames, FOUR).planar, atol=2e-6)


def test_out_is_reused_and_normals_are_a_view() -> None:
    n, albedo = normals_and_albedo(12, 700)
    frames = as_frames(render(n, albedo, FOUR))
    frames[0][3, 5] = 0
    fresh, out = solve(frames, FOUR), allocate(12, 700)
    for array in (out.planar, out.albedo, out.flags, out.confidence):
        array.fill(77)
    assert solve(frames, FOUR, out=out) is out
    assert_same(out, fresh)
    assert out.normals.shape == (12, 700, 3) and np.shares_memory(out.normals, out.planar)
    part = solve([f[4:8] for f in frames], FOUR, out=out.rows(4, 8))
    assert np.shares_memory(part.planar, out.planar)
    assert_same(out, fresh)


# ------------------------------------------------------------------------------------------------------------- evidence
def test_saturated_and_shadowed_zones_are_left_out_exactly() -> None:
    n, albedo = normals_and_albedo(4, 40)
    frames = as_frames(render(n, albedo, FOUR))
    frames[1][0] = 65535
    frames[2][1] = 0
    frames[0][2], frames[3][2] = 65535, 0
    result = solve(frames, FOUR)
    assert angles_deg(result.planar, n)[[0, 1, 3]].max() < 2e-2
    assert (result.flags[0] == Flag.SATURATED | Flag.RESOLVED).all()
    assert (result.flags[1] == Flag.SHADOWED | Flag.RESOLVED).all()
    assert (result.flags[2] & (Flag.SATURATED | Flag.SHADOWED | Flag.WEAK) == 1 | 2 | 16).all()
    assert not result.flags[3].any()
    assert result.solved.all()


@pytest.mark.parametrize("zones", [4, 6])
def test_highlight_and_soft_cast_shadow_are_left_out_exactly(zones: int) -> None:
    n, albedo = normals_and_albedo(2, 50, 12)
    lights = ring(zones)
    frames = as_frames(render(n, albedo, lights, 12000))
    frames[1][0] = 3.5 * frames[1][0]
    frames[2][1] = frames[2][1] // 6
    result = solve(frames, lights)
    assert (result.flags == Flag.OUTLIER | Flag.RESOLVED).all()
    assert angles_deg(result.planar, n).max() < 2e-2
    assert result.confidence.max() < 0.95  # of all zones: the pixel stays suspicious


def test_attached_shadow() -> None:
    """A facet turned away from one light by more than 90° is solved from the others."""
    steep = np.radians(60)
    n = np.array([np.sin(steep), 0, np.cos(steep)]).reshape(3, 1, 1) * np.ones((1, 2, 3))
    result = solve(as_frames(render(n, 1.0, FOUR)), FOUR)
    assert (result.flags == Flag.SHADOWED | Flag.RESOLVED).all()
    assert angles_deg(result.planar, n).max() < 1e-2


def test_two_lit_zones_are_weak() -> None:
    frames = [np.full((1, 2), dn, np.uint16) for dn in (30000, 20000, 0, 0)]
    result = solve(frames, FOUR)
    assert (result.flags == Flag.SHADOWED | Flag.WEAK).all()
    assert (result.planar[0] > 0.3).all() and (result.planar[1] > 0.2).all()


@pytest.mark.parametrize("zones", [3, 4, 5])
@pytest.mark.parametrize(
    ("values", "flag"),
    [((0, 0), Flag.SHADOWED), ((65535, 65535), Flag.SATURATED), ((40000, 0), Flag.SHADOWED), ((1500, 1400), Flag(0))],
    ids=["dark", "saturated", "one lit", "too dark to tell"],
)
def test_not_solvable(zones: int, values: tuple[int, int], flag: Flag) -> None:
    frames = [np.full((2, 3), values[k > 0], np.uint16) for k in range(zones)]
    lights = ring(zones)
    near = solve_near(frames, positions(lights), np.zeros((2, 3, 3), np.float32))
    for result in (solve(frames, lights), near):
        assert (result.flags == flag | Flag.NOT_SOLVABLE).all()
        assert np.isnan(result.planar).all() and not result.albedo.any() and not result.solved.any()
        expected = np.nan if zones == 3 else 0.0
        np.testing.assert_array_equal(result.confidence, np.full((2, 3), expected))


def test_signal_threshold() -> None:
    frames = [np.full((1, 1), dn, np.uint16) for dn in (1900, 1800, 1700, 1800)]  # brightest 2.9 % of full scale
    assert not solve(frames, FOUR).solved.any()
    assert solve(frames, FOUR, thresholds=Thresholds(signal=0.02)).flags.tolist() == [[0]]
    dark = Corrections(np.full((1, 1), 100, np.uint16))
    brighter = [f + np.uint16(100) for f in frames]
    assert not solve(brighter, FOUR, corrections=dark).solved.any()
    faint = [f.astype(np.float32) * np.float32(1e-6) for f in frames]
    assert solve(faint, FOUR).flags.tolist() == [[0]]  # no full scale: any signal counts


def test_saturation_is_judged_on_raw_values() -> None:
    """A raw value at full scale counts as saturated however small dark and flat field make it."""
    n = np.array([0.1, -0.2, np.sqrt(0.95)]).reshape(3, 1, 1)
    signal = render(n, 0.8, FOUR)
    factor = np.array([1.0, 0.2, 2.0, 0.5]).reshape(4, 1, 1)
    dark = np.full((1, 1), 4000, np.uint16)
    raw = signal / (factor * 2) + 4000
    raw[1] = 65535
    result = solve(
        as_frames(raw), FOUR, corrections=Corrections(dark, 1.0, (factor * 1000).astype(np.uint16), np.full(4, 2e-3))
    )
    assert result.flags.item() == Flag.SATURATED | Flag.RESOLVED
    assert angles_deg(result.planar, n).max() < 1e-2
    assert result.albedo.item() == pytest.approx(0.8 * 50000, rel=1e-3)


@pytest.mark.parametrize("gain_dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("dark_dtype", [np.uint16, np.float32])
def test_dark_and_gains_undo_what_the_rig_did(gain_dtype: Any, dark_dtype: Any) -> None:
    n, albedo = normals_and_albedo(20, 30)
    rng = np.random.default_rng(8)
    factor = rng.integers(20000, 60000, (4, 20, 30)).astype(gain_dtype)
    dark = rng.integers(0, 800, (20, 30)).astype(dark_dtype)
    scales = np.array([1.0, 1.2, 0.9, 1.1]) / 40000
    raw = render(n, albedo, FOUR, 20000) / (factor * scales.reshape(4, 1, 1)) + dark * 0.25
    result = solve(as_frames(raw), FOUR, corrections=Corrections(dark, 0.25, factor, scales))
    assert not result.flags.any()
    assert angles_deg(result.planar, n).max() < 2e-2
    np.testing.assert_allclose(result.albedo, albedo * 20000, rtol=3e-4)


def test_gain_scales_alone_are_inverse_strengths() -> None:
    n, albedo = normals_and_albedo(5, 6)
    strengths = np.array([1.0, 0.5, 0.8, 0.7])
    frames = as_frames(render(n, albedo, FOUR) * strengths.reshape(4, 1, 1))
    result = solve(frames, FOUR, corrections=Corrections(gain_scales=1 / strengths))
    assert angles_deg(result.planar, n).max() < 1e-2


def test_gain_0_marks_a_zone_or_a_pixel_as_unusable() -> None:
    n, albedo = normals_and_albedo(1, 3)
    gains = np.full((4, 1, 3), 1000, np.uint16)
    gains[2, 0, 1] = 0
    gains[:, 0, 2] = 0
    result = solve(
        as_frames(render(n, albedo, FOUR)), FOUR, corrections=Corrections(None, 1.0, gains, np.full(4, 1e-3))
    )
    assert result.solved.tolist() == [[True, True, False]]
    assert result.flags[0, 1] & Flag.RESOLVED
    assert angles_deg(result.planar, n)[0, :2].max() < 1e-2


# ----------------------------------------------------------------------------------------------------------- near light
def positions(lights: Float, distance_mm: float = 300.0) -> Float:
    """Sources at ``distance_mm`` from the origin, camera frame."""
    return np.asarray(distance_mm * lights * [1, -1, -1])


def field(rows: int, cols: int, size_mm: float) -> NDArray[np.float32]:
    """Points of the plane z = 0 through the origin, (H, W, 3) mm."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, cols) * size_mm, np.linspace(-0.5, 0.5, rows) * size_mm)
    return np.stack([x, y, 0 * x], axis=-1).astype(np.float32)


def render_near(n: Float, albedo: Float, sources: Float, xyz: NDArray[np.float32], reference_mm: float) -> Float:
    towards = (sources[:, None, None] - xyz) * [1, -1, -1]
    distance = np.linalg.norm(towards, axis=-1, keepdims=True)
    vectors = towards / distance * (reference_mm / distance) ** 2
    return np.asarray(20000 * albedo * np.maximum(np.einsum("khwa,ahw->khw", vectors, n), 0))


def test_far_sources_are_distant_lights() -> None:
    n, albedo = normals_and_albedo(6, 9)
    frames = as_frames(render(n, albedo, FOUR))
    frames[0][2, 2], frames[1][3, 3] = 65535, 0
    far = solve_near(frames, positions(FOUR, 1e7), field(6, 9, 100), reference_mm=np.zeros(3))
    distant = solve(frames, FOUR)
    assert (
        distant.flags[2, 2] == Flag.SATURATED | Flag.RESOLVED and distant.flags[3, 3] == Flag.SHADOWED | Flag.RESOLVED
    )
    assert_same(far, distant, 2e-4)


@pytest.mark.parametrize("zones", [3, 4, 6])
def test_near_sources_match_the_closed_form(zones: int) -> None:
    n, albedo = normals_and_albedo(8, 12, 15)
    xyz, sources = field(8, 12, 150), positions(ring(zones))
    frames = as_frames(render_near(n, albedo, sources, xyz, 300))
    result = solve_near(frames, sources, xyz, reference_mm=np.zeros((zones, 3)))
    assert not result.flags.any()
    assert angles_deg(result.planar, n).max() < 2e-2
    np.testing.assert_allclose(result.albedo, albedo * 20000, rtol=3e-4)
    assert angles_deg(solve(frames, ring(zones)).planar, n).max() > 5  # what the distant model makes of it


def test_near_without_reference_leaves_the_fall_off() -> None:
    n, albedo = normals_and_albedo(3, 4, 15)
    xyz = np.zeros((3, 4, 3), np.float32)
    sources = positions(FOUR) * np.array([[1.0], [1.5], [1.0], [1.5]])
    plain = solve_near(as_frames(render(n, albedo, FOUR, 20000)), sources, xyz)
    assert angles_deg(plain.planar, n).max() < 2e-2


def test_points_that_are_not_known_are_not_solvable() -> None:
    n, albedo = normals_and_albedo(2, 3)
    xyz = field(2, 3, 10)
    xyz[0, 1] = np.nan
    xyz[1, 2, 2] = np.nan
    result = solve_near(as_frames(render(n, albedo, FOUR)), positions(FOUR), xyz)
    assert result.solved.tolist() == [[True, False, True], [True, True, False]]
    assert result.flags[0, 1] == Flag.NOT_SOLVABLE and np.isnan(result.planar[:, 0, 1]).all()
    assert result.confidence[0, 1] == 0


# --------------------------------------------------------------------------------------------------------------- colour
# ---------------------------------------------------------------------------------------------------------- invariances
@settings(max_examples=25)
@given(turn=st.floats(0, 360), seed=st.integers(0, 2**16), zones=st.sampled_from([3, 4, 5]))
def test_turning_lights_and_part_turns_the_normals(turn: float, seed: int, zones: int) -> None:
    n, albedo = normals_and_albedo(3, 8, 70, seed)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    lights = ring(zones)
    signal = render(n, albedo, lights)  # the picture is the same: only the frame of reference turns
    before = solve(as_frames(signal, np.float32), lights, full_scale=65535)
    after = solve(as_frames(signal, np.float32), lights @ rotation.T, full_scale=65535)
    np.testing.assert_array_equal(before.solved, after.solved)
    expected = np.einsum("ab,bhw->ahw", rotation, before.planar)
    np.testing.assert_allclose(after.planar[:, after.solved], expected[:, before.solved], atol=2e-5)


@settings(max_examples=25)
@given(exponent=st.integers(-20, 20), seed=st.integers(0, 2**16), zones=st.sampled_from([4, 5]))
def test_brightness_does_not_change_the_normals(exponent: int, seed: int, zones: int) -> None:
    n, albedo = normals_and_albedo(3, 8, 70, seed)
    frames = as_frames(render(n, albedo, ring(zones)), np.float32)
    before, after = (solve([f * np.float32(k) for f in frames], ring(zones)) for k in (1.0, 2.0**exponent))
    np.testing.assert_array_equal(before.flags, after.flags)
    np.testing.assert_array_equal(before.planar, after.planar)
    np.testing.assert_array_equal(before.albedo * np.float32(2.0**exponent), after.albedo)


# ------------------------------------------------------------------------------------------------- rendered ground truth
@pytest.fixture(scope="module")
def bunny() -> dict[str, Any]:
    if not BUNNY.is_file():
        pytest.skip("the bunny-rendered set is not at ../shared/data/photometric (see benchmarks/bunny.py)")
    with np.load(BUNNY, allow_pickle=False) as file:
        data: dict[str, Any] = {name: file[name] for name in ("noshadow", "lambert", "specular")}
        lights = file["light_directions"][:4].astype(np.float64)
        return data | {
            "lights": lights / np.linalg.norm(lights, axis=1, keepdims=True),
            "truth": file["normal_gt"].transpose(2, 0, 1),
            "mask": file["mask"].astype(bool),
        }


def bunny_errors(bunny: dict[str, Any], name: str) -> tuple[Float, Float]:
    """Angles of ours, 90° where not solved, and of plain least squares."""
    frames = list(bunny[name][:4])
    ours = angles_deg(solve(frames, bunny["lights"]).planar, bunny["truth"])
    return np.where(np.isnan(ours), 90, ours), angles_deg(lstsq(frames, bunny["lights"])[0], bunny["truth"])


@pytest.mark.parametrize(("lit", "limit_deg"), [(4, 0.035), (3, 0.15), (0, 0.8)])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bunny_without_shadows(bunny: dict[str, Any], lit: int, limit_deg: float) -> None:
    count = (np.einsum("ka,ahw->khw", bunny["lights"], bunny["truth"]) > 0.02).sum(0)
    where = bunny["mask"] & (count >= lit)
    assert where.sum() > 15000
    assert bunny_errors(bunny, "noshadow")[0][where].mean() <= limit_deg


@pytest.mark.parametrize(("name", "limit_deg"), [("lambert", 6.2), ("specular", 7.6)])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bunny_with_shadows_and_highlights(bunny: dict[str, Any], name: str, limit_deg: float) -> None:
    ours, plain = (e[bunny["mask"]].mean() for e in bunny_errors(bunny, name))
    assert ours <= limit_deg < plain


@pytest.mark.parametrize("count", [4, 5])
def test_a_pixel_that_is_nan_has_no_normal(count: int) -> None:
    azimuth = np.arange(count) * 2 * np.pi / count
    lights = np.stack([np.cos(azimuth), np.sin(azimuth), np.ones(count)], 1) / np.sqrt(2)
    frames = [np.full((3, 4), 0.7, np.float32) for _ in range(count)]
    frames[1][1, 2] = np.nan
    result = solve(frames, lights)
    assert not result.solved[1, 2] and np.isnan(result.planar[:, 1, 2]).all() and result.albedo[1, 2] == 0
    assert result.solved.sum() == 11
