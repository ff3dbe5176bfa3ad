"""Reading at the door: versions, conditions, narrowing, negotiation, history, methods, browsers of other origins."""

import base64
import gzip
import json

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


@pytest.fixture
def pid(client):
    return client("POST", "Patient", patient(photo=[{"title": "x"}], language="zh")).json["id"]


def change(client, pid, **more):
    body = client("GET", f"Patient/{pid}").json
    body.update(more)
    reply = client("PUT", f"Patient/{pid}", body)
    assert reply.status == 200, reply.raw
    return reply


def rel(page, relation):
    return next(
        (link["url"].removeprefix("http://t/fhir/") for link in page["link"] if link["relation"] == relation),
        None,
    )


def test_conditional_reads(client, pid):
    read = client("GET", f"Patient/{pid}")
    assert read.headers["ETag"] == 'W/"1"'
    for tags in ('W/"1"', '"1"', 'W/"9", W/"1"', "*"):
        reply = client("GET", f"Patient/{pid}", if_none_match=tags)
        assert (reply.status, reply.raw) == (304, b""), tags
        assert reply.headers["ETag"] == 'W/"1"'
    assert client("GET", f"Patient/{pid}", if_none_match='W/"2"').status == 200
    modified = read.headers["Last-Modified"]
    assert client("GET", f"Patient/{pid}", if_modified_since=modified).status == 304
    assert client("GET", f"Patient/{pid}", if_modified_since="Mon, 01 Jan 2001 00:00:00 GMT").status == 200
    assert client("GET", f"Patient/{pid}", if_modified_since="nonsense").status == 200
    assert client("GET", f"Patient/{pid}", if_none_match='W/"2"', if_modified_since=modified).status == 200


def test_head_is_get_without_a_body(client, pid):
    for path in (f"Patient/{pid}", "Patient", f"Patient/{pid}/_history", "metadata"):
        got, head = client("GET", path), client("HEAD", path)
        assert (head.status, head.raw) == (200, b""), path
        if path != "metadata":
            assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert client("HEAD", "Patient/nobody").status == 404


def test_versions_and_deletion(client, pid):
    change(client, pid, gender="female")
    assert client("GET", f"Patient/{pid}/_history/1").json["gender"] == "male"
    assert client("GET", f"Patient/{pid}/_history/1").headers["ETag"] == 'W/"1"'
    for version in ("3", "0", "x", "-1", "99999999999", "1.0", "²"):
        assert client("GET", f"Patient/{pid}/_history/{version}").status == 404, version
    assert client("DELETE", f"Patient/{pid}").status == 204
    for path in (f"Patient/{pid}", f"Patient/{pid}/_history/3"):
        reply = client("GET", path)
        assert (reply.status, reply.issues[0]["code"]) == (410, "deleted")
    assert client("GET", f"Patient/{pid}/_history/2").status == 200
    back = client("PUT", f"Patient/{pid}", patient(id=pid))
    assert (back.status, back.json["meta"]["versionId"]) == (201, "4")


def test_history_of_one_a_type_and_all(client, pid):
    for gender in ("female", "other", "unknown"):
        change(client, pid, gender=gender)
    oid = client("POST", "Observation", observation(pid)).json["id"]
    client("DELETE", f"Observation/{oid}")
    page = client("GET", f"Patient/{pid}/_history").json
    assert not validate.check(page)[0], validate.check(page)[0]
    assert (page["type"], page["total"]) == ("history", 4)
    assert [e["resource"]["meta"]["versionId"] for e in page["entry"]] == ["4", "3", "2", "1"]
    assert [e["request"]["method"] for e in page["entry"]] == ["PUT", "PUT", "PUT", "POST"]
    assert {e["response"]["etag"] for e in page["entry"]} == {f'W/"{n}"' for n in range(1, 5)}
    deleted = client("GET", f"Observation/{oid}/_history").json["entry"]
    assert [e["request"]["method"] for e in deleted] == ["DELETE", "POST"]
    assert "resource" not in deleted[0]
    assert len(client("GET", "Patient/_history").json["entry"]) == 4
    assert len(client("GET", "_history").json["entry"]) == 6
    seen, at = [], f"Patient/{pid}/_history?_count=3&_elements=gender"
    while at:
        page = client("GET", at).json
        assert len(page["entry"]) <= 3
        assert "birthDate" not in page["entry"][0]["resource"]
        seen += [e["resource"]["meta"]["versionId"] for e in page["entry"]]
        at = rel(page, "next")
    assert seen == ["4", "3", "2", "1"]
    instant = client("GET", f"Patient/{pid}/_history/3").json["meta"]["lastUpdated"].replace("+", "%2B")
    since = client("GET", f"Patient/{pid}/_history?_since={instant}").json
    assert [e["resource"]["meta"]["versionId"] for e in since["entry"]] == ["4", "3"]
    at = client("GET", f"Patient/{pid}/_history?_at={instant}").json
    assert {e["resource"]["meta"]["versionId"] for e in at["entry"]} <= {"2", "3"}
    assert "3" in {e["resource"]["meta"]["versionId"] for e in at["entry"]}
    whole = client("GET", "_history?_at=2099").json["entry"]
    assert len(whole) == 2, "what is current then: the Patient, and the deletion"
    assert client("GET", "_history?_at=2001").json.get("entry") is None
    for query in (
        "_count=x",
        "_count=-1",
        "_since=nonsense",
        "_at=x",
        "_cursor=x",
        '_cursor=["2026-01-01",1,1]',
        "_since=2026&_at=2026",
        "_cursor=[]",
    ):
        assert client("GET", f"Patient/{pid}/_history?{query}").status == 400, query
    assert client("GET", "Patient/nobody/_history").status == 404


