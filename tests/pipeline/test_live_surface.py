"""Surfaces measured while a capture runs, and what becomes of them when it does not run to its end."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError, DatasetError
from rakelight.pipeline import simulate as simulated
from rakelight.pipeline.live_surface import LiveSurface
from rakelight.pipeline.surface import SurfaceBuilder, measure_surface

Taken = list[tuple[Any, Any]]  # planned shot and camera frame, as a capture hands them on


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, RigCalibration, Taken]:
    folder = tmp_path_factory.mktemp("live") / "r"
    simulated.simulate("connector_housing", folder, seed=1, settings=simulated.Settings(width=456, samples=1))
    recording = Recording.open(folder)
    shots = {shot.name: SimpleNamespace(shot=shot) for shot in recording.info.plan}
    taken = [(shots[f.shot], SimpleNamespace(image=recording.read(f))) for f in recording.info.frames]
    return recording, RigCalibration.load(folder / "truth" / "calibration"), taken


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "surface"]


def watch(live: LiveSurface, recording: Recording) -> Any:
    return live.watch(recording.info, recording.info.width, recording.info.height)


def test_as_from_the_recording(part: tuple[Recording, RigCalibration, Taken]) -> None:
    """Frames all at once, as from bursts; light frames among them; twice with one object."""
    recording, calibration, taken = part
    expected = measure_surface(recording, calibration)
    live = LiveSurface(calibration)
    for _ in range(2):
        sink = watch(live, recording)
        for shot, frame in taken:
            sink(shot, frame)
        surface = live.finish()
        assert surface is not None
        np.testing.assert_array_equal(surface.merged.z_mm, expected.merged.z_mm)
        assert surface.report["warnings"] == expected.report["warnings"] == []
        assert not threads()
    live.close()


def test_colour_frames(part: tuple[Recording, RigCalibration, Taken]) -> None:
    recording, calibration, taken = part
    live = LiveSurface(calibration)
    description = recording.info.model_copy(update={"pixel_format": "RGB12"})
    sink = live.watch(description, recording.info.width, recording.info.height)
    for shot, frame in taken:
        sink(shot, SimpleNamespace(image=np.repeat(frame.image[..., None], 3, axis=2)))
    surface = live.finish()
    assert surface is not None and surface.report["coverage"] > 0.7


def test_capture_that_ends_in_the_middle(part: tuple[Recording, RigCalibration, Taken]) -> None:
    recording, calibration, taken = part
    live = LiveSurface(calibration)
    sink = watch(live, recording)
    for shot, frame in taken[:30]:
        sink(shot, frame)
    start = time.monotonic()
    live.close()
    live.close()
    assert time.monotonic() - start < 10 and not threads()
    assert live.finish() is None
    sink = watch(live, recording)  # the same part once more, from the beginning
    for shot, frame in taken:
        sink(shot, frame)
    assert live.finish() is not None


def test_close_does_not_decode_what_waits(
    part: tuple[Recording, RigCalibration, Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, calibration, taken = part
    entered, go, added = threading.Event(), threading.Event(), []

    def slow(self: SurfaceBuilder, shot: str, image: Any) -> None:
        added.append(shot)
        entered.set()
        go.wait(10)

    monkeypatch.setattr(SurfaceBuilder, "add", slow)
    live = LiveSurface(calibration)
    sink = watch(live, recording)
    patterns = [(shot, frame) for shot, frame in taken if shot.shot.role == "pattern"]
    for shot, frame in patterns[:6]:
        sink(shot, frame)
    assert entered.wait(10)
    threading.Timer(0.2, go.set).start()
    live.close()
    assert added == ["p1_01"] and not threads()


def test_failed_decoding_holds_up_nobody(
    part: tuple[Recording, RigCalibration, Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, calibration, taken = part

    def broken(self: SurfaceBuilder, shot: str, image: Any) -> None:
        raise DatasetError("broken", hint="", code="surface.test")

    monkeypatch.setattr(SurfaceBuilder, "add", broken)
    live = LiveSurface(calibration)
    sink = watch(live, recording)
    for shot, frame in taken:  # many more than the queue holds
        sink(shot, frame)
    with pytest.raises(DatasetError, match="broken"):
        live.finish()
    assert not threads()


def test_what_is_not_calibrated_is_passed_over_or_told_at_once(
    part: tuple[Recording, RigCalibration, Taken], tmp_path: Path
) -> None:
    from dataclasses import replace

    recording, calibration, taken = part
    live = LiveSurface(replace(calibration, projectors=()))
    sink = watch(live, recording)
    for shot, frame in taken:
        sink(shot, frame)
    assert live.finish() is None and not threads()
    with pytest.raises(CalibrationError, match="do not lie in the calibrated camera") as caught:
        LiveSurface(calibration).watch(recording.info, 2000, 1000)
    assert caught.value.code == "calibration.size_mismatch" and not threads()
