"""Taking numbers of a session without ever giving one twice.

Every change is a conditional UPDATE of the session's counters plus a change of place rows in the same transaction; the
session's row lock orders all changes of a session. A channel may take a number only while what is kept for those after it stays
untouched: ``now >= release_t OR taken by those before t < capacity - reserved_t`` for every tier ``t`` above its own rank. Release
needs no job, it is part of the predicate. A hold past its expiry counts as free: booking takes it back in its own transaction (and
those who wait are served first, see ``hooks``).

Lock order everywhere: sessions (by id), then places.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction

from lianxin.pool import demand, hooks, search
from lianxin.pool.errors import AlreadyBooked, BookingError, Full, KeyReused, NotPossible, SeatTaken
from lianxin.pool.models import RANK, STATES, TIERS, Place, Session
from lianxin.pool.search import Offer, find
from lianxin.standards import clock
from lianxin.standards.text import T

__all__ = [
    "AlreadyBooked", "BookingError", "Full", "KeyReused", "NotPossible", "Offer", "SeatTaken", "add_numbers", "arrive", "book",
    "cancel", "channel_of", "confirm", "find", "fulfil", "hold", "no_show", "recount", "reschedule", "stop_session", "sweep",
]  # fmt: skip

LIVE = ("held", "booked", "arrived", "fulfilled", "no_show")
_TAKEN = " + ".join(f"s.taken_{tier}" for tier in TIERS)


def _kept(rank: int) -> str:
    """The nested limits that a channel of ``rank`` must leave: one for each tier after it."""
    names = list(TIERS)
    parts = []
    for n in range(rank + 1, len(names)):
        before = " + ".join(f"s.taken_{tier}" for tier in names[:n])
        parts.append(
            f"(s.release_{names[n]} <= %(now)s OR {before} + %(units)s <= s.capacity - s.reserved_{names[n]})"
        )
    return "".join(f" AND {part}" for part in parts)


_TAKE = {
    tier: f"""
UPDATE pool_session s SET taken_{tier} = taken_{tier} + %(units)s
 WHERE s.id = %(session)s AND s.status = 'open' AND s.ends_at > %(now)s AND s.opens_at <= %(now)s
   AND {_TAKEN} + %(units)s <= s.capacity{_kept(rank)}
RETURNING s.kind, s.institution_id, EXISTS (SELECT 1 FROM pool_place h
          WHERE h.session_id = s.id AND h.state = 'held' AND h.expires_at <= %(now)s)"""
    for tier, rank in RANK.items()
}

_GIVE_BACK = f"""
UPDATE pool_session SET {", ".join(f"taken_{tier} = taken_{tier} - %({tier})s" for tier in TIERS)} WHERE id = %(session)s"""

_LAPSED = """
SELECT EXISTS (SELECT 1 FROM pool_place h WHERE h.session_id = %(session)s AND h.state = 'held' AND h.expires_at <= %(now)s)"""

_ONE_STEP = "p.seat_no = n"
_SEVERAL = "p.seat_no < n + %(units)s AND p.seat_no + p.units > n"
_SEAT = """
INSERT INTO pool_place (session_id, institution_id, seat_no, units, at, person_id, channel, state, expires_at, key, case_id, item,
                        made_at, changed_at, reason)
SELECT s.id, s.institution_id, f.n, %(units)s,
       s.starts_at + (s.ends_at - s.starts_at) * least(f.n - 1, greatest(s.capacity - s.extra, 1))
                     / greatest(s.capacity - s.extra, 1),
       %(person)s, %(channel)s, %(state)s, %(expires)s, %(key)s, %(case)s, %(item)s, %(now)s, %(now)s, ''
  FROM pool_session s CROSS JOIN LATERAL (
       SELECT min(n) AS n FROM generate_series(coalesce(%(seat)s, 1), coalesce(%(seat)s, s.capacity - %(units)s + 1)) n
        WHERE n BETWEEN 1 AND s.capacity - %(units)s + 1 AND NOT EXISTS (SELECT 1 FROM pool_place p
              WHERE p.session_id = s.id AND p.state <> 'cancelled' AND {apart})) f
 WHERE s.id = %(session)s AND f.n IS NOT NULL
ON CONFLICT DO NOTHING
RETURNING id, seat_no, at"""

_LAPSE = f"""
WITH gone AS (UPDATE pool_place SET state = 'cancelled', expires_at = NULL, reason = 'expired', changed_at = %(now)s
               WHERE session_id = %(session)s AND state = 'held' AND expires_at <= %(now)s RETURNING channel, units)
