"""The MLLP listener as processes: ``lianxin listen hl7v2``, and under ``lianxin serve`` when ``LIANXIN_MLLP_PORT`` is set.

``LIANXIN_MLLP_HOST`` (default loopback), ``LIANXIN_MLLP_CERTIFICATE`` and ``LIANXIN_MLLP_KEY`` (PEM files: TLS),
``LIANXIN_MLLP_CLIENTS_CA`` (callers must show a certificate of this authority), ``LIANXIN_MLLP_PROCESSES`` (default 1: that many
listen on the port together), ``LIANXIN_MLLP_MOST_MB`` (the largest message, default 16).

With several processes a parent watches them: one that dies is started again, a stop signal is passed on and waited for.  A process
that is killed at any moment loses nothing: what it had not answered its senders send again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from lianxin.exchange.v2.server import Settings

STOP_SECONDS = 15.0
UP_SECONDS = 60.0
QUICK_DEATHS = 5
"""Processes that ended within ten seconds of their start, one after the other, after which the parent gives up."""


@dataclass(frozen=True)
class Options:
    """How to listen; the environment says it for ``serve`` and for the children of :func:`run`."""

    host: str = "127.0.0.1"
    port: int = 2575
    processes: int = 1
    certificate: str = ""
    key: str = ""
    clients_ca: str = ""
    most_mb: int = 16

    def settings(self, shared: bool = False) -> Settings:
        """For a listener."""
        from lianxin.exchange.v2.server import Settings

        most = self.most_mb * 1024 * 1024
        return Settings(
            host=self.host, port=self.port, certificate=self.certificate, key=self.key, clients_ca=self.clients_ca,
            most_bytes=most, large_bytes=max(Settings.large_bytes, 4 * most), shared=shared,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The same as variables."""
        return {
            "LIANXIN_MLLP_HOST": self.host, "LIANXIN_MLLP_PORT": str(self.port), "LIANXIN_MLLP_PROCESSES": str(self.processes),
            "LIANXIN_MLLP_CERTIFICATE": self.certificate, "LIANXIN_MLLP_KEY": self.key, "LIANXIN_MLLP_CLIENTS_CA": self.clients_ca,
            "LIANXIN_MLLP_MOST_MB": str(self.most_mb),
        }  # fmt: skip


def _number(name: str, default: int, most: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() and 0 < int(text) <= most else default


def wanted() -> int | None:
    """The port that ``serve`` is to listen on, None when it is not to."""
    return _number("LIANXIN_MLLP_PORT", 0, 65535) or None


def host() -> str:
    """The address to listen on."""
    return os.environ.get("LIANXIN_MLLP_HOST", "127.0.0.1")


def options() -> Options:
    """What the environment says."""
    given = os.environ.get
    return Options(
        host(), wanted() or 2575, _number("LIANXIN_MLLP_PROCESSES", 1, 64), given("LIANXIN_MLLP_CERTIFICATE", ""),
        given("LIANXIN_MLLP_KEY", ""), given("LIANXIN_MLLP_CLIENTS_CA", ""), _number("LIANXIN_MLLP_MOST_MB", 16, 64),
    )  # fmt: skip


def listen(given: Options, ready: Callable[[int], None] = lambda port: None, *, shared: bool = False) -> None:
    """Listen in this process until told to stop; messages under way are finished. Raises OSError when the address cannot be had."""
    from lianxin.exchange.v2.server import Listener

    async def work() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await Listener(given.settings(shared)).serve(stop, ready)

    gc.freeze()  # what was imported stays: the collector need not look at it again
    gc.set_threshold(50_000, 20, 50)  # a batch makes very many small objects, hardly any of them in cycles
    asyncio.run(work())


def run(given: Options, ready: Callable[[int], None] = lambda port: None) -> int:
    """Listen, with as many processes as are wanted; returns the exit code. ``ready`` is called once, when all of them listen.

    Raises OSError when the address cannot be had, ValueError for certificates that cannot be used.
    """
    if given.processes <= 1:
        listen(given, ready)
        return 0
    given.settings().tls()
    with _reserved(given.host, given.port) as held:
        port = held.getsockname()[1]
        return _Parent(given, port).run(ready)


def _reserved(host: str, port: int) -> socket.socket:
    """The port, held but not listened on, so that nobody else can have it while a child is away."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family) as probe:  # alone: somebody who listens already is found out
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        port = probe.getsockname()[1]
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held


class _Child:
    """One listening process, and the pipe through which it says that it listens."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.said, theirs = os.pipe()
        self.born = time.monotonic()
        self.up = False
        from lianxin.config import process

        self.process = subprocess.Popen(
            [sys.executable, "-m", "lianxin.config.mllp"],
            env={**environment, "LIANXIN_MLLP_READY": str(theirs)},
            pass_fds=(theirs,),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=process.die_with_parent,
        )
        os.close(theirs)

    def look(self, seconds: float) -> None:
        """See for at most ``seconds`` whether it listens now."""
        if not self.up and select.select([self.said], [], [], seconds)[0]:
            self.up = os.read(self.said, 1) == b"1"

    def forget(self) -> None:
        os.close(self.said)


class _Parent:
    """Keeps the children running."""

    def __init__(self, given: Options, port: int) -> None:
        self.environment = {
            **os.environ,
            **given.environment(),
            "LIANXIN_MLLP_PORT": str(port),
            "DJANGO_SETTINGS_MODULE": "lianxin.config.settings",
        }
        self.port = port
        self.count = given.processes
        self.stopping = False

    def run(self, ready: Callable[[int], None]) -> int:
        """Until a stop signal."""
        before = {
            number: signal.signal(number, self._stop)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        children = [_Child(self.environment) for _ in range(self.count)]
        announced, quick = False, 0
        try:
            while not self.stopping:
                for n, child in enumerate(children):
                    child.look(0.1)
                    if self.stopping or child.process.poll() is None:
                        continue
                    quick = quick + 1 if time.monotonic() - child.born < 10 else 0
                    if quick > QUICK_DEATHS:
                        print(
                            f"the listener keeps ending (exit code {child.process.returncode}); stopping",
                            file=sys.stderr,
                        )
                        return 1
                    child.forget()
                    time.sleep(0.3)
                    children[n] = _Child(self.environment)
                if not announced and all(child.up for child in children):
                    announced = True
                    ready(self.port)
                time.sleep(0.1)
            return 0
        finally:
            self._end(children)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def _end(self, children: list[_Child]) -> None:
        for child in children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.forget()


def main() -> None:
    """Listen where the environment says: as a child of ``serve``, or of :func:`run` (``LIANXIN_MLLP_READY``: its pipe)."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    django.setup()

    from lianxin.config import process

    process.die_with_parent()
    pipe = os.environ.pop("LIANXIN_MLLP_READY", "")
    if pipe:
        listen(options(), lambda port: _told(int(pipe)), shared=True)
    else:
        raise SystemExit(run(options()))


def _told(pipe: int) -> None:
    os.write(pipe, b"1")
    os.close(pipe)


if __name__ == "__main__":
    main()
