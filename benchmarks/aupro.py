"""AUPRO: the exact form against one global sort written here, the streaming form against both; speed and accuracy.

    python benchmarks/aupro.py [--small 100] [--large 20] [--repeats 3]

Maps of 224² and of 1024² pixels, every other part with defects. Prints one JSON object; exits 1 if a bar is missed:

- exact form equal to the global sort to 1e-9 at each limit;
- streaming form within 5e-4 of it, for P-AUROC too;
- streaming form at least 5 times faster than the global sort. ``ratio_to_exact`` is its speed against our exact form, which
  sorts the bare float32 scores of the normal pixels only and is many times faster than a sort of all pixels with their regions.

Seconds are those of the processor (least of the repeats, first one thrown away), for all three limits and P-AUROC.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rakelight.detection.metrics.areas import Steps, auroc_of
from rakelight.detection.metrics.pro import LIMITS, aupro_of, pixel_steps
from rakelight.detection.metrics.streaming import streamed_steps

EXACT_BAR, STREAMING_BAR, RATIO_BAR = 1e-9, 5e-4, 5.0
Maps = list[NDArray[np.float32]]
Masks = list[NDArray[np.bool_]]


def make(count: int, size: int, seed: int) -> tuple[Maps, Masks]:
    """Smooth maps, blobs that stand out by more or less."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for n in range(count):
        field = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), size / 56)
        field = 1 + 0.3 * (field / field.std()) ** 2
        mask = np.zeros((size, size), np.uint8)
        for _ in range(int(rng.integers(1, 4)) if n % 2 else 0):
            at, axes = rng.integers(0, size, 2), rng.integers(size // 80 + 1, size // 12, 2)
            cv2.ellipse(mask, at.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        field += cv2.GaussianBlur(mask.astype(np.float32), (0, 0), size / 56) * np.float32(rng.uniform(0, 4))
        maps.append(field.astype(np.float32))
        masks.append(mask > 0)
    return maps, masks


def global_sort(maps: Maps, masks: Masks) -> list[float]:
    """[AUPRO at each limit, P-AUROC] by sorting all pixels together, with the curves' points at every distinct score."""
    weights, normals, regions = [], [], 0
    for mask in masks:
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        weights.append(np.where(labels > 0, 1.0 / sizes[labels], 0.0).ravel())
        normals.append(~mask.ravel())
        regions += count
    scores = np.concatenate([m.ravel() for m in maps])
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    normal = np.cumsum(np.concatenate(normals)[order], dtype=np.int64)[ends]
    fpr = np.append(0.0, normal / normal[-1])
    pro = np.append(0.0, np.cumsum(np.concatenate(weights)[order])[ends] / regions)
    defect = ends + 1 - normal
    values = []
    for limit in LIMITS:
        last = int(np.searchsorted(fpr, limit, side="right"))
        x, y = fpr[:last], pro[:last]
        if last < len(fpr):
            share = (limit - fpr[last - 1]) / (fpr[last] - fpr[last - 1])
            x, y = np.append(x, limit), np.append(y, y[-1] + share * (pro[last] - y[-1]))
        values.append(float(np.trapezoid(y, x)) / limit)
    return [*values, float(np.trapezoid(np.append(0.0, defect / defect[-1]), fpr))]


def figures(steps: Steps) -> list[float]:
    values = [aupro_of(steps, limit).value for limit in LIMITS] + [auroc_of(steps).value]
    return [float(v) for v in values if v is not None]


def least(function: Callable[[], Any], repeats: int) -> float:
    function()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measure(count: int, size: int, repeats: int) -> dict[str, Any]:
    maps, masks = make(count, size, seed=size)
    forms: dict[str, Callable[[], list[float]]] = {
        "global_sort": lambda: global_sort(maps, masks),
        "exact": lambda: figures(pixel_steps(maps, masks, [None] * count)),
        "streaming": lambda: figures(streamed_steps(zip(maps, masks, strict=True))),
    }
    values = {name: form() for name, form in forms.items()}
    seconds = {name: least(form, repeats) for name, form in forms.items()}
    steps = pixel_steps(maps, masks, [None] * count)
    tracemalloc.start()
    forms["streaming"]()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    differences = {
        name: max(abs(a - b) for a, b in zip(values[name], values["global_sort"], strict=True))
        for name in ("exact", "streaming")
    }
    return {
        "parts": count,
        "size": size,
        "values": dict(zip([f"aupro_{limit:g}" for limit in LIMITS] + ["p_auroc"], values["exact"], strict=True)),
        "mvtec100": {f"aupro_{limit:g}": aupro_of(steps, limit, "mvtec100").value for limit in LIMITS},
        "cpu_s": {name: round(s, 4) for name, s in seconds.items()},
        "largest_difference": differences,
        "ratio_to_global_sort": round(seconds["global_sort"] / seconds["streaming"], 1),
        "ratio_to_exact": round(seconds["exact"] / seconds["streaming"], 1),
        "streaming_peak_mb": round(peak / 1e6, 1),
        "passed": differences["exact"] <= EXACT_BAR
        and differences["streaming"] <= STREAMING_BAR
        and seconds["global_sort"] >= RATIO_BAR * seconds["streaming"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--small", type=int, default=100, help="parts of 224²")
    parser.add_argument("--large", type=int, default=20, help="parts of 1024²")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    sets = [measure(arguments.small, 224, arguments.repeats), measure(arguments.large, 1024, arguments.repeats)]
    out: dict[str, Any] = {
        "benchmark": "aupro",
        "bars": {"exact": EXACT_BAR, "streaming": STREAMING_BAR, "ratio_to_global_sort": RATIO_BAR},
        "sets": sets,
        "passed": all(s["passed"] for s in sets),
    }
    print(json.dumps(out, indent=2))
    return 0 if out["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
