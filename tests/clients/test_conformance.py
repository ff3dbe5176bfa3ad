"""What a conformance suite would try of the REST interactions: statuses, headers, bodies (R4 http.html, 3.1.0)."""

from __future__ import annotations

import email.utils
import re
from typing import Any

import pytest

from tests.clients.conftest import Door
from tests.clients.speech import SYSTEM, bundle, entry, good, matches, patient, practitioner, refused, unique

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
JSON_PATCH = "application/json-patch+json"


@pytest.fixture
def made(door: Door) -> dict[str, Any]:
    """A practitioner of its own for a test."""
    answer: dict[str, Any] = good(door("POST", "Practitioner", practitioner(unique())), 201).json
    return answer


@pytest.fixture(scope="module")
def statement(door: Door) -> dict[str, Any]:
    """The CapabilityStatement, which needs no token."""
    answer: dict[str, Any] = good(door("GET", "metadata", token=""), 200).json
    return answer


class TestCapability:
    def test_required_elements(self, statement: dict[str, Any]) -> None:
        assert statement["resourceType"] == "CapabilityStatement"
        assert statement["status"] == "active"
        assert INSTANT.fullmatch(statement["date"]) or re.fullmatch(r"\d{4}-\d\d-\d\d", statement["date"])
        assert statement["kind"] == "instance"
        assert statement["fhirVersion"] == "4.0.1"
        assert statement["implementation"]["description"]  # cpb-15: instance needs implementation
        assert statement["software"]["name"]
        assert {"json"} <= set(statement["format"]) or "application/fhir+json" in statement["format"]
        assert JSON_PATCH in statement["patchFormat"]

    def test_rest(self, statement: dict[str, Any]) -> None:
        rest = statement["rest"]
        assert [r["mode"] for r in rest] == ["server"]  # cpb-8: modes are unique
        types = [r["type"] for r in rest[0]["resource"]]
        assert len(types) == len(set(types))  # cpb-9
        assert {"Patient", "Observation", "Practitioner", "Encounter", "Bundle", "Subscription"} <= set(types)
        codes = {i["code"] for i in rest[0]["interaction"]}
        assert {"transaction", "batch", "history-system"} <= codes

    def test_every_resource(self, statement: dict[str, Any]) -> None:
        for one in statement["rest"][0]["resource"]:
            names = [p["name"] for p in one.get("searchParam", [])]
            assert len(names) == len(set(names)), one["type"]  # cpb-12
            assert all(p["type"] in ("number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special")
                       for p in one.get("searchParam", []))  # fmt: skip
            operations = [o["name"] for o in one.get("operation", [])]
            assert len(operations) == len(set(operations)), one["type"]
            assert all(o["definition"] and not o["name"].startswith("$") for o in one.get("operation", []))

    def test_what_it_says_of_practitioner_is_done(self, statement: dict[str, Any]) -> None:
        own = next(r for r in statement["rest"][0]["resource"] if r["type"] == "Practitioner")
        assert {"read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"} <= {
            i["code"] for i in own["interaction"]
        }  # fmt: skip
        assert own["versioning"] in ("versioned", "versioned-update")
        assert own["readHistory"] is True
        assert own["updateCreate"] is True
        assert own["conditionalCreate"] is True
        assert own["conditionalUpdate"] is True
        assert own["conditionalDelete"] in ("single", "multiple")
        assert own["conditionalRead"] == "full-support"

    def test_it_names_its_security(self, statement: dict[str, Any]) -> None:
        assert statement["rest"][0]["security"]

    def test_unknown_format(self, door: Door) -> None:
        refused(door("GET", "metadata?_format=xml", token=""), 406)


