"""What board poses a calibration still needs, and whether the one in front of the camera is worth taking.

Arrays and views in, sentences out: nothing here knows a device, a file or a terminal. Tilts are as
:mod:`rakelight.calibration._view_checks` counts them: to the right means that the board's right edge is farther from the
camera, towards you that the edge at the image's lower border is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.calibration.coverage import coverage, empty_regions
from rakelight.calibration.views import View

FloatArray = NDArray[np.float64]
Size = tuple[int, int]

POSES = 12
TILT_DEG, STEEP_DEG = 10.0, 40.0  # asked for; beyond which squares are too narrow to be found well
HEIGHT_SPREAD = 0.02  # largest over smallest scale of the board in the image, less 1
SIDES = (("right", 0, 1), ("left", 0, -1), ("towards you", 1, 1), ("away from you", 1, -1))
MIN_CORNERS, MIN_SHARE = 8, 0.3
BLUR_PX, BLUR_RATIO, BLUR_ABOVE_PX = 2.5, 1.8, 0.4  # at most; against the median of the other poses, and above it
SATURATED, DARK = 0.005, 0.15  # share of the board's pixels; share of full scale that its white must reach
SAME_SHARE, SAME_TILT_DEG = (
    0.01,
    5.0,
)  # of the image's width: nearer corners, tilted alike, are a pose that was there before
_LEAST_PERSPECTIVE = 0.01  # relative change of the distance over the image below which no side can be told


@dataclass(frozen=True, eq=False)
class Pose:
    """How a board lies, from one picture alone, without any knowledge of the camera.

    Attributes
    ----------
    view : View
    tilt_deg : (2,) float64
        To the right, and towards the image's lower edge.
    sided : bool
        False where the perspective is too weak to tell which of two opposite sides is the farther one (a telecentric lens).
    scale_px_mm : float
        Of the board in the image across its tilt: larger is nearer.
    """

    view: View
    tilt_deg: FloatArray
    sided: bool
    scale_px_mm: float


def pose_of(view: View, board: Board) -> Pose:
    """Tilt and scale of a view.

    The ratio of the singular values of the local map of the homography is the cosine of the tilt; the direction in which the
    distance grows is that of the gradient of the homography's denominator.
    """
    xy = board.corners_mm[view.ids, :2]
    matrix, _ = cv2.findHomography(xy, view.uv, cv2.LMEDS)
    if matrix is None:
        return Pose(view, np.zeros(2), False, 0.0)
    x, y, w = matrix @ np.append(xy.mean(axis=0), 1.0)
    local = (matrix[:2, :2] * w - np.outer([x, y], matrix[2, :2])) / w**2
    u, singular, _ = np.linalg.svd(local)
    farther = np.linalg.solve(local.T, matrix[2, :2] / w)  # relative growth of the distance a pixel
    tilt = np.degrees(np.arccos(min(1.0, singular[1] / singular[0]))) * u[:, 1]
    reach = float(np.ptp(view.uv @ farther))
    return Pose(view, tilt if farther @ tilt >= 0 else -tilt, reach > _LEAST_PERSPECTIVE, float(singular[0]))


@dataclass(frozen=True)
class Needs:
    """What is still missing: number of poses, sides to tilt to, regions of the image, other heights; all empty when done."""

    poses: int
    tilts: tuple[str, ...]
    regions: tuple[str, ...]
    height: bool

    @property
    def met(self) -> bool:
        """Whether enough was seen."""
        return not (self.poses or self.tilts or self.regions or self.height)

    @property
    def advice(self) -> str:
        """The next thing to do, in one sentence; empty when nothing is missing."""
        if self.tilts:
            side = self.tilts[0]
            return f"tilt the board by 15–25° {'to the ' if side in ('right', 'left') else ''}{side}"
        if self.regions:
            return f"move the board to the {self.regions[0]} of the image"
        if self.height:
            return "hold the board higher, or lower"
        return "turn and tilt the board in another way" if self.poses else ""

    @property
    def sentence(self) -> str:
        """All that is missing."""
        parts = [f"{self.poses} more poses" if self.poses > 1 else "1 more pose"] if self.poses else []
        parts += [f"tilt {', '.join(self.tilts)}"] if self.tilts else []
        parts += [f"corners {', '.join(self.regions)}"] if self.regions else []
        parts += ["another height"] if self.height else []
        return f"still needed: {'; '.join(parts)}" if parts else "all poses that are needed are there"


def needs(poses: Sequence[Pose], size: Size) -> Needs:
    """What the poses seen so far leave to be wished; ``size`` is width and height of the image in px."""
    tilts = [name for name, axis, sign in SIDES if not any(_tilted(pose, axis, sign) for pose in poses)]
    scales = [pose.scale_px_mm for pose in poses if pose.scale_px_mm > 0]
    spread = max(scales) / min(scales) - 1 if scales else 0.0
    seen = coverage([pose.view.uv for pose in poses], size)
    return Needs(max(0, POSES - len(poses)), tuple(tilts), empty_regions(seen), spread < HEIGHT_SPREAD)


def _tilted(pose: Pose, axis: int, sign: int) -> bool:
    value = float(pose.tilt_deg[axis])
    return (sign * value if pose.sided else abs(value)) >= TILT_DEG


# ------------------------------------------------------------------------------------------------------------ one picture
@dataclass(frozen=True)
class Line:
    """One sentence about a picture; ``ok`` False is a reason not to take it, None only tells."""

    text: str
    ok: bool | None = None


@dataclass(frozen=True)
class Feedback:
    """What is to be said of one live picture.

    ``status`` fits one line of a terminal; ``reason`` is the first thing that speaks against taking it, empty if none.
    """

    lines: tuple[Line, ...]
    status: str

    @property
    def ok(self) -> bool:
        """Good to take."""
        return all(line.ok is not False for line in self.lines)

    @property
    def reason(self) -> str:
        """Why not, empty if it is good."""
        return next((line.text for line in self.lines if line.ok is False), "")

    @property
    def verdict(self) -> str:
        """One sentence."""
        return "good to take" if self.ok else f"not yet, because {self.reason}"


@dataclass(frozen=True)
class Light:
    """Of the board in a picture, or of the whole picture: how bright its bright parts are, and how much is saturated.

    ``bright`` is the 99th percentile and ``saturated`` the share of pixels above 98 %, both of full scale.
    """

    bright: float
    saturated: float


def light_of(image: NDArray[np.float32], full_scale: float, outline: FloatArray | None = None) -> Light:
    """Of a grey picture (H, W) in DN; ``outline`` (N, 2) px: within its convex hull."""
    if outline is None:
        inside = image.ravel()
    else:
        mask = np.zeros(image.shape, np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(outline).astype(np.int32)), 1)
        inside = image[mask > 0]
    share = inside / np.float32(full_scale)
    return Light(float(np.percentile(share, 99)), float((share >= 0.98).mean()))


def exposure_line(light: Light, what: str) -> Line:
    """Whether the exposure is right."""
    if light.saturated > SATURATED:
        return Line(f"{light.saturated:.1%} of {what} is saturated: less light, or move reflections away", False)
    if light.bright < DARK:
        return Line(f"{what} is too dark: its white reaches {light.bright:.0%} of full scale, {DARK:.0%} needed", False)
    return Line(f"exposure: {what}'s white at {light.bright:.0%} of full scale", True)


def judge(
    pose: Pose | None,
    why: str,
    light: Light,
    earlier: Sequence[Pose],
    board: Board,
    size: Size,
) -> Feedback:
    """Everything worth saying about a board in one live picture.

    Parameters
    ----------
    pose : Pose or None
        None: no board was found, ``why`` says what was seen instead.
    light : Light
        Of the board, or of the whole picture where none was found.
    earlier : sequence of Pose
        What was taken so far.
    """
    missing = needs(earlier, size)
    if pose is None:
        found = Line(f"the board is not found ({why})", False)
        return Feedback((found, exposure_line(light, "the picture"), Line(missing.sentence)), "no board found")
    view, count = pose.view, len(board.corners_mm)
    enough = len(view.ids) >= max(MIN_CORNERS, MIN_SHARE * count)
    few = "" if enough else f", {max(MIN_CORNERS, round(MIN_SHARE * count))} or more are needed"
    lines = [
        Line(f"{len(view.ids)} of {count} corners found{few}", enough),
        _tilt_line(pose),
        _sharpness_line(view, [p.view for p in earlier]),
        exposure_line(light, "the board"),
        _repeat_line(pose, earlier, size),
        _coverage_line(pose, earlier, size),
        _height_line(pose, earlier),
        Line(missing.sentence),
    ]
    told = [line for line in lines if line.text]
    sharp = "" if view.sharpness_px is None else f" · {view.sharpness_px:.2f} px sharp"
    head = f"{len(view.ids)}/{count} corners · {tilt_words(pose)}{sharp} · white {light.bright:.0%}"
    return Feedback(tuple(told), head)


def tilt_words(pose: Pose) -> str:
    """``14° right, 5° away from you``."""
    if not pose.sided and np.hypot(*pose.tilt_deg) >= TILT_DEG / 2:
        side, up = np.abs(pose.tilt_deg)
        return f"{side:.0f}° to a side, {up:.0f}° up or down"
    parts = [
        f"{sign * pose.tilt_deg[axis]:.0f}° {name}" for name, axis, sign in SIDES if sign * pose.tilt_deg[axis] >= 2
    ]
    return ", ".join(parts) or "level"


def _tilt_line(pose: Pose) -> Line:
    steep = float(np.hypot(*pose.tilt_deg))
    if steep > STEEP_DEG:
        return Line(f"the board is tilted by {steep:.0f}°, more than {STEEP_DEG:.0f}°: tilt it less", False)
    return Line(f"tilt: {tilt_words(pose)}", None)


def _sharpness_line(view: View, earlier: Sequence[View]) -> Line:
    width = view.sharpness_px
    if width is None:
        return Line("")
    known = [v.sharpness_px for v in earlier if v.sharpness_px is not None]
    usual = float(np.median(known)) if known else None
    limit = BLUR_PX if usual is None else min(BLUR_PX, max(BLUR_RATIO * usual, usual + BLUR_ABOVE_PX))
    if width > limit:
        told = f", those of the other poses {usual:.2f} px" if usual is not None else ""
        return Line(
            f"the picture is blurred: edges are {width:.2f} px wide (sigma), {limit:.2f} px allowed{told}; hold it still, "
            "or focus",
            False,
        )
    return Line(f"sharp: edges {width:.2f} px wide (sigma)", True)


def _repeat_line(pose: Pose, earlier: Sequence[Pose], size: Size) -> Line:
    alike = [p for p in earlier if float(np.abs(p.tilt_deg - pose.tilt_deg).max()) < SAME_TILT_DEG]
    near = [(apart_px(pose.view, other.view), other.view.name) for other in alike]
    apart, name = min(near, default=(np.inf, ""))
    if apart < SAME_SHARE * size[0]:
        return Line(f"this is the pose of {name} again ({apart:.1f} px apart): turn or tilt the board", False)
    return Line("")


def apart_px(a: View, b: View) -> float:
    """Median distance in px of the corners that two views share; infinite where these are fewer than four."""
    _, i, j = np.intersect1d(a.ids, b.ids, return_indices=True)
    return float(np.median(np.linalg.norm(a.uv[i] - b.uv[j], axis=1))) if len(i) >= 4 else float("inf")


def _coverage_line(pose: Pose, earlier: Sequence[Pose], size: Size) -> Line:
    seen = coverage([p.view.uv for p in (*earlier, pose)], size)
    share, empty = float((seen > 0).mean()), empty_regions(seen)
    left = f"; no corner yet in the {', '.join(empty)}" if empty else ""
    return Line(f"with this pose corners cover {share:.0%} of the image{left}")


def _height_line(pose: Pose, earlier: Sequence[Pose]) -> Line:
    scales = [p.scale_px_mm for p in (*earlier, pose) if p.scale_px_mm > 0]
    if len(scales) < 2:
        return Line("")
    return Line(f"distances vary by {max(scales) / min(scales) - 1:.1%} so far ({HEIGHT_SPREAD:.0%} needed)")
