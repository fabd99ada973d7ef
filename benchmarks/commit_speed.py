"""One sample of full size committed from arrays in memory: how long, against writing the same bytes, and how large.

``python benchmarks/commit_speed.py`` prints one JSON object; exit status 1 if a bar is missed:

- ``over_s``: median time of a commit less the median time to write and fsync files of the same sizes, which are taken in
  turn (bar: 2 s);
- ``mb``: size of the sample on disk (bar: 400 MB).

``cpu_s`` is the processor time of a commit, all threads together: on a computer that is busy otherwise, half of it tells what
two free cores would need.

The arrays are made up, but honest where sizes depend on them: pictures of a textured part with the noise of a sensor of
10,000 e⁻ full well, tone curve 1/2.2; XYZ with 1 µm of noise; normals with 0.2° of noise; the part on a quarter of the field.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rakelight.dataset import layout
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset

FULL_WELL = 10_000
BAR_OVER_S, BAR_MB = 2.0, 400.0


def make_content(width: int, height: int, seed: int) -> SampleContent:
    """A sample with all modalities, the part a disk on a quarter of the field."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    radius = np.sqrt(0.25 * width * height / np.pi)
    part = (u - width / 2) ** 2 + (v - height / 2) ** 2 < radius**2
    texture = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), 1.2)
    texture *= 0.03 / texture.std()
    tilt = 0.2 * np.sin(u / 300), 0.2 * np.cos(v / 250)
    normals = np.dstack([*tilt, np.ones_like(u)]) + rng.standard_normal((height, width, 3), np.float32) * 0.0035
    normals = (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float32)
    normals[~part] = np.nan
    z = 200 - np.where(part, 2 + 0.5 * np.sin(u / 300), 0) + rng.standard_normal((height, width), np.float32) * 0.001
    xyz = np.dstack([(u - width / 2) * 0.01, (v - height / 2) * 0.01, z]).astype(np.float32)
    xyz[rng.random((height, width), np.float32) < 0.01] = np.nan
    lit = [np.where(part, 0.4 + 0.6 * tilt[k % 2] * (1 - k // 2), 0.1) + texture * part for k in range(4)]
    lit.append(np.where(part, 0.5, 0.12) + texture * part)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 : height // 2 + height // 40, width // 2 : width // 2 + width // 20] = 255
    grain = rng.standard_normal((height, width, 3), np.float32) * 0.006
    return SampleContent(
        category="test_part",
        label="scratch",
        timestamp="20250101120000",
        rgb={view: photograph(rng, lit[view - 1]) for view in layout.VIEWS},
        ps=np.nan_to_num(np.rint(127.5 * (normals + 1)), nan=0).astype(np.uint8),
        mask=mask,
        xyz=xyz,
        normals=normals,
        albedo=np.where(part[..., None], (0.5 + texture)[..., None] + grain, np.nan).clip(0.01).astype(np.float32),
        part_mask=part,
        extras={"valid": part.astype(np.uint8) * 255, "flags": (part & (texture > 0.08)).astype(np.uint8)},
        pitch_mm=0.01,
        simulated=True,
    )


def photograph(rng: np.random.Generator, linear: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) irradiance of full well → (H, W, 3) uint8 with shot noise, balanced and brightened."""
    sensitivity = FULL_WELL * np.array((0.5, 1, 0.6), np.float32)  # of R, G, B before the white balance
    electrons = sensitivity * np.clip(linear, 0.005, 1).astype(np.float32)[..., None]
    electrons = electrons + np.sqrt(electrons) * rng.standard_normal((*linear.shape, 3), np.float32)
    return np.rint(255 * np.clip(electrons / sensitivity, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def write_same(folder: Path, sizes: list[int]) -> float:
    """Seconds to write and fsync files of these sizes, one after the other."""
    folder.mkdir()
    data = memoryview(np.random.default_rng(0).bytes(max(sizes)))
    start = time.perf_counter()
    for number, size in enumerate(sizes):
        with open(folder / str(number), "wb", buffering=0) as handle:
            rest = data[:size]
            while rest:
                rest = rest[handle.write(rest) :]
            os.fsync(handle.fileno())
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="5472x3648", help="width x height, px")
    parser.add_argument("-n", type=int, default=3, help="commits")
    parser.add_argument("--folder", type=Path, help="where to write; default: the folder for temporary files")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    width, height = (int(n) for n in arguments.size.split("x"))
    cores = min(2, os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    content = make_content(width, height, arguments.seed)
    commits, writes, busy = [], [], []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        dataset = Dataset.init(Path(place) / "set", "speed")
        with dataset.writer() as writer:
            warm = make_content(320, 240, arguments.seed)  # loads compiled code
            writer.commit(warm)
            for turn in range(arguments.n):
                start, before = time.perf_counter(), time.process_time()
                sample = writer.commit(content)
                commits.append(time.perf_counter() - start)
                busy.append(time.process_time() - before)
                writes.append(write_same(Path(place) / f"same{turn}", [f.bytes for f in sample.files]))
    over = statistics.median(commits) - statistics.median(writes)
    result = {
        "size_px": [width, height],
        "cores": cores,
        "commit_s": [round(s, 3) for s in commits],
        "cpu_s": [round(s, 3) for s in busy],
        "same_bytes_s": [round(s, 3) for s in writes],
        "over_s": round(over, 3),
        "bar_over_s": BAR_OVER_S,
        "mb": round(sample.bytes / 1e6, 1),
        "bar_mb": BAR_MB,
        "files_mb": {Path(f.path).name: round(f.bytes / 1e6, 2) for f in sample.files},
    }
    print(json.dumps(result, indent=2))
    return int(over > BAR_OVER_S or result["mb"] > BAR_MB)  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
