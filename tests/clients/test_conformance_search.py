"""What a conformance suite would try of search: parameters, modifiers, results and their shape (R4 search.html)."""

from __future__ import annotations

import urllib.parse
from typing import Any

import pytest

from tests.clients.conftest import Door
from tests.clients.speech import (
    SYSTEM,
    bundle,
    entry,
    good,
    link,
    matches,
    observation,
    patient,
    practitioner,
    refused,
    unique,
)

LOINC = "http://loinc.org"


@pytest.fixture(scope="module")
def ward(door: Door) -> dict[str, Any]:
    """Three people, their readings and an encounter, found by a tag of their own."""
    tag = unique()
    meta = {"tag": [{"system": SYSTEM, "code": tag}]}
    people = [
        ("安", "安然", "female", "1980-05-06", True), ("安", "安宁", "male", "1991", False), ("Šmíd", "Jan Šmíd", "male", "1975-12", True),
    ]  # fmt: skip
    entries, urns = [], []
    for n, (family, text, gender, born, active) in enumerate(people):
        urns.append(f"urn:uuid:11111111-0000-4000-8000-00000000000{n}")
        one = patient(
            f"{tag}-{n}",
            meta=meta,
            gender=gender,
            birthDate=born,
            active=active,
            name=[{"family": family, "text": text}],
        )
        entries.append(entry("POST", "Patient", one, urns[n]))
    days = ["2026-03-01", "2026-03-02T08:30:00+08:00", "2026-03-03", "2026-03", "2025"]
    for n, when in enumerate(days):
        entries.append(entry("POST", "Observation", observation(urns[0], 100 + n * 10, when, meta=meta)))
    pulse = observation(
        urns[1],
        71.5,
        "2026-03-05",
        meta=meta,
        code={"text": "脉搏", "coding": [{"system": LOINC, "code": "8867-4"}]},
    )
    del pulse["valueQuantity"]
    entries.append(entry("POST", "Observation", {**pulse, "valueString": "整齐"}))
    entries.append(entry("POST", "Encounter", {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "meta": meta,
                                               "subject": {"reference": urns[0]}, "period": {"start": "2026-03-01", "end": "2026-03-04"}}))  # fmt: skip
    answer = good(door("POST", "", bundle("transaction", *entries)), 200).json
    ids = [e["response"]["location"].split("/_history")[0].split("/")[-1] for e in answer["entry"]]
    return {
        "tag": f"_tag={SYSTEM}|{tag}",
        "code": tag,
        "people": ids[:3],
        "readings": ids[3:8],
        "pulse": ids[8],
        "encounter": ids[9],
    }


def ask(door: Door, path: str) -> dict[str, Any]:
    found: dict[str, Any] = good(door("GET", path), 200).json
    assert (found["resourceType"], found["type"]) == ("Bundle", "searchset")
    return found


