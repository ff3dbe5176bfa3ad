"""Search parameter by parameter: modifiers, links, compartments, several types, what comes along, sorting, paging, refusals."""

import itertools
import json
import random
from datetime import timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.index.models import SourceRecord
from lianxin.network.models import Institution
from lianxin.record import definitions, rows, search, store
from lianxin.record.problems import Problem
from lianxin.record.query import order
from lianxin.standards import clock

pytestmark = pytest.mark.django_db
SYSTEM = Scope.system("test")
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
MARKS = itertools.count()


@pytest.fixture
def hospital():
    return Institution.objects.create(code="S1", name="县医院", kind="hospital", tier="county")


@pytest.fixture
def cur(hospital):
    with connection.cursor() as own:
        yield rows.server_cursor(own)


@pytest.fixture
def put(cur, hospital):
    def work(*resources, source=None):
        writes = [
            store.Write("update", r["resourceType"], r["id"], json.loads(json.dumps(r)), trusted=True)
            for r in resources
        ]
        return store.apply(cur, SYSTEM, writes, source_institution_id=(source or hospital).pk)

    return work


def ids(cur, rtype, query="", scope=SYSTEM, **more):
    """Ids found, in order; ``query`` as in an address, not escaped."""
    pairs = [tuple(part.partition("=")[::2]) for part in query.split("&") if part]
    return [e.id for e in search.search(cur, scope, rtype, pairs, strict=True, **more).entries]


def refused(cur, rtype, query, status=400):
    with pytest.raises(Problem) as problem:
        ids(cur, rtype, query)
    assert problem.value.status == status
    return str(problem.value)


def patient(rid, **more):
    return {"resourceType": "Patient", "id": rid, "gender": "female", "birthDate": "1960-01-01", **more}


def result(rid, who, **more):
    return {"resourceType": "Observation", "id": rid, "status": "final", "subject": {"reference": f"Patient/{who}"},
            "code": {"coding": [{"system": LOINC, "code": "8302-2", "display": "Body Height"}], "text": "身高"}, **more}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ tokens


def test_identifiers_of_persons_are_found_with_and_without_system(cur, put):
    number = {
        "system": "urn:cards",
        "value": "A|1,2",
        "type": {"coding": [{"system": "urn:types", "code": "MR"}], "text": "病历号"},
    }
    put(
        patient("a", identifier=[number], telecom=[{"system": "phone", "value": "13800138000"}]),
        patient("b", identifier=[{"value": "A|1,2"}]),
    )
    assert ids(cur, "Patient", r"identifier=A\|1\,2") == ["a", "b"]
    assert ids(cur, "Patient", r"identifier=urn:cards|A\|1\,2") == ["a"]
    assert ids(cur, "Patient", r"identifier=|A\|1\,2") == ["b"]
    assert ids(cur, "Patient", "identifier=urn:cards|") == ["a"]
    assert ids(cur, "Patient", r"identifier:of-type=urn:types|MR|A\|1\,2") == ["a"]
    assert ids(cur, "Patient", r"identifier:of-type=urn:types|PI|A\|1\,2") == []
    assert ids(cur, "Patient", "identifier:text=病历") == ["a"]
    assert (
        ids(cur, "Patient", "phone=13800138000") == ids(cur, "Patient", "telecom=phone|13800138000") == ["a"]
    )
    assert ids(cur, "Patient", r"identifier:not=urn:cards|A\|1\,2") == ["b"]
    refused(cur, "Patient", "identifier=a|b|c")
    refused(cur, "Patient", "identifier=|")
    refused(cur, "Patient", "gender:of-type=a|b|c")


def test_text_of_a_code_begins_with_the_words(cur, put):
    put(patient("p"), result("o", "p"))
    for text in ("Body H", "body height", "身"):
        assert ids(cur, "Observation", f"code:text={text}") == ["o"]
    assert ids(cur, "Observation", "code:text=Height") == []


