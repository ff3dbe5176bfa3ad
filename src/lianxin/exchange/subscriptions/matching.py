"""From changes to events: each slice of the feed is matched against every subscription that has not read it yet.

Subscriptions that stand at the same number are matched together.  A slice is one transaction: the events it gives and how far
each subscription has read are committed together, so a crash repeats the slice and nothing is lost or doubled.  Only one
process at a time matches.  Versions that were replaced before they were matched are asked for by way of *shadows*
(``record.feed``), so that a state which lasted a moment is told as well.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connection, transaction

from lianxin.access import tokens
from lianxin.access.scope import Scope
from lianxin.exchange.subscriptions import lifecycle, topics
from lianxin.exchange.subscriptions.models import OFF, PLAIN, Subscription
from lianxin.exchange.subscriptions.ownership import scope_now
from lianxin.exchange.subscriptions.topics import BEFORE, Topic, Trigger
from lianxin.record import feed, rows, store, text
from lianxin.record.feed import Change
from lianxin.record.problems import Problem
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

SLICE = 200  # changes matched in one transaction
STRIDE = 20_000  # numbers looked through in one transaction when few of them are of a wanted type
PATIENCE = 20  # seconds for one search
AGAIN = dt.timedelta(seconds=30)  # after a search that could not be answered in time
_LOCK = (0x6C78, 0x7375)  # "lx", "su"


@dataclass
class _Slice:
    """The changes being matched, with what is known of them."""

    found: list[Change]
    previous: dict[int, Change]
    shadows: dict[int, int]
    cur: Any

    def interaction(self, change: Change) -> str:
        """create (also after a deletion), update or delete."""
        if change.deleted:
            return "delete"
        return "update" if change.rid in self.previous else "create"


@dataclass
class Outcome:
    """What a step of matching did."""

    more: bool  # there is more that could be matched at once
    events: int


def step(watch: feed.Watch) -> Outcome:
    """Match one slice for each group of subscriptions that is behind; at most one process at a time does."""
    done = Outcome(False, 0)
    for position in _positions():
        one = _group(watch, position)
        if one is None:
            break
        done = Outcome(done.more or one.more, done.events + one.events)
    return done


def _positions() -> list[int]:
    with connection.cursor() as cur:
        return sorted(_behind(cur))


@transaction.atomic
def _group(watch: feed.Watch, position: int) -> Outcome | None:
    """Match a slice for the subscriptions that have read up to ``position``; None when another process is at it."""
    with connection.cursor() as own:
        cur: Any = rows.server_cursor(own)
        cur.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", list(_LOCK))
        if not cur.fetchone()[0]:
            return None
        settled = watch.look(cur)
        behind = _behind(cur)
        if position not in behind or position >= settled:
            return Outcome(False, 0)
        cur.execute(f"SET LOCAL statement_timeout = '{PATIENCE}s'")
        group = list(Subscription.objects.filter(pk__in=behind[position]).order_by("pk"))
        # it stops where the next group stands, so that they go on together
        upto = min([settled, position + STRIDE, *(p for p in behind if p > position)])
        made, reached = _slice(cur, group, position, upto)
    return Outcome(reached < settled, made)


def _behind(cur: Any) -> dict[int, list[int]]:
    """Subscriptions that listen, by the number they have read up to."""
    cur.execute(
        "SELECT read_rid, array_agg(id) FROM exchange_subscription WHERE status <> %s"
        " AND (match_not_before IS NULL OR match_not_before <= %s) GROUP BY read_rid",
        [OFF, clock.now()],
    )
    return dict(cur.fetchall())


def _slice(cur: Any, group: list[Subscription], after: int, upto: int) -> tuple[int, int]:
    types = sorted({rtype for one in group for rtype in one.rtypes})
    for _ in range(SLICE):
        found, reached = feed.changes(cur, after, upto, SLICE, types)
        if not found:
            hits: dict[int, list[tuple[Change, str]]] = {}
            failed: dict[int, Text | None] = {}
            break
        hits, failed = _matched(cur, group, found)
        then_current = {c.rid for c in found if c.current}
        if feed.still_current(cur, sorted(then_current)) == then_current:
            break  # otherwise a version was replaced while it was asked for: once more, by its shadow
    made = 0
    for one in group:
        made += _keep(cur, one, hits.get(one.pk, []), reached, failed)
    return made, reached


def _matched(
    cur: Any, group: list[Subscription], found: list[Change]
) -> tuple[dict[int, list[tuple[Change, str]]], dict[int, Text | None]]:
    """Changes each subscription is told of with their interaction, and the subscriptions that could not be asked (why)."""
    hits: dict[int, list[tuple[Change, str]]] = {}
    failed: dict[int, Text | None] = {}
    cur.execute("SAVEPOINT shadows")
    try:
        previous = feed.before(cur, found)
        looked_back = {r for one in group for r in _looks_back(one)}
        past = [c for c in found if not c.current] + [
            previous[c.rid] for c in found if c.rid in previous and c.rtype in looked_back
        ]
        part = _Slice(found, previous, feed.raise_shadows(cur, past), cur)
        for one in group:
            cur.execute("SAVEPOINT asked")
            try:
                scope = scope_now(cur, one.client_id, one.smart)
                if scope is None:
                    failed[one.pk] = lifecycle.NO_LONGER
                    continue
                hits[one.pk] = _of(part, one, scope)
            except Problem as problem:
                failed[one.pk] = problem.issues[0].text
            except (psycopg.errors.QueryCanceled, psycopg.DataError) as error:
                log.warning("subscription %s could not be matched: %s", one.fhir_id, error)
                failed[one.pk] = None
            finally:
                _undo(cur, "asked")
    finally:
        _undo(cur, "shadows")
    return hits, failed


def _undo(cur: Any, savepoint: str) -> None:
    cur.execute(f"ROLLBACK TO SAVEPOINT {savepoint}")
    cur.execute(f"RELEASE SAVEPOINT {savepoint}")


def _looks_back(one: Subscription) -> set[str]:
    topic = topics.find(one.criteria) if one.form != PLAIN else None
    return {t.rtype for t in topic.triggers if t.looks_back} if topic else set()


def _of(part: _Slice, one: Subscription, scope: Scope) -> list[tuple[Change, str]]:
    """What one subscription is told of."""
    filters = [(rtype, [(n, v) for n, v in pairs]) for rtype, pairs in one.filters]
    told: dict[int, str] = {}
    if one.form == PLAIN:
        rtype, pairs = filters[0]
        if tokens.allows(scope, rtype, "s"):
            mine = [c for c in part.found if c.rtype == rtype and not c.deleted and c.rid > one.read_rid]
            told = dict.fromkeys(
                feed.matching(part.cur, scope, rtype, pairs, mine, part.shadows) if mine else (), ""
            )
    else:
        topic = topics.find(one.criteria)
        if topic is None:
            raise lifecycle.gone_topic(one.criteria)
        for trigger in topic.triggers:
            if tokens.allows(scope, trigger.rtype, "s"):
                narrowed = [pair for rtype, pairs in filters if rtype == trigger.rtype for pair in pairs]
                told |= dict.fromkeys(_triggered(part, topic, trigger, narrowed, scope, one.read_rid), "")
    return [(c, part.interaction(c)) for c in part.found if c.rid in told]


def _triggered(
    part: _Slice,
    topic: Topic,
    trigger: Trigger,
    narrowed: Sequence[tuple[str, str]],
    scope: Scope,
    after: int,
) -> set[int]:
    """Changes that set off a trigger of a topic and pass a subscription's filters."""
    rtype = trigger.rtype
    mine = [
        c
        for c in part.found
        if c.rtype == rtype and c.rid > after and part.interaction(c) in trigger.interactions
    ]
    if not mine:
        return set()
    filters = [(n, v) for n, v in narrowed if n != BEFORE]
    befores = [v for n, v in narrowed if n == BEFORE]
    # a deletion is judged, and seen, by the version that was deleted
    judged = {c.rid: v for c in mine if (v := part.previous.get(c.rid) if c.deleted else c) is not None}
    earlier = {c.rid: part.previous[c.rid] for c in mine if c.rid in part.previous}

    def holds(pairs: Sequence[tuple[str, str]], versions: dict[int, Change]) -> set[int]:
        asked = {v.rid: v for v in versions.values()}
        hits = feed.matching(part.cur, scope, rtype, pairs, list(asked.values()), part.shadows)
        return {rid for rid, v in versions.items() if v.rid in hits}

    told = holds(filters, judged)
    if trigger.current or trigger.previous:
        now = holds(trigger.current, judged)
        then = holds(trigger.previous, earlier) | {c.rid for c in mine if c.rid not in earlier}
        if trigger.previous and trigger.current:
            told &= now & then if trigger.both else now | then
        else:
            told &= now if trigger.current else then
    if trigger.changed or befores:
        told = {c.rid for c in mine if c.rid in told and _moved(part, c, trigger, befores)}
    return told


