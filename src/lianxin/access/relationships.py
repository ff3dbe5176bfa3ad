"""The table of legitimate relationships: why an institution may open a person's record, from when to when.

Duties, contracts, encounters, registration and the home institution grant; their end removes. A break-glass row belongs to one
account. Everything that reads patient data asks here, in Python (:func:`sees`, :func:`require`), in raw SQL (:func:`sql`) or in
the ORM (:func:`q`); the live predicate is ``since <= now < until`` on the house clock.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q

from lianxin.access import errors
from lianxin.access.errors import NoRelationship
from lianxin.access.models import Relationship
from lianxin.standards import clock

if TYPE_CHECKING:
    from lianxin.access.scope import Scope

# (person_id, institution_id, kind, source, until)
Row = tuple[int, int, str, str, dt.datetime | None]

EXTEND = """ON CONFLICT (person_id, institution_id, kind, source) DO UPDATE
SET until = CASE WHEN EXCLUDED.until IS NULL THEN NULL ELSE GREATEST(access_relationship.until, EXCLUDED.until) END,
    since = LEAST(access_relationship.since, EXCLUDED.since)
WHERE access_relationship.until IS NOT NULL
"""
"""What an INSERT into access_relationship does when there is such a row: it extends, never shortens."""

_GRANT = f"""
INSERT INTO access_relationship (person_id, institution_id, kind, source, account_id, since, until)
SELECT p, i, k, s, %s, g.at, CASE WHEN u < g.at THEN g.at ELSE u END
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[]) AS rows(p, i, k, s, u), (SELECT %s::timestamptz AS at) AS g
ORDER BY p, i, k, s
{EXTEND}"""


def grant(
    person_id: int,
    institution_id: int,
    kind: str,
    source: str,
    until: dt.datetime | None = None,
    *,
    account_id: int | None = None,
) -> None:
    """Give ``institution_id`` access to a person from now until ``until`` (None: until :func:`end`).

    ``source`` is a stable text such as ``"duty:123"``; granting again with the same source extends, never shortens.
    """
    grant_many([(person_id, institution_id, kind, source, until)], account_id=account_id)


def grant_many(
    rows: Iterable[Row],
    *,
    cursor: Any = None,
    account_id: int | None = None,
    since: dt.datetime | None = None,
) -> None:
    """Grant many at once in one statement (any DB-API cursor; default Django's); ValueError for a kind there is not."""
    latest = {row[:4]: row for row in rows}
    if not latest:
        return
    if strange := {row[2] for row in latest} - set(Relationship.KINDS):
        raise ValueError(f"unknown kind of relationship: {', '.join(sorted(strange))}")
    columns = list(zip(*latest.values(), strict=True))
    params = [account_id, *(list(c) for c in columns), since or clock.now()]
    if cursor is not None:
        cursor.execute(_GRANT, params)
        return
    with connection.cursor() as own:
        own.execute(_GRANT, params)


def end(
    source: str, at: dt.datetime | None = None, *, person_id: int | None = None, cursor: Any = None
) -> int:
    """End every live relationship granted by ``source`` at ``at`` (default now); returns how many.

    'home' and 'registration' share one source over all people: ending one of those needs ``person_id``.
    """
    at = at or clock.now()
    text = "UPDATE access_relationship SET until = GREATEST(%s, since) WHERE source = %s AND (until IS NULL OR until > %s)"
    params: list[Any] = [at, source, at]
    if person_id is None:
        text += " AND NOT (kind IN ('home', 'registration'))"
    else:
        text += " AND person_id = %s"
        params.append(person_id)
    if cursor is not None:
        cursor.execute(text, params)
        return cursor.rowcount
    with connection.cursor() as own:
        own.execute(text, params)
        return own.rowcount


def sql(scope: Scope, column: str) -> tuple[str, list[Any]]:
    """SQL condition (and parameters, ``%s`` style) true for rows whose person in ``column`` the scope may see.

    ``column`` is written by a programmer, never by a user.
    """
    if scope.everything:
        return "TRUE", []
    if scope.resident_ids:
        return f"{column} = ANY(%s::bigint[])", [sorted(scope.resident_ids)]
    if not scope.clinical or not scope.institution_ids:
        return "FALSE", []
    now = clock.now()
    return (
        f"EXISTS (SELECT 1 FROM access_relationship lxr WHERE lxr.person_id = {column}"
        " AND lxr.institution_id = ANY(%s::bigint[]) AND lxr.since <= %s AND (lxr.until IS NULL OR lxr.until > %s)"
        " AND (lxr.account_id IS NULL OR lxr.account_id = %s))",
        [sorted(scope.institution_ids), now, now, scope.account_id or 0],
    )


def q(scope: Scope, field: str = "person_id") -> Q:
    """The same condition for the ORM: rows whose person (``field``) the scope may see."""
    if scope.everything:
        return ~Q(pk__in=())
    if scope.resident_ids:
        return Q(**{f"{field}__in": scope.resident_ids})
    if not scope.clinical or not scope.institution_ids:
        return Q(pk__in=())
    now = clock.now()
    return Q(
        Exists(
            Relationship.objects.filter(
                Q(until__isnull=True) | Q(until__gt=now),
                Q(account_id__isnull=True) | Q(account_id=scope.account_id or 0),
                person_id=OuterRef(field),
                institution_id__in=scope.institution_ids,
                since__lte=now,
            )
        )
    )


def seen(scope: Scope, person_ids: Sequence[int], *, cursor: Any = None) -> set[int]:
    """Which of ``person_ids`` the scope may see (one query)."""
    if scope.everything:
        return set(person_ids)
    if not person_ids:
        return set()
    condition, params = sql(scope, "p.id")
    if condition == "FALSE":
        return set()
    text = f"SELECT p.id FROM unnest(%s::bigint[]) AS p(id) WHERE {condition}"
    if cursor is not None:
        cursor.execute(text, [list(person_ids), *params])
        return {row[0] for row in cursor.fetchall()}
    with connection.cursor() as own:
        own.execute(text, [list(person_ids), *params])
        return {row[0] for row in own.fetchall()}


def sees(scope: Scope, person_id: int) -> bool:
    """Whether the scope may open this person's record now."""
    return person_id in seen(scope, [person_id])


def require(scope: Scope | None, person_id: int) -> None:
    """Raise :class:`NoRelationship` (people) or ScopeRequired (a forgotten scope) unless :func:`sees`."""
    if scope is None:
        raise errors.ScopeRequired("patient data was asked for without a scope")
    if not sees(scope, person_id):
        raise NoRelationship(person_id)


def of_person(person_id: int) -> list[Relationship]:
    """Live relationships of a person, for the page that shows who may look."""
    now = clock.now()
    return list(
        Relationship.objects.filter(
            Q(until__isnull=True) | Q(until__gt=now), person_id=person_id, since__lte=now
        )
        .select_related("institution", "account")
        .order_by(F("until").asc(nulls_first=True), "id")
    )
