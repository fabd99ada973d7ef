"""The camera from views of a flat board (Zhang 2000), with what a metrologist asks: which corners, which terms, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration import _view_checks as checks
from rakelight.calibration._camera_search import REJECT_SIGMAS, TERMS, CameraModel, Search, choose
from rakelight.calibration._pose_fit import BoolArray, Fit, residuals, standard_errors
from rakelight.calibration.boards import Board
from rakelight.calibration.coverage import coverage, empty_regions
from rakelight.calibration.views import View
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import AffineCamera, Camera, PinholeCamera

FloatArray = NDArray[np.float64]

TERM_SETS: tuple[tuple[str, ...], ...] = ((), ("k1",), ("k1", "k2"), ("k1", "k2", "p1", "p2"), TERMS)
"""Distortion models that compete, each within the next."""
_PINHOLE = ("fx", "fy", "cx", "cy", *TERMS)
_AFFINE = ("x_px_per_mm", "y_px_per_mm")
_BAD_POSE, _BAD_POSE_PX = 5.0, 0.5  # median error of a pose against that of all poses, and at least
_WEAK, _UNDETERMINED = 0.01, 0.05  # relative standard error of the focal length
_PERSPECTIVE_SIGMAS = 3.0
_MANY = 3  # corners of a pose that are named one by one


@dataclass(frozen=True, eq=False)
class CameraSolution:
    """A camera, the board's poses before it, and how well they fit. P counts the poses that were used.

    Attributes
    ----------
    camera : PinholeCamera or AffineCamera
    used : tuple of int
        Which of the given views the P poses are.
    names : tuple of str
        Of the P poses.
    rotations, translations_mm : (P, 3, 3), (P, 3) float64
        Board to camera: X_camera = R · X_board + t. An affine camera can tell neither t_z (0 here) nor which of the two
        tilts that look alike a board has.
    residuals : tuple of (N_p, 2) float64
        Seen minus modelled px, of all corners.
    kept : tuple of (N_p,) bool
        Corners that were used.
    rms_px : float
        Root mean square length of the residuals of the kept corners, as OpenCV counts it.
    pose_rms_px : (P,) float64
        The same of each pose.
    held_out_rms_px : float
        The same for poses whose corners took no part in finding the camera (leave one pose out).
    held_out_by_terms : dict
        ``held_out_rms_px`` of each distortion model that was tried; keys as ``"k1 k2"`` or ``"none"``.
    distortion_terms : tuple of str
    standard_errors : dict
        Of the camera's free numbers, from the Jacobian and the residuals; errors that neighbouring corners share (a board
        that is not flat) are not in them.
    coverage, coverage_map : float, (rows, columns) int64
        Share of the cells of the image with a kept corner, and how many corners each cell has.
    tilts_deg : (P, 2) float64
        To the right, and towards the image's lower edge.
    rejected, warnings : tuple of str
        What was left out, and what to mind, in sentences.
    """

    camera: Camera
    used: tuple[int, ...]
    names: tuple[str, ...]
    rotations: FloatArray
    translations_mm: FloatArray
    residuals: tuple[FloatArray, ...]
    kept: tuple[BoolArray, ...]
    rms_px: float
    pose_rms_px: FloatArray
    held_out_rms_px: float
    held_out_by_terms: dict[str, float]
    distortion_terms: tuple[str, ...]
    standard_errors: dict[str, float]
    coverage: float
    coverage_map: NDArray[np.int64]
    tilts_deg: FloatArray
    rejected: tuple[str, ...]
    warnings: tuple[str, ...]


def solve_camera(
    views: Sequence[View],
    board: Board,
    size: tuple[int, int],
    *,
    model: CameraModel = "pinhole",
    distortion: Sequence[str] | None = None,
) -> CameraSolution:
    """Calibrate a camera from views of one board.

    OpenCV's ``calibrateCamera`` gives the start (singular values of the local maps for the affine model); then follow a
    robust fit (Cauchy) and plain least squares without the corners that are beyond 4 robust standard deviations. The
    distortion is the smallest of ``TERM_SETS`` whose error on held-out poses is not significantly above the best one's.
    Blurred and repeated poses are left out and named.

    No image of a board tells its scale: a wrong ``square_mm`` makes everything larger or smaller by that factor, unseen.

    Parameters
    ----------
    size : (int, int)
        Width and height of the image in px.
    distortion : sequence of {"k1", "k2", "p1", "p2", "k3"}, optional
        The terms, instead of choosing them; () for none.

    Raises
    ------
    CalibrationError
        ``calibration.too_few_poses``, ``calibration.poses_degenerate`` (says which tilt is missing),
        ``calibration.size_mismatch``, ``calibration.board_mismatch``.
    InputError
        An unknown model or term.
    """
    candidates = _candidates(model, distortion)
    checks.check_fit(views, board, size)
    used, rejected = checks.usable(views)
    warnings = checks.check_count(len(used), rejected)
    search = Search([board.corners_mm[views[k].ids] for k in used], [views[k].uv for k in used], size, model)
    at, kept = _begin(search, candidates[min(1, len(candidates) - 1)])
    bad = _bad_poses(search, at)
    if bad and len(used) - len(bad) >= checks.MIN_POSES:
        rejected += [
            f"{views[used[p]].name} does not fit the other poses: median error {error:.2f} px; left out"
            for p, error in bad.items()
        ]
        search = search.without(list(bad))
        used = [k for p, k in enumerate(used) if p not in bad]
        at, kept = _begin(search, candidates[min(1, len(candidates) - 1)])
    held_out = {terms: search.held_out(terms, at, kept) for terms in candidates}
    terms = choose(held_out)
    at, kept = search.refine(terms, at)
    names = tuple(views[k].name for k in used)
    ids = [views[k].ids for k in used]
    left = residuals(search.problem(terms), at.lens, at.poses)
    count = sum(int(mask.sum()) for mask in kept)
    squares = np.array([float((r[mask] ** 2).sum()) for r, mask in zip(left, kept, strict=True)])
    errors = _standard_errors(search, terms, at, float(squares.sum()), count)
    rotations = np.array([cv2.Rodrigues(pose[:3])[0] for pose in at.poses])
    tilts = checks.tilts_deg(rotations)
    warnings += _check_determined(search, at, errors, tilts, kept)
    coverage_map = coverage([uv[mask] for uv, mask in zip(search.uv, kept, strict=True)], search.size)
    warnings += _check_coverage(coverage_map)
    per_pose = np.sqrt(squares / np.maximum([mask.sum() for mask in kept], 1))
    warnings += _check_flatness(ids, kept)
    loud = [f"{names[p]} ({per_pose[p]:.2f} px)" for p in np.flatnonzero(per_pose > 3.0 * np.median(per_pose))]
    if loud:
        warnings.append(f"poses with far larger errors than the others: {', '.join(loud)}")
    return CameraSolution(
        camera=_camera(at.lens, size, model),
        used=tuple(used),
        names=names,
        rotations=rotations,
        translations_mm=_translations(at.poses, at.lens, size, model),
        residuals=tuple(left),
        kept=tuple(kept),
        rms_px=float(np.sqrt(squares.sum() / count)),
        pose_rms_px=per_pose,
        held_out_rms_px=float(np.sqrt(search.held_out(terms, at, kept).sum() / count)),
        held_out_by_terms={" ".join(t) or "none": float(np.sqrt(e.sum() / count)) for t, e in held_out.items()},
        distortion_terms=terms,
        standard_errors=errors,
        coverage=float((coverage_map > 0).mean()),
        coverage_map=coverage_map,
        tilts_deg=tilts,
        rejected=(*rejected, *_rejected_corners(names, ids, left, kept)),
        warnings=tuple(warnings),
    )


def _candidates(model: str, distortion: Sequence[str] | None) -> tuple[tuple[str, ...], ...]:
    """The distortion models that compete."""
    if model not in ("pinhole", "affine"):
        raise InputError(f"camera model {model!r}; allowed: pinhole, affine", code="input.camera_model")
    if distortion is None:
        return TERM_SETS if model == "pinhole" else ((),)
    if isinstance(distortion, str) or any(term not in TERMS for term in distortion):
        raise InputError(f"distortion terms {distortion!r}; allowed: {', '.join(TERMS)}", code="input.distortion")
    if model == "affine" and distortion:
        raise InputError(
            f"distortion terms {', '.join(distortion)} of an affine camera, which has none; leave them out",
            code="input.distortion",
        )
    return (tuple(term for term in TERMS if term in distortion),)


def _begin(search: Search, terms: Sequence[str]) -> tuple[Fit, list[BoolArray]]:
    start = search.start()
    if start is not None:
        return search.refine(terms, start)
    seen = _foreshortening(search)
    raise checks.degenerate(seen, checks.missing_by_foreshortening(seen), "no focal length follows from them")


def _foreshortening(search: Search) -> FloatArray:
    return np.array([checks.foreshortening_deg(x, y) for x, y in zip(search.xyz, search.uv, strict=True)])


def _bad_poses(search: Search, at: Fit) -> dict[int, float]:
    """Poses whose corners lie elsewhere altogether, and their median error in px."""
    problem = search.problem(TERMS)
    medians = [float(np.median(np.linalg.norm(r, axis=1))) for r in residuals(problem, at.lens, at.poses)]
    limit = max(_BAD_POSE * float(np.median(medians)), _BAD_POSE_PX)
    return {p: median for p, median in enumerate(medians) if median > limit}


def _standard_errors(search: Search, terms: Sequence[str], at: Fit, squared: float, count: int) -> dict[str, float]:
    """σ² = Σr²/(2N − unknowns) times the inverse of the reduced normal matrix."""
    active = search.problem(terms).active
    freedom = 2 * count - int(active.sum()) - at.poses.size
    if freedom <= 0:
        raise CalibrationError(
            f"{count} corners for {active.sum() + at.poses.size} unknowns; more corners or poses are needed",
            hint="record more poses of the board",
            code="calibration.too_few_poses",
        )
    names = _PINHOLE if search.model == "pinhole" else _AFFINE
    values = standard_errors(at.reduced, float(np.sqrt(squared / freedom)))
    free = [name for name, is_free in zip(names, active, strict=True) if is_free]
    return {name: float(value) for name, value in zip(free, values, strict=True)}


def _check_determined(
    search: Search, at: Fit, errors: dict[str, float], tilts: FloatArray, kept: Sequence[BoolArray]
) -> list[str]:
    """Warnings about poses and perspective; raises ``calibration.poses_degenerate``."""
    seen = _foreshortening(search)
    missing = checks.missing_by_foreshortening(seen)
    scale = at.lens[:2]
    relative = max(errors[name] / value for name, value in zip(list(errors)[:2], scale, strict=True))
    if search.model == "affine":
        if relative > _UNDETERMINED:
            raise checks.degenerate(seen, missing, f"relative standard error of the scale {relative:.1%}")
        return [
            "an affine camera cannot tell which of two mirrored tilts a board has, nor its distance: projectors can"
        ]
    if _perspective_sigmas(search, at, kept) < _PERSPECTIVE_SIGMAS:
        return [
            f"no perspective is to be seen: the focal length is undetermined (standard error {relative:.0%}); if the lens is "
            "telecentric, calibrate with the affine model"
        ]
    flat = len(missing) == len(checks.DIRECTIONS)
    if flat or (missing and relative > _UNDETERMINED):
        why = f"relative standard error of the focal length {relative:.1%}"
        raise checks.degenerate(seen, missing, why)
    out = []
    lacking = checks.missing_tilts(tilts)
    if lacking:
        out.append(f"{checks.advice(lacking)}: no pose has {checks.MIN_TILT_DEG:g}° or more there")
    if relative > _WEAK:
        out.append(
            f"the focal length is weakly determined: relative standard error {relative:.1%}, and heights have it too; "
            "more poses with tilts of 15–25°, at several heights, or the projectors in a joint fit, settle it"
        )
    return out


def _perspective_sigmas(search: Search, at: Fit, kept: Sequence[BoolArray]) -> float:
    """How many times its standard deviation the perspective exceeds none: from the error of an affine camera.

    Without perspective an affine camera fits as well as a pinhole without distortion does, but for the numbers that the
    latter has more (χ² over their count is 1 ± √(2/count)).
    """
    flat = Search(search.xyz, search.uv, search.size, "affine")
    start = flat.start()
    if start is None:
        return float("inf")
    from_affine = flat.refine((), start)[0]
    left = residuals(flat.problem(()), from_affine.lens, from_affine.poses)
    affine = sum(float((r[mask] ** 2).sum()) for r, mask in zip(left, kept, strict=True))
    pin, _ = search.refine((), at)
    left = residuals(search.problem(()), pin.lens, pin.poses)
    full = sum(float((r[mask] ** 2).sum()) for r, mask in zip(left, kept, strict=True))
    more = 2 + len(search.uv)
    freedom = 2 * sum(int(mask.sum()) for mask in kept) - 4 - 6 * len(search.uv)
    ratio = (affine - full) / more / max(full / max(freedom, 1), 1e-12)
    return float((ratio - 1.0) / np.sqrt(2.0 / more))


def _camera(lens: FloatArray, size: tuple[int, int], model: CameraModel) -> Camera:
    width, height = int(size[0]), int(size[1])
    if model == "affine":
        matrix = np.array([[lens[0], 0.0, 0.0], [0.0, lens[1], 0.0]])
        return AffineCamera(width, height, matrix, np.array([(width - 1) / 2, (height - 1) / 2]))
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = (float(v) for v in lens)
    return PinholeCamera(width, height, fx, fy, cx, cy, (k1, k2, p1, p2, k3))


def _translations(poses: FloatArray, lens: FloatArray, size: tuple[int, int], model: CameraModel) -> FloatArray:
    if model == "pinhole":
        return poses[:, 3:].copy()
    middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    return np.column_stack([(poses[:, 3:] - middle) / lens, np.zeros(len(poses))])


def _check_coverage(coverage_map: NDArray[np.int64]) -> list[str]:
    """Names the ninths of the image without a corner."""
    empty = empty_regions(coverage_map)
    if not empty:
        return []
    return [
        f"no corner in the {', '.join(empty)} of the image: the distortion there is extrapolated; place the board there"
    ]


def _check_flatness(ids: Sequence[NDArray[np.int64]], kept: Sequence[BoolArray]) -> list[str]:
    """Corners that are wrong wherever they are seen: it is the board then, not its pictures."""
    numbers = np.concatenate(ids)
    seen = np.bincount(numbers)
    wrong = np.bincount(numbers[~np.concatenate(kept)], minlength=len(seen))
    off = np.flatnonzero((seen >= checks.MIN_POSES) & (wrong > 0.5 * seen))
    if len(off) == 0:
        return []
    listed = ", ".join(str(k) for k in off)
    return [
        f"corners {listed} do not fit in most poses: the board is bent or its print is wrong there; use a flat, stiff one"
    ]


def _rejected_corners(
    names: Sequence[str], ids: Sequence[NDArray[np.int64]], left: Sequence[FloatArray], kept: Sequence[BoolArray]
) -> list[str]:
    out = []
    for name, numbers, residual, mask in zip(names, ids, left, kept, strict=True):
        away = np.linalg.norm(residual, axis=1)
        wrong = np.flatnonzero(~mask)[np.argsort(-away[~mask])]
        if len(wrong) == 0:
            continue
        shown = ", ".join(f"corner {numbers[k]} ({away[k]:.2g} px off)" for k in wrong[:_MANY])
        more = f" and {len(wrong) - _MANY} more of {len(numbers)}" if len(wrong) > _MANY else ""
        out.append(f"{name}: {shown}{more} beyond {REJECT_SIGMAS:g} robust standard deviations; left out")
    return out
