"""How long the command needs before it does anything: median wall time of nine starts of each, as JSON."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9
BAR_S = 0.3


def median_s(command: list[str]) -> float:
    """Median wall time of ``RUNS`` starts of ``command``, after one that fills the caches."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> int:
    script = Path(sys.executable).with_name("rakelight.exe" if sys.platform == "win32" else "rakelight")
    figures = {
        "empty_python_s": median_s([sys.executable, "-c", ""]),
        "import_s": median_s([sys.executable, "-c", "import rakelight"]),
        "help_s": median_s([str(script), "--help"]),
    }
    result = {
        "benchmark": "startup",
        "runs": RUNS,
        **{name: round(value, 3) for name, value in figures.items()},
        "bar_s": BAR_S,
        "met": figures["import_s"] < BAR_S and figures["help_s"] < BAR_S,
        "python": platform.python_version(),
    }
    print(json.dumps(result))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
