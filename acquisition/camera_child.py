"""The child process that owns a camera: ``python -m rakelight.acquisition.camera_child RING SLOTS BYTES``.

It takes calls as JSON lines on standard input, answers on standard output, and lays pixels into the ring, a shared file of
SLOTS × BYTES. What vendor libraries print goes to standard error. When its input closes (the parent is gone, however it
ended) it closes the camera and exits.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from rakelight.acquisition.devices import CameraFrame, CameraSettings
from rakelight.acquisition.registry import open_camera_here
from rakelight.errors import DeviceError, RakelightError

_CLOSE_S = 10.0


class Child:
    """The camera and the ring behind the calls."""

    def __init__(self, ring: mmap.mmap, slots: int, slot_bytes: int) -> None:
        self._ring = ring
        self._slots, self._slot_bytes = slots, slot_bytes
        self._camera: Any = None
        self._next = 0

    def open(self, driver: str, options: dict[str, Any]) -> dict[str, Any]:
        """Open the camera; returns its info."""
        self._camera = open_camera_here(driver, options)
        return asdict(self._camera.info)

    def configure(self, **settings: Any) -> dict[str, Any]:
        return asdict(self._camera.configure(CameraSettings(**settings)))

    def set_exposure(self, exposure_us: float) -> float:
        return float(self._camera.set_exposure(exposure_us))

    def arm(self, frames: int) -> None:
        self._camera.arm(frames)

    def trigger(self) -> None:
        self._camera.trigger()

    def next_frame(self, deadline_s: float) -> dict[str, Any]:
        return self._laid_down(self._camera.next_frame(deadline_s))

    def disarm(self) -> dict[str, int]:
        return asdict(self._camera.disarm())

    def temperature_c(self) -> float | None:
        read = getattr(self._camera, "temperature_c", None)  # drivers of others may lack it
        return None if read is None else read()

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _laid_down(self, frame: CameraFrame) -> dict[str, Any]:
        image = np.ascontiguousarray(frame.image)
        if image.nbytes > self._slot_bytes:
            raise DeviceError(
                f"a frame of {image.nbytes} bytes does not fit the ring's {self._slot_bytes}",
                hint="open the camera again after changing its size",
                code="camera.state",
            )
        start = self._next * self._slot_bytes
        np.frombuffer(self._ring, np.uint8, image.nbytes, start)[:] = image.reshape(-1).view(np.uint8)
        slot, self._next = self._next, (self._next + 1) % self._slots
        return {
            "slot": slot,
            "shape": image.shape,
            "dtype": image.dtype.name,
            "frame_id": frame.frame_id,
            "timestamp_ns": frame.timestamp_ns,
            "received_ns": frame.received_ns,
            "exposure_us": frame.exposure_us,
            "gain_db": frame.gain_db,
            "counters": dict(frame.counters),
        }


def main() -> int:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # vendor libraries print there
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    path, slots, slot_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, "r+b") as handle:
        ring = mmap.mmap(handle.fileno(), slots * slot_bytes)
    child = Child(ring, slots, slot_bytes)
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if request["call"] not in _CALLS:
                raise ValueError(f"unknown call {request['call']!r}")
            answers.write(json.dumps({"id": request["id"], **_answer(getattr(child, request["call"]), request)}) + "\n")
    finally:
        faulthandler.dump_traceback_later(
            _CLOSE_S, exit=True
        )  # a producer that hangs must not keep the camera for ever
        child.close()
    return 0


_CALLS = {
    "open",
    "configure",
    "set_exposure",
    "arm",
    "trigger",
    "next_frame",
    "temperature_c",
    "disarm",
    "alive",
    "close",
}


def _answer(call: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": call(**request["arguments"])}
    except RakelightError as error:
        return {"error": error.to_dict()}
    except Exception as error:  # told to the parent, which raises it; the child must live on to close the camera
        return {"error": {"code": "camera.failed", "message": f"{type(error).__name__}: {error}", "hint": ""}}


if __name__ == "__main__":
    sys.exit(main())