def test_value_sets_and_hierarchies(cur, put):
    put(
        {"resourceType": "ValueSet", "id": "v", "url": "urn:vs", "status": "active",
         "compose": {"include": [{"system": "http://hl7.org/fhir/administrative-gender", "concept": [{"code": "male"}]}]}},
        patient("m", gender="male"), patient("f"),
    )  # fmt: skip
    assert ids(cur, "Patient", "gender:in=http://hl7.org/fhir/ValueSet/administrative-gender") == ["m", "f"]
    assert ids(cur, "Patient", "gender:not-in=http://hl7.org/fhir/ValueSet/administrative-gender") == []
    refused(cur, "Patient", "gender:in=urn:nowhere")
    category = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    put(
        {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"system": category, "code": "ACUTE"}, "subject": {"reference": "Patient/m"}},
        {"resourceType": "Encounter", "id": "w", "status": "finished", "class": {"system": category, "code": "IMP"}, "subject": {"reference": "Patient/m"}},
    )  # fmt: skip
    assert ids(cur, "Encounter", f"class:below={category}|IMP") == ["e", "w"]
    assert ids(cur, "Encounter", f"class:above={category}|ACUTE") == ["e", "w"]
    assert ids(cur, "Encounter", f"class:below={category}|ACUTE") == ["e"]


def test_deceased_by_date_or_by_word(cur, put):
    put(
        patient("alive", deceasedBoolean=False),
        patient("dead", deceasedDateTime="2026-01-01"),
        patient("gone", deceasedBoolean=True),
        patient("silent"),
    )
    assert ids(cur, "Patient", "deceased=true") == ["dead", "gone"]
    assert ids(cur, "Patient", "deceased=false") == ["alive", "silent"]
    assert ids(cur, "Patient", "deceased:missing=true") == ["silent"]


# -------------------------------------------------------------------------------------------------- dates and numbers


@pytest.mark.parametrize(("query", "found"), [
    ("2024-05", "mp"), ("ne2024-05", "yo"), ("gt2024-05", "yo"), ("lt2024-05", "y"), ("ge2024-05", "mpyo"), ("le2024-05", "mpy"),
    ("sa2024-04", "mpo"), ("eb2024-06", "mp"), ("2024", "mpy"), ("sa2024-05-20", "o"), ("2024-05-10T08:00:00+08:00", ""),
])  # fmt: skip
def test_periods_are_strict(cur, put, query, found):
    put(
        patient("p"),
        result("m", "p", effectiveDateTime="2024-05"),
        result("p1", "p", effectivePeriod={"start": "2024-05-02", "end": "2024-05-20"}),
        result("y", "p", effectiveDateTime="2024"),
        result("o1", "p", effectivePeriod={"start": "2024-06-01"}),
        result("none", "p"),
    )
    assert sorted(i[0] for i in ids(cur, "Observation", f"date={query}")) == sorted(found)


def test_a_period_without_start_began_before_everything(cur, put):
    put(patient("p"), result("o", "p", effectivePeriod={"end": "2024-06-01"}))
    assert ids(cur, "Observation", "date=lt1000-01-01") == ["o"]
    assert ids(cur, "Observation", "date=gt2024-06-01") == []
    assert ids(cur, "Observation", "patient=p&_sort=-date") == ["o"]


def test_around_now(cur, put, monkeypatch):
    put(
        patient("p"),
        result("o", "p", effectiveDateTime=(clock.now() - timedelta(days=10)).isoformat(timespec="seconds")),
    )
    assert ids(cur, "Observation", f"date=ap{(clock.now() - timedelta(days=9, hours=12)).date()}") == ["o"]
    assert ids(cur, "Observation", f"date=ap{(clock.now() - timedelta(days=400)).date()}") == []
    refused(cur, "Observation", "date=ap0001-01-01")


def test_units_are_converted(cur, put):
    def weighs(rid, value, code, system=UCUM):
        return result(rid, "p", valueQuantity={"value": value, "unit": code, "code": code, "system": system})

    put(
        patient("p"),
        weighs("kg", 5.4, "kg"),
        weighs("g", 5400, "g"),
        weighs("lb", 5.4, "[lb_av]"),
        weighs("other", 5.4, "kg", "urn:mine"),
        weighs("cm", 5.4, "cm"),
    )
    assert ids(cur, "Observation", f"value-quantity=5.4|{UCUM}|kg") == ["kg", "g"]
    assert ids(cur, "Observation", f"value-quantity=5400|{UCUM}|g") == ["kg", "g"]
    assert ids(cur, "Observation", f"value-quantity=gt5|{UCUM}|kg") == ["kg", "g"]
    assert ids(cur, "Observation", f"value-quantity=lt5|{UCUM}|kg") == ["lb"]
    assert ids(cur, "Observation", "value-quantity=5.4||kg") == ["kg", "other"]
    assert ids(cur, "Observation", "value-quantity=5.4") == ["kg", "lb", "other", "cm"]
    assert ids(cur, "Observation", "value-quantity=ap5") == ["kg", "lb", "other", "cm"]
    assert ids(cur, "Observation", "value-quantity=5.40") == ids(cur, "Observation", "value-quantity=54e-1")
    for wrong in ("x", "5|kg", "5|a|b|c", "1e999", "NaN", "gtinfinity"):
        refused(cur, "Observation", f"value-quantity={wrong}")


