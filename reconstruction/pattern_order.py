"""Do the images of a phase shift show what the pattern set says, each in its place? Told from their content alone.

A projector that skips, repeats or reorders patterns gives frames that look plausible one by one and decode to nonsense.
Looked at are tiles of well lit pixels, values divided by the pixel's modulation so that reflectance drops out.

*Phase shift*: images of steps δ_k lie, over all pixels, in the span of 1, cos δ_k, sin δ_k. The matrix of second moments of the
images therefore tells how well any other arrangement of the steps (two exchanged, one shown twice, one lost) would explain
them: residual = trace of what lies outside that span. *Gray code*: where one bit changes between neighbouring pixels, the
word must change by one, upwards if the phase grows; arrangements of the bits are tried until that holds for each. *Several
periods*: phase differences over a few pixels must be in the ratio of the periods, and of one sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.arrays import check_array
from rakelight.errors import InputError
from rakelight.reconstruction._gray_order import Phase, check_gray
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.patterns import Axis, PatternSet

__all__ = ["check_order"]

_TILE, _TILES, _COARSE = 48, 64, 8  # px a side, how many, and the stride at which lit places are looked for
_PIECE = 16  # px over which phase differences are added up, so that noise counts at the ends only
_LEAST_PX = 1500  # fewer well lit pixels tell nothing
_SOUND = 0.05  # residual per free value, in modulations, up to which nothing is looked for
_MUCH_BETTER = 0.35  # of the squared residual: what another arrangement must leave at most
_UNLIKE = 0.25  # of the usual variation, below which an image shows no fringes
_SPREAD = 0.8  # mean resultant length below which the phases are spread over whole periods
_RATIO = (0.5, 2.0)  # measured over told ratio of two periods

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Tiles of the images of one axis.

    Attributes
    ----------
    values : (K, T, h, w) float32
        DN.
    places : tuple of int
        Of the K images in ``PatternSet.patterns``.
    full_scale : float
    """

    values: NDArray[np.float32]
    places: tuple[int, ...]
    full_scale: float

    def of(self, places: tuple[int, ...]) -> NDArray[np.float32]:
        """(N, T, h, w) of some images."""
        return self.values[[self.places.index(place) for place in places]]


def check_order(
    frames: NDArray[np.generic], pattern_set: PatternSet, axis: Axis = "column", *, full_scale: float
) -> None:
    """Raise if images of one axis are missing, shown twice, or in other places than the pattern set says.

    Parameters
    ----------
    frames : (K, H, W) uint8 or uint16
        As for :func:`rakelight.reconstruction.decoding.decode`; some tiles of them are looked at.
    full_scale : float
        Largest raw value.

    Raises
    ------
    InputError
        ``fringes.missing``: an image without the pattern (black, evenly lit); ``fringes.doubled``: a pattern shown twice;
        ``fringes.order``: exchanged, reversed or shifted images; ``fringes.inverse``: an inverted image that is none.
        The message names the images as ``PatternSet.names`` does. Too few well lit pixels raise nothing: exposure is
        not the matter here.
    """
    stack = check_array("frames", frames, ndim=3, dtypes=("uint8", "uint16"))
    if len(stack) < len(pattern_set.patterns):
        raise InputError(
            f"{len(stack)} frames for a pattern set of {len(pattern_set.patterns)} images", code="input.shape"
        )
    shifts = [pattern_set.phase_shift(axis, i) for i in range(len(pattern_set.code.periods_px))]
    sample = _sampled(stack, pattern_set, axis, shifts[0], full_scale)
    phases = [_solved(sample, places) for places in shifts]
    if min(int(p.good.sum()) for p in phases) < _LEAST_PX:
        return
    names = pattern_set.names
    for places, phase in zip(shifts, phases, strict=True):
        _check_steps(sample.of(places)[:, phase.good], phase, [names[p] for p in places])
    _check_periods(phases, pattern_set, [[names[p] for p in places] for places in shifts])
    if bits := pattern_set.gray_bits(axis):
        inverses = pattern_set.gray_bits(axis, inverted=True)
        check_gray(
            sample.of(bits),
            sample.of(inverses) if inverses else None,
            phases[0],
            pattern_set,
            [names[p] for p in bits],
            [names[p] for p in inverses],
            [names[p] for p in shifts[0]],
        )


