"""Unpacking packed pixels at 5472×3648: gigabytes of packed input a second, each format, against the bar of 1 GB/s.

    python benchmarks/unpack.py [--repeats 20]

What the camera's child process does with each frame: a fresh array for the pixels, all groups of two or four unpacked into it.
Each result is compared with values that were packed beforehand. Prints one JSON object; exits 1 on a missed bar.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import numba
import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.pixel_formats import packed_bytes
from rakelight.acquisition.unpack import unpack

WIDTH, HEIGHT = 5472, 3648
BAR_GB_PER_S = 1.0
FORMATS = ("Mono10p", "Mono12p", "Mono10Packed", "Mono12Packed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(1)
    speeds: dict[str, dict[str, float]] = {}
    for name in FORMATS:
        bits = int(name[4:6])
        values = rng.integers(0, 1 << bits, WIDTH * HEIGHT, dtype=np.uint16)
        data = pack_p(values, bits) if name.endswith("p") else pack_gige(values, bits)
        assert len(data) == packed_bytes(name, WIDTH, HEIGHT)
        if not np.array_equal(unpack(data, name, WIDTH, HEIGHT).reshape(-1), values):  # also compiles
            raise SystemExit(f"{name} is unpacked wrongly")
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            image = unpack(data, name, WIDTH, HEIGHT)
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        speeds[name] = {
            "input_gb_per_s": round(len(data) / median / 1e9, 3),
            "output_gb_per_s": round(image.nbytes / median / 1e9, 3),
            "ms_a_frame": round(1000 * median, 2),
            "best_ms": round(1000 * min(seconds), 2),
        }
    slowest = min(speed["input_gb_per_s"] for speed in speeds.values())
    met = slowest >= BAR_GB_PER_S
    result = {
        "benchmark": "unpack",
        "size": [WIDTH, HEIGHT],
        "threads": numba.get_num_threads(),
        "formats": speeds,
        "bar": {"input_gb_per_s": {"bar": BAR_GB_PER_S, "measured": slowest, "met": met}},
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


def pack_p(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """PFNC ``p``: one stream of bits, least significant first; the number of values fills whole groups."""
    group = {10: 4, 12: 2}[bits]
    shifts = np.arange(group, dtype=np.uint64) * np.uint64(bits)
    words = (values.reshape(-1, group).astype(np.uint64) << shifts).sum(axis=1, dtype=np.uint64)
    return np.ascontiguousarray(words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : group * bits // 8]).reshape(-1)


def pack_gige(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """GigE Vision ``Packed``: high bits of two pixels in bytes 0 and 2, their low bits in byte 1."""
    low = bits - 8
    a, b = values[0::2], values[1::2]
    mask = np.uint16((1 << low) - 1)
    rows = np.stack([a >> low, (a & mask) | ((b & mask) << 4), b >> low], axis=1)
    return np.ascontiguousarray(rows.astype(np.uint8)).reshape(-1)


if __name__ == "__main__":
    sys.exit(main())
