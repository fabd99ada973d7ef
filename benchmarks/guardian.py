"""kill -9 of the program while lights are lit and a projector shows a pattern: how soon is everything dark?

    python benchmarks/guardian.py [-n 30]

The simulated bench lives in this process, so that its light can be watched; the program that holds the rig is a child, killed
at a random moment. Prints one JSON object; exits 1 unless all are dark within 0.5 s.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rakelight.acquisition.found import rig_toml
from rakelight.acquisition.simulator.bench import Bench, parse_url
from rakelight.reconstruction.patterns import Uniform

BAR_S = 0.5
PROGRAM = f"""
import sys, time
from rakelight.acquisition.rig import Rig
rig = Rig.open(sys.argv[1])
rig.projector.load([{Uniform(1.0).to_plain()!r}])
rig.lights.light((1, 3))
rig.projector.show(2, 0)
print("lit", flush=True)
time.sleep(60)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=30)
    count = parser.parse_args().n
    rng = random.Random(1)
    seconds: list[float | None] = []
    with tempfile.TemporaryDirectory() as folder, Bench(parse_url("sim://knob_cap?width=456&samples=1")) as bench:
        rig = Path(folder) / "rig.toml"
        rig.write_text(rig_toml(bench.settings))
        for _ in range(count):
            child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(rig)], stdout=subprocess.PIPE, text=True)
            assert child.stdout is not None and child.stdout.readline() == "lit\n"
            time.sleep(0.1 + rng.random() * 0.7)
            state = bench.timeline.now()
            assert state.zones and state.direction == 2, "the light must be seen to be lit"
            child.send_signal(signal.SIGKILL)
            seconds.append(darkness(bench))
            child.wait()
            child.stdout.close()
            time.sleep(0.3)  # the guardian closes the ports
    dark = [s for s in seconds if s is not None]
    met = len(dark) == count and max(dark) <= BAR_S
    result = {
        "benchmark": "guardian",
        "kills": count,
        "dark": len(dark),
        "seconds": {"median": round(statistics.median(dark), 4), "max": round(max(dark), 4)} if dark else None,
        "bar": {"all dark within (s)": {"bar": BAR_S, "measured": round(max(dark), 4) if dark else None, "met": met}},
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


def darkness(bench: Bench) -> float | None:
    """Seconds until nothing shines, None after 5 s."""
    start = time.monotonic()
    while time.monotonic() - start < 5:
        state = bench.timeline.now()
        if not state.zones and state.direction is None:
            return time.monotonic() - start
        time.sleep(0.001)
    return None


if __name__ == "__main__":
    sys.exit(main())
