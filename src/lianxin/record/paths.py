"""Search-parameter expressions compiled to plain walks over the JSON tree.

The R4 expressions use a small part of FHIRPath: member steps, ``as``, ``ofType``, ``where(field='value')``,
``where(resolve() is T)``, ``where(hasExtension(url))``, ``extension(url)``, ``[0]`` and one ``exists()``.  Each becomes leaves: keys to follow, the FHIR type found there, and a filter.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from lianxin.record import definitions

STEP = re.compile(r"\.?(?:(where|as|ofType|extension)\(((?:[^()']|'[^']*'|\([^()]*\))*)\)|\[(\d+)\]|(\w+))")
EXISTS = re.compile(r"^(\w+)\.(\w+)\.exists\(\) and \1\.\2 != false$")


@dataclass(frozen=True)
class Leaf:
    """Where values of one FHIR type are found.

    A step is a key, ``("=", field, value)``, ``("[", n)``, ``("ext", url)`` (the item has this extension) or ``("?", keys)``
    (whether one of the keys has a value other than false).  ``only``: references to this type alone count.
    """

    steps: tuple[Any, ...]
    type: str
    only: str = ""


class Unsupported(ValueError):
    """An expression outside the part of FHIRPath compiled here."""


def _options(type_name: str, key: str) -> list[tuple[str, str]]:
    """(JSON key, type) of an element, choices spelled out."""
    table = definitions.elements(type_name)
    if key in table:
        return [(key, t.partition("(")[0].lstrip("@")) for t in table[key][2].split("|")]
    row = table.get(key + "[x]")
    if row is None:
        raise Unsupported(f"{type_name}.{key}")
    kinds = [t.partition("(")[0] for t in row[2].split("|")]
    return [(key + k[0].upper() + k[1:], k) for k in kinds]


@cache
def compile_path(root: str, expression: str) -> tuple[Leaf, ...]:
    """Leaves of one expression (a part of a union) that starts at ``root``, the name of a resource or data type.

    Raises :class:`Unsupported` for anything outside the part of FHIRPath compiled here.
    """
    text = expression.strip()
    exists = EXISTS.match(text)
    if exists:
        keys = tuple(key for key, _ in _options(root, exists[2]))
        return (Leaf((("?", keys),), "boolean"),)
    cast = re.match(r"^\((.+) as (\w+)\)(.*)$", text)
    if cast:
        text = f"{cast[1]}.as({cast[2]}){cast[3]}"
    if text == root:
        return (Leaf((), root),)
    text = re.sub(rf"^({root}|Resource|DomainResource)\.", "", text)
    found: list[tuple[tuple[Any, ...], str]] = [((), root)]
    only, end = "", 0
    for match in STEP.finditer(text):
        if match.start() != end:
            raise Unsupported(expression)
        end = match.end()
        function, argument, index, key = match.groups()
        if key:
            found = [((*steps, k), t) for steps, at in found for k, t in _options(at, key)]
        elif index is not None:
            found = [((*steps, ("[", int(index))), t) for steps, t in found]
        elif function in ("as", "ofType"):
            wanted = argument[0].lower() + argument[1:] if argument == "DateTime" else argument
            found = [(steps, t) for steps, t in found if t == wanted]
        elif function == "extension":
            url = argument.strip("'")
            found = [
                ((*steps, "extension", ("=", "url", url), k), t)
                for steps, _ in found
                for k, t in _options("Extension", "value")
            ]
        elif argument.startswith("resolve() is "):
            only = argument.removeprefix("resolve() is ").strip()
        else:
            equal = re.match(r"^(\w+)\s*=\s*'([^']*)'$", argument)
            extension = re.match(r"^hasExtension\('([^']*)'\)$", argument)
            if equal:
                found = [((*steps, ("=", equal[1], equal[2])), t) for steps, t in found]
            elif extension:
                found = [((*steps, ("ext", extension[1])), t) for steps, t in found]
            else:
                raise Unsupported(expression)
    if end != len(text):
        raise Unsupported(expression)
    return tuple(Leaf(steps, t, only) for steps, t in found)


def walk(node: Any, steps: tuple[Any, ...]) -> list[Any]:
    """Values reached from ``node``; arrays are flattened."""
    nodes = [node]
    for step in steps:
        if type(step) is str:
            following = []
            for one in nodes:
                value = one.get(step) if type(one) is dict else None
                if value is None:
                    continue
                if type(value) is list:
                    following += value
                else:
                    following.append(value)
            nodes = following
        elif step[0] == "=":
            nodes = [n for n in nodes if type(n) is dict and n.get(step[1]) == step[2]]
        elif step[0] == "ext":
            nodes = [
                n
                for n in nodes
                if type(n) is dict and any(e.get("url") == step[1] for e in n.get("extension", ()))
            ]
        elif step[0] == "?":
            nodes = [any(n.get(key) not in (None, False) for key in step[1]) for n in nodes]
        else:
            nodes = nodes[step[1] : step[1] + 1]
        if not nodes:
            return nodes
    return nodes
