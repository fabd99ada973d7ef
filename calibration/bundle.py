"""Joint refinement of camera, projectors and board poses: one bundle adjustment for the whole rig.

Residuals are px of the camera and of each projector, each divided by that device's own noise, which is estimated from
the residuals and refined with the fit. Corners that are off, boards that moved between the patterns and views that are
there twice are found, left out and named. Lens models are chosen by held-out views. The frame is the camera's, the scale the
board's: nothing else is free.

Sources: B. Triggs et al., "Bundle Adjustment – A Modern Synthesis" (2000); D. Moreno, G. Taubin, "Simple, Accurate, and Robust
Projector-Camera Calibration", 3DIMPVT 2012 (projectors as inverse cameras).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rakelight.calibration._bundle_fit import TERMS, Lens, covariance, free_columns
from rakelight.calibration._bundle_held_out import FEW_VIEWS, choose, held_out, plain_lens
from rakelight.calibration._bundle_model import (
    BoolArray,
    FloatArray,
    Observations,
    State,
    lens_columns,
    pose_columns,
    predict,
)
from rakelight.calibration._bundle_outliers import Settled, settle
from rakelight.calibration._bundle_views import (
    Problem,
    check,
    first_state,
    pack,
    refuse_scant,
    told_corners,
    told_views,
)
from rakelight.calibration.boards import Board
from rakelight.calibration.views import View
from rakelight.reconstruction.models import AffineCamera, Camera, PinholeCamera, Projector

__all__ = ["Lens", "RigSolution", "solve_rig"]

_LENS_NAMES = ("fx", "fy", "cx", "cy", *TERMS)
_FIRST = (Lens(("k1", "k2", "p1", "p2"), True), Lens(("k1",)))
_FIRST_OF_FEW = (Lens(("k1",), True), Lens(("k1",), True))
_FEWEST_KEPT, _FAR_WORSE = 0.95, 1.3
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Fitted:
    """The solution as the solver has it: for covariances and maps made of them."""

    state: State
    observed: Observations
    free: csr_array
    covariance: FloatArray
    directions: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class RigSolution:
    """Camera, projectors and poses that fit all views together.

    Attributes
    ----------
    camera : PinholeCamera or AffineCamera
    projectors : tuple of Projector
        In ascending direction.
    names, ids : per view its name and its corners' numbers (n,)
        Views that were left out whole are still there, with nothing kept.
    rotations, translations_mm : (P, 3, 3), (P, 3)
        Board → camera: X_camera = R X_board + t; NaN where nothing of a view is kept.
    residuals_px : per view (1 + D, n, 2)
        Seen minus predicted, camera first, then the projectors; NaN where not seen.
    held_out_px : per view (1 + D, n, 2)
        The same, of fits in which the view took no part.
    kept : per view (1 + D, n) bool
    rms_px, held_out_rms_px : dict
        Root mean square length of the residuals kept, by "camera", "projector 1" …, and "all".
    sigma_px : dict
        Noise of one coordinate of each device as found; of projectors after the camera's own error is taken out.
    shared_error : dict
        By projector: share ρ of the camera's corner error that its coordinates carry (0 none, 1 all of it).
    standard_errors : dict
        By device: fx, fy, cx, cy, k1 …, and for projectors rotation_deg and position_mm (3 values each).
    kept_share : dict
        By device: corners kept of those seen.
    camera_lens, projector_lens : Lens
        The models chosen.
    tried : tuple of (str, float)
        Lens models compared, with their held-out rms in standard deviations.
    rejected, warnings : tuple of str
        Sentences.
    fitted : Fitted
        For :func:`rakelight.calibration.depth_uncertainty.depth_uncertainty`.
    """

    camera: Camera
    projectors: tuple[Projector, ...]
    names: tuple[str, ...]
    ids: tuple[NDArray[np.int64], ...]
    rotations: FloatArray
    translations_mm: FloatArray
    residuals_px: tuple[FloatArray, ...]
    held_out_px: tuple[FloatArray, ...]
    kept: tuple[BoolArray, ...]
    rms_px: dict[str, float]
    held_out_rms_px: dict[str, float]
    sigma_px: dict[str, float]
    shared_error: dict[str, float]
    standard_errors: dict[str, dict[str, float | tuple[float, ...]]]
    kept_share: dict[str, float]
    camera_lens: Lens
    projector_lens: Lens
    tried: tuple[tuple[str, float], ...]
    rejected: tuple[str, ...]
    warnings: tuple[str, ...]
    fitted: Fitted


def solve_rig(
    views: Sequence[View],
    board: Board,
    camera0: Camera,
    poses0: tuple[FloatArray, FloatArray],
    directions: Sequence[int],
    projector_size: tuple[int, int],
    *,
    camera_lens: Lens | None = None,
    projector_lens: Lens | None = None,
    folds: int | None = None,
) -> RigSolution:
    """Refine camera and projectors together.

    Parameters
    ----------
    views : sequence of View
        Corners of each pose, and their projector coordinates.
    camera0, poses0
        A first camera and its boards' poses, rotations (P, 3, 3) and translations (P, 3) in mm, board → camera, in the order of
        ``views``; from :func:`rakelight.calibration.camera_solve.solve_camera`.
    directions : sequence of int
        The projectors.
    projector_size : (int, int)
        Their columns and rows.
    camera_lens, projector_lens : Lens, optional
        Lens parameters to fit; default: chosen by held-out views, one model for all projectors.
    folds : int, optional
        Parts into which views are held out for the figures; default: as many as views (leave one out).

    Raises
    ------
    CalibrationError
        ``calibration.too_few_views``: fewer than 3 poses in which the camera or a projector shows at least 8 corners;
        ``calibration.start``: no first projector can be found.
    InputError
        ``input.views``: poses that do not belong to the views, corners that the board does not have, directions.
    """
    check(views, board, poses0, directions, projector_size, folds)
    problem = pack(views, board, camera0, poses0, directions)
    state = first_state(problem, camera0, poses0, projector_size)
    affine, devices, boards = problem.observed.sights is not None, problem.observed.devices, len(views)
    usual = _FIRST if boards >= FEW_VIEWS else _FIRST_OF_FEW
    first = camera_lens or (Lens((), False, False) if affine else usual[0]), projector_lens or usual[1]

    def free_of(models: tuple[Lens, Lens]) -> csr_array:
        return free_columns(*models, devices, boards, affine)

    settled = settle(plain_lens(state, *first), problem.observed, free_of(first), problem.dropped)
    refuse_scant(settled.dropped, problem.devices)
    left = int((~settled.dropped[0]).sum())
    camera, projector, tried = choose(
        settled.state, problem.observed, settled.weighting, camera_lens, projector_lens, first, min(_FOLDS, left)
    )
    models = camera, projector
    if models != first:
        # Corners are judged anew: under a poor lens model good ones look wrong.
        settled = settle(
            plain_lens(settled.state, *models), problem.observed, free_of(models), settled.dropped, first=False
        )
        refuse_scant(settled.dropped, problem.devices)
    parts = min(folds or left, int((~settled.dropped[0]).sum()))
    out = held_out(settled.state, problem.observed, settled.weighting, free_of(models), parts)[0]
    return _solution(problem, settled, free_of(models), out, camera0, projector_size, models, tried)


def _solution(
    problem: Problem,
    settled: Settled,
    free: csr_array,
    out: FloatArray,
    camera0: Camera,
    projector_size: tuple[int, int],
    models: tuple[Lens, Lens],
    tried: list[tuple[str, float]],
) -> RigSolution:
    observed, state, kept, names = problem.observed, settled.state, settled.kept, problem.devices
    raw = observed.seen - predict(state, observed).seen
    covered = covariance(state, observed, settled.weighting, free)
    rotations = state.rotations[observed.devices - 1 :].copy()
    translations = state.shifts[observed.devices - 1 :] - rotations @ problem.board_middle_mm
    rotations[settled.dropped[0]] = translations[settled.dropped[0]] = np.nan
    rejected, shares = (
        [*problem.rejected, *told_views(problem, settled.dropped), *told_corners(problem, settled, raw)],
        {},
    )
    for device, name in enumerate(names):
        usable = observed.known[device] & ~settled.dropped[device, observed.view]
        shares[name] = float(kept[device].sum() / max(usable.sum(), 1))
    rows = [np.flatnonzero(observed.view == view) for view in range(len(problem.names))]
    rms, held = (_rms(errors, kept, names) for errors in (raw, out))
    return RigSolution(
        camera=_camera(state, camera0, observed),
        projectors=tuple(_projectors(state, observed, problem.directions, projector_size)),
        names=problem.names,
        ids=problem.ids,
        rotations=rotations,
        translations_mm=translations,
        residuals_px=tuple(raw[:, r] for r in rows),
        held_out_px=tuple(out[:, r] for r in rows),
        kept=tuple(kept[:, r] for r in rows),
        rms_px=rms,
        held_out_rms_px=held,
        sigma_px=dict(zip(names, settled.weighting.sigma_px.tolist(), strict=True)),
        shared_error=dict(zip(names[1:], settled.weighting.rho.tolist(), strict=True)),
        standard_errors=_standard_errors(state, observed, free, covered, names),
        kept_share=shares,
        camera_lens=models[0],
        projector_lens=models[1],
        tried=tuple(tried),
        rejected=tuple(rejected),
        warnings=tuple(_warnings(rms, held, shares)),
        fitted=Fitted(state, observed, free, covered, problem.directions),
    )


def _rms(errors: FloatArray, kept: BoolArray, names: Sequence[str]) -> dict[str, float]:
    squares = (errors**2).sum(axis=2)
    kept = kept & np.isfinite(squares)
    out = {n: float(np.sqrt(squares[d, kept[d]].mean())) for d, n in enumerate(names) if kept[d].any()}
    return {"all": float(np.sqrt(squares[kept].mean()))} | out


def _camera(state: State, camera0: Camera, observed: Observations) -> Camera:
    fx, fy, cx, cy, *distortion = (float(x) for x in state.lens[0])
    size = camera0.width, camera0.height
    if observed.sights is not None:
        return AffineCamera(*size, np.array([[fx], [fy]]) * observed.sights, np.array([cx, cy]))
    k1, k2, p1, p2, k3 = distortion
    return PinholeCamera(*size, fx, fy, cx, cy, (k1, k2, p1, p2, k3))


def _projectors(
    state: State, observed: Observations, directions: Sequence[int], size: tuple[int, int]
) -> list[Projector]:
    out = []
    for device, direction in enumerate(directions):
        fx, fy, cx, cy, k1, k2, p1, p2, k3 = (float(x) for x in state.lens[device + 1])
        rotation = _orthonormal(state.rotations[device])
        shift = state.shifts[device] - rotation @ observed.middle_mm
        out.append(Projector(direction, *size, fx, fy, cx, cy, (k1, k2, p1, p2, k3), rotation, shift))
    return sorted(out, key=lambda p: p.direction)


def _orthonormal(rotation: FloatArray) -> FloatArray:
    """Many products of rotations drift by rounding."""
    u, _, v = np.linalg.svd(rotation)
    return np.asarray(u @ v)


def _standard_errors(
    state: State, observed: Observations, free: csr_array, covered: FloatArray, names: Sequence[str]
) -> dict[str, dict[str, float | tuple[float, ...]]]:
    def part(places: NDArray[np.int64]) -> FloatArray:
        rows = free[places]
        return np.asarray(rows @ covered @ rows.T.toarray())

    out: dict[str, dict[str, float | tuple[float, ...]]] = {}
    for device, name in enumerate(names):
        deviations = np.sqrt(np.maximum(part(lens_columns(device)).diagonal(), 0.0))
        found: dict[str, float | tuple[float, ...]] = dict(zip(_LENS_NAMES, deviations.tolist(), strict=True))
        if device:
            # The centre is m − Rᵀ s, so that a change by exp(w) and δs moves it by −Rᵀ([s]× w + δs) to first order.
            rotation, shift = state.rotations[device - 1], state.shifts[device - 1]
            x, y, z = shift
            turn = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            pose = part(pose_columns(device))
            by_pose = -rotation.T @ np.hstack([turn, np.eye(3)])
            found["rotation_deg"] = tuple(np.degrees(np.sqrt(pose.diagonal()[:3])).tolist())
            found["position_mm"] = tuple(np.sqrt((by_pose @ pose @ by_pose.T).diagonal()).tolist())
        out[name] = found
    return out


def _warnings(rms: dict[str, float], held: dict[str, float], shares: dict[str, float]) -> list[str]:
    out = [
        f"{name}: only {share:.1%} of the corners seen fit; {_FEWEST_KEPT:.0%} or more are usual: look at the residuals"
        for name, share in shares.items()
        if share < _FEWEST_KEPT
    ]
    if held["all"] > _FAR_WORSE * rms["all"]:
        out.append(
            f"held-out poses are off by {held['all']:.3f} px, those fitted by {rms['all']:.3f} px; at most {_FAR_WORSE:g} times "
            "as much is usual: more poses, tilted in more ways, are needed"
        )
    return out
