"""Where verdicts go as lines of JSON: a log file, and sockets to a PLC or MES.

Nobody who takes lines can hold up the judging: a log line is one append, and everything to do with sockets happens in a
thread of its own (:class:`LineSender`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rakelight import files
from rakelight.errors import InputError

QUEUED = 1000  # lines kept for a peer that takes none; a day's parts of a slow line
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between attempts to connect
_CONNECT_S = 3.0
_STALLED_S = 30.0  # a peer that takes nothing for so long while a line waits is gone
_DRAIN_S = 2.0  # at the end


def json_line(value: Mapping[str, Any]) -> bytes:
    """One line of UTF-8 JSON, with its ``\\n``; no NaN."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()


class LineLog:
    """A ``.jsonl`` file that grows by whole lines, each on the disk when :meth:`write` returns.

    A last line that a power cut tore is ended first, so that the next one stands by itself. Raises :class:`StorageError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files.make_folder(path.absolute().parent)
        files.append_bytes(path, b"" if _ends_whole(path) else b"\n")

    def write(self, line: bytes) -> None:
        files.append_bytes(self.path, line)


def _ends_whole(path: Path) -> bool:
    try:
        with open(path, "rb") as handle:
            if handle.seek(0, os.SEEK_END) == 0:
                return True
            handle.seek(-1, os.SEEK_END)
            return handle.read(1) == b"\n"
    except FileNotFoundError:
        return True
    except OSError as error:
        raise files.storage_error(error, path) from error


def parse_address(text: str, *, host: str | None = None) -> tuple[str, int]:
    """``HOST:PORT`` (``[::1]:5000`` of IPv6) → host and port; with ``host`` given, ``PORT`` alone means that host.

    Raises :class:`InputError` (``tcp.address``).
    """
    name, _, port = text.rpartition(":")
    name = name.removeprefix("[").removesuffix("]") if name.startswith("[") else name
    bare = ":" in name and not text.startswith("[")
    if (not name and host is None) or bare or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        needed = "HOST:PORT" if host is None else "PORT or HOST:PORT"
        raise InputError(
            f"{text!r} is no address; needed: {needed}, the port 1 to 65535",
            hint="such as 192.168.0.20:5000, mes.local:5000 or [fd00::7]:5000",
            code="tcp.address",
        )
    return name or str(host), int(port)


@dataclass(frozen=True)
class Note:
    """What happened to a connection, in words; a ``warning`` unless all is well."""

    text: str
    warning: bool = True


@dataclass(eq=False)
class _Peer:
    """One connection: lines that wait for it, and the one that is on its way."""

    socket: socket.socket
    name: str
    waiting: deque[bytes]
    begun: bytes = b""  # the line of which a part was taken
    left: memoryview = field(default_factory=lambda: memoryview(b""))  # what of it was not
    moved: float = 0.0  # when it last took something, or had nothing to take


class LineSender:
    """Sends lines over TCP, to one peer that it connects to or to all that connect to it.

    :meth:`send` only puts the line into a queue. Lines that could not be sent wait (up to ``queued``, then the oldest are lost
    and counted) and go out in order as soon as there is a peer again; the line on which a connection broke is sent again whole,
    so a peer may see a line twice, with the same number. A line that the system had taken but the peer had not when it went
    away is lost: TCP tells nobody. Of several peers each gets all lines from the moment it connects, and the first one after
    a time without any gets what waited. Whatever peers send is read and ignored.

    Parameters
    ----------
    connect : (host, port), optional
        The peer to connect to; it may be absent, and come and go.
    listen : (host, port), optional
        Where to take connections instead; port 0 takes a free one. :class:`InputError` (``tcp.port``) if it cannot be had.
    """

    def __init__(
        self,
        *,
        connect: tuple[str, int] | None = None,
        listen: tuple[str, int] | None = None,
        queued: int = QUEUED,
        stalled_s: float = _STALLED_S,
    ) -> None:
        self._target, self._queued, self._stalled_s = connect, queued, stalled_s
        self._server = None if listen is None else _listening(listen)
        self.address = connect or (self._server.getsockname()[:2] if self._server is not None else ("", 0))
        self._inbox: deque[bytes] = deque()
        self._notes: deque[Note] = deque(maxlen=100)
        self._backlog: deque[bytes] = deque()
        self._peers: list[_Peer] = []
        self._attempts, self._next_attempt = 0, 0.0
        self._closing: float | None = None  # when to give up sending
        self.sent = self.lost = 0  # lines: taken by a peer's system, and dropped from full queues
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        if self._server is not None:
            self._selector.register(self._server, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="verdicts", daemon=True)
        self._thread.start()

    def send(self, line: bytes) -> None:
        """Queue a line; returns at once."""
        self._inbox.append(line)
        self._ring()

    def notes(self) -> list[Note]:
        """What happened to connections since the last call."""
        told = []
        with contextlib.suppress(IndexError):
            while True:
                told.append(self._notes.popleft())
        return told

    def close(self, drain_s: float = _DRAIN_S) -> dict[str, int]:
        """Send what waits for at most so long, then end; returns :meth:`facts`. May be called twice."""
        if self._thread.is_alive():
            self._closing = time.monotonic() + drain_s
            self._ring()
            self._thread.join(drain_s + _CONNECT_S + 1)
        return self.facts()

    def facts(self) -> dict[str, int]:
        """Lines ``sent``, ``lost`` from full queues, and ``waiting``; ``peers`` connected now."""
        peers = list(self._peers)
        waiting = len(self._inbox) + max([len(self._backlog), *(len(p.waiting) + bool(p.left) for p in peers)])
        return {"sent": self.sent, "lost": self.lost, "waiting": waiting, "peers": len(peers)}

    # ------------------------------------------------------------------------------------------ in the thread
    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake anyway; closed: it has ended
            self._wake.send(b"!")

    def _run(self) -> None:
        try:
            while not self._finished():
                if self._target is not None and not self._peers and time.monotonic() >= self._next_attempt:
                    self._connect(self._target)
                self._step(0.05 if self._closing is not None else 0.5)
        finally:
            for peer in list(self._peers):
                with contextlib.suppress(OSError):
                    peer.socket.shutdown(socket.SHUT_WR)  # what the system has taken still goes out
                    while peer.socket.recv(65536):  # what is left unread would make closing a reset
                        pass
                self._part(peer, "")
            for closing in (self._server, self._wake, self._woken):
                if closing is not None:
                    closing.close()
            self._selector.close()

    def _finished(self) -> bool:
        if self._closing is None:
            return False
        empty = not self._inbox and not self._backlog and not any(p.waiting or p.left for p in self._peers)
        return empty or time.monotonic() >= self._closing

    def _step(self, wait_s: float) -> None:
        """Wait for something to do, and do it."""
        if self._target is not None and not self._peers:
            wait_s = min(wait_s, max(0.0, self._next_attempt - time.monotonic()))
        for key, events in self._selector.select(wait_s):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            elif key.fileobj is self._server:
                self._accept()
            elif key.data in self._peers:
                if events & selectors.EVENT_READ and not self._listen_to(key.data):
                    continue
                if events & selectors.EVENT_WRITE:
                    self._give(key.data)
        self._distribute()
        for peer in list(self._peers):
            self._give(peer)
            if (peer.left or peer.waiting) and time.monotonic() - peer.moved > self._stalled_s:
                self._part(peer, f"took nothing for {self._stalled_s:.0f} s")

    def _distribute(self) -> None:
        while self._inbox:
            line = self._inbox.popleft()
            for idle in (p for p in self._peers if not p.waiting and not p.left):
                idle.moved = time.monotonic()
            for queue in [p.waiting for p in self._peers] or [self._backlog]:
                self._put(queue, line)

    def _put(self, queue: deque[bytes], line: bytes) -> None:
        if len(queue) >= self._queued:
            queue.popleft()
            self.lost += 1
            if self.lost == 1:
                self._notes.append(Note(f"nobody took {self._queued} lines: the oldest are being lost"))
        queue.append(line)

    def _connect(self, target: tuple[str, int]) -> None:
        try:
            connected = socket.create_connection(target, timeout=_CONNECT_S)
        except (OSError, UnicodeError) as error:  # the latter of a name that cannot be one
            if self._attempts == 0:
                self._notes.append(Note(f"{_text(target)} does not answer ({error}); trying again, lines wait"))
            self._next_attempt = time.monotonic() + _BACKOFF_S[min(self._attempts, len(_BACKOFF_S) - 1)]
            self._attempts += 1
            return
        self._attempts = 0
        self._join(connected, _text(target))

    def _accept(self) -> None:
        assert self._server is not None
        try:
            connected, where = self._server.accept()
        except OSError:  # it went away again
            return
        self._join(connected, _text(where[:2]))

    def _join(self, connected: socket.socket, name: str) -> None:
        connected.setblocking(False)
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a verdict is small, and awaited
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer = _Peer(connected, name, deque(), moved=time.monotonic())
        if not self._peers:
            peer.waiting, self._backlog = self._backlog, deque()
        self._peers.append(peer)
        self._selector.register(connected, selectors.EVENT_READ, peer)
        self._notes.append(Note(f"connected to {name}", warning=False))

    def _listen_to(self, peer: _Peer) -> bool:
        """Read and forget what a peer says; False where it has gone."""
        try:
            if peer.socket.recv(65536):
                return True
            why = "closed the connection"
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            why = f"broke the connection: {error}"
        self._part(peer, why)
        return False

    def _give(self, peer: _Peer) -> None:
        """Hand over as much as the peer takes without waiting."""
        try:
            while peer.left or peer.waiting:
                if not peer.left:
                    peer.begun = peer.waiting.popleft()
                    peer.left = memoryview(peer.begun)
                peer.left = peer.left[peer.socket.send(peer.left) :]
                peer.moved = time.monotonic()
                self.sent += not peer.left
            peer.moved = time.monotonic()
            self._selector.modify(peer.socket, selectors.EVENT_READ, peer)
        except (BlockingIOError, InterruptedError):
            self._selector.modify(peer.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
        except OSError as error:
            self._part(peer, f"broke the connection: {error}")

    def _part(self, peer: _Peer, why: str) -> None:
        """A peer has gone; if it was the only one, what it did not take waits for the next."""
        if peer not in self._peers:  # it broke while it was being given lines, before it was found to be stalled
            return
        self._peers.remove(peer)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(peer.socket)
        peer.socket.close()
        if not self._peers:
            self._backlog = peer.waiting
            if peer.left:
                self._backlog.appendleft(peer.begun)
        self._next_attempt = time.monotonic() + _BACKOFF_S[0]
        if why:
            self._notes.append(Note(f"{peer.name} {why}"))


def _listening(where: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this option would let two programs share the port
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(where)
        server.listen()
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise InputError(
            f"no connections can be taken at {_text(where)}: {error.strerror or error}",
            hint="choose another port, or end the program that has it",
            code="tcp.port",
        ) from error
    return server


def _text(where: tuple[Any, ...]) -> str:
    host, port = where[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
