"""Accuracy of the light calibration on the psbox set: 12 lights, two chrome spheres, one matte object.

Prints one JSON object. Bars: circles within 2 px of the author's on his reference picture, directions of each sphere
within 1.0° (mean) and 2.5° (largest) of the author's, strength residual at most 0.045; near-light model: what is left between
the spheres at most half of the 1.41° by which the author's distant lights differ.

The set has no camera calibration. A near light needs one: the focal length is therefore estimated, as that for which the rays
of both spheres meet best, in sphere radii; the principal point is taken at three places, since nobody wrote it down. Two rays
leave one degree of freedom a light after the fit of a source and two for a distant light, so that noise alone would fall by
1/√2; ``by_chance_deg`` is that.

    python benchmarks/psbox_lights.py [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.lights import LightCalibration, SphereFrames, calibrate_lights
from rakelight.calibration.near_sources import NearSource, fit_near_source
from rakelight.calibration.spheres import find_sphere, reflect_highlight
from rakelight.reconstruction.models import PinholeCamera

ROOT = Path(__file__).resolve().parents[1]
ZONES = tuple(range(1, 13))
SATURATION = 250.0
SHADOW = 20.0
AUTHOR_APART_DEG = 1.41
PRINCIPAL_POINTS = ((2210.0, 1195.0), (2500.0, 1700.0), (2160.0, 1440.0))  # middle of all boxes; of plausible sensors
FOCAL_RANGE_PX = (8e3, 4e5)


class GreyFrames:
    """The grey frames of a folder, read when asked for."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.paths = [folder / f"Image_{k:02d}{suffix}" for k in ZONES]

    def __call__(self) -> Any:
        return (grey(path) for path in self.paths)


