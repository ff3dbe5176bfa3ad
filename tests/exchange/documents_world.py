"""Synthetic documents for tests: WS/T 500 as three makers would write it, C-CDA in three dialects, and bad ones. All names invented."""

from __future__ import annotations

import base64
from typing import Any

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
V3 = 'xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def lab(
    number: str = "JY-1",
    *,
    version: str = "1",
    series: str = "",
    name: str = "祁测文",
    id_no: str = "330102198001012313",
    local: str = "MR-77",
    glucose: str = "6.8",
    custodian: str = "SC-RMYY",
    secret: str = "N",
    related: str = "",
    extra: str = "",
    narrative: str = "<table><thead><tr><th>项目</th><th>结果</th></tr></thead><tbody><tr><td>葡萄糖</td><td>6.8</td></tr></tbody></table>",
    birth: str = "19800101",
    encoding: str = "utf-8",
) -> bytes:
    """An 检验报告 (WS/T 500.7)."""
    ids = f'<id root="1.2.156.999.1" extension="{local}"/>' if local else ""
    own = f'<id root="2.16.156.10011.1.3" extension="{id_no}"/>' if id_no else ""
    set_id = f'<setId root="1.2.156.999.9" extension="{series}"/>' if series else ""
    text = f"""<?xml version="1.0" encoding="{encoding}"?>
<ClinicalDocument {V3}>
<realmCode code="CN"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_MT000040"/>
<templateId root="2.16.156.10011.2.1.1.27"/>
<id root="2.16.156.10011.1.1" extension="{number}"/>
<code code="C0007" codeSystem="2.16.156.10011.2.4" codeSystemName="卫生信息共享文档规范编码体系"/>
<title>检验报告</title><effectiveTime value="20260301103000"/>
<confidentialityCode code="{secret}" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="zh-CN"/>
{set_id}<versionNumber value="{version}"/>
<recordTarget><patientRole>{ids}<patient>{own}<name>{name}</name>
<administrativeGenderCode code="1" codeSystem="2.16.156.10011.2.3.3.4" displayName="男性"/><birthTime value="{birth}"/></patient></patientRole></recordTarget>
<author><time value="20260301103000"/><assignedAuthor><id root="2.16.156.10011.1.7" extension="D01"/><assignedPerson><name>闻检验</name></assignedPerson>
<representedOrganization><name>检验科</name></representedOrganization></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><id root="2.16.156.10011.1.5" extension="{custodian}"/><name>青溪县人民医院</name></representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><time value="20260301110000"/><signatureCode/><assignedEntity><id extension="D02"/><assignedPerson><name>盛审核</name></assignedPerson></assignedEntity></legalAuthenticator>
{related}
<componentOf><encompassingEncounter><id root="2.16.156.10011.1.11" extension="MZ-5"/><effectiveTime><low value="20260301090000"/></effectiveTime></encompassingEncounter></componentOf>
<component><structuredBody>
<component><section><code code="30954-2" displayName="STUDIES SUMMARY" codeSystem="2.16.840.1.113883.6.1"/><title>检验</title><text>{narrative}</text>
<entry><organizer classCode="BATTERY" moodCode="EVN"><statusCode/>
<component><observation classCode="OBS" moodCode="EVN"><code code="DE04.30.020.00" codeSystem="2.16.156.10011.2.2.1" displayName="检验项目代码"/><value xsi:type="ST">GLU</value>
<entryRelationship typeCode="COMP"><observation classCode="OBS" moodCode="EVN"><code code="DE04.30.015.00" codeSystem="2.16.156.10011.2.2.1" displayName="检验定量结果"/><value xsi:type="REAL" value="{glucose}"/></observation></entryRelationship>
</observation></component></organizer></entry></section></component>
<component><section><code code="29548-5" displayName="DIAGNOSIS" codeSystem="2.16.840.1.113883.6.1"/><title>诊断记录</title><text/>
<entry><observation classCode="OBS" moodCode="EVN"><code code="DE05.01.024.00" codeSystem="2.16.156.10011.2.2.1" displayName="诊断代码"/>
<value xsi:type="CD" code="E11.900" codeSystem="2.16.156.10011.2.3.3.11" displayName="2型糖尿病"/></observation></entry></section></component>
{extra}
</structuredBody></component></ClinicalDocument>"""
    return text.encode(encoding)


