"""Bodies that stall: the watch ends the wait of the thread, leaves honest connections alone, and remembers who does it often."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lianxin.config import slow


class Wires:
    """Connections to a listener of this process, as a server's threads hold them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = [self.listener]

    def pair(self, sent: bytes = b"") -> tuple[socket.socket, socket.socket]:
        """(client's end, server's end), with ``sent`` on its way."""
        client = socket.create_connection(("127.0.0.1", self.port))
        server, _ = self.listener.accept()
        client.sendall(sent)
        self.open += [client, server]
        return client, server

    def body(self, server: socket.socket, watch: slow.Watch, token: str = "t") -> slow.Body:
        """The body of a request on a connection."""
        environ = {"HTTP_AUTHORIZATION": token, "SERVER_PORT": str(self.port)}
        return slow.Body(server.makefile("rb"), environ, watch)


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    for one in made.open:
        one.close()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "NOTICE", 0.05)
    monkeypatch.setattr(slow, "TICK", 0.05)
    monkeypatch.setattr(slow, "HARD", 0.3)
    monkeypatch.setattr(slow, "PATIENT", 0.6)


def read(body: slow.Body, size: int, told: list[Any]) -> threading.Thread:
    def work() -> None:
        try:
            told.append(body.read(size))
        except OSError as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_stalled_body_ends_and_an_honest_one_does_not(wires: Wires) -> None:
    watch = slow.Watch(2)
    _, stalled = wires.pair(b"ab")
    honest_client, honest = wires.pair(b"12345")
    idle_client, idle = wires.pair(b"request")
    idle.recv(100)
    told: list[Any] = []
    thread = read(wires.body(stalled, watch), 100, told)
    thread.join(30)
    assert isinstance(told[0], slow.Stalled)
    assert not watch.waits
    assert wires.body(honest, watch).read(5) == b"12345"
    honest_client.sendall(b"more")
    assert honest.recv(10) == b"more"
    assert idle_client.fileno() > 0


def test_a_trickle_is_no_body(wires: Wires) -> None:
    watch = slow.Watch(1)
    client, server = wires.pair(b"a")
    told: list[Any] = []
    thread = read(wires.body(server, watch), 100_000, told)
    end = time.monotonic() + 30
    while thread.is_alive() and time.monotonic() < end:
        try:
            client.sendall(b"x")
        except OSError:
            break
        thread.join(0.05)
    thread.join(30)
    assert isinstance(told[0], slow.Stalled)


def test_answered_connections_are_left_alone(wires: Wires) -> None:
    watch = slow.Watch(1)
    client, server = wires.pair(b"GET")
    server.recv(10)
    time.sleep(0.05)
    server.sendall(b"answer")
    assert client.recv(10) == b"answer"
    time.sleep(0.4)
    watch.waits[0] = slow._Wait(time.monotonic() - 5, b"", wires.port)
    assert watch.look() == 0


def test_who_stalls_often_is_refused_for_a_while(wires: Wires) -> None:
    watch = slow.Watch(4)
    body = slow.Body(io.BytesIO(b"x"), {"REMOTE_ADDR": "1"}, watch)
    for _ in range(slow.STRIKES):
        assert body.watch.banned(body.key) == 0
        watch.strike(body.key)
    with pytest.raises(slow.Banned) as caught:
        body.read(1)
    assert 0 < caught.value.seconds <= slow.BANNED
    other = slow.Body(io.BytesIO(b"x\ny"), {"REMOTE_ADDR": "2"}, watch)
    assert list(other) == [b"x\n", b"y"]
    assert not watch.waits


def test_the_door_tells_of_both() -> None:
    from lianxin.exchange.fhir import http
    from lianxin.record.problems import Problem

    class Failing:
        def __init__(self, error: OSError) -> None:
            self.error = error

        def read(self, size: int = -1) -> bytes:
            raise self.error

    for error, status in ((slow.Stalled(), 408), (slow.Banned(12.0), 503)):
        with pytest.raises(Problem) as caught:
            http.read_body({"CONTENT_LENGTH": "5", "wsgi.input": Failing(error)}, 100)
        assert caught.value.status == status
    assert ("Retry-After", "13") in caught.value.headers
