"""The camera's child process and what a producer offers; what a camera must do is in ``tests/contract/test_camera_contract.py``.

On the emulated camera that ships with the genicam package.
"""

from __future__ import annotations

import os
import signal
import time
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


def test_lists_what_a_producer_sees() -> None:
    assert [c["serial_number"] for c in found_cameras(VIKY)] == ["0", "1", "2"]


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
        with pytest.raises(DeviceError, match=r"did not answer 'next_frame' within 2\.2 s") as caught:
            camera.next_frame(2.0)
        assert caught.value.code == "camera.lost" and 2.0 <= time.monotonic() - start <= 1.2 * 2.0
    finally:
        camera.close()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="looks into /dev/shm")
def test_nothing_is_left_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    camera = CameraProcess("genicam", {"producer": str(VIKY), "serial_number": "0"})
    camera.close()
    assert set(os.listdir("/dev/shm")) <= before
