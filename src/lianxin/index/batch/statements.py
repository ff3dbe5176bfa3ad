"""The statements of a link, one text for DuckDB and Spark.

Tables: ``form`` (rid, pid, columns of a form, keys, tf_*: what its name's rarity is worth), ``key`` (k, rid) without crowded ones,
``part`` (l, r: rids of a slice's pairs). A pair's level vector travels as one whole number, its *pattern*: the levels and the two
kinds of name (and twins) in mixed radix; the policy judges each pattern once in Python instead of every pair.
"""

from __future__ import annotations

import ast
import math

from lianxin.index.form import COLUMNS, NAMED
from lianxin.index.match import sql
from lianxin.index.match.levels import FIELDS, LEVELS, number
from lianxin.index.match.model import Model

KINDS = 3
SIZES = (*(len(LEVELS[field]) for field in FIELDS), KINDS, KINDS, 2)
"""Radix of each place of a pattern: the fields in order, the kind of the left and of the right name, whether either is a twin."""
if math.prod(SIZES) >= 1 << 56:
    raise ValueError("a level vector no longer fits a 64-bit pattern: carry it in two numbers")

KEY = "SELECT {explode}(keys) AS k, rid FROM form"
USEFUL = "SELECT k FROM key_all GROUP BY k HAVING count(*) BETWEEN 2 AND {cap}"
TOO_MANY = "SELECT k FROM key_all GROUP BY k HAVING count(*) > {cap}"
CROWDED = "SELECT count(*) AS keys, coalesce(sum(n), 0) AS entries FROM (SELECT count(*) AS n FROM key_all GROUP BY k HAVING count(*) > {cap}) t"
KEY_USED = "SELECT k, rid FROM key_all WHERE k IN (SELECT k FROM key_useful)"
PAIRS = (
    "SELECT DISTINCT x.rid AS l, y.rid AS r FROM key x JOIN key y ON x.k = y.k AND x.rid < y.rid"
    " WHERE x.rid % {slices} = {slice}"
)
WITHIN = "SELECT x.rid AS l, y.rid AS r FROM member x JOIN member y ON x.label = y.label AND x.rid < y.rid"
"""Every pair of a group, whether or not a key brought the two together."""
WITHIN_KEYED = (
    "SELECT DISTINCT x.rid AS l, y.rid AS r FROM key x JOIN key y ON x.k = y.k AND x.rid < y.rid"
    " JOIN member m ON m.rid = x.rid JOIN member o ON o.rid = y.rid AND o.label = m.label"
)
"""The same of a group too large for that: only pairs that share a key."""
VALUES = "SELECT {attribute} AS value, count(*) AS n FROM form WHERE {attribute} <> '' AND {which} GROUP BY {attribute}"


def vector_of(pattern: int) -> tuple[tuple[int, ...], int, int, int]:
    """(level vector, kind of the left name, kind of the right name, 1 when either is known for a twin) of a pattern."""
    out = []
    for size in SIZES:
        pattern, level = divmod(pattern, size)
        out.append(level)
    return tuple(out[: len(FIELDS)]), out[-3], out[-2], out[-1]


def _pattern() -> str:
    places = [*(f"v_{field}" for field in FIELDS), "l_kind", "r_kind", "twins"]
    terms, weight = [], 1
    for size, place in zip(SIZES, places, strict=True):
        terms.append(f"CAST({place} AS BIGINT) * {weight}")
        weight *= size
    return " + ".join(terms)


class _Hopeful(sql.Writer):
    """Conditions with every costly comparison (edit distance) taken for true."""

    def write(self, node: ast.expr) -> str:
        if isinstance(node, ast.Compare) and _costly(node):
            return "TRUE"
        return super().write(node)


def _costly(node: ast.AST) -> bool:
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "lev"
        for n in ast.walk(node)
    )


