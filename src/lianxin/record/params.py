"""Search parameters as sent, and their SQL conditions on an alias of ``record_resource``."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from lianxin.access.scope import Scope
from lianxin.record import definitions, extract, persons, values, visible
from lianxin.record.keys import IMPLIED_SYSTEM, PATIENTS, blind_key, code_key, ref_key, system_key
from lianxin.record.problems import Problem, refuse
from lianxin.standards import clock

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
MAX_VALUES = 500
MAX_DEPTH = 5
Sql = tuple[str, list[Any]]


class UnknownParameter(Exception):
    """A parameter the type does not have: refused or ignored, as the client prefers."""


@dataclass
class Context:
    """What building conditions needs: a cursor for references, and who asks."""

    cur: Any
    scope: Scope
    depth: int = 0
    count: int = 0

    def alias(self) -> str:
        """A fresh alias."""
        self.count += 1
        return f"x{self.count}"


def bad(name: str, zh: str, en: str) -> Problem:
    """A search parameter that cannot be taken (400)."""
    return refuse(400, "invalid", f"查询参数 {name}：{zh}", f"search parameter {name}: {en}", name)


def split(text: str, mark: str) -> list[str]:
    """Split at an unescaped mark."""
    parts, current, i = [], "", 0
    while i < len(text):
        if text[i] == "\\" and i + 1 < len(text):
            current += text[i : i + 2]
            i += 2
            continue
        if text[i] == mark:
            parts.append(current)
            current = ""
        else:
            current += text[i]
        i += 1
    return [*parts, current]


def plain(text: str) -> str:
    r"""Undo ``\,`` ``\|`` ``\$`` and ``\\``."""
    out, i = "", 0
    while i < len(text):
        if text[i] == "\\" and i + 1 < len(text) and text[i + 1] in ",|$\\":
            i += 1
        out += text[i]
        i += 1
    return out


def any_of(parts: list[Sql]) -> Sql:
    """Disjunction."""
    if len(parts) == 1:
        return parts[0]
    return "(" + " OR ".join(p[0] for p in parts) + ")", [v for p in parts for v in p[1]]


def condition(ctx: Context, rtype: str, name: str, value: str, alias: str = "r") -> Sql:
    """SQL for one ``name=value`` of a type; raises Problem (bad) or UnknownParameter."""
    if name.startswith("_has:"):
        return _has(ctx, rtype, name, value, alias)
    head, dot, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    if dot:
        return _chain(ctx, rtype, code, modifier, rest, value, alias)
    alternatives = split(value, ",")
    if len(alternatives) > MAX_VALUES:
        raise bad(name, f"最多 {MAX_VALUES} 个取值", f"at most {MAX_VALUES} values")
    if code == "_id":
        _no_modifier(name, modifier)
        keys = [ref_key(f"{rtype}/{plain(v)}") for v in alternatives]
        return f"{alias}.key = ANY(%s::bigint[])", [keys]
    if code == "_lastUpdated":
        _no_modifier(name, modifier)
        return any_of([_compare_date(name, v, f"{alias}.updated", f"{alias}.updated") for v in alternatives])
    param = definitions.params(rtype).get(code)
    if param is None or code not in extract.supported(rtype):
        raise UnknownParameter(name)
    number, only = definitions.stored_number(rtype, code)
    if modifier == "missing":
        return _missing(name, value, param, number, only, alias)
    if not value:
        raise bad(name, "缺少取值", "the value is missing")
    if modifier == "not" and param.kind == "token":
        inner, args = any_of([_token(ctx, rtype, param, number, name, v, alias) for v in alternatives])
        return f"NOT ({inner})", args
    makers = {
        "token": _token, "string": _string, "date": _date, "number": _quantity, "quantity": _quantity, "uri": _uri,
        "reference": _reference, "composite": _composite,
    }  # fmt: skip
    allowed = {
        "string": ("exact", "contains"),
        "reference": ("identifier", *param.targets, *definitions.types()),
    }
    if modifier and modifier not in allowed.get(param.kind, ()):
        raise bad(name, f"不支持修饰符 :{modifier}", f"modifier :{modifier} is not supported here")
    return any_of([makers[param.kind](ctx, rtype, param, number, name, v, alias) for v in alternatives])


def _no_modifier(name: str, modifier: str) -> None:
    if modifier:
        raise bad(name, f"不支持修饰符 :{modifier}", f"modifier :{modifier} is not supported here")


TABLE = {
    "token": "record_token", "uri": "record_token", "string": "record_string", "date": "record_date",
    "number": "record_quantity", "quantity": "record_quantity", "reference": "record_ref",
}  # fmt: skip


def _missing(name: str, value: str, param: definitions.Param, number: int, only: str, alias: str) -> Sql:
    if value not in ("true", "false") or param.kind == "composite":
        raise bad(name, "取值应为 true 或 false", "the value must be true or false")
    narrow = f" AND m.ttype = {definitions.type_number(only)}" if only else ""
    inner = f"EXISTS (SELECT 1 FROM {TABLE[param.kind]} m WHERE m.rid = {alias}.rid AND m.pid = %s{narrow})"
    return ("NOT " + inner if value == "true" else inner), [number]


def _token(
    ctx: Context, rtype: str, param: definitions.Param, number: int, name: str, value: str, alias: str
) -> Sql:
    parts = [plain(p) for p in split(value, "|")]
    if len(parts) > 2:
        raise bad(name, "应为 系统|代码", "write system|code")
    system, code = (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])
    if system and not code:
        return f"EXISTS (SELECT 1 FROM record_token t WHERE t.rid = {alias}.rid AND t.pid = %s AND t.sys = %s)", [
            number, system_key(system),
        ]  # fmt: skip
    sealed = rtype in PATIENTS and code and param.code in ("identifier", "telecom", "phone", "email")
    tok = blind_key(code) if sealed else code_key(code)
    text = f"{alias}.rid IN (SELECT t.rid FROM record_token t WHERE t.tok = %s AND t.pid = %s"
    args: list[Any] = [tok, number]
    if system is not None:
        text += " AND t.sys = ANY(%s::int[])"
        args.append([system_key(system), IMPLIED_SYSTEM])
    return text + ")", args


def _uri(
    ctx: Context, rtype: str, param: definitions.Param, number: int, name: str, value: str, alias: str
) -> Sql:
    return f"{alias}.rid IN (SELECT t.rid FROM record_token t WHERE t.tok = %s AND t.pid = %s)", [
        code_key(plain(value)),
        number,
    ]


def upper_bound(prefix: str) -> str:
    """The least text above every text with this prefix (code point order)."""
    last = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if last == 0xD800 else min(last, 0x10FFFF))


def _string(
    ctx: Context, rtype: str, param: definitions.Param, number: int, name: str, value: str, alias: str
) -> Sql:
    value = plain(value)
    folded = values.fold(value)
    if "\x00" in value or not folded:
        raise bad(name, "取值为空或含非法字符", "the value is empty or has characters that are not allowed")
    head = f"{alias}.rid IN (SELECT s.rid FROM record_string s WHERE s.pid = %s AND "
    if name.endswith(":exact"):
        return head + "s.val = %s AND s.kind = 0 AND COALESCE(s.raw, s.val) = %s)", [number, folded, value]
    if name.endswith(":contains"):
        return head + "strpos(s.val, %s) > 0)", [number, folded]
    return head + "s.val ~>=~ %s AND s.val ~<~ %s)", [number, folded, upper_bound(folded)]


def _prefix(value: str) -> tuple[str, str]:
    return (value[:2], value[2:]) if value[:2] in PREFIXES else ("eq", value)


def _compare_date(name: str, value: str, low: str, high: str) -> Sql:
    """Compare the half-open range [low, high) of a row with a date given to some precision (R4 search, prefixes)."""
    prefix, text = _prefix(plain(value).replace(" ", "+"))
    try:
        start, end = values.date_range(text)
    except (ValueError, OverflowError):
        raise bad(
            name, f"“{value[:40]}”不是日期，如 2026-11-23", f"'{value[:40]}' is not a date such as 2026-11-23"
        ) from None
    point = low == high  # an instant column rather than a range
    inside = f"({low} >= %s AND {high} {'<' if point else '<='} %s)"
    above = f"{high} {'>=' if point else '>'} %s"
    match prefix:
        case "eq":
            return inside, [start, end]
        case "ne":
            return f"NOT {inside}", [start, end]
        case "gt":
            return above, [end]
        case "ge":
            return f"({above} OR {inside})", [end, start, end]
        case "lt":
            return f"{low} < %s", [start]
        case "le":
            return f"({low} < %s OR {inside})", [start, start, end]
        case "sa":
            return f"{low} >= %s", [end]
        case "eb":
            return f"{high} {'<' if point else '<='} %s", [start]
        case _:
            gap = max(abs(clock.now() - start) / 10, timedelta(0))
            return f"({low} < %s AND {high} > %s)", [end + gap, start - gap]


def _date(
    ctx: Context, rtype: str, param: definitions.Param, number: int, name: str, value: str, alias: str
) -> Sql:
    text, args = _compare_date(name, value, "d.lo", "d.hi")
    return f"EXISTS (SELECT 1 FROM record_date d WHERE d.rid = {alias}.rid AND d.pid = %s AND {text})", [
        number,
        *args,
    ]


def _quantity(
    ctx: Context, rtype: str, param: definitions.Param, number: int, name: str, value: str, alias: str
) -> Sql:
    parts = [plain(p) for p in split(value, "|")]
    prefix, text = _prefix(parts[0].strip())
    if len(parts) not in (1, 3) or (param.kind == "number" and len(parts) > 1):
        raise bad(name, "应为 数值 或 数值|单位系统|单位", "write number or number|system|unit")
    try:
        exact, low, high = values.number_range(text)
    except ValueError:
        raise bad(name, f"“{text[:40]}”不是数值", f"'{text[:40]}' is not a number") from None
    inside = "(q.lo >= %s AND q.hi < %s)"
    margin = abs(exact) / 10
    compare: dict[str, tuple[str, list[Decimal]]] = {
        "eq": (inside, [low, high]), "ne": (f"NOT {inside}", [low, high]), "gt": ("q.hi > %s", [exact]), "lt": ("q.lo < %s", [exact]),
        "ge": ("q.hi >= %s", [exact]), "le": ("q.lo <= %s", [exact]), "sa": ("q.lo > %s", [exact]), "eb": ("q.hi < %s", [exact]),
        "ap": ("(q.lo <= %s AND q.hi >= %s)", [exact + margin, exact - margin]),
    }  # fmt: skip
    clause, args = compare[prefix]
    more: list[Any] = []
    if len(parts) == 3 and parts[2]:
        if parts[1]:
            clause += " AND q.sys = %s AND q.unit = %s"
            more = [system_key(parts[1]), code_key(parts[2])]
        else:
            clause += " AND (q.unit = %s OR q.name = %s)"
            more = [code_key(parts[2])] * 2
    return (
        f"EXISTS (SELECT 1 FROM record_quantity q WHERE q.rid = {alias}.rid AND q.pid = %s AND {clause})",
        [number, *args, *more],
    )


def reference_keys(ctx: Context, param: definitions.Param, name: str, modifier: str, value: str) -> list[int]:
    """Keys of what a reference value may mean: ``Type/id``, a bare id of any allowed type, a person number, a url."""
    value = plain(value)
    if not value:
        raise bad(name, "缺少取值", "the value is missing")
    found = extract.split_reference(value)
    if found:
        pairs = [found]
    elif "/" in value or ":" in value:
        return [ref_key(value)]
    else:
        kinds = [modifier] if modifier else list(param.targets) or sorted(definitions.types())
        if param.code == "patient" and not modifier:
            kinds = ["Patient"]
        pairs = [(kind, value) for kind in kinds]
    keys = []
    for kind, rid in pairs:
        if modifier and modifier != kind:
            continue
        keys.append(ref_key(f"{kind}/{rid}"))
        if kind == "Patient" and persons.is_number(rid):
            person = persons.by_number(ctx.cur, rid)
            if person is not None:
                ctx.cur.execute("SELECT subj FROM record_patient WHERE person_id = %s", [person])
                keys += [row[0] for row in ctx.cur.fetchall()]
    return keys


def _reference(
    ctx: Context, rtype: str, param: definitions.Param, number: int, name: str, value: str, alias: str
) -> Sql:
    modifier = name.partition(":")[2]
    if modifier == "identifier":
        system, bar, code = plain(value).partition("|")
        text, args = f"{alias}.rid IN (SELECT t.rid FROM record_token t WHERE t.tok = %s AND t.pid = %s", []
        args = [blind_key(code if bar else system), number]
        if bar:
            text += " AND t.sys = %s"
            args.append(system_key(system))
        return text + ")", args
    _, only = definitions.stored_number(rtype, param.code)
    keys = reference_keys(ctx, param, name, modifier or only, value)
    return (
        f"{alias}.rid IN (SELECT f.rid FROM record_ref f WHERE f.target = ANY(%s::bigint[]) AND f.pid = %s)",
        [keys, number],
    )


def _composite(
    ctx: Context, rtype: str, param: definitions.Param, number: int, name: str, value: str, alias: str
) -> Sql:
    pieces = split(value, "$")
    if len(pieces) != len(param.components):
        raise bad(
            name,
            f"应为 {len(param.components)} 个以 $ 分隔的值",
            f"write {len(param.components)} values separated by $",
        )
    made = [
        condition(ctx, rtype, code, piece.replace(",", "\\,"), alias)
        for (code, _), piece in zip(param.components, pieces, strict=True)
    ]
    return "(" + " AND ".join(m[0] for m in made) + ")", [v for m in made for v in m[1]]


def _deeper(ctx: Context, name: str) -> Context:
    if ctx.depth >= MAX_DEPTH:
        raise bad(name, f"链接层数超过 {MAX_DEPTH}", f"more than {MAX_DEPTH} links in the chain")
    deeper = Context(ctx.cur, ctx.scope, ctx.depth + 1, ctx.count + 100 * (ctx.depth + 1))
    ctx.count += 1
    return deeper


def _chain(ctx: Context, rtype: str, code: str, modifier: str, rest: str, value: str, alias: str) -> Sql:
    param = definitions.params(rtype).get(code)
    if param is None or code not in extract.supported(rtype):
        raise UnknownParameter(code)
    if param.kind != "reference":
        raise bad(code, "不是引用，不能链接查询", "is no reference and cannot be chained")
    number, only = definitions.stored_number(rtype, code)
    kinds = [modifier] if modifier else [only] if only else list(param.targets)
    made: list[Sql] = []
    for kind in kinds:
        deeper = _deeper(ctx, code)
        inner = deeper.alias()
        try:
            clause, args = condition(deeper, kind, rest, value, inner)
        except UnknownParameter:
            continue
        seen, seen_args = visible.condition(ctx.scope, inner, kind)
        made.append(
            (
                f"{alias}.rid IN (SELECT f.rid FROM record_ref f JOIN record_resource {inner} ON {inner}.key = f.target"
                f" WHERE f.pid = %s AND {inner}.rtype = %s AND NOT {inner}.deleted AND {seen} AND {clause})",
                [number, kind, *seen_args, *args],
            )
        )
    if not made:
        raise UnknownParameter(f"{code}.{rest}")
    return any_of(made)


def _has(ctx: Context, rtype: str, name: str, value: str, alias: str) -> Sql:
    parts = name.split(":", 3)
    if len(parts) != 4 or parts[1] not in definitions.types():
        raise bad(name, "应为 _has:类型:引用参数:参数", "write _has:Type:reference:parameter")
    _, kind, code, rest = parts
    param = definitions.params(kind).get(code)
    if param is None or param.kind != "reference" or code not in extract.supported(kind):
        raise UnknownParameter(name)
    number, _ = definitions.stored_number(kind, code)
    deeper = _deeper(ctx, name)
    inner = deeper.alias()
    clause, args = condition(deeper, kind, rest, value, inner)
    seen, seen_args = visible.condition(ctx.scope, inner, kind)
    return (
        f"{alias}.key IN (SELECT f.target FROM record_ref f JOIN record_resource {inner} ON {inner}.rid = f.rid"
        f" WHERE f.pid = %s AND {inner}.rtype = %s AND NOT {inner}.deleted AND {seen} AND {clause})",
        [number, kind, *seen_args, *args],
    )


__all__ = ["Context", "UnknownParameter", "condition", "reference_keys", "split"]
