"""Built-in mappings: messages in the manner of many makers become valid resources that say what they said."""

from __future__ import annotations

import base64
import re
from collections import Counter

import pytest
from django.conf import settings

from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.mapping import Context, Manner, merge, samples, sheets
from lianxin.exchange.v2.mapping.mapping import Mapping
from tests.exchange.v2_mapping_world import HEAD, mapped, of, oru, said, sample

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", samples.built_in())
def test_every_sample_becomes_valid_resources(name):
    out = sample(name)
    assert out.resources
    assert (
        len({(r["resourceType"], r["id"]) for r in out.resources}) == len(out.resources) == len(out.manners)
    )
    assert out.warnings == [] or name == "gateway"


def test_every_mapping_has_a_sample_and_compiles_for_every_event():
    assert {s.mapping for s in samples.built_in().values()} == set(sheets.built_in())
    for (code, event), name in sheets.by_event().items():
        assert Mapping(name, (code, event), [], "t").rules


def test_a_chinese_laboratory_in_gb18030():
    out = sample("lis-chinese")
    by_code = {o["code"]["coding"][0]["code"]: o for o in of(out, "Observation")}
    alt = by_code["ALT"]
    assert alt["valueQuantity"] == {
        "value": 86,
        "unit": "U/L",
        "system": "http://unitsofmeasure.org",
        "code": "U/L",
    }
    assert alt["interpretation"][0]["coding"][0]["code"] == "H"
    assert (alt["referenceRange"][0]["low"]["value"], alt["referenceRange"][0]["high"]["value"]) == (9, 50)
    assert alt["code"]["text"] == "丙氨酸氨基转移酶"
    assert alt["performer"][0]["display"] == "张检验"
    assert by_code["TBIL"]["valueQuantity"]["code"] == "umol/L"
    assert by_code["TBIL"]["referenceRange"][0]["high"]["value"] == 20.5
    assert by_code["HBsAg"]["valueString"] == "阴性"
    assert by_code["GLU"]["valueQuantity"]["code"] == "mmol/L"  # sent as ST
    assert by_code["GLU"]["referenceRange"][0]["low"]["value"] == 3.9
    assert by_code["CRP"]["valueQuantity"]["comparator"] == "<"
    assert by_code["CRP"]["note"][0]["text"] == "标本轻度溶血"
    report = of(out, "DiagnosticReport")[0]
    assert report["status"] == "final"
    assert len(report["result"]) == 5
    assert report["category"][0]["coding"][0]["code"] == "LAB"
    assert [i["value"] for i in report["identifier"]] == ["SQ20260310001", "BG20260310001"]


def test_a_corrected_result_is_the_same_report_and_observation():
    first, then = sample("lis-chinese"), sample("lis-corrected")
    report, corrected = of(first, "DiagnosticReport")[0], of(then, "DiagnosticReport")[0]
    assert corrected["id"] == report["id"]
    assert corrected["status"] == "corrected"
    assert of(then, "Observation")[0]["id"] in {o["id"] for o in of(first, "Observation")}
    made = merge(report, corrected, then.manners[-1])
    assert made["status"] == "corrected"
    assert made["result"] == report["result"]  # the ones that were not sent again are still in the report


def test_one_number_used_for_another_patient_is_another_report():
    text = samples.built_in()["lis-chinese"].data()
    assert {r["id"] for r in mapped(text).resources}.isdisjoint(
        r["id"] for r in mapped(text, patient="Patient/p2").resources
    )
    assert {r["id"] for r in mapped(text).resources}.isdisjoint(
        r["id"] for r in mapped(text, context=Context(8, "H02")).resources
    )


