"""Whose a piece is: the sender's Patient by the number it knows the person under, made or brought up to date.

A person that an institution sends by HL7 v2 today, in a document tomorrow and over FHIR next year is one Patient of that
institution (ADR 21); the index decides which person of the county that is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lianxin.exchange.ihe import identifiers
from lianxin.exchange.ihe.identifiers import Held
from lianxin.index.golden import CARD_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.index.models import SourceRecord
from lianxin.record import persons, store
from lianxin.record.store import Write

Number = tuple[str, str]
"""System and value of an identifier."""
Join = Callable[[dict[str, Any]], dict[str, Any]]
SHARED = frozenset({RESIDENT_ID_SYSTEM, CARD_SYSTEM})
"""Numbers of the person, not of the sender: they find a Patient only together with the name."""


@dataclass(frozen=True)
class Ready:
    """A Patient about to be stored. ``write`` is None when it stands so already; ``before``: as it stood until now."""

    patient_id: str
    resource: dict[str, Any]
    write: Write | None
    before: dict[str, Any] | None = None
    person_id: int | None = None


def prepare(
    cur: Any,
    institution_id: int,
    said: dict[str, Any],
    numbers: Sequence[Number],
    join: Join | None = None,
    *,
    weak: Collection[str] = (),
) -> Ready:
    """The Patient of ``institution_id`` that ``said`` is about, to be written in the caller's transaction.

    ``numbers``: what it may be known by, the best first; all are locked, so that two pieces cannot both make it.
    ``join(old)``: what is known with what is said now (default: :func:`overlay`).  A number that belongs to the person
    (identity card, health card), or of a ``weak`` system (numbers of visits, which begin anew), finds a Patient only under the
    same name: cards are lent.
    """
    store.lock(cur, [f"Patient#{value}" for _, value in numbers])
    found, tables = _find(cur, institution_id, said, numbers, SHARED | set(weak))
    if found is not None:
        held, before = found
        after = (join or (lambda old: overlay(old, said)))(before)
        resource = {**after, "id": held.patient_id}
        same = _bare(resource) == _bare(before)
        write = None if same else Write("update", "Patient", held.patient_id, resource, trusted=True)
        return Ready(held.patient_id, resource, write, before, held.person_id)
    resource = {**said, "id": str(uuid.uuid4())}
    if tables:
        _adopt(tables[0], resource["id"])
    return Ready(resource["id"], resource, Write("create", "Patient", resource["id"], resource, trusted=True))


def _find(
    cur: Any,
    institution_id: int,
    said: dict[str, Any],
    numbers: Sequence[Number],
    named: Collection[str],
) -> tuple[tuple[Held, dict[str, Any]] | None, list[Held]]:
    """The Patient known by one of the numbers as it stands, else registrations that came as a table under one."""
    tables: list[Held] = []
    for system, value in numbers:
        bodies: dict[str, dict[str, Any]] = {}
        held = identifiers.holders(cur, system, value, {institution_id}, bodies)
        for one in held:
            if not one.patient_id:
                tables += [one] if system not in named else []
                continue
            body = bodies.get(one.patient_id) or identifiers.bodies_of(cur, [one.patient_id]).get(
                one.patient_id
            )
            if body is not None and (system not in named or name_of(body) == name_of(said)):
                return (one, body), tables
    return None, tables


def _adopt(table: Held, patient_id: str) -> None:
    """What came as a table until now comes as a Patient from now on: the registration stays the same one."""
    SourceRecord.objects.unscoped("the same number of the same institution").filter(
        pk=table.source_id
    ).update(system=persons.SYSTEM, local_id=patient_id, patient_id=patient_id)


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
