"""The compiled mappings of this process, by message and sender.

Built-in sheets never change; what is laid over them is asked for at most every two seconds (:data:`FRESH`), so that a listener
takes an activated version up without being told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

from lianxin.exchange.v2 import errors
from lianxin.exchange.v2.errors import REJECTED, Place, Refused
from lianxin.exchange.v2.mapping import reading, sheets
from lianxin.exchange.v2.mapping.mapping import Mapping
from lianxin.exchange.v2.mapping.reading import Faulty, Sheet
from lianxin.exchange.v2.message import Message
from lianxin.standards.text import T

log = logging.getLogger(__name__)

FRESH = 2.0
"""Seconds for which the database is not asked again."""
MOST = 2000

Event = tuple[str, str]
Layers = list[tuple[str, Sheet]]


@cache
def kinds() -> frozenset[Event]:
    """Every message (code and event) that has a mapping."""
    return frozenset(sheets.by_event())


class Shelf:
    """Compiled mappings, thrown away when the stored versions change."""

    def __init__(self) -> None:
        self._mappings: dict[tuple[Event, int | None], Mapping] = {}
        self._layers: dict[tuple[str, int | None], tuple[str, str]] = {}
        self._stamp: Any = None
        self._looked = 0.0
        self._lock = threading.Lock()

    def find(self, event: Event, peer_id: int | None) -> Mapping:
        """The mapping for a message of a sender, as the active versions have it."""
        if time.monotonic() - self._looked > FRESH:
            self.refresh()
        found = self._mappings.get((event, peer_id))
        if found is not None:
            return found
        name = sheets.by_event().get(event)
        if name is None:
            raise _unknown(event)
        made = compiled(name, event, self._over(name, peer_id))
        if len(self._mappings) > MOST:
            self._mappings.clear()
        self._mappings[(event, peer_id)] = made
        return made

    def refresh(self) -> None:
        """Ask the database whether the active versions changed, and read them when they did."""
        from django.db.models import Count, Max

        from lianxin.exchange.v2.mapping.models import ACTIVE, MappingVersion

        with self._lock:
            stamp = MappingVersion.objects.aggregate(last=Max("changed_at"), n=Count("pk"))
            if stamp != self._stamp:
                rows = MappingVersion.objects.filter(state=ACTIVE).values_list(
                    "kind", "peer_id", "version", "body"
                )
                self._layers = {
                    (kind, peer): (f"{'s' if peer else 'a'}{version}", body)
                    for kind, peer, version, body in rows
                }
                self._mappings.clear()
                self._stamp = stamp
            self._looked = time.monotonic()

    def _over(self, name: str, peer_id: int | None) -> Iterable[tuple[str, str]]:
        keys = [(name, None)] if peer_id is None else [(name, None), (name, peer_id)]
        return [self._layers[key] for key in keys if key in self._layers]


def compiled(name: str, event: Event, over: Iterable[tuple[str, str]]) -> Mapping:
    """A built-in mapping with texts (label, YAML) laid over it. A stored text that cannot be used any more refuses its messages:
    they are kept and can be replayed when it is mended."""
    layers: Layers = []
    version = f"{name}@{sheets.built_in()[name].data.get('version', 1)}"
    try:
        for label, text in over:
            layers.append((label, reading.read(text)))
            version += f"+{label}"
        return Mapping(name, event, layers, version)
    except Faulty as fault:
        log.error("the mapping %s cannot be used: %s", version, fault)
        said = T(
            "该发送方的映射 {v} 有误，须先修正。",
            "The mapping {v} of this sender is faulty; it must be mended first.",
        )
        raise Refused(errors.INTERNAL, said.format(v=version), Place("MSH", 1, 9)) from None


_shelf = Shelf()


def find(message: Message, peer_id: int | None = None) -> Mapping:
    """The mapping for a message of a sender. AR when nothing maps such messages."""
    return _shelf.find(message.kind, peer_id)


def forget() -> None:
    """Look into the database at the next message."""
    _shelf._looked = 0.0
    _shelf._stamp = None


def _unknown(event: Event) -> Refused:
    known = any(code == event[0] for code, _ in kinds())
    said = T("没有消息“{k}”的映射。", "There is no mapping for messages {k}.").format(k="^".join(event)[:20])
    return Refused(
        errors.EVENT if known else errors.TYPE, said, Place("MSH", 1, 9, 2 if known else 1), REJECTED
    )
