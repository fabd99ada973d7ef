"""Lines of verdicts to a log and over real sockets: peers that are absent, close, are slow, or are two."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rakelight.errors import InputError, StorageError
from rakelight.pipeline.verdict_stream import LineLog, LineSender, Note, json_line, parse_address


def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Peer:
    """A server that keeps what it reads; ``read=False`` reads nothing."""

    def __init__(self, port: int = 0, *, read: bool = True) -> None:
        self.server = socket.create_server(("127.0.0.1", port))
        self.port = self.server.getsockname()[1]
        self.data, self.connections, self._read = b"", [], read
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self.server.accept()
            if self._ending:
                connection.close()
                return
            self.connections.append(connection)
            if self._read:
                threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                self.data += data
        except OSError:
            return

    def numbers(self) -> list[int]:
        return [json.loads(line)["n"] for line in self.data.decode().splitlines(keepends=True) if line.endswith("\n")]

    def close(self) -> None:
        self._ending = True
        socket.create_connection(("127.0.0.1", self.port)).close()  # accept() would hold the port
        self._thread.join()
        self.server.close()
        for connection in self.connections:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def line(n: int, size: int = 0) -> bytes:
    return json_line({"n": n, "word": "Prüfling", "pad": "x" * size})


@pytest.fixture
def made() -> Iterator[list[LineSender]]:
    senders: list[LineSender] = []
    yield senders
    for sender in senders:
        sender.close(0)


def test_lines_arrive_in_order_and_soon(made: list[LineSender]) -> None:
    peer = Peer()
    sender = LineSender(connect=("127.0.0.1", peer.port))
    made.append(sender)
    for n in range(50):
        sender.send(line(n))
    until(lambda: peer.numbers() == list(range(50)))
    assert "Prüfling" in peer.data.decode()
    peer.connections[0].sendall(b"thanks, and a line that nobody asked for\n" * 100)
    began = time.monotonic()
    sender.send(line(50))
    until(lambda: len(peer.numbers()) == 51)
    assert time.monotonic() - began < 0.5
    assert sender.close() == {"sent": 51, "lost": 0, "waiting": 0, "peers": 0}


def test_lines_wait_for_an_absent_peer(made: list[LineSender]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sender = LineSender(connect=("127.0.0.1", port))
    made.append(sender)
    began = time.monotonic()
    for n in range(20):
        sender.send(line(n))
    assert time.monotonic() - began < 0.2  # nobody waited
    until(lambda: any("does not answer" in note.text for note in sender.notes()))
    peer = Peer(port)
    until(lambda: peer.numbers() == list(range(20)))
    assert Note(f"connected to 127.0.0.1:{port}", warning=False) in sender.notes()


def test_a_peer_that_closes_midway_gets_the_rest_when_it_is_back(made: list[LineSender]) -> None:
    peer = Peer()
    sender = LineSender(connect=("127.0.0.1", peer.port))
    made.append(sender)
    for n in range(5):
        sender.send(line(n))
    until(lambda: len(peer.numbers()) == 5)
    peer.close()
    until(lambda: sender.facts()["peers"] == 0)
    for n in range(5, 12):
        sender.send(line(n))
    again = Peer(peer.port)
    until(lambda: again.numbers() == list(range(5, 12)))
    assert sender.close()["lost"] == 0


def test_a_slow_peer_holds_up_nobody_and_what_it_loses_is_counted(made: list[LineSender]) -> None:
    peer = Peer(read=False)
    sender = LineSender(connect=("127.0.0.1", peer.port), queued=10)
    made.append(sender)
    until(lambda: sender.facts()["peers"] == 1)
    began = time.monotonic()
    for n in range(300):
        sender.send(line(n, 100_000))  # 30 MB: more than any socket's buffer
    assert time.monotonic() - began < 1.0
    until(lambda: sender.facts()["lost"] > 0 and sender.facts()["waiting"] <= 11)
    until(lambda: any("being lost" in note.text for note in sender.notes()))
    threading.Thread(target=peer._take, args=(peer.connections[0],), daemon=True).start()
    until(lambda: sender.facts()["waiting"] == 0)
    until(lambda: 299 in peer.numbers())
    found, lost = peer.numbers(), sender.facts()["lost"]
    assert found == sorted(set(found)) and found[-10:] == list(range(290, 300))
    assert len(found) + lost == 300 and sender.facts()["sent"] == len(found)


def test_a_peer_that_takes_nothing_is_left_and_the_broken_line_comes_again_whole(made: list[LineSender]) -> None:
    peer = Peer(read=False)
    sender = LineSender(connect=("127.0.0.1", peer.port), stalled_s=0.3)
    made.append(sender)
    for n in range(200):
        sender.send(line(n, 100_000))
    until(lambda: len(peer.connections) == 2)  # it was left, and came back
    threading.Thread(target=peer._take, args=(peer.connections[1],), daemon=True).start()
    until(lambda: 199 in peer.numbers())
    found = peer.numbers()
    assert found == list(range(found[0], 200))  # whole lines, in order, from the one on which it broke


def test_a_stalled_peer_that_breaks_is_left_once(made: list[LineSender]) -> None:
    class Broken:
        """A socket that stalled while the computer slept, and breaks at the next line."""

        def __init__(self, inner: socket.socket) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def send(self, data: bytes) -> int:
            raise ConnectionResetError("gone")

    peer = Peer()
    sender = LineSender(connect=("127.0.0.1", peer.port))
    made.append(sender)
    until(lambda: len(sender._peers) == 1)
    sender._stalled_s = -1.0  # longer ago than anything
    sender._peers[0].socket = Broken(sender._peers[0].socket)
    sender.send(line(0))
    until(lambda: peer.numbers() == [0])  # on the next connection
    assert sender._thread.is_alive()


def test_everybody_who_connects_gets_the_lines(made: list[LineSender]) -> None:
    sender = LineSender(listen=("127.0.0.1", 0))
    made.append(sender)
    port = sender.address[1]
    sender.send(line(0))  # nobody is there yet
    time.sleep(0.1)
    first = socket.create_connection(("127.0.0.1", port)).makefile("r", encoding="utf-8")
    assert json.loads(first.readline())["n"] == 0
    second = socket.create_connection(("127.0.0.1", port)).makefile("r", encoding="utf-8")
    until(lambda: sender.facts()["peers"] == 2)
    sender.send(line(1))
    assert [json.loads(f.readline())["n"] for f in (first, second)] == [1, 1]
    first.close()
    until(lambda: sender.facts()["peers"] <= 2)
    sender.send(line(2))
    assert json.loads(second.readline())["n"] == 2
    assert sender.close()["waiting"] == 0
    assert second.readline() == ""  # closed in order, not broken


def test_a_port_in_use_is_refused_by_name(made: list[LineSender]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="no connections") as caught:
        LineSender(listen=("127.0.0.1", taken.getsockname()[1]))
    assert caught.value.code == "tcp.port" and "another port" in caught.value.hint


def test_a_sender_ends_in_time_without_a_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sender = LineSender(connect=("127.0.0.1", port))
    sender.send(line(1))
    began = time.monotonic()
    assert sender.close(0.3)["waiting"] == 1
    assert time.monotonic() - began < 5 and sender.close()["waiting"] == 1


def test_addresses() -> None:
    assert parse_address("192.168.0.20:5000") == ("192.168.0.20", 5000)
    assert parse_address("[fd00::7]:5000") == ("fd00::7", 5000)
    assert parse_address("5000", host="127.0.0.1") == ("127.0.0.1", 5000)
    assert parse_address(":5000", host="127.0.0.1") == ("127.0.0.1", 5000)
    for wrong in ("5000", ":5000", "plc", "plc:", "plc:0", "plc:65536", "plc:\uff15\uff10", "fd00::7:5000", ""):
        with pytest.raises(InputError, match="is no address"):
            parse_address(wrong)


def test_the_log_grows_by_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "verdicts.jsonl"
    LineLog(path).write(line(1))
    with open(path, "ab") as torn:
        torn.write(b'{"n": 2, "wor')  # as a power cut leaves it
    log = LineLog(path)
    log.write(line(3))
    told = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(told[0])["n"], json.loads(told[2])["n"]] == [1, 3] and len(told) == 3
    with pytest.raises(StorageError):
        LineLog(path / "below_a_file.jsonl")
