"""Messages for the tests of mappings, and the resources they become."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any

import orjson

from lianxin.exchange.v2 import message
from lianxin.exchange.v2.mapping import reading, samples, sheets
from lianxin.exchange.v2.mapping.made import Context, Mapped
from lianxin.exchange.v2.mapping.mapping import Mapping
from lianxin.record import validate

CONTEXT = Context(7, "H01", dt.datetime(2026, 3, 10, 12, tzinfo=dt.timezone(dt.timedelta(hours=8))))
PATIENT = "Patient/p1"


def mapped(text: str | bytes, over: str = "", context: Context = CONTEXT, patient: str = PATIENT) -> Mapped:
    """What a message becomes, with a sheet laid over the built-in mapping; every resource is validated."""
    asked = message.parse(text if isinstance(text, bytes) else samples.encoded(text))
    out = _mapping(asked.kind, over).resources(asked, patient, context)
    for resource in out.resources:
        validate.read(orjson.dumps(resource))
    return out


@cache
def _mapping(kind: tuple[str, str], over: str) -> Mapping:
    return Mapping(sheets.by_event()[kind], kind, [("t", reading.read(over))] if over else [], "t")


def of(out: Mapped, rtype: str) -> list[dict[str, Any]]:
    """Resources of a type."""
    return [r for r in out.resources if r["resourceType"] == rtype]


def sample(name: str) -> Mapped:
    """What a shipped sample becomes."""
    return mapped(samples.built_in()[name].data())


def said(out: Mapped) -> str:
    """All warnings, in English."""
    return "\n".join(w.en for w in out.warnings)


HEAD = "MSH|^~\\&|LAB|CLINIC|HUB|HUB|20260310101500||{kind}|C1|P|2.5.1\nPID|1||A1^^^CLINIC^MR||DOE^JO\n"


def oru(
    *lines: str,
    kind: str = "ORU^R01",
    obr: str = "OBR|1|P1|F1|24331-1^Lipids^LN|||20260310080000|||||||||||||||20260310101000||CH|F",
) -> str:
    """A result with these lines after its OBR."""
    return HEAD.format(kind=kind) + "\n".join([obr, *lines])
