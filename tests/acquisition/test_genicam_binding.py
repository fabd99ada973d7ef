"""What cameras differ in: clocks in ns or ticks, chunks or none, settings that a viewer left behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("genicam")
from genicam import gentl

from rakelight.acquisition.devices import CameraSettings
from rakelight.acquisition.drivers import genicam_camera
from rakelight.acquisition.drivers.genicam_binding import timestamp_ns
from rakelight.acquisition.simulator.gentl.build import cti_path


class _Buffer:
    """A raw buffer whose facts may be ``NotAvailable``."""

    def __init__(self, **facts: Any) -> None:
        self._facts = facts

    def __getattr__(self, name: str) -> Any:
        if name not in self._facts:
            raise gentl.NotAvailableException("not there")
        return self._facts[name]


def _of(frequency: int) -> Any:
    return SimpleNamespace(parent=SimpleNamespace(timestamp_frequency=frequency))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"timestamp_ns": 123}, 123),
        ({"timestamp": 125_000_000, "parent": _of(125_000_000)}, 1_000_000_000),  # GigE Vision 1: ticks of 8 ns
        ({"timestamp": 125_000_000}, None),  # ticks of nobody knows what are no clock
        ({}, None),
    ],
)
def test_clocks_are_told_in_ns_or_not_at_all(facts: dict[str, Any], expected: int | None) -> None:
    assert timestamp_ns(_Buffer(**facts)) == expected


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The simulated camera with its test picture, as one without chunks."""
    monkeypatch.setattr(genicam_camera, "enable_chunks", lambda nodes: frozenset())
    monkeypatch.delenv("RAKELIGHT_SCENE", raising=False)
    opened = genicam_camera.GenICamCamera(cti_path())
    yield opened
    opened.close()


def test_without_chunks_a_frame_tells_the_exposure_that_was_set_last(camera: Any) -> None:
    camera.configure(CameraSettings(1000.0, pixel_format=camera.info.pixel_formats[0]))
    camera.arm(2)
    camera.trigger()
    assert camera.next_frame(2.0).exposure_us == 1000
    assert camera.set_exposure(4000.0) == 4000
    camera.trigger()
    assert camera.next_frame(2.0).exposure_us == 4000


def test_one_frame_a_start_is_not_kept_from_a_viewer(camera: Any) -> None:
    camera._nodes.AcquisitionMode.value = "SingleFrame"
    camera.configure(CameraSettings(1000.0, pixel_format=camera.info.pixel_formats[0]))
    camera.arm(2)
    for _ in range(2):
        camera.trigger()
        assert camera.next_frame(2.0).image.any()
