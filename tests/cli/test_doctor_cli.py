"""``rakelight doctor`` as its user meets it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rakelight.cli import doctor as command
from rakelight.pipeline import doctor as pipeline
from rakelight.pipeline.doctor_finding import Finding

HEAVY = {"torch", "open3d", "cv2", "PySide6", "numba", "scipy", "numpy", "pydantic", "serial", "harvesters"}
FINE = Finding("numpy", "ok", "2.4 loads → all arrays")
PATH = "/a/" + "very_long_name/" * 6 + "x.cti"
WARNED = Finding("GigE", "warn", "the receive buffer is small " * 6, "sudo sysctl -w net.core.rmem_max=33554432 " * 3)
BROKEN = Finding("camera driver", "fail", f"{PATH} hangs", "plug it again")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command on given findings."""

    def with_findings(found: list[Finding], *arguments: str) -> Any:
        asked: dict[str, Any] = {}

        def examine(output: Path, **options: Any) -> Iterator[Finding]:
            asked.update(options, output=output)
            yield from found

        monkeypatch.setattr(pipeline, "examine", examine)
        monkeypatch.setenv("COLUMNS", "80")
        done = CliRunner().invoke(command.doctor, list(arguments))
        assert asked
        return done

    return with_findings


def test_lines_fit_a_terminal_and_cures_stand_below(run: Any) -> None:
    done = run([FINE, WARNED, BROKEN])
    lines = done.stdout.splitlines()
    assert all(len(line) < 80 or PATH in line for line in lines)
    assert lines[0] == "  ok  numpy               2.4 loads → all arrays"
    assert [line[:6] for line in lines if not line.startswith("     ")][:3] == ["  ok  ", " warn ", " FAIL "]
    assert sum(line.startswith("        cure: ") for line in lines) == 2
    assert any(PATH in line for line in lines)  # a path is never broken
    assert "\x1b" not in done.stdout
    assert "1 ok, 1 to look at, 1 failed" in done.stdout


def test_exit_code_tells_whether_something_failed(run: Any) -> None:
    assert run([FINE, WARNED]).exit_code == 0
    assert "this computer is ready; read the warnings" in run([FINE, WARNED]).stdout
    assert run([FINE, BROKEN]).exit_code == command.NOT_READY == 5
    done = run([FINE, WARNED, BROKEN], "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 5 and told["ready"] is False and told["count"] == {"ok": 1, "warn": 1, "fail": 1}
    assert told["findings"][2] == {"name": BROKEN.name, "state": "fail", "what": BROKEN.what, "cure": BROKEN.cure}


def test_a_report_can_be_written_in_any_alphabet(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    command._say(FINE, 79)
    sys.stdout.flush()
    assert b"2.4 loads ? all arrays" in written.getvalue()


def rakelight(home: Path, *arguments: str, flags: tuple[str, ...] = (), **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, *flags, "-m", "rakelight", *arguments], cwd=home, capture_output=True, text=True,
        encoding="utf-8", timeout=300, env={**os.environ, **environment},
    )  # fmt: skip


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    done = rakelight(tmp_path, "doctor", "--help", flags=("-X", "importtime"))
    assert done.returncode == 0 and "Exit code: 0 when nothing fails" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert not HEAVY & {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.slow
def test_this_computer_with_a_simulated_rig(tmp_path: Path) -> None:
    pytest.importorskip("genicam")
    done = rakelight(tmp_path, "doctor", "sim://knob_cap?width=456&samples=1", "-o", "recordings", "--json")
    told = json.loads(done.stdout)
    found = {finding["name"]: finding for finding in told["findings"]}
    for name in ("python", "packages", "clock", "numpy", "open3d", "numba", "torch", "C compiler", "rig", "rig camera"):
        assert found[name]["state"] == "ok", found[name]
    assert "zones 1, 2, 3, 4" in found["rig lights"]["what"] and "directions" in found["rig projector"]["what"]
    assert done.returncode == (5 if told["count"]["fail"] else 0)
    assert all(bool(finding["cure"]) == (finding["state"] != "ok") for finding in told["findings"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_broken_libraries_do_not_stop_doctor(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    for name in ("numpy", "serial", "pydantic"):
        (broken / name).mkdir(parents=True)
        (broken / name / "__init__.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    done = rakelight(tmp_path, "doctor", "rig.toml", PYTHONPATH=str(broken))
    assert done.returncode == 5, done.stderr
    assert " FAIL numpy" in done.stdout and " FAIL rig" in done.stdout and "  ok  clock" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr and "defect" not in done.stdout
