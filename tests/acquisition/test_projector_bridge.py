"""The bridge's frames against the examples of docs/projector-protocol.md, and the driver against well and badly made replies."""

from __future__ import annotations

import gc
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakelight.acquisition.drivers.projector_bridge import BridgeProjector, ProjectorSettings, open_bridge
from rakelight.acquisition.drivers.projector_frames import (
    MAX_LINE,
    REFUSALS,
    REGISTER,
    BridgeIdentity,
    BridgeStatus,
    FrameError,
    crc16,
    pattern_of,
    pattern_text,
    read_reply,
    read_request,
    register_text,
    reply,
    request,
    sequence_check,
)
from rakelight.acquisition.drivers.projector_replies import Answer, exactly
from rakelight.acquisition.serial_port import SerialPort
from rakelight.acquisition.simulator.projector_device import ProjectorDevice
from rakelight.acquisition.simulator.timeline import LightState, Timeline
from rakelight.config import validate
from rakelight.errors import ConfigError, DeviceError, InputError, RakelightError
from rakelight.reconstruction.patterns import (
    Gray,
    GrayPhaseShift,
    MultiFrequency,
    Pattern,
    PatternSet,
    Sinusoid,
    Uniform,
)

PATTERNS: tuple[Pattern, ...] = (Uniform(0.0), Uniform(1.0), Gray("row", 3, 8, 8, True), Sinusoid("column", 16.0, 8, 3))
PLAIN = [p.to_plain() for p in PATTERNS]


# ------------------------------------------------------------------------------------------------------------- frames
def crc_by_division(data: bytes) -> int:
    """CRC-16/IBM-3740 bit by bit, as its definition has it."""
    register = 0xFFFF
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = ((register << 1) ^ (0x1021 if register & 0x8000 else 0)) & 0xFFFF
    return register


def examples(repository: Path) -> list[str]:
    document = (repository / "docs" / "projector-protocol.md").read_text("utf-8")
    return [line for block in re.findall(r"```bridge\n(.*?)```", document, re.DOTALL) for line in block.splitlines()]


class TestExamples:
    def test_every_line_is_a_frame(self, repository: Path) -> None:
        lines = [line for line in examples(repository) if not line.startswith("#")]
        assert len(lines) > 50
        damaged = 0
        for line in lines:
            data = line.encode("ascii")
            assert len(data) < MAX_LINE
            if int(data[-4:], 16) != crc_by_division(data[:-5]):
                damaged += 1
                continue
            if line.startswith(">"):
                frame = read_request(data + b"\n")
                assert frame.sequence is not None
                assert request(frame.sequence, frame.text) == data + b"\n"
            else:
                frame = read_reply(data + b"\n")
                assert reply(frame.sequence, frame.text) == data + b"\n"
        assert damaged == 1  # the one that shows what becomes of it

    def test_the_device_answers_as_the_document_says(self, repository: Path) -> None:
        device = ProjectorDevice(Timeline())
        said: list[str] = []
        for line in examples(repository):
            if line.startswith("#"):
                time.sleep(int(line.split()[1]) / 1000)
            elif line.startswith(">"):
                assert not said
                said = device.receive(line.encode() + b"\n").decode().splitlines()
            else:
                assert said.pop(0) == line
        device.close()
        assert not said

    def test_every_command_error_and_register_bit_has_its_place_in_the_document(self, repository: Path) -> None:
        document = (repository / "docs" / "projector-protocol.md").read_text("utf-8")
        for verb in ("ID", "DRK", "BEG n", "ADD i pattern", "END n crc", "DIR d", "SHO i", "RUN", "ST", "KA", "WD ms"):
            assert f"| `{verb}` | `OK {verb.split()[0]}" in document
        for number, meaning in REFUSALS.items():
            assert f"\n| {number:02d} | {meaning}" in document
        for bit, meaning in REGISTER.items():
            assert f"\n| {bit:02X} | {meaning}" in document
        asked = {
            read_request(line.encode()).words[0] for line in examples(repository) if re.match(">[^*]*[*](?!0000)", line)
        }
        assert asked >= {"ID", "DRK", "BEG", "ADD", "END", "DIR", "SHO", "ARM", "RUN", "ST", "KA", "WD"}


