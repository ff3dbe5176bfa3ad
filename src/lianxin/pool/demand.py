"""Who was turned away: counted by session, channel and day, without saying who.

A refusal is noted in memory and written apart from the refused transaction, which may roll back: after its commit, at the end of
the page's request, or with the next refusal of the process. Each person has a row of their own for a session and a day (a keyed
hash, so that a second click is no second person), hence thousands at 07:00 wait for nobody; :func:`fold` makes one row per
session, channel and day of them once the day is over and the hashes go. Whoever got a number of the session after all was not
turned away. A process that ends may lose the refusals of its last moment: they are figures, not promises.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter, deque
from typing import Any

from django.db import DatabaseError, connection, transaction

from lianxin.access import seal
from lianxin.pool.models import Place
from lianxin.standards import clock

log = logging.getLogger(__name__)

MOST = 20_000  # refusals a process keeps while it cannot write them; the oldest go first
_waiting: deque[tuple[bytes, int, str, int, dt.date, dt.datetime]] = deque(maxlen=MOST)

_WRITE = """
INSERT INTO pool_turnedaway (who, session_id, channel, units, day, first_at, times)
SELECT g.* FROM unnest(%(who)s::bytea[], %(session)s::bigint[], %(channel)s::text[], %(units)s::int[], %(day)s::date[],
                       %(at)s::timestamptz[], %(times)s::int[]) g,
       (SELECT set_config('synchronous_commit', CASE WHEN %(alone)s THEN 'off' ELSE current_setting('synchronous_commit') END, true)) c
ON CONFLICT (who, channel) DO UPDATE SET times = pool_turnedaway.times + EXCLUDED.times"""

_FOLD = """
INSERT INTO pool_demand (session_id, channel, day, people, times, units, minutes)
SELECT t.session_id, t.channel, t.day, count(*), sum(t.times), sum(t.units),
       array_agg((extract(epoch FROM t.first_at AT TIME ZONE %(zone)s - t.day) / 60)::smallint ORDER BY t.first_at)
  FROM pool_turnedaway t JOIN pool_session s ON s.id = t.session_id WHERE t.id = ANY(%(ids)s) GROUP BY 1, 2, 3
ON CONFLICT (session_id, channel, day) DO UPDATE
   SET people = pool_demand.people + EXCLUDED.people, times = pool_demand.times + EXCLUDED.times,
       units = pool_demand.units + EXCLUDED.units, minutes = pool_demand.minutes || EXCLUDED.minutes"""


def _who(person_id: int, session_id: int, day: dt.date) -> bytes:
    return seal.blind(f"{person_id} {session_id} {day}", "turned away")


def note(session_id: int, person_id: int, channel: str, units: int, at: dt.datetime) -> None:
    """Somebody found no number of a session through ``channel``; cheap, and never in the way of the refusal itself."""
    day = at.astimezone(clock.ZONE).date()
    _waiting.append((_who(person_id, session_id, day), session_id, channel, units, day, at))
    if connection.in_atomic_block:
        transaction.on_commit(flush, robust=True)
    else:
        flush()


def flush(**_: Any) -> int:
    """Write what this process has noted; returns how many people. Keeps it for the next time when the database cannot take it."""
    taken = []
    while _waiting:
        try:
            taken.append(_waiting.popleft())
        except IndexError:  # another thread took the last one
            break
    if not taken:
        return 0
    times = Counter((row[0], row[2]) for row in taken)
    first = {(row[0], row[2]): row for row in sorted(taken, key=lambda row: row[5], reverse=True)}
    rows = [first[key] for key in sorted(first)]  # one order for all, so that writers cannot deadlock
    who, session, channel, units, day, at = (list(column) for column in zip(*rows, strict=True))
    values: dict[str, Any] = {
        "who": who, "session": session, "channel": channel, "units": units, "day": day, "at": at,
        "times": [times[row[0], row[2]] for row in rows], "alone": not connection.in_atomic_block,
    }  # fmt: skip
    try:
        with connection.cursor() as cursor:
            cursor.execute(_WRITE, values)
    except DatabaseError:
        _waiting.extend(taken)
        log.exception("%s refusals wait to be written", len(taken))
        return 0
    return len(rows)


def at_end_of_request(**_: Any) -> None:
    """Write refusals whose transaction rolled back (connected to the end of every page's request)."""
    if _waiting and not connection.needs_rollback:
        flush()


def fold(before: dt.date | None = None) -> int:
    """Make figures of the people turned away on days before ``before`` (today) and forget the hashes; returns how many people.

    Periodic. Whoever has a number of that session now is left out.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, who, session_id, day FROM pool_turnedaway WHERE day < %s ORDER BY id FOR UPDATE SKIP LOCKED",
            [before or clock.today()],
        )
        rows = [(pk, bytes(who), session, day) for pk, who, session, day in cursor.fetchall()]
        if not rows:
            return 0
        served = _served({(session, day) for _, _, session, day in rows})
        kept = [pk for pk, who, _, _ in rows if who not in served]
        cursor.execute(_FOLD, {"ids": kept, "zone": clock.ZONE.key})
        cursor.execute("DELETE FROM pool_turnedaway WHERE id = ANY(%s)", [[row[0] for row in rows]])
    return len(kept)


def _served(asked: set[tuple[int, dt.date]]) -> set[bytes]:
    """The hashes of those who have a number of a session they were turned away from."""
    days: dict[int, list[dt.date]] = {}
    for session, day in asked:
        days.setdefault(session, []).append(day)
    held = (
        Place.objects.unscoped("who was turned away and served after all is not counted as turned away")
        .filter(session_id__in=list(days))
        .exclude(state__in=["cancelled", "held"])
        .values_list("person_id", "session_id")
    )
    return {_who(person, session, day) for person, session in held for day in days[session]}