class TestNegotiation:
    @pytest.mark.parametrize(
        "accept",
        [
            "application/fhir+json", "application/json", "*/*", "application/*", "application/fhir+json; fhirVersion=4.0",
            "application/fhir+json;q=0.9, application/fhir+xml;q=0.8", "text/html, application/xhtml+xml, */*;q=0.1", "",
        ],
    )  # fmt: skip
    def test_json_for_whoever_can_take_it(self, door: Door, made: dict[str, Any], accept: str) -> None:
        good(door("GET", f"Practitioner/{made['id']}", Accept=accept), 200)

    @pytest.mark.parametrize("accept", ["application/fhir+xml", "text/turtle", "image/png"])
    def test_others_are_told(self, door: Door, made: dict[str, Any], accept: str) -> None:
        refused(door("GET", f"Practitioner/{made['id']}", Accept=accept), 406)

    @pytest.mark.parametrize(
        "wanted", ["json", "application/json", "application/fhir%2Bjson", "application/fhir+json"]
    )
    def test_format_overrides_accept(self, door: Door, made: dict[str, Any], wanted: str) -> None:
        good(door("GET", f"Practitioner/{made['id']}?_format={wanted}", Accept="application/fhir+xml"), 200)

    def test_pretty(self, door: Door, made: dict[str, Any]) -> None:
        assert door("GET", f"Practitioner/{made['id']}?_pretty=true").raw.count(b"\n") > 5

    @pytest.mark.parametrize(
        "kind",
        [
            "application/fhir+json",
            "application/json",
            "application/fhir+json; charset=utf-8",
            "application/fhir+json;fhirVersion=4.0",
        ],
    )
    def test_content_types_taken(self, door: Door, kind: str) -> None:
        good(door("POST", "Practitioner", practitioner(unique()), Content_Type=kind), 201)

    @pytest.mark.parametrize(
        "kind", ["application/fhir+xml", "text/plain", "application/x-www-form-urlencoded"]
    )
    def test_content_types_refused(self, door: Door, kind: str) -> None:
        refused(door("POST", "Practitioner", practitioner(unique()), Content_Type=kind), 415)

    def test_head_is_get_without_a_body(self, door: Door, made: dict[str, Any]) -> None:
        asked, got = (door(m, f"Practitioner/{made['id']}") for m in ("HEAD", "GET"))
        assert asked.status == 200
        assert asked.raw == b""
        assert asked.headers["etag"] == got.headers["etag"]

    def test_no_token(self, door: Door) -> None:
        answer = door("GET", "Practitioner", token="")
        refused(answer, 401, codes=("login", "security", "unknown"))
        assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_token_of_a_narrower_scope(self, door: Door) -> None:
        refused(door("GET", "Observation", token=door.reader), 403, codes=("forbidden", "security"))
        refused(door("POST", "Patient", patient(unique()), token=door.reader), 403)

    def test_unknown_type(self, door: Door) -> None:
        refused(door("GET", "Unicorn/1"), 404, codes=("not-supported", "not-found"))
        refused(
            door("POST", "Unicorn", {"resourceType": "Unicorn"}), 404, codes=("not-supported", "not-found")
        )

    def test_method_that_is_not_there(self, door: Door, made: dict[str, Any]) -> None:
        refused(door("POST", f"Practitioner/{made['id']}", practitioner("x")), 400, 404, 405)


