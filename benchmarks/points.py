"""The point branch: farthest points, nearest points, mini-PointNet, interpolation, and the whole encoder, on 20,000 points.

    python benchmarks/points.py [--repeats 7] [--threads 1] [--encoder]

Bars: 1024 farthest of 20,000 points in 50 ms, the same picks as the plain loop; the 128 nearest of each in 40 ms; the rewritten
mini-PointNet 3 times faster than the plain form (the official layers on all groups) and equal to 1e-5. The plain form in
slices of 64 groups is shown too, as it is the fairer of the two on a CPU. Times are the least of the repeats, in CPU seconds
of all threads (wall seconds beside them); --encoder also times the whole encoder with random weights. Prints one JSON
object; exits 1 on a missed bar.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rakelight.detection.features.mini_pointnet import MiniPointNet, fold
from rakelight.detection.features.point_mae import PointMaeEncoder, PointMaeShape
from rakelight.detection.features.points import (
    cell_weights,
    farthest_points,
    interpolation_weights,
    nearest_points,
)

POINTS, GROUPS, GROUP_SIZE = 20_000, 1024, 128
FPS_BAR_S, KNN_BAR_S, SPEED_UP_BAR, EQUAL_BAR = 0.050, 0.040, 3.0, 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--encoder", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    points = surface()
    picks = farthest_points(points, GROUPS)
    centres = points[picks]
    cells = (points[:, :2] * 27.9 / 20).astype(np.int64) @ np.array([1, 28])
    shares = interpolation_weights(points, centres)
    times = {
        "farthest_points": least(lambda: farthest_points(points, GROUPS), options.repeats),
        "nearest_points": least(lambda: nearest_points(points, centres, GROUP_SIZE), options.repeats),
        "three_nearest_weights": least(lambda: interpolation_weights(points, centres), options.repeats),
        "cell_weights": least(lambda: cell_weights(shares, cells, 784), options.repeats),
    }
    groups = torch.from_numpy(points[nearest_points(points, centres, GROUP_SIZE)] - centres[:, None])
    pointnet, deviation = mini_pointnet(groups, max(2, options.repeats // 2))
    times |= pointnet
    if options.encoder:
        times["encoder"] = encoder(groups, torch.from_numpy(centres))
    speed_up = pointnet["mini_pointnet_plain"]["cpu_s"] / pointnet["mini_pointnet"]["cpu_s"]
    same = picks.tolist() == plain_loop(points, GROUPS)
    bars = {
        "farthest_points_s": bar(times["farthest_points"]["cpu_s"], FPS_BAR_S, at_most=True),
        "farthest_points_are_the_plain_loops": {"bar": True, "measured": same, "met": same},
        "nearest_points_s": bar(times["nearest_points"]["cpu_s"], KNN_BAR_S, at_most=True),
        "mini_pointnet_speed_up": bar(round(speed_up, 2), SPEED_UP_BAR, at_most=False),
        "mini_pointnet_deviation": bar(deviation, EQUAL_BAR, at_most=True),
    }
    result = {
        "benchmark": "points",
        "points": POINTS,
        "groups": GROUPS,
        "group_size": GROUP_SIZE,
        "cpus": os.cpu_count(),
        "threads": options.threads,
        "times": times,
        "bar": bars,
    }
    print(json.dumps(result, indent=2))
    return 0 if all(b["met"] for b in bars.values()) else 1


def bar(measured: float, limit: float, *, at_most: bool) -> dict[str, Any]:
    return {"bar": limit, "measured": measured, "met": measured <= limit if at_most else measured >= limit}


def surface() -> NDArray[np.float32]:
    """Points of a wavy part 20 mm a side with 10 µm of noise, in mm."""
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 20, (POINTS, 2))
    z = np.sin(xy[:, 0]) * np.cos(xy[:, 1]) + rng.normal(0, 0.01, POINTS)
    return np.column_stack([xy, z]).astype(np.float32)


def plain_loop(points: NDArray[np.float32], count: int) -> list[int]:
    distances = np.full(len(points), np.inf, np.float32)
    picks = [0]
    while len(picks) < count:
        d = points - points[picks[-1]]
        distances = np.minimum(distances, d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2)
        picks.append(int(distances.argmax()))
    return picks


def mini_pointnet(groups: torch.Tensor, repeats: int) -> tuple[dict[str, Any], float]:
    """Times of the rewritten and the plain form, and the largest deviation over the largest feature."""
    torch.manual_seed(0)
    network = MiniPointNet(384).requires_grad_(False).eval()
    for layer in (network.first_conv[1], network.second_conv[1]):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
        layer.weight.uniform_(0.5, 2)
        layer.bias.normal_(0, 0.1)
    folded = fold(network)

    def plain(some: torch.Tensor) -> torch.Tensor:
        f = network.first_conv(some.transpose(1, 2))
        both = torch.cat([f.max(2, keepdim=True)[0].expand(-1, -1, some.shape[1]), f], 1)
        return network.second_conv(both).max(2)[0]

    with torch.inference_mode():
        expected = torch.cat([plain(some) for some in groups.split(64)])
        deviation = float((folded(groups) - expected).abs().max() / expected.abs().max().clamp(min=1))
        times = {
            "mini_pointnet": least(lambda: folded(groups), repeats),
            "mini_pointnet_plain": least(lambda: plain(groups), repeats),
            "mini_pointnet_plain_in_slices": least(lambda: [plain(some) for some in groups.split(64)], repeats),
        }
    return times, deviation


def encoder(groups: torch.Tensor, centres: torch.Tensor) -> dict[str, float]:
    network = PointMaeEncoder(PointMaeShape()).requires_grad_(False).eval()
    with torch.inference_mode():
        return least(lambda: network(groups, centres), 2)


def least(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Least CPU and wall seconds, after one call that compiles."""
    call()
    cpu, wall = [], []
    for _ in range(repeats):
        start, busy = time.perf_counter(), time.process_time()
        call()
        cpu.append(time.process_time() - busy)
        wall.append(time.perf_counter() - start)
    return {"cpu_s": round(min(cpu), 4), "wall_s": round(min(wall), 4)}


if __name__ == "__main__":
    sys.exit(main())
