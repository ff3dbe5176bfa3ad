"""The engine's statements: lock what identifies the newcomers, look up in the next statement, write everything in one.

Under READ COMMITTED a statement sees what was committed before it began: whoever waited for a lock therefore meets, in the
look-up that follows, what the holder of the lock has written. Each statement is set-based, for one registration or thousands, and
goes to the server prepared (:mod:`lianxin.access.statements`): on a thread's steady connection with a plan made once, inside
anybody else's transaction on whatever connection that is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import psycopg

from lianxin.access import audit, relationships
from lianxin.access.statements import (
    bytes_array,
    instant,
    plain_array,
    text,
    text_array,
    whole,
    writer,
)
from lianxin.index import active, golden, vault
from lianxin.index.form import Form, unpack
from lianxin.index.numbers import number_of_card
from lianxin.index.pipeline import Prepared, Step, together

HITS = 5000
"""Registrations read behind one newcomer's keys at most; more than that is a crowd, which :mod:`lianxin.index.crowds` notes.

The planner knows nothing of how rare keys are and takes each for one in two hundred: told the keys of one newcomer, it may think that so
many hits are found soonest by reading the table, which takes seconds among millions. So the keys stand in a sub-select, which it cannot look
into: it then plans once, for the index, up to some fifty million registrations (with 2000 hits it would be twenty).
"""
MEMBERS = 60
"""Registrations of one person that a newcomer is compared with at most."""
FINE = 300
"""Newcomers that are locked one by one; a larger batch closes the gate for the others (the lock table is finite)."""
GATE = 0x4C58_0001
"""Advisory lock that a large batch and a load hold while nobody else registers."""

numbers = plain_array


def plain(cur: Any) -> psycopg.Cursor[Any]:
    """A psycopg cursor that binds values at the server, on the connection of Django's or psycopg's ``cur``."""
    inner = getattr(cur, "cursor", None)
    if inner is None or callable(inner):
        return cur
    return psycopg.Cursor(inner.connection)


_LOCK_ALL = Prepared("SELECT pg_advisory_xact_lock(%s::bigint)", 1)


_LOCK = Prepared(
    "SELECT pg_advisory_xact_lock_shared(%s::bigint),"
    " (SELECT count(pg_advisory_xact_lock(k)) FROM unnest(%s::bigint[]) AS k)",
    2,
)
_FEW = [
    Prepared(
        f"SELECT pg_advisory_xact_lock_shared(%s::bigint){', pg_advisory_xact_lock(%s::bigint)' * n}", n + 1
    )
    for n in range(8)
]
"""The same for that many locks (those of one newcomer), one after the other as they are written, without making rows of an array."""


def locking(locks: set[int], many: bool) -> Step:
    """Takes the advisory locks until the transaction ends, in one order for everybody; ``many``: all of them at once."""
    if many:
        return _LOCK_ALL, [text(GATE)]
    if len(locks) < len(_FEW):
        return _FEW[len(locks)], [text(GATE), *map(text, sorted(locks))]
    return _LOCK, [text(GATE), numbers(sorted(locks)).encode()]


@dataclass(slots=True, eq=False)
class Person:
    """A person that a newcomer may be: from the database, or made in this batch. ``keys`` are those added in this batch."""

    person_id: int
    number: str = ""
    card: str = ""
    forms: list[Form] = field(default_factory=list)
    bodies: set[bytes] = field(default_factory=set)
    keys: set[int] = field(default_factory=set)
    words: list[golden.Spoken] = field(default_factory=list)
    new: bool = False
    into: Person | None = None

    def alive(self) -> Person:
        """Who this person is after joins within the batch."""
        person = self
        while person.into is not None:
            person = person.into
        return person


@dataclass(slots=True)
class Source:
    """A source record that is known already."""

    source_id: int
    person_id: int
    number: str
    digest: bytes


@dataclass(slots=True)
class Seen:
    """What a look-up found: known sources and persons behind the keys, each by the newcomer's position."""

    sources: dict[int, Source]
    people: dict[int, list[Person]]
    hits: dict[int, int]
    held: active.Held