class TestCreate:
    def test_answer(self, door: Door) -> None:
        sent = practitioner(unique())
        answer = good(door("POST", "Practitioner", sent), 201)
        body = answer.json
        assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", body["id"])
        assert (
            answer.headers["location"]
            == f"{door.base}/Practitioner/{body['id']}/_history/{body['meta']['versionId']}"
        )
        assert answer.headers["etag"] == f'W/"{body["meta"]["versionId"]}"'
        assert email.utils.parsedate_to_datetime(answer.headers["last-modified"])
        assert INSTANT.fullmatch(body["meta"]["lastUpdated"])
        assert {k: v for k, v in body.items() if k not in ("id", "meta")} == sent

    def test_id_and_version_of_the_sender_are_not_taken(self, door: Door) -> None:
        sent = practitioner(
            unique(), id="mine", meta={"versionId": "77", "lastUpdated": "1999-01-01T00:00:00Z"}
        )
        body = good(door("POST", "Practitioner", sent), 201).json
        assert body["id"] != "mine"
        assert body["meta"]["versionId"] != "77"
        assert not body["meta"]["lastUpdated"].startswith("1999")

    def test_tags_and_profiles_of_the_sender_are_kept(self, door: Door) -> None:
        meta = {"tag": [{"system": "urn:t", "code": "x"}], "profile": ["http://example.org/p"]}
        body = good(door("POST", "Practitioner", practitioner(unique(), meta=meta)), 201).json
        assert body["meta"]["tag"] == meta["tag"]
        assert body["meta"]["profile"] == meta["profile"]

    def test_other_type_in_the_body(self, door: Door) -> None:
        refused(door("POST", "Practitioner", patient(unique())), 400, 422)

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"not json", b'"x"', b"{}", b'{"resourceType":"Practitioner","active":"yes"}', b'{"resourceType":"Practitioner","name":[]}',
                 b'{"resourceType":"Practitioner","name":null}', b'{"resourceType":"Practitioner","name":{"text":"x"}}', b'{"resourceType":"Practitioner","shoe":1}',
                 b'{"resourceType":"Practitioner","gender":""}', b'{"resourceType":"Practitioner","birthDate":"1.1.1980"}',
                 b'{"resourceType":"Practitioner","active":true,"active":false}'],
    )  # fmt: skip
    def test_what_is_no_practitioner(self, door: Door, body: bytes) -> None:
        refused(door("POST", "Practitioner", body), 400, 422)

    @pytest.mark.parametrize(
        ("prefer", "wanted"),
        [
            ("return=minimal", None),
            ("return=representation", "Practitioner"),
            ("return=OperationOutcome", "OperationOutcome"),
        ],
    )
    def test_prefer(self, door: Door, prefer: str, wanted: str | None) -> None:
        answer = good(door("POST", "Practitioner", practitioner(unique()), Prefer=prefer), 201)
        assert answer.headers["location"]
        assert (answer.json["resourceType"] if answer.raw else None) == wanted

    def test_conditional(self, door: Door) -> None:
        value = unique()
        query = f"identifier={SYSTEM}|{value}"
        first = good(door("POST", "Practitioner", practitioner(value), If_None_Exist=query), 201)
        second = good(door("POST", "Practitioner", practitioner(value), If_None_Exist=query), 200)
        assert (
            second.headers["location"].split("/_history")[0]
            == first.headers["location"].split("/_history")[0]
        )
        good(door("POST", "Practitioner", practitioner(value)), 201)
        refused(door("POST", "Practitioner", practitioner(value), If_None_Exist=query), 412)

    @pytest.mark.parametrize("query", ["shoe=7", "identifier", "birthdate=never"])
    def test_condition_that_cannot_be_understood_creates_nothing(self, door: Door, query: str) -> None:
        value = unique()
        refused(door("POST", "Practitioner", practitioner(value), If_None_Exist=query), 400, 412, 422)
        assert door("GET", f"Practitioner?identifier={SYSTEM}|{value}").json["total"] == 0


class TestRead:
    def test_read(self, door: Door, made: dict[str, Any]) -> None:
        answer = good(door("GET", f"Practitioner/{made['id']}"), 200)
        assert answer.json == made
        assert answer.headers["etag"] == 'W/"1"'
        assert email.utils.parsedate_to_datetime(answer.headers["last-modified"])

    def test_unknown_id(self, door: Door) -> None:
        refused(door("GET", "Practitioner/nobody-at-all"), 404, codes=("not-found",))

    @pytest.mark.parametrize("rid", ["a" * 65, "with%20blank", "semi;colon", "%E4%B8%AD"])
    def test_no_id_at_all(self, door: Door, rid: str) -> None:
        refused(door("GET", f"Practitioner/{rid}"), 400, 404)

    @pytest.mark.parametrize("tag", ['W/"1"', 'W/"0", W/"1"', "*"])
    def test_not_modified_by_etag(self, door: Door, made: dict[str, Any], tag: str) -> None:
        answer = door("GET", f"Practitioner/{made['id']}", If_None_Match=tag)
        assert (answer.status, answer.raw) == (304, b"")
        assert answer.headers["etag"] == 'W/"1"'

    def test_modified_by_etag(self, door: Door, made: dict[str, Any]) -> None:
        good(door("GET", f"Practitioner/{made['id']}", If_None_Match='W/"9"'), 200)

    def test_modified_since(self, door: Door, made: dict[str, Any]) -> None:
        last = door("GET", f"Practitioner/{made['id']}").headers["last-modified"]
        assert door("GET", f"Practitioner/{made['id']}", If_Modified_Since=last).status == 304
        old = "Mon, 01 Jan 2001 00:00:00 GMT"
        assert door("GET", f"Practitioner/{made['id']}", If_Modified_Since=old).status == 200

    def test_elements_and_summary_are_marked(self, door: Door, made: dict[str, Any]) -> None:
        for query in ("_elements=name", "_summary=true", "_summary=data", "_summary=text"):
            body = good(door("GET", f"Practitioner/{made['id']}?{query}"), 200).json
            assert [t["code"] for t in body["meta"]["tag"]] == ["SUBSETTED"], query
        assert "identifier" not in door("GET", f"Practitioner/{made['id']}?_elements=name").json
        assert door("GET", f"Practitioner/{made['id']}?_summary=false").json == made

    def test_vread(self, door: Door, made: dict[str, Any]) -> None:
        good(door("PUT", f"Practitioner/{made['id']}", {**made, "active": False}), 200)
        old = good(door("GET", f"Practitioner/{made['id']}/_history/1"), 200)
        assert old.json == made
        assert old.headers["etag"] == 'W/"1"'
        for version in ("9", "x", "-1", "1.0"):
            refused(door("GET", f"Practitioner/{made['id']}/_history/{version}"), 400, 404)


