"""The part of :mod:`rakelight.reconstruction.pattern_order` that looks at Gray bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.errors import InputError
from rakelight.reconstruction.patterns import GrayPhaseShift, PatternSet

_CLEAR = 0.3  # least distance of a bit from its threshold, in modulations, of the pixels looked at
_LEAST_CHANGES = 60  # of a bit, so that it says anything
_FAR = 0.3  # turns of the phase between the pixels compared, at most
_AWAY_PX = 8  # likewise in px
_LEAP, _LEAP_TURNS = 3.0, 0.02  # a phase step this many times the usual one, and more, is an edge of the part
_CONSISTENT = 0.8  # share of a bit's changes that must be by one word
_MOSTLY, _HALF = 0.9, 0.5  # or of all changes together, if every bit has the second share
_NO_INVERSE = 0.5  # mean deviation of pattern + inverse from twice the mean, in modulations
_SAME = 0.1  # of the rarer value of a bit: pixels in which two images of it may differ
_OFF_RAD = np.pi / 4  # of the place of the words' edges from where the phase puts them

Bits = NDArray[np.bool_]
Table = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Phase:
    """One phase shift of the sample, solved as the set says: (T, h, w) maps and the mask of pixels worth looking at."""

    phase: NDArray[np.float32]
    offset: NDArray[np.float32]
    modulation: NDArray[np.float32]
    good: NDArray[np.bool_]


def check_gray(
    patterns: NDArray[np.float32],
    inverses: NDArray[np.float32] | None,
    phase: Phase,
    pattern_set: PatternSet,
    names: list[str],
    inverse_names: list[str],
    step_names: list[str],
) -> None:
    """Raise if the Gray images (bits, T, h, w) do not belong together as the set says; see ``check_order``."""
    code = pattern_set.code
    assert isinstance(code, GrayPhaseShift)
    level = (patterns - phase.offset) / phase.modulation
    if inverses is not None:
        other = (inverses - phase.offset) / phase.modulation
        _check_inverses(level[:, phase.good], other[:, phase.good], names, inverse_names, step_names)
        level = (level - other) / 2
    clear = phase.good & (np.abs(level).min(axis=0) > _CLEAR)
    bits = level > 0
    turn = (phase.phase / (2 * np.pi) + 0.5 / code.period_px) % 1
    changes, where = _changes(bits, clear, phase.good, turn)
    _check_doubled(bits[:, clear], names)
    constant = [i for i, share in enumerate(bits[:, clear].mean(axis=1)) if not 0.02 < share < 0.98]
    count = len(names)
    told = (list(range(count)), [False] * count)
    if _sound(changes):
        _check_edges(where, code.complementary, step_names)
        return
    if _score(changes, *told, -1) >= _CONSISTENT:
        few = ", or two of them are exchanged" if len(step_names) <= 4 else ""  # which is a reversal too
        even = ", ".join(names[i] for i in constant)
        beside = f", or what shows no stripes here is wrong ({even})" if constant else ""
        raise InputError(
            f"the steps {step_names[0]} … {step_names[-1]} run backwards against the Gray code{few}{beside}",
            hint="check the order of the pattern list: phase shift or Gray images are reversed",
            code="fringes.order",
        )
    for kind, order, flipped in _arrangements(count, constant):
        if _score(changes, order, flipped, 1, code.complementary) >= _CONSISTENT:
            raise _arranged(kind, order, flipped, names, inverse_names)
    _raise_faulty(changes, constant, names)


def _check_doubled(bits: Bits, names: list[str]) -> None:
    """Two bits never change at the same place, so that none that changes can be like another. Bits (K, M)."""
    varies = np.minimum(bits.mean(axis=1), 1 - bits.mean(axis=1))
    for i, j in combinations(range(len(names)), 2):
        if varies[i] > 0.02 and (bits[i] != bits[j]).mean() < _SAME * varies[i]:
            raise InputError(
                f"{names[j]} shows the same as {names[i]}: one pattern was taken twice, another is missing",
                hint="check the trigger between projector and camera, capture again",
                code="fringes.doubled",
            )


def _check_inverses(
    pattern: NDArray[Any], inverse: NDArray[Any], names: list[str], inverse_names: list[str], step_names: list[str]
) -> None:
    """Pattern and inverse (bits, M) in modulations from the offset: their sum must be about 0."""
    wrong = np.flatnonzero(np.abs(pattern + inverse).mean(axis=1) > _NO_INVERSE)
    if len(wrong) > len(names) / 2:
        raise InputError(
            f"one of the images {step_names[0]} … {step_names[-1]} is not its step of the phase shift: their mean does not "
            "lie between the Gray images and their inverses",
            hint="look at these images, capture again",
            code="fringes.missing",
        )
    if len(wrong):
        i = int(wrong[0])
        same = np.abs(pattern[i] - inverse[i]).mean() < _NO_INVERSE / 2
        raise InputError(
            f"{inverse_names[i]} {'shows the same as' if same else 'is not the inverse of'} {names[i]}",
            hint="an inverted image was skipped or one image taken twice; look at both, capture again",
            code="fringes.inverse",
        )


def _changes(
    bits: Bits, clear: Bits, good: Bits, turn: NDArray[Any]
) -> tuple[Table, tuple[NDArray[Any], NDArray[Any]]]:
    """Neighbours between which one bit changes, as a table without repetitions: bits before (P, n), which, sign, how often.

    Also which bit changed (pairs,) and the turn (pairs,) at which it did.
    """
    weights = 1 << np.arange(len(bits), dtype=np.int64)
    code = np.tensordot(weights, bits, 1)
    keys, changed, turns = [], [], []
    for axis in (1, 2):
        away, smooth = _distance(turn, good, axis)
        first, second = _apart(axis, away)
        both = clear[first] & clear[second] & smooth
        a, b = code[first][both], code[second][both]
        step = (turn[second][both] - turn[first][both] + 0.5) % 1 - 0.5
        different = a ^ b
        one = (different != 0) & ((different & (different - 1)) == 0) & (np.abs(step) < _FAR) & (step != 0)
        bit = np.round(np.log2(np.maximum(different[one], 1))).astype(np.int64)
        at = (turn[first][both][one] + step[one] / 2) % 1
        half = np.abs(at - 0.5) < 0.25
        keys.append(((a[one] << 6 | bit) << 1 | (step[one] > 0)) << 1 | half)
        changed.append(bit)
        turns.append(at)
    unique, often = np.unique(np.concatenate(keys), return_counts=True)
    before = (unique >> 8)[:, None] >> np.arange(len(bits)) & 1
    table = before.astype(bool), unique >> 2 & 63, np.where(unique >> 1 & 1, 1, -1), often, (unique & 1) == 1
    return table, (np.concatenate(changed), np.concatenate(turns))


def _distance(turn: NDArray[Any], good: Bits, axis: int) -> tuple[int, Bits]:
    """Pixels apart at which neighbours are compared: as far as the phase allows, since blurred edges are not clear.

    Also where the phase goes from one to the other without a leap, as it would at an edge of the part.
    """
    behind, ahead = _apart(axis, 1)
    step = np.abs((turn[ahead] - turn[behind] + 0.5) % 1 - 0.5)
    joined = good[ahead] & good[behind]
    usual = float(np.median(step[joined])) if joined.any() else 1.0
    away = int(np.clip(_FAR / 2 / max(usual, 1e-6), 1, min(_AWAY_PX, turn.shape[axis] - 1)))
    leaps = np.cumsum(~joined | (step > _LEAP * usual + _LEAP_TURNS), axis=axis)
    # Leaps on the way from a pixel to the one `away` further: the running sum there less that before the first step.
    before = np.concatenate([np.zeros_like(np.take(leaps, [0], axis)), leaps], axis=axis)
    behind, ahead = _apart(axis, away)
    return away, before[ahead] == before[behind]


def _apart(axis: int, away: int) -> tuple[Any, Any]:
    """Indices of all pixels of tiles (T, h, w) and of those ``away`` further along an axis."""
    ahead, behind = [slice(None)] * 3, [slice(None)] * 3
    ahead[axis], behind[axis] = slice(away, None), slice(None, -away)
    return tuple(behind), tuple(ahead)


def _shares(
    table: Table, order: list[int], flipped: list[bool], sign: int, placed: bool = False
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of each image: its changes, and the share at which the word changes by one in the direction of the phase.

    ``order[b]`` is the image that shows bit b (most significant first), ``flipped[b]`` whether it shows the complement.
    With ``placed`` the last bit must change in the middle of a period, the others at its ends.
    """
    before, bit, direction, often, half = table
    count = len(order)
    after = before.copy()
    after[np.arange(len(bit)), bit] ^= True
    words = []
    for bits in (before, after):
        shown = bits[:, order] ^ np.array(flipped)
        binary = np.logical_xor.accumulate(shown, axis=1)
        words.append(binary @ (1 << np.arange(count - 1, -1, -1)))
    right = (words[1] - words[0]) == sign * direction
    if placed:
        right &= half == (bit == order[-1])
    total = np.bincount(bit, weights=often, minlength=count)
    return total, np.bincount(bit, weights=often * right, minlength=count) / np.maximum(total, 1)


