"""Search: parameters to one SQL statement with the scope inside it; pages by cursor, includes, totals.

What a parameter means in SQL is in :mod:`lianxin.record.query`. The common question
``Observation?patient=&code=&_sort=-date&_count=20`` is answered from the keys that join patient and code; whether the asker
may see the person is decided once, in the same statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.record import definitions, extract, persons, visible
from lianxin.record.keys import key_scoped, ref_key
from lianxin.record.problems import Issue, Problem
from lianxin.record.query import compartments, conditions, include
from lianxin.record.query import order as ordering
from lianxin.record.query.base import Context, Sql, UnknownParameter, any_key, any_of, bad
from lianxin.record.query.kinds import numbers
from lianxin.record.query.references import golden_keys, is_subject
from lianxin.record.query.result import COLUMNS, row_result
from lianxin.record.store import Result
from lianxin.standards.text import Text

DEFAULT_COUNT = 20
MAX_COUNT = 1000
COUNT_DIGITS = 9
MAX_PARAMETERS = 100
CONTROL = frozenset({"_count", "_sort", "_include", "_revinclude", "_include:iterate", "_revinclude:iterate", "_total", "_summary",
                     "_elements", "_format", "_pretty", "_cursor", "_contained", "_containedType"})  # fmt: skip
TOTALS = frozenset({"none", "estimate", "accurate"})
SUMMARIES = frozenset({"", "true", "text", "data", "count", "false"})


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
    """The parts of the statement; ``who`` is the person it is about, when it is about one."""

    where: list[str]
    args: list[Any]
    order: list[ordering.Key] = field(default_factory=list)
    who: str = ""
    who_args: list[Any] = field(default_factory=list)

    def add(self, part: Sql) -> None:
        """One more condition."""
        self.where.append(part[0])
        self.args += part[1]

    def about(
        self, scope: Scope, subjects: list[int], rtype: str | None = None, *, led: bool = False
    ) -> None:
        """Only resources of these patients, who are one person; what the scope may see of that person is settled once.

        ``led``: keys will lead to the rows, so that the index on persons is kept out of the way (a plan made once for all
        values cannot know that it is the worse one).
        """
        facts, args = visible.person_facts(scope, "p.person_id")
        self.who = (
            f"WITH who AS MATERIALIZED (SELECT p.person_id, {facts} FROM record_patient p"
            " WHERE p.subj = ANY(%s::bigint[]) LIMIT 1) "
        )
        self.who_args = [*args, subjects]
        person = "r.person_id + 0" if led else "r.person_id"
        self.where += [f"{person} = (SELECT person_id FROM who)", "r.subj = ANY(%s::bigint[])"]
        self.args.append(subjects)
        self.add(visible.about_one(scope, "r", rtype))


def match(cur: Any, scope: Scope, rtype: str, condition: str, limit: int = 2) -> list[Result]:
    """Resources that match a condition such as ``identifier=sys|value`` (for conditional create and references)."""
    pairs = parse_qsl(condition.partition("?")[2] if "?" in condition else condition, keep_blank_values=True)
    if not pairs:
        raise bad("ifNoneExist", "条件为空", "the condition is empty")
    return search(cur, scope, rtype, [*pairs, ("_count", str(limit))], strict=True).entries


def about_one(rtype: str, given: Sequence[tuple[str, str]]) -> bool:
    """Whether a search names one patient as the resources' own: one plan then fits all values."""
    return rtype not in definitions.OPEN_TYPES and any(patient_id(rtype, n, v) is not None for n, v in given)


