"""What a conformance suite would try of batch, transaction and operations (R4 http.html 3.1.0.11, operations.html)."""

from __future__ import annotations

import base64
import json
import uuid
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


def statuses(answer: Any) -> list[str]:
    return [one["response"]["status"][:3] for one in answer.json["entry"]]


def urn() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def total(door: Door, value: str, rtype: str = "Practitioner") -> int:
    found: int = door("GET", f"{rtype}?identifier={SYSTEM}|{value}").json["total"]
    return found


class TestBatch:
    def test_each_for_itself_and_in_order(self, door: Door) -> None:
        value = unique()
        answer = good(door("POST", "", bundle(
            "batch", entry("GET", "Practitioner/nobody"), entry("POST", "Practitioner", practitioner(value)), entry("POST", "Practitioner", {"resourceType": "Practitioner", "shoe": 1}),
            entry("GET", "Practitioner?_count=1"), entry("GET", "Unicorn/1"), entry("DELETE", "Practitioner/nobody"),
        )), 200)  # fmt: skip
        assert answer.json["type"] == "batch-response"
        got = statuses(answer)
        assert got[:5] == ["404", "201", "422", "200", "404"] or got[:5] == [
            "404",
            "201",
            "400",
            "200",
            "404",
        ]
        assert got[5] in ("200", "204", "404")
        made = answer.json["entry"][1]
        assert made["response"]["location"].endswith("/_history/1")
        assert made["response"]["etag"] == 'W/"1"'
        assert made["response"]["lastModified"]
        for n in (0, 2, 4):
            assert answer.json["entry"][n]["response"]["outcome"]["resourceType"] == "OperationOutcome"
        assert answer.json["entry"][3]["resource"]["type"] == "searchset"
        assert total(door, value) == 1

    def test_empty(self, door: Door) -> None:
        answer = good(door("POST", "", bundle("batch")), 200)
        assert answer.json == {
            "resourceType": "Bundle",
            "type": "batch-response",
            **{k: v for k, v in answer.json.items() if k in ("id", "meta")},
        }

    def test_conditions(self, door: Door) -> None:
        value = unique()
        query = f"identifier={SYSTEM}|{value}"
        body = practitioner(value)
        answer = good(
            door("POST", "", bundle("batch", entry("POST", "Practitioner", body, ifNoneExist=query))), 200
        )
        rid = answer.json["entry"][0]["response"]["location"].split("/_history")[0].split("/")[-1]
        answer = good(door("POST", "", bundle(
            "batch", entry("POST", "Practitioner", body, ifNoneExist=query), entry("PUT", f"Practitioner/{rid}", {**body, "id": rid}, ifMatch='W/"7"'),
            entry("PUT", f"Practitioner?{query}", body), entry("GET", f"Practitioner/{rid}", ifNoneMatch='W/"2"'),
        )), 200)  # fmt: skip
        assert statuses(answer) == ["200", "412", "200", "304"]


