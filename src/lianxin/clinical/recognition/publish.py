"""A decision in the record, so that the recognised result stands in the patient's file: a DetectedIssue (a duplicate order was met) naming
the result, the order and what was done about it."""

from __future__ import annotations

from typing import Any

from lianxin.clinical.recognition import shipped
from lianxin.clinical.recognition.models import Decision
from lianxin.clinical.recognition.search import Hit
from lianxin.record import publish as record

CS = "http://lianxin.example/cs"


def publish(decision: Decision, hit: Hit) -> None:
    """Write it in the transaction of the decision."""
    record.publish(
        [resource(decision, hit)], person_id=decision.person_id, institution_id=decision.institution_id
    )


def resource(decision: Decision, hit: Hit) -> dict[str, Any]:
    """The FHIR form. ``implicated`` is the earlier result and, when the work went ahead, its ServiceRequest."""
    reason = shipped.reasons().get(decision.reason)
    doing = (
        "采用既往结果，不再重复"
        if decision.verdict == "recognised"
        else f"未采用：{reason.label.zh if reason else '医师未采用'}"
    )
    implicated = [{"reference": hit.ref}]
    if decision.number:
        implicated.append({"reference": f"ServiceRequest/{decision.number}"})
    found: dict[str, Any] = {
        "resourceType": "DetectedIssue",
        "id": f"HR-{decision.pk}",
        "identifier": [{"system": "http://lianxin.example/id/recognition", "value": str(decision.pk)}],
        "status": "final",
        "code": {"coding": [{"system": f"{CS}/recognition", "code": decision.verdict}], "text": "检查检验结果互认"},
        "patient": {"reference": f"Patient/{decision.person.number}"},
        "identifiedDateTime": decision.at.isoformat(timespec="seconds"),
        "implicated": implicated,
        "detail": f"{hit.wanted.name}：{hit.institution.zh} {hit.at:%Y-%m-%d}{' ' + hit.mark if hit.mark else ''}。{doing}。{decision.explanation}",
        "mitigation": [
            {
                "action": {"coding": [{"system": f"{CS}/recognition-reason", "code": decision.reason or decision.verdict}], "text": doing},
                "date": decision.at.isoformat(timespec="seconds"),
            }
        ],
    }  # fmt: skip
    if decision.practitioner is not None:
        author = {
            "reference": f"Practitioner/{decision.practitioner.code}",
            "display": decision.practitioner.name,
        }
        found["author"] = author
        found["mitigation"][0]["author"] = author
    return found
