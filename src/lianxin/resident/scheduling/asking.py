"""Asking hospitals' systems for bookings of their own sessions: kept before it is asked, never lost, never twice.

A booking of a hospital-owned session stands at *requested*, its number taken, and is its desk's duty from the first moment. For each a row
(:class:`Question`) says how far the hospital's system was asked. A call is made outside any transaction:

1. the row is taken (``asking``, with the moment until which the call is waited for) and committed;
2. was there a call before that may have arrived, the system is first asked whether it knows the key;
3. else it is asked for the booking, with the key;
4. the answer and the move of the case are committed together: yes confirms, no leads to *to_rebook*.

Killed anywhere, what was not written down is asked again: first by the key. No answer leaves the row waiting with back-off and the case
with its desk, which may decide by itself; then the system is told what was decided. A booking given up here is given back there.
"""

from __future__ import annotations

import contextvars
import datetime as dt
import logging
import random
import threading

import psycopg
from django.db import Error, close_old_connections, connection, transaction
from django.db.models import Q

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.models import Case, Outbox
from lianxin.pool import publish
from lianxin.resident.booking.models import Appointment
from lianxin.resident.scheduling import adapters
from lianxin.resident.scheduling.adapters import Answer, Unclear, Visit
from lianxin.resident.scheduling.models import OPEN, BookingSystem, Question, kept
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)

GRACE = dt.timedelta(seconds=20)
"""Beyond all its calls' time, before an attempt is given up for lost."""
FIRST, LONGEST = 2.0, 900.0
AT_ONCE = 4
POLL = 1.0
BATCH = 50
WHY = T("医院系统未接受该预约", "The hospital's system did not accept the booking")


def requested(event: Outbox) -> None:
    """Consumer of ``appointment.requested``: the row from which the hospital is asked (once for each number)."""
    note(int(event.payload["appointment"]))


def note(appointment_id: int) -> Question | None:
    """Keep that a booking is to be asked for; None when its hospital has no system here (its desk decides)."""
    row = (
        Appointment.objects.unscoped("a booking its hospital is to be asked for")
        .select_related("case", "session")
        .filter(pk=appointment_id, case__state="requested")
        .first()
    )
    if row is None:
        return None
    system = BookingSystem.objects.filter(institution_id=row.session.institution_id, active=True).first()
    if system is None:
        return None
    now = clock.now()
    made, _ = Question.objects.unscoped("the hospital's own question").get_or_create(
        place_id=row.place_id,
        defaults={
            "system": system, "institution_id": row.session.institution_id, "case_number": row.case.number, "person_id": row.person_id,
            "key": f"LX{row.place_id:x}-{seal.blind(str(row.place_id), 'booking-key').hex()[:8]}".upper(), "state": "waiting",
            "made_at": now, "again_at": now,
        },
    )  # fmt: skip
    return made


def catch_up(limit: int = 500) -> int:
    """Rows for bookings that stand at requested and have none (a system that was entered later); returns how many."""
    missing = (
        Appointment.objects.unscoped("bookings nobody has asked for yet")
        .filter(case__state="requested", live=True, session__owner="hospital")
        .filter(session__institution__in=BookingSystem.objects.filter(active=True).values("institution"))
        .exclude(place__in=Question.objects.unscoped("those that were asked for").values("place"))
    )
    return sum(note(pk) is not None for pk in missing.values_list("pk", flat=True)[:limit])


def given_up(limit: int = 500) -> int:
    """Bookings that were cancelled, moved or decided here and that the hospital must hear of; returns how many changed."""
    changed = 0
    rows = Question.objects.unscoped("bookings that ended here").select_related("place")
    # asked for at least once and no longer taken here: give it back there
    over = rows.filter(place__state="cancelled", state__in=("waiting", "confirmed"))
    for row in over[:limit]:
        state = "undoing" if row.state == "confirmed" or row.tries else "closed"
        changed += (
            Question.objects.unscoped("a booking that ended here")
            .filter(pk=row.pk, state=row.state)
            .update(state=state, again_at=clock.now(), answered_at=clock.now() if state == "closed" else None)
        )
    # the desk said yes by itself before the system was ever reached
    decided = rows.filter(state="waiting", tries=0, place__state__in=("booked", "arrived", "fulfilled")).exclude(
        case_number__in=Case.objects.unscoped("which still wait").filter(kind="appointment", state="requested").values("number")
    )  # fmt: skip
    changed += decided.update(state="closed", answered_at=clock.now())
    return changed


