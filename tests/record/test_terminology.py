"""Expansion, membership, hierarchy and translation; what ships, what is ours, what is written; nothing costs without bound."""

import contextlib
import json
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.access.scope import Scope
from lianxin.record import store, terminology
from lianxin.record.problems import Problem
from lianxin.record.store import Write
from lianxin.record.terminology import compose, patterns, shipped, sources
from lianxin.record.terminology.sources import Finder
from lianxin.standards import loader
from tests.record.terminology_samples import ANIMALS, animals, only, value_set

GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
SYSTEM = "http://hl7.org/fhir/administrative-gender"


def save(*resources: dict[str, Any], method: str = "create") -> list[store.Result]:
    with connection.cursor() as cur:
        writes = [Write(method, r["resourceType"], r.get("id"), dict(r)) for r in resources]
        return store.apply(cur, Scope.system("test"), writes)


def codes(given: str | dict[str, Any], **asked: Any) -> list[str]:
    return [code for _, code, _ in terminology.expand(given, **asked)]


@pytest.fixture
def zoo(db: None) -> None:
    save(animals())


# ------------------------------------------------------------------------------------------------------------- what ships


def test_shipped_sets_answer_without_a_database() -> None:
    assert terminology.member(GENDER, SYSTEM, "male") is True
    assert terminology.member(GENDER, None, "male") is True
    assert terminology.member(GENDER, SYSTEM, "男") is False
    assert terminology.member(GENDER, "http://other", "male") is False
    assert terminology.member(GENDER + "|4.0.1", SYSTEM, "female") is True
    assert (
        terminology.member(
            "http://hl7.org/fhir/ValueSet/mimetypes", "urn:ietf:bcp:13", "text/plain; charset=utf-8"
        )
        is True
    )
    assert terminology.member("http://hl7.org/fhir/ValueSet/mimetypes", None, "nonsense") is False
    assert (
        terminology.member("http://hl7.org/fhir/ValueSet/all-languages", "urn:ietf:bcp:47", "zh-Hans-CN")
        is True
    )
    assert (
        terminology.member("http://hl7.org/fhir/ValueSet/all-languages", "urn:ietf:bcp:47", "zh_CN") is False
    )
    assert terminology.member("http://hl7.org/fhir/ValueSet/currencies", None, "CNY") is True
    assert terminology.member("http://hl7.org/fhir/ValueSet/currencies", None, "RMB") is False
    assert terminology.member("http://hl7.org/fhir/ValueSet/ucum-units", None, "mg/dL") is True
    assert terminology.member("http://hl7.org/fhir/ValueSet/ucum-units", None, "毫克") is False


def test_every_shipped_value_set_compiles(db: None) -> None:
    empty, lacking = [], []
    for url in shipped.urls("ValueSet"):
        try:
            made = terminology.compiled(url)
        except Problem as problem:
            lacking.append((url, problem.issues[0].code))
            continue
        if not (made.items or made.open):
            empty.append(url.rsplit("/", 1)[-1])
    # so they are defined: an intersection with nothing in it, a property nobody has, two code systems without codes
    assert sorted(empty) == [
        "action-participant-role",
        "example-filter",
        "message-events",
        "v3-policyHolderRole",
    ]
    assert all(
        code == "not-found" for _, code in lacking
    )  # they import a value set that is not in the official package
    assert len(lacking) < 5


def test_shipped_codes_have_chinese_names(db: None) -> None:
    assert [name for _, _, name in terminology.expand(GENDER, language="zh-CN")] == [
        "男",
        "女",
        "其他",
        "未知",
    ]
    assert [name for _, _, name in terminology.expand(GENDER, language="en")] == [
        "Male",
        "Female",
        "Other",
        "Unknown",
    ]
    assert codes("http://hl7.org/fhir/ValueSet/condition-clinical", filter="痊愈") == ["resolved"]
    assert codes("http://hl7.org/fhir/ValueSet/condition-clinical", filter="yiquanyu") == ["resolved"]
    for url, names in shipped.chinese().items():
        held = terminology.system_of(url)
        assert held is not None
        assert set(names) <= set(held.concepts), url


