"""Our guide, and profiles in general: slicing by every discriminator, values, types, rules, bounds."""

import copy

import pytest

from lianxin.record import invariants, profiles, validate, validate_known, validate_profiles
from lianxin.record.fhirpath_values import Node
from lianxin.record.problems import Problem
from lianxin.record.profiles import people
from lianxin.standards import identifiers

BASE = "http://lianxin.example/fhir/StructureDefinition/"
PATIENT = {
    "resourceType": "Patient",
    "identifier": [
        {"system": people.CARD, "value": "11010519491231002X"},
        {"system": people.HEALTH_CARD, "value": identifiers.number_with_check("690000000000001")},
        {"system": "http://lianxin.example/id/mrn/H1", "value": "0012"},
    ],
    "name": [
        {"extension": [{"url": people.REPRESENTATION, "valueCode": "IDE"}], "text": "张伟", "family": "张", "given": ["伟"]},
        {"extension": [{"url": people.REPRESENTATION, "valueCode": "SYL"}], "text": "Zhang Wei"},
    ],
    "gender": "female",
    "birthDate": "1949-12-31",
}  # fmt: skip
MARK = {
    "url": BASE + "recognition-mark",
    "extension": [{"url": "scope", "valueCode": "city"}, {"url": "label", "valueString": "鄂HR"}],
}
OBSERVATION = {
    "resourceType": "Observation",
    "extension": [MARK],
    "status": "final",
    "code": {"text": "x"},
    "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2026-01-01",
    "performer": [{"reference": "Organization/1"}],
}


def told(resource, *urls, more=()):
    known = {**profiles.by_url(), **{one["url"]: one for one in more}}
    assert validate.check(resource)[0] == []
    checker = validate_profiles.Checker(resource, known.get)
    node = Node.of(resource)
    for url in urls:
        assert checker.against(url if ":" in url else BASE + url, node, node.t)
    return [(i.severity, i.expression, i.text.en.split(":")[0]) for i in checker.issues]


def changed(resource, path, value):
    made = copy.deepcopy(resource)
    node = made
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return made


@pytest.mark.parametrize("resource", profiles.guide(), ids=lambda r: f"{r['resourceType']}-{r['id']}")
def test_the_guide_is_sound_itself(resource):
    assert validate.check(resource)[0] == []
    assert invariants.broken(resource) == []
    if resource["resourceType"] == "StructureDefinition":
        assert validate_profiles.compile_profile(resource).doubts == []


def test_what_the_guide_asks_of_patients_is_met():
    assert told(PATIENT, "patient") == []


@pytest.mark.parametrize(
    ("path", "value", "place", "key"),
    [
        (["identifier", 0, "value"], "110105194912310021", "Patient.identifier[0].value", "lx-id-1"),
        (["identifier", 0, "value"], "110105", "Patient.identifier[0].value", "lx-id-1"),
        (["identifier", 1, "value"], "6900000000000019", "Patient.identifier[1].value", "lx-id-2"),
        (["identifier", 0, "value"], None, "Patient.identifier[0].value", "at least 1 needed"),
        (["identifier", 2, "value"], None, "Patient.identifier[2]", "lx-mrn-1"),
        (["name", 1, "text"], "张伟", "Patient.name[1].text", "lx-name-2"),
        (["name", 1], {"given": ["x"]}, "Patient.name[1]", "lx-name-1"),
        (["gender"], None, "Patient.gender", "at least 1 needed"),
        (["identifier"], None, "Patient.identifier", "at least 1 needed"),
        (["birthDate"], "1950-01-01", "Patient", "lx-pat-1"),
        (["gender"], "male", "Patient", "lx-pat-2"),
    ],
)
def test_what_the_guide_asks_of_patients(path, value, place, key):
    assert (place, key) in [(p, k) for _, p, k in told(changed(PATIENT, path, value), "patient")]


def test_two_identity_cards_are_one_too_many():
    double = changed(PATIENT, ["identifier", 1], PATIENT["identifier"][0])
    assert ("error", "Patient.identifier", "at most 1 allowed (slice card)") in told(double, "patient")


@pytest.mark.parametrize("number", ["91110000600037341L", identifiers.uscc_make("12331023MB123456")])
def test_credit_codes_agree_with_the_standard(number):
    good = {"resourceType": "Organization", "identifier": [{"system": "http://lianxin.example/id/uscc", "value": number}], "name": "x"}  # fmt: skip
    assert told(good, "organization") == []
    for i, char in enumerate(number):
        other = number[:i] + ("1" if char != "1" else "2") + number[i + 1 :]
        assert told(changed(good, ["identifier", 0, "value"], other), "organization"), other