def grey(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise FileNotFoundError(path)
    return np.asarray(image, dtype=np.uint8)


def calibrate(data: Path) -> LightCalibration:
    """Calibrate from the pictures alone; the boxes only say where the crops lie in the camera's frame."""
    boxes = np.loadtxt(data / "ManualData" / "probes_bbox.txt")
    spheres = [
        SphereFrames(GreyFrames(data / f"LightProbe-{p}", ".JPG"), offset=(box[0] - 1.0, box[2] - 1.0))
        for p, box in enumerate(boxes, start=1)
    ]
    return calibrate_lights(
        spheres, saturation=SATURATION, object_frames=GreyFrames(data / "Objects", ".png"), shadow=SHADOW
    )


def near_sources(result: LightCalibration, focal_px: float, principal: tuple[float, float]) -> list[NearSource]:
    """Sources in sphere radii, as a camera of this focal length sees the rays of both spheres."""
    camera = PinholeCamera(6000, 4000, focal_px, focal_px, *principal)
    rays = [
        [reflect_highlight(circle, highlight, camera) for highlight in row]
        for circle, row in zip(result.circles, result.highlights, strict=True)
    ]
    return [
        fit_near_source(np.array([r.point for r in pair]), np.array([r.direction for r in pair]), "sphere radii")
        for pair in zip(*rays, strict=True)
    ]


def left_deg(sources: list[NearSource]) -> NDArray[np.float64]:
    """What is left between the two rays of each light; a light that the rays do not meet at counts too."""
    return np.array([2.0 * source.residual_deg for source in sources])


def self_calibrated(result: LightCalibration, principal: tuple[float, float]) -> dict[str, Any]:
    """The focal length at which the rays meet best, on a logarithmic grid, and the range that is no more than 10 % worse."""
    grid = np.geomspace(*FOCAL_RANGE_PX, 33)
    fits = [near_sources(result, float(f), principal) for f in grid]
    rms = np.array([float(np.sqrt(np.mean(left_deg(fit) ** 2))) for fit in fits])
    best = int(np.argmin(rms))
    alike = grid[rms <= 1.1 * rms[best]]
    left, distances = left_deg(fits[best]), [s.distance for s in fits[best]]
    return {
        "principal_point_px": list(principal),
        "focal_px": round(float(grid[best])),
        "focal_within_10_percent_px": [round(float(alike[0])), round(float(alike[-1]))],
        "apart_after_fit_deg": {"mean": float(left.mean()), "max": float(left.max())},
        "determined": sum(bool(s.determined) for s in fits[best]),
        "distance_sphere_radii": [round(d, 1) if np.isfinite(d) else None for d in distances],
    }


def author_circle(folder: Path, height: int) -> NDArray[np.float64]:
    """The author's (u, v, radius) in our pixels; his are 1-based with y up."""
    x, y, r = np.loadtxt(folder / "circle_data.txt")
    return np.array([x - 1.0, height - y, r])


def angles_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.asarray(np.degrees(2.0 * np.arcsin(np.linalg.norm(a - b, axis=-1) / 2.0)))


def measure(data: Path) -> dict[str, Any]:
    start = time.perf_counter()
    result = calibrate(data)
    seconds = time.perf_counter() - start
    out: dict[str, Any] = {"benchmark": "psbox_lights", "seconds": round(seconds, 2)}
    boxes = np.loadtxt(data / "ManualData" / "probes_bbox.txt")
    for p in (1, 2):
        folder = data / f"LightProbe-{p}"
        reference = grey(folder / "ref.JPG")
        truth = author_circle(folder, reference.shape[0])
        circle = result.circles[p - 1].shifted(1.0 - boxes[p - 1][0], 1.0 - boxes[p - 1][2])
        on_reference = find_sphere(reference)
        errors = angles_deg(result.directions[p - 1], np.loadtxt(folder / "light_directions.txt").T)
        out[f"sphere_{p}"] = {
            "direction_mean_deg": float(errors.mean()),
            "direction_max_deg": float(errors.max()),
            "circle_minus_author_px": _difference(circle, truth),
            "circle_on_reference_picture_minus_author_px": _difference(on_reference, truth),
            "circle_residual_px": circle.residual_px,
            "circle_support": circle.support,
        }
    means = np.array([light.direction for light in result.lights])
    errors = angles_deg(means, np.loadtxt(data / "light_directions.txt").T)
    out["mean_of_both"] = {"direction_mean_deg": float(errors.mean()), "direction_max_deg": float(errors.max())}
    out["spheres_apart_deg"] = {"mean": float(result.spreads_deg.mean()), "max": float(result.spreads_deg.max())}
    # two rays lie on either side of the fitted direction: twice the residual compares with "apart"
    left = np.array([2.0 * source.residual_deg for source in result.near])
    out["spheres_apart_deg"]["by_chance_deg"] = float(result.spreads_deg.mean()) / np.sqrt(2.0)
    out["near_light"] = {
        "spheres_apart_after_fit_deg": {"mean": float(left.mean()), "max": float(left.max())},
        "determined": [bool(source.determined) for source in result.near],
        "distance_sphere_radii": [round(s.distance, 1) if np.isfinite(s.distance) else None for s in result.near],
        "significance": [round(source.significance, 1) for source in result.near],
    }
    out["near_light_self_calibrated"] = [self_calibrated(result, point) for point in PRINCIPAL_POINTS]
    assert result.strength is not None
    out["strengths"] = {
        "residual": result.strength.residual,
        "residual_equal_strengths": result.strength.residual_equal,
        "residual_norm": result.strength.residual_norm,
        "determinacy": result.strength.determinacy,
        "values": np.round(result.strength.strengths, 3).tolist(),
    }
    out["warnings"] = list(result.warnings)
    out["passed"] = _passed(out)
    return out


def _difference(circle: Any, truth: NDArray[np.float64]) -> dict[str, float]:
    found = np.array([circle.u, circle.v, circle.radius]) - truth
    return {"centre": float(np.hypot(*found[:2])), "radius": float(found[2])}


def _passed(out: dict[str, Any]) -> bool:
    spheres = [out["sphere_1"], out["sphere_2"]]
    circles = [s["circle_on_reference_picture_minus_author_px"] for s in spheres]
    return bool(
        all(s["direction_mean_deg"] < 1.0 and s["direction_max_deg"] < 2.5 for s in spheres)
        and all(c["centre"] <= 2.0 and abs(c["radius"]) <= 2.0 for c in circles)
        and all(s["circle_minus_author_px"]["centre"] <= 2.0 for s in spheres)
        and out["mean_of_both"]["direction_mean_deg"] < 1.0
        and out["strengths"]["residual"] <= 0.045
        and all(
            fit["apart_after_fit_deg"]["mean"] <= 0.5 * AUTHOR_APART_DEG
            and fit["apart_after_fit_deg"]["mean"] < out["spheres_apart_deg"]["by_chance_deg"]
            for fit in out["near_light_self_calibrated"]
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples/psbox")
    data = parser.parse_args().data
    if not (data / "light_directions.txt").is_file():
        print(
            f"no psbox set in {data}: light_directions.txt is not there; give its folder with --data", file=sys.stderr
        )
        return 2
    out = measure(data)
    print(json.dumps(out, indent=2))
    return 0 if out["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