class TestFrames:
    def test_crc_has_the_published_check_value(self) -> None:
        assert crc16(b"123456789") == 0x29B1 == crc_by_division(b"123456789")

    @given(st.binary(max_size=64))
    def test_crc_is_the_remainder(self, data: bytes) -> None:
        assert crc16(data) == crc_by_division(data)

    @pytest.mark.parametrize("text", ["", " KA", "KA ", "A  B", "A*B", "Ä", "A\tB", "A\nB", "x" * MAX_LINE])
    def test_what_no_frame_can_carry(self, text: str) -> None:
        with pytest.raises(FrameError):
            request(0, text)

    def test_longest_frame(self) -> None:
        longest = request(255, "x" * (MAX_LINE - 10))
        assert len(longest) == MAX_LINE and read_request(longest).text == "x" * (MAX_LINE - 10)
        with pytest.raises(FrameError, match="120 bytes"):
            request(255, "x" * (MAX_LINE - 9))

    @given(st.integers(0, 255), st.integers(0, 7), st.data())
    def test_a_frame_with_one_wrong_bit_is_no_frame(self, number: int, bit: int, data: st.DataObject) -> None:
        frame = bytearray(reply(number, "OK SHO 1 17"))
        place = data.draw(st.integers(0, len(frame) - 2))  # a wrong line feed joins two lines: not this test
        frame[place] ^= 1 << bit
        with pytest.raises(FrameError):
            read_reply(bytes(frame))

    def test_a_request_is_no_reply(self) -> None:
        with pytest.raises(FrameError, match="begins with >"):
            read_reply(request(1, "KA"))
        with pytest.raises(FrameError, match="without a sequence number"):
            body = b">-- KA"
            read_request(body + b"*%04X\n" % crc16(body))

    @pytest.mark.parametrize(
        "words",
        [
            "",
            "2 a 1 1:8x8 1 0 9",
            "1 a 1 1:8x8 1 0",
            "1 a 1 5:8x8 1 0 9",
            "1 a 1 1:8x8,1:8x8 1 0 9",
            "1 a 1 1:08x8 1 0 9",
        ],
    )
    def test_identities_that_are_none(self, words: str) -> None:
        with pytest.raises(FrameError):
            BridgeIdentity.of(tuple(words.split()))

    @pytest.mark.parametrize(
        "words", ["", "dark - - 0", "off - - 0 00", "dark 5 - 0 00", "dark - - -1 00", "dark - - 0 0"]
    )
    def test_statuses_that_are_none(self, words: str) -> None:
        with pytest.raises(FrameError):
            BridgeStatus.of(tuple(words.split()))

    def test_register(self) -> None:
        assert register_text(0) == ""
        assert register_text(0x41) == "a run ended before its last pattern; unknown bits 40"


def sinusoids() -> st.SearchStrategy[Sinusoid]:
    def make(steps: int, step: int, offset: float, part: float, period: float, axis: Any) -> Sinusoid:
        amplitude = max(part * min(offset, 1 - offset), 5e-324)
        return Sinusoid(axis, period, steps, step % steps, offset, amplitude)

    unit = st.floats(0.01, 0.99)
    return st.builds(
        make,
        st.integers(3, 64),
        st.integers(0, 63),
        unit,
        unit,
        st.floats(4, 65536),
        st.sampled_from(["column", "row"]),
    )


