"""Taking numbers of a session without ever giving one twice.

Every change is a conditional UPDATE of the session's counters plus a change of place rows in the same transaction; the
session's row lock orders all changes of a session. The open channel may take a number only while
``now >= release_at OR taken_open < capacity - reserved``; grassroots and referral may take any free one. Release needs no
job, it is part of the predicate. A hold past its expiry counts as free: booking takes it back in its own transaction.

Lock order everywhere: session, then places.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection, transaction

from lianxin.pool import search
from lianxin.pool.errors import AlreadyBooked, BookingError, Full, KeyReused, NotPossible
from lianxin.pool.models import CHANNELS, STATES, Place, Session
from lianxin.pool.search import Offer, find
from lianxin.standards import clock
from lianxin.standards.text import T

__all__ = [
    "AlreadyBooked", "BookingError", "Full", "KeyReused", "NotPossible", "Offer", "arrive", "book", "cancel", "confirm",
    "find", "fulfil", "hold", "no_show", "recount", "stop_session", "sweep",
]  # fmt: skip

LIVE = ("held", "booked", "arrived", "fulfilled", "no_show")

_TAKE = """
UPDATE pool_session s
   SET taken_open = taken_open + (%(open)s)::int, taken_reserved = taken_reserved + (NOT %(open)s)::int
 WHERE s.id = %(session)s AND s.status = 'open' AND s.ends_at > %(now)s AND s.taken_open + s.taken_reserved < s.capacity
   AND (NOT %(open)s OR s.release_at <= %(now)s OR s.taken_open < s.capacity - s.reserved)
RETURNING s.capacity, s.institution_id, EXISTS (SELECT 1 FROM pool_place h
          WHERE h.session_id = s.id AND h.state = 'held' AND h.expires_at <= %(now)s)"""

_GIVE_BACK = """
UPDATE pool_session SET taken_open = taken_open - %(open)s, taken_reserved = taken_reserved - %(reserved)s
 WHERE id = %(session)s"""

_SEAT = """
INSERT INTO pool_place (session_id, institution_id, seat_no, person_id, channel, state, expires_at, key, case_id, made_at,
                        changed_at, reason)
SELECT %(session)s, %(institution)s, min(n), %(person)s, %(channel)s, %(state)s, %(expires)s, %(key)s, %(case)s, %(now)s,
       %(now)s, ''
  FROM generate_series(1, %(capacity)s) n
 WHERE NOT EXISTS (SELECT 1 FROM pool_place p WHERE p.session_id = %(session)s AND p.seat_no = n AND p.state <> 'cancelled')
HAVING min(n) IS NOT NULL
ON CONFLICT DO NOTHING
RETURNING id, seat_no"""

_LAPSE = """
WITH gone AS (UPDATE pool_place SET state = 'cancelled', expires_at = NULL, reason = %(reason)s, changed_at = %(now)s
               WHERE session_id = %(session)s AND state = 'held' AND expires_at <= %(now)s RETURNING channel)