class TestUpdate:
    def test_update(self, door: Door, made: dict[str, Any]) -> None:
        answer = good(door("PUT", f"Practitioner/{made['id']}", {**made, "active": True}), 200)
        assert answer.json["meta"]["versionId"] == "2"
        assert answer.headers["etag"] == 'W/"2"'
        assert answer.json["active"] is True

    def test_update_as_create(self, door: Door) -> None:
        rid = f"own-{unique()}"
        answer = good(door("PUT", f"Practitioner/{rid}", practitioner(unique(), id=rid)), 201)
        assert answer.json["id"] == rid
        assert answer.headers["location"] == f"{door.base}/Practitioner/{rid}/_history/1"

    def test_ids_must_agree(self, door: Door, made: dict[str, Any]) -> None:
        refused(door("PUT", f"Practitioner/{made['id']}", {**made, "id": "other"}), 400)
        refused(door("PUT", f"Practitioner/{made['id']}", {k: v for k, v in made.items() if k != "id"}), 400)

    @pytest.mark.parametrize("rid", ["a" * 65, "with%20blank", "under_score"])
    def test_ids_that_are_none(self, door: Door, rid: str) -> None:
        body = practitioner(unique(), id=rid.replace("%20", " "))
        refused(door("PUT", f"Practitioner/{rid}", body), 400, 422)

    def test_if_match(self, door: Door, made: dict[str, Any]) -> None:
        path = f"Practitioner/{made['id']}"
        refused(door("PUT", path, made, If_Match='W/"7"'), 412, codes=("conflict",))
        good(door("PUT", path, made, If_Match='W/"1"'), 200)
        refused(door("PUT", path, made, If_Match='W/"1"'), 412)
        good(door("PUT", path, made, If_Match='"2"'), 200)

    def test_if_match_of_what_is_not_there(self, door: Door) -> None:
        rid = f"own-{unique()}"
        refused(
            door("PUT", f"Practitioner/{rid}", practitioner(unique(), id=rid), If_Match='W/"1"'), 404, 412
        )

    def test_if_none_match_star(self, door: Door, made: dict[str, Any]) -> None:
        refused(door("PUT", f"Practitioner/{made['id']}", made, If_None_Match="*"), 412)

    def test_a_deleted_one_comes_back(self, door: Door, made: dict[str, Any]) -> None:
        path = f"Practitioner/{made['id']}"
        assert door("DELETE", path).status in (200, 204)
        answer = good(door("PUT", path, made), 200, 201)
        assert answer.json["meta"]["versionId"] == "3"
        assert len(door("GET", f"{path}/_history").json["entry"]) == 3

    def test_conditional(self, door: Door) -> None:
        value = unique()
        path = f"Practitioner?identifier={SYSTEM}|{value}"
        first = good(door("PUT", path, practitioner(value)), 201).json
        second = good(door("PUT", path, practitioner(value, active=True)), 200).json
        assert (second["id"], second["meta"]["versionId"]) == (first["id"], "2")
        good(door("PUT", path, practitioner(value, id=first["id"])), 200)
        refused(door("PUT", path, practitioner(value, id="somebody-else")), 400, 422)
        good(door("POST", "Practitioner", practitioner(value)), 201)
        refused(door("PUT", path, practitioner(value)), 412)

    def test_conditional_with_an_own_id(self, door: Door) -> None:
        value = unique()
        answer = good(
            door("PUT", f"Practitioner?identifier={SYSTEM}|{value}", practitioner(value, id=f"own-{value}")),
            201,
        )
        assert answer.json["id"] == f"own-{value}"

    def test_conditional_without_a_condition(self, door: Door) -> None:
        refused(door("PUT", "Practitioner", practitioner(unique())), 400, 405, 412)
        refused(door("PUT", "Practitioner?shoe=7", practitioner(unique())), 400, 412)


