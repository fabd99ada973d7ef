"""``rakelight doctor``: what a camera, lights and projectors are reached through – producers, network, USB, serial ports.

Whatever needs a library is imported where it is used: doctor must also run where libraries are broken.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rakelight.errors import DeviceError, RakelightError
from rakelight.pipeline.doctor_child import ask_child
from rakelight.pipeline.doctor_finding import Check, Finding

if TYPE_CHECKING:
    from rakelight.acquisition.serial_open import PortInfo

PRODUCERS = "GENICAM_GENTL64_PATH"
PRODUCER_S = 20.0
"""GigE producers wait some seconds for cameras to answer."""
_RIG_S = 180.0
_PORT_S = 2.0
_RECEIVE_BYTES = 10_000_000
_USB_MB = 256
_NET, _USB = Path("/sys/class/net"), Path("/sys/bus/usb/devices")
_RMEM, _ROUTES = Path("/proc/sys/net/core/rmem_max"), Path("/proc/net/route")
_USBFS = Path("/sys/module/usbcore/parameters/usbfs_memory_mb")


def checks(producers: Sequence[Path], rig: str | None, note: Callable[[str], None]) -> list[Check]:
    """The checks of what devices hang on, and of the rig if one is named; ``note`` is told of what takes a while."""
    made = [Check("camera driver", partial(gentl, producers, note), PRODUCER_S + 10)]
    if sys.platform == "linux":
        made += [Check("GigE", network), Check("USB3 Vision", usb)]
    made.append(Check("serial ports", ports, 15.0))
    if rig is not None:
        made.append(Check("rig", partial(rig_tree, rig, note), _RIG_S))
    return made


# ------------------------------------------------------------------------------------------------------------- producers
def gentl(producers: Sequence[Path], note: Callable[[str], None]) -> Iterator[Finding]:
    """Each GenTL producer there is: does it load, and which cameras does it see?"""
    asked = list(producers)
    if not asked:
        folders = [Path(p) for p in os.environ.get(PRODUCERS, "").split(os.pathsep) if p]
        asked = [cti for folder in folders if folder.is_dir() for cti in sorted(folder.glob("*.cti"))]
        yield from _folders(folders)
    for producer in dict.fromkeys(asked):
        note(f"camera driver: asking {producer.name}")
        yield _producer(producer)


def _folders(folders: Sequence[Path]) -> Iterator[Finding]:
    install = (
        "install the software of the camera's maker (it brings the .cti file) and open a new terminal; or name the file "
        "with --producer and in rig.toml"
    )
    if not folders:
        what = f"none: {PRODUCERS} is not set, so no camera's driver is known"
        yield Finding("camera driver", "warn", what, f"{install}. Simulated rigs (sim://) need none")
    for folder in dict.fromkeys(folders):
        if not folder.is_dir():
            what = f"{PRODUCERS} names {folder}, which does not exist"
            yield Finding("camera driver", "warn", what, f"take it out of {PRODUCERS}, or {install}")
        elif not any(folder.glob("*.cti")):
            what = f"{PRODUCERS} names {folder}, which holds no .cti file"
            yield Finding("camera driver", "warn", what, f"take it out of {PRODUCERS}, or {install}")


def _producer(producer: Path) -> Finding:
    try:
        cameras = ask_child("cameras", str(producer), limit_s=PRODUCER_S)
    except RakelightError as error:
        return _no_producer(producer, error)
    if not cameras:
        return Finding(
            "camera driver",
            "warn",
            f"{producer} loads, but sees no camera",
            "check power, cable and (GigE) network address of the camera, and close other programs that use it",
        )
    seen = ", ".join(f"{c['vendor']} {c['model']} {c['serial_number']}".strip() for c in cameras)
    return Finding("camera driver", "ok", f"{producer} sees {seen}")


def _no_producer(producer: Path, error: RakelightError) -> Finding:
    again = f"install the camera maker's software again; if you do not need it, take its folder out of {PRODUCERS}"
    if error.code == "doctor.hung":
        what = f"{producer} hangs: it did not tell its cameras within {PRODUCER_S:g} s"
        return Finding("camera driver", "fail", what, f"unplug and plug the camera, restart the computer; or {again}")
    if error.code == "doctor.crashed":
        return Finding("camera driver", "fail", f"{producer} crashes: {error.message}", again)
    return Finding("camera driver", "fail", error.message, error.hint or again)


# --------------------------------------------------------------------------------------------------------- network, USB
def network() -> Iterator[Finding]:
    """Receive buffer for GigE cameras, and the frame size of network ports that are not the way to the world."""
    size = int(_RMEM.read_text()) if _RMEM.is_file() else None
    if size is not None and size < _RECEIVE_BYTES:
        yield Finding(
            "GigE",
            "warn",
            f"the receive buffer may grow to {size / 1e6:.1f} MB only; a GigE camera's frames may arrive incomplete",
            "with a GigE camera: echo net.core.rmem_max=33554432 | sudo tee /etc/sysctl.d/90-camera.conf && "
            "sudo sysctl --system",
        )
    elif size is not None:
        yield Finding("GigE", "ok", f"the receive buffer may grow to {size / 1e6:.1f} MB")
    routed = {line.split()[0] for line in _lines(_ROUTES)[1:] if line.split()[1:2] == ["00000000"]}
    for port in sorted(_NET.glob("*")):
        wired = (port / "device").exists() and not (port / "wireless").exists()
        if not wired or port.name in routed or _text(port / "operstate") != "up":
            continue  # absent, wireless, or the way to the office network, whose frames stay as they are
        mtu = int(_text(port / "mtu") or 0)
        if mtu < 8000:
            yield Finding(
                "GigE",
                "warn",
                f"network port {port.name} sends frames of {mtu} bytes; a camera there would load the processor",
                f"with a GigE camera on it: sudo ip link set dev {port.name} mtu 9000 (and in the network settings, so that "
                "it stays)",
            )
        else:
            yield Finding("GigE", "ok", f"network port {port.name} takes frames of {mtu} bytes")


def usb() -> Iterator[Finding]:
    """USB3 Vision cameras by their interface class: memory for their frames, speed, and the right to use them."""
    cameras = sorted({part.parent for part in _USB.glob("*/*:*") if _is_camera(part)})
    if not cameras:
        yield Finding("USB3 Vision", "ok", "no camera plugged in")
        return
    size = int(_text(_USBFS) or 0)
    if 0 < size < _USB_MB:
        yield Finding(
            "USB3 Vision",
            "warn",
            f"the system keeps {size} MB for USB transfers; frames of 20 MP need more and would be incomplete",
            "now: echo 1000 | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb; for good: "
            "usbcore.usbfs_memory_mb=1000 on the kernel's command line",
        )
    for camera in cameras:
        name = f"{_text(camera / 'manufacturer')} {_text(camera / 'product')} {_text(camera / 'serial')}".strip()
        bus, number = (int(_text(camera / key) or 0) for key in ("busnum", "devnum"))
        node = Path(f"/dev/bus/usb/{bus:03d}/{number:03d}")
        if not os.access(node, os.R_OK | os.W_OK):
            yield Finding(
                "USB3 Vision",
                "fail",
                f"{name} may not be used by this user ({node})",
                "install the udev rule of the camera maker's software, then plug the camera again",
            )
        elif float(_text(camera / "speed") or 0) < 5000:
            what = f"{name} runs at USB 2 speed ({_text(camera / 'speed')} Mbit/s)"
            yield Finding("USB3 Vision", "warn", what, "use a blue (USB 3) socket, a USB 3 cable and no old hub")
        else:
            yield Finding("USB3 Vision", "ok", f"{name}, {_text(camera / 'speed')} Mbit/s")


def _is_camera(interface: Path) -> bool:
    return (_text(interface / "bInterfaceClass"), _text(interface / "bInterfaceSubClass")) == ("ef", "05")


def _text(path: Path) -> str:
    return "".join(_lines(path)[:1]).strip()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # not there on this system, or gone this moment
        return []


# ---------------------------------------------------------------------------------------------------------- serial ports
def ports() -> Iterator[Finding]:
    """Each serial port: may this user open it, and who has it if not?"""
    from rakelight.acquisition.serial_open import list_ports

    there = list_ports()
    if not there:
        yield Finding(
            "serial ports",
            "warn",
            "none: lights and projectors hang on serial ports",
            "plug in their USB adapter and switch it on; socket:// servers and simulated rigs need none",
        )
    for port in there:
        yield _port(port)


def _port(port: PortInfo) -> Finding:
    from rakelight.acquisition.serial_open import open_serial

    shown = f"{port.name} ({port.description})" if port.description not in ("", "n/a", port.name) else port.name
    if "bluetooth" in shown.lower():
        return Finding("serial port", "ok", f"{shown}: Bluetooth, not opened")  # opening it would call the other side
    try:
        open_serial(port.name, 9600, _PORT_S).close()
    except DeviceError as error:
        if error.code != "port.busy":
            return Finding("serial port", "fail", error.message, error.hint)
        users = users_of(port.name)
        who = f" ({', '.join(users)})" if users else ""
        cure = error.hint + ("" if users else "; a port just plugged in may be held by ModemManager for a minute")
        return Finding("serial port", "warn", error.message + who, cure)
    stable = f"; in rig.toml: {port.stable_name}" if port.stable_name else ""
    return Finding("serial port", "ok", f"{shown} opens{stable}")


def users_of(device: str) -> list[str]:
    """Other processes that have a device open, as far as this user may know (Linux only)."""
    real, users = os.path.realpath(device), {}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        pid = link.split("/")[2]
        try:
            if int(pid) != os.getpid() and os.readlink(link) == real:
                users[pid] = _text(Path("/proc") / pid / "comm")
        except OSError:  # it ended, or closed it, this moment
            continue
    return [f"{name}, process {pid}" for pid, name in users.items()]


# ------------------------------------------------------------------------------------------------------------------- rig
def rig_tree(where: str, note: Callable[[str], None]) -> Iterator[Finding]:
    """Open the rig, take one frame, and tell its devices."""
    from rakelight.acquisition.found import check_rig

    def step(what: Any) -> None:
        note(f"rig: {what}")

    try:
        told = check_rig(where, progress=step)
    except RakelightError as error:
        what = error.message if where in error.message else f"{where}: {error.message}"
        yield Finding("rig", "fail", what, error.hint or "mend the lines above first, then look again")
        return
    height, width = told["frame"]["shape"][:2]
    yield Finding("rig", "ok", f"{where}: everything answers; one frame of {width}×{height} px came; all is dark again")
    for name, text in told["devices"].items():
        yield Finding(f"rig {name}", "ok", text)
