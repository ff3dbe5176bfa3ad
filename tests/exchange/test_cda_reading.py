"""What is read of a document: header, sections, statements, values of every type, and what nobody knows."""

from __future__ import annotations

import json

import pytest

from lianxin.exchange.cda import elements, kinds, mapping, reading, values
from lianxin.exchange.cda.model import Code, Document, Value
from lianxin.record import validate

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:sdtc="urn:hl7-org:sdtc" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<realmCode code="CN"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_MT000040"/><templateId root="2.16.156.10011.2.1.1.69"/>
<id root="2.16.156.10011.1.1" extension="RN9"/><code code="C0049" codeSystem="2.16.156.10011.2.4"/><title>出院记录</title>
<effectiveTime value="20260105093000"/><confidentialityCode code="R" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="zh-CN"/>
<setId root="1.2.156.77" extension="S9"/><versionNumber value="2"/>
<recordTarget><patientRole><id root="2.16.156.10011.1.12" extension="ZY100"/><id root="2.16.156.10011.1.19" extension="KA1"/>
<addr use="H"><houseNumber>5号</houseNumber><streetName>中山路</streetName><county>天台县</county><city>台州市</city><state>浙江省</state></addr>
<telecom value="tel:13800000000"/><patientType><patienttypeCode code="3" codeSystem="2.16.156.10011.2.3.1.271" displayName="住院"/></patientType>
<patient><id root="2.16.156.10011.1.3" extension="11010519491231002X"/><name>样例丙</name>
<administrativeGenderCode code="2" codeSystem="2.16.156.10011.2.3.3.4"/><birthTime value="19491231"/>
<maritalStatusCode code="20" codeSystem="2.16.156.10011.2.3.3.5" displayName="已婚"/><ethnicGroupCode code="01" displayName="汉族"/>
<age value="76" unit="岁"/><employerOrganization><name>样例厂</name></employerOrganization>
<occupation><occupationCode code="80" displayName="退休"/></occupation></patient></patientRole></recordTarget>
<author><time value="20260105"/><assignedAuthor><id root="2.16.156.10011.1.7" extension="D1"/><assignedPerson><name>样例医生</name></assignedPerson></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><id root="2.16.156.10011.1.5" extension="H1"/><name>样例医院</name></representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><time value="20260105"/><signatureCode/><assignedEntity><id/><code displayName="主任医师"/><assignedPerson><name>样例主任</name></assignedPerson></assignedEntity></legalAuthenticator>
<authenticator><time/><signatureCode/><assignedEntity><id/><code displayName="住院医师"/><assignedPerson><name>样例住院</name></assignedPerson></assignedEntity></authenticator>
<participant typeCode="NOT"><associatedEntity classCode="ECON"><code code="1"/><telecom value="139"/><associatedPerson><name>样例亲属</name></associatedPerson></associatedEntity></participant>
<relatedDocument typeCode="RPLC"><parentDocument><id root="2.16.156.10011.1.1" extension="RN8"/><setId/><versionNumber/></parentDocument></relatedDocument>
<componentOf><encompassingEncounter><effectiveTime><low value="202601010800"/><high value="202601041000"/></effectiveTime><location><healthCareFacility><serviceProviderOrganization>
<asOrganizationPartOf><wholeOrganization><id root="2.16.156.10011.1.22" extension="12床"/><asOrganizationPartOf><wholeOrganization><id root="2.16.156.10011.1.26" extension="K1"/><name>内科</name>
<asOrganizationPartOf><wholeOrganization><name>样例医院</name></wholeOrganization></asOrganizationPartOf></wholeOrganization></asOrganizationPartOf></wholeOrganization></asOrganizationPartOf>
</serviceProviderOrganization></healthCareFacility></location></encompassingEncounter></componentOf>
<vendorStamp><batch>B7</batch></vendorStamp>
<component><structuredBody>"""
TAIL = "</structuredBody></component></ClinicalDocument>"
CONTEXT = mapping.Context("7", "Organization/o1")


def document(*sections: str) -> Document:
    """A discharge record with these sections."""
    return reading.read((HEAD + "".join(f"<component>{s}</component>" for s in sections) + TAIL).encode())


def section(body: str, code: str = "11535-2", name: str = "Discharge Diagnosis") -> str:
    """A section with a LOINC code."""
    return f'<section><code code="{code}" codeSystem="2.16.840.1.113883.6.1" displayName="{name}"/><text/>{body}</section>'


def observation(code: str, value: str, more: str = "") -> str:
    """An entry with one observation."""
    return f'<entry><observation classCode="OBS" moodCode="EVN"><code {code}/>{value}{more}</observation></entry>'


def mapped(*sections: str) -> list[dict]:
    """What a document with these sections becomes; all of it valid R4."""
    found = mapping.resources(document(*sections), "Patient/p1", CONTEXT).resources
    for one in found:
        validate.read(json.dumps(one).encode())
    return found


def of(found: list[dict], rtype: str) -> list[dict]:
    """Those of a type."""
    return [one for one in found if one["resourceType"] == rtype]


def test_header() -> None:
    d = document()
    p = d.patient
    assert (d.kind.number, str(d.id), d.key, d.version) == (
        "500.49",
        "2.16.156.10011.1.1^RN9",
        "1.2.156.77^S9",
        "2",
    )
    assert (p.resident_id, p.card, p.name, p.sex.code, p.birth) == (
        "11010519491231002X",
        "KA1",
        "样例丙",
        "2",
        "19491231",
    )
    assert p.addresses == ["浙江省台州市天台县中山路5号"]
    assert (p.phones, p.marital.code, p.ethnic.display, p.employer, p.occupation.code) == (
        ["13800000000"],
        "20",
        "汉族",
        "样例厂",
        "80",
    )
    assert (p.kind.display, p.age.text) == ("住院", "76")
    assert d.legal
    assert (d.legal.name, d.legal.function.label) == ("样例主任", "主任医师")
    assert [a.name for a in d.authenticators] == ["样例住院"]
    assert [(r.type, r.id.extension) for r in d.related] == [("RPLC", "RN8")]
    assert d.encounter
    assert [o.name or o.ids[0].extension for o in d.encounter.location.chain()] == [
        "12床",
        "内科",
        "样例医院",
    ]
    assert ("vendorStamp/batch", "B7") in d.rest


def test_header_as_fhir() -> None:
    found = mapped(section(observation('code="DE06.00.193.00"', '<value xsi:type="ST">好转</value>')))
    composition, stay = found[0], of(found, "Encounter")[0]
    assert composition["status"] == "amended"
    assert composition["confidentiality"] == "R"
    assert composition["relatesTo"][0]["targetIdentifier"]["value"] == "RN8"
    assert [a["mode"] for a in composition["attester"]] == ["legal", "professional"]
    assert "B7" in composition["section"][-1]["text"]["div"], "what nobody knows is kept as text"
    assert stay["class"]["code"] == "IMP"
    assert stay["period"] == {"start": "2026-01-01T08:00:00+08:00", "end": "2026-01-04T10:00:00+08:00"}
    assert stay["location"][0]["location"]["display"] == "样例医院/内科/12床"


def test_values_of_every_type() -> None:
    rows = [
        ('xsi:type="PQ" value="36.5" unit="℃"', "valueQuantity", {"value": 36.5, "unit": "℃", "system": "http://unitsofmeasure.org", "code": "Cel"}),
        ('xsi:type="PQ" value="&lt;0.5" unit="mg/L"', "valueQuantity", {"comparator": "<", "value": 0.5, "unit": "mg/L", "system": "http://unitsofmeasure.org", "code": "mg/L"}),
        ('xsi:type="PQ" value="120/80" unit="mmHg"', "valueString", "120/80 mmHg"),
        ('xsi:type="hl7:INT" value="3"', "valueInteger", 3),
        ('xsi:type="REAL" value="1.50"', "valueQuantity", {"value": 1.5}),
        ('xsi:type="BL" value="是"', "valueBoolean", True),
        ('xsi:type="TS" value="2026-01-02 08:30:00"', "valueDateTime", "2026-01-02T08:30:00+08:00"),
        ('xsi:type="TS" value="202601"', "valueDateTime", "2026-01"),
        ('xsi:type="TS" value="20261301"', "valueString", "20261301"),
        ('xsi:type="MO" value="12.5" currency="元"', "valueQuantity", {"value": 12.5, "unit": "元", "system": "urn:iso:std:iso:4217", "code": "CNY"}),
        ('xsi:type="ST" value="文字"', "valueString", "文字"),
        ('code="1" codeSystem="2.16.156.10011.2.3.2.39" displayName="初诊"', "valueCodeableConcept",
         {"coding": [{"system": "urn:oid:2.16.156.10011.2.3.2.39", "code": "1", "display": "初诊"}], "text": "初诊"}),
    ]  # fmt: skip
    for n, (attributes, name, wanted) in enumerate(rows):
        found = mapped(
            section(observation(f'code="X{n}" codeSystem="1.2.3"', f"<value {attributes}/>"), "1-1", "X")
        )
        assert of(found, "Observation")[0][name] == wanted, attributes


def test_intervals_ratios_and_reasons() -> None:
    inner = {
        "valueRange": '<value xsi:type="IVL_PQ"><low value="3" unit="mmol/L"/><high value="6" unit="mmol/L"/></value>',
        "valuePeriod": '<value xsi:type="IVL_TS"><low value="20260101"/><high value="20260103"/></value>',
        "valueRatio": '<value xsi:type="RTO_PQ_PQ"><numerator value="1"/><denominator value="128"/></value>',
        "dataAbsentReason": '<value xsi:type="ST" nullFlavor="ASKU"/>',
        "valueString": '<value xsi:type="II" root="1.2.3" extension="7"/>',
    }
    for name, value in inner.items():
        one = of(
            mapped(section(observation('code="X" codeSystem="1.2.3"', value), "1-1", "X")), "Observation"
        )[0]
        assert name in one
        back = values.value_of(one)
        assert back is not None
        assert back.null == ("ASKU" if name == "dataAbsentReason" else "")
    bound = '<value xsi:type="IVL_PQ"><high value="0.5" unit="mg/L" inclusive="false"/></value>'
    one = of(mapped(section(observation('code="X" codeSystem="1.2.3"', bound), "1-1", "X")), "Observation")[0]
    assert one["valueQuantity"]["comparator"] == "<"


def test_diagnosis_name_and_code_are_one_condition() -> None:
    name = observation(
        'code="DE05.01.025.00" displayName="出院诊断-西医诊断名称"', '<value xsi:type="ST">肺炎</value>'
    )
    code = observation(
        'code="DE05.01.024.00" displayName="出院诊断-西医诊断编码"',
        '<value xsi:type="CD" code="J18.900" codeSystem="2.16.156.10011.2.3.3.11.3"/>',
    )
    admitted = observation(
        'code="DE05.01.024.00" displayName="入院诊断编码"',
        '<value xsi:type="CD" code="R05" codeSystem="2.16.156.10011.2.3.3.11.3"/>',
    )
    found = of(mapped(section(admitted + name + code)), "Condition")
    assert [(c["code"].get("text"), c["code"]["coding"][0]["system"], c["code"]["coding"][0]["code"]) for c in found] == [
        (None, "http://hl7.org/fhir/sid/icd-10", "R05"), ("肺炎", "http://hl7.org/fhir/sid/icd-10", "J18.900"),
    ]  # fmt: skip


def test_chinese_diagnoses_keep_sickness_and_pattern_apart() -> None:
    rows = [("DE05.10.172.00", "中药病名名称", "ST", "咳嗽"), ("DE05.10.130.00", "中医病名代码", "CD", "BNF010"),
            ("DE05.10.172.00", "中药证候名称", "ST", "风寒"), ("DE05.10.130.00", "中医证候代码", "CD", "BWF030")]  # fmt: skip
    body = "".join(
        observation(f'code="{e}" displayName="出院诊断-{n}"',
                    f'<value xsi:type="CD" code="{v}" codeSystem="2.16.156.10011.2.3.3.14"/>' if t == "CD" else f'<value xsi:type="ST">{v}</value>')
        for e, n, t, v in rows
    )  # fmt: skip
    found = of(mapped(section(body)), "Condition")
    assert [(c["code"].get("text"), c["code"].get("coding", [{}])[0].get("code")) for c in found] == [
        ("咳嗽", "BNF010"),
        ("风寒", "BWF030"),
    ]


def test_blood_pressure_under_a_local_name() -> None:
    body = observation(
        'code="SBP" codeSystem="9.9" displayName="收缩压(mmHg)"', '<value xsi:type="PQ" value="142"/>'
    )
    body += observation(
        'code="DBP" codeSystem="9.9" displayName="舒张压"', '<value xsi:type="PQ" value="91"/>'
    )
    one = of(mapped(section(body, "8716-3", "VITAL SIGNS")), "Observation")[0]
    assert one["code"]["coding"][0]["code"] == "85354-9"
    systolic = one["component"][0]
    assert [c["code"] for c in systolic["code"]["coding"]] == ["8480-6", "DE04.10.174.00", "SBP"]
    assert systolic["valueQuantity"] == {
        "value": 142,
        "unit": "mmHg",
        "system": "http://unitsofmeasure.org",
        "code": "mm[Hg]",
    }


def test_a_weight_before_pregnancy_is_not_the_weight() -> None:
    body = observation(
        'code="DE04.10.188.00" displayName="孕前体重(kg)"', '<value xsi:type="PQ" value="52" unit="kg"/>'
    )
    one = of(mapped(section(body, "8716-3", "VITAL SIGNS")), "Observation")[0]
    assert [c["code"] for c in one["code"]["coding"]] == ["DE04.10.188.00"]


def test_drug_with_dose_route_and_frequency() -> None:
    drug = """<entry><substanceAdministration classCode="SBADM" moodCode="EVN"><text/><routeCode code="1" codeSystem="2.16.156.10011.2.3.1.158" displayName="口服"/>
    <doseQuantity value="0.5" unit="g"/><rateQuantity value="3" unit="次/日"/><administrationUnitCode code="01" displayName="片剂" codeSystem="2.16.156.10011.2.3.1.211"/>
    <consumable><manufacturedProduct><manufacturedLabeledDrug><code/><name>阿莫西林</name></manufacturedLabeledDrug></manufacturedProduct></consumable>
    <entryRelationship typeCode="COMP"><observation classCode="OBS" moodCode="EVN"><code code="DE08.50.043.00" displayName="药物规格"/><value xsi:type="ST">0.25g*24</value></observation></entryRelationship>
    </substanceAdministration></entry>"""
    text = (
        HEAD + f"<component>{section(drug, '10160-0', 'HISTORY OF MEDICATION USE')}</component>" + TAIL
    ).replace("2.16.156.10011.2.1.1.69", "2.16.156.10011.2.1.1.24")
    found = mapping.resources(reading.read(text.encode()), "Patient/p1", CONTEXT).resources
    one = of(found, "MedicationRequest")[0]
    dosage = one["dosageInstruction"][0]
    assert one["medicationCodeableConcept"]["text"] == "阿莫西林"
    assert dosage["timing"]["repeat"] == {"frequency": 3, "period": 1, "periodUnit": "d"}
    assert dosage["doseAndRate"][0]["doseQuantity"]["value"] == 0.5
    assert dosage["route"]["coding"][0]["code"] == "1"
    companion = next(o for o in of(found, "Observation") if o.get("focus"))
    assert companion["focus"] == [{"reference": f"MedicationRequest/{one['id']}"}]
    assert companion["component"][0]["valueString"] == "0.25g*24"


def test_allergen_in_a_participant_and_none() -> None:
    def flagged(words: str) -> str:
        inner = f'<participant typeCode="CSM"><partivipantRole classCode="MANU"><playingEntity classCode="MMAT"><code code="DE02.10.022.00" displayName="过敏药物"/><desc xsi:type="ST">{words}</desc></playingEntity></partivipantRole></participant>'
        return section(
            observation(
                'code="DE02.10.023.00" displayName="过敏史标志"', '<value xsi:type="BL" value="true"/>', inner
            ),
            "48765-2",
            "Allergies",
        )

    assert of(mapped(flagged("青霉素")), "AllergyIntolerance")[0]["code"]["text"] == "青霉素"
    denied = mapped(flagged("否认"))
    assert not of(denied, "AllergyIntolerance")
    assert any(o.get("valueString") == "否认" for o in of(denied, "Observation"))


def test_laboratory_item_in_parts_is_one_observation() -> None:
    body = observation('code="DE04.30.019.00" displayName="检验项目代码"', '<value xsi:type="ST">2823-3</value>',
                       '<entryRelationship typeCode="COMP"><observation classCode="OBS" moodCode="EVN"><code code="DE04.50.134.00" displayName="标本类别"/><value xsi:type="ST">血清</value></observation></entryRelationship>')  # fmt: skip
    body += observation('code="DE04.30.015.00" displayName="检验定量结果"', '<value xsi:type="REAL" value="4.1"/>',
                        '<entryRelationship typeCode="COMP"><observation classCode="OBS" moodCode="EVN"><code code="DE04.30.016.00" displayName="计量单位"/><value xsi:type="ST">mmol/L</value></observation></entryRelationship>')  # fmt: skip
    found = of(mapped(section(body, "30954-2", "STUDIES SUMMARY")), "Observation")
    assert len(found) == 1
    assert found[0]["valueQuantity"] == {
        "value": 4.1,
        "unit": "mmol/L",
        "system": "http://unitsofmeasure.org",
        "code": "mmol/L",
    }
    assert found[0]["code"]["coding"][0]["code"] == "2823-3"
    assert found[0]["component"][0]["valueString"] == "血清"


def test_unknown_sections_entries_and_elements_are_kept() -> None:
    strange = '<section><code code="Z9" codeSystem="1.2.8" displayName="特色疗法"/><title>特色疗法</title><text><paragraph>第一段</paragraph><list><item>一</item></list></text>'
    strange += observation(
        'code="Q1" codeSystem="1.2.8" displayName="自定项目"',
        '<value xsi:type="ST">甲</value>',
        "<vendorExtra><level>高</level></vendorExtra>",
    )
    strange += "<component><section><title>下级</title><text>内文</text></section></component></section>"
    found = mapped(strange)
    told = found[0]["section"][0]
    assert told["title"] == "特色疗法"
    assert "<p>第一段</p><ul><li>一</li></ul>" in told["text"]["div"]
    assert "内文" in told["section"][0]["text"]["div"]
    one = of(found, "Observation")[0]
    assert one["valueString"] == "甲"
    assert "高" in one["note"][0]["text"]
    assert one["code"]["coding"] == [{"system": "urn:oid:1.2.8", "code": "Q1", "display": "自定项目"}]


def test_narrative_is_harmless() -> None:
    html = '<text><paragraph onclick="x()">甲<script>alert(1)</script></paragraph><linkHtml href="javascript:x()">乙</linkHtml><iframe src="x"/></text>'
    d = document(f"<section><title>文</title>{html}</section>")
    assert d.sections[0].html == "<p>甲</p><span>乙</span>"
    mapped(f"<section><title>文</title>{html}</section>")


def test_a_number_space_without_a_number_is_no_id() -> None:
    for shell in (
        '<id root="2.16.156.10011.1.1" extension=""/>',
        '<id root="2.16.156.10011.1.1"/>',
        '<id root="1.2.3" extension=" "/>',
        "<id/>",
    ):
        d = reading.read(
            (HEAD + TAIL).replace('<id root="2.16.156.10011.1.1" extension="RN9"/>', shell).encode()
        )
        assert not d.id, shell
    whole = '<id root="1.2.3.4.5"/>'
    assert (
        str(
            reading.read(
                (HEAD + TAIL).replace('<id root="2.16.156.10011.1.1" extension="RN9"/>', whole).encode()
            ).id
        )
        == "1.2.3.4.5"
    )


def test_icd_10_under_another_list_is_known_by_its_name() -> None:
    value = '<value xsi:type="CD" code="J18.900" codeSystem="2.16.156.10011.2.3.3.14" codeSystemName="诊断代码表(ICD-10)"/>'
    found = of(
        mapped(section(observation('code="DE05.01.024.00" displayName="诊断代码"', value))), "Condition"
    )[0]
    assert found["code"]["coding"][0] == {"system": "http://hl7.org/fhir/sid/icd-10", "code": "J18.900"}


def test_empty_shells_say_nothing() -> None:
    body = observation('code="DE04.01.117.00"', '<value xsi:type="ST"></value>') + observation(
        'code="DE06.00.310.00"', '<value xsi:type="PQ" value="" unit=""/>'
    )
    body += '<entry><observation classCode="OBS" moodCode="EVN"><code/></observation></entry>'
    assert not of(mapped(section(body)), "Observation")


def test_foreign_documents_are_read_too() -> None:
    text = (
        HEAD
        + "<component>"
        + section(
            observation(
                'code="8480-6" codeSystem="2.16.840.1.113883.6.1"',
                '<value xsi:type="PQ" value="130" unit="mm[Hg]"/>',
            ),
            "8716-3",
            "Vital signs",
        )
        + "</component>"
        + TAIL
    )
    text = (
        text.replace("2.16.156.10011.2.1.1.69", "2.16.840.1.113883.10.20.22.1.2")
        .replace('code="C0049"', 'code="34133-9"')
        .replace("出院记录", "Summary")
    )
    d = reading.read(text.encode())
    assert d.kind is None
    assert d.foreign == "c-cda"
    assert (
        of(mapping.resources(d, "Patient/p1").resources, "Observation")[0]["code"]["coding"][0]["system"]
        == "http://loinc.org"
    )


def test_kinds_are_found_by_template_code_or_title() -> None:
    assert kinds.find(["1.2", "2.16.156.10011.2.1.1.12"]).number == "483.12"
    assert kinds.find([], "hsdb04.02").number == "483.13"
    assert kinds.find([], "", "门（急）诊病历").number == "500.2"
    assert kinds.find([], "", "转诊（院）记录").number == "483.20"
    assert kinds.find([], "11111-1", "Discharge summary") is None


@pytest.mark.parametrize(
    ("code", "name", "wanted"),
    [("DE04.10.174.00", "", "DE04.10.174.00"), ("de04.10.174.00 ", "", "DE04.10.174.00"), ("DE056.00.193.00", "", "DE06.00.193.00"),
     ("L1", "体温（℃）", "DE04.10.186.00"), ("", "主诉", "DE04.01.119.00"), ("", "没有的名称", ""), ("8480-6", "", "")],
)  # fmt: skip
def test_elements_are_understood(code: str, name: str, wanted: str) -> None:
    assert elements.understand("500.20", "8716-3", code, "", name) == wanted


def test_values_come_back() -> None:
    for value in (
        Value("PQ", "36.5", "℃"), Value("PQ", "<0.5", "mg/L"), Value("ST", "甲"), Value("BL", "false"), Value("INT", "7"), Value("TS", "20260102083000"),
        Value("TS", "202601"), Value("CD", code=Code("J18.900", "2.16.156.10011.2.3.3.11.3", "肺炎")), Value("CD", code=Code("7", "院内编码", "某")),
        Value("RTO_PQ_PQ", low=Value("PQ", "1", "mg"), high=Value("PQ", "5", "mL")),
    ):  # fmt: skip
        holder: dict = {}
        assert values.put(holder, value)
        assert values.value_of(holder) == value
