"""Writing HL7 v2: values are escaped here and nowhere else.

A field is a text, a tuple of components (each a text or a tuple of sub-components), or a list of repetitions of those.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any

from lianxin.exchange.v2.message import USUAL, Separators
from lianxin.standards import clock

Field = Any  # str | tuple | list, as above
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def escape(text: str, marks: Separators = USUAL) -> str:
    """A text as a value: delimiters, the escape character and line ends escaped; control characters left out."""
    mark = marks.escape or "\\"
    out = text.replace(mark, f"{mark}E{mark}") if mark in text else text
    for code, one in (("F", marks.field), ("S", marks.component), ("R", marks.repetition), ("T", marks.sub)):
        if one and one in out:
            out = out.replace(one, f"{mark}{code}{mark}")
    if "\n" in out or "\r" in out:
        out = out.replace("\r\n", "\n").replace("\r", "\n").replace("\n", f"{mark}.br{mark}")
    return _CONTROL.sub("", out)


def _component(value: Any, marks: Separators) -> str:
    if isinstance(value, tuple):
        return marks.sub.join(escape(str(v), marks) for v in value).rstrip(marks.sub or None)
    return escape(str(value), marks) if value is not None else ""


def field(value: Field, marks: Separators = USUAL) -> str:
    """A field as it is sent."""
    if isinstance(value, list):
        return marks.repetition.join(field(v, marks) for v in value)
    if isinstance(value, tuple):
        return marks.component.join(_component(v, marks) for v in value).rstrip(marks.component)
    return _component(value, marks)


def segment(name: str, *fields: Field, marks: Separators = USUAL) -> str:
    """A segment without its end: ``fields`` are fields 1, 2 and so on (of MSH: from field 3)."""
    parts = [field(f, marks) for f in fields]
    if name == "MSH":
        parts = [marks.encoding, *parts]
    return marks.field.join([name, *parts]).rstrip(marks.field)


def message(segments: Sequence[str], codec: str = "utf-8") -> bytes:
    """The bytes of a message; characters the codec does not have become "?"."""
    return "".join(f"{s}\r" for s in segments).encode(codec, "replace")


def instant(moment: dt.datetime) -> str:
    """A point in time (DTM), local, with the offset."""
    local = moment.astimezone(clock.ZONE)
    return f"{local:%Y%m%d%H%M%S}{local:%z}"


def day(date: dt.date | None) -> str:
    """A date (DT)."""
    return f"{date:%Y%m%d}" if date else ""
