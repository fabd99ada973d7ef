"""The one serial transport: ask, and read until the protocol says that the answer is whole, within a deadline.

Every port that pyserial can open by URL will do: ``/dev/ttyUSB0``, ``/dev/serial/by-id/…``, ``COM3``, ``socket://host:port``
(serial-to-Ethernet servers), ``rfc2217://…``, ``loop://``. A port is opened for this program alone, used by one thread at a
time, emptied of old bytes before each request, closed and opened anew after an answer that makes no sense, and opened again
by the same URL after it had vanished.

Deadlines are of the monotonic clock and come from the bytes' own time on the line plus the device's latency (``line_time_s``).
Errors are :class:`DeviceError`: ``port.missing``, ``port.busy``, ``port.permission``, ``port.lost``, ``<kind>.no_answer`` and
``<kind>.wrong_answer``. Opening errors and names of ports are in :mod:`rakelight.acquisition.serial_open`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import serial

from rakelight.acquisition.serial_open import PortInfo, list_ports, open_serial
from rakelight.errors import DeviceError

__all__ = [
    "PortInfo",
    "PortStatistics",
    "Reader",
    "SerialPort",
    "as_hex_and_text",
    "exactly",
    "list_ports",
    "terminated",
]

Reader = Callable[[bytes], int | None]
"""Judges the bytes that came so far, always from the first: how many of them make the whole answer; None when more are
needed; ValueError (with the reason) when they can never become an answer to this request."""

_SLICE_S = 0.004  # longest single wait: a call passes its deadline by no more
_MOST_BYTES = 4096  # an answer is shorter; more is noise
_OPEN_S = 2.0
_QUIET_S = 0.01
_NAMES = {"light": "light controller"}


def terminated(end: bytes, longest: int = 256) -> Reader:
    """Answers that end with ``end``."""

    def judge(received: bytes) -> int | None:
        place = received.find(end)
        if place < 0 and len(received) > longest:
            raise ValueError(f"no {end!r} within {longest} bytes")
        return None if place < 0 else place + len(end)

    return judge


def exactly(count: int) -> Reader:
    """Answers of ``count`` bytes."""
    return lambda received: count if len(received) >= count else None


def as_hex_and_text(data: bytes, most: int = 48) -> str:
    """Bytes for a person: ``40 30 30 4F ("@00O")``, cut after ``most`` bytes."""
    shown = data[:most]
    text = "".join(chr(b) if 32 <= b < 127 else "·" for b in shown)
    more = f" … {len(data)} bytes in all" if len(data) > most else ""
    return f'{shown.hex(" ").upper()} ("{text}"){more}' if data else "nothing"


@dataclass(frozen=True)
class PortStatistics:
    """What passed through a port since it was made; ``slowest_s`` and ``mean_s`` are from the request's first byte to the
    answer's last, ``discarded`` counts bytes that nobody had asked for."""

    exchanges: int = 0
    retries: int = 0
    failures: int = 0
    reopened: int = 0
    sent: int = 0
    received: int = 0
    discarded: int = 0
    slowest_s: float = 0.0
    total_s: float = 0.0

    @property
    def mean_s(self) -> float:
        return self.total_s / self.exchanges if self.exchanges else 0.0


