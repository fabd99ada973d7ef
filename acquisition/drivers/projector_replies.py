"""Judges of the projector bridge's replies, for :class:`~rakelight.acquisition.serial_port.SerialPort`."""

from __future__ import annotations

from collections.abc import Callable

from rakelight.acquisition.drivers.projector_frames import LINE_END, MAX_LINE, REFUSALS, Frame, FrameError, read_reply
from rakelight.errors import DeviceError

Check = Callable[[tuple[str, ...]], None]
"""Judges the words of a reply after ``OK VERB``; raises :class:`FrameError`."""


class Answer:
    """A :data:`~rakelight.acquisition.serial_port.Reader` for the reply to one request.

    A refusal is an answer too: it is kept in ``refusal``, to be raised when the exchange is over.
    """

    def __init__(self, number: int, verb: str, check: Check) -> None:
        self._number, self._verb, self._check = number, verb, check
        self.refusal: DeviceError | None = None

    def __call__(self, received: bytes) -> int | None:
        begin = 0
        while (end := received.find(LINE_END, begin)) >= 0:
            frame = read_reply(received[begin : end + 1])
            begin = end + 1
            if frame.sequence is not None:  # replies without a number are to noise before this request
                self._judge(frame)
                return begin
        if len(received) - begin > MAX_LINE:
            raise FrameError(f"no line feed within {MAX_LINE} bytes")
        return None

    def _judge(self, frame: Frame) -> None:
        if frame.sequence != self._number:
            raise FrameError(f"sequence number {frame.sequence:02X} where {self._number:02X} belongs")
        self.refusal = None
        if frame.words[0] == "NO":
            self.refusal = _refusal(self._verb, frame)
        elif frame.words[:2] == ("OK", self._verb):
            self._check(frame.words[2:])
        else:
            raise FrameError(f"{frame.text!r} does not answer {self._verb}")


def exactly(expected: tuple[str, ...]) -> Check:
    """Replies of exactly these words; an item may hold several, with spaces between."""
    words_needed = tuple(word for text in expected for word in text.split(" "))

    def check(words: tuple[str, ...]) -> None:
        if words != words_needed:
            raise FrameError(f"{' '.join(words)!r} where {' '.join(words_needed)!r} belongs")

    return check


def _refusal(verb: str, frame: Frame) -> DeviceError:
    code, *text = frame.words[1:] or ("",)
    if not (len(code) == 2 and code.isdigit()):
        raise FrameError(f"{frame.text!r} has no error code")
    told = " ".join(text) or REFUSALS.get(int(code), "no reason given")
    return refused(
        f"the projector bridge refused {verb}: {told} (code {code})",
        "load the sequence again; if it was switched off and on, open it again",
        "projector.direction" if int(code) == 6 and verb in ("DIR", "ARM") else "projector.refused",
    )


def refused(message: str, hint: str, code: str = "projector.refused") -> DeviceError:
    """The error for what the bridge, or the driver in its place, does not do."""
    return DeviceError(message, hint=hint, code=code)
