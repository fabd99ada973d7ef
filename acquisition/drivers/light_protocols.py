"""What four-channel light controllers say on their serial line: families as rows of data and pure functions on bytes.

A :class:`Command` is a frame and the judge of its answer:
given the bytes that came so far it returns None (more are needed), a :class:`Verdict`, or raises ValueError when they can
never become an answer to *this* command. Judges are strict, so that an answer to another command, to another channel or
with a wrong checksum is never taken for a yes.

Channels are numbered from 1, as controllers print them; what stands on the wire is the family's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from operator import xor


@dataclass(frozen=True)
class Verdict:
    """A whole answer: its length in bytes, the value it carries if any, and why the device refused ("" if it did not)."""

    length: int
    value: int | None = None
    refused: str = ""


Judge = Callable[[bytes], Verdict | None]


@dataclass(frozen=True)
class Command:
    """Bytes to send and how to judge what comes back (``judge`` None: nothing ever does; ``answer_bytes`` then is 0)."""

    frame: bytes
    judge: Judge | None = None
    answer_bytes: int = 0


@dataclass(frozen=True)
class LightProtocol:
    """A family, or a dialect of one.

    Attributes
    ----------
    name, title : str
        As settings write it; what it is.
    baud : int
        As the makers deliver it; 8N1.
    channels : int
        Most channels the framing can address.
    max_level : int
        The level that is full brightness.
    level : (channel, level) -> Command
        Sets a level. Where there is no ``switch`` this also lights, and 0 darkens.
    switch : (channel, on) -> Command, optional
        Lights a channel at the level it was given last, or darkens it.
    read : (channel) -> Command, optional
        Asks for a channel's level.
    master : (on) -> Command, optional
        Lets all channels shine at their levels, or darkens all at once.
    gap_s : float
        Pause that the controller needs after a command.
    settle_ms : float
        From the end of a command until the light is steady, if the settings do not say.
    """

    name: str
    title: str
    baud: int
    channels: int
    max_level: int
    level: Callable[[int, int], Command]
    switch: Callable[[int, bool], Command] | None = None
    read: Callable[[int], Command] | None = None
    master: Callable[[bool], Command] | None = None
    gap_s: float = 0.0
    settle_ms: float = 5.0


# ------------------------------------------------------------------------------------- "@": CCS PD/PDS, VST VLP-24xx
def at_frame(body: str) -> bytes:
    """``body``, the sum of its ASCII bytes modulo 256 as two upper-case hex digits, CR LF."""
    raw = body.encode("ascii")
    return raw + f"{sum(raw) % 256:02X}\r\n".encode("ascii")


def judge_at(channel: int, received: bytes) -> Verdict | None:
    """``@ccO`` + sum (done) or ``@ccNe`` + sum (refused, e a digit), both with CR LF, cc the channel from 00."""
    head = f"@{channel - 1:02d}".encode("ascii")
    if received[: len(head)] != head[: len(received)]:
        raise ValueError(f"an answer for channel {channel} begins with {head.decode('ascii')}")
    kind = received[3:4]
    if kind not in (b"", b"O", b"N"):
        raise ValueError("after the channel stands neither O nor N")
    whole = 8 if kind == b"O" else 9
    if not kind or len(received) < whole:
        return None
    body, tail = received[: whole - 4], received[whole - 4 : whole]
    expected = at_frame(body.decode("latin-1"))[-4:] if body.isascii() else b""
    if tail != expected:
        raise ValueError(f"its checksum and end should be {expected!r}")
    if kind == b"O":
        return Verdict(whole)
    if not received[4:5].isdigit():
        raise ValueError("the error is no digit")
    return Verdict(whole, refused=f"error {received[4:5].decode('ascii')}")


def ccs(write_flag: str = "R") -> LightProtocol:
    """CCS PDS: ``@`` channel ``F`` level flag sum; the flag R writes to RAM, W to EEPROM (which wears out).

    Source: CCS PDS-30 instruction guide, pages 15-18. Only ``F`` is used: its level 0 is darkness.
    """

    def level(channel: int, value: int) -> Command:
        return Command(at_frame(f"@{channel - 1:02d}F{value:03d}{write_flag}"), partial(judge_at, channel), 8)

    return LightProtocol("ccs", "CCS PD/PDS (@, answers)", 9600, 16, 255, level)


def vst(unit: str = "00") -> LightProtocol:
    """VST VLP-24xx: ``@`` channel ``F`` level or ``L1``/``L0`` unit sum; never answers; a level counts from the next L1.

    Source: the RS232 class of VST.Device.LightController (VSTechnologyTW), which pauses 10 ms after each command.
    """

    def level(channel: int, value: int) -> Command:
        return Command(at_frame(f"@{channel - 1:02d}F{value:03d}{unit}"))

    def switch(channel: int, on: bool) -> Command:
        return Command(at_frame(f"@{channel - 1:02d}L{int(on)}{unit}"))

    return LightProtocol(
        "vst", "VST VLP (@, silent)", 38400, 16, 255, level, switch=switch, gap_s=0.010, settle_ms=15.0
    )


# -------------------------------------------------------------------------------- eight characters with an XOR word
def xor_frame(lead: str, command: int, channel_digit: int, data: str) -> bytes:
    """Lead character, command, channel, three characters of data, XOR of those six as two upper-case hex digits."""
    raw = f"{lead}{command}{channel_digit}{data}".encode("ascii")
    return raw + f"{reduce(xor, raw):02X}".encode("ascii")


def judge_xor_done(lead: str, received: bytes) -> Verdict | None:
    """The lead character: done; ``&``: refused."""
    if received[:1] == lead.encode("ascii"):
        return Verdict(1)
    if received[:1] == b"&":
        return Verdict(1, refused="the controller answered &")
    if not received:
        return None
    raise ValueError(f"neither {lead} (done) nor & (refused)")


def judge_xor_level(lead: str, digit: int, strict: bool, received: bytes) -> Verdict | None:
    """A read command's answer: a frame of the same form, ``0`` and two hex digits its data."""
    if received[:1] == b"&":
        return Verdict(1, refused="the controller answered &")
    head = f"{lead}4{digit}0".encode("ascii")
    if received[: len(head)] != head[: len(received)]:
        raise ValueError(f"such an answer begins with {head.decode('ascii')}")
    if any(byte not in b"0123456789ABCDEFabcdef" for byte in received[4:8]):
        raise ValueError("the level or the check word is no hex number")
    if len(received) < 8:
        return None
    word = reduce(xor, received[:6])
    if strict and int(received[6:8], 16) != word:
        raise ValueError(f"its check word should be {word:02X}")
    return Verdict(8, value=int(received[4:6], 16))


