"""Documents out: one of the ten kinds composed from the record, registered, and handed on.

What goes in is what the asker may see of the person (and of one visit); what comes out is in the registry as issued here, a new
version each time.  Exports call :func:`issue`, systems ``GET /documents/<kind>``, people the page.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.exchange.cda import kinds, reading, registry, writing
from lianxin.exchange.cda.kinds import Kind
from lianxin.exchange.cda.model import Code, Header, Id
from lianxin.exchange.cda.registry import Registered
from lianxin.exchange.cda.registry_reference import LABELS
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.fhir import gate
from lianxin.network.models import Institution, Practitioner
from lianxin.record import search, store, text
from lianxin.record.store import Result
from lianxin.standards.text import T

KINDS = ("500.2", "500.4", "500.5", "500.6", "500.7", "500.49", "483.20", "483.12", "483.13", "483.16")
"""What is written: 门诊病历, 西药处方, 中药处方, 检查报告, 检验报告, 出院记录, 转诊记录, 高血压随访, 糖尿病随访, 成人健康体检."""
TYPES: dict[str, tuple[str, ...]] = {
    "500.4": ("Condition", "MedicationRequest"),
    "500.5": ("Condition", "MedicationRequest"),
    "500.6": ("Condition", "DiagnosticReport", "Observation", "Procedure"),
    "500.7": ("Condition", "DiagnosticReport", "Observation"),
}
"""What a kind is made of; every other kind of all of :data:`ALL`."""
ALL = (
    "Condition", "Observation", "DiagnosticReport", "MedicationRequest", "MedicationStatement", "Procedure", "ServiceRequest",
    "CarePlan", "Immunization",
)  # fmt: skip
MOST = 400
"""Resources of one document at most."""


@dataclass
class _Given:
    """What a document is made of."""

    kind: Kind
    patient: dict[str, Any]
    patient_id: str
    person_id: int
    encounter: dict[str, Any] | None
    resources: list[dict[str, Any]]


def issue(scope: Scope, kind: str, patient: str, *, encounter: str = "") -> bytes:
    """The document's bytes; see :func:`issued`."""
    return issued_with_bytes(scope, kind, patient, encounter=encounter)[1]


def issued(scope: Scope, kind: str, patient: str, *, encounter: str = "") -> Registered:
    """Compose and register a document; see :func:`issued_with_bytes`."""
    return issued_with_bytes(scope, kind, patient, encounter=encounter)[0]


def issued_with_bytes(
    scope: Scope, kind: str, patient: str, *, encounter: str = ""
) -> tuple[Registered, bytes]:
    """Compose a document of ``kind`` ("500.7") for a patient, register it as issued by the scope's institution, and give its bytes.

    ``patient``: a person number or a Patient id; ``encounter``: an Encounter id (default: the latest visit of the kind's
    setting, else everything of the person).  Refuses an unknown kind, nobody, no relationship, and a person of whom there is
    nothing to say.  Audited as an export of that person.
    """
    known = kinds.KINDS.get(kind)
    if known is None or kind not in KINDS:
        raise Refusal(
            "not-supported",
            T("平台不出具这类文档：{kind}。", "Documents of this kind are not issued: {kind}.").format(
                kind=kind[:20]
            ),
        )
    if scope.institution_id is None:
        raise Refusal("forbidden", T("须以机构身份出具文档。", "A document is issued by an institution."))
    institution = Institution.objects.get(pk=scope.institution_id)

    def work(cur: Any) -> tuple[Registered, bytes]:
        given = _given(cur, scope, known, patient, encounter)
        body = writing.write(known, given.resources, _header(scope, institution, given))
        document = reading.read(body)
        made = registry.enter_issued(cur, institution, document, body, given.patient_id)
        assert made.then is not None
        made.then(cur)
        results = store.apply(cur, scope, made.writes, source_institution_id=institution.pk)
        gate.note_all(cur, scope, [("create", one) for one in results])
        what = f"DocumentReference/{made.extra.reference}"
        audit.write(scope, "export", person_id=given.person_id, what=what, detail={"kind": kind})
        return made.extra, body

    done: tuple[Registered, bytes] = gate.writing(work)
    return done


# ------------------------------------------------------------------------------------------------------------ what goes in


