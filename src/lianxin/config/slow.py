"""Senders that pause in the middle of a body: cut off before they can hold every thread of a worker.

The server hands a request to a thread when its head has come; the thread then waits for the body, and the server sets that wait no
limit.  :class:`Body` stands before ``wsgi.input`` and notes who waits.  A watcher, one thread a process, asleep while nobody waits
longer than a second, closes the reading side of connections that have stalled (``TCP_INFO`` of the process's own sockets; the server
does not say which connection a request came on): after 20 seconds, or after 2 once every thread waits.  The waiting thread then sees
the end of the body and answers 408.  Who has been cut off three times in a minute may send no bodies for half a minute (503).

A front server that buffers requests makes this unnecessary.  Without Linux nothing is cut off.
"""

import contextlib
import hashlib
import logging
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

PATIENT = 20.0  # seconds without a byte while other threads are free
HARD = 2.0  # and when none is
TICK = 0.5
NOTICE = 1.0  # a wait shorter than this is nobody's business
STRIKES, WITHIN, BANNED = 3, 60.0, 30.0
TRICKLE = 16 * 1024  # bytes in PATIENT seconds that no honest sender stays below
TCP_INFO_SIZE = 136
ESTABLISHED = 1


class Stalled(OSError):
    """The body did not come in time."""


class Banned(OSError):
    """This sender has stalled too often; ``seconds`` until it may send bodies again."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many stalled requests")
        self.seconds = seconds


@dataclass
class _Wait:
    """A thread that waits for a body."""

    since: float
    key: bytes
    port: int


@dataclass
class _Wire:
    """One connection: what ``TCP_INFO`` tells of it."""

    sock: socket.socket
    peer: Any
    received_ago: float
    sent_ago: float
    received: int


class Watch:
    """Who waits for a body in this process, and the thread that ends waits that take too long."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.waits: dict[int, _Wait] = {}
        self.strikes: dict[bytes, deque[float]] = {}
        self.samples: dict[Any, tuple[float, int]] = {}  # peer -> when first seen receiving, bytes then
        self.lock = threading.Lock()
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None

    @contextlib.contextmanager
    def waiting(self, key: bytes, port: int) -> Iterator[_Wait]:
        """Note that this thread waits for a body from ``key`` on the server's ``port``."""
        left = self.banned(key)
        if left > 0:
            raise Banned(left)
        wait = _Wait(time.monotonic(), key, port)
        me = threading.get_ident()
        self.waits[me] = wait
        if not self.wake.is_set():
            self._rouse()
        try:
            yield wait
        finally:
            del self.waits[me]

    def banned(self, key: bytes) -> float:
        """Seconds for which ``key`` may send no bodies (0: it may)."""
        times = self.strikes.get(key)
        if not times:
            return 0.0
        now = time.monotonic()
        recent = [t for t in list(times) if now - t < WITHIN]
        return max(0.0, recent[-1] + BANNED - now) if len(recent) >= STRIKES else 0.0

    def strike(self, key: bytes) -> None:
        """``key`` was cut off."""
        with self.lock:
            if len(self.strikes) > 10_000:
                self.strikes.clear()
            self.strikes.setdefault(key, deque(maxlen=STRIKES)).append(time.monotonic())

    def _rouse(self) -> None:
        with self.lock:
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._run, name="slow-senders", daemon=True)
                self.thread.start()
            self.wake.set()

    def _run(self) -> None:
        while True:
            self.wake.wait()
            time.sleep(TICK)
            if not self.waits:
                self.wake.clear()
                self.samples.clear()
                if not self.waits:  # nobody came between the two
                    continue
                self.wake.set()
            try:
                self.look()
            except OSError:
                log.exception("connections could not be looked at")

    def look(self) -> int:
        """Cut off what has stalled; returns how many connections were cut."""
        now = time.monotonic()
        waits = [w for w in list(self.waits.values()) if now - w.since > NOTICE]
        if not waits:
            return 0
        limit = HARD if len(waits) >= self.threads else PATIENT
        late = [w for w in waits if now - w.since > limit]
        if not late:
            return 0
        wires = connections({w.port for w in late})
        try:
            cut = self._stalled(wires, limit, now)[: len(late)]
            for wire in cut:
                with contextlib.suppress(OSError):
                    wire.sock.shutdown(socket.SHUT_RD)
        finally:
            for wire in wires:
                wire.sock.close()
        return len(cut)

    def _stalled(self, wires: list[_Wire], limit: float, now: float) -> list[_Wire]:
        """Connections with an unanswered request that send nothing, or next to nothing; those that stalled first come first."""
        found = []
        self.samples = {w.peer: self.samples.get(w.peer, (now, w.received)) for w in wires}
        for wire in wires:
            if wire.sent_ago < wire.received_ago - 0.005:
                self.samples.pop(wire.peer, None)
                continue  # answered since: an idle connection, no stalled request
            since, before = self.samples[wire.peer]
            trickles = now - since > limit and wire.received - before < TRICKLE * (now - since) / PATIENT
            if wire.received_ago > limit or trickles:
                found.append(wire)
        return sorted(found, key=lambda w: -w.received_ago)


