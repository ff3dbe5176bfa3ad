"""The table of message kinds that are taken. A room that takes another kind registers its handler in ``AppConfig.ready()``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.v2 import errors, mapping
from lianxin.exchange.v2.errors import REJECTED, Place, Refused
from lianxin.exchange.v2.message import Message
from lianxin.record.store import Result, Write
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Taken:
    """A message of a known sender on its way: on whose behalf, for which institution, with which default system of numbers."""

    message: Message
    scope: Scope
    institution_id: int
    default_system: str = ""


@dataclass
class Outcome:
    """What became of a message: whom it is about, what is to be stored (``writes``) and what was (``results``), which mapping
    understood it, warnings for the sender, and what its answer holds beside the ACK."""

    person_id: int | None = None
    warnings: list[Text] = field(default_factory=list)
    code: str = "AA"
    kind: tuple[str, ...] = ()
    segments: Sequence[str] = ()
    errors: list[Refused] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    mapping: str = ""


Handler = Callable[[Any, Taken], Outcome]


@dataclass(frozen=True)
class Kind:
    """A handler; ``letter``: the SMART permission on Patient its sender needs; ``reads``: it changes nothing and is not kept."""

    fn: Handler
    letter: str
    reads: bool


_kinds: dict[tuple[str, str], Kind] = {}
_claims: dict[tuple[str, str], tuple[Callable[[Message, Scope], bool], Kind]] = {}


def register(
    code: str, events: Sequence[str], fn: Handler, *, letter: str = "u", reads: bool = False
) -> None:
    """Give messages ``code^event`` to ``fn(cursor, taken)``, which runs in one transaction with what is kept of the message."""
    for event in events:
        made = Kind(fn, letter, reads)
        if _kinds.setdefault((code, event), made).fn is not fn:
            raise ValueError(f"{code}^{event} is already taken")


def register_claim(
    code: str,
    events: Sequence[str],
    claims: Callable[[Message, Scope], bool],
    fn: Handler,
    *,
    letter: str = "u",
) -> None:
    """Give mapped messages ``code^event`` to ``fn`` when ``claims(message, scope)`` says that they are about what it keeps."""
    for event in events:
        _claims.setdefault((code, event), (claims, Kind(fn, letter, False)))


def claimed(message: Message, scope: Scope) -> Kind | None:
    """Who claims a message that would else be mapped, if anybody does."""
    found = _claims.get(message.kind)
    return found[1] if found is not None and found[0](message, scope) else None


def find(message: Message) -> Kind | None:
    """Who takes a message; None: it is mapped (and feeds its patient); AR naming the type or the event when nobody takes it."""
    code, event = message.kind
    found = _kinds.get((code, event))
    if found is not None:
        return found
    if (code, event) in mapping.kinds():
        return None
    if any(c == code for c, _ in (*_kinds, *mapping.kinds())):
        raise Refused(
            errors.EVENT,
            T("不受理 {code} 的触发事件“{event}”。", "The event {event} of {code} is not taken.").format(
                code=code[:10], event=event[:10]
            ),
            Place("MSH", 1, 9, 2),
            REJECTED,
        )
    raise Refused(
        errors.TYPE,
        T("不受理消息类型“{code}”。", "Messages of type {code} are not taken.").format(code=code[:10]),
        Place("MSH", 1, 9, 1),
        REJECTED,
    )


def taken() -> list[str]:
    """Every kind that is taken, as ``ADT^A01``."""
    return sorted(f"{code}^{event}" for code, event in {*_kinds, *mapping.kinds()})
