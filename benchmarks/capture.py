"""What stepped capture costs beside the exposure: 1368×912, 85 shots of 2 ms, devices at 115200 baud, pre-rendered frames.

    python benchmarks/capture.py [--width 1368] [--shots 85] [--exposure-us 2000]

Over the real wires: harvesters and our GenTL producer in the camera's child process, pyserial on pseudo-terminals. The first
pass renders each picture (``prerendered=1``), the second is measured. Bytes' own time on the serial lines (ten bits a
byte, both ways) is taken off, as the bar says: overhead per shot ≤ 20 ms. Prints one JSON object; exits 1 on a missed bar.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from typing import Any

from rakelight.acquisition.devices import CameraFrame
from rakelight.acquisition.recipe import PatternRecipe, Plan, PlannedShot, Recipe, make_plan
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.stepped import CaptureLog, capture_stepped

BAR_MS = 20.0
BAUD = 115200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1368)
    parser.add_argument("--shots", type=int, default=85)
    parser.add_argument("--exposure-us", type=float, default=2000.0)
    arguments = parser.parse_args()
    url = f"sim://knob_cap?width={arguments.width}&samples=1&prerendered=1&baud={BAUD}&latency_ms=0.2&rise_ms=0.1"
    recipe = Recipe(
        product="knob_cap",
        exposure_us=arguments.exposure_us,
        patterns=PatternRecipe(steps=10, exposure_us=arguments.exposure_us),
    )
    with Rig.open(url) as rig:
        whole = make_plan(recipe, rig.zones, rig.directions)
        shots = (whole.shots * 2)[: arguments.shots]
        plan = Plan(shots, whole.sequence, whole.pattern_set, ())
        settings = rig.camera_settings(arguments.exposure_us)
        times: list[float] = []

        def sink(shot: PlannedShot, frame: CameraFrame) -> None:
            times.append(time.monotonic())

        def taken() -> tuple[float, CaptureLog]:
            times.clear()
            start = time.monotonic()
            log = capture_stepped(rig.devices, plan, settings, sink, retries=0)
            return time.monotonic() - start, log

        taken()
        before = line_seconds(rig)
        seconds, log = taken()
        wire = line_seconds(rig) - before
    steps = [1000 * (b - a) for a, b in itertools.pairwise(times)]
    overhead = (1000 * (times[-1] - times[0]) - 1000 * wire) / (len(times) - 1) - arguments.exposure_us / 1000
    result: dict[str, Any] = {
        "benchmark": "capture",
        "width": arguments.width,
        "shots": len(plan.shots),
        "seconds": round(seconds, 3),
        "shot_ms": {"median": round(statistics.median(steps), 2), "max": round(max(steps), 2)},
        "serial_ms_a_shot": round(1000 * wire / len(plan.shots), 2),
        "spent_s": log.seconds,
        "bar": {"overhead_ms_a_shot": {"bar": BAR_MS, "measured": round(overhead, 2), "met": overhead <= BAR_MS}},
    }
    print(json.dumps(result, indent=2))
    return 0 if overhead <= BAR_MS else 1


def line_seconds(rig: Rig) -> float:
    """Time that all bytes so far took on the serial lines, ten bits each."""
    ports = [getattr(rig.lights, "statistics", None), getattr(rig.projector, "statistics", None)]
    return sum((p.sent + p.received) * 10 / BAUD for p in ports if p is not None)


if __name__ == "__main__":
    sys.exit(main())
