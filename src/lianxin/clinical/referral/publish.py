"""The FHIR projection of a referral, written to the record in the transaction of the move.

``ServiceRequest`` (id = case number) is the intent, one ``Task`` per leg its offer to a receiver, ``Appointment`` the booking,
``Encounter`` the visit, ``Composition`` + ``DocumentReference`` the letters, ``Communication`` the conversation. A draft is
nobody else's business and is not published. The builders are pure.
"""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

from lianxin.clinical.referral import reasons, rules
from lianxin.clinical.referral.models import Leg, Letter, Message, Referral
from lianxin.duty.machine import Ctx
from lianxin.network.models import Institution
from lianxin.record import publish as record
from lianxin.record.building import doctor, instant, org, trim
from lianxin.standards import codes

CS = "http://lianxin.example/cs"
LOINC = "http://loinc.org"
PRIORITY = {"routine": "routine", "urgent": "urgent", "emergency": "stat"}
DIRECTIONS = {"up": "上转", "down": "下转", "across": "平级转诊"}
SNOMED_REFERRAL = {"system": "http://snomed.info/sct", "code": "3457005", "display": "Patient referral"}
LETTER_TYPES = {
    "outcome": ("11490-0", "Physician Discharge summary", "转诊回转单"),
    "interim": ("11506-3", "Progress note", "诊治进展"),
    "advice": ("11488-4", "Consult note", "退回诊疗建议"),
    "ward_round": ("11504-8", "Rounds note", "上级医师查房"),
    "pack": ("57133-1", "Referral note", "转诊（院）记录"),
}
ENCOUNTER_CLASS = {
    "clinic": ("AMB", "ambulatory"),
    "inpatient": ("IMP", "inpatient encounter"),
    "emergency": ("EMER", "emergency"),
}


def coding(system: str, code: str, display: str = "") -> dict[str, Any]:
    """A CodeableConcept of one coding."""
    one = {"system": system, "code": code} | ({"display": display} if display else {})
    return {"coding": [one]} | ({"text": display} if display else {})


def request_status(state: str) -> str:
    """ServiceRequest.status of a main state."""
    return {
        "draft": "draft",
        "closed": "completed",
        "cancelled": "revoked",
        "closed_no_return": "revoked",
    }.get(state, "active")


def task_status(state: str, facts: dict[str, str], leg_status: str) -> tuple[str, str]:
    """(Task.status, businessStatus code) of a leg: the table of the domain notes."""
    if leg_status == "redirected":
        return "cancelled", "redirected"
    if leg_status == "returned":
        return "rejected", "returned"
    if leg_status == "cancelled":
        return "cancelled", "closed-no-return" if state == "closed_no_return" else "cancelled"
    if state == "submitted":
        return "requested", ""
    if state == "received":
        return "received", "awaiting-information" if facts.get("info") == "asked" else "awaiting-triage"
    if state == "accepted":
        return "accepted", "waitlisted" if facts.get("booking") == "waitlisted" else "awaiting-booking"
    business = {"booked": "booked", "no_show": "no-show", "arrived": "arrived", "in_care": "awaiting-report"}
    if state in business:
        return "in-progress", business[state]
    return "completed", "closed" if state == "closed" else "awaiting-acknowledgement"


def patient(subject: Referral) -> dict[str, Any]:
    """A reference to the person as the index knows them."""
    return {"reference": f"Patient/{subject.case.patient.number}"}