def test_check_digits_agree_with_the_standard():
    for seq in range(0, 999, 37):
        number = identifiers.resident_id_make("331023", identifiers.dt.date(1980, 1, 2), seq)
        one = {"resourceType": "Patient", "identifier": [{"system": people.CARD, "value": number}], "name": [{"text": "x"}], "gender": "male" if seq % 2 else "female", "birthDate": "1980-01-02"}  # fmt: skip
        assert told(one, "patient") == []
        card = {
            **one,
            "identifier": [{"system": people.HEALTH_CARD, "value": identifiers.number_with_check(str(seq))}],
        }
        assert told(card, "patient") == []


def test_recognised_results():
    assert told(OBSERVATION, "recognised-observation") == []
    assert ("error", "Observation.extension", "at least 1 needed (slice mark)") in told(
        changed(OBSERVATION, ["extension"], None), "recognised-observation"
    )
    assert ("error", "Observation.status", "lx-hr-2") in told(
        changed(OBSERVATION, ["status"], "preliminary"), "recognised-observation"
    )
    for i, value, key in (
        (0, {"url": "scope", "valueCode": "moon"}, "the code is not in the value set http"),
        (0, {"url": "scope", "valueString": "city"}, "the type must be code"),
        (1, {"url": "label", "valueString": "R"}, "lx-hr-1"),
        (1, {"url": "label", "valueString": "HR" * 20}, "at most 20 characters"),
        (1, {"url": "other", "valueString": "HR"}, "at least 1 needed (slice label)"),
    ):
        assert key in [k for _, _, k in told(changed(OBSERVATION, ["extension", 0, "extension", i], value), "recognised-observation")]  # fmt: skip


def test_the_platform_itself_keeps_its_guide():
    from lianxin.network.models import Institution
    from lianxin.record import publish

    made = publish._organization(
        Institution(code="T1", name="甲镇卫生院", kind="township", tier="township", uscc="91110000600037341L")
    )
    assert told(made, "organization") == []
    assert told(changed(made, ["type", 1, "coding", 0, "code"], "moon"), "organization")


# -- any profile ----------------------------------------------------------------------------------------------------------


def profile(rtype, *elements, **more):
    return {
        "resourceType": "StructureDefinition",
        "url": "http://a.example/p",
        "name": "P",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": rtype,
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{rtype}",
        "derivation": "constraint",
        "differential": {"element": [{"id": e["id"], "path": ".".join(s.split(":")[0] for s in e["id"].split(".")), **({"sliceName": e["id"].rsplit(":", 1)[1]} if ":" in e["id"].rsplit(".", 1)[-1] else {}), **e} for e in elements]},
        **more,
    }  # fmt: skip


def against(resource, *elements, more=(), **extra):
    one = profile(resource["resourceType"], *elements, **extra)
    return [(p, k) for _, p, k in told(resource, one["url"], more=[one, *more])]


