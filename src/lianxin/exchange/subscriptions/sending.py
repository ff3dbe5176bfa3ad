"""Carrying events to one receiver: one sender at a time, in order, at least once, always the same batch until it is taken.

A sender holds a lease on the subscription.  It reads a batch under the client's scope of this moment, writes the audit, and
only then sends; what became of it is written afterwards.  Killed in between, it leaves a lease that runs out, and the same
batch with the same numbers goes out again.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from lianxin.access import audit, seal, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.subscriptions import content, lifecycle, wire
from lianxin.exchange.subscriptions.content import Message, Told
from lianxin.exchange.subscriptions.models import (
    ACTIVE,
    EMPTY,
    ERROR,
    OFF,
    PLAIN,
    REQUESTED,
    SENT,
    WAITING,
    WITHHELD,
    Subscription,
    SubscriptionEvent,
)
from lianxin.exchange.subscriptions.ownership import scope_now
from lianxin.record import rows, store
from lianxin.standards import clock
from lianxin.standards.text import T

MARGIN = 45  # seconds a lease outlasts the request: looking up names, and our own writing
TURNS = 25  # batches one sender carries before it gives the place to another subscription
SLOW = 2.0  # seconds from which a receiver counts as slow
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0  # seconds
TELLING = "event-notification"
MOST_BYTES = 8 * 1024 * 1024  # of resources in one notification

_SPACE = 0x7375626C  # "subl": the locks by which dispatchers are known to be alive
_DUE = """
SELECT s.id, s.slow FROM exchange_subscription s
 WHERE (s.lease_until IS NULL OR s.lease_until < now() OR NOT EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory'
        AND l.classid = %(space)s AND l.objid::bigint = s.lease AND l.objsubid = 2)) AND NOT s.paused AND (s.not_before IS NULL OR s.not_before <= %(now)s)
   AND (s.status = 'requested' AND s.since_rid <= %(settled)s
        OR s.status = 'active' AND (
           EXISTS (SELECT 1 FROM exchange_subscriptionevent e WHERE e.subscription_id = s.id AND e.status = 'waiting')
           OR s.heartbeat IS NOT NULL AND coalesce(s.heard_at, s.created_at) + s.heartbeat * interval '1 second' <= %(now)s))
   AND s.id <> ALL(%(busy)s::bigint[]) AND (NOT s.slow OR %(slow)s)
 ORDER BY s.slow, s.heard_at NULLS FIRST, s.id LIMIT %(most)s FOR UPDATE SKIP LOCKED"""


def announce(owner: int) -> None:
    """Let this connection stand for a dispatcher: when it ends, the dispatcher's leases are free at once."""
    with connection.cursor() as cur:
        cur.execute("SELECT pg_advisory_lock(%s, %s)", [_SPACE, owner])


def lease(owner: int, most: int, busy: list[int], *, slow: bool, settled: int) -> list[tuple[int, bool]]:
    """Take subscriptions that have something to send (id, whether slow), each for the time one request may take.

    ``slow``: also receivers that are slow or failing; ``busy``: those this process is sending for already.  ``settled``: a
    requested subscription begins when every change with a lower number than its own has been decided, so that from the moment
    it is active nothing can have slipped in before it.
    """
    with transaction.atomic(), connection.cursor() as cur:
        cur.execute(
            _DUE,
            {
                "now": clock.now(),
                "busy": busy,
                "slow": slow,
                "most": most,
                "settled": settled,
                "space": _SPACE,
            },
        )
        due = [(row[0], row[1]) for row in cur.fetchall()]
        if due:
            cur.execute(
                "UPDATE exchange_subscription SET lease = %s, lease_until = now() + (timeout + %s) * interval '1 second'"
                " WHERE id = ANY(%s)",
                [owner, MARGIN, [pk for pk, _ in due]],
            )
    return due


@dataclass(frozen=True)
class _Prepared:
    """The next request of a subscription: which events it tells, and of what kind it is."""

    one: Subscription
    message: Message
    numbers: list[int]
    kind: str


