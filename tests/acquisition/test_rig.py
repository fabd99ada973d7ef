"""Who watches while a rig is open, in which order it is closed, and the rig.toml of simulated devices."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import tomllib
from typing import Any

import pytest

from rakelight.acquisition import rig as rig_module
from rakelight.acquisition.found import rig_toml
from rakelight.acquisition.rig import Rig, RigSettings
from rakelight.acquisition.simulator.light_device import light_device
from rakelight.acquisition.simulator.serial_host import SerialHost
from rakelight.acquisition.simulator.timeline import Timeline
from rakelight.errors import DeviceError

LIGHTS = {"driver": "serial", "protocol": "hik", "baud": 115200, "channels": {"1": 1, "2": 2}}


def test_the_guardian_goes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Device:
        def __init__(self, name: str) -> None:
            self.close = lambda: order.append(name)

    monkeypatch.setattr(rig_module, "Guardian", lambda shining: Device("guardian"))
    monkeypatch.setattr(rig_module, "_device", lambda kind, shining: Device(kind))
    monkeypatch.setattr(Rig, "_camera", lambda self: Device("camera"))
    plain = {"rig_id": "x", "camera": {}, "lights": LIGHTS, "projector": {"port": "COM3"}}
    rig = Rig(RigSettings.model_validate(plain), contextlib.ExitStack())
    rig._open_devices()
    rig.close()
    assert order == ["projectors", "lights", "camera", "guardian"]


def test_the_text_of_a_rig_says_what_the_settings_say() -> None:
    plain: dict[str, Any] = {
        "schema": 1,
        "rig_id": 'a "quoted" name, µ',
        "camera": {"producer": "C:\\vendor\\new.cti", "environment": {"A": "1"}},
        "lights": {**LIGHTS, "max_duty": 0.5, "strict_checksum": False},
        "projector": {"directions": [1, 3], "port": "COM3"},
    }
    assert tomllib.loads(rig_toml(plain)) == plain


_PROGRAM = """
import sys, time
from rakelight.acquisition.drivers.lights import SerialLights
from rakelight.acquisition.guardian import Guardian
options = {"protocol": "hik", "port": sys.argv[1], "baud": 115200, "channels": {"1": 1, "2": 2}}
lights = SerialLights(**options)
guardian = Guardian({"lights": {"driver": "serial", "options": options}})
lights.light({1})
print("lit", flush=True)
sys.stdin.readline()
try:
    guardian.check()
except Exception as error:
    print(error.code, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="stops a program by a signal")
def test_a_program_that_stands_still_is_darkened_and_told() -> None:
    """Ctrl-Z, or a hang: the program lives and holds its ports."""
    timeline = Timeline()
    with SerialHost(light_device("hik", {1: 1, 2: 2}, timeline), baud=115200) as host:
        command = [sys.executable, "-c", _PROGRAM, host.url]
        program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert program.stdout is not None and program.stdin is not None
            assert program.stdout.readline() == "lit\n"
            time.sleep(0.1)
            assert timeline.now().zones
            program.send_signal(signal.SIGSTOP)
            start = time.monotonic()
            while timeline.now().zones and time.monotonic() - start < 8:
                time.sleep(0.01)
            assert not timeline.now().zones and 2 < time.monotonic() - start < 6
            time.sleep(0.3)
            program.send_signal(signal.SIGCONT)
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "guardian.gone\n"
        finally:
            program.kill()
            program.communicate()


def test_a_guardian_that_was_killed_is_told() -> None:
    from rakelight.acquisition.guardian import Guardian

    guardian = Guardian({})
    guardian.check()
    guardian._process.kill()
    guardian._process.wait()
    assert guardian._gone.wait(5)  # a thread hears of it
    with pytest.raises(DeviceError, match="guardian process is gone") as caught:
        guardian.check()
    assert caught.value.code == "guardian.gone"
    guardian.close()