BP = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}], "text": "BP"},
    "component": [
        {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueQuantity": {"value": 120, "code": "mm[Hg]", "system": "http://unitsofmeasure.org"}},
        {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]}, "valueQuantity": {"value": 80, "code": "mm[Hg]", "system": "http://unitsofmeasure.org"}},
    ],
}  # fmt: skip
SYSTOLIC = [
    {"id": "Observation.component", "slicing": {"discriminator": [{"type": "pattern", "path": "code"}], "rules": "open"}},
    {"id": "Observation.component:s", "min": 1, "max": "1"},
    {"id": "Observation.component:s.code", "patternCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}},
    {"id": "Observation.component:s.value[x]", "min": 1, "type": [{"code": "Quantity"}]},
    {"id": "Observation.component:s.value[x].value", "min": 1},
]  # fmt: skip


def test_slices_by_pattern_value_type_exists_and_profile():
    assert against(BP, *SYSTOLIC) == []
    assert against(changed(BP, ["component", 0], None), *SYSTOLIC) == [
        ("Observation.component", "at least 1 needed (slice s)")
    ]
    assert against(changed(BP, ["component", 0, "valueQuantity", "value"], None), *SYSTOLIC) == [
        ("Observation.component[0].valueQuantity.value", "at least 1 needed")
    ]
    text = changed(changed(BP, ["component", 0, "valueQuantity"], None), ["component", 0, "valueString"], "x")
    assert against(text, *SYSTOLIC) == [("Observation.component[0].valueString", "the type must be Quantity")]
    by_code = [
        {"id": "Observation.component", "slicing": {"discriminator": [{"type": "value", "path": "code.coding.code"}], "rules": "closed"}},
        {"id": "Observation.component:s", "max": "1"},
        {"id": "Observation.component:s.code.coding.code", "fixedCode": "8480-6"},
    ]  # fmt: skip
    assert against(BP, *by_code) == [
        ("Observation.component[1]", "matches none of the slices, and no others are allowed")
    ]
    by_type = [
        {"id": "Observation.value[x]", "slicing": {"discriminator": [{"type": "type", "path": "$this"}], "rules": "open"}},
        {"id": "Observation.value[x]:valueQuantity", "type": [{"code": "Quantity"}], "min": 1},
        {"id": "Observation.value[x]:valueQuantity.unit", "min": 1},
    ]  # fmt: skip
    assert against({**BP, "valueQuantity": {"value": 1}}, *by_type) == [
        ("Observation.valueQuantity.unit", "at least 1 needed")
    ]
    assert against({**BP, "valueString": "a"}, *by_type) == [
        ("Observation.value", "at least 1 needed (slice valueQuantity)")
    ]
    by_presence = [
        {"id": "Observation.component", "slicing": {"discriminator": [{"type": "exists", "path": "dataAbsentReason"}], "rules": "open"}},
        {"id": "Observation.component:absent", "max": "0"},
        {"id": "Observation.component:absent.dataAbsentReason", "min": 1},
    ]  # fmt: skip
    missing = changed(
        changed(BP, ["component", 0, "valueQuantity"], None),
        ["component", 0, "dataAbsentReason"],
        {"text": "x"},
    )
    assert against(BP, *by_presence) == []
    assert against(missing, *by_presence) == [("Observation.component", "at most 0 allowed (slice absent)")]
    other = profile("Patient", {"id": "Patient.active", "min": 1}, url="http://a.example/active")
    by_profile = [
        {"id": "Bundle.entry", "slicing": {"discriminator": [{"type": "profile", "path": "resource"}], "rules": "open"}},
        {"id": "Bundle.entry:active", "min": 1},
        {"id": "Bundle.entry:active.resource", "type": [{"code": "Patient", "profile": ["http://a.example/active"]}]},
    ]  # fmt: skip
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": {"resourceType": "Patient", "active": True}}],
    }
    assert against(bundle, *by_profile, more=[other]) == []
    assert against(changed(bundle, ["entry", 0, "resource"], {"resourceType": "Patient", "gender": "male"}), *by_profile, more=[other]) == [
        ("Bundle.entry", "at least 1 needed (slice active)")
    ]  # fmt: skip


def test_values_ranges_references_and_prohibited_elements():
    assert against(BP, {"id": "Observation.status", "fixedCode": "final"}) == []
    assert against(BP, {"id": "Observation.status", "fixedCode": "amended"}) == [("Observation.status", "the value must be amended")]  # fmt: skip
    assert against(BP, {"id": "Observation.component", "max": "1"}) == [
        ("Observation.component", "at most 1 allowed")
    ]
    assert against(BP, {"id": "Observation.component", "max": "0"}) == [
        ("Observation.component", "at most 0 allowed")
    ]
    assert against(BP, {"id": "Observation.code.text", "maxLength": 1}) == [
        ("Observation.code.text", "at most 1 characters")
    ]
    assert against({**BP, "issued": "2020-01-01T00:00:00Z"}, {"id": "Observation.issued", "minValueInstant": "2021-01-01T00:00:00Z"}) == [("Observation.issued", "the value must be at least 2021-01-01T00")]  # fmt: skip
    assert against(BP, {"id": "Observation.valueQuantity", "min": 1}) == [
        ("Observation.valueQuantity", "at least 1 needed")
    ]
    assert against({**BP, "valueQuantity": {"value": 1}}, {"id": "Observation.valueQuantity.code", "min": 1}) == [("Observation.valueQuantity.code", "at least 1 needed")]  # fmt: skip
    subject = [{"id": "Observation.subject", "type": [{"code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Patient"]}]}]  # fmt: skip
    assert against({**BP, "subject": {"reference": "Group/1"}}, *subject) == [
        ("Observation.subject.reference", "must refer to Patient")
    ]
    assert against({**BP, "subject": {"reference": "Patient/1"}}, *subject) == []
    ours = [
        {"id": "Observation.subject", "type": [{"code": "Reference", "targetProfile": [BASE + "patient"]}]}
    ]
    assert against({**BP, "subject": {"reference": "Group/1"}}, *ours) == [
        ("Observation.subject.reference", "must refer to Patient")
    ]