def replaces(number: str) -> str:
    """A relatedDocument that replaces ``number``."""
    return (
        '<relatedDocument typeCode="RPLC"><parentDocument>'
        f'<id root="2.16.156.10011.1.1" extension="{number}"/></parentDocument></relatedDocument>'
    )


HOSTILE = (
    '<paragraph onclick="steal()">主诉<script>alert(1)</script>：<content styleCode="Bold">头痛</content></paragraph>'
    '<img src="http://evil.example/x.png"/><iframe src="http://evil.example/"/><a href="javascript:alert(2)">点击</a>'
    '<linkHtml href="http://evil.example/p">网页</linkHtml><svg onload="alert(3)"><text>图</text></svg>&lt;b&gt;粗体&lt;/b&gt;'
    '<renderMultiMedia referencedObject="MM1"/>'
)


def picture() -> str:
    """A section that carries an image and one the standard does not know."""
    return f"""<component><section><title>影像附图</title><text>见图<renderMultiMedia referencedObject="MM1"/></text>
<entry><observationMedia classCode="OBS" moodCode="EVN" ID="MM1"><value mediaType="image/png" representation="B64">{base64.b64encode(PNG).decode()}</value></observationMedia></entry></section></component>
<component><section><code code="99999-9" codeSystem="1.2.3"/><title>本院自定义章节</title><text><paragraph>自定义内容完整保留</paragraph></text>
<entry><observation classCode="OBS" moodCode="EVN"><code code="ZDY01" displayName="自定义项"/><value xsi:type="ST">自定义值</value></observation></entry></section></component>"""


def bomb() -> bytes:
    """A billion laughs."""
    lines = "".join(f'<!ENTITY l{n} "&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};">' for n in range(1, 20))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{lines}]><ClinicalDocument {V3}><title>&l19;</title></ClinicalDocument>'.encode()


# ------------------------------------------------------------------------------------------------------------------- C-CDA


def _us(templates: str, number: str, code: str, title: str, body: str, patient_ids: str, name: str) -> bytes:
    return f"""<?xml version="1.0"?><ClinicalDocument {V3} xmlns:sdtc="urn:hl7-org:sdtc"><realmCode code="US"/>
<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>{templates}<id root="{number}"/>
<code code="{code}" codeSystem="2.16.840.1.113883.6.1" displayName="{title}"/><title>{title}</title><effectiveTime value="20260110120000-0500"/>
<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="en-US"/>
<recordTarget><patientRole>{patient_ids}<addr use="HP"><streetAddressLine>1 Invented Street</streetAddressLine><city>Springfield</city></addr><telecom value="tel:+1-555-0100" use="HP"/>
<patient><name use="L"><given>{name.split()[0]}</given><family>{name.split()[1]}</family></name><administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/><birthTime value="19610723"/></patient></patientRole></recordTarget>
<author><time value="20260110120000-0500"/><assignedAuthor><id nullFlavor="UNK"/><assignedPerson><name><given>Greta</given><family>Example</family></name></assignedPerson></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><id root="1.3.6.1.4.1.99999"/><name>Invented Health System</name></representedCustodianOrganization></assignedCustodian></custodian>
<component><structuredBody>{body}</structuredBody></component></ClinicalDocument>""".encode()


def _in(section: str, title: str, template: str, entries: str, text: str = "") -> str:
    given = f'<templateId root="{template}"/>' if template else ""
    return (
        f'<component><section>{given}<code code="{section}" codeSystem="2.16.840.1.113883.6.1"/><title>{title}</title>'
        f"<text>{text or title}</text>{entries}</section></component>"
    )