def test_shipped_hierarchies(db: None) -> None:
    act = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    below = terminology.descendants(act, "_ActEncounterCode") | terminology.descendants(
        act, "_ActInpatientEncounterCode"
    )
    assert {"AMB", "IMP", "_ActEncounterCode"} <= terminology.descendants(act, "_ActEncounterCode") <= below
    assert terminology.ancestors(act, "ACUTE") >= {"ACUTE", "IMP", "_ActEncounterCode"}
    assert terminology.descendants("http://no.where", "x") == {"x"}
    assert terminology.descendants(act, "no such code") == {"no such code"}
    assert terminology.subsumes(act, "IMP", "ACUTE") == "subsumes"
    assert terminology.subsumes(act, "ACUTE", "IMP") == "subsumed-by"
    assert terminology.subsumes(act, "AMB", "IMP") == "not-subsumed"
    assert terminology.subsumes(act, "AMB", "AMB") == "equivalent"
    assert terminology.subsumes(act, "AMB", "nothing") is None


def test_a_client_cannot_redefine_what_ships(db: None) -> None:
    save(value_set({"system": SYSTEM, "concept": [{"code": "mine"}]}, url=GENDER, version="9"))
    assert terminology.member(GENDER, SYSTEM, "mine") is False
    assert codes(GENDER) == ["male", "female", "other", "unknown"]
    assert codes(GENDER + "|9") == ["mine"]


def test_a_shipped_system_without_its_codes_may_be_given_them(db: None) -> None:
    sct = "http://snomed.info/sct"
    set_url = "http://hl7.org/fhir/ValueSet/body-site"
    assert terminology.member(set_url, sct, "442083009") is None
    with pytest.raises(Problem, match="cannot be enumerated"):
        terminology.expand(set_url)
    concept = [{"code": "442083009", "display": "Body", "concept": [{"code": "1", "display": "Arm"}]}]
    save(
        {
            "resourceType": "CodeSystem",
            "url": sct,
            "status": "active",
            "content": "complete",
            "concept": concept,
        }
    )
    assert codes(set_url) == ["442083009", "1"]
    assert terminology.descendants(sct, "442083009") >= {"442083009"}


# --------------------------------------------------------------------------------------------------------------- ours


def test_our_own_tables_are_code_systems(db: None) -> None:
    loader.load_shipped()
    assert terminology.expand("http://lianxin.example/vs/sex")[1] == (
        "http://lianxin.example/cs/sex",
        "1",
        "男",
    )
    assert terminology.expand("http://lianxin.example/vs/sex", language="en")[1][2] == "Male"
    county = "http://lianxin.example/cs/division"
    assert terminology.subsumes(county, "330000", "331023") == "subsumes"
    assert codes("http://lianxin.example/vs/division", filter="tiantai") == ["331023"]
    assert codes("http://lianxin.example/vs/division", filter="天台") == ["331023"]
    assert terminology.member("http://lianxin.example/vs/id-type", None, "01") is True
    icd = "http://hl7.org/fhir/sid/icd-10"
    assert (found := terminology.lookup(icd, "A01.0")) is not None
    assert found.display == "伤寒"
    whole = value_set({"system": icd})
    assert terminology.compiled(whole).member(icd, "A01.0") is True
    assert terminology.compiled(whole).member(icd, "Z99.9") is None  # the shipped list is not all of ICD-10


# ------------------------------------------------------------------------------------------------------------ compose


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("concept", "is-a", "mammal")], "mammal dog whale bat"),
        ([("concept", "descendent-of", "mammal")], "dog whale bat"),
        ([("concept", "is-not-a", "mammal")], "animal flyer crow dodo"),
        ([("concept", "generalizes", "bat")], "animal mammal bat flyer"),
        ([("concept", "is-a", "nothing")], ""),
        ([("concept", "is-not-a", "nothing")], "animal mammal dog whale bat flyer crow dodo"),
        ([("concept", "is-a", "mammal"), ("concept", "is-a", "flyer")], "bat"),
        ([("code", "regex", "[dw].*")], "dog whale dodo"),
        ([("display", "regex", ".{3}")], "dog bat"),
        ([("legs", "=", "4")], "dog"),
        ([("legs", "in", "0, 4")], "dog whale"),
        ([("legs", "not-in", "0,4"), ("concept", "is-a", "mammal")], "mammal bat"),
        ([("legs", "exists", "true")], "dog whale"),
        ([("legs", "exists", "false"), ("concept", "descendent-of", "mammal")], "bat"),
        ([("parent", "=", "flyer")], "bat crow"),
        ([("notSelectable", "=", "true")], "animal"),
        ([("inactive", "=", "true")], "dodo"),
    ],
)
def test_filters(zoo: None, filters: list[tuple[str, str, str]], expected: str) -> None:
    assert codes(value_set(only(*filters))) == expected.split()


