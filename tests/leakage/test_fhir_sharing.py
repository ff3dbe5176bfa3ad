"""One patient, several consortia, and a say of her own: what each may see follows the source, the relationship and her word."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from lianxin.access import break_glass, consent, relationships, tokens
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network.models import Institution, Membership
from lianxin.record import store, timeline
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.factories import make_consortium, make_institution, make_post, make_resident_id
from tests.referral.world import account_for

pytestmark = [pytest.mark.concurrency]
MONDAY = dt.datetime(2026, 3, 2, 9, 0, tzinfo=clock.ZONE)
BORN = dt.date(1970, 1, 1)
SYSTEM = "http://lianxin.example/id/resident-id-card"


@dataclass
class Twice:
    """A person registered in two consortia, with an open and a confidential result from each of three institutions."""

    places: dict[str, Institution]
    doors: dict[str, Client]
    patients: dict[str, str]
    person: Person
    doctor: Account

    def sees(self, place: str) -> set[str]:
        """Values this institution finds; every way of asking must agree."""
        door = self.doors[place]
        found = {
            e["resource"]["valueString"] for e in door("GET", "Observation?_count=50").json.get("entry", [])
        }
        by_person = door("GET", f"Observation?patient=Patient/{self.person.number}&_count=50")
        assert {e["resource"]["valueString"] for e in by_person.json.get("entry", [])} == found
        assert door("GET", "Observation?_summary=count").json["total"] == len(found)
        assert by_person.json["total"] == len(found)
        versions = door("GET", "Observation/_history?_count=100").json.get("entry", [])
        assert {e["resource"]["valueString"] for e in versions} == found
        everything = door("GET", f"Patient/{self.person.number}/$everything?_count=500").json.get("entry", [])
        assert {
            e["resource"]["valueString"] for e in everything if e["resource"]["resourceType"] == "Observation"
        } == found
        coded = door(
            "GET", f"Observation?patient=Patient/{self.person.number}&code=8480-6&_sort=-date&_count=20"
        ).json
        assert {e["resource"]["valueString"] for e in coded.get("entry", [])} == found
        included = door("GET", "Patient?_revinclude=Observation:subject&_count=50").json.get("entry", [])
        mine = {e["resource"]["id"] for e in included if e["resource"]["resourceType"] == "Patient"}
        seen = {
            e["resource"]["valueString"] for e in included if e["resource"]["resourceType"] == "Observation"
        }
        assert seen == {v for v in found if self.patients[v.split()[0]] in mine}
        for value in ("lead open", "town open", "far open", "lead closed", "town closed", "far closed"):
            has = door("GET", f"Patient?_has:Observation:subject:value-string={value}&_summary=count").json[
                "total"
            ]
            assert has == int(value in found and self.patients[value.split()[0]] in mine), (place, value)
        return found


@pytest.fixture
def twice(transactional_db: None) -> Iterator[Twice]:
    tokens.forget()
    with clock.at(MONDAY):
        places = {
            "lead": make_institution("A-LEAD", "hospital"), "town": make_institution("A-TOWN", "township"),
            "far": make_institution("B-FAR", "hospital"), "alone": make_institution("X-ALONE", "hospital"),
        }  # fmt: skip
        make_consortium(places["lead"], [places["town"]], "A")
        make_consortium(places["far"], [], "B")
        doors = {name: Client(name, place.code) for name, place in places.items()}
        number = {"system": SYSTEM, "value": make_resident_id(BORN)}
        patients = {}
        for name in ("lead", "town", "far"):
            made = doors[name]("POST", "Patient", {"resourceType": "Patient", "name": [{"text": "司空双家"}], "gender": "female",
                                                  "birthDate": str(BORN), "identifier": [number]})  # fmt: skip
            assert made.status == 201, made.raw
            patients[name] = made.json["id"]
            for word, label in (("open", None), ("closed", "R")):
                body: dict[str, Any] = {
                    "resourceType": "Observation", "status": "final", "valueString": f"{name} {word}", "effectiveDateTime": "2026-03-01",
                    "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "subject": {"reference": f"Patient/{made.json['id']}"},
                }  # fmt: skip
                if label:
                    system = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
                    body["meta"] = {"security": [{"system": system, "code": label}]}
                reply = doors[name]("POST", "Observation", body)
                assert reply.status == 201, reply.raw
        people = {registry.by_patient_id(one) for one in patients.values()}
        assert len(people) == 1
        doctor = account_for(make_post(places["lead"], "clinician"))
        yield Twice(places, doors, patients, Person.objects.unscoped("test").get(pk=people.pop()), doctor)


A = {"lead open", "lead closed", "town open", "town closed"}
B = {"far open", "far closed"}
SYSTEM_SCOPE = Scope.system("test")


def test_registration_opens_ones_own_consortium_and_no_other(twice: Twice) -> None:
    assert twice.sees("lead") == A
    assert twice.sees("town") == A
    assert twice.sees("far") == B
    assert twice.sees("alone") == set()


def test_an_open_duty_reaches_across_and_ends(twice: Twice) -> None:
    far = twice.places["far"].pk
    relationships.grant(twice.person.pk, far, "duty", "duty:1")
    assert twice.sees("far") == A | B
    relationships.end("duty:1", at=clock.now())
    assert twice.sees("far") == B


def test_an_encounter_elsewhere_opens_nothing_of_the_consortium(twice: Twice) -> None:
    relationships.grant(twice.person.pk, twice.places["alone"].pk, "encounter", "visit:1")
    assert twice.sees("alone") == set()
    relationships.grant(twice.person.pk, twice.places["far"].pk, "encounter", "visit:2")
    assert twice.sees("far") == B


def test_agreeing_opens_and_withdrawing_closes_at_once(twice: Twice) -> None:
    far = twice.places["far"].pk
    row = consent.record(SYSTEM_SCOPE, twice.person.pk, "share", far, "1", "form 1")
    assert twice.sees("far") == A | B
    assert twice.sees("alone") == set()
    consent.withdraw(SYSTEM_SCOPE, row.pk)
    assert twice.sees("far") == B
    relationships.grant(twice.person.pk, far, "duty", "duty:1")
    assert twice.sees("far") == B, "the last word was no"
    consent.record(SYSTEM_SCOPE, twice.person.pk, "share", far, "1", "form 2")
    assert twice.sees("far") == A | B


def test_refusing_everything(twice: Twice) -> None:
    row = consent.refuse(SYSTEM_SCOPE, twice.person.pk, evidence="form")
    assert twice.sees("lead") == {"lead open", "lead closed"}
    assert twice.sees("town") == {"town open", "town closed"}
    assert twice.sees("far") == B
    consent.withdraw(SYSTEM_SCOPE, row.pk)
    assert twice.sees("lead") == A


def test_refusing_one_source_one_recipient_or_what_is_confidential(twice: Twice) -> None:
    lead, town = twice.places["lead"].pk, twice.places["town"].pk
    row = consent.refuse(SYSTEM_SCOPE, twice.person.pk, source_id=town, evidence="form")
    assert twice.sees("lead") == {"lead open", "lead closed"}
    assert twice.sees("town") == A
    consent.withdraw(SYSTEM_SCOPE, row.pk)
    row = consent.refuse(SYSTEM_SCOPE, twice.person.pk, institution_id=town, evidence="form")
    assert twice.sees("town") == {"town open", "town closed"}
    assert twice.sees("lead") == A
    consent.withdraw(SYSTEM_SCOPE, row.pk)
    row = consent.refuse(SYSTEM_SCOPE, twice.person.pk, sensitive=True, evidence="form")
    assert twice.sees("lead") == {"lead open", "lead closed", "town open"}
    assert twice.sees("town") == {"town open", "town closed", "lead open"}
    consent.withdraw(SYSTEM_SCOPE, row.pk)
    consent.refuse(
        SYSTEM_SCOPE, twice.person.pk, source_id=lead, institution_id=town, sensitive=True, evidence="form"
    )
    assert twice.sees("town") == {"town open", "town closed", "lead open"}
    assert twice.sees("lead") == A


def test_a_village_is_no_way_round_a_refusal(twice: Twice) -> None:
    village = make_institution("A-VIL", "village", parent=twice.places["town"])
    relationships.grant(twice.person.pk, village.pk, "home", f"test:{village.pk}")
    consent.refuse(SYSTEM_SCOPE, twice.person.pk, institution_id=twice.places["town"].pk, evidence="form")
    tokens.forget()
    assert twice.sees("town") == {"town open", "town closed"}


def test_leaving_the_consortium_closes(twice: Twice) -> None:
    Membership.objects.filter(institution=twice.places["town"]).update(
        until=clock.today() - dt.timedelta(days=1)
    )
    tokens.forget()
    assert twice.sees("lead") == A, "what a leaver sent belongs to no consortium's boundary any more"
    assert twice.sees("town") == {"town open", "town closed"}


def test_only_an_emergency_sees_through_a_refusal(twice: Twice) -> None:
    consent.refuse(SYSTEM_SCOPE, twice.person.pk, evidence="form")
    scope = scope_for_account(twice.doctor)

    def read() -> set[str]:
        with connection.cursor() as cur:
            found, _ = store.history(cur, scope, "Observation", count=100)
        entries = timeline.timeline(scope, twice.person.pk, types=["Observation"])
        assert {e.summary for e in entries} == {json.loads(f.body)["valueString"] for f in found}
        assert timeline.counts(scope, twice.person.pk).get("Observation", 0) == len(found)
        return {e.summary for e in entries}

    assert read() == {"lead open", "lead closed"}
    break_glass.open(scope, twice.person.pk, "昏迷急诊入院,本人无法询问,须了解用药史")
    assert read() == A | B
    colleague = scope_for_account(account_for(make_post(twice.places["lead"], "clinician")))
    assert len(timeline.timeline(colleague, twice.person.pk, types=["Observation"])) == 2
    with clock.at(MONDAY + dt.timedelta(hours=5)):
        assert read() == {"lead open", "lead closed"}


def test_the_rule_is_cheap_where_nobody_refused_anything(twice: Twice) -> None:
    with connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM access_consent")
        assert cur.fetchone() == (0,)
        cur.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'access_consent_denied'")
        assert "WHERE" in cur.fetchone()[0]
