"""Operations of the record at the door: $meta, $lastn, $document, $summary, $match, $diff, $everything."""

import json
import uuid

import pytest

from lianxin.access import connections
from lianxin.network.models import Institution
from lianxin.record import text, validate
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


def make(client, resource):
    raw = resource if isinstance(resource, bytes) else json.dumps(resource, ensure_ascii=False).encode()
    reply = client("POST", json.loads(raw)["resourceType"], raw)
    assert reply.status == 201, reply.raw
    return reply.json["id"]


def parameters(**given):
    parts = []
    for name, value in given.items():
        kind = {bool: "valueBoolean", int: "valueInteger", str: "valueString"}.get(type(value))
        parts.append({"name": name, kind: value} if kind else {"name": name, **value})
    return {"resourceType": "Parameters", "parameter": parts}


def types(bundle):
    return [e["resource"]["resourceType"] for e in bundle.get("entry", [])]


def test_meta_is_shown_added_and_taken_away(client):
    pid = make(client, patient())
    shown = client("GET", f"Patient/{pid}/$meta").json
    assert shown["parameter"][0]["valueMeta"]["versionId"] == "1"
    tags = {
        "tag": [{"system": "urn:t", "code": "a"}],
        "security": [{"system": "urn:s", "code": "R"}],
        "profile": ["http://p"],
    }
    reply = client("POST", f"Patient/{pid}/$meta-add", parameters(meta={"valueMeta": tags}))
    assert reply.status == 200, reply.raw
    meta = reply.json["parameter"][0]["valueMeta"]
    assert (meta["tag"], meta["security"], meta["profile"], meta["versionId"]) == (
        tags["tag"],
        tags["security"],
        ["http://p"],
        "2",
    )
    again = client("POST", f"Patient/{pid}/$meta-add", parameters(meta={"valueMeta": tags}))
    assert again.json["parameter"][0]["valueMeta"]["versionId"] == "2", "nothing new: no version"
    assert client("GET", "Patient?_tag=urn:t|a").status == 200
    gone = client("POST", f"Patient/{pid}/$meta-delete", parameters(meta={"valueMeta": {"tag": tags["tag"]}}))
    meta = gone.json["parameter"][0]["valueMeta"]
    assert "tag" not in meta
    assert meta["profile"] == ["http://p"]
    assert client("GET", f"Patient/{pid}").json["name"] == patient()["name"]
    assert client("POST", f"Patient/{pid}/$meta-add", parameters(x=1)).status == 400
    assert client("GET", f"Patient/{pid}/$meta-add").status == 405
    assert client("GET", "Patient/nobody/$meta").status == 404
    assert client("POST", "Patient/nobody/$meta-add", parameters(meta={"valueMeta": tags})).status == 404


def test_lastn_gives_the_newest_of_each_kind(client):
    pid = make(client, patient())
    for day in range(1, 6):
        make(client, observation(pid, value=str(100 + day), when=f"2026-03-0{day}"))
        make(client, observation(pid, code="8867-4", value=str(60 + day), when=f"2026-03-0{day}"))
    both = json.loads(observation(pid, code="8867-4", value="99", when="2026-03-09"))
    both["code"]["coding"].append({"system": "urn:local", "code": "HR"})
    make(client, both)
    local = json.loads(observation(pid, value="98", when="2026-03-08"))
    local["code"] = {"coding": [{"system": "urn:local", "code": "HR"}]}
    make(client, local)
    found = client(
        "GET",
        f"Observation/$lastn?patient={pid}&code=http://loinc.org|8480-6,http://loinc.org|8867-4,urn:local|HR&max=2",
    )
    assert found.status == 200, found.raw
    values = [e["resource"]["valueQuantity"]["value"] for e in found.json["entry"]]
    assert sorted(values) == [98, 99, 104, 105], "codes that share a coding are one kind"
    one = client("POST", "Observation/$lastn", parameters(patient=f"Patient/{pid}", code="8480-6")).json
    assert [e["resource"]["valueQuantity"]["value"] for e in one["entry"]] == [105]
    for query in (
        f"patient={pid}",
        "code=8480-6",
        f"patient={pid}&code=x&max=0",
        f"patient={pid}&code=x&max=y",
        f"patient={pid}&code=x&nonsense=1",
    ):
        assert client("GET", f"Observation/$lastn?{query}").status == 400, query
    assert client("GET", f"Observation/{uuid.uuid4()}/$lastn").status == 404