def test_narrowed_resources_keep_what_they_must(client, pid):
    oid = client("POST", "Observation", observation(pid, value="1.10")).json["id"]
    text = client("GET", f"Observation/{oid}?_elements=value")
    assert b'"value":1.10' in text.raw
    assert set(text.json) == {"resourceType", "id", "meta", "status", "code", "valueQuantity"}
    assert text.json["meta"]["tag"][-1]["code"] == "SUBSETTED"
    assert set(client("GET", f"Observation/{oid}?_elements=Patient.name").json) == {
        "resourceType",
        "id",
        "meta",
        "status",
        "code",
    }
    assert "effectiveDateTime" in client("GET", f"Observation/{oid}?_elements=Observation.effective").json
    assert "photo" not in client("GET", f"Patient/{pid}?_summary=true").json
    assert "name" in client("GET", f"Patient/{pid}?_summary=true").json
    assert set(client("GET", f"Patient/{pid}?_summary=text").json) == {"resourceType", "id", "meta"}
    assert "photo" in client("GET", f"Patient/{pid}?_summary=data").json
    assert "tag" not in client("GET", f"Patient/{pid}?_summary=false").json["meta"]
    assert client("GET", f"Patient/{pid}?_summary=nonsense").status == 400
    assert client("GET", "Patient?_summary=nonsense").status == 400
    assert client("GET", "Patient?_summary=count").json["total"] == 1
    assert "birthDate" not in client("GET", "Patient?_elements=gender").json["entry"][0]["resource"]


