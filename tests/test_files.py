"""Durable writes: old or new after every fault, clear errors, nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakelight import files, folders
from rakelight.errors import CalibrationError, DatasetError, StorageError


class FailAt:
    """Makes the k-th call of ``write``, ``fsync``, ``replace`` or ``mkdir`` fail, and, if ``lasting``, all after it."""

    def __init__(self, patch: pytest.MonkeyPatch, k: int, number: int | None, lasting: bool) -> None:
        self.calls, self.k, self.number, self.lasting = 0, k, number, lasting
        for name in ("fsync", "replace", "mkdir"):
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        real_open = open

        def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            handle = real_open(path, mode, *rest, **options)
            return _Handle(handle, self.wrap(handle.write)) if "r+" in mode or "x" in mode or "a" in mode else handle

        patch.setattr(files, "open", opened, raising=False)

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.k or (self.lasting and self.calls > self.k):
                raise OSError(self.number, os.strerror(self.number)) if self.number else OSError("no reason given")
            return real(*args, **options)

        return call


class _Handle:
    def __init__(self, handle: Any, write: Callable[..., Any]) -> None:
        self._handle, self.write = handle, write

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


FAULTS = [
    pytest.param(number, lasting, id=f"{what}-{'lasting' if lasting else 'once'}")
    for what, number in (("full", errno.ENOSPC), ("broken", errno.EIO), ("unexplained", None))
    for lasting in (False, True)
]


# --- one file ---


@pytest.mark.parametrize(("number", "lasting"), FAULTS)
@pytest.mark.parametrize("existing", [b"old", None])
def test_atomic_write_is_old_or_new_whichever_call_fails(
    tmp_path: Path, number: int | None, lasting: bool, existing: bytes | None
) -> None:
    path, k, failed = tmp_path / "a.bin", 0, 0
    while True:
        k += 1
        path.unlink(missing_ok=True)
        if existing is not None:
            path.write_bytes(existing)
        with pytest.MonkeyPatch.context() as patch:
            fault = FailAt(patch, k, number, lasting)
            try:
                with files.atomic_write(path) as handle:
                    handle.write(b"ne")
                    handle.write(b"w")
                error = None
            except OSError as e:
                error = e
        found = path.read_bytes() if path.exists() else None
        assert found in ((b"new",) if error is None else (existing, b"new"))
        assert names(tmp_path) == (["a.bin"] if found is not None else [])
        if fault.calls < k:
            break
        failed += 1
        if number is None and k <= 2:  # nothing says that it was our file that could not be written: passed on
            assert error is not None and not isinstance(error, StorageError)
            continue
        assert isinstance(error, StorageError) and str(path) in error.message and error.hint
        assert error.code == ("storage.disk_full" if number == errno.ENOSPC else "storage.not_writable")
    assert failed == 5  # two writes, fsync, rename, fsync of the folder
    assert path.read_bytes() == b"new"


def test_an_error_of_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old\n")
    with pytest.raises(KeyboardInterrupt), files.atomic_write(path) as handle:
        handle.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old\n"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("place", ["absent/a.bin", "file/a.bin", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        files.write_bytes(tmp_path / place, b"x")
    assert caught.value.code == "storage.not_writable"
    assert caught.value.exit_code == 8
    assert str(tmp_path / place) in caught.value.message


def test_full_disk_is_told_also_when_the_system_gives_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "not" / "there" / "a.tiff"
    assert files.storage_error(OSError("2048 requested and 0 written"), path).code == "storage.not_writable"
    usage = type("Usage", (), {"free": 4096})
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda folder: usage() if Path(folder).exists() else os.stat(folder)
    )
    error = files.storage_error(OSError("2048 requested and 0 written"), path)
    assert error.code == "storage.disk_full"
    assert "(0.0 MB free)" in error.message
    assert files.storage_error(OSError(errno.EACCES, "Permission denied"), path).code == "storage.not_writable"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk(small_disk: Path) -> None:
    path = small_disk / "a.bin"
    files.write_bytes(path, b"old")
    with pytest.raises(StorageError, match=r"disk full while writing .*a\.bin .*MB free") as caught:
        files.write_bytes(path, bytes(2 << 20))
    assert caught.value.code == "storage.disk_full"
    assert path.read_bytes() == b"old"
    with pytest.raises(StorageError) as caught:
        files.append_bytes(path, bytes(2 << 20))
    assert caught.value.code == "storage.disk_full"
    assert path.read_bytes() == b"old"
    with pytest.raises(StorageError) as caught, folders.staged_folder(small_disk / "set") as staging:
        files.write_npz(staging / "a.npz", {"a": np.zeros(1 << 19)})
    assert caught.value.code == "storage.disk_full"
    assert names(small_disk) == ["a.bin"]  # and the room is free again
    files.write_bytes(path, bytes(1 << 19))


@pytest.mark.parametrize(("number", "lasting"), FAULTS)
def test_append_is_taken_back_whichever_call_fails(tmp_path: Path, number: int | None, lasting: bool) -> None:
    path = tmp_path / "log.jsonl"
    files.append_bytes(path, b"one\n")
    for k in (1, 2):  # write, fsync
        with pytest.MonkeyPatch.context() as patch:
            FailAt(patch, k, number, lasting)
            with pytest.raises(StorageError):
                files.append_bytes(path, b"two\n")
        assert path.read_bytes() == b"one\n"
    files.append_bytes(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


# --- folders ---


@pytest.fixture(params=["at once", "two renames"])
def exchange(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of replacing a folder; skips where the system has no exchange in one step."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "_exchange_at_once", lambda a, b: False)
        return str(request.param)
    for name in ("a", "b"):
        (tmp_path / "probe" / name).mkdir(parents=True)
    (tmp_path / "probe" / "a" / "content").write_text("a")
    if not folders._exchange_at_once(tmp_path / "probe" / "a", tmp_path / "probe" / "b"):
        pytest.skip("the system or the file system does not exchange folders in one step")
    assert (tmp_path / "probe" / "b" / "content").read_text() == "a" and names(tmp_path / "probe" / "a") == []
    shutil.rmtree(tmp_path / "probe")
    return str(request.param)


@pytest.mark.parametrize(("number", "lasting"), FAULTS)
@pytest.mark.parametrize("existing", [True, False])
def test_staged_folder_is_old_or_new_whichever_call_fails(
    tmp_path: Path, exchange: str, number: int | None, lasting: bool, existing: bool
) -> None:
    k, failed = 0, 0
    while True:
        k += 1
        home = tmp_path / str(k) / "deep"
        final = home / "out"
        if existing:
            final.mkdir(parents=True)
            (final / "content").write_text("old")
        with pytest.MonkeyPatch.context() as patch:
            fault = FailAt(patch, k, number, lasting)
            try:
                with folders.staged_folder(final, overwrite=True) as staging:
                    files.write_text(staging / "content", "new")
                error = None
            except StorageError as e:
                error = e
        found = (final / "content").read_text() if final.exists() else None
        old = "old" if existing else None
        left = names(home) if home.exists() else []
        if lasting and found is None and existing:  # a disk that dies between two renames cannot be renamed back
            assert exchange == "two renames" and [n[:9] for n in left] == [".out.old-"]
            with pytest.raises(StorageError, match="exists already"):
                folders.check_replaceable(final, overwrite=False)
            assert (final / "content").read_text() == "old" and names(home) == ["out"]
        else:
            assert found in (("new",) if error is None else (old, "new"))
            # the replaced folder stays, whole and marked as such, only if it could not be renamed once more
            aside = [n for n in left if n.startswith(".out.old-")]
            assert [n for n in left if n not in aside] == (["out"] if found is not None else [])
            assert not aside or (found == "new" and exchange == "two renames")
        if fault.calls < k:
            break
        if error is None:
            assert (k == 1 and existing) or aside  # mkdir of a parent that is there already; or the very last rename
        else:
            failed += 1
            assert error.code.startswith("storage.")
    assert failed >= 8
    assert found == "new"


def test_staged_folder_is_gone_after_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), folders.staged_folder(tmp_path / "out") as staging:
        files.write_text(staging / "content", "half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_an_existing_folder_is_replaced_only_on_demand_and_only_by_its_like(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fill(**options: Any) -> None:
        with folders.staged_folder(out, **options) as staging:
            files.write_text(staging / "kind.json", "{}")

    fill()
    with pytest.raises(StorageError, match="exists already") as caught:
        fill()
    assert caught.value.code == "storage.exists" and "--overwrite" in caught.value.hint
    fill(overwrite=True, marker="kind.json")
    (out / "kind.json").rename(out / "photo.jpg")
    with pytest.raises(StorageError, match=r"holds no kind\.json, so it is something else"):
        fill(overwrite=True, marker="kind.json")
    assert names(out) == ["photo.jpg"]
    (out / "photo.jpg").unlink()
    fill(overwrite=True, marker="kind.json")  # an empty folder may be filled
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(("overwrite", "marker"), [(False, ""), (False, "kind.json"), (True, "kind.json")])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path, overwrite: bool, marker: str, what: str) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(StorageError) as caught,
        folders.staged_folder(out, overwrite=overwrite, marker=marker) as staging,
    ):
        files.write_text(staging / "kind.json", "ours")
        if what == "folder":
            out.mkdir()
        (out / "theirs" if what == "folder" else out).write_text("precious")
    assert caught.value.code == ("storage.exists" if what == "folder" else "storage.not_a_folder")
    assert (out / "theirs" if what == "folder" else out).read_text() == "precious"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("windows", [False, True])
def test_what_appears_at_the_last_instant_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    out, real, asked = tmp_path / "out", folders.check_replaceable, []

    def check(*args: Any, **options: Any) -> None:
        real(*args, **options)
        asked.append(args)
        if len(asked) == 2:  # right after the last look
            (out / "theirs").mkdir(parents=True)

    monkeypatch.setattr(folders, "check_replaceable", check)
    for module in (files, folders):
        monkeypatch.setattr(module, "WINDOWS", windows)
    for module in (files, folders):
        monkeypatch.setattr(module, "fsync_folder", lambda _: None)
    with pytest.raises(StorageError, match="exists already") as caught, folders.staged_folder(out) as staging:
        files.write_text(staging / "a", "ours")
    assert caught.value.code == "storage.exists" and len(asked) == 2
    assert names(out) == ["theirs"] and names(tmp_path) == ["out"]


def test_an_empty_folder_is_filled_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for windows in (False, True):
        out = tmp_path / str(windows)
        out.mkdir()
        for module in (files, folders):
            monkeypatch.setattr(module, "WINDOWS", windows)
        with folders.staged_folder(out) as staging:
            (staging / "a").write_text("new")
        assert names(out) == ["a"]


def test_an_interrupt_at_any_rename_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: str
) -> None:
    real = os.replace
    for k in range(1, 5):
        for after in (False, True):
            out, left = tmp_path / f"{k}{after}" / "out", [k]
            out.mkdir(parents=True)
            (out / "content").write_text("old")

            def replace(source: Any, final: Any, left: list[int] = left, after: bool = after) -> None:
                left[0] -= 1
                if left[0] == 0 and not after:
                    raise KeyboardInterrupt
                real(source, final)
                if left[0] == 0:
                    raise KeyboardInterrupt

            monkeypatch.setattr(os, "replace", replace)
            with contextlib.suppress(KeyboardInterrupt), folders.staged_folder(out, overwrite=True) as staging:
                (staging / "content").write_text("new")
            monkeypatch.setattr(os, "replace", real)
            folders.check_replaceable(out, overwrite=True)  # the old one may have been aside, whole
            assert (out / "content").read_text() in ("old", "new")
            assert [n for n in names(out.parent) if not n.startswith(".out.old-")] == ["out"]


KILLED = """
import os, signal, sys
from rakelight import files, folders
folders._exchange_at_once = (lambda a, b: False) if sys.argv[2] == "two renames" else folders._exchange_at_once
real = folders.replace
def replace(source, final):
    real(source, final)
    if ".old-" in final.name:
        os.kill(os.getpid(), signal.SIGKILL)
