"""The FHIR projection of the channel: an emergency Encounter, a Task of what is owed now, a Communication of every milestone's times."""

from __future__ import annotations

from typing import Any

from lianxin.duty.machine import Ctx
from lianxin.record import publish as record
from lianxin.record.building import instant, org, trim
from lianxin.regional.emergency import forms
from lianxin.regional.emergency.models import MILESTONES, Channel
from lianxin.regional.reading.publish import CS, ID

_ENCOUNTER = {"closed": "finished", "stopped": "cancelled"}
_TASK = {"closed": "completed", "stopped": "cancelled"}


def publish(ctx: Ctx) -> None:
    """Write the projection of the case as it stands now."""
    channel: Channel | None = ctx.subject
    if channel is None:
        return
    state, number = ctx.act.to_state, ctx.case.number
    times = forms.times(channel)
    who = {"reference": f"Patient/{channel.person.number}"}
    started, ended = instant(times.get("fmc")), instant(ctx.now) if state in _ENCOUNTER else None
    resources: list[dict[str, Any]] = [
        {
            "resourceType": "Encounter", "id": number, "identifier": [{"system": f"{ID}/chest-pain", "value": number}],
            "status": _ENCOUNTER.get(state, "in-progress"),
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"},
            "priority": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActPriority", "code": "EM"}]},
            "subject": who, "period": trim({"start": started, "end": ended}), "serviceProvider": org(channel.lab),
            "reasonCode": [{"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I21.3"}]}] if "diagnosed" in times else [{"text": channel.complaint or "胸痛"}],
        },
        {
            "resourceType": "Task", "id": f"{number}-channel", "identifier": [{"system": f"{ID}/chest-pain", "value": number}],
            "status": _TASK.get(state, "in-progress"), "businessStatus": {"coding": [{"system": f"{CS}/chest-pain-state", "code": state}]},
            "intent": "order", "priority": "stat", "code": {"coding": [{"system": f"{CS}/task", "code": "chest-pain"}]},
            "for": who, "encounter": {"reference": f"Encounter/{number}"}, "authoredOn": instant(channel.opened_at),
            "lastModified": instant(ctx.now), "requester": org(channel.first), "owner": org(_owner(channel, ctx, state)),
            "output": [{"type": {"coding": [{"system": f"{CS}/chest-pain-milestone", "code": code}], "text": MILESTONES[code].zh}, "valueDateTime": instant(at)} for code, at in times.items()],
        },
    ]  # fmt: skip
    if "decided" in times:
        resources.append(
            {
                "resourceType": "Communication", "id": f"{number}-activate", "status": "completed", "priority": "stat", "subject": who,
                "category": [{"coding": [{"system": f"{CS}/communication", "code": "cath-lab-activation"}]}],
                "encounter": {"reference": f"Encounter/{number}"}, "sent": instant(times["decided"]), "received": instant(times.get("activated")),
                "sender": org(channel.centre), "recipient": [org(channel.lab)],
                "payload": [{"contentString": channel.strategy}],
            }
        )  # fmt: skip
    record.publish(
        [trim(r) for r in resources], person_id=channel.person_id, institution_id=channel.centre_id
    )


def _owner(channel: Channel, ctx: Ctx, state: str) -> Any:
    owes = ctx.machine.state(state).owes
    return {"first": channel.first, "lab": channel.lab}.get(owes.party if owes else "", channel.centre)
