"""Writes, publishing, the timeline, moves between persons, and exact text."""

import json

import pytest
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.index.models import SourceRecord
from lianxin.network.models import Institution
from lianxin.record import bodies, persons, publish, rows, search, store, text, timeline, validate
from lianxin.record.problems import Problem

pytestmark = pytest.mark.django_db
SYSTEM = Scope.system("test")


@pytest.fixture
def hospital():
    return Institution.objects.create(
        code="H1", name="县医院", kind="hospital", tier="county", division="331023"
    )


@pytest.fixture
def cur(hospital):
    with connection.cursor() as own:
        yield rows.server_cursor(own)


def write(cur, hospital, *resources, **more):
    writes = [store.Write("update", r["resourceType"], r["id"], r, **more) for r in resources]
    return store.apply(cur, SYSTEM, writes, source_institution_id=hospital.pk)


def patient(rid="p1", name="欧阳锋", birth="1950-01-02"):
    return {
        "resourceType": "Patient",
        "id": rid,
        "name": [{"text": name}],
        "gender": "male",
        "birthDate": birth,
    }


def pressure(rid, when, high=150):
    parts = [
        {"code": {"coding": [{"code": c}]}, "valueQuantity": {"value": v, "unit": "mmHg"}}
        for c, v in (("8462-4", 90), ("8480-6", high))
    ]
    return {"resourceType": "Observation", "id": rid, "status": "final", "code": {"text": "血压", "coding": [{"code": "85354-9"}]},
            "subject": {"reference": "Patient/p1"}, "effectiveDateTime": when, "component": parts}  # fmt: skip


def person_of(patient_id):
    return registry.by_patient_id(patient_id)


def test_bodies_about_people_are_sealed_and_identifiers_blind(cur, hospital):
    number = "11010519491231002X"
    one = {
        **patient(),
        "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": number}],
        "telecom": [{"system": "phone", "value": "13800138000"}],
    }
    write(cur, hospital, one)
    cur.execute("SELECT body FROM record_resource WHERE rtype = 'Patient'")
    body = cur.fetchone()[0]
    assert bytes(body[:1]) == bodies.SEALED
    assert number.encode() not in body
    cur.execute(
        "SELECT count(*) FROM record_string WHERE val LIKE '%%13800138000%%' OR val LIKE '%%110105%%'"
    )
    assert cur.fetchone()[0] == 0
    assert search.search(cur, SYSTEM, "Patient", [("identifier", number)]).total == 1
    assert search.search(cur, SYSTEM, "Patient", [("phone", "13800138000")]).total == 1
    assert json.loads(store.read(cur, SYSTEM, "Patient", "p1").body)["identifier"][0]["value"] == number


def test_a_resource_of_an_unknown_patient_is_refused(cur, hospital):
    with pytest.raises(Problem) as refused:
        write(cur, hospital, pressure("o1", "2026-01-01"))
    assert refused.value.status == 422
    assert refused.value.issues[0].expression == "Observation.subject"


def test_published_resources_belong_to_the_platform(cur, hospital):
    write(cur, hospital, patient())
    person_id = person_of("p1")
    number = SourceRecord.objects.unscoped("test").get(patient_id="p1").person.number
    task = {
        "resourceType": "Task",
        "id": "ZZ1-1",
        "status": "requested",
        "intent": "order",
        "for": {"reference": f"Patient/{number}"},
    }
    assert publish.publish([task], person_id=person_id, institution_id=hospital.pk) == ["Task/ZZ1-1"]
    publish.publish([task], person_id=person_id, institution_id=hospital.pk)
    assert store.read(cur, SYSTEM, "Task", "ZZ1-1").version == 1
    publish.publish([{**task, "status": "accepted"}], person_id=person_id, institution_id=hospital.pk)
    assert store.read(cur, SYSTEM, "Task", "ZZ1-1").version == 2
    with pytest.raises(Problem) as refused:
        store.apply(cur, Scope.system("outside"), [store.Write("update", "Task", "ZZ1-1", task)])
    assert refused.value.status == 403
    assert search.search(cur, SYSTEM, "Task", [("patient", f"Patient/{number}")]).total == 1
    assert search.search(cur, SYSTEM, "Task", [("_tag", "http://lianxin.example/tag|published")]).total == 1


def test_the_network_is_published(cur, hospital):
    town = Institution.objects.create(code="T1", name="乡镇卫生院", kind="township", tier="township")
    Institution.objects.create(
        code="V1", name="村卫生室", kind="village", tier="village", parent=town, lon=121.0, lat=29.1
    )
    assert publish.publish_network() == 4
    assert search.search(cur, SYSTEM, "Organization", [("name", "cunwei")]).total == 1
    assert search.search(cur, SYSTEM, "Organization", [("partof", "Organization/T1")]).total == 1