def _score(table: Table, order: list[int], flipped: list[bool], sign: int, placed: bool = False) -> float:
    """The least share of all bits that change often enough; 1 if none does."""
    total, share = _shares(table, order, flipped, sign, placed)
    enough = total >= _LEAST_CHANGES
    return float(share[enough].min()) if enough.any() else 1.0


def _sound(table: Table) -> bool:
    """The images make a Gray code as told. Gloss and edges of the part may spoil a bit that changes at few places."""
    count = table[0].shape[1]
    total, share = _shares(table, list(range(count)), [False] * count, 1)
    enough = total >= _LEAST_CHANGES
    if not enough.any() or share[enough].min() >= _CONSISTENT:
        return True
    right = float((share * total).sum() / total.sum())
    return right >= _MOSTLY and float(share[enough].min()) >= _HALF


def _arrangements(count: int, constant: list[int]) -> Iterator[tuple[str, list[int], list[bool]]]:
    told, none = list(range(count)), [False] * count
    for i, j in combinations(told, 2):
        order = told.copy()  # as one of the two may not change within the picture
        order[i], order[j] = j, i
        yield "exchanged", order, none
    for i in told:
        if i not in constant:
            yield "inverted", told, [k == i for k in told]
    yield "inverted", told, [True] * count
    yield "reversed", told[::-1], none
    for i in told:
        for j in told:
            if abs(i - j) > 1 and i not in constant:  # a missing image would fit as a further, higher bit
                order = [k for k in told if k != i]
                order.insert(j, i)
                yield "moved", order, none