SELECT {", ".join(f"coalesce(sum(units) FILTER (WHERE channel = '{tier}'), 0)::int" for tier in TIERS)} FROM gone"""


def channel_of(tier: str) -> str:
    """The channel through which staff of an institution of ``tier`` book: their own, or the county's for those above it."""
    return tier if tier in ("village", "township") else "county"


def _run(cursor: Any, sql: str, params: dict[str, Any]) -> tuple[Any, ...] | None:
    cursor.execute(sql, params)
    return cursor.fetchone() if cursor.description else None


def _give_back(cursor: Any, session_id: int, numbers: dict[str, int]) -> None:
    _run(cursor, _GIVE_BACK, {"session": session_id, **{tier: numbers.get(tier, 0) for tier in TIERS}})


def _reclaim(cursor: Any, session_id: int, now: dt.datetime) -> int:
    """Cancel the session's holds that have run out and give their numbers back. The session's row must be locked."""
    row = _run(cursor, _LAPSE, {"session": session_id, "now": now})
    numbers = dict(zip(TIERS, row or (), strict=True))
    if any(numbers.values()):
        _give_back(cursor, session_id, numbers)
        hooks.freed(session_id)
    return sum(numbers.values())


def _lock(cursor: Any, session_ids: Iterable[int]) -> None:
    _run(
        cursor,
        "SELECT 1 FROM pool_session WHERE id = ANY(%(s)s) ORDER BY id FOR NO KEY UPDATE",
        {"s": sorted(session_ids)},
    )


def _places() -> Any:
    return Place.objects.unscoped("booking works on the place it was given")


def _full(place: Place, seat: int | None) -> BookingError:
    session = Session.objects.filter(pk=place.session_id).first()
    if session is None:
        return NotPossible(T("该场次已撤销，请改选其他场次。", "This session is gone; choose another."))
    over = session.status != "open" or session.ends_at <= place.made_at
    if not over and session.opens_at > place.made_at:
        return NotPossible(
            T("该场次 {at} 起放号，请届时再约。", "Numbers of this session open at {at}; book then.").format(
                at=f"{session.opens_at.astimezone(clock.ZONE):%Y-%m-%d %H:%M}"
            )
        )
    kept = _is_kept(session, place)
    others = search.alternatives(session.pk, place.channel, place.units)
    if seat is not None and session.capacity - session.taken >= place.units and not over and not kept:
        return SeatTaken(others)
    if not over:
        demand.note(session.pk, place.person_id, place.channel, place.units, place.made_at)
        hooks.refused(session.pk, place.channel, place.units)
    return Full(others, reserved=kept and not over, stopped=over)


def _is_kept(session: Session, place: Place) -> bool:
    """Whether numbers are left that are kept for the channels after the place's (and that alone refused it)."""
    names, rank = list(TIERS), RANK[place.channel]
    if session.capacity - session.taken < place.units:
        return False
    return any(
        getattr(session, f"release_{names[n]}") > place.made_at
        and sum(getattr(session, f"taken_{tier}") for tier in names[:n]) + place.units
        > session.capacity - getattr(session, f"reserved_{names[n]}")
        for n in range(rank + 1, len(names))
    )


def _take(place: Place, seat: int | None) -> Place:
    """Take a number or raise. The refusal is raised after the inner block has ended well, so that a caller in a larger
    transaction may catch it (and put the patient on a waiting list)."""
    if place.channel not in RANK:
        raise ValueError(f"unknown channel {place.channel}")
    if not place.key:
        raise ValueError("booking needs its idempotency key")
    if place.units < 1 or (place.units > 1 and not place.item):
        raise ValueError("only an examination takes several steps")
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        taken = _seat(cursor, place, seat)
    if taken:
        return place
    refusal = _refusal(place, seat)
    if isinstance(refusal, Place):
        return refusal
    raise refusal


