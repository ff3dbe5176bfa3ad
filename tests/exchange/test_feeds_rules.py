"""The quality gate: every kind of rule, who it is set otherwise for, and what only the database knows."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.exchange.feeds import quality
from lianxin.exchange.feeds.inbox import Draft, Piece
from lianxin.exchange.feeds.quality import kinds, ranges, rules
from lianxin.exchange.feeds.quality.models import ContentMark, RuleSetting
from lianxin.index.models import Person
from lianxin.record.store import Write
from lianxin.standards import clock
from tests.factories import make_consortium, make_institution, make_resident_id

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 3, 2, 9, 0, tzinfo=clock.ZONE)
LOINC = "http://loinc.org"


@pytest.fixture(autouse=True)
def _monday():
    rules.forget()
    with clock.at(NOW):
        yield
    rules.forget()


@pytest.fixture
def place():
    return make_institution("Q-A", "township")


def piece(place=None, *, door="hl7v2", kind="ORU^R01", control_id="1", sent_at=NOW) -> Piece:
    scope = Scope(institution_id=place.pk if place else None)
    return Piece(
        door, kind, control_id, b"x", "peer:1", scope, lambda cur: Draft(), same=b"1", sent_at=sent_at
    )


def found(resources, place=None, person_id=None, draft=None, **more):
    draft = draft or Draft(
        [Write("create", r["resourceType"], r.get("id"), r) for r in resources], person_id=person_id
    )
    with connection.cursor() as cur:
        return quality.check(piece(place, **more), draft, cur)


def codes(resources, **more):
    return sorted({f.rule for f in found(resources, **more)})


def observation(**more):
    return {
        "resourceType": "Observation", "id": "o1", "status": "final", "code": {"coding": [{"system": LOINC, "code": "2339-0"}]},
        "effectiveDateTime": "2026-03-02T08:00:00+08:00", "issued": "2026-03-02T08:30:00+08:00",
        "valueQuantity": {"value": 5.6, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}, **more,
    }  # fmt: skip


def quantity(value, unit, code="2339-0"):
    return observation(
        code={"coding": [{"system": LOINC, "code": code}]}, valueQuantity={"value": value, "unit": unit}
    )


PATIENT = {
    "resourceType": "Patient", "id": "p1", "name": [{"text": "甄试验"}], "gender": "male", "birthDate": "1969-05-17",
    "identifier": [{"system": "urn:x", "value": "1"}],
}  # fmt: skip


def patient(**more):
    return {**PATIENT, **more}


def test_the_shipped_data_are_sound():
    shipped = rules.shipped()
    assert {r.kind for r in shipped.values()} <= set(kinds.KINDS)
    assert {r.kind for r in shipped.values()} == set(kinds.KINDS)  # every mechanism is used
    assert {r.dimension for r in shipped.values()} == {
        "completeness",
        "timeliness",
        "consistency",
        "uniqueness",
        "validity",
    }
    codes_, names = ranges.tables()
    for one in {id(r): r for r in [*codes_.values(), *names.values()]}.values():
        for low, high, odd_low, odd_high in list(one.limits.values()):
            assert low <= odd_low < odd_high <= high


def test_nothing_is_wrong_with_a_good_message():
    assert codes([patient(), observation()]) == []


@pytest.mark.parametrize(
    ("resource", "rule"),
    [
        (patient(name=[]), "patient.name"), (patient(birthDate=None), "patient.birth"), (patient(gender=""), "patient.sex"),
        (patient(identifier=[{}]), "patient.identifier"), (observation(code={}), "observation.code"),
        (observation(valueQuantity=None), "observation.value"), (observation(effectiveDateTime=None, issued=None), "observation.time"),
        ({"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"}, "issued": "2026-03-01"}, "report.content"),
        ({"resourceType": "Encounter", "status": "finished", "period": {"start": "2026-03-01"}}, "encounter.end"),
        ({"resourceType": "Condition"}, "condition.code"),
        ({"resourceType": "MedicationRequest", "dosageInstruction": [{"text": "x"}]}, "medication.drug"),
        ({"resourceType": "Immunization", "status": "completed", "vaccineCode": {"text": "x"}}, "immunization.lot"),
        ({"resourceType": "Composition", "title": "x"}, "composition.sections"),
    ],
)  # fmt: skip
def test_required(resource, rule):
    assert rule in codes([resource])


def test_required_only_where_it_holds():
    assert codes([{"resourceType": "Encounter", "status": "planned"}]) == []
    assert codes([observation(valueQuantity=None, valueBoolean=False)]) == []
    assert codes([{"resourceType": "Immunization", "status": "not-done", "vaccineCode": {"text": "x"}}]) == []


def test_value_set_leaves_other_systems_alone():
    act = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    base = {"resourceType": "Encounter", "status": "planned"}
    assert codes([{**base, "class": {"system": act, "code": "NOWHERE"}}]) == ["encounter.class.values"]
    assert codes([{**base, "class": {"system": act, "code": "AMB"}}]) == []
    assert codes([{**base, "class": {"system": "urn:own", "code": "NOWHERE"}}]) == []
    assert codes([patient(gender="男")]) == ["patient.gender.values"]


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("I10", False),
        ("E11.900", False),
        ("I10.x00", False),
        ("高血压", True),
        ("I1", True),
        ("E11.9 00", True),
    ],
)
def test_shape_of_icd10(code, wrong):
    one = {
        "resourceType": "Condition",
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": code}]},
    }
    assert ("condition.icd10" in codes([one])) is wrong
    one["code"]["coding"][0]["system"] = "urn:own"
    assert codes([one]) == []


def test_check_digits_and_what_the_number_says():
    system = "http://lianxin.example/id/resident-id-card"
    right = make_resident_id(dt.date(1969, 5, 17), 11)
    assert codes([patient(identifier=[{"system": system, "value": right}])]) == []
    wrong = right[:17] + ("1" if right[17] != "1" else "2")
    assert codes([patient(identifier=[{"system": system, "value": wrong}])]) == ["patient.id.check"]
    assert codes([patient(identifier=[{"system": system, "value": right}], gender="female")]) == [
        "patient.id.agrees"
    ]
    assert codes([patient(identifier=[{"system": system, "value": right}], birthDate="1970-05-17")]) == [
        "patient.id.agrees"
    ]
    org = {
        "resourceType": "Organization",
        "identifier": [{"system": "http://lianxin.example/id/uscc", "value": "91X"}],
    }
    assert codes([org]) == ["organization.uscc.check"]


@pytest.mark.parametrize(
    ("value", "unit", "code", "rules_"),
    [
        (5.6, "mmol/L", "2339-0", []), (56, "mmol/L", "2339-0", ["value.unusual"]), (560, "mmol/L", "2339-0", ["value.impossible"]),
        (101, "mg/dL", "2339-0", []), (36.5, "℃", "8310-5", []), (365, "℃", "8310-5", ["value.impossible"]),
        (98.6, "[degF]", "8310-5", []), (310, "K", "8310-5", []), (36.5, "%", "8310-5", ["value.unit"]), (36.5, "", "8310-5", ["value.unit"]),
        (1.72, "m", "8302-2", []), (172, "m", "8302-2", ["value.impossible"]), (70000, "g", "29463-7", []),
        (16, "kPa", "8480-6", []), (120, "mmHg", "8480-6", []), (1200, "MDC_DIM_MMHG", "8480-6", ["value.impossible"]),
        (98.00, "UMOLL", "CREA", []), (1e400, "mmol/L", "2339-0", ["value.impossible"]), ("x", "mmol/L", "2339-0", []),
        (5, "strange", "99999-9", []), (-1, "mmol/L", "2339-0", ["value.impossible"]),
    ],
)  # fmt: skip
def test_ranges_and_units(value, unit, code, rules_):
    assert codes([quantity(value, unit, code)]) == rules_


def test_ranges_by_name_and_in_components_and_no_value_is_told():
    one = observation(
        code={"coding": [{"system": "urn:lis", "code": "77"}], "text": "空腹血糖"},
        valueQuantity={"value": 777, "unit": "mmol/L"},
    )
    said = found([one])
    assert [f.rule for f in said] == ["value.impossible"]
    assert "血糖超出可能范围" in said[0].text.zh
    assert "777" not in f"{said[0].text}{said[0].place}"
    pressure = observation(
        code={"coding": [{"code": "85354-9"}]}, valueQuantity=None,
        component=[{"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": 12, "unit": "mmHg"}}],
    )  # fmt: skip
    assert [f.place for f in found([pressure])] == ["Observation[0].component[0].valueQuantity"]


@pytest.mark.parametrize(
    ("when", "rule"),
    [
        ("2026-03-02T09:30:00+08:00", None), ("2026-03-02T10:30:00+08:00", "time.future"), ("2026-03-03", "time.future"),
        ("2026-03-02", None), ("2026", None), ("2027", "time.future"), ("2026-03-02T01:30:00Z", None), ("2026-03-02T03:00:00Z", "time.future"),
        ("1899-12-31", "time.old"), ("1969-05-16", None), ("1969-05-01", "time.birth"), ("1968", "time.birth"), ("rubbish", "time.future"),
    ],
)  # fmt: skip
def test_times_against_now_and_birth(when, rule):
    said = [
        c
        for c in codes([patient(), observation(effectiveDateTime=when, issued=None)])
        if c.startswith("time.")
    ]
    assert said[-1:] == ([rule] if rule else [])


def test_order():
    stay = {
        "resourceType": "Encounter",
        "status": "finished",
        "period": {"start": "2026-03-01T10:00:00+08:00", "end": "2026-03-01T01:00:00Z"},
    }
    assert codes([stay]) == ["encounter.order"]
    stay["period"]["end"] = "2026-03-01"
    assert codes([stay]) == []  # the day alone does not contradict
    assert codes([observation(issued="2026-03-02T07:00:00+08:00")]) == ["observation.order"]
    assert codes([patient(deceasedDateTime="1960-01-01")]) == ["patient.death"]
    specimen = {
        "resourceType": "Specimen",
        "receivedTime": "2026-02-01",
        "collection": {"collectedDateTime": "2026-02-02"},
    }
    assert codes([specimen]) == ["specimen.order"]


def test_codes_of_one_sex(place):
    pregnant = {
        "resourceType": "Condition",
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "O80.0"}]},
    }
    born = {
        "resourceType": "Condition",
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "Z38.0"}]},
    }
    assert codes([patient(), pregnant]) == ["sex.codes"]
    assert codes([patient(gender="female"), pregnant]) == []
    assert codes([patient(), born]) == []
    him = Person.objects.create(
        number="1000000001", card_number="C1", name="甄试验", sex="male", pinyin="", initials=""
    )
    assert codes([pregnant], person_id=him.pk) == ["sex.codes"]
    assert codes([quantity(1, "ng/mL", "2857-1")], person_id=him.pk) == []


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ({}, []), ({"name": [{"family": "甄", "given": ["试验"]}]}, []), ({"name": [{"text": "甄**"}]}, []), ({"name": [{"text": "Zhen Shiyan"}]}, []),
        ({"gender": "female"}, ["identity.slip"]), ({"birthDate": "1969"}, []), ({"birthDate": "1970-05-17"}, ["identity.slip"]),
        ({"name": [{"text": "钱旁人"}]}, ["identity.slip"]), ({"name": [{"text": "钱旁人"}], "gender": "female"}, ["identity.differs"]),
        ({"gender": "female", "birthDate": "1990-01-01"}, ["identity.differs"]), ({"gender": "unknown", "birthDate": None}, ["patient.birth"]),
    ],
)  # fmt: skip
def test_identity_agreement(told, rule):
    him = Person.objects.create(
        number="1000000001", card_number="C1", name="甄试验", sex="male", birth_date=dt.date(1969, 5, 17), pinyin="", initials=""
    )  # fmt: skip
    assert codes([patient(**told)], person_id=him.pk) == rule
    draft = Draft([], person_id=him.pk, extra={"patient": patient(**told)})
    assert [f.rule for f in found([], draft=draft)] == [r for r in rule if r.startswith("identity")]


def test_references_within_the_piece_and_on_the_platform():
    report = {
        "resourceType": "DiagnosticReport", "id": "r", "status": "final", "code": {"text": "x"}, "issued": "2026-03-01",
        "subject": {"reference": "Patient/unknown"}, "result": [{"reference": "Observation/o1"}, {"reference": "#here"}],
    }  # fmt: skip
    assert codes([report, observation()]) == []
    said = found([report])
    assert [(f.rule, f.place) for f in said] == [("reference.resolves", "DiagnosticReport[0].result")]


def test_the_same_content_under_another_number_is_told_once_stored(place):
    him = Person.objects.create(
        number="1000000001", card_number="C1", name="甄试验", sex="male", pinyin="", initials=""
    )
    assert codes([observation(id="a")], place=place, person_id=him.pk, control_id="1") == []
    assert codes([observation(id="a")], place=place, person_id=him.pk, control_id="1") == []  # tried again
    assert (
        codes([observation(id="a")], place=place, person_id=him.pk, control_id="2") == []
    )  # brought up to date
    said = found([observation(id="b")], place=place, person_id=him.pk, control_id="3")
    assert [f.rule for f in said] == ["content.twice"]
    assert "1" in said[0].text.zh
    assert (
        codes([observation(id="b", status="corrected")], place=place, person_id=him.pk, control_id="4") == []
    )
    assert codes([observation(id="b")], place=make_institution("Q-B"), person_id=him.pk, control_id="3") == []
    assert ContentMark.objects.filter(institution=place).count() == 2


def test_repetition_within_a_batch_and_within_a_piece(place):
    him = Person.objects.create(
        number="1000000001", card_number="C1", name="甄试验", sex="male", pinyin="", initials=""
    )
    drafts = [Draft([Write("create", "Observation", i, observation(id=i))], person_id=him.pk) for i in "ab"]
    pairs = [(piece(place, control_id=d.writes[0].id or ""), d) for d in drafts]
    with connection.cursor() as cur:
        said = quality.check_many(pairs, cur)
    assert [[f.rule for f in one] for one in said] == [[], ["content.twice"]]
    assert codes([observation(id="a"), observation(id="b")]) == ["inside.twice"]


@pytest.mark.parametrize(
    ("door", "kind", "hours", "rule"),
    [
        ("hl7v2", "ORU^R01", 25, "late.result"), ("hl7v2", "ORU^R01", 23, None), ("hl7v2", "ADT^A01", 25, "late.adt"),
        ("cda", "WS/T 500.7", 25, None), ("cda", "WS/T 500.7", 80, "late.document"), ("table", "followups", 200, "late.table"),
        ("settlement", "lines", 200, None), ("hl7v2", "ORU^R01", -1, "sender.clock"),
    ],
)  # fmt: skip
def test_timeliness_by_kind(door, kind, hours, rule):
    said = codes([], door=door, kind=kind, sent_at=NOW - dt.timedelta(hours=hours))
    assert said == ([rule] if rule else [])


def test_lateness_by_the_newest_event_when_nothing_says_when_it_was_sent():
    one = observation(effectiveDateTime="2026-02-20T08:00:00+08:00", issued="2026-02-20T08:00:00+08:00")
    assert codes([one], sent_at=None) == ["late.result"]
    assert codes([one, observation(id="o2")], sent_at=None) == []


# ------------------------------------------------------------------------------------------------------------- settings


def setting(rule, severity="", thresholds=None, day=dt.date(2026, 3, 1), **where):
    RuleSetting.objects.create(
        rule=rule, severity=severity, thresholds=thresholds or {}, effective_from=day, reason="试", made_at=NOW, **where
    )  # fmt: skip
    rules.forget()


def test_rules_are_set_otherwise_for_whom_from_when(place):
    bad = quantity(560, "mmol/L")
    village = make_institution("Q-V", "village", parent=place)
    other = make_institution("Q-C", "township")
    consortium = make_consortium(make_institution("Q-L", "hospital"), [place])
    severity = lambda where: [f.severity for f in found([bad], place=where)]  # noqa: E731
    assert severity(place) == ["quarantine"]
    setting("value.impossible", "warn", consortium=consortium)
    assert [severity(p) for p in (place, village, other, None)] == [
        ["warn"],
        ["warn"],
        ["quarantine"],
        ["quarantine"],
    ]
    setting("value.impossible", "refuse", institution=place)
    assert [severity(p) for p in (place, village)] == [["refuse"], ["warn"]]
    setting("value.impossible", "off", institution=place, day=dt.date(2026, 3, 2))
    setting("value.impossible", "refuse", institution=place, day=dt.date(2026, 3, 3))  # not yet
    assert severity(place) == []
    setting("late.result", thresholds={"hours": 1})
    assert codes([], sent_at=NOW - dt.timedelta(hours=2)) == ["late.result"]


def test_a_piece_that_is_wrong_throughout_is_not_told_a_thousand_times():
    assert len(found([observation(id=str(n), code={}) for n in range(500)])) == 50


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Observation"}, {"resourceType": "Observation", "code": "x", "valueQuantity": [], "component": [1, {"code": 3}]},
        {"resourceType": "Observation", "code": {"coding": [None, 3, {"code": 7}]}, "valueQuantity": {"value": None, "code": 5, "unit": 3}},
        {"resourceType": "Patient", "name": "x", "identifier": [1, {"system": None, "value": 5}], "birthDate": 7, "gender": []},
        {"resourceType": "Encounter", "period": [{"start": 3}], "class": []}, {"resourceType": "Condition", "code": {"coding": {}}},
        {"resourceType": "Specimen", "collection": [1]}, {"resourceType": "Weird", "x": [{"reference": 3}, {"reference": None}]},
    ],
)  # fmt: skip
def test_resources_of_any_shape_break_nothing(resource):
    found([resource, patient()])
