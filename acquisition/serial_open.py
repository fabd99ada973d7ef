"""Opening a serial port within a limit, with errors that tell how to cure them; and which ports there are."""

from __future__ import annotations

import contextlib
import errno
import glob
import importlib
import os
import socket
import stat
import threading
from dataclasses import dataclass
from typing import Any

import serial
import serial.tools.list_ports
import serial.urlhandler.protocol_socket

from rakelight.errors import DeviceError

_SLICE_S = 0.004
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EIO)
_BUSY = (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK)
_alone = True


def share_ports() -> None:
    """From now on this process opens ports that another one holds, where the system can: for a guardian whose program hangs."""
    global _alone
    _alone = os.name != "posix"  # Windows knows no shared ports


@dataclass(frozen=True)
class PortInfo:
    """A serial port of this computer: its name, what the system says of it, its adapter's serial number ("" if none), and a
    name that stays when it is plugged in elsewhere ("" if there is none)."""

    name: str
    description: str
    serial_number: str = ""
    stable_name: str = ""


def list_ports() -> list[PortInfo]:
    """The serial ports that this computer has, by name."""
    stable = {os.path.realpath(link): link for link in glob.glob("/dev/serial/by-id/*")}
    return sorted(
        (
            PortInfo(p.device, p.description or "", p.serial_number or "", stable.get(os.path.realpath(p.device), ""))
            for p in serial.tools.list_ports.comports()
        ),
        key=lambda p: p.name,
    )


class _Socket(serial.urlhandler.protocol_socket.Serial):  # type: ignore[misc]
    """pyserial's ``socket://`` with a limit on the time to connect, and without its pause of 0.3 s after each close."""

    connect_s = 5.0

    def open(self) -> None:
        self._socket = self.logger = None
        try:
            self._socket = socket.create_connection(self.from_url(self.portstr), timeout=self.connect_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as e:
            raise serial.SerialException(e.errno, f"could not connect: {e}") from e
        self._socket.setblocking(False)
        self.is_open = True

    def close(self) -> None:
        link, self._socket, self.is_open = self._socket, None, False
        if link is not None:
            with contextlib.suppress(OSError):  # the other side may have gone first
                link.shutdown(socket.SHUT_RDWR)
            link.close()


def open_serial(url: str, baud: int, limit_s: float) -> Any:
    """An open pyserial port, exclusive, 8N1, whose reads wait at most a few milliseconds.

    Raises :class:`DeviceError`: ``port.missing``, ``port.busy``, ``port.permission``, ``port.url``. A system that hangs while
    it opens a port (a dead USB hub, a silent server) is given up after ``limit_s``.
    """
    outcome: list[Any] = []
    guard = threading.Condition()
    given_up = False

    def work() -> None:
        result: Any
        try:
            result = _open(url, baud, limit_s)
        except Exception as e:  # handed to the caller
            result = e
        with guard:
            outcome.append(result)
            guard.notify()
            if given_up and not isinstance(result, Exception):
                result.close()

    threading.Thread(target=work, name=f"open {url}", daemon=True).start()
    with guard:
        guard.wait_for(lambda: bool(outcome), limit_s)
        given_up = not outcome
    if given_up:
        raise DeviceError(
            f"{url} did not open within {limit_s:.2f} s",
            hint="unplug the adapter and plug it in again, or check the server's address",
            code="port.missing",
        )
    if isinstance(outcome[0], Exception):
        raise _cure(url, outcome[0]) from outcome[0]
    return outcome[0]


def _open(url: str, baud: int, limit_s: float) -> Any:
    options = {"baudrate": baud, "timeout": _SLICE_S, "write_timeout": 1.0}
    if url.lower().startswith("socket://"):
        port = _Socket(None, **options)
        port.connect_s = limit_s
        port.port = url
        port.open()
        return port
    return serial.serial_for_url(url, exclusive=_alone, **options)


def _cure(url: str, error: Exception) -> DeviceError:
    """What went wrong while opening, and what to do."""
    number = getattr(error, "errno", None) or getattr(error.__context__, "errno", None)
    text = str(error)
    if (
        number in _BUSY or "PermissionError(13" in text
    ):  # the latter is what Windows says of a port in use, in any language
        return DeviceError(
            f"{url} is in use by another program",
            hint="close the other program (another rakelight, a terminal, the maker's tool)",
            code="port.busy",
        )
    if number in (errno.EACCES, errno.EPERM):
        return _permission(url)
    if isinstance(error, ValueError) and not isinstance(error, serial.SerialException):
        return DeviceError(
            f"{url!r} cannot be opened as a serial port: {text}",
            hint="write for example /dev/ttyUSB0, COM3 or socket://192.168.0.7:4001, and a usual baud rate",
            code="port.url",
        )
    if "://" in url:
        return DeviceError(
            f"nothing answers at {url}: {text}",
            hint="check that the device server is on, its address and its port number",
            code="port.missing",
        )
    what = "does not exist" if number in _GONE or "FileNotFoundError" in text else f"cannot be opened: {text}"
    return DeviceError(f"{url} {what}; {_there_are()}", hint="plug it in, or name one of these", code="port.missing")


def _there_are() -> str:
    ports = list_ports()
    if not ports:
        return "this computer has no serial ports now"
    return "ports there are: " + ", ".join(f"{p.stable_name or p.name} ({p.description})" for p in ports)


def _permission(url: str) -> DeviceError:
    """Names the group that may use the port, read from the device file itself."""
    try:
        state = os.stat(url)
        group = importlib.import_module("grp").getgrgid(state.st_gid).gr_name  # there is no grp on Windows
    except (OSError, KeyError, ImportError):
        return DeviceError(
            f"{url} may not be opened by this user",
            hint="ask who looks after this computer for the right to use serial ports",
            code="port.permission",
        )
    mode = stat.filemode(state.st_mode)
    allowed = bool(state.st_mode & stat.S_IWGRP)
    return DeviceError(
        f"{url} may not be opened by this user; it belongs to the group {group} ({mode})",
        hint=f"join the group: sudo usermod -aG {group} $USER, then log out and in again"
        if allowed
        else f"its mode {mode} keeps the group {group} out too; mend the udev rule that set it",
        code="port.permission",
    )
