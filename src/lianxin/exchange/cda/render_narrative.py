"""The narrative block of a CDA section as HTML that may be shown: an allow-list, everything else is plain text.

CDA R2 narrative (StrucDoc.Text: paragraph, list, table, content, sub, sup, br, linkHtml, renderMultiMedia) and the HTML that
vendors put in its place become a handful of our own tags.  No attribute of the document is copied; no address is loaded;
scripts, styles, frames and objects go with all they hold; what is not known is unwrapped, its words stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

MOST_SPAN = 50
MOST_DEPTH = 120
MOST_CHARACTERS = 400_000

SAME = {
    "table": "table", "thead": "thead", "tbody": "tbody", "tfoot": "tfoot", "tr": "tr", "th": "th", "td": "td",
    "caption": "caption", "sub": "sub", "sup": "sup", "paragraph": "p", "p": "p", "div": "div", "ul": "ul", "ol": "ol",
    "li": "li", "item": "li", "pre": "pre", "blockquote": "blockquote", "dl": "dl", "dt": "dt", "dd": "dd", "b": "strong",
    "strong": "strong", "i": "em", "em": "em", "u": "u", "footnote": "small", "small": "small",
    "h1": "h4", "h2": "h4", "h3": "h4", "h4": "h5", "h5": "h5", "h6": "h5",
}  # fmt: skip
"""Elements that become one of ours."""
GONE = frozenset(
    {"script", "style", "iframe", "frame", "frameset", "object", "embed", "applet", "head", "title", "meta", "link", "form",
     "input", "button", "select", "textarea", "svg", "math", "template", "noscript", "audio", "video", "canvas", "base"}
)  # fmt: skip
"""Elements that go with all they hold."""
BREAKS = frozenset({"br", "hr"})
STYLES = {
    "bold": "strong", "emphasis": "em", "italics": "em", "underline": "u", "xsup": "sup", "xsub": "sub",
}  # fmt: skip
"""styleCode of CDA R2 (4.3.5.11) as a tag."""
ALIGNED = {"center": "text-center", "right": "text-end"}
INNER = {"table", "thead", "tbody", "tfoot", "tr", "ul", "ol", "dl"}
"""Where loose text between the children is only layout."""

Media = Callable[[str], str]
"""The address of an image of the document by its id ("" when there is none that may be shown)."""


def html(element: Any, media: Media | None = None) -> SafeString:
    """The narrative ``element`` (``<text>``) as markup; an empty one gives "". Never raises for odd content."""
    if element is None:
        return mark_safe("")
    made = _Writer(media or (lambda ref: ""))
    made.inside(element, 0, "")
    return mark_safe("".join(made.out).strip())  # every piece was escaped or is one of ours


def words(element: Any) -> str:
    """The narrative as plain text, a line a block."""
    if element is None:
        return ""
    out: list[str] = []
    for node in element.iter():
        if not isinstance(node.tag, str):
            if node.tail:
                out.append(node.tail)
            continue
        name = _local(node)
        if (name in SAME and SAME[name] in ("p", "div", "li", "tr", "h4", "h5", "caption")) or name in BREAKS:
            out.append("\n")
        elif name in ("td", "th"):
            out.append(" ")
        if node.text and name not in GONE:
            out.append(node.text)
        if node.tail and node is not element:
            out.append(node.tail)
    lines = (" ".join(line.split()) for line in "".join(out).split("\n"))
    return "\n".join(line for line in lines if line)


def _local(node: Any) -> str:
    return str(node.tag).rpartition("}")[2].lower()


class _Writer:
    def __init__(self, media: Media) -> None:
        self.out: list[str] = []
        self.left = MOST_CHARACTERS
        self.media = media

    def text(self, value: str | None, parent: str) -> None:
        if not value or (parent in INNER and not value.strip()) or self.left <= 0:
            return
        self.left -= len(value)
        shown = escape(value if self.left >= 0 else f"{value[: self.left]}…")
        self.out.append(shown if parent == "pre" else shown.replace("\n", "<br>") if value.strip() else " ")

    def inside(self, node: Any, depth: int, parent: str) -> None:
        self.text(node.text, parent)
        for child in node:
            if isinstance(child.tag, str) and self.left > 0 and depth < MOST_DEPTH:
                self.one(child, depth + 1, parent)
            self.text(child.tail, parent)

    def one(self, node: Any, depth: int, parent: str) -> None:
        name = _local(node)
        if name in GONE:
            return
        if name in BREAKS:
            self.out.append(f"<{name}>")
        elif name == "rendermultimedia":
            for ref in (node.get("referencedObject") or "").split():
                self._image(ref)
        elif name == "img":
            self._image((node.get("src") or "").removeprefix("#"))
        elif name == "list":
            tag = "ol" if (node.get("listType") or "").lower() == "ordered" else "ul"
            self._wrapped(tag, "", node, depth)
        elif name == "table":
            self.out.append('<div class="table-wrap"><table class="table table-sm table-bordered">')
            self.inside(node, depth, "table")
            self.out.append("</table></div>")
        elif name in ("content", "span"):
            self._styled(node, depth, parent)
        elif name in SAME:
            tag = SAME[name]
            if tag == "caption" and parent != "table":
                tag = "div"
            self._wrapped(tag, self._cell(node) if tag in ("td", "th") else "", node, depth)
        elif name == "linkhtml" or name == "a":
            self._link(node, depth, parent)
        else:
            self.inside(node, depth, parent)

    def _wrapped(self, tag: str, more: str, node: Any, depth: int) -> None:
        self.out.append(f"<{tag}{more}>")
        self.inside(node, depth, tag)
        self.out.append(f"</{tag}>")

    def _cell(self, node: Any) -> str:
        more = ""
        for name in ("colspan", "rowspan"):
            value = (node.get(name) or "").strip()
            if value.isascii() and value.isdigit() and 1 < int(value[:4]) <= MOST_SPAN:
                more += f' {name}="{int(value[:4])}"'
        align = ALIGNED.get((node.get("align") or "").lower())
        return more + (f' class="{align}"' if align else "")

    def _styled(self, node: Any, depth: int, parent: str) -> None:
        tags = [STYLES[s] for s in (node.get("styleCode") or "").lower().split() if s in STYLES]
        self.out += [f"<{tag}>" for tag in tags]
        self.inside(node, depth, parent)
        self.out += [f"</{tag}>" for tag in reversed(tags)]

    def _link(self, node: Any, depth: int, parent: str) -> None:
        """The words of a link with its address beside them, not to be clicked: it leads out of the record."""
        self.inside(node, depth, parent)
        href = (node.get("href") or "").strip()
        if href.lower().startswith(("http://", "https://")) and href not in "".join(node.itertext()):
            self.out.append(f' <span class="text-secondary">({escape(href[:200])})</span>')

    def _image(self, ref: str) -> None:
        address = self.media(ref) if ref else ""
        if address:
            self.out.append(f'<img class="img-fluid" src="{escape(address)}" alt="">')
