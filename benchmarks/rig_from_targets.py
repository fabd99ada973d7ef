"""A whole rig calibrated from nothing but recordings of its simulated targets, held against the truth.

Recorded are (once; kept with --targets) the reference rig's targets in Bayer with noise: 12 poses of the ChArUco board with the
patterns of both axes from four projectors, two chrome spheres in three places, the white plane with patterns, and the step
gauge. Then ``calibrate_rig`` works from these recordings alone, in this one process; wall and CPU time are both told, since
other work on the machine lengthens the first. What is measured of its result:

light_direction_deg: worst angle between a calibrated light direction and the true one at the same point of the table.
height_bias_um: planes 0, 1, 4 and 8 mm above the true table, seen by the true rig all over the picture and measured with the
calibration above *its* table; mean error of each projector and of their mean, the worst of all.
scale_error: distances of neighbouring points of the table, measured against true.
step_1mm_error_um: the one step of 1 mm between neighbouring plates of the gauge that are next to each other, and all others
beside, of the surface reconstructed from the gauge's recording with the new calibration.

Prints one JSON object; exits 1 when a bar is missed.

    python benchmarks/rig_from_targets.py [--targets FOLDER] [--width 1368] [--poses 12] [--render-only]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.boards import Board
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import FILE_NAME, Recording
from rakelight.pipeline.calibrate_rig import RigReport, calibrate_rig
from rakelight.pipeline.daily_check import check_gauge
from rakelight.pipeline.rig_report import criteria
from rakelight.pipeline.simulate import Settings, simulate
from rakelight.reconstruction.models import Light, PinholeCamera, Plane, Projector
from rakelight.reconstruction.patterns import PatternSet

FULL_WIDTH = 1368  # the bars are for this size
SPHERES = 3
GAUGE = "step_gauge"
HEIGHTS_MM = (0.0, 1.0, 4.0, 8.0)
BARS = {
    "wall_s": 180.0,
    "light_direction_deg": 0.5,
    "height_bias_um": 3.0,
    "scale_error": 1e-4,
    "step_1mm_error_um": 3.0,
}


# ------------------------------------------------------------------------------------------------------------ recordings
def record(home: Path, width: int, poses: int) -> float:
    """Render what is missing in ``home``; seconds that it took."""
    start = time.perf_counter()
    both = Settings(width=width, pattern_set=PatternSet(axes=("column", "row")))
    bare, patterned = Settings(width=width, pattern_set=None), Settings(width=width)
    if not (home / "pose00" / FILE_NAME).is_file():
        simulate("charuco", home / "pose00", seed=0, settings=both)
    truth = true_calibration(home)
    wanted = [("charuco", f"pose{k:02d}", k, both) for k in range(1, poses)]
    wanted += [("chrome_spheres", f"spheres{k}", k, bare) for k in range(SPHERES)]
    wanted += [("white_plane", "white_plane", 0, patterned), ("step_gauge", GAUGE, 0, patterned)]
    for name, folder, seed, settings in wanted:
        if not (home / folder / FILE_NAME).is_file():
            simulate(name, home / folder, seed=seed, settings=settings, calibration=truth)
    return time.perf_counter() - start


def true_calibration(home: Path) -> RigCalibration:
    """Of the simulated rig."""
    return RigCalibration.load(home / "pose00" / "truth" / "calibration")


def fact(recording: Recording, name: str) -> Any:
    """What is known of the recorded target."""
    return json.loads((recording.folder / "truth" / "truth.json").read_text(encoding="utf-8"))["target_facts"][name]


# --------------------------------------------------------------------------------------------------------------- figures
def light_angles(found: RigCalibration, truth: RigCalibration) -> list[float]:
    """Degrees, zone by zone: directions of near lights hold at a point, and are compared at the one of ``found``."""
    out = []
    for light in found.lights:
        true = next(other for other in truth.lights if other.zone == light.zone)
        if true.position_mm is not None and light.reference_mm is not None:
            true = Light.near(true.zone, true.position_mm, light.reference_mm)
        across = np.linalg.norm(np.cross(light.direction, true.direction))
        out.append(float(np.degrees(np.arctan2(across, light.direction @ true.direction))))
    return out


def triangulated(
    camera: PinholeCamera, projector: Projector, uv: NDArray[Any], column: NDArray[Any], z_mm: float
) -> NDArray[Any]:
    """(..., 3): where rays meet the sheets of columns, by Newton's method from depth ``z_mm``; float64."""
    ray = camera.rays(uv)[1]
    ray = ray / ray[..., 2:]
    z, step = np.full(column.shape, z_mm), 1e-3
    for _ in range(20):
        here, there = (projector.project(ray * (z + d)[..., None])[..., 0] for d in (0.0, step))
        z -= (here - column) / ((there - here) / step)
    return ray * z[..., None]


