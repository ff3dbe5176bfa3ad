"""The comparison levels and the score as SQL for DuckDB and Spark, from the same table that the Python function is made of.

Forms stand in a table with the columns of ``form.COLUMNS``; nothing is NULL ("" and 0 are missing). No Python runs in the engine.
"""

from __future__ import annotations

import ast

from lianxin.index.form import COLUMNS
from lianxin.index.match.levels import FIELDS, LEVELS
from lianxin.index.match.model import POLICY, TF_OF, Model

DUCKDB, SPARK = "duckdb", "spark"

_COMPARE: dict[type, str] = {
    ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_ARITHMETIC: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Mod: "%"}


_TEXT = frozenset(name for name, kind in COLUMNS if kind == "text")


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.Attribute):
        return node.attr in _TEXT
    return isinstance(node, ast.Subscript) or (isinstance(node, ast.BinOp) and _is_text(node.left))


class Writer:
    """An expression of the level table as SQL."""

    def __init__(self, dialect: str, left: str, right: str) -> None:
        if dialect not in (DUCKDB, SPARK):
            raise ValueError(f"no dialect {dialect!r}")
        self.dialect = dialect
        self.side = {"a": left, "b": right}

    def write(self, node: ast.expr) -> str:
        """SQL of ``node``; raises ValueError for what the table's grammar does not have."""
        match node:
            case ast.Constant(value=bool(value)):
                return "TRUE" if value else "FALSE"
            case ast.Constant(value=str(value)):
                return "'" + value.replace("'", "''") + "'"
            case ast.Constant(value=int(value)):
                return str(value)
            case ast.Attribute(value=ast.Name(id=side), attr=name) if side in self.side:
                return f"{self.side[side]}.{name}"
            case ast.BoolOp(op=op, values=values):
                word = " AND " if isinstance(op, ast.And) else " OR "
                return "(" + word.join(self.write(v) for v in values) + ")"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return f"(NOT {self.write(operand)})"
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return f"({self.write(left)} {_COMPARE[type(op)]} {self.write(right)})"
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                word = "//" if self.dialect == DUCKDB else "div"
                return f"({self.write(left)} {word} {self.write(right)})"
            case ast.BinOp(left=left, op=op, right=right):
                word = "||" if _is_text(left) else _ARITHMETIC[type(op)]
                return f"({self.write(left)} {word} {self.write(right)})"
            case ast.IfExp(test=test, body=body, orelse=other):
                return f"(CASE WHEN {self.write(test)} THEN {self.write(body)} ELSE {self.write(other)} END)"
            case ast.Subscript(
                value=value,
                slice=ast.Slice(lower=ast.Constant(value=int(start)), upper=ast.Constant(value=int(end))),
            ):
                return f"substr({self.write(value)}, {start + 1}, {end - start})"
            case ast.Call(func=ast.Name(id=name), args=args):
                return self._call(name, [self.write(a) for a in args])
        raise ValueError(f"levels.yaml: no SQL for {ast.unparse(node)}")

    def _call(self, name: str, args: list[str]) -> str:
        match name:
            case "len":
                return f"length({args[0]})"
            case "lev":
                return f"levenshtein({args[0]}, {args[1]})"
            case "has":
                return f"(instr({args[0]}, {args[1]}) > 0)"
            case "text":
                return f"CAST({args[0]} AS {'VARCHAR' if self.dialect == DUCKDB else 'STRING'})"
        raise ValueError(f"levels.yaml: no function {name}")


def level_sql(field: str, dialect: str, left: str, right: str) -> str:
    """One field's level of the rows ``left`` and ``right`` as a CASE."""
    writer = Writer(dialect, left, right)
    *rows, last = LEVELS[field]
    cases = " ".join(f"WHEN {writer.write(level.when)} THEN {level.number}" for level in rows)
    return f"CASE {cases} ELSE {last.number} END"


def levels_sql(dialect: str, left: str = "l", right: str = "r", prefix: str = "v_") -> str:
    """Select list of all levels, one small integer column per field named ``prefix`` + field."""
    kind = "TINYINT"
    return ",\n".join(
        f"CAST({level_sql(field, dialect, left, right)} AS {kind}) AS {prefix}{field}" for field in FIELDS
    )


TF_COLUMNS: dict[str, tuple[str, str]] = {
    f"tf_{kind}": (kind, attribute) for kind, attribute in TF_OF.items()
}
"""Columns of term-frequency bits that :func:`bits_sql` reads on both sides -> (table of the model, form attribute)."""


def bits_sql(model: Model, left: str = "l", right: str = "r", prefix: str = "v_") -> str:
    """The score in bits from level columns (``prefix`` + field) and the rows' ``TF_COLUMNS``; the same in both dialects."""
    terms, near = [f"({model.prior!r})"], []
    for field in FIELDS:
        column = f"{prefix}{field}"
        plain: list[str] = []
        close: list[str] = []
        for level, weight in zip(LEVELS[field][1:], model.weights[field][1:], strict=True):
            # How rare the value is never counts as the household's: only the weight of its level is capped.
            value = "0.0" if level.near else repr(weight)
            if level.near:
                close.append(f"WHEN {level.number} THEN {weight!r}")
            if level.tf:
                value += f" + LEAST({left}.tf_{level.tf}, {right}.tf_{level.tf})"
            if level.rarer:
                floor = model.tf[level.rarer].floor
                value += (
                    f" + LEAST(0.0, GREATEST({left}.tf_{level.rarer}, {right}.tf_{level.rarer}) - {floor!r})"
                )
            if value != "0.0":
                plain.append(f"WHEN {level.number} THEN {value}")
        if plain:
            terms.append(f"(CASE {column} {' '.join(plain)} ELSE 0 END)")
        if close:
            near.append(f"(CASE {column} {' '.join(close)} ELSE 0 END)")
    none = 1000
    caps = [
        f"CASE {prefix}{field} "
        + " ".join(
            f"WHEN {level.number} THEN {level.cap!r}" for level in LEVELS[field] if level.cap is not None
        )
        + f" ELSE {none} END"
        for field in FIELDS
        if any(level.cap is not None for level in LEVELS[field])
    ]
    newborn = (
        f"CASE WHEN {left}.kind = 0 AND {right}.kind = 0 THEN {none} ELSE {POLICY['near_cap_newborn']} END"
    )
    least = f"LEAST({', '.join([newborn, *caps])})"
    cap = f"(CASE WHEN {least} = {none} THEN {POLICY['near_cap']} ELSE {least} END)"
    return " + ".join([*terms, f"LEAST({' + '.join(near)}, {cap})"])
