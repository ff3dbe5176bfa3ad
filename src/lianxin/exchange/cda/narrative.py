"""The narrative of a section as plain text and as the XHTML that FHIR allows: only known tags, no links, no scripts."""

from __future__ import annotations

from html import escape
from typing import Any

from lianxin.exchange.cda import datatypes as d

_TAGS = {
    "paragraph": "p", "p": "p", "item": "li", "li": "li", "table": "table", "thead": "thead", "tbody": "tbody", "tfoot": "tfoot",
    "tr": "tr", "td": "td", "th": "th", "br": "br", "sub": "sub", "sup": "sup", "b": "b", "i": "i", "caption": "caption",
    "ul": "ul", "ol": "ol", "content": "span", "footnote": "span", "linkHtml": "span", "div": "div", "span": "span",
    "h1": "h1", "h2": "h2", "h3": "h3", "h4": "h4", "pre": "pre", "strong": "b", "em": "i",
}  # fmt: skip
_BREAKS = frozenset(
    {"paragraph", "p", "item", "li", "tr", "br", "div", "table", "caption", "h1", "h2", "h3", "h4", "pre"}
)
_DROPPED = frozenset({"script", "style", "iframe", "object", "embed"})


def both(el: Any) -> tuple[str, str]:
    """Plain text (a line for each paragraph, cells apart by blanks) and XHTML without its outer ``div``; ("", "") when empty."""
    if not len(el):
        text = (el.text or "").strip()
        return text, "".join(
            f"<p>{escape(line, quote=False)}</p>" for line in text.splitlines() if line.strip()
        )
    plain: list[str] = []
    html: list[str] = []
    _walk(el, plain, html, "div")
    text = "\n".join(line for raw in "".join(plain).split("\n") if (line := " ".join(raw.split())))
    return (text, "".join(html).strip()) if text else ("", "")


def _walk(el: Any, plain: list[str], html: list[str], above: str) -> None:
    if el.text and el.text.strip():
        plain.append(el.text)
        html.append(escape(el.text, quote=False))
    for one in el:
        tag = d.local(one.tag)
        if tag not in _DROPPED:
            _one(one, tag, plain, html, above)
        if one.tail and one.tail.strip():
            plain.append(one.tail)
            html.append(escape(one.tail, quote=False))


def _one(el: Any, tag: str, plain: list[str], html: list[str], above: str) -> None:
    out = (
        "ol"
        if tag == "list" and el.get("listType") == "ordered"
        else "ul"
        if tag == "list"
        else _TAGS.get(tag, "span")
    )
    if tag == "caption" and above != "table":
        out = "b"
    if out == "br":
        plain.append("\n")
        html.append("<br/>")
        return
    if tag in _BREAKS:
        plain.append("\n")
    elif tag in ("td", "th"):
        plain.append(" ")
    spans = "".join(
        f' {name}="{n}"'
        for name in ("colspan", "rowspan")
        if (n := d.attribute(el, name)).isdigit() and int(n) < 100
    )
    html.append(f"<{out}{spans}>")
    _walk(el, plain, html, out)
    html.append(f"</{out}>")
    if tag in _BREAKS:
        plain.append("\n")
