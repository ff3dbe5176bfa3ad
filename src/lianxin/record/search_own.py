"""The door's commonest search in one short statement: coded results of one patient that the asker's own institution sent.

``Observation?patient=&code=&_sort=-date&_count=20`` and its like: one patient, plain tokens of which one is keyed together with
the patient, at most one sort key.  The statement asks nothing about rights.  When every row of the page, and the one behind it, was
sent by the asker's own institutions, which they see whatever else holds (:func:`lianxin.record.visible.own_source_suffices`), the
full statement would have given the same rows; in every other case :func:`search` gives None, what was fetched is thrown away, and
:mod:`lianxin.record.search` decides.
"""

from dataclasses import dataclass, field
from typing import Any

from lianxin.access.scope import Scope
from lianxin.access.statements import Statement, instant, plain_array, text, whole
from lianxin.record import bodies, definitions, extract, persons, visible
from lianxin.record.keys import key_scoped, ref_key
from lianxin.record.problems import Problem
from lianxin.record.query import order as ordering
from lianxin.record.query.kinds import numbers, token_keys
from lianxin.record.search import count_of, patient_id

MOST_TOKENS = 4
LONGEST = 1000  # characters of a value


@dataclass(slots=True)
class Found:
    """A page: (id, exact text) of each resource, the person they are about, where to go on, what was asked in which order."""

    entries: list[tuple[bytes, bytes]]
    person_id: int | None
    next: str | None
    used: list[tuple[str, str]] = field(default_factory=list)


def search(cur: Any, scope: Scope, rtype: str, given: list[tuple[str, str]]) -> Found | None:
    """The page on a steady connection; None: not such a search, or not for this short way to decide."""
    if not visible.own_source_suffices(scope, rtype):
        return None
    tokens: list[tuple[str, str]] = []
    control: list[tuple[str, str]] = []
    patient, sort, limit = "", "", ""
    about = ("", "")
    for name, value in given:
        if not value or len(value) > LONGEST:
            return None
        if name == "_count":
            limit = value
            control.append((name, value))
        elif name == "_sort":
            if sort:
                return None
            sort = value
            control.append((name, value))
        elif not patient and (found := patient_id(rtype, name, value)) is not None:
            patient = found
            about = (name, value)
        else:
            tokens.append((name, value))
    if not patient or not 0 < len(tokens) <= MOST_TOKENS or persons.is_number(patient):
        return None
    subj = ref_key(f"Patient/{patient}")
    try:
        count = count_of(limit) if limit else count_of()
        keys = _keys(rtype, subj, tokens)
    except Problem:
        return None
    if (
        not keys
        or not count
        or sort.removeprefix("-") not in ("", "_lastUpdated", definitions.main_date(rtype))
    ):
        return None
    rows = _statement(rtype, sort, len(keys) - 1).rows(
        cur, [text(keys[0]), text(subj), rtype.encode(), text(count + 1), *map(text, keys[1:])]
    )
    mine = scope.institution_ids
    if any(row[3] is None or whole(row[3]) not in mine for row in rows):
        return None
    after = None
    if len(rows) > count:
        last = rows[count - 1]
        try:
            after = ordering.cursor(whole(last[5]), [instant(last[4])])
        except OverflowError:
            return None
    return Found(
        [(row[0] or b"", bodies.unpack(row[1] or b"")) for row in rows[:count]],
        whole(rows[0][2]) if rows else None,
        after,
        [*control, about, *tokens],
    )


def _keys(rtype: str, subj: int, tokens: list[tuple[str, str]]) -> list[int] | None:
    """The key that leads to the rows, and the others they must have; None when a filter is no plain token or none can lead."""
    table, scoped = definitions.params(rtype), extract.scoped_numbers(rtype)
    lead: int | None = None
    keys: list[int] = []
    for name, value in tokens:
        param = table.get(name)
        if param is None or param.kind != "token" or "," in value or "\\" in value:
            return None
        own = numbers(rtype, name)
        if len(own) != 1 or name not in extract.supported(rtype):
            return None
        found = token_keys(rtype, name, own[0], name, value)
        if len(found) != 1:
            return None
        code = value.rpartition("|")[2]
        if lead is None and code and own[0] in scoped:
            lead = key_scoped(subj, own[0], code)
        keys += found
    return None if lead is None else [lead, *keys]


@definitions.kept
def _statement(rtype: str, sort: str, others: int) -> Statement:
    """The statement for a sort word ("": by time) and so many further keys."""
    key = (ordering.key(rtype, sort) if sort else None) or ordering.default()
    shown = key.text
    for value in key.args:  # numbers of search parameters
        shown = shown.replace("%s", f"'{plain_array(value)}'", 1)
    more = "".join(f" AND ${n}::bigint = ANY(r.keys)" for n in range(5, 5 + others))
    # Behind OFFSET 0 the planner cannot walk an index of the order instead, and the further keys do not reach the GIN index,
    # where entries as common as a code would only be skipped through: the first key alone leads to a handful of rows.
    return Statement(
        f"SELECT * FROM (SELECT r.id, r.body, r.person_id, r.institution_id, {shown} AS k0, r.rid FROM record_resource r"
        " WHERE r.keys @> ARRAY[$1::bigint] AND r.subj = $2::bigint AND r.rtype = $3::text AND NOT r.deleted"
        f" AND r.person_id + 0 = (SELECT p.person_id FROM record_patient p WHERE p.subj = $2::bigint){more} OFFSET 0) f"
        f" ORDER BY {ordering.order([key], ['k0'])} LIMIT $4::bigint",
        4 + others,
    )
