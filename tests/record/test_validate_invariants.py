"""Every invariant of R4: an example that breaks it and one that keeps it, and fhirpathpy's opinion on both."""

import contextlib
import io
import json
import random
import re

import fhirpathpy
import orjson
import pytest
from fhirpathpy.models import models

from lianxin.record import definitions, fhirpath, invariants, validate
from lianxin.record.fhirpath_values import fields
from lianxin.record.invariants import Scene, kind_at, rules_at
from lianxin.record.invariants_hot import HOT

TABLE = json.loads((definitions.DATA / "invariants.json").read_text(encoding="utf-8"))
PLACES = [
    (place, row[0])
    for place, rows in TABLE.items()
    for row in rows
    if row[1] == "error" and row[0] not in invariants.STRUCTURAL
]
# Where plain Python differs from the letter of the expression on purpose (see invariants_hot), or the library is wrong.
OWN_OPINION = {
    "Period|per-1", "Range|rng-2", "MedicationDispense|mdd-1", "Task|inv-1",  # order that cannot be told
    "Reference|ref-1", "Resource|dom-3", "StructureDefinition|sdf-4", "StructureDefinition|sdf-19",
    "ElementDefinition|eld-19",  # the library has no possessive reading of the class
    "ElementDefinition|eld-2", "ElementDefinition.max|eld-3", "MessageDefinition.focus|md-1",  # toInteger() of text that is none
}  # fmt: skip
# What the structural walk makes impossible to break, or what needs more than the members it names.
BUILT = {
    "Resource|dom-3": {"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "a"}]},
    "Resource|dom-4": {"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "a", "meta": {"versionId": "1"}}]},
    "Resource|dom-5": {"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "a", "meta": {"security": [{"code": "R"}]}}]},
    "Observation|obs-7": {"resourceType": "Observation", "code": {"coding": [{"code": "a"}]}, "valueString": "x", "component": [{"code": {"coding": [{"code": "a"}]}}]},
    "CareTeam.participant|ctm-1": None,  # only resources in the same text are resolved
    "AllergyIntolerance|ait-2": {"resourceType": "AllergyIntolerance", "clinicalStatus": {"text": "a"}, "verificationStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "code": "entered-in-error"}]}},
    "Condition|con-5": {"resourceType": "Condition", "clinicalStatus": {"text": "a"}, "verificationStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "entered-in-error"}]}},
    "Consent|ppc-2": {"resourceType": "Consent", "scope": {"coding": [{"system": "something", "code": "patient-privacy"}]}},
    "Consent|ppc-3": {"resourceType": "Consent", "scope": {"coding": [{"system": "something", "code": "research"}]}},
    "Consent|ppc-4": {"resourceType": "Consent", "scope": {"coding": [{"system": "something", "code": "adr"}]}},
    "Consent|ppc-5": {"resourceType": "Consent", "scope": {"coding": [{"system": "something", "code": "treatment"}]}},
    "CodeSystem|csd-1": {"resourceType": "CodeSystem", "concept": [{"code": "a"}, {"code": "b", "concept": [{"code": "a"}]}]},
    "Bundle|bdl-7": {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:a"}, {"fullUrl": "urn:a"}]},
    "Bundle|bdl-11": {"resourceType": "Bundle", "type": "document", "entry": [{"resource": {"resourceType": "Patient"}}]},
    "Bundle|bdl-12": {"resourceType": "Bundle", "type": "message", "entry": [{"resource": {"resourceType": "Patient"}}]},
    "Bundle.entry|bdl-8": {"fullUrl": "http://a.example/Patient/1/_history/2"},
    "CapabilityStatement|cpb-7": {"resourceType": "CapabilityStatement", "document": [{"profile": "a", "mode": "producer"}, {"profile": "a", "mode": "producer"}]},
    "CapabilityStatement.rest|cpb-9": {"resource": [{"type": "Patient"}, {"type": "Patient"}]},
    "CapabilityStatement.rest.resource|cpb-12": {"searchParam": [{"name": "a"}, {"name": "a"}]},
    "Count|cnt-3": {"value": 1, "system": "urn:other", "code": "1"},
    "ElementDefinition|eld-13": {"type": [{"code": "code"}, {"code": "code"}]},
    "ElementDefinition|eld-14": {"constraint": [{"key": "a"}, {"key": "a"}]},
    "ElementDefinition|eld-2": {"min": 2, "max": "1"},
    "ElementDefinition|eld-11": None,  # exists() of a list of booleans: true whenever there is a type
    "ElementDefinition|eld-16": {"sliceName": "a b"},
    "ElementDefinition|eld-19": {"path": "a b"},
    "ElementDefinition|eld-6": {"fixedString": "a", "type": [{"code": "a"}, {"code": "b"}]},
    "ElementDefinition|eld-7": {"patternString": "a", "type": [{"code": "a"}, {"code": "b"}]},
    "ElementDefinition.max|eld-3": "-1",
    "ElementDefinition.binding|eld-12": {"valueSet": "ftp://a"},
    "ImplementationGuide.definition|ig-1": {"resource": [{"groupingId": "a"}], "grouping": [{"id": "b"}]},
    "ImplementationGuide|ig-2": {"resourceType": "ImplementationGuide", "fhirVersion": ["4.0.1"], "definition": {"resource": [{"fhirVersion": ["4.3.0"]}]}},
    "List|lst-2": {"resourceType": "List", "mode": "working", "entry": [{"deleted": True}]},
    "List|lst-3": {"resourceType": "List", "mode": "snapshot", "entry": [{"date": "2020"}]},
    "Measure|mea-1": {"resourceType": "Measure", "group": [{"stratifier": [{}]}]},
    "MeasureReport|mrp-2": {"resourceType": "MeasureReport", "group": [{"stratifier": [{"stratum": [{}]}]}]},
    "MedicationDispense|mdd-1": {"resourceType": "MedicationDispense", "whenPrepared": "2020-01-02", "whenHandedOver": "2020-01-01"},
    "MessageDefinition.focus|md-1": {"max": "0"},
    "MolecularSequence|msq-3": {"resourceType": "MolecularSequence", "coordinateSystem": 2},
    "NamingSystem|nsd-1": {"resourceType": "NamingSystem", "kind": "root", "uniqueId": [{"type": "uuid"}]},
    "NamingSystem|nsd-2": {"resourceType": "NamingSystem", "uniqueId": [{"type": "oid", "preferred": True}, {"type": "oid", "preferred": True}]},
    "Period|per-1": {"start": "2020-01-02", "end": "2020-01-01"},
    "Questionnaire|que-2": {"resourceType": "Questionnaire", "item": [{"linkId": "a"}, {"linkId": "b", "item": [{"linkId": "a"}]}]},
    "Questionnaire.item|que-12": {"enableWhen": [{}, {}, {}]},
    "Questionnaire.item|que-13": {"initial": [{}, {}]},
    "Range|rng-2": {"low": {"value": 2}, "high": {"value": 1}},
    "Reference|ref-1": {"reference": "#a"},
    "RiskAssessment.prediction|ras-2": {"probabilityDecimal": 101},
    "RiskAssessment.prediction.probability[x]|ras-1": {"low": {"value": 1}},
    "StructureDefinition|sdf-1": {"resourceType": "StructureDefinition", "derivation": "specialization", "snapshot": {"element": [{"path": "a"}, {"path": "a"}]}},
    "StructureDefinition|sdf-9": {"resourceType": "StructureDefinition", "snapshot": {"element": [{"path": "A", "label": "a"}]}},
    "StructureDefinition|sdf-11": {"resourceType": "StructureDefinition", "kind": "resource", "type": "A", "snapshot": {"element": [{"path": "B"}]}},
    "StructureDefinition|sdf-14": {"resourceType": "StructureDefinition", "snapshot": {"element": [{"path": "A"}]}},
    "StructureDefinition|sdf-15": {"resourceType": "StructureDefinition", "kind": "resource", "snapshot": {"element": [{"type": [{"code": "a"}]}]}},
    "StructureDefinition|sdf-15a": {"resourceType": "StructureDefinition", "kind": "resource", "differential": {"element": [{"path": "A", "type": [{"code": "a"}]}]}},
    "StructureDefinition|sdf-16": {"resourceType": "StructureDefinition", "snapshot": {"element": [{"id": "a"}, {"id": "a"}]}},
    "StructureDefinition|sdf-17": {"resourceType": "StructureDefinition", "differential": {"element": [{"id": "a"}, {"id": "a"}]}},
    "StructureDefinition|sdf-19": {"resourceType": "StructureDefinition", "url": "http://hl7.org/fhir/StructureDefinition/x", "snapshot": {"element": [{"type": [{"code": "urn:x"}]}]}},
    "StructureDefinition|sdf-21": {"resourceType": "StructureDefinition", "derivation": "constraint", "differential": {"element": [{"defaultValueString": "a"}]}},
    "StructureDefinition|sdf-22": {"resourceType": "StructureDefinition", "url": "http://hl7.org/fhir/StructureDefinition/x", "snapshot": {"element": [{"defaultValueString": "a"}]}},
    "StructureDefinition|sdf-23": {"resourceType": "StructureDefinition", "snapshot": {"element": [{"path": "A", "sliceName": "a"}]}},
    "StructureDefinition.snapshot|sdf-3": {"element": [{"path": "A"}]},
    "StructureDefinition.snapshot|sdf-8": {"element": [{"path": "A"}, {"path": "B.c"}]},
    "StructureDefinition.snapshot|sdf-8b": {"element": [{"path": "A"}]},
    "StructureDefinition.differential|sdf-8a": {"element": [{"path": "A"}, {"path": "B.c"}]},
    "StructureDefinition.differential|sdf-20": {"element": [{"path": "A", "slicing": {"rules": "open"}}]},
    "Task|inv-1": {"resourceType": "Task", "authoredOn": "2020-01-02", "lastModified": "2020-01-01"},
    "TerminologyCapabilities.codeSystem|tcp-1": {"version": [{}, {}]},
    "TestScript.metadata|tst-4": {"capability": [{"required": False, "capabilities": "x"}]},
}  # fmt: skip
KEPT = {
    "Linkage|lnk-1": {"resourceType": "Linkage", "item": [{"type": "source"}, {"type": "alternate"}]},
    "StructureDefinition.differential|sdf-8a": {"element": [{"path": "A"}, {"path": "A.b"}]},
}
SAMPLES = {
    "boolean": [True, False], "integer": [1, 0, 5], "positiveInt": [1, 5], "unsignedInt": [0, 3], "decimal": [1.5, -1, 200, 0],
    "date": ["2020-01-01"], "dateTime": ["2020-01-01T00:00:00Z"], "instant": ["2020-01-01T00:00:00Z"], "time": ["10:00:00"],
}  # fmt: skip


def candidates(place: str, expression: str, count: int = 80):
    """Small objects of a place's type with the members its rule names, and the literals of the rule as values."""
    kind = standing(place, expression)
    chance = random.Random(place + expression)
    literals = [unquote(t) for g, t in fhirpath.Parser(expression).tokens if g == "string"] or ["x"]
    names = {t.strip("`") for g, t in fhirpath.Parser(expression).tokens if g == "name"}
    if not definitions.is_complex(kind):
        yield from [*literals, "-1", "*", "3", "x y"]
        return
    base = {"resourceType": kind} if kind in definitions.types() else {}
    yield dict(base)
    for _ in range(count):
        yield {**base, **some(kind, names, literals, chance, 0)}


def standing(place: str, expression: str) -> str:
    """The type a rule is asked of."""
    if place == "Resource":
        return "Patient"
    if place.endswith("[x]"):
        return "Quantity" if "comparator" in expression else "Range"
    return kind_at(place)


def unquote(text: str) -> str:
    return fhirpath.unescape(text)


def some(kind, names, literals, chance, depth):
    made = {}
    for name in sorted(names & set(fields(kind))):
        if chance.random() < 0.45:
            continue
        key, type_name = chance.choice(fields(kind)[name])
        row = definitions.elements(kind).get(name) or definitions.elements(kind)[name + "[x]"]
        one = value(type_name, names, literals, chance, depth)
        made[key] = [one] if row[1] == 0 else one
    return made


def value(type_name, names, literals, chance, depth):
    if type_name in SAMPLES:
        return chance.choice(SAMPLES[type_name])
    if type_name == "Resource":
        return {"resourceType": "Patient"}
    if not definitions.is_complex(type_name):
        return chance.choice([*literals, "x"])
    made = some(type_name, names, literals, chance, depth + 1) if depth < 4 else {}
    return made or (
        {"text": "x"} if type_name == "CodeableConcept" else {"extension": [{"url": "a", "valueCode": "b"}]}
    )


def around(example):
    """The resource an example stands in: itself, or a structure definition of a type A."""
    if isinstance(example, dict) and "resourceType" in example:
        return example
    return {"resourceType": "StructureDefinition", "type": "A", "differential": example, "snapshot": example}


def verdict(rule, example) -> bool:
    return rule.test(example, Scene(around(example)))


def opinion(expression: str, kind: str, example):
    """What fhirpathpy says (None: nothing, or it cannot)."""
    resource = around(example)
    text = re.sub(r"\.trace\('\w+'(, *\w+)?\)", "", expression)
    base = kind if definitions.is_complex(kind) and kind not in definitions.types() else ""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = fhirpathpy.evaluate(
                example, {"base": base, "expression": text} if base else text, {"resource": resource, "rootResource": resource, "context": example}, models["r4"]
            )  # fmt: skip
    except Exception:
        return None
    return found[0] if len(found) == 1 and isinstance(found[0], bool) else None


@pytest.mark.parametrize(("place", "key"), PLACES, ids=[f"{p}|{k}" for p, k in PLACES])
def test_each_invariant_can_be_broken_and_kept(place, key):
    expression = next(row[2] for row in TABLE[place] if row[0] == key)
    rule = next(
        r
        for r in rules_at(place, standing(place, expression) if place.endswith("[x]") else "")
        if r.key == key
    )
    name = f"{place}|{key}"
    examples = list(candidates(place, rule.expression))
    examples += [KEPT[name]] if name in KEPT else []
    if BUILT.get(name) is not None:
        examples.append(BUILT[name])
    verdicts = [(verdict(rule, example), example) for example in examples]
    if name not in BUILT or BUILT[name] is not None:
        assert any(not good for good, _ in verdicts), "nothing breaks it"
    assert any(good for good, _ in verdicts), "nothing keeps it"
    for good, example in verdicts:
        if not good and rule.needs is not None:
            assert not rule.needs.isdisjoint(example), "the plan would not ask"
    if name not in OWN_OPINION:
        for good, example in verdicts:
            other = opinion(rule.expression, standing(place, expression), example)
            assert other is None or other is good, example


def test_hot_rules_are_of_the_table():
    assert set(HOT) <= {f"{p}|{row[0]}" for p, rows in TABLE.items() for row in rows}


BASE = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}


def told(resource):
    raw = orjson.dumps(resource)
    pruned = invariants.broken(resource, raw)
    assert pruned == invariants.broken(resource), "what the text shows must not hide a broken rule"
    return [(i.expression, i.text.en.split(":")[0]) for i in pruned]


@pytest.mark.parametrize(
    ("resource", "place", "key"),
    [
        ({**BASE, "valueString": "a", "dataAbsentReason": {"text": "b"}}, "Observation", "obs-6"),
        ({**BASE, "referenceRange": [{"text": "a"}, {"age": {"low": {"value": 1}}}]}, "Observation.referenceRange[1]", "obs-3"),
        ({**BASE, "component": [{"code": {"text": "a"}, "referenceRange": [{"age": {"low": {"value": 1}}}]}]}, "Observation.component[0].referenceRange[0]", "obs-3"),
        ({**BASE, "effectivePeriod": {"start": "2020-01-02", "end": "2020-01-01"}}, "Observation.effectivePeriod", "per-1"),
        ({**BASE, "valueQuantity": {"value": 1, "code": "mg"}}, "Observation.valueQuantity", "qty-3"),
        ({**BASE, "subject": {"reference": "#a"}}, "Observation.subject", "ref-1"),
        ({**BASE, "extension": [{"url": "a", "extension": [{"url": "b", "valuePeriod": {"start": "2021", "end": "2020"}}]}]}, "Observation.extension[0].extension[0].valuePeriod", "per-1"),
        ({**BASE, "_status": {"extension": [{"url": "a", "valueReference": {"reference": "#b"}}]}}, "Observation._status.extension[0].valueReference", "ref-1"),
        ({**BASE, "contained": [{"resourceType": "Patient", "id": "a"}]}, "Observation", "dom-3"),
        ({**BASE, "subject": {"reference": "#a"}, "contained": [{"resourceType": "Patient", "id": "a", "meta": {"lastUpdated": "2020-01-01T00:00:00Z"}}]}, "Observation", "dom-4"),
        ({**BASE, "subject": {"reference": "#a"}, "contained": [{"resourceType": "Patient", "id": "a", "contact": [{"gender": "male"}]}]}, "Observation.contained[0].contact[0]", "pat-1"),
        ({"resourceType": "Condition", "subject": {"reference": "Patient/1"}, "clinicalStatus": {"text": "active"}}, "Condition.clinicalStatus", "the concept must be from the value set http"),
        ({"resourceType": "Bundle", "type": "collection", "total": 1, "entry": [{"resource": {"resourceType": "Patient", "contact": [{"gender": "male"}]}}]}, "Bundle.entry[0].resource.contact[0]", "pat-1"),
        ({"resourceType": "MedicationRequest", "status": "active", "intent": "order", "medicationCodeableConcept": {"text": "a"}, "subject": {"reference": "Patient/1"}, "dispenseRequest": {"quantity": {"value": 1, "comparator": "<"}}}, "MedicationRequest.dispenseRequest.quantity", "sqty-1"),
    ],
)  # fmt: skip
def test_the_plan_reaches_every_corner(resource, place, key):
    assert (place, key) in told(resource)


@pytest.mark.parametrize(
    "more",
    [
        {"effectivePeriod": {"start": "2020-01-01", "end": "2020-01-01T10:00:00Z"}},
        {"effectivePeriod": {"start": "2020-01-01T23:00:00-02:00", "end": "2020-01-02T01:30:00Z"}},
        {"valueRange": {"low": {"value": 1, "code": "g", "system": "http://unitsofmeasure.org"}, "high": {"value": 999, "unit": "furlong"}}},
        {"valueRange": {"low": {"value": 1, "code": "mg", "system": "http://unitsofmeasure.org"}, "high": {"value": 1, "code": "g", "system": "http://unitsofmeasure.org"}}},
        {"contained": [{"resourceType": "Provenance", "id": "a", "target": [{"reference": "#"}]}]},
        {"subject": {"reference": "#a"}, "contained": [{"resourceType": "Patient", "id": "a", "managingOrganization": {"reference": "#b"}}, {"resourceType": "Organization", "id": "b", "name": "x"}]},
    ],
)  # fmt: skip
def test_what_is_allowed_is_not_told(more):
    assert told({**BASE, **more}) == []


def test_a_large_questionnaire_is_checked_in_one_pass():
    items = [{"linkId": str(i), "type": "string"} for i in range(5000)]
    assert told({"resourceType": "Questionnaire", "status": "draft", "item": items}) == []
    items.append({"linkId": "7", "type": "string"})
    assert told({"resourceType": "Questionnaire", "status": "draft", "item": items}) == [
        ("Questionnaire", "que-2")
    ]


def test_every_type_has_a_plan():
    for rtype in sorted(definitions.types()):
        assert validate.check({"resourceType": rtype, "nonsense": 1})[0]
        invariants.broken({"resourceType": rtype})


def test_every_rule_is_worded_in_both_languages():
    for place in TABLE:
        for rule in rules_at(place):
            assert re.search("[\u4e00-\u9fff]", rule.text.zh), rule.key
            assert rule.text.en.startswith((rule.key, "the concept"))


@pytest.mark.parametrize(
    "text",
    [
        '"effectivePeriod":{"st\\u0061rt":"2021","end":"2020"}',
        '"subject":{"reference":"\\u0023a"}',
        '"\\u0065xtension":[{"url":"a","valueReference":{"reference":"#b"}}]',
    ],
)
def test_escapes_hide_nothing(text):
    raw = ('{"resourceType":"Observation","status":"final","code":{"text":"x"},' + text + "}").encode()
    assert invariants.broken(orjson.loads(raw), raw)
