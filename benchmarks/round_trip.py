"""Round trip: a data set, exported to MVTec 3D-AD and to the D3M tree and imported again, is what it was.

Prints one JSON object: for each format the samples compared, ``keys_differ``, ``specimens_differ``, pixels of pictures and
masks that differ (bars: 0), ``xyz_m``, the largest difference of a coordinate in metres (bar: 5e-8), ``valid_differ``,
points that are there on one side only (bar: 0), and the seconds of import.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.dataset.archives import open_view
from rakelight.dataset.exporters.job import ExportOptions
from rakelight.dataset.exporters.targets import exporter
from rakelight.dataset.importers.sources import import_into
from rakelight.dataset.opened import OpenSample, open_samples
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset

BAR_M = 5e-8
PITCH_MM = 0.01


def make_set(root: Path, samples: int, shape: tuple[int, int], seed: int) -> Dataset:
    """Good and defective parts with every modality: noisy pictures, tilted points at 200 mm with holes and exact zeros."""
    rng = np.random.default_rng(seed)
    height, width = shape
    made = Dataset.init(root, "round trip")
    with made.writer() as writer:
        for number in range(2 * samples):
            x, y = np.meshgrid((np.arange(width) - width // 2) * PITCH_MM, (np.arange(height) - height // 2) * PITCH_MM)
            xyz = np.stack((x, y, 200 + 0.3 * x + rng.normal(0, 0.02, shape)), -1).astype(np.float32)
            xyz[rng.random(shape) < 0.1] = np.nan
            mask = np.zeros(shape, np.uint8)
            mask[height // 4 : height // 2, width // 4 : width // 3] = 255
            pictures = rng.integers(0, 256, (6, height, width, 3), np.uint8)
            writer.commit(
                SampleContent(
                    "knob_cap",
                    "scratch" if number % 2 else "OK",
                    "20250101120000",
                    dict(enumerate(pictures[:5], 1)),
                    ps=pictures[5],
                    mask=mask if number % 2 else None,
                    xyz=xyz,
                    pitch_mm=PITCH_MM,
                    specimen=f"specimen {number}",
                ),
                number=1 + 3 * number,
            )
    return made


def differences(old: OpenSample, new: OpenSample) -> dict[str, float]:
    """Between two samples; all 0 if they are the same."""
    found: dict[str, float] = {"specimens_differ": old.manifest.specimen != new.manifest.specimen}
    for name, a, b in (("picture", old.rgb(), new.rgb()), ("mask", old.mask(), new.mask())):
        same = (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        found[f"{name}_pixels_differ"] = 0 if same else int(np.sum(a != b)) if a is not None and b is not None else -1
    xyz, again = old.xyz(), new.xyz()
    assert xyz is not None
    assert again is not None
    valid = np.isfinite(xyz).all(-1)
    found["valid_differ"] = int((valid != np.isfinite(again).all(-1)).sum())
    both = valid & np.isfinite(again).all(-1)
    found["xyz_m"] = float(np.abs(xyz[both].astype(np.float64) - again[both]).max()) / 1000
    return found


def measure(source: Dataset, format: str, folder: Path) -> dict[str, Any]:
    exporter(format).export(source, folder / f"{format}-export", options=ExportOptions())
    back = Dataset.init(folder / f"{format}-import", "back")
    began = time.perf_counter()
    with open_view(folder / f"{format}-export") as view:
        failed = [one.error for one in import_into(back, view) if one.error]
    seconds = time.perf_counter() - began
    before = {s.key: s for s in open_samples(source.root)}
    after = {s.key: s for s in open_samples(back.root)}
    totals: dict[str, float] = {}
    for key in before.keys() & after.keys():
        for name, value in differences(before[key], after[key]).items():
            totals[name] = max(totals.get(name, 0), value)
    return {
        "samples": len(after),
        "failed": failed,
        "keys_differ": len(before.keys() ^ after.keys()),
        **totals,
        "import_s": round(seconds, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=4, help="of each class")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="round-trip-") as folder:
        source = make_set(Path(folder) / "set", options.samples, tuple(options.size), options.seed)
        result = {format: measure(source, format, Path(folder)) for format in ("mvtec3d", "d3m")}
    print(json.dumps({**result, "bar_m": BAR_M, "size": options.size, "seed": options.seed}))
    exact = ("keys_differ", "specimens_differ", "picture_pixels_differ", "mask_pixels_differ", "valid_differ")
    fine = all(not r["failed"] and not any(r.get(k, 1) for k in exact) and r["xyz_m"] <= BAR_M for r in result.values())
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
