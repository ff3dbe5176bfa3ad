"""Sessions from weekly templates and what differs from them on a day.

A template makes one session on each of its weekdays (of odd or even ISO weeks where it says so) that is a working day, or on
holidays too. A roster change takes the day off, sends another doctor or changes the numbers. Making sessions again adds what is
missing and changes nothing that is there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from lianxin.pool.models import RosterChange, Session, Template
from lianxin.standards import calendar, clock


def release_before(day: dt.date, days: int = 1, at: dt.time = dt.time(17, 0)) -> dt.datetime:
    """When kept numbers of ``day`` open to everybody: ``at`` (17:00) on the ``days``-th working day before."""
    before = day
    for _ in range(days):
        before -= dt.timedelta(days=1)
        while not calendar.is_workday(before):
            before -= dt.timedelta(days=1)
    return dt.datetime.combine(before, at, clock.ZONE)


def fits(template: Template, day: dt.date) -> bool:
    """Whether the template has a session on ``day`` (roster changes not asked)."""
    parity = "odd" if day.isocalendar().week % 2 else "even"
    return (
        day.weekday() == template.weekday
        and template.since <= day
        and (template.until is None or day < template.until)
        and template.weeks in ("", parity)
        and (template.holidays or calendar.is_workday(day))
    )


def session_of(template: Template, day: dt.date, change: RosterChange | None = None) -> Session | None:
    """The session (unsaved) that the template and its change make on ``day``; None when it is off."""
    if change is not None and change.off:
        return None
    capacity = (change.capacity if change else None) or template.capacity
    practitioner = (change.practitioner_id if change else None) or template.practitioner_id
    kept = [template.reserved_county, template.reserved_township, template.reserved_village]
    county, township, village = (min(k, capacity) for k in kept)
    release = release_before(day, template.release_days, template.release_time)
    opens = dt.datetime.combine(day - dt.timedelta(days=template.opens_days), template.opens_time, clock.ZONE)
    return Session(
        institution_id=template.institution_id, department_id=template.department_id, practitioner_id=practitioner,
        resource_id=template.resource_id, template=template, specialty=template.department.specialty, kind=template.kind,
        clinic_type=template.clinic_type, starts_at=dt.datetime.combine(day, template.start, clock.ZONE),
        ends_at=dt.datetime.combine(day, template.end, clock.ZONE), opens_at=opens, capacity=capacity,
        reserved_county=county, reserved_township=township, reserved_village=village, release_county=release,
        release_township=release, release_village=release, fee_fen=template.fee_fen,
    )  # fmt: skip


def make_sessions(since: dt.date, days: int, institutions: Iterable[int] | None = None) -> int:
    """Make the sessions of ``days`` days from ``since``; existing ones stay. Returns how many are new.

    A session that was made before its template's change is known by its template and day, so it is not made twice.
    """
    templates = Template.objects.select_related("department").order_by("id")
    if institutions is not None:
        templates = templates.filter(institution_id__in=list(institutions))
    listed = list(templates)
    until = since + dt.timedelta(days=days)
    ids = [t.pk for t in listed]
    changes = {
        (c.template_id, c.day): c
        for c in RosterChange.objects.filter(template_id__in=ids, day__gte=since, day__lt=until)
    }
    start, end = (dt.datetime.combine(d, dt.time(), clock.ZONE) for d in (since, until))
    made = {
        (template, at.astimezone(clock.ZONE).date())
        for template, at in Session.objects.filter(
            template_id__in=ids, starts_at__gte=start, starts_at__lt=end
        ).values_list("template_id", "starts_at")
    }
    weekly: dict[int, list[Template]] = {}
    for template in listed:
        weekly.setdefault(template.weekday, []).append(template)
    sessions = []
    for n in range(days):
        day = since + dt.timedelta(days=n)
        for template in weekly.get(day.weekday(), []):
            if (template.pk, day) not in made and fits(template, day):
                session = session_of(template, day, changes.get((template.pk, day)))
                if session is not None:
                    sessions.append(session)
    before = Session.objects.count()
    Session.objects.bulk_create(sessions, ignore_conflicts=True, batch_size=1000)
    return Session.objects.count() - before