def ccd() -> bytes:
    """A CCD of C-CDA R2.1 with every kind of entry the mapping knows."""
    c = "2.16.840.1.113883.10.20.22.4."
    problem = f"""<entry typeCode="DRIV"><act classCode="ACT" moodCode="EVN"><templateId root="{c}3" extension="2015-08-01"/><id root="ec8a6ff8-ed4b-4f7e-82c3-e98e58b45de7"/><code code="CONC" codeSystem="2.16.840.1.113883.5.6"/><statusCode code="active"/><effectiveTime><low value="20200101"/></effectiveTime>
<entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><templateId root="{c}4" extension="2015-08-01"/><id nullFlavor="NI"/><code code="55607006" codeSystem="2.16.840.1.113883.6.96" displayName="Problem"/><statusCode code="completed"/><effectiveTime><low value="20200101"/></effectiveTime><value xsi:type="CD" code="38341003" codeSystem="2.16.840.1.113883.6.96" displayName="Hypertension"><translation code="I10" codeSystem="2.16.840.1.113883.6.90" displayName="Essential hypertension"/></value></observation></entryRelationship></act></entry>
<entry><act classCode="ACT" moodCode="EVN"><templateId root="{c}3"/><code code="CONC" codeSystem="2.16.840.1.113883.5.6"/><statusCode code="completed"/><entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><templateId root="{c}4"/><code code="55607006" codeSystem="2.16.840.1.113883.6.96"/><effectiveTime><low value="20150301"/><high value="20150320"/></effectiveTime><value xsi:type="CD" code="233604007" codeSystem="2.16.840.1.113883.6.96" displayName="Pneumonia"/></observation></entryRelationship></act></entry>"""
    allergy = f"""<entry><act classCode="ACT" moodCode="EVN"><templateId root="{c}30"/><code code="CONC" codeSystem="2.16.840.1.113883.5.6"/><statusCode code="active"/><effectiveTime><low value="20100101"/></effectiveTime>
<entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><templateId root="{c}7"/><code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/><value xsi:type="CD" code="419511003" codeSystem="2.16.840.1.113883.6.96" displayName="Propensity to adverse reaction to drug"/>
<participant typeCode="CSM"><participantRole classCode="MANU"><playingEntity classCode="MMAT"><code code="7980" codeSystem="2.16.840.1.113883.6.88" displayName="Penicillin G"/></playingEntity></participantRole></participant>
<entryRelationship typeCode="MFST" inversionInd="true"><observation classCode="OBS" moodCode="EVN"><templateId root="{c}9"/><code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/><value xsi:type="CD" code="247472004" codeSystem="2.16.840.1.113883.6.96" displayName="Hives"/>
<entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><templateId root="{c}8"/><code code="SEV" codeSystem="2.16.840.1.113883.5.4"/><value xsi:type="CD" code="24484000" codeSystem="2.16.840.1.113883.6.96" displayName="Severe"/></observation></entryRelationship></observation></entryRelationship></observation></entryRelationship></act></entry>"""
    drug = f"""<entry><substanceAdministration classCode="SBADM" moodCode="EVN"><templateId root="{c}16"/><id root="cdbd33f0-6cde-11db-9fe1-0800200c9a66"/><statusCode code="active"/><effectiveTime xsi:type="IVL_TS"><low value="20250101"/><high nullFlavor="UNK"/></effectiveTime><effectiveTime xsi:type="PIVL_TS" operator="A"><period value="12" unit="h"/></effectiveTime><routeCode code="C38288" codeSystem="2.16.840.1.113883.3.26.1.1" displayName="ORAL"/><doseQuantity value="1"/>
<consumable><manufacturedProduct classCode="MANU"><templateId root="{c}23"/><manufacturedMaterial><code code="314076" codeSystem="2.16.840.1.113883.6.88" displayName="lisinopril 10 MG Oral Tablet"/></manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration></entry>"""
    shot = f"""<entry><substanceAdministration classCode="SBADM" moodCode="EVN" negationInd="false"><templateId root="{c}52"/><statusCode code="completed"/><effectiveTime value="20251015"/>
<consumable><manufacturedProduct classCode="MANU"><templateId root="{c}54"/><manufacturedMaterial><code code="140" codeSystem="2.16.840.1.113883.12.292" displayName="Influenza, seasonal"/><lotNumberText>L-1</lotNumberText></manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration></entry>"""
    surgery = f"""<entry><procedure classCode="PROC" moodCode="EVN"><templateId root="{c}14"/><id nullFlavor="UNK"/><code code="80146002" codeSystem="2.16.840.1.113883.6.96" displayName="Appendectomy"/><statusCode code="completed"/><effectiveTime value="19990512"/></procedure></entry>
<entry><act classCode="ACT" moodCode="EVN"><templateId root="{c}12"/><code code="183856001" codeSystem="2.16.840.1.113883.6.96" displayName="Dressing change"/><statusCode code="completed"/><effectiveTime value="20260105"/></act></entry>"""
    results = f"""<entry><organizer classCode="BATTERY" moodCode="EVN"><templateId root="{c}1"/><code code="24323-8" codeSystem="2.16.840.1.113883.6.1" displayName="CMP"/><statusCode code="completed"/><effectiveTime value="20260109"/>
<component><observation classCode="OBS" moodCode="EVN"><templateId root="{c}2"/><code code="2345-7" codeSystem="2.16.840.1.113883.6.1" displayName="Glucose"/><statusCode code="completed"/><effectiveTime value="20260109080000-0500"/><value xsi:type="PQ" value="122" unit="mg/dL"/><interpretationCode code="H" codeSystem="2.16.840.1.113883.5.83"/><referenceRange><observationRange><value xsi:type="IVL_PQ"><low value="70" unit="mg/dL"/><high value="99" unit="mg/dL"/></value></observationRange></referenceRange></observation></component>
<component><observation classCode="OBS" moodCode="EVN"><templateId root="{c}2"/><code code="2951-2" codeSystem="2.16.840.1.113883.6.1" displayName="Sodium"/><value xsi:type="PQ" nullFlavor="NAV"/></observation></component></organizer></entry>"""
    vitals = f"""<entry><organizer classCode="CLUSTER" moodCode="EVN"><templateId root="{c}26"/><code code="46680005" codeSystem="2.16.840.1.113883.6.96" displayName="Vital signs"/><statusCode code="completed"/><effectiveTime value="20260110090000-0500"/>
<component><observation classCode="OBS" moodCode="EVN"><templateId root="{c}27"/><code code="8480-6" codeSystem="2.16.840.1.113883.6.1" displayName="Systolic"/><effectiveTime value="20260110090000-0500"/><value xsi:type="PQ" value="152" unit="mm[Hg]"/></observation></component>
<component><observation classCode="OBS" moodCode="EVN"><templateId root="{c}27"/><code code="8462-4" codeSystem="2.16.840.1.113883.6.1" displayName="Diastolic"/><effectiveTime value="20260110090000-0500"/><value xsi:type="PQ" value="94" unit="mm[Hg]"/></observation></component></organizer></entry>"""
    visit = f"""<entry><encounter classCode="ENC" moodCode="EVN"><templateId root="{c}49"/><id root="2a620155-9d11-439e-92b3-5d9815ff4de8"/><code code="99213" codeSystem="2.16.840.1.113883.6.12" displayName="Office visit"><translation code="AMB" codeSystem="2.16.840.1.113883.5.4"/></code><effectiveTime value="20260110"/>
<entryRelationship typeCode="COMP"><act classCode="ACT" moodCode="EVN"><templateId root="{c}80"/><code code="29308-4" codeSystem="2.16.840.1.113883.6.1"/><entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><templateId root="{c}4"/><code code="282291009" codeSystem="2.16.840.1.113883.6.96"/><value xsi:type="CD" code="25064002" codeSystem="2.16.840.1.113883.6.96" displayName="Headache"/></observation></entryRelationship></act></entryRelationship></encounter></entry>"""
    s = "2.16.840.1.113883.10.20.22.2."
    body = "".join(
        [
            _in("11450-4", "Problems", f"{s}5.1", problem), _in("48765-2", "Allergies", f"{s}6.1", allergy),
            _in("10160-0", "Medications", f"{s}1.1", drug), _in("11369-6", "Immunizations", f"{s}2.1", shot),
            _in("47519-4", "Procedures", f"{s}7.1", surgery), _in("30954-2", "Results", f"{s}3.1", results),
            _in("8716-3", "Vital signs", f"{s}4.1", vitals), _in("46240-8", "Encounters", f"{s}22.1", visit),
            _in("42348-3", "Advance directives", "", "", "<paragraph>None on file</paragraph>"),
        ]
    )  # fmt: skip
    us = '<templateId root="2.16.840.1.113883.10.20.22.1.1" extension="2015-08-01"/><templateId root="2.16.840.1.113883.10.20.22.1.2" extension="2015-08-01"/>'
    ids = '<id root="2.16.840.1.113883.19.5.99999.2" extension="998991"/><id root="2.16.840.1.113883.4.1" nullFlavor="MSK"/>'
    return _us(
        us,
        "db734647-fc99-424c-a864-7e3cda82e703",
        "34133-9",
        "Summarization of Episode Note",
        body,
        ids,
        "Ilse Example",
    )