class TestTransaction:
    def test_any_order_of_references(self, door: Door) -> None:
        value, who = unique(), urn()
        about = observation(who, performer=[{"reference": f"Practitioner?identifier={SYSTEM}|{value}-d"}])
        good(door("POST", "Practitioner", practitioner(f"{value}-d")), 201)
        answer = good(
            door(
                "POST",
                "",
                bundle(
                    "transaction",
                    entry("POST", "Observation", about, urn()),
                    entry("POST", "Patient", patient(value), who),
                ),
            ),
            200,
        )
        assert answer.json["type"] == "transaction-response"
        assert statuses(answer) == ["201", "201"]
        places = [
            one["response"]["location"].removeprefix(f"{door.base}/").split("/_history")[0]
            for one in answer.json["entry"]
        ]
        kept = door("GET", places[0]).json
        assert kept["subject"]["reference"] == places[1]
        assert kept["performer"][0]["reference"].startswith("Practitioner/")

    def test_circular_references(self, door: Door) -> None:
        a, b = urn(), urn()
        one = {"resourceType": "Organization", "name": "甲", "partOf": {"reference": b}}
        two = {"resourceType": "Organization", "name": "乙", "partOf": {"reference": a}}
        answer = good(
            door(
                "POST",
                "",
                bundle(
                    "transaction",
                    entry("POST", "Organization", one, a),
                    entry("POST", "Organization", two, b),
                ),
            ),
            200,
        )
        places = [
            e["response"]["location"].removeprefix(f"{door.base}/").split("/_history")[0]
            for e in answer.json["entry"]
        ]
        assert [door("GET", p).json["partOf"]["reference"] for p in places] == places[::-1]

    def test_references_in_contained_and_extensions_follow(self, door: Door) -> None:
        who = urn()
        one = {"resourceType": "PractitionerRole", "active": True, "practitioner": {"reference": who},
               "extension": [{"url": "http://example.org/x", "valueReference": {"reference": who}}]}  # fmt: skip
        answer = good(
            door(
                "POST",
                "",
                bundle(
                    "transaction",
                    entry("POST", "PractitionerRole", one),
                    entry("POST", "Practitioner", practitioner(unique()), who),
                ),
            ),
            200,
        )
        kept = door("GET", answer.json["entry"][0]["response"]["location"].removeprefix(f"{door.base}/")).json
        assert kept["practitioner"] == kept["extension"][0]["valueReference"]
        assert kept["practitioner"]["reference"].startswith("Practitioner/")

    def test_a_conditional_create_that_matches_is_referred_to(self, door: Door) -> None:
        value, who = unique(), urn()
        rid = good(door("POST", "Practitioner", practitioner(value)), 201).json["id"]
        role = {"resourceType": "PractitionerRole", "practitioner": {"reference": who}}
        answer = good(door("POST", "", bundle(
            "transaction", entry("POST", "PractitionerRole", role), entry("POST", "Practitioner", practitioner(value), who, ifNoneExist=f"identifier={SYSTEM}|{value}"),
        )), 200)  # fmt: skip
        assert statuses(answer) == ["201", "200"]
        kept = door("GET", answer.json["entry"][0]["response"]["location"].removeprefix(f"{door.base}/")).json
        assert kept["practitioner"]["reference"] == f"Practitioner/{rid}"

    def test_what_is_deleted_in_it_is_not_matched_in_it(self, door: Door) -> None:
        """Deletes come before creates: a conditional create makes a new one, or the overlap is refused; never "it is there"."""
        value = unique()
        old = good(door("POST", "Practitioner", practitioner(value)), 201).json
        query = f"Practitioner?identifier={SYSTEM}|{value}"
        create = entry("POST", "Practitioner", practitioner(value), ifNoneExist=query.split("?")[1])
        delete = entry("DELETE", f"Practitioner/{old['id']}")
        answer = good(
            door("POST", "", bundle("transaction", entry("GET", query), create, delete)),
            200,
            400,
            409,
            412,
            422,
        )
        if answer.status != 200:
            assert door("GET", f"Practitioner/{old['id']}").status == 200
            return
        assert statuses(answer)[1:] in (["201", "204"], ["201", "200"])
        found = matches(answer.json["entry"][0]["resource"])
        assert len(found) == 1
        assert found[0]["id"] != old["id"]

    def test_all_or_nothing(self, door: Door) -> None:
        value = unique()
        for bad in (entry("POST", "Practitioner", {"resourceType": "Practitioner", "shoe": 1}), entry("PUT", "Practitioner/x-y", practitioner("q", id="x-y"), ifMatch='W/"5"'),
                    entry("POST", "PractitionerRole", {"resourceType": "PractitionerRole", "practitioner": {"reference": f"Practitioner?identifier={SYSTEM}|none-{value}"}}),
                    entry("POST", "Unicorn", {"resourceType": "Unicorn"})):  # fmt: skip
            refused(
                door(
                    "POST", "", bundle("transaction", entry("POST", "Practitioner", practitioner(value)), bad)
                ),
                400,
                404,
                409,
                412,
                422,
            )
            assert total(door, value) == 0

    def test_the_same_resource_twice(self, door: Door) -> None:
        made = good(door("POST", "Practitioner", practitioner(unique())), 201).json
        twice = [
            entry("PUT", f"Practitioner/{made['id']}", {**made, "active": flag}) for flag in (True, False)
        ]
        refused(door("POST", "", bundle("transaction", *twice)), 400, 422)

    def test_patches_in_it(self, door: Door) -> None:
        made = good(door("POST", "Practitioner", practitioner(unique())), 201).json
        change = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Practitioner"}, {"name": "name", "valueString": "active"}, {"name": "value", "valueBoolean": True}]}]}  # fmt: skip

        raw = base64.b64encode(
            json.dumps([{"op": "add", "path": "/gender", "value": "male"}]).encode()
        ).decode()
        binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": raw}
        assert statuses(
            good(
                door("POST", "", bundle("transaction", entry("PATCH", f"Practitioner/{made['id']}", change))),
                200,
            )
        ) == ["200"]
        assert statuses(
            good(door("POST", "", bundle("batch", entry("PATCH", f"Practitioner/{made['id']}", binary))), 200)
        ) == ["200"]
        kept = door("GET", f"Practitioner/{made['id']}").json
        assert (kept["active"], kept["gender"]) == (True, "male")

    def test_conditional_update_and_delete_in_it(self, door: Door) -> None:
        value = unique()
        path = f"Practitioner?identifier={SYSTEM}|{value}"
        assert statuses(
            good(door("POST", "", bundle("transaction", entry("PUT", path, practitioner(value)))), 200)
        ) == ["201"]
        assert statuses(
            good(
                door("POST", "", bundle("transaction", entry("PUT", path, practitioner(value, active=True)))),
                200,
            )
        ) == ["200"]
        assert total(door, value) == 1
        assert statuses(good(door("POST", "", bundle("transaction", entry("DELETE", path))), 200))[0] in (
            "200",
            "204",
        )
        assert total(door, value) == 0

    def test_urls_may_be_absolute_or_begin_with_a_slash(self, door: Door) -> None:
        for url in (f"{door.base}/Practitioner", "/Practitioner"):
            assert statuses(
                good(door("POST", "", bundle("transaction", entry("POST", url, practitioner(unique())))), 200)
            ) == ["201"]

    def test_minimal_and_representation(self, door: Door) -> None:
        for prefer, there in (("return=minimal", False), ("return=representation", True)):
            answer = good(
                door(
                    "POST",
                    "",
                    bundle("transaction", entry("POST", "Practitioner", practitioner(unique()))),
                    Prefer=prefer,
                ),
                200,
            )
            assert ("resource" in answer.json["entry"][0]) is there

    @pytest.mark.parametrize("kind", ["collection", "document", "searchset", "nonsense", ""])
    def test_other_bundles_are_not_carried_out(self, door: Door, kind: str) -> None:
        value = unique()
        refused(door("POST", "", bundle(kind, entry("POST", "Practitioner", practitioner(value)))), 400, 422)
        assert total(door, value) == 0

    def test_a_bundle_may_also_be_kept(self, door: Door) -> None:
        whole = bundle(
            "collection",
            {
                "resource": practitioner(unique(), id="a1"),
                "fullUrl": "urn:uuid:7d1c6b1e-1d1f-4a3b-9a55-3b1a5d6c0001",
            },
        )
        made = good(door("POST", "Bundle", whole), 201).json
        assert good(door("GET", f"Bundle/{made['id']}"), 200).json["entry"] == whole["entry"]


