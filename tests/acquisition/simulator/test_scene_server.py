"""The scene's end of the scene link: it outlives a picture that could not be made, and every format of the camera is made."""

from __future__ import annotations

import logging
import socket
import struct
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from rakelight.acquisition.simulator.exposure import FORMATS
from rakelight.acquisition.simulator.gentl.sfnc import PIXEL_FORMATS
from rakelight.acquisition.simulator.scene_server import HEADER, HELLO, MAGIC, RENDER, Request, SceneServer


def test_every_format_that_the_camera_offers_is_rendered() -> None:
    assert {code for code, _ in PIXEL_FORMATS.values()} <= set(FORMATS)


def _hello(link: socket.socket) -> int:
    link.sendall(HEADER.pack(MAGIC, HELLO, 7, 68) + struct.pack("<I64s", 1, b"SIM"))
    header: bytes = link.recv(HEADER.size, socket.MSG_WAITALL)
    return int(HEADER.unpack(header)[2]) if header else -1


def test_a_renderer_that_fails_unplugs_the_camera_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request) -> NDArray[np.uint8]:
        raise ValueError("no such picture")

    server = SceneServer(16, 16, True, broken)
    try:
        address = ("127.0.0.1", int(server.address.rsplit(":")[-1]))
        with socket.create_connection(address, timeout=5) as link, caplog.at_level(logging.ERROR):
            assert _hello(link) == 7
            link.sendall(HEADER.pack(MAGIC, RENDER, 8, 80) + bytes(80))
            while link.recv(4096):
                pass  # what was left of HELLO, then the end
        for _ in range(200):  # the line is written after the link is closed
            if "no such picture" in caplog.text:
                break
            time.sleep(0.01)
        assert "no such picture" in caplog.text
        with socket.create_connection(address, timeout=5) as link:
            assert _hello(link) == 7
    finally:
        server.close()
