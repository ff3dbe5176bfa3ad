"""The real web server and ticker as people run them: up, hurt, killed, stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection

from lianxin.config import process, serve

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        children = [child for child, above in pairs if above == parent]
        found += children
        queue += children
    return found


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def answers(port: int, path: str = "/readyz") -> bool:
    try:
        return get(port, path)[0] == 200
    except OSError:
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``lianxin serve`` with two workers on the test database."""
    told = connection.settings_dict
    address = f"postgresql://{quote(told['USER'])}:{quote(told['PASSWORD'])}@/{told['NAME']}?host={quote(told['HOST'])}"
    if told["PORT"]:
        address += f"&port={told['PORT']}"
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "lianxin.config.cli", "serve", "--port", str(port), "--workers", "2"],
        env={**os.environ, "DATABASE_URL": address, "LIANXIN_HOME": str(tmp_path), "LANG": "C"},
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: child.poll() is not None or answers(port))
        assert child.poll() is None, "the server ended"
        yield child, port
    finally:
        below = descendants(child.pid)
        if child.poll() is None:
            child.terminate()
            child.wait(40)
        eventually(lambda: not any(process.alive(pid) for pid in below))


def test_serves_pages_fhir_and_figures_of_all_workers(server: tuple[subprocess.Popen[bytes], int]) -> None:
    _, port = server
    assert json.loads(get(port, "/healthz")[1]) == {"status": "ok"}
    status, body = get(port, "/fhir/metadata")
    assert status == 200
    assert json.loads(body)["resourceType"] == "CapabilityStatement"
    assert b'route="fhir"' in get(port, "/metrics")[1]


def test_a_killed_worker_is_replaced(server: tuple[subprocess.Popen[bytes], int]) -> None:
    child, port = server
    web = next(pid for pid in descendants(child.pid) if descendants(pid))
    workers = descendants(web)
    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: workers[0] not in descendants(web) and len(descendants(web)) >= len(workers))
    eventually(lambda: answers(port))


def test_a_killed_parent_leaves_nothing_behind(server: tuple[subprocess.Popen[bytes], int]) -> None:
    child, port = server
    below = descendants(child.pid)
    assert len(below) >= 3
    child.kill()
    child.wait()
    eventually(lambda: not any(process.alive(pid) for pid in below))
    assert not answers(port)


def test_a_stop_signal_ends_it_in_good_order(server: tuple[subprocess.Popen[bytes], int]) -> None:
    child, _ = server
    below = descendants(child.pid)
    child.send_signal(signal.SIGINT)
    assert child.wait(40) == 0
    assert not any(process.alive(pid) for pid in below)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(serve.PortTaken, match=str(port)):
            serve.check_port("127.0.0.1", port)
