"""Decoding of real recordings against the figures in their SOURCE.md; skipped where they are not on the machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rakelight.reconstruction.decoding import decode, decode_gray
from rakelight.reconstruction.pattern_order import check_order
from rakelight.reconstruction.patterns import GrayPhaseShift, MultiFrequency, PatternSet

DATA = Path(__file__).resolve().parents[2] / "../shared/data/structured-light"


def load(folder: str, order: Iterable[int], suffix: str = "png") -> NDArray[np.uint8]:
    if not (DATA / folder).is_dir():
        pytest.skip(f"the recordings of {folder} are not at ../shared/data/structured-light")
    return np.stack([np.asarray(Image.open(DATA / folder / f"{i:02d}.{suffix}").convert("L")) for i in order])


def slmaster() -> tuple[NDArray[np.uint8], PatternSet]:
    """Its Gray images are taken after the phase shift, which begins with half a period's shift."""
    order = [*range(12, 18), *range(6, 12), *range(6)]
    return load("slmaster-12step-gray", order), PatternSet(1920, 1080, GrayPhaseShift(12, 60))


def skull() -> tuple[NDArray[np.uint8], PatternSet]:
    """Its steps go by −2πk/3, and 1824 px would be a whole period of the coarse one."""
    order = [0, 2, 1, 3, 5, 4]
    return load("slstudio-phase-shift/skull_2x3", order), PatternSet(1820, 1140, MultiFrequency(3, (114.0, 1824.0)))


def test_slmaster_has_no_order_jumps() -> None:
    frames, patterns = slmaster()
    check_order(frames, patterns, full_scale=255)
    result = decode(frames, patterns, full_scale=255)
    assert result.valid.sum() >= 205_000
    good = result.modulation > 15
    assert result.valid[good].mean() > 0.999  # a fit residual of 3 DN at a modulation of 46 is no fault
    for axis in (0, 1):
        jumps = np.abs(np.diff(result.coordinate, axis=axis)) > 30
        assert jumps.sum() == 0


def test_skull_in_three_codes() -> None:
    frames, patterns = skull()
    check_order(frames, patterns, full_scale=255)
    phase = decode(frames, patterns, full_scale=255)
    gray = load("slstudio-phase-shift/skull_gray", range(12))
    level = gray[:2].mean(axis=0)  # of white and black
    plain = decode_gray(gray[2:], threshold=level, least_margin_dn=4, least_contrast_dn=15)
    column = 2 * plain.word + 0.5  # middle of a stripe of 2 px
    both = phase.valid & plain.valid & (phase.modulation > 25)
    error = (phase.coordinate - column)[both]
    near = np.abs(error) < 8
    assert both.sum() >= 188_277 and near.mean() >= 0.9985
    assert error[near].std() <= 0.83 and abs(np.median(error) + 0.22) < 0.05
    micro = load("slstudio-phase-shift/skull_microps", range(3))
    # 72 of the 75 columns of one period: a set that is longer than its period is refused.
    wrapped = decode(micro, PatternSet(72, 1140, MultiFrequency(3, (75.02,))), full_scale=255)
    unwrapped = wrapped.coordinate + 75.02 * np.rint((column - wrapped.coordinate) / 75.02)
    agree = (unwrapped - phase.coordinate)[both & wrapped.valid]
    agree = agree[np.abs(agree) < 8]
    assert agree.size > 170_000 and agree.std() <= 0.70 and abs(np.median(agree)) < 0.05


def test_the_skulls_coarse_steps_reversed_are_found() -> None:
    frames, patterns = skull()
    with pytest.raises(ValueError, match="backwards"):
        check_order(frames[[0, 1, 2, 3, 5, 4]], patterns, full_scale=255)


def test_slmasters_own_order_of_steps_is_found() -> None:
    frames, patterns = slmaster()
    with pytest.raises(ValueError, match=r"shifted against the Gray code by -5\.9 steps"):
        check_order(np.concatenate([frames[:6], frames[12:], frames[6:12]]), patterns, full_scale=255)


@pytest.mark.parametrize("pose", [1, 3, 4, 5, 6])
def test_boards_raise_nothing(pose: int) -> None:
    order = [0, 2, 1, 3, 5, 4]
    frames = load(f"slstudio-phase-shift/pose_{pose}", order)
    check_order(frames, skull()[1], full_scale=255)


def test_shell_in_plain_gray() -> None:
    frames = load("sltk-graycode-shell", range(44), "jpg")
    columns, rows = (decode_gray(part, least_margin_dn=4, least_contrast_dn=30) for part in (frames[:22], frames[22:]))
    both = columns.valid & rows.valid
    assert abs(both.sum() / 196_109 - 1) < 0.005
    assert columns.word[both].max() <= 1279 and rows.word[both].max() <= 799


@pytest.mark.parametrize("pose", range(4))
def test_chessboards_in_plain_gray(pose: int) -> None:
    """Every decoded pixel against plain numpy, bit by bit."""
    frames = load(f"procam-graycode-chessboard/pose_{pose}", range(20))
    result = decode_gray(frames, least_margin_dn=5, least_contrast_dn=40)
    bits = frames[::2] > frames[1::2]
    binary = np.logical_xor.accumulate(bits, axis=0)
    word = np.tensordot(1 << np.arange(9, -1, -1), binary, 1)
    assert np.array_equal(result.word, word)
    assert result.valid.mean() > 0.3 and result.word[result.valid].max() < 1024