def test_formats(client, pid):
    for accept in ("application/fhir+json", "application/json;q=0.5, text/html", "*/*", "application/*", "application/fhir+json; fhirVersion=4.0",
                   "application/fhir+xml, application/fhir+json;q=0.1", ""):  # fmt: skip
        assert client("GET", f"Patient/{pid}", accept=accept).status == 200, accept
    for accept in (
        "application/fhir+xml",
        "text/html",
        "application/fhir+json;q=0",
        "application/fhir+json; fhirVersion=5.0",
    ):
        reply = client("GET", f"Patient/{pid}", accept=accept)
        assert (reply.status, reply.json["resourceType"]) == (406, "OperationOutcome"), accept
    assert client("GET", f"Patient/{pid}?_format=json", accept="text/html").status == 200
    assert client("GET", f"Patient/{pid}?_format=application/fhir%2Bjson").status == 200
    assert client("GET", f"Patient/{pid}?_format=xml").status == 406
    assert b"\n" in client("GET", f"Patient/{pid}?_pretty=true").raw
    packed = client("GET", "metadata", accept_encoding="br, gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.raw))["kind"] == "instance"
    for kind in (
        "application/xml",
        "text/plain",
        "application/fhir+json; charset=gbk",
        "application/fhir+json; fhirVersion=3.0",
    ):
        reply = client("POST", "Patient", patient(), content_type=kind)
        assert reply.status == 415, kind
        assert "application/fhir+json" in reply.headers["Accept-Post"]


def test_binaries_in_their_own_type(client):
    made = client("POST", "Binary", b"\x89PNG...", content_type="image/png")
    assert made.status == 201, made.raw
    assert base64.b64decode(made.json["data"]) == b"\x89PNG..."
    path = f"Binary/{made.json['id']}"
    native = client("GET", path, accept="image/png")
    assert (native.status, native.raw, native.headers["Content-Type"]) == (200, b"\x89PNG...", "image/png")
    assert native.headers["X-Content-Type-Options"] == "nosniff"
    assert client("GET", path, accept="application/fhir+json").json["contentType"] == "image/png"
    assert client("GET", path, accept="text/css").status == 406


def test_methods_and_addresses(client, pid):
    for method, path, allow in (
        ("PUT", "_history", "GET, HEAD, OPTIONS"),
        ("DELETE", "metadata", "GET, HEAD, OPTIONS"),
        ("POST", f"Patient/{pid}", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("GET", "Patient/_search", None),
        ("POST", f"Patient/{pid}/_history", "GET, HEAD, OPTIONS"),
        ("PUT", "", "GET, HEAD, POST, OPTIONS"),
        ("POST", f"Patient/{pid}/Observation", "GET, HEAD, OPTIONS"),
    ):
        reply = client(method, path, patient())
        if allow is None:
            assert reply.status in (404, 405)
            continue
        assert (reply.status, reply.headers["Allow"]) == (405, allow), path
        assert reply.issues[0]["code"] == "not-supported"
    for path in (
        "Nonsense",
        "Nonsense/1",
        "Patient/1/2/3/4",
        "Observation/1/Patient",
        f"Patient/{pid}/Nonsense",
        "$nonsense",
        "Patient/$nonsense",
        "a/b/$c",
    ):
        assert client("GET", path).status == 404, path
    assert client("BREW", "Patient").status == 501
    assert client("TRACE", f"Patient/{pid}").status == 501


def test_browsers_of_other_origins(client, pid, settings):
    preflight = client(
        "OPTIONS",
        f"Patient/{pid}",
        origin="https://app.example",
        access_control_request_method="PATCH",
        authorization="",
    )
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert preflight.headers["Allow"] == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
    reply = client("GET", f"Patient/{pid}", origin="https://app.example")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in reply.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" in client("GET", "Patient/x", origin="https://a").headers
    assert "Access-Control-Allow-Origin" not in client("GET", f"Patient/{pid}").headers
    settings.LIANXIN_CORS_ORIGINS = ["https://app.example"]
    assert (
        client("GET", "metadata", origin="https://app.example").headers["Access-Control-Allow-Origin"]
        == "https://app.example"
    )
    assert (
        "Access-Control-Allow-Origin" not in client("GET", "metadata", origin="https://evil.example").headers
    )
    settings.LIANXIN_CORS_ORIGINS = []
    assert (
        "Access-Control-Allow-Origin" not in client("GET", "metadata", origin="https://app.example").headers
    )
    assert client("OPTIONS", "Nonsense").status == 404


def test_searches_of_the_server_and_of_compartments(client, pid):
    oid = client("POST", "Observation", observation(pid)).json["id"]
    eid = client("POST", "Encounter", {
        "resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": f"Patient/{pid}"},
    }).json["id"]  # fmt: skip
    here = json.loads(observation(pid))
    here["encounter"] = {"reference": f"Encounter/{eid}"}
    client("POST", "Observation", here)
    both = client("GET", "?_type=Patient,Observation")
    assert both.status == 200, both.raw
    assert sorted(e["resource"]["resourceType"] for e in both.json["entry"]) == [
        "Observation",
        "Observation",
        "Patient",
    ]
    assert not validate.check(both.json)[0]
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert client("POST", "_search", b"_type=Patient", **form).json["total"] == 1
    assert client("POST", "Patient/_search", b"gender=male", **form).json["total"] == 1
    posted = client("POST", "Observation/_search?_count=1", f"patient={pid}".encode(), **form).json
    assert f"patient={pid}" in rel(posted, "self")
    assert client("GET", rel(posted, "next")).status == 200
    assert client("POST", "Patient/_search", b"{}").status == 415
    assert client("GET", f"Patient/{pid}/Observation").json["total"] == 2
    assert (
        rel(client("GET", f"Patient/{pid}/Observation?code=8480-6").json, "self")
        == f"Patient/{pid}/Observation?code=8480-6"
    )
    assert client("GET", f"Patient/{pid}/Observation?code=none").json["total"] == 0
    assert client("POST", f"Patient/{pid}/Observation/_search", b"code=8480-6", **form).json["total"] == 2
    assert client("GET", f"Encounter/{eid}/Observation").json["total"] == 1
    everything = client("GET", f"Patient/{pid}/*").json["entry"]
    assert {"Observation", "Encounter"} <= {e["resource"]["resourceType"] for e in everything}
    for path in ("Practitioner/x/Observation", "Device/x/Observation", "RelatedPerson/x/Observation"):
        assert client("GET", path).json["total"] == 0, path
    narrow = Client("narrow", "T1", "system/Observation.rs")
    assert narrow("GET", "?_type=Observation").status == 200
    for path in (
        "",
        "?_type=Patient",
        "?_type=Observation,Patient",
        f"Patient/{pid}/*",
        "_history",
        "Patient/_history",
    ):
        assert narrow("GET", path).status == 403, path
    assert oid


def test_the_statement_is_sound_and_cached(client):
    made = client("GET", "metadata", authorization="")
    statement = made.json
    assert not validate.check(statement)[0], validate.check(statement)[0]
    assert statement["implementation"]["url"] == "http://t/fhir"
    assert "application/json-patch+json" in statement["patchFormat"]
    rest = statement["rest"][0]
    assert {i["code"] for i in rest["interaction"]} == {
        "transaction",
        "batch",
        "search-system",
        "history-system",
    }
    assert len(rest["compartment"]) == 5
    one = next(r for r in rest["resource"] if r["type"] == "Observation")
    assert {"patch", "vread", "history-type"} <= {i["code"] for i in one["interaction"]}
    assert (one["conditionalUpdate"], one["conditionalDelete"]) == (True, "single")
    assert client("GET", "metadata", if_none_match=made.headers["ETag"]).status == 304
    other = client("GET", "metadata", host="elsewhere:8443").json
    assert other["implementation"]["url"] == "http://elsewhere:8443/fhir"
