"""The guardian: a small process that switches everything off when the program that lit it is gone.

``python -m rakelight.acquisition.guardian`` reads one JSON line that says which devices to darken, then waits on its input.
The line ``bye`` ends it quietly. An input that closes without it (the program crashed or was killed), or no heartbeat for
``SILENCE_S`` (it hangs, or was stopped by Ctrl-Z), makes it open the ports, switch everything off, and go: the program, should
it wake up, finds that out by :meth:`Guardian.check` and believes none of its lights any more. Ports that a hanging program
holds cannot be shared everywhere (not on Windows, not on most device servers): there it tries until the program has ended. It
cannot help when the computer loses power: set the controller's own time-out where it has one.
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
from rakelight.acquisition.serial_open import share_ports
from rakelight.errors import DeviceError, RakelightError

BEAT_S = 0.5
SILENCE_S = 3.0
_NEARLY_S = 0.2  # beats that came at the last moment may have come too late
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
        self._gone = threading.Event()
        self._beaten_s = time.monotonic()
        self._threads = [
            threading.Thread(target=work, name=f"guardian {name}", daemon=True)
            for work, name in ((self._beat, "beat"), (self._listen, "word"))
        ]
        for thread in self._threads:
            thread.start()

    def _beat(self) -> None:
        assert self._process.stdin is not None
        while not self._stop.wait(BEAT_S):
            if self._stood_still():
                self._gone.set()
            try:
                self._process.stdin.write("beat\n")
                self._process.stdin.flush()
            except OSError:
                return  # it is gone; ``check`` says so
            self._beaten_s = time.monotonic()

    def _stood_still(self) -> bool:
        """Whether the last beat is so long ago that the process may be switching everything off at this moment."""
        return time.monotonic() - self._beaten_s > SILENCE_S - _NEARLY_S

    def _listen(self) -> None:
        """It says a word when it is about to switch everything off, and nothing more when it has gone."""
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._gone.set()

    def check(self) -> None:
        """Raise :class:`DeviceError` (``guardian.gone``) if nobody watches any more: what is lit is not known then."""
        if self._gone.is_set() or self._stood_still():
            raise DeviceError(
                "the guardian process is gone: it was killed, or it switched everything off since this program stood still for "
                f"{SILENCE_S:g} s",
                hint="open the rig again and repeat the capture; do not stop the program (Ctrl-Z) while it captures",
                code="guardian.gone",
            )

    def close(self) -> None:
        """Send it home; everything is dark already."""
        beat, listen = self._threads
        self._stop.set()
        beat.join()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write("bye\n")
            self._process.stdin.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        listen.join()
        self._process.stdout.close()


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
        line: str | None
        try:
            line = lines.get(timeout=SILENCE_S)
        except queue.Empty:
            line = None
        if line == "bye":
            return 0
        if line == "":
            return 0 if _darken(openers, devices) else 1
        if line is None:
            with contextlib.suppress(
                OSError
            ):  # first, so that a program that wakes up meanwhile knows; it may have died
                print("dark", flush=True)  # noqa: T201
            share_ports()
            if _darken(openers, devices):
                return 0


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
            except Exception as error:  # the other device must be darkened all the same
                told[kind] = error.message if isinstance(error, RakelightError) else f"{type(error).__name__}: {error}"
        time.sleep(0.02 if left else 0)
    for kind in left:
        print(f"guardian: {kind} could not be darkened: {told[kind]}", file=sys.stderr)  # noqa: T201
    return not left


if __name__ == "__main__":
    sys.exit(main())
