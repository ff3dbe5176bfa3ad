"""Traffic and errors of partners by the hour: counted from what came in and what was sent, a few hours again every few minutes.

Charts read the counts, never the messages, so that a page costs the same at a thousand messages and at a hundred million.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from lianxin.exchange.partners.models import Partner, TrafficHour
from lianxin.exchange.v2.models import Peer
from lianxin.standards import clock

BOUNDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
"""Upper bounds in seconds of the classes of :attr:`TrafficHour.lags`; the last class is longer."""
AGAIN = dt.timedelta(hours=2)  # how far back hours are counted again
KEPT = dt.timedelta(days=400)

_CLASS = f"width_bucket(greatest(extract(epoch FROM {{lag}}), 0), ARRAY[0, {', '.join(map(str, BOUNDS))}]::float8[])"
_SOURCES: dict[str, str] = {
    "in": "SELECT coalesce('peer:' || peer_id, 'client:' || client_id, nullif(sender, '')) AS who, date_trunc('hour', at) AS hour,"
    " (state <> 'taken') AS bad, " + _CLASS.format(lag="coalesce(at - sent_at, interval '0')") + " AS class"
    " FROM exchange_arrival WHERE at >= %s",
    "v2": "SELECT 'peer:' || peer_id AS who, date_trunc('hour', at) AS hour, (state = 'refused') AS bad, "
    + _CLASS.format(lag="coalesce(done_at, %s) - at") + " AS class FROM exchange_v2message WHERE at >= %s",
    "subscription": "SELECT 'client:' || s.client_id AS who, date_trunc('hour', e.happened_at) AS hour, (e.status = 'waiting'"
    " AND e.attempts > 0) AS bad, " + _CLASS.format(lag="coalesce(e.sent_at, %s) - e.happened_at") + " AS class"
    " FROM exchange_subscriptionevent e JOIN exchange_subscription s ON s.id = e.subscription_id WHERE e.happened_at >= %s",
    "export": "SELECT 'export:' || export_id AS who, date_trunc('hour', at) AS hour, (state <> 'sent' AND attempts > 0) AS bad, "
    + _CLASS.format(lag="coalesce(sent_at, %s) - at") + " AS class FROM exchange_exportrun WHERE at >= %s",
}  # fmt: skip
_COUNT = """
INSERT INTO exchange_traffichour (who, way, hour, total, bad, lags)
SELECT who, %s, hour, count(*), count(*) FILTER (WHERE bad), ARRAY[{classes}]
  FROM ({source}) AS s WHERE who IS NOT NULL GROUP BY who, hour
ON CONFLICT (who, way, hour) DO UPDATE SET total = EXCLUDED.total, bad = EXCLUDED.bad, lags = EXCLUDED.lags"""
_CLASSES = ", ".join(f"count(*) FILTER (WHERE class = {n})" for n in range(1, len(BOUNDS) + 2))


def roll_up(back: dt.timedelta = AGAIN) -> int:
    """Count the hours of the last ``back`` again; returns how many rows were written."""
    now = clock.now()
    since = (now - back).replace(minute=0, second=0, microsecond=0)
    written = 0
    with transaction.atomic(), connection.cursor() as cur:
        for way, source in _SOURCES.items():
            args: list[Any] = [way, since] if way == "in" else [way, now, since]
            cur.execute(_COUNT.format(classes=_CLASSES, source=source), args)
            written += cur.rowcount
        cur.execute("DELETE FROM exchange_traffichour WHERE hour < %s", [now - KEPT])
    return written


@dataclass
class Span:
    """An hour or a day of one way."""

    at: dt.datetime
    total: int = 0
    bad: int = 0
    lags: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    @property
    def rate(self) -> float:
        """Share of what went wrong, in per cent."""
        return 100.0 * self.bad / self.total if self.total else 0.0

    @property
    def p95(self) -> int | None:
        """Seconds within which 95 of 100 were through (the upper bound of their class; None: longer than the last bound)."""
        return p95(self.lags)


def p95(lags: list[int]) -> int | None:
    """The bound of the class in which the 95th of 100 lies; 0 when there is nothing."""
    whole, seen = sum(lags), 0
    if not whole:
        return 0
    for number, bound in zip(lags, BOUNDS, strict=False):
        seen += number
        if seen * 100 >= whole * 95:
            return bound
    return None


def whos(partner: Partner) -> list[str]:
    """Under which names a partner's traffic is counted."""
    clients = list(partner.links.values_list("client_id", flat=True))
    peers = Peer.objects.filter(client_id__in=clients).values_list("pk", flat=True)
    return [
        *(f"client:{c}" for c in clients), *(f"peer:{p}" for p in peers),
        *(f"export:{e}" for e in partner.exports.values_list("pk", flat=True)),
    ]  # fmt: skip


def spans(partner: Partner, *, days: int = 0, hours: int = 24) -> dict[str, list[Span]]:
    """The traffic of a partner by way: the last ``hours``, or by the day the last ``days``; every span, also empty ones."""
    now = clock.now().astimezone(clock.ZONE)
    if days:
        begin = now.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=days - 1)
        marks = [begin + dt.timedelta(days=n) for n in range(days)]
    else:
        begin = now.replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=hours - 1)
        marks = [begin + dt.timedelta(hours=n) for n in range(hours)]
    out: dict[str, list[Span]] = {}
    for row in TrafficHour.objects.filter(who__in=whos(partner), hour__gte=begin):
        way = out.setdefault(row.way, [Span(m) for m in marks])
        local = row.hour.astimezone(clock.ZONE)
        at = (local.date() - begin.date()).days if days else int((local - begin).total_seconds() // 3600)
        if 0 <= at < len(way):
            one = way[at]
            one.total += row.total
            one.bad += row.bad
            one.lags = [a + b for a, b in zip(one.lags, row.lags, strict=True)]
    return out