def search(
    cur: Any,
    scope: Scope,
    rtype: str | None,
    given: Sequence[tuple[str, str]],
    *,
    strict: bool = False,
    compartment: tuple[str, str] | str | None = None,
) -> Page:
    """Search one type, or several with ``rtype`` None (``_type``, or all); what is not known is refused or told in ``ignored``.

    ``compartment`` is (type, id), or the id of a Patient: only what belongs to it.
    """
    ctx = Context(cur, scope)
    page = Page([])
    control: dict[str, list[str]] = {}
    filters: list[tuple[str, str]] = []
    if len(given) > MAX_PARAMETERS:
        raise bad("", f"最多 {MAX_PARAMETERS} 个参数", f"at most {MAX_PARAMETERS} parameters")
    for name, value in given:
        if (
            not value
        ):  # "Empty parameters are not an error - they are just ignored by the server" (R4 3.1.1.3)
            told = Text(f"{name[:100]} 没有取值，已忽略", f"{name[:100]} has no value and is ignored")
            page.ignored.append(Issue("informational", told, name[:100], "information"))
        elif name in CONTROL:
            control.setdefault(name, []).append(value)
            if name != "_cursor":
                page.used.append((name, value))
        else:
            filters.append((name, value))
    count = count_of(*control.get("_count", [])[-1:])
    counting = _checked(control)
    inside = ("Patient", compartment) if isinstance(compartment, str) else compartment
    if rtype is None:
        query = _several(ctx, filters, page, strict, inside)
        kinds = ["Resource"]
    else:
        query = _single(ctx, rtype, filters, page, strict, inside)
        kinds = [rtype]
    _sort(query, kinds[0], control.get("_sort", []), strict, page)
    wishes = _wishes(control, strict, page)
    if counting or count == 0 or control.get("_total", ["none"])[-1] != "none":
        page.total = _total(cur, query)
        if counting or count == 0:
            return page
    _fetch(cur, query, page, count, control.get("_cursor", [""])[-1])
    if page.total is None and page.next is None and "_cursor" not in control:
        page.total = len(page.entries)
    if rtype == "Patient":
        _virtual_by_id(ctx, filters, page)
    if wishes and page.entries:
        along = include.follow(ctx, wishes, page.entries)
        page.included = along.results
        if along.cut:
            page.ignored.append(
                Issue("too-costly", Text(f"随带的资源超过 {include.MOST} 个，其余未列出", f"more than {include.MOST} resources came along; the rest is left out"), "_include", "warning")
            )  # fmt: skip
    page.persons.update(e.person_id for e in [*page.entries, *page.included] if e.person_id is not None)
    return page


def count_of(text: str = str(DEFAULT_COUNT)) -> int:
    """``_count`` as a number, at most :data:`MAX_COUNT`; 400 when it is no whole number."""
    if not (text.isascii() and text.isdigit()) or len(text) > COUNT_DIGITS:
        raise bad("_count", "应为不太大的非负整数", "must be a whole number, 0 or more, of a sensible size")
    return min(int(text), MAX_COUNT)


def _checked(control: dict[str, list[str]]) -> bool:
    """Check ``_total`` and ``_summary``; True when only the number is wanted."""
    summary, total = control.get("_summary", [""])[-1], control.get("_total", ["none"])[-1]
    if total not in TOTALS or summary not in SUMMARIES:
        raise bad("_total/_summary", "取值不在规定范围内", "the value is not one of the allowed codes")
    return summary == "count"


# -------------------------------------------------------------------------------------------------------- conditions


def _single(
    ctx: Context, rtype: str, filters: list[tuple[str, str]], page: Page, strict: bool, inside: tuple[str, str] | None
) -> _Query:  # fmt: skip
    query = _Query(["r.rtype = %s", "NOT r.deleted"], [rtype])
    left = list(filters)
    if inside is not None:
        query.add(compartments.condition(ctx, rtype, inside, "r"))
    if not _about_one(ctx, query, rtype, left, page):
        query.add(visible.condition(ctx.scope, "r", rtype))
    for name, value in left:
        try:
            query.add(conditions.condition(ctx, rtype, name, value))
            page.used.append((name, value))
        except UnknownParameter:
            _unknown(rtype, name, strict, page)
    return query


def _unknown(rtype: str, name: str, strict: bool, page: Page) -> None:
    name = name[:100]
    told = Text(f"{rtype} 没有查询参数 {name}", f"{rtype} has no search parameter {name}")
    if strict:
        raise Problem(400, Issue("not-supported", told, name)) from None
    page.ignored.append(Issue("not-supported", told, name, "warning"))


