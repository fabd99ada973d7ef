"""``rakelight doctor`` finds what is wrong with a computer, says what cures it, and survives what it looks at."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rakelight.acquisition import serial_open
from rakelight.errors import DeviceError
from rakelight.pipeline import doctor_computer as computer
from rakelight.pipeline import doctor_devices as devices
from rakelight.pipeline import doctor_libraries as libraries
from rakelight.pipeline.doctor_finding import Check, Finding, findings_of

needs_cc = pytest.mark.skipif(shutil.which("gcc") is None or os.name != "posix", reason="compiles a producer")
posix = pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")


def only(found: Iterator[Finding]) -> Finding:
    """The one finding of a check, which tells its cure if and only if something is to be done."""
    (finding,) = found
    assert bool(finding.cure) == (finding.state != "ok"), finding
    return finding


def nothing(_what: str) -> None:
    """Takes notes and forgets them."""


# ------------------------------------------------------------------------------------------------- checks among each other
def test_a_check_that_breaks_or_hangs_is_a_line_of_its_own() -> None:
    good = Finding("good", "ok", "fine")

    def breaks() -> Iterator[Finding]:
        yield good
        raise KeyError("gone")

    def hangs() -> Iterator[Finding]:
        yield good
        time.sleep(60)

    def told() -> Iterator[Finding]:
        raise DeviceError("the lamp is dead", hint="change it")
        yield good

    def unloadable() -> Iterator[Finding]:
        import rakelight.no_such_module  # type: ignore[import-not-found] # noqa: F401

        yield good

    start = time.monotonic()
    found = {c.name: list(findings_of(c)) for c in (
        Check("breaks", breaks), Check("hangs", hangs, 0.4), Check("told", told), Check("unloadable", unloadable)
    )}  # fmt: skip
    assert time.monotonic() - start < 5
    assert found["breaks"][0] == found["hangs"][0] == good
    last = {name: lines[-1] for name, lines in found.items()}
    assert all(finding.state == "fail" and finding.cure and finding.name == name for name, finding in last.items())
    assert "KeyError: 'gone'" in last["breaks"].what and "defect of rakelight" in last["breaks"].cure
    assert "0.4 s" in last["hangs"].what
    assert (last["told"].what, last["told"].cure) == ("the lamp is dead", "change it")
    assert "no_such_module" in last["unloadable"].what and "defect" not in last["unloadable"].cure


# --------------------------------------------------------------------------------------------------------------- libraries
def test_system_libraries_are_those_of_the_installation_script(repository: Path) -> None:
    script = (repository / "scripts" / "system_libs.sh").read_text()
    listed = dict(re.findall(r"(lib\S+\.so\S*)\s+(\S+)", script.split("wanted='")[1].split("present=")[0]))
    assert listed == libraries.SYSTEM_LIBRARIES


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a module of that name and source before all others, for child processes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(libraries, "LOAD_S", 20.0)

    def make(source: str) -> libraries.Library:
        (tmp_path / "shaky.py").write_text(source)
        return libraries.Library("shaky", "shaky-package", "tests")

    return make


@pytest.mark.parametrize(
    ("source", "what", "cure"),
    [
        ("raise ImportError('libGL.so.1: cannot open shared object file: No such file')", "libGL.so.1 is", "libgl1"),
        (
            "raise ImportError('libodd.so.7: cannot open shared object file')",
            "libodd.so.7 is missing",
            "hold libodd.so.7",
        ),
        ("raise ImportError('DLL load failed while importing shaky: not found')", "DLL load failed", "vc_redist.x64"),
        ("import absent_part", "lacks the module absent_part", "install --force-reinstall shaky-package"),
        ("raise ValueError('odd')", "ValueError: odd", "install --force-reinstall shaky-package"),
        (
            "import os; print('last words'); os.abort()",
            "SIGABRT" if os.name == "posix" else "ended with code",
            "reinstall",
        ),
    ],
)
def test_library_that_does_not_load(fake: Any, source: str, what: str, cure: str) -> None:
    finding = only(libraries.load(fake(source)))
    assert finding.state == "fail" and finding.name == "shaky-package"
    assert what in finding.what and "needed for tests" in finding.what and cure in finding.cure


def test_library_that_is_absent_or_hangs(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = only(libraries.load(libraries.Library("absent_lib", "absent-lib", "tests")))
    assert "is not installed" in finding.what and finding.cure.endswith("-m pip install absent-lib")
    monkeypatch.setattr(libraries, "LOAD_S", 1.5)
    finding = only(libraries.load(fake("import time; time.sleep(60)")))
    assert finding.state == "fail" and "did not load within 1.5 s" in finding.what
    monkeypatch.setattr(libraries, "SYSTEM_LIBRARIES", {"libabsent.so.3": "libabsent3"})
    if sys.platform == "linux":
        finding = only(libraries.system_libraries())
        assert finding.what == "missing: libabsent.so.3" and "apt-get install -y libabsent3" in finding.cure


def test_old_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(computer.packages()).state == "ok"
    wanted = ["numpy>=999.1", "absent-package>=1", 'pytest>=999; extra == "dev"', "click>=8"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    finding = only(computer.packages())
    assert finding.state == "fail" and "at least 999.1 is needed; absent-package is missing" in finding.what
    assert finding.cure.endswith('-m pip install "numpy>=999.1" "absent-package"')


@pytest.mark.parametrize(
    ("cards", "built_for", "there", "state", "word"),
    [
        ([{"name": "H200", "memory_gb": 140.0}], "12.8", True, "ok", "H200 (140 GB)"),
        ([], "", True, "warn", "built without CUDA"),
        ([], "12.8", True, "warn", "cannot use it"),
        ([], "", False, "ok", "processor"),
    ],
)
def test_gpu(monkeypatch: pytest.MonkeyPatch, cards: Any, built_for: str, there: bool, state: str, word: str) -> None:
    told = {"version": "2.13", "built_for": built_for, "cards": cards, "apple": False}
    monkeypatch.setattr(libraries, "ask_child", lambda question, **_: told)
    monkeypatch.setattr(libraries, "nvidia_card", lambda: there)
    finding = only(libraries.gpu())
    assert finding.state == state and word in finding.what


def test_no_compiler_only_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    finding = only(libraries.compiler(nothing))
    assert finding.state == "warn" and "no-such-compiler" in finding.what and "sim://" in finding.cure


# ------------------------------------------------------------------------------------------------------------ the computer
def test_memory_and_date(monkeypatch: pytest.MonkeyPatch) -> None:
    for sizes, state in (((2e9, 1e9), "fail"), ((6e9, 5e9), "warn"), ((16e9, 1e9), "warn"), ((16e9, None), "ok")):
        monkeypatch.setattr(computer, "memory_bytes", lambda sizes=sizes: sizes)
        assert only(computer.memory()).state == state
    assert only(computer.clock()).state == "ok"
    steps = iter([0.0, 0.0])
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(steps))
        finding = only(computer.clock())
    assert finding.state == "fail" and "by 0 ms" in finding.what


def test_shared_memory_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(computer, "_SHARED_MEMORY", tmp_path)
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64_000_000, 0, 64_000_000))
    finding = only(computer.shared_memory())
    assert finding.state == "fail" and "64 MB free" in finding.what and "--shm-size" in finding.cure


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computer, "PROBE_BYTES", 8 << 20)
    notes: list[str] = []
    free = shutil.disk_usage(tmp_path).free
    finding = next(computer.disk("output folder", tmp_path / "to" / "be", notes.append, captures=True))
    per_capture = computer._capture_frames(False) * 5472 * 3648 * 2
    shown = int(re.search(r"room for (\d+) captures", finding.what)[1])  # type: ignore[index]
    assert shown == pytest.approx(free / per_capture, rel=0.2, abs=1)  # others write to this disk meanwhile
    assert f"to be made in {tmp_path}" in finding.what and "MB/s" in finding.what and notes
    assert not list(tmp_path.iterdir())  # nothing stays, nothing is made

    (tmp_path / "file").write_text("no folder")
    finding = only(computer.disk("output folder", tmp_path / "file", nothing, captures=True))
    assert finding.state == "fail" and "cannot write" in finding.what and "--output" in finding.cure


def test_full_and_slow_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Usage = namedtuple("Usage", "total used free")

    def look(free: float, captures: bool = True) -> Finding:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(int(1e12), 0, int(free)))
        return only(computer.disk("output folder", tmp_path, nothing, captures=captures))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:  # a quota that disk_usage does not know
        patch.setattr(os, "fsync", full)
        finding = look(1e12)
        assert finding.state == "fail" and "disk full" in finding.what and not list(tmp_path.iterdir())
    monkeypatch.setattr(computer, "write_speed_mb_s", lambda folder: 500.0)
    assert look(2e8).state == "fail" and "the disk is full" in look(2e8).what
    assert look(2e9).state == "warn" and "make room" in look(2e9).cure
    assert look(1e12).state == "ok" and look(2e9, captures=False).state == "ok"
    monkeypatch.setattr(computer, "write_speed_mb_s", lambda folder: 12.0)
    assert look(1e12).state == "warn" and "12 MB/s, which is less than 80" in look(1e12).what


# ------------------------------------------------------------------------------------------------------- cameras' drivers
def test_no_producer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(devices.PRODUCERS, raising=False)
    finding = only(devices.gentl([], nothing))
    assert finding.state == "warn" and "GENICAM_GENTL64_PATH is not set" in finding.what and ".cti" in finding.cure
    monkeypatch.setenv(devices.PRODUCERS, os.pathsep.join([str(tmp_path), str(tmp_path / "gone")]))
    empty, gone = devices.gentl([], nothing)
    assert "holds no .cti" in empty.what and "does not exist" in gone.what and {empty.state, gone.state} == {"warn"}


@needs_cc
def test_producers_that_are_wrong_crash_or_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("genicam")
    (tmp_path / "a-text.cti").write_text("no library")
    for name, source in (
        ("b-crash", "__attribute__((constructor)) static void f(void){__builtin_trap();}"),
        ("c-hang", f"#include <unistd.h>\n{_stubs()}"),
    ):
        (tmp_path / f"{name}.c").write_text(source)
        command = ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / f"{name}.cti"), str(tmp_path / f"{name}.c")]
        subprocess.run(command, check=True, timeout=60)
    monkeypatch.setenv(devices.PRODUCERS, str(tmp_path))
    monkeypatch.setattr(devices, "PRODUCER_S", 5.0)
    notes: list[str] = []
    start = time.monotonic()
    text, crash, hang = devices.gentl([], notes.append)
    assert 5.0 < time.monotonic() - start < 25.0
    assert all(finding.state == "fail" and finding.cure for finding in (text, crash, hang))
    assert "a-text.cti is no GenTL producer" in text.what
    assert "b-crash.cti crashes" in crash.what and "was ended by SIG" in crash.what
    assert "c-hang.cti hangs" in hang.what and "within 5 s" in hang.what
    assert [note.split()[-1] for note in notes] == ["a-text.cti", "b-crash.cti", "c-hang.cti"]


def _stubs() -> str:
    """A producer that has every function of GenTL and whose first one never returns."""
    from rakelight.acquisition.simulator.gentl.build import cti_path

    listed = subprocess.run(
        ["nm", "-D", str(cti_path())], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    names = [name for kind, name in re.findall(r" (\w) (\w+)$", listed, re.M) if kind == "T"]
    assert "GCInitLib" in names
    return "".join(
        f"int {name}(void){{{'for(;;)sleep(9);' if name == 'GCInitLib' else ''}return -1001;}}\n" for name in names
    )


@needs_cc
def test_producer_with_a_camera() -> None:
    pytest.importorskip("genicam")
    from rakelight.acquisition.simulator.gentl.build import cti_path

    finding = only(devices.gentl([cti_path()], nothing))
    assert finding.state == "ok" and "sees rakelight" in finding.what


def test_rig_that_does_not_open(tmp_path: Path) -> None:
    finding = only(devices.rig_tree(str(tmp_path / "absent.toml"), nothing))
    assert finding.state == "fail" and finding.what.count("absent.toml") == 1


# --------------------------------------------------------------------------------------------------- network, USB, serial
@pytest.mark.skipif(os.name != "posix", reason="names of Linux's files")
def test_network_and_usb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lay(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        return path

    monkeypatch.setattr(devices, "_RMEM", lay("rmem_max", "212992"))
    monkeypatch.setattr(devices, "_ROUTES", lay("route", "Iface Destination\noffice0 00000000\ncamera0 0000FEA9"))
    monkeypatch.setattr(devices, "_NET", tmp_path / "net")
    for port, mtu in (("office0", "1500"), ("camera0", "1500"), ("camera1", "9000"), ("lo", "1500")):
        lay(f"net/{port}/mtu", mtu)
        lay(f"net/{port}/operstate", "up")
        if port != "lo":
            lay(f"net/{port}/device/vendor", "x")
    buffer, slow, good = devices.network()
    assert buffer.state == slow.state == "warn" and good.state == "ok"
    assert "0.2 MB" in buffer.what and "rmem_max=33554432" in buffer.cure
    assert "camera0" in slow.what and "mtu 9000" in slow.cure and "camera1" in good.what

    monkeypatch.setattr(devices, "_USB", tmp_path / "usb")
    monkeypatch.setattr(devices, "_USBFS", lay("usbfs", "16"))
    lay("usb/1-1/1-1:1.0/bInterfaceClass", "08")
    assert only(devices.usb()).what == "no camera plugged in"
    for key, text in (("bInterfaceClass", "ef"), ("bInterfaceSubClass", "05")):
        lay(f"usb/2-1/2-1:1.0/{key}", text)
    for key, text in (("product", "acA5472"), ("speed", "480"), ("busnum", "2"), ("devnum", "7")):
        lay(f"usb/2-1/{key}", text)
    small, closed = devices.usb()
    assert small.state == "warn" and "16 MB" in small.what and "usbfs_memory_mb" in small.cure
    assert closed.state == "fail" and "/dev/bus/usb/002/007" in closed.what and "udev" in closed.cure
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert "USB 2 speed" in list(devices.usb())[1].what
    lay("usb/2-1/speed", "5000")
    lay("usbfs", "1000")
    assert only(devices.usb()).state == "ok"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A serial port, the only one of this computer."""
    import pty

    master, slave = pty.openpty()
    name = os.ttyname(slave)
    monkeypatch.setattr(serial_open, "list_ports", lambda: [serial_open.PortInfo(name, "adapter", "7", "/dev/by-id/7")])
    yield name
    os.close(master)
    os.close(slave)


