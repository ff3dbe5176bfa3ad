"""Conditions by parameter type: token, uri, string, date, number, quantity. A parameter may have several sources; any will do."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from lianxin.record import definitions, extract, values
from lianxin.record.definitions import Param, Source, kept
from lianxin.record.keys import (
    PATIENTS,
    blind,
    code_key32,
    key_below,
    key_code,
    key_of_type,
    key_present,
    key_system,
    key_system_code,
    key_target,
    system_key,
)
from lianxin.record.paths import compile_path
from lianxin.record.problems import Issue, Problem
from lianxin.record.query.base import (
    Context,
    Sql,
    any_key,
    any_of,
    bad,
    bad_modifier,
    plain,
    prefixed,
    split,
)
from lianxin.record.values import STRING_CAP
from lianxin.standards import clock

UCUM = "http://unitsofmeasure.org"
CODED = frozenset({"Coding", "CodeableConcept", "Identifier"})
SEALED = frozenset({"Identifier", "ContactPoint"})
LARGEST = Decimal("1e300")  # beyond, a float is infinite


@kept
def leaf_types(rtype: str, code: str) -> frozenset[str]:
    """FHIR types of the values a parameter is indexed from."""
    param = definitions.params(rtype)[code]
    known = extract.EMITTERS.get(param.kind, {})
    return frozenset(
        leaf.type for path in param.paths for leaf in compile_path(rtype, path) if leaf.type in known
    )


@kept
def narrowed(rtype: str, code: str) -> tuple[Source, ...]:
    """The sources of a parameter; also its own rows may count for one target type only."""
    found = definitions.sources(rtype, code)
    param = definitions.params(rtype)[code]
    only = {leaf.only for path in param.paths for leaf in compile_path(rtype, path)}
    if len(only) == 1 and found == (Source(param.number),):
        return (Source(param.number, only.pop()),)
    return found


@kept
def numbers(rtype: str, code: str) -> tuple[int, ...]:
    """Numbers of the rows of a parameter."""
    return tuple(source.number for source in definitions.sources(rtype, code))


def present(rtype: str, code: str, alias: str) -> Sql:
    """The parameter finds something in the resource (``:missing=false``)."""
    param = definitions.params(rtype)[code]
    if param.kind == "composite":
        own = definitions.sources(rtype, code)
        parts = []
        for source in own:
            other = next(p for p in definitions.params(rtype).values() if p.number == source.number)
            if at_root(rtype, other.code):
                each = [present(rtype, c, alias) for c, _ in other.components]
                parts.append((" AND ".join(text for text, _ in each), [v for _, args in each for v in args]))
            else:
                parts.append(any_key(alias, [key_present(source.number)]))
        return any_of(parts)
    return any_key(
        alias,
        [key_target(s.number, s.only) if s.only else key_present(s.number) for s in narrowed(rtype, code)],
    )


@kept
def at_root(rtype: str, code: str) -> bool:
    """Whether a composite's components are single elements of the resource itself, found by their own parameters."""
    return all(
        not leaf.steps for p in definitions.params(rtype)[code].paths for leaf in compile_path(rtype, p)
    )


# ------------------------------------------------------------------------------------------------------------ token


def token_keys(rtype: str, code: str, n: int, name: str, value: str) -> list[int]:
    """Keys any of which a token value such as ``system|code``, ``|code``, ``system|`` or ``code`` means."""
    parts = [plain(p) for p in split(value, "|")]
    if len(parts) > 2 or not any(parts):
        raise bad(name, "应为 系统|代码", "write system|code")
    kinds = leaf_types(rtype, code)
    word = parts[-1]
    if word and rtype in PATIENTS and kinds & SEALED:
        word = blind(word)
    if len(parts) == 1:
        return [key_code(n, word)]
    system, coded, plainly = parts[0], kinds & CODED, kinds - CODED
    if not word:
        return [key_system(n, system)] if coded else [key_present(n)]
    found = [key_system_code(n, system, word)] if coded else []
    if plainly and (not coded or (word in ("true", "false") and not system)):
        found.append(key_code(n, word))  # the element implies the system
    return found


