"""Trying a mapping on a message: what is read, what comes out, whether it is valid, and what another version would make of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from lianxin.exchange.v2 import message
from lianxin.exchange.v2.errors import Malformed, Refused
from lianxin.exchange.v2.mapping.made import Context, Mapped
from lianxin.exchange.v2.mapping.mapping import Mapping
from lianxin.exchange.v2.mapping.reading import Fault, Faulty
from lianxin.exchange.v2.message import Message
from lianxin.record import validate
from lianxin.record.problems import Issue, Problem
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PATIENT = "Patient/example"
MOST_CHANGES = 200


@dataclass
class Shown:
    """One resource of a trial: its text, and what validation says about it."""

    resource: dict[str, Any]
    text: str
    issues: list[Issue] = field(default_factory=list)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Its elements, a line each."""
        found: dict[str, str] = {}
        for key, value in self.resource.items():
            if key not in ("resourceType", "id"):
                _leaves(key, value, found)
        return list(found.items())

    @property
    def valid(self) -> bool:
        """Whether it may be stored."""
        return not any(issue.severity == "error" for issue in self.issues)


@dataclass
class Trial:
    """What came of trying a mapping on a message."""

    kind: str = ""
    segments: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    resources: list[Shown] = field(default_factory=list)
    warnings: list[Text] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    refused: Text | None = None
    place: str = ""
    version: str = ""
    changes: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the message becomes resources, every one of them valid."""
        return (
            not self.faults
            and self.refused is None
            and bool(self.resources)
            and all(r.valid for r in self.resources)
        )


def compile_for(name: str, asked: Message, over: Iterable[tuple[str, str]]) -> Mapping:
    """The mapping ``name`` for a message, with texts laid over it. Raises :class:`Faulty` and :class:`Refused`."""
    from lianxin.exchange.v2.mapping import reading, sheets

    if sheets.by_event().get(asked.kind) != name:
        raise Refused(
            "200",
            T("消息是 {k}，不归映射 {n} 处理。", "The message is {k}; the mapping {n} is not for it.").format(
                k="^".join(asked.kind)[:20], n=name
            ),
        )
    layers = [(label, reading.read(text)) for label, text in over]
    return Mapping(name, asked.kind, layers, f"{name}@" + "+".join(label for label, _ in layers))


def context(institution_id: int = 0, code: str = "example") -> Context:
    """A context for trials: nothing is stored."""
    return Context(institution_id, code, clock.now().replace(microsecond=0), "trial")


def run(
    name: str, data: bytes, over: Iterable[tuple[str, str]], before: Iterable[tuple[str, str]] | None = None
) -> Trial:
    """Try a mapping on a message; ``before``: the texts of the version it is compared with."""
    made = Trial()
    try:
        asked = message.parse(data)
        made.kind = "^".join(asked.kind)
        made.segments = segments_of(asked)
        mapping = compile_for(name, asked, over)
        out = mapping.resources(asked, PATIENT, context())
    except Faulty as fault:
        made.faults = fault.faults
        return made
    except (Malformed, Refused) as refused:
        made.refused, made.place = refused.text, _placed(refused)
        return made
    made.version = mapping.version
    made.resources = [_shown(r) for r in out.resources]
    made.warnings = out.warnings
    if before is not None:
        made.changes = _changes(name, asked, before, out)
    return made


def _placed(refused: Refused) -> str:
    place = refused.place
    number = f"[{place.number}]" if place.number > 1 else ""
    return f"{place.segment}{number}{str(place).removeprefix(place.segment)}" if place.segment else ""


def segments_of(asked: Message) -> list[tuple[str, list[tuple[str, str]]]]:
    """A message as its segments, each with its fields that say something."""
    return [
        (s.name, [(f"{s.name}-{n}", asked.unescape(f)[:2000]) for n, f in enumerate(s.fields) if n and f])
        for s in asked.segments[:500]
    ]


def _shown(resource: dict[str, Any]) -> Shown:
    raw = orjson.dumps(resource)
    made = Shown(resource, orjson.dumps(resource, option=orjson.OPT_INDENT_2).decode())
    try:
        validate.read(raw)
    except Problem as problem:
        made.issues = list(problem.issues)
    return made


def _changes(
    name: str, asked: Message, before: Iterable[tuple[str, str]], out: Mapped
) -> list[tuple[str, str, str]]:
    """What differs from another version: (path, then, now)."""
    try:
        earlier = compile_for(name, asked, before).resources(asked, PATIENT, context())
        then = earlier.resources
    except (Faulty, Refused):
        then = []
    old, new = _flat(then), _flat(out.resources)
    changed = [(path, old.get(path, ""), new.get(path, "")) for path in dict.fromkeys((*old, *new))]
    return [one for one in changed if one[1] != one[2]][:MOST_CHANGES]


def _flat(resources: list[dict[str, Any]]) -> dict[str, str]:
    out: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for resource in resources:
        rtype = resource["resourceType"]
        n = numbers[rtype] = numbers.get(rtype, -1) + 1
        _leaves(f"{rtype}[{n}]", {k: v for k, v in resource.items() if k != "resourceType"}, out)
    return out


def _leaves(path: str, value: Any, out: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _leaves(f"{path}.{key}", inner, out)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            _leaves(f"{path}[{n}]", inner, out)
    else:
        out[path] = str(value)[:200]


__all__ = ["PATIENT", "Shown", "Trial", "run", "segments_of"]