def test_a_document_holds_what_its_composition_names(client):
    pid, did = (
        make(client, patient()),
        make(client, {"resourceType": "Practitioner", "name": [{"text": "李医生"}]}),
    )
    drug = make(client, {"resourceType": "Medication", "code": {"text": "阿司匹林"}})
    asked = make(client, {
        "resourceType": "MedicationRequest", "status": "active", "intent": "order", "medicationReference": {"reference": f"Medication/{drug}"},
        "subject": {"reference": f"Patient/{pid}"},
    })  # fmt: skip
    composition = {
        "resourceType": "Composition", "status": "final", "type": {"text": "出院小结"}, "subject": {"reference": f"Patient/{pid}"},
        "date": "2026-03-01", "author": [{"reference": f"Practitioner/{did}"}], "title": "出院小结",
        "section": [{"title": "用药", "entry": [{"reference": f"MedicationRequest/{asked}"}]}],
    }  # fmt: skip
    cid = make(client, composition)
    made = client("GET", f"Composition/{cid}/$document")
    assert made.status == 200, made.raw
    assert made.json["type"] == "document"
    assert types(made.json)[0] == "Composition"
    assert set(types(made.json)) == {
        "Composition",
        "Patient",
        "Practitioner",
        "MedicationRequest",
        "Medication",
    }
    assert made.json["identifier"]["value"].startswith("urn:uuid:")
    assert not validate.check(made.json)[0]
    kept = client("POST", f"Composition/{cid}/$document", parameters(persist=True))
    assert kept.status == 200, kept.raw
    assert client("GET", kept.headers["Location"].removeprefix("http://t/fhir/")).json["type"] == "document"
    assert client("GET", "Composition/nothing/$document").status == 404


def concept(code, display, system="http://snomed.info/sct"):
    return {"coding": [{"system": system, "code": code, "display": display}]}


def status(kind, code):
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{kind}-clinical", "code": code}]}


def test_a_summary_tells_the_whole_person(client, other):
    number = {"system": "http://lianxin.example/id/resident-id-card", "value": "11010519491231002X"}
    pid = make(client, patient("王芳", "1949-12-31", gender="female", identifier=[number]))
    second = Client("second", "T2")
    two = make(second, patient("王芳", "1949-12-31", gender="female", identifier=[number]))
    who = {"reference": f"Patient/{pid}"}
    make(
        client,
        {
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": status("allergyintolerance", "active"),
            "code": concept("91936005", "青霉素 <过敏>"),
            "patient": who,
        },
    )
    make(
        client,
        {
            "resourceType": "Condition",
            "clinicalStatus": status("condition", "active"),
            "code": concept("38341003", "高血压"),
            "subject": who,
        },
    )
    make(
        client,
        {
            "resourceType": "Condition",
            "clinicalStatus": status("condition", "resolved"),
            "code": concept("233604007", "肺炎"),
            "subject": who,
        },
    )
    make(
        client,
        {
            "resourceType": "Immunization",
            "status": "completed",
            "vaccineCode": {"text": "流感疫苗"},
            "patient": who,
            "occurrenceDateTime": "2025-10-01",
        },
    )
    make(
        client,
        {
            "resourceType": "Procedure",
            "status": "completed",
            "code": concept("80146002", "阑尾切除"),
            "subject": who,
            "performedDateTime": "2001",
        },
    )
    vital = json.loads(observation(two, value="150"))
    vital["category"] = [
        {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                    "code": "vital-signs",
                }
            ]
        }
    ]
    make(second, vital)
    made = client("GET", f"Patient/{pid}/$summary")
    assert made.status == 200, made.raw
    bundle = made.json
    assert not validate.check(bundle)[0], validate.check(bundle)[0]
    assert types(bundle)[:2] == ["Composition", "Patient"]
    composition = bundle["entry"][0]["resource"]
    sections = {s["code"]["coding"][0]["code"]: s for s in composition["section"]}
    assert {"48765-2", "11450-4", "10160-0", "11369-6", "47519-4", "11348-0", "8716-3"} <= set(sections)
    assert "青霉素 &lt;过敏&gt;" in sections["48765-2"]["text"]["div"]
    assert len(sections["11450-4"]["entry"]) == 1
    urls = {e["fullUrl"] for e in bundle["entry"]}
    for section in composition["section"]:
        for entry in section["entry"]:
            assert entry["reference"] in urls or f"http://t/fhir/{entry['reference']}" in urls
    unknown = next(
        e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "MedicationStatement"
    )
    assert unknown["medicationCodeableConcept"]["coding"][0]["code"] == "no-medication-info"
    assert f"Patient/{two}" not in json.dumps([e["resource"] for e in bundle["entry"][2:]]), (
        "one subject for all"
    )
    by_number = client("GET", f"Patient/$summary?identifier={number['system']}|{number['value']}")
    assert by_number.status == 200, by_number.raw
    assert client("GET", "Patient/$summary").status == 400
    assert client("GET", "Patient/$summary?identifier=urn:x|none").status == 404
    assert client("GET", "Patient/nobody/$summary").status == 404
    narrow = Client("narrow", "T1", "system/Patient.rs system/Condition.rs")
    told = types(narrow("GET", f"Patient/{pid}/$summary").json)
    assert "Immunization" not in told
    assert told.count("Condition") == 2


