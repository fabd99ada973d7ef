"""A thread like that of a user interface beside a 20-megapixel capture in the same process: how late is its 5 ms timer?

    python benchmarks/ui_lateness.py [--parts 3]

5472×3648, 8 bits, pre-rendered frames over the real wires, as ``capture_disk.py``; checks, SHA-256, fsync and all. The thread
sleeps 5 ms again and again and notes by how much each sleep was too long: whatever holds the interpreter's lock, or the
processor, makes it late; ``without_cpu_wait_ms`` takes off the time it was ready to run and had no processor (Linux tells),
so that what other programs take can be told from the lock. The same is measured in an idle process first: that is what the
machine alone does. Bar: late by at most 10 ms at the 99th percentile. Prints one JSON object; exits 1 on a miss.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import Limits, PatternRecipe, Recipe, make_plan
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.stepped import capture_stepped

BAR_MS = 10.0
SLEEP_S = 0.005
SIM = "sim://knob_cap?width=5472&samples=1&prerendered=1&latency_ms=0.2&rise_ms=0.1"
RECIPE = Recipe(
    product="knob_cap",
    exposure_us=2000,
    patterns=PatternRecipe(exposure_us=2000, steps=10, directions=(1,)),
    limits=Limits(saturated=1, ambient=1),  # this is about time, not about the light
)


class Timer:
    """Sleeps 5 ms again and again in a thread of its own while the block runs; ``late_ms`` of each sleep, and of that
    ``waited_ms`` for a processor."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.waited_ms: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="like a user interface")

    def __enter__(self) -> Timer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            waited, start = waited_for_cpu_ns(), time.monotonic()
            time.sleep(SLEEP_S)
            self.late_ms.append(1000 * (time.monotonic() - start - SLEEP_S))
            self.waited_ms.append((waited_for_cpu_ns() - waited) / 1e6)

    def figures(self) -> dict[str, Any]:
        """Percentiles of the lateness in ms."""
        late = np.array(self.late_ms)
        p50, p99 = np.percentile(late, (50, 99))
        rest = np.percentile(late - self.waited_ms, 99)
        return {
            "sleeps": len(late),
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
            "max_ms": round(float(late.max()), 2),
            "without_cpu_wait_ms": {"p99": round(float(rest), 2)},
        }


def waited_for_cpu_ns() -> int:
    """Time that this thread was ready to run and did not, since it began; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except OSError:
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=3, help="parts to capture one after the other")
    parts = parser.parse_args().parts
    with Timer() as idle:
        time.sleep(2.0)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory() as folder, Rig.open(SIM) as rig:
        camera = rig.settings.camera.model_copy(update={"pixel_format": "BayerRG8"})
        rig.settings = rig.settings.model_copy(update={"camera": camera})
        plan = make_plan(RECIPE, rig.zones, rig.directions)
        capture_stepped(rig.devices, plan, rig.camera_settings(2000), lambda shot, frame: None, retries=5)
        start = time.monotonic()
        with Timer() as timer:
            for number in range(parts):
                capture(rig, RECIPE, Path(folder) / f"part{number}", part_id="part")
        seconds = time.monotonic() - start
    figures = timer.figures()
    met = figures["p99_ms"] <= BAR_MS
    result = {
        "benchmark": "ui_lateness",
        "cores": os.cpu_count(),
        "load_before": load,
        "shots": parts * len(plan.shots),
        "seconds": round(seconds, 2),
        "idle": idle.figures(),
        "capturing": figures,
        "bar": {"p99_late_ms": {"bar": BAR_MS, "measured": figures["p99_ms"], "met": met}},
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
