"""kill -9 while samples are committed and changed (the full run is ``benchmarks/commit_kill.py -n 200``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks/commit_kill.py"


def test_kill_at_random_instants_tears_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "-n", "40", "--seed", "7", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == 40
    assert [result[name] for name in ("torn", "lost", "undone", "index_wrong")] == [0, 0, 0, 0]
    assert result["reported"] > result["committed"] > 0
    assert result["quarantined"] > 0  # kills did land within commits
    assert result["recovery_s"]["max"] < 10  # the bar of the benchmark is 2 s; the machine may be busy
    assert done.returncode == 0
