"""The MLLP listener: one asyncio loop for the connections, threads for the work.

Messages that wait together, of any connection, are taken together; an idle listener takes one at once.  A connection's messages
are answered in their order: while some of it are being taken, its others wait.  The answers leave after the commit, so a sender
that got none sends again and is answered as before.  A second batch begins beside the first only when that is slow, so that one
large message does not hold up everybody.

A connection that goes wrong (a frame that never ends, no message for a long time, a thousand messages of a stranger, a caller who
speaks TLS or HTTP) is closed with a line in the log; the others go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from lianxin.exchange.v2 import receiving
from lianxin.exchange.v2.framing import Budget, Frame, Frames, wrap
from lianxin.exchange.v2.peers import Origin
from lianxin.exchange.v2.receiving import Answered, Came

log = logging.getLogger(__name__)

AHEAD = 64
"""Messages of one connection that are read before its first is answered."""
AHEAD_BYTES = 8 * 1024 * 1024
STRANGE = 1000
"""Messages in a row from an unknown sender, or that are none, after which a connection is let go."""
JUNK = 1024 * 1024
"""Bytes outside of frames after which a connection is let go."""
PREPARE_AFTER = 3
"""Times a statement is run on a thread's connection before the server keeps its plan."""


@dataclass(frozen=True)
class Settings:
    """Where to listen and within which limits (seconds and bytes).

    ``batch``: messages taken in one transaction at most.  ``slow_seconds``: how long a batch may take before another begins
    beside it (``threads`` at most).  ``large_bytes``: what messages over 256 KB may take of the memory together.
    ``shared``: other processes listen on the same port.
    """

    host: str = "127.0.0.1"
    port: int = 2575
    threads: int = 4
    batch: int = 128
    slow_seconds: float = 0.5
    most_bytes: int = 16 * 1024 * 1024
    large_bytes: int = 256 * 1024 * 1024
    frame_seconds: float = 60.0
    idle_seconds: float = 3600.0
    connections: int = 500
    certificate: str = ""
    key: str = ""
    clients_ca: str = ""
    shared: bool = False

    def tls(self) -> ssl.SSLContext | None:
        """TLS when a certificate is set; with ``clients_ca`` callers must show one of theirs."""
        if not self.certificate:
            return None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.load_cert_chain(self.certificate, self.key or None)
        if self.clients_ca:
            made.verify_mode = ssl.CERT_REQUIRED
            made.load_verify_locations(Path(self.clients_ca))
        return made


Many = Callable[[Sequence[Came]], Sequence[Answered]]


def one_by_one(take: Callable[[bytes, Origin], bytes]) -> Many:
    """A function of one message as one of many."""
    return lambda came: [Answered(take(c.frame.data, c.origin)) for c in came]


