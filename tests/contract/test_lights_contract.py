"""What every light controller driver must do, proven at the far end of its wire: families × (pseudo-terminal, TCP).

Faults on the wire are in ``test_light_faults``.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rakelight.acquisition.devices import LightController
from rakelight.acquisition.drivers.lights import SerialLights
from rakelight.acquisition.simulator.light_device import BAUD, LightFaults, light_device
from rakelight.acquisition.simulator.serial_host import SerialHost
from rakelight.errors import DeviceError


def _load(name: str) -> Any:
    """A module beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


_beside = _load("light_rig")
ZONES, FAST, rig = _beside.ZONES, _beside.FAST, _beside.rig
FAMILIES = list(BAUD)
pty_only = pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pty here")
WIRES = [pytest.param("pty", marks=pty_only), "socket"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 2
    while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.005)
    assert not left


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("family", FAMILIES)
class TestEveryLine:
    def test_round_trips(self, family: str, wire: str) -> None:
        with rig(family, wire) as r:
            lights: LightController = r.lights
            assert lights.zones == (1, 2, 3, 4) and r.host.url in lights.identity
            assert r.shining() == {}
            for zone in lights.zones:
                lights.light([zone])
                assert r.shining() == {zone: 1.0}
            lights.set_levels({1: 0.5, 3: 0.2})
            lights.light({1, 2, 3, 4})
            assert r.shining() == pytest.approx({1: 0.5, 2: 1.0, 3: 0.2, 4: 1.0}, abs=0.002)
            lights.light([])
            assert r.shining() == {}
            lights.light([3])
            lights.off()
            assert r.shining() == {}

    def test_vanishing_and_coming_back(self, family: str, wire: str) -> None:
        with rig(family, wire, answer_within_ms=100) as r:
            r.lights.light([2])
            r.shining()
            r.host.disconnect()
            began = time.monotonic()
            with pytest.raises(DeviceError) as caught:
                r.lights.light([3])
            assert caught.value.code == "light.lost" and time.monotonic() - began < 1.0
            assert r.shining() == {2: 1.0}  # lights do not need the port to shine
            r.host.connect()
            r.lights.light([3])
            assert r.shining() == {3: 1.0}
            r.lights.off()
            assert r.shining() == {}

    def test_dark_after_everything(self, family: str, wire: str) -> None:
        with rig(family, wire) as r:
            r.lights.light([1, 4])
            with pytest.raises(ZeroDivisionError), r.lights:
                _ = 1 / 0
            assert r.shining() == {}
            r.lights.close()  # twice does no harm
            with pytest.raises(DeviceError) as caught:
                r.lights.light([1])
            assert caught.value.code == "light.closed"