def xor_ascii(lead: str = "$", first_channel: int = 1, strict: bool = True) -> LightProtocol:
    """Eight-character ASCII (OPT DPA-like with ``$``, Fgen with ``#``): 1 on, 2 off, 3 level, 4 read.

    ``first_channel`` is the digit of channel 1 on the wire; ``strict`` False accepts answers with any check word.
    Sources: the Fgen plugin of Echoxx15/Vision-Non; protocol notes of OPT DPA-like units. Makers differ in all three options.
    """

    def digit(channel: int) -> int:
        return channel - 1 + first_channel

    def level(channel: int, value: int) -> Command:
        return Command(xor_frame(lead, 3, digit(channel), f"0{value:02X}"), partial(judge_xor_done, lead), 1)

    def switch(channel: int, on: bool) -> Command:
        frame = xor_frame(lead, 1, digit(channel), "010") if on else xor_frame(lead, 2, digit(channel), "000")
        return Command(frame, partial(judge_xor_done, lead), 1)

    def read(channel: int) -> Command:
        judge = partial(judge_xor_level, lead, digit(channel), strict)
        return Command(xor_frame(lead, 4, digit(channel), "000"), judge, 8)

    return LightProtocol("xor", f"eight-character ASCII ({lead})", 9600, 8, 255, level, switch=switch, read=read)


# ----------------------------------------------------------------------------------------------------- letters and #
def judge_letter(letter: str, digits: int, received: bytes) -> Verdict | None:
    """The letter in either case, then ``digits`` decimal digits; or ``NG``."""
    head = received[:1].upper()
    if head == b"N" and letter != "N":
        if received[:2].upper() not in (b"N", b"NG"):
            raise ValueError("begins like NG but is not")
        return Verdict(2, refused="the controller answered NG") if len(received) >= 2 else None
    if head not in (b"", letter.encode("ascii")):
        raise ValueError(f"such an answer begins with {letter}")
    value = received[1 : 1 + digits]
    if value and not (value.isdigit() and value.isascii()):
        raise ValueError("the level is no number")
    if len(received) < 1 + digits:
        return None
    return Verdict(1 + digits, value=int(value) if digits else None)


def _letter(name: str, title: str, max_level: int, on: str, off: str) -> LightProtocol:
    def letter(channel: int) -> str:
        return "ABCDEF"[channel - 1]

    def level(channel: int, value: int) -> Command:
        c = letter(channel)
        return Command(f"S{c}{value:04d}#".encode("ascii"), partial(judge_letter, c, 0), 1)

    def read(channel: int) -> Command:
        return Command(f"S{letter(channel)}#".encode("ascii"), partial(judge_letter, letter(channel), 4), 5)

    def master(lit: bool) -> Command:
        code = on if lit else off
        return Command(f"{code}#".encode("ascii"), partial(judge_letter, code[1], 0), 1)

    return LightProtocol(name, title, 19200, 6, max_level, level, read=read, master=master)


def hik() -> LightProtocol:
    """Hikrobot RS-232: ``SA0255#`` answered ``A``; ``SA#`` answered ``A0255``; ``SH#``/``SL#`` all on/off; ``NG`` refuses.

    Source: the Hikrobot controller of cv-rmvl/rmvl (modules/light).
    """
    return _letter("hik", "Hikrobot letters", 255, "SH", "SL")


def cst() -> LightProtocol:
    """CST, Rsee and the like: the same in lower-case answers, levels to 999, ``TH#``/``TL#`` all on/off.

    Source: the command table of a public serial test tool. Baud rate as Hikrobot's: set it if yours differs.
    """
    return _letter("cst", "CST letters", 999, "TH", "TL")
