"""Accuracy of the photometric solve on the rendered bunny under four lights, against its true normals.

Lights 0–3 have the geometry of a four-zone rig (slant 46°). Mean angular errors in degrees; a pixel without a normal counts
as 90°. Bars: without shadows ≤ 0.035° where all four zones are lit, ≤ 0.15° where three or more are, ≤ 0.8° over the
whole mask; with cast shadows and with highlights, less than plain least squares over all four zones (6.37° and 11.28°).
Prints one JSON object.

    python benchmarks/bunny.py [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.reconstruction import photometric

DATA = Path(__file__).resolve().parents[1] / "../shared/data/photometric/bunny-rendered"
LIT = 0.02  # n·l above which a zone counts as lit


def angles_deg(normals: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angle between (..., 3) vectors by atan2, exact for small angles too; 90 where ``normals`` is NaN."""
    a, b = normals.astype(np.float64), truth.astype(np.float64)
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))
    return np.where(np.isnan(angles), 90.0, angles)


def least_squares(frames: NDArray[np.float32], lights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Plain least squares over all zones, (H, W, 3), not normalised."""
    b = np.linalg.lstsq(lights, frames.reshape(len(frames), -1).astype(np.float64), rcond=None)[0]
    return b.T.reshape(*frames.shape[1:], 3)


def figures(data: Path) -> dict[str, object]:
    """All errors and their bars."""
    with np.load(data / "bunny.npz", allow_pickle=False) as file:
        lights = file["light_directions"][:4].astype(np.float64)
        truth, mask = file["normal_gt"], file["mask"].astype(bool)
        sets = {name: file[name][:4] for name in ("noshadow", "lambert", "specular")}
    lights /= np.linalg.norm(lights, axis=1, keepdims=True)
    lit = (truth @ lights.T > LIT).sum(-1)
    regions = {"four_lit": mask & (lit == 4), "three_lit": mask & (lit >= 3), "mask": mask}
    bars = {"four_lit": 0.035, "three_lit": 0.15, "mask": 0.8}
    errors, plain, seconds = {}, {}, 0.0
    for name, frames in sets.items():
        start = time.perf_counter()
        result = photometric.solve([np.ascontiguousarray(f) for f in frames], lights)
        seconds += time.perf_counter() - start
        errors[name] = angles_deg(result.normals, truth)
        plain[name] = angles_deg(least_squares(frames, lights), truth)
    rows = {
        f"noshadow_{region}": (errors["noshadow"][where].mean(), plain["noshadow"][where].mean(), bars[region])
        for region, where in regions.items()
    } | {
        name: (errors[name][mask].mean(), plain[name][mask].mean(), plain[name][mask].mean())
        for name in ("lambert", "specular")
    }
    table = {
        name: {
            "error_deg": round(float(error), 4),
            "plain_least_squares_deg": round(float(reference), 4),
            "bar_deg": round(float(bar), 4),
            "met": bool(error < bar),
        }
        for name, (error, reference, bar) in rows.items()
    }
    return {
        "pixels": {region: int(where.sum()) for region, where in regions.items()},
        "errors": table,
        "seconds": round(seconds, 3),
        "met": all(row["met"] for row in table.values()),
    }


def main() -> int:
    """Run and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with bunny.npz")
    args = parser.parse_args()
    if not (args.data / "bunny.npz").is_file():
        print(
            json.dumps({"skipped": "bunny.npz is not here (GPL test data); give the bunny-rendered folder with --data"})
        )
        return 0
    result = figures(args.data)
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
