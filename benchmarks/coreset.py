"""Choosing the vectors of a memory bank: the lazy farthest-first search against the plain loop, in one run.

    nice python benchmarks/coreset.py [--count 40000] [--share 0.1] [--large] [--features FILE.npy]

The plain loop keeps norms and takes one matrix-vector product a pick; both choose ``share`` of ``count`` × 768 vectors (bars:
the lazy one 6 times faster in wall time, the same set but for ties). ``--large`` chooses 10 % of 156,800 × 768 (a product of
200 parts; bar 90 s) without the plain loop. The vectors are a seeded model of patch features: 60 looks, each spread over 16
dimensions of its own with the heavy tails that rare patches make, and noise in all 768; or those of ``--features`` (N, D).
Wall and CPU seconds and the load of the machine are stated: under load the wall times are those of a share of it. Prints one
JSON object; exits 1 on a missed bar.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.detection.coreset import Coreset, select

DIM = 768
LARGE = 156_800
BAR_FASTER = 6.0
BAR_LARGE_S = 90.0
BAR_SAME = 0.999


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--large", action="store_true", help="156,800 vectors, without the plain loop")
    parser.add_argument("--features", type=Path, help="an .npy file of (N, D) features instead of the model")
    options = parser.parse_args()
    number = LARGE if options.large else options.count
    vectors = np.asarray(np.load(options.features)[:number], np.float32) if options.features else patch_features(number)
    picks = int(len(vectors) * options.share)
    select(vectors[:200], 20)  # loads or compiles the loops
    load = os.getloadavg()
    chosen, lazy = timed(lambda: select(vectors, picks))
    result: dict[str, Any] = {
        "benchmark": "coreset",
        "vectors": list(vectors.shape),
        "data": str(options.features or "seeded model"),
        "picks": len(chosen.indices),
        "radius": round(chosen.radius, 5),
        "cpus": os.cpu_count(),
        "load_before": [round(x, 1) for x in load],
        "lazy": lazy,
    }
    if options.large:
        result["bar"] = {"large_wall_s": bar(lazy["wall_s"], BAR_LARGE_S, lazy["wall_s"] <= BAR_LARGE_S)}
    else:
        (rows, radius), plain = timed(lambda: plain_greedy(vectors, picks))
        faster = plain["wall_s"] / lazy["wall_s"]
        same = len(np.intersect1d(rows, chosen.indices)) / picks
        result |= {"plain": plain | {"radius": round(radius, 5)}, "same_order": same_order(rows, chosen)}
        result["faster_cpu"] = round(plain["cpu_s"] / lazy["cpu_s"], 2)
        result["bar"] = {
            "faster_wall": bar(round(faster, 2), BAR_FASTER, faster >= BAR_FASTER),
            "same_set": bar(round(same, 5), BAR_SAME, same >= BAR_SAME),
        }
    result["load_after"] = [round(x, 1) for x in os.getloadavg()]
    print(json.dumps(result, indent=2))
    return 0 if all(b["met"] for b in result["bar"].values()) else 1


def patch_features(count: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    """(count, dim) float32 like those of picture patches: few intrinsic dimensions, looks of unlike spread, heavy tails."""
    rng = np.random.default_rng(seed)
    looks, inner = 60, 16
    middles = rng.standard_normal((looks, dim), dtype=np.float32) + 2
    spread = rng.gamma(2.0, 0.5, looks).astype(np.float32)
    label = rng.choice(looks, count, p=rng.dirichlet(np.full(looks, 0.7)))
    vectors = rng.standard_normal((count, dim), dtype=np.float32)
    vectors *= 0.15
    for look in range(looks):
        rows = np.flatnonzero(label == look)
        axes = (
            rng.standard_normal((inner, dim), dtype=np.float32) * np.linspace(1, 0.1, inner, dtype=np.float32)[:, None]
        )
        inside = rng.standard_t(4, (len(rows), inner)).astype(np.float32) * spread[look]
        vectors[rows] += middles[look] + inside @ axes * np.float32(0.15)
    return vectors


def plain_greedy(vectors: NDArray[np.float32], picks: int) -> tuple[NDArray[np.int64], float]:
    """Farthest-first with kept norms: one matrix-vector product a pick, from row 0."""
    norms = np.einsum("nd,nd->n", vectors, vectors)
    nearest = np.full(len(vectors), np.inf, np.float32)
    rows, row = [], 0
    for _ in range(picks):
        rows.append(row)
        np.minimum(nearest, norms - 2 * (vectors @ vectors[row]) + norms[row], out=nearest)
        row = int(nearest.argmax())
    return np.array(rows), float(np.sqrt(nearest.max()))


def same_order(rows: NDArray[np.int64], chosen: Coreset) -> float:
    """Share of places in which both picked the same vector."""
    return round(float((rows[: len(chosen.indices)] == chosen.indices).mean()), 5)


def timed(job: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The job's result, its wall seconds and the CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = job()
    return value, {
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
    }


def bar(measured: float, limit: float, met: bool) -> dict[str, Any]:
    """One bar as data."""
    return {"bar": limit, "measured": measured, "met": bool(met)}


if __name__ == "__main__":
    sys.exit(main())
