"""Least squares of the bundle adjustment: which lens parameters are free, one fit, a pose by itself, the noise found.

Focal lengths and distances nearly trade off under a small field: the valley is long and curved, and methods that solve their
steps by iteration (LSMR, as in ``scipy.optimize.least_squares`` for sparse Jacobians) do not reach its end in 40 steps.
The normal matrix of a whole rig is small (141 parameters for 12 poses and 4 projectors), so each step is solved exactly:
Levenberg's and Marquardt's method on the sparse Jacobian, whose rows are linearised anew, with turns about where things are.

Source: K. Madsen, H. B. Nielsen, O. Tingleff, "Methods for Non-Linear Least Squares Problems", 2nd ed. (2004), 3.2 (damping by the
gain ratio).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.sparse import coo_array, csr_array

from rakelight.calibration._bundle_model import (
    LENS,
    POSE,
    BoolArray,
    FloatArray,
    Observations,
    State,
    Weighting,
    board_columns,
    carried,
    jacobian,
    predict,
    residuals,
)

TERMS = ("k1", "k2", "p1", "p2", "k3")
_RIDGE = 1e-12  # of the scaled normal matrix: what is not determined stays where it starts
_GAUGE_MM = 1e-3  # an affine camera does not tell depth: the mean depth of the boards stays
_KNEE = 2.0  # standard deviations from which residuals count less in a robust fit
_MOST_STEPS, _MOST_DAMPING = 200, 1e8


@dataclass(frozen=True)
class Lens:
    """Which parameters of a lens are free: distortion ``terms`` of k1, k2, p1, p2, k3; fx = fy; the principal point."""

    terms: tuple[str, ...] = ("k1",)
    shared_focal: bool = False
    principal_point: bool = True

    def columns(self) -> FloatArray:
        """(9, K): the lens' change for each free parameter."""
        out = [[0, 1]] if self.shared_focal else [[0], [1]]
        out += [[2], [3]] if self.principal_point else []
        out += [[4 + TERMS.index(term)] for term in self.terms]
        columns = np.zeros((LENS, len(out)))
        for column, places in enumerate(out):
            columns[places, column] = 1.0
        return columns

    def __str__(self) -> str:
        parts = [" ".join(self.terms) or "no distortion", "fx = fy" if self.shared_focal else "fx, fy"]
        return ", ".join(parts if self.principal_point else [*parts, "principal point kept"])


def free_columns(camera: Lens, projector: Lens, devices: int, boards: int, affine: bool) -> csr_array:
    """(change, free): everything but the lens parameters that are kept."""
    blocks = []
    for device in range(devices):
        lens = camera.columns() if device == 0 else projector.columns()
        if device == 0 and affine:  # two scales; the offset is the choice of the frame
            lens = lens[:, : 1 if camera.shared_focal else 2]
        blocks += [lens] + ([np.eye(POSE)] if device else [])
    blocks.append(np.eye(POSE * boards))
    rows = np.cumsum([0] + [len(b) for b in blocks])
    columns = np.cumsum([0] + [b.shape[1] for b in blocks])
    at = [(b.nonzero(), r, c) for b, r, c in zip(blocks, rows[:-1], columns[:-1], strict=True)]
    i = np.concatenate([n[0] + r for n, r, _ in at])
    j = np.concatenate([n[1] + c for n, _, c in at])
    return csr_array(coo_array((np.ones(len(i)), (i, j)), shape=(rows[-1], columns[-1])))


def fit(
    state: State,
    observed: Observations,
    weighting: Weighting,
    free: csr_array,
    *,
    robust: bool = False,
    hold_depth: bool = True,
    tolerance: float = 1e-6,
) -> State:
    """The state that fits best; ``robust`` lets large residuals count less (soft L1).

    It ends when a step would lower the sum of squares, which is in standard deviations, by less than ``tolerance``: 1e-6 moves
    nothing by more than a thousandth of its standard error. ``hold_depth`` is for an affine camera, which does not
    tell depth: the boards' mean depth stays.
    """
    gauge = _gauge(observed, free) if hold_depth else np.zeros((0, free.shape[1]))
    drift = np.zeros(len(gauge))
    predicted = predict(state, observed)
    errors = residuals(predicted, observed, weighting)
    cost, weights = _cost(errors, robust)
    cost += float(drift @ drift)
    damping, growth = 1e-5, 2.0
    for _ in range(_MOST_STEPS):
        rows = jacobian(predicted, observed, weighting, state.size) @ free
        slope = rows.T @ (weights * errors) + gauge.T @ drift
        normal = normal_matrix(csr_array(rows.multiply(np.sqrt(weights)[:, None])), gauge)
        while True:
            scale, factor = _factor(normal, damping)
            step = -cho_solve((factor, False), slope / scale, check_finite=False) / scale
            promised = float(-step @ (2 * slope + normal @ step))
            if promised < tolerance:
                return state
            trial = state.moved(free @ step)
            predicted = predict(trial, observed)
            errors = residuals(predicted, observed, weighting)
            there, weights = _cost(errors, robust)
            there += float(((drift + gauge @ step) ** 2).sum())
            if there < cost:
                break
            damping, growth = damping * growth, growth * 2
            if damping > _MOST_DAMPING:
                return state
        gain = (cost - there) / promised
        damping, growth = max(damping * max(1 / 10, 1 - (2 * gain - 1) ** 3), 1e-12), 2.0
        state, cost, drift = trial, there, drift + gauge @ step
    return state


