"""From FHIR to HL7 v2 by data: a YAML file names the segments of a message and, field by field, what of the resources goes there.

A field is an *expression*: ``path | filter | filter(argument) ?? other expression``.  A path is a name of the context (``patient``,
``report``, ``result`` …) with element names and ``[n]`` behind it; lists are walked through.  ``'text'`` is itself.  Without a filter the first
value is written.  ``each: path as name`` repeats a segment, ``when: expression`` leaves it out when there is nothing, ``since`` and
``before`` bind a segment or a field to versions of HL7.  Everything is compiled once for each version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lianxin.exchange.v2.outbound_values import FILTERS
from lianxin.exchange.v2.writing import segment

FOLDER = Path(__file__).parent / "outbound_mappings"
VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8")
_STEP = re.compile(r"([A-Za-z_]\w*)((?:\[\d+\])*)")
_FILTER = re.compile(r"(\w+)(?:\(([^)]*)\))?")

Context = dict[str, Any]
Expression = Callable[[Context], Any]


class BadMapping(ValueError):
    """A mapping file that cannot be understood; says where."""


@dataclass(frozen=True)
class Line:
    """One compiled segment: its fields in order (None: empty)."""

    name: str
    fields: tuple[Expression | None, ...]
    each: Expression | None = None
    as_name: str = ""
    when: Expression | None = None


@dataclass(frozen=True)
class Mapping:
    """A compiled mapping for one version: the structure of the message, and its segments after MSH."""

    name: str
    version: str
    structure: str
    lines: tuple[Line, ...]

    def segments(self, context: Context) -> list[str]:
        """The segments of a message about ``context``, without MSH."""
        out: list[str] = []
        for line in self.lines:
            for within in _rounds(line, context):
                if line.when is None or _filled(line.when(within)):
                    out.append(segment(line.name, *(f(within) if f else "" for f in line.fields)))
        return out


def _rounds(line: Line, context: Context) -> Iterator[Context]:
    if line.each is None:
        yield context
        return
    for number, one in enumerate(line.each(context), 1):
        yield {**context, line.as_name: one, "n": str(number)}


def _filled(value: Any) -> bool:
    return value not in ("", None, [], ())


# ------------------------------------------------------------------------------------------------------------ reading


@lru_cache(maxsize=256)
def load(name: str, version: str, kind: str) -> Mapping:
    """The mapping ``name`` for one version and kind ("ADT^A08"); :class:`BadMapping` when it cannot be read."""
    given = _file(name)
    at = _number(version if version in VERSIONS else "2.5")
    structure = next((str(s) for s, kinds in given["structures"].items() if kind in kinds), "")
    if not structure:
        raise BadMapping(f"{name}: {kind} has no structure")
    tables = given.get("tables", {})
    lines = tuple(
        _line(one, tables, at, f"{name}: {n}")
        for n, one in enumerate(given["segments"], 1)
        if _holds(one, at)
    )
    return Mapping(name, version, structure, lines)


@lru_cache(maxsize=32)
def _file(name: str) -> dict[str, Any]:
    made = yaml.load((FOLDER / f"{name}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    if not isinstance(made, dict) or not {"structures", "segments"} <= made.keys():
        raise BadMapping(f"{name}: structures and segments are wanted")
    return made


def names() -> list[str]:
    """Every mapping there is."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml") if p.stem != "events")


@dataclass(frozen=True)
class Rule:
    """Which change of a resource is told to which parties, as which message."""

    kind: str
    mapping: str
    tell: tuple[str, ...]
    status: tuple[str, ...] = ()
    business: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    first: bool = False
    rf1: str = ""
    reason: str = ""

    def fits(self, now: dict[str, Any], then: dict[str, Any] | None) -> bool:
        """Whether a resource that was ``then`` (None: there was none) and is ``now`` is told of by this rule."""
        if not self._says(now) or (self.first and then is not None):
            return False
        before = then is not None and self._says(then)
        if not self.changed:
            return not before
        return before and then is not None and any(now.get(k) != then.get(k) for k in self.changed)

    def _says(self, one: dict[str, Any]) -> bool:
        if self.status and one.get("status") not in self.status:
            return False
        codes = [c.get("code") for c in (one.get("businessStatus") or {}).get("coding", [])]
        return not self.business or any(c in self.business for c in codes)


@lru_cache(maxsize=1)
def rules() -> dict[str, tuple[Rule, ...]]:
    """The rules of ``events.yaml`` by resource type."""
    given = yaml.load((FOLDER / "events.yaml").read_text("utf-8"), yaml.CSafeLoader)
    return {
        rtype: tuple(
            Rule(
                one["message"], one["mapping"], tuple(one["tell"]), tuple(one.get("status", ())), tuple(one.get("business", ())),
                tuple(one.get("changed", ())), bool(one.get("first")), one.get("rf1", ""), one.get("reason", ""),
            )
            for one in found
        )
        for rtype, found in given.items()
    }  # fmt: skip


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _holds(one: dict[str, Any], at: tuple[int, ...]) -> bool:
    since, before = one.get("since"), one.get("before")
    return (since is None or at >= _number(str(since))) and (before is None or at < _number(str(before)))


