"""A camera in a supervised child process, frames through a shared ring: what a rig works with.

The child may crash, hang or be killed; the parent notices by its own clock, never waits longer than the deadline of a call
plus a grace (:func:`grace_s`), and opens a fresh child at the next ``reopen``. Nothing here imports the binding of a vendor.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.acquisition.devices import CameraFrame, CameraInfo, CameraSettings, StreamCounts
from rakelight.acquisition.registry import find_driver, names
from rakelight.errors import DeviceError

SLOTS = 3
_OPEN_S, _CALL_S, _GRACE_S = 30.0, 5.0, 0.5
_MAX_FRAME_BYTES = 8192 * 8192 * 2
_RECONNECT = "check cable and power; the camera is opened again at the next attempt"


class CameraProcess:
    """A :class:`~rakelight.acquisition.devices.Camera` that runs the driver ``driver`` in a child process.

    Parameters
    ----------
    driver : str
        Name in the registry.
    options : mapping
        Keywords of the driver, plain data.

    Raises
    ------
    DeviceError
        What the driver raises; ``camera.process`` when the child does not come up; ``camera.lost`` when it dies.
    """

    def __init__(self, driver: str, options: Mapping[str, Any], *, slot_bytes: int = _MAX_FRAME_BYTES) -> None:
        self._driver, self._options, self._slot_bytes = driver, dict(options), slot_bytes
        self._lock = threading.RLock()
        self._child: subprocess.Popen[str] | None = None
        self._ring: mmap.mmap | None = None
        self._number = 0
        if driver not in names("cameras"):
            find_driver("cameras", driver)  # raises, and says which there are
        self.info = self._start()

    # --------------------------------------------------------------------------------------------------------- process
    def _start(self) -> CameraInfo:
        folder = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - memory, not a temporary file
        handle, path = tempfile.mkstemp(prefix="rakelight-ring-", dir=folder)
        self._path = Path(path)
        try:
            os.ftruncate(handle, SLOTS * self._slot_bytes)  # sparse: pages come into being when a frame is laid there
            self._ring = mmap.mmap(handle, SLOTS * self._slot_bytes)
            command = [
                sys.executable,
                "-m",
                "rakelight.acquisition.camera_child",
                path,
                str(SLOTS),
                str(self._slot_bytes),
            ]
            self._child = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=os.name == "posix",  # Ctrl-C of the terminal does not reach it
            )
            self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
            threading.Thread(
                target=_read, args=(self._child, self._answers), name="camera answers", daemon=True
            ).start()
            made = self._call("open", {"driver": self._driver, "options": self._options}, _OPEN_S)
        except BaseException:
            self._end()
            raise
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):  # Windows keeps it until both have closed it; see ``_end``
                os.unlink(path)
        facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in made.items()}
        return CameraInfo(**facts)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(OSError):
                if child.stdin is not None:
                    child.stdin.close()  # asks it to close the camera and go
            try:
                child.wait(2.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        ring, self._ring = self._ring, None
        if ring is not None:
            with contextlib.suppress(OSError, BufferError):  # an interrupted ``next_frame`` may still hold a view of it
                ring.close()  # Windows deletes no file that is mapped
                self._path.unlink(missing_ok=True)

    def reopen(self) -> CameraInfo:
        """Open the camera in a fresh child, for example after it was unplugged."""
        with self._lock:
            self._end()
            self.info = self._start()
            return self.info

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when it is gone."""
        return self._child.pid if self._child is not None else None

    # ----------------------------------------------------------------------------------------------------------- calls
    def _call(self, name: str, arguments: Mapping[str, Any], wait_s: float = _CALL_S) -> Any:
        with self._lock:
            child = self._child
            if child is None or child.stdin is None:
                raise DeviceError("the camera is closed", hint=_RECONNECT, code="camera.lost")
            self._number += 1
            patience_s = wait_s + grace_s(wait_s)
            end = time.monotonic() + patience_s
            try:
                child.stdin.write(json.dumps({"id": self._number, "call": name, "arguments": arguments}) + "\n")
                child.stdin.flush()
            except OSError as error:
                raise self._died() from error
            while True:
                try:
                    line = self._answers.get(timeout=max(end - time.monotonic(), 0.001))
                except queue.Empty:
                    child.kill()
                    self._end()
                    raise DeviceError(
                        f"the camera's process did not answer {name!r} within {patience_s:.1f} s and was ended",
                        hint=_RECONNECT,
                        code="camera.lost",
                    ) from None
                if line is None:
                    raise self._died()
                answer = json.loads(line)
                if answer["id"] == self._number:
                    break
            if "error" in answer:
                told = answer["error"]
                raise DeviceError(told["message"], hint=told["hint"], code=told["code"])
            return answer["result"]

    def _died(self) -> DeviceError:
        child = self._child
        self._end()  # also ends one that closed its output and hangs
        code = child.returncode if child is not None else None
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return DeviceError(f"the camera's process ended {how}", hint=_RECONNECT, code="camera.lost")

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """See :class:`~rakelight.acquisition.devices.Camera`."""
        return CameraSettings(**self._call("configure", asdict(settings)))

    def set_exposure(self, exposure_us: float) -> float:
        """Change the exposure alone; returns the actual one."""
        return float(self._call("set_exposure", {"exposure_us": exposure_us}))

    def arm(self, frames: int) -> None:
        """Make ready for that many frames."""
        self._call("arm", {"frames": frames})

    def trigger(self) -> None:
        """Expose one frame now."""
        self._call("trigger", {})

    def next_frame(self, deadline_s: float) -> CameraFrame:
        """The next complete frame; its pixels are copied out of the ring."""
        with self._lock:
            told = self._call("next_frame", {"deadline_s": deadline_s}, deadline_s)
            dtype = np.dtype(told.pop("dtype"))
            count = int(np.prod(told["shape"]))
            start = told.pop("slot") * self._slot_bytes
            assert self._ring is not None  # there as long as the child answers
            image = np.frombuffer(self._ring, dtype, count, start).reshape(told.pop("shape")).copy()
        return CameraFrame(image, **told)

    def temperature_c(self) -> float | None:
        """Its temperature as it reads it itself, °C; None if it does not say."""
        told = self._call("temperature_c", {})
        return None if told is None else float(told)

    def disarm(self) -> StreamCounts:
        """Stop; nothing is pending afterwards."""
        return StreamCounts(**self._call("disarm", {}))

    def close(self) -> None:
        """Close the camera and end the child; may be called twice."""
        with self._lock:
            if self._child is not None:
                with contextlib.suppress(DeviceError):  # a child that is gone has closed it
                    self._call("close", {})
                self._end()


def grace_s(wait_s: float) -> float:
    """How much longer than its deadline a call waits for the child's own answer before it ends the child.

    An eighth of the deadline, so that a hanging producer makes no call late by much; but where the deadline is below 1 s, as for
    live pictures, half a second: a child that is just laying down a large frame must not be ended for it.
    """
    return _GRACE_S if wait_s < 1.0 else min(_GRACE_S, wait_s / 8)


def _read(child: subprocess.Popen[str], answers: queue.SimpleQueue[str | None]) -> None:
    """Lines of the child into the queue; None at its end."""
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            answers.put(line)
    answers.put(None)