class TestShape:
    def test_a_searchset(self, door: Door, ward: dict[str, Any]) -> None:
        found = ask(door, f"Observation?{ward['tag']}")
        assert found["total"] == 6
        assert link(found, "self")
        for one in found["entry"]:
            assert one["fullUrl"] == f"{door.base}/Observation/{one['resource']['id']}"
            assert one["search"]["mode"] == "match"

    def test_nothing_found(self, door: Door) -> None:
        found = ask(door, "Patient?identifier=urn:nowhere|nobody")
        assert found["total"] == 0
        assert "entry" not in found  # an array may not be empty

    def test_self_says_what_was_done(self, door: Door, ward: dict[str, Any]) -> None:
        own = urllib.parse.unquote(
            link(ask(door, f"Patient?{ward['tag']}&shoe=7&gender=female"), "self") or ""
        )
        assert "gender=female" in own
        assert ward["code"] in own
        assert "shoe" not in own

    def test_unknown_parameters(self, door: Door, ward: dict[str, Any]) -> None:
        found = ask(door, f"Patient?{ward['tag']}&shoe=7")
        told = [e["resource"] for e in found["entry"] if e["search"]["mode"] == "outcome"]
        assert [t["resourceType"] for t in told] == ["OperationOutcome"]
        assert found["total"] == 3
        refused(door("GET", f"Patient?{ward['tag']}&shoe=7", Prefer="handling=strict"), 400)
        assert (
            good(door("GET", f"Patient?{ward['tag']}&shoe=7", Prefer="handling=lenient"), 200).json["total"]
            == 3
        )

    def test_empty_parameters_are_ignored(self, door: Door, ward: dict[str, Any]) -> None:
        found = good(
            door("GET", f"Patient?{ward['tag']}&name=&birthdate=&_count=", Prefer="handling=strict"), 200
        ).json
        assert len(matches(found)) == 3
        assert "name" not in (link(found, "self") or "").partition("?")[2]

    def test_by_post(self, door: Door, ward: dict[str, Any]) -> None:
        form = f"{ward['tag']}&gender=male".encode()
        kind = "application/x-www-form-urlencoded"
        assert good(door("POST", "Patient/_search", form, Content_Type=kind), 200).json["total"] == 2
        assert (
            good(door("POST", f"Patient/_search?{ward['tag']}", b"gender=male", Content_Type=kind), 200).json[
                "total"
            ]
            == 2
        )
        assert (
            good(
                door("POST", f"Patient/{ward['people'][0]}/Observation/_search", b"", Content_Type=kind), 200
            ).json["total"]
            == 5
        )

    @pytest.mark.parametrize("bad", ["birthdate=never", "birthdate=2026-13-01", "birthdate=zz2026", "_lastUpdated=x", "_count=x", "_count=-1", "name:shoe=x",
                                     "gender:contains=x", "birthdate:missing=maybe", "_include=Patient:shoe", "_has:Observation:shoe:code=x", "_has:x=y", "_sort=shoe"])  # fmt: skip
    def test_what_makes_no_sense(self, door: Door, bad: str) -> None:
        refused(door("GET", f"Patient?{bad}", Prefer="handling=strict"), 400)

    @pytest.mark.parametrize("bad", ["birthdate=never", "name:shoe=x", "gender:contains=x", "_count=x"])
    def test_wrong_values_and_modifiers_are_refused_even_leniently(self, door: Door, bad: str) -> None:
        refused(door("GET", f"Patient?{bad}"), 400)

    def test_count_only(self, door: Door, ward: dict[str, Any]) -> None:
        for query in ("_summary=count", "_count=0"):
            found = ask(door, f"Patient?{ward['tag']}&{query}")
            assert found["total"] == 3
            assert "entry" not in found

    def test_total(self, door: Door, ward: dict[str, Any]) -> None:
        assert "total" not in ask(door, f"Observation?{ward['tag']}&_total=none&_count=1")
        assert ask(door, f"Observation?{ward['tag']}&_total=accurate&_count=1")["total"] == 6

    def test_subsets_are_marked(self, door: Door, ward: dict[str, Any]) -> None:
        for query in ("_elements=name", "_summary=true"):
            for one in matches(ask(door, f"Patient?{ward['tag']}&{query}")):
                assert "SUBSETTED" in [t["code"] for t in one["meta"]["tag"]]

    @pytest.mark.parametrize("sort", ["_id", "-_lastUpdated", "-date", "date", "code,-date"])
    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_pages_to_the_end(self, door: Door, ward: dict[str, Any], sort: str, count: int) -> None:
        whole = [r["id"] for r in matches(ask(door, f"Observation?{ward['tag']}&_sort={sort}"))]
        seen: list[str] = []
        url: str | None = f"{door.base}/Observation?{ward['tag']}&_sort={sort}&_count={count}"
        while url:
            page = ask(door, url.removeprefix(f"{door.base}/"))
            assert len(matches(page)) <= count
            seen += [r["id"] for r in matches(page)]
            url = link(page, "next")
            assert len(seen) <= 6
        assert seen == whole

    def test_a_made_up_cursor(self, door: Door, ward: dict[str, Any]) -> None:
        refused(door("GET", f"Observation?{ward['tag']}&_cursor=made-up"), 400)

    def test_every_type(self, door: Door, ward: dict[str, Any]) -> None:
        found = ask(door, f"?_type=Patient,Encounter&{ward['tag']}")
        assert sorted(r["resourceType"] for r in matches(found)) == [
            "Encounter",
            "Patient",
            "Patient",
            "Patient",
        ]


