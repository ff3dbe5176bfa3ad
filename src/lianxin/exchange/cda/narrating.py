"""The readable text of a section: what its author wrote, or a table made of its entries."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from lxml import etree

from lianxin.exchange.cda import values
from lianxin.exchange.cda.model import Entry, Section, Value

_TAGS = {
    "p": "paragraph", "h1": "paragraph", "h2": "paragraph", "h3": "paragraph", "h4": "paragraph", "pre": "paragraph",
    "div": "paragraph", "li": "item", "b": "content", "i": "content", "span": "content",
}  # fmt: skip
_SAME = frozenset({"table", "thead", "tbody", "tfoot", "tr", "td", "th", "br", "sub", "sup", "caption"})
_BLOCKS = frozenset({"paragraph", "list", "table"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_YES = {"true": "是", "false": "否"}


def of_section(section: Section) -> str:
    """The content of ``section/text``."""
    if section.html and (found := _of_html(section.html)):
        return found
    rows = [r for e in section.entries for r in _rows(e)]
    if rows:
        cells = "".join(f"<tr><td>{_t(label)}</td><td>{_t(said)}</td></tr>" for label, said in rows)
        return f'<table border="1"><thead><tr><th>项目</th><th>内容</th></tr></thead><tbody>{cells}</tbody></table>'
    return _t(section.text) or ("见下级章节" if section.sections else "无")


def _t(text: str) -> str:
    return escape(_CONTROL.sub("", text))


def _rows(entry: Entry) -> list[tuple[str, str]]:
    out = []
    for one in entry.walk():
        said = "；".join(s for v in one.values if (s := _said(v)))
        if one.tag == "substanceAdministration" and one.product:
            said = " ".join(
                filter(
                    None,
                    (
                        one.product.name or one.product.code.label,
                        _said(one.dose),
                        one.route.label,
                        _said(one.rate),
                    ),
                )
            )
        if one.tag == "procedure":
            said = " ".join(
                filter(None, (one.code.label, one.code.code if one.code.label != one.code.code else ""))
            )
        said = said or one.text
        if said:
            label = (
                one.label
                or {"substanceAdministration": "药物", "procedure": "手术操作"}.get(one.tag, "")
                or one.code.label
            )
            out.append((label, said))
    return out


def _said(value: Value | None) -> str:
    if value is None:
        return ""
    if value.code is not None:
        code = value.code
        return f"{code.label}（{code.code}）" if code.code and code.label != code.code else code.label
    if value.data:
        return "（附件）"
    if value.low or value.high:
        return " – ".join(_said(v) for v in (value.low, value.high) if v)
    if value.type == "TS":
        return values.instant(value.text).replace("T", " ")[:16] or value.text
    if value.type == "BL":
        return _YES.get(value.text, value.text)
    return f"{value.text} {value.unit}".strip()


def _of_html(html: str) -> str:
    """XHTML of FHIR as the narrative of CDA ("" when it cannot be read)."""
    try:
        root = etree.fromstring(
            f"<div>{html}</div>", etree.XMLParser(resolve_entities=False, no_network=True)
        )
    except etree.XMLSyntaxError:
        return ""
    return _inner(root)


def _inner(el: etree._Element, above: str = "") -> str:
    out = [_t(el.text or "")]
    for one in el:
        tag = etree.QName(one).localname if isinstance(one.tag, str) else ""
        out.append(_one(one, tag, above))
        out.append(_t(one.tail or ""))
    return "".join(out)


def _one(el: etree._Element, tag: str, above: str) -> str:
    if tag in ("ul", "ol"):
        kind = ' listType="ordered"' if tag == "ol" else ""
        items = "".join(
            _one(i, "li", "list") for i in el if isinstance(i.tag, str) and etree.QName(i).localname == "li"
        )
        return f"<list{kind}>{items}</list>" if items else ""
    if tag == "br":
        return "<br/>"
    made = tag if tag in _SAME else _TAGS.get(tag, "content")
    if made == "paragraph" and above == "paragraph":
        made = "content"
    spans = "".join(f' {n}="{el.get(n)}"' for n in ("colspan", "rowspan") if (el.get(n) or "").isdigit())
    return f"<{made}{spans}>{_inner(el, made)}</{made}>"
