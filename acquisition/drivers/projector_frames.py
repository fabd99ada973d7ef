"""The projector bridge's line protocol as pure functions: frames, checksums, pattern texts, what replies say.

``docs/projector-protocol.md`` states the protocol; its examples are the tests of this module. Nothing here opens a port
or knows the time, so that the driver and anything that plays a bridge read and write the same bytes.

Everything that does not fit raises :class:`FrameError`, which says what was found.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from rakelight.errors import InputError
from rakelight.reconstruction.patterns import Axis, Gray, Pattern, Sinusoid, Uniform

PROTOCOL = 1
MAX_LINE = 119
"""Longest frame in bytes, its line feed included."""
LINE_END = b"\n"

REFUSALS = {
    1: "line damaged",
    2: "line too long",
    3: "unknown command",
    4: "wrong argument",
    5: "not in this mode",
    6: "no such direction",
    7: "exposure or period out of range",
    8: "no sequence loaded",
    9: "sequence incomplete or wrong",
    10: "projector engine failed",
}
"""Codes of ``NO`` replies and their meaning."""

REGISTER = {
    0x01: "a run ended before its last pattern",
    0x02: "went dark because nothing was heard",
    0x04: "a projector engine does not answer",
}
"""Bits of the error register and their meaning."""

Mode = Literal["dark", "showing", "armed", "running"]

_FRAME = re.compile(rb"([<>])([0-9A-F]{2}|--) ([!-)+-~]+(?: [!-)+-~]+)*)\*([0-9A-F]{4})\Z")
_INTEGER = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e-?[0-9]{1,3})?\Z")
_WORD = re.compile(r"[0-9A-Za-z._-]{1,16}\Z")
_SIZE = re.compile(r"([1-4]):([1-9][0-9]{0,4})x([1-9][0-9]{0,4})\Z")


class FrameError(ValueError):
    """Bytes or words that do not follow the protocol; the text says which and why."""


# -------------------------------------------------------------------------------------------------------------- frames
@dataclass(frozen=True)
class Frame:
    """One checked line: its sequence number (None in replies to lines that could not be read) and its words."""

    sequence: int | None
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def crc16(data: bytes) -> int:
    """CRC-16/IBM-3740: polynomial 0x1021, start 0xFFFF, not reflected, no final XOR; of b"123456789" it is 0x29B1.

    (Also called CRC-16/CCITT-FALSE; catalogue of parametrised CRC algorithms, reveng.sourceforge.io.)
    """
    return binascii.crc_hqx(data, 0xFFFF)


def request(sequence: int, text: str) -> bytes:
    """The frame of a request, ``>``, with line feed. Raises :class:`FrameError` for what no frame can carry."""
    return _frame(b">", sequence, text)


def reply(sequence: int | None, text: str) -> bytes:
    """The frame of a reply, ``<``, with line feed. Raises :class:`FrameError` for what no frame can carry."""
    return _frame(b"<", sequence, text)


def read_request(line: bytes) -> Frame:
    """The request in a line (with or without its end). Raises :class:`FrameError`."""
    frame = _read(b">", line)
    if frame.sequence is None:
        raise FrameError("a request without a sequence number")
    return frame


def read_reply(line: bytes) -> Frame:
    """The reply in a line (with or without its end). Raises :class:`FrameError`."""
    return _read(b"<", line)


def _frame(mark: bytes, sequence: int | None, text: str) -> bytes:
    number = b"--" if sequence is None else b"%02X" % sequence
    try:
        body = mark + number + b" " + text.encode("ascii")
    except UnicodeEncodeError as e:
        raise FrameError(f"{text!r} is not ASCII") from e
    line = body + b"*%04X" % crc16(body)
    if not _FRAME.match(line):
        raise FrameError(f"{line!r} is no frame: words of printable characters but *, one space between them")
    if len(line) + len(LINE_END) > MAX_LINE:
        raise FrameError(f"a frame of {len(line) + len(LINE_END)} bytes; allowed: at most {MAX_LINE}")
    return line + LINE_END


def _read(mark: bytes, line: bytes) -> Frame:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(line) + len(LINE_END) > MAX_LINE:
        raise FrameError(f"a line of more than {MAX_LINE} bytes")
    found = _FRAME.match(line)
    if found is None:
        raise FrameError(f"{line!r} is no frame")
    if found[1] != mark:
        raise FrameError(f"a frame that begins with {found[1].decode()} where {mark.decode()} belongs")
    said, computed = int(found[4], 16), crc16(line[:-5])
    if said != computed:
        raise FrameError(f"checksum {said:04X} where {computed:04X} belongs")
    number = None if found[2] == b"--" else int(found[2], 16)
    return Frame(number, tuple(found[3].decode("ascii").split(" ")))


# --------------------------------------------------------------------------------------------------------------- words
def integer(name: str, word: str, low: int, high: int) -> int:
    """A word as a whole number in a range. Raises :class:`FrameError` naming it."""
    if not _INTEGER.match(word) or not low <= int(word) <= high:
        raise FrameError(f"{name} {word}; allowed {low} to {high}")
    return int(word)


def hexadecimal(name: str, word: str, digits: int) -> int:
    """A word of exactly that many upper-case hex digits. Raises :class:`FrameError` naming it."""
    if not re.fullmatch(f"[0-9A-F]{{{digits}}}", word):
        raise FrameError(f"{name} {word}; allowed {digits} hex digits")
    return int(word, 16)


def _number(name: str, word: str) -> float:
    if not _NUMBER.match(word):
        raise FrameError(f"{name} {word}; allowed a number such as 16 or 0.5")
    return float(word)


def _written(value: float) -> str:
    """The shortest decimal that reads back as the same double."""
    return repr(float(value)).removesuffix(".0")


# ------------------------------------------------------------------------------------------------------------ patterns
_AXES: dict[Axis, str] = {"column": "c", "row": "r"}


def pattern_text(pattern: Pattern) -> str:
    """A pattern as the protocol writes it: ``U level``, ``S axis period steps step offset amplitude``,
    ``G axis bit bits word n|i``.

    Raises :class:`InputError` ``projector.pattern`` for a kind of pattern that the protocol does not know.
    """
    match pattern:
        case Uniform(level=level):
            return f"U {_written(level)}"
        case Sinusoid(axis, period_px, steps, step, offset, amplitude):
            values = f"{_written(period_px)} {steps} {step} {_written(offset)} {_written(amplitude)}"
            return f"S {_AXES[axis]} {values}"
        case Gray(axis, bit, bits, word_px, inverted):
            return f"G {_AXES[axis]} {bit} {bits} {word_px} {'i' if inverted else 'n'}"
    raise InputError(
        f"a pattern of kind {pattern.kind!r} cannot be sent to a projector bridge; known: uniform, sinusoid, gray",
        hint="show it with another projector driver",
        code="projector.pattern",
    )


def pattern_of(words: Iterable[str]) -> Pattern:
    """The pattern that :func:`pattern_text` wrote. Raises :class:`FrameError`, naming what does not fit."""
    words = tuple(words)
    try:
        match words:
            case ("U", level):
                return Uniform(_number("level", level))
            case ("S", axis, period, steps, step, offset, amplitude):
                numbers = _number("period", period), _counted("steps", steps), _counted("step", step)
                return Sinusoid(_axis(axis), *numbers, _number("offset", offset), _number("amplitude", amplitude))
            case ("G", axis, bit, bits, word, "n" | "i" as sense):
                numbers_px = _counted("bit", bit), _counted("bits", bits), _counted("word", word)
                return Gray(_axis(axis), *numbers_px, sense == "i")
    except InputError as e:
        raise FrameError(e.message) from e
    raise FrameError(f"pattern {' '.join(words)!r} is none of U, S, G")


def _counted(name: str, word: str) -> int:
    return integer(name, word, 0, 999_999)


def _axis(word: str) -> Axis:
    for axis, letter in _AXES.items():
        if word == letter:
            return axis
    raise FrameError(f"axis {word}; allowed c or r")


def sequence_check(texts: Iterable[str]) -> int:
    """The checksum of a whole sequence: :func:`crc16` of its pattern texts, each with a line feed, as one string."""
    return crc16(b"".join(text.encode("ascii") + LINE_END for text in texts))


# ------------------------------------------------------------------------------------------------------------- replies
@dataclass(frozen=True)
class BridgeIdentity:
    """What a bridge says it is.

    ``sizes`` maps each direction that has a projector to (columns, rows); times in µs; ``memory`` is the largest number
    of patterns in a sequence. ``black_us`` passes between a trigger edge and the light of its pattern.
    """

    name: str
    firmware: str
    sizes: dict[int, tuple[int, int]]
    minimum_exposure_us: int
    black_us: int
    memory: int

    def text(self) -> str:
        """The words after ``OK ID``."""
        sizes = ",".join(f"{direction}:{w}x{h}" for direction, (w, h) in sorted(self.sizes.items()))
        times = f"{self.minimum_exposure_us} {self.black_us}"
        return f"{PROTOCOL} {self.name} {self.firmware} {sizes} {times} {self.memory}"

    @classmethod
    def of(cls, words: tuple[str, ...]) -> BridgeIdentity:
        """The identity in the words after ``OK ID``. Raises :class:`FrameError`."""
        if not words or words[0] != str(PROTOCOL):
            raise FrameError(f"protocol {words[0] if words else '(none)'}; this version speaks protocol {PROTOCOL}")
        if len(words) != 7 or not all(_WORD.match(word) for word in words[1:3]):
            raise FrameError(
                f"identity {' '.join(words)!r}; needed: protocol name firmware sizes exposure black memory"
            )
        found = [_SIZE.match(size) for size in words[3].split(",")]
        sizes = {int(m[1]): (int(m[2]), int(m[3])) for m in found if m is not None}
        if len(sizes) != len(found):
            raise FrameError(f"sizes {words[3]}; needed: each direction once, as 1:912x1140")
        exposure, black = (integer(n, w, 0, 999_999) for n, w in zip(("exposure", "black"), words[4:6], strict=True))
        return cls(words[1], words[2], sizes, exposure, black, integer("memory", words[6], 1, 9999))


@dataclass(frozen=True)
class BridgeStatus:
    """What ``ST`` tells: mode, direction (None: none selected), pattern shown (None: none), count, error register."""

    mode: Mode
    direction: int | None
    index: int | None
    displayed: int
    register: int = 0

    def text(self) -> str:
        """The words after ``OK ST``."""
        direction, index = ("-" if value is None else str(value) for value in (self.direction, self.index))
        return f"{self.mode} {direction} {index} {self.displayed} {self.register:02X}"

    @classmethod
    def of(cls, words: tuple[str, ...]) -> BridgeStatus:
        """The status in the words after ``OK ST``. Raises :class:`FrameError`."""
        if len(words) != 5 or words[0] not in get_args(Mode):
            raise FrameError(f"status {' '.join(words)!r}; needed: mode direction index displayed register")
        direction = None if words[1] == "-" else integer("direction", words[1], 1, 4)
        index = None if words[2] == "-" else integer("index", words[2], 0, 9998)
        displayed, register = integer("displayed", words[3], 0, 999_999_999), hexadecimal("register", words[4], 2)
        return cls(cast(Mode, words[0]), direction, index, displayed, register)


def register_text(register: int) -> str:
    """The error register in words; empty for 0."""
    told = [meaning for bit, meaning in REGISTER.items() if register & bit]
    unknown = register & ~sum(REGISTER)
    return "; ".join(told + ([f"unknown bits {unknown:02X}"] if unknown else []))
