"""Checks on the frames of a projector: does each show the pattern that was asked for?

The patterns of one direction watch each other. The N images of a phase shift lie on one sinusoid, and their mean lies
where white and black say. A Gray image and its inverse add up to white and black. All bits of a Gray code together,
exclusive-ored, tell whether the word is odd, which the phase tells too (``reconstruction.patterns`` states the code).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition._check import Check, at_least, at_most
from rakelight.acquisition._check_zones import BRIGHT_PERCENTILE
from rakelight.acquisition.recipe import Limits
from rakelight.reconstruction.patterns import Gray, Pattern, Sinusoid, Uniform

Picture = NDArray[np.float32]
_LIT = 0.2  # of the bright parts' modulation: where patterns can be judged
_UNSATURATED = 0.8  # of full scale: the mean of a cell whose green photosites are just full
_CLEAR = 0.5  # of the modulation: how far a Gray image must be from its threshold
_FROM_EDGE_RAD = 0.6  # between a pixel's phase and the next edge of a word
_SAME = 0.1  # mean difference of two images, as a share of white, of which one was not shown
_LEAST_PIXELS, _MOST_PIXELS = 50, 10_000  # that are judged; more cost time and tell no more


@dataclass(frozen=True)
class Shown:
    """One frame of a projector, reduced."""

    name: str
    pattern: Pattern
    picture: Picture


@dataclass(frozen=True)
class Doubt:
    """How far patterns contradict each other, 0 to about 1, and in which frame that shows."""

    value: float
    where: str


@dataclass
class Reach:
    """The brightest and the darkest that each pixel became under a direction's longest exposure."""

    bracket: int
    bright: Picture
    dark: Picture

    def add(self, bracket: int, picture: Picture) -> Reach:
        """With one frame more; a longer exposure begins anew."""
        if bracket > self.bracket:
            return Reach(bracket, picture, picture)
        if bracket == self.bracket:
            self.bright, self.dark = np.maximum(self.bright, picture), np.minimum(self.dark, picture)
        return self


@dataclass
class Projector:
    """What was seen of one direction: levels of its brightest frame and of black, reach, saturated share of its worst frame."""

    white: float = 0.0
    black: float | None = None
    reach: Reach | None = None
    saturated: tuple[float, str] = (0.0, "")
    doubt: Doubt | None = None
    frames: list[Shown] = field(default_factory=list)

    def settle(self, full_scale: float) -> None:
        """Judge the frames of a direction that is complete, and let go of them."""
        if self.frames:
            self.doubt = contradiction(self.frames, full_scale) or self.doubt
            self.frames = []


# ------------------------------------------------------------------------------------------------------------ checks
def checks(
    seen: Mapping[int, Projector], ambient: Picture | None, full_scale: float, still: bool, limits: Limits
) -> list[Check]:
    """Everything about the projectors; what follows from a dark one, or a part that is not ``still``, is not told."""
    found = []
    brightest = max((p.white for p in seen.values()), default=0.0)
    for direction, projector in sorted(seen.items()):
        share, name = projector.saturated
        sentence = (
            f"{name or f'projector {direction}'}: {share:.1%} of the pixels are saturated, allowed {limits.saturated:.1%}: "
            "shorten the patterns' exposure"
        )
        found.append(at_most("saturation", share, limits.saturated, sentence))
        levels = list(_levels(direction, projector, ambient, brightest, limits))
        found += levels
        if all(check.passed for check in levels if check.name == "dark_projector"):
            found += _under_exposed(direction, projector, full_scale, limits)
            found += _contradicting(direction, projector, limits) if still else []
    return found


def _levels(
    direction: int, projector: Projector, ambient: Picture | None, brightest: float, limits: Limits
) -> Iterator[Check]:
    white, black = projector.white, projector.black
    level = float(np.percentile(ambient, 95)) if ambient is not None else black or 0.0
    ratio = (white - level) / max(brightest - level, 1e-9)
    sentence = (
        f"projector {direction} shows {ratio:.0%} of the brightest one's white, needed {limits.dark_projector:.0%}: "
        "check its cable and lamp"
    )
    yield at_least("dark_projector", ratio, limits.dark_projector, sentence)
    if black is not None and ratio >= limits.dark_projector:
        rest = (black - level) / max(white - level, 1e-9)
        sentence = (
            f"projector {direction}: black is {rest:.1%} of white, allowed {limits.black_pattern:.1%}: it shows something "
            "else than it was told, or stray light reaches the part"
        )
        yield at_most("black_pattern", rest, limits.black_pattern, sentence)


