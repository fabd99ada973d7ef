"""Seconds a part of the embedded feature extractors and of what comes before them, and equality of FPFH with Open3D.

    python benchmarks/features.py [--parts 4] [--repeats 3] [--threads 2]

Times are of a drawn part of 224 × 224 working pixels; the registration's are of a native picture of 912 × 608. Wall time is the
best repeat, CPU time the mean. Prints one JSON object; exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

BARS = {"registration_cpu_s": 0.1, "efficientnet_cpu_s": 0.15, "fpfh_over_open3d": 1.0, "fpfh_difference": 1e-3}


def timed(work: Callable[[], Any], repeats: int, parts: int) -> dict[str, float]:
    """Wall and CPU seconds a part, after one run to warm up."""
    work()
    wall, cpu = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        wall.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / repeats
    return {"wall_s": round(min(wall) / parts, 4), "cpu_s": round(cpu / parts, 4)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = str(arguments.threads)  # before they are loaded

    import cv2
    import numpy as np
    import open3d as o3d
    import torch

    from rakelight.detection.features import base
    from rakelight.detection.features.fpfh import DEFAULT_RADIUS, fpfh, spacing_mm, surface_normals
    from rakelight.detection.native import make_native
    from rakelight.detection.parts import from_arrays
    from rakelight.detection.registration import make_template, register

    torch.set_num_threads(arguments.threads)
    part = base.fingerprint_part()
    assert part.xyz is not None and part.rgb is not None
    parts = [replace(part, key=f"part {n}", rgb=np.roll(part.rgb, 3 * n, axis=0)) for n in range(arguments.parts)]
    rows: dict[str, Any] = {}
    for name, modality in (("efficientnet-lite0", "rgb"), ("efficientnet-lite0", "ps"), ("fpfh", "xyz")):
        extractor = base.make_extractor(name, modality=modality)
        found = timed(lambda e=extractor: e.extract(parts), arguments.repeats, len(parts))
        rows[f"{name} {modality}"] = found | {"dim": extractor.dim, "grid": extractor.grid(part.size)}

    pitch = spacing_mm(part)
    normals = surface_normals(part.xyz, pitch)
    mask = np.isfinite(normals[..., 0])
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(part.xyz[mask].astype(float)))
    cloud.normals = o3d.utility.Vector3dVector(normals[mask].astype(float))
    radius = (
        DEFAULT_RADIUS + 0.03
    )  # at 10 itself pixels of the grid lie on the sphere, and rounding decides who is inside
    search = o3d.geometry.KDTreeSearchParamRadius(radius * pitch)
    compute = o3d.pipelines.registration.compute_fpfh_feature
    difference = np.abs(fpfh(part.xyz, normals, pitch, radius)[mask] - np.asarray(compute(cloud, search).data).T)
    rows["fpfh alone"] = timed(lambda: fpfh(part.xyz, normals, pitch, radius), arguments.repeats, 1)
    rows["fpfh of Open3D"] = timed(lambda: compute(cloud, search), arguments.repeats, 1)

    canvas = cv2.copyMakeBorder(part.rgb, 192, 192, 344, 344, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    seen = cv2.copyMakeBorder(part.mask.astype(np.uint8), 192, 192, 344, 344, cv2.BORDER_CONSTANT, value=0) > 0
    template = make_template([from_arrays("reference", rgb=canvas, mask=seen)])
    turn = cv2.getRotationMatrix2D((455.5, 303.5), 33, 1.0)
    canvas = cv2.warpAffine(canvas, turn, (912, 608), borderValue=(90, 90, 90))
    seen = cv2.warpAffine(seen.astype(np.uint8), turn, (912, 608), flags=cv2.INTER_NEAREST) > 0
    native = make_native("turned", rgb=canvas, mask=seen)
    rows["registration"] = timed(lambda: register(native, seen, template, 224), arguments.repeats, 1)
    rows["registration"]["error_deg"] = round(abs(register(native, seen, template, 224)[1]["angle_deg"] - 33), 3)

    figures = {
        "registration_cpu_s": rows["registration"]["cpu_s"],
        "efficientnet_cpu_s": rows["efficientnet-lite0 rgb"]["cpu_s"],
        "fpfh_over_open3d": round(rows["fpfh alone"]["cpu_s"] / rows["fpfh of Open3D"]["cpu_s"], 3),
        "fpfh_difference": float(difference.max()),
    }
    passed = all(figures[name] <= bar for name, bar in BARS.items()) and rows["registration"]["error_deg"] < 1
    result = {
        "benchmark": "features",
        "threads": arguments.threads,
        "points": int(mask.sum()),
        "extractors": rows,
        "figures": figures,
        "bars": BARS,
        "passed": passed,
    }
    print(json.dumps(result, indent=1))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
