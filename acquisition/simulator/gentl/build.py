"""Compile the simulated camera's producer once for each user, source, compiler and platform.

The package carries C source only; ``cti_path`` makes the ``.cti`` that a GenICam consumer loads. It lies in the user's
cache folder and appears there whole or not at all, so any number of processes may ask at once.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rakelight.acquisition.simulator.gentl import sfnc
from rakelight.errors import DeviceError, StorageError
from rakelight.files import fsync_file, make_folder, replace

COMPILE_LIMIT_S = 180.0
"""A first compilation with zig builds the C library as well."""
_SHOWN_LINES = 12
_HERE = Path(__file__).resolve().parent
_own_folder: Path | None = None  # of this process alone, where the cache cannot be written

_CURES = {
    "Linux": "install one with 'sudo apt install gcc' (Debian, Ubuntu) or 'sudo dnf install gcc' (Fedora)",
    "Darwin": "install one with 'xcode-select --install'",
    "Windows": "install the Visual Studio Build Tools (Desktop development with C++) and start from their prompt",
}


@dataclass(frozen=True)
class Compiler:
    """A C compiler: its command line, and whether it takes the options of ``cl`` or those of gcc."""

    command: tuple[str, ...]
    cl: bool = False

    @property
    def identity(self) -> str:
        """Changes when the compiler is exchanged or updated."""
        found = Path(shutil.which(self.command[0]) or self.command[0])
        stat = found.stat() if found.exists() else None
        return repr((self.command, str(found.resolve()), stat and (stat.st_size, stat.st_mtime_ns)))


def cti_path() -> Path:
    """The producer's ``.cti`` file, compiled now if this source has not been compiled before.

    Without a compiler, one that an earlier compiler made from the same source serves as well.

    Raises
    ------
    DeviceError
        ``simulator.no_compiler`` with the cures if there is none; ``simulator.compile_failed`` with the first lines that
        the compiler said.
    """
    stem = f"rakelight-{_platform()}-{source_hash()}"
    folder = cache_folder()
    compilers = find_compilers()
    for compiler in compilers:
        ready = folder / f"{stem}-{_short(compiler.identity)}.cti"
        if ready.is_file():
            return ready
    if not compilers:
        earlier = sorted(folder.glob(f"{stem}-*.cti"))
        if earlier:
            return earlier[0]
        raise _no_compiler()
    failures: list[DeviceError] = []
    for compiler in compilers:
        try:
            return _build(compiler, folder / f"{stem}-{_short(compiler.identity)}.cti")
        except DeviceError as error:
            failures.append(error)
    raise failures[0]


def find_compilers() -> list[Compiler]:
    """What can compile C here, best first: ``$CC`` alone if it is set, else the usual names, else zig from PyPI."""
    chosen = os.environ.get("CC", "").strip()
    if chosen:
        words = shlex.split(chosen, posix=os.name == "posix")
        if not shutil.which(words[0]):
            raise DeviceError(
                f"no C compiler for the simulated camera: CC is {chosen!r}, and there is no program {words[0]!r}",
                hint="set CC to a C compiler, or unset it",
                code="simulator.no_compiler",
            )
        return [Compiler(tuple(words), cl=Path(words[0]).stem.lower() in ("cl", "clang-cl"))]
    found: dict[str, Compiler] = {}
    for name in ("cc", "gcc", "clang", *(("cl",) if os.name == "nt" else ())):
        path = shutil.which(name)
        if path:
            found.setdefault(os.path.realpath(path), Compiler((path,), cl=name == "cl"))
    compilers = list(found.values())
    if importlib.util.find_spec("ziglang"):
        compilers.append(Compiler((sys.executable, "-m", "ziglang", "cc")))
    return compilers


def cache_folder() -> Path:
    """Where compiled producers are kept; a folder of this process alone where the user has no writable one.

    Never a shared place: what lies there is loaded as code.
    """
    global _own_folder
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or str(Path("~") / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(base)) / "rakelight" / "gentl"
    try:
        if not folder.is_absolute():
            raise StorageError(f"{folder} is no absolute path")
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # a StorageError is one: read-only home, account without a home
        if _own_folder is None or not _own_folder.is_dir():
            _own_folder = Path(tempfile.mkdtemp(prefix="rakelight-gentl-"))
            atexit.register(shutil.rmtree, _own_folder, ignore_errors=True)
        return _own_folder


def sources() -> Mapping[str, bytes]:
    """File name → content of all that is compiled: the C files here and what ``sfnc`` makes."""
    files = {path.name: path.read_bytes() for pattern in ("*.c", "*.h") for path in sorted(_HERE.glob(pattern))}
    files["sfnc.h"] = sfnc.header().encode()
    numbers = ",".join(str(byte) for byte in sfnc.camera_xml().encode())
    files["sfnc_xml.c"] = (
        "#include <stddef.h>\n"
        "extern const unsigned char rk_camera_xml[];\nextern const size_t rk_camera_xml_size;\n"
        f"const unsigned char rk_camera_xml[] = {{{numbers}}};\n"
        "const size_t rk_camera_xml_size = sizeof rk_camera_xml;\n"
    ).encode()
    return files


def source_hash() -> str:
    """Short hash of the source and of how it is compiled."""
    digest = hashlib.sha256(repr(command_of(Compiler(("cc",)), ["x.c"], Path("x"), Path())).encode())
    for name, content in sources().items():
        digest.update(f"{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()[:16]


def command_of(compiler: Compiler, files: list[str], output: Path, folder: Path) -> list[str]:
    """The command that compiles ``files`` to ``output``; ``folder`` takes what else the compiler leaves behind."""
    if compiler.cl:
        options = ["/nologo", "/O2", "/std:c11", "/LD", "/W3", "/D_CRT_SECURE_NO_WARNINGS", f"/Fo{folder}{os.sep}"]
        return [*compiler.command, *options, *files, f"/Fe{output}", "ws2_32.lib"]
    options = ["-std=c11", "-O2", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"]
    libraries = ["-lws2_32"] if os.name == "nt" else ["-pthread", "-lm"]
    if os.name != "nt":
        options.append("-fPIC")
    if sys.platform == "linux":
        libraries.append("-ldl")
    return [*compiler.command, *options, *files, "-o", str(output), *libraries]


def _build(compiler: Compiler, final: Path) -> Path:
    """Compile in a folder beside, then move the result to its name."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=final.parent, ignore_cleanup_errors=True) as staging:
        folder = Path(staging)
        files = sources()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        output = folder / "producer.cti"
        command = command_of(compiler, [name for name in files if name.endswith(".c")], output, folder)
        _run(command, folder)
        if not output.is_file():
            raise _compile_failed(command, "it made no file, and gave no reason")
        fsync_file(output)
        try:
            replace(output, final)
        except OSError:
            if not final.is_file():  # Windows keeps a file that another process has loaded; it is the same one
                raise
    return final


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that the user has chosen or installed
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise _compile_failed(command, f"it took longer than {COMPILE_LIMIT_S:.0f} s") from error
    except OSError as error:
        raise _compile_failed(command, f"it cannot be run: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() + "\n" + done.stdout.strip()).strip() or "nothing"
        raise _compile_failed(command, f"exit status {done.returncode}; it said:\n{_first_lines(said)}")


def _first_lines(text: str) -> str:
    lines = text.splitlines()
    more = [f"… and {len(lines) - _SHOWN_LINES} lines more"] if len(lines) > _SHOWN_LINES else []
    return "\n".join(lines[:_SHOWN_LINES] + more)


def _compile_failed(command: list[str], why: str) -> DeviceError:
    return DeviceError(
        f"the simulated camera could not be compiled by {command[0]}: {why}",
        hint="set CC to another C compiler, or 'pip install ziglang'",
        code="simulator.compile_failed",
    )


def _no_compiler() -> DeviceError:
    cure = _CURES.get(platform.system(), "install gcc or clang")
    return DeviceError(
        "the simulated camera is C source that is compiled at first use, and there is no C compiler"
        " (looked for: $CC, cc, gcc, clang, cl on Windows, the Python package ziglang)",
        hint=f"{cure}, or 'pip install ziglang', or set CC to a compiler",
        code="simulator.no_compiler",
    )


def _platform() -> str:
    return f"{sys.platform}-{platform.machine().lower()}-{64 if sys.maxsize > 2**32 else 32}bit"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
