"""Recordings of targets → a complete RigCalibration: camera and projectors from a board, table plane, lights, flat field.

Order: corners of every pose, and where the projectors see them → camera → camera and projectors together → table plane from
a plate that the new models measure → lights, flat field and dark over that plane (:mod:`rakelight.pipeline.calibrate`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.calibration.bundle import RigSolution, solve_rig
from rakelight.calibration.camera_solve import CameraSolution, solve_camera
from rakelight.calibration.corners import find_corners, grey_of
from rakelight.calibration.projector_corners import projector_corners
from rakelight.calibration.rig_calibration import RigCalibration, utc_now
from rakelight.calibration.views import View
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError, RakelightError
from rakelight.pipeline import surface
from rakelight.pipeline.calibrate import LightReport, calibrate_from_recordings
from rakelight.pipeline.surface_parts import Source, pattern_set_of, slots
from rakelight.pipeline.zone_frames import grey_mean
from rakelight.reconstruction import decoding
from rakelight.reconstruction.models import Plane
from rakelight.reconstruction.patterns import Axis, PatternSet

BOARDS = ("charuco", "chessboard")
_LEAST_PLANE_SHARE = 0.1  # of the picture, measured on the plate

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class RigReport:
    """A rig calibration and how it came about; ``rig`` is None without projectors, ``lights`` without spheres.

    ``plane_rms_mm`` is how flat the plate of the table plane measures, None without one.
    """

    calibration: RigCalibration
    board: Board
    views: tuple[View, ...]
    camera: CameraSolution
    rig: RigSolution | None
    lights: LightReport | None
    plane_rms_mm: float | None
    rejected: tuple[str, ...]


def calibrate_rig(
    recordings: Sequence[Recording],
    calibration_id: str,
    board: Board,
    *,
    plate_mm: float = 0.0,
    rig_id: str | None = None,
    progress: Progress = lambda step: None,
) -> RigReport:
    """Calibrate everything that the recordings show.

    Parameters
    ----------
    recordings
        In any order, told apart by their ``target``: ``charuco`` or ``chessboard`` (one a pose; with patterns of both axes for
        the projectors), ``white_plane`` or ``flat`` with patterns (table plane), and what
        :func:`rakelight.pipeline.calibrate.calibrate_from_recordings` takes.
    plate_mm : float
        Thickness of the plate on the table: the table plane lies that far below its measured surface.

    Raises
    ------
    CalibrationError
        ``calibration.no_board``, ``calibration.mixed_cameras``, and what the solvers find wrong; recordings whose board
        cannot be found are left out and named, unless too few remain.
    """
    poses = [r for r in recordings if r.info.target in BOARDS]
    if not poses:
        raise CalibrationError(
            "no recording shows a board (target charuco or chessboard)",
            hint="print one with `rakelight calibrate target`, record it in 12 poses or more, tilted by 15–25° to all sides",
            code="calibration.no_board",
        )
    _check_one_camera(recordings)
    rejected: list[str] = []
    views = _views(poses, board, rejected, progress)
    progress("camera")
    size = poses[0].info.width, poses[0].info.height
    camera = solve_camera(views, board, size)
    directions = sorted({d for view in views for d in view.colrow})
    rig = None
    if directions:
        progress("camera and projectors")
        used = [views[k] for k in camera.used]
        projector = pattern_set_of(Source.of(next(r for r in poses if r.info.pattern_set is not None)))
        rig = solve_rig(
            used,
            board,
            camera.camera,
            (camera.rotations, camera.translations_mm),
            directions,
            (projector.width, projector.height),
        )
    base = RigCalibration(
        calibration_id,
        utc_now(),
        simulated=any(r.info.simulated for r in recordings),
        camera=rig.camera if rig is not None else camera.camera,
        projectors=rig.projectors if rig is not None else (),
    )
    plane, plane_rms = _table_plane(recordings, base, plate_mm, rejected, progress)
    base = replace(base, table_plane=plane)
    others = [r for r in recordings if r.info.target in ("chrome_sphere", "white_plane", "dark")]
    lights = None
    if any(r.info.target == "chrome_sphere" for r in others):
        lights = calibrate_from_recordings(others, calibration_id, base=base, progress=progress)
    calibration = _assemble(base, recordings, board, camera, rig, lights, plane_rms, rejected)
    return RigReport(calibration, board, tuple(views), camera, rig, lights, plane_rms, tuple(rejected))


# --------------------------------------------------------------------------------------------------------------- views
def _views(poses: Sequence[Recording], board: Board, rejected: list[str], progress: Progress) -> list[View]:
    """Corners of every pose; a pose without a board is named and left out, unless none has one."""
    views: list[View] = []
    first: RakelightError | None = None
    for number, recording in enumerate(poses, 1):
        progress(f"pose {number} of {len(poses)}: {recording.folder.name}")
        try:
            views.append(view_of(recording, board))
        except CalibrationError as error:
            first = first or error
            rejected.append(f"{recording.folder.name}: {error.message}; left out")
    if not views and first is not None:
        raise first
    return views


def view_of(recording: Recording, board: Board) -> View:
    """Corners of the board in one recording, and their projector coordinates in every direction recorded with both axes.

    Raises :class:`CalibrationError` (``calibration.board_not_found``, ``calibration.board_mismatch``).
    """
    corners = find_corners(_board_picture(recording), board)
    colrow: dict[int, NDArray[np.float64]] = {}
    if recording.info.pattern_set is not None:
        source = Source.of(recording)
        pattern_set = pattern_set_of(source)
        if set(pattern_set.axes) == {"column", "row"}:
            for direction, maps in _decoded(recording, source, pattern_set):
                colrow[direction], _ = projector_corners(
                    maps["column"].coordinate,
                    maps["row"].coordinate,
                    corners.uv,
                    sigma_px=(maps["column"].sigma_px, maps["row"].sigma_px),
                )
    size = recording.info.width, recording.info.height
    return View(recording.folder.name, corners.ids, corners.uv, colrow, corners.sharpness_px, size)


def _board_picture(recording: Recording) -> NDArray[np.float32]:
    """The board as evenly lit as there is: all zones, else the mean of the zones, else of the patterns."""
    for role in ("all_zones", "zone", "pattern"):
        frames = list(recording.shots(role))
        if frames:
            total = np.zeros((recording.info.height, recording.info.width), np.float32)
            for frame in frames:
                total += grey_mean(recording, [frame])
            return grey_of(total / np.float32(len(frames)), recording.bayer)
    raise CalibrationError(
        f"{recording.folder} has no lit frame",
        hint="record the board under all zones",
        code="calibration.board_not_found",
    )


def _decoded(recording: Recording, source: Source, pattern_set: PatternSet) -> Any:
    """Direction by direction both axes decoded, the first exposure of a bracket."""
    named, _ = slots(source, pattern_set)
    by_shot = {frame.shot: frame for frame in recording.info.frames}
    for direction in sorted({slot[0] for slot in named.values()}):
        mine = {slot[2]: name for name, slot in named.items() if slot[:2] == (direction, 1)}
        if len(mine) < len(pattern_set.patterns):
            continue
        stack = np.stack([recording.read(by_shot[mine[place]]) for place in range(len(pattern_set.patterns))])
        axes: tuple[Axis, ...] = ("column", "row")
        yield (
            direction,
            {axis: decoding.decode(stack, pattern_set, axis, full_scale=source.full_scale) for axis in axes},
        )


def _check_one_camera(recordings: Sequence[Recording]) -> None:
    first = recordings[0].info
    for recording in recordings[1:]:
        info = recording.info
        here, there = ((i.width, i.height, i.pixel_format, i.sensor) for i in (info, first))
        if here != there:
            raise CalibrationError(
                f"{recording.folder}: frames of {info.width}×{info.height} px {info.pixel_format}; {recordings[0].folder} has "
                f"{first.width}×{first.height} px {first.pixel_format}; one calibration is of one camera setting",
                hint="leave out recordings of other cameras, windows or formats",
                code="calibration.mixed_cameras",
            )


# --------------------------------------------------------------------------------------------------------------- plane
def _table_plane(
    recordings: Sequence[Recording], base: RigCalibration, plate_mm: float, rejected: list[str], progress: Progress
) -> tuple[Plane | None, float | None]:
    """The table from the first plate recorded with patterns; its rms flatness in mm."""
    plates = [r for r in recordings if r.info.target in ("white_plane", "flat") and surface.has_patterns(r)]
    if not plates or not base.projectors:
        return None, None
    progress("table plane")
    measured = surface.measure_surface(plates[0], base)
    known = np.isfinite(measured.merged.z_mm)
    if known.mean() < _LEAST_PLANE_SHARE:
        rejected.append(f"{plates[0].folder.name}: only {known.mean():.0%} of the plate was measured: no table plane")
        return None, None
    points = measured.xyz[known][:: max(1, int(known.sum() // 200_000))].astype(np.float64)
    plane = Plane.from_points(points)
    off = plane.height_mm(points)
    good = np.abs(off - np.median(off)) < 4 * 1.4826 * np.median(np.abs(off - np.median(off))) + 1e-4
    plane = Plane.from_points(points[good])
    flatness = float(np.sqrt((plane.height_mm(points[good]) ** 2).mean()))
    return Plane(plane.normal, plane.offset_mm - plate_mm), flatness


# ------------------------------------------------------------------------------------------------------------ together
def _assemble(
    base: RigCalibration,
    recordings: Sequence[Recording],
    board: Board,
    camera: CameraSolution,
    rig: RigSolution | None,
    lights: LightReport | None,
    plane_rms_mm: float | None,
    rejected: Sequence[str],
) -> RigCalibration:
    found = lights.calibration if lights is not None else base
    quality: dict[str, Any] = {
        "camera_rms_px": round(camera.rms_px, 5),
        "camera_held_out_px": round(camera.held_out_rms_px, 5),
        "poses": len(camera.used),
        "coverage": round(camera.coverage, 4),
    }
    if rig is not None:
        quality |= {
            "joint_rms_px": {name: round(v, 5) for name, v in rig.rms_px.items()},
            "held_out_px": {name: round(v, 5) for name, v in rig.held_out_rms_px.items()},
            "kept_share": {name: round(v, 4) for name, v in rig.kept_share.items()},
        }
    if plane_rms_mm is not None:
        quality["plate_flatness_um"] = round(plane_rms_mm * 1000, 3)
    told = [*rejected, *camera.rejected, *(rig.rejected if rig is not None else ())]
    warnings = [*camera.warnings, *(rig.warnings if rig is not None else ()), *found.warnings, *told]
    listed = [
        {"id": r.info.recording_id, "part_id": r.info.part_id, "target": r.info.target, "sha256": r.info.content_sha256}
        for r in recordings
    ]
    return replace(
        found,
        projectors=base.projectors,
        provenance=found.provenance | {"recordings": listed, "board": board.to_plain()},
        quality=found.quality | quality,
        warnings=tuple(dict.fromkeys(warnings)),
    )
