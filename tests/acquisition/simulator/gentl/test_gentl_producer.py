"""The simulated camera over the real wire: harvesters, the compiled producer, and a scene on the scene link."""

from __future__ import annotations

import ctypes
import re
import time
from pathlib import Path
from typing import Any

import genicam.genapi
import genicam.gentl
import numpy as np
import pytest

from rakelight.acquisition.simulator.gentl import sfnc
from rakelight.acquisition.simulator.gentl.build import cti_path

FUNCTIONS = """
DSAllocAndAnnounceBuffer DSAnnounceBuffer DSAnnounceCompositeBuffer DSClose DSFlushQueue DSGetBufferChunkData
DSGetBufferID DSGetBufferInfo DSGetBufferInfoStacked DSGetBufferPartInfo DSGetBufferPartInfoStacked
DSGetBufferSegmentInfo DSGetFlowInfo DSGetInfo DSGetNumBufferParts DSGetNumBufferSegments DSGetNumFlows DSGetParentDev
DSQueueBuffer DSRevokeBuffer DSStartAcquisition DSStopAcquisition DevClose DevGetDataStreamID DevGetInfo
DevGetNumDataStreams DevGetParentIF DevGetPort DevOpenDataStream EventFlush EventGetData EventGetDataInfo EventGetInfo
EventKill GCCloseLib GCGetInfo GCGetLastError GCGetNumPortURLs GCGetPortInfo GCGetPortURL GCGetPortURLInfo GCInitLib
GCReadPort GCReadPortStacked GCRegisterEvent GCUnregisterEvent GCWritePort GCWritePortStacked IFClose IFGetDeviceID
IFGetDeviceInfo IFGetInfo IFGetNumDevices IFGetParentTL IFOpenDevice IFUpdateDeviceList TLClose TLGetInfo
TLGetInterfaceID TLGetInterfaceInfo TLGetNumInterfaces TLOpen TLOpenInterface TLUpdateInterfaceList
"""
"""What GenTL 1.6 has: a consumer that calls one that is missing jumps to address 0."""


class TestInterface:
    def test_every_function_is_exported(self) -> None:
        library = ctypes.CDLL(str(cti_path()))
        assert [name for name in FUNCTIONS.split() if not hasattr(library, name)] == []

    def test_numbers_are_those_of_the_consumer(self) -> None:
        text = (Path(sfnc.__file__).parent / "gentl.h").read_text()
        theirs = {
            name: int(value)
            for thing in vars(genicam.gentl).values()
            if hasattr(thing, "__members__")
            for name, value in thing.__members__.items()
        }
        ours: dict[str, int] = {}
        for block in re.findall(r"enum \{(.*?)\}", re.sub(r"/\*.*?\*/", "", text, flags=re.S), re.S):
            number = -1
            for item in filter(None, (part.strip() for part in block.split(","))):
                name, _, value = item.partition("=")
                number = int(value) if value else number + 1
                ours[name.strip()] = number
        assert len(ours) > 120
        assert {name: theirs.get(name) for name in ours} == ours


