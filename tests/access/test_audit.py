"""The audit chain: cannot fork, cannot be changed quietly."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.access import audit, seal
from lianxin.access.models import AuditEvent, ChainLink
from lianxin.access.scope import Scope
from lianxin.standards import clock

SYSTEM = Scope.system("test")


@pytest.fixture(autouse=True)
def _fresh_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_anchored", None)


@contextmanager
def without_guards() -> Iterator[Any]:
    """What a database administrator with bad intentions could do."""
    with transaction.atomic(), connection.cursor() as cur:
        cur.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cur.execute("SET LOCAL session_replication_role = replica")
        yield cur


def raw() -> psycopg.Connection:
    """A connection of its own, as the FHIR door has."""
    return psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor})


@pytest.mark.django_db
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_sm3_in_the_database_is_sm3(data: bytes) -> None:
    with connection.cursor() as cur:
        cur.execute("SELECT access_sm3(%s), access_sm3_plain(%s)", [data, data])
        assert [bytes(found) for found in cur.fetchone()] == [seal.sm3(data)] * 2


@pytest.mark.django_db(transaction=True)
def test_write_and_append_make_one_chain() -> None:
    before, links = AuditEvent.objects.count(), ChainLink.objects.count()
    for k in range(20):
        audit.write(SYSTEM, "read", person_id=k, what=f"Observation/{k}", detail={"note": "中文"})
        with raw() as own, own.cursor() as cur:
            audit.append(cur, [audit.entry(SYSTEM, "search", what="Patient") for _ in range(3)])
    assert AuditEvent.objects.count() - before == 80
    assert ChainLink.objects.count() - links == 40  # a batch has one
    assert audit.verify() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.concurrency
def test_sixteen_connections_cannot_fork_it() -> None:
    # what the journal of an earlier test committed on its own connection may stand here still
    before, links = AuditEvent.objects.count(), ChainLink.objects.count()
    failures: list[BaseException] = []
    go = threading.Barrier(16)

    def work(n: int) -> None:
        try:
            with raw() as own:
                go.wait()
                for k in range(12):
                    with own.transaction(), own.cursor() as cur:
                        # Several people in one transaction, in orders that would deadlock if each had its own lock.
                        people = [(n * 7 + k * 3 + j * (1 if n % 2 else -1)) % 50 for j in range(4)]
                        entries = [audit.entry(SYSTEM, "update", person_id=p, what="x") for p in people]
                        if k % 2:
                            audit.append(cur, entries)
                        else:
                            audit.write_many(entries, cursor=cur)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert AuditEvent.objects.count() - before == 16 * 12 * 4
    assert ChainLink.objects.count() - links == 16 * (6 * 4 + 6)
    assert audit.verify() == []


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_event_leaves_no_gap() -> None:
    audit.write(SYSTEM, "read", what="a")
    with transaction.atomic():
        audit.write(SYSTEM, "read", what="b")
        transaction.set_rollback(True)
    audit.write(SYSTEM, "read", what="c")
    assert AuditEvent.objects.count() == 2
    assert audit.verify() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE access_auditevent SET what = 'y'",
        "DELETE FROM access_auditevent",
        "TRUNCATE access_auditevent",
        "UPDATE access_chainlink SET seq = 9",
        "DELETE FROM access_chainlink",
        "TRUNCATE access_chainlink",
        "UPDATE access_chainanchor SET seq = 9",
        "DELETE FROM access_chainhead",
    ],
)
def test_the_database_refuses_changes(statement: str) -> None:
    audit.write(SYSTEM, "read", what="x")
    audit.anchor()
    with transaction.atomic(), connection.cursor() as cur:
        cur.execute("SET LOCAL lianxin.append_only = 'strict'")
        with pytest.raises(DatabaseError, match="append_only"), transaction.atomic():
            cur.execute(statement)


def _fill(n: int = 60) -> None:
    for k in range(n):
        audit.write(SYSTEM, "read", person_id=k, what=f"r{k}")


@pytest.mark.django_db(transaction=True)
def test_a_tampered_row_is_found() -> None:
    _fill()
    with without_guards() as cur:
        cur.execute("UPDATE access_auditevent SET person_id = 999 WHERE what = 'r17'")
    assert [p for p in audit.verify() if "was altered" in p]


@pytest.mark.django_db(transaction=True)
def test_a_removed_row_is_found() -> None:
    _fill()
    with without_guards() as cur:
        cur.execute("DELETE FROM access_auditevent WHERE what = 'r17'")
    assert [p for p in audit.verify() if "is missing" in p]
    with without_guards() as cur:
        cur.execute("DELETE FROM access_chainlink WHERE event_id NOT IN (SELECT id FROM access_auditevent)")
    assert [p for p in audit.verify() if "missing" in p or "head says" in p]


@pytest.mark.django_db(transaction=True)
def test_an_event_slipped_in_without_a_link_is_found() -> None:
    _fill(5)
    with without_guards() as cur:
        cur.execute(
            "INSERT INTO access_auditevent (at, action, outcome, what, detail, digest)"
            " VALUES (%s, 'read', 'ok', 'forged', '', %s)",
            [clock.now(), bytes(32)],
        )
    assert [p for p in audit.verify() if "no place" in p]


def _cut_tail(cur: Any, *, mend_head: bool) -> None:
    """Remove the last event of the fullest shard, and make the head fit if asked."""
    cur.execute("SELECT shard, max(seq) FROM access_chainlink GROUP BY shard ORDER BY 2 DESC LIMIT 1")
    shard, last = cur.fetchone()
    cur.execute(
        "DELETE FROM access_chainlink WHERE shard = %s AND seq = %s RETURNING event_id", [shard, last]
    )
    cur.execute("DELETE FROM access_auditevent WHERE id = %s", [cur.fetchone()[0]])
    if mend_head:
        cur.execute("SELECT hash FROM access_chainlink WHERE shard = %s AND seq = %s", [shard, last - 1])
        cur.execute(
            "UPDATE access_chainhead SET seq = %s, hash = %s WHERE shard = %s",
            [last - 1, cur.fetchone()[0], shard],
        )


@pytest.mark.django_db(transaction=True)
def test_a_removed_tail_is_found_by_the_head() -> None:
    _fill()
    with without_guards() as cur:
        _cut_tail(cur, mend_head=False)
    assert [p for p in audit.verify() if "head says" in p]


@pytest.mark.django_db(transaction=True)
def test_a_removed_tail_with_a_mended_head_is_found_by_the_anchor() -> None:
    with clock.at(dt.datetime(2026, 3, 1, 12, tzinfo=clock.ZONE)):
        _fill()
    with clock.at(dt.datetime(2026, 3, 2, 0, 5, tzinfo=clock.ZONE)):
        assert audit.anchor() == 8
        assert audit.verify() == []
        with without_guards() as cur:
            _cut_tail(cur, mend_head=True)
        assert [p for p in audit.verify() if "anchor" in p]


@pytest.mark.django_db(transaction=True)
def test_a_forged_anchor_is_found() -> None:
    _fill(3)
    audit.anchor()
    with without_guards() as cur:
        cur.execute("UPDATE access_chainanchor SET seq = seq + 1")
    assert [p for p in audit.verify() if "forged" in p]


def test_unknown_actions_are_a_fault() -> None:
    with pytest.raises(ValueError, match="unknown audit action"):
        audit.entry(SYSTEM, "peek")