class Listener:
    """Listens in a thread of its own; ``take`` is what turns messages into their answers (default: the platform)."""

    def __init__(self, settings: Settings, take: Callable[[bytes, Origin], bytes] | None = None) -> None:
        self.settings = settings
        self.take: Many = one_by_one(take) if take else receiving.receive_many
        self.port = settings.port
        self.budget = Budget(settings.large_bytes)
        self.open: set[_Connection] = set()
        self.stopping = False
        self._ready: deque[_Connection] = deque()
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="mllp")
        self._running: dict[asyncio.Future[Any], float] = {}
        self._held: dict[int, BaseDatabaseWrapper] = {}  # the threads' connections to the database
        self._loop: asyncio.AbstractEventLoop

    async def serve(self, stop: asyncio.Event, ready: Callable[[int], None] = lambda port: None) -> None:
        """Listen until ``stop`` is set; messages under way are finished."""
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        tls = settings.tls()
        server = await self._loop.create_server(
            lambda: _Connection(self), settings.host, settings.port, backlog=256, reuse_port=settings.shared or None,
            ssl=tls, ssl_handshake_timeout=min(settings.frame_seconds, 20.0) if tls else None,
        )  # fmt: skip
        self.port = server.sockets[0].getsockname()[1]
        ready(self.port)
        sweeping = asyncio.create_task(self._sweep())
        async with server:
            await stop.wait()
            self.stopping = True
            server.close()
            sweeping.cancel()
            if self._running:
                await asyncio.gather(*self._running, return_exceptions=True)
                await asyncio.sleep(0)  # the answers are written by the callbacks
            for connection in list(self.open):
                connection.close()
            await asyncio.sleep(0)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        """Let the threads finish, and let go of their connections to the database."""
        self._pool.shutdown(wait=True)
        for held in self._held.values():
            held.inc_thread_sharing()
            held.close()

    async def _sweep(self) -> None:
        """Let go of connections that have been silent for too long."""
        settings = self.settings
        pause = max(0.02, min(1.0, settings.frame_seconds / 4, settings.idle_seconds / 4))
        while True:
            await asyncio.sleep(pause)
            now = self._loop.time()
            for connection in list(self.open):
                connection.judge(now)

    def offer(self, connection: _Connection) -> None:
        """A connection has messages that wait."""
        self._ready.append(connection)
        self.pump()

    def pump(self) -> None:
        """Begin a batch of what waits, when it is time."""
        now = self._loop.time()
        while self._ready and not self.stopping and self._free(now):
            batch = self._gather()
            came = [Came(frame, connection.origin) for connection, frames in batch for frame in frames]
            future = self._loop.run_in_executor(self._pool, self._work, came)
            self._running[future] = now
            future.add_done_callback(lambda done, batch=batch: self._done(done, batch))  # type: ignore[misc]
            self._loop.call_later(self.settings.slow_seconds + 0.01, self.pump)

    def _free(self, now: float) -> bool:
        if len(self._running) >= self.settings.threads:
            return False
        return all(now - since > self.settings.slow_seconds for since in self._running.values())

    def _gather(self) -> list[tuple[_Connection, list[Frame]]]:
        """What is taken together: a connection's messages in order, until the batch is full."""
        batch: list[tuple[_Connection, list[Frame]]] = []
        left, size = self.settings.batch, 0
        while self._ready and left > 0 and size < AHEAD_BYTES:
            connection = self._ready.popleft()
            frames: list[Frame] = []
            while connection.waiting and left > 0 and size < AHEAD_BYTES:
                frame = connection.waiting.popleft()
                frames.append(frame)
                left -= 1
                size += len(frame.data)
            connection.busy = True
            batch.append((connection, frames))
        return batch

    def _work(self, came: Sequence[Came]) -> Sequence[Answered]:
        """In a thread: the answers to some frames."""
        try:
            own = connections[DEFAULT_DB_ALIAS]
            if own.connection is not None and own.connection.prepare_threshold is None:
                own.connection.prepare_threshold = PREPARE_AFTER
            return self.take(came)
        finally:
            self._held.setdefault(threading.get_ident(), connections[DEFAULT_DB_ALIAS])

    def _done(
        self, done: asyncio.Future[Sequence[Answered]], batch: list[tuple[_Connection, list[Frame]]]
    ) -> None:
        del self._running[done]
        failure = done.exception()
        if failure is not None:
            log.error("messages could not be answered", exc_info=failure)
        answers = iter(done.result() if failure is None else ())
        for connection, frames in batch:
            self.budget.give(sum(frame.weight for frame in frames))
            connection.answer([next(answers) for _ in frames] if failure is None else None)
        self.pump()


