"""What messages say: templates are data (``templates.yaml``), in both languages."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lianxin.standards.text import T, Text

LONGEST = 480
"""Characters; longer texts would go out as more than seven parts."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class UnknownTemplate(LookupError):
    """There is no template of this name."""


@dataclass(frozen=True)
class Template:
    """One kind of message: its words, whether it goes at any hour, and for how many minutes it is worth sending."""

    name: str
    text: Text
    urgent: bool
    minutes: int
    places: frozenset[str]


@lru_cache(maxsize=1)
def templates() -> dict[str, Template]:
    """All templates by name; ValueError when the two languages ask for different values."""
    path = Path(__file__).with_name("templates.yaml")
    found = {}
    for name, row in yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader).items():
        zh, en = (_places(row[side]) for side in ("zh", "en"))
        if zh != en:
            raise ValueError(f"templates.yaml: {name} asks for {zh ^ en} in one language only")
        found[name] = Template(
            name, T(row["zh"], row["en"]), bool(row.get("urgent")), int(row["minutes"]), zh
        )
    return found


def _places(text: str) -> frozenset[str]:
    return frozenset(field for _, field, _, _ in string.Formatter().parse(text) if field)


def template(name: str) -> Template:
    """The template; raises :class:`UnknownTemplate`."""
    try:
        return templates()[name]
    except KeyError:
        raise UnknownTemplate(name) from None


def compose(kind: Template, values: Mapping[str, Any], language: str) -> str:
    """The words of a message. ValueError names a value that is missing; control characters in values become blanks, and values
    are cut so that nobody's long name pushes the message over :data:`LONGEST`."""
    if missing := kind.places - values.keys():
        raise ValueError(f"{kind.name}: no value for {', '.join(sorted(missing))}")
    english = language.startswith("en")
    plain = {}
    for name in kind.places:
        value = values[name]
        said = (value.en if english else value.zh) if isinstance(value, Text) else str(value)
        plain[name] = _CONTROL.sub(" ", said).strip()[:60]
    return (kind.text.en if english else kind.text.zh).format(**plain)[:LONGEST]