_OWN_CARDS = Prepared(
    "SELECT r.n, p.id, f.body FROM unnest(%s::int[], %s::text[], %s::text[]) AS r(n, card, number) JOIN index_person p"
    " ON p.number = r.number AND p.card_number = r.card AND p.status = 'active' JOIN index_form f ON f.person_id = p.id",
    3,
)


def by_own_card(cur: Any, cards: Sequence[tuple[int, str]], people: dict[int, list[Person]]) -> None:
    """Add the persons whose e-health card number, given out by this index, newcomers show (position, number).

    No source says that number, so it is no key; the person's forms are read as if they did.
    """
    at, shown = zip(*cards, strict=True)
    by_position = dict(cards)
    made: dict[tuple[int, int], Person] = {}
    owners = [number_of_card(card) for card in shown]
    given = [numbers(at).encode(), text_array(shown).encode(), text_array(owners).encode()]
    for where, who, body in _OWN_CARDS.rows(cur, given):
        n, person_id = whole(where), whole(who)
        person = made.get((n, person_id))
        if person is None:
            person = made[n, person_id] = Person(person_id)
            people[n] = [p for p in people.get(n, ()) if p.person_id != person_id] + [person]
        (packed,) = vault.open_packed([body or b""])
        form = unpack(packed)
        form.card = by_position[n]
        person.bodies.add(packed)
        person.forms.append(form)


_PEOPLE = f"""
SELECT 1, {{n}}, f.person_id, h.n, f.body, {{number}} FROM {{given}}
 LATERAL (SELECT i.person_id, count(*) AS n FROM (
   SELECT person_id FROM index_form WHERE keys && {{keys}}::int4[] LIMIT {HITS}) i GROUP BY i.person_id) h,
 LATERAL (SELECT person_id, body FROM index_form WHERE person_id = h.person_id LIMIT {MEMBERS}) f"""
# Not a join: a plan made once for any number of newcomers would read every person into a hash table.
_NUMBER = "(SELECT p.number FROM index_person p WHERE p.id = {person})"
_MARKS = f"SELECT 2, {', '.join(active.MARKS)}, NULL::bytea, NULL::text"
_SOURCES = f"""
SELECT 0, {{n}}, s.person_id, s.id, s.payload_hash, {_NUMBER.format(person="s.person_id")}
 FROM {{given}} index_sourcerecord s WHERE s.institution_id = {{i}} AND s.system = {{y}} AND s.local_id = {{l}}"""


def _looking(one: bool, registering: bool) -> Prepared:
    """The look-up for one newcomer (making rows of arrays would cost a quarter of it) or for many: of its source and of persons
    without their numbers when ``registering``, else of persons with them. Values: position, institution, system, local id (a
    registrar's), position, keys; without positions for one."""
    parts, values = [_MARKS], 1 if one else 2
    if registering:
        values += 3 if one else 4
        named = {"n": "0::bigint", "given": "", "i": "%s::bigint", "y": "%s::text", "l": "%s::text"}
        many = "unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) AS r(n, i, y, l),"
        parts.append(
            _SOURCES.format(
                **(named if one else {"n": "r.n", "given": many, "i": "r.i", "y": "r.y", "l": "r.l"})
            )
        )
    number = "NULL::text" if registering else _NUMBER.format(person="h.person_id")
    many = "unnest(%s::bigint[], %s::text[]) AS r(n, keys),"
    given = (
        {"n": "0::bigint", "given": "", "keys": "(SELECT %s::int4[])"}  # see HITS
        if one
        else {"n": "r.n", "given": many, "keys": "r.keys"}
    )
    parts.append(_PEOPLE.format(number=number, **given))
    return Prepared(" UNION ALL ".join(parts), values)


_LOOKS = {(one, reg): _looking(one, reg) for one in (False, True) for reg in (False, True)}