def test_values_of_a_us_laboratory():
    out = sample("lab-us")
    values = [next((k, v) for k, v in o.items() if k.startswith("value")) for o in of(out, "Observation")]
    assert [k for k, _ in values] == [
        "valueQuantity", "valueQuantity", "valueRatio", "valueRange", "valueCodeableConcept", "valueDateTime", "valueTime",
    ]  # fmt: skip
    assert (values[1][1]["value"], values[1][1]["comparator"], values[1][1]["code"]) == (50, "<", "mg/dL")
    assert values[2][1] == {"numerator": {"value": 1}, "denominator": {"value": 128}}
    assert values[3][1]["high"]["code"] == "/[HPF]"
    assert values[4][1]["coding"][0] == {
        "system": "http://snomed.info/sct",
        "code": "371244009",
        "display": "Yellow",
    }
    assert values[6][1] == "07:30:00"
    report = of(out, "DiagnosticReport")[0]
    assert report["code"]["coding"][0]["system"] == "http://loinc.org"
    assert report["issued"] == "2026-02-11T13:45:00-05:00"
    assert report["identifier"][1]["system"] == "urn:oid:2.16.840.1.113883.19.3.1"
    assert report["specimen"] == [{"display": "Serum"}]


@pytest.mark.parametrize(
    ("obx", "key", "value"),
    [
        ("NM|X^X||阴性", "valueString", "阴性"),
        ("NM|X^X||1,234", "valueString", "1,234"),
        ("NM|X^X||.5", "valueQuantity", {"value": 0.5}),
        ("NM|X^X||≥100", "valueQuantity", {"value": 100, "comparator": ">="}),
        ("NM|X^X||5.6↑", "valueQuantity", {"value": 5.6}),
        ("|X^X||12", "valueQuantity", {"value": 12}),
        ("ST|X^X||007", "valueString", "007"),
        ("ST|X^X||1:320", "valueString", "1:320"),
        ("SN|X^X||>^200", "valueQuantity", {"value": 200, "comparator": ">"}),
        ("SN|X^X||^2^+", "valueString", "2+"),
        ("SN|X^X||abc", "valueString", "abc"),
        ("NR|X^X||1^9", "valueRange", {"low": {"value": 1}, "high": {"value": 9}}),
        ("TS|X^X||202603101530", "valueDateTime", "2026-03-10T15:30:00+08:00"),
        ("DT|X^X||not a day", "valueString", "not a day"),
        ("FT|X^X||one\\.br\\two", "valueString", "one\ntwo"),
        ("TX|X^X||one~two", "valueString", "one\ntwo"),
        ("XCN|X^X||7^ROE^RAY", "valueString", "RAY ROE"),
        ("ZZ|X^X||odd^thing", "valueString", "odd thing"),
        ("MO|X^X||12^USD", "valueString", "12 USD"),
        ("NM|X^X||1e400", "valueString", "1e400"),
        ("CE|X^X||^Only words", "valueCodeableConcept", {"text": "Only words"}),
    ],
)
def test_values_by_their_type(obx, key, value):
    made = of(mapped(oru(f"OBX|1|{obx}||||||F")), "Observation")[0]
    assert made[key] == value


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("UMOLL", "umol/L"), ("10^9/L", "10*9/L"), ("x10\\S\\9/L", "10*9/L"), ("×10^12/L", "10*12/L"), ("mmol/l", "mmol/L"),
        ("MMOL/L", "mmol/L"), ("K/uL", "10*3/uL"), ("IU/mL", "[IU]/mL"), ("次/分", "/min"), ("％", "%"), ("℃", "Cel"),
        ("mL/min/1.73m2", "mL/min/{1.73_m2}"), ("sec", "s"), ("mg/dL^milligram per deciliter^UCUM", "mg/dL"),
        ("264864^MDC_DIM_BEAT_PER_MIN^MDC", "{beats}/min"), ("Ｕ／Ｌ", "U/L"),
    ],
)  # fmt: skip
def test_units_of_vendors_in_ucum(sent, code):
    made = of(mapped(oru(f"OBX|1|NM|X^X||5|{sent}|||||F")), "Observation")[0]
    assert made["valueQuantity"]["code"] == code


def test_a_unit_nobody_knows_is_kept_as_text_and_told():
    out = mapped(oru("OBX|1|NM|X^X||5|glorks|||||F"))
    assert of(out, "Observation")[0]["valueQuantity"] == {"value": 5, "unit": "glorks"}
    assert "glorks" in said(out)