def test_timeline_and_summary(cur, hospital):
    condition = {
        "resourceType": "Condition",
        "id": "c1",
        "subject": {"reference": "Patient/p1"},
        "code": {"text": "高血压"},
        "onsetDateTime": "2020-05-01",
    }
    medicine = {"resourceType": "MedicationRequest", "id": "m1", "status": "active", "intent": "order", "subject": {"reference": "Patient/p1"},
                "medicationCodeableConcept": {"text": "氨氯地平片 5mg"}, "authoredOn": "2026-02-01", "dosageInstruction": [{"text": "每日一次"}]}  # fmt: skip
    allergy = {
        "resourceType": "AllergyIntolerance",
        "id": "a1",
        "patient": {"reference": "Patient/p1"},
        "code": {"text": "青霉素"},
    }
    write(
        cur,
        hospital,
        patient(),
        condition,
        medicine,
        allergy,
        pressure("o1", "2026-01-05"),
        pressure("o2", "2026-03-05", 160),
    )
    person_id = person_of("p1")
    entries = timeline.timeline(SYSTEM, person_id)
    assert [e.ref for e in entries] == [
        "Observation/o2",
        "MedicationRequest/m1",
        "Observation/o1",
        "Condition/c1",
    ]
    assert entries[0].summary == "160/90 mmHg"
    assert entries[0].institution == "县医院"
    assert [e.ref for e in timeline.timeline(SYSTEM, person_id, before=entries[1].date)] == [
        "Observation/o1",
        "Condition/c1",
    ]
    found = timeline.summary(SYSTEM, person_id)
    assert [
        found.problems[0]["title"],
        found.medicines[0]["title"],
        found.medicines[0]["dose"],
        found.allergies[0]["title"],
    ] == ["高血压", "氨氯地平片 5mg", "每日一次", "青霉素"]
    assert [p.value for p in timeline.summary(SYSTEM, person_id).series("8480-6")] == [150, 160]
    assert [a["title"] for a in timeline.banner(SYSTEM, person_id).allergies] == ["青霉素"]
    assert not timeline.banner(SYSTEM, person_id).results
    assert [p.value for p in timeline.series(SYSTEM, person_id, "8480-6")] == [150, 160]


def test_resources_follow_their_patient_to_another_person(cur, hospital):
    write(cur, hospital, patient(), patient("p2", "黄药师", "1949-03-04"), pressure("o1", "2026-01-05"))
    first, second = person_of("p1"), person_of("p2")
    assert first != second
    assert persons.follow(cur, "p1", second) == 2
    assert [e.ref for e in timeline.timeline(SYSTEM, second)] == ["Observation/o1"]
    assert timeline.timeline(SYSTEM, first) == []
    assert search.search(cur, SYSTEM, "Observation", [("patient", "p1")]).total == 1


def test_the_index_moves_the_record_with_a_merge(cur, hospital):
    write(cur, hospital, patient(), patient("p2", "黄药师", "1949-03-04"), pressure("o1", "2026-01-05"))
    first, second = (SourceRecord.objects.unscoped("test").get(patient_id=p).person for p in ("p1", "p2"))
    registry.merge(SYSTEM, second, first, "同一人")
    assert [e.ref for e in timeline.timeline(SYSTEM, second.pk)] == ["Observation/o1"]
    assert search.search(cur, SYSTEM, "Observation", [("patient", f"Patient/{first.number}")]).total == 1


def test_splice_keeps_every_other_byte():
    raw = b'{"meta" : {"profile":["x"], "versionId":"9"}, "resourceType":"Basic","code":{"text":"\\u00e9 \xe5\x8d\x95"},"z":1.50}'
    done = text.splice(raw, "n1", 3, "2026-01-01T00:00:00+08:00")
    assert done == (
        '{"resourceType":"Basic","id":"n1","meta":{"versionId":"3","lastUpdated":"2026-01-01T00:00:00+08:00","profile":["x"]},'
        '"code":{"text":"\\u00e9 单"},"z":1.50}'
    )
    assert text.splice(done.encode(), "n1", 3, "2026-01-01T00:00:00+08:00") == done


@pytest.mark.parametrize(
    ("more", "expression"),
    [
        ({"status": "bogus"}, "Observation.status"),
        ({"code": None}, "Observation.code"),
        ({"valueString": "x", "valueBoolean": True}, "Observation.valueBoolean"),
        ({"effectiveDateTime": "2026-13-01"}, "Observation.effectiveDateTime"),
        ({"performer": {"reference": "Patient/1"}}, "Observation.performer"),
        ({"performer": [{"reference": "Location/1"}]}, "Observation.performer[0].reference"),
        ({"performer": []}, "Observation.performer"),
        ({"bogus": 1}, "Observation.bogus"),
        ({"_status": {"id": "x", "bogus": 1}}, "Observation._status.bogus"),
        ({"component": [{"valueInteger": 1.5, "code": {}}]}, "Observation.component[0].valueInteger"),
        ({"contained": [{"resourceType": "Patient", "gender": "x"}]}, "Observation.contained[0].gender"),
        ({"text": {"status": "generated", "div": "<div><script>x</script></div>"}}, "Observation.text.div"),
    ],
)
def test_structure_is_checked(more, expression):
    sound = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    assert validate.check(sound)[0] == []
    assert expression in [i.expression for i in validate.check({**sound, **more})[0]]


def test_the_record_checks_itself(cur, hospital):
    from lianxin.record.apps import _check

    write(cur, hospital, patient(), patient("p2", "黄药师", "1949-03-04"), pressure("o1", "2026-01-05"))
    assert _check() == []
    cur.execute("UPDATE record_resource SET person_id = %s WHERE id = 'o1'", [person_of("p2")])
    assert _check() == ["Observation/o1 stands under another person than the index says"]
