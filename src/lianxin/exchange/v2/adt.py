"""Merges: two numbers of a sender turn out to be one patient (A18, A30, A34, A36, A39, A40, A47).

Every other message feeds its patient on the way of mapped messages (:mod:`lianxin.exchange.v2.batch`).  A patient becomes a FHIR
Patient of the sender's institution, known by its local number; the index registers it as it does every Patient, so that a hospital
may feed by HL7 v2 today and by FHIR tomorrow without becoming two sources.
"""

from __future__ import annotations

import uuid
from typing import Any

from lianxin.exchange.fhir import gate
from lianxin.exchange.ihe import identifiers, merging
from lianxin.exchange.ihe.identifiers import Held
from lianxin.exchange.v2 import errors, kinds, patients
from lianxin.exchange.v2.errors import Place, Refused
from lianxin.exchange.v2.kinds import Outcome, Taken
from lianxin.exchange.v2.message import Segment
from lianxin.index.models import SourceRecord
from lianxin.record import persons, store
from lianxin.record.store import Result, Write
from lianxin.standards.text import T, Text

MERGE = ("A18", "A30", "A34", "A36", "A39", "A40", "A47")


def register() -> None:
    """Take these messages."""
    kinds.register("ADT", MERGE, merge)


def save(cur: Any, taken: Taken, pid: Segment) -> Result:
    """Store the patient of a PID: its Patient is made, or brought up to date."""
    said = patients.patient_of(taken.message, pid, taken.institution_id, taken.default_system)
    number = patients.local_number(said["identifier"])
    assert number is not None
    store.lock(cur, [f"Patient#{number[1]}"])  # the name that the door's conditional writes lock
    bodies: dict[str, dict[str, Any]] = {}
    held = identifiers.holders(cur, *number, {taken.institution_id}, bodies)
    known = next((h for h in held if h.patient_id), None)
    if known and known.patient_id not in bodies:
        bodies = identifiers.bodies_of(cur, [known.patient_id])
    if known is not None and known.patient_id in bodies:
        resource = {**patients.overlay(bodies[known.patient_id], said, pid), "id": known.patient_id}
        return _write(cur, taken, Write("update", "Patient", known.patient_id, resource, trusted=True))
    resource = {**said, "id": str(uuid.uuid4())}
    table = next((h for h in held if not h.patient_id), None)
    if table is not None:
        _adopt(table, resource["id"])
    return _write(cur, taken, Write("create", "Patient", resource["id"], resource, trusted=True))


def _adopt(table: Held, patient_id: str) -> None:
    """What came as a table until now comes as messages from now on: the registration stays the same one."""
    SourceRecord.objects.unscoped("the same number of the same institution").filter(
        pk=table.source_id
    ).update(system=persons.SYSTEM, local_id=patient_id, patient_id=patient_id)


def _write(cur: Any, taken: Taken, write: Write) -> Result:
    result = store.apply(cur, taken.scope, [write], source_institution_id=taken.institution_id)[0]
    gate.note(
        cur, taken.scope, write.method, [result], what=f"Patient/{result.id} ({'^'.join(taken.message.kind)})"
    )
    return result


def merge(cur: Any, taken: Taken) -> Outcome:
    """Numbers of the sender that turned out to be one patient: each MRG is joined into the PID before it."""
    pid: Segment | None = None
    done: list[tuple[str, Result]] = []
    for n, segment in enumerate(taken.message.segments):
        if segment.name == "PID":
            pid = segment
        elif segment.name == "MRG":
            if pid is None:
                raise Refused(
                    errors.SEQUENCE, T("MRG 段之前应有 PID 段。", "A PID comes before MRG."), Place("MRG")
                )
            done.append(_join(cur, taken, pid, segment))
        elif n and segment.name == "MSH":
            break
    if not done:
        raise Refused(errors.SEQUENCE, T("缺少 MRG 段。", "The segment MRG is missing."), Place("MRG"))
    warnings: list[Text] = [text for outcome, _ in done if (text := merging.told(outcome))]
    cur.execute("SELECT person_id FROM index_sourcerecord WHERE patient_id = %s", [done[-1][1].id])
    row = cur.fetchone()
    person_id = row[0] if row else done[-1][1].person_id
    return Outcome(person_id, warnings, results=[result for _, result in done])


def _join(cur: Any, taken: Taken, pid: Segment, mrg: Segment) -> tuple[str, Result]:
    numbers = patients.numbers_of(mrg, 1, taken.institution_id, taken.default_system)
    number = patients.local_number(numbers)
    if number is None:
        raise Refused(
            errors.REQUIRED,
            T("缺少被合并的患者标识 MRG-1。", "The identifier that is given up, MRG-1, is missing."),
            Place("MRG", 1, 1),
        )
    kept = patients.local_number(patients.numbers_of(pid, 3, taken.institution_id, taken.default_system))
    if kept == number:
        raise Refused(
            errors.DATA_TYPE,
            T(
                "PID-3 与 MRG-1 是同一标识，不能并入自身。",
                "PID-3 and MRG-1 are one identifier: it cannot be joined into itself.",
            ),
            Place("MRG", 1, 1),
        )
    gone = list(identifiers.holders(cur, *number, {taken.institution_id}))
    if not gone:
        raise Refused(
            errors.UNKNOWN_KEY,
            T(
                "贵机构没有登记过 MRG-1 的患者标识。",
                "The identifier of MRG-1 was never registered by your institution.",
            ),
            Place("MRG", 1, 1),
        )
    survivor = save(cur, taken, pid)
    keep = _source(cur, survivor.id)
    outcome = merging.resolve(
        cur, taken.scope, gone[0], keep, f"{merging.WHY} {'^'.join(taken.message.kind)}"
    )
    if gone[0].patient_id:
        _retire(cur, taken, gone[0].patient_id, survivor.id)
    return outcome, survivor


def _source(cur: Any, patient_id: str) -> Held:
    cur.execute(
        "SELECT person_id, institution_id, id FROM index_sourcerecord WHERE patient_id = %s", [patient_id]
    )
    row = cur.fetchone()
    return Held(persons.SYSTEM, patient_id, row[0], row[1], patient_id, row[2])


def _retire(cur: Any, taken: Taken, gone: str, keep: str) -> None:
    """The Patient that was given up says so itself, as ITI-104 would have it."""
    body = identifiers.bodies_of(cur, [gone]).get(gone)
    link = {"other": {"reference": f"Patient/{keep}"}, "type": "replaced-by"}
    if body is None or (body.get("active") is False and link in body.get("link", [])):
        return
    kept = {k: v for k, v in body.items() if k not in ("meta", "text")}
    links = [one for one in kept.get("link", []) if one.get("type") != "replaced-by"]
    resource = {**kept, "active": False, "link": [*links, link]}
    _write(cur, taken, Write("update", "Patient", gone, resource, trusted=True))
