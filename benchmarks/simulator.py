"""Seconds and memory of simulated frames: a knob cap under one light zone and under a projector's pattern.

Every size is measured in a process of its own, after everything has been compiled on a 456×304 scene. *First* frame: from
the product's name to raw values, with building the specimen, casting rays, shadows and light. *Further* frame: the same
light or another pattern of the same projector, fresh noise. Bars: first ≤ 3 s at 1368×912 and ≤ 60 s at 5472×3648, further
pattern frame ≤ 60 ms and ≤ 0.8 s (the slower of the two kinds; median), peak memory ≤ 4 GB. Prints one JSON object; 1 when
a bar is missed.

    python benchmarks/simulator.py [--sizes 1368x912 5472x3648] [--part knob_cap]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from rakelight.acquisition.simulator.rig import reference_rig
from rakelight.acquisition.simulator.scene import Lit, Scene
from rakelight.acquisition.simulator.specimen import make_specimen
from rakelight.reconstruction.patterns import PatternSet

BARS = {"1368x912": (3.0, 0.060), "5472x3648": (60.0, 0.8)}
MEMORY_BAR_GB = 4.0
FURTHER = 10
ZONE_US, PATTERN_US = 3000.0, 2000.0


def peak_gb() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def seconds(frames: Sequence[Callable[[], object]]) -> list[float]:
    """Wall time of each."""
    times = []
    for frame in frames:
        start = time.perf_counter()
        frame()
        times.append(time.perf_counter() - start)
    return times


def frames_of(part: str, width: int, height: int, further: int) -> dict[str, object]:
    """Render; all figures of one size."""
    patterns = PatternSet().patterns
    stages = {}
    start = time.perf_counter()
    specimen = make_specimen(part, 1)
    stages["specimen"] = time.perf_counter() - start
    scene = Scene(specimen.part, reference_rig(width, height), specimen.pose)
    stages["scene"] = time.perf_counter() - start
    scene.frame(Lit({1: 1.0}), ZONE_US, 0)
    stages["first_zone_frame"] = time.perf_counter() - start
    (first_pattern,) = seconds([lambda: scene.frame(Lit({}, 1, patterns[0]), PATTERN_US, 1)])
    zone = seconds([lambda k=k: scene.frame(Lit({1: 1.0}), ZONE_US, 100 + k) for k in range(further)])
    shown = [patterns[1 + k % (len(patterns) - 1)] for k in range(further)]
    pattern = seconds([lambda k=k, p=p: scene.frame(Lit({}, 1, p), PATTERN_US, 200 + k) for k, p in enumerate(shown)])
    peak_of_frames = peak_gb()
    for direction in (2, 3, 4):  # fills what is kept of projectors
        scene.frame(Lit({}, direction, patterns[0]), PATTERN_US, direction)
    return {
        "samples": scene.samples,
        "seconds": {name: round(value, 3) for name, value in stages.items()}
        | {"first_pattern_frame": round(first_pattern, 3)},
        "further_ms": {
            name: {"median": round(1e3 * statistics.median(times), 1), "best": round(1e3 * min(times), 1)}
            for name, times in (("zone", zone), ("pattern", pattern))
        },
        "peak_gb": {"one_projector": round(peak_of_frames, 2), "four_projectors": round(peak_gb(), 2)},
    }


def measured(part: str, size: str) -> dict[str, object]:
    """The figures of one size, from a process of its own."""
    command = [sys.executable, __file__, "--measure", size, "--part", part]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def judged(size: str, figures: dict[str, object]) -> dict[str, object]:
    """The figures with what was asked of them; sizes without bars of time have only that of memory."""
    taken, further, peak = figures["seconds"], figures["further_ms"], figures["peak_gb"]
    checks = {"memory": {"gb": peak["four_projectors"], "bar": MEMORY_BAR_GB}}
    if size in BARS:
        first, again = BARS[size]
        slower = max(taken["first_zone_frame"], taken["scene"] + taken["first_pattern_frame"])
        checks["first_frame"] = {"seconds": round(slower, 3), "bar": first}
        checks["further_frame"] = {"seconds": round(further["pattern"]["median"] / 1e3, 4), "bar": again}
    for check in checks.values():
        value, bar = list(check.values())
        check["met"] = bool(value <= bar)
    return figures | {"bars": checks, "met": all(check["met"] for check in checks.values())}


def main() -> int:
    """Run and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(BARS), help="WIDTHxHEIGHT in pixels (default %(default)s)")
    parser.add_argument("--part", default="knob_cap", help="product or target (default %(default)s)")
    parser.add_argument("--measure", metavar="SIZE", help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    if options.measure:
        width, height = map(int, options.measure.split("x"))
        frames_of(options.part, 456, 304, 1)
        print(json.dumps(frames_of(options.part, width, height, FURTHER)))
        return 0
    sizes = {size: judged(size, measured(options.part, size)) for size in options.sizes}
    met = all(figures["met"] for figures in sizes.values())
    print(
        json.dumps(
            {"benchmark": "simulator", "part": options.part, "cpus": os.cpu_count(), "sizes": sizes, "met": met},
            indent=2,
        )
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
