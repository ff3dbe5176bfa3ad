"""``$export``: what the Bulk Data guide asks for."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import psycopg
import pytest
from django.db import connection

from lianxin.access import connections
from lianxin.access.models import AuditEvent
from lianxin.exchange.bulk import files, jobs, runner, slices
from lianxin.exchange.bulk.models import BulkFile, BulkJob, BulkPerson
from tests.exchange.bulk_world import Bulk, fill, ids, job_of
from tests.exchange.client import observation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.LIANXIN_BULK_DIR = tmp_path / "bulk"
    monkeypatch.setattr(slices, "SETTLE", 0.005)
    yield
    connections.close()


@pytest.fixture
def platform() -> Bulk:
    return Bulk("platform")


def _stored(client: Bulk) -> list[Any]:
    return list(files.folder("x").parent.glob("*/*"))


def test_a_system_export_gives_everything_once(platform: Bulk) -> None:
    people = fill(platform)
    found = platform.exported("$export")
    assert ids(found, "Patient") == sorted(people)
    assert len(set(ids(found, "Observation"))) == 12
    one = found["Observation"][0]
    assert one == platform("GET", f"Observation/{one['id']}").json


def test_the_kick_off_status_and_manifest_are_as_the_guide_says(platform: Bulk) -> None:
    fill(platform, 1)
    reply = platform(
        "GET", "$export?_type=Patient,Observation", PREFER="respond-async", ACCEPT="application/fhir+json"
    )
    assert reply.status == 202
    where = reply.headers["Content-Location"]
    assert where.startswith("http://t/bulk/jobs/")
    assert reply.json["resourceType"] == "OperationOutcome"
    waiting = platform.web("GET", where)
    assert waiting.status_code == 202
    assert 0 < len(waiting.headers["X-Progress"]) < 100
    assert int(waiting.headers["Retry-After"]) > 0
    manifest = platform.finished(where)
    assert manifest["request"] == "http://t/fhir/$export?_type=Patient,Observation"
    assert manifest["requiresAccessToken"] is True
    assert manifest["error"] == []
    assert "deleted" not in manifest
    assert {(f["type"], f["count"]) for f in manifest["output"]} == {("Patient", 1), ("Observation", 4)}
    assert manifest["transactionTime"].endswith("+08:00")
    assert platform.web("GET", where).headers["Expires"].endswith("GMT")


def test_an_export_of_nothing_has_no_files(platform: Bulk) -> None:
    manifest = platform.finished(platform.begin("$export?_type=Patient"))
    assert (manifest["output"], manifest["error"]) == ([], [])


def test_post_takes_a_parameters_resource(platform: Bulk) -> None:
    fill(platform, 2)
    body = {"resourceType": "Parameters", "parameter": [{"name": "_type", "valueString": "Patient"}]}
    where = platform.begin("$export", body)
    manifest = platform.finished(where)
    assert manifest["request"] == "http://t/fhir/$export"
    assert [(f["type"], f["count"]) for f in manifest["output"]] == [("Patient", 2)]


def test_without_a_token_or_with_anothers_there_is_nothing(platform: Bulk) -> None:
    fill(platform, 1)
    where = platform.begin("$export?_type=Patient,Observation")
    manifest = platform.finished(where)
    other, narrow = Bulk("other"), Bulk("platform", scope="system/Patient.rs")
    for url in (where, manifest["output"][0]["url"]):
        assert platform.web("GET", url, authorization="").status_code == 401
        assert platform.web("GET", url, authorization="Bearer nonsense-nonsense-nonsense").status_code == 401
        refused = other.web("GET", url)
        assert refused.status_code == 404
        assert json.loads(refused.content)["resourceType"] == "OperationOutcome"
    assert other.web("DELETE", where).status_code == 404
    by_type = {f["type"]: f["url"] for f in manifest["output"]}
    assert narrow.web("GET", by_type["Observation"]).status_code == 403
    assert narrow.web("GET", by_type["Patient"]).status_code == 200


def test_cancelling_ends_the_job_and_its_address(platform: Bulk) -> None:
    fill(platform, 1)
    where = platform.begin("$export")
    assert platform.web("DELETE", where).status_code == 202
    assert platform.web("GET", where).status_code == 404
    assert platform.web("DELETE", where).status_code == 404
    runner.drain()
    assert job_of(where).status == "cancelled"
    assert _stored(platform) == []


def test_a_job_cancelled_in_the_middle_leaves_no_file(
    platform: Bulk, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(platform, 4)
    settings.LIANXIN_BULK_FILE_LINES = 2
    monkeypatch.setattr(slices, "SLICE", 50)
    where = platform.begin("$export")
    for _ in range(3):
        runner.turn()
    assert _stored(platform)
    platform.web("DELETE", where)
    runner.drain()
    assert _stored(platform) == []


def test_removing_a_finished_export_removes_its_files(platform: Bulk) -> None:
    fill(platform, 1)
    where = platform.begin("$export")
    url = platform.finished(where)["output"][0]["url"]
    assert platform.web("DELETE", where).status_code == 202
    assert platform.web("GET", where).status_code == 404
    assert platform.web("GET", url).status_code == 404
    assert _stored(platform) == []


def test_files_expire(platform: Bulk, settings: Any) -> None:
    fill(platform, 1)
    settings.LIANXIN_BULK_HOURS = 0
    where = platform.begin("$export")
    runner.drain()
    assert platform.web("GET", where).status_code == 404
    assert BulkPerson.objects.exists()
    jobs.tidy()
    assert job_of(where).status == "expired"
    assert not BulkPerson.objects.exists()
    assert _stored(platform) == []


@pytest.mark.parametrize(
    "form", ["application/fhir+ndjson", "application/fhir%2Bndjson", "application/ndjson", "ndjson"]
)
def test_the_output_formats(platform: Bulk, form: str) -> None:
    assert platform("GET", f"$export?_outputFormat={form}").status == 202


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_outputFormat=text/csv", 400),
        ("_since=yesterday", 400),
        ("_since=2026-01-01", 400),
        ("_since=2026-99-99T00:00:00Z", 400),
        ("_until=2026-01-01T00:00:00", 400),
        ("_type=Nonsense", 400),
        ("_type=Patient&_typeFilter=Observation?code=1", 400),
        ("_typeFilter=Observation?no-such-parameter=1", 400),
        ("_typeFilter=Observation?_include=Observation:subject", 400),
        ("_typeFilter=Observation?_sort=date", 400),
        ("_typeFilter=Observation?date=nonsense", 400),
        ("_typeFilter=Observation", 400),
        ("_typeFilter=Nonsense?a=b", 400),
        ("_elements=a.b.c", 400),
        ("includeAssociatedData=LatestProvenanceResources", 400),
        ("organizeOutputBy=Patient", 400),
        ("patient=Patient/1", 400),
        ("unheard-of=1", 400),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused(platform: Bulk, query: str, status: int) -> None:
    reply = platform("GET", f"$export?{query}", PREFER="respond-async")
    assert reply.status == status, reply.raw
    assert reply.issues[0]["severity"] == "error"
    assert BulkJob.objects.count() == 0


def test_lenient_handling_passes_over_what_is_not_supported_and_says_so(platform: Bulk) -> None:
    fill(platform, 1)
    where = platform.begin(
        "$export?_type=Patient,Nonsense&includeAssociatedData=x&unheard-of=1",
        PREFER="respond-async, handling=lenient",
    )
    manifest = platform.finished(where)
    assert [f["type"] for f in manifest["output"]] == ["Patient"]
    (error,) = manifest["error"]
    assert (error["type"], error["count"]) == ("OperationOutcome", 3)
    told = platform.lines(error["url"])
    assert {o["resourceType"] for o in told} == {"OperationOutcome"}
    assert {o["issue"][0]["expression"][0] for o in told} == {"_type", "includeAssociatedData", "unheard-of"}


def test_several_type_filters_and_types_without_one(platform: Bulk) -> None:
    (pid,) = fill(platform, 1, 0)
    for code in ("8480-6", "8462-4", "718-7"):
        platform("POST", "Observation", observation(pid, code))
    asked = (
        "$export?_type=Observation,Patient&_typeFilter=Observation%3Fcode%3D8480-6,Observation%3Fcode%3D8462-4%26patient%3D"
        + pid
    )
    found = platform.exported(asked)
    codes = sorted(o["code"]["coding"][0]["code"] for o in found["Observation"])
    assert codes == ["8462-4", "8480-6"]
    assert ids(found, "Patient") == [pid]
    found = platform.exported(
        "$export?_typeFilter=Observation?code=8480-6,718-7&_typeFilter=Observation?code=8480-6"
    )
    assert sorted(o["code"]["coding"][0]["code"] for o in found["Observation"]) == ["718-7", "8480-6"]


def test_elements_leaves_the_named_and_the_mandatory(platform: Bulk) -> None:
    fill(platform, 1)
    found = platform.exported("$export?_elements=Patient.gender,valueQuantity,id")
    assert set(found["Patient"][0]) == {"resourceType", "id", "meta", "gender"}
    assert found["Patient"][0]["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert set(found["Observation"][0]) >= {"resourceType", "id", "meta", "status", "code", "valueQuantity"}
    assert "subject" not in found["Observation"][0]


def test_pretty_resources_come_as_single_lines_with_their_exact_numbers(platform: Bulk) -> None:
    (pid,) = fill(platform, 1, 0)
    raw = json.dumps(json.loads(observation(pid)), indent=2).replace("120", "120.500").encode()
    assert platform("POST", "Observation", raw).status == 201
    (file,) = platform.finished(platform.begin("$export?_type=Observation"))["output"]
    content = b"".join(platform.web("GET", file["url"]).streaming_content)
    assert content.count(b"\n") == 1
    assert b"120.500" in content


def test_gzip_transfer_gives_the_same_bytes(platform: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(platform, 3)
    monkeypatch.setattr(files, "FRAME", 700)
    (file,) = platform.finished(platform.begin("$export?_type=Observation"))["output"]
    plain = platform.web("GET", file["url"])
    packed = platform.web("GET", file["url"], accept_encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    content = b"".join(plain.streaming_content)
    assert gzip.decompress(b"".join(packed.streaming_content)) == content
    assert int(plain.headers["Content-Length"]) == len(content)
    head = platform.web("HEAD", file["url"])
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))


def test_files_are_sealed_on_the_disk_and_alterations_are_noticed(platform: Bulk) -> None:
    fill(platform, 2)
    (file,) = platform.finished(platform.begin("$export?_type=Patient"))["output"]
    row = BulkFile.objects.get()
    path = files.path_of(row.job_id, row.stored)
    raw = path.read_bytes()
    assert "测试".encode() not in raw
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(files.Damaged):
        platform.lines(file["url"])


# ------------------------------------------------------------------------------------------------- the record at an instant


def _one(client: Bulk, pid: str, value: int, rid: str) -> None:
    body = json.loads(observation(pid, value=str(value))) | {"id": rid}
    reply = client("PUT", f"Observation/{rid}", body)
    assert reply.status in (200, 201), reply.raw


def test_since_gives_what_changed_and_names_what_was_deleted(platform: Bulk) -> None:
    (pid,) = fill(platform, 1, 0)
    for rid in ("keep", "change", "drop"):
        _one(platform, pid, 1, rid)
    first = platform.finished(platform.begin("$export"))
    _one(platform, pid, 2, "change")
    _one(platform, pid, 2, "new")
    assert platform("DELETE", "Observation/drop").status == 204
    since = first["transactionTime"].replace("+", "%2B")
    manifest = platform.finished(platform.begin(f"$export?_since={since}"))
    assert [(f["type"], f["count"]) for f in manifest["output"]] == [("Observation", 2)]
    assert sorted(o["id"] for o in platform.lines(manifest["output"][0]["url"])) == ["change", "new"]
    (deleted,) = manifest["deleted"]
    assert deleted["type"] == "Bundle"
    (bundle,) = platform.lines(deleted["url"])
    assert bundle["type"] == "transaction"
    assert bundle["entry"] == [{"request": {"method": "DELETE", "url": "Observation/drop"}}]
    until = manifest["transactionTime"].replace("+", "%2B")
    _one(platform, pid, 3, "later")
    found = platform.exported(f"$export?_until={until}&_type=Observation")
    assert ids(found, "Observation") == ["change", "keep", "new"]
    nothing = platform.finished(platform.begin(f"$export?_since={until}&_until={since}"))
    assert nothing["output"] == []


def test_what_is_written_after_the_kick_off_is_not_seen(platform: Bulk) -> None:
    (pid,) = fill(platform, 1, 0)
    for rid in ("same", "changed", "twice", "deleted", "gone", "revived"):
        _one(platform, pid, 1, rid)
    platform("DELETE", "Observation/gone")
    platform("DELETE", "Observation/revived")
    _one(platform, pid, 5, "twice")
    where = platform.begin("$export?_type=Observation&_since=2020-01-01T00:00:00Z")
    _one(platform, pid, 2, "changed")
    _one(platform, pid, 6, "twice")
    _one(platform, pid, 7, "twice")
    _one(platform, pid, 9, "revived")
    _one(platform, pid, 9, "new")
    platform("DELETE", "Observation/deleted")
    manifest = platform.finished(where)
    got = {
        o["id"]: (o["valueQuantity"]["value"], o["meta"]["versionId"])
        for o in platform.lines(manifest["output"][0]["url"])
    }
    assert got == {"same": (1, "1"), "changed": (1, "1"), "deleted": (1, "1"), "twice": (5, "2")}
    (bundle,) = platform.lines(manifest["deleted"][0]["url"])
    assert sorted(e["request"]["url"] for e in bundle["entry"]) == ["Observation/gone", "Observation/revived"]


def test_writes_between_slices_neither_repeat_nor_lose_anything(
    platform: Bulk, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(7)
    (pid,) = fill(platform, 1, 0)
    names = [f"o{n}" for n in range(60)]
    for rid in names:
        _one(platform, pid, 1, rid)
    for rid in dice.sample(names, 20):
        _one(platform, pid, 2, rid)
    for rid in dice.sample(names, 5):
        platform("DELETE", f"Observation/{rid}")
    wanted = {
        (e["resource"]["id"], e["resource"]["meta"]["versionId"])
        for e in platform("GET", "Observation?_count=1000").json["entry"]
    }
    settings.LIANXIN_BULK_FILE_LINES = 7
    real = slices.read
    monkeypatch.setattr(slices, "read", lambda scope, asked, after, size: real(scope, asked, after, 5))
    where = platform.begin("$export?_type=Observation")
    while job_of(where).status != "done":
        runner.turn()
        for rid in dice.sample(names, 4):
            if dice.random() < 0.3:
                platform("DELETE", f"Observation/{rid}")
            else:
                _one(platform, pid, dice.randrange(100), rid)
    got = [
        (o["id"], o["meta"]["versionId"])
        for f in platform.finished(where)["output"]
        for o in platform.lines(f["url"])
    ]
    assert len(got) == len(set(got))
    assert set(got) == wanted


def test_a_write_under_way_at_the_kick_off_is_waited_for(platform: Bulk) -> None:
    (pid,) = fill(platform, 1, 1)
    given = connection.settings_dict
    keys = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    with psycopg.connect(**{k: given[v] for k, v in keys.items() if given[v]}) as slow:
        slow.execute("CREATE TEMP TABLE busy (n int)")  # has a number now, as every writer has
        where = platform.begin("$export?_type=Patient")
        import time

        time.sleep(0.02)
        assert runner.turn() is False
        assert job_of(where).status == "waiting"
        slow.rollback()
    assert ids({"Patient": platform.lines(platform.finished(where)["output"][0]["url"])}, "Patient") == [pid]


# ------------------------------------------------------------------------------------------------------- patients and groups


def _group(client: Bulk, rid: str, *members: dict[str, Any]) -> None:
    body = {"resourceType": "Group", "id": rid, "type": "person", "actual": True, "member": list(members)}
    reply = client("PUT", f"Group/{rid}", body)
    assert reply.status in (200, 201), reply.raw


def _member(reference: str, **more: Any) -> dict[str, Any]:
    return {"entity": {"reference": reference}, **more}


def test_a_patient_export_leaves_out_what_belongs_to_no_patient(platform: Bulk) -> None:
    people = fill(platform, 2)
    platform("PUT", "Organization/o1", {"resourceType": "Organization", "id": "o1", "name": "甲院"})
    found = platform.exported("Patient/$export")
    assert set(found) == {"Patient", "Observation"}
    assert ids(found, "Patient") == sorted(people)
    assert platform("GET", "Patient/$export?_type=Organization").status == 400
    assert "Organization" in platform.exported("$export")


def test_a_group_export_gives_its_present_members(platform: Bulk) -> None:
    a, b, c, d = fill(platform, 4, 2)
    _group(platform, "inner", _member(f"Patient/{d}"))
    _group(
        platform, "g", _member(f"Patient/{a}"), _member(f"Patient/{b}", inactive=True),
        _member(f"Patient/{c}", period={"end": "2020-01-01"}), _member("Group/inner"), _member("Patient/unknown"),
    )  # fmt: skip
    found = platform.exported("Group/g/$export")
    assert ids(found, "Patient") == sorted([a, d])
    assert {o["subject"]["reference"] for o in found["Observation"]} == {f"Patient/{a}", f"Patient/{d}"}
    assert len(found["Observation"]) == 4
    assert platform("GET", "Group/none/$export").status == 404


def test_a_large_group_is_asked_about_in_batches(platform: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    people = fill(platform, 7, 3)
    monkeypatch.setattr(jobs, "PEOPLE_PER_BATCH", 2)
    _group(platform, "g", *(_member(f"Patient/{p}") for p in people))
    found = platform.exported("Group/g/$export")
    assert ids(found, "Patient") == sorted(people)
    assert len(set(ids(found, "Observation"))) == 21


def test_the_patient_parameter_narrows(platform: Bulk) -> None:
    a, b, c = fill(platform, 3, 1)
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueReference": {"reference": f"Patient/{a}"}},
            {"name": "patient", "valueReference": {"reference": f"http://t/fhir/Patient/{b}"}},
        ],
    }
    assert ids(platform.exported("Patient/$export", body), "Patient") == sorted([a, b])
    _group(platform, "g", _member(f"Patient/{a}"), _member(f"Patient/{c}"))
    assert platform("POST", "Group/g/$export", body).status == 400
    body["parameter"].pop()
    assert ids(platform.exported("Group/g/$export", body), "Patient") == [a]
    body["parameter"][0]["valueReference"]["reference"] = "Patient/nobody"
    assert platform("POST", "Patient/$export", body).status == 400
    assert platform("POST", "$export", body).status == 400
    assert platform("GET", f"Patient/$export?patient=Patient/{a}").status == 400


def test_the_capability_statement_says_so(platform: Bulk) -> None:
    statement = platform("GET", "metadata").json
    assert "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data" in statement["instantiates"]
    rest = statement["rest"][0]
    assert {
        "name": "export",
        "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
    } in rest["operation"]
    by_type = {r["type"]: r.get("operation", []) for r in rest["resource"]}
    for rtype in ("Patient", "Group"):
        url = f"http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{rtype.lower()}-export"
        assert {"name": "export", "definition": url} in by_type[rtype]


def test_too_many_jobs_of_one_client_are_refused_for_a_while(platform: Bulk) -> None:
    for _ in range(jobs.OPEN_PER_CLIENT):
        platform.begin("$export")
    reply = platform("GET", "$export", PREFER="respond-async")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "60")


def test_who_was_exported_stands_in_the_audit_log_once_a_job(platform: Bulk, settings: Any) -> None:
    people = fill(platform, 3)
    settings.LIANXIN_BULK_FILE_LINES = 2
    platform.exported("$export")
    events = AuditEvent.objects.filter(action="export")
    assert events.filter(person_id__isnull=False).count() == len(people)
    assert events.filter(what__startswith="bulk export", person_id__isnull=True).count() > 1
    assert events.filter(what__startswith="bulk file").count() == BulkFile.objects.count()