@posix
def test_port_opens_or_may_not_be_opened(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = only(devices.ports())
    assert finding.state == "ok" and finding.what == f"{port} (adapter) opens; in rig.toml: /dev/by-id/7"

    def refused(url: str, **_: Any) -> None:
        raise serial_open.serial.SerialException(errno.EACCES, f"could not open port {url}: Permission denied")

    monkeypatch.setattr(serial_open.serial, "serial_for_url", refused)
    finding = only(devices.ports())
    import grp

    group = grp.getgrgid(os.stat(port).st_gid).gr_name
    assert finding.state == "fail" and f"belongs to the group {group}" in finding.what
    monkeypatch.setattr(serial_open, "list_ports", lambda: [])
    finding = only(devices.ports())
    assert finding.state == "warn" and "plug in" in finding.cure
    monkeypatch.setattr(serial_open, "list_ports", lambda: [serial_open.PortInfo("COM7", "Bluetooth link")])
    assert only(devices.ports()).state == "ok"  # not opened: ``refused`` would have said so


@posix
@pytest.mark.skipif(sys.platform != "linux", reason="who has it is told on Linux only")
def test_port_that_another_program_has(port: str) -> None:
    script = (
        f"import serial, time; p = serial.Serial({port!r}, exclusive=True); print('has it', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "has it\n"
        finding = only(devices.ports())
        assert finding.state == "warn" and "in use by another program" in finding.what
        assert f"process {other.pid}" in finding.what and "ModemManager" not in finding.cure
    finally:
        other.kill()
        other.communicate()
