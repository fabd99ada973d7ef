"""``rakelight doctor``: the computer itself – Python and its packages, processor, memory, clocks, disks.

Whatever needs a library is imported where it is used: doctor must also run where libraries are broken.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rakelight.errors import StorageError
from rakelight.files import storage_error
from rakelight.pipeline.doctor_finding import Check, Finding, State

FRAME_BYTES = 5472 * 3648 * 2
"""A frame of the reference camera, 20 megapixels of 12 bit in 16."""
PROBE_BYTES = 64 << 20
_BLOCK_BYTES = 4 << 20
_MIN_PYTHON = (3, 11)
_FEW_GB, _ENOUGH_GB, _FREE_GB = 4.0, 7.5, 2.0  # a computer sold with 8 GB shows a little less
_SLOW_MB_S = 80.0  # two frames a second
_FEW_CAPTURES = 20
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - memory, not a temporary file


def checks(output: Path, note: Callable[[str], None]) -> list[Check]:
    """The checks of the computer; ``output`` is where recordings are to go, ``note`` is told of what takes a second."""
    temporary = Path(tempfile.gettempdir())
    return [
        Check("python", python),
        Check("packages", packages),
        Check("processor", processor),
        Check("memory", memory),
        Check("shared memory", shared_memory),
        Check("clock", clock),
        Check("temporary files", partial(disk, "temporary files", temporary, note, captures=False), 60.0),
        Check("output folder", partial(disk, "output folder", output, note, captures=True), 60.0),
    ]


def python() -> Iterator[Finding]:
    bits = 64 if sys.maxsize > 2**32 else 32
    what = f"{platform.python_version()}, {bits} bit, on {platform.platform()} ({platform.machine()})"
    cure = "install a 64-bit Python 3.11 or newer from python.org, and rakelight into it"
    yield (
        Finding("python", "ok", what)
        if bits == 64 and sys.version_info >= _MIN_PYTHON
        else Finding("python", "fail", what, cure)
    )


def packages() -> Iterator[Finding]:
    """What rakelight's own metadata requires, against what is installed; nothing is loaded."""
    try:
        required = [r for r in importlib.metadata.requires("rakelight") or () if "extra ==" not in r]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            "fail",
            "rakelight runs from its source and is not installed",
            "in its folder: python -m pip install -e .",
        )
        return
    wrong, wanted = [], []
    for requirement in required:
        name, least = re.match(r"([\w.-]+)(?:\s*>=\s*([\d.]+))?", requirement).groups()  # type: ignore[union-attr]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            wanted.append(name)
            continue
        if least and _numbers(version) < _numbers(least):
            wrong.append(f"{name} is {version}, at least {least} is needed")
            wanted.append(f"{name}>={least}")
    if wrong:
        listed = " ".join(f'"{w}"' for w in wanted)
        yield Finding("packages", "fail", "; ".join(wrong), f"{_called(sys.executable)} -m pip install {listed}")
    else:
        yield Finding("packages", "ok", f"all {len(required)} that rakelight needs are installed, none too old")


def _numbers(version: str) -> tuple[int, ...]:
    digits = re.match(r"\d+(\.\d+)*", version)
    numbers = tuple(int(part) for part in digits.group().split(".")) if digits else ()
    return (*numbers, 0, 0, 0, 0)[:4]


def _called(program: str) -> str:
    return f'"{program}"' if " " in program else program


def processor() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))  # of a container or a pinned program fewer than there are
    if cores < 2:
        yield Finding(
            "processor",
            "warn",
            "1 core: camera, disk and checks of the pictures take turns, so captures are slow",
            "use a computer with 4 cores, or give this virtual machine more",
        )
    else:
        yield Finding("processor", "ok", f"{cores} cores for this program")


def memory() -> Iterator[Finding]:
    total, free = memory_bytes()
    what = f"{total / 1e9:.1f} GB" + (f", {free / 1e9:.1f} GB of it free" if free is not None else "")
    need = "capturing 20 MP takes 1.5 GB, reconstructing them more"
    if total < _ENOUGH_GB * 1e9:
        state: State = "fail" if total < _FEW_GB * 1e9 else "warn"
        yield Finding("memory", state, f"{what}; {need}", "put in more memory: 8 GB at least, 16 GB are comfortable")
    elif free is not None and free < _FREE_GB * 1e9:
        yield Finding("memory", "warn", f"{what}; {need}", "close other programs")
    else:
        yield Finding("memory", "ok", what)


def shared_memory() -> Iterator[Finding]:
    """Where the camera's process lays its frames on Linux; containers give little of it."""
    if not _SHARED_MEMORY.is_dir():
        return
    from rakelight.acquisition.camera_process import SLOTS

    room, needed = shutil.disk_usage(_SHARED_MEMORY).free, SLOTS * FRAME_BYTES
    what = f"{_SHARED_MEMORY} has {room / 1e6:.0f} MB free; the camera's frames of 20 MP need {needed / 1e6:.0f} MB"
    yield (
        Finding("shared memory", "ok", what)
        if room >= needed
        else Finding(
            "shared memory",
            "fail",
            what,
            f"give it more: sudo mount -o remount,size=1G {_SHARED_MEMORY}; of a container: docker run --shm-size=1g",
        )
    )


