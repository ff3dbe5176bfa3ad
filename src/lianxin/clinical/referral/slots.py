"""The referral's booking: a counted place of the pool, or a time that the receiver keeps in its own system.

The place moves in the same transaction as the case; a place is never left taken by a referral that ended (I3).
"""

from __future__ import annotations

import datetime as dt

from lianxin.clinical.referral.models import Referral
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx
from lianxin.pool import booking
from lianxin.pool.models import Session
from lianxin.standards.text import T

LIVE = ("held", "booked")
VISIT = dt.timedelta(hours=4)


def take(ctx: Ctx) -> None:
    """Book what the form names (nothing named: the number held before) and note when the patient is expected.

    Raises ``pool.Full`` with alternatives.
    """
    subject, chosen = ctx.subject, ctx.data.get("session")
    subject.appointment_note = ctx.data.get("appointment_note") or ""
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
    """Give back a place not used yet."""
    subject = ctx.subject
    if subject.place_id is not None and subject.place.state in LIVE:
        booking.cancel(subject.place, reason or "released")
    elif subject.place_id is not None and subject.place.state == "arrived":
        booking.fulfil(subject.place)
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


def missed(ctx: Ctx) -> None:
    """Nobody came."""
    if ctx.subject.place_id is not None and ctx.subject.place.state in LIVE:
        booking.no_show(ctx.subject.place)
    ctx.subject.place = None