def service_request(subject: Referral, case: Any) -> dict[str, Any]:
    """The clinical intent."""
    return trim(
        {
            "resourceType": "ServiceRequest",
            "id": case.number,
            "identifier": [{"system": "http://lianxin.example/id/referral", "value": case.number}],
            "basedOn": [{"reference": f"ServiceRequest/{subject.parent.case.number}"}]
            if subject.parent
            else None,
            "status": request_status(case.state),
            "intent": "order",
            "category": [
                coding(f"{CS}/referral-direction", subject.direction, DIRECTIONS[subject.direction])
            ],
            "priority": PRIORITY[case.priority],
            "code": {"coding": [SNOMED_REFERRAL], "text": "转诊"},
            "subject": patient(subject),
            "authoredOn": instant(subject.submitted_at),
            "requester": doctor(subject.from_practitioner) or org(subject.from_institution),
            "performerType": coding(f"{CS}/specialty", subject.specialty) if subject.specialty else None,
            "performer": [org(subject.to_institution)] if subject.to_institution else None,
            "reasonCode": [
                coding("http://hl7.org/fhir/sid/icd-10", subject.diagnosis_code, subject.diagnosis_name),
                *(
                    [
                        coding(
                            f"{CS}/referral-refer",
                            subject.reason_code,
                            reasons.label("refer", subject.reason_code).zh,
                        )
                    ]
                    if subject.reason_code
                    else []
                ),
            ],
            "supportingInfo": [{"reference": f"DocumentReference/{case.number}-P"}],
            "note": [{"text": subject.reason}] if subject.reason else None,
        }
    )


def task(subject: Referral, case: Any, leg: Leg) -> dict[str, Any]:
    """One offer to one receiver."""
    status, business = task_status(case.state, case.facts, leg.status)
    ended = leg.status != "open"
    return trim(
        {
            "resourceType": "Task",
            "id": f"{case.number}-{leg.number}",
            "basedOn": [{"reference": f"ServiceRequest/{case.number}"}],
            "groupIdentifier": {"system": "http://lianxin.example/id/referral", "value": case.number},
            "status": status,
            "statusReason": coding(f"{CS}/referral-reason", leg.end_code) | trim({"text": leg.end_text})
            if leg.end_code
            else None,
            "businessStatus": coding(f"{CS}/referral-business-status", business) if business else None,
            "intent": "order",
            "priority": PRIORITY[case.priority],
            "code": coding("http://hl7.org/fhir/CodeSystem/task-code", "fulfill"),
            "focus": {"reference": f"ServiceRequest/{case.number}"},
            "for": patient(subject),
            "executionPeriod": trim({"start": instant(leg.received_at), "end": instant(leg.ended_at)}),
            "authoredOn": instant(leg.opened_at),
            "lastModified": instant(case.changed_at),
            "requester": org(subject.from_institution),
            "owner": org(leg.institution),
            "restriction": None
            if ended or case.due_at is None
            else {"period": {"end": instant(case.due_at)}},
            "output": [
                {
                    "type": {"text": LETTER_TYPES[letter.kind][2]},
                    "valueReference": {"reference": f"Composition/{letter_id(letter, case)}"},
                }
                for letter in Letter.objects.unscoped("the referral's own letters").filter(
                    referral=subject, leg=leg
                )
            ],
        }
    )


def _place(institution: Institution | None) -> dict[str, Any] | None:
    """Where an appointment is: R4 lets no Organization take part, so the institution is named by its identifier."""
    if institution is None:
        return None
    return {
        "identifier": {"system": "http://lianxin.example/id/institution", "value": institution.code},
        "display": institution.name,
    }


def appointment(subject: Referral, case: Any, status: str) -> dict[str, Any]:
    """The booking, under one id: its history is the record's."""
    return trim(
        {
            "resourceType": "Appointment",
            "id": f"{case.number}-A",
            "status": status,
            "basedOn": [{"reference": f"ServiceRequest/{case.number}"}],
            "start": instant(subject.appointment_at),
            "end": instant(subject.appointment_end) if subject.appointment_at else None,
            "comment": subject.appointment_note,
            "participant": [
                {"actor": patient(subject), "status": "accepted"},
                {"actor": _place(subject.to_institution), "status": "accepted"},
            ],
        }
    )


def discharge_condition(subject: Referral, case: Any) -> dict[str, Any]:
    """The diagnosis with which the visit ended, as the hospital stated it."""
    code, name = subject.down_proposal["diagnosis_code"], subject.down_proposal["diagnosis_name"]
    status = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    return {
        "resourceType": "Condition",
        "id": f"{case.number}-D",
        "clinicalStatus": {"coding": [{"system": status, "code": "active"}]},
        "code": {"coding": [{"system": codes.ICD10, "code": code, "display": name}], "text": name},
        "subject": patient(subject),
        "encounter": {"reference": f"Encounter/{case.number}-E"},
        "recordedDate": subject.discharged_at.isoformat(timespec="seconds")
        if subject.discharged_at
        else None,
    }


