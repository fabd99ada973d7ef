"""5472×3648 8-bit, pre-rendered shots to disk with SHA-256 and fsync: frames a second, and memory of all processes.

    python benchmarks/capture_disk.py

Over the real wires, as ``capture.py``. A first pass renders the pictures; the second is recorded. Memory is the summed
proportional set size (PSS) at its peak: of the rig's processes (this one, camera, guardian), and of the simulated bench, whose
scene and pre-rendered pictures no real rig has. Bars: ≥ 12 frames/s, ≤ 1.5 GB. Prints one JSON object; exits 1 on a miss.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path

from rakelight.acquisition.capture import capture
from rakelight.acquisition.recipe import Limits, PatternRecipe, Recipe, make_plan
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.stepped import capture_stepped

BAR_FPS, BAR_GB = 12.0, 1.5
SIM = "sim://knob_cap?width=5472&samples=1&prerendered=1&latency_ms=0.2&rise_ms=0.1"
RECIPE = Recipe(
    product="knob_cap",
    exposure_us=2000,
    patterns=PatternRecipe(exposure_us=2000, steps=10),
    limits=Limits(saturated=1, ambient=1),  # this is about speed, not about the light
)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, Rig.open(SIM) as rig:
        camera = rig.settings.camera.model_copy(update={"pixel_format": "BayerRG8"})
        rig.settings = rig.settings.model_copy(update={"camera": camera})
        plan = make_plan(RECIPE, rig.zones, rig.directions)
        capture_stepped(rig.devices, plan, rig.camera_settings(2000), lambda shot, frame: None, retries=0)
        with Memory() as memory:
            start = time.monotonic()
            capture(rig, RECIPE, Path(folder) / "part", part_id="part")
            seconds = time.monotonic() - start
    fps = len(plan.shots) / seconds
    result = {
        "benchmark": "capture_disk",
        "shots": len(plan.shots),
        "seconds": round(seconds, 2),
        "peak_pss_gb": {name: round(value / 1e9, 2) for name, value in memory.peak.items()},
        "bar": {
            "frames_per_s": {"bar": BAR_FPS, "measured": round(fps, 2), "met": fps >= BAR_FPS},
            "rig_pss_gb": {
                "bar": BAR_GB,
                "measured": round(memory.peak["rig"] / 1e9, 2),
                "met": memory.peak["rig"] <= BAR_GB * 1e9,
            },
        },
    }
    print(json.dumps(result, indent=2))
    return 0 if all(bar["met"] for bar in result["bar"].values()) else 1


class Memory:
    """Samples the PSS of this process and all below it, ten times a second, in bytes; Linux only, otherwise 0."""

    def __init__(self) -> None:
        self.peak = {"rig": 0, "bench": 0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            now = {"rig": 0, "bench": 0}
            for process in _processes():
                command = (process / "cmdline").read_bytes()
                now["bench" if b"simulator.bench" in command else "rig"] += _pss(process)
            self.peak = {name: max(value, now[name]) for name, value in self.peak.items()}


def _processes() -> list[Path]:
    """This process and its children in /proc."""
    own = Path("/proc/self").resolve()
    found = [own] if (own / "task").is_dir() else []
    for task in own.glob("task/*/children"):
        found += [own.parent / pid for pid in task.read_text().split()]
    return found


def _pss(process: Path) -> int:
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main())
