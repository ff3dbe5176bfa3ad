"""Documents that are none, unsafe, broken or too large: each is refused in words with its place, or mended and told so."""

from __future__ import annotations

import base64

import pytest

from lianxin.exchange.cda import mapping, opening, reading
from lianxin.exchange.feeds.errors import Refusal
from tests.exchange.cda_samples import Sample, said
from tests.exchange.cda_structure import problems

GOOD = Sample("500.2").data
XSI = 'xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
BOMB = "<!DOCTYPE lolz [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(data: bytes) -> Refusal:
    """The refusal of a document, which has a code, a place and both languages."""
    with pytest.raises(Refusal) as caught:
        reading.read(data)
    reason = caught.value.reason
    assert reason.code
    assert reason.place
    assert reason.text.zh != reason.text.en
    return caught.value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "structure"),
        (b" \r\n\t", "structure"),
        (b"\xef\xbb\xbf", "structure"),
        (b"%PDF-1.7 \x00\x01\x02", "structure"),
        (b"MSH|^~\\&|HIS|H1|LX|LX|20260101||ADT^A01|1|P|2.5", "structure"),
        (b'{"resourceType":"Bundle"}', "structure"),
        (b"<html><body>502 Bad Gateway</body></html>", "structure"),
        (GOOD[: len(GOOD) // 2], "structure"),
        (GOOD[:-3], "structure"),
        (GOOD.replace(b"</section>", b"</sektion>", 1), "structure"),
        (GOOD + GOOD, "structure"),
        (b"\xff\xfe" + "乱".encode("utf-16-le")[:1], "structure"),
        (GOOD.replace("样例".encode(), b"\x81\x20\xff\xff", 1), "structure"),
        (f"{BOMB}]><ClinicalDocument {XSI}><title>&i;</title></ClinicalDocument>".encode(), "security"),
        (f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ClinicalDocument {XSI}><title>&x;</title></ClinicalDocument>'.encode(), "security"),
        (f'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><ClinicalDocument {XSI}/>'.encode(), "security"),
        (f"<!DOCTYPE a><ClinicalDocument {XSI}/>".encode("utf-16"), "security"),
        (f"<a><ClinicalDocument {XSI}/><ClinicalDocument {XSI}/></a>".encode(), "structure"),
    ],
    ids=range(18),
)  # fmt: skip
def test_what_is_no_document_is_refused_in_words(data: bytes, code: str) -> None:
    assert refused(data).reason.code == code


def test_nesting_without_end_is_refused() -> None:
    deep = "<component><section>" * 10_000 + "</section></component>" * 10_000
    data = f"<ClinicalDocument {XSI}><component><structuredBody>{deep}</structuredBody></component></ClinicalDocument>"
    assert refused(data.encode()).reason.code == "too-costly"
    sections = "<component><section>" * 60 + "<title>底</title>" + "</section></component>" * 60
    fine = reading.read(
        f"<ClinicalDocument {XSI}><component><structuredBody>{sections}</structuredBody></component></ClinicalDocument>".encode()
    )
    assert [s.title for s in fine.all_sections() if s.title] == ["底"]
    assert mapping.resources(fine, "Patient/p1").composition["section"]


def test_large_attachments_are_refused_or_kept_small() -> None:
    def document(size: int) -> bytes:
        text = base64.b64encode(b"x" * size).decode()
        entry = f'<entry><observationMedia classCode="OBS" moodCode="EVN"><value mediaType="image/jpeg" representation="B64">{text}</value></observationMedia></entry>'
        return f"<ClinicalDocument {XSI}><component><structuredBody><component><section><title>图</title>{entry}</section></component></structuredBody></component></ClinicalDocument>".encode()

    assert refused(document(50_000_000)).reason.code == "too-long"
    assert refused(document(9_000_000)).reason.code == "too-long", "one text of more than 10 MB"
    small, large = (
        next(
            r
            for r in mapping.resources(reading.read(document(n)), "Patient/p1").resources
            if r["resourceType"] == "Media"
        )
        for n in (30_000, 3_000_000)
    )
    assert len(base64.b64decode(small["content"]["data"])) == 30_000
    assert "data" not in large["content"]
    assert large["content"]["size"] == 3_000_000


def test_entries_without_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_ENTRIES", 20)
    assert refused(GOOD).reason.code == "too-costly"


def test_mistakes_of_home_made_xml_are_mended_and_told() -> None:
    text = GOOD.decode()
    ampersand = text.replace("样例医院", "样例医院 A&B 楼", 1)
    assert reading.read(ampersand.encode()).custodian.name == "样例医院 A&B 楼"
    control = reading.read(text.replace("样例医院", "样例\x0b医院&#x1;", 1).encode())
    assert control.custodian.name == "样例医院"
    undeclared = reading.read(
        text.replace(' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"', "", 1).encode()
    )
    assert said(undeclared) == said(reading.read(GOOD))
    for document in (reading.read(ampersand.encode()), control, undeclared):
        assert document.warnings
    assert not reading.read(GOOD).warnings


def test_encodings_are_found_whatever_is_declared() -> None:
    text = GOOD.decode().partition("?>")[2].strip()
    wanted = said(reading.read(GOOD))
    for declared, used, told in (
        ("UTF-8", "gb18030", True), ("GBK", "gb18030", False), ("gb2312", "gbk", False), ("GBK", "utf-8", True),
        ("utf-8", "utf-8-sig", False), ("UTF-16", "utf-16", False), ("", "utf-8", False), ("", "gb18030", True),
    ):  # fmt: skip
        head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
        document = reading.read((head + text).encode(used))
        assert said(document) == wanted
        assert document.patient.name == "样例甲"
        assert bool(document.warnings) is told, (declared, used)


def test_entities_in_cdata_are_only_words() -> None:
    text = GOOD.decode().replace("样例医院", "<![CDATA[说明<!DOCTYPE x>&a;]]>", 1)
    assert reading.read(text.encode()).custodian.name == "说明<!DOCTYPE x>&a;"


def test_the_checker_of_structure_can_fail() -> None:
    broken = GOOD.replace(b"<title>", b"<titel>", 1).replace(b"</title>", b"</titel>", 1)
    assert problems(broken)
    assert any("setId" in p for p in problems(GOOD)), "templates leave an empty setId, which no schema allows"
    assert opening.tree(GOOD)[1] == "utf-8"