def serve(pk: int, owner: int, stopping: threading.Event) -> int:
    """Send what a leased subscription has, for a number of turns; returns how many requests were taken by the receiver."""
    taken = 0
    try:
        with transaction.atomic():
            next_one = _prepare(pk, owner)
        while next_one is not None:
            sent, message = next_one, next_one.message
            answer = wire.send(message.method, message.url, message.headers, message.body, sent.one.timeout)
            with transaction.atomic():  # the outcome of one request and the next one in one transaction
                next_one = None
                if answer.ok:
                    taken += 1
                    _taken(pk, sent, answer)
                    if sent.kind == TELLING and taken < TURNS and not stopping.is_set():
                        next_one = _prepare(pk, owner)
                else:
                    _refused(pk, sent, answer)
    finally:
        Subscription.objects.filter(pk=pk, lease=owner).update(lease=0, lease_until=None)
    return taken


def stumbled(pk: int) -> None:
    """Something of ours failed while sending: later again, and say so."""
    with transaction.atomic():
        one = lifecycle.locked(pk)
        if one is not None:
            now = clock.now()
            Subscription.objects.filter(pk=pk).update(
                failures=one.failures + 1, failing_since=one.failing_since or now, slow=True, last_error_at=now,
                not_before=now + back_off(one.failures + 1), last_error=lifecycle.kept(OURS),
            )  # fmt: skip


def _prepare(pk: int, owner: int) -> _Prepared | None:
    """The next request of a subscription, its people audited; None when there is nothing to do (in a transaction)."""
    one = lifecycle.locked(pk)
    if one is None or one.lease != owner or one.paused or one.status not in (REQUESTED, ACTIVE):
        return None
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        scope = scope_now(cur, one.client_id, one.smart)
        if scope is None:
            lifecycle.settle(one, OFF, lifecycle.NO_LONGER)
            return None
        if one.status == REQUESTED:
            if one.form == PLAIN:
                lifecycle.activate(one)
            else:
                return _Prepared(one, content.signal(one, _headers(one), "handshake"), [], "handshake")
        told = _visible_batch(cur, scope, one)
        if told:
            note(cur, scope, one, told, one.content)
            numbers = [t.event.number for t in told]
            cur.execute(
                "UPDATE exchange_subscription SET batch_until = %s, lease_until = now() + (timeout + %s) * interval '1 second'"
                " WHERE id = %s",
                [numbers[-1], MARGIN, pk],
            )
            return _Prepared(one, content.message(one, _headers(one), told), numbers, TELLING)
    quiet = clock.now() - (one.heard_at or one.created_at)
    if one.heartbeat and quiet >= dt.timedelta(seconds=one.heartbeat):
        return _Prepared(one, content.signal(one, _headers(one), "heartbeat"), [], "heartbeat")
    return None


def _visible_batch(cur: Any, scope: Scope, one: Subscription) -> list[Told]:
    """The next events to tell; R4, which cannot tell that there was something, passes by what its client may not see."""
    while events := _batch(one):
        told = _fitting([tell(cur, scope, one, event) for event in events])
        if one.form != PLAIN or told[0].visible:
            return told
        _withhold(one.pk, told[0].event.number)
    return []


def _headers(one: Subscription) -> list[tuple[str, str]]:
    return [(name, value) for name, value in json.loads(seal.unseal(one.headers) or "[]")]


def _batch(one: Subscription) -> list[SubscriptionEvent]:
    """The oldest waiting events; exactly those of the last attempt when it was not taken."""
    waiting = SubscriptionEvent.objects.filter(subscription_id=one.pk, status=WAITING).order_by("number")
    if one.batch_until is not None:
        batch = list(waiting.filter(number__lte=one.batch_until)[: one.max_count])
        if batch:
            return batch
    return list(waiting[: 1 if one.form == PLAIN else one.max_count])


def tell(cur: Any, scope: Scope, one: Subscription, event: SubscriptionEvent) -> Told:
    """An event with what its client may see of it now: relationship, source and SMART scopes are asked at this moment."""
    letter = "s" if one.content == EMPTY else "r"
    if not tokens.allows(scope, event.rtype, letter):
        return Told(event, None, False)
    result = store.vread(cur, scope, event.rtype, event.resource_id, event.version)
    return Told(event, result, result is not None)


