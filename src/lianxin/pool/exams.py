"""Examinations: what can be booked, how many steps of a device's session it takes, and the rules of preparation and order.

The catalogue and the rules ship as data (``exams.yaml``); the house's own items live in ``pool_examitem``. An examination takes
``units`` neighbouring grid steps of a session whose device does it. Rules are pure functions over what was booked and what is
wanted; what an upper room demands before a booking (a consent for contrast) is registered with :func:`demand`.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from django.db import connection, transaction
from django.db.models import Q

from lianxin.pool import booking
from lianxin.pool.errors import BookingError, NotPossible
from lianxin.pool.models import RANK, TIERS, ExamItem, Place, Session
from lianxin.standards import clock
from lianxin.standards.text import T, Text

DATA = Path(__file__).parent / "exams.yaml"
LIVE = ("held", "booked", "arrived", "fulfilled")


class NotPrepared(BookingError):
    """A rule of preparation or order forbids this examination at that time."""


@functools.cache
def shipped() -> dict[str, Any]:
    """What ships: items, order, interval, consent, and the few numbers."""
    found: dict[str, Any] = yaml.load(DATA.read_text("utf-8"), Loader=yaml.CSafeLoader)
    return found


def load_shipped() -> int:
    """Bring the shipped items into the table; items that are there (a house changed them) stay. Returns how many are new."""
    rows = [
        ExamItem(
            code=i["code"], name=i["name"], name_en=i["name_en"], modality=i["modality"], minutes=i["minutes"],
            fasting_hours=i.get("fasting", 0), preparation=i["preparation"], preparation_en=i["preparation_en"],
            contrast=i.get("contrast", False), fee_fen=i["fee"],
        )
        for i in shipped()["items"]
    ]  # fmt: skip
    before = ExamItem.objects.count()
    ExamItem.objects.bulk_create(rows, ignore_conflicts=True)
    return ExamItem.objects.count() - before


def item(code: str) -> ExamItem:
    """The item of this code; NotPossible when there is none (or it is no longer done)."""
    found = ExamItem.objects.filter(code=code, active=True).first()
    if found is None:
        raise NotPossible(T("没有检查项目 {code}。", "There is no examination {code}.").format(code=code))
    return found


@functools.cache
def _reports() -> dict[str, int]:
    return {i["code"]: i.get("report", shipped()["report_default"]) for i in shipped()["items"]}


def report_minutes(code: str) -> int:
    """Minutes after the examination until its report is there."""
    return _reports().get(code, int(shipped()["report_default"]))


# ---------------------------------------------------------------- the grid


def step_minutes(session: Session) -> float:
    """Length of a grid step of the session, in minutes."""
    return (session.ends_at - session.starts_at).total_seconds() / 60 / max(session.planned, 1)


def units_of(session: Session, wanted: ExamItem) -> int:
    """Grid steps that the item takes in this session (at least one)."""
    return max(1, math.ceil(wanted.minutes / step_minutes(session) - 1e-9))


@dataclass(frozen=True)
class Free:
    """A session's free grid for a channel: seats nobody has, and how many numbers the channel may still take."""

    session: Session
    seats: frozenset[int]
    room: int

    def starts(self, units: int = 1) -> list[int]:
        """Seats from which ``units`` neighbouring ones are free, in order; none when the channel may not take that many."""
        if units > self.room:
            return []
        return [n for n in sorted(self.seats) if all(n + k in self.seats for k in range(units))]


def room(session: Session, channel: str, now: dt.datetime, taken: Mapping[str, int]) -> int:
    """Numbers that ``channel`` may take now; ``taken``: by channel, holds that ran out left out. Pure; as booking's predicate."""
    names = list(TIERS)
    left = session.capacity - sum(taken.values())
    before = 0
    for n, name in enumerate(names):
        if n > RANK[channel] and getattr(session, f"release_{name}") > now:
            left = min(left, session.capacity - getattr(session, f"reserved_{name}") - before)
        before += taken.get(name, 0)
    return max(left, 0)


