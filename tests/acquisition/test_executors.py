"""The executors against devices made of a few lines: what no counter of a device tells must still not pass."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rakelight.acquisition.burst import capture_burst
from rakelight.acquisition.devices import (
    CameraFrame,
    CameraInfo,
    CameraSettings,
    ProjectorStatus,
    StreamCounts,
)
from rakelight.acquisition.recipe import PatternRecipe, PlannedShot, Recipe, make_plan
from rakelight.acquisition.stepped import Devices, capture_stepped
from rakelight.errors import DeviceError

SETTINGS = CameraSettings(1000.0, pixel_format="Mono8")
INFO = CameraInfo("", "fake", "", 4, 2, ("Mono8",), (10, 1e7), None, ("software", "line"), 100.0)


@dataclass
class FakeCamera:
    """Frames that hold what its projector shows; ``edges`` are the pictures that a run will trigger."""

    projector: FakeProjector
    waiting: list[int] = field(default_factory=list)
    info: CameraInfo = INFO
    given: int = 0

    def configure(self, settings: CameraSettings) -> CameraSettings:
        return CameraSettings(settings.exposure_us, width=4, height=2, pixel_format="Mono8", max_frame_rate_hz=100.0)

    def set_exposure(self, exposure_us: float) -> float:
        return exposure_us

    def arm(self, frames: int) -> None:
        self.waiting.clear()

    def trigger(self) -> None:
        self.waiting.append(self.projector.exposed())

    def next_frame(self, deadline_s: float) -> CameraFrame:
        if not self.waiting:
            raise DeviceError(f"no frame within {deadline_s}", code="camera.timeout")
        self.given += 1
        return CameraFrame(np.full((2, 4), self.waiting.pop(0), np.uint8), self.given, None, time.perf_counter_ns())

    def disarm(self) -> StreamCounts:
        return StreamCounts(0, 0, 0)

    def close(self) -> None: ...


@dataclass
class FakeProjector:
    """Shows index + 1, 0 is dark. ``noise``: runs whose trigger wire has one edge more after the second pattern.
    ``sleeps``: which exposures it goes dark in by itself."""

    noise: int = 0
    sleeps: set[int] = field(default_factory=set)
    camera: FakeCamera | None = None
    patterns: int = 0
    shown: tuple[int, int] | None = None
    displayed: int = 0
    exposures: int = 0
    directions: tuple[int, ...] = (1,)
    identity: str = "fake"
    minimum_exposure_us: float = 500.0

    def exposed(self) -> int:
        self.exposures += 1
        if self.exposures in self.sleeps:
            self.shown = None
        return self.shown[1] + 1 if self.shown else 0

    def load(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        self.patterns, self.displayed = len(patterns), 0

    def show(self, direction: int, index: int) -> None:
        self.shown = direction, index

    def arm(self, direction: int, exposure_us: float, period_us: float) -> None: ...

    def start(self) -> None:
        assert self.camera is not None
        seen = list(range(1, self.patterns + 1))
        if self.noise:
            self.noise -= 1
            seen.insert(2, 0)  # the camera exposes the dark between two patterns, and all that follows is one too late
        self.camera.waiting += seen
        self.displayed = self.patterns

    def status(self) -> ProjectorStatus:
        mode = "showing" if self.shown else "dark"
        return ProjectorStatus(mode, 1, self.shown[1] if self.shown else None, self.displayed)  # type: ignore[arg-type]

    def dark(self) -> None:
        self.shown = None

    def close(self) -> None: ...


def rig(**projector: Any) -> tuple[Devices, FakeProjector]:
    shows = FakeProjector(**projector)
    camera = shows.camera = FakeCamera(shows)
    return Devices(camera, None, shows), shows


def plan_of(exposure_us: float) -> Any:
    recipe = Recipe(
        product="x", exposure_us=1000, ambient=False, patterns=PatternRecipe(steps=3, exposure_us=exposure_us)
    )
    return make_plan(recipe, (), (1,))


def taken(shots: Collection[tuple[PlannedShot, CameraFrame]]) -> list[tuple[int | None, int]]:
    return [(shot.index, int(frame.image[0, 0]) - 1) for shot, frame in shots]


@pytest.mark.parametrize("noise", [0, 1])
def test_one_edge_too_many_shifts_no_label(noise: int) -> None:
    """Frames, ids, and the projector's count are as they should be: only the frame that is left over tells."""
    devices, _ = rig(noise=noise)
    plan = plan_of(1000)
    shots: list[tuple[PlannedShot, CameraFrame]] = []
    log = capture_burst(devices, plan, SETTINGS, lambda shot, frame: shots.append((shot, frame)))
    assert [a.code for a in log.attempts] == ["frame.over_trigger"] * noise
    assert taken(shots) == [(k, k) for k in range(len(plan.sequence))]


def test_a_wire_that_stays_noisy_is_named() -> None:
    devices, _ = rig(noise=9)
    with pytest.raises(DeviceError, match="more frames than the projector has patterns") as caught:
        capture_burst(devices, plan_of(1000), SETTINGS, lambda shot, frame: None, retries=1)
    assert caught.value.code == "frame.over_trigger"


def test_a_projector_that_went_dark_in_a_long_exposure_is_asked_again() -> None:
    devices, _ = rig(sleeps={2, 4})
    plan = plan_of(500_000)
    shots: list[tuple[PlannedShot, CameraFrame]] = []
    log = capture_stepped(devices, plan, SETTINGS, lambda shot, frame: shots.append((shot, frame)))
    assert [(a.shot, a.code) for a in log.attempts] == [("p1_02", "projector.fault"), ("p1_03", "projector.fault")]
    assert taken(shots) == [(k, k) for k in range(len(plan.sequence))]