class TestNodeMap:
    def test_identity(self, plug: Any, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAKELIGHT_SERIAL", "BENCH-7")
        nodes = plug().remote_device.node_map
        assert nodes.DeviceSerialNumber.value == "BENCH-7"
        assert nodes.DeviceModelName.value == "rakelight simulated camera"
        assert nodes.DeviceVendorName.value == "rakelight"
        assert 29 < nodes.DeviceTemperature.value < 39

    def test_formats_follow_the_sensor(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes(colour=1)
        nodes = plug().remote_device.node_map
        assert set(nodes.PixelFormat.symbolics) == {
            n for n, (_, s) in sfnc.PIXEL_FORMATS.items() if s == "ColourSensor"
        }
        assert (nodes.SensorWidth.value, nodes.SensorHeight.value) == (wire.width, wire.height)
        with pytest.raises(genicam.genapi.GenericException):
            nodes.PixelFormat.value = "Mono8"
        assert scene.serial == "SIM-0001"

    def test_exposure_is_quantised_and_bounded(self, plug: Any, wire: Any) -> None:
        nodes = plug().remote_device.node_map
        nodes.ExposureTime.value = 1234.56
        assert nodes.ExposureTime.value == 1235.0
        for bad in (19.0, 1e7 + 1):
            with pytest.raises(genicam.genapi.OutOfRangeException):
                nodes.ExposureTime.value = bad
        with pytest.raises(genicam.genapi.OutOfRangeException):
            nodes.Gain.value = 24.5
        assert nodes.ExposureTime.value == 1235.0

    def test_resulting_rate_is_exposure_and_readout(
        self, plug: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RAKELIGHT_READOUT_US", raising=False)
        nodes = plug().remote_device.node_map
        nodes.ExposureTime.value = 5000.0
        readout_us = 1368 * 912 / 400
        assert nodes.SensorReadoutTime.value == pytest.approx(readout_us, abs=0.01)
        assert nodes.ResultingFrameRate.value == pytest.approx(1e6 / (5000 + readout_us), rel=1e-6)
        nodes.DeviceLinkThroughputLimitMode.value = "On"
        nodes.DeviceLinkThroughputLimit.value = 100_000_000
        assert nodes.ResultingFrameRate.value == pytest.approx(1e6 / (5000 + 4 * readout_us), rel=1e-6)

    def test_locked_while_acquiring(self, plug: Any, wire: Any) -> None:
        camera = plug()
        nodes = wire.arm(camera)
        for name, value in (("Width", 32), ("OffsetX", 4), ("PixelFormat", "Mono12"), ("ChunkModeActive", True)):
            with pytest.raises(genicam.genapi.AccessException):
                getattr(nodes, name).value = value
        nodes.TLParamsLocked.value = 0  # past the node map, the camera itself still refuses
        with pytest.raises(genicam.gentl.AccessDeniedException):
            nodes.Width.value = 32
        with pytest.raises(genicam.genapi.AccessException):
            nodes.SensorWidth.value = 5
        assert nodes.Width.value == 1368

    def test_addresses_beyond_the_registers(self, plug: Any, wire: Any) -> None:
        port = plug().remote_device.port
        for address in (0, 0x50, 0x1001, 0x3000, 0x100000 + 10**6, 2**64 - 8):
            with pytest.raises(genicam.gentl.GenericException):
                port.read(address, 8)
            with pytest.raises(genicam.gentl.GenericException):
                port.write(address, bytes(8))

    def test_timestamp_latch_is_the_hosts_monotonic_clock(self, plug: Any, wire: Any) -> None:
        nodes = plug().remote_device.node_map
        before = time.monotonic_ns()
        nodes.TimestampLatch.execute()
        assert before <= nodes.TimestampLatchValue.value <= time.monotonic_ns()

    def test_second_open_is_refused(self, plug: Any, wire: Any) -> None:
        camera = plug()
        with pytest.raises(genicam.gentl.ResourceInUseException):
            camera._device_proxy.parent.device_info_list[0].create_device().open(
                genicam.gentl.DEVICE_ACCESS_FLAGS_LIST.DEVICE_ACCESS_EXCLUSIVE
            )


class TestImages:
    @pytest.mark.parametrize("name", list(sfnc.PIXEL_FORMATS))
    @pytest.mark.parametrize("shared", [True, False])
    def test_bit_exact(self, scenes: Any, plug: Any, wire: Any, name: str, shared: bool) -> None:
        scenes(colour=int(sfnc.PIXEL_FORMATS[name][1] == "ColourSensor"), shared=shared)
        camera = plug()
        wire.arm(camera, PixelFormat=name)
        for frame_id in (1, 2):
            frame = wire.snap(camera)
            assert frame.id == frame_id
            assert frame.data == wire.encoded(name, wire.values(name, wire.width, wire.height, 0, 0, frame_id))

    def test_payload_unpacked_by_the_consumer(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()
        nodes = wire.arm(camera, PixelFormat="Mono12p")
        nodes.TriggerSoftware.execute()
        with camera.fetch(timeout=2) as buffer:
            shown = buffer.payload.components[0]
            np.testing.assert_array_equal(
                shown.data.reshape(shown.height, shown.width), wire.values("Mono12p", wire.width, wire.height, 0, 0, 1)
            )

    def test_region(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()
        wire.arm(camera, Width=32, Height=16, OffsetX=12, OffsetY=30)
        frame = wire.snap(camera)
        assert (frame.width, frame.height, frame.x, frame.y) == (32, 16, 12, 30)
        assert frame.data == wire.encoded("Mono8", wire.values("Mono8", 32, 16, 12, 30, 1))
        camera.stop()
        with pytest.raises(genicam.genapi.OutOfRangeException):
            camera.remote_device.node_map.OffsetX.value = 36

    @pytest.mark.parametrize("name", ["Mono8", "BayerRG12", "Mono10p", "RGB8"])
    def test_picture_without_a_scene(self, plug: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.delenv("RAKELIGHT_SCENE", raising=False)
        monkeypatch.setenv("RAKELIGHT_READOUT_US", "1")
        camera = plug()
        wire.arm(camera, PixelFormat=name, Width=64, Height=32, OffsetX=100, OffsetY=8)
        x, y = np.meshgrid(np.arange(100, 164), np.arange(8, 40))
        grey = (x + y) * 16 % 4096 >> 12 - wire.bits.get(name, 8)
        shown = np.stack((x + y, x, y), axis=-1) & 255 if name == "RGB8" else grey
        assert wire.snap(camera).data == wire.encoded(name, shown)

    def test_free_running_and_frame_counts(self, scenes: Any, plug: Any, wire: Any) -> None:
        scenes()
        camera = plug()
        nodes = wire.arm(camera, TriggerMode="Off", AcquisitionMode="MultiFrame", AcquisitionFrameCount=5,
                    AcquisitionFrameRateEnable=True, AcquisitionFrameRate=100.0)  # fmt: skip
        frames = [wire.raw_frame(camera) for _ in range(5)]
        assert [frame.id for frame in frames] == [1, 2, 3, 4, 5]
        assert np.diff([frame.timestamp_ns for frame in frames]).min() >= 9.99e6
        with pytest.raises(genicam.gentl.TimeoutException):
            wire.raw_frame(camera, 0.05)
        assert wire.counters(nodes) == (0, 5)


class TestTime:
    def test_exposed_then_asked_then_delivered(
        self, scenes: Any, plug: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scene = scenes()
        monkeypatch.setenv("RAKELIGHT_READOUT_US", "30000")
        camera = plug()
        wire.arm(camera, exposure_us=20_000.0)
        before = time.monotonic_ns()
        frame = wire.snap(camera)
        ask = scene.asked[0]
        assert before <= ask.trigger_ns == ask.start_ns == frame.timestamp_ns
        assert ask.end_ns - ask.start_ns == 20_000_000
        assert ask.at_ns >= ask.end_ns
        assert ask.end_ns + 30_000_000 <= frame.received_ns < ask.end_ns + 80_000_000
        wire.wait_for(lambda: len(scene.lines) == 2)
        assert scene.lines == [[1, 1, ask.start_ns], [1, 0, ask.end_ns]]

    def test_exposure_can_change_between_triggers(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        camera = plug()
        nodes = wire.arm(camera)
        for exposure_us in (300.0, 150.0):
            nodes.ExposureTime.value = exposure_us
            wire.snap(camera)
        assert [ask.exposure_us for ask in scene.asked] == [300.0, 150.0]

    def test_state_is_told(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        camera = plug()
        wire.arm(camera, exposure_us=150.0, Gain=6.0, source="Line0")
        camera.stop()
        wire.wait_for(lambda: len(scene.states) == 2)
        assert scene.states == [[1, 2, 150.0, 6.0], [0, 2, 150.0, 6.0]]

    def test_stop_does_not_wait_for_the_scene_or_an_exposure(self, scenes: Any, plug: Any, wire: Any) -> None:
        scene = scenes()
        scene.slow(delay_s=1.5)
        camera = plug()
        nodes = wire.arm(camera)
        nodes.TriggerSoftware.execute()
        wire.wait_for(lambda: bool(scene.asked))
        for exposure_us in (100.0, 5e6):
            began = time.monotonic()
            camera.stop()
            assert time.monotonic() - began < 0.5
            wire.arm(camera, exposure_us=exposure_us)
            nodes.TriggerSoftware.execute()
        camera.stop()
        scene.slow(delay_s=0.0)
        wire.arm(camera)
        assert wire.snap(camera).data == wire.encoded(
            "Mono8", wire.values("Mono8", wire.width, wire.height, 0, 0, 1)
        )  # late replies are ignored
