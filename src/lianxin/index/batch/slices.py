"""The last stage of a load: whole persons written slice by slice with COPY, each slice in one transaction of its own."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lianxin.index.batch import reading, workers
from lianxin.index.batch.copying import copy

SLICE = 5_000
"""Registrations of a slice: with its last person it may be a few more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a slice needs to know of the load. ``where``: how to reach the database from a helper process; empty: this process's
    own connection."""

    load: bytes
    reason: str
    crowd: frozenset[int]
    account_id: int | None
    client_id: int | None
    where: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Written:
    """People of a part: the group's label and its person; how many registrations and new persons."""

    people: list[tuple[int, int]]
    rows: int = 0
    created: int = 0


def write_part(path: Path, terms: Terms) -> Written:
    """Write one part's file (columns of :data:`lianxin.index.batch.intake.ROW_FIELDS`, label, pid, pos, slice)."""
    with workers.uncollected():
        return _write_part(path, terms)


def _write_part(path: Path, terms: Terms) -> Written:
    import pyarrow.parquet as pq

    rows = pq.read_table(path).sort_by("pos").to_pylist()
    out = Written([])
    with reading.opened(terms.where) as (cur, transaction):
        at = 0
        while at < len(rows):
            end = at
            while end < len(rows) and rows[end]["slice"] == rows[at]["slice"]:
                end += 1
            with transaction():
                _slice(cur, rows[at:end], terms, out)
            at = end
    return out


class _Columns:
    """Rows of the tables that a slice fills."""

    def __init__(self) -> None:
        self.persons: list[tuple[Any, ...]] = []
        self.forms: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.relations: dict[tuple[int, int, str], dt.datetime | None] = {}


def _slice(cur: Any, rows: Sequence[dict[str, Any]], terms: Terms, out: Written) -> None:
    from lianxin.access import audit
    from lianxin.access.scope import Scope
    from lianxin.index import numbers, refit
    from lianxin.standards import clock

    now = clock.now()
    cur.execute(
        "INSERT INTO index_loadedslice (load, number, rows, at) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [terms.load, rows[0]["slice"], len(rows), now],
    )
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["label"]].append(row)
    known = _alive(cur, {g[0]["pid"] for g in groups.values()} - {0})
    fresh = [label for label, group in groups.items() if not group[0]["pid"]]
    made = dict(zip(fresh, numbers.take_people(cur, len(fresh)), strict=True))
    people = {
        label: made[label][0] if label in made else known[group[0]["pid"]] for label, group in groups.items()
    }
    for row, source_id in zip(rows, numbers.take_sources(cur, len(rows)), strict=True):
        row["id"] = source_id
    filled = _Columns()
    for label, group in groups.items():
        _person(filled, group, people[label], made.get(label), terms, now)
    _store(cur, rows, people, filled, terms, now)
    older = set(known.values())
    _relate(cur, filled, older, now)
    if older:
        refit.refit(cur, sorted(older))
    detail = {"count": len(rows), "from": rows[0]["id"], "to": rows[-1]["id"]}
    scope = Scope.system(terms.reason)
    audit.write_many([audit.entry(scope, "create", what="registrations", detail=detail)], cursor=cur)
    out.people += people.items()
    out.rows += len(rows)
    out.created += len(filled.persons)


def _person(
    filled: _Columns,
    group: Sequence[dict[str, Any]],
    person_id: int,
    made: tuple[int, str, str] | None,
    terms: Terms,
    now: dt.datetime,
) -> None:
    """What one person's registrations bring; of a known person (``made`` is None) golden fields and forms are written later."""
    from lianxin.index import golden, payload, vault
    from lianxin.index.engine import POLICY
    from lianxin.index.form import unpack
    from lianxin.index.golden import Spoken

    until = now + dt.timedelta(days=POLICY["registration_days"])
    words, bodies, keys = [], set[bytes](), set[int]()
    for n, row in enumerate(group):
        kind = "created" if made is not None and n == 0 else "linked"
        filled.events.append((person_id, row["id"], kind, terms.account_id, terms.client_id))
        filled.relations[person_id, row["institution"], "registration"] = until
        if made is None:
            continue
        reg = payload.read(row["plain"], row["institution"], row["system"], row["local"], row["patient"])
        words.append(Spoken(row["id"], now, reg, unpack(row["packed"])))
        if row["packed"] not in bodies:
            bodies.add(row["packed"])
            left = [k for k in row["keys"] if k not in keys and k not in terms.crowd]
            keys.update(left)
            filled.forms.append((person_id, left or None, vault.close_packed(row["packed"])))
    if made is not None:
        best = golden.compose(words)
        filled.persons.append((*made, *best.row()))
        if home := best.chosen["home"].reg.home_institution_id:
            filled.relations[person_id, home, "home"] = None


def _store(
    cur: Any,
    rows: Sequence[dict[str, Any]],
    people: dict[int, int],
    filled: _Columns,
    terms: Terms,
    now: dt.datetime,
) -> None:
    from lianxin.index import golden

    at = now.isoformat()
    columns = ("id", "number", "card_number", *golden.COLUMNS, "status", "version")
    copy(cur, "index_person", columns, [(*p, "active", 1) for p in filled.persons])
    copy(
        cur,
        "index_sourcerecord",
        ("id", "institution_id", "system", "local_id", "patient_id", "person_id", "payload", "payload_hash",
         "received_at", "version", "disputed"),
        [
            (r["id"], r["institution"], r["system"], r["local"], r["patient"], people[r["label"]], r["payload"],
             r["digest"], at, 1, False)
            for r in rows
        ],
    )  # fmt: skip
    copy(cur, "index_form", ("person_id", "keys", "body"), filled.forms)
    copy(
        cur,
        "index_linkevent",
        ("person_id", "source_id", "kind", "account_id", "client_id", "before", "after", "reason", "at"),
        [(*event, "{}", "{}", terms.reason, at) for event in filled.events],
    )


def _relate(cur: Any, filled: _Columns, older: set[int], now: dt.datetime) -> None:
    """Terms of access: new people's are copied, known people's extended."""
    from lianxin.access import relationships

    rows = [(p, i, kind, "index", end) for (p, i, kind), end in filled.relations.items()]
    copy(
        cur,
        "access_relationship",
        ("person_id", "institution_id", "kind", "source", "until", "since"),
        [(*row, now.isoformat()) for row in rows if row[0] not in older],
    )
    grants: list[relationships.Row] = [row for row in rows if row[0] in older]
    relationships.grant_many(grants, cursor=cur, since=now)


def _alive(cur: Any, ids: Iterable[int]) -> dict[int, int]:
    """Who these persons are now (they may have been merged since the link was worked out), locked against merging."""
    wanted = sorted(ids)
    if not wanted:
        return {}
    cur.execute(
        "WITH RECURSIVE up(start, id, into_id) AS ("
        " SELECT id, id, merged_into_id FROM index_person WHERE id = ANY(%s)"
        " UNION ALL SELECT u.start, p.id, p.merged_into_id FROM up u JOIN index_person p ON p.id = u.into_id)"
        " SELECT start, id FROM up WHERE into_id IS NULL",
        [wanted],
    )
    found = dict(cur.fetchall())
    cur.execute(
        "SELECT id FROM index_person WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
        [sorted(found.values())],
    )
    return found
