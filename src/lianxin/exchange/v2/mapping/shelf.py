"""The compiled mappings of this process, by message and sender."""

from __future__ import annotations

from functools import cache

from lianxin.exchange.v2 import errors
from lianxin.exchange.v2.errors import REJECTED, Place, Refused
from lianxin.exchange.v2.mapping import sheets
from lianxin.exchange.v2.mapping.mapping import Mapping
from lianxin.exchange.v2.message import Message
from lianxin.standards.text import T

_shelf: dict[tuple[tuple[str, str], int | None], Mapping] = {}


@cache
def kinds() -> frozenset[tuple[str, str]]:
    """Every message (code and event) that has a mapping."""
    return frozenset(sheets.by_event())


def find(message: Message, peer_id: int | None = None) -> Mapping:
    """The mapping for a message of a sender. AR when nothing maps such messages."""
    event = message.kind
    found = _shelf.get((event, peer_id))
    if found is None:
        name = sheets.by_event().get(event)
        if name is None:
            raise _unknown(event)
        version = f"{name}@{sheets.built_in()[name].data.get('version', 1)}"
        found = _shelf[(event, peer_id)] = Mapping(name, event, [], version)
    return found


def _unknown(event: tuple[str, str]) -> Refused:
    known = any(code == event[0] for code, _ in kinds())
    said = T("没有消息“{k}”的映射。", "There is no mapping for messages {k}.").format(k="^".join(event)[:20])
    return Refused(
        errors.EVENT if known else errors.TYPE, said, Place("MSH", 1, 9, 2 if known else 1), REJECTED
    )
