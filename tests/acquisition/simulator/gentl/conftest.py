"""A scene for the simulated camera, and harvesters as its consumer: what all tests in this folder share."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import genicam.gentl
import pytest
from harvesters.core import Callback, Harvester

from rakelight.acquisition.simulator.gentl.build import cti_path

SERVER = Path(__file__).with_name("scene_server.py")
_spec = importlib.util.spec_from_file_location("scene_server", SERVER)
assert _spec is not None and _spec.loader is not None
server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(server)


class Scene:
    """The scene in the other process; its methods and what it has seen (asked, states, lines, serial, connected)."""

    def __init__(self, process: subprocess.Popen[str], **options: Any) -> None:
        self._process = process
        self.address = self._order("open", **options)

    def _order(self, method: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __getattr__(self, name: str) -> Any:
        if name in ("fault", "slow", "cut", "trigger", "hang_up", "close"):
            return lambda **arguments: self._order(name, **arguments)
        seen = self._order("report")[name]
        return [SimpleNamespace(**ask) for ask in seen] if name == "asked" else seen


@pytest.fixture(scope="session")
def scene_process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SERVER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene_process: subprocess.Popen[str]
) -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(**options: Any) -> Scene:
        made.append(Scene(scene_process, folder=str(tmp_path), **options))
        monkeypatch.setenv("RAKELIGHT_SCENE", made[-1].address)
        monkeypatch.setenv("RAKELIGHT_READOUT_US", "100")
        return made[-1]

    yield make
    for scene in made:
        scene.close()


class Bad(Callback):
    """Notes each incomplete buffer."""

    def __init__(self, notes: list[int]) -> None:
        self.notes = notes

    def emit(self, context: Any = None) -> None:
        self.notes.append(1)


@pytest.fixture
def plug() -> Iterator[Callable[[], Any]]:
    """Opens the camera, again and again if it was destroyed; called after the scene is up."""
    before = signal.getsignal(signal.SIGINT)
    harvester = Harvester()

    def open_camera() -> Any:
        if not harvester.files:
            harvester.add_file(str(cti_path()), check_existence=True, check_validity=True)
            harvester.update()
        camera = harvester.create(0)
        camera.bad = []
        camera.add_callback(camera.Events.INCOMPLETE_BUFFER, Bad(camera.bad))
        return camera

    yield open_camera
    for camera in list(harvester.image_acquirers):
        with contextlib.suppress(genicam.gentl.GenericException):  # an unplugged camera
            camera.stop()
    harvester.reset()
    signal.signal(signal.SIGINT, before)


def arm(camera: Any, *, exposure_us: float = 100.0, source: str = "Software", **settings: Any) -> Any:
    nodes = camera.remote_device.node_map
    for name, value in {"TriggerMode": "On", "TriggerSource": source, "ExposureTime": exposure_us, **settings}.items():
        getattr(nodes, name).value = value
    camera.start()
    return nodes


def raw_frame(camera: Any, timeout: float = 2.0) -> SimpleNamespace:
    raw = camera.fetch(timeout=timeout, is_raw=True)
    kept = SimpleNamespace(
        data=memoryview(raw.raw_buffer)[: raw.size_filled].tobytes(), id=raw.frame_id, timestamp_ns=raw.timestamp_ns,
        received_ns=time.monotonic_ns(), width=raw.width, height=raw.height, x=raw.offset_x, y=raw.offset_y,
    )  # fmt: skip
    raw.parent.queue_buffer(raw)
    return kept


def snap(camera: Any) -> SimpleNamespace:
    camera.remote_device.node_map.TriggerSoftware.execute()
    return raw_frame(camera)


def counters(nodes: Any) -> tuple[int, int]:
    counts = []
    for name in ("Counter0", "Counter1"):
        nodes.CounterSelector.value = name
        counts.append(nodes.CounterValue.value)
    return counts[0], counts[1]


def wait_for(condition: Callable[[], bool], limit_s: float = 2.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


@pytest.fixture
def wire() -> SimpleNamespace:
    """The functions above, for the tests."""
    return SimpleNamespace(
        values=server.values, encoded=server.encoded, arm=arm, snap=snap, raw_frame=raw_frame, counters=counters, wait_for=wait_for,
        bits=server.BITS, width=server.WIDTH, height=server.HEIGHT,
        drop=server.DROP, incomplete=server.INCOMPLETE, duplicate=server.DUPLICATE, unplug=server.UNPLUG,
    )  # fmt: skip
