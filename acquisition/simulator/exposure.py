"""What the simulated camera gets for an exposure: the scene under the light that shone meanwhile, as bytes of its format."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.scene_server import Request, WireFault
from rakelight.acquisition.simulator.timeline import LightState, Timeline
from rakelight.acquisition.simulator.wire_faults import FaultPlan

# PFNC codes: (bits, colour, packing)
FORMATS = {
    0x01080001: ("Mono8", ""),
    0x01100003: ("Mono10", ""),
    0x01100005: ("Mono12", ""),
    0x010A0046: ("Mono10", "p"),
    0x010C0047: ("Mono12", "p"),
    0x01080009: ("BayerRG8", ""),
    0x0110000D: ("BayerRG10", ""),
    0x01100011: ("BayerRG12", ""),
    0x010A0058: ("BayerRG10", "p"),
    0x010C0059: ("BayerRG12", "p"),
    0x02180014: ("BayerRG8", "RGB"),
}
_KEPT_RATES = 12
_MOVED_PX = 2  # right and down; even, so that every photosite keeps its colour


class Exposures:
    """Renders requests of the camera; the ``render`` of a :class:`SceneServer`.

    ``latency_s`` None makes the picture anew each time; with ``prerendered`` a picture of the same steady light is made
    once and served again (its noise too), for measuring everything but the rendering.
    """

    def __init__(
        self, scene: Scene, timeline: Timeline, faults: FaultPlan, *, seed: int = 0, prerendered: bool = False
    ):
        self._scene, self._timeline, self._faults = scene, timeline, faults
        self._seed, self._prerendered = seed, prerendered
        self._rates: OrderedDict[LightState, NDArray[np.float32]] = OrderedDict()
        self._pictures: dict[Any, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()
        self._shown = LightState()
        self._covered = False
        self.frames = 0

    def place(self, scene: Scene | None) -> None:
        """Another scene under the camera; None: a cap on the lens."""
        with self._lock:
            self._covered = scene is None
            self._scene = scene or self._scene
            self._rates.clear()
            self._pictures.clear()

    def __call__(self, request: Request) -> NDArray[np.uint8] | WireFault:
        """Bytes in the requested format, or the fault planned for this frame."""
        self.frames += 1
        fault = self._faults.of_frame(self.frames, request.bytes)
        if isinstance(fault, WireFault):
            return fault
        if fault:  # seconds that the frame comes late
            time.sleep(fault)
        pieces = self._seen(self._timeline.between(request.start_ns, request.end_ns))
        moved = self._faults.moved_from is not None and self.frames >= self._faults.moved_from
        key = (
            tuple(state for state, _ in pieces), moved,
            request.pixel_format, request.width, request.height, request.offset_x, request.offset_y,
            round(request.exposure_us), round(request.gain_db, 2),
        )  # fmt: skip
        with self._lock:
            if self._prerendered and len(pieces) == 1 and key in self._pictures:
                return self._pictures[key]
            data = self._bytes(request, pieces, moved)
            if self._prerendered and len(pieces) == 1:
                self._pictures[key] = data
            return data

    def _seen(self, pieces: list[tuple[LightState, float]]) -> list[tuple[LightState, float]]:
        """What is lit in each piece of an exposure, with the fault ``stuck``: the pattern of the frame before."""
        if self.frames in self._faults.stuck_frames:
            last = self._shown
            return [
                (state if state.pattern is None else replace(state, direction=last.direction, pattern=last.pattern), us)
                for state, us in pieces
            ]
        shown = [state for state, _ in pieces if state.pattern is not None]
        self._shown = shown[-1] if shown else LightState()
        return pieces

    def _bytes(self, request: Request, pieces: list[tuple[LightState, float]], moved: bool) -> NDArray[np.uint8]:
        electrons = np.zeros(self._scene.shape, np.float32)
        for state, duration_us in [] if self._covered else pieces:
            electrons += self._rate(state) * np.float32(duration_us)
        if moved:
            height, width = electrons.shape
            electrons = np.pad(electrons, ((_MOVED_PX, 0), (_MOVED_PX, 0)), mode="reflect")[:height, :width].copy()
        if request.pixel_format not in FORMATS:
            raise ValueError(f"pixel format 0x{request.pixel_format:08X} is not simulated")
        name, packing = FORMATS[request.pixel_format]
        seed = (self._seed << 32) + self.frames
        raw = self._scene.read_out(electrons, seed, pixel_format=name, gain_db=request.gain_db)
        y, x = request.offset_y, request.offset_x
        if packing == "RGB":
            raw = np.asarray(cv2.cvtColor(raw.astype(np.uint8, copy=False), cv2.COLOR_BayerRGGB2RGB))
        raw = np.ascontiguousarray(raw[y : y + request.height, x : x + request.width])
        return (
            packed(raw, int(name.removeprefix("BayerRG").removeprefix("Mono")))
            if packing == "p"
            else raw.reshape(-1).view(np.uint8)
        )

    def _rate(self, state: LightState) -> NDArray[np.float32]:
        """Electrons per µs under a state of light; the last few are kept."""
        if state not in self._rates:
            lit = Lit(dict(state.zones), state.direction, state.pattern)
            self._rates[state] = self._scene.electrons([(lit, 1.0)])
            while len(self._rates) > _KEPT_RATES:
                self._rates.popitem(last=False)
        self._rates.move_to_end(state)
        return self._rates[state]


def packed(raw: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """(H, W) uint16 of 10 or 12 bits → little-endian bit packing without gaps (PFNC ``p``)."""
    flat = raw.reshape(-1)
    group = {10: 4, 12: 2}[bits]
    values = np.zeros(-(-len(flat) // group) * group, np.uint64)
    values[: len(flat)] = flat
    shifts = (np.arange(group, dtype=np.uint64) * np.uint64(bits))[None]
    words = (values.reshape(-1, group) << shifts).sum(axis=1, dtype=np.uint64)
    size = group * bits // 8
    data = words.view(np.uint8).reshape(-1, 8)[:, :size]
    return np.ascontiguousarray(data).reshape(-1)[: (len(flat) * bits + 7) // 8]
