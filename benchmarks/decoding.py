"""Speed of fringe decoding at full sensor size, and its accuracy on simulated noise and on real recordings.

Speed: 12 phase shifts + 9 Gray bits, uint8, into memory that is used again, against a copy (``numpy.copyto``) of the same
bytes, read + written, and against whole-image numpy in float32: coordinate, modulation and offset alone (``numpy_lean_s``,
which the bar is about), or all five maps (``numpy_s``). The noise model is given, as in a station that keeps it;
estimating it is timed beside. Ratios are those of the shortest times. If the package ``fringes`` is installed, its
decoding of the 12 phase shifts is timed too.

Accuracy: errors against sigma_px on analytic frames with shot and read noise; on the real recordings of
``../shared/data/structured-light`` the order jumps of slmaster and the agreement of the skull in three codes. Prints one
JSON object; exit code 1 if a bar is missed.

    python benchmarks/decoding.py [--size WIDTHxHEIGHT] [--repeats N] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rakelight.reconstruction.decoding import NoiseModel, Settings, allocate, decode, decode_gray, estimate_noise
from rakelight.reconstruction.pattern_order import check_order
from rakelight.reconstruction.patterns import GrayPhaseShift, MultiFrequency, PatternSet

DATA = Path(__file__).resolve().parents[1] / "../shared/data/structured-light"
CODE = GrayPhaseShift(steps=12, period_px=16)
PATTERNS = PatternSet(3800, 2000, CODE)  # 9 Gray bits with the complementary one
SENSOR = NoiseModel(1.5, 0.4, 64.0)
BARS = {
    "decode_over_copy": ("at most", 5.0),
    "faster_than_numpy": ("at least", 20.0),
    "error_over_sigma": ("within", (0.9, 1.1)),
    "estimated_over_true_noise": ("within", (0.9, 1.1)),
    "second_process_s": ("at most", 2.0),
    "slmaster_order_jumps": ("at most", 0),
    "slmaster_valid_px": ("at least", 205_000),
    "skull_2x3_gray_valid_px": ("at least", 188_277),
    "skull_2x3_gray_within_8px": ("at least", 0.9985),
    "skull_2x3_gray_rms_px": ("at most", 0.83),
    "skull_micro_2x3_rms_px": ("at most", 0.70),
}


def place(height: int, width: int) -> NDArray[np.float32]:
    """Columns that the camera sees of a wavy surface."""
    v, u = np.ogrid[:height, :width]
    x = 3700 * (u / width) + 20 * np.sin(v / 300) + 40
    return np.asarray(np.clip(x, 0, PATTERNS.width - 1), np.float32)


def render(patterns: PatternSet, x: NDArray[Any], **how: Any) -> NDArray[Any]:
    """Frames of columns ``x``: offset and modulation in DN, noise of a sensor or 1 DN, dtype."""
    rng = np.random.default_rng(7)
    dtype, sensor = how.get("dtype", np.uint16), how.get("sensor")
    frames = np.empty((len(patterns.patterns), *x.shape), dtype)
    length = patterns.width
    for frame, pattern in zip(frames, patterns.patterns, strict=True):
        profile = pattern.profile(length).astype(np.float64)
        value = np.interp(x.ravel(), np.arange(length), profile).reshape(x.shape)
        if "gray" in pattern.name:
            value = profile[np.clip(np.rint(x), 0, length - 1).astype(np.int32)]
        elif how.get("exact"):
            value = 0.5 + 0.5 * np.cos(2 * np.pi * (x / pattern.period_px + pattern.step / pattern.steps))
        dn = how["offset"] + how["modulation"] * (2 * value - 1)
        if sensor is not None:
            electrons = rng.poisson(np.maximum(dn - sensor.black_dn, 0) / sensor.dn_per_e)
            dn = sensor.black_dn + sensor.dn_per_e * electrons + rng.normal(0, sensor.read_dn, dn.shape)
        else:
            dn += rng.standard_normal(x.shape, np.float32)
        frame[:] = np.clip(np.rint(dn), 0, np.iinfo(dtype).max)
    return frames


def shortest(runs: list[Callable[[], object]], repeats: int) -> list[float]:
    """Shortest wall time of each, taken in turn after one round to warm up."""
    times: list[list[float]] = [[] for _ in runs]
    for round_ in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if round_:
                taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


Maps = tuple[NDArray[Any], ...]


def numpy_lean(frames: NDArray[Any]) -> Maps:
    """Turn, word, coordinate, modulation and offset as one would write them in float32 numpy."""
    bits, steps = len(PATTERNS.gray_bits("column")), CODE.steps
    angles = (2 * np.pi * np.arange(steps) / steps).astype(np.float32)
    offset = np.zeros(frames.shape[1:], np.float32)
    c, s = np.zeros_like(offset), np.zeros_like(offset)
    for frame, angle in zip(frames[bits:], angles, strict=True):
        values = frame.astype(np.float32)
        offset += values
        c += np.cos(angle) * values
        s -= np.sin(angle) * values
    offset /= steps
    turn = (np.arctan2(s, c) * np.float32(0.5 / np.pi) + np.float32(0.5 / CODE.period_px)) % 1
    word = np.zeros(offset.shape, np.int32)
    bit = np.zeros(offset.shape, np.bool_)
    for frame in frames[:bits]:
        bit ^= frame > offset
        word = (word << 1) | bit
    later = (word + 1) >> 1
    order = np.where(turn < 0.25, later, np.where(turn < 0.75, word >> 1, later - 1))
    modulation = np.sqrt(c * c + s * s) * np.float32(2 / steps)
    return turn, word, CODE.period_px * (order + turn) - np.float32(0.5), modulation, offset


def numpy_all(frames: NDArray[Any], noise: NoiseModel) -> Maps:
    """The five maps of ``decode``."""
    bits, steps, s = len(PATTERNS.gray_bits("column")), CODE.steps, Settings()
    turn, _word, x, modulation, offset = numpy_lean(frames)
    variance = np.float32(noise.read_dn**2) + np.float32(noise.dn_per_e) * np.maximum(offset - noise.black_dn, 0)
    rest = np.zeros_like(offset)
    for frame in frames[bits:]:
        rest += (frame - offset) ** 2
    rest -= np.float32(steps / 2) * modulation**2
    smallest, second = (np.full(offset.shape, np.inf, np.float32) for _ in range(2))
    for frame in frames[:bits]:
        d = np.abs(frame - offset)
        second = np.minimum(second, np.maximum(smallest, d))
        smallest = np.minimum(smallest, d)
    least = np.float32(s.gray_margin) * modulation
    inside = np.abs((2 * turn) % 1 - np.float32(0.5)) < 0.25
    flags = (frames[bits:].max(axis=0) >= s.saturation * 255).astype(np.uint8)
    dark = (modulation < s.least_modulation * 255) | (modulation**2 < s.least_snr**2 * variance)
    limit = (steps - 3) * (s.residual_sigmas**2 * variance + np.float32(s.residual_share**2) * modulation**2)
    others = (
        ((second < least) | (inside & (smallest < least))) * np.uint8(4)
        | ((x < -0.5) | (x > PATTERNS.width - 0.5)) * np.uint8(8)
        | (rest > limit) * np.uint8(16)
    )
    flags |= np.where(dark, np.uint8(2), others)
    sigma = np.float32(CODE.period_px / (2 * np.pi)) * np.sqrt(np.float32(2 / steps) * variance) / modulation
    x[flags != 0] = sigma[flags != 0] = np.nan
    return x, sigma, modulation, offset, flags


def speed(height: int, width: int, repeats: int) -> dict[str, Any]:
    """Times at full size."""
    x = place(height, width)
    frames = render(PATTERNS, x, offset=110.0, modulation=90.0, dtype=np.uint8)
    out, noise = allocate(height, width), NoiseModel(1.0, 0.0, 0.0)
    moved = frames.nbytes + sum(m.nbytes for m in out.maps())
    source = np.ones(moved // 2, np.uint8)
    target = np.ones_like(source)
    start = time.perf_counter()
    decode(frames[:, :64].copy(), PATTERNS, full_scale=255, noise=noise)
    first_s = time.perf_counter() - start
    copy_s, ours_s, estimate_s, order_s = shortest(
        [
            lambda: np.copyto(target, source),
            lambda: decode(frames, PATTERNS, full_scale=255, noise=noise, out=out),
            lambda: estimate_noise(frames, PATTERNS, full_scale=255),
            lambda: check_order(frames, PATTERNS, full_scale=255),
        ],
        repeats,
    )
    numpy_s, lean_s = shortest([lambda: numpy_all(frames, noise), lambda: numpy_lean(frames)], 2)
    theirs = numpy_all(frames, noise)
    both = out.valid & (theirs[4] == 0)
    return {
        "bytes_read_and_written": moved,
        "first_call_s": first_s,
        "copy_s": copy_s,
        "decode_s": ours_s,
        "decode_over_copy": ours_s / copy_s,
        "estimate_noise_s": estimate_s,
        "check_order_s": order_s,
        "numpy_s": numpy_s,
        "numpy_lean_s": lean_s,
        "faster_than_numpy": lean_s / ours_s,
        "valid_share": float(both.mean()),
        "median_error_px": float(np.median(np.abs(out.coordinate - x)[both])),
        "largest_difference_from_numpy_px": float(np.abs(out.coordinate - theirs[0])[both].max()),
        "other_flags_than_numpy_share": float((out.flags != theirs[4]).mean()),
        "fringes": fringes_seconds(frames[-CODE.steps :]),
        "other_codes_s": other_codes(x, repeats),
    }


def other_codes(x: NDArray[np.float32], repeats: int) -> dict[str, float]:
    """Times of further codes at the same size, uint16."""
    times = {}
    for name, code in (("gray_8", GrayPhaseShift()), ("periods_3x8", MultiFrequency())):
        patterns = PatternSet(912, 1140, code)
        frames = render(patterns, x * np.float32(0.24), offset=1600.0, modulation=1400.0)
        out = allocate(*x.shape)
        run = [lambda f=frames, p=patterns, o=out: decode(f, p, full_scale=4095, noise=SENSOR, out=o)]
        times[name] = shortest(run, max(2, repeats // 3))[0]
        del frames
    return times


def fringes_seconds(frames: NDArray[np.uint8]) -> float | str:
    """Seconds that the package ``fringes`` takes for the phase shift of the same frames, or why there is none."""
    if importlib.util.find_spec("fringes") is None:
        return "absent: the package fringes is not installed"
    from fringes import Fringes

    f = Fringes()
    f.X, f.Y, f.D, f.K, f.N, f.v = PATTERNS.width, 1, 1, 1, CODE.steps, PATTERNS.width / CODE.period_px
    stack = frames[..., None]
    f.decode(stack[:, :64], unwrap=False)
    return shortest([lambda: f.decode(stack, unwrap=False)], 1)[0]


def second_process() -> float:
    """Seconds that the first decoding takes in a fresh process that finds the compiled kernel on the disk."""
    program = (
        "import time, numpy as np; from rakelight.reconstruction.decoding import *;"
        "from rakelight.reconstruction.patterns import *;"
        "p = PatternSet(3800, 2000, GrayPhaseShift(12, 16)); f = np.zeros((len(p.patterns), 8, 8), np.uint8);"
        "t = time.perf_counter(); decode(f, p, full_scale=255, noise=NoiseModel(1, 0, 0)); print(time.perf_counter() - t)"
    )
    runs = [subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True) for _ in "ab"]
    return min(float(run.stdout) for run in runs)


def noise_figures() -> dict[str, Any]:
    """Errors against sigma_px, and the estimated against the true noise, on frames with shot and read noise."""
    figures: dict[str, Any] = {"error_over_sigma": {}, "estimated_over_true_noise": {}}
    level = np.linspace(150, 1900, 300)[:, None]
    for name, code in {
        "gray_8": GrayPhaseShift(),
        "gray_4": GrayPhaseShift(4),
        "gray_3": GrayPhaseShift(3),
        "periods_3x8": MultiFrequency(),
    }.items():
        patterns = PatternSet(912, 1140, code)
        x = np.broadcast_to(np.linspace(1, 910, 3000), (300, 3000))
        frames = render(patterns, x, offset=100 + level, modulation=0.9 * level, sensor=SENSOR, exact=True)
        result = decode(frames, patterns, full_scale=4095)
        figures["error_over_sigma"][name] = float(((result.coordinate - x) / result.sigma_px)[result.valid].std())
        levels = np.linspace(300, 1900, 9)
        ratio = np.sqrt(estimate_noise(frames, patterns, full_scale=4095).variance(levels) / SENSOR.variance(levels))
        figures["estimated_over_true_noise"][name] = float(ratio[np.abs(ratio - 1).argmax()])
    return figures


def load(folder: Path, order: Iterable[int]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(folder / f"{i:02d}.png").convert("L")) for i in order])


def recordings(data: Path) -> dict[str, Any]:
    """Figures on slmaster and on the skull; how the images are ordered there is told in the SOURCE.md of each."""
    frames = load(data / "slmaster-12step-gray", [*range(12, 18), *range(6, 12), *range(6)])
    result = decode(frames, PatternSet(1920, 1080, GrayPhaseShift(12, 60)), full_scale=255)
    jumps = [np.abs(np.diff(result.coordinate, axis=axis)) > 30 for axis in (0, 1)]
    skull = data / "slstudio-phase-shift"
    patterns = PatternSet(1820, 1140, MultiFrequency(3, (114.0, 1824.0)))
    phase = decode(load(skull / "skull_2x3", [0, 2, 1, 3, 5, 4]), patterns, full_scale=255)
    gray = load(skull / "skull_gray", range(12))
    plain = decode_gray(gray[2:], threshold=gray[:2].mean(axis=0), least_margin_dn=4, least_contrast_dn=15)
    column = 2 * plain.word + 0.5  # middle of a stripe of 2 px
    both = phase.valid & plain.valid
    chosen = both & (phase.modulation > 25)  # about as many as the figures in SOURCE.md are about
    error = (phase.coordinate - column)[chosen]
    near = np.abs(error) < 8
    # One period of the micro phase shift, less three columns: a set longer than its period is refused.
    one = PatternSet(72, 1140, MultiFrequency(3, (75.02,)))
    micro = decode(load(skull / "skull_microps", range(3)), one, full_scale=255)
    unwrapped = micro.coordinate + 75.02 * np.rint((column - micro.coordinate) / 75.02)
    agree = (unwrapped - phase.coordinate)[chosen & micro.valid]
    agree = agree[np.abs(agree) < 8]
    return {
        "slmaster_order_jumps": int(sum(j.sum() for j in jumps)),
        "slmaster_valid_px": int(result.valid.sum()),
        "skull_2x3_valid_px": int(phase.valid.sum()),
        "skull_2x3_gray_all_valid_px": int(both.sum()),
        "skull_2x3_gray_all_within_8px": float((np.abs(phase.coordinate - column)[both] < 8).mean()),
        "skull_2x3_gray_valid_px": int(chosen.sum()),
        "skull_2x3_gray_within_8px": float(near.mean()),
        "skull_2x3_gray_median_px": float(np.median(error)),
        "skull_2x3_gray_rms_px": float(error[near].std()),
        "skull_micro_2x3_px": int(agree.size),
        "skull_micro_2x3_median_px": float(np.median(agree)),
        "skull_micro_2x3_rms_px": float(agree.std()),
    }


def missed(figures: dict[str, Any]) -> list[str]:
    """Names of the bars that are not met; what was not measured is not judged."""
    met = {
        "at most": lambda value, bar: value <= bar,
        "at least": lambda value, bar: value >= bar,
        "within": lambda value, bar: all(bar[0] <= v <= bar[1] for v in value.values()),
    }
    return [name for name, (how, bar) in BARS.items() if name in figures and not met[how](figures[name], bar)]


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def main() -> int:
    """Measure all and print the figures; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real recordings")
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    figures: dict[str, Any] = {"benchmark": "decoding", "size": args.size, "load_average": os.getloadavg()[0]}
    figures |= speed(height, width, args.repeats)
    figures["second_process_s"] = second_process()
    figures |= noise_figures()
    if args.data.is_dir():
        figures |= recordings(args.data)
    else:
        figures["recordings"] = f"skipped: {args.data.name} is not beside the repository"
    figures["bars"] = {name: f"{how} {bar}" for name, (how, bar) in BARS.items()}
    figures["missed"] = missed(figures)
    print(json.dumps(rounded(figures), indent=2))
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