def test_numbers_and_comparators(cur, put):
    put(patient("p"), result("low", "p", valueQuantity={"value": 5, "comparator": "<"}))
    assert ids(cur, "Observation", "value-quantity=lt1") == ["low"]
    assert ids(cur, "Observation", "value-quantity=5") == []
    put(
        {
            "resourceType": "RiskAssessment",
            "id": "r",
            "status": "final",
            "subject": {"reference": "Patient/p"},
            "prediction": [{"probabilityDecimal": 0.25}],
        }
    )
    assert (
        ids(cur, "RiskAssessment", "probability=0.25")
        == ids(cur, "RiskAssessment", "probability=gt0.2")
        == ["r"]
    )
    refused(cur, "RiskAssessment", "probability=0.25|a|b")


# ---------------------------------------------------------------------------------------------------- strings, uris


def test_strings(cur, put):
    put(
        patient("a", name=[{"family": "单", "given": ["雄信"]}], address=[{"city": "Zürich_x"}]),
        patient("b", name=[{"text": "王伟"}]),
        patient("c", name=[{"text": "汪威"}]),
    )
    assert (
        ids(cur, "Patient", "name=单雄信")
        == ids(cur, "Patient", "name=sxx")
        == ids(cur, "Patient", "family=shan")
        == ["a"]
    )
    assert (
        ids(cur, "Patient", "address-city=ZURICH")
        == ids(cur, "Patient", "address-city:contains=RICH_")
        == ["a"]
    )
    assert ids(cur, "Patient", "address-city:contains=richax") == []
    assert ids(cur, "Patient", "address-city:exact=zürich_x") == []
    assert ids(cur, "Patient", "address-city:exact=Zürich_x") == ["a"]
    assert ids(cur, "Patient", "phonetic=王威") == ["b", "c"]
    refused(cur, "Patient", "name:below=x")


def test_uris_have_levels(cur, put):
    def made(rid, url):
        return {"resourceType": "ValueSet", "id": rid, "url": url, "status": "active"}

    put(
        made("a", "http://x.cn/fhir"),
        made("b", "http://x.cn/fhir/vs/1"),
        made("c", "http://x.cn/fhirish"),
        made("d", "urn:oid:1.2.3"),
    )
    assert ids(cur, "ValueSet", "url=http://x.cn/fhir") == ["a"]
    assert (
        ids(cur, "ValueSet", "url:below=http://x.cn/fhir")
        == ids(cur, "ValueSet", "url:below=http://x.cn/fhir/")
        == ["a", "b"]
    )
    assert ids(cur, "ValueSet", "url:above=http://x.cn/fhir/vs/1/2") == ["a", "b"]
    assert ids(cur, "ValueSet", "url=urn:oid:1.2.3") == ["d"]


def test_meta(cur, put):
    put(
        patient(
            "a",
            meta={
                "source": "http://x.cn/sys#m1",
                "tag": [{"system": "urn:t", "code": "k"}],
                "profile": ["http://x.cn/P|1.0"],
                "security": [{"code": "R"}],
            },
        ),
        patient("b"),
    )
    for query in (
        "_source=http://x.cn/sys",
        "_source=http://x.cn/sys#m1",
        "_tag=urn:t|k",
        "_profile=http://x.cn/P",
        "_profile=http://x.cn/P|1.0",
        "_security=R",
    ):
        assert ids(cur, "Patient", query) == ["a"], query
    assert (
        ids(cur, "Patient", "_source=http://x.cn/sys#m2")
        == ids(cur, "Patient", "_profile=http://x.cn/P|2")
        == []
    )
    assert ids(cur, "Patient", f"_lastUpdated=ge{clock.now().date()}") == ["a", "b"]
    assert ids(cur, "Patient", "_tag:missing=true") == ["b"]
    assert ids(cur, "Patient", "_id=a,b,c&_id:not=b") == ["a"]


# ----------------------------------------------------------------------------------------------- references and links


