"""``rakelight doctor``: the libraries that bring compiled code, what they need of the system, and what they can compute on."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rakelight.errors import RakelightError
from rakelight.pipeline.doctor_child import ask_child
from rakelight.pipeline.doctor_finding import Check, Finding

LOAD_S = 90.0
"""A first start after the installation, with a virus scanner that reads every file, takes most of a minute."""
_COMPILE_S = 200.0  # the build's own limit is 180 s

SYSTEM_LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libEGL.so.1": "libegl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
}
"""Shared libraries that Python wheels do not bring on Linux → Debian's package; as in scripts/system_libs.sh."""


@dataclass(frozen=True)
class Library:
    """A library by the module to load, the name pip knows it by, and what rakelight does with it."""

    module: str
    package: str
    use: str


LIBRARIES = (
    Library("numpy", "numpy", "all arrays"),
    Library("scipy.fft", "scipy", "pseudo-3D, light calibration"),
    Library("cv2", "opencv-python", "reading pictures, colour"),
    Library("tifffile", "tifffile", "recordings"),
    Library("harvesters.core", "harvesters", "cameras"),
    Library("genicam.gentl", "genicam", "cameras"),
    Library("serial", "pyserial", "lights and projectors"),
    Library("PySide6.QtWidgets", "PySide6-Essentials", "windows"),
    Library("torch", "torch", "detectors"),
)


def checks(note: Callable[[str], None]) -> list[Check]:
    """The checks of libraries; ``note`` is told of each that is being loaded."""
    loads = [Check(library.package, partial(load, library), LOAD_S + 10) for library in LIBRARIES]
    linux = (
        [Check("system libraries", system_libraries)] if sys.platform == "linux" else []
    )  # elsewhere wheels are complete
    return [
        *linux,
        *loads,
        Check("open3d", rays, LOAD_S + 10),
        Check("numba", kernels, LOAD_S + 10),
        Check("gpu", gpu, LOAD_S + 10),
        Check("C compiler", partial(compiler, note), _COMPILE_S + 10),
    ]


def system_libraries() -> Iterator[Finding]:
    """All that are missing at once; a library that does not load names only the first."""
    missing = ask_child("system_library", " ".join(SYSTEM_LIBRARIES), limit_s=20.0)
    if missing:
        yield Finding("system libraries", "fail", f"missing: {', '.join(missing)}", _install(list(missing)))
    else:
        yield Finding("system libraries", "ok", "all there")


def load(library: Library) -> Iterator[Finding]:
    """Load a library in a process of its own."""
    try:
        ask_child("load", library.module, limit_s=LOAD_S)
    except RakelightError as error:
        yield _does_not_load(library, error)
    else:
        yield Finding(library.package, "ok", f"{_version(library.package)} loads ({library.use})")


def rays() -> Iterator[Finding]:
    """Open3D as the simulator uses it."""
    library = Library("open3d", "open3d", "simulated parts, point clouds")
    try:
        told = ask_child("ray", limit_s=LOAD_S)
    except RakelightError as error:
        yield _does_not_load(library, error)
        return
    if abs(told["distance"] - 2.0) > 1e-5:
        yield Finding("open3d", "fail", f"casts a ray of 2 as {told['distance']:g}", _reinstall("open3d"))
    else:
        yield Finding("open3d", "ok", f"{_version('open3d')} loads and casts rays ({library.use})")


def kernels() -> Iterator[Finding]:
    """Can numba compile, does what it compiled last, and do its threads use the processor?"""
    library = Library("numba", "numba", "all that counts pixels")
    try:
        told = ask_child("kernel", limit_s=LOAD_S)
    except RakelightError as error:
        if "Permission" in error.message or "Read-only" in error.message or "cannot cache" in error.message:
            cure = "set NUMBA_CACHE_DIR to a folder that only you may write"
            yield Finding("numba", "fail", f"cannot keep what it compiles: {error.message}", cure)
        else:
            yield _does_not_load(library, error)
        return
    how = "loads what it compiled before" if told["cached"] else f"compiles ({told['seconds']:.1f} s)"
    threads = f"{told['threads']} threads ({told['layer']})"
    what = f"{_version('numba')} {how}, {threads}, keeps it in {told['place']}"
    if told["sum"] != 499500.0:
        yield Finding("numba", "fail", f"computes wrongly: {told['sum']} instead of 499500", _reinstall("numba"))
    elif not told["lasting"]:
        yield Finding(
            "numba",
            "warn",
            f"{_version('numba')} compiles, but cannot keep it: each start takes some seconds longer",
            "set NUMBA_CACHE_DIR to a folder that only you may write",
        )
    elif told["threads"] == 1 and (os.cpu_count() or 1) > 1:
        yield Finding("numba", "warn", f"{what}: the other cores stay idle", "unset NUMBA_NUM_THREADS")
    else:
        yield Finding("numba", "ok", what)


