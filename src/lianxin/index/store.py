"""The engine's statements: lock what identifies the newcomers, look up in the next statement, write everything in one.

Under READ COMMITTED a statement sees what was committed before it began: whoever waited for a lock therefore meets, in the
look-up that follows, what the holder of the lock has written. Each statement is set-based, for one registration or thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lianxin.index import active, golden, vault
from lianxin.index.form import Form, unpack

HITS = 2000
"""Registrations read behind one newcomer's keys at most; more than that is a crowd, which :mod:`lianxin.index.crowds` notes."""
MEMBERS = 60
"""Registrations of one person that a newcomer is compared with at most."""
_GATE = 0x4C58_0001
FINE = 300
"""Newcomers that are locked one by one; a larger batch closes the gate for the others (the lock table is finite)."""


def plain(cur: Any) -> Any:
    """psycopg's own cursor behind Django's: it prepares statements when told to."""
    inner = getattr(cur, "cursor", None)
    return inner if inner is not None and not callable(inner) else cur


def numbers(values: Iterable[int]) -> str:
    """Whole numbers as an SQL array: cheaper to send than a list."""
    return "{" + ",".join(map(str, values)) + "}"


def lock(cur: Any, locks: set[int], many: bool) -> None:
    """Take the advisory locks until the transaction ends, in one order for everybody."""
    if many:
        cur.execute("SELECT pg_advisory_xact_lock(%s)", [_GATE], prepare=True)
        return
    cur.execute(
        "SELECT pg_advisory_xact_lock_shared(%s), (SELECT count(pg_advisory_xact_lock(k)) FROM unnest(%s::bigint[]) AS k)",
        [_GATE, numbers(sorted(locks))],
        prepare=True,
    )


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


_OWN_CARDS = """
SELECT r.n, p.id, f.body FROM unnest(%s::int[], %s::text[]) AS r(n, card)
 JOIN index_person p ON p.card_number = r.card AND p.status = 'active' JOIN index_form f ON f.person_id = p.id"""


def by_own_card(cur: Any, cards: Sequence[tuple[int, str]], people: dict[int, list[Person]]) -> None:
    """Add the persons whose e-health card number, given out by this index, newcomers show (position, number).

    No source says that number, so it is no key; the person's forms are read as if they did.
    """
    at, numbers_ = zip(*cards, strict=True)
    cur.execute(_OWN_CARDS, [numbers(at), list(numbers_)], prepare=True)
    shown = dict(cards)
    made: dict[tuple[int, int], Person] = {}
    for n, person_id, body in cur.fetchall():
        person = made.get((n, person_id))
        if person is None:
            person = made[n, person_id] = Person(person_id)
            people[n] = [p for p in people.get(n, ()) if p.person_id != person_id] + [person]
        (packed,) = vault.open_packed([body])
        form = unpack(packed)
        form.card = shown[n]
        person.bodies.add(packed)
        person.forms.append(form)


_PEOPLE = f"""
SELECT 1, r.n, f.person_id, h.n, f.body, {{number}} FROM unnest(%s::int[], %s::text[]) AS r(n, keys),
 LATERAL (SELECT i.person_id, count(*) AS n FROM (
   SELECT person_id FROM index_form WHERE keys && r.keys::int4[] LIMIT {HITS}) i GROUP BY i.person_id) h,
 LATERAL (SELECT person_id, body FROM index_form WHERE person_id = h.person_id LIMIT {MEMBERS}) f{{numbered}}"""
_UNNUMBERED = _PEOPLE.format(number="NULL::text", numbered="")
_NUMBERED = _PEOPLE.format(number="p.number", numbered=", index_person p WHERE p.id = h.person_id")
_MARKS = f"SELECT 2, {', '.join(active.MARKS)}, NULL::bytea, NULL::text"
_SOURCES = """
SELECT 0, r.n, s.person_id, s.id, s.payload_hash, p.number
 FROM unnest(%s::int[], %s::bigint[], %s::text[], %s::text[]) AS r(n, i, y, l)
 JOIN index_sourcerecord s ON s.institution_id = r.i AND s.system = r.y AND s.local_id = r.l
 JOIN index_person p ON p.id = s.person_id"""
_LOOK = f"{_MARKS} UNION ALL {_SOURCES} UNION ALL {_UNNUMBERED}"
_MEET = f"{_MARKS} UNION ALL {_NUMBERED}"


