"""The same machine over FHIR: a hospital's own system refers, answers, moves Tasks; refusals are OperationOutcomes."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.clinical.referral.models import Referral
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.referral.world import LETTER, PACK, START, World

FORM = "http://lianxin.example/cs/referral-form"


def parameters(**values: object) -> dict:
    made = []
    for name, value in values.items():
        if isinstance(value, bool):
            made.append({"name": name, "valueBoolean": value})
        elif isinstance(value, int):
            made.append({"name": name, "valueInteger": value})
        elif isinstance(value, dict):
            made.append({"name": name, "part": [{"name": k, "valueString": v} for k, v in value.items()]})
        else:
            made.append({"name": name, "valueString": str(value)})
    return {"resourceType": "Parameters", "parameter": made}


def bundle(world: World, **more: object) -> dict:
    request = {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order", "priority": "routine",
        "subject": {"reference": f"Patient/{world.person.number}"},
        "performer": [{"reference": f"Organization/{world.county.lead.code}"}],
        "performerType": {"coding": [{"system": "http://lianxin.example/cs/specialty", "code": "04.01"}]},
        "reasonCode": [{"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10", "display": "高血压"}]}],
    }  # fmt: skip
    sections = [
        {
            "code": {"coding": [{"code": code}]},
            "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>'},
        }
        for code, text in {**PACK, "bp_record": "190/120", "medication": "无"}.items()
    ]
    pressure = {
        "resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "85354-9"}]},
        "component": [{"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": 190}}],
    }  # fmt: skip
    paper = {
        "resourceType": "Composition", "status": "final", "type": {"text": "转诊记录"}, "date": START.isoformat(), "title": "转诊记录",
        "author": [{"display": "全科"}], "section": sections,
    }  # fmt: skip
    consent = {
        "resourceType": "Consent", "status": "active", "scope": {"text": "转诊"}, "category": [{"text": "转诊"}],
        "policyRule": {"text": "转诊知情同意"},
    }  # fmt: skip
    entries = [request | more, paper, pressure, consent]
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in entries]}


def value(reply: dict, name: str) -> object:
    part = next(p for p in reply["parameter"] if p["name"] == name)
    return next(v for k, v in part.items() if k != "name")


def test_a_referral_driven_by_two_hospital_systems(committed: World) -> None:
    world = committed
    township = Client("township", world.county.townships[0].code)
    hospital = Client("hospital", world.county.lead.code)
    stranger = Client("stranger", world.county.townships[2].code)
    with clock.at(START):
        made = township(
            "POST", "ServiceRequest/$refer", bundle(world, note=[{"text": "难治"}]), idempotency_key="r1"
        )
        assert made.status == 422, "the catalogue says treat here: the reason is missing"
        assert "override_reason" in made.issues[0]["expression"][0]
        body = parameters(
            patient=f"Patient/{world.person.number}", toInstitution=world.county.lead.code, direction="up", specialty="04.01",
            diagnosisCode="E04.1", diagnosisName="甲状腺结节", pack=PACK, consent=True, consentEvidence="signed",
            overrideReason="基层无法评估",
        )  # fmt: skip
        assert township("POST", "ServiceRequest/$refer", body).status == 400, "no key"
        made = township("POST", "ServiceRequest/$refer", body, idempotency_key="r2")
        assert made.status == 201, made.raw
        number = str(value(made.json, "number"))
        again = township("POST", "ServiceRequest/$refer", body, idempotency_key="r2")
        assert (again.status, value(again.json, "number"), value(again.json, "replayed")) == (
            201,
            number,
            True,
        )
        assert Referral.objects.unscoped("test").count() == 1

        task = hospital("GET", f"Task/{number}-1").json
        assert (task["status"], task["owner"]["reference"]) == (
            "requested",
            f"Organization/{world.county.lead.code}",
        )
        assert stranger("GET", f"Task/{number}-1").status in (403, 404)
        assert stranger("POST", f"Task/{number}-1/$act", parameters(move="receive", key="x")).status == 404
        assert hospital("PUT", f"Task/{number}-1", task | {"status": "received"}).status == 200
        assert hospital("PUT", f"Task/{number}-1", task | {"status": "received"}).status == 200, "already so"
        stale = hospital("PUT", f"Task/{number}-1", task | {"status": "accepted"}, if_match='W/"1"')
        assert stale.status == 412
        moves = hospital("GET", f"Task/{number}-1/$allowed")
        assert value(moves.json, "state") == "received"
        asked = hospital(
            "POST", f"Task/{number}-1/$act",
            parameters(move="ask_info", key="q1", reasonCode="missing_result", question="请补充甲功", expectedVersion=3),
        )  # fmt: skip
        assert asked.status == 200, asked.raw
        assert value(asked.json, "task")["businessStatus"]["coding"][0]["code"] == "awaiting-information"
        old = township(
            "POST",
            f"Task/{number}-1/$act",
            parameters(move="answer_info", key="a1", text="正常", expectedVersion=3),
        )
        assert (old.status, old.issues[0]["code"]) == (409, "conflict")
        assert (
            township(
                "POST", f"Task/{number}-1/$act", parameters(move="answer_info", key="a2", text="正常")
            ).status
            == 200
        )
        foreign = township("POST", f"Task/{number}-1/$act", parameters(move="accept", key="b1"))
        assert foreign.status == 409
        assert hospital("PUT", f"Task/{number}-1", task | {"status": "accepted"}).status == 200
        bad = hospital("PUT", f"Task/{number}-1", task | {"status": "in-progress"})
        assert (bad.status, "session" in bad.issues[0]["expression"][0]) == (422, True)
        at = (START + dt.timedelta(days=1)).isoformat()
        booked = task | {"status": "in-progress", "input": [
            {"type": {"coding": [{"system": FORM, "code": "appointmentAt"}]}, "valueDateTime": at}]}  # fmt: skip
        assert (
            hospital("PUT", f"Task/{number}-1", booked).json["businessStatus"]["coding"][0]["code"]
            == "booked"
        )
        arrived = hospital(
            "POST", f"Task/{number}-1/$act", parameters(move="arrive", key="c1", identity=world.person.number)
        )
        assert arrived.status == 200
        for n, form in enumerate(
            ({"move": "start_care", "visitKind": "clinic"}, {"move": "send_outcome"} | LETTER)
        ):
            done = hospital("POST", f"Task/{number}-1/$act", parameters(key=f"d{n}", **form))
            assert done.status == 200, done.raw
        unticked = township("POST", f"Task/{number}-1/$act", parameters(move="acknowledge", key="e1"))
        assert (unticked.status, "medication_reconciled" in unticked.issues[0]["expression"][0]) == (
            422,
            True,
        )
        done = township(
            "POST",
            f"Task/{number}-1/$act",
            parameters(move="acknowledge", key="e2", medicationReconciled=True),
        )
        assert value(done.json, "state") == "closed"

        request = township("GET", f"ServiceRequest/{number}").json
        assert (request["status"], request["subject"]["reference"]) == (
            "completed",
            f"Patient/{world.person.number}",
        )
        assert township("GET", f"Task/{number}-1").json["status"] == "completed"
        assert township("GET", f"Appointment/{number}-A").json["status"] in ("arrived", "fulfilled")
        assert township("GET", f"Composition/{number}-L1").json["title"] == "转诊回转单"
        assert township("GET", f"DocumentReference/{number}-P").status == 200
        assert township("GET", f"Encounter/{number}-E").status == 200
        assert township("GET", f"Communication/{number}-M1").status == 200
        assert township("PUT", f"ServiceRequest/{number}", request).status in (403, 405, 409)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "patient", "valueString": "Patient/nobody"}],
            },
            422,
        ),
        ({"resourceType": "Parameters", "parameter": [{"name": "a"}, {"name": "a"}]}, 422),
        ({"resourceType": "Bundle", "type": "collection"}, 400),
        ({"resourceType": "Patient"}, 400),
        (
            {
                "resourceType": "Bundle",
                "entry": [{"resource": {"resourceType": "ServiceRequest", "priority": "soon"}}],
            },
            422,
        ),
    ],
)
def test_bad_bodies_are_named(committed: World, body: dict, status: int) -> None:
    client = Client("township", committed.county.townships[0].code)
    reply = client("POST", "ServiceRequest/$refer", body, idempotency_key="k")
    assert (reply.status, reply.json["resourceType"]) == (status, "OperationOutcome")
    assert reply.issues[0]["details"]["text"]
    assert reply.issues[0]["diagnostics"]


def test_anybodys_own_task_is_an_ordinary_resource(committed: World) -> None:
    client = Client("township", committed.county.townships[0].code)
    own = {"resourceType": "Task", "status": "requested", "intent": "order"}
    made = client("POST", "Task", own)
    assert made.status == 201, made.raw
    assert client("DELETE", "Task/ZZ20260302-00001-1").status == 405
