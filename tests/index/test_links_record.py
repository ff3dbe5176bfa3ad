"""What a merge takes along and an unmerge gives back in the rooms above: resources, cases, referrals; and what makes it risky."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from lianxin.clinical.referral.models import Referral
from lianxin.duty.models import Case
from lianxin.index import links, registry, reviews
from lianxin.index.models import Person
from lianxin.record import rows, store
from lianxin.standards import checks, clock, codes
from tests.factories import make_institution
from tests.index.conftest import SYSTEM
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db


def about(kind: str, rid: str, patient: str, **more: Any) -> dict[str, Any]:
    who = "patient" if kind == "AllergyIntolerance" else "subject"
    return {"resourceType": kind, "id": rid, who: {"reference": f"Patient/{patient}"}, **more}


def blood(rid: str, patient: str, group: str) -> dict[str, Any]:
    code = {"coding": [{"system": "http://loinc.org", "code": "883-9"}]}
    return about("Observation", rid, patient, status="final", code=code, valueString=group,
                 effectiveDateTime="2026-01-05T08:00:00+08:00")  # fmt: skip


def allergy(rid: str, patient: str, name: str) -> dict[str, Any]:
    active = {
        "coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}
        ]
    }
    return about("AllergyIntolerance", rid, patient, clinicalStatus=active, code={"text": name})


@pytest.fixture
def three() -> list[Person]:
    """Three people, each with a FHIR Patient, a blood group, and a note about the golden record."""
    place = make_institution()
    names = (("欧阳锋", "1950-01-02", "A"), ("令狐冲", "1961-03-04", "B"), ("东方白", "1972-05-06", "A"))
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        for k, (name, birth, group) in enumerate(names):
            patient = {
                "resourceType": "Patient",
                "id": f"p{k}",
                "name": [{"text": name}],
                "birthDate": birth,
                "gender": "male",
            }
            both = [
                patient,
                blood(f"o{k}", f"p{k}", group),
                allergy(f"a{k}", f"p{k}", "青霉素" if k else "磺胺"),
            ]
            for resource in both:
                store.apply(cur, SYSTEM, [store.Write("update", resource["resourceType"], resource["id"], resource)],
                            source_institution_id=place.pk)  # fmt: skip
        people = [Person.objects.unscoped("test").get(pk=registry.by_patient_id(f"p{k}")) for k in range(3)]
        for k, person in enumerate(people):
            note = blood(f"g{k}", person.number, "A" if k != 1 else "B")
            store.apply(
                cur,
                SYSTEM,
                [store.Write("update", "Observation", note["id"], note)],
                source_institution_id=place.pk,
            )
    return people


def whose() -> list[tuple[Any, ...]]:
    with connection.cursor() as cur:
        cur.execute("SELECT rtype, id, person_id FROM record_resource ORDER BY 1, 2")
        resources = cur.fetchall()
        cur.execute("SELECT patient_id, person_id FROM record_patient ORDER BY 1")
        return resources + cur.fetchall()


def test_resources_return_to_where_they_came_from(three: list[Person]) -> None:
    a, b, c = three
    before = whose()
    assert {row[-1] for row in before} == {a.pk, b.pk, c.pk}
    first = links.merge(SYSTEM, b, c, "一")
    second = links.merge(SYSTEM, a, b, "二")
    assert {row[-1] for row in whose()} == {a.pk}
    links.undo(SYSTEM, first.pk)
    assert {row[1]: row[2] for row in whose() if len(row) == 3}["o2"] == c.pk
    third = links.merge(SYSTEM, c, a, "三")
    links.undo(SYSTEM, second.pk)
    assert [row for row in whose() if row[-1] == b.pk] == [row for row in before if row[-1] == b.pk]
    links.undo(SYSTEM, third.pk)
    assert whose() == before
    assert [found for _, found in checks.run() if found] == []


def test_blood_groups_and_allergies_that_differ_need_two_people(three: list[Person]) -> None:
    a, b, c = three
    told = [t.zh for t in reviews.dangers_between(a.pk, b.pk, None)]
    assert told == ["两人的血型记录不同", "两人的过敏记录不同"]
    assert not any("青霉素" in t or "B" in t for t in told)  # that they differ, not what they are
    assert [t.zh for t in reviews.dangers_between(b.pk, c.pk, None)] == ["两人的血型记录不同"]
    assert reviews.dangers_between(a.pk, a.pk, 0.9) == []
    links.merge(SYSTEM, a, c, "同一人")
    assert next(t.zh for t in reviews.dangers_between(c.pk, b.pk, None)) == "两人的血型记录不同"


def test_cases_follow_and_return_and_the_second_open_referral_yields() -> None:
    with clock.at(worlds.START):
        codes.load_shipped()
        world = worlds.build()
        world.until("booked")
        person = world.person
        other = registry.register(
            SYSTEM,
            registry.Registration(make_institution().pk, "urn:t", "x", "令狐冲", "male"),
        ).person
        before = (
            sorted(Case.objects.unscoped("test").values_list("pk", "person_id")),
            sorted(Referral.objects.unscoped("test").values_list("pk", "person_id", "live")),
        )
        event = links.merge(SYSTEM, other, person, "同一人")
        assert set(Case.objects.unscoped("test").values_list("person_id", flat=True)) == {other.pk}
        links.undo(SYSTEM, event.pk)
        after = (
            sorted(Case.objects.unscoped("test").values_list("pk", "person_id")),
            sorted(Referral.objects.unscoped("test").values_list("pk", "person_id", "live")),
        )
        assert after == before
        assert [found for _, found in checks.run() if found] == []
