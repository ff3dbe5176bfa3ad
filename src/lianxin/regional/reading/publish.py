"""The FHIR projection of reading work, written to the record in the transaction of the move.

``ServiceRequest`` (id = case number) is the order, ``Task`` (id = number + "-read") what the centre owes, ``DiagnosticReport`` (id =
number) the report in force with its findings as an ``Observation`` (number + "-findings"): what is seen and what the physician concludes
stay apart. A centre adds its own (``hooks.Centre.resources``: ImagingStudy, Specimen, waveforms, values).
"""

from __future__ import annotations

from typing import Any

from lianxin.duty.machine import Ctx
from lianxin.network.models import Practitioner
from lianxin.record import publish as record
from lianxin.record.building import doctor, instant, org, trim
from lianxin.regional.reading import hooks, reports
from lianxin.regional.reading.models import Entry, Item, Reading, Report

CS = "http://lianxin.example/cs"
ID = "http://lianxin.example/id"
LOINC = "http://loinc.org"
PRIORITY = {"routine": "routine", "urgent": "urgent", "emergency": "stat"}
SECTIONS = {"imaging": "RAD", "ecg": "EC", "laboratory": "LAB", "pathology": "PAT"}
CATEGORY = {
    "imaging": ("363679005", "Imaging"),
    "ecg": ("103693007", "Diagnostic procedure"),
    "laboratory": ("108252007", "Laboratory procedure"),
    "pathology": ("108252007", "Laboratory procedure"),
}
_TASK = {
    "ordered": "requested", "checked_in": "accepted", "acquired": "in-progress", "retake": "on-hold", "queued": "ready",
    "proposed": "in-progress", "second_read": "in-progress", "arbitration": "in-progress", "issued": "completed",
    "acknowledged": "completed", "cancelled": "cancelled",
}  # fmt: skip
_REQUEST = {"issued": "completed", "acknowledged": "completed", "cancelled": "revoked"}


def code_of(items: list[Item]) -> dict[str, Any]:
    """What was ordered as one CodeableConcept."""
    codings: list[dict[str, Any]] = []
    for item in items:
        codings.append({"system": f"{CS}/order-item", "code": item.code, "display": item.name})
        if item.loinc:
            codings.append({"system": LOINC, "code": item.loinc})
    return {"coding": codings, "text": "、".join(item.name for item in items)}


def patient(reading: Reading) -> dict[str, Any]:
    """A reference to the person."""
    return {"reference": f"Patient/{reading.person.number}"}


def publish(ctx: Ctx) -> None:
    """Write the projection of the case as it stands now."""
    reading: Reading | None = ctx.subject
    if reading is None:
        return
    state = ctx.act.to_state
    items = [o.item for o in reading.ordered.select_related("item").filter(active=True).order_by("pk")]
    resources = [
        service_request(reading, ctx.case.number, state, ctx.case.priority, items),
        task(reading, ctx.case.number, state, ctx.case.priority),
    ]
    report = ctx.extra.get("report") or reports.issued(reading)
    if report is not None:
        resources += diagnostic_report(reading, ctx.case.number, report, items)
    resources += hooks.centre(reading.centre).resources(reading)
    record.publish(resources, person_id=reading.person_id, institution_id=reading.centre_of_id)


