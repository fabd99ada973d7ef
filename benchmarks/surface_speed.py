"""Seconds and memory of a whole part at 5472×3648: four directions of patterns and photometric stereo, on two cores.

The frames are those of a recording of the simulated rig (a matte knob cap on the table, Bayer, 12 bits in uint16, truth
calibration), made first, which takes 2 to 5 minutes and 4 GB of disk; --recording takes one that is there. A process of its own,
held to two cores, reads them into memory and solves them, once to compile and then several times: every direction checked,
decoded and triangulated as SurfaceBuilder.add_direction does, merging and part mask, then normals and albedo in the second
photometric pass over the measured surface. Best of several runs; the gloss map is timed beside and is in neither sum.

``processor`` is the processor time of both cores: half of it is what the whole cannot go below, however busy the machine is.

Memory: highest resident memory of that process during a run (Linux; VmHWM after a reset) above the frames; interpreter, compiled
code and calibration are in it.

Prints one JSON object; exits 1 when a bar is missed.

    python benchmarks/surface_speed.py [--size WIDTHxHEIGHT] [--recording FOLDER] [--repeats N]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.dataset.recording import Recording
from rakelight.files import canonical_json
from rakelight.pipeline.light_stack import LightStack, frame_camera, load_light_stack
from rakelight.pipeline.second_pass import second_gloss, second_pass
from rakelight.pipeline.surface import Surface, SurfaceBuilder
from rakelight.pipeline.surface_parts import Source, pattern_set_of
from rakelight.pipeline.zone_frames import grey_mean
from rakelight.reconstruction import photometric

PART = "knob_cap"
CORES = 2
BARS = {"total_s": 3.0, "extra_memory_gb": 2.5}
Frames = dict[int, NDArray[Any]]


def load(recording: Recording) -> Frames:
    """Direction → (K, H, W), in the order of the pattern set."""
    patterns = [canonical_json(pattern.to_plain()) for pattern in pattern_set_of(Source.of(recording)).patterns]
    info = recording.info
    shape = info.height, info.width
    found: Frames = {}
    for shot in info.plan:
        if shot.role != "pattern" or shot.pattern is None or shot.bracket != 1:
            continue
        stack = found.setdefault(shot.projector or 1, np.empty((len(patterns), *shape), np.uint16))
        place = patterns.index(canonical_json(shot.pattern))
        stack[place] = grey_mean(recording, [f for f in info.frames if f.shot == shot.name])
    return found


def memory_gb(field: str) -> float:
    """A line of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    line = next(x for x in text.splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) / 1e6 * 1.024


def solve(
    recording: Recording, calibration: RigCalibration, frames: Frames, stack: LightStack, seconds: dict[str, float]
) -> tuple[Surface, photometric.PhotometricResult]:
    """A part; the time of each step goes into ``seconds``."""
    start, used = time.perf_counter(), time.process_time()
    builder = SurfaceBuilder(Source.of(recording), calibration)
    for direction, images in frames.items():
        builder.add_direction(direction, images)
    added = time.perf_counter()
    surface = builder.finish()
    seconds |= {name: round(value, 3) for name, value in builder.seconds.items()}
    del builder  # with the depths of single directions
    finished = time.perf_counter()
    assert calibration.camera is not None
    camera = frame_camera(calibration.camera, recording)
    normals = second_pass(stack, calibration, camera, surface.table_plane, surface.xyz)
    assert normals is not None
    end = time.perf_counter()
    seconds |= {
        "four_directions": round(added - start, 3),
        "finish": round(finished - added, 3),
        "second_pass": round(end - finished, 3),
        "total": round(end - start, 3),
        "processor": round(time.process_time() - used, 3),
    }
    return surface, normals


def warm_up(recording: Recording, calibration: RigCalibration, frames: Frames, stack: LightStack) -> None:
    """Compile, by one run whose result is forgotten."""
    solve(recording, calibration, frames, stack, {})
    gc.collect()


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    """Best of several runs, and the memory of the last."""
    recording = Recording.open(folder)
    calibration = RigCalibration.load(folder / "truth" / "calibration")
    frames, stack = load(recording), load_light_stack(recording, calibration)
    held = sum(stack.nbytes for stack in frames.values()) + sum(f.nbytes for f in stack.frames)
    warm_up(recording, calibration, frames, stack)
    runs: list[dict[str, float]] = []
    peaks: list[float] = []
    for _ in range(repeats):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        seconds: dict[str, float] = {}
        surface, normals = solve(recording, calibration, frames, stack, seconds)
        peaks.append(memory_gb("VmHWM"))
        runs.append(seconds)
        report = {"coverage": surface.report["coverage"], "part_pixels": int(surface.mask.sum())}
        report["solved"] = round(float(normals.solved.mean()), 5)
        if len(runs) < repeats:
            del surface, normals
    best = min(runs, key=lambda run: run["total"])
    camera = frame_camera(calibration.camera, recording) if calibration.camera else None
    assert camera is not None
    gloss = timed(lambda: second_gloss(stack, calibration, camera, surface.table_plane, surface.xyz))
    return {
        "images": {str(d): len(images) for d, images in frames.items()},
        "frames_gb": round(held / 1e9, 3),
        "load_average": os.getloadavg()[0],
        "total_s": best["total"],
        "all_totals_s": [run["total"] for run in runs],
        "steps_s": best,
        "gloss_s": gloss,
        "extra_memory_gb": round(max(peaks) - held / 1e9, 3),
        "result": report,
    }


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return round(time.perf_counter() - start, 3)


def in_a_process_of_its_own(folder: Path, repeats: int) -> dict[str, Any]:
    """On two cores, with as many threads."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    threads = {name: str(CORES) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, __file__, "--measure", str(folder), "--repeats", str(repeats)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | threads,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Make the recording, measure, print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT of the frames (default: %(default)s)")
    parser.add_argument("--recording", type=Path, help="a simulated recording of four projectors; made there if absent")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # the process that is measured
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.repeats)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.recording or Path(temporary) / "recording"
        if not folder.is_dir():
            make(folder, *(int(n) for n in args.size.split("x")))
        found = in_a_process_of_its_own(folder, args.repeats)
        info = Recording.open(folder).info
    bars = {
        name: {"bar": f"at most {bar}", "measured": found[name], "met": found[name] <= bar}
        for name, bar in BARS.items()
    }
    missed = [name for name, bar in bars.items() if not bar["met"]]
    result = {"benchmark": "surface_speed", "size": [info.width, info.height], "cores": CORES, **found}
    print(json.dumps(result | {"bars": bars, "missed": missed}, indent=2, ensure_ascii=False))
    return 1 if missed else 0


def make(folder: Path, width: int, height: int) -> None:
    """The recording; the simulator is imported here, so that the measured process has none of it."""
    from rakelight.pipeline.simulate import Settings, simulate

    simulate(PART, folder, settings=Settings(width, height))


if __name__ == "__main__":
    sys.exit(main())
