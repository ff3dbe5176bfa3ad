"""Whose a piece is: the sender's Patient by the number it knows the person under, made or brought up to date.

A person that an institution sends by HL7 v2 today, in a document tomorrow and over FHIR next year is one Patient of that
institution (ADR 21); the index decides which person of the county that is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.ihe import identifiers
from lianxin.index.golden import CARD_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.index.models import SourceRecord
from lianxin.record import persons, search, store, text
from lianxin.record.store import Write

Number = tuple[str, str]
"""System and value of an identifier."""
Join = Callable[[dict[str, Any]], dict[str, Any]]
SHARED = frozenset({RESIDENT_ID_SYSTEM, CARD_SYSTEM})
"""Numbers of the person, not of the sender: they find a Patient only together with the name."""


LOOKING = Scope.system("whose a piece is")
CHUNK = 60
"""Numbers of one search."""


@dataclass(frozen=True)
class Ready:
    """A Patient about to be stored. ``write`` is None when it stands so already; ``before``: as it stood until now.

    ``adopts``: the registration (of a table) that it is from now on; see :func:`adopt`.
    """

    patient_id: str
    resource: dict[str, Any]
    write: Write | None
    before: dict[str, Any] | None = None
    person_id: int | None = None
    adopts: int = 0


@dataclass
class Known:
    """The Patients of an institution that have one of some numbers, as they stand (or will, after what was prepared from here)."""

    institution_id: int
    patients: dict[str, tuple[int | None, dict[str, Any]]] = field(default_factory=dict)
    by_number: dict[Number, list[str]] = field(default_factory=dict)
    tables: dict[Number, int] = field(default_factory=dict)

    def put(self, patient_id: str, person_id: int | None, resource: dict[str, Any]) -> None:
        """A Patient as it stands from now on."""
        self.patients[patient_id] = (person_id, resource)
        for one in resource.get("identifier", []):
            holding = self.by_number.setdefault((one.get("system", ""), one.get("value", "")), [])
            if patient_id not in holding:
                holding.append(patient_id)


def look_up(cur: Any, institution_id: int, numbers: Collection[Number]) -> Known:
    """What is known of ``numbers`` at an institution: one search and two look-ups, however many there are."""
    known = Known(institution_id)
    wanted = sorted(set(numbers))
    if not wanted:
        return known
    bodies: dict[str, dict[str, Any]] = {}
    for at in range(0, len(wanted), CHUNK):
        token = ",".join(f"{identifiers.plain(s)}|{identifiers.plain(v)}" for s, v in wanted[at : at + CHUNK])
        page = search.search(cur, LOOKING, "Patient", [("identifier", token), ("_count", "1000")])
        bodies.update((r.id, text.parse(r.body.encode())) for r in page.entries)
    cur.execute(
        "SELECT s.id, s.person_id, s.patient_id, s.system, s.local_id FROM index_sourcerecord s WHERE s.institution_id = %s"
        " AND (s.patient_id = ANY(%s::text[]) OR (s.system, s.local_id) IN (SELECT * FROM unnest(%s::text[], %s::text[])))"
        " ORDER BY s.id",
        [institution_id, list(bodies), [s for s, _ in wanted], [v for _, v in wanted]],
    )
    rows = cur.fetchall()
    missing = [row[2] for row in rows if row[2] and row[2] not in bodies]
    bodies.update(identifiers.bodies_of(cur, missing) if missing else {})
    for source_id, person_id, patient_id, system, local_id in rows:
        if patient_id and patient_id in bodies:
            known.put(patient_id, person_id, bodies[patient_id])
            if (system, local_id) in wanted:
                known.by_number.setdefault((system, local_id), []).append(patient_id)
        elif not patient_id:
            known.tables[system, local_id] = source_id
    return known


def prepare(
    cur: Any,
    institution_id: int,
    said: dict[str, Any],
    numbers: Sequence[Number],
    join: Join | None = None,
    *,
    weak: Collection[str] = (),
    known: Known | None = None,
) -> Ready:
    """The Patient of ``institution_id`` that ``said`` is about, to be written in the caller's transaction.

    ``numbers``: what it may be known by, the best first; they are locked (:func:`locks`), so that two pieces cannot both make it.
    ``join(old)``: what is known with what is said now (default: :func:`overlay`).  A number that belongs to the person
    (identity card, health card), or of a ``weak`` system (numbers of visits, which begin anew), finds a Patient only under the
    same name: cards are lent.  ``known``: what was looked up for many; then the caller holds the locks and calls :func:`adopt`,
    and nothing is written here.
    """
    alone = known is None
    if known is None:
        store.lock(cur, locks(numbers))
        known = look_up(cur, institution_id, numbers)
    ready = _ready(known, said, numbers, join, SHARED | set(weak))
    known.put(ready.patient_id, ready.person_id, ready.resource)
    if alone:
        adopt(ready)
    return ready


def locks(numbers: Sequence[Number]) -> list[str]:
    """Names locked while a Patient with these numbers is made (those that the door's conditional writes lock too)."""
    return [f"Patient#{value}" for _, value in numbers]


def _ready(
    known: Known, said: dict[str, Any], numbers: Sequence[Number], join: Join | None, named: Collection[str]
) -> Ready:
    table = 0
    for number in numbers:
        for patient_id in known.by_number.get(number, ()):
            person_id, before = known.patients[patient_id]
            if number[0] in named and name_of(before) != name_of(said):
                continue
            after = join(before) if join else overlay(before, said)
            resource = {**after, "id": patient_id}
            same = _bare(resource) == _bare(before)
            write = None if same else Write("update", "Patient", patient_id, resource, trusted=True)
            return Ready(patient_id, resource, write, before, person_id)
        if not table and number[0] not in named:
            table = known.tables.get(number, 0)
    resource = {**said, "id": str(uuid.uuid4())}
    write = Write("create", "Patient", resource["id"], resource, trusted=True)
    return Ready(resource["id"], resource, write, adopts=table)


def adopt(ready: Ready) -> None:
    """What came as a table until now comes as a Patient from now on: the registration stays the same one."""
    if ready.adopts:
        SourceRecord.objects.unscoped("the same number of the same institution").filter(
            pk=ready.adopts
        ).update(system=persons.SYSTEM, local_id=ready.patient_id, patient_id=ready.patient_id)


def name_of(patient: dict[str, Any]) -> str:
    """The name as one word, for comparing: blanks and case do not count."""
    for one in patient.get("name") or []:
        text = one.get("text") or f"{one.get('family', '')}{''.join(one.get('given') or [])}"
        if text:
            return "".join(str(text).split()).casefold()
    return ""


def _bare(resource: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in resource.items() if k not in ("meta", "text", "id")}


def overlay(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What was known with what is said now: silence says nothing, numbers of one system replace, others are kept."""
    kept = {k: v for k, v in old.items() if k not in ("meta", "text")}
    systems = {i.get("system") for i in new.get("identifier", []) if i.get("system")}
    earlier = [
        i for i in old.get("identifier", []) if i.get("system") not in systems and i not in new["identifier"]
    ]
    return {**kept, **new, "identifier": [*new.get("identifier", []), *earlier]}
