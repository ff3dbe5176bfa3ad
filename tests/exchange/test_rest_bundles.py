"""Transactions and batches: order, references, conditions, patches, wholeness, and what the answer tells."""

import base64
import json
import uuid

import pytest

from lianxin.access import connections
from lianxin.network.models import Institution
from lianxin.record import validate
from tests.exchange.client import Client, observation, patient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def town(db):
    return Institution.objects.create(
        code="T1", name="甲镇卫生院", kind="township", tier="township", division="331023"
    )


@pytest.fixture
def client(town):
    yield Client("town", "T1")
    connections.close()


def doctor(value, name="周医生", **more):
    return {
        "resourceType": "Practitioner",
        "identifier": [{"system": "urn:c", "value": value}],
        "name": [{"text": name}],
        **more,
    }


def entry(method, url, resource=None, full_url=None, **request):
    made = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url:
        made["fullUrl"] = full_url
    return made


def bundle(kind, *entries):
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def send(client, kind, *entries, **headers):
    reply = client("POST", "", bundle(kind, *entries), **headers)
    if reply.status == 200:
        assert not validate.check(reply.json)[0], validate.check(reply.json)[0]
    return reply


def statuses(reply):
    return [e["response"]["status"][:3] for e in reply.json["entry"]]


def urn():
    return f"urn:uuid:{uuid.uuid4()}"


def binary(*steps):
    data = base64.b64encode(json.dumps(steps).encode()).decode()
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}


def about(reference, **more):
    return {**json.loads(observation("x")), "subject": {"reference": reference}, **more}


def test_deletes_creates_updates_patches_and_reads_in_that_order(client):
    gone = client("POST", "Practitioner", doctor("1")).json["id"]
    kept = client("POST", "Practitioner", doctor("2")).json["id"]
    reply = send(
        client,
        "transaction",
        entry("GET", "Practitioner?identifier=urn:c|1"),
        entry("PATCH", f"Practitioner/{kept}", binary({"op": "add", "path": "/gender", "value": "female"})),
        entry("PUT", "Practitioner/mine", doctor("3", id="mine")),
        entry("POST", "Practitioner", doctor("1"), ifNoneExist="identifier=urn:c|1"),
        entry("DELETE", f"Practitioner/{gone}"),
        entry("GET", f"Practitioner/{kept}"),
    )
    assert reply.status == 200, reply.raw
    assert statuses(reply) == ["200", "200", "201", "201", "204", "200"]
    first, patched, put, made, deleted, read = reply.json["entry"]
    assert first["resource"]["total"] == 1, "the deleted one is no match, the created one is found"
    assert patched["resource"]["gender"] == read["resource"]["gender"] == "female"
    assert put["response"]["location"] == "Practitioner/mine/_history/1"
    assert made["response"]["etag"] == 'W/"1"'
    assert made["response"]["lastModified"]
    assert "resource" not in deleted


def test_references_of_every_kind(client):
    known = client("POST", "Practitioner", doctor("9")).json["id"]
    who, circle, absolute = urn(), urn(), "http://old.example/fhir/Patient/77"
    note = '见 urn:uuid 与 "reference":"' + who + '"'
    oid = "urn:oid:1.2.3.4"
    document = {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": who},
        "content": [{"attachment": {"url": oid, "contentType": "text/plain"}}], "description": note,
        "context": {"related": [{"reference": f"Practitioner/{known}/_history/1"}, {"reference": "http://elsewhere.example/fhir/Basic/1"}]},
    }  # fmt: skip
    reply = send(
        client,
        "transaction",
        entry("POST", "DocumentReference", document, circle),
        entry(
            "POST",
            "Observation",
            about(
                who,
                performer=[{"reference": "Practitioner?identifier=urn:c|9"}],
                derivedFrom=[{"reference": circle}],
            ),
        ),
        entry("POST", "Binary", {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}, oid),
        entry("POST", "Patient", patient(), who),
        entry("POST", "Patient", patient("李四"), absolute),
        entry("POST", "Observation", about("Patient/77"), "http://old.example/fhir/Observation/5"),
        entry("POST", "Observation", about(absolute)),
    )
    assert reply.status == 200, reply.raw
    made = [e["resource"] for e in reply.json["entry"]]
    assert made[0]["subject"]["reference"] == made[1]["subject"]["reference"] == f"Patient/{made[3]['id']}"
    assert made[0]["content"][0]["attachment"]["url"] == f"Binary/{made[2]['id']}"
    assert made[0]["description"] == note, "text is left alone"
    assert made[0]["context"]["related"][0]["reference"] == f"Practitioner/{known}/_history/1"
    assert made[0]["context"]["related"][1]["reference"] == "http://elsewhere.example/fhir/Basic/1"
    assert made[1]["performer"][0]["reference"] == f"Practitioner/{known}"
    assert made[1]["derivedFrom"][0]["reference"] == f"DocumentReference/{made[0]['id']}"
    assert made[5]["subject"]["reference"] == made[6]["subject"]["reference"] == f"Patient/{made[4]['id']}"


