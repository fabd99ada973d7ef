"""`calibrate rig --rig`: walked through on a simulated rig, through producer and serial ports, with all that can go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rakelight.acquisition.found import rig_toml
from rakelight.dataset.recording import Recording, verify

pytest.importorskip("genicam")
pytestmark = pytest.mark.slow

SIM = "sim://targets?width=456&samples=1"
NO_PATTERNS = f"{SIM}&projector=0"
WHOLE = "sim://targets?width=456"  # edges as smooth as a lens makes them: corners are measured
SPHERES = ("--sphere-mm", "10", "--sphere-count", "2")
RECIPE = 'schema = 1\nproduct = "x"\nexposure_us = 1\n[patterns]\nexposure_us = 1\nsteps = 4\ndirections = [1, 3]\n'


def _command(output: Path, where: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "rakelight", "calibrate", "rig", "--rig", where, "-o", str(output), *options]


def _walk(lines: str, output: Path, where: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(output, where, *options), input=lines, capture_output=True, text=True, timeout=600, check=False
    )


def _taken(session: Path, kind: str = "board") -> list[str]:
    return sorted(p.name for p in session.glob(f"{kind}-*"))


def _until(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def test_a_rig_is_walked_through_left_and_gone_on_with_to_its_calibration(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    options = ("--recipe", str(tmp_path / "r.toml"), *SPHERES, "--plate-mm", "0.01", "--json")
    out, session = tmp_path / "lab", tmp_path / "lab.session"
    first = _walk("\n" * 5 + "q\n", out, WHOLE, *options)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"session": str(session), "finished": False} and not out.exists()
    assert len(_taken(session)) == 5 and "7 more poses" in first.stderr
    second = _walk("\n" * 20, out, WHOLE, *options)
    assert second.returncode == 0, second.stderr[-3000:]
    assert "going on with the session" in second.stderr and "5 × board" in second.stderr
    told = json.loads(second.stdout)
    assert [c for c in told["criteria"] if c["verdict"] == "FAIL"] == []
    assert {p["direction"] for p in told["projectors"]} == {1, 3} and len(told["lights"]) == 4
    assert (out / "report.html").is_file()
    assert (len(_taken(session)), _taken(session, "white")) == (12, ["white-01"])
    assert (_taken(session, "spheres"), _taken(session, "dark")) == (["spheres-01", "spheres-02"], ["dark-01"])
    targets = {p.name: Recording.open(p).info.target for p in session.glob("*-01")}
    assert targets == {
        "board-01": "charuco", "white-01": "white_plane", "spheres-01": "chrome_sphere", "dark-01": "dark",
    }  # fmt: skip
    assert (session / "preview.png").read_bytes().startswith(b"\x89PNG") and (session / "guide.html").is_file()
    # recordings alone give the same, and count as made already where a walk begins
    made = [str(session / name) for name in _taken(session)]
    again = subprocess.run(
        [sys.executable, "-m", "rakelight", "calibrate", "rig", "--from", *made, "-o", str(tmp_path / "alone"), "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    figures = [{c["name"]: c["value"] for c in json.loads(text)["criteria"]} for text in (second.stdout, again.stdout)]
    name = "camera, reprojection"
    assert figures[0][name] == pytest.approx(figures[1][name], rel=1e-6)
    third = _walk("q\n", tmp_path / "third", WHOLE, *SPHERES, "--from", *made)
    assert third.returncode == 0 and "white plate" in third.stderr and "board, pose" not in third.stderr


def test_what_is_not_good_is_not_taken_without_force(tmp_path: Path) -> None:
    lines = [
        "place knob_cap 3", "",  # out of view
        "place charuco 3 1.2", "",  # taken: how is one to know that this lens can do better?
        "u",
        "place charuco 0", "",
        "place charuco 0", "",  # the same pose
        "place charuco 2", "",
        "place charuco 5 1.25", "",  # blurred against the others
        "place charuco 0", "f",  # the same pose, by force
        "nonsense", "place", "place moon", "l",
        "s",  # no more boards
        "place charuco 1", "",  # a board is no plate
        "q",
    ]  # fmt: skip
    done = _walk("\n".join(lines) + "\n", tmp_path / "lab", NO_PATTERNS, *SPHERES)
    assert done.returncode == 0, done.stderr
    for told in (
        "not taken, because the board is not found (no marker of DICT_4X4_50)",
        "dropped: now in ",
        "not taken, because this is the pose of board-01 again",
        "not taken, because the picture is blurred: edges are ",
        "taken: board-03",
        "'nonsense' is no command",
        "write: place NAME [SEED] [BLUR_PX]",
        "part 'moon' is not known",
        "left out: board",
        "not taken, because no plate fills the picture",
    ):
        assert told in done.stderr, told
    session = tmp_path / "lab.session"
    assert _taken(session) == ["board-01", "board-02", "board-03"] and len(list((session / "dropped").iterdir())) == 1
    again = _walk("q\n", tmp_path / "lab", NO_PATTERNS, *SPHERES)
    assert "board, pose" in again.stderr, "what was left out is asked for again"


def test_a_session_of_another_board_and_missing_options_are_refused(tmp_path: Path) -> None:
    assert _walk("\nq\n", tmp_path / "lab", NO_PATTERNS, *SPHERES).returncode == 0
    other = _walk("\n", tmp_path / "lab", NO_PATTERNS, *SPHERES, "--square-mm", "5")
    assert other.returncode == 9 and "[session.other_board]" in other.stderr and "--session" in other.stderr
    larger = _walk("\n", tmp_path / "lab", NO_PATTERNS.replace("456", "608"), *SPHERES)
    assert larger.returncode == 9 and "[session.other_camera]" in larger.stderr and "608×406 px" in larger.stderr
    assert _taken(tmp_path / "lab.session") == ["board-01"]
    assert "--sphere-mm" in _walk("", tmp_path / "x", SIM).stderr
    nothing = subprocess.run(
        [sys.executable, "-m", "rakelight", "calibrate", "rig", "-o", str(tmp_path / "x")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert nothing.returncode == 2 and "name recordings of targets" in nothing.stderr


def test_a_camera_that_is_unplugged_ends_the_walk_and_keeps_the_session(tmp_path: Path) -> None:
    gone = ",".join(f"unplug@{n}" for n in range(34, 60))
    done = _walk("\n" * 12, tmp_path / "lab", f"{NO_PATTERNS}&fault={gone}", *SPHERES)
    session = tmp_path / "lab.session"
    assert done.returncode == 4 and "[camera.lost]" in done.stderr
    assert f"everything taken so far is kept in {session}" in done.stderr
    there = _taken(session)
    assert there and not list(session.glob(".*partial*"))
    assert all(list(verify(Recording.open(session / name))) == [] for name in there)
    again = _walk("q\n", tmp_path / "lab", NO_PATTERNS, *SPHERES)
    assert again.returncode == 0 and f"{len(there)} × board" in again.stderr


@pytest.mark.skipif(os.name != "posix", reason="interrupts by signal")
def test_ctrl_c_leaves_it_dark_and_the_session_whole(tmp_path: Path) -> None:
    """The bench lives here, so that the lamps can be seen after the program's end."""
    from rakelight.acquisition.simulator.bench import Bench, parse_url

    with Bench(parse_url(SIM)) as bench:
        (tmp_path / "rig.toml").write_text(rig_toml(bench.settings))
        session = tmp_path / "lab.session"
        child = subprocess.Popen(
            _command(tmp_path / "lab", str(tmp_path / "rig.toml"), "--no-spheres"),
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdin is not None and child.stderr is not None
        try:
            child.stdin.write("\n")
            child.stdin.flush()
            _until(lambda: _taken(session) == ["board-01"])
            bench.place("charuco", 1)
            child.stdin.write("l\n\n")
            child.stdin.flush()
            _until(lambda: list(session.glob(".board-02.partial*")))  # in the middle of the second pose
            child.send_signal(signal.SIGINT)
            assert child.wait(30) == 130
            end_of_story = child.stderr.read()
        finally:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stderr.close()
        assert not bench.timeline.now().zones and bench.timeline.now().pattern is None
        assert f"everything taken so far is kept in {session}" in end_of_story
        assert _taken(session) == ["board-01"] and not list(session.glob(".*partial*"))
        assert list(verify(Recording.open(session / "board-01"))) == []


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_live_line_and_single_keys(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        _command(tmp_path / "lab", NO_PATTERNS, *SPHERES), stdin=theirs, stderr=theirs, stdout=subprocess.PIPE
    )
    os.close(theirs)
    seen = bytearray()

    def shows(text: str, times: int = 1) -> bool:
        try:
            seen.extend(os.read(ours, 4096))
        except OSError:  # the other side has closed
            return True
        return seen.decode(errors="ignore").count(text) >= times

    try:
        _until(lambda: shows("good to take", 4))  # refreshed by itself
        os.write(ours, b"\n")
        _until(lambda: shows("taken: board-01"))
        os.write(ours, b"q")
        _until(lambda: shows("left; run the same command again"))
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
        os.close(ours)
    assert _taken(tmp_path / "lab.session") == ["board-01"]
