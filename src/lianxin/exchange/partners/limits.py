"""How much a partner may send: a bucket per minute in each process, a quota per day shared by way of the database.

:func:`admit` is asked by every door before a piece is taken and costs a look into a dict when nobody has a limit.  What the database
says (limits, states, the day's count) is read again every few seconds by whoever asks then, and the counts of this process are
added in the same moment: so the quota of a day is kept within what all processes admit in ``FRESH`` seconds, and the limit of a
minute is each process's own.  A database that is away changes nothing: the last that was known holds.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import psycopg

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate
from lianxin.record.problems import Problem, refuse
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

FRESH = 5.0  # seconds
RATE, QUOTA, CLOSED = "rate", "quota", "closed"


@dataclass(frozen=True)
class Denied:
    """Why a piece is not taken now: ``rate`` and ``quota`` (again after ``seconds``), ``closed`` (not live, or suspended)."""

    kind: str
    seconds: int
    text: Text


@dataclass
class _Bucket:
    """One partner's limits and what this process has admitted."""

    partner_id: int
    name: str
    open: bool
    per_minute: int | None
    per_day: int | None
    level: float = 0.0
    at: float = 0.0
    today: int = 0  # by all processes, as of the last look
    mine: dict[str, list[int]] = field(default_factory=dict)  # door -> pieces and refusals since then


@dataclass
class _Known:
    """What was read last; replaced as a whole."""

    database: str = ""
    senders: dict[str, _Bucket] = field(default_factory=dict)
    partners: dict[int, _Bucket] = field(default_factory=dict)
    until: float = 0.0


_lifted: ContextVar[bool] = ContextVar("lianxin_limits_lifted", default=False)
_known = _Known()
_lock = threading.Lock()
_reading = threading.Lock()


def admit(sender: str, n: int = 1, now: float | None = None) -> Denied | None:
    """None when ``n`` pieces of ``sender`` ("client:<id>" or "peer:<id>") may come in now; otherwise why not and when again.

    ``now``: seconds of ``time.monotonic()`` (tests).  Never raises, and asks the database at most every few seconds.
    """
    if _lifted.get():
        return None
    moment = time.monotonic() if now is None else now
    if moment >= _known.until:
        _refresh(moment)
    bucket = _known.senders.get(sender)
    if bucket is None:
        return None
    with _lock:
        denied = _ask(bucket, n, moment)
        counts = bucket.mine.setdefault(sender.partition(":")[0], [0, 0])
        counts[1 if denied else 0] += n
    return denied


def _ask(bucket: _Bucket, n: int, moment: float) -> Denied | None:
    if not bucket.open:
        return Denied(CLOSED, 3600, CLOSED_TEXT.format(name=bucket.name))
    today = bucket.today + sum(one[0] for one in bucket.mine.values())
    if bucket.per_day is not None and today + n > bucket.per_day:
        return Denied(QUOTA, _till_midnight(), QUOTA_TEXT.format(n=bucket.per_day))
    if bucket.per_minute is None:
        return None
    most, rate = float(bucket.per_minute), bucket.per_minute / 60.0
    level = min(most, bucket.level + max(0.0, moment - bucket.at) * rate)
    bucket.at = moment
    wanted = min(
        float(n), most
    )  # a batch larger than the bucket passes when the bucket is full, and empties it
    if level < wanted:
        bucket.level = level
        return Denied(RATE, max(1, math.ceil((wanted - level) / rate)), RATE_TEXT.format(n=bucket.per_minute))
    bucket.level = level - wanted
    return None


def _till_midnight() -> int:
    now = clock.now().astimezone(clock.ZONE)
    return (
        int(
            (
                now.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1) - now
            ).total_seconds()
        )
        + 1
    )


# ------------------------------------------------------------------------------------------------- with the database

_READ = """
SELECT p.id, p.name, p.state, p.per_minute, p.per_day,
       ARRAY(SELECT 'client:' || l.client_id FROM exchange_partnerclient l WHERE l.partner_id = p.id)
    || ARRAY(SELECT 'peer:' || v.id FROM exchange_peer v JOIN exchange_partnerclient l ON l.client_id = v.client_id
              WHERE l.partner_id = p.id),
       coalesce((SELECT sum(u.pieces) FROM exchange_partnerusage u WHERE u.partner_id = p.id AND u.day = %s), 0)
  FROM exchange_partner p"""