def test_circles(client):
    one, two = urn(), urn()
    left = {
        "resourceType": "Basic",
        "code": {"text": "a"},
        "extension": [{"url": "http://e", "valueReference": {"reference": two}}],
    }
    right = {
        "resourceType": "Basic",
        "code": {"text": "b"},
        "extension": [{"url": "http://e", "valueReference": {"reference": one}}],
    }
    reply = send(client, "transaction", entry("POST", "Basic", left, one), entry("POST", "Basic", right, two))
    a, b = (e["resource"] for e in reply.json["entry"])
    assert a["extension"][0]["valueReference"]["reference"] == f"Basic/{b['id']}"
    assert b["extension"][0]["valueReference"]["reference"] == f"Basic/{a['id']}"


def test_conditions_in_a_transaction(client):
    kept = client("POST", "Practitioner", doctor("1")).json["id"]
    gone = client("POST", "Practitioner", doctor("2")).json["id"]
    who = urn()
    reply = send(
        client,
        "transaction",
        entry("POST", "Practitioner", doctor("1"), who, ifNoneExist="identifier=urn:c|1"),
        entry(
            "POST",
            "PractitionerRole",
            {"resourceType": "PractitionerRole", "practitioner": {"reference": who}},
        ),
        entry("PUT", "Practitioner?identifier=urn:c|3", doctor("3"), urn()),
        entry("DELETE", "Practitioner?identifier=urn:c|2"),
        entry("DELETE", "Practitioner?identifier=urn:c|none"),
        entry(
            "POST",
            "PractitionerRole",
            {
                "resourceType": "PractitionerRole",
                "practitioner": {"reference": "Practitioner?identifier=urn:c|3"},
            },
        ),
    )
    assert reply.status == 200, reply.raw
    assert statuses(reply) == ["200", "201", "201", "204", "204", "201"]
    made = [e.get("resource") for e in reply.json["entry"]]
    assert made[0]["id"] == kept
    assert made[1]["practitioner"]["reference"] == f"Practitioner/{kept}"
    assert made[5]["practitioner"]["reference"] == f"Practitioner/{made[2]['id']}", (
        "what the transaction makes is found"
    )
    assert client("GET", f"Practitioner/{gone}").status == 410
    patched = send(
        client,
        "transaction",
        entry(
            "PATCH",
            "Practitioner?identifier=urn:c|3",
            binary({"op": "add", "path": "/gender", "value": "male"}),
        ),
    )
    assert patched.json["entry"][0]["resource"]["gender"] == "male"