folders.replace = replace
remove = folders._remove_tree
folders._remove_tree = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
with folders.staged_folder(sys.argv[1], overwrite=True, marker="kind.json") as staging:
    files.write_text(staging / "kind.json", "new")
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_kill_while_a_folder_is_replaced_loses_nothing(tmp_path: Path, exchange: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "kind.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), exchange], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if exchange == "at once":
        assert (out / "kind.json").read_text() == "new"
        return
    assert not out.exists() and [n[:9] for n in names(tmp_path) if ".old-" in n] == [".out.old-"]
    with pytest.raises(StorageError, match="exists already"), folders.staged_folder(out, marker="kind.json"):
        pytest.fail("must not be entered")
    assert (out / "kind.json").read_text() == "old"


def test_only_the_one_old_folder_of_that_name_is_put_back(tmp_path: Path) -> None:
    for name in (".out.old-1", ".out.old-2", ".outer.old-1", ".[o]ut.old-1"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.old-1" / "a").write_text("x")
    before = names(tmp_path)
    folders.check_replaceable(tmp_path / "out", overwrite=False)  # two: nobody can say which
    assert names(tmp_path) == before
    (tmp_path / ".out.old-2").rmdir()
    with pytest.raises(StorageError, match="exists already"):
        folders.check_replaceable(tmp_path / "out", overwrite=False)
    assert names(tmp_path / "out") == ["a"]


def test_errors_of_the_callers_own_files_pass_unchanged(tmp_path: Path) -> None:
    missing = tmp_path / "input.png"
    for write in (folders.staged_folder(tmp_path / "out"), files.atomic_write(tmp_path / "a.bin")):
        with pytest.raises(FileNotFoundError) as caught, write:
            missing.read_bytes()
        assert not isinstance(caught.value, StorageError) and caught.value.filename == str(missing)
    with pytest.raises(OSError, match="no picture") as plain, folders.staged_folder(tmp_path / "out"):
        raise OSError("no picture")
    assert not isinstance(plain.value, StorageError)
    with pytest.raises(StorageError) as told, folders.staged_folder(tmp_path / "out") as staging:
        (staging / "absent" / "a").write_text("x")
    assert told.value.code == "storage.not_writable"
    for number, code in ((errno.ENOSPC, "storage.disk_full"), (errno.EROFS, "storage.not_writable")):
        with pytest.raises(StorageError) as told, folders.staged_folder(tmp_path / "out"):
            raise OSError(number, os.strerror(number))
        assert told.value.code == code and str(tmp_path / "out") in told.value.message
    assert names(tmp_path) == []


@pytest.mark.parametrize("existing", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, existing: bool) -> None:
    target, link = tmp_path / "disk2" / "real", tmp_path / "out"
    target.mkdir(parents=True)
    if existing:
        (target / "a").write_text("old")
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("needs the right to make symbolic links")
    with folders.staged_folder(link, overwrite=existing) as staging:
        assert staging.parent == target.parent
        files.write_text(staging / "a", "new")
    assert link.is_symlink() and (target / "a").read_text() == "new"
    assert names(tmp_path) == ["disk2", "out"] and names(tmp_path / "disk2") == ["real"]


def test_a_file_or_the_top_of_the_disk_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for final in (tmp_path / "file", Path("/")):
        with pytest.raises(StorageError) as caught, folders.staged_folder(final, overwrite=True):
            pytest.fail("must not be entered")
        assert caught.value.code == "storage.not_a_folder"
    for final in (tmp_path / "file" / "out", tmp_path / ("n" * 300)):
        with pytest.raises(StorageError) as caught, folders.staged_folder(final):
            pytest.fail("must not be entered")
        assert caught.value.code == "storage.not_writable"
    assert (tmp_path / "file").read_text() == "precious"


def test_the_working_folder_itself_can_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with folders.staged_folder(".", overwrite=True) as staging:
        files.write_text(staging / "a", "new")
    assert names(tmp_path / "out") == ["a"]


def test_read_only_copies_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o444)
    folders.fsync_tree(tmp_path)
    for module in (files, folders):
        monkeypatch.setattr(module, "WINDOWS", True)  # there the handle must be open for writing, folders have no fsync
    folders.fsync_tree(tmp_path)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o444
    folders._remove_tree(tmp_path / "absent")
    folders._remove_tree(tmp_path)
    assert not tmp_path.exists()


def test_a_virus_scanner_is_waited_for_on_windows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = os.replace, [2]

    def busy(*args: Any) -> None:
        refusals[0] -= 1
        if refusals[0] >= 0:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        real(*args)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    with pytest.raises(StorageError):
        files.write_text(tmp_path / "a", "x")
    refusals[0] = 2
    for module in (files, folders):
        monkeypatch.setattr(module, "WINDOWS", True)
    files.write_text(tmp_path / "a", "x")
    assert refusals[0] == -1
    refusals[0] = 100
    with pytest.raises(StorageError):
        files.write_text(tmp_path / "a", "y")
    assert (tmp_path / "a").read_text() == "x"


def test_new_parents_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "fsync_folder", synced.append)
    assert files.make_folder(tmp_path / "a/b") == tmp_path / "a/b"
    assert synced == [tmp_path, tmp_path / "a"]
    files.make_folder(tmp_path / "a/b")
    assert len(synced) == 2


