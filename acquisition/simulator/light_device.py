"""Simulated light controllers: they parse bytes as strictly as real ones and light a :class:`Timeline`.

Written apart from the drivers, from the same public descriptions (CCS PDS-30 guide; VST.Device.LightController; Fgen plugin
of Vision-Non; Hikrobot controller of rmvl), so that an error in one does not hide one in the other. A device that does not
understand answers as its family does: CCS with ``N``, the XOR family with ``&``, letters with ``NG``, VST with nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rakelight.acquisition.simulator.timeline import Timeline
from rakelight.errors import InputError

_RAMP_STEPS = 4
BAUD = {"ccs": 9600, "vst": 38400, "xor": 9600, "hik": 19200, "cst": 19200}
"""Baud rate at which each family is delivered."""


@dataclass(frozen=True)
class LightFaults:
    """Faults of the lights themselves: zones that never shine; two zones whose cables are swapped."""

    dead: frozenset[int] = frozenset()
    swapped: tuple[int, int] | None = None


@dataclass
class _Channel:
    level: int = 0  # as commanded
    shown: int = 0  # as it would shine if on
    on: bool = False


@dataclass
class LightBank:
    """Channels with light zones on them: what lies behind every family's parser.

    Parameters
    ----------
    zones : mapping
        Channel (from 1) → zone.
    timeline : Timeline, optional
        What the light appears on; without it the device only remembers.
    full : int
        The level that is full brightness.
    latency_s, rise_s : float
        From the last bit of a command until the light begins to change, and from then until it has changed (linear, in four
        steps on the timeline).
    """

    zones: Mapping[int, int]
    timeline: Timeline | None = None
    full: int = 255
    latency_s: float = 0.001
    rise_s: float = 0.0
    faults: LightFaults = LightFaults()
    channels: dict[int, _Channel] = field(default_factory=dict)
    master: bool = True

    def __post_init__(self) -> None:
        unknown = [z for z in (*self.faults.dead, *(self.faults.swapped or ())) if z not in self.zones.values()]
        if unknown:
            raise InputError(
                f"light fault names zone {unknown[0]}; zones there are: {sorted(self.zones.values())}",
                hint="name one of these",
                code="simulator.fault",
            )
        self.channels = {channel: _Channel() for channel in self.zones}
        self._guard = threading.Lock()
        self._shone: dict[int, float] = {}

    def levels(self) -> dict[int, float]:
        """Zone → brightness of the zones that shine now or are about to."""
        with self._guard:
            return self._levels()

    def _levels(self) -> dict[int, float]:
        swap = dict(zip(self.faults.swapped, self.faults.swapped[::-1], strict=True)) if self.faults.swapped else {}
        lit = {}
        for channel, state in self.channels.items():
            zone = swap.get(self.zones[channel], self.zones[channel])
            if self.master and state.on and state.shown > 0 and zone not in self.faults.dead:
                lit[zone] = min(state.shown / self.full, 1.0)
        return lit

    def change(self, at_ns: int, channel: int | None, **values: int | bool) -> None:
        """Set attributes of a channel (or ``master``) by a command that was whole at ``at_ns``."""
        with self._guard:
            target = self if channel is None else self.channels[channel]
            for name, value in values.items():
                setattr(target, name, value)
            before, after = self._shone, self._levels()
            if self.timeline is not None and after != before:
                self._ramp(self.timeline, before, after, at_ns + int(self.latency_s * 1e9))
            self._shone = after

    def _ramp(self, timeline: Timeline, before: dict[int, float], after: dict[int, float], from_ns: int) -> None:
        steps = _RAMP_STEPS if self.rise_s > 0 else 0
        for k in range(steps):
            share = (k + 0.5) / steps
            mixed = {z: (1 - share) * before.get(z, 0.0) + share * after.get(z, 0.0) for z in {*before, *after}}
            timeline.set_zones(mixed, from_ns + int(self.rise_s * 1e9 * k / steps))
        timeline.set_zones(after, from_ns + int(self.rise_s * 1e9))


class CcsDevice:
    """CCS PDS: ``@ccFdddR``/``W`` sum CR LF, answered ``@ccO`` or ``@ccNe``; e: 1 command, 2 data, 3 checksum."""

    def __init__(self, bank: LightBank) -> None:
        self.bank = bank

    def take(self, buffer: bytearray) -> bytes | None:
        return _taken_line(buffer, b"\r\n", b"@")

    def answer(self, command: bytes, at_ns: int) -> bytes:
        body, right = _sum_checked(command)
        found = re.fullmatch(rb"@(\d\d)([A-Z])(.*)", body, re.DOTALL)
        if found is None or int(found[1]) + 1 not in self.bank.channels:
            return b""
        if not right:
            return _with_sum(body[:3] + b"N3")
        if found[2] != b"F":
            return _with_sum(body[:3] + b"N1")
        data = re.fullmatch(rb"(\d{3})[RW]", found[3])
        if data is None or int(data[1]) > 255:
            return _with_sum(body[:3] + b"N2")
        self.bank.change(at_ns, int(found[1]) + 1, level=int(data[1]), shown=int(data[1]), on=int(data[1]) > 0)
        return _with_sum(body[:3] + b"O")

    def refuse(self, command: bytes) -> bytes:
        return _with_sum(command[:3] + b"N1")

    def misdirect(self, reply: bytes) -> bytes:
        body, _ = _sum_checked(reply)
        return _with_sum(b"@%02d" % ((int(body[1:3]) + 1) % 16) + body[3:])


class VstDevice:
    """VST VLP: ``@ccFddd00`` sets a level that counts from the next ``@ccL100``; ``@ccL000`` darkens. Never answers."""

    def __init__(self, bank: LightBank, unit: bytes = b"00") -> None:
        self.bank, self.unit = bank, unit

    def take(self, buffer: bytearray) -> bytes | None:
        return _taken_line(buffer, b"\r\n", b"@")

    def answer(self, command: bytes, at_ns: int) -> bytes:
        body, right = _sum_checked(command)
        found = re.fullmatch(rb"@(\d\d)(F\d{3}|L[01])" + self.unit, body)
        if not right or found is None or int(found[1]) + 1 not in self.bank.channels:
            return b""
        channel, value = int(found[1]) + 1, int(found[2][1:])
        if found[2][:1] == b"F":
            if value <= 255:
                self.bank.change(at_ns, channel, level=value)
        else:
            self.bank.change(at_ns, channel, shown=self.bank.channels[channel].level, on=bool(value))
        return b""

    def refuse(self, command: bytes) -> bytes:
        return b""

    def misdirect(self, reply: bytes) -> bytes:
        return reply


class XorDevice:
    """Eight characters: lead, command, channel digit, three of data, XOR of these six in hex.

    ``strict`` False carries out commands with any check word, as some units do.
    """

    def __init__(self, bank: LightBank, lead: bytes = b"$", first_channel: int = 1, strict: bool = True) -> None:
        self.bank, self.lead, self.first, self.strict = bank, lead, first_channel, strict

    def take(self, buffer: bytearray) -> bytes | None:
        start = buffer.find(self.lead)
        del buffer[: len(buffer) if start < 0 else start]
        if len(buffer) < 8:
            return None
        command = bytes(buffer[:8])
        del buffer[:8]
        return command

    def answer(self, command: bytes, at_ns: int) -> bytes:
        channel = command[2] - ord("0") - self.first + 1
        hexadecimal = re.fullmatch(rb"[0-9A-Fa-f]{2}", command[4:6])
        right = command[6:8].upper() == self._word(command[:6])
        if (self.strict and not right) or channel not in self.bank.channels or hexadecimal is None:
            return b"&"
        state = self.bank.channels[channel]
        match command[1:2]:
            case b"1":
                self.bank.change(at_ns, channel, on=True)
            case b"2":
                self.bank.change(at_ns, channel, on=False)
            case b"3":
                level = int(command[4:6], 16)
                self.bank.change(at_ns, channel, level=level, shown=level)
            case b"4":
                body = command[:3] + b"0%02X" % state.level
                return body + self._word(body)
            case _:
                return b"&"
        return self.lead

    def refuse(self, command: bytes) -> bytes:
        return b"&"

    def misdirect(self, reply: bytes) -> bytes:
        if len(reply) < 8:  # an echo that names no channel: that of a unit with the other lead character
            return b"#" if self.lead == b"$" else b"$"
        body = reply[:2] + bytes([reply[2] ^ 1]) + reply[3:6]
        return body + self._word(body)

    @staticmethod
    def _word(six: bytes) -> bytes:
        word = 0
        for byte in six:
            word ^= byte
        return b"%02X" % word


class LetterDevice:
    """``SA0255#`` → ``A``; ``SA#`` → ``A0255``; all on/off; else ``NG``. The CST dialect answers in lower case."""

    def __init__(self, bank: LightBank, dialect: Literal["hik", "cst"] = "hik") -> None:
        self.bank, self.dialect = bank, dialect
        for state in bank.channels.values():
            state.on = True

    def take(self, buffer: bytearray) -> bytes | None:
        return _taken_line(buffer, b"#", b"ST")

    def answer(self, command: bytes, at_ns: int) -> bytes:
        reply = self._answer(command, at_ns)
        return reply.lower() if self.dialect == "cst" and reply != b"NG" else reply

    def _answer(self, command: bytes, at_ns: int) -> bytes:
        master = b"S" if self.dialect == "hik" else b"T"
        if command in (master + b"H#", master + b"L#"):
            self.bank.change(at_ns, None, master=command[1:2] == b"H")
            return command[1:2]
        found = re.fullmatch(rb"S([A-F])(\d{4})?#", command)
        channel = 0 if found is None else found[1][0] - ord("A") + 1
        if found is None or channel not in self.bank.channels:
            return b"NG"
        if found[2] is None:
            return found[1] + b"%04d" % self.bank.channels[channel].level
        if int(found[2]) > self.bank.full:
            return b"NG"
        self.bank.change(at_ns, channel, level=int(found[2]), shown=int(found[2]))
        return found[1]

    def refuse(self, command: bytes) -> bytes:
        return b"NG"

    def misdirect(self, reply: bytes) -> bytes:
        return bytes([reply[0] + 1]) + reply[1:]


