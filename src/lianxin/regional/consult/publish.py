"""The FHIR projection of a consultation, written to the record in the transaction of the move.

``ServiceRequest`` (id = number, category *consult*) and ``Task`` (number + "-consult") are the request and what is owed; ``Appointment``
(number + "-A") the time agreed; ``Encounter`` (number + "-E", class VR) the consultation; ``Communication`` a question with its answer;
``Composition`` and ``DocumentReference`` (number + "-S") the summary, (number + "-O<seat>") an expert's own opinion.
"""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

from lianxin.duty.machine import Ctx
from lianxin.network.models import Institution
from lianxin.record import publish as record
from lianxin.record.building import doctor, instant, org, trim
from lianxin.regional.consult import guards
from lianxin.regional.consult.models import Consult, Material, Opinion, Seat

CS = "http://lianxin.example/cs"
ID = "http://lianxin.example/id"
LOINC = "http://loinc.org"
PRIORITY = {"routine": "routine", "urgent": "urgent", "emergency": "stat"}
TYPE = {
    "coding": [{"system": LOINC, "code": "11488-4", "display": "Consult note"}],
    "text": "会诊意见书",
}
_TASK = {
    "requested": "requested", "assigned": "received", "scheduled": "accepted", "consulting": "in-progress", "asked": "on-hold",
    "concluded": "completed", "done": "completed", "refused": "rejected", "cancelled": "cancelled",
}  # fmt: skip
_REQUEST = {
    "asked": "on-hold",
    "concluded": "completed",
    "done": "completed",
    "refused": "revoked",
    "cancelled": "revoked",
}


def patient(subject: Consult) -> dict[str, Any]:
    """A reference to the person."""
    return {"reference": f"Patient/{subject.person.number}"}


def publish(ctx: Ctx) -> None:
    """Write the projection of the case as it stands now."""
    subject: Consult | None = ctx.subject
    if subject is None:
        return
    number, state = ctx.case.number, ctx.act.to_state
    seats = guards.seats(subject)
    resources = [
        service_request(subject, number, state, ctx.case.priority, seats),
        task(subject, number, state, ctx.case.priority, seats),
    ]
    if subject.mode == "booked":
        resources += appointment(ctx, subject, number, state, seats)
    if subject.begun_at is not None:
        resources.append(encounter(subject, number, state, seats))
    if ctx.act.move in ("ask", "answer"):
        resources.append(communication(ctx, subject, number))
    record.publish(resources, person_id=subject.person_id, institution_id=subject.requester_id)
    if ctx.act.move in ("opine", "conclude", "amend"):  # an opinion is its author's institution's
        for row in newest(subject):
            record.publish(
                _documents(subject, number, row),
                person_id=subject.person_id,
                institution_id=row.institution_id,
            )


def _live(seats: list[Seat]) -> list[Seat]:
    return [s for s in seats if s.state != "left"]


def _who(seat: Seat) -> dict[str, Any]:
    return doctor(seat.practitioner) or org(seat.institution) or {}


def service_request(
    subject: Consult, number: str, state: str, priority: str, seats: list[Seat]
) -> dict[str, Any]:
    """The request with the question, the materials and who is asked."""
    materials = Material.objects.unscoped("the consultation's own").filter(consult=subject).order_by("pk")
    reason: dict[str, Any] = {"text": subject.diagnosis}
    if subject.diagnosis_code:
        reason["coding"] = [{"system": "http://hl7.org/fhir/sid/icd-10", "code": subject.diagnosis_code}]
    return trim(
        {
            "resourceType": "ServiceRequest",
            "id": number,
            "identifier": [{"system": f"{ID}/consult", "value": number}],
            "status": _REQUEST.get(state, "active"),
            "intent": "order",
            "category": [
                {
                    "coding": [{"system": "http://snomed.info/sct", "code": "11429006", "display": "Consultation"}],
                    "text": "consult",
                }
            ],
            "priority": PRIORITY[priority],
            "code": {
                "coding": [{"system": f"{CS}/consult-mode", "code": subject.mode}], "text": f"远程会诊（{subject.mode_label.zh}）",
            },
            "subject": patient(subject),
            "occurrenceDateTime": instant(subject.scheduled_at),
            "authoredOn": instant(subject.requested_at),
            "requester": doctor(subject.practitioner) if subject.practitioner else org(subject.requester),
            "performer": [_who(s) for s in _live(seats)],
            "reasonCode": [reason],
            "supportingInfo": [{"reference": m.ref} for m in materials],
            "note": [{"text": subject.question}],
        }
    )  # fmt: skip


def task(subject: Consult, number: str, state: str, priority: str, seats: list[Seat]) -> dict[str, Any]:
    """What is owed, as a Task vendors follow."""
    host = next((s for s in _live(seats) if s.host), None)
    return trim(
        {
            "resourceType": "Task",
            "id": f"{number}-consult",
            "identifier": [{"system": f"{ID}/consult", "value": number}],
            "basedOn": [{"reference": f"ServiceRequest/{number}"}],
            "status": _TASK[state],
            "businessStatus": {"coding": [{"system": f"{CS}/consult-state", "code": state}]},
            "intent": "order",
            "priority": PRIORITY[priority],
            "code": {"coding": [{"system": f"{CS}/task", "code": "consult"}]},
            "focus": {"reference": f"ServiceRequest/{number}"},
            "for": patient(subject),
            "authoredOn": instant(subject.requested_at),
            "requester": org(subject.requester),
            "owner": org(host.institution if host else subject.desk),
            "output": [
                {"type": TYPE, "valueReference": {"reference": f"Composition/{number}-S"}},
            ]
            if subject.concluded_at
            else [],
        }
    )


