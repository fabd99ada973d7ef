"""What the simulated light controller and projectors did, and when: what an exposure integrates."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rakelight.reconstruction.patterns import Pattern

_KEPT_NS = 60_000_000_000  # how long the past is remembered; an exposure is shorter


@dataclass(frozen=True)
class LightState:
    """What is lit: level of each lit zone, and the pattern (if any) that one direction shows."""

    zones: tuple[tuple[int, float], ...] = ()
    direction: int | None = None
    pattern: Pattern | None = None


class Timeline:
    """A thread-safe record of light states over the host's monotonic clock (ns).

    Devices call ``set_zones`` and ``show`` with the moment at which light really changes (rise time of a driver, latency
    of a controller: later than the command). Moments may lie in the future; a later call replaces what lies after it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times = [0]
        self._states = [LightState()]

    def set_zones(self, levels: Mapping[int, float], at_ns: int | None = None) -> None:
        """From ``at_ns`` (now) on, exactly these zones shine at these levels (0 to 1)."""
        lit = tuple(sorted((zone, level) for zone, level in levels.items() if level > 0))
        self._change(at_ns, lambda old: LightState(lit, old.direction, old.pattern))

    def show(self, direction: int | None, pattern: Pattern | None, at_ns: int | None = None) -> None:
        """From ``at_ns`` (now) on, one projector shows a pattern; None for darkness."""
        self._change(at_ns, lambda old: LightState(old.zones, direction if pattern is not None else None, pattern))

    def _change(self, at_ns: int | None, change) -> None:  # type: ignore[no-untyped-def]
        at = time.perf_counter_ns() if at_ns is None else at_ns
        with self._lock:
            place = bisect.bisect_left(self._times, at)
            before = self._states[max(place - 1, 0)]
            following = [change(state) for state in self._states[place:]]
            self._times[place:] = [at, *self._times[place:]]
            self._states[place:] = [change(before), *following]
            while len(self._times) > 2 and self._times[1] < at - _KEPT_NS:
                del self._times[0], self._states[0]

    def now(self) -> LightState:
        """What is lit at this moment."""
        return self.between(time.perf_counter_ns(), time.perf_counter_ns() + 1)[-1][0]

    def between(self, start_ns: int, end_ns: int) -> list[tuple[LightState, float]]:
        """The states between two moments with their durations in µs, in order."""
        with self._lock:
            first = max(bisect.bisect_right(self._times, start_ns) - 1, 0)
            pieces = []
            for k in range(first, len(self._times)):
                begin = max(self._times[k], start_ns)
                end = min(self._times[k + 1] if k + 1 < len(self._times) else end_ns, end_ns)
                if begin >= end_ns:
                    break
                if end > begin:
                    pieces.append((self._states[k], (end - begin) / 1000))
            return pieces or [(self._states[-1], (end_ns - start_ns) / 1000)]
