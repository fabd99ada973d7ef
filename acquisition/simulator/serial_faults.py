"""Faults on a simulated serial line, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rakelight.errors import InputError

FAULTS = {
    "silence": "the command is carried out but not answered",
    "deaf": "the command is lost on its way: neither carried out nor answered",
    "late": "the answer comes ``late_s`` later",
    "garbage": "noise comes before the answer",
    "nak": "the command is refused and not carried out",
    "truncated": "only the first half of the answer comes",
    "bit_error": "one bit of the answer is wrong",
    "wrong_echo": "the answer is one to another channel",
    "previous": "the answer to the command before comes instead",
    "disconnect": "the port vanishes before the command is carried out (for ``gone_s`` seconds, or until told)",
}


@dataclass(frozen=True)
class SerialFault:
    """A fault that befalls ``count`` commands from the ``at``-th on (from 0, counted since the host was made)."""

    name: str
    at: int = 0
    count: int = 1
    late_s: float = 1.0
    gone_s: float | None = None

    def __post_init__(self) -> None:
        if self.name not in FAULTS or self.at < 0 or self.count < 1:
            raise InputError(
                f"serial fault {self.name!r} at {self.at}, {self.count} times; known: {', '.join(FAULTS)}; at ≥ 0, count ≥ 1",
                hint="write for example garbage@17 or silence@3x2",
                code="simulator.fault",
            )

    @classmethod
    def parse(cls, text: str) -> SerialFault:
        """``name``, ``name@17`` or ``name@17x2``; without a place it befalls every command."""
        name, mark, place = text.partition("@")
        if not mark:
            return cls(name, 0, 1 << 60)
        first, times, count = place.partition("x")
        if not (first.isdecimal() and (count.isdecimal() or not times)):
            raise InputError(
                f"serial fault {text!r} has no place like @17 or @17x2", hint="see there", code="simulator.fault"
            )
        return cls(name, int(first), int(count) if times else 1)

    def befalls(self, index: int) -> bool:
        return self.at <= index < self.at + self.count


def faults_of(names: Iterable[SerialFault | str]) -> tuple[SerialFault, ...]:
    return tuple(SerialFault.parse(f) if isinstance(f, str) else f for f in names)
