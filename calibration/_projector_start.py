"""First values of a projector: Zhang's calibration of it as an inverse camera, then the pose that suits most views."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration._bundle_model import LENS, FloatArray

_PLAIN = cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3


def start_projector(
    boards: list[FloatArray],
    pixels: list[FloatArray],
    camera_poses: list[tuple[FloatArray, FloatArray]],
    size: tuple[int, int],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Lens (9,) without distortion, rotation (3, 3) and translation (3,) in mm from camera to projector.

    Parameters
    ----------
    boards, pixels : lists of (n, 3) mm and (n, 2) px
        Corners of each view on the board and on the projector.
    camera_poses : list of ((3, 3), (3,))
        Board → camera of each view.
    size : (int, int)
        Columns and rows of the projector.
    """
    lens, turns, shifts = inverse_camera(boards, pixels, size)
    inside = [b @ r.T + t for b, (r, t) in zip(boards, camera_poses, strict=True)]
    best, found = np.inf, (np.eye(3), np.zeros(3))
    for (rotation, translation), turn, shift in zip(camera_poses, turns, shifts, strict=True):
        turned = turn @ rotation.T
        moved = shift - turned @ translation
        errors = []
        for xyz, p in zip(inside, pixels, strict=True):
            own = xyz @ turned.T + moved
            with np.errstate(all="ignore"):
                errors.append(np.linalg.norm(own[:, :2] / own[:, 2:] * lens[:2] + lens[2:4] - p, axis=1))
        misfit = float(np.nanmedian(np.concatenate(errors)))
        if misfit < best:
            best, found = misfit, (turned, moved)
    return lens, *found


def inverse_camera(
    boards: list[FloatArray], pixels: list[FloatArray], size: tuple[int, int]
) -> tuple[FloatArray, list[FloatArray], list[FloatArray]]:
    """Lens (9,) of a projector and the boards before it, rotations (3, 3) and translations (3,): Zhang, no distortion."""
    points = [np.asarray(b, np.float32) for b in boards]
    seen = [np.asarray(p, np.float32)[:, None] for p in pixels]
    matrix, turns, shifts = _zhang(points, seen, size, _PLAIN)
    # Off-axis lenses have their middle beyond an edge, but a middle a whole picture away is noise of too few tilts.
    away = np.abs(matrix[:2, 2] - (np.array(size) - 1) / 2) / np.array(size)
    if not (np.isfinite(matrix).all() and away.max() < 1.0):
        matrix, turns, shifts = _zhang(points, seen, size, _PLAIN | cv2.CALIB_FIX_PRINCIPAL_POINT)
    lens = np.zeros(LENS)
    lens[:4] = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    return lens, [np.asarray(cv2.Rodrigues(t)[0]) for t in turns], [np.ravel(s) for s in shifts]


def boards_before_affine(
    boards: list[FloatArray],
    pixels: list[FloatArray],
    seen: list[FloatArray],
    camera_poses: list[tuple[FloatArray, FloatArray]],
    matrix: FloatArray,
    size: tuple[int, int],
) -> list[tuple[FloatArray, FloatArray]]:
    """Poses of boards before an affine camera that belong together, since it can tell neither depth nor the sign of a tilt.

    The projector can. Each view in turn, with either tilt, says how projector and camera stand to each other; the boards as the
    projector has them are then laid before the camera. What fits the camera's pixels ``seen`` best counts.

    Parameters
    ----------
    matrix : (2, 3)
        Of the camera, px per mm.
    """
    _, turns, shifts = inverse_camera(boards, pixels, size)
    sight = np.cross(matrix[0], matrix[1])
    sight /= np.linalg.norm(sight)
    mirror = np.eye(3) - 2 * np.outer(sight, sight)
    best, found = np.inf, camera_poses
    for view, (rotation, translation) in enumerate(camera_poses):
        flipped = mirror @ rotation
        flipped[:, 2] *= -1  # a rotation again; in the picture x and y of the board are as before
        for own in (rotation, flipped):
            back = own @ turns[view].T  # projector to camera
            laid = [(back @ r, back @ (t - shifts[view]) + translation) for r, t in zip(turns, shifts, strict=True)]
            flat = [(board @ r.T) @ matrix.T for board, (r, _) in zip(boards, laid, strict=True)]
            errors = [(p - p.mean(axis=0)) - (uv - uv.mean(axis=0)) for p, uv in zip(flat, seen, strict=True)]
            misfit = float(np.median(np.linalg.norm(np.concatenate(errors), axis=1)))
            if misfit < best:
                best, found = misfit, laid
    return found


def _zhang(
    points: list[NDArray[np.float32]], seen: list[NDArray[np.float32]], size: tuple[int, int], flags: int
) -> tuple[FloatArray, list[FloatArray], list[FloatArray]]:
    _, matrix, _, turns, shifts = cv2.calibrateCamera(points, seen, size, None, None, flags=flags)
    return np.asarray(matrix), list(turns), list(shifts)
