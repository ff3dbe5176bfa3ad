"""Where devices that speak ASTM connect: one port per device, so that the port says which device it is."""

from __future__ import annotations

import logging
import socketserver
import threading
from typing import Any

from django.db import close_old_connections

from lianxin.regional.laboratory import astm, devices
from lianxin.regional.laboratory.models import Analyser
from lianxin.standards import clock

log = logging.getLogger(__name__)
SILENCE = 300.0
"""Seconds without a byte after which a line is closed."""


def handle(analyser: Analyser, message: bytes) -> list[bytes]:
    """Take a whole message of a device; what is to be sent back (the orders it asked for). Everything it said is committed."""
    try:
        said = astm.read(message)
    except astm.Broken as broken:
        log.warning("%s: %s", analyser.code, broken)
        devices.take(analyser.institution_id, analyser, "", [{"raw": repr(message[:60])}], "astm")
        return []
    for fault in said.faults:
        log.warning("%s: %s", analyser.code, fault)
    for sample in said.samples:
        if sample.rows:
            devices.take(analyser.institution_id, analyser, sample.number, sample.rows, "astm")
    at = clock.now().strftime("%Y%m%d%H%M%S")
    return [
        astm.answer(asked, devices.worklist(analyser.institution_id, analyser, asked), at=at)
        for asked in said.queries
    ]


class _Handler(socketserver.BaseRequestHandler):
    server: Listener

    def handle(self) -> None:
        """A device's connection until it closes or falls silent."""
        link = astm.Link()
        self.request.settimeout(SILENCE)
        while True:
            try:
                data = self.request.recv(65536)
            except (TimeoutError, OSError):
                return
            if not data:
                return
            back = bytearray(link.feed(data))
            while link.messages:
                close_old_connections()
                for reply in handle(self.server.analyser, link.messages.pop(0)):
                    back += link.send(reply)
            if back:
                self.request.sendall(bytes(back))


class Listener(socketserver.ThreadingTCPServer):
    """A TCP port for one device."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], analyser: Analyser) -> None:
        self.analyser = analyser
        super().__init__(address, _Handler)

    def start(self) -> threading.Thread:
        """Serve in a thread of its own; ``shutdown`` and ``server_close`` end it."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        return thread


def serve(analyser: Analyser, host: str, port: int) -> Any:
    """Serve until interrupted."""
    with Listener((host, port), analyser) as server:
        server.serve_forever()