def memory_bytes() -> tuple[int, int | None]:
    """Memory of this computer and how much of it is free (None where the system does not tell), bytes."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
                (name, ctypes.c_ulonglong) for name in ("total", "free", "pt", "pf", "vt", "vf", "ev")
            ]

        status = Status(length=ctypes.sizeof(Status))
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise OSError("GlobalMemoryStatusEx failed")
        return int(status.total), int(status.free)
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if sys.platform == "linux":
            for line in Path("/proc/meminfo").read_text().splitlines():
                if line.startswith("MemAvailable:"):
                    return total, int(line.split()[1]) * 1024
        return total, None


def clock() -> Iterator[Finding]:
    """Deadlines need a clock that goes on steadily; recordings carry the date."""
    before, start = time.monotonic(), time.perf_counter()
    time.sleep(0.1)
    passed, real = time.monotonic() - before, time.perf_counter() - start
    now = datetime.datetime.now(datetime.UTC)
    resolution_ms = time.get_clock_info("monotonic").resolution * 1e3
    if abs(passed - real) > 0.05:
        yield Finding(
            "clock",
            "fail",
            f"the clock for deadlines went on by {passed * 1e3:.0f} ms while {real * 1e3:.0f} ms passed",
            "restart the computer; of a virtual machine, mend its time settings",
        )
    elif now.year < 2025:
        yield Finding(
            "clock",
            "fail",
            f"the date is {now:%Y-%m-%d}; recordings carry it",
            "set the date and time of this computer",
        )
    else:
        step = f"{resolution_ms:.2g} ms" if resolution_ms >= 0.01 else "less than 0.01 ms"
        yield Finding("clock", "ok", f"steady, in steps of {step}; UTC now {now:%Y-%m-%d %H:%M}")


def disk(name: str, folder: Path, note: Callable[[str], None], *, captures: bool) -> Iterator[Finding]:
    """Can the folder be written, how much room has it, how fast is it; with ``captures``, how many of 20 MP fit."""
    there = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), folder)
    where = str(folder.absolute()) + ("" if there == folder.absolute() else f" (to be made in {there})")
    choose = "choose another folder with --output" if captures else "set TMPDIR (on Windows TEMP) to another folder"
    free = shutil.disk_usage(there).free
    room = f"{where}: {free / 1e9:.1f} GB free"
    fit = 0
    if captures:
        plain, patterns = (_capture_frames(with_patterns) for with_patterns in (False, True))
        fit = free // (plain * FRAME_BYTES)
        room += (
            f", room for {fit} captures of 20 MP (of {plain} frames, {plain * FRAME_BYTES / 1e9:.2f} GB each) or "
            f"{free // (patterns * FRAME_BYTES)} with patterns ({patterns} frames, {patterns * FRAME_BYTES / 1e9:.1f} GB)"
        )
    if free < 2 * PROBE_BYTES or (captures and not fit):
        yield Finding(name, "fail", f"{room}: the disk is full", f"delete or move what is not needed, or {choose}")
        return
    note(f"{name}: writing {PROBE_BYTES / 1e6:.0f} MB")
    try:
        speed = write_speed_mb_s(there)
    except StorageError as error:
        yield Finding(name, "fail", f"{where}: {error.message}", f"{error.hint}; or {choose}")
        return
    what = f"{room}; writes {speed:.0f} MB/s"
    if captures and fit < _FEW_CAPTURES:
        yield Finding(name, "warn", what, f"make room before the disk is full, or {choose}")
    elif captures and speed < _SLOW_MB_S:
        yield Finding(
            name,
            "warn",
            f"{what}, which is less than {_SLOW_MB_S:.0f}: captures wait for the disk",
            f"record to an SSD inside this computer, not to a network folder or USB stick: {choose}",
        )
    else:
        yield Finding(name, "ok", what)


def write_speed_mb_s(folder: Path) -> float:
    """Speed of writing 64 MiB that cannot be compressed, fsync included, MB/s; nothing stays behind.

    Raises :class:`StorageError` when the folder cannot be written or its disk is full.
    """
    block = os.urandom(_BLOCK_BYTES)
    try:
        with tempfile.TemporaryFile(prefix=".rakelight-doctor-", dir=folder) as handle:
            start = time.perf_counter()
            for _ in range(PROBE_BYTES // _BLOCK_BYTES):
                handle.write(block)
            handle.flush()
            os.fsync(handle.fileno())
            seconds = time.perf_counter() - start
    except OSError as error:
        raise storage_error(error, folder) from error
    return PROBE_BYTES / 1e6 / max(seconds, 1e-6)


def _capture_frames(with_patterns: bool) -> int:
    """Frames of one part on a full rig with an ordinary recipe."""
    from rakelight.acquisition.recipe import PatternRecipe, Recipe, make_plan

    patterns = PatternRecipe(exposure_us=1000.0) if with_patterns else None
    recipe = Recipe(product="any", exposure_us=1000.0, patterns=patterns)
    return len(make_plan(recipe, (1, 2, 3, 4), (1, 2, 3, 4)).shots)