def _moved(part: _Slice, change: Change, trigger: Trigger, befores: list[str]) -> bool:
    """Whether one of the elements a trigger watches differs from the version before, and that one was as asked."""
    old = _body(part, part.previous[change.rid]) if change.rid in part.previous else {}
    new = {} if change.deleted else _body(part, change)
    watched = trigger.changed
    if watched and old and all(old.get(name) == new.get(name) for name in watched):
        return False
    return all(old.get("status") in wanted.split(",") for wanted in befores)


def _body(part: _Slice, version: Change) -> dict[str, Any]:
    table = "record_resource" if version.current else "record_history"
    part.cur.execute(
        f"SELECT body FROM {table} WHERE rid = %s UNION ALL SELECT body FROM record_history WHERE rid = %s",
        [version.rid, version.rid],
    )
    row = part.cur.fetchone()
    return dict(text.parse(store.opened(version.rtype, row[0]).encode()))


_INSERT = (
    "INSERT INTO exchange_subscriptionevent (subscription_id, number, rid, rtype, resource_id, version, interaction, person_id,"
    " happened_at, status, attempts, error) SELECT %s, n, r, t, i, v, a, p, h, 'waiting', 0, '' FROM unnest(%s::bigint[],"
    " %s::bigint[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bigint[], %s::timestamptz[]) AS u(n, r, t, i, v, a, p, h)"
)