def _seat(cursor: Any, place: Place, seat: int | None) -> bool:
    """Count the number and write the place; False (and nothing changed) when there is none, or it was taken before."""
    now, session, sql = place.made_at, place.session_id, _TAKE[place.channel]
    take = {"session": session, "units": place.units, "now": now}
    got = _run(cursor, sql, take)
    if got is None:  # only holds that have run out may stand in the way
        lapsed = _run(cursor, _LAPSED, take)
        if lapsed and lapsed[0]:
            _lock(cursor, [session])
            _reclaim(cursor, session, now)
        # Without any, no lock: those who find a session full must not queue for its row. None can have run out since (by the
        # same ``now``), so this answer is exact; the first one may have counted a hold that somebody took back in between.
        got = _run(cursor, sql, take)
    elif got[2]:
        _reclaim(cursor, session, now)
    if got is None:
        return False
    values = {
        **take, "seat": seat, "person": place.person_id, "channel": place.channel, "state": place.state, "expires": place.expires_at,
        "key": place.key, "case": place.case_id, "item": place.item,
    }  # fmt: skip
    apart = _SEVERAL if place.item or got[0] == "exam" else _ONE_STEP  # beside steps that belong to an item
    written = _run(cursor, _SEAT.format(apart=apart), values)
    if written is None:
        _give_back(cursor, session, {place.channel: place.units})
        return False
    place.pk, place.seat_no, place.at = written[0], written[1], written[2].astimezone(clock.ZONE)
    place.institution_id = got[1]
    place._state.adding = False
    return True


def _refusal(place: Place, seat: int | None) -> Place | BookingError:
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
    return AlreadyBooked(own) if own is not None else _full(place, seat)


def hold(
    session_id: int,
    person_id: int,
    channel: str,
    key: str,
    minutes: int = 15,
    case_id: int | None = None,
    *,
    units: int = 1,
    item: str = "",
    seat: int | None = None,
) -> Place:
    """Keep a number for ``minutes`` (then it is free again by itself). Raises Full, SeatTaken, AlreadyBooked, KeyReused,
    NotPossible (its numbers are not open yet)."""
    now = clock.now()
    return _take(
        Place(
            session_id=session_id, person_id=person_id, channel=channel, state="held", key=key, case_id=case_id, units=units,
            item=item, expires_at=now + dt.timedelta(minutes=minutes), made_at=now, changed_at=now,
        ), seat,
    )  # fmt: skip


def book(
    session_id: int,
    person_id: int,
    channel: str,
    key: str,
    case_id: int | None = None,
    *,
    units: int = 1,
    item: str = "",
    seat: int | None = None,
) -> Place:
    """Take a number at once: the lowest free one, or ``seat``. The same key again gives the same place.

    ``item``/``units``: an examination and the grid steps it takes. Raises like :func:`hold`.
    """
    now = clock.now()
    return _take(
        Place(
            session_id=session_id, person_id=person_id, channel=channel, state="booked", key=key, case_id=case_id, units=units,
            item=item, made_at=now, changed_at=now,
        ), seat,
    )  # fmt: skip


def reschedule(place: Place | int, session_id: int, key: str, reason: str, seat: int | None = None) -> Place:
    """Book another session for the same patient and give this number back, both or neither. Raises like :func:`hold`.

    The new number is taken first: nobody loses what they have because the other session is full.
    """
    pk = place if isinstance(place, int) else place.pk
    with transaction.atomic(), connection.cursor() as cursor:
        old = _places().get(pk=pk)
        _lock(cursor, {old.session_id, session_id})
        old = _places().get(pk=pk)
        before = _places().filter(key=key).first()
        if before is not None and (before.session_id, before.person_id) == (session_id, old.person_id):
            return before
        if old.state not in ("held", "booked"):
            raise NotPossible(_cannot(old, "cancelled"))
        if (
            old.session_id == session_id
        ):  # no number comes back by this, so nobody who waits may be given it in between
            _move(old, ("held", "booked"), "cancelled", "", reason, tell=False)
        new = book(
            session_id,
            old.person_id,
            old.channel,
            key,
            old.case_id,
            units=old.units,
            item=old.item,
            seat=seat,
        )
        if old.session_id != session_id:
            cancel(old, reason)
    return new


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
    place: Place | int,
    sources: tuple[str, ...],
    target: str,
    counter: str,
    reason: str = "",
    *,
    tell: bool = True,
) -> Place:
    """One place from ``sources`` to ``target``, moving exactly one counter of its session ('' gives its numbers back, and tells)."""
    pk = place if isinstance(place, int) else place.pk
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.id FROM pool_session s WHERE s.id = (SELECT session_id FROM pool_place WHERE id = %s) FOR NO KEY UPDATE",
            [pk],
        )
        # Confirming locks the place alone, so the session's lock does not keep its state still.
        row = _places().select_for_update(of=("self",), no_key=True).select_related("session").get(pk=pk)
        was = row.state
        if was in sources:
            row.state, row.expires_at, row.changed_at, row.reason = target, None, clock.now(), reason[:200]
            row.save(update_fields=["state", "expires_at", "changed_at", "reason"])
            if counter:
                cursor.execute(
                    f"UPDATE pool_session SET {counter} = {counter} + 1 WHERE id = %s", [row.session_id]
                )
            else:
                _give_back(cursor, row.session_id, {row.channel: row.units})
                if tell:
                    hooks.freed(row.session_id)
    if was != target and was not in sources:
        raise NotPossible(_cannot(row, target))
    return row


