"""The FHIR projection of a critical value: ``Communication`` (id = case number) is the call, ``Flag`` (number + "-flag") the warning at the
person until somebody acted and closed it."""

from __future__ import annotations

from typing import Any

from lianxin.duty.machine import Ctx
from lianxin.record import publish as record
from lianxin.record.building import instant, org, trim
from lianxin.regional.critical.models import Critical

CS = "http://lianxin.example/cs"
ID = "http://lianxin.example/id"
_FLAG = {"laboratory": "lab", "reading": "clinical", "ecg": "clinical", "pathology": "lab"}


def publish(ctx: Ctx) -> None:
    """Write the projection of the case as it stands now."""
    subject: Critical | None = ctx.subject
    if subject is None:
        return
    state = ctx.machine.state(ctx.act.to_state)
    record.publish(
        [communication(subject, ctx.case.number, state.fhir_status, state.code), flag(subject, ctx.case.number)],
        person_id=subject.person_id, institution_id=subject.centre_of_id,
    )  # fmt: skip


def code(subject: Critical) -> dict[str, Any]:
    """What was found as a CodeableConcept."""
    coding = {"system": f"{CS}/critical", "code": subject.code, "display": subject.finding}
    return {"coding": [coding], "text": said(subject)}


def said(subject: Critical) -> str:
    """What was found in a line, with value and limit."""
    limit = f"（{subject.limit}）" if subject.limit and subject.side != "finding" else ""
    value = "" if subject.value == subject.finding else f" {subject.shown}"
    return f"{subject.finding}{value}{limit}"


def communication(subject: Critical, number: str, status: str, state: str) -> dict[str, Any]:
    """The call: who told whom what, when it was sent and when it was read back, every attempt a note."""
    about = {
        "type": "ServiceRequest",
        "identifier": {"system": f"{ID}/accession", "value": subject.accession},
    }
    recipients = [i for i in (subject.orderer, subject.team, subject.county) if i is not None]
    notes = [
        {
            "time": instant(a.at),
            "text": f"{a.channel_label.zh}：{a.recipient} {a.outcome_label.zh}" + (f"「{a.heard}」" if a.heard else ""),
        }
        for a in subject.attempts.order_by("at", "pk")
    ]  # fmt: skip
    corrected = [
        {"time": instant(n.at), "text": f"结果更正为 {n.value} {n.unit}：{n.reason}"}
        for n in subject.notes.filter(kind="corrected").order_by("at", "pk")
    ]
    return trim(
        {
            "resourceType": "Communication",
            "id": number,
            "extension": [{"url": "http://lianxin.example/fhir/StructureDefinition/critical-state", "valueCode": state}],
            "identifier": [{"system": f"{ID}/critical", "value": number}],
            "status": status,
            "category": [
                {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/communication-category", "code": "alert"}]}
            ],
            "priority": "stat",
            "subject": {"reference": f"Patient/{subject.person.number}"},
            "topic": code(subject),
            "about": [about] if subject.accession else [],
            "recipient": [org(i) for i in {i.pk: i for i in recipients}.values()],
            "sender": org(subject.centre_of),
            "sent": instant(subject.notified_at),
            "received": instant(subject.acknowledged_at),
            "payload": [{"contentString": said(subject)}],
            "note": [*notes, *corrected],
        }
    )  # fmt: skip


def flag(subject: Critical, number: str) -> dict[str, Any]:
    """The warning at the person: active until the call is closed."""
    return trim(
        {
            "resourceType": "Flag",
            "id": f"{number}-flag",
            "identifier": [{"system": f"{ID}/critical", "value": number}],
            "status": "active" if subject.live else "inactive",
            "category": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/flag-category",
                            "code": _FLAG[subject.source],
                        }
                    ]
                }
            ],
            "code": code(subject),
            "subject": {"reference": f"Patient/{subject.person.number}"},
            "period": trim({"start": instant(subject.found_at), "end": instant(subject.closed_at)}),
            "author": org(subject.centre_of),
        }
    )
