"""What of the record a scope may see, as SQL: whose data it is (own source, relationship, no patient's) and what the token allows.

The first is :mod:`lianxin.access.sharing`'s rule for each resource; the second are the token's SMART scopes: types it does not
name are closed, ``patient/`` scopes keep to that patient, query limits are search conditions like any other.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from lianxin.access import sharing, smart
from lianxin.access.scope import Scope
from lianxin.record.definitions import OPEN_TYPES, params, types
from lianxin.record.keys import CONFIDENTIAL
from lianxin.record.problems import Problem

_OPEN = sorted(OPEN_TYPES)
_NOBODY = Scope()
Sql = tuple[str, list[Any]]


Owner = Callable[[Scope, str], Sql]
_owners: dict[str, Owner] = {}


def register_owner(rtype: str, fn: Owner) -> None:
    """Keep resources of a type to whom they belong: ``fn(scope, alias)`` is the SQL condition. The platform itself sees all."""
    if _owners.setdefault(rtype, fn) is not fn:
        raise ValueError(f"{rtype} has an owner already")


def condition(scope: Scope, alias: str = "r", rtype: str | None = None) -> Sql:
    """SQL condition on a ``record_resource`` alias; ``rtype`` spares the type check when it is known."""
    text, args = _condition(scope, alias, rtype)
    if scope.everything and scope.client_id is None:
        return text, args
    for kind, owner in _owners.items():
        if rtype in (None, kind):
            mine, more = owner(scope, alias)
            mine = mine if rtype else f"({alias}.rtype <> '{kind}' OR {mine})"
            text, args = (mine, more) if text == "TRUE" else (f"({text} AND {mine})", [*args, *more])
    return text, args


def owned(rtype: str) -> bool:
    """Whether resources of a type are kept to whom they belong, whoever sent them."""
    return rtype in _owners


def own_source_suffices(scope: Scope, rtype: str) -> bool:
    """Whether the scope sees of a type whatever its own institutions sent, with nothing further to ask."""
    return (
        not scope.everything
        and scope.clinical
        and bool(scope.institution_ids)
        and rtype not in OPEN_TYPES
        and not owned(rtype)
        and (scope.client_id is None or unlimited(scope.smart, rtype))
    )


@lru_cache(maxsize=16384)
def unlimited(given: tuple[str, ...], rtype: str, letters: str = "cruds") -> bool:
    """Whether a token's scopes give some of ``letters`` for all of a type, so that :func:`narrowing` has nothing to add."""
    return any(not p.limited for p in smart.matching(given, rtype, letters))


def _condition(scope: Scope, alias: str, rtype: str | None) -> Sql:
    seen = _whose(scope, alias, rtype)
    allowed = narrowing(scope, alias, rtype)
    if allowed is None:
        return seen
    if seen[0] == "TRUE":
        return allowed
    return f"({seen[0]} AND {allowed[0]})", [*seen[1], *allowed[1]]


def _whose(scope: Scope, alias: str, rtype: str | None) -> Sql:
    """Own source, relationship, or no patient's data."""
    if scope.everything or (rtype is not None and rtype in OPEN_TYPES):
        return "TRUE", []
    parts: list[str] = []
    params: list[Any] = []
    if rtype is None:
        parts.append(f"{alias}.rtype = ANY(%s::text[])")
        params.append(_OPEN)
    if scope.clinical or scope.resident_ids:
        if scope.institution_ids:
            parts.append(f"{alias}.institution_id = ANY(%s::bigint[])")
            params.append(sorted(scope.institution_ids))
        fragment, more = sharing.sql(
            scope, f"{alias}.person_id", f"{alias}.institution_id", _confidential(alias)
        )
        parts.append(f"({fragment})")
        params += more
    if not parts:
        return "FALSE", []
    return "(" + " OR ".join(parts) + ")", params


def _confidential(alias: str) -> Sql:
    """Whether a resource is marked restricted or very restricted."""
    return f"{alias}.keys @> ARRAY[%s::bigint]", [CONFIDENTIAL]


def narrowing(scope: Scope, alias: str = "r", rtype: str | None = None, letters: str = "cruds") -> Sql | None:
    """The part of :func:`condition` that comes from the token's scopes; None when they allow all of ``rtype`` (None: of any type).

    ``letters``: only permissions that include one of these count.
    """
    if scope.client_id is None:
        return None
    if rtype is not None:
        return _of_type(scope, alias, rtype, letters)
    given = [p for p in smart.permissions(scope.smart) if not set(letters).isdisjoint(p.letters)]
    if any(p.rtype == "*" and not p.limited for p in given):
        return None
    parts: list[str] = []
    params: list[Any] = []
    whole = sorted({p.rtype for p in given if not p.limited})
    if whole:
        parts.append(f"{alias}.rtype = ANY(%s::text[])")
        params.append(whole)
    if any(p.rtype == "*" for p in given):
        parts.append(f"{alias}.rtype = ANY(%s::text[]) OR {alias}.person_id = %s")
        params += [_OPEN, scope.person_id or 0]
    for one in sorted({p.rtype for p in given if p.limited and p.rtype != "*"} - set(whole)):
        inner = _of_type(scope, alias, one, letters)
        if inner is not None:
            parts.append(f"{alias}.rtype = %s AND {inner[0]}")
            params += [one, *inner[1]]
    if not parts:
        return "FALSE", []
    return "(" + " OR ".join(f"({part})" for part in parts) + ")", params


