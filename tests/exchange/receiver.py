"""A receiver of notifications: a real HTTP server on this machine that writes down what it is sent and answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Heard:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def parameters(self) -> dict[str, Any]:
        """The status of a notification Bundle: name -> value, and ``events`` as a list of such."""
        return parameters(self.json["entry"][0]["resource"])

    @property
    def numbers(self) -> list[int]:
        """Event numbers told by this request."""
        first, _, last = self.headers["x-subscription-event"].partition("-")
        return list(range(int(first), int(last or first) + 1))


def parameters(resource: dict[str, Any]) -> dict[str, Any]:
    """A SubscriptionStatus Parameters resource as a dict."""
    found: dict[str, Any] = {"events": []}
    for part in resource["parameter"]:
        if part["name"] == "notification-event":
            found["events"].append({p["name"]: _value(p) for p in part["part"]})
        else:
            found[part["name"]] = _value(part)
    return found


def _value(part: dict[str, Any]) -> Any:
    value = next(v for k, v in part.items() if k.startswith("value"))
    return value.get("reference", value) if isinstance(value, dict) else value


class Receiver:
    """Heard requests in order; ``answer(heard)`` decides the status (an int, or (status, headers)), None hangs up."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.answer: Callable[[Heard], Any] = lambda heard: 200
        self.connections = 0
        self.url = ""

    def events(self) -> list[Heard]:
        """Requests that tell events."""
        return [h for h in self.heard if "x-subscription-event" in h.headers]

    def wait(self, count: int, seconds: float = 20.0) -> list[Heard]:
        """Requests that tell events, once there are ``count``."""
        deadline = time.monotonic() + seconds
        while len(self.events()) < count:
            assert time.monotonic() < deadline, f"{len(self.events())} of {count} came"
            time.sleep(0.02)
        return self.events()


@contextmanager
def listening() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver()
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            with guard:
                receiver.connections += 1
            super().setup()

        def _do(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard = Heard(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, raw)
            answered = receiver.answer(heard)
            with guard:
                receiver.heard.append(heard)
            if answered is None:
                self.close_connection = True
                return
            status, headers = answered if isinstance(answered, tuple) else (answered, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_GET = _do

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