def test_includes_excludes_and_imports(zoo: None) -> None:
    save(
        value_set(only(("concept", "is-a", "mammal")), url="http://example.org/vs/mammals"),
        value_set(only(("concept", "is-a", "flyer")), url="http://example.org/vs/flyers"),
    )
    mammals, flyers = "http://example.org/vs/mammals", "http://example.org/vs/flyers"
    assert codes(value_set({"valueSet": [mammals]}, {"valueSet": [flyers]})) == [
        "mammal",
        "dog",
        "whale",
        "bat",
        "flyer",
        "crow",
    ]
    assert codes(value_set({"valueSet": [mammals, flyers]})) == ["bat"]
    assert codes(value_set(only(("code", "regex", "b.*"), valueSet=[mammals]))) == ["bat"]
    assert codes(value_set(only(), exclude=[{"valueSet": [mammals]}])) == ["animal", "flyer", "crow", "dodo"]
    assert (
        codes(
            value_set(
                {"valueSet": ["http://example.org/vs/all-animals"]},
                exclude=[only(("concept", "is-a", "animal"))],
            )
        )
        == []
    )
    assert codes(
        value_set({"system": ANIMALS, "concept": [{"code": "dog", "display": "Hound"}, {"code": "unicorn"}]})
    ) == ["dog", "unicorn"]
    inactive = value_set(only())
    inactive["compose"]["inactive"] = False
    assert "dodo" not in codes(inactive)
    assert "dodo" not in codes(value_set(only()), active_only=True)
    assert "dodo" in codes(value_set(only()))


def test_paging_filter_and_names(zoo: None) -> None:
    whole = value_set(only())
    assert codes(whole, count=2) == ["animal", "mammal"]
    assert codes(whole, count=2, offset=7) == ["dodo"]
    assert codes(whole, count=0) == []
    assert codes(whole, filter="哺乳") == ["mammal"]
    assert codes(whole, filter="burudongwu") == ["mammal"]
    assert codes(whole, filter="OG d") == ["dog"]
    assert terminology.expand(whole, filter="dog", language="zh")[0][2] == "狗"
    assert terminology.expand(whole, filter="dog", language="fr,de;q=0.5")[0][2] == "Hund"
    named = value_set({"system": ANIMALS, "concept": [{"code": "dog", "display": "Hound"}]})
    assert terminology.expand(named) == [(ANIMALS, "dog", "Hound")]
    assert terminology.expand(named, language="zh")[0][2] == "狗"
    assert codes(named, filter="hound") == ["dog"]


def test_a_set_that_comes_only_with_its_expansion(zoo: None) -> None:
    contains = [{"system": "http://x", "code": "1", "display": "One", "contains": [{"system": "http://x", "code": "2"}]},
                {"system": "http://x", "abstract": True, "display": "Group"}]  # fmt: skip
    given = {
        "resourceType": "ValueSet",
        "status": "active",
        "expansion": {"timestamp": "2026-01-01", "contains": contains},
    }
    assert codes(given) == ["1", "2"]
    given["compose"] = {
        "include": [{"system": "http://x", "filter": [{"property": "a", "op": "=", "value": "b"}]}]
    }
    assert codes(given) == ["1", "2"]


def test_what_nobody_here_can_say(zoo: None) -> None:
    loinc = "http://loinc.org"
    made = terminology.compiled(value_set({"system": loinc}, {"system": ANIMALS}))
    assert made.member(loinc, "8480-6") is None
    assert made.member(ANIMALS, "dog") is True
    assert made.member(ANIMALS, "cat") is False
    assert made.member(None, "cat") is None
    less = terminology.compiled(
        value_set({"system": loinc}, exclude=[{"system": loinc, "concept": [{"code": "1-8"}]}])
    )
    assert less.member(loinc, "1-8") is False
    assert less.member(loinc, "2-6") is None
    both = terminology.compiled(value_set({"system": loinc, "concept": [{"code": "1-8"}]},
                                          exclude=[{"system": loinc, "filter": [{"property": "CLASS", "op": "=", "value": "X"}]}]))  # fmt: skip
    assert both.member(loinc, "1-8") is None
    assert both.member(loinc, "2-6") is False
    assert terminology.member("http://no.where", loinc, "1-8") is None