class SerialPort:
    """A serial port, open from the start.

    Parameters
    ----------
    url : str
        Whatever ``serial.serial_for_url`` takes.
    baud : int
        8 data bits, no parity, one stop bit: what every protocol here uses.
    kind : str
        First part of the error codes: ``light``, ``projector``.
    open_s : float
        Longest time that opening may take.

    Raises
    ------
    DeviceError
        ``port.missing`` (lists the ports there are), ``port.busy``, ``port.permission`` (names the group to join).
    """

    def __init__(self, url: str, baud: int, *, kind: str = "device", open_s: float = _OPEN_S) -> None:
        self.url, self.baud, self.kind = url, baud, kind
        self._name = _NAMES.get(kind, kind)
        self._lock = threading.RLock()
        self._statistics = PortStatistics()
        self._suspect_until = 0.0
        self._ended = False
        self.generation = 0
        """Rises each time the port is opened anew: what was believed of the device may be wrong."""
        self._serial: Any = open_serial(url, baud, open_s)

    # ------------------------------------------------------------------------------------------------------- asking
    def line_time_s(self, sent: int, received: int = 0) -> float:
        """Time that so many bytes take on the line: ten bits each (start, eight data, stop)."""
        return (sent + received) * 10 / self.baud

    def exchange(self, request: bytes, *, until: Reader | None, deadline_s: float, idempotent: bool = False) -> bytes:
        """Send a request and return its whole answer.

        Parameters
        ----------
        request : bytes
            Sent after all bytes that waited in the input were thrown away.
        until : Reader or None
            Tells when the answer is whole. None: the device never answers; returns when the bytes have left the line.
        deadline_s : float
            For the whole call, retry and reopening included; it is passed by less than 10 ms.
        idempotent : bool
            Whether sending twice does no harm: then there is one retry, and each try has half of the time.

        Raises
        ------
        DeviceError
            ``<kind>.no_answer``; ``<kind>.wrong_answer`` with what came back; ``port.lost`` when the port is gone and cannot
            be opened again; ``port.busy`` when another thread holds it for the whole time.
        """
        end = time.monotonic() + deadline_s
        if not self._lock.acquire(timeout=deadline_s):
            raise DeviceError(
                f"{self.url} was in use by another thread for {deadline_s:.2f} s",
                hint="wait until its call has ended",
                code="port.busy",
            )
        try:
            if self._ended:
                raise DeviceError(f"{self.url} is closed", hint="open the device again", code="port.lost")
            return self._exchange(request, until, end, idempotent)
        except DeviceError:
            raise
        except BaseException:  # Ctrl-C: the answer may still come
            self._suspect_until = max(self._suspect_until, time.monotonic() + deadline_s / 2)
            raise
        finally:
            self._lock.release()

    def _exchange(self, request: bytes, until: Reader | None, end: float, twice: bool) -> bytes:
        began = time.monotonic()
        half = (end - began) / 2
        if twice:
            try:
                return self._attempt(request, until, end - half)
            except DeviceError as e:
                self._failed(e, half, end - half)
                if time.monotonic() >= end:
                    raise
            self._count(retries=1)
        try:
            return self._attempt(request, until, end)
        except DeviceError as e:
            self._failed(e, half, end)
            raise

    def _failed(self, error: DeviceError, listen_s: float, limit: float) -> None:
        """After a failure: an answer may still be on its way, and must not be taken for the next one.

        Less is to be feared where the answer came in time and was wrong: silence followed it.
        """
        self._count(failures=1)
        now = time.monotonic()
        self._suspect_until = now + (listen_s if now >= limit else min(listen_s, _QUIET_S))
        if error.code != f"{self.kind}.no_answer":
            self._close_serial()  # the next attempt opens it anew, with nothing left in any buffer

    def _attempt(self, request: bytes, until: Reader | None, end: float) -> bytes:
        began = time.monotonic()
        with self._losses(end - began):
            self._ready(end)
            self._empty(end)
            began = time.monotonic()
            left = max(end - began, _SLICE_S)
            if not 0.8 * left < self._serial.write_timeout <= 1.1 * left:  # each change sets the whole port up anew
                self._serial.write_timeout = left
            self._serial.write(request)
            gone = began + self.line_time_s(len(request))
            if until is None:
                time.sleep(max(gone - time.monotonic(), 0.0))
                answer = b""
            else:
                answer = self._read(request, until, end)
        self._counted(len(request), len(answer), time.monotonic() - began)
        return answer

    def _read(self, request: bytes, until: Reader, end: float) -> bytes:
        received = b""
        while True:
            received += self._serial.read(max(1, min(self._serial.in_waiting, _MOST_BYTES)))
            try:
                length = until(received) if received else None
            except ValueError as e:
                raise self._wrong(request, received + self._rest(end), str(e)) from e
            if length is not None:
                if received[length:].strip(b"\r\n\0 "):
                    raise self._wrong(request, received, f"{len(received) - length} bytes more than the answer has")
                return received[:length]
            if len(received) > _MOST_BYTES:
                raise self._wrong(request, received, "it does not end")
            if time.monotonic() >= end:
                if received:
                    raise self._wrong(request, received, "it was cut short")
                raise self._silent(request)

    def _rest(self, end: float) -> bytes:
        """What else comes of an answer that is wrong already, for the error to show: until two slices of silence."""
        rest, silent = b"", 0
        while silent < 2 and len(rest) < _MOST_BYTES and time.monotonic() < end:
            more = self._serial.read(max(1, self._serial.in_waiting))
            rest, silent = rest + more, 0 if more else silent + 1
        return rest

    # ---------------------------------------------------------------------------------------------- the port itself
    def reopen(self) -> None:
        """Close and open by the same URL; raises what opening raises."""
        with self._lock:
            self._close_serial()
            self._open(_OPEN_S)

    def close(self) -> None:
        """Close for good; may be called twice."""
        with self._lock:
            self._ended = True
            self._close_serial()

    def __enter__(self) -> SerialPort:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        return self._serial is not None

    @property
    def statistics(self) -> PortStatistics:
        return self._statistics

    def _open(self, limit_s: float) -> None:
        self._serial = open_serial(self.url, self.baud, limit_s)
        self.generation += 1
        self._count(reopened=1)

    def _ready(self, end: float) -> None:
        """Open the port if it is not, within what is left of the time."""
        if self._serial is not None:
            return
        try:
            self._open(max(end - time.monotonic(), _SLICE_S))
        except DeviceError as e:
            if e.code in ("port.busy", "port.permission"):
                raise
            raise self._lost(e.message) from e

    def _empty(self, end: float) -> None:
        """Throw away what waits in the input; while an old answer may still come, listen for it up to a quarter of the time."""
        now = time.monotonic()
        listen_until = min(self._suspect_until, now + (end - now) / 4)
        self._suspect_until = 0.0
        dropped = 0
        while (waiting := self._serial.in_waiting) or time.monotonic() < listen_until:
            dropped += len(self._serial.read(max(1, waiting)))
            if dropped > _MOST_BYTES or time.monotonic() >= end:
                raise self._wrong(b"", b"", f"{dropped} bytes came that nobody had asked for")
        self._count(discarded=dropped)

    def _close_serial(self) -> None:
        old, self._serial = self._serial, None
        if old is not None:
            with contextlib.suppress(OSError):  # a port that is gone cannot be closed in order
                old.close()

    @contextlib.contextmanager
    def _losses(self, limit_s: float) -> Iterator[None]:
        """Turns what pyserial raises when a port vanishes into ``port.lost``."""
        try:
            yield
        except serial.SerialTimeoutException as e:
            raise DeviceError(
                f"{self.url} took no bytes for {limit_s:.2f} s",
                hint="check the cable and that no flow control is set; unplug the adapter and plug it in again",
                code=f"{self.kind}.no_answer",
            ) from e
        except (OSError, TypeError) as e:  # TypeError: pyserial's, when its descriptor was closed under it
            self._close_serial()
            raise self._lost(str(e)) from e

    # ------------------------------------------------------------------------------------------------------ errors
    def _lost(self, why: str) -> DeviceError:
        return DeviceError(
            f"the connection to {self.url} is gone: {why}",
            hint="plug the adapter in again, check that the server is on and that no other program is connected to it; "
            "the port is opened again at the next call",
            code="port.lost",
        )

    def _silent(self, request: bytes) -> DeviceError:
        return DeviceError(
            f"the {self._name} at {self.url} did not answer {as_hex_and_text(request)}",
            hint=f"check that it is switched on, that this is its port, the baud rate (here {self.baud}), the protocol, "
            "and that the cable is of the right kind (straight or crossed)",
            code=f"{self.kind}.no_answer",
        )

    def _wrong(self, request: bytes, received: bytes, why: str) -> DeviceError:
        asked = f" to {as_hex_and_text(request)}" if request else ""
        return DeviceError(
            f"the {self._name} at {self.url} answered {as_hex_and_text(received)}{asked}: {why}",
            hint=f"usual causes: another baud rate (here {self.baud}), another protocol or dialect, "
            "another device on this port, a bad cable",
            code=f"{self.kind}.wrong_answer",
        )

    # -------------------------------------------------------------------------------------------------- statistics
    def _count(self, **more: int) -> None:
        old = self._statistics
        self._statistics = replace(old, **{name: getattr(old, name) + n for name, n in more.items()})

    def _counted(self, sent: int, received: int, took_s: float) -> None:
        old = self._statistics
        self._statistics = replace(
            old,
            exchanges=old.exchanges + 1,
            sent=old.sent + sent,
            received=old.received + received,
            slowest_s=max(old.slowest_s, took_s),
            total_s=old.total_s + took_s,
        )