def bound(model: Model, dialect: str) -> str:
    """SQL of a score that the pair cannot exceed, without edit distances and without the household's cap."""
    writer = _Hopeful(dialect, "l", "r")
    terms = [repr(model.prior)]
    for field in FIELDS:
        rows, weights = LEVELS[field], model.weights[field]
        cases = []
        for row in rows[:-1]:
            best = max(weights[row.number :]) if _costly(row.when) else weights[row.number]
            rarity = f" + LEAST(l.tf_{row.tf}, r.tf_{row.tf})" if row.tf else ""
            cases.append(f"WHEN {writer.write(row.when)} THEN {best!r}{rarity}")
        terms.append(f"(CASE {' '.join(cases)} ELSE {weights[rows[-1].number]!r} END)")
    return " + ".join(terms)


_ALWAYS_HOPEFUL = (
    f"l.kind <> {NAMED} OR r.kind <> {NAMED} OR (l.id_no <> '' AND l.id_no = r.id_no)"
    " OR (l.birth_cert <> '' AND l.birth_cert = r.birth_cert)"
)
_ALWAYS_KEPT = (
    f"l_kind <> {NAMED} OR r_kind <> {NAMED} OR v_id IN ({number('id', 'own')}, {number('id', 'document')},"
    f" {number('id', 'same_wrong')}) OR v_certificate = {number('certificate', 'exact')}"
)
"""Pairs that the policy looks at whatever their score."""

_COLUMNS = [name for name, _ in COLUMNS]


def _levels(dialect: str, source: str, where: str) -> str:
    rarity = ", ".join(f"l.{c} AS l_{c}, r.{c} AS r_{c}" for c in sql.TF_COLUMNS)
    return (
        f"SELECT p.l AS rid_l, p.r AS rid_r, l.kind AS l_kind, r.kind AS r_kind,"
        f" CASE WHEN l.twin <> 0 OR r.twin <> 0 THEN 1 ELSE 0 END AS twins, {rarity},\n"
        f"{sql.levels_sql(dialect)}\nFROM {source} p JOIN form l ON l.rid = p.l JOIN form r ON r.rid = p.r{where}"
    )


def _bits(model: Model) -> str:
    text = sql.bits_sql(model)
    for name in ("kind", *sql.TF_COLUMNS):
        for side in "lr":
            text = text.replace(f"{side}.{name}", f"{side}_{name}")
    return text


def hopeful(model: Model, dialect: str) -> str:
    """Levels of those pairs of ``part`` that may matter."""
    where = f"\nWHERE ({bound(model, dialect)}) >= {model.review!r} OR {_ALWAYS_HOPEFUL}"
    return _levels(dialect, "part", where)


def everything(dialect: str) -> str:
    """Levels of all pairs of ``part``."""
    return _levels(dialect, "part", "")


def scored(model: Model, levels: str) -> str:
    """Rids, bits and pattern of the pairs in ``levels`` that may matter."""
    return f"SELECT * FROM ({all_scored(model, levels)}) s WHERE bits >= {model.review!r} OR kept"


def all_scored(model: Model, levels: str) -> str:
    """Rids, bits and pattern of every pair in ``levels``; ``kept``: the policy looks at it whatever its score."""
    return (
        f"SELECT rid_l AS l, rid_r AS r, {_bits(model)} AS bits, {_pattern()} AS pattern, {_ALWAYS_KEPT} AS kept"
        f" FROM {levels}"
    )


def counted(levels: str) -> str:
    """Patterns in ``levels`` with the rarity of what is in common (whole bits), and how many pairs have them."""
    rarity = [
        f"CASE WHEN v_{field} = {row.number} THEN LEAST(l_tf_{row.tf}, r_tf_{row.tf}) ELSE 0 END"
        for field in FIELDS
        for row in LEVELS[field]
        if row.tf
    ]
    return (
        f"SELECT pattern, rarity, count(*) AS n FROM (SELECT {_pattern()} AS pattern,"
        f" CAST(round({' + '.join(rarity)}) AS INTEGER) AS rarity FROM {levels}) s GROUP BY pattern, rarity"
    )