def encounter(subject: Referral, case: Any) -> dict[str, Any]:
    """The visit that the referral led to."""
    code, display = ENCOUNTER_CLASS.get(
        subject.visit_kind or ("emergency" if subject.emergency else "clinic"), ENCOUNTER_CLASS["clinic"]
    )
    ended = subject.discharged_at or subject.ended_at
    if ended:
        status = "finished"
    else:
        status = "in-progress" if subject.care_started_at else "arrived"
    return trim(
        {
            "resourceType": "Encounter",
            "id": f"{case.number}-E",
            "identifier": [{"value": subject.visit_number}] if subject.visit_number else None,
            "status": status,
            "class": {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                "code": code,
                "display": display,
            },
            "subject": patient(subject),
            "basedOn": [{"reference": f"ServiceRequest/{case.number}"}],
            "period": trim({"start": instant(subject.arrived_at), "end": instant(ended)}),
            "reasonCode": [
                coding("http://hl7.org/fhir/sid/icd-10", subject.diagnosis_code, subject.diagnosis_name)
            ],
            "serviceProvider": org(subject.to_institution),
        }
    )


def letter_id(letter: Letter, case: Any) -> str:
    """FHIR id of a letter."""
    return f"{case.number}-L{letter.number}"


TITLES: dict[str, str] = (
    {code: part.label.zh for code, part in rules.PARTS.items()}
    | {code: part.label.zh for code, part in rules.LETTER_PARTS.items()}
    | {"advice": "诊疗建议", "text": "诊治进展", "findings": "查房所见", "next_round": "下次查房"}
)


def _document(
    subject: Referral, kind: str, own_id: str, at: dt.datetime, author: dict[str, Any] | None, content: dict[str, Any],
    custodian: Institution,
) -> list[dict[str, Any]]:  # fmt: skip
    code, display, title = LETTER_TYPES[kind]
    filled = [(TITLES.get(name, name), str(value)) for name, value in content.items() if value]
    sections = [
        {
            "title": head,
            "text": {
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{_escape(text)}</div>',
            },
        }
        for head, text in filled
    ]
    plain = "\n".join(f"{head}：{text}" for head, text in filled)
    kind_of = coding(LOINC, code, display) | {"text": title}
    return [
        trim(
            {
                "resourceType": "Composition", "id": own_id, "status": "final", "type": kind_of, "subject": patient(subject),
                "date": instant(at), "author": [author or org(custodian)], "title": title, "custodian": org(custodian),
                "section": sections,
            }
        ),
        trim(
            {
                "resourceType": "DocumentReference", "id": own_id, "status": "current", "docStatus": "final", "type": kind_of,
                "subject": patient(subject), "date": instant(at), "author": [author or org(custodian)],
                "custodian": org(custodian), "description": title,
                "content": [
                    {"attachment": {"contentType": "text/plain; charset=utf-8", "title": title,
                                    "data": base64.b64encode(plain.encode()).decode()}}
                ],
                "context": {"related": [{"reference": f"Composition/{own_id}"}]},
            }
        ),
    ]  # fmt: skip


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", "<br/>")


def letter_documents(subject: Referral, case: Any, letter: Letter) -> list[dict[str, Any]]:
    """A letter as Composition and DocumentReference; a ward round also as an Encounter of the upper hospital."""
    own_id, author = letter_id(letter, case), doctor(letter.practitioner)
    made = _document(subject, letter.kind, own_id, letter.sent_at, author, letter.content, letter.institution)
    if letter.kind == "ward_round":
        made.append(
            trim(
                {
                    "resourceType": "Encounter",
                    "id": f"{own_id}-E",
                    "status": "finished",
                    "class": {
                        "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                        "code": "IMP",
                        "display": "inpatient encounter",
                    },
                    "type": [coding(f"{CS}/encounter-type", "ward-round", "上级医院查房")],
                    "subject": patient(subject),
                    "basedOn": [{"reference": f"ServiceRequest/{case.number}"}],
                    "participant": [{"individual": author}] if author else None,
                    "period": {"start": instant(letter.sent_at), "end": instant(letter.sent_at)},
                    "serviceProvider": org(letter.institution),
                    "partOf": {"reference": f"Encounter/{case.number}-E"},
                }
            )
        )
    return made


