"""A device that never answers: how long does each call of each driver really take, against its deadline?

    python benchmarks/deadlines.py [--only camera|lights|projector|port]

The silence is at the far end of the real wire: serial lines whose device is deaf (pseudo-terminal and TCP), a server that
accepts a connection and says nothing, one that does not even accept; a camera that is never triggered; and a GenTL producer
whose calls do not return (the simulated camera's, with ``hanging_producer.c`` in between). Deadlines are those that a call is
given, or that its class documents. Bar: no call takes longer than 1.2 times its deadline. Prints one JSON object; exits 1 if
one does, or if a call succeeds that cannot have.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rakelight.acquisition import camera_process
from rakelight.acquisition.camera_process import CameraProcess
from rakelight.acquisition.devices import CameraSettings
from rakelight.acquisition.drivers.lights import SerialLights
from rakelight.acquisition.drivers.projector_bridge import DEADLINE_S, BridgeProjector, ProjectorSettings
from rakelight.acquisition.drivers.projector_frames import MAX_LINE
from rakelight.acquisition.serial_port import SerialPort, exactly
from rakelight.acquisition.simulator.gentl.build import command_of, cti_path, find_compilers, sources
from rakelight.acquisition.simulator.light_device import BAUD, light_device
from rakelight.acquisition.simulator.projector_device import ProjectorDevice
from rakelight.acquisition.simulator.serial_host import SerialHost
from rakelight.acquisition.simulator.timeline import Timeline
from rakelight.errors import DeviceError
from rakelight.reconstruction.patterns import Uniform

BAR = 1.2
ZONES = {1: 1, 2: 2, 3: 3, 4: 4}
HUNG = (
    "IFOpenDevice",
    "DevClose",
    "GCReadPort",
    "GCWritePort",
    "DSStartAcquisition",
    "DSStopAcquisition",
    "EventGetData",
)
SETTINGS = CameraSettings(1000.0, pixel_format="Mono8")


@dataclass(frozen=True)
class Timed:
    """One call: what it was, how long it took, its deadline, and the error's code (empty: none was raised)."""

    call: str
    seconds: float
    deadline_s: float
    code: str

    def to_plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        ratio = round(self.seconds / self.deadline_s, 3)
        return {
            "call": self.call,
            "s": round(self.seconds, 3),
            "deadline_s": round(self.deadline_s, 3),
            "ratio": ratio,
            "code": self.code,
        }