@pytest.mark.parametrize(
    ("sent", "low", "high"),
    [("3.5-5.5", 3.5, 5.5), ("3.5--5.5", 3.5, 5.5), ("3.5～5.5", 3.5, 5.5), ("3.5~5.5", 3.5, 5.5), ("49 - 92", 49, 92), ("<5.0", None, 5.0),
     (">=60", 60, None), ("-2.0-2.0", -2.0, 2.0), ("9-50 U/L", 9, 50), ("阴性", None, None), ("男:13-17;女:12-16", None, None), ("9-2", None, None)],
)  # fmt: skip
def test_ranges_as_they_are_written(sent, low, high):
    made = of(mapped(oru(f"OBX|1|NM|X^X||5|mmol/L|{sent}||||F")), "Observation")[0]["referenceRange"][0]
    assert (made.get("low", {}).get("value"), made.get("high", {}).get("value")) == (low, high)
    assert made["text"] == sent


@pytest.mark.parametrize(
    ("obr25", "obx11", "report", "result"),
    [("F", "F", "final", "final"), ("P", "P", "preliminary", "preliminary"), ("C", "C", "corrected", "corrected"),
     ("X", "X", "cancelled", "cancelled"), ("F", "D", "final", "entered-in-error"), ("F", "W", "final", "entered-in-error"),
     ("", "F", "final", "final"), ("", "P", "preliminary", "preliminary"), ("F", "", "final", "final"), ("", "", "unknown", "unknown"),
     ("A", "F", "partial", "final"), ("?", "F", "final", "final"), ("F", "?", "final", "final")],
)  # fmt: skip
def test_status_of_report_and_result(obr25, obx11, report, result):
    out = mapped(
        oru(f"OBX|1|NM|X^X||5||||||{obx11}", obr=f"OBR|1|P|F|T^Test|||20260310||||||||||||||||||{obr25}")
    )
    assert of(out, "DiagnosticReport")[0]["status"] == report
    assert of(out, "Observation")[0]["status"] == result
    if "?" in (obr25, obx11):
        assert "“?” is not in the table" in said(out)


