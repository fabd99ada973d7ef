"""Speed of triangulation and merging at full sensor size, against a copy of the same bytes and numpy.

The surface, four directions with noise, gaps (5 %) and gross errors (2 %), comes from the projectors' own projection, both
lenses distorted; what is measured writes into memory that is used again. The copy (``numpy.copyto``) moves as many bytes, read +
written, in the same rounds. numpy triangulates without distortion and merges by a plain weighted mean, no
consensus: less work than ours. A bar is met by its time or by its ratio to the copy; ratios are those of the shortest times,
which other jobs on the machine disturb least. Prints one JSON object.

    python benchmarks/triangulation.py [--size WIDTHxHEIGHT]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rakelight.reconstruction import merging, triangulation
from rakelight.reconstruction.models import PinholeCamera, Projector

SIGMA_PX = 0.03
FIELD_MM, TABLE_MM = 54.72, 200.0
BARS_S = {"triangulate": 0.06, "merge": 0.15}
BAR_RATIO = 3.0
BAR_BIAS_UM = 0.1
BAR_PAIR_BIASES_S = 0.05


def rig(width: int, height: int) -> tuple[PinholeCamera, list[Projector]]:
    """A camera of the reference field and four projectors 30° from the vertical, lenses with distortion."""
    focal = TABLE_MM * width / FIELD_MM
    camera = PinholeCamera(
        width, height, focal, focal, width / 2 + 14.3, height / 2 - 9.6, (-0.06, 0.03, 2e-4, -1.5e-4, 0.0)
    )
    projectors = []
    for direction in (1, 2, 3, 4):
        azimuth = np.radians(90 * (direction - 1))
        side, down = np.array([np.cos(azimuth), -np.sin(azimuth), 0.0]), np.array([0.0, 0.0, 1.0])
        s, c = 0.5, np.sqrt(0.75)
        axis, columns = c * down - s * side, c * side + s * down
        rotation = np.array([columns, np.cross(axis, columns), axis])
        centre = TABLE_MM * down + 210 * (s * side - c * down)
        f = 210 / (0.046 * c)
        lens = (912, 1140, f, 1.001 * f, 461.7, 558.1, (0.04, -0.02, -1e-4, 2e-4, 0.0))
        projectors.append(Projector(direction, *lens, rotation, -rotation @ centre))
    return camera, projectors


def surface(height: int, width: int) -> np.ndarray:
    """A smooth part up to 8 mm high, as depth in mm."""
    v, u = np.mgrid[:height, :width].astype(np.float32)
    return np.asarray(TABLE_MM - 4 + 4 * np.sin(u * 18 / width) * np.cos(v * 15 / width), np.float32)


def coordinates(z: np.ndarray, camera: PinholeCamera, projector: Projector) -> np.ndarray:
    """Columns that light the surface, by the projector's own model in float64, in bands."""
    table = triangulation.camera_rays(camera)
    out = np.empty_like(z)
    for first in range(0, len(z), 64):
        rows = slice(first, first + 64)
        depth = z[rows].astype(np.float64)
        points = np.stack((table[0, rows] * depth, table[1, rows] * depth, depth), axis=-1)
        out[rows] = projector.project(points)[..., 0]
    return out


def seconds(runs: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Wall times of each of ``runs``, taken in turn, after one round to warm up; sorted."""
    times: list[list[float]] = [[] for _ in runs]
    for round_ in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if round_:
                taken.append(time.perf_counter() - start)
    return [sorted(taken) for taken in times]


def against_copy(name: str, run: Callable[[], object], moved: int, repeats: int) -> dict[str, Any]:
    """Figures of ``run`` beside a copy that reads and writes ``moved`` bytes in all."""
    source = np.ones(moved // 2, np.uint8)  # written, so that it is not the kernel's one zero page
    target = np.ones_like(source)
    copy, ours = seconds([lambda: np.copyto(target, source), run], repeats)
    return {
        f"{name}_bytes": moved,
        f"{name}_copy_s": copy[0],
        f"{name}_s": ours[0],
        f"{name}_median_s": statistics.median(ours),
        f"{name}_over_copy": ours[0] / copy[0],
        f"bar_{name}_s": BARS_S[name],
        f"bar_{name}_over_copy": BAR_RATIO,
    }


def numpy_triangulate(
    column: np.ndarray, sigma_px: np.ndarray, table: np.ndarray, projector: Projector
) -> tuple[np.ndarray, np.ndarray]:
    """z and its sigma by numpy in float32, distortion neglected."""
    r, t = projector.rotation.astype(np.float32), projector.translation_mm.astype(np.float32)
    x = (column - np.float32(projector.cx)) / np.float32(projector.fx)
    along = r[0, 0] * table[0] + r[0, 1] * table[1] + r[0, 2]
    deep = r[2, 0] * table[0] + r[2, 1] * table[1] + r[2, 2]
    below = along - x * deep
    z = (x * t[2] - t[0]) / below
    return z, np.abs((t[2] + z * deep) / below) * sigma_px / np.float32(projector.fx)


def numpy_merge(z: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of all that is there and its sigma."""
    weight = np.where(np.isnan(z), np.float32(0), 1 / (sigma * sigma))
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.nan_to_num(z) * weight).sum(axis=0) / total, 1 / np.sqrt(total)