def appointment(
    ctx: Ctx, subject: Consult, number: str, state: str, seats: list[Seat]
) -> list[dict[str, Any]]:
    """The time agreed: proposed, booked, missed, fulfilled or cancelled; nothing before a time was named."""
    at = ctx.extra.get("was_at") or subject.scheduled_at
    if at is None:
        return []
    status = {
        "requested": "proposed",
        "assigned": "proposed",
        "cancelled": "cancelled",
        "refused": "cancelled",
        "concluded": "fulfilled",
        "done": "fulfilled",
    }.get(state, "booked")
    if ctx.act.move in ("missed", "decline", "timeout"):
        status = "noshow" if ctx.act.move == "missed" else "cancelled"
    taken = "accepted" if status in ("booked", "fulfilled", "noshow") else "needs-action"
    return [
        trim(
            {
                "resourceType": "Appointment",
                "id": f"{number}-A",
                "status": status,
                "basedOn": [{"reference": f"ServiceRequest/{number}"}],
                "appointmentType": {"text": "远程会诊"},
                "start": instant(at),
                "end": instant(at + dt.timedelta(minutes=30)),
                "participant": [
                    {"actor": patient(subject), "required": "information-only", "status": "accepted"},
                    *(
                        {"actor": doctor(s.practitioner), "status": taken}
                        for s in _live(seats)
                        if s.practitioner
                    ),
                ],
            }
        )
    ]


def encounter(subject: Consult, number: str, state: str, seats: list[Seat]) -> dict[str, Any]:
    """The consultation itself: a virtual encounter of the requester, the experts taking part."""
    ended = subject.concluded_at or (subject.acknowledged_at if state == "done" else None)
    status = "finished" if ended else "cancelled" if state in ("cancelled", "refused") else "in-progress"
    return trim(
        {
            "resourceType": "Encounter",
            "id": f"{number}-E",
            "status": status,
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR", "display": "virtual"},
            "type": [{"text": "远程会诊"}],
            "subject": patient(subject),
            "basedOn": [{"reference": f"ServiceRequest/{number}"}],
            "participant": [
                {"individual": doctor(s.practitioner), "period": trim({"start": instant(subject.begun_at)})}
                for s in _live(seats) if s.practitioner
            ],
            "period": trim({"start": instant(subject.begun_at), "end": instant(ended)}),
            "reasonCode": [{"text": subject.diagnosis}],
            "serviceProvider": org(subject.requester),
        }
    )  # fmt: skip


def communication(ctx: Ctx, subject: Consult, number: str) -> dict[str, Any]:
    """A question put to the requester, or the answer."""
    asked = ctx.act.move == "ask"
    sender = Institution.objects.filter(pk=ctx.act.institution_id or 0).first() or subject.desk
    return trim(
        {
            "resourceType": "Communication",
            "id": f"{number}-C{ctx.act.seq}",
            "basedOn": [{"reference": f"ServiceRequest/{number}"}],
            "status": "completed",
            "category": [{"text": "补充资料要求" if asked else "补充资料"}],
            "subject": patient(subject),
            "sent": instant(ctx.now),
            "sender": org(sender),
            "recipient": [org(subject.requester if asked else subject.desk)],
            "payload": [{"contentString": ctx.data["reason"]}],
        }
    )


def newest(subject: Consult) -> list[Opinion]:
    """The newest signed version of the summary and of each expert's opinion."""
    rows = Opinion.objects.unscoped("the consultation's own opinions").filter(consult=subject)
    found: dict[int | None, Opinion] = {}
    for row in rows.select_related("seat", "institution", "practitioner").order_by("version"):
        found[row.seat_id] = row
    return list(found.values())


def documents(subject: Consult, number: str) -> list[dict[str, Any]]:
    """Every opinion in force as Composition and DocumentReference."""
    return [resource for row in newest(subject) for resource in _documents(subject, number, row)]


def _documents(subject: Consult, number: str, row: Opinion) -> list[dict[str, Any]]:
    own_id = f"{number}-O{row.seat.number}" if row.seat else f"{number}-S"
    return _document(subject, number, row, own_id, "远程会诊专家意见" if row.seat else "远程会诊意见书")


def _document(subject: Consult, number: str, row: Opinion, own_id: str, title: str) -> list[dict[str, Any]]:
    author = doctor(row.practitioner) if row.practitioner else org(row.institution)
    parts = [("会诊目的", subject.question), ("会诊印象", row.impression), ("处理建议", row.advice)]
    if row.reason:
        parts.append(("更正原因", row.reason))
    plain = "\n".join(f"{name}：{text}" for name, text in parts)
    return [
        trim(
            {
                "resourceType": "Composition", "id": own_id, "status": "amended" if row.version > 1 else "final", "type": TYPE,
                "identifier": {"system": f"{ID}/consult-opinion", "value": f"{own_id}-{row.version}"},
                "subject": patient(subject), "encounter": {"reference": f"Encounter/{number}-E"} if subject.begun_at else None,
                "date": instant(row.signed_at), "author": [author], "title": title, "custodian": org(row.institution),
                "section": [
                    {"title": name, "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{_escape(text)}</div>'}}
                    for name, text in parts
                ],
            }
        ),
        trim(
            {
                "resourceType": "DocumentReference", "id": own_id, "status": "current",
                "docStatus": "amended" if row.version > 1 else "final", "type": TYPE, "subject": patient(subject),
                "date": instant(row.signed_at), "author": [author], "custodian": org(row.institution), "description": title,
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