def test_references(cur, put):
    put(
        patient("p"), {"resourceType": "Organization", "id": "top", "name": "市医院"},
        {"resourceType": "Organization", "id": "mid", "name": "内科", "partOf": {"reference": "Organization/top"}},
        {"resourceType": "Organization", "id": "low", "name": "病房", "partOf": {"reference": "Organization/mid"}},
        result("o", "p", performer=[{"reference": "Organization/low"}, {"identifier": {"system": "urn:staff", "value": "7"}}]),
        {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": [{"entity": {"reference": "Patient/p"}}]},
    )  # fmt: skip
    for query in ("subject=p", "subject=Patient/p", "subject:Patient=p", "patient=p", "subject=http://far.cn/r4/Patient/p", "patient.gender=female", "subject:Patient.birthdate=1960",
                  "performer:identifier=urn:staff|7", "performer:identifier=7", "performer=Organization/low", "performer:below=Organization/top", "performer:Organization.name=病",
                  "performer:Organization.partof.partof.name=市", "patient._has:Group:member:_id=g", "subject:missing=false"):  # fmt: skip
        assert ids(cur, "Observation", query) == ["o"], query
    for query in (
        "subject:Group=p",
        "patient=q",
        "performer:identifier=|7",
        "performer:above=Organization/top",
        "performer:Organization.partof.name=市",
    ):
        assert ids(cur, "Observation", query) == [], query
    assert ids(cur, "Organization", "partof:below=top&_sort=_id") == ["low", "mid"]
    assert ids(cur, "Organization", "_has:Observation:performer:patient.gender=female") == ["low"]
    assert ids(cur, "Organization", "_has:Organization:partof:_has:Observation:performer:code=8302-2") == [
        "mid"
    ]
    assert ids(cur, "Patient", "_has:Observation:subject:performer:Organization.name=病房") == ["p"]
    assert "Medication" in refused(cur, "Observation", "performer:Medication=1")
    refused(cur, "Observation", "status.name=x")
    refused(cur, "Observation", "_has:Observation:code:status=final")
    refused(cur, "Patient", "_has:Observation:subject=x")
    refused(cur, "Patient", "_has:Observation:performer.name:code=x")
    refused(cur, "Patient", "link:Patient." * 9 + "gender=male")


def test_the_golden_patient_stands_for_all_sources(cur, put, hospital):
    other = Institution.objects.create(code="S2", name="乡镇卫生院", kind="township", tier="township")
    put(patient("p1", name=[{"text": "欧阳锋"}]))
    put(patient("p2", name=[{"text": "欧阳峰"}], birthDate="1961-01-01"), source=other)
    person, second = (SourceRecord.objects.unscoped("test").get(patient_id=p).person for p in ("p1", "p2"))
    registry.merge(SYSTEM, person, second, "同一人")
    put(result("o1", "p1"), result("o2", "p2"), result("o3", person.number))
    everybody = ["o1", "o2", "o3"]
    assert ids(cur, "Observation", f"patient={person.number}&_sort=_id") == everybody
    assert ids(cur, "Observation", f"patient={person.number}&code={LOINC}|8302-2&_sort=_id") == everybody
    assert ids(cur, "Observation", f"subject:Patient._id={person.number}&_sort=_id") == everybody
    assert ids(cur, "Observation", "_sort=_id", compartment=("Patient", person.number)) == everybody
    assert ids(cur, "Observation", "patient=p1") == ["o1"]
    assert ids(cur, "Observation", "patient.name=欧阳锋&_sort=_id") == ["o1", "o3"]
    assert ids(cur, "Observation", "patient.name=欧阳峰&_sort=_id") == ["o2", "o3"]
    assert ids(cur, "Patient", "_has:Observation:patient:_id=o3&_sort=_id") == ["p1", "p2"]
    assert ids(cur, "Patient", f"_id={person.number}") == [person.number]
    page = search.search(cur, SYSTEM, "Observation", [("_id", "o3"), ("_include", "Observation:patient")])
    assert [(e.rtype, e.id) for e in page.included] == [("Patient", person.number)]


def test_nothing_is_seen_through_a_link_that_may_not_be_seen(cur, put, hospital):
    stranger = Institution.objects.create(code="S9", name="外院", kind="hospital", tier="county")
    put(patient("p", name=[{"text": "欧阳锋"}]), result("o", "p"))
    put({"resourceType": "Organization", "id": "org", "name": "检验科"})
    put(patient("q", managingOrganization={"reference": "Organization/org"}), source=stranger)
    scope = Scope(
        client_id=1,
        institution_id=stranger.pk,
        institution_ids=frozenset([stranger.pk]),
        smart=("system/*.cruds",),
    )
    for rtype, query in (("Observation", "patient=p"), ("Observation", "patient.name=欧阳锋"), ("Observation", ""), ("Patient", "_has:Observation:patient:code=8302-2"),
                         ("Observation", "code=8302-2"), ("Patient", "_id=p"), ("Patient", "name=欧阳锋")):  # fmt: skip
        page = search.search(
            cur, scope, rtype, [tuple(p.split("=")) for p in query.split("&") if p] + [("_total", "accurate")]
        )
        assert "p" not in [e.id for e in page.entries]
        assert "o" not in [e.id for e in page.entries]
        assert page.total == (1 if rtype == "Patient" and not query else 0) or query == "", query
    assert ids(cur, "Organization", "_has:Patient:organization:gender=female", scope=scope) == ["org"]
    page = search.search(cur, scope, None, [("_type", "Patient,Observation,Organization")])
    assert sorted(e.id for e in page.entries) == ["org", "q"]


# -------------------------------------------------------------------------------------------------------- composites


def test_composites_meet_in_one_item(cur, put):
    def pair(code, value):
        return {
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "valueQuantity": {"value": value, "unit": "mmHg"},
        }

    put(
        patient("p"),
        result("o", "p", component=[pair("8480-6", 150), pair("8462-4", 90)]),
        result("v", "p", valueQuantity={"value": 150}),
    )
    name = "component-code-value-quantity"
    assert (
        ids(cur, "Observation", f"{name}=8480-6$150")
        == ids(cur, "Observation", f"{name}={LOINC}|8480-6$gt140")
        == ["o"]
    )
    assert (
        ids(cur, "Observation", f"{name}=8480-6$90") == ids(cur, "Observation", f"{name}=8480-6$lt100") == []
    )
    assert ids(cur, "Observation", "combo-code-value-quantity=8302-2$150,8480-6$150") == ["o", "v"]
    assert ids(cur, "Observation", "code-value-quantity=8302-2$150") == ["v"]
    for wrong in ("8480-6", "8480-6$", "8480-6$1$2", f"{LOINC}|$1"):
        refused(cur, "Observation", f"{name}={wrong}")


def test_the_rarer_composites(cur, put):
    put(
        {"resourceType": "DocumentReference", "id": "new", "status": "current", "content": [{"attachment": {"url": "x"}}],
         "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/old"}}, {"code": "appends", "target": {"reference": "DocumentReference/other"}}]},
        {"resourceType": "Group", "id": "g", "type": "person", "actual": False,
         "characteristic": [{"code": {"coding": [{"code": "gender"}]}, "valueCodeableConcept": {"coding": [{"code": "mixed"}]}, "exclude": False},
                            {"code": {"coding": [{"code": "smokes"}]}, "valueBoolean": True, "exclude": False}]},
        {"resourceType": "MolecularSequence", "id": "m", "coordinateSystem": 0, "referenceSeq": {"chromosome": {"coding": [{"code": "1"}]}, "windowStart": 10, "windowEnd": 90},
         "variant": [{"start": 20, "end": 30}, {"start": 50, "end": 60}]},
        {"resourceType": "ValueSet", "id": "v", "status": "active", "url": "urn:v",
         "useContext": [{"code": {"code": "age"}, "valueRange": {"low": {"value": 10}, "high": {"value": 20}}}, {"code": {"code": "focus"}, "valueCodeableConcept": {"coding": [{"code": "x"}]}}]},
    )  # fmt: skip
    assert ids(cur, "DocumentReference", "relationship=DocumentReference/old$replaces") == ["new"]
    assert ids(cur, "DocumentReference", "relationship=DocumentReference/old$appends") == []
    assert (
        ids(cur, "Group", "characteristic-value=gender$mixed")
        == ids(cur, "Group", "characteristic-value=smokes$true")
        == ["g"]
    )
    assert ids(cur, "Group", "characteristic-value=smokes$mixed") == []
    assert ids(cur, "MolecularSequence", "chromosome-variant-coordinate=1$20$30") == ["m"]
    assert (
        ids(cur, "MolecularSequence", "chromosome-variant-coordinate=1$20$60")
        == ids(cur, "MolecularSequence", "chromosome-variant-coordinate=2$20$30")
        == []
    )
    assert ids(cur, "MolecularSequence", "chromosome-window-coordinate=1$lt20$gt80") == ["m"]
    assert (
        ids(cur, "ValueSet", "context-type-quantity=age$gt15")
        == ids(cur, "ValueSet", "context-type-value=focus$x")
        == ["v"]
    )
    assert (
        ids(cur, "ValueSet", "context-type-quantity=focus$gt15")
        == ids(cur, "ValueSet", "context-type-value=age$x")
        == []
    )