def look(
    cur: Any,
    keys: Sequence[Sequence[int]],
    sources: Sequence[tuple[int, str, str]] | None = None,
    before: Sequence[Step] = (),
    meanwhile: Callable[[], None] | None = None,
) -> Seen:
    """Known sources (institution, system, local id) and the persons that share a key, by position; ``before``: what is to be done
    first (locks); ``meanwhile``: see :func:`together`."""
    crowd = active.held().crowd
    wanted = [numbers([k for k in ks if k not in crowd] if crowd else ks) for ks in keys]
    one, given = len(keys) == 1, []
    if one:
        given = [*map(text, sources[0])] if sources is not None else []
        given.append(wanted[0].encode())
    else:
        at = numbers(range(len(keys))).encode()
        if sources is not None:
            institutions, systems, locals_ = zip(*sources, strict=True)
            named = numbers(institutions), text_array(systems), text_array(locals_)
            given = [at, *(g.encode() for g in named)]
        asked = ",".join([f'"{w}"' for w in wanted])
        given += [at, f"{{{asked}}}".encode()]
    step: Step = (_LOOKS[one, sources is not None], given)
    rows = together(cur, [*before, step], meanwhile)[-1]
    known: dict[int, Source] = {}
    found: dict[int, list[Person]] = {}
    people: dict[int, Person] = {}
    hits: dict[int, int] = {}
    meets: set[tuple[int, int]] = set()
    filled: dict[int, int] = {}
    bodies: list[bytes] = []
    owners: list[Person] = []
    marks = (0, 0, 0)
    get, read = rows.get_value, int.from_bytes
    for row in range(rows.ntuples):
        kind, n = get(row, 0)[3], read(get(row, 1), "big")
        person_id, count = read(get(row, 2), "big"), read(get(row, 3), "big")
        if kind == 1:
            person = people.get(person_id)
            if person is None:
                person = people[person_id] = Person(person_id, (get(row, 5) or b"").decode())
                filled[person_id] = n
            if filled[person_id] == n:  # its forms come again for every other newcomer that meets it
                owners.append(person)
                bodies.append(get(row, 4))
            if (n, person_id) not in meets:
                meets.add((n, person_id))
                found.setdefault(n, []).append(person)
                hits[n] = hits.get(n, 0) + count
        elif kind == 0:
            known[n] = Source(count, person_id, get(row, 5).decode(), get(row, 4))
        else:
            marks = (n, person_id, count)
    for person, packed in zip(owners, vault.open_packed(bodies), strict=True):
        person.bodies.add(packed)
        person.forms.append(unpack(packed))
    return Seen(known, found, hits, active.fresh(cur, marks))


def _bytes_or_null(values: Iterable[bytes | None]) -> str:
    return text_array([None if v is None else "\\x" + v.hex() for v in values])


TYPES = {
    "birth_date": "date",
    "deceased_on": "date",
    "id_blind": "bytea",
    "phone_blind": "bytea",
    "home_institution_id": "bigint",
    "contact_source_id": "bigint",
}
_GOLDEN = ", ".join(golden.COLUMNS)
GOLDEN_ARRAYS = ", ".join(f"%s::{TYPES.get(c, 'text')}[]" for c in golden.COLUMNS)
"""Casts of golden columns given as arrays."""
_WRITERS = [
    _bytes_or_null if TYPES.get(c) == "bytea" else writer(TYPES.get(c, "text")) for c in golden.COLUMNS
]

