"""Faults of a simulated rig by name: what goes wrong at which end of which wire, and with which frame or command.

``drop@17``, ``incomplete@3``, ``duplicate@3``, ``late@3``, ``unplug@3``: the camera's n-th frame, from 1. ``over_trigger@3``: one
more trigger comes while that frame is exposed (a bouncing wire, a command sent twice). ``stuck@9``: that frame sees the pattern
of the one before; ``moved@9``: from that frame on the picture lies 2 px further right and down. ``dead_zone@2``: the lamp of
zone 2; ``swapped_zones@13``: the cables of zones 1 and 3. ``light.NAME`` and ``projector.NAME``: a fault of ``serial_faults`` or
``projector_faults``, with its own place. Several are joined by commas.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from rakelight.acquisition.simulator.projector_faults import FAULTS as PROJECTOR_FAULTS
from rakelight.acquisition.simulator.projector_faults import ProjectorFault
from rakelight.acquisition.simulator.scene_server import DROP, DUPLICATE, INCOMPLETE, UNPLUG, WireFault
from rakelight.acquisition.simulator.serial_faults import FAULTS as SERIAL_FAULTS
from rakelight.acquisition.simulator.serial_faults import SerialFault
from rakelight.errors import InputError

_CAMERA = {"drop": DROP, "incomplete": INCOMPLETE, "duplicate": DUPLICATE, "unplug": UNPLUG}
_LATE_S = 12.0  # longer than any deadline of a frame


@dataclass(frozen=True)
class FaultPlan:
    """All faults of a run: of camera frames, of the lamps, of the two serial lines, of the projector bridge."""

    frames: tuple[tuple[str, int], ...] = ()
    dead_zones: frozenset[int] = frozenset()
    swapped_zones: tuple[int, int] | None = None
    light_line: tuple[SerialFault, ...] = ()
    projector_line: tuple[SerialFault, ...] = ()
    projector: tuple[str, ...] = ()
    over_triggers: frozenset[int] = frozenset()
    stuck_frames: frozenset[int] = frozenset()
    moved_from: int | None = None

    def of_frame(self, number: int, image_bytes: int) -> WireFault | float | None:
        """What happens to the camera's ``number``-th frame: a wire fault, seconds of delay, or nothing."""
        for name, at in self.frames:
            if at == number and name == "late":
                return _LATE_S
            if at == number:
                return WireFault(_CAMERA[name], image_bytes * 2 // 3 if name == "incomplete" else 0)
        return None


def parse_faults(text: str) -> FaultPlan:
    """``drop@17,light.silence@3`` → a plan; raises :class:`InputError` (``simulator.fault``) that lists the names."""
    frames: list[tuple[str, int]] = []
    dead: set[int] = set()
    swapped = None
    lines: dict[str, list[SerialFault]] = {"light": [], "projector": []}
    bridge: list[str] = []
    over: set[int] = set()
    stuck: set[int] = set()
    moved: int | None = None
    for item in filter(None, (part.strip() for part in text.split(","))):
        owner, dot, rest = item.partition(".")
        name = rest.partition("@")[0]
        match = re.fullmatch(r"([a-z_]+)@([1-9]\d{0,6})", item)
        if dot and owner == "projector" and name in PROJECTOR_FAULTS and name not in SERIAL_FAULTS:
            bridge.append(ProjectorFault.of(rest).name + rest[len(name) :])
        elif dot and owner in lines and name in SERIAL_FAULTS:
            lines[owner].append(SerialFault.parse(rest))
        elif match and (match[1] in _CAMERA or match[1] == "late"):
            frames.append((match[1], int(match[2])))
        elif match and match[1] == "over_trigger":
            over.add(int(match[2]))
        elif match and match[1] == "stuck":
            stuck.add(int(match[2]))
        elif match and match[1] == "moved":
            moved = int(match[2])
        elif match and match[1] == "dead_zone":
            dead.add(int(match[2]))
        elif match and match[1] == "swapped_zones" and len(match[2]) == 2:
            swapped = int(match[2][0]), int(match[2][1])
        else:
            raise _unknown(item)
    return FaultPlan(
        tuple(frames),
        frozenset(dead),
        swapped,
        tuple(lines["light"]),
        tuple(lines["projector"]),
        tuple(bridge),
        frozenset(over),
        frozenset(stuck),
        moved,
    )


def _unknown(item: str) -> InputError:
    known = [
        *_CAMERA, "late", "over_trigger", "stuck", "moved", "dead_zone", "swapped_zones",
        *(f"light.{n}" for n in SERIAL_FAULTS), *(f"projector.{n}" for n in {**SERIAL_FAULTS, **PROJECTOR_FAULTS}),
    ]  # fmt: skip
    near = difflib.get_close_matches(item.split("@")[0], known, n=1)
    return InputError(
        f"fault {item!r} is not known; write NAME@NUMBER with NAME one of {', '.join(known)}",
        hint=f"did you mean {near[0]}@1?" if near else "for example drop@17, dead_zone@2, swapped_zones@13",
        code="simulator.fault",
    )
