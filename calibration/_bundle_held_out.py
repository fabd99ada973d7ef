"""Views held out: how well models predict boards they were not fitted to, and which lens model does best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from rakelight.calibration._bundle_fit import Lens, fit, free_columns, place
from rakelight.calibration._bundle_model import FloatArray, Observations, State, Weighting, predict

DISTORTIONS: tuple[tuple[str, ...], ...] = ((), ("k1",), ("k1", "p1", "p2"), ("k1", "k2"), ("k1", "k2", "p1", "p2"))
"""Of cameras too. k3 is left to those who ask for it: boards hardly reach the corners of the picture, where it goes wild
without any held-out view that could tell."""
_SURE = 1.0  # standard errors by which the best must beat a simpler one (Breiman et al., "CART", 1984, 3.4.3)
_TOLERANCE = 1e-3
FEW_VIEWS = 6  # below it, focal lengths and principal points are not sure either


def held_out(
    state: State, observed: Observations, weighting: Weighting, free: csr_array, folds: int
) -> tuple[FloatArray, FloatArray]:
    """Residuals (1 + D, N, 2) of views that took no part, in px, and in standard deviations with the camera's share out.

    The views are parted into ``folds``; each part is left out of one fit, which starts from ``state``; then each of its
    boards is placed with all devices' corners. NaN where nothing is kept.
    """
    boards = np.unique(observed.view[weighting.kept[0]])
    raw = np.full(observed.seen.shape, np.nan)
    for part in range(folds):
        out = boards[part::folds]
        away = np.isin(observed.view, out)
        if not (weighting.kept[0] & ~away).any() or not len(out):
            continue
        rest = observed.of(~away)
        some = replace(weighting, carried=weighting.carried[:, ~away], kept=weighting.kept[:, ~away])
        trial = fit(state, rest, some, free, tolerance=_TOLERANCE)
        for view in out:
            trial = place(trial, observed, weighting, np.array([view]))
        seen = predict(trial, observed).seen
        raw[:, away] = (observed.seen - seen)[:, away]
    raw[~weighting.kept] = np.nan
    own = raw.copy()
    own[1:] -= weighting.rho[:, None, None] * np.einsum("dnij,nj->dni", weighting.carried, raw[0])
    return raw, own / weighting.sigma_px[:, None, None]


def choose(
    state: State,
    observed: Observations,
    weighting: Weighting,
    camera: Lens | None,
    projector: Lens | None,
    start: tuple[Lens, Lens],
    folds: int,
) -> tuple[Lens, Lens, list[tuple[str, float]]]:
    """Lens models of the camera and of the projectors (one for all) that predict held-out views best.

    What is given stays. Projectors first, then the camera. The simplest model counts whose error is not significantly above
    that of the best one, by the differences from view to view: parameters that views cannot tell do no harm to views,
    but to all that lies beyond them. The third result lists what was tried: a sentence and the held-out rms in
    standard deviations.
    """
    boards, affine = len(state.rotations) - observed.devices + 1, observed.sights is not None
    tried: list[tuple[str, float]] = []
    best = [camera or start[0], projector or start[1]]

    def errors(device: int, candidate: Lens) -> FloatArray:
        models = [candidate if i == device else model for i, model in enumerate(best)]
        free = free_columns(models[0], models[1], observed.devices, boards, affine)
        plain = plain_lens(state, models[0], models[1])
        own = held_out(plain, observed, weighting, free, folds)[1]
        squares = np.clip(own, -6, 6) ** 2  # one corner must not choose the lens
        tried.append((f"camera {models[0]}; projectors {models[1]}", float(np.sqrt(np.nanmean(squares)))))
        return np.asarray(np.bincount(observed.view, np.nansum(squares, axis=(0, 2)), boards), np.float64)

    for device, given in ((1, projector), (0, camera)):
        if given is not None or (device == 1 and observed.devices == 1):
            continue
        candidates = _candidates(device, boards, affine)
        best[device] = candidates[_simplest([errors(device, c) for c in candidates])]
        if device == 0 and best[0].shared_focal:
            pair = [best[0], replace(best[0], shared_focal=False)]
            best[0] = pair[_simplest([errors(0, c) for c in pair])]
    return best[0], best[1], tried


def _simplest(errors: list[FloatArray]) -> int:
    """The first of models, errors by view, that is not significantly worse than the best; views not used have 0."""
    best = errors[int(np.argmin([e.sum() for e in errors]))]
    used = best > 0
    worse = [(own - best)[used] for own in errors]
    fine = [w.sum() <= _SURE * np.sqrt(len(w)) * w.std(ddof=1) for w in worse]
    return fine.index(True)  # the best itself is fine


def _candidates(device: int, boards: int, affine: bool) -> list[Lens]:
    """From few parameters to many. Pixels of cameras are square to 1e-4, so fx = fy first; projectors may differ."""
    if device == 0 and affine:
        return [Lens((), True, False)]
    if device == 0:
        few = [Lens((), True, False), Lens(("k1",), True, False)] if boards < FEW_VIEWS else []
        return [*few, *(Lens(terms, True) for terms in DISTORTIONS)]
    few = [Lens((), True), Lens(("k1",), True)] if boards < FEW_VIEWS else []
    return [*few, *(Lens(terms) for terms in DISTORTIONS)]


def plain_lens(state: State, camera: Lens, projector: Lens) -> State:
    """The state with what the models keep at its plain value: no distortion, fx = fy."""
    lens = state.lens.copy()
    for device, model in enumerate([camera] + [projector] * (len(lens) - 1)):
        columns = model.columns()
        fixed = ~columns[4:].any(axis=1)
        lens[device, 4:][fixed] = 0.0
        if model.shared_focal:
            lens[device, :2] = lens[device, :2].mean()
    return replace(state, lens=lens)