@pytest.mark.parametrize(
    ("entries", "status", "place"),
    [
        ([entry("PUT", "Practitioner/a", doctor("1", id="a")), entry("DELETE", "Practitioner/a")], 400, "Bundle.entry"),
        ([entry("PUT", "Practitioner/a", doctor("1", id="a")), entry("PUT", "Practitioner/a", doctor("2", id="a"))], 400, "Bundle.entry[1]"),
        ([entry("POST", "Practitioner", doctor("1"), "urn:uuid:1"), entry("POST", "Practitioner", doctor("2"), "urn:uuid:1")], 400, "Bundle.entry[1].fullUrl"),
        ([entry("POST", "Practitioner", doctor("1"), ifNoneExist="identifier=urn:c|1"),
          entry("POST", "Practitioner", doctor("1"), ifNoneExist="identifier=urn%3Ac|1")], 400, "Bundle.entry"),
        ([entry("POST", "Practitioner", doctor("1")), entry("POST", "Practitioner", {"resourceType": "Practitioner", "gender": "x"})], 422,
         "Bundle.entry[1].resource.Practitioner.gender"),
        ([entry("POST", "Practitioner", doctor("1")), entry("POST", "Practitioner", patient())], 400, "Bundle.entry[1].resource"),
        ([entry("POST", "Practitioner", doctor("1")), entry("BREW", "Practitioner")], 400, "Bundle.entry[1].request.method"),
        ([entry("POST", "Practitioner", doctor("1")), {"resource": doctor("2")}], 400, "Bundle.entry[1].request"),
        ([entry("POST", "Practitioner", doctor("1")), entry("POST", "Practitioner")], 400, "Bundle.entry[1].resource"),
        ([entry("POST", "Practitioner", doctor("1")), entry("PUT", "Practitioner", doctor("2"))], 412, "Bundle.entry[1].request.url"),
        ([entry("POST", "Practitioner", doctor("1")), entry("PUT", "Practitioner/x", doctor("2", id="y"))], 400, "Bundle.entry[1].resource"),
        ([entry("POST", "Practitioner", doctor("1")), entry("PUT", "Practitioner/x", doctor("2", id="x"), ifMatch='W/"5"')], 412, "Bundle.entry[1].resource"),
        ([entry("POST", "Practitioner", doctor("1")), entry("PATCH", "Practitioner/nobody", binary())], 404, "Bundle.entry[1].resource"),
        ([entry("POST", "Practitioner", doctor("1")), entry("PATCH", "Practitioner/nobody", patient())], 400, "Bundle.entry[1].resource"),
        ([entry("POST", "Practitioner", doctor("1")), entry("POST", "Observation", about("Patient?identifier=urn:x|none"))], 412, "Bundle.entry[1].resource"),
        ([entry("POST", "Practitioner", doctor("1")), entry("POST", "Observation", about("Patient/nobody"))], 403, "Bundle.entry[1].resource.Observation.subject"),
        ([entry("POST", "Practitioner", doctor("1")), entry("POST", "Nonsense", doctor("1"))], 400, "Bundle.entry[1].request.url"),
        ([entry("POST", "Practitioner", doctor("1")), entry("POST", "Practitioner/$nonsense", doctor("1"))], 404, "Bundle.entry[1]"),
    ],
)  # fmt: skip
def test_all_or_nothing_and_the_culprit_is_named(client, entries, status, place):
    before = client("GET", "Practitioner?identifier=urn:c|1,urn:c|2").json["total"]
    reply = send(client, "transaction", *entries)
    assert reply.status == status, reply.raw
    assert reply.issues[0]["expression"][0].startswith(place), reply.issues
    assert client("GET", "Practitioner?identifier=urn:c|1,urn:c|2").json["total"] == before


def test_the_faults_of_several_entries_are_told_together(client):
    bad = {"resourceType": "Practitioner", "gender": "x"}
    reply = send(
        client,
        "transaction",
        entry("POST", "Practitioner", bad),
        entry("POST", "Practitioner", doctor("1")),
        entry("POST", "Practitioner", bad),
    )
    assert [i["expression"][0] for i in reply.issues] == [
        f"Bundle.entry[{n}].resource.Practitioner.gender" for n in (0, 2)
    ]


