"""What every pattern projector must do, on a device that stands at the end of a real wire.

A driver joins by a maker in ``MAKERS``: a function that opens it on a fresh simulated device and returns a :class:`Rig`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from rakelight.acquisition.devices import PatternProjector
from rakelight.acquisition.drivers.projector_bridge import BridgeProjector, ProjectorSettings
from rakelight.acquisition.drivers.projector_frames import MAX_LINE
from rakelight.acquisition.simulator.projector_device import ProjectorDevice
from rakelight.acquisition.simulator.serial_faults import SerialFault
from rakelight.acquisition.simulator.serial_host import SerialHost
from rakelight.acquisition.simulator.timeline import LightState, Timeline
from rakelight.errors import DeviceError
from rakelight.reconstruction.patterns import GrayPhaseShift, Pattern, PatternSet, Uniform

PATTERNS = (*PatternSet(912, 1140, GrayPhaseShift(steps=15)).patterns, Uniform(1.0), Uniform(0.0))  # 24
FEW = (Uniform(0.0), Uniform(1.0), PATTERNS[7])
WHITE = 1
PTY = hasattr(os, "openpty")
DEADLINE_S = 0.24
BAUD = 460800  # fast, so that the tests are
LATE = SerialFault("late", count=1000, late_s=0.4)
LINES_S = 6 * 2 * MAX_LINE * 10 / BAUD  # what a show may put on the line at most: DIR, SHO and DRK, each twice


@dataclass
class Rig:
    """A projector, what it shines, and the means to disturb it."""

    wire: Literal["pty", "socket"]
    timeline: Timeline = field(default_factory=Timeline)
    edges: list[int] = field(default_factory=list)
    opened: list[PatternProjector] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = ProjectorDevice(self.timeline, edge=self.edges.append)
        self.host = SerialHost(self.device, baud=BAUD, latency_s=0.0005, wire=self.wire)

    def open(self, **options: Any) -> BridgeProjector:
        settings = ProjectorSettings(port=self.host.url, baud=BAUD, **options.pop("settings", {}))
        projector = BridgeProjector(settings, **options)
        self.opened.append(projector)
        return projector

    def loaded(self, patterns: Sequence[Pattern] = FEW, **options: Any) -> BridgeProjector:
        projector = self.open(**options)
        projector.load([p.to_plain() for p in patterns])
        return projector

    def light(self) -> LightState:
        time.sleep(0.002)
        return self.timeline.now()

    def close(self) -> None:
        for projector in self.opened:
            projector.close()
        self.host.close()
        self.device.close()


@pytest.fixture(params=["pty", "socket"] if PTY else ["socket"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    threads = set(threading.enumerate())
    made = Rig(request.param)
    yield made
    made.close()
    assert {t for t in threading.enumerate() if not t.name.startswith("open ")} <= threads
    assert made.light() == LightState()


def wait_until(condition: Callable[[], bool], limit_s: float = 3.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.001)


def failing(call: Callable[[], Any]) -> tuple[DeviceError, float]:
    """The error that a call raises, and how long it took."""
    began = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        call()
    return caught.value, time.monotonic() - began


class TestContract:
    def test_says_what_it_is(self, rig: Rig) -> None:
        projector: PatternProjector = rig.open()
        assert projector.directions == tuple(sorted(projector.directions)) != ()
        assert projector.identity
        assert projector.minimum_exposure_us > 0
        assert projector.status().mode == "dark"

    def test_shows_one_pattern_from_one_direction(self, rig: Rig) -> None:
        projector = rig.loaded()
        for count, (direction, index) in enumerate([(1, 0), (1, 2), (4, 2), (2, 1), (3, 0), (3, WHITE)], 1):
            projector.show(direction, index)
            assert rig.light() == LightState((), direction, FEW[index])
            status = projector.status()
            assert (status.mode, status.direction, status.index) == ("showing", direction, index)
            assert status.displayed == count
        projector.dark()
        assert rig.light() == LightState()
        assert projector.status().mode == "dark"

    def test_runs_the_sequence_once_with_an_edge_for_each_pattern(self, rig: Rig) -> None:
        projector = rig.loaded(PATTERNS)
        projector.arm(2, 4000, 5000)
        assert projector.status().mode == "armed"
        assert rig.light() == LightState() and not rig.edges
        projector.start()
        assert projector.status().mode in ("armed", "running")
        wait_until(lambda: projector.status().mode == "dark")
        assert projector.status().displayed == len(PATTERNS) == 24
        assert rig.light() == LightState()
        assert len(rig.edges) == 24
        np.testing.assert_allclose(np.diff(rig.edges), 5e6, atol=0.1e6)
        for edge, pattern in zip(rig.edges, PATTERNS, strict=True):
            pieces = rig.timeline.between(edge, edge + 5_000_000)
            assert [(s.direction, s.pattern) for s, _ in pieces] == [(None, None), (2, pattern), (None, None)]
            assert pieces[1][1] == 4000.0

    def test_dark_ends_a_run(self, rig: Rig) -> None:
        projector = rig.loaded(PATTERNS)
        projector.arm(2, 4000, 5000)
        projector.start()
        wait_until(lambda: len(rig.edges) > 2)
        projector.dark()
        assert projector.status().mode == "dark"
        assert 2 < projector.status().displayed < 24
        assert rig.light() == LightState()

    def test_a_new_sequence_replaces_the_old_and_its_count(self, rig: Rig) -> None:
        projector = rig.loaded()
        projector.show(1, 2)
        projector.load([Uniform(0.25).to_plain()])
        assert rig.light() == LightState()
        assert projector.status().displayed == 0
        projector.show(1, 0)
        assert rig.light().pattern == Uniform(0.25)

    @pytest.mark.parametrize(
        ("call", "code"),
        [
            (lambda p: p.show(5, 0), "projector.direction"),
            (lambda p: p.arm(0, 1000, 5000), "projector.direction"),
            (lambda p: p.show(1, 3), "projector.refused"),
            (lambda p: p.arm(1, p.minimum_exposure_us - 1, 5000), "projector.refused"),
            (lambda p: p.arm(1, 5000, 4000), "projector.refused"),
            (lambda p: p.start(), "projector.refused"),
            (lambda p: p.load([]), "projector.refused"),
        ],
    )
    def test_refuses_in_words_and_goes_dark(self, rig: Rig, call: Callable[[Any], None], code: str) -> None:
        projector = rig.loaded()
        projector.show(1, WHITE)
        error, _ = failing(lambda: call(projector))
        assert error.code == code and error.hint
        assert rig.light() == LightState()

    def test_shows_nothing_before_a_sequence_is_loaded(self, rig: Rig) -> None:
        projector = rig.open()
        for call in (lambda: projector.show(1, 0), lambda: projector.arm(1, 1000, 5000), projector.start):
            assert failing(call)[0].code == "projector.refused"

    @pytest.mark.parametrize("state", ["dark", "showing", "armed", "running"])
    def test_close_from_any_state_is_dark(self, rig: Rig, state: str) -> None:
        projector = rig.loaded(PATTERNS[:12])
        if state == "showing":
            projector.show(1, WHITE)
        elif state != "dark":
            projector.arm(1, 4000, 5000)
        if state == "running":
            projector.start()
            wait_until(lambda: bool(rig.edges))
        assert rig.device.status.mode == state
        projector.close()
        projector.close()
        assert rig.light() == LightState()
        assert rig.device.status.mode == "dark"
        error, _ = failing(lambda: projector.show(1, 0))
        assert error.code == "projector.lost"

    def test_opening_darkens_what_another_program_left(self, rig: Rig) -> None:
        first = rig.loaded()
        first.show(1, WHITE)
        first.close = lambda: None  # type: ignore[method-assign]
        first._port.close()  # killed
        second = rig.open()
        assert rig.light() == LightState()
        assert second.status().mode == "dark"
        del first.close
        rig.opened.append(first)


PASSING = ("silence", "deaf", "garbage", "truncated", "bit_error", "previous", "wrong_echo")
BOTH = ("truncated", "disconnect", "stale")  # faults tried on both kinds of wire


class TestWire:
    LASTING = (
        ("host", "silence", "projector.no_answer"),
        ("host", "deaf", "projector.no_answer"),
        ("host", LATE, "projector.no_answer"),
        ("host", "garbage", "projector.wrong_answer"),
        ("host", "truncated", "projector.wrong_answer"),
        ("host", "bit_error", "projector.wrong_answer"),
        ("host", "wrong_echo", "projector.wrong_answer"),
        ("host", "nak", "projector.refused"),
        ("host", "disconnect", "projector.lost"),
        ("device", "silence", "projector.no_answer"),
        ("device", "crc", "projector.wrong_answer"),
        ("device", "stale", "projector.wrong_answer"),
        ("device", "nak", "projector.refused"),
    )

    @pytest.mark.parametrize(
        ("rig", "where", "fault", "code"),
        [("pty", *case) for case in LASTING if PTY]
        + [("socket", *case) for case in LASTING if not PTY or case[1] in BOTH],
        indirect=["rig"],
    )
    def test_lasting_faults_are_named_in_time(self, rig: Rig, where: str, fault: Any, code: str) -> None:
        projector = rig.loaded(watchdog_ms=150, deadline_s=DEADLINE_S)
        projector.show(1, 0)
        faulty: Any = rig.host if where == "host" else rig.device
        faulty.set_faults(fault)
        error, took_s = failing(lambda: projector.show(1, WHITE))
        assert error.code == code and error.hint
        assert took_s <= (DEADLINE_S + LINES_S) * 1.2
        wait_until(lambda: rig.device.status.mode == "dark", 0.2)
        faulty.set_faults()
        if fault == "disconnect":
            rig.host.connect()
        if fault is LATE:
            time.sleep(LATE.late_s)  # until the answers that are under way have come
        projector.show(3, WHITE)
        assert rig.light() == LightState((), 3, FEW[WHITE])

    @pytest.mark.parametrize(
        ("rig", "fault"),
        [("pty" if PTY else "socket", fault) for fault in PASSING] + [("socket", "truncated")],
        indirect=["rig"],
    )
    def test_single_faults_are_survived(self, rig: Rig, fault: str) -> None:
        projector = rig.loaded(deadline_s=0.4)
        projector.show(1, 0)
        rig.host.set_faults(f"{fault}@{rig.host.commands}")
        projector.show(1, WHITE)
        assert rig.light() == LightState((), 1, FEW[WHITE])
        assert projector.status().displayed == 2

    @pytest.mark.parametrize(("fault", "displayed", "register"), [("skip@5", 23, False), ("stop@7", 7, True)])
    def test_a_run_that_lacks_patterns_is_counted(self, rig: Rig, fault: str, displayed: int, register: bool) -> None:
        projector = rig.loaded(PATTERNS)
        rig.device.set_faults(fault)
        projector.arm(2, 1000, 2000)
        projector.start()
        wait_until(lambda: rig.device.status.mode == "dark")
        assert len(rig.edges) == displayed
        if register:
            error, _ = failing(projector.status)
            assert error.code == "projector.fault" and "7 patterns shown" in error.message
        assert projector.status().displayed == displayed

    def test_the_watchdog_darkens_when_the_line_is_dead(self, rig: Rig) -> None:
        projector = rig.loaded(watchdog_ms=150)
        projector.show(2, WHITE)
        time.sleep(0.25)
        assert rig.light().pattern == FEW[WHITE]  # fed
        rig.host.set_faults("deaf")
        began = time.monotonic()
        wait_until(lambda: rig.device.status.mode == "dark")
        assert time.monotonic() - began <= 0.165
        assert rig.light() == LightState()

    def test_nobody_at_the_other_end(self) -> None:
        class Mute:
            def take(self, buffer: bytearray) -> bytes | None:
                taken = bytes(buffer) or None
                buffer.clear()
                return taken

            def answer(self, command: bytes, at_ns: int) -> bytes:
                return b""

            refuse = misdirect = lambda self, line: b""

        with SerialHost(Mute(), baud=BAUD) as host:
            settings = ProjectorSettings(port=host.url, baud=BAUD)
            error, took_s = failing(lambda: BridgeProjector(settings, deadline_s=DEADLINE_S))
        assert error.code == "projector.no_answer"
        assert took_s <= (DEADLINE_S + LINES_S) * 1.2

    @pytest.mark.skipif(not PTY, reason="a socket has no baud rate")
    def test_wrong_baud_rate_is_told(self) -> None:
        device = ProjectorDevice(Timeline())
        with SerialHost(device, baud=BAUD, wire="pty") as host:
            settings = ProjectorSettings(port=host.url, baud=9600)
            error, _ = failing(lambda: BridgeProjector(settings, deadline_s=DEADLINE_S))
        device.close()
        assert error.code in ("projector.no_answer", "projector.wrong_answer")
        assert "9600" in error.hint

    def test_a_step_costs_little_more_than_its_bytes(self, rig: Rig) -> None:
        projector = rig.loaded()
        projector.show(1, 0)
        began = time.monotonic()
        for index in range(1, 24):
            projector.show(1, index % 3)
        each_ms = (time.monotonic() - began) / 23 * 1000
        bytes_ms = (len("\n>00 SHO 1*0000\n") + len("<00 OK SHO 1 1*0000\n")) * 10 / BAUD * 1000
        print(f"{rig.wire}: {each_ms:.2f} ms a step, of which {bytes_ms:.2f} ms on the line")
        assert each_ms < bytes_ms + rig.host.latency_s * 1000 + 10
