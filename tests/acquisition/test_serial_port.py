"""The serial transport: whole answers, deadlines, errors that name their cure, ports that vanish and come back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rakelight.acquisition import serial_open
from rakelight.acquisition.serial_port import SerialPort, as_hex_and_text, exactly, list_ports, terminated
from rakelight.acquisition.simulator.serial_faults import SerialFault
from rakelight.acquisition.simulator.serial_host import LineDevice, SerialHost
from rakelight.errors import DeviceError

BAUD = 115200
WIRES = [pytest.param("pty", marks=pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pty here")), "socket"]
pty_only = pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pty here")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 2
    while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
        time.sleep(0.005)
    assert not left


def echoing(reply: Callable[[bytes], bytes] = lambda line: b"<" + line) -> LineDevice:
    return LineDevice(reply)


def ask(port: SerialPort, request: bytes = b"hello\n", deadline_s: float = 1.0, idempotent: bool = True) -> bytes:
    return port.exchange(request, until=terminated(b"\n"), deadline_s=deadline_s, idempotent=idempotent)


class TestExchange:
    @pytest.mark.parametrize("wire", WIRES)
    def test_brings_the_whole_answer(self, wire: str) -> None:
        with SerialHost(echoing(), baud=BAUD, wire=wire) as host, SerialPort(host.url, BAUD) as port:
            for k in range(20):
                assert ask(port, b"line %d\n" % k) == b"<line %d\n" % k
            statistics = port.statistics
        assert statistics.exchanges == 20 and statistics.retries == statistics.failures == 0
        assert statistics.sent == sum(len(b"line %d\n" % k) for k in range(20))
        assert statistics.received == statistics.sent + 20
        assert 0 < statistics.mean_s <= statistics.slowest_s < 1

    def test_loop_url(self) -> None:
        with SerialPort("loop://", BAUD) as port:
            assert port.exchange(b"abc", until=exactly(3), deadline_s=0.5) == b"abc"

    @pytest.mark.parametrize("wire", WIRES)
    def test_takes_the_bytes_own_time(self, wire: str) -> None:
        with SerialHost(echoing(), baud=1200, wire=wire, latency_s=0.0) as host, SerialPort(host.url, 1200) as port:
            began = time.monotonic()
            ask(port, b"12345\n")
            took = time.monotonic() - began
            assert port.line_time_s(6, 7) == pytest.approx(13 * 10 / 1200)
            assert port.line_time_s(6, 7) <= took < 1  # a deadline would be longer; a busy machine takes its time

    def test_without_an_answer_waits_until_the_bytes_have_left(self) -> None:
        with SerialPort("loop://", 1200) as port:
            began = time.monotonic()
            assert port.exchange(b"x" * 12, until=None, deadline_s=1.0) == b""
            assert 0.1 <= time.monotonic() - began < 0.9  # the deadline is 1 s

    def test_more_than_the_answer_is_no_answer(self) -> None:
        with SerialPort("loop://", BAUD) as port:
            with pytest.raises(DeviceError) as caught:
                ask(port, b"ok\nold\n", deadline_s=0.2)
            assert ask(port, b"ok\n\r\n") == b"ok\n"  # but for ends of lines
            assert caught.value.code == "device.wrong_answer" and "4 bytes more" in caught.value.message

    def test_unasked_bytes_are_counted(self) -> None:
        with SerialPort("loop://", BAUD) as port:
            port._serial.write(b"noise")
            assert port.exchange(b"abc", until=exactly(3), deadline_s=0.5) == b"abc"
            assert port.statistics.discarded == 5

    def test_threads_take_turns(self) -> None:
        with SerialHost(echoing(), baud=BAUD, latency_s=0.0) as host, SerialPort(host.url, BAUD) as port:
            wrong: list[bytes] = []

            def work(name: int) -> None:
                for k in range(10):
                    line = b"%d-%d\n" % (name, k)
                    if ask(port, line, deadline_s=5.0) != b"<" + line:
                        wrong.append(line)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong and port.statistics.exchanges == 40


class TestDeadlines:
    @pytest.mark.parametrize("idempotent", [True, False])
    @pytest.mark.parametrize("wire", WIRES)
    def test_silence(self, wire: str, idempotent: bool) -> None:
        with SerialHost(echoing(), baud=BAUD, wire=wire, faults=["silence"]) as host:
            with SerialPort(host.url, BAUD, kind="light") as port:
                began = time.monotonic()
                with pytest.raises(DeviceError) as caught:
                    ask(port, deadline_s=0.3, idempotent=idempotent)
                assert 0.29 <= time.monotonic() - began <= 0.36
            assert host.commands == (2 if idempotent else 1)
        assert caught.value.code == "light.no_answer"
        assert "68 65 6C 6C 6F" in caught.value.message and "baud rate (here 115200)" in caught.value.hint

    def test_one_retry_cures_one_silence(self) -> None:
        with SerialHost(echoing(), baud=BAUD, faults=["silence@0"]) as host, SerialPort(host.url, BAUD) as port:
            assert ask(port, deadline_s=0.4) == b"<hello\n"
            assert port.statistics.retries == 1

    @pytest.mark.parametrize("fault", ["garbage", "truncated"])
    def test_nonsense_is_told_in_hex_and_text(self, fault: str) -> None:
        with (
            SerialHost(echoing(), baud=BAUD, faults=[fault]) as host,
            SerialPort(host.url, BAUD) as port,
            pytest.raises(DeviceError) as caught,
        ):
            port.exchange(b"hello\n", until=only(b"<hello\n"), deadline_s=0.2, idempotent=True)
        assert caught.value.code == "device.wrong_answer"
        assert ("<he" in caught.value.message) if fault == "truncated" else ("·····" in caught.value.message)
        assert "baud" in caught.value.hint and "protocol" in caught.value.hint

    def test_a_late_answer_is_not_taken_for_the_next(self) -> None:
        faults = [serial_fault("late", 0, late_s=0.25)]
        with SerialHost(echoing(), baud=BAUD, faults=faults) as host, SerialPort(host.url, BAUD) as port:
            with pytest.raises(DeviceError):
                ask(port, b"one\n", deadline_s=0.2, idempotent=False)
            assert ask(port, b"two\n", deadline_s=1.0) == b"<two\n"
            assert port.statistics.discarded == 5

    def test_a_babbling_line_is_given_up(self) -> None:
        with SerialHost(echoing(lambda line: b"x" * 300), baud=BAUD) as host, SerialPort(host.url, BAUD) as port:
            with pytest.raises(DeviceError) as caught:
                ask(port, deadline_s=0.5)
            assert caught.value.code == "device.wrong_answer" and "300 bytes in all" in caught.value.message

    def test_a_call_that_waits_for_another_thread_keeps_its_deadline(self) -> None:
        with SerialHost(echoing(), baud=BAUD, faults=["silence"]) as host, SerialPort(host.url, BAUD) as port:

            def wait_for_nothing() -> None:
                with pytest.raises(DeviceError):
                    ask(port, deadline_s=0.5)

            other = threading.Thread(target=wait_for_nothing)
            other.start()
            time.sleep(0.05)
            began = time.monotonic()
            with pytest.raises(DeviceError) as caught:
                ask(port, deadline_s=0.1)
            assert caught.value.code == "port.busy" and time.monotonic() - began < 0.12
            other.join()


class TestVanishing:
    @pytest.mark.parametrize("wire", WIRES)
    def test_lost_and_back(self, wire: str) -> None:
        with SerialHost(echoing(), baud=BAUD, wire=wire) as host, SerialPort(host.url, BAUD) as port:
            ask(port)
            host.disconnect()
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(DeviceError) as caught:
                    ask(port, deadline_s=0.5)
                assert caught.value.code == "port.lost" and time.monotonic() - began < 0.6
            host.connect()
            assert ask(port) == b"<hello\n"
            assert port.generation == 1 and port.statistics.reopened == 1

    @pytest.mark.parametrize("wire", WIRES)
    def test_in_the_middle_of_a_command(self, wire: str) -> None:
        faults = [serial_fault("disconnect", 1, gone_s=0.05)]
        with SerialHost(echoing(), baud=BAUD, wire=wire, faults=faults) as host, SerialPort(host.url, BAUD) as port:
            ask(port)
            with pytest.raises(DeviceError) as caught:
                ask(port, idempotent=False)
            assert caught.value.code == "port.lost"
            time.sleep(0.1)
            assert ask(port) == b"<hello\n"

    @pytest.mark.parametrize("wire", WIRES)
    def test_reopening_by_hand(self, wire: str) -> None:
        with SerialHost(echoing(), baud=BAUD, wire=wire) as host, SerialPort(host.url, BAUD) as port:
            for k in range(1, 4):
                port.reopen()
                assert ask(port) == b"<hello\n" and port.generation == k

    def test_closed_for_good(self) -> None:
        port = SerialPort("loop://", BAUD)
        port.close()
        port.close()
        with pytest.raises(DeviceError) as caught:
            ask(port)
        assert caught.value.code == "port.lost" and "closed" in caught.value.message


class TestOpening:
    def test_missing_lists_those_that_exist(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ports = [SimpleNamespace(device="/dev/ttyUSB7", description="USB-Serial CH340", serial_number="A7")]
        monkeypatch.setattr(serial_open.serial.tools.list_ports, "comports", lambda: ports)
        with pytest.raises(DeviceError) as caught:
            SerialPort("/dev/no-such-port", 9600)
        assert caught.value.code == "port.missing"
        assert "/dev/no-such-port" in caught.value.message and "/dev/ttyUSB7 (USB-Serial CH340)" in caught.value.message
        assert [(p.name, p.description, p.serial_number) for p in list_ports()] == [
            ("/dev/ttyUSB7", "USB-Serial CH340", "A7")
        ]
        monkeypatch.setattr(serial_open.serial.tools.list_ports, "comports", list)
        with pytest.raises(DeviceError, match="no serial ports"):
            SerialPort("/dev/no-such-port", 9600)

    def test_nobody_listens(self) -> None:
        with SerialHost(echoing(), baud=BAUD, wire="socket") as host:
            url = host.url
        with pytest.raises(DeviceError) as caught:
            SerialPort(url, BAUD)
        assert caught.value.code == "port.missing" and "address" in caught.value.hint

    @pytest.mark.parametrize("url", ["nonsense://x", "socket://127.0.0.1", "socket://127.0.0.1:99999"])
    def test_urls_that_mean_nothing(self, url: str) -> None:
        with pytest.raises(DeviceError) as caught:
            SerialPort(url, BAUD)
        assert caught.value.code in ("port.url", "port.missing") and caught.value.hint

    def test_a_system_that_hangs_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        release = threading.Event()
        closed = threading.Event()
        monkeypatch.setattr(
            serial_open, "_open", lambda *_: (release.wait(5), SimpleNamespace(close=closed.set, is_open=True))[1]
        )
        began = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            SerialPort("/dev/hanging", BAUD, open_s=0.1)
        assert caught.value.code == "port.missing" and time.monotonic() - began < 0.12 + 0.1
        release.set()
        assert closed.wait(2)  # what opened too late is closed again

    @pty_only
    @pytest.mark.parametrize("mode, hint", [(0o660, "usermod -aG dialout"), (0o600, "udev")])
    def test_permission_names_the_group(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, hint: str
    ) -> None:
        device = tmp_path / "ttyUSB0"
        device.touch()
        device.chmod(mode)
        true_open = os.open

        def refuse(path: object, *rest: int, **more: int) -> int:
            if path == str(device):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return true_open(path, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr("grp.getgrgid", lambda gid: SimpleNamespace(gr_name="dialout"))
        with pytest.raises(DeviceError) as caught:
            SerialPort(str(device), 9600)
        assert caught.value.code == "port.permission"
        assert "group dialout" in caught.value.message and hint in caught.value.hint

    @pty_only
    def test_two_in_one_process(self) -> None:
        with SerialHost(echoing(), baud=BAUD, wire="pty") as host, SerialPort(host.url, BAUD):
            with pytest.raises(DeviceError) as caught:
                SerialPort(host.url, BAUD)
            assert caught.value.code == "port.busy" and "other program" in caught.value.hint

    @pty_only
    def test_two_processes(self) -> None:
        code = (
            "import serial,sys; p=serial.Serial(sys.argv[1],exclusive=True); print('open',flush=True); sys.stdin.read()"
        )
        with SerialHost(echoing(), baud=BAUD, wire="pty") as host:
            with subprocess.Popen(
                [sys.executable, "-c", code, host.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as other:
                assert other.stdout is not None and other.stdout.readline() == "open\n"
                with pytest.raises(DeviceError) as caught:
                    SerialPort(host.url, BAUD)
                assert caught.value.code == "port.busy"
                other.communicate("")
            with SerialPort(host.url, BAUD) as port:
                assert ask(port) == b"<hello\n"


def test_bytes_for_a_person() -> None:
    assert as_hex_and_text(b"@00O\r\n") == '40 30 30 4F 0D 0A ("@00O··")'
    assert as_hex_and_text(b"") == "nothing"
    assert "100 bytes in all" in as_hex_and_text(bytes(100))


def only(expected: bytes) -> Callable[[bytes], int | None]:
    def judge(received: bytes) -> int | None:
        if received != expected[: len(received)]:
            raise ValueError(f"not {expected!r}")
        return len(expected) if len(received) == len(expected) else None

    return judge


def serial_fault(name: str, at: int, **more: float) -> SerialFault:
    return SerialFault(name, at, **more)  # type: ignore[arg-type]
