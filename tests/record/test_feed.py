"""The record as a log: nothing is passed by, whatever the order of commits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.record import feed, rows, store

pytestmark = pytest.mark.django_db(transaction=True)
SCOPE = Scope.system("test")


@contextmanager
def another() -> Iterator[psycopg.Connection[Any]]:
    """A database connection of one's own."""
    given = connection.get_connection_params()
    wanted = {k: v for k, v in given.items() if k in ("dbname", "user", "password", "host", "port") and v}
    with psycopg.connect(**wanted) as conn:
        yield conn


def put(cur: Any, name: str, value: str = "a", method: str = "update") -> Any:
    resource = {"resourceType": "Basic", "id": name, "code": {"text": value}}
    write = store.Write(method, "Basic", name, None if method == "delete" else resource, trusted=True)
    return store.apply(cur, SCOPE, [write])[0]


def read(watch: feed.Watch, after: int = 0, limit: int = 100) -> list[tuple[str, int]]:
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        found, _ = feed.changes(cur, after, watch.look(cur), limit, ["Basic"])
    return [(c.id, c.version) for c in found]


def test_a_number_given_before_is_waited_for_though_a_later_one_is_committed(db):
    watch = feed.Watch()
    with connection.cursor() as own, another() as late, another() as early:
        first = put(late.cursor(), "late")
        second = put(early.cursor(), "early")
        early.commit()
        assert first.rid < second.rid
        cur = rows.server_cursor(own)
        assert watch.look(cur) < first.rid
        assert watch.waiting
        assert read(watch) == []
        late.commit()
        assert watch.look(cur) >= second.rid
        assert read(watch) == [("late", 1), ("early", 1)]


def test_a_transaction_that_has_only_taken_a_number_is_waited_for(db):
    """It has no transaction number yet, so no snapshot tells of it."""
    watch = feed.Watch()
    with another() as quiet, another() as writer:
        (number,) = rows.new_rids(quiet.cursor(), 1)
        quiet.execute("SELECT 1")
        put(writer.cursor(), "next")
        writer.commit()
        with connection.cursor() as own:
            assert watch.look(rows.server_cursor(own)) < number
        quiet.rollback()
        assert read(watch) == [("next", 1)]


def test_a_later_transaction_does_not_hold_up_what_is_decided(db):
    watch = feed.Watch()
    with another() as first, another() as second:
        put(first.cursor(), "one")
        with connection.cursor() as own:
            watch.look(rows.server_cursor(own))
        put(second.cursor(), "two")
        first.commit()
        assert read(watch) == [("one", 1)]
        second.commit()
        assert read(watch) == [("one", 1), ("two", 1)]


def test_every_version_and_deletion_is_a_change_of_its_own(db):
    watch = feed.Watch()
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        put(cur, "a", "1")
        put(cur, "b", "1")
        put(cur, "a", "2")
        put(cur, "a", method="delete")
        put(cur, "a", "3")
        found, reached = feed.changes(cur, 0, watch.look(cur), 100, ["Basic"])
        assert [(c.id, c.version, c.deleted, c.current) for c in found] == [
            ("a", 1, False, False), ("b", 1, False, True), ("a", 2, False, False), ("a", 3, True, False), ("a", 4, False, True),
        ]  # fmt: skip
        assert reached == watch.settled
        some, reached = feed.changes(cur, 0, watch.settled, 2, ["Basic"])
        assert [c.rid for c in some] == [c.rid for c in found[:2]]
        assert reached == found[1].rid
        earlier = feed.before(cur, found)
        assert {found_rid: c.version for found_rid, c in earlier.items()} == {
            found[2].rid: 1,
            found[3].rid: 2,
        }
        assert feed.changes(cur, 0, watch.settled, 10, ["Patient"])[0] == []


def test_past_versions_are_matched_by_shadows_that_nobody_sees(db):
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        coded = {
            "resourceType": "Basic",
            "id": "x",
            "code": {"coding": [{"system": "http://s", "code": "old"}]},
        }
        store.apply(cur, SCOPE, [store.Write("update", "Basic", "x", coded, trusted=True)])
        new = {**coded, "code": {"coding": [{"system": "http://s", "code": "new"}]}}
        store.apply(cur, SCOPE, [store.Write("update", "Basic", "x", new, trusted=True)])
        found, _ = feed.changes(cur, 0, feed.last_number(cur), 10, ["Basic"])
        cur.execute("BEGIN")
        cur.execute("SAVEPOINT s")
        shadows = feed.raise_shadows(cur, [c for c in found if not c.current])

        def match(*given: tuple[str, str]) -> list[int]:
            hits = feed.matching(cur, SCOPE, "Basic", given, found, shadows)
            return [c.version for c in found if c.rid in hits]

        assert match(("code", "http://s|old")) == [1]
        assert match(("code", "new")) == [2]
        assert match(("code", "old,new")) == [1, 2]
        assert match(("code:not", "old")) == [2]
        assert match(("_id", "x")) == [1, 2]
        assert match(("_id", "y")) == []
        assert match() == [1, 2]
        cur.execute("ROLLBACK TO SAVEPOINT s")
        cur.execute("COMMIT")
        cur.execute("SELECT count(*) FROM record_resource WHERE rid < 0")
        assert cur.fetchone()[0] == 0


def test_numbers_are_given_one_at_a_time(db):
    """A session that kept numbers in store would use low ones long after higher ones were settled."""
    with connection.cursor() as cur:
        cur.execute("SELECT seqcache FROM pg_sequence WHERE seqrelid = 'record_rid'::regclass")
        assert cur.fetchone()[0] == 1


def test_many_writers_and_one_reader_that_keeps_up(db):
    seen: list[tuple[str, int]] = []
    stop = threading.Event()

    def write(n: int) -> None:
        with another() as conn:
            for i in range(25):
                put(conn.cursor(), f"w{n}-{i % 5}", str(i))
                (conn.rollback if i % 7 == 3 else conn.commit)()

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for one in writers:
        one.start()
    watch, after = feed.Watch(), 0
    while True:
        over = not any(one.is_alive() for one in writers)
        with connection.cursor() as own:
            cur = rows.server_cursor(own)
            found, after = feed.changes(cur, after, watch.look(cur), 7, ["Basic"])
            seen += [(c.id, c.version) for c in found]
            if over and after >= feed.last_number(cur):
                break
        stop.wait(0.005)
    with connection.cursor() as cur:
        cur.execute(
            "SELECT id, version FROM record_resource WHERE rtype = 'Basic' UNION ALL SELECT id, version FROM record_history"
        )
        assert sorted(seen) == sorted(cur.fetchall())
    for name in {n for n, _ in seen}:
        versions = [v for n, v in seen if n == name]
        assert versions == sorted(versions)
