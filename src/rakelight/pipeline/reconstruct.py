"""Recording + calibration → the measured surface, normals, albedo and the pseudo-3D set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.staleness import stale_for
from rakelight.dataset.recording import Recording
from rakelight.errors import InputError
from rakelight.pipeline import second_pass
from rakelight.pipeline import surface as surfaces
from rakelight.pipeline.light_stack import LightStack, frame_camera, load_light_stack
from rakelight.pipeline.surface import Surface
from rakelight.pipeline.surface_parts import Source, lacking
from rakelight.pipeline.truth import Truth, compare, compare_surface, load_truth
from rakelight.pipeline.zone_frames import channel_sums
from rakelight.reconstruction import fusion, integration, photometric, pseudo3d, triangulation
from rakelight.reconstruction.demosaic import demosaic
from rakelight.reconstruction.lights import light_geometry
from rakelight.reconstruction.models import Camera, Plane
from rakelight.reconstruction.photometric import Flag, PhotometricResult

_EVIDENCE = (Flag.SATURATED, Flag.SHADOWED, Flag.OUTLIER, Flag.WEAK)
_MISFIT_OUTLIERS, _MISFIT_CONFIDENCE = 0.3, 0.8
_TILE_ROWS = 64  # near light: surface points are made tile by tile, so that memory stays flat


@dataclass(frozen=True)
class Settings:
    """What a recipe chooses about the maps.

    Attributes
    ----------
    feature_size_px : float
        Size of the features that the curvature map keeps.
    relief_azimuth_deg, relief_slant_deg : float
        Virtual light of the shaded relief, viewer frame.
    surface : surface.Settings or None
        How patterns become a surface; None leaves them out.
    fuse : bool
        Let the normals refine the measured surface (:mod:`rakelight.reconstruction.fusion`): less noise on smooth areas; at
        edges, where neighbouring errors go together, it may do harm. σ_z stays that of the measurement.
    """

    feature_size_px: float = 8.0
    relief_azimuth_deg: float = 135.0
    relief_slant_deg: float = 60.0
    surface: surfaces.Settings | None = field(default_factory=surfaces.Settings)
    fuse: bool = False

    def __post_init__(self) -> None:
        for name in ("feature_size_px", "relief_azimuth_deg", "relief_slant_deg"):
            if not np.isfinite(value := getattr(self, name)):
                raise InputError(f"{name} is {value}; a finite number is needed", code="pseudo3d.settings")


@dataclass(frozen=True)
class Reconstruction:
    """All maps of one part, on the pixels of its frames; frames and units as in the functions that made them.

    ``maps`` holds float32 (H, W): ``slope_p``, ``slope_q``, ``curvature`` (1/px), ``height`` (px, relative, not metric),
    ``relief`` (0–1) and, with four or more zones, ``gloss`` (units of albedo). ``colour`` is the albedo in R, G, B for
    Bayer and colour recordings. ``truth`` and ``error_deg`` (H, W), the angle to the true normal in degrees, are there
    for simulated recordings that carry their truth. ``surface`` is there for recordings with patterns whose calibration
    knows camera and projectors; normals, albedo and gloss are then those of a second pass over it, if the lights' positions
    are known. ``report`` is plain data: provenance, coverage, warnings, timings.
    """

    result: PhotometricResult
    maps: dict[str, NDArray[np.float32]]
    colour: NDArray[np.float32] | None
    stack: LightStack
    report: dict[str, Any] = field(default_factory=dict)
    truth: Truth | None = None
    error_deg: NDArray[np.float32] | None = None
    surface: Surface | None = None


def reconstruct(
    recording: Recording,
    calibration: RigCalibration,
    settings: Settings | None = None,
    *,
    surface: Surface | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Reconstruction:
    """Solve light stack and patterns of ``recording``: the measured surface, normals and the pseudo-3D set.

    Parameters
    ----------
    recording, calibration
        Opened recording and the calibration of its rig.
    settings : Settings, optional
    surface : Surface, optional
        Its measured surface, if that was made while it was captured (:mod:`live_surface`).
    progress : callable
        Called with the name of each step as it begins.

    Raises
    ------
    DatasetError, CalibrationError, InputError
        As :func:`load_light_stack`, :func:`photometric.solve` and :func:`surface.measure_surface` raise them.
    """
    settings = settings or Settings()
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        progress(name)
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 4)

    with step("read"):
        stack = load_light_stack(recording, calibration)
    warnings: list[str] = []
    measured = surface
    patterns = settings.surface is not None and surfaces.has_patterns(recording)
    if patterns and (missing := lacking(Source.of(recording), calibration)):
        warnings.append(f"the patterns were left out: calibration {calibration.calibration_id} has no {missing}")
    elif patterns and measured is None:
        with step("surface"):
            measured = surfaces.measure_surface(
                recording, calibration, settings.surface, progress=lambda text: progress(f"surface: {text}")
            )
    with step("normals"):
        result, gloss = _photometric(recording, calibration, stack, measured, warnings)
    maps: dict[str, NDArray[np.float32]] = {}
    with step("slopes"):
        maps["slope_p"], maps["slope_q"] = pseudo3d.slopes(result.normals)
    with step("curvature"):
        maps["curvature"] = pseudo3d.mean_curvature(result.normals, settings.feature_size_px)
    if len(stack.frames) > 3:
        with step("gloss"):
            maps["gloss"] = gloss()
    with step("height"):
        maps["height"] = integration.integrate_dct(maps["slope_p"], maps["slope_q"])
    with step("relief"):
        maps["relief"] = pseudo3d.shaded_relief(result.normals, settings.relief_azimuth_deg, settings.relief_slant_deg)
    with step("albedo"):
        colour = _colour(recording, stack, result)
    if settings.fuse and measured is not None and calibration.camera is not None:
        with step("fusion"):
            measured = fused(measured, result, frame_camera(calibration.camera, recording))
    report = _report(recording, calibration, stack, result, settings)
    warnings += _misfit(report)
    report["second_pass"] = measured is not None and second_pass.obstacle(stack) is None
    report["surface"] = measured.report if measured is not None else None
    report["warnings"] += [*warnings, *(measured.report["warnings"] if measured is not None else [])]
    truth, error = load_truth(recording), None
    if truth is not None:
        with step("compare with the truth"):
            error, report["truth"] = compare(result.normals, truth)
            if measured is not None:
                report["truth"]["surface"] = compare_surface(measured, truth)
    return Reconstruction(result, maps, colour, stack, report | {"seconds": seconds}, truth, error, measured)


def fused(surface: Surface, result: PhotometricResult, camera: Camera) -> Surface:
    """The surface with depths that the normals refined; what fusion did stands in its report. Weak normals take no part."""
    weak = int(Flag.WEAK | Flag.OUTLIER | Flag.NOT_SOLVABLE)
    normals = np.where((result.flags & weak > 0)[..., None], np.float32(np.nan), result.normals)
    found = fusion.fuse(surface.merged.z_mm, surface.merged.sigma_z_mm, normals, camera)
    xyz = triangulation.xyz_from_depth(found.z_mm, camera)
    told = {"steps": found.steps, "converged": found.converged, "held_at_bound": found.held}
    return replace(
        surface,
        xyz=xyz,
        height_mm=triangulation.heights_above(xyz, surface.table_plane),
        merged=replace(surface.merged, z_mm=found.z_mm),
        report=surface.report | {"fusion": told},
    )


def _misfit(report: dict[str, Any]) -> list[str]:
    """A calibration of another rig gives normals without complaint; the zones then contradict each other nearly everywhere."""
    outliers, trust = report["coverage"]["outlier_of_solved"], report["median_confidence"]
    if trust is None or (outliers <= _MISFIT_OUTLIERS and trust >= _MISFIT_CONFIDENCE):
        return []
    return [
        f"the zones contradict a matte surface in {outliers:.0%} of the pixels (median confidence {trust:.2f}; usual: below 10 %, "
        "above 0.9): is this the calibration of the rig that took these pictures? The normals are not to be trusted"
    ]


def _photometric(
    recording: Recording,
    calibration: RigCalibration,
    stack: LightStack,
    surface: Surface | None,
    warnings: list[str],
) -> tuple[PhotometricResult, Callable[[], NDArray[np.float32]]]:
    """Normals, and what makes the gloss map under the same light model: over the measured surface if there is one."""
    if surface is not None and (why := second_pass.obstacle(stack)) is not None:
        warnings.append(why)
    elif surface is not None and calibration.camera is not None:
        camera = frame_camera(calibration.camera, recording)
        around = (stack, calibration, camera, surface.table_plane, surface.xyz)
        result = second_pass.second_pass(*around)
        assert result is not None  # there is no obstacle
        return result, lambda: np.asarray(second_pass.second_gloss(*around))
    return solve_stack(stack), lambda: stack_gloss(stack)


def solve_stack(stack: LightStack) -> PhotometricResult:
    """Normals of a stack: distant lights in one pass, near lights tile by tile over the table plane."""
    if stack.near is None:
        return photometric.solve(
            stack.frames, stack.directions, corrections=stack.corrections, full_scale=stack.full_scale
        )
    out = photometric.allocate(*stack.frames[0].shape)
    for rows, frames, near in _near_tiles(stack):
        photometric.solve_near(frames, **near, full_scale=stack.full_scale, out=out.rows(rows.start, rows.stop))
    return out


def stack_gloss(stack: LightStack) -> NDArray[np.float32]:
    """The gloss map of a stack of four or more zones, under the light model that its normals are solved with."""
    if stack.near is None:
        return pseudo3d.gloss(stack.frames, stack.directions, corrections=stack.corrections)
    out = np.empty(stack.frames[0].shape, np.float32)
    for rows, frames, near in _near_tiles(stack):
        out[rows] = pseudo3d.gloss_near(frames, **near)
    return out


def _near_tiles(stack: LightStack) -> Iterator[tuple[slice, list[NDArray[Any]], dict[str, Any]]]:
    """Tiles of rows with the arguments that near-light functions share; surface points exist for one tile at a time."""
    assert stack.near is not None
    camera, plane = stack.near
    positions = np.array([light.position_mm for light in stack.lights])
    reference = np.array([light.reference_mm for light in stack.lights])
    c = stack.corrections
    height = stack.frames[0].shape[0]
    for first in range(0, height, _TILE_ROWS):
        rows = slice(first, min(first + _TILE_ROWS, height))
        dark = None if c.dark is None else c.dark[rows]
        gains = None if c.gains is None else c.gains[:, rows]
        yield (
            rows,
            [frame[rows] for frame in stack.frames],
            {
                "positions_mm": positions,
                "xyz": table_points(camera, plane, rows.start, rows.stop),
                "reference_mm": reference,
                "corrections": photometric.Corrections(dark, c.dark_scale, gains, c.gain_scales),
            },
        )


def table_points(camera: Camera, plane: Plane, first: int, last: int) -> NDArray[np.float32]:
    """Where the rays of image rows ``first`` to ``last`` meet the plane: (rows, W, 3) float32, mm, camera frame."""
    u, v = np.meshgrid(np.arange(camera.width, dtype=np.float64), np.arange(first, last, dtype=np.float64))
    return plane.intersect(*camera.rays(np.stack([u, v], axis=-1))).astype(np.float32)


def _colour(recording: Recording, stack: LightStack, result: PhotometricResult) -> NDArray[np.float32] | None:
    if recording.bayer is not None:
        return np.asarray(demosaic(result.albedo, recording.bayer), np.float32)
    if recording.info.pixel_format.startswith("RGB"):
        total = channel_sums(recording, [light.zone for light in stack.lights])
        grey = total.mean(axis=2, keepdims=True)
        return np.divide(total * result.albedo[..., None], grey, out=np.zeros_like(total), where=grey > 0)
    return None


def _report(
    recording: Recording,
    calibration: RigCalibration,
    stack: LightStack,
    result: PhotometricResult,
    settings: Settings,
) -> dict[str, Any]:
    total = result.flags.size
    solved, share = _coverage(result.flags)
    geometry = light_geometry(stack.lights)
    stale = stale_for(calibration, recording)
    warnings = [*recording.info.warnings, *(s.sentence for s in stale), *stack.warnings, *geometry.warnings]
    if len(stack.frames) == 3:
        warnings.append("three lights have no redundancy: no gloss map, no confidence")
    return {
        "kind": "reconstruction",
        "schema": 1,
        "software": f"rakelight {rakelight.__version__}",
        "recording": {
            "id": recording.info.recording_id,
            "part_id": recording.info.part_id,
            "simulated": recording.info.simulated,
            "frames": {f.file: f.sha256 for f in recording.shots("zone")},
        },
        "calibration": {
            "id": calibration.calibration_id,
            "content_sha256": calibration.content_sha256,
            "stale": [s.kind for s in stale],
        },
        "size": [int(result.albedo.shape[1]), int(result.albedo.shape[0])],
        "zones": [light.zone for light in stack.lights],
        "light_model": "near" if stack.near else "distant",
        "flat_field": stack.corrections.gains is not None,
        "dark": stack.corrections.dark is not None,
        "condition_number": round(float(geometry.condition_number), 4),
        "slants_deg": [round(float(s), 2) for s in geometry.slants_deg],
        "settings": asdict(settings),
        "coverage": {"pixels": total, "solved": round(solved / total, 5)}
        | {f"{name}_of_solved": round(value, 5) for name, value in share.items()},
        "median_confidence": _median_confidence(result) if len(stack.frames) > 3 else None,
        "warnings": warnings,
    }


def _coverage(flags: NDArray[np.uint8]) -> tuple[int, dict[str, float]]:
    """Number of solved pixels, and the share of them that carries each kind of evidence."""
    counts = np.sum([np.bincount(rows.ravel(), minlength=256) for rows in np.array_split(flags, 16)], axis=0)
    bits = np.arange(256)
    solvable = np.where(bits & int(Flag.NOT_SOLVABLE), 0, counts)
    solved = int(solvable.sum())
    share = {
        str(flag.name).lower(): float(solvable[bits & int(flag) != 0].sum()) / max(solved, 1) for flag in _EVIDENCE
    }
    return solved, share


def _median_confidence(result: PhotometricResult) -> float | None:
    """Of the solved pixels, on an even grid of about a million."""
    step = 1 | max(1, int(np.sqrt(result.flags.size / 1e6)))
    grid = (slice(None, None, step),) * 2
    sample = result.confidence[grid][result.solved[grid]]
    return round(float(np.median(sample)), 5) if sample.size else None