def connections(ports: set[int]) -> list[_Wire]:
    """This process's established TCP connections that were accepted on ``ports``; their sockets are copies, to be closed."""
    found: list[_Wire] = []
    try:
        numbers = [int(n) for n in os.listdir("/proc/self/fd")]
    except OSError:  # no Linux
        return []
    for number in numbers:
        try:
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            sock = socket.socket(fileno=os.dup(number))
        except OSError:  # closed meanwhile
            continue
        wire = _told(sock, ports)
        if wire is None or any(
            one.peer == wire.peer for one in found
        ):  # a number of the list may be a copy made here
            sock.close()
        else:
            found.append(wire)
    return found


def _told(sock: socket.socket, ports: set[int]) -> _Wire | None:
    """What ``struct tcp_info`` (linux/tcp.h) tells: tcpi_state, tcpi_last_data_sent and _recv (ms), tcpi_bytes_received."""
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.getsockname()[1] not in ports:
            return None
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        peer = sock.getpeername()
    except OSError:
        return None
    if len(info) < TCP_INFO_SIZE or info[0] != ESTABLISHED:
        return None
    (sent,), (received,), (count,) = (
        struct.unpack_from(kind, info, at) for kind, at in (("I", 44), ("I", 52), ("Q", 128))
    )
    return _Wire(sock, peer, received / 1000, sent / 1000, count)


class Body:
    """``wsgi.input`` under watch; raises :class:`Stalled` or :class:`Banned`, both OSErrors."""

    def __init__(self, source: Any, environ: dict[str, Any], watch: Watch) -> None:
        self.source, self.watch = source, watch
        told = environ.get("HTTP_AUTHORIZATION") or environ.get("REMOTE_ADDR", "")
        self.key = hashlib.blake2b(told.encode("utf-8", "replace"), digest_size=16).digest()
        port = str(environ.get("SERVER_PORT", ""))
        self.port = int(port) if port.isdigit() else 0

    def _watched(self, work: Any, *given: Any) -> tuple[Any, float]:
        with self.watch.waiting(self.key, self.port) as wait:
            return work(*given), time.monotonic() - wait.since

    def read(self, size: int = -1) -> bytes:
        """As of a file; a body that ends early after a long wait has stalled."""
        got, seconds = self._watched(self.source.read, *([size] if size >= 0 else []))
        if seconds > HARD and len(got) < size:
            self.watch.strike(self.key)
            raise Stalled("the body did not come in time")
        return bytes(got)

    def readline(self, size: int = -1) -> bytes:
        """As of a file."""
        got, _ = self._watched(self.source.readline, *([size] if size >= 0 else []))
        return bytes(got)

    def readlines(self, hint: int = -1) -> list[bytes]:
        """As of a file."""
        got, _ = self._watched(self.source.readlines)
        return list(got)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line
