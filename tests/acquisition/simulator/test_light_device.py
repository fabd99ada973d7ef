"""Simulated light controllers: strict parsing, light on the timeline, the line's own time and its faults."""

from __future__ import annotations

import os
import time

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from rakelight.acquisition.simulator.light_device import (
    BAUD,
    CcsDevice,
    LetterDevice,
    LightBank,
    LightFaults,
    VstDevice,
    XorDevice,
    light_device,
)
from rakelight.acquisition.simulator.serial_faults import FAULTS, SerialFault
from rakelight.acquisition.simulator.serial_host import SerialHost, WireDevice
from rakelight.acquisition.simulator.timeline import Timeline
from rakelight.errors import InputError

FOUR = {1: 1, 2: 2, 3: 3, 4: 4}
pty_only = pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pty here")


def say(device: WireDevice, data: bytes, at_ns: int = 0) -> list[bytes]:
    """Replies to all commands in ``data``."""
    buffer, replies = bytearray(data), []
    while (command := device.take(buffer)) is not None:
        replies.append(device.answer(command, at_ns))
    return replies


class TestParsing:
    def test_vst(self) -> None:
        device = VstDevice(LightBank(FOUR))
        assert say(device, b"@00F25500E2\r\n") == [b""] and device.bank.levels() == {}
        say(device, b"@00L1007D\r\n")
        assert device.bank.levels() == {1: 1.0}
        say(device, b"@00F00000D8\r\n")  # counts from the next L1 only
        assert device.bank.levels() == {1: 1.0}
        say(device, b"@00L0007D\r\n")  # wrong checksum: 7C is right
        assert device.bank.levels() == {1: 1.0}
        say(device, b"@00L0007C\r\n")
        assert device.bank.levels() == {}

    def test_ccs(self) -> None:
        device = CcsDevice(LightBank(FOUR))
        assert say(device, b"@00F255RD4\r\n@03F000WD0\r\n") == [b"@00OEF\r\n", b"@03OF2\r\n"]
        assert device.bank.levels() == {1: 1.0}
        assert say(device, b"@00F255RD5\r\n") == [b"@00N321\r\n"]  # checksum
        assert say(device, b"@00X255RE6\r\n")[0][:5] == b"@00N1"  # command
        assert say(device, b"@00F256RD5\r\n")[0][:5] == b"@00N2"  # data
        assert say(device, b"@09F255RDD\r\n") == [b""]  # no such channel
        assert device.bank.levels() == {1: 1.0}

    def test_xor(self) -> None:
        device = XorDevice(LightBank(FOUR))
        assert say(device, b"$310FF16") == [b"$"] and device.bank.levels() == {}
        assert say(device, b"$1101015") == [b"$"] and device.bank.levels() == {1: 1.0}
        assert say(device, b"$340C711") == [b"&"] and device.bank.levels() == {1: 1.0}  # wrong word
        assert say(device, b"$340C767$4400014") == [b"$", b"$440C760"]
        assert say(device, b"$2100017") == [b"$"] and device.bank.levels() == {}
        assert say(device, b"$1901011") == [b"&"]  # no channel 9
        assert say(XorDevice(LightBank(FOUR), strict=False), b"$310FF00") == [b"$"]
        assert say(XorDevice(LightBank(FOUR), lead=b"#", first_channel=0), b"#300FF10") == [b"#"]

    @pytest.mark.parametrize("dialect, a, full", [("hik", b"A", 255), ("cst", b"a", 999)])
    def test_letters(self, dialect: str, a: bytes, full: int) -> None:
        device = light_device(dialect, FOUR)
        assert isinstance(device, LetterDevice)
        assert say(device, b"SA%04d#SA#" % full) == [a, a + b"%04d" % full]
        assert device.bank.levels() == {1: 1.0}
        assert say(device, b"SA%04d#" % (full + 1)) == [b"NG"] == say(device, b"SF0001#") == say(device, b"SA1#")
        off, on = (b"SL#", b"SH#") if dialect == "hik" else (b"TL#", b"TH#")
        assert say(device, off)[0].upper() == b"L" and device.bank.levels() == {}
        assert say(device, on)[0].upper() == b"H" and device.bank.levels() == {1: 1.0}

    @pytest.mark.parametrize("protocol", BAUD)
    @given(data=st.binary(max_size=200))
    def test_noise_lights_nothing_and_does_not_break(self, protocol: str, data: bytes) -> None:
        device = light_device(protocol, FOUR)
        noise = bytes(b | 0x80 for b in data)
        say(device, data)
        device = light_device(protocol, FOUR)
        assert say(device, noise) == [] and device.bank.levels() == {}


