"""What devices should see of the boards, with analytic derivatives: the arithmetic of the bundle adjustment.

Device 0 is the camera, devices 1 … D the projectors. A lens is nine numbers, fx, fy, cx, cy, k1, k2, p1, p2, k3
(:mod:`rakelight.reconstruction.distortion`); an affine camera uses the first four on coordinates in mm instead of x/z, y/z.
Boards and projectors have poses about points in the middle of the scene, so that a turn is not coupled to a shift::

    X_camera = exp(w) R (X_board − c) + s,      X_projector = exp(w) R (X_camera − m) + s

A change of all this is one vector: 9 (camera), then 15 a projector (lens, w, s), then 6 a board (w, s).

A corner that is found a little wrong in the image moves its projector coordinates too, since they are read from the maps
at that place. ``carried`` says by how much; what the projectors are held against is therefore r_projector − ρ A r_camera
with A the 2×2 derivative of the projector coordinates by the pixel, along the board (generalised least squares: the
camera's residual and this one are independent; ρ = 0 is the usual bundle adjustment).

Source: B. Triggs et al., "Bundle Adjustment – A Modern Synthesis", Vision Algorithms (2000), LNCS 1883, 298-372.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LENS, POSE = 9, 6
_BLOCK = LENS + POSE


@dataclass(frozen=True, eq=False)
class Observations:
    """All corners of all views, one row each.

    Attributes
    ----------
    view : (N,) int
        Number of the view.
    board_mm : (N, 3)
        The corner on the board, from the board's middle.
    seen : (1 + D, N, 2)
        px of the camera and of each projector; NaN where a projector's cannot be told.
    sights : (2, 3) or None
        Of an affine camera: unit rows of its matrix; None for a pinhole.
    middle_mm : (3,)
        m, about which projectors turn; camera frame.
    """

    view: NDArray[np.int64]
    board_mm: FloatArray
    seen: FloatArray
    sights: FloatArray | None
    middle_mm: FloatArray

    @property
    def devices(self) -> int:
        """1 + D."""
        return len(self.seen)

    @property
    def known(self) -> BoolArray:
        """(1 + D, N): what was observed."""
        return np.asarray(np.isfinite(self.seen).all(axis=2))

    def of(self, rows: NDArray[np.generic]) -> Observations:
        """Some of the corners: numbers or a mask of rows."""
        return replace(self, view=self.view[rows], board_mm=self.board_mm[rows], seen=self.seen[:, rows])


@dataclass(frozen=True, eq=False)
class State:
    """Lenses (1 + D, 9); rotations (D + P, 3, 3) and shifts (D + P, 3) of projectors, then boards."""

    lens: FloatArray
    rotations: FloatArray
    shifts: FloatArray

    @property
    def size(self) -> int:
        """Length of a change."""
        return LENS * len(self.lens) + POSE * len(self.rotations)

    def moved(self, change: FloatArray) -> State:
        """The state after a change (see the module)."""
        lens, poses = split(change, len(self.lens))
        turns = Rotation.from_rotvec(poses[:, :3]).as_matrix()
        return State(self.lens + lens, turns @ self.rotations, self.shifts + poses[:, 3:])


@dataclass(frozen=True, eq=False)
class Predicted:
    """Coordinates (1 + D, N, 2) and their derivatives by the lens (1 + D, N, 2, 9), by the device's pose
    (D, N, 2, 6) and by the board's pose (1 + D, N, 2, 6); ``along`` (1 + D, N, 2, 2) by x and y on the board."""

    seen: FloatArray
    by_lens: FloatArray
    by_pose: FloatArray
    by_board: FloatArray
    along: FloatArray


def split(change: FloatArray, devices: int) -> tuple[FloatArray, FloatArray]:
    """A change as (1 + D, 9) of lenses and (D + P, 6) of poses."""
    ends = LENS + _BLOCK * (devices - 1)
    blocks = change[LENS:ends].reshape(devices - 1, _BLOCK)
    lens = np.vstack([change[:LENS], blocks[:, :LENS]])
    return lens, np.vstack([blocks[:, LENS:], change[ends:].reshape(-1, POSE)])


def lens_columns(device: int) -> NDArray[np.int64]:
    """Places of a device's lens in a change."""
    start = 0 if device == 0 else LENS + _BLOCK * (device - 1)
    return np.arange(start, start + LENS)


def pose_columns(device: int) -> NDArray[np.int64]:
    """Places of a projector's pose (``device`` ≥ 1) in a change."""
    return lens_columns(device)[-1] + 1 + np.arange(POSE)