def _several(
    ctx: Context, filters: list[tuple[str, str]], page: Page, strict: bool, inside: tuple[str, str] | None
) -> _Query:  # fmt: skip
    """Over several types: each filter must mean something in every one of them."""
    kinds = sorted(compartments.types(inside[0])) if inside else sorted(definitions.types())
    for name, value in filters:
        if name == "_type":
            chosen = [k for k in value.split(",") if k]
            wrong = next((k for k in chosen if k not in definitions.types()), None)
            if wrong is not None or not chosen:
                raise bad("_type", f"没有类型 {(wrong or '')[:40]}", f"there is no type {(wrong or '')[:40]}")
            kinds = [k for k in kinds if k in chosen]
            page.used.append((name, value))
    query = _Query(["r.rtype = ANY(%s::text[])", "NOT r.deleted"], [kinds])
    query.add(visible.condition(ctx.scope, "r", kinds[0] if len(kinds) == 1 else None))
    if inside is not None:
        query.add(_joined([(kind, compartments.condition(ctx, kind, inside, "r")) for kind in kinds]))
    for name, value in filters:
        if name == "_type":
            continue
        try:
            if name in ("_lastUpdated", "_list"):  # the same in every type
                query.add(conditions.condition(ctx, kinds[0] if kinds else "Basic", name, value))
            else:
                query.add(_joined([(kind, conditions.condition(ctx, kind, name, value)) for kind in kinds]))
            page.used.append((name, value))
        except UnknownParameter:
            _unknown(kinds[0] if len(kinds) == 1 else "Resource", name, strict, page)
    return query


def _joined(parts: list[tuple[str, Sql]]) -> Sql:
    """Any of the types' own conditions; keys name their type already, and become one list."""
    keys: list[int] = []
    rest: list[Sql] = []
    for kind, (text, args) in parts:
        if text == "r.keys @> ARRAY[%s::bigint]":
            keys += args
        elif text == "r.keys && %s::bigint[]":
            keys += args[0]
        else:
            rest.append((f"(r.rtype = %s AND {text})", [kind, *args]))
    return any_of([*([any_key("r", keys)] if keys else []), *rest])


def _about_one(ctx: Context, query: _Query, rtype: str, filters: list[tuple[str, str]], page: Page) -> bool:
    """Narrow to one patient when a filter names one as the resource's patient; whether the asker may see that person is settled once.

    Takes the filters it answers out of the list; False when the search is about no single patient.
    """
    if rtype in definitions.OPEN_TYPES or visible.owned(rtype):
        return False
    at = next((i for i, (n, v) in enumerate(filters) if patient_id(rtype, n, v) is not None), None)
    if at is None:
        return False
    named = patient_id(rtype, *filters[at]) or ""
    page.used.append(filters.pop(at))
    keys = [ref_key(f"Patient/{named}")]
    keys += [key for key in golden_keys(ctx, named) if key not in keys]
    leading = _scoped(rtype, filters, keys)
    query.about(ctx.scope, keys, rtype, led=bool(leading))
    for part in leading:
        query.add(part)
    return True


def patient_id(rtype: str, name: str, value: str) -> str | None:
    """Id of the one Patient that this filter names as the resource's own patient; None otherwise."""
    code, _, modifier = name.partition(":")
    param = definitions.params(rtype).get(code)
    if (
        param is None
        or param.kind != "reference"
        or modifier not in ("", "Patient")
        or "," in value
        or "\\" in value
        or not is_subject(rtype, code)
    ):
        return None
    if "/" not in value and ":" not in value:
        only_patients = modifier or code == "patient" or param.targets == ("Patient",)
        return value if value and only_patients else None
    found = extract.split_reference(value)
    return found[1] if found and found[0] == "Patient" else None


def _scoped(rtype: str, filters: list[tuple[str, str]], subjects: list[int]) -> list[Sql]:
    """Conditions on the keys that join a plain code with the patient, so that both are found at once; systems are still checked beside."""
    scoped = extract.scoped_numbers(rtype)
    found = []
    for name, value in filters:
        param = definitions.params(rtype).get(name)
        if param is None or param.kind != "token" or "\\" in value:
            continue
        own = numbers(rtype, name)
        codes = [v.rpartition("|")[2] for v in value.split(",") if v]
        if set(own) <= scoped and codes and all(codes):
            found.append(any_key("r", [key_scoped(s, n, c) for s in subjects for n in own for c in codes]))
    return found


# ------------------------------------------------------------------------------------------------------ sort and page


