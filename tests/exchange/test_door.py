"""The FHIR door through its WSGI callable: exactness, versions, bundles, bad input, and what leaks to whom (nothing)."""

import gzip
import json
import threading
import uuid

import pytest

from lianxin.access import connections
from lianxin.access.models import AuditEvent
from lianxin.network.models import Institution
from tests.exchange.client import Client, observation, patient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def town(db):
    return Institution.objects.create(
        code="T1", name="甲镇卫生院", kind="township", tier="township", division="331023"
    )


@pytest.fixture
def other(db):
    return Institution.objects.create(
        code="T2", name="乙镇卫生院", kind="township", tier="township", division="331023"
    )


@pytest.fixture
def client(town):
    yield Client("town", "T1")
    connections.close()


def test_round_trip_keeps_the_text(client):
    pid = client("POST", "Patient", patient()).json["id"]
    raw = (
        '{ "resourceType" : "Observation", "status":"final", "valueQuantity":{"unit":"kg", "value": 71.500}, "code":{"text":"体重 \\u00e9"},'
        f' "subject":{{"reference":"Patient/{pid}"}} , "meta":{{"tag":[{{"code":"x"}}]}}}}'
    ).encode()
    made = client("POST", "Observation", raw)
    assert made.status == 201, made.raw
    rid = made.json["id"]
    text = client("GET", f"Observation/{rid}").raw.decode()
    assert '"valueQuantity":{"unit":"kg", "value": 71.500},"code":{"text":"体重 \\u00e9"}' in text
    assert made.headers["ETag"] == 'W/"1"'
    assert made.headers["Location"].endswith(f"Observation/{rid}/_history/1")
    assert made.json["meta"]["tag"] == [{"code": "x"}]
    changed = client(
        "PUT",
        f"Observation/{rid}",
        raw.replace(b'"resourceType"', b'"id":"%s","resourceType"' % rid.encode()),
        if_match='W/"1"',
    )
    assert changed.status == 200
    assert changed.json["meta"]["versionId"] == "2"
    stale = client("PUT", f"Observation/{rid}", changed.raw, if_match='W/"1"')
    assert stale.status == 412
    assert client("GET", f"Observation/{rid}/_history/1").raw.decode() == text
    assert client("GET", f"Observation/{rid}", if_none_match='W/"2"').status == 304
    assert client("DELETE", f"Observation/{rid}").status == 204
    assert client("DELETE", f"Observation/{rid}").status == 204
    assert client("GET", f"Observation/{rid}").status == 410
    versions = client("GET", f"Observation/{rid}/_history").json["entry"]
    assert [e["request"]["method"] for e in versions] == ["DELETE", "PUT", "POST"]
    assert client("GET", f"Observation?_id={rid}").json["total"] == 0


def test_search_sort_page_and_include(client):
    pid = client("POST", "Patient", patient()).json["id"]
    for day in range(1, 8):
        assert (
            client(
                "POST", "Observation", observation(pid, value=str(110 + day), when=f"2026-03-0{day}")
            ).status
            == 201
        )
    client("POST", "Observation", observation(pid, code="8867-4"))
    page = client("GET", f"Observation?patient={pid}&code=http://loinc.org|8480-6&_sort=-date&_count=3").json
    values = [e["resource"]["valueQuantity"]["value"] for e in page["entry"]]
    assert values == [117, 116, 115]
    following = [link["url"] for link in page["link"] if link["relation"] == "next"]
    while following:
        page = client("GET", following[0].removeprefix("http://t/fhir/")).json
        values += [e["resource"]["valueQuantity"]["value"] for e in page["entry"]]
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
    assert values == [117, 116, 115, 114, 113, 112, 111]
    assert client("GET", "Observation?subject:Patient.name=shanxiaoming&_summary=count").json["total"] == 8
    assert client("GET", "Patient?name=sxm&_has:Observation:patient:code=8867-4").json["total"] == 1
    assert client("GET", "Patient?name=单晓&birthdate=ge1980&gender=male").json["total"] == 1
    both = client("GET", f"Observation?code=8867-4&_include=Observation:subject&patient={pid}").json
    assert [e["search"]["mode"] for e in both["entry"]] == ["match", "include"]
    assert (
        client("GET", "Patient?_revinclude=Observation:subject").json["entry"][1]["search"]["mode"]
        == "include"
    )
    assert (
        client("GET", "Observation?value-quantity=gt116|http://unitsofmeasure.org|mm[Hg]").json["total"] == 2
    )
    assert client("GET", "Observation?code-value-quantity=8480-6$115").json["total"] == 1
    assert client("GET", "Observation?date=2026-03-02,2026-03-03").json["total"] == 2
    assert client("GET", "Observation?code:not=8480-6").json["total"] == 1
    assert client("GET", "Observation?encounter:missing=true&_count=0").json["total"] == 8
    assert client("GET", "Observation?nonsense=1", prefer="handling=strict").status == 400
    assert client("GET", "Observation?nonsense=1").json["entry"][-1]["search"]["mode"] == "outcome"
    assert client("GET", "Observation?code:above=1").status == 400
    narrow = client("GET", f"Observation?patient={pid}&_elements=valueQuantity&_count=1").json["entry"][0][
        "resource"
    ]
    assert "valueQuantity" in narrow
    assert "effectiveDateTime" not in narrow
    everything = client("GET", f"Patient/{pid}/$everything").json
    assert everything["total"] == 9