def _given(cur: Any, scope: Scope, kind: Kind, patient: str, encounter: str) -> _Given:
    found = store.read(cur, scope, "Patient", patient)
    if found is None or found.deleted or found.person_id is None or not _open(cur, scope, found.person_id):
        raise Refusal(
            "not-found",
            T("没有您可查看的这位患者。", "There is no such patient that you may see."),
            "patient",
        )
    visit = _visit(cur, scope, kind, patient, encounter)
    asked = [("patient", patient)]
    if visit is not None:
        asked.append(("encounter", f"Encounter/{visit['id']}"))
    resources: list[dict[str, Any]] = []
    for rtype in TYPES.get(kind.number, ALL):
        resources += _found(cur, scope, rtype, asked)
    allergies = _found(cur, scope, "AllergyIntolerance", [("patient", patient)])
    if not resources and visit is None:
        raise Refusal(
            "not-found",
            T(
                "健康档案中没有可写入该文档的内容。",
                "The record holds nothing that such a document would say.",
            ),
        )
    return _Given(
        kind,
        {**text.parse(found.body.encode()), "id": found.id},
        _own_patient(cur, scope, found),
        found.person_id,
        visit,
        [*([visit] if visit else []), *allergies, *resources][:MOST],
    )


def _open(cur: Any, scope: Scope, person_id: int) -> bool:
    return person_id in relationships.seen(scope, [person_id], cursor=cur)


def _own_patient(cur: Any, scope: Scope, found: Result) -> str:
    """The Patient that the document is registered under: the institution's own when it has one, else the one asked for."""
    cur.execute(
        "SELECT patient_id FROM index_sourcerecord WHERE person_id = %s AND institution_id = %s AND patient_id IS NOT NULL"
        " ORDER BY id DESC LIMIT 1",
        [found.person_id, scope.institution_id],
    )
    row = cur.fetchone()
    return str(row[0]) if row else found.id


def _visit(cur: Any, scope: Scope, kind: Kind, patient: str, encounter: str) -> dict[str, Any] | None:
    if encounter:
        asked = [("patient", patient), ("_id", encounter)]
        found = _found(cur, scope, "Encounter", asked)
        if not found:
            raise Refusal(
                "not-found",
                T("没有这位患者的这次就诊。", "There is no such visit of this patient."),
                "encounter",
            )
        return found[0]
    if not kind.setting:
        return None
    asked = [("patient", patient), ("class", kind.setting), ("_sort", "-date"), ("_count", "1")]
    return next(iter(_found(cur, scope, "Encounter", asked)), None)


def _found(cur: Any, scope: Scope, rtype: str, asked: list[tuple[str, str]]) -> list[dict[str, Any]]:
    if not any(name == "_count" for name, _ in asked):
        asked = [*asked, ("_count", str(MOST))]
    page = search.search(cur, scope, rtype, asked)
    return [text.parse(r.body.encode()) for r in page.entries]


# ------------------------------------------------------------------------------------------------------------------ header


def _header(scope: Scope, institution: Institution, given: _Given) -> Header:
    """A new version of this institution's document of the kind about this visit (or this person), by who asks for it."""
    about = given.encounter["id"] if given.encounter else given.patient_id
    series = uuid.uuid5(uuid.NAMESPACE_URL, f"{institution.code}/{given.kind.number}/{about}")
    set_id = Id(writing.DOCUMENTS, str(series))
    author: dict[str, Any] = {"display": scope.name or institution.name}
    if scope.practitioner_id is not None:
        doctor = Practitioner.objects.get(pk=scope.practitioner_id)
        author = {"display": doctor.name, "identifier": {"value": doctor.code}}
    header = writing.header_of(
        given.patient,
        set_id=set_id,
        version=registry.next_version(institution, str(set_id)),
        author=author,
        organization={"identifier": [{"value": institution.code}], "name": institution.name},
        encounter=given.encounter,
    )
    header.title = given.kind.zh
    if secret := _secret(given):
        header.confidentiality = Code(secret, "2.16.840.1.113883.5.25", LABELS[secret], "Confidentiality")
    return header


def _secret(given: _Given) -> str:
    """As confidential as the most confidential of what is in it ("" for nothing)."""
    labels = {
        label.get("code") for one in given.resources for label in one.get("meta", {}).get("security", [])
    }
    return next((code for code in ("V", "R") if code in labels), "")
