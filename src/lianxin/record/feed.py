"""The record read as a log: every change once, in the order of its number, none lost.

Every version of a resource has a number (``rid``) from one sequence; the current version lies in ``record_resource``, older
ones in ``record_history``, each with its own number.  A number is taken before its transaction commits, so a higher number may
be seen before a lower one.  :class:`Watch` tells up to which number all is decided: whoever takes a number holds a lock on the
sequence until its transaction ends (PostgreSQL does that), so once nobody holds it who held it when number ``n`` was the last,
no change up to ``n`` can still appear.  Nothing is added to the path of a write.  Transaction numbers (``pg_snapshot_xmin``)
would not do: a transaction may take a number before it has an identity of its own, and another database's long transaction
would hold everything up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lianxin.access.scope import Scope
from lianxin.record import extract, rows, store, text, visible
from lianxin.record.keys import hash64, ref_key
from lianxin.record.query import base, conditions
from lianxin.record.rows import Stored

_HOLDERS = (
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = %s::regclass"
    " AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
PREPARED = (
    "-1/"  # a transaction prepared for two-phase commit has no session: it is waited for, whoever it was
)


@dataclass(frozen=True, slots=True)
class Change:
    """One version of a resource as it came about; ``current``: no later one had replaced it when it was read."""

    rid: int
    key: int
    rtype: str
    id: str
    version: int
    deleted: bool
    updated: datetime
    person_id: int | None
    institution_id: int | None
    current: bool


@dataclass(slots=True)
class Watch:
    """Up to which number every change is decided; keep one for as long as you follow the feed.

    ``sequence``: where the numbers come from (other logs with growing numbers are followed in the same way).
    """

    settled: int = 0
    sequence: str = "record_rid"
    _last: int = 0
    _holders: set[str] = field(default_factory=set)

    @property
    def waiting(self) -> bool:
        """Whether numbers are given out whose transactions have not ended."""
        return bool(self._last)

    def look(self, cur: Any) -> int:
        """Look again; returns ``settled``. Each statement must see what is committed before it (READ COMMITTED)."""
        if self._last:
            now = _holders(cur, self.sequence)
            if self._holders & now or any(one.startswith(PREPARED) for one in now):
                return self.settled
            self.settled, self._last = self._last, 0
        last = last_number(cur, self.sequence)
        if last > self.settled:
            self._holders = _holders(cur, self.sequence)
            if self._holders:
                self._last = last
            else:
                self.settled = last
        return self.settled


def last_number(cur: Any, sequence: str = "record_rid") -> int:
    """The last number given to a version (whether committed or not)."""
    cur.execute(f'SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM "{sequence}"')
    return int(cur.fetchone()[0])


def _holders(cur: Any, sequence: str) -> set[str]:
    cur.execute(_HOLDERS, [sequence])
    return {row[0] for row in cur.fetchall()}


_CHANGE = "{a}.rid, {a}.key, {a}.rtype, {a}.id, {a}.version, {a}.deleted, {a}.updated, {a}.person_id, {a}.institution_id"


def changes(cur: Any, after: int, upto: int, limit: int, types: Sequence[str]) -> tuple[list[Change], int]:
    """Changes of ``types`` numbered above ``after`` and at most ``upto`` (settled), at most ``limit``; and how far they reach.

    One statement, so that a version replaced meanwhile is seen exactly once, either as current or as history.
    """
    parts, args = [], list[Any]()
    for table, current in (("record_resource", "TRUE"), ("record_history", "FALSE")):
        parts.append(
            f"(SELECT {_CHANGE.format(a='v')}, {current} FROM {table} v WHERE v.rid > %s AND v.rid <= %s"
            " AND v.rtype = ANY(%s::text[]) ORDER BY v.rid LIMIT %s)"
        )
        args += [after, upto, list(types), limit]
    cur.execute(f"{' UNION ALL '.join(parts)} ORDER BY 1 LIMIT %s", [*args, limit])
    found = [Change(*row) for row in cur.fetchall()]
    return found, (found[-1].rid if len(found) == limit else upto)


def still_current(cur: Any, rids: Sequence[int]) -> set[int]:
    """Which of these versions are current now."""
    cur.execute("SELECT rid FROM record_resource WHERE rid = ANY(%s::bigint[])", [list(rids)])
    return {row[0] for row in cur.fetchall()}


def before(cur: Any, found: Sequence[Change]) -> dict[int, Change]:
    """The version before each change, by the change's number (none for the first one, or where it was a deletion)."""
    wanted = [(c.key, c.version - 1, c.rid) for c in found if c.version > 1]
    if not wanted:
        return {}
    keys, versions, rids = (list(column) for column in zip(*wanted, strict=True))
    cur.execute(
        f"SELECT w.rid, {_CHANGE.format(a='h')}, FALSE FROM unnest(%s::bigint[], %s::int[], %s::bigint[]) AS w(key, version, rid)"
        " JOIN record_history h ON h.key = w.key AND h.version = w.version WHERE NOT h.deleted",
        [keys, versions, rids],
    )
    return {row[0]: Change(*row[1:]) for row in cur.fetchall()}


