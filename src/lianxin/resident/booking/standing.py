"""Where somebody stands: missed visits that count, and whether public numbers are closed to them for a while.

A rule of places, not of people's worth: only visits booked by the public channel count, referrals and emergencies are never affected, it
ends by itself, and it is never silent (a message with the reason, and an appeal that a person decides).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db import connection

from lianxin.resident.booking import policy
from lianxin.resident.booking.models import Appeal, Appointment, Bar
from lianxin.standards import clock
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Standing:
    """Missed visits that count now, and until when public numbers are closed (None: they are open). ``appeal``: the open one."""

    barred_until: dt.datetime | None
    misses: int
    appeal: Appeal | None
    why: Text | None = None
    bar: Bar | None = None


def _counted(person_id: int, since: dt.datetime) -> int:
    rows = Appointment.objects.unscoped("missed visits of the person themselves")
    return rows.filter(person_id=person_id, missed_at__gt=since, waived=False, channel="public").count()


def bar_of(person_id: int, at: dt.datetime | None = None) -> Bar | None:
    """The bar in force for a person, if any."""
    now = at or clock.now()
    rows = Bar.objects.unscoped("the person's own bar").filter(
        person_id=person_id, since__lte=now, until__gt=now, lifted_at=None
    )
    return rows.order_by("-until").first()


def standing(person_id: int) -> Standing:
    """Where a person stands now."""
    now = clock.now()
    bar = bar_of(person_id, now)
    appeal = (
        Appeal.objects.unscoped("the person's own appeal")
        .filter(person_id=person_id, live=True)
        .select_related("case")
        .first()
    )
    days = (
        policy.SETTINGS.shipped["miss.days"] if bar is None else policy.value("miss.days", bar.institution_id)
    )
    return Standing(
        barred_until=bar.until.astimezone(clock.ZONE) if bar else None,
        misses=_counted(person_id, now - dt.timedelta(days=days)),
        appeal=appeal,
        why=bar.why if bar else None,
        bar=bar,
    )


def judge(appointment: Appointment, now: dt.datetime) -> Bar | None:
    """After a confirmed no-show: the bar that the policy asks for, or None. Only misses since the last bar count."""
    if appointment.channel != "public":
        return None
    setting = policy.values(appointment.institution_id, now.date())
    with connection.cursor() as cursor:  # two desks confirming at once must not bar twice
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 13))", [f"bar:{appointment.person_id}"]
        )
    bars = Bar.objects.unscoped("the person's own bars").filter(person_id=appointment.person_id)
    last = bars.order_by("-since").first()
    if last is not None and last.lifted_at is None and last.until > now:
        return None
    since = now - dt.timedelta(days=setting["miss.days"])
    if last is not None:
        since = max(since, last.since)
    misses = _counted(appointment.person_id, since)
    if misses < setting["miss.count"]:
        return None
    why = T(
        "{days} 天内爽约 {n} 次（规定 {limit} 次）。",
        "{n} visits missed within {days} days (the limit is {limit}).",
    ).format(days=str(setting["miss.days"]), n=str(misses), limit=str(setting["miss.count"]))
    return Bar.objects.create(
        person_id=appointment.person_id, institution_id=appointment.institution_id, since=now,
        until=now + dt.timedelta(days=setting["bar.days"]), misses=misses, reason=why.zh, reason_en=why.en,
    )  # fmt: skip