def main() -> int:
    """Run all and print the figures; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    width, height = (int(x) for x in args.size.split("x"))
    camera, projectors = rig(width, height)
    pixels = width * height

    triangulation.camera_rays(PinholeCamera(64, 4, 200.0, 200.0, 31.5, 1.5, camera.distortion))  # compiled, not cached
    start = time.perf_counter()
    table = triangulation.camera_rays(camera)
    figures: dict[str, Any] = {
        "size": args.size,
        "load_average": os.getloadavg()[0],
        "camera_rays_s": time.perf_counter() - start,
    }

    truth = surface(height, width)
    column, sigma_px = coordinates(truth, camera, projectors[0]), np.full(truth.shape, SIGMA_PX, np.float32)
    out = np.ones_like(truth), np.ones_like(truth)
    figures |= against_copy(
        "triangulate",
        lambda: triangulation.triangulate(column, sigma_px, camera, projectors[0], out=out),
        pixels * (4 + 4 + 8 + 8),
        args.repeats,
    )
    error_um = (out[0] - truth).astype(np.float64) * 1000
    figures |= {
        "triangulate_bias_um": float(np.abs(error_um.mean())),
        "triangulate_worst_um": float(np.abs(error_um).max()),
        "bar_triangulate_worst_um": BAR_BIAS_UM,
    }
    figures["numpy_triangulate_s"] = seconds([lambda: numpy_triangulate(column, sigma_px, table, projectors[0])], 2)[0][
        0
    ]

    z, sigma = measured(truth, camera, projectors)
    merged = merging.allocate(height, width)
    pitch_mm = TABLE_MM / camera.fx

    def ours() -> object:
        return merging.merge(z, sigma, (1, 2, 3, 4), pitch_mm=pitch_mm, out=merged)

    figures |= against_copy("merge", ours, pixels * (4 * 8 + 3 * 4 + 3), args.repeats)
    ratio = ((merged.z_mm - truth) / merged.sigma_z_mm)[merged.valid]
    figures |= {
        "merge_valid": float(merged.valid.mean()),
        "merge_error_over_sigma": float(ratio.astype(np.float64).std()),
        "numpy_merge_s": seconds([lambda: numpy_merge(z, sigma)], 2)[0][0],
        "pair_biases_s": seconds([lambda: merging.pair_biases(z, sigma, (1, 2, 3, 4))], 5)[0][0],
        "bar_pair_biases_s": BAR_PAIR_BIASES_S,
    }
    figures["missed"] = missed(figures)
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}, indent=2))
    return 1 if figures["missed"] else 0


def measured(truth: np.ndarray, camera: PinholeCamera, projectors: list[Projector]) -> tuple[np.ndarray, np.ndarray]:
    """Depths and sigmas (4, H, W) with noise, gaps and gross errors."""
    rng = np.random.default_rng(7)
    z, sigma = np.empty((4, *truth.shape), np.float32), np.empty((4, *truth.shape), np.float32)
    sigma_px = np.full(truth.shape, SIGMA_PX, np.float32)
    for k, projector in enumerate(projectors):
        column = coordinates(truth, camera, projector)
        column += SIGMA_PX * rng.standard_normal(truth.shape, np.float32)
        chance = rng.random(truth.shape, np.float32)
        column[chance < 0.05] = np.nan
        column[chance > 0.98] += 16  # a period too far
        triangulation.triangulate(column, sigma_px, camera, projector, out=(z[k], sigma[k]))
    return z, sigma


def missed(figures: dict[str, Any]) -> list[str]:
    """The bars that are not met."""
    met = {
        name: figures[f"{name}_s"] <= bar or figures[f"{name}_over_copy"] <= BAR_RATIO for name, bar in BARS_S.items()
    }
    met["triangulate_worst_um"] = figures["triangulate_worst_um"] <= BAR_BIAS_UM
    met["pair_biases_s"] = figures["pair_biases_s"] <= BAR_PAIR_BIASES_S
    met["merge_error_over_sigma"] = 0.9 <= figures["merge_error_over_sigma"] <= 1.1
    return [name for name, fine in met.items() if not fine]


if __name__ == "__main__":
    sys.exit(main())
