"""A session that a referral was booked into is stopped: the booking is owed again and everybody concerned is told.

The pool tells while it holds the session's lock, and a move takes the case first, then sessions in order: so the case and the plan's
other sessions are taken only when nobody has them (SKIP LOCKED), else the outbox does the same a moment later. Either way one move per lost place, however often it is told.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from lianxin.access.scope import Scope
from lianxin.clinical.referral import parties, slots
from lianxin.duty import kernel, outbox
from lianxin.duty.machine import Ctx, Effect, Tell
from lianxin.duty.models import Act, Case
from lianxin.pool import hooks
from lianxin.pool.models import Place, Session
from lianxin.standards.text import T, Text

TOPIC = "referral.displaced"
BOOKINGS = ("book", "rebook", "reschedule")
MOVE_AT = {"booked": "displaced", "accepted": "part_lost", "arrived": "part_lost", "in_care": "part_lost"}


def displaced(ctx: Ctx) -> Effect:
    """The system's move: all of the booking is given back (it was one plan), the booking clock starts again."""
    slots.release(ctx, "session stopped")
    ctx.subject.booking = "none"
    ctx.subject.save()
    said = T(
        "医院停诊，原预约已取消，须重新安排",
        "The hospital stopped the session; the booking has to be made again",
    )
    return Effect(facts={"booking": "none"}, notices=_tell(ctx, said))


def part_lost(ctx: Ctx) -> Effect:
    """The system's move where no booking is owed: a number only held, or an examination of a patient already here."""
    facts: dict[str, str] = {}
    subject = ctx.subject
    if subject.booking == "held":
        subject.booking, subject.place = "none", None
        subject.save()
        facts = {"booking": "none"}
    said = T(
        "停诊：原定检查或号源已取消，请另行安排",
        "A session was stopped: the examination or number has to be arranged anew",
    )
    return Effect(facts=facts, notices=_tell(ctx, said))


def _tell(ctx: Ctx, said: Text) -> list[Tell]:
    subject = ctx.subject
    return [
        Tell("referrer", parties.role_at(subject.from_institution, "doctor"), said),
        Tell("receiver", parties.role_at(subject.to_institution, "desk"), said),
    ]


def on_stopped(session: Session, places: list[Place], reason: str) -> None:
    """The pool's hook: one move for each referral that had a place in the session."""
    lost = {p.case_id: p for p in places if p.case_id is not None}
    cases = Case.objects.unscoped("whose booking was lost").filter(
        pk__in=lost, kind="referral", terminal=False
    )
    free = cases.select_for_update(of=("self",), no_key=True, skip_locked=True)
    with transaction.atomic():
        mine = {case.pk: case for case in free}
        for pk, number in cases.values_list("pk", "number"):
            if pk in mine and _others_at_hand(pk, session.pk):
                settle(number, lost[pk].pk)
            else:
                outbox.emit(TOPIC, number, {"case": number, "place": lost[pk].pk})


def _others_at_hand(case_id: int, session_id: int) -> bool:
    """Lock the other sessions of the case without waiting: whoever waits for them with this one locked could wait for ever."""
    own = Place.objects.unscoped("the other parts of a lost plan").filter(
        case_id=case_id, state__in=("held", "booked", "arrived")
    )
    ids = set(own.values_list("session_id", flat=True)) - {session_id}
    got = Session.objects.filter(pk__in=ids).order_by("pk").select_for_update(skip_locked=True, no_key=True)
    return len(got) == len(ids)


def settle(number: str, place_id: int) -> None:
    """Make the move for a lost place unless the case has gone on meanwhile (booked anew, ended)."""
    case = Case.objects.unscoped("whose booking was lost").get(number=number)
    move = MOVE_AT.get(case.state)
    place = Place.objects.unscoped("the lost place").get(pk=place_id)
    key = f"displaced:{place_id}"
    if move is None or place.state != "cancelled" or Act.objects.filter(key=key).exists():
        return
    if (
        move == "displaced"
        and Act.objects.filter(case=case, move__in=BOOKINGS, at__gt=place.changed_at).exists()
    ):
        return
    kernel.execute(move, number, Scope.system("a session was stopped"), {}, None, key)


def _later(event: Any) -> None:
    settle(event.payload["case"], event.payload["place"])


def register() -> None:
    """Called once from ``ReferralConfig.ready``."""
    hooks.on_stopped(on_stopped)
    outbox.register(TOPIC, "referral", _later)
