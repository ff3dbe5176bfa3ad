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
    text = el.text
    if text and not text.isspace():
        plain.append(text)
        html.append(escape(text, quote=False))
    for one in el:
        tag = d.local(one.tag)
        if tag in _DROPPED:
            pass
        elif tag == "br":
            plain.append("\n")
            html.append("<br/>")
        else:
            _one(one, tag, plain, html, above)
        tail = one.tail
        if tail and not tail.isspace():
            plain.append(tail)
            html.append(escape(tail, quote=False))


def _one(el: Any, tag: str, plain: list[str], html: list[str], above: str) -> None:
    out = _TAGS.get(tag, "span")
    if tag == "list":
        out = "ol" if el.get("listType") == "ordered" else "ul"
    elif tag == "caption" and above != "table":
        out = "b"
    breaks = tag in _BREAKS
    plain.append("\n" if breaks else " " if out in ("td", "th") else "")
    html.append(f"<{out}{_spans(el)}>" if out in ("td", "th") and el.attrib else f"<{out}>")
    _walk(el, plain, html, out)
    html.append(f"</{out}>")
    if breaks:
        plain.append("\n")


def _spans(el: Any) -> str:
    """How many columns and rows a cell takes."""
    found = ((name, d.attribute(el, name)) for name in ("colspan", "rowspan"))
    return "".join(f' {name}="{n}"' for name, n in found if n.isdigit() and 0 < int(n) < 100)