def _line(one: dict[str, Any], tables: dict[str, Any], at: tuple[int, ...], where: str) -> Line:
    keys = [k for k in one if k.isupper()]
    if len(keys) != 1 or set(one) - {keys[0], "each", "when", "since", "before"}:
        raise BadMapping(f"{where}: one segment with each, when, since, before")
    name, given = keys[0], one[keys[0]] or {}
    fields: list[Expression | None] = [None] * max(given, default=0)
    for number, said in given.items():
        chosen = next(
            (
                o["value"] if isinstance(o, dict) else o
                for o in (said if isinstance(said, list) else [said])
                if not isinstance(o, dict) or _holds(o, at)
            ),
            None,
        )
        if chosen is not None:
            fields[number - 1] = expression(str(chosen), tables, f"{where} {name}-{number}")
    each, _, as_name = str(one.get("each", "")).partition(" as ")
    return Line(
        name,
        tuple(fields),
        _walk(each.strip(), where) if each else None,
        as_name.strip(),
        _present(str(one["when"]), tables, f"{where} when") if "when" in one else None,
    )


def _present(text: str, tables: dict[str, Any], where: str) -> Expression:
    """A condition: what an expression gives, or for a bare path whatever stands there."""
    return expression(text, tables, where) if "|" in text or "'" in text else _walk(text.strip(), where)


def expression(text: str, tables: dict[str, Any], where: str) -> Expression:
    """Compile one expression; :class:`BadMapping` naming ``where`` when it is none."""
    parts = [_alternative(part.strip(), tables, where) for part in text.split("??")]
    if len(parts) == 1:
        return parts[0]

    def first(context: Context) -> Any:
        for part in parts:
            value = part(context)
            if _filled(value):
                return value
        return ""

    return first


def _alternative(text: str, tables: dict[str, Any], where: str) -> Expression:
    if len(text) >= 2 and text[0] == text[-1] == "'":
        literal = text[1:-1]
        made = tuple(literal.split("^")) if "^" in literal else literal
        return lambda context: made
    head, *given = (part.strip() for part in text.split("|"))
    walk = _walk(head, where)
    filters = [_filter(one, tables, where) for one in given]

    def value(context: Context) -> Any:
        nodes: Any = walk(context)
        for one in filters:
            nodes = one(nodes)
        return _text(nodes) if isinstance(nodes, _Nodes) else nodes

    return value


class _Nodes(list[Any]):
    """What a path led to."""


def _text(nodes: list[Any]) -> str:
    for node in nodes:
        if isinstance(node, bool):
            return "Y" if node else "N"
        if isinstance(node, str | int | float):
            return str(node)
    return ""


def _filter(text: str, tables: dict[str, Any], where: str) -> Callable[[Any], Any]:
    found = _FILTER.fullmatch(text)
    if found is None:
        raise BadMapping(f"{where}: no filter: {text}")
    name, argument = found[1], found[2] or ""
    if name == "table":
        table = {str(k): v for k, v in tables[argument].items()} if argument in tables else None
        if table is None:
            raise BadMapping(f"{where}: no table {argument}")
        return lambda nodes: next((_split(table[t]) for n in nodes if (t := str(n)) in table), "")
    if name == "all":
        return lambda nodes: [str(n) for n in nodes]
    fn = FILTERS.get(name)
    if fn is None:
        raise BadMapping(f"{where}: no filter {name}")
    return (lambda nodes: fn(nodes, argument)) if argument else (lambda nodes: fn(nodes, ""))


def _split(value: Any) -> Any:
    text = str(value)
    return tuple(text.split("^")) if "^" in text else text


def _walk(path: str, where: str) -> Callable[[Context], list[Any]]:
    steps: list[str | int] = []
    for part in path.split("."):
        found = _STEP.fullmatch(part)
        if found is None:
            raise BadMapping(f"{where}: no path: {path}")
        steps.append(found[1])
        steps += [int(n) for n in re.findall(r"\d+", found[2])]
    first, rest = str(steps[0]), steps[1:]

    def walk(context: Context) -> list[Any]:
        value = context.get(first)
        nodes = _Nodes(value if isinstance(value, list) else [] if value is None else [value])
        for step in rest:
            if isinstance(step, int):
                nodes = _Nodes(nodes[step : step + 1])
                continue
            onwards = _Nodes()
            for node in nodes:
                inner = node.get(step) if isinstance(node, dict) else None
                if isinstance(inner, list):
                    onwards += inner
                elif inner is not None:
                    onwards.append(inner)
            nodes = onwards
        return nodes

    return walk
