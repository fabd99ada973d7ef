"""Normals of every simulated product against the truth: 1368×912 Bayer, four zones, flat field, true calibration.

    python benchmarks/materials.py [--width 1368] [--seeds 3]

Prints one JSON object; exits 1 when the matte part (knob_cap) misses its bar of 1.0° mean on smooth areas. The other
materials are reported without a bar: gloss is what a Lambertian solver cannot know.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.pipeline.simulate import PRODUCTS, Settings, simulate

BAR_DEG = 1.0
MATTE = "knob_cap"


def measure(name: str, seeds: int, settings: Settings, folder: Path) -> dict[str, Any]:
    """Mean figures over the specimens 0 … seeds − 1 of a product."""
    found = []
    for seed in range(seeds):
        where = folder / f"{name}-{seed}"
        simulate(name, where, seed=seed, settings=settings)
        report = reconstruct(Recording.open(where), RigCalibration.load(where / "truth" / "calibration")).report
        found.append(report["truth"])
    return {
        "material": PRODUCTS[name].material,
        **{
            area: {
                key: round(float(np.mean([f[area][key] for f in found])), 3)
                for key in ("pixels", "solved", "mean_deg", "median_deg", "p95_deg")
            }
            for area in ("smooth", "part")
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1368)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    settings = Settings(arguments.width, pattern_set=None)
    with tempfile.TemporaryDirectory() as folder:
        products = {name: measure(name, arguments.seeds, settings, Path(folder)) for name in PRODUCTS}
    reached = products[MATTE]["smooth"]["mean_deg"]
    result = {
        "benchmark": "materials",
        "width": arguments.width,
        "seeds": arguments.seeds,
        "bar": {f"{MATTE} smooth mean (deg)": {"bar": BAR_DEG, "measured": reached, "met": reached <= BAR_DEG}},
        "products": products,
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 0 if reached <= BAR_DEG else 1


if __name__ == "__main__":
    sys.exit(main())