class TestOperations:
    def test_validate(self, door: Door) -> None:
        sound = good(door("POST", "Practitioner/$validate", practitioner(unique())), 200).json
        assert sound["resourceType"] == "OperationOutcome"
        assert not any(i["severity"] in ("error", "fatal") for i in sound["issue"])
        bad = good(
            door("POST", "Patient/$validate", {"resourceType": "Patient", "gender": "maybe", "shoe": 1}), 200
        ).json
        told = [i for i in bad["issue"] if i["severity"] in ("error", "fatal")]
        assert {"Patient.gender", "Patient.shoe"} <= {e for i in told for e in i.get("expression", [])}

    def test_validate_by_parameters(self, door: Door) -> None:
        asked = {
            "resourceType": "Parameters",
            "parameter": [{"name": "resource", "resource": {"resourceType": "Patient", "gender": "maybe"}}],
        }
        bad = good(door("POST", "Patient/$validate", asked), 200).json
        assert any(i["severity"] == "error" for i in bad["issue"])

    def test_validate_keeps_nothing(self, door: Door) -> None:
        value = unique()
        good(door("POST", "Practitioner/$validate", practitioner(value)), 200)
        assert total(door, value) == 0

    def test_everything(self, door: Door) -> None:
        pid = good(door("POST", "Patient", patient(unique())), 201).json["id"]
        for n in range(5):
            good(door("POST", "Observation", observation(f"Patient/{pid}", 100 + n)), 201)
        seen: list[str] = []
        url: str | None = f"{door.base}/Patient/{pid}/$everything?_count=2"
        while url:
            page = good(door("GET", url.removeprefix(f"{door.base}/")), 200).json
            assert page["type"] == "searchset"
            seen += [e["resource"]["resourceType"] for e in page["entry"] if e["search"]["mode"] == "match"]
            url = link(page, "next")
        assert sorted(seen) == ["Observation"] * 5 + ["Patient"]
        only = good(door("GET", f"Patient/{pid}/$everything?_type=Observation"), 200).json
        assert {e["resource"]["resourceType"] for e in only["entry"] if e["search"]["mode"] == "match"} <= {
            "Observation"
        }
        refused(door("GET", "Patient/nobody-at-all/$everything"), 404)

    def test_meta(self, door: Door) -> None:
        made = good(door("POST", "Practitioner", practitioner(unique())), 201).json
        path = f"Practitioner/{made['id']}"
        tag = {"system": SYSTEM, "code": "flagged"}
        asked = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [tag]}}]}
        good(door("POST", f"{path}/$meta-add", asked), 200)
        answer = good(door("GET", f"{path}/$meta"), 200).json
        assert answer["resourceType"] == "Parameters"
        assert answer["parameter"][0]["name"] == "return"
        assert tag in answer["parameter"][0]["valueMeta"]["tag"]
        good(door("POST", f"{path}/$meta-delete", asked), 200)
        assert tag not in good(door("GET", f"{path}/$meta"), 200).json["parameter"][0]["valueMeta"].get(
            "tag", []
        )

    def test_lastn(self, door: Door) -> None:
        pid = good(door("POST", "Patient", patient(unique())), 201).json["id"]
        for n in range(1, 6):
            good(door("POST", "Observation", observation(f"Patient/{pid}", 100 + n, f"2026-03-0{n}")), 201)
        found = good(
            door("GET", f"Observation/$lastn?patient=Patient/{pid}&code=http://loinc.org|8480-6&max=2"), 200
        ).json
        assert sorted(r["effectiveDateTime"] for r in matches(found)) == ["2026-03-04", "2026-03-05"]

    def test_terminology(self, door: Door) -> None:
        system = "http://hl7.org/fhir/administrative-gender"
        found = good(
            door("GET", "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender"), 200
        ).json
        assert {c["code"] for c in found["expansion"]["contains"]} == {"male", "female", "other", "unknown"}

        def said(path: str) -> dict[str, Any]:
            answer = good(door("GET", path), 200).json
            assert answer["resourceType"] == "Parameters"
            return {
                p["name"]: next((v for k, v in p.items() if k.startswith("value")), p)
                for p in answer["parameter"]
            }

        assert said(f"CodeSystem/$lookup?system={system}&code=male")["display"]
        assert said(f"CodeSystem/$validate-code?url={system}&code=male")["result"] is True
        assert said(f"CodeSystem/$validate-code?url={system}&code=shoe")["result"] is False
        assert (
            said(
                f"ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/administrative-gender&system={system}&code=male"
            )["result"]
            is True
        )
        assert said(f"CodeSystem/$subsumes?system={system}&codeA=male&codeB=male")["outcome"] == "equivalent"
        refused(door("GET", "ValueSet/$expand?url=http://example.org/none"), 400, 404, 422)
        refused(door("GET", f"CodeSystem/$lookup?system={system}&code=shoe"), 400, 404, 422)

    def test_match(self, door: Door) -> None:
        value = unique()
        made = good(door("POST", "Patient", patient(value)), 201).json
        asked = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "resource", "resource": patient(value)},
                {"name": "count", "valueInteger": 100},
            ],
        }
        found = good(door("POST", "Patient/$match", asked), 200).json
        assert found["type"] == "searchset"
        first = found["entry"][0]
        assert 0 < first["search"]["score"] <= 1
        assert made["id"] in [e["resource"]["id"] for e in found["entry"]]

    def test_document(self, door: Door) -> None:
        pid = good(door("POST", "Patient", patient(unique())), 201).json["id"]
        oid = good(door("POST", "Observation", observation(f"Patient/{pid}")), 201).json["id"]
        did = good(door("POST", "Practitioner", practitioner(unique())), 201).json["id"]
        made = good(door("POST", "Composition", {
            "resourceType": "Composition", "status": "final", "type": {"text": "出院小结"}, "subject": {"reference": f"Patient/{pid}"}, "date": "2026-03-01",
            "author": [{"reference": f"Practitioner/{did}"}], "title": "出院小结", "section": [{"title": "检查", "entry": [{"reference": f"Observation/{oid}"}]}],
        }), 201).json  # fmt: skip
        whole = good(door("GET", f"Composition/{made['id']}/$document"), 200).json
        assert whole["type"] == "document"
        assert whole["entry"][0]["resource"]["resourceType"] == "Composition"
        assert {"Patient", "Observation", "Practitioner"} <= {
            e["resource"]["resourceType"] for e in whole["entry"]
        }

    def test_summary(self, door: Door) -> None:
        pid = good(door("POST", "Patient", patient(unique())), 201).json["id"]
        whole = good(door("GET", f"Patient/{pid}/$summary"), 200).json
        assert whole["type"] == "document"
        first = whole["entry"][0]["resource"]
        assert first["resourceType"] == "Composition"
        assert first["type"]["coding"][0]["code"] == "60591-5"

    def test_an_operation_that_is_not_there(self, door: Door) -> None:
        for path in ("$shoe", "Patient/$shoe", "Patient/x/$shoe"):
            refused(door("GET", path), 400, 404, 405)
            refused(door("POST", path, {"resourceType": "Parameters"}), 400, 404, 405)