def _arranged(
    kind: str, order: list[int], flipped: list[bool], names: list[str], inverse_names: list[str]
) -> InputError:
    if kind == "exchanged":
        a, b = (names[i] for i in range(len(names)) if order[i] != i)
        what = f"the images {a} and {b} are exchanged: in each other's place they make a Gray code"
    elif kind == "inverted":
        wrong = [i for i, f in enumerate(flipped) if f]
        what = f"{', '.join(names[i] for i in wrong)} shows the inverted pattern"
        if inverse_names:
            what += f": exchanged with {', '.join(inverse_names[i] for i in wrong)}"
    elif kind == "reversed":
        what = f"the images {names[0]} … {names[-1]} come in reversed order, the least significant bit first"
    else:
        moved = next(i for i in range(len(names)) if order[i] != i)
        what = f"the images from {names[moved]} on are not in their order: as {', '.join(names[i] for i in order)} they fit"
    return InputError(what, hint="check the pattern list in the projector, or the files", code="fringes.order")


def _raise_faulty(table: Table, constant: list[int], names: list[str]) -> None:
    """No arrangement makes a Gray code of them: one is constant, or all are strange."""
    total, share = _shares(table, list(range(len(names))), [False] * len(names), 1)
    enough = total >= _LEAST_CHANGES
    # Where a bit changes, the one below it is 1; so a missing one spoils every change of the one above it, and the
    # direction in which all words count.
    spoilt = [i for i in constant if i and enough[i - 1] and share[i - 1] < 1 - _CONSISTENT]
    right = float((share * total).sum() / total.sum())
    if spoilt or (constant and right < _CONSISTENT):
        i = (spoilt or constant)[0]
        other = names[int(np.flatnonzero(enough & (share < _CONSISTENT))[0])]
        raise InputError(
            f"{names[i]} shows no stripes: black, evenly lit, or skipped; {other} contradicts it",
            hint="the projector skipped the pattern or the camera missed it; look at the frame, capture again",
            code="fringes.missing",
        )
    if right < _CONSISTENT:
        raise InputError(
            f"the images {names[0]} … {names[-1]} make no Gray code with the phase shift: only {right:.0%} of the stripes' "
            "edges are where they should be",
            hint="check that the pattern set of the recording is the one that was projected",
            code="fringes.order",
        )


def _check_edges(where: tuple[NDArray[Any], NDArray[Any]], complementary: bool, step_names: list[str]) -> None:
    """The words' edges must lie where the phase passes its zero (and the complementary bit's half a period on)."""
    bit, turn = where
    if len(bit) < _LEAST_CHANGES:
        return
    last = bit.max() if complementary else -1
    angle = 2 * np.pi * (turn - 0.5 * (bit == last))
    mean = np.exp(1j * angle).mean()
    if abs(mean) > 0.5 and abs(np.angle(mean)) > _OFF_RAD:
        steps = np.angle(mean) / (2 * np.pi) * len(step_names)
        raise InputError(
            f"the steps {step_names[0]} … {step_names[-1]} are shifted against the Gray code by {steps:+.1f} steps",
            hint="check which image of the phase shift comes first",
            code="fringes.order",
        )