def test_entries_of_a_batch_stand_alone(client):
    did = client("POST", "Practitioner", doctor("1")).json["id"]
    reply = send(
        client,
        "batch",
        entry("POST", "Practitioner", {"resourceType": "Practitioner", "gender": "x"}),
        entry("POST", "Practitioner", doctor("2")),
        entry("GET", f"Practitioner/{did}", ifNoneMatch='W/"1"'),
        entry("GET", "Practitioner?identifier=urn:c|2"),
        entry("PATCH", f"Practitioner/{did}", {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Practitioner"}, {"name": "name", "valueString": "gender"},
            {"name": "value", "valueCode": "male"}]}]}),
        entry("PUT", "Practitioner?identifier=urn:c|3", doctor("3")),
        entry("DELETE", f"Practitioner/{did}", ifMatch='W/"9"'),
        entry("POST", "Practitioner", doctor("2"), ifNoneExist="identifier=urn:c|2"),
        entry("GET", "Nonsense"),
        entry("GET", "metadata"),
        entry("POST", "", bundle("batch")),
        {"resource": doctor("4")},
        entry("GET", f"Practitioner/{did}/$meta"),
        entry("HEAD", f"Practitioner/{did}"),
        entry("DELETE", f"Practitioner/{did}"),
        prefer="handling=strict",
    )  # fmt: skip
    assert reply.status == 200, reply.raw
    assert statuses(reply) == [
        "422",
        "201",
        "304",
        "200",
        "200",
        "201",
        "412",
        "200",
        "404",
        "400",
        "400",
        "400",
        "200",
        "200",
        "204",
    ]
    told = reply.json["entry"]
    assert told[0]["response"]["outcome"]["issue"][0]["expression"] == ["Practitioner.gender"]
    assert told[1]["response"]["location"].startswith("Practitioner/")
    assert "resource" not in told[2]
    assert told[4]["resource"]["gender"] == "male"
    assert told[12]["resource"]["resourceType"] == "Parameters"
    minimal = send(client, "batch", entry("POST", "Practitioner", doctor("5")), prefer="return=minimal")
    assert "resource" not in minimal.json["entry"][0]
    assert minimal.json["entry"][0]["response"]["location"]
    outcome = send(
        client, "transaction", entry("POST", "Practitioner", doctor("6")), prefer="return=OperationOutcome"
    )
    assert outcome.json["entry"][0]["response"]["outcome"]["resourceType"] == "OperationOutcome"


def test_what_is_no_bundle_to_carry_out(client):
    for kind in ("collection", "document", "searchset", "history", "nonsense", ""):
        assert client("POST", "", bundle(kind)).status == 400, kind
    assert client("POST", "", patient()).status == 400
    assert client("POST", "", b"{").status == 400
    assert client("POST", "", b"[]").status == 400
    assert client("POST", "", bundle("batch"), content_type="text/plain").status == 415
    assert send(client, "transaction").status == 200
    many = b'{"resourceType":"Bundle","type":"batch","entry":[' + b",".join([b"{}"] * 10_001) + b"]}"
    assert client("POST", "", many).status == 413
    kept = client("POST", "Bundle", bundle("collection", {"resource": doctor("1", id="x")}))
    assert kept.status == 201


def test_absolute_urls_of_this_server(client):
    reply = send(
        client,
        "transaction",
        entry("POST", "http://t/fhir/Practitioner", doctor("1")),
        entry("GET", "/Practitioner?identifier=urn:c|1"),
    )
    assert statuses(reply) == ["201", "200"]
    assert reply.json["entry"][1]["resource"]["total"] == 1
    assert (
        client(
            "POST",
            "",
            bundle("transaction", entry("POST", "http://other.example/fhir/Practitioner", doctor("1"))),
        ).status
        == 400
    )


def test_the_token_must_allow_every_entry(client):
    narrow = Client("narrow", "T1", "system/Practitioner.crs")
    reply = send(
        narrow,
        "transaction",
        entry("POST", "Practitioner", doctor("1")),
        entry("PUT", "Practitioner/x", doctor("2", id="x")),
    )
    assert reply.status == 403
    assert reply.issues[0]["expression"] == ["Bundle.entry[1]"]
    assert statuses(
        send(
            narrow,
            "batch",
            entry("POST", "Practitioner", doctor("1")),
            entry("DELETE", "Practitioner/x"),
            entry("GET", "Patient"),
        )
    ) == ["201", "403", "403"]
