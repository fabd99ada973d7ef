"""Poses of a board that harm a calibration: repeated, blurred, too few, all tilted alike."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.calibration.views import View
from rakelight.errors import CalibrationError

FloatArray = NDArray[np.float64]

MIN_POSES, GOOD_POSES = 3, 10
MIN_TILT_DEG = 8.0
MIN_CORNERS = 8
_SAME_POSE_PX = 0.5  # a board put down again lies many px away; one recorded twice does not
_BLUR_RATIO, _BLUR_PX = 1.8, 0.4  # of the median width of edges, and above it
DIRECTIONS = (
    ("to the right (its right edge away from the camera)", 0, 1),
    ("to the left (its left edge away from the camera)", 0, -1),
    ("towards you (its lower edge in the image away from the camera)", 1, 1),
    ("away from you (its upper edge in the image away from the camera)", 1, -1),
)


def check_fit(views: Sequence[View], board: Board, size: tuple[int, int]) -> None:
    """Refuse views of other cameras or boards: ``calibration.size_mismatch``, ``calibration.board_mismatch``."""
    sizes = {view.name: view.size for view in views if view.size is not None and tuple(view.size) != tuple(size)}
    if sizes:
        name, found = next(iter(sizes.items()))
        raise _size(f"{len(sizes)} of {len(views)} poses are of other sizes, {name} of {found[0]}×{found[1]} px", size)
    for view in views:
        outside = ((view.uv < -0.5) | (view.uv > np.array(size) - 0.5)).any(axis=1)
        if outside.any():
            u, v = view.uv[outside][0]
            raise _size(f"{view.name} has corners outside the image, one at ({u:.1f}, {v:.1f})", size)
        if len(view.ids) and view.ids.max() >= len(board.corners_mm):
            raise CalibrationError(
                f"{view.name} has corner {view.ids.max()}; {board} has corners 0 to {len(board.corners_mm) - 1}",
                hint="declare the board that was recorded, with its counts of squares",
                code="calibration.board_mismatch",
            )


def _size(found: str, size: tuple[int, int]) -> CalibrationError:
    return CalibrationError(
        f"{found}; the image has {size[0]}×{size[1]} px",
        hint="use recordings of one camera with one region of interest and binning",
        code="calibration.size_mismatch",
    )


def usable(views: Sequence[View]) -> tuple[list[int], list[str]]:
    """Which views to use, and a sentence for each that is left out: too few corners, repeated, blurred."""
    used: list[int] = []
    sentences: list[str] = []
    widths = [view.sharpness_px for view in views if view.sharpness_px is not None]
    usual = float(np.median(widths)) if len(widths) >= MIN_POSES else np.inf
    for k, view in enumerate(views):
        if len(view.ids) < MIN_CORNERS:
            sentences.append(f"{view.name}: {len(view.ids)} corners, at least {MIN_CORNERS} are needed; left out")
            continue
        width = view.sharpness_px
        if width is not None and width > max(_BLUR_RATIO * usual, usual + _BLUR_PX):
            sentences.append(
                f"{view.name} is blurred: its edges are {width:.2f} px wide (sigma), those of the others {usual:.2f} px; "
                "left out"
            )
            continue
        twin = next(((j, away) for j in used if (away := _apart(view, views[j])) < _SAME_POSE_PX), None)
        if twin is not None:
            sentences.append(
                f"{view.name} repeats the pose of {views[twin[0]].name} (corners {twin[1]:.2f} px apart): counted once"
            )
            continue
        used.append(k)
    return used, sentences


def _apart(a: View, b: View) -> float:
    """Median distance in px of the corners that two views share; infinite without any. Wrong corners do not change it."""
    _, i, j = np.intersect1d(a.ids, b.ids, return_indices=True)
    return float(np.median(np.linalg.norm(a.uv[i] - b.uv[j], axis=1))) if len(i) >= 4 else np.inf


def check_count(count: int, sentences: Sequence[str]) -> list[str]:
    """Warnings for few poses; raises ``calibration.too_few_poses`` for less than three."""
    if count < MIN_POSES:
        left_out = f" ({'; '.join(sentences)})" if sentences else ""
        raise CalibrationError(
            f"{count} usable poses of the board{left_out}; at least {MIN_POSES} are needed, {GOOD_POSES} or more are good",
            hint="record the board in more poses: tilted by 15–25° to the right, left, towards and away from you, in all "
            "parts of the image",
            code="calibration.too_few_poses",
        )
    if count < GOOD_POSES:
        return [f"{count} poses: at least {GOOD_POSES} are needed for a calibration to trust, 12 to 20 are usual"]
    return []


def foreshortening_deg(xyz: FloatArray, uv: FloatArray) -> FloatArray:
    """How much a board is tilted to the side and up or down in the image, (2,) without sign, from the image alone.

    The ratio of the singular values of the board's local map is the cosine of the tilt, whatever the focal length.
    """
    matrix, _ = cv2.findHomography(xyz[:, :2], uv, cv2.LMEDS)
    if matrix is None:
        return np.zeros(2)
    x, y, w = matrix @ np.append(xyz[:, :2].mean(axis=0), 1.0)
    local = (matrix[:2, :2] * w - np.outer([x, y], matrix[2, :2])) / w**2
    u, singular, _ = np.linalg.svd(local)
    return np.asarray(np.degrees(np.arccos(min(1.0, singular[1] / singular[0]))) * np.abs(u[:, 1]))


def tilts_deg(rotations: FloatArray) -> FloatArray:
    """Tilts (P, 2) of boards, degrees: positive to the right, and positive towards the image's lower edge."""
    facing = -rotations[:, :, 2]  # z points into the board
    return np.asarray(np.degrees(np.arctan2(facing[:, :2], -facing[:, 2:])))


def missing_tilts(tilts: FloatArray) -> list[str]:
    """Directions in which no board is tilted by ``MIN_TILT_DEG``, in words."""
    return [words for words, axis, sign in DIRECTIONS if (sign * tilts[:, axis]).max(initial=0.0) < MIN_TILT_DEG]


def missing_by_foreshortening(seen: FloatArray) -> list[str]:
    """As :func:`missing_tilts`, of tilts without sign (P, 2): both directions of an axis, or none."""
    least = np.max(seen, axis=0, initial=0.0) >= MIN_TILT_DEG
    return [words for words, axis, _ in DIRECTIONS if not least[axis]]


def advice(missing: Sequence[str]) -> str:
    """What to do about missing tilts."""
    return "tilt the board by 15–25° " + ", then ".join(missing)


def degenerate(seen: FloatArray, missing: Sequence[str], why: str) -> CalibrationError:
    """The error for poses that do not determine a camera; ``seen`` (P, 2) are the tilts by foreshortening."""
    sideways, upright = seen.max(axis=0)
    return CalibrationError(
        f"the poses do not determine the camera: {why}; tilts seen: up to {sideways:.0f}° to right or left and up to "
        f"{upright:.0f}° towards or away from you; needed: 15–25° each way",
        hint=advice(missing) if missing else "record more poses with stronger tilts, at several heights",
        code="calibration.poses_degenerate",
    )