def communication(subject: Referral, case: Any, message: Message) -> dict[str, Any]:
    """A line of the conversation."""
    other = (
        subject.to_institution
        if message.institution_id == subject.from_institution_id
        else subject.from_institution
    )
    return trim(
        {
            "resourceType": "Communication",
            "id": f"{case.number}-M{message.number}",
            "basedOn": [{"reference": f"ServiceRequest/{case.number}"}],
            "status": "completed",
            "category": [coding(f"{CS}/referral-message", message.kind)],
            "reasonCode": [coding(f"{CS}/referral-question", message.code)] if message.code else None,
            "subject": patient(subject),
            "sent": instant(message.at),
            "recipient": [org(other)] if other else None,
            "sender": doctor(message.practitioner) or org(message.institution),
            "payload": [{"contentString": message.text}],
        }
    )


APPOINTMENT_AFTER = {
    "book": "booked", "rebook": "booked", "reschedule": "booked", "arrive": "arrived", "no_show": "noshow",
    "slot_cancelled_by_provider": "cancelled", "slot_cancelled_by_patient": "cancelled", "displaced": "cancelled", "agree_cancel": "cancelled",
    "start_care": "fulfilled", "close_no_return": "cancelled",
}  # fmt: skip


def publish(ctx: Ctx) -> None:
    """Write what this move changed. The kernel calls it after the act, in the same transaction."""
    subject, case, name = ctx.subject, ctx.case, ctx.move.name if ctx.move else ""
    if subject.submitted_at is None:
        return
    ours: list[dict[str, Any]] = [service_request(subject, case)]
    theirs: list[dict[str, Any]] = []
    legs = list(
        Leg.objects.unscoped("the referral's own legs")
        .filter(referral=subject)
        .select_related("institution")
        .order_by("number")
    )
    for leg in legs[-2:] if name in ("redirect", "resend") else legs[-1:]:
        theirs.append(task(subject, case, leg))
    if name in ("submit", "backfill", "arrive_green"):
        ours += _document(
            subject, "pack", f"{case.number}-P", subject.submitted_at, doctor(subject.from_practitioner), subject.pack,
            subject.from_institution,
        )  # fmt: skip
    booked_before = name in ("agree_cancel", "close_no_return", "start_care") and _has_appointment(case)
    if name in APPOINTMENT_AFTER and (
        booked_before or name not in ("agree_cancel", "close_no_return", "start_care")
    ):
        theirs.append(appointment(subject, case, APPOINTMENT_AFTER[name]))
    if subject.arrived_at is not None:
        theirs.append(encounter(subject, case))
    if name == "discharge" and subject.down_proposal.get("diagnosis_code"):
        theirs.append(trim(discharge_condition(subject, case)))
    for letter in ctx.extra.get("letters", []):
        made = letter_documents(subject, case, letter)
        (ours if letter.institution_id == subject.from_institution_id else theirs).extend(made)
    for message in ctx.extra.get("messages", []):
        line = communication(subject, case, message)
        (ours if message.institution_id == subject.from_institution_id else theirs).append(line)
    record.publish(ours, person_id=subject.person_id, institution_id=subject.from_institution_id)
    if theirs:
        record.publish(theirs, person_id=subject.person_id, institution_id=subject.to_institution_id)


def _has_appointment(case: Any) -> bool:
    """Whether this case was ever booked (then its Appointment is there to be ended)."""
    from lianxin.duty.models import Act

    return Act.objects.filter(case=case, move__in=("book", "rebook")).exists()