def free_of(sessions: Sequence[Session], channel: str) -> list[Free]:
    """The free grid of each session that can be booked now, in the order given (one query for all their places)."""
    now = clock.now()
    rows = (
        Place.objects.unscoped("which numbers are free")
        .filter(session_id__in=[s.pk for s in sessions])
        .exclude(state="cancelled")
        .exclude(state="held", expires_at__lte=now)
        .values_list("session_id", "seat_no", "units", "channel")
    )
    seats: dict[int, set[int]] = {s.pk: set(range(1, s.capacity + 1)) for s in sessions}
    taken: dict[int, dict[str, int]] = {s.pk: dict.fromkeys(TIERS, 0) for s in sessions}
    for session_id, seat, units, tier in rows:
        seats[session_id] -= set(range(seat, seat + units))
        taken[session_id][tier] += units
    return [
        Free(s, frozenset(seats[s.pk]), room(s, channel, now, taken[s.pk]))
        for s in sessions
        if s.status == "open" and s.opens_at <= now < s.ends_at
    ]


def sessions_for(
    codes: Iterable[str], institutions: Iterable[int], since: dt.datetime, until: dt.datetime
) -> list[Session]:
    """Open examination sessions whose device does any of ``codes``, soonest first."""
    return list(
        Session.objects.filter(
            kind="exam", status="open", institution_id__in=list(institutions), starts_at__gte=since, starts_at__lt=until,
            resource__active=True, resource__items__overlap=list(codes),
        )
        .select_related("institution", "department", "resource")
        .order_by("starts_at", "pk")
    )  # fmt: skip


@dataclass(frozen=True)
class Offer:
    """A start that can be booked: the session, the first seat, how many steps, from when to when."""

    session: Session
    seat: int
    units: int
    at: dt.datetime
    until: dt.datetime


def _offer(free: Free, wanted: ExamItem, seat: int, units: int) -> Offer:
    at = free.session.time_of(seat).astimezone(clock.ZONE)
    return Offer(free.session, seat, units, at, at + dt.timedelta(minutes=wanted.minutes))


def offers(wanted: ExamItem, grids: Iterable[Free], since: dt.datetime) -> list[Offer]:
    """Every start of the item on these grids after ``since`` (seats on the plan's grid only: extra numbers have no time)."""
    found = []
    for free in grids:
        resource = free.session.resource
        if resource is None or wanted.code not in resource.items:
            continue
        units = units_of(free.session, wanted)
        found += [
            _offer(free, wanted, seat, units)
            for seat in free.starts(units)
            if seat + units - 1 <= free.session.planned
        ]
    return sorted((o for o in found if o.at >= since), key=lambda o: (o.at, o.session.pk))


def find(
    item_code: str, institutions: Iterable[int], since: dt.datetime, until: dt.datetime, channel: str
) -> list[Offer]:
    """Where and when the item can be done: the first free start of each session, soonest first; a fasting item in the morning."""
    wanted = item(item_code)
    start = max(since, clock.now())
    sessions = sessions_for(
        [item_code], institutions, start.astimezone(clock.ZONE).replace(hour=0, minute=0, second=0), until
    )
    first: dict[int, Offer] = {}
    for offer in offers(wanted, free_of(sessions, channel), start):
        if not wanted.fasting_hours or in_the_morning(offer.at):
            first.setdefault(offer.session.pk, offer)
    return sorted(first.values(), key=lambda o: (o.at, o.session.pk))


# ---------------------------------------------------------------- rules


def in_the_morning(at: dt.datetime) -> bool:
    """Whether somebody fasting since the evening can be asked to wait until ``at``."""
    return at.astimezone(clock.ZONE).time() <= dt.time.fromisoformat(shipped()["fasting_latest"])


@dataclass(frozen=True)
class Done:
    """One examination on a patient's calendar, for the rules."""

    code: str
    modality: str
    contrast: bool
    at: dt.datetime
    until: dt.datetime


def _is(done: Done, names: Iterable[str]) -> bool:
    return any(n in (done.code, done.modality) or (n == "contrast" and done.contrast) for n in names)


def _why(rule: Mapping[str, Any]) -> Text:
    return T("{why}。", "Not possible: {why}.").format(why=Text(rule["why"], rule["why_en"]))


def conflict(one: Done, other: Done) -> Text | None:
    """Why the two cannot stand like this (overlap, wrong order on one day, too close), or None. Pure, symmetric."""
    first, then = sorted((one, other), key=lambda d: (d.at, d.until, d.code))
    if then.at < first.until:
        return T("两项检查时间重叠。", "Two examinations overlap.")
    zone = clock.ZONE
    same_day = first.at.astimezone(zone).date() == then.at.astimezone(zone).date()
    for rule in shipped()["order"]:
        if same_day and _is(first, rule["then"]) and _is(then, rule["first"]):
            return _why(rule)
        if _is(first, rule["first"]) and _is(then, rule["then"]) and then.at < first.until + _hours(rule):
            return _why(rule)
    for rule in shipped()["interval"]:
        if _is(first, rule["first"]) and _is(then, rule["then"]) and then.at < first.until + _hours(rule):
            return _why(rule)
    return None


