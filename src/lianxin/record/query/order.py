"""``_sort`` and the page cursor: a page goes on behind the last row's sort values and number, so that pages never overlap.

Rows without a value come last, upwards and downwards. Tokens are sorted by their code where the codes are a fixed list, else by
their text; references by ``Type/id``.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from lianxin.record import definitions, extract
from lianxin.record.definitions import Param
from lianxin.record.keys import key_code, ref_mask
from lianxin.record.paths import compile_path
from lianxin.record.query.base import Sql, bad
from lianxin.record.query.kinds import leaf_types, numbers
from lianxin.record.query.references import is_subject

MAX_KEYS = 8
SIDE = {
    "date": ("record_date", "lo", "timestamptz"),
    "string": ("record_string", "val", "text"),
    "number": ("record_quantity", "lo", "float8"),
    "quantity": ("record_quantity", "lo", "float8"),
}


@dataclass
class Key:
    """One sort key: an SQL expression on the row ``r``, its type, the direction, and whether it may be NULL."""

    text: str
    args: list[Any]
    cast: str
    down: bool = False
    maybe_null: bool = True


def default() -> Key:
    """By time of the last change."""
    return Key("r.updated", [], "timestamptz", maybe_null=False)


def key(rtype: str, word: str) -> Key | None:
    """Sort key for one word of ``_sort`` such as ``-date``; None when it cannot be sorted by."""
    down, code = word.startswith("-"), word.removeprefix("-")
    if code == "_lastUpdated":
        return Key("r.updated", [], "timestamptz", down, maybe_null=False)
    if code == "_id":
        return Key('r.id COLLATE "C"', [], "text", down, maybe_null=False)
    param = definitions.params(rtype).get(code)
    if param is None or code not in extract.supported(rtype):
        return None
    found = _expression(rtype, param, down)
    return Key(found[0], found[1], found[2], down) if found else None


def _expression(rtype: str, param: Param, down: bool) -> tuple[str, list[Any], str] | None:
    pick = "max" if down else "min"
    own = list(numbers(rtype, param.code))
    if param.kind in SIDE:
        table, first, cast = SIDE[param.kind]
        only = " AND z.kind = 0" if param.kind == "string" else ""
        sort = ' COLLATE "C"' if cast == "text" else ""
        text = f"(SELECT {pick}(z.{first}{sort}) FROM {table} z WHERE z.rid = r.rid AND z.number = ANY(%s::smallint[]){only})"
        if param.code == definitions.main_date(rtype):
            text = f"CASE WHEN r.till IS NOT NULL THEN r.at ELSE {text} END"
        return text, [own], cast
    if param.kind == "token":
        return _token(rtype, param, pick, own)
    if param.kind == "reference" and leaf_types(rtype, param.code) == {"Reference"}:
        name = "z.rtype || '/' || z.id"
        if is_subject(rtype, param.code) and param.code == "patient":
            return f"(SELECT {name} FROM record_resource z WHERE z.key = r.subj)", [], "text"
        return (
            f'(SELECT {pick}(({name}) COLLATE "C") FROM unnest(r.keys) k, unnest(%s::bigint[]) m, record_resource z WHERE z.key = k # m)',
            [[ref_mask(n) for n in own]],
            "text",
        )
    return None


def _token(rtype: str, param: Param, pick: str, own: list[int]) -> tuple[str, list[Any], str] | None:
    kinds = leaf_types(rtype, param.code)
    if kinds == {"boolean"}:
        codes = ["false", "true"]
    elif kinds == {"code"}:
        codes = _codes(rtype, param)
        if not codes:
            return None
    elif kinds & {"Coding", "CodeableConcept"}:
        return (
            f'(SELECT {pick}(w.val COLLATE "C") FROM record_text w WHERE w.key = ANY(r.keys) AND w.number = ANY(%s::smallint[]))',
            [own],
            "text",
        )
    else:
        return None
    keys = [key_code(n, c) for n in own for c in codes]
    return (
        f'(SELECT {pick}(c.v COLLATE "C") FROM unnest(%s::bigint[], %s::text[]) c(k, v) WHERE c.k = ANY(r.keys))',
        [keys, codes * len(own)],
        "text",
    )


def _codes(rtype: str, param: Param) -> list[str]:
    """Codes of the required value set behind a parameter on an element of type ``code``; empty when there is none."""
    found: set[str] = set()
    for path in param.paths:
        for leaf in compile_path(rtype, path):
            at, row = rtype, None
            for step in (s for s in leaf.steps if isinstance(s, str)):
                row = definitions.elements(at).get(step)
                if row is None:
                    return []
                kind = str(row[2]).partition("(")[0]
                at = kind.removeprefix("@")
            if row is None or len(row) < 4:
                return []
            found |= definitions.codes(row[3])
    return sorted(found)


# ----------------------------------------------------------------------------------------------------------- cursor


def cursor(rid: int, values: list[Any]) -> str:
    """The token of the page behind a row."""
    plain = [
        v.isoformat() if isinstance(v, datetime) else repr(v) if isinstance(v, float) else v for v in values
    ]
    return base64.urlsafe_b64encode(orjson.dumps([rid, plain])).decode().rstrip("=")


def order(keys: list[Key], names: list[str]) -> str:
    """``ORDER BY`` of the named sort expressions; the row's number decides between equals, in the last key's direction."""
    words = [
        f"{name} {'DESC' if one.down else 'ASC'}{' NULLS LAST' if one.maybe_null else ''}"
        for one, name in zip(keys, names, strict=True)
    ]
    return ", ".join([*words, "rid DESC" if keys[-1].down else "rid"])


def after(keys: list[Key], token: str) -> Sql:
    """Condition for the rows behind a cursor (NULL comes last in both directions)."""
    try:
        rid, values = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if type(rid) is not int or abs(rid) >= 2**63 or len(values) != len(keys):
            raise ValueError
        for one, value in zip(keys, values, strict=True):
            _check(one, value)
    except (ValueError, TypeError, AttributeError):
        raise bad(
            "_cursor",
            "翻页标记无效，请从第一页重新查询",
            "the page cursor is not valid; search again from the first page",
        ) from None
    beyond = "<" if keys[-1].down else ">"
    if len(keys) == 1 and not keys[0].maybe_null:
        one = keys[0]
        return f"({one.text}, r.rid) {beyond} (%s::{one.cast}, %s::bigint)", [*one.args, values[0], rid]
    parts: list[str] = []
    args: list[Any] = []
    equal, equal_args = "", list[Any]()
    for one, value in zip(keys, values, strict=True):
        if value is not None:
            null = f" OR {one.text} IS NULL" if one.maybe_null else ""
            parts.append(f"({equal}({one.text} {'<' if one.down else '>'} %s::{one.cast}{null}))")
            args += [*equal_args, *one.args, value, *(one.args if one.maybe_null else [])]
        equal += f"{one.text} IS NOT DISTINCT FROM %s::{one.cast} AND "
        equal_args = [*equal_args, *one.args, value]
    parts.append(f"({equal}r.rid {beyond} %s)")
    return "(" + " OR ".join(parts) + ")", [*args, *equal_args, rid]


def _check(one: Key, value: Any) -> None:
    """Raise ValueError for a cursor value that is none of this key's."""
    if value is None and one.maybe_null:
        return
    if type(value) is not str or "\x00" in value or len(value) > 1000:
        raise ValueError
    if one.cast == "timestamptz":
        datetime.fromisoformat(value)
    elif one.cast == "float8":
        float(value)
