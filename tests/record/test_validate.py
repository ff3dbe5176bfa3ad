"""Structural validation: what is refused and where, the quick check against the walk, duplicates, limits."""

import copy
import json

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.record import definitions, validate, validate_fast, validate_text
from lianxin.record.problems import Problem
from lianxin.record.validate_walk import shape

GLUCOSE = {
    "resourceType": "Observation",
    "id": "f001",
    "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/vitalsigns"]},
    "identifier": [{"use": "official", "system": "http://example.org/obs", "value": "6323"}],
    "status": "final",
    "category": [{"coding": [{"system": "http://example.org/cat", "code": "laboratory", "display": "检验"}]}],
    "code": {
        "coding": [{"system": "http://loinc.org", "code": "15074-8", "display": "Glucose [Moles/volume]"}]
    },
    "subject": {"reference": "Patient/f001", "display": "张伟"},
    "effectiveDateTime": "2013-04-02T09:30:10+01:00",
    "issued": "2013-04-03T15:30:10+01:00",
    "valueQuantity": {
        "value": 6.3,
        "unit": "mmol/l",
        "system": "http://unitsofmeasure.org",
        "code": "mmol/L",
    },
    "referenceRange": [{"low": {"value": 3.1}, "high": {"value": 6.2}}],
}
BASE = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}


def fast(resource) -> bool:
    raw = orjson.dumps(resource)
    return validate_fast.sound(raw, orjson.loads(raw), raw)


def places(resource) -> list[str]:
    return [issue.expression for issue in validate.check(resource)[0]]


def test_a_usual_observation_takes_the_quick_way():
    assert fast(GLUCOSE)
    assert places(GLUCOSE) == []
    assert validate.accept(orjson.dumps(GLUCOSE)) == GLUCOSE
    assert validate.accept(json.dumps(GLUCOSE, indent=2).encode()) == GLUCOSE


