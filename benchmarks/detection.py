"""Every method on a data set from our own scene: figures, which modality is named, time to teach and to score.

    python benchmarks/detection.py --dataset FOLDER [--methods d3m m3dm …] [--parts 20]
    python benchmarks/detection.py --make FOLDER        # renders 144 parts and builds the data set first (about 25 minutes)

Three products of different material (knob_cap, machined_flange, ceramic_insulator), 24 good and 24 defective each, four kinds
of defect, seeds 0–47, 912×608. The first 20 good parts of each product are taught, all others tested, with the embedded
features. Prints one JSON object; exits 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rakelight.dataset.writer import Dataset
from rakelight.detection.detector import Detector
from rakelight.detection.methods import METHODS, make_method
from rakelight.pipeline.addition_list import additions_of
from rakelight.pipeline.dataset_add import add
from rakelight.pipeline.detect_compare import compare
from rakelight.pipeline.detect_configurations import Configuration
from rakelight.pipeline.detect_evaluate import Tested
from rakelight.pipeline.simulate import Settings
from rakelight.pipeline.simulate_batch import simulate_batch

PRODUCTS = ("knob_cap", "machined_flange", "ceramic_insulator")
DEFECTS = ("scratch", "dent", "stain", "missing_feature")
BARS = {"i_auroc": 0.90, "p_auroc_inside": 0.93, "aupro_0.3": 0.80}
SEES = {"stain": ("rgb",), "dent": ("ps", "xyz"), "scratch": ("rgb", "ps"), "missing_feature": ("rgb", "ps", "xyz")}
SEEN_BAR = 0.8


def make(folder: Path) -> Path:
    """Recordings and the data set of them below ``folder``; what is there is kept."""
    recordings = folder / "recordings"
    simulate_batch(PRODUCTS, recordings, 48, defects=DEFECTS, settings=Settings(912))
    place = folder / "set"
    dataset = Dataset.open(place) if place.exists() else Dataset.init(place, "simulated")
    failed = [r.error for r in add(dataset, additions_of([recordings], truth=True)) if r.error]
    if failed:
        raise SystemExit(f"cannot add: {failed[0]}")
    return place


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--make", type=Path)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--categories", nargs="+", default=list(PRODUCTS))
    arguments = parser.parse_args()
    if arguments.dataset is None and arguments.make is None:
        parser.error("name a --dataset, or --make one")
    dataset = Dataset.open(arguments.dataset or make(arguments.make))
    methods = [make_method(name) for name in arguments.methods]
    told: dict[str, list[tuple[str, bool, str]]] = {}

    def watch(configuration: Configuration, _: str, __: Detector, one: Tested) -> None:
        verdict = one.verdict
        told.setdefault(configuration.name, []).append((one.label, verdict.judgement.rejected, verdict.seen_by))

    found = compare(
        dataset,
        arguments.categories,
        methods,
        parts=arguments.parts,
        resamples=200,
        watch=watch,
        progress=lambda name, done, total: print(f"\r{name} {done}/{total}    ", end="", file=sys.stderr),
    )
    means = {
        name: {figure: e.mean[figure].value for figure in (*BARS, "aupro_0.01", "i_f1_max")}
        for name, e in found.evaluations.items()
    }
    by_product = {
        name: {c: {figure: m.all[figure].value for figure in BARS} for c, m in e.categories.items()}
        for name, e in found.evaluations.items()
    }
    seen = {name: named(rows) for name, rows in told.items()}
    seen_rejected = {name: named([row for row in rows if row[1]]) for name, rows in told.items()}
    wrong = []
    if "d3m" in means:
        wrong = [f"d3m {k}: {means['d3m'][k]} below {bar}" for k, bar in BARS.items() if (means["d3m"][k] or 0) < bar]
        singles = [n for n in means if n in ("patchcore-rgb", "patchcore-ps", "pointmae")]
        for figure in BARS:
            better = [n for n in singles if (means[n][figure] or 0) > (means["d3m"][figure] or 0)]
            wrong += [f"d3m {figure} is below {n}" for n in better]
        wrong += [f"d3m names the wrong modality: {k} {v:.2f}" for k, v in seen["d3m"].items() if v < SEEN_BAR]
    figures = {
        "means": means,
        "products": by_product,
        "modality_named_rightly": seen,
        "modality_named_rightly_of_rejected": seen_rejected,
        "seconds": found.seconds,
        "missed": wrong,
        "bars": BARS,
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }
    print(json.dumps(figures, indent=2))
    return 1 if wrong else 0


def named(rows: list[tuple[str, bool, str]]) -> dict[str, float]:
    """Share of the parts of each kind of defect whose verdict names a modality that sees it."""
    found = {}
    for kind, sees in SEES.items():
        names = [name for label, _, name in rows if label == kind]
        if names:
            found[kind] = round(sum(name in sees for name in names) / len(names), 3)
    return found


if __name__ == "__main__":
    sys.exit(main())
