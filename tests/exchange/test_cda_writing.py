"""Documents written: the header, the order of the schema, readable sections, elements in the sections of their kind."""

from __future__ import annotations

from typing import Any

from lxml import etree

from lianxin.exchange.cda import mapping, reading, writing
from lianxin.exchange.cda.kinds import KINDS
from lianxin.exchange.cda.model import Code, Document, Entry, Header, Id, Party, Section, Value
from tests.exchange.cda_resources import (
    DAY,
    DOCTOR,
    HOSPITAL,
    ICD10,
    PATIENT,
    concept,
    made,
    pressure,
    quantity,
    resources,
)
from tests.exchange.cda_samples import Sample
from tests.exchange.cda_structure import problems

NOW = "2026-01-05T10:00:00+08:00"


def written(number: str, given: list[dict], **more: Any) -> Document:
    """What a reader finds in a document written of resources; its structure is right."""
    data = writing.write(
        number, given, writing.header_of(PATIENT, author=DOCTOR, organization=HOSPITAL, time=NOW, **more)
    )
    assert problems(data) == []
    return reading.read(data)


def places(document: Document) -> dict[str, str]:
    """Each element with the section it stands in."""
    return {
        e.element: s.key
        for s in document.all_sections()
        for top in s.entries
        for e in top.walk()
        if e.element
    }


def test_header() -> None:
    document = written("500.53", [], replaces=Id("2.16.156.10011.1.1", "OLD"), version=3)
    assert document.kind is KINDS["500.53"]
    assert (document.patient.resident_id, document.patient.record_number) == (
        "11010519491231002X",
        "33102310300100001",
    )
    assert (document.patient.name, document.patient.sex.code, document.patient.birth) == (
        "样例乙",
        "1",
        "19580302",
    )
    assert "B-77" in [i.extension for i in document.patient.ids], "a number without an OID is kept"
    assert document.authors[0].name == document.legal.name == "样例医师"
    assert document.custodian
    assert document.custodian.ids[0].extension == "33100001"
    assert (document.related[0].type, document.related[0].id.extension, document.version) == (
        "RPLC",
        "OLD",
        "3",
    )


def test_an_empty_header_is_still_a_valid_document() -> None:
    assert problems(writing.write("500.2", [], Header())) == []
    assert (
        problems(writing.write("483.20", [], writing.header_of({"resourceType": "Patient"}, time=NOW))) == []
    )


def test_elements_stand_where_the_kind_wants_them() -> None:
    given = resources(5)
    assert places(written("483.12", given))["DE04.10.174.00"] == "8716-3"
    assert places(written("500.53", given))["DE05.01.024.00"] == "11535-2"
    assert places(written("500.7", given))["DE04.50.130.00"] == "检验报告"
    assert places(written("483.20", given))["DE05.01.024.00"] == "29548-5"
    order = [s.key for s in written("500.2", given).sections]
    assert order.index("48765-2") < order.index("29548-5") < order.index("46209-3"), (
        "as the standard orders them"
    )


def test_admission_and_discharge_diagnoses_are_told_apart() -> None:
    leaving = made("Condition", 1, code=concept(ICD10, "J18.900", "肺炎"))
    coming = made("Condition", 2, code=concept(ICD10, "R05", "咳嗽"), category=[{"coding": [{"code": "AD"}]}])
    labels = {
        e.values[0].code.code: e.label
        for e in written("500.53", [leaving, coming]).entries()
        if e.values and e.values[0].code
    }
    assert labels == {"J18.900": "出院诊断-西医诊断编码", "R05": "入院诊断-西医诊断编码"}


def test_stay_gives_admission_and_discharge() -> None:
    stay = made(
        "Encounter",
        1,
        status="finished",
        period={"start": DAY.format(1), "end": DAY.format(4)},
        **{"class": {"code": "IMP"}},
    )
    found = {
        e.element: e.values[0].text for e in written("500.49", [stay], encounter=stay).entries() if e.values
    }
    assert found["DE06.00.092.00"] == "20260101093000"
    assert found["DE06.00.017.00"] == "20260104093000"


def test_sections_are_readable() -> None:
    data = writing.write("483.12", [pressure(1, 150, 95, 3)], writing.header_of(PATIENT, time=NOW))
    text = " ".join(etree.fromstring(data).find(".//{*}section/{*}text").itertext())
    assert "收缩压" in text
    assert "150 mmHg" in text


def test_a_narrative_is_kept_as_it_was() -> None:
    html = "<p>甲&lt;乙</p><ul><li>一</li></ul><table><tbody><tr><td>格</td></tr></tbody></table>"
    data = writing.render(
        KINDS["500.2"], Header(), [Section(title="文", html=html, entries=[Entry(values=[Value("ST", "x")])])]
    )
    assert problems(data) == []
    assert reading.read(data).sections[0].html == html


def test_characters_xml_has_not_are_left_out() -> None:
    nasty = "a\x00\x0b<&>\"'\ud800é𠮷"
    entry = Entry(element="DE04.01.119.00", label=nasty, values=[Value("ST", nasty)])
    header = Header(title=nasty, authors=[Party("author", name=nasty, ids=[Id(nasty, nasty)])])
    data = writing.render(
        KINDS["500.2"], header, [Section(title=nasty, code=Code(nasty, nasty, nasty), entries=[entry])]
    )
    assert problems(data) == []
    assert reading.read(data).sections[0].entries[0].values[0].text == "a<&>\"'é𠮷"


def test_values_that_do_not_fit_become_text() -> None:
    odd = [
        Value("PQ", "120/80", "mmHg"),
        Value("BL", "大概"),
        Value("TS", "去年"),
        Value("INT", "1.5"),
        Value("MO", "免费"),
        Value("PQ", "<0.5", "mg/L"),
    ]
    data = writing.render(
        KINDS["500.2"],
        Header(),
        [Section(title="x", entries=[Entry(element="DE04.01.119.00", values=[v]) for v in odd])],
    )
    assert problems(data) == []
    found = [e.values[0] for e in reading.read(data).entries()]
    assert [v.text for v in found] == ["120/80 mmHg", "大概", "去年", "1.5", "免费", "<0.5"]


def test_ranges_and_judgement_come_back() -> None:
    lab = made(
        "Observation", 1, status="final", category=[concept("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory")],
        code=concept("http://loinc.org", "2823-3", "血钾"), valueQuantity=quantity(5.9, "mmol/L"), effectiveDateTime=DAY.format(2),
        referenceRange=[{"low": quantity(3.5, "mmol/L"), "high": quantity(5.3, "mmol/L"), "text": "3.5-5.3"}],
        interpretation=[concept("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "H")],
    )  # fmt: skip
    for number in ("500.7", "500.53"):
        found = mapping.resources(written(number, [lab]), "Patient/p1").resources
        one = next(r for r in found if r["resourceType"] == "Observation")
        assert one["valueQuantity"]["value"] == 5.9
        assert one["referenceRange"][0]["low"]["value"] == 3.5
        assert one["interpretation"][0]["coding"][0]["code"] == "H"
        assert one["effectiveDateTime"] == DAY.format(2)
        assert {"system": "http://loinc.org", "code": "2823-3"}.items() <= one["code"]["coding"][0].items()


def test_what_was_read_can_be_written_without_fhir() -> None:
    for number in ("500.6", "500.49"):
        document = reading.read(Sample(number, "named").data)
        data = writing.render(KINDS[number], document, document.sections)
        assert problems(data) == []
        assert len(list(reading.read(data).entries())) == len(list(document.entries()))