def test_rename_folder_refuses_a_place_that_is_taken(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match="exists already"):
        folders.rename_folder(tmp_path / "a", tmp_path / "b")
    folders.rename_folder(tmp_path / "a", tmp_path / "new/c")
    assert names(tmp_path) == ["b", "new"]
    with pytest.raises(StorageError) as caught:
        folders.rename_folder(tmp_path / "a", tmp_path / "d")
    assert caught.value.code == "storage.not_writable"


# --- JSON, hashes ---


def test_json_round_trip_and_canonical_form(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, "Größe ×"], "a": True}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json", error=DatasetError) == value
    assert files.canonical_json(value) == '{"a":true,"b":[1,2.5,null,"Größe ×"]}'
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert files.read_json(tmp_path / "a.json", error=DatasetError) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": "\xff"}', "utf-8"),
        (b"[" * 100_000, "recursion"),
        (b'{"a": 1', "delimiter"),
        (b"", "Expecting value"),
    ],
)
def test_hostile_json_is_one_error_of_the_kind_asked_for(tmp_path: Path, text: bytes, problem: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    for kind in (DatasetError, CalibrationError):
        with pytest.raises(kind, match=f"{path} cannot be read as JSON: .*{problem}") as caught:
            files.read_json(path, error=kind)
        assert caught.value.code == "file.corrupt"


def test_long_and_missing_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps("x" * 2000))
    with pytest.raises(DatasetError, match="2002 bytes; at most 1000 are read"):
        files.read_json(path, error=DatasetError, max_bytes=1000)
    with pytest.raises(DatasetError, match="does not exist") as caught:
        files.read_json(tmp_path / "b.json", error=DatasetError)
    assert caught.value.code == "file.missing"
    with pytest.raises(DatasetError, match="cannot be read as JSON"):
        files.read_json(tmp_path, error=DatasetError)


def test_hashes_and_npz(tmp_path: Path) -> None:
    assert files.sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    files.write_npz(tmp_path / "a.npz", {"a": a})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["a"], a)
    assert files.sha256_file(tmp_path / "a.npz") == files.sha256_bytes((tmp_path / "a.npz").read_bytes())
    with pytest.raises(ValueError, match="allow_pickle"):
        files.write_npz(tmp_path / "a.npz", {"a": np.array([object()])})
    assert files.sha256_file(tmp_path / "a.npz") == files.sha256_bytes((tmp_path / "a.npz").read_bytes())
