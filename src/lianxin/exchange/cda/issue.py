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
from lianxin.exchange.cda import kinds, reading, registry
from lianxin.exchange.cda.kinds import Kind
from lianxin.exchange.cda.model import Code, Header, Id, Org, Party, Patient
from lianxin.exchange.cda.registry import Registered
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.fhir import gate
from lianxin.index.golden import CARD_SYSTEM, NUMBER_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.network.models import Institution, Practitioner
from lianxin.record import search, store, text
from lianxin.record.store import Result
from lianxin.standards import clock
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
PERSON_NUMBERS = "1.2.156.10011.99.1"
"""Root under which the platform's person numbers stand in its own documents."""
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
    from lianxin.exchange.cda import writing

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
        header = _header(cur, scope, institution, given)
        body = writing.write(kind, header, given.resources)
        document = reading.read(body)
        made = registry.enter_issued(cur, institution, document, body, given.patient_id)
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


def _header(cur: Any, scope: Scope, institution: Institution, given: _Given) -> Header:
    now = clock.now().astimezone(clock.ZONE)
    stamp = f"{now:%Y%m%d%H%M%S}"
    where = f"{given.encounter['id']}" if given.encounter else given.kind.number
    series = f"{institution.code}.{given.kind.number}.{given.patient_id}.{where}"
    set_id = Id("2.16.156.10011.1.1", str(uuid.uuid5(uuid.NAMESPACE_URL, series)))
    org = Org(ids=[Id("2.16.156.10011.1.5", institution.uscc or institution.code)], name=institution.name)
    author = Party(role="author", time=stamp, name=scope.name, org=org)
    if scope.practitioner_id is not None:
        doctor = Practitioner.objects.get(pk=scope.practitioner_id)
        author.name, author.ids = doctor.name, [Id("2.16.156.10011.1.7", doctor.code)]
    return Header(
        id=Id("2.16.156.10011.1.1", str(uuid.uuid4())),
        set_id=set_id,
        version=str(registry.next_version(institution, str(set_id))),
        time=stamp,
        title=given.kind.zh,
        code=Code(given.kind.code, kinds.CODES, given.kind.zh),
        confidentiality=Code(_secret(given), "2.16.840.1.113883.5.25"),
        language="zh-CN",
        patient=patient_of(given.patient),
        authors=[author],
        custodian=org,
    )


SEXES = {
    "male": ("1", "男性"),
    "female": ("2", "女性"),
    "other": ("9", "未说明的性别"),
    "unknown": ("0", "未知的性别"),
}


def patient_of(resource: dict[str, Any]) -> Patient:
    """A FHIR Patient as recordTarget."""
    made = Patient()
    for one in resource.get("identifier", []):
        system, value = str(one.get("system", "")), str(one.get("value", ""))
        if system == RESIDENT_ID_SYSTEM:
            made.resident_id = value
            made.ids.append(Id("2.16.156.10011.1.3", value))
        elif system == CARD_SYSTEM:
            made.card = value
            made.ids.append(Id("2.16.156.10011.1.19", value))
        elif system.startswith("urn:oid:") and value:
            made.ids.append(Id(system.removeprefix("urn:oid:"), value))
        elif system == NUMBER_SYSTEM:
            made.ids.append(Id(PERSON_NUMBERS, value))
    names = resource.get("name") or [{}]
    made.name = names[0].get("text") or f"{names[0].get('family', '')}{''.join(names[0].get('given', []))}"
    code, words = SEXES.get(resource.get("gender", ""), SEXES["unknown"])
    made.sex = Code(code, "2.16.156.10011.2.3.3.4", words)
    made.birth = str(resource.get("birthDate", "")).replace("-", "")
    made.addresses = [a["text"] for a in resource.get("address", []) if a.get("text")]
    made.phones = [t["value"] for t in resource.get("telecom", []) if t.get("value")]
    return made


def _secret(given: _Given) -> str:
    """As confidential as the most confidential of what is in it."""
    labels = {
        label.get("code") for one in given.resources for label in one.get("meta", {}).get("security", [])
    }
    return "V" if "V" in labels else "R" if "R" in labels else "N"