def old_ccd() -> bytes:
    """A CCD of 2007 (HL7 CCD 1.0), its problem act without a status, nothing coded for allergies: none known."""
    problem = """<entry><act classCode="ACT" moodCode="EVN"><templateId root="2.16.840.1.113883.10.20.1.27"/><code nullFlavor="NA"/><entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><templateId root="2.16.840.1.113883.10.20.1.28"/><code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/><statusCode code="completed"/><effectiveTime><low value="1975"/></effectiveTime><value xsi:type="CD" code="195967001" codeSystem="2.16.840.1.113883.6.96" displayName="Asthma"/>
<entryRelationship typeCode="REFR"><observation classCode="OBS" moodCode="EVN"><templateId root="2.16.840.1.113883.10.20.1.50"/><code code="33999-4" codeSystem="2.16.840.1.113883.6.1" displayName="Status"/><value xsi:type="CE" code="73425007" codeSystem="2.16.840.1.113883.6.96" displayName="Inactive"/></observation></entryRelationship></observation></entryRelationship></act></entry>"""
    none = """<entry><act classCode="ACT" moodCode="EVN"><code nullFlavor="NA"/><entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN" negationInd="true"><templateId root="2.16.840.1.113883.10.20.1.18"/><code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/><value xsi:type="CD" code="416098002" codeSystem="2.16.840.1.113883.6.96" displayName="Drug allergy"/></observation></entryRelationship></act></entry>"""
    body = _in("11450-4", "Problems", "2.16.840.1.113883.10.20.1.11", problem) + _in(
        "48765-2", "Alerts", "2.16.840.1.113883.10.20.1.2", none
    )
    return _us(
        '<templateId root="2.16.840.1.113883.10.20.1"/>',
        "a1b2c3d4-0000-4000-8000-000000000001",
        "34133-9",
        "Continuity of Care",
        body,
        '<id root="1.2.3.4" extension="OLD-1"/>',
        "Otto Example",
    )


