"""The audit journal: what it holds reaches the chain once, whatever happens to its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from lianxin.access import audit, connections, journal
from lianxin.access.models import AuditEvent, ChainLink
from lianxin.access.scope import Scope
from lianxin.access.statements import Statement, whole

pytestmark = pytest.mark.django_db(transaction=True)
SYSTEM = Scope.system("test")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.HOME = tmp_path
    journal.forget()
    monkeypatch.setattr(journal, "AT_ONCE", True)
    yield
    journal.forget()
    connections.close()


def entries(count: int, what: str = "Observation/1") -> list[audit.Entry]:
    return [
        audit.entry(SYSTEM, "read", person_id=n, what=what, detail={"n": n, "字": "中文"})
        for n in range(count)
    ]


def test_kept_events_are_chained_in_one_link() -> None:
    journal.keep(entries(3))
    assert list(AuditEvent.objects.order_by("id").values_list("person_id", flat=True)) == [0, 1, 2]
    assert ChainLink.objects.count() == 1
    assert audit.verify() == []


def test_an_altered_event_of_a_batch_shows() -> None:
    journal.keep(entries(3))
    with connection.cursor() as cur:
        cur.execute("SET session_replication_role = replica")
        cur.execute("UPDATE access_auditevent SET what = 'Observation/2' WHERE person_id = 1")
        cur.execute("SET session_replication_role = DEFAULT")
    assert any("was altered" in problem for problem in audit.verify())


def test_a_removed_event_of_a_batch_shows() -> None:
    journal.keep(entries(3))
    with connection.cursor() as cur:
        cur.execute("SET session_replication_role = replica")
        cur.execute("DELETE FROM access_auditevent WHERE person_id = 2")
        cur.execute("SET session_replication_role = DEFAULT")
    assert any("is missing" in problem for problem in audit.verify())


def test_nothing_is_lost_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "AT_ONCE", False)
    monkeypatch.setattr(journal, "PAUSE", 60)
    journal.keep(entries(2))
    real = audit.append
    monkeypatch.setattr(audit, "append", lambda *a: (_ for _ in ()).throw(RuntimeError("away")))
    with pytest.raises(RuntimeError):
        journal.drain()
    monkeypatch.setattr(audit, "append", real)
    journal.keep(entries(1, "Observation/9"))
    journal.drain()
    assert list(AuditEvent.objects.order_by("id").values_list("what", flat=True)) == ["Observation/1"] * 2 + [
        "Observation/9"
    ]
    journal.drain()
    assert AuditEvent.objects.count() == 3


def test_a_large_journal_begins_a_new_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journal, "TURN_OVER", 100)
    for _ in range(3):
        journal.keep(entries(2))
    files = list(tmp_path.glob("journal/*/*.jsonl"))
    assert len(files) == 1
    assert files[0].stat().st_size == 0
    assert AuditEvent.objects.count() == 6
    with connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM access_journal")
        assert cur.fetchone()[0] == 0


def test_events_stored_elsewhere_get_their_link() -> None:
    event = audit.entry(SYSTEM, "create", what="Observation/7")
    width = audit.INSERTION.count("%s")
    store = Statement(f"{audit.INSERTION} FROM (SELECT 1) AS one RETURNING id", width, binary=(width,))

    def work(cur: Any) -> int:
        values, digest = audit.values(cur, event)
        assert digest == audit.digest(event)
        (found,) = store.row(cur, values) or [None]
        return whole(found)

    number = connections.steady(work, again=False)
    assert audit.verify() == [f"event {number} has no place in the chain"]
    journal.link_later(number, audit.digest(event))
    assert audit.verify() == []
    other = connections.steady(work, again=False)
    assert audit.link_rest(older_than=audit.dt.timedelta(0)) == 1
    assert other != number
    assert audit.verify() == []


CHILD = """
import os, sys, threading
import django
django.setup()
from django.conf import settings
from django.db import connection
from pathlib import Path
settings.HOME = Path(sys.argv[1])
connection.settings_dict["NAME"] = sys.argv[2]
from lianxin.access import audit, journal
from lianxin.access.scope import Scope
journal.PAUSE = float(sys.argv[3])
who = Scope.system("child")
n = 0
while True:
    journal.keep([audit.entry(who, "read", what=f"Observation/{n}")])
    n += 1
    print(n, flush=True)
"""


@pytest.mark.parametrize("pause", [0.002, 30.0])
def test_a_killed_process_leaves_every_event_once(tmp_path: Path, pause: float) -> None:
    """Whatever was on disk when an answer could leave is in the chain after adoption, once; also twice adopted."""
    name = str(connection.settings_dict["NAME"])
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path), name, str(pause)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        said = 0
        while said < 400:
            said = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split()
        said = int(rest[-1]) if rest else said
    journal.adopt()
    journal.adopt()
    kept = list(AuditEvent.objects.order_by("id").values_list("what", flat=True))
    assert kept[:said] == [f"Observation/{n}" for n in range(said)]
    assert len(kept) <= said + 1  # the one being said when the kill came
    assert audit.verify() == []
    assert list(tmp_path.glob("journal/*/*.jsonl")) == []


def test_a_living_process_keeps_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "AT_ONCE", False)
    monkeypatch.setattr(journal, "PAUSE", 60)
    journal.keep(entries(2))
    assert journal.adopt() == 0
    journal.drain()
    assert AuditEvent.objects.count() == 2


def test_a_line_cut_off_is_no_event(tmp_path: Path) -> None:
    folder = journal._folder()
    folder.mkdir(parents=True)
    journal.keep(entries(1))
    journal.forget()
    (folder / "1-1.jsonl").write_bytes(
        b'["2026-11-23T08:00:00+08:00","read","ok",null,null,null,null,5,"Patient/5",""]\n["2026-11'
    )
    assert journal.adopt() == 1
    assert audit.verify() == []