def gpu() -> Iterator[Finding]:
    """What torch computes on; a graphics card that is there but not used is worth a word."""
    try:
        told = ask_child("gpu", limit_s=LOAD_S)
    except RakelightError as error:
        yield Finding(
            "gpu", "warn", f"could not be asked: {error.message}", error.hint or "mend torch first; see its line"
        )
        return
    if told["cards"]:
        cards = ", ".join(f"{card['name']} ({card['memory_gb']:.0f} GB)" for card in told["cards"])
        yield Finding("gpu", "ok", f"{cards}: detectors train and score on it")
    elif told["apple"]:
        yield Finding("gpu", "ok", "Apple's, through Metal: detectors can use it")
    elif nvidia_card() and not told["built_for"]:
        yield Finding(
            "gpu",
            "warn",
            f"there is an NVIDIA card, but torch {told['version']} is built without CUDA and cannot use it",
            "install the CUDA build; pytorch.org/get-started gives the line for this system",
        )
    elif nvidia_card():
        yield Finding(
            "gpu",
            "warn",
            f"there is an NVIDIA card, but torch {told['version']} (CUDA {told['built_for']}) cannot use it",
            "update NVIDIA's driver and restart; `nvidia-smi` must list the card",
        )
    else:
        yield Finding(
            "gpu", "ok", "none: detectors train and score on the processor, which takes longer; all else never uses one"
        )


def nvidia_card() -> bool:
    """Whether this computer has an NVIDIA card with a driver, asked without the driver."""
    return Path("/proc/driver/nvidia/gpus").is_dir() or shutil.which("nvidia-smi") is not None


def compiler(note: Callable[[str], None]) -> Iterator[Finding]:
    """The C compiler of the simulated camera, by compiling it (the first time; kept afterwards)."""
    note("C compiler: compiling the simulated camera")
    try:
        told = ask_child("simulated_camera", limit_s=_COMPILE_S)
    except RakelightError as error:
        yield Finding(
            "C compiler", "warn", error.message, f"only simulated rigs (sim://) need it; {error.hint or 'try CC=gcc'}"
        )
        return
    by = f"by {told['compiler']}" if told["compiler"] else "earlier; there is no compiler now"
    yield Finding("C compiler", "ok", f"the simulated camera is compiled {by}")


def _does_not_load(library: Library, error: RakelightError) -> Finding:
    """A library's line with the cure that its error calls for."""
    text = error.message
    shared = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object", text)
    absent = re.search(r"No module named '([\w.]+)'", text)
    if shared:
        what, cure = f"{shared.group(1)} is missing", _install([shared.group(1)])
    elif absent and absent.group(1).partition(".")[0] == library.module.partition(".")[0]:
        what, cure = "is not installed", f"{_pip()} install {library.package}"
    elif absent:
        what, cure = f"lacks the module {absent.group(1)}", f"{_pip()} install --force-reinstall {library.package}"
    elif "DLL load failed" in text:
        what = text
        cure = "install Microsoft's Visual C++ Redistributable (x64): https://aka.ms/vs/17/release/vc_redist.x64.exe"
        if library.module == "cv2":
            cure += "; on Windows N editions also the Media Feature Pack (Settings, Optional features)"
    elif error.code == "doctor.hung":
        what = f"did not load within {LOAD_S:g} s"
        cure = "run doctor again; if it stays so, let the virus scanner leave out Python's folder"
    else:
        what, cure = text, _reinstall(library.package)
    return Finding(library.package, "fail", f"does not load (needed for {library.use}): {what}", cure)


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _install(names: list[str]) -> str:
    packages = " ".join(dict.fromkeys(SYSTEM_LIBRARIES.get(name, name) for name in names))
    if all(name in SYSTEM_LIBRARIES for name in names):
        line = f"sudo apt-get install -y {packages}"
        return line if shutil.which("apt-get") else f"install what Debian calls {packages} ({line})"
    return f"install the system packages that hold {', '.join(names)}"


def _reinstall(package: str) -> str:
    return f"{_pip()} install --force-reinstall {package}"


def _pip() -> str:
    program = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{program} -m pip"