# ------------------------------------------------------------------------------------------------------------ one attempt


def due(limit: int = BATCH) -> list[int]:
    """Rows that may be asked about now: of systems in use that are not resting, oldest first."""
    now = clock.now()
    rows = Question.objects.unscoped("what is due").filter(
        Q(state__in=("waiting", "undoing"), again_at__lte=now) | Q(state="asking", until__lte=now),
        system__active=True, system__paused=False,
    )  # fmt: skip
    rows = rows.filter(Q(system__not_before__isnull=True) | Q(system__not_before__lte=now))
    return list(rows.order_by("again_at", "pk").values_list("pk", flat=True)[:limit])


def ask(pk: int) -> str:
    """One attempt at one row, in any process; returns the state it left ("" when somebody else has it)."""
    taken = _take(pk)
    if taken is None:
        return ""
    row, undo, before = taken
    adapter = adapters.of(row.system)
    visit = visit_of(row)
    try:
        answer = _called(adapter, row, visit, undo, before)
    except Unclear as unclear:
        return _unclear(row, undo, unclear)
    return _answered(row, undo, answer)


def _take(pk: int) -> tuple[Question, bool, bool] | None:
    """Take a row for one attempt, and commit that; also whether it is to be undone, and whether an earlier call may have arrived."""
    now = clock.now()
    with transaction.atomic():
        row = (
            Question.objects.unscoped("one attempt")
            .select_for_update(skip_locked=True, of=("self",))
            .select_related("system", "place__session__department", "place__session__practitioner", "person")
            .filter(pk=pk)
            .first()
        )
        if row is None or row.state not in OPEN or (row.state == "asking" and row.until and row.until > now):
            return None
        if not row.system.active or row.system.paused:
            return None
        before = row.tries > 0
        undo = row.state == "undoing" or (row.place.state == "cancelled" and before)
        if row.place.state == "cancelled" and not before:
            row.state, row.answered_at = "closed", now
            row.save(update_fields=["state", "answered_at"])
            return None
        row.state, row.tries = "asking", row.tries + 1
        row.until = now + dt.timedelta(seconds=3 * row.system.seconds) + GRACE
        row.save(update_fields=["state", "tries", "until"])
    return row, undo, before


def _called(adapter: adapters.Adapter, row: Question, visit: Visit, undo: bool, before: bool) -> Answer:
    if undo:
        return adapter.cancel(visit, row.theirs)
    if before and row.system.asks_by_key:
        known = adapter.ask(row.key)
        if known is not None:
            return known
    return adapter.book(visit)


def visit_of(row: Question) -> Visit:
    """What the hospital is told."""
    place, person = row.place, row.person
    session = place.session
    return Visit(
        key=row.key, session=session.external_id, department=session.department.code,
        practitioner=session.practitioner.code if session.practitioner is not None else "", seat=place.seat_no,
        at=place.at.astimezone(clock.ZONE), minutes=publish.minutes_of(session, place.units), number=person.number, name=person.name,
        sex=person.sex, birth=person.birth_date.isoformat() if person.birth_date else "",
    )  # fmt: skip


def _unclear(row: Question, undo: bool, unclear: Unclear) -> str:
    """Nothing is known: asked again later; the case stays its desk's duty."""
    state = "undoing" if undo else "waiting"
    with transaction.atomic():
        fresh = _locked(row)
        if fresh is None:
            return ""
        fresh.state, fresh.until = state, None
        fresh.again_at = clock.now() + back_off(fresh.tries)
        fresh.error = kept(unclear.text)[:400]
        if not unclear.sent and fresh.tries == 1:
            fresh.tries = 0  # it surely did not arrive: no need to ask by the key, and nothing to give back
        fresh.save(update_fields=["state", "until", "again_at", "error", "tries"])
        failures = row.system.failures + 1
        BookingSystem.objects.filter(pk=row.system_id).update(
            failures=failures, last_error=kept(unclear.text)[:2000],
            not_before=clock.now() + back_off(failures - 2) if failures > 2 else None,
        )  # fmt: skip
    return state


def _locked(row: Question) -> Question | None:
    """The row, locked, if it is still this attempt's (another one took it over when this one was given up for lost)."""
    fresh = (
        Question.objects.unscoped("the end of an attempt")
        .select_for_update(of=("self",))
        .select_related("place")
        .get(pk=row.pk)
    )
    return fresh if fresh.state == "asking" and fresh.tries == row.tries else None


