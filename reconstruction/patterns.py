"""Pattern sets: what a projector is told to show, as plain data that travel with a recording.

Every pattern varies along one axis only. Along ``"column"`` the value depends on the projector column x (upright
stripes) and tells which column lights a point; along ``"row"`` it depends on the row, and x stands for the row below.
x is in projector px with the centre of a pixel at integer: pixel 0 reaches from −0.5 to 0.5.

**Phase.** Image k of N of a sinusoid is I_k(x) = offset + amplitude · cos(2π·x/period + 2π·k/N). For the values I_k seen
by a camera, with δ_k = 2π·k/N, the wrapped phase is φ = atan2(−Σ I_k sin δ_k, Σ I_k cos δ_k), and x = period · (K + φ/2π)
with φ in [0, 2π) and an integer K, the *order* (Zuo et al., "Phase shifting algorithms for fringe projection profilometry:
A review", Optics and Lasers in Engineering 109, 23-59, 2018). The order comes from a Gray code
(:class:`GrayPhaseShift`) or from further periods (:class:`MultiFrequency`).

All values are linear light, 0 (black) to 1 (full power). What does not fit raises :class:`InputError` with a code
``patterns.…``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar, cast

import numpy as np

from rakelight.errors import InputError
from rakelight.reconstruction._patterns_checks import choice, flag, integer, object_of, refuse, settle
from rakelight.reconstruction._patterns_image import (
    AXES,
    MAX_BITS,
    MAX_PERIOD_PX,
    MAX_SIDE_PX,
    MAX_STEPS,
    MIN_PERIOD_PX,
    Axis,
    Gray,
    Pattern,
    Sinusoid,
    Uniform,
    period,
)

__all__ = [
    "AXES",
    "LEAST_MARGIN_RAD",
    "Axis",
    "Code",
    "Gray",
    "GrayPhaseShift",
    "MultiFrequency",
    "Pattern",
    "PatternSet",
    "Sinusoid",
    "Uniform",
    "phase_margin",
]

SCHEMA = 1
LEAST_MARGIN_RAD = 0.1  # 6 sigma of the phase of 8 steps whose noise is 3 % of the modulation: sqrt(2/8) · 0.03 · 6
_MAX_PERIODS = 8


# -------------------------------------------------------------------------------------------------------------- codes
@dataclass(frozen=True)
class GrayPhaseShift:
    """A phase shift whose order is told by a Gray code, with a complementary bit by default.

    Parameters
    ----------
    steps : int
        Images N of the phase shift, 3 to 64.
    period_px : int
        At least 4, even if ``complementary``.
    complementary : bool
        Code half periods with one bit more, so that the order is safe where the period changes (below).
    inverse : bool
        Show each Gray image also inverted, so that a bit is read by comparing the two. Otherwise it is read
        against the mean of the phase-shift images.

    Notes
    -----
    *Complementary code* (Zhang, Su, Xiang, Sun, "3-D shape measurement based on complementary Gray-code light", Optics
    and Lasers in Engineering 50(4), 574-579, 2012). Words are half periods: w = floor((x + 0.5) / (period/2)). Of the n+1 bits
    of their Gray code the first n are the Gray code of the period's index w >> 1; the last is the complementary one.
    Words change at the edges between pixels, x = m·period/2 − 0.5, while φ wraps at x = m·period; so first take the
    phase of the edges, φ′ = (φ + π/period) mod 2π, which is 0 exactly where a period's words begin. With
    k1 = w >> 1 (changes where φ′ = 0) and k2 = (w + 1) >> 1 (changes where φ′ = π), the order is

    - k2 for φ′ < π/2, k1 for π/2 ≤ φ′ < 3π/2, k2 − 1 for 3π/2 ≤ φ′, and then x = period · (order + φ′/2π) − 0.5.

    Each is used only a quarter period or more away from where it changes, so neither a word misread by one beside its
    edge nor a phase wrong by less than π/2 moves the order; and where a phase error wraps φ′, k2 and k2 − 1 take the step back.

    Without the complementary bit words are periods, and the order is w itself: right in the middle of a period, but off
    by one wherever blur or noise shifts word or phase at its edges.
    """

    kind: ClassVar[str] = "gray_phase_shift"
    steps: int = 8
    period_px: int = 16
    complementary: bool = True
    inverse: bool = False

    def __post_init__(self) -> None:
        settle(self, "steps", integer("steps", self.steps, 3, MAX_STEPS))
        settle(self, "period_px", integer("period_px of a Gray code", self.period_px, MIN_PERIOD_PX, MAX_PERIOD_PX))
        settle(self, "complementary", flag("complementary", self.complementary))
        settle(self, "inverse", flag("inverse", self.inverse))
        if self.complementary and self.period_px % 2:
            near = f"use {self.period_px - 1} or {self.period_px + 1}, or leave out the complementary bit"
            raise refuse(f"period_px {self.period_px} with a complementary bit", "an even number", hint=near)

    @property
    def periods_px(self) -> tuple[float, ...]:
        """The one period, as a tuple like that of :class:`MultiFrequency`."""
        return (float(self.period_px),)

    @property
    def word_px(self) -> int:
        """Width of a word: half a period with the complementary bit, else a period."""
        return self.period_px // 2 if self.complementary else self.period_px

    def bits(self, length: int) -> int:
        """Number of Gray bits that number all periods (and their halves) of ``length`` px."""
        periods = -(-length // self.period_px)
        return (periods - 1).bit_length() + int(self.complementary)

    def patterns(self, axis: Axis, length: int) -> Iterator[Pattern]:
        """The images in capture order: Gray bits, most significant first (each with its inverse), then the phase shift."""
        if self.period_px > length:
            raise refuse(f"period_px {self.period_px}", f"at most the projector's {length} px along {axis}")
        bits = self.bits(length)
        if bits > MAX_BITS:
            told = f"{bits} Gray bits for {length} px in periods of {self.period_px} px"
            raise refuse(told, f"at most {MAX_BITS}", hint="use a longer period")
        for bit in reversed(range(bits)):
            yield from (
                Gray(axis, bit, bits, self.word_px, inv) for inv in ((False, True) if self.inverse else (False,))
            )
        yield from (Sinusoid(axis, float(self.period_px), self.steps, k) for k in range(self.steps))

    def describe(self, length: int) -> str:
        """What the code shows along an axis of ``length`` px, in a few words."""
        half = ", the last complementary" if self.complementary else ""
        gray = f"{self.bits(length)} Gray bits{half}{', each also inverted' if self.inverse else ''}"
        return f"{gray} + {self.steps}-step phase shift of period {self.period_px} px"


@dataclass(frozen=True)
class MultiFrequency:
    """Phase shifts of several periods that together tell every column from every other.

    Parameters
    ----------
    steps : int or tuple of int
        Images N of each phase shift, 3 to 64: one number for all, or one a period.
    periods_px : tuple of float
        1 to 8 different periods, ascending: the first is the finest and gives the accuracy. At least 4 px.

    Notes
    -----
    Two periods p < q repeat together after their beat 1/(1/p − 1/q) = p·q/(q − p) (heterodyne; Zuo et al., "Temporal phase
    unwrapping algorithms for fringe projection profilometry: A comparative review", Optics and Lasers in Engineering
    85, 84-103, 2016; how to choose: Towers, Towers, Jones, Optics Letters 28(11), 887-889, 2003). For any number of periods
    :func:`phase_margin` gives the phase error up to which the order is certain, for a decoder that takes the place at
    which all phases together fit best. It falls to 0 where neither a period nor a beat covers the projector; a set is
    refused below 0.1 rad. Going from coarse to fine, period by period, also needs the last period to cover the projector.
    """

    kind: ClassVar[str] = "multi_frequency"
    steps: int | tuple[int, ...] = 8
    periods_px: tuple[float, ...] = (16.0, 132.0, 1200.0)

    def __post_init__(self) -> None:
        periods = self.periods_px
        if not isinstance(periods, tuple | list) or not 1 <= len(periods) <= _MAX_PERIODS:
            raise refuse(f"periods_px {periods!r}", f"a list of 1 to {_MAX_PERIODS} periods")
        settle(self, "periods_px", tuple(period(p) for p in periods))
        if any(a >= b for a, b in zip(self.periods_px, self.periods_px[1:], strict=False)):
            raise refuse(f"periods_px {_listed(self.periods_px)}", "ascending periods, each once")
        counts = self.steps if isinstance(self.steps, tuple | list) else (self.steps,) * len(periods)
        if len(counts) != len(periods):
            raise refuse(f"steps of {len(counts)} numbers for {len(periods)} periods", "one number, or one a period")
        settle(self, "steps", tuple(integer("steps", n, 3, MAX_STEPS) for n in counts))

    def patterns(self, axis: Axis, length: int) -> Iterator[Pattern]:
        """The images in capture order: the phase shift of the finest period first. Raises ``patterns.ambiguous``."""
        margin, apart = phase_margin(self.periods_px, length)
        if margin < LEAST_MARGIN_RAD:
            raise self._ambiguous(axis, length, margin, apart)
        for period_px, steps in zip(self.periods_px, cast(tuple[int, ...], self.steps), strict=True):
            yield from (Sinusoid(axis, period_px, steps, k) for k in range(steps))

    def describe(self, length: int) -> str:
        """What the code shows along an axis of ``length`` px, in a few words."""
        steps = cast(tuple[int, ...], self.steps)
        margin, _ = phase_margin(self.periods_px, length)
        told = str(steps[0]) if len(set(steps)) == 1 else "/".join(map(str, steps))
        return f"{told}-step phase shifts of periods {_listed(self.periods_px)} px, orders safe to {margin:.2f} rad"

    def _ambiguous(self, axis: Axis, length: int, margin: float, apart: float) -> InputError:
        counts = ", ".join(f"{apart / p:.2f}" for p in self.periods_px)
        longest = f"the longest period is {self.periods_px[-1]:g} px"
        if len(self.periods_px) > 1:
            p, q = max(combinations(self.periods_px, 2), key=lambda pair: _beat(*pair))
            longest += f", the longest beat 1/(1/{p:g} − 1/{q:g}) = {_beat(p, q):.1f} px"
        return InputError(
            f"periods of {_listed(self.periods_px)} px do not tell {length} {axis}s apart: at a distance of {apart:.1f} px "
            f"({counts} periods) all phases agree within {2 * margin:.3f} rad, at least {2 * LEAST_MARGIN_RAD:g} is "
            f"needed; {longest}",
            hint=f"choose periods of which one, or the beat of two, is longer than {length} px, each at most about ten times "
            f"the next finer one; 16, 132, 1200 suit up to 1140 px",
            code="patterns.ambiguous",
        )


Code = GrayPhaseShift | MultiFrequency


def phase_margin(periods_px: tuple[float, ...], reach_px: float) -> tuple[float, float]:
    """How wrong every wrapped phase may be before two places along ``reach_px`` can be mistaken for each other.

    Places a distance d apart differ by |wrap(2π·d/p)| in the phase of period p. With errors of up to e in each phase
    they are told apart if one difference exceeds 2e; so the margin is half the least of max over p, for all d from half
    the finest period (what is nearer is the same order) to ``reach_px``.

    Returns
    -------
    margin_rad, distance_px : float
        The margin, 0 to π/2, and the distance at which it is found.
    """
    rates = 1.0 / np.asarray(periods_px, np.float64)
    # The maximum of these zigzag functions of d is least where one is 0 or two are equal, or at the ends.
    pairs = [rate for a, b in combinations(rates, 2) for rate in (a + b, abs(a - b))]
    multiples = [np.arange(1, int(reach_px * rate) + 1) / rate for rate in (*rates, *pairs)]
    distances = np.concatenate([*multiples, [float(reach_px)]])
    distances = distances[(distances > 0.5 / rates.max()) & (distances <= reach_px)]
    if not distances.size:  # less than half a period in all
        return math.pi / 2, float(reach_px)
    turns = distances[:, None] * rates
    differences = 2 * np.pi * np.abs(turns - np.rint(turns)).max(axis=1)
    least = int(differences.argmin())
    return float(differences[least]) / 2, float(distances[least])


# ----------------------------------------------------------------------------------------------------------------- set
@dataclass(frozen=True)
class PatternSet:
    """All images that one projector shows for one measurement, and what each is for.

    Parameters
    ----------
    width, height : int
        Columns and rows of the projector, 8 to 16384 px.
    code : GrayPhaseShift or MultiFrequency
    axes : tuple of "column", "row"
        ``("column",)`` is enough for depth; calibration shows both.

    Raises
    ------
    InputError
        ``patterns.value`` naming the thing and its range; ``patterns.ambiguous`` if the code does not cover the
        projector.
    """

    kind: ClassVar[str] = "pattern_set"
    width: int = 912
    height: int = 1140
    code: Code = GrayPhaseShift()
    axes: tuple[Axis, ...] = ("column",)

    def __post_init__(self) -> None:
        settle(self, "width", integer("projector width (px)", self.width, 8, MAX_SIDE_PX))
        settle(self, "height", integer("projector height (px)", self.height, 8, MAX_SIDE_PX))
        if not isinstance(self.code, GrayPhaseShift | MultiFrequency):
            raise refuse(f"code {self.code!r}", "a GrayPhaseShift or a MultiFrequency")
        if not isinstance(self.axes, tuple | list) or not self.axes or len(set(map(str, self.axes))) != len(self.axes):
            raise refuse(f"axes {self.axes!r}", "one or both of 'column' and 'row', each once")
        settle(self, "axes", tuple(choice("axis", axis, AXES) for axis in self.axes))
        _ = self.patterns  # refuses what does not cover the projector

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """All images in capture order: axis by axis, each as its code says."""
        return tuple(pattern for axis in self.axes for pattern in self.code.patterns(axis, self.length(axis)))

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each image that sorts in capture order: ``001_column_gray_6`` …"""
        digits = max(3, len(str(len(self.patterns))))
        return tuple(f"{number:0{digits}d}_{pattern.name}" for number, pattern in enumerate(self.patterns, 1))

    def length(self, axis: Axis) -> int:
        """Number of columns (``"column"``) or rows (``"row"``) of the projector."""
        return self.width if choice("axis", axis, AXES) == "column" else self.height

    def phase_shift(self, axis: Axis, index: int = 0) -> tuple[int, ...]:
        """Places in :attr:`patterns` of the N images of one phase shift, step 0 first.

        ``index`` counts the code's ``periods_px``; 0 is the finest. Raises ``patterns.value`` for an axis or a period
        that the set does not show.
        """
        wanted = self.code.periods_px[integer("index of the period", index, 0, len(self.code.periods_px) - 1)]
        return self._places(axis, lambda p: isinstance(p, Sinusoid) and p.period_px == wanted)

    def gray_bits(self, axis: Axis, *, inverted: bool = False) -> tuple[int, ...]:
        """Places in :attr:`patterns` of the Gray images, most significant bit first; none for other codes.

        With ``inverted`` those of the inverted images, if the set shows them.
        """
        return self._places(axis, lambda p: isinstance(p, Gray) and p.inverted == inverted)

    def _places(self, axis: Axis, wanted: Callable[[Pattern], bool]) -> tuple[int, ...]:
        choice("axis of this set", axis, self.axes)
        return tuple(i for i, p in enumerate(self.patterns) if p.axis == axis and wanted(p))

    def description(self) -> str:
        """The set in one line."""
        axes = "; ".join(f"{axis}: {self.code.describe(self.length(axis))}" for axis in self.axes)
        return f"{self.width}×{self.height} px, {len(self.patterns)} images; {axes}"

    def to_plain(self) -> dict[str, Any]:
        """The set as plain data for JSON (some 200 bytes; the images follow from it)."""
        code = {"kind": self.code.kind, **asdict(self.code)}
        code = {key: list(value) if isinstance(value, tuple) else value for key, value in code.items()}
        size = {"width": self.width, "height": self.height}
        return {"kind": self.kind, "schema": SCHEMA, **size, "axes": list(self.axes), "code": code}

    @classmethod
    def from_plain(cls, data: Any) -> PatternSet:
        """The set that :meth:`to_plain` described; keys with a default may be absent, but ``kind`` and ``schema`` not.

        Raises ``patterns.schema``, ``patterns.kind``, ``patterns.keys`` or ``patterns.value``, naming what does not fit.
        """
        data = dict(data) if isinstance(data, dict) else data
        if isinstance(data, dict) and data.get("kind") == cls.kind:
            found = data.pop("schema", None)
            if type(found) is not int or found != SCHEMA:
                raise InputError(
                    f"pattern set of schema {found!r}; this version reads schema {SCHEMA}",
                    hint="update rakelight, or use the version that wrote it",
                    code="patterns.schema",
                )
            if "code" in data:
                codes = {code.kind: code for code in (GrayPhaseShift, MultiFrequency)}
                data["code"] = object_of("code", data["code"], codes)
        return cast(PatternSet, object_of("pattern set", data, {cls.kind: cls}))


def _beat(p: float, q: float) -> float:
    return p * q / (q - p)


def _listed(periods: tuple[float, ...]) -> str:
    return ", ".join(f"{p:g}" for p in periods)