class TestLight:
    def test_changes_after_the_latency(self) -> None:
        timeline = Timeline()
        device = light_device("hik", FOUR, timeline, latency_s=0.010)
        t = time.monotonic_ns()
        say(device, b"SB0051#", t)
        pieces = timeline.between(t, t + 20_000_000)
        assert [(s.zones, us) for s, us in pieces] == [((), 10_000.0), (((2, 0.2),), 10_000.0)]

    def test_rises_linearly(self) -> None:
        timeline = Timeline()
        device = light_device("hik", FOUR, timeline, latency_s=0.0, rise_s=0.008)
        t = time.monotonic_ns()
        say(device, b"SA0255#", t)
        pieces = timeline.between(t, t + 8_000_000)
        assert [dict(s.zones)[1] for s, _ in pieces] == [0.125, 0.375, 0.625, 0.875]
        assert sum(dict(s.zones)[1] * us for s, us in pieces) == pytest.approx(8000 / 2)
        assert timeline.between(t + 8_000_000, t + 9_000_000)[0][0].zones == ((1, 1.0),)

    def test_dead_and_swapped(self) -> None:
        dead = light_device("hik", FOUR, faults=LightFaults(dead=frozenset({2})))
        assert say(dead, b"SA0255#SB0255#SB#") == [b"A", b"B", b"B0255"]  # the controller does not know
        assert dead.bank.levels() == {1: 1.0}
        swapped = light_device("hik", FOUR, faults=LightFaults(swapped=(1, 3)))
        say(swapped, b"SA0255#SB0051#")
        assert swapped.bank.levels() == {3: 1.0, 2: 0.2}

    def test_channels_are_mapped_to_zones(self) -> None:
        device = light_device("hik", {1: 4, 2: 1})
        say(device, b"SA0255#SC0255#")
        assert device.bank.levels() == {4: 1.0}

    def test_refusals(self) -> None:
        with pytest.raises(InputError, match="zone 9"):
            light_device("hik", FOUR, faults=LightFaults(dead=frozenset({9})))
        with pytest.raises(InputError, match="gardasoft"):
            light_device("gardasoft", FOUR)


class TestHost:
    def test_light_follows_the_last_bit(self) -> None:
        """A command of eight bytes at 1200 baud takes 67 ms; the light changes after that and the latency."""
        timeline = Timeline()
        device = light_device("xor", FOUR, timeline, latency_s=0.010)
        with (
            SerialHost(device, baud=1200, latency_s=0.0) as host,
            serial.serial_for_url(host.url, 1200, timeout=2) as port,
        ):
            port.write(b"$310FF16")
            assert port.read(1) == b"$"
            t = time.monotonic_ns()
            port.write(b"$1101015")
            assert port.read(1) == b"$"
            took = time.monotonic_ns() - t
        dark, lit = timeline.between(t, t + 200_000_000)
        assert dark[0].zones == () and lit[0].zones == ((1, 1.0),)
        assert 76_666 <= dark[1] < 76_666 + 40_000  # µs: 8 × 10 / 1200 s + 10 ms, and the thread's own waking
        assert took >= 75_000_000  # with the reply's own ten bits

    @pty_only
    def test_wrong_baud_is_noise(self) -> None:
        device = light_device("hik", FOUR)
        with SerialHost(device, baud=19200, wire="pty") as host, serial.Serial(host.url, 9600, timeout=0.05) as port:
            port.write(b"SA0255#")
            assert port.read(8) == b"" and device.bank.levels() == {}
            port.baudrate = 19200
            port.write(b"SA0255#")
            assert port.read(1) == b"A"

    def test_half_a_command_is_forgotten(self) -> None:
        device = light_device("hik", FOUR)
        with SerialHost(device, baud=19200) as host, serial.serial_for_url(host.url, 19200, timeout=0.05) as port:
            port.write(b"SA02")
            time.sleep(0.4)
            port.write(b"55#SB0255#")
            assert port.read(3) == b"B"

    def test_hosts_come_and_go(self) -> None:
        device = light_device("hik", FOUR)
        with SerialHost(device, baud=19200, wire="pty" if hasattr(os, "openpty") else "socket") as host:
            for _ in range(5):
                with serial.serial_for_url(host.url, 19200, timeout=0.5) as port:
                    port.write(b"SA0255#")
                    assert port.read(1) == b"A"
            assert host.commands == 5

    def test_one_client_at_a_time(self) -> None:
        with (
            SerialHost(light_device("hik", FOUR), baud=19200, wire="socket") as host,
            serial.serial_for_url(host.url, timeout=0.5) as first,
            serial.serial_for_url(host.url, timeout=0.5) as second,
        ):
            with pytest.raises(serial.SerialException):
                second.read(1)
            first.write(b"SA#")
            assert first.read(5) == b"A0000"

    def test_faults_by_number(self) -> None:
        device = light_device("hik", FOUR)
        faults = ["silence@1", "nak@2", "previous@4", "wrong_echo@5x2", "bit_error@7", "deaf@8"]
        with SerialHost(device, baud=115200, faults=faults) as host, serial.serial_for_url(host.url, 115200) as port:
            port.timeout = 0.03
            replies = []
            for k in range(10):
                port.write(b"SA%04d#" % k if k != 3 else b"SB#")
                replies.append(port.read(5))
        assert replies == [b"A", b"", b"NG", b"B0000", b"B0000", b"B", b"B", b"@", b"", b"A"]
        assert device.bank.channels[1].level == 9

    def test_fault_names(self) -> None:
        assert SerialFault.parse("late@17x2") == SerialFault("late", 17, 2)
        assert SerialFault.parse("silence").befalls(10**6)
        assert set(FAULTS) >= {"silence", "late", "garbage", "nak", "truncated", "bit_error", "wrong_echo", "previous"}
        for wrong in ("smoke", "late@", "late@x", "late@1x0", "late@-1"):
            with pytest.raises(InputError):
                SerialFault.parse(wrong)
