"""One plain create, in two statements: whose patient it is and whether the writer may, then everything at once.

This is the hot path of the door.  :func:`create` gives None whenever something is not plain (a Patient, an unknown patient, a
refusal): the general path (:func:`lianxin.record.store.apply`) then does the work or says what is wrong.
"""

import uuid
from collections.abc import Iterable
from typing import Any

from lianxin.access import audit, connections, journal, relationships
from lianxin.access.scope import Scope
from lianxin.record import bodies, extract, rows, store, text, visible, words
from lianxin.record.definitions import OPEN_TYPES
from lianxin.record.keys import PATIENTS, ref_key
from lianxin.record.store import Result

_NAMES = ", ".join(name for name, _ in rows.RESOURCE)
_VALUES = {"rid": "nextval('record_rid')", "keys": "%s::bigint[]"}
_ROW = ", ".join(_VALUES.get(name, f"%s::{kind}") for name, kind in rows.RESOURCE)
# The patient must still stand for the person looked up: a merge waits until this statement is done, and the other way round.
_GUARD = "(SELECT 1 FROM record_patient WHERE subj = %s AND person_id = %s FOR SHARE)"


def _array(values: Iterable[Any]) -> str:
    """Numbers or times as an array in SQL's own notation: sent as it is, several times cheaper than a list."""
    return "{" + ",".join("NULL" if v is None else str(v) for v in values) + "}"


def _side(table: str, i: int) -> str:
    names = [name for name, _ in rows.SIDE[table] if name != "rid"]
    casts = ", ".join(f"%s::{kind}[]" for name, kind in rows.SIDE[table] if name != "rid")
    return (
        f", w{i} AS (INSERT INTO {table} (rid, {', '.join(names)})"
        f" SELECT r.rid, u.* FROM r, unnest({casts}) AS u({', '.join(names)}))"
    )


_SIDES = {table: _side(table, i) for i, table in enumerate(rows.SIDE)}


def create(cur: Any, scope: Scope, rtype: str, resource: dict[str, Any], raw: bytes) -> Result | None:
    """Store a valid resource of a patient or of nobody under a new id, with its audit event, on an autocommit connection.

    None: not a plain case, nothing was done. Raises ValueError/OverflowError for dates and numbers beyond what can be kept.
    """
    if rtype in PATIENTS or scope.client_id is None or not (scope.everything or scope.clinical):
        return None
    if (
        visible.narrowing(scope, "r", rtype, "c") is not None
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
    given = list(stored.columns()[1:])
    statement = f"WITH r AS (INSERT INTO record_resource ({_NAMES}) SELECT {_ROW}"
    if subj is not None:
        statement += f" FROM {_GUARD} AS guard"
        given += [subj, person]
    statement += " RETURNING rid)"
    for table, side in (
        ("record_date", index.dates),
        ("record_quantity", index.quantities),
        ("record_string", index.strings),
    ):
        if side:
            statement += _SIDES[table]
            columns = zip(*dict.fromkeys(side), strict=True)
            given += [list(c) for c in columns] if table == "record_string" else [_array(c) for c in columns]
    event = audit.entry(scope, "create", person_id=person, what=f"{rtype}/{rid}/_history/1")
    insert, values = audit.insertion(cur, event, source="r")
    cur.execute(f"{statement}, a AS ({insert}) SELECT r.rid, a.id FROM r, a", [*given, *values], prepare=True)
    row = cur.fetchone()
    if row is None:
        return None
    journal.link_later(row[1], values[-1])
    return Result(201, rtype, rid, 1, now, body, person, row[0])


def _person(cur: Any, scope: Scope, subj: int) -> int | None:
    """The person behind a patient reference, when the scope may write about it."""
    seen, args = relationships.sql(scope, "p.person_id")
    cur.execute(
        "SELECT p.person_id FROM record_patient p LEFT JOIN record_resource r ON r.key = p.subj"
        f" WHERE p.subj = %s AND (r.institution_id = ANY(%s::bigint[]) OR {seen})",
        connections.sent([subj, sorted(scope.institution_ids), *args]),
        prepare=True,
    )
    row = cur.fetchone()
    return row[0] if row else None
