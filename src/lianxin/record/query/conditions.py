"""One ``name=value`` of a search as SQL: the name is taken apart here and the rest left to the makers by type."""

from typing import Any

from lianxin.record import definitions, extract, visible
from lianxin.record.definitions import Param
from lianxin.record.keys import ref_key, ref_mask
from lianxin.record.query import composite, filters, kinds, links, near, references
from lianxin.record.query.base import (
    MAX_LENGTH,
    MAX_NAME,
    MAX_VALUES,
    Context,
    Sql,
    UnknownParameter,
    any_of,
    bad,
    bad_modifier,
    plain,
    split,
)

REFUSED = frozenset({"_text", "_content", "_query", "_contained", "_containedType"})


def condition(ctx: Context, rtype: str, name: str, value: str, alias: str = "r") -> Sql:
    """SQL for one ``name=value`` of a type; raises Problem (bad) or UnknownParameter."""
    if len(value) > MAX_LENGTH or len(name) > MAX_NAME:
        raise bad(name, f"取值超过 {MAX_LENGTH} 个字符", f"more than {MAX_LENGTH} characters")
    if name.startswith("_has:"):
        return links.has(ctx, rtype, name, value, alias)
    head, dot, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    if dot:
        return links.chain(ctx, rtype, code, modifier, rest, value, alias)
    if code == "_filter":
        return filters.condition(ctx, rtype, value, alias)
    alternatives = split(value, ",")
    if len(alternatives) > MAX_VALUES:
        raise bad(name, f"最多 {MAX_VALUES} 个取值", f"at most {MAX_VALUES} values")
    own = _engine(ctx, rtype, code, name, modifier, alternatives, alias)
    if own is not None:
        return own
    param = definitions.params(rtype).get(code)
    if param is None or code not in extract.supported(rtype):
        raise UnknownParameter(name)
    if modifier == "missing":
        if value not in ("true", "false"):
            raise bad(name, "取值应为 true 或 false", "the value must be true or false")
        text, args = kinds.present(rtype, code, alias)
        return (f"NOT ({text})" if value == "true" else text), args
    given = [v for v in alternatives if v]
    if not given:
        raise bad(name, "缺少取值", "the value is missing")
    return typed(ctx, rtype, param, name, modifier, given, alias)


def typed(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """The maker of the parameter's type; ``given`` are alternatives, still escaped."""
    return MAKERS[param.kind](ctx, rtype, param, name, modifier, given, alias)


MAKERS: dict[str, Any] = {
    "token": kinds.token, "string": kinds.string, "date": kinds.date, "number": kinds.quantity, "quantity": kinds.quantity,
    "uri": kinds.uri, "reference": references.reference, "composite": composite.composite, "special": near.near,
}  # fmt: skip


def _engine(
    ctx: Context, rtype: str, code: str, name: str, modifier: str, given: list[str], alias: str
) -> Sql | None:
    """Parameters that every type has and that need no index of their own; None for any other."""
    if code in REFUSED:
        raise UnknownParameter(name)
    if code not in ("_id", "_lastUpdated", "_list", "_type"):
        return None
    if modifier and not (
        (modifier == "missing" and code in ("_id", "_lastUpdated")) or (modifier == "not" and code == "_id")
    ):
        raise bad_modifier(name, modifier)
    if modifier == "missing":
        if given not in (["true"], ["false"]):
            raise bad(name, "取值应为 true 或 false", "the value must be true or false")
        return ("TRUE" if given == ["false"] else "FALSE"), []
    given = [v for v in given if v]
    if not given:
        raise bad(name, "缺少取值", "the value is missing")
    if code == "_id":
        keys = [ref_key(f"{rtype}/{plain(v)}") for v in given]
        if rtype == "Patient" and ctx.depth:
            keys += [key for v in given for key in references.golden_keys(ctx, plain(v))]
        return f"{'NOT ' if modifier else ''}{alias}.key = ANY(%s::bigint[])", [keys]
    if code == "_lastUpdated":
        return any_of([kinds.date_compare(name, v, f"{alias}.updated", f"{alias}.updated") for v in given])
    if code == "_type":
        return ("TRUE" if rtype in given else "FALSE"), []
    return any_of([_list(ctx, name, plain(v), alias) for v in given])


def _list(ctx: Context, name: str, list_id: str, alias: str) -> Sql:
    if list_id.startswith("$"):
        raise bad(name, "没有这种功能性列表", "functional lists are not kept here")
    row = ctx.alias()
    seen, args = visible.condition(ctx.scope, row, "List")
    mask = ref_mask(definitions.params("List")["item"].number)
    return (
        f"{alias}.key IN (SELECT k # %s::bigint FROM record_resource {row}, unnest({row}.keys) k"
        f" WHERE {row}.key = %s AND NOT {row}.deleted AND {seen})",
        [mask, ref_key(f"List/{list_id.removeprefix('List/')}"), *args],
    )
