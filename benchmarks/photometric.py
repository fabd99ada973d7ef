"""Speed and memory of the photometric solve at full sensor size, against a copy of the same bytes and plain solvers.

Every variant reads the same 4 frames (uint16) with a dark frame and four uint16 gain maps and writes normals, albedo, flags
and confidence; the copy moves as many bytes (read + written) with ``numpy.copyto``. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

from rakelight.reconstruction import photometric


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


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of ``repeats`` runs after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


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


def lstsq(frames: list[np.ndarray], lights: np.ndarray, c: photometric.Corrections) -> object:
    """``numpy.linalg.lstsq`` over all pixels at once."""
    j = np.stack(
        [(f.astype(np.float32) - c.dark) * g * s for f, g, s in zip(frames, c.gains, c.gain_scales, strict=True)]
    )
    b = np.linalg.lstsq(lights.astype(np.float32), j.reshape(4, -1), rcond=None)[0]
    albedo = np.linalg.norm(b, axis=0)
    return b / albedo


def einsum(frames: list[np.ndarray], lights: np.ndarray, c: photometric.Corrections) -> object:
    """Pseudo-inverse by ``numpy.einsum``."""
    j = np.stack(
        [(f.astype(np.float32) - c.dark) * g * s for f, g, s in zip(frames, c.gains, c.gain_scales, strict=True)]
    )
    b = np.einsum("ak,khw->hwa", np.linalg.pinv(lights).astype(np.float32), j)
    albedo = np.sqrt(np.einsum("hwa,hwa->hw", b, b))
    return b / albedo[..., None]


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument(
        "--defects", type=float, default=0.005, help="share of saturated or dark values (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    width, height = (int(x) for x in args.size.split("x"))
    frames, lights, corrections = scene(height, width, args.defects)
    out = photometric.allocate(height, width)
    for array in (out.planar, out.albedo, out.flags, out.confidence):
        array.fill(0)  # touch the pages, so that they count as output, not as extra

    def ours() -> object:
        return photometric.solve(frames, lights, corrections=corrections, full_scale=4095, out=out)

    moved = height * width * (4 * 2 + 2 + 4 * 2 + 12 + 4 + 1 + 4)
    source = np.ones(moved // 2, np.uint8)  # written, so that it is not the kernel's one zero page
    target = np.ones_like(source)
    copy_s = seconds(lambda: np.copyto(target, source), args.repeats)
    ours_s = seconds(ours, args.repeats)
    figures = {
        "size": args.size,
        "bytes_read_and_written": moved,
        "copy_s": copy_s,
        "solve_s": ours_s,
        "solve_over_copy": ours_s / copy_s,
        "bar_solve_over_copy": 3.0,
        "peak_extra_mb": peak_mb_during(ours),
        "bar_peak_extra_mb": 64,
        "flagged_share": float((out.flags > 0).mean()),
    }
    del source, target
    lstsq_s = seconds(lambda: lstsq(frames, lights, corrections), 1)
    einsum_s = seconds(lambda: einsum(frames, lights, corrections), 1)
    figures |= {
        "lstsq_s": lstsq_s,
        "faster_than_lstsq": lstsq_s / ours_s,
        "bar_faster_than_lstsq": 50,
        "einsum_s": einsum_s,
        "faster_than_einsum": einsum_s / ours_s,
        "bar_faster_than_einsum": 10,
    }
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
