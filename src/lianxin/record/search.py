"""Search: parameters to one SQL statement, scope inside it; pages by cursor; includes; sorts; totals.

The common question ``Observation?patient=&code=&_sort=-date&_count=20`` touches only the rows of that patient and code:
token rows carry the patient's key, resources carry their clinical time.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.record import definitions, extract, params, persons, visible
from lianxin.record.keys import ref_key
from lianxin.record.params import Context, Sql, UnknownParameter, bad
from lianxin.record.problems import Issue, Problem
from lianxin.record.store import Result, opened
from lianxin.standards.text import Text

DEFAULT_COUNT = 20
MAX_COUNT = 1000
MAX_INCLUDED = 1000
CONTROL = frozenset({"_count", "_sort", "_include", "_revinclude", "_include:iterate", "_revinclude:iterate", "_total", "_summary",
                     "_elements", "_format", "_pretty", "_cursor", "_contained", "_containedType"})  # fmt: skip
_COLUMNS = "r.rtype, r.id, r.version, r.updated, r.body, r.person_id, r.rid, r.deleted"


@dataclass
class Page:
    """One page of a search: matches, what was included, where to go on, and the total when it is known."""

    entries: list[Result]
    included: list[Result] = field(default_factory=list)
    total: int | None = None
    next: str | None = None
    ignored: list[Issue] = field(default_factory=list)
    used: list[tuple[str, str]] = field(default_factory=list)
    persons: set[int] = field(default_factory=set)


@dataclass
class _Query:
    """The parts of the statement."""

    where: list[str]
    args: list[Any]
    order: list[tuple[str, str, bool]] = field(default_factory=list)  # (expression, cast, descending)
    order_args: list[Any] = field(default_factory=list)
    source: str = "record_resource r"
    from_args: list[Any] = field(default_factory=list)


def match(cur: Any, scope: Scope, rtype: str, condition: str, limit: int = 2) -> list[Result]:
    """Resources that match a condition such as ``identifier=sys|value`` (for conditional create and references)."""
    pairs = parse_qsl(condition.partition("?")[2] if "?" in condition else condition, keep_blank_values=True)
    if not pairs:
        raise bad("ifNoneExist", "条件为空", "the condition is empty")
    return search(cur, scope, rtype, [*pairs, ("_count", str(limit))], strict=True).entries


def search(
    cur: Any,
    scope: Scope,
    rtype: str,
    given: Sequence[tuple[str, str]],
    *,
    strict: bool = False,
    compartment: str | None = None,
) -> Page:
    """Search ``rtype``; unknown parameters are refused (``strict``) or told in ``ignored``.

    ``compartment`` is a Patient id: only what belongs to that patient.
    """
    ctx = Context(cur, scope)
    control: dict[str, list[str]] = {}
    page = Page([])
    filters: list[tuple[str, str]] = []
    for name, value in given:
        if name in CONTROL:
            control.setdefault(name, []).append(value)
            if name != "_cursor":
                page.used.append((name, value))
        else:
            filters.append((name, value))
    count = _count(control)
    query = _Query(["r.rtype = %s", "NOT r.deleted"], [rtype])
    alive = _patient(ctx, query, rtype, filters, page, compartment)
    for name, value in filters:
        try:
            clause, args = params.condition(ctx, rtype, name, value)
        except UnknownParameter:
            issue = Issue(
                "not-supported",
                Text(f"{rtype} 没有查询参数 {name}", f"{rtype} has no search parameter {name}"),
                name,
                "warning",
            )
            if strict:
                raise Problem(400, Issue(issue.code, issue.text, name)) from None
            page.ignored.append(issue)
            continue
        page.used.append((name, value))
        query.where.append(clause)
        query.args += args
    _sort(query, rtype, control.get("_sort", []), strict, page)
    summary = control.get("_summary", [""])[-1]
    total = control.get("_total", ["none"])[-1]
    if total not in ("none", "estimate", "accurate") or summary not in (
        "",
        "true",
        "text",
        "data",
        "count",
        "false",
    ):
        raise bad("_total/_summary", "取值不在规定范围内", "the value is not one of the allowed codes")
    if not alive:
        page.total = 0
        return page
    if summary == "count" or count == 0 or total != "none":
        page.total = _total(cur, query)
        if summary == "count" or count == 0:
            return page
    _fetch(cur, query, page, count, control.get("_cursor", [""])[-1])
    if page.total is None and page.next is None and "_cursor" not in control:
        page.total = len(page.entries)
    _include(ctx, rtype, page, control)
    page.persons.update(e.person_id for e in [*page.entries, *page.included] if e.person_id is not None)
    if rtype == "Patient":
        _virtual_by_id(ctx, filters, page)
    return page


def _count(control: dict[str, list[str]]) -> int:
    text = control.get("_count", [str(DEFAULT_COUNT)])[-1]
    if not text.isdigit() or len(text) > 9:
        raise bad("_count", "应为非负整数", "must be a whole number, 0 or more")
    return min(int(text), MAX_COUNT)


def _patient(
    ctx: Context,
    query: _Query,
    rtype: str,
    filters: list[tuple[str, str]],
    page: Page,
    compartment: str | None,
) -> bool:
    """Narrow to one patient when the search names one, and settle visibility once for that person; False: nothing can match."""
    at = next(
        (
            i
            for i, (n, v) in enumerate(filters)
            if n in ("patient", "subject", "patient:Patient", "subject:Patient") and "," not in v
        ),
        None,
    )
    value = None
    if compartment is not None:
        value = f"Patient/{compartment}"
    elif at is not None and rtype not in definitions.OPEN_TYPES:
        name, value = filters[at]
        table = definitions.params(rtype)
        param = table.get(name.partition(":")[0])
        main = table.get("patient") or table.get("subject")
        if (
            param is None
            or main is None
            or definitions.stored_number(rtype, param.code)[0]
            != definitions.stored_number(rtype, main.code)[0]
        ):
            value = None
        elif "/" not in value:
            value = (
                f"Patient/{value}"
                if ":" in name or param.code == "patient" or param.targets == ("Patient",)
                else None
            )
    found = extract.split_reference(value) if value else None
    if found is None or found[0] != "Patient":
        seen, args = visible.condition(ctx.scope, "r", rtype)
        query.where.append(seen)
        query.args += args
        return True
    if compartment is None and at is not None:
        page.used.append(filters.pop(at))
    patient_id = found[1]
    fragment, args = relationships.sql(ctx.scope, "p.person_id")
    if persons.is_number(patient_id) and (person := persons.by_number(ctx.cur, patient_id)) is not None:
        ctx.cur.execute(
            f"SELECT p.subj, p.person_id, {fragment} FROM record_patient p WHERE p.person_id = %s",
            [*args, person],
        )
    else:
        ctx.cur.execute(
            f"SELECT p.subj, p.person_id, {fragment} FROM record_patient p WHERE p.subj = %s",
            [*args, ref_key(f"Patient/{patient_id}")],
        )
    rows = ctx.cur.fetchall()
    if not rows:
        return False
    keys = [row[0] for row in rows]
    query.where.append("r.person_id = %s AND r.subj = ANY(%s::bigint[])")
    query.args += [rows[0][1], keys]
    if not rows[0][2]:
        if not (ctx.scope.clinical and ctx.scope.institution_ids):
            return False
        query.where.append("r.institution_id = ANY(%s::bigint[])")
        query.args.append(sorted(ctx.scope.institution_ids))
    _by_token(query, rtype, filters, keys, page)
    return True


def _by_token(query: _Query, rtype: str, filters: list[tuple[str, str]], keys: list[int], page: Page) -> None:
    """Let one plain token parameter lead: its rows carry the patient's key."""
    for i, (name, value) in enumerate(filters):
        param = definitions.params(rtype).get(name)
        if (
            param is None
            or param.kind != "token"
            or "," in value
            or "\\" in value
            or not value
            or value.endswith("|")
        ):
            continue
        if name not in extract.supported(rtype) or name in ("status", "category") or rtype in params.PATIENTS:
            continue
        system, bar, code = value.rpartition("|")
        if "|" in system:
            continue
        text = "t.tok = %s AND t.pid = %s AND t.subj = ANY(%s::bigint[])"
        args: list[Any] = [params.code_key(code), param.number, keys]
        if bar:
            text += " AND t.sys = ANY(%s::int[])"
            args.append([params.system_key(system), params.IMPLIED_SYSTEM])
        query.source = f"(SELECT DISTINCT t.rid FROM record_token t WHERE {text}) lead JOIN record_resource r ON r.rid = lead.rid"
        query.from_args = args
        page.used.append(filters.pop(i))
        return