def bare() -> bytes:
    """A discharge summary from a system that writes no template ids, observations straight in their sections."""
    problems = """<entry><observation classCode="OBS" moodCode="EVN"><code code="282291009" codeSystem="2.16.840.1.113883.6.96"/><value xsi:type="CD" code="I63.9" codeSystem="2.16.840.1.113883.6.3" displayName="Cerebral infarction"/></observation></entry>"""
    allergies = """<entry><observation classCode="OBS" moodCode="EVN"><code code="ASSERTION"/><value xsi:type="CD" displayName="Food allergy" code="414285001" codeSystem="2.16.840.1.113883.6.96"/><participant typeCode="CSM"><participantRole><playingEntity><code nullFlavor="OTH"><originalText>Peanut</originalText></code><name>Peanut</name></playingEntity></participantRole></participant></observation></entry>"""
    vitals = """<entry><observation classCode="OBS" moodCode="EVN"><code code="8867-4" codeSystem="2.16.840.1.113883.6.1" displayName="Heart rate"/><effectiveTime value="202601100900"/><value xsi:type="PQ" value="72" unit="/min"/></observation></entry>"""
    body = (
        _in("11535-2", "Discharge diagnosis", "", problems)
        + _in("48765-2", "Allergies", "", allergies)
        + _in("8716-3", "Vital signs", "", vitals)
    )
    return _us(
        '<templateId root="2.16.840.1.113883.10.20.22.1.8"/>',
        "a1b2c3d4-0000-4000-8000-000000000002",
        "18842-5",
        "Discharge Summary",
        body,
        '<id root="1.2.3.5" extension="B-9"/>',
        "Berta Example",
    )


def by_type(resources: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Resources by their type."""
    out: dict[str, list[dict[str, Any]]] = {}
    for one in resources:
        out.setdefault(one["resourceType"], []).append(one)
    return out
