"""The producer is compiled once, whole or not at all, and a machine without a compiler is told what to do."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rakelight.acquisition.simulator.gentl import build
from rakelight.errors import DeviceError

posix = pytest.mark.skipif(os.name != "posix", reason="compilers of the tests are shell scripts")

FAKE = """#!/bin/sh
echo run >> "{log}"
while [ $# -gt 0 ]; do [ "$1" = -o ] && out="$2"; shift; done
echo binary > "$out"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return build.cache_folder()


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@posix
class TestCache:
    def test_compiled_once(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        log = tmp_path / "log"
        monkeypatch.setenv("CC", str(script(tmp_path / "bin", "mycc", FAKE.format(log=log))))
        first = build.cti_path()
        assert first.parent == cache and first.read_text() == "binary\n"
        assert build.cti_path() == first
        assert log.read_text() == "run\n"
        assert list(cache.iterdir()) == [first]  # nothing half-made beside it

    def test_again_for_another_compiler_or_source(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = tmp_path / "log"
        compiler = script(tmp_path / "bin", "mycc", FAKE.format(log=log))
        monkeypatch.setenv("CC", str(compiler))
        first = build.cti_path()
        monkeypatch.setenv("CC", f"{compiler} -O1")
        second = build.cti_path()
        sources = dict(build.sources())
        monkeypatch.setattr(build, "sources", lambda: {**sources, "pixels.c": sources["pixels.c"] + b"\n"})
        third = build.cti_path()
        assert len({first, second, third}) == 3
        assert log.read_text() == "run\n" * 3

    def test_earlier_one_serves_when_the_compiler_is_gone(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CC", str(script(tmp_path / "bin", "mycc", FAKE.format(log=tmp_path / "log"))))
        first = build.cti_path()
        monkeypatch.delenv("CC")
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
        assert build.cti_path() == first

    def test_home_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "file"))
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        monkeypatch.setattr(build, "_own_folder", None)
        folder = build.cache_folder()
        assert folder.is_dir() and folder == build.cache_folder()
        assert os.stat(folder).st_mode & 0o077 == 0  # nobody else may put code there
        shutil.rmtree(folder)

    @pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
    def test_processes_that_build_at_once(self, cache: Path) -> None:
        code = (
            "import ctypes\nfrom rakelight.acquisition.simulator.gentl.build import cti_path\n"
            "p = cti_path()\nassert ctypes.CDLL(str(p)).GCInitLib() == 0\nprint(p)\n"
        )
        running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = {process.communicate(timeout=60)[0].strip() for process in running}
        assert said == {str(build.cti_path())}
        assert [path.suffix for path in cache.iterdir()] == [".cti"]


class TestErrors:
    def test_no_compiler(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
        for system, cure in (("Linux", "apt install gcc"), ("Darwin", "xcode-select"), ("Windows", "Build Tools")):
            monkeypatch.setattr(build.platform, "system", lambda system=system: system)
            with pytest.raises(DeviceError, match="no C compiler") as caught:
                build.cti_path()
            assert caught.value.code == "simulator.no_compiler"
            assert cure in caught.value.hint and "ziglang" in caught.value.hint

    def test_cc_that_is_not_there(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", "no-such-compiler -m64")
        with pytest.raises(DeviceError, match="no-such-compiler") as caught:
            build.cti_path()
        assert caught.value.code == "simulator.no_compiler"

    @posix
    def test_what_the_compiler_said(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "#!/bin/sh\necho 'x.c:1: error: first' >&2\nseq 100 >&2\nexit 1\n"
        monkeypatch.setenv("CC", str(script(tmp_path / "bin", "mycc", text)))
        with pytest.raises(DeviceError, match=r"x\.c:1: error: first") as caught:
            build.cti_path()
        assert caught.value.code == "simulator.compile_failed"
        assert caught.value.message.count("\n") < 20 and "lines more" in caught.value.message
        assert list(cache.iterdir()) == []

    @posix
    def test_zig_steps_in_for_a_broken_compiler(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = script(tmp_path / "bin", "cc", "#!/bin/sh\nexit 1\n").parent
        zig = script(tmp_path / "zig", "python", FAKE.format(log=tmp_path / "log"))
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
        monkeypatch.setattr(build, "find_compilers", lambda: [
            build.Compiler((str(folder / "cc"),)), build.Compiler((str(zig), "-m", "ziglang", "cc")),
        ])  # fmt: skip
        assert build.cti_path().read_text() == "binary\n"

    def test_compilers_in_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setattr(build.shutil, "which", lambda name: f"/x/{name}" if name in ("gcc", "clang") else None)
        monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: object() if name == "ziglang" else None)
        commands = [compiler.command for compiler in build.find_compilers()]
        assert commands == [("/x/gcc",), ("/x/clang",), (sys.executable, "-m", "ziglang", "cc")]


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_compiles_without_a_warning(tmp_path: Path) -> None:
    for name, content in build.sources().items():
        (tmp_path / name).write_bytes(content)
    files = [name for name in build.sources() if name.endswith(".c")]
    compiler = build.Compiler((*shlex.split(os.environ.get("CC", "cc")), "-Werror", "-Wpedantic", "-Wshadow"))
    command = build.command_of(compiler, files, tmp_path / "x.cti", tmp_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
