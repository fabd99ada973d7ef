"""The computer's end of a simulated serial line: a pseudo-terminal, or a TCP port where there is none.

What is simulated is the line, not the driver: any program can open :attr:`SerialHost.url`. Bytes take their time (ten bits
each at the baud rate); a pseudo-terminal opened at another baud rate carries noise; a port can vanish and come back; faults
befall commands by their number (:mod:`serial_faults`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import select
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np

from rakelight.acquisition.simulator.serial_faults import SerialFault, faults_of
from rakelight.errors import InputError

_FORGET_S = 0.25  # half a command is forgotten after that silence, as real devices do


class WireDevice(Protocol):
    """A simulated device on a serial line."""

    def take(self, buffer: bytearray) -> bytes | None:
        """Remove the next whole command (or piece of junk) from the front of the buffer; None while it is not whole."""

    def answer(self, command: bytes, at_ns: int) -> bytes:
        """Carry out a command whose last bit arrived at ``at_ns`` (monotonic); the reply, empty where none is given."""

    def refuse(self, command: bytes) -> bytes:
        """What the device says when it refuses the command."""

    def misdirect(self, reply: bytes) -> bytes:
        """The same reply as for another channel."""


class LineDevice:
    """Makes a :class:`WireDevice` of a function from bytes to bytes whose commands end with ``end``."""

    def __init__(self, receive: Callable[[bytes], bytes], end: bytes = b"\n") -> None:
        self._receive, self._end = receive, end

    def take(self, buffer: bytearray) -> bytes | None:
        place = buffer.find(self._end)
        if place < 0:
            return None
        command = bytes(buffer[: place + len(self._end)])
        del buffer[: len(command)]
        return command

    def answer(self, command: bytes, at_ns: int) -> bytes:
        return self._receive(command)

    def refuse(self, command: bytes) -> bytes:
        raise InputError("this device knows no fault nak on its line", hint="use its own", code="simulator.fault")

    def misdirect(self, reply: bytes) -> bytes:
        raise InputError("this device knows no fault wrong_echo", hint="use its own", code="simulator.fault")


class SerialHost:
    """Serves a simulated device until closed.

    Parameters
    ----------
    device : WireDevice
        What stands at the far end.
    baud : int
        Paces bytes both ways; with a pseudo-terminal, other rates turn them into noise.
    latency_s : float
        From a command's last bit to the reply's first.
    wire : ``pty``, ``socket`` or None
        None: a pseudo-terminal where the system has them.
    faults : iterable of SerialFault or str
        See :data:`serial_faults.FAULTS`; may be replaced at any time by ``set_faults``.
    seed : int
        Of the noise.

    Attributes
    ----------
    url : str
        What a driver opens; it stays the same when the port vanishes and comes back.
    commands : int
        How many commands came so far: the number of the next one.
    """

    def __init__(
        self,
        device: WireDevice,
        *,
        baud: int,
        latency_s: float = 0.002,
        wire: Literal["pty", "socket"] | None = None,
        faults: Iterable[SerialFault | str] = (),
        seed: int = 0,
    ) -> None:
        self.device, self.baud, self.latency_s = device, baud, latency_s
        self.commands = 0
        self._faults = faults_of(faults)
        self._rng = np.random.default_rng(seed)
        self._buffer = bytearray()
        self._last_reply = b""
        self._line_free_ns = 0
        self._stop = threading.Event()
        self._return_at: float | None = None
        self._wake, self._waker = socket.socketpair()
        self._requests: list[tuple[str, threading.Event]] = []
        pty = hasattr(os, "openpty") if wire is None else wire == "pty"
        self._wire: _Pty | _Tcp = _Pty() if pty else _Tcp()
        self.url = self._wire.url
        self._thread = threading.Thread(target=self._serve, name=f"simulated {self.url}", daemon=True)
        self._thread.start()

    # -------------------------------------------------------------------------------------------------- from outside
    def set_faults(self, *faults: SerialFault | str) -> None:
        """Replace all faults; their places count from the host's first command on."""
        self._faults = faults_of(faults)

    def disconnect(self) -> None:
        """The port vanishes, as an adapter that is pulled out. The device keeps what it does: lights stay lit."""
        self._ask("disconnect")

    def connect(self) -> None:
        """The port comes back under the same URL."""
        self._ask("connect")

    def close(self) -> None:
        """End the thread and remove the port; may be called twice."""
        if not self._stop.is_set():
            self._stop.set()
            with contextlib.suppress(OSError):  # the thread has ended by itself
                self._waker.send(b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> SerialHost:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(self, what: str) -> None:
        done = threading.Event()
        self._requests.append((what, done))
        self._waker.send(b"x")
        done.wait(5.0)

    # ---------------------------------------------------------------------------------------------------- the thread
    def _serve(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
        finally:
            self._wire.vanish()
            self._wire.remove()
            self._wake.close()
            self._waker.close()

    def _turn(self) -> None:
        pause = _FORGET_S if self._buffer else None
        if self._return_at is not None:
            pause = max(self._return_at - time.monotonic(), 0.0)
        ready, _, _ = select.select([self._wake, *self._wire.waiting()], [], [], pause)
        if self._wake in ready:
            self._wake.recv(64)
        while self._requests:
            what, done = self._requests.pop(0)
            (self._wire.vanish if what == "disconnect" else self._wire.appear)()
            self._buffer.clear()
            self._return_at = None
            done.set()
        if self._return_at is not None and time.monotonic() >= self._return_at:
            self._return_at = None
            self._wire.appear()
        data = self._wire.read(ready)
        if data:
            self._heard(data)
        elif not ready:
            self._buffer.clear()

    def _heard(self, data: bytes) -> None:
        now = time.perf_counter_ns()
        if self._wire.baud() not in (None, self.baud):
            data = self._noise(len(data))
        self._line_free_ns = max(self._line_free_ns, now) + self._line_ns(len(data))
        self._buffer += data
        while not self._stop.is_set():
            held = len(self._buffer)
            command = self.device.take(self._buffer)
            if command is None:
                if len(self._buffer) == held:
                    return
                continue
            index = self.commands
            self.commands += 1
            self._command(command, {f.name: f for f in self._faults if f.befalls(index)})

    def _command(self, command: bytes, faults: dict[str, SerialFault]) -> None:
        if "disconnect" in faults:
            gone_s = faults["disconnect"].gone_s
            self._return_at = None if gone_s is None else time.monotonic() + gone_s
            self._buffer.clear()
            self._wire.vanish()
            return
        if "deaf" in faults:
            return
        at_ns = self._line_free_ns
        reply = self.device.refuse(command) if "nak" in faults else self.device.answer(command, at_ns)
        before, self._last_reply = self._last_reply, reply
        if not reply:
            return
        reply = self._spoiled(reply, before, faults)
        late_s = faults["late"].late_s if "late" in faults else 0.0
        self._say(reply, at_ns + int((self.latency_s + late_s) * 1e9))

    def _spoiled(self, reply: bytes, before: bytes, faults: dict[str, SerialFault]) -> bytes:
        if "previous" in faults:
            reply = before
        if "wrong_echo" in faults:
            reply = self.device.misdirect(reply)
        if "bit_error" in faults:
            middle = len(reply) // 2
            reply = reply[:middle] + bytes([reply[middle] ^ 1]) + reply[middle + 1 :]
        if "truncated" in faults:
            reply = reply[: len(reply) // 2]
        if "garbage" in faults:
            reply = self._noise(5) + reply
        return b"" if "silence" in faults else reply

    def _say(self, reply: bytes, from_ns: int) -> None:
        """In two pieces, so that readers meet half answers; the last byte is there when its last bit would be."""
        if self._wire.baud() not in (None, self.baud):
            reply = self._noise(len(reply))
        half = len(reply) // 2
        for piece, sent in ((reply[:half], half), (reply[half:], len(reply))):
            due = from_ns + self._line_ns(sent)
            if piece and not self._stop.wait(max(due - time.perf_counter_ns(), 0) / 1e9):
                self._wire.write(piece)
        self._line_free_ns = max(self._line_free_ns, from_ns + self._line_ns(len(reply)))

    def _line_ns(self, count: int) -> int:
        return count * 10 * 1_000_000_000 // self.baud

    def _noise(self, count: int) -> bytes:
        """Bytes with the top bit set: no protocol here uses them."""
        return bytes(self._rng.integers(128, 256, count, dtype=np.uint8))


@functools.cache
def _bauds() -> dict[int, int]:
    """The system's codes of baud rates → baud."""
    import termios  # there is none on Windows

    return {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}


class _Pty:
    """A pseudo-terminal behind a link that keeps its name, as links in /dev/serial/by-id do."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rakelight-serial-"))
        self._link = self._folder / "port"
        self.url = str(self._link)
        self._master: int | None = None
        self._slave: int | None = None
        self.appear()

    def appear(self) -> None:
        if self._master is None:
            import tty  # there is none on Windows

            self._master, self._slave = os.openpty()
            tty.setraw(self._master)
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self._link.symlink_to(os.ttyname(self._slave))

    def vanish(self) -> None:
        if self._master is not None and self._slave is not None:
            self._link.unlink(missing_ok=True)
            os.close(self._slave)
            os.close(self._master)
            self._master = self._slave = None

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def waiting(self) -> list[Any]:
        return [] if self._master is None else [self._master]

    def read(self, ready: list[Any]) -> bytes:
        if self._master is None or self._master not in ready:
            return b""
        try:
            return os.read(self._master, 4096)
        except OSError:  # nothing there after all
            return b""

    def write(self, data: bytes) -> None:
        if self._master is not None:
            with contextlib.suppress(BlockingIOError):  # nobody reads: an overrun, the bytes are lost
                os.write(self._master, data)

    def baud(self) -> int | None:
        """The rate at which the host opened the port; None if the system's number is unknown."""
        if self._slave is None:
            return None
        import termios

        return _bauds().get(termios.tcgetattr(self._slave)[5])


class _Tcp:
    """A TCP port on the loopback interface for one client at a time, as serial-to-Ethernet servers are."""

    def __init__(self) -> None:
        self._number = 0
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self.appear()
        self.url = f"socket://127.0.0.1:{self._number}"

    def appear(self) -> None:
        if self._listener is None:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            if os.name == "posix":  # elsewhere the option would let two programs share the number
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._number))
            listener.listen()
            listener.setblocking(False)
            self._number = listener.getsockname()[1]
            self._listener = listener

    def vanish(self) -> None:
        for link in (self._client, self._listener):
            if link is not None:
                link.close()
        self._client = self._listener = None

    def remove(self) -> None:
        """Nothing is left on disk."""

    def waiting(self) -> list[Any]:
        return [link for link in (self._client, self._listener) if link is not None]

    def read(self, ready: list[Any]) -> bytes:
        data = self._receive() if self._client is not None else b""
        if self._listener is not None and self._listener in ready:
            with contextlib.suppress(OSError):  # it may have gone again
                link, _ = self._listener.accept()
                if self._client is not None:
                    link.close()
                else:
                    link.setblocking(False)
                    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._client = link
        return data

    def _receive(self) -> bytes:
        """All that is there; notices that the client has gone."""
        pieces = []
        for _ in itertools.count():
            assert self._client is not None
            try:
                piece = self._client.recv(4096)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                self._client.close()
                self._client = None
                break
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, data: bytes) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):  # the client has gone; noticed when reading
                self._client.send(data)

    def baud(self) -> None:
        """A socket carries no baud rate."""
        return None
