"""AUPRO: the exact form against one global sort written here, the streaming form against both; speed and accuracy.

    python benchmarks/aupro.py [--small 100] [--large 20] [--captured 84] [--full 4] [--repeats 3]

Maps of 224², of 1024², of 912×608 (as the simulated parts are captured) and of 4096×3000 pixels (a whole sensor), every other
part with defects. Prints one JSON object; exits 1 if a bar is missed:

- exact form equal to the global sort to 1e-9 at each limit;
- streaming form within 5e-4 of it, for P-AUROC too;
- streaming form at least 5 times faster than the global sort at any size, and than our own exact form at full resolution
  (912×608 and more), which is what it is for. The exact form sorts the bare float32 scores of the normal pixels only, which is
  many times faster than a sort of all pixels with their regions; on a few small maps the fixed costs of the histogram count.

Seconds are those of the processor (least of the repeats, first one thrown away), for all three limits and P-AUROC. Forms take
turns, so that a busy machine slows all of them.
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
FULL_PX = 912 * 608  # from here on the bar is of our own exact form, too
Maps = list[NDArray[np.float32]]
Masks = list[NDArray[np.bool_]]


def make(count: int, wide: int, high: int, seed: int) -> tuple[Maps, Masks]:
    """Smooth maps, blobs that stand out by more or less."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    size = min(wide, high)
    for n in range(count):
        field = cv2.GaussianBlur(rng.standard_normal((high, wide)).astype(np.float32), (0, 0), size / 56)
        field = 1 + 0.3 * (field / field.std()) ** 2
        mask = np.zeros((high, wide), np.uint8)
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


def least(forms: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Processor seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            start = time.process_time()
            form()
            seconds[name].append(time.process_time() - start)
    return {name: min(each) for name, each in seconds.items()}


def measure(count: int, wide: int, high: int, repeats: int) -> dict[str, Any]:
    maps, masks = make(count, wide, high, seed=high)
    forms: dict[str, Callable[[], list[float]]] = {
        "global_sort": lambda: global_sort(maps, masks),
        "exact": lambda: figures(pixel_steps(maps, masks, [None] * count)),
        "streaming": lambda: figures(streamed_steps(zip(maps, masks, strict=True))),
    }
    values = {name: form() for name, form in forms.items()}
    seconds = least(forms, repeats)
    steps = pixel_steps(maps, masks, [None] * count)
    tracemalloc.start()
    forms["streaming"]()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    differences = {
        name: max(abs(a - b) for a, b in zip(values[name], values["global_sort"], strict=True))
        for name in ("exact", "streaming")
    }
    ratios = {name: seconds[name] / seconds["streaming"] for name in ("global_sort", "exact")}
    held = ratios if wide * high >= FULL_PX else {"global_sort": ratios["global_sort"]}
    pixels = count * wide * high
    return {
        "parts": count,
        "size": [wide, high],
        "values": dict(zip([f"aupro_{limit:g}" for limit in LIMITS] + ["p_auroc"], values["exact"], strict=True)),
        "mvtec100": {f"aupro_{limit:g}": aupro_of(steps, limit, "mvtec100").value for limit in LIMITS},
        "cpu_s": {name: round(s, 4) for name, s in seconds.items()},
        "ns_a_pixel": {name: round(1e9 * s / pixels, 2) for name, s in seconds.items()},
        "largest_difference": differences,
        "ratio_to_global_sort": round(ratios["global_sort"], 1),
        "ratio_to_exact": round(ratios["exact"], 1),
        "streaming_peak_mb": round(peak / 1e6, 1),
        "passed": differences["exact"] <= EXACT_BAR
        and differences["streaming"] <= STREAMING_BAR
        and min(held.values()) >= RATIO_BAR,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--small", type=int, default=100, help="parts of 224²")
    parser.add_argument("--large", type=int, default=20, help="parts of 1024²")
    parser.add_argument("--captured", type=int, default=84, help="parts of 912×608")
    parser.add_argument("--full", type=int, default=4, help="parts of 4096×3000")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    sizes = (
        (arguments.small, 224, 224),
        (arguments.large, 1024, 1024),
        (arguments.captured, 912, 608),
        (arguments.full, 4096, 3000),
    )
    sets = [measure(*size, arguments.repeats) for size in sizes if size[0]]
    out: dict[str, Any] = {
        "benchmark": "aupro",
        "bars": {"exact": EXACT_BAR, "streaming": STREAMING_BAR, "ratio": RATIO_BAR},
        "sets": sets,
        "passed": all(s["passed"] for s in sets),
    }
    print(json.dumps(out, indent=2))
    return 0 if out["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
