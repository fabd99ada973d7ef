"""A light driver, its simulated device and the line between them, for the suites beside this file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rakelight.acquisition import registry
from rakelight.acquisition.drivers.lights import SerialLights
from rakelight.acquisition.simulator.light_device import BAUD, LightDevice, LightFaults, light_device
from rakelight.acquisition.simulator.serial_host import SerialHost
from rakelight.acquisition.simulator.timeline import Timeline

ZONES = {1: 1, 2: 2, 3: 3, 4: 4}
FAST = 115200


@dataclass
class Rig:
    """A driver, its simulated device and the line between them."""

    lights: SerialLights
    device: LightDevice
    host: SerialHost
    heard: list[bytes]

    def patience(self, answer_s: float) -> None:
        """Wait for answers no longer than that; opening and recovering are given more time, as tests may run slowly."""
        self.lights._line.answer_s = answer_s

    def shining(self) -> dict[int, float]:
        """What shines once the bytes under way have arrived (a silent protocol returns before that)."""
        time.sleep(0.01)
        return self.device.bank.levels()


@contextlib.contextmanager
def rig(family: str, wire: str | None = None, *, lights: LightFaults | None = None, **options: Any) -> Iterator[Rig]:
    options.setdefault("baud", FAST)
    device = light_device(family, ZONES, Timeline(), faults=lights)
    heard: list[bytes] = []
    answer = device.answer

    def listening(command: bytes, at_ns: int) -> bytes:
        heard.append(command)
        return answer(command, at_ns)

    device.answer = listening  # type: ignore[method-assign]
    baud = options["baud"] or BAUD[family]
    with SerialHost(device, baud=baud, latency_s=0.0005, wire=wire) as host:  # type: ignore[arg-type]
        made: SerialLights = registry.find_driver("lights", "serial")(
            protocol=family, port=host.url, **{"channels": ZONES, "answer_within_ms": 250, **options}
        )
        with made:
            yield Rig(made, device, host, heard)