def _sort(query: _Query, rtype: str, given: list[str], strict: bool, page: Page) -> None:
    for key in (k for text in given for k in text.split(",") if k):
        down = key.startswith("-")
        code = key.lstrip("-")
        param = definitions.params(rtype).get(code)
        if code == "_lastUpdated":
            query.order.append(("r.updated", "timestamptz", down))
        elif code == "_id":
            query.order.append(("r.id", "text", down))
        elif (
            param is None
            or param.kind not in ("date", "string", "number", "quantity")
            or code not in extract.supported(rtype)
        ):
            if strict:
                raise bad("_sort", f"不能按 {code} 排序", f"cannot sort by {code}")
            page.ignored.append(
                Issue(
                    "not-supported", Text(f"不能按 {code} 排序", f"cannot sort by {code}"), "_sort", "warning"
                )
            )
        elif param.kind == "date" and _is_main_date(rtype, param):
            query.order.append(("r.at", "timestamptz", down))
        else:
            column, cast = {"date": ("lo", "timestamptz"), "string": ("val", "text")}.get(
                param.kind, ("lo", "numeric")
            )
            narrow = " AND z.kind = 0" if param.kind == "string" else ""
            pick = "max" if down else "min"
            table = params.TABLE[param.kind]
            query.order.append(
                (
                    f"(SELECT {pick}(z.{column}) FROM {table} z WHERE z.rid = r.rid AND z.pid = {param.number}{narrow})",
                    cast,
                    down,
                )
            )
    if not query.order:
        query.order.append(("r.updated", "timestamptz", False))