def _of_type(scope: Scope, alias: str, rtype: str, letters: str) -> Sql | None:
    given = smart.matching(scope.smart, rtype, letters)
    if any(not p.limited for p in given):
        return None
    parts: list[str] = []
    params: list[Any] = []
    for permission in given:
        if permission.level == "patient" and rtype in OPEN_TYPES and not permission.query:
            return None
        both: list[str] = []
        if permission.level == "patient" and rtype not in OPEN_TYPES:
            both.append(f"{alias}.person_id = %s")
            params.append(scope.person_id or 0)
        for name, value in permission.query:
            text, more = limit(scope, alias, rtype, name, value)
            both.append(text)
            params += more
        parts.append(" AND ".join(both))
    if not parts:
        return "FALSE", []
    return "(" + " OR ".join(f"({part})" for part in parts) + ")", params


def seen(cur: Any, scope: Scope, rtype: str, keys: Sequence[int]) -> set[int]:
    """Which of these resources of a type (by key) the scope may see."""
    text, args = condition(scope, "r", rtype)
    cur.execute(
        f"SELECT r.key FROM record_resource r WHERE r.key = ANY(%s::bigint[]) AND {text}", [list(keys), *args]
    )
    return {row[0] for row in cur.fetchall()}


def outside(cur: Any, scope: Scope, rtype: str, keys: Sequence[int], letters: str) -> set[int]:
    """Which of these resources, as they are stored now, lie outside what the token's scopes give ``letters`` for."""
    allowed = narrowing(scope, "r", rtype, letters)
    if allowed is None or not keys:
        return set()
    cur.execute(
        f"SELECT r.key FROM record_resource r WHERE r.key = ANY(%s::bigint[]) AND ({allowed[0]}) IS NOT TRUE",
        [list(keys), *allowed[1]],
    )
    return {row[0] for row in cur.fetchall()}


def open_person(scope: Scope, person_id: int) -> bool:
    """Whether the token's scopes let a person's own Patient (the virtual one) be read; the relationship is asked elsewhere."""
    if scope.client_id is None:
        return True
    return any(
        not p.query and (p.level != "patient" or scope.person_id == person_id)
        for p in smart.matching(scope.smart, "Patient")
    )


def limit(scope: Scope, alias: str, rtype: str, name: str, value: str) -> Sql:
    """A scope's query limit as a search condition; one that is no search condition of the type closes everything."""
    from lianxin.record import query

    try:
        return query.condition(query.Context(None, scope), rtype, name, value, alias)
    except (Problem, query.UnknownParameter):
        return "FALSE", []


def limitable(rtype: str, name: str, value: str) -> bool:
    """Whether ``name=value`` may limit a scope: a token parameter of the type, asked plainly."""
    if rtype not in types():
        return False
    found = params(rtype).get(name)
    return (
        found is not None and found.kind == "token" and limit(_NOBODY, "r", rtype, name, value)[0] != "FALSE"
    )


def person_facts(scope: Scope, person: str) -> Sql:
    """Columns for the row ``who`` that :func:`about_one` reads: what may be decided once for all resources of one person."""
    if scope.everything or not scope.clinical or not scope.institution_ids:
        return "FALSE AS related, FALSE AS across, FALSE AS refused", []
    return sharing.facts(scope, person)


def about_one(scope: Scope, alias: str = "r", rtype: str | None = None) -> Sql:
    """The same as :func:`condition` where every row is of the one person whose facts stand in ``who``."""
    seen = _whose_one(scope, alias)
    allowed = narrowing(scope, alias, rtype)
    if allowed is None:
        return seen
    return f"({seen[0]} AND {allowed[0]})", [*seen[1], *allowed[1]]


def _whose_one(scope: Scope, alias: str) -> Sql:
    if scope.everything:
        return "TRUE", []
    if scope.resident_ids:
        return f"{alias}.person_id = ANY(%s::bigint[])", [sorted(scope.resident_ids)]
    if not scope.clinical or not scope.institution_ids:
        return "FALSE", []
    fragment, args = sharing.sql(scope, f"{alias}.person_id", f"{alias}.institution_id", _confidential(alias))
    source = f"{alias}.institution_id"
    return (
        f"({source} = ANY(%s::bigint[]) OR CASE WHEN (SELECT refused FROM who) THEN {fragment}"
        f" ELSE (SELECT across FROM who) OR ((SELECT related FROM who) AND ({source} IS NULL OR {source} = ANY(%s::bigint[]))) END)",
        [sorted(scope.institution_ids), *args, sorted(scope.partner_ids)],
    )
