"""The web server, the ticker and the bulk workers, kept running together.

``granian`` serves :mod:`lianxin.config.wsgi` with one worker process per core; the ticker runs the periodic work of
``duty.periodic`` (escalation, releases, outbox), bulk workers the exports and imports; the doors for HL7 v2 and DICOM when they have a port. This parent only watches: a child that ends is started again, a stop signal
is passed on and waited for, and children follow their parent should it be killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lianxin.config import dicom, mllp, process

STOP_SECONDS = 15.0
WORKER_THREADS = 4
CONCURRENT_PER_WORKER = 64


class PortTaken(RuntimeError):
    """Something else listens on the port already."""


def web_command(host: str, port: int, workers: int) -> list[str]:
    """Command line of the web server: sync WSGI, HTTP/1, workers replaced when they die or grow past 1 GiB."""
    options: dict[str, Any] = {
        "interface": "wsgi",
        "host": host,
        "port": port,
        "workers": workers,
        "blocking-threads": WORKER_THREADS,
        "backpressure": CONCURRENT_PER_WORKER,
        "backlog": 1024,
        "http": "1",
        "http1-header-read-timeout": 10000,
        "workers-kill-timeout": 10,
        "workers-max-rss": 1024,
        "respawn-interval": 0.5,
        "log-level": "error",
    }
    flags = [item for name, value in options.items() for item in (f"--{name}", str(value))]
    return [
        sys.executable,
        "-m",
        "granian",
        *flags,
        "--no-ws",
        "--respawn-failed-workers",
        "lianxin.config.wsgi:application",
    ]


def default_workers() -> int:
    """One worker per core this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bulk_workers() -> int:
    """How many bulk workers to run beside the web server (``LIANXIN_BULK_WORKERS``; 0: they run elsewhere)."""
    from django.conf import settings

    return int(settings.LIANXIN_BULK_WORKERS)


def check_port(host: str, port: int) -> None:
    """Raise :class:`PortTaken` when nobody could listen on ``host:port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as failure:
            raise PortTaken(f"{host}:{port}: {failure.strerror}") from failure


def wait_until_up(
    host: str, port: int, seconds: float = 60.0, dead: Callable[[], bool] = lambda: False
) -> bool:
    """Wait until the server accepts connections; False when it did not within ``seconds`` or ``dead()`` says it ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not dead():
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # Their own session: a Ctrl-C reaches only the parent, which stops them in order.
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=process.die_with_parent,
    )


def run(
    home: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int | None = None,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Serve until a stop signal; returns the exit code. ``ready`` is called once, when every door accepts connections.

    Raises:
        PortTaken: before anything is started.
    """
    check_port(host, port)
    figures = home / "metrics"
    shutil.rmtree(figures, ignore_errors=True)
    figures.mkdir(mode=0o700, parents=True)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "lianxin.config.settings",
        "LIANXIN_SUPERVISED": "1",
        "PROMETHEUS_MULTIPROC_DIR": str(figures),
    }
    commands = {
        "web": web_command(host, port, workers or default_workers()),
        "ticker": [sys.executable, "-m", "lianxin.config.ticker"],
    }
    doors = [(host, port)]
    if (listening := mllp.wanted()) is not None:
        doors.append((mllp.host(), listening))
        commands["mllp"] = [sys.executable, "-m", "lianxin.config.mllp"]
    if (dicom_port := dicom.wanted()) is not None:
        doors.append((dicom.host(), dicom_port))
        commands["dicom"] = [sys.executable, "-m", "lianxin.config.dicom"]
    for n in range(bulk_workers()):
        commands[f"bulk{n + 1}"] = [sys.executable, "-m", "lianxin.config.bulk_worker"]
    stopping: list[int] = []
    before = {
        number: signal.signal(number, lambda sig, frame: stopping.append(sig))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    children = {
        name: _start(command, {**environment, "LIANXIN_ROLE": name}) for name, command in commands.items()
    }
    born = dict.fromkeys(children, time.monotonic())
    quick_deaths = 0
    announced = False
    try:
        while not stopping:
            if not announced and all(wait_until_up(*door, 0.5, lambda: bool(stopping)) for door in doors):
                announced = True
                ready()
            for name, child in children.items():
                if stopping or child.poll() is None:
                    continue
                quick_deaths = quick_deaths + 1 if time.monotonic() - born[name] < 10 else 0
                if quick_deaths > 5:
                    print(
                        f"the {name} process keeps ending (exit code {child.returncode}); stopping",
                        file=sys.stderr,
                    )
                    return 1
                time.sleep(0.5)
                children[name] = _start(commands[name], {**environment, "LIANXIN_ROLE": name})
                born[name] = time.monotonic()
            time.sleep(0.2)
    finally:
        stop(list(children.values()))
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def stop(children: list[subprocess.Popen[bytes]]) -> None:
    """End the children in good order: TERM, wait, and KILL those that do not end (with the workers of their session)."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
