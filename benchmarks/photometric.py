"""Speed and memory of the photometric solve at full sensor size, against a copy of the same bytes and plain solvers.

Every variant reads the same 4 frames (uint16) with a dark frame and four uint16 gain maps. Ours writes normals, albedo,
flags and confidence into memory that is used again from part to part; the copy (``numpy.copyto``) moves as many bytes,
read + written. The plain solvers do the same corrections and give unit normals and albedo, but no flags and no
confidence, and allocate what they return, as such code does; in float64, numpy's default, and in float32.
Ratios are those of the shortest times, which other jobs on the machine disturb least. Prints one JSON object.

    python benchmarks/photometric.py [--size WIDTHxHEIGHT]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rakelight.reconstruction import photometric

Maps = tuple[np.ndarray, np.ndarray]


def scene(height: int, width: int, defects: float) -> tuple[list[np.ndarray], np.ndarray, photometric.Corrections]:
    """A bumpy 12-bit part under four lights, with a share of saturated and shadowed pixels."""
    rng = np.random.default_rng(7)
    azimuth = np.deg2rad([0, 90, 180, 270])
    slant = np.deg2rad(45)
    lights = np.stack([np.sin(slant) * np.cos(azimuth), np.sin(slant) * np.sin(azimuth), np.full(4, np.cos(slant))], 1)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    p, q = 0.4 * np.sin(u / 90), 0.4 * np.sin(v / 70)
    s = 1 / np.sqrt(1 + p * p + q * q)
    dark = np.full((height, width), 40, np.uint16)
    frames = []
    for light in lights.astype(np.float32):
        frame = (-p * light[0] - q * light[1] + light[2]) * s * 3000 + 40
        frame += rng.standard_normal((height, width), np.float32) * 8
        bad = rng.random((height, width), np.float32)
        frame[bad < defects / 2] = 4095
        frame[bad > 1 - defects / 2] = 41
        frames.append(np.clip(frame, 0, 4095).astype(np.uint16))
    gains = np.full((4, height, width), 30000, np.uint16)
    scales = np.full(4, 0.7071 / 3000 / 30000, np.float32)
    return frames, lights, photometric.Corrections(dark, 1.0, gains, scales)


def seconds(runs: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Wall times of each of ``runs``, taken in turn, after one round to warm up; sorted."""
    times: list[list[float]] = [[] for _ in runs]
    for round_ in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if round_:
                taken.append(time.perf_counter() - start)
    return [sorted(taken) for taken in times]


def in_turn_with_copy(run: Callable[[], object], moved: int, repeats: int) -> list[list[float]]:
    """Wall times of a copy that reads and writes ``moved`` bytes in all, and of ``run``."""
    source = np.ones(moved // 2, np.uint8)  # written, so that it is not the kernel's one zero page
    target = np.ones_like(source)
    return seconds([lambda: np.copyto(target, source), run], repeats)


def peak_mb_during(run: Callable[[], object]) -> float:
    """Largest growth of resident memory while ``run`` works, sampled every millisecond."""
    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        with open("/proc/self/statm") as handle:
            return int(handle.read().split()[1]) * page

    base, peak, done = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident() - base)
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    run()
    done.set()
    thread.join()
    return peak / 1e6


def corrected(frames: list[np.ndarray], c: photometric.Corrections, dtype: type) -> np.ndarray:
    """Dark and flat field undone, (4, H, W)."""
    return np.stack(
        [(f.astype(dtype) - c.dark) * (g * dtype(s)) for f, g, s in zip(frames, c.gains, c.gain_scales, strict=True)]
    )


def lstsq(frames: list[np.ndarray], lights: np.ndarray, c: photometric.Corrections, dtype: type) -> Maps:
    """Normals and albedo by ``numpy.linalg.lstsq`` over all pixels at once."""
    j = corrected(frames, c, dtype)
    b = np.linalg.lstsq(lights.astype(dtype), j.reshape(4, -1), rcond=None)[0].reshape(3, *j.shape[1:])
    albedo = np.linalg.norm(b, axis=0)
    return b / albedo, albedo


def einsum(frames: list[np.ndarray], lights: np.ndarray, c: photometric.Corrections, dtype: type) -> Maps:
    """Normals and albedo by the pseudo-inverse and ``numpy.einsum``."""
    b = np.einsum("ak,khw->hwa", np.linalg.pinv(lights).astype(dtype), corrected(frames, c, dtype))
    albedo = np.sqrt(np.einsum("hwa,hwa->hw", b, b))
    return b / albedo[..., None], albedo


def main() -> int:
    """Run all and print the figures; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument(
        "--defects", type=float, default=0.005, help="share of saturated or dark values (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    width, height = (int(x) for x in args.size.split("x"))
    frames, lights, corrections = scene(height, width, args.defects)
    out = photometric.allocate(height, width)
    for array in (out.planar, out.albedo, out.flags, out.confidence):
        array.fill(0)  # touch the pages, so that they count as output, not as extra

    def ours() -> object:
        return photometric.solve(frames, lights, corrections=corrections, full_scale=4095, out=out)

    moved = height * width * (4 * 2 + 2 + 4 * 2 + 12 + 4 + 1 + 4)
    copy_s, ours_s = in_turn_with_copy(ours, moved, args.repeats)
    figures: dict[str, Any] = {
        "size": args.size,
        "load_average": os.getloadavg()[0],
        "bytes_read_and_written": moved,
        "copy_s": copy_s[0],
        "copy_median_s": statistics.median(copy_s),
        "solve_s": ours_s[0],
        "solve_median_s": statistics.median(ours_s),
        "solve_over_copy": ours_s[0] / copy_s[0],
        "bar_solve_over_copy": 3.0,
        "peak_extra_mb": peak_mb_during(ours),
        "bar_peak_extra_mb": 64,
        "flagged_share": float((out.flags > 0).mean()),
    }
    for solver, bar in ((lstsq, 50), (einsum, 10)):
        for dtype in (np.float64, np.float32):
            name = f"{solver.__name__}_{dtype.__name__}"
            runs = [lambda solver=solver, dtype=dtype: solver(frames, lights, corrections, dtype)]
            theirs = seconds(runs, 3)[0]
            figures |= {
                f"{name}_s": theirs[0],
                f"{name}_median_s": statistics.median(theirs),
                f"faster_than_{name}": theirs[0] / ours_s[0],
            }
        figures[f"bar_faster_than_{solver.__name__}"] = bar
    figures["missed"] = missed(figures)
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}, indent=2))
    return 1 if figures["missed"] else 0


def missed(figures: dict[str, Any]) -> list[str]:
    """The bars that are not met; the peer solvers count in their stricter precision, float32."""
    met = {
        "solve_over_copy": figures["solve_over_copy"] <= figures["bar_solve_over_copy"],
        "peak_extra_mb": figures["peak_extra_mb"] <= figures["bar_peak_extra_mb"],
        "faster_than_lstsq": figures["faster_than_lstsq_float32"] >= figures["bar_faster_than_lstsq"],
        "faster_than_einsum": figures["faster_than_einsum_float32"] >= figures["bar_faster_than_einsum"],
    }
    return [name for name, fine in met.items() if not fine]


if __name__ == "__main__":
    sys.exit(main())