def board_columns(devices: int, view: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Places (..., 6) of boards' poses in a change."""
    return LENS + _BLOCK * (devices - 1) + POSE * np.asarray(view)[..., None] + np.arange(POSE)


def predict(state: State, observed: Observations) -> Predicted:
    """What every device should see of every corner, and the derivatives by a change, where that is zero."""
    devices, corners = observed.devices, len(observed.view)
    seen, by_lens = np.empty((devices, corners, 2)), np.empty((devices, corners, 2, LENS))
    by_board, along = np.empty((devices, corners, 2, POSE)), np.empty((devices, corners, 2, 2))
    by_pose = np.empty((devices - 1, corners, 2, POSE))
    boards = devices - 1 + observed.view
    turned = np.einsum("nij,nj->ni", state.rotations[boards], observed.board_mm)
    xyz = turned + state.shifts[boards]
    by_turn = -_cross(turned)
    for device in range(devices):
        if device == 0:
            seen[0], by_lens[0], by_xyz = see(state.lens[0], xyz, observed.sights)
        else:
            rotation = state.rotations[device - 1]
            around = (xyz - observed.middle_mm) @ rotation.T
            seen[device], by_lens[device], by_own = see(state.lens[device], around + state.shifts[device - 1])
            by_pose[device - 1, ..., :3] = -by_own @ _cross(around)
            by_pose[device - 1, ..., 3:] = by_own
            by_xyz = by_own @ rotation
        by_board[device, ..., :3] = by_xyz @ by_turn
        by_board[device, ..., 3:] = by_xyz
        along[device] = by_xyz @ state.rotations[boards][:, :, :2]
    return Predicted(seen, by_lens, by_pose, by_board, along)


def see(
    lens: FloatArray, xyz: FloatArray, sights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Pixels (N, 2) of points (N, 3) in the device's frame, and derivatives by the lens (N, 2, 9) and the point (N, 2, 3)."""
    if sights is None:
        depth = np.maximum(xyz[:, 2], 1e-6)  # a step of the solver may throw a point behind the device
        x, y = xyz[:, 0] / depth, xyz[:, 1] / depth
        by_xyz = np.zeros((len(xyz), 2, 3))
        by_xyz[:, 0, 0] = by_xyz[:, 1, 1] = 1 / depth
        by_xyz[:, 0, 2], by_xyz[:, 1, 2] = -x / depth, -y / depth
    else:
        x, y = sights @ xyz.T
        by_xyz = np.broadcast_to(sights, (len(xyz), 2, 3))
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = lens
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    mixed = x * y * slope + 2 * p1 * x + 2 * p2 * y
    bent = np.empty((len(x), 2, 2))
    bent[:, 0, 0] = fx * (radial + x * x * slope + 2 * p1 * y + 6 * p2 * x)
    bent[:, 1, 1] = fy * (radial + y * y * slope + 6 * p1 * y + 2 * p2 * x)
    bent[:, 0, 1], bent[:, 1, 0] = fx * mixed, fy * mixed
    zero, one = np.zeros_like(x), np.ones_like(x)
    r4, r6 = r2 * r2, r2 * r2 * r2
    u = [xd, zero, one, zero, fx * x * r2, fx * x * r4, fx * 2 * x * y, fx * (r2 + 2 * x * x), fx * x * r6]
    v = [zero, yd, zero, one, fy * y * r2, fy * y * r4, fy * (r2 + 2 * y * y), fy * 2 * x * y, fy * y * r6]
    by_lens = np.stack([np.stack(u, axis=-1), np.stack(v, axis=-1)], axis=1)
    return np.stack([fx * xd + cx, fy * yd + cy], axis=-1), by_lens, bent @ by_xyz


def carried(predicted: Predicted) -> FloatArray:
    """A (D, N, 2, 2): projector px per camera px along each board."""
    return np.asarray(predicted.along[1:] @ np.linalg.inv(predicted.along[0]))


@dataclass(frozen=True, eq=False)
class Weighting:
    """How residuals count: ``sigma_px`` (1 + D,), ρ (D,), A (D, N, 2, 2), and which are kept, (1 + D, N)."""

    sigma_px: FloatArray
    rho: FloatArray
    carried: FloatArray
    kept: BoolArray


def residuals(predicted: Predicted, observed: Observations, weighting: Weighting) -> FloatArray:
    """Those kept, in standard deviations, as one vector: device by device, corner by corner, u and v."""
    raw = observed.seen - predicted.seen
    own = weighting.rho[:, None, None] * np.einsum("dnij,nj->dni", weighting.carried, raw[0])
    raw[1:] -= own
    return np.concatenate([raw[d, weighting.kept[d]].ravel() / s for d, s in enumerate(weighting.sigma_px)])


def jacobian(predicted: Predicted, observed: Observations, weighting: Weighting, size: int) -> csr_array:
    """Derivative of :func:`residuals` by the change, which is ``size`` long; sparse."""
    devices = observed.devices
    boards = board_columns(devices, observed.view)
    values, columns = [], []
    for device, sigma in enumerate(weighting.sigma_px):
        kept = weighting.kept[device]
        count = int(kept.sum())
        own = [predicted.by_lens[device, kept]]
        places = [np.broadcast_to(lens_columns(device), (count, LENS))]
        by_board = predicted.by_board[device, kept]
        if device:
            share = weighting.rho[device - 1] * weighting.carried[device - 1, kept]
            own += [predicted.by_pose[device - 1, kept], -share @ predicted.by_lens[0, kept]]
            by_board = by_board - share @ predicted.by_board[0, kept]
            places += [np.broadcast_to(c, (count, len(c))) for c in (pose_columns(device), lens_columns(0))]
        block = np.concatenate([*own, by_board], axis=2) / -sigma
        where = np.concatenate([*places, boards[kept]], axis=1)
        values.append(block.reshape(2 * count, block.shape[2]))
        columns.append(np.repeat(where, 2, axis=0))
    lengths = np.concatenate([np.full(len(v), v.shape[1]) for v in values])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate([v.ravel() for v in values])
    return csr_array((flat, np.concatenate([c.ravel() for c in columns]), ends), shape=(len(lengths), size))


def _cross(vectors: FloatArray) -> FloatArray:
    """(N, 3, 3) matrices of the cross product v × ·."""
    x, y, z = vectors.T
    o = np.zeros_like(x)
    return np.stack([np.stack([o, -z, y], -1), np.stack([z, o, -x], -1), np.stack([-y, x, o], -1)], axis=1)