def test_what_the_capabilities_name_is_there(door: Door) -> None:
    """Every search parameter is understood (one batch of searches a type), every operation is known."""
    rest = good(door("GET", "metadata", token=""), 200).json["rest"][0]
    plain = {
        "number": "1",
        "date": "2026",
        "string": "x",
        "token": "x",
        "reference": "Patient/x",
        "quantity": "1",
        "uri": "urn:x",
    }
    unknown = []
    for one in rest["resource"]:
        names = [p["name"] for p in one["searchParam"] if p["type"] in plain]
        kinds = {p["name"]: p["type"] for p in one["searchParam"]}
        asked = [entry("GET", f"{one['type']}?{n}={plain[kinds[n]]}&_summary=count") for n in names]
        answers = good(door("POST", "", bundle("batch", *asked)), 200).json["entry"] if asked else []
        for name, answer in zip(names, answers, strict=True):
            told = any(e["search"]["mode"] == "outcome" for e in answer.get("resource", {}).get("entry", []))
            if not answer["response"]["status"].startswith("200") or told:
                unknown.append(f"{one['type']}?{name}: {answer}"[:300])
        for operation in one.get("operation", []):
            where = [f"{one['type']}/${operation['name']}", f"{one['type']}/nobody/${operation['name']}"]
            issues = [door("GET", path).json.get("issue", [{}])[0].get("code") for path in where]
            if issues == ["not-supported", "not-supported"]:
                issues = [
                    door("POST", path, {"resourceType": "Parameters"}).json.get("issue", [{}])[0].get("code")
                    for path in where
                ]
            if issues == ["not-supported", "not-supported"]:
                unknown.append(where[0])
    assert not unknown, unknown[:20]