_WRITE = f"""
WITH np AS (
 INSERT INTO index_person (id, number, card_number, status, version, {_GOLDEN})
 SELECT id, number, card, 'active', 1, {_GOLDEN}
 FROM unnest(%s::bigint[], %s::text[], %s::text[], {GOLDEN_ARRAYS}) AS g(id, number, card, {_GOLDEN})),
up AS (
 UPDATE index_person p SET {", ".join(f"{c} = u.{c}" for c in golden.COLUMNS)}, version = p.version + 1
 FROM unnest(%s::bigint[], {GOLDEN_ARRAYS}) AS u(id, {_GOLDEN}) WHERE p.id = u.id),
g AS (SELECT *, %s::timestamptz AS at FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[],
  %s::bytea[], %s::bytea[], %s::text[], %s::bytea[])
  AS g(id, person, institution, system, local, patient, payload, digest, kind, decision)),
ns AS (
 INSERT INTO index_sourcerecord (id, institution_id, system, local_id, patient_id, person_id, payload, payload_hash, received_at,
  version, disputed)
 SELECT id, institution, system, local, patient, person, payload, digest, at, 1, false FROM g),
nf AS (
 INSERT INTO index_form (person_id, keys, body)
 SELECT f.person, CASE WHEN f.fresh THEN f.keys::int4[] ELSE NULLIF(ARRAY(
   SELECT unnest(f.keys::int4[]) EXCEPT SELECT unnest(o.keys) FROM index_form o WHERE o.person_id = f.person), '{{}}') END, f.body
 FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::boolean[]) AS f(person, keys, body, fresh)),
nr AS (
 INSERT INTO access_relationship (person_id, institution_id, kind, source, since, until)
 SELECT p, i, k, 'index', %s::timestamptz, u FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[]) AS r(p, i, k, u)
 ORDER BY p, i, k {relationships.EXTEND}),
ne AS (
 INSERT INTO index_linkevent (person_id, source_id, kind, before, after, reason, account_id, client_id, at, decision)
 SELECT person, id, kind, '{{}}', '{{}}', '', %s::bigint, %s::bigint, at, decision FROM g ORDER BY id)"""
_WRITE_MANY = Prepared(f"{_WRITE} SELECT 1", _WRITE.count("%s"))
_BARE_KEYS = "{keys}::int4[]"
_OTHER_KEYS = "NULLIF(ARRAY(SELECT unnest({keys}::int4[]) EXCEPT SELECT unnest(o.keys) FROM index_form o WHERE o.person_id = {person}), '{{}}')"


@cache
def _single(new: bool, changed: tuple[str, ...], form: bool, terms: int) -> Prepared:
    """The statement that writes one registration with the event of the audit: plain values, and only the parts that are needed.

    A set-based one opens every table and makes rows of arrays, which for a single registration costs more than the rows. Values:
    see :func:`_write_one`.
    """
    count, raw = 0, []

    def value(kind: str) -> str:
        nonlocal count
        count += 1
        if kind == "bytea":
            raw.append(count)
        return f"${count}::{kind}"

    person, source, at, institution = value("bigint"), value("bigint"), value("timestamptz"), value("bigint")
    parts = []
    if new:
        head = f"{value('text')}, {value('text')}"
        fields = ", ".join(value(TYPES.get(c, "text")) for c in golden.COLUMNS)
        parts.append(
            f"np AS (INSERT INTO index_person (id, number, card_number, status, version, {_GOLDEN})"
            f" VALUES ({person}, {head}, 'active', 1, {fields}))"
        )
    if changed:
        fields = ", ".join(f"{c} = {value(TYPES.get(c, 'text'))}" for c in changed)
        parts.append(f"up AS (UPDATE index_person SET {fields}, version = version + 1 WHERE id = {person})")
    named = ", ".join(value("text") for _ in range(3))
    parts.append(
        "ns AS (INSERT INTO index_sourcerecord (id, institution_id, system, local_id, patient_id, person_id, payload, payload_hash,"
        f" received_at, version, disputed) VALUES ({source}, {institution}, {named}, {person}, {value('bytea')}, {value('bytea')},"
        f" {at}, 1, false))"
    )
    if form:
        keys = (_BARE_KEYS if new else _OTHER_KEYS).format(keys=value("text"), person=person)
        parts.append(
            f"nf AS (INSERT INTO index_form (person_id, keys, body) VALUES ({person}, {keys}, {value('bytea')}))"
        )
    rows = ", ".join(
        f"({person}, {value('bigint')}, {value('text')}, 'index', {at}, {value('timestamptz')})"
        for _ in range(terms)
    )
    parts.append(
        "nr AS (INSERT INTO access_relationship (person_id, institution_id, kind, source, since, until)"
        f" VALUES {rows} {relationships.EXTEND})"
    )
    parts.append(
        "ne AS (INSERT INTO index_linkevent (person_id, source_id, kind, before, after, reason, account_id, client_id, at, decision)"
        f" VALUES ({person}, {source}, {value('text')}, '{{}}', '{{}}', '', {value('bigint')}, {value('bigint')}, {at},"
        f" {value('bytea')}))"
    )
    event = audit.INSERTION
    while "%s" in event:
        count += 1
        event = event.replace("%s", f"${count}", 1)
    raw.append(count)
    parts.append(f"na AS ({event} RETURNING id)")
    return Prepared(f"WITH {', '.join(parts)} SELECT id FROM na", count, binary=raw)


