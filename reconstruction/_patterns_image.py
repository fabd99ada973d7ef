"""One image of a projector: a value along one axis. :mod:`rakelight.reconstruction.patterns` states the conventions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from rakelight.reconstruction._patterns_checks import choice, flag, integer, number, object_of, refuse, settle

Axis = Literal["column", "row"]
AXES: tuple[Axis, ...] = get_args(Axis)
MAX_SIDE_PX, MAX_STEPS, MAX_BITS = 16384, 64, 16
MIN_PERIOD_PX, MAX_PERIOD_PX = 4, 4 * MAX_SIDE_PX


class Pattern(ABC):
    """One image of a projector: :class:`Uniform`, :class:`Sinusoid` or :class:`Gray`, which are frozen dataclasses.

    Attributes
    ----------
    kind : str
        Name of the class in plain data.
    axis : "column" or "row"
        The coordinate along which the value varies.
    """

    kind: ClassVar[str]
    axis: Axis

    @abstractmethod
    def _values(self, x: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values at integer coordinates along the pattern's axis."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name that fits file and shot names, for example ``column_gray_6``."""

    def profile(self, length: int) -> NDArray[np.float32]:
        """The values of pixels 0 … length−1 along the pattern's axis, (length,) float32 in [0, 1].

        Raises ``patterns.value`` if ``length`` is not 1 to 16384, or longer than a Gray code can number.
        """
        length = integer("length of a profile (px)", length, 1, MAX_SIDE_PX)
        return np.clip(self._values(np.arange(length)), 0.0, 1.0).astype(np.float32)

    def image(self, width: int, height: int) -> NDArray[np.uint8]:
        """The image for a projector of ``width`` columns and ``height`` rows: (H, W) uint8, round(255 · value)."""
        width = integer("width of an image (px)", width, 1, MAX_SIDE_PX)
        height = integer("height of an image (px)", height, 1, MAX_SIDE_PX)
        along_rows = self.axis == "row"
        # float32 has dropped the last bits of the cosine, so that 127.5 rounds alike everywhere.
        line = np.rint(255.0 * self.profile(height if along_rows else width).astype(np.float64)).astype(np.uint8)
        whole = np.broadcast_to(line[:, None] if along_rows else line, (height, width))
        return np.ascontiguousarray(whole)

    def to_plain(self) -> dict[str, Any]:
        """The pattern as plain data for JSON: ``kind`` and the fields of its class."""
        names = [field.name for field in fields(cast(Any, self)) if field.init]
        return {"kind": self.kind, **{name: getattr(self, name) for name in names}}

    @staticmethod
    def from_plain(data: Any) -> Pattern:
        """The pattern that :meth:`to_plain` described; keys with a default may be absent.

        Raises ``patterns.kind``, ``patterns.keys`` or ``patterns.value``, naming what does not fit.
        """
        return cast(Pattern, object_of("pattern", data, {cls.kind: cls for cls in (Uniform, Sinusoid, Gray)}))


@dataclass(frozen=True)
class Uniform(Pattern):
    """The same level everywhere, 0 (dark) to 1 (full power)."""

    kind: ClassVar[str] = "uniform"
    level: float
    axis: Axis = field(default="column", init=False, repr=False)  # of no consequence

    def __post_init__(self) -> None:
        settle(self, "level", number("uniform level", self.level, 0, 1))

    @property
    def name(self) -> str:
        return f"uniform_{self.level:g}"

    def _values(self, x: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.full(x.shape, self.level)


@dataclass(frozen=True)
class Sinusoid(Pattern):
    """Image ``step`` (0 … steps−1) of a phase shift: offset + amplitude · cos(2π·x/period_px + 2π·step/steps)."""

    kind: ClassVar[str] = "sinusoid"
    axis: Axis
    period_px: float
    steps: int
    step: int
    offset: float = 0.5
    amplitude: float = 0.5

    def __post_init__(self) -> None:
        settle(self, "axis", choice("axis", self.axis, AXES))
        settle(self, "period_px", period(self.period_px))
        settle(self, "steps", integer("steps", self.steps, 3, MAX_STEPS))
        settle(self, "step", integer("step", self.step, 0, self.steps - 1))
        settle(self, "offset", number("offset", self.offset, 0, 1))
        settle(self, "amplitude", number("amplitude", self.amplitude, 0, 1))
        if not 0 < self.amplitude <= min(self.offset, 1 - self.offset):
            room = min(self.offset, 1 - self.offset)
            raise refuse(f"amplitude {self.amplitude:g} with offset {self.offset:g}", f"above 0, at most {room:g}")

    @property
    def name(self) -> str:
        return f"{self.axis}_sinusoid_{self.period_px:g}px_{self.step}"

    def _values(self, x: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.offset + self.amplitude * np.cos(2 * np.pi * (x / self.period_px + self.step / self.steps))


@dataclass(frozen=True)
class Gray(Pattern):
    """One bit of a reflected Gray code of words.

    Word w = floor((x + 0.5) / word_px) numbers the stripes; its code is g = w ^ (w >> 1); the image shows bit ``bit`` of
    g (``bits``−1 is the most significant), or its complement if ``inverted``.
    """

    kind: ClassVar[str] = "gray"
    axis: Axis
    bit: int
    bits: int
    word_px: int
    inverted: bool = False

    def __post_init__(self) -> None:
        settle(self, "axis", choice("axis", self.axis, AXES))
        settle(self, "bits", integer("bits", self.bits, 1, MAX_BITS))
        settle(self, "bit", integer("bit", self.bit, 0, self.bits - 1))
        settle(self, "word_px", integer("word_px", self.word_px, 1, MAX_PERIOD_PX))
        settle(self, "inverted", flag("inverted", self.inverted))

    @property
    def name(self) -> str:
        return f"{self.axis}_gray_{self.bit}" + ("_inverse" if self.inverted else "")

    def _values(self, x: NDArray[np.int64]) -> NDArray[np.float64]:
        reach = self.word_px << self.bits
        if len(x) > reach:
            told = f"a Gray code of {self.bits} bits in words of {self.word_px} px on a length of {len(x)} px"
            raise refuse(told, f"at most 2^{self.bits} · {self.word_px} = {reach} px", hint="use more bits")
        word = x // self.word_px  # floor((x + 0.5) / word_px) at integer x
        return (((word ^ (word >> 1)) >> self.bit & 1) ^ int(self.inverted)).astype(np.float64)


def period(value: Any) -> float:
    """``value`` as a period in px, if it is one."""
    return number("period_px", value, MIN_PERIOD_PX, MAX_PERIOD_PX)