def cancel(place: Place | int, reason: str) -> Place:
    """Give a held or booked number back (one counter); cancelling again changes nothing."""
    return _move(place, ("held", "booked"), "cancelled", "", reason)


def arrive(place: Place | int) -> Place:
    """The patient has come."""
    return _move(place, ("booked",), "arrived", "arrived")


def no_show(place: Place | int) -> Place:
    """The session went by without the patient."""
    return _move(place, ("booked",), "no_show", "no_shows")


def fulfil(place: Place | int) -> Place:
    """The patient has been seen."""
    return _move(place, ("arrived",), "fulfilled", "fulfilled")


def add_numbers(session_id: int, count: int) -> Session:
    """Add ``count`` extra numbers (加号) to an open session: capacity is a number that somebody sets, never a bypass.

    Raises NotPossible when the session is stopped or over. Whoever waits is served first.
    """
    if count < 1:
        raise ValueError("at least one number")
    with transaction.atomic(), connection.cursor() as cursor:
        _lock(cursor, [session_id])
        session = Session.objects.get(pk=session_id)
        if session.status != "open" or session.ends_at <= clock.now():
            raise NotPossible(
                T(
                    "该场次已停诊或已结束，不能加号。",
                    "This session is stopped or over; no number can be added.",
                )
            )
        session.capacity += count
        session.extra += count
        session.save(update_fields=["capacity", "extra"])
        hooks.freed(session_id)
        session.refresh_from_db()
    return session


def stop_session(session_id: int, reason: str) -> list[Place]:
    """Stop a session (停诊): no more booking, every held or booked number cancelled and given back.

    Returns the places affected, as they were before; upper rooms have opened their duties (``hooks.on_stopped``).
    """
    now = clock.now()
    with transaction.atomic(), connection.cursor() as cursor:
        _lock(cursor, [session_id])
        Session.objects.filter(pk=session_id).update(status="stopped")
        _reclaim(cursor, session_id, now)
        places = list(
            _places()
            .select_for_update(
                no_key=True
            )  # a hold confirmed now is either seen as booked or not confirmed at all
            .filter(session_id=session_id, state__in=("held", "booked"))
            .order_by("seat_no")
        )
        _places().filter(pk__in=[p.pk for p in places]).update(
            state="cancelled", expires_at=None, reason=reason[:200], changed_at=now
        )
        numbers: dict[str, int] = {}
        for place in places:
            numbers[place.channel] = numbers.get(place.channel, 0) + place.units
        _give_back(cursor, session_id, numbers)
        session = Session.objects.select_related("institution", "department", "practitioner").get(
            pk=session_id
        )
        hooks.stopped(session, places, reason)
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
            _lock(cursor, [session_id])
            swept += _reclaim(cursor, session_id, now)
    return swept


_COUNTERS = ", ".join(f"s.taken_{tier}" for tier in TIERS)
_COUNTED = ", ".join(
    f"coalesce(sum(units) FILTER (WHERE state <> 'cancelled' AND channel = '{tier}'), 0) AS {tier}"
    for tier in TIERS
)
_RECOUNT = f"""
SELECT s.id, {_COUNTERS}, s.arrived, s.no_shows, s.fulfilled, {", ".join(f"p.{tier}" for tier in TIERS)}, p.a, p.n, p.f
  FROM pool_session s CROSS JOIN LATERAL (
       SELECT {_COUNTED}, count(*) FILTER (WHERE state IN ('arrived', 'fulfilled')) AS a,
              count(*) FILTER (WHERE state = 'no_show') AS n, count(*) FILTER (WHERE state = 'fulfilled') AS f
         FROM pool_place WHERE session_id = s.id) p
 WHERE ({_COUNTERS}, s.arrived, s.no_shows, s.fulfilled)
       IS DISTINCT FROM ({", ".join(f"p.{tier}" for tier in TIERS)}, p.a, p.n, p.f)
 ORDER BY s.id LIMIT 200"""


def recount() -> list[str]:
    """Count every session's places anew; one line per session whose counters disagree."""
    with connection.cursor() as cursor:
        cursor.execute(_RECOUNT)
        return [
            f"session {r[0]}: counters (by channel, arrived, no-show, seen) {r[1:8]}, places say {r[8:]}"
            for r in cursor.fetchall()
        ]
