"""What all search conditions share: how values are cut up, refusals, and the small SQL pieces on ``keys``."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lianxin.access.scope import Scope
from lianxin.record.problems import Problem, refuse

PREFIXES = frozenset(("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"))
MAX_VALUES = 500  # alternatives of one parameter
MAX_DEPTH = 8  # links of chains and _has
MAX_LENGTH = 8_000  # characters of one value
MAX_NAME = 1_000  # characters of one parameter name
Sql = tuple[str, list[Any]]


class UnknownParameter(Exception):
    """A parameter the type does not have: refused or ignored, as the client prefers."""


@dataclass
class Context:
    """What building conditions needs: a cursor for persons and estimates (None: go without), who asks, and how deep we are."""

    cur: Any
    scope: Scope
    depth: int = 0
    names: list[int] = field(default_factory=lambda: [0])

    def alias(self) -> str:
        """A fresh alias."""
        self.names[0] += 1
        if self.names[0] > 400:
            raise refuse(
                400, "too-costly", "查询过于复杂，请拆分", "the search is too complex; split it into several"
            )
        return f"x{self.names[0]}"

    def deeper(self, name: str) -> "Context":
        """The context one link further."""
        if self.depth >= MAX_DEPTH:
            raise bad(name, f"链接层数超过 {MAX_DEPTH}", f"more than {MAX_DEPTH} links in the chain")
        return Context(self.cur, self.scope, self.depth + 1, self.names)

    def estimate(self, query: str, args: list[Any]) -> float:
        """Rows the planner expects of a query: used only to choose between two ways of asking the same."""
        if self.cur is None:
            return float("inf")
        self.cur.execute(f"EXPLAIN (FORMAT JSON) {query}", args)
        return float(self.cur.fetchone()[0][0]["Plan"]["Plan Rows"])


def bad(name: str, zh: str, en: str) -> Problem:
    """A search parameter that cannot be taken (400)."""
    name = name[:100]
    return refuse(400, "invalid", f"查询参数 {name}：{zh}", f"search parameter {name}: {en}", name)


def bad_modifier(name: str, modifier: str) -> Problem:
    """A modifier that does not go with this parameter (400): FHIR has servers refuse these, whatever the client prefers."""
    modifier = modifier[:60]
    return bad(name, f"不支持修饰符 :{modifier}", f"modifier :{modifier} is not supported here")


def split(text: str, mark: str) -> list[str]:
    """Split at an unescaped mark."""
    if "\\" not in text:
        return text.split(mark)
    parts, start, i = [], 0, 0
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        if text[i] == mark:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [*parts, text[start:]]


def plain(text: str) -> str:
    r"""Undo ``\,`` ``\|`` ``\$`` and ``\\``."""
    if "\\" not in text:
        return text
    out, i = [], 0
    while i < len(text):
        if text[i] == "\\" and i + 1 < len(text) and text[i + 1] in ",|$\\":
            i += 1
        out.append(text[i])
        i += 1
    return "".join(out)


def prefixed(value: str) -> tuple[str, str]:
    """(prefix, rest) of an ordered value; ``eq`` when none is written."""
    return (value[:2], value[2:]) if value[:2] in PREFIXES else ("eq", value)


def any_of(parts: list[Sql]) -> Sql:
    """Disjunction (nothing: false)."""
    if not parts:
        return "FALSE", []
    if len(parts) == 1:
        return parts[0]
    return "(" + " OR ".join(p[0] for p in parts) + ")", [v for p in parts for v in p[1]]


def all_of(parts: list[Sql]) -> Sql:
    """Conjunction (nothing: true)."""
    if not parts:
        return "TRUE", []
    if len(parts) == 1:
        return parts[0]
    return "(" + " AND ".join(p[0] for p in parts) + ")", [v for p in parts for v in p[1]]


def negated(part: Sql) -> Sql:
    """Negation."""
    return f"NOT ({part[0]})", part[1]


def any_key(alias: str, keys: Iterable[int]) -> Sql:
    """The row has at least one of these keys."""
    found = list(dict.fromkeys(keys))
    if not found:
        return "FALSE", []
    if len(found) == 1:
        return f"{alias}.keys @> ARRAY[%s::bigint]", found
    return f"{alias}.keys && %s::bigint[]", [found]
