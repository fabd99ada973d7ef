"""Faults on the wire of a light controller: each is named rightly and in time, and none makes the driver believe a wrong state."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rakelight.acquisition.drivers.lights import SerialLights
from rakelight.acquisition.simulator.light_device import BAUD, light_device
from rakelight.acquisition.simulator.serial_faults import SerialFault
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
ANSWERING = [f for f in FAMILIES if f != "vst"]
FORMS = ["ccs", "xor", "hik"]  # cst differs from hik in letters' case only
pty_only = pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pty here")
ANSWER_S = 0.05
WRONG, SILENT, REFUSED = "light.wrong_answer", "light.no_answer", "light.refused"
EXPECTED = {
    "silence": dict.fromkeys(ANSWERING, SILENT),
    "deaf": dict.fromkeys(ANSWERING, SILENT),
    "late": dict.fromkeys(ANSWERING, SILENT),
    "garbage": dict.fromkeys(ANSWERING, WRONG),
    "nak": dict.fromkeys(ANSWERING, REFUSED),
    "truncated": {"ccs": WRONG, "xor": SILENT, "hik": SILENT, "cst": SILENT},  # half of one byte is nothing
    "bit_error": dict.fromkeys(ANSWERING, WRONG),
    "wrong_echo": dict.fromkeys(ANSWERING, WRONG),
}
TIMED_OUT = ("silence", "deaf", "late", "truncated")


@pytest.mark.parametrize("family", FORMS)
@pytest.mark.parametrize("fault", EXPECTED)
def test_lasting_faults_are_named_in_time(family: str, fault: str) -> None:
    answer_s = ANSWER_S if fault in TIMED_OUT else 0.25
    with rig(family) as r:
        r.patience(answer_s)
        r.host.set_faults(SerialFault(fault, count=1 << 30, late_s=0.2))
        began = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            r.lights.light([2])
        took = time.monotonic() - began
        assert caught.value.code == EXPECTED[fault][family]
        assert caught.value.hint
        # two tries of the first command, then one of darkness and three (and all together) of a quarter
        line_s = 20 * 10 / FAST
        assert took <= 1.2 * (2 + 1 + 3 / 4 + 1 / 4) * (answer_s + line_s) + 0.1  # a busy machine
        r.host.set_faults()
        if fault == "late":
            time.sleep(0.25)  # the device is still at its last answer
        r.patience(0.25)
        r.lights.light([3])
        assert r.shining() == {3: 1.0}


@pytest.mark.parametrize("family", FORMS)
@pytest.mark.parametrize("fault", ["silence", "garbage", "nak", "truncated", "bit_error", "wrong_echo", "previous"])
def test_one_fault_is_cured_by_the_retry(family: str, fault: str) -> None:
    with rig(family, answer_within_ms=100 if fault in TIMED_OUT else 250) as r:
        r.lights.light([1])
        at = r.host.commands
        r.host.set_faults(SerialFault(fault, at))
        r.lights.light([2])
        assert r.shining() == {2: 1.0}
        assert r.host.commands > at + 1
        r.lights.light([3])
        assert r.shining() == {3: 1.0}


@pytest.mark.parametrize("family", FORMS)
def test_shifted_answers_never_make_a_wrong_state(family: str) -> None:
    """Every answer is that to the command before: what the driver accepts is true, or it raises."""
    with rig(family) as r:
        r.host.set_faults("previous")
        r.patience(ANSWER_S)
        for zones in ([2], [2, 3], []):
            try:
                r.lights.light(zones)
            except DeviceError as e:
                assert e.code in (WRONG, SILENT)
                assert r.shining() == {}
            else:
                assert r.shining() == dict.fromkeys(zones, 1.0)
        r.host.set_faults()


@pytest.mark.parametrize("family", FAMILIES)
def test_disconnected_in_the_middle(family: str) -> None:
    with rig(family, answer_within_ms=100) as r:
        r.lights.light([1])
        r.shining()
        r.host.set_faults(SerialFault("disconnect", r.host.commands, gone_s=0.05))
        with contextlib.suppress(DeviceError):  # a silent protocol may not notice before the next call
            r.lights.light([2])
        time.sleep(0.1)
        with contextlib.suppress(DeviceError):
            r.lights.light([3])
        r.lights.light([4])
        assert r.shining() == {4: 1.0}


@pty_only
@pytest.mark.parametrize("family", ANSWERING)
def test_wrong_baud_is_suggested(family: str) -> None:
    with SerialHost(light_device(family, ZONES), baud=FAST, wire="pty") as host, pytest.raises(DeviceError) as caught:
        SerialLights(protocol=family, port=host.url, baud=57600, channels=ZONES, answer_within_ms=20)
    assert caught.value.code in (SILENT, WRONG) and "57600" in caught.value.hint


@pytest.mark.parametrize("spoken, there", [("ccs", "hik"), ("hik", "xor"), ("xor", "ccs"), ("cst", "vst")])
def test_wrong_protocol(spoken: str, there: str) -> None:
    with SerialHost(light_device(there, ZONES), baud=FAST) as host, pytest.raises(DeviceError) as caught:
        SerialLights(protocol=spoken, port=host.url, baud=FAST, channels=ZONES, answer_within_ms=20)
    assert caught.value.code in (SILENT, WRONG) and "protocol" in caught.value.hint


def test_read_back_finds_a_level_that_did_not_take() -> None:
    with rig("hik") as r:
        change = r.device.bank.change
        r.device.bank.change = lambda at, ch, **v: change(at, ch, **{**v, "level": min(v["level"], 100)})  # type: ignore[method-assign]
        with pytest.raises(DeviceError, match="set to level 255 but reads back 100") as caught:
            r.lights.light([1])
        assert caught.value.code == WRONG and r.shining() == {}
    with rig("hik", read_back=False) as r:
        r.device.bank.change = lambda *_, **__: None  # type: ignore[method-assign]
        r.lights.light([1])  # not asked for, not seen


@pytest.mark.parametrize("family", ["ccs", "hik"])
def test_off_tries_every_channel(family: str) -> None:
    with rig(family) as r:
        r.lights.light([1, 2, 3, 4])
        r.patience(0.1)
        answer = r.device.answer
        first = b"@00" if family == "ccs" else b"SA"
        r.device.answer = lambda c, at: b"" if c.startswith(first) else answer(c, at)  # type: ignore[method-assign]
        with pytest.raises(DeviceError) as caught:
            r.lights.off()
        assert caught.value.code == SILENT and "zones 1 may still be lit" in caught.value.message
        assert r.shining() == ({1: 1.0} if family == "ccs" else {})  # letters can darken all at once
        r.patience(0.25)
        r.device.answer = answer  # type: ignore[method-assign]
        r.lights.light([2])
        assert r.shining() == {2: 1.0}


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    replies=st.lists(
        st.binary(max_size=10) | st.sampled_from([b"A", b"A0255", b"B", b"NG", b"H", b"\0" * 50]), max_size=6
    )
)
def test_fuzzed_answers(replies: list[bytes]) -> None:
    """Whatever comes back: an error in time and darkness behind it, or what was accepted really was said."""
    with rig("hik") as r:
        r.patience(0.004)
        answer, said = r.device.answer, list(replies)

        def fuzzed(command: bytes, at_ns: int) -> bytes:
            true = answer(command, at_ns)
            return said.pop(0) if said else true

        r.device.answer = fuzzed  # type: ignore[method-assign]
        began = time.monotonic()
        try:
            r.lights.light([1])
        except DeviceError as e:
            assert e.code in (WRONG, SILENT, REFUSED)
        else:
            assert r.shining() == {1: 1.0}
        assert time.monotonic() - began <= r.lights.longest_call_s + 0.1
        said.clear()
        time.sleep(0.02)  # 4 ms may be less than the device needs; let it finish what it was asked
        r.patience(0.25)
        r.lights.light([2])  # and it goes on
        assert r.shining() == {2: 1.0}
