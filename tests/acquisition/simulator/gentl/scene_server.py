"""The scene of the tests, in a process of its own: it answers the camera while the consumer holds the interpreter's lock.

Run as a program it takes one JSON line for each order, ``[method, {arguments}]``, and answers with one.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

HEAD = struct.Struct("<4sIQQ")
RENDER = struct.Struct("<QQQQIIIIIIddQ")
ASK_FIELDS = (
    "id", "trigger_ns", "start_ns", "end_ns", "width", "height", "x", "y", "code", "source", "exposure_us", "gain_db", "size",
)  # fmt: skip
HELLO, STATE, ASKED, FRAME_SHM, FRAME, FAULT, TRIGGER, LINE = range(1, 9)
DROP, INCOMPLETE, DUPLICATE, UNPLUG = range(1, 5)
NAMES = {
    0x01080001: "Mono8", 0x01100003: "Mono10", 0x010A0046: "Mono10p", 0x01100005: "Mono12", 0x010C0047: "Mono12p",
    0x01080009: "BayerRG8", 0x0110000D: "BayerRG10", 0x01100011: "BayerRG12", 0x010C0059: "BayerRG12p",
    0x02180014: "RGB8",
}  # fmt: skip
"""PFNC codes, as the EMVA publishes them."""
BITS = {"Mono10": 10, "Mono10p": 10, "BayerRG10": 10, "Mono12": 12, "Mono12p": 12, "BayerRG12": 12, "BayerRG12p": 12}
WIDTH, HEIGHT = 64, 48


def values(name: str, width: int, height: int, x0: int, y0: int, frame_id: int) -> np.ndarray:
    """What the test's scene shows: (H, W) or (H, W, 3), a gradient that depends on place and frame."""
    x, y = np.meshgrid(np.arange(x0, x0 + width), np.arange(y0, y0 + height))
    grey = (x * 37 + y * 101 + frame_id * 11) % (1 << BITS.get(name, 8))
    return np.stack((grey, 255 - grey, grey // 2), axis=-1) if name == "RGB8" else grey


def encoded(name: str, grey: np.ndarray) -> bytes:
    """Values as PFNC bytes, packed ones bit by bit from the least significant on."""
    if name.endswith("p"):
        bits = (grey.ravel()[:, None] >> np.arange(BITS[name])) & 1
        return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()
    return grey.astype("<u2" if name in BITS else np.uint8).tobytes()


class Scene:
    """Plays the scene for one camera."""

    def __init__(self, folder: str, colour: int = 0, shared: bool = True, size: tuple[int, int] = (WIDTH, HEIGHT)):
        self.size, self.colour = size, colour
        self.file = Path(folder) / "pixels" if shared else None
        if self.file:
            self.file.write_bytes(bytes(size[0] * size[1] * 3))
        self.faults: dict[int, tuple[int, int]] = {}
        self.delay_s = 0.0
        self.short_by = 0  # bytes that inline frames lack
        self.asked: list[dict[str, Any]] = []
        self.states: list[tuple[Any, ...]] = []
        self.lines: list[tuple[int, int, int]] = []
        self.serial = ""
        self.connection: socket.socket | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def send(self, kind: int, payload: bytes, seq: int = 0) -> None:
        assert self.connection is not None
        self.connection.sendall(HEAD.pack(b"RKL1", kind, seq, len(payload)) + payload)

    def trigger(self, edge_ns: int = 0) -> None:
        self.send(TRIGGER, struct.pack("<IQ", 0, edge_ns or time.monotonic_ns()))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # ends an accept that waits; close alone does not
        self.listener.close()
        self.hang_up()

    def fault(self, frame_id: int, what: int, size: int = 0) -> None:
        self.faults[frame_id] = (what, size)

    def slow(self, delay_s: float) -> None:
        self.delay_s = delay_s

    def cut(self, short_by: int) -> None:
        self.short_by = short_by

    def report(self) -> dict[str, Any]:
        seen = {name: getattr(self, name) for name in ("asked", "states", "lines", "serial")}
        return {**seen, "connected": self.connection is not None}

    def hang_up(self) -> None:
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                if self.connection is not None:
                    connection.close()  # one camera at a time
                    continue
                self.connection = connection
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while head := stream.read(HEAD.size):
                _, kind, seq, length = HEAD.unpack(head)
                self._answer(kind, seq, stream.read(length))
        self.connection = None

    def _answer(self, kind: int, seq: int, payload: bytes) -> None:
        if kind == HELLO:
            self.serial = payload[4:].rstrip(b"\0").decode()
            path, size = (str(self.file).encode(), self.file.stat().st_size) if self.file else (b"", 0)
            self.send(HELLO, struct.pack("<IIIIQ512s", 1, *self.size, self.colour, size, path), seq)
        elif kind == STATE:
            self.states.append(struct.unpack("<IIdd", payload))
        elif kind == LINE:
            self.lines.append(struct.unpack("<IIQ", payload))
        elif kind == ASKED:
            ask = dict(zip(ASK_FIELDS, RENDER.unpack(payload), strict=True))
            self.asked.append(ask | {"at_ns": time.monotonic_ns()})
            time.sleep(self.delay_s)
            self._show(seq, SimpleNamespace(**self.asked[-1]))

    def _show(self, seq: int, ask: SimpleNamespace) -> None:
        if ask.id in self.faults:
            self.send(FAULT, struct.pack("<IQ", *self.faults.pop(ask.id)), seq)
            return
        name = NAMES[ask.code]
        pixels = encoded(name, values(name, ask.width, ask.height, ask.x, ask.y, ask.id))
        assert len(pixels) == ask.size
        if self.file is None:
            self.send(FRAME, pixels[: len(pixels) - self.short_by], seq)
            return
        with open(self.file, "r+b") as shared:
            shared.write(pixels)
        self.send(FRAME_SHM, struct.pack("<QQ", 0, len(pixels)), seq)


def main() -> None:
    scene: Any = None
    for line in sys.stdin:
        method, arguments = json.loads(line)
        if method == "open":
            scene = Scene(**arguments)
            answer: Any = scene.address
        else:
            answer = getattr(scene, method)(**arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
