"""From bytes to an XML tree, safely: no DTD, no entities, no network, bounded in size and depth, any encoding vendors use.

The encoding is found by trying (a declaration is often wrong): BOM, strict UTF-8, then GB18030, which GBK and GB2312 are part
of.  Three mistakes of home-made XML are mended with a warning: bare ``&``, control characters, undeclared prefixes.
"""

from __future__ import annotations

import codecs
import re

from lxml import etree

from lianxin.exchange.feeds.errors import Refusal
from lianxin.standards.text import T, Text

MOST_BYTES = 20 * 1024 * 1024
"""The largest document taken; one text in it may have 10 MB (libxml2's own bound)."""
MOST_PREFIXES = 8

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DECLARED = re.compile(r"^\s*<\?xml[^>]*?\?>", re.S)
_ENCODING = re.compile(r"encoding\s*=\s*[\"']([\w.:-]+)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_BARE = re.compile(r"&(?!(?:#\d{1,7}|#x[0-9A-Fa-f]{1,6}|lt|gt|amp|quot|apos);)")
_REFERENCE = re.compile(r"&#(x[0-9A-Fa-f]{1,6}|\d{1,7});")
_PREFIX = re.compile(r"Namespace prefix ([\w.-]+)")
_ROOT = re.compile(r"<[A-Za-z_][\w.:-]*")
_NAMESPACES = {
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "sdtc": "urn:hl7-org:sdtc",
    "voc": "urn:hl7-org:v3/voc",
}
_CDATA = re.compile(r"<!\[CDATA\[.*?\]\]>", re.S)


def tree(data: bytes) -> tuple[etree._Element, str, list[Text]]:
    """The root element, the encoding the bytes were in, and warnings about what was mended.  Refuses with the place."""
    if not data.strip():
        raise Refusal("structure", T("文档是空的。", "The document is empty."), "/")
    if len(data) > MOST_BYTES:
        raise Refusal(
            "too-long",
            T("文档为 {n} MB，超过 20 MB 的上限，请把影像等大附件另行上传。",
              "The document has {n} MB, over the limit of 20 MB; send large attachments such as images another way.")
            .format(n=str(len(data) // 1024 // 1024)),
            "/",
        )  # fmt: skip
    text, encoding, warnings = _decoded(data)
    declaration = _DECLARED.match(text)
    if declaration:
        text = text[declaration.end() :]
    _no_dtd(text)
    return _parsed(text, warnings), encoding, warnings


def _decoded(data: bytes) -> tuple[str, str, list[Text]]:
    for bom, name in _BOMS:
        if data.startswith(bom):
            try:
                return data.decode(name).lstrip("\ufeff"), name, []
            except UnicodeDecodeError as failure:
                raise _unreadable(failure) from None
    if b"\x00" in data[:4]:
        name = "utf-16-be" if data[:1] == b"\x00" else "utf-16-le"
        try:
            return data.decode(name), name, []
        except UnicodeDecodeError as failure:
            raise _unreadable(failure) from None
    said = _ENCODING.search(data[:200].decode("ascii", "replace"))
    declared = (said.group(1) if said else "utf-8").lower().replace("_", "-")
    try:
        text, found = data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        other = declared if declared in ("big5", "big5-hkscs", "iso-8859-1", "windows-1252") else "gb18030"
        try:
            text, found = data.decode(other), other
        except UnicodeDecodeError as failure:
            raise _unreadable(failure) from None
    family = "gb18030" if declared.startswith("gb") else declared
    if family == found or text.isascii():
        return text, found, []
    return text, found, [
        T("声明的编码是 {said}，实际是 {found}，已按实际编码读取。",
          "The declared encoding is {said}, the text is in {found}; it was read as what it is.")
        .format(said=declared, found=found)
    ]  # fmt: skip


def _unreadable(failure: UnicodeDecodeError) -> Refusal:
    return Refusal(
        "structure",
        T("第 {at} 个字节既不是 UTF-8 也不是 GB18030，文档可能被截断或损坏，请以 UTF-8 重新发送。",
          "Byte {at} is neither UTF-8 nor GB18030; the document may be cut off or damaged: send it again in UTF-8.")
        .format(at=str(failure.start)),
        f"byte {failure.start}",
    )  # fmt: skip


def _no_dtd(text: str) -> None:
    """Refuse a DTD or entity anywhere outside CDATA: a document needs none, and bombs are made of them."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        outside = _CDATA.sub("", text) if "<![CDATA[" in text else text
        if "<!DOCTYPE" in outside or "<!ENTITY" in outside:
            raise Refusal(
                "security",
                T("文档含有 DTD 或实体声明，出于安全不予接收；共享文档不需要它们，请去掉后重发。",
                  "The document has a DTD or declares entities, which is refused for safety; shared documents need none."),
                "/",
            )  # fmt: skip


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        remove_comments=True, remove_pis=True, encoding="utf-8",
    )  # fmt: skip


def _parsed(text: str, warnings: list[Text]) -> etree._Element:
    mended: set[str] = set()
    for _ in range(MOST_PREFIXES + 3):
        try:
            return etree.fromstring(text.encode("utf-8", "replace"), _parser())
        except etree.XMLSyntaxError as failure:
            better = _mended(text, failure, mended, warnings)
            if better is None:
                raise _broken(failure) from None
            text = better
    raise Refusal(
        "structure",
        T("文档用了太多未声明的命名空间前缀。", "The document uses too many undeclared namespace prefixes."),
        "/",
    )


def _mended(text: str, failure: etree.XMLSyntaxError, mended: set[str], warnings: list[Text]) -> str | None:
    """The text with one kind of mistake mended, or None when nothing (more) can be done."""
    prefix = _PREFIX.search(str(failure))
    if prefix and prefix.group(1) not in mended:
        name = prefix.group(1)
        mended.add(name)
        root = _ROOT.search(text)
        if root:
            warnings.append(
                T("命名空间前缀 {p} 没有声明。", "The namespace prefix {p} is not declared.").format(p=name)
            )
            uri = _NAMESPACES.get(name, f"urn:undeclared:{name}")
            return f'{text[: root.end()]} xmlns:{name}="{uri}"{text[root.end() :]}'
    if "characters" not in mended:
        mended.add("characters")
        better = _REFERENCE.sub(_allowed, _CONTROL.sub("", text))
        parts = re.split(r"(<!\[CDATA\[.*?\]\]>)", better, flags=re.S)
        better = "".join(p if p.startswith("<![CDATA[") else _BARE.sub("&amp;", p) for p in parts)
        if better != text:
            warnings.append(
                T(
                    "含有未转义的 & 或控制字符，已改正后读取。",
                    "Bare & or control characters were mended to read it.",
                )
            )
            return better
    return None


def _allowed(reference: re.Match[str]) -> str:
    """A character reference, or nothing when XML has no such character."""
    digits = reference.group(1)
    n = int(digits[1:], 16) if digits[0] == "x" else int(digits)
    fine = n in (9, 10, 13) or 32 <= n < 0xD800 or 0xE000 <= n < 0xFFFE or 0x10000 <= n < 0x110000
    return reference.group(0) if fine else ""


def _broken(failure: etree.XMLSyntaxError) -> Refusal:
    line, column = failure.position or (0, 0)
    words = failure.msg or "no XML"
    place = f"line {line}, column {column}"
    if "depth" in words.lower():
        return Refusal(
            "too-costly",
            T("元素嵌套超过 256 层，不予接收。", "Elements are nested more than 256 deep, which is refused."),
            place,
        )
    if "huge" in words.lower() or "too long" in words.lower() or "too big" in words.lower():
        return Refusal(
            "too-long",
            T("一个元素的文字超过 10 MB，不予接收，请把大附件另行上传。",
              "The text of one element has more than 10 MB, which is refused; send large attachments another way."),
            place,
        )  # fmt: skip
    return Refusal(
        "structure",
        T("不是格式正确的 XML：第 {line} 行第 {column} 列，{why}。文档可能不完整，或文字里有未转义的 < 或引号。",
          "This is no well-formed XML: line {line}, column {column}, {why}. It may be cut off, or have an unescaped < or quote.")
        .format(line=str(line), column=str(column), why=words.split(", line")[0]),
        place,
    )  # fmt: skip
