"""What does not belong in a bundle adjustment: wrong corners, boards that moved between the patterns, views twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rakelight.calibration._bundle_fit import fit, place, weigh
from rakelight.calibration._bundle_model import (
    BoolArray,
    FloatArray,
    Observations,
    State,
    Weighting,
    predict,
)

CORNER_SIGMAS = 6.0
"""A corner further off than this many standard deviations is left out. Of normal errors that is none; real ones have longer
tails, and what is lost by keeping a doubtful corner among a hundred is less than by judging too soon."""
VIEW_FACTOR = 3.0
"""A view whose residuals are this many times those of the others has moved, or is blurred."""
_FIRST_SIGMA_PX = 0.5
_FINE = 0.02  # px: below it views may differ by any factor
_MOST_ROUNDS = 20


@dataclass(frozen=True, eq=False)
class Settled:
    """A fit and what it keeps: (1 + D, N); ``dropped`` (1 + D, P): whole views or directions of them that are not used."""

    state: State
    weighting: Weighting
    dropped: BoolArray

    @property
    def kept(self) -> BoolArray:
        return self.weighting.kept


def settle(state: State, observed: Observations, free: csr_array, dropped: BoolArray, *, first: bool = True) -> Settled:
    """Fit, find what is off, fit again, until nothing changes.

    ``dropped`` (1 + D, P) is left out from the beginning. With ``first`` the noise is not known yet: the first fit is
    robust, and takes it as 0.5 px.
    """
    dropped = dropped.copy()
    kept = _usable(observed, dropped)
    if first:
        guess = np.full(observed.devices, _FIRST_SIGMA_PX)
        state = fit(state, observed, weigh(state, observed, kept, guess), free, robust=True, tolerance=1e-3)
    for _ in range(_MOST_ROUNDS):
        weighting = weigh(state, observed, kept)
        state = fit(state, observed, weighting, free, robust=True, tolerance=1e-3)
        weighting = weigh(state, observed, kept)
        moved = _worst_view(state, observed, weighting, dropped)
        if moved is not None:
            dropped |= moved
            kept = _usable(observed, dropped)
            continue
        usable = _usable(observed, dropped)
        near = usable & (lengths(state, observed, weighting) <= CORNER_SIGMAS)
        near[1:] &= near[0]  # projector coordinates are read where the camera saw the corner: both are wrong
        if np.array_equal(near, kept):
            break
        kept = near
    for _ in range(2):
        state = fit(state, observed, weighting, free)
        weighting = weigh(state, observed, kept)
    return Settled(state, weighting, dropped)


def lengths(state: State, observed: Observations, weighting: Weighting) -> FloatArray:
    """(1 + D, N) lengths of the residuals in standard deviations, the camera's share taken out; NaN where not seen."""
    raw = observed.seen - predict(state, observed).seen
    through = np.einsum("dnij,nj->dni", weighting.carried, raw[0])
    raw[1:] -= weighting.rho[:, None, None] * through
    return np.asarray(np.linalg.norm(raw, axis=2) / weighting.sigma_px[:, None])


def scores(state: State, observed: Observations, weighting: Weighting, usable: BoolArray) -> FloatArray:
    """(1 + D, P) usual residual of each view on each device in standard deviations: 1 is as expected; NaN where not seen."""
    sizes = lengths(state, observed, weighting) / np.sqrt(2 * np.log(2))
    out = np.full((observed.devices, len(state.rotations) - observed.devices + 1), np.nan)
    for view in range(out.shape[1]):
        for device in range(observed.devices):
            own = usable[device] & (observed.view == view)
            if own.sum() >= 4:
                out[device, view] = np.median(sizes[device, own])
    return out


def _usable(observed: Observations, dropped: BoolArray) -> BoolArray:
    return observed.known & ~dropped[:, observed.view]


def _worst_view(state: State, observed: Observations, weighting: Weighting, dropped: BoolArray) -> BoolArray | None:
    """(1 + D, P): the one view, or direction of a view, that fits the others least, if it is beyond what is usual."""
    usable = _usable(observed, dropped)
    found = scores(state, observed, weighting, usable)
    shown = np.isfinite(found)
    if not shown.any():
        return None
    limit = np.array([max(np.median(f[s]), 0.5) if s.any() else np.inf for f, s in zip(found, shown, strict=True)])
    excess = np.where(shown & (found * weighting.sigma_px[:, None] > _FINE), found / limit[:, None], 0.0)
    if excess.max() <= VIEW_FACTOR:
        return None
    view = int(np.unravel_index(np.argmax(excess), excess.shape)[1])
    out = np.zeros_like(dropped)
    out[_culprit(state, observed, weighting, usable, view, limit), view] = True
    return out


def _culprit(
    state: State, observed: Observations, weighting: Weighting, usable: BoolArray, view: int, limit: FloatArray
) -> slice | list[int]:
    """The one projector without which the rest of a view agrees; all devices if there is no such one."""
    here = usable & (observed.view == view)
    present = [d for d in range(observed.devices) if here[d].sum() >= 4]
    best: tuple[float, slice | list[int]] = (VIEW_FACTOR, slice(None))
    if len(present) < 3:
        return best[1]  # of two that disagree, none can be told to be right
    for device in present[1:]:
        kept = here.copy()
        kept[device] = False
        trial = place(state, observed, replace(weighting, kept=kept), np.array([view]), robust=True)
        left = scores(trial, observed, weighting, kept)[:, view] / limit
        worst = float(np.nanmax(left))
        if worst < best[0]:
            best = worst, [device]
    return best[1]


def same_views(views: Sequence[tuple[NDArray[np.int64], FloatArray]], least_px: float = 0.5) -> dict[int, int]:
    """Views that show a board where an earlier one did: number → number of the earlier one.

    ``views`` are (ids, uv). A board that was laid anew never lies the same within half a pixel.
    """
    twins: dict[int, int] = {}
    for later in range(1, len(views)):
        for earlier in range(later):
            if earlier in twins:
                continue
            _, i, j = np.intersect1d(views[earlier][0], views[later][0], return_indices=True)
            if len(i) < 4 or len(i) < 0.5 * min(len(views[earlier][0]), len(views[later][0])):
                continue
            apart = np.linalg.norm(views[earlier][1][i] - views[later][1][j], axis=1)
            if float(np.median(apart)) < least_px:
                twins[later] = earlier
                break
    return twins
