"""The DICOM listener as processes: ``lianxin listen dicom``, and under ``lianxin serve`` when ``LIANXIN_DICOM_PORT`` is set.

``LIANXIN_DICOM_AE`` (our AE title, default LIANXIN), ``LIANXIN_DICOM_HOST`` (default loopback), ``LIANXIN_DICOM_CERTIFICATE``,
``LIANXIN_DICOM_KEY`` and ``LIANXIN_DICOM_CLIENTS_CA`` (PEM files: TLS, and callers that must show a certificate),
``LIANXIN_DICOM_PROCESSES`` (default 1: that many listen on the port together), ``LIANXIN_DICOM_ASSOCIATIONS`` (at once and process,
default 64), ``LIANXIN_DICOM_SILENT`` (seconds after which a silent association ends, default 60).

With several processes a parent watches them. A process that is killed at any moment loses nothing that it had acknowledged.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import django

from lianxin.config import process

if TYPE_CHECKING:
    from lianxin.regional.archive.scp import Settings

STOP_SECONDS = 15.0
QUICK_DEATHS = 5


def _number(name: str, default: int, most: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() and 0 < int(text) <= most else default


def wanted() -> int | None:
    """The port that ``serve`` is to listen on, None when it is not to."""
    return _number("LIANXIN_DICOM_PORT", 0, 65535) or None


def host() -> str:
    """The address to listen on."""
    return os.environ.get("LIANXIN_DICOM_HOST", "127.0.0.1")


def processes() -> int:
    """How many listen together."""
    return _number("LIANXIN_DICOM_PROCESSES", 1, 32)


def settings() -> Settings:
    """What the environment says."""
    from lianxin.regional.archive.scp import Settings

    given = os.environ.get
    return Settings(
        host(), wanted() or 11112, _number("LIANXIN_DICOM_ASSOCIATIONS", 64, 1000), float(_number("LIANXIN_DICOM_SILENT", 60, 3600)),
        given("LIANXIN_DICOM_CERTIFICATE", ""), given("LIANXIN_DICOM_KEY", ""), given("LIANXIN_DICOM_CLIENTS_CA", ""),
        given("LIANXIN_DICOM_SHARED") == "1",
    )  # fmt: skip


def listen(ready: Callable[[int], None] = lambda port: None) -> None:
    """Listen in this process until told to stop. Raises OSError when the address cannot be had, ValueError for certificates that cannot be used."""
    from lianxin.regional.archive.scp import Door

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sys.setswitchinterval(0.001)
    door = Door(settings())
    door.start()
    ready(door.port)
    try:
        while not stop.wait(1.0):
            pass
    finally:
        door.stop()


def run(ready: Callable[[int], None] = lambda port: None) -> int:
    """Listen, with as many processes as are wanted; returns the exit code."""
    if processes() <= 1 or os.environ.get("LIANXIN_DICOM_SHARED") == "1":
        listen(ready)
        return 0
    settings().tls()
    environment = {
        **os.environ,
        "LIANXIN_DICOM_SHARED": "1",
        "LIANXIN_DICOM_PORT": str(settings().port),
        "DJANGO_SETTINGS_MODULE": "lianxin.config.settings",
    }
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    children = [_child(environment) for _ in range(processes())]
    born = [time.monotonic()] * len(children)
    quick = 0
    ready(settings().port)
    try:
        while not stopping.wait(0.3):
            for n, child in enumerate(children):
                if child.poll() is None:
                    continue
                quick = quick + 1 if time.monotonic() - born[n] < 10 else 0
                if quick > QUICK_DEATHS:
                    print(
                        f"the listener keeps ending (exit code {child.returncode}); stopping", file=sys.stderr
                    )
                    return 1
                children[n], born[n] = _child(environment), time.monotonic()
        return 0
    finally:
        for child in children:
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _child(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "lianxin.config.dicom"],
        env=environment, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=process.die_with_parent,
    )  # fmt: skip


def main() -> None:
    """Listen where the environment says: as a child of ``serve``, or of :func:`run`."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    django.setup()
    process.die_with_parent()
    raise SystemExit(run())


if __name__ == "__main__":
    main()
