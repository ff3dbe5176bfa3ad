"""The referral's booking: a counted place of the pool, a joint plan (number, examinations, bed), or a time of the receiver's own.

The place moves in the same transaction as the case; a place is never left taken by a referral that ended (I3).
"""

from __future__ import annotations

import datetime as dt

from lianxin.clinical.referral import policy
from lianxin.clinical.referral.models import Referral
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx
from lianxin.pool import booking, exclusive, plan
from lianxin.pool.errors import BookingError
from lianxin.pool.models import Place, Session
from lianxin.standards import clock
from lianxin.standards.text import T

LIVE = ("held", "booked")
VISIT = dt.timedelta(hours=4)


def take(ctx: Ctx) -> None:
    """Book what the form names (nothing named: the number held before) and note when the patient is expected.

    Raises ``pool.Full`` with alternatives.
    """
    subject, chosen = ctx.subject, ctx.data.get("session")
    subject.appointment_note = ctx.data.get("appointment_note") or ""
    if ctx.data.get("plan"):
        release(ctx, "a joint plan chosen")
        _take_plan(ctx)
        return
    if subject.booking == "held":
        if not chosen and not ctx.data.get("appointment_at"):
            _confirm(subject)
            return
        release(ctx, "another time chosen")
    if not chosen:
        at = ctx.data["appointment_at"]
        if at < ctx.now:
            raise Refused(
                {
                    "appointment_at": T(
                        "就诊时间已过，请填写将来的时间", "That time has passed; give a later one"
                    )
                }
            )
        subject.place, subject.appointment_at, subject.appointment_end = None, at, at + VISIT
        return
    session = _session(ctx, chosen)
    key = f"{ctx.case.number}:{ctx.case.version + 1}"
    try:
        place = booking.book(session.pk, subject.person_id, _channel(ctx), key, case_id=ctx.case.pk)
    except booking.AlreadyBooked as error:
        raise Refused({"session": error.text}) from error
    subject.place, subject.appointment_at, subject.appointment_end = place, session.starts_at, session.ends_at


def exchange(ctx: Ctx, reason: str) -> None:
    """Give back what there is and take what the form names; the sessions of a plan are locked with the old ones, in order."""
    if ctx.data.get("plan"):
        wanted = _named_plan(ctx)
        plan.lock_sessions(
            {*(s.slot.session_id for s in wanted.steps), *(p.session_id for p in _places(ctx.case.pk))}
        )
    release(ctx, reason)
    take(ctx)


def _named_plan(ctx: Ctx) -> plan.Plan:
    try:
        return plan.rebuild(ctx.data["plan"], ctx.subject.to_institution_id)
    except BookingError as error:
        raise Refused({"plan": error.text}) from error


def _take_plan(ctx: Ctx) -> None:
    """All of the plan, or the soonest other one of that day when somebody was faster; refuses ``plan`` in words otherwise."""
    subject, named = ctx.subject, _named_plan(ctx)
    if named.at < ctx.now - dt.timedelta(minutes=1):
        raise Refused(
            {"plan": T("方案的时间已过，请重新选择。", "The plan's time has passed; choose again.")}
        )
    if named.bed and not may_book_bed(subject, ctx.is_party("receiver")):
        raise Refused(
            {
                "plan": T(
                    "床位由接诊机构安排，请只约号和检查。",
                    "The receiver assigns beds; book number and examinations only.",
                )
            }
        )
    channel, key = _channel(ctx), f"{ctx.case.number}:{ctx.case.version + 1}"
    try:
        held = plan.take_first([named], subject.person_id, channel, key, ctx.case.pk)
    except plan.Gone as gone:
        others = plan.like(named, subject.specialty, subject.person, subject.to_institution_id or 0, channel)
        try:
            held = plan.take_first(others, subject.person_id, channel, f"{key}+", ctx.case.pk)
        except BookingError:
            raise Refused({"plan": gone.text}) from gone
    except BookingError as error:
        raise Refused({"plan": error.text}) from error
    subject.place = held.visit
    subject.appointment_at = held.plan.at  # when the patient has to be there, the first step of the day
    ends = [p.session.ends_at for p in _places(ctx.case.pk)] or [_end_of_day(held.plan.at)]
    subject.appointment_end = max(ends)