class TestPatternTexts:
    @given(st.one_of(st.builds(Uniform, st.floats(0, 1)), sinusoids()))
    def test_come_back_as_they_were(self, pattern: Pattern) -> None:
        text = pattern_text(pattern)
        assert pattern_of(text.split(" ")) == pattern
        assert len(request(255, f"ADD 9998 {text}")) <= MAX_LINE

    @pytest.mark.parametrize("code", [GrayPhaseShift(inverse=True), MultiFrequency(periods_px=(24, 26, 29.5))])
    def test_whole_sets(self, code: Any) -> None:
        patterns = PatternSet(912, 1140, code, ("column", "row")).patterns
        assert tuple(pattern_of(pattern_text(p).split(" ")) for p in patterns) == patterns

    def test_checksum_of_a_sequence_tells_its_order(self) -> None:
        texts = [pattern_text(p) for p in PATTERNS]
        assert sequence_check(texts) == crc_by_division("".join(t + "\n" for t in texts).encode())
        assert sequence_check(texts) != sequence_check(texts[::-1])


# ------------------------------------------------------------------------------------------------------------- driver
class Peer:
    """A bridge on a TCP port: what comes in goes to ``answer``, what that returns goes back."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="peer", daemon=True)
        self._ended = False
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended:
            link, _ = self._server.accept()
            link.settimeout(0.01)
            with link:
                while not self._ended:
                    try:
                        if not (data := link.recv(4096)):
                            break
                        link.sendall(self.answer(data))
                    except TimeoutError:
                        continue
                    except OSError:  # the driver hung up
                        break

    def close(self) -> None:
        self._ended = True
        with socket.create_connection(self._server.getsockname()[:2]):
            self._thread.join(timeout=5)
        self._server.close()


class Bench:
    """A simulated bridge behind a peer, and drivers on it; ``garble`` changes what goes back to the driver."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.device = ProjectorDevice(self.timeline)
        self.heard: list[bytes] = []
        self.garble: Callable[[bytes], bytes] = lambda said: said
        self.peer = Peer(self._answer)
        self.drivers: list[BridgeProjector] = []

    def _answer(self, data: bytes) -> bytes:
        self.heard += [line for line in data.split(b"\n") if line]
        return self.garble(self.device.receive(data))

    def open(self, *, load: bool = True, settings: dict[str, Any] | None = None, **options: Any) -> BridgeProjector:
        self.drivers.append(BridgeProjector(ProjectorSettings(port=self.peer.url, **(settings or {})), **options))
        if load:
            self.drivers[-1].load(PLAIN)
        return self.drivers[-1]

    def verbs(self) -> list[str]:
        return [read_request(line).words[0] for line in self.heard]

    def light(self) -> LightState:
        time.sleep(0.0005)
        return self.timeline.now()

    def close(self) -> None:
        for driver in self.drivers:
            driver.close()
        self.peer.close()
        self.device.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    threads = set(threading.enumerate())
    made = Bench()
    yield made
    made.close()
    assert set(threading.enumerate()) <= threads


def wait_until(condition: Callable[[], bool], limit_s: float = 3.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.001)


