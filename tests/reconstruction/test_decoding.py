"""Fringe decoding against closed forms with the noise of a known sensor, at every quadrant, edge and fault."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rakelight.errors import InputError
from rakelight.reconstruction.decoding import (
    Decoded,
    Flag,
    NoiseModel,
    Settings,
    allocate,
    decode,
    decode_gray,
    estimate_noise,
    fold_bracket,
)
from rakelight.reconstruction.patterns import Gray, GrayPhaseShift, MultiFrequency, PatternSet, Sinusoid

Float = NDArray[np.float64]
SENSOR = NoiseModel(1.5, 0.4, 64.0)
QUIET = NoiseModel(0.3, 0.0, 0.0)
FULL = 4095
CODES = [
    GrayPhaseShift(),
    GrayPhaseShift(steps=5, period_px=18, inverse=True),
    GrayPhaseShift(steps=3),
    GrayPhaseShift(steps=4, complementary=False),
    MultiFrequency(),
    MultiFrequency((4, 3, 5), (16.0, 132.0, 1200.0)),
    MultiFrequency(8, (21.0, 23.0)),
    pytest.param(GrayPhaseShift(steps=64, period_px=32), marks=pytest.mark.slow),  # 8 s to compile
]


def pattern_set(code: Any) -> PatternSet:
    return PatternSet(220 if code.periods_px == (21.0, 23.0) else 912, 1140, code)


def coordinates(length: int, rows: int = 40, columns: int = 1500, seed: int = 0) -> Float:
    """Every place of the projector, the ends and the edges of pixels too, in another order in every row."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-0.45, length - 0.55, columns)[None] + rng.uniform(-0.02, 0.02, (rows, 1))
    return np.asarray(x)


def render(
    patterns: PatternSet,
    x: Float,
    *,
    row: Float | None = None,
    offset: Any = 1500.0,
    modulation: Any = 1200.0,
    noise: NoiseModel | None = None,
    dtype: Any = np.uint16,
    seed: int = 1,
) -> NDArray[Any]:
    """The frames that a camera gets of columns ``x`` (and rows ``row``), in DN, by the formulas of the conventions."""
    rng = np.random.default_rng(seed)
    frames = np.empty((len(patterns.patterns), *x.shape), dtype)
    for k, pattern in enumerate(patterns.patterns):
        place = row if pattern.axis == "row" and row is not None else x
        if isinstance(pattern, Sinusoid):
            value = np.cos(2 * np.pi * (place / pattern.period_px + pattern.step / pattern.steps))
        else:
            assert isinstance(pattern, Gray)
            word = np.floor((place + 0.5) / pattern.word_px).astype(int)
            value = 2.0 * ((((word ^ (word >> 1)) >> pattern.bit) & 1) ^ pattern.inverted) - 1
        dn = offset + modulation * value
        if noise is not None:
            electrons = rng.poisson(np.maximum(dn - noise.black_dn, 0) / noise.dn_per_e)
            dn = noise.black_dn + noise.dn_per_e * electrons + rng.normal(0, noise.read_dn, dn.shape)
        frames[k] = np.clip(np.rint(dn), 0, np.iinfo(dtype).max)
    return frames


# ------------------------------------------------------------------------------------------------------------- accuracy
@pytest.mark.parametrize("code", CODES, ids=str)
def test_exact_everywhere_without_noise(code: Any) -> None:
    patterns = pattern_set(code)
    x = coordinates(patterns.width)
    frames = render(patterns, x, offset=30000, modulation=25000)
    result = decode(frames, patterns, full_scale=65535, noise=QUIET)
    steps = code.steps if isinstance(code.steps, int) else code.steps[0]
    assert result.valid.mean() > 0.999
    # Rounding to whole DN, and the arctangent's 2e-6 rad.
    limit = code.periods_px[0] / (2 * np.pi) * (6 / np.sqrt(6 * steps) / 25000 + 1e-5)
    assert np.nanmax(np.abs(result.coordinate - x)) < limit
    np.testing.assert_allclose(result.modulation, 25000, rtol=1e-4)
    np.testing.assert_allclose(result.offset, 30000, rtol=1e-4)


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("modulation", [300.0, 1300.0])
def test_sigma_is_the_standard_deviation_of_the_error(code: Any, modulation: float) -> None:
    patterns = pattern_set(code)
    x = coordinates(patterns.width, 60)
    frames = render(patterns, x, modulation=modulation, noise=SENSOR)
    result = decode(frames, patterns, full_scale=FULL)  # the noise is estimated
    error = ((result.coordinate - x) / result.sigma_px)[result.valid]
    assert 0.9 < error.std() < 1.1
    assert abs(error.mean()) < 0.02
    inside = (x > 2) & (x < patterns.width - 3)
    complementary = not isinstance(code, GrayPhaseShift) or code.complementary
    # Near the ends of each period a code without the complementary bit is honestly unsure (docstring of Settings).
    assert result.valid[inside].mean() > (0.99 if complementary else 0.7)
    assert np.abs(error).max() < 7  # no order is wrong


