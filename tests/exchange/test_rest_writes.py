"""Writing at the door: patches, conditions, preferences, deletes; correct when many do it at once."""

import json
import threading

import pytest

from lianxin.access import connections
from lianxin.network.models import Institution
from tests.exchange.client import Client, observation, patient

pytestmark = pytest.mark.django_db(transaction=True)

JSON_PATCH = {"content_type": "application/json-patch+json"}


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


def steps(*some):
    return json.dumps(some).encode()


def fhirpath(kind, path, **value):
    part = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    part += [{"name": "value", **value}] if value else []
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}


def at_once(count, work):
    """``count`` threads run ``work(n)``; their results."""
    done = []

    def run(n):
        from django.db import connection

        try:
            done.append(work(n))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def test_json_patch_keeps_digits(client):
    pid = client("POST", "Patient", patient()).json["id"]
    oid = client("POST", "Observation", observation(pid, value="1.10")).json["id"]
    change = steps(
        {"op": "test", "path": "/status", "value": "final"},
        {"op": "replace", "path": "/status", "value": "amended"},
    )
    made = client("PATCH", f"Observation/{oid}", change, **JSON_PATCH)
    assert made.status == 200, made.raw
    assert b'"value":1.10' in made.raw
    assert made.headers["ETag"] == 'W/"2"'
    assert made.json["status"] == "amended"
    failed = client("PATCH", f"Observation/{oid}", change, **JSON_PATCH)
    assert (failed.status, failed.issues[0]["expression"]) == (422, ["patch[0]"])
    assert client("GET", f"Observation/{oid}").headers["ETag"] == 'W/"2"'


def test_fhirpath_patch(client):
    pid = client("POST", "Patient", patient()).json["id"]
    made = client("PATCH", f"Patient/{pid}", fhirpath("replace", "Patient.birthDate", valueDate="1981-01-01"))
    assert (made.status, made.json["birthDate"]) == (200, "1981-01-01")
    nothing = client("PATCH", f"Patient/{pid}", fhirpath("delete", "Patient.maritalStatus"))
    assert (nothing.status, nothing.headers["ETag"]) == (200, 'W/"2"'), "nothing changed: no version"
    wrong = client(
        "PATCH", f"Patient/{pid}", fhirpath("replace", "Patient.birthDate", valueDate="1981-13-01")
    )
    assert wrong.status in (400, 422)


def test_patches_that_cannot_be(client):
    pid = client("POST", "Patient", patient()).json["id"]
    gender = steps({"op": "replace", "path": "/gender", "value": "female"})
    for raw, status in (
        (steps({"op": "replace", "path": "/gender", "value": "nonsense"}), 422),
        (steps({"op": "add", "path": "/surprise", "value": 1}), 422),
        (steps({"op": "replace", "path": "/id", "value": "x"}), 422),
        (steps({"op": "replace", "path": "/resourceType", "value": "Person"}), 422),
        (steps({"op": "replace", "path": "", "value": []}), 422),
        (b"{", 400),
        (b"", 400),
    ):
        assert client("PATCH", f"Patient/{pid}", raw, **JSON_PATCH).status == status, raw
    assert client("PATCH", "Patient/nobody", gender, **JSON_PATCH).status == 404
    assert client("PATCH", f"Patient/{pid}", gender, if_match='W/"9"', **JSON_PATCH).status == 412
    reply = client("PATCH", f"Patient/{pid}", gender, content_type="application/xml-patch+xml")
    assert reply.status == 415
    assert "json-patch" in reply.headers["Accept-Patch"]
    stamped = client(
        "PATCH",
        f"Patient/{pid}",
        steps({"op": "replace", "path": "/meta/versionId", "value": "77"}),
        **JSON_PATCH,
    )
    assert stamped.json["meta"]["versionId"] == "2"
    client("DELETE", f"Patient/{pid}")
    assert client("PATCH", f"Patient/{pid}", gender, **JSON_PATCH).status == 410


def test_patches_at_once_lose_nothing(client):
    did = client("POST", "Practitioner", doctor("1")).json["id"]
    assert (
        client(
            "PATCH",
            f"Practitioner/{did}",
            steps({"op": "add", "path": "/telecom", "value": [{"system": "phone", "value": "0"}]}),
            **JSON_PATCH,
        ).status
        == 200
    )
    done = at_once(8, lambda n: client(
        "PATCH", f"Practitioner/{did}", steps({"op": "add", "path": "/telecom/-", "value": {"system": "phone", "value": str(n + 1)}}), **JSON_PATCH).status)  # fmt: skip
    assert done == [200] * 8
    held = client("GET", f"Practitioner/{did}").json
    assert sorted(t["value"] for t in held["telecom"]) == [str(n) for n in range(9)]
    assert held["meta"]["versionId"] == "10"