WRONG = [
    ({"valueString": "   "}, "Observation.valueString"),
    ({"valueString": "　"}, "Observation.valueString"),
    ({"valueString": "\t"}, "Observation.valueString"),
    ({"valueString": ""}, "Observation.valueString"),
    ({"valueString": "a", "valueBoolean": True}, "Observation.valueBoolean"),
    ({"valueString": "a", "_valueBoolean": {"extension": [{"url": "u:x", "valueCode": "a"}]}}, "Observation.valueBoolean"),
    ({"code": {}}, "Observation.code"),
    ({"code": {"id": "a"}}, "Observation.code"),
    ({"code": None}, "Observation.code"),
    ({"category": []}, "Observation.category"),
    ({"category": {"text": "x"}}, "Observation.category"),
    ({"category": [None]}, "Observation.category[0]"),
    ({"status": "Final"}, "Observation.status"),
    ({"status": ["final"]}, "Observation.status"),
    ({"mood": "good"}, "Observation.mood"),
    ({"_mood": {}}, "Observation._mood"),
    ({"_code": {"id": "a"}}, "Observation._code"),
    ({"id": "a b"}, "Observation.id"),
    ({"issued": "2020-01-01"}, "Observation.issued"),
    ({"effectiveDateTime": "2021-02-29"}, "Observation.effectiveDateTime"),
    ({"effectiveDateTime": "2021-2-3"}, "Observation.effectiveDateTime"),
    ({"effectiveDateTime": "2021-01-01T10:00"}, "Observation.effectiveDateTime"),
    ({"valueInteger": 1.0}, "Observation.valueInteger"),
    ({"valueInteger": 2**31}, "Observation.valueInteger"),
    ({"valueInteger": True}, "Observation.valueInteger"),
    ({"valueTime": "25:00:00"}, "Observation.valueTime"),
    ({"valueQuantity": {"value": "1"}}, "Observation.valueQuantity.value"),
    ({"valueQuantity": {"value": 1, "comparator": "="}}, "Observation.valueQuantity.comparator"),
    ({"valueQuantity": {"value": 1, "system": "a b"}}, "Observation.valueQuantity.system"),
    ({"subject": {"reference": "Organization/1"}}, "Observation.subject.reference"),
    ({"subject": {"reference": "Organization/1/_history/3"}}, "Observation.subject.reference"),
    ({"subject": {"reference": "http://a.example/fhir/Organization/1"}}, "Observation.subject.reference"),
    ({"subject": {"reference": "https://a.example/fhir/Organization/1/_history/2"}}, "Observation.subject.reference"),
    ({"subject": {"reference": "Patient/a b"}}, "Observation.subject.reference"),
    ({"subject": {"reference": "Patient"}}, "Observation.subject.reference"),
    ({"subject": {"reference": "Nothing/1"}}, "Observation.subject.reference"),
    ({"subject": {"type": "Organization", "identifier": {"value": "1"}}}, "Observation.subject.type"),
    ({"contained": [{"resourceType": "Patient"}]}, "Observation.contained[0].id"),
    ({"contained": [{"resourceType": "Patient", "id": "a"}, {"resourceType": "Group", "id": "a"}]}, "Observation.contained[1].id"),
    ({"contained": [{"resourceType": "Patient", "id": "a", "contained": [{"resourceType": "Patient", "id": "b"}]}]}, "Observation.contained[0].contained"),
    ({"contained": [{"resourceType": "Nothing", "id": "a"}]}, "Observation.contained[0].resourceType"),
    ({"contained": [{"resourceType": "Patient", "id": "a", "birthDate": "x"}]}, "Observation.contained[0].birthDate"),
    ({"extension": [{"url": "http://a.example/x"}]}, "Observation.extension[0]"),
    ({"extension": [{"url": "http://a.example/x", "valueCode": "a", "extension": [{"url": "b", "valueCode": "c"}]}]}, "Observation.extension[0]"),
    ({"extension": [{"valueCode": "a"}]}, "Observation.extension[0].url"),
    ({"component": [{"valueInteger": 1}]}, "Observation.component[0].code"),
    ({"component": [{"code": {"text": "a"}, "valueInteger": 1, "valueString": "a"}]}, "Observation.component[0].valueString"),
    ({"_status": {"id": "a", "value": 1}}, "Observation._status.value"),
    ({"_effectiveDateTime": {"id": "a"}}, "Observation._effectiveDateTime"),
    ({"text": {"status": "generated", "div": "<div><p>x</div>"}}, "Observation.text.div"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "place"), WRONG)
def test_each_structural_problem_is_named(more, place):
    resource = {**BASE, **more}
    assert place in places(resource)
    assert not fast(resource)
    with pytest.raises(Problem) as refused:
        validate.accept(orjson.dumps(resource))
    assert refused.value.status == 422
    assert place in [issue.expression for issue in refused.value.issues]