def _sort(query: _Query, rtype: str, given: list[str], strict: bool, page: Page) -> None:
    for word in (w for text in given for w in text.split(",") if w):
        found = ordering.key(rtype, word)
        if found is None:
            code = word.removeprefix("-")[:60]
            if strict:
                raise bad("_sort", f"不能按 {code} 排序", f"cannot sort by {code}")
            told = Text(f"不能按 {code} 排序", f"cannot sort by {code}")
            page.ignored.append(Issue("not-supported", told, "_sort", "warning"))
        elif len(query.order) >= ordering.MAX_KEYS:
            raise bad("_sort", f"最多 {ordering.MAX_KEYS} 个排序项", f"at most {ordering.MAX_KEYS} sort keys")
        else:
            query.order.append(found)
    if not query.order:
        query.order.append(ordering.default())


def _total(cur: Any, query: _Query) -> int:
    cur.execute(
        f"{query.who}SELECT count(*) FROM record_resource r WHERE {' AND '.join(query.where)}",
        [*query.who_args, *query.args],
    )
    return cur.fetchone()[0]


def _fetch(cur: Any, query: _Query, page: Page, count: int, cursor: str) -> None:
    """Fill the page; one row more than wanted tells whether there is a next one."""
    names = [f"k{i}" for i in range(len(query.order))]
    shown = ", ".join(f"{key.text} AS {name}" for key, name in zip(query.order, names, strict=True))
    shown_args = [v for key in query.order for v in key.args]
    where, args = list(query.where), list(query.args)
    if cursor:
        text, more = ordering.after(query.order, cursor)
        where.append(text)
        args += more
    cur.execute(
        f"{query.who}SELECT {COLUMNS}, {shown} FROM record_resource r WHERE {' AND '.join(where)}"
        f" ORDER BY {ordering.order(query.order, names)} LIMIT %s",
        connections.sent([*query.who_args, *shown_args, *args, count + 1]),
        prepare=True,
    )
    found = cur.fetchall()
    if len(found) > count:
        last = found[count - 1]
        page.next = ordering.cursor(last[6], list(last[8:]))
    page.entries = [row_result(row) for row in found[:count]]


def _wishes(control: dict[str, list[str]], strict: bool, page: Page) -> list[include.Wish]:
    found = []
    for name in include.NAMES:
        for value in control.get(name, []):
            try:
                found.append(include.wish(name, value))
            except Problem as problem:
                if strict:
                    raise
                page.ignored += [Issue(i.code, i.text, i.expression, "warning") for i in problem.issues]
    return found


def _virtual_by_id(ctx: Context, filters: list[tuple[str, str]], page: Page) -> None:
    """``Patient?_id=<person number>`` finds the virtual patient."""
    if any(name != "_id" for name, _ in filters):
        return
    for _, value in filters:
        if persons.is_number(value):
            golden = persons.virtual(ctx.cur, ctx.scope, value)
            if golden is not None and not any(e.id == golden.id for e in page.entries):
                page.entries.append(golden)
                page.total = len(page.entries)


# -------------------------------------------------------------------------------------------------------- everything


def everything(
    cur: Any, scope: Scope, patient_id: str, *, count: int = 1000, cursor: str = "", types: Sequence[str] = ()
) -> Page | None:
    """Patient/$everything: the patient, what belongs to it, and the open resources these refer to; None: no such patient to see."""
    number = persons.is_number(patient_id)
    keys = [ref_key(f"Patient/{patient_id}")]
    ctx = Context(cur, scope)
    keys += [key for key in golden_keys(ctx, patient_id) if key not in keys]
    query = _Query(["NOT r.deleted"], [])
    query.about(scope, keys)
    if types:
        query.add(("r.rtype = ANY(%s::text[])", [list(types)]))
    query.order = [
        ordering.Key("(r.rtype <> 'Patient')::int::text", [], "text", maybe_null=False),
        ordering.Key("r.rtype", [], "text", maybe_null=False),
    ]
    page = Page([])
    _fetch(cur, query, page, max(1, min(count, 5000)), cursor)
    if number and not cursor:
        golden = persons.virtual(cur, scope, patient_id)
        if golden is not None:
            page.entries.insert(0, golden)
    if not page.entries and not cursor:
        return None
    wish = include.Wish(reverse=False, iterate=False, kind="", code="*", target="")
    along = include.follow(ctx, [wish], page.entries)
    page.included = [e for e in along.results if e.rtype in definitions.OPEN_TYPES]
    page.total = len(page.entries) if page.next is None and not cursor else None
    page.persons = {e.person_id for e in page.entries if e.person_id is not None}
    return page
