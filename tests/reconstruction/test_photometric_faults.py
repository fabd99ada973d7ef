"""Photometric stereo refuses bad input with the right error, code and message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.photometric import Corrections, Thresholds, allocate, solve, solve_near

FOUR = np.array([[1, 0, 1], [0, 1, 1], [-1, 0, 1], [0, -1, 1]]) / np.sqrt(2)
FLAT = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
SOURCES = 300 * FOUR * [1, -1, -1]  # camera frame, mm


def a_frame(dtype: Any = np.uint16, shape: tuple[int, ...] = (4, 5)) -> NDArray[Any]:
    return np.full(shape, 100, dtype)


@pytest.mark.parametrize(
    ("frames", "code", "message"),
    [
        ([a_frame()] * 2, "photometric.too_few_lights", "2 light frame(s)"),
        ([a_frame()] * 3 + [a_frame(shape=(4, 6))], "input.shape", "item 4 has shape (4, 6)"),
        ([a_frame()] * 3 + [a_frame(np.uint8)], "input.dtype", "frame 4 has dtype uint8"),
        ([a_frame(np.float64)] * 4, "input.dtype", "frame 1 has dtype float64; allowed: uint8, uint16, float32"),
        ([a_frame(shape=(4, 5, 3))] * 4, "input.shape", "frame 1 has 3 axes"),
        ([a_frame(shape=(0, 5))] * 4, "input.shape", "at least one pixel"),
        ([a_frame()] * 5, "input.shape", "light directions has shape (4, 3)"),
    ],
)
def test_bad_frames(frames: list[Any], code: str, message: str) -> None:
    with pytest.raises((InputError, CalibrationError)) as error:
        solve(frames, FOUR)
    assert error.value.code == code and message in error.value.message


@pytest.mark.parametrize(
    ("lights", "code", "message"),
    [
        (FOUR * [[1], [1], [0.9], [1]], "calibration.light_not_unit", "light 3"),
        (np.where(np.arange(4)[:, None] == 1, np.nan, FOUR), "calibration.light_not_unit", "light 2"),
        (FLAT, "calibration.lights_coplanar", "at least 1e-3"),
        (FOUR[[0, 0, 2, 2]], "calibration.lights_coplanar", "lie in one plane"),
    ],
)
def test_bad_lights(lights: NDArray[np.float64], code: str, message: str) -> None:
    with pytest.raises(CalibrationError) as error:
        solve([a_frame()] * 4, lights)
    assert error.value.code == code and message in error.value.message and error.value.hint


@pytest.mark.parametrize(
    ("corrections", "code", "message"),
    [
        (Corrections(dark=a_frame(shape=(4, 4))), "input.shape", "dark frame has shape (4, 4)"),
        (Corrections(dark=a_frame(np.float64)), "input.dtype", "dark frame has dtype float64"),
        (Corrections(dark=a_frame(), dark_scale=0.0), "calibration.dark_scale", "dark scale 0.0"),
        (Corrections(gains=np.ones((3, 4, 5), np.uint16)), "input.shape", "flat-field gains has shape (3, 4, 5)"),
        (Corrections(gains=np.ones((4, 4, 5), np.uint8)), "input.dtype", "flat-field gains has dtype uint8"),
        (Corrections(gain_scales=np.ones(3)), "input.shape", "gain scales has shape (3,)"),
        (Corrections(gain_scales=np.array([1, 1, 0, 1.0])), "calibration.gain", "gain scale 0.0 of zone 3"),
        (Corrections(gain_scales=np.array([1, 1, np.nan, 1])), "input.not_finite", "gain scales holds 1 NaN"),
    ],
)
def test_bad_corrections(corrections: Corrections, code: str, message: str) -> None:
    with pytest.raises((InputError, CalibrationError)) as error:
        solve([a_frame()] * 4, FOUR, corrections=corrections)
    assert error.value.code == code and message in error.value.message


@pytest.mark.parametrize("name", ["saturation", "shadow", "shadow_ratio", "disagreement", "signal"])
@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_thresholds_out_of_range(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"threshold {name} = {value}; allowed: 0 to 1") as error:
        Thresholds(**{name: value})
    assert error.value.code == "photometric.threshold"


@pytest.mark.parametrize("value", [0.9, np.nan])
def test_standing_apart_below_1(value: float) -> None:
    with pytest.raises(InputError, match="standing_apart"):
        Thresholds(standing_apart=value)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_bad_full_scale(value: float) -> None:
    with pytest.raises(InputError, match="full scale") as error:
        solve([a_frame()] * 4, FOUR, full_scale=value)
    assert error.value.code == "photometric.full_scale"


def test_bad_out() -> None:
    with pytest.raises(InputError, match=r"out\.planar has shape"):
        solve([a_frame()] * 4, FOUR, out=allocate(4, 6))


def test_bad_near_light() -> None:
    frames, xyz = [a_frame()] * 4, np.zeros((4, 5, 3), np.float32)
    with pytest.raises(CalibrationError, match=r"light source 1 is 0\.00 mm from the reference point") as error:
        solve_near(frames, SOURCES, xyz, reference_mm=SOURCES[0])
    assert error.value.code == "calibration.light_on_surface" and error.value.hint
    with pytest.raises(InputError, match="xyz has shape"):
        solve_near(frames, SOURCES, xyz[:3])
    with pytest.raises(InputError, match="positions_mm holds 1 NaN"):
        solve_near(frames, np.where(np.eye(4, 3) * [1, 0, 0] > 0, np.nan, SOURCES), xyz)