def test_match_tells_who_it_may_be(client, other):
    number = {"system": "http://lianxin.example/id/resident-id-card", "value": "11010519491231002X"}
    local = {"system": "urn:his", "value": "88|7"}
    pid = make(client, patient("王芳", "1949-12-31", gender="female", identifier=[number, local]))
    asked = patient("王芳", "1949-12-31", gender="female", identifier=[number])
    found = client(
        "POST", "Patient/$match", parameters(resource={"resource": asked}, onlyCertainMatches=True)
    ).json
    assert pid in [e["resource"]["id"] for e in found["entry"]]
    for entry in found["entry"]:
        assert entry["search"]["score"] > 0.999
        assert entry["search"]["extension"][0]["valueCode"] == "certain"
    assert not validate.check(found)[0]
    alike = {"resource": patient("王芳", "1949-12-30", gender="female")}
    found = client("POST", "Patient/$match", parameters(resource=alike)).json
    assert {e["search"]["extension"][0]["valueCode"] for e in found["entry"]} <= {"probable", "possible"}
    assert all(0 < e["search"]["score"] < 0.999 for e in found["entry"])
    assert (
        "entry"
        not in client("POST", "Patient/$match", parameters(resource=alike, onlyCertainMatches=True)).json
    )
    by_local = {"resource": {"resourceType": "Patient", "identifier": [local]}}
    found = client("POST", "Patient/$match", parameters(resource=by_local)).json
    assert found["entry"][0]["search"]["score"] > 0.9
    nobody = {"resource": patient("赵一", "1990-01-01")}
    assert client("POST", "Patient/$match", parameters(resource=nobody)).json["total"] == 0
    assert client("POST", "Patient/$match", parameters(x=1)).status == 400
    assert client("GET", "Patient/$match").status == 400
    stranger = Client("stranger", "T2")
    for one in (asked, alike["resource"], by_local["resource"]):
        assert stranger("POST", "Patient/$match", parameters(resource={"resource": one})).json["total"] == 0


def test_diff_of_two_versions_is_a_patch(client):
    pid = make(client, patient())
    for name in ("单小明", "单大明"):
        body = client("GET", f"Patient/{pid}").json
        body["name"] = [{"text": name}]
        assert client("PUT", f"Patient/{pid}", body).status == 200
    made = client("GET", f"Patient/{pid}/$diff?from=1&to=3").json
    values = {p["name"]: p.get("valueString") for p in made["parameter"][0]["part"]}
    assert (values["path"], values["value"]) == ("Patient.name[0].text", "单大明")
    assert client("GET", f"Patient/{pid}/$diff").json["parameter"][0]["part"][2]["valueString"] == "单大明"
    assert client("GET", f"Patient/{pid}/$diff?from=9").status == 404
    assert client("GET", f"Patient/{pid}/$diff?from=x").status == 400
    assert client("GET", "Patient/nobody/$diff").status == 404
    assert client("GET", "$versions").json["parameter"][1]["valueCode"] == "4.0"


