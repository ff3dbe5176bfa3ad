"""CDS Hooks over HTTP: cards, feedback as the decision, and what a hostile caller gets."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from lianxin.access import relationships, tokens
from lianxin.clinical.recognition import cds, knowing
from lianxin.clinical.recognition.models import Card, Decision
from lianxin.index.models import Person
from tests.factories import SmallCounty
from tests.reading import world
from tests.recognition.world import given, passed

pytestmark = pytest.mark.django_db
SERVICE = "/cds-services/recognition-order-sign"


@pytest.fixture
def county() -> Iterator[SmallCounty]:
    """The small county with a chest X-ray that must be recognised."""
    knowing.forget()
    tokens.forget()
    yield world.make_world()
    knowing.forget()
    tokens.forget()


def bearer(code: str, scope: str = "system/*.rs", name: str = "CDS") -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.issue(name, scope, code)}"}


def asked(person: int, *codes: str, **context: Any) -> dict[str, Any]:
    number = Person.objects.unscoped("test").get(pk=person).number
    entries = [
        {"resource": {"resourceType": "ServiceRequest", "id": f"d{n}", "status": "draft", "intent": "order",
                      "code": {"coding": [{"system": "http://lianxin.example/cs/order-item", "code": code}]}}}
        for n, code in enumerate(codes)
    ]  # fmt: skip
    return {
        "hook": "order-sign", "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/x", "patientId": number, "draftOrders": {"resourceType": "Bundle", "entry": entries}, **context},
    }  # fmt: skip


def post(path: str, body: Any, headers: dict[str, str]) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client().generic("POST", path, raw, content_type="application/json", headers=headers)


def test_a_draft_gets_its_cards_and_feedback_is_the_decision(county: SmallCounty) -> None:
    services = Client().get("/cds-services").json()["services"]
    assert {s["hook"] for s in services} == {"order-select", "order-sign"}
    person, maker = world.make_person(), county.townships[0]
    relationships.grant(person, county.lead.pk, "registration", "test")
    for group in ("XR-CHEST", "LAB-CBC"):
        passed(maker, group)
        given(person, group, maker)
    headers, doctor = bearer(county.lead.code), county.posts["clinician"].practitioner
    body = asked(person, "XR-CHEST", "LAB-CBC", "MR-HEAD", userId=f"Practitioner/{doctor.code}")
    cards = post(SERVICE, body, headers).json()["cards"]
    assert len(cards) == 2
    for card in cards:
        assert len(card["summary"]) < 140
        assert card["indicator"] == "warning"
        assert {r["code"] for r in card["overrideReasons"]} >= {"01", "98", "99"}
        (action,) = card["suggestions"][0]["actions"]
        assert action["type"] == "delete"
    assert [c["uuid"] for c in post(SERVICE, body, headers).json()["cards"]] == [c["uuid"] for c in cards]
    assert Card.objects.unscoped("test").count() == 2
    said = [
        {"card": cards[0]["uuid"], "outcome": "accepted", "acceptedSuggestions": [{"id": cards[0]["suggestions"][0]["uuid"]}]},
        {"card": cards[1]["uuid"], "outcome": "overridden", "overrideReason": {"reason": {"code": "02", "system": cds.REASONS}, "userComment": "复查"}},
    ]  # fmt: skip
    for _ in range(2):
        assert post(f"{SERVICE}/feedback", {"feedback": said}, headers).status_code == 200
    rows = Decision.objects.unscoped("test").order_by("pk")
    assert [(d.verdict, d.reason, d.door, d.practitioner_id) for d in rows] == [
        ("recognised", "", "cds", doctor.pk),
        ("refused", "02", "cds", doctor.pk),
    ]
    other = bearer(county.tcm.code, name="OTHER")
    assert post(f"{SERVICE}/feedback", {"feedback": said}, other).status_code == 404


def test_nothing_is_said_of_people_one_does_not_care_for(county: SmallCounty) -> None:
    person = world.make_person()
    given(person, "XR-CHEST", county.townships[0])
    headers = bearer(county.lead.code)
    assert post(SERVICE, asked(person, "XR-CHEST"), headers).json() == {"cards": []}
    body = asked(person, "XR-CHEST", patientId="nobody")
    assert post(SERVICE, body, headers).json() == {"cards": []}


def test_a_hostile_caller_gets_words_and_no_more(county: SmallCounty) -> None:
    person = world.make_person()
    relationships.grant(person, county.lead.pk, "registration", "test")
    good, headers = asked(person, "XR-CHEST"), bearer(county.lead.code)
    assert post(SERVICE, good, {}).status_code == 401
    assert post(SERVICE, good, {"Authorization": "Bearer x"}).status_code == 401
    assert post(SERVICE, good, bearer(county.lead.code, "system/Patient.rs", "NARROW")).status_code == 403
    assert Client().get(SERVICE, headers=headers).status_code == 405
    assert post("/cds-services/none", good, headers).status_code == 404
    for raw in (
        b" ",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"hook": NaN}',
        json.dumps("x").encode(),
    ):
        assert post(SERVICE, raw, headers).status_code == 400, raw[:20]
    assert post(SERVICE, b" " * (cds.MOST_BYTES + 1), headers).status_code == 413
    for change in ({"hook": "patient-view"}, {"hookInstance": "1"}, {"context": None}, {"context": {}}, {"context": {"patientId": 5}},
                   {"context": {"patientId": "1", "draftOrders": []}}, {"context": {"patientId": "1", "draftOrders": {"resourceType": "Bundle", "entry": 3}}}):  # fmt: skip
        assert post(SERVICE, good | change, headers).status_code == 400, change
    odd = [None, 5, {"resource": None}, {"resource": {"resourceType": "ServiceRequest", "code": 7}},
           {"resource": {"resourceType": "ServiceRequest", "code": {"coding": [None, {"system": {}, "code": ["\x00"]}]}}}]  # fmt: skip
    weird = good["context"] | {
        "draftOrders": {"resourceType": "Bundle", "entry": odd},
        "selections": [{}, 1],
        "userId": {"a": "\x00"},
    }
    assert post(SERVICE, good | {"context": weird}, headers).json() == {"cards": []}
    assert post(SERVICE, good | {"context": good["context"] | {"patientId": "\x00" * 9}}, headers).json() == {
        "cards": []
    }
    many = {"resourceType": "Bundle", "entry": good["context"]["draftOrders"]["entry"] * 61}
    assert (
        post(SERVICE, good | {"context": good["context"] | {"draftOrders": many}}, headers).status_code == 400
    )
    for told in (
        None,
        [],
        [1],
        [{"card": "x"}],
        [{"card": str(uuid.uuid4()), "outcome": "accepted"}],
        [{}] * 101,
    ):
        assert post(f"{SERVICE}/feedback", {"feedback": told}, headers).status_code in (400, 404)
    assert not Decision.objects.unscoped("test").exists()
