"""Views as one table of observations for the bundle adjustment, and in words what of them is not used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rakelight.calibration._bundle_fit import Lens, fit, free_columns, weigh
from rakelight.calibration._bundle_model import (
    LENS,
    BoolArray,
    FloatArray,
    Observations,
    State,
    lens_columns,
    pose_columns,
)
from rakelight.calibration._bundle_outliers import Settled, same_views
from rakelight.calibration._projector_start import boards_before_affine, start_projector
from rakelight.calibration.boards import Board
from rakelight.calibration.views import View
from rakelight.errors import CalibrationError, InputError
from rakelight.reconstruction.models import AffineCamera, Camera

LEAST_VIEWS = 3
LEAST_CORNERS = 8
_NAMED = 3  # corners of a view that are named one by one
_FIRST_SIGMA_PX = 0.5


@dataclass(frozen=True, eq=False)
class Problem:
    """The table, and the names of what is in it.

    Attributes
    ----------
    observed : Observations
    board_middle_mm : (3,)
        From which ``observed.board_mm`` counts, board frame.
    dropped : (1 + D, P) bool
        What is not used from the beginning: views twice, too few corners.
    names, ids : of the views
    directions : of the projectors
    devices : tuple of str
        "camera", "projector 1", …
    rejected : tuple of str
        Why views were dropped.
    """

    observed: Observations
    board_middle_mm: FloatArray
    dropped: BoolArray
    names: tuple[str, ...]
    ids: tuple[NDArray[np.int64], ...]
    directions: tuple[int, ...]
    devices: tuple[str, ...]
    rejected: tuple[str, ...]


def check(
    views: Sequence[View],
    board: Board,
    poses0: tuple[FloatArray, FloatArray],
    directions: Sequence[int],
    size: tuple[int, int],
    folds: int | None,
) -> None:
    """Refuse what does not belong together: :class:`InputError`, code ``input.views``."""
    count = len(board.corners_mm)
    shapes = np.shape(poses0[0]), np.shape(poses0[1])
    wrong = ""
    if shapes != ((len(views), 3, 3), (len(views), 3)):
        wrong = f"poses of shapes {shapes[0]} and {shapes[1]} for {len(views)} views; allowed: (P, 3, 3) and (P, 3)"
    elif len(set(directions)) < len(directions) or not all(1 <= d <= 4 for d in directions):
        wrong = f"projector directions {list(directions)}; allowed: 1 to 4, each once"
    elif len({view.name for view in views}) < len(views):
        wrong = f"view names {[view.name for view in views]}; each must occur once"
    elif min(size) < 8:
        wrong = f"projector size {size}; allowed: 8 px or more each way"
    elif folds is not None and folds < 2:
        wrong = f"folds = {folds}; allowed: 2 or more"
    for view in views:
        if len(view.ids) and view.ids.max() >= count:
            wrong = f"{view.name}: corner {view.ids.max()}; the board has corners 0 to {count - 1}"
    if wrong:
        raise InputError(wrong, code="input.views")


def pack(
    views: Sequence[View],
    board: Board,
    camera0: Camera,
    poses0: tuple[FloatArray, FloatArray],
    directions: Sequence[int],
) -> Problem:
    """One table of all corners. Raises ``calibration.too_few_views`` if a device cannot be calibrated from it."""
    corners = board.corners_mm
    middle = corners.mean(axis=0)
    seen = []
    for view in views:
        nowhere = np.full((len(view.ids), 2), np.nan)
        seen.append(np.stack([view.uv, *(view.colrow.get(d, nowhere) for d in directions)]))
    numbers = np.concatenate([np.full(len(v.ids), i, np.int64) for i, v in enumerate(views)] or [np.zeros(0, np.int64)])
    board_mm = np.concatenate([corners[v.ids] for v in views] or [np.zeros((0, 3))]) - middle
    placed = poses0[0] @ middle + poses0[1]
    finite = np.isfinite(placed).all(axis=1) & np.isfinite(poses0[0]).all(axis=(1, 2))
    sights = None
    if isinstance(camera0, AffineCamera):
        sights = camera0.matrix / np.linalg.norm(camera0.matrix, axis=1, keepdims=True)
    scene = placed[finite].mean(axis=0) if finite.any() else np.zeros(3)
    table = np.concatenate(seen, axis=1) if seen else np.zeros((1 + len(directions), 0, 2))
    observed = Observations(numbers, board_mm, table, sights, scene)
    devices = ("camera", *(f"projector {d}" for d in directions))
    dropped = np.zeros((len(devices), len(views)), bool)
    rejected = [
        f"{view.name} is left out: it has no first pose" for view, good in zip(views, finite, strict=True) if not good
    ]
    dropped[:, ~finite] = True
    for later, earlier in same_views([(v.ids, v.uv) for v in views]).items():
        if not dropped[0, later] and not dropped[0, earlier]:
            dropped[:, later] = True
            rejected.append(f"{views[later].name} is left out: it shows the board where {views[earlier].name} does")
    for number, view in enumerate(views):
        for device, name in enumerate(devices):
            count = int(observed.known[device, numbers == number].sum())
            if (
                count < LEAST_CORNERS
                and not dropped[device, number]
                and (not device or directions[device - 1] in view.colrow)
            ):
                rejected.append(f"{view.name} is left out for {name}: {count} corners known, {LEAST_CORNERS} needed")
            if count < LEAST_CORNERS:
                dropped[device if device else slice(None), number] = True
    refuse_scant(dropped, devices)
    return Problem(
        observed,
        middle,
        dropped,
        tuple(v.name for v in views),
        tuple(v.ids for v in views),
        tuple(directions),
        devices,
        tuple(rejected),
    )


def refuse_scant(dropped: BoolArray, devices: Sequence[str]) -> None:
    """Raise ``calibration.too_few_views`` if some device has fewer than 3 views left."""
    for left, name in zip((~dropped).sum(axis=1), devices, strict=True):
        if left < LEAST_VIEWS:
            raise CalibrationError(
                f"{name}: {left} usable views of the board; needed: {LEAST_VIEWS} or more, 12 are good",
                hint="record the board in more poses, tilted to all sides, with the patterns of every projector",
                code="calibration.too_few_views",
            )


def first_state(
    problem: Problem, camera0: Camera, poses0: tuple[FloatArray, FloatArray], size: tuple[int, int]
) -> State:
    """Camera and boards as given, projectors each by itself: Zhang, then a robust fit with boards held.

    Raises ``calibration.start`` if a projector ends where it does not light the board.
    """
    observed, dropped = problem.observed, problem.dropped
    count = observed.devices - 1
    lens = np.zeros((1 + count, LENS))
    if isinstance(camera0, AffineCamera):
        lens[0, :4] = *np.linalg.norm(camera0.matrix, axis=1), *camera0.offset
    else:
        lens[0] = camera0.fx, camera0.fy, camera0.cx, camera0.cy, *camera0.distortion
    usable = ~dropped[0]
    turns = np.where(usable[:, None, None], poses0[0], np.eye(3))
    centres = np.where(usable[:, None], turns @ problem.board_middle_mm + poses0[1], observed.middle_mm)
    if isinstance(camera0, AffineCamera) and count:
        _lay_boards(problem, camera0, turns, centres, size)
    rotations = np.concatenate([np.tile(np.eye(3), (count, 1, 1)), turns])
    shifts = np.concatenate([np.zeros((count, 3)), centres])
    for device in range(1, 1 + count):
        views = np.flatnonzero(~dropped[device])
        rows = [np.flatnonzero((observed.view == v) & observed.known[device]) for v in views]
        lens[device], rotation, shift = start_projector(
            [observed.board_mm[r] for r in rows],
            [observed.seen[device, r] for r in rows],
            [(turns[v], centres[v]) for v in views],
            size,
        )
        rotations[device - 1], shifts[device - 1] = rotation, shift + rotation @ observed.middle_mm
    state = State(lens, rotations, shifts)
    kept = observed.known & ~dropped[:, observed.view]
    free = _projectors_alone(observed, len(usable))
    weighting = weigh(state, observed, kept, np.full(1 + count, _FIRST_SIGMA_PX))
    if count:
        state = fit(state, observed, weighting, free, robust=True, hold_depth=False, tolerance=1e-3)
    for device in range(1, 1 + count):
        if not (np.isfinite(state.lens[device]).all() and state.shifts[device - 1, 2] > 0):
            raise CalibrationError(
                f"{problem.devices[device]}: no first model was found; it would stand {state.shifts[device - 1, 2]:.4g} mm "
                "from the board, above 0 is needed",
                hint="check that columns and rows are not exchanged or reversed, and that poses are tilted to all sides",
                code="calibration.start",
            )
    return state


def _lay_boards(
    problem: Problem, camera0: AffineCamera, turns: FloatArray, centres: FloatArray, size: tuple[int, int]
) -> None:
    """Depths and tilts of the boards as the projector that sees most of them has them; in place."""
    observed, dropped = problem.observed, problem.dropped
    device = 1 + int(np.argmin(dropped[1:].sum(axis=1)))
    views = np.flatnonzero(~dropped[device])
    rows = [np.flatnonzero((observed.view == v) & observed.known[device]) for v in views]
    laid = boards_before_affine(
        [observed.board_mm[r] for r in rows],
        [observed.seen[device, r] for r in rows],
        [observed.seen[0, r] for r in rows],
        [(turns[v], centres[v]) for v in views],
        camera0.matrix,
        size,
    )
    for view, (rotation, centre) in zip(views, laid, strict=True):
        turns[view], centres[view] = rotation, centre


def _projectors_alone(observed: Observations, boards: int) -> csr_array:
    """Free columns for focal lengths, middles and poses of the projectors."""
    free = free_columns(Lens(()), Lens(()), observed.devices, boards, False)
    places = [np.concatenate([lens_columns(d), pose_columns(d)]) for d in range(1, observed.devices)]
    wanted = np.zeros(free.shape[0])
    wanted[np.concatenate([*places, np.zeros(0, np.int64)])] = 1
    return free[:, np.flatnonzero(abs(free).T @ wanted > 0)]


# ----------------------------------------------------------------------------------------------------------------- words
def told_views(problem: Problem, dropped: BoolArray) -> list[str]:
    """A sentence for each view, or direction of one, that the fit dropped."""
    out = []
    for number, name in enumerate(problem.names):
        new = dropped[:, number] & ~problem.dropped[:, number]
        if new[0]:
            out.append(
                f"{name} is left out: camera and projectors do not agree about its board; did it move between the patterns, or is "
                "it blurred?"
            )
        elif new.any():
            which = " and ".join(d for d, n in zip(problem.devices, new, strict=True) if n)
            out.append(
                f"{name}, {which}: left out, it disagrees with the other directions; did the board move meanwhile?"
            )
    return out


def told_corners(problem: Problem, settled: Settled, raw: FloatArray) -> list[str]:
    """A sentence for each device of a view with corners left out, the furthest first named."""
    observed, out = problem.observed, []
    for device, name in enumerate(problem.devices):
        off = observed.known[device] & ~settled.kept[device] & ~settled.dropped[device, observed.view]
        if device:
            off &= settled.kept[0]  # those that the camera already lost are told once
        for view in np.unique(observed.view[off]):
            rows = np.flatnonzero(off & (observed.view == view))
            sizes = np.linalg.norm(raw[device, rows], axis=1)
            numbers = problem.ids[view][rows - int(np.flatnonzero(observed.view == view)[0])]
            order = np.argsort(-sizes)
            corners = ", ".join(f"{numbers[i]} ({sizes[i]:.2f} px)" for i in order[:_NAMED])
            more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
            out.append(f"{problem.names[view]}, {name}: left out corner{'s' * (len(rows) > 1)} {corners}{more}")
    return out