def test_uint8_and_both_axes() -> None:
    patterns = PatternSet(912, 912, GrayPhaseShift(), ("column", "row"))
    x = coordinates(912, 20, 700)
    frames = render(patterns, x, row=x[:, ::-1], offset=120, modulation=100, dtype=np.uint8)
    frames = np.concatenate([frames, np.full((2, *x.shape), 255, np.uint8)])  # white and black behind them are ignored
    by_column = decode(frames, patterns, "column", full_scale=255)
    by_row = decode(frames, patterns, "row", full_scale=255)
    assert np.nanmax(np.abs(by_column.coordinate - x)) < 0.1
    assert np.nanmax(np.abs(by_row.coordinate - x[:, ::-1])) < 0.1


@settings(max_examples=60, deadline=None)
@given(
    code=st.sampled_from(CODES[:4]),
    place=st.floats(0, 1),
    offset=st.integers(2000, 30000),
    contrast=st.floats(0.1, 1),
)
def test_reference_formula(code: Any, place: float, offset: int, contrast: float) -> None:
    """Any place, by numpy's arctangent; a fraction of the period near its ends may be unsure without complementary bit."""
    patterns = pattern_set(code)
    x = np.full((1, 8), -0.4 + place * (patterns.width - 0.2))
    frames = render(patterns, x, offset=offset, modulation=contrast * offset)
    angles = 2 * np.pi * np.arange(code.steps) / code.steps
    images = frames[list(patterns.phase_shift("column"))].astype(float)
    phase = np.arctan2(-np.tensordot(np.sin(angles), images, 1), np.tensordot(np.cos(angles), images, 1))
    result = decode(frames, patterns, full_scale=65535, noise=QUIET, settings=Settings(least_modulation=0))
    assert code.complementary <= result.valid.all()
    off = 2 * np.pi * result.coordinate / code.period_px - phase
    assert np.nan_to_num(np.abs((off + np.pi) % (2 * np.pi) - np.pi)).max() < 1e-3  # float32 of 900 px
    assert np.nan_to_num(np.abs(result.coordinate - x)).max() < 0.03


def test_bits_blurred_at_every_edge_move_no_order() -> None:
    """Lens blur over two pixels and noise: the Gray code alone is misread at edges, the complementary recipe is not."""
    patterns = PatternSet(912, 1140, GrayPhaseShift(8, 16))
    x = coordinates(912, 60, 3000)
    smooth = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    smooth /= smooth.sum()
    frames = render(patterns, x, noise=None).astype(float)
    frames = np.stack([[np.convolve(line, smooth, "same") for line in frame] for frame in frames])
    frames += np.random.default_rng(3).normal(0, 40, frames.shape)
    result = decode(np.clip(frames, 0, FULL).astype(np.uint16), patterns, full_scale=FULL)
    inner = (slice(None), slice(20, -20))
    assert result.valid[inner].mean() > 0.995
    assert np.nanmax(np.abs(result.coordinate - x)[inner]) < 2


# ---------------------------------------------------------------------------------------------------------------- flags
def flagged(flag: Flag, result: Decoded) -> NDArray[np.bool_]:
    return (result.flags & int(flag)) != 0


@pytest.mark.parametrize("code", [GrayPhaseShift(), GrayPhaseShift(5, inverse=True), MultiFrequency()], ids=str)
def test_flags_tell_what_is_wrong(code: Any) -> None:
    patterns = pattern_set(code)
    x = coordinates(912)
    frames = render(patterns, x, noise=SENSOR)
    shift = patterns.phase_shift("column")
    frames[shift[1], 0] = FULL  # saturated in one step
    frames[:, 1] = 300  # no modulation
    frames[shift[2], 2] = frames[shift[0], 2] // 2 + 1000  # something moved
    result = decode(frames, patterns, full_scale=FULL, noise=SENSOR)
    assert flagged(Flag.SATURATED, result)[0].all() and not flagged(Flag.SATURATED, result)[1:].any()
    assert (result.flags[1] == Flag.DARK).all() and not flagged(Flag.DARK, result)[2:].any()
    assert flagged(Flag.RESIDUAL, result)[2].mean() > 0.7 and flagged(Flag.RESIDUAL, result)[3:].mean() < 1e-3
    assert np.array_equal(np.isnan(result.coordinate), ~result.valid)
    assert np.array_equal(np.isnan(result.sigma_px), ~result.valid)
    assert np.isfinite(result.modulation).all() and np.isfinite(result.offset).all()


