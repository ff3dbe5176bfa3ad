"""The terminology operations at the door: names, results and refusals as the R4 OperationDefinitions say."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from lianxin.access import connections
from lianxin.standards import loader
from tests.exchange.client import Client, Reply
from tests.record.terminology_samples import ANIMALS, animals, only, value_set
from tests.record.test_terminology import concept_map

pytestmark = pytest.mark.django_db(transaction=True)

GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
GENDER_SYSTEM = "http://hl7.org/fhir/administrative-gender"


@pytest.fixture
def call() -> Iterator[Client]:
    yield Client("terminology")
    connections.close()


@pytest.fixture
def zoo(call: Client) -> Client:
    assert call("PUT", "CodeSystem/animals", {**animals(), "id": "animals"}).status == 201
    mammals = value_set(
        only(("concept", "is-a", "mammal")), id="mammals", url="http://example.org/vs/mammals", version="3"
    )
    assert call("PUT", "ValueSet/mammals", mammals).status == 201
    return call


def get(call: Client, path: str, **asked: Any) -> Reply:
    query = "&".join(f"{k.replace('_', '-')}={quote(str(v), safe='')}" for k, v in asked.items())
    return call("GET", f"{path}?{query}")


def post(call: Client, path: str, *rows: dict[str, Any]) -> Reply:
    return call("POST", path, {"resourceType": "Parameters", "parameter": list(rows)})


def values(reply: Reply, *names: str) -> list[Any]:
    """The values of the named output parameters (parts as dicts)."""
    assert reply.status == 200, reply.raw
    assert reply.json["resourceType"] == "Parameters"
    return [_value(row) for row in reply.json["parameter"] if row["name"] in names]


def _value(row: dict[str, Any]) -> Any:
    if "part" in row:
        return {part["name"]: _value(part) for part in row["part"]}
    return next(v for k, v in row.items() if k.startswith("value"))


def codes(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.raw
    return [row["code"] for row in reply.json["expansion"].get("contains", [])]


def refused(reply: Reply, status: int, code: str = "") -> None:
    assert reply.status == status, reply.raw
    assert reply.json["resourceType"] == "OperationOutcome"
    assert not code or reply.issues[0]["code"] == code, reply.raw


# ---------------------------------------------------------------------------------------------------------------- $expand


def test_expand_by_get(call: Client) -> None:
    reply = get(call, "ValueSet/$expand", url=GENDER)
    assert codes(reply) == ["male", "female", "other", "unknown"]
    body = reply.json
    assert (body["resourceType"], body["url"], body["expansion"]["total"]) == ("ValueSet", GENDER, 4)
    assert body["expansion"]["identifier"].startswith("urn:uuid:")
    assert "timestamp" in body["expansion"]
    assert "compose" not in body
    first = body["expansion"]["contains"][0]
    assert (first["system"], first["display"]) == (GENDER_SYSTEM, "Male")


def test_expand_with_everything(zoo: Client) -> None:
    reply = get(zoo, "ValueSet/$expand", url="http://example.org/vs/mammals", filter="a", count=2, offset=1, includeDefinition="true",
                includeDesignations="true", displayLanguage="zh", activeOnly="true")  # fmt: skip
    assert reply.json["expansion"]["total"] == 3  # mammal, whale, bat
    assert codes(reply) == ["whale", "bat"]
    assert reply.json["expansion"]["offset"] == 1
    assert reply.json["compose"]
    said = {row["name"]: _value(row) for row in reply.json["expansion"]["parameter"]}
    assert (said["filter"], said["count"], said["offset"], said["displayLanguage"]) == ("a", 2, 1, "zh")
    assert said["version"] == f"{ANIMALS}|1"
    counted = get(zoo, "ValueSet/$expand", url="http://example.org/vs/mammals", count=0)
    assert (codes(counted), counted.json["expansion"]["total"]) == ([], 4)


def test_expand_an_instance_and_a_body(zoo: Client) -> None:
    assert codes(zoo("GET", "ValueSet/mammals/$expand")) == ["mammal", "dog", "whale", "bat"]
    assert codes(zoo("POST", "ValueSet/$expand", value_set(only(("code", "=", "dog"))))) == ["dog"]
    given = {"name": "valueSet", "resource": value_set(only(("code", "regex", "d.*")))}
    reply = post(
        zoo,
        "ValueSet/$expand",
        given,
        {"name": "includeDesignations", "valueBoolean": True},
        {"name": "designation", "valueString": "zh-CN"},
    )
    assert codes(reply) == ["dog", "dodo"]
    dog, dodo = reply.json["expansion"]["contains"]
    assert dog["designation"] == [{"language": "zh-CN", "value": "狗"}]
    assert dodo["inactive"] is True
    whole = post(
        zoo,
        "ValueSet/$expand",
        {"name": "valueSet", "resource": value_set(only())},
        {"name": "excludeNotForUI", "valueBoolean": True},
    )
    assert codes(whole)[0] == "mammal"
    assert (
        post(zoo, "ValueSet/$expand", {"name": "url", "valueUri": "http://example.org/vs/all-animals"}).json[
            "expansion"
        ]["contains"][0]["abstract"]
        is True
    )


def test_expand_refusals(zoo: Client) -> None:
    refused(get(zoo, "ValueSet/$expand", url="http://no.where"), 404, "not-found")
    refused(get(zoo, "ValueSet/$expand", url="http://example.org/vs/mammals|2"), 404)
    assert codes(get(zoo, "ValueSet/$expand", url="http://example.org/vs/mammals", valueSetVersion="3"))
    refused(zoo("GET", "ValueSet/$expand"), 400, "required")
    refused(zoo("GET", "ValueSet/nothing/$expand"), 404)
    refused(get(zoo, "ValueSet/$expand", url=GENDER, count="many"), 400)
    refused(get(zoo, "ValueSet/$expand", url=GENDER, count=-1), 400)
    refused(get(zoo, "ValueSet/$expand", url=GENDER, date="2010"), 422, "not-supported")
    refused(get(zoo, "ValueSet/$expand", url="http://hl7.org/fhir/ValueSet/body-site"), 422)
    refused(get(zoo, "ValueSet/$expand", url="http://hl7.org/fhir/ValueSet/all-languages"), 422, "too-costly")
    refused(
        zoo(
            "POST",
            "ValueSet/$expand",
            {"resourceType": "CodeSystem", "status": "active", "content": "complete"},
        ),
        400,
    )
    circle = value_set({"valueSet": ["http://c"]}, url="http://c")
    refused(zoo("POST", "ValueSet/$expand", circle), 422)
    refused(
        get(
            zoo,
            "ValueSet/$expand",
            url="http://example.org/vs/mammals",
            **{"check-system-version": f"{ANIMALS}|9"},
        ),
        422,
    )
    refused(
        get(zoo, "ValueSet/$expand", context="http://hl7.org/fhir/StructureDefinition/Patient#gender"), 422
    )
    assert zoo("GET", "ValueSet/$expand?url=%00").status == 400


# ---------------------------------------------------------------------------------------------------------- $validate-code


def test_validate_code_in_a_value_set(zoo: Client) -> None:
    path, url = "ValueSet/$validate-code", "http://example.org/vs/mammals"
    assert values(get(zoo, path, url=url, system=ANIMALS, code="dog"), "result", "display") == [True, "Dog"]
    wrong = get(zoo, path, url=url, system=ANIMALS, code="crow")
    [result] = values(wrong, "result")
    assert result is False
    assert "crow" in values(wrong, "message")[0]
    assert values(get(zoo, path, url=url, code="dog"), "result") == [True]
    assert values(get(zoo, path, url=url, system=ANIMALS, code="dog", display="狗"), "result") == [True]
    assert values(get(zoo, path, url=url, system=ANIMALS, code="dog", display=" dog "), "result") == [True]
    named = get(zoo, path, url=url, system=ANIMALS, code="dog", display="Cat")
    assert values(named, "result", "display") == [False, "Dog"]
    assert values(get(zoo, path, url=url, system=ANIMALS, code="dog", systemVersion="7"), "result") == [False]
    assert values(get(zoo, "ValueSet/mammals/$validate-code", system=ANIMALS, code="bat"), "result") == [True]
    coding = {"name": "coding", "valueCoding": {"system": ANIMALS, "code": "whale"}}
    assert values(post(zoo, path, {"name": "url", "valueUri": url}, coding), "result", "display") == [
        True,
        "Whale",
    ]
    concept = {"coding": [{"system": "http://x", "code": "1"}, {"system": ANIMALS, "code": "bat"}]}
    assert values(
        post(
            zoo,
            path,
            {"name": "url", "valueUri": url},
            {"name": "codeableConcept", "valueCodeableConcept": concept},
        ),
        "result",
    ) == [True]
    whole = "http://example.org/vs/all-animals"
    assert values(get(zoo, path, url=whole, system=ANIMALS, code="animal", abstract="false"), "result") == [
        False
    ]
    assert values(get(zoo, path, url=whole, system=ANIMALS, code="animal", abstract="true"), "result") == [
        True
    ]
    unknown = get(
        zoo, path, url="http://hl7.org/fhir/ValueSet/body-site", system="http://snomed.info/sct", code="1"
    )
    assert values(unknown, "result") == [False]
    assert "cannot be checked" in values(unknown, "message")[0]
    units = "http://hl7.org/fhir/ValueSet/ucum-units"
    assert values(get(zoo, path, url=units, system="http://unitsofmeasure.org", code="mg/dL"), "result") == [
        True
    ]


def test_validate_code_in_a_code_system(zoo: Client) -> None:
    path = "CodeSystem/$validate-code"
    assert values(get(zoo, path, url=ANIMALS, code="dog"), "result", "display") == [True, "Dog"]
    assert values(get(zoo, path, url=ANIMALS, code="dog", displayLanguage="zh"), "display") == ["狗"]
    assert values(get(zoo, path, url=ANIMALS, code="cat"), "result") == [False]
    assert values(get(zoo, "CodeSystem/animals/$validate-code", code="dog"), "result") == [True]
    assert values(get(zoo, path, url="http://unitsofmeasure.org", code="mm[Hg]"), "result", "display") == [
        True,
        "mm[Hg]",
    ]
    assert values(get(zoo, path, url=GENDER_SYSTEM, code="male", display="Female"), "result") == [False]
    coding = {"name": "coding", "valueCoding": {"system": ANIMALS, "code": "dog"}}
    assert values(post(zoo, path, coding), "result") == [True]
    given = {"name": "codeSystem", "resource": animals(url="http://inline")}
    assert values(post(zoo, path, given, {"name": "code", "valueCode": "dog"}), "result") == [True]
    assert values(get(zoo, path, url=ANIMALS, code="dog", version="1"), "result") == [True]
    refused(get(zoo, path, url="http://no.where", code="x"), 404, "not-found")
    refused(get(zoo, path, url=ANIMALS, code="dog", version="9"), 404)
    refused(get(zoo, path, url=ANIMALS), 400, "required")
    refused(get(zoo, path, code="dog"), 400, "required")
    refused(get(zoo, "ValueSet/$validate-code", url="http://no.where", code="x"), 404)


# ------------------------------------------------------------------------------------------------------ $lookup, $subsumes


def test_lookup(zoo: Client) -> None:
    reply = get(zoo, "CodeSystem/$lookup", system=ANIMALS, code="bat")
    assert values(reply, "name", "version", "display") == ["Animals", "1", "Bat"]
    properties = {(p["code"], p["value"]): p.get("description") for p in values(reply, "property")}
    assert properties[("parent", "mammal")] == "Mammal"
    assert properties[("parent", "flyer")] == "Flyer"
    assert properties[("inactive", False)] is None
    dog = get(zoo, "CodeSystem/$lookup", system=ANIMALS, code="dog", displayLanguage="zh")
    assert values(dog, "display") == ["狗"]
    said = {d.get("language"): d["value"] for d in values(dog, "designation")}
    assert said == {"en": "Dog", "zh-CN": "狗", "de": "Hund"}
    assert {"code": "legs", "value": 4} in values(dog, "property")
    only_legs = get(zoo, "CodeSystem/$lookup", system=ANIMALS, code="dog", property="legs")
    assert (values(only_legs, "property"), values(only_legs, "designation")) == (
        [{"code": "legs", "value": 4}],
        [],
    )
    coding = {"name": "coding", "valueCoding": {"system": ANIMALS, "code": "mammal"}}
    children = [
        p["value"]
        for p in values(post(zoo, "CodeSystem/$lookup", coding), "property")
        if p["code"] == "child"
    ]
    assert children == ["dog", "whale", "bat"]
    assert values(
        get(zoo, "CodeSystem/$lookup", system="http://unitsofmeasure.org", code="mm[Hg]"), "display"
    ) == ["mm[Hg]"]
    assert values(get(zoo, "CodeSystem/$lookup", system="urn:iso:std:iso:4217", code="CNY"), "display") == [
        "CNY"
    ]
    refused(get(zoo, "CodeSystem/$lookup", system=ANIMALS, code="cat"), 404, "not-found")
    refused(get(zoo, "CodeSystem/$lookup", system="http://no.where", code="cat"), 404)
    refused(get(zoo, "CodeSystem/$lookup", code="cat"), 400)
    refused(get(zoo, "CodeSystem/$lookup", system=ANIMALS), 400)


def test_lookup_of_our_own_tables(call: Client) -> None:
    loader.load_shipped()
    reply = get(call, "CodeSystem/$lookup", system="http://lianxin.example/cs/sex", code="1")
    assert values(reply, "name", "display") == ["性别", "男"]
    assert {d.get("language"): d["value"] for d in values(reply, "designation")} == {"zh": "男", "en": "Male"}
    county = get(call, "CodeSystem/$lookup", system="http://lianxin.example/cs/division", code="331023")
    assert values(county, "property")[0] == {"code": "parent", "value": "331000", "description": "台州市"}


def test_subsumes(zoo: Client) -> None:
    path = "CodeSystem/$subsumes"
    assert values(get(zoo, path, system=ANIMALS, codeA="mammal", codeB="dog"), "outcome") == ["subsumes"]
    assert values(get(zoo, path, system=ANIMALS, codeA="dog", codeB="animal"), "outcome") == ["subsumed-by"]
    assert values(get(zoo, "CodeSystem/animals/$subsumes", codeA="dog", codeB="dog"), "outcome") == [
        "equivalent"
    ]
    a, b = (
        {"name": f"coding{n}", "valueCoding": {"system": ANIMALS, "code": c}}
        for n, c in (("A", "dog"), ("B", "crow"))
    )
    assert values(post(zoo, path, a, b), "outcome") == ["not-subsumed"]
    refused(get(zoo, path, system=ANIMALS, codeA="dog", codeB="cat"), 422, "code-invalid")
    refused(get(zoo, path, system="http://no.where", codeA="dog", codeB="cat"), 404)
    refused(get(zoo, path, system=ANIMALS, codeA="dog"), 400)
    other = {"name": "codingB", "valueCoding": {"system": "http://x", "code": "1"}}
    refused(post(zoo, path, a, other), 422)


# -------------------------------------------------------------------------------------------------------------- $translate


def test_translate(zoo: Client) -> None:
    path = "ConceptMap/$translate"
    assert zoo("PUT", "ConceptMap/food", {**concept_map(), "id": "food"}).status == 201
    reply = get(zoo, path, url="http://example.org/cm/animals", system=ANIMALS, code="dog")
    assert values(reply, "result") == [True]
    [match] = values(reply, "match")
    assert match["equivalence"] == "wider"
    assert match["concept"] == {"system": "http://example.org/cs/food", "code": "bone", "display": "Bone"}
    assert match["source"] == "http://example.org/cm/animals"
    assert values(get(zoo, "ConceptMap/food/$translate", system=ANIMALS, code="dog"), "result") == [True]
    assert values(
        get(zoo, path, system=ANIMALS, code="dog", targetsystem="http://example.org/cs/food"), "result"
    ) == [True]
    assert values(
        get(zoo, path, system=ANIMALS, code="dog", target="http://example.org/vs/food"), "result"
    ) == [True]
    nothing = get(zoo, path, url="http://example.org/cm/animals", system=ANIMALS, code="dodo")
    assert values(nothing, "result") == [False]
    assert "dodo" in values(nothing, "message")[0]
    back = get(
        zoo,
        path,
        url="http://example.org/cm/animals",
        system="http://example.org/cs/food",
        code="bone",
        reverse="true",
    )
    assert values(back, "match")[0]["concept"]["code"] == "dog"
    dependency = {"name": "dependency", "part": [{"name": "element", "valueUri": "http://season"},
                  {"name": "concept", "valueCodeableConcept": {"coding": [{"code": "winter"}]}}]}  # fmt: skip
    coding = {"name": "coding", "valueCoding": {"system": ANIMALS, "code": "crow"}}
    given = {"name": "conceptMap", "resource": concept_map()}
    assert [m["concept"]["code"] for m in values(post(zoo, path, given, coding, dependency), "match")] == [
        "nuts"
    ]
    refused(get(zoo, path, url="http://no.where", system=ANIMALS, code="dog"), 404)
    refused(get(zoo, path, url="http://example.org/cm/animals"), 400)
    refused(get(zoo, path, system=ANIMALS, code="dog"), 400)


# ------------------------------------------------------------------------------------------------------------ the door


def test_they_stand_in_the_capability_statement_and_change_nothing(zoo: Client) -> None:
    statement = zoo("GET", "metadata").json
    offered = {
        r["type"]: {o["name"] for o in r.get("operation", [])} for r in statement["rest"][0]["resource"]
    }
    assert {"expand", "validate-code"} <= offered["ValueSet"]
    assert {"lookup", "subsumes", "validate-code"} <= offered["CodeSystem"]
    assert "translate" in offered["ConceptMap"]
    before = zoo("GET", "ValueSet/_history").json["entry"]
    zoo("POST", "ValueSet/$expand", value_set(only(), url="http://example.org/vs/mine"))
    assert zoo("GET", "ValueSet/_history").json["entry"] == before


@pytest.mark.parametrize(
    "name",
    ["url", "valueSet", "coding", "codeableConcept", "code", "system", "count", "filter", "displayLanguage"],
)
def test_arguments_of_the_wrong_kind_are_refused(zoo: Client, name: str) -> None:
    for kind, value in (
        ("valueBoolean", True),
        ("valueInteger", -3),
        ("valueString", "x"),
        ("valueCoding", {"code": "a"}),
    ):
        for path in (
            "ValueSet/$expand",
            "ValueSet/$validate-code",
            "CodeSystem/$lookup",
            "CodeSystem/$subsumes",
            "ConceptMap/$translate",
        ):
            reply = post(zoo, path, {"name": name, kind: value}, {"name": "codeA", "valueCode": "x"})
            assert reply.status in (200, 400, 404, 422), reply.raw


@pytest.mark.parametrize(
    "text",
    [
        "\\ud800",
        "\\u0000",
        "%",
        "\\\\",
        "$|,",
        "|",
        "x" * 5000,
        "../../etc/passwd",
        "' OR 1=1 --",
        "\\uffff",
        "ValueSet/",
        "ValueSet/a/b",
    ],
)
def test_odd_texts_are_answered(call: Client, text: str) -> None:
    for name in ("url", "system", "code", "filter", "valueSetVersion", "source", "version"):
        for path in (
            "ValueSet/$expand",
            "ValueSet/$validate-code",
            "CodeSystem/$lookup",
            "CodeSystem/$validate-code",
            "ConceptMap/$translate",
        ):
            others = {"url": GENDER, "system": GENDER_SYSTEM, "code": "male"}
            rows = [
                f'{{"name":"{n}","valueString":"{text if n == name else v}"}}'
                for n, v in {**others, name: text}.items()
            ]
            body = f'{{"resourceType":"Parameters","parameter":[{",".join(rows)}]}}'
            reply = call("POST", path, body.encode())
            assert reply.status in (200, 400, 404, 422), (path, name, reply.raw)
