"""Chains (``subject.name``) and reverse chains (``_has:Observation:subject:code``), to any depth up to a bound.

What lies behind a link is asked as its own query, visible to the asker only.  Where the link is a resource's patient, both
sides meet by person, and the planner finds the way; ``Patient/<person number>`` stands for all source Patients.  Elsewhere
the keys of references are followed in SQL (a key is the target's key XOR a mask, so it can be undone): from the few found on
the far side when they are few, else row by row from the near side.
"""

from math import sqrt

from lianxin.record import definitions, extract, visible
from lianxin.record.keys import ref_mask
from lianxin.record.query import conditions
from lianxin.record.query.base import Context, Sql, UnknownParameter, any_of, bad
from lianxin.record.query.kinds import leaf_types, narrowed, numbers
from lianxin.record.query.references import is_subject, targets

FEW = 1_000  # rows on the far side up to which their keys are listed (an index on arrays slows down with each more)
MANY = 30_000  # rows on the far side from which each near row is looked for instead of listing what the far ones point to


def _far(ctx: Context, kind: str, rest: str, value: str, row: str) -> Sql:
    """What the far side must be: its type, alive, visible, and the rest of the chain."""
    clause, args = conditions.condition(ctx, kind, rest, value, row)
    seen, seen_args = visible.condition(ctx.scope, row, kind)
    if clause in (f"{row}.keys @> ARRAY[%s::bigint]", f"{row}.keys && %s::bigint[]"):
        # Keys belong to one type; asked beside them, the type would only mislead the planner's estimate.
        return f"NOT {row}.deleted AND {seen} AND {clause}", [*seen_args, *args]
    return (
        f"{row}.rtype = %s AND NOT {row}.deleted AND {seen} AND {clause}",
        [kind, *seen_args, *args],
    )


def chain(ctx: Context, rtype: str, code: str, modifier: str, rest: str, value: str, alias: str) -> Sql:
    """``code[:Type].rest = value``."""
    param = definitions.params(rtype).get(code)
    if param is None or code not in extract.supported(rtype):
        raise UnknownParameter(code)
    if param.kind != "reference" or leaf_types(rtype, code) == {"canonical"}:
        raise bad(code, "不能链接查询", "cannot be chained")
    allowed = targets(rtype, param)
    if modifier and modifier not in allowed:
        raise bad(code, f"不能引用 {modifier[:40]}", f"does not refer to {modifier[:40]}")
    if not modifier and len(allowed) > 60:
        raise bad(
            code, "请写明目标类型，如 focus:Patient.name", "name the target's type, as in focus:Patient.name"
        )
    made: list[Sql] = []
    deeper = ctx.deeper(code)
    for kind in [modifier] if modifier else allowed:
        row = deeper.alias()
        try:
            far, args = _far(deeper, kind, rest, value, row)
        except UnknownParameter:
            continue
        if kind == "Patient" and is_subject(rtype, code):
            made.append(_to_patient(deeper, far, args, row, alias))
        else:
            made.append(_forward(deeper, numbers(rtype, code), far, args, row, alias))
    if not made:
        raise UnknownParameter(f"{code}.{rest}")
    return any_of(made)


def _to_patient(ctx: Context, far: str, args: list[object], row: str, alias: str) -> Sql:
    """The row's patient fits, or, for a person number, one of that person's source Patients."""
    p, v = ctx.alias(), ctx.alias()
    theirs = (
        f"FROM record_patient {p} JOIN record_resource {row} ON {row}.person_id = {p}.person_id"
        f" WHERE ({row}.key = {p}.subj OR NOT EXISTS (SELECT 1 FROM record_resource {v} WHERE {v}.key = {p}.subj)) AND {far}"
    )
    if ctx.estimate(f"SELECT 1 FROM record_resource {row} WHERE {far}", args) <= FEW:
        # "IS TRUE" keeps this a look into a hash, and the few persons lead.
        return (
            f"({alias}.person_id = ANY(ARRAY(SELECT {row}.person_id FROM record_resource {row} WHERE {far}))"
            f" AND ({alias}.subj IN (SELECT {p}.subj {theirs})) IS TRUE)",
            [*args, *args],
        )
    return (
        f"EXISTS (SELECT 1 {theirs} AND {p}.subj = {alias}.subj AND {p}.person_id = {alias}.person_id)",
        args,
    )


def _forward(ctx: Context, found: tuple[int, ...], far: str, args: list[object], row: str, alias: str) -> Sql:
    masks = [ref_mask(n) for n in found]
    if ctx.estimate(f"SELECT 1 FROM record_resource {row} WHERE {far}", args) <= FEW:
        return (
            f"{alias}.keys && ARRAY(SELECT {row}.key # m FROM record_resource {row}, unnest(%s::bigint[]) m WHERE {far})",
            [masks, *args],
        )
    return (
        f"EXISTS (SELECT 1 FROM unnest({alias}.keys) k, unnest(%s::bigint[]) m, record_resource {row}"
        f" WHERE {row}.key = k # m AND {far})",
        [masks, *args],
    )


def has(ctx: Context, rtype: str, name: str, value: str, alias: str) -> Sql:
    """``_has:Type:reference:rest = value``: something of that type refers to the resource and fits."""
    parts = name.split(":", 3)
    if len(parts) != 4 or parts[1] not in definitions.types() or not parts[3]:
        raise bad(name, "应为 _has:类型:引用参数:参数", "write _has:Type:reference:parameter")
    _, kind, code, rest = parts
    param = definitions.params(kind).get(code)
    if param is None or param.kind != "reference" or code not in extract.supported(kind):
        raise UnknownParameter(name)
    if leaf_types(kind, code) == {"canonical"}:
        raise bad(name, "不能反向链接", "cannot be followed backwards")
    if rtype not in targets(kind, param):
        raise bad(name, f"{kind}.{code} 不引用 {rtype}", f"{kind}.{code} does not refer to {rtype}")
    deeper = ctx.deeper(name)
    row = deeper.alias()
    far, args = _far(deeper, kind, rest, value, row)
    if rtype == "Patient" and is_subject(kind, code):
        v = deeper.alias()
        return (
            f"EXISTS (SELECT 1 FROM record_resource {row} WHERE {row}.person_id = {alias}.person_id AND ({row}.subj = {alias}.key"
            f" OR NOT EXISTS (SELECT 1 FROM record_resource {v} WHERE {v}.key = {row}.subj)) AND {far})",
            args,
        )
    masks = [ref_mask(source.number) for source in narrowed(kind, code)]
    most = float(MANY)
    if not ctx.depth:  # a page ends early: looking row by row pays as soon as a good part of them fits
        most = min(most, sqrt(95 * ctx.estimate("SELECT 1 FROM record_resource WHERE rtype = %s", [rtype])))
    if deeper.estimate(f"SELECT 1 FROM record_resource {row} WHERE {far}", args) <= max(FEW, most):
        return (
            f"{alias}.key IN (SELECT k # m FROM record_resource {row}, unnest({row}.keys) k, unnest(%s::bigint[]) m WHERE {far})",
            [masks, *args],
        )
    keys = ", ".join(f"{alias}.key # %s::bigint" for _ in masks)
    return f"EXISTS (SELECT 1 FROM record_resource {row} WHERE {row}.keys && ARRAY[{keys}] AND {far})", [
        *masks,
        *args,
    ]