def test_coordinates_beyond_the_projector_are_outside() -> None:
    patterns = PatternSet(900, 1140, GrayPhaseShift())  # 900 is not a whole number of periods
    x = np.tile(np.linspace(880, 911, 300), (4, 1))
    result = decode(render(patterns, x), patterns, full_scale=FULL, noise=QUIET)
    assert (result.flags[x > 899.6] == Flag.OUTSIDE).all()
    assert result.valid[x < 899.4].all()


def test_a_bit_between_two_levels_is_unsure() -> None:
    patterns = PatternSet(912, 1140, GrayPhaseShift())
    x = np.tile(4.0 + 8 * np.arange(113), (4, 1))  # middles of words
    frames = render(patterns, x)
    frames[2, 0] = 1500  # one bit at its threshold, away from every edge
    result = decode(frames, patterns, full_scale=FULL, noise=SENSOR)
    assert flagged(Flag.ORDER, result)[0].all() and result.valid[1:].all()


def test_periods_that_contradict_each_other_are_unsure() -> None:
    patterns = PatternSet(912, 1140, MultiFrequency())
    x = coordinates(912)
    frames = render(patterns, x)
    middle = list(patterns.phase_shift("column", 1))
    wrong = render(patterns, x + 66)  # the middle period half a turn off
    frames[middle] = wrong[middle]
    result = decode(frames, patterns, full_scale=FULL, noise=SENSOR)
    assert flagged(Flag.ORDER, result).mean() > 0.7


# ---------------------------------------------------------------------------------------------------------------- noise
@pytest.mark.parametrize(
    "code", [GrayPhaseShift(), GrayPhaseShift(4), GrayPhaseShift(3), MultiFrequency((3, 8, 3))], ids=str
)
@pytest.mark.parametrize("sensor", [SENSOR, NoiseModel(6.0, 0.15, 100.0)])
def test_estimated_noise_is_the_sensors(code: Any, sensor: NoiseModel) -> None:
    patterns = pattern_set(code)
    x = coordinates(912, 200)
    level = np.linspace(150, 1900, 200)[:, None]
    frames = render(patterns, x, offset=100 + level, modulation=0.9 * level, noise=sensor)
    estimated = estimate_noise(frames, patterns, full_scale=FULL)
    levels = np.linspace(300, 1900, 9)
    ratio = np.sqrt(estimated.variance(levels) / (sensor.variance(levels) + 1 / 12))
    assert np.abs(ratio - 1).max() < 0.1


def test_noise_estimate_resists_motion() -> None:
    patterns = PatternSet(912, 1140)
    x = coordinates(912, 200)
    frames = render(patterns, x, noise=SENSOR)
    frames[-1, 40:60] = render(patterns, x + 3, noise=SENSOR)[-1, 40:60]  # a tenth of the rows
    estimated = estimate_noise(frames, patterns, full_scale=FULL)
    assert abs(np.sqrt(estimated.variance(1500) / SENSOR.variance(1500)) - 1) < 0.1


def test_noise_of_frames_without_usable_pixels_is_refused() -> None:
    patterns = PatternSet(912, 1140)
    with pytest.raises(InputError, match="saturated nor 0") as caught:
        estimate_noise(np.zeros((15, 50, 50), np.uint8), patterns, full_scale=255)
    assert caught.value.code == "fringes.noise"


# -------------------------------------------------------------------------------------------------------------- bracket
def test_fold_bracket_takes_the_better_of_each_pixel() -> None:
    patterns = PatternSet(912, 1140)
    x = coordinates(912)
    reflectance = np.geomspace(0.02, 1, 40)[:, None]
    results = []
    for exposure in (1.0, 8.0):
        scale = reflectance * exposure
        frames = render(patterns, x, offset=64 + 1800 * scale, modulation=1700 * scale, noise=SENSOR)
        results.append(decode(np.minimum(frames, FULL), patterns, full_scale=FULL, noise=SENSOR))
    short, long = results
    lone = [r.valid.copy() for r in results]
    sigma = [np.nan_to_num(r.sigma_px.copy(), nan=np.inf) for r in results]
    flags = short.flags & long.flags
    fold_bracket(short, long)
    assert np.array_equal(short.valid, lone[0] | lone[1])
    assert (lone[0] ^ lone[1]).any() and short.valid.mean() > max(r.mean() for r in lone)
    np.testing.assert_array_equal(np.nan_to_num(short.sigma_px, nan=np.inf), np.minimum(*sigma))
    assert np.nanmax(np.abs(short.coordinate - x)) < 2
    assert (short.flags[~short.valid] >= flags[~short.valid]).all()
    with pytest.raises(InputError, match=r"other\.coordinate"):
        fold_bracket(short, allocate(3, 3))


