"""Accuracy of the light calibration on the reference simulated rig, from its simulated targets alone.

Chrome balls in two positions on the table (4 and 3 of 10 mm) and one white plane, one Bayer frame with noise a zone and one of
the room; camera and table plane are known. Bars, over the zones: direction at the middle of the table 0.5°, position 2 mm,
strength there 0.5 %; outlines 0.2 px; squared errors of the positions in their own covariances (3 expected) at most 9 on
average; normals of a 15 mm part after the second photometric pass at most 0.05° worse than with the true lights; and two
faults that must be noticed: a wrong diameter, and lamps swapped between balls and plane. Prints one JSON object; exits 1 when
a bar is missed.

    python benchmarks/light_calibration.py [--width 912] [--no-normals]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
from second_pass import high_part, known, light_stack

from rakelight.acquisition.simulator import record, truth
from rakelight.acquisition.simulator.rig import Rig, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Pose
from rakelight.acquisition.simulator.sphere_outlines import sphere_contour
from rakelight.acquisition.simulator.targets import get_target
from rakelight.calibration.lights import LightCalibration, SphereFrames, calibrate_lights
from rakelight.calibration.plane_samples import PlaneSamples, sample_plane
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.spheres import find_known_spheres
from rakelight.errors import CalibrationError
from rakelight.pipeline.second_pass import second_pass
from rakelight.pipeline.truth import normal_error_deg, smooth_areas
from rakelight.reconstruction.levels import SATURATION
from rakelight.reconstruction.models import Light, Plane

DIAMETER_MM = 10.0
TABLE = Plane(np.array([0.0, 0.0, -1.0]), -200.0)
MIDDLE = np.array([0.0, 0.0, 200.0])
WHITE_MM = 0.01
BARS = {
    "direction (deg)": 0.5,
    "position (mm)": 2.0,
    "strength (%)": 0.5,
    "outline (px)": 0.2,
    "position error² in covariances": 9.0,
}
Float = NDArray[np.float64]


def shots(scene: Scene, exposure_us: float, seed: int) -> tuple[dict[int, NDArray[Any]], NDArray[Any]]:
    """One raw frame a zone, and one of the room alone."""
    zones = {x.zone: scene.frame(Lit({x.zone: 1.0}), exposure_us, seed + x.zone) for x in scene.rig.lights}
    return zones, scene.frame(Lit(), exposure_us, seed)


def balls(rig: Rig, count: int, pose: Pose, seed: int) -> tuple[list[SphereFrames], Float]:
    """The balls of one recording, found in its mean frame, and the errors of their outlines in px."""
    kind = get_target("chrome_spheres", count=count, diameter_mm=DIAMETER_MM)
    scene = Scene(kind.build(np.random.default_rng(0)), rig, pose)
    frames = list(shots(scene, record.matte_exposures(rig, 0.9, DIAMETER_MM).zone_us, seed)[0].values())
    camera, level = truth.camera_model(rig.camera), SATURATION * rig.sensor.full_scale
    found = find_known_spheres(np.mean(frames, axis=0), count, camera, TABLE, DIAMETER_MM)
    middles = (np.array(kind.facts["centres_mm"]) @ pose.rotation.T + pose.shift_mm) * (1, -1, -1) + MIDDLE
    errors = []
    for middle in middles:
        rim = camera.project(sphere_contour(middle, DIAMETER_MM / 2))
        centre = rim.mean(axis=0)
        exact = np.array([*centre, np.linalg.norm(rim - centre, axis=1).mean()])
        errors.append(min(float(np.abs(exact - (c.u, c.v, c.radius)).max()) for c in found))
    spheres = [SphereFrames(frames, circle, diameter_mm=DIAMETER_MM, saturation=level) for circle in found]
    return spheres, np.array(errors)


def white(rig: Rig, seed: int, order: tuple[int, ...] | None = None) -> PlaneSamples:
    """The white plane; ``order`` gives the zones the frames of others."""
    kind = get_target("white_plane", height_mm=WHITE_MM)
    scene = Scene(kind.build(np.random.default_rng(0)), rig, Pose())
    frames, room = shots(scene, record.matte_exposures(rig, 0.9, WHITE_MM).zone_us, seed)
    if order is not None:
        frames = dict(zip(frames, (frames[zone] for zone in order), strict=True))
    plane = Plane(TABLE.normal, TABLE.offset_mm + WHITE_MM)
    camera = truth.camera_model(rig.camera)
    return sample_plane(frames, camera, plane, full_scale=rig.sensor.full_scale, below=room.astype(np.float32))


def at_middle(result: LightCalibration) -> list[Light]:
    """The lights with direction and strength (mean 1) at the middle of the table."""
    near = []
    for light in result.lights:
        assert light.position_mm is not None
        near.append(Light.near(light.zone, light.position_mm, MIDDLE, float(np.linalg.norm(light.vectors(MIDDLE)))))
    mean = float(np.mean([light.strength for light in near]))
    return [replace(light, strength=light.strength / mean) for light in near]


def accuracy(result: LightCalibration, rig: Rig) -> dict[str, float]:
    """Largest errors over the zones."""
    exact = [truth.light_model(light, rig, 0.0) for light in rig.lights]
    mean = float(np.mean([light.strength for light in exact]))
    assert result.joint is not None
    direction, position, strength, nees = [], [], [], []
    for found, light, spread in zip(at_middle(result), exact, result.joint.covariances, strict=True):
        assert found.position_mm is not None and light.position_mm is not None
        off = found.position_mm - light.position_mm
        direction.append(2 * np.degrees(np.arcsin(np.linalg.norm(found.direction - light.direction) / 2)))
        position.append(np.linalg.norm(off))
        strength.append(abs(found.strength / (light.strength / mean) - 1) * 100)
        nees.append(off @ np.linalg.solve(spread, off))
    return {
        "direction (deg)": float(max(direction)),
        "position (mm)": float(max(position)),
        "strength (%)": float(max(strength)),
        "position error² in covariances": float(np.mean(nees)),
    }


def normals(result: LightCalibration, rig: Rig) -> dict[str, float]:
    """Mean normal errors of a high part with the true lights and with the calibrated ones, all else true."""
    exact = truth.rig_calibration(rig)
    scene = Scene(high_part(), rig)
    facts = known(scene)
    xyz, smooth = truth.xyz_camera(scene.surface, rig), smooth_areas(facts)
    mean = float(np.mean([light.strength for light in exact.lights]))
    lights = tuple(replace(light, strength=light.strength * mean) for light in at_middle(result))
    assert exact.flat_field is not None
    # gain = s · l·n / white: the white frames stay, the light vectors are the calibrated ones
    factors = [a.vectors()[2] / b.vectors()[2] for a, b in zip(lights, exact.lights, strict=True)]
    field = replace(exact.flat_field, scales=(exact.flat_field.scales * np.array(factors)).astype(np.float32))
    found = replace(exact, lights=lights, flat_field=field)

    def mean_deg(calibration: RigCalibration) -> float:
        camera, plane = calibration.camera, calibration.table_plane
        assert camera is not None and plane is not None
        solved = second_pass(light_stack(scene, calibration, 1), calibration, camera, plane, xyz)
        assert solved is not None
        return float(np.nanmean(normal_error_deg(solved.normals, facts)[smooth]))

    return {"true_lights_deg": mean_deg(exact), "calibrated_lights_deg": mean_deg(found)}


def refusal(run: Any) -> str:
    """Code of the error that a fault ends in; empty where it passed unnoticed."""
    try:
        run()
    except CalibrationError as error:
        return str(error.code)
    return ""


def measure(width: int, with_normals: bool) -> dict[str, Any]:
    rig = reference_rig(width)
    camera = truth.camera_model(rig.camera)
    recordings = [balls(rig, 4, Pose(), 100), balls(rig, 3, Pose(1.0, -0.5, 8.0), 200)]
    spheres = [sphere for found, _ in recordings for sphere in found]
    plane = white(rig, 300)
    start = time.perf_counter()
    result = calibrate_lights(spheres, camera=camera, table=TABLE, white=[plane])
    seconds = time.perf_counter() - start
    alone = calibrate_lights(spheres, camera=camera, table=TABLE)
    found = accuracy(result, rig) | {"outline (px)": float(max(e.max() for _, e in recordings))}
    bars = {k: {"bar": bar, "measured": round(found[k], 4), "met": found[k] <= bar} for k, bar in BARS.items()}
    assert result.joint is not None and result.joint.plane is not None
    out: dict[str, Any] = {
        "benchmark": "light_calibration",
        "width": width,
        "solve_seconds": round(seconds, 2),
        "position_sigma_mm": [round(float(np.sqrt(np.trace(c))), 3) for c in result.joint.covariances],
        "white_plane": {"chi2": round(result.joint.plane.chi2, 3), "misfit": round(result.joint.plane.misfit, 6)},
        "spheres_from_plane_sigmas": [round(float(s), 2) for s in result.joint.apart_sigmas],
        "spheres_alone": {k: round(v, 4) for k, v in accuracy(alone, rig).items() if k != "strength (%)"},
        "warnings": list(result.warnings),
    }
    wrong = [replace(sphere, diameter_mm=DIAMETER_MM * 1.05) for sphere in spheres]
    codes = {
        "diameter 5 % wrong": refusal(lambda: calibrate_lights(wrong, camera=camera, table=TABLE)),
        "lamps 1 and 2 swapped": refusal(
            lambda: calibrate_lights(spheres, camera=camera, table=TABLE, white=[white(rig, 300, (2, 1, 3, 4))])
        ),
    }
    wanted = ("calibration.sphere_size", "calibration.zones_swapped")
    for (fault, code), expected in zip(codes.items(), wanted, strict=True):
        bars[fault] = {"bar": expected, "measured": code, "met": code == expected}
    if with_normals:
        out["second_pass"] = normals(result, rig)
        worse = out["second_pass"]["calibrated_lights_deg"] - out["second_pass"]["true_lights_deg"]
        bars["normals worse than with true lights (deg)"] = {
            "bar": 0.05,
            "measured": round(worse, 4),
            "met": worse <= 0.05,
        }
    return out | {"bars": bars}


def main() -> int:
    """Run and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=912, help="of the frames, px (default: %(default)s)")
    parser.add_argument("--no-normals", action="store_true", help="leave the normals of the high part out")
    args = parser.parse_args()
    result = measure(args.width, not args.no_normals)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 0 if all(bar["met"] for bar in result["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
