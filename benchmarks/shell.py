"""The sea shell of sltk, a real scan in plain Gray code, against the point cloud that its author computed.

44 JPEGs (camera 2592×1944, projector 1280×800, eleven bits of columns and of rows) are decoded, the camera pixels that see
one projector pixel (a cell) are averaged, and each cell becomes a point under the author's calibration. This tests the
conventions of both lenses, of R and T and of pixel centres end to end. His point of a cell is the one whose projection rounds to
it. Judged are:

both_rays: the point midway between the camera's and the projector's ray, as the author made his; distance of each of his
points to the nearest of ours.
column_row: ``triangulate`` with the cell's column and with its row, averaged with weights 1/σ²; depth against his point of the
same cell, since these points lie on the camera's ray and his lie beside it, by half of the distance of the rays.

Reported beside: column, the same without the row, which lacks what the row tells where the two rays pass each other; and
column_pixels, ``triangulate`` once a camera pixel, as rakelight does with phases: a column that is known to ±½ px is ±0.7 mm of
depth here.

Prints one JSON object; exits 1 when a bar is missed, 2 when the recording is not there.

    python benchmarks/shell.py [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from rakelight.dataset.point_clouds import read_ply
from rakelight.reconstruction import triangulation
from rakelight.reconstruction.decoding import decode_gray
from rakelight.reconstruction.models import PinholeCamera, Projector, undistort_points

DATA = Path(__file__).resolve().parents[1] / "../shared/data/structured-light/sltk-graycode-shell"
QUANTISED_PX = 12**-0.5  # standard deviation of a coordinate rounded to whole px
BARS = {
    "both_rays_median_mm": ("at most", 0.05),
    "both_rays_p90_mm": ("at most", 0.4),
    "both_rays_within_1mm": ("at least", 0.999),
    "both_rays_reprojection_median_px": ("at most", 0.18),
    "both_rays_reprojection_p90_px": ("at most", 0.45),
    "column_row_depth_median_mm": ("at most", 0.05),
    "column_row_depth_p90_mm": ("at most", 0.4),
}


@dataclass(frozen=True, eq=False)
class Cells:
    """Projector pixels that some camera pixel sees: (N, 2) column and row, (N, 2) mean camera pixel, (N,) how many."""

    seen: NDArray[np.int64]
    pixel: NDArray[np.float64]
    count: NDArray[np.int64]


def calibration(path: Path) -> tuple[PinholeCamera, Projector]:
    """The author's, as OpenCV wrote it."""
    store = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)

    def of(name: str) -> NDArray[np.float64]:
        return np.asarray(store.getNode(name).mat(), np.float64)

    def lens(name: str) -> tuple[Any, ...]:
        width, height = of(f"{name}_size").ravel()
        k = of(f"{name}_K")
        return int(width), int(height), k[0, 0], k[1, 1], k[0, 2], k[1, 2], tuple(of(f"{name}_kc").ravel())

    return PinholeCamera(*lens("cam")), Projector(1, *lens("pro"), of("R"), of("T").ravel())


def decoded(folder: Path) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Columns, rows and where both are known."""
    frames = np.stack([np.asarray(Image.open(folder / f"{i:02d}.jpg").convert("L")) for i in range(44)])
    columns, rows = (decode_gray(part, least_margin_dn=4, least_contrast_dn=30) for part in (frames[:22], frames[22:]))
    return columns.word, rows.word, columns.valid & rows.valid


def cells_of(
    column: NDArray[np.int32], row: NDArray[np.int32], valid: NDArray[np.bool_], projector: Projector
) -> Cells:
    """The camera pixels of each projector pixel, averaged."""
    v, u = np.nonzero(valid & (column < projector.width) & (row < projector.height))
    ids, place, count = np.unique(row[v, u] * projector.width + column[v, u], return_inverse=True, return_counts=True)
    pixel = np.stack([np.bincount(place, x) / count for x in (u, v)], axis=-1)
    return Cells(np.stack([ids % projector.width, ids // projector.width], axis=-1), pixel, count)


def between_rays(cells: Cells, camera: PinholeCamera, projector: Projector) -> NDArray[np.float64]:
    """(N, 3): the point midway between the rays of camera and projector where they pass closest."""
    _, a = camera.rays(cells.pixel)
    xy = (cells.seen - (projector.cx, projector.cy)) / (projector.fx, projector.fy)
    b = np.concatenate([undistort_points(xy, projector.distortion), np.ones((len(xy), 1))], axis=1) @ projector.rotation
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    centre = projector.centre_mm
    ab, ac, bc = np.einsum("ni,ni->n", a, b), a @ centre, b @ centre
    s, t = (ac - ab * bc) / (1 - ab**2), (ab * ac - bc) / (1 - ab**2)
    return np.asarray((a * s[:, None] + centre + b * t[:, None]) / 2)


def depths(cells: Cells, camera: PinholeCamera, projector: Projector) -> dict[str, NDArray[np.float64]]:
    """Depths (N,) of the cells on the camera's rays, by ``triangulate``: from the column, and from both coordinates."""
    _, ray = camera.rays(cells.pixel)
    p, q = (np.asarray(ray[None, :, k] / ray[None, :, 2], np.float32) for k in (0, 1))
    sigma = np.full(p.shape, QUANTISED_PX, np.float32)
    found = {}
    for k, axis in enumerate(("column", "row")):
        coordinate = cells.seen[None, :, k].astype(np.float32)
        z, sigma_z = triangulation.depth_on_rays(coordinate, sigma, p, q, camera, projector, axis)
        found[axis] = z[0].astype(np.float64), sigma_z[0].astype(np.float64) ** -2.0
    (by_column, w), (by_row, v) = found["column"], found["row"]
    v = np.where(np.isfinite(by_row), v, 0)
    return {"column": by_column, "column_row": (w * by_column + v * np.nan_to_num(by_row)) / (w + v)}