SOUND = [
    {"subject": {"reference": "Patient/1/_history/2"}},
    {"subject": {"reference": "http://a.example/fhir/Patient/1"}},
    {"subject": {"reference": "http://a.example/people?x=Organization/1"}},
    {"subject": {"reference": "urn:uuid:0c3201bd-1cbf-4d64-b04d-cd9187a4c6e0"}},
    {"subject": {"reference": "Patient?identifier=a|b"}},
    {"subject": {"reference": "#a"}, "contained": [{"resourceType": "Patient", "id": "a"}]},
    {"subject": {"type": "Patient", "identifier": {"value": "1"}}},
    {"valueString": "  leading"},
    {"valueString": "“quoted”"},
    {"valueString": 'a "b": c'},
    {"valueString": "a\\"},
    {"effectiveDateTime": "2020-02-29T23:59:60Z"},
    {"effectiveDateTime": "2020"},
    {"valueQuantity": {"value": 1.5e30}},
    {"_status": {"id": "a"}},
    {"_effectiveDateTime": {"extension": [{"url": "http://a.example/unknown", "valueCode": "unknown"}]}},
    {"code": {"id": "a", "text": "b"}},
    {"extension": [{"url": "http://a.example/x", "extension": [{"url": "b", "valueDecimal": 1.5}]}]},
    {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">张伟</div>'}},
]


@pytest.mark.parametrize("more", SOUND)
def test_odd_but_sound(more):
    resource = {**BASE, **more}
    assert places(resource) == []
    assert (
        validate.accept(json.dumps(resource, separators=(",", ":"), ensure_ascii=False).encode()) == resource
    )
    assert validate.accept(json.dumps(resource, indent=1).encode()) == resource


@pytest.mark.parametrize(
    "text",
    [
        '{"resourceType":"Observation","status":"final","status":"final","code":{"text":"x"}}',
        '{"resourceType":"Observation","status":"final","code":{"text":"x","text":"x"}}',
        '{"resourceType":"Observation","status" : "final","status": "final","code":{"text":"x"}}',
        '{"resourceType":"Observation","status":"final","status":"final","code":{"text":"\\u0022:"}}',
        '{"resourceType":"Observation","status":"final","status":"final","code":{"text":"\\"\\u003a"}}',
        '{"resourceType":"Observation","status":"final","st\\u0061tus":"final","code":{"text":"x"}}',
        '{"resourceType":"Observation","status":"final","code":{"text":"a\\\\","text":"b"}}',
    ],
)
def test_duplicate_members_are_refused(text):
    json.loads(text)
    with pytest.raises(Problem) as refused:
        validate.accept(text.encode())
    assert refused.value.status == 400
    assert "duplicate" in refused.value.issues[0].text.en


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"resourceType":"Observation"} x',
        b'{"a":"\\u0000"}',
        b'{"a":"\\ud800"}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_strict_json_is_refused(raw):
    with pytest.raises(Problem) as refused:
        validate.accept(raw)
    assert refused.value.status == 400


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null", b"{}"])
def test_json_that_is_no_resource_is_refused(raw):
    with pytest.raises(Problem) as refused:
        validate.accept(raw)
    assert refused.value.status == 422
    assert refused.value.issues[0].expression == "resourceType"


def test_depth_length_and_number_of_issues_are_bounded():
    nested = {"url": "a", "valueCode": "b"}
    for _ in range(40):
        nested = {"url": "a", "extension": [nested]}
    deep = {**BASE, "extension": [nested]}
    assert not fast(deep)
    assert any("32" in i.text.en for i in validate.check(deep)[0])
    assert fast({**BASE, "valueString": "x" * validate_text.MAX_STRING})
    long = {**BASE, "valueString": "x" * (validate_text.MAX_STRING + 1)}
    assert not fast(long)
    assert places(long) == ["Observation.valueString"]
    many = {**BASE, "note": [{"text": ""}] * 5000}
    assert len(validate.check(many)[0]) == validate.MOST
    assert places({f"k{i}": 1 for i in range(9)} | {"resourceType": "Patient"})[0] == "Patient.k0"


def test_many_siblings_are_not_deep():
    wide = {**BASE, "component": [{"code": {"text": "a"}, "valueInteger": i} for i in range(200)]}
    assert fast(wide)