def _keep(
    cur: Any, one: Subscription, hits: list[tuple[Change, str]], reached: int, failed: dict[int, Text | None]
) -> int:
    """Write a subscription's events and how far it has read; a subscription that could not be asked stays where it is."""
    cur.execute(
        "SELECT version, events, read_rid FROM exchange_subscription WHERE id = %s AND status <> %s FOR UPDATE",
        [one.pk, OFF],
    )
    row = cur.fetchone()
    if row is None or (row[0], row[2]) != (one.version, one.read_rid):
        return 0  # it was changed meanwhile: it is matched again as it is now, from where it stands
    if one.pk in failed:
        why = failed[one.pk]
        if why is None:
            Subscription.objects.filter(pk=one.pk).update(
                match_not_before=clock.now() + AGAIN,
                last_error=lifecycle.kept(SLOW_SEARCH),
                last_error_at=clock.now(),
            )
        elif why is lifecycle.NO_LONGER:
            lifecycle.settle(one, OFF, why)
        else:
            lifecycle.settle(one, "error", why)
            Subscription.objects.filter(pk=one.pk).update(match_not_before=lifecycle.NEVER)
        return 0
    if hits:
        first = row[1] + 1
        columns = zip(
            *(
                (n, c.rid, c.rtype, c.id, c.version, interaction, c.person_id, c.updated)
                for n, (c, interaction) in enumerate(hits, first)
            ),
            strict=True,
        )
        cur.execute(_INSERT, [one.pk, *(list(column) for column in columns)])
    cur.execute(
        "UPDATE exchange_subscription SET read_rid = %s, events = events + %s, match_not_before = NULL WHERE id = %s",
        [reached, len(hits), one.pk],
    )
    return len(hits)


SLOW_SEARCH = T(
    "订阅条件的查询过慢，稍后再试；请把条件写得更窄。",
    "The search of the criteria takes too long and will be tried again; make the criteria narrower.",
)