class TestPatch:
    @pytest.mark.parametrize(
        ("change", "check"),
        [
            ([{"op": "add", "path": "/active", "value": False}], lambda r: r["active"] is False),
            ([{"op": "replace", "path": "/name/0/text", "value": "乙"}], lambda r: r["name"][0]["text"] == "乙"),
            ([{"op": "remove", "path": "/name"}], lambda r: "name" not in r),
            ([{"op": "add", "path": "/name/-", "value": {"text": "丙"}}], lambda r: len(r["name"]) == 2),
            ([{"op": "add", "path": "/name/0", "value": {"text": "丙"}}], lambda r: r["name"][0]["text"] == "丙"),
            ([{"op": "copy", "from": "/name/0", "path": "/name/-"}], lambda r: len(r["name"]) == 2),
            ([{"op": "move", "from": "/name/0/text", "path": "/name/0/family"}], lambda r: r["name"] == [{"family": "甄一"}]),
            ([{"op": "test", "path": "/name/0/family", "value": "甄"}, {"op": "add", "path": "/gender", "value": "male"}], lambda r: r["gender"] == "male"),
        ],
    )  # fmt: skip
    def test_json_patch(self, door: Door, made: dict[str, Any], change: Any, check: Any) -> None:
        answer = good(door("PATCH", f"Practitioner/{made['id']}", change, Content_Type=JSON_PATCH), 200)
        assert check(answer.json), answer.json
        assert answer.headers["etag"] == 'W/"2"'
        assert door("GET", f"Practitioner/{made['id']}").json == answer.json

    @pytest.mark.parametrize(
        "change",
        [
            [{"op": "test", "path": "/name/0/family", "value": "乙"}], [{"op": "remove", "path": "/birthDate"}], [{"op": "replace", "path": "/name/7/text", "value": "x"}],
            [{"op": "add", "path": "/gender", "value": "maybe"}], [{"op": "add", "path": "/shoe", "value": 1}], [{"op": "fly", "path": "/name"}], [{"path": "/name"}],
            [{"op": "replace", "path": "/resourceType", "value": "Patient"}], [{"op": "add", "path": "name", "value": "x"}], "text", 7, [7],
        ],
    )  # fmt: skip
    def test_json_patch_refused(self, door: Door, made: dict[str, Any], change: Any) -> None:
        refused(
            door("PATCH", f"Practitioner/{made['id']}", change, Content_Type=JSON_PATCH), 400, 409, 412, 422
        )
        assert door("GET", f"Practitioner/{made['id']}").json == made

    def test_the_id_cannot_be_patched_away(self, door: Door, made: dict[str, Any]) -> None:
        change = [{"op": "replace", "path": "/id", "value": "other"}]
        answer = door("PATCH", f"Practitioner/{made['id']}", change, Content_Type=JSON_PATCH)
        assert answer.status in (200, 400, 422)
        assert door("GET", "Practitioner/other").status == 404
        assert door("GET", f"Practitioner/{made['id']}").json["id"] == made["id"]

    def test_fhirpath_patch(self, door: Door, made: dict[str, Any]) -> None:
        def part(name: str, kind: str, value: Any) -> dict[str, Any]:
            return {"name": name, kind: value}

        def operation(*parts: dict[str, Any]) -> dict[str, Any]:
            return {"name": "operation", "part": list(parts)}

        change = {"resourceType": "Parameters", "parameter": [
            operation(part("type", "valueCode", "add"), part("path", "valueString", "Practitioner"), part("name", "valueString", "birthDate"), part("value", "valueDate", "1970-01-01")),
            operation(part("type", "valueCode", "replace"), part("path", "valueString", "Practitioner.name[0].text"), part("value", "valueString", "乙")),
            operation(part("type", "valueCode", "delete"), part("path", "valueString", "Practitioner.name.where(text='乙').family")),
            operation(part("type", "valueCode", "insert"), part("path", "valueString", "Practitioner.identifier"), part("index", "valueInteger", 0), part("value", "valueIdentifier", {"value": "new"})),
        ]}  # fmt: skip
        body = good(door("PATCH", f"Practitioner/{made['id']}", change), 200).json
        assert body["birthDate"] == "1970-01-01"
        assert body["name"] == [{"text": "乙"}]
        assert body["identifier"][0]["value"] == "new"

    def test_version_type_and_absence(self, door: Door, made: dict[str, Any]) -> None:
        change = [{"op": "add", "path": "/active", "value": True}]
        path = f"Practitioner/{made['id']}"
        refused(door("PATCH", path, change, Content_Type=JSON_PATCH, If_Match='W/"9"'), 412)
        good(door("PATCH", path, change, Content_Type=JSON_PATCH, If_Match='W/"1"'), 200)
        refused(door("PATCH", "Practitioner/nobody", change, Content_Type=JSON_PATCH), 404)
        refused(door("PATCH", path, b"<x/>", Content_Type="application/xml-patch+xml"), 415)

    def test_conditional(self, door: Door) -> None:
        value, change = unique(), [{"op": "add", "path": "/active", "value": True}]
        path = f"Practitioner?identifier={SYSTEM}|{value}"
        refused(door("PATCH", path, change, Content_Type=JSON_PATCH), 404, 412)
        good(door("POST", "Practitioner", practitioner(value)), 201)
        assert good(door("PATCH", path, change, Content_Type=JSON_PATCH), 200).json["active"] is True
        good(door("POST", "Practitioner", practitioner(value)), 201)
        refused(door("PATCH", path, change, Content_Type=JSON_PATCH), 412)


