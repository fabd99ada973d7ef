"""The commands as a user meets them: exit codes, one clear error each, JSON, nothing half-written."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest

from rakelight import cli, files
from rakelight.dataset.recording import content_sha256


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def rakelight(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command line in this process, through the function that the installed program calls."""

    def run(*arguments: Any) -> Done:
        monkeypatch.setattr(sys, "argv", ["rakelight", *map(str, arguments)])
        handler = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def made(scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings ``part``, ``sphere``, ``white`` and the calibration ``cal``, not to be changed by tests."""
    folder = tmp_path_factory.mktemp("made")
    scenes.record(folder / "part", scenes.part(), dark=scenes.BLACK)
    scenes.record(folder / "sphere", scenes.sphere(), target="chrome_sphere")
    scenes.record(folder / "white", scenes.white(), target="white_plane", dark=scenes.BLACK)
    scenes.calibration().save(folder / "cal")
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of ``made`` that may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def refused(done: Done, code: int, name: str, *words: str) -> None:
    """One error, on standard error, with its code and every word; nothing on standard output."""
    assert done.code == code, done
    assert done.out == "" and done.err.count("error") >= 1 and f"[{name}]" in done.err, done
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, (word, done.err)


# -------------------------------------------------------------------------------------------------------------- the happy way
def test_calibrate_reconstruct_and_store(rakelight: Callable[..., Done], made: Path, tmp_path: Path) -> None:
    done = rakelight("calibrate", "lights", made / "sphere", made / "part", made / "white", "-o", tmp_path / "lab")
    assert done.code == 0 and "condition number" in done.out and str(tmp_path / "lab") in done.out
    assert rakelight("calibrate", "show", tmp_path / "lab").out.count("distant") == 5  # four lights, flat field
    assert rakelight("calibrate", "verify", tmp_path / "lab", "--json").json["problems"] == []
    done = rakelight("reconstruct", made / "part", "-c", tmp_path / "lab", "-o", tmp_path / "out")
    assert done.code == 0 and "contact_sheet.png" in done.out and done.err == ""
    again = rakelight("reconstruct", made / "part", "-c", tmp_path / "lab", "-o", tmp_path / "out", "--json")
    assert again.code == 8 and again.json["error"]["code"] == "storage.exists"
    over = rakelight(
        "reconstruct", made / "part", "-c", tmp_path / "lab", "-o", tmp_path / "out", "--overwrite", "--json"
    )
    assert over.code == 0 and "contact_sheet.png" in over.json["files"] and over.json["seconds"]["writing"] > 0
    assert rakelight("dataset", "init", tmp_path / "set").code == 0
    add = ("dataset", "add", tmp_path / "set", made / "part", "-c", tmp_path / "lab", "--category", "knob")
    assert "OK/S0001" in rakelight(*add, "--label", "OK").out
    mask = np.zeros((180, 240), np.uint8)
    mask[5:20, 5:20] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    scratch = ("--label", "scratch", "--mask", tmp_path / "mask.png", "--ps", "relief")
    refused = rakelight(*add, *scratch)
    assert refused.code == 10 and "in the data set already, as knob/OK/S0001" in refused.err
    assert rakelight("dataset", "init", tmp_path / "other").code == 0
    assert rakelight("dataset", "add", tmp_path / "other", *add[3:], *scratch).code == 0
    shown = rakelight("dataset", "show", tmp_path / "other")
    assert "1 sample(s)" in shown.out and "MASK" in shown.out
    assert "whole (every byte)" in rakelight("dataset", "verify", tmp_path / "other").out
    assert [n for n in names(tmp_path) if n.startswith(".")] == []


def test_warnings_are_told_once_and_on_standard_error(
    rakelight: Callable[..., Done], made: Path, tmp_path: Path
) -> None:
    done = rakelight("reconstruct", made / "part", "-c", made / "cal", "-o", tmp_path / "out")
    assert done.code == 0 and done.err.count("warning") == 1 and "no flat field" in done.err
    assert "white plane" not in done.out


@pytest.fixture
def parts(rakelight: Callable[..., Done], own: Path) -> tuple[Any, ...]:
    """The beginning of the command that adds ``own/part`` and more to the data set ``own/set``."""
    assert rakelight("dataset", "init", own / "set").code == 0
    options = ("-c", own / "cal", "--category", "knob", "--label", "OK")
    return ("dataset", "add", own / "set", *options, own / "part")


@pytest.mark.parametrize("fault", ["damage", "interrupt", "defect"])
def test_what_was_added_before_an_error_is_told(
    rakelight: Callable[..., Done], own: Path, parts: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from rakelight.pipeline import dataset_add

    shutil.copytree(own / "part", own / "second")
    record = json.loads((own / "second" / "recording.json").read_text("utf-8"))
    record["part_id"] = "another"
    record["content_sha256"] = content_sha256(record)
    (own / "second" / "recording.json").write_text(json.dumps(record), "utf-8")
    real = dataset_add.reconstruct

    def reconstructed(recording: Any, *rest: Any) -> Any:
        if recording.folder.name == "second":
            raise {"interrupt": KeyboardInterrupt, "defect": ZeroDivisionError}[fault]
        return real(recording, *rest)

    if fault == "damage":
        next((own / "second").glob("*.tiff")).unlink()
    else:
        monkeypatch.setattr(dataset_add, "reconstruct", reconstructed)
    done = rakelight(*parts, own / "second", "--json")
    if fault == "interrupt":
        assert (done.code, done.json["error"]["code"]) == (130, "interrupted")
    else:
        codes = {"damage": "image.missing", "defect": "internal"}
        assert (done.code, [f["code"] for f in done.json["failed"]]) == (10, [codes[fault]])
    assert [x["sample"] for x in done.json["added"]] == ["knob/OK/S0001"] and done.json["warnings"]
    assert len(rakelight("dataset", "show", own / "set", "--json").json["samples"]) == 1


def test_index_that_is_out_of_date_is_a_warning(
    rakelight: Callable[..., Done], own: Path, parts: tuple[Any, ...]
) -> None:
    assert rakelight(*parts).code == 0
    done = rakelight("dataset", "show", own / "set")
    assert (done.code, done.err) == (0, "")
    (own / "set" / "meta" / "manifest.jsonl").unlink()
    done = rakelight("dataset", "show", own / "set")
    assert done.code == 0 and "warning" in done.err and "next writer mends it" in done.err
    assert rakelight("dataset", "show", own / "set", "--json").json["index_problems"]
    assert rakelight(*parts).code == 0
    assert rakelight("dataset", "show", own / "set", "--json").json["index_problems"] == []


@pytest.mark.skipif(os.name == "nt", reason="flock")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_drive_without_locks_is_refused(
    rakelight: Callable[..., Done], own: Path, parts: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    refused(rakelight(*parts), 7, "dataset.no_locks", str(own / "set"), "local disk")
    monkeypatch.undo()
    assert list((own / "set" / "realiad_d3_raw").rglob("*")) == []


# ---------------------------------------------------------------------------------------------------------------- usage, help
def test_every_command_that_a_text_names_exists() -> None:
    packages = ["", ".dataset", ".calibration", ".reconstruction"]
    roots = [Path(importlib.import_module(f"rakelight{name}").__path__[0]) for name in packages]
    sources = [p for root in roots for p in root.rglob("*.py")]
    named = {m for p in sources for m in re.findall(r"`rakelight ([a-z]+(?: [a-z]+)?)", p.read_text("utf-8"))}
    assert len(named) > 5
    for command in named:
        group, _, name = command.partition(" ")
        found = cli.cli.get_command(click.Context(cli.cli), group)
        assert found is not None, command
        if name and isinstance(found, click.Group):
            assert name in found.commands, command


COMMANDS = [
    (), ("demo",), ("recording",), ("recording", "info"), ("recording", "verify"), ("recording", "import"),
    ("calibrate",), ("calibrate", "lights"), ("calibrate", "show"), ("calibrate", "verify"), ("reconstruct",),
    ("dataset",), ("dataset", "init"), ("dataset", "add"), ("dataset", "show"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(rakelight: Callable[..., Done], command: tuple[str, ...]) -> None:
    done = rakelight(*command, "--help")
    assert done.code == 0 and done.out.startswith("Usage: ")
    assert len(done.out.split("Options:")[0]) > 100, "the help says what the command is for"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reconstuct",), "Did you mean 'reconstruct'?"),
        (("calibrate", "light"), "Did you mean 'lights'?"),
        (("dataset", "frobnicate"), "Commands: "),
        (("reconstruct", "x", "-o", "y"), "Missing option '--calibration'"),
        (("reconstruct", "x", "-c", "c", "-o", "y", "--overwrit"), "--overwrite"),
        (("reconstruct", "x", "-c", "c", "-o", "y", "--relief-slant", "91"), "0<=x<=90"),
        (("calibrate", "lights", "-o", "y"), "Missing argument"),
        (("dataset", "add", "a", "b", "-c", "c", "--category", "k", "--label", "OK", "--ps", "blue"), "normals"),
    ],
)
def test_wrong_usage(rakelight: Callable[..., Done], arguments: tuple[str, ...], words: str) -> None:
    done = rakelight(*arguments)
    assert done.code == 2 and done.out == "" and words in done.err
    done = rakelight(*arguments, "--json")
    assert done.code == 2 and words in done.json["error"]["message"] and done.json["error"]["code"] == "usage"


def test_defect_of_ours_is_told_as_such(
    rakelight: Callable[..., Done], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("rakelight.pipeline.reconstruct.load_light_stack", fail)
    done = rakelight("reconstruct", made / "part", "-c", made / "cal", "-o", tmp_path / "out", "--json")
    assert done.code == 1 and done.json["error"]["code"] == "internal" and "ZeroDivisionError" in done.err


# ----------------------------------------------------------------------------------------------------------------- bad inputs
def attempt(rakelight: Callable[..., Done], own: Path, tmp_path: Path, *more: str) -> Done:
    """Reconstruct ``own/part``; whatever happens, a failed run leaves no output."""
    done = rakelight("reconstruct", own / "part", "-c", own / "cal", "-o", tmp_path / "out", *more)
    assert done.code == 0 or names(tmp_path) == ["own"], names(tmp_path)
    return done


def test_damaged_recordings(rakelight: Callable[..., Done], own: Path, tmp_path: Path) -> None:
    frame = sorted((own / "part").glob("*.tiff"))[1]
    whole = frame.read_bytes()
    frame.write_bytes(whole[:-1000])
    refused(attempt(rakelight, own, tmp_path), 7, "recording.frame_changed", frame.name, "truncated")
    frame.write_bytes(whole[:-1] + b"\x55")
    refused(attempt(rakelight, own, tmp_path), 7, "recording.frame_changed", frame.name, "checksum")
    frame.unlink()
    refused(attempt(rakelight, own, tmp_path), 7, "image.missing", frame.name)
    frame.mkdir()
    refused(attempt(rakelight, own, tmp_path), 7, "image.unreadable", frame.name)
    assert rakelight("recording", "verify", own / "part").code == 7
    done = attempt(rakelight, own, tmp_path, "--json")
    assert done.code == 7 and set(done.json["error"]) == {"code", "message", "hint"}


def test_files_from_the_future_or_edited(rakelight: Callable[..., Done], own: Path, tmp_path: Path) -> None:
    recording, rig = own / "part" / "recording.json", own / "cal" / "rig_calibration.json"
    texts = recording.read_text(), rig.read_text()
    recording.write_text(texts[0].replace('"schema": 1', '"schema": 7'))
    refused(attempt(rakelight, own, tmp_path), 7, "config.schema_unknown", "recording.json", "schema = 7")
    recording.write_text(texts[0][:200])
    refused(attempt(rakelight, own, tmp_path), 7, "file.corrupt", "recording.json")
    recording.write_text(texts[0])
    rig.write_text(texts[1].replace('"schema": 1', '"schema": 2'))
    refused(attempt(rakelight, own, tmp_path), 9, "config.schema_unknown", "rig_calibration.json", "schema = 2")
    rig.write_text(texts[1].replace('"strength": 0.9', '"strength": 0.8'))
    refused(attempt(rakelight, own, tmp_path), 9, "calibration.hash_mismatch", "changed")
    assert rakelight("calibrate", "verify", own / "cal").code == 9


def test_names_that_lead_nowhere(rakelight: Callable[..., Done], own: Path, tmp_path: Path) -> None:
    missing = rakelight("reconstruct", own / "prat", "-c", own / "cal", "-o", tmp_path / "out")
    refused(missing, 7, "recording.not_found", "prat does not exist")
    swapped = rakelight("reconstruct", own / "cal", "-c", own / "part", "-o", tmp_path / "out")
    refused(swapped, 7, "recording.not_found", "holds no recording.json")
    refused(rakelight("calibrate", "show", own / "part"), 9, "calibration.not_found", "rig_calibration.json")
    assert rakelight("dataset", "show", own / "part").code == 7
    wrong = rakelight("calibrate", "lights", own / "cal", "-o", tmp_path / "new")
    refused(wrong, 9, "calibration.not_a_recording", "is a calibration", "--base")


def test_stacks_that_show_nothing_or_too_few_zones(
    rakelight: Callable[..., Done], scenes: Any, made: Path, tmp_path: Path
) -> None:
    cases = {
        "recording.all_dark": (7, 0 * scenes.part(), None),
        "recording.all_saturated": (7, 50 * scenes.part(), None),
        "photometric.too_few_lights": (9, scenes.part()[:2], None),
    }
    for name, (code, images, _) in cases.items():
        scenes.record(tmp_path / name, images)
        done = rakelight("reconstruct", tmp_path / name, "-c", made / "cal", "-o", tmp_path / "out")
        refused(done, code, name, "→")
        assert not (tmp_path / "out").exists()


def test_spheres_that_cannot_be_used(rakelight: Callable[..., Done], scenes: Any, tmp_path: Path) -> None:
    scenes.record(tmp_path / "empty", scenes.white(), target="chrome_sphere")
    done = rakelight("calibrate", "lights", tmp_path / "empty", "-o", tmp_path / "out")
    assert done.code == 9 and "sphere 1" in done.err and "→" in done.err
    grazing = np.array([[np.sin(a), 0, np.cos(a)] for a in np.radians([30, 45, 150])])
    circle = {"u": 120.0, "v": 90.0, "radius": 70.0}
    scenes.record(tmp_path / "rim", scenes.sphere(lights=grazing), target="chrome_sphere", circles=(circle,))
    done = rakelight("calibrate", "lights", tmp_path / "rim", "-o", tmp_path / "out")
    assert done.code == 9 and "radius" in done.err and names(tmp_path) == ["empty", "rim"]


TOML = 'schema = 1\npart_id = "a"\npixel_format = "Mono8"\nlinear = true\n[stack]\nfiles = "{zone}.png"\nzones = [1, 2, 3]\n'


def test_imports(rakelight: Callable[..., Done], tmp_path: Path) -> None:
    pictures, toml = tmp_path / "pictures", tmp_path / "a.toml"
    pictures.mkdir()
    for zone in (1, 2, 3):
        cv2.imwrite(str(pictures / f"{zone}.png"), np.full((20, 30), 100, np.uint8))

    def attempt(text: str = TOML) -> Done:
        toml.write_text(text)
        done = rakelight("recording", "import", pictures, "-d", toml, "-o", tmp_path / "rec")
        assert done.code == 0 or names(tmp_path) == ["a.toml", "pictures"]
        return done

    refused(attempt(TOML.replace("linear", "liner")), 3, "config.invalid", "unknown key liner", "'linear'")
    refused(attempt(TOML.replace("schema = 1", "schema = 3")), 3, "config.schema_unknown", "schema = 3")
    refused(attempt(TOML + "]"), 3, "config.syntax", "a.toml")
    refused(attempt(TOML.replace("3]", "3, 4]")), 7, "image.missing", "4.png")
    refused(attempt(TOML.replace("Mono8", "Mono12")), 7, "recording.wrong_dtype", "uint8", "Mono12")
    whole = (pictures / "2.png").read_bytes()
    (pictures / "2.png").write_bytes(whole[:-20])
    refused(attempt(), 7, "image.unreadable", "2.png", "truncated")
    cv2.imwrite(str(pictures / "2.png"), np.full((20, 31), 100, np.uint8))
    refused(attempt(), 7, "recording.size_mismatch", "2.png", "31×20", "30×20")
    for zone in (1, 2, 3):
        cv2.imwrite(str(pictures / f"{zone}.jpg"), np.full((20, 30), 100 + 10 * zone, np.uint8))
    done = attempt(TOML.replace(".png", ".jpg"))
    assert done.code == 0 and "3 of 3 frames are JPEG but declared linear" in done.err


# ------------------------------------------------------------------------------------------------------------ where it writes
def test_outputs_that_must_not_be_replaced(rakelight: Callable[..., Done], own: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for target in (foreign, tmp_path / "file"):
        for command in (("reconstruct", own / "part", "-c", own / "cal"), ("calibrate", "lights", own / "sphere")):
            done = rakelight(*command, "-o", target, "--overwrite")
            assert done.code == 8 and "→" in done.err
    done = rakelight("calibrate", "lights", own / "sphere", "-o", own / "cal")
    refused(done, 8, "storage.exists", "exists already", "--overwrite")
    assert rakelight("calibrate", "lights", own / "sphere", "-o", own / "cal", "--overwrite").code == 0
    below = rakelight("reconstruct", own / "part", "-c", own / "cal", "-o", tmp_path / "file" / "out")
    assert below.code == 8 and "Traceback" not in below.err
    assert names(tmp_path) == ["file", "foreign", "own"] and names(foreign) == ["thesis.txt"]


def test_calibration_that_appears_meanwhile_is_kept(
    rakelight: Callable[..., Done], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rakelight.pipeline import calibrate

    real = calibrate.calibrate_from_recordings

    def meanwhile(*args: Any, **options: Any) -> Any:
        shutil.copytree(own / "cal", own / "new")
        return real(*args, **options)

    monkeypatch.setattr(calibrate, "calibrate_from_recordings", meanwhile)
    done = rakelight("calibrate", "lights", own / "sphere", "-o", own / "new")
    refused(done, 8, "storage.exists", "exists already")
    document = "rig_calibration.json"
    assert (own / "new" / document).read_bytes() == (own / "cal" / document).read_bytes()


def test_full_disk(rakelight: Callable[..., Done], own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    refused(attempt(rakelight, own, tmp_path), 8, "storage.disk_full", "MB free", "nothing half-written")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable(rakelight: Callable[..., Done], made: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = rakelight("reconstruct", made / "part", "-c", made / "cal", "-o", locked / "out")
    refused(done, 8, "storage.not_writable", "locked")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(scenes: Any, tmp_path: Path, number: int) -> None:
    """A real signal while maps are being written: exit code 130, no output, no leftovers."""
    size = {"width": 1600, "height": 1200}
    scenes.record(tmp_path / "part", scenes.part(**size), "Mono8")
    scenes.calibration().save(tmp_path / "cal")
    command = [sys.executable, "-m", "rakelight", "reconstruct", "part", "-c", "cal", "-o", "out", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(tmp_path.glob(".out.partial-*/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert json.loads(out)["error"]["code"] == "interrupted" and "Traceback" not in err
    assert names(tmp_path) == ["cal", "part"]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and pipes as on Linux")
def test_a_reader_that_goes_away_and_a_full_disk_behind_the_output() -> None:
    shown = [sys.executable, "-m", "rakelight", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(shown, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 8 and done.stderr.count("\n") == 1 and "standard output" in done.stderr
    line = f"{{ {' '.join(shown)}; echo rc $? >&2; }} | true"
    closed = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True)
    assert closed.stderr in ("rc 141\n", "rc 0\n")  # the reader may leave before or after the text was written
