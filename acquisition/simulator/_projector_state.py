"""What a simulated projector bridge remembers, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass, field

from rakelight.acquisition.drivers.projector_frames import MAX_LINE, REFUSALS, Mode
from rakelight.acquisition.simulator.projector_faults import ProjectorFault
from rakelight.reconstruction.patterns import Pattern

WATCHDOG_MS = 2000


class Refused(Exception):
    """A request that is answered ``NO``."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.line = f"NO {code:02d} {printable(REFUSALS[code] + (': ' + text if text else ''))}"


@dataclass
class BridgeState:
    """All that the bridge remembers."""

    mode: Mode = "dark"
    direction: int | None = None
    index: int | None = None
    displayed: int = 0
    register: int = 0
    sequence: tuple[Pattern, ...] = ()
    loading: list[Pattern] | None = None
    expected: int = 0  # patterns that a loading sequence shall have
    armed_us: tuple[int, int] = (0, 0)  # exposure, period
    started_ns: int = 0  # first edge of the run
    slot: int = 0  # next slot of the run
    heard_ns: int = 0
    watchdog_ms: int = WATCHDOG_MS
    faults: list[ProjectorFault] = field(default_factory=list)
    requests: int = -1  # number of the last one since the faults were set


def printable(text: str) -> str:
    """``text`` as words that a frame of a reply can carry, cut to its length."""
    ascii_text = text.encode("ascii", "replace").decode().replace("*", "x")
    kept = "".join(c if " " <= c <= "~" else " " for c in ascii_text)
    return " ".join(" ".join(kept.split())[: MAX_LINE - 20].split())
