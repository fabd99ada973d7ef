"""Faults of a simulated projector bridge, by name. Those of its line are in :mod:`serial_faults`."""

from __future__ import annotations

from dataclasses import dataclass

from rakelight.errors import InputError

FAULTS = {
    "dark": "the projector of direction @N stays dark (needs @N)",
    "skip": "a run leaves out the pattern with index @N, its edge too (needs @N)",
    "stop": "a run ends after @N patterns (needs @N)",
    "crc": "a reply carries a wrong checksum",
    "nak": "a command is refused: engine failed",
    "silence": "a command is carried out but never answered",
    "stale": "a reply carries the sequence number before its own",
}
"""Faults by name. The last four befall every request, or with @N only
request N, counted from 0 when the fault was set."""


@dataclass(frozen=True)
class ProjectorFault:
    """A fault of :data:`FAULTS`, written ``name`` or ``name@N``."""

    name: str
    at: int | None = None

    @classmethod
    def of(cls, text: str) -> ProjectorFault:
        """The fault that a text names. Raises :class:`InputError` ``simulator.fault``."""
        name, mark, number = text.partition("@")
        known = ", ".join(FAULTS)
        hint = "for example stop@7 or silence"
        if name not in FAULTS:
            raise InputError(f"projector fault {text!r}; known: {known}", hint=hint, code="simulator.fault")
        if (mark and not (number.isascii() and number.isdigit())) or (not mark and "needs @N" in FAULTS[name]):
            raise InputError(f"projector fault {text!r}: {FAULTS[name]}", hint=hint, code="simulator.fault")
        return cls(name, int(number) if mark else None)
