"""How much faster two worker processes derive 40 samples again than one, with one thread each, and one with two threads.

    python benchmarks/dataset_rebuild.py [--recordings FOLDER] [-n 40] [--width 912]

Renders simulated parts into FOLDER unless they are there (a temporary folder by default), adds them to a data set, and
rebuilds it by force with each crew; the cluster's start is part of the time. Prints one JSON object; exits 1 if two
single-threaded workers are below 1.7 times one, or slower than one of two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rakelight.dataset.writer import Dataset
from rakelight.pipeline.addition_list import additions_of
from rakelight.pipeline.dataset_add import add
from rakelight.pipeline.dataset_rebuild import Wish, rebuild
from rakelight.pipeline.many import Crew
from rakelight.pipeline.simulate import Settings
from rakelight.pipeline.simulate_batch import simulate_batch

BAR = 1.7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("-n", "--count", type=int, default=40)
    parser.add_argument("--width", type=int, default=912)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        places = arguments.recordings or Path(temporary) / "recordings"
        if len(list(places.glob("knob_cap-*/recording.json"))) < arguments.count:
            simulate_batch(["knob_cap"], places, arguments.count, defects=["dent"], settings=Settings(arguments.width))
        chosen = sorted(p for p in places.glob("knob_cap-*") if p.is_dir())[: arguments.count]
        dataset = Dataset.init(Path(temporary) / "set", "rebuilt")
        failed = [r.error for r in add(dataset, additions_of(chosen, truth=True)) if r.error]
        if failed:
            raise SystemExit(f"cannot add: {failed[0]}")
        seconds: dict[str, float] = {}
        for _ in range(arguments.repeats):
            for workers, threads in ((1, 1), (2, 1), (1, 2)):
                name = f"{workers} x {threads}"
                started = time.perf_counter()
                done = list(rebuild(dataset, Wish(force=True), crew=Crew("local", workers, threads)))
                took = time.perf_counter() - started
                if any(r.error for r in done) or len(done) != arguments.count:
                    raise SystemExit(f"{name}: {[r.error for r in done if r.error]}")
                seconds[name] = min(took, seconds.get(name, took))
    ratio = seconds["1 x 1"] / seconds["2 x 1"]
    figures = {
        "recordings": arguments.count,
        "width_px": arguments.width,
        "seconds, workers x threads": {k: round(v, 2) for k, v in seconds.items()},
        "two_over_one": round(ratio, 3),
        "bar": BAR,
        "two_over_one_of_two_threads": round(seconds["1 x 2"] / seconds["2 x 1"], 3),
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }
    print(json.dumps(figures, indent=2))
    return 0 if ratio >= BAR and seconds["2 x 1"] <= seconds["1 x 2"] else 1


if __name__ == "__main__":
    sys.exit(main())