def test_places_near(cur, put):
    put(
        {"resourceType": "Location", "id": "h", "position": {"latitude": 28.68, "longitude": 121.44}},
        {"resourceType": "Location", "id": "far", "position": {"latitude": 30.25, "longitude": 120.15}},
    )
    assert (
        ids(cur, "Location", "near=28.65|121.42|5|km")
        == ids(cur, "Location", "near=28.65|121.42|5000|m")
        == ["h"]
    )
    assert ids(cur, "Location", "near=28.65|121.42|300|km") == ["h", "far"]
    for wrong in ("1", "a|b", "91|0|1|km", "1|1|1|leagues", "1|1|-5|km", "nan|nan|1|km"):
        refused(cur, "Location", f"near={wrong}")


def test_bundles_by_what_they_open_with(cur, put):
    put(
        {
            "resourceType": "Bundle",
            "id": "b",
            "type": "document",
            "entry": [
                {
                    "resource": {
                        "resourceType": "Composition",
                        "id": "c",
                        "status": "final",
                        "date": "2026-01-01",
                        "title": "x",
                    }
                }
            ],
        }
    )
    assert (
        ids(cur, "Bundle", "composition=Composition/c")
        == ids(cur, "Bundle", "composition=c")
        == ids(cur, "Bundle", "composition:missing=false")
        == ["b"]
    )
    assert ids(cur, "Bundle", "message=c") == []


