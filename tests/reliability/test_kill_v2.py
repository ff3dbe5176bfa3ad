"""``kill -9`` of the HL7 v2 listeners and of PostgreSQL while messages come in: what was acknowledged is stored exactly once.

``LIANXIN_KILL_MESSAGES`` (default 400) says how many messages; the acceptance run is 10,000.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.reliability.conftest import Town
from tests.reliability.installation import HEAD, Installation, descendants, eventually

pytestmark = [pytest.mark.concurrency]
MESSAGES = int(os.environ.get("LIANXIN_KILL_MESSAGES", "400"))
LANES, PEOPLE = 8, 60
PEER = f"""
import json
from lianxin.access import tokens
from lianxin.access.models import Client
from lianxin.exchange.v2.models import Peer
from lianxin.standards import clock
tokens.issue("kill-his", "system/*.cruds", "{HEAD}")
Peer.objects.create(name="kill-his", application="KILLHIS", facility="{HEAD}", client=Client.objects.get(name="kill-his"),
                    default_system="urn:oid:2.999.66", created_at=clock.now())
print(json.dumps(True))
"""


def message(n: int) -> bytes:
    """Message ``n``: every third a patient, the others a report of two results, about one of the people of its lane."""
    who = n % LANES + LANES * (n // LANES % (PEOPLE // LANES))
    name = "岑薛雷贺倪汤滕殷"[who % 8] + "甲乙丙丁戊己庚辛壬癸"[who // 8 % 10] + chr(0x4E10 + who)
    at = f"20260301{8 + n // 3600 % 12:02}{n // 60 % 60:02}{n % 60:02}"
    head = (
        f"MSH|^~\\&|KILLHIS|{HEAD}|LIANXIN|LX|{at}||{{}}|K{n}|P|2.5||||||UNICODE UTF-8\r"
        f"PID|1||Q{who:04}^^^^MR||{name}||19{40 + who}0{1 + who % 9}11|M|||||139{n // LANES:08}"
    )
    if n % 3 == 0:
        return f"{head.format('ADT^A31')}".encode()
    obx = "".join(
        f"\rOBX|{k}|NM|{code}^某项^LN||{100 + n % 50}|g/L|||||F"
        for k, code in enumerate(("718-7", "777-3"), 1)
    )
    return f"{head.format('ORU^R01')}\rOBR|1|KP{n}|KF{n}|58410-2^血常规^LN|||{at}|||||||||||||||{at}||LAB|F{obx}".encode()


class Lane(threading.Thread):
    """One sender: in order, a message again and again until it is acknowledged."""

    def __init__(self, port: int, mine: list[int]) -> None:
        super().__init__(daemon=True)
        self.port, self.mine = port, mine
        self.acknowledged: list[int] = []
        self.again = 0

    def run(self) -> None:
        wire: socket.socket | None = None
        for n in self.mine:
            while True:
                try:
                    wire = wire or socket.create_connection(("127.0.0.1", self.port), timeout=40)
                    wire.sendall(b"\x0b" + message(n) + b"\x1c\r")
                    answer = b""
                    while not answer.endswith(b"\x1c\r"):
                        part = wire.recv(65536)
                        if not part:
                            raise ConnectionError
                        answer += part
                    if f"MSA|AA|K{n}\r".encode() in answer:
                        self.acknowledged.append(n)
                        break
                    assert b"|207" in answer, answer  # "send it again shortly" is the only other answer
                    time.sleep(0.2)
                except OSError:
                    if wire is not None:
                        wire.close()
                    wire = None
                    time.sleep(0.1)
                self.again += 1


def begin(site: Installation, port: int) -> subprocess.Popen[bytes]:
    parent = site.begin("listen", "hl7v2", "--port", str(port), "--processes", "2")
    assert parent.stderr is not None
    assert b"MLLP" in parent.stderr.readline()
    return parent


def test_every_acknowledged_message_is_stored_exactly_once(town: Town) -> None:
    site = town.site
    site.shell(PEER)
    people = site.count("SELECT count(*) FROM index_person")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parent = begin(site, port)
    lanes = [Lane(port, [n for n in range(MESSAGES) if n % LANES == k]) for k in range(LANES)]
    try:
        for lane in lanes:
            lane.start()

        def got() -> int:
            return sum(len(lane.acknowledged) for lane in lanes)

        for part, blow in ((0.15, "listeners"), (0.35, "database"), (0.6, "parent"), (0.75, "listeners")):
            eventually(
                lambda part=part: got() >= MESSAGES * part, seconds=900, what=f"{part} of the messages"
            )
            if blow == "database":
                site.kill_database()
                continue
            below = descendants(parent.pid)
            for pid in ([parent.pid] if blow == "parent" else []) + below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if blow == "parent":
                parent.communicate()
                parent = begin(site, port)
        for lane in lanes:
            lane.join(900)
    finally:
        parent.terminate()
        parent.communicate(timeout=60)
    assert parent.returncode == 0
    acknowledged = sorted(n for lane in lanes for n in lane.acknowledged)
    assert acknowledged == list(range(MESSAGES))
    kept = dict(
        site.query(
            "SELECT control_id, count(*) FROM exchange_arrival WHERE kind <> 'MLLP' AND control_id ~ '^K[0-9]+$' GROUP BY 1"
        )
    )
    assert kept == {f"K{n}": 1 for n in range(MESSAGES)}
    assert (
        site.count(
            "SELECT count(*) FROM exchange_arrival WHERE control_id ~ '^K[0-9]+$' AND state = 'taken' AND kind <> 'MLLP'"
        )
        == MESSAGES
    )
    assert site.count("SELECT count(*) FROM index_person") == people + LANES * (PEOPLE // LANES)
    reports = sum(n % 3 != 0 for n in range(MESSAGES))
    mine = "FROM record_resource r JOIN network_institution i ON i.id = r.institution_id WHERE i.code = %s AND NOT r.deleted"
    for rtype, wanted in (
        ("DiagnosticReport", reports),
        ("Observation", 2 * reports),
        ("Patient", LANES * (PEOPLE // LANES)),
    ):
        ours = " AND r.id IN (SELECT split_part(unnest(resources), '/', 2) FROM exchange_arrival WHERE sender LIKE 'peer:%%')"
        assert site.count(f"SELECT count(*) {mine} AND r.rtype = %s{ours}", HEAD, rtype) == wanted, rtype
    assert (
        site.count(
            f"SELECT count(*) {mine} AND r.rtype IN ('Observation', 'DiagnosticReport') AND r.version > 1",
            HEAD,
        )
        == 0
    )
    site.check()
    print({"messages": MESSAGES, "sent again": sum(lane.again for lane in lanes)})