def raise_shadows(cur: Any, past: Sequence[Change]) -> dict[int, int]:
    """Index versions that are no longer current as rows of their own, so that a search can be asked about them.

    A shadow's number is the negative of the version's; whose it is (person, institution) is what the current version says,
    because rights are judged by that.  Only inside a savepoint that is rolled back: nobody else ever sees a shadow.
    Returns shadow number by version number.
    """
    wanted = {c.rid: c for c in past if not c.deleted}
    if not wanted:
        return {}
    cur.execute(
        "SELECT h.rid, h.body, r.person_id, r.subj, r.institution_id, r.platform FROM record_history h"
        " JOIN record_resource r ON r.key = h.key WHERE h.rid = ANY(%s::bigint[])",
        [list(wanted)],
    )
    batch = []
    for rid, body, person, subj, institution, platform in cur.fetchall():
        one = wanted[rid]
        resource = text.parse(store.opened(one.rtype, body).encode())
        batch.append(
            Stored(-rid, hash64(f"shadow/{rid}"), one.rtype, one.id, one.version, one.updated, bytes(body),
                   extract.index_rows(resource, subj), person, subj, institution, platform)
        )  # fmt: skip
    rows.insert(rows.server_cursor(cur), batch)
    return {-one.rid: one.rid for one in batch}


def matching(
    cur: Any,
    scope: Scope,
    rtype: str,
    given: Sequence[tuple[str, str]],
    found: Sequence[Change],
    shadows: dict[int, int],
) -> set[int]:
    """Numbers of those changes whose version matches a search and may be seen by ``scope``; one or two statements for all.

    ``shadows`` (of :func:`raise_shadows`) must hold every change that is not current.  What a resource is asked about others
    (``_has``) and by its id is asked of the resource itself, as nothing else refers to a shadow.
    Raises ``Problem`` for a search that is not understood.
    """
    ids = [value.split(",") for name, value in given if name == "_id"]
    about_others = [(n, v) for n, v in given if n.startswith("_has:")]
    own = [(n, v) for n, v in given if n != "_id" and not n.startswith("_has:")]
    left = {
        shadows.get(c.rid, c.rid): c.rid
        for c in found
        if not c.deleted and all(c.id in wanted for wanted in ids)
    }
    hits = {left[number] for number in _asked(cur, scope, rtype, own, list(left))}
    if about_others and hits:
        by_key = {ref_key(f"{rtype}/{c.id}") for c in found if c.rid in hits}
        cur.execute("SELECT rid, key FROM record_resource WHERE key = ANY(%s::bigint[])", [list(by_key)])
        current = dict(cur.fetchall())
        keys = {current[number] for number in _asked(cur, scope, rtype, about_others, list(current))}
        hits = {c.rid for c in found if c.rid in hits and c.key in keys}
    return hits


def _asked(
    cur: Any, scope: Scope, rtype: str, given: Sequence[tuple[str, str]], numbers: list[int]
) -> set[int]:
    """Which rows of ``record_resource`` match; asked even of none, so that a wrong search is refused."""
    ctx = base.Context(cur, scope)
    where = ["r.rid = ANY(%s::bigint[])", "r.rtype = %s", "NOT r.deleted"]
    args: list[Any] = [numbers, rtype]
    seen, more = visible.condition(scope, "r", rtype)
    where.append(seen)
    args += more
    for name, value in given:
        clause, more = conditions.condition(ctx, rtype, name, value)
        where.append(clause)
        args += more
    cur.execute(f"SELECT r.rid FROM record_resource r WHERE {' AND '.join(where)}", args)
    return {row[0] for row in cur.fetchall()}