def _write_one(cur: Any, batch: Batch, event: audit.Entry, after: Sequence[Step]) -> tuple[int, bytes]:
    """One registration, its event of the audit, and what follows: see :func:`write`."""
    (row,) = batch.rows
    values: list[Any] = [row.person_id, row.source_id, batch.at, row.institution_id]
    for _, number, card, fields in batch.people:
        values += [number, card, *fields]
    columns: tuple[str, ...] = ()
    for _, changed in batch.changed:
        columns = tuple(sorted(changed))
        values += [changed[c] for c in columns]
    values += [row.system, row.local_id, row.patient_id, row.payload, row.digest]
    for _, keys, body, _ in batch.forms:
        values += [numbers(keys) if keys else None, vault.close_packed(body)]
    for _, institution, kind in sorted(batch.terms):
        values += [institution, kind, batch.terms[row.person_id, institution, kind]]
    values += [row.kind, batch.account_id, batch.client_id, row.decision]
    told, digest = audit.values(cur, event)
    statement = _single(bool(batch.people), columns, bool(batch.forms), len(batch.terms))
    plain_values = [v if v is None or type(v) is bytes else text(v) for v in values]
    found = together(cur, [(statement, [*plain_values, *told]), *after])[0]
    return whole(found.get_value(0, 0)), digest


@dataclass(slots=True)
class Row:
    """One registration to be written."""

    source_id: int
    person_id: int
    institution_id: int
    system: str
    local_id: str
    patient_id: str | None
    payload: bytes
    digest: bytes
    kind: str
    decision: bytes | None


@dataclass(slots=True)
class Batch:
    """What one write holds. ``people``: (id, number, card, golden row) of new persons; ``changed``: (id,
    golden columns: all of them when there are several registrations) of known ones; ``forms``: (person, keys, packed form, the person
    is new); ``terms``: (person, institution, kind) -> until when an institution may look."""

    people: list[tuple[int, str, str, Sequence[Any]]]
    changed: list[tuple[int, Mapping[str, Any]]]
    rows: list[Row]
    forms: list[tuple[int, list[int], bytes, bool]]
    terms: dict[tuple[int, int, str], dt.datetime | None]
    account_id: int | None
    client_id: int | None
    at: dt.datetime


def write(
    cur: Any, batch: Batch, event: audit.Entry | None, after: Sequence[Step] = ()
) -> tuple[int, bytes] | None:
    """Write persons, registrations, forms, terms and events of the log; with ``event`` also that of the audit, whose id and digest
    are returned (on a connection that links later, whoever commits sees to the link). ``after``: what is to be done then (commit)."""
    if event is not None:
        return _write_one(cur, batch, event, after)
    people, rows, forms, terms = batch.people, batch.rows, batch.forms, batch.terms
    given: list[str | None] = [
        numbers([p[0] for p in people]),
        text_array([p[1] for p in people]),
        text_array([p[2] for p in people]),
    ]
    given += [make([p[3][k] for p in people]) for k, make in enumerate(_WRITERS)]
    given.append(numbers([p[0] for p in batch.changed]))
    given += [
        make([p[1][c] for p in batch.changed]) for c, make in zip(golden.COLUMNS, _WRITERS, strict=True)
    ]
    given += [
        str(batch.at),
        numbers([r.source_id for r in rows]),
        numbers([r.person_id for r in rows]),
        numbers([r.institution_id for r in rows]),
        text_array([r.system for r in rows]),
        text_array([r.local_id for r in rows]),
        text_array([r.patient_id for r in rows]),
        bytes_array([r.payload for r in rows]),
        bytes_array([r.digest for r in rows]),
        text_array([r.kind for r in rows]),
        _bytes_or_null([r.decision for r in rows]),
        numbers([f[0] for f in forms]),
        text_array([numbers(f[1]) if f[1] else None for f in forms]),
        bytes_array([vault.close_packed(f[2]) for f in forms]),
        numbers([f[3] for f in forms]),
        str(batch.at),
        numbers([t[0] for t in terms]),
        numbers([t[1] for t in terms]),
        text_array([t[2] for t in terms]),
        text_array([None if until is None else str(until) for until in terms.values()]),
        None if batch.account_id is None else str(batch.account_id),
        None if batch.client_id is None else str(batch.client_id),
    ]
    values = [None if v is None else v.encode() for v in given]
    together(cur, [(_WRITE_MANY, values), *after])
    return None