class TestBinary:
    """Contents are served as themselves to who wants them so, and as a resource to who wants FHIR (R4 binary.html)."""

    def test_content_and_resource(self, door: Door) -> None:
        made = good(door("POST", "Binary", b"\x89PNG\r\n\x00\xff", Content_Type="image/png"), 201).json
        path = f"Binary/{made['id']}"
        plain = door("GET", path, Accept="image/png")
        assert (plain.status, plain.raw, plain.headers["content-type"]) == (
            200,
            b"\x89PNG\r\n\x00\xff",
            "image/png",
        )
        whole = good(door("GET", path, Accept="application/fhir+json"), 200).json
        assert (whole["resourceType"], whole["contentType"], whole["data"]) == (
            "Binary",
            "image/png",
            "iVBORw0KAP8=",
        )
        again = good(
            door("POST", "Binary", {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD"}),
            201,
        ).json
        assert door("GET", f"Binary/{again['id']}", Accept="text/plain").raw == b"ABC"


class TestDelete:
    def test_delete(self, door: Door, made: dict[str, Any]) -> None:
        path = f"Practitioner/{made['id']}"
        good(door("DELETE", path), 200, 204)
        refused(door("GET", path), 410, codes=("deleted", "not-found"))
        good(door("DELETE", path), 200, 204)
        refused(door("GET", f"{path}/_history/2"), 410)
        good(door("GET", f"{path}/_history/1"), 200)
        assert door("GET", f"Practitioner?_id={made['id']}").json["total"] == 0

    def test_what_was_never_there(self, door: Door) -> None:
        assert door("DELETE", "Practitioner/never-there").status in (200, 204, 404)

    def test_if_match(self, door: Door, made: dict[str, Any]) -> None:
        refused(door("DELETE", f"Practitioner/{made['id']}", If_Match='W/"9"'), 412)
        good(door("DELETE", f"Practitioner/{made['id']}", If_Match='W/"1"'), 200, 204)

    def test_conditional(self, door: Door) -> None:
        value = unique()
        path = f"Practitioner?identifier={SYSTEM}|{value}"
        assert door("DELETE", path).status in (200, 204, 404)
        rid = good(door("POST", "Practitioner", practitioner(value)), 201).json["id"]
        good(door("DELETE", path), 200, 204)
        assert door("GET", f"Practitioner/{rid}").status == 410

    def test_conditional_without_a_condition_deletes_nothing(self, door: Door, made: dict[str, Any]) -> None:
        for path in ("Practitioner", "Practitioner?shoe=7", "Practitioner?_format=json"):
            refused(door("DELETE", path), 400, 405, 412)
        assert door("GET", f"Practitioner/{made['id']}").status == 200


class TestHistory:
    def test_instance(self, door: Door, made: dict[str, Any]) -> None:
        path = f"Practitioner/{made['id']}"
        door("PUT", path, {**made, "active": True})
        door("DELETE", path)
        found = good(door("GET", f"{path}/_history"), 200).json
        assert found["type"] == "history"
        assert [e["request"]["method"] for e in found["entry"]] == ["DELETE", "PUT", "POST"]
        assert [e["request"]["url"] for e in found["entry"]] == [path, path, "Practitioner"]
        assert all(e["fullUrl"] == f"{door.base}/{path}" for e in found["entry"])
        assert "resource" not in found["entry"][0]
        for one in found["entry"]:
            assert re.match(r"20[014]", one["response"]["status"])
            assert INSTANT.fullmatch(one["response"]["lastModified"])
            assert one["response"]["etag"].startswith('W/"')
        assert found["entry"][2]["resource"] == made

    def test_paging_count_and_since(self, door: Door, made: dict[str, Any]) -> None:
        path = f"Practitioner/{made['id']}"
        for turn in range(4):
            made = good(door("PUT", path, {**made, "active": bool(turn % 2)}), 200).json
        seen, url = [], f"{path}/_history?_count=2"
        while url:
            page = good(door("GET", url), 200).json
            assert len(page["entry"]) <= 2
            seen += [e["resource"]["meta"]["versionId"] for e in page["entry"]]
            url = next(
                (n["url"].removeprefix(f"{door.base}/") for n in page["link"] if n["relation"] == "next"), ""
            )
        assert seen == ["5", "4", "3", "2", "1"]
        third = door("GET", f"{path}/_history/3").json["meta"]["lastUpdated"].replace("+", "%2B")
        since = good(door("GET", f"{path}/_history?_since={third}"), 200).json
        assert [e["resource"]["meta"]["versionId"] for e in since["entry"]] == ["5", "4", "3"]
        refused(door("GET", f"{path}/_history?_since=never"), 400)
        refused(door("GET", f"{path}/_history?_count=x"), 400)

    def test_type_and_system(self, door: Door, made: dict[str, Any]) -> None:
        for path in ("Practitioner/_history", "_history"):
            found = good(door("GET", f"{path}?_count=1"), 200).json
            assert found["type"] == "history"
            assert found["entry"][0]["resource"]["id"] == made["id"]
            assert any(n["relation"] == "self" for n in found["link"])

    def test_of_nobody(self, door: Door) -> None:
        refused(door("GET", "Practitioner/nobody-at-all/_history"), 404)


class TestStrangers:
    """Another institution's client learns nothing of a person it has no relationship with, in any interaction."""

    def test_nothing_is_told(self, door: Door) -> None:
        value = unique()
        mine = good(door("POST", "Patient", patient(value)), 201).json
        path, stranger = f"Patient/{mine['id']}", door.other
        for asked in (path, f"{path}/_history", f"{path}/_history/1", f"{path}/$everything"):
            refused(door("GET", asked, token=stranger), 403, 404)
        for asked in (f"Patient?identifier={SYSTEM}|{value}", f"Patient?_id={mine['id']}"):
            assert matches(good(door("GET", asked, token=stranger), 200).json) == []
        change = [{"op": "replace", "path": "/gender", "value": "male"}]
        refused(door("PATCH", path, change, token=stranger, Content_Type=JSON_PATCH), 403, 404)
        refused(door("PUT", path, {**mine, "gender": "male"}, token=stranger), 403, 404)
        refused(door("DELETE", path, token=stranger), 403, 404)
        batch = bundle(
            "batch", entry("GET", path), entry("DELETE", path), entry("GET", f"Patient?_id={mine['id']}")
        )
        answers = good(door("POST", "", batch, token=stranger), 200).json["entry"]
        assert [a["response"]["status"][:3] for a in answers[:2]] in (["404", "404"], ["404", "403"])
        assert answers[2]["resource"]["total"] == 0
        assert good(door("GET", path), 200).json == mine