def _answered(row: Question, undo: bool, answer: Answer) -> str:
    """Their word and our case, committed together."""
    with transaction.atomic():
        with connection.cursor() as cursor:  # lock order: session, case, then our row
            cursor.execute(
                "SELECT 1 FROM pool_session WHERE id = %s FOR NO KEY UPDATE", [row.place.session_id]
            )
        case = (
            Case.objects.unscoped("the booking that was asked for")
            .select_for_update(of=("self",), no_key=True)
            .get(number=row.case_number)
        )
        fresh = _locked(row)
        if fresh is None:
            return ""
        fresh.until, fresh.error, fresh.answered_at = None, "", clock.now()
        fresh.theirs = answer.theirs or fresh.theirs
        if undo:
            fresh.state = "undone" if answer.yes else "closed"
            fresh.error = "" if answer.yes else answer.why[:400]
        else:
            _decide(case, fresh, answer)
        fresh.save(update_fields=["state", "until", "error", "answered_at", "theirs", "again_at"])
        BookingSystem.objects.filter(pk=row.system_id).update(
            failures=0, not_before=None, last_error="", heard_at=clock.now()
        )
        audit.write(
            _by(row), "update", person_id=row.person_id, what=f"booking {row.case_number} at {row.system.name}",
            detail={"answer": fresh.state, "tries": fresh.tries},
        )  # fmt: skip
    return fresh.state


def _decide(case: Case, row: Question, answer: Answer) -> None:
    """Yes or no for a case that still stands where it was asked for; one decided meanwhile is brought in line there."""
    still = (
        case.state == "requested"
        and Appointment.objects.unscoped("the booking's number")
        .filter(pk=case.pk, place_id=row.place_id)
        .exists()
    )
    move, data = ("confirmed", {"external": answer.theirs[:80]}) if answer.yes else ("refused", {"reason": f"{WHY.zh}：{answer.why}"[:200] if answer.why else WHY.zh})  # fmt: skip
    if still:
        kernel.execute(move, case, _by(row), data, None, f"hospital:{row.key}:{move}")
        row.state = "confirmed" if answer.yes else "refused"
    elif row.place.state == "cancelled":
        row.state = "undoing" if answer.yes else "closed"
        row.again_at = clock.now()
    else:  # the desk said yes meanwhile: when their system says no, the desk reads it with the row
        row.state = "confirmed" if answer.yes else "closed"
        row.error = "" if answer.yes else answer.why[:400]


def _by(row: Question) -> Scope:
    return Scope.system(f"booking system {row.system.name}")


def back_off(tries: int) -> dt.timedelta:
    """How long to wait after so many tries: 2 s, 4 s, 8 s … 15 minutes, part of it by chance."""
    whole = min(LONGEST, FIRST * 2.0 ** max(0, min(tries - 1, 20)))
    return dt.timedelta(seconds=whole * random.uniform(0.5, 1.0))


def again(pk: int) -> None:
    """Ask now (a person pressed the button)."""
    now = clock.now()
    rows = Question.objects.unscoped("asked anew by hand").filter(pk=pk, state__in=("waiting", "undoing"))
    rows.update(again_at=now)
    BookingSystem.objects.filter(questions__pk=pk).update(not_before=None)


# ----------------------------------------------------------------------------------------------------------------- worker


def step() -> int:
    """What there is to note, then one attempt at everything that is due, several at once; returns how many were due."""
    catch_up()
    given_up()
    ready = due()
    if len(ready) <= 1:
        for pk in ready:
            ask(pk)
        return len(ready)
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(_lane, ready[n::AT_ONCE]), daemon=True)
        for n in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(ready)


def _lane(ids: list[int]) -> None:
    try:
        for pk in ids:
            ask(pk)
    except (Error, psycopg.Error):
        log.exception("asking a hospital's system met a database error; it is tried again")
    finally:
        connection.close()


def run(stop: threading.Event) -> None:
    """Work until ``stop`` is set; failures of the database are waited out."""
    pause, failed = POLL, 0
    try:
        while not stop.wait(pause):
            try:
                close_old_connections()
                pause, failed = (0.05 if step() else POLL), 0
            except (Error, psycopg.Error):
                failed += 1
                pause = min(30.0, 2.0**failed)
                log.exception("asking hospitals' systems met a database error; trying again")
                connection.close()
    finally:
        connection.close()
