"""Which identifiers a person has, and who holds one: over registrations in the index and Patients in the record alike.

A registration that came as a FHIR Patient (or as HL7 v2, which becomes one) is known to the index by the Patient's id, and its
identifiers are those of the Patient as it stands now; one that came as a table is known by its own system and number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lianxin.access.scope import Scope
from lianxin.index import numbers
from lianxin.index.golden import CARD_SYSTEM, NUMBER_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.record import persons, search, text
from lianxin.record.problems import Problem

PLATFORM_SYSTEMS = frozenset({NUMBER_SYSTEM, CARD_SYSTEM})
"""Domains of the platform itself: the person number 主索引号 and the number of the e-health card 电子健康卡."""
_DOCUMENTS = ("http://lianxin.example/id/document-", "urn:oid:2.16.156.10011.1.3", RESIDENT_ID_SYSTEM)
_LOOKING = Scope.system("cross-reference of identifiers")
MOST = 200


@dataclass(frozen=True)
class Held:
    """One identifier of a person: whose registration says so (0: the platform), and the Patient it stands in, if any."""

    system: str
    value: str
    person_id: int
    institution_id: int
    patient_id: str = ""
    source_id: int = 0


def is_document(system: str) -> bool:
    """Whether a system is that of identity documents, which no cross-reference gives out."""
    return any(system.startswith(one) for one in _DOCUMENTS)


def plain(value: str) -> str:
    """A search value taken literally."""
    return re.sub(r"([\\|,$])", r"\\\1", value)


def holders(
    cur: Any,
    system: str,
    value: str,
    institution_ids: Iterable[int] | None = None,
    bodies: dict[str, dict[str, Any]] | None = None,
) -> list[Held]:
    """Registrations that hold an identifier; ``institution_ids``: only theirs. The platform's own numbers belong to nobody (0).

    ``bodies`` is filled with the Patients that were read on the way, by id, as :func:`bodies_of` would give them.
    """
    if not system or not value:
        return []
    if system in PLATFORM_SYSTEMS:
        return _platform(cur, system, value)
    ids = None if institution_ids is None else sorted(institution_ids)
    found = []
    if ids is None:
        cur.execute("SELECT id FROM network_institution")
        ids_of_all = [row[0] for row in cur.fetchall()]
    cur.execute(
        "SELECT s.person_id, s.institution_id, coalesce(s.patient_id, ''), s.id FROM index_sourcerecord s"
        " WHERE s.institution_id = ANY(%s::bigint[]) AND s.system = %s AND s.local_id = %s ORDER BY s.id",
        [ids if ids is not None else ids_of_all, system, value],
    )
    found += [Held(system, value, *row) for row in cur.fetchall()]
    known = {h.patient_id for h in found if h.patient_id}
    for patient_id, body in _patients(cur, system, value).items():
        if bodies is not None:
            bodies[patient_id] = text.parse(body.encode())
        if patient_id not in known:
            found += [
                Held(system, value, person, institution, patient_id, source)
                for person, institution, source in _source_of(cur, patient_id)
                if ids is None or institution in ids
            ]
    return found


def _platform(cur: Any, system: str, value: str) -> list[Held]:
    number = value if system == NUMBER_SYSTEM else numbers.number_of_card(value)
    cur.execute(
        "SELECT number FROM index_person WHERE number = %s AND %s IN (number, card_number)", [number, value]
    )
    row = cur.fetchone()
    person_id = persons.by_number(cur, row[0]) if row else None
    return [] if person_id is None else [Held(system, value, person_id, 0)]


def _patients(cur: Any, system: str, value: str) -> dict[str, str]:
    """Bodies by id of Patients with this identifier, whoever sent them (what may be told of them is asked afterwards)."""
    try:
        page = search.search(
            cur,
            _LOOKING,
            "Patient",
            [("identifier", f"{plain(system)}|{plain(value)}"), ("_count", str(MOST))],
        )
    except Problem:  # not a token the search understands: nobody has it
        return {}
    return {r.id: r.body for r in page.entries if not persons.is_number(r.id)}


def _source_of(cur: Any, patient_id: str) -> list[tuple[int, int, int]]:
    cur.execute(
        "SELECT person_id, institution_id, id FROM index_sourcerecord WHERE patient_id = %s", [patient_id]
    )
    return [tuple(row) for row in cur.fetchall()]


def of_person(cur: Any, person_id: int) -> list[Held]:
    """Every identifier of a living person but those of identity documents: the platform's first, then by registration."""
    return of_people(cur, [person_id]).get(person_id, [])


def of_people(cur: Any, person_ids: Sequence[int]) -> dict[int, list[Held]]:
    """The same for many (those that live); a Patient that its sender replaced (``active`` false) or deleted has none."""
    cur.execute(
        "SELECT id, number, card_number FROM index_person WHERE id = ANY(%s::bigint[]) AND status = 'active'",
        [list(person_ids)],
    )
    found = {
        pk: [Held(NUMBER_SYSTEM, number, pk, 0), Held(CARD_SYSTEM, card, pk, 0)]
        for pk, number, card in cur.fetchall()
    }
    cur.execute(
        "SELECT id, person_id, institution_id, system, local_id, patient_id FROM (SELECT s.*, row_number() OVER (PARTITION BY person_id"
        " ORDER BY id) AS place FROM index_sourcerecord s WHERE person_id = ANY(%s::bigint[])) ranked WHERE place <= %s ORDER BY id",
        [list(found), MOST],
    )
    sources = cur.fetchall()
    bodies = bodies_of(cur, [s[5] for s in sources if s[5]])
    for source_id, person_id, institution_id, system, local_id, patient_id in sources:
        mine = found[person_id]
        if system != persons.SYSTEM:
            mine.append(Held(system, local_id, person_id, institution_id, patient_id or "", source_id))
        body = bodies.get(patient_id or "")
        if body is None or body.get("active") is False:
            continue
        for one in body.get("identifier", []):
            if (
                one.get("system")
                and one.get("value")
                and one.get("use") != "old"
                and not is_document(one["system"])
            ):
                held = Held(one["system"], one["value"], person_id, institution_id, patient_id, source_id)
                if (held.system, held.value) not in {(h.system, h.value) for h in mine}:
                    mine.append(held)
    return found


def bodies_of(cur: Any, patient_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Patients as they stand now, by id; deleted ones are left out."""
    found: dict[str, dict[str, Any]] = {}
    for at in range(0, len(patient_ids), MOST):
        some = ",".join(patient_ids[at : at + MOST])
        page = search.search(cur, _LOOKING, "Patient", [("_id", some), ("_count", str(MOST))])
        found.update((r.id, text.parse(r.body.encode())) for r in page.entries)
    return found