def _cost(errors: FloatArray, robust: bool) -> tuple[float, FloatArray]:
    """Sum of squares, or of what soft L1 makes of them, and the weights that give its slope."""
    if not robust:
        return float(errors @ errors), np.ones_like(errors)
    root = np.sqrt(1 + (errors / _KNEE) ** 2)
    return float(2 * _KNEE**2 * (root - 1).sum()), 1 / root


def normal_matrix(rows: csr_array, gauge: FloatArray) -> FloatArray:
    """JᵀJ of the free parameters with the gauge, dense."""
    return np.asarray((rows.T @ rows).toarray() + gauge.T @ gauge)


def covariance(state: State, observed: Observations, weighting: Weighting, free: csr_array) -> FloatArray:
    """Covariance of the free parameters (F, F): the inverse of JᵀJ, where standard deviations are those of the noise."""
    rows = jacobian(predict(state, observed), observed, weighting, state.size) @ free
    scale, factor = _factor(normal_matrix(rows, _gauge(observed, free)))
    half = solve_triangular(factor, np.eye(len(scale))) / scale[:, None]
    return np.asarray(half @ half.T)


def _factor(normal: FloatArray, damping: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Scales and upper Cholesky factor U with normal ≈ diag(scale) UᵀU diag(scale), its diagonal made larger by ``damping``."""
    scale = np.sqrt(normal.diagonal())
    scale[scale == 0] = 1.0  # touches nothing that was kept: the ridge holds it
    scaled = normal / np.outer(scale, scale)
    ridge = max(_RIDGE, damping)
    while True:
        try:
            return scale, np.asarray(cholesky(scaled + ridge * np.eye(len(scale)), check_finite=True))
        except np.linalg.LinAlgError:
            ridge *= 100  # rounding made it indefinite; ends, since ridge 1 is surely definite


def _gauge(observed: Observations, free: csr_array) -> FloatArray:
    """One residual more for an affine camera: the boards' mean shift along the sight, in mm; none for a pinhole."""
    size = free.shape[0]
    if observed.sights is None:
        return np.zeros((0, free.shape[1]))
    along = np.cross(*observed.sights)
    row = np.zeros(size)
    boards = np.unique(observed.view)
    row[board_columns(observed.devices, boards)[:, 3:]] = along / (_GAUGE_MM * len(boards))
    return np.asarray((free.T @ row)[None])


# ----------------------------------------------------------------------------------------------------------------- poses
def place(
    state: State, observed: Observations, weighting: Weighting, views: NDArray[np.int64], *, robust: bool = False
) -> State:
    """The state with the boards of ``views`` moved to fit, everything else as it is: how held-out views are seen."""
    rows = np.isin(observed.view, views)
    columns = board_columns(observed.devices, views).ravel()
    free = csr_array(
        coo_array((np.ones(len(columns)), (columns, np.arange(len(columns)))), shape=(state.size, len(columns)))
    )
    some = replace(weighting, carried=weighting.carried[:, rows], kept=weighting.kept[:, rows])
    if not some.kept.any():
        return state
    alone = not some.kept[1:].any()  # no projector tells the depth of a board before an affine camera
    return fit(state, observed.of(rows), some, free, robust=robust, hold_depth=alone, tolerance=1e-4)


# ----------------------------------------------------------------------------------------------------------------- noise
def weigh(state: State, observed: Observations, kept: BoolArray, sigma_px: FloatArray | None = None) -> Weighting:
    """Noise of each device and the share ρ of the camera's error in the projectors', as the residuals show them.

    ``sigma_px`` (1 + D,) fixes the noise and takes ρ = 0: the first look.
    """
    predicted = predict(state, observed)
    along = carried(predicted)
    if sigma_px is not None:
        return Weighting(sigma_px, np.zeros(observed.devices - 1), along, kept)
    raw = observed.seen - predicted.seen
    rho = np.zeros(observed.devices - 1)
    sigma = np.empty(observed.devices)
    sigma[0] = robust_sigma(raw[0, kept[0]])
    for device in range(1, observed.devices):
        own = kept[device]
        error, through = raw[device, own], np.einsum("nij,nj->ni", along[device - 1, own], raw[0, own])
        size = np.linalg.norm(through, axis=1) + np.linalg.norm(error, axis=1)
        usual = size <= 3 * np.median(size)
        alike = float((error[usual] * through[usual]).sum() / max((through[usual] ** 2).sum(), 1e-12))
        rho[device - 1] = min(max(alike, 0.0), 1.0)
        sigma[device] = robust_sigma(error - rho[device - 1] * through)
    return Weighting(np.maximum(sigma * _freedom(observed, kept), 1e-4), rho, along, kept)


def robust_sigma(errors: FloatArray) -> float:
    """Standard deviation of one coordinate from 2-D errors (N, 2).

    That of the normal distribution with their median length, or with their 90 % quantile if it is larger: real residuals have
    longer tails, and those are no outliers. Outliers may be up to a tenth.
    """
    lengths = np.linalg.norm(errors, axis=1)
    if not len(lengths):
        return 1e-4
    return float(max(np.median(lengths) / np.sqrt(2 * np.log(2)), np.quantile(lengths, 0.9) / np.sqrt(2 * np.log(10))))


def _freedom(observed: Observations, kept: BoolArray) -> float:
    """Residuals are smaller than the noise, since parameters are fitted to them."""
    count = 2 * int(kept.sum())
    fitted = LENS + (LENS + POSE) * (observed.devices - 1) + POSE * len(np.unique(observed.view))
    return float(np.sqrt(count / max(count - fitted, count / 4)))
