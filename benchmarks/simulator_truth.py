"""Accuracy of the simulated rig: projected patterns, energy and noise against OpenCV, closed forms and EMVA 1288.

Geometry: projector column and row of 1,000 random visible points, half on a knob cap and half on the table, against
cv2.projectPoints with the truth's projector, and those points against the pixels that see them; bar 0.02 px at the most.
Energy: light of a plane at half the distance over that at the full one, for a light zone and every projector; bar 0.5 % of
4. Noise: full well and read noise from a photon-transfer curve of the white plane; bar 2 %. Prints one JSON object; 1 when
a bar is missed.

    python benchmarks/simulator_truth.py [--size 1368x912] [--part knob_cap]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

import cv2
import numpy as np

from rakelight.acquisition.simulator import truth
from rakelight.acquisition.simulator.rig import Lens, PointLight, Rig, Sensor, reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.solid import Component, Material, Mesh, Part
from rakelight.acquisition.simulator.specimen import make_specimen
from rakelight.reconstruction.patterns import Uniform

POINTS = 1000
GEOMETRY_BAR_PX, ENERGY_BAR, NOISE_BAR = 0.02, 0.005, 0.02
LEVELS = 12


def plane() -> Part:
    """White and matte, just above the table."""
    corners = np.array([[-60.0, -45, 0.001], [60, -45, 0.001], [60, 45, 0.001], [-60, 45, 0.001]])
    mesh = Mesh(corners, np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    return Part("plane", (Component("plane", mesh, Material((0.9, 0.9, 0.9))),))


def worst(errors: np.ndarray) -> dict[str, float]:
    """Greatest and 99th percentile of |errors|."""
    errors = np.abs(errors)
    return {"max_px": round(float(errors.max()), 6), "p99_px": round(float(np.percentile(errors, 99)), 6)}


def geometry(part: str, rig: Rig) -> dict[str, object]:
    """Errors of 1,000 visible points under each projector, and of the camera at the same points."""
    specimen = make_specimen(part, 1)
    scene = Scene(specimen.part, rig, specimen.pose, samples=1)
    xyz, camera = truth.xyz_camera(scene.surface, rig), truth.camera_model(rig.camera)
    rng = np.random.default_rng(5)
    directions, seen = {}, []
    for source in rig.projectors:
        column, row, light = scene.projection(source.direction)
        lit, on_part = light[0] > 0, scene.surface.body > 0
        groups = [np.flatnonzero(lit & where) for where in (on_part, ~on_part)]
        chosen = np.concatenate([rng.choice(group, POINTS // 2, replace=False) for group in groups])
        v, u = np.unravel_index(chosen, column.shape)
        points, model = xyz[v, u].astype(np.float64), truth.projector_model(source, rig)
        turn, lens = cv2.Rodrigues(model.rotation)[0], np.array(model.distortion)
        expected = cv2.projectPoints(points, turn, model.translation_mm, model.optics.matrix, lens)[0][:, 0]
        directions[str(source.direction)] = {
            "column": worst(column[v, u] - expected[:, 0]),
            "row": worst(row[v, u] - expected[:, 1]),
        }
        at = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.distortion))[0][:, 0]
        seen.append(at - np.stack([u, v], -1))
    largest = max(d[axis]["max_px"] for d in directions.values() for axis in ("column", "row"))
    return {
        "points": POINTS,
        "projectors": directions,
        "camera": worst(np.concatenate(seen)),
        "bar_px": GEOMETRY_BAR_PX,
        "met": largest <= GEOMETRY_BAR_PX,
    }


def energy() -> dict[str, object]:
    """How far from 4 the light of a plane grows when its source comes to half the distance."""
    lens = Lens(64, 48, 10_000.0, 10_000.0, 31.5, 23.5)
    rig = replace(reference_rig(456), camera=lens, sensor=Sensor("Mono12"))
    ratios = {}
    zone = [
        Scene(plane(), replace(rig, lights=(PointLight(1, (0.0, 0.0, z)),))).zone_rate(1)[24, 32]
        for z in (210.0, 105.0)
    ]
    ratios["light_zone"] = float(zone[1] / zone[0])
    for source in rig.projectors:
        moved = [replace(source, centre_mm=source.centre_mm * share) for share in (1.0, 0.5)]
        scenes = [Scene(plane(), replace(rig, projectors=(p,))) for p in moved]
        light = [scene.pattern_rate(source.direction, Uniform(1.0))[24, 32] for scene in scenes]
        ratios[f"projector_{source.direction}"] = float(light[1] / light[0])
    error = max(abs(ratio / 4 - 1) for ratio in ratios.values())
    return {
        "ratios": {name: round(ratio, 6) for name, ratio in ratios.items()},
        "worst_error": round(error, 6),
        "bar": ENERGY_BAR,
        "met": error <= ENERGY_BAR,
    }


def noise(rig: Rig) -> dict[str, object]:
    """Full well and read noise from pairs of frames at 12 levels and in the dark (EMVA 1288, photon transfer).

    One channel of the mosaic, over the field of one zone; the variance is that of the difference of two frames, so the
    unevenness of light and photosites does not enter.
    """
    scene, sensor = Scene(plane(), rig), rig.sensor
    green = (slice(0, None, 2), slice(1, None, 2))
    longest = 0.85 * sensor.full_well_e / float(scene.zone_rate(1).max())
    means, variances = [], []
    for number, exposure in enumerate(np.linspace(0, longest, LEVELS + 1)):
        lit = Lit({1: 1.0}, room=False)
        a, b = (scene.frame(lit, float(exposure), 2 * number + k)[green].astype(np.float64) for k in (0, 1))
        means.append((a.mean() + b.mean()) / 2)
        variances.append((a - b).var() / 2 - 1 / 12)  # less quantisation
    slope, intercept = np.polyfit(np.array(means) - means[0], variances, 1, w=1 / np.array(variances))
    full_well = (sensor.full_scale - means[0]) / slope
    read_noise = float(np.sqrt(max(intercept, 0))) / slope
    errors = full_well / sensor.full_well_e - 1, read_noise / sensor.read_noise_e - 1
    return {
        "levels": LEVELS,
        "full_well_e": {"set": sensor.full_well_e, "measured": round(full_well, 1), "error": round(errors[0], 5)},
        "read_noise_e": {"set": sensor.read_noise_e, "measured": round(read_noise, 4), "error": round(errors[1], 5)},
        "black_dn": {"set": sensor.black_dn, "measured": round(means[0], 4)},
        "bar": NOISE_BAR,
        "met": bool(max(map(abs, errors)) <= NOISE_BAR),
    }


def main() -> int:
    """Run and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1368x912", help="WIDTHxHEIGHT in pixels (default %(default)s)")
    parser.add_argument("--part", default="knob_cap", help="product or target (default %(default)s)")
    options = parser.parse_args()
    rig = reference_rig(*map(int, options.size.split("x")))
    figures = {"geometry": geometry(options.part, rig), "energy": energy(), "noise": noise(rig)}
    met = all(bool(group["met"]) for group in figures.values())
    print(json.dumps({"benchmark": "simulator_truth", "size": options.size, **figures, "met": met}, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