def _is_main_date(rtype: str, param: definitions.Param) -> bool:
    """Whether ``r.at`` holds this date: it is the only source of the type's clinical time."""
    leaves = {(leaf.steps, leaf.type) for p in param.paths for leaf in extract.compile_path(rtype, p)}
    return leaves == set(extract._time_paths(rtype)) and all(
        kind != "Period" for _, kind in leaves - {(("effectivePeriod",), "Period")}
    )


def _total(cur: Any, query: _Query) -> int:
    cur.execute(
        f"SELECT count(*) FROM {query.source} WHERE {' AND '.join(query.where)}",
        [*query.from_args, *query.args],
    )
    return cur.fetchone()[0]


def _fetch(cur: Any, query: _Query, page: Page, count: int, cursor: str) -> None:
    names = [f"k{i}" for i in range(len(query.order))]
    keys = ", ".join(f"{expr} AS {name}" for (expr, _, _), name in zip(query.order, names, strict=True))
    order = (
        ", ".join(
            f"{n} {'DESC' if d else 'ASC'} NULLS LAST"
            for n, (_, _, d) in zip(names, query.order, strict=True)
        )
        + ", rid"
    )
    after, after_args = _after(query, names, cursor) if cursor else ("TRUE", [])
    cur.execute(
        f"WITH found AS MATERIALIZED (SELECT * FROM (SELECT r.rid, {keys} FROM {query.source} WHERE {' AND '.join(query.where)}) q"
        f" WHERE {after} ORDER BY {order} LIMIT %s)"
        f" SELECT {_COLUMNS}, {', '.join(f'found.{n}::text AS t_{n}' for n in names)} FROM found JOIN record_resource r ON r.rid = found.rid"
        f" ORDER BY {order.removesuffix('rid')}r.rid{''}",
        [*query.from_args, *query.args, *after_args, count + 1],
    )
    found = cur.fetchall()
    if len(found) > count:
        last = found[count - 1]
        token = orjson.dumps([last[6], list(last[8:])])
        page.next = base64.urlsafe_b64encode(token).decode().rstrip("=")
    page.entries = [row_result(row) for row in found[:count]]


