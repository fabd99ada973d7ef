"""Pattern sets: their formulas, their plain form, and that a small decoder finds every column again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight.dataset.recording import Description, Shot
from rakelight.errors import InputError
from rakelight.reconstruction.patterns import (
    AXES,
    Axis,
    Gray,
    GrayPhaseShift,
    MultiFrequency,
    Pattern,
    PatternSet,
    Sinusoid,
    Uniform,
    phase_margin,
)

TURN = 2 * np.pi


# ------------------------------------------------------------------------------------------------- reference decoder
def stack(patterns: PatternSet, axis: Axis, *, eight_bit: bool = False) -> np.ndarray:
    """What is seen along an axis, (images, length); NaN in images of the other axis, which must not matter."""
    length = patterns.length(axis)
    seen = np.full((len(patterns.patterns), length), np.nan)
    for row, pattern in zip(seen, patterns.patterns, strict=True):
        if pattern.axis == axis and eight_bit:
            image = pattern.image(patterns.width, patterns.height) / 255
            row[:] = image[-1] if axis == "column" else image[:, -1]
        elif pattern.axis == axis:
            row[:] = pattern.profile(length)
    return seen


def wrapped_phase(images: np.ndarray) -> np.ndarray:
    shifts = TURN * np.arange(len(images)) / len(images)
    return np.arctan2(-(np.sin(shifts) @ images), np.cos(shifts) @ images) % TURN


def words(patterns: PatternSet, axis: Axis, seen: np.ndarray) -> np.ndarray:
    """Gray bits against the mean of the phase shift, or against their inverse; Gray to binary by a running xor."""
    threshold = seen[list(patterns.phase_shift(axis))].mean(axis=0)
    bits, inverses = patterns.gray_bits(axis), patterns.gray_bits(axis, inverted=True)
    gray = seen[list(bits)] > (seen[list(inverses)] if inverses else threshold)
    word, bit = np.zeros(seen.shape[1], int), np.zeros(seen.shape[1], bool)
    for row in gray:
        bit = bit ^ row
        word = 2 * word + bit
    return word


def decode_gray(word: np.ndarray, phase: np.ndarray, code: GrayPhaseShift) -> np.ndarray:
    period = code.period_px
    edge = (phase + np.pi / period) % TURN
    if not code.complementary:
        return period * (word + edge / TURN) - 0.5
    k1, k2 = word >> 1, (word + 1) >> 1
    order = np.select([edge < TURN / 4, edge < 3 * TURN / 4], [k2, k1], k2 - 1)
    return period * (order + edge / TURN) - 0.5


def decode_multi(phases: np.ndarray, periods: tuple[float, ...], length: int) -> np.ndarray:
    """The place whose phases fit best (their largest difference is least), then the finest phase at its order."""
    places = np.arange(-0.5, length, 0.25)
    worst = np.zeros((phases.shape[1], places.size))
    for phase, period in zip(phases, periods, strict=True):
        difference = phase[:, None] - TURN * places / period
        worst = np.maximum(worst, np.abs((difference + np.pi) % TURN - np.pi))
    rough, turns = places[worst.argmin(axis=1)], phases[0] / TURN
    return periods[0] * (np.rint(rough / periods[0] - turns) + turns)


def decode(patterns: PatternSet, axis: Axis, seen: np.ndarray) -> np.ndarray:
    code, length = patterns.code, patterns.length(axis)
    phases = np.stack([wrapped_phase(seen[list(patterns.phase_shift(axis, i))]) for i in range(len(code.periods_px))])
    if isinstance(code, GrayPhaseShift):
        return decode_gray(words(patterns, axis, seen), phases[0], code)
    return decode_multi(phases, code.periods_px, length)


SETS = {
    "default": PatternSet(axes=AXES),
    "inverse": PatternSet(code=GrayPhaseShift(inverse=True), axes=AXES),
    "odd period": PatternSet(code=GrayPhaseShift(5, 17, complementary=False), axes=AXES),
    "three steps": PatternSet(code=GrayPhaseShift(3, 18)),
    "one period": PatternSet(64, 64, GrayPhaseShift(period_px=64)),
    "multi": PatternSet(code=MultiFrequency(), axes=AXES),
    "steps a period": PatternSet(code=MultiFrequency((8, 4, 3), (16.5, 128, 1160))),
    "beats only": PatternSet(code=MultiFrequency(6, (24, 26, 29)), axes=AXES),
}


@pytest.mark.parametrize("name", SETS)
def test_every_column_is_found_again(name: str) -> None:
    patterns = SETS[name]
    for axis in patterns.axes:
        truth = np.arange(patterns.length(axis))
        assert np.abs(decode(patterns, axis, stack(patterns, axis)) - truth).max() < 1e-3
        assert np.abs(decode(patterns, axis, stack(patterns, axis, eight_bit=True)) - truth).max() < 0.05


def between(patterns: PatternSet, error_rad: float, places: np.ndarray) -> np.ndarray:
    """Decoded places of a camera that sees any point of the projector, its phases off by ``error_rad``."""
    code = patterns.code
    phases = np.stack([(TURN * places / period + error_rad) % TURN for period in code.periods_px])
    if isinstance(code, MultiFrequency):
        return decode_multi(phases, code.periods_px, patterns.width)
    word = np.floor((places + 0.5) / code.word_px).astype(int)
    return decode_gray(word, phases[0], code)


@pytest.mark.parametrize("error_rad", [-0.3, -0.05, 0.05, 0.3])
@pytest.mark.parametrize("name", ["default", "multi"])
def test_a_phase_error_never_moves_the_order(name: str, error_rad: float) -> None:
    patterns = SETS[name]
    places = np.concatenate([np.arange(0, 911, 0.37), np.arange(0, 911, 16), np.arange(15.5, 911, 16)])
    found = between(patterns, error_rad, places)
    moved = error_rad / TURN * 16  # what the phase error itself is worth
    assert np.abs(found - places - moved).max() < 1e-6


def test_a_misread_word_at_its_edge_never_moves_the_order() -> None:
    code = GrayPhaseShift()
    edges = np.arange(1, 112) * 8 - 0.5
    for offset in (-1.9, -0.2, 0.2, 1.9):  # px beside the edge; the word of the other side is read
        places = edges + offset
        right, wrong = (np.floor((edges + s * np.sign(offset) + 0.5) / 8).astype(int) for s in (0.1, -0.1))
        assert (right != wrong).all()
        found = decode_gray(wrong, (TURN * places / 16) % TURN, code)
        assert np.abs(found - places).max() < 1e-9


def test_without_the_complementary_bit_orders_jump() -> None:
    """The fault that the complementary bit is there for."""
    patterns = PatternSet(code=GrayPhaseShift(complementary=False))
    found = between(patterns, -0.3, np.arange(16.0, 911, 16) - 0.4)
    assert (np.abs(found - np.arange(16.0, 911, 16)) > 8).all()


# ---------------------------------------------------------------------------------------------------------- formulas
def test_sinusoid_has_the_stated_sign() -> None:
    pattern = Sinusoid("column", 16, 8, 2)
    x = np.arange(40)
    np.testing.assert_allclose(pattern.profile(40), 0.5 + 0.5 * np.cos(TURN * x / 16 + TURN * 2 / 8), atol=1e-7)
    assert pattern.profile(40).dtype == np.float32
    dim = Sinusoid("row", 20.5, 4, 0, offset=0.4, amplitude=0.25).profile(500)
    assert dim.max() == pytest.approx(0.65) and dim.min() == pytest.approx(0.15, abs=1e-3)


def test_complementary_gray_code_is_that_of_half_periods() -> None:
    patterns = PatternSet(axes=AXES)
    for axis, bits in (("column", 7), ("row", 8)):
        shown = [patterns.patterns[i] for i in patterns.gray_bits(axis)]
        assert [p.bit for p in shown if isinstance(p, Gray)] == list(range(bits))[::-1]
        code = np.stack([p.profile(patterns.length(axis)) for p in shown]).astype(int)
        assert (np.abs(np.diff(code, axis=1)).sum(axis=0) <= 1).all()  # one bit changes at a time
        steps = np.flatnonzero(np.abs(np.diff(code, axis=1)).sum(axis=0)) + 1
        np.testing.assert_array_equal(steps, np.arange(8, patterns.length(axis), 8))
        # The first n bits are the Gray code of the period's index.
        plain = PatternSet(code=GrayPhaseShift(complementary=False), axes=AXES)
        periods = np.stack([plain.patterns[i].profile(plain.length(axis)) for i in plain.gray_bits(axis)])
        np.testing.assert_array_equal(code[:-1], periods)


def test_images() -> None:
    column, row = Gray("column", 0, 3, 2), Gray("row", 0, 3, 2, inverted=True)
    assert column.image(8, 3).tolist() == [[0, 0, 255, 255, 255, 255, 0, 0]] * 3
    np.testing.assert_array_equal(row.image(3, 8), 255 - column.image(8, 3).T)
    wave = Sinusoid("column", 16, 8, 0).image(16, 2)
    assert wave.shape == (2, 16) and wave.dtype == np.uint8 and wave.flags.c_contiguous
    assert wave[0, [0, 4, 8, 12]].tolist() == [255, 128, 0, 128]
    assert (Uniform(0.25).image(5, 4) == 64).all()


def test_roles_and_names() -> None:
    patterns = PatternSet(code=GrayPhaseShift(inverse=True), axes=("column", "row"))
    assert len(patterns.patterns) == (14 + 8) + (16 + 8)
    assert patterns.gray_bits("column") == tuple(range(0, 14, 2))
    assert patterns.gray_bits("column", inverted=True) == tuple(range(1, 14, 2))
    assert patterns.phase_shift("row") == tuple(range(38, 46))
    assert patterns.names[0] == "001_column_gray_6" and patterns.names[1] == "002_column_gray_6_inverse"
    assert patterns.names[-1] == "046_row_sinusoid_16px_7" and list(patterns.names) == sorted(patterns.names)
    multi = PatternSet(code=MultiFrequency((8, 4, 3)))
    assert multi.phase_shift("column", 1) == (8, 9, 10, 11) and multi.gray_bits("column") == ()
    with pytest.raises(InputError, match="axis of this set is 'row'; allowed: 'column'"):
        multi.phase_shift("row")
    with pytest.raises(InputError, match="index of the period is 3"):
        multi.phase_shift("column", 3)


def test_description_is_one_line() -> None:
    for patterns in SETS.values():
        text = patterns.description()
        assert f"{len(patterns.patterns)} images" in text and "\n" not in text
    assert "7 Gray bits, the last complementary + 8-step" in PatternSet().description()


# ------------------------------------------------------------------------------------------------------ unambiguity
def margin_by_search(periods: tuple[float, ...], reach: float) -> float:
    distances = np.linspace(min(periods) / 2, reach, 400_001)[1:]
    turns = distances[:, None] / np.array(periods)
    return float(np.pi * np.abs(turns - np.rint(turns)).max(axis=1).min())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(8, 300), min_size=1, max_size=4, unique=True), st.floats(200, 1200))
def test_phase_margin_is_that_of_a_search(periods: list[float], reach: float) -> None:
    margin, distance = phase_margin(tuple(periods), reach)
    searched = margin_by_search(tuple(periods), reach)
    grid = reach / 400_000 * np.pi / min(periods)
    assert margin - 1e-9 <= searched <= margin + grid
    assert min(periods) / 2 < distance <= reach


def test_beat_that_does_not_cover_is_refused_with_its_arithmetic() -> None:
    assert phase_margin((16, 17), 912) == pytest.approx((0, 272), abs=1e-9)
    assert phase_margin((16, 20), 912) == pytest.approx((0, 80), abs=1e-9)
    assert phase_margin((16, 20), 72)[0] == pytest.approx(np.pi / 9)  # 16 and 20 px: orders 4 and 5 to the beat
    PatternSet(72, 100, MultiFrequency(8, (16, 20)))
    with pytest.raises(InputError) as caught:
        PatternSet(code=MultiFrequency(8, (16, 17)))
    assert caught.value.code == "patterns.ambiguous" and "912" in caught.value.hint
    assert "at a distance of 272.0 px (17.00, 16.00 periods)" in caught.value.message
    assert "1/(1/16 − 1/17) = 272.0 px" in caught.value.message
    hierarchy = MultiFrequency(8, (16, 96, 960))
    PatternSet(code=hierarchy)
    with pytest.raises(
        InputError, match=r"1140 rows apart: at a distance of 960\.0 px \(60\.00, 10\.00, 1\.00 periods\)"
    ):
        PatternSet(code=hierarchy, axes=("row",))


# -------------------------------------------------------------------------------------------------------- plain data
@pytest.mark.parametrize("name", SETS)
def test_plain_form_goes_through_json_and_a_recording(name: str) -> None:
    patterns = SETS[name]
    text = json.dumps(patterns.to_plain(), allow_nan=False)
    assert len(text) < 300
    again = PatternSet.from_plain(json.loads(text))
    assert again == patterns and again.patterns == patterns.patterns
    shots = [
        Shot(name=name, role="pattern", projector=1, pattern=p.to_plain())
        for name, p in zip(patterns.names, patterns.patterns, strict=True)
    ]
    info = Description(
        part_id="p", pixel_format="Mono8", linear=True, plan=tuple(shots), pattern_set=patterns.to_plain()
    )
    read = Description.model_validate_json(info.model_dump_json())
    assert [Pattern.from_plain(s.pattern) for s in read.plan] == list(patterns.patterns)
    assert max(len(json.dumps(s.pattern)) for s in read.plan) < 160
    assert PatternSet.from_plain(read.pattern_set) == patterns


def test_numpy_numbers_become_plain() -> None:
    code = GrayPhaseShift(np.int64(4), np.int32(8))  # type: ignore[arg-type]
    patterns = PatternSet(np.int64(100), 90, code, axes=["row"])  # type: ignore[arg-type]
    assert PatternSet.from_plain(json.loads(json.dumps(patterns.to_plain()))) == patterns
    assert Pattern.from_plain(Uniform(1).to_plain()) == Uniform(1.0)


SINE = {"kind": "sinusoid", "axis": "column", "period_px": 16, "steps": 8, "step": 0}
SET = PatternSet().to_plain()


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (None, "keys", "pattern is None; needed: a table"),
        ({}, "kind", "without the key kind; known: uniform, sinusoid, gray"),
        ({"kind": "dots"}, "kind", "of kind 'dots'"),
        ({"kind": ["gray"]}, "kind", "known: uniform"),
        (SINE | {"periode_px": 3}, "keys", "did you mean 'period_px'"),
        ({"kind": "sinusoid", "axis": "row"}, "keys", "lacks period_px, steps, step"),
        (SINE | {"axis": "diagonal"}, "value", "axis is 'diagonal'; allowed: 'column' or 'row'"),
        (SINE | {"steps": 2}, "value", "steps is 2; allowed: an integer from 3 to 64"),
        (SINE | {"steps": 8.0}, "value", "steps is 8.0"),
        (SINE | {"step": 8}, "value", "step is 8; allowed: an integer from 0 to 7"),
        (SINE | {"period_px": "16"}, "value", "period_px is '16'"),
        (SINE | {"period_px": float("nan")}, "value", "period_px is nan"),
        (SINE | {"amplitude": 0.6}, "value", "amplitude 0.6 with offset 0.5; allowed: above 0, at most 0.5"),
        ({"kind": "uniform", "level": 1.5}, "value", "uniform level is 1.5; allowed: a number from 0 to 1"),
        ({"kind": "uniform", "level": True}, "value", "uniform level is True"),
        ({"kind": "uniform", "level": 1, "axis": "row"}, "keys", "unknown key 'axis'"),
        ({"kind": "gray", "axis": "row", "bit": 3, "bits": 3, "word_px": 8}, "value", "bit is 3"),
        ({"kind": "gray", "axis": "row", "bit": 0, "bits": 3, "word_px": 8, "inverted": 1}, "value", "true or false"),
    ],
)
def test_wrong_patterns_are_named(data: Any, code: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        Pattern.from_plain(data)
    assert caught.value.code == f"patterns.{code}" and text in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"kind": "gray"}, "kind", "of kind 'gray'; known: pattern_set"),
        ({"schema": 2}, "schema", "schema 2; this version reads schema 1"),
        ({"schema": True}, "schema", "schema True"),
        ({"width": 7}, "value", "projector width (px) is 7; allowed: an integer from 8 to 16384"),
        ({"axes": []}, "value", "axes []"),
        ({"axes": ["row", "row"]}, "value", "each once"),
        ({"axes": ["x"]}, "value", "axis is 'x'"),
        ({"code": {"kind": "gray_phase_shift", "steps": 2}}, "value", "steps is 2"),
        ({"code": {"kind": "gray_phase_shift", "period_px": 15}}, "value", "an even number"),
        ({"code": {"kind": "gray_phase_shift", "period_px": 16.0}}, "value", "period_px of a Gray code is 16.0"),
        (
            {"code": {"kind": "gray_phase_shift", "period_px": 914}},
            "value",
            "at most the projector's 912 px along column",
        ),
        ({"code": {"kind": "stripes"}}, "kind", "code of kind 'stripes'"),
        ({"code": 3}, "keys", "code is 3"),
        ({"code": {"kind": "multi_frequency", "periods_px": []}}, "value", "a list of 1 to 8 periods"),
        ({"code": {"kind": "multi_frequency", "periods_px": [132, 16, 1200]}}, "value", "ascending"),
        ({"code": {"kind": "multi_frequency", "steps": [8, 8]}}, "value", "steps of 2 numbers for 3 periods"),
        ({"colour": "red"}, "keys", "unknown key 'colour'"),
    ],
)
def test_wrong_sets_are_named(change: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        PatternSet.from_plain(SET | change)
    assert caught.value.code == f"patterns.{code}" and text in caught.value.message and caught.value.hint


def test_lengths_are_checked() -> None:
    with pytest.raises(InputError, match=r"at most 2\^3 · 8 = 64 px"):
        Gray("column", 0, 3, 8).profile(65)
    for length in (0, 16385, 3.0):
        with pytest.raises(InputError, match="length of a profile"):
            Uniform(1).profile(length)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="height of an image"):
        Uniform(1).image(3, 0)