_ADD = """
INSERT INTO exchange_partnerusage (partner_id, day, door, pieces, refused)
SELECT g.p, %s, g.d, g.n, g.r FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[]) AS g(p, d, n, r)
 WHERE EXISTS (SELECT 1 FROM exchange_partner x WHERE x.id = g.p)
ON CONFLICT (partner_id, day, door) DO UPDATE SET pieces = exchange_partnerusage.pieces + EXCLUDED.pieces,
       refused = exchange_partnerusage.refused + EXCLUDED.refused"""


@contextmanager
def lifted() -> Iterator[None]:
    """Within the block nothing is counted or refused: a self-test goes the way of its door."""
    token = _lifted.set(True)
    try:
        yield
    finally:
        _lifted.reset(token)


def forget() -> None:
    """Have the next one who asks read the limits again (states and limits were changed)."""
    _known.until = 0.0


def refresh() -> None:
    """Read the limits again and add up what was counted, now (pages that changed them, tests)."""
    _refresh(time.monotonic(), wait=True)


def _refresh(moment: float, *, wait: bool = False) -> None:
    if not _reading.acquire(blocking=wait):
        return  # another thread is at it
    try:
        _known.until = moment + FRESH
        _exchange_counts(connections.database())
    except psycopg.Error:
        log.exception("limits of partners could not be read; the last known hold")
    finally:
        _reading.release()


def _exchange_counts(database: str) -> None:
    if _known.database != database:  # a test's database: what was known is of another one
        _known.senders, _known.partners, _known.database = {}, {}, database
    with _lock:
        taken = [
            (pk, door, counts[0], counts[1])
            for pk, bucket in _known.partners.items()
            for door, counts in bucket.mine.items()
        ]
        for bucket in _known.partners.values():
            bucket.today += sum(one[0] for one in bucket.mine.values())
            bucket.mine = {}
    day = clock.today()
    rows = connections.reading(lambda cur: _both(cur, day, taken))
    with _lock:
        partners: dict[int, _Bucket] = {}
        senders: dict[str, _Bucket] = {}
        for pk, name, state, per_minute, per_day, known, today in rows:
            old = _known.partners.get(pk)
            bucket = _Bucket(pk, name, state == "live", per_minute, per_day, today=int(today))
            if old is not None:
                bucket.mine = old.mine
                bucket.level, bucket.at = old.level, old.at
            if old is None or old.per_minute != per_minute:
                bucket.level, bucket.at = float(per_minute or 0), 0.0
            partners[pk] = bucket
            senders |= dict.fromkeys(known, bucket)
        _known.partners, _known.senders = partners, senders


def _both(cur: Any, day: dt.date, taken: list[tuple[int, str, int, int]]) -> list[tuple[Any, ...]]:
    if taken:
        columns = [list(column) for column in zip(*taken, strict=True)]
        cur.execute(_ADD, [day, *columns])
        taken.clear()  # a second try, on a fresh connection, must not add them again
    cur.execute(_READ, [day])
    return list(cur.fetchall())


# ------------------------------------------------------------------------------------------------------- the FHIR door


def at_door(scope: Scope) -> Problem | None:
    """The refusal of a request at the FHIR door: 429 with ``Retry-After``, or 403 while the partner is not live."""
    denied = admit(f"client:{scope.client_id}")
    if denied is None:
        return None
    status, code = (403, "forbidden") if denied.kind == CLOSED else (429, "throttled")
    problem = refuse(status, code, denied.text.zh, denied.text.en)
    if status == 429:
        problem.headers.append(("Retry-After", str(denied.seconds)))
    return problem


def register() -> None:
    """Have the FHIR door ask."""
    gate.register_limit(at_door)


CLOSED_TEXT = T(
    "接入方“{name}”尚未上线或已暂停，正式数据暂不受理；自测请用 POST /partners/selftest。",
    "The partner {name} is not live, or is suspended: nothing is taken from it; test with POST /partners/selftest.",
)
QUOTA_TEXT = T(
    "今日配额（{n} 条）已用完，请明日再发，或联系医共体调整配额。",
    "Today's quota ({n}) is used up; send again tomorrow, or ask the consortium for more.",
)
RATE_TEXT = T("超过每分钟 {n} 条的限额，请稍后重发。", "More than {n} a minute; send again shortly.")