def _hours(rule: Mapping[str, Any]) -> dt.timedelta:
    return dt.timedelta(hours=rule["hours"])


def calendar_of(
    person_id: int, since: dt.datetime, until: dt.datetime, but: Iterable[int] = ()
) -> list[Done]:
    """What the patient has on the calendar within a week around the window; ``but``: places that are about to be given up."""
    now, week = clock.now(), dt.timedelta(days=7)
    rows = (
        Place.objects.unscoped("the rules look at the patient's other examinations")
        .filter(person_id=person_id, state__in=LIVE, at__gte=since - week, at__lt=until + week)
        .exclude(Q(item="") | Q(pk__in=list(but)))
        .exclude(state="held", expires_at__lte=now)
        .values_list("item", "at")
    )
    found = [(code, at) for code, at in rows]
    known = {i.code: i for i in ExamItem.objects.filter(code__in={code for code, _ in found})}
    return [done_of(known[code], at) for code, at in found if code in known]


def done_of(wanted: ExamItem, at: dt.datetime) -> Done:
    """The item at a time, as the rules see it."""
    return Done(wanted.code, wanted.modality, wanted.contrast, at, at + dt.timedelta(minutes=wanted.minutes))


Demand = Callable[[int, Sequence[ExamItem], "int | None"], "Text | None"]
_demands: list[Demand] = []


def demand(fn: Demand) -> None:
    """``fn(person_id, items, case_id)`` says what is missing before these may be booked (None: nothing). For upper rooms."""
    if fn not in _demands:
        _demands.append(fn)


def missing(person_id: int, items: Sequence[ExamItem], case_id: int | None = None) -> Text | None:
    """What is still missing before the patient may be booked for these items (the first thing), in words."""
    return next((said for fn in _demands if (said := fn(person_id, items, case_id)) is not None), None)


def check(person_id: int, wanted: ExamItem, at: dt.datetime, case_id: int | None = None) -> None:
    """Raise NotPrepared when the patient may not have this examination then: no consent, not in the morning, too near another."""
    said = missing(person_id, [wanted], case_id)
    if said is None and wanted.fasting_hours and not in_the_morning(at):
        said = T(
            "该项目须空腹，请约在 {time} 以前。", "This needs fasting; choose a start before {time}."
        ).format(time=shipped()["fasting_latest"])
    own = done_of(wanted, at)
    for other in calendar_of(person_id, at, own.until) if said is None else ():
        said = said or conflict(own, other)
    if said is not None:
        raise NotPrepared(said)


def book(
    session_id: int,
    person_id: int,
    item_code: str,
    channel: str,
    key: str,
    case_id: int | None = None,
    seat: int | None = None,
) -> Place:
    """Book an examination: preparation and order checked, then its grid steps taken from ``seat`` (or the first that fit).

    The same key again gives the same place. Raises NotPrepared, NotPossible, or like ``booking.hold``.
    """
    wanted = item(item_code)
    session = Session.objects.select_related("resource").get(pk=session_id)
    if session.resource is None or item_code not in session.resource.items:
        raise NotPossible(
            T("该场次的设备不做此项目。", "The device of this session does not do this examination.")
        )
    units = units_of(session, wanted)
    done: Place | BookingError
    with transaction.atomic(
        savepoint=False
    ):  # what turning somebody away wrote stays: the refusal leaves after the block
        one_at_a_time(person_id)
        try:
            if not Place.objects.unscoped("the same request again").filter(key=key).exists():
                if seat is None:
                    seat = _first_fit(session, wanted, channel)
                check(person_id, wanted, session.time_of(seat or 1), case_id)
            done = booking.book(
                session_id, person_id, channel, key, case_id, units=units, item=item_code, seat=seat
            )
        except BookingError as refusal:
            done = refusal
    if isinstance(done, BookingError):
        raise done
    return done


def _first_fit(session: Session, wanted: ExamItem, channel: str) -> int | None:
    found = offers(wanted, free_of([session], channel), clock.now())
    fits = [o for o in found if not wanted.fasting_hours or in_the_morning(o.at)] or found
    return fits[0].seat if fits else None


def one_at_a_time(person_id: int) -> None:
    """One patient's bookings follow one another until the transaction ends: two at once would each see an empty calendar."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 37))", [f"exam:{person_id}"])
