"""How long the simulation of a data set takes: 120 parts at 456×304, light stack and patterns of four projectors.

    python benchmarks/simulated_dataset.py [--parts 120] [--width 456]

All products take part, every other specimen has a defect. Prints one JSON object; exits 1 above 10 minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from rakelight.dataset.recording import Recording
from rakelight.pipeline.simulate import KINDS, PRODUCTS, Settings
from rakelight.pipeline.simulate_batch import simulate_batch

BAR_S = 600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=120)
    parser.add_argument("--width", type=int, default=456)
    arguments = parser.parse_args()
    each, more = divmod(arguments.parts, len(PRODUCTS))
    seconds, rows = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(PRODUCTS):
            count = each + (number < more)
            result = simulate_batch(
                [name], Path(folder) / name, count, defects=KINDS, settings=Settings(arguments.width)
            )
            seconds += result["seconds"]
            rows += result["recordings"]
        sample = Recording.open(Path(folder) / "knob_cap" / "knob_cap-0000")
        size = sum(p.stat().st_size for p in sample.folder.rglob("*") if p.is_file())
        frames = len(sample.info.frames)
    shares = [row["defect_share"] for row in rows if row["label"] != "OK"]
    result = {
        "benchmark": "simulated_dataset",
        "parts": len(rows),
        "width": arguments.width,
        "frames_a_part": frames,
        "megabytes_a_part": round(size / 1e6, 1),
        "seconds": round(seconds, 1),
        "seconds_a_part": round(seconds / len(rows), 2),
        "labels": dict(sorted(Counter(row["label"] for row in rows).items())),
        "defect_share": {"min": min(shares), "median": round(float(np.median(shares)), 5), "max": max(shares)},
        "bar": {"seconds": {"bar": BAR_S, "measured": round(seconds, 1), "met": seconds <= BAR_S}},
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 0 if seconds <= BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