LightDevice = CcsDevice | VstDevice | XorDevice | LetterDevice


def light_device(
    protocol: str,
    zones: Mapping[int, int],
    timeline: Timeline | None = None,
    *,
    latency_s: float = 0.001,
    rise_s: float = 0.0,
    faults: LightFaults | None = None,
) -> LightDevice:
    """A controller of a family (``ccs``, ``vst``, ``xor``, ``hik``, ``cst``) with ``zones`` (channel → zone) on it."""
    full = 999 if protocol == "cst" else 255
    bank = LightBank(dict(zones), timeline, full, latency_s, rise_s, faults or LightFaults())
    if protocol in ("hik", "cst"):
        return LetterDevice(bank, "hik" if protocol == "hik" else "cst")
    families = {"ccs": CcsDevice, "vst": VstDevice, "xor": XorDevice}
    if protocol not in families:
        raise InputError(
            f"light protocol {protocol!r} is not simulated; simulated are: {', '.join(BAUD)}",
            hint="choose one of these",
            code="simulator.protocol",
        )
    device: LightDevice = families[protocol](bank)
    return device


# ------------------------------------------------------------------------------------------------------------- helpers
def _taken_line(buffer: bytearray, end: bytes, leads: bytes) -> bytes | None:
    """The next command up to ``end`` from its last lead byte on; what stands before is thrown away."""
    while buffer and buffer[0] not in leads:
        del buffer[0]
    place = buffer.find(end)
    if place < 0:
        if len(buffer) > 64:
            buffer.clear()
        return None
    line = bytes(buffer[: place + len(end)])
    del buffer[: len(line)]
    return line


def _with_sum(body: bytes) -> bytes:
    return body + b"%02X\r\n" % (sum(body) % 256)


def _sum_checked(line: bytes) -> tuple[bytes, bool]:
    """Body of a line and whether its checksum is right."""
    body, stated = line[:-4], line[-4:-2]
    return body, stated == b"%02X" % (sum(body) % 256)