def test_systems_that_do_not_mind_case(db: None) -> None:
    save(animals(caseSensitive=False))
    assert terminology.compiled(value_set(only(("concept", "is-a", "MAMMAL")))).member(ANIMALS, "Dog") is True
    assert (found := terminology.lookup(ANIMALS, "DOG")) is not None
    assert found.code == "dog"
    assert terminology.descendants(ANIMALS, "Mammal") == {"mammal", "dog", "whale", "bat"}


# ------------------------------------------------------------------------------------------------------ change and version


def test_a_change_shows_at_once(zoo: None) -> None:
    url = "http://example.org/vs/pets"
    with pytest.raises(Problem) as refused:
        terminology.expand(url)
    assert refused.value.status == 404
    [made] = save(value_set(only(("code", "=", "dog")), url=url))
    assert codes(url) == codes(f"ValueSet/{made.id}") == ["dog"]
    save(value_set(only(("code", "=", "bat")), url=url, id=made.id), method="update")
    assert codes(url) == codes(f"ValueSet/{made.id}") == ["bat"]
    save({"resourceType": "ValueSet", "id": made.id}, method="delete")
    with pytest.raises(Problem):
        terminology.expand(url)


def test_versions_are_kept_apart(db: None) -> None:
    save(
        animals(version="1.9", concept=[{"code": "old"}]),
        animals(version="1.10", concept=[{"code": "new"}]),
        animals(version="2.0", status="draft", concept=[{"code": "draft"}]),
    )
    assert codes(value_set({"system": ANIMALS})) == ["new"]
    assert codes(value_set({"system": ANIMALS, "version": "1.9"})) == ["old"]
    assert codes(value_set({"system": ANIMALS, "version": "2.0"})) == ["draft"]
    made = terminology.compiled(value_set({"system": ANIMALS, "version": "1.9"}), versions={ANIMALS: "2.0"})
    assert [i.code for i in made.items.values()] == ["draft"]
    assert terminology.lookup(ANIMALS, "old") is None
    assert terminology.lookup(ANIMALS, "old", "1.9") is not None


# ------------------------------------------------------------------------------------------------------------ bad input


def test_circles_are_refused(db: None) -> None:
    a, b = "http://example.org/vs/a", "http://example.org/vs/b"
    save(value_set({"valueSet": [b]}, url=a), value_set({"valueSet": [a]}, url=b))
    with pytest.raises(Problem, match="circle") as refused:
        terminology.expand(a)
    assert refused.value.status == 422
    assert terminology.member(a, None, "x") is None


def test_circular_hierarchies_end(db: None) -> None:
    row = [{"code": "a", "property": [{"code": "parent", "valueCode": "b"}]},
           {"code": "b", "property": [{"code": "parent", "valueCode": "a"}]}]  # fmt: skip
    save(animals(concept=row))
    assert terminology.descendants(ANIMALS, "a") == {"a", "b"} == terminology.ancestors(ANIMALS, "a")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*.*)*x"])
def test_catastrophic_patterns_are_harmless(pattern: str) -> None:
    assert patterns.full(pattern)("a" * 50_000 + "!") is False  # by backtracking it would take centuries


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", r"(a)\1", "[", "a" * 201, "a{1001}", "(a{500}){0,501}", "a{0,900}b{0,900}"]
)
def test_patterns_that_are_refused(zoo: None, pattern: str) -> None:
    with pytest.raises(Problem) as refused:
        codes(value_set(only(("code", "regex", pattern))))
    assert refused.value.status == 422