def figures(folder: Path) -> dict[str, Any]:
    """All of them; distances in mm."""
    camera, projector = calibration(folder / "procam_2016_12_09.yaml")
    theirs = read_ply(folder / "scan_0020_cloud.ply").xyz * np.array([1.0, -1.0, -1.0])  # y up, z backwards
    column, row, valid = decoded(folder)
    cells = cells_of(column, row, valid, projector)
    middle = between_rays(cells, camera, projector)
    reprojection = np.linalg.norm(projector.project(middle) - cells.seen, axis=1)
    result: dict[str, Any] = {
        "pixels": int(valid.sum()),
        "cells": len(cells.count),
        "pixels_a_cell": float(cells.count.mean()),
        "points_of_the_author": len(theirs),
        **distances("both_rays", cKDTree(middle).query(theirs)[0]),
        "both_rays_within_1mm": float((cKDTree(middle).query(theirs)[0] < 1).mean()),
        "both_rays_reprojection_median_px": float(np.median(reprojection)),
        "both_rays_reprojection_p90_px": float(np.percentile(reprojection, 90)),
    }
    place, known = cell_of_points(theirs, cells, projector)
    result["points_with_a_cell"] = float(known.mean())
    for name, z in depths(cells, camera, projector).items():
        result |= distances(f"{name}_depth", np.abs(z[place[known]] - theirs[known, 2]))
    start = time.perf_counter()
    sigma = np.full(column.shape, QUANTISED_PX, np.float32)
    map_, _ = triangulation.triangulate(np.where(valid, column, np.nan).astype(np.float32), sigma, camera, projector)
    result["triangulate_s"] = time.perf_counter() - start
    points = triangulation.xyz_from_depth(map_, camera)[np.isfinite(map_)]
    return result | distances("column_pixels", cKDTree(points).query(theirs)[0])


def cell_of_points(
    points: NDArray[np.float64], cells: Cells, projector: Projector
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each point the number of its cell, and whether there is one."""
    number = np.full((projector.height, projector.width), -1)
    number[cells.seen[:, 1], cells.seen[:, 0]] = np.arange(len(cells.count))
    at = np.rint(projector.project(points)).astype(np.int64)
    inside = ((at >= 0) & (at < (projector.width, projector.height))).all(axis=1)
    at[~inside] = 0
    place = np.where(inside, number[at[:, 1], at[:, 0]], -1)
    return place, place >= 0


def distances(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    return {f"{name}_median_mm": float(np.median(values)), f"{name}_p90_mm": float(np.percentile(values, 90))}


def missed(found: dict[str, Any]) -> list[str]:
    """Names of the bars that are not met; NaN meets none."""
    met = {"at most": lambda value, bar: value <= bar, "at least": lambda value, bar: value >= bar}
    return [name for name, (how, bar) in BARS.items() if not met[how](found[name], bar)]


def main() -> int:
    """Measure and print; 1 when a bar is missed, 2 when there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of the recording (default: beside the repository)"
    )
    args = parser.parse_args()
    if not args.data.is_dir():
        print(json.dumps({"benchmark": "shell", "skipped": f"{args.data.name} is not there; give --data"}))
        return 2
    found = figures(args.data)
    told = {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}
    result = {"benchmark": "shell", **told, "bars": {name: f"{how} {bar}" for name, (how, bar) in BARS.items()}}
    print(json.dumps(result | {"missed": missed(found)}, indent=2, ensure_ascii=False))
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
