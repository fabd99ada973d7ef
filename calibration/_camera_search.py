"""Fits of a camera to boards: a start, robust refinement with rejection of corners, and errors on held-out poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration._pose_fit import (
    BoolArray,
    Fit,
    Problem,
    fit,
    fit_pose,
    parallel,
    pinhole,
    residuals,
)

FloatArray = NDArray[np.float64]
CameraModel = Literal["pinhole", "affine"]

TERMS = ("k1", "k2", "p1", "p2", "k3")
REJECT_SIGMAS = 4.0
_LEAST_SIGMA_PX = 0.002
_RAYLEIGH_MEDIAN = 1.1774  # of the length of a vector whose coordinates have standard deviation 1
_START_PX = 3.0
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Search:
    """What is to be fitted: board points (N, 3) in mm and pixels (N, 2) of every pose; image size in px."""

    xyz: Sequence[FloatArray]
    uv: Sequence[FloatArray]
    size: tuple[int, int]
    model: CameraModel

    def without(self, poses: Sequence[int]) -> Search:
        """The same, some poses left out."""
        keep = [p for p in range(len(self.uv)) if p not in poses]
        return replace(self, xyz=[self.xyz[p] for p in keep], uv=[self.uv[p] for p in keep])

    def problem(self, terms: Sequence[str]) -> Problem:
        """The least-squares problem with these distortion terms free."""
        if self.model == "affine":
            return Problem(parallel, self.xyz, self.uv, np.ones(2, bool))
        return Problem(pinhole, self.xyz, self.uv, np.array([True] * 4 + [term in terms for term in TERMS]))

    def start(self) -> Fit | None:
        """A camera without distortion; None if the poses give none."""
        return _affine_start(self) if self.model == "affine" else _pinhole_start(self)

    def refine(self, terms: Sequence[str], at: Fit) -> tuple[Fit, list[BoolArray]]:
        """The fit with these terms from ``at``, and the corners (N_p,) that it keeps."""
        problem = self.problem(terms)
        lens = at.lens if self.model == "affine" else np.where(problem.active, at.lens, 0.0)
        left = residuals(problem, lens, at.poses)
        for _ in range(3):  # Cauchy, at a scale that follows the fit
            scale = max(2.0 * _sigma(left), 10 * _LEAST_SIGMA_PX)
            at = fit(problem, lens, at.poses, robust_px=scale)
            lens, left = at.lens, residuals(problem, at.lens, at.poses)
        kept = keep(left)
        for _ in range(_ROUNDS):
            at = fit(problem, at.lens, at.poses, kept)
            before, kept = kept, keep(residuals(problem, at.lens, at.poses))
            if all(np.array_equal(a, b) for a, b in zip(before, kept, strict=True)):
                break
        return fit(problem, at.lens, at.poses, kept), kept

    def held_out(self, terms: Sequence[str], at: Fit, kept: Sequence[BoolArray]) -> FloatArray:
        """Squared error (P,) summed over the kept corners of each pose, of a camera found without that pose.

        The pose itself is then fitted, the camera held.
        """
        problem = self.problem(terms)
        lens = at.lens if self.model == "affine" else np.where(problem.active, at.lens, 0.0)
        whole = fit(problem, lens, at.poses, kept)
        count = len(self.uv)
        out = np.zeros(count)
        for p in range(count):
            others = [q for q in range(count) if q != p]
            found = fit(problem.of(others), whole.lens, whole.poses[others], [kept[q] for q in others])
            alone = problem.of([p])
            pose = fit_pose(alone, found.lens, whole.poses[p], kept[p])
            left = residuals(alone, found.lens, pose[None])[0][kept[p]]
            out[p] = float((left**2).sum())
        return out


def keep(left: Sequence[FloatArray]) -> list[BoolArray]:
    """Corners (N_p,) within ``REJECT_SIGMAS`` robust standard deviations of their pose, or of all poses if that is more."""
    overall = _sigma(left)
    return [np.linalg.norm(r, axis=1) <= REJECT_SIGMAS * max(overall, _sigma([r]), _LEAST_SIGMA_PX) for r in left]


def _sigma(left: Sequence[FloatArray]) -> float:
    """Robust standard deviation of a coordinate of the residuals."""
    return float(np.median(np.linalg.norm(np.concatenate(left), axis=1))) / _RAYLEIGH_MEDIAN


def choose(errors: dict[tuple[str, ...], FloatArray]) -> tuple[str, ...]:
    """The smallest of nested models whose held-out error is not significantly above that of the best.

    ``errors``: per model the squared error of each pose (P,). Significant: more than one standard error of the paired
    difference over the poses (Breiman et al. 1984), and more than 1 % of the error.
    """
    best = min(errors, key=lambda terms: errors[terms].sum())
    for terms in sorted(errors, key=len):
        worse = errors[terms] - errors[best]
        spread = float(np.std(worse, ddof=1)) * np.sqrt(len(worse)) if len(worse) > 1 else 0.0
        if worse.sum() <= max(spread, 0.01 * float(errors[best].sum())):
            return terms
    return best


def _pinhole_start(search: Search) -> Fit | None:
    points = [np.ascontiguousarray(x, np.float32) for x in search.xyz]
    inside = [_on_plane(x, y) for x, y in zip(search.xyz, search.uv, strict=True)]
    pixels = [np.ascontiguousarray(y, np.float32) for y in search.uv]
    flags = cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
    try:
        _, matrix, _, turns, shifts = cv2.calibrateCamera(
            [x[k] for x, k in zip(points, inside, strict=True)],
            [y[k] for y, k in zip(pixels, inside, strict=True)],
            search.size,
            None,
            None,
            flags=flags,
        )
    except cv2.error:  # a singular set of homographies: the poses say nothing of the focal length
        return None
    lens = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], 0, 0, 0, 0, 0], np.float64)
    poses = np.array(
        [np.concatenate([np.ravel(r), np.ravel(t)]) for r, t in zip(turns, shifts, strict=True)], np.float64
    )
    if not (np.isfinite(lens).all() and np.isfinite(poses).all()):
        return None
    return Fit(lens, poses, np.zeros((0, 0)), np.inf)


def _on_plane(xyz: FloatArray, uv: FloatArray) -> BoolArray:
    """Corners (N,) that a homography explains; all of them where a strong lens makes them few."""
    _, inside = cv2.findHomography(xyz[:, :2], uv, cv2.RANSAC, _START_PX)
    good = np.ones(len(uv), bool) if inside is None else np.ravel(inside).astype(bool)
    return good if good.mean() > 0.7 else np.ones(len(uv), bool)


def _affine_start(search: Search) -> Fit | None:
    """The larger singular value of each pose's 2×2 map is the scale, their ratio the cosine of the tilt."""
    maps, middles = [], []
    for xyz, uv in zip(search.xyz, search.uv, strict=True):
        good = _on_plane(xyz, uv)
        found = np.linalg.lstsq(np.column_stack([xyz[good, :2], np.ones(good.sum())]), uv[good], rcond=None)[0]
        maps.append(found[:2].T)
        middles.append(found[2])
    scale = float(np.median([np.linalg.svd(m, compute_uv=False)[0] for m in maps]))
    if not np.isfinite(scale) or scale <= 0:
        return None
    poses = []
    for local, middle in zip(maps, middles, strict=True):
        left, singular, right = np.linalg.svd(local / scale)
        cosine = min(float(singular[1] / singular[0]), 1.0)
        flat = left @ np.diag([1.0, cosine]) @ right
        columns = np.vstack([flat, np.sqrt(max(0.0, 1 - cosine**2)) * right[1]])  # x and y of the board, camera frame
        rotation = np.column_stack([columns, np.cross(columns[:, 0], columns[:, 1])])
        poses.append(np.concatenate([np.ravel(cv2.Rodrigues(rotation)[0]), middle]))
    return Fit(np.array([scale, scale]), np.array(poses), np.zeros((0, 0)), np.inf)