def row_result(row: tuple[Any, ...]) -> Result:
    """A Result from the engine's columns."""
    return Result(200, row[0], row[1], row[2], row[3], opened(row[0], row[4]), row[5], row[6], row[7])


def _after(query: _Query, names: list[str], cursor: str) -> Sql:
    """Condition for rows behind the cursor (nulls come last in both directions)."""
    try:
        rid, values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if (
            type(rid) is not int
            or len(values) != len(names)
            or any(v is not None and type(v) is not str for v in values)
        ):
            raise ValueError
    except (ValueError, TypeError):
        raise bad(
            "_cursor",
            "翻页标记无效，请从第一页重新查询",
            "the page cursor is not valid; search again from the first page",
        ) from None
    parts: list[str] = []
    args: list[Any] = []
    equal, equal_args = "", list[Any]()
    for name, (_, cast, down), value in zip(names, query.order, values, strict=True):
        if value is not None:
            parts.append(f"({equal}({name} {'<' if down else '>'} %s::{cast} OR {name} IS NULL))")
            args += [*equal_args, value]
        equal += f"{name} IS NOT DISTINCT FROM %s::{cast} AND "
        equal_args = [*equal_args, value]
    parts.append(f"({equal}rid > %s)")
    return "(" + " OR ".join(parts) + ")", [*args, *equal_args, rid]


def _include(ctx: Context, rtype: str, page: Page, control: dict[str, list[str]]) -> None:
    if not any(
        name in control for name in ("_include", "_revinclude", "_include:iterate", "_revinclude:iterate")
    ):
        return
    seen = {e.rid for e in page.entries}
    frontier = list(page.entries)
    for turn in range(4):
        fresh: list[Result] = []
        for name in ("_include", "_include:iterate", "_revinclude", "_revinclude:iterate"):
            for value in control.get(name, []):
                if turn and not name.endswith(":iterate"):
                    continue
                maker = _included if name.startswith("_include") else _reverse
                for one in maker(ctx, frontier, value, name):
                    mark = one.rid or -hash(one.id)
                    if mark not in seen and len(page.included) + len(fresh) < MAX_INCLUDED:
                        seen.add(mark)
                        fresh.append(one)
        page.included += fresh
        frontier = fresh
        if not fresh:
            return


def _parts(value: str, name: str) -> tuple[str, str, str]:
    kind, _, rest = value.partition(":")
    code, _, target = rest.partition(":")
    if kind not in definitions.types() or not code:
        raise bad(name, "应为 类型:引用参数[:目标类型]", "write Type:reference-parameter[:TargetType]")
    if code != "*":
        param = definitions.params(kind).get(code)
        if param is None or param.kind != "reference" or code not in extract.supported(kind):
            raise bad(name, f"{kind} 没有引用参数 {code}", f"{kind} has no reference parameter {code}")
    return kind, code, target


def _included(ctx: Context, sources: list[Result], value: str, name: str) -> list[Result]:
    kind, code, target = _parts(value, name)
    rids = [s.rid for s in sources if s.rtype == kind]
    if not rids:
        return []
    narrow, args = "", []
    if code != "*":
        number, only = definitions.stored_number(kind, code)
        narrow, args = " AND f.pid = %s", [number]
        target = target or only
    if target:
        narrow += " AND f.ttype = %s"
        args.append(definitions.type_number(target))
    ctx.cur.execute(
        f"SELECT DISTINCT f.target FROM record_ref f WHERE f.rid = ANY(%s::bigint[]){narrow}", [rids, *args]
    )
    keys = [row[0] for row in ctx.cur.fetchall()]
    found = _by_keys(ctx, "r.key = ANY(%s::bigint[])", keys)
    missing = set(keys) - {ref_key(f"{f.rtype}/{f.id}") for f in found}
    if missing:
        ctx.cur.execute(
            "SELECT patient_id FROM record_patient WHERE subj = ANY(%s::bigint[]) AND length(patient_id) = 10",
            [list(missing)],
        )
        for (number_,) in ctx.cur.fetchall():
            golden = persons.virtual(ctx.cur, ctx.scope, number_)
            if golden is not None:
                found.append(golden)
    return found