def _under_exposed(direction: int, projector: Projector, full_scale: float, limits: Limits) -> list[Check]:
    if projector.reach is None:
        return []
    reach = projector.reach.bright - projector.reach.dark
    level = float(np.percentile(reach, BRIGHT_PERCENTILE)) / full_scale
    sentence = (
        f"projector {direction}: between black and white lie {level:.1%} of full scale, needed {limits.under_exposed:.1%}: "
        "lengthen the patterns' exposure, or set the recipe's region to the part"
    )
    return [at_least("under_exposure", level, limits.under_exposed, sentence)]


def _contradicting(direction: int, projector: Projector, limits: Limits) -> list[Check]:
    if projector.doubt is None:
        return []
    value, where = projector.doubt.value, projector.doubt.where
    sentence = (
        f"projector {direction}: its patterns contradict each other by {value:.1%}, allowed {limits.pattern_inverse:.1%}, "
        f"most in {where}: does it show another pattern there, or bend its values (gamma)? load the sequence "
        "again, check the trigger wire"
    )
    return [at_most("pattern_inverse", value, limits.pattern_inverse, sentence)]


# ----------------------------------------------------------------------------------------------------- contradictions
def contradiction(frames: list[Shown], full_scale: float) -> Doubt | None:
    """The greatest contradiction between the frames of one direction; None where nothing can be compared."""
    doubts = [
        doubt for axis in ("column", "row") for doubt in _of_axis([f for f in frames if _has(f, axis)], full_scale)
    ]
    return max(doubts, key=lambda doubt: doubt.value, default=None)


def _has(frame: Shown, axis: str) -> bool:
    return isinstance(frame.pattern, Uniform) or frame.pattern.axis == axis


def _of_axis(frames: list[Shown], full_scale: float) -> Iterator[Doubt]:
    uniform = {f.pattern.level: f for f in frames if isinstance(f.pattern, Uniform)}
    waves = sorted((f for f in frames if isinstance(f.pattern, Sinusoid)), key=lambda f: _wave_key(f.pattern))
    grays = [f for f in frames if isinstance(f.pattern, Gray)]
    for _, group in groupby(waves, key=lambda f: _wave_key(f.pattern)[:4]):
        wave = _Wave.of(list(group), full_scale)
        if wave is None:
            continue
        yield wave.contradiction()
        if 1.0 in uniform and 0.0 in uniform:
            yield wave.against(uniform[1.0], uniform[0.0])
        yield from _inverse_pairs(grays, wave)
        yield from _parity([f for f in grays if not f.pattern.inverted], wave)  # type: ignore[attr-defined]


def _wave_key(pattern: Any) -> tuple[float, int, float, float, int]:
    return pattern.period_px, pattern.steps, pattern.offset, pattern.amplitude, pattern.step


