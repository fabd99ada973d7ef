"""``rakelight detect watch`` as its user meets it: a data set that another process fills, a PLC, Ctrl-C, a simulated rig."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from rakelight.cli import cli
from rakelight.dataset.recording import Recording
from rakelight.dataset.sample import SampleContent
from rakelight.dataset.writer import Dataset
from rakelight.errors import RakelightError, StorageError

SIZE = (96, 128)


def disc(seed: int, *, fault: bool = False) -> SampleContent:
    rng = np.random.default_rng(seed)
    v, u = np.indices(SIZE, dtype=np.float32)
    mask = np.hypot(u - 66, v - 46) <= 34
    rgb = {}
    for view in (1, 2, 3, 4, 5):
        picture = np.repeat((np.where(mask, 150, 60) + rng.normal(0, 4, SIZE))[..., None], 3, axis=2)
        if fault:
            picture[np.hypot(u - 72, v - 40) <= 9] = (220, 40, 40)
        rgb[view] = np.clip(picture, 0, 255).astype(np.uint8)
    return SampleContent("disc", "stain" if fault else "OK", "0" * 14, rgb, part_mask=mask)


def rakelight(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rakelight", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return subprocess.Popen(command, **pipes, **options)


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    child = rakelight(*arguments, cwd=home)
    out, err = child.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, child.returncode, out, err)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set ``parts`` of 8 good parts, and ``model``, taught their RGB pictures."""
    folder = tmp_path_factory.mktemp("home")
    dataset = Dataset.init(folder / "parts", "parts")
    with dataset.writer() as writer:
        for seed in range(8):
            writer.commit(disc(seed))
    done = run(
        "detect", "train", "parts", "--category", "disc", "--method", "patchcore-rgb", "-o", "model", home=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


def ready(child: subprocess.Popen[str]) -> str:
    """What it says up to "ready"."""
    assert child.stderr is not None
    said = ""
    while "ready" not in said:
        line = child.stderr.readline()
        assert line, said
        said += line
    return said


@pytest.mark.slow
def test_parts_that_come_are_judged_logged_and_sent(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plc:
        child = rakelight(
            "detect", "watch", "model", "parts", "-n", "2", "--alpha", "0.2", "--log", "l.jsonl", "--pictures", "heat",
            "--tcp", f"127.0.0.1:{plc.getsockname()[1]}", "--json", cwd=home,
        )  # fmt: skip
        try:
            said = ready(child)
            assert "knows 8 good parts of disc" in said and "drift: watching 8 figures" in said
            lines = plc.accept()[0].makefile("r", encoding="utf-8")
            with Dataset.open(home / "parts").writer() as writer:
                writer.commit(disc(100))
                committed = time.time()
                first = json.loads(lines.readline())
                told = time.time() - committed
                writer.commit(disc(101, fault=True))
            second = json.loads(lines.readline())
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 0, err
    assert told - first["ms"]["total"] / 1e3 < 1.0  # noticed soon; the machine may be busy
    assert first["key"] == "disc/OK/S0009" and not first["rejected"] and second["rejected"]
    assert [first["sequence"], second["sequence"]] == [1, 2] and re.match(r"\d{4}-\d\d-\d\dT", first["utc"])
    printed = [json.loads(line) for line in out.splitlines()]
    logged = [json.loads(line) for line in (home / "l.jsonl").read_text(encoding="utf-8").splitlines()]
    assert printed[:2] == logged == [first, second]
    summary = printed[2]
    assert summary["event"] == "summary" and (summary["parts"], summary["rejected"], summary["ended"]) == (
        2,
        1,
        "count",
    )
    assert (summary["lines_sent"], summary["lines_lost"], summary["lines_waiting"]) == (2, 0, 0)
    assert (home / "heat" / "00002_disc_NG_stain_S0001_sheet.png").is_file()
    assert (home / "model.drift.json").is_file()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_ctrl_c_ends_with_a_summary_and_all_judges_what_is_there(home: Path) -> None:
    child = rakelight(
        "detect", "watch", "model", "parts", "--all", "--drift-file", "own.json", "--reset-drift", cwd=home
    )
    try:
        ready(child)
        assert child.stdout is not None
        first = child.stdout.readline()
        assert re.match(
            r"(ACCEPTED|REJECTED)  disc/NG/stain/S0001  |ACCEPTED  disc/OK/S0001  .*taught this very part", first
        )
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0, err
    assert re.search(r"\d+ parts judged, \d+ rejected, 0 errors \(stopped\)", out) and "drift: steady" in out, out
    assert "cycle time: median" in out and (home / "own.json").is_file()


def refused(*arguments: str) -> RakelightError | click.UsageError:
    """What the command raises, in this process."""
    with pytest.raises((RakelightError, click.UsageError)) as caught:
        cli(["detect", "watch", *arguments], standalone_mode=False)
    return caught.value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model"], "--rig"),
        (["model", "parts", "--rig", "rig.toml"], "either a data set"),
        (["model", "--rig", "sim://knob_cap"], "--recipe, --calibration, --output"),
        (["model", "--rig", "r", "-p", "r", "-c", "r", "-o", "r", "--all"], "--all: only for a data set"),
        (["model", "parts", "--burst"], "--burst: only for a rig"),
        (["model", "parts", "--tcp", "plc"], "HOST:PORT"),
        (["model", "absent"], "absent"),
    ],
    ids=lambda told: " ".join(told) if isinstance(told, list) else "",
)
def test_what_does_not_go_together_is_told_at_once(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(*arguments)
    assert words in error.message and getattr(error, "exit_code", 2) in (2, 7)


class Full:
    """A log on a disk that is full from the second line on."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, 0

    def write(self, line: bytes) -> None:
        self.lines += 1
        if self.lines > 1:
            raise StorageError("v.jsonl cannot be written: no space left on the disk")


@pytest.mark.slow
@pytest.mark.parametrize("logged", [True, False])
def test_the_summary_tells_why_it_ended_and_where_lines_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], logged: bool
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr("rakelight.pipeline.verdict_stream.LineLog", Full)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # nobody answers there
    more = ["--log", "v.jsonl"] if logged else ["-n", "1"]
    command = ["detect", "watch", "model", "parts", "--all", "--drift-file", str(tmp_path / "d.json"), *more]
    command += ["--tcp", f"127.0.0.1:{port}"]
    if logged:
        with pytest.raises(StorageError):
            cli(command, standalone_mode=False)
    else:
        cli(command, standalone_mode=False)
    told = capsys.readouterr()
    if logged:
        assert "0 errors (failed: v.jsonl cannot be written: no space left on the disk)" in told.out
        assert "2 lines reached no peer; v.jsonl has them, up to what ended the watch" in told.err
    else:
        assert "0 errors (as many parts as asked for)" in told.out
        assert "1 lines reached no peer and are kept nowhere; --log FILE keeps every line" in told.err


@pytest.mark.slow
def test_a_connection_is_no_warning(home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plc:
        address = f"127.0.0.1:{plc.getsockname()[1]}"
        watch = ["detect", "watch", "model", "parts", "--all", "-n", "1", "--tcp", address, "--drift-file"]
        done = run(*watch, str(tmp_path / "d.json"), home=home)
    assert done.returncode == 0 and f"\nconnected to {address}" in f"\n{done.stderr}"
    assert "warning connected" not in done.stderr and "reached no peer" not in done.stderr


@pytest.mark.slow
def test_what_cannot_be_watched_is_told_with_the_next_step(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Dataset.init(tmp_path / "rings", "rings")
    with other.writer() as writer:
        writer.commit(SampleContent("ring", "OK", "0" * 14, disc(1).rgb))
    monkeypatch.chdir(home)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, code, words in (
            (["absent", "parts"], "model.not_found", "the model absent does not exist"),
            (["parts", "parts"], "model.not_found", "is not a model"),
            (["model", str(other.root)], "detect.no_category", "'disc', which the model was taught; it has ring"),
            (["model", "parts", "--tcp-listen", f"127.0.0.1:{port}"], "tcp.port", "no connections"),
            (["model", "parts", "--log", "parts"], "storage.not_writable", "parts"),
        ):
            error = refused(*arguments)
            assert isinstance(error, RakelightError) and error.code == code and words in error.message, error
            assert error.hint


@pytest.mark.slow
def test_a_simulated_rig_is_captured_kept_and_judged(tmp_path: Path) -> None:
    pytest.importorskip("genicam")
    rig = "sim://knob_cap?seed=1&width=456&samples=1"
    recipe = 'schema = 1\nproduct = "knob_cap"\nexposure_us = 6000\nall_zones_exposure_us = 2000\n'
    (tmp_path / "knob.toml").write_text(f"{recipe}\n[patterns]\nexposure_us = 3000\n")
    simulate = ["simulate", "knob_cap", "--size", "456x304", "--count", "4", "--seed", "50", "-o", "r"]
    assert (done := run(*simulate, home=tmp_path)).returncode == 0, done.stderr
    assert run("dataset", "init", "set", "--name", "set", home=tmp_path).returncode == 0
    done = run("dataset", "add", "set", "r", "--truth", "--scheduler", "none", home=tmp_path)
    assert done.returncode == 0, done.stderr
    train = ["detect", "train", "set", "--category", "knob_cap", "--method", "patchcore-rgb+ps", "-o", "model"]
    assert (done := run(*train, home=tmp_path)).returncode == 0, done.stderr
    calibration = next((tmp_path / "r" / "calibration").iterdir())
    watch = [
        "detect",
        "watch",
        "model",
        "--rig",
        rig,
        "-p",
        "knob.toml",
        "-c",
        str(calibration),
        "-o",
        "kept",
        "-n",
        "2",
    ]
    done = run(*watch, "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["event"], second["event"], summary["parts"]) == ("verdict", "verdict", 2), done.stdout
    assert first["ms"].keys() == {"capture", "reconstruct", "load", "score", "total"}
    assert first["key"] == "knob_cap-0001" and second["recording"] == str(Path("kept") / "knob_cap-0002")
    assert {"light_zone1", "points", "normal_x"} <= first["capture"].keys()
    assert Recording.open(tmp_path / "kept" / "knob_cap-0001").info.simulated
    assert first["score"] != second["score"]  # another specimen was laid
