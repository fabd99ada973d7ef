"""``import rakelight`` and ``rakelight --help`` load no library that takes long (figures: benchmarks/startup.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "open3d", "cv2", "PySide6", "numba", "scipy", "numpy", "pydantic"}


@pytest.mark.parametrize("arguments", [("-c", "import rakelight"), ("-m", "rakelight", "--help")])
def test_start_loads_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # each line: import time:  self [us] | cumulative | (indented) module
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    assert "rakelight" in loaded
    assert not HEAVY & loaded
    if "--help" in arguments:
        assert "Usage: " in done.stdout