def look(
    cur: Any, keys: Sequence[Sequence[int]], sources: Sequence[tuple[int, str, str]] | None = None
) -> Seen:
    """Known sources (institution, system, local id) and the persons that share a key, by position."""
    crowd = active.held().crowd
    asked = [numbers(k for k in ks if k not in crowd) if crowd else numbers(ks) for ks in keys]
    at = numbers(range(len(keys)))
    if sources is None:
        cur.execute(_MEET, [at, asked], prepare=True)
    else:
        institutions, systems, locals_ = zip(*sources, strict=True)
        cur.execute(_LOOK, [at, numbers(institutions), list(systems), list(locals_), at, asked], prepare=True)
    known: dict[int, Source] = {}
    found: dict[int, list[Person]] = {}
    people: dict[int, Person] = {}
    hits: dict[int, int] = {}
    meets: set[tuple[int, int]] = set()
    filled: dict[int, int] = {}
    bodies: list[bytes] = []
    owners: list[Person] = []
    marks = (0, 0, 0)
    for kind, n, person_id, count, body, number in cur.fetchall():
        if kind == 1:
            person = people.get(person_id)
            if person is None:
                person = people[person_id] = Person(person_id, number or "")
                filled[person_id] = n
            if filled[person_id] == n:  # its forms come again for every other newcomer that meets it
                owners.append(person)
                bodies.append(body)
            if (n, person_id) not in meets:
                meets.add((n, person_id))
                found.setdefault(n, []).append(person)
                hits[n] = hits.get(n, 0) + count
        elif kind == 0:
            known[n] = Source(count, person_id, number, body)
        else:
            marks = (n, person_id, count)
    for person, packed in zip(owners, vault.open_packed(bodies), strict=True):
        person.bodies.add(packed)
        person.forms.append(unpack(packed))
    return Seen(known, found, hits, active.fresh(cur, marks))


_TYPES = {
    "birth_date": "date",
    "deceased_on": "date",
    "id_blind": "bytea",
    "phone_blind": "bytea",
    "home_institution_id": "bigint",
    "golden": "jsonb",
}
_GOLDEN = ", ".join(golden.COLUMNS)
GOLDEN_ARRAYS = ", ".join(f"%s::{_TYPES.get(c, 'text')}[]" for c in golden.COLUMNS)
"""Casts of golden columns given as arrays."""

_WRITE = f"""
WITH np AS (
 INSERT INTO index_person (id, number, card_number, status, version, {_GOLDEN})
 SELECT id, number, card, 'active', 1, {_GOLDEN}
 FROM unnest(%s::bigint[], %s::text[], %s::text[], {GOLDEN_ARRAYS}) AS g(id, number, card, {_GOLDEN})),
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
 FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::boolean[]) AS f(person, keys, body, fresh))
INSERT INTO index_linkevent (person_id, source_id, kind, before, after, reason, account_id, client_id, at, decision)
SELECT person, id, kind, '{{}}', '{{}}', '', %s, %s, at, decision FROM g ORDER BY id"""


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


def write(
    cur: Any,
    people: Sequence[tuple[int, str, str, Sequence[Any]]],
    rows: Sequence[Row],
    forms: Sequence[tuple[int, list[int], bytes, bool]],
    account_id: int | None,
    client_id: int | None,
    at: Any,
) -> None:
    """Write new persons (id, number, card, golden row), registrations, forms (person, keys, body, person is new) and events."""
    columns: list[list[Any]] = [[p[0] for p in people], [p[1] for p in people], [p[2] for p in people]]
    columns += [[p[3][k] for p in people] for k in range(len(golden.COLUMNS))]
    given: list[Any] = [numbers(columns[0]), *columns[1:], at]
    given += [
        numbers(r.source_id for r in rows),
        numbers(r.person_id for r in rows),
        numbers(r.institution_id for r in rows),
        [r.system for r in rows],
        [r.local_id for r in rows],
        [r.patient_id for r in rows],
        [r.payload for r in rows],
        [r.digest for r in rows],
        [r.kind for r in rows],
        [r.decision for r in rows],
        numbers(f[0] for f in forms),
        [numbers(f[1]) if f[1] else None for f in forms],
        [vault.close_packed(f[2]) for f in forms],
        [f[3] for f in forms],
        account_id,
        client_id,
    ]
    cur.execute(_WRITE, given, prepare=True)


def still_there(cur: Any, person_ids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    """Lock persons that newcomers are linked to against merging; those that are still there: id -> number and golden columns."""
    cur.execute(
        f"SELECT id, number, {_GOLDEN} FROM index_person WHERE id = ANY(%s::bigint[]) AND status = 'active'"
        " ORDER BY id FOR NO KEY UPDATE",
        [numbers(person_ids)],
        prepare=True,
    )
    return {row[0]: tuple(row[1:]) for row in cur.fetchall()}