# ----------------------------------------------------------------------------------------------------------- plain Gray
@pytest.mark.parametrize("bits", [1, 6, 11])
def test_plain_gray(bits: int) -> None:
    words = np.arange(1 << bits)[None].repeat(3, 0)
    code = words ^ (words >> 1)
    plain = np.stack([np.where((code >> b) & 1, 200, 40) for b in reversed(range(bits))]).astype(np.uint8)
    pairs = np.stack([image for p in plain for image in (p, 240 - p)]).astype(np.uint8)
    pairs[0, 0, 0] = pairs[1, 0, 0]  # unsure
    by_pairs = decode_gray(pairs, least_margin_dn=5, least_contrast_dn=40)
    assert not by_pairs.valid[0, 0] and by_pairs.valid.sum() == words.size - 1
    assert np.array_equal(by_pairs.word[by_pairs.valid], words[by_pairs.valid])
    level = decode_gray(plain, threshold=np.full(words.shape, 120), least_margin_dn=5, least_contrast_dn=40)
    assert level.valid.all() and np.array_equal(level.word, words)
    assert (level.margin == 160).all() and (level.contrast == 160).all()


def test_plain_gray_refuses_an_odd_number_of_images() -> None:
    with pytest.raises(InputError, match="7 images") as caught:
        decode_gray(np.zeros((7, 4, 4), np.uint8), least_margin_dn=1, least_contrast_dn=1)
    assert caught.value.code == "fringes.pairs"


# --------------------------------------------------------------------------------------------------------------- inputs
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"frames": np.zeros((14, 4, 4), np.uint8)}, "input.shape"),
        ({"frames": np.zeros((15, 4), np.uint8)}, "input.shape"),
        ({"frames": np.zeros((15, 0, 4), np.uint8)}, "input.shape"),
        ({"frames": np.zeros((15, 4, 4), np.float32)}, "input.dtype"),
        ({"frames": np.zeros((15, 4, 8), np.uint8)[:, :, ::2]}, "input.layout"),
        ({"full_scale": 0}, "fringes.full_scale"),
        ({"full_scale": 4095}, "fringes.full_scale"),
        ({"full_scale": float("nan")}, "fringes.full_scale"),
        ({"axis": "row"}, "patterns.value"),
        ({"out": allocate(4, 5)}, "input.shape"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], code: str) -> None:
    arguments = {"frames": np.zeros((15, 4, 4), np.uint8), "axis": "column", "full_scale": 255} | change
    frames, axis = arguments.pop("frames"), arguments.pop("axis")
    with pytest.raises(InputError) as caught:
        decode(frames, PatternSet(912, 1140), axis, noise=QUIET, **arguments)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["saturation", "least_modulation", "least_snr", "gray_margin", "residual_share"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_settings_are_checked(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        Settings(**{name: value})
    with pytest.raises(InputError, match="noise"):
        NoiseModel(-1, 0, 0)


def test_memory_is_reused() -> None:
    patterns = PatternSet(912, 1140)
    x = coordinates(912)
    out = allocate(*x.shape)
    assert decode(render(patterns, x), patterns, full_scale=FULL, noise=QUIET, out=out) is out
    assert np.nanmax(np.abs(out.coordinate - x)) < 0.02


@pytest.mark.slow
def test_a_second_process_finds_the_compiled_kernel() -> None:
    """The specialised kernels are closures; the cache must know them again by their numbers."""
    program = (
        "import numpy as np; from rakelight.reconstruction import _decoding_kernels as k, decoding as d;"
        "from rakelight.reconstruction.patterns import *; p = PatternSet(912, 1140, GrayPhaseShift(7));"
        "d.decode(np.zeros((len(p.patterns), 8, 8), np.uint8), p, full_scale=255, noise=d.NoiseModel(1, 0, 0));"
        "s = k.gray_kernel(7, 7, False, True).stats; print(sum(s.cache_hits.values()), sum(s.cache_misses.values()))"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    assert outputs[1] == ["1", "0"]