def service_request(
    reading: Reading, number: str, state: str, priority: str, items: list[Item]
) -> dict[str, Any]:
    """The order."""
    code, display = CATEGORY[reading.centre]
    return trim(
        {
            "resourceType": "ServiceRequest",
            "id": number,
            "identifier": [
                {
                    "type": {
                        "coding": [
                            {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
                        ]
                    },
                    "system": f"{ID}/accession",
                    "value": reading.accession,
                }
            ],
            "requisition": {"system": f"{ID}/requisition", "value": reading.requisition},
            "status": _REQUEST.get(state, "active"),
            "intent": "order",
            "category": [{"coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}]}],
            "priority": PRIORITY[priority],
            "code": code_of(items),
            "subject": patient(reading),
            "authoredOn": instant(reading.ordered_at),
            "requester": doctor(reading.practitioner) if reading.practitioner else org(reading.orderer),
            "performer": [org(reading.performer)],
            "reasonCode": [
                {
                    "coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": reading.diagnosis_code}],
                    "text": reading.diagnosis or reading.diagnosis_code,
                }
            ]
            if reading.diagnosis_code
            else [{"text": reading.diagnosis}]
            if reading.diagnosis
            else [],
            "note": [{"text": reading.indication}] if reading.indication else [],
        }
    )  # fmt: skip


def claimant(reading: Reading) -> Practitioner | None:
    """Who holds a seat of the work now."""
    return Practitioner.objects.filter(
        accounts__in=Entry.objects.unscoped("the work's own seats")
        .filter(reading_id=reading.pk, state="claimed")
        .values("account_id")
    ).first()


def claimed(reading: Reading) -> None:
    """Write the Task again when a claim was taken, given back, handed over or lost: a claim moves no case."""
    case = reading.case
    record.publish(
        [task(reading, case.number, case.state, case.priority)], person_id=reading.person_id, institution_id=reading.centre_of_id
    )  # fmt: skip


def task(reading: Reading, number: str, state: str, priority: str) -> dict[str, Any]:
    """What the centre owes, as a Task vendors follow; its owner is whoever claimed it, else the centre."""
    holder = claimant(reading)
    return trim(
        {
            "resourceType": "Task",
            "id": f"{number}-read",
            "identifier": [{"system": f"{ID}/reading", "value": number}],
            "basedOn": [{"reference": f"ServiceRequest/{number}"}],
            "status": "in-progress" if holder and state == "queued" else _TASK[state],
            "businessStatus": {"coding": [{"system": f"{CS}/reading-state", "code": state}]},
            "intent": "order",
            "priority": PRIORITY[priority],
            "code": {"coding": [{"system": f"{CS}/task", "code": f"read-{reading.centre}"}]},
            "focus": {"reference": f"ServiceRequest/{number}"},
            "for": patient(reading),
            "authoredOn": instant(reading.ordered_at),
            "requester": org(reading.orderer),
            "owner": doctor(holder) if holder else org(reading.centre_of),
            "restriction": {"period": {"end": instant(reading.report_due_at)}},
            "output": [
                {
                    "type": {"coding": [{"system": LOINC, "code": "18748-4"}], "text": "报告"},
                    "valueReference": {"reference": f"DiagnosticReport/{number}"},
                }
            ]
            if reading.issued_at
            else [],
        }
    )


def diagnostic_report(
    reading: Reading, number: str, report: Report, items: list[Item]
) -> list[dict[str, Any]]:
    """The report in force and its findings."""
    section = SECTIONS[reading.centre]
    signers = [doctor(p) for p in (report.practitioner, report.approver) if p is not None]
    common = {"subject": patient(reading), "basedOn": [{"reference": f"ServiceRequest/{number}"}]}
    at = instant(reading.acquired_at or reading.ordered_at)
    findings = trim(
        {
            "resourceType": "Observation",
            "id": f"{number}-findings",
            "status": "amended" if report.reason else "final",
            **common,
            "category": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                            "code": "laboratory"
                            if reading.centre in ("laboratory", "pathology")
                            else "imaging"
                            if reading.centre == "imaging"
                            else "procedure",
                        }
                    ]
                }
            ],
            "code": {
                "coding": [{"system": LOINC, "code": "59776-5", "display": "Procedure findings Narrative"}]
            },
            "effectiveDateTime": at,
            "issued": instant(report.signed_at),
            "performer": signers or [org(reading.centre_of)],
            "valueString": report.findings,
        }
    )
    return [
        *([findings] if report.findings else []),
        trim(
            {
                "resourceType": "DiagnosticReport",
                "id": number,
                "identifier": [{"system": f"{ID}/report", "value": f"{number}-{report.version}"}],
                **common,
                "status": "amended" if report.reason else "final",
                "category": [
                    {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": section}]}
                ],
                "code": code_of(items),
                "effectiveDateTime": at,
                "issued": instant(report.signed_at),
                "performer": [org(reading.centre_of)],
                "resultsInterpreter": signers,
                "result": [{"reference": f"Observation/{number}-findings"}] if report.findings else [],
                "conclusion": report.conclusion,
            }
        ),
    ]
