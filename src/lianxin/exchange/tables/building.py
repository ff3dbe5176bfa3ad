"""From values to FHIR: the templates of a target (data/targets), compiled once.

In a template ``$name`` is a value; a member whose value is missing goes, and so does an object or list in which every ``$`` is missing.
``$patient``, ``$organization``, ``$ref.<build>`` are references, ``$system.<what>`` a system of the institution's numbers.  An object
with ``system`` and ``code`` is nothing without its code.  Directives in an object: ``$need``/``$unless`` (the object is there only
with/without that value), ``$ucum`` (adds system and code of a unit that is known); in place of a value: ``{$first: [a, b], else: x}``,
``{$if: a, then: x, else: y}``, ``{$join: [a, b]}``, ``{$instant: a}``, ``{$map: a, code: value}``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import orjson

from lianxin.exchange.tables.convert import Exact, Values
from lianxin.exchange.tables.targets import Build, Target, _load, word

UCUM = "http://unitsofmeasure.org"
Node = Callable[[Values], Any]


@cache
def _units() -> dict[str, str]:
    return {word(str(w)): code for code, words in _load("units.yaml").items() for w in (code, *words)}


@lru_cache(maxsize=5_000)
def ucum(unit: str) -> str:
    """The UCUM code of a unit as it is written here; "" when it is not known."""
    return _units().get(word(unit), "")


def _default(value: Any) -> Any:
    if isinstance(value, Exact):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)


def text_of(resource: dict[str, Any]) -> bytes:
    """A resource as JSON, numbers as they came."""
    return orjson.dumps(resource, default=_default)


class Builder:
    """The resources of a target for one institution: each template becomes one function, written out and compiled once."""

    def __init__(self, target: Target, institution_code: str) -> None:
        self.target = target
        self._code = institution_code
        self.single = [(b, self._compiled(b)) for b in target.builds if not b.group]
        self.grouped = [(b, self._compiled(b)) for b in target.builds if b.group]

    def system(self, what: str) -> str:
        """The system of an institution's numbers of some kind."""
        return f"urn:lianxin:{what}:{self._code}"

    def _compiled(self, build: Build) -> Node:
        """A function from values to the resource. The text that is compiled is made of the template's names and constants only."""
        writer = _Writer(self)
        result, _ = writer.node(build.resource, 1)
        lines = ["def made(v):", "    get = v.get", *writer.lines, f"    return {result}"]
        space: dict[str, Any] = {"ucum": ucum, "UCUM": UCUM, **writer.constants}
        exec(compile("\n".join(lines), f"<{self.target.code}.{build.name}>", "exec"), space)
        made: Node = space["made"]
        return made


class _Writer:
    """Writes the statements of one template; what stands somewhere is an expression, None for nothing."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self._count = 0

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _constant(self, value: Any) -> str:
        name = self._name("c")
        self.constants[name] = value
        return name

    def _put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def node(self, given: Any, depth: int) -> tuple[str, bool]:
        """The expression for a part of a template, and whether it depends on values."""
        if not _moving(given):
            return self._constant(self._fixed(given)), False
        if isinstance(given, list):
            return self._list(given, depth), True
        if isinstance(given, dict):
            return (self._value(given, depth) if _is_value(given) else self._object(given, depth)), True
        name = self._name("t")
        self._put(depth, f"{name} = get({given[1:]!r})")
        return name, True

    def _fixed(self, given: Any) -> Any:
        if isinstance(given, dict):
            return {k: self._fixed(v) for k, v in given.items()}
        if isinstance(given, list):
            return [self._fixed(v) for v in given]
        if isinstance(given, str) and given.startswith("$system."):
            return self._builder.system(given[8:])
        return given

    def _list(self, given: list[Any], depth: int) -> str:
        parts = [self.node(one, depth) for one in given]
        name = self._name("t")
        if len(parts) == 1:
            self._put(depth, f"{name} = [{parts[0][0]}] if {parts[0][0]} is not None else None")
        else:
            shown = ", ".join(p for p, _ in parts)
            self._put(depth, f"{name} = [x for x in ({shown},) if x is not None] or None")
        return name

    def _object(self, given: dict[str, Any], depth: int) -> str:
        name = self._name("t")
        self._put(depth, f"{name} = None")
        conditions = [f"{given['$need']!r} in v"] if "$need" in given else []
        conditions += [f"{given['$unless']!r} not in v"] if "$unless" in given else []
        if conditions:
            self._put(depth, f"if {' and '.join(conditions)}:")
            depth += 1
        parts = [(key, *self.node(inner, depth)) for key, inner in given.items() if not key.startswith("$")]
        moving = [(key, part) for key, part, dynamic in parts if dynamic]
        must = [part for key, part in moving if key == "code" and "system" in given]
        needed = " and ".join(f"{part} is not None" for part in must) or " or ".join(
            f"{part} is not None" for _, part in moving
        )
        inner = depth
        if needed:
            self._put(depth, f"if {needed}:")
            inner = depth + 1
        sure = {part for _, part in moving} if len(moving) == 1 else set(must)
        begun = False
        for start in range(len(parts) + 1):  # what is certain from the beginning is written as one display
            if start == len(parts) or (parts[start][2] and parts[start][1] not in sure):
                shown = ", ".join(f"{key!r}: {part}" for key, part, _ in parts[:start])
                self._put(inner, f"{name} = {{{shown}}}")
                begun = True
                break
        assert begun
        for key, part, dynamic in parts[start:]:
            if dynamic and part not in sure:
                self._put(inner, f"if {part} is not None: {name}[{key!r}] = {part}")
            else:
                self._put(inner, f"{name}[{key!r}] = {part}")
        if "$ucum" in given:
            unit = given["$ucum"]
            self._put(
                inner,
                f"if {unit!r} in v and (u := ucum(v[{unit!r}])): {name}['system'] = UCUM; {name}['code'] = u",
            )
        return name

    def _value(self, given: dict[str, Any], depth: int) -> str:
        name = self._name("t")
        if "$first" in given:
            shown = "".join(f"v[{n!r}] if {n!r} in v else " for n in given["$first"])
            self._put(depth, f"{name} = {shown}{given.get('else')!r}")
        elif "$if" in given:
            self._put(
                depth, f"{name} = {given['then']!r} if {given['$if']!r} in v else {given.get('else')!r}"
            )
        elif "$join" in given:
            self._put(
                depth, f"{name} = ' '.join([v[n] for n in {tuple(given['$join'])!r} if n in v]) or None"
            )
        elif "$instant" in given:
            self._put(depth, f"{name} = get({given['$instant']!r})")
            self._put(depth, f"if {name} is not None and len({name}) == 10: {name} += 'T00:00:00+08:00'")
        else:
            table = self._constant({k: v for k, v in given.items() if k != "$map"})
            self._put(depth, f"{name} = {table}.get(get({given['$map']!r}))")
        return name


_OF_VALUE = frozenset({"$first", "$if", "$join", "$instant", "$map"})


def _is_value(given: dict[str, Any]) -> bool:
    return not _OF_VALUE.isdisjoint(given)


def _moving(given: Any) -> bool:
    """Whether a part of a template depends on values."""
    if isinstance(given, dict):
        return any(k.startswith("$") or _moving(v) for k, v in given.items())
    if isinstance(given, list):
        return any(map(_moving, given))
    return isinstance(given, str) and given.startswith("$") and not given.startswith("$system.")