def test_everything_by_time_type_and_page(client):
    pid = make(client, patient())
    for day in range(1, 8):
        make(client, observation(pid, value=str(110 + day), when=f"2026-03-0{day}"))
    make(
        client,
        {
            "resourceType": "Flag",
            "status": "active",
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/{pid}"},
        },
    )
    whole = client("GET", f"Patient/{pid}/$everything").json
    assert whole["total"] == 9
    some = client("GET", f"Patient/{pid}/$everything?start=2026-03-02&end=2026-03-03").json
    assert sorted(types(some)) == ["Flag", "Observation", "Observation", "Patient"]
    assert set(types(client("GET", f"Patient/{pid}/$everything?_type=Flag").json)) == {"Flag"}
    assert "entry" not in client("GET", f"Patient/{pid}/$everything?_since=2099").json
    seen, page = [], client("GET", f"Patient/{pid}/$everything?_count=4&_elements=status").json
    while True:
        seen += types(page)
        assert len(page["entry"]) <= 4
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        if not following:
            break
        assert "_elements" in following[0]
        page = client("GET", following[0].removeprefix("http://t/fhir/")).json
    assert sorted(seen) == sorted(types(whole))
    assert (
        client("POST", f"Patient/{pid}/$everything", parameters(_count=2))
        .json["link"][1]["url"]
        .count("_count=2")
        == 1
    )
    for query in ("start=nonsense", "_count=x", "_type=Nonsense", "_since=1"):
        assert client("GET", f"Patient/{pid}/$everything?{query}").status == 400, query


def test_everything_of_a_contact(client):
    pid = make(client, patient())
    eid = make(client, {
        "resourceType": "Encounter", "status": "finished", "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": f"Patient/{pid}"},
    })  # fmt: skip
    here = json.loads(observation(pid))
    here["encounter"] = {"reference": f"Encounter/{eid}"}
    make(client, here)
    make(client, observation(pid))
    found = client("GET", f"Encounter/{eid}/$everything")
    assert found.status == 200, found.raw
    assert sorted(types(found.json)) == ["Encounter", "Observation", "Patient"]
    page = client("GET", f"Encounter/{eid}/$everything?_count=2").json
    assert len(page["entry"]) == 2
    rest = client("GET", page["link"][1]["url"].removeprefix("http://t/fhir/")).json
    assert len(rest["entry"]) == 1
    assert client("GET", "Encounter/none/$everything").status == 404


def test_operations_leak_nothing(client, other):
    pid = make(client, patient("钱多多"))
    oid = make(client, observation(pid))
    stranger = Client("stranger", "T2")
    for path in (
        f"Patient/{pid}/$everything",
        f"Patient/{pid}/$summary",
        f"Observation/{oid}/$meta",
        f"Observation/{oid}/$diff",
    ):
        assert stranger("GET", path).status == 404, path
    tag = parameters(meta={"valueMeta": {"tag": [{"code": "x"}]}})
    assert stranger("POST", f"Observation/{oid}/$meta-add", tag).status == 404
    assert stranger("GET", f"Observation/$lastn?patient={pid}&code=8480-6").json["total"] == 0


def test_every_operation_is_declared(client):
    rest = client("GET", "metadata").json["rest"][0]
    offered = {(r["type"], o["name"]) for r in rest["resource"] for o in r.get("operation", [])}
    assert {("Patient", "everything"), ("Encounter", "everything"), ("Patient", "match"), ("Patient", "summary"), ("Observation", "lastn"),
            ("Composition", "document"), ("Flag", "meta"), ("Flag", "meta-add"), ("Flag", "meta-delete"), ("Flag", "diff")} <= offered  # fmt: skip
    assert "versions" in [o["name"] for o in rest["operation"]]
    assert text.parse(json.dumps(rest).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"\xed\xa0\x80",
        b'{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Basic","id":"\xed\xa0\x80"}}]}',
        b'\xff\xfe{"resourceType":"Bundle"}',
    ],
)
def test_a_bundle_that_is_no_utf8_is_refused(client, raw):
    answer = client("POST", "", raw)
    if answer.status == 200:  # a batch whose entry is no text: the entry is refused
        assert [entry["response"]["status"][:3] for entry in answer.json["entry"]] == ["400"]
    else:
        assert answer.status == 400
