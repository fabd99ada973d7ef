"""Frames that must not be used are recognised by ids, clocks and counters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rakelight.acquisition.devices import CameraFrame
from rakelight.acquisition.integrity import FrameChecker, id_step
from rakelight.errors import DeviceError

MS = 1_000_000
SKEW = 7_000_000_000  # the device's clock against the host's


def frame(
    number: int, at_ms: float, *, triggers: int | None = None, late_ms: float = 5, stamp: bool = True
) -> CameraFrame:
    start = int(at_ms * MS)
    counters = {} if triggers is None else {"triggers": triggers}
    return CameraFrame(
        np.zeros((1, 1), np.uint8),
        number,
        start + SKEW if stamp else None,
        start + int(late_ms * MS),
        counters=counters,
    )


def refused(checker: FrameChecker, bad: CameraFrame, asked_ms: float) -> str:
    with pytest.raises(DeviceError) as caught:
        checker.check(bad, int(asked_ms * MS))
    assert caught.value.hint
    return caught.value.code


def test_a_good_run_passes_with_and_without_clock_and_counters() -> None:
    for stamp, counting in ((True, True), (False, False), (True, False)):
        checker = FrameChecker()
        for k in range(1, 50):
            late = 5 + (k * 37 % 11) / 10
            checker.check(
                frame(k, 100 * k, triggers=k if counting else None, stamp=stamp, late_ms=late), int((100 * k - 1) * MS)
            )


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [(1, 2, 1), (65535, 1, 1), (65534, 1, 2), (5, 5, 0), (70_000, 70_001, 1), (2**64 - 1, 0, 1), (3, 9, 6)],
)
def test_ids_wrap_at_16_and_64_bits(before: int, after: int, step: int) -> None:
    assert id_step(before, after) == step


def test_each_trouble_has_its_name() -> None:
    checker = FrameChecker()
    checker.check(frame(1, 100, triggers=1), 99 * MS)
    assert refused(checker, frame(3, 200, triggers=2), 199) == "frame.lost"
    checker = FrameChecker()
    checker.check(frame(1, 100), 99 * MS)
    assert refused(checker, frame(1, 100), 199) == "frame.duplicate"
    checker = FrameChecker()
    checker.check(frame(1, 100), 99 * MS)
    assert refused(checker, frame(2, 90), 80) == "frame.order"
    checker = FrameChecker()
    checker.check(frame(1, 100), 99 * MS)
    assert refused(checker, frame(2, 150), 199) == "frame.stale", "exposed 49 ms before it was asked for"
    checker = FrameChecker()
    checker.check(frame(1, 100, triggers=1), 99 * MS)
    assert refused(checker, frame(2, 200, triggers=4), 199) == "frame.over_trigger"


def test_clocks_that_drift_apart_make_no_frame_stale() -> None:
    """Ten minutes of shots with a device whose crystal is slow by 100 ppm; a truly old frame is found all the same."""
    checker = FrameChecker()
    at_ms = 0.0
    for k in range(1, 1201):
        at_ms = 500.0 * k
        slow = frame(k, at_ms, late_ms=5)
        assert slow.timestamp_ns is not None
        checker.check(replace(slow, timestamp_ns=slow.timestamp_ns - int(at_ms * MS * 1e-4)), int((at_ms - 1) * MS))
    assert refused(checker, frame(1201, at_ms + 10, late_ms=495), at_ms + 400) == "frame.stale"
