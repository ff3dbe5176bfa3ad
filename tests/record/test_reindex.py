"""Search parameters a site adds, and indexing anew while others write."""

import json
import threading

import pytest
from django.db import connection, transaction

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import capability
from lianxin.network.models import Institution
from lianxin.record import custom, definitions, reindex, rows, search, store
from lianxin.record.problems import Problem

pytestmark = pytest.mark.django_db(transaction=True)
SYSTEM = Scope.system("test")
COLOUR = {
    "resourceType": "SearchParameter", "url": "http://example.org/sp/bodysite-text", "name": "site", "status": "active", "code": "site",
    "description": "Body site", "base": ["Observation"], "type": "token", "expression": "Observation.bodySite",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _clean():
    yield
    custom.forget()
    connections.close()


@pytest.fixture
def hospital():
    return Institution.objects.create(code="H1", name="县医院", kind="hospital", tier="county")


def apply(hospital, *resources):
    with transaction.atomic(), connection.cursor() as own:
        writes = [store.Write("update", r["resourceType"], r["id"], r) for r in resources]
        return store.apply(rows.server_cursor(own), SYSTEM, writes, source_institution_id=hospital.pk)


def observation(n, site="arm"):
    return {"resourceType": "Observation", "id": f"o{n}", "status": "final", "code": {"text": "伤口"}, "subject": {"reference": "Patient/p"},
            "bodySite": {"coding": [{"system": "http://s", "code": site}]}}  # fmt: skip


def add(resource=COLOUR):
    with transaction.atomic(), connection.cursor() as own:
        return custom.add(rows.server_cursor(own), resource)


def found(value):
    with connection.cursor() as own:
        return {
            e.id
            for e in search.search(
                rows.server_cursor(own),
                SYSTEM,
                "Observation",
                [("site", value), ("_count", "1000")],
                strict=True,
            ).entries
        }


def offered(code):
    """Whether the CapabilityStatement says that Observation can be searched by ``code``."""
    rest = json.loads(capability.statement()[0])["rest"][0]
    named = next(r for r in rest["resource"] if r["type"] == "Observation")["searchParam"]
    return code in {p["name"] for p in named}


@pytest.fixture
def people(hospital):
    apply(
        hospital,
        {
            "resourceType": "Patient",
            "id": "p",
            "name": [{"text": "单晓明"}],
            "gender": "male",
            "birthDate": "1980-01-01",
        },
    )
    apply(hospital, *[observation(n, "arm" if n % 2 else "leg") for n in range(20)])


def test_a_new_parameter_finds_what_was_there_and_what_came_meanwhile(hospital, people, monkeypatch):
    monkeypatch.setattr(reindex, "BATCH", 3)
    with pytest.raises(Problem):
        found("arm")
    assert add() == ["Observation"]
    reindex.start(["Observation"], settle=0)
    with pytest.raises(Problem):  # not to be searched before it is complete
        found("arm")
    assert not offered("site")
    seen = []

    def tell(progress):
        seen.append(progress)
        if len(seen) == 2:  # a new one, a changed one, one gone, while the run is on its way
            apply(hospital, observation(50, "arm"), observation(19, "leg"))
            with transaction.atomic(), connection.cursor() as own:
                store.delete(rows.server_cursor(own), SYSTEM, "Observation", "o17")

    reindex.run(tell=tell)
    custom.refresh(now=True)
    assert found("arm") == {f"o{n}" for n in range(1, 17, 2)} | {"o50"}
    assert "o19" in found("http://s|leg")
    assert offered("site")
    assert seen[-1].finished
    assert seen[-1].changed <= seen[-1].done <= 20


def test_a_run_broken_off_goes_on_where_it_was(hospital, people, monkeypatch):
    monkeypatch.setattr(reindex, "BATCH", 4)
    add()
    reindex.start(["Observation"], settle=0)
    assert reindex.run(seconds=0) == 0

    class Killed(Exception):
        pass

    def stop(progress):
        raise Killed

    with pytest.raises(Killed):
        reindex.run(tell=stop)
    assert [p.done for p in reindex.status()] == [4]
    assert reindex.run() == 16
    custom.refresh(now=True)
    assert len(found("arm")) == 10


def test_several_processes_share_a_run(hospital, people, monkeypatch):
    monkeypatch.setattr(reindex, "BATCH", 2)
    add()
    reindex.start(["Observation"], settle=0)
    looked = []

    def work():
        try:
            looked.append(reindex.run())
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reindex.run()
    assert sum(looked) <= 20
    assert [(p.done, p.finished) for p in reindex.status()] == [(20, True)]
    custom.refresh(now=True)
    assert len(found("leg")) == 10


def test_everything_indexed_anew_changes_nothing(hospital, people):
    with connection.cursor() as cur:
        cur.execute("SELECT rid, keys, at, till FROM record_resource ORDER BY rid")
        before = [(rid, set(keys), at, till) for rid, keys, at, till in cur.fetchall()]
        cur.execute("SELECT count(*) FROM record_string")
        strings = cur.fetchone()
    reindex.start(settle=0)
    reindex.run()
    assert reindex.status()[0].changed == 0
    with connection.cursor() as cur:
        cur.execute("SELECT rid, keys, at, till FROM record_resource ORDER BY rid")
        assert [(rid, set(keys), at, till) for rid, keys, at, till in cur.fetchall()] == before
        cur.execute("SELECT count(*) FROM record_string")
        assert cur.fetchone() == strings


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"type": "special"}, "SearchParameter.type"),
        ({"code": "code"}, "SearchParameter.code"),
        ({"code": "_mine"}, "SearchParameter.code"),
        ({"base": ["Wrong"]}, "SearchParameter.base"),
        ({"expression": "Observation.wrong"}, "SearchParameter.expression"),
        ({"expression": "Observation.bodySite.where(coding.exists())"}, "SearchParameter.expression"),
        ({"type": "date"}, "SearchParameter.expression"),
        ({"expression": ""}, "SearchParameter"),
    ],
)
def test_what_cannot_be_indexed_is_refused(hospital, change, place):
    with pytest.raises(Problem) as refused:
        add({**COLOUR, **change})
    assert refused.value.status == 422
    assert refused.value.issues[0].expression == place
    assert "site" not in definitions.params("Observation")
