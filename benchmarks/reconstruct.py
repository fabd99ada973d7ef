"""Seconds and memory of ``rakelight reconstruct``: four Mono12 zones at full sensor size, with dark frame and flat field.

A recording and a calibration of a bumpy part are made in a temporary folder (or below ``--folder``, to try another disk);
a process of its own then opens, solves and writes them as the command does. Prints one JSON object: seconds of every
step, peak resident memory of that process, bytes written.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rakelight.calibration.flat_field import Dark, FlatField
from rakelight.calibration.rig_calibration import RigCalibration, utc_now
from rakelight.dataset.recording import Description, Recording, Shot
from rakelight.dataset.recording_writer import write_recording
from rakelight.pipeline import outputs
from rakelight.pipeline.reconstruct import reconstruct
from rakelight.reconstruction.models import Light

BLACK = 40
PEAK = 3000.0


def directions() -> np.ndarray:
    """(4, 3) lights right, up, left, down at slant 45°."""
    azimuth = np.deg2rad([0, 90, 180, 270])
    side = np.sqrt(0.5)
    return np.stack([side * np.cos(azimuth), side * np.sin(azimuth), np.full(4, side)], 1).astype(np.float32)


def prepare(folder: Path, width: int, height: int, pixel_format: str) -> None:
    """Write ``folder``/recording and ``folder``/calibration."""
    rng = np.random.default_rng(7)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    p, q = 0.4 * np.sin(u / 90), 0.4 * np.sin(v / 70)
    background = np.hypot(u - width / 2, v - height / 2) > 0.48 * height
    plan = [Shot(name=f"zone{z}", role="zone", zone=z) for z in (1, 2, 3, 4)] + [Shot(name="dark", role="dark")]
    what = Description(part_id="bumpy plate", pixel_format=pixel_format, linear=True, simulated=True, plan=tuple(plan))
    with write_recording(folder / "recording", what) as writer:
        for zone, light in enumerate(directions(), 1):
            frame = (-p * light[0] - q * light[1] + light[2]) / np.sqrt(1 + p * p + q * q) * PEAK
            frame[background] *= 0.02
            frame += rng.standard_normal((height, width), np.float32) * 8 + BLACK
            writer.add(f"zone{zone}", np.clip(frame, 0, 4095).astype(np.uint16))
        writer.add("dark", np.full((height, width), BLACK, np.uint16))
    lights = tuple(Light(zone, d) for zone, d in enumerate(directions(), 1))
    gains = np.full((4, height, width), 30000, np.uint16)
    RigCalibration(
        calibration_id="bench",
        created_utc=utc_now(),
        simulated=True,
        lights=lights,
        flat_field=FlatField((1, 2, 3, 4), gains, np.full(4, 1 / PEAK / 30000, np.float32)),
        dark=Dark(np.full((height, width), BLACK, np.uint16), 1.0),
    ).save(folder / "calibration")


def measure(folder: Path, output: Path) -> dict[str, object]:
    """Open, solve and write once; the kernels must be compiled already."""
    start = time.perf_counter()
    recording, calibration = Recording.open(folder / "recording"), RigCalibration.load(folder / "calibration")
    opened = time.perf_counter()
    result = reconstruct(recording, calibration)
    solved = time.perf_counter()
    solving_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    paths = outputs.save(result, output)
    end = time.perf_counter()
    return {
        "seconds": {
            "open": round(opened - start, 3),
            **result.report["seconds"],
            "solve_all": round(solved - opened, 3),
            "write": round(end - solved, 3),
            "total": round(end - start, 3),
        },
        "peak_rss_mb": {
            "solve": round(solving_mb),
            "write": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        },
        "written_mb": {name: round(path.stat().st_size / 1e6, 1) for name, path in paths.items()},
    }


def main() -> None:
    """Parse options, make the scene, measure in a fresh process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT in pixels (default %(default)s)")
    parser.add_argument("--pixel-format", default="Mono12", choices=["Mono12", "BayerRG12"])
    parser.add_argument("--folder", help="where the temporary folder is made")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        figures = {}
        for name, size in (("warm-up", (64, 48)), ("real", (width, height))):
            folder = Path(temporary) / name
            folder.mkdir()
            prepare(folder, *size, options.pixel_format)
            command = [sys.executable, __file__, "--measure", str(folder), str(folder / "out")]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            figures = json.loads(done.stdout)
    print(
        json.dumps(
            {"benchmark": "reconstruct", "size": [width, height], "pixel_format": options.pixel_format} | figures
        )
    )


if __name__ == "__main__":
    main()
