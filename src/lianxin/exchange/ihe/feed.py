"""ITI-104, Patient Identity Feed FHIR: what the door's conditional update of a Patient means beyond being stored.

Adding and revising are the door's own business (``PUT Patient?identifier=system|value``), and the index hears of every Patient.
Here: a Patient with a link ``replaced-by`` is a duplicate its sender resolved, and a registration that came as a table earlier
under the same number is the same patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.ihe import identifiers, merging
from lianxin.exchange.ihe.identifiers import Held
from lianxin.record import after, persons
from lianxin.record.problems import Problem, refuse

MOST_NUMBERS = 20
PLACE = "Patient.link.other"


def register() -> None:
    """Take part in every Patient that is written."""
    after.on_written("Patient", written)


def written(cur: Any, scope: Scope, done: Sequence[tuple[dict[str, Any], int | None]]) -> None:
    """Patients were written: resolve the duplicates among them."""
    for resource, _ in done:
        replaced = [one for one in resource.get("link", []) if one.get("type") == "replaced-by"]
        if replaced:
            _replaced(cur, scope, resource, replaced[0])


def own(cur: Any, patient_id: str) -> Held | None:
    """The registration that a stored Patient is."""
    cur.execute(
        "SELECT person_id, institution_id, id FROM index_sourcerecord WHERE patient_id = %s", [patient_id]
    )
    row = cur.fetchone()
    return Held(persons.SYSTEM, patient_id, row[0], row[1], patient_id, row[2]) if row else None


def _replaced(cur: Any, scope: Scope, resource: dict[str, Any], link: dict[str, Any]) -> None:
    gone = own(cur, resource["id"])
    if gone is None:
        return
    keep = _survivor(cur, link.get("other", {}), gone)
    if keep is None:
        raise _unknown()
    if keep.patient_id == gone.patient_id:
        raise refuse(
            422, "business-rule", "患者不能被自己取代", "a Patient cannot be replaced by itself", PLACE
        )
    merging.resolve(cur, scope, gone, keep)


def _survivor(cur: Any, other: dict[str, Any], gone: Held) -> Held | None:
    """Whom the link names, by identifier or by reference: only among the sender's own registrations."""
    identifier = other.get("identifier") or {}
    if identifier.get("system") and identifier.get("value"):
        found = identifiers.holders(cur, identifier["system"], identifier["value"], {gone.institution_id})
        found = [h for h in found if h.patient_id != gone.patient_id] or found
        if found:
            return found[0]
    kind, _, patient_id = str(other.get("reference", "")).rpartition("/")
    if kind.rpartition("/")[2] == "Patient" and patient_id and not persons.is_number(patient_id):
        held = own(cur, patient_id)
        if held is not None and held.institution_id == gone.institution_id:
            return held
    return None


def _unknown() -> Problem:
    return refuse(
        422,
        "not-found",
        "取代者不是贵机构已登记的患者：请先发送保留的患者，再发送被合并的患者",
        "the one it is replaced by is no patient your institution has registered: send the survivor first, then the duplicate",
        PLACE,
    )