def test_virtual_patient_stands_for_all_sources(client, other):
    from lianxin.index.models import Person

    number = {"system": "http://lianxin.example/id/resident-id-card", "value": "11010519491231002X"}
    one = client("POST", "Patient", patient("王芳", "1949-12-31", gender="female", identifier=[number])).json[
        "id"
    ]
    second = Client("second", "T2")
    two = second("POST", "Patient", patient("王芳", "1949-12-31", gender="female", identifier=[number])).json[
        "id"
    ]
    client("POST", "Observation", observation(one))
    second("POST", "Observation", observation(two, value="130"))
    people = list(Person.objects.unscoped("test").all())
    assert len(people) == 1
    golden = client("GET", f"Patient/{people[0].number}")
    assert golden.status == 200
    assert {link["other"]["reference"] for link in golden.json["link"]} == {
        f"Patient/{one}",
        f"Patient/{two}",
    }
    assert client("GET", f"Observation?patient=Patient/{people[0].number}").json["total"] == 2
    assert client("GET", f"Observation?patient={one}").json["total"] == 1
    assert client("GET", f"Patient?identifier={number['system']}|{number['value']}").json["total"] == 2


def test_nobody_without_a_relationship_sees_anything(client, other):
    pid = client("POST", "Patient", patient("钱多多")).json["id"]
    made = client("POST", "Observation", observation(pid)).json
    stranger = Client("stranger", "T2")
    rid = made["id"]
    for path in (
        f"Patient/{pid}",
        f"Observation/{rid}",
        f"Observation/{rid}/_history/1",
        f"Observation/{rid}/_history",
        f"Patient/{pid}/$everything",
    ):
        assert stranger("GET", path).status == 404, path
    for path in (
        "Patient", "Observation", f"Observation?patient={pid}", "Patient?name=钱多多", "Observation?subject:Patient.name=钱多多", f"Patient?_id={pid}",
        "Patient?_has:Observation:patient:code=8480-6", "Observation?_summary=count", "Patient?_summary=count", f"Patient/{pid}/Observation",
        "Observation?_total=accurate", "Organization?_revinclude=Encounter:service-provider",
    ):  # fmt: skip
        reply = stranger("GET", path)
        assert reply.json["total"] == 0, path
        assert pid.encode() not in reply.raw or path != "Observation", path
    for path in ("_history", "Observation/_history", "Patient/_history"):
        assert "entry" not in stranger("GET", path).json
    assert stranger("POST", "Observation", observation(pid)).status == 403
    assert stranger("PUT", f"Observation/{rid}", made).status == 403
    assert stranger("DELETE", f"Observation/{rid}").status == 403
    assert client("GET", f"Observation/{rid}").status == 200
    plan = {
        "resourceType": "Flag",
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{pid}"},
    }
    entry = {"resource": plan, "request": {"method": "POST", "url": "Flag"}}
    assert (
        stranger("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status
        == 403
    )


def test_tokens_and_smart_scopes(client):
    assert client("GET", "Patient", authorization="Bearer nonsense-nonsense-nonsense").status == 401
    assert client("GET", "metadata", authorization="").status == 200
    narrow = Client("narrow", "T1", "system/Observation.rs")
    assert narrow("GET", "Observation").status == 200
    assert narrow("GET", "Patient").status == 403
    assert narrow("POST", "Observation", observation("x")).status == 403


def _bundle(kind, *entries):
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def _post(resource, full_url=None, **request):
    entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"], **request}}
    return {"fullUrl": full_url, **entry} if full_url else entry


def test_transaction_in_any_order_with_urns_and_conditional_references(client):
    doctor = {
        "resourceType": "Practitioner",
        "identifier": [{"system": "urn:x", "value": "7"}],
        "name": [{"text": "李医生"}],
    }
    assert client("POST", "Practitioner", doctor).status == 201
    ref = f"urn:uuid:{uuid.uuid4()}"
    body = json.loads(observation("x"))
    body["subject"] = {"reference": ref}
    body["performer"] = [{"reference": "Practitioner?identifier=urn:x|7"}]
    reply = client("POST", "", _bundle("transaction", _post(body), _post(patient(), ref)))
    assert reply.status == 200, reply.raw
    seen = client("GET", f"Observation/{reply.json['entry'][0]['response']['location'].split('/')[1]}").json
    assert seen["subject"]["reference"].startswith("Patient/")
    assert seen["performer"][0]["reference"].startswith("Practitioner/")
    assert client("GET", f"Observation?patient={seen['subject']['reference']}").json["total"] == 1


def test_a_bad_entry_refuses_the_whole_transaction_and_is_named(client):
    bad = {
        "resourceType": "Flag",
        "status": "nonsense",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/none"},
    }
    reply = client("POST", "", _bundle("transaction", _post(patient("赵全")), _post(bad)))
    assert reply.status == 422
    assert reply.issues[0]["expression"] == ["Bundle.entry[1].resource.Flag.status"]
    assert client("GET", "Patient?name=赵全").json["total"] == 0
    reply = client("POST", "", _bundle("batch", _post(patient("赵全")), _post(bad)))
    assert [e["response"]["status"] for e in reply.json["entry"]] == ["201", "422"]


def test_conditional_creates_at_once_make_one(client):
    done, names = [], [f"v{i}" for i in range(5)]

    def work(value):
        resource = {
            "resourceType": "Practitioner",
            "identifier": [{"system": "urn:c", "value": value}],
            "name": [{"text": "周医生"}],
        }
        done.append(
            client("POST", "Practitioner", resource, if_none_exist=f"identifier=urn:c|{value}").status
        )
        from django.db import connection

        connection.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in names for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(done)) == [200, 201]
    assert done.count(201) == len(names)
    for name in names:
        assert client("GET", f"Practitioner?identifier=urn:c|{name}").json["total"] == 1


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"resourceType":"Patient","gender":"male","gender":"female"}', 400),
        (b'{"resourceType":"Patient","name":[{"text":"\xff"}]}', 400),
        (b'{"resourceType":"Patient","name":[{"text":"\\ud800"}]}', 400),
        (b'{"resourceType":"Patient","name":[{"text":"\\u0000"}]}', 400),
        (b'{"resourceType":"Patient","multipleBirthInteger":NaN}', 400),
        (b'{"resourceType":"Patient","extension":' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (b"[" * 1_000_000, 400),
        (b'{"resourceType":"Patient","surprise":1}', 422),
        (b'{"resourceType":"Patient","gender":7}', 422),
        (b'{"resourceType":"Patient","gender":null}', 422),
        (b'{"resourceType":"Patient","birthDate":"2026-02-30"}', 422),
        (b'{"resourceType":"Patient","birthDate":"0000"}', 422),
        (b'{"resourceType":"Patient","active":true,"id":"' + b"9" * 400 + b'"}', 422),
        (b'{"resourceType":"Patient","multipleBirthInteger":1e400}', 400),
        (b'{"resourceType":"Bogus"}', 422),
        (b'{"resourceType":"Observation"}', 422),
    ],
)
def test_bad_bodies_are_refused_and_named(client, raw, status):
    reply = client("POST", "Patient", raw)
    assert reply.status in (status, 400, 422), reply.raw
    assert reply.status < 500
    assert reply.issues[0]["details"]["text"]
    assert reply.issues[0]["diagnostics"]


