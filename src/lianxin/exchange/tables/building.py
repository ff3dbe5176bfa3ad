"""From values to FHIR: the templates of a target (data/targets), compiled once.

In a template ``$name`` is a value; a member whose value is missing goes, and so does an object or list in which every ``$`` is missing.
``$patient``, ``$organization``, ``$ref.<build>`` are references, ``$system.<what>`` a system of the institution's numbers.  An object
with ``system`` and ``code`` is nothing without its code.  Directives in an object: ``$need``/``$unless`` (the object is there only
with/without that value), ``$ucum`` (adds system and code of a unit that is known); in place of a value: ``{$first: [a, b], else: x}``,
``{$if: a, then: x, else: y}``, ``{$join: [a, b]}``, ``{$instant: a}``, ``{$map: a, code: value}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

import orjson

from lianxin.exchange.tables.convert import Exact, Values
from lianxin.exchange.tables.targets import Build, Target, _load, word

UCUM = "http://unitsofmeasure.org"
Node = Callable[[Values], Any]
REFERENCES = ("patient", "organization")


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
    """The resources of a target for one institution."""

    def __init__(self, target: Target, institution_code: str) -> None:
        self.target = target
        self._code = institution_code
        self.single = [(b, self._object(b.resource)[0]) for b in target.builds if not b.group]
        self.grouped = [(b, self._object(b.resource)[0]) for b in target.builds if b.group]

    def system(self, what: str) -> str:
        """The system of an institution's numbers of some kind."""
        return f"urn:lianxin:{what}:{self._code}"

    @staticmethod
    def wanted(build: Build, values: Values) -> bool:
        """Whether a row makes this resource."""
        return not build.when or any(n in values for n in build.when)

    # ------------------------------------------------------------------------------------------------------------- compiling

    def _node(self, given: Any) -> tuple[Node, bool]:
        """A function from values to what stands there (None: nothing), and whether it depends on values."""
        if isinstance(given, dict):
            return self._object(given)
        if isinstance(given, list):
            return self._list(given)
        if isinstance(given, str) and given.startswith("$"):
            name = given[1:]
            if name.startswith("system."):
                fixed = self.system(name[7:])
                return (lambda v: fixed), False
            return (lambda v: v.get(name)), True
        return (lambda v: given), False

    def _list(self, given: list[Any]) -> tuple[Node, bool]:
        nodes = [self._node(one) for one in given]
        if not any(dynamic for _, dynamic in nodes):
            fixed = [node({}) for node, _ in nodes]
            return (lambda v: fixed), False
        if len(nodes) == 1:
            only = nodes[0][0]

            def one_of(v: Values) -> Any:
                found = only(v)
                return None if found is None else [found]

            return one_of, True
        fns = [node for node, _ in nodes]

        def some_of(v: Values) -> Any:
            return [found for fn in fns if (found := fn(v)) is not None] or None

        return some_of, True

    def _object(self, given: dict[str, Any]) -> tuple[Node, bool]:
        for name, make in _VALUES.items():
            if name in given:
                return make(self, given), True
        need, unless, unit = given.get("$need"), given.get("$unless"), given.get("$ucum")
        fixed: list[tuple[str, Any]] = []
        moving: list[tuple[str, Node]] = []
        order: list[str] = []
        for key, inner in given.items():
            if key.startswith("$"):
                continue
            node, dynamic = self._node(inner)
            order.append(key)
            if dynamic:
                moving.append((key, node))
            else:
                fixed.append((key, node({})))
        coded = "system" in given and any(k == "code" for k, _ in moving)
        if not moving and not need and not unless:
            whole = dict(fixed)
            return (lambda v: whole), False
        begin = dict.fromkeys(order)
        begin.update(fixed)
        gaps = bool(moving)

        def build(v: Values) -> Any:
            if (need and need not in v) or (unless and unless in v):
                return None
            out = begin.copy()
            filled = not gaps
            for key, node in moving:
                found = node(v)
                if found is None:
                    del out[key]
                    if coded and key == "code":
                        return None
                else:
                    out[key] = found
                    filled = True
            if unit and filled and unit in v and (known := ucum(v[unit])):
                out["system"], out["code"] = UCUM, known
            return out if filled else None

        return build, True

    def _first(self, given: dict[str, Any]) -> Node:
        names, otherwise = given["$first"], given.get("else")

        def first(v: Values) -> Any:
            for name in names:
                if name in v:
                    return v[name]
            return otherwise

        return first

    def _if(self, given: dict[str, Any]) -> Node:
        name, then, otherwise = given["$if"], given["then"], given.get("else")
        return lambda v: then if name in v else otherwise

    def _join(self, given: dict[str, Any]) -> Node:
        names = given["$join"]
        return lambda v: " ".join(v[n] for n in names if n in v) or None

    def _instant(self, given: dict[str, Any]) -> Node:
        name = given["$instant"]

        def instant(v: Values) -> Any:
            found = v.get(name)
            return found if found is None or len(found) > 10 else f"{found}T00:00:00+08:00"

        return instant

    def _map(self, given: dict[str, Any]) -> Node:
        name, table = given["$map"], {k: v for k, v in given.items() if k != "$map"}
        return lambda v: table.get(v.get(name))


_VALUES: Mapping[str, Callable[[Builder, dict[str, Any]], Node]] = {
    "$first": Builder._first, "$if": Builder._if, "$join": Builder._join, "$instant": Builder._instant, "$map": Builder._map,
}  # fmt: skip
