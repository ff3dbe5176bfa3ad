"""The record as it stood at an instant, in slices: the one place of bulk export that reads the record's tables.

A version's key ``(updated, rid)`` never changes: while it is current it stands in ``record_resource``, afterwards under the same
key in ``record_history``.  A resource's state as of T is its last version with ``updated <= T``: the current row, or, when it
was changed after T, exactly one row of the history.  Reading both in one statement therefore gives every resource once, whatever
is written meanwhile, without holding a snapshot for longer than one slice (docs/decisions, bulk export).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connection, transaction

from lianxin.access.scope import Scope
from lianxin.record import definitions, store, visible

SLICE = 2000  # keys looked at, whether or not they may be seen
FETCH = 200  # bodies in memory
TIMEOUT = "30s"
SETTLE = 1.0  # seconds between an ``updated`` and the start of the statement that writes it, at the most
LAST = 2**63 - 1
BEGINNING = dt.datetime(1, 1, 2, tzinfo=dt.UTC)

Key = tuple[dt.datetime, int]


@dataclass(frozen=True)
class Asked:
    """What a lane reads: one type, living or deleted, changed after ``since`` and not after ``until``, as of ``as_of``.

    ``subjects`` (reference keys of patients) and ``people`` (their persons) narrow it to those; ``patients_only`` to whatever
    belongs to a patient.
    """

    rtype: str
    deleted: bool
    since: dt.datetime
    until: dt.datetime
    as_of: dt.datetime
    patients_only: bool = False
    subjects: Sequence[int] | None = None
    people: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One resource as of the instant."""

    id: str
    version: int
    updated: dt.datetime
    body: str
    person_id: int | None


def present(types: Sequence[str]) -> list[str]:
    """Those of ``types`` of which the record holds anything."""
    with connection.cursor() as cur:
        cur.execute(
            "SELECT t FROM unnest(%s::text[]) WITH ORDINALITY AS g(t, n)"
            " WHERE EXISTS (SELECT 1 FROM record_resource r WHERE r.rtype = g.t) ORDER BY n",
            [list(types)],
        )
        return [row[0] for row in cur.fetchall()]


def pending(mark: dt.datetime) -> bool:
    """Whether a transaction that began by ``mark`` (the database's clock) could still write: then nothing is read yet.

    A writer takes its ``updated`` after its transaction began, or (the door's plain create) just before.  One that has written
    nothing yet has no number; within half a minute it has one or is over (a long report never gets one and is not waited for).
    """
    with connection.cursor() as cur:
        cur.execute(
            "SELECT clock_timestamp() <= %s::timestamptz OR EXISTS (SELECT 1 FROM pg_stat_activity a"
            " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'"
            " AND a.xact_start <= %s::timestamptz"
            " AND (a.backend_xid IS NOT NULL OR clock_timestamp() < %s::timestamptz + interval '30 seconds'))",
            [mark, mark, mark],
        )
        return bool(cur.fetchone()[0])


def mark() -> dt.datetime:
    """The database's clock, ``SETTLE`` seconds on: whoever has taken an ``updated`` by now has begun its transaction before it."""
    with connection.cursor() as cur:
        cur.execute("SELECT clock_timestamp() + %s * interval '1 second'", [SETTLE])
        found: dt.datetime = cur.fetchone()[0]
        return found


@contextmanager
def _snapshot() -> Iterator[psycopg.Connection[Any]]:
    """A short read-only transaction with one snapshot on Django's connection."""
    with transaction.atomic(durable=not connection.in_atomic_block), connection.cursor() as cur:
        if not connection.savepoint_ids:
            cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cur.execute(f"SET LOCAL statement_timeout = '{TIMEOUT}'")
        yield cur.cursor.connection


def _narrow(asked: Asked) -> tuple[str, list[Any]]:
    if asked.people is not None:
        return (
            " AND r.person_id = ANY(%s::bigint[]) AND (r.deleted OR r.subj = ANY(%s::bigint[]))",
            [list(asked.people), list(asked.subjects or ())],
        )
    return (" AND r.person_id IS NOT NULL", []) if asked.patients_only else ("", [])


@contextmanager
def read(
    scope: Scope, asked: Asked, after: Key | None, size: int = SLICE
) -> Iterator[tuple[Key | None, Iterator[Row]]]:
    """The next slice: where it ends (None: there is no more after it) and its rows.

    Only what ``scope`` may see comes; keys it may not see are passed over within the slice, so that a slice costs the same for
    everybody.
    """
    last = min(asked.until, asked.as_of)
    start = max(after or (asked.since, LAST), (asked.since, LAST))
    narrow, who = _narrow(asked)
    seen, may = visible.condition(scope, "r", asked.rtype)
    with _snapshot() as conn:
        with conn.cursor() as cur:
            cur.execute(
                "SELECT r.updated, r.rid FROM record_resource r WHERE r.rtype = %s AND r.updated <= %s"
                f" AND (r.updated, r.rid) > (%s, %s){narrow} ORDER BY r.updated, r.rid OFFSET %s LIMIT 1",
                [asked.rtype, last, *start, *who, size - 1],
            )
            end: Key | None = cur.fetchone()
        span = [*start, *(end or (last, LAST))]
        between = "({0}.updated, {0}.rid) > (%s, %s) AND ({0}.updated, {0}.rid) <= (%s, %s)"
        statement = (
            "SELECT id, version, updated, body, person_id FROM ("
            " SELECT r.id, r.version, r.updated, r.rid, r.body, r.person_id FROM record_resource r"
            f" WHERE r.rtype = %s AND r.deleted = %s AND {between.format('r')}{narrow} AND {seen}"
            " UNION ALL"
            " SELECT r.id, v.version, v.updated, v.rid, v.body, r.person_id FROM record_history v"
            " JOIN record_resource r ON r.key = v.key"
            f" WHERE v.rtype = %s AND r.updated > %s AND v.deleted = %s AND {between.format('v')}{narrow} AND {seen}"
            " AND NOT EXISTS (SELECT 1 FROM record_history w WHERE w.key = v.key AND w.version = v.version + 1 AND w.updated <= %s)"
            ") s ORDER BY updated, rid"
        )
        given = [
            asked.rtype, asked.deleted, *span, *who, *may,
            asked.rtype, asked.as_of, asked.deleted, *span, *who, *may, asked.as_of,
        ]  # fmt: skip
        with conn.cursor(name="bulk_slice", scrollable=False) as found:
            found.itersize = FETCH
            found.execute(statement, given)
            yield (
                end,
                (
                    Row(rid, version, updated, store.opened(asked.rtype, body) if body else "", person_id)
                    for rid, version, updated, body, person_id in found
                ),
            )


def batches(cur: Any, patients: Sequence[int], size: int) -> Iterator[tuple[list[int], list[int]]]:
    """(reference keys, persons) of the given reference keys of patients, ``size`` persons at a time."""
    cur.execute(
        "SELECT p.subj, p.person_id FROM record_patient p WHERE p.subj = ANY(%s::bigint[]) ORDER BY p.person_id, p.subj",
        [list(patients)],
    )
    subjects: list[int] = []
    people: list[int] = []
    for subject, person in cur.fetchall():
        if person not in people and len(people) == size:
            yield subjects, people
            subjects, people = [], []
        subjects.append(subject)
        if person not in people:
            people.append(person)
    if subjects:
        yield subjects, people


def of_patients(types: Sequence[str]) -> list[str]:
    """Those of ``types`` that can belong to a patient."""
    return [rtype for rtype in types if rtype not in definitions.OPEN_TYPES]