def _fitting(told: list[Told]) -> list[Told]:
    """As many from the front as fit into one message (always one)."""
    size = 0
    for i, one in enumerate(told):
        size += len(one.result.body) if one.result else 0
        if i and size > MOST_BYTES:
            return told[:i]
    return told


def _withhold(pk: int, number: int) -> None:
    SubscriptionEvent.objects.filter(subscription_id=pk, number=number).update(
        status=WITHHELD, tried_at=clock.now(), error=lifecycle.kept(WITHHELD_TEXT)
    )


def note(cur: Any, scope: Scope, one: Subscription, told: list[Told], level: str) -> None:
    """One entry for each person something is told about, before it leaves."""
    people: dict[int | None, list[Told]] = {}
    for each in told:
        if each.visible and (each.event.person_id is not None):
            people.setdefault(each.event.person_id, []).append(each)
    audit.write_many(
        [
            audit.entry(
                scope, "export" if level != EMPTY else "read", person_id=person, what=f"Subscription/{one.fhir_id}",
                detail={
                    "did": "notified", "events": [mine[0].event.number, mine[-1].event.number],
                    **Counter(each.event.rtype for each in mine),
                },
            )
            for person, mine in people.items()
        ],
        cursor=cur,
    )  # fmt: skip


def _taken(pk: int, sent: _Prepared, answer: wire.Answer) -> None:
    now = clock.now()
    one = lifecycle.locked(pk)
    if one is None:
        return
    changed: dict[str, Any] = {
        "failures": 0, "failing_since": None, "not_before": None, "heard_at": now, "slow": answer.seconds > SLOW
    }  # fmt: skip
    if sent.numbers and one.batch_until == sent.numbers[-1]:
        # otherwise a replay has been asked for meanwhile, which sends them again
        SubscriptionEvent.objects.filter(subscription_id=pk, number__in=sent.numbers).update(
            status=SENT, sent_at=now, tried_at=now, attempts=F("attempts") + 1, size=len(sent.message.body),
            http_status=answer.status, error="",
        )  # fmt: skip
        changed["batch_until"] = None
    Subscription.objects.filter(pk=pk).update(**changed)
    if sent.kind == "handshake" and one.status == REQUESTED:
        lifecycle.activate(one)


def back_off(failures: int) -> dt.timedelta:
    """How long to wait after so many failures in a row: 1 s, 2 s, 4 s … 10 min, half of it by chance."""
    whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 20))
    return dt.timedelta(seconds=whole * random.uniform(0.5, 1.0))


def _refused(pk: int, sent: _Prepared, answer: wire.Answer) -> None:
    now = clock.now()
    one = lifecycle.locked(pk)
    if one is None:
        return
    assert answer.error is not None
    if sent.numbers:
        SubscriptionEvent.objects.filter(subscription_id=pk, number__in=sent.numbers, status=WAITING).update(
            attempts=F("attempts") + 1,
            tried_at=now,
            http_status=answer.status,
            error=lifecycle.kept(answer.error),
        )
    since = one.failing_since or now
    Subscription.objects.filter(pk=pk).update(
        failures=one.failures + 1, failing_since=since, not_before=now + back_off(one.failures + 1), slow=True,
        last_error=lifecycle.kept(answer.error), last_error_at=now,
    )  # fmt: skip
    if sent.kind == "handshake" and one.status == REQUESTED:
        lifecycle.settle(one, ERROR, HANDSHAKE.format(why=answer.error))
    elif one.status == ACTIVE and now - since >= dt.timedelta(hours=settings.SUBSCRIPTION_GIVE_UP_HOURS):
        lifecycle.settle(one, ERROR, GIVEN_UP.format(why=answer.error, h=settings.SUBSCRIPTION_GIVE_UP_HOURS))


HANDSHAKE = T("握手通知未被接受：{why}", "The handshake was not accepted: {why}")
GIVEN_UP = T(
    "接收方已 {h} 小时未接受通知：{why}；事件仍保留，改为 requested 即继续发送。",
    "The receiver has taken nothing for {h} hours: {why}. Events are kept; set the status to requested to go on.",
)
OURS = T(
    "平台内部出错，稍后再试，详见服务器日志",
    "An error of ours; it is tried again, and the server's log has it",
)
WITHHELD_TEXT = T("订阅方此时无权查看", "the subscriber may not see it now")
