"""What a subscription tells is what its client may see: by source, relationship and SMART scopes, when matched and when sent."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from lianxin.access import relationships
from lianxin.exchange.subscriptions import wire
from lianxin.exchange.subscriptions.models import SubscriptionEvent
from lianxin.exchange.subscriptions.worker import Dispatcher
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.exchange.client import Client, observation, patient
from tests.exchange.receiver import listening
from tests.exchange.test_subscriptions import laboratory, plain, subscribe, topical
from tests.factories import make_consortium, make_institution

pytestmark = pytest.mark.django_db(transaction=True)
LAB = {
    "category": [
        {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}
            ]
        }
    ]
}


@pytest.fixture
def receiver() -> Any:
    with listening() as made:
        yield made


@pytest.fixture
def dispatcher(db: None) -> Any:
    made = Dispatcher(4)
    yield made
    made.close()
    wire.close()
    clock.shift(dt.timedelta())


@pytest.fixture
def houses(db: None) -> tuple[Institution, Institution]:
    lead, branch = make_institution("LEAD", "hospital"), make_institution("BRANCH", "township")
    make_consortium(lead, [branch])
    return lead, branch


def add(client: Client, who: str, **more: Any) -> str:
    made = client("POST", "Observation", {**json.loads(observation(who)), **more})
    assert made.status == 201, made.raw
    return made.json["id"]


def person_of(event_of: str) -> int:
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute("SELECT person_id FROM record_resource WHERE id = %s", [event_of])
        return int(cur.fetchone()[0])


def paths(receiver: Any) -> list[str]:
    return [h.path.rpartition("/")[2] for h in receiver.heard]


def test_only_people_one_has_a_relationship_with(houses, receiver, dispatcher):
    lead, branch = houses
    mine, theirs = Client("lead", lead.code), Client("branch", branch.code)
    subscribe(mine, plain(receiver.url, "Observation"), dispatcher)
    own = mine("POST", "Patient", patient()).json["id"]
    other = theirs("POST", "Patient", patient("赵青山", "1955-01-02")).json["id"]
    first = add(mine, own)
    hidden = add(theirs, other)
    dispatcher.settle()
    assert paths(receiver) == [first]
    relationships.grant(person_of(other), lead.pk, "duty", "duty:1")
    seen = add(theirs, other)
    dispatcher.settle()
    assert paths(receiver) == [first, seen]
    assert hidden not in str(receiver.heard)


def test_a_relationship_that_ended_closes_what_was_waiting(houses, receiver, dispatcher):
    lead, branch = houses
    mine, theirs = Client("lead", lead.code), Client("branch", branch.code)
    other = theirs("POST", "Patient", patient("赵青山", "1955-01-02")).json["id"]
    relationships.grant(person_of(other), lead.pk, "duty", "duty:1")
    subscribe(mine, plain(receiver.url, "Observation"), dispatcher)
    subscribe(mine, topical(receiver.url, "laboratory-result"), dispatcher)
    receiver.heard.clear()
    receiver.answer = lambda heard: 500
    gone = laboratory(theirs, other, LAB, 7)
    dispatcher.settle()
    assert len(receiver.heard) == 2
    relationships.end("duty:1")
    receiver.answer = lambda heard: 200
    receiver.heard.clear()
    clock.shift(dt.timedelta(minutes=20))
    dispatcher.settle()
    (only,) = receiver.heard  # the topic tells that number 1 was, and nothing of it
    assert [e["event-number"] for e in only.parameters["events"]] == ["1"]
    assert gone not in only.raw.decode()
    assert "Observation/" not in only.raw.decode()
    assert sorted(SubscriptionEvent.objects.values_list("status", flat=True)) == ["sent", "withheld"]
    for name in ("lead", "branch"):
        shown = Client(name, houses[0].code if name == "lead" else houses[1].code)
        assert shown("GET", "Subscription").status == 200
    events = mine("GET", f"Subscription/{only.parameters['subscription'].rpartition('/')[2]}/$events")
    assert gone not in events.raw.decode()


def test_query_limits_of_the_scopes_hold(houses, receiver, dispatcher):
    lead, _ = houses
    writer = Client("writer", lead.code)
    limited = Client(
        "limited", lead.code, scope="system/Subscription.cruds system/Observation.rs?category=laboratory"
    )
    subscribe(limited, plain(receiver.url, "Observation?code=8480-6"), dispatcher)
    who = writer("POST", "Patient", patient()).json["id"]
    add(writer, who)
    told = add(writer, who, **LAB)
    dispatcher.settle()
    assert paths(receiver) == [told]


def test_chains_and_reverse_chains_in_the_criteria(houses, receiver, dispatcher):
    writer = Client("writer", houses[0].code)
    subscribe(writer, plain(receiver.url, "Observation?patient.birthdate=1980-05-06&code=8480-6"), dispatcher)
    subscribe(writer, plain(receiver.url, "Patient?_has:Observation:patient:code=2339-0"), dispatcher)
    old = writer("POST", "Patient", patient()).json
    young = writer("POST", "Patient", patient("钱绿水", "2001-01-01")).json["id"]
    told = add(writer, old["id"])
    add(writer, young)
    writer("POST", "Observation", observation(old["id"], "2339-0", "5"))
    assert writer("PUT", f"Patient/{old['id']}", {**old, "active": True}).status == 200
    dispatcher.settle()
    assert sorted(paths(receiver)) == sorted([told, old["id"], old["id"]])


def test_several_versions_at_once_are_each_judged_by_themselves(houses, receiver, dispatcher):
    writer = Client("writer", houses[0].code)
    subscribe(writer, plain(receiver.url, "Observation?value-quantity=gt110"), dispatcher)
    who = writer("POST", "Patient", patient()).json["id"]
    made = writer("POST", "Observation", observation(who, value="120")).json
    for value in (100, 130, 90, 140):
        made["valueQuantity"]["value"] = value
        assert writer("PUT", f"Observation/{made['id']}", made).status == 200
    dispatcher.settle()
    assert [h.json["valueQuantity"]["value"] for h in receiver.heard] == [120, 130, 140]
    assert [h.json["meta"]["versionId"] for h in receiver.heard] == ["1", "3", "5"]


def test_two_systems_of_one_house_do_not_read_each_others_subscriptions(houses, receiver, dispatcher):
    """By the door's shortest way too, which otherwise shows a house what it sent itself."""
    mine, other = Client("mine", "BRANCH"), Client("other", "BRANCH")
    who = mine("POST", "Patient", patient()).json["id"]
    seen = add(mine, who)
    rid = subscribe(mine, plain(receiver.url))
    assert mine("GET", f"Subscription/{rid}").status == 200
    assert other("GET", f"Observation/{seen}").status == 200
    for path in (f"Subscription/{rid}", f"Subscription/{rid}/_history/1", f"Subscription/{rid}?_pretty=true"):
        assert other("GET", path).status == 404, path
    assert other("GET", "Subscription").json.get("entry") is None
