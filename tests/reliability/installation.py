"""A whole installation of its own: a home folder, the embedded database, ``lianxin serve``, and hands to hurt them.

Everything runs in other processes, started by the console command as people start it. Only processes that descend from
what was started here, or that the installation's own lock files name, are ever killed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from lianxin.config import postgres, process

PATIENCE = 90.0
HEAD, TOWNSHIP = "XN-SYY", "XN-CG"


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE, what: str = "it") -> Any:
    """The first true value of ``condition``, asked again and again; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        children = [child for child, above in pairs if above == parent]
        found += children
        queue += children
    return found


def _environment(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass
class Answer:
    """Status, headers and body of an HTTP answer."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    def value(self, name: str) -> Any:
        """A value of a Parameters answer."""
        part = next(p for p in self.json["parameter"] if p["name"] == name)
        return next(v for k, v in part.items() if k != "name")


@dataclass
class Installation:
    """One ``LIANXIN_HOME``, its database and its server."""

    home: Path
    port: int = 0
    server: subprocess.Popen[bytes] | None = None
    started: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of this installation: no DATABASE_URL, so the database is the embedded one."""
        dropped = ("DATABASE_URL", "LIANXIN_SECRET", "LIANXIN_TEST_DB", "LIANXIN_SUPERVISED", "LIANXIN_ROLE")
        kept = {key: value for key, value in os.environ.items() if key not in dropped}
        path = os.pathsep.join(p for p in sys.path if p)
        return kept | {"LIANXIN_HOME": str(self.home), "PYTHONPATH": path, "LANG": "C", "LC_ALL": "C.UTF-8"}

    # ------------------------------------------------------------------------------------------------------ commands

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start ``lianxin …``."""
        child = subprocess.Popen(
            [sys.executable, "-m", "lianxin.config.cli", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(child.pid)
        return child

    def run(self, *words: str, code: int = 0, seconds: float = 180) -> str:
        """``lianxin …`` to its end; its standard output. Fails on another exit code than ``code``."""
        child = self.begin(*words)
        out, err = child.communicate(timeout=seconds)
        assert child.returncode == code, (words, child.returncode, out.decode()[-1500:], err.decode()[-1500:])
        return out.decode()

    def shell(self, code: str) -> Any:
        """Run Python inside the installation (Django is up); what it prints last is JSON."""
        out = self.run("manage", "shell", "--no-imports", "-c", code)
        return json.loads(out.strip().splitlines()[-1])

    # -------------------------------------------------------------------------------------------------------- server

    def serve(self) -> None:
        """Start the server and wait until it is ready."""
        self.server = subprocess.Popen(
            [sys.executable, "-m", "lianxin.config.cli", "serve", "--port", str(self.port), "--workers", "2"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.started.append(self.server.pid)
        eventually(
            lambda: self.server is None or self.server.poll() is not None or self.ready(), what="the server"
        )
        assert self.server.poll() is None, "the server ended"

    def ready(self) -> bool:
        """Whether ``/readyz`` says yes."""
        try:
            return self.http("GET", "/readyz", seconds=10).status == 200
        except OSError:
            return False

    @property
    def web_workers(self) -> list[int]:
        """The processes that answer requests: what the web server has begotten."""
        return [pid for pid in self._own() if b"LIANXIN_ROLE=web" in _environment(pid) and _parent(pid) in self._own()
                and b"resource_tracker" not in _command(pid) and _parent(pid) != self._watcher]  # fmt: skip

    @property
    def _watcher(self) -> int:
        assert self.server is not None
        return self.server.pid

    def _own(self) -> list[int]:
        """The processes that ``lianxin serve`` runs; the database below it is not among them."""
        return [pid for pid in descendants(self._watcher) if b"LIANXIN_SUPERVISED=1" in _environment(pid)]

    def kill_workers(self) -> int:
        """``kill -9`` of every web worker; returns how many there were."""
        pids = self.web_workers
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def kill_server(self) -> None:
        """``kill -9`` of the whole of ``lianxin serve``: watcher, web server, workers and ticker; waits until they are gone."""
        assert self.server is not None
        below = self._own()
        for pid in (self.server.pid, *below):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait(30)
        eventually(lambda: not any(process.alive(pid) for pid in below), what="the end of the killed")
        self.server = None

    def kill_database(self) -> None:
        """``kill -9`` of the PostgreSQL postmaster; waits until another one runs in its place."""
        place = postgres.layout(self.home)
        pid = postgres.server_pid(place)
        assert pid is not None
        self.started.append(pid)
        os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: postgres.server_pid(place) not in (None, pid) and postgres.healthy(place),
            what="the database",
        )

    def stop(self) -> None:
        """Stop all in good order, delete the database, and see that no process is left."""
        place = postgres.layout(self.home)
        below: list[int] = []
        if self.server is not None:
            below = descendants(self.server.pid)
            self.server.terminate()
            self.server.wait(60)
        eventually(lambda: postgres.server_pid(place) is None, what="the end of the database")
        pids = {*self.started, *below}
        eventually(lambda: not any(process.alive(pid) for pid in pids), what="the end of every process")
        postgres.destroy(self.home)

    # ---------------------------------------------------------------------------------------------------------- look

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query on a connection of its own, retried while the database is coming up again."""

        def ask() -> list[tuple[Any, ...]] | None:
            place = postgres.layout(self.home)
            try:
                with psycopg.connect(
                    host=str(place.run), dbname="lianxin", user="lianxin", connect_timeout=5
                ) as own:
                    return own.execute(statement, values or None).fetchall() or [()]  # type: ignore[call-overload]
            except psycopg.OperationalError:
                return None

        rows = eventually(ask, what="the database")
        return [] if rows == [()] else rows

    def count(self, statement: str, *values: Any) -> int:
        """The one number a query gives."""
        return int(self.query(statement, *values)[0][0])

    def check(self) -> str:
        """``lianxin check`` must agree with everything."""
        return self.run("check")

    # ---------------------------------------------------------------------------------------------------------- wire

    def http(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 30,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            with contextlib.suppress(
                BrokenPipeError
            ):  # refused before all of it was sent: the answer is there to be read
                connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except http.client.HTTPException as broken:
            raise ConnectionError(str(broken)) from broken
        finally:
            connection.close()

    def fhir(
        self,
        token: str,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        seconds: float = 30,
    ) -> Answer:
        """One FHIR request."""
        raw = (
            body if isinstance(body, bytes) or body is None else json.dumps(body, ensure_ascii=False).encode()
        )
        sent = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/fhir+json",
            **(headers or {}),
        }
        return self.http(method, f"/fhir/{path}", raw, sent, seconds)

    def insist(self, token: str, method: str, path: str, body: Any, tries: list[int] | None = None) -> Answer:
        """A FHIR request repeated, as it is, until somebody answers it: connection lost and 503 mean "ask again"."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self.fhir(token, method, path, body)
                if answer.status != 503:
                    return answer
            except OSError:
                pass
            if tries is not None:
                tries.append(1)
            assert time.monotonic() < deadline, f"nobody answers {method} {path}"
            time.sleep(0.1)


@dataclass
class Browser:
    """Just enough of one: cookies, and the token that our forms carry."""

    site: Installation
    cookies: dict[str, str] = field(default_factory=dict)

    def go(self, method: str, path: str, form: dict[str, str] | None = None) -> Answer:
        """One request; cookies are kept, redirects are not followed."""
        headers = {
            "Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()),
            "Accept-Language": "zh-CN",
        }
        body = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(
                form | {"csrfmiddlewaretoken": self.cookies.get("csrftoken", "")}
            ).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    key, _, rest = value.partition("=")
                    self.cookies[key] = rest.split(";")[0]
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def sign_in(self, username: str, password: str) -> None:
        """Through the sign-in page."""
        assert self.go("GET", "/login").status == 200
        answer = self.go("POST", "/login", {"username": username, "password": password})
        assert answer.status == 302, answer.raw.decode()[-2000:]
