"""Whether teaching and scoring twice, in processes of their own, gives the same bits.

    python benchmarks/determinism.py --dataset FOLDER [--category knob_cap] [--parts 10] [--score 6] [--method d3m]

Two processes with the same number of threads teach the same good parts, write the model and score the same other parts: the
SHA-256 of ``model.safetensors``, of ``model.json`` and every score, p-value and map must be equal (the bar). A third process has
one thread: sums are then added in another order, and how far scores and maps differ from the first two's is told. Prints one
JSON object; exits 1 if two equal runs differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHILD = "RAKELIGHT_DETERMINISM_CHILD"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def teach_and_score(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """In a child: hashes of the model, and what it says of parts that it does not know."""
    import numpy as np

    from rakelight.dataset.opened import OpenSample, open_samples
    from rakelight.dataset.writer import Dataset
    from rakelight.detection import model_file
    from rakelight.detection.methods import make_method
    from rakelight.files import sha256_bytes, sha256_file
    from rakelight.pipeline.detect_teach import good_keys, load_for, teach_category

    dataset = Dataset.open(options.dataset)
    keys = good_keys(dataset, options.category, limit=options.parts)
    detector, _ = teach_category(dataset, options.category, keys, make_method(options.method, seed=options.seed))
    model_file.save(detector, folder / "model")
    loaded = model_file.load(folder / "model")
    taught = {part.key for part in detector.parts}
    others = [s.key for s in open_samples(dataset.root, options.category) if str(s.key) not in taught]
    verdicts = {}
    maps = []
    for key in others[:: max(1, len(others) // options.score)]:
        verdict = loaded.score(load_for(loaded, OpenSample(dataset.root, key)))
        maps.append(verdict.map)
        verdicts[str(key)] = {
            "score": verdict.judgement.score,
            "p_value": verdict.judgement.p_value,
            "banks": dict(verdict.scored.scores),
            "map_sha256": sha256_bytes(np.ascontiguousarray(verdict.map).tobytes()),
        }
    np.save(folder / "maps.npy", np.stack(maps))
    return {
        "arrays_sha256": sha256_file(folder / "model" / model_file.ARRAYS),
        "document_sha256": sha256_file(folder / "model" / model_file.DOCUMENT),
        "vectors": sum(len(bank) for bank in detector.banks.values()),
        "verdicts": verdicts,
    }


def run(arguments: list[str], folder: Path, threads: int) -> dict[str, Any]:
    folder.mkdir()
    limits = dict.fromkeys(THREADS, str(threads))
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **limits, CHILD: str(folder)},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"wall_s": round(time.perf_counter() - started, 1)}


def differences(first: dict[str, Any], second: dict[str, Any], folders: tuple[Path, Path]) -> dict[str, Any]:
    """How far the verdicts of two runs are apart; maps in robust standard deviations of good parts' pixels."""
    import numpy as np

    pairs = [(first["verdicts"][key], second["verdicts"][key]) for key in first["verdicts"]]
    maps = [np.load(folder / "maps.npy") for folder in folders]
    return {
        "same_arrays": first["arrays_sha256"] == second["arrays_sha256"],
        "same_document": first["document_sha256"] == second["document_sha256"],
        "same_verdicts": first["verdicts"] == second["verdicts"],
        "largest_score_difference": max(abs(a["score"] - b["score"]) for a, b in pairs),
        "largest_p_value_difference": max(abs(a["p_value"] - b["p_value"]) for a, b in pairs),
        "largest_map_difference": float(np.nanmax(np.abs(maps[0] - maps[1]))),
        "vectors": [first["vectors"], second["vectors"]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--category", default="knob_cap")
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--score", type=int, default=6)
    parser.add_argument("--method", default="d3m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    if os.environ.get(CHILD):
        print(json.dumps(teach_and_score(options, Path(os.environ[CHILD]))))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("first", "second", "one_thread")]
        counts = (options.threads, options.threads, 1)
        runs = [run(sys.argv[1:], f, n) for f, n in zip(folders, counts, strict=True)]
        twice = differences(runs[0], runs[1], (folders[0], folders[1]))
        one = differences(runs[0], runs[2], (folders[0], folders[2]))
    met = bool(twice["same_arrays"] and twice["same_document"] and twice["same_verdicts"])
    result = {
        "benchmark": "determinism",
        "category": options.category,
        "method": options.method,
        "parts": options.parts,
        "threads": options.threads,
        "twice": twice,
        "with_one_thread": one,
        "wall_s": [r["wall_s"] for r in runs],
        "scores": {key: told["score"] for key, told in runs[0]["verdicts"].items()},
        "bar": {"bar": "two runs with equal threads: equal bits", "met": met},
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