def may_book_bed(subject: Referral, receiver: bool) -> bool:
    """Whether this side may take a bed: the receiver always, the referrer unless the consortium's rules say
    ``{"referral": {"plan.referrer_beds": false}}``."""
    return receiver or bool(policy.values(subject.consortium).get("plan.referrer_beds", True))


def _end_of_day(at: dt.datetime) -> dt.datetime:
    return dt.datetime.combine(at.astimezone(clock.ZONE).date() + dt.timedelta(days=1), dt.time(), clock.ZONE)


def _places(case_id: int) -> list[Place]:
    """Places of the case that are held, booked or arrived, in the order in which their sessions are locked."""
    rows = Place.objects.unscoped("the case's own places").filter(
        case_id=case_id, state__in=(*LIVE, "arrived")
    )
    return list(rows.select_related("session").order_by("session_id"))


def keep(ctx: Ctx, minutes: int) -> None:
    """Hold a number of the session for ``minutes``; it is free again by itself when nobody confirms. Raises ``pool.Full``."""
    release(ctx, "another number held")
    session = _session(ctx, ctx.data["session"])
    key = f"{ctx.case.number}:{ctx.case.version + 1}"
    try:
        place = booking.hold(
            session.pk, ctx.subject.person_id, _channel(ctx), key, minutes, case_id=ctx.case.pk
        )
    except booking.AlreadyBooked as error:
        raise Refused({"session": error.text}) from error
    ctx.subject.place = place


def _channel(ctx: Ctx) -> str:
    """The channel of whoever refers: the numbers kept for them are theirs, whoever presses the button."""
    return booking.channel_of(ctx.subject.from_institution.tier)


def _confirm(subject: Referral) -> None:
    try:
        place = booking.confirm(subject.place_id or 0)
    except booking.NotPossible as error:
        raise Refused({"session": error.text}) from error
    session = place.session
    subject.place, subject.appointment_at, subject.appointment_end = place, session.starts_at, session.ends_at


def _session(ctx: Ctx, chosen: int) -> Session:
    """The receiver's session that the form names; refuses another's and one that is over."""
    session = Session.objects.filter(pk=chosen, institution_id=ctx.subject.to_institution_id).first()
    if session is None:
        raise Refused(
            {"session": T("该号源不属于接诊机构，请重新选择", "Not a session of the receiver; choose again")}
        )
    if session.ends_at <= ctx.now:
        raise Refused({"session": T("该时段已结束，请重新选择", "This session is over; choose another")})
    return session


def release(ctx: Ctx, reason: str) -> None:
    """Give back whatever is not used yet: the number, the examinations, the bed (one that is occupied is the ward's to vacate)."""
    subject = ctx.subject
    for place in _places(ctx.case.pk):
        if place.state == "arrived":
            booking.fulfil(place)
        else:
            booking.cancel(place, reason or "released")
    exclusive.cancel_case(ctx.case.pk, reason or "released")
    subject.place = None
    subject.appointment_at = subject.appointment_end = None


def arrived(ctx: Ctx) -> None:
    """The patient of the place is here; a number only held is given back (the green channel needs none)."""
    if ctx.subject.booking == "held":
        release(ctx, "arrived without it")
    if ctx.subject.place_id is not None and ctx.subject.place.state in LIVE:
        booking.arrive(ctx.subject.place)


def used(ctx: Ctx) -> None:
    """The place has served."""
    if ctx.subject.place_id is not None and ctx.subject.place.state == "arrived":
        booking.fulfil(ctx.subject.place)


def left(ctx: Ctx) -> None:
    """The patient is discharged: the bed is to be cleaned."""
    exclusive.vacate_case(ctx.case.pk)


def missed(ctx: Ctx) -> None:
    """Nobody came: numbers whose session is over were missed, what lies ahead is given back."""
    for place in _places(ctx.case.pk):
        if place.state == "booked" and place.session.ends_at <= ctx.now:
            booking.no_show(place)
        elif place.state in LIVE:
            booking.cancel(place, "no-show of the referral")
    exclusive.cancel_case(ctx.case.pk, "no-show of the referral")
    ctx.subject.place = None
