"""What every part of the FHIR door asks first: who calls, what the token allows, transactions, and the audit of what was seen."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import close_old_connections, connection, transaction
from django.db.utils import OperationalError

from lianxin.access import audit, connections, journal, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.fhir.http import Incoming
from lianxin.record import custom, definitions, rows
from lianxin.record.problems import Problem, refuse
from lianxin.record.store import Result

TRIES = 3  # of a transaction that PostgreSQL chose to end in a deadlock
_limits: list[Callable[[Scope], Problem | None]] = []


def register_limit(fn: Callable[[Scope], Problem | None]) -> None:
    """Ask ``fn(scope)`` about every request with a token: the refusal it gives is the answer. It must cost next to nothing."""
    if fn not in _limits:
        _limits.append(fn)


def authenticate(request: Incoming) -> Scope:
    """The scope of the bearer token; 401 without a live one."""
    custom.refresh()
    kind, _, bearer = request.header("Authorization").partition(" ")
    scope = None
    if kind.lower() == "bearer" and bearer.strip():
        scope = connections.reading(lambda cur: tokens.scope_for_token(bearer.strip(), cursor=cur))
    if scope is None:
        raise refuse(
            401,
            "login",
            "请在 Authorization 头中提供有效的 Bearer 令牌",
            "send a valid Bearer token in the Authorization header",
        )
    for limit in _limits:
        refusal = limit(scope)
        if refusal is not None:
            raise refusal
    return scope


def demand(scope: Scope, rtype: str, letter: str) -> None:
    """403 unless the token's SMART scopes allow it."""
    if not tokens.allows(scope, rtype, letter):
        raise refuse(
            403,
            "forbidden",
            f"令牌的授权范围不含 {rtype}.{letter}，请申请相应授权",
            f"the token's scopes do not include {rtype}.{letter}; ask for that scope",
        )


def gone(rtype: str, rid: str) -> Problem:
    """410: it was deleted."""
    return refuse(410, "deleted", f"{rtype}/{rid} 已删除", f"{rtype}/{rid} was deleted")


def absent(rtype: str, rid: str) -> Problem:
    """404: there is none, or none that the caller may see (the answer is the same)."""
    return refuse(
        404,
        "not-found",
        f"没有可查看的 {rtype}/{rid[:64]}",
        f"there is no {rtype}/{rid[:64]} that you may see",
    )


def note(cur: Any, scope: Scope, action: str, results: list[Result], what: str = "") -> None:
    """Audit results that are somebody's data: one event a person, with how many resources of each type when there are several.

    What was written is audited in the writer's transaction, what was seen in the journal.
    """
    made = entries(scope, action, results, what)
    if action in ("read", "search"):
        journal.keep(made)
    else:
        audit.write_many(made, cursor=cur)


def note_all(cur: Any, scope: Scope, done: list[tuple[str, Result]]) -> None:
    """Audit everything (action, result) that a transaction did, as its last statements: what it wrote gets one link of the chain."""
    wrote: list[audit.Entry] = []
    for action in ("read", "create", "update", "delete"):
        made = entries(scope, action, [result for name, result in done if name == action])
        if action == "read":
            journal.keep(made)
        else:
            wrote += made
    audit.append(cur, wrote)


def entries(scope: Scope, action: str, results: list[Result], what: str = "") -> list[audit.Entry]:
    """The events of what was done to somebody's data: one for each person."""
    people: dict[int | None, list[Result]] = {}
    for one in results:
        if one.person_id is not None or one.rtype not in definitions.OPEN_TYPES:
            people.setdefault(one.person_id, []).append(one)
    return [
        audit.entry(
            scope,
            action,
            person_id=person,
            what=what or f"{own[0].rtype}/{own[0].id}/_history/{own[0].version}",
            detail=dict(Counter(one.rtype for one in own)) if len(own) > 1 else None,
        )
        for person, own in people.items()
    ]


def fresh() -> None:
    """Let go of a connection that has grown too old, and have it tried before its next use, unless a transaction is open on it.

    Django does this at the start of each of its requests; the door's do not pass through Django.
    """
    if not connection.in_atomic_block:
        close_old_connections()


def writing(work: Callable[[Any], Any]) -> Any:
    """Run ``work(cursor)`` in a transaction of Django's connection; again when PostgreSQL ended it to resolve a deadlock.

    ``work`` must not keep anything from a run that failed.
    """
    for left in reversed(range(1 if connection.in_atomic_block else TRIES)):
        try:
            with transaction.atomic(), connection.cursor() as own:
                return work(rows.server_cursor(own))
        except (psycopg.OperationalError, OperationalError) as error:
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if not left or not isinstance(
                cause, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure
            ):
                raise
    raise AssertionError  # the loop above returns or raises


def count_of(request: Incoming, default: int, most: int) -> int:
    """``_count``, between 0 and ``most``; 400 when it is no whole number."""
    text = request.param("_count")
    if not text:
        return default
    if not text.isdigit() or not text.isascii():
        raise refuse(
            400, "invalid", "_count 应为非负整数", "_count must be a whole number, 0 or more", "_count"
        )
    return min(int(text[:9]), most)