def _reverse(ctx: Context, sources: list[Result], value: str, name: str) -> list[Result]:
    kind, code, _ = _parts(value, name)
    if not sources:
        return []
    keys = [ref_key(f"{s.rtype}/{s.id}") for s in sources]
    narrow, args = "", []
    if code != "*":
        narrow, args = " AND f.pid = %s", [definitions.stored_number(kind, code)[0]]
    return _by_keys(
        ctx,
        f"r.rid IN (SELECT f.rid FROM record_ref f WHERE f.target = ANY(%s::bigint[]){narrow}) AND r.rtype = %s",
        keys,
        [*args, kind],
    )


def _by_keys(ctx: Context, where: str, keys: list[int], more: Sequence[Any] = ()) -> list[Result]:
    seen, args = visible.condition(ctx.scope, "r")
    ctx.cur.execute(
        f"SELECT {_COLUMNS} FROM record_resource r WHERE {where} AND NOT r.deleted AND {seen} ORDER BY r.rid LIMIT %s",
        [keys, *more, *args, MAX_INCLUDED],
    )
    return [row_result(row) for row in ctx.cur.fetchall()]


def _virtual_by_id(ctx: Context, filters: list[tuple[str, str]], page: Page) -> None:
    """``Patient?_id=<person number>`` finds the virtual patient."""
    for name, value in filters:
        if name == "_id" and persons.is_number(value):
            golden = persons.virtual(ctx.cur, ctx.scope, value)
            if golden is not None and not any(e.id == golden.id for e in page.entries):
                page.entries.append(golden)
                page.total = len(page.entries)


def everything(
    cur: Any, scope: Scope, patient_id: str, *, count: int = 1000, cursor: str = "", types: Sequence[str] = ()
) -> Page | None:
    """Patient/$everything: the patient, what belongs to it, and the open resources these refer to; None: no such patient to see."""
    fragment, args = relationships.sql(scope, "p.person_id")
    number = persons.is_number(patient_id)
    person = persons.by_number(cur, patient_id) if number else None
    where, key = ("p.person_id = %s", person) if number else ("p.subj = %s", ref_key(f"Patient/{patient_id}"))
    cur.execute(f"SELECT p.subj, p.person_id, {fragment} FROM record_patient p WHERE {where}", [*args, key])
    rows = cur.fetchall()
    if not rows and person is None:
        return None
    query = _Query(["NOT r.deleted"], [])
    keys, related = [r[0] for r in rows], bool(rows and rows[0][2])
    query.where.append("r.person_id = %s AND (r.subj = ANY(%s::bigint[]) OR r.key = ANY(%s::bigint[]))")
    query.args += [rows[0][1] if rows else person, keys, keys]
    if types:
        query.where.append("r.rtype = ANY(%s::text[])")
        query.args.append(list(types))
    if not related:
        query.where.append("r.institution_id = ANY(%s::bigint[])")
        query.args.append(sorted(scope.institution_ids) if scope.clinical else [])
    query.order = [("(r.rtype <> 'Patient')::int", "int", False), ("r.rtype", "text", False)]
    page = Page([])
    _fetch(cur, query, page, min(count, 5000), cursor)
    if number and not cursor:
        golden = persons.virtual(cur, scope, patient_id)
        if golden is not None:
            page.entries.insert(0, golden)
    if not page.entries and not cursor:
        return None
    rids = [e.rid for e in page.entries if e.rid]
    if rids:
        cur.execute(
            f"SELECT {_COLUMNS} FROM record_resource r WHERE r.key IN (SELECT f.target FROM record_ref f WHERE f.rid = ANY(%s::bigint[]))"
            " AND r.rtype = ANY(%s::text[]) AND NOT r.deleted ORDER BY r.rid LIMIT %s",
            [rids, sorted(definitions.OPEN_TYPES), MAX_INCLUDED],
        )
        page.included = [row_result(row) for row in cur.fetchall()]
    page.total = len(page.entries) if page.next is None and not cursor else None
    page.persons = {e.person_id for e in page.entries if e.person_id is not None}
    return page
