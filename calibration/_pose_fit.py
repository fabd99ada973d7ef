"""Least squares over one camera and many board poses (Levenberg–Marquardt; the poses eliminated by Schur complement)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_MAX_STEPS = 60
_SETTLED = 1e-10  # relative change of the cost


class Lens(Protocol):
    """A camera model: pixels of a board's points for a pose, with derivatives."""

    def __call__(
        self, lens: FloatArray, pose: FloatArray, xyz: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(N, 2) px, (N, 2, K) by the camera's numbers, (N, 2, D) by the pose's."""


def pinhole(lens: FloatArray, pose: FloatArray, xyz: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """fx, fy, cx, cy, k1, k2, p1, p2, k3; pose = rotation vector and translation in mm (OpenCV's model)."""
    matrix = np.array([[lens[0], 0.0, lens[2]], [0.0, lens[1], lens[3]], [0.0, 0.0, 1.0]])
    uv, jacobian = cv2.projectPoints(xyz, pose[:3], pose[3:], matrix, lens[4:])
    derivatives = np.asarray(jacobian).reshape(len(xyz), 2, -1)
    return np.asarray(uv).reshape(-1, 2), derivatives[:, :, 6:15], derivatives[:, :, :6]


def parallel(lens: FloatArray, pose: FloatArray, xyz: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scales in px per mm along u and v; pose = rotation vector and the px that the board's origin is seen at."""
    rotation, by_vector = cv2.Rodrigues(pose[:3])
    flat = xyz @ rotation[:2].T
    turned = np.einsum("kij,nj->nik", np.asarray(by_vector).reshape(3, 3, 3)[:, :2], xyz)
    by_lens = flat[:, :, None] * np.eye(2)
    by_pose = np.concatenate([turned * lens[:, None], np.broadcast_to(np.eye(2), (len(xyz), 2, 2))], axis=2)
    return flat * lens + pose[3:], by_lens, by_pose


@dataclass(frozen=True, eq=False)
class Problem:
    """Board points (N, 3) in mm and their pixels (N, 2) pose by pose; ``active``: which of the camera's numbers are free."""

    model: Lens
    xyz: Sequence[FloatArray]
    uv: Sequence[FloatArray]
    active: BoolArray

    def of(self, poses: Sequence[int]) -> Problem:
        """The same with some of the poses only."""
        return replace(self, xyz=[self.xyz[p] for p in poses], uv=[self.uv[p] for p in poses])


@dataclass(frozen=True, eq=False)
class Fit:
    """Camera numbers (K,), poses (P, D), the reduced normal matrix of the free camera numbers, and the cost."""

    lens: FloatArray
    poses: FloatArray
    reduced: FloatArray
    cost: float


def residuals(problem: Problem, lens: FloatArray, poses: FloatArray) -> list[FloatArray]:
    """Seen minus modelled pixels (N, 2) of every pose."""
    pairs = zip(problem.xyz, problem.uv, poses, strict=True)
    return [uv - problem.model(lens, pose, xyz)[0] for xyz, uv, pose in pairs]


def fit(
    problem: Problem,
    lens: FloatArray,
    poses: FloatArray,
    kept: Sequence[BoolArray] | None = None,
    *,
    robust_px: float = np.inf,
) -> Fit:
    """Minimise Σ ρ(|seen − modelled|²) over the free camera numbers and all poses, from a start.

    ρ is plain, or Cauchy's c²·log(1 + r²/c²) with c = ``robust_px``.
    """
    masks = [np.ones(len(uv), bool) for uv in problem.uv] if kept is None else kept
    at = _normal_equations(problem, lens, poses, masks, robust_px)
    damping = 1e-4
    for _ in range(_MAX_STEPS):
        change = _step(at, damping)
        if change is None:
            damping *= 10.0
        else:
            new_lens = lens.copy()
            new_lens[problem.active] += change[0]
            new_poses = poses + change[1]
            new = _normal_equations(problem, new_lens, new_poses, masks, robust_px)
            if new.cost <= at.cost:
                gain = at.cost - new.cost
                lens, poses, at, damping = new_lens, new_poses, new, max(damping * 0.1, 1e-12)
                if gain <= _SETTLED * at.cost + 1e-20:
                    break
                continue
            damping *= 10.0
        if damping > 1e8:
            break
    return Fit(lens, poses, _reduced(at), at.cost)


def fit_pose(problem: Problem, lens: FloatArray, pose: FloatArray, kept: BoolArray) -> FloatArray:
    """The pose (D,) of the only board of ``problem`` with the camera held fixed."""
    fixed = replace(problem, active=np.zeros(len(lens), bool))
    return fit(fixed, lens, pose[None], [kept]).poses[0]


@dataclass(frozen=True, eq=False)
class _Normal:
    """Blocks of JᵀJ and Jᵀr: camera (K, K), coupling (P, K, D), poses (P, D, D)."""

    cost: float
    camera: FloatArray
    camera_right: FloatArray
    coupling: FloatArray
    poses: FloatArray
    poses_right: FloatArray


def _normal_equations(
    problem: Problem, lens: FloatArray, poses: FloatArray, kept: Sequence[BoolArray], robust_px: float
) -> _Normal:
    free, size = int(problem.active.sum()), poses.shape[1]
    camera, camera_right, cost = np.zeros((free, free)), np.zeros(free), 0.0
    coupling = np.zeros((len(poses), free, size))
    blocks, blocks_right = np.zeros((len(poses), size, size)), np.zeros((len(poses), size))
    for p, (xyz, uv, mask) in enumerate(zip(problem.xyz, problem.uv, kept, strict=True)):
        modelled, by_lens, by_pose = problem.model(lens, poses[p], xyz[mask])
        residual = uv[mask] - modelled
        squared = (residual**2).sum(axis=1)
        if np.isfinite(robust_px):
            cost += float(robust_px**2 * np.log1p(squared / robust_px**2).sum())
            weight = np.sqrt(1.0 / (1.0 + squared / robust_px**2))
        else:
            cost += float(squared.sum())
            weight = np.ones(len(squared))
        a = (by_lens[:, :, problem.active] * weight[:, None, None]).reshape(2 * len(squared), free)
        b = (by_pose * weight[:, None, None]).reshape(2 * len(squared), size)
        r = (residual * weight[:, None]).ravel()
        camera += a.T @ a
        camera_right += a.T @ r
        coupling[p], blocks[p], blocks_right[p] = a.T @ b, b.T @ b, b.T @ r
    return _Normal(cost if np.isfinite(cost) else np.inf, camera, camera_right, coupling, blocks, blocks_right)


def _step(at: _Normal, damping: float) -> tuple[FloatArray, FloatArray] | None:
    """Change of the camera (K,) and of the poses (P, D); None where the damped equations are still singular."""
    diagonal = np.arange(at.poses.shape[1])
    blocks = at.poses.copy()
    blocks[:, diagonal, diagonal] *= 1.0 + damping
    camera = at.camera + damping * np.diag(np.diag(at.camera))
    try:
        through = at.coupling @ np.linalg.inv(blocks)  # (P, K, D)
        reduced = camera - np.einsum("pkd,pld->kl", through, at.coupling)
        right = at.camera_right - np.einsum("pkd,pd->k", through, at.poses_right)
        change = _solve(reduced, right)
        poses = np.linalg.solve(blocks, (at.poses_right - np.einsum("pkd,k->pd", at.coupling, change))[..., None])
    except np.linalg.LinAlgError:
        return None
    found = change, poses[..., 0]
    return found if all(np.isfinite(part).all() for part in found) else None


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solution with unit diagonal: a focal length and a k3 differ by many powers of ten."""
    if not len(right):
        return right
    scale = 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    return np.asarray(scale * np.linalg.solve(matrix * np.outer(scale, scale), right * scale))


def _reduced(at: _Normal) -> FloatArray:
    return np.asarray(at.camera - np.einsum("pkd,pde,ple->kl", at.coupling, np.linalg.pinv(at.poses), at.coupling))


def standard_errors(reduced: FloatArray, sigma_px: float) -> FloatArray:
    """Of the free camera numbers, for an error ``sigma_px`` of every coordinate; infinite where they are undetermined."""
    root = np.sqrt(np.maximum(np.diag(reduced), 1e-300))
    values, vectors = np.linalg.eigh(reduced / np.outer(root, root))
    if values[0] <= 1e-15 * values[-1]:
        return np.full(len(reduced), np.inf)
    return np.asarray(sigma_px * np.sqrt(((vectors**2) / values).sum(axis=1)) / root)