@dataclass(frozen=True)
class _Wave:
    """A complete phase shift: its images (N, n) over n usable pixels (flat indices), and the sinusoid through them."""

    frames: list[Shown]
    usable: NDArray[np.intp]
    images: Picture
    mean: Picture
    modulation: Picture
    phase: Picture

    @classmethod
    def of(cls, frames: list[Shown], full_scale: float) -> _Wave | None:
        pattern: Any = frames[0].pattern
        if [f.pattern.step for f in frames] != list(range(pattern.steps)):  # type: ignore[attr-defined]
            return None
        stack = np.stack([f.picture for f in frames])
        delta = 2 * np.pi * np.arange(pattern.steps, dtype=np.float32) / pattern.steps
        cosine = np.tensordot(np.cos(delta), stack, 1) * np.float32(2 / pattern.steps)
        sine = np.tensordot(np.sin(delta), stack, 1) * np.float32(2 / pattern.steps)
        modulation = np.hypot(cosine, sine)
        lit = modulation > _LIT * np.percentile(modulation, BRIGHT_PERCENTILE)
        usable = np.flatnonzero(lit & (stack.max(axis=0) < _UNSATURATED * full_scale))
        if len(usable) < _LEAST_PIXELS:
            return None
        usable = usable[:: -(-len(usable) // _MOST_PIXELS)]
        images = stack.reshape(pattern.steps, -1)[:, usable]
        phase = np.arctan2(-sine.ravel()[usable], cosine.ravel()[usable])
        return cls(frames, usable, images, images.mean(axis=0), modulation.ravel()[usable], phase)

    def of_usable(self, frame: Shown) -> Picture:
        return np.asarray(frame.picture.ravel()[self.usable])

    def contradiction(self) -> Doubt:
        """How far an image is from the sinusoid through all of them (nothing to see with three)."""
        steps = len(self.frames)
        delta = 2 * np.pi * np.arange(steps, dtype=np.float32) / steps
        fitted = self.mean + self.modulation * np.cos(self.phase + delta[:, None])
        apart = _rms(self.images - fitted) / _rms(2 * self.modulation)
        worst = int(apart.argmax())
        twin = _twin(self.frames, self.of_usable, 2 * self.modulation, worst) if steps == 4 else ""
        return Doubt(float(apart[worst]), twin or _named(self.frames[worst]))

    def against(self, white: Shown, black: Shown) -> Doubt:
        """How far the mean of all images is from where white and black put it."""
        pattern: Any = self.frames[0].pattern
        bright, dark = self.of_usable(white), self.of_usable(black)
        expected = dark + np.float32(pattern.offset) * (bright - dark)
        value = float(_rms(self.mean - expected) / _rms(self.modulation) * pattern.amplitude)
        frames = [*self.frames, white, black]
        twin = _twin(frames, self.of_usable, 2 * self.modulation, len(frames))
        return Doubt(value, twin or f"{_named(white)}, {_named(black)} or one of the phase shift")


def _inverse_pairs(grays: list[Shown], wave: _Wave) -> Iterator[Doubt]:
    """How far a Gray image and its inverse are from adding up to twice the mean of the phase shift."""
    if wave.frames[0].pattern.offset != 0.5:  # type: ignore[attr-defined]
        return
    bits: dict[int, list[Shown]] = {}
    for frame in grays:
        bits.setdefault(frame.pattern.bit, []).append(frame)  # type: ignore[attr-defined]
    for pair in bits.values():
        if len(pair) == 2:
            total = wave.of_usable(pair[0]) + wave.of_usable(pair[1])
            value = float(_rms(total - 2 * wave.mean) / _rms(4 * wave.modulation))
            yield Doubt(value, f"{_named(pair[0])} or {_named(pair[1])}")


def _parity(grays: list[Shown], wave: _Wave) -> Iterator[Doubt]:
    """The share of pixels whose Gray word is odd where the phase says even, or the other way round.

    Word w is odd where all bits of its reflected Gray code, exclusive-ored, are 1; with words of half a period that is the
    second half of the period, where the phase from the period's first edge, phase + pi/period, is pi or more.
    """
    if not grays:
        return
    first: Any = grays[0].pattern
    period_px = wave.frames[0].pattern.period_px  # type: ignore[attr-defined]
    if period_px != 2 * first.word_px or len(grays) != first.bits:
        return
    turned = np.mod(wave.phase + np.float32(np.pi / period_px), np.float32(2 * np.pi))
    clear = np.abs(np.mod(turned, np.pi) - np.pi / 2) < np.pi / 2 - _FROM_EDGE_RAD
    odd = np.zeros(turned.shape, np.bool_)
    for frame in grays:
        level = wave.of_usable(frame) - wave.mean
        clear &= np.abs(level) > _CLEAR * wave.modulation
        odd ^= level > 0
    if np.count_nonzero(clear) < _LEAST_PIXELS:
        return
    value = float((odd != (turned >= np.pi))[clear].mean())
    twin = _twin(grays, wave.of_usable, 2 * wave.modulation, len(grays))
    yield Doubt(value, twin or _flat(grays, wave) or f"the Gray images {grays[0].name} to {grays[-1].name}")


# ------------------------------------------------------------------------------------------------------------- naming
def _twin(frames: list[Shown], pixels: Callable[[Shown], Picture], white: Picture, upto: int) -> str:
    """Which of the images looks just like the one before it, in words; empty if none does."""
    for before, frame in pairwise(frames[: upto + 1]):
        if float(np.abs(pixels(frame) - pixels(before)).mean() / white.mean()) < _SAME:
            return f"{_named(frame)}, which looks just like {before.name}"
    return ""


def _flat(grays: list[Shown], wave: _Wave) -> str:
    """Which Gray image shows no stripes, in words; empty if none."""
    for frame in grays:
        level = (wave.of_usable(frame) - wave.mean) / wave.modulation
        if float(level.std()) < _SAME:
            return f"{_named(frame)}, which shows no stripes"
    return ""


def _named(frame: Shown) -> str:
    return f"{frame.name} ({frame.pattern.name})"


def _rms(values: Picture) -> Picture:
    return np.asarray(np.sqrt(np.mean(np.square(values), axis=-1)))