@pytest.mark.parametrize(
    "include",
    [
        only(("concept", "child-of", "x")),
        only(("legs", "exists", "maybe")),
        {},
        {"valueSet": ["http://no.where"]},
    ],
)
def test_what_is_not_supported_is_said(zoo: None, include: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refused:
        codes(value_set(include))
    assert refused.value.status == 422


def test_work_is_bounded(zoo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"http://example.org/vs/{n}" for n in range(30)]
    save(
        *(value_set({"valueSet": [urls[n + 1]]}, {"valueSet": [urls[n + 1]]}, url=urls[n]) for n in range(15))
    )
    save(value_set(only(), url=urls[15]))
    assert len(codes(urls[0])) == 8  # 2^15 paths, each set compiled once
    save(
        *(value_set({"valueSet": [urls[n + 1]]}, url=urls[n]) for n in range(16, 29)),
        value_set({"valueSet": [urls[16]]}, url=urls[29]),
    )
    monkeypatch.setattr(compose, "WORK", 100)
    with pytest.raises(Problem, match="too large"):
        codes(value_set(*[only(("code", "regex", "a"))] * 20))
    monkeypatch.undo()
    with pytest.raises(Problem, match="filter text"):
        codes(value_set(only()), filter="x" * 300)


def test_too_many_codes_ask_for_pages(db: None) -> None:
    many = [{"code": f"c{n}"} for n in range(terminology.ENOUGH + 1)]
    save(animals(concept=many))
    with pytest.raises(Problem, match="page with count"):
        codes(value_set({"system": ANIMALS}))
    assert codes(value_set({"system": ANIMALS}), count=3, offset=terminology.ENOUGH) == [
        f"c{terminology.ENOUGH}"
    ]


def test_odd_resources_do_no_harm() -> None:
    finder = Finder(lambda: pytest.fail("no database is needed"))
    for compose_ in ({}, {"include": "x"}, {"include": [None, 5]}, None, []):
        made = compose.Compiler(finder).compile({"resourceType": "ValueSet", "compose": compose_})
        assert not made.items
    odd = {
        "url": None,
        "concept": [None, {"code": None, "designation": [5], "property": [5, {}], "concept": "x"}],
    }
    assert terminology.concepts.from_resource(json.loads(json.dumps(odd))).url == ""


# ------------------------------------------------------------------------------------------------------------ translate


def concept_map(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "ConceptMap", "status": "active", "url": "http://example.org/cm/animals",
        "sourceUri": "http://example.org/vs/all-animals", "targetUri": "http://example.org/vs/food",
        "group": [{"source": ANIMALS, "target": "http://example.org/cs/food", "element": [
            {"code": "dog", "target": [{"code": "bone", "display": "Bone", "equivalence": "wider"}]},
            {"code": "crow", "target": [
                {"code": "corn", "equivalence": "equivalent", "dependsOn": [{"property": "http://season", "value": "summer"}]},
                {"code": "nuts", "equivalence": "inexact", "comment": "only in winter", "dependsOn": [{"property": "http://season", "value": "winter"}]}]},
            {"code": "dodo", "target": [{"equivalence": "unmatched"}]},
        ]}], **more,
    }  # fmt: skip


def test_translation(zoo: None) -> None:
    save(concept_map())
    [match] = terminology.translate(ANIMALS, "dog", map_url="http://example.org/cm/animals")
    assert (match.code, match.equivalence, match.good, match.map) == (
        "bone",
        "wider",
        True,
        "http://example.org/cm/animals",
    )
    assert [
        m.code for m in terminology.translate(ANIMALS, "dog", target_system="http://example.org/cs/food")
    ] == ["bone"]
    assert terminology.translate(ANIMALS, "dog", target_system="http://other") == []
    assert terminology.translate(ANIMALS, "dog", target="http://other") == []
    assert [
        m.code for m in terminology.translate(ANIMALS, "dog", source="http://example.org/vs/all-animals")
    ] == ["bone"]
    [back] = terminology.translate(
        "http://example.org/cs/food", "bone", map_url="http://example.org/cm/animals", reverse=True
    )
    assert (back.system, back.code, back.equivalence) == (ANIMALS, "dog", "narrower")
    assert not terminology.translate(ANIMALS, "dodo", map_url="http://example.org/cm/animals")[0].good
    summer = (("http://season", "summer"),)
    assert [
        m.code for m in terminology.translate(ANIMALS, "crow", given=concept_map(), dependencies=summer)
    ] == ["corn"]
    assert [m.code for m in terminology.translate(ANIMALS, "crow", given=concept_map())] == ["corn", "nuts"]
    with pytest.raises(Problem) as refused:
        terminology.translate(ANIMALS, "dog", map_url="http://no.where")
    assert refused.value.status == 404


def test_unmapped_codes(zoo: None) -> None:
    def of(rule: dict[str, Any]) -> list[tuple[str, str]]:
        given = concept_map()
        given["group"][0]["unmapped"] = rule
        return [(m.code, m.equivalence) for m in terminology.translate(ANIMALS, "bat", given=given)]

    assert of({"mode": "provided"}) == [("bat", "equal")]
    assert of({"mode": "fixed", "code": "fruit"}) == [("fruit", "inexact")]
    element = [{"code": "bat", "target": [{"code": "moth", "equivalence": "equivalent"}]}]
    save(
        concept_map(
            url="http://example.org/cm/more",
            group=[{"source": ANIMALS, "target": "http://t", "element": element}],
        )
    )
    assert of({"mode": "other-map", "url": "http://example.org/cm/more"}) == [("moth", "equivalent")]
    assert of({"mode": "other-map", "url": "http://no.where"}) == []


def test_snapshots_are_trusted_only_as_long_as_said(zoo: None) -> None:
    first = sources.snapshot()
    assert sources.snapshot(3600) is first
    save(value_set(only(), url="http://example.org/vs/later"))
    assert sources.snapshot(3600) is first
    assert sources.snapshot() is not first


def test_a_changed_value_set_does_not_read_code_systems_again(zoo: None) -> None:
    assert codes(value_set(only(("code", "=", "dog")))) == ["dog"]
    before = terminology.system_of(ANIMALS)
    save(value_set(only(), url="http://example.org/vs/other"))
    assert terminology.system_of(ANIMALS) is before
    save(animals(url="http://example.org/cs/plants"))
    assert terminology.system_of(ANIMALS) is not before


SCRAP = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.sampled_from([ANIMALS, "dog", "is-a", "concept", "*"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["system", "concept", "code", "filter", "property", "op", "value", "valueSet", "include", "exclude", "contains", "designation", "display", "version", "use", "group", "element", "target", "source", "equivalence", "unmapped", "mode", "url", "dependsOn", "product", "inactive", "language"]),
        inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["compose", "expansion", "concept", "url", "version", "content", "group", "caseSensitive"]
        ),
        SCRAP,
    )
)
def test_whatever_was_stored_is_answered(scrap: dict[str, Any]) -> None:
    """A client in ``warn`` mode may have written anything."""
    system = terminology.concepts.from_resource(scrap)
    for concept in system.concepts.values():
        concept.haystack()
        system.descendants(concept.code)
    finder = Finder(lambda: _Nothing({}))
    finder.extra[("CodeSystem", ANIMALS)] = animals()
    with contextlib.suppress(Problem):
        made = compose.Compiler(finder).compile(scrap)
        made.member(None, "dog")
        [item.display("zh") + item.haystack() for item in made.items.values()]
    terminology.mapping.translate([scrap], terminology.mapping.Wanted(ANIMALS, "dog"))
    terminology.mapping.translate([scrap], terminology.mapping.Wanted("", "dog", reverse=True))