def test_profiles_on_profiles_are_both_held():
    base = profile("Observation", {"id": "Observation.subject", "min": 1}, url="http://a.example/base")
    assert against(
        BP,
        {"id": "Observation.issued", "min": 1},
        baseDefinition="http://a.example/base",
        more=[base],
    ) == [("Observation.subject", "at least 1 needed"), ("Observation.issued", "at least 1 needed")]
    loop = profile("Observation", url="http://a.example/loop", baseDefinition="http://a.example/p")
    assert against(BP, baseDefinition="http://a.example/loop", more=[loop]) == []


def test_elements_without_ids_are_understood_by_their_order():
    elements = [
        {"path": "Observation"},
        {"path": "Observation.component", "slicing": {"discriminator": [{"type": "value", "path": "code.coding.code"}], "rules": "open"}},
        {"path": "Observation.component", "sliceName": "s", "min": 1},
        {"path": "Observation.component.code.coding.code", "fixedCode": "8480-6"},
        {"path": "Observation.component.interpretation", "min": 1},
        {"path": "Observation.component", "sliceName": "d", "min": 1},
        {"path": "Observation.component.code.coding.code", "fixedCode": "0"},
    ]  # fmt: skip
    one = {**profile("Observation"), "differential": {"element": elements}}
    assert [(p, k) for _, p, k in told(BP, one["url"], more=[one])] == [
        ("Observation.component[0].interpretation", "at least 1 needed"),
        ("Observation.component", "at least 1 needed (slice d)"),
    ]


def test_a_profile_that_nobody_can_bear_is_bounded():
    deep = {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": str(i), "type": "string", "text": "a" * 50} for i in range(2000)]}  # fmt: skip
    rules = [
        {"key": f"bomb-{i}", "severity": "error", "human": "x", "expression": expression}
        for i, expression in enumerate(
            [
                "descendants().where(%resource.descendants().exists(descendants().count() > 3)).count() > 5",
                "item.all(%resource.item.all(%resource.item.exists(linkId = '1999')))",
                "item.text.all(matches('(a+)+$'))",
                "item.text.all(matches('(?<=a)b'))",
                "nonsense(",
                "(" * 500 + "1" + ")" * 500,
                "repeat($this)",
                "item.repeat(%resource.item.text & 'x')",
            ]
        )
    ]
    found = against(deep, {"id": "Questionnaire", "constraint": rules})
    assert {k for _, k in found} >= {"the rule bomb-0 cannot be decided", "the rule bomb-1 cannot be decided"}
    assert len(found) <= validate.MOST


@pytest.mark.django_db
def test_claimed_profiles_are_enforced_and_unknown_ones_are_not():
    good = {**PATIENT, "meta": {"profile": [BASE + "patient", "http://a.example/unknown"]}}
    assert validate.rules(good) == []
    bad = changed(good, ["identifier", 0, "value"], "110105194912310021")
    with pytest.raises(Problem) as refused:
        validate.rules(bad)
    assert refused.value.status == 422
    assert [i.expression for i in refused.value.issues] == ["Patient.identifier[0].value"]
    assert [i.severity for i in validate.rules(bad, strict=False)] == ["warning"]
    assert [(i.severity, i.expression) for i in validate.full(good)] == [
        ("warning", "Patient"),  # dom-6: no narrative
        ("warning", "Patient.meta.profile"),
    ]
    assert any(i.severity == "error" for i in validate.full(PATIENT, ["http://a.example/unknown"]))
    assert validate_known.find("http://a.example/unknown") is None


def test_other_bindings_are_told_as_warnings():
    resource = {"resourceType": "Patient", "maritalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "Q"}]}}  # fmt: skip
    issues = [(i.severity, i.expression, i.code) for i in validate.full(resource)]
    assert ("warning", "Patient.maritalStatus", "code-invalid") in issues
    issues = [
        i.expression for i in validate.full(changed(resource, ["maritalStatus", "coding", 0, "code"], "M"))
    ]
    assert "Patient.maritalStatus" not in issues