GOLDEN = {
    "vst": [b"@00F25500E2\r\n", b"@00L1007D\r\n", b"@00L0007C\r\n"],
    "ccs": [b"@00F255RD4\r\n", b"@00F000RC8\r\n"],
    "xor": [b"$310FF16", b"$4100011", b"$1101015", b"$2100017"],
    "hik": [b"SA0255#", b"SA#", b"SA0000#"],
    "cst": [b"SA0999#", b"SA#", b"SA0000#"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_golden_frames_on_the_wire(family: str) -> None:
    with rig(family, baud=None) as r:
        r.shining()
        r.heard.clear()
        r.lights.light([1])
        r.lights.light([])
        r.shining()
        assert r.heard == GOLDEN[family]
        r.lights.light([1])
        r.heard.clear()
        r.lights.light([1])
        assert r.heard == []  # nothing to say


@pytest.mark.parametrize("family", FAMILIES)
def test_all_zones_are_dark_after_opening(family: str) -> None:
    device = light_device(family, ZONES)
    for channel in ZONES:
        device.bank.change(0, channel, level=100, shown=100, on=True)
    assert len(device.bank.levels()) == 4
    with SerialHost(device, baud=FAST) as host:
        lights = SerialLights(protocol=family, port=host.url, baud=FAST, channels=ZONES)
        time.sleep(0.01)
        assert device.bank.levels() == {}
        lights.close()


# ------------------------------------------------------------------------------------------------------------ safe state
@pytest.mark.parametrize("family", FAMILIES)
def test_dark_when_thrown_away(family: str) -> None:
    device = light_device(family, ZONES)
    with SerialHost(device, baud=FAST) as host:
        lights = SerialLights(protocol=family, port=host.url, baud=FAST, channels=ZONES)
        lights.light([1, 3])
        del lights
        gc.collect()
        end = time.monotonic() + 1
        while device.bank.levels() and time.monotonic() < end:
            time.sleep(0.002)
        assert device.bank.levels() == {}


def test_dark_when_the_interpreter_ends_by_an_error() -> None:
    code = (
        "import sys\nfrom rakelight.acquisition.drivers.lights import SerialLights\n"
        "lights = SerialLights(protocol='hik', port=sys.argv[1], baud=115200, channels={1: 1, 2: 2})\n"
        "lights.light([1, 2])\nprint('lit', flush=True)\nsys.stdin.readline()\nraise SystemError('as planned')\n"
    )
    device = light_device("hik", ZONES)
    with SerialHost(device, baud=FAST) as host:
        with subprocess.Popen(
            [sys.executable, "-c", code, host.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdout is not None and other.stdout.readline() == "lit\n"
            assert device.bank.levels() == {1: 1.0, 2: 1.0}
            _, told = other.communicate("\n")
        assert "as planned" in told and device.bank.levels() == {}


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_dark_after_an_interruption(interruption: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    with rig("hik") as r:

        def interrupted(*_: object) -> None:
            raise interruption

        monkeypatch.setattr(r.lights, "_check_level", interrupted)
        with pytest.raises(interruption):
            r.lights.light([1])
        assert r.shining() == {}


@pty_only
def test_port_in_use() -> None:
    with rig("hik", "pty") as r, pytest.raises(DeviceError) as caught:
        SerialLights(protocol="hik", port=r.host.url, channels=ZONES)
    assert caught.value.code == "port.busy"


# ---------------------------------------------------------------------------------------------------------------- limits
def test_zones_and_levels_out_of_range() -> None:
    with rig("hik", max_levels={2: 0.5}) as r:
        r.lights.light([2])
        assert r.shining() == pytest.approx({2: 0.5}, abs=0.002)
        with pytest.raises(DeviceError, match=r"0 to 0\.5") as caught:
            r.lights.set_levels({2: 0.6})
        assert caught.value.code == "light.level"
        with pytest.raises(DeviceError):
            r.lights.set_levels({1: float("nan")})
        with pytest.raises(DeviceError, match="zones of this rig: 1, 2, 3, 4") as caught:
            r.lights.light([2, 7])
        assert caught.value.code == "light.zone" and r.shining() == {}


def test_a_zone_lit_too_long_goes_dark_and_is_told_once() -> None:
    with rig("hik", max_on_s=0.15) as r:
        r.lights.light([1])
        time.sleep(0.1)
        assert r.device.bank.levels() == {1: 1.0}
        time.sleep(0.15)
        assert r.device.bank.levels() == {}
        with pytest.raises(DeviceError, match=r"zone 1 was lit for 0\.1") as caught:
            r.lights.light([2])
        assert caught.value.code == "light.on_too_long" and r.shining() == {}
        r.lights.light([2])
        assert r.shining() == {2: 1.0}


def test_short_flashes_do_not_add_up_to_a_long_one() -> None:
    with rig("hik", max_on_s=0.15, max_duty=1.0) as r:
        for k in range(8):
            r.lights.light([1 + k % 2])
            time.sleep(0.05)
            assert r.shining() == {1 + k % 2: 1.0}, "the watchdog darkened a zone that was lit briefly"
        r.lights.off()


def test_duty_is_refused_with_the_arithmetic() -> None:
    with rig("hik", max_duty=0.2, duty_window_s=1.0) as r:
        r.lights.light([1])
        time.sleep(0.3)  # the watchdog ends it at 0.2 s
        assert r.device.bank.levels() == {}
        with pytest.raises(DeviceError, match=r"max_duty 0.2 × 1 s = 0.20 s") as caught:
            r.lights.off()
        assert caught.value.code == "light.on_too_long"
        with pytest.raises(DeviceError, match=r"0.2 × 1 s = 0.20 s; it may be lit again in 0\.\d+ s") as caught:
            r.lights.light([1])
        assert caught.value.code == "light.duty"
        r.lights.light([2])
        assert r.shining() == {2: 1.0}


def test_the_watchdog_does_not_give_up() -> None:
    """The zone is to go dark while the port is away: it does as soon as the port is back."""
    with rig("hik", max_on_s=0.1, answer_within_ms=50) as r:
        r.lights.light([1])
        r.host.disconnect()
        time.sleep(0.3)
        assert r.device.bank.levels() == {1: 1.0}
        r.host.connect()
        end = time.monotonic() + 2
        while r.device.bank.levels() and time.monotonic() < end:
            time.sleep(0.01)
        assert r.device.bank.levels() == {}


def test_threads_share_a_controller() -> None:
    with rig("hik") as r:
        errors: list[Exception] = []

        def work(zone: int) -> None:
            try:
                for _ in range(6):
                    r.lights.light([zone])
            except Exception as e:
                errors.append(e)

        threads = [threading.Thread(target=work, args=(z,)) for z in ZONES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and len(r.shining()) == 1


def test_the_driver_does_not_know_what_the_lights_do() -> None:
    """Dead and swapped zones are the content checks' affair: the controller acknowledges all the same."""
    with rig("hik", lights=LightFaults(dead=frozenset({2}), swapped=(1, 3))) as r:
        r.lights.light([1, 2])
        assert r.shining() == {3: 1.0}