class _Nothing(sources.Snapshot):
    """An empty database."""

    def resource(self, rtype: str, url: str, version: str = "") -> None:
        return None

    def system(self, url: str, version: str = "") -> None:
        return None

    def keep(self, key: Any, make: Any) -> Any:
        return {}


def test_bombs_end_soon(zoo: None) -> None:
    """Many unknown systems, many patterns, many open parts against many codes: refused after bounded work."""
    many = [{"system": f"http://example.org/unknown/{n}"} for n in range(2000)]
    with pytest.raises(Problem, match="too large"):
        terminology.compiled(value_set(*many))
    patterns_ = [only(("code", "regex", f"a{{0,{n}}}b{n}")) for n in range(400)]
    with pytest.raises(Problem, match="too large"):
        terminology.compiled(value_set(*patterns_))
    rows = [{"system": f"http://example.org/unknown/{n}", "code": "x"} for n in range(2000)]
    with pytest.raises(Problem, match="too large"):
        terminology.compiled({"resourceType": "ValueSet", "expansion": {"contains": rows}})
    save(value_set(*many[:400], url="http://example.org/vs/open"))
    codes_ = [{"code": f"c{n}"} for n in range(10_000)]
    with pytest.raises(Problem, match="too large"):
        terminology.compiled(
            value_set({"system": ANIMALS, "concept": codes_, "valueSet": ["http://example.org/vs/open"]})
        )
    element = [{"code": f"c{n}", "target": [{"code": "x", "equivalence": "equal"}]} for n in range(100_000)]
    group = [{"source": ANIMALS, "target": "http://t", "element": element}] * 11
    with pytest.raises(Problem, match="too many"):
        terminology.translate(ANIMALS, "c1", given={"resourceType": "ConceptMap", "group": group})


def test_a_deep_hierarchy_is_not_remembered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminology.concepts, "REMEMBERED", 2000)
    rows = [{"code": f"c{n}", "property": [{"code": "child", "valueCode": f"c{n + 1}"}]} for n in range(1000)]
    system = terminology.concepts.from_resource({"url": "http://deep", "concept": rows})
    for n in range(1000):
        assert len(system.descendants(f"c{n}")) == 1000 - n
        assert sum(map(len, system.below.values())) <= 2000
