"""$validate at the door: every mode and level, always 200, and what it does not tell."""

import json

import pytest

from lianxin.access import connections
from lianxin.network.models import Institution
from lianxin.record import profiles
from tests.exchange.client import Client, observation, patient

pytestmark = pytest.mark.django_db(transaction=True)

BASE = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}


@pytest.fixture
def client(db):
    for code in ("T1", "T2"):
        Institution.objects.create(
            code=code, name=f"{code}卫生院", kind="township", tier="township", division="331023"
        )
    yield Client("town", "T1")
    connections.close()


def found(reply):
    assert reply.status == 200, reply.raw
    assert reply.json["resourceType"] == "OperationOutcome"
    return [(i["severity"], (i.get("expression") or [""])[0]) for i in reply.json["issue"]]


def parameters(resource=None, **more):
    parts = [
        {"name": name, "valueCode" if name == "mode" else "valueUri": value} for name, value in more.items()
    ]
    return {"resourceType": "Parameters", "parameter": [*([{"name": "resource", "resource": resource}] if resource else []), *parts]}  # fmt: skip


def test_a_sound_resource_is_told_so(client):
    pid = client("POST", "Patient", patient()).json["id"]
    sound = {**BASE, "text": {"status": "generated", "div": "<div>x</div>"}, "subject": {"reference": f"Patient/{pid}"}, "effectiveDateTime": "2026-01-01", "performer": [{"reference": f"Patient/{pid}"}]}  # fmt: skip
    assert found(client("POST", "Observation/$validate", sound)) == [("information", "")]
    assert found(client("POST", "Observation/$validate", parameters(sound))) == [("information", "")]
    assert found(client("POST", "Observation/$validate?mode=create", sound)) == [("information", "")]


def test_structure_rules_and_references_are_told(client):
    assert ("error", "Observation.bogus") in found(
        client("POST", "Observation/$validate", {**BASE, "bogus": 1})
    )
    assert ("error", "Observation") in found(
        client(
            "POST", "Observation/$validate", {**BASE, "valueString": "a", "dataAbsentReason": {"text": "b"}}
        )
    )
    assert ("warning", "Observation.subject.reference") in found(
        client("POST", "Observation/$validate", {**BASE, "subject": {"reference": "Patient/none"}})
    )
    assert ("error", "resourceType") in found(client("POST", "Observation/$validate", parameters(patient())))
    assert ("error", "resourceType") in found(
        client("POST", "Observation/$validate", parameters({"resourceType": "Nothing"}))
    )
    doubled = b'{"resourceType":"Observation","status":"final","status":"final","code":{"text":"x"}}'
    assert "error" in [s for s, _ in found(client("POST", "Observation/$validate", doubled))]
    assert client("POST", "Observation/$validate", b"{").status == 400
    assert client("POST", "Observation/$validate?mode=nonsense", BASE).status == 400
    assert client("POST", "Observation/$validate", parameters()).status == 400


@pytest.mark.parametrize("kind", [["Patient"], {"a": 1}, 7, None])
def test_a_type_that_is_no_word_is_told(client, kind):
    reply = client("POST", "Observation/$validate", {"resourceType": kind, "status": "final"})
    assert reply.status < 500
    assert any(issue["severity"] == "error" for issue in reply.json["issue"])


def test_on_an_instance(client):
    pid = client("POST", "Patient", patient()).json["id"]
    oid = client("POST", "Observation", observation(pid)).json["id"]
    assert "error" not in [s for s, _ in found(client("GET", f"Observation/{oid}/$validate"))]
    assert found(client("POST", f"Observation/{oid}/$validate", parameters(mode="delete"))) == [
        ("information", "")
    ]
    assert ("error", "Observation.id") in found(
        client("POST", f"Observation/{oid}/$validate", parameters({**BASE, "id": "other"}, mode="update"))
    )
    assert ("error", "Observation.id") in found(
        client("POST", f"Observation/{oid}/$validate", parameters(BASE, mode="update"))
    )
    assert client("GET", "Observation/none/$validate").status == 404
    other = Client("other", "T2")
    assert other("GET", f"Observation/{oid}/$validate").status == 404
    assert other("POST", f"Observation/{oid}/$validate", parameters(mode="delete")).status == 404
    unseen = found(
        other("POST", "Observation/$validate", {**BASE, "subject": {"reference": f"Patient/{pid}"}})
    )
    absent = found(other("POST", "Observation/$validate", {**BASE, "subject": {"reference": "Patient/none"}}))
    assert unseen == absent


def test_the_guide_is_there_to_read_and_to_hold_to(client):
    assert profiles.publish() == len(profiles.guide())
    assert profiles.publish() == len(profiles.guide())
    url = "http://lianxin.example/fhir/StructureDefinition/patient"
    page = client("GET", f"StructureDefinition?url={url}").json
    assert [e["resource"]["id"] for e in page["entry"]] == ["lx-patient"]
    assert client("GET", "ImplementationGuide/lx-consortium").status == 200
    assert client("GET", "StructureDefinition/lx-patient").json["meta"]["versionId"] == "1"
    assert client("GET", "ValueSet/lx-tier").status == 200
    wrong = patient(
        identifier=[{"system": "http://lianxin.example/id/resident-id-card", "value": "110105194912310021"}]
    )
    assert ("error", "Patient.identifier[0].value") in found(
        client("POST", "Patient/$validate", parameters(wrong, profile=url))
    )
    assert "error" not in [s for s, _ in found(client("POST", "Patient/$validate", wrong))]
    assert ("error", "") in found(client("POST", "Patient/$validate?profile=http://a.example/unknown", wrong))


def test_a_site_brings_its_own_profile(client):
    own = {
        "resourceType": "StructureDefinition",
        "url": "http://site.example/StructureDefinition/obs",
        "name": "SiteObservation",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": "Observation",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Observation",
        "derivation": "constraint",
        "differential": {"element": [{"id": "Observation", "path": "Observation"}, {"id": "Observation.method", "path": "Observation.method", "min": 1}]},
    }  # fmt: skip
    made = client("POST", "StructureDefinition", own)
    assert made.status == 201, made.raw
    claimed = {**BASE, "meta": {"profile": [own["url"]]}}
    assert ("error", "Observation.method") in found(client("POST", "Observation/$validate", claimed))
    assert ("error", "Observation.method") in found(
        client("POST", "Observation/$validate", parameters(BASE, profile=own["url"]))
    )
    own["differential"]["element"][1]["path"] = own["differential"]["element"][1]["id"] = "Observation.device"
    changed = client(
        "PUT", f"StructureDefinition/{made.json['id']}", json.dumps({**own, "id": made.json["id"]}).encode()
    )
    assert changed.status == 200
    assert ("error", "Observation.device") in found(client("POST", "Observation/$validate", claimed))