CASES = {  # query -> which of the three people
    "name=安": "01", "name=安然": "0", "family=安": "01", "family:exact=安": "01", "family:exact=安然": "", "name:contains=然": "0", "name=smid": "2",
    "name=SMID": "2", "family:exact=smid": "", "gender=male": "12", "gender=male,female": "012", "gender:not=male": "0", "gender=http://hl7.org/fhir/administrative-gender|male": "12",
"active=true": "02", "active:not=true": "1", "birthdate=1980-05-06": "0", "birthdate=1980": "0", "birthdate=1991": "1", "birthdate=ne1980-05-06": "12",
    "birthdate=lt1980": "2", "birthdate=le1980-05-06": "02", "birthdate=gt1980-05-06": "1", "birthdate=ge1980-05": "01", "birthdate=sa1980": "1", "birthdate=eb1980": "2",
    "birthdate=ge1975&birthdate=lt1985": "02", "birthdate=1975-12,1991": "12", "gender:missing=true": "", "gender:missing=false": "012", "deceased:missing=true": "012",
    "_has:Observation:patient:code=8867-4": "1", "_has:Observation:patient:code=http://loinc.org|8480-6": "0", "_has:Encounter:patient:status=finished": "0",
    "name=安&gender=male": "1", "name:exact=nobody": "", "address:missing=true": "012", "_lastUpdated=gt2020": "012", "_lastUpdated=lt2020": "",
    "name=%E5%AE%89%5C,%E7%84%B6": "", "name=anran": "0", "name=ar": "0",
}  # fmt: skip


@pytest.mark.parametrize("query", CASES)
def test_people(door: Door, ward: dict[str, Any], query: str) -> None:
    path = f"Patient?{ward['tag']}&{urllib.parse.quote(query, safe='=&?:|,%./-_')}"
    found = {r["id"] for r in matches(ask(door, path))}
    assert found == {ward["people"][int(n)] for n in CASES[query]}


READINGS = {  # query -> which of the five readings of the first person, and p the pulse of the second
    "code=8480-6": "01234", "code=http://loinc.org|8480-6": "01234", "code=http://loinc.org|": "01234p", "code=|8480-6": "", "code:not=8480-6": "p", "code:text=脉": "p",
    "code=8480-6,8867-4": "01234p", "date=2026-03-01": "0", "date=2026-03": "0123p", "date=2026": "0123p", "date=2026-03-02": "1", "date=2025": "4", "date=ge2026-03-03": "23p",
    "date=gt2026-03-03": "3p", "date=lt2026-03-02": "034", "date=sa2026-03-02": "2p", "date=eb2026-03-02": "04", "value-quantity=110": "1",
    "value-quantity=110|http://unitsofmeasure.org|mm[Hg]": "1", "value-quantity=110||mmHg": "1", "value-quantity=gt120": "34", "value-quantity=ge120&value-quantity=lt140": "23",
    "value-quantity=1.1e2": "01234"[1:2], "value-quantity=ne110": "0234", "value-quantity=ap100": "01"[0:2], "value-string=整齐": "p", "value-string:missing=true": "01234",
    "status=final": "01234p", "patient.name=安然": "01234", "subject:Patient.name=安宁": "p", "subject.gender=male": "p", "patient.birthdate=lt1985": "01234",
    "code-value-quantity=8480-6$110": "1", "code-value-quantity=8480-6$gt120": "34", "code-value-quantity=8867-4$gt1": "", "combo-code=8867-4": "p", "encounter:missing=true": "01234p",
}  # fmt: skip


@pytest.mark.parametrize("query", READINGS)
def test_readings(door: Door, ward: dict[str, Any], query: str) -> None:
    path = f"Observation?{ward['tag']}&{urllib.parse.quote(query, safe='=&?:|,%./-_$')}"
    found = {r["id"] for r in matches(ask(door, path))}
    wanted = {ward["pulse"] if n == "p" else ward["readings"][int(n)] for n in READINGS[query]}
    assert found == wanted, {**{i: n for n, i in enumerate(ward["readings"])}, ward["pulse"]: "p"}


