"""What each move does to the appointment and its number, on the locked case, inside the kernel's transaction.

The number moves in the pool by ``pool.booking`` in the same transaction; the FHIR Appointment is published there too, so what is
acknowledged, what is counted and what is published cannot differ. Messages to people go by the outbox (``telling``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection

from lianxin.clinical.referral import parties
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx, Effect, Owes
from lianxin.duty.models import Case
from lianxin.network.models import Institution
from lianxin.pool import booking as pool
from lianxin.pool import publish as fhir
from lianxin.pool.errors import AlreadyBooked
from lianxin.pool.models import Place, Session
from lianxin.record import publish as record
from lianxin.resident.booking import reminders, rows, standing, units
from lianxin.resident.booking.models import Appointment, Waiting
from lianxin.resident.booking.waiting import lock_sessions
from lianxin.standards import calendar, clock
from lianxin.standards.text import T, Text

ATTEND_GRACE = dt.timedelta(hours=2)


@dataclass
class Ask:
    """What is booked: reaches the opening's effect as ``ctx.extra["ask"]``.

    ``check`` asks the policy inside the transaction and gives the person's number; ``made`` is what came of it.
    """

    session: Session
    channel: str
    source: str
    seat: int | None = None
    item: str = ""
    note: str = ""
    fee_fen: int = 0
    booker: Institution | None = None
    check: Callable[[], str] = str
    person_number: str = ""
    made: Appointment | None = None


# ------------------------------------------------------------------------------------------------------------- helpers


def load(case: Case) -> Appointment | None:
    """The appointment of a case with what guards, effects and pages read of it."""
    found = Appointment.objects.unscoped("the case's own appointment").select_related(
        "place", "session", "institution", "booker"
    )
    return found.filter(pk=case.pk).first()


def load_many(cases: list[Case]) -> dict[int, Appointment]:
    """The same for many cases in one query."""
    found = Appointment.objects.unscoped("the cases' own appointments").select_related(
        "place", "session", "institution", "booker"
    )
    return {a.pk: a for a in found.filter(pk__in=[c.pk for c in cases])}


def _to(ctx: Ctx, state: str, topic: str, *, to: str | None = None, **more: Any) -> Effect:
    """The effect that leads to ``state``: its duty goes to whoever receives patients at the provider, with the visit's own times."""
    subject: Appointment = ctx.subject
    told = {
        "appointment": ctx.case.pk,
        "case": ctx.case.number,
        "place": subject.place_id,
        "session": subject.session_id,
        "institution": subject.institution_id,
        **more,
    }
    effect = Effect(
        to=to, events=((f"appointment.{topic}", told),), outcome={**told, "seat": subject.place.seat_no}
    )
    owes = ctx.machine.state(state).owes
    if owes is not None:
        effect.opens = (_owed(ctx, owes),)
    return effect


def _owed(ctx: Ctx, owes: Owes) -> Owes:
    subject: Appointment = ctx.subject
    role = parties.role_at(subject.institution, "reception")
    if owes.kind == "attend":
        due = max(subject.ends_at, ctx.now) + ATTEND_GRACE
        return replace(owes, role=role, due=due)
    if owes.kind == "decide":
        ordinary = calendar.due(ctx.now, "4wh")
        return replace(owes, role=role, due=min(ordinary, max(subject.starts_at, ctx.now)))
    return replace(owes, role=role)


def _where(session: Session) -> str:
    """Who has the last word decides where a booking stands."""
    return "requested" if session.owner == "hospital" else "booked"


def _set(subject: Appointment, session: Session, place: Place) -> None:
    subject.session, subject.place, subject.institution = session, place, session.institution
    subject.specialty, subject.day = session.specialty, place.at.astimezone(clock.ZONE).date()
    subject.at, subject.starts_at, subject.ends_at = place.at, session.starts_at, session.ends_at


def _key(ctx: Ctx) -> str:
    return f"appointment:{ctx.case.number}:{ctx.case.version + 1}"


def _number(ctx: Ctx, session: Session, person_id: int, channel: str, seat: int | None, item: str) -> Place:
    """A number of the session: one held for this person before (an offer, a page's hold), else a free one. Raises pool errors."""
    try:
        return pool.book(
            session.pk, person_id, channel, _key(ctx), ctx.case.pk, units=units.units_of(session, item), item=item, seat=seat
        )  # fmt: skip
    except AlreadyBooked as error:
        held = error.place
        if held.state != "held" or held.case_id is not None or seat not in (None, held.seat_no):
            raise
        lock_sessions([session.pk])  # before the place and the waiting row, as everywhere
        place = pool.confirm(held)
        place.case_id = ctx.case.pk
        place.save(update_fields=["case_id"])
        Waiting.objects.unscoped("the offer is taken").filter(place_id=place.pk, state="offered").update(
            state="taken", changed_at=ctx.now
        )
        return place


