"""One plain create, in two statements: whose patient it is and whether the writer may, then everything at once.

This is the hot path of the door.  :func:`create` gives None whenever something is not plain (a Patient, an unknown patient, a
refusal): the general path (:func:`lianxin.record.store.apply`) then does the work or says what is wrong.
"""

import uuid
from functools import cache
from typing import Any

from lianxin.access import audit, connections, journal, relationships
from lianxin.access.scope import Scope
from lianxin.access.statements import Statement, whole, writer
from lianxin.access.statements import text as text_value
from lianxin.record import after, bodies, extract, rows, store, text, visible, words
from lianxin.record.definitions import OPEN_TYPES
from lianxin.record.keys import PATIENTS, ref_key
from lianxin.record.store import Result

_NAMES = ", ".join(name for name, _ in rows.RESOURCE)
_VALUES = {"rid": "nextval('record_rid')", "keys": "%s::bigint[]"}
_ROW = ", ".join(_VALUES.get(name, f"%s::{kind}") for name, kind in rows.RESOURCE)
_WIDTH = len(rows.RESOURCE) - 1
# The patient must still stand for the person looked up: a merge waits until this statement is done, and the other way round.
_GUARD = "(SELECT 1 FROM record_patient WHERE subj = %s::bigint AND person_id = %s::bigint FOR SHARE)"
_WHOSE = Statement(
    "SELECT p.person_id, r.institution_id FROM record_patient p LEFT JOIN record_resource r ON r.key = p.subj WHERE p.subj = $1::bigint",
    1,
)
_COLUMNS = {table: [(n, writer(kind)) for n, kind in side if n != "rid"] for table, side in rows.SIDE.items()}


def _side(table: str) -> str:
    names = ", ".join(name for name, _ in _COLUMNS[table])
    casts = ", ".join(f"%s::{kind}[]" for name, kind in rows.SIDE[table] if name != "rid")
    return f", {table}_rows AS (INSERT INTO {table} (rid, {names}) SELECT r.rid, u.* FROM r, unnest({casts}) AS u({names}))"


@cache
def _statement(tables: tuple[str, ...], guarded: bool) -> Statement:
    """Everything of a create at once: the row (if its patient still stands), its side rows in ``tables``, and the audit event."""
    guard = f" FROM {_GUARD} AS guard" if guarded else ""
    sql = (
        f"WITH r AS (INSERT INTO record_resource ({_NAMES}) SELECT {_ROW}{guard} RETURNING rid)"
        f"{''.join(map(_side, tables))}, a AS ({audit.INSERTION} FROM r RETURNING id) SELECT r.rid, a.id FROM r, a"
    )
    values = sql.count("%s")
    return Statement(sql, values, binary=(_WIDTH, values))  # body and digest


def create(cur: Any, scope: Scope, rtype: str, resource: dict[str, Any], raw: bytes) -> Result | None:
    """Store a valid resource of a patient or of nobody under a new id, with its audit event, on an autocommit connection.

    None: not a plain case, nothing was done. Raises ValueError/OverflowError for dates and numbers beyond what can be kept.
    """
    if rtype in PATIENTS or scope.client_id is None or not (scope.everything or scope.clinical):
        return None
    if after.wanted(rtype):  # a room above takes part in the writer's transaction
        return None
    if not visible.unlimited(
        scope.smart, rtype, "c"
    ):  # one patient or a query limit: asked of the stored row
        return None
    patient = None if rtype in OPEN_TYPES else extract.patient_of(resource)
    subj, person = None, None
    if patient is not None:
        subj = ref_key(f"Patient/{patient[0]}")
        person = _person(cur, scope, subj)
        if person is None:
            return None
    rid = str(uuid.uuid4())
    now = store.moment()
    body = text.splice(raw, rid, 1, store.stamp(now))
    index = extract.index_rows({**resource, "id": rid}, subj)
    words.remember([index])
    stored = rows.Stored(0, ref_key(f"{rtype}/{rid}"), rtype, rid, 1, now, bodies.pack(rtype, body.encode()), index, person, subj,
                         scope.institution_id)  # fmt: skip
    *plain, packed = stored.columns()[1:]
    given = [*map(text_value, plain), packed]
    if subj is not None:
        given += [text_value(subj), text_value(person)]
    tables = []
    for table, side in (
        ("record_date", index.dates),
        ("record_quantity", index.quantities),
        ("record_string", index.strings),
    ):
        if side:
            tables.append(table)
            columns = zip(*dict.fromkeys(side), strict=True)
            given += [write(c).encode() for (_, write), c in zip(_COLUMNS[table], columns, strict=True)]
    values, digest = audit.values(
        cur, audit.entry(scope, "create", person_id=person, what=f"{rtype}/{rid}/_history/1")
    )
    row = _statement(tuple(tables), subj is not None).row(cur, [*given, *values])
    if row is None:
        return None
    journal.link_later(whole(row[1]), digest)
    return Result(201, rtype, rid, 1, now, body, person, whole(row[0]))


def _person(cur: Any, scope: Scope, subj: int) -> int | None:
    """The person behind a patient reference, when the scope may write about it."""
    found = _WHOSE.row(cur, [text_value(subj)])
    if found is None:
        return None
    if found[1] is not None and whole(found[1]) in scope.institution_ids:
        return whole(found[0])
    seen, args = relationships.sql(scope, "p.person_id")
    cur.execute(
        f"SELECT p.person_id FROM record_patient p WHERE p.subj = %s AND {seen}",
        connections.sent([subj, *args]),
        prepare=True,
    )
    row = cur.fetchone()
    return row[0] if row else None
