"""What a table can become: data/targets/*.yaml (columns, key, resources) and data/values.yaml (value tables). Adding one is adding data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lianxin.exchange.tables.reading import plain
from lianxin.standards.text import T, Text

DATA = Path(__file__).parent / "data"
TYPES = frozenset(
    {"text", "id", "code_text", "identity", "phone", "date", "datetime", "number", "integer", "code", "result", "range"}
)  # fmt: skip
_NOTHING = T("", "")


@dataclass(frozen=True)
class Value:
    """One code of a value table, with the words that mean it (plain, see :func:`word`)."""

    code: str
    label: Text
    words: frozenset[str]


@dataclass(frozen=True)
class Column:
    """One column a target takes. ``type``: one of :data:`TYPES`; ``values``: name of its value table."""

    name: str
    type: str
    label: Text
    synonyms: tuple[str, ...] = ()
    help: Text = _NOTHING
    example: str = ""
    values: str = ""
    unit: str = ""
    default: str = ""
    max: int = 0
    least: float | None = None
    most: float | None = None
    required: bool = False
    past: bool = False
    lenient: bool = False

    def headings(self) -> set[str]:
        """Plain headings this column is known by."""
        return {plain(h) for h in (self.name, self.label.zh, self.label.en, *self.synonyms)}


@dataclass(frozen=True)
class Build:
    """One resource made from a row; with ``group`` from all rows that agree in these columns (``collect``: what it gathers of them)."""

    name: str
    type: str
    resource: dict[str, Any]
    when: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    collect: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A kind of table. ``key``: columns that say which row it is (the first list that has all its values); ``person``: "full" when the
    row is about the person itself."""

    code: str
    order: int
    name: Text
    about: Text
    key: tuple[tuple[str, ...], ...]
    columns: dict[str, Column]
    builds: tuple[Build, ...]
    require: frozenset[str]
    require_any: tuple[tuple[str, ...], ...] = ()
    order_of: tuple[tuple[str, str], ...] = ()
    person: str = ""

    def known(self) -> set[str]:
        """Every plain heading that is understood."""
        return {h for c in self.columns.values() for h in c.headings()}


def _pair(given: Any) -> Text:
    zh, en = given or ("", "")
    return T(str(zh), str(en))


@cache
def _load(name: str) -> Any:
    return yaml.load((DATA / name).read_text("utf-8"), Loader=yaml.CSafeLoader)


def word(text: str) -> str:
    """A value for comparison with a value table: without case and blanks, full-width forms as plain ones."""
    import unicodedata

    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


@cache
def values(name: str) -> dict[str, Value]:
    """A value table by code; KeyError for one that is not there."""
    out = {}
    for code, (zh, en, *words) in _load("values.yaml")[name].items():
        told = {word(str(w)) for w in (code, zh, en, *words)}
        out[str(code)] = Value(str(code), T(str(zh), str(en)), frozenset(told))
    return out


def _column(given: dict[str, Any]) -> Column:
    kept = {k: v for k, v in given.items() if k not in ("label", "help", "synonyms", "example", "default")}
    made = Column(
        label=_pair(given["label"]), help=_pair(given.get("help")), synonyms=tuple(map(str, given.get("synonyms", ()))),
        example=str(given.get("example", "")), default=str(given.get("default", "")), **kept,
    )  # fmt: skip
    if made.type not in TYPES or (made.type == "code") != bool(made.values):
        raise ValueError(f"column {made.name}: {made.type}")
    if made.values:
        values(made.values)
    return made


@cache
def targets() -> dict[str, Target]:
    """Every target by its code, in the order they are offered."""
    person = [_column(c) for c in _load("targets/person.yaml")["columns"]]
    found = []
    for path in sorted((DATA / "targets").glob("*.yaml")):
        if path.stem != "person":
            found.append(_target(_load(f"targets/{path.name}"), person))
    return {t.code: t for t in sorted(found, key=lambda t: t.order)}


def _target(given: dict[str, Any], person: list[Column]) -> Target:
    own = [_column(c) for c in given["columns"]]
    columns = {c.name: c for c in [*person, *own]}
    builds = tuple(
        Build(
            b["name"], b["type"], b["resource"], tuple(b.get("when", ())), tuple(b.get("group", ())), b.get("collect", {})
        )
        for b in given["builds"]
    )  # fmt: skip
    return Target(
        given["code"], given["order"], _pair(given["name"]), _pair(given["about"]), tuple(map(tuple, given["key"])), columns, builds,
        frozenset([*given.get("require", ()), *(c.name for c in columns.values() if c.required)]),
        tuple(map(tuple, given.get("require_any", ()))), tuple((a, b) for a, b in given.get("order_of", ())), given.get("person", ""),
    )  # fmt: skip


def target(code: str) -> Target:
    """A target by its code; KeyError when there is none."""
    return targets()[code]
