"""Memory and time while teaching many parts, all modalities, embedded features.

    python benchmarks/teach_memory.py --dataset FOLDER [--category knob_cap] [--parts 400] [--method d3m]

The good parts of one product of a data set (``benchmarks/detection.py --make`` makes one) are varied until there are enough: each
picture and map is shifted by up to 3 pixels, made up to 5 % brighter or darker and given noise of its own, then registered as any
other part. A child process teaches them; its peak resident memory (``ru_maxrss``, everything included: Python, torch, parts)
is the figure. Prints one JSON object; exits 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BAR_GB = 6.0
CHILD = "RAKELIGHT_TEACH_MEMORY_CHILD"


def teach_many(dataset: Path, category: str, count: int, method: str) -> dict[str, Any]:
    """In the child: teach, and tell what it took; GB are 10⁹ bytes."""
    from rakelight.dataset.opened import open_samples
    from rakelight.detection.detector import TaughtPart
    from rakelight.detection.methods import make_method
    from rakelight.detection.native import read_native
    from rakelight.detection.parts import from_arrays, load_part
    from rakelight.detection.registration import make_template
    from rakelight.detection.teaching import teach
    from rakelight.pipeline.detect_teach import extractors_of

    samples = [s for s in open_samples(dataset, category) if s.key.is_ok]
    recipe = make_method(method)
    template = make_template(load_part(s, size=recipe.size) for s in samples)
    natives = [read_native(s) for s in samples]
    extractors = extractors_of(recipe)
    started = time.perf_counter()
    parts = []
    for number in range(count):
        native = natives[number % len(natives)]
        kinds = {"pitch_mm": native.pitch_mm, "ps_encoding": native.ps_encoding}
        key = f"{category}/OK/V{number:04d}"
        parts.append(from_arrays(key, **varied(native, number), **kinds, size=recipe.size, template=template))
    natives.clear()
    prepared, before_gb = time.perf_counter(), peak_gb()
    stages: dict[str, float] = {}

    def step(name: str, done: int, total: int) -> None:
        stages.setdefault(name, time.perf_counter())
        print(f"\r{name} {done}/{total}  {peak_gb():.2f} GB    ", end="", file=sys.stderr, flush=True)

    taught = [TaughtPart(n, part.key) for n, part in enumerate(parts)]
    busy = time.process_time()
    detector = teach(parts, taught, recipe, extractors, category=category, template=template, progress=step)
    ended = time.perf_counter()
    names = list(stages)
    ends = [*list(stages.values())[1:], ended]
    return {
        "peak_gb": round(peak_gb(), 3),
        "parts_alone_gb": round(before_gb, 3),
        "prepare_s": round(prepared - started, 1),
        "teach_s": round(ended - prepared, 1),
        "teach_cpu_s": round(time.process_time() - busy, 1),
        "stages_s": {n: round(end - stages[n], 1) for n, end in zip(names, ends, strict=True)},
        "banks": {name: len(bank) for name, bank in detector.banks.items()},
        "calibration_parts": len(detector.calibration.numbers),
    }


def varied(native: Any, number: int) -> dict[str, Any]:
    """The arrays of a part, shifted, brightened and with noise, by ``number``; the first of each part are as they are."""
    import numpy as np

    rng = np.random.default_rng(number)
    down, right = rng.integers(-3, 4, 2)
    gain = 1 + rng.uniform(-0.05, 0.05)

    def moved(array: Any) -> Any:
        return np.roll(array, (down, right), axis=(0, 1))

    noise = rng.normal(0, 1.5, (*native.size, 3)).astype(np.float32)
    heights = moved(native.xyz).copy()
    heights[..., 2] += rng.normal(0, 0.002, heights.shape[:2]).astype(np.float32)  # mm
    return {
        "rgb": np.clip(moved(native.rgb) * np.float32(gain) + noise, 0, 255).astype(np.uint8),
        "ps": np.clip(moved(native.ps) + noise[..., ::-1], 0, 255).astype(np.uint8),
        "xyz": heights,
        "mask": None if native.mask is None else moved(native.mask),
    }


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # KiB on Linux


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--category", default="knob_cap")
    parser.add_argument("--parts", type=int, default=400)
    parser.add_argument("--method", default="d3m")
    options = parser.parse_args()
    if os.environ.get(CHILD):
        print(json.dumps(teach_many(options.dataset, options.category, options.parts, options.method)))
        return 0
    child = [sys.executable, __file__, *sys.argv[1:]]
    done = subprocess.run(child, env={**os.environ, CHILD: "1"}, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        print(json.dumps({"benchmark": "teach_memory", "failed": f"the child ended with {done.returncode}"}))
        return 1
    found = json.loads(done.stdout)
    met = found["peak_gb"] <= BAR_GB
    print(
        json.dumps(
            {
                "benchmark": "teach_memory",
                "parts": options.parts,
                "category": options.category,
                "method": options.method,
                **found,
                "bar": {"peak_gb": BAR_GB, "met": met},
                "load_average": [round(x, 2) for x in os.getloadavg()],
            },
            indent=2,
        )
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
