"""The comparison levels of ``levels.yaml`` as a Python function; :mod:`lianxin.index.match.sql` makes the same in SQL.

The expressions of the table are Python's own grammar cut down to what both executors know; macros are expanded in the syntax
tree. ``compare(a, b)`` gives one level number per field in the order of ``FIELDS``; 0 always means: missing, says nothing.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml
from rapidfuzz.distance import Levenshtein

from lianxin.index.form import Form
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Level:
    """One row of the table: ``when`` is a syntax tree without macros; ``tf`` names the term-frequency table or is "" (``rarer`` too).

    ``near``: evidence that a household shares; ``cap``: most that such evidence counts together beside this level;
    ``fixed``: training leaves its weight alone.
    """

    field: str
    number: int
    code: str
    bits: float
    when: ast.expr
    tf: str
    rarer: str
    near: bool
    cap: float | None
    fixed: bool
    title: Text


class _Expander(ast.NodeTransformer):
    """Replaces calls of macros by their bodies."""

    def __init__(self, macros: dict[str, tuple[list[str], ast.expr]]) -> None:
        self.macros = macros

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        args = [self.visit(a) for a in node.args]
        if name not in self.macros:
            return ast.Call(func=node.func, args=args, keywords=[])
        names, body = self.macros[name]
        return _Filler(dict(zip(names, args, strict=True))).visit(copy.deepcopy(body))


class _Filler(ast.NodeTransformer):
    """Puts arguments in the place of a macro's parameters."""

    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return copy.deepcopy(self.values.get(node.id, node))


def _expression(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _read() -> tuple[dict[str, Text], dict[str, list[Level]]]:
    table = yaml.load((resources.files(__package__) / "levels.yaml").read_text("utf-8"), yaml.CSafeLoader)
    expander = _Expander({})
    for head, body in table["macros"].items():
        call = _expression(head)
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError(f"levels.yaml: {head} is no macro head")
        names = [a.id for a in call.args if isinstance(a, ast.Name)]
        expander.macros[call.func.id] = (names, expander.visit(_expression(body)))
    titles, levels = {}, {}
    for field, entry in table["fields"].items():
        titles[field] = T(*entry["title"])
        levels[field] = [
            Level(
                field,
                number,
                row["code"],
                float(row["bits"]),
                expander.visit(_expression(row["when"])),
                row.get("tf", ""),
                row.get("rarer", ""),
                bool(row.get("near", False)),
                float(row["cap"]) if "cap" in row else None,
                bool(row.get("fixed", False)),
                T(row.get("zh", "缺失"), row.get("en", "Missing")),
            )
            for number, row in enumerate(entry["levels"])
        ]
    return titles, levels


TITLES, LEVELS = _read()
"""Titles of the fields for people; the levels of every field in the order in which they are tried."""
FIELDS: tuple[str, ...] = tuple(LEVELS)
"""Order of the fields in a level vector."""
POSITION: dict[str, int] = {field: i for i, field in enumerate(FIELDS)}


@cache
def number(field: str, code: str) -> int:
    """Number of the level ``code`` of ``field``; raises KeyError for one that the table does not know."""
    for level in LEVELS[field]:
        if level.code == code:
            return level.number
    raise KeyError(f"{field}.{code}")


def code(field: str, level: int) -> str:
    """Code of a level number."""
    return LEVELS[field][level].code


def title(field: str, level: int) -> Text:
    """What people read about a level."""
    return LEVELS[field][level].title


class _Locals(ast.NodeTransformer):
    """a.x -> a_x, so that every attribute is read once; has(x, y) -> y in x."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        side = node.value.id if isinstance(node.value, ast.Name) else ""
        if side not in ("a", "b"):
            raise ValueError(f"levels.yaml: {ast.unparse(node)} is not of a or b")
        self.seen.add((side, node.attr))
        return ast.Name(id=f"{side}_{node.attr}", ctx=ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.AST:
        args = [self.visit(a) for a in node.args]
        if isinstance(node.func, ast.Name) and node.func.id == "has":
            return ast.Compare(left=args[1], ops=[ast.In()], comparators=[args[0]])
        return ast.Call(func=node.func, args=args, keywords=[])


def python_of(field: str, indent: str, target: str) -> tuple[list[str], set[tuple[str, str]]]:
    """Lines of Python that set ``target`` to the field's level, and the attributes (side, name) that they read."""
    reader = _Locals()
    lines = []
    for level in LEVELS[field]:
        condition = ast.unparse(ast.fix_missing_locations(reader.visit(copy.deepcopy(level.when))))
        word = "if" if level.number == 0 else "elif"
        lines.append(f"{indent}else:" if condition == "True" else f"{indent}{word} {condition}:")
        lines.append(f"{indent}    {target} = {level.number}")
    return lines, reader.seen


NAMES: dict[str, Any] = {"lev": Levenshtein.distance, "text": str, "len": len}
"""What generated Python may call."""


def _compile() -> Callable[[Form, Form], tuple[int, ...]]:
    lines: list[str] = []
    known: set[tuple[str, str]] = set()
    for field in FIELDS:
        body, needs = python_of(field, "    ", f"v_{field}")
        lines += [f"    {side}_{name} = {side}.{name}" for side, name in sorted(needs - known)]
        known |= needs
        lines += body
    result = ", ".join(f"v_{field}" for field in FIELDS)
    source = "\n".join(["def compare(a, b):", *lines, f"    return ({result})"])
    space = dict(NAMES)
    exec(compile(source, "levels.yaml", "exec"), space)
    return space["compare"]


compare: Callable[[Form, Form], tuple[int, ...]] = _compile()
"""Level vector of two forms, in the order of ``FIELDS``."""
