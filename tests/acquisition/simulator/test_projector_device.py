"""The simulated projector bridge: strict about lines, true to its modes, punctual, dark when nobody speaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight.acquisition.drivers.projector_frames import (
    MAX_LINE,
    BridgeIdentity,
    pattern_text,
    read_reply,
    request,
    sequence_check,
)
from rakelight.acquisition.simulator.projector_device import ProjectorDevice
from rakelight.acquisition.simulator.timeline import LightState, Timeline
from rakelight.errors import InputError
from rakelight.reconstruction.patterns import Gray, GrayPhaseShift, Pattern, PatternSet, Sinusoid, Uniform

PATTERNS: tuple[Pattern, ...] = (Uniform(1.0), Gray("column", 6, 7, 8), Sinusoid("column", 16.0, 8, 3))
LATENCY_S = 0.0005
VERBS = ["ID", "DRK", "BEG", "ADD", "END", "DIR", "SHO", "ARM", "RUN", "ST", "KA", "WD"]
WORDS = [*VERBS, "0", "1", "2", "3", "7", "1000", "U", "G", "S", "c", "n", "16", "0.5", "FFFF"]


class Bench:
    """A device with what it did: its timeline and its trigger edges; ``ask`` is a host that never errs."""

    def __init__(self, **options: object) -> None:
        self.timeline = Timeline()
        self.edges: list[tuple[int, int]] = []  # told, and when it was told
        options = {"edge": lambda at: self.edges.append((at, time.monotonic_ns()))} | options
        self.device = ProjectorDevice(self.timeline, **options)  # type: ignore[arg-type]
        self._number = 0x7F

    def ask(self, text: str) -> str:
        self._number = (self._number + 1) % 256
        frame = read_reply(self.device.receive(request(self._number, text)))
        assert frame.sequence == self._number
        return frame.text

    def load(self, patterns: tuple[Pattern, ...] = PATTERNS) -> None:
        texts = [pattern_text(p) for p in patterns]
        assert self.ask(f"BEG {len(texts)}").startswith("OK")
        for index, text in enumerate(texts):
            assert self.ask(f"ADD {index} {text}") == f"OK ADD {index}"
        check = f"{sequence_check(texts):04X}"
        assert self.ask(f"END {len(texts)} {check}") == f"OK END {len(texts)} {check}"

    def light(self) -> LightState:
        """What shines when the latency has passed."""
        time.sleep(LATENCY_S)
        return self.timeline.now()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []
    before = set(threading.enumerate())

    def make(**options: object) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for one in made:
        one.device.close()
    assert set(threading.enumerate()) <= before


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[ProjectorDevice]:
    device = ProjectorDevice(Timeline())
    yield device
    device.close()


def wait_until(condition: Callable[[], bool], limit_s: float = 3.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.001)


class TestShowing:
    def test_shows_what_was_loaded_from_the_direction_selected(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        b.load()
        assert b.ask("DIR 3") == "OK DIR 3"
        assert b.light() == LightState()
        for index, pattern in enumerate(PATTERNS):
            assert b.ask(f"SHO {index}") == f"OK SHO 3 {index}"
            assert b.light() == LightState((), 3, pattern)
        assert b.ask("ST") == "OK ST showing 3 2 3 00"
        assert b.ask("DIR 1") == "OK DIR 1"
        assert b.light().pattern is None
        assert b.ask("DRK") == "OK DRK"
        assert b.ask("ST") == "OK ST dark 1 - 3 00"

    def test_light_follows_the_command_by_the_latency(self, bench: Callable[..., Bench]) -> None:
        b = bench(latency_us=20_000)
        b.load()
        b.ask("DIR 1")
        before = time.monotonic_ns()
        b.ask("SHO 0")
        after = time.monotonic_ns()
        pieces = b.timeline.between(before, after + 40_000_000)
        assert [state.pattern for state, _ in pieces] == [None, PATTERNS[0]]
        dark_us = pieces[0][1]
        assert 20_000 <= dark_us <= 20_000 + (after - before) / 1000

    def test_showing_again_is_not_counted(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        b.load()
        b.ask("DIR 1")
        for _ in range(3):
            assert b.ask("SHO 1") == "OK SHO 1 1"
        assert b.device.status.displayed == 1
        b.ask("DRK")
        b.ask("SHO 1")
        assert b.device.status.displayed == 2

    def test_watchdog_darkens_at_most_a_tenth_late(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        b.load()
        b.ask("WD 300")
        b.ask("DIR 1")
        b.ask("SHO 0")
        time.sleep(0.15)
        last = time.monotonic_ns()
        b.ask("KA")
        b.device.receive(b">00 KA*0000\n")  # what cannot be read does not feed it
        wait_until(lambda: b.device.status.mode == "dark")
        late = (time.monotonic_ns() - last) / 1e9
        assert 0.3 <= late <= 0.33
        assert b.light() == LightState()
        assert b.ask("ST") == "OK ST dark 1 - 1 02"
        assert b.ask("DRK") == "OK DRK"
        assert b.ask("ST") == "OK ST dark 1 - 1 00"

    def test_close_is_dark_and_deaf(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        b.load()
        b.ask("DIR 1")
        b.ask("SHO 0")
        b.device.close()
        b.device.close()
        assert b.light() == LightState()
        assert b.device.receive(request(0, "SHO 0")) == b""


class TestRun:
    PATTERNS = (*PatternSet(912, 1140, GrayPhaseShift(steps=15)).patterns, Uniform(1.0), Uniform(0.0))

    def test_a_run_is_punctual_and_counted(self, bench: Callable[..., Bench]) -> None:
        assert len(self.PATTERNS) == 24
        b = bench()
        b.load(self.PATTERNS)
        assert b.ask("ARM 4 3000 5000") == "OK ARM 4 3000 5000"
        assert b.light() == LightState()
        asked = time.monotonic_ns()
        assert b.ask("RUN") == "OK RUN 24"
        wait_until(lambda: b.device.status.mode == "dark")
        ended = time.monotonic_ns()
        assert b.ask("ST") == "OK ST dark 4 - 24 00"
        told = np.array([at for at, _ in b.edges])
        assert (np.diff(told) == 5_000_000).all() and len(told) == 24
        assert 0 <= told[0] - asked <= 10_000_000
        late_ms = (np.array([when for _, when in b.edges]) - told) / 1e6
        assert (late_ms >= 0).all() and np.median(late_ms) < 2.0
        assert 120.0 <= (ended - told[0]) / 1e6 < 150.0
        for at, pattern in zip(told, self.PATTERNS, strict=True):  # black, light, dark
            pieces = b.timeline.between(int(at), int(at) + 5_000_000)
            assert pieces == [
                (LightState(), 200.0),
                (LightState((), 4, pattern), 3000.0),
                (LightState(), 1800.0),
            ]
        assert b.timeline.now() == LightState()

    def test_an_aborted_run_stays_dark(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        b.load(self.PATTERNS)
        b.ask("ARM 1 4000 5000")
        b.ask("RUN")
        wait_until(lambda: len(b.edges) >= 3)
        assert b.ask("SHO 0").startswith("NO 05")
        assert b.ask("BEG 1").startswith("NO 05")
        assert b.ask("ST").startswith("OK ST running 1")
        assert b.ask("DRK") == "OK DRK"
        seen = len(b.edges)
        now = time.monotonic_ns()
        time.sleep(0.02)
        assert len(b.edges) <= seen + 1  # one may have been on its way
        assert {state for state, _ in b.timeline.between(now + 1_000_000, now + 15_000_000)} == {LightState()}
        assert b.ask("RUN").startswith("NO 05")

    def test_one_arming_is_good_for_one_run(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        b.load()
        b.ask("ARM 2 500 700")
        b.ask("RUN")
        wait_until(lambda: b.device.status.mode == "dark")
        assert b.ask("RUN").startswith("NO 05")
        b.ask("ARM 2 500 700")
        b.ask("RUN")
        wait_until(lambda: b.device.status.mode == "dark")
        assert b.device.status.displayed == 6

    @pytest.mark.parametrize(
        ("times", "code"), [("499 5000", "07"), ("5000 5000", "07"), ("4800 5000", "OK"), ("500 10000001", "07")]
    )
    def test_times(self, bench: Callable[..., Bench], times: str, code: str) -> None:
        b = bench()
        b.load()
        assert code in b.ask(f"ARM 1 {times}").split()[:2]


class TestLoading:
    def test_half_a_sequence_is_never_shown(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        b.load()
        b.ask("DIR 1")
        for lines in (
            ["BEG 1", "ADD 0 U 1", "END 1 0000"],
            ["BEG 2"],
            ["BEG 2", "ADD 0 U 1"],
            ["BEG 2", "ADD 0 U 1", "END 2 0000"],
            ["BEG 1", "DRK"],
        ):
            for line in lines:
                b.ask(line)
            assert b.ask("SHO 0").startswith("NO 08")
            assert b.ask("ARM 1 1000 2000").startswith("NO 08")
        check = sequence_check(["U 1"])
        b.ask("BEG 2")
        b.ask("ADD 0 U 1")
        assert b.ask(f"END 1 {check:04X}").startswith("NO 09")  # two were announced
        assert b.ask("SHO 0").startswith("NO 08")
        assert b.light() == LightState()

    def test_repeating_any_line_of_a_load_does_no_harm(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        texts = [pattern_text(p) for p in PATTERNS]
        lines = [f"BEG {len(texts)}", *(f"ADD {i} {t}" for i, t in enumerate(texts))]
        for line in (*lines, f"END {len(texts)} {sequence_check(texts):04X}", "DIR 2", "SHO 2", "KA", "ST", "WD 500"):
            assert b.ask(line).startswith("OK") and b.ask(line).startswith("OK"), line
        assert b.light() == LightState((), 2, PATTERNS[2])

    @pytest.mark.parametrize(
        ("lines", "code"),
        [
            (["ADD 0 U 1"], 9),
            (["BEG 0"], 4),
            (["BEG 257"], 9),
            (["BEG 2", "ADD 1 U 1"], 9),
            (["BEG 1", "ADD 0 U 1", "ADD 1 U 1"], 9),
            (["BEG 1", "ADD 0"], 4),
            (["BEG 1", "ADD 0 U 1.5"], 4),
            (["BEG 1", "ADD 0 U +1"], 4),
            (["BEG 1", "ADD 0 U nan"], 4),
            (["BEG 1", "ADD 0 S c 16 8 8 0.5 0.5"], 4),
            (["BEG 1", "ADD 0 S x 16 8 0 0.5 0.5"], 4),
            (["BEG 1", "ADD 0 G c 6 7 4 n"], 4),  # reaches 512 px of 912
            (["BEG 1", "ADD 0 G c 6 7 8 x"], 4),
            (["END 1 0000"], 9),
            (["BEG 1", "ADD 0 U 1", "END 1 0000"], 9),
            (["END 1 abcd"], 4),
        ],
    )
    def test_what_a_load_refuses(self, bench: Callable[..., Bench], lines: list[str], code: int) -> None:
        b = bench()
        *before, last = [b.ask(line) for line in lines]
        assert all(said.startswith("OK") for said in before)
        assert last.startswith(f"NO {code:02d} ")


class TestLines:
    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("SHO 0", 6),
            ("DIR 0", 6),
            ("DIR 5", 6),
            ("DIR 01", 6),
            ("DIR", 4),
            ("DIR 1 2", 4),
            ("RUN", 5),
            ("WD 99", 4),
            ("WD 60001", 4),
            ("ARM 1 1000", 4),
            ("id", 3),
            ("X", 3),
            ("ARM 1 1000 2000", 8),
        ],
    )
    def test_refuses(self, bench: Callable[..., Bench], line: str, code: int) -> None:
        b = bench()
        assert b.ask(line).startswith(f"NO {code:02d} ")

    def test_bytes_may_come_in_pieces_or_together(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        data = b"\r\n\n" + request(1, "KA").replace(b"\n", b"\r\n") + request(2, "WD 700")
        whole = b.device.receive(data)
        assert whole == b"".join(b.device.receive(data[k : k + 1]) for k in range(len(data)))
        assert [read_reply(line).text for line in whole.splitlines()] == ["OK KA", "OK WD 700"]

    def test_long_lines_and_noise_are_answered_once_and_forgotten(self, bench: Callable[..., Bench]) -> None:
        b = bench()
        said = b.device.receive(b"x" * 100_000 + b"\n" + request(3, "KA"))
        assert [read_reply(line).text[:5] for line in said.splitlines()] == ["NO 02", "OK KA"]
        said = b.device.receive(b"\x00\xff*>\n" + b"y" * (MAX_LINE - 1) + b"\n" + b"z" * MAX_LINE + b"\n")
        assert [read_reply(line).text[:5] for line in said.splitlines()] == ["NO 01", "NO 01", "NO 02"]
        assert all(read_reply(line).sequence is None for line in said.splitlines())

    @settings(max_examples=200)
    @given(data=st.data())
    def test_fuzz(self, fuzzed: ProjectorDevice, data: st.DataObject) -> None:
        """Whatever comes, each reply is a frame, and a pattern is shown only of a sequence that was loaded whole."""
        b = fuzzed
        noise = st.binary(max_size=140)
        words = st.sampled_from(WORDS)
        commands = st.lists(words, min_size=1, max_size=6).map(lambda w: request(5, " ".join(w)))
        cut = st.tuples(commands, st.integers(0, 20)).map(lambda t: t[0][: -t[1] - 1] + b"\n")
        for piece in data.draw(st.lists(st.one_of(noise, commands, commands, cut), max_size=12)):
            for line in b.receive(piece).split(b"\n")[:-1]:
                assert read_reply(line + b"\n").words[0] in ("OK", "NO")
        status = b.status
        assert status.mode in ("dark", "armed", "running", "showing")
        if b._state.mode == "showing":
            assert b._state.sequence and status.index is not None and status.direction is not None
        b.receive(b"\n" + request(0, "DRK"))
        assert b.status.mode == "dark"


class TestFaults:
    def test_a_dark_direction_counts_but_does_not_shine(self, bench: Callable[..., Bench]) -> None:
        b = bench(faults=["dark@2"])
        b.load()
        for direction, lit in ((1, True), (2, False), (3, True)):
            b.ask(f"DIR {direction}")
            assert b.ask("SHO 0") == f"OK SHO {direction} 0"
            assert (b.light().pattern is not None) is lit
        assert b.device.status.displayed == 3

    @pytest.mark.parametrize(
        ("fault", "shown", "register"), [("skip@1", [0, 2], 0), ("stop@2", [0, 1], 1), ("stop@0", [], 1)]
    )
    def test_runs_that_fail(self, bench: Callable[..., Bench], fault: str, shown: list[int], register: int) -> None:
        b = bench(faults=[fault])
        b.load()
        b.ask("ARM 1 1000 2000")
        b.ask("RUN")
        wait_until(lambda: b.device.status.mode == "dark")
        status = b.device.status
        assert (status.displayed, status.register) == (len(shown), register)
        assert len(b.edges) == len(shown)
        for (at, _), index in zip(b.edges, shown, strict=True):
            assert b.timeline.between(at + 500_000, at + 600_000)[0][0].pattern == PATTERNS[index]

    def test_replies_that_fail(self, bench: Callable[..., Bench]) -> None:
        b = bench(faults=["silence@0", "crc@1", "stale@2", "nak@3"])
        answers = [b.device.receive(request(9, "KA")) for _ in range(5)]
        assert answers[0] == b""
        with pytest.raises(ValueError, match="checksum"):
            read_reply(answers[1])
        assert read_reply(answers[2]).sequence == 8
        assert read_reply(answers[3]).text.startswith("NO 10")
        assert read_reply(answers[4]).text == "OK KA"
        assert b.ask("ST").endswith(" 04")

    @pytest.mark.parametrize("text", ["", "drk", "dark", "skip@", "stop@x", "crc@-1", "silence@"])
    def test_unknown_faults_are_named(self, text: str) -> None:
        threads = set(threading.enumerate())
        with pytest.raises(InputError) as caught:
            ProjectorDevice(Timeline(), faults=[text])
        assert caught.value.code == "simulator.fault"
        assert set(threading.enumerate()) <= threads


def test_a_bridge_with_two_small_projectors(bench: Callable[..., Bench]) -> None:
    small = BridgeIdentity("two", "2.1", {1: (64, 48), 3: (80, 48)}, 100, 0, 2)
    b = bench(identity=small)
    assert b.ask("ID") == "OK ID 1 two 2.1 1:64x48,3:80x48 100 0 2"
    assert b.ask("DIR 2") == "NO 06 no such direction: 2, there are 1,3"
    assert b.ask("BEG 3").startswith("NO 09")