def token(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """A token parameter with any of its modifiers."""
    sources = numbers(rtype, param.code)
    match modifier:
        case "" | "not":
            keys = [k for v in given for n in sources for k in token_keys(rtype, param.code, n, name, v)]
            text, args = any_key(alias, keys)
            return (f"NOT ({text})", args) if modifier else (text, args)
        case "text":
            return any_of([_token_text(sources, name, plain(v), alias) for v in given])
        case "of-type":
            if "Identifier" not in leaf_types(rtype, param.code):
                raise bad_modifier(name, modifier)
            return any_key(alias, [k for v in given for n in sources for k in _of_type(rtype, n, name, v)])
        case "in" | "not-in":
            keys = [
                k for v in given for system, c in _expanded(name, plain(v)) for n in sources for k in _coded(rtype, param, n, system, c)
            ]  # fmt: skip
            text, args = any_key(alias, keys)
            return (f"NOT ({text})", args) if modifier == "not-in" else (text, args)
        case "below" | "above":
            if not leaf_types(rtype, param.code) & {"Coding", "CodeableConcept", "code"}:
                raise bad_modifier(name, modifier)
            keys = [
                k for v in given for system, c in _related(name, v, modifier) for n in sources for k in _coded(rtype, param, n, system, c)
            ]  # fmt: skip
            return any_key(alias, keys)
        case _:
            raise bad_modifier(name, modifier)


def _coded(rtype: str, param: Param, n: int, system: str, code: str) -> list[int]:
    kinds = leaf_types(rtype, param.code)
    found = [key_system_code(n, system, code)] if kinds & CODED else []
    return [*found, key_code(n, code)] if kinds - CODED else found


def _token_text(sources: tuple[int, ...], name: str, value: str, alias: str) -> Sql:
    folded = values.fold(value)
    if not folded:
        raise bad(name, "缺少取值", "the value is missing")
    return (
        f"{alias}.keys && ARRAY(SELECT w.key FROM record_text w WHERE w.number = ANY(%s::smallint[])"
        " AND w.val ~>=~ %s AND w.val ~<~ %s)",
        [list(sources), folded, upper_bound(folded)],
    )


def _of_type(rtype: str, n: int, name: str, value: str) -> list[int]:
    parts = [plain(p) for p in split(value, "|")]
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise bad(name, "应为 系统|类型代码|号码", "write system|type code|value")
    number = blind(parts[2]) if rtype in PATIENTS else parts[2]
    return [key_of_type(n, parts[0], parts[1], number)]


def _expanded(name: str, url: str) -> list[tuple[str, str]]:
    from lianxin.record import terminology

    try:
        return [(row[0], row[1]) for row in terminology.expand(url)]
    except Problem as problem:
        raise Problem(400, *(Issue(i.code, i.text, name[:100]) for i in problem.issues)) from None


def _related(name: str, value: str, modifier: str) -> list[tuple[str, str]]:
    from lianxin.record import terminology

    parts = [plain(p) for p in split(value, "|")]
    if len(parts) != 2 or not parts[0] or not parts[1]:
        raise bad(name, "应为 系统|代码", "write system|code")
    system, code = parts
    find = terminology.descendants if modifier == "below" else terminology.ancestors
    return [(system, c) for c in {code, *find(system, code)}]


# -------------------------------------------------------------------------------------------------------------- uri


def uri(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """A uri: the same, below (``:below``: begins with these whole segments) or above."""
    found: list[int] = []
    for n in numbers(rtype, param.code):
        for value in map(plain, given):
            if modifier == "below":
                found.append(key_below(n, value.rstrip("/")))
            elif modifier == "above":
                found += [
                    key_code(n, p + slash) for p in extract.uri_prefixes(value) for slash in ("", "/")
                ] + [key_code(n, value)]
            elif not modifier:
                found.append(key_code(n, value))
            else:
                raise bad_modifier(name, modifier)
    return any_key(alias, found)


# ----------------------------------------------------------------------------------------------------------- string


def upper_bound(prefix: str) -> str:
    """The least text above every text with this prefix (code point order)."""
    last = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if last == 0xD800 else min(last, 0x10FFFF))


def string_compare(name: str, modifier: str, value: str, code: str = "", row: str = "s") -> Sql:
    """Comparison of a ``record_string`` row with a text."""
    value = plain(value)
    folded = values.fold(value)
    if "\x00" in value or not folded:
        raise bad(name, "取值为空或含非法字符", "the value is empty or has characters that are not allowed")
    if modifier == "exact":
        return f"({row}.val = %s AND {row}.kind = 0 AND COALESCE({row}.raw, {row}.val) = %s)", [folded, value]
    if modifier == "contains":
        pattern = folded.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"{row}.val LIKE %s", [f"%{pattern}%"]
    if modifier:
        raise bad_modifier(name, modifier)
    texts = [folded]
    if code == "phonetic":  # what sounds the same: the same pinyin
        texts += [r for r in values.readings(value) if len(r) > 1]
    return any_of([(f"({row}.val ~>=~ %s AND {row}.val ~<~ %s)", [t, upper_bound(t)]) for t in texts])


def string(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """A string: begins with, ``:exact``, ``:contains``; Chinese also by pinyin and initials."""
    text, args = any_of([string_compare(name, modifier, v, param.code) for v in given])
    return _side("record_string", "s", numbers(rtype, param.code), text, args, alias)


def _side(table: str, row: str, sources: tuple[int, ...], text: str, args: list[Any], alias: str) -> Sql:
    """Some side row of these sources fits."""
    if len(sources) == 1:
        return (
            f"EXISTS (SELECT 1 FROM {table} {row} WHERE {row}.rid = {alias}.rid AND {row}.number = %s AND {text})",
            [sources[0], *args],
        )
    return (
        f"EXISTS (SELECT 1 FROM {table} {row} WHERE {row}.rid = {alias}.rid AND {row}.number = ANY(%s::smallint[])"
        f" AND {text})",
        [list(sources), *args],
    )


# ------------------------------------------------------------------------------------------------------------- date


def date_compare(name: str, value: str, low: str, high: str) -> Sql:
    """Compare the half-open range [low, high) of a row with a date given to some precision (R4 search, prefixes)."""
    prefix, text = prefixed(plain(value).strip().replace(" ", "+"))
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
            try:
                gap = max(abs(clock.now() - start) / 10, timedelta(0))
                return f"({low} < %s AND {high} {'>=' if point else '>'} %s)", [end + gap, start - gap]
            except OverflowError:
                raise bad(
                    name, "日期太早或太晚，不能用 ap", "too early or too late a date for the prefix ap"
                ) from None


def date(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """A date, dateTime, instant, Period or Timing; the type's main date stands in the resource's own row."""
    if modifier:
        raise bad_modifier(name, modifier)
    if param.code == definitions.main_date(rtype):
        own, own_args = any_of([date_compare(name, v, f"{alias}.at", f"{alias}.till") for v in given])
        text, args = any_of([date_compare(name, v, "d.lo", "d.hi") for v in given])
        side, side_args = _side("record_date", "d", numbers(rtype, param.code), text, args, alias)
        return (
            f"(({alias}.till IS NOT NULL AND {own}) OR ({alias}.till IS NULL AND {side}))",
            [*own_args, *side_args],
        )
    text, args = any_of([date_compare(name, v, "d.lo", "d.hi") for v in given])
    return _side("record_date", "d", numbers(rtype, param.code), text, args, alias)


# --------------------------------------------------------------------------------------------------- number, quantity


def _bounds(
    prefix: str, exact: Decimal, low: Decimal, high: Decimal, row: str
) -> tuple[str, tuple[Decimal, ...]]:
    lo, hi = f"{row}.lo", f"COALESCE({row}.hi, {row}.lo)"
    inside = f"({lo} >= %s AND {hi} < %s)"
    margin = abs(exact) / 10
    match prefix:
        case "eq":
            return inside, (low, high)
        case "ne":
            return f"NOT {inside}", (low, high)
        case "gt":
            return f"{hi} > %s", (exact,)
        case "lt":
            return f"{lo} < %s", (exact,)
        case "ge":
            return f"{hi} >= %s", (exact,)
        case "le":
            return f"{lo} <= %s", (exact,)
        case "sa":
            return f"{lo} > %s", (exact,)
        case "eb":
            return f"{hi} < %s", (exact,)
        case _:
            return f"({lo} <= %s AND {hi} >= %s)", (exact + margin, exact - margin)


def _floats(bounds: tuple[Decimal, ...], name: str) -> list[float]:
    if any(abs(b) > LARGEST for b in bounds):
        raise bad(name, "数值过大", "the number is too large")
    return [float(b) for b in bounds]


def quantity_compare(ctx: Context, param: Param, name: str, value: str, row: str = "q") -> Sql:
    """Comparison of a ``record_quantity`` row with ``[prefix]number`` or ``[prefix]number|system|code``."""
    parts = [plain(p) for p in split(value, "|")]
    prefix, text = prefixed(parts[0].strip())
    if len(parts) not in (1, 3) or (param.kind == "number" and len(parts) > 1):
        raise bad(name, "应为 数值 或 数值|单位系统|单位", "write number or number|system|unit")
    try:
        exact, low, high = values.number_range(text)
    except ValueError:
        raise bad(name, f"“{text[:40]}”不是数值", f"'{text[:40]}' is not a number") from None
    clause, bounds = _bounds(prefix, exact, low, high, row)
    args: list[Any] = list(_floats(bounds, name))
    if len(parts) == 1 or not (parts[1] or parts[2]):
        return clause, args
    system, unit = parts[1], parts[2]
    if not unit:
        return f"({clause} AND {row}.sys = %s)", [*args, system_key(system)]
    if not system:
        return f"({clause} AND ({row}.code = %s OR {row}.name = %s))", [
            *args,
            code_key32(unit),
            code_key32(unit),
        ]
    same = (
        f"({clause} AND {row}.sys = %s AND {row}.code = %s)",
        [*args, system_key(system), code_key32(unit)],
    )
    if system != UCUM:
        return same
    return any_of([same, *_converted(ctx, name, prefix, (exact, low, high), unit, row)])


def _converted(
    ctx: Context, name: str, prefix: str, numbers_: tuple[Decimal, Decimal, Decimal], unit: str, row: str
) -> list[Sql]:
    """The same comparison in every other UCUM unit the record has seen that measures the same."""
    from lianxin.record import units

    ctx.cur.execute("SELECT code FROM record_unit WHERE code <> %s ORDER BY code", [unit])
    made: list[Sql] = []
    for (other,) in ctx.cur.fetchall():
        there = [units.convert(number, unit, other) for number in numbers_]
        exact, low, high = there
        if exact is None or low is None or high is None:
            continue
        clause, bounds = _bounds(prefix, exact, min(low, high), max(low, high), row)
        made.append(
            (
                f"({clause} AND {row}.sys = %s AND {row}.code = %s)",
                [*_floats(bounds, name), system_key(UCUM), code_key32(other)],
            )
        )
    return made


def quantity(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """A number or quantity, with the precision it is written in; UCUM units are converted."""
    if modifier:
        raise bad_modifier(name, modifier)
    text, args = any_of([quantity_compare(ctx, param, name, v) for v in given])
    return _side("record_quantity", "q", numbers(rtype, param.code), text, args, alias)


__all__ = [
    "STRING_CAP", "at_root", "date", "date_compare", "leaf_types", "narrowed", "numbers", "present", "quantity",
    "quantity_compare", "string", "string_compare", "token", "token_keys", "uri",
]  # fmt: skip