class TestDriver:
    def test_is_dark_from_opening_to_closing_but_for_what_is_shown(self, bench: Bench) -> None:
        projector = bench.open(load=False)
        assert bench.verbs() == ["DRK", "ID", "WD"]
        assert projector.identity == "sim-quad 1.0.0 (bridge protocol 1)"
        assert projector.directions == (1, 2, 3, 4)
        assert projector.sizes == dict.fromkeys((1, 2, 3, 4), (912, 1140))
        assert (projector.minimum_exposure_us, projector.black_us, projector.memory) == (500.0, 200.0, 256)
        projector.load(PLAIN)
        assert bench.light() == LightState()
        projector.show(2, 3)
        assert bench.light() == LightState((), 2, PATTERNS[3])
        status = projector.status()
        assert (status.mode, status.direction, status.index, status.displayed) == ("showing", 2, 3, 1)
        projector.show(2, 1)
        projector.close()
        projector.close()
        assert bench.light() == LightState()
        assert bench.verbs()[-1] == "DRK"
        with pytest.raises(DeviceError) as caught:
            projector.show(1, 0)
        assert caught.value.code == "projector.lost"

    def test_selects_a_direction_only_when_it_changes(self, bench: Bench) -> None:
        projector = bench.open()
        del bench.heard[:]
        for direction, index in ((1, 0), (1, 1), (2, 1), (2, 2), (1, 2)):
            projector.show(direction, index)
        assert bench.verbs() == ["DIR", "SHO", "SHO", "DIR", "SHO", "SHO", "DIR", "SHO"]

    def test_sequence_numbers_go_round(self, bench: Bench) -> None:
        projector = bench.open()
        for index in range(300):
            projector.show(1, index % 4)
        numbers = [read_request(line).sequence for line in bench.heard]
        assert numbers == [k % 256 for k in range(len(numbers))] and len(numbers) > 300

    @pytest.mark.parametrize(
        ("call", "code", "told"),
        [
            (lambda p: p.show(5, 0), "projector.direction", "there are 1, 2, 3, 4"),
            (lambda p: p.show(True, 0), "projector.direction", "True"),
            (lambda p: p.arm(0, 1000, 5000), "projector.direction", "direction 0 has no projector"),
            (lambda p: p.show(1, 4), "projector.refused", "0 to 3"),
            (lambda p: p.show(1, -1), "projector.refused", "0 to 3"),
            (lambda p: p.show(1, 1.0), "projector.refused", "1.0"),
            (lambda p: p.arm(1, 499, 5000), "projector.refused", "500 to 10000000 µs"),
            (lambda p: p.arm(1, 4900, 5000), "projector.refused", "200 µs black + 4900 µs exposure = 5100 µs"),
            (lambda p: p.arm(1, math.nan, 5000), "projector.refused", "exposure nan"),
            (lambda p: p.arm(1, 1000, math.inf), "projector.refused", "period inf"),
            (lambda p: p.start(), "projector.refused", "RUN needs armed"),
            (lambda p: p.load([]), "projector.refused", "1 to 256"),
            (lambda p: p.load(PLAIN * 65), "projector.refused", "260 patterns"),
            (lambda p: p.load([{"kind": "plaid"}]), "patterns.kind", "plaid"),
            (lambda p: p.load([Gray("row", 3, 7, 8).to_plain()]), "projector.refused", "reaches 1024 px"),
        ],
    )
    def test_refuses_and_goes_dark(
        self, bench: Bench, call: Callable[[BridgeProjector], None], code: str, told: str
    ) -> None:
        projector = bench.open()
        projector.show(1, 1)
        with pytest.raises(RakelightError) as caught:
            call(projector)
        assert caught.value.code == code and told in caught.value.message and caught.value.hint
        assert isinstance(caught.value, DeviceError | InputError)
        assert bench.light() == LightState()
        assert bench.device.status.mode == "dark"

    def test_nothing_is_shown_after_a_load_that_failed(self, bench: Bench) -> None:
        projector = bench.open()
        with pytest.raises(DeviceError):
            projector.load([*PLAIN, Gray("row", 3, 7, 8).to_plain()])
        with pytest.raises(DeviceError, match="no sequence is loaded"):
            projector.show(1, 0)
        projector.load(PLAIN)
        projector.show(1, 1)
        assert bench.light().pattern == PATTERNS[1]

    def test_directions_the_bridge_has_not(self, bench: Bench) -> None:
        bench.device.identity = BridgeIdentity("two", "1", {1: (912, 1140), 3: (912, 1140)}, 500, 0, 99)
        with pytest.raises(DeviceError, match="direction 2 has no projector; there are 1, 3") as caught:
            bench.open()
        assert caught.value.code == "projector.direction"
        projector = bench.open(settings={"directions": [3]})
        assert projector.directions == (3,)
        with pytest.raises(DeviceError, match="there are 3 "):
            projector.show(1, 0)

    def test_a_bridge_that_was_switched_off_and_on_is_noticed(self, bench: Bench) -> None:
        projector = bench.open()
        projector.show(1, 1)
        bench.device.close()
        bench.device = ProjectorDevice(bench.timeline)
        with pytest.raises(DeviceError, match="none is selected") as caught:
            projector.show(1, 2)
        assert caught.value.code == "projector.refused"
        with pytest.raises(DeviceError, match="no sequence loaded"):
            projector.show(1, 2)
        projector.load(PLAIN)
        projector.show(1, 2)
        assert bench.light() == LightState((), 1, PATTERNS[2])

    def test_errors_in_the_callers_thread_leave_it_dark(self, bench: Bench) -> None:
        with pytest.raises(ZeroDivisionError), bench.open() as projector:
            projector.show(1, 1)
            raise ZeroDivisionError
        assert bench.light() == LightState()
        assert bench.device.status.mode == "dark"

    def test_an_interrupt_in_the_middle_of_a_call_leaves_it_dark(self, bench: Bench, monkeypatch: Any) -> None:
        projector = bench.open()
        projector.show(1, 1)

        def interrupted(self: SerialPort, line: bytes, **options: Any) -> bytes:
            answer = exchange(self, line, **options)
            if b"SHO" in line:
                raise KeyboardInterrupt
            return answer

        exchange = SerialPort.exchange
        monkeypatch.setattr(SerialPort, "exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            projector.show(1, 2)
        assert bench.device.status.mode == "dark"
        assert bench.light() == LightState()


class TestWatchdog:
    def test_is_fed_while_showing(self, bench: Bench) -> None:
        projector = bench.open(watchdog_ms=120)
        projector.show(3, 1)
        time.sleep(0.5)
        assert bench.light() == LightState((), 3, PATTERNS[1])
        assert "KA" in bench.verbs()
        projector.dark()
        del bench.heard[:]
        time.sleep(0.15)
        assert bench.verbs() == []  # nothing to feed

    def test_a_projector_that_nobody_holds_goes_dark(self, bench: Bench) -> None:
        projector = bench.open(watchdog_ms=120)
        projector.show(3, 1)
        time.sleep(0.1)  # it has been fed
        bench.drivers.clear()
        del projector
        gc.collect()
        wait_until(lambda: bench.device.status.mode == "dark")
        assert bench.device.status.register == 0x02
        wait_until(lambda: not [t for t in threading.enumerate() if t.name == "projector watchdog"])

    def test_longest_time_on(self, bench: Bench) -> None:
        projector = bench.open(watchdog_ms=120, settings={"max_on_s": 0.2})
        began = time.monotonic()
        projector.show(3, 1)
        wait_until(lambda: bench.device.status.mode == "dark")
        assert 0.2 <= time.monotonic() - began < 0.3
        with pytest.raises(DeviceError, match=r"direction 3 shone for 0\.2 s") as caught:
            projector.show(3, 2)
        assert caught.value.code == "projector.on_time"
        projector.show(3, 2)
        assert bench.light().pattern == PATTERNS[2]

    def test_what_the_feeding_thread_meets_is_told_by_the_next_call(self, bench: Bench) -> None:
        projector = bench.open(watchdog_ms=120, deadline_s=0.2)
        projector.show(3, 1)
        bench.garble = lambda said: b""
        time.sleep(0.4)
        bench.garble = lambda said: said
        with pytest.raises(DeviceError) as caught:
            projector.status()
        assert caught.value.code == "projector.no_answer"
        assert projector.status().mode == "dark"


# ------------------------------------------------------------------------------------------------------- bad replies
def once(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The change befalls the next reply only."""
    left = [change]
    return lambda said: left.pop()(said) if left and said else said


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "silence": (lambda said: b"", "projector.no_answer"),
    "wrong checksum": (lambda said: said[:-2] + bytes([said[-2] ^ 1]) + b"\n", "projector.wrong_answer"),
    "cut short": (lambda said: said[:-3], "projector.wrong_answer"),
    "number of another": (
        lambda said: reply((read_reply(said).sequence or 0) ^ 0x80, read_reply(said).text),
        "projector.wrong_answer",
    ),
    "reply to another command": (lambda said: reply(read_reply(said).sequence, "OK KA"), "projector.wrong_answer"),
    "other words": (lambda said: reply(read_reply(said).sequence, "OK SHO 4 3"), "projector.wrong_answer"),
    "echo of the request": (lambda said: request(1, "SHO 3"), "projector.wrong_answer"),
    "noise": (lambda said: b"\xff\x00\x80garbage\n", "projector.wrong_answer"),
    "noise without end": (lambda said: b"\xaa" * 3000, "projector.wrong_answer"),
    "two replies": (lambda said: said + said, "projector.wrong_answer"),
    "line damaged on the way": (lambda said: reply(None, "NO 01 line damaged"), "projector.wrong_answer"),
    "refusal without a code": (lambda said: reply(read_reply(said).sequence, "NO way"), "projector.wrong_answer"),
    "refusal": (lambda said: reply(read_reply(said).sequence, "NO 10 engine failed"), "projector.refused"),
}


class TestBadReplies:
    @pytest.mark.parametrize("name", [name for name in BAD if name != "two replies"])
    def test_lasting_ones_are_named_within_the_deadline(self, bench: Bench, name: str) -> None:
        change, code = BAD[name]
        projector = bench.open(deadline_s=0.3)
        projector.show(1, 1)
        bench.garble = lambda said: change(said.splitlines(keepends=True)[-1]) if said else said
        began = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            projector.show(1, 3)
        took = time.monotonic() - began
        assert caught.value.code == code, caught.value
        line_s = 4 * 2 * MAX_LINE * 10 / 115200  # two tries of two requests
        assert took <= (0.3 + line_s) * 1.2
        bench.garble = lambda said: said
        projector.show(1, 2)
        assert bench.light() == LightState((), 1, PATTERNS[2])

    @pytest.mark.parametrize("name", [name for name in BAD if name != "refusal"])
    def test_passing_ones_are_survived(self, bench: Bench, name: str) -> None:
        projector = bench.open(deadline_s=0.3)
        projector.show(1, 1)
        bench.garble = once(BAD[name][0])
        projector.show(1, 3)
        assert bench.light() == LightState((), 1, PATTERNS[3])
        assert bench.device.status.displayed == 2

    @pytest.mark.parametrize("name", [name for name in BAD if name not in ("refusal", "two replies")])
    def test_start_is_never_repeated(self, bench: Bench, name: str) -> None:
        projector = bench.open(deadline_s=0.3)
        projector.arm(1, 1000, 2000)
        bench.garble = once(BAD[name][0])
        with pytest.raises(DeviceError):
            projector.start()
        assert bench.verbs().count("RUN") == 1
        assert bench.device.status.mode == "dark"
        projector.arm(1, 1000, 2000)
        projector.start()
        wait_until(lambda: bench.device.status.mode == "dark")

    def test_noise_on_the_way_there_does_not_spoil_the_next_request(self, bench: Bench) -> None:
        projector = bench.open()
        bench.device.receive(b">41 SHO 3*12")  # the beginning of a line whose end was lost
        projector.show(1, 3)
        assert bench.light().pattern == PATTERNS[3]
        projector.arm(1, 1000, 2000)
        bench.device.receive(b"\xf0\x9f")
        projector.start()  # which is never repeated

    def test_an_answer_given_up_for_what_followed_it_is_forgotten(self) -> None:
        judge = Answer(7, "KA", exactly(()))
        assert judge(reply(7, "NO 10 engine failed")) and judge.refusal is not None
        assert judge(reply(7, "OK KA")) and judge.refusal is None

    def test_a_direction_is_selected_anew_when_the_port_was_opened_anew(self, bench: Bench) -> None:
        projector = bench.open()
        projector.show(1, 1)
        bench.garble = once(BAD["wrong checksum"][0])
        projector.show(1, 3)
        del bench.heard[:]
        projector.show(1, 2)
        projector.show(1, 3)
        assert bench.verbs() == ["DIR", "SHO", "SHO"]

    def test_another_protocol_version(self, bench: Bench) -> None:
        def newer(said: bytes) -> bytes:
            frame = read_reply(said)
            return reply(frame.sequence, "OK ID 2 x 1 1:8x8 1 0 9") if frame.words[1] == "ID" else said

        bench.garble = newer
        with pytest.raises(DeviceError, match="protocol 2; this version speaks protocol 1") as caught:
            bench.open()
        assert caught.value.code == "projector.wrong_answer"

    def test_fuzz(self) -> None:
        """Whatever comes back, a call ends in time, and what it returns is what the bridge was last told."""
        bench = Bench()
        projector = bench.open(deadline_s=0.08)
        pieces = st.one_of(st.none(), st.binary(max_size=140), st.integers(0, 30), st.sampled_from(sorted(BAD)))

        def spoil(said: bytes, piece: bytes | int | str | None) -> bytes:
            if piece is None or not said:
                return said
            if isinstance(piece, str):
                return BAD[piece][0](said.splitlines(keepends=True)[-1])
            return piece if isinstance(piece, bytes) else said[:piece]

        @settings(max_examples=25)
        @given(st.lists(pieces, min_size=1, max_size=3), st.integers(1, 4), st.integers(0, 3))
        def play(plan: list[bytes | int | str | None], direction: int, index: int) -> None:
            left = list(plan)
            bench.garble = lambda said: spoil(said, left.pop(0)) if left else said
            began = time.monotonic()
            try:
                projector.show(direction, index)
            except DeviceError as e:
                assert e.code.partition(".")[0] in ("projector", "port")
            else:
                status = bench.device.status
                assert (status.mode, status.direction, status.index) == ("showing", direction, index)
            assert time.monotonic() - began < 0.5
            bench.garble = lambda said: said

        try:
            play()
            projector.dark()
        finally:
            bench.close()


class TestSettings:
    def test_defaults(self) -> None:
        made = validate({"port": "COM3"}, ProjectorSettings, source="rig.toml")
        assert (made.driver, made.baud, made.directions) == ("bridge", 115200, (1, 2, 3, 4))

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"port": ""},
            {"port": "COM3", "directions": []},
            {"port": "COM3", "directions": [1, 1]},
            {"port": "COM3", "directions": [0, 1]},
            {"port": "COM3", "directions": [5]},
            {"port": "COM3", "baud": 0},
            {"port": "COM3", "max_on_s": 0},
            {"port": "COM3", "settle_ms": -1},
            {"port": "COM3", "speed": 9600},
        ],
    )
    def test_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=r"rig\.toml"):
            validate(wrong, ProjectorSettings, source="rig.toml")

    def test_directions_in_any_order(self) -> None:
        assert ProjectorSettings(port="COM3", directions=(3, 1)).directions == (1, 3)

    def test_opens_from_the_keys_of_rig_toml(self, bench: Bench) -> None:
        bench.drivers.append(open_bridge(port=bench.peer.url, directions=[1, 2]))
        assert bench.drivers[0].directions == (1, 2)
        with pytest.raises(ConfigError, match="did you mean 'baud'"):
            open_bridge(port=bench.peer.url, bauds=9600)

    def test_a_port_that_is_not_there(self) -> None:
        with pytest.raises(DeviceError) as caught:
            BridgeProjector(ProjectorSettings(port="/dev/ttyNOSUCH9"))
        assert caught.value.code == "port.missing"