def main() -> int:
    groups: dict[str, Callable[[], Iterator[Timed]]] = {
        "port": port, "lights": lights, "projector": projector, "camera": camera,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=groups)
    only = parser.parse_args().only
    logging.disable(logging.WARNING)  # that something may still be lit is what is expected here
    calls: list[Timed] = []
    for name, group in groups.items():
        if only in (None, name):
            for timed in group():
                print(
                    f"{timed.call:56s} {timed.seconds:7.3f} s of {timed.deadline_s:7.3f} s {timed.code}",
                    file=sys.stderr,
                )
                calls.append(timed)
    worst = max(calls, key=lambda timed: timed.seconds / timed.deadline_s).to_plain()
    met = worst["ratio"] <= BAR
    result = {
        "benchmark": "deadlines",
        "calls": [timed.to_plain() for timed in calls],
        "worst": worst["call"],
        "bar": {"time_over_deadline": {"bar": BAR, "measured": worst["ratio"], "met": met}},
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


def timed(name: str, deadline_s: float, call: Callable[[], object], *, silent: bool = True) -> Timed:
    """Measure one call; ``silent``: it must fail, since nobody answered it."""
    start = time.monotonic()
    code = ""
    try:
        call()
    except DeviceError as error:
        code = error.code
    seconds = time.monotonic() - start
    if silent and not code:
        raise SystemExit(f"{name} succeeded though nobody can have answered")
    return Timed(name, seconds, deadline_s, code)


# ---------------------------------------------------------------------------------------------------- serial lines
@contextlib.contextmanager
def mute_server(accepting: bool = True) -> Iterator[str]:
    """A server that accepts connections and never says a word; or one whose queue is full, so that connecting takes for ever."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=8 if accepting else 0) as server,
        contextlib.ExitStack() as kept,
    ):
        if not accepting:
            for _ in range(4):  # more than the queue holds
                waiting = kept.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(server.getsockname())
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"


def port() -> Iterator[Timed]:
    """The transport that all serial drivers share."""
    with mute_server(accepting=False) as url:
        yield timed("port: open, server does not accept", 0.5, lambda: SerialPort(url, 9600, open_s=0.5))
    with mute_server() as url, contextlib.closing(SerialPort(url, 9600)) as line:
        for once in (True, False):
            ask = lambda once=once: line.exchange(b"?\r", until=exactly(4), deadline_s=0.3, idempotent=not once)  # noqa: E731
            yield timed(f"port: exchange {'once' if once else 'twice'}, mute server", 0.3, ask)
        holder = threading.Thread(target=_hold, args=(line,))
        holder.start()
        time.sleep(0.05)
        yield timed(
            "port: exchange, held by another thread", 0.3, lambda: line.exchange(b"?", until=exactly(4), deadline_s=0.3)
        )
        holder.join()


def _hold(line: SerialPort) -> None:
    with contextlib.suppress(DeviceError):  # it is not answered either
        line.exchange(b"?\r", until=exactly(4), deadline_s=1.0)


def lights() -> Iterator[Timed]:
    """Every protocol on both wires, on a device that went deaf, and opened on a mute server.

    Deadlines from the driver's documentation: a command is tried twice; after a failure each of the four channels is told to go
    dark, once and with less patience from the second on (``light``, opening, ``close``), or twice (``off``); last, where the
    protocol can, all at once.
    """
    for family in BAUD:
        for wire in ("pty", "socket"):
            yield from _family(family, wire)


def _family(family: str, wire: Any) -> Iterator[Timed]:
    answers = family != "vst"  # which cannot notice
    with SerialHost(light_device(family, ZONES, Timeline()), baud=BAUD[family], wire=wire) as host:
        made = SerialLights(protocol=family, port=host.url, channels=ZONES)
        made.light([1])
        host.set_faults("deaf")
        one, last = answer_s(made), made._line.protocol.master is not None
        dark = 1 + 3 / 4 + last / 4
        yield timed(f"lights {family} {wire}: light", (2 + dark) * one, lambda: made.light([2, 3]), silent=answers)
        yield timed(f"lights {family} {wire}: off", (2 * 4 + last) * one, made.off, silent=answers)
        yield timed(f"lights {family} {wire}: close", dark * one, made.close, silent=False)  # it tells the log only
    if wire == "socket":
        with mute_server() as url:
            settings = {"protocol": family, "port": url, "channels": ZONES}
            told = f"lights {family} {wire}: open"
            yield timed(told, (2 + dark) * one, lambda: SerialLights(**settings).close(), silent=answers)


def answer_s(made: SerialLights) -> float:
    """Time of one try of the longest command: the bytes' own time on the line, the controller's latency, and the pause that
    the protocol wants."""
    protocol, line = made._line.protocol, made._line
    commands = [protocol.level(1, 0)] + ([protocol.switch(1, True)] if protocol.switch is not None else [])
    return max(line.limit_s(command, 1) for command in commands) + protocol.gap_s


def projector() -> Iterator[Timed]:
    """Every call of the bridge's driver; the deadline is its own, and the bytes' time on the line on top of it."""
    limit = DEADLINE_S + 6 * 2 * MAX_LINE * 10 / 115200  # at most three requests, each twice, and their answers
    calls: dict[str, Callable[[BridgeProjector], object]] = {
        "load": lambda p: p.load([Uniform(1.0).to_plain()]),
        "show": lambda p: p.show(1, 0),
        "arm": lambda p: p.arm(1, 4000, 6000),
        "start": lambda p: p.start(),
        "status": lambda p: p.status(),
        "dark": lambda p: p.dark(),
        "close": lambda p: p.close(),
    }
    for wire in ("pty", "socket"):
        for fault in ("deaf", "silence"):
            for name, call in calls.items():
                device = ProjectorDevice(Timeline())
                with SerialHost(device, baud=115200, wire=wire) as host:  # type: ignore[arg-type]
                    made = BridgeProjector(ProjectorSettings(port=host.url))
                    made.load([Uniform(1.0).to_plain()])
                    if name == "start":
                        made.arm(1, 4000, 6000)
                    host.set_faults(fault)
                    told = f"projector {wire} {fault}: {name}"
                    yield timed(told, limit, lambda made=made, call=call: call(made), silent=name != "close")
                    made.close()
                device.close()
    with mute_server() as url:
        yield timed("projector: open, mute server", limit, lambda: BridgeProjector(ProjectorSettings(port=url)))


# ---------------------------------------------------------------------------------------------------------- camera
def camera() -> Iterator[Timed]:
    """A camera that nobody triggers, then one whose producer does not return from a call."""
    with contextlib.closing(CameraProcess("genicam", {"producer": str(cti_path())})) as made:
        made.configure(SETTINGS)
        made.arm(1)
        for deadline_s in (0.1, 0.5, 1.0, 3.0):
            yield timed(
                f"camera: next_frame({deadline_s:g}), no trigger", deadline_s, lambda d=deadline_s: made.next_frame(d)
            )
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        producer = compile_hanging(folder)
        yield from (hung(folder, producer, *case) for case in hung_calls())


def hung_calls() -> Iterator[tuple[str, str, float, Callable[[CameraProcess], object]]]:
    """GenTL function that hangs, name of the call, its deadline, the call on an armed camera (unless it has to be idle)."""
    one = camera_process._CALL_S
    for deadline_s in (1.0, 3.0):  # the least that a capture waits is 1 s
        yield "EventGetData", f"next_frame({deadline_s:g})", deadline_s, lambda c, d=deadline_s: c.next_frame(d)
    yield "GCWritePort", "trigger", one, lambda c: c.trigger()
    yield "GCWritePort", "set_exposure", one, lambda c: c.set_exposure(2000)
    yield "GCReadPort", "configure", one, lambda c: (c.disarm(), c.configure(SETTINGS))
    yield "DSStartAcquisition", "arm", one, lambda c: (c.disarm(), c.arm(1))
    yield "DSStopAcquisition", "disarm", one, lambda c: c.disarm()
    yield "DevClose", "close", one, lambda c: c.close()
    yield "IFOpenDevice", "open", camera_process._OPEN_S, lambda c: c.reopen()


def hung(
    folder: Path, producer: Path, function: str, name: str, deadline_s: float, call: Callable[[CameraProcess], object]
) -> Timed:
    """One call while ``function`` of the producer does not return."""
    hang = folder / function
    made = CameraProcess("genicam", {"producer": str(producer), "environment": {"RAKELIGHT_HANG": str(folder)}})
    try:
        made.configure(SETTINGS)
        made.arm(1)
        hang.touch()
        return timed(f"camera, {function} hangs: {name}", deadline_s, lambda: call(made), silent=name != "close")
    finally:
        hang.unlink(missing_ok=True)
        made.close()


def compile_hanging(folder: Path) -> Path:
    """The simulated camera's producer with ``hanging_producer.c`` between consumer and calls."""
    compiler = next((c for c in find_compilers() if not c.cl), None)
    if compiler is None:
        raise SystemExit("this benchmark needs a compiler that takes gcc's options")
    files = {**sources(), "hanging_producer.c": Path(__file__).with_name("hanging_producer.c").read_bytes()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = command_of(compiler, [n for n in files if n.endswith(".c")], folder / "hanging.cti", folder)
    renamed = [f"-D{name}=real_{name}" for name in HUNG]
    place = len(compiler.command)
    subprocess.run([*command[:place], *renamed, *command[place:]], cwd=folder, check=True)
    return folder / "hanging.cti"


if __name__ == "__main__":
    sys.exit(main())