def test_conditional_create(client):
    first = client("POST", "Practitioner", doctor("1"), if_none_exist="identifier=urn:c|1")
    assert first.status == 201
    for condition in (
        "identifier=urn:c|1",
        "identifier=urn%3Ac%7C1",
        "?identifier=urn:c|1",
        "Practitioner?identifier=urn:c|1",
    ):
        again = client("POST", "Practitioner", doctor("1"), if_none_exist=condition)
        assert (again.status, again.json["id"]) == (200, first.json["id"]), condition
    client("POST", "Practitioner", doctor("1"))
    assert client("POST", "Practitioner", doctor("1"), if_none_exist="identifier=urn:c|1").status == 412
    for condition in ("_count=1", "identifier=", "nonsense=1", "&&"):
        assert client("POST", "Practitioner", doctor("1"), if_none_exist=condition).status in (400, 412), (
            condition
        )


def test_conditional_update(client):
    made = client("PUT", "Practitioner?identifier=urn:c|7", doctor("7"))
    assert made.status == 201, made.raw
    did = made.json["id"]
    changed = client("PUT", "Practitioner?identifier=urn:c|7", doctor("7", "李医生"))
    assert (changed.status, changed.json["id"], changed.json["meta"]["versionId"]) == (200, did, "2")
    named = client("PUT", "Practitioner?identifier=urn:c|7", doctor("7", "李医生", id=did))
    assert named.status == 200
    assert client("PUT", "Practitioner?identifier=urn:c|7", doctor("7", id="other")).status == 400
    own = client("PUT", "Practitioner?identifier=urn:c|8", doctor("8", id="mine-8"))
    assert (own.status, own.json["id"]) == (201, "mine-8")
    assert client("PUT", "Practitioner?identifier=urn:c|none", doctor("9", id="mine-8")).status == 409
    assert client("PUT", "Practitioner?identifier=urn:c|7", doctor("7"), if_match='W/"1"').status == 412
    client("POST", "Practitioner", doctor("7"))
    assert client("PUT", "Practitioner?identifier=urn:c|7", doctor("7")).status == 412
    for path in ("Practitioner", "Practitioner?_format=json", "Practitioner?nonsense=1"):
        assert client("PUT", path, doctor("7")).status in (400, 412), path


def test_conditional_patch_and_delete(client, settings):
    client("POST", "Practitioner", doctor("1"))
    change = steps({"op": "add", "path": "/gender", "value": "female"})
    assert client("PATCH", "Practitioner?identifier=urn:c|1", change, **JSON_PATCH).json["gender"] == "female"
    assert client("PATCH", "Practitioner?identifier=urn:c|0", change, **JSON_PATCH).status == 404
    client("POST", "Practitioner", doctor("1"))
    assert client("PATCH", "Practitioner?identifier=urn:c|1", change, **JSON_PATCH).status == 412
    assert client("DELETE", "Practitioner?identifier=urn:c|1").status == 412, (
        "one at most, unless set otherwise"
    )
    settings.LIANXIN_CONDITIONAL_DELETE = 2
    told = client("DELETE", "Practitioner?identifier=urn:c|1", prefer="return=OperationOutcome")
    assert (told.status, told.issues[0]["diagnostics"]) == (200, "deleted: 2")
    assert client("GET", "Practitioner?identifier=urn:c|1").json["total"] == 0
    assert client("DELETE", "Practitioner?identifier=urn:c|1").status == 204
    for n in range(3):
        client("POST", "Practitioner", doctor("5", str(n)))
    assert client("DELETE", "Practitioner?identifier=urn:c|5").status == 412
    assert client("GET", "Practitioner?identifier=urn:c|5").json["total"] == 3
    for path in ("Practitioner", "Practitioner?_count=1", "Practitioner?identifier="):
        assert client("DELETE", path).status == 412, path


def test_conditional_writes_at_once_agree(client):
    """Creates and updates with one condition, and the same one written differently, make one resource a condition."""
    names = [str(n) for n in range(4)]

    def work(n):
        value = names[n % 4]
        way = n // 4
        if way % 3 == 0:
            return client("PUT", f"Practitioner?identifier=urn:c|{value}", doctor(value)).status
        condition = (
            f"identifier=urn:c|{value}" if way % 3 == 1 else f"identifier=urn%3Ac%7C{value}&_format=json"
        )
        return client("POST", "Practitioner", doctor(value), if_none_exist=condition).status

    done = at_once(24, work)
    assert set(done) <= {200, 201}
    assert done.count(201) == 4
    for value in names:
        assert client("GET", f"Practitioner?identifier=urn:c|{value}").json["total"] == 1