# --------------------------------------------------------------------------------------------------------------- sample
def _sampled(
    stack: NDArray[Any], pattern_set: PatternSet, axis: Axis, shift: tuple[int, ...], full_scale: float
) -> Sample:
    """The tiles with most pixels that the finest phase shift lights, spread over the frame."""
    places = tuple(i for i, p in enumerate(pattern_set.patterns) if p.axis == axis)
    height, width = stack.shape[1:]
    side_v, side_u = min(_TILE, height), min(_TILE, width)
    rows, columns = height // side_v, width // side_u
    coarse = np.stack([stack[p, ::_COARSE, ::_COARSE] for p in shift]).astype(np.float32)
    swing = coarse.max(axis=0) - coarse.min(axis=0)
    lit = (swing > 0.3 * np.percentile(swing, 95)) & (coarse.max(axis=0) < SATURATION * full_scale)
    v, u = (np.arange(n) * _COARSE for n in lit.shape)
    tile = np.minimum(v // side_v, rows - 1)[:, None] * columns + np.minimum(u // side_u, columns - 1)
    score = np.bincount(tile.ravel(), weights=lit.ravel(), minlength=rows * columns)
    usable = np.flatnonzero(score >= 0.5 * score.max())
    chosen = usable[np.linspace(0, len(usable) - 1, min(_TILES, len(usable))).astype(int)]
    tiles = np.empty((len(places), len(chosen), side_v, side_u), np.float32)
    for i, number in enumerate(chosen):
        top, left = number // columns * side_v, number % columns * side_u
        for k, place in enumerate(places):
            tiles[k, i] = stack[place, top : top + side_v, left : left + side_u]
    return Sample(tiles, places, full_scale)


def _solved(sample: Sample, places: tuple[int, ...]) -> Phase:
    values = sample.of(places)
    angles = (2 * np.pi * np.arange(len(places)) / len(places)).astype(np.float32)
    c, s = (np.tensordot(wave, values, 1) * np.float32(2 / len(places)) for wave in (np.cos(angles), np.sin(angles)))
    modulation = np.hypot(c, s)
    good = modulation > max(0.01 * sample.full_scale, 0.3 * float(np.percentile(modulation, 90)))
    good &= values.max(axis=0) < SATURATION * sample.full_scale
    return Phase(np.arctan2(-s, c), values.mean(axis=0), np.maximum(modulation, np.float32(1e-6)), good)


# ---------------------------------------------------------------------------------------------------------- phase shift
def _check_steps(values: NDArray[np.float32], phase: Phase, names: list[str]) -> None:
    """Values (N, M) of one phase shift at its good pixels, DN."""
    count = len(values)
    variation = np.std(values / values.max(axis=0), axis=1)  # the brightest step is a scale that no single fault upsets
    values = values / phase.modulation[phase.good]
    moments = (values @ values.T).astype(np.float64) / values.shape[1]
    told = list(range(count))
    residual = _residual(moments, told) if count > 3 else 0.0
    spread = abs(np.exp(1j * phase.phase[phase.good]).mean()) < _SPREAD
    if count > 3 and residual <= _SOUND**2:
        return
    if variation.min() < _UNLIKE * np.median(variation) and (count > 3 or spread):
        raise _missing(names[int(variation.argmin())])
    differences = np.diag(moments)[:, None] + np.diag(moments) - 2 * moments
    limit = 4 * _SOUND**2 + 0.1 * (1 - np.cos(2 * np.pi / count))
    equal = [(i, j) for i, j in combinations(told, 2) if differences[i, j] < min(limit, 0.5 * residual or limit)]
    if count == 3:
        if equal and spread:
            raise _doubled(*(names[i] for i in equal[0]))
        return
    tried = [(_residual(moments, shown), kind, shown) for kind, shown in _arrangements(count)]
    least = min(left for left, _, _ in tried)
    if least > _MUCH_BETTER * residual:
        if equal:
            raise _doubled(*(names[i] for i in equal[0]))
        if residual > (3 * _SOUND) ** 2 and (lost := _odd_one_out(moments, residual)) is not None:
            raise _missing(names[lost])
        return
    # With five or six steps two exchanges differ by a reversal only, and fit alike.
    best = [(kind, shown) for left, kind, shown in tried if left < least + 0.1 * (residual - least)]
    kind, shown = best[0]
    moved = [i for i in told if shown[i] != i]
    if kind == "doubled":
        raise _doubled(names[shown[moved[0]]], names[moved[0]])
    if kind == "exchanged":
        pairs = [[names[i] for i in told if other[i] != i] for also, other in best if also == kind]
        raise InputError(
            f"the images {', or '.join(' and '.join(pair) for pair in pairs)} are exchanged: in each other's place they fit "
            "the phase shift",
            hint="check the order of the pattern list in the projector, or the order of the files",
            code="fringes.order",
        )
    raise InputError(
        f"from {names[moved[0]]} on the images come one step late: {names[moved[0]]} shows {names[shown[moved[0]]]} again",
        hint="the projector repeated a pattern or the camera took two frames of it; check the trigger, capture again",
        code="fringes.doubled",
    )


def _arrangements(count: int) -> Iterator[tuple[str, list[int]]]:
    """What else may have been shown in each place: (kind, step in each place)."""
    told = list(range(count))
    for i, j in combinations(told, 2):
        shown = told.copy()
        shown[i], shown[j] = j, i
        yield "exchanged", shown
    for i in told:
        for j in told:
            if i != j:
                yield "doubled", [*told[:j], i, *told[j + 1 :]]
    for j in range(1, count - 1):
        yield "late", [*told[:j], *told[j - 1 : -1]]


def _residual(moments: Float, shown: list[int], without: int | None = None) -> float:
    """Mean square per free value of what steps δ = 2π·shown/N do not explain, in squared modulations."""
    count = len(moments)
    kept = [i for i in range(count) if i != without]
    angles = 2 * np.pi * np.array(shown)[kept] / count
    basis = np.linalg.qr(np.stack([np.ones(len(kept)), np.cos(angles), np.sin(angles)], axis=1))[0]
    part = moments[np.ix_(kept, kept)]
    return float(np.trace(part) - np.trace(basis.T @ part @ basis)) / (len(kept) - 3)


def _odd_one_out(moments: Float, residual: float) -> int | None:
    """The image without which the others fit."""
    count = len(moments)
    if count < 5:
        return None
    without = [_residual(moments, list(range(count)), i) for i in range(count)]
    best = int(np.argmin(without))
    return best if without[best] < _MUCH_BETTER / 3 * residual else None


# -------------------------------------------------------------------------------------------------------------- periods
def _check_periods(phases: list[Phase], pattern_set: PatternSet, names: list[list[str]]) -> None:
    """Phase differences in one period against those in the finest."""
    periods = pattern_set.code.periods_px
    ratios = []
    for other, period in zip(phases[1:], periods[1:], strict=True):
        product = square = 0.0
        for turned in (False, True):
            lines = [_along(map_, turned) for map_ in (phases[0].phase, other.phase, phases[0].good & other.good)]
            fine, coarse = (wrapped(np.diff(line, axis=-1)).sum(axis=-1)[lines[2].all(axis=-1)] for line in lines[:2])
            product += float(fine @ coarse)
            square += float(fine @ fine)
        ratios.append(product / max(square, 1e-9) * period / periods[0])
    backwards = [i for i, ratio in enumerate(ratios, 1) if ratio < -_RATIO[0]]
    if backwards:
        wrong = 0 if len(backwards) == len(ratios) > 1 else backwards[0]
        raise _reversed(names[wrong], f"against those of the other periods ({periods[wrong]:g} px)")
    for i, ratio in enumerate(ratios, 1):
        if not _RATIO[0] < ratio < _RATIO[1]:
            shown = f"{periods[i] / ratio:.0f} px" if ratio > 0.05 else "another one"
            raise InputError(
                f"the images {names[i][0]} … {names[i][-1]} do not show the period {periods[i]:g} px beside "
                f"{periods[0]:g} px: their phase changes as if it were {shown}",
                hint="check that the periods are projected in the order of the pattern set",
                code="fringes.order",
            )


# --------------------------------------------------------------------------------------------------------------- shared
def _along(tiles: NDArray[Any], turned: bool) -> NDArray[Any]:
    """Pieces of rows (or columns) of tiles (T, h, w), one behind the other: (pieces, _PIECE)."""
    lines = tiles.swapaxes(-1, -2) if turned else tiles
    whole = lines.shape[-1] - lines.shape[-1] % _PIECE
    return lines[..., :whole].reshape(-1, _PIECE) if whole else np.empty((0, _PIECE), tiles.dtype)


def wrapped(angle: Any) -> Any:
    """Angles brought to [−π, π)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _reversed(names: list[str], against: str) -> InputError:
    few = ", or two of them are exchanged" if len(names) <= 4 else ""  # which is a reversal too
    return InputError(
        f"the steps {names[0]} … {names[-1]} run backwards {against}{few}",
        hint="check the order of the pattern list, or whether the projector mirrors its picture",
        code="fringes.order",
    )


def _missing(name: str) -> InputError:
    return InputError(
        f"{name} shows no such fringes: black, evenly lit, or another picture",
        hint="the projector skipped the pattern or the camera missed it; look at the frame, capture again",
        code="fringes.missing",
    )


def _doubled(kept: str, copy: str) -> InputError:
    return InputError(
        f"{copy} shows the same as {kept}: one pattern was taken twice, another is missing",
        hint="check the trigger between projector and camera, capture again",
        code="fringes.doubled",
    )
