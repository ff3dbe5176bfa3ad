"""Bulk export gives no more than the door would: types, query limits, institutions, relationships, all as of the slice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from lianxin.access import connections
from lianxin.access.models import Client as ClientRow
from lianxin.access.models import Relationship
from lianxin.exchange.bulk import export, runner, slices
from lianxin.exchange.bulk.models import BulkLane
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.exchange.bulk_world import Bulk, fill, ids, job_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.LIANXIN_BULK_DIR = tmp_path / "bulk"
    monkeypatch.setattr(slices, "SETTLE", 0.005)
    yield
    connections.close()


@pytest.fixture
def towns() -> list[Institution]:
    return [
        Institution.objects.create(
            code=f"T{n}", name=f"{n}镇卫生院", kind="township", tier="township", division="331023"
        )
        for n in (1, 2)
    ]


def _person_of(pid: str) -> int:
    with connection.cursor() as cur:
        cur.execute("SELECT person_id FROM record_patient WHERE patient_id = %s", [pid])
        return cur.fetchone()[0]


def _relate(person: int, institution: Institution) -> Relationship:
    return Relationship.objects.create(
        person_id=person, institution=institution, kind="encounter", source="test", since=clock.now()
    )


def test_an_institution_exports_its_own_and_its_patients(towns: list[Institution]) -> None:
    one, two = Bulk("one", "T1"), Bulk("two", "T2")
    mine, theirs = fill(one, 2, 1), fill(two, 2, 1)
    assert ids(one.exported("$export"), "Patient") == sorted(mine)
    assert ids(two.exported("$export"), "Patient") == sorted(theirs)
    assert ids(Bulk("all").exported("$export"), "Patient") == sorted(mine + theirs)


def test_types_outside_the_token_are_neither_given_nor_named(towns: list[Institution]) -> None:
    fill(Bulk("all"), 1)
    narrow = Bulk("narrow", scope="system/Patient.rs system/Group.rs")
    assert set(narrow.exported("$export")) == {"Patient"}
    assert narrow("GET", "$export?_type=Observation", PREFER="respond-async").status == 403
    lenient = narrow.exported("$export?_type=Observation,Patient", PREFER="handling=lenient")
    assert set(lenient) == {"Patient"}
    for scope in ("system/*.r", "system/*.s", "system/*.cud"):
        assert Bulk(f"c {scope}", scope=scope)("GET", "$export", PREFER="respond-async").status == 403


def test_a_query_limit_of_the_token_holds_in_exports() -> None:
    platform = Bulk("all")
    (pid,) = fill(platform, 1, 0)
    for rid, category in (("lab", "laboratory"), ("vital", "vital-signs"), ("plain", "")):
        body: dict[str, Any] = {
            "resourceType": "Observation", "id": rid, "status": "final", "code": {"text": "x"},
            "subject": {"reference": f"Patient/{pid}"},
        }  # fmt: skip
        if category:
            system = "http://terminology.hl7.org/CodeSystem/observation-category"
            body["category"] = [{"coding": [{"system": system, "code": category}]}]
        assert platform("PUT", f"Observation/{rid}", body).status == 201
    narrow = Bulk("lab only", scope="system/Observation.rs?category=laboratory")
    assert ids(narrow.exported("$export"), "Observation") == ["lab"]
    assert ids(narrow.exported("$export?_typeFilter=Observation?status=final"), "Observation") == ["lab"]


def test_a_relationship_that_ended_before_the_slice_is_not_exported(
    towns: list[Institution], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Bulk("one", "T1"), Bulk("two", "T2")
    people = fill(two, 4, 3)
    rows = [_relate(_person_of(p), towns[0]) for p in people]
    found = one.exported("Patient/$export?_type=Observation")
    assert len(found["Observation"]) == 12
    settings.LIANXIN_BULK_FILE_LINES = 2
    real = slices.read
    monkeypatch.setattr(slices, "read", lambda scope, asked, after, size: real(scope, asked, after, 2))
    where = one.begin("Patient/$export?_type=Observation")
    runner.turn()
    runner.turn()
    for row in rows:
        row.until = clock.now()
        row.save()
    files = one.finished(where)["output"]
    got = [o for f in files for o in one.lines(f["url"])]
    assert 0 < len(got) <= 4
    assert {o["subject"]["reference"] for o in got} == {f"Patient/{people[0]}"} | (
        {f"Patient/{people[1]}"} if len(got) == 4 else set()
    )


def test_a_group_is_exported_only_as_far_as_relationships_go(towns: list[Institution]) -> None:
    one, two = Bulk("one", "T1"), Bulk("two", "T2")
    (mine,), (theirs,) = fill(one, 1, 1), fill(two, 1, 1)
    group = {
        "resourceType": "Group", "id": "g", "type": "person", "actual": True,
        "member": [{"entity": {"reference": f"Patient/{p}"}} for p in (mine, theirs)],
    }  # fmt: skip
    assert one("PUT", "Group/g", group).status == 201
    assert ids(one.exported("Group/g/$export"), "Patient") == [mine]
    assert two("GET", "Group/g/$export", PREFER="respond-async").status == 404
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "patient", "valueReference": {"reference": f"Patient/{theirs}"}}],
    }
    refused, unknown = one("POST", "Patient/$export", body), one("POST", "Patient/$export", body | {})
    assert refused.status == unknown.status == 400


def test_deletions_are_told_only_to_who_could_see_the_resource(towns: list[Institution]) -> None:
    one, two = Bulk("one", "T1"), Bulk("two", "T2")
    (pid,) = fill(two, 1, 1)
    rid = two("GET", f"Observation?patient={pid}").json["entry"][0]["resource"]["id"]
    assert two("DELETE", f"Observation/{rid}").status == 204
    since = "$export?_since=2020-01-01T00:00:00Z"
    assert one.finished(one.begin(since))["deleted"] == []
    assert len(two.finished(two.begin(since))["deleted"]) == 1


def test_a_client_switched_off_gets_nothing_more(settings: Any) -> None:
    one = Bulk("one")
    fill(one, 2)
    settings.LIANXIN_BULK_FILE_LINES = 1
    where = one.begin("$export")
    runner.turn()
    ClientRow.objects.filter(name="one").update(active=False)
    runner.drain()
    job = job_of(where)
    assert (job.status, job.files.count()) == ("failed", job.files.count())
    assert "switched off" in job.failure_en


# --------------------------------------------------------------------------------------------------------------- leases


def test_many_workers_do_nothing_twice(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Bulk("all")
    fill(platform, 6, 6)
    settings.LIANXIN_BULK_FILE_LINES = 2
    real = slices.read
    monkeypatch.setattr(slices, "read", lambda scope, asked, after, size: real(scope, asked, after, 3))
    where = [platform.begin("$export") for _ in range(2)]

    def work() -> None:
        try:
            runner.drain()
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    for each in where:
        files = platform.finished(each)["output"]
        got = [o["id"] for f in files for o in platform.lines(f["url"])]
        assert len(got) == len(set(got)) == 42


def test_a_worker_that_slept_past_its_lease_notes_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Bulk("all")
    fill(platform, 2, 4)
    settings.LIANXIN_BULK_FILE_LINES = 2
    where = platform.begin("$export?_type=Observation")
    while not runner.plan():
        pass
    slow = runner.claim()
    assert slow is not None
    assert runner.claim() is None, "a leased lane is nobody else's"
    BulkLane.objects.update(lease_until=None)  # as time would
    real = export._audit_people

    def taken_over(*args: Any) -> None:
        monkeypatch.setattr(export, "_audit_people", real)
        runner.turn()  # another worker does the whole step meanwhile
        real(*args)

    monkeypatch.setattr(export, "_audit_people", taken_over)
    runner._do(slow)
    files = platform.finished(where)["output"]
    got = [o["id"] for f in files for o in platform.lines(f["url"])]
    assert len(got) == len(set(got)) == 8
    assert job_of(where).files.count() == len(list(job_of(where).files.values("stored").distinct()))


def test_a_step_that_fails_is_tried_again_and_at_last_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Bulk("all")
    fill(platform, 1, 1)
    where = platform.begin("$export?_type=Patient")
    calls: list[int] = []

    def broken(*args: Any) -> None:
        calls.append(1)
        raise RuntimeError("no luck")

    monkeypatch.setattr(export, "_fill", broken)
    while job_of(where).status in ("waiting", "running"):
        BulkLane.objects.update(not_before=None)
        runner.turn()
    assert len(calls) == runner.ATTEMPTS
    answer = platform.web("GET", where)
    assert answer.status_code == 500
    assert b"OperationOutcome" in answer.content
    assert b"no luck" not in answer.content
