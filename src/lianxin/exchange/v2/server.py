"""The MLLP listener: one asyncio loop for the connections, threads for the work, one message of a connection at a time.

A connection that goes wrong (a frame that never ends, no message for a long time, a thousand refused frames) is closed with a
line in the log; the others go on.  The answer leaves after the commit, so a sender that got none sends again and is answered
as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from lianxin.exchange.v2 import answers, errors
from lianxin.exchange.v2.errors import Malformed
from lianxin.exchange.v2.framing import Frame, Frames, wrap
from lianxin.exchange.v2.peers import Origin
from lianxin.exchange.v2.receiving import receive
from lianxin.standards.text import T

log = logging.getLogger(__name__)

CHUNK = 64 * 1024


@dataclass(frozen=True)
class Settings:
    """Where to listen and within which limits (seconds and bytes)."""

    host: str = "127.0.0.1"
    port: int = 2575
    threads: int = 4
    most_bytes: int = 16 * 1024 * 1024
    frame_seconds: float = 60.0
    idle_seconds: float = 3600.0
    connections: int = 500
    certificate: str = ""
    key: str = ""
    clients_ca: str = ""

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


class Listener:
    """Listens in a thread of its own; ``take`` is what turns a message into its answer."""

    def __init__(self, settings: Settings, take: Callable[[bytes, Origin], bytes] = receive) -> None:
        self.settings, self.take = settings, take
        self.port = settings.port
        self._open = 0
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="mllp")
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[int, BaseDatabaseWrapper] = {}  # the threads' connections to the database

    async def serve(self, stop: asyncio.Event, ready: Callable[[int], None] = lambda port: None) -> None:
        """Listen until ``stop`` is set; messages under way are finished."""
        settings = self.settings
        server = await asyncio.start_server(
            self._connected, settings.host, settings.port, limit=CHUNK, ssl=settings.tls(), backlog=256
        )
        self.port = server.sockets[0].getsockname()[1]
        ready(self.port)
        async with server:
            await stop.wait()
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        """Let the threads finish, and let go of their connections to the database."""
        self._pool.shutdown(wait=True)
        for held in self._held.values():
            held.inc_thread_sharing()
            held.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        origin = _origin(writer)
        self._open += 1
        try:
            if self._open > self.settings.connections:
                log.warning("mllp: too many connections, %s is let go", origin.address)
                return
            await self._talk(reader, writer, origin)
        except (ConnectionError, TimeoutError, ssl.SSLError) as gone:
            log.info("mllp: the connection of %s ended: %s", origin.address, gone or type(gone).__name__)
        finally:
            self._open -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 5)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, origin: Origin) -> None:
        frames = Frames(self.settings.most_bytes)
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            wait = self.settings.frame_seconds if frames.open else self.settings.idle_seconds
            data = await asyncio.wait_for(reader.read(CHUNK), wait)
            if not data:
                if frames.open:
                    log.warning("mllp: %s went away in the middle of a message", origin.address)
                return
            if not frames.open:
                since = loop.time()
            for frame in frames.feed(data):
                since = loop.time()
                answer = await asyncio.shield(loop.run_in_executor(self._pool, self._take, frame, origin))
                writer.write(wrap(answer))
                await writer.drain()
            if frames.open and loop.time() - since > self.settings.frame_seconds * 5:
                raise TimeoutError("a frame that does not end")

    def _take(self, frame: Frame, origin: Origin) -> bytes:
        """In a thread: the answer to one frame."""
        try:
            if frame.fault:
                return answers.acknowledge(None, "AR", [_fault(frame, self.settings.most_bytes)])
            return self.take(frame.data, origin)
        finally:
            self._held.setdefault(threading.get_ident(), connections[DEFAULT_DB_ALIAS])


def _fault(frame: Frame, most: int) -> Malformed:
    if frame.fault == "long":
        return Malformed(
            errors.INTERNAL,
            T("消息超过 {n} MB，未受理。", "The message is larger than {n} MB and was not taken.").format(
                n=most >> 20
            ),
        )
    return Malformed(
        errors.SEQUENCE,
        T(
            "上一条消息没有结束符就开始了新的一条，未受理。",
            "A new message began before this one had ended; it was not taken.",
        ),
    )


def _origin(writer: asyncio.StreamWriter) -> Origin:
    peer = writer.get_extra_info("peername")
    shown = writer.get_extra_info("ssl_object")
    certificate = shown.getpeercert(binary_form=True) if shown is not None else None
    return Origin(
        str(peer[0]) if peer else "unknown", hashlib.sha256(certificate).hexdigest() if certificate else ""
    )


class Running:
    """A listener in a thread (for ``lianxin serve``, and for tests)."""

    def __init__(self, settings: Settings, take: Callable[[bytes, Origin], bytes] = receive) -> None:
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