def test_conditions_need_the_right_to_search(client):
    blind = Client("blind", "T1", "system/Practitioner.cud")
    assert blind("POST", "Practitioner", doctor("1")).status == 201
    for method, path, headers in (
        ("POST", "Practitioner", {"if_none_exist": "identifier=urn:c|1"}),
        ("PUT", "Practitioner?identifier=urn:c|1", {}),
        ("DELETE", "Practitioner?identifier=urn:c|1", {}),
    ):
        assert blind(method, path, doctor("1"), **headers).status == 403


def test_what_is_preferred_comes_back(client):
    minimal = client("POST", "Practitioner", doctor("1"), prefer="return=minimal")
    assert (minimal.status, minimal.raw) == (201, b"")
    assert minimal.headers["Location"] == minimal.headers["Content-Location"]
    assert minimal.headers["Location"].endswith("/_history/1")
    told = client("POST", "Practitioner", doctor("2"), prefer="return=OperationOutcome")
    assert told.json["resourceType"] == "OperationOutcome"
    assert client("POST", "Practitioner", doctor("3"), prefer="return=representation").json["id"]
    assert client("GET", "Practitioner?nonsense=1", prefer="handling=strict").status == 400
    assert client("GET", "Practitioner?nonsense=1", prefer="handling=lenient").status == 200


def test_update_as_create_and_version_conditions(client):
    assert client("PUT", "Practitioner/own-1", doctor("1", id="own-1")).status == 201
    assert client("PUT", "Practitioner/own-1", doctor("1", id="own-1")).status == 200
    assert client("PUT", "Practitioner/own-1", doctor("1", id="own-1"), if_none_match="*").status == 412
    assert client("PUT", "Practitioner/own-2", doctor("1", id="own-2"), if_none_match="*").status == 201
    assert client("PUT", "Practitioner/own-3", doctor("1", id="own-3"), if_match='W/"1"').status == 412
    assert client("PUT", "Practitioner/own-1", doctor("1")).status == 400
    assert client("PUT", "Practitioner/own-1", doctor("1", id="other")).status == 400
    assert client("PUT", "Practitioner/under_score", doctor("1", id="under_score")).status in (400, 422)
    assert client("DELETE", "Practitioner/own-1", if_match='W/"1"').status == 412
    assert client("DELETE", "Practitioner/own-1", if_match='W/"2"').status == 204
    again = client("DELETE", "Practitioner/own-1")
    assert again.status == 204
    assert client("DELETE", "Practitioner/never-there").status == 204
    done = at_once(
        6, lambda n: client("PUT", "Practitioner/race", doctor(str(n), id="race"), if_none_match="*").status
    )
    assert sorted(done) == [201] + [412] * 5


def test_every_issue_is_told_at_once(client):
    bad = {"resourceType": "Patient", "gender": "maybe", "birthDate": "2026-02-30", "surprise": 1}
    told = client("POST", "Patient", bad)
    assert told.status == 422
    assert {i["expression"][0] for i in told.issues} == {
        "Patient.gender",
        "Patient.birthDate",
        "Patient.surprise",
    }


def test_the_golden_patient_is_not_written(client):
    from lianxin.index.models import Person

    client("POST", "Patient", patient())
    number = Person.objects.unscoped("the one of this test").get().number
    gender = steps({"op": "replace", "path": "/gender", "value": "female"})
    for method, path, body, more in (
        ("PUT", f"Patient/{number}", patient(id=number), {}),
        ("DELETE", f"Patient/{number}", None, {}),
        ("PATCH", f"Patient/{number}", gender, JSON_PATCH),
        ("PUT", f"Patient?_id={number}", patient(), {}),
        ("DELETE", f"Patient?_id={number}", None, {}),
    ):
        assert client(method, path, body, **more).status == 403, path
    put = {"resource": patient(id=number), "request": {"method": "PUT", "url": f"Patient/{number}"}}
    for entry in (put, {"request": {"method": "DELETE", "url": f"Patient/{number}"}}):
        reply = client("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        assert (reply.status, reply.issues[0]["expression"]) == (403, ["Bundle.entry[0]"])
    assert client("GET", f"Patient/{number}").status == 200
    assert client("POST", "Practitioner", doctor("1"), if_none_exist="identifier=%00").status == 400
