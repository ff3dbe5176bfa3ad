"""The bytes of an arrival made readable: segments of HL7 v2, indented XML, the cells of a row; else as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from lxml import etree

from lianxin.access import seal
from lianxin.exchange.feeds.models import CDA, HL7V2, Arrival

MOST = 200_000  # bytes shown in a page; the rest is in the file


@dataclass
class Readable:
    """``segments``: (name, rest) lines of a message; ``cells``: (name, value) of a row; ``text``: anything else. ``cut``: not all."""

    segments: list[tuple[str, str]] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    cut: bool = False


def suffix(door: str) -> str:
    """The ending of the file's name."""
    return {HL7V2: ".hl7", CDA: ".xml"}.get(door, ".txt")


def decoded(body: bytes) -> str:
    """Text in UTF-8 or GB 18030, whichever fits; what fits neither is shown with replacement signs."""
    for codec in ("utf-8-sig", "gb18030"):
        try:
            return body.decode(codec)
        except UnicodeDecodeError:
            continue
    return body.decode("utf-8", "replace")


def _indented(body: bytes) -> str:
    """XML indented; nothing is fetched or expanded, and what cannot be read is shown as it came."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_blank_text=True
    )
    try:
        return etree.tostring(etree.fromstring(body, parser), pretty_print=True, encoding="unicode")
    except (etree.XMLSyntaxError, ValueError):
        return decoded(body)


def _cells(body: bytes) -> list[tuple[str, str]]:
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    if isinstance(found, dict) and found and all(not isinstance(v, dict | list) for v in found.values()):
        return [(str(k), "" if v is None else str(v)) for k, v in found.items()]
    return []


def readable(door: str, body: bytes) -> Readable:
    """What a person reads of ``body``."""
    cut = len(body) > MOST
    part = body[:MOST]
    if door == HL7V2:
        lines = decoded(part).replace("\r\n", "\r").replace("\n", "\r").split("\r")
        return Readable(segments=[(line[:3], line[3:]) for line in lines if line.strip()], cut=cut)
    if door == CDA and not cut:
        return Readable(text=_indented(part))
    cells = _cells(part)
    return Readable(cells=cells, text="" if cells else decoded(part), cut=cut)


def answer_of(arrival: Arrival) -> Readable | None:
    """What the sender was told, when the door answers in words."""
    if arrival.answer is None:
        return None
    return readable(arrival.door, seal.unseal_bytes(bytes(arrival.answer)))
