"""Recordings of targets → a complete RigCalibration: camera and projectors from a board, table plane, lights, flat field.

Order: corners of every pose, and where the projectors see them → camera → camera and projectors together → table plane from
a plate that the new models measure → lights, flat field and dark over that plane (:mod:`rakelight.pipeline.calibrate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.calibration.bundle import RigSolution, solve_rig
from rakelight.calibration.camera_solve import CameraSolution, solve_camera
from rakelight.calibration.corners import find_corners, grey_of
from rakelight.calibration.projector_corners import projector_corners
from rakelight.calibration.rig_calibration import RigCalibration, utc_now
from rakelight.calibration.rig_facts import KEY, facts_of
from rakelight.calibration.views import View
from rakelight.dataset.recording import Recording
from rakelight.errors import CalibrationError, RakelightError
from rakelight.pipeline import surface
from rakelight.pipeline.calibrate import LightReport, calibrate_from_recordings
from rakelight.pipeline.calibrate_colour import with_colour
from rakelight.pipeline.calibrate_maps import DarkMap, dark_map
from rakelight.pipeline.rig_outcome import RigReport
from rakelight.pipeline.rig_report import with_verdict
from rakelight.pipeline.surface_parts import Source, pattern_set_of, slots
from rakelight.pipeline.zone_frames import grey_mean, is_colour
from rakelight.reconstruction import decoding
from rakelight.reconstruction.models import Plane
from rakelight.reconstruction.patterns import Axis, PatternSet

BOARDS = ("charuco", "chessboard")
USED_TARGETS = (*BOARDS, "white_plane", "flat", "chrome_sphere", "dark")
_LEAST_PLANE_SHARE = 0.1  # of the picture, measured on the plate
_FLAT_MM, _FLAT_SHARE = 0.01, 0.95  # rms of a plate, and the share of its points that lie in its plane

Progress = Callable[[str], None]
Decoded = tuple[int, dict[Axis, decoding.Decoded]]


def calibrate_rig(
    recordings: Sequence[Recording],
    calibration_id: str,
    board: Board,
    *,
    plate_mm: float = 0.0,
    camera_model: Literal["pinhole", "affine"] = "pinhole",
    table_plane: Plane | None = None,
    progress: Progress = lambda step: None,
) -> RigReport:
    """Calibrate everything that the recordings show.

    Parameters
    ----------
    recordings
        In any order, told apart by their ``target``: ``charuco`` or ``chessboard`` (one a pose; with patterns of both axes for
        the projectors), ``white_plane`` or ``flat`` with patterns (table plane), and ``chrome_sphere``, ``white_plane`` and
        ``dark`` as :func:`rakelight.pipeline.calibrate.calibrate_from_recordings` takes them. Others are named and left out.
    plate_mm : float
        Thickness of the plate on the table: the table plane lies that far below its measured surface.
    camera_model : "pinhole" or "affine"
        Affine for a telecentric lens: its rays are parallel, and projectors tell depths and which way a board is tilted.
    table_plane : Plane, optional
        In the camera frame, in mm; taken where no plate with patterns is measured.

    Raises
    ------
    CalibrationError
        ``calibration.no_board``, ``calibration.mixed_cameras``, ``calibration.mixed_devices``, and what the solvers find
        wrong; recordings whose board cannot be found are left out and named, unless too few remain.
    """
    poses = [r for r in recordings if r.info.target in BOARDS]
    if not poses:
        raise CalibrationError(
            "no recording shows a board (target charuco or chessboard)",
            hint="print one with `rakelight calibrate target`, record it in 12 poses or more, tilted by 15–25° to all sides",
            code="calibration.no_board",
        )
    used = [r for r in recordings if r.info.target in USED_TARGETS]
    _check_one_camera(used)
    rejected = [
        f"{r.folder.name}: a recording of target {r.info.target!r} takes no part in this calibration; used: "
        f"{', '.join(USED_TARGETS)}"
        for r in recordings
        if r.info.target not in USED_TARGETS
    ]
    views = _views(poses, board, rejected, progress)
    progress("camera")
    size = poses[0].info.width, poses[0].info.height
    camera = solve_camera(views, board, size, model=camera_model)
    directions = sorted({d for view in views for d in view.colrow})
    rig = None
    if directions:
        progress("camera and projectors")
        solved = [views[k] for k in camera.used]
        projector = pattern_set_of(Source.of(next(r for r in poses if r.info.pattern_set is not None)))
        rig = solve_rig(
            solved,
            board,
            camera.camera,
            (camera.rotations, camera.translations_mm),
            directions,
            (projector.width, projector.height),
        )
    base = RigCalibration(
        calibration_id,
        utc_now(),
        simulated=any(r.info.simulated for r in used),
        camera=rig.camera if rig is not None else camera.camera,
        projectors=rig.projectors if rig is not None else (),
    )
    plane, plane_rms = _table_plane(recordings, base, plate_mm, rejected, progress)
    base = replace(base, table_plane=plane or table_plane)
    others = [r for r in recordings if r.info.target in ("chrome_sphere", "white_plane", "dark")]
    lights = None
    if any(r.info.target == "chrome_sphere" for r in others):
        lights = _lights(others, base, board, progress)
    elif others:
        base = with_colour(_with_dark(base, others, rejected), others)
    calibration = _assemble(base, used, board, camera, rig, lights, plane_rms, rejected)
    return with_verdict(RigReport(calibration, board, tuple(views), camera, rig, lights, plane_rms, tuple(rejected)))


# --------------------------------------------------------------------------------------------------------------- views
def _views(poses: Sequence[Recording], board: Board, rejected: list[str], progress: Progress) -> list[View]:
    """Corners of every pose; a pose without a board is named and left out, unless none has one."""
    views: list[View] = []
    first: RakelightError | None = None
    taken: dict[tuple[str, ...], str] = {}
    for number, (recording, name) in enumerate(zip(poses, _names(poses), strict=True), 1):
        progress(f"pose {number} of {len(poses)}: {name}")
        if (twin := taken.setdefault(tuple(f.sha256 for f in recording.info.frames), name)) != name:
            rejected.append(f"{name} has the frames of {twin}: the same recording, counted once")
            continue
        try:
            views.append(replace(view_of(recording, board), name=name))
        except CalibrationError as error:
            first = first or error
            rejected.append(f"{name}: {error.message}; left out")
    if not views and first is not None:
        raise CalibrationError(
            f"none of {len(poses)} recordings shows the board; {rejected[0].removesuffix('; left out')}",
            hint=first.hint,
            code=first.code,
        )
    return views


def _names(poses: Sequence[Recording]) -> list[str]:
    """Names of the folders, with as much of the path before them as tells them apart; a folder given twice has a number."""
    paths = [r.folder.resolve().parts for r in poses]
    names: list[str] = []
    for k, path in enumerate(paths):
        others = {other for other in paths if other != path}
        depth = next((d for d in range(1, len(path)) if all(o[-d:] != path[-d:] for o in others)), len(path))
        before = paths[:k].count(path)
        names.append("/".join(path[-depth:]) + (f" ({before + 1})" if before else ""))
    return names


def view_of(recording: Recording, board: Board, *, decode: bool = True) -> View:
    """Corners of the board in one recording, and their projector coordinates in every direction recorded with both axes.

    Without ``decode`` the projectors are left out, which is quick.

    Raises :class:`CalibrationError` (``calibration.board_not_found``, ``calibration.board_mismatch``).
    """
    corners = find_corners(_board_picture(recording), board)
    colrow: dict[int, NDArray[np.float64]] = {}
    if decode and recording.info.pattern_set is not None:
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


def _decoded(recording: Recording, source: Source, pattern_set: PatternSet) -> Iterator[Decoded]:
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
    facts_of(recordings)  # refuses recordings of two rigs, cameras, light controllers or projector bridges


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
    if flatness > _FLAT_MM or good.mean() < _FLAT_SHARE:
        rejected.append(
            f"{plates[0].folder.name}: the plate of the table plane measures {flatness * 1000:.0f} µm rms about its plane, "
            f"{1 - good.mean():.0%} of its points further off; expected: up to {_FLAT_MM * 1000:g} µm and {1 - _FLAT_SHARE:.0%}: "
            "heights count from it; is it flat, with nothing on it, and does it lie firmly?"
        )
    return Plane(plane.normal, plane.offset_mm - plate_mm), flatness


# -------------------------------------------------------------------------------------------------------------- lights
def _lights(others: list[Recording], base: RigCalibration, board: Board, progress: Progress) -> LightReport:
    """Lights, flat field and dark; a ball whose size contradicts the board's is told as such."""
    try:
        return calibrate_from_recordings(others, base.calibration_id, base=base, progress=progress)
    except CalibrationError as error:
        if error.code != "calibration.sphere_size":
            raise
        raise CalibrationError(
            f"scale contradiction between the board, with squares of {board.square_mm:g} mm, and a ball on the table: "
            f"{error.message}",
            hint=f"measure a square of the board and the ball: one of square_mm and sphere_diameter_mm is wrong; or {error.hint}",
            code="calibration.scale_contradiction",
        ) from error


def _with_dark(base: RigCalibration, others: list[Recording], told: list[str]) -> RigCalibration:
    """What dark and white recordings give without chrome spheres: the dark map. Says what they do not give."""
    whites = [r for r in others if r.info.target == "white_plane"]
    if whites:
        told.append(
            f"{', '.join(r.folder.name for r in whites)}: no lights and no flat field, since no chrome sphere tells where the "
            "lights are; record one under every zone"
        )
    raw = [r for r in others if not is_colour(r)]
    found = dark_map(
        [r for r in raw if r.info.target == "dark"], [r for r in raw if r.info.target == "white_plane"], DarkMap()
    )
    return replace(base, dark=found.dark, map_format=found.format)


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
        provenance=found.provenance
        | {"recordings": listed, "board": board.to_plain(), KEY: facts_of(recordings).to_plain()},
        quality=found.quality | quality,
        warnings=tuple(dict.fromkeys(warnings)),
    )
