"""Nearest neighbours of 784 patches among 16,000 vectors × 768: which share of the product's own rate the search reaches.

    nice python benchmarks/neighbours.py [--queries 784] [--bank 16000] [--dim 768] [--repeats 15]

The rate measured is that of numpy's matrix product of the same matrices, all of it at once into memory that is there already;
torch's stands beside it. Product and search take turns, so that other load meets both; the bar (0.7) holds for the ratio of
the medians of the wall times, and that of CPU times is stated as well, since the machine may be shared. Each answer is
compared with distances in float64 of the same vectors. Where faiss is installed, its approximate search is measured too.
Prints one JSON object; exits 1 on a missed bar.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from coreset import bar, patch_features
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from rakelight.detection.neighbours import SearchBank, nearest, prepare

BAR = 0.7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=784)
    parser.add_argument("--bank", type=int, default=16_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    vectors = patch_features(options.queries + options.bank, options.dim)
    queries, bank = vectors[: options.queries], prepare(vectors[options.queries :])
    load = os.getloadavg()
    jobs: dict[str, Callable[[], Any]] = {
        "product_numpy": numpy_product(queries, bank),
        "search": lambda: nearest(queries, bank),
        "search_k3": lambda: nearest(queries, bank, k=3),
        "product_torch": torch_product(queries, bank),
    }
    if importlib.util.find_spec("faiss"):
        jobs["faiss_hnsw"] = lambda: nearest(queries, bank, approximate="hnsw")
    times = take_turns(jobs, options.repeats)
    flop = 2 * options.queries * options.bank * options.dim
    best = min(("product_numpy", "product_torch"), key=lambda name: times[name]["wall_s"])
    share = times[best]["wall_s"] / times["search"]["wall_s"]
    error = distance_error(queries, bank)
    result: dict[str, Any] = {
        "benchmark": "neighbours",
        "queries": options.queries,
        "bank": options.bank,
        "dim": options.dim,
        "cpus": os.cpu_count(),
        "load_before": [round(x, 1) for x in load],
        "load_after": [round(x, 1) for x in os.getloadavg()],
        "gflop": round(flop / 1e9, 2),
        "faster_product": best,
        "times": {
            name: {k: round(v, 4) for k, v in t.items()} | {"gflop_per_cpu_s": round(flop / 1e9 / t["cpu_s"], 1)}
            for name, t in times.items()
        },
        "share_of_rate_cpu": round(times[best]["cpu_s"] / times["search"]["cpu_s"], 3),
        "largest_relative_distance_error": error,
        "bar": {
            "share_of_rate_wall": bar(round(share, 3), BAR, share >= BAR),
            "exact_to": bar(error, 1e-5, error <= 1e-5),
        },
    }
    if "faiss_hnsw" in jobs:
        result["faiss_error"] = vars(nearest(queries, bank, approximate="hnsw").error)
    print(json.dumps(result, indent=2))
    return 0 if all(b["met"] for b in result["bar"].values()) else 1


def numpy_product(queries: NDArray[np.float32], bank: SearchBank) -> Callable[[], Any]:
    """The whole table of products, into memory already there."""
    out = np.empty((len(queries), len(bank)), np.float32)
    return lambda: np.matmul(queries, bank.vectors.T, out=out)


def torch_product(queries: NDArray[np.float32], bank: SearchBank) -> Callable[[], Any]:
    """The same with torch and as many threads as it takes by itself."""
    import torch

    a, b, out = torch.from_numpy(queries), torch.from_numpy(bank.vectors).T, torch.empty(len(queries), len(bank))
    return lambda: torch.mm(a, b, out=out)


def take_turns(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Medians of wall and CPU seconds (of all threads), each job once a round, after one round that warms up."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            time.sleep(0.05)  # lets the threads of the job before go to sleep
            wall, cpu = time.perf_counter(), time.process_time()
            job()
            if turn:
                spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "wall_s": statistics.median(w for w, _ in runs),
            "best_wall_s": min(w for w, _ in runs),
            "cpu_s": statistics.median(c for _, c in runs),
        }
        for name, runs in spent.items()
    }


def distance_error(queries: NDArray[np.float32], bank: SearchBank) -> float:
    """Largest relative error of the nearest distances of 100 queries, against float64."""
    some = queries[:100]
    true = cdist(some.astype(np.float64) - bank.centre, bank.vectors.astype(np.float64)).min(axis=1)
    return float(np.abs(nearest(some, bank).distance[:, 0] - true).max() / true.min())


if __name__ == "__main__":
    sys.exit(main())
