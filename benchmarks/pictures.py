"""Developing a 20-MP Bayer frame into an 8-bit picture: demosaic, white balance and tone, on one thread, against a copy.

    python benchmarks/pictures.py [--size 5472x3648] [--repeats 9]

The floor is ``numpy.copyto`` of as many bytes as the picture has to move: the raw frame read, the picture written. Beside it
the same result step by step with numpy and the plain demosaic, as a script would. Frames are a smooth part with noise, as a
single uint16 frame and as a float32 mean. Every value is compared with the step-by-step result. Prints one JSON object;
exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.colour import Colour
from rakelight.reconstruction.demosaic import demosaic
from rakelight.reconstruction.development import develop
from rakelight.reconstruction.levels import SATURATION

BAR_S = 0.3  # for 20 MP on one core
FULL = 4095.0
COLOUR = Colour((1.39, 1.0, 1.59), (0.0156, 0.0156, 0.0156))


def part(height: int, width: int) -> NDArray[np.uint16]:
    """A 12-bit mosaic of a smoothly shaded, noisy part."""
    rng = np.random.default_rng(5)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    lit = 64 + 3000 * (0.5 + 0.3 * np.sin(u / 300) * np.cos(v / 240))
    lit[::2, ::2] *= 0.72
    lit[1::2, 1::2] *= 0.63
    lit += rng.standard_normal((height, width), np.float32) * 12
    return np.clip(lit, 0, FULL).astype(np.uint16)


def in_steps(raw: NDArray[Any]) -> NDArray[np.uint8]:
    """The same picture, one operation after the other in float32."""
    rgb = demosaic(raw.astype(np.float32) / np.float32(FULL), "RG")
    black = np.array(COLOUR.black, np.float32)
    gains = np.array(COLOUR.gains, np.float32) / min(COLOUR.gains)
    rgb = np.clip((rgb - black) / (SATURATION - black) * gains, 0, 1).astype(np.float32)
    toned = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** np.float32(1 / 2.4) - 0.055)
    return np.rint(255 * toned).astype(np.uint8)


def shortest_s(job: Callable[[], object], repeats: int) -> float:
    """Of ``repeats`` runs after one that warms up; other jobs on the machine disturb the shortest least."""
    job()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="5472x3648", metavar="WIDTHxHEIGHT")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    width, height = (int(n) for n in options.size.split("x"))
    numba.set_num_threads(1)
    raw = part(height, width)
    mean, tables = raw.astype(np.float32), COLOUR.tables()
    plain = in_steps(raw)
    off = int(np.abs(develop(raw, "RG", tables, FULL).astype(np.int16) - plain).max())
    figures: dict[str, Any] = {}
    for name, frame in (("uint16_frame", raw), ("float32_mean", mean)):
        moved = frame.nbytes + 3 * raw.size
        source = np.ones(moved // 2, np.uint8)
        target = np.ones_like(source)
        copy_s = shortest_s(lambda s=source, t=target: np.copyto(t, s), options.repeats)  # type: ignore[misc]
        taken_s = shortest_s(lambda f=frame: develop(f, "RG", tables, FULL), options.repeats)  # type: ignore[misc]
        figures[name] = {
            "seconds": round(taken_s, 4),
            "mp_per_s": round(raw.size / taken_s / 1e6, 1),
            "bytes_moved": moved,
            "copy_s": round(copy_s, 4),
            "times_copy": round(taken_s / copy_s, 2),
        }
    steps_s = shortest_s(lambda: in_steps(raw), 1)
    slowest = max(f["seconds"] for f in figures.values()) * 5472 * 3648 / raw.size
    met = slowest <= BAR_S and off <= 1
    result = {
        "benchmark": "pictures",
        "size": [width, height],
        "cpus": os.cpu_count(),
        "threads": 1,
        "picture": figures,
        "in_steps_s": round(steps_s, 3),
        "tables_s": round(shortest_s(COLOUR.tables, 3), 5),
        "largest_difference_dn": off,
        "bar": {
            "seconds_per_20_mp": {"bar": BAR_S, "measured": round(slowest, 4), "met": slowest <= BAR_S},
            "difference_dn": {"bar": 1, "measured": off, "met": off <= 1},
        },
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
