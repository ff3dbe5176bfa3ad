"""Composite parameters: their components must fit together, in one item where the item repeats (see record.extract)."""

from lianxin.record import definitions
from lianxin.record.definitions import Param
from lianxin.record.keys import key_pair, key_present, key_ref
from lianxin.record.query import conditions
from lianxin.record.query.base import Context, Sql, all_of, any_key, any_of, bad, bad_modifier, negated, split
from lianxin.record.query.kinds import (
    at_root,
    date_compare,
    numbers,
    quantity_compare,
    string_compare,
    token_keys,
)
from lianxin.record.query.references import target_keys


def composite(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """``a$b`` or ``a$b$c``."""
    if modifier:
        raise bad_modifier(name, modifier)
    return any_of([_one(ctx, rtype, param, name, value, alias) for value in given])


def _one(ctx: Context, rtype: str, param: Param, name: str, value: str, alias: str) -> Sql:
    pieces = split(value, "$")
    if len(pieces) != len(param.components) or not all(pieces):
        n = len(param.components)
        raise bad(name, f"应为 {n} 个以 $ 分隔的值", f"write {n} values separated by $")
    table = definitions.params(rtype)
    by_number = {p.number: p for p in table.values()}
    made = []
    for source in definitions.sources(rtype, param.code):
        own = by_number[source.number]
        maker = _at_root if at_root(rtype, own.code) else _in_item
        made.append(maker(ctx, rtype, own, name, pieces, alias))
    return any_of(made)


def _at_root(ctx: Context, rtype: str, param: Param, name: str, pieces: list[str], alias: str) -> Sql:
    """The components are single elements of the resource: each for itself."""
    made = [
        conditions.typed(ctx, rtype, definitions.params(rtype)[code], name, "", [piece], alias)
        for (code, _), piece in zip(param.components, pieces, strict=True)
    ]
    if (rtype, param.code) == ("Observation", "code-value-string"):
        # value-string also finds the text of a valueCodeableConcept; this composite means valueString only.
        concept = definitions.params(rtype)["value-concept"].number
        made.append(negated(any_key(alias, [key_present(concept)])))
    return all_of(made)


def _keys(ctx: Context, rtype: str, code: str, name: str, piece: str) -> list[int]:
    param = definitions.params(rtype)[code]
    n = numbers(rtype, code)[0]
    if param.kind == "reference":
        return [key_ref(n, key) for key in target_keys(ctx, rtype, param, name, "", piece)]
    if split(piece, "|")[-1] == "":
        raise bad(name, "组合参数中应写明代码", "a composite parameter needs the code, not only its system")
    return token_keys(rtype, code, n, name, piece)


def _in_item(ctx: Context, rtype: str, param: Param, name: str, pieces: list[str], alias: str) -> Sql:
    """Pairs of keys, or side rows under the composite's number that carry the first component's key."""
    table = definitions.params(rtype)
    codes = [code for code, _ in param.components]
    firsts = _keys(ctx, rtype, codes[0], name, pieces[0])
    if len(codes) == 2 and table[codes[1]].kind in ("token", "reference"):
        seconds = _keys(ctx, rtype, codes[1], name, pieces[1])
        return any_key(alias, [key_pair(param.number, a, b) for a in firsts for b in seconds])
    rows, wheres, args = [], [], []
    for place, (code, piece) in enumerate(zip(codes[1:], pieces[1:], strict=True), 1):
        kind = table[code].kind
        row = f"c{place}"
        if kind == "date":
            side, (text, more) = "record_date", date_compare(name, piece, f"{row}.lo", f"{row}.hi")
        elif kind == "string":
            side, (text, more) = "record_string", string_compare(name, "", piece, row=row)
        else:
            side, (text, more) = "record_quantity", quantity_compare(ctx, table[code], name, piece, row=row)
        rows.append(f"{side} {row}")
        wheres.append(
            f"{row}.rid = {alias}.rid AND {row}.number = %s AND {row}.ctx = ANY(%s::bigint[]) AND {text}"
        )
        args += [param.number, firsts, *more]
        if len(codes) > 2:  # extraction numbers the items times four, plus the component's place
            wheres.append(f"{row}.item %% 4 = {place}")
            if place > 1:
                wheres.append(f"{row}.item / 4 = c1.item / 4")
    return f"EXISTS (SELECT 1 FROM {', '.join(rows)} WHERE {' AND '.join(wheres)})", args