@pytest.mark.parametrize(
    ("html", "sound"),
    [
        ("<div>a</div>", True),
        ('<div xmlns="http://www.w3.org/1999/xhtml"><p class="x">a<br/>b&nbsp;&lt;</p></div>', True),
        (
            '<div xmlns="http://www.w3.org/1999/xhtml"><table border="1"><tr><td>1</td></tr></table></div>',
            True,
        ),
        ('<div><a href="https://a.example/x?y:z">x</a></div>', True),
        ('<div><a href="Patient/1">x</a></div>', True),
        ('<div><img src="data:image/png;base64,AAAA" alt="x"/></div>', True),
        ('<div><img src="#pic"/></div>', True),
        ("<div></div>", False),
        ("<div> \n </div>", False),
        ("<div>&nbsp;</div>", False),
        ("<p>a</p>", False),
        ("a", False),
        ("<div>a</div><div>b</div>", False),
        ("<div>a", False),
        ('<div onclick="x()">a</div>', False),
        ("<div><script>x</script></div>", False),
        ("<div><SCRIPT>x</SCRIPT></div>", False),
        ("<div><iframe/>a</div>", False),
        ("<div><form>a</form></div>", False),
        ('<div><a href="javascript:x">a</a></div>', False),
        ('<div><a href=" java&#10;script:x">a</a></div>', False),
        ('<div><a href="&#106;avascript:x">a</a></div>', False),
        ('<div><a href="data:text/html,x">a</a></div>', False),
        ('<div style="background:url(http://a.example)">a</div>', False),
        ('<div style="width:expression(x)">a</div>', False),
        ('<div xmlns="http://www.w3.org/2000/svg">a</div>', False),
        ("<div>&unknown;a</div>", False),
        ('<!DOCTYPE div [<!ENTITY a "b">]><div>&a;</div>', False),
        ("<div><?php x ?>a</div>", False),
        ("<div>" + "<b>" * 5000 + "a" + "</b>" * 5000 + "</div>", False),
        ("<div>" + "a" * 1_000_000 + "<b>", False),
        ("<div>" + " " * 1_000_000 + "</div>", False),
    ],
)
def test_narrative(html, sound):
    assert validate_text.safe_xhtml(html) is sound


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("base64Binary", ["AAAA", "AA==", "AAAA\nBBBB", "aGVsbG8="], ["", "A", "AAA", "A===", "AA=A", "é", "@@@@", " "]),
        ("code", ["a", "a b", "张"], ["", " a", "a ", "a  b", "a\n\nb"]),
        ("uri", ["urn:x", "a", "张"], ["", "a b", " a", "a\n"]),
        ("id", ["a", "A-.9", "x" * 64], ["", "_", "x" * 65, "张"]),
        ("oid", ["urn:oid:1.2.3"], ["1.2.3", "urn:oid:3.1", "urn:oid:1.02"]),
        ("uuid", ["urn:uuid:0c3201bd-1cbf-4d64-b04d-cd9187a4c6e0"], ["urn:uuid:0", "0c3201bd-1cbf-4d64-b04d-cd9187a4c6e0"]),
        ("date", ["2020", "2020-02", "2020-02-29"], ["0000", "2019-02-29", "2020-13", "20200101", "2020-04-31"]),
        ("instant", ["2020-02-29T00:00:00.123+08:00"], ["2020-02-30T00:00:00Z", "2020-02-29T00:00:00", "2020-02-29"]),
        ("time", ["10:00:00", "23:59:59.999"], ["10:00", "24:00:00"]),
        ("positiveInt", [1], [0, -1, 1.0, True, "1"]),
        ("unsignedInt", [0], [-1, 2**31]),
        ("boolean", [True, False], [0, 1, "true", None]),
        ("decimal", [0, 1.5, -1, 10**30], ["1", True, None]),
        ("string", ["a", " a"], ["", " ", "\u00a0", 1, None]),
    ],
)  # fmt: skip
def test_primitive_formats(kind, good, bad):
    check = validate_text.checker(kind)
    assert [v for v in good if not check(v)] == []
    assert [v for v in bad if check(v)] == []


# -- the quick check may only accept what the walk accepts --------------------------------------------------------------

