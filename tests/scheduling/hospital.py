"""A hospital's booking system as real ones behave: slow, down, full, answering no more after it has booked, answering twice.

It counts what it was asked and what it booked, so that a test can say that nothing was booked twice and nothing was lost.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lianxin.resident.scheduling.adapters import KEYS


class Hospital:
    """Its state; ``mood`` is how it behaves at the next ``$book``."""

    def __init__(self) -> None:
        self.mood: str | Callable[[str], str] = "yes"
        self.up = True
        self.asked: Counter[str] = Counter()
        self.looked: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.booked: dict[str, dict[str, Any]] = {}
        self.cancelled: list[str] = []
        self.slots: list[dict[str, Any]] = []
        self.pages: list[dict[str, str]] = []
        self.guard = threading.Lock()
        self.url = ""
        self.started = threading.Event()

    def book(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
        appointment = next(p["resource"] for p in body["parameter"] if p["name"] == "appointment-resource")
        key = next(i["value"] for i in appointment["identifier"] if i["system"] == KEYS)
        mood = self.mood(key) if callable(self.mood) else self.mood
        self.started.set()
        with self.guard:
            self.asked[key] += 1
        if mood == "slow":
            time.sleep(1.6)
        if mood == "busy":
            return 503, {}, mood
        if mood in ("full", "unfit"):
            return 409, _outcome("该时段已满"), mood
        with self.guard:
            if key not in self.booked:
                self.made[key] += 1
                self.booked[key] = {
                    "resourceType": "Appointment", "id": f"H{len(self.booked) + 1}", "status": "booked",
                    "identifier": appointment["identifier"], "participant": [{"status": "accepted"}],
                }  # fmt: skip
            elif mood == "strict":
                return 409, _outcome("重复预约"), mood
            made = self.booked[key]
        return 201, made, mood


def _outcome(text: str) -> dict[str, Any]:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "conflict", "details": {"text": text}}],
    }


def _handler(hospital: Hospital) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def _send(self, status: int, body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            given = parse_qs(asked.query)
            if not hospital.up:
                return
            if asked.path == "/fhir/Appointment":
                key = given["identifier"][0].partition("|")[2]
                hospital.looked[key] += 1
                found = hospital.booked.get(key)
                entries = [{"resource": found}] if found else []
                self._send(200, {"resourceType": "Bundle", "type": "searchset", "entry": entries})
            elif asked.path == "/fhir/Slot":
                hospital.pages.append({k: v[0] for k, v in given.items()})
                since = given.get("_lastUpdated", ["ge"])[0][2:]
                at = int(given.get("page", ["0"])[0])
                told = [s for s in hospital.slots if s["meta"]["lastUpdated"] >= since]
                entries = [{"resource": r} for s in told[at : at + 2] for r in (s, _schedule(s))]
                link = [
                    {"relation": "next", "url": f"{hospital.url}/Slot?page={at + 2}&_lastUpdated=ge{since}"}
                ]
                self._send(200, {"resourceType": "Bundle", "type": "searchset", "entry": entries, "link": link if at + 2 < len(told) else []})  # fmt: skip
            else:
                self._send(404, _outcome("没有"))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            if not hospital.up:
                return
            if self.path.endswith("/$book"):
                status, made, mood = hospital.book(body)
                if mood == "lost":
                    return
                self._send(status, made)
                if mood == "twice":
                    self._send(status, made)
                return
            rid = self.path.split("/")[-2]
            hospital.cancelled.append(rid)
            for key, one in list(hospital.booked.items()):
                if one["id"] == rid:
                    hospital.booked[key] = {**one, "status": "cancelled"}
            self._send(200, {"resourceType": "Appointment", "id": rid, "status": "cancelled"})

    return Handler


def _schedule(slot: dict[str, Any]) -> dict[str, Any]:
    rid = slot["schedule"]["reference"].rpartition("/")[2]
    department, _, doctor = rid.partition("_")
    actors = [{"reference": f"HealthcareService/{department}"}]
    if doctor:
        actors.append({"reference": f"Practitioner/{doctor}"})
    return {"resourceType": "Schedule", "id": rid, "actor": actors}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that waits no longer is nothing to report."""


@contextmanager
def running() -> Iterator[Hospital]:
    """A hospital that listens on this machine."""
    hospital = Hospital()
    with _Server(("127.0.0.1", 0), _handler(hospital)) as server:
        hospital.url = f"http://127.0.0.1:{server.server_address[1]}/fhir"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield hospital
        server.shutdown()
        thread.join()
