"""The MLLP listener as a process: ``lianxin mllp``, and under ``lianxin serve`` when ``LIANXIN_MLLP_PORT`` is set.

``LIANXIN_MLLP_HOST`` (default loopback), ``LIANXIN_MLLP_CERTIFICATE`` and ``LIANXIN_MLLP_KEY`` (PEM files: TLS),
``LIANXIN_MLLP_CLIENTS_CA`` (callers must show a certificate of this authority).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import django


def wanted() -> int | None:
    """The port that ``serve`` is to listen on, None when it is not to."""
    port = os.environ.get("LIANXIN_MLLP_PORT", "")
    return int(port) if port.isdigit() and 0 < int(port) < 65536 else None


def host() -> str:
    """The address to listen on."""
    return os.environ.get("LIANXIN_MLLP_HOST", "127.0.0.1")


def listen(host: str, port: int, ready: Callable[[int], None] = lambda port: None) -> None:
    """Listen until told to stop; messages under way are finished. Raises OSError when the address cannot be had."""
    from lianxin.exchange.v2.server import Listener, Settings

    settings = Settings(
        host=host,
        port=port,
        certificate=os.environ.get("LIANXIN_MLLP_CERTIFICATE", ""),
        key=os.environ.get("LIANXIN_MLLP_KEY", ""),
        clients_ca=os.environ.get("LIANXIN_MLLP_CLIENTS_CA", ""),
    )

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await Listener(settings).serve(stop, ready)

    asyncio.run(run())


def main() -> None:
    """Listen where the environment says, as a child of ``serve``."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    django.setup()

    from lianxin.config import process

    process.die_with_parent()
    listen(host(), wanted() or 2575)


if __name__ == "__main__":
    main()
