"""The last stage of a load: whole persons written slice by slice with COPY, each slice in one transaction of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lianxin.index.batch import reading, workers
from lianxin.index.batch.copying import copy, copy_rows

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
    """Write one part's file (columns of the rows of :func:`lianxin.index.batch.intake.prepare`, and label, pid, pos, slice)."""
    with workers.uncollected():
        return _write_part(path, terms)


def _write_part(path: Path, terms: Terms) -> Written:
    rows = pq.read_table(path).sort_by("pos")
    number = np.asarray(rows.column("slice"))
    ends = [*(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)]
    out = Written([])
    with reading.opened(terms.where) as (cur, transaction):
        at = 0
        for end in ends:
            with transaction():
                # The load is acknowledged after its last transaction, which makes all earlier ones durable with it.
                cur.execute("SET LOCAL synchronous_commit = off")
                _slice(cur, rows.slice(at, end - at), terms, out)
            at = end
    return out


class _Rows:
    """A slice's registrations as columns, whole persons in a row; ``group`` counts the persons."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        label, pid = self.numbers("label"), self.numbers("pid")
        begins = np.concatenate([[True], label[1:] != label[:-1]])
        self.starts = np.flatnonzero(begins)
        self.group = np.cumsum(begins) - 1
        self.labels, self.pids = label[self.starts], pid[self.starts]
        self.fresh = self.pids == 0
        self.institution = self.numbers("institution")

    def __len__(self) -> int:
        return len(self.group)

    def numbers(self, name: str) -> Any:
        """A column of whole numbers."""
        return np.asarray(self._rows.column(name))

    def column(self, name: str) -> Any:
        """A column as one Arrow array."""
        return self._rows.column(name).combine_chunks()


def _slice(cur: Any, table: Any, terms: Terms, out: Written) -> None:
    from lianxin.access import audit
    from lianxin.access.scope import Scope
    from lianxin.index import numbers, refit
    from lianxin.standards import clock

    now, rows = clock.now(), _Rows(table)
    cur.execute(
        "INSERT INTO index_loadedslice (load, number, rows, at) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [terms.load, int(rows.numbers("slice")[0]), len(rows), now],
    )
    known = _alive(cur, set(rows.pids.tolist()) - {0})
    made = numbers.take_people(cur, int(rows.fresh.sum()))
    fresh = iter(made)
    people = np.array([known[pid] if pid else next(fresh)[0] for pid in rows.pids.tolist()], np.int64)
    sources = np.array(numbers.take_sources(cur, len(rows)), np.int64)
    homes = _people(cur, rows, made, sources, now)
    _store(cur, rows, people, sources, terms, now)
    _forms(cur, rows, people, terms)
    older = set(known.values())
    _relate(cur, rows, people, homes, older, now)
    if older:
        refit.refit(cur, sorted(older))
    detail = {"count": len(rows), "from": int(sources[0]), "to": int(sources[-1])}
    scope = Scope.system(terms.reason)
    audit.write_many([audit.entry(scope, "create", what="registrations", detail=detail)], cursor=cur)
    out.people += zip(rows.labels.tolist(), people.tolist(), strict=True)
    out.rows += len(rows)
    out.created += len(made)


def _people(
    cur: Any, rows: _Rows, made: Sequence[tuple[int, str, str]], sources: Any, now: dt.datetime
) -> dict[int, int]:
    """Write the new persons with their golden fields; their home institutions."""
    from lianxin.index import golden
    from lianxin.index.batch import told

    system, local, patient = (rows.column(name).to_pylist() for name in ("system", "local", "patient"))
    institution, ids, bodies = rows.institution.tolist(), sources.tolist(), rows.column("told").to_pylist()
    starts = [*rows.starts.tolist(), len(rows)]
    lines, homes, fresh = [], {}, iter(made)
    for at, end, new in zip(starts[:-1], starts[1:], rows.fresh.tolist(), strict=True):
        if not new:
            continue
        words = [
            golden.Spoken(ids[n], now, *told.read(bodies[n], institution[n], system[n], local[n], patient[n]))
            for n in range(at, end)
        ]
        best, numbers = golden.compose(words), next(fresh)
        lines.append((*numbers, *best.row(), "active", 1))
        if home := best.chosen["home"].reg.home_institution_id:
            homes[numbers[0]] = home
    copy_rows(
        cur, "index_person", ("id", "number", "card_number", *golden.COLUMNS, "status", "version"), lines
    )
    return homes


def _store(cur: Any, rows: _Rows, people: Any, sources: Any, terms: Terms, now: dt.datetime) -> None:
    """Registrations as they came, and the decision about each."""
    at, whose = now.isoformat(), people[rows.group]
    copy(
        cur,
        "index_sourcerecord",
        {
            "id": sources,
            "institution_id": rows.institution,
            "system": rows.column("system"),
            "local_id": rows.column("local"),
            "patient_id": rows.column("patient"),
            "person_id": whose,
            "payload": rows.column("payload"),
            "payload_hash": rows.column("digest"),
            "received_at": at,
            "version": "1",
            "disputed": "f",
        },
    )
    first = np.zeros(len(rows), bool)
    first[rows.starts[rows.fresh]] = True
    columns = {
        "person_id": whose,
        "source_id": sources,
        "kind": np.where(first, "created", "linked"),
        "before": "{}",
        "after": "{}",
        "reason": terms.reason,
        "at": at,
    }
    who = {"account_id": terms.account_id, "client_id": terms.client_id}
    copy(cur, "index_linkevent", columns | {name: str(one) for name, one in who.items() if one is not None})


def _forms(cur: Any, rows: _Rows, people: Any, terms: Terms) -> None:
    """What new persons are compared by: no form and no key twice, no key of a crowd. Of known ones ``refit`` sees to it."""
    from lianxin.index import vault

    packed = rows.column("packed")
    new = np.flatnonzero(rows.fresh[rows.group])
    same = np.asarray(packed.dictionary_encode().indices)
    kept = new[_firsts(rows.group[new], same[new])]
    if not len(kept):
        return
    keys = rows.column("keys").take(pa.array(kept))
    values, of = np.asarray(keys.flatten()), np.asarray(keys.value_parent_indices())
    left = np.flatnonzero(~np.isin(values, list(terms.crowd)))
    left = left[_firsts(rows.group[kept][of[left]], values[left])]
    counts = np.bincount(of[left], minlength=len(kept))
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(values[left]), mask=pa.array(counts == 0))
    bodies = vault.close_many(packed.take(pa.array(kept)).to_pylist())
    columns = {"person_id": people[rows.group[kept]], "keys": lists, "body": pa.array(bodies, pa.binary())}
    copy(cur, "index_form", columns)


def _firsts(group: Any, value: Any) -> Any:
    """Positions, ascending, where a value occurs in its group for the first time."""
    both = (group.astype(np.int64) << 32) | (value.astype(np.int64) & 0xFFFF_FFFF)
    return np.sort(np.unique(both, return_index=True)[1])


def _relate(
    cur: Any, rows: _Rows, people: Any, homes: dict[int, int], older: set[int], now: dt.datetime
) -> None:
    """Terms of access: new people's are copied, known people's extended."""
    from lianxin.access import relationships
    from lianxin.index.engine import POLICY

    until = now + dt.timedelta(days=POLICY["registration_days"])
    seen = _firsts(rows.group, rows.institution)
    pairs = list(zip(people[rows.group[seen]].tolist(), rows.institution[seen].tolist(), strict=True))
    end = until.isoformat()
    new: list[tuple[Any, ...]] = [(p, i, "registration", "index", end) for p, i in pairs if p not in older]
    new += [(p, i, "home", "index", None) for p, i in homes.items()]
    copy_rows(
        cur,
        "access_relationship",
        ("person_id", "institution_id", "kind", "source", "until", "since"),
        [(*row, now.isoformat()) for row in new],
    )
    grants: list[relationships.Row] = [(p, i, "registration", "index", until) for p, i in pairs if p in older]
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
