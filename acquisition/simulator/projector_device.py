"""A simulated four-direction projector bridge: the far end of ``docs/projector-protocol.md``.

Bytes go in by :meth:`ProjectorDevice.receive` (or through a ``serial_host``) and come back as replies; light appears on a
:class:`Timeline` when a real bridge would make it, and a run's trigger edges go to a callback. Faults are chosen by name
(:mod:`projector_faults`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from rakelight.acquisition.drivers.projector_frames import (
    LINE_END,
    MAX_LINE,
    REFUSALS,
    BridgeIdentity,
    BridgeStatus,
    Frame,
    FrameError,
    hexadecimal,
    integer,
    pattern_of,
    pattern_text,
    read_reply,
    read_request,
    reply,
    sequence_check,
)
from rakelight.acquisition.simulator._projector_state import BridgeState, Refused, printable
from rakelight.acquisition.simulator.projector_faults import ProjectorFault
from rakelight.acquisition.simulator.timeline import Timeline
from rakelight.reconstruction.patterns import Gray, Pattern

EdgeCallback = Callable[[int], None]

REFERENCE = BridgeIdentity(
    name="sim-quad",
    firmware="1.0.0",
    sizes=dict.fromkeys((1, 2, 3, 4), (912, 1140)),
    minimum_exposure_us=500,
    black_us=200,
    memory=256,
)
"""The bridge of the reference rig: four projectors of 912×1140 px."""

LONGEST_US = 10_000_000
_WATCHDOG_RANGE_MS = (100, 60_000)


class ProjectorDevice:
    """A bridge that answers bytes with bytes and lights a timeline.

    Parameters
    ----------
    timeline : Timeline
        Receives every pattern with the moment at which its light really begins and ends.
    identity : BridgeIdentity
        What the bridge says it is, and keeps to.
    edge : callable, optional
        Called with the moment (ns, monotonic) of each trigger edge of a run, from the bridge's own thread.
    latency_us, lead_us : int
        From a command to its light; from ``RUN`` to the first edge.
    faults : iterable of str
        See :data:`~rakelight.acquisition.simulator.projector_faults.FAULTS`.

    Close it to end its thread.
    """

    def __init__(
        self,
        timeline: Timeline,
        identity: BridgeIdentity = REFERENCE,
        *,
        edge: EdgeCallback | None = None,
        latency_us: int = 300,
        lead_us: int = 2000,
        faults: Iterable[str] = (),
    ) -> None:
        self.identity = identity
        self._timeline, self._edge = timeline, edge
        self._latency_ns, self._lead_ns = latency_us * 1000, lead_us * 1000
        self._state = BridgeState()
        self._buffer, self._overflow = bytearray(), False
        self._now_ns = 0  # when what is being carried out arrived
        self._closed = False
        self._changed = threading.Condition()
        self._handlers: dict[str, tuple[int | None, Callable[[tuple[str, ...]], str]]] = {
            "ID": (0, lambda _: self.identity.text()),
            "BEG": (1, self._begin),
            "ADD": (None, self._add),
            "END": (2, self._end),
            "DIR": (1, self._select),
            "SHO": (1, self._show),
            "ARM": (3, self._arm),
            "RUN": (0, self._run),
            "ST": (0, lambda _: self._report().text()),
            "DRK": (0, self._abort),
            "KA": (0, lambda _: ""),
            "WD": (1, self._watchdog),
        }
        self.set_faults(*faults)
        self._worker = threading.Thread(target=self._work, name="simulated-projector", daemon=True)
        self._worker.start()

    def set_faults(self, *names: str) -> None:
        """Replace all faults; counting of requests for @N begins anew, from 0."""
        faults = [ProjectorFault.of(name) for name in names]
        with self._changed:
            self._state.faults, self._state.requests = faults, -1

    @property
    def status(self) -> BridgeStatus:
        """What the bridge would answer to ``ST`` now."""
        with self._changed:
            return self._report()

    def close(self) -> None:
        """Dark, and its thread ended. May be called twice."""
        with self._changed:
            if not self._closed:
                self._now_ns = time.perf_counter_ns()
                self._darken()
            self._closed = True
            self._changed.notify_all()
        if self._worker is not threading.current_thread():
            self._worker.join()

    # ---------------------------------------------------------------------------------------------------------- lines
    def receive(self, data: bytes) -> bytes:
        """Take bytes as they arrive, in pieces of any size; returns the replies they call for (none once closed)."""
        with self._changed:
            self._buffer += data
            replies = []
            held = -1
            while held != len(self._buffer):
                held = len(self._buffer)
                if (line := self.take(self._buffer)) is not None:
                    replies.append(self.answer(line, time.perf_counter_ns()))
            return b"".join(replies)

    # The four methods of a device behind a simulated serial line (serial_host.WireDevice).
    def take(self, buffer: bytearray) -> bytes | None:
        """The next line, without the empty ones before it; what is too long for a line is taken as it comes."""
        if not self._overflow:
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        place = buffer.find(LINE_END)
        if place < 0 and len(buffer) < MAX_LINE:
            return None
        line = bytes(buffer[: place + 1] if place >= 0 else buffer)
        del buffer[: len(line)]
        self._overflow = self._overflow or len(line) > MAX_LINE or place < 0
        return line

    def answer(self, command: bytes, at_ns: int) -> bytes:
        """Carry out one line of :meth:`take`, whose last bit arrived at ``at_ns``; its reply (none once closed)."""
        with self._changed:
            if self._closed or not command.endswith(LINE_END):
                return b""
            self._now_ns = at_ns
            too_long, self._overflow = self._overflow, False
            if too_long:
                return reply(None, "NO 02 " + printable(f"{REFUSALS[2]}: more than {MAX_LINE} bytes"))
            self._changed.notify_all()
            return self._answer(command)

    def refuse(self, command: bytes) -> bytes:
        """The line is not carried out, since an engine failed."""
        with self._changed:
            self._state.register |= 0x04
        try:
            return reply(read_request(command).sequence, Refused(10, "simulated").line)
        except FrameError:
            return reply(None, f"NO 01 {REFUSALS[1]}")

    def misdirect(self, reply_line: bytes) -> bytes:
        """The same reply as for another direction, where it names one."""
        frame = read_reply(reply_line)
        if frame.words[:2] not in [("OK", verb) for verb in ("DIR", "SHO", "ARM")]:
            return reply_line
        other = str(int(frame.words[2]) % 4 + 1)
        return reply(frame.sequence, " ".join((*frame.words[:2], other, *frame.words[3:])))

    def _answer(self, line: bytes) -> bytes:
        self._state.requests += 1
        try:
            frame = read_request(line)
        except FrameError as e:
            return reply(None, f"NO 01 {printable(f'{REFUSALS[1]}: {e}')}")
        assert frame.sequence is not None
        self._state.heard_ns = self._now_ns
        try:
            if self._has("nak"):
                self._state.register |= 0x04
                raise Refused(10, "simulated")
            text = self._execute(frame)
        except Refused as refused:
            text = refused.line
        return self._spoiled(frame.sequence, text)

    def _execute(self, frame: Frame) -> str:
        verb, *rest = frame.words
        if verb not in self._handlers:
            raise Refused(3, verb)
        count, handler = self._handlers[verb]
        if count is not None and len(rest) != count:
            raise Refused(4, f"{verb} takes {count} words, {len(rest)} came")
        try:
            return f"OK {verb} {handler(tuple(rest))}".rstrip()
        except FrameError as e:
            raise Refused(4, str(e)) from e

    def _spoiled(self, sequence: int, text: str) -> bytes:
        """The reply as the faults let it out."""
        if self._has("silence"):
            return b""
        line = reply((sequence - 1) % 256 if self._has("stale") else sequence, text)
        if self._has("crc"):
            line = line[:-5] + b"%04X" % (int(line[-5:-1], 16) ^ 0x0101) + LINE_END
        return line

    def _has(self, name: str) -> bool:
        return any(f.name == name and f.at in (None, self._state.requests) for f in self._state.faults)

    def _has_at(self, name: str, number: int | None) -> bool:
        return number is not None and ProjectorFault(name, number) in self._state.faults

    # ------------------------------------------------------------------------------------------------------- commands
    def _begin(self, words: tuple[str, ...]) -> str:
        self._not_running()
        count = integer("number of patterns", words[0], 1, 9999)
        if count > self.identity.memory:
            raise Refused(9, f"{count} patterns, memory holds {self.identity.memory}")
        self._darken()
        state = self._state
        state.sequence, state.loading, state.expected = (), [], count
        state.displayed = state.register = 0
        return str(count)

    def _add(self, words: tuple[str, ...]) -> str:
        self._not_running()
        loading = self._state.loading
        if loading is None:
            raise Refused(9, "ADD without BEG")
        if not words:
            raise Refused(4, "ADD takes an index and a pattern")
        index = integer("index", words[0], 0, 9998)
        if index not in (len(loading), len(loading) - 1) or index >= self._state.expected:
            raise Refused(9, f"index {index} where {len(loading)} of {self._state.expected} belongs")
        pattern = pattern_of(words[1:])
        self._check_fits(pattern)
        loading[index:] = [pattern]  # the one added last may come again
        return str(index)

    def _check_fits(self, pattern: Pattern) -> None:
        if isinstance(pattern, Gray):
            reach = pattern.word_px << pattern.bits
            for direction, (columns, rows) in self.identity.sizes.items():
                length = columns if pattern.axis == "column" else rows
                if length > reach:
                    raise Refused(4, f"Gray code reaches {reach} px, direction {direction} has {length}")

    def _end(self, words: tuple[str, ...]) -> str:
        self._not_running()
        state = self._state
        count, said = integer("number of patterns", words[0], 1, 9999), hexadecimal("checksum", words[1], 4)
        patterns = state.sequence if state.loading is None else tuple(state.loading)
        computed = sequence_check(map(pattern_text, patterns))
        if not patterns or count != len(patterns) or (state.loading is not None and count != state.expected):
            state.loading = None
            raise Refused(9, f"{count} patterns ended, {len(patterns)} came of {state.expected}")
        if said != computed:
            state.loading = None
            raise Refused(9, f"checksum {said:04X}, computed {computed:04X}")
        state.sequence, state.loading = patterns, None
        return f"{count} {computed:04X}"

    def _select(self, words: tuple[str, ...]) -> str:
        self._not_running()
        direction = self._existing(words[0])
        self._darken()
        self._state.direction = direction
        return str(direction)

    def _show(self, words: tuple[str, ...]) -> str:
        self._not_running()
        state = self._state
        if state.direction is None:
            raise Refused(6, "none is selected")
        index = self._loaded_index(words[0])
        if (state.mode, state.index) != ("showing", index):
            state.mode, state.index = "showing", index
            state.displayed += 1
            self._light(state.sequence[index], self._now_ns + self._latency_ns)
        return f"{state.direction} {index}"

    def _arm(self, words: tuple[str, ...]) -> str:
        self._not_running()
        direction = self._existing(words[0])
        self._loaded_index("0")
        exposure, period = (
            integer(n, w, 1, 999_999_999) for n, w in zip(("exposure", "period"), words[1:], strict=True)
        )
        least, black = self.identity.minimum_exposure_us, self.identity.black_us
        if not least <= exposure <= LONGEST_US:
            raise Refused(7, f"exposure {exposure}, allowed {least} to {LONGEST_US} us")
        if not black + exposure <= period <= LONGEST_US:
            raise Refused(7, f"period {period}, allowed {black} + {exposure} to {LONGEST_US} us")
        self._darken()
        state = self._state
        state.mode, state.direction, state.armed_us, state.register = "armed", direction, (exposure, period), 0
        return f"{direction} {exposure} {period}"

    def _run(self, words: tuple[str, ...]) -> str:
        state = self._state
        if state.mode != "armed":
            raise Refused(5, f"{state.mode}, RUN needs armed")
        state.mode, state.slot, state.started_ns = "running", 0, self._now_ns + self._lead_ns
        return str(len(state.sequence))

    def _abort(self, words: tuple[str, ...]) -> str:
        self._darken()
        self._state.loading, self._state.register = None, 0
        return ""

    def _watchdog(self, words: tuple[str, ...]) -> str:
        self._state.watchdog_ms = integer("watchdog", words[0], *_WATCHDOG_RANGE_MS)
        return str(self._state.watchdog_ms)

    def _report(self) -> BridgeStatus:
        state = self._state
        return BridgeStatus(state.mode, state.direction, state.index, state.displayed, state.register)

    def _not_running(self) -> None:
        if self._state.mode == "running":
            raise Refused(5, "running, DRK ends it")

    def _existing(self, word: str) -> int:
        known = sorted(self.identity.sizes)
        if word not in map(str, known):
            raise Refused(6, f"{word}, there are {','.join(map(str, known))}")
        return int(word)

    def _loaded_index(self, word: str) -> int:
        if not self._state.sequence:
            raise Refused(8, "loading" if self._state.loading is not None else "")
        return integer("index", word, 0, len(self._state.sequence) - 1)

    # ---------------------------------------------------------------------------------------------------------- light
    def _light(self, pattern: Pattern, at_ns: int) -> None:
        direction = self._state.direction
        if self._has_at("dark", direction):
            self._timeline.show(None, None, at_ns)
        else:
            self._timeline.show(direction, pattern, at_ns)

    def _darken(self) -> None:
        """Nothing shown from now on (plus latency); whatever was armed, running or planned is gone."""
        if self._state.mode in ("showing", "running"):
            self._timeline.show(None, None, self._now_ns + self._latency_ns)
        self._state.mode, self._state.index = "dark", None

    def _work(self) -> None:
        """The bridge's own time: runs slots and the watchdog until closed."""
        while True:
            with self._changed:
                if self._closed:
                    return
                due_ns = self._due_ns()
                late_ns = None if due_ns is None else time.perf_counter_ns() - due_ns
                if due_ns is None or late_ns is None or late_ns < 0:
                    self._changed.wait(None if late_ns is None else -late_ns / 1e9)
                    continue
                edge = None
                if self._state.mode == "running":
                    edge = self._slot(due_ns)
                else:
                    self._starve()
            if edge is not None and self._edge is not None:
                self._edge(edge)  # outside the lock: a camera may take its time

    def _due_ns(self) -> int | None:
        state = self._state
        if state.mode == "running":
            return state.started_ns + state.slot * state.armed_us[1] * 1000
        return state.heard_ns + state.watchdog_ms * 1_000_000 if state.mode == "showing" else None

    def _starve(self) -> None:
        """What the watchdog does."""
        self._now_ns = time.perf_counter_ns()
        self._darken()
        self._state.register |= 0x02

    def _slot(self, start_ns: int) -> int | None:
        """Begin the next slot of a run: edge, black time, light, darkness. Returns the moment of the edge, if any."""
        state = self._state
        index = state.slot
        state.slot += 1
        stopped = self._has_at("stop", index)
        if index == len(state.sequence) or stopped:
            state.register |= 0x01 if stopped and index < len(state.sequence) else 0
            state.mode, state.index = "dark", None
            return None
        if self._has_at("skip", index):
            return None
        state.index = index
        state.displayed += 1
        lit_ns = start_ns + self.identity.black_us * 1000
        self._light(state.sequence[index], lit_ns)
        self._timeline.show(None, None, lit_ns + state.armed_us[0] * 1000)
        return start_ns