def _session(ctx: Ctx) -> Session:
    """The session that the form names; Refused when there is none."""
    found = rows.session(ctx.data["session"])
    if found is None:
        raise Refused({"session": T("没有该场次，请重新选择。", "There is no such session; choose again.")})
    return found


# ---------------------------------------------------------------------------------------------------------------- moves


def book(ctx: Ctx) -> Effect:
    """Take the number and write the appointment. Raises pool errors."""
    ask: Ask = ctx.extra["ask"]
    session, person_id = ask.session, ctx.case.patient_id
    ask.person_number = ask.check()
    place = _number(ctx, session, person_id, ask.channel, ask.seat, ask.item)
    subject = Appointment(
        case_id=ctx.case.pk, person_id=person_id, booker=ask.booker, account_id=ctx.by.account_id,
        channel=place.channel, source=ask.source, item=ask.item, fee_fen=session.fee_fen + ask.fee_fen, note=ask.note,
        booked_at=ctx.now,
    )  # fmt: skip
    _set(subject, session, place)
    ctx.subject = ask.made = subject
    subject.case = ctx.case
    state = _where(session)
    rows.insert(subject, reminders.times(subject, ctx.now) if state == "booked" else ())
    return _to(ctx, state, state, to=state)


def confirm(ctx: Ctx) -> Effect:
    """The hospital said yes."""
    reminders.plan(ctx.subject, ctx.now)
    return _to(ctx, "booked", "booked", external=ctx.data.get("external") or "")


def refuse(ctx: Ctx) -> Effect:
    """The hospital said no: the number goes back, the patient is owed another."""
    return _lose(ctx, "refused")


def displace(ctx: Ctx) -> Effect:
    """The session was stopped (or the hospital took the time away): the patient is owed another."""
    return _lose(ctx, "displaced")


def _lose(ctx: Ctx, topic: str) -> Effect:
    subject: Appointment = ctx.subject
    if subject.place.state in ("held", "booked"):
        subject.place = pool.cancel(subject.place, ctx.data["reason"])
    subject.reason = ctx.data["reason"]
    subject.save(update_fields=["reason"])
    reminders.void(subject)
    effect = _to(ctx, "to_rebook", topic, reason=ctx.data["reason"])
    if (
        "booker" in ctx.parties
        and ctx.parties["booker"] != ctx.parties["provider"]
        and subject.booker is not None
    ):
        role = parties.role_at(subject.booker, "doctor")
        own = ctx.machine.state("to_rebook").owes
        assert own is not None
        effect.opens = (
            *effect.opens,
            replace(own, kind="rebook_booker", label=T("与患者商定改约", "Arrange another time with the patient"), party="booker", role=role),
        )  # fmt: skip
    return effect


def reschedule(ctx: Ctx) -> Effect:
    """Another number for this one, both or neither; moving it back and forth costs no fee. Raises pool errors."""
    subject: Appointment = ctx.subject
    session, old = _session(ctx), subject.place
    if session.kind != subject.session.kind:
        raise Refused({"session": T("请改约到同类场次。", "Choose a session of the same kind.")})
    reason = ctx.data.get("reason") or "rescheduled"
    if subject.item:
        if session.pk == old.session_id:
            pool.cancel(old, reason)
        new = _number(ctx, session, subject.person_id, subject.channel, ctx.data.get("seat"), subject.item)
        if session.pk != old.session_id:
            pool.cancel(old, reason)
    else:
        new = pool.reschedule(old, session.pk, _key(ctx), reason, ctx.data.get("seat"))
    ctx.extra["also"] = old.pk
    subject.moves += 1
    return _moved(ctx, session, new, "moved", before=old.pk)


def rebook(ctx: Ctx) -> Effect:
    """A new number for the one that was lost; fee and seniority stay."""
    subject: Appointment = ctx.subject
    session, old = _session(ctx), subject.place
    new = _number(ctx, session, subject.person_id, subject.channel, ctx.data.get("seat"), subject.item)
    return _moved(ctx, session, new, "moved", before=old.pk)


