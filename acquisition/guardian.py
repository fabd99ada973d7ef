"""The guardian: a small process that switches everything off when the program that lit it is gone.

``python -m rakelight.acquisition.guardian`` reads one JSON line that says which devices to darken, then waits on its input.
The line ``bye`` ends it quietly. An input that closes without it (the program crashed or was killed), or no heartbeat for
``SILENCE_S`` (it hangs), makes it open the ports and switch everything off. It cannot help when the computer loses power:
set the controller's own time-out where it has one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from rakelight.acquisition.registry import find_driver
from rakelight.errors import DeviceError, RakelightError

BEAT_S = 0.5
SILENCE_S = 3.0
_TRIES_S = 3.0  # a port may stay busy for a moment after its owner died


class Guardian:
    """Starts the process and keeps it beating; one per open rig.

    Parameters
    ----------
    devices : mapping
        ``{"lights": {driver, options}, "projectors": {driver, options}}``, plain data; only those that shine.

    Raises
    ------
    DeviceError
        ``guardian.failed`` when it does not come up: nothing may be lit without it.
    """

    def __init__(self, devices: Mapping[str, Mapping[str, Any]]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rakelight.acquisition.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=os.name == "posix",  # a Ctrl-C or hang-up of the terminal must not take it along
        )
        self._stop = threading.Event()
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(devices) + "\n")
            self._process.stdin.flush()
            ready = self._process.stdout.readline().strip() == "ready"
        except OSError:
            ready = False
        except BaseException:  # interrupted: nothing is lit yet, so it has nothing to do
            self._process.kill()
            raise
        if not ready:
            self._process.kill()
            raise DeviceError(
                "the guardian process, which switches the lights off if this program dies, did not start",
                hint="see the messages above; check memory and the installation with `rakelight doctor`",
                code="guardian.failed",
            )
        self._thread = threading.Thread(target=self._beat, name="guardian beat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        assert self._process.stdin is not None
        while not self._stop.wait(BEAT_S):
            try:
                self._process.stdin.write("beat\n")
                self._process.stdin.flush()
            except OSError:
                return  # it is gone; ``alive`` says so

    @property
    def alive(self) -> bool:
        """Whether the process still watches."""
        return self._process.poll() is None

    def close(self) -> None:
        """Send it home; everything is dark already."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write("bye\n")
            self._process.stdin.close()
            self._process.stdout.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> int:
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    devices = json.loads(sys.stdin.readline())
    openers = {kind: find_driver(kind, entry["driver"]) for kind, entry in devices.items()}  # imports now, not later
    print("ready", flush=True)  # noqa: T201 - the parent waits for it
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=SILENCE_S)
        except queue.Empty:
            line = ""
        if line == "bye":
            return 0
        if not line:
            return 0 if _darken(openers, devices) else 1


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line.strip() or "beat")
    lines.put("")


def _darken(openers: Mapping[str, Any], devices: Mapping[str, Mapping[str, Any]]) -> bool:
    """Open each device, which switches it off, and close it; again and again until all have obeyed or time is up."""
    left = dict(openers)
    told: dict[str, str] = {}
    end = time.monotonic() + _TRIES_S
    while left and time.monotonic() < end:
        for kind, opener in list(left.items()):
            try:
                opener(**devices[kind]["options"]).close()
                del left[kind]
            except RakelightError as error:
                told[kind] = error.message
        time.sleep(0.02 if left else 0)
    for kind in left:
        print(f"guardian: {kind} could not be darkened: {told[kind]}", file=sys.stderr)  # noqa: T201
    return not left


if __name__ == "__main__":
    sys.exit(main())
