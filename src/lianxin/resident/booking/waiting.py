"""The waiting list: freed numbers are held for who waits, in fair order, before anybody else can take them.

It is served inside the pool's own transaction (``pool.hooks.on_freed``), under the session's lock: a number that comes back becomes a hold
for the first who waits before the lock is let go, so that no fast stranger overtakes. An offer lapses in the predicate (the hold runs
out); whoever needs the number next reclaims it through the same hook, and the next in line is served. No timer is needed; the ticker only
sends the messages sooner. Numbers that become free by the clock (a quota's release) are served before a stranger books (``service``).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import outbox
from lianxin.duty.errors import KeyReused, NotAllowed
from lianxin.pool import booking as pool
from lianxin.pool.errors import AlreadyBooked, BookingError, NotPossible
from lianxin.pool.models import RANK, Place, Session
from lianxin.resident.booking import policy
from lianxin.resident.booking import standing as standings
from lianxin.resident.booking.errors import Barred, TooMany
from lianxin.resident.booking.models import WAITING, Waiting
from lianxin.standards import clock
from lianxin.standards.text import T


def lock_sessions(ids: Iterable[int]) -> None:
    """Lock sessions in the pool's order, within the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pool_session WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", [sorted(ids)]
        )


def _rows() -> Any:
    return Waiting.objects.unscoped("the waiting list is served for everybody on it")


def day_of(session: Session) -> dt.date:
    """The day of a session, here."""
    return session.starts_at.astimezone(clock.ZONE).date()


def free(session: Session, channel: str, now: dt.datetime, units: int = 1) -> bool:
    """Could ``channel`` take ``units`` numbers of the session as it stands (the same nested limits as ``pool.booking``)?"""
    if session.status != "open" or session.ends_at <= now or session.opens_at > now:
        return False
    names = list(RANK)
    taken = [getattr(session, f"taken_{name}") for name in names]
    if sum(taken) + units > session.capacity:
        return False
    for n in range(RANK[channel] + 1, len(names)):
        kept = session.capacity - getattr(session, f"reserved_{names[n]}")
        if getattr(session, f"release_{names[n]}") > now and sum(taken[:n]) + units > kept:
            return False
    return True


def offer_until(session: Session, now: dt.datetime) -> dt.datetime:
    """Until when a number offered at ``now`` is kept: some minutes by day, by night until the morning; never past the session's start."""
    setting = policy.values(session.institution_id, now.date())
    minutes = dt.timedelta(minutes=setting["offer.minutes"])
    local = now.astimezone(clock.ZONE)
    opening, closing = policy.time_of(setting["offer.from"]), policy.time_of(setting["offer.until"])
    if opening <= local.time() < closing:
        until = local + minutes
    else:
        day = local.date() + dt.timedelta(days=0 if local.time() < opening else 1)
        until = dt.datetime.combine(day, opening, clock.ZONE) + minutes
    return min(until, session.starts_at)


# ----------------------------------------------------------------------------------------------------------------- serving


def freed(session_id: int) -> None:
    """The pool's hook: numbers came back, and the session's lock is held."""
    serve(session_id)


def serve(session_id: int) -> int:
    """Hold freed numbers of a session for those who wait for them, first come first; returns how many were offered.

    Called inside a transaction; takes the session's lock (the pool's hook holds it already).
    """
    waits = _rows().filter(state__in=WAITING)
    session = Session.objects.filter(pk=session_id).first()
    if session is None:
        return 0
    about = Q(session_id=session_id) | Q(
        session=None, department_id=session.department_id, day=day_of(session), kind=session.kind
    )
    if not waits.filter(about).exists():
        return 0
    lock_sessions([session_id])
    now, served = clock.now(), 0
    session.refresh_from_db()
    rows = list(
        waits.filter(about)
        .select_for_update(of=("self",), no_key=True, skip_locked=True)
        .order_by("rank", "since", "id")
    )
    _lapse([r for r in rows if r.state == "offered"], now)
    shut: int | None = None  # the highest rank that found nothing: those below it find nothing either
    for row in rows:
        if row.state != "waiting" or (shut is not None and RANK[row.channel] <= shut):
            continue
        if session.starts_at <= now:
            break
        if not free(session, row.channel, now):
            shut = RANK[row.channel]
            continue
        served += _offer(row, session, now)
        session.refresh_from_db()
    return served


