"""Views held out: how well models predict boards they were not fitted to, and which lens model does best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from rakelight.calibration._bundle_fit import Lens, fit, free_columns, place
from rakelight.calibration._bundle_model import FloatArray, Observations, State, Weighting, predict

PROJECTOR_TERMS: tuple[tuple[str, ...], ...] = ((), ("k1",), ("k1", "p1", "p2"), ("k1", "k2"), ("k1", "k2", "p1", "p2"))
CAMERA_TERMS = (*PROJECTOR_TERMS, ("k1", "k2", "p1", "p2", "k3"))
_GAIN = 4.0  # of the sum of squared held-out errors in standard deviations: what a richer model must bring,
_GAIN_FEW = 0.02  # and this share of it where few views tell: their errors are not independent
_TOLERANCE = 1e-5
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
        seen = predict(trial, np.zeros(trial.size), observed).seen
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

    What is given stays. Projectors first, then the camera; of models alike the one with fewer parameters. The third
    result lists what was tried: a sentence and the held-out rms in standard deviations.
    """
    boards, affine = len(state.rotations) - observed.devices + 1, observed.sights is not None
    tried: list[tuple[str, float]] = []
    best = [camera or start[0], projector or start[1]]

    def error(models: Sequence[Lens]) -> float:
        free = free_columns(models[0], models[1], observed.devices, boards, affine)
        plain = plain_lens(state, models[0], models[1])
        own = held_out(plain, observed, weighting, free, folds)[1]
        squares = np.clip(own, -6, 6) ** 2  # one corner must not choose the lens
        tried.append((f"camera {models[0]}; projectors {models[1]}", float(np.sqrt(np.nanmean(squares)))))
        return float(np.nansum(squares))

    def gain(least: float) -> float:
        return _GAIN if boards >= FEW_VIEWS or not np.isfinite(least) else max(_GAIN, _GAIN_FEW * least)

    for device, given in ((1, projector), (0, camera)):
        if given is not None or (device == 1 and observed.devices == 1):
            continue
        least, chosen = np.inf, best[device]
        for candidate in _candidates(device, boards, affine):
            value = error([candidate if i == device else model for i, model in enumerate(best)])
            if value < least - gain(least):
                least, chosen = value, candidate
        if device == 0 and chosen.shared_focal:
            free = replace(chosen, shared_focal=False)
            chosen = free if error([free, best[1]]) < least - gain(least) else chosen
        best[device] = chosen
    return best[0], best[1], tried


def _candidates(device: int, boards: int, affine: bool) -> list[Lens]:
    """From few parameters to many. Pixels of cameras are square to 1e-4, so fx = fy first; projectors may differ."""
    if device == 0 and affine:
        return [Lens((), True, False)]
    if device == 0:
        few = [Lens((), True, False), Lens(("k1",), True, False)] if boards < FEW_VIEWS else []
        return [*few, *(Lens(terms, True) for terms in CAMERA_TERMS)]
    few = [Lens((), True), Lens(("k1",), True)] if boards < FEW_VIEWS else []
    return [*few, *(Lens(terms) for terms in PROJECTOR_TERMS)]


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