# ------------------------------------------------------------------------------------- compartments, types, lists, _filter


def test_compartments(cur, put):
    put(
        patient("p"), patient("q"), {"resourceType": "Practitioner", "id": "d"}, result("own", "p"),
        result("by", "q", performer=[{"reference": "Patient/p"}, {"reference": "Practitioner/d"}]),
        {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/p"}},
        {**result("in", "p"), "encounter": {"reference": "Encounter/e"}},
    )  # fmt: skip
    assert ids(cur, "Observation", "_sort=_id", compartment=("Patient", "p")) == ["by", "in", "own"]
    assert ids(cur, "Observation", "", compartment="q") == ["by"]
    assert ids(cur, "Observation", "", compartment=("Encounter", "e")) == ["in"]
    assert ids(cur, "Observation", "", compartment=("Practitioner", "d")) == ["by"]
    assert ids(cur, None, "_sort=_id", compartment=("Patient", "p")) == ["by", "e", "in", "own", "p"]
    assert ids(cur, None, "_type=Encounter,Patient&_sort=_id", compartment=("Patient", "p")) == ["e", "p"]
    with pytest.raises(Problem):
        ids(cur, "Organization", "", compartment=("Patient", "p"))


def test_several_types_at_once(cur, put):
    put(
        patient("p", meta={"tag": [{"code": "k"}]}),
        {**result("o", "p"), "meta": {"tag": [{"code": "k"}]}},
        patient("q"),
    )
    assert ids(cur, None, "_tag=k&_sort=_id") == ["o", "p"]
    assert ids(cur, None, "_type=Patient&gender=female&_sort=_id") == ["p", "q"]
    assert ids(cur, None, "_type=Patient,Observation&_id=p,o&_sort=-_id") == ["p", "o"]
    refused(cur, None, "_type=Patient,Shoe")
    refused(cur, None, "gender=female")
    page = search.search(cur, SYSTEM, None, [("gender", "female"), ("_id", "q")])
    assert [e.id for e in page.entries] == ["q"]
    assert len(page.ignored) == 1


def test_lists(cur, put):
    put(
        patient("p"),
        patient("q"),
        {
            "resourceType": "List",
            "id": "l",
            "status": "current",
            "mode": "working",
            "entry": [{"item": {"reference": "Patient/q"}}],
        },
    )
    assert ids(cur, "Patient", "_list=l") == ids(cur, "Patient", "_list=List/l") == ["q"]
    assert ids(cur, "Patient", "_list=nowhere") == []
    refused(cur, "Patient", "_list=$current-problems")


def test_filters(cur, put):
    put(
        patient("p", name=[{"text": "Zhang Wei"}]),
        patient("q", name=[{"text": "Li"}], birthDate="1990-01-01", gender="male"),
        patient("r", birthDate="2000-01-01"),
    )
    for text, found in (
        ('gender eq male or name co "wei"', ["p", "q"]),
        ("gender eq female and not (name pr true)", ["r"]),
        ("birthdate gt 1980-01-01 and birthdate lt 1995-01-01", ["q"]),
        ('not (gender eq "male")', ["p", "r"]),
        ('name eq "li" or name eq "Li"', ["q"]),
        ("gender ne male", ["p", "r"]),
    ):
        assert ids(cur, "Patient", f"_filter={text}&_sort=_id") == found, text
    for wrong in (
        "gender",
        "gender eq",
        "(gender eq male",
        "gender zz male",
        "shoe eq 7",
        "gender eq male or",
        ") or (",
        '"',
        "not " * 80 + "gender eq male",
    ):
        refused(cur, "Patient", f"_filter={wrong}")


# ----------------------------------------------------------------------------------------------- what comes along, order


def test_includes(cur, put):
    put(
        patient("p", generalPractitioner=[{"reference": "Practitioner/d"}]), {"resourceType": "Practitioner", "id": "d"},
        result("a", "p"), result("b", "p", hasMember=[{"reference": "Observation/a"}]), result("c", "p", hasMember=[{"reference": "Observation/b"}]),
        {"resourceType": "Questionnaire", "id": "form", "url": "urn:form", "version": "2", "status": "active"},
        {"resourceType": "QuestionnaireResponse", "id": "answer", "status": "completed", "questionnaire": "urn:form|2", "subject": {"reference": "Patient/p"}},
    )  # fmt: skip
    put(result("a", "p", hasMember=[{"reference": "Observation/c"}]))  # a circle

    def along(rtype, rid, *wishes):
        page = search.search(cur, SYSTEM, rtype, [("_id", rid), *wishes], strict=True)
        return sorted(f"{e.rtype}/{e.id}" for e in page.included)

    assert along("Observation", "c", ("_include", "Observation:subject")) == ["Patient/p"]
    assert along("Observation", "c", ("_include", "Observation:subject:Group")) == []
    assert along(
        "Observation",
        "c",
        ("_include", "Observation:has-member"),
        ("_include:iterate", "Observation:has-member"),
    ) == ["Observation/a", "Observation/b"]
    assert along("Observation", "c", ("_include", "*")) == ["Observation/b", "Patient/p"]
    assert along(
        "Observation",
        "c",
        ("_include", "Observation:patient"),
        ("_include:iterate", "Patient:general-practitioner"),
    ) == ["Patient/p", "Practitioner/d"]
    assert along("Patient", "p", ("_revinclude", "Observation:subject")) == [
        "Observation/a",
        "Observation/b",
        "Observation/c",
    ]
    assert along("Patient", "p", ("_revinclude", "*")) == [
        "Observation/a",
        "Observation/b",
        "Observation/c",
        "QuestionnaireResponse/answer",
    ]
    assert along("QuestionnaireResponse", "answer", ("_include", "QuestionnaireResponse:questionnaire")) == [
        "Questionnaire/form"
    ]
    assert along("Questionnaire", "form", ("_revinclude", "QuestionnaireResponse:questionnaire")) == [
        "QuestionnaireResponse/answer"
    ]
    for wrong in ("Observation", "Observation:code", "Shoe:x", "Observation:subject:Shoe"):
        with pytest.raises(Problem):
            along("Observation", "c", ("_include", wrong))
        assert search.search(cur, SYSTEM, "Observation", [("_include", wrong)]).ignored


def test_sorting(cur, put):
    put(
        patient("p", name=[{"text": "b"}], gender="male", birthDate="1950-01-01"), patient("q", name=[{"text": "a"}], gender="female", birthDate="1950-01-01"),
        {**patient("r"), "birthDate": None, "gender": None},
    )  # fmt: skip
    put(
        result("x", "q", valueQuantity={"value": 10}), {**result("y", "p", valueQuantity={"value": 9.5}), "status": "amended"},
        {**result("z", "p"), "code": {"text": "another"}},
    )  # fmt: skip
    for query, found in (
        ("name", "qpr"),
        ("-name", "pqr"),
        ("birthdate,-name", "pqr"),
        ("gender", "qpr"),
        ("-gender", "pqr"),
        ("-_id", "rqp"),
        ("-_lastUpdated", "rqp"),
        ("_lastUpdated", "pqr"),
    ):
        assert "".join(ids(cur, "Patient", f"_sort={query}")) == found, query
    for query, found in (
        ("value-quantity", "yxz"),
        ("-value-quantity", "xyz"),
        ("status,_id", "yxz"),
        ("patient,_id", "yzx"),
        ("subject,-_id", "zyx"),
        ("code,_id", "zxy"),
    ):
        assert "".join(ids(cur, "Observation", f"_sort={query}")) == found, query
    refused(cur, "Patient", "_sort=identifier")
    assert search.search(cur, SYSTEM, "Patient", [("_sort", "shoe")]).ignored


def test_counts_and_totals(cur, put):
    put(*(patient(f"p{i}") for i in range(5)))

    def page(*pairs):
        return search.search(cur, SYSTEM, "Patient", pairs, strict=True)

    assert (page(("_count", "0")).total, page(("_count", "0")).entries) == (5, [])
    assert page(("_summary", "count")).total == 5
    assert (len(page(("_count", "2")).entries), page(("_count", "2")).total) == (2, None)
    assert (
        page(("_count", "2"), ("_total", "accurate")).total
        == page(("_count", "2"), ("_total", "estimate")).total
        == 5
    )
    assert len(page(("_count", "9" * 9)).entries) == 5
    for wrong in ("-1", "x", "9" * 30, "1.5", "²"):
        with pytest.raises(Problem):
            page(("_count", wrong))
    for wrong in (("_total", "all"), ("_summary", "short"), ("_cursor", "junk"), ("_cursor", "WzEsWyJ4Il1d")):
        with pytest.raises(Problem):
            page(wrong)


def test_what_is_not_known_is_said(cur, put):
    put(patient("p"))
    for name in (
        "shoe",
        "_text",
        "_content",
        "_query",
        "name.given",
        "general-practitioner.shoe",
        "_has:Observation:subject:shoe",
    ):
        refused(cur, "Patient", f"{name}=x")
    page = search.search(cur, SYSTEM, "Patient", [("shoe", "7"), ("gender", "female")])
    assert [e.id for e in page.entries] == ["p"]
    assert page.used == [("gender", "female")]
    assert "shoe" in page.ignored[0].text.en
    for query in (
        "gender:shoe=x",
        "birthdate=never",
        "name:missing=maybe",
        "birthdate:exact=2020",
    ):
        with pytest.raises(Problem):
            search.search(cur, SYSTEM, "Patient", [tuple(query.split("="))])


def test_every_parameter_can_be_asked(cur, put):
    """Each official parameter of each type gives an answer to a value of its kind: no statement is wrong."""
    says = {
        "token": "a|b",
        "string": "x",
        "date": "ge2020",
        "number": "1",
        "quantity": "1||kg",
        "uri": "urn:x",
        "reference": "x",
        "special": "1|1|1|km",
    }
    for rtype in sorted(definitions.types()):
        table = definitions.params(rtype)
        for code, param in table.items():
            value = "$".join(says[table[c].kind] for c, _ in param.components) or says[param.kind]
            assert search.search(cur, SYSTEM, rtype, [(code, value)], strict=True).entries == [], (
                rtype,
                code,
            )
            if order.key(rtype, code):
                search.search(
                    cur, SYSTEM, rtype, [(f"{code}:missing", "true"), ("_sort", f"-{code}")], strict=True
                )


# -------------------------------------------------------------------------------------------------------------- paging


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_pages_give_each_match_once_while_others_write(cur, put, data):
    dice = random.Random(data.draw(st.integers(0, 10_000)))
    mark = f"k{next(MARKS)}"

    def some(i):
        more = (
            {"effectiveDateTime": f"20{dice.randint(10, 12)}-0{dice.randint(1, 3)}"}
            if dice.random() < 0.7
            else {}
        )
        value = {"valueQuantity": {"value": dice.randint(1, 4)}} if dice.random() < 0.7 else {}
        return {
            **result(f"{mark}-{i}", f"{mark}-p", **more, **value),
            "status": dice.choice(["final", "amended"]),
            "meta": {"tag": [{"code": mark}]},
        }

    count = data.draw(st.integers(0, 25))
    put(patient(f"{mark}-p"), *(some(i) for i in range(count)))
    sort = data.draw(
        st.sampled_from(
            [
                "_lastUpdated",
                "-_lastUpdated",
                "date",
                "-date",
                "value-quantity,-date",
                "-status,_id",
                "code,-_id",
                "subject,value-quantity",
                "-_id",
            ]
        )
    )
    size = data.draw(st.integers(1, 7))
    lead = data.draw(
        st.sampled_from([("_tag", mark), ("patient", f"{mark}-p"), ("subject", f"Patient/{mark}-p")])
    )
    found, cursor, later = [], None, 100
    while True:
        page = search.search(
            cur,
            SYSTEM,
            "Observation",
            [lead, ("_sort", sort), ("_count", str(size)), *([("_cursor", cursor)] if cursor else [])],
            strict=True,
        )
        found += [e.id for e in page.entries]
        cursor = page.next
        if not cursor:
            break
        if later < 130:
            put(some(later))
            later += 1
    assert len(found) == len(set(found))
    assert {f"{mark}-{i}" for i in range(count)} <= set(found)
