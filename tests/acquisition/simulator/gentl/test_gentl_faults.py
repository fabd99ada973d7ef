"""What goes wrong on purpose: missed triggers, every fault of the scene link, a dead scene; and nothing that leaks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import genicam.genapi
import genicam.gentl
import numpy as np
import pytest

from rakelight.acquisition.simulator.gentl.build import cti_path

linux = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads and files in /proc")


class TestTriggers:
    def test_missed_while_exposing_and_counted(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()
        nodes = wire.arm(camera, exposure_us=50_000.0)
        for _ in range(3):
            nodes.TriggerSoftware.execute()
        assert wire.raw_frame(camera).id == 1
        assert wire.counters(nodes) == (3, 1)
        assert wire.snap(camera).id == 2  # ids do not tell
        assert wire.counters(nodes) == (4, 2)
        nodes.CounterReset.execute()
        assert wire.counters(nodes) == (0, 0)

    def test_missed_while_read_out(self, scenes: Any, plug: Any, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        scenes()
        monkeypatch.setenv("RAKELIGHT_READOUT_US", "50000")
        camera = plug()
        nodes = wire.arm(camera, exposure_us=100.0)
        nodes.TriggerSoftware.execute()
        time.sleep(0.01)
        nodes.TriggerSoftware.execute()
        wire.raw_frame(camera)
        assert wire.counters(nodes) == (2, 1)

    def test_line_edges(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        camera = plug()
        nodes = wire.arm(camera, source="Line0", exposure_us=1000.0)
        edges = []
        for _ in range(4):
            edges.append(time.monotonic_ns())
            scene.trigger(edge_ns=edges[-1])
            time.sleep(0.005)
        frames = [wire.raw_frame(camera) for _ in range(4)]
        assert [frame.timestamp_ns for frame in frames] == edges
        assert [ask.source for ask in scene.asked] == [2] * 4
        nodes.TriggerSoftware.execute()  # not the source that was chosen
        assert wire.counters(nodes) == (4, 4)

    def test_edges_are_judged_by_their_own_time(self, scenes: Any, plug: Any, wire: Any) -> None:
        """A slow scene does not lengthen the readout; an edge inside an exposure is missed however late it is told."""
        scene = scenes()
        scene.slow(delay_s=0.05)
        camera = plug()
        nodes = wire.arm(camera, source="Line0", exposure_us=1000.0)
        time.sleep(0.03)
        start = time.monotonic_ns() - 20_000_000
        for offset_us in (0, 500, 5000, 10_000, 10_050):
            scene.trigger(edge_ns=start + offset_us * 1000)
        frames = [wire.raw_frame(camera) for _ in range(3)]
        assert [(frame.timestamp_ns - start) // 1000 for frame in frames] == [0, 5000, 10_000]
        assert wire.counters(nodes) == (5, 3)

    def test_edges_before_the_start_do_not_count(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        camera = plug()
        early = time.monotonic_ns()
        nodes = wire.arm(camera, source="Line0")
        scene.trigger(edge_ns=early)
        scene.trigger()
        assert wire.raw_frame(camera).timestamp_ns > early
        assert wire.counters(nodes) == (1, 1)


class TestChunks:
    NAMES = ("Timestamp", "FrameID", "ExposureTime", "Gain", "CounterValue")

    def switch_on(self, camera: Any, names: tuple[str, ...]) -> None:
        nodes = camera.remote_device.node_map
        nodes.ChunkModeActive.value = True
        for name in names:
            nodes.ChunkSelector.value = name
            nodes.ChunkEnable.value = True

    @pytest.mark.parametrize("pixel_format", ["Mono8", "Mono10p"])
    def test_describe_their_frame(self, scenes: Any, plug: Any, wire: Any, pixel_format: str) -> None:
        scene = scenes()
        camera = plug()
        self.switch_on(camera, self.NAMES)
        nodes = wire.arm(camera, exposure_us=20_000.0, Gain=3.5, PixelFormat=pixel_format, Width=20, Height=6)
        for frame_id in (1, 2):
            nodes.TriggerSoftware.execute()
            nodes.TriggerSoftware.execute()  # missed, but before the next frame
            with camera.fetch(timeout=2) as buffer:
                assert nodes.ChunkFrameID.value == frame_id == buffer.module.frame_id
                assert nodes.ChunkTimestamp.value == scene.asked[-1].start_ns == buffer.module.timestamp_ns
                assert (nodes.ChunkExposureTime.value, nodes.ChunkGain.value) == (20_000.0, 3.5)
                counts = []
                for name in ("Counter0", "Counter1"):
                    nodes.ChunkCounterSelector.value = name
                    counts.append(nodes.ChunkCounterValue.value)
                assert counts == [2 * frame_id - 1, frame_id]
                shown = buffer.payload.components[0]
                expected = wire.values(pixel_format, 20, 6, 0, 0, frame_id)
                np.testing.assert_array_equal(shown.data[: 20 * 6].reshape(6, 20), expected)

    def test_only_those_enabled(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()
        plain = camera.remote_device.node_map.PayloadSize.value
        self.switch_on(camera, ("FrameID",))
        nodes = wire.arm(camera)
        assert nodes.PayloadSize.value == plain + 8
        nodes.TriggerSoftware.execute()
        with camera.fetch(timeout=2):
            assert nodes.ChunkFrameID.value == 1
            with pytest.raises(genicam.genapi.GenericException):
                _ = nodes.ChunkGain.value


class TestFaults:
    def test_drop_uses_up_the_id(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes().fault(frame_id=2, what=wire.drop, size=0)
        camera = plug()
        nodes = wire.arm(camera)
        assert wire.snap(camera).id == 1
        nodes.TriggerSoftware.execute()
        with pytest.raises(genicam.gentl.TimeoutException):
            wire.raw_frame(camera, 0.05)
        assert wire.snap(camera).id == 3
        assert wire.counters(nodes) == (3, 3)

    def test_incomplete(self, scenes: Any, plug: Any, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        scenes().fault(frame_id=1, what=wire.incomplete, size=1000)
        camera = plug()
        nodes = wire.arm(camera)
        filled: list[tuple[int, bool]] = []
        queue = genicam.gentl.DataStream.queue_buffer

        def spy(stream: Any, buffer: Any) -> Any:  # harvesters puts an incomplete buffer back without a word
            filled.append((buffer.size_filled, buffer.is_complete()))
            return queue(stream, buffer)

        monkeypatch.setattr(genicam.gentl.DataStream, "queue_buffer", spy)
        nodes.TriggerSoftware.execute()
        assert camera.try_fetch(timeout=0.2) is None
        assert (camera.bad, filled) == ([1], [(1000, False)])
        assert wire.snap(camera).id == 2
        assert camera.data_streams[0].num_delivered == 2

    def test_duplicate(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes().fault(frame_id=2, what=wire.duplicate, size=0)
        camera = plug()
        wire.arm(camera)
        first, again, third = (wire.snap(camera) for _ in range(3))
        assert (again.id, again.timestamp_ns, again.data) == (1, first.timestamp_ns, first.data)
        assert third.id == 3

    def test_unplug(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes().fault(frame_id=2, what=wire.unplug, size=0)
        camera = plug()
        nodes = wire.arm(camera)
        wire.snap(camera)
        nodes.TriggerSoftware.execute()
        for call in (lambda: wire.raw_frame(camera), lambda: nodes.Width.value, nodes.TriggerSoftware.execute):
            with pytest.raises(genicam.gentl.IoException):
                call()

    def test_scene_gone(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        camera = plug()
        nodes = wire.arm(camera)
        wire.snap(camera)
        scene.close()
        began = time.monotonic()
        with pytest.raises(genicam.gentl.IoException):
            wire.raw_frame(camera)
        with pytest.raises(genicam.gentl.IoException):
            _ = nodes.ExposureTime.value
        assert time.monotonic() - began < 0.5
        with pytest.raises(genicam.gentl.IoException):
            camera.stop()
        camera.destroy()
        with pytest.raises(genicam.gentl.IoException):  # rather than a test picture from nowhere
            plug()

    def test_unplugged_camera_can_be_plugged_in_again(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        camera = plug()
        scene.hang_up()
        wire.wait_for(lambda: not scene.connected)
        camera.destroy()
        camera = plug()
        wire.arm(camera)
        assert wire.snap(camera).id == 1

    def test_underrun(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        camera = plug()
        camera.num_buffers = 2
        nodes = wire.arm(camera)
        for asked in range(1, 5):
            nodes.TriggerSoftware.execute()
            wire.wait_for(lambda n=asked: len(scene.asked) == n)
            time.sleep(0.01)
        stream = camera.data_streams[0]
        assert (stream.num_underrun, stream.num_awaiting_delivery, stream.num_started) == (2, 2, 2)
        assert [wire.raw_frame(camera).id for _ in range(2)] == [1, 2]
        assert wire.snap(camera).id == 5

    def test_ids_of_16_bits(self, scenes: Any, plug: Any, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        scenes()
        monkeypatch.setenv("RAKELIGHT_ID_BITS", "16")
        monkeypatch.setenv("RAKELIGHT_FIRST_ID", "65534")
        camera = plug()
        wire.arm(camera)
        assert [wire.snap(camera).id for _ in range(4)] == [65534, 65535, 1, 2]

    def test_wrong_length_is_incomplete(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes(shared=False)
        camera = plug()
        scene.cut(short_by=1)
        nodes = wire.arm(camera)
        nodes.TriggerSoftware.execute()
        assert camera.try_fetch(timeout=0.2) is None
        assert camera.bad == [1]


class TestLifetime:
    @linux
    def test_start_and_stop_leave_nothing_behind(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()

        def held() -> tuple[int, int]:
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

        before = held()
        for _ in range(20):
            wire.arm(camera)
            assert wire.snap(camera).id == 1
            began = time.monotonic()
            camera.stop()
            assert time.monotonic() - began < 0.5
        assert held() == before

    @linux
    def test_open_and_close_leave_nothing_behind(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        counts = []
        for _ in range(4):
            camera = plug()
            wire.arm(camera)
            wire.snap(camera)
            camera.destroy()
            wire.wait_for(lambda: not scene.connected)
            counts.append((len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))))
        assert counts[1:] == counts[:1] * 3

    def test_one_scene_serves_one_process(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()
        code = (
            "import sys, genicam.gentl\nfrom harvesters.core import Harvester\nh = Harvester()\nh.add_file(sys.argv[1])\n"
            "h.update()\ntry:\n    h.create(0)\nexcept genicam.gentl.ResourceInUseException:\n    print('in use')\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(cti_path())], capture_output=True, text=True, timeout=30)
        assert "in use" in done.stdout
        wire.arm(camera)
        assert wire.snap(camera).id == 1

    def test_a_process_without_the_scene_has_a_camera_of_its_own(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()
        code = (
            "import sys\nfrom harvesters.core import Harvester\nh = Harvester()\nh.add_file(sys.argv[1])\nh.update()\n"
            "c = h.create(0)\nc.start()\nwith c.fetch(timeout=3) as b:\n    print('id', b.module.frame_id)\n"
            "c.stop()\nc.destroy()\nh.reset()\n"
        )
        environment = {name: value for name, value in os.environ.items() if name != "RAKELIGHT_SCENE"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(cti_path())], capture_output=True, text=True, timeout=30, env=environment
        )
        assert "id 1" in done.stdout
        wire.arm(camera)
        assert wire.snap(camera).id == 1
