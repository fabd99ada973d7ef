"""Measured surfaces of simulated parts against the truth: reference rig, true calibration, four projectors, 1368×912 Bayer.

Three matte parts; steel and ceramic with three exposures (0.25, 1, 4); with --full the first matte part at 5472×3648, where a
pixel is 10 µm (2 to 5 minutes, 5 GB of memory, 4 GB of disk). What is counted:

smooth: the smooth areas of the part (pipeline.truth): error of depth against what σ_z predicts, bias of the height above the
table.
one_surface: pixels of the part whose tangent plane meets the depth of all eight neighbours to 50 µm. Others see two surfaces at
once, a top and a floor beyond its edge, and no single depth is true there; where one surface is seen, nothing but a fault makes
an error of 50 µm. Outliers are judged on these; those of the whole part are told beside, and how
many of them have the depth of no pixel around, not even of the other surface.
coverage: share of pixels that have a depth. A projector lights a pixel if it reaches one of the points that the simulator takes
in it (2×2 at 1368×912, the middle at 5472×3648), however faintly: partly lit pixels and those that see an edge are in. Judged
are all such pixels of the picture that two or more projectors light, and those of them that see one surface of the part. Told
beside: the part with its edges, and the part where two projectors light every point.

Prints one JSON object; exits 1 when a bar is missed.

    python benchmarks/surface.py [--full] [--only NAME ...] [--seed N] [--recordings FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.simulator.scene import Scene
from rakelight.acquisition.simulator.specimen import make_specimen
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.pipeline.simulate import PRODUCTS, Settings, simulate
from rakelight.pipeline.surface import Surface, measure_surface
from rakelight.pipeline.truth import Truth, compare_surface, load_truth, smooth_areas
from rakelight.reconstruction.triangulation import heights_above

MATTE = ("knob_cap", "connector_housing", "clay_pot")
SHINY = ("machined_flange", "ceramic_insulator")
BRACKET = (0.25, 4.0)
OUTLIER_MM = 0.05
# name in the figures: (at most | at least | within, limit)
Bars = dict[str, tuple[str, Any]]
MATTE_BARS: Bars = {
    "smooth_rms_um": ("at most", 2.5),
    "smooth_rms_over_predicted": ("at most", 1.3),
    "smooth_error_over_sigma_std": ("within", (0.8, 1.25)),
    "smooth_height_bias_um": ("within", (-1.0, 1.0)),
    "coverage_lit_picture": ("at least", 0.99),
    "coverage_lit_one_surface": ("at least", 0.99),
}
SHINY_BARS: Bars = {
    "coverage_part": ("at least", 0.90),
    "outliers_one_surface": ("at most", 0.005),
}
FULL_BARS: Bars = {
    "smooth_rms_um": ("at most", 3.0),
    "outliers_one_surface": ("at most", 0.0005),
}


class Lit(NamedTuple):
    """How many projectors reach some point of each pixel, and all points of it; (H, W) uint8."""

    some: NDArray[np.uint8]
    all: NDArray[np.uint8]


def lit_by(name: str, seed: int, settings: Settings) -> Lit:
    """Counted in the scene that was recorded."""
    specimen = make_specimen(name, seed)
    scene = Scene(specimen.part, settings.rig(), specimen.pose, samples=settings.samples)
    height, width = scene.shape
    some, every = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for source in scene.rig.projectors:
        light = scene.projection(source.direction)[2]
        points = (light > 0).any(axis=0).reshape(height, scene.samples, width, scene.samples)
        some += points.any(axis=(1, 3))
        every += points.all(axis=(1, 3))
    return Lit(some, every)


def one_surface(truth: Truth) -> NDArray[np.bool_]:
    """(H, W): the tangent plane of the pixel's surface meets its neighbours' depth to 50 µm; by rows, memory stays flat."""
    height, width = truth.mask.shape
    out = np.zeros((height, width), np.bool_)  # the rim has no eight neighbours
    flip = np.array([1, -1, -1], np.float32)
    for first in range(1, height - 1, 256):
        last = min(first + 256, height - 1)
        rows = slice(first, last), slice(1, width - 1)
        xyz, normal = truth.xyz[rows], truth.normals[rows] * flip  # both in the camera frame
        single = normal[..., 2] < 0
        for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
            neighbour = truth.xyz[first + dy : last + dy, 1 + dx : width - 1 + dx]
            off = np.einsum("hwi,hwi->hw", neighbour - xyz, normal)
            single &= np.abs(off) <= -OUTLIER_MM * normal[..., 2]
        out[rows] = single & truth.mask[rows]
    return out


def far_from_neighbours(surface: Surface, truth: Truth) -> NDArray[np.bool_]:
    """(H, W): the measured depth is that of none of the 3×3 pixels around, to 50 µm; not of a surface the pixel may see."""
    height, width = truth.mask.shape
    true_mm = np.pad(truth.xyz[..., 2], 1, constant_values=np.nan)
    nearest = np.full((height, width), np.inf, np.float32)
    for dy in range(3):
        for dx in range(3):
            apart = np.abs(surface.merged.z_mm - true_mm[dy : dy + height, dx : dx + width])
            np.fmin(nearest, apart, out=nearest)
    return np.asarray(nearest > OUTLIER_MM)


def specimen_figures(name: str, seed: int, settings: Settings, folder: Path) -> dict[str, Any]:
    """Simulate, unless it is there already, measure, compare."""
    start = time.perf_counter()
    if not folder.is_dir():
        simulate(name, folder, seed=seed, settings=settings)
    simulated = time.perf_counter()
    surface = measure_surface(Recording.open(folder), RigCalibration.load(folder / "truth" / "calibration"))
    measured = time.perf_counter()
    truth = load_truth(Recording.open(folder))
    assert truth is not None
    return {
        "material": PRODUCTS[name].material,
        "part_pixels": int(truth.mask.sum()),
        **errors(surface, truth),
        **coverage(np.isfinite(surface.merged.z_mm), truth, lit_by(name, seed, settings)),
        "simulate_s": round(simulated - start, 1),
        "measure_s": round(measured - simulated, 2),
        "warnings": surface.report["warnings"],
    }


def errors(surface: Surface, truth: Truth) -> dict[str, Any]:
    """Of depth on smooth areas, and outliers."""
    smooth = compare_surface(surface, truth)["smooth"]
    area = smooth_areas(truth) & np.isfinite(surface.merged.z_mm)
    true_height = heights_above(truth.xyz, surface.table_plane)
    away_mm = np.abs(surface.merged.z_mm - truth.xyz[..., 2])
    single, part = one_surface(truth), truth.mask

    def outliers(where: NDArray[np.bool_], of: NDArray[np.bool_] | None = None) -> float:
        known = int(np.isfinite(away_mm[where if of is None else of]).sum())
        return round(float((away_mm[where] > OUTLIER_MM).sum() / known), 6) if known else float("nan")

    return {
        "smooth_pixels": smooth["pixels"],
        "smooth_coverage": smooth["coverage"],
        "smooth_rms_um": smooth["rms_um"],
        "smooth_predicted_um": smooth["predicted_um"],
        "smooth_rms_over_predicted": round(smooth["rms_um"] / smooth["predicted_um"], 4),
        "smooth_error_over_sigma_std": smooth["spread_of_error"],
        "smooth_height_bias_um": round(float((surface.height_mm - true_height)[area].mean(dtype=np.float64)) * 1000, 4),
        "one_surface_share_of_part": round(float(single.sum() / part.sum()), 5),
        "outliers_one_surface": outliers(single),
        "outliers_part": outliers(part),
        "outliers_part_no_neighbour_explains": outliers(part & far_from_neighbours(surface, truth), part),
    }


def coverage(known: NDArray[np.bool_], truth: Truth, lit: Lit) -> dict[str, float]:
    """Shares of pixels that have a depth."""
    part, two = truth.mask, lit.some >= 2
    areas = {
        "coverage_lit_picture": two,
        "coverage_lit_one_surface": two & one_surface(truth),
        "coverage_lit_part": two & part,
        "coverage_fully_lit_part": (lit.all >= 2) & part,
        "coverage_part": part,
    }
    return {name: round(float(known[area].mean()), 5) for name, area in areas.items()}


def judge(name: str, found: dict[str, Any], bars: Bars) -> dict[str, Any]:
    """Every bar of one specimen; NaN meets none."""
    met = {
        "at most": lambda value, bar: value <= bar,
        "at least": lambda value, bar: value >= bar,
        "within": lambda value, bar: bar[0] <= value <= bar[1],
    }
    return {
        f"{name}: {key}": {"bar": f"{how} {bar}", "measured": found[key], "met": bool(met[how](found[key], bar))}
        for key, (how, bar) in bars.items()
    }


def main() -> int:
    """Measure all and print the figures; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"also {MATTE[0]} at 5472×3648")
    parser.add_argument("--only", nargs="+", choices=[*MATTE, *SHINY, "full"], help="these alone")
    parser.add_argument("--seed", type=int, default=0, help="which specimen (default: %(default)s)")
    parser.add_argument("--recordings", type=Path, help="folder to keep the recordings in, and to use them again from")
    args = parser.parse_args()
    runs: list[tuple[str, str, Settings, Bars]] = [(name, name, Settings(), MATTE_BARS) for name in MATTE]
    runs += [(name, name, Settings(bracket=BRACKET), SHINY_BARS) for name in SHINY]
    if args.full or (args.only and "full" in args.only):
        runs.append(("full", MATTE[0], Settings(5472), FULL_BARS))
    specimens: dict[str, Any] = {}
    bars: dict[str, Any] = {}
    for title, name, settings, limits in runs:
        if args.only and title not in args.only:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = (args.recordings or Path(temporary)) / f"{title}-{args.seed}"
            specimens[title] = specimen_figures(name, args.seed, settings, folder)
        bars |= judge(title, specimens[title], limits)
    missed = [name for name, bar in bars.items() if not bar["met"]]
    result = {"benchmark": "surface", "seed": args.seed, "load_average": os.getloadavg()[0], "specimens": specimens}
    print(json.dumps(result | {"bars": bars, "missed": missed}, indent=2, ensure_ascii=False))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
