"""What people are told by text message: what became of a visit, a number offered, a reminder, a bar and its appeal.

Messages follow the acts by the outbox (in order per case, at least once) and carry the event as their key, so each goes out once. A
reminder is a row; the chore that sends it locks it, so it goes out once, and not after the visit was moved or cancelled.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

from django.db import transaction

from lianxin.access import seal
from lianxin.duty import outbox
from lianxin.duty.models import Outbox
from lianxin.index.models import Person
from lianxin.pool import search
from lianxin.resident import sms
from lianxin.resident.booking import policy
from lianxin.resident.booking.models import Appeal, Appointment, Bar, Reminder, Waiting
from lianxin.resident.sms.phones import NotAPhone
from lianxin.standards import clock

log = logging.getLogger(__name__)
BATCH = 200
STALE = dt.timedelta(days=2)
"""After so long a message about an act would only confuse (the queue stood still for days); the pages say it all the same."""
_TEMPLATES = {
    "booked": "booked", "requested": "requested", "moved": "rescheduled", "cancelled": "cancelled", "displaced": "stopped",
    "refused": "refused", "no_show": "missed", "excused": "cancelled",
}  # fmt: skip


def when(at: dt.datetime) -> str:
    """A time as a message says it."""
    return f"{at.astimezone(clock.ZONE):%m月%d日 %H:%M}"


def phone_of(person: Person) -> str:
    """The person's mobile number, or "" when none is known."""
    return seal.unseal(person.phone_sealed) if person.phone_sealed else ""


def say(person: Person, template: str, values: dict[str, Any], key: str) -> bool:
    """Store one message for a person; False when they have no usable number (the pages say it all the same)."""
    phone = phone_of(person)
    if not phone:
        return False
    try:
        sms.send(phone, template, {"name": person.name, **values}, key, person_id=person.pk)
    except NotAPhone:  # a landline, or nonsense: nobody can be told by it
        log.info("no message %s to person %s: no mobile number", template, person.pk)
        return False
    return True


def _about(appointment: Appointment) -> dict[str, Any]:
    return {
        "when": when(appointment.at),
        "place": appointment.institution.name,
        "seat": appointment.place.seat_no,
    }


def _appointment(pk: int) -> Appointment | None:
    rows = Appointment.objects.unscoped("the message about the person's own visit")
    return rows.select_related("person", "institution", "place", "session", "case").filter(pk=pk).first()


def others(appointment: Appointment, count: int = 3) -> str:
    """Up to three other times in words, or "" when there are none."""
    found = search.alternatives(appointment.session_id, appointment.channel, appointment.place.units, count)
    return "；".join(f"{when(o.starts_at)} {o.institution}" for o in found)


def _visit(template: str) -> Callable[[Outbox], None]:
    def consumer(event: Outbox) -> None:
        subject = _appointment(event.payload["appointment"])
        if subject is None or (template in ("booked", "requested", "rescheduled") and not subject.live):
            return  # said and done while the message waited: the later event tells what became of it
        if template == "missed" and event.payload.get("bar"):
            return  # the message about the bar says it
        values = _about(subject)
        if template == "stopped":
            values["others"] = others(subject)
        say(subject.person, template, values, f"booking:{event.pk}")

    return consumer


def _offered(event: Outbox) -> None:
    rows = Waiting.objects.unscoped("the message about the person's own waiting")
    row = rows.select_related("person", "institution", "place").filter(pk=event.payload["waiting"]).first()
    if row is None or row.state != "offered" or row.place is None or row.offer_until is None:
        return
    values = {"when": when(row.place.at), "place": row.institution.name, "until": when(row.offer_until)}
    say(row.person, "offer", values, f"booking:{event.pk}")


def _barred(event: Outbox) -> None:
    bar = (
        Bar.objects.unscoped("the message about the person's own bar")
        .select_related("person")
        .get(pk=event.payload["bar"])
    )
    until = f"{bar.until.astimezone(clock.ZONE):%Y年%m月%d日}"
    say(bar.person, "barred", {"until": until, "reason": bar.reason}, f"booking:{event.pk}")


def _decided(event: Outbox) -> None:
    rows = Appeal.objects.unscoped("the message about the person's own appeal").select_related("person")
    row = rows.get(pk=event.payload["appeal"])
    if row.decision != "withdrawn":
        say(row.person, "appeal", {}, f"booking:{event.pk}")


def remind(limit: int = BATCH) -> int:
    """The ticker's chore: send the reminders that are due; returns how many. Late ones are sent while the visit is ahead."""
    now, sent = clock.now(), 0
    with transaction.atomic():
        rows = list(
            Reminder.objects.filter(state="due", due_at__lte=now)
            .select_for_update(of=("self",), skip_locked=True)
            .select_related("appointment__case", "appointment__person", "appointment__institution", "appointment__place")
            .order_by("due_at", "pk")[:limit]
        )  # fmt: skip
        latest = {row.appointment_id: row.pk for row in rows}
        for row in rows:
            subject = row.appointment
            stands = subject.live and subject.case.state == "booked" and subject.at == row.visit_at
            if not stands or row.visit_at <= now or latest[row.appointment_id] != row.pk:
                row.state = "void"
            elif quiet(subject.institution_id, now):
                continue
            else:
                say(subject.person, "reminder", _about(subject), f"reminder:{row.pk}")
                row.state, row.sent_at = "sent", now
                sent += 1
            row.save(update_fields=["state", "sent_at"])
    return sent


def quiet(institution_id: int, now: dt.datetime) -> bool:
    """Whether people sleep now by the settings of the place."""
    setting = policy.values(institution_id, now.date())
    local = now.astimezone(clock.ZONE).time()
    return local >= policy.time_of(setting["quiet.from"]) or local < policy.time_of(setting["quiet.until"])


def _fresh(consumer: Callable[[Outbox], None]) -> Callable[[Outbox], None]:
    def looked_at(event: Outbox) -> None:
        if clock.now() - event.created_at <= STALE:
            consumer(event)

    return looked_at


def register() -> None:
    """Listen to what is told by message."""
    for topic, template in _TEMPLATES.items():
        outbox.register(f"appointment.{topic}", "booking.sms", _fresh(_visit(template)))
    outbox.register("appointment.offered", "booking.sms", _fresh(_visit("stopped")))
    outbox.register("booking.offered", "booking.sms", _fresh(_offered))
    outbox.register("booking.barred", "booking.sms", _fresh(_barred))
    outbox.register("booking.appeal_decided", "booking.sms", _fresh(_decided))
