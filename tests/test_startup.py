"""``import rakelight`` and ``rakelight --help`` load no library that takes long; compiled code has its place."""

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


def test_compiled_code_has_a_private_place_where_nothing_can_be_written() -> None:
    script = """
import os
os.environ.pop("NUMBA_CACHE_DIR", None)
os.access = lambda *_: False  # as for an account without a home that uses an installation of somebody else's
import rakelight.reconstruction
place = os.environ["NUMBA_CACHE_DIR"]
assert os.path.isdir(place) and (os.name == "nt" or os.stat(place).st_mode & 0o77 == 0)
print(place)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).exists()  # removed at the end
