"""The states of a subscription: requested, active, error, off; and what an administrator may do to it.

The row (``models.Subscription``) is the truth; the resource in the record is brought in line in the same transaction, as a new
version made by the platform.  Whoever changes both takes the row's lock first.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from django.db import connection, transaction

from lianxin.access.scope import Scope
from lianxin.exchange.subscriptions.models import (
    ACTIVE,
    ERROR,
    OFF,
    REQUESTED,
    SENT,
    TOPIC,
    WAITING,
    WITHHELD,
    Subscription,
    SubscriptionEvent,
)
from lianxin.record import rows, store, text
from lianxin.record.keys import ref_key
from lianxin.record.problems import Problem, refuse
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

NEVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
NO_LONGER = T(
    "订阅方的授权已到期或被撤销，订阅已停止。",
    "The subscriber's authorisation has ended or was revoked; the subscription is off.",
)
ENDED = T("订阅期已满。", "The subscription's end has come.")
_SYSTEM = "subscription state"


def gone_topic(url: str) -> Problem:
    """The topic a subscription was made for is no longer offered."""
    return refuse(
        422,
        "not-found",
        f"主题已取消：{url}",
        f"the topic is no longer offered: {url}",
        "Subscription.criteria",
    )


def kept(why: Text | None) -> str:
    """A text in both languages as it is kept in a row (Chinese, new line, English)."""
    return f"{why.zh}\n{why.en}" if why else ""


def told(words: str) -> Text:
    """What :func:`kept` kept."""
    zh, _, en = words.partition("\n")
    return T(zh, en or zh)


def locked(pk: int) -> Subscription | None:
    """The row, locked for the rest of the transaction."""
    return Subscription.objects.select_for_update().filter(pk=pk).first()


def settle(one: Subscription, status: str, why: Text | None = None) -> None:
    """Give a subscription a state (in the caller's transaction, row locked), in the row and in the resource.

    ``why`` goes into ``Subscription.error``; it is cleared when there is none.
    """
    words = kept(why)
    if (one.status, one.error) == (status, words):
        return
    one.status, one.error = status, words
    Subscription.objects.filter(pk=one.pk).update(status=status, error=words)
    with connection.cursor() as own:
        _rewrite(rows.server_cursor(own), one, status, words)
    Subscription.objects.filter(pk=one.pk).update(version=one.version)
    log.info("subscription %s is %s now: %s", one.fhir_id, status, why.en if why else "")


def _rewrite(cur: Any, one: Subscription, status: str, words: str) -> None:
    scope = Scope.system(_SYSTEM)
    found = store.read(cur, scope, "Subscription", one.fhir_id)
    if found is None or found.deleted:
        return
    resource = text.parse(found.body.encode())
    resource["status"] = status
    resource.pop("error", None)
    if words:
        resource["error"] = words.replace("\n", " ")
    result = store.apply(
        cur, scope, [store.Write("update", "Subscription", one.fhir_id, resource, trusted=True)]
    )[0]
    one.version = result.version


def activate(one: Subscription) -> None:
    """The endpoint was accepted: events go out from now on (row locked)."""
    Subscription.objects.filter(pk=one.pk).update(
        failures=0, failing_since=None, not_before=None, match_not_before=None
    )
    settle(one, ACTIVE)


@transaction.atomic
def end_due() -> int:
    """Switch off subscriptions whose end has come; returns how many."""
    due = (
        Subscription.objects.select_for_update(skip_locked=True)
        .exclude(status=OFF)
        .filter(ends_at__lte=clock.now())
    )
    ended = list(due.order_by("pk")[:100])
    for one in ended:
        settle(one, OFF, ENDED)
    return len(ended)


# ----------------------------------------------------------------------------------------------------- by an administrator


@transaction.atomic
def pause(pk: int, paused: bool) -> None:
    """Hold a subscription's sending (events are kept), or let it go on."""
    Subscription.objects.filter(pk=pk).update(paused=paused)


@transaction.atomic
def retry(pk: int) -> None:
    """Try now: no more waiting after failures, and a subscription in error is asked for again."""
    one = locked(pk)
    if one is None or one.status == OFF:
        return
    Subscription.objects.filter(pk=pk).update(
        not_before=None, match_not_before=None, failures=0, failing_since=None, slow=False
    )
    if one.status == ERROR:
        settle(one, REQUESTED if one.form == TOPIC else ACTIVE)


@transaction.atomic
def replay(pk: int, number: int) -> int:
    """Send events from ``number`` on again, with their own numbers and in order; returns how many were not waiting already."""
    if locked(pk) is None:
        return 0
    again = SubscriptionEvent.objects.filter(
        subscription_id=pk, number__gte=number, status__in=(SENT, WITHHELD)
    ).update(status=WAITING, attempts=0)
    # what is under way is sent as it is; the next notification begins where the replay does
    Subscription.objects.filter(pk=pk).update(batch_until=None, not_before=None)
    return again


def number_at(pk: int, since: dt.datetime) -> int | None:
    """The number of the first event kept that happened at ``since`` or later."""
    return (
        SubscriptionEvent.objects.filter(subscription_id=pk, happened_at__gte=since)
        .order_by("number")
        .values_list("number", flat=True)
        .first()
    )


def tidy(keep: dt.timedelta) -> int:
    """Delete events that were sent, or belong to a subscription that is off, when they are older than ``keep``."""
    with connection.cursor() as cur:
        cur.execute(
            "DELETE FROM exchange_subscriptionevent e USING exchange_subscription s WHERE s.id = e.subscription_id"
            " AND e.happened_at < %s AND (e.status <> %s OR s.status = %s)",
            [clock.now() - keep, WAITING, OFF],
        )
        return cur.rowcount


def check() -> list[str]:
    """Subscriptions whose kept events are not numbered without gaps up to their last number, or that have no resource."""
    with connection.cursor() as cur:
        cur.execute(
            "SELECT s.fhir_id FROM exchange_subscription s JOIN exchange_subscriptionevent e ON e.subscription_id = s.id"
            " WHERE s.status <> 'off' GROUP BY s.id HAVING max(e.number) <> s.events OR count(*) <> max(e.number) - min(e.number) + 1"
            " ORDER BY 1 LIMIT 100"
        )
        found = [f"Subscription/{row[0]}: its events are not numbered without gaps" for row in cur.fetchall()]
        cur.execute(
            "SELECT s.fhir_id FROM exchange_subscription s WHERE NOT EXISTS (SELECT 1 FROM record_resource r"
            " WHERE r.rtype = 'Subscription' AND r.key = ANY(%s) AND r.id = s.fhir_id) AND s.fhir_id = ANY(%s)",
            _keys(),
        )
        return found + [f"Subscription/{row[0]}: the record has no such resource" for row in cur.fetchall()]


def _keys() -> list[list[Any]]:
    names = list(Subscription.objects.values_list("fhir_id", flat=True)[:10_000])
    return [[ref_key(f"Subscription/{name}") for name in names], names]