def test_limits_content_types_and_gzip(client):
    assert client("POST", "Patient", b"x", content_length=str(11 * 1024 * 1024)).status == 413
    bomb = gzip.compress(b" " * (12 * 1024 * 1024))
    assert client("POST", "Patient", bomb, content_encoding="gzip").status == 413
    assert client("POST", "Patient", b"nonsense", content_encoding="gzip").status == 400
    assert client("POST", "Patient", patient(), content_type="application/fhir+xml").status == 415
    assert client("GET", "Patient?_format=xml").status == 406
    assert (
        client(
            "POST", "Patient", gzip.compress(json.dumps(patient()).encode()), content_encoding="gzip"
        ).status
        == 201
    )
    reply = client("GET", "metadata", accept_encoding="gzip")
    assert json.loads(gzip.decompress(reply.raw))["fhirVersion"] == "4.0.1"
    assert client("PATCH", "Patient/1", b"[]").status == 404
    assert client("GET", "Nonsense/1").status == 404
    for query in ("_count=-1", "_count=x", "date=nonsense", "value-quantity=abc", "_sort=-", "_cursor=zz", "code=a|b|c", "subject=", "%00=1",
                  "date=99999", "value-quantity=1e999999", "_include=x", "_has:Observation=1", "a" * 70000):  # fmt: skip
        assert client("GET", f"Observation?{query}").status in (200, 400, 414), query


def test_reads_and_writes_are_audited(client):
    pid = client("POST", "Patient", patient()).json["id"]
    client("GET", f"Patient/{pid}")
    client("GET", "Patient?name=单")
    assert list(
        AuditEvent.objects.filter(person_id__isnull=False, what__startswith="Patient")
        .order_by("id")
        .values_list("action", flat=True)
    ) == ["create", "read", "search"]
