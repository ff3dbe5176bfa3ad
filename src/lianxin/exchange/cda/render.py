"""A document as somebody reads it: header facts, sections with their narrative, data elements as tables, images and attachments.

Works on what :mod:`reading` made, whatever the vendor; nothing of the document is left out, nothing of it is trusted as markup.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from lianxin.exchange.cda import datatypes as d
from lianxin.exchange.cda import elements, narrative, opening, render_narrative
from lianxin.exchange.cda.model import Code, Document, Entry, Org, Party, Product, Range, Section, Value
from lianxin.exchange.cda.registry_reference import code_of, instant
from lianxin.standards.text import T, Text

IMAGES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/bmp", "image/webp"})
"""What a browser may be shown as an image; SVG is a program."""
ATTACHED = frozenset(
    {"application/pdf", "text/plain", "text/rtf", "application/rtf", "image/tiff", "application/dicom"}
)
"""What may be fetched as a file."""
MOST_PARTS = 200
NULLS: dict[str, Text] = {
    "NI": T("未提供", "no information"), "UNK": T("未知", "unknown"), "NA": T("不适用", "not applicable"),
    "ASKU": T("问过，不知道", "asked, not known"), "NASK": T("未询问", "not asked"), "NAV": T("暂无", "not available yet"),
    "MSK": T("不公开", "masked"), "OTH": T("其他", "other"), "NINF": T("负无穷", "minus infinity"),
    "PINF": T("正无穷", "plus infinity"), "TRC": T("微量", "trace"),
}  # fmt: skip
_SIGNS = {"H": "↑", "HH": "↑↑", "L": "↓", "LL": "↓↓", "A": "!", "AA": "!!", "HU": "↑↑", "LU": "↓↓"}


@dataclass
class Row:
    """One data element: how deep it hangs, its code (DE…, LOINC …), its name, its value."""

    depth: int
    code: str
    name: str
    value: str


@dataclass
class Shown:
    """One section as shown: ``html`` is its narrative, ``rows`` its data elements, ``others`` what has no slot."""

    title: str
    code: str
    html: SafeString
    rows: list[Row]
    depth: int = 0
    images: list[int] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Part:
    """An image or attachment inside a document."""

    number: int
    media_type: str
    data: bytes
    name: str = ""

    @property
    def image(self) -> bool:
        """Whether it may be shown in the page."""
        return self.media_type in IMAGES


@dataclass
class Sheet:
    """Everything a page or paper shows of a document."""

    title: str
    facts: list[tuple[Text, str]]
    sections: list[Shown]
    parts: list[Part]
    body: str = ""  # words of a body without sections
    attachments: list[Part] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[Text] = field(default_factory=list)


def sheet(document: Document, data: bytes, address: Callable[[Part], str]) -> Sheet:
    """A document for reading. ``address``: where an image of it is had (a URL of the page, a data URI on paper)."""
    root, _, _ = opening.tree(data)
    parts = parts_of(root)
    narratives = _narratives(root, document)
    used: set[int] = set()

    def media(ref: str) -> str:
        part = next((p for p in parts if p.name == ref), None)
        if part is None or not part.image:
            return ""
        used.add(part.number)
        return address(part)

    shown = [
        _section(section, depth, narratives.get(id(section)), media) for section, depth in _deep(document.sections, 0)
    ]  # fmt: skip
    loose = [p for p in parts if p.number not in used]
    text = ""
    if document.body is not None and not document.body.data:
        text = document.body.text
    return Sheet(
        document.title or (document.kind.zh if document.kind else ""),
        list(facts(document)),
        shown,
        parts,
        text,
        loose,
        list(document.rest),
        list(document.warnings),
    )


def _deep(sections: list[Section], depth: int) -> Iterator[tuple[Section, int]]:
    for section in sections:
        yield section, depth
        yield from _deep(section.sections, depth + 1)


def _narratives(root: Any, document: Document) -> dict[int, Any]:
    """The narrative elements of the sections: found again by their words, in order."""
    waiting = [el for el in root.iter() if d.local(el.tag) == "text" and _in_section(el)]
    out: dict[int, Any] = {}
    at = 0
    for section in document.all_sections():
        if not section.text:
            continue
        for n in range(at, len(waiting)):
            if narrative.both(waiting[n])[0] == section.text:
                out[id(section)] = waiting[n]
                at = n + 1
                break
    return out


def _in_section(el: Any) -> bool:
    parent = el.getparent()
    return parent is not None and d.local(parent.tag) == "section"


def _section(section: Section, depth: int, element: Any, media: Callable[[str], str]) -> Shown:
    if element is not None:
        html = render_narrative.html(element, media)
    else:
        lines = (line.strip() for line in section.text.splitlines())
        html = mark_safe("".join(f"<p>{escape(line)}</p>" for line in lines if line))  # every line escaped
    rows = [row for one in section.entries for row in _rows(one, 0)]
    title = section.title or elements.TITLES.get(section.key, "") or section.code.label or "—"
    return Shown(title, section.code.code, html, rows, depth, others=list(section.rest))


# ------------------------------------------------------------------------------------------------------------------ entries


def _rows(one: Entry, depth: int) -> Iterator[Row]:
    """An entry and what hangs below it, a line each; lines that would say nothing are left out."""
    if one.tag == "observationMedia":
        return
    value = entry_text(one)
    name = (
        one.label
        or elements.name_of(one.element)
        or one.code.label
        or (one.product.name if one.product else "")
    )
    if value or name:
        yield Row(min(depth, 4), one.element or one.code.code, name, value)
    for part in one.parts:
        yield from _rows(part, depth + 1 if value or name else depth)
    for place, words in one.rest:
        if words:
            yield Row(min(depth + 1, 4), "", place.rpartition("/")[2], words)


def entry_text(one: Entry) -> str:
    """The value of an entry in words: value, sign, range, drug and dose, time, who."""
    said = [value_text(v) for v in one.values]
    if one.text and one.text not in said:
        said.append(one.text)
    said += [_SIGNS.get(c.code, c.label) for c in one.interpretation]
    if one.product:
        said.append(product_text(one.product))
    for label, value in (("", one.dose), ("", one.rate), ("×", one.repeat), ("数量 ", one.quantity)):
        if value and (text := value_text(value)):
            said.append(f"{label}{text}")
    said += [code_of(c) for c in (one.route, one.form, one.method, one.site, one.priority) if c]
    said += [f"（{r}）" for r in map(range_text, one.ranges) if r]
    said += [t for t in map(value_text, one.times) if t]
    said += [p for p in map(party_text, one.parties) if p]
    if one.negated:
        said.insert(0, "否认" if one.values else "无")
    return " ".join(s for s in said if s)


def value_text(value: Value) -> str:
    """A value in words."""
    if value.code:
        return code_of(value.code)
    if value.id:
        return value.id.extension or value.id.root
    if value.low or value.high:
        if value.type.startswith("RTO"):
            return (
                f"{value_text(value.low) if value.low else ''}/{value_text(value.high) if value.high else ''}"
            )
        low = value_text(value.low) if value.low else ""
        high = value_text(value.high) if value.high else ""
        return (
            f"{low}～{high}"
            if low and high
            else f"≥ {low}"
            if low and value.type == "IVL_PQ"
            else low or f"～{high}"
        )
    if value.type in ("TS", "IVL_TS", "PIVL_TS"):
        return time_text(value.text)
    if value.type == "BL" and value.text in ("true", "false"):
        return str(T("是", "yes") if value.text == "true" else T("否", "no"))
    if value.text:
        return f"{value.text} {value.unit}".strip() if value.unit not in ("", "1") else value.text
    return str(NULLS.get(value.null, "")) if value.null else ""


def time_text(ts: str) -> str:
    """A TS as people write it, as exact as it is."""
    plain = ts.strip()
    if instant(plain) is None:
        return plain
    digits = plain.split("+")[0].split("-")[0].split(".")[0]
    parts = [digits[0:4], digits[4:6], digits[6:8]]
    day = "-".join(p for p in parts if p)
    clock = ":".join(p for p in (digits[8:10], digits[10:12]) if p)
    return f"{day} {clock}".strip() if len(clock) > 2 else day


def range_text(one: Range) -> str:
    """A reference range."""
    return one.text or (value_text(one.value) if one.value else "")


def product_text(one: Product) -> str:
    """A drug or vaccine with its lot and maker."""
    lot = f"批号 {one.lot}" if one.lot else ""
    name = one.name or one.code.label
    code = f"（{one.code.code}）" if one.code.code and one.code.code != name else ""
    return " ".join(p for p in (f"{name}{code}", lot, one.maker) if p)


def party_text(one: Party) -> str:
    """Who took part, with the part played and where from."""
    name = one.name or one.thing.label or one.thing_text or (one.org.name if one.org else "")
    if not name:
        return ""
    where = one.org.name if one.org and one.name else ""
    told = f"{name}（{where}）" if where else name
    return f"{one.function.label}：{told}" if one.function.label else told


# ------------------------------------------------------------------------------------------------------------------- header


def facts(document: Document) -> Iterator[tuple[Text, str]]:
    """The header as facts: whom it is about, who wrote, checks and keeps it, which visit, which document."""
    who = document.patient
    lines: list[tuple[Text, str]] = [
        (T("姓名", "Name"), who.name),
        (T("性别", "Sex"), _sex(who.sex)),
        (T("出生日期", "Born"), time_text(who.birth)),
        (T("年龄", "Age"), value_text(who.age) if who.age else ""),
        (T("婚姻状况", "Marital status"), who.marital.label),
        (T("民族", "Ethnic group"), who.ethnic.label),
        (T("职业", "Occupation"), who.occupation.label),
        (T("工作单位", "Employer"), who.employer),
        (T("住址", "Address"), "；".join(dict.fromkeys(who.addresses))),
        (T("电话", "Telephone"), "、".join(dict.fromkeys(who.phones))),
        (T("监护人", "Guardian"), who.guardian.name if who.guardian else ""),
        (T("就诊", "Visit"), _visit(document)),
        (T("科室病区", "Department"), _where(document.encounter.location if document.encounter else None)),
        (T("作者", "Author"), _people(document.authors)),
        (T("审核", "Authenticated by"), _people(([document.legal] if document.legal else []) + document.authenticators)),
        (T("参与者", "Participants"), _people(document.participants)),
        (T("保管机构", "Custodian"), document.custodian.name if document.custodian else ""),
        (T("文档时间", "Written"), time_text(document.time)),
        (T("文档编号", "Document id"), str(document.id)),
        (T("版本", "Version"), document.version),
        (T("密级", "Confidentiality"), _secret(document)),
    ]  # fmt: skip
    yield from ((label, value) for label, value in lines if value)


def _secret(document: Document) -> str:
    """The confidentiality, where it is more than the usual."""
    code = document.confidentiality
    return "" if code.code.strip().upper() == "N" or not code else code_of(code)


def _sex(code: Code) -> str:
    return {"1": "男", "2": "女", "M": "男", "F": "女"}.get(code.code, "") or code.label


def _visit(document: Document) -> str:
    one = document.encounter
    if one is None:
        return ""
    ids = "、".join(i.extension for i in one.ids if i.extension)
    return " ".join(p for p in (one.code.label, ids, value_text(one.time) if one.time else "") if p)


def _where(org: Org | None) -> str:
    names = [o.name for o in org.chain() if o.name] if org else []
    return " ".join(reversed(names))


def _people(parties: list[Party]) -> str:
    return "；".join(dict.fromkeys(t for t in map(party_text, parties) if t))


# -------------------------------------------------------------------------------------------------------------------- parts


def parts_of(root: Any) -> list[Part]:
    """Images and attachments in the order of the document (``root``: its element), those whose bytes can be had.

    A part keeps its number whatever the others are; ``name`` is the ID by which the narrative calls it.
    """
    out = []
    for number, el in enumerate(_media(root)):
        if number >= MOST_PARTS:
            break
        kind = (el.get("mediaType") or "").split(";")[0].strip().lower()
        try:
            data = base64.b64decode("".join((el.text or "").split()), validate=True)
        except (binascii.Error, ValueError):
            data = b""
        kind = _sniffed(data, kind)
        if data and (kind in IMAGES or kind in ATTACHED):
            parent = el.getparent()
            out.append(Part(number, kind, data, (parent.get("ID") or "") if parent is not None else ""))
    return out


def _media(root: Any) -> Iterator[Any]:
    """Elements that carry bytes: of observationMedia, of a body without sections, or any that says it is base64."""
    for el in root.iter():
        if d.local(el.tag) in ("value", "text") and el.text and el.text.strip():
            parent = el.getparent()
            holder = d.local(parent.tag) if parent is not None else ""
            if (el.get("representation") or "").upper() == "B64" or holder == "observationMedia":
                yield el


def _sniffed(data: bytes, kind: str) -> str:
    """The media type that the bytes themselves show, before what was said of them."""
    for start, found in (
        (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"BM", "image/bmp"),
        (b"%PDF-", "application/pdf"), (b"RIFF", "image/webp"),
    ):  # fmt: skip
        if data.startswith(start):
            return found
    return "" if kind in IMAGES or kind == "application/pdf" else kind