STRINGS = st.one_of(
    st.sampled_from(["final", "a", " ", "", "x y", "2020-02-29", "2021-02-29T00:00:00Z", "Patient/1", "Organization/1", "#a", "AAAA", "A", "http://a.example/Patient/1", "　", "\\", '"', "\u2003", "<div>a</div>", "male", "mg"]),
    st.text(max_size=6),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        STRINGS,
        st.integers(-3, 2**33),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(STRINGS, inner, max_size=3)),
    max_leaves=4,
)
TYPES = [
    "Observation",
    "Patient",
    "Questionnaire",
    "Claim",
    "MedicationRequest",
    "ValueSet",
    "Bundle",
    "Binary",
    "Parameters",
]


@st.composite
def objects(draw, kind: str, depth: int = 0, noise: int = 0):
    """Something near an object of a type: mostly right, now and then anything."""
    rules = shape(kind)
    made = {}
    names = list(rules.keys)
    wanted = {name for name, _ in rules.required if name in rules.keys}
    wanted |= set(draw(st.lists(st.sampled_from(names), max_size=3)))
    if rules.resource:
        made["resourceType"] = kind
    for name in sorted(wanted):
        element = rules.keys[name]
        if draw(st.integers(0, 40)) == 0:
            made[name] = draw(VALUES)
            continue
        one = member(element, depth)
        if one is None:
            continue
        made[name] = (
            draw(st.lists(one, min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=2))
            if element.many
            else draw(one)
        )
        if element.primitive and draw(st.integers(0, 12)) == 0:
            made["_" + name] = draw(st.one_of(objects("Element", depth + 1), VALUES))
    if draw(st.integers(0, 40)) == 0:
        made[draw(STRINGS)] = draw(VALUES)
    return made


GOOD = {"date": "2020-01-02", "dateTime": "2020-01-02T03:04:05+08:00", "instant": "2020-01-02T03:04:05Z", "time": "10:00:00", "uri": "urn:x", "url": "http://a.example", "canonical": "http://a.example|1", "code": "a", "id": "a", "base64Binary": "AAAA", "oid": "urn:oid:1.2", "uuid": "urn:uuid:0c3201bd-1cbf-4d64-b04d-cd9187a4c6e0", "xhtml": "<div>a</div>", "string": "Patient/1", "markdown": "a", "integer": 1, "unsignedInt": 1, "positiveInt": 1, "decimal": 1.5, "boolean": True}  # fmt: skip


def member(element, depth):
    if element.codes:
        return st.sampled_from([*sorted(element.codes)[:2], "nonsense"])
    if element.primitive:
        good = GOOD[element.type]
        return st.one_of(st.just(good), st.just(good), st.just(good), VALUES)
    if depth > 3:
        return None
    if element.type == "Resource":
        return objects("Patient", depth + 2)
    return objects(element.type, depth + 1)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(TYPES).flatmap(objects))
def test_the_quick_check_accepts_only_what_the_walk_accepts(resource):
    raw = json.dumps(resource, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        resource = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return
    if validate_fast.sound(raw, resource, orjson.dumps(resource)):
        assert validate.check(resource)[0] == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_change_to_a_sound_resource_never_fools_the_quick_check(data):
    resource = copy.deepcopy(GLUCOSE)
    node = resource
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(VALUES)
        break
    try:
        raw = orjson.dumps(resource)
    except (orjson.JSONEncodeError, TypeError):
        return
    if validate_fast.sound(raw, orjson.loads(raw), raw):
        assert validate.check(orjson.loads(raw))[0] == []


def test_every_type_has_a_quick_check():
    for rtype in sorted(definitions.types()):
        validate_fast.decoder(rtype)
        assert not fast({"resourceType": rtype, "nonsense": 1})


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Parameters", "parameter": [{"name": "a", "resource": 1}]},
        {
            "resourceType": "Parameters",
            "parameter": [{"name": "a", "resource": {"resourceType": "Patient", "bogus": 1}}],
        },
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": {"resourceType": "Patient", "gender": "x"}}],
        },
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": {"resourceType": "Nothing"}}],
        },
    ],
)
def test_resources_within_bundles_and_parameters_are_looked_at(resource):
    assert places(resource)
    assert not fast(resource)
