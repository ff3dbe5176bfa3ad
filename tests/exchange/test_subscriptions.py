"""Subscriptions at the door and on the wire: R4 rest-hook and backport topics, with a real receiver."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lianxin.access.models import Token
from lianxin.exchange.subscriptions import lifecycle, wire
from lianxin.exchange.subscriptions.models import Subscription, SubscriptionEvent
from lianxin.exchange.subscriptions.worker import Dispatcher
from lianxin.standards import clock
from tests.exchange.client import Client, observation, patient
from tests.exchange.receiver import listening, parameters

pytestmark = pytest.mark.django_db(transaction=True)

TOPIC = "http://lianxin.example/SubscriptionTopic/"
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"


@pytest.fixture
def client(db: None) -> Client:
    return Client("whole")


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


def plain(
    url: str, criteria: str = "Observation?code=8480-6", payload: str = "application/fhir+json", **more: Any
) -> dict:
    """An R4 Subscription."""
    channel = (
        {"type": "rest-hook", "endpoint": url}
        | ({"payload": payload} if payload else {})
        | more.pop("channel", {})
    )
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": channel,
        **more,
    }


def topical(url: str, topic: str, *filters: str, content: str = "full-resource", **extensions: Any) -> dict:
    """A Subscription of the backport."""
    made: dict[str, Any] = {
        "resourceType": "Subscription", "status": "requested", "reason": "test", "criteria": TOPIC + topic,
        "meta": {"profile": ["http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription"]},
        "channel": {
            "type": "rest-hook", "endpoint": url, "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": BACKPORT + "payload-content", "valueCode": content}]},
        },
    }  # fmt: skip
    if filters:
        made["_criteria"] = {
            "extension": [{"url": BACKPORT + "filter-criteria", "valueString": f} for f in filters]
        }
    if extensions:
        made["channel"]["extension"] = [
            {
                "url": BACKPORT + name.replace("_", "-"),
                ("valuePositiveInt" if name == "max_count" else "valueUnsignedInt"): value,
            }
            for name, value in extensions.items()
        ]
    return made


def subscribe(client: Client, resource: dict, dispatcher: Dispatcher | None = None) -> str:
    """Make it, and let it become active."""
    made = client("POST", "Subscription", resource)
    assert made.status == 201, made.raw
    assert made.json["status"] == "requested"
    if dispatcher:
        dispatcher.settle()
        assert client("GET", f"Subscription/{made.json['id']}").json["status"] == "active"
    return made.json["id"]


def a_patient(client: Client) -> str:
    made = client("POST", "Patient", patient())
    assert made.status == 201, made.raw
    return made.json["id"]


def observe(client: Client, who: str, value: str = "120", code: str = "8480-6") -> str:
    made = client("POST", "Observation", observation(who, code, value))
    assert made.status == 201, made.raw
    return made.json["id"]


# ------------------------------------------------------------------------------------------------------------- R4 rest-hook


def test_resources_that_match_are_put_to_the_endpoint_in_order(client, receiver, dispatcher):
    who = a_patient(client)
    before = observe(client, who, "99")
    secret = {"header": ["Authorization: Bearer secret", "X-Site: 7"]}
    subscribe(client, plain(receiver.url, channel=secret), dispatcher)
    ids = [observe(client, who, str(100 + i)) for i in range(5)]
    observe(client, who, "5", code="2339-0")
    dispatcher.settle()
    heard = receiver.heard
    assert [h.method for h in heard] == ["PUT"] * 5
    assert [h.path for h in heard] == [f"/hook/Observation/{i}" for i in ids]
    assert before not in str([h.path for h in heard])
    assert heard[0].headers["authorization"] == "Bearer secret"
    assert heard[0].headers["x-site"] == "7"
    assert heard[0].headers["content-type"] == "application/fhir+json"
    assert [h.numbers for h in heard] == [[1], [2], [3], [4], [5]]
    stored = client("GET", f"Observation/{ids[0]}")
    assert heard[0].raw == stored.raw
    assert receiver.connections == 1


def test_without_payload_an_empty_post(client, receiver, dispatcher):
    who = a_patient(client)
    subscribe(client, plain(receiver.url, payload=""), dispatcher)
    observe(client, who)
    dispatcher.settle()
    (only,) = receiver.heard
    assert (only.method, only.path, only.raw) == ("POST", "/hook", b"")


def test_what_happened_between_asking_and_activation_is_told(client, receiver, dispatcher):
    who = a_patient(client)
    subscribe(client, plain(receiver.url))
    made = observe(client, who)
    dispatcher.settle()
    assert [h.path for h in receiver.heard] == [f"/hook/Observation/{made}"]


def test_every_version_is_told_also_one_that_lasted_a_moment(client, receiver, dispatcher):
    who = a_patient(client)
    subscribe(client, plain(receiver.url, "Observation?status=preliminary"), dispatcher)
    made = client("POST", "Observation", observation(who).replace(b'"final"', b'"preliminary"')).json
    final = client("PUT", f"Observation/{made['id']}", {**made, "status": "final"})
    assert final.status == 200
    client("DELETE", f"Observation/{made['id']}")
    dispatcher.settle()
    (only,) = receiver.heard
    assert only.json["status"] == "preliminary"
    assert only.json["meta"]["versionId"] == "1"
    assert client("GET", "Observation?status=preliminary").json["total"] == 0


def test_deletions_and_versions_that_no_longer_match_are_not_told(client, receiver, dispatcher):
    who = a_patient(client)
    subscribe(client, plain(receiver.url, "Observation?status=final"), dispatcher)
    made = observe(client, who)
    dispatcher.settle()
    old = client("GET", f"Observation/{made}").json
    client("PUT", f"Observation/{made}", {**old, "status": "cancelled"})
    dispatcher.settle()
    client("DELETE", f"Observation/{made}")
    dispatcher.settle()
    assert len(receiver.heard) == 1


def test_off_and_deleted_subscriptions_hear_nothing(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    resource = client("GET", f"Subscription/{made}").json
    assert client("PUT", f"Subscription/{made}", {**resource, "status": "off"}).json["status"] == "off"
    observe(client, who)
    dispatcher.settle()
    assert receiver.heard == []
    client("PUT", f"Subscription/{made}", {**resource, "status": "requested"})
    dispatcher.settle()
    later = observe(client, who)
    dispatcher.settle()
    assert [h.path for h in receiver.heard] == [f"/hook/Observation/{later}"]
    assert client("DELETE", f"Subscription/{made}").status == 204
    observe(client, who)
    dispatcher.settle()
    assert len(receiver.heard) == 1


def test_the_end_switches_off(client, receiver, dispatcher):
    end = (clock.now() + dt.timedelta(minutes=5)).isoformat(timespec="seconds")
    made = subscribe(client, plain(receiver.url, end=end), dispatcher)
    clock.shift(dt.timedelta(minutes=6))
    dispatcher._ended = 0.0
    dispatcher.settle()
    resource = client("GET", f"Subscription/{made}").json
    assert resource["status"] == "off"
    assert "end has come" in resource["error"]
    refused = client("POST", "Subscription", plain(receiver.url, end="2020-01-01T00:00:00Z"))
    assert (refused.status, refused.issues[0]["expression"]) == (422, ["Subscription.end"])


def test_editing_an_active_subscription_keeps_it_active(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    resource = client("GET", f"Subscription/{made}").json
    same = client("PUT", f"Subscription/{made}", {**resource, "reason": "another"})
    assert (same.status, same.json["status"]) == (200, "active")
    moved = client("PUT", f"Subscription/{made}", {**resource, "criteria": "Observation?code=2339-0"})
    assert moved.json["status"] == "requested"
    observe(client, who)
    observe(client, who, "5", code="2339-0")
    dispatcher.settle()
    assert [h.json["code"]["coding"][0]["code"] for h in receiver.heard] == ["2339-0"]


# ----------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"status": "error"}, "Subscription.status"),
        ({"status": "nonsense"}, "Subscription.status"),
        ({"criteria": "Nothing?x=1"}, "Subscription.criteria"),
        ({"criteria": "Observation?nonsense=1"}, "Subscription.criteria"),
        ({"criteria": "Observation?_sort=date"}, "Subscription.criteria"),
        ({"criteria": "Observation?date=nonsense"}, "Subscription.criteria"),
        ({"criteria": "Subscription?status=active"}, "Subscription.criteria"),
        ({"criteria": TOPIC + "nothing"}, "Subscription.criteria"),
        ({"channel": {"type": "email", "endpoint": "mailto:a@example.org"}}, "Subscription.channel.type"),
        ({"channel": {"type": "rest-hook"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "http://example.org/x"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://10.1.2.3/x"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://169.254.169.254/x"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://[::ffff:10.0.0.1]/"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://u:p@example.org/"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://example.org/a b"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "file:///etc/passwd"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://example.org", "payload": "text/plain"}}, "Subscription.channel.payload"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://example.org", "header": ["Host: x"]}}, "Subscription.channel.header[0]"),
        ({"channel": {"type": "rest-hook", "endpoint": "https://example.org", "header": ["nonsense"]}}, "Subscription.channel.header[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_with_its_place(client, change, place):
    refused = client("POST", "Subscription", {**plain("https://example.org/x"), **change})
    assert refused.status in (400, 422), refused.raw
    if refused.status == 422 and "expression" in refused.issues[0]:
        assert any(place in e or e in place for i in refused.issues for e in i.get("expression", [])), (
            refused.raw
        )
    assert Subscription.objects.count() == 0


def test_an_inner_address_may_be_listed(client, settings):
    settings.RECEIVERS = ["10.1.0.0/16", "his.example.org"]
    assert client("POST", "Subscription", plain("http://10.1.2.3/x")).status == 201
    assert client("POST", "Subscription", plain("http://his.example.org/x")).status == 201
    assert client("POST", "Subscription", plain("http://10.2.2.3/x")).status == 422


def test_a_public_installation_does_not_send_to_itself(client, settings):
    settings.SESSION_COOKIE_SECURE = True
    assert client("POST", "Subscription", plain("http://127.0.0.1:5432/")).status == 422
    assert client("POST", "Subscription", plain("https://localhost/")).status == 201  # looked up when sending
    answer = wire.send("POST", "https://localhost/", {}, b"", 5)
    assert answer.status is None
    assert "LIANXIN_RECEIVERS" in answer.error.en


# ---------------------------------------------------------------------------------------------------------------- ownership


def test_nobody_else_reads_or_changes_a_subscription(client, receiver, dispatcher):
    made = subscribe(client, plain(receiver.url, channel={"header": ["Authorization: secret"]}), dispatcher)
    other = Client("other")
    for method, path in (("GET", f"Subscription/{made}"), ("GET", f"Subscription/{made}/$status"),
                         ("GET", f"Subscription/{made}/$events"), ("GET", f"Subscription/{made}/_history/1")):  # fmt: skip
        assert other(method, path).status == 404, path
    for path in (
        "Subscription",
        "Subscription?status=active",
        f"Subscription?_id={made}",
        "Subscription/_history",
        "_history",
    ):
        assert b"secret" not in other("GET", path).raw, path
        assert b"test" not in other("GET", path).raw, path
    assert other("GET", "Subscription/$status").json["total"] == 0
    assert other("PUT", f"Subscription/{made}", {**plain(receiver.url), "id": made}).status == 404
    assert other("DELETE", f"Subscription/{made}").status == 404
    assert client("GET", "Subscription?status=active").json["total"] == 1
    assert client("GET", f"Subscription/{made}").json["status"] == "active"


def test_the_server_is_no_receiver_of_its_own(client):
    assert client("POST", "Subscription", plain("http://T/fhir")).status == 422


def test_a_client_has_so_many_subscriptions_and_no_more(client, monkeypatch):
    from lianxin.exchange.subscriptions import fhir

    monkeypatch.setattr(fhir, "MOST", 2)
    made = [client("POST", "Subscription", plain("https://example.org/x")) for _ in range(3)]
    assert [m.status for m in made] == [201, 201, 422]
    assert Client("another")("POST", "Subscription", plain("https://example.org/x")).status == 201
    client("DELETE", f"Subscription/{made[0].json['id']}")
    assert client("POST", "Subscription", plain("https://example.org/x")).status == 201


def test_subscriptions_in_transactions_and_patched(client, receiver, dispatcher):
    who = a_patient(client)
    bundle = {
        "resourceType": "Bundle", "type": "transaction",
        "entry": [{"resource": plain(receiver.url), "request": {"method": "POST", "url": "Subscription"}}],
    }  # fmt: skip
    answer = client("POST", "", bundle)
    assert answer.status == 200, answer.raw
    (made,) = Subscription.objects.all()
    dispatcher.settle()
    patch = [{"op": "replace", "path": "/criteria", "value": "Observation?code=2339-0"}]
    patched = client(
        "PATCH", f"Subscription/{made.fhir_id}", patch, content_type="application/json-patch+json"
    )
    assert patched.status == 200, patched.raw
    dispatcher.settle()
    observe(client, who)
    told = observe(client, who, "5", code="2339-0")
    dispatcher.settle()
    assert [h.path for h in receiver.heard] == [f"/hook/Observation/{told}"]
    made.refresh_from_db()
    assert (made.status, made.criteria) == ("active", "Observation?code=2339-0")
    assert lifecycle.check() == []
    refused = {**bundle, "entry": [{**bundle["entry"][0], "resource": plain("https://10.0.0.1/")}]}
    assert client("POST", "", refused).status == 422


def test_a_client_subscribes_only_to_what_its_scopes_reach(receiver):
    narrow = Client("narrow", scope="system/Subscription.cruds system/Encounter.rs")
    assert narrow("POST", "Subscription", plain(receiver.url)).status == 403
    assert narrow("POST", "Subscription", topical(receiver.url, "laboratory-result")).status == 403
    assert narrow("POST", "Subscription", plain(receiver.url, "Encounter")).status == 201
    searching = Client("searching", scope="system/Subscription.cruds system/Observation.s")
    assert searching("POST", "Subscription", plain(receiver.url)).status == 403
    assert searching("POST", "Subscription", plain(receiver.url, payload="")).status == 201


def test_a_subscription_ends_with_its_clients_authorisation(client, receiver, dispatcher):
    who = a_patient(client)
    owner = Client("leaving")
    made = subscribe(owner, plain(receiver.url), dispatcher)
    observe(client, who)
    Token.objects.filter(client__name="leaving").update(revoked_at=clock.now())
    dispatcher.settle()
    assert receiver.heard == []
    one = Subscription.objects.get(fhir_id=made)
    assert one.status == "off"
    assert "authorisation has ended" in one.error


def test_what_its_client_may_not_see_when_it_is_sent_is_withheld(client, receiver, dispatcher):
    who = a_patient(client)
    owner = Client("shrinking")
    made = subscribe(owner, plain(receiver.url), dispatcher)
    receiver.answer = lambda heard: 500
    observe(client, who)
    dispatcher.settle()
    Token.objects.filter(client__name="shrinking").update(scope="system/Subscription.rs system/Observation.s")
    receiver.heard.clear()
    clock.shift(dt.timedelta(minutes=20))
    dispatcher.settle()
    assert receiver.heard == []
    (event,) = SubscriptionEvent.objects.filter(subscription__fhir_id=made)
    assert event.status == "withheld"


# ------------------------------------------------------------------------------------------------------------------- topics


def test_a_topic_begins_with_a_handshake_and_tells_events_in_bundles(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(
        client, topical(receiver.url, "laboratory-result", f"Observation?patient=Patient/{who}"), dispatcher
    )
    (handshake,) = receiver.heard
    assert (handshake.method, handshake.path, handshake.json["type"]) == ("POST", "/hook", "history")
    told = handshake.parameters
    assert (told["type"], told["status"], told["events-since-subscription-start"]) == (
        "handshake",
        "requested",
        "0",
    )
    assert told["subscription"] == f"http://t/fhir/Subscription/{made}"
    receiver.heard.clear()
    lab = {
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory",
                    }
                ]
            }
        ]
    }
    ids = [laboratory(client, who, lab, i) for i in range(3)]
    observe(client, who)  # no laboratory
    laboratory(client, a_patient(client), lab, 9)  # another patient
    dispatcher.settle()
    (only,) = receiver.heard
    bundle = only.json
    assert only.headers["idempotency-key"] == f"{made}:1-3"
    assert bundle["entry"][0]["request"] == {
        "method": "GET",
        "url": f"http://t/fhir/Subscription/{made}/$status",
    }
    told = only.parameters
    assert (told["type"], told["status"], told["events-since-subscription-start"]) == (
        "event-notification",
        "active",
        "3",
    )
    assert told["topic"] == TOPIC + "laboratory-result"
    assert [e["event-number"] for e in told["events"]] == ["1", "2", "3"]
    assert [e["focus"] for e in told["events"]] == [f"http://t/fhir/Observation/{i}" for i in ids]
    assert [e["resource"]["id"] for e in bundle["entry"][1:]] == ids
    assert bundle["entry"][1]["request"] == {"method": "POST", "url": "Observation"}
    assert bundle["entry"][1]["response"]["status"] == "201"


def laboratory(client: Client, who: str, lab: dict, n: int) -> str:
    import json

    made = client("POST", "Observation", {**json.loads(observation(who, value=str(n))), **lab})
    assert made.status == 201, made.raw
    return made.json["id"]


@pytest.mark.parametrize("content", ["empty", "id-only"])
def test_the_content_level_is_kept(client, receiver, dispatcher, content):
    made = subscribe(client, topical(receiver.url, "patient-changed", content=content), dispatcher)
    receiver.heard.clear()
    who = a_patient(client)
    dispatcher.settle()
    (only,) = receiver.heard
    assert "单晓明" not in only.raw.decode()
    if content == "empty":
        assert who not in only.raw.decode()
        assert len(only.json["entry"]) == 1
    else:
        assert only.parameters["events"][0]["focus"] == f"http://t/fhir/Patient/{who}"
        assert "resource" not in only.json["entry"][1]
    events = client("GET", f"Subscription/{made}/$events?content=full-resource")
    assert events.status == 200
    assert "单晓明" not in events.raw.decode()


def test_a_patient_topic_tells_creation_change_and_removal(client, receiver, dispatcher):
    subscribe(client, topical(receiver.url, "patient-changed", "Patient?gender=male"), dispatcher)
    receiver.heard.clear()
    who = a_patient(client)
    client("POST", "Patient", patient(gender="female"))
    resource = client("GET", f"Patient/{who}").json
    client("PUT", f"Patient/{who}", {**resource, "birthDate": "1981-01-01"})
    assert client("DELETE", f"Patient/{who}").status == 204
    dispatcher.settle()
    told = [e for h in receiver.heard for e in h.json["entry"][1:]]
    assert [e["request"]["method"] for e in told] == ["POST", "PUT", "DELETE"]
    assert [e["resource"]["birthDate"] for e in told[:2]] == ["1980-05-06", "1981-01-01"]
    assert "resource" not in told[2]


def test_a_status_change_from_and_to(client, receiver, dispatcher):
    subscribe(
        client, topical(receiver.url, "referral-changed", "Task?from=requested&status=accepted"), dispatcher
    )
    receiver.heard.clear()
    who = a_patient(client)
    task = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "for": {"reference": f"Patient/{who}"},
    }
    made = client("POST", "Task", task)
    assert made.status == 201, made.raw
    resource = made.json
    for status in ("accepted", "accepted", "in-progress", "accepted"):
        resource = client(
            "PUT", f"Task/{resource['id']}", {**resource, "status": status, "description": status}
        ).json
    dispatcher.settle()
    told = [e for h in receiver.heard for e in h.json["entry"][1:]]
    assert [e["resource"]["meta"]["versionId"] for e in told] == ["2"]


def test_an_encounter_begins_once(client, receiver, dispatcher):
    subscribe(client, topical(receiver.url, "encounter-start"), dispatcher)
    subscribe(client, topical(receiver.url, "encounter-end"), dispatcher)
    receiver.heard.clear()
    who = a_patient(client)
    encounter = {
        "resourceType": "Encounter", "status": "planned", "subject": {"reference": f"Patient/{who}"},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
    }  # fmt: skip
    resource = client("POST", "Encounter", encounter).json
    for status in ("in-progress", "in-progress", "finished"):
        resource = client("PUT", f"Encounter/{resource['id']}", {**resource, "status": status}).json
    dispatcher.settle()
    told = {h.parameters["topic"].rpartition("/")[2]: [e["resource"]["meta"]["versionId"] for e in h.json["entry"][1:]]
            for h in receiver.heard}  # fmt: skip
    assert told == {"encounter-start": ["2"], "encounter-end": ["4"]}


def test_heartbeats_go_out_when_nothing_happens(client, receiver, dispatcher):
    subscribe(client, topical(receiver.url, "patient-changed", heartbeat_period=60), dispatcher)
    receiver.heard.clear()
    dispatcher.settle()
    assert receiver.heard == []
    clock.shift(dt.timedelta(seconds=61))
    dispatcher.settle()
    assert [h.parameters["type"] for h in receiver.heard] == ["heartbeat"]


def test_a_handshake_that_fails_is_an_error_and_may_be_asked_for_again(client, receiver, dispatcher):
    receiver.answer = lambda heard: 404
    made = client("POST", "Subscription", topical(receiver.url, "patient-changed")).json
    dispatcher.settle()
    resource = client("GET", f"Subscription/{made['id']}").json
    assert resource["status"] == "error"
    assert "404" in resource["error"]
    told = parameters(client("GET", f"Subscription/{made['id']}/$status").json["entry"][0]["resource"])
    assert (told["status"], told["type"]) == ("error", "query-status")
    assert "error" in told
    who = a_patient(client)
    receiver.answer = lambda heard: 200
    assert client("PUT", f"Subscription/{made['id']}", {**resource, "status": "requested"}).status == 200
    dispatcher.settle()
    assert client("GET", f"Subscription/{made['id']}").json["status"] == "active"
    assert who in receiver.events()[0].raw.decode()


def test_events_can_be_fetched_by_number(client, receiver, dispatcher):
    made = subscribe(client, topical(receiver.url, "patient-changed"), dispatcher)
    ids = [a_patient(client) for _ in range(4)]
    dispatcher.settle()
    answer = client("GET", f"Subscription/{made}/$events?eventsSinceNumber=2&eventsUntilNumber=3")
    told = parameters(answer.json["entry"][0]["resource"])
    assert told["type"] == "query-event"
    assert [e["event-number"] for e in told["events"]] == ["2", "3"]
    assert [e["resource"]["id"] for e in answer.json["entry"][1:]] == ids[1:3]
    assert client("GET", f"Subscription/{made}/$events?eventsSinceNumber=x").status == 400
    assert client("GET", f"Subscription/{made}/$status").json["type"] == "searchset"


def test_the_capability_statement_lists_the_topics(client):
    statement = client("GET", "metadata").json
    (mine,) = [r for r in statement["rest"][0]["resource"] if r["type"] == "Subscription"]
    assert {"status", "events"} <= {o["name"] for o in mine["operation"]}
    assert any(e["valueCanonical"] == TOPIC + "patient-changed" for e in mine["extension"])