class TestReferences:
    @pytest.mark.parametrize(
        "form",
        [
            "patient={id}",
            "patient=Patient/{id}",
            "subject=Patient/{id}",
            "subject:Patient={id}",
            "subject={base}/Patient/{id}",
            "patient=Patient/nobody,Patient/{id}",
        ],
    )
    def test_every_form(self, door: Door, ward: dict[str, Any], form: str) -> None:
        query = form.format(id=ward["people"][0], base=door.base)
        assert ask(door, f"Observation?{query}")["total"] == 5

    def test_include(self, door: Door, ward: dict[str, Any]) -> None:
        for query in (
            "_include=Observation:subject",
            "_include=Observation:patient",
            "_include=Observation:subject:Patient",
            "_include=Observation:*",
        ):
            found = ask(door, f"Observation?{ward['tag']}&{query}")
            included = [e["resource"]["id"] for e in found["entry"] if e["search"]["mode"] == "include"]
            assert sorted(included) == sorted(ward["people"][:2]), query
            assert found["total"] == 6

    def test_revinclude(self, door: Door, ward: dict[str, Any]) -> None:
        found = ask(
            door,
            f"Patient?_id={ward['people'][0]}&_revinclude=Observation:subject&_revinclude=Encounter:patient",
        )
        modes = [(e["resource"]["resourceType"], e["search"]["mode"]) for e in found["entry"]]
        assert modes[0] == ("Patient", "match")
        assert sorted(modes[1:]) == [("Encounter", "include")] + [("Observation", "include")] * 5

    def test_compartments(self, door: Door, ward: dict[str, Any]) -> None:
        first = ward["people"][0]
        assert ask(door, f"Patient/{first}/Observation")["total"] == 5
        assert ask(door, f"Patient/{first}/Observation?date=2026-03-01")["total"] == 1
        assert ask(door, f"Patient/{first}/Encounter")["total"] == 1
        kinds = {r["resourceType"] for r in matches(ask(door, f"Patient/{first}/*"))}
        assert {"Observation", "Encounter"} <= kinds

    def test_identifier_of_a_reference(self, door: Door) -> None:
        value = unique()
        one = observation("Patient/x")
        one["subject"] = {"identifier": {"system": SYSTEM, "value": value}}
        del one["subject"]
        one["performer"] = [{"identifier": {"system": SYSTEM, "value": value}}]
        answer = door("POST", "Observation", one)
        if answer.status == 201:  # an Observation about nobody may be refused: then nothing is to be found
            assert ask(door, f"Observation?performer:identifier={SYSTEM}|{value}")["total"] == 1

    def test_references_that_are_written_otherwise(self, door: Door, ward: dict[str, Any]) -> None:
        """An absolute address of this server and a version are found like the plain reference."""
        pid = good(door("POST", "Patient", patient(unique())), 201).json["id"]
        made = [good(door("POST", "Observation", observation(ref)), 201).json["id"]
                for ref in (f"Patient/{pid}", f"{door.base}/Patient/{pid}", f"Patient/{pid}/_history/1")]  # fmt: skip
        assert sorted(r["id"] for r in matches(ask(door, f"Observation?patient={pid}"))) == sorted(made)

    def test_chain_over_two(self, door: Door, ward: dict[str, Any]) -> None:
        assert (
            ask(
                door,
                f"Patient?{ward['tag']}&_has:Observation:subject:_has:Provenance:target:agent=Practitioner/x",
            )["total"]
            == 0
        )
        assert ask(door, "Observation?encounter.patient.name=nobody")["total"] == 0


class TestSorting:
    def test_dates(self, door: Door, ward: dict[str, Any]) -> None:
        one = "Observation?patient=" + ward["people"][0]
        down = [r["effectiveDateTime"] for r in matches(ask(door, f"{one}&_sort=-date&date=ge2026-03-01"))]
        assert down.index("2026-03-03") < down.index("2026-03-01")

    def test_two_keys(self, door: Door, ward: dict[str, Any]) -> None:
        found = matches(ask(door, f"Patient?{ward['tag']}&_sort=gender,-birthdate"))
        assert [(p["gender"], p["birthDate"]) for p in found] == [
            ("female", "1980-05-06"),
            ("male", "1991"),
            ("male", "1975-12"),
        ]


class TestConditionalRead:
    def test_a_search_after_a_write_sees_it(self, door: Door) -> None:
        for _ in range(5):
            value = unique()
            made = good(door("POST", "Practitioner", practitioner(value)), 201).json
            query = f"Practitioner?identifier={SYSTEM}|{value}"
            assert ask(door, query)["total"] == 1
            good(
                door(
                    "PUT",
                    f"Practitioner/{made['id']}",
                    {**made, "identifier": [{"system": SYSTEM, "value": f"{value}-b"}]},
                ),
                200,
            )
            assert ask(door, query)["total"] == 0
            assert ask(door, f"{query}-b")["total"] == 1
