"""The scene's end of the scene link (docs/scene-link.md): what the simulated camera asks, answered over loopback TCP."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MAGIC = b"RKL1"
HEADER = struct.Struct("<4sIQQ")
HELLO, STATE, RENDER, FRAME_SHM, FRAME, FAULT, TRIGGER, LINE = range(1, 9)
DROP, INCOMPLETE, DUPLICATE, UNPLUG = range(1, 5)
_RENDER = struct.Struct("<QQQQIIIIIIddQ")
_SLOTS = 4


@dataclass(frozen=True)
class Request:
    """A frame that the camera asks for: exposed from ``start_ns`` to ``end_ns`` (host monotonic clock)."""

    frame_id: int
    trigger_ns: int
    start_ns: int
    end_ns: int
    width: int
    height: int
    offset_x: int
    offset_y: int
    pixel_format: int
    trigger_source: int
    exposure_us: float
    gain_db: float
    bytes: int


@dataclass(frozen=True)
class WireFault:
    """What goes wrong with a frame on its way: DROP, INCOMPLETE (``filled`` bytes arrive), DUPLICATE or UNPLUG."""

    what: int
    filled: int = 0


class Renderer(Protocol):
    """Who renders: called in the connection's thread, one request at a time."""

    def __call__(self, request: Request) -> NDArray[np.uint8] | WireFault:
        """The image's bytes in the requested pixel format, or a fault."""


class SceneServer:
    """Listens on a free loopback port; one camera at a time is connected.

    Parameters
    ----------
    width, height : int
        Of the sensor, px.
    bayer : bool
    render : Renderer
    on_line : callable (line, level, at_ns)
        Edges of the camera's outputs (line 1: ExposureActive).
    """

    def __init__(
        self,
        width: int,
        height: int,
        bayer: bool,
        render: Renderer,
        on_line: Callable[[int, int, int], None] = lambda line, level, at_ns: None,
    ) -> None:
        self._size, self._bayer, self._render, self._on_line = (width, height), bayer, render, on_line
        self._slot_bytes = width * height * 3
        folder = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - memory, not a temporary file
        handle, self._path = tempfile.mkstemp(prefix="rakelight-scene-", dir=folder)
        os.ftruncate(handle, _SLOTS * self._slot_bytes)
        self._shared = mmap.mmap(handle, _SLOTS * self._slot_bytes)
        os.close(handle)
        self._next = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connection: socket.socket | None = None
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="scene server", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, for ``RAKELIGHT_SCENE``."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def trigger(self, at_ns: int, line: int = 0) -> None:
        """A rising edge on the camera's input, or (line 1) a trigger command that arrives twice; without a camera it goes
        nowhere."""
        if self._connection is not None:
            with contextlib.suppress(OSError):  # the camera went away: an edge on a loose cable
                self._send(self._connection, TRIGGER, 0, struct.pack("<IQ", line, at_ns))

    def close(self) -> None:
        """Stop listening and drop the camera."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends an accept that waits; close alone does not
        self._listener.close()
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(2.0)
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
            try:
                with connection, contextlib.suppress(OSError, EOFError):  # the camera went away; the next may come
                    self._converse(connection)
            except Exception:  # of the renderer: the camera is unplugged, and may be plugged in again
                logging.getLogger(__name__).exception("the scene could not render a frame")
            self._connection = None

    def _converse(self, connection: socket.socket) -> None:
        while True:
            magic, kind, seq, length = HEADER.unpack(_receive(connection, HEADER.size))
            payload = _receive(connection, length)
            if magic != MAGIC:
                return  # somebody else's program
            if kind == HELLO:
                path = self._path.encode()
                hello = struct.pack("<IIIIQ512s", 1, *self._size, int(self._bayer), len(self._shared), path)
                self._send(connection, HELLO, seq, hello)
            elif kind == RENDER:
                self._answer(connection, seq, Request(*_RENDER.unpack(payload)))
            elif kind == LINE:
                self._on_line(*struct.unpack("<IIQ", payload))

    def _answer(self, connection: socket.socket, seq: int, request: Request) -> None:
        result = self._render(request)
        if isinstance(result, WireFault):
            self._send(connection, FAULT, seq, struct.pack("<IQ", result.what, result.filled))
            return
        start = self._next * self._slot_bytes
        np.frombuffer(self._shared, np.uint8, len(result), start)[:] = result
        self._next = (self._next + 1) % _SLOTS
        self._send(connection, FRAME_SHM, seq, struct.pack("<QQ", start, len(result)))

    def _send(self, connection: socket.socket, kind: int, seq: int, payload: bytes) -> None:
        with self._sending:
            connection.sendall(HEADER.pack(MAGIC, kind, seq, len(payload)) + payload)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Exactly that many bytes; EOFError when the other side has gone."""
    parts: list[Any] = []
    while length:
        part = connection.recv(min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
