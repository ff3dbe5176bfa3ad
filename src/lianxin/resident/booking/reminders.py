"""Reminders: rows made when a visit is booked, sent by the ticker exactly once, and void once the visit is moved or cancelled."""

from __future__ import annotations

import datetime as dt

from lianxin.resident.booking import policy
from lianxin.resident.booking.models import Appointment, Reminder
from lianxin.standards import clock


def times(appointment: Appointment, now: dt.datetime) -> list[tuple[str, dt.datetime]]:
    """(kind, when) of the reminders still ahead at ``now``: the evening before, and some hours before."""
    setting = policy.values(appointment.institution_id, now.date())
    at = appointment.at.astimezone(clock.ZONE)
    evening = dt.datetime.combine(
        at.date() - dt.timedelta(days=1), policy.time_of(setting["remind.evening"]), clock.ZONE
    )
    found = [("evening", evening), ("hours", at - dt.timedelta(hours=setting["remind.hours"]))]
    return [(kind, when) for kind, when in found if when > now]


def plan(appointment: Appointment, now: dt.datetime) -> None:
    """Write what will be owed before the visit."""
    rows = [
        Reminder(appointment_id=appointment.pk, kind=kind, visit_at=appointment.at, due_at=when)
        for kind, when in times(appointment, now)
    ]
    if rows:
        Reminder.objects.bulk_create(rows)


def void(appointment: Appointment) -> None:
    """Nothing more is to be said about this visit as it was."""
    Reminder.objects.filter(appointment_id=appointment.pk, state="due").update(state="void")
