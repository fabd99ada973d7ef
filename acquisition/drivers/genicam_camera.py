"""A GenICam camera through a GenTL producer and harvesters, in this process.

The rig uses it inside a child process (``camera_process``): vendor libraries crash, and the binding never releases the
interpreter's lock. What is worked around here, and why, is in hardware notes of harvesters 1.4:

- ``fetch`` hides incomplete frames and may wait forever: frames are polled with ``try_fetch`` against a deadline of ours on
  the monotonic clock, and incomplete ones are counted by a callback.
- ``create`` in the main thread takes over Ctrl-C: it is called in a thread of its own.
- A buffer's memory is overwritten once it is queued again: pixels are unpacked into own memory first.
- Errors come from two unrelated roots, ``genicam.genapi`` and ``genicam.gentl``; both become :class:`DeviceError`.
- ``update`` releases every open camera: it is called once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.acquisition.devices import CameraFrame, CameraInfo, CameraSettings, StreamCounts, TriggerMode
from rakelight.acquisition.drivers.genicam_binding import (
    enable_chunks,
    incomplete_counter,
    load_producer,
    open_device,
    optional,
    pixel_format_name,
    range_of,
    taken,
    timestamp_ns,
    told,
    usable,
)
from rakelight.acquisition.unpack import packed_bytes, unpack, unpacked_name
from rakelight.errors import DeviceError

_POLL_S = 0.0005
_MAX_BUFFERS = 8


class GenICamCamera:
    """The camera ``serial_number`` of a GenTL producer (.cti); its only one, if no number is given.

    ``environment`` holds variables that the producer wants to see.

    Raises
    ------
    DeviceError
        ``camera.producer`` (the file is missing or no producer), ``camera.not_found`` (lists what is there),
        ``camera.ambiguous``, ``camera.busy``.
    """

    def __init__(
        self, producer: str | Path, serial_number: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        os.environ.update(environment or {})  # before the producer is loaded, which reads it
        self._harvester = load_producer(Path(producer))
        try:
            self._acquirer = open_device(self._harvester, Path(producer), serial_number)
        except BaseException:
            self._harvester.reset()
            raise
        self._counter = incomplete_counter()
        self._acquirer.add_callback(self._acquirer.Events.INCOMPLETE_BUFFER, self._counter)
        self._nodes = self._acquirer.remote_device.node_map
        self._serial_number = serial_number
        self._settings = CameraSettings(0.0)
        self._armed = False
        self._delivered = 0
        self._lost = False
        self._chunks = enable_chunks(self._nodes)
        self.info = self._read_info()

    # ------------------------------------------------------------------------------------------------------- features
    def _has(self, name: str) -> bool:
        return bool(self._nodes.has_node(name)) and usable(getattr(self._nodes, name))

    def _get(self, name: str, default: Any = None) -> Any:
        return getattr(self._nodes, name).value if self._has(name) else default

    def _read_info(self) -> CameraInfo:
        with self._translated("read the camera's features"):
            identity = (
                self._acquirer.device.module if hasattr(self._acquirer.device, "module") else self._acquirer.device
            )
            names = [str(n) for n in self._nodes.PixelFormat.symbolics]
            trigger: list[TriggerMode] = ["free"]
            if self._has("TriggerMode") and self._has("TriggerSource"):
                sources = [str(s) for s in self._nodes.TriggerSource.symbolics]
                trigger += ["software"] if "Software" in sources else []
                trigger += ["line"] if any(s.startswith("Line") for s in sources) else []
            return CameraInfo(
                str(self._get("DeviceVendorName", identity.vendor)),
                str(self._get("DeviceModelName", identity.model)),
                str(self._get("DeviceSerialNumber", identity.serial_number)),
                int(self._get("SensorWidth", self._nodes.Width.max)),
                int(self._get("SensorHeight", self._nodes.Height.max)),
                tuple(n for n in names if taken(n)),
                range_of(self._nodes, "ExposureTime") or (0.0, 0.0),
                range_of(self._nodes, "Gain"),
                tuple(trigger),
                self._get("ResultingFrameRate", self._get("AcquisitionFrameRate")),
                str(self._get("DeviceFirmwareVersion", self._get("DeviceVersion", ""))),
            )

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Set everything; returns what the device took. See :class:`~rakelight.acquisition.devices.Camera`."""
        if self._armed:
            raise _state("configured", "armed", "disarm it first")
        if settings.trigger not in self.info.triggers:
            raise DeviceError(
                f"{self._named} has no {settings.trigger} trigger; it has: {', '.join(self.info.triggers)}",
                hint="choose one of these as trigger in rig.toml",
                code="camera.feature",
            )
        with self._translated("configure the camera"):
            self._undo_others()
            self._set_symbol("PixelFormat", settings.pixel_format)
            for axis in ("X", "Y"):  # first to the corner, so that any size fits
                if self._has(f"Offset{axis}"):
                    self._set_number(f"Offset{axis}", 0)
            self._set_number("Width", settings.width or int(self._nodes.Width.max))
            self._set_number("Height", settings.height or int(self._nodes.Height.max))
            self._set_offset("OffsetX", settings.offset_x)
            self._set_offset("OffsetY", settings.offset_y)
            exposure = self._set_exposure(settings.exposure_us)
            gain = self._set_gain(settings.gain_db)
            self._set_trigger(settings)
            self._settings = CameraSettings(
                exposure,
                gain,
                unpacked_name(settings.pixel_format),
                int(self._get("OffsetX", 0)),
                int(self._get("OffsetY", 0)),
                int(self._nodes.Width.value),
                int(self._nodes.Height.value),
                settings.trigger,
                settings.trigger_line,
                self._get("ResultingFrameRate"),
                self._link_limit(),
            )
        return self._settings

    def _undo_others(self) -> None:
        """What a viewer may have left in the camera and would spoil captures: one frame a start, exposure by a pulse's width,
        values that are no longer linear."""
        for name, value in (("AcquisitionMode", "Continuous"), ("ExposureMode", "Timed"), ("GammaEnable", False)):
            if self._has(name):
                optional(partial(setattr, getattr(self._nodes, name), "value", value), None)

    def _link_limit(self) -> float | None:
        """Bytes a second that the device keeps to, where it says so (SFNC: DeviceLinkThroughputLimit)."""
        if not self._has("DeviceLinkThroughputLimit") or str(self._get("DeviceLinkThroughputLimitMode", "On")) != "On":
            return None
        return float(self._nodes.DeviceLinkThroughputLimit.value)

    def set_exposure(self, exposure_us: float) -> float:
        """Change the exposure alone; returns the actual one."""
        with self._translated("set the exposure"):
            actual_us = self._set_exposure(exposure_us)
        self._settings = replace(self._settings, exposure_us=actual_us)  # what frames tell where no chunk does
        return actual_us

    def _set_exposure(self, exposure_us: float) -> float:
        if not self._has("ExposureTime"):
            return exposure_us  # a camera without the feature exposes as it likes; the contract records what was asked
        if self._has("ExposureAuto"):
            self._nodes.ExposureAuto.value = "Off"
        self._set_number("ExposureTime", exposure_us, "µs")
        return float(self._nodes.ExposureTime.value)

    def _set_gain(self, gain_db: float) -> float:
        if not self._has("Gain"):
            if gain_db:
                raise DeviceError(
                    f"{self._named} has no Gain; asked for {gain_db:g} dB",
                    hint="leave gain_db at 0",
                    code="camera.feature",
                )
            return 0.0
        if self._has("GainAuto"):
            self._nodes.GainAuto.value = "Off"
        self._set_number("Gain", gain_db, "dB")
        return float(self._nodes.Gain.value)

    def _set_trigger(self, settings: CameraSettings) -> None:
        if not self._has("TriggerMode"):
            return
        if self._has("TriggerSelector"):
            self._set_symbol("TriggerSelector", "FrameStart")
        if settings.trigger == "free":
            self._nodes.TriggerMode.value = "Off"
            return
        self._nodes.TriggerMode.value = "On"
        self._set_symbol("TriggerSource", "Software" if settings.trigger == "software" else settings.trigger_line)
        if settings.trigger == "line" and self._has("TriggerActivation"):
            self._set_symbol("TriggerActivation", "RisingEdge")

    def _set_offset(self, name: str, value: int) -> None:
        if self._has(name):
            self._set_number(name, value)
        elif value:
            raise DeviceError(
                f"{self._named} has no {name}; asked for {value} px",
                hint="leave offset_x and offset_y at 0",
                code="camera.feature",
            )

    def _set_symbol(self, name: str, value: str) -> None:
        node = getattr(self._nodes, name)
        known = [str(s) for s in node.symbolics]
        if value not in known:
            raise DeviceError(
                f"{name} of {self._named} is asked to be {value!r}; it knows {', '.join(known)}",
                hint=f"choose one of these as {name}",
                code="camera.setting",
            )
        node.value = value

    def _set_number(self, name: str, value: float, unit: str = "px") -> None:
        node = getattr(self._nodes, name)
        if not node.min <= value <= node.max:
            raise DeviceError(
                f"{name} of {self._named} is asked to be {value:g} {unit}; allowed: {node.min:g} to {node.max:g}",
                hint=f"choose a {name} in this range",
                code="camera.setting",
            )
        has_step = node.has_inc() if hasattr(node, "has_inc") else True  # integers always have one
        step = node.inc if has_step else 0
        node.value = node.min + round((value - node.min) / step) * step if step else value

    # ----------------------------------------------------------------------------------------------------- acquisition
    def arm(self, frames: int) -> None:
        """Make ready for that many frames."""
        if self._armed:
            raise _state("armed", "armed already", "disarm it first")
        with self._translated("start the acquisition"):
            self._acquirer.num_buffers = max(3, min(frames, _MAX_BUFFERS))
            self._counter.count, self._delivered = 0, 0
            self._acquirer.start(run_as_thread=False)
        self._armed = True

    def trigger(self) -> None:
        """Expose one frame now."""
        if not self._armed or self._settings.trigger != "software":
            raise _state(
                "triggered", f"not armed for software triggers ({self._settings.trigger})", "configure and arm it"
            )
        with self._translated("trigger"):
            self._nodes.TriggerSoftware.execute()

    def next_frame(self, deadline_s: float) -> CameraFrame:
        """The next complete frame, at most ``deadline_s`` from now."""
        if not self._armed:
            raise _state("read", "not armed", "arm it first")
        end = time.monotonic() + deadline_s
        incomplete = self._counter.count
        with self._translated("fetch a frame"):
            while True:
                raw = self._acquirer.try_fetch(timeout=0.0002, is_raw=True)
                if raw is not None:
                    return self._taken_over(raw)
                if self._counter.count > incomplete:
                    raise DeviceError(
                        f"a frame of {self._named} arrived incomplete; it is not used",
                        hint="check cable, network card and packet size; the shot is taken again",
                        code="camera.incomplete",
                    )
                if time.monotonic() > end:
                    raise DeviceError(
                        f"no frame of {self._named} within {deadline_s:.3g} s",
                        hint="check the trigger, and that the exposure is shorter than the deadline",
                        code="camera.timeout",
                    )
                time.sleep(_POLL_S)

    def _taken_over(self, raw: Any) -> CameraFrame:
        """A delivered buffer as a frame of our own; the buffer goes back to the producer whatever happens."""
        try:
            received = time.perf_counter_ns()
            name = pixel_format_name(raw)
            width, height = int(raw.width), int(raw.height)
            data = np.frombuffer(raw.raw_buffer, np.uint8)
            data = data[optional(lambda: int(raw.image_offset), 0) :]
            if padding := optional(lambda: int(raw.padding_x), 0):  # bytes after each row; harvesters fails to cut them
                row = packed_bytes(name, width, 1)
                data = data[: height * (row + padding)].reshape(height, row + padding)[:, :row].ravel()
            filled = optional(lambda: int(raw.size_filled), len(data))
            if 0 < filled < packed_bytes(name, width, height):
                data = data[:filled]
            image = unpack(data, name, width, height)
            self._delivered += 1
            return CameraFrame(
                image,
                int(raw.frame_id),
                timestamp_ns(raw),
                received,
                self._chunk("ChunkExposureTime", self._settings.exposure_us),
                self._chunk("ChunkGain", self._settings.gain_db),
                self._counters(),
            )
        finally:
            raw.parent.queue_buffer(raw)

    def _chunk(self, name: str, otherwise: float | None) -> float | None:
        if name.removeprefix("Chunk") not in self._chunks:
            return otherwise
        return optional(lambda: float(getattr(self._nodes, name).value), otherwise)

    def _counters(self) -> dict[str, int]:
        """Triggers that the camera received up to this frame, if it counts them."""
        if "CounterValue" not in self._chunks:
            return {}
        value = optional(lambda: int(self._nodes.ChunkCounterValue.value), None)
        return {} if value is None else {"triggers": value}

    def temperature_c(self) -> float | None:
        """SFNC DeviceTemperature, °C, where DeviceTemperatureSelector stands; None for a camera without."""
        with self._translated("read the temperature"):
            return float(self._nodes.DeviceTemperature.value) if self._has("DeviceTemperature") else None

    def disarm(self) -> StreamCounts:
        """Stop; nothing is pending afterwards."""
        stream = self._acquirer.data_streams[0] if self._armed and not self._lost else None
        lost = optional(lambda: int(stream.num_underrun), 0) if stream is not None else 0
        if self._armed:
            self._armed = False
            if not self._lost:
                with self._translated("stop the acquisition"):
                    self._acquirer.stop()
        return StreamCounts(self._delivered, self._counter.count, lost)

    def close(self) -> None:
        """Release the camera; may be called twice."""
        if self._acquirer is None:
            return
        acquirer, self._acquirer, self._armed = self._acquirer, None, False
        for act in (acquirer.stop, acquirer.destroy, self._harvester.reset):
            optional(act, None)  # a camera that is gone cannot be told to stop; the rest must still be released

    # ---------------------------------------------------------------------------------------------------------- errors
    @property
    def _named(self) -> str:
        info = getattr(self, "info", None)
        return f"camera {info.model} {info.serial_number}" if info else "the camera"

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Errors of the binding as :class:`DeviceError`; those that mean a missing device close the door for later calls."""
        if self._acquirer is None or self._lost:
            raise DeviceError(
                f"{self._named} is {'gone' if self._lost else 'closed'}", hint=_RECONNECT, code="camera.lost"
            )
        from genicam import genapi, gentl

        gone = (gentl.IoException, gentl.InvalidHandleException, gentl.NotInitializedException)
        try:
            yield
        except gone as error:
            self._lost = True
            raise DeviceError(
                f"could not {what}: {self._named} is gone ({told(error)})", hint=_RECONNECT, code="camera.lost"
            ) from error
        except (genapi.GenericException, gentl.GenericException) as error:
            raise DeviceError(
                f"could not {what}: {self._named} answered {told(error)}",
                hint="see the camera's manual; `rakelight devices` lists what it offers",
                code="camera.feature",
            ) from error


_RECONNECT = "check cable and power; the camera is opened again at the next attempt"


def _state(what: str, now: str, cure: str) -> DeviceError:
    return DeviceError(f"the camera cannot be {what}: it is {now}", hint=cure, code="camera.state")
