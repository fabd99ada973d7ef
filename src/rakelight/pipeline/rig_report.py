"""What a report tells of a rig calibration: its figures held against limits, and the arrays behind the plots."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rakelight
from rakelight.calibration.colour import MAX_HUE_SPREAD, Colour
from rakelight.calibration.depth_uncertainty import depth_uncertainty
from rakelight.calibration.plane_lights import MAX_MISFIT, MAX_PRINT, WARN_MISFIT
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.rig_facts import RigFacts, known_rig
from rakelight.calibration.scale_check import FAIL_RATIO, WARN_RATIO
from rakelight.calibration.staleness import VERDICT, Limits
from rakelight.pipeline import calibrate_colour
from rakelight.pipeline.report_facts import (
    Coverage,
    Criterion,
    DepthUncertainty,
    LightFact,
    Poses,
    ReportFacts,
    Residuals,
    Verdict,
    worst,
)
from rakelight.pipeline.rig_outcome import RigReport
from rakelight.reconstruction.lights import MAX_CONDITION_NUMBER

_POSES = (12, 6)  # wanted, and the least
_COVERAGE = 0.5
_CAMERA_PX, _JOINT_PX = 0.3, 0.4  # measured on real boards: 0.10–0.20 and 0.14–0.27 (benchmarks/rig_calibration.py)
_HELD_OUT = 1.3  # times the error of the fit
_KEPT = 0.95
_HEIGHT_UM = 3.0
_FLATNESS_UM = 10.0
_LIGHT_SIGMA_MM = 2.0
_PRINT = 0.05  # relative rms
_SPAN_DAYS = 7.0  # of the recordings of one calibration
_GAIN_PX = 400  # width of the pictures of the flat field


def facts_of(report: RigReport) -> ReportFacts:
    """Everything that :func:`rakelight.pipeline.calibration_report.write_report` shows of a rig calibration."""
    c = report.calibration
    listed = c.provenance.get("recordings", [])
    return ReportFacts(
        calibration_id=c.calibration_id,
        created_utc=c.created_utc,
        content_sha256=c.content_sha256,
        software=f"rakelight {rakelight.__version__}",
        simulated=c.simulated,
        identity={"board": str(report.board), "poses": f"{len(report.camera.used)} of {len(report.views)} used"}
        | _rig_identity(known_rig(c) or RigFacts())
        | _colour_identity(c.colour),
        criteria=tuple(criteria(report)),
        residuals=tuple(_residuals(report)),
        poses=_poses(report),
        coverage=Coverage(_size(report), report.camera.coverage_map),
        lights=tuple(_lights(report)),
        gains=_gains(report),
        projectors=_projectors(report),
        depth=_depth(report),
        warnings=c.warnings,  # what was left out is among them
        sources=tuple(f"{r['part_id']} ({r['target']}), {r['sha256'][:12]}" for r in listed if "part_id" in r),
    )


def with_verdict(report: RigReport) -> RigReport:
    """``report`` with a calibration that carries its verdict, and begins its warnings with every FAIL.

    Whoever uses the calibration then meets what the report says, also without having read it.
    """
    found, c = criteria(report), report.calibration
    failed = [
        f"FAIL: {x.name}: {'not measured' if x.value is None else f'{x.value:.4g} {x.unit}'.strip()}; allowed: {x.limits}"
        for x in found
        if x.verdict == "FAIL"
    ]
    verdict = worst(found)
    calibration = replace(c, quality=c.quality | {VERDICT: verdict}, warnings=(*failed, *c.warnings))
    return replace(report, calibration=calibration)


def criteria(report: RigReport) -> list[Criterion]:
    """PASS, WARN or FAIL, one a figure."""
    camera, rig = report.camera, report.rig
    judge = Criterion.judge
    found = [
        judge("poses of the board", float(len(camera.used)), "", _POSES[1], "fewer leave the lens undetermined",
              warn=_POSES[0], at_least=True),
        judge("image covered by corners", camera.coverage, "", 0.25, "the lens is only known where corners were seen",
              warn=_COVERAGE, at_least=True),
        judge("camera, reprojection", camera.rms_px, "px", _CAMERA_PX, "root mean square of the corners kept"),
        judge("camera, poses held out", camera.held_out_rms_px / max(camera.rms_px, 1e-9), "times the fit", 2.0,
              "error of poses that took no part, over that of those that did", warn=_HELD_OUT),
    ]  # fmt: skip
    found += _rig_criteria(known_rig(report.calibration) or RigFacts())
    found += colour_criteria(report.calibration)
    if rig is None:
        return [*found, _there("projectors", False, "no recording of the board has patterns of both axes")]
    worst = max(rig.rms_px.values())
    held = rig.held_out_rms_px["all"] / max(rig.rms_px["all"], 1e-9)
    depth = depth_uncertainty(rig, report.calibration.table_plane)
    height = float(depth.height_mm[-1].max()) * 1000
    found += [
        judge("camera and projectors, reprojection", worst, "px", _JOINT_PX, "the worst device"),
        judge("camera and projectors, poses held out", held, "times the fit", 2.0,
              "error of poses that took no part, over that of those that did", warn=_HELD_OUT),
        judge("corners kept", min(rig.kept_share.values()), "", 0.8, "the device with the fewest", warn=_KEPT, at_least=True),
        judge("height uncertainty of the calibration", height, "µm", 2 * _HEIGHT_UM,
              f"worst standard deviation of a height {depth.above_mm:g} mm above the table", warn=_HEIGHT_UM),
        judge("flatness of the plate", None if report.plane_rms_mm is None else report.plane_rms_mm * 1000, "µm",
              3 * _FLATNESS_UM, "root mean square of the measured plate about its plane", warn=_FLATNESS_UM),
    ]  # fmt: skip
    return [*found, *_light_criteria(report)]


def _rig_criteria(known: RigFacts) -> list[Criterion]:
    """Whether the rig stayed the same from the first recording to the last, where it tells times and temperatures."""
    limits, judge = Limits(), Criterion.judge
    found = [
        judge(f"temperature of the {kind}", high - low, "K", 2 * limits.max_warming_k,
              f"from {low:.1f} to {high:.1f} °C while the targets were recorded", warn=limits.max_warming_k)
        for kind, (low, high) in known.temperature_c.items()
    ]  # fmt: skip
    if known.captured_utc is not None:
        first, last = (datetime.fromisoformat(t) for t in known.captured_utc)
        found.append(
            judge("from the first recording to the last", (last - first) / timedelta(days=1), "days", limits.max_age_days,
                  "nothing may have moved between them", warn=_SPAN_DAYS)
        )  # fmt: skip
    return found


def _rig_identity(known: RigFacts) -> dict[str, str]:
    """Header lines of the rig."""
    told = {"rig": known.rig_id or "", **dict(sorted(known.devices.items()))}
    if known.captured_utc is not None:
        told["recorded (UTC)"] = " to ".join(dict.fromkeys(t[:16].replace("T", " ") for t in known.captured_utc))
    told |= {f"temperature of the {k}": f"{a:.1f} to {b:.1f} °C" for k, (a, b) in known.temperature_c.items()}
    return {name: text for name, text in told.items() if text}


def colour_criteria(calibration: RigCalibration) -> list[Criterion]:
    """How even the hue of the white plate is; nothing of a camera without colour. Pictures only: no reason to fail."""
    if calibration.colour is None and calibrate_colour.KEY not in calibration.quality:
        return []
    spread = calibration.quality.get(calibrate_colour.KEY) or {}
    value = max((v for v in spread.values() if v is not None), default=None)
    limit = 100 * MAX_HUE_SPREAD
    verdict: Verdict = "PASS" if value is not None and value <= limit else "WARN"
    sentence = "by how much the white plate's hue varies over the field and from light to light"
    if calibration.colour is None:
        sentence = "none: no white plane of a colour camera, so the pictures are not balanced"
    return [Criterion("white balance of the pictures", value, "%", limit, verdict, sentence)]


def _colour_identity(colour: Colour | None) -> dict[str, str]:
    """Header line of the white balance."""
    if colour is None:
        return {}
    red, _, blue = colour.gains
    return {"white balance": f"red × {red:.3f}, blue × {blue:.3f}, black {max(colour.black):.2%} of full scale"}


def _light_criteria(report: RigReport) -> list[Criterion]:
    judge, q = Criterion.judge, report.calibration.quality
    if report.lights is None:
        return [_there("lights", False, "no chrome sphere was recorded")]
    positions = q.get("positions")
    sigma = max(positions["sigma_mm"]) if positions else None
    white = (positions or {}).get("white_plane")
    apart = max((x for x in (white or {}).get("from_spheres_sigmas", ()) if x is not None), default=None)
    scale = (q.get("scale") or {}).get("ratio")
    return [
        judge("condition number of the lights", q.get("condition_number"), "", MAX_CONDITION_NUMBER,
              "how much noise of the pictures grows in the normals"),
        judge("positions of the lights", sigma, "mm", 5 * _LIGHT_SIGMA_MM, "worst standard deviation",
              warn=_LIGHT_SIGMA_MM),
        judge("lights: spheres against the white plane", apart, "standard deviations", 6.0,
              "two measurements that share nothing", warn=4.0),
        judge("scale: balls against the board", None if scale is None else abs(scale - 1) * 100, "%", FAIL_RATIO * 100,
              "diameter of the balls in the board's millimetres, less that declared", warn=WARN_RATIO * 100),
        judge("white plane: flat", white["misfit"] * 100 if white else None, "%", MAX_MISFIT * 100,
              "rms by which its shading misses that of point lights on a plane", warn=WARN_MISFIT * 100),
        judge("white plane: even white", white["print_rms"] * 100 if white else None, "%", _PRINT * 100,
              "rms of what all lights show alike from place to place: print, dirt", warn=MAX_PRINT * 100),
        _there("flat field", report.calibration.flat_field is not None, "from a white plane under every zone"),
    ]  # fmt: skip


def _there(name: str, there: bool, sentence: str) -> Criterion:
    """What is calibrated or not, without a figure: WARN where it is absent."""
    return Criterion(name, None, "", None, "PASS" if there else "WARN", sentence)


def _size(report: RigReport) -> tuple[int, int]:
    return report.camera.camera.width, report.camera.camera.height


def _residuals(report: RigReport) -> list[Residuals]:
    rig, size = report.rig, _size(report)
    used = [report.views[k] for k in report.camera.used]
    if rig is None:
        at, error = np.concatenate([v.uv for v in used]), np.concatenate(report.camera.residuals)
        return [Residuals("camera", size, at, error, np.concatenate(report.camera.kept))]
    found = []
    for device in range(1 + len(rig.projectors)):
        if device == 0:
            name, extent, seen = "camera", size, [v.uv for v in used]
        else:
            p = rig.projectors[device - 1]
            name, extent = f"projector {p.direction}", (p.width, p.height)
            seen = [v.colrow.get(p.direction, np.full(v.uv.shape, np.nan)) for v in used]
        at, error = np.concatenate(seen), np.concatenate([r[device] for r in rig.residuals_px])
        there = np.isfinite(at).all(axis=1) & np.isfinite(error).all(axis=1)
        found.append(
            Residuals(name, extent, at[there], error[there], np.concatenate([k[device] for k in rig.kept])[there])
        )
    return found


def _poses(report: RigReport) -> Poses:
    rig, camera = report.rig, report.camera
    if rig is None:
        return Poses(camera.names, camera.pose_rms_px, np.full(len(camera.names), np.nan), limit_px=_CAMERA_PX)

    def rms(errors: tuple[NDArray[np.float64], ...]) -> NDArray[np.float64]:
        out = np.full(len(errors), np.nan)
        for number, (error, kept) in enumerate(zip(errors, rig.kept, strict=True)):
            squares = (error**2).sum(axis=2)[kept]
            squares = squares[np.isfinite(squares)]
            out[number] = np.sqrt(squares.mean()) if squares.size else np.nan
        return out

    return Poses(rig.names, rms(rig.residuals_px), rms(rig.held_out_px), limit_px=_JOINT_PX)


def _projectors(report: RigReport) -> dict[int, dict[str, float]]:
    rig = report.rig
    if rig is None:
        return {}
    return {
        p.direction: {
            "rms_px": rig.rms_px.get(f"projector {p.direction}", float("nan")),
            "held_out_px": rig.held_out_rms_px.get(f"projector {p.direction}", float("nan")),
            "kept_share": rig.kept_share.get(f"projector {p.direction}", float("nan")),
        }
        for p in rig.projectors
    }


def _depth(report: RigReport) -> DepthUncertainty | None:
    if report.rig is None:
        return None
    found = depth_uncertainty(report.rig, report.calibration.table_plane)
    camera = report.rig.camera
    plane = report.calibration.table_plane
    if plane is None:
        return None
    ends = np.array([[0, 0], [camera.width - 1, 0], [0, camera.height - 1]], np.float64)
    corners = plane.intersect(*camera.rays(ends))
    size = float(np.linalg.norm(corners[1] - corners[0])), float(np.linalg.norm(corners[2] - corners[0]))
    return DepthUncertainty(found.height_mm[-1] * 1000, size)


def _lights(report: RigReport) -> list[LightFact]:
    found = []
    told = report.calibration.quality.get("positions") or {}
    white = told.get("white_plane") or {}
    sigmas, aparts = (dict(enumerate(x or ())) for x in (told.get("sigma_mm"), white.get("from_spheres_mm")))
    for number, light in enumerate(report.calibration.lights):
        distance = None
        if light.position_mm is not None and light.reference_mm is not None:
            distance = float(np.linalg.norm(light.position_mm - light.reference_mm))
        found.append(
            LightFact(light.zone, light.direction, light.strength, distance, sigmas.get(number), aparts.get(number))
        )
    return found


def _gains(report: RigReport) -> dict[int, NDArray[Any]]:
    field = report.calibration.flat_field
    if field is None:
        return {}
    step = max(1, field.shape[1] // _GAIN_PX) | 1  # odd, so that every photosite of a Bayer cell is met
    return {zone: field.gains[k, ::step, ::step] * np.float64(field.scales[k]) for k, zone in enumerate(field.zones)}