class _Connection(asyncio.Protocol):
    """One caller."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.frames = Frames(listener.settings.most_bytes, listener.budget)
        self.waiting: deque[Frame] = deque()
        self.origin = Origin()
        self.busy = False
        self._transport: asyncio.Transport | None = None
        self._heard = self._began = 0.0
        self._first = True
        self._ended = self._paused = self._stuck = False
        self._strange = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.origin = _origin(transport)
        self._heard = self._began = self.listener._loop.time()
        if len(self.listener.open) >= self.listener.settings.connections:
            log.warning("mllp: too many connections, %s is let go", self.origin.address)
            transport.close()
            return
        own = transport.get_extra_info("socket")
        if own is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.listener.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard = self.listener._loop.time()
        if self._first:
            self._first = False
            if data[:2] == b"\x16\x03" or data[:5] in (b"GET /", b"POST "):
                log.warning("mllp: %s speaks TLS or HTTP to this port and is let go", self.origin.address)
                self.close()
                return
        if not self.frames.open:
            self._began = self._heard
        came = self.frames.feed(data)
        if came:
            self._began = self._heard
            idle = not self.waiting and not self.busy
            self.waiting.extend(came)
            if idle and not self._stuck:
                self.listener.offer(self)
        elif self.frames.junk > JUNK:
            log.warning("mllp: %s sends no messages and is let go", self.origin.address)
            self.close()
        self._hold_back()

    def _hold_back(self) -> None:
        """Read on, or wait until what was read is answered."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        full = len(self.waiting) >= AHEAD or sum(len(f.data) for f in self.waiting) > AHEAD_BYTES
        if full and not self._paused:
            transport.pause_reading()
        elif not full and self._paused:
            self._heard = self._began = self.listener._loop.time()
            transport.resume_reading()
        self._paused = full

    def answer(self, answers: Sequence[Answered] | None) -> None:
        """What was taken of this connection is answered; None: it cannot be."""
        self.busy = False
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if answers is None:
                transport.close()
                return
            self._heard = self.listener._loop.time()
            told = b"".join([wrap(one.data) for one in answers if one.data])
            if told:
                transport.write(told)
            for one in answers:
                self._strange = self._strange + 1 if one.stranger else 0
            if self._strange >= STRANGE:
                log.warning("mllp: %s sent too many messages of nobody and is let go", self.origin.address)
                self.close()
        if self.waiting and not self._stuck:
            self.listener.offer(self)
        elif self._ended and not self.waiting:
            self.close()
        self._hold_back()

    def pause_writing(self) -> None:
        self._stuck = True  # it does not read its answers: nothing more of it is taken

    def resume_writing(self) -> None:
        self._stuck = False
        self._heard = self.listener._loop.time()
        if self.waiting and not self.busy:
            self.listener.offer(self)

    def eof_received(self) -> bool:
        """The caller has said everything; it is answered to the end."""
        self._ended = True
        self._lost()
        return bool(self.busy or self.waiting)

    def _lost(self) -> None:
        """Keep the beginning of a message that broke off; its sender got no answer and sends it again."""
        rest = self.frames.rest()
        if rest is not None:
            log.warning("mllp: %s went away in the middle of a message", self.origin.address)
            idle = not self.waiting and not self.busy
            self.waiting.append(rest)
            if idle:
                self.listener.offer(self)

    def connection_lost(self, failure: Exception | None) -> None:
        if failure is not None:
            log.info("mllp: the connection of %s ended: %s", self.origin.address, failure)
        if self in self.listener.open:
            self._lost()
        self.listener.open.discard(self)
        self._transport = None

    def judge(self, now: float) -> None:
        """Let go of a caller who has been silent for too long."""
        settings = self.listener.settings
        if self.busy or self.waiting or self._stuck:
            if self._stuck and now - self._heard > settings.frame_seconds:
                log.warning("mllp: %s does not read its answers and is let go", self.origin.address)
                self.abort()
            return
        if self.frames.open:
            if now - self._heard > settings.frame_seconds or now - self._began > settings.frame_seconds * 5:
                log.warning("mllp: %s does not end its message and is let go", self.origin.address)
                self.close()
        elif now - self._heard > settings.idle_seconds:
            log.info("mllp: %s has been silent for long and is let go", self.origin.address)
            self.close()

    def close(self) -> None:
        """Hang up, once what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()


def _origin(transport: asyncio.Transport) -> Origin:
    peer = transport.get_extra_info("peername")
    shown = transport.get_extra_info("ssl_object")
    certificate = shown.getpeercert(binary_form=True) if shown is not None else None
    return Origin(
        str(peer[0]) if peer else "unknown", hashlib.sha256(certificate).hexdigest() if certificate else ""
    )


class Running:
    """A listener in a thread (for tests and the demonstration)."""

    def __init__(self, settings: Settings, take: Callable[[bytes, Origin], bytes] | None = None) -> None:
        self.listener = Listener(settings, take)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mllp", daemon=True)

    def start(self) -> int:
        """Begin; returns the port. Raises what kept it from listening."""
        self._thread.start()
        self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self.listener.port

    def _run(self) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await self.listener.serve(self._stop, lambda port: self._ready.set())

        try:
            asyncio.run(main())
        except BaseException as failure:
            self._failure = failure
            log.exception("the MLLP listener ended")
        finally:
            self._ready.set()

    def stop(self) -> None:
        """End in good order."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