def heights(found: RigCalibration, truth: RigCalibration, grid: tuple[int, int] = (19, 28)) -> dict[str, Any]:
    """How the calibration measures planes that the true rig sees."""
    assert isinstance(found.camera, PinholeCamera) and isinstance(truth.camera, PinholeCamera)
    assert found.table_plane is not None and truth.table_plane is not None
    v, u = (np.linspace(4, n - 5, k) for n, k in zip((truth.camera.height, truth.camera.width), grid, strict=True))
    uv = np.stack(np.meshgrid(u, v), axis=-1)
    errors, spans = [], {}
    for height in HEIGHTS_MM:
        plane = Plane(truth.table_plane.normal, truth.table_plane.offset_mm + height)
        true = plane.intersect(*truth.camera.rays(uv))
        points = [
            triangulated(found.camera, mine, uv, real.project(true)[..., 0], float(true[..., 2].mean()))
            for mine, real in zip(found.projectors, truth.projectors, strict=True)
        ]
        layers = [*points, np.mean(points, axis=0)]
        errors.append([found.table_plane.height_mm(p) - height for p in layers])
        if height == 0:
            for name, xyz in (("found", layers[-1]), ("true", true)):
                spans[name] = sum(float(np.linalg.norm(np.diff(xyz, axis=a), axis=-1).sum()) for a in (0, 1))
    off = np.array(errors) * 1000  # (heights, projectors and their mean, rows, columns)
    bias = off.mean(axis=(2, 3))
    return {
        "height_bias_um": float(np.abs(bias).max()),
        "height_bias_merged_um": dict(zip(map(str, HEIGHTS_MM), bias[:, -1].tolist(), strict=True)),
        "height_rms_merged_um": float(np.sqrt((off[:, -1] ** 2).mean())),
        "height_worst_merged_um": float(np.abs(off[:, -1]).max()),
        "height_worst_of_a_projector_um": float(np.abs(off[:, :-1]).max()),
        "scale_error": abs(spans["found"] / spans["true"] - 1),
    }


def steps(gauge: Recording, found: RigCalibration) -> dict[str, Any]:
    """Steps of the gauge, µm; the first of its stairs stands 1 mm above the table, the next ones above each other."""
    wanted = np.diff(fact(gauge, "heights_mm")).tolist()
    start, cpu = time.perf_counter(), time.process_time()
    check = check_gauge(gauge, found, steps_mm=wanted)
    named = {
        f"{name}, {value:g} mm": check.figures[f"{name} error um"]
        for name, value in zip(check.names, check.nominal_mm, strict=True)
    }
    ones = [abs(check.figures[f"{n} error um"]) for n, v in zip(check.names, check.nominal_mm, strict=True) if v == 1.0]
    return {
        "step_1mm_error_um": max(ones),
        "step_errors_um": named,
        "gauge_wall_s": time.perf_counter() - start,
        "gauge_cpu_s": time.process_time() - cpu,
    }


def cpu_seconds() -> float:
    """Of this process and of those it has started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def calibrated(recordings: list[Recording]) -> tuple[RigReport, dict[str, Any]]:
    """The calibration, and how long each of its stages took."""
    marks: list[tuple[str, float, float]] = []

    def progress(step: str) -> None:
        marks.append((step.partition(" ")[0] if step.startswith("pose ") else step, time.perf_counter(), cpu_seconds()))

    progress("opening")
    report = calibrate_rig(recordings, "benchmark", Board(), plate_mm=0.01, progress=progress)
    progress("end")
    stages: dict[str, list[float]] = {}
    for (name, wall, cpu), (_, later, cpu_later) in pairwise(marks):
        spent = stages.setdefault(name, [0.0, 0.0])
        spent[0] += later - wall
        spent[1] += cpu_later - cpu
    return report, {
        "wall_s": marks[-1][1] - marks[0][1],
        "cpu_s": marks[-1][2] - marks[0][2],
        "stages_wall_and_cpu_s": stages,
    }


def rounded(value: Any) -> Any:
    """Floats to five figures, all the way down."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def measured(home: Path, width: int, poses: int) -> dict[str, Any]:
    """All figures, and the bars that they miss."""
    rendering = record(home, width, poses)
    names = [*(f"pose{k:02d}" for k in range(poses)), *(f"spheres{k}" for k in range(SPHERES)), "white_plane"]
    report, spent = calibrated([Recording.open(home / name) for name in names])
    found, truth = report.calibration, true_calibration(home)
    angles = light_angles(found, truth)
    figures = {
        "benchmark": "rig_from_targets",
        "size": f"{width}x{report.camera.camera.height}",
        "poses": poses,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "rendering_s": rendering,
        **spent,
        "light_direction_deg": max(angles),
        "light_directions_deg": angles,
        **heights(found, truth),
        **steps(Recording.open(home / GAUGE), found),
        "criteria": {c.name: f"{c.verdict} {c.value}" for c in criteria(report)},
        "quality": {
            key: found.quality.get(key) for key in ("camera_rms_px", "joint_rms_px", "held_out_px", "kept_share")
        },
        "warnings": list(found.warnings),
        "bars": BARS,
    }
    figures["missed"] = [name for name, bar in BARS.items() if not figures[name] <= bar]
    return figures


def main() -> int:
    """Render, calibrate, measure, print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=Path, help="folder to keep the recordings in, and to use them again from")
    parser.add_argument("--width", type=int, default=FULL_WIDTH, help="of the frames (default: %(default)s)")
    parser.add_argument("--poses", type=int, default=12, help="of the board (default: %(default)s)")
    parser.add_argument("--render-only", action="store_true", help="record the targets, measure nothing")
    args = parser.parse_args()
    if args.render_only and args.targets is None:
        parser.error("--render-only keeps nothing without --targets FOLDER")
    with tempfile.TemporaryDirectory() as temporary:
        home = args.targets or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        if args.render_only:
            print(json.dumps({"rendering_s": round(record(home, args.width, args.poses), 1)}))
            return 0
        figures = measured(home, args.width, args.poses)
    print(json.dumps(rounded(figures), indent=2, ensure_ascii=False))
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