def refresh(session_id: int) -> int:
    """In a transaction of its own: take back what has run out and serve who waits; returns how many were offered by the last look."""
    now = clock.now()
    with transaction.atomic():
        lock_sessions([session_id])
        lapsed = Place.objects.unscoped("holds that have run out go to who waits").filter(
            session_id=session_id, state="held", expires_at__lte=now
        )
        for place in lapsed:
            pool.cancel(place, "expired")
        return serve(session_id)


def _lapse(rows: list[Waiting], now: dt.datetime) -> None:
    for row in rows:
        if row.offer_until is not None and row.offer_until <= now:
            _end(row, "lapsed", now)
            outbox.emit("booking.offer_lapsed", f"waiting:{row.pk}", {"waiting": row.pk})


def _end(row: Waiting, state: str, now: dt.datetime) -> None:
    row.state, row.changed_at = state, now
    row.save(update_fields=["state", "changed_at"])


def _offer(row: Waiting, session: Session, now: dt.datetime) -> int:
    """Hold a number for one who waits; 1 when it is held."""
    until = offer_until(session, now)
    try:
        place = pool.hold(
            session.pk, row.person_id, row.channel, f"offer:{row.pk}:{session.pk}:{int(now.timestamp())}",
            max(1, math.ceil((until - now).total_seconds() / 60)), item=row.item,
        )  # fmt: skip
    except AlreadyBooked:  # they have found one by themselves
        _end(row, "over", now)
        return 0
    except BookingError:
        return 0
    row.place, row.state, row.offered_at, row.offer_until, row.changed_at = (
        place,
        "offered",
        now,
        place.expires_at,
        now,
    )
    row.save(update_fields=["place", "state", "offered_at", "offer_until", "changed_at"])
    outbox.emit(
        "booking.offered", f"waiting:{row.pk}", {"waiting": row.pk, "session": session.pk, "place": place.pk}
    )
    return 1


def on_stopped(session: Session, reason: str) -> None:
    """Nobody waits for a session that will not be; who waits for the day goes on waiting."""
    now = clock.now()
    for row in (
        _rows()
        .filter(session_id=session.pk, state__in=WAITING)
        .select_for_update(of=("self",), no_key=True)
        .order_by("id")
    ):
        _end(row, "over", now)
        outbox.emit("booking.wait_over", f"waiting:{row.pk}", {"waiting": row.pk, "reason": reason})
    held = _rows().filter(session=None, place__session_id=session.pk, state="offered")
    for row in held.select_for_update(of=("self",), no_key=True).order_by("id"):
        row.place, row.offer_until, row.offered_at = None, None, None
        row.state, row.changed_at = "waiting", now
        row.save()


# ----------------------------------------------------------------------------------------------------------------- joining


def join(
    by: Scope,
    session: Session,
    person_id: int,
    key: str,
    channel: str,
    *,
    whole_day: bool,
    urgent: bool,
    source: str,
) -> Waiting:
    """Write one who waits. Raises NotAllowed (numbers are free, or there is nothing to wait for), TooMany, Barred, KeyReused."""
    now, day = clock.now(), day_of(session)
    with transaction.atomic():
        same_day = Session.objects.filter(
            department_id=session.department_id, kind=session.kind, status="open", starts_at__gt=now,
            starts_at__gte=dt.datetime.combine(day, dt.time(), clock.ZONE),
            starts_at__lt=dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), clock.ZONE),
        )  # fmt: skip
        ids = list(same_day.values_list("pk", flat=True)) if whole_day else [session.pk]
        lock_sessions(ids)
        before = _rows().filter(key=key).select_related("place").first()
        if before is not None:
            if (before.person_id, before.department_id, before.day) != (
                person_id,
                session.department_id,
                day,
            ):
                raise KeyReused
            return before
        for pk in ids:
            refresh(pk)
        _check(by, session, person_id, channel, ids, now)
        mine = (
            Q(session=None, department_id=session.department_id, day=day, kind=session.kind)
            if whole_day
            else Q(session_id=session.pk)
        )
        standing_one = _rows().filter(mine, person_id=person_id, state__in=WAITING).first()
        if standing_one is not None:
            return standing_one
        row = Waiting.objects.create(
            institution_id=session.institution_id, department_id=session.department_id,
            session_id=None if whole_day else session.pk, day=day, kind=session.kind, person_id=person_id,
            booker_id=by.institution_id, account_id=by.account_id, channel=channel, source=source,
            rank=0 if urgent and policy.value("wait.urgent_first", session.institution_id) else 1, since=now,
            changed_at=now, key=key,
        )  # fmt: skip
        audit.write(by, "create", person_id=person_id, what=f"waiting {row.pk}")
        return row