def test_what_is_not_there_says_why():
    out = mapped(oru("OBX|1|NM|X^X||||||||I", "OBX|2|NM|Y^Y||||||||X"))
    first, second = of(out, "Observation")
    assert first["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown"
    assert second["status"] == "cancelled"
    assert "dataAbsentReason" not in second
    later = mapped(oru("OBX|1|NM|X^X||5||||||F"))
    made = merge(first, of(later, "Observation")[0], later.manners[0])
    assert made["valueQuantity"]["value"] == 5
    assert "dataAbsentReason" not in made


def test_a_corrected_value_of_another_type_takes_the_place_of_the_first():
    first, later = mapped(oru("OBX|1|ST|X^X||pending||||||P")), mapped(oru("OBX|1|NM|X^X||5||||||F"))
    made = merge(of(first, "Observation")[0], of(later, "Observation")[0], later.manners[0])
    assert "valueString" not in made
    assert made["status"] == "final"


def test_many_lines_of_a_radiology_report_are_one_text():
    out = sample("radiology")
    texts = [o["valueString"] for o in of(out, "Observation")]
    assert texts[0].splitlines() == [
        "CHEST, TWO VIEWS:", "", "The heart is normal in size. No infiltrate", "or effusion & no nodule.",
    ]  # fmt: skip
    report = of(out, "DiagnosticReport")[0]
    assert report["conclusion"] == "IMPRESSION: No acute disease."
    assert report["resultsInterpreter"][0]["display"] == "RAE READER"
    assert of(out, "Encounter")[0]["status"] == "unknown"
    assert out.manners[out.resources.index(of(out, "Encounter")[0])].mode == "once"


def test_a_pdf_inside_is_presented_and_named_by_its_own_bytes():
    report = of(sample("pdf-report"), "DiagnosticReport")[0]
    form = report["presentedForm"][0]
    assert form["contentType"] == "application/pdf"
    assert base64.b64decode(form["data"]).startswith(b"%PDF-")
    assert report["conclusion"].splitlines() == ["1.窦性心律", "2.T波改变"]
    odd = mapped(oru("OBX|1|ED|X^X||^APPLICATION^PDF^Base64^not base64!!||||||F", "OBX|2|NM|Y^Y||1||||||F"))
    assert "presentedForm" not in of(odd, "DiagnosticReport")[0]
    assert "cannot be decoded" in said(odd)


def test_a_gateway_without_orders_is_known_by_test_and_time():
    one, two = sample("gateway"), sample("gateway")
    assert [r["id"] for r in one.resources] == [r["id"] for r in two.resources]
    first = of(one, "Observation")[0]
    assert first["status"] == "preliminary"
    assert first["device"]["display"] == "MON-17"
    later = samples.built_in()["gateway"].text.replace("20260310120000", "20260310120100")
    assert {o["id"] for o in of(mapped(later), "Observation")}.isdisjoint(
        o["id"] for o in of(one, "Observation")
    )


def test_delimiters_of_its_own():
    out = sample("unusual-marks")
    first, second = of(out, "Observation")
    assert first["valueQuantity"] == {
        "value": 101,
        "unit": "MG/DL",
        "system": "http://unitsofmeasure.org",
        "code": "mg/dL",
    }
    assert second["valueString"] == "a#b 100%"


def test_results_without_any_number_are_kept_by_the_message():
    out = mapped(oru("OBX|1|NM|||5||||||F", obr="OBR|1|||X^Test"))
    assert of(out, "Observation")[0]["code"]["text"] == "Test"
    assert of(out, "DiagnosticReport")


def test_an_observation_of_nothing_is_refused_at_its_place():
    with pytest.raises(Refused) as refused:
        mapped(oru("OBX|1|NM|X^X||5||||||F", "OBX|2|NM|||7||||||F", obr="OBR|1|P|F"))
    assert str(refused.value.place) == "OBX-3"
    assert refused.value.place.number == 2


def test_two_patients_in_one_message_are_refused():
    with pytest.raises(Refused) as refused:
        mapped(oru("OBX|1|NM|X^X||5||||||F", "PID|2||B2", "OBR|2||F2|Y^Y", "OBX|1|NM|X^X||9||||||F"))
    assert (refused.value.place.segment, refused.value.place.number) == ("PID", 2)


def test_what_is_not_mapped_is_told():
    out = mapped(oru("OBX|1|NM|X^X||5||||||F", "ZBX|1|own thing", "ZBX|2|more"))
    assert "The segment ZBX (2) is not mapped" in said(out)
    odd = mapped(HEAD.format(kind="ORM^O01") + "ORC|NW|P1|||||||||||||||||||||||||||||X\nOBR|1|P1||T^Test")
    assert said(odd) == "" or "Not mapped" in said(odd)


def test_times_that_are_none_are_left_out_and_told():
    obr = "OBR|1|P|F|T^Test|||20261345|||||||||||||||20260310101000||CH|F"
    out = mapped(oru("OBX|1|NM|X^X||5||||||F|||00000000", obr=obr))
    assert "effectiveDateTime" not in of(out, "Observation")[0]
    assert "20261345" in said(out)


def test_the_same_test_twice_in_one_report_is_two_observations():
    out = mapped(oru("OBX|1|NM|X^X||5||||||F", "OBX|2|NM|X^X||6||||||F"))
    assert len({o["id"] for o in of(out, "Observation")}) == 2


def test_a_visit_from_admission_to_discharge_and_back():
    bodies = {}
    for name in ("his-admit", "his-transfer", "his-discharge", "his-undischarge"):
        out = sample(name)
        visit = of(out, "Encounter")[0]
        manner = out.manners[out.resources.index(visit)]
        assert manner.mode == "merge"
        bodies[visit["id"]] = merge(bodies[visit["id"]], visit, manner) if visit["id"] in bodies else visit
        held = bodies[visit["id"]]
        assert held["status"] == {"his-discharge": "finished"}.get(name, "in-progress")
        assert held["period"]["start"] == "2026-03-10T08:55:00+08:00"
        assert ("end" in held["period"]) == (name == "his-discharge")
        assert ("hospitalization" in held) == (name == "his-discharge")
        assert held["location"][0]["location"]["display"].count("心内科病区") == (name != "his-admit")
    assert len(bodies) == 1


@pytest.mark.parametrize(
    ("event", "status"),
    [("A01", "in-progress"), ("A04", "in-progress"), ("A05", "planned"), ("A11", "cancelled"), ("A12", "in-progress"), ("A38", "cancelled"),
     ("A21", "onleave"), ("A23", "entered-in-error")],
)  # fmt: skip
def test_status_of_a_visit_by_its_event(event, status):
    out = mapped(HEAD.format(kind=f"ADT^{event}") + "PV1|1|I|W1||||||||||||||||V1")
    assert of(out, "Encounter")[0]["status"] == status


def test_news_of_a_visit_do_not_open_it_again():
    held = of(
        mapped(HEAD.format(kind="ADT^A03") + "PV1|1|I|W1||||||||||||||||V1" + "|" * 26 + "20260311"),
        "Encounter",
    )[0]
    assert held["status"] == "finished"
    out = mapped(HEAD.format(kind="ADT^A08") + "PV1|1|I|W2||||||||||||||||V1")
    made = merge(held, out.resources[0], out.manners[0])
    assert made["status"] == "finished"
    assert made["location"][0]["location"]["display"] == "W2"


def test_an_admission_brings_allergies_diagnoses_and_insurance():
    out = sample("epic-admit")
    assert [a["criticality"] for a in of(out, "AllergyIntolerance")] == ["high", "low"]
    assert of(out, "AllergyIntolerance")[0]["category"] == ["medication"]
    first, second = of(out, "Condition")
    assert first["code"]["coding"][0] == {
        "system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "I20.0", "display": "Unstable angina",
    }  # fmt: skip
    assert second["verificationStatus"]["coding"][0]["code"] == "provisional"
    cover = of(out, "Coverage")[0]
    assert (cover["subscriberId"], cover["payor"][0]["display"]) == ("POL-123456", "BLUE SAMPLE PLAN")
    roles = {p["type"][0]["coding"][0]["code"] for p in of(out, "Encounter")[0]["participant"]}
    assert roles == {"ATND", "REF", "CON", "ADM"}


def test_words_of_three_capitals_stand_for_themselves():
    out = mapped(HEAD.format(kind="ADT^A01") + "PV1|1|?|W1||||||||||||||||V1")
    assert of(out, "Encounter")[0]["class"]["code"] == "UNK"
    assert "patient-class" in said(out)


def test_what_would_not_be_valid_is_left_out_and_told():
    visit = "PV1|1|I|W1||||||||||||||||V1" + "|" * 25 + "20260310|20260301"
    out = mapped(HEAD.format(kind="ADT^A03") + visit)
    assert of(out, "Encounter")[0]["period"] == {"start": "2026-03-10"}
    assert "PV1-45" in said(out)
    text = samples.built_in()["vaccination"].text.replace("|0.5|mL", "|<5|mL", 1)
    assert "is no amount" in said(mapped(text))
    odd = mapped(oru("OBX|1|ED|X^X||^^^Base64^" + base64.b64encode(b"odd").decode() + "||||||F"))
    assert of(odd, "DiagnosticReport")[0]["presentedForm"][0]["contentType"] == "application/octet-stream"
    blank = mapped(oru("OBX|1|TX|X^X|| ||||||F", "OBX|2|TX|X^X||text||||||F"))
    assert of(blank, "Observation")[0]["valueString"] == "text"


def test_person_level_events_make_no_visit():
    out = mapped(HEAD.format(kind="ADT^A31") + "PV1|1|N\nAL1|1|DA|^Penicillin")
    assert [r["resourceType"] for r in out.resources] == ["AllergyIntolerance"]


def test_orders_and_their_cancelling():
    made = of(sample("order-lab"), "ServiceRequest")[0]
    assert (made["status"], made["priority"], made["specimen"]) == ("active", "urgent", [{"display": "血清"}])
    assert made["reasonCode"][0]["coding"][0]["code"] == "K76.0"
    assert made["note"] == [{"text": "餐后不适"}]
    assert made["requester"]["display"] == "王医生"
    assert made["encounter"] == {"reference": f"Encounter/{of(sample('order-lab'), 'Encounter')[0]['id']}"}
    assert of(sample("order-cancelled"), "ServiceRequest")[0]["status"] == "revoked"
    text = samples.built_in()["order-lab"].text
    again = of(mapped(text.replace("ORC|NW", "ORC|CA")), "ServiceRequest")[0]
    assert (again["id"], again["status"]) == (made["id"], "revoked")


def test_an_appointment_and_its_cancelling():
    made, off = of(sample("appointment"), "Appointment")[0], of(sample("appointment-off"), "Appointment")[0]
    assert made["id"] == off["id"]
    assert (made["status"], off["status"]) == ("booked", "cancelled")
    assert (made["start"], made["end"]) == ("2026-03-20T09:30:00+08:00", "2026-03-20T10:00:00+08:00")
    assert (off["start"], off["end"]) == (made["start"], made["end"])  # from AIS
    assert off["cancelationReason"]["text"] == "患者要求"
    assert [p["actor"].get("display") for p in made["participant"]] == [
        None,
        "王医生",
        "王医生",
        "门诊楼 305",
    ]
    assert made["participant"][0]["actor"] == {"reference": "Patient/p1"}
    bare = mapped(HEAD.format(kind="SIU^S15") + "SCH|YY1|YY1")
    assert of(bare, "Appointment")[0]["status"] == "cancelled"
    timed = mapped(HEAD.format(kind="SIU^S12") + "SCH|YY1|YY1|||||||15|min\nTQ1|1||||||20260320093000+0800")
    assert of(timed, "Appointment")[0]["end"] == "2026-03-20T09:45:00+08:00"
    with pytest.raises(Refused) as refused:
        mapped(HEAD.format(kind="SIU^S12") + "SCH|1|1")
    assert refused.value.place.segment == "SCH"


def test_documents_their_text_and_their_replacement():
    first, second = (
        of(sample("document"), "DocumentReference")[0],
        of(sample("document-replaced"), "DocumentReference")[0],
    )
    text = base64.b64decode(first["content"][0]["attachment"]["data"]).decode()
    assert text == "患者因“头晕三天”入院。\n予降压治疗后好转出院。"
    assert (first["docStatus"], first["masterIdentifier"]["value"]) == ("final", "WS20260315001")
    assert second["relatesTo"][0]["code"] == "replaces"
    assert second["relatesTo"][0]["target"]["identifier"]["value"] == "WS20260315001"
    assert second["content"][0]["attachment"]["contentType"] == "application/pdf"
    empty = mapped(HEAD.format(kind="MDM^T11") + "TXA|1|DS|||||||||D77")
    assert of(empty, "DocumentReference")[0]["status"] == "entered-in-error"


def test_medicines_prescribed_given_and_handed_out():
    made = of(sample("prescription"), "MedicationRequest")[0]
    dose = made["dosageInstruction"][0]
    assert dose["doseAndRate"][0]["doseQuantity"]["code"] == "mg"
    assert (dose["text"], dose["timing"]["code"]["text"], dose["route"]["text"]) == (
        "每日两次，餐后服",
        "BID",
        "口服",
    )
    assert made["dispenseRequest"]["quantity"]["value"] == 14
    assert "5%葡萄糖注射液" in made["note"][0]["text"]
    given = of(sample("given"), "MedicationAdministration")[0]
    assert (given["status"], given["effectivePeriod"]["end"]) == ("completed", "2026-03-10T14:20:00+08:00")
    assert of(sample("dispensed"), "MedicationDispense")[0]["quantity"]["value"] == 14


def test_vaccinations_done_and_refused():
    done, refused = of(sample("vaccination"), "Immunization")
    assert (done["status"], done["lotNumber"], done["expirationDate"], done["primarySource"]) == (
        "completed", "Z0860BB", "2026-11-04", True,
    )  # fmt: skip
    assert done["vaccineCode"]["coding"][0] == {
        "system": "http://hl7.org/fhir/sid/cvx", "code": "140", "display": "Influenza, seasonal, injectable, preservative free",
    }  # fmt: skip
    assert "VFC eligible" in done["note"][0]["text"]
    assert (refused["status"], refused["statusReason"]["text"]) == ("not-done", "Parental decision")
    assert "doseQuantity" not in refused


def test_a_referral_and_its_answer():
    out = sample("referral")
    made = of(out, "ServiceRequest")[0]
    assert (made["status"], made["priority"]) == ("draft", "stat")
    assert made["requester"]["display"] == "李全科"
    assert made["performer"][0]["display"] == "县医院心内科"
    assert made["reasonReference"] == [{"reference": f"Condition/{of(out, 'Condition')[0]['id']}"}]
    assert of(out, "Observation")[0]["valueQuantity"]["code"] == "mm[Hg]"
    assert of(sample("referral-answer"), "ServiceRequest")[0]["status"] == "active"


def test_a_letter_inside_a_referral_is_a_document_wherever_its_parts_stand():
    data = base64.b64encode(b"%PDF-1.4 letter").decode()
    sent = (
        "MSH|^~\\&|GP|V2-A|LX|LX|20260301080000||REF^I12|9|P|2.3.1\rPID|1||A1||欧阳明月||19690517|M\rPRD|RP|某医生\r"
        f"ORC|RE|O1\rOBR|1|O1||REF^转诊信\rOBX|1|ED|PDF^转诊信||^application/pdf^Base64^{data}||||||F"
    )
    made = of(mapped(sent.encode()), "DocumentReference")[0]
    attached = made["content"][0]["attachment"]
    assert (attached["contentType"], base64.b64decode(attached["data"])) == (
        "application/pdf",
        b"%PDF-1.4 letter",
    )


def test_merging_leaves_what_was_not_said():
    old = {
        "resourceType": "Encounter",
        "id": "a",
        "meta": {"versionId": "2"},
        "period": {"start": "2026", "end": "2027"},
        "class": {"code": "IMP"},
    }
    new = {"resourceType": "Encounter", "id": "a", "status": "finished", "period": {"end": "2028"}}
    assert merge(old, new, Manner("merge")) == {
        "resourceType": "Encounter", "id": "a", "status": "finished", "period": {"start": "2026", "end": "2028"}, "class": {"code": "IMP"},
    }  # fmt: skip
    assert merge(old, new, Manner("merge", remove=("period.end", "period.start", "class")))["period"] == {
        "end": "2028"
    }
    assert merge(old, new, Manner("replace")) is new
    assert merge(old, new, Manner("once")) is old


@pytest.mark.shared
@pytest.mark.skipif(not settings.SHARED.exists(), reason="the shared data folder is not here")
def test_the_messages_of_a_simulated_hospital():
    """Every result, admission and document of the 1,013 messages becomes valid resources; what joins patients is another's to take."""
    data = (settings.SHARED / "data/hl7v2/simhospital-messages.hl7").read_bytes()
    made: Counter[str] = Counter()
    for one in re.split(rb"\r?\n\r?\n", data):
        if not one.strip() or b"|ADT^A34|" in one:
            continue
        out = mapped(one)
        assert out.resources
        made.update(f"{one[:100].split(b'|')[8].decode()} {r['resourceType']}" for r in out.resources)
    assert made["ORU^R01 DiagnosticReport"] == 610
    assert made["ORU^R01 Observation"] == 3323
    assert made["MDM^T02 DocumentReference"] == 2
    assert made["ADT^A01 Encounter"] == 400
    assert made["ADT^A01 AllergyIntolerance"] == 162