_STILL_SQL = (
    f"SELECT id::bigint, number::text, {', '.join(f'{c}::text' for c in golden.COLUMNS)} FROM index_person"
    " WHERE id = ANY(%s::bigint[]){} ORDER BY id{}"
)
_STILL = Prepared(_STILL_SQL.format(" AND status = 'active'", " FOR NO KEY UPDATE"), 1)
_STILL_ONE = Prepared(
    f"SELECT id::bigint, number::text, {', '.join(f'{c}::text' for c in golden.COLUMNS)} FROM index_person"
    " WHERE id = %s::bigint AND status = 'active' FOR NO KEY UPDATE",
    1,
)


_VALUES = Prepared(_STILL_SQL.format("", ""), 1)
_SAID = Prepared(
    "SELECT person_id, id, received_at, payload, disputed::int, institution_id, system::text, local_id::text, patient_id::text"
    " FROM index_sourcerecord WHERE person_id = ANY(%s::bigint[]) ORDER BY id",
    1,
)


def still_there(cur: Any, person_ids: Sequence[int]) -> dict[int, list[str | None]]:
    """Lock persons that newcomers are linked to against merging; those that are still there: id -> number and golden columns, all as
    SQL text."""
    if len(person_ids) == 1:
        return _values(_STILL_ONE.run(cur, [text(person_ids[0])]))
    return _values(_STILL.run(cur, [numbers(person_ids).encode()]))


def values_of(cur: Any, person_ids: Sequence[int]) -> dict[int, list[str | None]]:
    """The same columns of any persons, without a lock."""
    return _values(_VALUES.run(cur, [numbers(person_ids).encode()]))


@dataclass(slots=True)
class Said:
    """A source record as it lies: opened only when it is needed."""

    source_id: int
    received_at: dt.datetime
    stored: bytes
    disputed: bool
    row: tuple[int, str, str, str | None]


def said(cur: Any, person_ids: Sequence[int]) -> dict[int, list[Said]]:
    """Source records of persons, in the order they came."""
    return _said(_SAID.run(cur, [numbers(person_ids).encode()]))


def _values(rows: Any) -> dict[int, list[str | None]]:
    get, columns = rows.get_value, range(1, rows.nfields)
    out: dict[int, list[str | None]] = {}
    for n in range(rows.ntuples):
        values = [get(n, column) for column in columns]
        out[whole(get(n, 0))] = [None if v is None else v.decode() for v in values]
    return out


def _said(rows: Any) -> dict[int, list[Said]]:
    get = rows.get_value
    out: dict[int, list[Said]] = {}
    for n in range(rows.ntuples):
        at = instant(get(n, 2))
        assert at is not None
        patient = get(n, 8)
        named = (
            whole(get(n, 5)),
            get(n, 6).decode(),
            get(n, 7).decode(),
            None if patient is None else patient.decode(),
        )
        out.setdefault(whole(get(n, 0)), []).append(
            Said(whole(get(n, 1)), at, get(n, 3), bool(whole(get(n, 4))), named)
        )
    return out