def _check(
    by: Scope, session: Session, person_id: int, channel: str, ids: list[int], now: dt.datetime
) -> None:
    rows = list(Session.objects.filter(pk__in=ids))
    coming = [s for s in rows if s.status == "open" and s.starts_at > now]
    if not coming:
        raise NotAllowed(
            T(
                "该场次已停诊或已开始，不能候补。",
                "This session is stopped or has begun; nobody can wait for it.",
            )
        )
    if any(free(s, channel, now) for s in coming):
        raise NotAllowed(T("仍有号源，请直接预约。", "Numbers are free; book one."))
    if all(s.opens_at > now for s in coming):
        raise NotAllowed(T("尚未放号，请届时预约。", "Its numbers are not open yet; book when they are."))
    if by.everything:
        return
    bar = standings.bar_of(person_id, now) if channel == "public" else None
    if bar is not None:
        raise Barred(bar.until, bar.why)
    limit = policy.value("wait.max", session.institution_id)
    if _rows().filter(person_id=person_id, state__in=WAITING).count() >= limit and channel == "public":
        raise TooMany(
            T("最多同时候补 {n} 个场次。", "At most {n} waiting lists at a time.").format(n=str(limit))
        )
    has = Place.objects.unscoped("does the patient have a number already?").filter(
        session_id__in=ids, person_id=person_id, state__in=("booked", "arrived")
    )
    if has.exists():
        raise NotAllowed(
            T("该患者在本场次已有号，无须候补。", "This patient has a number of this session already.")
        )


def require_offer(row: Waiting) -> None:
    """Raises NotPossible unless a number is offered to ``row`` now."""
    if row.state == "offered" and row.offer_until is not None and row.offer_until > clock.now():
        return
    words = {
        "waiting": T("尚未轮到您，请继续等候。", "It is not your turn yet; please go on waiting."),
        "offered": T(
            "已过确认时间，号已给下一位候补者。",
            "The time to answer has passed; the number went to the next.",
        ),
        "lapsed": T(
            "已过确认时间，号已给下一位候补者。",
            "The time to answer has passed; the number went to the next.",
        ),
        "taken": T("该候补号已预约。", "The offered number is booked already."),
    }
    raise NotPossible(words.get(row.state, T("该候补已结束。", "This place on the list is no more.")))


def give_up(waiting_id: int, state: str) -> Waiting:
    """Step off the list; an offered number goes back, and so to the next. Again: changes nothing."""
    with transaction.atomic():
        row = _rows().select_related("place").get(pk=waiting_id)
        if row.place is not None:
            lock_sessions([row.place.session_id])
        row = _rows().select_for_update(of=("self",)).select_related("place").get(pk=waiting_id)
        if row.state not in WAITING:
            return row
        place = row.place if row.state == "offered" else None
        _end(row, state, clock.now())
        if place is not None and place.state == "held":
            pool.cancel(place, state)
        return row


def position(row: Waiting) -> int:
    """How many are served before this one (0: the next)."""
    if row.state == "offered":
        return 0
    rows = _rows().filter(state="waiting", department_id=row.department_id, day=row.day, kind=row.kind)
    rows = rows.filter(Q(session_id=row.session_id) | Q(session=None)) if row.session_id else rows
    before = (
        Q(rank__lt=row.rank)
        | Q(rank=row.rank, since__lt=row.since)
        | Q(rank=row.rank, since=row.since, id__lt=row.pk)
    )
    return rows.filter(before).count()


def upkeep(limit: int = 200) -> int:
    """The ticker's chore: offers that lapsed and numbers that the clock released reach who waits without anybody's booking."""
    now, offered = clock.now(), 0
    _rows().filter(state="waiting", day__lt=clock.today()).update(state="over", changed_at=now)
    with connection.cursor() as cursor:
        cursor.execute(_SESSIONS, {"now": now, "limit": limit})
        ids = [row[0] for row in cursor.fetchall()]
    for session_id in ids:
        offered += refresh(session_id)
    return offered


_SESSIONS = """
SELECT s.id FROM pool_session s
 WHERE s.status = 'open' AND s.starts_at > %(now)s AND EXISTS (
       SELECT 1 FROM booking_waiting w WHERE w.state IN ('waiting', 'offered')
          AND (w.session_id = s.id OR (w.session_id IS NULL AND w.department_id = s.department_id AND w.kind = s.kind
               AND w.day = (s.starts_at AT TIME ZONE 'Asia/Shanghai')::date)))
 ORDER BY s.starts_at LIMIT %(limit)s"""
