"""Speed, memory and accuracy of the slope integration at full size: ``python benchmarks/integration.py``.

Prints one JSON object; exit code 1 if a bar is missed. Bars at 5472×3648: at most 1.5 s and 300 MB beyond inputs and
output. Accuracy is measured against two closed-form surfaces: a quadratic one, for which the discretisation is exact
and only rounding remains, and a sum of waves.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakelight.reconstruction.integration import integrate_dct, integrate_normals

MAX_SECONDS, MAX_EXTRA_MB = 1.5, 300.0
_TILE = 64  # rows made at a time: the closed forms must not raise the peak that is measured

Float32 = NDArray[np.float32]


def quadratic(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Tilted paraboloid, neither periodic nor flat at the border: z, ∂z/∂x, ∂z/∂y."""
    a, b, c = 1e-5, -2e-5, 0.7e-5
    return a * x * x + b * x * y + c * y * y + 0.1 * x, 2 * a * x + b * y + 0.1, b * x + 2 * c * y


def waves(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Three waves of 5000, 300 and 60 px: z, ∂z/∂x, ∂z/∂y."""
    z = p = q = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for height, along_x, along_y in ((50.0, 5000.0, 4000.0), (5.0, 300.0, 500.0), (0.5, 60.0, 80.0)):
        k, m = 2 * np.pi / along_x, 2 * np.pi / along_y
        z = z + height * np.sin(k * x + 0.3) * np.cos(m * y + 0.1)
        p = p + height * k * np.cos(k * x + 0.3) * np.cos(m * y + 0.1)
        q = q - height * m * np.sin(k * x + 0.3) * np.sin(m * y + 0.1)
    return z, p, q


SURFACES = {"quadratic": quadratic, "waves": waves}


def fill(name: str, rows: int, cols: int) -> tuple[Float32, Float32, Float32]:
    """Height, p and q of one closed form, float32, in viewer coordinates (y up, origin in the middle)."""
    z, p, q = (np.empty((rows, cols), np.float32) for _ in range(3))
    x = np.arange(cols)[None, :] - cols / 2
    for r in range(0, rows, _TILE):
        y = rows / 2 - np.arange(r, min(r + _TILE, rows))[:, None]
        z[r : r + _TILE], p[r : r + _TILE], q[r : r + _TILE] = SURFACES[name](x, y)
    return z, p, q


def seconds(action: Any, repeats: int) -> float:
    """Median wall time of ``repeats`` runs after one that compiles."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def resident_mb() -> float:
    """Memory resident now (Linux), else the highest so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return peak_mb()


def peak_mb() -> float:
    """Highest memory resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def measure_memory(kind: str, rows: int, cols: int) -> float:
    """Peak beyond inputs and output, in MB; meaningful only as the first large thing a process does."""
    small = np.zeros((16, 16), np.float32)
    integrate_dct(small, small)
    integrate_normals(np.ones((16, 16, 3), np.float32))
    _, p, q = fill("waves", rows, cols)
    if kind == "slopes":
        before = resident_mb()
        height = integrate_dct(p, q)
    else:
        planar = np.empty((3, rows, cols), np.float32)
        np.negative(p, out=planar[0])
        np.negative(q, out=planar[1])
        planar[2] = 1  # lengths cancel in the slopes
        del p, q
        before = resident_mb()
        height = integrate_normals(np.moveaxis(planar, 0, -1))
    return peak_mb() - before - height.nbytes / 1e6


def memory_in_child(kind: str, rows: int, cols: int) -> float:
    command = [sys.executable, __file__, "--memory-of", kind, "--rows", str(rows), "--cols", str(cols)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3648)
    parser.add_argument("--cols", type=int, default=5472)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", choices=("slopes", "normals"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows, cols = options.rows, options.cols
    if options.memory_of:
        print(measure_memory(options.memory_of, rows, cols))
        return 0
    result: dict[str, Any] = {"benchmark": "integration", "rows": rows, "cols": cols, "repeats": options.repeats}
    result["extra_peak_mb"] = round(memory_in_child("slopes", rows, cols), 1)
    result["extra_peak_mb_from_normals"] = round(memory_in_child("normals", rows, cols), 1)
    for name in SURFACES:
        z, p, q = fill(name, rows, cols)
        error = integrate_dct(p, q) - (z - z.mean(dtype=np.float64))
        result[name] = {
            "range_px": round(float(np.ptp(z)), 3),
            "rms_error_px": float(np.sqrt(np.mean(error.astype(np.float64) ** 2))),
            "max_error_px": float(np.abs(error).max()),
        }
    result["seconds"] = round(seconds(lambda: integrate_dct(p, q), options.repeats), 4)
    normals = np.moveaxis(np.stack([-p, -q, np.ones_like(p)]), 0, -1)  # lengths cancel in the slopes
    result["seconds_from_normals"] = round(seconds(lambda: integrate_normals(normals), options.repeats), 4)
    result["bars"] = {"seconds": MAX_SECONDS, "extra_peak_mb": MAX_EXTRA_MB}
    result["passed"] = (
        max(result["seconds"], result["seconds_from_normals"]) <= MAX_SECONDS
        and max(result["extra_peak_mb"], result["extra_peak_mb_from_normals"]) <= MAX_EXTRA_MB
    )
    print(json.dumps(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