def _moved(ctx: Ctx, session: Session, place: Place, topic: str, **more: Any) -> Effect:
    subject: Appointment = ctx.subject
    provider = subject.institution_id
    _set(subject, session, place)
    subject.institution, subject.reason = session.institution, ""
    subject.save()
    reminders.void(subject)
    state = _where(session)
    if state == "booked":
        reminders.plan(subject, ctx.now)
    effect = _to(ctx, state, topic if state == "booked" else "requested", to=state, **more)
    effect.due = {owes.kind: owes.due for owes in effect.opens if owes.due is not None}
    if session.institution_id != provider:
        effect.parties = {"provider": session.institution_id}
    return effect


def offer(ctx: Ctx) -> Effect:
    """The patient is told of other times; who owes it looks again on the next working day."""
    effect = _to(ctx, "to_rebook", "offered", note=ctx.data.get("note") or "")
    effect.opens = ()
    effect.due = {"rebook": calendar.due(ctx.now, "1wd")}
    return effect


def cancel(ctx: Ctx) -> Effect:
    """The number goes back (whoever waits is served first)."""
    return _end(ctx, "cancelled", ctx.data.get("reason") or "cancelled")


def _end(ctx: Ctx, topic: str, reason: str, **fields: Any) -> Effect:
    subject: Appointment = ctx.subject
    if subject.place.state in ("held", "booked"):
        subject.place = pool.cancel(subject.place, reason)
    subject.live, subject.reason = False, reason
    for name, value in fields.items():
        setattr(subject, name, value)
    subject.save(update_fields=["live", "reason", *fields])
    reminders.void(subject)
    return _to(ctx, "cancelled", topic, reason=reason)


def arrive(ctx: Ctx) -> Effect:
    """The patient is here."""
    ctx.subject.place = pool.arrive(ctx.subject.place)
    reminders.void(ctx.subject)
    return _to(ctx, "arrived", "arrived")


def fulfil(ctx: Ctx) -> Effect:
    """The patient has been seen."""
    subject: Appointment = ctx.subject
    subject.place = pool.fulfil(subject.place)
    subject.live = False
    subject.save(update_fields=["live"])
    return _to(ctx, "fulfilled", "fulfilled")


def miss(ctx: Ctx) -> Effect:
    """The session went by; a person says whether it counts. The number stays counted as taken meanwhile."""
    reminders.void(ctx.subject)
    return _to(ctx, "missed", "missed")


def confirm_missed(ctx: Ctx) -> Effect:
    """A no-show; too many within the policy's days close public numbers for a while, and the person is told why."""
    subject: Appointment = ctx.subject
    subject.place = pool.no_show(subject.place)
    subject.live, subject.missed_at = False, subject.at
    subject.save(update_fields=["live", "missed_at"])
    bar = standing.judge(subject, ctx.now)
    effect = _to(ctx, "no_show", "no_show", bar=bar.pk if bar else None)
    if bar is not None:
        effect.events = (*effect.events, ("booking.barred", {"bar": bar.pk, "case": ctx.case.number}))
    return effect


def excuse(ctx: Ctx) -> Effect:
    """Not the patient's fault: counts for nothing."""
    return _end(ctx, "excused", ctx.data["reason"], waived=True)


# -------------------------------------------------------------------------------------------------------------- published


def publish(ctx: Ctx) -> None:
    """The FHIR Appointment of the number (and of the one it took the place of), as they stand now."""
    subject: Appointment | None = ctx.subject
    if subject is None:
        return
    if ctx.extra.get("also"):
        fhir.publish_place(ctx.extra["also"])
    ask: Ask | None = ctx.extra.get("ask")
    if ask is None or ask.item:
        fhir.publish_place(subject.place)
        return
    # a new booking has all at hand that the projection would read again
    resource = fhir.appointment(
        subject.place,
        subject.session,
        ask.person_number,
        number=ctx.case.number,
        booker=subject.booker.code if subject.booker is not None else "",
        status="pending" if ctx.case.state == "requested" else "",
    )
    with connection.cursor() as cursor:
        record.publish(
            [resource], person_id=subject.person_id, institution_id=subject.institution_id, cursor=cursor
        )


def summary(ctx: Ctx) -> Text:
    """When and which number, in a line."""
    subject = ctx.subject
    if subject is None:
        return ctx.machine.label
    return T("{at} · {no} 号", "{at} · number {no}").format(
        at=f"{subject.at.astimezone(clock.ZONE):%Y-%m-%d %H:%M}", no=str(subject.place.seat_no)
    )
