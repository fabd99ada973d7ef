"""The GenICam driver, here and in its child process, on the emulated camera that ships with the genicam package."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rakelight.acquisition.camera_process import CameraProcess
from rakelight.acquisition.devices import CameraSettings
from rakelight.acquisition.drivers.genicam_binding import found_cameras
from rakelight.acquisition.drivers.genicam_camera import GenICamCamera
from rakelight.errors import ConfigError, DeviceError

genicam = pytest.importorskip("genicam")
VIKY = Path(genicam.__file__).parent / "viky.cti"
pytestmark = pytest.mark.skipif(not VIKY.is_file(), reason="this genicam package brings no emulated camera (viky.cti)")
LIVE = CameraSettings(1000.0, pixel_format="Mono8", trigger="free")


def make(where: str, serial_number: str | None = "1", producer: Path = VIKY) -> Any:
    if where == "here":
        return GenICamCamera(producer, serial_number)
    return CameraProcess("genicam", {"producer": str(producer), "serial_number": serial_number})


@pytest.fixture(params=["here", "child"])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def camera(where: str) -> Iterator[Any]:
    made = make(where)
    yield made
    made.close()


def test_lists_what_a_producer_sees() -> None:
    assert [c["serial_number"] for c in found_cameras(VIKY)] == ["0", "1", "2"]


def test_frames_come_in_order_and_own_their_memory(camera: Any) -> None:
    assert camera.info.serial_number == "1" and camera.info.triggers == ("free",)
    actual = camera.configure(LIVE)
    assert (actual.width, actual.height, actual.pixel_format) == (camera.info.width, camera.info.height, "Mono8")
    camera.arm(4)
    frames = [camera.next_frame(2.0) for _ in range(4)]
    counts = camera.disarm()
    assert [f.frame_id for f in frames] == [1, 2, 3, 4] and counts.delivered == 4 and counts.incomplete == 0
    assert all(f.image.shape == (actual.height, actual.width) and f.image.dtype == "uint8" for f in frames)
    assert all(a.received_ns < b.received_ns for a, b in itertools.pairwise(frames))
    frames[0].image[:] = 0  # writable, and nobody else's
    assert frames[1].image.any()


def test_colour_with_alpha_comes_as_rgb(camera: Any) -> None:
    assert (
        camera.configure(CameraSettings(1000.0, pixel_format="RGBa8", trigger="free", width=128, height=104)).width
        == 128
    )
    camera.arm(1)
    assert camera.next_frame(2.0).image.shape == (104, 128, 3)


def test_start_and_stop_again_and_again(camera: Any) -> None:
    camera.configure(LIVE)
    for _ in range(5):
        camera.arm(2)
        assert camera.next_frame(2.0).frame_id >= 1
        camera.disarm()
    assert camera.disarm().delivered >= 0, "disarming twice is no error"


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        (CameraSettings(1000.0, pixel_format="Mono12", trigger="free"), "camera.setting", "it knows RGBa8, Mono8"),
        (CameraSettings(1000.0, pixel_format="Mono8"), "camera.feature", "no software trigger; it has: free"),
        (CameraSettings(1000.0, pixel_format="Mono8", trigger="free", width=10**6), "camera.setting", "allowed: "),
        (CameraSettings(1000.0, 3.0, "Mono8", trigger="free"), "camera.feature", "no Gain; asked for 3 dB"),
    ],
)
def test_what_the_camera_cannot_do(camera: Any, settings: CameraSettings, code: str, told: str) -> None:
    with pytest.raises(DeviceError, match=told) as caught:
        camera.configure(settings)
    assert caught.value.code == code and caught.value.hint
    assert camera.configure(LIVE).pixel_format == "Mono8", "it goes on afterwards"


def test_wrong_order_of_calls(camera: Any) -> None:
    with pytest.raises(DeviceError) as caught:
        camera.next_frame(0.1)
    assert caught.value.code == "camera.state"
    camera.configure(LIVE)
    camera.arm(1)
    for call in (lambda: camera.arm(1), lambda: camera.configure(LIVE), camera.trigger):
        with pytest.raises(DeviceError) as caught:
            call()
        assert caught.value.code == "camera.state"


def test_a_frame_that_does_not_come_ends_at_the_deadline(camera: Any) -> None:
    camera.configure(LIVE)
    camera.arm(1)
    camera.next_frame(2.0)
    start = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        for _ in range(1000):  # 20 frames a second: a few milliseconds are too short for the next
            camera.next_frame(0.005)
    assert caught.value.code == "camera.timeout" and time.monotonic() - start < 1.0


def test_refusals(where: str, tmp_path: Path) -> None:
    text = tmp_path / "camera.cti"
    text.write_text("no library")
    for producer, serial, code, told in (
        (VIKY, None, "camera.ambiguous", "sees 3 cameras: Viky 0, Viky 1, Viky 2"),
        (VIKY, "77", "camera.not_found", "no camera 77; it sees Viky 0"),
        (text, None, "camera.producer", "is no GenTL producer"),
        (tmp_path / "absent.cti", None, "camera.producer", "does not exist"),
    ):
        with pytest.raises(DeviceError, match=told) as caught:
            make(where, serial, producer)
        assert caught.value.code == code and caught.value.hint


def test_unknown_driver_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'genicom' is not known; known: .*genicam") as caught:
        CameraProcess("genicom", {})
    assert "genicam" in caught.value.hint


def test_a_killed_child_is_noticed_and_replaced() -> None:
    camera = CameraProcess("genicam", {"producer": str(VIKY), "serial_number": "2"})
    try:
        camera.configure(LIVE)
        camera.arm(2)
        assert camera.pid is not None
        os.kill(camera.pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        with pytest.raises(DeviceError, match="process ended") as caught:
            camera.next_frame(1.0)
        assert caught.value.code == "camera.lost" and camera.pid is None
        with pytest.raises(DeviceError):
            camera.trigger()
        assert camera.reopen().serial_number == "2"
        camera.configure(LIVE)
        camera.arm(1)
        assert camera.next_frame(2.0).image.any()
    finally:
        camera.close()
        camera.close()
    assert camera.pid is None


@pytest.mark.skipif(os.name != "posix", reason="stops a process by a signal")
def test_a_hanging_child_is_ended_at_the_deadline() -> None:
    camera = CameraProcess("genicam", {"producer": str(VIKY), "serial_number": "2"})
    try:
        camera.configure(LIVE)
        camera.arm(1)
        assert camera.pid is not None
        os.kill(camera.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(DeviceError, match="did not answer") as caught:
            camera.next_frame(1.0)
        assert caught.value.code == "camera.lost" and time.monotonic() - start < 1.5 * 1.2 + 2.2
    finally:
        camera.close()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="looks into /dev/shm")
def test_nothing_is_left_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    camera = CameraProcess("genicam", {"producer": str(VIKY), "serial_number": "0"})
    camera.close()
    assert set(os.listdir("/dev/shm")) <= before