SELECT count(*) FILTER (WHERE channel = 'open'), count(*) FILTER (WHERE channel <> 'open') FROM gone"""


def _run(cursor: Any, sql: str, params: dict[str, Any]) -> tuple[Any, ...] | None:
    cursor.execute(sql, params)
    return cursor.fetchone() if cursor.description else None


def _reclaim(cursor: Any, session_id: int, now: dt.datetime) -> int:
    """Cancel the session's holds that have run out and give their numbers back. The session's row must be locked."""
    row = _run(cursor, _LAPSE, {"session": session_id, "now": now, "reason": "expired"})
    opened, reserved = row or (0, 0)
    if opened or reserved:
        _run(cursor, _GIVE_BACK, {"session": session_id, "open": opened, "reserved": reserved})
    return opened + reserved


def _lock(cursor: Any, session_id: int) -> None:
    _run(cursor, "SELECT 1 FROM pool_session WHERE id = %(s)s FOR NO KEY UPDATE", {"s": session_id})


def _places() -> Any:
    return Place.objects.unscoped("booking works on the place it was given")


def _full(session_id: int, channel: str, now: dt.datetime) -> Full:
    session = Session.objects.get(pk=session_id)
    over = session.status != "open" or session.ends_at <= now
    left = session.capacity - session.taken_open - session.taken_reserved
    return Full(search.alternatives(session_id, channel), reserved=left > 0 and not over, stopped=over)


def _take(
    session_id: int,
    person_id: int,
    channel: str,
    key: str,
    state: str,
    expires: dt.datetime | None,
    case_id: int | None,
) -> Place:
    """Take a number or raise. The refusal is raised after the inner block has ended well, so that a caller in a larger
    transaction may catch it (and put the patient on a waiting list)."""
    if channel not in CHANNELS:
        raise ValueError(f"unknown channel {channel}")
    if not key:
        raise ValueError("booking needs its idempotency key")
    place = Place(
        session_id=session_id, person_id=person_id, channel=channel, state=state, expires_at=expires, key=key,
        case_id=case_id, made_at=clock.now(),
    )  # fmt: skip
    place.changed_at = place.made_at
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        refusal = None if _seat(cursor, place) else _refusal(place)
    if isinstance(refusal, Place):
        return refusal
    if refusal is not None:
        raise refusal
    return place


def _seat(cursor: Any, place: Place) -> bool:
    """Count the number and write the place; False (and nothing changed) when there is none, or it was taken before."""
    now, session = place.made_at, place.session_id
    take = {"session": session, "open": place.channel == "open", "now": now}
    got = _run(cursor, _TAKE, take)
    if got is None:  # only holds that have run out may stand in the way; under the lock the answer is final
        _lock(cursor, session)
        _reclaim(cursor, session, now)
        got = _run(cursor, _TAKE, take)
    elif got[2]:
        _reclaim(cursor, session, now)
    if got is None:
        return False
    values = {
        "session": session, "institution": got[1], "person": place.person_id, "channel": place.channel,
        "state": place.state, "expires": place.expires_at, "key": place.key, "case": place.case_id, "now": now,
        "capacity": got[0],
    }  # fmt: skip
    seat = _run(cursor, _SEAT, values)
    if seat is None:
        opened = int(place.channel == "open")
        _run(cursor, _GIVE_BACK, {"session": session, "open": opened, "reserved": 1 - opened})
        return False
    place.pk, place.seat_no, place.institution_id = seat[0], seat[1], got[1]
    place._state.adding = False
    return True


def _refusal(place: Place) -> Place | BookingError:
    """Why no number was taken: the same request came before (its place), the patient has one, or there is none."""
    before = _places().filter(key=place.key).first()
    if before is not None:
        wanted = (place.session_id, place.person_id, place.channel)
        return before if (before.session_id, before.person_id, before.channel) == wanted else KeyReused()
    own = (
        _places()
        .filter(session_id=place.session_id, person_id=place.person_id)
        .exclude(state="cancelled")
        .first()
    )
    return AlreadyBooked(own) if own is not None else _full(place.session_id, place.channel, place.made_at)


def hold(
    session_id: int, person_id: int, channel: str, key: str, minutes: int = 15, case_id: int | None = None
) -> Place:
    """Keep a number for ``minutes`` (then it is free again by itself). Raises Full, AlreadyBooked, KeyReused."""
    expires = clock.now() + dt.timedelta(minutes=minutes)
    return _take(session_id, person_id, channel, key, "held", expires, case_id)


def book(session_id: int, person_id: int, channel: str, key: str, case_id: int | None = None) -> Place:
    """Take a number at once. The same key again gives the same place. Raises Full, AlreadyBooked, KeyReused."""
    return _take(session_id, person_id, channel, key, "booked", None, case_id)


def confirm(place: Place | int) -> Place:
    """Turn a hold that has not run out into a booking; confirming again changes nothing."""
    pk = place if isinstance(place, int) else place.pk
    now = clock.now()
    with transaction.atomic(savepoint=False):
        changed = (
            _places()
            .filter(pk=pk, state="held", expires_at__gt=now)
            .update(state="booked", expires_at=None, changed_at=now)
        )
    row = _places().select_related("session").get(pk=pk)
    if changed or row.state == "booked":
        return row
    raise NotPossible(
        T("暂留已过期，请重新选号。", "The hold has run out; choose a number again.")
        if row.state in ("held", "cancelled")
        else _cannot(row, "booked")
    )


def _cannot(place: Place, target: str) -> Any:
    return T(
        "该号当前为「{now}」，不能改为「{then}」。", "This number is “{now}” and cannot become “{then}”."
    ).format(now=STATES[place.state], then=STATES[target])


def _move(
    place: Place | int, sources: tuple[str, ...], target: str, counters: str, reason: str = ""
) -> Place:
    """One place from ``sources`` to ``target``, moving exactly the session counters named in ``counters``."""
    pk = place if isinstance(place, int) else place.pk
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.id FROM pool_session s WHERE s.id = (SELECT session_id FROM pool_place WHERE id = %s) FOR NO KEY UPDATE",
            [pk],
        )
        row = _places().select_related("session").get(pk=pk)
        was = row.state
        if was in sources:
            row.state, row.expires_at, row.changed_at, row.reason = target, None, clock.now(), reason[:200]
            row.save(update_fields=["state", "expires_at", "changed_at", "reason"])
            cursor.execute(
                f"UPDATE pool_session SET {counters} WHERE id = %(session)s",
                {"session": row.session_id, "open": int(row.channel == "open")},
            )
    if was != target and was not in sources:
        raise NotPossible(_cannot(row, target))
    return row


def cancel(place: Place | int, reason: str) -> Place:
    """Give a held or booked number back (one counter); cancelling again changes nothing."""
    back = "taken_open = taken_open - %(open)s, taken_reserved = taken_reserved - (1 - %(open)s)"
    return _move(place, ("held", "booked"), "cancelled", back, reason)


def arrive(place: Place | int) -> Place:
    """The patient has come."""
    return _move(place, ("booked",), "arrived", "arrived = arrived + 1")


def no_show(place: Place | int) -> Place:
    """The session went by without the patient."""
    return _move(place, ("booked",), "no_show", "no_shows = no_shows + 1")


def fulfil(place: Place | int) -> Place:
    """The patient has been seen."""
    return _move(place, ("arrived",), "fulfilled", "fulfilled = fulfilled + 1")


def stop_session(session_id: int, reason: str) -> list[Place]:
    """Stop a session (停诊): no more booking, every held or booked number cancelled and given back.

    Returns the places affected, as they were before, so that upper rooms can open duties for their cases.
    """
    now = clock.now()
    with transaction.atomic(), connection.cursor() as cursor:
        _lock(cursor, session_id)
        _reclaim(cursor, session_id, now)
        places = list(
            _places().filter(session_id=session_id, state__in=("held", "booked")).order_by("seat_no")
        )
        _places().filter(pk__in=[p.pk for p in places]).update(
            state="cancelled", expires_at=None, reason=reason[:200], changed_at=now
        )
        opened = sum(p.channel == "open" for p in places)
        _run(cursor, _GIVE_BACK, {"session": session_id, "open": opened, "reserved": len(places) - opened})
        Session.objects.filter(pk=session_id).update(status="stopped")
    return places


def sweep(limit: int = 500) -> int:
    """Tidy holds that have run out (nothing depends on it); returns how many numbers came back."""
    now, swept = clock.now(), 0
    ids = (
        _places()
        .filter(state="held", expires_at__lte=now)
        .values_list("session_id", flat=True)
        .distinct()[:limit]
    )
    for session_id in sorted(ids):
        with transaction.atomic(), connection.cursor() as cursor:
            _lock(cursor, session_id)
            swept += _reclaim(cursor, session_id, now)
    return swept


_RECOUNT = """
SELECT s.id, s.taken_open, s.taken_reserved, s.arrived, s.no_shows, s.fulfilled, p.o, p.r, p.a, p.n, p.f
  FROM pool_session s CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE state <> 'cancelled' AND channel = 'open') AS o,
              count(*) FILTER (WHERE state <> 'cancelled' AND channel <> 'open') AS r,
              count(*) FILTER (WHERE state IN ('arrived', 'fulfilled')) AS a,
              count(*) FILTER (WHERE state = 'no_show') AS n, count(*) FILTER (WHERE state = 'fulfilled') AS f
         FROM pool_place WHERE session_id = s.id) p
 WHERE (s.taken_open, s.taken_reserved, s.arrived, s.no_shows, s.fulfilled) IS DISTINCT FROM (p.o, p.r, p.a, p.n, p.f)
 ORDER BY s.id LIMIT 200"""


def recount() -> list[str]:
    """Count every session's places anew; one line per session whose counters disagree."""
    with connection.cursor() as cursor:
        cursor.execute(_RECOUNT)
        return [
            f"session {r[0]}: counters (open, reserved, arrived, no-show, seen) {r[1:6]}, places say {r[6:]}"
            for r in cursor.fetchall()
        ]
